"""Inception score."""

import torch

from ganscale.evaluation.metrics.metric import METRICS, Comparison, Metric
from ganscale.evaluation.metrics.sums import Sums


@METRICS.register("inception_score")
class InceptionScore(Metric):
    """How sure the network is of an image's class, and how evenly it finds all classes."""

    title = "IS"

    def __call__(self, compared: Comparison) -> float:
        """Return the score."""
        return exponential_information(compared.fake)


def exponential_information(fake: Sums) -> float:
    """Exponential of the information an image gives on its class (Salimans et al. 2016).

    Over all images at once, where papers take the mean over ten parts, which lie a little higher
    or lower by chance.
    """
    mean = fake.probabilities / fake.count
    information = fake.negentropy / fake.count - torch.special.xlogy(mean, mean).sum()
    return float(information.exp())
