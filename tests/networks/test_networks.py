import copy
import re
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import nn

from ganscale.config import CustomNetworkOptions
from ganscale.errors import GanscaleError
from ganscale.gan.ema import standing_statistics
from ganscale.networks import build_discriminator, build_generator
from ganscale.networks.attention import SelfAttention
from ganscale.networks.conditioning import ClassEmbedding, ClassProjection
from ganscale.networks.dcgan import DCGANDiscriminator, DCGANGenerator
from ganscale.networks.layers import (
    about_size,
    doublings_to,
    has_batch_norm,
    has_sync_batch_norm,
)
from ganscale.networks.mlp import MLPDiscriminator, MLPGenerator
from ganscale.networks.r3gan import R3GANDiscriminator, R3GANGenerator
from ganscale.networks.resnet import ResNetDiscriminator, ResNetGenerator

MNIST = (1, 28, 28)


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def dense(*widths: int) -> int:
    return sum(i * o + o for i, o in pairwise(widths))


def layer_kinds(network: nn.Module) -> list[type]:
    unused = ClassEmbedding | ClassProjection  # in a game without classes
    leaves = [m for m in network.modules() if not list(m.children())]
    return [type(m) for m in leaves if not isinstance(m, unused)]


def test_the_textbook_pair() -> None:
    generator = MLPGenerator(100, MNIST)
    discriminator = MLPDiscriminator(MNIST)
    assert parameters(generator) == dense(100, 784, 256, 784)
    assert parameters(discriminator) == dense(784, 256, 1)
    linear, relu = nn.Linear, nn.ReLU
    assert layer_kinds(generator) == [linear, relu, linear, relu, linear, nn.Tanh]
    assert layer_kinds(discriminator) == [nn.Flatten, linear, relu, linear]


def test_its_second_variant() -> None:
    generator = MLPGenerator(64, MNIST, (256, 256), "leaky_relu")
    discriminator = MLPDiscriminator(MNIST, (256, 256), "leaky_relu")
    assert parameters(generator) == dense(64, 256, 256, 784)
    assert parameters(discriminator) == dense(784, 256, 256, 1)
    slopes = [m.negative_slope for m in discriminator.modules() if isinstance(m, nn.LeakyReLU)]
    assert slopes == [0.2, 0.2]


def test_dcgan_64_has_the_parameters_of_the_published_tutorial() -> None:
    assert parameters(DCGANGenerator(100, (3, 64, 64), 64)) == 3_576_704
    assert parameters(DCGANDiscriminator((3, 64, 64), 64)) == 2_765_568


@pytest.mark.parametrize("resolution", [28, 32, 64, 128, 256])
@pytest.mark.parametrize("channels", [1, 3])
def test_dcgan_shapes_and_ranges(resolution: int, channels: int) -> None:
    shape = (channels, resolution, resolution)
    generator, discriminator = DCGANGenerator(16, shape, 4), DCGANDiscriminator(shape, 4)
    images = generator(torch.randn(2, 16))
    assert images.shape == (2, *shape)
    assert images.abs().max() <= 1
    assert discriminator(images).shape == (2,)


@pytest.mark.parametrize(
    ("resolution", "rising", "falling"),
    [
        (28, [4, 7, 14, 28], [14, 7, 4, 2, 1]),
        (32, [4, 8, 16, 32], [16, 8, 4, 2, 1]),
        (64, [4, 8, 16, 32, 64], [32, 16, 8, 4, 1]),
    ],
)
def test_a_feature_of_the_dcgan_sees_the_whole_image(
    resolution: int, rising: list[int], falling: list[int]
) -> None:
    seen: list[int] = []
    shape = (1, resolution, resolution)
    generator, discriminator = DCGANGenerator(16, shape, 4), DCGANDiscriminator(shape, 4, "none")
    for network in (generator, discriminator):
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                module.register_forward_hook(lambda _m, _i, output: seen.append(output.shape[-1]))
    images = generator(torch.randn(1, 16)).detach().requires_grad_()
    discriminator(images)
    assert seen == [*rising, *falling]
    middle = discriminator.layers(images)[0, :, 1, 1].sum()
    (sensitivity,) = torch.autograd.grad(middle, images)
    assert sensitivity[0, 0].any(0).sum() >= 0.7 * resolution


@pytest.mark.parametrize("size", [(30, 30), (7, 7), (4, 4), (32, 36), (36, 32), (6, 64)])
@pytest.mark.parametrize("make", [DCGANGenerator, ResNetGenerator])
def test_other_sizes_are_refused(make: Callable[..., nn.Module], size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="doubling"):
        make(16, (1, *size), 4)
    with pytest.raises(ValueError, match="5 widths do not make"):
        R3GANGenerator(16, (1, *size), (8,) * 5)


def test_doubling_gives_the_sizes_that_it_gives() -> None:
    """By hand: all maps with a smaller side of 4 to 7, doubled once or more."""
    made = {
        (h << k, w << k): k
        for h in range(4, 33)
        for w in range(4, 33)
        for k in range(1, 4)
        if min(h, w) < 8
    }
    for height in range(1, 33):
        for width in range(1, 33):
            assert doublings_to(height, width) == made.get((height, width))
            offered = re.findall("([0-9]+)x([0-9]+)", about_size(height, width))
            assert offered
            assert all(doublings_to(int(h), int(w)) for h, w in offered)


@pytest.mark.parametrize("channels", [1, 2, 5])
@pytest.mark.parametrize(
    ("size", "widths", "start"),
    [((16, 24), (16, 8, 8), (4, 6)), ((56, 40), (16, 8, 8, 8), (7, 5)), ((8, 20), (8, 8), (4, 10))],
)
def test_every_convolutional_pair_has_images_that_are_not_square(
    size: tuple[int, int], widths: tuple[int, ...], start: tuple[int, int], channels: int
) -> None:
    shape = (channels, *size)
    r3gan = {"widths": widths, "blocks": 1, "group": 4}
    pairs = {
        "dcgan": (DCGANGenerator(6, shape, 4), DCGANDiscriminator(shape, 4, classes=3)),
        "resnet": (ResNetGenerator(6, shape, 8), ResNetDiscriminator(shape, 8)),
        "r3gan": (R3GANGenerator(6, shape, **r3gan), R3GANDiscriminator(shape, **r3gan)),
        "mlp": (MLPGenerator(6, shape, (8,)), MLPDiscriminator(shape, (8,))),
    }
    for name, (generator, discriminator) in pairs.items():
        images = generator(torch.randn(2, 6))
        assert images.shape == (2, *shape), name
        labels = (torch.tensor([0, 2]),) if name == "dcgan" else ()
        assert discriminator(images, *labels).shape == (2,)
    assert pairs["resnet"][0].start == start
    assert pairs["r3gan"][0].basis.shape[1:] == start
    assert pairs["r3gan"][1].basis.weight.shape[2:] == start
    # Both sides count: turning the image around its diagonal, and the kernels too, changes nothing.
    turned = (channels, *size[::-1])
    torch.manual_seed(3)
    upright = DCGANGenerator(6, shape, 4).eval()
    lying = DCGANGenerator(6, turned, 4).eval()
    for ours, theirs in zip(lying.parameters(), upright.parameters(), strict=True):
        ours.data = theirs.data.transpose(-1, -2) if theirs.dim() == 4 else theirs.data
    latents = torch.randn(2, 6)
    assert torch.allclose(lying(latents), upright(latents).transpose(-1, -2), atol=1e-6)


LARGE = (3, 1024, 1024)


def test_every_convolutional_pair_plays_at_1024_pixels() -> None:
    """Of one or two channels, so that a forward takes part of a second."""
    r3gan = {"widths": (2,) * 9, "blocks": 1, "group": 2}
    pairs = {
        "dcgan": (DCGANGenerator(4, LARGE, 1), DCGANDiscriminator(LARGE, 1, "none")),
        "resnet": (ResNetGenerator(4, LARGE, 8), ResNetDiscriminator(LARGE, 8)),
        "r3gan": (R3GANGenerator(4, LARGE, **r3gan), R3GANDiscriminator(LARGE, **r3gan)),
    }
    for name, (generator, discriminator) in pairs.items():
        with torch.no_grad():
            images = generator(torch.randn(2, 4))
            assert images.shape == (2, *LARGE), name
            assert discriminator(images).shape == (2,), name


def test_the_default_widths_do_not_explode_at_1024_pixels() -> None:
    """Each doubling beyond 64 pixels adds a DCGAN a layer of 8·64 channels, and no wider one."""
    with torch.device("meta"):
        for network in (DCGANGenerator, DCGANDiscriminator):
            sizes = [
                parameters(network(*(100,) * (network is DCGANGenerator), (3, side, side)))
                for side in (64, 1024)
            ]
            assert sizes[1] - sizes[0] == 4 * (512 * 512 * 16 + 2 * 512)
        residual = ResNetGenerator(128, LARGE)
    widths = [m.out_channels for k, m in residual.named_modules() if k.endswith("conv1")]
    assert widths == [256, 256, 256, 128, 64, 32, 16, 8]


def test_dcgan_starts_as_its_paper_says() -> None:
    network = DCGANGenerator(100, (3, 64, 64), 64)
    for module in network.modules():
        if isinstance(module, nn.ConvTranspose2d):
            assert module.weight.std().item() == pytest.approx(0.02, rel=0.05)
            assert abs(module.weight.mean().item()) < 1e-3
        if isinstance(module, nn.BatchNorm2d):
            assert module.weight.mean().item() == pytest.approx(1, abs=0.02)
            assert not module.bias.any()


def test_standing_statistics_are_the_plain_average() -> None:
    network = nn.Sequential(nn.BatchNorm1d(3))
    network(torch.randn(9, 3) + 50)  # leaves wrong running statistics
    batches = [torch.randn(32, 3) * 2 + 1 for _ in range(5)]
    standing_statistics(network, [(batch,) for batch in batches])
    norm = network[0]
    means = torch.stack([b.mean(0) for b in batches]).mean(0)
    variances = torch.stack([b.var(0) for b in batches]).mean(0)
    assert torch.allclose(norm.running_mean, means, atol=1e-5)
    assert torch.allclose(norm.running_var, variances, atol=1e-4)
    assert norm.momentum == 0.1
    assert not network.training


RGB = (3, 32, 32)
PAIRS: dict[str, tuple[Callable[..., nn.Module], Callable[..., nn.Module]]] = {
    "mlp": (
        partial(MLPGenerator, hidden=(16,)),
        partial(MLPDiscriminator, hidden=(16,)),
    ),
    "dcgan": (partial(DCGANGenerator, width=4), partial(DCGANDiscriminator, width=4)),
    "dcgan attention": (
        partial(DCGANGenerator, width=8, attention=16),
        partial(DCGANDiscriminator, width=8, attention=16),
    ),
    "resnet": (partial(ResNetGenerator, width=8), partial(ResNetDiscriminator, width=8)),
    "resnet attention": (
        partial(ResNetGenerator, width=8, norm="none", attention=8),
        partial(ResNetDiscriminator, width=8, norm="none", attention=16),
    ),
    "r3gan": (
        partial(R3GANGenerator, widths=(16, 16, 8, 8), blocks=1, group=4),
        partial(R3GANDiscriminator, widths=(16, 16, 8, 8), blocks=1, group=4),
    ),
}


@pytest.mark.parametrize("classes", [None, 5])
@pytest.mark.parametrize("name", PAIRS)
def test_every_pair_plays_with_and_without_classes(name: str, classes: int | None) -> None:
    make_generator, make_discriminator = PAIRS[name]
    torch.manual_seed(0)
    generator = make_generator(6, RGB, classes=classes).eval()
    discriminator = make_discriminator(RGB, classes=classes).eval()
    for network in (generator, discriminator):  # some begin alike for all classes, as published
        for parameter in network.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
    latents, labels = torch.randn(3, 6), torch.tensor([0, 1, 4])
    told = (labels,) if classes else ()
    images = generator(latents, *told)
    assert images.shape == (3, *RGB)
    logits = discriminator(images, *told)
    assert logits.shape == (3,)
    # Every parameter learns.
    torch.nn.functional.softplus(-logits).mean().backward()
    for network in (generator, discriminator):
        for key, parameter in network.named_parameters():
            assert parameter.grad is not None, key
    if classes:
        other = (labels.flip(0),)
        assert not torch.allclose(generator(latents, *other), images, atol=0)
        assert not torch.allclose(discriminator(images, *other), logits, atol=0)


@pytest.mark.parametrize("name", [n for n in PAIRS if n != "dcgan"])
def test_every_discriminator_without_batch_norm_takes_a_gradient_penalty(name: str) -> None:
    torch.manual_seed(0)
    discriminator = PAIRS[name][1](RGB)
    images = torch.randn(2, *RGB, requires_grad=True)
    (gradient,) = torch.autograd.grad(discriminator(images).sum(), images, create_graph=True)
    gradient.square().sum().backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in discriminator.parameters())


def test_the_projection_is_the_papers_inner_product() -> None:
    projection = ClassProjection(4, 3)
    features, labels = torch.randn(5, 4), torch.tensor([0, 2, 1, 1, 0])
    by_hand = [f @ projection.table.weight[y] for f, y in zip(features, labels, strict=True)]
    assert torch.allclose(projection(features, labels), torch.stack(by_hand), atol=1e-6)


def test_batch_norm_by_class_keeps_the_latents_say() -> None:
    """Within a class images differ as much as without classes: the latent is not drowned."""
    torch.manual_seed(0)
    latents, labels = torch.randn(64, 16), torch.zeros(64, dtype=torch.long)
    for make in (partial(DCGANGenerator, width=8), partial(ResNetGenerator, width=8)):
        told, untold = make(16, RGB, classes=10), make(16, RGB)
        spread = told(latents, labels).std(0).mean() / untold(latents).std(0).mean()
        assert 0.7 < spread.item() < 1.4


def test_attention_begins_as_the_identity_and_mixes_positions() -> None:
    attention = SelfAttention(8)
    features = torch.randn(2, 8, 4, 4)
    assert torch.equal(attention(features), features)
    attention.gain.data.fill_(1)
    changed = features.clone()
    changed[:, :, 0, 0] += 1
    difference = (attention(changed) - attention(features)).abs().sum(1)
    assert (difference > 0).all()  # one position reaches all others


def test_the_sngan_pair_has_the_sizes_of_the_paper() -> None:
    def conv(inputs: int, outputs: int, side: int) -> int:
        return inputs * outputs * side**2 + outputs

    def block(inputs: int, outputs: int, shortcut: bool) -> int:
        straight = conv(inputs, outputs, 3) + conv(outputs, outputs, 3)
        return straight + (conv(inputs, outputs, 1) if shortcut else 0)

    down = block(3, 128, True) + block(128, 128, True) + 2 * block(128, 128, False)
    assert parameters(ResNetDiscriminator(RGB, 128)) == down + dense(128, 1)
    norms = 2 * 256
    up = 3 * (block(256, 256, True) + 2 * norms)
    first, last = dense(128, 4 * 4 * 256), norms + conv(256, 3, 3)
    assert parameters(ResNetGenerator(128, RGB, 256)) == first + up + last


def test_r3gan_keeps_the_variance_whatever_its_depth() -> None:
    torch.manual_seed(0)
    for blocks in (1, 6):
        generator = R3GANGenerator(32, RGB, (32, 32, 32, 32), blocks, 8)
        images = generator(torch.randn(64, 32))
        assert 0.2 < images.std().item() < 3


CUSTOM = """
from torch import nn
class Judge(nn.Module):
    def __init__(self, image_shape, width):
        super().__init__()
        self.layer = nn.Linear(image_shape[0] * image_shape[1] * image_shape[2], width)
    def forward(self, images):
        return self.layer(images.flatten(1)).sum(1)
"""


def test_a_network_of_the_users_own(tmp_path: Path) -> None:
    path = tmp_path / "judge.py"
    path.write_text(CUSTOM)
    options = CustomNetworkOptions(architecture=f"{path}:Judge", options={"width": 3})
    assert build_discriminator(options, MNIST)(torch.zeros(5, *MNIST)).shape == (5,)
    missing = CustomNetworkOptions(architecture=f"{path}:Nobody")
    with pytest.raises(GanscaleError, match="defines no Nobody"):
        build_discriminator(missing, MNIST)
    function = CustomNetworkOptions(architecture="math:sqrt")
    with pytest.raises(GanscaleError, match=r"discriminator math:sqrt: sqrt is not an nn\.Module"):
        build_discriminator(function, MNIST)
    with pytest.raises(GanscaleError, match="arguments do not fit"):
        build_discriminator(CustomNetworkOptions(architecture=f"{path}:Judge"), MNIST)
    with pytest.raises(GanscaleError, match="no file"):
        build_generator(CustomNetworkOptions(architecture="nowhere.py:X"), 4, MNIST)


def batch_mates_matter(discriminator: nn.Module) -> bool:
    """Whether the first image's logit changes with the second image, in training mode."""
    image, mate, other = torch.randn(3, *RGB)
    with torch.no_grad():
        # Copies: a forward moves spectral norm's vectors.
        logits = [
            copy.deepcopy(discriminator)(torch.stack([image, beside]))[0]
            for beside in (mate, other)
        ]
    return not torch.allclose(*logits, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "make",
    [
        PAIRS["mlp"][1],
        PAIRS["r3gan"][1],
        *[partial(PAIRS["dcgan attention"][1], norm=norm) for norm in ("none", "spectral")],
        *[partial(PAIRS["resnet attention"][1], norm=norm) for norm in ("none", "spectral")],
    ],
)
def test_a_discriminator_without_batch_norm_treats_images_one_by_one(
    make: Callable[..., nn.Module],
) -> None:
    discriminator = make(RGB).train()
    assert discriminator.treats_images_one_by_one
    assert not batch_mates_matter(discriminator)


def test_a_discriminator_with_batch_norm_does_not_treat_images_one_by_one() -> None:
    discriminator = PAIRS["dcgan"][1](RGB).train()
    assert not discriminator.treats_images_one_by_one
    assert batch_mates_matter(discriminator)


def test_batch_norm_is_found_anywhere_in_a_network_of_the_users_own() -> None:
    def inside(layer: nn.Module) -> nn.Module:
        return nn.Sequential(nn.Linear(4, 4), nn.ModuleDict({"deep": nn.Sequential(layer)}))

    for layer in (nn.BatchNorm1d(4), nn.BatchNorm2d(4), nn.BatchNorm3d(4), nn.LazyBatchNorm2d()):
        assert has_batch_norm(inside(layer))
        assert not has_sync_batch_norm(inside(layer))
    for layer in (nn.GroupNorm(2, 4), nn.InstanceNorm2d(4), nn.LayerNorm(4), nn.Dropout()):
        assert not has_batch_norm(inside(layer))
    synchronised = nn.SyncBatchNorm.convert_sync_batchnorm(inside(nn.BatchNorm2d(4)))
    assert has_batch_norm(synchronised)
    assert has_sync_batch_norm(synchronised)
    converted = nn.SyncBatchNorm.convert_sync_batchnorm(DCGANDiscriminator(RGB, 4))
    assert has_sync_batch_norm(converted)
    assert not converted.treats_images_one_by_one
