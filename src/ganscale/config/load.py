"""Read, check, compare and write experiment files."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigTypeError
from pydantic import ValidationError
from yaml import YAMLError, safe_dump

from ganscale.config import Experiment
from ganscale.config.experiment import EACH_MISTAKE
from ganscale.config.mistakes import explain, flatten, key_of, shown
from ganscale.config.schedulable import schedules_in
from ganscale.config.schedules import Schedule
from ganscale.config.weights_and_biases import write_out_override, write_out_short_form
from ganscale.errors import GanscaleError, in_one_line
from ganscale.shipped import find_experiment

BASE = "base"
MAX_DEPTH = 32
MAX_BITS = 64  # Python refuses to print integers with thousands of digits
YAML_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""PyYAML's loader in C, by which a hundred runs are read in no time, if it was built with it."""
PLAIN = (str, int, float, bool, type(None))


def load(origin: str | Path | Experiment | None, overrides: Sequence[str] = ()) -> Experiment:
    """Read an experiment file, apply `key=value` overrides and check the result.

    A file with `base: other.yaml` contains only the differences from that file. Instead of a file,
    the overrides may apply to an experiment, or to the defaults (None). Raises `GanscaleError` with
    one message that names every invalid key, its value and what is allowed.
    """
    path = origin if isinstance(origin, (str, Path)) else None
    if isinstance(origin, Experiment):
        tree, source = OmegaConf.create(origin.model_dump(mode="json")), "the experiment"
    elif path is not None:
        tree, source = _read(Path(path)), str(path)
    else:
        tree, source = OmegaConf.create({}), "the defaults"
    for override in overrides:
        _put_over(tree, write_out_override(override))
    values = _resolved(tree, " with ".join([source, *map(_shortened, overrides)]))
    try:
        return Experiment.model_validate(values, context=EACH_MISTAKE)
    except ValidationError as error:
        mistakes = error.errors()
    heading, keys_of_file = f"{source}: not a valid experiment", set[str]()
    if path is None:
        heading = "not a valid experiment"
    elif overrides and (found := _keys_if_valid(Path(path))):
        heading, keys_of_file = f"{path} is valid, but not with these overrides", found
    lines = [f"{heading}:"]
    for mistake in mistakes:
        lines.append(f"  {explain(mistake, values)}")
        if mistake["type"] == "extra_forbidden" and key_of(mistake) in keys_of_file:
            lines.append(f"    {path} sets it: leave it out in a copy of that file")
    raise GanscaleError("\n".join(lines))


def as_overrides(values: Mapping[str, Any]) -> list[str]:
    """Return the overrides `key=value` that say the same as these values."""
    # JSON is YAML too. What it has no form for, such as a path, is given as text.
    return [
        f"{key}={json.dumps(value, ensure_ascii=False, default=str)}"
        for key, value in values.items()
    ]


def load_recorded(content: bytes, path: Path) -> Experiment:
    """Return the experiment in `content`, the bytes of a run's `experiment.yaml` at `path`.

    Raises `GanscaleError` if the content is not a valid experiment.
    """
    values = recorded_values(content, path)
    try:
        return Experiment.model_validate(values, context=EACH_MISTAKE)
    except ValidationError as error:
        lines = [f"  {explain(mistake, values)}" for mistake in error.errors()]
        raise GanscaleError("\n".join([f"{path}: not a valid experiment:", *lines])) from None


def recorded_values(content: bytes, path: Path) -> dict[str, Any]:
    """Return the values in `content`, the bytes of a run's `experiment.yaml`, of any version.

    The run may come from an untrusted source. Therefore no interpolation is resolved (`${oc.env:…}`
    would copy this machine's environment into a report), and no `base` is read. `to_yaml` writes
    plain values only. Raises `GanscaleError` if the content holds anything else.
    """
    try:
        _refuse_costly_yaml(content, path)
        values = yaml.load(content, YAML_LOADER)
    except GanscaleError:
        raise
    except Exception as error:  # PyYAML has many kinds, and raises RecursionError
        what = in_one_line(error)
        raise GanscaleError(f"{path}: not valid YAML: {what}") from None
    if not isinstance(values, dict):
        raise GanscaleError(f"{path}: an experiment file holds `key: value` pairs")
    for key, mistake in _not_plain(values, ""):
        raise GanscaleError(f"{path}: {key} {mistake}")
    return values


def _not_plain(tree: Any, key: str) -> Iterator[tuple[str, str]]:
    """Yield the key of each value that `to_yaml` would not have written, and what is wrong."""
    if isinstance(tree, dict):
        for name, value in tree.items():
            if not isinstance(name, str) or not _is_text(name):
                yield key or "it", f"has the key {shown(name)}, which is not text"
            else:
                yield from _not_plain(value, f"{key}.{name}" if key else name)
    elif isinstance(tree, list):
        for number, value in enumerate(tree):
            yield from _not_plain(value, f"{key}.{number}")
    elif type(tree) not in PLAIN:
        kinds = ", ".join(kind.__name__ for kind in PLAIN[:-1])
        yield key, f"has type {type(tree).__name__}; it may be {kinds}, null, a list or a map"
    elif isinstance(tree, int) and tree.bit_length() > MAX_BITS:
        yield key, f"is a whole number of more than {MAX_BITS} bits; write a smaller one"
    elif isinstance(tree, str) and not _is_text(tree):
        yield key, f"is {shown(tree)}, which is not valid Unicode text: it has a lone surrogate"
    elif isinstance(tree, str) and "${" in tree:
        yield (
            key,
            f"is {shown(tree)}: references are not resolved in a run's experiment; "
            "write the value itself",
        )


def _is_text(value: str) -> bool:
    """Return whether UTF-8 can encode the text; YAML's escapes can create lone surrogates."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _refuse_costly_yaml(content: bytes, path: Path) -> None:
    """Raise `GanscaleError` for YAML that has aliases or is nested too deeply.

    Aliases of aliases grow exponentially, and PyYAML takes quadratic time in the depth.
    """
    depth = 0
    for event in yaml.parse(content, YAML_LOADER):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if isinstance(event, yaml.AliasEvent) or depth > MAX_DEPTH:
            raise GanscaleError(
                f"{path}: contains YAML aliases, or more than {MAX_DEPTH} levels; a run's "
                "experiment has neither"
            )


def _keys_if_valid(path: Path) -> set[str]:
    """Return the keys that a file sets; an empty set if it is not a valid experiment by itself."""
    try:
        values = _resolved(_read(path), str(path))
        Experiment.model_validate(values, context=EACH_MISTAKE)
    except (GanscaleError, ValidationError):
        return set()
    return {key for key, _ in flatten(values)}


def _put_over(tree: DictConfig, override: str) -> None:
    """Apply an override such as `objective.penalties.0.weight=2`."""
    if "=" not in override:
        raise GanscaleError(
            f"override '{_shortened(override)}': write key=value, e.g. train.steps=2000"
        )
    with one_message(f"override '{_shortened(override)}'"):
        try:
            tree.merge_with_dotlist([override])
        except ConfigTypeError:  # a list replaces a map, or a map replaces a list
            key = override.partition("=")[0]
            tree.merge_with_dotlist([f"{key}=null", override])


def _read(path: Path, readers: tuple[Path, ...] = ()) -> DictConfig:
    """Return the values of a file, merged over those of its base."""
    if path in readers:
        raise GanscaleError(f"{path}: its `base` files form a circle")
    if path.is_dir():
        raise GanscaleError(_about_folder(path))
    with one_message(str(path)):
        values = _written_out(OmegaConf.load(path))
    if not isinstance(values, DictConfig):
        raise GanscaleError(f"{path}: an experiment file holds `key: value` pairs")
    with one_message(f"{path}: {BASE}"):
        base = values.pop(BASE, None)
    if base is None:
        return values
    below = _read(path.parent / str(base), (*readers, path))
    with one_message(f"{path} over its base {base}"):
        merged = OmegaConf.merge(_with_room_for(values, below), values)
    assert isinstance(merged, DictConfig)
    return merged


def _written_out(values: Any) -> Any:
    """Return the values of a file in the form in which they can be merged with other values."""
    if not isinstance(values, DictConfig):
        return values
    return OmegaConf.create(write_out_short_form(OmegaConf.to_container(values, resolve=False)))


def _about_folder(path: Path) -> str:
    """Return what to give in place of a folder: of a run, or of something else."""
    within = path / "experiment.yaml"
    if within.is_file():
        return f"{path}: a folder, not an experiment file; the one in it is {within}"
    return (
        f"{path}: a folder, not an experiment file; if it holds images, "
        f"`ganscale configure {path}` writes an experiment for them"
    )


def _with_room_for(values: Any, below: Any) -> Any:
    """Return a base without the lists that `values` replaces by maps, and the maps by lists.

    A schedule may be a list or a map, and OmegaConf cannot merge one with the other.
    """
    if isinstance(values, DictConfig):
        values, below = (OmegaConf.to_container(tree, resolve=False) for tree in (values, below))
    room = dict(below)
    for key, value in values.items():
        if isinstance(value, dict) and isinstance(below.get(key), dict):
            room[key] = _with_room_for(value, below[key])
        elif {type(value), type(below.get(key))} == {dict, list}:
            del room[key]
    return room


def _shortened(override: str) -> str:
    return shown(override, str)


def _resolved(tree: DictConfig, source: str) -> Any:
    """Return plain values, with every `${key}` replaced by the value that it refers to."""
    with one_message(source):
        return OmegaConf.to_container(tree, resolve=True)


@contextmanager
def one_message(source: str, kind: str = "experiment file") -> Iterator[None]:
    """Turn any exception from a parser into a `GanscaleError` with one message.

    Unexpected input makes OmegaConf and PyYAML raise not only exceptions of their own, but also
    IndexError, ValueError, TypeError and RecursionError.
    """
    try:
        yield
    except FileNotFoundError as error:
        path = Path(error.filename)
        raise GanscaleError(f"{path}: no such {kind}{_where_it_ships(path)}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise GanscaleError(f"{source}: cannot be read ({error})") from None
    except RecursionError:
        raise GanscaleError(f"{source}: nested too deeply") from None
    except Exception as error:
        problem = "not valid YAML" if isinstance(error, YAMLError) else "cannot be used"
        reason = shown(in_one_line(error), str)
        raise GanscaleError(f"{source}: {problem}: {reason}") from None


def _where_it_ships(path: Path) -> str:
    """Return where the shipped file of this name is, as the end of a message."""
    found = find_experiment(path)
    if found is None:
        return ""
    return (
        f"; one of that name ships with ganscale: {found}. "
        "`ganscale init FOLDER` lays out a project that has all of them in its configs/"
    )


def to_yaml(experiment: Experiment) -> str:
    """Return the whole experiment, defaults included, as YAML that `load` can read."""
    return safe_dump(experiment.model_dump(mode="json"), sort_keys=False)


def experiment_schema() -> dict[str, Any]:
    """Return the JSON schema of experiment files."""
    schema = Experiment.model_json_schema()
    description = "Path of the experiment file, relative to this one, that this file is based on."
    schema["properties"][BASE] = {"type": "string", "description": description}
    return schema


def json_schema() -> str:
    """Return the JSON schema as text, for editors to complete and check experiment files."""
    return json.dumps(experiment_schema(), indent=2, ensure_ascii=False) + "\n"


def differences(ours: Experiment, theirs: Experiment) -> list[tuple[str, Any, Any]]:
    """Return key, our value and their value for each difference that changes what a step computes.

    Schedules are left out; `schedule_changes` returns those.
    """
    ours_tree, theirs_tree = (e.model_dump(mode="json") for e in (ours, theirs))
    for key, *_ in schedule_changes(ours, theirs):
        _copy_value(key.split("."), ours_tree, theirs_tree)
    ours_flat, theirs_flat = dict(flatten(ours_tree)), dict(flatten(theirs_tree))

    def decides(key: str) -> bool:
        return not any(key == m or key.startswith(m + ".") for m in (*Experiment.MACHINERY, "name"))

    return [
        (key, ours_flat.get(key), theirs_flat.get(key))
        for key in dict.fromkeys([*ours_flat, *theirs_flat])
        if decides(key) and ours_flat.get(key) != theirs_flat.get(key)
    ]


def schedule_changes(ours: Experiment, theirs: Experiment) -> list[tuple[str, str, str]]:
    """Return key, our text and their text for each number whose schedule differs.

    One of the two may be a plain number. A schedule that depends on the length of the run differs
    if `train.steps` differs.
    """
    changes = []
    for key in dict.fromkeys(key for e in (ours, theirs) for key, _ in schedules_in(e)):
        numbers = [_number_at(key.split("."), e) for e in (ours, theirs)]
        if None in numbers:  # a penalty that the other experiment does not have
            continue
        texts = [
            f"{n} of {e.train.steps:,} steps" if isinstance(n, Schedule) and n.spans_run else str(n)
            for n, e in zip(numbers, (ours, theirs), strict=True)
        ]
        if texts[0] != texts[1]:
            changes.append((key, texts[0], texts[1]))
    return changes


def _number_at(path: Sequence[str], part: Any) -> Any:
    """Return the value of an experiment at a key; None if there is none."""
    for name in path:
        if isinstance(part, tuple):
            part = part[int(name)] if int(name) < len(part) else None
        else:
            part = getattr(part, name, None)
    return part


def _copy_value(path: Sequence[str], source: Any, target: Any) -> None:
    """Copy the value at a key from one tree to another."""
    *way, last = (int(name) if name.isdecimal() else name for name in path)
    for name in way:
        source, target = source[name], target[name]
    target[last] = source[last]
