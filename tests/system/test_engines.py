"""The same game on every engine: the mathematics, the traffic, the state."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.system.engine_rows import (
    COMPILED,
    ENGINES,
    PLAYERS,
    PROCESSES,
    play,
    resumed_cases,
    rows,
)

pytestmark = pytest.mark.system

# Of weights, and of the last gradient norms, of which bfloat16 leaves one or two digits.
# A Wasserstein critic enlarges rounding from step to step.
LARGEST_DIFFERENCE = {"fp32": (1e-3, 5e-3), "bf16": (1e-2, 1e-1)}


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
    assert len(found) == (10 if engine == "zero3" else 16) + (engine in COMPILED)
    for row in found:
        print(row)
        weights, gradient_norms = LARGEST_DIFFERENCE[row.precision]
        assert row.weights < weights, row
        assert row.gradient_norms < gradient_norms, row
    for case in resumed_cases(engine):
        check_resumed(case, folder)
    check_started(torch.load(folder / "started"))
    # Without R1 and R2, with R2 alone, with both, and the generator's.
    assert torch.load(folder / "graphs") == (4 if engine in COMPILED else 0)
    if engine != "cpu":
        check_ranks_agree(folder)
        check_traffic(engine, torch.load(folder / "traffic"))
        said = torch.load(folder / "diverged")
        assert "ema layers.0.weight is the first of 1 tensors" in said
        assert "step 7" in said


def check_resumed(case: str, folder: Path) -> None:
    """Taken up from a checkpoint is uninterrupted, to the last bit, on every engine."""
    whole = torch.load(folder / f"{case}-fp32")["weights"]
    resumed = torch.load(folder / f"resumed, {case}")
    for part, tensors in whole.items():
        for name, tensor in tensors.items():
            assert torch.equal(tensor, resumed[part][name]), f"{part} {name}"


def check_started(weights: dict[str, Any]) -> None:
    """Rank 0 reads the weights that a run starts from, and every rank has them."""
    for part, tensors in weights["expected"].items():
        for name, tensor in tensors.items():
            assert torch.equal(tensor, weights["found"][part][name]), f"{part} {name}"


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
