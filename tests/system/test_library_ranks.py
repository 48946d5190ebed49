"""A program of several processes that trains several runs."""

from pathlib import Path

import pytest

from ganscale.config.load import to_yaml
from tests.conftest import tiny
from tests.system.forked import forked

pytestmark = pytest.mark.system


def test_ranks_return_together_and_train_again(digits: Path, tmp_path: Path) -> None:
    file = tmp_path / "tiny.yaml"
    file.write_text(to_yaml(tiny(digits, tmp_path, "train.steps=25")))
    done = forked(2, str(file), folder=tmp_path, module="tests.system.several_runs")
    assert done.returncode == 0
    ends = dict(line.split(": ", 1) for line in done.stdout.splitlines())
    failure = ends.pop("rank 0, failed")
    assert failure.startswith("callback Ending.on_step failed at step 1 (ValueError: of failed)")
    assert ends == {
        "rank 0, whole": "25",
        "rank 1, whole": "25",
        "rank 0, stopped": "10",  # where the ranks agree
        "rank 1, stopped": "10",
        "rank 1, failed": "10",
    }
