"""Runs that start from artifacts of W&B, which its own client downloads from a server here."""

from pathlib import Path

import pytest
import torch

from ganscale.config import InitFrom
from ganscale.errors import GanscaleError
from ganscale.runs import checkpoint
from ganscale.runs.checkpoint_names import list_finished
from ganscale.runs.export import export
from ganscale.runs.run_folder import RunFolder
from ganscale.runs.source import read_source
from ganscale.training.trainer import train
from tests.conftest import tiny
from tests.wandb_artifact_server import serving_artifact


@pytest.fixture(scope="module")
def run(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    experiment = tiny(digits, tmp_path_factory.mktemp("source"), "train.steps=2")
    train(experiment)
    return RunFolder.of(experiment)


def test_a_run_starts_from_a_checkpoint_in_wandb(
    run: RunFolder, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (path,) = list_finished(run.checkpoints)
    files = {place: file.read_bytes() for place, file in run.files_with_checkpoint(path).items()}
    address = "wandb:e/p/checkpoint-abc:latest"
    with serving_artifact(monkeypatch, "checkpoint-abc", "checkpoint", files):
        experiment = tiny(
            digits, tmp_path, "seed=5", "train.steps=1", "name=next", f"init_from.source={address}"
        )
        assert train(experiment) == 0
        with pytest.raises(GanscaleError, match=r"checkpoint-abc:v7 cannot be loaded from W&B: "):
            read_source(InitFrom(source="wandb:e/p/checkpoint-abc:v7"))
    begun = RunFolder.of(experiment)
    for part in checkpoint.PARTS:
        first = checkpoint.read_weights(begun.checkpoints / "step-00000000", part)
        there = checkpoint.read_weights(path, part)
        assert first.keys() == there.keys()
        assert all(torch.equal(first[name], there[name]) for name in there)
    noted = begun.first_weights()
    assert noted is not None
    assert noted["source"] == address


def test_a_models_artifact_is_read_and_one_of_others_is_refused(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export(run.path, "latest", "pretrained", tmp_path / "model")
    files = {p.name: p.read_bytes() for p in (tmp_path / "model").iterdir() if p.is_file()}
    asked = InitFrom(source="wandb:e/p/model-abc:latest")
    with serving_artifact(monkeypatch, "model-abc", "model", files) as server:
        source = read_source(asked)
        average = checkpoint.read_weights(list_finished(run.checkpoints)[0], "ema")
        assert source.name == asked.source
        assert all(torch.equal(source.parts["ema"][name], average[name]) for name in average)
        server.files = {"notes.txt": b"something else"}
        with pytest.raises(GanscaleError, match="neither a checkpoint nor a model of ganscale"):
            read_source(asked)
        server.files = {"../outside.txt": b"a stranger's"}
        with pytest.raises(GanscaleError, match=r"a file that leads elsewhere: \.\./outside.txt"):
            read_source(asked)


@pytest.mark.parametrize("address", ["wandb:p/model:latest", "wandb:e/p/model", "wandb:"])
def test_an_address_that_names_no_artifact(address: str) -> None:
    with pytest.raises(GanscaleError, match="write wandb:ENTITY/PROJECT/NAME:ALIAS"):
        read_source(InitFrom(source=address))


def test_without_an_account_wandb_is_not_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wandb.login", lambda **_: False)
    with pytest.raises(GanscaleError, match="log in with `wandb login`, or set WANDB_API_KEY"):
        read_source(InitFrom(source="wandb:e/p/model-abc:latest"))
