"""Whole runs in this process, on a tiny game."""

import math
import re
from pathlib import Path

import pytest
import torch
from torch import nn

from ganscale.config import Experiment
from ganscale.errors import GanscaleError
from ganscale.monitoring.metrics_log import read_metrics
from ganscale.randomness import STREAM_VERSION
from ganscale.runs import checkpoint
from ganscale.runs.run_folder import RunFolder
from ganscale.runs.sampler import Sampler
from ganscale.training.loop import Loop
from ganscale.training.trainer import train
from tests.comparing import PLAYERS_SECONDS, metrics, same_checkpoint
from tests.conftest import tiny


def test_a_run_leaves_what_a_user_looks_for(digits: Path, tmp_path: Path) -> None:
    experiment = tiny(
        digits, tmp_path, "monitoring.pictures_every=5", "monitoring.trackers=[tensorboard]"
    )
    assert train(experiment) == 0
    folder = RunFolder.of(experiment)
    assert [p.name for p in checkpoint.list_finished(folder.checkpoints)] == ["step-00000010"]
    assert [p.name for p in sorted(folder.samples.iterdir())] == [
        f"step-{s:08d}.png" for s in (0, 5, 10)
    ]
    assert folder.experiment() == experiment
    for line in read_metrics(folder.metrics):
        assert 0 < sum(line[key] for key in PLAYERS_SECONDS) < line["seconds_step"]
    assert list(folder.path.glob("tensorboard/events*"))
    report = folder.report.read_text()
    assert "<svg" in report
    assert "data:image/png" in report
    assert re.findall(r'(?:src|href)\s*=\s*"(?!#|data:)[^"]', report) == []  # needs nothing else
    assert [line["step"] for line in metrics(experiment)] == list(range(1, 11))


@pytest.mark.parametrize("stop", [1, 4, 7])
def test_a_resumed_run_is_the_uninterrupted_one(digits: Path, tmp_path: Path, stop: int) -> None:
    with_state = (
        "augment.policy=[flip,shift]",
        "augment.adaptive={every: 3, images: 200}",
        f"balance={{held_out: {digits}, every: 2, images: 50, band: [0.2, 0.3]}}",
    )
    whole = tiny(digits, tmp_path, "name=whole", *with_state)
    train(whole)
    halves = tiny(digits, tmp_path, "name=halves", f"train.steps={stop}", *with_state)
    train(halves)
    halves = tiny(digits, tmp_path, "name=halves", *with_state)
    train(halves)
    ends = [RunFolder.of(e).checkpoints / "step-00000010" for e in (whole, halves)]
    same_checkpoint(*ends)
    assert metrics(whole) == metrics(halves)


@pytest.mark.parametrize("stream", [None, STREAM_VERSION - 1, STREAM_VERSION + 1])
def test_a_run_does_not_go_on_with_other_random_numbers(
    digits: Path, tmp_path: Path, stream: int | None
) -> None:
    experiment = tiny(digits, tmp_path, "train.steps=3")
    train(experiment)
    folder = RunFolder.of(experiment)
    path = folder.checkpoints / "step-00000003"
    state = checkpoint.read_state(path)
    assert state.random_stream == STREAM_VERSION
    other = state.model_copy(update={"random_stream": stream})
    weights = {part: checkpoint.read_weights(path, part) for part in checkpoint.PARTS}
    checkpoint.write(folder.checkpoints, other, weights, checkpoint.read_training(path))
    with pytest.raises(GanscaleError, match=r"step-00000003 .* other random numbers.*another name"):
        train(tiny(digits, tmp_path, "train.steps=4"))
    assert checkpoint.read_state(path) == other
    assert Sampler(folder.path, "latest").images(2).shape == (2, 28, 28, 1)


def test_a_finished_run_goes_on_when_its_steps_are_raised(
    digits: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Its best checkpoint stays, and what only observes may change with its length."""
    scores = {2: 1.5, 4: 3.0, 6: 2.0}
    monkeypatch.setattr(
        Loop, "_look", lambda self: {"fid": scores[self.step]} if self.step in scores else {}
    )
    first = tiny(digits, tmp_path, "train.steps=4", "checkpoint={every: 2, keep: 1}")
    assert train(first) == 0
    changes = ("checkpoint={every: 3, keep: 1}", "evaluation.samples=20", "monitoring.log_every=2")
    longer = tiny(digits, tmp_path, "train.steps=7", *changes)
    capsys.readouterr()
    assert train(longer) == 0
    assert "tiny: 4 of 7 steps done" in capsys.readouterr().err
    kept = checkpoint.list_finished(RunFolder.of(longer).checkpoints)
    assert [checkpoint.step_of(path) for path in kept] == [2, 7]
    assert RunFolder.of(longer).experiment() == longer
    assert train(longer) == 0
    assert (
        "already finished: 7 steps. To train longer, raise train.steps" in capsys.readouterr().out
    )


def test_a_longer_run_takes_the_rates_of_its_new_schedule(
    digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cosine = "generator.optimizer.lr={from: 1e-3, to: 5e-5, by: cosine, until: end of run}"
    train(tiny(digits, tmp_path, cosine, "train.steps=20"))
    longer = tiny(digits, tmp_path, cosine, "train.steps=40")
    capsys.readouterr()
    train(longer)
    (said,) = [line for line in capsys.readouterr().err.splitlines() if "has changed" in line]
    curve = "{from: 0.001, to: 5.0e-05, by: cosine, until: end of run}"
    assert said.endswith(
        f"generator.optimizer.lr has changed: {curve} of 20 steps until now, {curve} of 40 steps "
        "from this step on"
    )
    rates = {line["step"]: line["learning_rate_generator"] for line in metrics(longer)}
    for step in range(1, 41):
        of = 20 if step <= 20 else 40
        factor = 0.05 + 0.95 * (1 + math.cos(math.pi * (step - 1) / of)) / 2
        assert rates[step] == pytest.approx(1e-3 * factor, rel=1e-9), step
    constant = {line["learning_rate_discriminator"] for line in metrics(longer)}
    assert constant == {2e-4}


def test_a_resumed_run_with_schedules_is_the_uninterrupted_one(
    digits: Path, tmp_path: Path
) -> None:
    schedules = (
        "generator.optimizer.lr={from: 1e-3, to: 0, by: cosine, until: 10 steps}",
        "generator.optimizer.betas=[0.5, {from: 0.9, to: 0.99, until: 7 steps}]",
        "discriminator.optimizer.lr=[{from: 1e-5, to: 1e-3, until: 24 images},"
        "{to: 1e-4, by: exponential, until: 9 steps}]",
        "discriminator.optimizer.betas=[{from: 0.5, to: 0, until: 6 steps}, 0.99]",
        "objective.penalties=[{kind: r1, weight: {from: 1, to: 0.1, until: 60 images}}]",
        "augment.policy=[flip,shift]",
        "augment.probability={from: 0, to: 1, by: cosine, until: 10 steps}",
        "augment.noise_std={from: 0.2, to: 0, until: 8 steps}",
        "ema={half_life: {from: 0, to: 100, until: 10 steps}, ramp_up: null}",
    )
    whole = tiny(digits, tmp_path, "name=whole", *schedules)
    train(whole)
    train(tiny(digits, tmp_path, "name=halves", "train.steps=4", *schedules))
    halves = tiny(digits, tmp_path, "name=halves", *schedules)
    train(halves)
    said = metrics(halves)[4]  # of step 5, whose number from 0 is 4
    assert said["learning_rate_generator"] == 1e-3 * (1 + math.cos(math.pi * 0.4)) / 2
    assert said["beta2_generator"] == pytest.approx(0.9 + 0.09 * 4 / 7)
    assert said["beta1_discriminator"] == pytest.approx(0.5 - 0.5 * 4 / 6)
    assert said["penalty_weight_r1"] == pytest.approx(1 - 0.9 * 32 / 60)
    assert said["augment_probability"] == pytest.approx((1 - math.cos(math.pi * 0.4)) / 2)
    assert said["augment_noise_std"] == pytest.approx(0.1)
    assert said["ema_half_life"] == pytest.approx(40)
    same_checkpoint(*(RunFolder.of(e).checkpoints / "step-00000010" for e in (whole, halves)))
    assert metrics(whole) == metrics(halves)


def test_accumulation_and_reader_do_not_change_the_run(digits: Path, tmp_path: Path) -> None:
    base = tiny(digits, tmp_path, "name=base")
    train(base)
    other = tiny(digits, tmp_path, "name=other", "train.accumulation=4", "data.reader=indexed")
    train(other)
    for a, b in zip(metrics(base), metrics(other), strict=True):
        for key in a:
            assert a[key] == pytest.approx(b[key], rel=1e-4), key


def test_a_folder_of_another_experiment_is_refused(digits: Path, tmp_path: Path) -> None:
    train(tiny(digits, tmp_path, "train.steps=2"))
    with pytest.raises(GanscaleError) as error:
        train(tiny(digits, tmp_path, "seed=5", "objective.loss=hinge"))
    message = str(error.value)
    assert "seed: 0 there, 5 now" in message
    assert "objective.loss: 'non_saturating' there, 'hinge' now" in message
    assert "Start a new run beside it (--new), choose another name (name=…)" in message
    train(tiny(digits, tmp_path, "train.steps=3"))  # longer is the same experiment


def test_a_set_of_another_size_is_refused(digits: Path, tmp_path: Path) -> None:
    with pytest.raises(GanscaleError, match="28×28 images with 1 channel") as error:
        train(tiny(digits, tmp_path, "data.resolution=32"))
    assert "with --size 32, or train with data.resolution=28" in str(error.value)
    with pytest.raises(GanscaleError, match=r"with --channels 3, or train with data\.channels=1"):
        train(tiny(digits, tmp_path, "data.channels=3"))


class Dropping(nn.Module):
    """A discriminator that draws from torch's own generator in each forward."""

    def __init__(self, image_shape: tuple[int, int, int]):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(784, 8), nn.Dropout(), nn.Linear(8, 1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.layers(images)
        return logits.squeeze(1)


def test_dropout_too_is_a_function_of_the_step(digits: Path, tmp_path: Path) -> None:

    def run(name: str, steps: int) -> Experiment:
        base = tiny(digits, tmp_path, f"name={name}", f"train.steps={steps}").model_dump()
        base["discriminator"]["network"] = {"architecture": f"{__file__}:Dropping"}
        experiment = Experiment.model_validate(base)
        train(experiment)
        return experiment

    whole = run("whole", 8)
    run("halves", 3)
    halves = run("halves", 8)
    assert metrics(whole) == metrics(halves)


class Exploding(Dropping):
    """A discriminator whose fortieth forward, of three in a step, is not a number."""

    def __init__(self, image_shape: tuple[int, int, int]):
        super().__init__(image_shape)
        self.forwards = 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.forwards += 1
        return super().forward(images) * (1 if self.forwards < 40 else float("nan"))


@pytest.mark.parametrize(
    ("log_every", "message"),
    [
        (1, r"d_real is not a finite number at step 14.*step-00000010"),
        (50, r"generator layers.*is not a finite number at step 15.*step-00000010"),
    ],
)
def test_divergence_stops_the_run_and_keeps_the_last_checkpoint(
    digits: Path, tmp_path: Path, log_every: int, message: str
) -> None:
    overrides = ("checkpoint.every=5", "train.steps=50", f"monitoring.log_every={log_every}")
    base = tiny(digits, tmp_path, *overrides).model_dump()
    base["discriminator"]["network"] = {"architecture": f"{__file__}:Exploding"}
    experiment = Experiment.model_validate(base)
    with pytest.raises(GanscaleError, match=message):
        train(experiment)
    kept = checkpoint.latest(RunFolder.of(experiment).checkpoints)
    assert kept is not None
    for part in ("generator", "discriminator", "ema"):
        weights = checkpoint.read_weights(kept, part)
        assert all(torch.isfinite(w).all() for w in weights.values())
