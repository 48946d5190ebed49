"""Derivatives of all groups at once: PyTorch's numbers, without its loop over the groups."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import grad

from ganscale.gan.penalties import R1
from ganscale.networks import grouped_convolution
from ganscale.networks.grouped_convolution import GroupedConv2d, at_once, grouped_conv2d
from ganscale.networks.r3gan import R3GANDiscriminator, Resampler
from tests.networks.convolutions import Convolutions

CASES: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "grouped": ((6, 2, 3, 3), {"groups": 3, "padding": 1}),
    "more out than in": ((12, 2, 3, 3), {"groups": 3}),
    "depthwise, halving": ((6, 1, 4, 4), {"groups": 6, "stride": 2, "padding": 1}),
    "depthwise, doubling": (
        (6, 1, 4, 4),
        {"groups": 6, "stride": 2, "padding": 1, "transposed": True},
    ),
}
"""Shape of the kernels, and the rest; images are (2, 6, 5, 6)."""
each_case = pytest.mark.parametrize("name", CASES)


@pytest.fixture
def choose(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Force the choice that otherwise depends on the device."""
    return lambda ours: monkeypatch.setattr(grouped_convolution, "at_once", lambda _: ours)


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def tensors(name: str, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, dict[str, Any]]:
    shape, options = CASES[name]
    images = torch.randn(2, 6, 5, 6, dtype=dtype, requires_grad=True)
    return images, torch.randn(shape, dtype=dtype, requires_grad=True), options


def derivatives(images: Tensor, kernels: Tensor, options: dict[str, Any]) -> list[Tensor]:
    """The result, its gradients, and those of a smooth function of the gradients."""
    result = grouped_conv2d(images, kernels, **options)
    first = grad(result.sin().sum(), (images, kernels), create_graph=True)
    second = grad(sum(x.double().sin().sum() for x in first), (images, kernels), create_graph=True)
    third = grad(sum(x.double().sin().sum() for x in second), (images, kernels))
    return [result, *first, *second, *third]


def test_only_a_cpu_does_as_pytorch_does() -> None:
    assert not at_once(torch.device("cpu"))
    assert at_once(torch.device("cuda", 3))


@each_case
def test_derivatives_are_those_of_finite_differences(
    name: str, choose: Callable[[bool], None]
) -> None:
    choose(True)
    images, kernels, options = tensors(name)

    def convolve(images: Tensor, kernels: Tensor) -> Tensor:
        return grouped_conv2d(images, kernels, **options)

    def gradients(images: Tensor, kernels: Tensor) -> tuple[Tensor, ...]:
        result = convolve(images, kernels).sin().sum()
        return grad(result, (images, kernels), create_graph=True)

    assert torch.autograd.gradcheck(convolve, (images, kernels), fast_mode=True)
    assert torch.autograd.gradgradcheck(convolve, (images, kernels), fast_mode=True)
    assert torch.autograd.gradgradcheck(gradients, (images, kernels), fast_mode=True)


def strides(tensor: Tensor) -> list[int]:
    """Those that matter: of the dimensions that have more than one entry."""
    return [step for step, size in zip(tensor.stride(), tensor.shape, strict=True) if size > 1]


@each_case
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_values_types_and_memory_order_are_those_of_pytorch(
    name: str, layout: torch.memory_format, dtype: torch.dtype, choose: Callable[[bool], None]
) -> None:
    images, kernels, options = tensors(name, dtype)
    inputs = [x.detach().to(memory_format=layout).requires_grad_() for x in (images, kernels)]
    choose(False)
    pytorch = derivatives(*inputs, options)
    choose(True)
    ours = derivatives(*inputs, options)
    with FakeTensorMode() as mode:
        fake = derivatives(*map(mode.from_tensor, inputs), options)
    for own, theirs, shape in zip(ours, pytorch, fake, strict=True):
        assert own.dtype == theirs.dtype == shape.dtype == dtype
        assert own.shape == theirs.shape == shape.shape
        assert strides(own) == strides(shape)
        if dtype == torch.float64:
            assert torch.allclose(own, theirs, rtol=1e-9, atol=1e-9)
    for own, theirs in zip(ours[:3], pytorch[:3], strict=True):
        assert strides(own) == strides(theirs)  # PyTorch's loop orders the others as it likes


@each_case
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_autocast_is_that_of_pytorch(
    name: str, dtype: torch.dtype, choose: Callable[[bool], None]
) -> None:
    images, kernels, options = tensors(name, dtype)
    bias = torch.randn(kernels.shape[0] if "transposed" not in options else 6, dtype=dtype)
    found = []
    for ours in (False, True):
        choose(ours)
        with torch.autocast("cpu", torch.bfloat16):
            result = grouped_conv2d(images, kernels, bias.requires_grad_(), **options)
        found.append([result, *grad(result.float().sin().sum(), (images, kernels, bias))])
    for theirs, own in zip(*found, strict=True):
        assert own.dtype == theirs.dtype
        assert torch.allclose(own, theirs, rtol=0.03, atol=0.03 * theirs.abs().max().item())
    assert found[1][0].dtype == (torch.bfloat16 if dtype == torch.float32 else dtype)


# R3GAN's discriminator

SHAPE = (3, 8, 8)


def discriminator(width: int, dtype: torch.dtype = torch.float64) -> R3GANDiscriminator:
    """With groups of two channels, and residuals that are not zero."""
    network = R3GANDiscriminator(SHAPE, (width, width), blocks=1, group=2)
    for parameter in network.parameters():
        nn.init.normal_(parameter, 0.0, 0.3)
    return network.to(dtype)


def update(network: nn.Module, real: Tensor, fake: Tensor) -> tuple[Tensor, ...]:
    """The relativistic loss with R1 and R2, and its gradients, in one pass after another."""
    real_logits, fake_logits = network(torch.cat([real, fake])).chunk(2)
    loss = F.softplus(fake_logits - real_logits).mean()
    for images in (real, fake):
        loss = loss + R1()(network, images, images, lambda shape: torch.rand(shape))
    return loss, *grad(loss, tuple(network.parameters()))


def images_of(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    real, fake = torch.randn(2, 4, *SHAPE, dtype=dtype).unbind()
    return real, fake


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-4)], ids=str
)
def test_r3gan_learns_the_same(
    dtype: torch.dtype, tolerance: float, choose: Callable[[bool], None]
) -> None:
    network, images = discriminator(8, dtype), images_of(dtype)
    choose(False)
    pytorch = update(network, *images)
    choose(True)
    for own, theirs in zip(update(network, *images), pytorch, strict=True):
        assert theirs.abs().max() > 0.01
        assert torch.allclose(
            own, theirs, rtol=tolerance, atol=tolerance * theirs.abs().max().item()
        )


def test_a_compiled_penalty_has_the_same_second_derivatives(
    choose: Callable[[bool], None],
) -> None:
    """One graph, in which each of them is a convolution that the compiler knows."""
    network, images = discriminator(8), images_of()
    choose(False)
    expected = update(network, *images)
    choose(True)

    def penalised(real: Tensor) -> Tensor:
        return R1()(network, real, real, lambda shape: torch.rand(shape))

    def loss(real: Tensor, fake: Tensor) -> Tensor:
        real_logits, fake_logits = network(torch.cat([real, fake])).chunk(2)
        adversarial = F.softplus(fake_logits - real_logits).mean()
        return adversarial + penalised(real) + penalised(fake)

    value = torch.compile(loss, fullgraph=True, backend="aot_eager")(*images)
    found = (value, *grad(value, tuple(network.parameters())))
    for own, theirs in zip(found, expected, strict=True):
        assert torch.allclose(own, theirs, rtol=1e-9, atol=1e-9)


def convolutions_of_an_update(width: int) -> int:
    network = discriminator(width)
    with Convolutions() as convolutions:
        update(network, *images_of())
    return convolutions.counted


def test_the_number_of_convolutions_does_not_depend_on_the_groups(
    choose: Callable[[bool], None],
) -> None:
    network = discriminator(8)
    filters = sum(isinstance(module, Resampler) for module in network.modules())
    grouped = sum(isinstance(module, GroupedConv2d) for module in network.modules())
    layers = sum(isinstance(module, nn.Conv2d) for module in network.modules())
    # The result and its gradients by weights and images; the first has no gradient by images.
    adversarial = 3 * layers - 1 + 2 * filters
    # The result and its gradient by images; both gradients of that. A Python function cannot know
    # that no weight is asked for yet, as PyTorch's own does.
    penalty = 4 * layers + 3 * filters + grouped
    # From the second derivatives of the LeakyReLUs back, through all but what follows the last.
    penalty += 2 * (layers - 2) - 1 + filters
    choose(True)
    expected = adversarial + 2 * penalty
    assert convolutions_of_an_update(8) == convolutions_of_an_update(32) == expected
    choose(False)
    few, many = convolutions_of_an_update(8), convolutions_of_an_update(32)
    assert expected < few < many / 2
