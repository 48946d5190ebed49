"""Check this machine: what it has, what would not work, and how to fix it."""

import argparse
import shutil

COLOURS = {"ok": "green", "note": "yellow", "FAULT": "red"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare no arguments."""


def run(options: argparse.Namespace) -> int:
    """Print the findings; return 1 if training would not work."""
    from rich.console import Console
    from rich.table import Table

    from ganscale.monitoring.diagnosis import findings

    table, works = Table(show_header=False, box=None), True
    for name, (level, found, fix) in findings().items():
        works &= level != "FAULT"
        table.add_row(f"[{COLOURS[level]}]{level}", name, found + (f"\n→ {fix}" if fix else ""))
    Console(width=max(100, shutil.get_terminal_size().columns)).print(table)
    return int(not works)
