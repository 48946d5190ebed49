"""Jobs of the project's batch scripts on a test's cluster, and the runs that they train.

Every job has two nodes of two GPUs. Its ranks are forked from the session's warm server by way of
GANSCALE_PREFIX, unless a test is about starting.
"""

import functools
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from ganscale.cli import main
from ganscale.config import Experiment
from ganscale.config.load import load
from ganscale.runs.run_folder import RunFolder
from tests.comparing import same_checkpoint
from tests.data.faulty_server import serving
from tests.system.interrupted import experiment_file
from tests.system.processes import ROOT
from tests.system.slow_steps import SLOW
from tests.system.slurm_cluster import Cluster, is_installed
from tests.system.warm_process import ADDRESS
from tests.system.warm_server import BASE, warm_server

needs_slurm = pytest.mark.skipif(
    not is_installed(), reason="no Slurm here (or not root): slurm-wlm, munge"
)
STEPS = 120
LONG_S = 600
NODES = ("--nodes=2", "--gpus-per-node=2")
ENGINES = {"ddp": "DDP", "fsdp2": "FSDP2", "zero2": "DeepSpeed ZeRO-2"}
RARELY = ("checkpoint.every=1000000", "monitoring.log_every=50")
# What slows a step down is tested where runs are resumed, not here.
PLAIN = ("balance=null", "augment.adaptive=null", "augment.policy=[]")
# No environment is active where a job is handed over.
PLAIN_PATH = {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"}
WARM = (sys.executable, "-IS", str(ROOT / "tests" / "system" / "warm_process.py"))


class Brake:
    """Holds a job's steps back, so that it cannot end before the test has interrupted it."""

    def __init__(self, folder: Path, seconds: float):
        self.path = folder / "slow"
        self.path.write_text(str(seconds))

    def release(self) -> None:
        self.path.unlink()


def submit(
    cluster: Cluster,
    script: str,
    *arguments: str,
    options: tuple[str, ...] = NODES,
    engine: str = "ddp",
    brake: Brake | None = None,
    **more: str,
) -> str:
    """Submit a batch script; return the job's number."""
    said = cluster.run(
        "sbatch",
        "--parsable",
        f"--job-name=test-{Path(script).stem}",
        *options,
        f"slurm/{script}",
        *arguments,
        OMP_NUM_THREADS="1",
        CUDA_VISIBLE_DEVICES="",
        GANSCALE_ENGINE=engine,
        GANSCALE_PREFIX=" ".join((*WARM, "tests.system.slow_steps")),
        **{
            SLOW: str(brake.path if brake else "/nowhere"),
            ADDRESS: warm_server("deepspeed" if engine.startswith("zero") else BASE),
        },
        **more,
    )
    assert said.strip().isdigit(), said
    return said.strip()


def hand_over(cluster: Cluster, project: Path, *arguments: str) -> str:
    """Let `ganscale submit` submit a job from a project; return its number.

    Its ranks start as a user's do, with the scripts that `ganscale init` has laid out.
    """
    assert main(["init", str(project)]) == 0
    line = (sys.executable, "-m", "ganscale", "submit", arguments[0], *NODES, *arguments[1:])
    said = cluster.run(*line, folder=project, OMP_NUM_THREADS="1", **PLAIN_PATH)
    assert "world size 4: 2 nodes × 2 GPUs; 2 of 8 images each" in said
    job = said.partition("\njob ")[2].partition("\n")[0]
    assert job.isdigit(), said
    shown = cluster.run("scontrol", "show", "job", job)
    assert "CpusPerTres=gres:gpu:4" in shown
    assert "MemPerTres=gres:gpu:16384" in shown
    return job


def log_of(job: str, folder: Path = ROOT) -> str:
    logs = sorted(folder.glob(f"slurm-test-*-{job}*.log"))
    return "\n".join(path.read_text() for path in logs)


def wait_for(text: str, job: str, times: int) -> None:
    """Wait until the job's log says something that often."""
    deadline = time.monotonic() + LONG_S
    while log_of(job).count(text) < times:
        assert time.monotonic() < deadline, log_of(job)
        time.sleep(0.2)


def kill(job: str, line: str, process_number: str | None = None) -> None:
    """Send SIGKILL to the process of a job whose command line has `line` in it."""
    for process in psutil.process_iter():
        try:
            environment = process.environ()
            if (
                line in " ".join(process.cmdline())
                and process_number in (None, environment.get("SLURM_PROCID"))
                and (process_number is None or environment.get("SLURM_JOB_ID") == job)
            ):
                os.kill(process.pid, signal.SIGKILL)
                return
        except psutil.Error:
            continue
    raise AssertionError(f"no process of job {job} with {line}")


def run_of(digits: Path, folder: Path, name: str, *more: str) -> tuple[Experiment, list[str]]:
    """Return an experiment, and how it is named to a batch script."""
    _, path = experiment_file(digits, folder, "mlp", name)
    overrides = [f"train.steps={STEPS}", *RARELY, *PLAIN, *more]
    return load(path, overrides), [str(path), *overrides]


def uninterrupted_runs(cluster: Cluster, digits: Path, folder: Path) -> Callable[[str], Experiment]:
    """Return a function that gives, for each engine, a run that nothing interrupted."""

    @functools.cache
    def run(engine: str) -> Experiment:
        with serving(digits) as server:
            remote = (f"data.path={server.url}", f"data.cache={cluster.local}/cache")
            reader = {
                "ddp": (),
                "fsdp2": (*remote, "data.reader=indexed", "data.workers=1"),
                "zero2": remote,
            }[engine]
            experiment, arguments = run_of(digits, folder, f"test-{engine}", *reader)
            place = folder / "project" if engine == "ddp" else ROOT
            if engine == "ddp":
                job = hand_over(cluster, place, *arguments)
            else:
                job = submit(cluster, "train.sbatch", *arguments, engine=engine)
            assert cluster.wait(job, LONG_S) == "COMPLETED", log_of(job, place)
            requests = server.requests
        log = log_of(job, place)
        assert f"{ENGINES[engine]}, 4 processes on cpu" in log
        shared = "resident reader: 1,797 images take 1 MiB decoded, in host memory, shared by 2"
        assert ("indexed reader: 1,797 images" if engine == "fsdp2" else shared) in log
        assert log.count(f"step {STEPS:,} of {STEPS:,}") == 1
        assert "MASTER_PORT=" in log
        for node in (1, 2):
            assert len(list(place.glob(f"slurm-test-*-{job}/n{node}.log"))) == 1
            assert not list(cluster.sees(node, Path("/dev/shm")).glob("ganscale-*"))
        if engine != "ddp":  # a shard comes to each node once
            tars = {path: n for path, n in requests.items() if path.endswith(".tar")}
            assert tars == {f"/shard-{i:06d}.tar": cluster.machines for i in range(5)}
        return experiment

    return run


def is_uninterrupted(experiment: Experiment, uninterrupted: Experiment) -> None:
    """Assert that a run ended as the one that nothing interrupted, to the last bit."""
    last = f"step-{STEPS:08d}"
    same_checkpoint(
        RunFolder.of(uninterrupted).checkpoints / last, RunFolder.of(experiment).checkpoints / last
    )
