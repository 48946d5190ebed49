"""A run, from its experiment to its last checkpoint: everything around the loop."""

import logging
import signal
from contextlib import suppress

from ganscale.config import Experiment
from ganscale.data.own_data import pack_own_data
from ganscale.data.packing.copies import Copies
from ganscale.data.reading.batch_source import BatchSource
from ganscale.engines.allocator import keep_freed_memory
from ganscale.engines.arithmetic import Arithmetic, set_up_arithmetic
from ganscale.engines.distributed import Ranks, broadcast_object, is_lost_contact
from ganscale.engines.launcher import Launcher
from ganscale.errors import GanscaleError
from ganscale.evaluation.evaluator import Evaluator
from ganscale.monitoring.progress import counted, set_up_logging
from ganscale.monitoring.trackers.chosen import refuse_missing_trackers
from ganscale.monitoring.wandb_trial import is_trial_stopped, trial_id
from ganscale.randomness import STREAM_VERSION
from ganscale.runs import checkpoint
from ganscale.runs.numbering import last_taken, take_next
from ganscale.runs.run_folder import RunFolder
from ganscale.training.balance import HeldOut
from ganscale.training.loop import Loop
from ganscale.training.model import GANModel
from ganscale.training.observer import Observer
from ganscale.training.preemption import StopRequest
from ganscale.training.recorder import Recorder
from ganscale.training.update import GANStep
from ganscale.training.warm_start import start_from_elsewhere

log = logging.getLogger("ganscale")


def train(
    experiment: Experiment,
    launcher: Launcher | None = None,
    observer: Observer | None = None,
    in_program: bool = False,
    new: bool = False,
) -> int:
    """Train until `train.steps`, resuming from the newest checkpoint; returns the exit code.

    The code is 0 if the steps are done or `ganscale stop` was asked, and 128 + the number of the
    signal that stopped the run. `launcher` is what this process's environment says, unless given.
    `observer` is told what happens, on rank 0. Log lines go to standard error, unless a program has
    given the logger `ganscale` handlers of its own. `in_program` says that the process goes on: its
    ranks then return together, and stay connected for another run. With `new` the run gets the
    first free number after its name.
    """
    trainer: Trainer | None = None
    launcher = launcher or Launcher.from_environment()
    if not log.handlers:
        set_up_logging(launcher.rank)
    try:
        trainer = Trainer(experiment, launcher, new)
        if trainer.is_finished():
            trainer.end(in_program)
            return 0
        trainer.resume()
        if observer is not None and trainer.ranks.is_main:
            trainer.loop.observer = observer
        with StopRequest(trainer.ranks, trainer.model.device, trainer.folder.path) as stop:
            trainer.loop.run(stop)
        trainer.finish(stop)
        if trainer.is_stopped_by_sweep(stop):
            stop.signal = 0  # as after `ganscale stop`: nothing is to start it again
        trainer.end(in_program)
    except BaseException as error:
        if trainer is not None:
            trainer.abandon()
        if isinstance(error, RuntimeError):
            _explain(error, None if trainer is None else trainer.loop.step)
        raise
    finally:
        if trainer is not None:
            trainer.folder.release()
    return 128 + stop.signal if stop.signal else 0


def _explain(error: RuntimeError, step: int | None) -> None:
    """Raise `GanscaleError` for an error of PyTorch's whose cause is known.

    `step` is the last one that was done; None before the first.
    """
    if "does not have a deterministic implementation" in str(error):
        raise GanscaleError(
            f"train.deterministic=true: {str(error).split(',')[0]}; set it to false, or do "
            "without that layer or augmentation",
            every_rank=True,
        ) from None
    if is_lost_contact(error):
        when = "before the first step" if step is None else f"after step {step:,}"
        raise GanscaleError(
            f"lost contact with another process {when} "
            f"({str(error).splitlines()[0]}). See that process's log for why it ended; started "
            "again, the run resumes from its last checkpoint (accelerate launch --max_restarts "
            "does so by itself).",
            temporary=True,
        ) from error


class Trainer:
    """One rank of a run: builds its parts, resumes it, and finishes it."""

    def __init__(self, experiment: Experiment, launcher: Launcher, new: bool = False):
        refuse_missing_trackers(experiment)
        self.ranks = Ranks.started_by(launcher)
        set_up_arithmetic(experiment.train)

        # Players
        self.model = GANModel(experiment, launcher)
        if new:  # the ranks know of each other from here on
            experiment = self._take_number(experiment, launcher)
        self.experiment = experiment
        self.folder = RunFolder.of(experiment)
        keep_freed_memory(self.model.device)
        engine = launcher.engine.describe(self.ranks.world_size)
        self.arithmetic = Arithmetic.of(
            self.model.device, self.ranks.world_size, engine, experiment.train
        )
        rows = self.ranks.rows(experiment.train.batch_size, experiment.train.accumulation)

        # Data
        packed = pack_own_data(experiment, self.ranks, counted)
        held_out = HeldOut.of(packed, self.model, self.ranks)
        self.batch_source = BatchSource(packed, self.ranks, rows, self.model.device)
        log.info("%s", self.batch_source.description)
        shares = self.batch_source.class_shares()
        if shares is not None:
            self.model.class_shares = shares
        self.evaluator = self._make_evaluator(packed)

        self.gan_step = GANStep(experiment, self.model, rows)
        self.loop = Loop(
            experiment,
            self.model,
            self.gan_step,
            self.ranks,
            self.batch_source,
            self.evaluator,
            held_out,
            self.folder,
            self.arithmetic,
        )

    def _take_number(self, experiment: Experiment, launcher: Launcher) -> Experiment:
        """Return the experiment under the name that rank 0 takes for all ranks."""
        take = take_next if launcher.attempt == "0" else last_taken
        taken = self.ranks.agree(lambda: take(experiment).name if self.ranks.is_main else None)[0]
        assert taken is not None
        log.info("this is the run %s: to resume it, write name=%s instead of --new", taken, taken)
        return experiment.model_copy(update={"name": taken})

    def _make_evaluator(self, experiment: Experiment) -> Evaluator | None:
        if experiment.evaluation.every is None:
            return None
        return Evaluator(
            experiment,
            *self.batch_source.whole_set(),
            self.model.device,
            self.ranks,
            self.folder.path,
        )

    def is_finished(self) -> bool:
        """Return whether nothing is left to do, as rank 0 judges it.

        Ranks that judged by themselves could differ, as their file systems do, or while the run's
        last processes are ending: some would leave, and the others wait for them.
        """
        finished = self.ranks.agree(
            lambda: self.ranks.is_main and self.folder.is_finished(self.experiment)
        )[0]
        if finished and self.ranks.is_main:
            self.folder.say_finished(self.experiment)
        return finished

    def resume(self) -> None:
        """Claim the run folder and resume from its newest sound checkpoint, if it has one."""
        newest: str | None = None
        if self.ranks.is_main:
            self.folder.claim(self.experiment)
            found = checkpoint.latest(self.folder.checkpoints)
            self.loop.prune()
            newest = found.name if found else None
        newest = broadcast_object(newest)
        wandb_id = None
        if newest is not None:
            path = self.folder.checkpoints / newest
            state = checkpoint.read_state(path)
            if state.data_fingerprint != self.batch_source.fingerprint:
                raise GanscaleError(
                    f"{path} was trained on other data than {self.experiment.data.path} holds now; "
                    f"{self._way_back(state.data_fingerprint)}",
                    every_rank=True,
                )
            if state.random_stream != STREAM_VERSION:
                raise GanscaleError(
                    f"{path} was trained with other random numbers than this version of ganscale "
                    "draws: give the run another name, or resume it with the version that wrote "
                    "it (it can still be sampled, evaluated and exported)",
                    every_rank=True,
                )
            self.arithmetic.warn_of_change(state.arithmetic)
            with checkpoint.explain_mismatch(path):
                self.model.restore(path)
            self.loop.start_at(state.step)
            wandb_id = state.wandb_id
            log.info("resuming from %s", path)
        elif self.experiment.init_from is not None:
            names = self.batch_source.class_names
            start_from_elsewhere(self.experiment, self.model, self.folder, names)
        if self.ranks.is_main:
            step = self.loop.step
            self.loop.recorder = Recorder(
                self.experiment, self.folder, step, wandb_id, self.batch_source.fingerprint
            )
        if newest is None and self.experiment.init_from is not None:
            # From here on the run needs its source no more, which may change or disappear.
            self.loop.save({})

    def _way_back(self, fingerprint: str) -> str:
        """Return what a user can do whose run began with other data."""
        copy = Copies(self.experiment.data).find_fingerprint(fingerprint)
        if copy is None:
            return "put the old dataset back or give the run another name"
        return f"data.path={copy} goes on with its images; otherwise give the run another name"

    def finish(self, stop: StopRequest) -> None:
        """Write the report, close the trackers, and note how the run ends; rank 0 does."""
        if self.loop.recorder is not None:
            is_resumed = stop.is_resumed_by_slurm
            self.loop.recorder.finish(self.loop.step, self.evaluator, is_resumed)
            if self.loop.step < self.experiment.train.steps:
                self.folder.note_end("waiting" if is_resumed else "stopped")

    def is_stopped_by_sweep(self, stop: StopRequest) -> bool:
        """Return whether W&B has ended this trial of a sweep, by its agent or by its client.

        Else the signal is a preemption's, and the trial will go on.
        """
        if trial_id() is None or stop.signal not in (signal.SIGTERM, signal.SIGINT):
            return False
        return self.ranks.agree(lambda: self.ranks.is_main and is_trial_stopped())[0]

    def abandon(self) -> None:
        """Close the trackers after an error, which is worth more than what closing them says."""
        if self.loop.recorder is not None:
            with suppress(Exception):
                self.loop.recorder.abandon()

    def end(self, in_program: bool = False) -> None:
        """Leave the process group; in a program that goes on, wait for all ranks instead."""
        if in_program and self.ranks.world_size > 1:
            self.ranks.gather(None)
        else:
            self.model.generator.accelerator.end_training()
