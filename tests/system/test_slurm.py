"""The batch scripts, as they are, on a Slurm cluster: killed ranks, failing ranks, a lost node."""

from collections.abc import Callable
from pathlib import Path

import pytest

from ganscale.config import Experiment
from ganscale.runs import checkpoint
from ganscale.runs.run_folder import RunFolder
from tests.system.slurm_cluster import Cluster
from tests.system.slurm_jobs import (
    LONG_S,
    NODES,
    STEPS,
    Brake,
    is_uninterrupted,
    kill,
    log_of,
    needs_slurm,
    run_of,
    submit,
    wait_for,
)

pytestmark = [pytest.mark.system, needs_slurm]


def test_two_nodes_of_two_gpus_as_submit_asks_for_them(
    uninterrupted: Callable[[str], Experiment],
) -> None:
    assert checkpoint.list_finished(RunFolder.of(uninterrupted("ddp")).checkpoints)


def test_requeued_by_hand_and_with_a_rank_killed_it_goes_on(
    cluster: Cluster, digits: Path, tmp_path: Path, uninterrupted: Callable[[str], Experiment]
) -> None:
    experiment, arguments = run_of(digits, tmp_path, "killed", "checkpoint.every=20")
    brake = Brake(tmp_path, 0.2)
    job = submit(cluster, "train.sbatch", *arguments, brake=brake)
    wait_for("checkpoint /", job, 1)
    cluster.run("scontrol", "requeue", job)
    wait_for("resuming from", job, 1)
    wait_for("checkpoint /", job, 3)
    kill(job, "slow_steps ganscale train", "1")
    brake.release()
    assert cluster.wait(job, LONG_S) == "COMPLETED", log_of(job)
    assert log_of(job).count("resuming from") == 2, log_of(job)
    is_uninterrupted(experiment, uninterrupted("ddp"))


def test_a_node_that_slurm_has_lost_costs_no_more_than_the_time_limit(
    cluster: Cluster, digits: Path, tmp_path: Path, uninterrupted: Callable[[str], Experiment]
) -> None:
    """With slurmstepd dead, srun waits for its node for ever."""
    experiment, arguments = run_of(digits, tmp_path, "lost", "checkpoint.every=20")
    brake = Brake(tmp_path, 0.2)
    limit = (*NODES, "--time=2", "--signal=B:USR1@60")
    job = submit(cluster, "train.sbatch", *arguments, options=limit, brake=brake)
    wait_for("checkpoint /", job, 1)
    kill(job, f"slurmstepd: [{job}.0]")
    brake.release()
    assert cluster.wait(job, LONG_S) == "COMPLETED", log_of(job)
    assert "a node does not respond to srun" in log_of(job)
    is_uninterrupted(experiment, uninterrupted("ddp"))


def test_an_error_of_one_rank_alone_is_not_requeued(
    cluster: Cluster, digits: Path, uninterrupted: Callable[[str], Experiment]
) -> None:
    """Rank 0 finds another experiment's checkpoints; srun kills the other one for it."""
    folder = Path(uninterrupted("ddp").runs).parent
    job = submit(
        cluster,
        "train.sbatch",
        str(folder / "test-ddp.yaml"),
        f"train.steps={STEPS + 10}",
        "seed=1",
    )
    assert cluster.wait(job, LONG_S) == "FAILED", log_of(job)
    assert "Restarts=0" in cluster.run("scontrol", "show", "job", job)
    assert "holds a run of another experiment" in log_of(job)
    assert "rank 0 ended with code 1: not requeued" in log_of(job)
