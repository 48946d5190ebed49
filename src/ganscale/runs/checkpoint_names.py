"""What the names of a run's checkpoints say, which costs no file to be opened."""

import re
from pathlib import Path

_NAME = re.compile(r"step-[0-9]{8,18}")


def list_finished(folder: Path) -> list[Path]:
    """Return the finished checkpoints in a folder, oldest first; links are ignored."""
    found = [p for p in folder.glob("step-*") if _NAME.fullmatch(p.name) and not p.is_symlink()]
    return sorted((p for p in found if p.is_dir()), key=step_of)


def step_of(path: Path) -> int:
    """Return the step in a checkpoint's name."""
    return int(path.name.removeprefix("step-"))
