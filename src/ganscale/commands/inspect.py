"""Show what a packed dataset contains, and verify it."""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from ganscale.commands.arguments import location, path, positive
from ganscale.errors import GanscaleError
from ganscale.terminal import printable

if TYPE_CHECKING:
    from ganscale.data.shards.manifest import Manifest


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the dataset and what to do with it."""
    parser.add_argument("set", type=location, help="folder or address of a packed dataset")
    parser.add_argument("--sheet", type=path, help="FILE.png: the first images")
    parser.add_argument(
        "--verify", action="store_true", help="verify checksums and decode all samples"
    )
    parser.add_argument("--processes", type=positive, default=os.cpu_count() or 1)


def run(options: argparse.Namespace) -> int:
    """Print the summary; with --verify check everything, and return 1 if something is wrong."""
    from ganscale.config import Data
    from ganscale.data.inspection import summary, verify
    from ganscale.data.packing.copies import is_source
    from ganscale.data.shards.storage import open_storage

    data = Data(path=options.set)
    if is_source(options.set, data):
        raise GanscaleError(
            f"{options.set}: not packed; `ganscale configure {options.set}` describes the images, "
            "and a training packs them"
        )
    manifest = open_storage(options.set, data).manifest()
    print("\n".join(summary(options.set, manifest)))
    if options.sheet is not None:
        print(f"contact sheet: {write_sheet(options.set, manifest, options.sheet)}")
    if not options.verify:
        return 0
    faults = verify(options.set, manifest, options.processes)
    for fault in faults:
        print(f"FAULT {printable(fault)}")
    print(
        f"{len(faults):,} faults"
        if faults
        else f"all checksums match and all {manifest.samples:,} samples decode"
    )
    return int(bool(faults))


def write_sheet(location: str, manifest: "Manifest", target: Path) -> Path:
    """Write a grid of the dataset's first images to a file or into a folder; return its path."""
    from ganscale.data.inspection import first_images
    from ganscale.data.shards.manifest import SHEET
    from ganscale.monitoring.pictures import save_grid

    path = target / SHEET if target.is_dir() else target
    return save_grid(first_images(location, manifest), path)
