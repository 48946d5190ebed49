"""What the ranks agree on before and while they score: rank 0's word, and everyone's rows."""

import hashlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ganscale.engines.distributed import gather_objects
from ganscale.errors import GanscaleError

Tensors = dict[str, Tensor]


def checksum(tensors: Tensors) -> str:
    """SHA-256 of names, shapes, types and values."""
    digest = hashlib.sha256()
    for key in sorted(tensors):
        array = tensors[key].cpu().contiguous().numpy()
        digest.update(f"{key} {array.shape} {array.dtype}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def from_rank_0(find: Callable[[], Tensors | None], device: torch.device) -> Tensors | None:
    """What `find` gives on rank 0, on the host of every rank; the other ranks do not call it.

    A node need not have the files that rank 0 reads. An error of `find` is raised on every rank.
    """
    if not torch.distributed.is_initialized():
        return find()
    is_first = torch.distributed.get_rank() == 0
    found: Tensors | None = None
    failure: GanscaleError | None = None
    if is_first:
        try:
            found = find()
        except GanscaleError as error:
            failure = error
    shapes = found and [(key, tuple(t.shape), t.dtype) for key, t in found.items()]
    said: list[Any] = [(failure and str(failure), shapes)]
    torch.distributed.broadcast_object_list(said)
    message, shapes = said[0]
    if message is not None:
        raise GanscaleError(message, every_rank=True) from failure
    if shapes is None:
        return None
    received: Tensors = {}
    for key, shape, dtype in shapes:
        tensor = torch.empty(shape, dtype=dtype, device=device)
        if found is not None:
            tensor.copy_(found[key])
        torch.distributed.broadcast(tensor, 0)
        received[key] = tensor.cpu()
    return received


def gathered(rows: Tensor) -> Tensor:
    """All ranks' rows, one rank's after another's; ranks may have different numbers of them."""
    if not torch.distributed.is_initialized():
        return rows
    counts: list[int] = gather_objects(len(rows))
    padded = torch.nn.functional.pad(rows, (0, 0, 0, max(counts) - len(rows))).contiguous()
    parts = [torch.empty_like(padded) for _ in counts]
    torch.distributed.all_gather(parts, padded)
    return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])
