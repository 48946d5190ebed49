"""What a generator is compared with is what training draws."""

from pathlib import Path

import numpy as np
import pytest
import torch

from ganscale.data.reading.image_set import ImageSet
from ganscale.data.reading.mixture import Stratum
from ganscale.evaluation.distribution import Distribution
from ganscale.evaluation.features.network import Features
from ganscale.evaluation.metrics.fid import frechet_distance
from ganscale.evaluation.metrics.sums import Sums
from tests.conftest import tiny
from tests.evaluation.sets import part_of, uneven

PLAIN = Distribution([Stratum(range(1000), 1.0)])
MIXED = Distribution([Stratum(range(900), 0.75), Stratum(np.array([900, 905, 950]), 0.25)])


@pytest.mark.parametrize("kind", ["plain", "mixture", "balanced"])
def test_weights_are_how_often_training_draws_a_sample(
    digits: Path, tmp_path: Path, kind: str
) -> None:
    more = {
        "plain": [],
        "mixture": [
            f"data.mixture=[{{path: {part_of(digits, tmp_path / 'a', [0])}, weight: 3}}, "
            f"{{path: {part_of(digits, tmp_path / 'b', [1, 2, 4])}, weight: 1}}]"
        ],
        "balanced": [f"data.path={uneven(tmp_path / 'uneven')}", "data.balance_classes=true"],
    }
    images = ImageSet(tiny(digits, tmp_path, *more[kind]).data)
    order = images.order(seed=3)
    batches = np.concatenate([order.batch(k, 1000) for k in range(400)])
    drawn = np.bincount(batches, minlength=images.samples) / len(batches)
    weights = Distribution(images.strata()).weights(np.arange(images.samples)).numpy()
    assert weights.sum() == pytest.approx((weights > 0).sum())
    assert drawn == pytest.approx(weights / weights.sum(), rel=0.05)


def test_draws_come_as_often_as_they_weigh() -> None:
    drawn = MIXED.draw(40_000, "test")
    assert set(np.unique(drawn)) <= {*range(900), 900, 905, 950}
    assert (drawn < 900).mean() == pytest.approx(0.75, abs=0.01)
    counts = np.bincount(drawn, minlength=1000)
    assert counts[[900, 905, 950]] == pytest.approx([40_000 / 12] * 3, rel=0.06)
    assert np.array_equal(drawn, MIXED.draw(40_000, "test"))
    assert not np.array_equal(drawn, MIXED.draw(40_000, "other"))


def test_another_set_of_this_size_has_as_many_of_each_stratum() -> None:
    again = MIXED.resample("test")
    assert (again < 900).sum() == 900
    assert len(again) == 903
    # Of 900 draws out of 900 a share of 1 / e is never drawn.
    assert len(np.unique(again[again < 900])) == pytest.approx(900 * (1 - np.exp(-1)), abs=40)


def test_what_is_compared_keeps_the_shares_and_has_no_image_twice() -> None:
    assert np.array_equal(PLAIN.spread(10), np.arange(0, 1000, 100))
    assert np.array_equal(PLAIN.spread(5000), np.arange(1000))
    chosen = MIXED.spread(500)
    assert len(chosen) == len(np.unique(chosen)) == 12  # three are a quarter of twelve
    assert (chosen < 900).sum() == 9


def test_what_perfect_samples_get_is_told_rightly() -> None:
    """Against fresh samples of a distribution that is known here and not to the bootstrap."""
    width, real_number, number = 16, 1000, 500
    random = torch.Generator().manual_seed(0)
    mixing = torch.randn(width, width, generator=random)

    def sample(n: int) -> torch.Tensor:
        return torch.randn(n, width, generator=random) @ mixing

    def fid(a: torch.Tensor, b: torch.Tensor) -> float:
        both = []
        for features in (a, b):
            sums = Sums.zero(Features(features, features))
            sums.add(Features(features, features))
            both.append(sums)
        return frechet_distance(*both)

    truth = np.mean([fid(sample(real_number), sample(number)) for _ in range(40)])
    told, against_the_set_itself = [], []
    distribution = Distribution([Stratum(range(real_number), 1.0)])
    for trial in range(40):
        real = sample(real_number)
        drawn = real[torch.from_numpy(distribution.draw(number, f"generated{trial}"))]
        again = real[torch.from_numpy(distribution.resample(f"real{trial}"))]
        told.append(fid(again, drawn))
        against_the_set_itself.append(fid(real, drawn))
    assert np.mean(told) == pytest.approx(truth, rel=0.1)
    assert np.mean(against_the_set_itself) < 0.8 * truth
