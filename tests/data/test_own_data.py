"""An experiment on a user's own images, on several nodes, and across a change of the images."""

import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ganscale.config import Experiment
from ganscale.data.fingerprint import fingerprint
from ganscale.data.own_data import own_sources, pack_own_data
from ganscale.data.packing.pack import Progress
from ganscale.data.shards.manifest import load_manifest
from ganscale.engines import distributed
from ganscale.engines.distributed import Ranks
from ganscale.errors import GanscaleError
from ganscale.runs.checkpoint_names import list_finished
from ganscale.runs.run_evaluator import packed_path
from ganscale.runs.run_folder import RunFolder
from ganscale.training.trainer import train
from tests.conftest import tiny
from tests.data.packing.packed import quiet

TALLY: list[str] = []


@pytest.fixture(autouse=True)
def counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "WORD_EVERY_S", 0.01)
    TALLY.clear()


@contextmanager
def counting(phase: str) -> Iterator[Progress]:
    TALLY.append(phase)
    yield quiet


def photos(folder: Path, number: int = 4) -> Path:
    for i in range(number):
        kind = folder / "photos" / f"kind{i % 2}"
        kind.mkdir(parents=True, exist_ok=True)
        Image.new("L", (10, 9), 60 * i % 256).save(kind / f"{i}.png")
    return folder / "photos"


class Meeting:
    """What a collective does for ranks that are threads."""

    def __init__(self, size: int):
        self._barrier = threading.Barrier(size)
        self._values: list[Any] = [None] * size

    def gather_of(self, rank: int) -> Callable[[Any], list[Any]]:
        def gather(value: Any) -> list[Any]:
            self._values[rank] = value
            self._barrier.wait(30)
            values = list(self._values)
            self._barrier.wait(30)
            return values

        return gather


def on_nodes(experiments: list[Experiment]) -> list[Experiment | Exception]:
    """What each rank gets; two ranks share a node, and an experiment belongs to each node."""
    size = 2 * len(experiments)
    meeting = Meeting(size)

    def act(rank: int) -> Experiment | Exception:
        node, local = divmod(rank, 2)
        ranks = Ranks(rank, size, local, 2, node, meeting.gather_of(rank))
        try:
            return pack_own_data(experiments[node], ranks, counting)
        except GanscaleError as error:
            return error

    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(act, range(size)))


def own(path: Path, folder: Path, *overrides: str) -> Experiment:
    return tiny(path, folder, f"data.cache={folder / 'cache'}", "data.resolution=8", *overrides)


def test_nodes_that_share_a_cache_pack_once(tmp_path: Path) -> None:
    experiment = own(photos(tmp_path), tmp_path)
    found = on_nodes([experiment, experiment])
    assert TALLY == ["packing photos"]
    paths = {e.data.path for e in found if isinstance(e, Experiment)}
    assert [load_manifest(path).samples for path in paths] == [4]


def test_a_node_with_a_cache_of_its_own_packs_the_same(tmp_path: Path) -> None:
    source = photos(tmp_path)
    found = on_nodes([own(source, tmp_path), own(source, tmp_path / "other")])
    assert len(TALLY) == 2
    paths = [e.data.path for e in found if isinstance(e, Experiment)]
    assert paths[0] == paths[1] != paths[2] == paths[3]


def test_nodes_with_other_images_are_refused(tmp_path: Path) -> None:
    source = photos(tmp_path)
    other = own(source, tmp_path / "other", "data.resolution=7")  # stands for other files there
    for outcome in on_nodes([own(source, tmp_path), other]):
        assert "this node packed other images than the first node" in str(outcome)


def test_a_failure_on_rank_0_is_everyones(tmp_path: Path) -> None:
    source = photos(tmp_path)
    (source / "kind1" / "1.png").write_bytes(b"no image")
    for outcome in on_nodes([own(source, tmp_path)] * 2):
        assert "1.png" in str(outcome)
        assert isinstance(outcome, GanscaleError)


def test_a_run_goes_on_with_the_images_that_it_began_with(tmp_path: Path) -> None:
    source = photos(tmp_path, 9)
    experiment = own(source, tmp_path, "train.steps=1")
    assert train(experiment) == 0
    recorded = RunFolder.of(experiment)
    assert recorded.experiment().data.path == str(source)
    assert recorded.is_finished(experiment)
    (began_with,) = [p for p in Path(experiment.data.cache).glob("packed/*") if p.is_dir()]
    (source / "kind0" / "0.png").unlink()
    assert not recorded.is_finished(experiment)
    with pytest.raises(GanscaleError, match=f"holds now; data.path={began_with} goes on"):
        train(experiment)
    trained = (recorded, list_finished(recorded.checkpoints)[-1])
    assert packed_path(experiment.data, *trained) == str(began_with)
    longer = own(began_with, tmp_path, "train.steps=2")
    assert train(longer) == 0
    shutil.rmtree(began_with)
    with pytest.raises(GanscaleError, match=r"is not in .* packs it again"):
        packed_path(experiment.data, *trained)


def test_scores_compare_with_the_copy_and_leave_the_source_alone(tmp_path: Path) -> None:
    source = photos(tmp_path, 20)
    overrides = ("train.steps=1", "evaluation.every=1", "evaluation.samples=20")
    experiment = own(source, tmp_path, *overrides)
    assert train(experiment) == 0
    assert {path.suffix for path in source.rglob("*") if path.is_file()} == {".png"}


def test_held_out_and_mixed_images_are_packed_too(tmp_path: Path) -> None:
    sources = [photos(tmp_path / name) for name in ("one", "two", "three")]
    mixture = "[" + ",".join(f"{{path: {path}}}" for path in sources[:2]) + "]"
    experiment = own(
        sources[0],
        tmp_path,
        f"data.mixture={mixture}",
        f"balance={{held_out: {sources[2]}, images: 4, every: 1}}",
    )
    assert own_sources(experiment) == list(map(str, sources))
    with pytest.raises(GanscaleError, match="not packed yet"):
        fingerprint(experiment.data)
    packed = pack_own_data(experiment, Ranks(), counting)
    assert len(TALLY) == 3
    assert own_sources(packed) == []
    assert fingerprint(experiment.data) == fingerprint(packed.data)
