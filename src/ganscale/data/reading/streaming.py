"""The streaming reader: plain WebDataset, with shards drawn with replacement.

It is meant for datasets that are too large to index or to cache. Its batches are random, not
exact: they depend on the number of processes and workers, and a resumed run continues with other
samples. WebDataset's own decoders never run, because some of them unpickle.
"""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import webdataset as wds
from torch.utils.data import DataLoader

from ganscale import devices
from ganscale.config import Data
from ganscale.data.reading.decode import decode_bytes
from ganscale.data.reading.readers import READERS, Batch, Stream
from ganscale.data.reading.workers import guard_items, reraise_errors
from ganscale.data.shards.index import (
    IMAGE_MEMBERS,
    MAX_LABEL_BYTES,
    parse_label,
    refuse_compressed,
)
from ganscale.data.shards.manifest import Shard
from ganscale.data.shards.storage import expand_braces, is_remote, open_cache, open_storage
from ganscale.errors import GanscaleError, in_one_line
from ganscale.files import open_regular_file
from ganscale.randomness import torch_seed

SHUFFLE_SAMPLES = 2000  # the size of the shuffle buffer
MAX_EMPTY_SHARDS = 100
MAX_BAD_SAMPLES = 2 * SHUFFLE_SAMPLES

log = logging.getLogger("ganscale")


@READERS.register("streaming")
class StreamingReader(Stream):
    """Draws shards with replacement, and shuffles their samples in a buffer."""

    def __init__(self, data: Data, image_shape: tuple[int, int, int]):
        self._data = data
        self._image_shape = image_shape

    def batches(self, batch_size: int, seed: int, rank: int, step: int) -> Iterator[Batch]:
        """Return an endless iterator over batches of one rank, of which the first is `step`."""
        return stream(self._data, self._image_shape, batch_size, seed, rank, step)


def stream(
    data: Data, image_shape: tuple[int, int, int], batch_size: int, seed: int, rank: int, step: int
) -> Iterator[Batch]:
    """Return an endless iterator over batches of `batch_size` images for one rank.

    The draw is seeded by (seed, rank, step, worker), so a run resumed at `step` does not start
    with the samples of step 0 again.
    """
    shards = shard_urls(data)
    watchdog = _Watchdog(data.path)
    draw = torch_seed(seed, f"streaming/rank{rank}", step) % 2**31

    def worker_seed() -> int:
        info = torch.utils.data.get_worker_info()
        return draw + (info.id if info else 0)

    def decode(sample: dict[str, Any]) -> tuple[torch.Tensor, int]:
        image = _decode(sample, image_shape, data)
        watchdog.note_usable_sample()
        return image

    pipeline = wds.DataPipeline(
        wds.ResampledShards(list(shards), worker_seed=worker_seed, deterministic=True),
        watchdog.watch_shards,
        _tar_opener(data, shards),
        watchdog.watch_samples,
        wds.shuffle(SHUFFLE_SAMPLES, initial=SHUFFLE_SAMPLES // 4, seed=draw),
        wds.map(decode, handler=_error_handler(data)),
        wds.batched(batch_size, collation_fn=_collate, partial=False),
        guard_items,
    )
    loader = DataLoader(
        pipeline, batch_size=None, num_workers=data.workers, pin_memory=devices.pins_memory()
    )
    return reraise_errors(loader)


class _Watchdog:
    """Stops a stream that reads endlessly without finding a usable sample."""

    def __init__(self, path: str):
        self._path = path
        self._empty_shards = 0
        self._bad_samples = 0

    def watch_shards(self, source: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Pass on shards; raise `GanscaleError` if too many in a row have no samples."""
        for shard in source:
            self._empty_shards += 1
            if self._empty_shards > MAX_EMPTY_SHARDS:
                raise GanscaleError(
                    f"{self._path}: no sample in {MAX_EMPTY_SHARDS} shards in a row"
                )
            yield shard

    def watch_samples(self, source: Iterator[Any]) -> Iterator[Any]:
        """Pass on samples; raise `GanscaleError` if too many in a row turn out unusable."""
        for sample in source:
            self._empty_shards = 0
            self._bad_samples += 1
            if self._bad_samples > MAX_BAD_SAMPLES:
                raise GanscaleError(
                    f"{self._path}: {MAX_BAD_SAMPLES:,} samples in a row cannot be used"
                )
            yield sample

    def note_usable_sample(self) -> None:
        """Start to count unusable samples from zero."""
        self._bad_samples = 0


def shard_urls(data: Data) -> dict[str, Shard | None]:
    """Return the shards of a manifest, or those of a brace pattern with None for each."""
    if data.path.endswith(".tar") or data.path.startswith("pipe:"):
        return dict.fromkeys(expand_braces(data.path))
    storage = open_storage(data.path, data)
    return {str(storage.address(s.name)): s for s in storage.manifest().shards}


def _tar_opener(data: Data, shards: dict[str, Shard | None]) -> Callable[..., Any]:
    """Return a function from shards to samples: through the cache, or else WebDataset's own."""
    handler = _error_handler(data)
    read_tars: Callable[..., Any] = wds.tarfile_to_samples(handler=handler)
    cache = open_cache(data)

    def fetch(source: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        for shard in source:
            url = shard["url"]
            if url.startswith("pipe:") or (is_remote(url) and data.cache == "none"):
                yield shard  # the config has been checked: it allows this pipe
            elif is_remote(url):
                known = shards[url]
                size, sha256 = (known.bytes, known.sha256) if known else (None, None)
                yield from check(url, cache.fetch(url, size, sha256))
            else:
                yield from check(url, Path(url))

    def check(url: str, path: Path) -> Iterator[dict[str, Any]]:
        """Yield the file, unless WebDataset would decompress it endlessly or wait on a pipe."""
        try:
            with open_regular_file(path) as file:
                refuse_compressed(file.fileno())
        except (OSError, ValueError) as error:
            handler(ValueError(f"shard {url}: {error}"))
        else:
            yield {"url": str(path)}

    return lambda source: read_tars(fetch(source))


def _error_handler(data: Data) -> Callable[[Exception], bool]:
    """Return WebDataset's handler for a corrupt shard or sample: skip it, or raise."""

    def handle(error: Exception) -> bool:
        if data.on_error == "skip":
            log.warning("streaming reader, skipped: %s", in_one_line(error))
            return True
        raise GanscaleError(
            f"{data.path}: {' '.join(str(error).split())}; set data.on_error=skip to skip it"
        ) from error

    return handle


def _decode(
    sample: dict[str, Any], shape: tuple[int, int, int], data: Data
) -> tuple[torch.Tensor, int]:
    for member in IMAGE_MEMBERS:
        if member in sample:
            image = decode_bytes(sample[member], shape, data.max_pixels, True, data.bits)
            text = sample.get("cls", b"-1")[:MAX_LABEL_BYTES]
            label = parse_label(text.decode().strip())
            if data.classes is not None and not 0 <= label < data.classes:
                raise ValueError(
                    f"sample '{sample['__key__']}': class {label} is not in "
                    f"0 … {data.classes - 1} (data.classes)"
                )
            return torch.from_numpy(image), label
    raise ValueError(f"sample '{sample['__key__']}' has no image ({', '.join(IMAGE_MEMBERS)})")


def _collate(samples: list[tuple[torch.Tensor, int]]) -> Batch:
    images, labels = zip(*samples, strict=True)
    return Batch(torch.stack(images), torch.tensor(labels))
