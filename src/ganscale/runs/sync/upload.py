"""`ganscale sync`: uploads to W&B what a run has logged and W&B does not have."""

import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ganscale.errors import GanscaleError
from ganscale.monitoring.wandb_server import OnServer, Server
from ganscale.runs.run_folder import RunFolder
from ganscale.runs.sync.merge import Merged, last_of_each_step, merge
from ganscale.runs.sync.parts import Part, find_parts
from ganscale.runs.sync.transaction_log import write_log
from ganscale.runs.trust import is_own_wandb, note_own_wandb
from ganscale.terminal import printable

FILE_S = 3_600  # for how long the upload of one file may take
RETRIES = 2  # the command itself can be repeated

log = logging.getLogger("ganscale")


@dataclass(frozen=True)
class Uploaded:
    """What one run of W&B has got.

    Attributes:
        wandb_id: the run's id
        parts: in how many parts the run folder has it
        steps: the steps added to its history
        files: how many pictures and other files were added
        is_done: False if nothing was sent, because a rehearsal was asked for
    """

    wandb_id: str
    parts: int
    steps: Sequence[int]
    files: int
    is_done: bool

    def __str__(self) -> str:
        if not self.steps and not self.files and self.is_done:
            return f"W&B has all of {self.wandb_id} ({_count(self.parts, 'part')})"
        what = "uploaded" if self.is_done else "would upload"
        steps = _count(len(self.steps), "step")
        if self.steps:
            steps += f" ({self.steps[0]:,} to {self.steps[-1]:,})"
        to = f"{self.wandb_id}, from {_count(self.parts, 'part')}"
        return f"{what} {steps} and {_count(self.files, 'file')} to {to}"


def sync(
    run: Path, *, trust_id: bool = False, dry_run: bool = False, timeout: float = 60
) -> list[Uploaded]:
    """Upload what W&B lacks of a run; return what each of its runs has got.

    A run that is being trained is uploaded up to where it is. What cannot be read is left out with
    a warning.

    Args:
        run: the run folder
        trust_id: whether to upload although nothing shows that this account has trained the run
        dry_run: only say what would be uploaded, without asking the server
        timeout: seconds to wait for each answer of the server

    Raises `GanscaleError`: with the exit code for "try again" if the server cannot be reached or
    has not got everything.
    """
    folder = RunFolder(run)
    folder.experiment()  # raises an error if this is not a run folder
    is_running = folder.is_being_trained()
    parts_of, flaws = find_parts(folder)
    if not trust_id:
        for wandb_id in parts_of:
            _refuse_foreign(run, wandb_id)
    if not parts_of:
        log.info("%s: no part of it has been logged to W&B", run)
    uploaded = []
    for flaw in flaws:
        log.warning("%s", printable(flaw))
    for wandb_id, parts in parts_of.items():
        newest = is_running and wandb_id == list(parts_of)[-1]
        if newest and not parts[-1].is_offline:
            log.info("%s: the process that trains it uploads it", run)
        else:
            uploaded.append(_upload(folder, parts, newest, dry_run, timeout))
    return uploaded


def _refuse_foreign(run: Path, wandb_id: str) -> None:
    if not is_own_wandb(run, wandb_id):
        raise GanscaleError(
            f"{run}: there is no record that your account trained this run in this folder, so its "
            f"W&B id ({printable(wandb_id)}) might belong to another of your runs. If it should "
            "be uploaded to your account under this id, add --trust-id."
        )


def _upload(
    folder: RunFolder, parts: list[Part], is_running: bool, dry_run: bool, timeout: float
) -> Uploaded:
    """Upload the parts of one run of W&B."""
    run = folder.path
    wandb_id = parts[0].run.run_id
    if all(part.is_uploaded for part in parts):
        return Uploaded(wandb_id, len(parts), [], 0, is_done=True)
    server = None if dry_run else Server(timeout)
    known = _assumed(parts) if server is None else _ask(server, parts[0])
    merged = merge(parts, known, folder, is_running)
    for flaw in merged.flaws:
        log.warning("%s", printable(flaw))
    if server is not None:
        is_news = any(part.is_offline and not part.is_uploaded for part in parts)
        if is_news or merged.steps or merged.files:
            said = _send(wandb_id, merged, timeout)
            if merged.steps:
                described = parts[0].run
                server.has_step(described.project, described.entity, wandb_id, merged.steps[-1])
            _check(run, merged, _ask(server, parts[0]), said)
        for part in parts:
            part.mark_uploaded()
        note_own_wandb(run, wandb_id)
    return Uploaded(wandb_id, len(parts), merged.steps, len(merged.files), server is not None)


def _ask(server: Server, part: Part) -> OnServer:
    return server.known(part.run.project, part.run.entity, part.run.run_id)


def _assumed(parts: Sequence[Part]) -> OnServer:
    """Return what W&B has if it has kept all that was uploaded."""
    sent = last_of_each_step([part for part in parts if part.is_uploaded])
    return OnServer(last_step=max(sent, default=-1))


def _send(wandb_id: str, merged: Merged, timeout: float) -> str:
    """Let W&B's own program upload the records; return what it has printed."""
    with tempfile.TemporaryDirectory(prefix="ganscale-sync-") as temporary:
        # The name is that of an offline run's folder, which its program looks for.
        folder = Path(temporary, f"offline-run-{wandb_id}")
        for name, path in merged.files.items():
            link = folder / "files" / name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path.resolve())
        folder.mkdir(exist_ok=True)
        file = folder / f"run-{wandb_id}.wandb"
        write_log(file, merged.records)
        done = subprocess.run(
            [sys.executable, "-m", "wandb", "sync", str(file)],
            env=_environment(timeout, temporary),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
    return done.stdout


def _environment(timeout: float, temporary: str) -> dict[str, str]:
    """Return the environment in which W&B's program gives up after a while."""
    bounds = {"WANDB_DIR": temporary, "WANDB_MODE": "online"}
    for kind in ("GRAPHQL", "FILE_STREAM", "FILE_TRANSFER"):
        seconds = FILE_S if kind == "FILE_TRANSFER" else timeout
        bounds[f"WANDB__{kind}_TIMEOUT_SECONDS"] = str(seconds)
        bounds[f"WANDB__{kind}_RETRY_MAX"] = str(RETRIES)
        bounds[f"WANDB__{kind}_RETRY_WAIT_MIN_SECONDS"] = "1"
        bounds[f"WANDB__{kind}_RETRY_WAIT_MAX_SECONDS"] = "5"
    return {**os.environ, **bounds}


def _check(run: Path, merged: Merged, known: OnServer, said: str) -> None:
    """Raise `GanscaleError` unless the server has what was sent to it.

    W&B's own program says that it has finished even if the server has refused most of it.
    """
    steps = [step for step in merged.steps if step > known.last_step]
    files = _missing(merged.files, known)
    if steps or files or not known.exists:
        last = printable(" ".join(said.strip().splitlines()[-1:])) or "nothing"
        raise GanscaleError(
            f"{run}: W&B has not got {_count(len(steps), 'step')} of {len(merged.steps):,} and "
            f"{_count(len(files), 'file')} of {len(merged.files):,} (its program said: {last}); "
            "nothing is lost: the same command uploads what is missing",
            temporary=True,
        )


def _missing(files: dict[str, Path], known: OnServer) -> list[str]:
    return [n for n, path in files.items() if known.files.get(n) != path.stat().st_size]


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
