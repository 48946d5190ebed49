"""The file of a run's measurements, a JSON object a line; `trackers` writes it."""

from pathlib import Path
from typing import Any

from ganscale.files import read_json_lines


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Return the measurements in the file, oldest first.

    A line that a crash has cut, and one that is not a measurement, is left out.
    """
    return [
        line
        for line in read_json_lines(path)
        if type(line.get("step")) is int and type(line.get("images", 0)) is int
    ]
