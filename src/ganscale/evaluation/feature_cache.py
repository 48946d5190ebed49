"""A cache of what evaluation computes from a real dataset: tensors in files."""

import contextlib
import hashlib
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from ganscale.config import Data
from ganscale.config.resolution import write_resolution
from ganscale.data.reading.image_set import ImageSet
from ganscale.data.shards.storage import is_remote
from ganscale.errors import GanscaleError
from ganscale.tensor_file import save_tensors

VERSION = "3"  # of the cached content, and of the classifier that computed it


class Cache:
    """Tensors by name, for one dataset at one resolution; only rank 0 reads and writes them.

    The files lie beside a local dataset, in the node's cache folder for a remote one, and in
    `fallback` if these are not writable. What a file depends on is recorded in it and in its name,
    so a file is never replaced by one for another dataset, classifier or version.
    """

    def __init__(self, data: Data, images: ImageSet, fallback: Path):
        fingerprint = images.fingerprint
        self._set = {
            "set": fingerprint,
            "labels": images.label_checksum,
            "resolution": write_resolution(*data.size),
            "version": VERSION,
        }
        beside = Path(data.path)
        if data.mixture or is_remote(data.path):
            identity = hashlib.sha256(fingerprint.encode()).hexdigest()[:16]
            beside = Path(data.cache).expanduser() / "evaluation" / identity
        self._folders = [beside, fallback]

    def read(self, name: str, **depends_on: str) -> dict[str, Tensor] | None:
        """Return what was written under this name with the same dependencies, or None."""
        about = self._set | depends_on
        for folder in self._folders:
            found = _read(folder / _file_name(name, about), about)
            if found is not None:
                return found
        return None

    def write(
        self, name: str, tensors: Mapping[str, Tensor], **depends_on: str
    ) -> dict[str, Tensor]:
        """Write the tensors atomically and return what the cache now holds.

        If another run has written them meanwhile, those are kept and returned, so that runs that
        start at the same time share one classifier. Raises `GanscaleError` if no folder is
        writable.
        """
        about = self._set | depends_on
        host = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
        for folder in self._folders:
            path = folder / _file_name(name, about)
            temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
            try:
                folder.mkdir(parents=True, exist_ok=True)
                save_tensors(host, temporary, about)
                _publish(temporary, path, about)
                return _read(path, about) or host
            except (OSError, SafetensorError):
                continue
            finally:
                with contextlib.suppress(OSError):
                    temporary.unlink(missing_ok=True)
        raise GanscaleError(
            f"{self._folders[-1]}: the {name} of the evaluation cannot be written; free some space "
            "or make the folder writable"
        )


def _publish(temporary: Path, path: Path, about: dict[str, str]) -> None:
    """Give a file its final name, unless an intact file already has it."""
    try:
        os.link(temporary, path)  # only one of several concurrent runs succeeds
    except OSError:  # the name is taken, or the file system does not support links
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
