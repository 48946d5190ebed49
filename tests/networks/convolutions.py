"""Counts convolutions as PyTorch dispatches them."""

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class Convolutions(TorchDispatchMode):
    """Counts what convolves: a result, or one of its two gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.counted = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, arguments: Any = (), options: Any = None
    ) -> Any:
        if function is torch.ops.aten.convolution.default:
            self.counted += 1
        elif function is torch.ops.aten.convolution_backward.default:
            self.counted += sum(arguments[-1][:2])
        return function(*arguments, **(options or {}))
