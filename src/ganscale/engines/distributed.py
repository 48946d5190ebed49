"""This process among the others of a run, as far as data is concerned."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from ganscale.errors import GanscaleError

T = TypeVar("T")


def gather_objects(value: Any) -> list[Any]:
    """Every rank's `value`, in the order of ranks, which all call it."""
    import torch.distributed

    if not torch.distributed.is_initialized():
        return [value]
    values: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(values, value)
    return values


@dataclass(frozen=True)
class Ranks:
    """One rank, its node, and how it hears from the others.

    Ranks with the same `node` share memory; one of them has `local_rank` 0. `gather` returns every
    rank's object, in the order of ranks; like `barrier`, it waits for all ranks.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    local_world_size: int = 1
    node: int = 0
    barrier: Callable[[], None] = lambda: None
    gather: Callable[[Any], list[Any]] = lambda value: [value]

    def rows(self, batch_size: int, accumulation: int = 1) -> range:
        """The rows of a global batch that are this rank's, whole micro-batches of them."""
        parts = self.world_size * accumulation
        if batch_size % parts:
            raise GanscaleError(
                f"train.batch_size={batch_size} is not divisible by {self.world_size} processes × "
                f"train.accumulation={accumulation}; use a multiple of {parts}",
                every_rank=True,
            )
        part = batch_size // self.world_size
        return range(self.rank * part, (self.rank + 1) * part)

    def together(self, action: Callable[[], T]) -> list[T]:
        """Each rank's result of `action`, on every rank.

        Where one rank fails, all raise its `GanscaleError`: none is left waiting for it.
        """
        result: T | None = None
        failure: str | None = None
        try:
            result = action()
        except GanscaleError as error:
            failure = str(error)
        outcomes = self.gather((result, failure))
        for rank, (_, message) in enumerate(outcomes):
            if message is not None:
                alike = all(other == message for _, other in outcomes)
                where = "" if alike else f"rank {rank}: "
                raise GanscaleError(f"{where}{message}", every_rank=True)
        return [result for result, _ in outcomes]
