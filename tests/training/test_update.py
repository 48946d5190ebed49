"""One step, against the update written out by hand with plain torch."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from ganscale.config import Experiment
from ganscale.training.statistics import Statistics
from tests.conftest import tiny
from tests.models import make_step
from tests.reference import by_hand, real_batches

GAMES = {
    "textbook": (),
    "accumulation": ("train.accumulation=4",),
    "relativistic": ("objective.loss=relativistic",),
    "lazy R1, two steps": (
        "objective.penalties=[{kind: r1, weight: 3, every: 2}]",
        "discriminator.steps=2",
    ),
    "R1 and R2": ("objective.penalties=[{kind: r1, weight: 3}, {kind: r2, weight: 1, every: 2}]",),
    "fakes shared": (
        "objective.share_fakes=true",
        "discriminator.steps=3",
        "train.accumulation=2",
        "augment.policy=[translation]",
    ),
    "mirrored": (
        "data.flip=true",
        "objective.loss=relativistic",  # the generator's loss has real images, too
        "discriminator.optimizer.eps=1.0e-6",  # no bias of the logit has a gradient but rounding
        "discriminator.steps=2",
        "train.accumulation=2",
    ),
    "clipped": ("generator.clip_norm=0.01", "discriminator.clip_norm=0.01"),
    "WGAN-GP accumulated": (
        "objective.loss=wasserstein",
        "discriminator.optimizer.eps=1.0e-6",  # else Adam enlarges the rounding of zero gradients
        "objective.penalties=[{kind: wgan_gp, weight: 10}]",
        "discriminator.steps=3",
        "train.accumulation=2",
    ),
    "smoothed labels": ("objective.label_smoothing=0.1",),
    "smoothed least squares": ("objective.loss=least_squares", "objective.label_smoothing=0.2"),
    "conditional": (
        "data.classes=10",
        "objective.loss=hinge",
        "objective.penalties=[{kind: wgan_gp, weight: 2}]",
        "train.accumulation=2",
    ),
    "DRAGAN and R2": (
        "objective.penalties=[{kind: dragan, weight: 5},{kind: r2, weight: 1}]",
        "train.accumulation=2",
    ),
}


@pytest.mark.parametrize("name", GAMES)
def test_a_step_is_the_update_of_the_papers(digits: Path, tmp_path: Path, name: str) -> None:
    experiment = tiny(digits, tmp_path, *GAMES[name])
    model, step = make_step(experiment)
    n = experiment.discriminator.steps
    for k in range(4):
        step(k, real_batches(experiment, k * n, n), measure=k % 2 == 0)
    played = by_hand(experiment, 4)
    networks = (played.generator, played.discriminator)
    for ours, theirs in zip(
        (model.generator.module, model.discriminator.module), networks, strict=True
    ):
        for (name_, a), b in zip(ours.named_parameters(), theirs.parameters(), strict=True):
            assert torch.allclose(a.double(), b, rtol=1e-4, atol=1e-6), name_


BOTH = "objective.penalties=[{{kind: r1, weight: 1{0}}}, {{kind: r2, weight: 1{0}}}]"


@pytest.mark.parametrize(
    ("passes", "overrides"),
    [
        (1, ()),
        (1, (BOTH.format(""),)),
        (2, ("objective.penalties=[{kind: r2, weight: 1}]",)),  # real images need no gradient
        (3, (BOTH.format(""), "train.precision=bf16")),
        (1, (BOTH.format(", precision: network"), "train.precision=bf16")),
        (2, ("objective.penalties=[{kind: wgan_gp, weight: 1}]",)),
    ],
)
def test_penalties_at_the_losss_own_images_cost_no_pass_of_their_own(
    digits: Path, tmp_path: Path, passes: int, overrides: tuple[str, ...]
) -> None:
    experiment = tiny(digits, tmp_path, *overrides)
    model, step = make_step(experiment)
    seen: list[torch.dtype] = []
    logit = model.discriminator.module.get_submodule("logit")
    logit.register_forward_hook(lambda _, inputs, output: seen.append(output.dtype))
    step.update(step.phases[0], 0, real_batches(experiment, 0, 1)[0], Statistics(), False)
    assert len(seen) == passes
    if experiment.train.precision == "bf16":
        assert seen == [torch.bfloat16] + [torch.float32] * (passes - 1)


def test_batch_norm_judges_real_and_fake_apart(digits: Path, tmp_path: Path) -> None:
    experiment = dcgan(digits, tmp_path)
    model, step = make_step(experiment)
    assert not step.losses.one_batch
    step(0, real_batches(experiment, 0, 1), measure=True)
    discriminator = by_hand(experiment, 1).discriminator
    for a, b in zip(
        model.discriminator.module.parameters(), discriminator.parameters(), strict=True
    ):
        assert torch.allclose(a.double(), b, rtol=1e-3, atol=1e-5)


def dcgan(digits: Path, folder: Path) -> Experiment:
    base = tiny(digits, folder).model_dump(mode="json")
    for player in ("generator", "discriminator"):
        base[player]["network"] = {"architecture": "dcgan", "width": 4}
    return Experiment.model_validate(base)


def test_the_generators_update_leaves_no_gradient_on_the_discriminator(
    digits: Path, tmp_path: Path
) -> None:
    experiment = tiny(digits, tmp_path)
    model, step = make_step(experiment)
    images = real_batches(experiment, 0, 1)[0]
    before = [p.clone() for p in model.discriminator.module.parameters()]
    touched: list[Tensor] = []
    for parameter in model.discriminator.module.parameters():
        parameter.register_hook(touched.append)
    step.update(step.phases[1], 0, images, Statistics(), measure=False)
    assert touched == []
    for parameter, old in zip(model.discriminator.module.parameters(), before, strict=True):
        assert parameter.grad is None
        assert parameter.requires_grad
        assert torch.equal(parameter, old)


def test_the_discriminators_update_builds_no_graph_through_the_generator(
    digits: Path, tmp_path: Path
) -> None:
    experiment = tiny(digits, tmp_path)
    model, step = make_step(experiment)
    images = real_batches(experiment, 0, 1)[0]
    step.update(step.phases[0], 0, images, Statistics(), measure=False)
    assert all(p.grad is None for p in model.generator.module.parameters())


def test_a_lazy_penalty_is_measured_where_it_is_due_and_only_there(
    digits: Path, tmp_path: Path
) -> None:
    lazy = "objective.penalties=[{kind: r1, weight: 3, every: 4}]"
    experiment = tiny(digits, tmp_path, lazy)
    _, step = make_step(experiment)
    for number, measure in ((3, True), (4, False), (5, True)):
        statistics = step(number, real_batches(experiment, number, 1), measure)
        assert ("penalty_r1" in statistics.values) == (number == 4)


def test_clipping_bounds_the_gradient(digits: Path, tmp_path: Path) -> None:
    experiment = tiny(digits, tmp_path, "discriminator.clip_norm=1e-3")
    model, step = make_step(experiment)
    norms: list[float] = []
    optimizer_step = model.discriminator.optimizer.step

    def watched() -> None:
        gradients = [p.grad for p in model.discriminator.module.parameters()]
        norms.append(torch.nn.utils.get_total_norm(gradients).item())
        optimizer_step()

    model.discriminator.optimizer.step = watched
    statistics = step(0, real_batches(experiment, 0, 1), measure=True)
    assert norms[0] == pytest.approx(1e-3, rel=1e-2)
    assert statistics.means()["gradient_norm_discriminator"] > 1e-2  # before clipping
