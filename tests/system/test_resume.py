"""Killed at a moment that nobody chose, a run goes on and ends as if nothing had happened."""

import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from ganscale.config import Experiment
from ganscale.training import checkpoint
from ganscale.training.run_folder import RunFolder
from ganscale.training.trainer import train
from tests.conftest import tiny
from tests.system.processes import command, environment, run
from tests.training.test_trainer import metrics, same_checkpoint

pytestmark = pytest.mark.system

NETWORKS = {
    "mlp": {
        "generator": {"architecture": "mlp", "hidden": [64]},
        "discriminator": {"architecture": "mlp", "hidden": [64]},
    },
    "dcgan": {
        "generator": {"architecture": "dcgan", "width": 4},
        "discriminator": {"architecture": "dcgan", "width": 4},
    },
}


def experiment_file(digits: Path, folder: Path, network: str, name: str) -> tuple[Experiment, Path]:
    from ganscale.experiment import to_yaml

    values = tiny(digits, folder, f"name={name}").model_dump(mode="json")
    for player, options in NETWORKS[network].items():
        values[player]["network"] = options
    values["train"]["steps"] = 400
    values["checkpoint"] = {"every": 20, "keep": 2}
    values["objective"]["penalties"] = [{"kind": "r1", "weight": 1.0, "every": 4}]
    experiment = Experiment.model_validate(values)
    path = folder / f"{name}.yaml"
    path.write_text(to_yaml(experiment))
    return experiment, path


def wait_for_checkpoint(process: subprocess.Popen[bytes], folder: Path) -> None:
    deadline = time.monotonic() + 120
    while not checkpoint.listed(folder):
        assert process.poll() is None, "training ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("network", NETWORKS)
def test_killed_is_uninterrupted_to_the_last_bit(
    digits: Path, tmp_path: Path, network: str
) -> None:
    whole, _ = experiment_file(digits, tmp_path, network, "whole")
    train(whole)
    killed, path = experiment_file(digits, tmp_path, network, "killed")
    folder = RunFolder.of(killed).checkpoints
    process = subprocess.Popen(command("train", str(path)), cwd=tmp_path, env=environment())
    wait_for_checkpoint(process, folder)
    time.sleep(random.uniform(0, 0.5))
    process.send_signal(signal.SIGKILL)
    process.wait()
    newest = checkpoint.listed(folder)[-1]
    assert newest.name != "step-00000400", "killed too late to mean anything"
    assert run(command("train", str(path)), tmp_path).returncode == 0
    same_checkpoint(RunFolder.of(whole).checkpoints / "step-00000400", folder / "step-00000400")
    assert metrics(whole) == metrics(killed)


def test_a_signal_saves_and_the_same_command_goes_on(digits: Path, tmp_path: Path) -> None:
    _, path = experiment_file(digits, tmp_path, "mlp", "stopped")
    line = [*command("train", str(path)), "train.steps=100000", "checkpoint.every=20"]
    process = subprocess.Popen(
        line, cwd=tmp_path, env=environment(), stderr=subprocess.PIPE, text=True
    )
    folder = tmp_path / "runs" / "stopped" / "checkpoints"
    wait_for_checkpoint(process, folder)
    process.send_signal(signal.SIGTERM)
    _, log = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert f"stopped by signal {signal.SIGTERM}" in log
    step = int(checkpoint.listed(folder)[-1].name.removeprefix("step-"))
    log = run([*line[:-2], f"train.steps={step + 5}"], tmp_path).stderr
    assert f"going on from runs/stopped/checkpoints/step-{step:08d}" in log.replace(
        str(tmp_path) + "/", ""
    )
    assert checkpoint.listed(folder)[-1].name == f"step-{step + 5:08d}"
