"""A run from its experiment to its last checkpoint: the machinery around `step.py`."""

import logging
import math
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, NoReturn

import torch
from torch import Tensor

from ganscale import randomness
from ganscale.config import Experiment
from ganscale.data.reading.batch_source import BatchSource
from ganscale.data.reading.readers import Batch
from ganscale.engines.arithmetic import Arithmetic, set_up_arithmetic
from ganscale.engines.distributed import Ranks, gather_objects
from ganscale.errors import GanscaleError
from ganscale.monitoring.progress import PhaseTimer, TrainingProgress, set_up_logging
from ganscale.runs import checkpoint
from ganscale.runs.run_folder import RunFolder
from ganscale.training.balance import HeldOut
from ganscale.training.divergence import refuse_differing_ranks
from ganscale.training.model import Game
from ganscale.training.preemption import StopRequest
from ganscale.training.recorder import Recorder
from ganscale.training.update import GANStep, Statistics

if TYPE_CHECKING:
    from ganscale.evaluation.evaluator import Evaluator

LEAST_LOSS_SCALE = 1.0  # it begins at 65,536 and is halved at each step that overflows

log = logging.getLogger("ganscale")


def train(experiment: Experiment) -> int:
    """Train until `train.steps`, going on from the newest checkpoint; returns the exit code.

    0 when the steps are done or `ganscale stop` was asked, 128 + the number of a signal that
    stopped the run.
    """
    trainer: Trainer | None = None
    try:
        trainer = Trainer(experiment)
        if trainer.is_finished():
            trainer.accelerator.end_training()
            return 0
        trainer.resume()
        with StopRequest(trainer.accelerator, trainer.folder.path) as stop:
            trainer.run(stop)
        trainer.finish()
    except RuntimeError as error:
        if "does not have a deterministic implementation" in str(error):
            raise GanscaleError(
                f"train.deterministic=true: {str(error).split(',')[0]}; set it to false, or do "
                "without that layer or augmentation",
                every_rank=True,
            ) from None
        if not _is_loss_of_contact(error):
            raise
        when = "before the first step" if trainer is None else f"after step {trainer.step:,}"
        raise GanscaleError(
            f"lost contact with another process {when} "
            f"({str(error).splitlines()[0]}). See that process's log for why it ended; started "
            "again, the run goes on from its last checkpoint (accelerate launch --max_restarts "
            "does so by itself).",
            temporary=True,
        ) from error
    finally:
        if trainer is not None:
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
        # The rank comes from the launcher: there is no process group until the players exist.
        set_up_logging(int(os.environ.get("RANK", 0)))
        set_up_arithmetic(experiment.train)

        # Players
        self.game = Game(experiment)
        self.accelerator = self.game.generator.accelerator
        self.device = self.game.generator.device
        self.is_main = bool(self.accelerator.is_main_process)
        local_world_size = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
        self.ranks = Ranks(
            self.accelerator.process_index,
            self.accelerator.num_processes,
            self.accelerator.local_process_index,
            local_world_size,
            # Slurm's script sets it as torchrun does; other launchers number ranks node by node.
            int(os.environ.get("GROUP_RANK", self.accelerator.process_index // local_world_size)),
            self.accelerator.wait_for_everyone,
            gather_objects,
        )
        self.arithmetic = Arithmetic.of(
            self.device, self.ranks.world_size, self.game.engine, experiment.train
        )
        rows = self.ranks.rows(experiment.train.batch_size, experiment.train.accumulation)
        self.gan_step = GANStep(experiment, self.game, rows)
        self.held_out = HeldOut.of(experiment, self.game, self.ranks)

        # Data
        self.batch_source = BatchSource(experiment, self.ranks, rows, self.device)
        log.info("%s", self.batch_source.description)
        shares = self.batch_source.class_shares()
        if shares is not None:
            self.game.class_shares = shares
        self.evaluator = self._make_evaluator()

        # Where the run is
        self.step = 0
        self.logged_step = 0
        self.penalties = Statistics()
        """Those applied since the last log: a lazy one is seldom due in the step that is logged."""
        self.recorder: Recorder | None = None
        self.timer = PhaseTimer()

    # -- before the first step ---------------------------------------------------------------

    def is_finished(self) -> bool:
        """Return whether nothing is left to do, as rank 0 judges it.

        Ranks that judged by themselves could differ, as their file systems do, or while the run's
        last processes are ending: some would leave, and the others wait for them.
        """
        finished = self.ranks.agree(
            lambda: self.is_main and self.folder.is_finished(self.experiment)
        )[0]
        if finished and self.is_main:
            self.folder.say_finished(self.experiment)
        return finished

    def resume(self) -> None:
        """Claim the run folder and take up its newest sound checkpoint, if it has one."""
        found: list[str | None] = [None]
        if self.is_main:
            self.folder.claim(self.experiment)
            newest = checkpoint.latest(self.folder.checkpoints)
            self._prune()
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
            self.arithmetic.warn_of_change(state.arithmetic)
            with checkpoint.explain_misfit(path):
                self.game.restore(path)
            self.step = self.logged_step = state.step
            wandb_id = state.wandb_id
            log.info("going on from %s", path)
        if self.is_main:
            self.recorder = Recorder(self.experiment, self.folder, self.step, wandb_id)

    def _make_evaluator(self) -> "Evaluator | None":
        if self.experiment.evaluation.every is None:
            return None
        from ganscale.evaluation.evaluator import Evaluator  # torchmetrics takes seconds to import

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
                batches = next(real)
                self.timer.lap("data")
                measured = self._is_due(experiment.monitoring.log_every, self.step + 1)
                self._seed_networks()
                self.game.rates.apply()
                statistics = self.gan_step(self.step, batches, measured)
                self.game.rates.advance()
                self.penalties.take(statistics, "penalty/")
                self.step += 1
                if measured:
                    self._log(progress, statistics)
                self.timer.lap("step")
                progress.advance(self.step)
                asked = stop.agreed(self.step)
                self._phases_between_steps(save=any(asked))
                self.timer.lap("between steps")
                if asked.stop:
                    log.info(
                        "stopped by %s after step %s: the same command resumes there",
                        stop.reason,
                        f"{self.step:,}",
                    )
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
        """Close the books."""
        if self.recorder is not None:
            self.recorder.finish(self.step, self.evaluator)
        self.accelerator.end_training()

    def _real_batches(self) -> Iterator[list[Batch]]:
        """For each step still to do, a batch for each discriminator update."""
        updates = self.experiment.discriminator.steps
        first, last = self.step * updates, self.experiment.train.steps * updates
        stream = self.batch_source.batches(first, last)
        while True:
            yield [next(stream) for _ in range(updates)]

    def _phases_between_steps(self, save: bool) -> None:
        """Evaluation, pictures and checkpoint, where the step just done calls for them."""
        experiment = self.experiment
        metrics: dict[str, float] = {}
        if self._is_due(experiment.train.compare_every, self.step):
            refuse_differing_ranks(self.game, self.step)
        # Not at the last step of all: a run that is prolonged must not differ for having ended.
        if self.held_out is not None and self.step % self.held_out.every == 0:
            self._rebalance(self.held_out.accuracy(self.step))
        if self.evaluator is not None and self._is_due(experiment.evaluation.every, self.step):
            scores = self.evaluator.scores(self.game.sampled_network())
            metrics = scores.values
            if self.recorder is not None:
                self.recorder.scores(self.step, scores)
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
        means = statistics.means() | self.penalties.means()
        self.penalties = Statistics()
        values = self.accelerator.reduce(torch.stack(list(means.values())), "mean").tolist()
        numbers: dict[str, float] = dict(zip(means, values, strict=True))
        self.timer.lap("step")
        seconds = self.timer.read()
        # Phases between steps are no part of the speed of training.
        busy = seconds.get("data", 0.0) + seconds.get("step", 0.0)
        steps = self.step - self.logged_step
        self.logged_step = self.step
        numbers |= self._loss_scales()
        not_finite = [name for name, value in numbers.items() if not math.isfinite(value)]
        self._refuse_divergence(not_finite)
        if self.game.augmentation.is_adaptive:
            numbers["augment/probability"] = self.game.augmentation.probability
        for name, rate in self.game.rates.rates().items():
            numbers[f"learning_rate/{name}"] = rate
        numbers["images/s"] = steps * self.experiment.train.batch_size / busy
        numbers["seconds/data"] = seconds.get("data", 0.0) / steps
        numbers["seconds/step"] = seconds.get("step", 0.0) / steps
        if self.device.type == "cuda":
            numbers["memory/GiB"] = torch.cuda.max_memory_allocated() / 2**30
        if self.recorder is not None:
            # JSON has no word for infinity.
            finite = {name: value for name, value in numbers.items() if name not in not_finite}
            self.recorder.numbers(self.step, finite)
        progress.numbers(self.step, numbers)

    def _loss_scales(self) -> dict[str, float]:
        """What each player's loss is multiplied by, under fp16."""
        players = {"generator": self.game.generator, "discriminator": self.game.discriminator}
        scales = {f"loss_scale/{name}": player.loss_scale for name, player in players.items()}
        return {name: scale for name, scale in scales.items() if scale is not None}

    def _rebalance(self, accuracy: float) -> None:
        """Let the learning rates answer to how the discriminator does on held-out images."""
        self.game.rates.rebalance(accuracy)
        if self.recorder is not None:
            shares = self.game.rates.shares.items()
            numbers = {f"balance/{name}": share for name, share in shares}
            self.recorder.numbers(self.step, {"balance/accuracy": accuracy, **numbers})

    def _refuse_divergence(self, not_finite: list[str]) -> None:
        """Stop where something is no number any more, before a checkpoint keeps it.

        Under fp16 a step that overflows is left out and its loss scale halved, which is ordinary:
        there only a scale that has been halved away means that no step succeeds any more.
        """
        scales = self._loss_scales()
        if scales:
            gone = [f"{n} has fallen to {s:.3g}" for n, s in scales.items() if s < LEAST_LOSS_SCALE]
            problem = f"{gone[0]} (every step overflows)" if gone else ""
        else:
            problem = f"{not_finite[0]} is not a finite number" if not_finite else ""
        if problem:
            self._end_as_diverged(problem)

    def _refuse_broken_weights(self, weights: dict[str, dict[str, Tensor]]) -> None:
        """Stop before a checkpoint keeps weights that are not finite.

        Under fp16 the running statistics of a step that overflowed may be infinite, which
        `_refuse_divergence` judges by the loss scale; a parameter never may, since the optimizer
        leaves out such a step.
        """
        networks = (self.game.generator.raw, self.game.discriminator.raw)
        buffers = {name for network in networks for name, _ in network.named_buffers()}
        excused: set[str] = buffers if self._loss_scales() else set()
        for part, tensors in weights.items():
            for name, tensor in tensors.items():
                if name not in excused and not torch.isfinite(tensor).all():
                    self._end_as_diverged(f"{part} {name} is not a finite number")

    def _end_as_diverged(self, problem: str) -> NoReturn:
        kept = checkpoint.listed(self.folder.checkpoints)
        raise GanscaleError(
            f"{problem} at step {self.step:,}: the run has diverged. The last checkpoint is "
            f"{kept[-1].name if kept else 'none'}; start again with a lower learning rate, a "
            "penalty, or train.precision=fp32.",
            every_rank=True,
        )

    def _picture(self) -> None:
        network = self.game.sampled_network()
        if self.recorder is not None:
            self.recorder.picture(self.step, network, self.device)

    def _prune(self) -> None:
        experiment = self.experiment
        checkpoint.prune(self.folder.checkpoints, experiment.checkpoint.keep, experiment.evaluation)

    def _save(self, metrics: dict[str, float]) -> None:
        """Write a checkpoint of this step; all ranks give their part, rank 0 writes."""
        weights, training = self.game.weights(), self.game.training_state()
        self._refuse_broken_weights(weights)
        if not self.is_main:
            return
        state = checkpoint.State(
            step=self.step,
            images=self.step * self.experiment.train.batch_size,
            data_fingerprint=self.batch_source.fingerprint,
            arithmetic=self.arithmetic,
            wandb_id=self.recorder.wandb_id if self.recorder else None,
            metrics=metrics,
        )
        path = checkpoint.write(self.folder.checkpoints, state, weights, training)
        self._prune()
        log.info("checkpoint %s", path)
