from pathlib import Path

import numpy as np
import pytest
import torch

from ganscale.config import Experiment
from ganscale.engines.distributed import Ranks
from ganscale.errors import GanscaleError
from ganscale.training.balance import HeldOut
from ganscale.training.model import GANModel
from tests.conftest import tiny
from tests.models import make_model

COSINE = "generator.schedules=[{name: CosineAnnealingLR, options: {T_max: 10}}]"
TWO = (
    "discriminator.schedules=[{name: LinearLR, options: {start_factor: 0.5, total_iters: 4}},"
    "{name: StepLR, options: {step_size: 3, gamma: 0.1}}]"
)


def rates_of(model: GANModel) -> list[float]:
    model.rates.apply()
    players = (model.generator, model.discriminator)
    return [player.optimizer.param_groups[0]["lr"] for player in players]


def test_schedules_are_torchs(digits: Path, tmp_path: Path) -> None:
    model = make_model(tiny(digits, tmp_path, COSINE, TWO, "generator.optimizer.lr=0.1"))
    base = 2e-4
    for step in range(8):
        cosine = 0.1 * (1 + np.cos(np.pi * step / 10)) / 2
        linear = 0.5 + 0.5 * min(step, 4) / 4
        assert rates_of(model) == pytest.approx([cosine, base * linear * 0.1 ** (step // 3)])
        model.rates.advance()


def test_state_goes_on_where_it_was(digits: Path, tmp_path: Path) -> None:
    first, second = (make_model(tiny(digits, tmp_path, COSINE, TWO)) for _ in range(2))
    for _ in range(5):
        first.rates.advance()
    torch.save(first.rates.state(), tmp_path / "state.pt")
    second.rates.load_state(torch.load(tmp_path / "state.pt", weights_only=True), step=5)
    for _ in range(3):
        assert rates_of(first) == rates_of(second)
        first.rates.advance()
        second.rates.advance()


def test_a_schedule_that_does_not_take_its_options_is_named(digits: Path, tmp_path: Path) -> None:
    bad = "generator.schedules=[{name: StepLR, options: {gama: 0.1}}]"
    with pytest.raises(GanscaleError, match=r"generator\.schedules\.0: StepLR .*gama"):
        make_model(tiny(digits, tmp_path, bad))


def balanced(digits: Path, folder: Path) -> Experiment:
    balance = f"balance={{held_out: {digits}, images: 100, band: [0.6, 0.8], factor: 0.5}}"
    return tiny(digits, folder, balance, "generator.optimizer.lr=1", "discriminator.optimizer.lr=1")


def test_the_balance_slows_who_runs_away_and_gives_back_first(digits: Path, tmp_path: Path) -> None:
    model = make_model(balanced(digits, tmp_path))
    for accuracy, expected in (
        (0.7, [1, 1]),
        (0.9, [1, 0.5]),
        (0.9, [1, 0.25]),
        (0.7, [1, 0.25]),
        (0.5, [1, 0.5]),
        (0.5, [1, 1]),
        (0.5, [0.5, 1]),
        (0.9, [1, 1]),
    ):
        model.rates.rebalance(accuracy)
        assert rates_of(model) == pytest.approx(expected)
    for _ in range(10):
        model.rates.rebalance(0.99)
    assert rates_of(model) == pytest.approx([1, 0.25])
    model.rates.shares["discriminator"] = 0.75  # twice that would be more than it was built with
    model.rates.rebalance(0.5)
    assert rates_of(model) == pytest.approx([1, 1])


def test_a_look_counts_pairs_told_apart_and_leaves_no_trace(digits: Path, tmp_path: Path) -> None:
    base = balanced(digits, tmp_path).model_dump(mode="json")
    base["discriminator"]["network"] = {"architecture": "dcgan", "width": 4}
    experiment = Experiment.model_validate(base)
    model = make_model(experiment)
    held_out = HeldOut.of(experiment, model, Ranks())
    assert held_out is not None
    before = {k: v.clone() for k, v in model.discriminator.module.state_dict().items()}
    accuracy = held_out.accuracy(3)
    assert accuracy == held_out.accuracy(3)
    assert 0 <= accuracy <= 1
    for key, value in model.discriminator.module.state_dict().items():
        assert torch.equal(value, before[key]), key
    # A discriminator that sums pixels tells bright images from dark ones.
    model.discriminator.module.forward = lambda images: images.flatten(1).sum(1)
    model.generator.module.forward = lambda latents: torch.full((len(latents), 1, 28, 28), -1.1)
    assert held_out.accuracy(3) == 1
    model.generator.module.forward = lambda latents: torch.full((len(latents), 1, 28, 28), 1.0)
    assert held_out.accuracy(3) == 0
