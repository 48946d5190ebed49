"""`ganscale.train`: a run, inside a program of its own or a notebook."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ganscale.config import Experiment
from ganscale.config.load import as_overrides, load
from ganscale.engines.launcher import Launcher
from ganscale.library.run import Run
from ganscale.monitoring.wandb_trial import name_after_trial
from ganscale.runs.run_folder import RunFolder
from ganscale.system_errors import explained

if TYPE_CHECKING:
    from ganscale.library.callbacks import Callback


def train(
    experiment: str | os.PathLike[str] | Experiment,
    *,
    steps: int | None = None,
    overrides: Mapping[str, Any] | None = None,
    callbacks: Sequence[Callback] = (),
) -> Run:
    """Train an experiment, from a file or an object, and return its run.

    The run is that of `ganscale train`: it resumes from its newest checkpoint, and returns at once
    if it is finished. `steps` is short for the override `train.steps`; `overrides` holds others,
    such as `{"train.batch_size": 64, "objective.loss": "hinge"}`. `callbacks` are called as the run
    goes on. In a notebook, a bar and the grid of samples take the place of log lines.

    Raises `GanscaleError` with the message that the command prints. What a run sets for its whole
    process (signal handlers, logging, PyTorch's choices and random numbers) is given back. A signal
    such as Ctrl-C's or a notebook's stop button lets the run write a checkpoint and end; it is then
    passed on to the program, as `KeyboardInterrupt` for example. In another thread than the main
    one Python does not let a run hear signals: there, `ganscale stop` and a callback stop it.
    """
    changes = dict(overrides or {})
    if steps is not None:
        changes["train.steps"] = steps
    origin = experiment if isinstance(experiment, Experiment) else Path(experiment)
    with explained():
        wanted = name_after_trial(load(origin, as_overrides(changes)))
        launcher = Launcher.from_environment()
        if launcher.world_size > 1 or not RunFolder.of(wanted).is_finished(wanted):
            stopped_by = _train(wanted, launcher, callbacks)
            if stopped_by is not None:
                signal.raise_signal(stopped_by)
        return Run(wanted.folder)


def _train(
    experiment: Experiment, launcher: Launcher, callbacks: Sequence[Callback]
) -> signal.Signals | None:
    """Train; return the signal that has stopped the run, if one has."""
    from ganscale.library.callbacks import CallbackObserver
    from ganscale.library.notebook import (
        NotebookProgress,
        hush_tqdm,
        in_notebook,
        show_only_warnings,
    )

    shown: list[Callback] = []
    if in_notebook():
        hush_tqdm()
        shown = [NotebookProgress()]
    from ganscale.library.process_state import given_back
    from ganscale.training import trainer

    observer = CallbackObserver(experiment, [*shown, *callbacks])
    with given_back():
        if shown:
            show_only_warnings()
        code = trainer.train(experiment, launcher, observer, in_program=True)
    if observer.failure is not None:
        raise observer.failure
    return signal.Signals(code - 128) if code else None
