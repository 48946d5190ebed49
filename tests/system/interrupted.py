"""Runs for tests to interrupt."""

import subprocess
import time
from pathlib import Path
from typing import Any

from ganscale.config import Experiment
from ganscale.config.load import to_yaml
from ganscale.runs import checkpoint
from tests.conftest import tiny
from tests.system.forked import Forked

NETWORKS = {
    "mlp": {
        "generator": {"architecture": "mlp", "hidden": [64]},
        "discriminator": {"architecture": "mlp", "hidden": [64]},
    },
    "dcgan": {
        "generator": {"architecture": "dcgan", "width": 4},
        "discriminator": {"architecture": "dcgan", "width": 4},
    },
}


def experiment_file(digits: Path, folder: Path, network: str, name: str) -> tuple[Experiment, Path]:
    """Return an experiment that uses everything with a state of its own, and its file."""
    values = tiny(digits, folder, f"name={name}").model_dump(mode="json")
    for player, options in NETWORKS[network].items():
        values[player]["network"] = options
    values["train"]["steps"] = 400
    values["checkpoint"] = {"every": 20, "keep": 2}
    values["objective"]["penalties"] = [{"kind": "r1", "weight": 1.0, "every": 4}]
    values["augment"] = {"policy": ["flip", "shift"], "adaptive": {"every": 3, "images": 4000}}
    values["balance"] = {"held_out": str(digits), "every": 7, "images": 50}
    cosine = {"from": 2e-4, "to": 0, "by": "cosine", "until": "400 steps"}
    values["generator"]["optimizer"]["lr"] = cosine
    values["ema"]["half_life"] = cosine | {"from": 0, "to": 1000}
    experiment = Experiment.model_validate(values)
    path = folder / f"{name}.yaml"
    path.write_text(to_yaml(experiment))
    return experiment, path


def wait_for_checkpoint(process: subprocess.Popen[Any] | Forked, folder: Path) -> None:
    """Wait until the process has written a checkpoint."""
    deadline = time.monotonic() + 120
    while not checkpoint.list_finished(folder):
        assert process.poll() is None, "training ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.02)
