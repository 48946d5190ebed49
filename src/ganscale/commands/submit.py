"""Submit a training job to Slurm; it resumes by itself until its steps are done.

Mistakes that would end the job as soon as it starts are reported before it is submitted.
"""

import argparse
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ganscale.commands.arguments import add_overrides, path, positive
from ganscale.engines.launcher import ENGINES
from ganscale.errors import GanscaleError

if TYPE_CHECKING:
    from ganscale.config import Data, Experiment

SCRIPT = Path("slurm") / "train.sbatch"
MEMORY_PER_GPU = "16G"
CPUS_BESIDE_WORKERS = 2  # one for the rank itself, and one for its writing and downloading threads


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the experiment, and the resources that the job requests."""
    parser.add_argument("experiment", type=path, help="experiment file")
    add_overrides(parser)
    parser.add_argument(
        "--new", action="store_true", help="submit a new run under the next number: NAME-2, …"
    )
    parser.add_argument("--nodes", type=positive, default=1)
    parser.add_argument(
        "--gpus-per-node", type=positive, help="default: one process per node, on its CPU"
    )
    parser.add_argument("--cpus-per-gpu", type=positive, help="default: 2 more than data.workers")
    parser.add_argument("--mem-per-gpu", help="host memory, as sbatch takes it (16G)")
    parser.add_argument("--engine", choices=ENGINES, default="ddp")
    parser.add_argument("--time", help="limit of one start, as sbatch takes it (4 hours)")
    parser.add_argument("--partition")
    parser.add_argument("--account")
    parser.add_argument("--qos")
    parser.add_argument("--sbatch", action="append", default=[], help="another option of sbatch")
    parser.add_argument("--dry-run", action="store_true", help="print the script instead")


def run(options: argparse.Namespace) -> None:
    """Submit `slurm/train.sbatch` for an experiment, or print what would be submitted."""
    from ganscale.config.load import load
    from ganscale.runs.numbering import next_free, take_next
    from ganscale.runs.run_folder import RunFolder

    named = load(options.experiment, options.overrides)
    experiment = next_free(named) if options.new else named
    if not SCRIPT.is_file():
        raise GanscaleError(
            f"{Path.cwd()} has no {SCRIPT}; run this in a clone, or in a folder that "
            "`ganscale init FOLDER` has laid out"
        )
    _refuse_doomed_job(options, experiment)
    if not options.dry_run and shutil.which("sbatch") is None:
        raise GanscaleError("sbatch is not on PATH: submit from a login node of the cluster")
    if options.new and not options.dry_run:
        experiment = take_next(named)  # for the whole job: a start of it never takes a number
    line = command(options, experiment)
    print(f"# GANSCALE_ENGINE={options.engine} {shlex.join(line)}")
    print(f"# {_world(options, experiment)}")
    if options.dry_run:
        print(SCRIPT.read_text(encoding="utf-8"), end="")
        return
    environment = {**os.environ, "GANSCALE_ENGINE": options.engine}
    done = subprocess.run(line, env=environment, capture_output=True, text=True)
    if done.returncode:
        if options.new:
            RunFolder.of(experiment).give_back()
        raise GanscaleError(f"sbatch refused the job: {done.stderr.strip()}")
    job = done.stdout.strip().partition(";")[0]
    print(f"job {job}")
    print(f"watch it:  tail -F slurm-{experiment.name}-{job}.log    squeue --job {job}")
    print(
        f"its run:   {experiment.folder}    (ganscale stop {experiment.folder} saves and stops it)"
    )


def command(options: argparse.Namespace, experiment: "Experiment") -> list[str]:
    """Return the sbatch command that submits the job."""
    asked = {
        "job-name": experiment.name,
        "nodes": options.nodes,
        "gpus-per-node": options.gpus_per_node,
        "cpus-per-gpu": options.cpus_per_gpu,
        "mem-per-gpu": options.mem_per_gpu,
        "time": options.time,
        "partition": options.partition,
        "account": options.account,
        "qos": options.qos,
    }
    if options.gpus_per_node:
        # Slurm's defaults are one CPU per node for all ranks together, and often too little memory.
        if not _asks(options, "--cpus-per-gpu", "--cpus-per-task", "-c"):
            asked["cpus-per-gpu"] = CPUS_BESIDE_WORKERS + experiment.data.workers
        if not _asks(options, "--mem-per-gpu", "--mem", "--mem-per-cpu"):
            asked["mem-per-gpu"] = MEMORY_PER_GPU
    given = [f"--{key}={value}" for key, value in asked.items() if value is not None]
    # Relative paths stay valid, because the batch script starts in this folder.
    name = [f"name={experiment.name}"] if options.new else []
    arguments = [str(SCRIPT), str(options.experiment), *options.overrides, *name]
    return ["sbatch", "--parsable", *given, *options.sbatch, *arguments]


def _asks(options: argparse.Namespace, own: str, *others: str) -> bool:
    """Return whether the user has set it, with our option or with one of Slurm's."""
    if getattr(options, own.removeprefix("--").replace("-", "_")) is not None:
        return True
    given = [option.partition("=")[0] for option in options.sbatch]
    return any(name in given for name in (own, *others))


def _processes(options: argparse.Namespace) -> int:
    """Return the world size: one process per GPU or, without GPUs, one per node."""
    return int(options.nodes * (options.gpus_per_node or 1))


def _world(options: argparse.Namespace, experiment: "Experiment") -> str:
    """Describe how many processes the job has, and each one's share of a batch."""
    processes, batch = _processes(options), experiment.train.batch_size
    nodes = f"{options.nodes} node{'s' if options.nodes > 1 else ''}"
    gpus = f" × {options.gpus_per_node} GPUs" if options.gpus_per_node else ", no GPUs"
    return f"world size {processes}: {nodes}{gpus}; {batch // processes} of {batch} images each"


def _refuse_doomed_job(options: argparse.Namespace, experiment: "Experiment") -> None:
    """Raise `GanscaleError` for a mistake that would end the job as soon as it has started."""
    from ganscale.engines.distributed import Ranks
    from ganscale.engines.rules import refuse_unfit_engine
    from ganscale.runs.run_folder import RunFolder

    processes = _processes(options)
    Ranks(world_size=processes).rows(experiment.train.batch_size, experiment.train.accumulation)
    engine = ENGINES[options.engine]
    refuse_unfit_engine(experiment, engine, gpus=options.gpus_per_node is not None)
    RunFolder.of(experiment).refuse_another(experiment)
    _check_players(experiment)
    _check_set(experiment.data)
    if experiment.held_out is not None:
        _check_set(experiment.held_out)


def _check_players(experiment: "Experiment") -> None:
    """Build both networks once: each may be the user's own code."""
    from ganscale.networks import first_discriminator, first_generator
    from ganscale.training.penalty_rules import refuse_unfit_penalties

    first_generator(experiment)
    refuse_unfit_penalties(experiment, first_discriminator(experiment))


def _check_set(data: "Data") -> None:
    """Raise `GanscaleError` if a dataset that this machine can see does not fit the experiment."""
    paths = data.places
    if data.is_streamed or any("://" in path for path in paths):
        return
    missing = [path for path in paths if not Path(path).exists()]
    if missing:
        print(
            f"ganscale: warning: {missing[0]} does not exist on this machine; the job's nodes must "
            "have it",
            file=sys.stderr,
        )
        return
    from ganscale.data.packing.copies import is_source
    from ganscale.data.packing.source_state import refuse_empty
    from ganscale.data.reading.image_set import ImageSet  # imports torch

    sources = [path for path in paths if is_source(path, data)]
    for source in sources:
        refuse_empty(source)
    if sources:
        return  # the job packs them
    images = ImageSet(data)
    if data.partitions > 1:
        images.order(0)
