"""KID, the kernel inception distance, and its deviation."""

import torch
from torch import Tensor

from ganscale.evaluation.metrics.metric import METRICS, Comparison, Metric
from ganscale.host_randomness import permutation

SUBSET = 1000  # images per estimate (Bińkowski et al. 2018)


@METRICS.register("kid")
class KID(Metric):
    """The kernel inception distance: the mean of the estimates from disjoint subsets."""

    title = "KID"
    chart = "KID: lower is better"
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
    subset = min(SUBSET, len(real), len(fake))
    number = min(len(real), len(fake)) // subset
    real, fake = _permute(real, "real"), _permute(fake, "generated")
    estimates = torch.stack(
        [
            _unbiased_mmd(real[i : i + subset].double(), fake[i : i + subset].double())
            for i in range(0, number * subset, subset)
        ]
    )
    return float(estimates.mean()), float(estimates.std(correction=0))


def _unbiased_mmd(real: Tensor, fake: Tensor) -> Tensor:
    """Return the estimate from as many real as generated features (n, width)."""
    number = len(real)
    within = _sum_of_pairs(real) + _sum_of_pairs(fake)
    between = _cubic_kernel(real, fake).sum(0).sum()
    return within / (number * (number - 1)) - 2 * between / number**2


def _sum_of_pairs(features: Tensor) -> Tensor:
    """Return the sum of the kernel over all pairs of two different rows."""
    kernel = _cubic_kernel(features, features)
    return (kernel.sum(1) - kernel.diag()).sum()


def _cubic_kernel(x: Tensor, y: Tensor) -> Tensor:
    scaled: Tensor = x @ y.T * (1.0 / x.shape[1])
    return (scaled + 1) ** 3


def _permute(features: Tensor, side: str) -> Tensor:
    rows = torch.from_numpy(permutation(0, f"kid/{side}", 0, len(features)))
    return features[rows.to(features.device)]
