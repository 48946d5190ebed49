"""One step of training: how the losses of `gan/game.py` become new weights.

The discriminator is updated `discriminator.steps` times, each time on new real images and new
latents, then the generator once, then the moving average of its weights. Each update is one loss
and one backward pass for each micro-batch, and one optimizer step.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from torch import Tensor

from ganscale import randomness
from ganscale.config import Experiment, PenaltyOptions
from ganscale.data.reading.readers import Batch
from ganscale.engines.player import Player
from ganscale.gan import game
from ganscale.gan.game import Measured, Samples
from ganscale.gan.losses import build_loss
from ganscale.gan.objective import Objective, SharedPenalty, WeightedPenalty
from ganscale.gan.penalties import Penalty, PointPenalty, build_penalty
from ganscale.gan.schedules import value_at
from ganscale.profiling.marks import BACKWARD, EMA, FORWARD, OPTIMIZERS, mark
from ganscale.training.model import GANModel
from ganscale.training.shared_fakes import SharedFakes
from ganscale.training.statistics import Statistics

REAL_SCALE = 127.5  # pixels 0 … 255 are -1 … 1 to the networks


class MicroBatch(NamedTuple):
    """A part of this rank's part of a batch."""

    update: int
    """Number of the update that it is for."""
    rows: range
    """Which rows of the global batch these are."""
    samples: Samples
    last: bool
    """True if gradients are reduced after this one."""


@dataclass(frozen=True)
class Phase:
    """One player's turn in a step."""

    name: str
    player: Player
    updates: int
    loss: Callable[[MicroBatch], tuple[Tensor, Measured]]
    opponent: Player | None = None
    """The player whose parameters are frozen meanwhile."""


class GANStep:
    """One step of the run; `rows` is this rank's part of the global batch."""

    def __init__(self, experiment: Experiment, model: GANModel, rows: range):
        self.rows = rows
        self._experiment = experiment
        self._accumulation = experiment.train.accumulation
        self._model = model
        objective = experiment.objective
        self._loss = build_loss(objective.loss, objective.label_smoothing)
        self._penalties = [(options, build_penalty(options)) for options in objective.penalties]
        # BatchNorm, and any other layer that mixes a batch, would let real and generated images
        # see each other: a network has to say that it has none.
        self.one_batch = bool(
            getattr(model.discriminator.module, "treats_images_one_by_one", False)
        )
        self._fakes = SharedFakes(model.generator) if objective.share_fakes else None
        self.phases = (
            Phase(
                "discriminator",
                model.discriminator,
                experiment.discriminator.steps,
                self._discriminator_loss,
            ),
            Phase("generator", model.generator, 1, self._generator_loss, model.discriminator),
        )

    def __call__(self, step: int, batches: Sequence[Batch], measure: bool) -> Statistics:
        """Run step number `step` on one batch of real uint8 images for each discriminator update.

        `measure` asks for gradient norms and times, too: a GPU is held up by waiting for them.
        """
        model, statistics = self._model, Statistics(self._loss.paired)
        timing = partial(statistics.timing, device=model.generator.device)
        model.augmentation.begin(step)
        for phase in self.phases:
            with timing(f"seconds/{phase.name}") if measure else nullcontext():
                for i, batch in enumerate(batches[-phase.updates :]):
                    self.update(phase, step * phase.updates + i, batch, statistics, measure)
        with mark(EMA), model.generator.gathered_weights():
            model.average.update(images_seen=(step + 1) * self._experiment.train.batch_size)
        model.augmentation.adjust(step + 1)
        return statistics

    def update(
        self, phase: Phase, number: int, batch: Batch, statistics: Statistics, measure: bool
    ) -> None:
        """Update one player's weights on a batch."""
        player = phase.player
        with phase.opponent.frozen() if phase.opponent is not None else nullcontext():
            for micro_batch in self._micro_batches(phase, number, batch):
                with player.micro_batch(micro_batch.last):
                    with mark(f"{phase.name}, {FORWARD}"):
                        loss, measured = phase.loss(micro_batch)
                    with mark(f"{phase.name}, {BACKWARD}"):
                        player.backward(loss / self._accumulation)
                statistics.add_all(phase.name, measured)
        with mark(OPTIMIZERS):
            norm = player.step(measure)
        if norm is not None:
            statistics.add(f"gradient_norm/{phase.name}", norm)

    def _discriminator_loss(self, micro_batch: MicroBatch) -> tuple[Tensor, Measured]:
        model, (update, rows, samples, _) = self._model, micro_batch
        is_last = (update + 1) % self._experiment.discriminator.steps == 0
        loss, measured = game.discriminator_loss(
            self._objective(update),
            self._fakes.generate if self._fakes is not None and is_last else model.generator.module,
            model.discriminator,
            partial(model.augmentation, update=update, rows=rows),
            samples,
            randomness.Draws(self._experiment.seed, update, rows, samples.real.device),
        )
        real, fake = measured["real_logits"], measured["fake_logits"]
        model.augmentation.observe(real - fake if self._loss.paired else real)
        return loss, measured

    def _generator_loss(self, micro_batch: MicroBatch) -> tuple[Tensor, Measured]:
        model, (update, rows, samples, _) = self._model, micro_batch
        return game.generator_loss(
            Objective(self._loss),
            model.generator if self._fakes is None else self._fakes.take,
            model.discriminator.module,
            partial(model.augmentation, update=update, rows=rows),
            samples,
        )

    def _objective(self, update: int) -> Objective:
        """Return what is minimised in this update of the discriminator, with the penalties due.

        A penalty that is not due is not computed to be logged: one more forward would move the
        vectors of spectral norm and the draws of dropout.
        """
        step, pace = update // self._experiment.discriminator.steps, self._experiment.pace
        due = [
            self._due(options, penalty, value_at(options.weight, step, pace) * options.every)
            for options, penalty in self._penalties
            if update % options.every == 0
        ]
        target = 1 - self._experiment.objective.label_smoothing
        return Objective(self._loss, target, due, self.one_batch)

    def _due(
        self, options: PenaltyOptions, penalty: Penalty, weight: float
    ) -> WeightedPenalty | SharedPenalty:
        """Return a penalty as the game wants it, with a forward pass of its own if it needs one."""
        player = self._model.discriminator
        full = options.precision == "fp32" and self._experiment.train.precision != "fp32"
        if isinstance(penalty, PointPenalty) and self.one_batch and not full:
            return SharedPenalty(options.name, penalty, weight)
        network = player.forward_float32 if full else player.module.forward
        return WeightedPenalty(options.name, penalty, weight, network)

    def _micro_batches(self, phase: Phase, update: int, batch: Batch) -> Iterator[MicroBatch]:
        """Divide this rank's part of a batch, and bring each part to the device."""
        experiment, model = self._experiment, self._model
        device, size = model.generator.device, len(batch.images) // self._accumulation
        to_device = partial(Tensor.to, device=device, non_blocking=True)
        for i in range(self._accumulation):
            part = slice(i * size, (i + 1) * size)
            rows = range(self.rows.start + i * size, self.rows.start + (i + 1) * size)
            latents = randomness.latents(
                experiment.latent, experiment.seed, phase.name, update, rows, device
            )
            real = (to_device(batch.images[part]) / REAL_SCALE).sub_(1)
            real = real.contiguous(memory_format=model.discriminator.memory_format)
            conditional = experiment.data.classes is not None
            labels = (to_device(batch.labels[part]),) if conditional else ()
            samples = Samples(latents, real, labels)
            yield MicroBatch(update, rows, samples, i == self._accumulation - 1)
