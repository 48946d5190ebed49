"""Counts what tensor operations take, without caring whether their tensors hold numbers.

Inside `Counting` every operation of PyTorch is seen, those of a backward pass and of a second
derivative too. With fake tensors (`torch._subclasses.FakeTensorMode`) nothing is computed.
"""

import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._prims_common import suggest_memory_format
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import conv_backward_flop, flop_registry

aten = torch.ops.aten
NOTHING_WRITTEN = {
    aten.empty,
    aten.empty_like,
    aten.empty_strided,
    aten.new_empty,
    aten.new_empty_strided,
}
KERNEL_OF_CONVOLUTION = {aten.convolution: 1, aten.convolution_backward: 2}  # which argument


@dataclass(frozen=True)
class Operation:
    """One operation that a device has to run."""

    flop: int
    """Floating-point operations of matrix products and convolutions; a multiplication and an
    addition are two."""
    traffic: int
    """Bytes that it reads and writes."""
    dtype: torch.dtype
    """What it computes in."""


class Counting(TorchDispatchMode):
    """Counts operations, and the bytes of the storages that they create, while it is entered."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[Operation] = []
        self.peak = 0
        """The largest number of bytes that new storages took at one time."""
        self._alive = 0
        self._known: set[int] = set()

    @property
    def flop(self) -> int:
        """Floating-point operations of all matrix products and convolutions."""
        return sum(operation.flop for operation in self.operations)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run an operation and note what it took."""
        kwargs = kwargs or {}
        outputs = func(*args, **kwargs)
        inputs = list(_tensors((args, kwargs)))
        storages = {id(tensor.untyped_storage()) for tensor in inputs}
        created = [t for t in _tensors(outputs) if id(t.untyped_storage()) not in storages]
        for tensor in created:
            self._note_storage(tensor.untyped_storage())
        kernel = KERNEL_OF_CONVOLUTION.get(func.overloadpacket)
        if kernel is not None:
            packed = [inputs[kernel]] * (
                2 if func.overloadpacket is aten.convolution_backward else 1
            )
            self.peak = max(self.peak, self._alive + _workspace(inputs, packed))
        writes = _written(func, args, kwargs)
        if (created or writes) and func.overloadpacket not in NOTHING_WRITTEN:
            traffic = sum(map(_bytes, [*inputs, *writes, *created]))
            flop = _flop(func.overloadpacket, args, kwargs, outputs)
            dtype = next((t.dtype for t in inputs if t.is_floating_point()), torch.float32)
            self.operations.append(Operation(flop, traffic, dtype))
        return outputs

    def _note_storage(self, storage: torch.UntypedStorage) -> None:
        if id(storage) in self._known:
            return
        self._known.add(id(storage))
        self._alive += storage.nbytes()
        self.peak = max(self.peak, self._alive)
        weakref.finalize(storage, self._forget, id(storage), storage.nbytes())

    def _forget(self, storage: int, size: int) -> None:
        self._known.discard(storage)
        self._alive -= size


def convolution_backward_flop(*args: Any, **kwargs: Any) -> int:
    """Return the FLOP of a convolution's gradients.

    PyTorch's own formula takes the weight's gradient of a grouped convolution for that of a full
    one (torch 2.15), which is too much by the number of groups.
    """
    *rest, groups, output_mask = args
    total = 0
    for number, share in enumerate((1, groups, 1)):
        only = [wanted and i == number for i, wanted in enumerate(output_mask)]
        total += conv_backward_flop(*rest, groups, only, **kwargs) // share  # type: ignore[call-arg]
    return total


def _flop(operation: Any, args: Any, kwargs: Any, outputs: Any) -> int:
    formula = flop_registry.get(operation)
    if operation is aten.convolution_backward:
        formula = convolution_backward_flop
    return 0 if formula is None else int(formula(*args, **kwargs, out_val=outputs))


def _workspace(inputs: list[Tensor], packed: list[Tensor]) -> int:
    """Return the bytes that a convolution takes while it runs, besides its inputs and outputs.

    It copies those of its inputs that are not in the memory format of the others, and the library
    (oneDNN was measured) packs the kernel, and its gradient, into a layout of its own.
    """
    images = [tensor for tensor in inputs if tensor.dim() == 4]
    formats = {suggest_memory_format(tensor) for tensor in images}
    channels_last = torch.channels_last in formats
    wanted = torch.channels_last if channels_last else torch.contiguous_format
    copied = [t for t in images if not t.is_contiguous(memory_format=wanted)]
    return sum(map(_bytes, [*copied, *packed]))


def _tensors(values: Any) -> Iterator[Tensor]:
    return (leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor))


def _written(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Tensor]:
    """Return the arguments that an operation changes in place."""
    if not func._schema.is_mutable:
        return []
    given = dict(zip((argument.name for argument in func._schema.arguments), args, strict=False))
    return [
        tensor
        for argument in func._schema.arguments
        if argument.alias_info is not None and argument.alias_info.is_write
        for tensor in _tensors({**given, **kwargs}.get(argument.name))
    ]


def _bytes(tensor: Tensor) -> int:
    """Return what an operation reads of a tensor: an expanded one is small."""
    return min(tensor.numel() * tensor.itemsize, tensor.untyped_storage().nbytes())
