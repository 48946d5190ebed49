"""The wheel, unpacked where nobody has a clone."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.system.processes import ROOT, run

pytestmark = pytest.mark.system

SESSION = """
import os, sys
import ganscale
from ganscale.cli import main

print(ganscale.__file__)
for line in sys.stdin.read().splitlines():
    if line.startswith("cd "):
        os.chdir(line[3:])
    else:
        assert main(line.split()) == 0, line
"""
"""Types the lines of its standard input, in one process."""
LINES = """\
init digits
cd digits
pack digits data/digits --size 28
config experiment.yaml
config --explain ema
train experiment.yaml train.steps=2 train.batch_size=8 evaluation.samples=100
submit experiment.yaml name=later --gpus-per-node 2 --dry-run
"""


def test_a_built_wheel_is_all_that_is_needed(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
    parts = (ROOT / "src" / "ganscale").rglob("*.*")
    pages = [path for path in parts if path.suffix in (".html", ".css", ".js")]
    assert {"watch.html", "watch.js", "looks.css"} <= {path.name for path in pages}
    for path in pages:
        assert (tmp_path / "installed" / path.relative_to(ROOT / "src")).is_file()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    line = [sys.executable, "-c", SESSION]
    where = {"PYTHONPATH": str(tmp_path / "installed"), "WANDB_MODE": "disabled"}
    done = run(line, elsewhere, typed=LINES, **where)
    assert done.returncode == 0
    assert str(tmp_path / "installed") in done.stdout
    assert str(ROOT) not in done.stdout
    assert "1,797 images of 28×28" in done.stdout
    project = elsewhere / "digits"
    assert (project / "data" / "digits" / "contact-sheet.png").is_file()
    assert (project / "runs" / "digits" / "checkpoints" / "step-00000002").is_dir()
    assert (project / "slurm" / "train.sbatch").read_text() in done.stdout
