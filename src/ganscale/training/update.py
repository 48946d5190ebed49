"""The algorithm: what one step of a GAN does, on one page.

Update the discriminator `discriminator_steps` times, each on new real images and new noise, then
the generator once, then the moving average of its weights. Each update is one loss, one backward
a micro-batch, one optimizer step. In a conditional game a made image has the class of the real
one in its row; otherwise `labels` is empty.
"""

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from ganscale import randomness
from ganscale.config import Experiment
from ganscale.data.reading.readers import Batch
from ganscale.gan.losses import build_loss
from ganscale.gan.penalties import Penalty, build_penalty
from ganscale.training.model import Game

REAL_SCALE = 127.5  # pixels 0 … 255 are -1 … 1 to the networks


@dataclass
class Statistics:
    """What one step measured on this rank: means over its micro-batches, kept on the device."""

    values: dict[str, list[Tensor]] = field(default_factory=lambda: defaultdict(list))

    def add(self, **values: Tensor | None) -> None:
        """Note one micro-batch's numbers."""
        for name, value in values.items():
            if value is not None:
                self.values[name].append(value.detach().float().mean())

    def take(self, other: "Statistics", prefix: str) -> None:
        """Note the numbers of another step too whose names begin with `prefix`."""
        for name, values in other.values.items():
            if name.startswith(prefix):
                self.values[name] += values

    @contextmanager
    def timing(self, name: str, device: torch.device) -> Iterator[None]:
        """Note the seconds that the work inside takes on the device."""
        wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
        wait()
        start = time.perf_counter()
        yield
        wait()
        self.add(**{name: torch.tensor(time.perf_counter() - start, device=device)})

    def means(self) -> dict[str, Tensor]:
        """One number for each name."""
        return {name: torch.stack(values).mean() for name, values in self.values.items()}


class MicroBatch(NamedTuple):
    """A part of this rank's part of a batch."""

    rows: range
    """Which rows of the global batch these are."""
    real: Tensor
    """Images (N, C, H, W) in [-1, 1] on the device."""
    labels: tuple[Tensor, ...]
    """Their classes (N,), if the game is conditional."""
    last: bool
    """Gradients are reduced after this one."""


class GANStep:
    """One step of the run; `rows` is this rank's part of the global batch."""

    def __init__(self, experiment: Experiment, game: Game, rows: range):
        self.seed = experiment.seed
        self.conditional = experiment.data.classes is not None
        self.latent = experiment.latent
        self.batch_size = experiment.train.batch_size
        self.accumulation = experiment.train.accumulation
        self.discriminator_steps = experiment.discriminator.steps
        self.loss = build_loss(experiment.objective.loss, experiment.objective.label_smoothing)
        self.real_target = 1 - experiment.objective.label_smoothing
        self.penalties = [
            (options, build_penalty(options)) for options in experiment.objective.penalties
        ]
        self.generator = game.generator
        self.discriminator = game.discriminator
        self.average = game.average
        self.seen = game.augmentation
        self.rows = rows
        # BatchNorm, and any other layer that mixes a batch, would let real and generated images
        # see each other: a network has to say that it has none.
        self.judge_together = bool(
            getattr(game.discriminator.raw, "treats_images_one_by_one", False)
        )

    def __call__(self, step: int, batches: Sequence[Batch], measure: bool) -> Statistics:
        """Step number `step` on one batch of real uint8 images for each discriminator update."""
        statistics, device = Statistics(), self.generator.device
        # Waiting for a GPU holds it up, so only steps that are logged are timed.
        timing = partial(statistics.timing, device=device) if measure else nullcontext
        self.seen.begin(step)
        with timing("seconds/discriminator"):
            for i, batch in enumerate(batches):
                update = step * self.discriminator_steps + i
                self.update_discriminator(update, batch, statistics, measure)
        with timing("seconds/generator"):
            self.update_generator(step, batches[-1], statistics, measure)
        with self.generator.whole():
            self.average.update(images_seen=(step + 1) * self.batch_size)
        self.seen.adjust(step + 1)
        return statistics

    def update_discriminator(
        self, update: int, batch: Batch, statistics: Statistics, measure: bool
    ) -> None:
        """Tell real from made; the made ones carry no graph through the generator."""
        player = self.discriminator
        for rows, real, labels, last in self.micro_batches(batch):
            with torch.no_grad():
                fake = self.generator.raw(self.noise("discriminator", update, rows), *labels)
            real = self.seen(real, "real", update, rows)
            fake = self.seen(fake, "fake", update, rows)
            with player.micro_batch(last):
                real_logits, fake_logits = self.judge(real, fake, labels)
                loss = self.loss.discriminator(real_logits, fake_logits, self.real_target)
                for options, penalty in self.penalties:
                    # Not to be logged where it is not due: one more forward would move spectral
                    # norm's vectors and dropout's draws.
                    if update % options.every == 0:
                        value = self.penalty(
                            penalty, options.name, update, rows, real, fake, labels
                        )
                        loss = loss + options.weight * options.every * value
                        statistics.add(**{f"penalty/{options.name}": value})
                player.backward(loss / self.accumulation)
            self.note(real_logits, fake_logits, statistics, measure)
            if measure:
                statistics.add(**{"loss/discriminator": loss})
        statistics.add(**{"gradient_norm/discriminator": player.step(measure)})

    def update_generator(
        self, step: int, batch: Batch, statistics: Statistics, measure: bool
    ) -> None:
        """Make what the discriminator, frozen and unwrapped, takes for real."""
        player = self.generator
        with self.discriminator.frozen() as discriminator:
            for rows, real, labels, last in self.micro_batches(batch):
                with player.micro_batch(last):
                    real_logits = None
                    if self.loss.paired:
                        with torch.no_grad():
                            shown = self.seen(real, "real of generator", step, rows)
                            real_logits = discriminator(shown, *labels)
                    fake = player.network(self.noise("generator", step, rows), *labels)
                    shown = self.seen(fake, "fake of generator", step, rows)
                    loss = self.loss.generator(discriminator(shown, *labels), real_logits)
                    player.backward(loss / self.accumulation)
                if measure:
                    statistics.add(**{"loss/generator": loss})
        statistics.add(**{"gradient_norm/generator": player.step(measure)})

    def judge(
        self, real: Tensor, fake: Tensor, labels: tuple[Tensor, ...]
    ) -> tuple[Tensor, Tensor]:
        """The discriminator's logits of real and of made images."""
        network = self.discriminator.network
        if self.judge_together:
            twice = tuple(label.repeat(2) for label in labels)
            real_logits, fake_logits = network(torch.cat([real, fake]), *twice).chunk(2)
            return real_logits, fake_logits
        return network(real, *labels), network(fake, *labels)

    def note(
        self, real_logits: Tensor, fake_logits: Tensor, statistics: Statistics, measure: bool
    ) -> None:
        """How sure the discriminator is; a relativistic one knows only which is more real."""
        lead = real_logits - fake_logits
        real, fake = (lead, -lead) if self.loss.paired else (real_logits, fake_logits)
        self.seen.observe(real)
        if measure:
            statistics.add(
                **{
                    "D(x)": torch.sigmoid(real),
                    "D(G(z))": torch.sigmoid(fake),
                    "D accuracy": (lead > 0).float(),
                }
            )

    def penalty(
        self,
        penalty: Penalty,
        name: str,
        update: int,
        rows: range,
        real: Tensor,
        fake: Tensor,
        labels: tuple[Tensor, ...],
    ) -> Tensor:
        """A gradient penalty in float32, before its weight."""
        draws = 0

        def random(shape: tuple[int, ...]) -> Tensor:
            nonlocal draws
            draws += 1
            purpose = f"penalty/{name}/{draws}"
            numbers = randomness.uniform(self.seed, purpose, update, rows, shape)
            return numbers.to(real.device, non_blocking=True)

        def judge(images: Tensor) -> Tensor:
            return self.discriminator.float32(images, *labels)

        return penalty(judge, real.float(), fake.float(), random)

    def micro_batches(self, batch: Batch) -> Iterator[MicroBatch]:
        """The parts of a batch, one after another."""
        size = len(batch.images) // self.accumulation
        to_device = partial(Tensor.to, device=self.generator.device, non_blocking=True)
        for i in range(self.accumulation):
            part = slice(i * size, (i + 1) * size)
            start = self.rows.start + i * size
            real = to_device(batch.images[part]) / REAL_SCALE - 1
            real = real.contiguous(memory_format=self.discriminator.memory_format)
            labels = (to_device(batch.labels[part]),) if self.conditional else ()
            yield MicroBatch(range(start, start + size), real, labels, i == self.accumulation - 1)

    def noise(self, purpose: str, step: int, rows: range) -> Tensor:
        """Latents (len(rows), dim) of those rows of the global batch."""
        latents = randomness.latents(self.latent, self.seed, purpose, step, rows)
        return latents.to(self.generator.device, non_blocking=True)
