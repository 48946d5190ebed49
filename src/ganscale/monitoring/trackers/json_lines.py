"""The tracker that every run has: a file with a JSON object per line."""

import json
from pathlib import Path

from ganscale.files import write_atomically
from ganscale.monitoring.metrics_log import read_metrics
from ganscale.monitoring.trackers.tracker import Tracker


class JsonLinesTracker(Tracker):
    """Writes one JSON object per line.

    Args:
        path: the file; what an earlier part of the run has written to it is kept
        resumed_step: the step after which the run goes on; lines of later steps are removed, since
            they will be logged again
    """

    def __init__(self, path: Path, resumed_step: int):
        logged = read_metrics(path)
        self.logged_step = max((line["step"] for line in logged), default=0)
        kept = [line for line in logged if line["step"] <= resumed_step]
        text = "".join(json.dumps(line) + "\n" for line in kept)
        write_atomically(path, text.encode())
        self._file = path.open("a", buffering=1, encoding="utf-8")

    def log(self, step: int, values: dict[str, float]) -> None:
        """Append one line."""
        self._file.write(json.dumps({"step": step, **values}) + "\n")

    def finish(self) -> None:
        """Close the file."""
        self._file.close()
