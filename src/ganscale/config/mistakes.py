"""What a mistake in an experiment is called: the key, its value, and what is allowed there."""

import difflib
import inspect
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from ganscale.config.experiment import Experiment
from ganscale.config.networks import ARCHITECTURES, CustomNetworkOptions

CUSTOM = "custom"
OWN_CLASS = "a class of your own as path/to/file.py:ClassName"
MOST_SHOWN = 200  # characters of a value
NEAR = 0.7  # least similarity of a key that is suggested


def explain(error: Any) -> str:
    """Describe in one line a mistake that pydantic found in an experiment."""
    location, architecture = _without_tag(error["loc"])
    key, kind = key_of(error), error["type"]
    if kind == "extra_forbidden":
        return f"{key}: {_about_unknown_key(location, architecture)}"
    if kind == "missing":
        return f"{key}: required, and not given"
    if kind == "value_error" and isinstance(error["input"], dict):
        # A rule of a section names its own keys as that section does.
        return f"{key}.{error['ctx']['error']}" if key else str(error["ctx"]["error"])
    if kind == "union_tag_invalid":
        name = shown(error["ctx"]["tag"], str)
        return f"{key}.architecture={name}: use {', '.join(ARCHITECTURES)}, or {OWN_CLASS}"
    message = error["msg"].removeprefix("Value error, ")
    return f"{key}={shown(error['input'])}: {message[0].lower()}{message[1:]}"


def key_of(error: Any) -> str:
    """Return the dotted key that a pydantic error is about."""
    return ".".join(map(str, _without_tag(error["loc"])[0]))


def about_unknown_key(key: str) -> str:
    """Say of a dotted key that no section has what is meant, or what is known beside it."""
    return _about_unknown_key(key.split("."), None)


def shown(value: Any, as_text: Any = repr) -> str:
    """Return a value as text of bounded length."""
    try:
        text = str(as_text(value))
    except ValueError:  # of an integer of thousands of digits
        return "a number of thousands of digits"
    return text if len(text) <= MOST_SHOWN else text[:MOST_SHOWN] + " …"


def flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted key and the value of each leaf; a list is a leaf."""
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _without_tag(location: Sequence[Any]) -> tuple[list[Any], str | None]:
    """Split off the architecture that pydantic puts into the path of a network's option."""
    parts = list(location)
    if len(parts) > 2 and parts[1] == "network" and parts[2] in (*ARCHITECTURES, CUSTOM):
        return [*parts[:2], *parts[3:]], str(parts[2])
    return parts, None


def _about_unknown_key(location: Sequence[Any], architecture: str | None) -> str:
    """Say where such a key would be right, or what is known at this place."""
    section, last = ".".join(map(str, location[:-1])), str(location[-1])
    if architecture is not None:
        return _about_unknown_option(section, last, architecture)
    beside = sorted({name for m in _models_at(location[:-1]) for name in m.model_fields})
    prefix = f"{section}." if section else ""
    near = [prefix + name for name in difflib.get_close_matches(last, beside, n=1, cutoff=NEAR)]
    near = near or _keys_elsewhere(last)
    if near:
        return f"unknown key; did you mean {' or '.join(near)}?"
    return f"unknown key; known here: {', '.join(prefix + name for name in beside)}"


def _about_unknown_option(section: str, last: str, architecture: str) -> str:
    """Say which architectures have the option that a network of this one lacks."""
    options = _options_of_architectures(section.partition(".")[0])
    if architecture == CUSTOM:
        return (
            f"unknown key; what your own class takes stands under options: {section}.options.{last}"
        )
    owners = [name for name in ARCHITECTURES if last in options[name].model_fields]
    takes = sorted(set(options[architecture].model_fields) - {"architecture"})
    if owners:
        return (
            f"the architecture {architecture} has no such option; "
            f"{' and '.join(owners)} {'has' if len(owners) == 1 else 'have'} it. "
            f"{architecture} takes {', '.join(takes)}"
        )
    near = difflib.get_close_matches(last, takes, n=1, cutoff=NEAR)
    if near:
        return f"unknown key; did you mean {section}.{near[0]}?"
    return f"unknown key; the architecture {architecture} takes {', '.join(takes)}"


def _options_of_architectures(player: str) -> dict[str, type[BaseModel]]:
    """Return the options' model of each architecture of that player."""
    models = _models_at([player, "network"])
    named = {m.model_fields["architecture"].default: m for m in models}
    return {name: model for name, model in named.items() if model is not CustomNetworkOptions}


def _models_at(section: Sequence[Any]) -> list[type[BaseModel]]:
    """Return the models, several where it is a union, of the section at this path."""
    models: list[type[BaseModel]] = [Experiment]
    for part in section:
        fields = [m.model_fields[part].annotation for m in models if part in m.model_fields]
        models = [m for f in fields for m in _models_in(f)] or models
    return models


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    """Return every pydantic model inside an annotation (unions, tuples, Annotated)."""
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return [annotation]
    return [m for argument in typing.get_args(annotation) for m in _models_in(argument)]


def _keys_elsewhere(last: str) -> list[str]:
    """Return the keys, in whichever section, whose last part is nearest to `last`."""
    keys = [key for key, _ in flatten(Experiment.model_validate({}).model_dump(mode="json"))]
    parts = {key.rpartition(".")[2] for key in keys}
    near = difflib.get_close_matches(last, parts, n=1, cutoff=NEAR)
    return [key for key in keys if key.rpartition(".")[2] in near]
