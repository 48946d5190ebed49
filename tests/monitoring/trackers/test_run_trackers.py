"""Which trackers a run has, and that none of them can end it."""

import json
import re
from pathlib import Path

import pytest

from ganscale.errors import GanscaleError
from ganscale.monitoring.metrics_log import read_metrics
from ganscale.monitoring.trackers.chosen import chosen_trackers
from ganscale.monitoring.trackers.run_trackers import Trackers
from ganscale.runs.run_folder import RunFolder
from ganscale.training.trainer import train
from tests.conftest import tiny
from tests.monitoring.trackers import own_trackers

OWN = Path(own_trackers.__file__)


def test_a_run_goes_on_without_a_tracker_that_fails(
    digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    experiment = tiny(digits, tmp_path, f"monitoring.trackers=[{OWN}:Failing, tensorboard]")
    assert train(experiment) == 0
    (warning,) = [line for line in capsys.readouterr().err.splitlines() if "Failing" in line]
    assert re.search(
        r"own_trackers.py:Failing fails at step 3 \(no route to host\); the run goes on without it",
        warning,
    )
    folder = RunFolder.of(experiment)
    assert [line["step"] for line in read_metrics(folder.metrics)] == list(range(1, 11))
    assert list(folder.path.glob("tensorboard/events*"))
    assert folder.tracker_ids() == {f"{OWN}:Failing": "some-id"}


def test_a_tracker_that_does_not_start_is_one_warning(
    digits: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "tensorboard").write_text("a file where TensorBoard makes a folder")
    experiment = tiny(digits, tmp_path, "monitoring.trackers=[tensorboard]")
    trackers = Trackers(experiment, tmp_path, tmp_path / "metrics.jsonl")
    trackers.log(1, 8, {"loss_generator": 1.0})
    trackers.finish()
    (warning,) = caplog.messages
    assert warning.startswith("the tracker tensorboard does not start (")


def test_each_tracker_is_told_its_own_id_and_what_it_has_logged(
    digits: Path, tmp_path: Path
) -> None:
    experiment = tiny(digits, tmp_path, f"monitoring.trackers=[{OWN}:Failing]")
    first = Trackers(experiment, tmp_path, tmp_path / "metrics.jsonl")
    name = f"{OWN}:Failing"
    assert first.ids == {name: "some-id"}
    again = Trackers(experiment, tmp_path, tmp_path / "metrics.jsonl", 0, {name: "an-older-id"})
    assert again.ids == {name: "an-older-id"}


def test_ids_are_noted_beside_the_run_and_only_valid_ones_are_read(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert folder.tracker_ids() == {}
    folder.note_tracker_ids({"mlflow": "3d8e1df0f9bf"})
    assert folder.tracker_ids() == {"mlflow": "3d8e1df0f9bf"}
    noted = {"mlflow": "../../other", "aim": ["x"], "comet": "c0"}
    (tmp_path / "trackers.json").write_text(json.dumps(noted))
    assert folder.tracker_ids() == {"comet": "c0"}


def test_a_missing_package_is_said_before_anything_starts(digits: Path, tmp_path: Path) -> None:
    experiment = tiny(digits, tmp_path, f"monitoring.trackers=[{OWN}:Missing]")
    wanted = (
        r"Missing needs the package a_package_that_nobody_has, which is not installed: "
        r"pip install a-package"
    )
    with pytest.raises(GanscaleError, match=wanted):
        train(experiment)
    assert not experiment.folder.exists()


def test_disabled_wandb_is_no_tracker(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = tiny(digits, tmp_path, "monitoring.trackers=[wandb, tensorboard]")
    assert chosen_trackers(both) == ("tensorboard",)
    online = tiny(digits, tmp_path, "monitoring.wandb=online")
    assert chosen_trackers(online) == ("wandb",)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert chosen_trackers(online) == ()
