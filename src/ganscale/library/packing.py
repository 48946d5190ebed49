"""`ganscale.pack`: any images into a packed dataset."""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path
from typing import Literal, get_args

from ganscale.config.resolution import read_resolution
from ganscale.data.packing import pack as packing
from ganscale.data.packing.shard_writer import Packing
from ganscale.data.packing.sources import Source, open_source
from ganscale.errors import GanscaleError
from ganscale.library.dataset import Dataset
from ganscale.system_errors import explained

Crop = Literal["center", "none"]
Format = Literal["png", "jpg", "webp"]
OnError = Literal["raise", "skip"]

log = logging.getLogger("ganscale")


def pack(
    source: str | os.PathLike[str] | Source,
    folder: str | os.PathLike[str],
    *,
    size: int | tuple[int, int] | None = None,
    crop: Crop = "center",
    channels: int | None = None,
    bits: Literal[8, 16] | None = None,
    labels: str | os.PathLike[str] | None = None,
    format: Format = "png",
    quality: int = 95,
    samples_per_shard: int = 4096,
    on_error: OnError = "raise",
    split: str = "train",
    image_column: str | None = None,
    data_root: str | os.PathLike[str] | None = None,
    download: bool = False,
    processes: int = 1,
) -> Dataset:
    """Pack images into a folder, as `ganscale pack` does, and return the dataset.

    `source` is what the command takes, or an object of your own with `description`, `classes`,
    `len(source)`, `label(i)` and `image(i)`, such as `ArraySource` of arrays. The options are those
    of the command. A folder that was packed in the same way is left as it is, and an interrupted
    packing goes on.

    More `processes` than one need an `if __name__ == "__main__":` in a program, as all of Python's
    multiprocessing does. Raises `GanscaleError` with the message that the command prints.
    """
    kinds = {"crop": (crop, Crop), "format": (format, Format), "on_error": (on_error, OnError)}
    for name, (value, kind) in kinds.items():
        if value not in get_args(kind):
            raise GanscaleError(f"pack: {name}={value!r}: use {' or '.join(get_args(kind))}")
    target = Path(folder)
    root = data_root or os.environ.get("GANSCALE_DATA")
    workspace = target / packing.WORKSPACE
    with explained():
        if isinstance(source, str | os.PathLike):
            source = open_source(
                os.fspath(source),
                Path(root) if root else None,
                split,
                download,
                Path(labels) if labels is not None else None,
                workspace,
                image_column,
            )
        options = Packing(
            size=None if size is None else read_resolution(size),
            crop=crop,
            channels=channels,
            bits=bits,
            format=format,
            quality=quality,
            samples_per_shard=samples_per_shard,
            on_error=on_error,
        )
        _, summary = packing.pack(source, target, options, processes, lambda *_: None)
        shutil.rmtree(workspace, ignore_errors=True)
        for message in summary.skipped:
            log.warning("skipped: %s", message)
        return Dataset(target)
