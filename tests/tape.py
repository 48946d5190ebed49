"""Records operations on a CPU and does them again, as a CUDA graph does with kernels.

What the host computed meanwhile is on the tape as it was then: a number that was built in stays,
and a tensor that was copied from Python stays.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from ganscale.gan.game import Measured
from ganscale.training.captured import Replay


class Operation(NamedTuple):
    call: Any
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]
    results: list[Any]

    def is_done_by_the_host(self) -> bool:
        """Return whether it reads a number back, or makes a tensor of Python's numbers."""
        name = self.call.overloadpacket
        return name in (torch.ops.aten._local_scalar_dense, torch.ops.aten.lift_fresh)


class Tape(TorchDispatchMode):
    """All operations on tensors while it is entered, backward passes included."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[Operation] = []

    def __torch_dispatch__(
        self, operation: Any, types: Any, arguments: Any = (), keywords: Any = None
    ) -> Any:
        keywords = keywords or {}
        result = operation(*arguments, **keywords)
        self.operations.append(Operation(operation, arguments, keywords, tree_leaves(result)))
        return result

    @torch.no_grad()
    def play(self, measured: Measured) -> None:
        """Do all of them again, and put what was measured into the same tensors."""
        now: dict[int, Any] = {}

        def current(value: Any) -> Any:
            return now.get(id(value), value)

        for operation in self.operations:
            arguments, keywords = tree_map(current, (operation.arguments, operation.keywords))
            results = tree_leaves(operation.call(*arguments, **keywords))
            for before, after in zip(operation.results, results, strict=True):
                if isinstance(before, Tensor):
                    now[id(before)] = after
        for value in measured.values():
            value.detach().copy_(current(value))


class Tapes:
    """Does what CUDAGraphs does, on tapes: warms up, and records."""

    def __init__(self) -> None:
        self.tapes: list[Tape] = []

    def __call__(self, work: Callable[[], Measured]) -> tuple[Measured, Replay]:
        work()
        with Tape() as tape:
            measured = {name: value.detach() for name, value in work().items()}
        self.tapes.append(tape)
        return measured, lambda: tape.play(measured)
