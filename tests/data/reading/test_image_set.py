"""What a dataset says of itself: how often training draws each class."""

from pathlib import Path

import numpy as np
import pytest

from ganscale.data.reading.image_set import ImageSet
from ganscale.errors import GanscaleError
from tests.conftest import tiny
from tests.evaluation.sets import digit_arrays, packed, uneven


def shares(path: Path, folder: Path, *overrides: str) -> list[float]:
    found: list[float] = ImageSet(tiny(path, folder, *overrides).data).class_shares().tolist()
    return found


def test_class_shares_count_samples_that_have_a_label(tmp_path: Path) -> None:
    """178 zeros, 40 ones and 177 twos, every tenth of them without its label."""
    _, truth = digit_arrays()
    rows = np.flatnonzero((truth == 0) | (truth == 2) | (truth == 1))
    ones = np.flatnonzero(truth == 1)[40:]
    labels = truth[np.setdiff1d(rows, ones)].copy()
    labels[::10] = -1
    counts = np.bincount(labels[labels >= 0], minlength=3)
    found = shares(uneven(tmp_path / "set"), tmp_path)
    assert found == pytest.approx(counts / counts.sum())
    balanced = shares(tmp_path / "set", tmp_path, "data.balance_classes=true")
    assert balanced == pytest.approx([1 / 3] * 3)


def test_class_shares_of_a_mixture_are_weighted(tmp_path: Path) -> None:
    images, truth = digit_arrays()
    two = (truth < 2).nonzero()[0]
    first = packed(tmp_path / "first", images[two], np.zeros(len(two), int), 2)
    second = packed(tmp_path / "second", images[two[:90]], np.arange(90) % 3 % 2, 2)
    mixture = f"data.mixture=[{{path: {first}, weight: 1}}, {{path: {second}, weight: 3}}]"
    # The second holds a third of ones: 0, 1, 0 over and over.
    assert shares(first, tmp_path, mixture) == pytest.approx([0.75, 0.25])


def test_a_dataset_without_any_label_is_refused(tmp_path: Path) -> None:
    images, _ = digit_arrays()
    path = packed(tmp_path / "set", images[:20], np.full(20, -1), 2)
    with pytest.raises(GanscaleError, match=r"data\.classes=2: no sample of .* has a label"):
        shares(path, tmp_path)
