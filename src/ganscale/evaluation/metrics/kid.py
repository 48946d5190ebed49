"""Kernel inception distance."""

import torch
from torch import Tensor

from ganscale.evaluation.metrics.metric import METRICS, Comparison, Metric
from ganscale.randomness import permutation

SUBSET = 1000  # images of one estimate (Bińkowski et al. 2018)


@METRICS.register("kid")
class KID(Metric):
    """The mean of the estimates."""

    title = "KID"
    lower_is_better = True

    def __call__(self, compared: Comparison) -> float:
        """Return the distance."""
        mean, _ = compared.once(_estimates)
        return mean


@METRICS.register("kid_deviation")
class KIDDeviation(Metric):
    """The standard deviation of the estimates."""

    lower_is_better = None

    def __call__(self, compared: Comparison) -> float:
        """Return the deviation."""
        _, deviation = compared.once(_estimates)
        return deviation


def _estimates(compared: Comparison) -> tuple[float, float]:
    return squared_mmd(compared.real_features, compared.fake_features)


def squared_mmd(real: Tensor, fake: Tensor) -> tuple[float, float]:
    """Unbiased squared MMD with a cubic kernel: mean and deviation over disjoint subsets.

    The subsets are drawn at random, the same ones every time: a set may be stored class by class.
    """
    from torchmetrics.image.kid import poly_mmd  # imports for a second

    subset = min(SUBSET, len(real), len(fake))
    number = min(len(real), len(fake)) // subset
    real, fake = _permuted(real, "real"), _permuted(fake, "generated")
    estimates = torch.stack(
        [
            poly_mmd(real[i : i + subset].double(), fake[i : i + subset].double())
            for i in range(0, number * subset, subset)
        ]
    )
    return float(estimates.mean()), float(estimates.std(correction=0))


def _permuted(features: Tensor, side: str) -> Tensor:
    rows = torch.from_numpy(permutation(0, f"kid/{side}", 0, len(features)))
    return features[rows.to(features.device)]
