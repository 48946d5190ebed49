"""Arrays of jobs, sweeps among them, and jobs that are not to start again."""

import time
from pathlib import Path

import pytest

from ganscale.data.shards.manifest import load_manifest
from ganscale.runs import checkpoint
from ganscale.runs.run_folder import RunFolder
from tests.system.interrupted import experiment_file
from tests.system.slurm_cluster import Cluster
from tests.system.slurm_jobs import (
    LONG_S,
    NODES,
    PLAIN,
    RARELY,
    STEPS,
    Brake,
    log_of,
    needs_slurm,
    run_of,
    submit,
    wait_for,
)
from tests.system.wandb_server import serving_sweep, sweep_command

pytestmark = [pytest.mark.system, needs_slurm]


def test_a_run_that_fails_of_itself_is_not_requeued(
    cluster: Cluster, digits: Path, tmp_path: Path
) -> None:
    _, arguments = run_of(digits, tmp_path, "failing", "data.path=/nowhere")
    job = submit(cluster, "train.sbatch", *arguments)
    assert cluster.wait(job, LONG_S) == "FAILED"
    assert "Restarts=0" in cluster.run("scontrol", "show", "job", job)
    assert "error: /nowhere" in log_of(job)


def test_a_cancelled_run_stays_cancelled(cluster: Cluster, digits: Path, tmp_path: Path) -> None:
    _, arguments = run_of(digits, tmp_path, "cancelled", "checkpoint.every=50")
    job = submit(cluster, "train.sbatch", *arguments, "train.steps=1000000")
    wait_for("checkpoint /", job, 1)
    cluster.run("scancel", job)
    assert cluster.wait(job, LONG_S) == "CANCELLED"
    time.sleep(3)
    assert cluster.state(job) == "CANCELLED", log_of(job)


def test_a_sweep_with_one_failing(cluster: Cluster, digits: Path, tmp_path: Path) -> None:
    _, path = experiment_file(digits, tmp_path, "mlp", "base")
    grid = tmp_path / "grid.yaml"
    values = "grid:\n  train.accumulation: [1, 32, 2]\n"
    grid.write_text(f"experiment: {path}\nname: sweep\n{values}")
    arguments = (str(grid), "train.steps=20", "train.batch_size=32", *RARELY, *PLAIN)
    job = submit(cluster, "sweep.sbatch", *arguments, options=(*NODES, "--array=0-2"))
    ends = [cluster.wait(f"{job}_{task}", LONG_S) for task in range(3)]
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
    command = sweep_command(path, *RARELY, *PLAIN, "checkpoint.every=20", f"train.steps={STEPS}")
    with serving_sweep(command, [{"generator.optimizer.lr": 5e-4}]) as server:
        one = (*NODES, "--array=0-0")
        brake = Brake(tmp_path, 0.2)
        job = submit(
            cluster, "sweep.sbatch", "e/p/sweep", options=one, brake=brake, **server.environment
        )
        wait_for("checkpoint /", job, 1)
        cluster.run("scontrol", "requeue", job)
        brake.release()
        assert cluster.wait(job, LONG_S) == "COMPLETED", log_of(job)
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
