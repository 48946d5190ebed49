"""Every piece of Python in docs/library.md, run as it stands there, one after the other."""

import re
from pathlib import Path
from typing import Any

import pytest

import ganscale
from tests.library.test_scoring import PIXELS

ROOT = Path(__file__).parents[2]
PYTHON = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
QUICK = {
    "data.path": "data/digits",
    "train.batch_size": 8,
    "generator.network.hidden": [16],
    "discriminator.network.hidden": [16],
    "monitoring.wandb": "disabled",
    "monitoring.log_every": 2,
}


def test_the_page_is_true(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    (tmp_path / "pixels.py").write_text(PIXELS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("ganscale.training.recorder.draw_gallery", lambda *_: [])
    train, evaluate = ganscale.train, ganscale.evaluate
    steps_of_runs: list[int] = []

    def quick_train(experiment: Any, *, steps: int, **more: Any) -> ganscale.Run:
        steps_of_runs.append(steps)
        overrides = {**QUICK, **more.pop("overrides", {})}
        return train(experiment, steps=2 * len(steps_of_runs), overrides=overrides, **more)

    def quick_evaluate(run: Any, *, samples: int) -> Any:
        return evaluate(run, samples=samples // 100, features="pixels.py:Pixels")

    monkeypatch.setattr(ganscale, "train", quick_train, raising=False)
    monkeypatch.setattr(ganscale, "evaluate", quick_evaluate, raising=False)
    pieces = PYTHON.findall((ROOT / "docs" / "library.md").read_text())
    assert len(pieces) >= 8
    session: dict[str, Any] = {}
    for piece in pieces:
        exec(compile(piece, "docs/library.md", "exec"), session)
    assert steps_of_runs == [2000, 4000]
    assert session["run"].step == 4
    assert session["images"].shape == (16, 1, 28, 28)
    assert session["labels"].shape == (64,)
    assert len(session["losses"]) == 1
    assert session["scores"].samples == 50
    assert len(session["path"]) == 25
