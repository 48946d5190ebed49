"""The table of a run's evaluations, with the best of them marked."""

from collections.abc import Sequence

from rich.table import Table

from ganscale.config import Evaluation
from ganscale.evaluation.scores import Evaluated, best, shown_values, title_of


def curve_table(lines: Sequence[Evaluated], wanted: Evaluation) -> Table:
    """Return a table of evaluations, a row each, in the order given.

    The best by `wanted.best` is marked; so is none if no evaluation has that score.
    """
    names = list(dict.fromkeys(name for line in lines for name in shown_values(line)))
    found = best(lines, wanted)
    table = Table("step", "images", *map(title_of, names), f"best by {title_of(wanted.best)}")
    for line in lines:
        values = line["values"]
        cells = [f"{values[name]:.4g}" if name in values else "-" for name in names]
        mark = "best" if found is not None and found["step"] == line["step"] else ""
        table.add_row(f"{line['step']:,}", f"{line.get('images', 0):,}", *cells, mark)
    return table
