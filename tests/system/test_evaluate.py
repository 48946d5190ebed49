"""`ganscale evaluate` on several processes: the scores of one, printed and written once."""

import shutil
from pathlib import Path

import pytest

from ganscale.evaluation.scores import read_evaluations
from ganscale.training.trainer import train
from tests.conftest import tiny
from tests.system.forked import forked

pytestmark = pytest.mark.system

FEATURES = """
import torch
from ganscale.evaluation.features.network import FeatureNetwork, Features
from ganscale.gan.sampling import from_pixels

class Coarse(FeatureNetwork):
    measures_unrounded, classifies = True, False

    def measure(self, images):
        coarse = torch.nn.functional.adaptive_avg_pool2d(from_pixels(images), 4).flatten(1)
        return Features(coarse, coarse[:, :0])
"""
METRICS = "memorisation,intra_class_fid,feature_path_length"


def test_two_processes_score_like_one_and_only_the_first_speaks(
    digits: Path, tmp_path: Path
) -> None:
    own = tmp_path / "own.py"  # which need no training
    own.write_text(FEATURES)
    experiment = tiny(
        digits,
        tmp_path,
        "data.classes=10",
        "train.steps=4",
        "checkpoint.every=2",
        "evaluation.batch_size=50",
        f"evaluation.features={own}:Coarse",
    )
    train(experiment)
    found = []
    for processes in (1, 2):
        folder = tmp_path / str(processes)
        run = shutil.copytree(experiment.folder, folder / "run")
        words = ("--checkpoint", "all", "--num", "330", "--trust-code", "--metrics", METRICS)
        done = forked(processes, "evaluate", "run", *words, folder=folder)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("best") == 2  # the column's heading, and the row
        assert done.stderr.count("drawing the gallery") == 1
        found.append(read_evaluations(run / "evaluations.jsonl"))
    alone, together = found
    assert [line["step"] for line in together] == [2, 4]
    for one, two in zip(alone, together, strict=True):
        assert one.keys() == two.keys()
        assert two["values"] == pytest.approx(one["values"], rel=1e-9, abs=1e-12)
        assert two["class_shares"] == one["class_shares"]
        for name in METRICS.split(","):
            assert two["values"][name] == one["values"][name]  # the same bits
        assert two["details"] == one["details"]
