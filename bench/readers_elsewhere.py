"""litdata and MosaicML streaming for bench/data.py; it runs alone in MosaicML's environment.

PYTHON bench/readers_elsewhere.py LIBRARY FOLDER PLACE BATCH WORKERS    # prints samples a second
"""

import argparse
import io
import multiprocessing
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

DURATION_S = 2.0
WARM_BATCHES = 4


def rate(batches: Iterable[Any]) -> float:
    """Samples a second, after a few batches that start workers and fill caches."""
    stream = iter(batches)
    for _ in range(WARM_BATCHES):
        next(stream)
    samples, start = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < DURATION_S:
        samples += len(next(stream))
    return samples / elapsed


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _pixels(content: bytes) -> Any:
    import numpy as np
    import torch
    from PIL import Image

    image = np.array(Image.open(io.BytesIO(content)))
    return torch.from_numpy(image)


def _litdata_batches(folder: Path, place: Path, batch: int, workers: int) -> Iterator[Any]:
    """litdata: encoded bytes in its chunks, decoded by Pillow."""
    import litdata

    if not place.exists():
        litdata.optimize(
            fn=_content,
            inputs=list(map(str, files(folder))),
            output_dir=str(place),
            chunk_bytes="16MB",
            num_workers=1,
        )

    multiprocessing.set_start_method("fork", force=True)  # litdata has set spawn

    class Decoded(litdata.StreamingDataset):  # type: ignore[misc]
        def __getitem__(self, index: Any) -> Any:
            return _pixels(super().__getitem__(index))

    loader = litdata.StreamingDataLoader(
        Decoded(str(place), shuffle=True, drop_last=True), batch_size=batch, num_workers=workers
    )
    while True:
        yield from loader


def _content(path: str) -> bytes:
    return Path(path).read_bytes()


def _mosaic_batches(folder: Path, place: Path, batch: int, workers: int) -> Iterator[Any]:
    """MosaicML streaming: its own image types, decoded by Pillow."""
    import torch
    from streaming import MDSWriter, StreamingDataset

    kind = "bytes"
    if not place.exists():
        with MDSWriter(out=str(place), columns={"image": kind}) as writer:
            for path in files(folder):
                writer.write({"image": path.read_bytes()})

    class Decoded(StreamingDataset):  # type: ignore[misc]
        def __getitem__(self, index: Any) -> Any:
            return _pixels(super().__getitem__(index)["image"])

    dataset = Decoded(local=str(place), shuffle=True, batch_size=batch)
    loader = torch.utils.data.DataLoader(
        dataset, batch_size=batch, num_workers=workers, drop_last=True
    )
    while True:
        yield from loader


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("library", choices=("litdata", "mosaic"))
    parser.add_argument("folder", type=Path, help="of images, read")
    parser.add_argument("place", type=Path, help="where the library's own format goes")
    parser.add_argument("batch", type=int)
    parser.add_argument("workers", type=int)
    options = parser.parse_args()
    read = {"litdata": _litdata_batches, "mosaic": _mosaic_batches}[options.library]
    print(rate(read(options.folder, options.place, options.batch, options.workers)), flush=True)
    os._exit(0)  # workers and shared memory of others take long to close


if __name__ == "__main__":
    main()
