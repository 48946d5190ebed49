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
        return frechet_distance(compared.real, compared.fake)


def frechet_distance(real: Sums, fake: Sums) -> float:
    """Return the Fréchet distance of two normal distributions of features (Heusel et al. 2017).

    Raises `GanscaleError` if it is NaN or infinite, which nobody may mistake for a score.
    """
    moments = (*real.mean_and_covariance(), *fake.mean_and_covariance())
    is_finite = all(bool(torch.isfinite(moment).all()) for moment in moments)
    distance = float(_of_moments(*moments)) if is_finite else math.nan
    if not math.isfinite(distance):
        raise GanscaleError(
            f"FID is {distance} for {int(fake.count):,} generated images against "
            f"{round(float(real.count)):,} real ones: it needs at least two images on each side, "
            "and features without NaN or infinite values",
            every_rank=True,
        )
    return max(0.0, distance)  # rounding can make it slightly negative for equal datasets


def _of_moments(mean: Tensor, covariance: Tensor, mean_2: Tensor, covariance_2: Tensor) -> Tensor:
    """Return |m - m₂|² + Tr(C + C₂ - 2 √(C C₂)), for means (width,) and covariances."""
    root: Tensor = torch.linalg.eigvals(covariance @ covariance_2).sqrt().real.sum()
    traces = covariance.trace() + covariance_2.trace()
    return (mean - mean_2).square().sum() + traces - 2 * root
