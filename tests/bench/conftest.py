"""The files of bench/ import each other by their names alone, as Python runs them."""

import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench"


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a test import them so; whatever it sets in them is forgotten with the modules."""
    monkeypatch.syspath_prepend(str(BENCH))
    for path in BENCH.glob("*.py"):
        monkeypatch.delitem(sys.modules, path.stem, raising=False)
