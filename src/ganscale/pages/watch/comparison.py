"""The configurations of several runs: only what differs, by dotted key."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ganscale.config.inline import inline_yaml

NEVER_ALIKE = {"name"}  # it is the head of the run's column
_LACKING = object()


def differing(configs: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[str | None]]]:
    """Return each key whose value differs, with its value in each configuration as YAML.

    The value is None where a configuration lacks the key.
    """
    flat = [dict(_leaves(config, "")) for config in configs]
    rows = []
    for key in _in_order(flat):
        values = [leaves.get(key, _LACKING) for leaves in flat]
        if key not in NEVER_ALIKE and len({repr(value) for value in values}) > 1:
            rows.append((key, [None if v is _LACKING else inline_yaml(v) for v in values]))
    return rows


def _in_order(flat: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return all keys once, those of a section together, as the first to have it orders them."""
    keys = dict.fromkeys(key for leaves in flat for key in leaves)
    parts = (key[:end] for key in keys for end in _ends_of_parts(key))
    place = {part: number for number, part in enumerate(dict.fromkeys(parts))}
    return sorted(keys, key=lambda key: [place[key[:end]] for end in _ends_of_parts(key)])


def _ends_of_parts(key: str) -> list[int]:
    return [*(i for i, letter in enumerate(key) if letter == "."), len(key)]


def _leaves(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    """Yield the dotted key and the value of each leaf; items of a list of maps have numbers."""
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from _leaves(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        for number, item in enumerate(value):
            yield from _leaves(item, f"{key}.{number}")
    else:
        yield key, value
