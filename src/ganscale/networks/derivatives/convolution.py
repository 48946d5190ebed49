"""A convolution whose derivatives of every order take all of its groups at once.

A convolution F(x, w) is linear in the images x and in the kernels w, and so are the two gradients
that it is differentiated by: for a gradient g of its output,

    ⟨g, F(x, w)⟩ = ⟨X(g, w), x⟩ = ⟨W(g, x), w⟩.

Each of the three is linear in two of (g, x, w), and its gradients by those are the other two. So F,
X and W need nothing else for derivatives of any order, and each is one convolution. PyTorch has all
three, but composes the derivatives of X and W from a loop over the groups
(`_convolution_double_backward` in ATen/native/Convolution.cpp).

The three are `autograd.Function`s, since a `torch.library.custom_op` cannot be differentiated by
`torch.func`. Dynamo would trace their second derivatives wrongly, without an error; so
`allow_in_graph` keeps it from looking inside, and the graph holds plain ATen convolutions in the
end. Importing this file imports Dynamo, which takes seconds: import it where it is called.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

# Stride, padding, dilation, whether it is transposed, output padding, groups.
Geometry = tuple[list[int], list[int], list[int], bool, list[int], int]
NONE = (None,) * 6  # the gradients by a geometry


@torch.compiler.allow_in_graph  # type: ignore[untyped-decorator]
def convolve(
    images: Tensor,
    kernels: Tensor,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    transposed: bool,
    output_padding: list[int],
    groups: int,
) -> Tensor:
    """Return `torch.ops.aten.convolution` without a bias, in the memory order that it has there.

    It takes the types as they are: under autocast, cast first.
    """
    geometry = (stride, padding, dilation, transposed, output_padding, groups)
    convolved: Tensor = _Convolution.apply(images, kernels, *geometry)
    return convolved


class _Convolution(Function):
    """F(x, w)."""

    @staticmethod
    def forward(x: Tensor, w: Tensor, *geometry: Any) -> Tensor:
        convolved: Tensor = torch.ops.aten.convolution(x, w, None, *geometry)
        return convolved

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, w, *ctx.geometry = inputs
        ctx.save_for_backward(x, w)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Any, ...]:
        x, w = ctx.saved_tensors
        by_x, by_w, *_ = ctx.needs_input_grad
        return (
            _InputGradient.apply(g, x, w, *ctx.geometry) if by_x else None,
            _WeightGradient.apply(g, x, w, *ctx.geometry) if by_w else None,
            *NONE,
        )


class _InputGradient(Function):
    """X(g, w); of x it takes the shape, the type and the memory order."""

    @staticmethod
    def forward(g: Tensor, x: Tensor, w: Tensor, *geometry: Any) -> Tensor:
        only = [True, False, False]
        gradients = torch.ops.aten.convolution_backward(g, x, w, None, *geometry, only)
        gradient: Tensor = gradients[0]
        return gradient

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        g, _, w, *ctx.geometry = inputs
        ctx.save_for_backward(g, w)

    @staticmethod
    def backward(ctx: Any, h: Tensor) -> tuple[Any, ...]:
        g, w = ctx.saved_tensors
        by_g, _, by_w, *_ = ctx.needs_input_grad
        return (
            _Convolution.apply(h, w, *ctx.geometry) if by_g else None,
            None,
            _WeightGradient.apply(g, h, w, *ctx.geometry) if by_w else None,
            *NONE,
        )


class _WeightGradient(Function):
    """W(g, x); of w it takes the shape, the type and the memory order."""

    @staticmethod
    def forward(g: Tensor, x: Tensor, w: Tensor, *geometry: Any) -> Tensor:
        only = [False, True, False]
        gradients = torch.ops.aten.convolution_backward(g, x, w, None, *geometry, only)
        gradient: Tensor = gradients[1]
        return gradient

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        g, x, _, *ctx.geometry = inputs
        ctx.save_for_backward(g, x)

    @staticmethod
    def backward(ctx: Any, v: Tensor) -> tuple[Any, ...]:
        g, x = ctx.saved_tensors
        by_g, by_x, *_ = ctx.needs_input_grad
        return (
            _Convolution.apply(x, v, *ctx.geometry) if by_g else None,
            _InputGradient.apply(g, x, v, *ctx.geometry) if by_x else None,
            None,
            *NONE,
        )
