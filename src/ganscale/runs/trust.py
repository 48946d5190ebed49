"""Whose network code may run: one's own, or what the user has said to trust.

An experiment may name a network of the user's own, `net.py:Generator`, and to build it is to run
that file. A run that was downloaded names its maker's file. So each run that is trained here with
such a network is noted in the user's own folder, not in the run's: a note cannot be downloaded.
So is by what name W&B knows a run: a downloaded one could name any W&B run of the user's account.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from ganscale.config import CustomNetworkOptions, Experiment
from ganscale.errors import GanscaleError
from ganscale.files import write_atomically


def note_own(run: Path, experiment: Experiment) -> None:
    """Note that this user trains this run, if it has network code; raises `OSError`."""
    if _custom_networks(experiment):
        _write(_note(run, experiment), run)


def refuse_foreign_code(run: Path, experiment: Experiment) -> None:
    """Raise `GanscaleError` where building this run's networks runs code of who knows whom."""
    networks = _custom_networks(experiment)
    if networks and not _note(run, experiment).is_file():
        code = " and ".join(sorted({network.architecture for network in networks}))
        raise GanscaleError(
            f"{run}: this would run the code of its networks ({code}), and your account has no "
            "note of having trained this run in this folder. Read that code; if you trust it, add "
            "--trust-code."
        )


def note_own_wandb(run: Path, wandb_id: str) -> None:
    """Note that this user tracks this run in W&B by that name; raises `OSError`."""
    _write(_note_on([str(run.resolve()), {"wandb": wandb_id}]), run)


def is_own_wandb(run: Path, wandb_id: str) -> bool:
    """Whether this user has trained this run in this folder, and W&B knows it by that name."""
    return _note_on([str(run.resolve()), {"wandb": wandb_id}]).is_file()


def _custom_networks(experiment: Experiment) -> list[CustomNetworkOptions]:
    players = (experiment.generator, experiment.discriminator)
    return [p.network for p in players if isinstance(p.network, CustomNetworkOptions)]


def _note(run: Path, experiment: Experiment) -> Path:
    """Where the note on a run lies: its name holds the run's folder and where its code lies."""
    networks = [
        [_location(network.architecture), network.options]
        for network in _custom_networks(experiment)
    ]
    return _note_on([str(run.resolve()), networks])


def _note_on(what: list[Any]) -> Path:
    content = json.dumps(what, sort_keys=True)
    name = hashlib.sha256(content.encode(errors="surrogateescape")).hexdigest()
    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(state).expanduser() / "ganscale" / "own-runs" / name


def _write(note: Path, run: Path) -> None:
    note.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_atomically(note, f"{run.resolve()}\n".encode())


def _location(architecture: str) -> str:
    """`file.py:Class` with the file's whole path: another folder's `file.py` is other code."""
    file, _, name = architecture.rpartition(":")
    return f"{Path(file).resolve()}:{name}" if file.endswith(".py") else architecture
