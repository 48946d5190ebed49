"""What evaluation keeps of a real set: tensors in files, found again by what they depend on."""

import contextlib
import hashlib
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ganscale.config import Data
from ganscale.data.reading.image_set import ImageSet
from ganscale.data.shards.storage import is_remote
from ganscale.errors import GanscaleError

VERSION = "3"  # of what is kept, and of the classifier it was made with


class Cache:
    """Tensors by name, for one set at one resolution; rank 0 reads and writes them.

    Beside a local set, in the node's cache folder for a remote one, and in `fallback` where these
    cannot be written. What a file depends on is in it, and in its name: a file is never replaced
    by one of another set, classifier or version.
    """

    def __init__(self, data: Data, images: ImageSet, fallback: Path):
        fingerprint = images.fingerprint
        self._set = {
            "set": fingerprint,
            "labels": images.label_checksum,
            "resolution": str(data.resolution),
            "version": VERSION,
        }
        beside = Path(data.path)
        if data.mixture or is_remote(data.path):
            identity = hashlib.sha256(fingerprint.encode()).hexdigest()[:16]
            beside = Path(data.cache).expanduser() / "evaluation" / identity
        self._folders = [beside, fallback]

    def read(self, name: str, **depends_on: str) -> dict[str, Tensor] | None:
        """What was written under that name for these very things; None where there is nothing."""
        about = self._set | depends_on
        for folder in self._folders:
            found = _read(folder / _file_name(name, about), about)
            if found is not None:
                return found
        return None

    def write(
        self, name: str, tensors: Mapping[str, Tensor], **depends_on: str
    ) -> dict[str, Tensor]:
        """Write, whole or not at all, and return what is kept.

        Where another run has written it meanwhile, that is kept and returned: runs that start at
        once share one classifier.
        """
        about = self._set | depends_on
        host = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
        for folder in self._folders:
            path = folder / _file_name(name, about)
            temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
            try:
                folder.mkdir(parents=True, exist_ok=True)
                save_file(host, temporary, metadata=about)
                _publish(temporary, path, about)
                return _read(path, about) or host
            except (OSError, SafetensorError):
                continue
            finally:
                with contextlib.suppress(OSError):
                    temporary.unlink(missing_ok=True)
        raise GanscaleError(f"{self._folders[-1]}: evaluation's {name} cannot be written there")


def _publish(temporary: Path, path: Path, about: dict[str, str]) -> None:
    """Give a file its name, unless a sound one has it."""
    try:
        os.link(temporary, path)  # one of several that try at once succeeds
    except OSError:  # the name is taken, or the file system knows no links
        if _read(path, about) is None:
            temporary.replace(path)


def _file_name(name: str, about: dict[str, str]) -> str:
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
    return f"{name}-{digest[:16]}.safetensors"


def _read(path: Path, about: dict[str, str]) -> dict[str, Tensor] | None:
    try:
        with safe_open(path, "pt") as file:
            if file.metadata() == about:
                return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError):
        pass
    return None
