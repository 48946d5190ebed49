"""The project's batch scripts, as they are, on a real Slurm cluster of two nodes."""

import functools
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from ganscale.config import Experiment
from ganscale.data.manifest import load_manifest
from ganscale.experiment import load
from ganscale.training import checkpoint
from ganscale.training.run_folder import RunFolder
from tests.data.faulty_server import serving
from tests.system.processes import ROOT
from tests.system.slurm_cluster import Cluster, is_installed
from tests.system.test_resume import experiment_file
from tests.training.test_trainer import same_checkpoint

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(not is_installed(), reason="no Slurm here (or not root): slurm-wlm, munge"),
]

STEPS = 1000
NODES = ("--nodes=2", "--gpus-per-node=2")
ENGINES = {"ddp": "DDP", "fsdp2": "FSDP2", "zero2": "DeepSpeed ZeRO-2"}
RARELY = ("checkpoint.every=1000000", "monitoring.log_every=500")
# What slows a step down is tested where runs are resumed, not here.
PLAIN = ("balance=null", "augment.adaptive=null", "augment.policy=[]")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("slurm")
    started = Cluster(folder)
    yield started
    started.stop()
    for left in ROOT.glob("slurm-test-*"):
        shutil.rmtree(left) if left.is_dir() else left.unlink()


def submit(
    cluster: Cluster,
    script: str,
    *arguments: str,
    options: tuple[str, ...] = (),
    engine: str = "ddp",
) -> str:
    """The job's number."""
    name = "--job-name=test-" + Path(script).stem
    said = cluster.run(
        "sbatch",
        "--parsable",
        name,
        *options,
        f"slurm/{script}",
        *arguments,
        OMP_NUM_THREADS="1",
        CUDA_VISIBLE_DEVICES="",
        GANSCALE_ENGINE=engine,
    )
    assert said.strip().isdigit(), said
    return said.strip()


def log_of(job: str) -> str:
    return "\n".join(path.read_text() for path in sorted(ROOT.glob(f"slurm-test-*-{job}*.log")))


def run_of(digits: Path, folder: Path, name: str, *more: str) -> tuple[Experiment, list[str]]:
    """An experiment of two processes, and how it is named to the script."""
    _, path = experiment_file(digits, folder, "mlp", name)
    overrides = [f"train.steps={STEPS}", *RARELY, *PLAIN, *more]
    return load(path, overrides), [str(path), *overrides]


def wait_for(condition: str, job: str, times: int, seconds: float) -> None:
    """Until the job's log says something that often."""
    deadline = time.monotonic() + seconds
    while log_of(job).count(condition) < times:
        assert time.monotonic() < deadline, log_of(job)
        time.sleep(0.2)


@pytest.fixture(scope="module")
def whole(
    cluster: Cluster, digits: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Experiment]:
    """For each engine a run on two nodes of two GPUs that nothing interrupted."""

    @functools.cache
    def run(engine: str) -> Experiment:
        folder = tmp_path_factory.mktemp(engine)
        with serving(digits) as server:
            reader = {
                "ddp": ("data.reader=auto",),
                "fsdp2": ("data.reader=indexed", "data.workers=1"),
                "zero2": (
                    f"data.path={server.url}",
                    f"data.cache={cluster.local}/cache",
                    "data.reader=resident",
                ),
            }[engine]
            experiment, arguments = run_of(digits, folder, f"test-{engine}", *reader)
            job = submit(cluster, "train.sbatch", *arguments, options=NODES, engine=engine)
            assert cluster.wait(job, 400) == "COMPLETED", log_of(job)
        log = log_of(job)
        assert f"{ENGINES[engine]}, 4 processes on cpu" in log
        assert log.count(f"step {STEPS:,} of {STEPS:,}") == 1
        assert "MASTER_PORT=" in log
        shared = "resident reader: 1,797 images take 1 MiB decoded, in host memory, shared by 2"
        assert ("indexed reader: 1,797 images" if engine == "fsdp2" else shared) in log
        for node in (1, 2):
            assert (ROOT / f"slurm-test-train-{job}" / f"n{node}.log").is_file()
            assert not list(cluster.sees(node, Path("/dev/shm")).glob("ganscale*"))
        if engine == "zero2":  # once a node and no more
            tars = {path: n for path, n in server.requests.items() if path.endswith(".tar")}
            assert tars == {f"/shard-{i:06d}.tar": cluster.machines for i in range(5)}
        return experiment

    return run


def is_the_whole(experiment: Experiment, whole: Experiment) -> None:
    last = f"step-{STEPS:08d}"
    same_checkpoint(
        RunFolder.of(whole).checkpoints / last, RunFolder.of(experiment).checkpoints / last
    )


@pytest.mark.parametrize("engine", ["ddp", "fsdp2", "zero2"])
def test_two_nodes_of_two_gpus(whole: Callable[[str], Experiment], engine: str) -> None:
    assert checkpoint.listed(RunFolder.of(whole(engine)).checkpoints)


def test_a_time_limit_requeues_until_the_steps_are_done(
    cluster: Cluster, digits: Path, tmp_path: Path, whole: Experiment
) -> None:
    experiment, arguments = run_of(digits, tmp_path, "limited")
    limit = ("--nodes=2", "--time=1", "--signal=B:USR1@45")
    job = submit(cluster, "train.sbatch", *arguments, options=limit)
    wait_for("slurm: requeued; it goes on from", job, 2, 300)
    # Twice is enough: a loaded machine needs most of such a start for imports.
    cluster.run("scontrol", "update", f"JobId={job}", "TimeLimit=20")
    assert cluster.wait(job, 400) == "COMPLETED", log_of(job)
    log = log_of(job)
    assert log.count("slurm: requeued; it goes on from") >= 2, log
    assert log.count("going on from") == log.count("slurm: requeued; it goes on from"), log
    is_the_whole(experiment, whole)


def test_requeued_by_hand_and_with_a_rank_killed_it_goes_on(
    cluster: Cluster, digits: Path, tmp_path: Path, whole: Experiment
) -> None:
    experiment, arguments = run_of(digits, tmp_path, "killed", "checkpoint.every=100")
    job = submit(cluster, "train.sbatch", *arguments, options=("--nodes=2",))
    wait_for("checkpoint /", job, 1, 120)
    cluster.run("scontrol", "requeue", job)
    wait_for("going on from", job, 1, 180)
    wait_for("checkpoint /", job, 3, 120)
    kill(job, "bin/ganscale train", "1")
    assert cluster.wait(job, 300) == "COMPLETED", log_of(job)
    assert log_of(job).count("going on from") == 2, log_of(job)
    is_the_whole(experiment, whole)


def test_preempted_by_a_more_urgent_job_it_goes_on_after_it(
    cluster: Cluster, digits: Path, tmp_path: Path, whole: Experiment
) -> None:
    experiment, arguments = run_of(digits, tmp_path, "preempted")
    job = submit(cluster, "train.sbatch", *arguments, options=("--nodes=2",))
    wait_for("step 500 of", job, 1, 120)
    urgent = ("sbatch", "--parsable", "--partition=urgent", "--nodes=2", "--exclusive")
    other = cluster.run(*urgent, "--output=/dev/null", "--wrap=srun sleep 5").strip()
    assert cluster.wait(other, 120) == "COMPLETED"
    assert cluster.wait(job, 300) == "COMPLETED", log_of(job)
    log = log_of(job)
    # Nothing but the signal made it save: the grace time was enough.
    assert log.count("going on from") == 1, log
    assert "stopped by signal 15" in log
    assert "Restarts=1" in cluster.run("scontrol", "show", "job", job)
    is_the_whole(experiment, whole)


def test_a_node_that_slurm_has_lost_costs_no_more_than_the_time_limit(
    cluster: Cluster, digits: Path, tmp_path: Path, whole: Experiment
) -> None:
    """With slurmstepd dead, srun waits for its node for ever."""
    experiment, arguments = run_of(digits, tmp_path, "lost", "checkpoint.every=100")
    limit = ("--nodes=2", "--time=2", "--signal=B:USR1@60")
    job = submit(cluster, "train.sbatch", *arguments, options=limit)
    wait_for("checkpoint /", job, 1, 120)
    kill(job, f"slurmstepd: [{job}.0]")
    assert cluster.wait(job, 400) == "COMPLETED", log_of(job)
    assert "srun hears nothing from a node" in log_of(job)
    is_the_whole(experiment, whole)


def test_a_signal_that_slurm_is_still_sending_does_not_keep_the_job_from_going_on(
    cluster: Cluster, tmp_path: Path
) -> None:
    """The job's state is SIGNALING then, as at a time limit with a node slow to answer."""
    run = tmp_path / "run"
    (run / "checkpoints" / "step-00000001").mkdir(parents=True)
    script = tmp_path / "end.sbatch"
    script.write_text(
        "#!/usr/bin/env bash\n"
        "#SBATCH --requeue --open-mode=append --output=slurm-%x-%j.log\n"
        ". slurm/job.sh\n"
        "set_rendezvous\n"
        "[ ${SLURM_RESTART_COUNT:-0} -eq 0 ] || exit 0\n"
        f"say ready; until [ -e {tmp_path}/go ]; do sleep 0.2; done\n"
        f"code=137; requeue_or_end {run}\n"
    )
    job = cluster.run("sbatch", "--parsable", "--job-name=test-end", str(script)).strip()
    wait_for("ready", job, 1, 60)
    with cluster.deaf(1):
        cluster.run("scancel", "--signal=CONT", job)
        assert cluster.state(job) == "SIGNALING"
        (tmp_path / "go").touch()
        wait_for("requeued; it goes on", job, 1, 60)
    assert cluster.wait(job, 120) == "COMPLETED", log_of(job)


def kill(job: str, line: str, process_number: str | None = None) -> None:
    """SIGKILL to the process of a job whose command line has `line` in it."""
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


def test_a_run_that_fails_of_itself_is_not_requeued(
    cluster: Cluster, digits: Path, tmp_path: Path
) -> None:
    _, arguments = run_of(digits, tmp_path, "failing", "data.path=/nowhere")
    job = submit(cluster, "train.sbatch", *arguments, options=("--nodes=2",))
    assert cluster.wait(job, 120) == "FAILED"
    assert "Restarts=0" in cluster.run("scontrol", "show", "job", job)
    assert "error: /nowhere" in log_of(job)


def test_an_error_of_one_rank_alone_is_not_requeued(
    cluster: Cluster, digits: Path, whole: Experiment
) -> None:
    """Rank 0 finds another experiment's checkpoints; srun kills the other one for it."""
    folder = Path(whole.runs).parent
    job = submit(
        cluster,
        "train.sbatch",
        str(folder / "whole.yaml"),
        f"train.steps={STEPS + 10}",
        "seed=1",
        options=("--nodes=2",),
    )
    assert cluster.wait(job, 120) == "FAILED", log_of(job)
    assert "Restarts=0" in cluster.run("scontrol", "show", "job", job)
    assert "holds a run of another experiment" in log_of(job)
    assert "rank 0 ended with code 1: not requeued" in log_of(job)


def test_a_cancelled_run_stays_cancelled(cluster: Cluster, digits: Path, tmp_path: Path) -> None:
    _, arguments = run_of(digits, tmp_path, "cancelled", "checkpoint.every=50")
    job = submit(cluster, "train.sbatch", *arguments, "train.steps=1000000")
    wait_for("checkpoint /", job, 1, 120)
    cluster.run("scancel", job)
    assert cluster.wait(job, 60) == "CANCELLED"
    time.sleep(3)
    assert cluster.state(job) == "CANCELLED", log_of(job)


def test_a_sweep_of_four_with_one_failing(cluster: Cluster, digits: Path, tmp_path: Path) -> None:
    _, path = experiment_file(digits, tmp_path, "mlp", "base")
    grid = tmp_path / "grid.yaml"
    grid.write_text(
        f"experiment: {path}\nname: sweep\n"
        "grid:\n  train.batch_size: [8, 16]\n  train.accumulation: [1, 16]\n"
    )
    arguments = (str(grid), "train.steps=20", *RARELY)
    job = submit(cluster, "sweep.sbatch", *arguments, options=("--array=0-3",))
    ends = [cluster.wait(f"{job}_{task}", 300) for task in range(4)]
    assert ends == ["COMPLETED", "FAILED", "COMPLETED", "COMPLETED"], log_of(job)
    done = checkpoint.listed(tmp_path / "runs" / "sweep-003" / "checkpoints")
    assert done[-1].name == "step-00000020"
    assert log_of(job).count("20 of 20") >= 4  # three runs in the last table, and before
    assert "train.batch_size=8" in log_of(job)  # what is wrong with the second


def test_packing_spread_over_an_array(cluster: Cluster, tmp_path: Path) -> None:
    packed, alone = tmp_path / "packed", tmp_path / "alone"
    shards = ("--size", "16", "--samples-per-shard", "200")
    job = submit(cluster, "pack.sbatch", "digits", str(packed), *shards, options=("--array=0-2",))
    ends = {cluster.wait(f"{job}_{task}", 180) for task in range(3)}
    assert ends == {"COMPLETED"}, log_of(job)
    done = cluster.run("ganscale", "pack", "digits", str(alone), *shards)
    assert load_manifest(packed) == load_manifest(alone), done
