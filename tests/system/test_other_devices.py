"""A GPU that is not CUDA's and has no float64, as far as a host can show: see `chip`."""

import json
from pathlib import Path
from typing import Any

import pytest
from torch.utils import backend_registration

from ganscale.runs.run_folder import RunFolder
from ganscale.training.trainer import train
from tests.comparing import metrics, same_checkpoint
from tests.conftest import tiny
from tests.evaluation.sets import part_of
from tests.system.forked import forked

OPTIONS = (
    "data.classes=10",
    "train.steps=2",
    "train.accumulation=2",
    "generator.clip_norm=0.1",
    "objective.penalties=[{kind: r1, weight: 1}]",
    "augment.policy=[flip, shift, brightness]",
    "augment.noise_std=0.1",
    "augment.adaptive={every: 1, images: 100, target: 0.5}",
    "evaluation.every=2",
    "evaluation.samples=50",
)
PIXELS = """
from ganscale.evaluation.features.network import FeatureNetwork, Features

class Pixels(FeatureNetwork):
    def measure(self, images):
        columns = images.float().mean((1, 2)) / 255
        return Features(columns[:, ::4], columns[:, :2])
"""


def same_scores(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    """They are equal; of eigenvalues, LAPACK's last bit depends on where the matrix lies."""
    for name in ("fid", "perfect_fid"):
        assert ours.pop(name, 0) == pytest.approx(theirs.pop(name, 0), rel=1e-12)
    assert ours == theirs


@pytest.mark.skipif(
    not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"),
    reason="this PyTorch has no devices written in Python",
)
def test_a_run_is_the_same_on_a_device_without_float64(digits: Path, tmp_path: Path) -> None:
    """It trains, scores and samples there, and nothing asks the device for float64."""
    file = tmp_path / "pixels.py"
    file.write_text(PIXELS)
    options = (*OPTIONS, f"evaluation.features={file}:Pixels")
    of_host, of_chip = (
        tiny(part_of(digits, tmp_path / f"set-{name}", [0]), tmp_path / name, *options)
        for name in ("host", "chip")
    )
    train(of_host)
    changed = ("name=tiny", f"runs={of_chip.runs}", f"data.path={of_chip.data.path}")
    saved = of_host.folder / "experiment.yaml"
    done = forked(1, "train", str(saved), *changed, folder=tmp_path, module="tests.system.chip")
    assert done.returncode == 0
    assert "1 process on chip" in done.stderr
    last = [RunFolder.of(e).path / "checkpoints" / "step-00000002" for e in (of_host, of_chip)]
    same_checkpoint(*last)
    numbers = metrics(of_chip)
    for ours, theirs in zip(metrics(of_host), numbers, strict=True):
        theirs.pop("mfu", None)
        same_scores(ours, theirs)
    assert all("memory_gib" not in line for line in numbers)  # the chip does not count it
    scores = [json.loads((e.folder / "evaluations.jsonl").read_text()) for e in (of_host, of_chip)]
    same_scores(scores[0].pop("values"), scores[1].pop("values"))
    same_scores(*scores)

    what = ("--seeds", "0-3", "--truncation", "0.7", "--grid")
    for module, experiment in (("ganscale", of_host), ("tests.system.chip", of_chip)):
        picture = experiment.folder / "grid.png"
        arguments = ("sample", str(experiment.folder), *what, str(picture))
        assert forked(1, *arguments, folder=tmp_path, module=module).returncode == 0
    assert (of_host.folder / "grid.png").read_bytes() == (of_chip.folder / "grid.png").read_bytes()
