"""What an attacker does who can write into a set."""

from pathlib import Path

from ganscale.data.shards.manifest import load_manifest
from ganscale.files import sha256_of_file


def forge(folder: Path) -> None:
    """Whoever changes files of a set makes its manifest fit them."""
    manifest = load_manifest(folder)
    shards = tuple(
        shard.model_copy(
            update={
                "bytes": (folder / shard.name).stat().st_size,
                "sha256": sha256_of_file(folder / shard.name),
                "index_sha256": sha256_of_file(folder / shard.index_name),
            }
        )
        for shard in manifest.shards
    )
    manifest.model_copy(update={"shards": shards}).save(folder)
