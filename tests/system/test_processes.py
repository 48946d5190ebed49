"""The run does not depend on how many processes do it."""

import subprocess
from pathlib import Path

import pytest
import torch

from ganscale.config import Experiment
from ganscale.config.load import to_yaml
from ganscale.evaluation.scores import read_evaluations
from ganscale.runs.run_folder import RunFolder
from tests.comparing import metrics
from tests.conftest import tiny
from tests.system.forked import forked
from tests.system.processes import ROOT, launched, on_machines, run

pytestmark = pytest.mark.system

RECORDER = Path(__file__).parent / "recorder.py"
STEPS = 12


def start(
    digits: Path, folder: Path, name: str, processes: int, steps: int = STEPS, reader: str = "auto"
) -> tuple[Experiment, subprocess.CompletedProcess[str]]:
    overrides = (f"name={name}", f"train.steps={steps}", f"data.reader={reader}")
    values = tiny(digits, folder, *overrides).model_dump(mode="json")
    for player in ("generator", "discriminator"):
        values[player]["network"] = {"architecture": f"{RECORDER}:{player.title()}"}
    experiment = Experiment.model_validate(values)
    path = folder / f"{name}.yaml"
    path.write_text(to_yaml(experiment))
    record = folder / f"{name}-{processes}"
    record.mkdir()
    return experiment, forked(processes, "train", str(path), folder=folder, RECORD=str(record))


def recorded(folder: Path, kind: str, processes: int) -> list[torch.Tensor]:
    """What all ranks together were shown, call after call."""
    ranks = [torch.load(folder / f"{kind}-{rank}") for rank in range(processes)]
    return [torch.cat(parts) for parts in zip(*ranks, strict=True)]


def test_four_processes_do_what_one_does(digits: Path, tmp_path: Path) -> None:
    one, done_one = start(digits, tmp_path, "one", 1)
    four, done_four = start(digits, tmp_path, "four", 4)
    assert done_one.returncode == done_four.returncode == 0
    assert "DDP, 4 processes on cpu" in done_four.stderr
    assert done_four.stderr.count("step 12 of 12") == 1  # rank 0 alone speaks
    for kind, calls in (("latents", 2 * STEPS), ("real", STEPS)):
        alone = recorded(tmp_path / "one-1", kind, 1)
        together = recorded(tmp_path / "four-4", kind, 4)
        assert len(alone) == len(together) == calls
        assert all(map(torch.equal, alone, together)), kind
    for a, b in zip(metrics(one), metrics(four), strict=True):
        for key in a:
            assert a[key] == pytest.approx(b[key], rel=1e-4), key
    assert (RunFolder.of(four).path / "report.html").is_file()


@pytest.mark.parametrize("engine", ["cpu_ddp", "zero2", "zero3", "fsdp2"])
def test_four_processes_score_and_steer_as_one_does(
    digits: Path, tmp_path: Path, engine: str
) -> None:
    scores = []
    for processes in (1, 4):
        experiment = tiny(
            digits,
            tmp_path,
            f"name=on{processes}",
            "data.classes=10",
            "data.flip=true",
            "augment.policy=[flip,color]",
            "augment.adaptive={every: 2, images: 200}",
            f"balance={{held_out: {digits}, every: 3, images: 100, band: [0.45, 0.55]}}",
            "generator.optimizer.lr={from: 2e-4, to: 0, by: cosine, until: 10 steps}",
            "evaluation.every=10",
            "evaluation.samples=501",  # no multiple of four
            "evaluation.batch_size=64",
        )
        path = tmp_path / f"{processes}.yaml"
        path.write_text(to_yaml(experiment))
        chosen = engine if processes > 1 else "cpu_ddp"
        done = forked(processes, "train", str(path), folder=ROOT, engine=chosen)
        assert done.returncode == 0
        (evaluation,) = read_evaluations(RunFolder.of(experiment).evaluations)
        steered = [m for m in metrics(experiment) if "balance_accuracy" in m]
        scores.append((evaluation, steered, metrics(experiment)[-1]))
    (one, steered_one, last_one), (four, steered_four, last_four) = scores
    assert one["values"] == pytest.approx(four["values"], rel=1e-3, abs=1e-6)
    assert len(steered_one) == len(steered_four) == 3
    for a, b in zip(steered_one, steered_four, strict=True):
        assert a == pytest.approx(b, abs=0.02)
    assert last_one["fid"] == pytest.approx(last_four["fid"], rel=1e-3)


def test_a_run_goes_on_with_other_processes_reader_and_workers(
    digits: Path, tmp_path: Path
) -> None:
    whole, _ = start(digits, tmp_path, "whole", 1)
    start(digits, tmp_path, "elastic", 1, steps=5)
    elastic, done = start(digits, tmp_path, "elastic", 4, reader="indexed")
    assert "resuming from" in done.stderr
    for kind, calls in (("latents", 2), ("real", 1)):
        alone = recorded(tmp_path / "whole-1", kind, 1)
        before = recorded(tmp_path / "elastic-1", kind, 1)
        after = recorded(tmp_path / "elastic-4", kind, 4)
        assert len(before) == 5 * calls
        assert all(map(torch.equal, alone, before + after)), kind
        assert len(alone) == len(before + after)
    for a, b in zip(metrics(whole), metrics(elastic), strict=True):
        for key in a:
            assert a[key] == pytest.approx(b[key], rel=1e-4), key


def test_rank_0_has_the_last_word_though_it_is_the_slowest(tmp_path: Path) -> None:
    """The launcher ends all ranks with the first that ends."""
    line = ("train", str(ROOT / "configs" / "mnist_mlp.yaml"), "train.steps=-1")
    done = forked(4, *line, folder=tmp_path, module="tests.system.slow_start")
    assert done.returncode == 1
    assert done.stderr.count("train.steps") == 1


def test_a_batch_that_does_not_divide_says_so_once(digits: Path, tmp_path: Path) -> None:
    experiment = tiny(digits, tmp_path, "train.batch_size=9")
    path = tmp_path / "odd.yaml"
    path.write_text(to_yaml(experiment))
    done = run(launched(2, "train", str(path)), tmp_path)
    assert done.returncode != 0
    assert done.stderr.count("train.batch_size=9 is not divisible by 2 processes") == 1
    assert "ganscale/cli.py" not in done.stderr  # the launcher's traceback, and none of ours


def test_rank_0_says_whether_the_run_is_done(digits: Path, tmp_path: Path) -> None:
    """A rank that ended by its own judgement would leave the others waiting for it."""
    path = tmp_path / "run.yaml"
    path.write_text(to_yaml(tiny(digits, tmp_path, "name=run", "train.timeout=20")))
    assert forked(1, "train", str(path), folder=tmp_path).returncode == 0
    report = (tmp_path / "runs" / "run" / "report.html").stat().st_mtime_ns
    again = forked(2, "train", str(path), folder=tmp_path, module="tests.system.stale_view")
    assert again.returncode == 0
    assert again.stdout.count("is already finished: 10 steps") == 1
    assert (tmp_path / "runs" / "run" / "report.html").stat().st_mtime_ns == report


@pytest.mark.parametrize("kind", ["ddp", "zero1"])
def test_two_machines_find_each_other(digits: Path, tmp_path: Path, kind: str) -> None:
    """Two launchers of two processes each, as on two machines; these share a /dev/shm."""
    path = tmp_path / "two.yaml"
    path.write_text(to_yaml(tiny(digits, tmp_path)))
    machines = on_machines(kind, path, {}, {})
    logs = [machine.communicate(timeout=600)[1] for machine in machines]
    assert [machine.returncode for machine in machines] == [0, 0], logs
    assert "4 processes on cpu" in logs[0]
    assert "resident reader" in logs[0]
    assert "shared by 2 processes per node" in logs[0]
    assert "step 10 of 10" in logs[0]
