"""One curve of one run: however long its log is, a bounded number of points to draw."""

import math
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

MAX_POINTS = 1000  # of a curve; a chart is about as many pixels wide


@dataclass
class Place:
    """Where on each x axis a line of the log stands."""

    step: int
    images: int
    hours: float


@dataclass
class Point:
    """One or several lines in a row: the mean of their values, the least and the greatest."""

    first_step: int
    place: Place
    """Of the last of them."""
    changed_at: int
    lines: int = 0
    finite: int = 0
    total: float = 0.0
    low: float = math.inf
    high: float = -math.inf

    def take(self, place: Place, value: float, now: int) -> None:
        """Count one more value; one that is not finite leaves the mean as it is."""
        self.place, self.changed_at = place, now
        self.lines += 1
        if math.isfinite(value):
            self.finite += 1
            self.total += value
            self.low, self.high = min(self.low, value), max(self.high, value)

    def merge(self, later: "Point", now: int) -> "Point":
        """Return both as one point."""
        return Point(
            self.first_step,
            later.place,
            now,
            self.lines + later.lines,
            self.finite + later.finite,
            self.total + later.total,
            min(self.low, later.low),
            max(self.high, later.high),
        )


class Curve:
    """The points of one metric, in order.

    Once there are more than `MAX_POINTS`, neighbours become one point each, and from then on a
    point stands for twice as many lines. Each point knows when it last changed, so that a page is
    sent only those that are new to it.
    """

    def __init__(self) -> None:
        self.points: list[Point] = []
        self._lines_a_point = 1

    def take(self, place: Place, value: float, now: int) -> None:
        """Add a value of the log. A run that repeats steps after a resume overwrites them."""
        points = self.points
        while points and points[-1].place.step >= place.step:
            points.pop()
        if not points or points[-1].lines >= self._lines_a_point:
            points.append(Point(place.step, place, now))
        points[-1].take(place, value, now)
        if len(points) > MAX_POINTS:
            self._lines_a_point *= 2
            pairs = zip(points[::2], points[1::2], strict=False)
            last = points[-1:] if len(points) % 2 else []
            self.points = [a.merge(b, now) for a, b in pairs] + last

    def since(self, seen_at: int, x_of: Callable[[Place], float]) -> dict[str, Any] | None:
        """Return what has changed since, as columns for JSON; None if nothing has.

        `from` is the number of points that the page keeps; all others follow.
        """
        # A point changes only as the last one or with all others, so these times never fall.
        start = bisect_right(self.points, seen_at, key=lambda point: point.changed_at)
        new = self.points[start:]
        if not new:
            return None
        columns: dict[str, Any] = {
            "from": start,
            "x": [_brief(x_of(point.place)) for point in new],
            "y": [_brief(point.total / point.finite) if point.finite else None for point in new],
        }
        if self._lines_a_point > 1:
            columns["low"] = [_brief(point.low) if point.finite else None for point in new]
            columns["high"] = [_brief(point.high) if point.finite else None for point in new]
        return columns


def _brief(value: float) -> float | None:
    """Return a number in as many digits as a chart can show; None for what JSON has no word for."""
    if isinstance(value, int):
        return value
    return float(f"{value:.6g}") if math.isfinite(value) else None
