"""The file of a run's measurements, a JSON object a line; `trackers/json_lines` writes it.

Runs that older versions trained named some numbers in another way. They are read by today's names.
"""

from pathlib import Path
from typing import Any

from ganscale.files import read_json_lines, read_last_json_lines

EARLIER_NAMES = {
    "D(x)": "d_real",
    "D(G(z))": "d_fake",
    "D accuracy": "d_accuracy",
    "images/s": "images_per_second",
    "memory/GiB": "memory_gib",
}
"""Today's names of numbers that had another one; the rest had a slash for an underscore."""


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Return the measurements in the file, oldest first.

    A line that a crash has cut, and one that is not a measurement, is left out.
    """
    return [renamed(line) for line in read_json_lines(path) if is_measurement(line)]


def last_metrics(path: Path) -> dict[str, Any] | None:
    """Return the newest line of a training step, read from the end of the file; None without one.

    A line that only has scores or what the balance measured is passed over if it can be.
    """
    lines = [renamed(line) for line in read_last_json_lines(path) if is_measurement(line)]
    of_steps = [line for line in lines if "images_per_second" in line]
    found = of_steps or lines
    return found[-1] if found else None


def renamed(line: dict[str, Any]) -> dict[str, Any]:
    """Return the line with today's names."""
    return {EARLIER_NAMES.get(name) or name.replace("/", "_"): line[name] for name in line}


def is_measurement(line: dict[str, Any]) -> bool:
    """Return whether a line of the file says what was measured at a step."""
    return type(line.get("step")) is int and type(line.get("images", 0)) is int
