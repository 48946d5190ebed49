"""Inception v3 as FID was defined with it: torch-fidelity's port of the original weights."""

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

MAX_BYTES = 1 << 30  # torch-fidelity's file has 95 million

log = logging.getLogger("ganscale")


@FEATURES.register("inception")
class Inception(nn.Module, FeatureNetwork):
    """Uint8 images (N, C, H, W) to pool features (N, 2048) and unbiased logits (N, 1008)."""

    key = "inception"
    knows_the_set = False
    description = "Inception v3 features"

    def __init__(self, content: bytes, where: str):
        """`content`: a weights file of torch-fidelity's; `where` names it in messages.

        Raises `GanscaleError` where the package is missing or the file is something else.
        """
        super().__init__()
        fidelity = _torch_fidelity()
        self.checksum = hashlib.sha256(content).hexdigest()
        try:
            # torch-fidelity unpickles its file: nothing but tensors may be in it.
            torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
            self._network = fidelity.FeatureExtractorInceptionV3(
                "inception-v3-compat", ["2048", "logits_unbiased"], io.BytesIO(content)
            )
        except Exception as error:  # torch raises many kinds for a file that it does not like
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
        weights = opening.experiment.evaluation.inception_weights
        return open_inception(Path(weights) if weights else None, opening.device)

    @torch.no_grad()
    def measure(self, images: Tensor) -> Features:
        """Features and ImageNet's logits; grey images become three equal channels."""
        rgb = images if images.shape[1] == 3 else images.expand(-1, 3, -1, -1)
        return Features(*self._network(rgb))


def open_inception(weights: Path | None, device: torch.device) -> Inception:
    """The network with the weights that rank 0 has; every rank calls it.

    `weights`: a file of torch-fidelity's; None to take the fetched one, or fetch it. Raises
    `GanscaleError` where there is neither the package, nor the file, nor a network.
    """
    address: str = _torch_fidelity().URL_INCEPTION_V3
    where = str(weights or _fetched_path(address))

    def read() -> Tensors:
        path = weights or _fetched(address)
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
            "Inception features need torch-fidelity: in the clone, pip install -e '.[inception]'",
            every_rank=True,
        ) from None
    module: ModuleType = fidelity
    return module


def _fetched_path(address: str) -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints" / address.rsplit("/", 1)[-1]


def _fetched(address: str) -> Path:
    """The weights in torch's own cache folder, fetched at the first need."""
    path = _fetched_path(address)
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
