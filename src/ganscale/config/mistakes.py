"""Error messages for an invalid experiment: the key, its value, and what is allowed."""

import difflib
import inspect
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from ganscale.config.experiment import Experiment
from ganscale.config.registered import OptionsOf, markers
from ganscale.config.schedules import is_written_schedule
from ganscale.registry import is_custom

MAX_SHOWN = 200  # characters of a value
NEAR = 0.7  # minimum similarity of a suggested key


def explain(error: Any, values: Any) -> str:
    """Describe in one line an error that pydantic found in these values of an experiment."""
    key, kind = key_of(error), error["type"]
    if kind == "extra_forbidden":
        return f"{key}: {_about_unknown_key(error['loc'], values)}"
    if kind == "missing":
        return f"{key}: required, but missing"
    if kind == "value_error" and isinstance(error["input"], dict):
        # The message of a section's validator begins with a key of that section.
        return f"{key}.{error['ctx']['error']}" if key else str(error["ctx"]["error"])
    message = error["msg"].removeprefix("Value error, ")
    return f"{key}={shown(error['input'])}: {message[0].lower()}{message[1:]}"


def key_of(error: Any) -> str:
    """Return the dotted key that a pydantic error refers to."""
    return ".".join(map(str, error["loc"]))


def about_unknown_key(key: str) -> str:
    """Return a hint about an unknown dotted key: a similar key, or the keys known there."""
    return _about_unknown_key(key.split("."))


def shown(value: Any, as_text: Any = repr) -> str:
    """Return a value as text of at most `MAX_SHOWN` characters, and an ellipsis if it is longer."""
    try:
        text = str(as_text(value))
    except ValueError:  # Python refuses to print integers with thousands of digits
        return "a number with thousands of digits"
    return text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + " …"


def flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted key and the value of each leaf; a list and a schedule are leaves."""
    for key, value in tree.items():
        if isinstance(value, dict) and value and not is_written_schedule(value):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _about_unknown_key(location: Sequence[Any], values: Any = None) -> str:
    """Return a hint about an unknown key: a similar key, or the keys known at this place.

    `values` are the values of the experiment; they tell which entry's options a section has.
    """
    *place, last = location
    section = ".".join(map(str, place))
    models, entries = _at(place)
    if entries is not None and values is not None:
        for part in place:
            values = values[part]
        return _about_unknown_option(section, str(last), entries, entries.name_in(values))
    beside = sorted({name for model in models for name in model.model_fields})
    prefix = f"{section}." if section else ""
    near = [
        prefix + name for name in difflib.get_close_matches(str(last), beside, n=1, cutoff=NEAR)
    ]
    near = near or _keys_elsewhere(str(last))
    if near:
        return f"unknown key; did you mean {' or '.join(near)}?"
    return f"unknown key; known here: {', '.join(prefix + name for name in beside)}"


def _about_unknown_option(
    section: str, last: str, entries: OptionsOf[Any], name: str | None
) -> str:
    """Return a hint about an option that the entry of this name does not have."""
    if name is not None and is_custom(name):
        return (
            f"unknown key; options of your own class stand under options: {section}.options.{last}"
        )
    models = entries.models()
    owners = [other for other, model in models.items() if last in model.model_fields]
    chosen = models[name].model_fields if name in models else {}
    takes = sorted(set(chosen) - {entries.tag})
    if owners:
        return (
            f"the {entries.tag} {name} has no such option; "
            f"{' and '.join(owners)} {'has' if len(owners) == 1 else 'have'} it. "
            f"{name} takes {', '.join(takes)}"
        )
    near = difflib.get_close_matches(last, takes, n=1, cutoff=NEAR)
    if near:
        return f"unknown key; did you mean {section}.{near[0]}?"
    return f"unknown key; the {entries.tag} {name} takes {', '.join(takes)}"


def _at(place: Sequence[Any]) -> tuple[list[type[BaseModel]], OptionsOf[Any] | None]:
    """Return the models of the section at this place (several for a union).

    The second value is the section's `OptionsOf` annotation, if it has one.
    """
    models: list[type[BaseModel]] = [Experiment]
    entries: OptionsOf[Any] | None = None
    for part in place:
        fields = [m.model_fields[part] for m in models if part in m.model_fields]
        if fields:
            marked = [marker for field in fields for marker in markers(field)]
            entries = next((marker for marker in marked if isinstance(marker, OptionsOf)), None)
            models = [m for field in fields for m in _models_in(field.annotation)] or models
            models += entries.models().values() if entries is not None else ()
    return models, entries


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    """Return every pydantic model inside an annotation (unions, tuples, Annotated)."""
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return [annotation]
    return [m for argument in typing.get_args(annotation) for m in _models_in(argument)]


def _keys_elsewhere(last: str) -> list[str]:
    """Return the keys in any section whose last part is most similar to `last`."""
    keys = [key for key, _ in flatten(Experiment.model_validate({}).model_dump(mode="json"))]
    parts = {key.rpartition(".")[2] for key in keys}
    near = difflib.get_close_matches(last, parts, n=1, cutoff=NEAR)
    return [key for key in keys if key.rpartition(".")[2] in near]
