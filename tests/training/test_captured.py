"""The captured step: replayed from a tape, it is the eager step to the last bit."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from ganscale.config import Experiment, Train
from ganscale.engines.launcher import ENGINES, Launcher
from ganscale.engines.player import Player
from ganscale.engines.rules import refuse_unfit_engine
from ganscale.errors import GanscaleError
from ganscale.training.captured import CapturedWork
from ganscale.training.model import GANModel
from ganscale.training.statistics import Statistics
from ganscale.training.update import GANStep
from tests.conftest import tiny
from tests.reference import real_batches
from tests.tape import Tapes
from tests.training.test_compile import DCGAN, R1_AND_R2, TEXTBOOK

STEPS = 8
LAZY = (
    "objective.loss=relativistic",
    "objective.penalties=[{kind: r1, weight: {from: 3, to: 1, until: 6 steps}, every: 2},"
    "{kind: dragan, weight: 1, every: 3}]",
)
# Recordings, both networks, what else.
GAMES: dict[str, tuple[int, dict[str, Any], dict[str, Any], tuple[str, ...]]] = {
    "textbook": (2, TEXTBOOK, TEXTBOOK, ()),
    "lazy penalties, one on a schedule": (5, TEXTBOOK, TEXTBOOK, LAZY),
    "scheduled rates, betas, noise and average": (
        2,
        TEXTBOOK,
        TEXTBOOK,
        (
            "generator.optimizer.lr={from: 1.0e-3, to: 1.0e-4, until: 5 steps}",
            "discriminator.optimizer.betas=[0.0, {from: 0.9, to: 0.99, until: 6 steps}]",
            "augment.policy=[color, translation, cutout]",
            "augment.probability={from: 0, to: 1, until: 6 steps}",
            "augment.noise_std={from: 0.5, to: 0, until: 6 steps}",
            "ema.half_life={from: 100, to: 1000, until: 6 steps}",
        ),
    ),
    "adaptive augmentation": (
        2,
        TEXTBOOK,
        TEXTBOOK,
        (
            "augment.policy=[flip, rotate90, scale, brightness, hue_saturation]",
            "augment.adaptive={target: 0.1, images: 200, every: 2}",
        ),
    ),
    "conditional, accumulated, clipped": (
        4,
        TEXTBOOK,
        TEXTBOOK,
        ("data.classes=10", "train.accumulation=2", "discriminator.clip_norm=0.1", R1_AND_R2),
    ),
    "two updates of the discriminator": (
        2,
        TEXTBOOK,
        TEXTBOOK,
        (
            "discriminator.steps=2",
            "objective.loss=wasserstein",
            "objective.penalties=[{kind: wgan_gp, weight: 10}]",
        ),
    ),
    "BatchNorm": (2, DCGAN, DCGAN, ()),
    "spectral norm, frozen": (
        2,
        DCGAN,
        DCGAN | {"norm": "spectral"},
        (R1_AND_R2, "init_from.source=elsewhere", "discriminator.freeze=2"),
    ),
    "bf16": (2, TEXTBOOK, DCGAN | {"norm": "none"}, (R1_AND_R2, "train.precision=bf16")),
    "fp16": (2, TEXTBOOK, TEXTBOOK, ("train.precision=fp16",)),
}


def make(digits: Path, folder: Path, name: str, *, captured: bool = True) -> Experiment:
    _, generator, discriminator, overrides = GAMES[name]
    values = tiny(digits, folder, *overrides).model_dump(mode="json")
    values["generator"]["network"] = generator
    values["discriminator"]["network"] = discriminator
    values["train"]["cuda_graph"] = captured
    return Experiment.model_validate(values)


class Game:
    """A model and its step, on tapes if the experiment is to be captured."""

    def __init__(self, experiment: Experiment, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr("ganscale.engines.accelerators.refuse_unfit_engine", _allow)
        self.experiment = experiment
        self.model = GANModel(experiment, Launcher())
        self.recorded = Tapes()
        rows = range(experiment.train.batch_size)
        self.step = GANStep(experiment, self.model, rows, self.recorded)

    def play(self, first: int, last: int) -> list[Statistics]:
        n = self.experiment.discriminator.steps
        statistics = []
        for k in range(first, last):
            self.model.rates.apply(k)
            batches = real_batches(self.experiment, k * n, n)
            torch.manual_seed(k)  # as the loop does, for dropout
            statistics.append(self.step(k, batches, measure=k % 2 == 1))
        return statistics

    def state(self) -> dict[str, torch.Tensor]:
        """Weights, buffers and moments of both players, and the average."""
        model = self.model
        state = {f"ema {k}": v.clone() for k, v in model.average.network.state_dict().items()}
        for player in (model.generator, model.discriminator):
            for name, value in player.module.state_dict().items():
                state[f"{player.name} {name}"] = value.clone()
            for i, moments in player.optimizer.state_dict()["state"].items():
                state |= {f"{player.name} {i} {k}": v.clone() for k, v in moments.items()}
        return state


def _allow(*arguments: Any, **keywords: Any) -> None:
    pass


@pytest.mark.parametrize("name", GAMES)
def test_replayed_is_eager_bit_for_bit(
    digits: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    eager = Game(make(digits, tmp_path, name, captured=False), monkeypatch)
    captured = Game(make(digits, tmp_path, name), monkeypatch)
    wanted, found = eager.play(0, STEPS), captured.play(0, STEPS)
    assert len(captured.recorded.tapes) == GAMES[name][0]
    now = captured.state()
    for key, value in eager.state().items():
        assert torch.equal(value, now[key]), key
    for one, other in zip(wanted, found, strict=True):
        means = other.means()
        for key, mean in one.means().items():
            assert key.startswith("seconds_") or torch.equal(mean, means[key]), key
    assert eager.model.augmentation.state() == captured.model.augmentation.state()


@pytest.mark.parametrize("name", GAMES)
def test_what_is_recorded_is_done_by_the_device_alone(
    digits: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CUDA refuses to capture a number that is read back, or copied from the host."""
    game = Game(make(digits, tmp_path, name), monkeypatch)
    game.play(0, 4)
    for tape in game.recorded.tapes:
        assert len(tape.operations) > 20
        assert not [o.call for o in tape.operations if o.is_done_by_the_host()]


class Elsewhere(Player):
    """A player on a device that is not the host; it has no numbers, and no optimizer."""

    def _prepare(self, optimizer: torch.optim.Optimizer, train: Train) -> None:
        pass

    def step(self, measure: bool = False) -> None:
        pass

    def backward(self, loss: torch.Tensor) -> None:
        loss.backward()  # type: ignore[no-untyped-call]


def build_elsewhere(
    experiment: Experiment, launcher: Launcher, *networks: nn.Module
) -> tuple[Player, ...]:
    accelerator: Any = SimpleNamespace(device=torch.device("meta"))
    return tuple(
        Elsewhere(name, accelerator, network, getattr(experiment, name), experiment.train)
        for name, network in zip(("generator", "discriminator"), networks, strict=True)
    )


@pytest.mark.parametrize("name", [name for name in GAMES if name not in ("bf16", "fp16")])
def test_what_is_recorded_makes_no_tensor_on_the_host(
    digits: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy from the host to the device would be captured with the numbers that it had."""
    monkeypatch.setattr("ganscale.engines.player.make_adam", _allow)
    monkeypatch.setattr("ganscale.philox._has_native_philox", lambda device: False)
    experiment = make(digits, tmp_path, name)
    model, recorded = GANModel(experiment, Launcher(), build_elsewhere), Tapes()
    step = GANStep(experiment, model, range(experiment.train.batch_size), recorded)
    (batch,) = real_batches(experiment, 0, 1)
    for phase in step.phases:
        for number in range(3):
            step.update(phase, number, batch, Statistics(), measure=False)
    for tape in recorded.tapes:
        assert len(tape.operations) > 20
        for operation in tape.operations:
            for result in operation.results:
                on_host = isinstance(result, torch.Tensor) and result.device.type == "cpu"
                assert not on_host, operation.call


def test_recording_leaves_no_trace(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither in gradients, weights and buffers nor in torch's random numbers."""
    experiment = make(digits, tmp_path, "BatchNorm")
    model = Game(experiment, monkeypatch).model
    player = model.discriminator
    images = torch.rand(4, *experiment.image_shape)

    def work(images: torch.Tensor) -> dict[str, torch.Tensor]:
        loss = player(nn.functional.dropout(images)).sum()
        player.backward(loss)
        return {"loss": loss}

    work(images)
    gradients = [p.grad.clone() for p in player.module.parameters() if p.grad is not None]
    captured = CapturedWork((model.generator, player), Tapes())
    weights, random = player.weights(), torch.get_rng_state()
    captured._record(work, (images,))
    assert torch.equal(torch.get_rng_state(), random)
    after = player.weights()
    assert all(torch.equal(value, after[key]) for key, value in weights.items())
    now = [p.grad for p in player.module.parameters() if p.grad is not None]
    assert gradients
    assert all(torch.equal(old, new) for old, new in zip(gradients, now, strict=True))


@pytest.mark.parametrize("engine", ["fsdp2", "zero0", "zero1", "zero2", "zero3"])
def test_engines_that_cannot_be_captured_are_refused(
    digits: Path, tmp_path: Path, engine: str
) -> None:
    experiment = make(digits, tmp_path, "textbook")
    with pytest.raises(GanscaleError, match=r"cuda_graph=true: what .* use DDP"):
        refuse_unfit_engine(experiment, ENGINES[engine], gpus=True)
    refuse_unfit_engine(experiment, ENGINES["ddp"], gpus=True)


def test_it_needs_a_gpu(digits: Path, tmp_path: Path) -> None:
    experiment = make(digits, tmp_path, "textbook")
    with pytest.raises(GanscaleError, match="cuda_graph=true needs GPUs"):
        refuse_unfit_engine(experiment, ENGINES["ddp"], gpus=False)
