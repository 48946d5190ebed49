"""How images a second grow with processes: strong (one global batch), weak (one a process).

    python bench/scaling.py --processes 1 2 [--json FILE] [--plot FILE.png] [-- key=value …]

Each point is a real run of `ganscale train` of a DCGAN-64 on random images, started by
`accelerate launch`; its speed is the last one that it logs. Without a GPU the machine's threads are
shared out among the processes, so that every run has the whole machine. `--launch` starts the runs
otherwise, for instance over nodes: 'srun --ntasks {processes} … python -m ganscale'.
Efficiency is speed over that of the fewest processes, on a GPU divided by the growth in processes.
"""

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import matplotlib
import torch
from games import pack_images
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[1]
GAME = [
    "data.resolution=64",
    "data.channels=3",
    "generator.network={architecture: dcgan, width: 32}",
    "discriminator.network={architecture: dcgan, width: 32}",
    "train.channels_last=true",
    "train.precision=bf16",
]


def main() -> None:
    options = _options()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as work:
        pack_images(Path(work) / "set", 3, 64)
        for scaling in ("strong", "weak"):
            rates: dict[int, list[float]] = {n: [] for n in options.processes}
            for number in range(options.rounds):
                for processes in options.processes:
                    grown = processes // min(options.processes) if scaling == "weak" else 1
                    name = f"{scaling}-{processes}-{number}"
                    rate = measured(Path(work), name, processes, options.batch * grown, options)
                    rates[processes].append(rate)
            medians = {n: statistics.median(found) for n, found in rates.items()}
            rows += [
                {"scaling": scaling, "processes": n, **figures}
                for n, figures in _efficiencies(medians).items()
            ]
    _show(rows)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")
    if options.plot:
        _plot(rows, options.plot)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, nargs="+", required=True)
    parser.add_argument("--batch", type=int, default=64, help="global batch of the fewest")
    parser.add_argument("--steps", type=int, default=40, help="that are timed, after as many more")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--launch", help="command before `train`, with {processes} in it")
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--plot", type=Path, help="FILE.png")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    return parser.parse_args()


def measured(
    work: Path, name: str, processes: int, batch: int, options: argparse.Namespace
) -> float:
    """Images a second of one run."""
    line = [*_launch(options.launch, processes), "train", *_experiment(work, name, batch, options)]
    threads = {} if torch.cuda.is_available() else {"OMP_NUM_THREADS": str(_threads(processes))}
    done = subprocess.run(
        line, cwd=ROOT, env={**os.environ, **threads}, capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(f"{shlex.join(line)}\n{done.stderr}")
    lines = (work / name / "metrics.jsonl").read_text().splitlines()
    return float(json.loads(lines[-1])["images_per_second"])


def _experiment(work: Path, name: str, batch: int, options: argparse.Namespace) -> list[str]:
    return [
        str(ROOT / "configs" / "cifar10_dcgan.yaml"),
        *GAME,
        f"name={name}",
        f"runs={work}",
        f"data.path={work / 'set'}",
        f"train.batch_size={batch}",
        f"train.steps={2 * options.steps}",
        f"monitoring.log_every={options.steps}",
        "monitoring.pictures_every=1000000",
        "monitoring.wandb=disabled",
        "monitoring.trackers=[wandb]",
        "checkpoint.every=1000000",
        "evaluation.every=null",
        "objective.penalties=[]",
        *options.overrides,
    ]


def _launch(command: str | None, processes: int) -> list[str]:
    if command:
        return shlex.split(command.format(processes=processes))
    if processes == 1:
        return [sys.executable, "-m", "ganscale"]
    kind = "ddp" if torch.cuda.is_available() else "cpu_ddp"
    file = ROOT / "launch" / "accelerate" / f"{kind}.yaml"
    launcher = ["-m", "accelerate.commands.launch", "--config_file", str(file)]
    return [
        sys.executable,
        *launcher,
        f"--num_processes={processes}",
        "--main_process_port=0",
        "-m",
        "ganscale",
    ]


def _threads(processes: int) -> int:
    return max(1, (os.cpu_count() or 1) // processes)


def _efficiencies(medians: dict[int, float]) -> dict[int, dict[str, float]]:
    """On a GPU each process brings its own device; without one they share the machine."""
    fewest = min(medians)
    found = {}
    for n, rate in medians.items():
        growth = n / fewest if torch.cuda.is_available() else 1.0
        efficiency = rate / medians[fewest] / growth
        found[n] = {"images_per_second": rate, "efficiency": efficiency}
    return found


def _show(rows: list[dict[str, Any]]) -> None:
    table = Table("scaling", "processes", "images/s", "efficiency")
    for row in rows:
        rate, efficiency = row["images_per_second"], row["efficiency"]
        table.add_row(row["scaling"], str(row["processes"]), f"{rate:,.0f}", f"{efficiency:.2f}")
    Console().print(table)


def _plot(rows: list[dict[str, Any]], path: Path) -> None:
    matplotlib.use("agg")
    from matplotlib import pyplot

    for scaling in ("strong", "weak"):
        points = [(r["processes"], r["efficiency"]) for r in rows if r["scaling"] == scaling]
        pyplot.plot(*zip(*points, strict=True), marker="o", label=scaling)
    pyplot.xlabel("processes")
    pyplot.ylabel("efficiency")
    pyplot.ylim(bottom=0)
    pyplot.legend()
    pyplot.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
