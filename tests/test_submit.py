import shlex
from pathlib import Path

import pytest

from ganscale.cli import main
from tests.system.processes import ROOT

LINE = ["submit", "configs/mnist_mlp.yaml", "train.steps=5", "--nodes", "4", "--gpus-per-node", "8"]


def test_a_dry_run_prints_the_line_and_the_script(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    assert main([*LINE, "--engine", "zero2", "--sbatch=--exclusive", "--dry-run"]) == 0
    first, _, script = capsys.readouterr().out.partition("\n")
    words = shlex.split(first.removeprefix("# "))
    assert words[:3] == ["GANSCALE_ENGINE=zero2", "sbatch", "--parsable"]
    assert {"--job-name=mnist_mlp", "--nodes=4", "--gpus-per-node=8", "--exclusive"} <= {*words}
    assert words[-3:] == ["slurm/train.sbatch", "configs/mnist_mlp.yaml", "train.steps=5"]
    assert script == (ROOT / "slurm" / "train.sbatch").read_text()


def test_what_cannot_be_submitted_says_why(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(LINE) == 1
    assert "sbatch is not on PATH" in capsys.readouterr().err
    assert main([*LINE[:2], "train.stesp=5"]) == 1
    assert "train.stesp" in capsys.readouterr().err
    experiment = str(ROOT / "configs" / "mnist_mlp.yaml")
    monkeypatch.chdir(tmp_path)
    assert main(["submit", experiment]) == 1
    assert "run this in the clone's folder" in capsys.readouterr().err
