"""The page's own HTML: images with their names, which the keyboard and a screen reader reach.

Every text that comes from a run's files is escaped here.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from ganscale.pages.explore.pictures import data_uri
from ganscale.pages.explore.subject import Facts, Shown

CELL_SIDE = 192  # pixels of an image in a grid; larger ones are reduced
LARGE_SIDE = 768
SMOOTH_FROM = 96  # pixels; smaller images are enlarged as squares


@dataclass(frozen=True)
class Cell:
    """An image that can be clicked."""

    image: Shown
    name: str
    seed: int
    checkpoint: str = ""
    weights: str = ""
    position: int | None = None


def header(facts: Facts) -> str:
    """Return the top of the page."""
    return f"<h1>{escape(facts.name)}</h1><p class='gs-what'>{escape(facts.what)}</p>"


def message(text: str) -> str:
    """Return a sentence that says why there is no picture."""
    return f"<p class='gs-message' role='alert'>{escape(text)}</p>"


def note(text: str) -> str:
    """Return a sentence beside the pictures."""
    return f"<p class='gs-note'>{escape(text)}</p>"


def absent(sentences: Iterable[str]) -> str:
    """Return what the page cannot offer, and why."""
    return "".join(note(sentence) for sentence in sentences)


def cells(images: Sequence[Cell], columns: int, name: str) -> str:
    """Return a grid of images, of which Tab reaches one and the arrow keys the others."""
    buttons = "".join(_button(cell, is_first=i == 0) for i, cell in enumerate(images))
    return (
        f"<div class='gs-cells' role='group' aria-label='{escape(name)}' "
        f"data-columns='{columns}' style='--columns: {columns}'>{buttons}</div>"
    )


def timeline(rows: Sequence[tuple[str, Sequence[Cell]]], columns: int) -> str:
    """Return a row of images for each checkpoint, with its name beside it."""
    return "".join(
        f"<div class='gs-row'><h3>{escape(name)}</h3>{cells(images, columns, name)}</div>"
        for name, images in rows
    )


def large(image: Shown, name: str) -> str:
    """Return one large image."""
    source = data_uri(image, LARGE_SIDE)
    kind = _kind(image)
    return (
        f"<img class='gs-large {kind}' src='{source}' alt='{escape(name)}' decoding='sync'>"
        f"<p class='gs-caption'>{escape(name)}</p>"
    )


def details(image: Shown, title: str, facts: Sequence[tuple[str, str]], command: str) -> str:
    """Return one image with what is known of it, and the command that makes it again."""
    rows = "".join(f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in facts)
    again = f"<p class='gs-note'>The same image again:</p><pre><code>{escape(command)}</code></pre>"
    source = data_uri(image, LARGE_SIDE)
    return (
        f"<img class='gs-detail {_kind(image)}' src='{source}' alt='{escape(title)}'>"
        f"<h2>{escape(title)}</h2><dl>{rows}</dl>{again if command else ''}"
    )


def neighbours(images: Shown) -> str:
    """Return the real images nearest to a generated one."""
    shown = "".join(
        f"<img class='{_kind(image)}' src='{data_uri(image, CELL_SIDE)}' alt='Real image {i + 1}'>"
        for i, image in enumerate(images)
    )
    return f"<h2>Nearest real images</h2><div class='gs-neighbours'>{shown}</div>"


def _button(cell: Cell, is_first: bool) -> str:
    data = f"data-seed='{cell.seed}'"
    if cell.checkpoint:
        data += f" data-checkpoint='{escape(cell.checkpoint)}'"
    if cell.weights:
        data += f" data-weights='{escape(cell.weights)}'"
    if cell.position is not None:
        data += f" data-position='{cell.position}'"
    name = escape(cell.name)
    return (
        f"<button type='button' class='gs-cell' {data} aria-label='{name}' title='{name}' "
        f"tabindex='{0 if is_first else -1}'>"
        f"<img class='{_kind(cell.image)}' src='{data_uri(cell.image, CELL_SIDE)}' alt='' "
        f"decoding='sync'></button>"
    )


def _kind(image: Shown) -> str:
    return "gs-smooth" if max(image.shape[:2]) >= SMOOTH_FROM else "gs-pixels"
