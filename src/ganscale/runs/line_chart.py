"""A chart as HTML with an inline SVG, which takes its colours from the page's stylesheet."""

import html
import math
from collections.abc import Callable, Mapping, Sequence

WIDTH, HEIGHT = 430, 210
LEFT, RIGHT, TOP, BOTTOM = 50, 10, 10, 30
MAX_POINTS = 500  # of a curve; more than a chart has pixels
FEW_POINTS = 20  # up to so many are marked one by one
ROWS = 12  # of the table of values
COLOURS = 5

Points = Sequence[tuple[float, float]]
Place = Callable[[float, float], tuple[float, float]]


def line_chart(title: str, unit: str, curves: Mapping[str, Points]) -> str:
    """Return a figure with one line for each curve.

    Each has at least one point (x, y), x rising; all numbers are finite. Besides the lines there
    are the newest values and, for those who do not see them, a table of some values.
    """
    drawn = {name: _thin_out(points) for name, points in curves.items()}
    ys = [y for points in drawn.values() for _, y in points]
    low, high = min(ys), max(ys)
    margin = (high - low) * 0.06 or abs(low) * 0.1 or 1.0
    low, high = low - margin, high + margin
    end = max(points[-1][0] for points in drawn.values()) or 1.0

    def place(x: float, y: float) -> tuple[float, float]:
        across = LEFT + x / end * (WIDTH - LEFT - RIGHT)
        return round(across, 1), round(TOP + (high - y) / (high - low) * (HEIGHT - TOP - BOTTOM), 1)

    parts = [_rules(low, high, end, unit, place)]
    for number, points in enumerate(drawn.values()):
        colour = f"run-{number % COLOURS}"
        placed = [place(x, y) for x, y in points]
        line = " ".join(f"{x},{y}" for x, y in placed)
        parts.append(f'<polyline class="line {colour}" points="{line}"/>')
        if len(points) <= FEW_POINTS:
            parts += [f'<circle class="{colour}" cx="{x}" cy="{y}" r="2.5"/>' for x, y in placed]
    newest = {name: f"{points[-1][1]:.4g}" for name, points in curves.items()}
    spoken = ", ".join(f"{name} {value}" for name, value in newest.items())
    described = html.escape(f"{title}, over {unit}. Newest values: {spoken}")
    names = "".join(
        f'<li><span class="run-{number % COLOURS}"></span>{html.escape(name)} <b>{value}</b></li>'
        for number, (name, value) in enumerate(newest.items())
    )
    return (
        f'<figure class="card chart"><h3>{html.escape(title)}</h3>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{described}">'
        f"{''.join(parts)}</svg><ul>{names}</ul>"
        f"<details><summary>Values</summary>{_table(title, unit, drawn)}</details></figure>"
    )


def round_numbers(low: float, high: float, wanted: int) -> list[float]:
    """Return about `wanted` multiples of 1, 2 or 5 times a power of ten within [low, high]."""
    rough = (high - low) / wanted
    if not (0 < rough < math.inf):
        return [low]
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [number * step for number in range(first, last + 1)]


def _rules(low: float, high: float, end: float, unit: str, place: Place) -> str:
    parts = []
    for value in round_numbers(low, high, 4):
        _, y = place(0, value)
        parts.append(f'<path class="rule" d="M{LEFT} {y}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4}" text-anchor="end">{_brief(value)}</text>')
    ticks = round_numbers(0, end, 4)
    for value in ticks:
        x, _ = place(value, low)
        x = min(x, WIDTH - RIGHT - 12)
        words = f"{_brief(value)} {unit}" if value == ticks[-1] and value else _brief(value)
        anchor = "end" if value == ticks[-1] and x > WIDTH - 80 else "middle"
        x = WIDTH - RIGHT if anchor == "end" else x
        parts.append(f'<text x="{x}" y="{HEIGHT - 9}" text-anchor="{anchor}">{words}</text>')
    return "".join(parts)


def _brief(value: float) -> str:
    """Return the label of a tick, such as 20k, 1.5M or 0.25."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if size <= abs(value) < 1e12:
            return f"{value / size:.4g}{letter}"
    return f"{value:.4g}" if abs(value) > 1e-12 else "0"


def _thin_out(points: Points) -> list[tuple[float, float]]:
    """Return at most `MAX_POINTS` points: the means of as many neighbours each, and the last."""
    stride = -(-len(points) // MAX_POINTS)
    if stride < 2:
        return [*points]
    parts = [points[i : i + stride] for i in range(0, len(points), stride)]
    return [(part[-1][0], sum(y / len(part) for _, y in part)) for part in parts]


def _table(title: str, unit: str, curves: Mapping[str, Points]) -> str:
    """Return some values of the curves as a table, the newest among them."""
    at = sorted({x for points in curves.values() for x, _ in points}, reverse=True)
    rows = at[:: -(-len(at) // ROWS)][::-1]
    values = [dict(points) for points in curves.values()]
    heads = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in (unit, *curves))
    body = "".join(
        f'<tr><th scope="row">{x:,.10g}</th>'
        + "".join(f"<td>{known[x]:.4g}</td>" if x in known else "<td>–</td>" for known in values)
        + "</tr>"
        for x in rows
    )
    return (
        f'<div class="table"><table><caption class="unseen">{html.escape(title)}</caption>'
        f"<thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>"
    )
