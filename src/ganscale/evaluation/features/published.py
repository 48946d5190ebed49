"""Networks with published weights, which papers compute their scores with."""

import logging
from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn
from typing_extensions import Self

from ganscale.engines.distributed import Tensors
from ganscale.errors import GanscaleError, in_one_line
from ganscale.evaluation.features.network import FeatureNetwork, Opening
from ganscale.evaluation.features.weights import Source, open_weights

DEEP_TO_BYTE = 257  # 65535 / 255

log = logging.getLogger("ganscale")


class PublishedNetwork(nn.Module, FeatureNetwork):
    """A network for RGB images of 8 bits, with weights from a file.

    Grey images get three equal channels, and 16 bits are rounded to 8.
    """

    source: ClassVar[Source]
    title: ClassVar[str]
    """What the scores call its features."""
    has_published_weights: bool = True
    """False if the user's file is another one than the published."""

    @abstractmethod
    def __init__(self, weights: Tensors):
        """Build the network; raise any error for weights that are not its own."""
        super().__init__()

    @classmethod
    def open(cls, opening: Opening) -> Self:
        """Return the network with the weights that `evaluation.weights` names."""
        channels = opening.images.image_shape[0]
        if channels not in (1, 3):
            raise GanscaleError(
                f"evaluation.features={cls.key}: {cls.source.title} sees grey or RGB images, and "
                f"data.channels={channels}; use classifier or rotations, or features of your own",
                every_rank=True,
            )
        return cls.from_file(opening.experiment.evaluation.weights, opening.device)

    @classmethod
    def from_file(cls, given: str | None, device: torch.device) -> Self:
        """Return the network with rank 0's weights: the given file's, or the downloaded ones.

        All ranks must call this. Raises `GanscaleError` if there are none, or if they do not fit.
        """
        weights = open_weights(cls.source, given, device)
        try:
            network = cls(weights.tensors)
        except (RuntimeError, KeyError, ValueError) as error:
            why = in_one_line(error)[:200]
            raise cls.source.refusal(weights.where, f"{type(error).__name__}: {why}") from None
        network.checksum = weights.sha256
        network.has_published_weights = weights.sha256 == cls.source.sha256
        if not network.has_published_weights:
            log.warning(
                "evaluation.weights=%s is not the published file of %s (its SHA-256 is %s): "
                "scores are not comparable with papers'",
                weights.where,
                cls.source.title,
                weights.sha256,
            )
        return network.to(device).eval().requires_grad_(False)

    @property
    def description(self) -> str:
        """The features' title, and the beginning of the checksum of unpublished weights."""
        if self.has_published_weights:
            return self.title
        return f"{self.title} (unpublished weights {self.checksum[:8]})"


def as_rgb(images: Tensor) -> Tensor:
    """Return images (N, 1 or 3, H, W) as RGB (N, 3, H, W), float32, from 0 to 255.

    Pixels become whole numbers; images in [-1, 1], float32, are not rounded.
    """
    if images.dtype == torch.uint8:
        images = images.float()
    elif images.is_floating_point():
        images = (images + 1) * 127.5
    else:
        images = (images.float() / DEEP_TO_BYTE).round_()
    return images if images.shape[1] == 3 else images.expand(-1, 3, -1, -1)


def normalise(images: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Return pixels (N, 3, H, W) from 0 to 255 as (pixels / 255 - mean) / std of each channel."""
    means, stds = (torch.tensor(v, device=images.device).view(1, 3, 1, 1) for v in (mean, std))
    return (images / 255 - means) / stds
