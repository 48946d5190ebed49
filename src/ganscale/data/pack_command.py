"""The `ganscale pack` command: progress, summary and contact sheet around `pack`."""

import argparse
import io
import os
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import Progress

from ganscale.data.manifest import OFFSET, SIZE, Manifest, index_path
from ganscale.data.pack import Packing, label_counts, pack
from ganscale.data.sources import open_source
from ganscale.errors import GanscaleError
from ganscale.monitoring.pictures import save_grid

SHEET = "contact-sheet.png"
SHEET_IMAGES = 100


def run(options: argparse.Namespace) -> None:
    """Pack as the command line says, and say what came of it."""
    folder: Path = options.folder
    if options.samples_per_shard < 1 or (options.size is not None and options.size < 1):
        raise GanscaleError("--size and --samples-per-shard are at least 1")
    root = options.data_root or os.environ.get("GANSCALE_DATA")
    source = open_source(
        options.source, Path(root) if root else None, options.split, options.download
    )
    packing = Packing(
        size=options.size,
        channels=options.channels,
        format=options.format,
        quality=options.quality,
        samples_per_shard=options.samples_per_shard,
        on_error=options.on_error,
    )
    console = Console(stderr=True)
    with Progress(console=console, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task(f"packing {source.description}", total=len(source))
        manifest, skipped = pack(
            source,
            folder,
            packing,
            options.processes,
            lambda done, total: progress.update(task, completed=done),
        )
    for message in skipped:
        print(f"skipped: {message}", file=sys.stderr)
    print(_summary(folder, manifest, len(skipped)))


def _summary(folder: Path, manifest: Manifest, skipped: int) -> str:
    """What the set is, in a few lines; writes the contact sheet that the last one names."""
    size = sum(shard.bytes for shard in manifest.shards)
    lines = [
        f"{folder}: {manifest.samples:,} images of {manifest.height}×{manifest.width}, "
        f"{manifest.channels} channel{'s' if manifest.channels > 1 else ''}, "
        f"{len(manifest.shards)} shard{'s' if len(manifest.shards) > 1 else ''}, "
        f"{size / 2**20:,.1f} MiB" + (f", {skipped:,} skipped" if skipped else "")
    ]
    counts = label_counts(folder, manifest)
    if counts:
        shown = ", ".join(f"{name} {n:,}" for name, n in list(counts.items())[:20])
        lines.append(f"classes: {shown}{', …' if len(counts) > 20 else ''}")
    sheet = folder / SHEET
    tar = folder / manifest.shards[0].name
    with tar.open("rb") as file:
        images = []
        for offset, size in np.load(index_path(tar))[:SHEET_IMAGES, [OFFSET, SIZE]].tolist():
            file.seek(offset)
            with Image.open(io.BytesIO(file.read(size))) as image:
                images.append(np.array(image).reshape(*image.size[::-1], -1))
    save_grid(np.stack(images), sheet)
    lines.append(f"contact sheet: {sheet}")
    return "\n".join(lines)
