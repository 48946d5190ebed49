"""Class entropy: how evenly the classes are generated."""

import torch

from ganscale.evaluation.metrics.metric import METRICS, Comparison, Metric
from ganscale.evaluation.metrics.sums import Sums


@METRICS.register("class_entropy")
class ClassEntropy(Metric):
    """The entropy of the classes of generated images."""

    chart = "Diversity: 1 is that of the real images"
    lower_is_better = None
    needs_classes = True

    def __call__(self, compared: Comparison) -> float:
        """Return the entropy as a fraction of its maximum."""
        return relative_entropy(compared.fake)


def relative_entropy(fake: Sums) -> float:
    """Return the entropy of the generated classes, divided by that of equally frequent classes."""
    shares = fake.histogram / fake.count
    entropy = -torch.special.xlogy(shares, shares).sum()
    return float(entropy / torch.log(torch.tensor(float(len(shares)))))
