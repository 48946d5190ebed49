"""How far images are from each other."""

from torch import Tensor

from ganscale.evaluation.metrics.metric import METRICS, Comparison, Metric
from ganscale.evaluation.metrics.sums import Sums


@METRICS.register("diversity")
class Diversity(Metric):
    """The spread of generated images, as a share of that of real ones."""

    chart = "Diversity: 1 is that of the real images"
    lower_is_better = None

    def __call__(self, compared: Comparison) -> float:
        """Return the share."""
        return relative_spread(compared.real, compared.fake)


def relative_spread(real: Sums, fake: Sums) -> float:
    """How far generated images are from each other, as a share of real ones (1: as far)."""

    def spread(sums: Sums) -> Tensor:
        return sums.products.trace() / sums.count - (sums.features / sums.count).square().sum()

    return float((spread(fake) / spread(real)).clamp(min=0).sqrt())
