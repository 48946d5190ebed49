"""MLflow's store, read back by its own client."""

import os
from pathlib import Path

import numpy as np
import pytest
from accelerate import PartialState
from PIL import Image

from ganscale.monitoring.pictures import save_grid
from ganscale.monitoring.trackers.mlflow_tracker import PATIENCE
from ganscale.monitoring.trackers.run_trackers import Trackers
from tests.conftest import tiny


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    pytest.importorskip("mlflow", reason="mlflow is not installed")
    for variable, value in PATIENCE.items():
        monkeypatch.setenv(variable, value)  # what the tracker sets is forgotten after the test
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # a database would need SQLAlchemy
    uri = (tmp_path / "mlruns").as_uri()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    return uri


def test_mlflow_goes_on_with_the_run_and_shows_each_step_once(
    digits: Path, tmp_path: Path, store: str
) -> None:
    from mlflow import MlflowClient

    PartialState(cpu=True)  # Accelerate's trackers ask it for the rank
    experiment = tiny(digits, tmp_path, "monitoring.trackers=[mlflow]", "seed=11")
    grid = save_grid(np.full((4, 8, 8, 3), 77, np.uint8), tmp_path / "grid.png")
    Image.new("L", (8, 8)).save(tmp_path / "walk.gif")
    ids: dict[str, str] = {}
    for resumed, last in ((0, 4), (2, 6)):
        trackers = Trackers(experiment, tmp_path, tmp_path / "metrics.jsonl", resumed, ids)
        ids = trackers.ids
        for step in range(resumed + 1, last + 1):
            trackers.log(step, 8 * step, {"loss_generator": 10.0 * last + step})
        trackers.picture(last, "samples", grid)
        trackers.picture(last, "gallery_interpolation", tmp_path / "walk.gif")
        trackers.finish()
    client = MlflowClient(store)
    (project,) = client.search_experiments(filter_string="name = 'ganscale'")
    (run,) = client.search_runs([project.experiment_id])
    assert run.info.run_id == ids["mlflow"]
    assert (run.info.run_name, run.info.status) == ("tiny", "FINISHED")
    assert run.data.params["seed"] == "11"
    history = client.get_metric_history(run.info.run_id, "loss_generator")
    # What MLflow has logged before the resume stays as it is.
    assert sorted((m.step, m.value) for m in history) == [
        *((1, 41), (2, 42), (3, 43), (4, 44)),
        *((5, 65), (6, 66)),
    ]
    pictures = [a.path for a in client.list_artifacts(run.info.run_id, "images")]
    for step in (4, 6):
        (of_step,) = [p for p in pictures if f"+step+{step}+" in p and p.endswith(".png")]
        shown = Image.open(client.download_artifacts(run.info.run_id, of_step))
        assert np.array_equal(np.asarray(shown), np.asarray(Image.open(grid)))
    (walk,) = client.list_artifacts(run.info.run_id, "gallery_interpolation")
    assert walk.path == "gallery_interpolation/walk.gif"

    failed = Trackers(experiment, tmp_path, tmp_path / "metrics.jsonl", 6, ids)
    failed.abandon()
    assert client.get_run(ids["mlflow"]).info.status == "FAILED"


def test_mlflow_without_a_server_is_one_warning(
    digits: Path,
    tmp_path: Path,
    store: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    experiment = tiny(digits, tmp_path, "monitoring.trackers=[mlflow]")
    trackers = Trackers(experiment, tmp_path, tmp_path / "metrics.jsonl")
    trackers.log(1, 8, {"loss_generator": 1.0})
    trackers.finish()
    assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "0"  # the user's own value stands
    (warning,) = [m for m in caplog.messages if "the tracker mlflow" in m]
    assert "127.0.0.1" in warning
    assert warning.endswith("the run goes on without it")
