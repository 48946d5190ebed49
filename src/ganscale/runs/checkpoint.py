"""Checkpoints, which are complete or absent, verified by checksums, and never unpickled.

`checkpoints/step-00012000/` holds the weights as safetensors, the optimizers' state, `state.json`
and `SHA256SUMS`. It is written under a temporary name, synced to disk and then renamed; before it
is deleted, it is renamed again. So a folder named `step-…` is complete whenever the process may be
killed.
"""

import errno
import logging
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ganscale.config import Evaluation
from ganscale.engines.arithmetic import Arithmetic
from ganscale.engines.distributed import is_lost_contact
from ganscale.errors import GanscaleError
from ganscale.evaluation import scores
from ganscale.files import open_inside, read_inside, sha256_of_file, sha256_of_stream, sync
from ganscale.runs.checkpoint_names import list_finished, step_of
from ganscale.system_errors import find_system_error
from ganscale.tensor_file import save_tensors
from ganscale.validation import first_mistake

STATE = "state.json"
TRAINING = "training.pt"
SUMS = "SHA256SUMS"
PARTS = ("generator", "discriminator", "ema")
REQUIRED = {STATE, TRAINING, *(f"{part}.safetensors" for part in PARTS)}
PARTIAL = ".partial-"
REMOVED = ".removed-"
BROKEN = "broken-"
DEFAULT = Evaluation()
_SUM = re.compile(r"([0-9a-f]{64})  ([A-Za-z0-9_][A-Za-z0-9_.-]*)")  # a file name without folders
Weights = dict[str, Tensor]
Count = Annotated[int, Field(ge=0, lt=2**63)]

log = logging.getLogger("ganscale")


class State(BaseModel):
    """The content of a checkpoint's `state.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    step: Count
    images: Count
    data_fingerprint: str
    arithmetic: Arithmetic | None = None
    """The hardware and settings that computed the checkpoint."""
    random_stream: int | None = None
    """The version of the numbers drawn on the device; None before versions were recorded."""
    wandb_id: str | None = None
    class_names: tuple[str, ...] = ()
    """The classes of a conditional run, in the order of their numbers, where they have names."""
    metrics: dict[str, float] = {}


def write(
    folder: Path, state: State, weights: dict[str, Weights], training: dict[str, Any]
) -> Path:
    """Write a checkpoint into `folder` and return its path.

    Each entry of `weights` becomes a safetensors file; `training` is what only training needs.
    Raises `GanscaleError` if the disk is full or fails; older checkpoints are then unchanged.
    """
    name = f"step-{state.step:08d}"
    temporary = folder / (PARTIAL + name)
    final = folder / name
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        for part, tensors in weights.items():
            host = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
            save_tensors(host, temporary / f"{part}.safetensors")
        torch.save(_canonical(training), temporary / TRAINING)
        (temporary / STATE).write_text(state.model_dump_json(indent=2) + "\n", encoding="utf-8")
        lines = [f"{sha256_of_file(path)}  {path.name}\n" for path in sorted(temporary.iterdir())]
        (temporary / SUMS).write_text("".join(lines), encoding="utf-8")
        for path in temporary.iterdir():
            sync(path)
        sync(temporary)
        replaced = _hide(final) if final.exists() else None
        temporary.rename(final)
        sync(folder)
        if replaced is not None:
            shutil.rmtree(replaced, ignore_errors=True)
    except Exception as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if find_system_error(error) is None:
            raise
        kept = ", ".join(path.name for path in list_finished(folder)) or "none"
        raise GanscaleError(
            f"{final}: the checkpoint could not be written ({error}); older ones are intact "
            f"({kept}). Free some space and start again: the run resumes from the newest."
        ) from error
    return final


def _canonical(tree: Any) -> Any:
    """Return the state without shared objects, so that equal states are written as equal bytes.

    Pickle writes an object that it has already seen as a reference, so two equal strings give
    other bytes if they are one object than if they are two. A view of a large tensor would also be
    saved with the whole tensor.
    """
    if isinstance(tree, dict):
        return type(tree)((_canonical(key), _canonical(value)) for key, value in tree.items())
    if type(tree) in (list, tuple):
        return type(tree)(_canonical(value) for value in tree)
    if isinstance(tree, str):
        return sys.intern(tree)
    if isinstance(tree, Tensor):
        return tree.detach().cpu().clone(memory_format=torch.contiguous_format)
    return tree


def is_intact(path: Path) -> bool:
    """Return whether every part is present, a regular file, and has its recorded checksum."""
    try:
        found = [_SUM.fullmatch(line) for line in read_inside(path, SUMS).decode().splitlines()]
        sums = {line[2]: line[1] for line in found if line}
        return (
            all(found)
            and len(sums) == len(found)
            and sums.keys() >= REQUIRED
            and all(_sha256_inside(path, name) == sha256 for name, sha256 in sums.items())
        )
    except (OSError, UnicodeDecodeError, GanscaleError):
        return False


def _sha256_inside(path: Path, name: str) -> str:
    with open_inside(path, name) as file:
        return sha256_of_stream(file)


def latest(folder: Path) -> Path | None:
    """Return the newest intact checkpoint; set damaged newer ones aside with a warning.

    A checkpoint counts as damaged if a checksum mismatches or if its state cannot be read.
    """
    for path in reversed(list_finished(folder)):
        if not is_intact(path):
            _set_aside(path, "checksum mismatch")
            continue
        try:
            read_state(path)
        except GanscaleError as error:
            _set_aside(path, str(error))
        else:
            return path
    return None


def _set_aside(path: Path, why: str) -> None:
    aside = path.with_name(BROKEN + path.name)
    shutil.rmtree(aside, ignore_errors=True)
    path.rename(aside)
    log.warning("%s is damaged (%s): set aside as %s", path, why, aside.name)


def best(
    folder: Path, wanted: Evaluation = DEFAULT, evaluations: Path | None = None
) -> Path | None:
    """Return the best checkpoint according to `evaluation.scores.best`, or None if none was scored.

    `evaluations` is the file of the run's evaluations; without it, only the scores in the
    checkpoints themselves count.
    One whose state cannot be read is left out, with a warning.
    """
    states: dict[Path, State] = {}
    for path in list_finished(folder):
        try:
            states[path] = read_state(path)
        except GanscaleError as error:
            log.warning("%s: this checkpoint is left out", error)
    return _best(states, wanted, evaluations)


def _best(states: dict[Path, State], wanted: Evaluation, evaluations: Path | None) -> Path | None:
    """Return the best of a folder's checkpoints.

    An evaluation that is missing in the run's file may still be in its checkpoint's state.
    """
    if not states:
        return None
    paths = {state.step: path for path, state in states.items()}
    read = scores.read_evaluations(evaluations) if evaluations is not None else []
    recorded = [e for e in read if e["step"] in paths]
    lost = paths.keys() - {e["step"] for e in recorded}
    kept = [
        {"step": state.step, "values": state.metrics}
        for state in states.values()
        if state.step in lost
    ]
    found = scores.best([*kept, *recorded], wanted)
    return paths[found["step"]] if found else None


def find(
    folder: Path, name: str, wanted: Evaluation = DEFAULT, evaluations: Path | None = None
) -> Path:
    """Return the checkpoint called `latest`, `best`, or by its own name (`step-00012000`, `12000`).

    `wanted` and `evaluations` say which is the best, as in `best`.
    """
    known = list_finished(folder)
    if not known:
        raise GanscaleError(f"{folder}: no checkpoints in it")
    found: Path | None
    if name == "latest":
        found = next((p for p in reversed(known) if is_intact(p)), None)
    elif name == "best":
        found = best(folder, wanted, evaluations)
    else:
        folder_name = f"step-{name.zfill(8)}" if name.isdecimal() and name.isascii() else name
        found = next((p for p in known if p.name == folder_name), None)
    if found is None or not is_intact(found):
        problem = "is damaged" if found else "is not there"
        raise GanscaleError(
            f"checkpoint '{name}' {problem} in {folder}; it holds "
            f"{', '.join(p.name for p in known)}; `latest` and, if evaluated, `best` are names too"
        )
    return found


def prune(
    folder: Path,
    keep: int,
    wanted: Evaluation = DEFAULT,
    evaluations: Path | None = None,
    keep_every: int | None = None,
) -> None:
    """Delete all checkpoints but those to keep, and leftovers of a killed process.

    To keep are the newest `keep`, the best, and those at multiples of `keep_every` steps.
    A checkpoint whose state cannot be read may have been the best; it is set aside, not deleted.
    """
    for leftover in (*folder.glob(PARTIAL + "*"), *folder.glob(REMOVED + "*")):
        shutil.rmtree(leftover, ignore_errors=True)
    states: dict[Path, State] = {}
    for path in list_finished(folder):
        try:
            states[path] = read_state(path)
        except GanscaleError as error:
            _set_aside(path, str(error))
    kept = {*list(states)[-keep:], _best(states, wanted, evaluations)}
    if keep_every is not None:
        kept |= {path for path in states if step_of(path) % keep_every == 0}
    for path in states:
        if path not in kept:
            # If a file is still in use (NFS keeps it as .nfs…), the next call deletes the rest.
            shutil.rmtree(_hide(path), ignore_errors=True)


def _hide(path: Path) -> Path:
    """Rename a checkpoint before its deletion, so that no part of one ever has a valid name."""
    hidden = path.with_name(REMOVED + path.name)
    shutil.rmtree(hidden, ignore_errors=True)
    return path.rename(hidden)


def read_state(path: Path) -> State:
    """Read a checkpoint's `state.json`; raise `GanscaleError` if that is impossible."""
    try:
        state = State.model_validate_json(read_inside(path, STATE))
    except OSError as error:
        raise GanscaleError(f"{path / STATE}: cannot be read ({error.strerror})") from None
    except ValidationError as error:
        raise GanscaleError(f"{path / STATE}: cannot be read ({first_mistake(error)})") from None
    if step_of(path) != state.step:
        raise GanscaleError(f"{path / STATE}: contains the state of step {state.step:,} instead")
    return state


def read_weights(path: Path, part: str) -> Weights:
    """Read one network's weights into host memory."""
    try:
        weights: Weights = load_file(path / f"{part}.safetensors")
    except (OSError, SafetensorError) as error:
        raise GanscaleError(f"{path / part}.safetensors: cannot be read ({error})") from None
    return weights


def read_training(path: Path) -> Any:
    """Read the part that only training needs, into host memory.

    Raises an error that is not the operating system's for a file that torch did not write.
    """
    try:
        return torch.load(path / TRAINING, map_location="cpu", weights_only=True)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        # The disk is sound: a forged archive has sent torch to a place before the file's start.
        raise ValueError(f"{TRAINING} is damaged") from error


@contextmanager
def explain_mismatch(path: Path) -> Iterator[None]:
    """Turn any error in the body, which uses a checkpoint's content, into one clear message.

    The checkpoint's checksums match, so it was not damaged by accident: another experiment,
    another version of this program, or a stranger wrote it.
    """
    try:
        yield
    except (GanscaleError, OSError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        if is_lost_contact(error):
            raise
        what = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise GanscaleError(
            f"{path}: its checksums match, but its content does not fit this experiment "
            f"({type(error).__name__}: {what}). Remove it to resume from the previous checkpoint.",
            every_rank=True,
        ) from error
