"""The file of a run's measurements, a JSON object a line; `trackers/json_lines` writes it."""

from pathlib import Path
from typing import Any

from ganscale.files import read_json_lines, read_last_json_lines


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Return the measurements in the file, oldest first.

    A line that a crash has cut, and one that is not a measurement, is left out.
    """
    return [line for line in read_json_lines(path) if _is_measurement(line)]


def last_metrics(path: Path) -> dict[str, Any] | None:
    """Return the newest line of a training step, read from the end of the file; None without one.

    A line that only has scores or what the balance measured is passed over if it can be.
    """
    lines = [line for line in read_last_json_lines(path) if _is_measurement(line)]
    of_steps = [line for line in lines if "images/s" in line]
    found = of_steps or lines
    return found[-1] if found else None


def _is_measurement(line: dict[str, Any]) -> bool:
    return type(line.get("step")) is int and type(line.get("images", 0)) is int
