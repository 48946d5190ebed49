"""What several networks share: activations, normalisation, initialisation."""

from torch import nn

from ganscale.config import NetworkOptions
from ganscale.config.section import PositiveInt
from ganscale.networks.conditioning import ClassBatchNorm

LEAKY_SLOPE = 0.2  # DCGAN, section 3
SMALLEST = 4  # smaller side of the smallest feature map, pixels; at most twice that, less one


class PyramidOptions(NetworkOptions):
    """The options of networks that halve or double their feature maps."""

    attention: PositiveInt | None = None
    """Smaller side, in pixels, of the feature map that has self-attention; empty for no
    self-attention."""

    def about_resolution(self, height: int, width: int) -> str | None:
        """Return why the network cannot have images of this size in pixels, or None."""
        return None if doublings_to(height, width) else about_size(height, width)


def activation(name: str) -> nn.Module:
    """Return `relu`, or `leaky_relu` with slope 0.2."""
    return nn.ReLU(inplace=True) if name == "relu" else nn.LeakyReLU(LEAKY_SLOPE, inplace=True)


def initialise_dcgan(network: nn.Module) -> None:
    """Draw convolutions from N(0, 0.02), BatchNorm gains from N(1, 0.02) (DCGAN, section 4)."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, 0.0, 0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d) and module.affine:
            nn.init.normal_(module.weight, 1.0, 0.02)
            nn.init.zeros_(module.bias)


def keep_variance(network: nn.Module) -> None:
    """Draw convolutions from N(0, 2 / ((1 + 0.2²) fan-in)), for LeakyReLU (He et al. 2015, eq. 15).

    DCGAN's N(0, 0.02) relies on BatchNorm: without it each layer keeps only a third of the signal.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, LEAKY_SLOPE)


def initialise_residual(network: nn.Module) -> None:
    """Draw weights by Xavier's rule, with twice the variance inside a block; zero biases.

    This is what SNGAN's code does. BatchNorm's gains start at one, those by class too.
    """
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            gain = 2**0.5 if name.endswith(("conv1", "conv2")) else 1.0
            nn.init.xavier_uniform_(module.weight, gain)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, ClassBatchNorm):
            nn.init.ones_(module.gain.weight)


def doublings_to(height: int, width: int) -> int | None:
    """Return how often a map with a smaller side of 4 to 7 is doubled to give this size in pixels.

    Returns None if no such map is doubled, once or more, to this size.
    """
    doublings = (min(height, width) // SMALLEST).bit_length() - 1
    if doublings < 1 or height % (1 << doublings) or width % (1 << doublings):
        return None
    return doublings


def smallest_map(height: int, width: int) -> tuple[int, int, int]:
    """Return height and width of the map that doubling makes an image of, and the doublings.

    Raises `ValueError` for a size that doubling does not give.
    """
    doublings = doublings_to(height, width)
    if doublings is None:
        raise ValueError(f"an image of {height}×{width} pixels {about_size(height, width)}")
    return height >> doublings, width >> doublings, doublings


def about_size(height: int, width: int) -> str:
    """Say what sizes a network that doubles or halves its maps has, with some near this one."""
    height, width = max(height, 2 * SMALLEST), max(width, 2 * SMALLEST)
    step = 1 << ((min(height, width) // SMALLEST).bit_length() - 1)
    near: set[tuple[int, int]] = set()
    for unit in (step, 2 * step):
        down, up = height // unit * unit, -(-height // unit) * unit
        left, right = width // unit * unit, -(-width // unit) * unit
        near |= {(down, left), (up, right)}
    sizes = " or ".join(f"{h}x{w}" for h, w in sorted(near) if doublings_to(h, w))
    return (
        f"needs a size that is made by doubling a map whose smaller side has {SMALLEST} to "
        f"{2 * SMALLEST - 1} pixels; pack the set at such a size: near this one, "
        f"ganscale pack --size {sizes}"
    )


def normalise_spectrally(network: nn.Module) -> None:
    """Hold each layer's largest singular value at 1 (Miyato et al. 2018); call it last.

    The embedding of a class projection is such a layer too (Miyato & Koyama 2018, section 4).
    """
    kinds = nn.Conv2d | nn.Linear | nn.Embedding
    layers = [module for module in network.modules() if isinstance(module, kinds)]
    for layer in layers:
        nn.utils.parametrizations.spectral_norm(layer)


def has_batch_norm(network: nn.Module) -> bool:
    """Return whether a layer of the network is BatchNorm, synchronised or not.

    The modules themselves are checked, so that this covers a user's own networks too.
    """
    return any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in network.modules())


def has_sync_batch_norm(network: nn.Module) -> bool:
    """Return whether a layer of the network is SyncBatchNorm, which has no second derivative."""
    return any(isinstance(m, nn.SyncBatchNorm) for m in network.modules())


class Discriminator(nn.Module):
    """Maps images (N, C, H, W), and labels (N,) if conditional, to logits (N,)."""

    @property
    def treats_images_one_by_one(self) -> bool:
        """True if an image's logit is the same whatever else is in its batch.

        Only then may real and generated images be judged in one batch.
        """
        return not has_batch_norm(self)


def stages_of(layers: nn.Sequential, first: type[nn.Module]) -> list[list[nn.Module]]:
    """Return the layers of a sequence in groups, each of which begins with a layer of one type."""
    stages: list[list[nn.Module]] = [[]]
    for layer in layers:
        if isinstance(layer, first) and stages[-1]:
            stages.append([])
        stages[-1].append(layer)
    return stages if stages[0] else []
