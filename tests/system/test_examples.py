"""The notebooks of `examples/`, executed cell by cell in a kernel of their own."""

from itertools import chain
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from ganscale.config.load import to_yaml
from tests.conftest import tiny
from tests.system.processes import ROOT, environment

pytestmark = pytest.mark.system

NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))


def execute(notebook: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Run a notebook in a folder; return the outputs of its cells of code."""
    for name, value in environment(IPYTHONDIR=str(folder / ".ipython"), MPLBACKEND="").items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("MPLBACKEND")
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(folder)}}).execute()
    return [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]


def shown(outputs: list[Any], kind: str) -> list[Any]:
    return [output.data[kind] for output in outputs if kind in output.get("data", {})]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        assert not cell.get("outputs"), "committed without outputs"
    outputs = list(chain.from_iterable(execute(notebook, tmp_path, monkeypatch)))
    assert [output.text for output in outputs if output.get("name") == "stderr"] == []
    assert len(shown(outputs, "image/png")) >= 2
    assert any("step" in text for text in shown(outputs, "text/plain"))


INTERRUPTED = """
import signal
import ganscale

class Stop(ganscale.Callback):
    def on_step(self, event):
        if event.step == 7:
            signal.raise_signal(signal.SIGINT)  # as the stop button does

ganscale.train("tiny.yaml", callbacks=[Stop()])
"""


def test_the_stop_button_saves_the_run(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = ("monitoring.pictures_every=2", "monitoring.log_every=2")
    (tmp_path / "tiny.yaml").write_text(to_yaml(tiny(digits, tmp_path, *pictures)))
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(INTERRUPTED)])
    with pytest.raises(CellExecutionError, match="KeyboardInterrupt"):
        execute(notebook, tmp_path, monkeypatch)
    outputs = notebook.cells[0].outputs
    assert len(shown(outputs, "image/png")) == 1  # the last of 0, 2, 4 and 6
    (bar,) = shown(outputs, "text/html")
    assert 'value="6" max="10"' in bar
    assert (tmp_path / "runs" / "tiny" / "checkpoints" / "step-00000007").is_dir()
