"""The same game on every engine: the mathematics, the traffic, the state."""

import functools
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from tests.reference import Played, by_hand
from tests.system.engine_cases import CASES, PRECISIONS, STEPS, case_experiment
from tests.system.forked import forked
from tests.system.processes import ROOT

pytestmark = pytest.mark.system

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
# Of weights, and of the last gradient norms, of which bfloat16 leaves one or two digits.
# A Wasserstein critic enlarges rounding from step to step.
LARGEST_DIFFERENCE = {"fp32": (1e-3, 5e-3), "bf16": (1e-2, 1e-1)}
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
    penalties = "none" if engine == "zero3" else "penalties"
    done = forked(
        1 if engine == "cpu" else PROCESSES,
        str(digits),
        str(folder),
        penalties,
        folder=ROOT,
        engine=engine,
        module="tests.system.engine_cases",
    )
    assert done.returncode == 0


@functools.cache
def case_by_hand(case: str, digits: Path) -> Played:
    """Return what came of a case by hand: once for all engines."""
    return by_hand(case_experiment(digits, digits, case, "fp32"), STEPS)


def rows(engine: str, digits: Path, folder: Path) -> list[Row]:
    """What `play` left, against the game written out by hand in float64."""
    found = []
    for case in CASES:
        experiment = case_experiment(digits, folder, case, "fp32")
        if not (folder / f"{case}-fp32").exists():
            continue
        by = case_by_hand(case, digits)
        networks, norms = (by.generator, by.discriminator), by.norms
        for precision in PRECISIONS:
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


@pytest.fixture(scope="module", params=ENGINES)
def played(
    request: pytest.FixtureRequest, digits: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path]:
    engine: str = request.param
    folder = tmp_path_factory.mktemp("engines") / engine
    play(engine, digits, folder)
    return engine, folder


# One test an engine: its cases are played in one start of its processes.
def test_an_engine_plays_the_same_game(played: tuple[str, Path], digits: Path) -> None:
    engine, folder = played
    found = rows(engine, digits, folder)
    assert len(found) == (10 if engine == "zero3" else 16)
    for row in found:
        print(row)
        weights, gradient_norms = LARGEST_DIFFERENCE[row.precision]
        assert row.weights < weights, row
        assert row.gradient_norms < gradient_norms, row
    check_resumed(engine, folder)
    if engine != "cpu":
        check_ranks_agree(folder)
        check_traffic(engine, torch.load(folder / "traffic"))
        said = torch.load(folder / "diverged")
        assert "ema layers.0.weight is the first of 1 tensors" in said
        assert "step 7" in said


def check_resumed(engine: str, folder: Path) -> None:
    """Taken up from a checkpoint is uninterrupted, to the last bit, on every engine."""
    case = "DCGAN, relativistic, accumulated" if engine == "zero3" else "DCGAN, lazy R1"
    whole = torch.load(folder / f"{case}-fp32")["weights"]
    resumed = torch.load(folder / "resumed")
    for part, tensors in whole.items():
        for name, tensor in tensors.items():
            assert torch.equal(tensor, resumed[part][name]), f"{part} {name}"


def check_ranks_agree(folder: Path) -> None:
    first, *others = (torch.load(folder / f"rank-{rank}") for rank in range(PROCESSES))
    for part, tensors in first.items():
        for name, tensor in tensors.items():
            for other in others:
                assert torch.equal(tensor, other[part][name]), f"{part} {name}"


def check_traffic(engine: str, traffic: dict[str, Any]) -> None:
    """An update of two micro-batches reduces its player's gradients once, and no others."""
    assert traffic["engine"] == ENGINES[engine]
    for player in PLAYERS:
        sent = traffic[player]
        assert sent["reduced calls"] == 1, traffic
        assert sent["reduced bytes"] == traffic["sizes"][player], traffic
        if engine in ("cpu_ddp", "zero0"):
            assert "gathered bytes" not in sent, traffic
        elif engine == "fsdp2":  # each network once a step: here the other player's
            gathered = traffic["sizes"]["discriminator"] if player == "generator" else 0
            assert sent.get("gathered bytes", 0) == gathered, traffic
        elif engine != "zero3":  # that gathers what forwards need
            assert sent["gathered bytes"] == traffic["sizes"][player], traffic
