"""Datasets of the Hugging Face Hub: `hf://datasets/user/name[@revision][/folder]`.

The images come from the dataset's parquet files, or from those that the hub has made of it. The
token of `hf auth login` or HF_TOKEN is used where there is one, and never shown.
"""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from ganscale.data.packing.parquet_source import ParquetFile, ParquetSource, files_of_split
from ganscale.data.packing.remote_sources import UnreachableError
from ganscale.data.shards.extras import import_hub
from ganscale.data.shards.manifest import MANIFEST
from ganscale.errors import GanscaleError

PREFIX = "hf://datasets/"
ADDRESS = re.compile(
    r"hf://datasets/(?P<name>[\w.-]+(/[\w.-]+)?)(@(?P<revision>[^/]+))?(?P<folder>/.*)?"
)
CONVERTED = "refs/convert/parquet"  # the branch where the hub keeps what it has converted

log = logging.getLogger("ganscale")


class Listing(NamedTuple):
    """What the hub holds under an address."""

    name: str
    """Of the dataset, `user/name`."""
    commit: str
    files: tuple[str, ...]
    """Paths in the dataset, within the address's folder."""


def is_hub_dataset(address: str) -> bool:
    """Return whether an address is that of a dataset on the hub."""
    return address.startswith(PREFIX)


def is_packed(address: str) -> bool:
    """Return whether the hub holds a packed dataset there; False if it cannot be asked now."""
    try:
        return any(PurePosixPath(file).name == MANIFEST for file in list_hub(address).files)
    except UnreachableError:
        return False


@lru_cache(maxsize=32)
def list_hub(address: str, converted: bool = False) -> Listing:
    """Ask the hub for the files and the commit of a dataset, once in a process.

    With `converted`, ask for the parquet files that the hub has made of it. Raises
    `UnreachableError` if the hub does not answer, and `GanscaleError` if it refuses.
    """
    match = ADDRESS.fullmatch(address.rstrip("/"))
    if match is None:
        raise GanscaleError(
            f"{address}: must be hf://datasets/USER/NAME, with @REVISION and /FOLDER if need be"
        )
    name, folder = match["name"], (match["folder"] or "").strip("/")
    revision = CONVERTED if converted else match["revision"]
    with _explained(address):
        about = _library(address).HfApi().dataset_info(name, revision=revision)
    files = sorted(sibling.rfilename for sibling in about.siblings or [])
    within = [f for f in files if not folder or f == folder or f.startswith(f"{folder}/")]
    return Listing(name, str(about.sha), tuple(within))


def hub_state(address: str) -> str:
    """Return the commit that a dataset is at; raise `GanscaleError` if the hub does not say."""
    return list_hub(address).commit


def hub_source(
    address: str, split: str, workspace: Path, image_column: str | None = None
) -> ParquetSource:
    """Download the parquet files of a split one by one, and return their images.

    Each file is removed when its images are copied into `workspace`. Raises `GanscaleError` if
    the hub refuses, or if the dataset has no such split or no parquet files.
    """
    listing = list_hub(address)
    if not any(file.endswith(".parquet") for file in listing.files):
        listing = _converted(address)
    files = files_of_split(address, listing.files, split)
    remote = [
        ParquetFile(
            f"{listing.name} {listing.commit} {file}",
            partial(_downloaded, address, listing, file, number, len(files), workspace),
        )
        for number, file in enumerate(files)
    ]
    return ParquetSource(f"{listing.name} {split}", remote, workspace, image_column)


def _converted(address: str) -> Listing:
    """Return the parquet files that the hub has made of a dataset of other files."""
    try:
        listing = list_hub(address, converted=True)
    except UnreachableError:
        raise
    except GanscaleError:
        listing = Listing("", "", ())
    if not listing.files:
        raise GanscaleError(
            f"{address}: it has no parquet files, and the hub has made none of it; download it "
            "(hf download) and give the folder of images"
        )
    return listing


@contextmanager
def _downloaded(
    address: str, listing: Listing, file: str, number: int, files: int, workspace: Path
) -> Iterator[Path]:
    hub = _library(address)
    log.info("%s: fetching file %s of %s (%s)", address, f"{number + 1:,}", f"{files:,}", file)
    hub.utils.disable_progress_bars()
    with _explained(address):
        local = hub.hf_hub_download(
            listing.name,
            file,
            repo_type="dataset",
            revision=listing.commit,
            local_dir=workspace / "hub",
        )
    yield Path(local)
    Path(local).unlink()


def _library(address: str) -> Any:
    return import_hub(f"{address}: datasets of the hub need huggingface_hub")


@contextmanager
def _explained(address: str) -> Iterator[None]:
    """Turn any error of the hub's client into one message, without a word of the server's."""
    errors = _library(address).errors
    try:
        yield
    except errors.GatedRepoError:
        raise GanscaleError(
            f"{address}: its authors give it only to those who accept their terms; accept them on "
            "its page, then log in (hf auth login, or HF_TOKEN)"
        ) from None
    except errors.RevisionNotFoundError:
        raise GanscaleError(f"{address}: the hub knows no such revision of it") from None
    except errors.RepositoryNotFoundError:
        raise GanscaleError(
            f"{address}: the hub knows no such dataset, or it is private and your token may not "
            "read it (hf auth login, or HF_TOKEN)"
        ) from None
    except errors.HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        kind = UnreachableError if status is None or status >= 500 or status == 429 else None
        if status in (401, 403):
            raise GanscaleError(
                f"{address}: the hub refuses it to you; log in (hf auth login, or HF_TOKEN)"
            ) from None
        raise (kind or GanscaleError)(f"{address}: the hub answers with status {status}") from None
    except errors.HFValidationError:
        raise GanscaleError(f"{address}: not the name of a dataset on the hub") from None
    except (errors.OfflineModeIsEnabled, errors.HTTPError, ConnectionError, TimeoutError) as error:
        raise UnreachableError(
            f"{address}: the hub cannot be reached ({type(error).__name__})"
        ) from None
