"""Callbacks: what they are told, that they only look, and what becomes of their errors."""

from pathlib import Path
from typing import Any

import pytest
import torch

import ganscale
from ganscale.config import Experiment
from ganscale.errors import GanscaleError
from ganscale.evaluation.scores import Scores
from ganscale.runs.run_folder import RunFolder
from tests.comparing import same_checkpoint
from tests.conftest import tiny

DCGAN: dict[str, Any] = {"architecture": "dcgan", "width": 4, "norm": "batch"}
DROPPING = f"{Path(__file__).parents[1] / 'training' / 'test_trainer.py'}:Dropping"


class Evaluator:
    """Scores every network with 7."""

    def __init__(self, *arguments: object):
        pass

    def scores(self, network: torch.nn.Module) -> Scores:
        return Scores({"fid": 7.0}, "a constant", "", 40, 1797, "digits", 0.0, ())


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ganscale.training.trainer.Evaluator", Evaluator)
    monkeypatch.setattr("ganscale.training.recorder.draw_gallery", lambda *_: [])


def experiment(digits: Path, folder: Path, name: str, *overrides: str) -> Experiment:
    """Six steps with BatchNorm and dropout, looked at in every way."""
    values = tiny(
        digits,
        folder,
        f"name={name}",
        "train.steps=6",
        "monitoring.log_every=2",
        "monitoring.pictures_every=3",
        "evaluation.every=3",
        "checkpoint.every=2",
        "checkpoint.keep=9",
        *overrides,
    ).model_dump(mode="json")
    values["generator"]["network"] = DCGAN
    values["discriminator"]["network"] = {"architecture": DROPPING}
    return Experiment.model_validate(values)


class Watching(ganscale.Callback):
    """Notes what it is told, and does at each event what could disturb a run."""

    def __init__(self) -> None:
        self.told: list[tuple[str, int]] = []
        self.events: list[ganscale.Event] = []

    def note(self, kind: str, event: ganscale.Event) -> None:
        self.told.append((kind, event.step))
        self.events.append(event)
        torch.manual_seed(event.step)
        torch.randn(5)
        generator = event.generator()
        assert generator.sample(2).shape == (2, 1, 28, 28)
        for parameter in generator.network.parameters():
            parameter.fill_(0.1)
        for buffer in generator.network.buffers():
            buffer.fill_(1)

    def on_step(self, event: ganscale.Event) -> None:
        self.note("step", event)

    def on_log(self, event: ganscale.LogEvent) -> None:
        self.note("log", event)
        event.numbers.clear()

    def on_evaluation(self, event: ganscale.EvaluationEvent) -> None:
        self.note("evaluation", event)

    def on_picture(self, event: ganscale.PictureEvent) -> None:
        self.note("picture", event)

    def on_checkpoint(self, event: ganscale.CheckpointEvent) -> None:
        self.note("checkpoint", event)


def test_a_run_with_callbacks_is_the_run_without(digits: Path, tmp_path: Path) -> None:
    watching = Watching()
    ends = []
    for name, callbacks in {"alone": [], "watched": [watching]}.items():
        run = ganscale.train(experiment(digits, tmp_path, name), callbacks=callbacks)
        ends.append(run.folder / "checkpoints" / "step-00000006")
        logged = [line for line in run.metrics if "loss_generator" in line]
        assert [line["step"] for line in logged] == [2, 4, 6]
    same_checkpoint(*ends)
    assert watching.told == [
        *[("picture", 0), ("step", 1)],
        *[("step", 2), ("log", 2), ("checkpoint", 2)],
        *[("step", 3), ("evaluation", 3), ("picture", 3), ("checkpoint", 3)],
        *[("step", 4), ("log", 4), ("checkpoint", 4), ("step", 5)],
        *[("step", 6), ("log", 6), ("evaluation", 6), ("picture", 6), ("checkpoint", 6)],
    ]
    assert {event.steps for event in watching.events} == {6}


def test_what_the_events_hold(digits: Path, tmp_path: Path) -> None:
    run_folder = tmp_path / "runs" / "held"
    held: dict[str, Any] = {}

    class Looking(ganscale.Callback):
        def on_log(self, event: ganscale.LogEvent) -> None:
            held["log"] = event.numbers

        def on_evaluation(self, event: ganscale.EvaluationEvent) -> None:
            held["fid"] = event.scores.values["fid"]

        def on_picture(self, event: ganscale.PictureEvent) -> None:
            held["picture"] = event.path.read_bytes()[:4]

        def on_checkpoint(self, event: ganscale.CheckpointEvent) -> None:
            held["checkpoint"] = event.path
            held["samples"] = event.generator().sample(4, seed=1)

    run = ganscale.train(experiment(digits, tmp_path, "held"), callbacks=[Looking()])
    logged = [line for line in run.metrics if "loss_generator" in line][-1]
    assert {"step": 6, "images": 48, **held["log"]} == logged
    assert held["fid"] == run.evaluations[-1]["values"]["fid"] == 7
    assert held["picture"] == b"\x89PNG"
    assert held["checkpoint"] == run_folder / "checkpoints" / "step-00000006"
    assert torch.equal(held["samples"], run.generator(device="cpu").sample(4, seed=1))


@pytest.mark.parametrize("method", ["on_step", "on_log", "on_evaluation", "on_picture"])
def test_a_callback_stops_the_run_after_its_step(digits: Path, tmp_path: Path, method: str) -> None:
    class Stopping(ganscale.Callback):
        pass

    setattr(Stopping, method, lambda self, event: event.step and event.stop())
    when = {"on_step": 1, "on_log": 2, "on_evaluation": 3, "on_picture": 3}[method]
    run = ganscale.train(experiment(digits, tmp_path, "stopped"), callbacks=[Stopping()])
    assert run.step == when
    assert run.folder.joinpath("report.html").is_file()
    assert all(isinstance(line["step"], int) for line in run.metrics)


def test_an_error_of_a_callback_ends_the_run_in_good_order(digits: Path, tmp_path: Path) -> None:
    class Failing(ganscale.Callback):
        def on_log(self, event: ganscale.LogEvent) -> None:
            if event.step == 4:
                raise KeyError("accuracy")

    later = Watching()
    with pytest.raises(GanscaleError) as error:
        ganscale.train(experiment(digits, tmp_path, "failed"), callbacks=[Failing(), later])
    assert str(error.value).startswith(
        "callback Failing.on_log failed at step 4 (KeyError: 'accuracy'). The run was saved"
    )
    assert isinstance(error.value.__cause__, KeyError)
    assert later.told[-1] == ("step", 4)
    run = ganscale.Run(tmp_path / "runs" / "failed")
    assert run.step == 4
    assert [line["step"] for line in run.metrics if "loss_generator" in line] == [2, 4]
    assert run.folder.joinpath("report.html").is_file()
    assert not RunFolder(run.folder).is_being_trained()
    assert ganscale.train(experiment(digits, tmp_path, "failed")).step == 6


def test_a_class_is_not_a_callback(digits: Path, tmp_path: Path) -> None:
    with pytest.raises(GanscaleError, match=r"Watching'> is not an instance of a class derived"):
        ganscale.train(experiment(digits, tmp_path, "class"), callbacks=[Watching])  # type: ignore[list-item]
