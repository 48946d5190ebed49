"""An experiment file made of the rules' choices, with their reasons as comments."""

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from ganscale.config import Experiment
from ganscale.data.survey import Survey
from ganscale.training import recipe
from ganscale.training.recipe import Choice

COMMENT_COLUMNS = 96
NIGHT_S = 8 * 3600


@dataclass(frozen=True)
class Machine:
    """What the rules ask of the machine that will train."""

    name: str
    gpu: bool = False
    bf16: bool = False


@dataclass
class ExperimentFile:
    """An experiment as nested keys, and why some of them have their values."""

    values: dict[str, Any] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    """By dotted key."""

    def put(self, key: str, choice: Choice) -> None:
        """Set a key, and note why; a choice without a value leaves its reason where it would be."""
        *sections, last = key.split(".")
        place = self.values
        for section in sections:
            place = place.setdefault(section, {})
        self.reasons[key] = choice.reason
        place[last] = choice.value

    def experiment(self) -> Experiment:
        """Return the experiment, checked."""
        return Experiment.model_validate(_without_empty(self.values))

    def text(self, heading: str) -> str:
        """Return the file's content: YAML in which each reason stands above its key."""
        lines = [*_comment(heading, ""), *self._lines(self.values, "")]
        return "\n".join(lines) + "\n"

    def _lines(self, values: dict[str, Any], prefix: str, indent: str = "") -> Iterator[str]:
        for key, value in values.items():
            name = f"{prefix}{key}"
            if name in self.reasons:
                yield from _comment(self.reasons[name], indent)
            if value is None:
                continue
            if isinstance(value, dict) and name not in self.reasons:
                yield f"{indent}{key}:"
                yield from self._lines(value, f"{name}.", indent + "  ")
            else:
                yield f"{indent}{key}: {_flow(value)}"


def compose(source: str, found: Survey, machine: Machine) -> ExperimentFile:
    """Return an experiment for the images that were found, as the rules choose it."""
    file = ExperimentFile()
    file.values["name"] = name_of(source)
    file.values["data"] = {"path": source}
    resolution = recipe.choose_resolution(found.sizes, machine.gpu)
    side = int(np.min(resolution.value))
    batch_size = recipe.choose_batch_size(found.images, side, machine.gpu)
    width = recipe.choose_width(machine.gpu)
    steps = recipe.choose_steps(found.images, batch_size.value)
    file.put("data.resolution", resolution)
    file.put("data.channels", recipe.choose_channels(found.kinds, found.grey))
    classes = recipe.choose_classes(found.classes)
    file.put("data.classes", classes)
    if classes.value and (balance := recipe.choose_balance(found.classes)).value:
        file.put("data.balance_classes", balance)
    if found.broken:
        reason = f"of {found.images:,} images, {len(found.broken):,} cannot be read"
        file.put("data.on_error", Choice("skip", reason))
    file.put(
        "data.flip",
        Choice(None, "flip: true would mirror images; right for faces, wrong for writing"),
    )
    file.put(
        "generator.network", Choice({"architecture": "dcgan", "width": width.value}, width.reason)
    )
    file.put(
        "discriminator.network",
        Choice(
            {"architecture": "dcgan", "width": width.value, "norm": "none"},
            "R1 and R2 are defined for each image alone, which BatchNorm would mix",
        ),
    )
    weight = recipe.choose_penalty_weight(side)
    file.values["objective"] = {"loss": "relativistic"}
    penalties = [{"kind": kind, "weight": weight.value, "every": 4} for kind in ("r1", "r2")]
    file.put("objective.penalties", Choice(penalties, weight.reason))
    file.put("augment", recipe.choose_augmentation(found.images))
    file.put("ema.half_life", recipe.choose_ema(batch_size.value))
    file.put("train.batch_size", batch_size)
    file.put("train.steps", steps)
    if machine.bf16:
        file.put("train.precision", Choice("bf16", "this GPU computes in it several times faster"))
    file.values["train"]["channels_last"] = True
    file.put("evaluation", recipe.choose_evaluation(found.images, list(found.classes), steps.value))
    return file


def note_time(file: ExperimentFile, step_s: float, machine: Machine) -> str:
    """Add to the reason of `train.steps` how long they take; return that in words."""
    steps = file.values["train"]["steps"]
    taken = f"{_duration(steps * step_s)} on this machine ({machine.name}, {step_s:.3g} s a step)"
    reason = f"{file.reasons['train.steps']}; {taken}, without evaluation"
    if steps * step_s > NIGHT_S:
        night = max(1, int(float(f"{NIGHT_S / step_s:.2g}")))
        reason += f". A night of 8 hours is train.steps={night}"
    file.reasons["train.steps"] = reason
    return taken


def name_of(source: str) -> str:
    """Return a name for the run: that of the folder or archive, in the characters of a name."""
    stem = Path(source).resolve().name.partition(".")[0]
    return re.sub(r"[^A-Za-z0-9_-]+", "-", stem).strip("-_") or "images"


def _duration(seconds: float) -> str:
    for size, unit in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} seconds"


def _without_empty(values: dict[str, Any]) -> dict[str, Any]:
    return {
        key: _without_empty(value) if isinstance(value, dict) else value
        for key, value in values.items()
        if value is not None
    }


def _comment(text: str, indent: str) -> list[str]:
    return textwrap.wrap(
        text, COMMENT_COLUMNS, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# "
    )


def _flow(value: Any) -> str:
    """Return a value in YAML on one line."""
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10**6)
    return text.removesuffix("...\n").strip()
