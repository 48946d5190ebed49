"""A rank that is killed, and one that hangs."""

import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from ganscale.runs import checkpoint
from tests.system.interrupted import experiment_file, wait_for_checkpoint
from tests.system.processes import environment, kill_all, launched

pytestmark = pytest.mark.system


def start(
    digits: Path, folder: Path, log: Path, *more: str, launcher: tuple[str, ...] = ()
) -> subprocess.Popen[bytes]:
    """A run of four processes that does not end by itself, its output in `log`."""
    _, path = experiment_file(digits, folder, "mlp", "run")
    line = launched(4, "train", str(path), *more, launcher=launcher)
    with log.open("wb") as file:
        return subprocess.Popen(line, cwd=folder, env=environment(), stdout=file, stderr=file)


def rank_of(process: subprocess.Popen[bytes], rank: int) -> psutil.Process:
    """The training process with that rank."""
    for child in psutil.Process(process.pid).children(recursive=True):
        if child.environ().get("RANK") == str(rank):
            return child
    raise AssertionError(f"no process of rank {rank}")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_the_others_end_and_say_so(digits: Path, tmp_path: Path, number: signal.Signals) -> None:
    log = tmp_path / "log"
    process = start(digits, tmp_path, log, "train.steps=1000000", "train.timeout=5")
    try:
        wait_for_checkpoint(process, tmp_path / "runs" / "run" / "checkpoints")
        rank_of(process, 1).send_signal(number)
        deadline = time.monotonic() + 30
        while "error: lost contact with another process after step" not in log.read_text():
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        assert "ganscale/cli.py" not in log.read_text()
    finally:
        kill_all(process)


def test_a_restart_goes_on_from_the_last_checkpoint(digits: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    restarts = ("--max_restarts=1", "--monitor_interval=0.5")
    process = start(
        digits, tmp_path, log, "train.steps=1000", "checkpoint.every=50", launcher=restarts
    )
    try:
        folder = tmp_path / "runs" / "run" / "checkpoints"
        wait_for_checkpoint(process, folder)
        rank_of(process, 1).kill()
        assert process.wait(timeout=240) == 0, log.read_text()
        assert "resuming from" in log.read_text()
        assert checkpoint.list_finished(folder)[-1].name == "step-00001000"
    finally:
        kill_all(process)
