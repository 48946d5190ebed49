"""What is called the best, and what is said of evaluations."""

import math
from typing import Any

import pytest

from ganscale.config import Evaluation
from ganscale.evaluation.scores import Scores, best, describe_scores


def line(step: int, fid: float, samples: int = 1000, **other: Any) -> dict[str, Any]:
    return {
        "step": step,
        "values": {"fid": fid, "coverage": fid / 10},
        "features": "classifier features (98.0 % right)",
        "features_checksum": "a",
        "samples": samples,
        "real_samples": 60000,
        "real_set": "digits",
        **other,
    }


ROTATIONS = {
    "features": "rotation features (70 % right, by chance 25 %)",
    "features_name": "rotations",
    "features_checksum": "r",
}
INCEPTION = {"features": "Inception v3 features", "features_checksum": "i"}


def step_of_best(lines: list[dict[str, Any]], **wanted: object) -> int | None:
    found = best(lines, Evaluation.model_validate({"samples": 1000, **wanted}))
    return None if found is None else found["step"]


def test_the_best_is_by_the_score_that_the_experiment_names() -> None:
    lines = [line(1, 9.0), line(2, 3.0), line(3, 5.0)]
    assert step_of_best(lines) == 2
    assert step_of_best(lines, best="coverage") == 1
    assert step_of_best([line(1, 3.0), line(2, 3.0)]) == 1
    assert step_of_best([]) is None


@pytest.mark.parametrize(
    "other",
    [
        INCEPTION,
        {"features_checksum": "b"},
        {"features": "classifier features (91.0 % right)"},
        {"samples": 50000},
        {"real_set": "other digits"},
    ],
)
def test_only_evaluations_alike_are_compared(other: dict[str, Any]) -> None:
    first, second = line(1, 5.0), line(2, 4.0)
    lower = line(3, 0.5) | other
    if "samples" in other or other == INCEPTION:  # by the order they come in, nothing changes
        assert step_of_best([first, lower, second]) == step_of_best([first, second, lower]) == 2
    assert step_of_best([lower, first, second]) == 2


def test_what_the_experiment_asks_for_decides_and_else_what_is_newest() -> None:
    lines = [line(1, 5.0), line(2, 6.0), line(1, 40.0) | INCEPTION, line(2, 30.0) | INCEPTION]
    assert step_of_best(lines) == 1  # auto: the classifier where there is one
    assert step_of_best([*lines[2:], line(3, 50.0) | ROTATIONS]) == 3  # and then the rotations
    assert step_of_best(lines, features="inception") == 2
    assert step_of_best(lines, samples=77) == 2
    assert step_of_best(lines[2:]) == 2


def test_of_a_step_that_was_evaluated_again_the_newest_counts() -> None:
    assert step_of_best([line(1, 2.0), line(2, 5.0), line(1, 6.0)]) == 2


@pytest.mark.parametrize("value", [math.nan, -math.inf, math.inf])
def test_no_number_and_no_score_are_never_the_best(value: float) -> None:
    assert step_of_best([line(1, 5.0), line(2, value), line(3, 7.0)]) == 1
    assert step_of_best([line(2, value)]) is None
    missing = line(3, 1.0)
    del missing["values"]["fid"]
    assert step_of_best([line(1, 5.0), missing]) == 1


def test_what_an_older_version_wrote_is_described_without_what_it_lacks() -> None:
    older = line(1, 5.25)
    del older["features_checksum"], older["values"]["coverage"]
    older["floor"] = 0.1  # one half against the other: no longer said
    assert describe_scores(older) == (
        "FID 5.25 (classifier features (98.0 % right); 1,000 generated against 60,000 real images "
        "of digits)"
    )
    assert step_of_best([older]) == 1
    scores = Scores({"fid": 5.25}, "features", "c", 1000, 60000, "digits", 0.625, ())
    assert str(scores).endswith("of digits; 1,000 perfect samples would get FID 0.625)")
