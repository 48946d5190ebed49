"""Started on every rank by a launcher: plays the cases, and rank 0 writes what came of them."""

import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accelerate.state import AcceleratorState
from torch import Tensor

from ganscale.config import Experiment
from ganscale.engines.player import Player
from ganscale.errors import GanscaleError
from ganscale.runs import checkpoint
from ganscale.training.divergence import refuse_differing_ranks
from ganscale.training.model import Game
from ganscale.training.update import GANStep, Statistics
from tests.conftest import tiny
from tests.reference import real_batches

STEPS = 10
# BatchNorm would normalise by each rank's part of the batch: without it the engines agree.
NETWORKS = {
    "mlp": {"architecture": "mlp", "hidden": [64]},
    "dcgan": {"architecture": "dcgan", "width": 16, "norm": "none"},
}
# As large as gradients are: else Adam moves a bias whose gradient cancels but for rounding as far
# as any other weight, and does not notice a gradient that is a multiple of what it should be.
EPS = 1e-3
CASES: dict[str, tuple[str, tuple[str, ...]]] = {
    "MLP, non-saturating": ("mlp", ()),
    "MLP, hinge, clipped": (
        "mlp",
        ("objective.loss=hinge", "generator.clip_norm=0.01", "discriminator.clip_norm=0.02"),
    ),
    "DCGAN, relativistic, accumulated": (
        "dcgan",
        ("objective.loss=relativistic", "train.accumulation=2"),
    ),
    "DCGAN, lazy R1": ("dcgan", ("objective.penalties=[{kind: r1, weight: 1, every: 4}]",)),
    "MLP, DRAGAN and R2": (
        "mlp",
        ("objective.penalties=[{kind: dragan, weight: 5},{kind: r2, weight: 1, every: 2}]",),
    ),
    "DCGAN, conditional, accumulated": (
        "dcgan",
        ("data.classes=10", "train.accumulation=2"),
    ),
    "DCGAN, WGAN-GP, 3 D steps, accumulated": (
        "dcgan",
        (
            "objective.loss=wasserstein",
            "objective.penalties=[{kind: wgan_gp, weight: 10}]",
            "discriminator.steps=3",
            "train.accumulation=2",
        ),
    ),
}
PRECISIONS = ("fp32", "bf16")


def case_experiment(digits: Path, folder: Path, name: str, precision: str) -> Experiment:
    network, overrides = CASES[name]
    values = tiny(digits, folder, *overrides, f"train.precision={precision}").model_dump(
        mode="json"
    )
    for player in ("generator", "discriminator"):
        values[player]["network"] = NETWORKS[network]
        values[player]["optimizer"]["eps"] = EPS
    return Experiment.model_validate(values)


def make(experiment: Experiment) -> tuple[Game, GANStep]:
    """The game on this rank, on whatever engine the launcher chose."""
    AcceleratorState._reset_state()
    game = Game(experiment)
    accelerator = game.generator.accelerator
    part = experiment.train.batch_size // accelerator.num_processes
    rows = range(accelerator.process_index * part, (accelerator.process_index + 1) * part)
    return game, GANStep(experiment, game, rows)


def play(experiment: Experiment, steps: int) -> tuple[Game, dict[str, float]]:
    """Some steps; the last one's gradient norms."""
    game, step = make(experiment)
    n = experiment.discriminator.steps
    for k in range(steps):
        statistics = step(k, real_batches(experiment, k * n, n, step.rows), k == steps - 1)
    means = statistics.means()
    return game, {p: float(means[f"gradient_norm/{p}"]) for p in ("generator", "discriminator")}


class Traffic:
    """Counts calls and bytes of gradients reduced and weights gathered."""

    REDUCTIONS = (
        "all_reduce",
        "reduce",
        "reduce_scatter_single",
        "reduce_scatter_tensor",
        "reduce_scatter",
    )
    GATHERINGS = (
        "all_gather_single",
        "all_gather_into_tensor",
        "all_gather",
        "all_gather_coalesced",
    )

    def __init__(self) -> None:
        """Made before DeepSpeed is imported, which keeps some of these functions."""
        self.counts: Counter[str] = Counter()
        for name in self.REDUCTIONS + self.GATHERINGS:
            if hasattr(torch.distributed, name):  # they differ between torch's versions
                setattr(torch.distributed, name, self.counting(name))

    def note(self, kind: str, tensor: Tensor) -> None:
        self.counts[f"{kind} calls"] += 1
        self.counts[f"{kind} bytes"] += tensor.numel() * tensor.element_size()

    def counting(self, name: str) -> Callable[..., Any]:
        function = getattr(torch.distributed, name)
        kind = "reduced" if name in self.REDUCTIONS else "gathered"

        def counted(*arguments: Any, **keywords: Any) -> Any:
            given = [*arguments, *keywords.values()]
            tensors = [t for t in given if isinstance(t, Tensor)]
            for parts in (t for t in given if isinstance(t, list)):
                tensors.append(torch.cat([t.flatten() for t in parts]))
            largest = max(tensors, key=Tensor.numel)
            if kind == "gathered" or largest.numel() > 1:  # a lone number is no gradient
                self.note(kind, largest)
            return function(*arguments, **keywords)

        return counted

    def during(self, action: Callable[[], None]) -> dict[str, int]:
        self.counts.clear()
        action()
        return dict(self.counts)


def traffic(counter: Traffic, digits: Path, folder: Path) -> dict[str, Any]:
    """What one accumulated update of each player sends."""
    experiment = case_experiment(digits, folder, "DCGAN, relativistic, accumulated", "fp32")
    game, step = make(experiment)
    images = real_batches(experiment, 0, 2, step.rows)
    step(0, images[:1], measure=False)

    def size(parameter: Any) -> int:
        if game.engine == "FSDP2":  # rows, padded to the same on all ranks
            ranks = game.generator.accelerator.num_processes
            return parameter.numel() // len(parameter) * -(-len(parameter) // ranks) * ranks
        return getattr(parameter, "ds_numel", parameter.numel())

    def sizes(player: Player) -> int:
        return sum(size(parameter) * 4 for parameter in player.raw.parameters())

    return {
        "discriminator": counter.during(
            lambda: step.update_discriminator(1, images[1], Statistics(), False)
        ),
        "generator": counter.during(
            lambda: step.update_generator(1, images[1], Statistics(), False)
        ),
        "sizes": {"discriminator": sizes(game.discriminator), "generator": sizes(game.generator)},
    }


def resumed(digits: Path, folder: Path, penalties: bool) -> Game:
    """Ten steps, five of them by another game that takes up the first one's checkpoint."""
    name = "DCGAN, lazy R1" if penalties else "DCGAN, relativistic, accumulated"
    experiment = case_experiment(digits, folder, name, "fp32")
    game, step = make(experiment)
    for k in range(5):
        step(k, real_batches(experiment, k, 1, step.rows), False)
    weights, training = game.weights(), game.training_state()
    checkpoints = folder / "checkpoints"
    if game.generator.accelerator.is_main_process:
        state = checkpoint.State(step=5, images=0, data_fingerprint="")
        checkpoint.write(checkpoints, state, weights, training)
    game.generator.accelerator.wait_for_everyone()
    game, step = make(experiment)
    game.restore(checkpoints / "step-00000005")
    for k in range(5, STEPS):
        step(k, real_batches(experiment, k, 1, step.rows), k == STEPS - 1)
    return game


def diverged(digits: Path, folder: Path) -> str:
    """What is said when one bit of one weight of one rank has changed."""
    game, _ = make(case_experiment(digits, folder, "MLP, non-saturating", "fp32"))
    refuse_differing_ranks(game, 0)
    if game.generator.accelerator.process_index == 1:
        first = next(game.average.network.parameters())
        first.data.view(torch.int32).view(-1)[3] ^= 1
    try:
        refuse_differing_ranks(game, 7)
    except GanscaleError as error:
        return str(error)
    return ""


def main() -> None:
    digits, folder, penalties = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] == "penalties"
    counter = Traffic()
    game, _ = make(case_experiment(digits, folder, "MLP, non-saturating", "fp32"))
    rank = game.generator.accelerator.process_index

    def save(name: str, value: Any) -> None:
        if rank == 0:
            torch.save(value, folder / name)

    for name in CASES:
        for precision in PRECISIONS:
            experiment = case_experiment(digits, folder, name, precision)
            if penalties or not experiment.objective.penalties:
                game, norms = play(experiment, STEPS)
                save(f"{name}-{precision}", {"weights": game.weights(), "norms": norms})
    save("resumed", resumed(digits, folder, penalties).weights())
    game, _ = play(case_experiment(digits, folder, "MLP, non-saturating", "fp32"), 50)
    torch.save(game.weights(), folder / f"rank-{rank}")
    save("traffic", {"engine": game.engine, **traffic(counter, digits, folder)})
    save("diverged", diverged(digits, folder))
    # Left to the interpreter's end, Gloo's threads sometimes abort the process.
    game.generator.accelerator.wait_for_everyone()
    game.generator.accelerator.end_training()


if __name__ == "__main__":
    main()
