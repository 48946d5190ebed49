"""What a packed set says of itself: `manifest.json`, beside the shards and their indexes."""

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

MANIFEST = "manifest.json"
SHEET = "contact-sheet.png"
MAX_MANIFEST_BYTES = 1 << 29  # a million shards take 300 MB
MAX_SIDE = 1 << 16  # pixels
MAX_SAMPLES = 1 << 24  # of a shard: their numbers and those of its neighbours fit into memory
TAR_BLOCK = 512
FETCHED_FROM = frozenset(
    ("http", "https", "ftp", "s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "oci", "oss", "hf")
)

Count = Annotated[int, Field(ge=0, le=1 << 50)]
Sum = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Side = Annotated[int, Field(ge=1, le=MAX_SIDE)]


def check_name(name: str) -> None:
    """`ValueError` for what no shard may be called, lest a stranger's manifest names it.

    WebDataset would run what follows `pipe:`.
    """
    if name.startswith("pipe:"):
        raise ValueError(f"a shard is named '{name}': pipe: runs commands")
    if not name.isascii() and name != name.encode(errors="replace").decode():
        raise ValueError(f"a shard is named {name!a}, which is not UTF-8")
    if "\0" in name or Path(name).name in ("", ".."):
        raise ValueError(f"a shard is named '{name}', which no file can be")
    scheme, is_address, rest = name.partition("://")
    if is_address and (scheme not in FETCHED_FROM or "::" in rest):
        raise ValueError(f"a shard is named '{name}': such addresses are not fetched")


class Shard(BaseModel):
    """One tar file of a set."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    samples: Count
    bytes: Count
    sha256: Sum
    index_sha256: Sum
    index: str | None = None

    @field_validator("name", "index")
    @classmethod
    def _is_file(cls, name: str | None) -> str | None:
        if name is not None:
            check_name(name)
        return name

    @property
    def index_name(self) -> str:
        """Name of the index file: beside the shard unless the manifest says otherwise."""
        return self.index or Path(self.name).with_suffix(".index.npy").name


class Manifest(BaseModel):
    """A packed set: its shards in order, and what every image of it is like.

    `height` and `width` are empty where images differ in size: the reader resizes them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    format: Literal[1] = 1
    source: str
    classes: tuple[str, ...]
    channels: Literal[1, 3]
    height: Side | None
    width: Side | None
    shards: Annotated[tuple[Shard, ...], Field(min_length=1)]
    checksum: str = ""
    """SHA-256 of the rest: all other sums are here, so damage to this file must show too."""

    @model_validator(mode="after")
    def _is_consistent(self) -> "Manifest":
        if (self.height is None) != (self.width is None):
            raise ValueError("it has a height or a width alone")
        if not all(shard.samples for shard in self.shards):
            raise ValueError("it lists a shard without samples")
        for shard in self.shards:  # an order of the samples is made before any shard is opened
            if shard.samples > min(MAX_SAMPLES, shard.bytes // TAR_BLOCK):
                raise ValueError(
                    f"{shard.name} cannot have {shard.samples:,} samples in {shard.bytes:,} bytes; "
                    f"each takes a block of {TAR_BLOCK}, and {MAX_SAMPLES:,} are the most"
                )
        return self

    @property
    def samples(self) -> int:
        """Images of the whole set."""
        return sum(shard.samples for shard in self.shards)

    @property
    def varied(self) -> bool:
        """Whether images differ in size."""
        return self.height is None

    def fits(self, image_shape: tuple[int, int, int]) -> bool:
        """Whether the set can be read as images of (channels, height, width)."""
        return self.varied or (self.channels, self.height, self.width) == image_shape

    @property
    def fingerprint(self) -> str:
        """The same for the same bytes in the same order, wherever they lie."""
        sums = "\n".join(shard.sha256 for shard in self.shards)
        return hashlib.sha256(sums.encode()).hexdigest()[:16]

    def save(self, folder: Path) -> None:
        """Write it into the set's folder, whole or not at all."""
        signed = self.model_copy(update={"checksum": self.own_checksum()})
        write_atomically(folder / MANIFEST, (signed.model_dump_json(indent=2) + "\n").encode())

    def own_checksum(self) -> str:
        """The SHA-256 of everything but `checksum`."""
        rest = self.model_dump_json(exclude={"checksum"})
        return hashlib.sha256(rest.encode()).hexdigest()


def parse_manifest(path: Path) -> Manifest:
    """The manifest in a file; `ValueError` where it is none, or not as it was written."""
    content = read_regular_file(path, MAX_MANIFEST_BYTES)
    try:
        manifest = Manifest.model_validate(json.loads(content))
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except ValidationError as error:
        raise ValueError(first_mistake(error)) from None
    if manifest.checksum != manifest.own_checksum():
        raise ValueError("its own checksum does not hold")
    return manifest


def first_mistake(error: ValidationError) -> str:
    """Where it is wrong and how, in a line."""
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"]))
    what = first["msg"].removeprefix("Value error, ")
    return f"{where}: {what}" if where else what


def load_manifest(folder: str | Path) -> Manifest:
    """The manifest of a packed set in a folder; a clear error where there is none."""
    try:
        return parse_manifest(Path(folder) / MANIFEST)
    except FileNotFoundError:
        raise GanscaleError(
            f"{folder}: no packed set ({MANIFEST} is missing); make one with "
            f"`ganscale pack SOURCE {folder}`, or say where it is with data.path=DIR",
            every_rank=True,
        ) from None
    except (OSError, ValueError) as error:
        first = str(error).splitlines()[0]
        raise GanscaleError(
            f"{folder}: {MANIFEST} is invalid ({first}); pack or index the set again",
            every_rank=True,
        ) from None
