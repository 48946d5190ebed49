"""A run that is evaluated leaves scores, pictures and warnings where a user looks for them."""

import base64
from pathlib import Path

import pytest
import torch
from PIL import Image

from ganscale.errors import GanscaleError
from ganscale.evaluation.scores import read_evaluations
from ganscale.monitoring.metrics_log import read_metrics
from ganscale.runs.run_folder import RunFolder
from ganscale.runs.sampler import Sampler
from ganscale.training.trainer import train
from tests.conftest import tiny


def test_scores_pictures_and_the_best(
    digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    experiment = tiny(
        digits,
        tmp_path,
        "data.classes=10",
        "evaluation.every=2",
        "evaluation.samples=200",
        "evaluation.best=recall",
        "checkpoint.keep=1",
        "checkpoint.every=100",
    )
    train(experiment)
    run, folder = experiment.folder, RunFolder.of(experiment)
    evaluations = read_evaluations(folder.evaluations)
    assert [e["step"] for e in evaluations] == [2, 4, 6, 8, 10]
    logged = {line["step"]: line for line in read_metrics(folder.metrics) if "fid" in line}
    assert logged[4]["fid"] == evaluations[1]["values"]["fid"]
    recalls = [e["values"]["recall"] for e in evaluations]
    first_best = evaluations[recalls.index(max(recalls))]["step"]
    kept = folder.find_checkpoint("best", experiment.evaluation)
    assert kept.name == f"step-{first_best:08d}"
    assert Sampler(run, "best").checkpoint == kept
    least = {"samples.png": 1, "interpolation.gif": 20, "neighbours.png": 1}
    for name, frames in least.items():
        with Image.open(run / "gallery" / name) as picture:
            assert getattr(picture, "n_frames", 1) >= frames  # Pillow merges equal ones
    page = (run / "report.html").read_text()
    assert base64.b64encode((run / "gallery" / "neighbours.png").read_bytes()).decode() in page
    assert "200 generated against 1,797 real" in page
    assert "What usually helps" in capsys.readouterr().err  # ten steps of an MLP are no good run


def test_a_class_can_be_asked_for(digits: Path, tmp_path: Path) -> None:
    experiment = tiny(digits, tmp_path, "data.classes=10", "train.steps=1")
    train(experiment)
    threes = Sampler(experiment.folder, "latest", label=3)
    assert torch.equal(threes.labels(range(4))[0], torch.tensor([3, 3, 3, 3]))
    each = Sampler(experiment.folder, "latest")
    assert torch.equal(each.labels(range(8, 12))[0], torch.tensor([8, 9, 0, 1]))
    with pytest.raises(GanscaleError, match="class 10: this generator knows classes 0 … 9"):
        Sampler(experiment.folder, "latest", label=10)


def test_classes_must_be_those_of_the_set(digits: Path, tmp_path: Path) -> None:
    with pytest.raises(GanscaleError, match=r"data\.classes=7: .* has 10 classes"):
        train(tiny(digits, tmp_path, "data.classes=7"))
