"""How long each command takes to start, and what it imports and looks up in file systems meanwhile.

    python bench/startup.py [--only WORD …] [--rounds N] [--set FOLDER] [--json FILE]

`train` is timed from the shell to the end of step 1, for one process and for two ranks, and then
killed; the other commands are timed to their exit. CPU seconds, modules and calls are those of all
processes of a command together. Each command runs with its bytecode compiled (warm) and with none
(cold), in rounds; figures are medians. Files are in the system's cache in both cases.
"""

import argparse
import contextlib
import json
import os
import re
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[1]
GAME = str(ROOT / "configs" / "mnist_mlp.yaml")
GANSCALE = ("-m", "ganscale")
FIRST_STEP = "step 1 of"  # in the log line of step 1
IMPORTED = re.compile(r"import time: +\d")
CALLS = (
    *("openat", "stat", "lstat", "newfstatat", "statx", "readlink", "readlinkat"),
    *("getdents64", "access", "faccessat", "faccessat2"),
)
LAST_LINES = 12  # of what a command that fails has written
WIDTH = 120  # of the table


class Command(NamedTuple):
    """What is started, after the interpreter's name."""

    arguments: tuple[str, ...]
    trains: bool = False
    """True if it is killed after step 1."""


class Start(NamedTuple):
    """What a start took."""

    seconds: float
    cpu_seconds: float
    errors: str
    """What was written to standard error."""


def make_commands(folder: Path, images: Path) -> dict[str, Command]:
    """Return the commands by their names in the table; `folder` has the run `finished`."""
    run = str(folder / "finished")
    launch = ROOT / "launch" / "accelerate" / "cpu_ddp.yaml"
    ranks = ("-m", "accelerate.commands.launch", "--config_file", str(launch))
    ranks = (*ranks, "--num_processes=2", "--main_process_port=0", *GANSCALE)
    overrides = {
        name: _overrides(folder, images, name, f"monitoring.tensorboard={board}")
        for name, board in (("plain", "false"), ("board", "true"))
    }
    quick = {
        "config": (GAME,),
        "inspect": (str(images),),
        "sample": (run, "--num", "16", "--out", str(folder / "samples.npz")),
        "export": (run, "--out", str(folder / "exported")),
        "evaluate": (run, "--num", "100"),
        "report": (run,),
        "plan": (GAME,),
    }
    return {
        "python -c 'import torch'": Command(("-c", "import torch")),
        "train": Command((*GANSCALE, "train", GAME, *overrides["plain"]), trains=True),
        "train, TensorBoard": Command((*GANSCALE, "train", GAME, *overrides["board"]), trains=True),
        "train, two ranks": Command((*ranks, "train", GAME, *overrides["plain"]), trains=True),
        **{name: Command((*GANSCALE, name, *more)) for name, more in quick.items()},
    }


def _overrides(folder: Path, images: Path, name: str, *more: str) -> tuple[str, ...]:
    """Return what lets a run log its first step and do nothing but train after it."""
    never = 1_000_000_000
    return (
        f"name={name}",
        f"runs={folder}",
        f"data.path={images}",
        "monitoring.log_every=1",
        f"monitoring.pictures_every={never}",
        f"checkpoint.every={never}",
        "monitoring.wandb=disabled",
        *more,
    )


def main() -> None:
    options = _options()
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        images = options.set.resolve() if options.set else folder / "digits"
        prepare(folder, images)
        commands = {
            name: command
            for name, command in make_commands(folder, images).items()
            if not options.only or any(word.lower() in name for word in options.only)
        }
        found = measured(commands, folder, options.rounds)
    _show(found)
    if options.json:
        rows = [{"command": name, **row} for name, row in found.items()]
        options.json.write_text(json.dumps(rows, indent=2) + "\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", metavar="WORD", help="commands with such a word")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--set", type=Path, help="packed images of 28×28; by default digits")
    parser.add_argument("--json", type=Path, help="write the figures there")
    return parser.parse_args()


def measured(commands: dict[str, Command], folder: Path, rounds: int) -> dict[str, dict[str, Any]]:
    """Return each command's medians and counts; its first run, which compiles, is not timed."""
    warm = make_environment(folder)
    starts: dict[str, dict[str, list[Start]]] = {}
    counts: dict[str, dict[str, int | None]] = {}
    for name, command in commands.items():
        start(command, folder, warm)
        imports = start(command, folder, {**warm, "PYTHONPROFILEIMPORTTIME": "1"}).errors
        modules = len(IMPORTED.findall(imports.partition(FIRST_STEP)[0]))
        counts[name] = {"modules": modules, "calls": count_calls(command, folder, warm)}
        starts[name] = {"warm": [], "cold": []}
    for _ in range(rounds):
        for name, command in commands.items():
            starts[name]["warm"].append(start(command, folder, warm))
            with tempfile.TemporaryDirectory(dir=folder) as empty:
                cold = {**warm, "PYTHONPYCACHEPREFIX": empty, "PYTHONDONTWRITEBYTECODE": "1"}
                starts[name]["cold"].append(start(command, folder, cold))
    return {name: _medians(starts[name]) | counts[name] for name in commands}


def _medians(starts: dict[str, list[Start]]) -> dict[str, Any]:
    row = {}
    for kind, found in starts.items():
        row[f"{kind}_seconds"] = statistics.median(one.seconds for one in found)
        row[f"{kind}_cpu_seconds"] = statistics.median(one.cpu_seconds for one in found)
    return row


def prepare(folder: Path, images: Path) -> None:
    """Pack digits if the images are not there, and leave the finished run that commands look at."""
    environment = make_environment(folder)
    if not images.exists():
        pack = ("pack", "digits", str(images), "--size", "28")
        start(Command((*GANSCALE, *pack)), folder, environment)
    overrides = _overrides(folder, images, "finished", "train.steps=1")
    start(Command((*GANSCALE, "train", GAME, *overrides)), folder, environment)


def make_environment(folder: Path) -> dict[str, str]:
    """Return an environment with one thread, no GPU, and a place for bytecode that fills itself."""
    own = {"PYTHONPYCACHEPREFIX": str(folder / "bytecode"), "CUDA_VISIBLE_DEVICES": ""}
    own["PYTHONPATH"] = os.pathsep.join((str(ROOT / "src"), os.environ.get("PYTHONPATH", "")))
    given = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    return {"OMP_NUM_THREADS": "1", **given, **own}


def start(
    command: Command, folder: Path, environment: dict[str, str], tracer: tuple[str, ...] = ()
) -> Start:
    """Start a command, wait for its exit or the end of its first step, and let nothing remain."""
    for name in ("plain", "board", "exported"):  # a run that is there already would resume
        shutil.rmtree(folder / name, ignore_errors=True)
    line = [*tracer, sys.executable, *command.arguments]
    began = time.perf_counter()
    process = subprocess.Popen(
        line,
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    assert process.stderr is not None
    errors, done = [], False
    for text in process.stderr:
        errors.append(text)
        if command.trains and FIRST_STEP in text:
            done = True
            break
    if done:
        seconds, cpu_seconds = time.perf_counter() - began, _cpu_seconds(process.pid)
        _kill(process, spare_the_first=bool(tracer))
        process.wait()
        process.stderr.close()
        return Start(seconds, cpu_seconds, "".join(errors))
    process.stderr.close()
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if command.trains or process.returncode:
        sys.exit(f"{shlex.join(line)}\n{''.join(errors[-LAST_LINES:])}")
    return Start(seconds, used.ru_utime + used.ru_stime, "".join(errors))


def _family(number: int) -> list[psutil.Process]:
    """Return a process and its descendants."""
    process = psutil.Process(number)
    return [process, *process.children(recursive=True)]


def _cpu_seconds(number: int) -> float:
    """Return the CPU time of a process and its descendants, those that have ended included."""
    total = 0.0
    for one in _family(number):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = one.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def _kill(process: "subprocess.Popen[str]", spare_the_first: bool) -> None:
    """Kill a process and its descendants, or a tracer's descendants only: it has yet to report."""
    for one in _family(process.pid)[spare_the_first:]:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()


def count_calls(command: Command, folder: Path, environment: dict[str, str]) -> int | None:
    """Return how often a start asks file systems for names and attributes; None without strace."""
    if shutil.which("strace") is None:
        return None
    report = folder / "calls"
    traced = "trace=" + ",".join(f"?{name}" for name in CALLS)  # some machines lack some of them
    start(command, folder, environment, ("strace", "-f", "-c", "-o", str(report), "-e", traced))
    total = report.read_text().splitlines()[-1].split()
    return int(total[3])


def _show(found: dict[str, dict[str, Any]]) -> None:
    table = Table("command", *("s warm", "CPU s", "s cold", "CPU s", "modules", "metadata calls"))
    for name, row in found.items():
        calls = "no strace" if row["calls"] is None else f"{row['calls']:,}"
        seconds = [
            f"{row[f'{kind}_{what}']:.2f}"
            for kind in ("warm", "cold")
            for what in ("seconds", "cpu_seconds")
        ]
        table.add_row(name, *seconds, f"{row['modules']:,}", calls)
    Console(width=max(WIDTH, shutil.get_terminal_size().columns)).print(table)


if __name__ == "__main__":
    main()
