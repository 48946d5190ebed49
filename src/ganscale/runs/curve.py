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
    table = Table("step", "images")
    for name in names:
        cells = [_cell(line, name) for line in lines]
        title = escape(printable(title_of(name)))
        # Rich would take width from one column to restore another's, and cut the last one off.
        table.add_column(title, width=max(map(len, [*title.split(), *cells])))
    title = escape(printable(title_of(wanted.best)))
    table.add_column(f"best by {title}", width=max(map(len, ["best by", *title.split()])))
    for line in lines:
        cells = [_cell(line, name) for name in names]
        mark = "best" if found is not None and found["step"] == line["step"] else ""
        table.add_row(f"{line['step']:,}", f"{line.get('images', 0):,}", *cells, mark)
    return table


def _cell(line: Evaluated, name: str) -> str:
    return f"{line['values'][name]:.4g}" if name in line["values"] else "-"
