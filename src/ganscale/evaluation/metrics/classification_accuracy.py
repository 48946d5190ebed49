"""The classification accuracy score: what a classifier learns from generated images."""

import torch

from ganscale.evaluation.metrics.metric import METRICS, Comparison, Metric


@METRICS.register("classification_accuracy")
class ClassificationAccuracy(Metric):
    """The accuracy on real images of a classifier that was trained on generated ones.

    It is the classification accuracy score of Ravuri and Vinyals (2019, "Classification accuracy
    score for conditional generative models"). The classifier is that of `evaluation.features`, and
    is trained as there: but each image that it sees is generated, with the label of the real image
    in its place. Both classifiers are tested on the same real images, which neither has seen.
    """

    title = "CAS"
    chart = "CAS: the accuracy of a classifier that has seen generated images only"
    needs_labels = True
    optional = True

    def __call__(self, compared: Comparison) -> float:
        """Return the share of right answers."""
        return compared.on_rank_0(_learnt_from_generated)

    def details(self, compared: Comparison) -> dict[str, float]:
        """Return the accuracy of the same classifier trained on real images."""
        return {"trained on real images": compared.once_for_real(_learnt_from_real)}


def _learnt_from_generated(compared: Comparison) -> float:
    # These imports bring in all that makes features.
    from ganscale.evaluation.features.classifier import Classifier
    from ganscale.evaluation.features.trained import train
    from ganscale.evaluation.substitutes import SubstituteReader

    sources = compared.sources
    classifier = Classifier.untrained(sources.images)
    reader, order = SubstituteReader(sources), sources.images.order_of_all()
    with torch.enable_grad():
        train(classifier, reader, order, sources.device, "classifier of generated images (CAS)")
    return float(classifier.accuracy)


def _learnt_from_real(compared: Comparison) -> float:
    """Return the accuracy of the dataset's own classifier, which is trained if it is not cached."""
    from ganscale.evaluation.features.classifier import Classifier
    from ganscale.evaluation.features.network import Opening

    sources = compared.sources
    with torch.enable_grad():
        opening = Opening(
            sources.experiment, sources.images, sources.reader, sources.device, sources.cache
        )
        return float(Classifier.open(opening).accuracy)
