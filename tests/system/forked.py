"""Runs of the real program on ranks that have imported everything before they begin.

Where a test is not about starting, its ranks are forked from the session's warm server, in the
environment that `accelerate launch` would give them.
"""

import os
import select
import tempfile
import time
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils.launch import prepare_deepspeed_cmd_env, prepare_multi_gpu_env

from ganscale.engines.launcher import ENGINE, ENGINES
from tests.system.processes import LONGEST_S, environment, launch_file
from tests.system.warm_process import WarmProcess
from tests.system.warm_server import BASE, warm_server

TIMED_OUT = 124


class Forked:
    """`python -m MODULE ARGUMENTS` on some ranks; as under a launcher, one that fails ends all."""

    def __init__(
        self,
        processes: int,
        *arguments: str,
        folder: Path,
        engine: str = "cpu_ddp",
        launcher: tuple[str, ...] = (),
        module: str = "ganscale",
        **more: str,
    ):
        self._args = [module, *arguments]
        self._folder = tempfile.TemporaryDirectory()
        self._outputs = (Path(self._folder.name, "stdout"), Path(self._folder.name, "stderr"))
        variables = environment(**more)
        if processes > 1 or engine != "cpu_ddp":
            variables |= _launched(engine, processes, launcher)
        server = warm_server("deepspeed" if engine.startswith(("zero", "deepspeed")) else BASE)
        with self._outputs[0].open("ab") as stdout, self._outputs[1].open("ab") as stderr:
            streams = (os.open(os.devnull, os.O_RDONLY), stdout.fileno(), stderr.fileno())
            self.ranks = [
                WarmProcess(
                    self._args,
                    _rank(variables, rank, processes),
                    str(folder),
                    streams,
                    server=server,
                )
                for rank in range(processes)
            ]
            os.close(streams[0])

    def poll(self) -> int | None:
        """The exit code of a rank that has ended; None while all run."""
        codes = (rank.poll() for rank in self.ranks)
        return next((code for code in codes if code is not None), None)

    def stderr(self) -> str:
        """Return what all ranks have said."""
        return self._outputs[1].read_text()

    def kill(self) -> None:
        """Kill all ranks at once."""
        for rank in self.ranks:
            rank.kill()
        for rank in self.ranks:
            rank.wait()

    def join(self) -> CompletedProcess[str]:
        """Wait for the end; the output is shown where a test fails."""
        code, deadline = 0, time.monotonic() + LONGEST_S
        running = list(self.ranks)
        while running and not code:
            ended, _, _ = select.select(running, [], [], max(0, deadline - time.monotonic()))
            for rank in ended:
                running.remove(rank)
                code = code or rank.wait()
            code = code if ended else TIMED_OUT
        self.kill()
        done = CompletedProcess(self._args, code, *(p.read_text() for p in self._outputs))
        print(done.stdout, done.stderr, sep="\n")
        return done


def forked(processes: int, *arguments: str, folder: Path, **more: Any) -> CompletedProcess[str]:
    """Run to the end; see `Forked`."""
    return Forked(processes, *arguments, folder=folder, **more).join()


def _launched(engine: str, processes: int, launcher: tuple[str, ...]) -> dict[str, str]:
    """What `accelerate launch` sets for all ranks, by its own code and one of the shipped files."""
    line = (
        f"--config_file={launch_file(engine)}",
        f"--num_processes={processes}",
        "--main_process_port=0",
        *launcher,
        "ganscale",
    )
    wanted, file, _ = _validate_launch_command(launch_command_parser().parse_args(line))
    if wanted.use_deepspeed:
        wanted.deepspeed_fields_from_accelerate_config = ",".join(file.deepspeed_config)
        _, variables = prepare_deepspeed_cmd_env(wanted)
    else:
        variables = prepare_multi_gpu_env(wanted)
    set_here = {name: value for name, value in variables.items() if os.environ.get(name) != value}
    if engine in ENGINES:
        set_here[ENGINE] = engine
    return set_here | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(wanted.main_process_port)}


def _rank(variables: dict[str, str], rank: int, processes: int) -> dict[str, str]:
    """Add what torchrun sets for one rank, if there is a launcher at all."""
    if "MASTER_PORT" not in variables:
        return variables
    own = {"RANK": rank, "LOCAL_RANK": rank, "GROUP_RANK": 0}
    sizes = {"WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes}
    return variables | {name: str(value) for name, value in (own | sizes).items()}
