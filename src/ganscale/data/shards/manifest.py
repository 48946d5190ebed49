"""The manifest of a packed dataset: `manifest.json`, beside the shards and their indexes."""

import hashlib
import json
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from ganscale.errors import GanscaleError
from ganscale.files import read_regular_file, write_atomically
from ganscale.validation import first_mistake

MANIFEST = "manifest.json"
SHEET = "contact-sheet.png"
MAX_MANIFEST_BYTES = 1 << 29  # a million shards take 300 MB
MAX_SIDE = 1 << 16  # pixels
MAX_CHANNELS = 64
MAX_SAMPLES = 1 << 24  # per shard, so that the sample numbers of a block of shards fit into memory
TAR_BLOCK = 512
FETCHABLE_SCHEMES = frozenset(
    ("http", "https", "ftp", "s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "oci", "oss", "hf")
)

Count = Annotated[int, Field(ge=0, le=1 << 50)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Side = Annotated[int, Field(ge=1, le=MAX_SIDE)]


def check_shard_name(name: str) -> None:
    """Raise `ValueError` for a name that no shard may have.

    The manifest may come from a stranger, and WebDataset would run what follows `pipe:`.
    """
    if name.startswith("pipe:"):
        raise ValueError(f"a shard is named '{name}', but pipe: would run a command")
    if not name.isascii() and name != name.encode(errors="replace").decode():
        raise ValueError(f"a shard is named {name!a}, which is not valid UTF-8")
    if "\0" in name or Path(name).name in ("", ".."):
        raise ValueError(f"a shard is named '{name}', which is not a valid file name")
    scheme, is_address, rest = name.partition("://")
    if is_address and (scheme not in FETCHABLE_SCHEMES or "::" in rest):
        raise ValueError(f"a shard is named '{name}', but such addresses are not fetched")


class Shard(BaseModel):
    """One tar file of a dataset."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    samples: Count
    bytes: Count
    sha256: Sha256
    index_sha256: Sha256
    index: str | None = None

    @field_validator("name", "index")
    @classmethod
    def _check_name(cls, name: str | None) -> str | None:
        if name is not None:
            check_shard_name(name)
        return name

    @property
    def index_name(self) -> str:
        """The index file's name, derived from the shard's name unless the manifest gives one."""
        return self.index or Path(self.name).with_suffix(".index.npy").name


class Manifest(BaseModel):
    """A packed dataset: its shards in order, and the properties that all its images share.

    `height` and `width` are None if the images differ in size; the reader then resizes them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    format: Literal[1] = 1
    source: str
    classes: tuple[str, ...]
    channels: Annotated[int, Field(ge=1, le=MAX_CHANNELS)]
    bits: Literal[8, 16] = 8
    """Bits of a value."""
    height: Side | None
    width: Side | None
    shards: Annotated[tuple[Shard, ...], Field(min_length=1)]
    checksum: str = ""
    """SHA-256 of everything else, because damage to the other checksums must show too."""

    @model_validator(mode="after")
    def _check_consistency(self) -> "Manifest":
        if (self.height is None) != (self.width is None):
            raise ValueError("height and width must both be given or both be null")
        if self.has_mixed_sizes and not self.is_of_pictures:
            raise ValueError("images of different sizes must have 1 or 3 channels of 8 bits")
        if not all(shard.samples for shard in self.shards):
            raise ValueError("it lists a shard without samples")
        for shard in self.shards:  # the samples are ordered before any shard is opened
            if shard.samples > min(MAX_SAMPLES, shard.bytes // TAR_BLOCK):
                raise ValueError(
                    f"{shard.name} cannot have {shard.samples:,} samples in {shard.bytes:,} bytes; "
                    f"each needs at least {TAR_BLOCK}, and {MAX_SAMPLES:,} samples are the maximum"
                )
        return self

    @property
    def samples(self) -> int:
        """The number of images in the whole dataset."""
        return sum(shard.samples for shard in self.shards)

    @property
    def has_mixed_sizes(self) -> bool:
        """True if the images differ in size."""
        return self.height is None

    @property
    def is_of_pictures(self) -> bool:
        """True if the images are grey or RGB, of 8 bits, which any decoder may read."""
        return self.channels in (1, 3) and self.bits == 8

    def fits(self, image_shape: tuple[int, int, int], bits: int = 8) -> bool:
        """Return whether the dataset can be read as images of (channels, height, width)."""
        if self.has_mixed_sizes:
            return image_shape[0] in (1, 3) and bits == 8
        return (self.channels, self.height, self.width, self.bits) == (*image_shape, bits)

    @property
    def fingerprint(self) -> str:
        """An identifier of the shards' bytes and order, independent of where they are stored."""
        checksums = "\n".join(shard.sha256 for shard in self.shards)
        return hashlib.sha256(checksums.encode()).hexdigest()[:16]

    def save(self, folder: Path) -> None:
        """Write the manifest into the dataset's folder atomically."""
        signed = self.model_copy(update={"checksum": self.compute_checksum()})
        text = signed.model_dump_json(indent=2, exclude=self._unsaid())
        write_atomically(folder / MANIFEST, (text + "\n").encode())

    def compute_checksum(self) -> str:
        """Return the SHA-256 of everything but `checksum`."""
        rest = self.model_dump_json(exclude={"checksum", *self._unsaid()})
        return hashlib.sha256(rest.encode()).hexdigest()

    def _unsaid(self) -> set[str]:
        """Return the fields that are left out: 8 bits, as in the manifests of earlier versions."""
        return {"bits"} if self.bits == 8 else set()


def parse_manifest(path: Path) -> Manifest:
    """Return the manifest in a file; raise `ValueError` if it is invalid or damaged."""
    content = read_regular_file(path, MAX_MANIFEST_BYTES)
    try:
        manifest = Manifest.model_validate(json.loads(content))
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except ValidationError as error:
        raise ValueError(first_mistake(error)) from None
    if manifest.checksum != manifest.compute_checksum():
        raise ValueError("checksum mismatch")
    return manifest


def load_manifest(folder: str | Path) -> Manifest:
    """Return the manifest of the packed dataset in a folder.

    Raises `GanscaleError` if there is none or if it is invalid.
    """
    try:
        return parse_manifest(Path(folder) / MANIFEST)
    except FileNotFoundError:
        if not Path(folder).exists():
            raise GanscaleError(
                f"{folder}: no such file or folder; set data.path to your images, or to a dataset "
                f"that `ganscale pack SOURCE {folder}` has made",
                every_rank=True,
            ) from None
        raise GanscaleError(
            f"{folder}: not a packed dataset ({MANIFEST} is missing); if it holds images, "
            f"`ganscale pack {folder} DIR --size N` packs them into DIR",
            every_rank=True,
        ) from None
    except (OSError, ValueError) as error:
        first = str(error).splitlines()[0]
        raise GanscaleError(
            f"{folder}: {MANIFEST} is invalid ({first}); pack or index the dataset again",
            every_rank=True,
        ) from None
