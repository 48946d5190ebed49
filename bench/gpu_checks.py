"""What has to hold on a GPU, checked on whole trainers. The counterparts of tests on a CPU."""

import tempfile
from pathlib import Path
from typing import Any

import torch
from accelerate.state import AcceleratorState
from games import setting
from torch import Tensor

from ganscale.config import Experiment
from ganscale.engines.launcher import Launcher
from ganscale.training.preemption import StopRequest
from ganscale.training.trainer import Trainer
from ganscale.training.update import GANStep
from tests.reference import Reference

STEPS = 20
LOSS_SCALE = 256.0  # fp16 starts with one that is soon found to be too large
LOG_EVERY = 7  # a step that is measured may be compiled or captured apart from others
PLAYERS = ("generator", "discriminator")
PRECISIONS = {
    "fp32": ("train.precision=fp32", "train.tf32=false"),
    "tf32": ("train.precision=fp32", "train.tf32=true"),
    "bf16": ("train.precision=bf16",),
    "fp16": ("train.precision=fp16",),
}


def trained(experiment: Experiment, steps: int) -> Trainer:
    """Return a trainer after its steps."""
    AcceleratorState._reset_state()
    length = experiment.train.model_copy(update={"steps": steps})
    monitoring = experiment.monitoring.model_copy(update={"log_every": LOG_EVERY})
    with tempfile.TemporaryDirectory() as runs:
        changed = {"train": length, "monitoring": monitoring, "runs": runs}
        trainer = Trainer(experiment.model_copy(update=changed), Launcher.from_environment())
        trainer.resume()
        with StopRequest(trainer.ranks, trainer.model.device, trainer.folder.path) as stop:
            trainer.loop.run(stop)
        trainer.folder.release()
    return trainer


def same_bits(option: str, work: Path, overrides: tuple[str, ...]) -> dict[str, Any]:
    """Train with and without an option; compare all weights and optimizer states bit for bit."""
    device = torch.device("cpu")  # of loops that are not run here
    states = []
    for more in ((), (option,) if option else ()):
        given = setting(work, (*overrides, "train.deterministic=true", *more), device)
        model = trained(given.experiment, STEPS).model
        states.append([*_tensors(model.weights()), *_tensors(model.training_state())])
    pairs = list(zip(*states, strict=True))
    differing = sum(not torch.equal(a, b) for a, b in pairs)
    largest = max(float((a.double() - b.double()).abs().max()) for a, b in pairs if a.numel())
    return {
        "holds": differing == 0,
        "tensors": len(pairs),
        "differing": differing,
        "largest difference": largest,
    }


def _tensors(state: Any) -> list[Tensor]:
    if isinstance(state, Tensor):
        return [state.detach().cpu()]
    values = state.values() if isinstance(state, dict) else state
    return (
        [tensor for value in values for tensor in _tensors(value)]
        if isinstance(state, dict | list | tuple)
        else []
    )


def reads_nothing_back(work: Path, overrides: tuple[str, ...]) -> dict[str, Any]:
    """Do some steps while CUDA raises an error if the host waits for the device."""
    given = setting(work, overrides, torch.device("cuda"))
    trainer = Trainer(given.experiment, Launcher.from_environment())
    train, updates = given.experiment.train, given.experiment.discriminator.steps
    step = GANStep(given.experiment, trainer.model, trainer.ranks.rows(train.batch_size))
    source = trainer.batch_source.batches(0, STEPS * updates)
    try:
        for k in range(STEPS):
            if k >= STEPS // 2:  # libraries choose their algorithms in the first steps
                torch.cuda.set_sync_debug_mode("error")
            batches = [next(source) for _ in range(updates)]
            trainer.model.rates.apply(k)
            step(k, batches, measure=False)
            torch.cuda.set_sync_debug_mode("default")
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return {"holds": True}


class Recorded(Reference):
    """The game by hand in float64, which notes the losses."""

    def __init__(self, experiment: Experiment):
        super().__init__(experiment)
        self.losses: dict[str, float] = {}

    def discriminator_loss(self, *arguments: Any) -> Tensor:
        return self._noted("discriminator", super().discriminator_loss(*arguments))

    def generator_loss(self, *arguments: Any) -> Tensor:
        return self._noted("generator", super().generator_loss(*arguments))

    def _noted(self, name: str, loss: Tensor) -> Tensor:
        self.losses[name] = float(loss)
        return loss


def against_float64(work: Path, overrides: tuple[str, ...]) -> dict[str, Any]:
    """Compare losses and gradients of a first step, in each precision, with float64 by hand.

    With the first of Adam's betas at zero, its first moment is the gradient. Figures are relative
    L2 differences, of a gradient over all weights of a player.
    """
    betas = [f"{player}.optimizer.betas=[0, 0.99]" for player in PLAYERS]
    figures: dict[str, Any] = {}
    by_hand: Recorded | None = None
    for name, precision in PRECISIONS.items():
        if name == "tf32" and not torch.cuda.is_available():
            continue
        given = setting(work, (*overrides, *betas, *precision), torch.device("cpu"))
        if by_hand is None:
            by_hand = Recorded(given.experiment)
            by_hand.play(1)
        for player, (loss, gradient) in _first_step(given.experiment).items():
            true = by_hand.losses[player]
            figures[f"{name}: loss, {player}"] = abs(loss / true - 1)
            if gradient is None:
                figures[f"{name}: gradient, {player}"] = "overflowed, the step was skipped"
                continue
            moments = by_hand.optimizers[player].state.values()
            wanted = torch.cat([moment["exp_avg"].flatten() for moment in moments])
            figures[f"{name}: gradient, {player}"] = float(
                (gradient - wanted).norm() / wanted.norm()
            )
    return figures


def _first_step(experiment: Experiment) -> dict[str, tuple[float, Tensor | None]]:
    """Return each player's loss and gradient (all weights,) in the first step, float64."""
    AcceleratorState._reset_state()
    trainer = Trainer(experiment, Launcher.from_environment())
    model, updates = trainer.model, experiment.discriminator.steps
    players = {"generator": model.generator, "discriminator": model.discriminator}
    for player in players.values():
        state = player.training_state()
        if state["scaler"]:
            state["scaler"]["scale"] = LOSS_SCALE
            player.load_training_state(state)
    step = GANStep(experiment, model, trainer.ranks.rows(experiment.train.batch_size))
    model.rates.apply(0)
    means = step(0, list(trainer.batch_source.batches(0, updates)), measure=True).means()
    found: dict[str, tuple[float, Tensor | None]] = {}
    for name, player in players.items():
        state = player.training_state()["optimizer"]["state"]
        gradient = torch.cat([state[i]["exp_avg"].double().cpu().flatten() for i in sorted(state)])
        found[name] = float(means[f"loss_{name}"]), gradient if gradient.any() else None
    return found
