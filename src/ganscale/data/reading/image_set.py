"""The dataset of a run as one object: its properties, the order of its samples, and its reader."""

import hashlib
import json
from collections.abc import Sequence
from math import prod

import numpy as np
import torch
from torch import Tensor

from ganscale.config import Data, WeightedSet
from ganscale.config.resolution import write_resolution
from ganscale.data.reading.mixture import MixedOrder, Stratum, class_orders, mixing_shares
from ganscale.data.reading.order import Indices, Order, PartitionedOrder, ShuffledOrder
from ganscale.data.reading.readers import ConcatReader, IndexedReader, Reader
from ganscale.data.shards.manifest import Manifest
from ganscale.data.shards.storage import open_storage
from ganscale.errors import GanscaleError


class ImageSet:
    """One packed dataset, or a mixture of several."""

    def __init__(self, data: Data):
        self._data = data
        self._weighted: Sequence[WeightedSet] = data.mixture or [WeightedSet(path=data.path)]
        self.image_shape = (data.channels, *data.size)
        self.bits = data.bits
        self._readers: list[IndexedReader] = []
        for part in self._weighted:
            storage = open_storage(part.path, data)
            manifest = storage.manifest()
            if not manifest.fits(self.image_shape, self.bits):
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
    def image_bytes(self) -> int:
        """The number of bytes of a decoded image."""
        return prod(self.image_shape) * self.bits // 8

    @property
    def manifests(self) -> list[Manifest]:
        """The manifest of each dataset."""
        return [reader.manifest for reader in self._readers]

    @property
    def samples(self) -> int:
        """The number of images in all datasets."""
        return sum(manifest.samples for manifest in self.manifests)

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes; empty if mixed datasets have different ones."""
        names = {manifest.classes for manifest in self.manifests}
        return names.pop() if len(names) == 1 else ()

    @property
    def fingerprint(self) -> str:
        """An identifier of the data, independent of where it is stored."""
        return "-".join(manifest.fingerprint for manifest in self.manifests)

    @property
    def label_checksum(self) -> str:
        """An identifier of the classes and labels, since one tar can be indexed in several ways."""
        parts = [
            [manifest.classes, [shard.index_sha256 for shard in manifest.shards]]
            for manifest in self.manifests
        ]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    @property
    def description(self) -> str:
        """Where the images came from, and how they are weighted."""
        sources = [manifest.source for manifest in self.manifests]
        if self._data.mixture:
            shares = mixing_shares([part.weight for part in self._weighted])
            return " and ".join(
                f"{s:.3g} of {name}" for s, name in zip(shares, sources, strict=True)
            )
        return sources[0] + (" with its classes balanced" if self._data.balance_classes else "")

    def class_shares(self) -> Tensor:
        """Return the share of each class in the samples that training draws: (classes,), float64.

        The shares follow the weights of a mixture, and are equal with `data.balance_classes`.
        Samples without a label do not count. This reads the index of every shard.
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
                f"data.classes={classes}: no sample of {self.description} has a label",
                every_rank=True,
            )
        return torch.from_numpy(total / total.sum())

    def order_of_all(self) -> Order:
        """Return an order with every sample once per epoch, whatever the config says on mixing."""
        sizes = [shard.samples for manifest in self.manifests for shard in manifest.shards]
        return ShuffledOrder(0, sizes, self._data.block_shards)

    def strata(self) -> list[Stratum]:
        """Return the groups of samples that training draws equally often, and their shares."""
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

    def labels(self) -> Indices:
        """Return the label of each sample, -1 for none: (samples,).

        This reads the index of every shard.
        """
        parts = [
            reader.labels(shard)
            for reader in self._readers
            for shard in range(len(reader.manifest.shards))
        ]
        return np.concatenate(parts)

    def _shard_labels(self) -> list[Indices]:
        """Return the labels of each shard of a single dataset."""
        return [self._readers[0].labels(i) for i in range(len(self.manifests[0].shards))]

    def reader(self) -> Reader:
        """Return a reader that decodes any sample, given its number."""
        if len(self._readers) == 1:
            return self._readers[0]
        return ConcatReader(self._readers, [m.samples for m in self.manifests])

    def fetch(self, shard: int) -> None:
        """Download a shard of a single dataset to this node, if need be."""
        self._readers[0].fetch(shard)

    def order(self, seed: int) -> Order:
        """Return the order of the samples that the config asks for."""
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
                    f"{data.path}: data.balance_classes=true, but the dataset has no labels",
                    every_rank=True,
                )
            return MixedOrder(by_class, [1.0] * len(by_class), [0] * len(by_class))
        if data.partitions > 1:
            return PartitionedOrder(seed, sizes[0], data.block_shards, data.partitions)
        return ShuffledOrder(seed, sizes[0], data.block_shards)


def _misfit(path: str, manifest: Manifest, data: Data) -> str:
    """Return a message on how dataset and experiment differ, and both ways to make them agree."""
    pack, override = [], []
    wanted = write_resolution(*data.size)
    if manifest.height is not None and manifest.width is not None:
        packed = write_resolution(manifest.height, manifest.width)
        if packed != wanted:
            pack.append(f"--size {wanted}")
            override.append(f"data.resolution={packed}")
    if manifest.channels != data.channels:
        pack.append(f"--channels {data.channels}")
        override.append(f"data.channels={manifest.channels}")
    if manifest.bits != data.bits:
        pack.append(f"--bits {data.bits}")
        override.append(f"data.bits={manifest.bits}")
    remedy = f"pack it again with {' '.join(pack)}, or train with {' '.join(override)}"
    channels = f"{manifest.channels} channel{'s' if manifest.channels > 1 else ''}"
    depth = f" of {manifest.bits} bits" if manifest.bits != data.bits else ""
    said = f"data.resolution={wanted}, data.channels={data.channels}"
    if depth:
        said += f", data.bits={data.bits}"
    if manifest.has_mixed_sizes:
        return (
            f"{path} holds images of different sizes, which are read as 1 or 3 channels of 8 bits, "
            f"but the experiment says {said}: pack it again with {' '.join(pack)}"
        )
    return (
        f"{path} holds {manifest.height}×{manifest.width} images with {channels}{depth}, but the "
        f"experiment says {said}: "
        f"{remedy}"
    )
