"""The algorithm: what one step of a GAN does, on one page.

Update the discriminator `discriminator_steps` times, each on new real images and new noise, then
the generator once, then the moving average of its weights. Each update is one loss, one backward
a micro-batch, one optimizer step.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ganscale import randomness
from ganscale.config import Experiment, Penalty
from ganscale.networks.layers import has_batch_norm
from ganscale.objectives.losses import LOSSES
from ganscale.objectives.penalties import PENALTIES
from ganscale.training.ema import MovingAverage
from ganscale.training.players import Player

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

    def means(self) -> dict[str, Tensor]:
        """One number for each name."""
        return {name: torch.stack(values).mean() for name, values in self.values.items()}


class GANStep:
    """One step of the run; `rows` is this rank's part of the global batch."""

    def __init__(
        self,
        experiment: Experiment,
        generator: Player,
        discriminator: Player,
        average: MovingAverage,
        rows: range,
    ):
        self.seed = experiment.seed
        self.latent = experiment.latent
        self.batch_size = experiment.train.batch_size
        self.accumulation = experiment.train.accumulation
        self.discriminator_steps = experiment.discriminator.steps
        self.loss = LOSSES[experiment.objective.loss]
        self.penalties = experiment.objective.penalties
        self.generator = generator
        self.discriminator = discriminator
        self.average = average
        self.rows = rows
        # BatchNorm would let real and made images see each other's statistics.
        self.judge_together = not has_batch_norm(discriminator.raw)

    def __call__(self, step: int, real: Sequence[Tensor], measure: bool) -> Statistics:
        """Step number `step` on one batch of real uint8 images for each discriminator update."""
        statistics = Statistics()
        for i, images in enumerate(real):
            update = step * self.discriminator_steps + i
            self.update_discriminator(update, images, statistics, measure)
        self.update_generator(step, real[-1], statistics, measure)
        with self.generator.whole():
            self.average.update(images_seen=(step + 1) * self.batch_size)
        return statistics

    def update_discriminator(
        self, update: int, images: Tensor, statistics: Statistics, measure: bool
    ) -> None:
        """Tell real from made; the made ones carry no graph through the generator."""
        player = self.discriminator
        for rows, real, last in self.micro_batches(images):
            with torch.no_grad():
                fake = self.generator.raw(self.noise("discriminator", update, rows))
            with player.micro_batch(last):
                real_logits, fake_logits = self.judge(real, fake)
                loss = self.loss.discriminator(real_logits, fake_logits)
                for penalty in self.penalties:
                    due = update % penalty.every == 0
                    if due or measure:  # a lazy one is seldom due when it is to be logged
                        value = self.penalty(penalty, update, rows, real, fake)
                        loss = loss + penalty.weight * penalty.every * value if due else loss
                        statistics.add(**{f"penalty/{penalty.kind}": value})
                player.backward(loss / self.accumulation)
            if measure:
                statistics.add(
                    **{
                        "loss/discriminator": loss,
                        "D(x)": torch.sigmoid(real_logits),
                        "D(G(z))": torch.sigmoid(fake_logits),
                    }
                )
        statistics.add(**{"gradient_norm/discriminator": player.step(measure)})

    def update_generator(
        self, step: int, images: Tensor, statistics: Statistics, measure: bool
    ) -> None:
        """Make what the discriminator, frozen and unwrapped, takes for real."""
        player = self.generator
        with self.discriminator.frozen() as discriminator:
            for rows, real, last in self.micro_batches(images):
                with player.micro_batch(last):
                    with torch.no_grad():
                        real_logits = discriminator(real) if self.loss.paired else None
                    fake_logits = discriminator(player.network(self.noise("generator", step, rows)))
                    loss = self.loss.generator(fake_logits, real_logits)
                    player.backward(loss / self.accumulation)
                if measure:
                    statistics.add(**{"loss/generator": loss})
        statistics.add(**{"gradient_norm/generator": player.step(measure)})

    def judge(self, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
        """The discriminator's logits of real and of made images."""
        if self.judge_together:
            real_logits, fake_logits = self.discriminator.network(torch.cat([real, fake])).chunk(2)
            return real_logits, fake_logits
        return self.discriminator.network(real), self.discriminator.network(fake)

    def penalty(
        self, penalty: Penalty, update: int, rows: range, real: Tensor, fake: Tensor
    ) -> Tensor:
        """A gradient penalty in float32, before its weight."""
        draws = 0

        def random(shape: tuple[int, ...]) -> Tensor:
            nonlocal draws
            draws += 1
            purpose = f"penalty/{penalty.kind}/{draws}"
            numbers = randomness.uniform(self.seed, purpose, update, rows, shape)
            return numbers.to(real.device, non_blocking=True)

        function = PENALTIES[penalty.kind]
        return function(self.discriminator.float32, real.float(), fake.float(), random)

    def micro_batches(self, images: Tensor) -> Iterator[tuple[range, Tensor, bool]]:
        """Global rows, images in [-1, 1] on the device, and whether it is the last."""
        size = len(images) // self.accumulation
        for i in range(self.accumulation):
            part = images[i * size : (i + 1) * size]
            start = self.rows.start + i * size
            real = part.to(self.generator.device, non_blocking=True) / REAL_SCALE - 1
            real = real.contiguous(memory_format=self.discriminator.memory_format)
            yield range(start, start + size), real, i == self.accumulation - 1

    def noise(self, purpose: str, step: int, rows: range) -> Tensor:
        """Latents (len(rows), dim) of those rows of the global batch."""
        latents = randomness.latents(self.latent, self.seed, purpose, step, rows)
        return latents.to(self.generator.device, non_blocking=True)
