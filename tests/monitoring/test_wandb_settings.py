"""What W&B is started with: the environment goes before the experiment."""

from pathlib import Path

import pytest

from ganscale.errors import GanscaleError
from ganscale.monitoring.trackers.chosen import chosen_trackers
from ganscale.monitoring.trackers.wandb_settings import (
    VARIABLES,
    arguments_of_init,
    requested_mode,
    seconds_to_wait,
)
from ganscale.monitoring.trackers.wandb_tracker import start_wandb
from tests.conftest import tiny


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in (*VARIABLES.values(), "WANDB_MODE", "WANDB_RUN_ID", "WANDB_SWEEP_ID"):
        monkeypatch.delenv(variable, raising=False)


def test_each_variable_replaces_the_experiments_value(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    section = "{project: p, entity: e, group: g, tags: [t], notes: n, job_type: j, mode: online}"
    experiment = tiny(digits, tmp_path, f"monitoring.wandb={section}")
    expected = {"project": "p", "entity": "e", "name": "tiny", "group": "g", "tags": ("t",)}
    expected |= {"notes": "n", "job_type": "j", "id": "known", "resume": "allow"}
    expected |= {"dir": str(tmp_path)}
    assert arguments_of_init(experiment, tmp_path, "known") == expected
    for argument, variable in VARIABLES.items():
        monkeypatch.setenv(variable, f"of the environment, {argument}")
    monkeypatch.setenv("WANDB_TAGS", "one,two")
    found = arguments_of_init(experiment, tmp_path, "known")
    assert found.pop("tags") == ["one", "two"]
    assert found.pop("id") == "known"
    assert found == {name: f"of the environment, {name}" for name in found}
    assert set(found) == set(VARIABLES) - {"tags"}
    assert requested_mode(experiment) == "online"
    for value, mode in (("dryrun", "offline"), ("shared", "online"), ("disabled", "disabled")):
        monkeypatch.setenv("WANDB_MODE", value)
        assert requested_mode(experiment) == mode
    assert chosen_trackers(experiment) == ()
    assert seconds_to_wait(experiment) == 30
    monkeypatch.setenv("WANDB_INIT_TIMEOUT", "5")
    assert seconds_to_wait(experiment) == 5


def test_the_id_of_a_new_run_may_come_from_the_environment(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = tiny(digits, tmp_path)
    ids = {arguments_of_init(experiment, tmp_path, None)["id"] for _ in range(2)}
    assert len(ids) == 2
    monkeypatch.setenv("WANDB_RUN_ID", "mine")
    assert arguments_of_init(experiment, tmp_path, None)["id"] == "mine"
    assert arguments_of_init(experiment, tmp_path, "known")["id"] == "known"


def test_a_sweep_decides_on_project_entity_and_id(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep")
    monkeypatch.setenv("WANDB_RUN_ID", "trial1")
    monkeypatch.setenv("WANDB_PROJECT", "p")
    found = arguments_of_init(tiny(digits, tmp_path), tmp_path, None)
    assert [found[name] for name in ("project", "entity", "id")] == [None] * 3


def test_a_value_that_wandb_refuses_is_one_message(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_PROJECT", "a/b")
    with pytest.raises(GanscaleError, match=r"WANDB_\* variables: Invalid project name 'a/b'"):
        start_wandb(tiny(digits, tmp_path, "monitoring.wandb=offline"), tmp_path, None)
