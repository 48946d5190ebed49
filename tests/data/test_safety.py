"""Shards that strangers wrote: nothing executes, nothing escapes, nothing hangs."""

import pickle
import shutil
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from ganscale.config import Data
from ganscale.config.load import load
from ganscale.data.inspection import verify
from ganscale.data.packing.foreign_shards import expand_shards, index_shards
from ganscale.data.reading.image_set import ImageSet
from ganscale.data.reading.streaming import shard_urls, stream
from ganscale.data.shards.index import index_path
from ganscale.data.shards.manifest import load_manifest
from ganscale.errors import GanscaleError
from tests.data.forging import bomb, forge, png, tar


class Attack:
    """Touches a file when it is unpickled."""

    def __init__(self, witness: Path):
        self.witness = witness

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return (Path.touch, (self.witness,))


def read_both_ways(path: Path, folder: Path) -> None:
    """Through the index, and as a stream."""
    index_shards([str(path)], folder / "index")
    data = Data(path=str(folder / "index"), resolution=8)
    images = ImageSet(data)
    images.reader().read(np.arange(images.samples))
    streamed = Data(path=str(path), resolution=8, workers=0, reader="streaming")
    list(islice(stream(streamed, (1, 8, 8), 1, 0, 0, 0), 4))


def test_pickles_are_never_loaded(tmp_path: Path) -> None:
    witness = tmp_path / "executed"
    attack = pickle.dumps(Attack(witness))
    members = {"a.png": png(), "a.cls": b"1"}
    for kind in ("pyd", "pickle", "pkl", "pth", "npy", "pyc"):
        members[f"a.{kind}"] = attack
    read_both_ways(tar(tmp_path / "x.tar", members), tmp_path)
    assert not witness.exists()
    # Guard of the test itself: WebDataset's own decoder does run it.
    pickle.loads(attack)
    assert witness.exists()


def test_an_image_that_is_a_pickle_is_no_image(tmp_path: Path) -> None:
    witness = tmp_path / "executed"
    path = tar(tmp_path / "x.tar", {"a.png": pickle.dumps(Attack(witness)), "b.png": png()})
    with pytest.raises(GanscaleError, match="cannot be used"):
        read_both_ways(path, tmp_path)
    assert not witness.exists()


def test_member_names_are_no_paths(tmp_path: Path) -> None:
    names = {"../../escaped.png": png(), "/tmp/ganscale-escaped.png": png(), "c:\\x.png": png()}
    before = sorted(tmp_path.parent.iterdir())
    read_both_ways(tar(tmp_path / "x.tar", names), tmp_path)
    assert sorted(tmp_path.parent.iterdir()) == before
    assert not Path("/tmp/ganscale-escaped.png").exists()


@pytest.mark.parametrize("content", [bomb(), b"", png()[:30]], ids=["bomb", "empty", "cut"])
def test_bombs_and_stumps_are_named_not_decoded(tmp_path: Path, content: bytes) -> None:
    path = tar(tmp_path / "x.tar", {"good.png": png(), "evil.png": content})
    index_shards([str(path)], tmp_path / "index")
    data = Data(path=str(tmp_path / "index"), resolution=8)
    with pytest.raises(GanscaleError, match=r"sample 'evil\.png'"):
        ImageSet(data).reader().read(np.array([1]))
    skipping = ImageSet(data.model_copy(update={"on_error": "skip"})).reader()
    assert int(skipping.read(np.array([1])).images.max()) == 7
    assert len(verify(str(tmp_path / "index"), load_manifest(tmp_path / "index"), 1)) == 1


def test_a_truncated_tar_is_found_at_once(tmp_path: Path) -> None:
    path = tar(tmp_path / "x.tar", {f"{i}.png": png() for i in range(50)})
    path.write_bytes(path.read_bytes()[:20_300])
    with pytest.raises(GanscaleError, match="not a readable shard"):
        index_shards([str(path)], tmp_path / "index")
    streamed = Data(path=str(path), resolution=8, workers=0, reader="streaming")
    with pytest.raises(GanscaleError):
        list(islice(stream(streamed, (1, 8, 8), 1, 0, 0, 0), 500))


def test_two_images_under_one_key(tmp_path: Path) -> None:
    path = tar(tmp_path / "x.tar", [("a.png", png()), ("a.png", png())])
    with pytest.raises(GanscaleError, match=r"sample 'a' has two \.png members"):
        index_shards([str(path)], tmp_path / "index")


@pytest.mark.parametrize("shift", [-1, 1, 512, 10**9])
def test_an_index_that_is_off_is_found_out(digits: Path, tmp_path: Path, shift: int) -> None:
    folder = shutil.copytree(digits, tmp_path / "set")
    index = index_path(folder / "shard-000000.tar")
    table = np.load(index)
    table[:, 0] += shift
    np.save(index, table)
    forge(folder)
    with pytest.raises(
        GanscaleError, match=r"index (does not point at a member|points outside the shard)"
    ):
        ImageSet(Data(path=str(folder))).reader().read(np.array([3]))
    (fault,) = verify(str(folder), load_manifest(folder), 1)
    assert fault.startswith("shard-000000.")
    assert "does not describe shard-000000.tar" in fault or "points outside the shard" in fault


def test_an_index_with_objects_is_not_loaded(digits: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(digits, tmp_path / "set")
    witness = tmp_path / "executed"
    objects = np.empty((400, 3), dtype=object)
    objects[:] = Attack(witness)
    index = index_path(folder / "shard-000000.tar")
    np.save(index, objects, allow_pickle=True)
    forge(folder)
    with pytest.raises(GanscaleError, match="its index is not a numpy file"):
        ImageSet(Data(path=str(folder))).reader().read(np.array([0]))
    assert not witness.exists()


def test_pipes_run_only_where_they_are_allowed(tmp_path: Path) -> None:
    witness = tmp_path / "executed"
    command = f"pipe:touch {witness}; cat {tar(tmp_path / 'x.tar', {'a.png': png()})}"
    streaming = ["data.reader=streaming", "data.resolution=8", "data.workers=0"]
    with pytest.raises(GanscaleError, match=r"data\.allow_pipe"):
        load(None, [f"data.path='{command}'", *streaming])
    with pytest.raises(GanscaleError, match="cannot be indexed"):
        expand_shards([command])
    assert not witness.exists()
    allowed = load(None, [f"data.path='{command}'", *streaming, "data.allow_pipe=true"]).data
    assert list(shard_urls(allowed)) == [command]
    assert len(list(islice(stream(allowed, (1, 8, 8), 1, 0, 0, 0), 2))) == 2
    assert witness.exists()


SMUGGLED = (
    "pipe:touch {witness}",
    "pipe:touch {witness} # http://127.0.0.1/x.tar",
    "http://127.0.0.1:9/x.tar'; touch {witness}; '",
    "s3://127.0.0.1/x.tar'; touch {witness}; '",
)


@pytest.mark.parametrize("name", SMUGGLED)
def test_a_manifest_cannot_smuggle_a_command_in(digits: Path, tmp_path: Path, name: str) -> None:
    folder = shutil.copytree(digits, tmp_path / "set")
    witness = tmp_path / "executed"
    manifest = load_manifest(folder)
    evil = manifest.shards[0].model_copy(update={"name": name.format(witness=witness)})
    manifest.model_copy(update={"shards": (evil,)}).save(folder)
    for cache in ("none", str(tmp_path / "cache")):
        data = Data(path=str(folder), reader="streaming", cache=cache, workers=0)
        with pytest.raises(GanscaleError):
            list(islice(stream(data, (1, 28, 28), 1, 0, 0, 0), 1))
    with pytest.raises(GanscaleError):
        ImageSet(Data(path=str(folder))).reader().read(np.array([0]))
    assert not witness.exists()


@pytest.mark.parametrize(("on_error", "workers"), [("raise", 1), ("skip", 0)])
@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({}, "no sample in 100 shards in a row"),
        ({"a.txt": b"text"}, r"has no image|samples in a row cannot be used"),
        (
            {"a.png": b"no png"},
            r"not an image in a supported format|samples in a row cannot be used",
        ),
    ],
    ids=["empty", "text", "damaged"],
)
def test_a_stream_of_nothing_ends(
    tmp_path: Path, members: dict[str, bytes], reason: str, on_error: str, workers: int
) -> None:
    path = tar(tmp_path / "x.tar", members)
    data = Data.model_validate(
        {"path": str(path), "resolution": 8, "reader": "streaming"}
        | {"on_error": on_error, "workers": workers}
    )
    with pytest.raises(GanscaleError, match=rf"^{tmp_path}/x.tar: .*({reason})"):
        next(stream(data, (1, 8, 8), 1, 0, 0, 0))


def test_a_stream_passes_over_shards_without_samples(tmp_path: Path) -> None:
    for i in range(5):
        tar(tmp_path / f"{i}.tar", {"a.png": png()} if i == 3 else {})
    data = Data(path=f"{tmp_path}/{{0..4}}.tar", resolution=8, reader="streaming", workers=0)
    assert len(list(islice(stream(data, (1, 8, 8), 4, 0, 0, 0), 3))) == 3
