"""The keys of an experiment: the meaning, accepted values and default of each.

Everything comes from the JSON schema that pydantic derives from the models. Editors use the same
schema.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ganscale.config.inline import inline_yaml
from ganscale.config.load import experiment_schema
from ganscale.config.schedulable import WrittenSchedule
from ganscale.registry import CUSTOM

ITEM = "N"
"""Stands for the number of an item, from 0: `objective.penalties.N.weight`."""
REQUIRED, EMPTY, SCHEDULE = "required", "empty", "schedule"
BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
KINDS = {"integer": "whole number", "number": "number", "boolean": "`true` or `false`"}
KINDS |= {"string": "text", "object": "mapping", "null": EMPTY}
COUNTED, PLURAL = re.compile("^(whole number|number|section)"), r"\1s"
CHOICES = ("anyOf", "oneOf", "allOf")
NAMING = ("const", "enum", "pattern")

Schema = Mapping[str, Any]


@dataclass(frozen=True)
class Key:
    """One key of a section."""

    name: str
    meaning: str
    takes: str
    default: str
    """The default as YAML; `required` if there is none; empty for a section, whose keys have their
    own defaults."""
    is_tag: bool
    """True if the value of this key selects this section among several, by a name that it lists."""
    choices: tuple[tuple[str, str], ...]
    """Each registered name that the key accepts, if there are several, and its summary."""


@dataclass(frozen=True)
class Section:
    """A section of the experiment, and the keys at which it may appear."""

    model: str
    places: tuple[str, ...]
    variant: str
    """The value that selects this section among several, such as `architecture: dcgan`."""
    meaning: str
    keys: tuple[Key, ...]

    @property
    def title(self) -> str:
        """The heading of its table."""
        place = self.places[0] or "The experiment"
        return f"{place} ({self.variant})" if self.variant else place


def sections() -> list[Section]:
    """Return every section of the experiment, in the order of its keys.

    A model that appears at several places with the same defaults is one section.
    """
    schema = experiment_schema()
    found: dict[tuple[Any, ...], Section] = {}
    for section in _Reader(schema).read(schema, "", {}):
        same = (section.model, section.variant, section.keys)
        places = (*(found[same].places if same in found else ()), *section.places)
        found[same] = replace(found.get(same, section), places=tuple(dict.fromkeys(places)))
    return list(found.values())


def first_sentence(text: str) -> str:
    """Return a text up to its first full stop."""
    return re.split(r"(?<=[.])\s", text)[0]


class _Reader:
    """Reads sections out of a JSON schema."""

    def __init__(self, schema: Schema):
        self._definitions: Schema = schema["$defs"]

    def read(
        self, node: Schema, place: str, defaults: Schema, tag: str | None = None
    ) -> Iterator[Section]:
        """Yield the section at a place, and those below it.

        `defaults` are the defaults that the place itself sets. `tag` is the key that selects one of
        the sections that may appear here.
        """
        keys, below = [], []
        for name, field in node["properties"].items():
            default = defaults.get(name, field.get("default"))
            inner = list(self._sections_in(field))
            is_absent = name not in defaults and "default" not in field
            is_of_its_keys = inner and (is_absent or isinstance(default, Mapping))
            text = "" if is_of_its_keys else _as_text(default)
            required = name in node.get("required", ()) and name not in defaults
            keys.append(
                Key(
                    name,
                    self._meaning(field, [section for section, _ in inner]),
                    self._takes(field),
                    REQUIRED if required else text,
                    name == tag and "pattern" not in field,
                    tuple(self._described(field)),
                )
            )
            inner_tag = _tag([section for section, _ in inner])
            for section, suffix in inner:
                given = default if not suffix and _fits(section, inner_tag, default) else {}
                below.append((section, f"{place}.{name}{suffix}".lstrip("."), given, inner_tag))
        variant = _variant(node, tag) if tag is not None else ""
        meaning = _one_line(node.get("description", ""))
        yield Section(node.get("title", ""), (place,), variant, meaning, tuple(keys))
        for arguments in below:
            yield from self.read(*arguments)

    @staticmethod
    def _is_schedule(field: Schema) -> bool:
        return str(field.get("$ref", "")).endswith(f"/{WrittenSchedule.__name__}")

    def _resolved(self, field: Schema) -> Schema:
        if "$ref" not in field:
            return field
        found: Schema = self._definitions[field["$ref"].rpartition("/")[2]]
        return found

    def _sections_in(self, field: Schema, suffix: str = "") -> Iterator[tuple[Schema, str]]:
        """Yield the sections that may appear in a field, with `.N` for those in a list.

        A schedule does not count: it is the same everywhere, and docs/schedules.md describes it.
        """
        if self._is_schedule(field):
            return
        node = self._resolved(field)
        if "properties" in node:
            yield node, suffix
        for choice in (c for choices in CHOICES for c in node.get(choices, ())):
            yield from self._sections_in(choice, suffix)
        if isinstance(node.get("items"), Mapping):
            yield from self._sections_in(node["items"], f"{suffix}.{ITEM}")

    def _meaning(self, field: Schema, inner: Sequence[Schema]) -> str:
        """Return the field's own docstring, or else that of its section."""
        own = field.get("description", "")
        if own or len(inner) != 1:
            return _one_line(own)
        return first_sentence(_one_line(inner[0].get("description", "")))

    def _choices(self, node: Schema) -> list[str]:
        """Return the alternatives that a field accepts; an empty list if there is only one kind."""
        words = [f"`{name}`" for name in _names(node)]
        for choice in (c for way in CHOICES for c in node.get(way, ())):
            if self._is_schedule(choice):
                words.append(SCHEDULE)
            else:
                words += self._choices(self._resolved(choice)) or [self._takes(choice)]
        return words

    def _described(self, field: Schema) -> Iterator[tuple[str, str]]:
        """Yield each name that a field, or an item of it, accepts, and its summary."""
        node = self._resolved(field)
        if len(names := _names(node)) > 1:
            yield from zip(names, node.get("enumDescriptions", ()), strict=False)
        for choice in (c for way in CHOICES for c in node.get(way, ())):
            yield from self._described(choice)
        if isinstance(node.get("items"), Mapping):
            yield from self._described(node["items"])

    def _takes(self, field: Schema) -> str:
        """Return a description of the values that a field accepts."""
        node = self._resolved(field)
        if "properties" in node:
            return "section"
        if choices := self._choices(node):
            return _either(choices)
        if node.get("type") == "array":
            items = [self._takes(item) for item in node.get("prefixItems", ())]
            if items:
                return f"list of {len(items)}, each {', '.join(dict.fromkeys(items))}"
            return f"list of {COUNTED.sub(PLURAL, self._takes(node.get('items', {})))}"
        signs = [(bound, sign) for bound, sign in BOUNDS.items() if bound in node]
        bounds = ", ".join(f"{sign} {_as_text(node[bound])}" for bound, sign in signs)
        if node.get("pattern") == CUSTOM:
            return "`path/to/file.py:Name`"
        pattern = f"that matches `{node['pattern']}`" if "pattern" in node else ""
        kind = KINDS.get(node.get("type", ""), "anything")
        return " ".join(filter(None, (kind, bounds, pattern)))


def _tag(alternatives: Sequence[Schema]) -> str | None:
    """Return the key that selects one of several sections."""
    if len(alternatives) < 2:
        return None
    named = [
        {name for name, field in node["properties"].items() if any(w in field for w in NAMING)}
        for node in alternatives
    ]
    shared = (name for name in alternatives[0]["properties"] if all(name in n for n in named))
    return next(shared, None)


def _variant(node: Schema, tag: str) -> str:
    names = _names(node["properties"][tag])
    return f"{tag}: {_either(names)}" if names else f"any other {tag}"


def _fits(node: Schema, tag: str | None, default: Any) -> bool:
    """Return whether a default belongs to this section."""
    if not isinstance(default, Mapping):
        return False
    return tag is None or default.get(tag) in _names(node["properties"][tag])


def _names(field: Schema) -> list[str]:
    """Return the values that a field lists."""
    return [str(name) for name in field.get("enum", [field["const"]] if "const" in field else [])]


def _either(choices: Sequence[str]) -> str:
    *others, last = dict.fromkeys(choices)
    return f"{', '.join(others)} or {last}" if others else last


def _as_text(value: Any) -> str:
    return EMPTY if value is None else inline_yaml(value)


def _one_line(text: str) -> str:
    return " ".join(text.split())
