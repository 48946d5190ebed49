import os
import subprocess
from pathlib import Path

import pytest

from ganscale.cli import main
from ganscale.config.load import load
from ganscale.shipped import shipped
from tests.system.processes import ROOT


@pytest.fixture
def project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Path:
    monkeypatch.chdir(tmp_path)
    assert main(["init", "my digits!"]) == 0
    assert "cd 'my digits!'\n  ganscale pack digits data/digits" in capsys.readouterr().out
    return tmp_path / "my digits!"


def test_a_project_has_what_a_clone_has(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    experiment = load("experiment.yaml")
    assert (experiment.name, experiment.data.path) == ("my_digits", "data/digits")
    assert experiment.generator == load("configs/mnist_mlp.yaml").generator
    for name in ("slurm/train.sbatch", "slurm/trial/ganscale", "launch/node.sh"):
        assert (project / name).read_bytes() == (ROOT / name).read_bytes()
        assert os.access(project / name, os.X_OK)
    for room in ("configs", "launch/accelerate"):
        ours, theirs = ({p.relative_to(r) for p in (r / room).rglob("*")} for r in (project, ROOT))
        assert ours == theirs
    assert "runs/my_digits" in (project / "README.md").read_text()
    assert (project / ".gitignore").is_file()
    every = [file.read_text() for file in project.rglob("*") if file.is_file()]
    assert not [text for text in every if "NAME_" in text or "name: NAME" in text]


def test_a_scripts_path_is_that_of_this_environment(project: Path) -> None:
    """Whatever environment is active where a job is submitted."""
    done = subprocess.run(
        ["bash", "-euc", ". launch/path.sh; command -v ganscale accelerate"],
        cwd=project,
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0
    programs = {Path(line).parent for line in done.stdout.splitlines()}
    assert len(programs) == 1
    assert (programs.pop() / "python").exists()


def test_a_job_is_submitted_from_a_project(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(project)
    assert main(["submit", "experiment.yaml", "--nodes", "2", "--dry-run"]) == 0
    assert "--job-name=my_digits --nodes=2 slurm/train.sbatch" in capsys.readouterr().out


def test_nothing_is_overwritten(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "README.md").unlink()
    (project / "experiment.yaml").write_text("mine")
    assert main(["init", str(project)]) == 1
    said = capsys.readouterr().err
    assert "already has experiment.yaml and" in said
    assert "nothing was written" in said
    assert (project / "experiment.yaml").read_text() == "mine"
    assert not (project / "README.md").exists()


def test_a_folder_with_other_files_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").touch()
    assert main(["init", "."]) == 0
    said = capsys.readouterr().out
    assert "  cd " not in said
    assert Path("experiment.yaml").is_file()


def test_an_experiment_that_only_ships_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for line in (["train", "configs/mnist_mlp.yaml"], ["config", "mnist_mlp"]):
        assert main(line) == 1
        said = capsys.readouterr().err
        assert f"no such experiment file; one of that name ships with ganscale: {ROOT}" in said
        assert "`ganscale init FOLDER`" in said
    assert main(["sweep", "mnist_lr.yaml"]) == 1
    assert str(shipped("configs/sweeps/mnist_lr.yaml")) in capsys.readouterr().err
    assert main(["train", "configs/mine.yaml"]) == 1
    assert capsys.readouterr().err.endswith("mine.yaml: no such experiment file\n")


def test_a_key_is_explained_with_the_shipped_experiments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["config", "--explain", "train.batch_size"]) == 0
    assert f"{shipped('configs/mnist_mlp.yaml')} sets it to 128" in capsys.readouterr().out
