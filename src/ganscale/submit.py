"""`ganscale submit`: a training job handed to Slurm."""

import argparse
import os
import shlex
import shutil
import subprocess
from pathlib import Path

from ganscale.errors import GanscaleError

SCRIPT = Path("slurm") / "train.sbatch"
ENGINES = ("ddp", "fsdp2", "zero0", "zero1", "zero2", "zero2_offload", "zero3")


def run(options: argparse.Namespace) -> None:
    """Submit `slurm/train.sbatch` for an experiment, or print what would be submitted."""
    from ganscale.experiment import load  # slow to import; the command line asks us for ENGINES

    experiment = load(options.experiment, options.overrides)  # mistakes end here
    if not SCRIPT.is_file():
        raise GanscaleError(f"{Path.cwd()} has no {SCRIPT}; run this in the clone's folder")
    line = command(options, experiment.name)
    if options.dry_run:
        print(f"# GANSCALE_ENGINE={options.engine} {shlex.join(line)}")
        print(SCRIPT.read_text(), end="")
        return
    if shutil.which("sbatch") is None:
        raise GanscaleError("sbatch is not on PATH: submit from a login node of the cluster")
    environment = {**os.environ, "GANSCALE_ENGINE": options.engine}
    done = subprocess.run(line, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise GanscaleError(f"sbatch refused the job: {done.stderr.strip()}")
    job = done.stdout.strip().partition(";")[0]
    print(f"job {job}")
    print(f"watch it:  tail -F slurm-{experiment.name}-{job}.log    squeue --job {job}")
    print(
        f"its run:   {experiment.folder}    (ganscale stop {experiment.folder} saves and ends it)"
    )


def command(options: argparse.Namespace, name: str) -> list[str]:
    """The line that submits."""
    asked = {
        "job-name": name,
        "nodes": options.nodes,
        "gpus-per-node": options.gpus_per_node,
        "cpus-per-gpu": options.cpus_per_gpu,
        "time": options.time,
        "partition": options.partition,
        "account": options.account,
        "qos": options.qos,
    }
    given = [f"--{key}={value}" for key, value in asked.items() if value is not None]
    # The batch script must see paths as they are here: it starts in this folder.
    arguments = [str(SCRIPT), str(options.experiment), *options.overrides]
    return ["sbatch", "--parsable", *given, *options.sbatch, *arguments]
