"""`ganscale sweep`: the runs of a grid, one by its number, and a table of all."""

import itertools
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from rich.table import Table

from ganscale.config import Experiment
from ganscale.config import load as experiment_file
from ganscale.errors import GanscaleError
from ganscale.evaluation import scores
from ganscale.runs import checkpoint
from ganscale.runs.run_folder import RunFolder


class Sweep(BaseModel):
    """A grid file: an experiment, and the values that some of its keys take."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    experiment: Path
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    grid: dict[str, list[Any]] = Field(min_length=1)

    @classmethod
    def load(cls, path: Path) -> "Sweep":
        """Read a grid file; `GanscaleError` says what is wrong with it."""
        try:
            return cls.model_validate(yaml.safe_load(path.read_text()))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the file"
            raise GanscaleError(
                f"{path}: {where}: {first['msg']}; a grid file has experiment, name and grid "
                "(key: [values])"
            ) from None
        except Exception as error:  # PyYAML lets through what its constructors raise
            first_line = str(error).partition("\n")[0]
            raise GanscaleError(f"{path}: cannot be read ({first_line})") from None

    def combinations(self) -> list[dict[str, Any]]:
        """The values of each run, the last key changing fastest."""
        values = itertools.product(*self.grid.values())
        return [dict(zip(self.grid, chosen, strict=True)) for chosen in values]

    def overrides(self, number: int, more: list[str]) -> list[str]:
        """What run `number`, from 0, changes in the experiment."""
        combinations = self.combinations()
        if not 0 <= number < len(combinations):
            raise GanscaleError(
                f"sweep {self.name}: there is no run {number}; the grid has runs 0 to "
                f"{len(combinations) - 1}",
                every_rank=True,
            )
        values = combinations[number].items()
        chosen = [f"{key}={experiment_file.inline_yaml(value)}" for key, value in values]
        return [f"name={self.name}-{number:03d}", *more, *chosen]

    def run(self, number: int, more: list[str]) -> Experiment:
        """The experiment of run `number`."""
        return experiment_file.load(self.experiment, self.overrides(number, more))

    def table(self, more: list[str]) -> Table:
        """Each run's values, how far it is, its best score and where it lies."""
        table = Table("run", *self.grid, "steps done", "best score", "folder", title=self.name)
        for number, values in enumerate(self.combinations()):
            try:
                experiment = self.run(number, more)
            except GanscaleError:
                table.add_row(str(number), *map(str, values.values()), "not valid", "-", "-")
                continue
            folder = RunFolder.of(experiment)
            known = checkpoint.listed(folder.checkpoints)
            done = checkpoint.step_of(known[-1]) if known else 0
            wanted = experiment.evaluation
            best = scores.best(scores.read_evaluations(folder.path), wanted)
            name = scores.NAMES[wanted.best]
            score = f"{name} {best['values'][wanted.best]:.4g}" if best else "-"
            steps = f"{done:,} of {experiment.train.steps:,}"
            table.add_row(str(number), *map(str, values.values()), steps, score, str(folder.path))
        return table
