"""One step of training: how the losses of `gan/game.py` become new weights.

The discriminator is updated `discriminator.steps` times, each time on new real images and new
latents, then the generator once, then the moving average of its weights. Each update is one loss
and one backward pass for each micro-batch, and one optimizer step.
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from torch import Tensor

from ganscale.config import Experiment
from ganscale.data.reading.readers import Batch
from ganscale.devices import copy_to
from ganscale.engines.player import Player
from ganscale.gan.game import Measured
from ganscale.gan.schedules import value_at
from ganscale.profiling.marks import BACKWARD, CAPTURED, EMA, FORWARD, OPTIMIZERS, mark
from ganscale.training.captured import CapturedWork, CUDAGraphs, Record
from ganscale.training.compiled import compile_whole
from ganscale.training.losses import Losses
from ganscale.training.model import GANModel
from ganscale.training.numbers import DeviceNumbers, Numbers
from ganscale.training.statistics import Statistics


class MicroBatch(NamedTuple):
    """A part of this rank's part of a batch."""

    update: int
    """Number of the update that it is for."""
    rows: range
    """Which rows of the global batch these are."""
    images: Tensor
    """Real ones, uint8 or uint16 on the device, (N, C, H, W)."""
    labels: tuple[Tensor, ...]
    """(N,) each; none in an unconditional game."""
    last: bool
    """True if gradients are reduced after this one."""


class Loss(NamedTuple):
    """A player's loss on a micro-batch."""

    variant: Hashable
    """Losses of the same variant are the same operations on other tensors."""
    compute: Callable[[Tensor, tuple[Tensor, ...]], tuple[Tensor, Measured]]
    """Called with real images and their labels, it returns the loss and what was measured."""


@dataclass(frozen=True)
class Phase:
    """One player's turn in a step."""

    name: str
    player: Player
    updates: int
    loss: Callable[[MicroBatch], Loss]
    opponent: Player | None = None
    """The player whose parameters are frozen meanwhile."""
    observe: Callable[[Measured], None] = lambda measured: None
    """Called with what each micro-batch's loss measured."""


class GANStep:
    """One step of the run."""

    def __init__(
        self,
        experiment: Experiment,
        model: GANModel,
        rows: range,
        record: Record | None = None,
    ):
        """`rows` is this rank's part of the global batch.

        With `train.cuda_graph`, `record` records the work on a micro-batch; CUDA graphs, by
        default.
        """
        self.rows = rows
        self._experiment = experiment
        self._accumulation = experiment.train.accumulation
        self._model = model
        self.losses = Losses(experiment, model)
        self._loss_of_discriminator = self.losses.discriminator
        self._loss_of_generator = self.losses.generator
        train = experiment.train
        if train.compile:
            self._loss_of_discriminator = compile_whole(self.losses.discriminator)
            self._loss_of_generator = compile_whole(self.losses.generator)
        by_tensors = train.compile or train.cuda_graph
        self._numbers_on_device = DeviceNumbers(model.device) if by_tensors else None
        self._captured: CapturedWork | None = None
        if train.cuda_graph:
            players = (model.generator, model.discriminator)
            self._captured = CapturedWork(players, record or CUDAGraphs())
        self.phases = (
            Phase(
                "discriminator",
                model.discriminator,
                experiment.discriminator.steps,
                self._discriminator_loss,
                # The generator makes these images without gradients. Yet the backward pass of a
                # compiled loss visits every trainable weight that the loss read, and DeepSpeed
                # would take the generator's for ready to be reduced.
                model.generator if train.compile else None,
                self._observe,
            ),
            Phase("generator", model.generator, 1, self._generator_loss, model.discriminator),
        )

    def __call__(self, step: int, batches: Sequence[Batch], measure: bool) -> Statistics:
        """Run step number `step` on one batch of real images for each discriminator update.

        `measure` asks for gradient norms and times, too: a GPU is held up by waiting for them.
        """
        model, statistics = self._model, Statistics(self.losses.loss.paired)
        timing = partial(statistics.timing, device=model.generator.device)
        model.augmentation.begin(step)
        for phase in self.phases:
            with timing(f"seconds_{phase.name}") if measure else nullcontext():
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
                    measured = self._add_gradients(phase, micro_batch)
                phase.observe(measured)
                statistics.add_all(phase.name, measured)
        with mark(OPTIMIZERS):
            norm = player.step(measure)
        if norm is not None:
            statistics.add(f"gradient_norm_{phase.name}", norm)

    def _add_gradients(self, phase: Phase, micro_batch: MicroBatch) -> Measured:
        """Add the gradients of a micro-batch's loss, and return what it measured."""
        variant, compute = phase.loss(micro_batch)

        def work(images: Tensor, *labels: Tensor) -> Measured:
            with mark(f"{phase.name}, {FORWARD}"):
                loss, measured = compute(images, labels)
            with mark(f"{phase.name}, {BACKWARD}"):
                phase.player.backward(loss / self._accumulation)
            return measured

        inputs = (micro_batch.images, *micro_batch.labels)
        if self._captured is None:
            return work(*inputs)
        with mark(f"{phase.name}, {CAPTURED}"):
            return self._captured((phase.name, variant), work, inputs)

    def _discriminator_loss(self, micro_batch: MicroBatch) -> Loss:
        objective, update, rows = self._experiment.objective, micro_batch.update, micro_batch.rows
        steps = self._experiment.discriminator.steps
        # A penalty that is not due is not computed to be logged: one more forward would move the
        # vectors of spectral norm and the draws of dropout.
        weights = {
            i: value_at(penalty.weight, update // steps, self._experiment.pace) * penalty.every
            for i, penalty in enumerate(objective.penalties)
            if update % penalty.every == 0
        }
        keep = objective.share_fakes and (update + 1) % steps == 0
        numbers = self._numbers(update, weights)
        return Loss(
            (tuple(weights), rows), partial(self._loss_of_discriminator, keep, rows, numbers)
        )

    def _generator_loss(self, micro_batch: MicroBatch) -> Loss:
        rows = micro_batch.rows
        return Loss(rows, partial(self._loss_of_generator, rows, self._numbers(micro_batch.update)))

    def _numbers(self, update: int, weights: dict[int, float] | None = None) -> Numbers:
        """Return what changes from update to update; as tensors, where it must not be built in."""
        numbers = Numbers(update, self._model.augmentation.strength, weights or {})
        return self._numbers_on_device.put(numbers) if self._numbers_on_device else numbers

    def _observe(self, measured: Measured) -> None:
        """Let the augmentation see how sure the discriminator is."""
        real, fake = measured["real_logits"], measured["fake_logits"]
        self._model.augmentation.observe(real - fake if self.losses.loss.paired else real)

    def _micro_batches(self, phase: Phase, update: int, batch: Batch) -> Iterator[MicroBatch]:
        """Divide this rank's part of a batch, and bring each part to the device."""
        experiment, model = self._experiment, self._model
        device, size = model.generator.device, len(batch.images) // self._accumulation
        to_device = partial(copy_to, device=device)
        for i in range(self._accumulation):
            part = slice(i * size, (i + 1) * size)
            rows = range(self.rows.start + i * size, self.rows.start + (i + 1) * size)
            conditional = experiment.data.classes is not None
            labels = (to_device(batch.labels[part]),) if conditional else ()
            images = to_device(batch.images[part])
            yield MicroBatch(update, rows, images, labels, i == self._accumulation - 1)
