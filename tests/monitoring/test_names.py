"""The names of all numbers that a run logs, and those that earlier versions gave them."""

import json
import re
from collections.abc import Iterable
from pathlib import Path

from ganscale.monitoring.metrics_log import last_metrics, read_metrics
from ganscale.registry import log_name
from ganscale.runs.overview import RunSummary
from ganscale.runs.run_folder import RunFolder
from ganscale.training.trainer import train
from tests.conftest import tiny

SORTABLE = r"[_a-zA-Z][_a-zA-Z0-9]*"
OWN = """
import torch
from ganscale.evaluation.features.network import FeatureNetwork, Features
from ganscale.evaluation.metrics.metric import Metric
from ganscale.gan.penalties import R1

class Größe(R1): ...

class Mitte(Metric):
    lower_is_better = True
    def __call__(self, compared): return 1.0

class Columns(FeatureNetwork):
    knows_the_classes = True
    def measure(self, images):
        columns = images.float().mean((1, 2))
        return Features(columns, columns[:, :10])
"""
EVERYTHING = (
    "generator.optimizer.lr={from: 1e-3, to: 0, by: cosine, until: end of run}",
    "generator.optimizer.betas=[{from: 0.5, to: 0, until: end of run},"
    "{from: 0.9, to: 0.99, until: end of run}]",
    "augment.policy=[flip,shift]",
    "augment.noise_std={from: 0.2, to: 0, until: end of run}",
    "ema={half_life: {from: 0, to: 100, until: end of run}, ramp_up: null}",
    "train.steps=1",
)
"""Every part of a run that logs a number of its own, besides the three that exclude another."""


def penalties(own: Path) -> str:
    own.write_text(OWN)
    kinds = ("r1", "r2", "wgan_gp", "dragan", f"{own}:Größe")
    weight = "{from: 1, to: 0.1, until: end of run}"
    listed = ",".join(f"{{kind: '{kind}', weight: {weight}}}" for kind in kinds)
    return f"objective.penalties=[{listed}]"


def everything(digits: Path, own: Path, *changes: str) -> tuple[str, ...]:
    """The overrides of a run that logs every number there is; its code is written into `own`."""
    balance = f"balance={{held_out: {digits}, every: 1, images: 20}}"
    scores = (
        f"evaluation={{every: 1, samples: 20, features: '{own}:Columns', metrics: ['{own}:Mitte']}}"
    )
    return ("data.classes=10", penalties(own), balance, scores, *EVERYTHING, *changes)


def refuse_unsortable(names: Iterable[str]) -> None:
    assert [name for name in names if not re.fullmatch(SORTABLE, name)] == []


def test_wandb_can_sort_by_what_fp16_and_ada_log(digits: Path, tmp_path: Path) -> None:
    changes = ("train.precision=fp16", "augment.adaptive={every: 1}", "evaluation.every=null")
    experiment = tiny(digits, tmp_path, *everything(digits, tmp_path / "own.py", *changes))
    train(experiment)
    names = {name for line in read_metrics(RunFolder.of(experiment).metrics) for name in line}
    assert {"loss_scale_generator", "augment_probability"} <= names
    refuse_unsortable(names)


def test_a_name_of_ones_own_becomes_one_that_wandb_sorts() -> None:
    assert log_name("fid") == "fid"
    assert log_name("mine/penalties.py:R1") == "R1"
    assert log_name("clip-fid") == "clip_fid"
    assert log_name("2nd") == "_2nd"


def test_a_run_of_an_earlier_version_is_read_by_todays_names(digits: Path, tmp_path: Path) -> None:
    experiment = tiny(digits, tmp_path, "train.steps=1", "checkpoint.every=1")
    train(experiment)
    folder = RunFolder.of(experiment)
    earlier = {"step": 1, "images": 8, "D(x)": 0.5, "D(G(z))": 0.4, "D accuracy": 0.6}
    earlier |= {"images/s": 123.0, "memory/GiB": 1.5, "loss/generator": 0.7, "penalty/r1": 2.0}
    folder.metrics.write_text(json.dumps(earlier) + "\n")
    (line,) = read_metrics(folder.metrics)
    assert line == last_metrics(folder.metrics)
    assert line == {
        "step": 1,
        "images": 8,
        "d_real": 0.5,
        "d_fake": 0.4,
        "d_accuracy": 0.6,
        "images_per_second": 123.0,
        "memory_gib": 1.5,
        "loss_generator": 0.7,
        "penalty_r1": 2.0,
    }
    assert RunSummary.of(folder.path).images_per_s == 123.0
    train(tiny(digits, tmp_path, "train.steps=2", "checkpoint.every=1"))  # it goes on
    losses = [line["loss_generator"] for line in read_metrics(folder.metrics)]
    assert losses[0] == 0.7
    assert len(losses) == 2
    assert "</span>loss_generator <b>" in folder.report.read_text()
