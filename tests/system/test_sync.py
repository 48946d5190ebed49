"""A run without a network, killed and resumed, is one run of W&B after `ganscale sync`."""

import re
from pathlib import Path
from typing import Any

import pytest

from ganscale.cli import main
from ganscale.config.load import to_yaml
from ganscale.monitoring.metrics_log import read_metrics
from ganscale.runs.run_folder import RunFolder
from tests.conftest import tiny
from tests.system.forked import Forked, forked
from tests.system.interrupted import wait_for_checkpoint
from tests.wandb_cloud import Answer, CloudRun, logged_in

pytestmark = pytest.mark.system


def test_a_run_that_was_killed_and_resumed_twice_offline_is_one_run(
    digits: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    often = ("checkpoint.every=20", "monitoring.pictures_every=10", "monitoring.wandb=offline")
    experiment = tiny(digits, tmp_path, *often)
    path = tmp_path / "run.yaml"
    path.write_text(to_yaml(experiment))
    folder = RunFolder.of(experiment)
    process = Forked(1, "train", str(path), "train.steps=4000", folder=tmp_path)
    wait_for_checkpoint(process, folder.checkpoints)
    process.kill()
    killed_after = read_metrics(folder.metrics)[-1]["step"]
    for more in (10, 20):
        steps = f"train.steps={killed_after + more}"
        assert forked(1, "train", str(path), steps, folder=tmp_path).returncode == 0
    last = killed_after + 20
    with logged_in(monkeypatch) as cloud:
        # The server refuses the animations at first: what is missing is uploaded by the next call.
        refusal = Answer(404)
        cloud.trouble = lambda request: refusal if "/media/videos/" in request else None
        assert main(["sync", str(folder.path)]) == 75
        error = capsys.readouterr().err
        assert "W&B has not got 0 steps of" in error
        assert "4 files of" in error
        cloud.trouble = lambda request: None
        cloud.asked.clear()
        assert main(["sync", str(folder.path)]) == 0
        said = capsys.readouterr().out
        # The animations, and files whose names do not say their content, such as the experiment.
        assert re.search(r"uploaded 0 steps and \d files to", said)
        assert "from 3 parts" in said
        assert not [name for name in cloud.asked if "/media/images/" in name]
        (run,) = cloud.runs.values()
        _compare(run, folder, last)
        cloud.asked.clear()
        assert main(["sync", str(folder.path)]) == 0
        assert "W&B has all of" in capsys.readouterr().out
        assert not cloud.asked


def _compare(run: CloudRun, folder: RunFolder, last: int) -> None:
    """The server has each step once in rising order, all files, and how the run ended."""
    logged: dict[int, dict[str, Any]] = {0: {"images": 0}}  # at step 0 there is only a picture
    for line in read_metrics(folder.metrics):
        logged.setdefault(line.pop("step"), {}).update(line)
    assert run.steps == list(logged) == list(range(last + 1))
    keys = {key for line in logged.values() for key in line}
    assert [{k: v for k, v in line.items() if k in keys} for line in run.history] == list(
        logged.values()
    )
    shown = {line["_step"] for line in run.history if "samples" in line}
    assert shown == {step for step, _ in folder.sample_grids()}
    assert run.summary.items() >= logged[last].items()
    assert run.config["train"]["value"]["steps"] == last
    assert run.exit_codes[-1] == 0
    on_disk = {p.name: p.read_bytes() for p in folder.path.glob("wandb/offline-*/files/**/*.*")}
    media = [name for name in run.files if name.startswith("media/")]
    lost = [grid.read_bytes() for _, grid in folder.sample_grids()]
    for name in media:
        assert run.files[name] in (on_disk.get(Path(name).name), *lost)
    assert len(media) == len(folder.sample_grids()) + 6
