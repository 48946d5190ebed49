"""Trials of a W&B sweep, started by W&B's own agent."""

import os
import sys
from pathlib import Path

import pytest

from ganscale.config.load import load, to_yaml
from ganscale.runs import checkpoint
from tests.conftest import tiny
from tests.system.processes import run
from tests.system.wandb_server import serving_sweep, sweep_command

pytestmark = pytest.mark.system

BIN = Path(sys.executable).parent


def test_each_trial_has_a_run_of_its_own(digits: Path, tmp_path: Path) -> None:
    path = tmp_path / "base.yaml"
    path.write_text(to_yaml(tiny(digits, tmp_path, "monitoring.wandb=offline")))
    rates = [{"generator.optimizer.lr": rate} for rate in (1e-4, 5e-4)]
    with serving_sweep(sweep_command(path), rates) as server:
        agent = [str(BIN / "wandb"), "agent", "--count", "2", "e/p/sweep"]
        path_variable = f"{BIN}:{os.environ['PATH']}"
        done = run(agent, tmp_path, **server.environment, HOME=str(tmp_path), PATH=path_variable)
    assert done.returncode == 0
    for trial, values in enumerate(rates, 1):
        folder = tmp_path / "runs" / f"tiny-trial{trial}"
        (last,) = checkpoint.list_finished(folder / "checkpoints")
        assert last.name == "step-00000010"
        assert checkpoint.read_state(last).wandb_id == f"trial{trial}"
        experiment = load(folder / "experiment.yaml")
        assert experiment.generator.optimizer.lr == values["generator.optimizer.lr"]
