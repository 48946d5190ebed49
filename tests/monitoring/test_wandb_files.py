"""Code is uploaded only where the user lets W&B save code."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ganscale.monitoring.trackers.wandb_files import save_files
from tests.conftest import tiny
from tests.monitoring.test_names import penalties


@pytest.mark.parametrize(
    ("allowed", "saved"),
    [
        (None, ["experiment.yaml"]),
        (False, ["experiment.yaml"]),
        (True, ["experiment.yaml", "code/of_the_experiment/own.py"]),
    ],
)
def test_code_is_saved_only_where_wandb_saves_code(
    digits: Path, tmp_path: Path, allowed: bool | None, saved: list[str]
) -> None:
    experiment = tiny(digits, tmp_path, penalties(tmp_path / "own.py"))
    kept = tmp_path / "files"
    kept.mkdir()
    found: list[str] = []
    run: Any = SimpleNamespace(
        dir=str(kept),
        settings=SimpleNamespace(save_code=allowed),
        save=lambda path, **options: found.append(Path(path).relative_to(kept).as_posix()),
    )
    save_files(run, experiment)
    assert found == saved
    assert sorted(p.relative_to(kept).as_posix() for p in kept.rglob("*.*")) == sorted(saved)
