"""The inception score."""

import torch

from ganscale.evaluation.metrics.metric import METRICS, Comparison, Metric
from ganscale.evaluation.metrics.sums import Sums


@METRICS.register("inception_score")
class InceptionScore(Metric):
    """A score for images with certain classes (according to the network) that are all frequent."""

    title = "IS"
    needs_logits = True

    def __call__(self, compared: Comparison) -> float:
        """Return the score."""
        return exponential_information(compared.fake)


def exponential_information(fake: Sums) -> float:
    """Return exp of the mutual information between an image and its class (Salimans et al. 2016).

    It is computed over all images at once, whereas papers average over ten parts, whose scores
    differ slightly by chance.
    """
    mean = fake.probabilities / fake.count
    information = fake.negentropy / fake.count - torch.special.xlogy(mean, mean).sum()
    return float(information.exp())
