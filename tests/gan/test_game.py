"""The two losses of the game, without any player: against the mathematics, and compiled."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from ganscale import randomness
from ganscale.config import Experiment
from ganscale.config.schedules import first_value
from ganscale.gan.game import (
    Samples,
    discriminator_loss,
    generator_loss,
)
from ganscale.gan.losses import LOSSES, build_loss
from ganscale.gan.objective import Network, Objective, SharedPenalty, WeightedPenalty
from ganscale.gan.penalties import PENALTIES, PointPenalty, build_penalty
from tests.conftest import tiny
from tests.reference import Reference, real_batches

UPDATE = 4
ROWS = range(8)
GAMES = {
    **{name: (f"objective.loss={name}",) for name in LOSSES.names()},
    "smoothed labels": ("objective.label_smoothing=0.2",),
    "class-conditional": ("data.classes=10", "objective.penalties=[{kind: r1, weight: 2}]"),
    "all penalties, one of them lazy": (
        "objective.penalties=[{kind: r1, weight: 3, every: 4}, {kind: r2, weight: 1}, "
        "{kind: wgan_gp, weight: 10}, {kind: dragan, weight: 5}]",
    ),
    "augmented": ("augment.policy=[translation, cutout]", "augment.probability=0.5"),
}


def objective_of(
    experiment: Experiment, discriminator: Network, one_batch: bool = False
) -> Objective:
    """Return the objective with all penalties due; `one_batch` lets them share the loss's pass."""
    options = experiment.objective
    penalties: list[SharedPenalty | WeightedPenalty] = []
    for p in options.penalties:
        penalty, weight = build_penalty(p), first_value(p.weight) * p.every
        if one_batch and isinstance(penalty, PointPenalty):
            penalties.append(SharedPenalty(p.name, penalty, weight))
        else:
            penalties.append(WeightedPenalty(p.name, penalty, weight, discriminator))
    loss = build_loss(options.loss, options.label_smoothing)
    return Objective(loss, 1 - options.label_smoothing, penalties, one_batch)


def samples_of(reference: Reference, player: str) -> Samples:
    batch = real_batches(reference.experiment, UPDATE, 1)[0]
    labels = (batch.labels,) if reference.experiment.data.classes else ()
    real = batch.images.to(reference.dtype) / 127.5 - 1
    return Samples(reference.latents(player, UPDATE, ROWS), real, labels)


def drawing(reference: Reference) -> Callable[[str, tuple[int, ...]], Tensor]:
    draws = randomness.Draws(reference.experiment.seed, UPDATE, ROWS, torch.device("cpu"))
    return lambda purpose, shape: draws(purpose, shape).to(reference.dtype)


def agree(ours: list[Tensor], theirs: list[Tensor]) -> bool:
    pairs = zip(ours, theirs, strict=True)
    return all(torch.allclose(a, b, rtol=1e-9, atol=1e-15) for a, b in pairs)


def gradients(loss: Tensor, network: nn.Module) -> list[Tensor]:
    return list(torch.autograd.grad(loss, list(network.parameters()), retain_graph=True))


@pytest.mark.parametrize("one_batch", [False, True])
@pytest.mark.parametrize("name", GAMES)
def test_both_losses_are_the_mathematics(
    digits: Path, tmp_path: Path, name: str, one_batch: bool
) -> None:
    experiment = tiny(digits, tmp_path, *GAMES[name])
    reference = Reference(experiment)
    objective = objective_of(experiment, reference.discriminator, one_batch)

    def augment(images: Tensor, purpose: str) -> Tensor:
        return reference.seen(images, purpose, UPDATE, UPDATE, ROWS)

    samples = samples_of(reference, "discriminator")
    loss, measured = discriminator_loss(
        objective,
        reference.generator,
        reference.discriminator,
        augment,
        samples,
        drawing(reference),
    )
    expected = reference.discriminator_loss(UPDATE, UPDATE, ROWS, samples.real, samples.labels)
    assert torch.allclose(loss, expected, rtol=1e-12)
    ours, theirs = (gradients(value, reference.discriminator) for value in (loss, expected))
    assert all(
        torch.allclose(a, b, rtol=1e-9, atol=1e-15) for a, b in zip(ours, theirs, strict=True)
    )
    assert {f"penalty_{p.name}" for p in objective.penalties} < measured.keys()

    samples = samples_of(reference, "generator")
    loss, _ = generator_loss(
        objective, reference.generator, reference.discriminator, augment, samples
    )
    expected = reference.generator_loss(UPDATE, UPDATE, ROWS, samples.real, samples.labels)
    assert torch.allclose(loss, expected, rtol=1e-12)
    ours, theirs = (gradients(value, reference.generator) for value in (loss, expected))
    assert all(
        torch.allclose(a, b, rtol=1e-9, atol=1e-15) for a, b in zip(ours, theirs, strict=True)
    )


@pytest.mark.parametrize("one_batch", [False, True])
@pytest.mark.parametrize(
    "kinds",
    [(), ("r2",), tuple(PENALTIES.names())],
    ids=["plain", "one side's penalty", "all penalties"],
)
def test_both_losses_compile_whole(
    digits: Path, tmp_path: Path, kinds: tuple[str, ...], one_batch: bool
) -> None:
    """One graph each, second derivatives included, with the same loss and the same gradients."""
    penalties = ", ".join(f"{{kind: {kind}, weight: 2}}" for kind in kinds)
    experiment = tiny(digits, tmp_path, f"objective.penalties=[{penalties}]")
    reference = Reference(experiment, torch.float64)
    generator, discriminator = reference.generator, reference.discriminator
    objective = objective_of(experiment, discriminator, one_batch)
    samples, draw = samples_of(reference, "discriminator"), drawing(reference)
    drawn: dict[tuple[str, tuple[int, ...]], Tensor] = {}

    def draw_once(purpose: str, shape: tuple[int, ...]) -> Tensor:
        if (purpose, shape) not in drawn:
            drawn[purpose, shape] = draw(purpose, shape)
        return drawn[purpose, shape]

    def play(draw: Callable[[str, tuple[int, ...]], Tensor]) -> Tensor:
        return discriminator_loss(
            objective, generator, discriminator, lambda x, _: x, samples, draw
        )[0]

    def make() -> Tensor:
        return generator_loss(objective, generator, discriminator, lambda x, _: x, samples)[0]

    expected, expected_of_generator = play(draw_once), make()
    table = dict(drawn)
    compiled = torch.compile(play, fullgraph=True, backend="aot_eager")
    loss = compiled(lambda purpose, shape: table[purpose, shape])
    assert torch.allclose(loss, expected)
    ours, theirs = (gradients(value, discriminator) for value in (loss, expected))
    assert all(map(torch.allclose, ours, theirs))
    loss = torch.compile(make, fullgraph=True, backend="aot_eager")()
    assert torch.allclose(loss, expected_of_generator)
    ours, theirs = (gradients(value, generator) for value in (loss, expected_of_generator))
    assert all(map(torch.allclose, ours, theirs))
