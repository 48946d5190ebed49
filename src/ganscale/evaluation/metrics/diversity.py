"""Diversity: how far generated images are from each other."""

from torch import Tensor

from ganscale.evaluation.metrics.metric import METRICS, Comparison, Metric
from ganscale.evaluation.metrics.sums import Sums


@METRICS.register("diversity")
class Diversity(Metric):
    """The spread of generated images, as a fraction of that of real images."""

    chart = "Diversity: 1 is that of the real images"
    lower_is_better = None

    def __call__(self, compared: Comparison) -> float:
        """Return the fraction; 1 means that they are as far from each other as real images."""
        return relative_spread(compared.real, compared.fake)


def relative_spread(real: Sums, fake: Sums) -> float:
    """Return the root of the features' total variance, divided by that of the real images."""

    def spread(sums: Sums) -> Tensor:
        return sums.products.trace() / sums.count - (sums.features / sums.count).square().sum()

    return float((spread(fake) / spread(real)).clamp(min=0).sqrt())
