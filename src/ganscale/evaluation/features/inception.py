"""Inception v3 with the weights that define FID, as ported by torch-fidelity."""

import hashlib
import io
import logging
import sys
from contextlib import redirect_stdout
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor, nn

from ganscale.engines.distributed import Tensors, tensors_from_rank_0
from ganscale.errors import GanscaleError
from ganscale.evaluation.features.network import FEATURES, FeatureNetwork, Features, Opening
from ganscale.files import read_regular_file

DEEP_TO_BYTE = 257  # 65535 / 255
MAX_BYTES = 1 << 30  # torch-fidelity's file has 95 million bytes

log = logging.getLogger("ganscale")


@FEATURES.register("inception")
class Inception(nn.Module, FeatureNetwork):
    """Maps uint8 images (N, C, H, W) to pool features (N, 2048) and unbiased logits (N, 1008)."""

    key = "inception"
    knows_the_classes = False
    measures_unrounded = True
    description = "Inception v3 features"

    def __init__(self, content: bytes, where: str):
        """Load `content`, torch-fidelity's weights file; messages call it `where`.

        Raises `GanscaleError` if the package is missing or if the file is not that one.
        """
        super().__init__()
        fidelity = _torch_fidelity()
        self.checksum = hashlib.sha256(content).hexdigest()
        try:
            # torch-fidelity unpickles the file, so check first that it holds nothing but tensors.
            torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
            self._network = fidelity.FeatureExtractorInceptionV3(
                "inception-v3-compat", ["2048", "logits_unbiased"], io.BytesIO(content)
            )
        except Exception as error:  # torch raises many types of errors for an invalid file
            first = (str(error).splitlines() or [type(error).__name__])[0]
            raise GanscaleError(
                f"Inception weights '{where}' cannot be used ({first}); set "
                "evaluation.inception_weights to torch-fidelity's "
                f"{fidelity.URL_INCEPTION_V3.rsplit('/', 1)[-1]}",
                every_rank=True,
            ) from None

    @classmethod
    def open(cls, opening: Opening) -> "Inception":
        """Return the network with the weights that `evaluation.inception_weights` names."""
        channels = opening.images.image_shape[0]
        if channels not in (1, 3):
            raise GanscaleError(
                "evaluation.features=inception: Inception sees grey or RGB images, and "
                f"data.channels={channels}; use classifier, or features of your own",
                every_rank=True,
            )
        weights = opening.experiment.evaluation.inception_weights
        return open_inception(Path(weights) if weights else None, opening.device)

    @torch.no_grad()
    def measure(self, images: Tensor) -> Features:
        """Return features and ImageNet's logits.

        Grey images get three equal channels, and 16 bits are rounded to the eight that it takes.
        """
        if images.is_floating_point():
            return self._measure_unrounded(images.expand(-1, 3, -1, -1))
        if images.dtype != torch.uint8:
            images = (images.float() / DEEP_TO_BYTE).round_().to(torch.uint8)
        rgb = images if images.shape[1] == 3 else images.expand(-1, 3, -1, -1)
        return Features(*self._network(rgb))

    def _measure_unrounded(self, images: Tensor) -> Features:
        """Measure RGB images in [-1, 1], which torch-fidelity's network would refuse.

        Its first convolution is given them, resized and scaled as the network does with pixels.
        """
        side: int = self._network.INPUT_IMAGE_SIZE
        resized = _torch_fidelity().interpolate_bilinear_2d_like_tensorflow1x(
            (images + 1) * 127.5, size=(side, side), align_corners=False
        )
        first = self._network.Conv2d_1a_3x3
        hook = first.register_forward_pre_hook(lambda *_: ((resized - 128) / 128,))
        try:
            blank = torch.zeros(len(images), 3, 1, 1, dtype=torch.uint8, device=images.device)
            return Features(*self._network(blank))
        finally:
            hook.remove()


def open_inception(weights: Path | None, device: torch.device) -> Inception:
    """Return the network with rank 0's weights. All ranks must call this.

    `weights` is torch-fidelity's file; None uses the downloaded one, or downloads it. Raises
    `GanscaleError` if the package is missing, or if the file neither exists nor can be downloaded.
    """
    address: str = _torch_fidelity().URL_INCEPTION_V3
    where = str(weights or _cached_path(address))

    def read() -> Tensors:
        path = weights or _download_once(address)
        try:
            content = bytearray(read_regular_file(path, MAX_BYTES))
            return {"file": torch.frombuffer(content, dtype=torch.uint8)}
        except (OSError, ValueError) as error:  # an empty file is a ValueError
            raise GanscaleError(
                f"Inception weights '{path}' cannot be used ({error}); set "
                f"evaluation.inception_weights to torch-fidelity's {address.rsplit('/', 1)[-1]}",
                every_rank=True,
            ) from None

    tensors = tensors_from_rank_0(read, device)
    assert tensors is not None
    return Inception(tensors["file"].numpy().tobytes(), where).to(device)


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


def _cached_path(address: str) -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints" / address.rsplit("/", 1)[-1]


def _download_once(address: str) -> Path:
    """Return the path of the weights in torch's cache folder; download them if need be."""
    path = _cached_path(address)
    if not path.exists():
        log.info("downloading Inception's weights to %s", path)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with redirect_stdout(sys.stderr):
                torch.hub.download_url_to_file(address, str(path), progress=False)
        except OSError as error:  # urllib's errors are OSErrors
            raise GanscaleError(
                f"Inception's weights cannot be downloaded ({error}); download {address} on a "
                "machine with a network, and set evaluation.inception_weights to the file",
                every_rank=True,
            ) from None
    return path
