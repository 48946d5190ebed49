"""A rank that is killed, and one that hangs."""

import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from ganscale.runs import checkpoint
from tests.system.forked import Forked
from tests.system.interrupted import experiment_file, wait_for_checkpoint
from tests.system.processes import environment, kill_all, launched

pytestmark = pytest.mark.system


def rank_of(process: subprocess.Popen[bytes], rank: int) -> psutil.Process:
    """The training process with that rank."""
    for child in psutil.Process(process.pid).children(recursive=True):
        if child.environ().get("RANK") == str(rank):
            return child
    raise AssertionError(f"no process of rank {rank}")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_the_others_end_and_say_so(digits: Path, tmp_path: Path, number: signal.Signals) -> None:
    _, path = experiment_file(digits, tmp_path, "mlp", "run")
    more = ("train.steps=1000000", "train.timeout=10")
    process = Forked(4, "train", str(path), *more, folder=tmp_path)
    try:
        wait_for_checkpoint(process, tmp_path / "runs" / "run" / "checkpoints")
        process.ranks[1].send_signal(number)
        deadline = time.monotonic() + 60
        while "error: lost contact with another process after step" not in process.stderr():
            assert time.monotonic() < deadline, process.stderr()
            time.sleep(0.1)
        assert "ganscale/cli.py" not in process.stderr()
    finally:
        process.kill()


def test_a_restart_goes_on_from_the_last_checkpoint(digits: Path, tmp_path: Path) -> None:
    _, path = experiment_file(digits, tmp_path, "mlp", "run")
    more = ("train.steps=400", "checkpoint.every=50")
    restarts = ("--max_restarts=1", "--monitor_interval=0.5")
    line = launched(4, "train", str(path), *more, launcher=restarts)
    log = tmp_path / "log"
    with log.open("wb") as file:
        process = subprocess.Popen(line, cwd=tmp_path, env=environment(), stdout=file, stderr=file)
    try:
        folder = tmp_path / "runs" / "run" / "checkpoints"
        wait_for_checkpoint(process, folder)
        rank_of(process, 1).kill()
        assert process.wait(timeout=240) == 0, log.read_text()
        assert "resuming from" in log.read_text()
        assert checkpoint.list_finished(folder)[-1].name == "step-00000400"
    finally:
        kill_all(process)
