"""A run from its experiment to its last checkpoint: the machinery around `step.py`."""

import logging
import math
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ganscale import randomness
from ganscale.config import Experiment
from ganscale.data.loader import Ranks
from ganscale.data.source import BatchSource
from ganscale.errors import GanscaleError
from ganscale.evaluation.samples import images_of, pixels
from ganscale.experiment import to_yaml
from ganscale.monitoring.environment import environment
from ganscale.monitoring.pictures import save_grid
from ganscale.monitoring.progress import PhaseTimer, TrainingProgress, set_up_logging
from ganscale.monitoring.report import write_report
from ganscale.monitoring.trackers import Trackers
from ganscale.training import checkpoint
from ganscale.training.divergence import refuse_differing_ranks
from ganscale.training.game import Game
from ganscale.training.preemption import StopRequest
from ganscale.training.run_folder import RunFolder
from ganscale.training.step import GANStep, Statistics

if TYPE_CHECKING:
    from ganscale.evaluation.evaluate import Evaluator

log = logging.getLogger("ganscale")


def train(experiment: Experiment) -> int:
    """Train until `train.steps`, going on from the newest checkpoint; returns the exit code.

    0 when the steps are done or `ganscale stop` was asked, 128 + the number of a signal that
    stopped the run.
    """
    trainer = Trainer(experiment)
    try:
        trainer.resume()
        with StopRequest(trainer.accelerator, trainer.folder.path) as stop:
            trainer.run(stop)
        trainer.finish()
    except RuntimeError as error:
        if not _is_loss_of_contact(error):
            raise
        raise GanscaleError(
            f"lost contact with another process after step {trainer.step:,} "
            f"({str(error).splitlines()[0]}). See that process's log for why it ended; started "
            "again, the run goes on from its last checkpoint (accelerate launch --max_restarts "
            "does so by itself).",
            temporary=True,
        ) from error
    finally:
        trainer.folder.release()
    return 128 + stop.signal if stop.signal else 0


def _is_loss_of_contact(error: RuntimeError) -> bool:
    """Whether a reduction failed: NCCL has a type for it, Gloo only a text."""
    return isinstance(error, torch.distributed.DistError) or "/gloo/" in str(error)


class Trainer:
    """One rank of a run."""

    def __init__(self, experiment: Experiment):
        self.experiment = experiment
        self.folder = RunFolder.of(experiment)
        torch.backends.cuda.matmul.allow_tf32 = experiment.train.tf32
        torch.backends.cudnn.allow_tf32 = experiment.train.tf32

        # Players
        self.game = Game(experiment)
        self.accelerator = self.game.generator.accelerator
        self.device = self.game.generator.device
        self.is_main = bool(self.accelerator.is_main_process)
        set_up_logging(self.accelerator.process_index)
        self.ranks = Ranks(
            self.accelerator.process_index,
            self.accelerator.num_processes,
            self.accelerator.local_process_index,
            int(os.environ.get("LOCAL_WORLD_SIZE", 1)),
            self.accelerator.wait_for_everyone,
        )
        rows = self.ranks.rows(experiment.train.batch_size, experiment.train.accumulation)
        self.gan_step = GANStep(
            experiment, self.game.generator, self.game.discriminator, self.game.average, rows
        )

        # Data
        self.batch_source = BatchSource(experiment, self.ranks, rows, self.device)
        log.info("%s", self.batch_source.description)
        self.evaluator = self._make_evaluator()

        # Where the run is
        self.step = 0
        self.logged_step = 0
        self.trackers: Trackers | None = None
        self.timer = PhaseTimer()

    # -- before the first step ---------------------------------------------------------------

    def resume(self) -> None:
        """Claim the run folder and take up its newest sound checkpoint, if it has one."""
        found: list[str | None] = [None]
        if self.is_main:
            self.folder.claim(self.experiment)
            newest = checkpoint.latest(self.folder.checkpoints)
            checkpoint.prune(self.folder.checkpoints, self.experiment.checkpoint.keep)
            found = [newest.name if newest else None]
        if self.ranks.world_size > 1:
            torch.distributed.broadcast_object_list(found)
        wandb_id = None
        if found[0] is not None:
            path = self.folder.checkpoints / found[0]
            state = checkpoint.read_state(path)
            if state.data_fingerprint != self.batch_source.fingerprint:
                raise GanscaleError(
                    f"{path} was trained on other data than {self.experiment.data.path} holds now; "
                    "put the old set back or give the run another name",
                    every_rank=True,
                )
            self.game.restore(path)
            self.step = self.logged_step = state.step
            wandb_id = state.wandb_id
            log.info("going on from %s", path)
        if self.is_main:
            self.trackers = Trackers(self.experiment, self.folder.path, self.step, wandb_id)

    def _make_evaluator(self) -> "Evaluator | None":
        if self.experiment.evaluation.every is None:
            return None
        from ganscale.evaluation.evaluate import Evaluator  # torchmetrics takes seconds to import

        return Evaluator(
            self.experiment,
            *self.batch_source.whole_set(),
            self.device,
            self.ranks,
            self.folder.path,
        )

    # -- the loop ----------------------------------------------------------------------------

    def run(self, stop: StopRequest) -> None:
        """Train until the last step or until all ranks agree to stop."""
        experiment, steps = self.experiment, self.experiment.train.steps
        log.info(
            "%s: %s of %s steps done · %s, %d process%s on %s · %s · batch %d",
            experiment.name,
            f"{self.step:,}",
            f"{steps:,}",
            self.game.engine,
            self.ranks.world_size,
            "es" if self.ranks.world_size > 1 else "",
            self.device.type,
            experiment.train.precision,
            experiment.train.batch_size,
        )
        real = self._real_batches()
        with TrainingProgress(self.step, steps, self.is_main) as progress:
            if self.step == 0:
                self._picture()
            self.timer.restart()
            while self.step < steps:
                images = next(real)
                self.timer.lap("data")
                measured = self._is_due(experiment.monitoring.log_every, self.step + 1)
                self._seed_networks()
                statistics = self.gan_step(self.step, images, measured)
                self.step += 1
                if measured:
                    self._log(progress, statistics)
                self.timer.lap("step")
                progress.advance(self.step)
                asked = stop.agreed(self.step)
                self._phases_between_steps(save=any(asked))
                self.timer.lap("between steps")
                if asked.stop:
                    by = f"signal {stop.signal}" if stop.signal else "ganscale stop"
                    log.info("stopped by %s after step %s", by, f"{self.step:,}")
                    return

    def _seed_networks(self) -> None:
        """Dropout and the like draw from torch's own generators."""
        purpose = f"network/rank{self.ranks.rank}"
        seed = randomness.torch_seed(self.experiment.seed, purpose, self.step)
        # torch.manual_seed would format a stack trace for each kind of device that is not there.
        torch.default_generator.manual_seed(seed)
        if self.device.type == "cuda":
            torch.cuda.manual_seed(seed)

    def finish(self) -> None:
        """Close the trackers and write the report."""
        if self.trackers is not None:
            self.trackers.finish()
            write_report(
                self.folder.path, self.experiment.name, to_yaml(self.experiment), environment()
            )
            log.info("samples %s · report %s", self.folder.samples, self.folder.report)
        self.accelerator.end_training()

    def _real_batches(self) -> Iterator[list[Tensor]]:
        """For each step still to do, a batch of images for each discriminator update."""
        updates = self.experiment.discriminator.steps
        first, last = self.step * updates, self.experiment.train.steps * updates
        stream = self.batch_source.batches(first, last)
        while True:
            yield [next(stream).images for _ in range(updates)]

    def _phases_between_steps(self, save: bool) -> None:
        """Evaluation, pictures and checkpoint, where the step just done calls for them."""
        experiment = self.experiment
        metrics: dict[str, float] = {}
        if self._is_due(experiment.train.compare_every, self.step):
            refuse_differing_ranks(self.game, self.step)
        if self.evaluator is not None and self._is_due(experiment.evaluation.every, self.step):
            metrics = {"fid": self.evaluator.fid(self.game.sampled_network())}
            log.info("step %s · FID %.2f", f"{self.step:,}", metrics["fid"])
            self._track(metrics)
        if self._is_due(experiment.monitoring.pictures_every, self.step):
            self._picture()
        if save or metrics or self._is_due(experiment.checkpoint.every, self.step):
            self._save(metrics)

    def _is_due(self, every: int | None, step: int) -> bool:
        """Whether `step`, counted from 1, ends an interval; the last step ends all of them."""
        return every is not None and (step % every == 0 or step == self.experiment.train.steps)

    # -- what is written ---------------------------------------------------------------------

    def _log(self, progress: TrainingProgress, statistics: Statistics) -> None:
        """Average the step's numbers over ranks, show and track them; stop on a NaN."""
        means = statistics.means()
        values = self.accelerator.reduce(torch.stack(list(means.values())), "mean").tolist()
        numbers: dict[str, float] = dict(zip(means, values, strict=True))
        self.timer.lap("step")
        seconds = self.timer.read()
        # Phases between steps are no part of the speed of training.
        busy = seconds.get("data", 0.0) + seconds.get("step", 0.0)
        images = (self.step - self.logged_step) * self.experiment.train.batch_size
        self.logged_step = self.step
        self._refuse_divergence([n for n, value in numbers.items() if not math.isfinite(value)])
        numbers["images/s"] = images / busy
        numbers["seconds/data"] = seconds.get("data", 0.0)
        numbers["seconds/step"] = seconds.get("step", 0.0)
        if self.device.type == "cuda":
            numbers["memory/GiB"] = torch.cuda.max_memory_allocated() / 2**30
        self._track(numbers)
        progress.numbers(self.step, numbers)

    def _refuse_divergence(self, not_finite: list[str]) -> None:
        """Stop where something is no number any more, before a checkpoint keeps it."""
        if not_finite:
            kept = checkpoint.listed(self.folder.checkpoints)
            raise GanscaleError(
                f"{not_finite[0]} is not a finite number at step {self.step:,}: the run has "
                f"diverged. The last checkpoint is {kept[-1].name if kept else 'none'}; start "
                "again with a lower learning rate, a penalty, or train.precision=fp32.",
                every_rank=True,
            )

    def _track(self, numbers: dict[str, float]) -> None:
        if self.trackers is not None:
            self.trackers.log(self.step, self.step * self.experiment.train.batch_size, numbers)

    def _picture(self) -> None:
        """A grid of the average's samples, always from the same noise."""
        network = self.game.sampled_network()
        if self.trackers is None:
            return
        rows = range(self.experiment.monitoring.pictures)
        latents = randomness.latents(
            self.experiment.latent, self.experiment.seed, "pictures", 0, rows
        )
        path = self.folder.samples / f"step-{self.step:08d}.png"
        save_grid(pixels(images_of(network, latents, self.device)), path)
        self.trackers.picture(self.step, "samples", path)

    def _save(self, metrics: dict[str, float]) -> None:
        """Write a checkpoint of this step; all ranks give their part, rank 0 writes."""
        weights, training = self.game.weights(), self.game.training_state()
        self._refuse_divergence(
            [
                f"{part} {name}"
                for part, tensors in weights.items()
                for name, tensor in tensors.items()
                if not torch.isfinite(tensor).all()
            ]
        )
        if not self.is_main:
            return
        state = checkpoint.State(
            step=self.step,
            images=self.step * self.experiment.train.batch_size,
            data_fingerprint=self.batch_source.fingerprint,
            wandb_id=self.trackers.wandb_id if self.trackers else None,
            metrics=metrics,
        )
        path = checkpoint.write(self.folder.checkpoints, state, weights, training)
        checkpoint.prune(self.folder.checkpoints, self.experiment.checkpoint.keep)
        log.info("checkpoint %s", path)
