"""`ganscale sweep`: the runs of a grid, each with a number, and a table of all of them."""

import itertools
import math
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from rich.table import Table

from ganscale.config import Experiment
from ganscale.config import load as experiment_file
from ganscale.config.inline import inline_yaml
from ganscale.errors import GanscaleError
from ganscale.evaluation import scores
from ganscale.registry import log_name
from ganscale.runs.checkpoint_names import list_finished, step_of
from ganscale.runs.run_folder import RunFolder
from ganscale.validation import first_mistake


class Sweep(BaseModel):
    """The content of a grid file: an experiment, and the values that some of its keys take."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    experiment: Path
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    grid: dict[str, list[Any]] = Field(min_length=1)

    @classmethod
    def load(cls, path: Path) -> "Sweep":
        """Read a grid file; raise `GanscaleError` if it is invalid."""
        with experiment_file.one_message(str(path), "grid file"):
            values = yaml.safe_load(path.read_text(encoding="utf-8"))
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise GanscaleError(
                f"{path}: {first_mistake(error)}; a grid file has the keys experiment, name and "
                "grid (key: [values])"
            ) from None

    def combinations(self) -> list[dict[str, Any]]:
        """Return the values of each run; the last key changes fastest."""
        values = itertools.product(*self.grid.values())
        return [dict(zip(self.grid, chosen, strict=True)) for chosen in values]

    def overrides(self, number: int, more: list[str]) -> list[str]:
        """Return the overrides of run `number`, counted from 0: `more` and the grid's values."""
        combinations = self.combinations()
        if not 0 <= number < len(combinations):
            raise GanscaleError(
                f"sweep {self.name}: there is no run {number}; the grid has runs 0 to "
                f"{len(combinations) - 1}",
                every_rank=True,
            )
        values = combinations[number].items()
        chosen = [f"{key}={inline_yaml(value)}" for key, value in values]
        return [f"name={self.name_of(number)}", *more, *chosen]

    def name_of(self, number: int) -> str:
        """Return the name of run `number`."""
        return f"{self.name}-{number:03d}"

    def run(self, number: int, more: list[str]) -> Experiment:
        """Return the experiment of run `number`."""
        return experiment_file.load(self.experiment, self.overrides(number, more))

    def table(self, more: list[str], by_score: bool = False) -> Table:
        """Return a table of the runs: values, steps done, best score and folder of each.

        They stand in the grid's order or, with `by_score`, the best first and those without a
        score last.
        """
        table = Table("run", *self.grid, "steps done", "best score", "folder", title=self.name)
        rows = [self._row(number, more) for number in range(len(self.combinations()))]
        for _, cells in sorted(rows, key=lambda row: row[0]) if by_score else rows:
            table.add_row(*cells)
        return table

    def _row(self, number: int, more: list[str]) -> tuple[float, tuple[str, ...]]:
        """Return a number that is the lower, the better the run, and its cells of the table."""
        start = (str(number), *map(str, self.combinations()[number].values()))
        try:
            experiment = self.run(number, more)
        except GanscaleError:
            return math.inf, (*start, "not valid", "-", "-")
        folder = RunFolder.of(experiment)
        known = list_finished(folder.checkpoints)
        done = step_of(known[-1]) if known else 0
        wanted = experiment.evaluation
        best = scores.best(scores.read_evaluations(folder.evaluations), wanted)
        rank, score = math.inf, "-"
        if best is not None:
            rank = scores.rank(best, wanted)
            score = f"{scores.title_of(wanted.best)} {best['values'][log_name(wanted.best)]:.4g}"
        steps = f"{done:,} of {experiment.train.steps:,}"
        return rank, (*start, steps, score, str(folder.path))
