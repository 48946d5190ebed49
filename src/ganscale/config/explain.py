"""The output of `ganscale config --explain`: what a key means, and which files set it."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from ganscale.config.inline import inline_yaml
from ganscale.config.keys import ITEM, REQUIRED, SCHEDULE, Key, Section, first_sentence, sections
from ganscale.config.mistakes import about_unknown_key, shown
from ganscale.config.schedulable import EXAMPLE
from ganscale.errors import GanscaleError

SWEPT = ("grid", "parameters")  # the keys that a sweep varies stand here, in our files or in W&B's


def explain(key: str, configs: Path) -> str:
    """Return the meaning, accepted values and default of a key or section, and who sets it.

    `configs` is the folder of the experiment files. Raises `GanscaleError` for an unknown key.
    """
    parts = key.split(".")
    *above, name = [ITEM if part.isdecimal() else part for part in parts]
    here, place = ".".join([*above, name]), ".".join(above)
    lines: list[str] = []
    for section in (s for s in sections() if place in s.places):
        for found in (k for k in section.keys if k.name == name):
            lines += _about(found, section)
    for section in (s for s in sections() if here in s.places):
        lines.append(f"keys with {section.variant}:" if section.variant else "keys:")
        lines += [f"  {k.name}: {first_sentence(k.meaning)}" for k in section.keys if k.meaning]
    if not lines:
        raise GanscaleError(f"{key}: {about_unknown_key(key)}")
    lines += [f"{path} sets it to {value}" for path, value in _set_in(parts, configs)]
    return "\n".join([key, *(f"  {line}" for line in lines)]) + "\n"


def _about(key: Key, section: Section) -> list[str]:
    choices = [f"  `{name}`: {meaning}" for name, meaning in key.choices if meaning]
    if key.is_tag:
        return [f"{key.takes}: {section.meaning}", *choices]
    head = [f"with {section.variant}:"] if section.variant else []
    default = REQUIRED if key.default == REQUIRED else f"default: {key.default}"
    takes = key.takes.replace(SCHEDULE, "schedule")
    lines = [*head, key.meaning, f"takes: {takes}", *choices]
    if SCHEDULE in key.takes:
        lines.append(f"a schedule: {EXAMPLE}, or a list of such pieces; see docs/schedules.md")
    return [*lines, *([default] if key.default else [])]


def _set_in(parts: Sequence[str], configs: Path) -> Iterator[tuple[Path, str]]:
    """Yield each file below `configs` that sets the key, and the value there as YAML."""
    for path in sorted(configs.rglob("*.yaml")):
        try:
            tree = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError):
            continue
        tables = [tree, *(tree.get(name) for name in SWEPT)] if isinstance(tree, dict) else []
        values = [v for table in tables for v in _values_at(table, parts)]
        if values:
            yield path, ", ".join(shown(value, inline_yaml) for value in values)


def _values_at(tree: Any, parts: Sequence[str]) -> Iterator[Any]:
    """Yield the values at a dotted key: several if a part of the key stands for any item."""
    if not parts:
        yield tree
    elif isinstance(tree, list):
        for number, item in enumerate(tree):
            if parts[0] in (ITEM, str(number)):
                yield from _values_at(item, parts[1:])
    elif isinstance(tree, dict):
        if (whole := ".".join(parts)) in tree:  # a sweep's table has dotted keys
            yield tree[whole]
        elif parts[0] in tree:
            yield from _values_at(tree[parts[0]], parts[1:])
