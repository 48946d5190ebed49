"""The records of a run that W&B keeps on the disk, as W&B's own program reads them."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

Record = dict[str, Any]


def records(run: Path) -> list[Record]:
    """All records of the only W&B run in a run folder, oldest first."""
    (file,) = run.glob("wandb/*run-*/*.wandb")
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(file)]
    shown = subprocess.run(command, capture_output=True, check=True, text=True).stdout
    return [json.loads(line) for line in shown.splitlines()]


def of_kind(found: list[Record], kind: str) -> list[Any]:
    """What the records of one kind hold."""
    return [record[kind] for record in found if record["type"] == kind]
