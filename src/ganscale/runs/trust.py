"""Trust in a run's code: it may run if the user trained the run here, or says so explicitly.

An experiment may name the user's own code, such as the network `net.py:Generator`, and using it
runs that file. A downloaded run names a stranger's file. Therefore each run that is trained here
with such code is recorded in the user's own state folder, not in the run folder, so that nobody
can download a record. The W&B id of a run is recorded as well, because a downloaded run could name
any W&B run of the user's account.
"""

import hashlib
import json
import logging
import os
from pathlib import Path
from typing import Any

from ganscale.config import Experiment
from ganscale.config.registered import custom_code
from ganscale.errors import GanscaleError
from ganscale.files import write_atomically

log = logging.getLogger("ganscale")


def note_own(run: Path, experiment: Experiment) -> None:
    """Record that this user trains this run, if it names code; warn if that is impossible."""
    if _code(experiment):
        _write(_note(run, experiment), run, "sampling it will require --trust-code")


def refuse_foreign_code(run: Path, experiment: Experiment) -> None:
    """Raise `GanscaleError` if using this run would run code that may be a stranger's."""
    code = _code(experiment)
    if code and not _note(run, experiment).is_file():
        names = " and ".join(sorted({name for name, _ in code}))
        raise GanscaleError(
            f"{run}: its experiment names code ({names}), which this would run, but there is no "
            "record that your account trained this run in this folder. Read that code; if you "
            "trust it, add --trust-code."
        )


def note_own_wandb(run: Path, wandb_id: str) -> None:
    """Record that this user tracks this run in W&B under this id; warn if that is impossible."""
    note = _note_on([str(run.resolve()), {"wandb": wandb_id}])
    _write(note, run, "`ganscale evaluate` will not update W&B")


def is_own_wandb(run: Path, wandb_id: str) -> bool:
    """Return whether this user has trained this run in this folder under this W&B id."""
    return _note_on([str(run.resolve()), {"wandb": wandb_id}]).is_file()


def _code(experiment: Experiment) -> list[tuple[str, dict[str, Any]]]:
    """Return each name of code in the experiment, with the options that it is given."""
    return [(name, getattr(section, "options", {})) for _, name, section in custom_code(experiment)]


def _note(run: Path, experiment: Experiment) -> Path:
    """Return the path of a run's record, which depends on its folder and its code's location."""
    code = [[_location(name), options] for name, options in _code(experiment)]
    return _note_on([str(run.resolve()), code])


def _note_on(what: list[Any]) -> Path:
    content = json.dumps(what, sort_keys=True)
    name = hashlib.sha256(content.encode(errors="surrogateescape")).hexdigest()
    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(state).expanduser() / "ganscale" / "own-runs" / name


def _write(note: Path, run: Path, consequence: str) -> None:
    """Write a note; if the disk refuses, warn and say what follows."""
    try:
        note.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_atomically(note, f"{run.resolve()}\n".encode())
    except OSError as error:
        log.warning("could not record that this run is yours (%s); %s", error, consequence)


def _location(name_of_code: str) -> str:
    """Return `file.py:Class` with an absolute path, since another folder's file is other code."""
    file, _, name = name_of_code.rpartition(":")
    return f"{Path(file).resolve()}:{name}" if file.endswith(".py") else name_of_code
