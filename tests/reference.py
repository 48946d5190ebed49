"""The game written out by hand in plain torch: no players, no accumulation, nothing frozen."""

import copy
import functools

import torch
from torch import Tensor, nn

from ganscale import randomness
from ganscale.config import Experiment
from ganscale.data.loader import Ranks
from ganscale.data.reader import Batch
from ganscale.data.source import BatchSource
from ganscale.objectives.losses import LOSSES
from ganscale.objectives.penalties import PENALTIES
from ganscale.training.game import Game


def real_batches(
    experiment: Experiment, first: int, number: int, rows: range | None = None
) -> list[Batch]:
    """These rows of some global batches of real images; all of them by default."""
    rows = rows or range(experiment.train.batch_size)
    source = BatchSource(experiment, Ranks(), rows, torch.device("cpu"))
    return list(source.batches(first, first + number))


def by_hand(
    experiment: Experiment, steps: int, dtype: torch.dtype = torch.float32
) -> tuple[nn.Module, nn.Module, dict[str, float]]:
    """Generator and discriminator after these steps, and the last step's mean gradient norms."""
    game = Game(experiment)
    generator = copy.deepcopy(game.generator.raw).to(dtype)
    discriminator = copy.deepcopy(game.discriminator.raw).to(dtype)
    adam = experiment.generator.optimizer
    optimizer_g = torch.optim.Adam(generator.parameters(), adam.lr, adam.betas, adam.eps)
    optimizer_d = torch.optim.Adam(discriminator.parameters(), adam.lr, adam.betas, adam.eps)
    loss, seed = LOSSES[experiment.objective.loss], experiment.seed
    rows, n = range(experiment.train.batch_size), experiment.discriminator.steps
    norms: dict[str, list[float]] = {}

    def latents(purpose: str, number: int) -> Tensor:
        return randomness.latents(experiment.latent, seed, purpose, number, rows).to(dtype)

    def judged(labels: tuple[Tensor, ...], images: Tensor) -> Tensor:
        logits: Tensor = discriminator(images, *labels)
        return logits

    def update(name: str, network: nn.Module, optimizer: torch.optim.Adam, total: Tensor) -> None:
        optimizer.zero_grad()
        total.backward()
        limit = getattr(experiment, name).clip_norm or float("inf")
        norm = nn.utils.clip_grad_norm_(network.parameters(), limit)
        norms.setdefault(name, []).append(float(norm))
        optimizer.step()

    target = 1 - experiment.objective.label_smoothing
    for step in range(steps):
        norms.clear()
        for i, batch in enumerate(real_batches(experiment, step * n, n), step * n):
            real = batch.images.to(dtype) / 127.5 - 1
            labels = (batch.labels,) if experiment.data.classes else ()
            fake = generator(latents("discriminator", i), *labels).detach()
            judge = functools.partial(judged, labels)
            total = loss.discriminator(judge(real), judge(fake), target)
            for penalty in experiment.objective.penalties:
                draws = iter(range(1, 9))

                def random(shape, kind=penalty.kind, i=i, draws=draws):  # type: ignore[no-untyped-def]
                    purpose = f"penalty/{kind}/{next(draws)}"
                    return randomness.uniform(seed, purpose, i, rows, shape).to(dtype)

                if i % penalty.every == 0:
                    value = PENALTIES[penalty.kind](judge, real, fake, random)
                    total = total + penalty.every * penalty.weight * value
            update("discriminator", discriminator, optimizer_d, total)
        fake_logits = judge(generator(latents("generator", step), *labels))
        total = loss.generator(fake_logits, judge(real))
        update("generator", generator, optimizer_g, total)
    return generator, discriminator, {k: sum(v) / len(v) for k, v in norms.items()}
