"""Sets at an address: whole, checked, bounded, fetched once, in spite of the server."""

import os
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from ganscale.config import Data
from ganscale.data.reading.image_set import ImageSet
from ganscale.data.reading.loader import BatchDataset, batches, shard_prefetcher
from ganscale.data.reading.streaming import stream
from ganscale.data.shards import download
from ganscale.data.shards import shard_cache as cache_module
from ganscale.data.shards.manifest import load_manifest
from ganscale.data.shards.shard_cache import ShardCache
from ganscale.errors import GanscaleError
from tests.data.faulty_server import FAULTS, serving


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short waits: the logic is the same."""
    monkeypatch.setattr(cache_module, "FIRST_WAIT_S", 0.01)
    monkeypatch.setattr(download, "STALL_S", 0.3)


def remote(url: str, folder: Path, **values: object) -> Data:
    return Data.model_validate({"path": url, "cache": str(folder), "block_shards": 1, **values})


def test_every_sample_arrives_through_every_fault(digits: Path, tmp_path: Path) -> None:
    local = ImageSet(Data(path=str(digits))).reader().read(np.arange(1797))
    with serving(digits, FAULTS) as server:
        images = ImageSet(remote(server.url, tmp_path / "cache"))
        got = images.reader().read(np.arange(1797))
        assert torch.equal(got.images, local.images)
        assert torch.equal(got.labels, local.labels)
        tars = [n for path, n in server.requests.items() if path.endswith(".tar")]
        assert tars == [len(FAULTS) + 1] * 5
    assert not list((tmp_path / "cache").glob("*.part"))


@pytest.mark.parametrize("fault", FAULTS)
def test_a_server_that_never_mends_is_named(digits: Path, tmp_path: Path, fault: str) -> None:
    with serving(digits) as server:
        images = ImageSet(remote(server.url, tmp_path / "cache"))
        server.faults = (fault,) * 100
        with pytest.raises(
            GanscaleError, match=r"shard-000000\.tar: download failed after 6 attempts"
        ):
            images.reader().read(np.array([0]))


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("drip", r"only [\d,]+ bytes arrived in"),
        ("drip headers", "nothing arrived for 0.3 s"),
        ("flood", r"is larger than [\d,]+ bytes"),
        ("announce", r"is larger than [\d,]+ bytes"),
    ],
)
@pytest.mark.parametrize("name", ["manifest.json", "shard-000000.tar", "shard-000000.index.npy"])
def test_a_server_that_never_ends_is_given_up(
    digits: Path,
    tmp_path: Path,
    fault: str,
    reason: str,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cache_module, "MAX_ATTEMPTS", 1)
    monkeypatch.setattr(download, "GRACE_S", 0.5)
    monkeypatch.setattr("ganscale.data.shards.storage.MAX_MANIFEST_BYTES", 10**5)
    started = time.monotonic()
    with serving(digits) as server:
        server.faults_of[name] = fault
        with pytest.raises(GanscaleError, match=rf"{name}: .*{reason}"):
            ImageSet(remote(server.url, tmp_path / "cache")).reader().read(np.array([0]))
    assert time.monotonic() - started < 20
    assert _size(tmp_path / "cache") < 2 * 10**6


def test_a_bound_above_the_caches_is_none(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A manifest that lists many samples allows a large index."""
    monkeypatch.setattr(cache_module, "MAX_ATTEMPTS", 1)
    with serving(digits) as server:
        server.faults_of["shard-000000.index.npy"] = "flood"
        url = f"{server.url}/shard-000000.index.npy"
        with pytest.raises(GanscaleError, match="is larger than 100,000 bytes"):
            ShardCache(tmp_path, 10**5).fetch(url, max_bytes=10**7)


def test_what_is_not_there_is_not_asked_for_again(digits: Path, tmp_path: Path) -> None:
    with (
        serving(tmp_path) as server,
        pytest.raises(GanscaleError, match=r"manifest\.json: download failed after 1 attempt.*404"),
    ):
        ImageSet(remote(server.url, tmp_path / "cache"))


def test_the_limit_holds_all_the_time(digits: Path, tmp_path: Path) -> None:
    total = sum(shard.bytes for shard in load_manifest(digits).shards)
    limit = total // 2
    folder = tmp_path / "cache"
    largest, stop = 0, threading.Event()

    def watch() -> None:
        nonlocal largest
        while not stop.is_set():
            largest = max(largest, _size(folder))
            time.sleep(0.001)

    with serving(digits) as server:
        data = remote(server.url, folder, cache_gib=limit / 2**30, workers=0)
        images = ImageSet(data)
        watcher = threading.Thread(target=watch)
        watcher.start()
        dataset = BatchDataset(
            images.reader(), images.order(0), 50, range(50), shard_prefetcher(data, images)
        )
        got = np.concatenate([b.labels.numpy() for b in batches(dataset, 0, 80, data)])
        stop.set()
        watcher.join()
    assert len(got) == 4000  # more than two epochs through half the room
    assert total // 5 < largest <= limit


def _size(folder: Path) -> int:
    try:
        return sum(p.stat().st_size for p in folder.iterdir() if p.suffix != ".lock")
    except FileNotFoundError:
        return 0


def test_a_file_larger_than_the_cache_is_refused(digits: Path, tmp_path: Path) -> None:
    with serving(digits) as server:
        images = ImageSet(remote(server.url, tmp_path / "cache", cache_gib=1e-5))
        with pytest.raises(GanscaleError, match=r"do not fit into data\.cache_gib"):
            images.reader().read(np.array([0]))


def test_all_processes_of_a_node_share_one_download(digits: Path, tmp_path: Path) -> None:
    with serving(digits) as server:
        url = f"{server.url}/shard-000000.tar"

        def fetch(_: int) -> Path:
            return ShardCache(tmp_path, 10**9).fetch(url)

        with ThreadPoolExecutor(8) as pool:
            paths = set(pool.map(fetch, range(8)))
        assert len(paths) == 1
        assert server.requests["/shard-000000.tar"] == 1


def test_equal_names_in_two_folders_do_not_meet(digits: Path, tmp_path: Path) -> None:
    for name in ("train", "val"):
        (tmp_path / "www" / name).mkdir(parents=True)
        (tmp_path / "www" / name / "0000.tar").write_text(name)
    with serving(tmp_path / "www") as server:
        cache = ShardCache(tmp_path / "cache", 10**6)
        got = [cache.fetch(f"{server.url}/{n}/0000.tar").read_text() for n in ("train", "val")]
    assert got == ["train", "val"]


@pytest.mark.parametrize("age_s", [0, 3600])
def test_a_copy_that_went_bad_is_fetched_anew(digits: Path, tmp_path: Path, age_s: int) -> None:
    folder = tmp_path / "cache"
    (about, *_) = load_manifest(digits).shards
    with serving(digits) as server:
        url = f"{server.url}/{about.name}"
        path = ShardCache(folder, 10**9).fetch(url, about.bytes, about.sha256)
        good, times = path.read_bytes(), path.stat()
        path.write_bytes(good[:999] + bytes([good[999] ^ 1]) + good[1000:])
        if age_s:  # a disk that loses a bit changes no time
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
            record = path.with_suffix(".verified")
            os.utime(record, (time.time() - age_s, time.time() - age_s))
        again = ShardCache(folder, 10**9).fetch(url, about.bytes, about.sha256)
        assert again.read_bytes() == good
        assert server.requests[f"/{about.name}"] == 2


def test_a_run_reads_a_cached_file_once_to_check_it(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (about, *_) = load_manifest(digits).shards
    read: list[Path] = []
    with serving(digits) as server:
        fetch = (f"{server.url}/{about.name}", about.bytes, about.sha256)
        path = ShardCache(tmp_path, 10**9).fetch(*fetch)
        record = path.with_suffix(".verified")
        os.utime(record, (0, 0))  # a run of long ago
        monkeypatch.setattr(
            cache_module, "sha256_of_file", lambda p: (read.append(p), about.sha256)[1]
        )
        for _ in range(3):  # processes of this run
            cache = ShardCache(tmp_path, 10**9)
            cache.fetch(*fetch)
            cache.fetch(*fetch)
    assert read == [path]


def test_what_a_killed_download_left_makes_room(digits: Path, tmp_path: Path) -> None:
    left = tmp_path / f"{'0a' * 16}.1-1.part"
    left.write_bytes(bytes(10**5))
    os.utime(left, (0, 0))
    with serving(digits) as server:
        ShardCache(tmp_path, 10**7).fetch(f"{server.url}/shard-000000.tar")
    assert not left.exists()


NOT_OURS = ("thesis.odt", "thesis.part", "x.1-1.part", "0a.tar", "0A" * 16, "0a" * 16 + ".1-1.txt")


def test_only_what_the_cache_made_is_removed(digits: Path, tmp_path: Path) -> None:
    ours = tmp_path / ("0a" * 16)
    for name in (*NOT_OURS, ours.name):
        (tmp_path / name).write_bytes(bytes(10**5))
        os.utime(tmp_path / name, (0, 0))
    (about, *_) = load_manifest(digits).shards
    with serving(digits) as server:
        cache = ShardCache(tmp_path, about.bytes + 10)  # room for one shard
        cache.fetch(f"{server.url}/{about.name}", about.bytes, about.sha256)
        assert cache.used_bytes() == about.bytes
    assert not ours.exists()
    assert all((tmp_path / name).is_file() for name in NOT_OURS)


@pytest.mark.parametrize("name", ["http://127.0.0.2:9/x.tar", "https://{host}/x.tar", "s3://b/x"])
def test_a_manifest_names_files_of_its_own_server_only(
    digits: Path, tmp_path: Path, name: str
) -> None:
    folder = shutil.copytree(digits, tmp_path / "set")
    manifest = load_manifest(folder)
    with serving(folder) as server:
        host = server.url.removeprefix("http://")
        for named in (name.format(host=host), f"{server.url}/shard-000000.tar"):
            shard = manifest.shards[0].model_copy(
                update={"name": named, "index": "shard-000000.index.npy"}
            )
            manifest.model_copy(update={"shards": (shard,)}).save(folder)
            indexed = remote(server.url, tmp_path / "cache")
            streamed = indexed.model_copy(update={"reader": "streaming", "workers": 0})
            if named.startswith(server.url):
                ImageSet(indexed).reader().read(np.array([0]))
                next(stream(streamed, (1, 28, 28), 1, 0, 0, 0))
                continue
            with pytest.raises(GanscaleError, match="not on the same server"):
                ImageSet(indexed).reader().read(np.array([0]))
            with pytest.raises(GanscaleError, match="not on the same server"):
                next(stream(streamed, (1, 28, 28), 1, 0, 0, 0))


def test_redirects_lead_to_web_servers_only(digits: Path, tmp_path: Path) -> None:
    manifest = digits / "manifest.json"
    with serving(digits) as server, serving(tmp_path) as first:
        first.redirects["/a"] = f"{server.url}/manifest.json"
        first.redirects["/b"] = "ftp://127.0.0.1:9/x"
        cache = ShardCache(tmp_path / "cache", 10**6)
        assert cache.fetch(f"{first.url}/a").read_bytes() == manifest.read_bytes()
        with pytest.raises(GanscaleError, match=r"/b: redirects to ftp://.* not fetched"):
            cache.fetch(f"{first.url}/b")
        assert first.requests["/b"] == 1


def test_the_next_block_is_fetched_ahead(digits: Path, tmp_path: Path) -> None:
    with serving(digits) as server:
        data = remote(server.url, tmp_path / "cache", workers=0)
        images = ImageSet(data)
        dataset = BatchDataset(
            images.reader(), images.order(0), 8, range(8), shard_prefetcher(data, images)
        )
        dataset[0]
        (upcoming,) = images.order(0).next_shards(0, 8, range(8))
        wanted = f"/shard-{upcoming:06d}.tar"
        deadline = time.monotonic() + 10
        while server.requests[wanted] == 0 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert server.requests[wanted] == 1


def test_an_s3_like_address_goes_through_fsspec(digits: Path, tmp_path: Path) -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    for path in digits.iterdir():
        if path.is_file():
            memory.pipe(f"/bucket/{path.name}", path.read_bytes())
    images = ImageSet(remote("memory://bucket", tmp_path / "cache"))
    assert len(images.reader().read(np.arange(5)).images) == 5
    with pytest.raises(GanscaleError, match=r"after 1 attempt .FileNotFoundError"):
        ImageSet(remote("memory://elsewhere", tmp_path / "cache"))


def test_a_file_systems_own_errors_are_messages_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class CredentialsError(Exception):
        pass

    def opened(*_: object) -> None:
        raise CredentialsError("unable to locate credentials")

    monkeypatch.setattr("fsspec.implementations.memory.MemoryFileSystem.open", opened)
    monkeypatch.setattr("ganscale.data.shards.shard_cache.time.sleep", lambda seconds: None)
    with pytest.raises(GanscaleError, match=r"after 6 attempts .CredentialsError: unable to"):
        ImageSet(remote("memory://bucket", tmp_path / "cache"))


@pytest.mark.parametrize("cache", ["folder", "none"])
@pytest.mark.parametrize("workers", [0, 2])
def test_streaming_reads_real_samples(
    digits: Path, tmp_path: Path, cache: str, workers: int
) -> None:
    truth = ImageSet(Data(path=str(digits))).reader().read(np.arange(1797))
    known = {
        bytes(image.numpy().tobytes()): int(label) for image, label in zip(*truth, strict=True)
    }
    with serving(digits) as server:
        data = Data(
            path=f"{server.url}/shard-{{000000..000004}}.tar",
            reader="streaming",
            cache="none" if cache == "none" else str(tmp_path / "cache"),
            workers=workers,
        )
        got = list(islice(stream(data, (1, 28, 28), 32, 0, 0, 0), 20))
        again = list(islice(stream(data, (1, 28, 28), 32, 0, 0, 0), 20))
        other = list(islice(stream(data, (1, 28, 28), 32, 0, 1, 0), 20))
    for batch in got:
        for image, label in zip(*batch, strict=True):
            assert known[image.numpy().tobytes()] == label
    assert all(torch.equal(a.images, b.images) for a, b in zip(got, again, strict=True))
    assert not torch.equal(got[0].images, other[0].images)


@pytest.mark.parametrize("reader", ["indexed", "streaming"])
def test_a_cache_that_cannot_be_written_is_a_message_from_a_worker_too(
    digits: Path, tmp_path: Path, reader: str
) -> None:
    (tmp_path / "file").write_text("no folder")
    with serving(digits) as server:
        images = ImageSet(remote(server.url, tmp_path / "cache"))
        broken = {"reader": reader, "workers": 1}
        if reader == "streaming":
            data = remote(f"{server.url}/{{000000..000001}}.tar", tmp_path / "file", **broken)
            batch = stream(data, (1, 28, 28), 1, 0, 0, 0)
        else:
            data = remote(server.url, tmp_path / "cache", **broken)
            dataset = BatchDataset(images.reader(), images.order(0), 8, range(8))
            shutil.rmtree(tmp_path / "cache")
            (tmp_path / "cache").write_text("no folder any more")
            batch = batches(dataset, 0, 1, data)
        with pytest.raises(GanscaleError, match=rf"^{tmp_path}/\w+: File exists"):
            next(batch)


def test_a_copy_elsewhere_is_the_same_set(digits: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(digits, tmp_path / "copy")
    assert (
        ImageSet(Data(path=str(copy))).fingerprint == ImageSet(Data(path=str(digits))).fingerprint
    )
