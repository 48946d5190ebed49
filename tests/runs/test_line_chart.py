"""Charts of a report: lines, words and values."""

import itertools
import re

import pytest

from ganscale.runs.line_chart import MAX_POINTS, ROWS, line_chart, round_numbers


def test_a_line_goes_through_its_points() -> None:
    chart = line_chart("Losses", "images", {"loss": [(0, 1.0), (50, 3.0), (100, 2.0)]})
    (line,) = re.findall(r'points="([^"]*)"', chart)
    (x0, y0), (x1, y1), (x2, y2) = (map(float, p.split(",")) for p in line.split())
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.2)
    assert y0 - y2 == pytest.approx(y2 - y1, abs=0.2)  # upwards is less
    assert y1 < y2 < y0
    assert "Losses, over images. Newest values: loss 2" in chart


def test_a_long_line_is_drawn_with_few_points_that_are_means() -> None:
    many = [(float(x), float(x % 2)) for x in range(100 * MAX_POINTS)]
    chart = line_chart("Losses", "images", {"loss": many})
    (line,) = re.findall(r'points="([^"]*)"', chart)
    assert len(line.split()) == MAX_POINTS
    assert len({point.split(",")[1] for point in line.split()}) == 1
    assert chart.count("<tr>") - 1 <= ROWS


def test_names_are_text() -> None:
    chart = line_chart("<b>", "images", {'"><script>': [(1, 0.0)]})
    assert "<script" not in chart
    assert "<b>&lt;b" not in chart


@pytest.mark.parametrize(
    ("low", "high"),
    [(0, 10), (0.11, 0.39), (-1, 1), (3e5, 7e6), (1e-9, 5e-9)],
)
def test_ticks_are_round(low: float, high: float) -> None:
    found = round_numbers(low, high, 4)
    assert len(found) >= 2
    assert all(low - 1e-9 <= value <= high + 1e-9 for value in found)
    steps = {round(b - a, 9) for a, b in itertools.pairwise(found)}
    assert len(steps) == 1
    assert f"{steps.pop():e}"[0] in "125"
