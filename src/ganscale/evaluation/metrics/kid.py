"""KID, the kernel inception distance, and its deviation."""

import torch
from torch import Tensor

from ganscale.evaluation.metrics.metric import METRICS, Comparison, Metric
from ganscale.randomness import permutation

SUBSET = 1000  # images per estimate (Bińkowski et al. 2018)


@METRICS.register("kid")
class KID(Metric):
    """The kernel inception distance: the mean of the estimates from disjoint subsets."""

    title = "KID"
    lower_is_better = True

    def __call__(self, compared: Comparison) -> float:
        """Return the distance."""
        mean, _ = compared.once(_estimates)
        return mean


@METRICS.register("kid_deviation")
class KIDDeviation(Metric):
    """The standard deviation of the estimates of KID."""

    lower_is_better = None

    def __call__(self, compared: Comparison) -> float:
        """Return the deviation."""
        _, deviation = compared.once(_estimates)
        return deviation


def _estimates(compared: Comparison) -> tuple[float, float]:
    return squared_mmd(compared.real_features, compared.fake_features)


def squared_mmd(real: Tensor, fake: Tensor) -> tuple[float, float]:
    """Return mean and deviation, over disjoint subsets, of the unbiased squared MMD (cubic kernel).

    The subsets are random, because a dataset may be stored class by class, but the same each time.
    """
    from torchmetrics.image.kid import poly_mmd  # slow to import

    subset = min(SUBSET, len(real), len(fake))
    number = min(len(real), len(fake)) // subset
    real, fake = _permute(real, "real"), _permute(fake, "generated")
    estimates = torch.stack(
        [
            poly_mmd(real[i : i + subset].double(), fake[i : i + subset].double())
            for i in range(0, number * subset, subset)
        ]
    )
    return float(estimates.mean()), float(estimates.std(correction=0))


def _permute(features: Tensor, side: str) -> Tensor:
    rows = torch.from_numpy(permutation(0, f"kid/{side}", 0, len(features)))
    return features[rows.to(features.device)]
