"""A server of W&B that fails costs a run some seconds, one warning, and nothing else."""

import json
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import wandb
from accelerate import PartialState
from PIL import Image

from ganscale.config import Experiment
from ganscale.monitoring.trackers import wandb_connection
from ganscale.monitoring.trackers.run_trackers import Trackers
from ganscale.runs.run_folder import RunFolder
from ganscale.runs.sync.parts import find_parts
from ganscale.runs.sync.upload import sync
from ganscale.runs.trust import note_own_wandb
from ganscale.training.trainer import train
from tests.conftest import tiny
from tests.wandb_cloud import Answer, Cloud, logged_in

TIMEOUT = 1  # s
LONGEST = (
    25  # s; W&B's program alone may take seconds to start, and a stalled server takes for ever
)
ONLINE = ("monitoring.wandb=online", f"monitoring.wandb.timeout={TIMEOUT}")


@pytest.fixture(autouse=True)
def one_process() -> None:
    PartialState(cpu=True)


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    monkeypatch.setattr(wandb_connection, "FINISH_TIMES", 1)
    with logged_in(monkeypatch) as server:
        yield server


def refuse(cloud: Cloud) -> None:
    cloud.shutdown()
    cloud.server_close()


def answering(status: int, body: bytes = b"") -> Callable[[Cloud], None]:
    def change(cloud: Cloud) -> None:
        cloud.trouble = lambda request: Answer(status, body)

    return change


TROUBLES: dict[str, Callable[[Cloud], None]] = {
    "refuses": refuse,
    "stalls": lambda cloud: cloud.stalled.set(),
    "500": answering(500),
    "429": answering(429),
    "403": answering(403),
    "404": answering(404),
    "a page": answering(200, b"<html>Please log in to this network</html>"),
    "cut": answering(200, b'{"data": {"upsert'),
    "wrong types": answering(200, b'{"data": {"model": 3, "upsertBucket": []}}'),
}


def open_trackers(experiment: Experiment) -> tuple[Trackers, RunFolder]:
    folder = RunFolder.of(experiment)
    folder.claim(experiment)
    folder.release()
    return Trackers(experiment, folder.path, folder.metrics), folder


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    records = [record for record in caplog.records if record.name == "ganscale"]
    return [r.getMessage() for r in records if r.levelno >= logging.WARNING]


@pytest.mark.parametrize("trouble", TROUBLES)
def test_a_run_starts_without_a_server_that_fails(
    digits: Path, tmp_path: Path, cloud: Cloud, caplog: pytest.LogCaptureFixture, trouble: str
) -> None:
    TROUBLES[trouble](cloud)
    began = time.monotonic()
    trackers, folder = open_trackers(tiny(digits, tmp_path, *ONLINE))
    assert time.monotonic() - began < LONGEST
    trackers.log(1, 8, {"loss": 0.5})
    trackers.finish()
    (warning,) = warnings(caplog)
    assert f"logging offline: `ganscale sync {folder.path}` uploads it later" in warning
    wandb.teardown()  # what is finished is in the file once W&B's program has ended
    (part,) = find_parts(folder)[0][trackers.ids["wandb"]]
    assert part.is_offline
    assert any(record.HasField("history") for record in part.records)
    assert json.loads(folder.metrics.read_text())["loss"] == 0.5


@pytest.mark.parametrize("trouble", ["refuses", "stalls", "500", "404"])
def test_a_server_that_dies_in_the_middle_delays_the_end_for_a_while(
    digits: Path,
    tmp_path: Path,
    cloud: Cloud,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    trouble: str,
) -> None:
    trackers, folder = open_trackers(tiny(digits, tmp_path, *ONLINE))
    trackers.log(1, 8, {"loss": 0.5})
    TROUBLES[trouble](cloud)
    for step in range(2, 9):
        trackers.log(step, 8 * step, {"loss": 0.5})
    began = time.monotonic()
    trackers.finish()
    assert time.monotonic() - began < LONGEST
    (warning,) = warnings(caplog)
    assert f"W&B has not got all of this run; `ganscale sync {folder.path}` uploads the" in warning
    if trouble != "500":
        return
    wandb.teardown()
    # What it has not got is there for a server that lives.
    with logged_in(monkeypatch) as other:
        note_own_wandb(folder.path, trackers.ids["wandb"])
        sync(folder.path)
        assert other.runs[trackers.ids["wandb"]].steps == list(range(1, 9))


def test_w_and_bs_program_may_be_killed(
    digits: Path, tmp_path: Path, cloud: Cloud, caplog: pytest.LogCaptureFixture
) -> None:
    trackers, folder = open_trackers(tiny(digits, tmp_path, "monitoring.wandb=offline"))
    trackers.log(1, 8, {"loss": 0.5})
    (service,) = [p for p in psutil.Process().children() if p.name() == "wandb-core"]
    service.kill()
    service.wait()
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    for step in range(2, 5):
        trackers.log(step, 8 * step, {"loss": 0.5})
        trackers.picture(step, "samples", tmp_path / "a.png")
        trackers.alert("a", "b")
    trackers.finish()
    assert len(folder.metrics.read_text().splitlines()) == 4
    (warning,) = warnings(caplog)
    assert "the tracker wandb fails at step 2" in warning


def test_a_folder_that_cannot_be_written_costs_w_and_b_alone(
    digits: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    experiment = tiny(digits, tmp_path, "monitoring.wandb=offline")
    RunFolder.of(experiment).path.mkdir(parents=True)
    (RunFolder.of(experiment).path / "wandb").touch()  # where W&B wants to make a folder
    trackers, folder = open_trackers(experiment)
    trackers.log(1, 8, {"loss": 0.5})
    trackers.finish()
    assert len(folder.metrics.read_text().splitlines()) == 1
    (warning,) = warnings(caplog)
    assert "the tracker wandb does not start (" in warning
    assert "the run goes on without it" in warning


def test_parts_that_wait_for_sync_come_first(
    digits: Path, tmp_path: Path, cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    trackers, folder = open_trackers(tiny(digits, tmp_path, "monitoring.wandb=offline"))
    trackers.log(1, 8, {"loss": 0.5})
    trackers.finish()
    online = tiny(digits, tmp_path, *ONLINE)
    second = Trackers(online, folder.path, folder.metrics, 1, trackers.ids)
    second.log(2, 16, {"loss": 0.25})
    second.finish()
    wandb.teardown()
    assert not cloud.runs
    note_own_wandb(folder.path, trackers.ids["wandb"])
    sync(folder.path)
    third = Trackers(online, folder.path, folder.metrics, 2, trackers.ids)
    third.log(3, 24, {"loss": 0.125})
    third.finish()
    (run,) = cloud.runs.values()
    assert [(line["_step"], line["loss"]) for line in run.history] == [
        (1, 0.5),
        (2, 0.25),
        (3, 0.125),
    ]


def test_the_weights_do_not_depend_on_w_and_b(
    digits: Path, tmp_path: Path, cloud: Cloud, caplog: pytest.LogCaptureFixture
) -> None:
    found = {}
    for name, changes in {"without": (), "with": ONLINE}.items():
        experiment = tiny(digits, tmp_path, f"name={name}", "monitoring.pictures_every=5", *changes)
        if name == "with":
            cloud.trouble = lambda request: (
                Answer(500) if cloud.runs and "file_stream" in request else None
            )
        assert train(experiment) == 0
        folder = RunFolder.of(experiment)
        (last,) = folder.checkpoints.glob("step-00000010")
        found[name] = [path.read_bytes() for path in sorted(last.glob("*.safetensors"))]
        assert len(folder.metrics.read_text().splitlines()) == 10
    assert found["with"]
    assert found["with"] == found["without"]
