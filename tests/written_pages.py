"""What the documentation's pages hold: blocks of code, and code within their text."""

import itertools
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[1]
PAGES = (
    *sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md")),
    "README.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "launch/project/README.md",
)


@dataclass(frozen=True)
class Code:
    """A block of code, or a piece within a line of text."""

    page: str
    line: int
    language: str
    """What stands behind the fence; empty for an indented block."""
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}: {self.text.strip().partition(chr(10))[0]}"

    def commands(self) -> Iterator[list[str]]:
        """Yield the words of each line, without comments; a backslash continues a line."""
        for line in self.text.replace("\\\n", " ").splitlines():
            if words := shlex.split(line, comments=True):
                yield words


@cache
def blocks(page: str) -> list[Code]:
    """Return the blocks of code of a page."""
    return [
        Code(page, token.map[0] + 1 if token.map else 0, token.info, token.content)
        for token in _tokens(page)
        if token.type in ("fence", "code_block")
    ]


@cache
def pieces(page: str) -> list[Code]:
    """Return the code within the text of a page, each piece on one line."""
    return [
        Code(page, token.map[0] + 1 if token.map else 0, "", re.sub(r"\s+", " ", child.content))
        for token in _tokens(page)
        for child in token.children or ()
        if child.type == "code_inline"
    ]


@cache
def links(page: str) -> list[Code]:
    """Return what the links and images of a page lead to."""
    return [
        Code(page, token.map[0] + 1 if token.map else 0, "", str(target))
        for token in _tokens(page)
        for child in token.children or ()
        if (target := child.attrs.get("href") or child.attrs.get("src"))
    ]


@cache
def anchors(page: str) -> set[str]:
    """Return the anchors of a page's headings, as GitHub forms them."""
    titles = [
        after.children or ()
        for token, after in itertools.pairwise(_tokens(page))
        if token.type == "heading_open"
    ]
    texts = ("".join(child.content for child in title) for title in titles)
    return {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in texts}


@cache
def _tokens(page: str) -> list[Token]:
    return MarkdownIt("commonmark").parse((ROOT / page).read_text())
