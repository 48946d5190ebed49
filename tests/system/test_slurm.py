"""The project's batch scripts, as they are, on a real Slurm cluster of two nodes."""

import functools
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from ganscale.config import Experiment
from ganscale.config.load import load
from ganscale.data.shards.manifest import load_manifest
from ganscale.runs import checkpoint
from ganscale.runs.run_folder import RunFolder
from tests.comparing import same_checkpoint
from tests.data.faulty_server import serving
from tests.system.interrupted import experiment_file
from tests.system.processes import ROOT
from tests.system.slurm_cluster import Cluster, is_installed
from tests.system.wandb_server import serving_sweep, sweep_command

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(not is_installed(), reason="no Slurm here (or not root): slurm-wlm, munge"),
]

STEPS = 1000
LONG = 900  # seconds; a loaded machine needs minutes for four processes to start
NODES = ("--nodes=2", "--gpus-per-node=2")  # of every job that trains
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
    options: tuple[str, ...] = NODES,
    engine: str = "ddp",
    **more: str,
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
        **more,
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


def wait_for(condition: str, job: str, times: int) -> None:
    """Until the job's log says something that often."""
    deadline = time.monotonic() + LONG
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
        with serving(digits) as server:
            remote = (f"data.path={server.url}", f"data.cache={cluster.local}/cache")
            reader = {
                "ddp": (),
                "fsdp2": (*remote, "data.reader=indexed", "data.workers=1"),
                "zero2": remote,
            }[engine]
            name = f"test-{engine}"
            experiment, arguments = run_of(digits, tmp_path_factory.mktemp(engine), name, *reader)
            if engine == "ddp":
                job = handed_over(cluster, *arguments)
            else:
                job = submit(cluster, "train.sbatch", *arguments, engine=engine)
            assert cluster.wait(job, LONG) == "COMPLETED", log_of(job)
            requests = server.requests
        log = log_of(job)
        assert f"{ENGINES[engine]}, 4 processes on cpu" in log
        shared = "resident reader: 1,797 images take 1 MiB decoded, in host memory, shared by 2"
        assert ("indexed reader: 1,797 images" if engine == "fsdp2" else shared) in log
        assert log.count(f"step {STEPS:,} of {STEPS:,}") == 1
        assert "MASTER_PORT=" in log
        for node in (1, 2):
            assert len(list(ROOT.glob(f"slurm-test-*-{job}/n{node}.log"))) == 1
            assert not list(cluster.sees(node, Path("/dev/shm")).glob("ganscale-*"))
        if engine != "ddp":  # a shard comes to each node once
            tars = {path: n for path, n in requests.items() if path.endswith(".tar")}
            assert tars == {f"/shard-{i:06d}.tar": cluster.machines for i in range(5)}
        return experiment

    return run


def handed_over(cluster: Cluster, *arguments: str) -> str:
    """The number of a job that `ganscale submit` has submitted, asking for what it does itself."""
    line = (sys.executable, "-m", "ganscale", "submit", arguments[0], *NODES, *arguments[1:])
    said = cluster.run(*line, OMP_NUM_THREADS="1")
    assert "world size 4: 2 nodes × 2 GPUs; 2 of 8 images each" in said
    job = said.partition("\njob ")[2].partition("\n")[0]
    assert job.isdigit(), said
    shown = cluster.run("scontrol", "show", "job", job)
    assert "CpusPerTres=gres:gpu:4" in shown
    assert "MemPerTres=gres:gpu:16384" in shown
    return job


def is_the_whole(experiment: Experiment, whole: Callable[[str], Experiment]) -> None:
    last = f"step-{STEPS:08d}"
    same_checkpoint(
        RunFolder.of(whole).checkpoints / last, RunFolder.of(experiment).checkpoints / last
    )


@pytest.mark.parametrize("engine", ["ddp", "fsdp2", "zero2"])
def test_two_nodes_of_two_gpus(whole: Callable[[str], Experiment], engine: str) -> None:
    assert checkpoint.list_finished(RunFolder.of(whole(engine)).checkpoints)


def test_a_time_limit_requeues_until_the_steps_are_done(
    cluster: Cluster, digits: Path, tmp_path: Path, whole: Callable[[str], Experiment]
) -> None:
    experiment, arguments = run_of(digits, tmp_path, "limited")
    # The signal comes seconds after each start, most of which is imports.
    limit = (*NODES, "--time=5", "--signal=B:USR1@290")
    job = submit(cluster, "train.sbatch", *arguments, options=limit, engine="fsdp2")
    wait_for("slurm: requeued; it resumes from", job, 2)
    cluster.run("scontrol", "update", f"JobId={job}", "TimeLimit=60")
    assert cluster.wait(job, LONG) == "COMPLETED", log_of(job)
    log = log_of(job)
    assert log.count("slurm: requeued; it resumes from") >= 2, log
    assert log.count("resuming from") == log.count("slurm: requeued; it resumes from"), log
    is_the_whole(experiment, whole("fsdp2"))


def test_requeued_by_hand_and_with_a_rank_killed_it_goes_on(
    cluster: Cluster, digits: Path, tmp_path: Path, whole: Callable[[str], Experiment]
) -> None:
    experiment, arguments = run_of(digits, tmp_path, "killed", "checkpoint.every=100")
    job = submit(cluster, "train.sbatch", *arguments)
    wait_for("checkpoint /", job, 1)
    cluster.run("scontrol", "requeue", job)
    wait_for("resuming from", job, 1)
    wait_for("checkpoint /", job, 3)
    kill(job, "bin/ganscale train", "1")
    assert cluster.wait(job, LONG) == "COMPLETED", log_of(job)
    assert log_of(job).count("resuming from") == 2, log_of(job)
    is_the_whole(experiment, whole("ddp"))


def test_preempted_by_a_more_urgent_job_it_goes_on_after_it(
    cluster: Cluster, digits: Path, tmp_path: Path, whole: Callable[[str], Experiment]
) -> None:
    experiment, arguments = run_of(digits, tmp_path, "preempted")
    job = submit(cluster, "train.sbatch", *arguments, engine="zero2")
    wait_for("step 500 of", job, 1)
    urgent = ("sbatch", "--parsable", "--partition=urgent", "--nodes=2", "--exclusive")
    other = cluster.run(*urgent, "--output=/dev/null", "--wrap=srun sleep 5").strip()
    assert cluster.wait(other, 120) == "COMPLETED"
    assert cluster.wait(job, LONG) == "COMPLETED", log_of(job)
    log = log_of(job)
    # Nothing but the signal made it save: the grace time was enough.
    assert log.count("resuming from") == 1, log
    assert "stopped by signal 15" in log
    assert "Restarts=1" in cluster.run("scontrol", "show", "job", job)
    is_the_whole(experiment, whole("zero2"))


def test_a_node_that_slurm_has_lost_costs_no_more_than_the_time_limit(
    cluster: Cluster, digits: Path, tmp_path: Path, whole: Callable[[str], Experiment]
) -> None:
    """With slurmstepd dead, srun waits for its node for ever."""
    experiment, arguments = run_of(digits, tmp_path, "lost", "checkpoint.every=100")
    limit = (*NODES, "--time=2", "--signal=B:USR1@60")
    job = submit(cluster, "train.sbatch", *arguments, options=limit)
    wait_for("checkpoint /", job, 1)
    kill(job, f"slurmstepd: [{job}.0]")
    assert cluster.wait(job, LONG) == "COMPLETED", log_of(job)
    assert "a node does not respond to srun" in log_of(job)
    is_the_whole(experiment, whole("ddp"))


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
    wait_for("ready", job, 1)
    with cluster.deaf(1):
        cluster.run("scancel", "--signal=CONT", job)
        assert cluster.state(job) == "SIGNALING"
        (tmp_path / "go").touch()
        wait_for("requeued; it resumes", job, 1)
    assert cluster.wait(job, LONG) == "COMPLETED", log_of(job)


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
    job = submit(cluster, "train.sbatch", *arguments)
    assert cluster.wait(job, LONG) == "FAILED"
    assert "Restarts=0" in cluster.run("scontrol", "show", "job", job)
    assert "error: /nowhere" in log_of(job)


def test_an_error_of_one_rank_alone_is_not_requeued(
    cluster: Cluster, digits: Path, whole: Callable[[str], Experiment]
) -> None:
    """Rank 0 finds another experiment's checkpoints; srun kills the other one for it."""
    folder = Path(whole("ddp").runs).parent
    job = submit(
        cluster,
        "train.sbatch",
        str(folder / "test-ddp.yaml"),
        f"train.steps={STEPS + 10}",
        "seed=1",
    )
    assert cluster.wait(job, LONG) == "FAILED", log_of(job)
    assert "Restarts=0" in cluster.run("scontrol", "show", "job", job)
    assert "holds a run of another experiment" in log_of(job)
    assert "rank 0 ended with code 1: not requeued" in log_of(job)


def test_a_cancelled_run_stays_cancelled(cluster: Cluster, digits: Path, tmp_path: Path) -> None:
    _, arguments = run_of(digits, tmp_path, "cancelled", "checkpoint.every=50")
    job = submit(cluster, "train.sbatch", *arguments, "train.steps=1000000")
    wait_for("checkpoint /", job, 1)
    cluster.run("scancel", job)
    assert cluster.wait(job, LONG) == "CANCELLED"
    time.sleep(3)
    assert cluster.state(job) == "CANCELLED", log_of(job)


def test_a_sweep_with_one_failing(cluster: Cluster, digits: Path, tmp_path: Path) -> None:
    _, path = experiment_file(digits, tmp_path, "mlp", "base")
    grid = tmp_path / "grid.yaml"
    values = "grid:\n  train.accumulation: [1, 32, 2]\n"
    grid.write_text(f"experiment: {path}\nname: sweep\n{values}")
    arguments = (str(grid), "train.steps=20", "train.batch_size=32", *RARELY, *PLAIN)
    job = submit(cluster, "sweep.sbatch", *arguments, options=(*NODES, "--array=0-2"))
    ends = [cluster.wait(f"{job}_{task}", LONG) for task in range(3)]
    assert ends == ["COMPLETED", "FAILED", "COMPLETED"], log_of(job)
    done = checkpoint.list_finished(tmp_path / "runs" / "sweep-002" / "checkpoints")
    assert done[-1].name == "step-00000020"
    log = log_of(job)
    assert log.count("20 of 20") >= 3  # two runs in the last table, and before
    assert "not divisible by 4 processes × train.accumulation=32" in log  # wrong with the second


def test_a_trial_of_a_wandb_sweep_on_all_ranks(
    cluster: Cluster, digits: Path, tmp_path: Path
) -> None:
    """One agent; requeued, the job goes on with the trial that it was given."""
    _, path = experiment_file(digits, tmp_path, "mlp", "base")
    command = sweep_command(path, *RARELY, *PLAIN, "checkpoint.every=50", f"train.steps={STEPS}")
    with serving_sweep(command, [{"generator.optimizer.lr": 5e-4}]) as server:
        one = (*NODES, "--array=0-0")
        job = submit(cluster, "sweep.sbatch", "e/p/sweep", options=one, **server.environment)
        wait_for("checkpoint /", job, 1)
        cluster.run("scontrol", "requeue", job)
        assert cluster.wait(job, LONG) == "COMPLETED", log_of(job)
        assert server.given == 1
    log = log_of(job)
    assert "DDP, 4 processes on cpu" in log
    assert "resuming the trial that this job has started" in log
    assert log.count("resuming from") == 1
    run = RunFolder(tmp_path / "runs" / "base-trial1")
    assert checkpoint.list_finished(run.checkpoints)[-1].name == f"step-{STEPS:08d}"
    assert run.experiment().generator.optimizer.lr == 5e-4


def test_packing_spread_over_an_array(cluster: Cluster, tmp_path: Path) -> None:
    packed, alone = tmp_path / "packed", tmp_path / "alone"
    shards = ("--size", "16", "--samples-per-shard", "200")
    job = submit(cluster, "pack.sbatch", "digits", str(packed), *shards, options=("--array=0-2",))
    ends = {cluster.wait(f"{job}_{task}", 180) for task in range(3)}
    assert ends == {"COMPLETED"}, log_of(job)
    done = cluster.run("ganscale", "pack", "digits", str(alone), *shards)
    assert load_manifest(packed) == load_manifest(alone), done
