"""Pages in a real Chromium, which fail a test on whatever the browser's console would report.

A test takes the fixture `page`, or opens several with `open_page(PHONE)`. Both fail it on an error
in the console, an exception in a script, a request that fails, and one that leaves this machine.
"""

import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pytest

__all__ = ["DARK", "DESKTOP", "PHONE", "View", "browser", "open_page", "page"]

OWN_HOST = "127.0.0.1"
WITHOUT_A_HOST = ("data", "blob", "about", "file")
LET_GO = "net::ERR_ABORTED"
"""How a request ends that the page itself gave up, by going elsewhere or by an AbortController."""


@dataclass(frozen=True)
class View:
    """What a page is looked at with."""

    width: int
    height: int
    dark: bool = False
    touch: bool = False


PHONE = View(390, 844, touch=True)
DESKTOP = View(1440, 900)
DARK = View(1440, 900, dark=True)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """One headless Chromium for the tests of a file.

    It must not outlive the file: while Playwright is started, its event loop is the thread's, and
    `asyncio.run` fails in the tests of any other file.
    """
    sync_api = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no chromium on this machine (Debian: apt-get install chromium)")
    # No name resolves, so that a request which would leave the machine cannot.
    rules = f"MAP * ~NOTFOUND, EXCLUDE {OWN_HOST}"
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=chromium, args=[f"--host-resolver-rules={rules}", "--no-sandbox"]
        )
        yield started
        started.close()


@pytest.fixture
def open_page(browser: Any) -> Iterator[Callable[..., Any]]:
    """Return a function that opens a page in a context of its own: `open_page(PHONE)`.

    Its second argument is a pattern of the problems that a test causes on purpose.
    """
    problems: list[str] = []
    contexts = []

    def open_one(view: View = DESKTOP, expected: str | None = None) -> Any:
        def note(problem: str) -> None:
            if expected is None or not re.search(expected, problem):
                problems.append(problem)

        context = browser.new_context(
            viewport={"width": view.width, "height": view.height},
            color_scheme="dark" if view.dark else "light",
            has_touch=view.touch,
            is_mobile=view.touch,
        )
        contexts.append(context)
        note_problems(context, note)
        return context.new_page()

    yield open_one
    for context in contexts:
        context.close()
    assert not problems, "the browser reports:\n" + "\n".join(problems)


@pytest.fixture
def page(open_page: Callable[..., Any], request: pytest.FixtureRequest) -> Any:
    """Return a page on a desktop, or with the `View` that the test is parametrized with."""
    return open_page(getattr(request, "param", DESKTOP))


def note_problems(context: Any, note: Callable[[str], None]) -> None:
    """Call `note` with each problem of the pages of a browser's context."""

    def on_request(request: Any) -> None:
        parts = urlsplit(request.url)
        if parts.scheme not in WITHOUT_A_HOST and parts.hostname != OWN_HOST:
            note(f"a request left this machine: {request.url}")

    def on_failure(request: Any) -> None:
        if request.failure != LET_GO:
            note(f"request failed: {request.url[:200]}: {request.failure}")

    def on_console(message: Any) -> None:
        if message.type == "error":
            note(f"console: {message.text}")

    context.on("request", on_request)
    context.on("requestfailed", on_failure)
    context.on("console", on_console)
    context.on("weberror", lambda error: note(f"exception: {error.error}"))
