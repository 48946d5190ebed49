"""`ganscale sweep --all`: every run of a grid, one after another."""

import os
import signal
from pathlib import Path

import pytest

from ganscale.cli import main
from ganscale.config.load import to_yaml
from ganscale.evaluation.scores import Scores
from ganscale.runs.checkpoint_names import list_finished, step_of
from ganscale.training import recorder
from ganscale.training.loop import Loop
from tests.conftest import tiny


@pytest.fixture
def grid(digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four runs: the second's batch cannot be divided, and the third's network does not exist."""
    monkeypatch.setattr(recorder, "write_report", lambda folder, *_: folder.report.touch())
    monkeypatch.setattr(recorder, "draw_gallery", lambda *_: [])
    base = tmp_path / "base.yaml"
    base.write_text(to_yaml(tiny(digits, tmp_path, "train.steps=3")))
    path = tmp_path / "grid.yaml"
    path.write_text(
        f"experiment: {base}\nname: lr\ngrid:\n"
        "  generator.optimizer.lr: [1.0e-4, 1.0e-3]\n  train.accumulation: [1, 16]\n"
    )
    return path


def steps_of(folder: Path) -> int:
    known = list_finished(folder / "checkpoints")
    return step_of(known[-1]) if known else 0


def test_all_runs_are_trained_and_a_failed_one_is_named(
    grid: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = tmp_path / "runs"
    assert main(["sweep", str(grid), "--all"]) == 1
    shown = capsys.readouterr()
    assert [steps_of(runs / f"lr-00{i}") for i in range(4)] == [3, 0, 3, 0]
    assert "2 of 4 runs failed:\n  lr-001: " in shown.err
    assert "\n  lr-003: " in shown.err
    assert "accumulation=16" in shown.err
    for number, fid in ((0, 7.5), (2, 4.5)):
        scores = Scores({"fid": fid}, "classifier", "c", 10_000, 1_797, "digits", 0.0, ())
        scores.record(runs / f"lr-00{number}" / "evaluations.jsonl", 3, 24)
    assert main(["sweep", str(grid), "--all"]) == 1
    shown = capsys.readouterr()
    assert shown.out.count("is already finished") == 2
    rows = [line.split()[1] for line in shown.out.splitlines() if line.startswith("│ ")]
    assert rows == ["2", "0", "1", "3"], "the best comes first, and those without a score last"


def test_ctrl_c_saves_the_run_and_starts_no_other(
    grid: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def press(loop: Loop) -> dict[str, float]:
        if loop.step == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return {}

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "_look", press)
        assert main(["sweep", str(grid), "--all"]) == 128 + signal.SIGINT
    assert steps_of(tmp_path / "runs" / "lr-000") == 2
    assert not (tmp_path / "runs" / "lr-002").exists()
    assert "2 of 3" in capsys.readouterr().out
    assert main(["sweep", str(grid), "--all"]) == 1
    assert steps_of(tmp_path / "runs" / "lr-000") == steps_of(tmp_path / "runs" / "lr-002") == 3
    assert "resuming from" in capsys.readouterr().err


def test_all_is_for_one_process(
    grid: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["sweep", str(grid), "--all"]) == 1
    assert "--all trains in one process" in capsys.readouterr().err
