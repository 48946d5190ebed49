"""What the memory allocator's settings change: page faults, time and memory of a training step.

    python bench/allocator.py [--games WORD …] [--rounds N] [--steps N] [--json FILE]

Each setting runs in processes of its own, in turns: glibc's `default`, whose threshold grows by
itself; `ganscale`, which is what a training sets; and the same with `huge pages`, which glibc asks
the kernel for if the environment says so before a process starts. A ratio is that of two processes
of the same round; figures are medians.
"""

import argparse
import json
import logging
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

from games import BF16, NEVER, dcgan, experiment, mlp, pack_images
from rich.console import Console
from rich.table import Table

from ganscale.config import Experiment
from ganscale.engines.allocator import keep_freed_memory
from ganscale.engines.launcher import Launcher
from ganscale.training.preemption import Agreement, StopRequest
from ganscale.training.trainer import Trainer

HUGE_PAGES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
SETTINGS: dict[str, dict[str, str]] = {"default": {}, "ganscale": {}, "huge pages": HUGE_PAGES}
"""The environment of each setting."""
WARM_UP = 4  # steps, after which an allocator has seen every size
R3GAN_FILE = Path(__file__).parents[1] / "configs" / "cifar10_r3gan_cpu.yaml"
GAMES = {
    "MLP 28, batch 128": (mlp(128), 600),
    "DCGAN 64, width 64, batch 64, fp32": (dcgan(64, 64), 8),
    "DCGAN 64, width 64, batch 64, bf16": (dcgan(64, 64, *BF16), 8),
    "small R3GAN 32, batch 64, bf16": (("evaluation.every=null",), 24),
}
"""What decides what is computed, and the steps of a round."""


def main() -> None:
    options = _options()
    if options.one:
        game, setting, folder = options.one
        print(json.dumps(measure(game, setting, folder, options.steps)))
        return
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as work:
        for game, (_, steps) in GAMES.items():
            if options.games and not any(word.lower() in game.lower() for word in options.games):
                continue
            found = in_turns(game, Path(work), options.rounds, options.steps or steps)
            rows += [{"game": game, "setting": name, **row} for name, row in found.items()]
            _show(game, found)
            if options.json:
                options.json.write_text(json.dumps(rows, indent=2) + "\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--games", nargs="+", metavar="WORD", help="those with such a word")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, help="of a round; by default what suits the game")
    parser.add_argument("--json", type=Path, help="write the figures there")
    names = ("GAME", "SETTING", "FOLDER")
    parser.add_argument("--one", nargs=3, metavar=names, help="in this process; prints JSON")
    return parser.parse_args()


def in_turns(game: str, work: Path, rounds: int, steps: int) -> dict[str, dict[str, float]]:
    """Return each setting's medians, and how its times compare with the default's."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in SETTINGS}
    for _ in range(rounds):
        for name, more in SETTINGS.items():
            line = [sys.executable, __file__, "--one", game, name, str(work), "--steps", str(steps)]
            done = subprocess.run(
                line, env={**os.environ, **more}, check=True, stdout=subprocess.PIPE, text=True
            )
            found[name].append(json.loads(done.stdout.splitlines()[-1]))
    medians: dict[str, dict[str, float]] = {}
    for name, measured in found.items():
        row = {key: statistics.median(one[key] for one in measured) for key in measured[0]}
        for key in ("seconds", "cpu_seconds"):
            pairs = zip(measured, found["default"], strict=True)
            row[f"{key}_ratio"] = statistics.median(one[key] / other[key] for one, other in pairs)
        medians[name] = row
    return medians


class Watch(StopRequest):
    """Asks to stop after so many steps, and notes what this process has used since the first."""

    def __init__(self, trainer: Trainer, steps: int):
        super().__init__(trainer.ranks, trainer.model.device, trainer.folder.path)
        self._last = WARM_UP + steps
        self.used: list[tuple[float, resource.struct_rusage]] = []

    def agreed(self, step: int) -> Agreement:
        """Note the time and the page faults if `step` begins or ends what counts."""
        if step in (WARM_UP, self._last):
            self.used.append((time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)))
        return Agreement(stop=step == self._last)


def measure(game: str, setting: str, work: str, steps: int) -> dict[str, float]:
    """Return the page faults, the seconds and the memory of a step in this process."""
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory(dir=work) as folder:
        playing = _experiment(game, Path(work), Path(folder))
        name = "ganscale.training.trainer.keep_freed_memory"
        with patch(name, (lambda device: None) if setting == "default" else keep_freed_memory):
            trainer = Trainer(playing, Launcher())
        trainer.resume()
        with Watch(trainer, steps) as watch:
            trainer.loop.run(watch)
        trainer.folder.release()
    (began, before), (ended, after) = watch.used
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "faults": (after.ru_minflt - before.ru_minflt) / steps,
        "seconds": (ended - began) / steps,
        "cpu_seconds": cpu / steps,
        "peak_mib": after.ru_maxrss / 2**10,
    }


def _experiment(game: str, work: Path, runs: Path) -> Experiment:
    """Return the game as an experiment that has no end."""
    overrides, _ = GAMES[game]
    file = R3GAN_FILE if "R3GAN" in game else None
    unpacked = experiment(runs, overrides, work, file)
    channels, side, _ = unpacked.image_shape
    packed = work / f"{channels}x{side}"
    if not packed.exists():
        pack_images(packed, channels, side)
    endless = (f"train.steps={NEVER}", f"monitoring.log_every={NEVER}")
    return experiment(runs, (*overrides, *endless), packed, file)


def _show(game: str, found: dict[str, dict[str, float]]) -> None:
    heads = ("faults a step", "ms a step", "to default", "CPU to default", "peak MiB")
    table = Table("setting", *heads, title=game)
    for name, row in found.items():
        table.add_row(
            name,
            f"{row['faults']:,.0f}",
            f"{1e3 * row['seconds']:,.1f}",
            f"{row['seconds_ratio']:.3f}",
            f"{row['cpu_seconds_ratio']:.3f}",
            f"{row['peak_mib']:,.0f}",
        )
    Console().print(table)


if __name__ == "__main__":
    main()
