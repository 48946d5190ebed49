"""The fixture sees what goes wrong in a page: each of these pages would fail its test."""

import re
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.servers import running
from tests.system.browser import DARK, PHONE, note_problems

pytestmark = pytest.mark.system

PROBLEMS = {
    "<script>console.error('said')</script>": "console: said",
    "<script>throw new Error('thrown')</script>": "exception: thrown",
    "<img src=/missing>": "console: .*404",
    "<img src=http://127.0.0.1:1/>": "request failed: .*ERR_UNSAFE_PORT|ERR_CONNECTION_REFUSED",
    "<script src=https://example.org/></script>": "a request left this machine: https://example",
}


class _Pages(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        number = self.path.strip("/")
        found = number.isdecimal()
        self.send_response(200 if found else 404)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        if found:
            icon = "<link rel=icon href='data:,'>"
            self.wfile.write((icon + list(PROBLEMS)[int(number)]).encode())

    def log_message(self, *_: Any) -> None:
        pass


def test_what_goes_wrong_in_a_page_is_noted(browser: Any) -> None:
    seen: list[str] = []
    context = browser.new_context()
    note_problems(context, seen.append)
    page = context.new_page()
    with running(ThreadingHTTPServer(("127.0.0.1", 0), _Pages)) as server:
        for number, expected in enumerate(PROBLEMS.values()):
            seen.clear()
            page.goto(f"http://127.0.0.1:{server.server_port}/{number}")
            page.wait_for_timeout(20)
            assert any(re.search(expected, problem) for problem in seen), (expected, seen)
    context.close()


def test_a_page_has_the_size_and_the_colours_of_its_view(open_page: Callable[..., Any]) -> None:
    assert open_page(PHONE).evaluate("screen.width") == PHONE.width
    assert open_page(DARK).evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
