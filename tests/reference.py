"""The game written out by hand in plain torch and float64: no players, no engine, nothing frozen.

Knows what decides a run: losses, penalties, labels, augmentation and its controller, instance
noise, schedules, micro-batches, and the moving average with its BatchNorm statistics.
"""

import copy
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ganscale import randomness
from ganscale.config import Experiment, Number
from ganscale.data.reading.batch_source import BatchSource
from ganscale.data.reading.readers import Batch
from ganscale.engines.distributed import Ranks
from ganscale.gan.augment import TRANSFORMS, augment
from ganscale.gan.losses import build_loss
from ganscale.gan.penalties import build_penalty
from ganscale.networks import build_discriminator, build_generator

STANDING_BATCHES = 16
PLAYERS = ("generator", "discriminator")
FROZEN = {
    ("mlp", 1): ("layers.1.",),
    ("dcgan", 2): ("layers.0.", "layers.2."),
    ("dcgan", 3): ("layers.0.", "layers.2.", "layers.3."),
}
"""The beginnings of the names of the discriminator's lowest parameters, for `freeze`."""
HOST = torch.device("cpu")


@dataclass
class Played:
    """What came of some steps."""

    generator: nn.Module
    discriminator: nn.Module
    average: nn.Module
    norms: dict[str, float]
    """Gradient norms of the last step, a mean over the updates of a player."""
    probability: float
    """Of augmentation."""


def real_batches(
    experiment: Experiment, first: int, number: int, rows: range | None = None
) -> list[Batch]:
    """Return these rows of some global batches of real images; all of them by default.

    Whatever reader the experiment names, only these images are decoded: readers agree.
    """
    rows = rows or range(experiment.train.batch_size)
    reader = {"reader": "indexed", "workers": 0}
    data = experiment.data.model_copy(update=reader)
    experiment = experiment.model_copy(update={"data": data})
    source = BatchSource(experiment, Ranks(), rows, torch.device("cpu"))
    return list(source.batches(first, first + number))


def first_networks(experiment: Experiment) -> tuple[nn.Module, nn.Module]:
    """Generator and discriminator as the seed makes them."""
    shape, classes = experiment.image_shape, experiment.data.classes
    torch.manual_seed(randomness.torch_seed(experiment.seed, "weights/generator"))
    generator = build_generator(experiment.generator.network, experiment.latent.dim, shape, classes)
    torch.manual_seed(randomness.torch_seed(experiment.seed, "weights/discriminator"))
    return generator, build_discriminator(experiment.discriminator.network, shape, classes)


def scheduled(number: Number, step: int, experiment: Experiment) -> float:
    """Return a number of the experiment at a step, from 0, by interpolating between its corners.

    Where the program walks through the pieces, this warps the time between the two corners around
    the step and leaves the rest to numpy.
    """
    if isinstance(number, float | int):
        return float(number)
    written = number.written()
    images = step * experiment.train.batch_size
    corners: list[tuple[float, float, float, str]] = []  # end in images, from, to, shape
    last = math.nan
    for piece in written if isinstance(written, list) else [written]:
        if isinstance(piece, float):
            last = piece
            break
        last = piece.get("to", piece.get("hold"))
        start = piece.get("from", piece.get("hold"))
        corners.append((_in_images(piece["until"], experiment), start, last, piece.get("by", "")))
    ends = [0.0, *(corner[0] for corner in corners)]
    place = int(np.searchsorted(ends, images, side="right")) - 1
    if place == len(corners):
        return last
    end, start, last, shape = corners[place]
    progress = (images - ends[place]) / (end - ends[place])
    if shape == "cosine":
        progress = math.sin(math.pi * progress / 2) ** 2
    if shape == "exponential":
        return math.exp(np.interp(progress, (0, 1), (math.log(start), math.log(last))))
    return float(np.interp(progress, (0, 1), (start, last)))


def _in_images(until: str, experiment: Experiment) -> float:
    """Return a position, as `ganscale config` prints it, as a number of images."""
    count, _, unit = until.replace("_", "").partition(" ")
    size, steps = experiment.train.batch_size, experiment.train.steps
    if until == "end of run":
        return size * steps
    if unit == "of run":
        return size * steps * float(count.rstrip("%")) / 100
    return float(count) * (size if unit == "steps" else 1)


class Reference:
    """One game; `play` plays it."""

    def __init__(
        self,
        experiment: Experiment,
        dtype: torch.dtype = torch.float64,
        source: Path | None = None,
    ):
        """`source` is the checkpoint that the run starts from, if any."""
        self.experiment, self.dtype = experiment, dtype
        self.generator, self.discriminator = (n.to(dtype) for n in first_networks(experiment))
        self.average = copy.deepcopy(self.generator)
        if source is not None:
            self.generator.load_state_dict(load_file(source / "generator.safetensors"))
            self.discriminator.load_state_dict(load_file(source / "discriminator.safetensors"))
            self.average.load_state_dict(load_file(source / "ema.safetensors"))
        options = experiment.discriminator
        key = (options.network.architecture, options.freeze)
        self.frozen = FROZEN[key] if options.freeze else ()
        self.loss = build_loss(experiment.objective.loss)
        self.probability = self.number(experiment.augment.probability, 0)
        self.signs: list[Tensor] = []
        self.norms: dict[str, list[float]] = {}
        self.optimizers = {}
        for name in PLAYERS:
            weights = getattr(self, name).parameters()
            eps = getattr(experiment, name).optimizer.eps
            self.optimizers[name] = torch.optim.Adam(weights, eps=eps)

    def play(self, steps: int) -> Played:
        """The first steps of the run."""
        n = self.experiment.discriminator.steps
        for step in range(steps):
            self.norms.clear()
            if self.experiment.augment.adaptive is None:
                self.probability = self.number(self.experiment.augment.probability, step)
            batches = real_batches(self.experiment, step * n, n)
            for i, batch in enumerate(batches):
                shown = self.mirrored(batch, step * n + i)
                self.update("discriminator", step, step * n + i, shown, self.discriminator_loss)
            self.update("generator", step, step, shown, self.generator_loss)
            self.move_average(step)
            self.steer_augmentation(step + 1)
        self.stand_still()
        norms = {name: sum(values) / len(values) for name, values in self.norms.items()}
        return Played(self.generator, self.discriminator, self.average, norms, self.probability)

    def mirrored(self, batch: Batch, number: int) -> Batch:
        """Global batch `number`, with the images whose draw is below ½ turned around."""
        if not self.experiment.data.flip:
            return batch
        rows = range(len(batch.images))
        unit = randomness.uniform(self.experiment.seed, "flip", number, rows, (), HOST)
        pairs = zip(batch.images, unit.tolist(), strict=True)
        shown = [
            torch.from_numpy(image.numpy()[:, :, ::-1].copy()) if u < 0.5 else image
            for image, u in pairs
        ]
        return Batch(torch.stack(shown), batch.labels)

    def update(
        self, name: str, step: int, number: int, batch: Batch, loss: Callable[..., Tensor]
    ) -> None:
        """One Adam step of a player on the mean of its micro-batches' losses."""
        experiment = self.experiment
        size = experiment.train.batch_size // experiment.train.accumulation
        total = torch.zeros((), dtype=self.dtype)
        for start in range(0, experiment.train.batch_size, size):
            rows = range(start, start + size)
            real = batch.images[start : rows.stop].to(self.dtype) / 127.5 - 1
            labels = (batch.labels[start : rows.stop],) if experiment.data.classes else ()
            total = total + loss(step, number, rows, real, labels) / experiment.train.accumulation
        network, optimizer = getattr(self, name), self.optimizers[name]
        optimizer.zero_grad()
        total.backward()
        if name == "discriminator":
            for key, weight in network.named_parameters():
                if key.startswith(self.frozen):
                    weight.grad = None
        player = getattr(experiment, name)
        limit = player.clip_norm or float("inf")
        norm = nn.utils.clip_grad_norm_(network.parameters(), limit)
        self.norms.setdefault(name, []).append(float(norm))
        for group in optimizer.param_groups:
            group["lr"] = self.number(player.optimizer.lr, step)
            group["betas"] = tuple(self.number(beta, step) for beta in player.optimizer.betas)
        optimizer.step()

    def number(self, number: Number, step: int) -> float:
        return scheduled(number, step, self.experiment)

    def discriminator_loss(
        self, step: int, number: int, rows: range, real: Tensor, labels: tuple[Tensor, ...]
    ) -> Tensor:
        experiment = self.experiment
        fake = self.generator(self.latents("discriminator", number, rows), *labels).detach()
        real = self.seen(real, "real", step, number, rows)
        fake = self.seen(fake, "fake", step, number, rows)
        real_logits, fake_logits = self.judge_both(real, fake, labels)
        target = 1 - experiment.objective.label_smoothing
        total = self.loss.discriminator(real_logits, fake_logits, target)
        for penalty in experiment.objective.penalties:
            if number % penalty.every == 0:
                random = self.uniform(f"penalty/{penalty.kind}", number, rows)
                value = build_penalty(penalty)(
                    lambda images: self.discriminator(images, *labels), real, fake, random
                )
                total = total + penalty.every * self.number(penalty.weight, step) * value
        lead = real_logits - fake_logits if self.loss.paired else real_logits
        self.signs.append(lead.detach().sign().mean())
        return total

    def generator_loss(
        self, step: int, number: int, rows: range, real: Tensor, labels: tuple[Tensor, ...]
    ) -> Tensor:
        experiment, real_logits = self.experiment, None
        if self.loss.paired:
            shown = self.seen(real, "real of generator", step, number, rows)
            real_logits = self.discriminator(shown, *labels)
        drawn = ("generator", number)
        if experiment.objective.share_fakes:  # the latents of the discriminator's last update
            drawn = ("discriminator", (number + 1) * experiment.discriminator.steps - 1)
        fake = self.generator(self.latents(*drawn, rows), *labels)
        shown = self.seen(fake, "fake of generator", step, number, rows)
        return self.loss.generator(self.discriminator(shown, *labels), real_logits)

    def judge_both(
        self, real: Tensor, fake: Tensor, labels: tuple[Tensor, ...]
    ) -> tuple[Tensor, Tensor]:
        """Spectral norm takes one step of its power iteration a forward: there, one for both."""
        if any(nn.utils.parametrize.is_parametrized(m) for m in self.discriminator.modules()):
            twice = [torch.cat([label, label]) for label in labels]
            both = self.discriminator(torch.cat([real, fake]), *twice)
            return both[: len(real)], both[len(real) :]
        return self.discriminator(real, *labels), self.discriminator(fake, *labels)

    def seen(self, images: Tensor, purpose: str, step: int, number: int, rows: range) -> Tensor:
        """What the discriminator is shown of images."""
        options = self.experiment.augment
        random = self.uniform(f"augment/{purpose}", number, rows)
        if options.policy:
            policy = [TRANSFORMS.get(name) for name in options.policy]
            images = augment(images, policy, self.probability, random)
        std = self.number(options.noise_std, step)
        if std:
            shape = tuple(images.shape[1:])
            noise = randomness.normal(
                self.experiment.seed, f"noise/{purpose}", number, rows, shape, HOST
            )
            images = images + std * noise.to(self.dtype)
        return images

    def steer_augmentation(self, steps: int) -> None:
        """ADA (Karras et al. 2020, section 3.1)."""
        adaptive = self.experiment.augment.adaptive
        if adaptive is not None and steps % adaptive.every == 0:
            amount = adaptive.every * self.experiment.train.batch_size / adaptive.images
            sure = torch.stack(self.signs).mean() > adaptive.target
            self.probability = min(1.0, max(0.0, self.probability + (amount if sure else -amount)))
            self.signs.clear()

    @torch.no_grad()
    def move_average(self, step: int) -> None:
        """StyleGAN2-ADA's rule: a half-life in images, at first a part of the images seen."""
        ema = self.experiment.ema
        half_life = self.number(ema.half_life, step)
        if ema.ramp_up is not None:
            images = (step + 1) * self.experiment.train.batch_size
            half_life = min(half_life, images * ema.ramp_up)
        kept = 0.5 ** (self.experiment.train.batch_size / half_life) if half_life else 0.0
        for ours, theirs in zip(
            self.average.parameters(), self.generator.parameters(), strict=True
        ):
            ours.copy_(kept * ours + (1 - kept) * theirs)

    @torch.no_grad()
    def stand_still(self) -> None:
        """Give the average's BatchNorm the mean of its statistics over some batches of 128."""
        experiment, rows = self.experiment, range(128)
        kinds = (nn.BatchNorm1d, nn.BatchNorm2d)
        norms = [m for m in self.average.modules() if isinstance(m, kinds)]
        found: dict[nn.Module, list[tuple[Tensor, Tensor]]] = {norm: [] for norm in norms}

        def note(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            features = inputs[0].transpose(0, 1).flatten(1)
            found[norm].append((features.mean(1), features.var(1)))

        hooks = [norm.register_forward_pre_hook(note) for norm in norms]
        for i in range(STANDING_BATCHES if norms else 0):
            labels = self.standing_labels(i, rows) if experiment.data.classes else ()
            latents = randomness.latents(
                experiment.latent, experiment.seed, "standing", i, rows, HOST
            )
            self.average.train()(latents.to(self.dtype), *labels)
        for hook, (norm, statistics) in zip(hooks, found.items(), strict=True):
            hook.remove()
            norm.running_mean, norm.running_var = (
                torch.stack(values).mean(0) for values in zip(*statistics, strict=True)
            )

    def standing_labels(self, number: int, rows: range) -> tuple[Tensor]:
        """Classes as often as in the set: the first whose share, summed up, exceeds a draw."""
        size = BatchSource(self.experiment, Ranks(), rows, torch.device("cpu"))
        reader = size.whole_set()[1]
        labels = reader.read(np.arange(size.whole_set()[0].samples)).labels
        sums = torch.bincount(labels).double().cumsum(0) / len(labels)
        seed = self.experiment.seed
        unit = randomness.uniform(seed, "standing labels", number, rows, (1,), HOST)
        return ((unit >= sums[None]).sum(1),)

    def latents(self, purpose: str, number: int, rows: range) -> Tensor:
        experiment = self.experiment
        return randomness.latents(
            experiment.latent, experiment.seed, purpose, number, rows, HOST
        ).to(self.dtype)

    def uniform(
        self, purpose: str, number: int, rows: range
    ) -> Callable[[tuple[int, ...]], Tensor]:
        """Draws one after another: up to 64 numbers from a stream that has them, others alone."""
        counter = itertools.count(1)

        def stream(columns: int) -> Tensor:
            seed, name = self.experiment.seed, f"{purpose}/{next(counter)}"
            return randomness.uniform(seed, name, number, rows, (columns,), HOST).to(self.dtype)

        left = torch.zeros(len(rows), 0, dtype=self.dtype)

        def random(shape: tuple[int, ...]) -> Tensor:
            nonlocal left
            wanted = math.prod(shape)
            if wanted > 64:
                return stream(wanted).reshape(-1, *shape)
            if wanted > left.shape[1]:
                left = stream(64)
            drawn, left = left[:, :wanted], left[:, wanted:]
            return drawn.reshape(-1, *shape)

        return random


def by_hand(experiment: Experiment, steps: int, source: Path | None = None) -> Played:
    """What comes of the first steps of an experiment, from the weights of a checkpoint if given."""
    return Reference(experiment, source=source).play(steps)
