"""Scores on inputs whose scores are known, and against second implementations."""

import numpy as np
import pytest
import torch
from scipy import linalg
from scipy.spatial.distance import cdist
from torch import Tensor, nn
from torchmetrics.image.inception import InceptionScore

from ganscale.evaluation import metrics
from ganscale.evaluation.features import Features

WIDTH, CLASSES = 12, 4


def drawn(seed: int, number: int = 300, shift: float = 0.0) -> Features:
    random = torch.Generator().manual_seed(seed)
    mixing = torch.randn(WIDTH, WIDTH, generator=random)
    features = torch.randn(number, WIDTH, generator=random) @ mixing + shift
    return Features(features, torch.randn(number, CLASSES, generator=random) * 3)


def sums(*parts: Features) -> metrics.Sums:
    total = metrics.Sums.zero(parts[0])
    for part in parts:
        total.add(part)
    return total


def test_fid_of_equal_sets_is_zero_and_of_others_the_papers_distance() -> None:
    real, fake = drawn(0), drawn(1, shift=0.3)
    assert metrics.fid(sums(real), sums(real)) == pytest.approx(0, abs=1e-6)
    (m1, c1), (m2, c2) = [
        (f.mean(0), np.cov(f, rowvar=False))
        for f in (real.features.double().numpy(), fake.features.double().numpy())
    ]
    root = linalg.sqrtm(c1 @ c2).real
    by_hand = ((m1 - m2) ** 2).sum() + np.trace(c1 + c2 - 2 * root)
    assert metrics.fid(sums(real), sums(fake)) == pytest.approx(by_hand, rel=1e-9)


def test_sums_of_parts_are_the_sums_of_the_whole() -> None:
    whole = drawn(0)
    parts = [Features(*(t[a:b] for t in whole)) for a, b in ((0, 7), (7, 200), (200, 300))]
    added = sums(parts[0]) + sums(*parts[1:])
    for key, value in sums(whole).tensors().items():
        assert torch.allclose(value, added.tensors()[key], rtol=1e-12), key


def test_kid_is_the_unbiased_mmd(monkeypatch: pytest.MonkeyPatch) -> None:
    real, fake = drawn(0).features, drawn(1).features
    monkeypatch.setattr(metrics, "KID_SUBSET", 100)

    def by_hand(x: Tensor, y: Tensor) -> float:
        def kernel(a: Tensor, b: Tensor) -> float:
            return ((float(a.double() @ b.double()) / WIDTH) + 1) ** 3

        n = len(x)
        same = sum(kernel(s[i], s[j]) for s in (x, y) for i in range(n) for j in range(n) if i != j)
        across = sum(kernel(a, b) for a in x for b in y)
        return same / (n * (n - 1)) - 2 * across / n**2

    expected = [by_hand(real[i : i + 100], fake[i : i + 100]) for i in (0, 100, 200)]
    mean, deviation = metrics.kid(real, fake)
    assert mean == pytest.approx(np.mean(expected), rel=1e-6)
    assert deviation == pytest.approx(np.std(expected), rel=1e-6)
    same, _ = metrics.kid(real, real)
    assert same < 0.05 * mean  # unbiased: a little below zero for the very same images


def test_inception_score_is_torchmetrics_with_one_split() -> None:
    made = drawn(2)
    theirs = InceptionScore(feature=nn.Identity(), splits=1)
    theirs.update(made.logits.double())
    assert metrics.inception_score(sums(made)) == pytest.approx(
        float(theirs.compute()[0]), rel=1e-6
    )


def test_neighbourhoods_are_the_papers_counts() -> None:
    real, fake = drawn(0).features[:120], drawn(1).features[:90]
    between = cdist(real.double(), fake.double())
    k = metrics.NEIGHBOURS
    real_reach = np.sort(cdist(real.double(), real.double()), 1)[:, k]
    fake_reach = np.sort(cdist(fake.double(), fake.double()), 1)[:, k]
    inside = between < real_reach[:, None]
    found = metrics.neighbourhoods(real, fake)
    assert found["precision"] == pytest.approx(inside.any(0).mean())
    assert found["recall"] == pytest.approx((between < fake_reach).any(1).mean())
    assert found["density"] == pytest.approx(inside.sum(0).mean() / k)
    assert found["coverage"] == pytest.approx(inside.any(1).mean())


def test_equal_sets_overlap_wholly_and_a_single_mode_hardly() -> None:
    real = drawn(0).features
    same = metrics.neighbourhoods(real, real.clone())
    assert same["precision"] == same["recall"] == same["coverage"] == 1
    one_mode = real[:1] + 1e-3 * torch.randn(real.shape, generator=torch.Generator().manual_seed(1))
    collapsed = metrics.neighbourhoods(real, one_mode)
    assert collapsed["precision"] == 1
    assert collapsed["recall"] < 0.05
    assert collapsed["coverage"] < 0.2


def test_collapse_shows_in_diversity_and_entropy() -> None:
    real = drawn(0)
    mean = real.features.mean(0)
    closer = Features(mean + 0.25 * (real.features - mean), real.logits)
    assert metrics.diversity(sums(real), sums(real)) == pytest.approx(1)
    assert metrics.diversity(sums(real), sums(closer)) == pytest.approx(0.25, rel=1e-3)
    every_class = Features(real.features[:8], torch.eye(CLASSES).repeat(2, 1))
    one_class = Features(real.features[:8], torch.eye(CLASSES)[:1].repeat(8, 1))
    assert metrics.class_entropy(sums(every_class)) == pytest.approx(1)
    assert metrics.class_entropy(sums(one_class)) == pytest.approx(0)
