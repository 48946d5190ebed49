"""Artifacts of a run, read back from what W&B itself has written."""

from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from ganscale.config import Experiment
from ganscale.errors import GanscaleError
from ganscale.monitoring.trackers import wandb_artifacts
from ganscale.monitoring.trackers.tracker import Output
from ganscale.monitoring.trackers.wandb_artifacts import WandbArtifacts
from ganscale.runs import checkpoint
from ganscale.runs.checkpoint_names import list_finished
from ganscale.runs.pretrained import read_pretrained_weights
from ganscale.runs.run_folder import RunFolder
from ganscale.runs.sync.transaction_log import read_log
from ganscale.training.trainer import train
from tests.conftest import tiny


def test_an_offline_run_records_its_checkpoints_and_its_model(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As if each checkpoint were evaluated and better than the one before.
    monkeypatch.setattr(checkpoint, "best", lambda folder, *_: list_finished(folder)[-1])
    experiment = tiny(
        digits,
        tmp_path,
        "train.steps=4",
        "checkpoint={every: 2, keep: 1}",
        "monitoring.wandb={mode: offline, artifacts: checkpoints}",
    )
    train(experiment)
    folder = RunFolder.of(experiment)
    (file,) = folder.path.glob("wandb/offline-run-*/*.wandb")
    records = [r.artifact for r in read_log(file.read_bytes()).records if r.HasField("artifact")]
    records = [artifact for artifact in records if artifact.type != "run_table"]  # of W&B's own
    id = folder.tracker_ids()["wandb"]
    assert [(a.name, a.type, a.finalize, sorted(a.aliases)) for a in records] == [
        (f"checkpoint-{id}", "checkpoint", True, ["best", "latest", "step-2"]),
        (f"checkpoint-{id}", "checkpoint", True, ["best", "latest", "step-4"]),
        (f"model-{id}", "model", True, ["best", "latest", "step-4"]),
    ]
    for artifact in records:
        for entry in artifact.manifest.contents:
            assert Path(entry.local_path).stat().st_size == entry.size

    # The checkpoint of step 2 is pruned from the run, and still whole for W&B, as a run folder.
    assert [path.name for path in list_finished(folder.checkpoints)] == ["step-00000004"]
    staged = folder.path / "wandb" / "artifacts"
    downloaded = RunFolder(staged / "checkpoint-00000002")
    assert downloaded.experiment() == experiment
    (kept,) = list_finished(downloaded.checkpoints)
    assert kept.name == "step-00000002"
    assert checkpoint.is_intact(kept)
    weights, about = read_pretrained_weights(staged / "model-00000004")
    average = checkpoint.read_weights(folder.checkpoints / "step-00000004", "ema")
    assert about.image_shape == experiment.image_shape
    assert all(torch.equal(weights[name], average[name]) for name in average)
    assert "library_name" in (staged / "model-00000004" / "README.md").read_text()


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "ganscale"]


class OnlineRun:
    """What is asked of W&B's run where it is online."""

    def __init__(self, refused: bool = False):
        self.id = "abc"
        self.offline = False
        self.refused = refused
        self.used: list[Any] = []
        self.logged: list[tuple[Any, list[str]]] = []
        self.linked: list[tuple[Any, str, list[str]]] = []

    def use_artifact(self, artifact: Any) -> None:
        self.used.append(artifact)

    def log_artifact(self, artifact: Any, aliases: list[str]) -> None:
        if self.refused:
            raise ValueError("403: the storage quota is\nused up")
        self.logged.append((artifact, aliases))

    def link_artifact(self, artifact: Any, target: str, aliases: list[str]) -> None:
        self.linked.append((artifact, target, aliases))


def asking_for(digits: Path, folder: Path, **values: str) -> Experiment:
    section = ", ".join(f"{key}: {value}" for key, value in values.items())
    return tiny(digits, folder, f"monitoring.wandb={{{section}}}")


def model(folder: Path) -> Output:
    (folder / "weights").write_text("weights")
    return Output("model", 2000, {"model.safetensors": folder / "weights"}, ("best",))


def test_the_model_is_linked_to_a_registry_and_the_dataset_is_a_reference(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wandb.Artifact.wait", lambda self: self)
    run = OnlineRun()
    experiment = asking_for(digits, tmp_path, artifacts="final", registry="models")
    artifacts = WandbArtifacts(run, experiment, tmp_path)
    artifacts.use_dataset("0123456789abcdef" * 4, str(digits / "manifest.json"))
    artifacts.keep(model(tmp_path))
    artifacts.keep(Output("checkpoint", 2000, {}))  # `final` asks for none
    artifacts.close()
    ((logged, aliases),) = run.logged
    assert (logged.name, logged.type) == ("model-abc", "model")
    assert aliases == ["latest", "step-2000", "best"]
    assert run.linked == [(logged, "wandb-registry-models/tiny", ["best"])]
    (dataset,) = run.used
    assert (dataset.name, dataset.type) == ("dataset-0123456789abcdef", "dataset")
    assert dataset.metadata["fingerprint"] == "0123456789abcdef" * 4
    (entry,) = dataset.manifest.entries.values()
    assert entry.ref == (digits / "manifest.json").resolve().as_uri()
    assert not any((tmp_path / "wandb" / "artifacts").iterdir())  # nothing is left once uploaded


def test_an_artifact_that_wandb_refuses_is_one_sentence(
    digits: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    experiment = asking_for(digits, tmp_path, artifacts="final")
    artifacts = WandbArtifacts(OnlineRun(refused=True), experiment, tmp_path)
    artifacts.keep(model(tmp_path))
    artifacts.close()
    assert said(caplog) == [
        "W&B does not take the artifact model-abc (403: the storage quota is used up); "
        "the run goes on"
    ]


def test_an_upload_that_stalls_is_not_waited_for_without_end(
    digits: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    released = Event()
    monkeypatch.setattr("wandb.Artifact.wait", lambda self: released.wait(30))
    monkeypatch.setattr(wandb_artifacts, "FINISH_TIMES", 0.1)
    run = OnlineRun()
    experiment = asking_for(digits, tmp_path, artifacts="checkpoints", timeout="1")
    artifacts = WandbArtifacts(run, experiment, tmp_path)
    (tmp_path / "state.json").write_text("{}")
    for step in (2, 4):
        artifacts.keep(Output("checkpoint", step, {"state.json": tmp_path / "state.json"}))
    artifacts.close()
    released.set()
    assert said(caplog) == ["W&B has not taken all artifacts within 0 s; the run ends without them"]
    # The second checkpoint was left out, as the first was still on its way.
    assert [aliases for _, aliases in run.logged] == [["latest", "step-2"]]


def test_no_artifacts_are_the_default_and_a_registry_needs_some(
    digits: Path, tmp_path: Path
) -> None:
    run: Any = SimpleNamespace(id="abc", offline=False)  # nothing is asked of it
    artifacts = WandbArtifacts(run, tiny(digits, tmp_path), tmp_path)
    artifacts.use_dataset("f", str(digits))
    artifacts.keep(model(tmp_path))
    artifacts.close()
    with pytest.raises(GanscaleError, match=r"set monitoring\.wandb\.artifacts=final"):
        asking_for(digits, tmp_path, registry="models")
