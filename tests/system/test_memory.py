"""Ranks that find different amounts of free memory, or one that fails alone, still agree."""

import subprocess
from pathlib import Path

import pytest

from ganscale.config.load import to_yaml
from tests.conftest import tiny
from tests.system.forked import forked

pytestmark = pytest.mark.system


def start(digits: Path, folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """Four processes, of which the last finds its memory full."""
    path = folder / "tiny.yaml"
    path.write_text(to_yaml(tiny(digits, folder, "train.timeout=60")))
    return forked(
        *(4, "train", str(path), *more),
        folder=folder,
        module="tests.system.full_memory",
        FULL_RANK="3",
    )


def test_the_rank_with_the_least_memory_decides_for_all(digits: Path, tmp_path: Path) -> None:
    done = start(digits, tmp_path, "data.workers=0")
    assert done.returncode == 0
    assert "indexed reader: 1,797 images" in done.stderr
    assert "more than a quarter of free memory" in done.stderr
    assert "step 10 of 10" in done.stderr


def test_an_error_of_one_rank_ends_all_with_one_message(digits: Path, tmp_path: Path) -> None:
    done = start(digits, tmp_path, "data.reader=resident")
    assert done.returncode != 0
    assert done.stderr.count("error: data.reader=resident: 1,797 images take 1 MiB") == 1
    assert "lost contact" not in done.stderr
    assert "ganscale/cli.py" not in done.stderr
