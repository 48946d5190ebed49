"""Runs under the next number: taken once, by one process, and kept by a restarted one."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from ganscale.cli import main
from ganscale.config.load import to_yaml
from ganscale.engines import distributed
from ganscale.engines.launcher import Launcher
from ganscale.errors import GanscaleError
from ganscale.runs import checkpoint
from ganscale.runs.numbering import last_taken, next_free, take_next
from ganscale.runs.run_folder import RunFolder
from ganscale.training import recorder
from ganscale.training.trainer import train
from tests.conftest import tiny


def test_the_first_free_number_is_taken(digits: Path, tmp_path: Path) -> None:
    experiment = tiny(digits, tmp_path)
    with pytest.raises(GanscaleError, match="is gone"):
        last_taken(experiment)
    for name in ("tiny", "tiny-2", "tiny-3"):
        assert next_free(experiment).name == name
        assert take_next(experiment).name == name
        assert last_taken(experiment).name == name
        assert RunFolder(tmp_path / "runs" / name).experiment().name == name


def test_no_two_starts_take_the_same_number(digits: Path, tmp_path: Path) -> None:
    experiment = tiny(digits, tmp_path)
    with ThreadPoolExecutor(8) as pool:
        taken = [one.name for one in pool.map(take_next, [experiment] * 24)]
    assert len(set(taken)) == 24


def test_new_trains_beside_and_without_it_the_run_resumes(
    digits: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(recorder, "write_report", lambda *_: None)
    monkeypatch.setattr(recorder, "draw_gallery", lambda *_: [])
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    file = tmp_path / "tiny.yaml"
    file.write_text(to_yaml(tiny(digits, tmp_path, "train.steps=1")))
    for name in ("tiny", "tiny-2"):
        assert main(["train", str(file), "--new"]) == 0
        assert f"this is the run {name}: to resume it, write name={name}" in capsys.readouterr().err
        assert RunFolder(tmp_path / "runs" / name).experiment().name == name
    assert main(["train", str(file), "name=tiny-2", "train.steps=2"]) == 0
    known = checkpoint.list_finished(tmp_path / "runs" / "tiny-2" / "checkpoints")
    assert checkpoint.step_of(known[-1]) == 2
    # torchrun starts its ranks again, by the same command.
    monkeypatch.setattr(distributed, "join_restarted_group", lambda *_: None)  # there is none
    again = replace(Launcher(), attempt="1")
    assert train(tiny(digits, tmp_path, "train.steps=3"), again, new=True) == 0
    known = checkpoint.list_finished(tmp_path / "runs" / "tiny-2" / "checkpoints")
    assert checkpoint.step_of(known[-1]) == 3
    assert not (tmp_path / "runs" / "tiny-3").exists()


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"SLURM_JOB_ID": "7"}, "ganscale submit --new"),
        ({"WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2", "RANK": "0"}, "on several nodes"),
    ],
)
def test_new_is_refused_where_a_restart_would_take_another_number(
    variables: dict[str, str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert main(["train", "configs/mnist_mlp.yaml", "--new"]) == 1
    assert message in capsys.readouterr().err
