"""The weights of a published network: a file of the user's, or one that is downloaded once."""

import http.client
import logging
import os
import secrets
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import torch
from torch import Tensor

from ganscale.data.shards.download import STALL_S, Download
from ganscale.engines.distributed import Tensors, tensors_from_rank_0
from ganscale.errors import GanscaleError
from ganscale.files import open_regular_file, sha256_of_file, sha256_of_stream, sync

MAX_BYTES = 8 << 30
CHECKSUM = "sha256"  # the name under which the checksum travels with the weights

log = logging.getLogger("ganscale")


@dataclass(frozen=True)
class Source:
    """Where the weights of a published network are to be had, and how they are known."""

    title: str
    """What messages call the network."""
    address: str
    file: str
    """The file's name in torch's cache folder, which other packages share."""
    sha256: str
    megabytes: int
    """The size that a message about the download names."""
    is_archive: bool = False
    """True if the published file is a TorchScript archive. No other file is opened as one."""
    prefix: str = ""
    """The beginning of the names of those tensors that are used; they are known without it."""

    @property
    def cached(self) -> Path:
        """The path of the downloaded file."""
        return Path(torch.hub.get_dir()) / "checkpoints" / self.file

    def refusal(self, path: Path | str, why: object) -> GanscaleError:
        """Return the error about a file that does not hold these weights."""
        return GanscaleError(
            f"{self.title}'s weights '{path}' cannot be used ({why}); set evaluation.weights to "
            f"the file from {self.address}",
            every_rank=True,
        )


class Weights(NamedTuple):
    """The weights of a network, in host memory."""

    tensors: Tensors
    sha256: str
    """That of the file."""
    where: str
    """The file's path, for messages."""


def open_weights(source: Source, given: str | None, device: torch.device) -> Weights:
    """Return rank 0's weights on every rank. All ranks must call this.

    `given` is the user's file; None uses the downloaded one, or downloads it. Raises
    `GanscaleError` if the file neither exists nor can be downloaded, or holds no tensors.
    """
    path = Path(given) if given else source.cached

    def read() -> Tensors:
        if given is None and not path.exists():
            download(source, path)
        try:
            with open_regular_file(path) as file:
                return _read(source, file, path, given is not None)
        except (OSError, ValueError) as error:
            raise source.refusal(path, error) from None

    tensors = tensors_from_rank_0(read, device)
    assert tensors is not None
    sha256 = bytes(tensors.pop(CHECKSUM).tolist()).hex()
    return Weights(tensors, sha256, str(path))


def _read(source: Source, file: BinaryIO, path: Path, is_given: bool) -> Tensors:
    """Return the tensors of an open file, and its checksum."""
    if (size := os.fstat(file.fileno()).st_size) > MAX_BYTES:
        raise source.refusal(
            path, f"it has {size:,} bytes, and may have no more than {MAX_BYTES:,}"
        )
    sha256 = sha256_of_stream(file)
    if sha256 != source.sha256 and not is_given:
        raise GanscaleError(
            f"{path} is not the file of {source.title}'s weights: its SHA-256 is {sha256}, and "
            f"should be {source.sha256}; delete it, and it is downloaded again",
            every_rank=True,
        )
    file.seek(0)
    load = _load_archive if source.is_archive and sha256 == source.sha256 else _load_tensors
    try:
        found = load(file)
    except Exception as error:  # torch raises many types of errors for an invalid file
        why = (str(error).splitlines() or [type(error).__name__])[0]
        raise source.refusal(path, f"torch reads no weights from it: {why}") from None
    start = len(source.prefix)
    tensors = {k[start:]: v for k, v in found.items() if k.startswith(source.prefix)}
    return tensors | {CHECKSUM: torch.tensor(list(bytes.fromhex(sha256)), dtype=torch.uint8)}


def _load_tensors(file: BinaryIO) -> Tensors:
    """Return the tensors of a file that torch.save has written; run no code that it contains."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*TorchScript archive")  # which is refused
        found: Any = torch.load(file, map_location="cpu", weights_only=True)
    if not isinstance(found, dict):
        raise TypeError("it holds no weights by name")
    return {key: value for key, value in found.items() if isinstance(value, Tensor)}


def _load_archive(file: BinaryIO) -> Tensors:
    """Return the tensors of a TorchScript archive whose checksum is known."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        load: Callable[..., Any] = torch.jit.load
        tensors: Tensors = load(file, map_location="cpu").state_dict()
    return tensors


def download(source: Source, path: Path) -> None:
    """Download the weights to `path`, which exists only once they are complete and checked.

    Raises `GanscaleError` in one sentence for whatever the server or the disk does.
    """
    log.info("downloading %s's weights (%d MB) to %s", source.title, source.megabytes, path)
    partial = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    transfer = Download(source.address, None, MAX_BYTES, MAX_BYTES, partial, _create)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        transfer.run(STALL_S)
        got = partial.stat().st_size
        if transfer.expected is not None and got != transfer.expected:
            raise ValueError(f"only {got:,} of {transfer.expected:,} bytes arrived")
        if sha256_of_file(partial) != source.sha256:
            raise ValueError(f"the SHA-256 of what arrived is not {source.sha256}")
        sync(partial)
        partial.replace(path)
    except (OSError, ValueError, http.client.HTTPException, GanscaleError) as error:
        raise GanscaleError(
            f"{source.title}'s weights cannot be downloaded ({error}); download {source.address} "
            f"where there is a network, and copy it to {path} or set evaluation.weights to it",
            every_rank=True,
        ) from None
    finally:
        partial.unlink(missing_ok=True)


def _create(_: str, partial: Path, size: int) -> None:
    with partial.open("xb") as file:
        file.truncate(size)
