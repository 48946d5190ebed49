import os
import shlex
from pathlib import Path

import pytest

from ganscale.cli import main
from ganscale.runs.overview import summarize_runs
from ganscale.training.trainer import train
from tests.conftest import tiny
from tests.system.processes import ROOT

LINE = ["submit", "configs/mnist_mlp.yaml", "train.steps=5", "--nodes", "4", "--gpus-per-node", "8"]


@pytest.fixture(autouse=True)
def in_the_clone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def dry_run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[list[str], str, str]:
    """The words of the line that would submit, the world size, and the rest."""
    assert main(["submit", *arguments, "--dry-run"]) == 0
    first, world, rest = capsys.readouterr().out.split("\n", 2)
    return shlex.split(first.removeprefix("# ")), world.removeprefix("# "), rest


def test_a_dry_run_prints_the_line_the_world_size_and_the_script(
    capsys: pytest.CaptureFixture[str],
) -> None:
    words, world, script = dry_run(capsys, *LINE[1:], "--engine", "zero2", "--sbatch=--exclusive")
    assert words[:3] == ["GANSCALE_ENGINE=zero2", "sbatch", "--parsable"]
    assert {"--job-name=mnist_mlp", "--nodes=4", "--gpus-per-node=8", "--exclusive"} <= {*words}
    assert words[-3:] == ["slurm/train.sbatch", "configs/mnist_mlp.yaml", "train.steps=5"]
    assert world == "world size 32: 4 nodes × 8 GPUs; 4 of 128 images each"
    assert script == (ROOT / "slurm" / "train.sbatch").read_text()


def test_the_documented_line_with_an_override_after_options(
    capsys: pytest.CaptureFixture[str],
) -> None:
    line = "configs/cifar10_dcgan.yaml --gpus-per-node 1 --time 00:30:00 train.steps=2000"
    assert f"ganscale submit {line}\n" in (ROOT / "docs" / "cluster.md").read_text()
    words, _, _ = dry_run(capsys, *line.split())
    assert words[-2:] == ["configs/cifar10_dcgan.yaml", "train.steps=2000"]


@pytest.mark.parametrize(
    ("asked", "cpus", "memory"),
    [
        ([], "--cpus-per-gpu=5", "--mem-per-gpu=16G"),
        (["--cpus-per-gpu", "8", "--mem-per-gpu", "40G"], "--cpus-per-gpu=8", "--mem-per-gpu=40G"),
        (["--sbatch=--mem=0", "--sbatch=--cpus-per-task=64"], "--cpus-per-task=64", "--mem=0"),
    ],
)
def test_cpus_and_memory_are_asked_for(
    capsys: pytest.CaptureFixture[str], asked: list[str], cpus: str, memory: str
) -> None:
    words, _, _ = dry_run(capsys, *LINE[1:], "data.workers=3", *asked)
    assert [w for w in words if w.startswith("--cpus")] == [cpus]
    assert [w for w in words if w.startswith("--mem")] == [memory]


def test_without_gpus_there_is_one_process_a_node(capsys: pytest.CaptureFixture[str]) -> None:
    words, world, _ = dry_run(capsys, "configs/mnist_mlp.yaml", "--nodes", "2")
    assert world == "world size 2: 2 nodes, no GPUs; 64 of 128 images each"
    assert not [w for w in words if "gpu" in w or w.startswith("--mem")]


R1 = "objective.penalties=[{kind: r1, weight: 1}]"
ENDS_IN_THE_QUEUE = {
    "batch": ("--nodes 3 --gpus-per-node 4", "128 is not divisible by 12 processes"),
    "accumulation": (
        "--gpus-per-node 8 train.accumulation=32",
        "not divisible by 8 processes × train.accumulation=32; use a multiple of 256",
    ),
    "penalties": (f"--gpus-per-node 2 --engine zero3 '{R1}'", "penalties (r1) needs; use stage 2"),
    "fp16 divided": (
        "--gpus-per-node 2 --engine fsdp2 train.precision=fp16",
        "train.precision=fp16 does not go with FSDP",
    ),
    "fp16 without GPUs": (
        "--nodes 2 --engine zero2 train.precision=fp16",
        "DeepSpeed scales losses on GPUs only",
    ),
    "BatchNorm": ("--nodes 2 train.sync_batch_norm=true", "sync_batch_norm=true needs GPUs"),
    "size": ("--gpus-per-node 2 data.resolution=32 data.path={digits}", "holds 28×28 images"),
    "classes": ("--gpus-per-node 2 data.classes=7 data.path={digits}", "has 10 classes"),
    "partitions": (
        "--gpus-per-node 2 data.partitions=8 data.path={digits}",
        "data.partitions=8: the dataset has only 5 shards",
    ),
    "schedule": (
        "'generator.optimizer.lr={{from: 1, to: 0, until: 3}}' data.path={digits}",
        "generator.optimizer.lr.until=3: write a number and its unit",
    ),
    "held out": (
        "--gpus-per-node 2 data.path={digits} 'balance={{held_out: configs}}'",
        "configs",
    ),
    "streaming": (
        "--gpus-per-node 2 data.reader=streaming evaluation.every=5",
        "never sees the whole dataset",
    ),
    "no set": ("--gpus-per-node 2 data.path=configs", "configs"),
}


@pytest.mark.parametrize("what", ENDS_IN_THE_QUEUE)
def test_what_would_end_in_the_queue_is_refused(
    capsys: pytest.CaptureFixture[str], digits: Path, what: str
) -> None:
    line, message = ENDS_IN_THE_QUEUE[what]
    arguments = shlex.split(line.format(digits=digits) if "{digits}" in line else line)
    assert main(["submit", "configs/mnist_mlp.yaml", *arguments, "--dry-run"]) == 1
    shown = capsys.readouterr()
    assert message in shown.err
    assert not shown.out


def test_networks_that_cannot_be_built_or_trained_are_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    together = ("discriminator.network.norm=batch", "train.sync_batch_norm=true")
    line = ["submit", "configs/mnist_dcgan.yaml", "--gpus-per-node", "2", "--dry-run"]
    assert main([*line, *together]) == 1
    assert "SyncBatchNorm has no second derivative" in capsys.readouterr().err
    path = tmp_path / "own.yaml"
    path.write_text("name: own\ndata: {path: x}\ngenerator: {network: {architecture: gone.py:G}}\n")
    assert main(["submit", str(path), "--dry-run"]) == 1
    assert "gone.py" in capsys.readouterr().err


def test_the_folder_of_another_run_is_refused(
    capsys: pytest.CaptureFixture[str], digits: Path, tmp_path: Path
) -> None:
    there = tiny(digits, tmp_path, "name=taken", "train.steps=1")
    train(there)
    capsys.readouterr()
    more = [f"runs={tmp_path / 'runs'}", "name=taken", "--dry-run"]
    assert main(["submit", "configs/mnist_mlp.yaml", *more]) == 1
    assert "holds a run of another experiment" in capsys.readouterr().err


def test_a_new_runs_number_is_taken_once_for_the_whole_job(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = tmp_path / "runs"
    (runs / "taken").mkdir(parents=True)
    line = ["configs/mnist_mlp.yaml", f"runs={runs}", "name=taken", "--new"]
    words, _, _ = dry_run(capsys, *line)
    assert words[-1] == "name=taken-2"
    assert not (runs / "taken-2").exists(), "a dry run takes nothing"
    sbatch = tmp_path / "bin" / "sbatch"
    sbatch.parent.mkdir()
    sbatch.write_text(f'#!/bin/sh\necho "$@" >>{tmp_path / "asked"}\necho 42\n')
    sbatch.chmod(0o755)
    monkeypatch.setenv("PATH", f"{sbatch.parent}:{os.environ['PATH']}")
    for number in (2, 3):
        assert main(["submit", *line]) == 0
        asked = (tmp_path / "asked").read_text().splitlines()[-1].split()
        assert asked[-1] == f"name=taken-{number}"
        assert f"--job-name=taken-{number}" in asked
        (run,) = summarize_runs(runs / f"taken-{number}")
        assert run.state == "waiting"
    sbatch.write_text("#!/bin/sh\nexit 1\n")
    assert main(["submit", *line]) == 1
    assert not (runs / "taken-4").exists(), "the job was refused, and its number is free again"


def test_a_set_that_only_the_nodes_see_is_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*LINE, "data.path=/scratch/mnist", "--dry-run"]) == 0
    assert "warning: /scratch/mnist does not exist on this machine" in capsys.readouterr().err


def test_what_cannot_be_submitted_says_why(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(LINE) == 1
    assert "sbatch is not on PATH" in capsys.readouterr().err
    assert main([*LINE[:2], "train.stesp=5"]) == 1
    assert "train.stesp" in capsys.readouterr().err
    experiment = str(ROOT / "configs" / "mnist_mlp.yaml")
    monkeypatch.chdir(tmp_path)
    assert main(["submit", experiment]) == 1
    assert (
        "run this in a clone, or in a folder that `ganscale init FOLDER`" in capsys.readouterr().err
    )
