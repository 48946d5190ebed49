"""A run that is killed again and again, in whatever it is doing, starts each time and ends.

The environment variable GANSCALE_STORMS says how often it is killed in each phase (3).
"""

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from ganscale.config.load import to_yaml
from ganscale.runs import checkpoint
from ganscale.runs.run_folder import RunFolder
from tests.conftest import tiny
from tests.system.processes import command, environment, run

pytestmark = pytest.mark.system

STARTS = int(os.environ.get("GANSCALE_STORMS", 3))
LONGEST_START_S = 8.0
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


@pytest.mark.parametrize("phase", ["start", "checkpoints", "end"])
def test_every_start_of_a_storm_goes_on(digits: Path, tmp_path: Path, phase: str) -> None:
    """A checkpoint after each step, each pruned: most of the time is spent writing them."""
    experiment = tiny(digits, tmp_path, "checkpoint.every=1", "checkpoint.keep=1")
    path = tmp_path / "tiny.yaml"
    path.write_text(to_yaml(experiment))
    folder = RunFolder.of(experiment).checkpoints
    draw = random.Random(phase)
    reached = 0
    for _ in range(STARTS):
        # At its last checkpoint a run that ends still has pictures and its report to write.
        steps = reached + 2 if phase == "end" else 1_000_000
        process = subprocess.Popen(
            [*command("train", str(path)), f"train.steps={steps}"],
            cwd=tmp_path,
            env=environment(),
            stderr=subprocess.PIPE,
        )
        if phase == "start":
            time.sleep(draw.uniform(0, LONGEST_START_S))
        else:
            wait_for(process, folder, steps if phase == "end" else reached + 1)
            time.sleep(draw.uniform(0, 1))
        for number in draw.choices(SIGNALS, k=3):
            process.send_signal(number)
            time.sleep(draw.uniform(0, 0.1))
        process.kill()
        assert b"ganscale: error:" not in process.communicate()[1]
        reached = newest(folder)
    done = run([*command("train", str(path)), f"train.steps={reached + 3}"], tmp_path)
    assert done.returncode == 0
    assert [p.name for p in checkpoint.list_finished(folder)] == [f"step-{reached + 3:08d}"]
    assert not list(folder.glob(".*"))
    assert not list(folder.glob("broken-*"))


def wait_for(process: subprocess.Popen[bytes], folder: Path, step: int) -> None:
    """Wait until there is a checkpoint of that step."""
    deadline = time.monotonic() + 600
    while newest(folder) < step:
        assert process.poll() is None, f"refused: {process.communicate()[1]!r}"
        assert time.monotonic() < deadline
        time.sleep(0.01)


def newest(folder: Path) -> int:
    return max(map(checkpoint.step_of, checkpoint.list_finished(folder)), default=0)
