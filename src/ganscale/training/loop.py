"""The loop: step after step, and what is due between two of them."""

import logging
import math
import time
from collections.abc import Iterator

import torch

from ganscale import devices, randomness
from ganscale.config import Experiment
from ganscale.data.reading.batch_source import BatchSource
from ganscale.data.reading.readers import Batch
from ganscale.engines.arithmetic import Arithmetic
from ganscale.engines.distributed import Ranks, average_over_ranks
from ganscale.evaluation.evaluator import Evaluator
from ganscale.monitoring.progress import PhaseTimer, TrainingProgress
from ganscale.monitoring.time_left import TimeLeft
from ganscale.runs import checkpoint
from ganscale.runs.run_folder import RunFolder
from ganscale.training.balance import HeldOut
from ganscale.training.divergence import Divergence, refuse_differing_ranks
from ganscale.training.judged import judge_samples
from ganscale.training.model import GANModel
from ganscale.training.observer import Observer
from ganscale.training.preemption import StopRequest
from ganscale.training.rates import scheduled_values
from ganscale.training.recorder import Recorder
from ganscale.training.statistics import Statistics
from ganscale.training.update import GANStep
from ganscale.training.utilization import Utilization

log = logging.getLogger("ganscale")


class Loop:
    """Runs the steps of a run on this rank, and logs, scores, draws and saves between them."""

    def __init__(
        self,
        experiment: Experiment,
        model: GANModel,
        gan_step: GANStep,
        ranks: Ranks,
        batch_source: BatchSource,
        evaluator: Evaluator | None,
        held_out: HeldOut | None,
        folder: RunFolder,
        arithmetic: Arithmetic,
    ):
        self._experiment = experiment
        self._model = model
        self._gan_step = gan_step
        self._ranks = ranks
        self._batch_source = batch_source
        self._evaluator = evaluator
        self._held_out = held_out
        self._folder = folder
        self._arithmetic = arithmetic
        self._divergence = Divergence(model, folder.checkpoints)
        self._utilization = Utilization(experiment, model.device, ranks.world_size)
        self._timer = PhaseTimer()
        self._time_left = TimeLeft(experiment.train.steps)
        self._penalties = Statistics()  # since the last log: a lazy one is seldom due at that step
        self._logged_step = 0
        self.step = 0
        """Steps that are done."""
        self.recorder: Recorder | None = None
        """Writes what the run writes; rank 0 has one."""
        self.observer = Observer()
        """Is told what happens; rank 0 may have one that listens."""

    def start_at(self, step: int) -> None:
        """Resume after so many steps."""
        self.step = self._logged_step = step

    def run(self, stop: StopRequest) -> None:
        """Train until the last step, or until all ranks agree to stop."""
        experiment, steps = self._experiment, self._experiment.train.steps
        self._announce()
        real = self._real_batches()
        self.observer.begin(self.step, self._model.sampled_network)
        with TrainingProgress(self.step, steps, self._ranks.is_main) as progress:
            if self.step == 0:
                self._draw_picture()
            self._timer.restart()
            compiling = experiment.train.compile
            while self.step < steps:
                batches = next(real)
                self._timer.lap("data")
                measured = self._is_due(experiment.monitoring.log_every, self.step + 1)
                self._seed_networks()
                self._model.rates.apply(self.step)
                started = time.perf_counter()
                statistics = self._gan_step(self.step, batches, measured)
                self._penalties.take(statistics, "penalty_")
                self.step += 1
                numbers = self._log(progress, statistics) if measured else None
                if compiling:
                    self._leave_out_compiling(time.perf_counter() - started)
                    compiling = False
                self._timer.lap("step")
                progress.advance(self.step)
                self.observer.step(self.step)
                if numbers is not None:
                    self.observer.log(self.step, numbers)
                metrics = self._look()
                asked = stop.agreed(self.step, self.observer.wants_stop)
                if any(asked) or metrics or self._is_due(experiment.checkpoint.every, self.step):
                    self.save(metrics)
                self._timer.lap("between steps")
                if asked.stop:
                    log.info(
                        "stopped by %s after step %s: training %s again resumes there",
                        stop.reason,
                        f"{self.step:,}",
                        experiment.name,
                    )
                    return

    def _announce(self) -> None:
        train, world_size = self._experiment.train, self._ranks.world_size
        log.info(
            "%s: %s of %s steps done · %s, %d process%s on %s · %s · batch %d",
            self._experiment.name,
            f"{self.step:,}",
            f"{train.steps:,}",
            self._arithmetic.engine,
            world_size,
            "es" if world_size > 1 else "",
            self._model.device.type,
            train.precision,
            train.batch_size,
        )

    def _leave_out_compiling(self, seconds: float) -> None:
        """Log how long the first step took, and do not count it as the speed of training."""
        log.info("compiled both losses in %.1f s", seconds)
        self._timer.lap("step")
        self._timer.read()
        self._logged_step = self.step

    def _real_batches(self) -> Iterator[list[Batch]]:
        """Yield, for each step still to do, a batch for each discriminator update."""
        updates = self._experiment.discriminator.steps
        first, last = self.step * updates, self._experiment.train.steps * updates
        stream = self._batch_source.batches(first, last)
        while True:
            yield [next(stream) for _ in range(updates)]

    def _seed_networks(self) -> None:
        """Seed torch's own generators, which dropout and the like draw from."""
        purpose = f"network/rank{self._ranks.rank}"
        seed = randomness.torch_seed(self._experiment.seed, purpose, self.step)
        devices.seed_generator(self._model.device, seed)

    # -- between two steps ---------------------------------------------------------------------

    def _is_due(self, every: int | None, step: int) -> bool:
        """Return whether `step`, counted from 1, ends an interval; the last step ends them all."""
        return every is not None and (step % every == 0 or step == self._experiment.train.steps)

    def _look(self) -> dict[str, float]:
        """Compare ranks, balance, evaluate and draw, if the step just done calls for it.

        Returns the scores.
        """
        experiment = self._experiment
        metrics: dict[str, float] = {}
        if self._is_due(experiment.train.compare_every, self.step):
            refuse_differing_ranks(self._model, self.step)
        # Not at the last step as such: prolonging a run must not change it.
        if self._held_out is not None and self.step % self._held_out.every == 0:
            self._rebalance(self._held_out)
        if self._evaluator is not None and self._is_due(experiment.evaluation.every, self.step):
            network = self._model.sampled_network()
            scores = self._evaluator.scores(network)
            metrics = scores.values
            judged = judge_samples(experiment, self._model, network, self._batch_source.class_names)
            if self.recorder is not None:
                self.recorder.scores(self.step, scores)
                self.recorder.judged_samples(self.step, judged)
            self.observer.evaluation(self.step, scores)
        if self._is_due(experiment.monitoring.pictures_every, self.step):
            self._draw_picture()
        return metrics

    def _rebalance(self, held_out: HeldOut) -> None:
        """Let the learning rates follow how the discriminator does on held-out images."""
        accuracy = held_out.accuracy(self.step)
        self._model.rates.rebalance(accuracy)
        if self.recorder is not None:
            shares = self._model.rates.shares.items()
            numbers = {f"balance_{name}": share for name, share in shares}
            self.recorder.numbers(self.step, {"balance_accuracy": accuracy, **numbers})

    def _draw_picture(self) -> None:
        network = self._model.sampled_network()
        if self.recorder is not None:
            path = self.recorder.picture(self.step, network, self._model.device)
            self.observer.picture(self.step, path)

    def save(self, metrics: dict[str, float]) -> None:
        """Write a checkpoint of this step: all ranks contribute their part, rank 0 writes."""
        weights, training = self._model.weights(), self._model.training_state()
        self._divergence.refuse_weights(self.step, weights)
        if not self._ranks.is_main:
            return
        state = checkpoint.State(
            step=self.step,
            images=self.step * self._experiment.train.batch_size,
            data_fingerprint=self._batch_source.fingerprint,
            arithmetic=self._arithmetic,
            random_stream=randomness.STREAM_VERSION,
            wandb_id=self.recorder.wandb_id if self.recorder else None,
            class_names=self._batch_source.class_names,
            metrics=metrics,
        )
        path = checkpoint.write(self._folder.checkpoints, state, weights, training)
        self.prune()
        log.info("checkpoint %s", path)
        if self.recorder is not None:
            self.recorder.checkpoint(self.step, path, metrics)
        self.observer.checkpoint(self.step, path)

    def prune(self) -> None:
        """Remove the checkpoints that the experiment does not ask to keep."""
        experiment = self._experiment
        self._folder.prune_checkpoints(experiment.checkpoint, experiment.evaluation)

    # -- what is logged ------------------------------------------------------------------------

    def _log(self, progress: TrainingProgress, statistics: Statistics) -> dict[str, float]:
        """Average the step's numbers over ranks, show and track them; stop on a NaN.

        Returns those that are finite.
        """
        means = statistics.means() | self._penalties.means()
        self._penalties = Statistics()
        values = average_over_ranks(torch.stack(list(means.values()))).tolist()
        numbers: dict[str, float] = dict(zip(means, values, strict=True))
        self._timer.lap("step")
        numbers |= self._divergence.loss_scales()
        not_finite = [name for name, value in numbers.items() if not math.isfinite(value)]
        self._divergence.refuse_numbers(self.step, not_finite)
        if self._model.augmentation.is_adaptive:
            numbers["augment_probability"] = self._model.augmentation.probability
        for name, rate in self._model.rates.rates().items():
            numbers[f"learning_rate_{name}"] = rate
        numbers |= scheduled_values(self._experiment, self.step - 1)
        numbers |= self._speed()
        # JSON has no word for infinity.
        finite = {name: value for name, value in numbers.items() if name not in not_finite}
        if self.recorder is not None:
            self.recorder.numbers(self.step, finite)
        progress.numbers(self.step, numbers, self._time_left.after(self.step))
        return finite

    def _speed(self) -> dict[str, float]:
        """Return images a second and seconds a step since the last log; memory and MFU on a GPU."""
        seconds = self._timer.read()
        steps = self.step - self._logged_step
        self._logged_step = self.step
        # What happens between steps is no part of the speed of training.
        data, step = seconds.get("data", 0.0), seconds.get("step", 0.0)
        self._time_left.take(steps, data + step, seconds.get("between steps", 0.0))
        numbers = {
            "images_per_second": steps * self._experiment.train.batch_size / (data + step),
            "seconds_data": data / steps,
            "seconds_step": step / steps,
        }
        device = self._model.device
        if device.type != "cpu":
            if (peak := devices.peak_memory(device)) is not None:
                numbers["memory_gib"] = peak / 2**30
            # Counting takes a second or so, once: not worth it where a run takes minutes.
            if self._ranks.is_main and (mfu := self._utilization.of(numbers["images_per_second"])):
                numbers["mfu"] = mfu
            self._timer.restart()
        return numbers
