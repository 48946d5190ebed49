"""Scores on inputs whose scores are known, and against second implementations."""

import numpy as np
import pytest
import torch
from scipy import linalg
from scipy.spatial.distance import cdist
from torch import Tensor, nn
from torchmetrics.image.fid import _compute_fid
from torchmetrics.image.inception import InceptionScore
from torchmetrics.image.kid import poly_mmd

from ganscale.errors import GanscaleError
from ganscale.evaluation.features.network import Features
from ganscale.evaluation.metrics.class_entropy import relative_entropy
from ganscale.evaluation.metrics.diversity import relative_spread
from ganscale.evaluation.metrics.fid import frechet_distance
from ganscale.evaluation.metrics.inception_score import exponential_information
from ganscale.evaluation.metrics.kid import squared_mmd
from ganscale.evaluation.metrics.neighbourhoods import NEIGHBOURS, neighbourhoods, reach
from ganscale.evaluation.metrics.sums import Sums
from ganscale.host_randomness import permutation
from tests.evaluation.ranks import on_ranks

WIDTH, CLASSES = 12, 4


def drawn(seed: int, number: int = 300, shift: float = 0.0) -> Features:
    random = torch.Generator().manual_seed(seed)
    mixing = torch.randn(WIDTH, WIDTH, generator=random)
    features = torch.randn(number, WIDTH, generator=random) @ mixing + shift
    return Features(features, torch.randn(number, CLASSES, generator=random) * 3)


def sums(*parts: Features) -> Sums:
    total = Sums.zero(parts[0])
    for part in parts:
        total.add(part)
    return total


def test_fid_of_equal_sets_is_zero_and_of_others_the_papers_distance() -> None:
    real, fake = drawn(0), drawn(1, shift=0.3)
    assert frechet_distance(sums(real), sums(real)) == pytest.approx(0, abs=1e-6)
    (m1, c1), (m2, c2) = [
        (f.mean(0), np.cov(f, rowvar=False))
        for f in (real.features.double().numpy(), fake.features.double().numpy())
    ]
    root = linalg.sqrtm(c1 @ c2).real
    by_hand = ((m1 - m2) ** 2).sum() + np.trace(c1 + c2 - 2 * root)
    assert frechet_distance(sums(real), sums(fake)) == pytest.approx(by_hand, rel=1e-9)


def test_sums_of_parts_are_the_sums_of_the_whole() -> None:
    whole = drawn(0)
    parts = [Features(*(t[a:b] for t in whole)) for a, b in ((0, 7), (7, 200), (200, 300))]
    for key, value in sums(whole).tensors().items():
        assert torch.allclose(value, sums(*parts).tensors()[key], rtol=1e-12), key


def test_kid_is_the_unbiased_mmd(monkeypatch: pytest.MonkeyPatch) -> None:
    real, fake = drawn(0).features, drawn(1).features
    monkeypatch.setattr("ganscale.evaluation.metrics.kid.SUBSET", 100)

    def by_hand(x: Tensor, y: Tensor) -> float:
        def kernel(a: Tensor, b: Tensor) -> float:
            return ((float(a.double() @ b.double()) / WIDTH) + 1) ** 3

        n = len(x)
        same = sum(kernel(s[i], s[j]) for s in (x, y) for i in range(n) for j in range(n) if i != j)
        across = sum(kernel(a, b) for a in x for b in y)
        return same / (n * (n - 1)) - 2 * across / n**2

    x, y = [
        f[torch.from_numpy(permutation(0, f"kid/{side}", 0, len(f)))]
        for f, side in ((real, "real"), (fake, "generated"))
    ]
    expected = [by_hand(x[i : i + 100], y[i : i + 100]) for i in (0, 100, 200)]
    mean, deviation = squared_mmd(real, fake)
    assert mean == pytest.approx(np.mean(expected), rel=1e-6)
    assert deviation == pytest.approx(np.std(expected), rel=1e-6)


def test_kid_of_a_set_stored_class_by_class_is_that_of_the_set_shuffled() -> None:
    random = torch.Generator().manual_seed(0)
    centres = 5 * torch.randn(10, WIDTH, generator=random)
    classes = torch.arange(10).repeat_interleave(300)
    stored = centres[classes] + torch.randn(3000, WIDTH, generator=random)
    shuffled = centres[classes] + torch.randn(3000, WIDTH, generator=random)
    shuffled = shuffled[torch.randperm(3000, generator=random)]
    apart = squared_mmd(stored, shuffled + 1)[0]
    assert abs(squared_mmd(stored, shuffled)[0]) < 0.05 * apart
    fewer, deviation = squared_mmd(stored, shuffled[:500])  # not the first 500 stored ones
    assert abs(fewer) < 0.2 * apart
    assert deviation == 0


def test_fid_and_kid_are_those_of_torchmetrics() -> None:
    real, fake = drawn(0), drawn(1, shift=0.3)
    moments = (*sums(real).mean_and_covariance(), *sums(fake).mean_and_covariance())
    theirs = float(_compute_fid(*moments))
    assert frechet_distance(sums(real), sums(fake)) == pytest.approx(theirs, rel=1e-12)
    rows = [
        f[torch.from_numpy(permutation(0, f"kid/{side}", 0, len(f)))].double()
        for f, side in ((real.features, "real"), (fake.features, "generated"))
    ]
    assert squared_mmd(real.features, fake.features)[0] == float(poly_mmd(*rows))


def test_weighted_sums_are_the_weighted_mean_and_covariance() -> None:
    real = drawn(0)
    weights = torch.rand(300, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) + 0.1
    total = Sums.zero(real)
    for part in (slice(0, 11), slice(11, 300)):
        total.add(Features(real.features[part], real.logits[part]), weights[part])
    x, p = real.features.double().numpy(), (weights / weights.sum()).numpy()
    mean = sum(p[i] * x[i] for i in range(300))
    scatter = sum(p[i] * np.outer(x[i] - mean, x[i] - mean) for i in range(300))
    found = total.mean_and_covariance()
    assert np.allclose(found[0], mean)
    assert np.allclose(found[1], scatter / (1 - (p**2).sum()))
    # An image that counts twice as much is no second image: equal weights are no weights.
    scaled = Sums.zero(real)
    scaled.add(real, torch.full((300,), 7.0, dtype=torch.float64))
    assert np.allclose(scaled.mean_and_covariance()[1], np.cov(x, rowvar=False))


@pytest.mark.parametrize("number", [1, 0])
def test_fid_of_fewer_than_two_images_is_refused(number: int) -> None:
    few = Features(*(t[:number] for t in drawn(1)))
    for sides in ((sums(drawn(0)), sums(few)), (sums(few), sums(drawn(0)))):
        with pytest.raises(GanscaleError, match="at least two images on each side"):
            frechet_distance(*sides)


def test_a_fid_that_is_no_number_is_refused() -> None:
    broken = drawn(1)
    broken.features[17, 3] = torch.nan
    with pytest.raises(GanscaleError, match="FID is nan for 300 generated images against 300 real"):
        frechet_distance(sums(drawn(0)), sums(broken))


def test_inception_score_is_torchmetrics_with_one_split() -> None:
    made = drawn(2)
    theirs = InceptionScore(feature=nn.Identity(), splits=1)
    theirs.update(made.logits.double())
    assert exponential_information(sums(made)) == pytest.approx(
        float(theirs.compute()[0]), rel=1e-6
    )


def test_neighbourhoods_are_the_papers_counts() -> None:
    real, fake = drawn(0).features[:120], drawn(1).features[:90]
    between = cdist(real.double(), fake.double())
    k = NEIGHBOURS
    real_reach = np.sort(cdist(real.double(), real.double()), 1)[:, k]
    fake_reach = np.sort(cdist(fake.double(), fake.double()), 1)[:, k]
    inside = between < real_reach[:, None]
    found = neighbourhoods(real, fake)
    assert found["precision"] == pytest.approx(inside.any(0).mean())
    assert found["recall"] == pytest.approx((between < fake_reach).any(1).mean())
    assert found["density"] == pytest.approx(inside.sum(0).mean() / k)
    assert found["coverage"] == pytest.approx(inside.any(1).mean())


def test_equal_sets_overlap_wholly_and_a_single_mode_hardly() -> None:
    real = drawn(0).features
    same = neighbourhoods(real, real.clone())
    assert same["precision"] == same["recall"] == same["coverage"] == 1
    one_mode = real[:1] + 1e-3 * torch.randn(real.shape, generator=torch.Generator().manual_seed(1))
    collapsed = neighbourhoods(real, one_mode)
    assert collapsed["precision"] == 1
    assert collapsed["recall"] < 0.05
    assert collapsed["coverage"] < 0.2


def test_collapse_shows_in_diversity_and_entropy() -> None:
    real = drawn(0)
    mean = real.features.mean(0)
    closer = Features(mean + 0.25 * (real.features - mean), real.logits)
    assert relative_spread(sums(real), sums(real)) == pytest.approx(1)
    assert relative_spread(sums(real), sums(closer)) == pytest.approx(0.25, rel=1e-3)
    every_class = Features(real.features[:8], torch.eye(CLASSES).repeat(2, 1))
    one_class = Features(real.features[:8], torch.eye(CLASSES)[:1].repeat(8, 1))
    assert relative_entropy(sums(every_class)) == pytest.approx(1)
    assert relative_entropy(sums(one_class)) == pytest.approx(0)


def test_ranks_that_share_the_neighbourhoods_get_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ganscale.evaluation.metrics.neighbourhoods.CHUNK", 70)
    real, fake = drawn(0).features, drawn(1).features[:200]
    alone = neighbourhoods(real, fake)
    shared = on_ranks(3, lambda ranks: neighbourhoods(real, fake, reach(real), ranks))
    assert shared == [alone] * 3
