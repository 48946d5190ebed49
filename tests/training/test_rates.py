from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ganscale.config import Experiment
from ganscale.engines.distributed import Ranks
from ganscale.training.balance import HeldOut
from ganscale.training.model import GANModel
from ganscale.training.rates import scheduled_values
from tests.conftest import tiny
from tests.models import make_model

COSINE = "generator.optimizer.lr={from: 0.1, to: 0, by: cosine, until: 10 steps}"
PIECES = (
    "discriminator.optimizer.lr="
    "[{from: 0, to: 2e-4, until: 4 steps}, {hold: 1e-4, until: 48 images}, 5e-5]"
)
BETAS = "discriminator.optimizer.betas=[0.1, {from: 0.9, to: 0.99, until: 5 steps}]"


def groups_of(model: GANModel, step: int) -> list[dict[str, Any]]:
    model.rates.apply(step)
    return [p.optimizer.param_groups[0] for p in (model.generator, model.discriminator)]


def rates_of(model: GANModel, step: int = 0) -> list[float]:
    return [group["lr"] for group in groups_of(model, step)]


def test_the_optimizers_have_what_the_schedules_say(digits: Path, tmp_path: Path) -> None:
    model = make_model(tiny(digits, tmp_path, COSINE, PIECES, BETAS))
    pieces = [0, 5e-5, 1e-4, 1.5e-4, 1e-4, 1e-4, 5e-5, 5e-5]
    for step in (0, 1, 2, 3, 4, 5, 6, 7, 2):  # and in any order
        generator, discriminator = groups_of(model, step)
        cosine = 0.1 * (1 + np.cos(np.pi * step / 10)) / 2
        assert [generator["lr"], discriminator["lr"]] == pytest.approx([cosine, pieces[step]])
        assert generator["betas"] == (0.5, 0.999)
        assert discriminator["betas"] == pytest.approx((0.1, 0.9 + 0.09 * min(step, 5) / 5))


def test_a_beta_changes_the_update_as_adam_has_it(digits: Path, tmp_path: Path) -> None:
    """Two steps on gradients 1 and 3: the moments forget by the beta of their step."""
    model = make_model(tiny(digits, tmp_path, "generator.optimizer={lr: 0.1, betas: [0, 0.5]}"))
    weight = next(iter(model.generator.module.parameters()))
    second, before = 0.0, weight.detach().clone()
    for step, (gradient, beta) in enumerate(((1.0, 0.5), (3.0, 0.9))):
        model.generator.set_rates(0.1, (0.0, beta))
        weight.grad = torch.full_like(weight, gradient)
        model.generator.step()
        second = beta * second + (1 - beta) * gradient**2
        before -= 0.1 * gradient / ((second / (1 - beta ** (step + 1))) ** 0.5 + 1e-8)
        assert torch.allclose(weight, before, atol=1e-5)


def test_only_the_balance_is_state(digits: Path, tmp_path: Path) -> None:
    first, second = (make_model(tiny(digits, tmp_path, COSINE, PIECES)) for _ in range(2))
    first.rates.apply(5)
    first.rates.shares["discriminator"] = 0.5
    torch.save(first.rates.state(), tmp_path / "state.pt")
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    assert state == {"shares": {"generator": 1.0, "discriminator": 0.5}}
    second.rates.load_state(state)
    for step in range(5, 8):
        assert rates_of(first, step) == rates_of(second, step)


def test_every_scheduled_number_is_logged(digits: Path, tmp_path: Path) -> None:
    more = (
        "objective.penalties=[{kind: r1, weight: {from: 1, to: 0, until: 4 steps}}]",
        "ema.half_life={from: 0, to: 1000, until: 4 steps}",
        "augment.probability={from: 0, to: 1, until: 4 steps}",
        "augment.noise_std={from: 0.2, to: 0, until: 4 steps}",
    )
    assert scheduled_values(tiny(digits, tmp_path), 1) == {}
    experiment = tiny(digits, tmp_path, COSINE, PIECES, BETAS, *more)
    assert scheduled_values(experiment, 1) == pytest.approx(
        {
            "ema_half_life": 250,
            "augment_probability": 0.25,
            "augment_noise_std": 0.15,
            "beta2_discriminator": 0.918,
            "penalty_weight_r1": 0.75,
        }
    )


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
