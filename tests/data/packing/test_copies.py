"""A user's own images are packed once into the cache, and a change of them is noticed."""

import json
import logging
import os
import shutil
import signal
import sys
import tarfile
import threading
import time
import types
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest
from PIL import Image

from ganscale.config import Data
from ganscale.data.packing import copies as module
from ganscale.data.packing import pack as packing
from ganscale.data.packing.copies import Copies, is_source
from ganscale.data.packing.pack import Progress
from ganscale.data.packing.shard_writer import write_shard
from ganscale.data.shards.manifest import MANIFEST, load_manifest
from ganscale.errors import GanscaleError
from tests.data.faulty_server import serving
from tests.data.packing.packed import quiet


@contextmanager
def unseen(phase: str) -> Iterator[Progress]:
    yield quiet


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few images make several shards."""
    monkeypatch.setattr(module, "SHARD_SAMPLES", range(2, 3))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    for kind, red in (("cat", 10), ("dog", 200)):
        (folder / kind).mkdir(parents=True)
        for i in range(3):
            Image.new("RGB", (12 + i, 16), (red, i, 0)).save(folder / kind / f"{i}.png")
    return folder


def own(folder: Path, path: Path | str, **values: object) -> Data:
    described = {"path": str(path), "cache": str(folder / "cache"), "resolution": 8, "channels": 3}
    return Data.model_validate({**described, **values})


def test_a_folder_is_packed_once_at_the_shape_of_the_experiment(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies = Copies(own(tmp_path, photos))
    assert copies.find(str(photos)) is None
    copy = copies.make(str(photos), unseen)
    manifest = load_manifest(copy)
    assert (manifest.samples, manifest.classes) == (6, ("cat", "dog"))
    assert (manifest.channels, manifest.height, manifest.width) == (3, 8, 8)
    assert copies.find_fingerprint(manifest.fingerprint) == copy
    monkeypatch.setattr(module, "pack", None)  # nothing is packed again
    assert Copies(own(tmp_path, f"{photos}/")).make(f"{photos}/", unseen) == copy
    assert copies.find(str(photos)) == copy
    assert not list(copies.folder.glob("*.partial"))


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_archives_hold_the_same_images(photos: Path, tmp_path: Path, kind: str) -> None:
    archive = tmp_path / f"photos.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(archive, "w") as file:
            for image in sorted(photos.rglob("*.png")):
                file.write(image, image.relative_to(photos))
    else:
        with tarfile.open(archive, "w") as file:
            file.add(photos, ".")
    data = own(tmp_path, archive)
    assert is_source(str(archive), data)
    prints = {
        load_manifest(Copies(data).make(str(source), unseen)).fingerprint
        for source in (archive, photos)
    }
    assert len(prints) == 1


def change_name(photos: Path) -> None:
    (photos / "cat" / "0.png").rename(photos / "cat" / "9.png")


def change_time(photos: Path) -> None:
    os.utime(photos / "dog" / "2.png", ns=(1, 1))


def change_number(photos: Path) -> None:
    (photos / "dog" / "2.png").unlink()


@pytest.mark.parametrize("change", [change_name, change_time, change_number])
def test_a_changed_folder_has_another_copy(
    photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, change: object
) -> None:
    copies = Copies(own(tmp_path, photos, resolution=[8, 12]))
    before = copies.make(str(photos), unseen)
    (photos / "notes.txt").write_text("no image")
    assert copies.find(str(photos)) == before
    assert callable(change)
    change(photos)
    assert copies.find(str(photos)) is None
    with caplog.at_level(logging.INFO):
        assert copies.make(str(photos), unseen) != before
    assert load_manifest(before).samples == 6
    assert f"its earlier copy remains in {before}" in caplog.text


def test_another_shape_has_another_copy(photos: Path, tmp_path: Path) -> None:
    changes: list[dict[str, object]] = [{}, {"channels": 1}, {"resolution": [8, 12]}]
    shapes = [own(tmp_path, photos, **change) for change in changes]
    made = [Copies(data).make(str(photos), unseen) for data in shapes]
    assert len(set(made)) == 3
    assert load_manifest(made[2]).width == 12


class Interrupted(BaseException):
    pass


def test_a_killed_packing_goes_on_where_it_was(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies, written = Copies(own(tmp_path, photos)), []

    def write_one(source: object, path: Path, *rest: object) -> object:
        if written:
            raise Interrupted
        written.append(path)
        return write_shard(source, path, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(packing, "write_shard", write_one)
    with pytest.raises(Interrupted):
        copies.make(str(photos), unseen)
    assert copies.find(str(photos)) is None
    kept = written[0].stat().st_mtime_ns
    monkeypatch.undo()
    monkeypatch.setattr(module, "SHARD_SAMPLES", range(2, 3))
    copy = copies.make(str(photos), unseen)
    assert (copy / written[0].name).stat().st_mtime_ns == kept
    assert load_manifest(copy).samples == 6


def test_one_packs_while_others_wait_and_survive_its_death(photos: Path, tmp_path: Path) -> None:
    copies = Copies(own(tmp_path, photos))
    child = os.fork()
    if child == 0:
        try:
            packing.write_shard = lambda *_: time.sleep(60)  # type: ignore[assignment]
            copies.make(str(photos), unseen)
        finally:
            os._exit(0)
    while not list(copies.folder.glob("*.partial/packing.json")):
        time.sleep(0.01)
    made: list[Path] = []
    waiting = [
        threading.Thread(target=lambda: made.append(copies.make(str(photos), unseen)))
        for _ in range(2)
    ]
    for thread in waiting:
        thread.start()
    time.sleep(0.2)
    assert not made
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    for thread in waiting:
        thread.join()
    assert made == [copies.find(str(photos))] * 2


def test_a_source_that_changes_meanwhile_is_not_taken_for_whole(
    photos: Path, tmp_path: Path
) -> None:
    copies = Copies(own(tmp_path, photos))

    @contextmanager
    def changing(phase: str) -> Iterator[Progress]:
        change_time(photos)
        yield quiet

    with pytest.raises(GanscaleError, match="changed while it was being packed"):
        copies.make(str(photos), changing)
    assert not list(copies.folder.glob(f"*/{MANIFEST}"))


def test_broken_images_are_named_or_left_out(
    photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (photos / "cat" / "1.png").write_bytes(b"\x89PNG no")
    with pytest.raises(GanscaleError, match=r"cat/1\.png.*data\.on_error=skip"):
        Copies(own(tmp_path, photos)).make(str(photos), unseen)
    copy = Copies(own(tmp_path, photos, on_error="skip")).make(str(photos), unseen)
    assert load_manifest(copy).samples == 5
    assert "cat/1.png" in caplog.text
    assert "left out 1 of 6 images" in caplog.text


def test_a_full_disk_gives_one_message(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(packing, "write_shard", write)
    with pytest.raises(GanscaleError, match=r"No space left .*data\.cache=FOLDER"):
        Copies(own(tmp_path, photos)).make(str(photos), unseen)


def test_packed_sets_and_what_is_missing_are_no_sources(digits: Path, tmp_path: Path) -> None:
    data = Data(path=str(digits))
    assert not is_source(str(digits), data)
    assert not is_source(str(tmp_path / "missing"), data)
    assert not is_source("https://127.0.0.1/set", data)
    assert is_source("https://127.0.0.1/set.zip?version=2", data)
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    (unfinished / "packing.json").write_text("{}")
    assert not is_source(str(unfinished), data)


def test_a_folder_of_packed_sets_is_not_one_of_images(digits: Path, tmp_path: Path) -> None:
    folder = digits.parent
    with pytest.raises(GanscaleError, match=f"set data.path to one of them: .*{digits}"):
        Copies(own(tmp_path, folder)).make(str(folder), unseen)


def test_an_archive_at_an_address_is_fetched_once(photos: Path, tmp_path: Path) -> None:
    served = tmp_path / "served"
    served.mkdir()
    shutil.make_archive(str(served / "photos"), "zip", photos)
    with serving(served) as server:
        address = f"{server.url}/photos.zip"
        copies = Copies(own(tmp_path, address))
        copy = copies.make(address, unseen)
        manifest = load_manifest(copy)
        assert (manifest.samples, manifest.source) == (6, "photos.zip")
        assert json.loads((copy / "origin.json").read_text())["source"] == address
        assert copies.make(address, unseen) == copy
        assert not (copy / ".source").exists()
        change_number(photos)
        shutil.make_archive(str(served / "photos"), "zip", photos)
        assert load_manifest(copies.make(address, unseen)).samples == 5
        assert server.requests["/photos.zip"] == 2
        (served / "photos.zip").unlink()
        with pytest.raises(GanscaleError, match=r"photos\.zip: the server does not give it .*404"):
            copies.make(address, unseen)


def test_only_our_own_program_packs_in_several_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert module._processes() == 1  # pytest is somebody else's
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2})
    main = types.ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", main)
    for file, processes in (("/bin/ganscale", 3), ("/home/me/train.py", 1)):
        main.__file__ = file
        assert module._processes() == processes
    main.__spec__ = ModuleSpec("ganscale.__main__", None)
    assert module._processes() == 3


def test_a_source_without_images_leaves_no_folder(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    copies = Copies(own(tmp_path, tmp_path / "notes"))
    with pytest.raises(GanscaleError, match="no image files"):
        copies.make(str(tmp_path / "notes"), unseen)
    assert not [path for path in copies.folder.iterdir() if path.is_dir()]
