"""Settings that read a packed dataset, and damage to one."""

from pathlib import Path

import numpy as np
import torch

from ganscale.config import Data
from ganscale.data.shards.index import OFFSET, SIZE, index_path

CPU = torch.device("cpu")


def data(folder: Path, **values: object) -> Data:
    return Data.model_validate({"path": str(folder), **values})


def damage(folder: Path, sample: int = 0) -> None:
    """Overwrite the image of one sample of the first shard."""
    tar = folder / "shard-000000.tar"
    offset, size = np.load(index_path(tar))[sample, [OFFSET, SIZE]].tolist()
    content = bytearray(tar.read_bytes())
    content[offset : offset + size] = b"x" * size
    tar.write_bytes(content)
