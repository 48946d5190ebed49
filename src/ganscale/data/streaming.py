"""The streaming reader: plain WebDataset, shards drawn with replacement.

For sets too large to index or to cache. Its batches are statistical, not exact: they depend on
the number of processes and workers, and a resumed run goes on with other samples. WebDataset's
own decoders never run, since some of them unpickle.
"""

import logging
from collections.abc import Callable, Iterator
from typing import Any

import torch
import webdataset as wds
from torch.utils.data import DataLoader

from ganscale.config import Data
from ganscale.data.decode import decode_bytes
from ganscale.data.manifest import IMAGE_MEMBERS
from ganscale.data.reader import Batch
from ganscale.data.storage import is_remote, open_cache, open_storage
from ganscale.errors import GanscaleError
from ganscale.randomness import torch_seed

SHUFFLE_SAMPLES = 2000  # held back to mix neighbours of a shard

log = logging.getLogger("ganscale")


def stream(
    data: Data, image_shape: tuple[int, int, int], batch_size: int, seed: int, rank: int, step: int
) -> Iterator[Batch]:
    """Endless batches of `batch_size` images for one rank.

    The draw is seeded by (seed, rank, step, worker): a run resumed at `step` does not see the
    samples of its beginning again.
    """
    urls = shard_urls(data)
    draw = torch_seed(seed, f"streaming/rank{rank}", step) % 2**31

    def worker_seed() -> int:
        info = torch.utils.data.get_worker_info()
        return draw + (info.id if info else 0)

    def decoded(sample: dict[str, Any]) -> tuple[torch.Tensor, int]:
        return _decode(sample, image_shape, data)

    pipeline = wds.DataPipeline(
        wds.ResampledShards(urls, worker_seed=worker_seed, deterministic=True),
        _tar_opener(data),
        wds.shuffle(SHUFFLE_SAMPLES, initial=SHUFFLE_SAMPLES // 4, seed=draw),
        wds.map(decoded, handler=_handler(data)),
        wds.batched(batch_size, collation_fn=_collate, partial=False),
    )
    loader = DataLoader(
        pipeline, batch_size=None, num_workers=data.workers, pin_memory=torch.cuda.is_available()
    )
    return iter(loader)


def shard_urls(data: Data) -> list[str]:
    """The shards of a manifest, or those that a brace pattern names."""
    if data.path.endswith(".tar") or data.path.startswith("pipe:"):
        urls: list[str] = wds.shardlists.expand_urls(data.path)
        return urls
    manifest = open_storage(data.path, data).manifest()
    base = data.path.rstrip("/")
    return [s.name if is_remote(s.name) else f"{base}/{s.name}" for s in manifest.shards]


def _tar_opener(data: Data) -> Callable[..., Any]:
    """From addresses to samples: through the cache, or by WebDataset's own opener without it."""
    handler = _handler(data)
    expand: Callable[..., Any] = wds.tarfile_to_samples(handler=handler)
    if data.cache == "none":
        return expand
    cache = open_cache(data)

    def local(source: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        for shard in source:
            url = shard["url"]
            if url.startswith("pipe:"):
                yield shard  # allowed by the config, which has been checked
            else:
                yield {"url": str(cache.fetch(url)) if is_remote(url) else url}

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
            label = int(sample["cls"]) if "cls" in sample else -1
            if data.classes is not None and not 0 <= label < data.classes:
                known = f"0 … {data.classes - 1} (data.classes)"
                raise ValueError(f"sample '{sample['__key__']}': class {label} is none of {known}")
            return image, label
    raise ValueError(f"sample '{sample['__key__']}' has no image ({', '.join(IMAGE_MEMBERS)})")


def _collate(samples: list[tuple[torch.Tensor, int]]) -> Batch:
    images, labels = zip(*samples, strict=True)
    return Batch(torch.stack(images), torch.tensor(labels))
