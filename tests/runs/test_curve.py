"""The table of a run's evaluations."""

import io

from rich.console import Console

from ganscale.config import Evaluation
from ganscale.runs.curve import curve_table


def test_at_its_least_width_no_column_is_cut_off() -> None:
    names = ("fid", "kid", "inception_score", "precision", "recall", "density", "coverage")
    lines = [
        {"step": step, "images": 32 * step, "values": dict.fromkeys(names, 650.4)}
        for step in (300, 12_000)
    ]
    table = curve_table(lines, Evaluation())
    width = Console(width=1000).measure(table).minimum
    printed = io.StringIO()
    Console(file=printed, width=width).print(table)
    shown = printed.getvalue().splitlines()
    assert all(line[-1] in "┓┃┩│┘" for line in shown), printed.getvalue()
    assert all(word in printed.getvalue() for word in ("12,000", "384,000", "best by", " FID "))
