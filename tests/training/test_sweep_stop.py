"""A trial that its sweep has ended is over; one that was preempted goes on."""

import os
import signal
from pathlib import Path

import pytest

from ganscale.runs import checkpoint
from ganscale.runs.run_folder import RunFolder
from ganscale.training.observer import Observer
from ganscale.training.trainer import train
from tests.conftest import tiny
from tests.wandb_cloud import logged_in


class Terminating(Observer):
    """Sends the signal of an agent, or of a scheduler, to this process."""

    def step(self, step: int) -> None:
        if step == 3:
            os.kill(os.getpid(), signal.SIGTERM)


def test_the_exit_code_says_whether_a_trial_is_to_be_started_again(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    variables = {"SWEEP_ID": "s", "RUN_ID": "trial", "PROJECT": "p", "ENTITY": "e"}
    for name, value in variables.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    codes = {}
    with logged_in(monkeypatch) as cloud:
        for name, is_ended in {"ended": True, "preempted": False}.items():
            cloud.stop_asked = is_ended
            experiment = tiny(digits, tmp_path, f"name={name}")
            codes[name] = train(experiment, observer=Terminating())
            folder = RunFolder.of(experiment)
            (saved,) = checkpoint.list_finished(folder.checkpoints)
            assert saved.name == "step-00000003"
            assert folder.state(finished=False) == "stopped"
    assert codes == {"ended": 0, "preempted": 128 + signal.SIGTERM}
    # Without a server nothing shows that the sweep has ended it.
    assert train(tiny(digits, tmp_path, "name=alone"), observer=Terminating()) == 143
