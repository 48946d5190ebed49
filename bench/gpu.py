"""What only a GPU can say: correctness, speed and use of the device, in less than ten minutes.

    python bench/gpu.py [--json FILE] [--only WORD …] [--minutes N]

Each case (bench/gpu_cases.py) runs in a process of its own, with a limit of time: one that fails,
runs out of memory or hangs ends no other. FILE is written after each case. Without a GPU the games
are small, and cases that need one are skipped, so that the benchmark itself can be tried.
"""

import argparse
import functools
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # the game by hand is in tests/

import torch
from gpu_cases import Case, make_cases
from isolation import run_apart
from rich.console import Console
from rich.table import Table

MINUTES = 9.5
LEAST_S = 5.0  # no case is begun with less time left
WIDTH = 150  # of the table
COLUMNS = ("images/s", "kernels' share of the time", "share of the matmul rate", "GiB")


def main() -> None:
    options = _options()
    end = time.monotonic() + 60 * options.minutes
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        machine = run_apart(describe_machine, 60, folder / "machine.log")
        rows: list[dict[str, Any]] = []
        for case in make_cases(machine.get("cuda", False)):
            if options.only and not any(word.lower() in case.name.lower() for word in options.only):
                continue
            row = {"case": case.name} | _outcome(case, machine, folder, end - time.monotonic())
            rows.append(row)
            print(f"{row['case']}: {_in_words(row)}", flush=True)
            if options.json:
                _write(options.json, {"machine": machine, "cases": rows})
    _show(machine, rows)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--only", nargs="+", metavar="WORD", help="cases with such a word")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="for all cases together")
    return parser.parse_args()


def describe_machine() -> dict[str, Any]:
    """Return what the figures were measured on."""
    cuda = torch.cuda.is_available()
    return {
        "cuda": cuda,
        "device": torch.cuda.get_device_name() if cuda else platform.processor() or "CPU",
        "cores": len(os.sched_getaffinity(0)),
        "torch": torch.__version__,
        "cudnn": torch.backends.cudnn.version() if cuda else None,
    }


def _outcome(case: Case, machine: dict[str, Any], work: Path, left_s: float) -> dict[str, Any]:
    """Return what came of a case, and why if nothing did."""
    reason = case.reason_to_skip(machine.get("cuda", False))
    if reason is None and left_s < LEAST_S:
        reason = "no time was left (--minutes)"
    if reason is not None:
        return {"status": "skipped", "reason": reason}
    measure = functools.partial(_in_environment, case, work)
    return run_apart(measure, min(case.limit_s, left_s), work / "case.log")


def _in_environment(case: Case, work: Path) -> dict[str, Any]:
    os.environ.update(case.environment)
    return case.measure(work, case.overrides)


def _write(path: Path, content: dict[str, Any]) -> None:
    """Write the file so that it is whole at any time."""
    beside = path.with_name(path.name + ".part")
    beside.write_text(json.dumps(content, indent=2) + "\n")
    beside.replace(path)


def _in_words(row: dict[str, Any]) -> str:
    """Return a line about what came of a case."""
    if row["status"] != "ok":
        return f"{row['status']} ({row['reason']})"
    known = ("case", "status", "seconds")
    return ", ".join(f"{name} {_number(v)}" for name, v in row.items() if name not in known)


def _number(value: Any) -> str:
    return f"{value:,.4g}" if isinstance(value, float) else str(value)


def _show(machine: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    """Print a short table: the speeds, and what holds."""
    device = f"{machine.get('device')}, PyTorch {machine.get('torch')}"
    table = Table("case", *COLUMNS, "what came of it", title=device)
    for row in rows:
        outcome = row["status"]
        if "holds" in row:
            outcome = "holds" if row["holds"] else "does not hold"
        cells = (_number(row[name]) if name in row else "" for name in COLUMNS)
        table.add_row(row["case"], *cells, outcome)
    Console(width=max(WIDTH, shutil.get_terminal_size().columns)).print(table)


if __name__ == "__main__":
    main()
