"""A finished run that is started again, and one that is not quite finished."""

import os
from pathlib import Path

import pytest
from filelock import FileLock

from ganscale.config import Experiment
from ganscale.data.fingerprint import fingerprint
from ganscale.data.packing.named_sources import digits_source
from ganscale.data.packing.pack import pack
from ganscale.data.packing.shard_writer import Packing
from ganscale.data.reading.image_set import ImageSet
from ganscale.errors import GanscaleError
from ganscale.runs.run_folder import RunFolder
from ganscale.training.trainer import train
from tests.conftest import tiny


@pytest.fixture(scope="module")
def folder(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    train(tiny(digits, folder, "train.steps=2"))
    return folder


def is_finished(experiment: Experiment) -> bool:
    return RunFolder.of(experiment).is_finished(experiment)


def test_a_run_is_finished_when_its_steps_are_done(digits: Path, folder: Path) -> None:
    assert is_finished(tiny(digits, folder, "train.steps=2"))
    assert is_finished(tiny(digits, folder, "train.steps=1", "monitoring.log_every=3"))
    assert not is_finished(tiny(digits, folder, "train.steps=3"))
    assert not is_finished(tiny(digits, folder, "train.steps=2", "name=other"))


def test_another_experiment_is_refused_though_the_run_is_finished(
    digits: Path, folder: Path
) -> None:
    with pytest.raises(GanscaleError, match="seed: 0 there, 1 now"):
        is_finished(tiny(digits, folder, "train.steps=2", "seed=1"))


def test_another_set_is_left_to_training_to_refuse(
    digits: Path, folder: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    pack(digits_source(), other, Packing(size=28, samples_per_shard=500), 1, lambda *_: None)
    assert not is_finished(tiny(other, folder, "train.steps=2"))
    assert not is_finished(tiny(tmp_path / "nowhere", folder, "train.steps=2"))
    for path in (digits, other):
        data = tiny(path, folder).data
        assert fingerprint(data) == ImageSet(data).fingerprint


def test_who_may_only_read_a_run_sees_whether_it_is_being_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunFolder(tmp_path)
    held = FileLock(tmp_path / ".lock")
    held.acquire()

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(FileLock, "acquire", refuse)
    assert run.is_being_trained()
    held.release()
    assert not RunFolder(tmp_path).is_being_trained()


def test_a_damaged_checkpoint_or_a_missing_report_is_no_end(digits: Path, folder: Path) -> None:
    experiment = tiny(digits, folder, "train.steps=2")
    run = RunFolder.of(experiment)
    page = run.report.read_bytes()
    run.report.unlink()
    assert not run.is_finished(experiment)
    run.report.write_bytes(page)
    assert run.is_finished(experiment)
    os.utime(run.report, (0, 0))  # of a start before
    assert not run.is_finished(experiment)
    os.utime(run.report)
    weights = run.checkpoints / "step-00000002" / "ema.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert not run.is_finished(experiment)
