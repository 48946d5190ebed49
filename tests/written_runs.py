"""Run folders as training writes them, without training."""

import json
from pathlib import Path
from typing import Any

from ganscale.config import Experiment
from ganscale.config.load import load, to_yaml

PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d494844520000000100000001080200000090774df8"
    "0000000c49444154789c63f8ffff3f0005fe02fe0def46b80000000049454e44ae426082"
)
"""A picture of one pixel."""


def write_run(folder: Path, *overrides: str, name: str | None = None) -> Path:
    """Write the folder of a run that has not logged anything; return it."""
    experiment: Experiment = load(
        None, ["data.path=none", "train.steps=100", "train.batch_size=8", *overrides]
    )
    run = folder / (name or experiment.name)
    run.mkdir(parents=True)
    (run / "experiment.yaml").write_text(to_yaml(experiment))
    return run


def log(run: Path, *steps: int, **values: Any) -> None:
    """Append a line for each step."""
    numbers = {"loss_generator": 1.0, "loss_discriminator": 0.5, "images_per_second": 80.0}
    with (run / "metrics.jsonl").open("a") as file:
        for step in steps:
            line = {"step": step, "images": 8 * step, **numbers, **values}
            file.write(json.dumps(line) + "\n")


def score(run: Path, step: int, fid: float, **values: Any) -> None:
    """Append an evaluation."""
    line = {
        **{"step": step, "images": 8 * step, "values": {"fid": fid}, "features": "classifier"},
        **{"features_checksum": "0", "samples": 100, "real_samples": 100, "real_set": "digits"},
        **{"lower_is_better": {"fid": True}, **values},
    }
    with (run / "evaluations.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")


def draw(run: Path, step: int) -> None:
    """Write a grid of samples."""
    (run / "samples").mkdir(exist_ok=True)
    (run / "samples" / f"step-{step:08d}.png").write_bytes(PNG)
