"""Inception v3 as FID was defined with it: torch-fidelity's port of the original weights."""

import logging
import sys
from contextlib import redirect_stdout
from pathlib import Path

import torch
from torch import Tensor, nn

from ganscale.errors import GanscaleError
from ganscale.evaluation.features import Features

log = logging.getLogger("ganscale")


class Inception(nn.Module):
    """Uint8 images (N, C, H, W) to pool features (N, 2048) and unbiased logits (N, 1008)."""

    key = "inception"
    knows_the_set = False
    description = "Inception v3 features"

    def __init__(self, weights: Path | None):
        """`weights`: a file of torch-fidelity's; None to take the fetched one, or fetch it.

        Raises `GanscaleError` where there is neither the package, nor the file, nor a network.
        """
        super().__init__()
        try:
            from torch_fidelity import feature_extractor_inceptionv3 as fidelity
        except ImportError:
            raise GanscaleError(
                "Inception features need torch-fidelity: "
                "in the clone, pip install -e '.[inception]'",
                every_rank=True,
            ) from None
        path = weights or _fetched(fidelity.URL_INCEPTION_V3)
        try:
            # torch-fidelity unpickles its file: nothing but tensors may be in it.
            torch.load(path, map_location="cpu", weights_only=True)
            self._network = fidelity.FeatureExtractorInceptionV3(
                "inception-v3-compat", ["2048", "logits_unbiased"], str(path)
            )
        except Exception as error:  # torch raises many kinds for a file that it does not like
            first = (str(error).splitlines() or [type(error).__name__])[0]
            raise GanscaleError(
                f"Inception weights '{path}' cannot be used ({first}); set "
                "evaluation.inception_weights to torch-fidelity's "
                f"{fidelity.URL_INCEPTION_V3.rsplit('/', 1)[-1]}",
                every_rank=True,
            ) from None

    @torch.no_grad()
    def measure(self, images: Tensor) -> Features:
        """Features and ImageNet's logits; grey images become three equal channels."""
        rgb = images if images.shape[1] == 3 else images.expand(-1, 3, -1, -1)
        return Features(*self._network(rgb))


def _fetched(address: str) -> Path:
    """The weights in torch's own cache folder, fetched at the first need."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / address.rsplit("/", 1)[-1]
    if not path.exists():
        log.info("fetching Inception's weights to %s", path)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with redirect_stdout(sys.stderr):
                torch.hub.download_url_to_file(address, str(path), progress=False)
        except OSError as error:  # urllib's errors are OSErrors
            raise GanscaleError(
                f"Inception's weights cannot be fetched ({error}); on a machine with a network "
                f"get {address} and set evaluation.inception_weights to the file",
                every_rank=True,
            ) from None
    return path
