"""A GPU that is not there, `chip`: PyTorch takes it for an accelerator, and the host computes.

It has no float64, as MPS has none. A tensor of the chip is a shell around one of the host's:
PyTorch sees its device, autograd records it, and each operation runs on what is inside. What a
real device of the kind refuses is refused here: float64, and tensors of two devices in one
operation. What a chip computes is thus bit for bit what the host does.

As a program, `python -m tests.system.chip ARGUMENTS` is `ganscale ARGUMENTS` on a machine with a
chip. It cannot be taken away again: a process registers it once, before anything else.
"""

import os
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

KIND = "chip"
REFUSED = "the chip has no float64"


class Shell(torch.Tensor):
    """A tensor of the chip."""

    inside: torch.Tensor

    @staticmethod
    def __new__(cls, inside: torch.Tensor) -> "Shell":
        if inside.dtype in (torch.float64, torch.complex128):
            raise TypeError(REFUSED)
        shell: Shell = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            inside.shape,
            strides=inside.stride(),
            storage_offset=inside.storage_offset(),
            dtype=inside.dtype,
            layout=inside.layout,
            device=torch.device(KIND, 0),
        )
        shell.inside = inside
        return shell

    @classmethod
    def __torch_dispatch__(
        cls, operation: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return compute(operation, args, kwargs or {})


class Chip(TorchDispatchMode):
    """Inside, a new tensor may ask for the chip."""

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return compute(operation, args, kwargs or {})


class Numbers(TorchFunctionMode):
    """Inside, numbers become tensors on the host: PyTorch hides how it does that from `Chip`."""

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        device = kwargs.get("device")
        if function in (torch.tensor, torch.as_tensor) and device is not None:
            kwargs["device"] = "cpu"
            return function(*args, **kwargs).to(device)
        if function is torch.Tensor.tolist and isinstance(args[0], Shell):
            return args[0].inside.tolist()
        return function(*args, **kwargs)


def compute(operation: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Do an operation on the host, for tensors of the chip, of the host, or both."""
    given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    shells = [tensor for tensor in given if isinstance(tensor, Shell)]
    asked = kwargs.get("device")
    on_chip = asked.type == KIND if asked is not None else bool(shells)
    moves = asked is not None or operation is torch.ops.aten.copy_.default
    if shells and kwargs.get("dtype") == torch.float64:
        raise TypeError(REFUSED)  # also on the way to the host: the chip would have to convert
    if shells and not moves:
        for tensor in given:
            if not isinstance(tensor, Shell) and tensor.dim() and not _may_index(operation):
                raise RuntimeError(f"{operation}: tensors of the chip and of the host")
    out = operation(*tree_map(_unwrapped, args), **tree_map(_unwrapped, kwargs))
    known = {id(shell.inside): shell for shell in shells}

    def wrapped(value: Any) -> Any:
        if not isinstance(value, torch.Tensor) or not on_chip:
            return value
        # An operation in place returns its argument.
        return known[id(value)] if id(value) in known else Shell(value)

    if operation is torch.ops.aten.copy_.default:
        return args[0]
    return tree_map(wrapped, out)


def _may_index(operation: Any) -> bool:
    return "index" in operation.name()  # PyTorch moves indices, if only those are the host's


def _unwrapped(value: Any) -> Any:
    if isinstance(value, Shell):
        return value.inside
    if isinstance(value, torch.device) and value.type == KIND:
        return torch.device("cpu")
    return value


class Module:
    """What `torch.chip` is."""

    def is_available(self) -> bool:
        return True

    def device_count(self) -> int:
        return 1

    def current_device(self) -> int:
        return 0

    def _is_in_bad_fork(self) -> bool:
        return False

    def manual_seed(self, seed: int) -> None:
        torch.default_generator.manual_seed(seed)

    def manual_seed_all(self, seed: int) -> None:
        self.manual_seed(seed)

    def get_rng_state(self, device: Any = None) -> torch.Tensor:
        return torch.get_rng_state()

    def set_rng_state(self, state: torch.Tensor, device: Any = None) -> None:
        torch.set_rng_state(state)

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.float16, torch.bfloat16]


def with_chip(program: Callable[[], Any]) -> Any:
    """Call a program in this process, which has a chip from now on."""
    from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

    _setup_privateuseone_for_python_backend(KIND, Module())
    os.environ["ACCELERATE_TORCH_DEVICE"] = KIND  # Accelerate knows the kinds that are sold
    torch.accelerator.synchronize = lambda *_: None  # the host has always done its work
    with Chip(), Numbers():
        return program()


if __name__ == "__main__":
    from ganscale.cli import main
    from ganscale.profiling.matmul_rate import SIDES

    SIDES[KIND] = SIDES["cpu"]
    sys.argv[0] = "ganscale"
    with_chip(main)
