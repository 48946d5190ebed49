"""The streaming reader: plain WebDataset, shards drawn with replacement.

For sets too large to index or to cache. Its batches are statistical, not exact: they depend on
the number of processes and workers, and a resumed run goes on with other samples. WebDataset's
own decoders never run, since some of them unpickle.
"""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import webdataset as wds
from torch.utils.data import DataLoader

from ganscale.config import Data
from ganscale.data.reading.decode import decode_bytes
from ganscale.data.reading.readers import Batch
from ganscale.data.reading.workers import guarded, unguarded
from ganscale.data.shards.index import (
    IMAGE_MEMBERS,
    MAX_LABEL_BYTES,
    parse_label,
    refuse_compressed,
)
from ganscale.data.shards.manifest import Shard
from ganscale.data.shards.storage import expand_braces, is_remote, open_cache, open_storage
from ganscale.errors import GanscaleError
from ganscale.files import open_regular_file
from ganscale.randomness import torch_seed

SHUFFLE_SAMPLES = 2000  # held back to mix neighbours of a shard
MAX_EMPTY_SHARDS = 100
MAX_BAD_SAMPLES = 2 * SHUFFLE_SAMPLES

log = logging.getLogger("ganscale")


def stream(
    data: Data, image_shape: tuple[int, int, int], batch_size: int, seed: int, rank: int, step: int
) -> Iterator[Batch]:
    """Endless batches of `batch_size` images for one rank.

    The draw is seeded by (seed, rank, step, worker): a run resumed at `step` does not see the
    samples of its beginning again.
    """
    shards = shard_urls(data)
    watch = _Watch(data.path)
    draw = torch_seed(seed, f"streaming/rank{rank}", step) % 2**31

    def worker_seed() -> int:
        info = torch.utils.data.get_worker_info()
        return draw + (info.id if info else 0)

    def decoded(sample: dict[str, Any]) -> tuple[torch.Tensor, int]:
        image = _decode(sample, image_shape, data)
        watch.used()
        return image

    pipeline = wds.DataPipeline(
        wds.ResampledShards(list(shards), worker_seed=worker_seed, deterministic=True),
        watch.shards,
        _tar_opener(data, shards),
        watch.samples,
        wds.shuffle(SHUFFLE_SAMPLES, initial=SHUFFLE_SAMPLES // 4, seed=draw),
        wds.map(decoded, handler=_handler(data)),
        wds.batched(batch_size, collation_fn=_collate, partial=False),
        guarded,
    )
    loader = DataLoader(
        pipeline, batch_size=None, num_workers=data.workers, pin_memory=torch.cuda.is_available()
    )
    return unguarded(loader)


class _Watch:
    """Ends a stream that reads on and on and finds nothing that can be used."""

    def __init__(self, path: str):
        self._path = path
        self._empty_shards = 0
        self._bad_samples = 0

    def shards(self, source: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Counts shards as they are opened."""
        for shard in source:
            self._empty_shards += 1
            if self._empty_shards > MAX_EMPTY_SHARDS:
                raise GanscaleError(
                    f"{self._path}: no sample in {MAX_EMPTY_SHARDS} shards in a row"
                )
            yield shard

    def samples(self, source: Iterator[Any]) -> Iterator[Any]:
        """Begins to count anew with each sample; counts those in a row that are not used."""
        for sample in source:
            self._empty_shards = 0
            self._bad_samples += 1
            if self._bad_samples > MAX_BAD_SAMPLES:
                raise GanscaleError(
                    f"{self._path}: {MAX_BAD_SAMPLES:,} samples in a row cannot be used"
                )
            yield sample

    def used(self) -> None:
        """A sample was of use."""
        self._bad_samples = 0


def shard_urls(data: Data) -> dict[str, Shard | None]:
    """The shards of a manifest, or those that a brace pattern names, of which nothing is known."""
    if data.path.endswith(".tar") or data.path.startswith("pipe:"):
        return dict.fromkeys(expand_braces(data.path))
    storage = open_storage(data.path, data)
    return {str(storage.address(s.name)): s for s in storage.manifest().shards}


def _tar_opener(data: Data, shards: dict[str, Shard | None]) -> Callable[..., Any]:
    """From addresses to samples: through the cache, or by WebDataset's own opener without it."""
    handler = _handler(data)
    expand: Callable[..., Any] = wds.tarfile_to_samples(handler=handler)
    cache = open_cache(data)

    def local(source: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        for shard in source:
            url = shard["url"]
            if url.startswith("pipe:") or (is_remote(url) and data.cache == "none"):
                yield shard  # pipes are allowed by the config, which has been checked
            elif is_remote(url):
                known = shards[url]
                about = (known.bytes, known.sha256) if known else (None, None)
                yield from uncompressed(url, cache.fetch(url, *about))
            else:
                yield from uncompressed(url, Path(url))

    def uncompressed(url: str, path: Path) -> Iterator[dict[str, Any]]:
        """The file, unless WebDataset would inflate it without end, or wait on a pipe for ever."""
        try:
            with open_regular_file(path) as file:
                refuse_compressed(file.fileno())
        except (OSError, ValueError) as error:
            handler(ValueError(f"shard {url}: {error}"))
        else:
            yield {"url": str(path)}

    return lambda source: expand(local(source))


def _handler(data: Data) -> Callable[[Exception], bool]:
    """What becomes of a corrupt shard or sample."""

    def handle(error: Exception) -> bool:
        if data.on_error == "skip":
            log.warning("streaming reader, skipped: %s", " ".join(str(error).split()))
            return True
        raise GanscaleError(
            f"{data.path}: {' '.join(str(error).split())}; data.on_error=skip reads past it"
        ) from error

    return handle


def _decode(
    sample: dict[str, Any], shape: tuple[int, int, int], data: Data
) -> tuple[torch.Tensor, int]:
    for member in IMAGE_MEMBERS:
        if member in sample:
            image = decode_bytes(sample[member], shape, data.max_pixels, resize=True)
            text = sample.get("cls", b"-1")[:MAX_LABEL_BYTES]
            label = parse_label(text.decode().strip())
            if data.classes is not None and not 0 <= label < data.classes:
                known = f"0 … {data.classes - 1} (data.classes)"
                raise ValueError(f"sample '{sample['__key__']}': class {label} is none of {known}")
            return torch.from_numpy(image), label
    raise ValueError(f"sample '{sample['__key__']}' has no image ({', '.join(IMAGE_MEMBERS)})")


def _collate(samples: list[tuple[torch.Tensor, int]]) -> Batch:
    images, labels = zip(*samples, strict=True)
    return Batch(torch.stack(images), torch.tensor(labels))
