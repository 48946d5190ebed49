"""Steps that W&B's files have lost, from the run's own files.

W&B's program writes every 15 seconds and a step only after the next has begun. A process that is
killed has therefore measured more than its file there holds, and a resumed run does not repeat what
lies before its checkpoint.
"""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from PIL import Image

from ganscale.files import sha256_of_file
from ganscale.monitoring.metrics_log import read_metrics
from ganscale.runs.run_folder import RunFolder
from ganscale.runs.sync.transaction_log import find_record_type

GRID = "samples"  # what W&B shows a grid of samples as


def restore_lost(
    folder: RunFolder, known: Collection[int], until: int | None
) -> tuple[dict[int, Any], dict[str, Path]]:
    """Return a record for each lost step, and the files that they name by W&B's name of each.

    Args:
        folder: the run's
        known: the steps that are not lost
        until: the last step to look at; None for all
    """
    measured: dict[int, dict[str, Any]] = {}
    for line in read_metrics(folder.metrics):
        measured.setdefault(line["step"], {}).update(line)
    last = max(measured, default=0)
    grids = {step: path for step, path in folder.sample_grids() if step <= last}
    rows: dict[int, Any] = {}
    files: dict[str, Path] = {}
    for step in sorted(measured.keys() | grids.keys()):
        if step in known or (until is not None and step > until):
            continue
        values = {key: value for key, value in measured.get(step, {}).items() if key != "step"}
        if step in grids and not grids[step].is_symlink():
            values[GRID], name = _picture(step, grids[step])
            files[name] = grids[step]
        rows[step] = _record(step, values)
    return rows, files


def _picture(step: int, path: Path) -> tuple[dict[str, Any], str]:
    """Return W&B's description of a picture, and the name that it gives to its file."""
    digest = sha256_of_file(path)
    with Image.open(path) as image:
        width, height = image.size
    name = f"media/images/{GRID}_{step}_{digest[:20]}.png"
    described = {"_type": "image-file", "path": name, "sha256": digest, "format": "png"}
    return described | {"size": path.stat().st_size, "width": width, "height": height}, name


def _record(step: int, values: dict[str, Any]) -> Any:
    record = find_record_type()()
    record.history.step.num = step
    for key, value in {**values, "_step": step}.items():
        record.history.item.add(nested_key=[key], value_json=json.dumps(value))
    return record
