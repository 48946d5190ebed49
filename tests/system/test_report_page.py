"""`report.html` in a browser: readable, usable without a mouse, and blind to scripts in a run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ganscale.runs.report import write_report
from ganscale.runs.run_folder import RunFolder
from tests.system.browser import DARK, DESKTOP, PHONE
from tests.system.page_looks import assert_fits, assert_in_order, assert_readable
from tests.written_runs import PNG, draw, log, score, write_run

pytestmark = pytest.mark.system

EVIL = "</script><!--<script><img src=x onerror=window.pwned=1>"


@pytest.fixture
def address(tmp_path: Path) -> str:
    run = write_run(tmp_path, f"data.path='{EVIL}javascript:window.pwned=2'", name="run")
    for step in range(5, 55, 5):
        log(run, step, d_real=1 / step, d_fake=0.2)
    for step in (10, 20, 30):
        draw(run, step)
    score(run, 50, 3.0, features=EVIL + "x" * 300)
    (run / "gallery").mkdir()
    (run / "gallery" / "samples.png").write_bytes(PNG)
    folder = RunFolder(run)
    write_report(folder, folder.experiment(), {"python": "3", EVIL: EVIL})
    return folder.report.as_uri()


def test_it_is_readable_on_a_phone_and_a_desktop_by_day_and_by_night(
    open_page: Callable[..., Any], address: str
) -> None:
    for view in (DESKTOP, DARK, PHONE):
        page = open_page(view)
        page.goto(address)
        assert_readable(page)
        assert_fits(page)
        assert_in_order(page)
        chart = page.get_by_role("img", name="Losses, over images. Newest values")
        assert chart.get_attribute("aria-label").endswith(
            "loss_discriminator 0.5, loss_generator 1"
        )


def test_what_is_in_a_run_is_text_and_its_samples_move_by_keyboard(page: Any, address: str) -> None:
    page.goto(address)
    assert page.locator("main").text_content().count(EVIL) == 4
    assert page.evaluate("window.pwned") is None
    assert page.locator("script").count() == 2

    slider = page.get_by_role("slider", name="Step")
    slider.focus()
    page.keyboard.press("Home")
    assert page.get_by_role("img", name="Grid of samples of step 10").is_visible()
    page.keyboard.press("Tab")
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Space")
    page.get_by_role("button", name="Pause").wait_for()
    page.get_by_role("img", name="Grid of samples of step 30").wait_for()

    page.get_by_text("Values").first.click()
    table = page.get_by_role("table", name="Losses")
    assert table.get_by_role("row").count() == 11
    assert table.get_by_role("columnheader").all_inner_texts() == [
        "images",
        "loss_discriminator",
        "loss_generator",
    ]


def test_a_script_that_came_into_the_page_would_not_run(
    open_page: Callable[..., Any], address: str
) -> None:
    """Behind the escaping stands the page's own policy."""
    page = open_page(DESKTOP, "Content Security Policy")
    page.goto(address)
    page.evaluate(
        "document.body.insertAdjacentHTML('beforeend', '<img src=data:, onerror=window.pwned=1>');"
        "document.body.append(Object.assign(document.createElement('script'),"
        "{textContent: 'window.pwned = 1'}))"
    )
    page.wait_for_timeout(100)
    assert page.evaluate("window.pwned") is None
