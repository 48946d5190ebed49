"""A small network that tells how an image is rotated, for datasets without labels.

To see which way up an image is, a network must know what it shows: so it learns features without
any label (Gidaris, Singh and Komodakis 2018, "Unsupervised Representation Learning by Predicting
Image Rotations"). As there, it sees each image in all four rotations at once.
"""

import logging

import torch
from torch import Tensor
from typing_extensions import Self

from ganscale.data.reading.image_set import ImageSet
from ganscale.data.reading.readers import Batch, as_supported
from ganscale.evaluation.features.network import FEATURES, Features, Opening
from ganscale.evaluation.features.trained import TrainedNetwork

ROTATIONS = 4  # by 0, 90, 180 and 270 degrees
LOW_ACCURACY = 0.4  # chance gives 0.25

log = logging.getLogger("ganscale")


@FEATURES.register("rotations")
class Rotations(TrainedNetwork):
    """Maps pixels (N, C, H, W) to features (N, 128) without labels, learned from rotations.

    An image that is not square is seen as squares that cover it, evenly spaced along its longer
    side, and has the mean of their features. Rotated as a whole, its outline would give the
    rotation away.
    """

    key = "rotations"
    title = "rotation network"
    classifies = False

    def __init__(self, image_shape: tuple[int, int, int]):
        channels, height, width = image_shape
        side = min(height, width)
        super().__init__((channels, side, side), ROTATIONS)
        self._starts = _starts(max(height, width), side)

    @classmethod
    def untrained(cls, images: ImageSet) -> Self:
        """Return a network for these images."""
        return cls(images.image_shape)

    @classmethod
    def open(cls, opening: Opening) -> Self:
        """Return the dataset's network on every rank; warn if it has learned little."""
        network = super().open(opening)
        if float(network.accuracy) < LOW_ACCURACY:
            log.warning(
                "evaluation.features=rotations: it tells only %.1f %% of the rotations of "
                "held-out images (chance: 25 %%), so its scores say little: the images look alike "
                "when rotated, or are few. Pack them with labels, or choose other "
                "evaluation.features",
                100 * float(network.accuracy),
            )
        return network

    @property
    def description(self) -> str:
        """The network's name, with the share of held-out rotations that it tells correctly."""
        accuracy = float(self.accuracy)
        doubt = ": too few to be trusted" if accuracy < LOW_ACCURACY else ""
        return f"rotation features ({100 * accuracy:.1f} % right, by chance 25 %{doubt})"

    @property
    def questions_per_image(self) -> int:
        """Each of its squares in each rotation."""
        return ROTATIONS * len(self._starts)

    def ask(self, batch: Batch) -> Batch:
        """Return the squares of the images, in each rotation: the question is which.

        It does not look at the labels.
        """
        images = as_supported(batch.images)
        upright = torch.cat(self._squares(images))
        turned = [torch.rot90(upright, k, (2, 3)) for k in range(ROTATIONS)]
        answers = torch.arange(ROTATIONS).repeat_interleave(len(upright))
        return Batch(torch.cat(turned).view(batch.images.dtype), answers)

    @torch.no_grad()
    def measure(self, images: Tensor) -> Features:
        """Return the features, and no logits: the rotations are not classes of the images."""
        squares = [square.view(images.dtype) for square in self._squares(as_supported(images))]
        features = torch.stack([self(square) for square in squares]).mean(0)
        return Features(features, features.new_zeros(len(features), 0))

    def _squares(self, images: Tensor) -> list[Tensor]:
        side = min(images.shape[2:])
        longer = 2 if images.shape[2] > images.shape[3] else 3
        return [images.narrow(longer, start, side).contiguous() for start in self._starts]


def _starts(longer: int, side: int) -> list[int]:
    """Return where squares of `side` pixels start, which together cover `longer` pixels."""
    number = -(-longer // side)
    return [i * (longer - side) // max(number - 1, 1) for i in range(number)]
