"""A training on a CPU does not give its memory back to the kernel after each step."""

import os
import sys
from pathlib import Path

import pytest

from ganscale.config import Experiment
from ganscale.config.load import to_yaml
from tests.conftest import tiny
from tests.system.processes import run

pytestmark = pytest.mark.system
COUNTING = """
import resource, sys
from unittest.mock import patch
from ganscale.config import Experiment
from ganscale.config.load import load
from ganscale.training import trainer
from ganscale.training.preemption import StopRequest

faults, agreed = [], StopRequest.agreed
def note(stop, *step):
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
    return agreed(stop, *step)
StopRequest.agreed = note
def count(name):
    faults.clear()
    trainer.train(load(sys.argv[1], [f"name={name}"]))
    print("faults:", faults[-1] - faults[-5])
with patch.object(trainer, "keep_freed_memory", lambda device: None):
    count("without")
count("with")
"""


@pytest.mark.skipif(
    "CS_GNU_LIBC_VERSION" not in getattr(os, "confstr_names", {}), reason="glibc's allocator alone"
)
def test_a_step_has_few_page_faults(digits: Path, tmp_path: Path) -> None:
    values = tiny(digits, tmp_path, "train.batch_size=64").model_dump()
    for player in ("generator", "discriminator"):
        values[player]["network"] = {"architecture": "dcgan", "width": 16}
    file = tmp_path / "experiment.yaml"
    file.write_text(to_yaml(Experiment.model_validate(values)))
    done = run([sys.executable, "-c", COUNTING, str(file)], tmp_path, GLIBC_TUNABLES="")
    lines = [line for line in done.stdout.splitlines() if line.startswith("faults:")]
    without, kept = (int(line.split()[1]) for line in lines)
    assert without > 5 * max(kept, 20)
