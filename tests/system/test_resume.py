"""Killed at a moment that nobody chose, a run goes on and ends as if nothing had happened."""

import functools
import random
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch

from ganscale.config.load import load
from ganscale.runs import checkpoint
from ganscale.runs.run_folder import RunFolder
from ganscale.training.trainer import train
from tests.comparing import metrics, same_checkpoint
from tests.system.forked import Forked, forked
from tests.system.interrupted import NETWORKS, experiment_file, wait_for_checkpoint
from tests.system.processes import ROOT, command, environment, launched, run

pytestmark = pytest.mark.system


@pytest.mark.parametrize(
    ("engine", "precision"),
    [("cpu_ddp", "fp32"), ("cpu_ddp", "fp16"), ("zero2", "fp32"), ("fsdp2", "fp32")],
)
def test_killed_on_four_processes_is_uninterrupted_too(
    digits: Path, tmp_path: Path, engine: str, precision: str
) -> None:
    """Four, since a sum of two has one order whatever an engine does."""
    whole, path = experiment_file(digits, tmp_path, "dcgan", "whole")
    less = ("train.steps=60", "checkpoint.every=10", f"train.precision={precision}")
    done = forked(4, "train", str(path), *less, folder=ROOT, engine=engine)
    assert done.returncode == 0
    assert done.stderr.count("objective.penalties (r1) with BatchNorm") == 1
    killed, path = experiment_file(digits, tmp_path, "dcgan", "killed")
    line = ("train", str(path), *less)
    process = Forked(4, *line, folder=ROOT, engine=engine)
    folder = RunFolder.of(killed).checkpoints
    wait_for_checkpoint(process, folder)
    process.kill()
    assert checkpoint.list_finished(folder)[-1].name != "step-00000060", "killed too late"
    if (engine, precision) == ("cpu_ddp", "fp32"):
        resumed = run(launched(4, *line, engine=engine), ROOT)
    else:
        resumed = forked(4, *line, folder=ROOT, engine=engine)
    assert resumed.returncode == 0
    assert not re.search(r"\b[Ww]arning", resumed.stderr)  # of any rank, by any library
    assert "resuming from" in resumed.stderr
    same_checkpoint(RunFolder.of(whole).checkpoints / "step-00000060", folder / "step-00000060")
    assert metrics(whole) == metrics(killed)


def test_a_run_goes_on_with_another_engine(digits: Path, tmp_path: Path) -> None:
    """FSDP2 on four processes, ZeRO-3 on two, ZeRO-1 on one, then none: as if each had been all."""
    whole, path = experiment_file(digits, tmp_path, "mlp", "whole")
    none = ("objective.penalties=[]", "checkpoint.every=20")
    whole = load(path, [*none, "train.steps=60"])
    train(whole)
    changed, path = experiment_file(digits, tmp_path, "mlp", "changed")
    engines = {"fsdp2": 4, "zero3": 2, "zero1": 1}
    for steps, (engine, processes) in zip((15, 30, 45), engines.items(), strict=True):
        line = ("train", str(path), *none, f"train.steps={steps}")
        assert forked(processes, *line, folder=ROOT, engine=engine).returncode == 0
    train(load(path, [*none, "train.steps=60"]))
    folders = [RunFolder.of(e).checkpoints / "step-00000060" for e in (whole, changed)]
    for part in ("generator", "discriminator", "ema"):
        ours, theirs = (checkpoint.read_weights(folder, part) for folder in folders)
        for name, value in ours.items():
            assert torch.allclose(value, theirs[name], rtol=1e-3, atol=1e-6), f"{part} {name}"


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
    newest = checkpoint.list_finished(folder)[-1]
    assert newest.name != "step-00000400", "killed too late to mean anything"
    assert forked(1, "train", str(path), folder=tmp_path).returncode == 0
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
    step = int(checkpoint.list_finished(folder)[-1].name.removeprefix("step-"))
    log = run([*line[:-2], f"train.steps={step + 5}"], tmp_path).stderr
    assert f"resuming from runs/stopped/checkpoints/step-{step:08d}" in log.replace(
        str(tmp_path) + "/", ""
    )
    assert checkpoint.list_finished(folder)[-1].name == f"step-{step + 5:08d}"


@pytest.mark.parametrize("processes", [1, 4])
def test_a_run_saves_and_stops_when_asked_and_lets_no_second_in(
    digits: Path, tmp_path: Path, processes: int
) -> None:
    _, path = experiment_file(digits, tmp_path, "mlp", "asked")
    more = ("train.steps=1000000", "checkpoint.every=1000000", "monitoring.log_every=1000")
    line = (command if processes == 1 else functools.partial(launched, processes))(
        "train", str(path), *more
    )
    run_folder = tmp_path / "runs" / "asked"
    process = subprocess.Popen(
        line, cwd=tmp_path, env=environment(), stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 120
    while not (run_folder / "samples" / "step-00000000.png").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert forked(1, "save", str(run_folder), folder=tmp_path).returncode == 0
    wait_for_checkpoint(process, run_folder / "checkpoints")
    second = forked(1, "train", str(path), *more, folder=tmp_path)
    assert second.returncode == 1
    assert "is training this run now" in second.stderr
    assert forked(1, "stop", str(run_folder), folder=tmp_path).returncode == 0
    _, log = process.communicate(timeout=60)
    assert process.returncode == 0, log
    assert "stopped by ganscale stop after step" in log
    done = forked(1, "stop", str(run_folder), folder=tmp_path)
    assert done.returncode == 1
    assert "no process is training this run" in done.stderr
