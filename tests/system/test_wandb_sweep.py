"""Trials of a W&B sweep, started by W&B's own agent."""

import os
import sys
from pathlib import Path

import pytest
import yaml

from ganscale.config.load import load, to_yaml
from ganscale.evaluation.metrics.metric import METRICS
from ganscale.runs import checkpoint
from ganscale.runs.run_folder import RunFolder
from ganscale.runs.sync.parts import find_parts
from tests.conftest import tiny
from tests.system.processes import ROOT, run
from tests.system.wandb_server import serving_sweep, sweep_command

pytestmark = pytest.mark.system

BIN = Path(sys.executable).parent


def test_each_trial_has_a_run_of_its_own_and_may_be_stopped(digits: Path, tmp_path: Path) -> None:
    path = tmp_path / "base.yaml"
    path.write_text(to_yaml(tiny(digits, tmp_path, "monitoring.wandb=offline")))
    rates = [{"generator.optimizer.lr": rate} for rate in (1e-4, 5e-4)]
    long = {"train.steps": 10**6, "checkpoint.every": 100, "monitoring.log_every": 100}
    folders = [RunFolder(tmp_path / "runs" / f"tiny-trial{trial}") for trial in (1, 2)]

    def is_stop_due(trial: int) -> bool:
        return trial == 2 and bool(checkpoint.list_finished(folders[1].checkpoints))

    values = [rates[0], rates[1] | long]
    with serving_sweep(sweep_command(path), values, is_stop_due) as server:
        agent = [str(BIN / "wandb"), "agent", "--count", "2", "e/p/sweep"]
        path_variable = f"{BIN}:{os.environ['PATH']}"
        done = run(agent, tmp_path, **server.environment, HOME=str(tmp_path), PATH=path_variable)
    assert done.returncode == 0
    for trial, folder in enumerate(folders, 1):
        last = checkpoint.list_finished(folder.checkpoints)[-1]
        assert checkpoint.read_state(last).wandb_id == f"trial{trial}"
        learning_rate = folder.experiment().generator.optimizer.lr
        assert learning_rate == rates[trial - 1]["generator.optimizer.lr"]
    assert last.name != "step-00000010"
    assert [folder.state(finished=i == 0) for i, folder in enumerate(folders)] == [
        "finished",
        "stopped",
    ]
    # W&B shows the first as finished and the second as killed; Slurm starts neither again.
    assert [_exit_code(folder) for folder in folders] == [0, 255]


def _exit_code(folder: RunFolder) -> int:
    ((part,),) = find_parts(folder)[0].values()
    (code,) = (record.exit.exit_code for record in part.records if record.HasField("exit"))
    assert isinstance(code, int)
    return code


def test_the_shipped_sweep_ends_bad_trials_by_a_score_that_runs_log() -> None:
    sweep = yaml.safe_load((ROOT / "configs" / "sweeps" / "mnist_lr_wandb.yaml").read_text())
    assert sweep["method"] == "bayes"
    assert sweep["metric"]["name"] in METRICS.built_in()
    assert METRICS.get(sweep["metric"]["name"]).lower_is_better == (
        sweep["metric"]["goal"] == "minimize"
    )
    # Hyperband counts how often the metric was logged: there must be several brackets.
    base, *overrides = sweep["command"][2:-1]
    experiment = load(ROOT / base, overrides)
    assert experiment.evaluation.every is not None
    times = experiment.train.steps // experiment.evaluation.every
    stopping = sweep["early_terminate"]
    assert stopping["type"] == "hyperband"
    assert stopping["min_iter"] * stopping["eta"] ** 2 < times
    # Each parameter is a key of the experiment, and its bounds are values that it takes.
    for key, parameter in sweep["parameters"].items():
        for bound in ("min", "max"):
            load(ROOT / base, [f"{key}={parameter[bound]}"])
