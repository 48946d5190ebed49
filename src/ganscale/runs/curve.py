"""The table of a run's evaluations, with the best of them marked."""

from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table

from ganscale.config import Evaluation
from ganscale.evaluation.scores import Evaluated, best, shown_values, title_of
from ganscale.terminal import printable


def curve_table(lines: Sequence[Evaluated], wanted: Evaluation) -> Table:
    """Return a table of evaluations, a row each, in the order given.

    The best by `wanted.best` is marked, if they have that score.
    """
    names = list(dict.fromkeys(name for line in lines for name in shown_values(line)))
    found = best(lines, wanted)
    titles = [escape(printable(title_of(name))) for name in names]
    table = Table("step", "images", *titles, f"best by {title_of(wanted.best)}")
    for line in lines:
        values = line["values"]
        cells = [f"{values[name]:.4g}" if name in values else "-" for name in names]
        mark = "best" if found is not None and found["step"] == line["step"] else ""
        table.add_row(f"{line['step']:,}", f"{line.get('images', 0):,}", *cells, mark)
    return table
