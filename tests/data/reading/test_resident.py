"""The resident reader of several nodes, each rank a thread."""

import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
import torch

from ganscale.config import Data
from ganscale.data.reading.image_set import ImageSet
from ganscale.data.reading.readers import IndexedReader, Reader
from ganscale.data.reading.resident import ResidentReader, open_reader
from ganscale.engines.distributed import Ranks
from ganscale.errors import GanscaleError
from tests.data.reading.sets import CPU, damage, data

T = TypeVar("T")
LAYOUTS = {"2 × 2": (2, 2), "3 and 1": (3, 1), "one a node": (1, 1, 1)}


def on_ranks(nodes: tuple[int, ...], action: Callable[[Ranks], T]) -> list[T]:
    """Each rank's result, or the error of the first rank that raised one.

    Ranks are dealt to the nodes in turn, as Slurm does it with --distribution=cyclic.
    """
    places = [(node, local) for node, ranks in enumerate(nodes) for local in range(ranks)]
    places.sort(key=lambda place: place[::-1])
    told: list[Any] = [None] * len(places)
    barrier = threading.Barrier(len(places), timeout=20)

    def ranks(rank: int) -> Ranks:
        def gather(value: Any) -> list[Any]:
            told[rank] = value
            barrier.wait()
            heard = list(told)
            barrier.wait()
            return heard

        node, local = places[rank]
        return Ranks(rank, len(places), local, nodes[node], node, gather)

    with ThreadPoolExecutor(len(places)) as pool:
        return [done.result() for done in [pool.submit(action, ranks(r)) for r in range(len(told))]]


def opened(config: Data) -> Callable[[Ranks], tuple[Reader, str]]:
    return lambda ranks: open_reader(config, ImageSet(config), ranks, CPU)


@pytest.fixture
def shared_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in place of /dev/shm, which other runs use too."""
    folder = tmp_path / "shm"
    folder.mkdir()
    monkeypatch.setattr("ganscale.data.reading.resident.SHARED_MEMORY", folder)
    return folder


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_nodes_ranks_share_memory_and_no_others(
    digits: Path, shared_memory: Path, layout: str
) -> None:
    nodes = LAYOUTS[layout]
    found = on_ranks(nodes, opened(data(digits, reader="resident")))
    every = np.arange(1797)
    expected = ImageSet(data(digits)).reader().read(every)
    for reader, _ in found:
        assert torch.equal(reader.read(every).images, expected.images)
        assert torch.equal(reader.read(every).labels, expected.labels)
    written = found[0][0]
    assert isinstance(written, ResidentReader)
    written._images[0] = 77
    seen = [bool((reader.read(every[:1]).images == 77).all()) for reader, _ in found]
    assert sum(seen) == nodes[0]
    assert ("shared by" in found[0][1]) == (nodes[0] > 1)
    assert not list(shared_memory.iterdir())


def test_the_least_free_memory_decides(digits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = iter((10**12, 10**12, 1000, 10**12))  # one of them has none
    monkeypatch.setattr("ganscale.data.reading.resident.free_memory", lambda: next(asked))
    for reader, line in on_ranks((2, 2), opened(data(digits))):
        assert isinstance(reader, IndexedReader)
        assert "more than a quarter of free memory" in line


def test_a_sample_that_one_rank_cannot_decode_ends_all(digits: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(digits, tmp_path / "copy")
    damage(copy)
    errors = []

    def open_and_note(ranks: Ranks) -> None:
        try:
            opened(data(copy, reader="resident"))(ranks)
        except GanscaleError as error:
            errors.append(str(error))

    on_ranks((2, 2), open_and_note)
    assert len(errors) == 4
    assert len(set(errors)) == 1
    assert "shard-000000.tar, sample" in errors[0]


def test_no_room_for_the_set_is_a_message(
    digits: Path, shared_memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(
        GanscaleError, match=r"no space for the decoded dataset.* use data.reader=index"
    ):
        on_ranks((2,), opened(data(digits, reader="resident")))
    assert not list(shared_memory.iterdir())
