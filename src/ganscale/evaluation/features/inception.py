"""Inception v3 with the weights that define FID, as ported by torch-fidelity."""

import io
from collections.abc import Callable
from types import ModuleType

import torch
from torch import Tensor

from ganscale.engines.distributed import Tensors
from ganscale.errors import GanscaleError
from ganscale.evaluation.features.network import FEATURES, Features
from ganscale.evaluation.features.published import PublishedNetwork, as_rgb
from ganscale.evaluation.features.resizing import resize_bicubic
from ganscale.evaluation.features.weights import Source

SIDE = 299
LAYERS = (
    *("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "MaxPool_1"),
    *("Conv2d_3b_1x1", "Conv2d_4a_3x3", "MaxPool_2"),
    *("Mixed_5b", "Mixed_5c", "Mixed_5d"),
    *("Mixed_6a", "Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"),
    *("Mixed_7a", "Mixed_7b", "Mixed_7c", "AvgPool"),
)
WEIGHTS = "weights-inception-2015-12-05-6726825d.pth"


@FEATURES.register("inception")
class Inception(PublishedNetwork):
    """Maps images (N, C, H, W) to Inception's pool features (N, 2048) and logits (N, 1008).

    Images are resized as TensorFlow 1 did it for the first FIDs (Heusel et al. 2017).
    """

    key = "inception"
    title = "Inception v3 features"
    measures_unrounded = True
    source = Source(
        title="Inception",
        address=f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{WEIGHTS}",
        file=WEIGHTS,
        sha256="6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
        megabytes=96,
    )

    def __init__(self, weights: Tensors):
        """Build torch-fidelity's network; raise `GanscaleError` if the package is missing."""
        super().__init__(weights)
        content = io.BytesIO()
        torch.save(weights, content)
        content.seek(0)
        self._network = _torch_fidelity().FeatureExtractorInceptionV3(
            "inception-v3-compat", ["2048", "logits_unbiased"], content
        )

    @torch.no_grad()
    def measure(self, images: Tensor) -> Features:
        """Return features and ImageNet's unbiased logits."""
        x = (self._resize(as_rgb(images)) - 128) / 128
        for name in LAYERS:
            x = self._network.get_submodule(name)(x)
        features = x.flatten(1)
        return Features(features, features.mm(self._network.fc.weight.T))

    def _resize(self, images: Tensor) -> Tensor:
        """Return pixels (N, 3, 299, 299) from 0 to 255, float32."""
        resize: Callable[..., Tensor] = _torch_fidelity().interpolate_bilinear_2d_like_tensorflow1x
        return resize(images, size=(SIDE, SIDE), align_corners=False)


@FEATURES.register("inception_clean")
class CleanInception(Inception):
    """Maps images as `inception` does, resized as in clean-fid (Parmar et al. 2022).

    Pillow's bicubic filter resizes them in float32, each channel by itself, without rounding.
    """

    key = "inception_clean"
    title = "Inception v3 features after clean-fid's resizing"

    def _resize(self, images: Tensor) -> Tensor:
        """Return pixels (N, 3, 299, 299) from 0 to 255, float32."""
        return resize_bicubic(images, SIDE, SIDE)


def _torch_fidelity() -> ModuleType:
    try:
        from torch_fidelity import feature_extractor_inceptionv3 as fidelity
    except ImportError:
        raise GanscaleError(
            "Inception features need torch-fidelity: pip install 'ganscale[inception]'",
            every_rank=True,
        ) from None
    module: ModuleType = fidelity
    return module
