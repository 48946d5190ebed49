"""Each place of an experiment that may name code is one that a stranger's run may not run."""

from pathlib import Path

import pytest

from ganscale.config import Experiment
from ganscale.config.load import load
from ganscale.errors import GanscaleError
from ganscale.runs.trust import note_own, refuse_foreign_code

CODE = "from pathlib import Path\nPath(__file__).with_name('executed').touch()\n"
NAMED = {
    "generator": "generator.network={{architecture: '{}'}}",
    "discriminator": "discriminator.network={{architecture: '{}'}}",
    "loss": "objective.loss='{}'",
    "penalty": "objective.penalties=[{{kind: r1, weight: 1}}, {{kind: '{}', weight: 1}}]",
    "transformation": "augment.policy=[flip, '{}']",
    "feature network": "evaluation.features='{}'",
    "reader": "data.reader='{}'",
    "metric": "evaluation.metrics=['{}']",
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(CODE)
    return tmp_path


def naming(place: str, name: str = "mine.py:Mine") -> Experiment:
    return load(None, [NAMED[place].format(name)])


@pytest.mark.parametrize("place", NAMED)
def test_code_is_named_without_being_run_and_needs_trust(folder: Path, place: str) -> None:
    experiment = naming(place)
    with pytest.raises(GanscaleError, match=r"names code \(mine\.py:Mine\).*--trust-code"):
        refuse_foreign_code(folder / "run", experiment)
    assert not (folder / "executed").exists()
    note_own(folder / "run", experiment)
    refuse_foreign_code(folder / "run", experiment)
    with pytest.raises(GanscaleError, match="--trust-code"):
        refuse_foreign_code(folder / "another", experiment)
    with pytest.raises(GanscaleError, match="--trust-code"):
        refuse_foreign_code(folder / "run", naming(place, "other.py:Mine"))


def test_built_in_names_need_no_trust(folder: Path) -> None:
    refuse_foreign_code(folder / "run", load(None, ["augment.policy=[flip]"]))
