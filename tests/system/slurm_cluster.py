"""A real Slurm cluster of several nodes on this machine, for as long as a test session.

Each node counts two GPUs, which are files that nothing opens, and has a /dev/shm and a local disk
of its own where the machine allows mount namespaces.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.system.processes import ROOT

NODES = 2
GPUS = 2  # a node
# The states that a job does not leave; SIGNALING, STAGE_OUT and others come and go.
ENDED = {"COMPLETED", "CANCELLED", "FAILED", "TIMEOUT", "NODE_FAIL", "BOOT_FAIL", "OUT_OF_MEMORY"}
CONFIGURATION = """
ClusterName=test
FirstJobId={first_job}
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
MpiDefault=none
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=100
GresTypes=gpu
TaskProlog={folder}/prolog.sh
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=2
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
MailProg=/bin/true
ReturnToService=2
KillWait=5
SlurmdParameters=config_overrides
NodeName=DEFAULT CPUs=8 RealMemory=64000 Gres=gpu:{gpus}
NodeName=n[1-{nodes}] NodeHostname={host} NodeAddr=127.0.0.1 Port=[{first_port}-{last_port}]
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
PartitionName=DEFAULT Nodes=ALL MaxTime=INFINITE State=UP
PartitionName=main Default=YES OverSubscribe=FORCE:8 PriorityTier=1 GraceTime=60
PartitionName=urgent OverSubscribe=NO PriorityTier=9 PreemptMode=OFF
"""
GRES = "NodeName=n[1-{nodes}] Name=gpu File={folder}/gpu[0-{last_gpu}]\n"
# Slurm tells each task of GPUs, and none is there.
PROLOG = """#!/bin/sh
echo export CUDA_VISIBLE_DEVICES=
echo export TMPDIR={local}
"""
# $0 is the node's local disk.
IN_A_NAMESPACE = """
mount -t tmpfs node-shm /dev/shm && mount -t tmpfs node-disk "$0" && exec "$@"
"""


def is_installed() -> bool:
    """Whether a cluster can be started: the daemons are there, and we may start them."""
    return os.geteuid() == 0 and all(shutil.which(d) for d in ("munged", "slurmctld", "slurmd"))


class Cluster:
    """munged, slurmctld and a slurmd for each node, in `folder`."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._daemons: list[subprocess.Popen[bytes]] = []
        (folder / "state").mkdir()
        key = folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        self.local = folder / "local"
        self.local.mkdir()
        for gpu in range(GPUS):
            (folder / f"gpu{gpu}").touch()
        (folder / "gres.conf").write_text(
            GRES.format(nodes=NODES, folder=folder, last_gpu=GPUS - 1)
        )
        (folder / "prolog.sh").write_text(PROLOG.format(local=self.local))
        (folder / "prolog.sh").chmod(0o755)
        self._isolation = _isolation(self.local)
        # How many machines the nodes take themselves for.
        self.machines = NODES if self._isolation else 1
        ports = _free_ports(NODES + 1)
        first_job = os.getpid() % 60 * 100 + 1
        self._jobs = range(first_job, first_job + 100)
        (folder / "slurm.conf").write_text(
            CONFIGURATION.format(
                folder=folder,
                host=socket.gethostname(),
                nodes=NODES,
                gpus=GPUS,
                controller_port=ports[-1],
                # The port where a job's ranks meet follows from its number, and so do its logs.
                first_job=self._jobs[0],
                first_port=ports[0],
                last_port=ports[NODES - 1],
            )
        )
        self.environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}
        self._start(
            "munged",
            "--foreground",
            "--force",
            f"--key-file={key}",
            f"--socket={folder}/munge.socket",
            f"--pid-file={folder}/munged.pid",
            f"--log-file={folder}/munged.log",
            f"--seed-file={folder}/munged.seed",
        )
        _wait_for(lambda: (folder / "munge.socket").exists(), "munged", 10)
        self._start("slurmctld", "-D")
        for node in range(1, NODES + 1):
            self._start(*self._isolation, "slurmd", "-D", "-N", f"n{node}")
        try:
            _wait_for(lambda: self.run("sinfo", "-h", "-o", "%T").strip() == "idle", "nodes", 60)
        except TimeoutError:
            self.stop()
            raise

    def sees(self, node: int, path: Path) -> Path:
        """Where the test finds what a node (1, 2, …) has at `path`."""
        return Path(f"/proc/{self._daemons[1 + node].pid}/root") / path.relative_to("/")

    def _start(self, *line: str) -> None:
        log = (self.folder / f"daemon-{len(self._daemons)}.out").open("wb")
        daemon = subprocess.Popen(
            line, env=self.environment, stdout=log, stderr=log, start_new_session=True
        )
        self._daemons.append(daemon)

    def stop(self) -> None:
        """Cancel what runs, end the daemons that were started, last first, and remove the logs."""
        self.run("scancel", "--user=root")
        time.sleep(1)
        for daemon in reversed(self._daemons):
            daemon.terminate()
            try:
                daemon.wait(timeout=10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        for left in ROOT.glob("slurm-test-*"):
            if int(re.findall(r"\d+", left.name.removesuffix(".log"))[0]) in self._jobs:
                shutil.rmtree(left) if left.is_dir() else left.unlink()

    def run(self, *line: str, folder: Path = ROOT, **more: str) -> str:
        """Run a command of Slurm in the clone or another folder; its output."""
        done = subprocess.run(
            line, env={**self.environment, **more}, cwd=folder, capture_output=True, text=True
        )
        return done.stdout + done.stderr

    def state(self, job: str) -> str:
        """The state of a job, also after its end, in Slurm's own word."""
        shown = self.run("scontrol", "show", "job", job)
        return shown.partition("JobState=")[2].split()[0] if "JobState=" in shown else shown

    def wait(self, job: str, seconds: float) -> str:
        """Wait until a job has ended; its last state."""
        _wait_for(lambda: self.state(job) in ENDED, f"job {job}", seconds)
        return self.state(job)

    @contextmanager
    def deaf(self, node: int) -> Iterator[None]:
        """Meanwhile, nothing that Slurm sends to a node (1, 2, …) arrives."""
        slurmd = self._daemons[1 + node]
        slurmd.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            slurmd.send_signal(signal.SIGCONT)


def _isolation(local: Path) -> tuple[str, ...]:
    """What starts a node's daemon in a mount namespace of its own, where that is allowed."""
    inside = ("unshare", "--mount", "sh", "-c", IN_A_NAMESPACE, str(local))
    tried = subprocess.run([*inside, "true"], capture_output=True)
    return inside if tried.returncode == 0 else ()


def _wait_for(condition: Callable[[], bool], what: str, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds} s")
        time.sleep(0.2)


def _free_ports(number: int) -> list[int]:
    """Ports one after another that nothing listens on."""
    for first in range(17_000 + os.getpid() % 500 * 10, 30_000, number):
        sockets = []
        try:
            for port in range(first, first + number):
                sockets.append(socket.create_server(("127.0.0.1", port)))
            return list(range(first, first + number))
        except OSError:
            continue
        finally:
            for opened in sockets:
                opened.close()
    raise RuntimeError("no free ports")
