"""What came of the cases on an engine, against the game by hand."""

import functools
from pathlib import Path
from typing import Any, NamedTuple

import torch

from tests.reference import Played, by_hand
from tests.system.engine_cases import CASES, PRECISIONS, STEPS, case_experiment
from tests.system.forked import forked
from tests.system.processes import ROOT

ENGINES = {
    "cpu": "single process",
    "cpu_ddp": "DDP",
    "zero0": "DeepSpeed ZeRO-0",
    "zero1": "DeepSpeed ZeRO-1",
    "zero2": "DeepSpeed ZeRO-2",
    "zero2_offload": "DeepSpeed ZeRO-2",
    "zero3": "DeepSpeed ZeRO-3",
    "fsdp2": "FSDP2",
}
COMPILED = ("cpu_ddp", "zero2")
"""Engines that also play the compiled case: one without and one with DeepSpeed."""
PLAYERS = ("generator", "discriminator")
PROCESSES = 4  # a sum of two has one order, of four it has several


class Row(NamedTuple):
    """Relative differences from float64 by hand, after the case's steps."""

    engine: str
    case: str
    precision: str
    weights: float
    gradient_norms: float


def play(engine: str, digits: Path, folder: Path) -> None:
    """All cases on that engine, on four processes where it is for several."""
    folder.mkdir()
    abilities = ["penalties"] if engine != "zero3" else []
    if engine in COMPILED:
        abilities.append("compiled")
    done = forked(
        1 if engine == "cpu" else PROCESSES,
        str(digits),
        str(folder),
        ",".join(abilities),
        *resumed_cases(engine),
        folder=ROOT,
        engine=engine,
        module="tests.system.engine_cases",
    )
    assert done.returncode == 0


def resumed_cases(engine: str) -> list[str]:
    """The cases that are played with a checkpoint in between, too."""
    if engine == "zero3":
        return ["DCGAN, relativistic, accumulated", "MLP, hinge, clipped, frozen"]
    compiled = ["DCGAN, compiled, R1 and R2, lazy"] if engine in COMPILED else []
    return ["DCGAN, R1 and R2, lazy, frozen", *compiled]


@functools.cache
def case_by_hand(case: str, digits: Path) -> Played:
    """Return what came of a case by hand: once for all engines."""
    return by_hand(case_experiment(digits, digits, case, "fp32"), STEPS)


def rows(engine: str, digits: Path, folder: Path) -> list[Row]:
    """What `play` left, against the game written out by hand in float64."""
    found = []
    for case in CASES:
        experiment = case_experiment(digits, folder, case, "fp32")
        if not (folder / f"{case}-fp32").exists():  # not a game for that engine
            continue
        by = case_by_hand(case, digits)
        networks, norms = (by.generator, by.discriminator), by.norms
        for precision in PRECISIONS:
            if not (folder / f"{case}-{precision}").exists():
                continue
            played = torch.load(folder / f"{case}-{precision}")
            weights = [
                difference(played["weights"][player], network, experiment.objective.loss, precision)
                for player, network in zip(PLAYERS, networks, strict=True)
            ]
            steepness = [abs(played["norms"][p] / norms[p] - 1) for p in PLAYERS]
            found.append(Row(engine, case, precision, max(weights), max(steepness)))
    return found


def difference(ours: dict[str, Any], network: torch.nn.Module, loss: str, precision: str) -> float:
    """The largest relative L2 difference of a tensor.

    A bias that began at zero is after some steps a sum of a few gradients, of which bfloat16 leaves
    a digit: in that precision biases are left out.

    Where a loss takes differences of logits, the gradients of the discriminator's biases cancel
    but for rounding, which Adam then enlarges: there they are left out.
    """
    theirs = dict(network.named_parameters())
    if loss in ("wasserstein", "relativistic") or precision == "bf16":
        theirs = {name: value for name, value in theirs.items() if not name.endswith("bias")}
    return max(
        float((ours[name].double() - value.detach()).norm() / value.detach().norm())
        for name, value in theirs.items()
    )
