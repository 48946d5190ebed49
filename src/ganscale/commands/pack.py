"""Pack images into WebDataset shards."""

import argparse
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ganscale.commands.arguments import location, path, positive, resolution
from ganscale.commands.inspect import write_sheet
from ganscale.data.packing.named_sources import SOURCES
from ganscale.errors import GanscaleError
from ganscale.terminal import printable

if TYPE_CHECKING:
    from ganscale.data.packing.shard_writer import PackingSummary


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the source, the folder, and how images become samples."""
    parser.add_argument(
        "source",
        type=location,
        help=f"{', '.join(SOURCES.built_in())}, a path, or my_file.py:my_source",
    )
    parser.add_argument("folder", type=path, help="where the shards go")
    parser.add_argument(
        "--size",
        type=resolution,
        metavar="SIDE|HEIGHTxWIDTH",
        help="in pixels, such as 64 or 64x96; resized with a Lanczos filter",
    )
    parser.add_argument(
        "--crop",
        choices=("center", "none"),
        default="center",
        help="to that aspect ratio: cut the centre out, or keep all and pad with black",
    )
    parser.add_argument("--labels", type=path, help="CSV or JSON: file name to class")
    parser.add_argument(
        "--channels", type=positive, help="1 grey, 3 RGB, 4 RGBA; of .npy and TIFF pages up to 64"
    )
    parser.add_argument("--bits", type=positive, choices=(8, 16), help="of a value")
    parser.add_argument("--format", choices=("png", "jpg", "webp"), default="png")
    parser.add_argument("--quality", type=positive, default=95, help="of JPEG, 1 to 100")
    parser.add_argument("--samples-per-shard", type=positive, default=4096)
    parser.add_argument("--on-error", choices=("raise", "skip"), default="raise")
    parser.add_argument("--processes", type=positive, default=os.cpu_count() or 1)
    parser.add_argument("--data-root", type=path, help="folder that holds torchvision's sets")
    parser.add_argument("--split", default="train", help="train, test or what the source has")
    parser.add_argument("--image-column", metavar="NAME", help="of a table with several of images")
    parser.add_argument(
        "--part", help="I/N: only every N-th shard; the last part to end merges all"
    )
    parser.add_argument("--download", action="store_true", help="let torchvision fetch it")


def run(options: argparse.Namespace) -> None:
    """Pack as the command line says, and print what came of it."""
    from rich.console import Console
    from rich.progress import Progress

    from ganscale.data.inspection import summary
    from ganscale.data.packing.pack import WORKSPACE, pack
    from ganscale.data.packing.shard_writer import Packing
    from ganscale.data.packing.sources import open_source

    folder: Path = options.folder
    root = options.data_root or os.environ.get("GANSCALE_DATA")
    source = open_source(
        options.source,
        Path(root) if root else None,
        options.split,
        options.download,
        options.labels,
        folder / WORKSPACE,
        options.image_column,
    )
    packing = Packing(
        size=options.size,
        crop=options.crop,
        channels=options.channels,
        bits=options.bits,
        format=options.format,
        quality=options.quality,
        samples_per_shard=options.samples_per_shard,
        on_error=options.on_error,
    )
    console = Console(stderr=True)
    with Progress(console=console, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task(_task(source.description), total=len(source))
        manifest, packed = pack(
            source,
            folder,
            packing,
            options.processes,
            lambda done, total: progress.update(task, completed=done, total=total),
            _part(options.part),
        )
    if manifest is None:
        print("\n".join([f"part {options.part} of {folder} is packed", *_met(packed)]))
        return
    shutil.rmtree(folder / WORKSPACE, ignore_errors=True)
    print("\n".join([*summary(str(folder), manifest), *_met(packed)]))
    print(f"contact sheet: {write_sheet(str(folder), manifest, folder)}")


def _task(name: str) -> str:
    """Return what the progress bar says: a name may look like rich's markup."""
    from rich.markup import escape

    return f"packing {escape(printable(name))}"


def _part(text: str | None) -> tuple[int, int]:
    """Read `I/N`: part I, from 0, of N."""
    if text is None:
        return 0, 1
    number, _, parts = text.partition("/")
    decimal = text.isascii() and number.isdecimal() and parts.isdecimal() and len(text) < 20
    if not decimal or int(number) >= int(parts):
        raise GanscaleError(f"--part {text[:40]}: must be I/N, with I from 0 to N - 1")
    return int(number), int(parts)


def _met(packed: "PackingSummary") -> list[str]:
    """Say what was converted and what was skipped; a stranger's names stand in these lines."""
    lines = []
    if packed.conversions:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in packed.conversions.most_common())
        lines.append(f"converted: {kinds}")
    lines += [f"skipped: {message}" for message in packed.skipped]
    return [printable(line) for line in lines]
