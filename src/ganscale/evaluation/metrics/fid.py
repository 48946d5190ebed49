"""FID, the Fréchet inception distance."""

import math

import torch
from torch import Tensor

from ganscale.errors import GanscaleError
from ganscale.evaluation.metrics.metric import METRICS, Comparison, Metric
from ganscale.evaluation.metrics.sums import Sums


@METRICS.register("fid")
class FID(Metric):
    """The Fréchet distance between normal distributions fitted to real and generated features."""

    title = "FID"
    chart = "FID: lower is better"
    lower_is_better = True

    def __call__(self, compared: Comparison) -> float:
        """Return the distance."""
        return compared.on_rank_0(_distance)


def _distance(compared: Comparison) -> float:
    return frechet_distance(compared.real, compared.fake, compared.once_for_real(_real_root))


def _real_root(compared: Comparison) -> Tensor:
    return square_root(compared.real.mean_and_covariance()[1])


def frechet_distance(real: Sums, fake: Sums, real_root: Tensor | None = None) -> float:
    """Return the Fréchet distance of two normal distributions of features (Heusel et al. 2017).

    `real_root` is the square root of the real covariance, where that is known. Raises
    `GanscaleError` if the distance is NaN or infinite, which nobody may mistake for a score.
    """
    moments = (*real.mean_and_covariance(), *fake.mean_and_covariance())
    is_finite = all(bool(torch.isfinite(moment).all()) for moment in moments)
    distance = float(_of_moments(*moments, real_root)) if is_finite else math.nan
    if not math.isfinite(distance):
        raise GanscaleError(
            f"FID is {distance} for {int(fake.count):,} generated images against "
            f"{round(float(real.count)):,} real ones: it needs at least two images on each side, "
            "and features without NaN or infinite values",
            every_rank=True,
        )
    return max(0.0, distance)  # rounding can make it slightly negative for equal datasets


def _of_moments(
    mean: Tensor, covariance: Tensor, mean_2: Tensor, covariance_2: Tensor, root: Tensor | None
) -> Tensor:
    """Return |m - m₂|² + Tr(C + C₂ - 2 √(C C₂)), for means (width,) and covariances.

    C C₂ has the eigenvalues of √C C₂ √C, which is symmetric: they are found several times as
    fast. `root` is √C, where it is known.
    """
    root = square_root(covariance) if root is None else root
    product = root @ covariance_2 @ root
    of_root = torch.linalg.eigvalsh((product + product.T) / 2).clamp(min=0).sqrt().sum()
    traces = covariance.trace() + covariance_2.trace()
    distance: Tensor = (mean - mean_2).square().sum() + traces - 2 * of_root
    return distance


def square_root(covariance: Tensor) -> Tensor:
    """Return the symmetric square root of a covariance (width, width), float64.

    Its values are NaN if those of the covariance are not all finite.
    """
    if not torch.isfinite(covariance).all():
        return torch.full_like(covariance, torch.nan)
    values, vectors = torch.linalg.eigh(covariance)
    root: Tensor = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    return root
