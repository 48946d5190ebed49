"""A small classifier trained on the dataset's own labels."""

import torch
from torch import Tensor
from typing_extensions import Self

from ganscale.data.reading.image_set import ImageSet
from ganscale.data.reading.readers import Batch, as_supported
from ganscale.errors import GanscaleError
from ganscale.evaluation.features.network import FEATURES, Features
from ganscale.evaluation.features.trained import TrainedNetwork


@FEATURES.register("classifier")
class Classifier(TrainedNetwork):
    """Maps pixels (N, C, H, W) to features (N, 128) and class logits (N, classes)."""

    key = "classifier"
    title = "feature classifier"
    knows_the_classes = True

    @classmethod
    def untrained(cls, images: ImageSet) -> Self:
        """Return a classifier of these images; raise `GanscaleError` for fewer than two classes."""
        if len(images.classes) < 2:
            raise GanscaleError(
                f"evaluation.features=classifier: {images.description} has no labels; pack it "
                "from class folders, or set evaluation.features=rotations, which needs none",
                every_rank=True,
            )
        return cls(images.image_shape, len(images.classes))

    @property
    def description(self) -> str:
        """The network's name, with the share of held-out images that it classifies correctly."""
        return f"classifier features ({100 * float(self.accuracy):.1f} % right)"

    def ask(self, batch: Batch) -> Batch:
        """Return the samples that have a label: the question is which."""
        chosen = batch.labels >= 0
        images = as_supported(batch.images)[chosen.to(batch.images.device)]
        return Batch(images.view(batch.images.dtype), batch.labels[chosen])

    @torch.no_grad()
    def measure(self, images: Tensor) -> Features:
        """Return the features, and logits for the dataset's own classes."""
        features = self(images)
        return Features(features, self.head(features))
