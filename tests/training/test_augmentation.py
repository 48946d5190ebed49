from pathlib import Path

import pytest
import torch
from torch import Tensor

from ganscale.config import Experiment
from ganscale.training.augmentation import Augmentation
from tests.conftest import tiny
from tests.models import make_model


def make(experiment: Experiment) -> Augmentation:
    return make_model(experiment).augmentation


def test_rows_are_changed_alike_on_one_process_and_on_several(digits: Path, tmp_path: Path) -> None:
    policy = "augment.policy=[color,translation,cutout,scale]"
    augmentation = make(tiny(digits, tmp_path, policy, "augment.noise_std=0.1"))
    augmentation.begin(0)
    images = torch.randn(8, 1, 28, 28)
    whole = augmentation(images, "real", 3, range(8), augmentation.strength)
    parts = [
        augmentation(images[a : a + 4], "real", 3, range(a, a + 4), augmentation.strength)
        for a in (0, 4)
    ]
    assert torch.allclose(whole, torch.cat(parts), atol=1e-6)
    assert not torch.allclose(
        whole, augmentation(images, "fake", 3, range(8), augmentation.strength)
    )
    assert not torch.allclose(
        whole, augmentation(images, "real", 4, range(8), augmentation.strength)
    )


def test_instance_noise_fades_to_none(digits: Path, tmp_path: Path) -> None:
    fading = "augment.noise_std={from: 0.5, to: 0, until: 10 steps}"
    augmentation = make(tiny(digits, tmp_path, fading))
    images = torch.zeros(64, 1, 28, 28)

    def std(step: int) -> float:
        augmentation.begin(step)
        return augmentation(images, "real", step, range(64), augmentation.strength).std().item()

    assert [std(step) for step in (0, 5, 10, 99)] == pytest.approx([0.5, 0.25, 0, 0], abs=0.01)


def test_a_scheduled_probability_is_that_of_the_step_and_in_no_checkpoint(
    digits: Path, tmp_path: Path
) -> None:
    rising = "augment.probability={from: 0, to: 0.5, until: 40 images}"  # of 5 steps of 8
    augmentation = make(tiny(digits, tmp_path, "augment.policy=[brightness]", rising))
    images = torch.zeros(400, 1, 28, 28)
    for step, expected in ((0, 0.0), (1, 0.1), (4, 0.4), (5, 0.5), (9, 0.5), (2, 0.2)):
        augmentation.begin(step)
        assert augmentation.probability == pytest.approx(expected)
        changed = (
            augmentation(images, "real", step, range(400), augmentation.strength).flatten(1).any(1)
        )
        assert changed.float().mean().item() == pytest.approx(expected, abs=0.07)
        augmentation.adjust(step + 1)
    assert augmentation.state() == {}


def test_adas_probability_goes_to_where_the_signs_meet_the_target(
    digits: Path, tmp_path: Path
) -> None:
    adaptive = "augment.adaptive={target: 0.6, every: 2, images: 160}"
    policy = ("augment.policy=[flip]", "augment.probability=0.5")
    augmentation = make(tiny(digits, tmp_path, adaptive, *policy))  # 2 steps of 8 of 160: 0.1

    def two_steps(first: int, logits: Tensor) -> float:
        for step in (first, first + 1):
            augmentation.observe(logits)
            augmentation.adjust(step + 1)
        return augmentation.probability

    sure, unsure = torch.ones(8), torch.tensor([1.0, 1, 1, 1, 1, -1, -1, -1])
    assert two_steps(0, sure) == pytest.approx(0.6)
    assert two_steps(2, unsure) == pytest.approx(0.5)
    for first in range(4, 24, 2):
        two_steps(first, sure)
    assert augmentation.probability == 1
    augmentation.observe(-sure)  # of two steps the first is in the state
    state = augmentation.state()
    other = make(tiny(digits, tmp_path, adaptive, *policy))
    other.load_state(state)
    for one in (augmentation, other):
        one.observe(sure)
        one.adjust(26)
    assert other.probability == augmentation.probability == pytest.approx(0.9)
