"""Samples a second of ganscale's readers against other ways to read the same images.

    python bench/data.py --mnist ROOT --cifar10 test.zip [--json FILE] [--mosaic-python PYTHON]

ROOT holds torchvision's MNIST/raw; the zip holds class folders. Without them the digits inside
scikit-learn, repeated, stand in. The 256-pixel JPEGs are made here. All readers give shuffled
uint8 batches of 128 in one run, one after another in rounds; each figure is the median of the
rounds. litdata is measured where it is installed; MosaicML streaming, which wants an older numpy,
in the environment of `--mosaic-python`.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
import webdataset as wds
from readers_elsewhere import DURATION_S, rate
from rich.console import Console
from rich.table import Table
from torch.utils.data import DataLoader
from torchvision.io import ImageReadMode, decode_image

from ganscale.config import Data
from ganscale.data.packing.named_sources import digits_source
from ganscale.data.packing.pack import pack
from ganscale.data.packing.shard_writer import Packing
from ganscale.data.packing.sources import ArraySource, Source, open_source
from ganscale.data.reading.image_set import ImageSet
from ganscale.data.reading.loader import BatchDataset, batches
from ganscale.data.reading.resident import open_reader
from ganscale.data.shards.index import OFFSET, SIZE
from ganscale.data.shards.manifest import load_manifest
from ganscale.engines.distributed import Ranks

BATCH = 128
ROUNDS = 3
JPEGS, JPEG_SIDE = 1500, 256
WORKERS = (0, 1, 2)
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Set:
    """A packed set, and the same encoded bytes as a folder of files."""

    name: str
    packed: Path
    folder: Path
    shape: tuple[int, int, int]


def main() -> None:
    options = _options()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(dir=options.work) as work:
        for images in prepared(Path(work), options):
            candidates = dict(_candidates(images, options, Path(work)))
            rates: dict[tuple[str, int], list[float]] = {}
            for _ in range(options.rounds):
                for key, measure in candidates.items():
                    rates.setdefault(key, []).append(measure())
            for (reader, workers), found in rates.items():
                row = {"set": images.name, "reader": reader, "workers": workers}
                rows.append({**row, "samples_per_second": statistics.median(found)})
            _show(images.name, rows)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mnist", type=Path, help="folder that holds torchvision's MNIST/raw")
    parser.add_argument("--cifar10", type=Path, help="zip of class folders")
    parser.add_argument("--mosaic-python", help="an interpreter with mosaicml-streaming")
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--work", type=Path, help="folder for temporary files")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    return parser.parse_args()


# -- the sets --------------------------------------------------------------------------------


def prepared(work: Path, options: argparse.Namespace) -> Iterator[Set]:
    """The three sets, packed."""
    mnist: Source = open_source("mnist", options.mnist) if options.mnist else _repeated_digits()
    yield _packed(work, "MNIST 28×28 PNG", mnist, Packing(size=28))
    if options.cifar10:
        source = open_source(str(options.cifar10))
        yield _packed(work, "CIFAR-10 32×32 PNG", source, Packing(size=32))
    jpegs = Packing(format="jpg", quality=90, samples_per_shard=250)
    yield _packed(work, "256×256 JPEG", _photographs(), jpegs)


def _packed(work: Path, name: str, source: Source, packing: Packing) -> Set:
    place = work / name.split()[0]
    manifest, _ = pack(source, place / "packed", packing, 2, lambda *_: None)
    folder = place / "folder" / "class"
    folder.mkdir(parents=True)
    for number, content in enumerate(islice(_encoded(place / "packed"), 5000)):
        (folder / f"{number:06d}.{packing.format}").write_bytes(content)
    assert manifest.height is not None
    assert manifest.width is not None
    shape = (manifest.channels, manifest.height, manifest.width)
    return Set(name, place / "packed", folder.parent, shape)


def _encoded(packed: Path) -> Iterator[bytes]:
    """The encoded images of a packed set."""
    for shard in load_manifest(packed).shards:
        content = (packed / shard.name).read_bytes()
        for offset, size in np.load(packed / shard.index_name)[:, [OFFSET, SIZE]].tolist():
            yield content[offset : offset + size]


def _repeated_digits() -> Source:
    digits = digits_source()
    small = np.stack([np.asarray(digits.image(i)) for i in range(len(digits))])
    return ArraySource("digits", np.tile(small, (20, 1, 1)), np.zeros(20 * len(digits), np.int64))


def _photographs() -> Source:
    """Colour noise at all scales, which compresses about as photographs do."""
    generator = torch.Generator().manual_seed(0)
    images = torch.zeros(JPEGS, 3, JPEG_SIDE, JPEG_SIDE)
    for side in (4, 16, 64, 256):
        noise = torch.randn(JPEGS, 3, side, side, generator=generator) * (16 / side) ** 0.5
        for start in range(0, JPEGS, 100):
            images[start : start + 100] += torch.nn.functional.interpolate(
                noise[start : start + 100], size=JPEG_SIDE, mode="bilinear"
            )
    pixels = (images * 40 + 128).clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()
    return ArraySource("noise", pixels, np.arange(JPEGS) % 2)


# -- the readers -----------------------------------------------------------------------------

Measure = Callable[[], float]


def _candidates(
    images: Set, options: argparse.Namespace, work: Path
) -> Iterator[tuple[tuple[str, int], Measure]]:
    """Reader and workers, and what measures them."""
    yield ("bare decoding", 0), partial(_decoding_rate, images)
    elsewhere = {"litdata": sys.executable} if find_spec("litdata") else {}
    if options.mosaic_python:
        elsewhere["mosaic"] = options.mosaic_python
    resident = _ours(images, "resident", 0)
    yield ("resident", 0), lambda: rate(resident())
    for workers in WORKERS:
        yield ("indexed", workers), lambda w=workers: rate(_ours(images, "indexed", w)())
        yield ("WebDataset", workers), lambda w=workers: rate(_webdataset(images, w))
        yield ("torchvision", workers), lambda w=workers: rate(_torchvision(images, options, w))
        for kind, python in elsewhere.items():
            place = work / kind / images.name.split()[0]
            yield (kind, workers), partial(_rate_elsewhere, kind, python, images, place, workers)


def _decoding_rate(images: Set) -> float:
    """One process that only decodes, from memory, by torchvision's decoder."""
    contents = list(islice(_encoded(images.packed), 5000))
    buffers = [torch.frombuffer(bytearray(content), dtype=torch.uint8) for content in contents]
    mode = ImageReadMode.GRAY if images.shape[0] == 1 else ImageReadMode.RGB
    decoded, start = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < DURATION_S:
        for buffer in buffers[decoded % len(buffers) :][:BATCH]:
            decode_image(buffer, mode)
            decoded += 1
    return decoded / elapsed


def _ours(images: Set, reader: str, workers: int) -> Callable[[], Iterable[torch.Tensor]]:
    channels, resolution, _ = images.shape
    data = Data.model_validate(
        {
            "path": str(images.packed),
            "reader": reader,
            "workers": workers,
            "channels": channels,
            "resolution": resolution,
        }
    )
    image_set = ImageSet(data)
    opened, _ = open_reader(data, image_set, Ranks(), CPU)
    dataset = BatchDataset(opened, image_set.order(0), BATCH, range(BATCH))
    return lambda: (batch.images for batch in batches(dataset, 0, 10**6, data))


def _decoded_member(sample: dict[str, Any], mode: ImageReadMode) -> torch.Tensor:
    content = sample.get("png") or sample["jpg"]
    return decode_image(torch.frombuffer(bytearray(content), dtype=torch.uint8), mode)


def _webdataset(images: Set, workers: int) -> Iterable[torch.Tensor]:
    """As its documentation has it, with torchvision's decoder."""
    mode = ImageReadMode.GRAY if images.shape[0] == 1 else ImageReadMode.RGB
    shards = sorted(map(str, images.packed.glob("*.tar")))
    dataset = (
        wds.WebDataset(shards, resampled=True, empty_check=False)
        .shuffle(1000)
        .map(partial(_decoded_member, mode=mode))
        .batched(BATCH, collation_fn=torch.stack)
    )
    return DataLoader(dataset, batch_size=None, num_workers=workers)


def _torchvision(images: Set, options: argparse.Namespace, workers: int) -> Iterator[torch.Tensor]:
    """torchvision's MNIST, or its ImageFolder, with ToTensor in a DataLoader."""
    transform = torchvision.transforms.ToTensor()
    if images.name.startswith("MNIST") and options.mnist:
        dataset = torchvision.datasets.MNIST(str(options.mnist), transform=transform)
    else:
        dataset = torchvision.datasets.ImageFolder(str(images.folder), transform=transform)
    loader = DataLoader(dataset, BATCH, shuffle=True, num_workers=workers, drop_last=True)
    while True:
        for pixels, _ in loader:
            yield pixels


def _rate_elsewhere(kind: str, python: str, images: Set, place: Path, workers: int) -> float:
    script = Path(__file__).with_name("readers_elsewhere.py")
    line = [python, str(script), kind, str(images.folder), str(place), str(BATCH), str(workers)]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{kind} could not be measured:\n{done.stderr}")
    return float(done.stdout.split()[-1])


def _show(name: str, rows: list[dict[str, Any]]) -> None:
    table = Table("reader", *(f"{w} workers" for w in WORKERS), title=f"{name}, samples/s")
    found = {(r["reader"], r["workers"]): r["samples_per_second"] for r in rows if r["set"] == name}
    for reader in dict.fromkeys(reader for reader, _ in found):
        cells = (f"{found[reader, w]:,.0f}" if (reader, w) in found else "" for w in WORKERS)
        table.add_row(reader, *cells)
    Console().print(table)


if __name__ == "__main__":
    main()
