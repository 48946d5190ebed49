"""Each network computes what its paper says: the same as plain code, on fixed weights in float64.

The plain code knows no module of ganscale. It is written down from the papers and their authors'
code: DCGAN (Radford et al. 2015), SNGAN's table 4 and pfnet-research/sngan_projection, WGAN-GP's
gan_cifar_resnet.py, SAGAN's non_local.py, R3GAN's Networks.py.
"""

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganscale.networks.attention import SelfAttention
from ganscale.networks.conditioning import ClassBatchNorm, ClassEmbedding
from ganscale.networks.dcgan import DCGANDiscriminator, DCGANGenerator
from ganscale.networks.mlp import MLPDiscriminator, MLPGenerator
from ganscale.networks.r3gan import R3GANDiscriminator, R3GANGenerator
from ganscale.networks.resnet import ResNetDiscriminator, ResNetGenerator
from tests.networks.by_hand import (
    Weights,
    conv,
    doubled,
    halved,
    projected,
    resnet_logits,
    weights_of,
)

LATENT = 6
LABELS = torch.tensor([2, 0, 1, 2])
N = len(LABELS)


@pytest.fixture(autouse=True)
def in_double_precision() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(torch.float32)


def shaken(network: nn.Module) -> nn.Module:
    """Every parameter drawn anew, so that none is zero or one and each counts."""
    for parameter in network.parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, 0.0, 1.2 * parameter[0].numel() ** -0.5)
        else:
            nn.init.normal_(parameter, 0.5, 0.5)
    network.train()
    for _ in range(20):  # spectral norm's vectors follow, by one step at each look
        weights_of(network)
    return network


def equal(ours: Tensor, by_hand: Tensor) -> bool:
    """The same, and different from sample to sample: neither saturated nor zero."""
    assert by_hand.std(0).mean() > 1e-4 * by_hand.abs().mean()
    return ours.shape == by_hand.shape and torch.allclose(ours, by_hand, rtol=1e-9, atol=1e-11)


def leaky(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, 0.2 * x)


def normalised(x: Tensor) -> Tensor:
    mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3), unbiased=False)
    return (x - mean[:, None, None]) / (variance + 1e-5).sqrt()[:, None, None]


def batch_norm(x: Tensor, w: Weights, name: str, labels: Tensor | None) -> Tensor:
    """BatchNorm in training mode, by class where there are labels."""
    if labels is None:
        return normalised(x) * w[f"{name}.weight"][:, None, None] + w[f"{name}.bias"][:, None, None]
    rows = zip(normalised(x), labels.tolist(), strict=True)
    gain, bias = w[f"{name}.gain.weight"], w[f"{name}.bias.weight"]
    return torch.stack([row * gain[y][:, None, None] + bias[y][:, None, None] for row, y in rows])


def embedded(latents: Tensor, table: Tensor, labels: Tensor) -> Tensor:
    rows = zip(latents, labels.tolist(), strict=True)
    return torch.stack([torch.cat([row, table[y]]) for row, y in rows])


def told(classes: int | None) -> tuple[Tensor, ...]:
    return () if classes is None else (LABELS,)


# Multilayer perceptrons


@pytest.mark.parametrize("classes", [None, 3])
@pytest.mark.parametrize("activation", ["relu", "leaky_relu"])
def test_mlp(activation: str, classes: int | None) -> None:
    shape = (1, 4, 4)
    generator = shaken(MLPGenerator(LATENT, shape, (8, 5), activation, classes))
    discriminator = shaken(MLPDiscriminator(shape, (7, 3), activation, classes))
    bend = torch.relu if activation == "relu" else leaky

    def dense(x: Tensor, w: Weights, name: str) -> Tensor:
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    latents, labels = torch.randn(N, LATENT), told(classes)
    w = weights_of(generator)
    x = embedded(latents, w["embedding.table.weight"], LABELS) if classes else latents
    x = bend(dense(x, w, "layers.0"))
    x = bend(dense(x, w, "layers.2"))
    images = torch.tanh(dense(x, w, "layers.4")).reshape(N, *shape)
    assert equal(generator(latents, *labels), images)

    w = weights_of(discriminator)
    x = bend(dense(images.reshape(N, -1), w, "layers.1"))
    x = bend(dense(x, w, "layers.3"))
    logits = dense(x, w, "logit")[:, 0]
    if classes:
        logits = logits + projected(x, w["projection.table.weight"], LABELS)
    assert equal(discriminator(images, *labels), logits)


# DCGAN: kernel, stride and padding of each convolution

RISING = {
    28: [(4, 1, 0), (3, 2, 1), (4, 2, 1), (4, 2, 1)],
    32: [(4, 1, 0), (4, 2, 1), (4, 2, 1), (4, 2, 1)],
    64: [(4, 1, 0), (4, 2, 1), (4, 2, 1), (4, 2, 1), (4, 2, 1)],
}
FALLING = {
    28: [(4, 2, 1), (4, 2, 1), (3, 2, 1), (4, 2, 1), (2, 1, 0)],
    32: [(4, 2, 1), (4, 2, 1), (4, 2, 1), (4, 2, 1), (2, 1, 0)],
    64: [(4, 2, 1), (4, 2, 1), (4, 2, 1), (4, 2, 1), (4, 1, 0)],
}


@pytest.mark.parametrize("classes", [None, 3])
@pytest.mark.parametrize("norm", ["batch", "none"])
@pytest.mark.parametrize("resolution", [28, 32, 64])
def test_dcgan_generator(resolution: int, norm: str, classes: int | None) -> None:
    network = shaken(DCGANGenerator(LATENT, (3, resolution, resolution), 2, norm, None, classes))
    w, latents = weights_of(network), torch.randn(N, LATENT)
    labels = LABELS if classes else None
    x = latents
    if classes and norm == "none":
        x = embedded(latents, w["embedding.table.weight"], LABELS)
    x = x[:, :, None, None]
    *blocks, (kernel, stride, padding) = RISING[resolution]
    channels = [16, 8, 4, 2][-len(blocks) :]  # 8, 4, 2 and 1 times the width
    for i, (side, step, edge) in enumerate(blocks):
        name = f"layers.layers.{i}.layers"
        weight = w[f"{name}.0.weight"]
        assert weight.shape == (x.shape[1], channels[i], side, side)
        x = F.conv_transpose2d(x, weight, w.get(f"{name}.0.bias"), step, edge)
        assert (f"{name}.0.bias" in w) == (norm == "none")
        if norm == "batch":
            x = batch_norm(x, w, f"{name}.1", labels)
        x = torch.relu(x)
    weight = w[f"layers.layers.{len(blocks)}.weight"]
    assert weight.shape == (2, 3, kernel, kernel)
    images = torch.tanh(F.conv_transpose2d(x, weight, None, stride, padding))
    assert images.shape == (N, 3, resolution, resolution)
    assert equal(network(latents, *told(classes)), images)


@pytest.mark.parametrize("classes", [None, 3])
@pytest.mark.parametrize("norm", ["batch", "none", "spectral"])
@pytest.mark.parametrize("resolution", [28, 32, 64])
def test_dcgan_discriminator(resolution: int, norm: str, classes: int | None) -> None:
    shape = (3, resolution, resolution)
    network = shaken(DCGANDiscriminator(shape, 2, norm, None, classes))
    if norm == "spectral":
        network.eval()  # a look at a weight in training mode moves it
    w, images = weights_of(network), torch.randn(N, *shape)
    *layers, (kernel, _, _) = FALLING[resolution]
    x = images
    for i, (side, stride, padding) in enumerate(layers):
        name = "layers.0" if i == 0 else f"layers.{i + 1}.0"
        weight = w[f"{name}.weight"]
        assert weight.shape == ([2, 4, 8, 16][i], x.shape[1], side, side)
        assert (f"{name}.bias" in w) == (i > 0 and norm != "batch")
        x = F.conv2d(x, weight, w.get(f"{name}.bias"), stride, padding)
        if norm == "batch" and i > 0:
            x = batch_norm(x, w, f"layers.{i + 1}.1", None)
        x = leaky(x)
    assert x.shape == (N, 16, kernel, kernel)
    logits = (x * w["logit.weight"]).sum((1, 2, 3))
    if classes:
        logits = logits + projected(x.flatten(1), w["projection.table.weight"], LABELS)
    assert equal(network(images, *told(classes)), logits)


# Residual networks of SNGAN and WGAN-GP


def upsampled(x: Tensor) -> Tensor:
    return x.repeat_interleave(2, 2).repeat_interleave(2, 3)


@pytest.mark.parametrize("classes", [None, 3])
@pytest.mark.parametrize("norm", ["batch", "none"])
@pytest.mark.parametrize(
    ("resolution", "first", "channels"),
    [(28, 7, [8, 8]), (32, 4, [8, 8, 8]), (64, 4, [16, 16, 16, 8])],
)
def test_resnet_generator(
    resolution: int, first: int, channels: list[int], norm: str, classes: int | None
) -> None:
    width = channels[0]
    shape = (3, resolution, resolution)
    network = shaken(ResNetGenerator(LATENT, shape, width, norm, None, classes))
    w, latents = weights_of(network), torch.randn(N, LATENT)

    def norm_relu(x: Tensor, name: str) -> Tensor:
        labels = LABELS if classes else None
        return torch.relu(batch_norm(x, w, name, labels) if norm == "batch" else x)

    x = latents
    if classes and norm == "none":
        x = embedded(latents, w["embedding.table.weight"], LABELS)
    x = (x @ w["first.weight"].T + w["first.bias"]).reshape(N, width, first, first)
    for i, outputs in enumerate(channels):
        name = f"blocks.layers.{i}"
        h = conv(upsampled(norm_relu(x, f"{name}.norm1.layers.0")), w, f"{name}.conv1")
        h = conv(norm_relu(h, f"{name}.norm2.layers.0"), w, f"{name}.conv2")
        x = h + conv(upsampled(x), w, f"{name}.shortcut")
        assert x.shape[1] == outputs
    x = norm_relu(x, f"blocks.layers.{len(channels)}")
    images = torch.tanh(conv(x, w, f"blocks.layers.{len(channels) + 2}"))
    assert images.shape == (N, *shape)
    assert equal(network(latents, *told(classes)), images)


@pytest.mark.parametrize("classes", [None, 3])
@pytest.mark.parametrize("norm", ["none", "spectral"])
@pytest.mark.parametrize(
    ("resolution", "channels"), [(32, [16, 16, 16, 16]), (64, [8, 16, 16, 16, 16])]
)
def test_resnet_discriminator(
    resolution: int, channels: list[int], norm: str, classes: int | None
) -> None:
    """SNGAN sums over positions; WGAN-GP, which has no spectral norm, takes their mean."""
    shape = (3, resolution, resolution)
    network = shaken(ResNetDiscriminator(shape, 16, norm, None, classes)).eval()
    w, images = weights_of(network), torch.randn(N, *shape)
    assert [len(w[f"blocks.{i}.conv2.bias"]) for i in range(len(channels))] == channels
    labels = LABELS if classes else None
    logits = resnet_logits(images, w, len(channels) - 2, norm == "spectral", labels)
    assert equal(network(images, *told(classes)), logits)


# Self-attention


def test_attention() -> None:
    layer = shaken(SelfAttention(16))
    features, w = torch.randn(2, 16, 4, 6), weights_of(layer)

    def linear(name: str) -> Tensor:
        return torch.einsum("oi,nihw->nohw", w[f"{name}.weight"][:, :, 0, 0], features)

    def strongest(x: Tensor) -> Tensor:
        even, odd = slice(0, None, 2), slice(1, None, 2)
        corners = [x[:, :, a, b] for a in (even, odd) for b in (even, odd)]
        return torch.stack(corners).amax(0)

    query, key, value = linear("query"), strongest(linear("key")), strongest(linear("value"))
    assert (query.shape[1], value.shape[1]) == (2, 8)  # an eighth and a half of the channels
    expected = features.clone()
    for n in range(2):
        for i in range(4):
            for j in range(6):
                similarity = torch.einsum("c,chw->hw", query[n, :, i, j], key[n]).exp()
                share = similarity / similarity.sum()  # of all that this position looks at
                seen = torch.einsum("hw,chw->c", share, value[n])
                expected[n, :, i, j] += layer.gain[0] * (w["output.weight"][:, :, 0, 0] @ seen)
    assert equal(layer(features), expected)


@pytest.mark.parametrize("side", [4, 8, 16])
def test_attention_sits_where_it_is_asked_for(side: int) -> None:
    shape, seen = (3, 32, 32), []
    networks = [
        DCGANGenerator(LATENT, shape, 2, attention=side),
        DCGANDiscriminator(shape, 2, attention=side),
        ResNetGenerator(LATENT, shape, 8, attention=side),
    ]
    if side in (8, 16):  # the residual discriminator ends at 8
        networks.append(ResNetDiscriminator(shape, 8, attention=side))
    for network in networks:
        layers = [m for m in network.modules() if isinstance(m, SelfAttention)]
        assert len(layers) == 1
        layers[0].register_forward_hook(lambda _m, _i, output: seen.append(output.shape[-1]))
        is_generator = isinstance(network, DCGANGenerator | ResNetGenerator)
        network(torch.randn(2, LATENT) if is_generator else torch.randn(2, *shape))
    assert seen == [side] * len(networks)


# R3GAN


def r3gan_block(x: Tensor, w: Weights, name: str, group: int) -> Tensor:
    h = leaky(conv(x, w, f"{name}.0"))
    weight = w[f"{name}.2.weight"]
    assert weight.shape[:2] == (2 * x.shape[1], group)
    h = F.conv2d(h, weight, None, padding=1, groups=h.shape[1] // group)
    h = leaky(h + w[f"{name}.2.bias"][:, None, None])
    return x + F.conv2d(h, w[f"{name}.4.weight"])


WIDTHS = (8, 8, 4)  # at 4, 8 and 16 pixels; two stages of one width have no 1×1 convolution between


@pytest.mark.parametrize("classes", [None, 3])
def test_r3gan_generator(classes: int | None) -> None:
    network = shaken(R3GANGenerator(LATENT, (3, 16, 16), WIDTHS, 2, 4, classes))
    w, latents = weights_of(network), torch.randn(N, LATENT)
    x = embedded(latents, w["embedding.table.weight"], LABELS) if classes else latents
    x = network.basis * (x @ w["modulation.weight"].T)[:, :, None, None]
    for i in (0, 1):
        x = r3gan_block(x, w, f"layers.{i}.layers", 4)
    x = doubled(x)
    for i in (3, 4):
        x = r3gan_block(x, w, f"layers.{i}.layers", 4)
    x = doubled(F.conv2d(x, w["layers.5.match.weight"]))
    for i in (6, 7):
        x = r3gan_block(x, w, f"layers.{i}.layers", 4)
    images = F.conv2d(x, w["pixels.weight"])
    assert images.shape == (N, 3, 16, 16)
    assert equal(network(latents, *told(classes)), images)


@pytest.mark.parametrize("classes", [None, 3])
def test_r3gan_discriminator(classes: int | None) -> None:
    network = shaken(R3GANDiscriminator((3, 16, 16), WIDTHS, 2, 4, classes))
    w, images = weights_of(network), torch.randn(N, 3, 16, 16)
    x = F.conv2d(images, w["pixels.weight"])
    for i in (0, 1):
        x = r3gan_block(x, w, f"layers.{i}.layers", 4)
    x = F.conv2d(halved(x), w["layers.2.match.weight"])
    for i in (3, 4):
        x = r3gan_block(x, w, f"layers.{i}.layers", 4)
    x = halved(x)
    for i in (6, 7):
        x = r3gan_block(x, w, f"layers.{i}.layers", 4)
    x = (x * w["basis.weight"][:, 0]).sum((2, 3))
    x = x @ w["logit.weight"].T
    logits = projected(x, w["table.weight"], LABELS) if classes else x[:, 0]
    assert equal(network(images, *told(classes)), logits)


def test_r3gan_under_autocast_is_itself_but_for_rounding() -> None:
    torch.set_default_dtype(torch.float32)
    network = R3GANDiscriminator((3, 16, 16), WIDTHS, 1, 4)
    images = torch.randn(2, 3, 16, 16)
    exact = network(images)
    for module in (network, network.bfloat16()):  # DeepSpeed casts a network itself
        with torch.autocast("cpu", torch.bfloat16):
            logits = module(images)
        assert torch.allclose(logits.float(), exact, rtol=0.1, atol=0.1 * exact.abs().max().item())


# Conditioning


def test_batch_norm_by_class() -> None:
    layer = shaken(ClassBatchNorm(4, 3))
    features = torch.randn(N, 4, 3, 3) * 3 + 1
    by_hand = batch_norm(features, {f"n.{k}": v for k, v in weights_of(layer).items()}, "n", LABELS)
    assert equal(layer(features, LABELS), by_hand)


def test_the_embedding_stands_behind_the_latent() -> None:
    layer = ClassEmbedding(LATENT, 3)
    latents = torch.randn(N, LATENT)
    assert layer.width == LATENT + 64
    assert equal(layer(latents, LABELS), embedded(latents, layer.table.weight, LABELS))
