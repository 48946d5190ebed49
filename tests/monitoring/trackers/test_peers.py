"""Trackers whose packages CI does not install: what they write, where they are installed."""

import json
import sqlite3
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from accelerate import PartialState
from PIL import Image

from ganscale.monitoring.pictures import save_grid
from ganscale.monitoring.trackers.run_trackers import Trackers
from tests.conftest import tiny

ONCE = [(1, 41), (2, 42), (3, 43), (4, 44), (5, 65), (6, 66)]
"""Steps and values of a run that logs to step 4, goes on from step 2, and ends at step 6."""
Log = Callable[[str, str], str]


@pytest.fixture
def log(digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Log:
    """Logs that run, with pictures, to a tracker of this package; returns the tracker's id."""

    def log(name: str, package: str) -> str:
        pytest.importorskip(package, reason=f"{package} is not installed")
        monkeypatch.chdir(tmp_path)
        PartialState(cpu=True)  # Accelerate's trackers ask it for the rank
        experiment = tiny(digits, tmp_path, f"monitoring.trackers=[{name}]")
        grid = save_grid(np.full((4, 8, 8, 3), 77, np.uint8), tmp_path / "grid.png")
        frames = [Image.new("L", (8, 8), grey) for grey in (0, 200)]
        frames[0].save(tmp_path / "walk.gif", save_all=True, append_images=frames[1:])
        ids: dict[str, str] = {}
        for resumed, last in ((0, 4), (2, 6)):
            trackers = Trackers(experiment, tmp_path, tmp_path / "metrics.jsonl", resumed, ids)
            assert not ids or trackers.ids == ids
            ids = trackers.ids
            for step in range(resumed + 1, last + 1):
                trackers.log(step, 8 * step, {"loss_generator": 10.0 * last + step})
            trackers.picture(last, "samples", grid)
            trackers.picture(last, "gallery_interpolation", tmp_path / "walk.gif")
            trackers.finish()
        return ids[name]

    return log


def test_trackio(log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    id = log("trackio", "trackio")
    with sqlite3.connect(tmp_path / "trackio" / "ganscale.db") as database:
        rows = database.execute("select run_name, step, metrics from metrics order by id")
        logged = [(name, step, json.loads(values)) for name, step, values in rows]
    assert {name for name, _, _ in logged} == {id}
    found = [(step, v["loss_generator"]) for _, step, v in logged if "loss_generator" in v]
    assert found == ONCE
    shown = [(step, v["samples"]["_type"]) for _, step, v in logged if "samples" in v]
    assert shown == [(4, "trackio.image"), (6, "trackio.image")]
    (*_, walk) = [v["gallery_interpolation"] for *_, v in logged if "gallery_interpolation" in v]
    media = tmp_path / "trackio" / "media" / walk["file_path"]
    assert media.read_bytes() == (tmp_path / "walk.gif").read_bytes()


def test_dvclive(log: Log, tmp_path: Path) -> None:
    log("dvclive", "dvclive")
    plots = tmp_path / "dvclive" / "plots"
    lines = (plots / "metrics" / "loss_generator.tsv").read_text().splitlines()[1:]
    assert [tuple(map(float, line.split("\t"))) for line in lines] == ONCE
    assert {p.name for p in (plots / "images" / "samples").iterdir()} == {"4.png", "6.png"}
    assert (plots / "images" / "gallery_interpolation" / "6.gif").is_file()
    assert (tmp_path / "dvc.yaml").read_text().count("metrics.json") == 1


def test_comet_without_a_key(log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))  # no key of the user's is found
    monkeypatch.delenv("COMET_API_KEY", raising=False)
    id = log("comet", "comet_ml")
    archives = sorted((tmp_path / "comet").glob(f"{id}-*.zip"), key=lambda p: p.stat().st_mtime)
    assert len(archives) == 2  # one for each start
    found = []
    for archive in archives:
        with zipfile.ZipFile(archive) as opened:
            lines = opened.read("messages.json").decode().splitlines()
        for line in lines:
            metric = json.loads(line).get("payload", {}).get("metric", {})
            if metric.get("metricName") == "loss_generator":
                found.append((int(metric["step"]), float(metric["metricValue"])))
    assert found == ONCE


def test_clearml_offline(log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLEARML_OFFLINE_MODE", "1")
    monkeypatch.setenv("CLEARML_CACHE_DIR", str(tmp_path / "clearml"))
    id = log("clearml", "clearml")
    (archive,) = tmp_path.rglob(f"{id}.zip")
    with zipfile.ZipFile(archive) as opened:
        text = opened.read("metrics.jsonl").decode()
        names = opened.namelist()
    events = [event for line in text.splitlines() for event in json.loads(line)]
    found = [(e["iter"], e["value"]) for e in events if e["metric"] == "loss_generator"]
    assert found == ONCE
    assert any(name.endswith(".png") for name in names)
    assert any(name.endswith(".gif") for name in names)


def test_swanlab_without_a_key(log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWANLAB_SAVE_DIR", str(tmp_path / "account"))  # no key of the user's
    monkeypatch.delenv("SWANLAB_API_KEY", raising=False)
    id = log("swanlab", "swanlab")
    parts = sorted((tmp_path / "swanlab").glob(f"run-*-{id}"))
    assert len(parts) == 2  # one for each start
    for part in parts:
        assert {path.suffix for path in (part / "media" / "image").iterdir()} == {".png", ".gif"}
        assert b"loss_generator" in (part / f"run-{id}.swanlab").read_bytes()
