"""The `ganscale pack` command: progress, summary and contact sheet around `pack`."""

import argparse
import os
import sys
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress

from ganscale.commands.inspect import summary, write_sheet
from ganscale.data.packing.pack import Packing, PackingSummary, pack
from ganscale.data.packing.sources import open_source
from ganscale.errors import GanscaleError
from ganscale.terminal import printable


def run(options: argparse.Namespace) -> None:
    """Pack as the command line says, and say what came of it."""
    folder: Path = options.folder
    root = options.data_root or os.environ.get("GANSCALE_DATA")
    source = open_source(
        options.source,
        Path(root) if root else None,
        options.split,
        options.download,
        options.labels,
    )
    packing = Packing(
        size=options.size,
        crop=options.crop,
        channels=options.channels,
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
    print("\n".join([*summary(str(folder), manifest, folder), *_met(packed)]))
    print(f"contact sheet: {write_sheet(str(folder), manifest, folder)}")


def _task(name: str) -> str:
    """What the progress bar says: a name may look like rich's markup."""
    return f"packing {escape(printable(name))}"


def _part(text: str | None) -> tuple[int, int]:
    """`I/N`: part I, from 0, of N."""
    if text is None:
        return 0, 1
    number, _, parts = text.partition("/")
    decimal = text.isascii() and number.isdecimal() and parts.isdecimal() and len(text) < 20
    if not decimal or int(number) >= int(parts):
        raise GanscaleError(f"--part {text[:40]}: must be I/N, with I from 0 to N - 1")
    return int(number), int(parts)


def _met(packed: PackingSummary) -> list[str]:
    """Lines on what was converted and what was skipped, in which a stranger's names stand."""
    lines = []
    if packed.conversions:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in packed.conversions.most_common())
        lines.append(f"converted: {kinds}")
    lines += [f"skipped: {message}" for message in packed.skipped]
    return [printable(line) for line in lines]
