"""Statistics of the real dataset: feature sums, some features, and the weight of each class.

All ranks compute them together once. They are cached by what they depend on: the dataset, its
distribution, the resolution, and the feature network.
"""

from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from ganscale.data.reading.image_set import ImageSet
from ganscale.data.reading.order import Indices
from ganscale.data.reading.readers import Reader
from ganscale.devices import float64_device
from ganscale.engines.distributed import (
    Ranks,
    Tensors,
    all_reduce,
    gather_rows,
    tensors_from_rank_0,
)
from ganscale.errors import GanscaleError
from ganscale.evaluation.distribution import Distribution
from ganscale.evaluation.feature_cache import Cache
from ganscale.evaluation.features.network import FeatureNetwork, Features, measure
from ganscale.evaluation.metrics.fid import frechet_distance
from ganscale.evaluation.metrics.sums import Sums
from ganscale.monitoring.progress import tracked

COMPARED = 10_000  # the maximal number of images whose features are compared in pairs
BATCH_SIZE = 500
SUMS = ("sums", "resampled")
OTHERS = ("compared", "indices", "class_weights")


@dataclass
class RealStatistics:
    """Statistics of a real dataset, in host memory."""

    sums: Sums
    """Sums over the whole dataset, each image with its weight."""
    resampled: Sums
    """Sums over a bootstrap: a dataset of the same size, drawn from this one with replacement."""
    compared: Tensor
    """Features of samples spread evenly over the dataset, (up to 10,000, width)."""
    indices: Tensor
    """The numbers of those samples, (up to 10,000,)."""
    class_weights: Tensor
    """The weight of each class, (classes,), float64; (0,) if the dataset has no classes."""


class RealSet:
    """Measures the real dataset, or finds earlier measurements in the cache."""

    def __init__(
        self,
        network: FeatureNetwork,
        images: ImageSet,
        reader: Reader,
        device: torch.device,
        ranks: Ranks,
        cache: Cache,
    ):
        """Set up the measurement; raise `GanscaleError` for fewer than two images."""
        self._network = network
        self._images = images
        self._reader = reader
        self._device = device
        self._ranks = ranks
        self._cache = cache
        self._distribution = Distribution(images.strata())
        self._depends_on = {
            "features": network.checksum,
            "distribution": str(self._distribution),
        }
        if self._distribution.samples < 2:
            raise GanscaleError(
                f"{images.description}: scores need at least two real images", every_rank=True
            )

    @property
    def samples(self) -> int:
        """The number of images that a generator is compared with."""
        return self._distribution.samples

    @cached_property
    def statistics(self) -> RealStatistics:
        """The statistics, from rank 0's cache or measured now. All ranks must ask for them."""
        name = f"statistics-{self._network.key}"
        found = tensors_from_rank_0(
            lambda: self._cache.read(name, **self._depends_on), self._device
        )
        if found is None:
            measured = _to_tensors(self._measure())
            found = tensors_from_rank_0(
                lambda: self._cache.write(name, measured, **self._depends_on), self._device
            )
            assert found is not None
        return _from_tensors(found)

    def perfect_fid(self, number: int) -> float:
        """Return the FID that `number` perfect samples would get. All ranks must call this.

        This real-vs-real floor is due to the finite number of samples. Both sides are drawn from
        the dataset with replacement: as many real images as it has, and `number` "generated" ones.
        A generator that repeats the dataset itself may get a slightly lower FID.
        """
        name = f"perfect-{self._network.key}-{number}"
        found = tensors_from_rank_0(
            lambda: self._cache.read(name, **self._depends_on), self._device
        )
        if found is None:
            drawn = self._sums_of(self._distribution.draw(number, "perfect/generated"))
            value = frechet_distance(self.statistics.resampled, drawn)
            found = tensors_from_rank_0(
                lambda: self._cache.write(
                    name, {"fid": torch.tensor(value, dtype=torch.float64)}, **self._depends_on
                ),
                self._device,
            )
            assert found is not None
        return float(found["fid"])

    def _measure(self) -> RealStatistics:
        """Measure the dataset; each rank measures a part of it."""
        samples, classes = self._images.samples, len(self._images.classes)
        again = np.bincount(self._distribution.resample("perfect/real"), minlength=samples)
        indices = self._distribution.spread(COMPARED)
        nothing = self._nothing()
        sums, resampled = Sums.zero(nothing), Sums.zero(nothing)
        # Float64 from here on: on the host, if the device has none.
        precise = float64_device(self._device)
        class_weights = torch.zeros(classes, dtype=torch.float64, device=precise)
        compared = [nothing.features]
        parts = self._my_part(np.arange(samples))
        for numbers in tracked(parts, sum(map(len, parts)), "measuring the real images", len):
            batch = self._reader.read(numbers)
            measured = measure(self._network, batch.images, self._device)
            wanted = torch.from_numpy(np.isin(numbers, indices)).to(self._device)
            compared.append(measured.features[wanted])
            measured, weights = measured.to(precise), self._distribution.weights(numbers)
            weights = weights.to(precise)
            sums.add(measured, weights)
            resampled.add(*_repeat(measured, weights, again[numbers]))
            if classes:
                labels = batch.labels.to(precise)
                has_class = labels >= 0
                class_weights.index_add_(0, labels[has_class], weights[has_class])
        for part in (sums, resampled):
            part.add_up_over_ranks()
        if classes:
            all_reduce(class_weights)
        kept = gather_rows(torch.cat(compared))
        return RealStatistics(sums, resampled, kept, torch.from_numpy(indices), class_weights)

    def _sums_of(self, drawn: Indices) -> Sums:
        """Return sums over the drawn samples, which may contain repetitions, in host memory."""
        numbers, times = np.unique(drawn, return_counts=True)
        sums = Sums.zero(self._nothing())
        parts = self._my_part(np.arange(len(numbers)))
        for places in tracked(parts, sum(map(len, parts)), "measuring real samples", len):
            measured = measure(
                self._network, self._reader.read(numbers[places]).images, self._device
            )
            ones = torch.ones(len(places), dtype=torch.float64, device=sums.count.device)
            sums.add(*_repeat(measured.to(ones.device), ones, times[places]))
        sums.add_up_over_ranks()
        return sums.on_host()

    def _my_part(self, numbers: Indices) -> list[Indices]:
        """Return this rank's share of some sample numbers, in the batches of a single rank."""
        batches = -(-len(numbers) // BATCH_SIZE)
        share = -(-batches // self._ranks.world_size) * BATCH_SIZE
        mine = numbers[self._ranks.rank * share :][:share]
        return [mine[start : start + BATCH_SIZE] for start in range(0, len(mine), BATCH_SIZE)]

    def _nothing(self) -> Features:
        """Return the features of zero images, with the right widths."""
        one = measure(self._network, self._reader.read(np.array([0])).images, self._device)
        return Features(one.features[:0], one.logits[:0])


def _repeat(measured: Features, weights: Tensor, times: Indices) -> tuple[Features, Tensor]:
    """Repeat image i and its weight `times[i]` times."""
    counts = torch.from_numpy(times).to(weights.device)
    rows = torch.repeat_interleave(torch.arange(len(times), device=weights.device), counts)
    return Features(measured.features[rows], measured.logits[rows]), weights[rows]


def _to_tensors(statistics: RealStatistics) -> Tensors:
    tensors = {
        f"{name}.{key}": value.cpu()
        for name in SUMS
        for key, value in getattr(statistics, name).tensors().items()
    }
    return tensors | {key: getattr(statistics, key).cpu() for key in OTHERS}


def _from_tensors(tensors: Tensors) -> RealStatistics:
    def sums(name: str) -> Sums:
        return Sums(**{f.name: tensors[f"{name}.{f.name}"] for f in fields(Sums)})

    others = {key: tensors[key] for key in OTHERS}
    return RealStatistics(sums("sums"), sums("resampled"), **others)
