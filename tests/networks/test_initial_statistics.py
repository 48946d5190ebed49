"""Each network begins as its paper says: every weight's spread, every bias, what it puts out."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from ganscale.networks.conditioning import ClassBatchNorm
from ganscale.networks.dcgan import DCGANDiscriminator, DCGANGenerator
from ganscale.networks.mlp import MLPDiscriminator, MLPGenerator
from ganscale.networks.r3gan import R3GANDiscriminator, R3GANGenerator
from ganscale.networks.resnet import ResNetDiscriminator, ResNetGenerator
from tests.networks.by_hand import doubled, halved, resnet_logits, weights_of

RGB = (3, 32, 32)


@pytest.fixture(autouse=True)
def fixed_seed() -> None:
    torch.manual_seed(0)


def assert_normal(weight: Tensor, std: float, mean: float = 0.0) -> None:
    """Within 5 standard errors of a normal distribution's mean, spread and fourth moment."""
    n = weight.numel()
    deviations = (weight.detach().double() - mean) / std
    assert abs(deviations.mean().item()) < 5 / n**0.5
    assert abs(deviations.square().mean().item() - 1) < 5 * (2 / n) ** 0.5
    assert abs(deviations.pow(4).mean().item() - 3) < 5 * (96 / n) ** 0.5


def assert_uniform(weight: Tensor, bound: float) -> None:
    """Up to `bound` either way, and as spread as a uniform distribution is, bound / √3."""
    n = weight.numel()
    deviations = weight.detach().double() / bound
    assert deviations.abs().max().item() <= 1
    assert abs(deviations.mean().item()) < 5 / (3 * n) ** 0.5
    assert abs(deviations.square().mean().item() - 1 / 3) < 5 * (4 / 45 / n) ** 0.5


def kinds(network: nn.Module, kind: type | tuple[type, ...]) -> list[tuple[str, nn.Module]]:
    return [(name, module) for name, module in network.named_modules() if isinstance(module, kind)]


def mean_square(
    make: Callable[[], nn.Module],
    *inputs: Tensor,
    undo: Callable[[Tensor], Tensor] = torch.positive,
    networks: int = 32,
) -> float:
    """Of what networks put out, before a last activation that `undo` undoes."""
    with torch.no_grad():
        squares = [undo(make()(*inputs)).square().mean() for _ in range(networks)]
    return float(torch.stack(squares).mean())


def covered(side: int, taps: int, edges: int) -> float:
    """How much of a kernel of `taps` lies on the map, over an axis of `side` outputs."""
    return 1 - edges / (taps * side)


def test_mlp() -> None:
    """The textbook has no rule of its own: torch's, for weights and biases (LeCun 1998)."""
    generator = MLPGenerator(64, (1, 28, 28), (256, 128))
    for network in (generator, MLPDiscriminator((1, 28, 28), (256, 128))):
        layers = kinds(network, nn.Linear)
        assert len(layers) == 3
        for _, layer in layers:
            bound = layer.in_features**-0.5
            assert_uniform(layer.weight, bound)
            assert_uniform(layer.bias, bound)
    # Each layer: a third of the mean square of what comes in, and a third of 1 / fan-in.
    expected = 1.0
    for width in (64, 256, 128):
        expected = expected / 3 + 1 / (3 * width)
        expected /= 1 if width == 128 else 2  # ReLU
    found = mean_square(
        lambda: MLPGenerator(64, (1, 28, 28), (256, 128)), torch.randn(64, 64), undo=torch.atanh
    )
    assert found == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("classes", [None, 10])
@pytest.mark.parametrize("norm", ["batch", "none", "spectral"])
@pytest.mark.parametrize("resolution", [28, 32, 64])
def test_dcgan(resolution: int, norm: str, classes: int | None) -> None:
    """Weights from N(0, 0.02), BatchNorm's gains from N(1, 0.02), all biases zero (section 4).

    A discriminator without normalisation, which the paper does not have: He et al. 2015, eq. 15.
    """
    shape = (3, resolution, resolution)
    side = resolution // 4  # of the map with attention
    networks: list[nn.Module] = [DCGANDiscriminator(shape, 16, norm, side, classes)]
    if norm != "spectral":
        networks.append(DCGANGenerator(32, shape, 16, norm, side, classes))
    for network in networks:
        convolutions = kinds(network, (nn.Conv2d, nn.ConvTranspose2d))
        assert len(convolutions) >= 4 + 4
        for name, layer in convolutions:
            weight = layer.weight
            if norm == "spectral":
                weight = layer.parametrizations.weight.original
            by_he = norm == "none" and network is networks[0]
            fan_in = layer.in_channels * layer.kernel_size[0] ** 2
            assert_normal(weight, (2 / ((1 + 0.2**2) * fan_in)) ** 0.5 if by_he else 0.02)
            assert layer.bias is None or not layer.bias.any(), name
        for _, layer in kinds(network, nn.BatchNorm2d):
            if layer.affine:
                assert_normal(layer.weight, 0.02, 1.0)
                assert not layer.bias.any()
        by_class = kinds(network, ClassBatchNorm)
        assert bool(by_class) == (network is networks[-1] and norm == "batch" and bool(classes))
        for _, layer in by_class:
            assert_normal(layer.gain.weight, 0.02, 1.0)
            assert not layer.bias.weight.any()
    biases = [p for name, p in networks[0].named_parameters() if name.endswith(".bias")]
    assert len(biases) == 3  # of three convolutions, or of their BatchNorms
    if classes and norm != "spectral":
        table = networks[0].projection.table.weight
        assert_normal(table, table.shape[1] ** -0.5)
        if norm == "none":
            assert_normal(networks[1].embedding.table.weight, 1.0)


def test_dcgan_puts_out() -> None:
    """A normalised map's ReLU has a mean square of 1/2; the last layer takes 2×2 of each."""
    width = 16
    generated = mean_square(
        lambda: DCGANGenerator(32, RGB, width).double(),
        torch.randn(16, 32).double(),
        undo=torch.atanh,
    )
    expected = width * 4 * covered(32, 2, 1) ** 2 / 2 * 0.02**2
    assert generated == pytest.approx(expected, rel=0.1)

    # By He's rule LeakyReLU takes away what a layer adds, but for what lies beyond the edges.
    found = mean_square(lambda: DCGANDiscriminator(RGB, width, "none"), torch.randn(16, *RGB))
    expected = 1.0
    for side in (16, 8, 4, 2):
        expected *= covered(side, 4, 2) ** 2
    expected *= 2 / (1 + 0.2**2)  # no LeakyReLU behind the logit
    assert found == pytest.approx(expected, rel=0.5)


@pytest.mark.parametrize("classes", [None, 10])
@pytest.mark.parametrize("norm", ["batch", "none", "spectral"])
def test_resnet(norm: str, classes: int | None) -> None:
    """Xavier's rule, with a gain of √2 for the 3×3 convolutions inside a block (SNGAN's code)."""
    networks: list[nn.Module] = []
    if norm != "batch":
        networks.append(ResNetDiscriminator(RGB, 32, norm, 8, classes))
    if norm != "spectral":
        networks.append(ResNetGenerator(16, RGB, 64, norm, 8, classes))
    for network in networks:
        layers = kinds(network, (nn.Conv2d, nn.Linear))
        strong = 0
        for name, layer in layers:
            weight = layer.parametrizations.weight.original if norm == "spectral" else layer.weight
            taps = weight[0, 0].numel()
            fans = taps * (weight.shape[0] + weight.shape[1])
            inside = ".conv" in name
            strong += inside
            assert_uniform(weight, (2**0.5 if inside else 1) * (6 / fans) ** 0.5)
            assert layer.bias is None or not layer.bias.any(), name
        assert strong == (8 if isinstance(network, ResNetDiscriminator) else 6)
        assert len(layers) == strong + {8: 2 + 4 + 1, 6: 3 + 4 + 1 + 1}[strong]
        for _, layer in kinds(network, nn.BatchNorm2d):
            if layer.affine:
                assert (layer.weight == 1).all()
                assert not layer.bias.any()
        for _, layer in kinds(network, ClassBatchNorm):
            assert (layer.gain.weight == 1).all()
            assert not layer.bias.weight.any()


def test_resnet_puts_out() -> None:
    """The generator's last layer sees a normalised map; the other's spread is plain code's."""
    width, shape = 8, (3, 16, 16)
    found = mean_square(
        lambda: ResNetGenerator(16, shape, width).double(),
        torch.randn(32, 16).double(),
        undo=torch.atanh,
    )
    expected = width / 2 * 9 * covered(16, 3, 2) ** 2 * 2 / (9 * (width + 3))
    assert found == pytest.approx(expected, rel=0.15)

    images, draws = torch.randn(2, *shape), 100

    def make() -> nn.Module:
        return ResNetDiscriminator(shape, width, "none")

    shapes = {name: value.shape for name, value in weights_of(make()).items()}
    by_hand = 0.0
    for _ in range(draws):
        weights = {}
        for name, size in shapes.items():
            if name.endswith("weight"):
                fans = math.prod(size[2:]) * (size[0] + size[1])
                weights[name] = torch.randn(size) * ((4 if ".conv" in name else 2) / fans) ** 0.5
            else:
                weights[name] = torch.zeros(size)
        by_hand += resnet_logits(images, weights, 1, sums=False).square().mean().item() / draws
    assert mean_square(make, images, networks=draws) == pytest.approx(by_hand, rel=0.6)


@pytest.mark.parametrize("blocks", [1, 2])
@pytest.mark.parametrize("classes", [None, 10])
def test_r3gan(classes: int | None, blocks: int) -> None:
    """Fixup (R3GAN's Networks.py): √(2 / 1.04) / L^¼ / √fan-in in a block, and zero at its end."""
    widths = (64, 64, 32, 32)
    generator = R3GANGenerator(48, RGB, widths, blocks, 16, classes)
    discriminator = R3GANDiscriminator(RGB, widths, blocks, 16, classes)
    gain = math.sqrt(2 / (1 + 0.2**2)) / (4 * blocks) ** 0.25
    for network in (generator, discriminator):
        inside = 0
        for name, layer in kinds(network, (nn.Conv2d, nn.Linear)):
            fan_in = layer.weight[0].numel()
            if name.endswith(".layers.4"):
                assert not layer.weight.any()
                assert layer.bias is None
            elif name.endswith((".layers.0", ".layers.2")):
                inside += 1
                assert_normal(layer.weight, gain * fan_in**-0.5)
                assert not layer.bias.any()
            else:
                assert_normal(layer.weight, fan_in**-0.5)
                assert layer.bias is None
        assert inside == 8 * blocks
    assert_normal(generator.basis, 1.0)
    if classes:
        assert_normal(generator.embedding.table.weight, classes**-0.5)
        assert_normal(discriminator.table.weight, (64 * classes) ** -0.5)


def test_r3gan_puts_out() -> None:
    """All residuals are zero, 1×1 layers keep the variance: only the filters change the spread."""
    options = {"widths": (32, 32, 16, 16), "blocks": 1, "group": 8}
    impulses = torch.eye(16).reshape(16, 1, 4, 4)
    expected = doubled(doubled(doubled(impulses))).square().sum(0).mean().item()
    found = mean_square(lambda: R3GANGenerator(24, RGB, **options), torch.randn(16, 24))
    assert found == pytest.approx(expected, rel=0.15)

    images = torch.randn(16, *RGB) + torch.randn(16, 3, 1, 1)
    expected = halved(halved(halved(images))).square().mean().item()
    found = mean_square(lambda: R3GANDiscriminator(RGB, **options), images)
    assert found == pytest.approx(expected, rel=0.4)


@pytest.mark.parametrize("make", [DCGANDiscriminator, ResNetDiscriminator])
def test_spectral_norm_holds_every_layer_and_the_class_projection(
    make: type[DCGANDiscriminator | ResNetDiscriminator],
) -> None:
    """Each weight is the drawn one by its largest singular value, and its bias is left alone."""
    network = make(RGB, 8, "spectral", 16, classes=10)
    plain = make(RGB, 8, "none", 16, classes=10)
    weights = [name for name in weights_of(plain) if name.endswith("weight")]
    assert "projection.table.weight" in weights
    assert "logit.weight" in weights
    for _ in range(100):  # each look at a weight in training mode brings its vectors nearer
        weights_of(network)
    network.eval()
    for name in weights:
        layer = network.get_submodule(name.removesuffix(".weight"))
        original = layer.parametrizations.weight.original
        largest = torch.linalg.svdvals(original.flatten(1))[0]
        assert torch.allclose(layer.weight, original / largest, rtol=0.02, atol=1e-6), name
