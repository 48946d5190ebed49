"""The text of docs/config.md: a table of keys for each section of an experiment."""

import re
from collections.abc import Sequence

from ganscale.config.keys import EMPTY, ITEM, REQUIRED, SCHEDULE, Section, sections

INTRODUCTION = """\
# Every key of an experiment

This page is generated: `ganscale config --reference > docs/config.md`.
`ganscale config --explain KEY` shows the same about one key, and which of the shipped experiments
set it. An override separates the parts of a key with dots (`train.steps=2000`) and names an item of
a list by its number, from 0 (`objective.penalties.0.weight=2`). Write `null` for *empty*.
"""


def reference() -> str:
    """Return the text of the page."""
    every = sections()
    return "\n".join([INTRODUCTION, *(_table(section, every) for section in every)])


def _anchor(title: str) -> str:
    """Return the anchor that GitHub creates for a heading."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def _table(section: Section, every: Sequence[Section]) -> str:
    lines = [f"## {section.title}", ""]
    if section.meaning:
        lines += [section.meaning, ""]
    if len(section.places) > 1:
        lines += [
            f"The same keys are at {', '.join(f'`{place}`' for place in section.places[1:])}.",
            "",
        ]
    lines += ["| key | takes | default | meaning |", "|---|---|---|---|"]
    for key in section.keys:
        if key.is_tag:
            continue
        inner = f"{section.places[0]}.{key.name}".lstrip(".")
        links = [
            f"[{s.variant or s.title}](#{_anchor(s.title)})"
            for s in every
            if inner in s.places or f"{inner}.{ITEM}" in s.places
        ]
        kind = key.takes.replace(SCHEDULE, f"[{SCHEDULE}](schedules.md)")
        takes = ": ".join(filter(None, (kind, ", ".join(links))))
        default = key.default if key.default in ("", EMPTY, REQUIRED) else f"`{key.default}`"
        cells = (f"`{key.name}`", takes, default, key.meaning)
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    for key in section.keys:
        if key.choices:
            lines += ["", f"`{key.name}`:", ""]
            lines += [f"- `{name}`: {meaning}" for name, meaning in key.choices if meaning]
    return "\n".join([*lines, ""])
