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

import torch
from torch import Tensor

from ganscale.config import Experiment
from ganscale.data.reading.readers import Batch
from ganscale.engines.player import Player
from ganscale.gan.game import Measured
from ganscale.gan.schedules import value_at
from ganscale.profiling.marks import BACKWARD, EMA, FORWARD, OPTIMIZERS, mark
from ganscale.training.augmentation import Strength
from ganscale.training.compiled import compile_whole
from ganscale.training.losses import Losses, Numbers
from ganscale.training.model import GANModel
from ganscale.training.statistics import Statistics


class MicroBatch(NamedTuple):
    """A part of this rank's part of a batch."""

    update: int
    """Number of the update that it is for."""
    rows: range
    """Which rows of the global batch these are."""
    images: Tensor
    """Real ones, uint8 on the device, (N, C, H, W)."""
    labels: tuple[Tensor, ...]
    """(N,) each; none in an unconditional game."""
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
        self.losses = Losses(experiment, model)
        self._loss_of_discriminator = self.losses.discriminator
        self._loss_of_generator = self.losses.generator
        if experiment.train.compile:
            self._loss_of_discriminator = compile_whole(self.losses.discriminator)
            self._loss_of_generator = compile_whole(self.losses.generator)
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
        model, statistics = self._model, Statistics(self.losses.loss.paired)
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
        update, rows, images, labels, _ = micro_batch
        penalties, steps = (
            self._experiment.objective.penalties,
            self._experiment.discriminator.steps,
        )
        # A penalty that is not due is not computed to be logged: one more forward would move the
        # vectors of spectral norm and the draws of dropout.
        due = tuple(i for i, penalty in enumerate(penalties) if update % penalty.every == 0)
        weights = tuple(
            value_at(penalties[i].weight, update // steps, self._experiment.pace)
            * penalties[i].every
            for i in due
        )
        keep = self._experiment.objective.share_fakes and (update + 1) % steps == 0
        numbers = self._numbers(update, weights)
        loss, measured = self._loss_of_discriminator(due, keep, rows, numbers, images, labels)
        real, fake = measured["real_logits"], measured["fake_logits"]
        self._model.augmentation.observe(real - fake if self.losses.loss.paired else real)
        return loss, measured

    def _generator_loss(self, micro_batch: MicroBatch) -> tuple[Tensor, Measured]:
        update, rows, images, labels, _ = micro_batch
        return self._loss_of_generator(rows, self._numbers(update), images, labels)

    def _numbers(self, update: int, weights: tuple[float, ...] = ()) -> Numbers:
        """Return what changes from update to update; as tensors, where it must not be built in."""
        strength = self._model.augmentation.strength
        if not self._experiment.train.compile:
            return Numbers(update, strength, weights)
        put = partial(torch.tensor, device=self._model.device)
        return Numbers(put(update), Strength(*map(put, strength)), tuple(map(put, weights)))

    def _micro_batches(self, phase: Phase, update: int, batch: Batch) -> Iterator[MicroBatch]:
        """Divide this rank's part of a batch, and bring each part to the device."""
        experiment, model = self._experiment, self._model
        device, size = model.generator.device, len(batch.images) // self._accumulation
        to_device = partial(Tensor.to, device=device, non_blocking=True)
        for i in range(self._accumulation):
            part = slice(i * size, (i + 1) * size)
            rows = range(self.rows.start + i * size, self.rows.start + (i + 1) * size)
            conditional = experiment.data.classes is not None
            labels = (to_device(batch.labels[part]),) if conditional else ()
            images = to_device(batch.images[part])
            yield MicroBatch(update, rows, images, labels, i == self._accumulation - 1)
