"""Functions of a program's own that a run calls: what it calls them with, and when."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from ganscale.config import Experiment
from ganscale.errors import GanscaleError
from ganscale.evaluation.scores import Scores
from ganscale.library.generator import Generator
from ganscale.runs.export import about
from ganscale.training.observer import Observer


@dataclass(frozen=True)
class Event:
    """Something that has happened in a run; each kind of event adds what belongs to it."""

    step: int
    """Steps that are done."""
    experiment: Experiment
    _watcher: CallbackObserver = field(repr=False)

    @property
    def steps(self) -> int:
        """The step with which the run ends."""
        return self.experiment.train.steps

    def generator(self) -> Generator:
        """Return the averaged generator of this step, a copy, on the device that trains."""
        return self._watcher.generator()

    def stop(self) -> None:
        """Let the run write a checkpoint and end, as `ganscale stop` does; it can be resumed.

        It ends after this step, or after the next one if the event is a checkpoint. With several
        processes it ends at the next tenth step.
        """
        self._watcher.wants_stop = True


@dataclass(frozen=True)
class LogEvent(Event):
    """The run has logged what it measured: every `monitoring.log_every` steps."""

    numbers: dict[str, float]
    """The values by name, such as `loss_generator`, averaged over processes."""


@dataclass(frozen=True)
class EvaluationEvent(Event):
    """The run has scored the averaged generator: every `evaluation.every` steps."""

    scores: Scores


@dataclass(frozen=True)
class PictureEvent(Event):
    """The run has drawn a grid of samples: at the start, and every `monitoring.pictures_every`."""

    path: Path
    """The PNG file."""


@dataclass(frozen=True)
class CheckpointEvent(Event):
    """The run has written a checkpoint."""

    path: Path
    """Its folder, which the run removes when `checkpoint.keep` newer ones are there."""


class Callback:
    """What a program does while a run trains: derive from it, and override what you need.

    The methods are called on rank 0, with gradients off, after the event has happened; at each step
    in the order in which they stand here. They only look: whatever they draw or compute, the run's
    weights are the same, bit for bit. If one raises an error, the run writes a checkpoint, ends and
    raises `GanscaleError`; no callback is called any more.
    """

    def on_step(self, event: Event) -> None:
        """Act after a step."""

    def on_log(self, event: LogEvent) -> None:
        """Act after numbers have been logged."""

    def on_evaluation(self, event: EvaluationEvent) -> None:
        """Act after an evaluation."""

    def on_picture(self, event: PictureEvent) -> None:
        """Act after a grid of samples has been drawn."""

    def on_checkpoint(self, event: CheckpointEvent) -> None:
        """Act after a checkpoint has been written."""


class CallbackObserver(Observer):
    """Turns what the loop tells into events, and calls the callbacks in their order."""

    def __init__(self, experiment: Experiment, callbacks: Iterable[Callback]):
        self._experiment = experiment
        self._callbacks = list(callbacks)
        for callback in self._callbacks:
            if not isinstance(callback, Callback):
                raise GanscaleError(
                    f"callbacks: {callback!r} is not an instance of a class derived from "
                    "ganscale.Callback"
                )
        self._sampled_network: Callable[[], nn.Module] | None = None
        self.failure: GanscaleError | None = None
        """The error of a callback, to be raised when the run has ended."""

    def generator(self) -> Generator:
        """Return a copy of the generator that the run would save now."""
        assert self._sampled_network is not None, "the run has begun"
        network = copy.deepcopy(self._sampled_network()).requires_grad_(False)
        device = next((p.device for p in network.parameters()), torch.device("cpu"))
        return Generator(network, about(self._experiment), device)

    def begin(self, step: int, sampled_network: Callable[[], nn.Module]) -> None:
        """Remember how to get the generator."""
        self._sampled_network = sampled_network

    def step(self, step: int) -> None:
        """Call `on_step`."""
        self._call("on_step", Event(step, self._experiment, self))

    def log(self, step: int, numbers: dict[str, float]) -> None:
        """Call `on_log`."""
        self._call("on_log", LogEvent(step, self._experiment, self, dict(numbers)))

    def evaluation(self, step: int, scores: Scores) -> None:
        """Call `on_evaluation`."""
        self._call("on_evaluation", EvaluationEvent(step, self._experiment, self, scores))

    def picture(self, step: int, path: Path) -> None:
        """Call `on_picture`."""
        self._call("on_picture", PictureEvent(step, self._experiment, self, path))

    def checkpoint(self, step: int, path: Path) -> None:
        """Call `on_checkpoint`."""
        self._call("on_checkpoint", CheckpointEvent(step, self._experiment, self, path))

    def _call(self, method: str, event: Event) -> None:
        for callback in self._callbacks:
            if self.failure is not None:
                return
            try:
                with torch.no_grad():
                    getattr(callback, method)(event)
            except Exception as error:
                self.failure = GanscaleError(
                    f"callback {type(callback).__name__}.{method} failed at step {event.step:,} "
                    f"({type(error).__name__}: {error}). The run was saved and has ended; correct "
                    "the callback and train again, and the run goes on from there."
                )
                self.failure.__cause__ = error
                self.wants_stop = True
