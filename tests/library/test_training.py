"""`ganscale.train` inside a program: what it returns, raises and gives back."""

import logging
import os
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

import ganscale
from ganscale.config import Experiment
from ganscale.config.load import to_yaml
from ganscale.errors import GanscaleError
from ganscale.runs.run_folder import RunFolder
from ganscale.runs.sampler import Sampler
from tests.comparing import same_checkpoint
from tests.conftest import tiny


@pytest.fixture
def file(digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An experiment file of ten steps, as a user has one; its runs end without a gallery."""
    monkeypatch.setattr("ganscale.training.recorder.draw_gallery", lambda *_: [])
    path = tmp_path / "tiny.yaml"
    path.write_text(to_yaml(tiny(digits, tmp_path)))
    return path


def test_it_returns_the_run(file: Path, tmp_path: Path) -> None:
    drawn = {"monitoring.pictures_every": 2, "name": "drawn"}
    run = ganscale.train(str(file), steps=4, overrides=drawn)
    assert run.folder == tmp_path / "runs" / "drawn"
    assert os.fspath(run) == str(run.folder)
    assert repr(run) == f"<Run {run.folder}: 4 of 4 steps>"
    assert [line["step"] for line in run.metrics if "loss_generator" in line] == [1, 2, 3, 4]
    assert run.evaluations == []
    assert [path.name for path in run.pictures] == [f"step-{s:08d}.png" for s in (0, 2, 4)]
    assert run.experiment.monitoring.pictures_every == 2
    images = run.generator(device="cpu").sample(3)
    wanted = Sampler(run.folder, "latest").images(3)
    assert torch.equal(images, torch.from_numpy(wanted).permute(0, 3, 1, 2))
    assert [line["step"] for line in ganscale.Run(run).metrics] == [
        line["step"] for line in run.metrics
    ]


def test_it_is_the_run_of_the_command(file: Path, digits: Path, tmp_path: Path) -> None:
    from ganscale.cli import main

    assert main(["train", str(file), "train.steps=3", "name=command"]) == 0
    run = ganscale.train(tiny(digits, tmp_path), steps=3, overrides={"name": "program"})
    ends = [tmp_path / "runs" / name / "checkpoints/step-00000003" for name in ("command", run)]
    same_checkpoint(*ends)


def test_it_goes_on_and_then_returns_at_once(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ganscale.train(file, steps=2).step == 2
    assert ganscale.train(file, steps=5).step == 5
    assert "resuming from" in capsys.readouterr().err
    monkeypatch.setattr("ganscale.training.trainer.train", None)
    assert ganscale.train(file, steps=5).step == 5
    assert capsys.readouterr() == ("", "")


def test_overrides_are_checked_as_those_of_the_command(file: Path, digits: Path) -> None:
    with pytest.raises(GanscaleError) as error:
        ganscale.train(file, steps=0, overrides={"train.batch_siz": 64, "objective.loss": "hing"})
    assert f"{file} is valid, but not with these overrides:" in str(error.value)
    for part in ("train.steps=0", "train.batch_siz: ", "did you mean hinge?"):
        assert part in str(error.value)
    with pytest.raises(GanscaleError, match=r"not a valid experiment:\n  train\.steps=0"):
        ganscale.train(Experiment(data={"path": str(digits)}), steps=0)  # type: ignore[arg-type]
    with pytest.raises(GanscaleError, match=r"none\.yaml: no such experiment file"):
        ganscale.train("none.yaml")


def test_values_of_every_kind_are_overrides(file: Path) -> None:
    penalties = [{"kind": "r1", "weight": {"from": 1, "to": 1e-5, "until": "10 steps"}}]
    overrides: dict[str, Any] = {
        "objective.penalties": penalties,
        "evaluation.every": None,
        "augment.policy": ("flip", "shift"),
        "generator.optimizer.lr": 1e-05,
        "train.deterministic": False,
        "runs": file.parent / "näher: [x]",
    }
    run = ganscale.train(file, steps=1, overrides=overrides)
    assert run.folder == file.parent / "näher: [x]" / "tiny"
    assert run.experiment.generator.optimizer.lr == 1e-05
    assert run.experiment.evaluation.every is None
    assert [penalty.kind for penalty in run.experiment.objective.penalties] == ["r1"]


def settings() -> dict[str, object]:
    """All that a run could leave changed in its process."""
    return {
        "signals": [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)],
        "log": [vars(logging.getLogger("ganscale")).get(k) for k in ("level", "propagate")],
        "handlers": logging.getLogger("ganscale").handlers[:],
        "tf32": (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32),
        "benchmark": torch.backends.cudnn.benchmark,
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "fill": torch.utils.deterministic.fill_uninitialized_memory,  # type: ignore[attr-defined]
        "threads": torch.get_num_threads(),
        "gradients": torch.is_grad_enabled(),
        "random": torch.get_rng_state().tolist(),
        "filters": warnings.filters[:],
        "environment": dict(os.environ),
        "Accelerate": dict(__import__("accelerate").state.PartialState._shared_state),
    }


class Meddling(ganscale.Callback):
    """Changes what a callback should leave alone, and fails in the end if it is told to."""

    def __init__(self, fails: bool):
        self.fails = fails

    def on_step(self, event: ganscale.Event) -> None:
        torch.set_num_threads(2)
        torch.set_grad_enabled(True)
        warnings.simplefilter("ignore")
        os.environ["GANSCALE_OF_A_TEST"] = "1"
        if self.fails:
            raise ZeroDivisionError("by 0")


@pytest.fixture
def own_accelerate() -> Iterator[None]:
    """Accelerate as a program that has not used it finds it."""
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.usefixtures("own_accelerate")
@pytest.mark.parametrize(("deterministic", "fails"), [(True, False), (False, True)])
def test_it_gives_back_what_it_sets(file: Path, deterministic: bool, fails: bool) -> None:
    changed = {"train.deterministic": deterministic, "train.tf32": not deterministic}
    logging.getLogger("ganscale").setLevel(logging.WARNING)
    torch.manual_seed(7)
    before = settings()
    with pytest.raises(GanscaleError) if fails else nullcontext():
        ganscale.train(file, steps=1, overrides=changed, callbacks=[Meddling(fails)])
    assert settings() == before


def test_a_programs_own_handler_gets_the_lines(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    log = logging.getLogger("ganscale")
    log.addHandler(Keep())
    log.setLevel(logging.INFO)
    ganscale.train(file, steps=1)
    assert any(line.startswith("step 1 of 1") for line in lines)
    assert capsys.readouterr() == ("", "")


class Signalling(ganscale.Callback):
    """Sends this process a signal after step 3, as a scheduler or a stop button does."""

    def __init__(self, number: int):
        self.number = number

    def on_step(self, event: ganscale.Event) -> None:
        if event.step == 3:
            signal.raise_signal(self.number)


def test_an_interrupt_saves_and_is_passed_on(file: Path) -> None:
    # A shell's background job, which the tests may be, ignores Ctrl-C.
    old = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            ganscale.train(file, callbacks=[Signalling(signal.SIGINT)])
    finally:
        signal.signal(signal.SIGINT, old)
    run = ganscale.Run(file.parent / "runs" / "tiny")
    assert run.step == 3
    assert (run.folder / "report.html").is_file()
    assert ganscale.train(file).step == 10


def test_another_signal_reaches_the_programs_own_handler(file: Path) -> None:
    heard: list[int] = []
    old = signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    try:
        run = ganscale.train(file, callbacks=[Signalling(signal.SIGTERM)])
    finally:
        signal.signal(signal.SIGTERM, old)
    assert heard == [signal.SIGTERM]
    assert run.step == 3


def test_it_trains_in_another_thread(file: Path) -> None:
    runs: list[ganscale.Run] = []
    handler = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=lambda: runs.append(ganscale.train(file, steps=2)))
    thread.start()
    thread.join()
    assert [run.step for run in runs] == [2]
    assert signal.getsignal(signal.SIGINT) is handler


def test_a_failed_run_leaves_the_folder_free(file: Path, tmp_path: Path) -> None:
    with pytest.raises(GanscaleError, match="not a finite number"):
        ganscale.train(file, overrides={"discriminator.optimizer.lr": 1e30})
    folder = RunFolder(tmp_path / "runs" / "tiny")
    assert not folder.is_being_trained()


def test_an_error_of_the_system_is_one_message(file: Path, tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file, not a folder")
    with pytest.raises(GanscaleError, match=r"runs/tiny.*: Not a directory"):
        ganscale.train(file)
