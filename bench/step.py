"""Images a second of the whole trainer against loops without a trainer.

    python bench/step.py [--games WORD …] [--rounds N] [--json FILE]

`bare` computes what the trainer computes, on one batch that is in memory already (bench/bare.py).
The others are written as tutorials and papers write theirs (bench/loops.py). All loops of a game
have the same networks and run one after another in rounds, each time in a process of its own, as
the trainer sets up the memory of its process; figures are medians, and a ratio is that of two that
ran in the same round.
"""

import argparse
import json
import logging
import statistics
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from games import GAMES, Game, setting, train
from isolation import run_apart
from rich.console import Console
from rich.table import Table
from setting import Setting, rate

from ganscale.engines.arithmetic import set_up_arithmetic

LIMIT_S = 600.0  # for one loop


def main() -> None:
    options = _options()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as work:
        for name, game in GAMES.items():
            if options.games and not any(word.lower() in name.lower() for word in options.games):
                continue
            found = measured(game, Path(work), options.rounds, options.steps or game.steps)
            rows += [{"game": name, "loop": loop, **row} for loop, row in found.items()]
            _show(name, found)
            if options.json:
                options.json.write_text(json.dumps(rows, indent=2) + "\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--games", nargs="+", metavar="WORD", help="those with such a word")
    parser.add_argument("--steps", type=int, help="of a round; by default what suits the game")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the figures there")
    return parser.parse_args()


def measured(game: Game, work: Path, rounds: int, steps: int) -> dict[str, dict[str, float]]:
    """Return images a second of each loop, and how many times as fast the trainer is."""
    logging.getLogger("ganscale").setLevel(logging.ERROR)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    given = setting(work, game.overrides, device)
    set_up_arithmetic(given.experiment.train)
    measures: dict[str, Callable[[], float]] = {"trainer": partial(_trainer, given, steps)}
    for name, more in game.variants.items():
        variant = setting(work, (*game.overrides, more), device)
        measures[name] = partial(_trainer, variant, steps)
    measures |= {name: partial(rate, given, loop, steps) for name, loop in game.loops.items()}
    rates: dict[str, list[float]] = {name: [] for name in measures}
    for _ in range(rounds):
        for name, measure in measures.items():
            rates[name].append(_apart(measure, work / "loop.log"))
    return {name: _compared(rates["trainer"], found) for name, found in rates.items()}


def _apart(measure: Callable[[], float], log: Path) -> float:
    """Return what is measured in a process of its own."""
    outcome = run_apart(lambda: {"rate": measure()}, LIMIT_S, log)
    if outcome["status"] != "ok":
        raise SystemExit(f"{outcome['reason']}\n{outcome.get('traceback', '')}")
    return float(outcome["rate"])


def _trainer(given: Setting, steps: int) -> float:
    return train(given.experiment, steps)["images_per_second"]


def _compared(trainer: list[float], rates: list[float]) -> dict[str, float]:
    """Return medians and extremes over the rounds; a ratio compares what ran in the same round."""
    ratios = [ours / theirs for ours, theirs in zip(trainer, rates, strict=True)]
    return {
        "images_per_second": statistics.median(rates),
        "trainer_is": statistics.median(ratios),
        "least": min(ratios),
        "most": max(ratios),
    }


def _show(name: str, found: dict[str, dict[str, float]]) -> None:
    table = Table("loop", "images/s", "trainer is", "least … most", title=name)
    for loop, row in found.items():
        extremes = f"{row['least']:.2f} … {row['most']:.2f}"
        table.add_row(
            loop, f"{row['images_per_second']:,.1f}", f"{row['trainer_is']:.2f}×", extremes
        )
    Console().print(table)


if __name__ == "__main__":
    main()
