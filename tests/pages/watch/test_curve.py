"""A curve is bounded, and sends what is new."""

import math

import pytest

from ganscale.pages.watch.curve import MAX_POINTS, Curve, Place


def grown(values: list[float], curve: Curve | None = None, now: int = 1, start: int = 1) -> Curve:
    curve = curve or Curve()
    for step, value in enumerate(values, start):
        curve.take(Place(step, step * 8, step / 100), value, now)
    return curve


def sent(curve: Curve, since: int = 0) -> dict[str, list[float]]:
    columns = curve.since(since, lambda place: place.step)
    assert columns is not None
    return columns


def test_a_short_curve_has_every_value() -> None:
    columns = sent(grown([0.5, 0.25, 4.0]))
    assert columns == {"from": 0, "x": [1, 2, 3], "y": [0.5, 0.25, 4.0]}


def test_a_long_curve_has_the_mean_and_the_range_of_each_part() -> None:
    values = [math.sin(i) for i in range(10 * MAX_POINTS)]
    columns = sent(grown(values))
    assert MAX_POINTS / 2 <= len(columns["x"]) <= MAX_POINTS
    part = columns["x"][0]
    assert columns["x"][1] == 2 * part
    assert columns["y"][0] == pytest.approx(sum(values[:part]) / part, rel=1e-5)
    assert columns["low"][0] == pytest.approx(min(values[:part]), rel=1e-5)
    assert columns["high"][0] == pytest.approx(max(values[:part]), rel=1e-5)
    assert columns["x"][-1] == len(values)


def test_only_what_is_new_is_sent_and_joins_what_was_sent() -> None:
    curve = Curve()
    page: dict[str, list[float]] = {"x": [], "y": []}
    for now, start in enumerate(range(1, 5000, 37), 1):
        grown([float(i) for i in range(start, start + 37)], curve, now, start)
        columns = sent(curve, now - 1)
        for name in page:
            page[name] = page[name][: columns["from"]] + columns[name]
        whole = sent(curve)
        assert page == {name: whole[name] for name in page}
    assert len(sent(curve, now - 1)["x"]) < 40
    assert curve.since(now, lambda place: place.step) is None


def test_steps_that_are_repeated_after_a_resume_overwrite_the_first_ones() -> None:
    curve = grown([1.0] * 10)
    grown([2.0] * 5, curve, now=2, start=6)
    assert sent(curve, since=1) == {"from": 5, "x": [6, 7, 8, 9, 10], "y": [2.0] * 5}


def test_a_value_that_is_not_finite_is_a_gap() -> None:
    assert sent(grown([1.0, math.nan, math.inf, 2.0]))["y"] == [1.0, None, None, 2.0]
