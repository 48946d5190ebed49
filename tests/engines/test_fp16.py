"""fp16: scaled losses, overflows that are ordinary, and those that are a divergence."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from ganscale.config import Experiment
from ganscale.engines.launcher import Launcher
from ganscale.engines.player import Player
from ganscale.errors import GanscaleError
from ganscale.monitoring.metrics_log import read_metrics
from ganscale.runs.run_folder import RunFolder
from ganscale.training.divergence import Divergence
from ganscale.training.trainer import Trainer, train
from tests.comparing import same_checkpoint
from tests.conftest import tiny
from tests.models import make_step
from tests.reference import by_hand, real_batches

HALF = "train.precision=fp16"
TOO_LARGE = 2.0**40  # a float16 ends at 65,504
R1 = "objective.penalties=[{kind: r1, weight: 3, every: 2}]"


def overflow(player: Player) -> None:
    """Let the next steps overflow, until the scale has been halved often enough."""
    assert player._own_scaler is not None
    player._own_scaler = torch.amp.GradScaler(player.device.type, init_scale=TOO_LARGE)


def test_steps_are_those_of_float64_but_for_rounding(digits: Path, tmp_path: Path) -> None:
    # As large as gradients are, so that Adam shows a gradient that is still multiplied by a scale.
    eps = ("generator.optimizer.eps=1e-3", "discriminator.optimizer.eps=1e-3")
    clipped = ("generator.clip_norm=0.01", "discriminator.clip_norm=0.02")
    for overrides in (("train.accumulation=2",), (R1,), (R1, *clipped)):
        experiment = tiny(digits, tmp_path, HALF, *eps, *overrides)
        model, step = make_step(experiment)
        assert model.generator.loss_scale == model.discriminator.loss_scale == 65_536
        for k in range(4):
            statistics = step(k, real_batches(experiment, k, 1), measure=k == 3)
        by = by_hand(experiment, 4)
        pairs = ((model.generator, by.generator), (model.discriminator, by.discriminator))
        for ours, theirs in pairs:
            for a, b in zip(ours.module.parameters(), theirs.parameters(), strict=True):
                assert float((a.double() - b).norm().detach() / b.norm().detach()) < 3e-3
            measured = float(statistics.means()[f"gradient_norm_{ours.name}"])
            assert measured == pytest.approx(by.norms[ours.name], rel=0.02)


def test_a_step_that_overflows_is_left_out_by_its_player_alone(
    digits: Path, tmp_path: Path
) -> None:
    experiment = tiny(digits, tmp_path, HALF, R1, "discriminator.clip_norm=0.02")
    model, step = make_step(experiment)
    step(0, real_batches(experiment, 0, 1), measure=False)
    overflow(model.discriminator)
    before = [p.clone() for p in model.discriminator.module.parameters()]
    moments = [s["exp_avg"].clone() for s in model.discriminator.optimizer.state.values()]
    other = [p.clone() for p in model.generator.module.parameters()]
    statistics = step(1, real_batches(experiment, 1, 1), measure=True)
    assert not math.isfinite(float(statistics.means()["gradient_norm_discriminator"]))
    assert all(map(torch.equal, before, model.discriminator.module.parameters()))
    after = [s["exp_avg"] for s in model.discriminator.optimizer.state.values()]
    assert all(map(torch.equal, moments, after))
    assert model.discriminator.loss_scale == TOO_LARGE / 2
    assert model.generator.loss_scale == 65_536
    assert not any(map(torch.equal, other, model.generator.module.parameters()))
    assert model.discriminator._own_scaler is not None
    model.discriminator._own_scaler.update(1024.0)
    step(2, real_batches(experiment, 2, 1), measure=False)
    assert not any(map(torch.equal, before, model.discriminator.module.parameters()))


def test_an_overflow_in_a_logged_step_does_not_end_the_run(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = tiny(digits, tmp_path, HALF, "train.steps=40")
    initialise = Trainer.__init__

    def overflowing(trainer: Trainer, *given: Any) -> None:
        initialise(trainer, *given)
        overflow(trainer.model.generator)

    monkeypatch.setattr(Trainer, "__init__", overflowing)
    assert train(experiment) == 0
    lines = read_metrics(RunFolder.of(experiment).metrics)
    assert [line["step"] for line in lines] == list(range(1, 41))
    succeeded = ["gradient_norm_generator" in line for line in lines]
    first = succeeded.index(True)
    assert 1 < first < 30
    assert all(succeeded[first:])
    scales = [line["loss_scale_generator"] for line in lines]
    assert scales[first] == scales[-1] == TOO_LARGE / 2**first
    assert all(line["loss_scale_discriminator"] == 65_536 for line in lines)


def test_overflows_without_end_are_a_divergence(digits: Path, tmp_path: Path) -> None:
    values = tiny(digits, tmp_path, HALF, "train.steps=60").model_dump()
    values["discriminator"]["network"] = {
        "architecture": f"{Path(__file__).parents[1] / 'training' / 'test_trainer.py'}:Exploding"
    }
    experiment = Experiment.model_validate(values)
    # Its forwards, three a step, are not finite from the fortieth on: after 13 steps. 17 halvings
    # later the scale of 65,536 is a half.
    message = r"loss_scale_\w+ has fallen to 0.5 \(every step overflows\) at step (30|31)"
    with pytest.raises(GanscaleError, match=message):
        train(experiment)


def test_a_weight_that_is_no_number_is_never_kept(digits: Path, tmp_path: Path) -> None:
    """Only the running statistics of a step that overflowed may be infinite for a while."""
    trainer = Trainer(tiny(digits, tmp_path, HALF), Launcher())
    weights = trainer.model.weights()
    divergence = Divergence(trainer.model, trainer.folder.checkpoints)
    divergence.refuse_weights(0, weights)
    name = "layers.0.weight"
    weights["generator"][name][0] = float("nan")
    with pytest.raises(GanscaleError, match=f"generator {name} is not a finite number"):
        divergence.refuse_weights(0, weights)


def test_a_resumed_run_is_the_uninterrupted_one(digits: Path, tmp_path: Path) -> None:
    ends = []
    for name, stops in (("whole", [10]), ("halves", [4, 10])):
        for steps in stops:
            experiment = tiny(digits, tmp_path, HALF, R1, f"name={name}", f"train.steps={steps}")
            train(experiment)
        ends.append(RunFolder.of(experiment).checkpoints / "step-00000010")
    same_checkpoint(*ends)
