"""Where the system is Windows, as far as another one can show: what POSIX adds is not there."""

import subprocess
import sys
from pathlib import Path

from tests.system.processes import ROOT, environment


def test_one_process_trains_resumes_saves_stops_and_samples(digits: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.system.without_posix", str(digits), str(tmp_path / "runs")],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines()[-1] == "trained"
    assert "stopped by ganscale stop after step 3" in done.stderr
