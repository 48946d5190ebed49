"""Ranks and collectives: the one file that knows how the processes of a run talk to each other.

Every function is a collective unless it says otherwise: all ranks call it, in the same order.
Without a process group each does what it would do for a single process.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from math import prod
from threading import Thread
from typing import Any, Literal, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from ganscale.devices import HOST, best_device
from ganscale.engines.launcher import Launcher
from ganscale.errors import GanscaleError

WORD_EVERY_S = 1.0  # while some ranks work and others wait for them

T = TypeVar("T")
Tensors = dict[str, Tensor]

_OPERATIONS = {"sum": dist.ReduceOp.SUM, "min": dist.ReduceOp.MIN, "max": dist.ReduceOp.MAX}
ON_DEVICES_ONLY = ("nccl", "xccl")
"""Backends that send no tensor of the host's."""


# -- the process group -------------------------------------------------------------------------


def available_backends() -> list[str]:
    """Return the names of the libraries that processes could communicate by; not a collective."""
    kinds = dict.fromkeys(backend_of(device) for device in (best_device(), HOST))
    return [name for name in kinds if dist.is_backend_available(name)]


def backend_of(device: torch.device) -> str:
    """Return the library by which processes on such devices communicate, `gloo` if in doubt.

    Not a collective.
    """
    return dist.Backend.default_device_backend_map.get(device.type, "gloo")


def is_initialized() -> bool:
    """Return whether this process belongs to a group; not a collective."""
    return dist.is_available() and dist.is_initialized()


def rank() -> int:
    """Return this process's rank in the group; not a collective."""
    return dist.get_rank() if is_initialized() else 0


def world_size() -> int:
    """Return the number of processes in the group; not a collective."""
    return dist.get_world_size() if is_initialized() else 1


def join_restarted_group(attempt: str, timeout: timedelta, device: torch.device) -> None:
    """Form the process group under this attempt's own keys if torchrun has restarted the ranks.

    Its store outlives a restart, so the addresses of the dead ranks would be taken for ours.
    """
    if attempt == "0" or is_initialized() or device.type == "mps":  # which trains alone
        return
    store, rank_, size = next(rendezvous("env://", timeout=timeout))
    dist.init_process_group(
        backend_of(device),
        store=PrefixStore(f"attempt-{attempt}", store),
        rank=rank_,
        world_size=size,
        timeout=timeout,
    )


def leave() -> None:
    """Leave the process group, if there is one."""
    if is_initialized():
        dist.destroy_process_group()


def is_lost_contact(error: BaseException) -> bool:
    """Return whether a collective failed: NCCL has a type for it, Gloo only a text."""
    return isinstance(error, dist.DistError) or "/gloo/" in str(error)


# -- tensors -----------------------------------------------------------------------------------


def all_reduce(tensor: Tensor, operation: Literal["sum", "min", "max"] = "sum") -> Tensor:
    """Reduce a tensor over ranks in place, and return it.

    It may be in host memory, too: sums in float64 are, where the devices have no float64.
    """
    if not is_initialized():
        return tensor
    if tensor.device.type == "cpu" and dist.get_backend() in ON_DEVICES_ONLY:
        of_ranks = torch.stack(gather_objects(tensor))
        if operation == "sum":
            return tensor.copy_(of_ranks.sum(0))
        return tensor.copy_(of_ranks.amin(0) if operation == "min" else of_ranks.amax(0))
    dist.all_reduce(tensor, _OPERATIONS[operation])
    return tensor


def average_over_ranks(tensor: Tensor) -> Tensor:
    """Return the mean of a tensor over ranks."""
    return all_reduce(tensor.clone()) / world_size()


def average_gradients(gradients: list[Tensor]) -> None:
    """Average a network's gradients over ranks in place, all in one piece.

    PyTorch's DDP lays its buckets out anew after a process's first step: a resumed run would add
    its gradients up in another order than the uninterrupted one.
    """
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    all_reduce(flat).div_(world_size())
    parts = flat.split([gradient.numel() for gradient in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient))


def broadcast_from_rank_0(tensors: list[Tensor]) -> None:
    """Copy rank 0's values into the tensors of all ranks."""
    if is_initialized():
        for tensor in tensors:
            dist.broadcast(tensor, 0)


def stack_over_ranks(tensor: Tensor) -> Tensor:
    """Return every rank's tensor: (world size, *shape)."""
    if not is_initialized():
        return tensor[None]
    parts = [torch.empty_like(tensor) for _ in range(world_size())]
    dist.all_gather(parts, tensor.contiguous())
    return torch.stack(parts)


def gather_rows(rows: Tensor) -> Tensor:
    """Return all ranks' rows (N, width), concatenated by rank; N may differ between ranks."""
    if not is_initialized():
        return rows
    counts: list[int] = gather_objects(len(rows))
    padded = torch.nn.functional.pad(rows, (0, 0, 0, max(counts) - len(rows)))
    parts = stack_over_ranks(padded)
    return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])


# -- objects -----------------------------------------------------------------------------------


def gather_objects(value: Any) -> list[Any]:
    """Return every rank's `value`, in the order of ranks."""
    if not is_initialized():
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


def broadcast_object(value: Any) -> Any:
    """Return rank 0's `value` on every rank."""
    box = [value]
    if is_initialized():
        dist.broadcast_object_list(box)
    return box[0]


def tensors_from_rank_0(find: Callable[[], Tensors | None], device: torch.device) -> Tensors | None:
    """Return what `find` gives on rank 0, in the host memory of every rank.

    The other ranks do not call `find`: their nodes need not have the files that it reads. If it
    raises `GanscaleError`, every rank does. `device` is the one that the group communicates with.
    """
    if not is_initialized():
        return find()
    found: Tensors | None = None
    failure: GanscaleError | None = None
    if rank() == 0:
        try:
            found = find()
        except GanscaleError as error:
            failure = error
    shapes = found and [(key, tuple(t.shape), t.dtype) for key, t in found.items()]
    message, shapes = broadcast_object((failure and str(failure), shapes))
    if message is not None:
        raise GanscaleError(message, every_rank=True) from failure
    if shapes is None:
        return None
    received: Tensors = {}
    for key, shape, dtype in shapes:
        # As bytes: the device need not have the tensor's type.
        content = torch.empty(prod(shape) * dtype.itemsize, dtype=torch.uint8, device=device)
        if found is not None:
            content.copy_(found[key].contiguous().view(-1).view(torch.uint8))
        dist.broadcast(content, 0)
        received[key] = content.cpu().view(dtype).view(shape)
    return received


# -- one rank among the others -----------------------------------------------------------------


@dataclass(frozen=True)
class Ranks:
    """One rank, its node, and how it hears from the others.

    Ranks with the same `node` share memory; one of them has `local_rank` 0. `gather` returns every
    rank's object, in the order of ranks; all ranks call it.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    local_world_size: int = 1
    node: int = 0
    gather: Callable[[Any], list[Any]] = lambda value: [value]

    @classmethod
    def started_by(cls, launcher: Launcher) -> "Ranks":
        """Return this process's place among those that a launcher has started."""
        return cls(
            launcher.rank,
            launcher.world_size,
            launcher.local_rank,
            launcher.local_world_size,
            launcher.node,
            gather_objects,
        )

    @property
    def is_main(self) -> bool:
        """True if this is rank 0, which writes what is written once."""
        return self.rank == 0

    def rows(self, batch_size: int, accumulation: int = 1) -> range:
        """Return this rank's rows of a global batch; they divide into whole micro-batches.

        Raises `GanscaleError` if `batch_size` is not divisible that way.
        """
        parts = self.world_size * accumulation
        if batch_size % parts:
            raise GanscaleError(
                f"train.batch_size={batch_size} is not divisible by {self.world_size} processes × "
                f"train.accumulation={accumulation}; use a multiple of {parts}",
                every_rank=True,
            )
        part = batch_size // self.world_size
        return range(self.rank * part, (self.rank + 1) * part)

    def agree(self, action: Callable[[], T]) -> list[T]:
        """Return each rank's result of `action`, on every rank.

        If it fails on one rank, all raise that rank's `GanscaleError`, and none waits for it.
        """
        result: T | None = None
        failure: str | None = None
        try:
            result = action()
        except GanscaleError as error:
            failure = str(error)
        outcomes = self.gather((result, failure))
        for rank_, (_, message) in enumerate(outcomes):
            if message is not None:
                alike = all(other == message for _, other in outcomes)
                where = "" if alike else f"rank {rank_}: "
                raise GanscaleError(f"{where}{message}", every_rank=True)
        return [result for result, _ in outcomes]

    def agree_in_time(self, action: Callable[[], T]) -> list[T]:
        """Do as `agree`, for an action that may take longer than a collective may wait.

        The action runs in a thread while this one exchanges a word with the other ranks.
        """
        if self.world_size == 1:
            return self.agree(action)
        results: list[T] = []
        failures: list[BaseException] = []

        def act() -> None:
            try:
                results.append(action())
            except BaseException as error:
                failures.append(error)

        thread = Thread(target=act, daemon=True)
        thread.start()
        while True:
            thread.join(WORD_EVERY_S)
            if not any(self.gather(thread.is_alive())):
                break

        def outcome() -> T:
            if failures:
                raise failures[0]
            return results[0]

        return self.agree(outcome)
