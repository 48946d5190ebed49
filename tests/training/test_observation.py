"""Nothing that only observes changes a run: not one weight, and not one buffer."""

from pathlib import Path

import pytest

from ganscale.config import Experiment
from ganscale.runs.run_folder import RunFolder
from ganscale.training.trainer import train
from tests.comparing import same_checkpoint
from tests.conftest import tiny

STEPS = 12


DISCRIMINATORS = {
    "BatchNorm": {"architecture": "dcgan", "width": 4, "norm": "batch"},
    "spectral norm": {"architecture": "dcgan", "width": 4, "norm": "spectral"},
    "dropout": {"architecture": f"{Path(__file__).with_name('test_trainer.py')}:Dropping"},
}
FAILING = Path(__file__).parents[1] / "monitoring" / "trackers" / "own_trackers.py"
OBSERVERS = {
    "log": ("monitoring.log_every=3", f"monitoring.trackers=[tensorboard, {FAILING}:Failing]"),
    "pictures": ("monitoring.pictures_every=4",),
    "evaluation": ("evaluation.every=4", "evaluation.samples=40"),
    "checkpoint": ("checkpoint.every=5",),
}


def run(
    digits: Path, folder: Path, norm: str, name: str, *overrides: str, steps: int = STEPS
) -> Path:
    """The last checkpoint of a run with that discriminator."""
    values = tiny(
        digits,
        folder,
        f"name={name}",
        f"train.steps={steps}",
        # Three updates of four are not due, and those that are logged are among them.
        "objective.penalties=[{kind: r1, weight: 1, every: 4}]",
        "monitoring.log_every=1000",
        "monitoring.pictures_every=1000",
        "checkpoint.every=1000",
        *overrides,
    ).model_dump(mode="json")
    values["generator"]["network"] = {"architecture": "dcgan", "width": 4}
    values["discriminator"]["network"] = DISCRIMINATORS[norm]
    experiment = Experiment.model_validate(values)
    assert train(experiment) == 0
    return RunFolder.of(experiment).checkpoints / f"step-{steps:08d}"


@pytest.mark.parametrize("norm", DISCRIMINATORS)
def test_nothing_that_observes_changes_the_run(digits: Path, tmp_path: Path, norm: str) -> None:
    unobserved = run(digits, tmp_path, norm, "unobserved")
    for name, overrides in OBSERVERS.items():
        same_checkpoint(unobserved, run(digits, tmp_path, norm, name, *overrides))
    run(digits, tmp_path, norm, "prolonged", steps=STEPS // 2)
    same_checkpoint(unobserved, run(digits, tmp_path, norm, "prolonged"))
