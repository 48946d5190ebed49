"""Path lengths against derivatives, torchmetrics and StyleGAN's trimming."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchmetrics.functional.image import perceptual_path_length

from ganscale import randomness
from ganscale.engines.distributed import Ranks
from ganscale.errors import GanscaleError
from ganscale.evaluation.evaluator import Evaluator
from ganscale.evaluation.features import trained
from ganscale.evaluation.metrics.feature_path_length import (
    EPSILON,
    FeaturePathLength,
    path_lengths,
    trimmed_mean,
)
from ganscale.gan.sampling import NotFiniteError, interpolation
from ganscale.networks import first_generator
from tests.conftest import tiny
from tests.evaluation.metrics.compared import comparison
from tests.evaluation.ranks import on_ranks
from tests.evaluation.replay import HOST, make

SAMPLES = 101  # so that both percentiles are lengths


@pytest.fixture(scope="module")
def scored(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Evaluator, nn.Module]:
    folder = tmp_path_factory.mktemp("paths")
    sizes = (f"evaluation.samples={SAMPLES}", "evaluation.batch_size=30")
    experiment = tiny(digits, folder, *sizes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trained, "MIN_STEPS", 100)
        return make(experiment, folder), first_generator(experiment).eval()


def ends(evaluator: Evaluator) -> tuple[list[Tensor], Tensor]:
    """The latents at both ends, and the places on the paths between them, float64."""
    latent = evaluator._experiment.latent
    rows = range(SAMPLES)
    latents = [randomness.latents(latent, 0, f"path/{i}", 0, rows, HOST).double() for i in (0, 1)]
    return latents, randomness.uniform(0, "path/t", 0, rows, (1,), HOST).double()


def test_a_length_is_the_squared_derivative_of_the_features(
    scored: tuple[Evaluator, nn.Module],
) -> None:
    evaluator, generator = scored
    lengths = path_lengths(comparison(evaluator, generator, Ranks()), range(SAMPLES))
    precise, body = (
        copy.deepcopy(generator).double(),
        copy.deepcopy(evaluator.network.body).double(),
    )
    for layer in body.modules():
        if isinstance(layer, nn.ReLU):
            layer.inplace = False
    (a, b), t = ends(evaluator)

    def features(t: Tensor) -> Tensor:
        found: Tensor = body(precise(interpolation("normal")(a, b, t)))
        return found

    _, speed = torch.func.jvp(features, (t,), (torch.ones_like(t),))
    expected = speed.square().sum(1)
    assert torch.allclose(lengths, expected, rtol=0.1)
    assert trimmed_mean(lengths.numpy()) == pytest.approx(
        trimmed_mean(expected.detach().numpy()), rel=5e-3
    )


def test_the_mean_is_torchmetrics_on_any_number_of_ranks(
    scored: tuple[Evaluator, nn.Module],
) -> None:
    evaluator, generator = scored
    (a, b), t = ends(evaluator)
    between = interpolation("normal")
    here, there = between(a, b, t), between(a, b, t + EPSILON)
    # They start where a path does, and go a share ε of the way to its end.
    starts = iter([here, here + (there - here) / EPSILON])

    class Theirs(nn.Module):
        def sample(self, _: int) -> Tensor:
            return next(starts)

        def forward(self, latents: Tensor) -> Tensor:
            images: Tensor = generator(latents.float())
            return (images + 1) * 127.5

    class Distance(nn.Module):
        def forward(self, *images: Tensor) -> Tensor:
            x, y = (evaluator.network.measure(i.float()).features.double() for i in images)
            return (x - y).square().sum(1)

    theirs, _, kept = perceptual_path_length(
        Theirs(), SAMPLES, batch_size=30, resize=None, sim_net=Distance()
    )
    assert len(kept) == SAMPLES - 2

    def score(ranks: Ranks) -> float:
        return FeaturePathLength()(comparison(evaluator, generator, ranks))

    alone = on_ranks(1, score)
    assert on_ranks(3, score) == alone * 3
    assert alone[0] == pytest.approx(float(theirs), rel=2e-3)


def test_a_tenth_of_outliers_counts_but_the_last_hundredth_does_not() -> None:
    lengths = np.arange(1001.0)
    assert trimmed_mean(lengths) == 500
    lengths[-5:] = 1e9
    assert trimmed_mean(lengths) == pytest.approx(500, abs=1)
    lengths[-100:] = 1e9
    assert trimmed_mean(lengths) > 1e7


def test_features_of_pixels_alone_are_refused_and_so_is_nan(
    digits: Path, tmp_path: Path, scored: tuple[Evaluator, nn.Module]
) -> None:
    own = tmp_path / "own.py"
    own.write_text(
        "from ganscale.evaluation.features.network import FeatureNetwork, Features\n"
        "class Own(FeatureNetwork):\n"
        "    def measure(self, images):\n"
        "        return Features(images.float().flatten(1)[:, :3], images.float().flatten(1))\n"
    )
    asked = ("evaluation.metrics=[feature_path_length]", f"evaluation.features={own}:Own")
    with pytest.raises(GanscaleError, match="not rounded to pixels, which Own features are not"):
        make(tiny(digits, tmp_path, *asked), tmp_path)

    class Diverged(nn.Module):
        def forward(self, latents: Tensor) -> Tensor:
            return torch.full((len(latents), 1, 28, 28), torch.nan)

    with pytest.raises(GanscaleError, match=str(NotFiniteError())[:50]):
        FeaturePathLength()(comparison(scored[0], Diverged(), Ranks()))
