"""Started on every rank by a launcher: plays the cases, and rank 0 writes what came of them."""

import functools
import sys
from collections import Counter
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import torch
from accelerate.state import AcceleratorState
from safetensors.torch import save_file
from torch import Tensor
from torch._dynamo.utils import counters

from ganscale.config import Experiment, InitFrom
from ganscale.engines import distributed
from ganscale.engines.launcher import Launcher
from ganscale.engines.player import Player
from ganscale.errors import GanscaleError
from ganscale.runs import checkpoint
from ganscale.runs.run_folder import RunFolder
from ganscale.training.divergence import refuse_differing_ranks
from ganscale.training.model import GANModel
from ganscale.training.statistics import Statistics
from ganscale.training.update import GANStep
from ganscale.training.warm_start import start_from_elsewhere
from tests.conftest import tiny
from tests.models import make_step
from tests.reference import real_batches

STEPS = 10
# BatchNorm would normalise by each rank's part of the batch: without it the engines agree.
NETWORKS = {
    "mlp": {"architecture": "mlp", "hidden": [64]},
    "deep mlp": {"architecture": "mlp", "hidden": [64, 64]},
    "dcgan": {"architecture": "dcgan", "width": 16, "norm": "none"},
}
# As large as gradients are: else Adam moves a bias whose gradient cancels but for rounding as far
# as any other weight, and does not notice a gradient that is a multiple of what it should be.
EPS = 1e-3
# Here the players keep the seed's weights: no trainer is there to read the source.
FROZEN = ("init_from.source=elsewhere", "discriminator.freeze={}")
CASES: dict[str, tuple[str, tuple[str, ...]]] = {
    "MLP, non-saturating": ("mlp", ()),
    "MLP, hinge, clipped, frozen": (
        "deep mlp",
        (
            "objective.loss=hinge",
            "generator.clip_norm=0.01",
            "discriminator.clip_norm=0.02",
            *(override.format(1) for override in FROZEN),
        ),
    ),
    "MLP, learning rates and betas on schedules": (
        "mlp",
        (
            "generator.optimizer.lr=[{from: 0, to: 1.0e-3, until: 3 steps}, 2.0e-4]",
            "generator.optimizer.betas=[{from: 0.5, to: 0, until: 64 images}, 0.9]",
            "discriminator.optimizer.lr={from: 1.0e-3, to: 1.0e-4, by: cosine, until: end of run}",
            "discriminator.optimizer.betas=[0, {from: 0.5, to: 0.99, until: 8 steps}]",
        ),
    ),
    "DCGAN, relativistic, accumulated": (
        "dcgan",
        ("objective.loss=relativistic", "train.accumulation=2"),
    ),
    "DCGAN, R1 and R2, lazy, frozen": (
        "dcgan",
        (
            "objective.penalties=[{kind: r1, weight: 1, every: 4},{kind: r2, weight: 1, every: 3}]",
            *(override.format(3) for override in FROZEN),
        ),
    ),
    "MLP, DRAGAN and R2": (
        "mlp",
        (
            "objective.penalties=[{kind: dragan, weight: 5},"
            "{kind: r2, weight: 1, every: 2, precision: network}]",
        ),
    ),
    "DCGAN, conditional, accumulated, fakes shared": (
        "dcgan",
        ("data.classes=10", "train.accumulation=2", "objective.share_fakes=true"),
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
    "DCGAN, compiled, R1 and R2, lazy": (
        "dcgan",
        (
            "train.compile=true",
            "objective.penalties=[{kind: r1, weight: {from: 3, to: 1, until: 8 steps}, every: 4},"
            "{kind: r2, weight: 1, every: 2}]",
        ),
    ),
}
PRECISIONS = ("fp32", "bf16")


def is_played(experiment: Experiment, abilities: Collection[str]) -> bool:
    """Return whether the engine plays that case; the abilities are `penalties` and `compiled`."""
    train = experiment.train
    if train.compile:  # in the precision in which it is compared most closely
        return "compiled" in abilities and train.precision == "fp32"
    return "penalties" in abilities or not experiment.objective.penalties


def case_experiment(digits: Path, folder: Path, name: str, precision: str) -> Experiment:
    network, overrides = CASES[name]
    values = tiny(digits, folder, *overrides, f"train.precision={precision}").model_dump(
        mode="json"
    )
    for player in ("generator", "discriminator"):
        values[player]["network"] = NETWORKS[network]
        values[player]["optimizer"]["eps"] = EPS
    return Experiment.model_validate(values)


def start(experiment: Experiment) -> tuple[GANModel, GANStep]:
    """The model on this rank, on whatever engine the launcher chose."""
    AcceleratorState._reset_state()
    return make_step(experiment)


def engine_in_words() -> str:
    launcher = Launcher.from_environment()
    return launcher.engine.describe(launcher.world_size)


def play(experiment: Experiment, steps: int) -> tuple[GANModel, dict[str, float]]:
    """Some steps; the last one's gradient norms."""
    model, step = start(experiment)
    n = experiment.discriminator.steps
    for k in range(steps):
        model.rates.apply(k)
        statistics = step(k, real_batches(experiment, k * n, n, step.rows), k == steps - 1)
    means = statistics.means()
    return model, {p: float(means[f"gradient_norm_{p}"]) for p in ("generator", "discriminator")}


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
    model, step = start(experiment)
    images = real_batches(experiment, 0, 2, step.rows)
    step(0, images[:1], measure=False)

    def size(parameter: Any) -> int:
        if engine_in_words() == "FSDP2":  # rows, padded to the same on all ranks
            ranks = distributed.world_size()
            return parameter.numel() // len(parameter) * -(-len(parameter) // ranks) * ranks
        return getattr(parameter, "ds_numel", parameter.numel())

    def sizes(player: Player) -> int:
        return sum(size(parameter) * 4 for parameter in player.module.parameters())

    return {
        "discriminator": counter.during(
            lambda: step.update(step.phases[0], 1, images[1], Statistics(), False)
        ),
        "generator": counter.during(
            lambda: step.update(step.phases[1], 1, images[1], Statistics(), False)
        ),
        "sizes": {"discriminator": sizes(model.discriminator), "generator": sizes(model.generator)},
    }


def resumed(digits: Path, folder: Path, name: str) -> GANModel:
    """Ten steps, five of them by another model that takes up the first one's checkpoint."""
    experiment = case_experiment(digits, folder, name, "fp32")
    model, step = start(experiment)
    for k in range(5):
        step(k, real_batches(experiment, k, 1, step.rows), False)
    weights, training = model.weights(), model.training_state()
    checkpoints = folder / f"checkpoints of {name}"
    if distributed.rank() == 0:
        state = checkpoint.State(step=5, images=0, data_fingerprint="")
        checkpoint.write(checkpoints, state, weights, training)
    distributed.gather_objects(None)  # all ranks are here
    model, step = start(experiment)
    model.restore(checkpoints / "step-00000005")
    for k in range(5, STEPS):
        step(k, real_batches(experiment, k, 1, step.rows), k == STEPS - 1)
    return model


def started(digits: Path, folder: Path) -> dict[str, Any]:
    """The first weights of a run that starts from a file, and what the file holds."""
    experiment = case_experiment(digits, folder, "MLP, hinge, clipped, frozen", "fp32")
    other, _ = start(experiment.model_copy(update={"seed": 1}))
    weights = {part: other.weights()[part] for part in ("generator", "discriminator")}
    file = folder / "both.safetensors"
    if distributed.rank() == 0:
        save_file(
            {f"{p}.{n}": t for p, tensors in weights.items() for n, t in tensors.items()}, file
        )
    experiment = experiment.model_copy(update={"init_from": InitFrom(source=str(file))})
    model, _ = start(experiment)
    start_from_elsewhere(experiment, model, RunFolder(folder), ())
    return {"found": model.weights(), "expected": weights | {"ema": weights["generator"]}}


def diverged(digits: Path, folder: Path) -> str:
    """What is said when one bit of one weight of one rank has changed."""
    model, _ = start(case_experiment(digits, folder, "MLP, non-saturating", "fp32"))
    refuse_differing_ranks(model, 0)
    if distributed.rank() == 1:
        first = next(model.average.network.parameters())
        first.data.view(torch.int32).view(-1)[3] ^= 1
    try:
        refuse_differing_ranks(model, 7)
    except GanscaleError as error:
        return str(error)
    return ""


def main() -> None:
    digits, folder, abilities = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3].split(",")
    # Inductor takes longer, and has a test of its own: tests/system/test_compiled_start.py.
    torch.compile = functools.partial(torch.compile, backend="aot_eager")
    counter = Traffic()
    model, _ = start(case_experiment(digits, folder, "MLP, non-saturating", "fp32"))
    rank = distributed.rank()

    def save(name: str, value: Any) -> None:
        if rank == 0:
            torch.save(value, folder / name)

    for name in CASES:
        for precision in PRECISIONS:
            experiment = case_experiment(digits, folder, name, precision)
            if is_played(experiment, abilities):
                model, norms = play(experiment, STEPS)
                save(f"{name}-{precision}", {"weights": model.weights(), "norms": norms})
    save("graphs", counters["stats"]["unique_graphs"])
    for name in sys.argv[4:]:
        save(f"resumed, {name}", resumed(digits, folder, name).weights())
    model, _ = play(case_experiment(digits, folder, "MLP, non-saturating", "fp32"), 50)
    torch.save(model.weights(), folder / f"rank-{rank}")
    save(
        "traffic",
        {
            "engine": Launcher.from_environment().engine.describe(distributed.world_size()),
            **traffic(counter, digits, folder),
        },
    )
    save("started", started(digits, folder))
    save("diverged", diverged(digits, folder))
    # Left to the interpreter's end, Gloo's threads sometimes abort the process.
    distributed.gather_objects(None)  # all ranks are here
    model.generator.accelerator.end_training()


if __name__ == "__main__":
    main()
