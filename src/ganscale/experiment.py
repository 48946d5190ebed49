"""Reading, checking, comparing and writing experiment files."""

import difflib
import inspect
import json
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, ValidationError
from yaml import YAMLError, safe_dump

from ganscale.config import Experiment
from ganscale.config.networks import ARCHITECTURES
from ganscale.errors import GanscaleError

BASE = "base"


def load(path: str | Path | None, overrides: Sequence[str] = ()) -> Experiment:
    """Read an experiment file, put `key=value` overrides over it and check the result.

    A file may say `base: other.yaml` and give only what differs from that one. Without a path the
    defaults are what is overridden. Raises `GanscaleError` with one message
    that names every key at fault, its value and what is allowed.
    """
    source = str(path) if path is not None else "the defaults"
    try:
        base = _read(Path(path)) if path is not None else OmegaConf.create({})
        for override in overrides:
            if "=" not in override:
                raise GanscaleError(
                    f"override '{override}': write key=value, e.g. train.steps=2000"
                )
        merged = OmegaConf.merge(base, OmegaConf.from_dotlist(list(overrides)))
        values = OmegaConf.to_container(merged, resolve=True)
    except FileNotFoundError as error:
        raise GanscaleError(f"{error.filename}: no such experiment file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise GanscaleError(f"{source}: cannot be read ({error})") from None
    except (YAMLError, OmegaConfBaseException) as error:
        raise GanscaleError(f"{source}: not valid YAML: {' '.join(str(error).split())}") from None
    try:
        return Experiment.model_validate(values)
    except ValidationError as error:
        lines = "\n".join(f"  {_explain(e)}" for e in error.errors())
        raise GanscaleError(f"{source} is not a valid experiment:\n{lines}") from None


def _read(path: Path, readers: tuple[Path, ...] = ()) -> DictConfig:
    """The values of a file, over those of the file that it names as its base."""
    if path in readers:
        raise GanscaleError(f"{path}: `base` leads round in a circle")
    values = OmegaConf.load(path)
    if not isinstance(values, DictConfig):
        raise GanscaleError(f"{path}: an experiment file holds `key: value` pairs")
    base = values.pop(BASE, None)
    if base is None:
        return values
    below = _read(path.parent / str(base), (*readers, path))
    merged = OmegaConf.merge(below, values)
    assert isinstance(merged, DictConfig)
    return merged


def to_yaml(experiment: Experiment) -> str:
    """The whole experiment, defaults included, as YAML that `load` reads back."""
    return safe_dump(experiment.model_dump(mode="json"), sort_keys=False)


def json_schema() -> str:
    """The JSON schema from which editors complete and check experiment files."""
    schema = Experiment.model_json_schema()
    description = "Another experiment file, beside this one, that this one differs from."
    schema["properties"][BASE] = {"type": "string", "description": description}
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def differences(ours: Experiment, theirs: Experiment) -> list[tuple[str, Any, Any]]:
    """Key, our value and their value, for each key that changes what a step computes."""
    ours_flat = dict(_flatten(ours.model_dump(mode="json")))
    theirs_flat = dict(_flatten(theirs.model_dump(mode="json")))

    def decides(key: str) -> bool:
        return not any(key == m or key.startswith(m + ".") for m in (*Experiment.MACHINERY, "name"))

    return [
        (key, ours_flat.get(key), theirs_flat.get(key))
        for key in dict.fromkeys([*ours_flat, *theirs_flat])
        if decides(key) and ours_flat.get(key) != theirs_flat.get(key)
    ]


def _flatten(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _explain(error: Any) -> str:
    """One line for one pydantic error: the key, the value, what is allowed."""
    # Union tags are no keys of the file: they are dropped from the path.
    location = [part for part in error["loc"] if part not in (*ARCHITECTURES, "custom")]
    key = ".".join(str(part) for part in location)
    value = error["input"]
    kind = error["type"]
    if kind == "extra_forbidden":
        known = [".".join([*map(str, location[:-1]), k]) for k in _keys_beside(location)]
        near = difflib.get_close_matches(key, known, n=1, cutoff=0.6) or _same_last_part(key)
        if near:
            return f"{key}: unknown key; did you mean {' or '.join(near)}?"
        return f"{key}: unknown key; known here: {', '.join(known)}"
    if kind == "missing":
        return f"{key}: required, and not given"
    if kind == "value_error" and not key:
        return str(error["ctx"]["error"])
    if kind == "union_tag_invalid":
        name = error["ctx"]["tag"]
        own = "a class of your own as path/to/file.py:ClassName"
        return f"{key}.architecture={name}: use {', '.join(ARCHITECTURES)}, or {own}"
    message = error["msg"][0].lower() + error["msg"][1:]
    return f"{key}={value!r}: {message}"


def _keys_beside(location: Sequence[Any]) -> list[str]:
    """The keys that the schema knows in the section that `location` lies in."""
    models = [Experiment]
    for part in location[:-1]:
        fields = [m.model_fields[part].annotation for m in models if part in m.model_fields]
        models = [m for f in fields for m in _models_in(f)] or models
    return sorted({name for m in models for name in m.model_fields})


def _models_in(annotation: Any) -> list[Any]:
    """Every pydantic model inside an annotation (unions, tuples, Annotated)."""
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return [annotation]
    return [m for argument in typing.get_args(annotation) for m in _models_in(argument)]


def _same_last_part(key: str) -> list[str]:
    """The known keys, in whichever section, whose last part is nearest to that of `key`."""
    keys = [k for k, _ in _flatten(Experiment.model_validate({}).model_dump(mode="json"))]
    parts = {k.rpartition(".")[2] for k in keys}
    near = difflib.get_close_matches(key.rpartition(".")[2], parts, n=1, cutoff=0.7)
    return [k for k in keys if k.rpartition(".")[2] in near]
