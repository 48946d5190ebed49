"""What is counted of operations, against formulas written out."""

import gc

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from ganscale.profiling.operations import Counting


def test_a_product_of_matrices_and_its_gradients() -> None:
    a, b = torch.randn(3, 5, requires_grad=True), torch.randn(5, 7, requires_grad=True)
    with Counting() as counting:
        (a @ b).sum().backward()
    assert counting.flop == 3 * (2 * 3 * 5 * 7)


@pytest.mark.parametrize("groups", [1, 4])
def test_a_convolution_and_its_gradients(groups: int) -> None:
    images = torch.randn(2, 8, 6, 6, requires_grad=True)
    kernels = torch.randn(12, 8 // groups, 3, 3, requires_grad=True)
    once = 2 * (2 * 12 * 6 * 6) * (8 // groups * 3 * 3)
    with Counting() as forward:
        F.conv2d(images, kernels, padding=1, groups=groups)
    with Counting() as both:
        F.conv2d(images, kernels, padding=1, groups=groups).sum().backward()
    assert forward.flop == once
    assert both.flop == 3 * once


def test_the_second_derivative_counts() -> None:
    weight = torch.randn(4, 4, requires_grad=True)
    x = torch.randn(8, 4, requires_grad=True)
    with Counting() as counting:
        (gradient,) = torch.autograd.grad(((x @ weight) ** 2).sum(), x, create_graph=True)
        gradient.square().sum().backward()
    once = 2 * 8 * 4 * 4
    # y = x W and dx = 2 y Wᵀ; backward: both gradients of the latter, and of the former.
    assert counting.flop == (1 + 1 + 2 + 2) * once


def test_bytes_read_and_written() -> None:
    x = torch.zeros(10)
    with Counting() as counting:
        x + x[None].expand(3, 10)
        x.add_(1)
        x.view(5, 2)  # nothing moves
        torch.empty(1000)  # nothing is written
    assert [operation.traffic for operation in counting.operations] == [40 + 40 + 120, 40 + 40]


def test_the_peak_is_of_what_lives_at_one_time() -> None:
    gc.collect()
    with Counting() as counting:
        first = torch.zeros(100)
        del first
        second = torch.zeros(50)
        third = second + 1
        del second, third
        torch.zeros(30)
    assert counting.peak == 400


def test_a_tensor_that_only_the_graph_holds_is_alive() -> None:
    x = torch.ones(100, requires_grad=True)

    def cube(x: Tensor) -> Tensor:
        return x.exp().exp().exp()  # each saves its result

    with Counting() as counting:
        y = cube(x)
    del y
    assert counting.peak == 1200


def test_fake_tensors_count_the_same() -> None:
    def work() -> Counting:
        x = torch.empty(4, 3, 8, 8, requires_grad=True)
        w = torch.empty(5, 3, 3, 3, requires_grad=True)
        with Counting() as counting:
            F.conv2d(x, w).relu().sum().backward()
        return counting

    real = work()
    with FakeTensorMode():
        fake = work()
    assert fake.operations == real.operations
    assert fake.peak == real.peak
