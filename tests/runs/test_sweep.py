from pathlib import Path

import pytest
from rich.console import Console

from ganscale.config.load import to_yaml
from ganscale.errors import GanscaleError
from ganscale.runs.sweep import Sweep
from ganscale.training.trainer import train
from tests.conftest import tiny


@pytest.fixture
def sweep(digits: Path, tmp_path: Path) -> Sweep:
    (tmp_path / "base.yaml").write_text(to_yaml(tiny(digits, tmp_path, "train.steps=2")))
    grid = tmp_path / "grid.yaml"
    grid.write_text(
        f"experiment: {tmp_path / 'base.yaml'}\nname: lr\n"
        "grid:\n  generator.optimizer.lr: [1.0e-4, 1.0e-3]\n  train.accumulation: [1, 16]\n"
    )
    return Sweep.load(grid)


def test_each_run_has_its_values_and_a_name_of_its_own(sweep: Sweep) -> None:
    assert len(sweep.combinations()) == 4
    third = sweep.run(2, ["seed=7"])
    assert third.name == "lr-002"
    assert third.generator.optimizer.lr == 1e-3
    assert third.train.accumulation == 1
    assert third.seed == 7
    with pytest.raises(GanscaleError, match="there is no run 4; the grid has runs 0 to 3"):
        sweep.run(4, [])


def test_the_table_says_how_far_each_run_is(sweep: Sweep) -> None:
    train(sweep.run(0, []))
    console = Console(width=200, record=True)
    console.print(sweep.table([]))
    lines = [line for line in console.export_text().splitlines() if line.startswith("│ ")]
    assert "2 of 2" in lines[0]
    assert "lr-000" in lines[0]
    assert "not valid" in lines[1]  # 8 images cannot be divided by 16
    assert "0 of 2" in lines[2]


def test_a_grid_file_with_a_mistake_is_named(tmp_path: Path) -> None:
    path = tmp_path / "grid.yaml"
    path.write_text("experiment: x.yaml\nname: a\ngrdi: {}\n")
    with pytest.raises(
        GanscaleError, match=r"grid\.yaml: .*a grid file has the keys experiment, name and"
    ):
        Sweep.load(path)
    with pytest.raises(GanscaleError, match=r"gone\.yaml: no such grid file"):
        Sweep.load(tmp_path / "gone.yaml")
    for value in ("2020-13-45", "1" * 5000, "!!bool x", "!!int ''", "[=", "\0"):
        path.write_text(f"experiment: x.yaml\nname: a\ngrid: {{seed: [{value}]}}\n")
        with pytest.raises(GanscaleError, match=r"grid\.yaml: (cannot be used|not valid YAML): "):
            Sweep.load(path)
