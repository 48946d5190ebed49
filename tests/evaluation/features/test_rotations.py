from pathlib import Path

import numpy as np
import pytest
import torch

from ganscale.data.reading.image_set import ImageSet
from ganscale.data.reading.readers import Batch
from ganscale.evaluation.feature_cache import Cache
from ganscale.evaluation.features import rotations, trained
from ganscale.evaluation.features.network import Opening
from ganscale.evaluation.features.rotations import Rotations
from tests.conftest import tiny
from tests.evaluation.replay import HOST
from tests.evaluation.sets import digit_arrays, packed


def open_rotations(folder: Path, images: np.ndarray, labels: np.ndarray, classes: int) -> Rotations:
    experiment = tiny(packed(folder / "set", images, labels, classes), folder)
    found = ImageSet(experiment.data)
    cache = Cache(experiment.data, found, folder)
    return Rotations.open(Opening(experiment, found, found.reader(), HOST, cache))


def test_each_image_is_asked_for_in_each_rotation() -> None:
    images = torch.randint(0, 2**16, (3, 2, 8, 8)).to(torch.uint16)
    asked, answers = Rotations((2, 8, 8)).ask(Batch(images, torch.tensor([-1, 5, 5])))
    assert asked.dtype == torch.uint16
    assert answers.tolist() == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3
    for rotated, answer in zip(asked.numpy(), answers.tolist(), strict=True):
        upright = np.rot90(rotated, -answer, (1, 2))
        assert any(np.array_equal(upright, image) for image in images.numpy())


@pytest.mark.parametrize("shape", [(3, 8, 20), (3, 20, 8)])
def test_of_an_image_that_is_not_square_every_pixel_is_seen_in_a_square(
    shape: tuple[int, int, int],
) -> None:
    network = Rotations(shape).eval()
    assert network.questions_per_image == 12
    image = torch.arange(shape[1] * shape[2]).view(1, 1, *shape[1:]).expand(1, *shape).byte()
    asked, answers = network.ask(Batch(image, torch.tensor([-1])))
    assert asked.shape == (12, 3, 8, 8)
    upright = asked[answers == 0]
    assert set(upright.flatten().tolist()) == set(range(160))
    by_hand = torch.stack([network(square[None]) for square in upright]).mean(0)
    measured = network.measure(image)
    torch.testing.assert_close(measured.features, by_hand)
    assert measured.logits.shape == (1, 0)


def test_it_learns_what_is_up_and_says_how_often_it_is_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trained, "MIN_STEPS", 60)
    monkeypatch.setattr(trained, "EPOCHS", (0,))
    images, labels = digit_arrays()
    chosen = labels == 7
    network = open_rotations(tmp_path, images[chosen], np.full(chosen.sum(), -1), 0)
    held_out = ImageSet(tiny(tmp_path / "set", tmp_path).data).reader()
    asked, answers = network.ask(held_out.read(np.arange(0, chosen.sum(), 10)))
    right = (network.head(network(asked)).argmax(1) == answers).float().mean()
    assert right > 0.8
    assert network.description == f"rotation features ({100 * right:.1f} % right, by chance 25 %)"


def test_labels_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trained, "MIN_STEPS", 3)
    monkeypatch.setattr(trained, "EPOCHS", (0,))
    images, labels = digit_arrays()
    (tmp_path / "labelled").mkdir()
    (tmp_path / "bare").mkdir()
    first = open_rotations(tmp_path / "labelled", images[:60], labels[:60], 10)
    second = open_rotations(tmp_path / "bare", images[:60], np.full(60, -1), 0)
    assert first.checksum == second.checksum


def test_images_that_look_alike_when_rotated_are_not_to_be_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(trained, "MIN_STEPS", 30)
    monkeypatch.setattr(trained, "EPOCHS", (0,))
    images = digit_arrays()[0][:200]
    alike = np.mean([np.rot90(images, k, (1, 2)) for k in range(4)], axis=0).astype(np.uint8)
    network = open_rotations(tmp_path, alike, np.full(200, -1), 0)
    assert float(network.accuracy) < rotations.LOW_ACCURACY
    assert "by chance 25 %: too few to be trusted" in network.description
    assert "look alike when rotated" in caplog.text
