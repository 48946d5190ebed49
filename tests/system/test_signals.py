"""A run that is killed again and again, in whatever it is doing, starts each time and ends."""

import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from ganscale.experiment import to_yaml
from ganscale.training import checkpoint
from ganscale.training.run_folder import RunFolder
from tests.conftest import tiny
from tests.system.processes import command, environment, run

pytestmark = pytest.mark.system

STARTS = 4
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


def test_every_start_of_a_storm_goes_on(digits: Path, tmp_path: Path) -> None:
    """A checkpoint after each step, each pruned: most of the time is spent writing them."""
    more = ("train.steps=1000000", "checkpoint.every=1", "checkpoint.keep=1")
    experiment = tiny(digits, tmp_path, *more)
    path = tmp_path / "tiny.yaml"
    path.write_text(to_yaml(experiment))
    folder = RunFolder.of(experiment).checkpoints
    draw = random.Random(0)
    reached = 0
    for start in range(STARTS):
        process = subprocess.Popen(
            command("train", str(path)), cwd=tmp_path, env=environment(), stderr=subprocess.PIPE
        )
        deadline = time.monotonic() + 600
        while newest(folder) <= reached:
            assert process.poll() is None, (
                f"start {start} was refused: {process.communicate()[1]!r}"
            )
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(draw.uniform(0, 1))
        for number in draw.choices(SIGNALS, k=3):
            process.send_signal(number)
            time.sleep(draw.uniform(0, 0.1))
        process.kill()
        process.communicate()
        reached = newest(folder)
    done = run([*command("train", str(path)), f"train.steps={reached + 3}"], tmp_path)
    assert done.returncode == 0
    assert [p.name for p in checkpoint.listed(folder)] == [f"step-{reached + 3:08d}"]
    assert not list(folder.glob(".*"))
    assert not list(folder.glob("broken-*"))


def newest(folder: Path) -> int:
    return max(map(checkpoint.step_of, checkpoint.listed(folder)), default=0)
