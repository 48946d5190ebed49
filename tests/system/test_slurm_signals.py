"""Jobs that Slurm asks to end: a time limit, a preemption, a signal that is late."""

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
    Brake,
    is_uninterrupted,
    log_of,
    needs_slurm,
    run_of,
    submit,
    wait_for,
)

pytestmark = [pytest.mark.system, needs_slurm]


@pytest.mark.parametrize("engine", ["fsdp2", "zero2"])
def test_two_nodes_of_two_gpus(uninterrupted: Callable[[str], Experiment], engine: str) -> None:
    assert checkpoint.list_finished(RunFolder.of(uninterrupted(engine)).checkpoints)


def test_a_time_limit_requeues_until_the_steps_are_done(
    cluster: Cluster, digits: Path, tmp_path: Path, uninterrupted: Callable[[str], Experiment]
) -> None:
    experiment, arguments = run_of(digits, tmp_path, "limited")
    brake = Brake(tmp_path, 1)
    # The signal comes ten to forty seconds after each start.
    limit = (*NODES, "--time=5", "--signal=B:USR1@290")
    job = submit(cluster, "train.sbatch", *arguments, options=limit, engine="fsdp2", brake=brake)
    wait_for("slurm: requeued; it resumes from", job, 2)
    cluster.run("scontrol", "update", f"JobId={job}", "TimeLimit=60")
    brake.release()
    assert cluster.wait(job, LONG_S) == "COMPLETED", log_of(job)
    log = log_of(job)
    assert log.count("slurm: requeued; it resumes from") >= 2, log
    assert log.count("resuming from") == log.count("slurm: requeued; it resumes from"), log
    is_uninterrupted(experiment, uninterrupted("fsdp2"))


def test_preempted_by_a_more_urgent_job_it_goes_on_after_it(
    cluster: Cluster, digits: Path, tmp_path: Path, uninterrupted: Callable[[str], Experiment]
) -> None:
    experiment, arguments = run_of(digits, tmp_path, "preempted")
    brake = Brake(tmp_path, 0.5)
    job = submit(cluster, "train.sbatch", *arguments, engine="zero2", brake=brake)
    wait_for("step 50 of", job, 1)
    urgent = ("sbatch", "--parsable", "--partition=urgent", "--nodes=2", "--exclusive")
    other = cluster.run(*urgent, "--output=/dev/null", "--wrap=srun sleep 1").strip()
    assert cluster.wait(other, 120) == "COMPLETED"
    brake.release()
    assert cluster.wait(job, LONG_S) == "COMPLETED", log_of(job)
    log = log_of(job)
    # Nothing but the signal made it save: the grace time was enough.
    assert log.count("resuming from") == 1, log
    assert "stopped by signal 15" in log
    assert "Restarts=1" in cluster.run("scontrol", "show", "job", job)
    is_uninterrupted(experiment, uninterrupted("zero2"))


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
    assert cluster.wait(job, LONG_S) == "COMPLETED", log_of(job)
