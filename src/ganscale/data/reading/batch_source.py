"""The trainer's source of batches: exact batches of an indexed dataset, or a stream of shards."""

from collections.abc import Iterator

import torch
from torch import Tensor

from ganscale.config import Experiment
from ganscale.data.reading.image_set import ImageSet
from ganscale.data.reading.loader import BatchDataset, batches, shard_prefetcher
from ganscale.data.reading.readers import READERS, Batch, Reader, Stream
from ganscale.data.reading.resident import open_reader
from ganscale.engines.distributed import Ranks
from ganscale.errors import GanscaleError
from ganscale.registry import short_name


class BatchSource:
    """Provides this rank's part of every batch of a run."""

    def __init__(self, experiment: Experiment, ranks: Ranks, rows: range, device: torch.device):
        self._experiment = experiment
        self._ranks = ranks
        self._rows = rows
        data = experiment.data
        self._dataset: BatchDataset | None = None
        self._stream: Stream | None = None
        if data.reader != "auto" and issubclass(chosen := READERS.get(data.reader), Stream):
            name = short_name(data.reader)
            self._stream = chosen(data, experiment.image_shape)
            self.description = f"{name} reader: {data.path}, samples drawn at random"
            self.fingerprint = name
            return
        ranks.agree(self._open)
        self.fingerprint = self._images.fingerprint
        reader, self.description = open_reader(data, self._images, ranks, device)
        order = self._images.order(experiment.seed)
        size = experiment.train.batch_size
        self._dataset = BatchDataset(
            reader, order, size, rows, shard_prefetcher(data, self._images)
        )

    def _open(self) -> None:
        self._images = ImageSet(self._experiment.data)

    @property
    def in_memory(self) -> bool:
        """True if the whole dataset lies decoded in memory."""
        return self._dataset is not None and self._dataset.reader.in_memory

    def batches(self, first: int, last: int) -> Iterator[Batch]:
        """Return this rank's part of batches `first` … `last` - 1."""
        data = self._experiment.data
        if self._dataset is not None:
            return batches(self._dataset, first, last, data)
        assert self._stream is not None
        return self._stream.batches(len(self._rows), self._experiment.seed, self._ranks.rank, first)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes that a conditional run knows; empty if they are unknown."""
        if self._experiment.data.classes is None or self._dataset is None:
            return ()
        return self._images.classes

    def class_shares(self) -> Tensor | None:
        """Return the share of each class in the batches, (classes,), float64.

        Returns None for an unconditional run and for the streaming reader, which does not know.
        All ranks must call this; rank 0 reads the labels and sends the result to the others.
        """
        classes = self._experiment.data.classes
        if classes is None or self._dataset is None:
            return None
        is_main = self._ranks.is_main
        return self._ranks.agree(lambda: self._images.class_shares() if is_main else None)[0]

    def whole_set(self) -> tuple[ImageSet, Reader]:
        """Return the dataset and its reader, for a caller that needs all samples."""
        if self._dataset is None:
            raise GanscaleError(
                f"data.reader={self._experiment.data.reader} never sees the whole dataset, which "
                "FID compares with; set evaluation.every=null",
                every_rank=True,
            )
        return self._images, self._dataset.reader
