"""Checkpoints: whole or absent, checked before they are trusted, read without pickle.

`checkpoints/step-00012000/` holds safetensors of the weights, the optimizers' state, `state.json`
and `SHA256SUMS`. It is written under another name, synced to disk and renamed.
"""

import logging
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ganscale.config import Evaluation
from ganscale.data.manifest import sha256
from ganscale.errors import GanscaleError
from ganscale.evaluation import scores
from ganscale.training.arithmetic import Arithmetic

STATE = "state.json"
SUMS = "SHA256SUMS"
PARTIAL = ".partial-"
BROKEN = "broken-"
DEFAULT = Evaluation()
Weights = dict[str, Tensor]

log = logging.getLogger("ganscale")


class State(BaseModel):
    """What a checkpoint says of itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    step: int
    images: int
    data_fingerprint: str
    arithmetic: Arithmetic | None = None
    """What computed it."""
    wandb_id: str | None = None
    metrics: dict[str, float] = {}


def write(
    folder: Path, state: State, weights: dict[str, Weights], training: dict[str, Any]
) -> Path:
    """Write a checkpoint into `folder`: a safetensors file for each entry of `weights`.

    `training` is what only training needs. Raises `GanscaleError` where the disk refuses, with
    every older checkpoint as it was.
    """
    name = f"step-{state.step:08d}"
    temporary = folder / (PARTIAL + name)
    final = folder / name
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        for part, tensors in weights.items():
            host = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
            save_file(host, temporary / f"{part}.safetensors")
        torch.save(training, temporary / "training.pt")
        (temporary / STATE).write_text(state.model_dump_json(indent=2) + "\n")
        sums = [f"{sha256(path)}  {path.name}\n" for path in sorted(temporary.iterdir())]
        (temporary / SUMS).write_text("".join(sums))
        for path in temporary.iterdir():
            _sync(path)
        _sync(temporary)
        shutil.rmtree(final, ignore_errors=True)
        temporary.rename(final)
        _sync(folder)
    except Exception as error:
        shutil.rmtree(temporary, ignore_errors=True)
        # safetensors and torch.save wrap the system's error in types of their own.
        if not isinstance(error, OSError) and "error" not in type(error).__name__.lower():
            raise
        kept = ", ".join(path.name for path in listed(folder)) or "none"
        raise GanscaleError(
            f"{final}: the checkpoint could not be written ({error}); older ones are intact "
            f"({kept}). Make room and start again: the run goes on from the newest."
        ) from error
    return final


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def listed(folder: Path) -> list[Path]:
    """Finished checkpoints, oldest first."""
    return sorted(path for path in folder.glob("step-*") if path.is_dir())


def is_sound(path: Path) -> bool:
    """Whether every file is there with the sum it was written with."""
    try:
        lines = (path / SUMS).read_text().splitlines()
        expected = {name: total for total, _, name in (line.partition("  ") for line in lines)}
        return STATE in expected and all(sha256(path / n) == t for n, t in expected.items())
    except (OSError, UnicodeDecodeError):
        return False


def latest(folder: Path) -> Path | None:
    """The newest sound checkpoint; broken newer ones are set aside with a warning."""
    for path in reversed(listed(folder)):
        if is_sound(path):
            return path
        aside = path.with_name(BROKEN + path.name)
        shutil.rmtree(aside, ignore_errors=True)
        path.rename(aside)
        log.warning("%s is damaged (its sums do not hold): set aside as %s", path, aside.name)
    return None


def best(folder: Path, wanted: Evaluation = DEFAULT) -> Path | None:
    """The best checkpoint as `evaluation.scores.best` has it; None where none was evaluated."""
    return _best({path: read_state(path) for path in listed(folder)}, wanted)


def _best(states: dict[Path, State], wanted: Evaluation) -> Path | None:
    """The best of a folder's checkpoints.

    An evaluation that the run's `evaluations.jsonl` has lost is still in its checkpoint's state.
    """
    if not states:
        return None
    paths = {state.step: path for path, state in states.items()}
    run = next(iter(states)).parents[1]
    recorded = [e for e in scores.read_evaluations(run) if e["step"] in paths]
    lost = paths.keys() - {e["step"] for e in recorded}
    kept = [
        {"step": state.step, "values": state.metrics}
        for state in states.values()
        if state.step in lost
    ]
    found = scores.best([*kept, *recorded], wanted)
    return paths[found["step"]] if found else None


def find(folder: Path, name: str, wanted: Evaluation = DEFAULT) -> Path:
    """The checkpoint called `latest`, `best`, or by its own name (`step-00012000` or `12000`).

    `best` is meant as `wanted` says.
    """
    known = listed(folder)
    if not known:
        raise GanscaleError(f"{folder}: no checkpoints in it")
    found: Path | None
    if name == "latest":
        found = next((p for p in reversed(known) if is_sound(p)), None)
    elif name == "best":
        found = best(folder, wanted)
    else:
        folder_name = f"step-{int(name):08d}" if name.isdigit() else name
        found = next((p for p in known if p.name == folder_name), None)
    if found is None or not is_sound(found):
        problem = "is damaged" if found else "is not there"
        raise GanscaleError(
            f"checkpoint '{name}' {problem} in {folder}; it holds "
            f"{', '.join(p.name for p in known)}; `latest` and, if evaluated, `best` are names too"
        )
    return found


def prune(folder: Path, keep: int, wanted: Evaluation = DEFAULT) -> None:
    """Remove all but the newest `keep` and the best, and what a crash left half written."""
    for leftover in folder.glob(PARTIAL + "*"):
        shutil.rmtree(leftover, ignore_errors=True)
    known = listed(folder)
    kept = {*known[-keep:], best(folder, wanted)}
    for path in known:
        if path not in kept:
            shutil.rmtree(path)


def read_state(path: Path) -> State:
    """`state.json` of a checkpoint."""
    try:
        return State.model_validate_json((path / STATE).read_bytes())
    except (OSError, ValidationError) as error:
        raise GanscaleError(f"{path / STATE}: cannot be read ({error})") from None


def read_weights(path: Path, part: str) -> Weights:
    """One network's weights, on the host."""
    weights: Weights = load_file(path / f"{part}.safetensors")
    return weights


def read_training(path: Path) -> Any:
    """What only training needs, on the host."""
    return torch.load(path / "training.pt", map_location="cpu", weights_only=True)
