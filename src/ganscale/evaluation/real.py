"""What is known of the real set: feature sums, some features, and how often each class occurs.

Computed once by all ranks and cached by (fingerprint of the set, features, resolution).
"""

from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from ganscale.data.image_set import ImageSet
from ganscale.data.ranks import Ranks
from ganscale.data.reader import Reader
from ganscale.evaluation.cache import Cache
from ganscale.evaluation.features import FeatureNetwork, Features
from ganscale.evaluation.metrics import Sums, fid

COMPARED = 10_000  # most images whose features are compared one with another
BATCH_SIZE = 500
OTHERS = ("compared", "indices", "label_counts")
"""Names of what is kept besides the two halves' sums."""


@dataclass
class RealStatistics:
    """Of a set, on the host."""

    halves: tuple[Sums, Sums]
    """Of the samples with even numbers and of those with odd ones."""
    compared: Tensor
    """(up to 10,000, width) features of samples spread evenly over the set."""
    indices: Tensor
    """(up to 10,000,) which samples those are."""
    label_counts: Tensor
    """(classes,) labels of the set; (0,) where it has none."""

    @property
    def sums(self) -> Sums:
        """Of the whole set."""
        return self.halves[0] + self.halves[1]

    @property
    def floor(self) -> float:
        """FID of one half of the real set against the other: what no generator gets under."""
        return fid(*self.halves)


def real_statistics(
    network: FeatureNetwork,
    images: ImageSet,
    reader: Reader,
    device: torch.device,
    ranks: Ranks,
    cache: Cache,
) -> RealStatistics:
    """From the cache, or measured by all ranks together; rank 0 writes them."""
    name = f"statistics-{network.key}"
    found = cache.read(name)
    if everywhere(found is not None):
        assert found is not None
        return _from_tensors(found)
    measured = _measure(network, images, reader, device, ranks)
    if ranks.rank == 0:
        cache.write(name, _to_tensors(measured))
    ranks.barrier()
    return measured


def everywhere(condition: bool) -> bool:
    """Whether it holds on all ranks: a cache may be on some nodes only."""
    if not torch.distributed.is_initialized():
        return condition
    answers: list[bool | None] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(answers, condition)
    return all(answers)


def _measure(
    network: FeatureNetwork, images: ImageSet, reader: Reader, device: torch.device, ranks: Ranks
) -> RealStatistics:
    share = -(-images.samples // ranks.world_size)
    first = min(ranks.rank * share, images.samples)
    last = min(first + share, images.samples)
    number = min(COMPARED, images.samples)
    indices = np.linspace(0, images.samples, number, endpoint=False).astype(np.int64)
    halves: list[Sums] = []
    classes = len(images.classes)
    counts = torch.zeros(classes, dtype=torch.long, device=device)
    compared: list[Tensor] = []
    # An empty share still takes part in the sums: it measures one image and counts none.
    for start in range(first, last, BATCH_SIZE) if last > first else [0]:
        numbers = np.arange(start, min(start + BATCH_SIZE, max(last, 1)))
        batch = reader.read(numbers)
        measured = network.measure(batch.images.to(device))
        halves = halves or [Sums.zero(measured), Sums.zero(measured)]
        if last == first:
            break
        for parity, half in enumerate(halves):
            chosen = torch.from_numpy(numbers % 2 == parity).to(device)
            half.add(Features(measured.features[chosen], measured.logits[chosen]))
        wanted = torch.from_numpy(np.isin(numbers, indices)).to(device)
        compared.append(measured.features[wanted])
        if classes:
            counts += torch.bincount(batch.labels.to(device).clamp(min=0), minlength=classes)
    for half in halves:
        half.add_up_over_ranks()
    if ranks.world_size > 1 and classes:
        torch.distributed.all_reduce(counts)
    width = len(halves[0].features)
    kept = gathered(torch.cat(compared) if compared else torch.zeros(0, width, device=device))
    statistics = RealStatistics((halves[0], halves[1]), kept, torch.from_numpy(indices), counts)
    return _from_tensors(_to_tensors(statistics))


def gathered(rows: Tensor) -> Tensor:
    """All ranks' rows, one rank's after another's; ranks may have different numbers of them."""
    if not torch.distributed.is_initialized():
        return rows
    counts: list[int] = [0] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(counts, len(rows))
    padded = torch.nn.functional.pad(rows, (0, 0, 0, max(counts) - len(rows))).contiguous()
    parts = [torch.empty_like(padded) for _ in counts]
    torch.distributed.all_gather(parts, padded)
    return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])


def _to_tensors(statistics: RealStatistics) -> dict[str, Tensor]:
    tensors = {
        f"{i}.{key}": value.cpu()
        for i, half in enumerate(statistics.halves)
        for key, value in half.tensors().items()
    }
    return tensors | {key: getattr(statistics, key).cpu() for key in OTHERS}


def _from_tensors(tensors: dict[str, Tensor]) -> RealStatistics:
    def half(i: int) -> Sums:
        return Sums(**{f.name: tensors[f"{i}.{f.name}"] for f in fields(Sums)})

    return RealStatistics((half(0), half(1)), **{key: tensors[key] for key in OTHERS})
