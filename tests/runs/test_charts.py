"""Charts are well-formed SVG that shows each curve where its numbers are."""

import math
from xml.etree import ElementTree

import pytest

from ganscale.runs.charts import (
    BOTTOM,
    HEIGHT,
    LEFT,
    MAX_POINTS,
    RIGHT,
    TOP,
    WIDTH,
    draw_chart,
    short_number,
    thin_out,
    ticks,
)

SVG = "{http://www.w3.org/2000/svg}"


def polylines(svg: str) -> list[list[tuple[float, float]]]:
    lines = ElementTree.fromstring(svg).iter(f"{SVG}polyline")
    return [
        [
            (float(x), float(y))
            for x, y in (pair.split(",") for pair in line.get("points", "").split())
        ]
        for line in lines
    ]


def texts(svg: str) -> dict[str, tuple[float, float]]:
    found = ElementTree.fromstring(svg).iter(f"{SVG}text")
    return {str(t.text): (float(t.get("x", 0)), float(t.get("y", 0))) for t in found}


def test_a_point_is_at_the_ticks_of_its_numbers() -> None:
    svg = draw_chart("Losses", "images seen", {"a": [(0, 1), (1000, 2), (2000, 0)], "b": [(0, 2)]})
    (first, second, third), ((x, y),) = polylines(svg)
    labels = texts(svg)
    assert second[0] == pytest.approx(labels["1k"][0], abs=0.1)
    assert second[1] == pytest.approx(labels["2"][1] - 4, abs=0.1)
    assert first[1] == pytest.approx((second[1] + third[1]) / 2, abs=0.1)
    assert (x, y) == pytest.approx((first[0], second[1]), abs=0.1)
    assert {"Losses", "images seen", "a", "b"} <= labels.keys()


@pytest.mark.parametrize(
    "curve",
    [
        [(5.0, 3.0)],
        [(0, 0), (1, 0)],
        [(1, -1e300), (2, 1e300)],
        [(1, 1e300), (2, 1e300)],
        [(10**6, 1e-310), (2 * 10**6, 2e-310)],
        [(1, 1.0), (2, math.nextafter(1, 2))],
        [(1, 5e-324)],
    ],
    ids=str,
)
def test_every_finite_curve_is_inside_the_plot(curve: list[tuple[float, float]]) -> None:
    svg = draw_chart("t", "x", {"c": curve})
    (points,) = polylines(svg)
    assert len(points) == len(curve)
    for x, y in points:
        assert LEFT <= x <= WIDTH - RIGHT
        assert TOP <= y <= HEIGHT - BOTTOM


def test_a_name_is_no_markup() -> None:
    assert "<b>&" in texts(draw_chart("<b>&", "x", {"c": [(0, 0)]}))


@pytest.mark.parametrize("low", [-3.0, 0.0, 7.0])
@pytest.mark.parametrize("size", [1e-5, 0.3, 1.0, 2.0, 9.99, 1e7])
def test_ticks_are_round_and_neither_few_nor_many(low: float, size: float) -> None:
    found = ticks(low, low + size)
    assert 4 <= len(found) <= 14
    step = found[1] - found[0]
    leading = step / 10 ** math.floor(math.log10(step * 1.0001))
    assert min(abs(leading - round_one) for round_one in (1, 2, 5)) < 1e-3


def test_the_extremes_of_a_long_curve_are_drawn() -> None:
    curve = [(float(i), 0.0) for i in range(100_000)]
    curve[12_345], curve[77_777] = (12_345.0, 9.0), (77_777.0, -9.0)
    kept = thin_out(curve)
    assert len(kept) <= MAX_POINTS
    assert {(12_345.0, 9.0), (77_777.0, -9.0)} <= set(kept)
    assert kept == sorted(kept)
    assert thin_out(curve[:MAX_POINTS]) == curve[:MAX_POINTS]


def test_numbers_are_short() -> None:
    values = (0.0, 0.25, 1e-12, 999, 1_500_000, -20_000, 3e9, 1e300)
    assert [short_number(v) for v in values] == [
        *("0", "0.25", "1e-12", "999", "1.5M", "-20k", "3G", "1e+300"),
    ]
