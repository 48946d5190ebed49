from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import nn

from ganscale.config import CustomNetworkOptions
from ganscale.errors import GanscaleError
from ganscale.networks import build_discriminator, build_generator
from ganscale.networks.dcgan import DCGANDiscriminator, DCGANGenerator
from ganscale.networks.layers import has_batch_norm, standing_statistics
from ganscale.networks.mlp import MLPDiscriminator, MLPGenerator

MNIST = (1, 28, 28)


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def dense(*widths: int) -> int:
    return sum(i * o + o for i, o in pairwise(widths))


def layer_kinds(network: nn.Module) -> list[type]:
    return [type(m) for m in network.modules() if not list(m.children())]


def test_the_textbook_pair() -> None:
    generator = MLPGenerator(100, MNIST, (784, 256))
    discriminator = MLPDiscriminator(MNIST, (256,))
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


@pytest.mark.parametrize("resolution", [30, 48, 7, 4])
def test_dcgan_refuses_other_resolutions(resolution: int) -> None:
    with pytest.raises(ValueError, match="power of two"):
        DCGANGenerator(16, (1, resolution, resolution), 4)


def test_dcgan_starts_as_its_paper_says() -> None:
    network = DCGANGenerator(100, (3, 64, 64), 64)
    for module in network.modules():
        if isinstance(module, nn.ConvTranspose2d):
            assert module.weight.std().item() == pytest.approx(0.02, rel=0.05)
            assert abs(module.weight.mean().item()) < 1e-3
        if isinstance(module, nn.BatchNorm2d):
            assert module.weight.mean().item() == pytest.approx(1, abs=0.02)
            assert not module.bias.any()


def test_spectral_norm_bounds_each_layer() -> None:
    network = DCGANDiscriminator((3, 32, 32), 8, "spectral").train()
    assert not has_batch_norm(network)
    for _ in range(100):
        network(torch.randn(1, 3, 32, 32))
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    for convolution in convolutions:
        largest = torch.linalg.matrix_norm(convolution.weight.flatten(1), 2)
        assert largest.item() == pytest.approx(1, abs=0.05)


def test_standing_statistics_are_the_plain_average() -> None:
    network = nn.Sequential(nn.BatchNorm1d(3))
    network(torch.randn(9, 3) + 50)  # leaves wrong running statistics
    batches = [torch.randn(32, 3) * 2 + 1 for _ in range(5)]
    standing_statistics(network, batches)
    norm = network[0]
    means = torch.stack([b.mean(0) for b in batches]).mean(0)
    variances = torch.stack([b.var(0) for b in batches]).mean(0)
    assert torch.allclose(norm.running_mean, means, atol=1e-5)
    assert torch.allclose(norm.running_var, variances, atol=1e-4)
    assert norm.momentum == 0.1
    assert not network.training


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
    with pytest.raises(GanscaleError, match=r"no nn\.Module named Nobody"):
        build_discriminator(missing, MNIST)
    with pytest.raises(GanscaleError, match="arguments do not fit"):
        build_discriminator(CustomNetworkOptions(architecture=f"{path}:Judge"), MNIST)
    with pytest.raises(GanscaleError, match="no file"):
        build_generator(CustomNetworkOptions(architecture="nowhere.py:X"), 4, MNIST)
