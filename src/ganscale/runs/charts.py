"""Line charts as SVG, for `report.html`: a few curves take milliseconds, and no library."""

import html
import math
from collections.abc import Mapping, Sequence
from itertools import chain, cycle

Point = tuple[float, float]
COLOURS = ("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#17becf")
WIDTH, HEIGHT = 600, 300
LEFT, RIGHT, TOP, BOTTOM = 62, 12, 28, 40  # margins around the plot
TICKS = 5  # at least about so many on an axis, and at most twice as many
FEW = 20  # curves of fewer points show each as a dot
MAX_POINTS = 1000  # of a curve; of a longer one the extremes of each part are drawn
LEGEND_ROW, CHARACTER = 16, 6.2  # heights and widths of small text, about


def draw_chart(title: str, x_label: str, curves: Mapping[str, Sequence[Point]]) -> str:
    """Return an inline SVG of curves by name, each of one or more finite points (x, y)."""
    points = list(chain.from_iterable(curves.values()))
    x_axis = Axis([x for x, _ in points], LEFT, WIDTH - RIGHT, padding=0.03)
    y_axis = Axis([y for _, y in points], HEIGHT - BOTTOM, TOP, padding=0.05)
    legend, rows = _legend(list(curves))
    height = HEIGHT + 6 + rows * LEGEND_ROW
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        'font-family="system-ui, sans-serif" font-size="11" fill="#333">',
        _text(middle, 16, title, "middle", size=13),
        _text(middle, HEIGHT - 8, x_label, "middle"),
    ]
    for x in x_axis.ticks:
        place = x_axis.place(x)
        parts.append(_line(place, TOP, place, HEIGHT - BOTTOM))
        parts.append(_text(place, HEIGHT - BOTTOM + 14, short_number(x), "middle"))
    for y in y_axis.ticks:
        place = y_axis.place(y)
        parts.append(_line(LEFT, place, WIDTH - RIGHT, place))
        parts.append(_text(LEFT - 5, place + 4, short_number(y), "end"))
    for colour, curve in zip(cycle(COLOURS), curves.values(), strict=False):
        placed = [(x_axis.place(x), y_axis.place(y)) for x, y in thin_out(curve)]
        joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
        parts.append(
            f'<polyline fill="none" stroke="{colour}" stroke-width="1.2" points="{joined}"/>'
        )
        if len(placed) < FEW:
            parts += [
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{colour}"/>' for x, y in placed
            ]
    return "\n".join([*parts, *legend, "</svg>"])


class Axis:
    """Maps the values of one axis to places on the page, from `start` to `end`."""

    def __init__(self, values: Sequence[float], start: float, end: float, padding: float):
        low, high = min(values), max(values)
        # Halved, since the difference of two finite numbers need not be finite.
        room = (high / 2 - low / 2) * 2 * padding or abs(low) * 0.1 or 1.0
        self._low, self._high = low - room, high + room
        self._start, self._end = start, end
        self.ticks = ticks(self._low, self._high)

    def place(self, value: float) -> float:
        """Return where a value is drawn."""
        share = (value / 2 - self._low / 2) / (self._high / 2 - self._low / 2)
        return self._start + share * (self._end - self._start)


def ticks(low: float, high: float) -> list[float]:
    """Return round numbers between two others: multiples of 1, 2 or 5 times a power of ten."""
    rough = (high / 2 - low / 2) * 2 / TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = max((f * power for f in (2, 5) if f * power <= rough), default=power)
    first, last = math.ceil(low / step), math.floor(high / step)
    return [number * step for number in range(first, last + 1)]


def short_number(value: float) -> str:
    """Write a tick's number in a few characters: 1500000 is `1.5M`."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if size <= abs(value) < 1e12:
            return f"{value / size:.4g}{letter}"
    return f"{value:.4g}" if abs(value) > 1e-300 else "0"


def thin_out(curve: Sequence[Point]) -> list[Point]:
    """Return a curve of at most about MAX_POINTS points: of each part, its lowest and highest."""
    size = -(-2 * len(curve) // MAX_POINTS)
    if size <= 2:
        return list(curve)
    kept = []
    for start in range(0, len(curve), size):
        part = range(start, min(start + size, len(curve)))
        extremes = {f(part, key=lambda i: curve[i][1]) for f in (min, max)}
        kept += [curve[i] for i in sorted(extremes)]
    return kept


def _legend(names: list[str]) -> tuple[list[str], int]:
    """Return the legend below the plot, and how many rows it takes."""
    parts = []
    x, row = float(LEFT), 0
    for colour, name in zip(cycle(COLOURS), names, strict=False):
        width = 30 + len(name) * CHARACTER
        if x > LEFT and x + width > WIDTH - RIGHT:
            x, row = float(LEFT), row + 1
        y = HEIGHT + 6 + row * LEGEND_ROW
        parts.append(
            f'<line x1="{x:.0f}" x2="{x + 16:.0f}" y1="{y}" y2="{y}" stroke="{colour}" '
            'stroke-width="2"/>'
        )
        parts.append(_text(x + 20, y + 4, name, "start"))
        x += width
    return parts, row + 1


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<path d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}" stroke="#ddd"/>'


def _text(x: float, y: float, text: str, anchor: str, size: int = 11) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}">'
        f"{html.escape(text)}</text>"
    )
