"""Starting the real program as a user does, and ending it."""

import contextlib
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[2]
LONGEST_S = 600


def environment(**more: str) -> dict[str, str]:
    """This process's environment, one thread, no GPU: the same arithmetic everywhere.

    W&B's service is each process's own: this one's would think a killed run still busy.
    """
    return {
        **{name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"},
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "PYTHONPATH": os.pathsep.join((str(ROOT / "src"), str(ROOT))),
        **more,
    }


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "ganscale", *arguments]


def launch_file(engine: str) -> Path:
    """The shipped file of that name; that of several CPU processes where an engine has none."""
    file = ROOT / "launch" / "accelerate" / f"{engine}.yaml"
    return file if file.exists() else file.with_name("cpu_ddp.yaml")


def launched(
    processes: int,
    *arguments: str,
    engine: str = "cpu_ddp",
    launcher: tuple[str, ...] = (),
    module: str = "ganscale",
) -> list[str]:
    """The same through `accelerate launch`, one of the shipped files and more of its options."""
    return [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        "--config_file",
        str(launch_file(engine)),
        f"--num_processes={processes}",
        "--main_process_port=0",
        *launcher,
        "-m",
        module,
        *arguments,
    ]


def on_machines(kind: str, file: Path, *machines: dict[str, str]) -> list[subprocess.Popen[str]]:
    """A launcher of two processes for each machine, with more of its environment; started."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    return [
        subprocess.Popen(
            [ROOT / "launch" / "node.sh", kind, str(file)],
            env=environment(
                MACHINES=str(len(machines)),
                MACHINE_RANK=str(rank),
                MAIN_ADDRESS="127.0.0.1",
                MAIN_PORT=str(port),
                PROCESSES="2",
                PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}",
                **more,
            ),
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank, more in enumerate(machines)
    ]


def run(
    line: list[str], folder: Path, *, typed: str | None = None, **more: str
) -> subprocess.CompletedProcess[str]:
    """Run to the end, with `typed` as its input; the output is shown where a test fails."""
    process = subprocess.Popen(
        line,
        cwd=folder,
        env=environment(**more),
        stdin=subprocess.PIPE if typed else None,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        stdout, stderr = process.communicate(typed, timeout=LONGEST_S)
    except subprocess.TimeoutExpired:
        kill_all(process)
        print(*process.communicate(), sep="\n")
        raise
    print(stdout, stderr, sep="\n")
    return subprocess.CompletedProcess(line, process.returncode, stdout, stderr)


def kill_all(process: subprocess.Popen[Any]) -> None:
    """Kill a launcher and its ranks, each of which leads a session of its own."""
    if process.poll() is None:
        ranks = psutil.Process(process.pid).children(recursive=True)
        for one in (process, *ranks):
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        process.wait()
        psutil.wait_procs(ranks)
