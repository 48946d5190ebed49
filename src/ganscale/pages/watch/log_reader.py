"""A run's log, read on from where it was last read."""

import json
import os
import time
from pathlib import Path
from typing import Any, TypeGuard

from ganscale.errors import GanscaleError
from ganscale.files import open_inside
from ganscale.monitoring.metrics_log import is_measurement, renamed
from ganscale.pages.watch.curve import Curve, Place

AT_ONCE_BYTES = 1 << 18  # after each such part the reader looks at the clock
MAX_LINE_BYTES = 1 << 24
X_AXES = {
    "images": lambda place: place.images,
    "steps": lambda place: place.step,
    "hours": lambda place: place.hours,
}
"""What each x axis that a page can ask for takes of a place."""


class LogReader:
    """The curves of those metrics of a run that were asked for.

    A log that was replaced, as a resumed run does, and one in which further metrics are wanted, is
    read anew. A line that is still being written waits until it ends.
    """

    def __init__(self, path: Path, wanted: frozenset[str]):
        self.wanted = wanted
        self.curves: dict[str, Curve] = {name: Curve() for name in wanted}
        self._path = path
        self._file_id: tuple[int, int] | None = None
        self._offset = 0
        self._rest = b""
        self._place = Place(0, 0, 0.0)

    def read(self, now: int, until: float) -> bool:
        """Read what is new, until about the time `until` of `time.monotonic`; return if that was
        all. `now` is noted in the points that change."""
        try:
            with open_inside(self._path.parent, self._path.name) as file:
                state = os.fstat(file.fileno())
                self._begin_anew_if_replaced((state.st_dev, state.st_ino), state.st_size)
                file.seek(self._offset)
                while part := file.read(AT_ONCE_BYTES):
                    self._offset += len(part)
                    self._take(part, now)
                    if time.monotonic() > until:
                        return self._offset >= state.st_size
        except (OSError, GanscaleError):  # not there yet, deleted, or no file of a run
            pass
        return True

    def _begin_anew_if_replaced(self, file_id: tuple[int, int], size: int) -> None:
        if self._file_id not in (None, file_id) or size < self._offset:
            # Points stay until the new log overwrites them, so that no page sees an empty chart.
            self._offset, self._rest, self._place = 0, b"", Place(0, 0, 0.0)
        self._file_id = file_id

    def _take(self, part: bytes, now: int) -> None:
        *lines, self._rest = (self._rest + part).split(b"\n")
        if len(self._rest) > MAX_LINE_BYTES:
            self._rest = b""
        for text in lines:
            try:
                line = json.loads(text)
            except (ValueError, RecursionError):
                continue
            if isinstance(line, dict) and is_measurement(line):
                # Lines with an earlier name have one with a slash, and renaming all takes as long
                # as reading them.
                self._take_line(renamed(line) if b"/" in text else line, now)

    def _take_line(self, line: dict[str, Any], now: int) -> None:
        before, step = self._place, line["step"]
        images = line.get("images", before.images)
        if step != before.step or images != before.images:
            rate = line.get("images_per_second")
            hours = before.hours
            if is_number(rate) and rate > 0 and images > before.images:
                hours += (images - before.images) / rate / 3600
            self._place = Place(step, images, hours)
        for name in self.wanted:
            value = line.get(name)
            if is_number(value):
                self.curves[name].take(self._place, float(value), now)


def is_number(value: Any) -> TypeGuard[float]:
    """Return whether a value of a log is a number that a float can hold; NaN is one."""
    return type(value) is float or (type(value) is int and abs(value) < 1e300)
