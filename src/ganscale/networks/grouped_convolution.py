"""A grouped convolution that a gradient penalty differentiates twice without a loop over groups.

PyTorch launches several convolutions for each group of a layer to differentiate its gradient, even
if the kernels are constant. What `derivatives/convolution.py` launches does not depend on groups.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def at_once(device: torch.device) -> bool:
    """Return whether derivatives on this device are ours, of all groups at once, or PyTorch's.

    A CPU gains little by ours. Tests and benchmarks replace this function to compare the two.
    """
    return device.type != "cpu"


def grouped_conv2d(
    images: Tensor,
    kernels: Tensor,
    bias: Tensor | None = None,
    *,
    groups: int,
    stride: int = 1,
    padding: int = 0,
    transposed: bool = False,
) -> Tensor:
    """Return what `conv2d` or `conv_transpose2d` of these arguments returns, under autocast too."""
    if groups == 1 or not at_once(images.device) or not torch.is_grad_enabled():
        convolution = F.conv_transpose2d if transposed else F.conv2d
        result: Tensor = convolution(images, kernels, bias, stride, padding, groups=groups)
        return result
    # Importing it imports Dynamo. Dynamo, where it traces this line, imports it as well.
    from ganscale.networks.derivatives.convolution import convolve

    geometry = ([stride] * 2, [padding] * 2, [1, 1], transposed, [0, 0], groups)
    convolved: Tensor = convolve(_cast(images), _cast(kernels), *geometry)
    return convolved if bias is None else convolved + _cast(bias)[:, None, None]


def _cast(tensor: Tensor) -> Tensor:
    """Cast as autocast casts the arguments of a convolution: all but float64."""
    device = tensor.device.type
    if not torch.is_autocast_enabled(device) or tensor.dtype == torch.float64:
        return tensor
    return tensor.to(torch.get_autocast_dtype(device))


class GroupedConv2d(nn.Conv2d):
    """`nn.Conv2d` in parameters, first weights and results; only its derivatives are chosen."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int | tuple[int, int],
        groups: int,
        padding: int = 0,
        bias: bool = True,
    ):
        super().__init__(inputs, outputs, kernel, padding=padding, groups=groups, bias=bias)

    def forward(self, images: Tensor) -> Tensor:
        """Convolve images (N, inputs, H, W), with zeros beyond the edges."""
        padding = int(self.padding[0])  # a number on either axis: no text such as "same"
        return grouped_conv2d(images, self.weight, self.bias, groups=self.groups, padding=padding)
