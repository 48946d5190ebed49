"""Every file of bench/ can be imported, and every command says what it does."""

import runpy
import sys
from pathlib import Path

import pytest

from tests.bench.conftest import BENCH

FILES = sorted(BENCH.glob("*.py"))
COMMANDS = [path for path in FILES if "__main__" in path.read_text()]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_can_be_imported(path: Path) -> None:
    assert runpy.run_path(str(path))["__doc__"]


@pytest.mark.parametrize("path", COMMANDS, ids=lambda path: path.stem)
def test_a_command_has_help(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [str(path), "--help"])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(path), run_name="__main__")
    assert end.value.code == 0
    assert "usage:" in capsys.readouterr().out
