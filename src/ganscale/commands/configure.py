"""Look at a folder of images and write an experiment for them."""

import argparse
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from ganscale.commands.arguments import location, path
from ganscale.errors import GanscaleError
from ganscale.terminal import printable

if TYPE_CHECKING:
    from rich.table import Table

    from ganscale.data.packing.file_sources import FileSource
    from ganscale.data.survey import Survey
    from ganscale.training.recipe_file import ExperimentFile, Machine

SHOWN = 5  # names of a kind


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the images and the file to write."""
    parser.add_argument("source", type=location, help="folder, zip or tar of images")
    parser.add_argument("--out", type=path, metavar="FILE.yaml", help="(named after the source)")


def run(options: argparse.Namespace) -> None:
    """Print what the images are, write the experiment, and print how to train it."""
    from rich.console import Console

    from ganscale.data.survey import survey
    from ganscale.files import write_output
    from ganscale.monitoring.progress import counted, set_up_logging
    from ganscale.training.recipe_file import compose, name_of, note_time

    set_up_logging(rank=0)
    target: Path = options.out or Path(f"{name_of(options.source)}.yaml")
    if target.exists():
        raise GanscaleError(f"{target} exists and is not overwritten; name another file with --out")
    source = _open(options.source)
    found = survey(source, counted)
    console = Console(width=max(100, shutil.get_terminal_size().columns), highlight=False)
    console.print(_table(found))
    if not len(found.sizes):
        raise GanscaleError(f"{options.source}: none of its {found.images:,} images can be read")
    machine = _this_machine()
    file = compose(options.source, found, machine)
    taken = note_time(file, _measure(file), machine)
    heading = (
        f"Written by `ganscale configure {options.source}`: {found.images:,} images. A comment "
        "above a key says why it has its value; ganscale config --explain KEY says what it is."
    )
    write_output(target, file.text(printable(heading)).encode())
    _, height, width = file.experiment().image_shape
    print(f"wrote {target}: {height}×{width} pixels, {taken}")
    print(f"next: ganscale train {target}")


def _open(location: str) -> "FileSource":
    from ganscale.data.packing.file_sources import FileSource
    from ganscale.data.packing.sources import open_source

    source = open_source(location)
    if not isinstance(source, FileSource):
        raise GanscaleError(
            f"{location}: not a folder, zip or tar of image files, which is what configure looks "
            "at; train on it with any experiment: "
            f"ganscale train configs/folder_dcgan64.yaml data.path={location}"
        )
    return source


def _this_machine() -> "Machine":
    import torch

    from ganscale import devices
    from ganscale.training.recipe_file import Machine

    device = devices.best_device()
    if device.type == "cpu":
        threads = torch.get_num_threads()
        return Machine(f"CPU, {threads} thread{'s'[: threads > 1]}")
    return Machine(devices.name_of(device), True, devices.has_bfloat16(device))


def _measure(file: "ExperimentFile") -> float:
    """Return the seconds of a step; halve the batch until a GPU holds it."""
    import torch

    from ganscale import devices
    from ganscale.training.step_time import measure_step

    while True:
        try:
            return measure_step(file.experiment())
        except torch.OutOfMemoryError:
            train = file.values["train"]
            if train["batch_size"] < 4:
                raise
            train["batch_size"] //= 2
            train["steps"] *= 2
            file.reasons["train.batch_size"] = "the largest that this GPU holds"
            torch.get_device_module(devices.best_device()).empty_cache()


def _table(found: "Survey") -> "Table":
    """Return what was found, a row for each property."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(show_header=False, box=None)
    table.add_row("images", f"{found.images:,}")
    if len(found.sizes):
        sides = found.sides
        low, middle, high = (int(x) for x in (sides.min(), _median(sides), sides.max()))
        table.add_row(
            "shorter side", f"{low:,} to {high:,} pixels, half of them at least {middle:,}"
        )
        table.add_row("longer ÷ shorter", f"{found.aspect:.2f} in the median")
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in found.kinds.most_common(SHOWN))
    table.add_row("kinds", kinds + (" (all decoded ones are grey)" if found.grey else ""))
    if found.classes:
        most, least = found.classes.most_common()[0], found.classes.most_common()[-1]
        table.add_row(
            "classes",
            escape(
                printable(
                    f"{len(found.classes):,}, from {least[0]} ({least[1]:,}) "
                    f"to {most[0]} ({most[1]:,})"
                )
            ),
        )
    table.add_row("broken", escape(_some(found.broken)))
    table.add_row("same bytes", escape(_some([f"{a} = {b}" for a, b in found.duplicates])))
    looked = f"of {found.decoded:,} decoded"
    table.add_row("look alike", escape(_some([f"{a} ~ {b}" for a, b in found.near])) + f" {looked}")
    return table


def _median(numbers: object) -> float:
    import numpy as np

    return float(np.median(np.asarray(numbers)))


def _some(names: list[str]) -> str:
    """Return how many there are, and the first of them."""
    if not names:
        return "none"
    more = ", …" if len(names) > SHOWN else ""
    return printable(f"{len(names):,}: {', '.join(names[:SHOWN])}{more}")
