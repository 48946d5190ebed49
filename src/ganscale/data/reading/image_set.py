"""The set of a run as one thing: what it holds, in which order it is read, and through what."""

import hashlib
import json
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ganscale.config import Data, WeightedSet
from ganscale.data.reading.mixture import MixedOrder, Stratum, class_orders, mixing_shares
from ganscale.data.reading.order import Indices, Order, PartitionedOrder, ShuffledOrder
from ganscale.data.reading.readers import ConcatReader, IndexedReader, Reader
from ganscale.data.shards.manifest import Manifest
from ganscale.data.shards.storage import open_storage
from ganscale.errors import GanscaleError


class ImageSet:
    """One packed set, or several that are mixed."""

    def __init__(self, data: Data):
        self._data = data
        self._weighted: Sequence[WeightedSet] = data.mixture or [WeightedSet(path=data.path)]
        self.image_shape = (data.channels, data.resolution, data.resolution)
        self._readers: list[IndexedReader] = []
        for part in self._weighted:
            storage = open_storage(part.path, data)
            manifest = storage.manifest()
            if not manifest.fits(self.image_shape):
                raise GanscaleError(_misfit(part.path, manifest, data), every_rank=True)
            self._readers.append(
                IndexedReader(
                    manifest,
                    storage,
                    self.image_shape,
                    data.max_pixels,
                    skip=data.on_error == "skip",
                    classes=data.classes,
                    verify_shards=data.verify == "open",
                )
            )
        if data.classes is not None and len(self.classes) != data.classes:
            raise GanscaleError(
                f"data.classes={data.classes}: {data.path} has {len(self.classes) or 'no'} classes",
                every_rank=True,
            )

    @property
    def manifests(self) -> list[Manifest]:
        """Of each set."""
        return [reader.manifest for reader in self._readers]

    @property
    def samples(self) -> int:
        """Images of all sets."""
        return sum(manifest.samples for manifest in self.manifests)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes; none where mixed sets have different ones."""
        names = {manifest.classes for manifest in self.manifests}
        return names.pop() if len(names) == 1 else ()

    @property
    def fingerprint(self) -> str:
        """The same for the same data, wherever it lies."""
        return "-".join(manifest.fingerprint for manifest in self.manifests)

    @property
    def label_checksum(self) -> str:
        """The same for the same classes of the same samples: one tar may be indexed in two ways."""
        parts = [
            [manifest.classes, [shard.index_sha256 for shard in manifest.shards]]
            for manifest in self.manifests
        ]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    @property
    def description(self) -> str:
        """Where its images came from, and how often where that is not equally often."""
        sources = [manifest.source for manifest in self.manifests]
        if self._data.mixture:
            shares = mixing_shares([part.weight for part in self._weighted])
            return " and ".join(
                f"{s:.3g} of {name}" for s, name in zip(shares, sources, strict=True)
            )
        return sources[0] + (" with its classes balanced" if self._data.balance_classes else "")

    def class_shares(self) -> Tensor:
        """How often each class (classes,) is drawn while training, as a share; float64.

        Weighted as the mixture is; equal where `data.balance_classes` makes them so. Samples
        without a label do not count. Reads the index of every shard.
        """
        classes = len(self.classes)
        total = np.zeros(classes)
        for part, reader in zip(self._weighted, self._readers, strict=True):
            counts = np.zeros(classes)
            for shard in range(len(reader.manifest.shards)):
                labels = reader.labels(shard)
                counts += np.bincount(labels[labels >= 0], minlength=classes)
            total += part.weight * counts / max(1, counts.sum())
        if self._data.balance_classes:
            total = (total > 0).astype(np.float64)
        if not total.any():
            raise GanscaleError(
                f"data.classes={classes}: no sample of {self.description} has a class",
                every_rank=True,
            )
        return torch.from_numpy(total / total.sum())

    def order_of_all(self) -> Order:
        """Every sample of every set once an epoch, whatever the config says of mixing."""
        sizes = [shard.samples for manifest in self.manifests for shard in manifest.shards]
        return ShuffledOrder(0, sizes, self._data.block_shards)

    def strata(self) -> list[Stratum]:
        """What the config's mixing makes of the set: how often training draws which samples."""
        data = self._data
        if data.mixture:
            ends = np.cumsum([manifest.samples for manifest in self.manifests]).tolist()
            ranges = [range(*pair) for pair in zip([0, *ends], ends, strict=False)]
            shares = mixing_shares([part.weight for part in self._weighted])
            return list(map(Stratum, ranges, shares))
        if data.balance_classes:
            labels = np.concatenate(self._shard_labels())
            members = [np.flatnonzero(labels == c) for c in range(len(self.classes))]
            members = [numbers for numbers in members if len(numbers)]
            return list(map(Stratum, members, mixing_shares([1.0] * len(members))))
        return [Stratum(range(self.samples), 1.0)]

    def _shard_labels(self) -> list[Indices]:
        """The labels of each shard of a single set."""
        return [self._readers[0].labels(i) for i in range(len(self.manifests[0].shards))]

    def reader(self) -> Reader:
        """Reads any sample by its number, decoding it."""
        if len(self._readers) == 1:
            return self._readers[0]
        return ConcatReader(self._readers, [m.samples for m in self.manifests])

    def fetch(self, shard: int) -> None:
        """Bring a shard of a single set onto this node."""
        self._readers[0].fetch(shard)

    def order(self, seed: int) -> Order:
        """The order that the config asks for."""
        data = self._data
        sizes = [[shard.samples for shard in manifest.shards] for manifest in self.manifests]
        if data.mixture:
            orders = [
                ShuffledOrder(seed, part, data.block_shards, purpose=f"order/set{i}")
                for i, part in enumerate(sizes)
            ]
            firsts = np.cumsum([0] + [order.samples for order in orders[:-1]])
            weights = [part.weight for part in self._weighted]
            return MixedOrder(orders, weights, firsts.tolist())
        if data.balance_classes:
            by_class = class_orders(
                seed, self._shard_labels(), len(self.classes), data.block_shards
            )
            if not by_class:
                raise GanscaleError(
                    f"{data.path}: data.balance_classes=true, and the set has no labels",
                    every_rank=True,
                )
            return MixedOrder(by_class, [1.0] * len(by_class), [0] * len(by_class))
        if data.partitions > 1:
            return PartitionedOrder(seed, sizes[0], data.block_shards, data.partitions)
        return ShuffledOrder(seed, sizes[0], data.block_shards)


def _misfit(path: str, manifest: Manifest, data: Data) -> str:
    """Say how a set and an experiment differ, and both ways to make them agree."""
    pack, override = [], []
    if (manifest.height, manifest.width) != (data.resolution, data.resolution):
        pack.append(f"--size {data.resolution}")
        if manifest.height == manifest.width:
            override.append(f"data.resolution={manifest.height}")
    if manifest.channels != data.channels:
        pack.append(f"--channels {data.channels}")
        override.append(f"data.channels={manifest.channels}")
    mend = f"pack it anew with {' '.join(pack)}"
    if override:
        mend += f", or train with {' '.join(override)}"
    return (
        f"{path} holds {manifest.height}×{manifest.width} images of {manifest.channels} channels; "
        f"the experiment says data.resolution={data.resolution}, data.channels={data.channels}: "
        f"{mend}"
    )
