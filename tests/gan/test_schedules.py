"""Schedules against their formulas written out, at the steps where they could go wrong."""

import math
from itertools import pairwise
from pathlib import Path
from typing import get_args

import pytest

from ganscale.config import Pace, Schedule
from ganscale.config.load import load
from ganscale.config.schedulable import read_schedule
from ganscale.config.schedules import Ramp
from ganscale.gan.schedules import SHAPES, value_at

CONFIGS = Path(__file__).parents[2] / "configs"
PACE = Pace(batch_size=8, steps=200)


def at(written: object, *steps: float, pace: Pace = PACE) -> list[float]:
    schedule = read_schedule(written)  # type: ignore[arg-type]
    return [value_at(schedule, step, pace) for step in steps]


def test_a_number_is_always_the_same() -> None:
    assert [value_at(0.3, step, PACE) for step in (0, 7, 10**9)] == [0.3, 0.3, 0.3]


def test_linear_is_a_straight_line_and_then_its_end() -> None:
    ramp = {"from": 2.0, "to": 1.0, "until": "100 steps"}
    assert at(ramp, 0, 1, 25, 50, 99, 100, 101, 10**9) == pytest.approx(
        [2.0, 1.99, 1.75, 1.5, 1.01, 1.0, 1.0, 1.0], abs=1e-15
    )


def test_cosine_is_half_a_period() -> None:
    ramp = {"from": 1.0, "to": 3.0, "by": "cosine", "until": "100 steps"}
    quarter = 2 - math.sqrt(2) / 2  # 1 + 2 · (1 - cos(π/4)) / 2
    assert at(ramp, 0, 25, 50, 75, 100, 150) == pytest.approx(
        [1.0, quarter, 2.0, 4 - quarter, 3.0, 3.0], abs=1e-15
    )
    third = at(ramp, 100 / 3)[0]
    assert third == pytest.approx(1 + 2 * (1 - 0.5) / 2, abs=1e-12)


def test_exponential_multiplies_by_the_same_factor_at_each_step() -> None:
    ramp = {"from": 8.0, "to": 0.5, "by": "exponential", "until": "4 steps"}
    assert at(ramp, 0, 1, 2, 3, 4, 5) == pytest.approx([8.0, 4.0, 2.0, 1.0, 0.5, 0.5], rel=1e-15)


def test_the_ends_are_exact() -> None:
    """A rounding of the last bit would make a step of its own of a constant."""
    for shape in SHAPES:
        ramp = {"from": 2e-4, "to": 5e-5, "by": shape, "until": "1000 steps"}
        assert at(ramp, 0, 1000) == [2e-4, 5e-5], shape


def test_every_shape_of_the_file_has_a_formula() -> None:
    assert set(get_args(Ramp.model_fields["by"].annotation)) == set(SHAPES)


def test_a_warm_up_is_followed_by_a_cosine_that_begins_where_it_ended() -> None:
    pieces = [
        {"from": 0.0, "to": 2e-4, "until": "20 steps"},
        {"to": 1e-5, "by": "cosine", "until": "end of run"},
    ]
    middle = 1e-5 + (2e-4 - 1e-5) / 2  # at 110, halfway from 20 to 200
    assert at(pieces, 0, 5, 10, 20, 110, 200, 300) == pytest.approx(
        [0.0, 5e-5, 1e-4, 2e-4, middle, 1e-5, 1e-5], rel=1e-12
    )
    before, after = at(pieces, 20 - 1e-9, 20 + 1e-9)
    assert before == pytest.approx(after, rel=1e-9)


def test_piecewise_constant_changes_at_the_step_that_it_names() -> None:
    pieces = [{"hold": 1.0, "until": "3 steps"}, {"hold": 0.1, "until": "5 steps"}, 0.01]
    assert at(pieces, 0, 1, 2, 3, 4, 5, 6) == [1.0, 1.0, 1.0, 0.1, 0.1, 0.01, 0.01]


def test_a_piece_may_jump() -> None:
    pieces = [
        {"from": 1.0, "to": 0.5, "until": "10 steps"},
        {"from": 1.0, "to": 0.0, "until": "20 steps"},
    ]
    assert at(pieces, 9, 10, 15, 20) == pytest.approx([0.55, 1.0, 0.5, 0.0])


@pytest.mark.parametrize(
    "until", ["100 steps", "1_00 step", "800 images", "0.8k images", "8e2 images", "50% of run"]
)
def test_positions_in_steps_images_and_shares_of_the_run_are_the_same(until: str) -> None:
    ramp = {"from": 1.0, "to": 0.0, "by": "cosine", "until": until}
    steps = (0, 1, 33, 99, 100, 101)
    expected = [(1 + math.cos(math.pi * min(s, 100) / 100)) / 2 for s in steps]
    assert at(ramp, *steps) == pytest.approx(expected, abs=1e-12)


def test_images_need_not_be_whole_steps() -> None:
    """20M images in batches of 512 are 39,062.5 steps."""
    ramp = {"from": 2e-4, "to": 5e-5, "by": "cosine", "until": "20M images"}
    pace = Pace(512, 200_000)
    for step in (0, 1, 10_000, 39_062, 39_063, 50_000):
        images = min(step * 512, 20_000_000)
        expected = 5e-5 + 1.5e-4 * (1 + math.cos(math.pi * images / 20_000_000)) / 2
        assert at(ramp, step, pace=pace)[0] == pytest.approx(expected, rel=1e-12), step


def test_a_longer_run_stretches_what_ends_with_it_and_nothing_else() -> None:
    with_run = {"from": 1.0, "to": 0.0, "until": "end of run"}
    in_steps = {"from": 1.0, "to": 0.0, "until": "200 steps"}
    longer = Pace(8, 400)
    assert at(with_run, 100) == at(in_steps, 100) == [0.5]
    assert at(with_run, 100, pace=longer) == [0.75]
    assert at(in_steps, 100, pace=longer) == [0.5]


def test_all_that_is_continuous_has_no_jump() -> None:
    pieces = [
        {"from": 0.0, "to": 1.0, "until": "50 steps"},
        {"hold": 1.0, "until": "640 images"},
        {"to": 0.1, "by": "exponential", "until": "60% of run"},
        {"to": 0.2, "by": "cosine", "until": "end of run"},
    ]
    values = at(pieces, *(step / 10 for step in range(2200)))
    assert max(abs(b - a) for a, b in pairwise(values)) < 0.006
    assert values[-1] == 0.2


def test_the_r3gan_preset_has_the_values_of_its_authors_at_every_image() -> None:
    """Their rule: base + (1 - (1 + cos(π n / 20M)) / 2) · (final - base) after n images."""
    experiment = load(CONFIGS / "cifar10_r3gan.yaml")
    numbers = {
        "lr": (experiment.generator.optimizer.lr, 2e-4, 5e-5),
        "beta2": (experiment.discriminator.optimizer.betas[1], 0.9, 0.99),
        "gamma": (experiment.objective.penalties[1].weight, 0.05, 0.005),
        "half-life": (experiment.ema.half_life, 0, 5e6),
        "probability": (experiment.augment.probability, 0, 0.55),
    }
    assert experiment.train.batch_size == 512
    for step in (0, 1, 1000, 19_531, 39_062, 39_063, 199_999):
        decay = 0.5 * (1 + math.cos(math.pi * min(512 * step, 2e7) / 2e7))
        for name, (number, base, final) in numbers.items():
            expected = base + (1 - decay) * (final - base)
            ours = value_at(number, step, experiment.pace)
            assert ours == pytest.approx(expected, rel=1e-6, abs=1e-15), (name, step)


@pytest.mark.parametrize(
    "written",
    [
        {"from": 1.0, "to": 0.5, "by": "cosine", "until": "20M images"},
        [{"hold": 1.0, "until": "3 steps"}, 0.1],
        [
            {"from": 0.0, "to": 1.0, "until": "12.5% of the run"},
            {"to": 0.5, "until": "end of the run"},
        ],
    ],
)
def test_what_is_written_reads_back(written: object) -> None:
    schedule = read_schedule(written)  # type: ignore[arg-type]
    assert isinstance(schedule, Schedule)
    assert read_schedule(schedule.written()) == schedule
