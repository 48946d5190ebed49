"""What evaluation keeps of a real set: tensors in files, found again by its fingerprint."""

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ganscale.config import Data
from ganscale.data.storage import is_remote
from ganscale.errors import GanscaleError

VERSION = "2"  # of what is kept, and of the classifier it was made with


class Cache:
    """Tensors by name, for one set at one resolution.

    Beside a local set, in the node's cache folder for a remote one, and in `fallback` where these
    cannot be written.
    """

    def __init__(self, data: Data, fingerprint: str, fallback: Path):
        self._about = {
            "set": fingerprint,
            "resolution": str(data.resolution),
            "version": VERSION,
        }
        beside = Path(data.path)
        if data.mixture or is_remote(data.path):
            beside = Path(data.cache).expanduser() / "evaluation" / fingerprint[:16]
        self._folders = [beside, fallback]

    def read(self, name: str) -> dict[str, Tensor] | None:
        """What was written under that name for this very set; None where there is nothing."""
        for folder in self._folders:
            try:
                with safe_open(folder / f"{name}.safetensors", "pt") as file:
                    if file.metadata() == self._about:
                        return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            except (OSError, SafetensorError):
                continue
        return None

    def write(self, name: str, tensors: Mapping[str, Tensor]) -> None:
        """Write, whole or not at all; one rank calls it."""
        host = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
        for folder in self._folders:
            path = folder / f"{name}.safetensors"
            temporary = path.with_name(f".{path.name}")
            try:
                folder.mkdir(parents=True, exist_ok=True)
                save_file(host, temporary, metadata=self._about)
                temporary.replace(path)
                return
            except (OSError, SafetensorError):
                continue
        raise GanscaleError(f"{self._folders[-1]}: evaluation's {name} cannot be written there")
