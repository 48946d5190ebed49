"""What changes from update to update, for losses that are called, compiled or captured."""

from typing import NamedTuple

import torch
from torch import Tensor

from ganscale.training.augmentation import Strength


class Numbers(NamedTuple):
    """What changes from update to update: numbers, or 0-dimensional tensors on the device."""

    update: int | Tensor
    strength: Strength
    weights: dict[int, float] | dict[int, Tensor]
    """Weight of each penalty that is due, by its place in `objective.penalties`."""


class DeviceNumbers:
    """Keeps each number in a tensor of its own on the device, which stays where it is.

    A compiled or captured loss reads the tensors, so that no number is built into it. A number is
    written by a kernel, which waits for nothing, and only if it has changed.
    """

    def __init__(self, device: torch.device):
        self._device = device
        self._tensors: dict[str, Tensor] = {}
        self._values: dict[str, float] = {}

    def put(self, numbers: Numbers) -> Numbers:
        """Return the same numbers in tensors: int64 for the update, float32 for the others."""
        probability, noise_std = numbers.strength
        return Numbers(
            self._put("update", numbers.update, torch.int64),
            Strength(self._put("probability", probability), self._put("noise", noise_std)),
            {i: self._put(f"weight {i}", weight) for i, weight in numbers.weights.items()},
        )

    def _put(self, name: str, value: float | Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        assert not isinstance(value, Tensor)
        if name not in self._tensors:
            self._tensors[name] = torch.full((), value, dtype=dtype, device=self._device)
        elif value != self._values[name]:
            self._tensors[name].fill_(value)
        self._values[name] = value
        return self._tensors[name]
