"""The run does not depend on how many processes do it."""

import subprocess
from pathlib import Path

import pytest
import torch

from ganscale.config import Experiment
from ganscale.experiment import to_yaml
from ganscale.training.run_folder import RunFolder
from tests.conftest import tiny
from tests.system.processes import command, launched, run
from tests.training.test_trainer import metrics

pytestmark = pytest.mark.system

RECORDER = Path(__file__).parent / "recorder.py"
STEPS = 12


def start(
    digits: Path, folder: Path, name: str, processes: int
) -> tuple[Experiment, subprocess.CompletedProcess[str]]:
    values = tiny(digits, folder, f"name={name}", f"train.steps={STEPS}").model_dump(mode="json")
    for player in ("generator", "discriminator"):
        values[player]["network"] = {"architecture": f"{RECORDER}:{player.title()}"}
    experiment = Experiment.model_validate(values)
    path = folder / f"{name}.yaml"
    path.write_text(to_yaml(experiment))
    (folder / name).mkdir()
    line = ("train", str(path))
    done = run(
        launched(processes, *line) if processes > 1 else command(*line),
        folder,
        RECORD=str(folder / name),
    )
    return experiment, done


def recorded(folder: Path, kind: str, processes: int) -> list[torch.Tensor]:
    """What all ranks together were shown, call after call."""
    ranks = [torch.load(folder / f"{kind}-{rank}") for rank in range(processes)]
    return [torch.cat(parts) for parts in zip(*ranks, strict=True)]


def test_two_processes_do_what_one_does(digits: Path, tmp_path: Path) -> None:
    one, done_one = start(digits, tmp_path, "one", 1)
    two, done_two = start(digits, tmp_path, "two", 2)
    assert done_one.returncode == done_two.returncode == 0
    assert "2 processes on cpu" in done_two.stderr
    assert done_two.stderr.count("step 12 of 12") == 1  # rank 0 alone speaks
    for kind, calls in (("latents", 2 * STEPS), ("real", STEPS)):
        alone = recorded(tmp_path / "one", kind, 1)
        together = recorded(tmp_path / "two", kind, 2)
        assert len(alone) == len(together) == calls
        assert all(map(torch.equal, alone, together)), kind
    for a, b in zip(metrics(one), metrics(two), strict=True):
        for key in a:
            assert a[key] == pytest.approx(b[key], rel=1e-4), key
    assert (RunFolder.of(two).path / "report.html").is_file()


def test_a_batch_that_does_not_divide_says_so_once(digits: Path, tmp_path: Path) -> None:
    experiment = tiny(digits, tmp_path, "train.batch_size=9")
    path = tmp_path / "odd.yaml"
    path.write_text(to_yaml(experiment))
    done = run(launched(2, "train", str(path)), tmp_path)
    assert done.returncode != 0
    assert done.stderr.count("train.batch_size=9 is not divisible by 2 processes") == 1
    assert "ganscale/cli.py" not in done.stderr  # the launcher's traceback, and none of ours
