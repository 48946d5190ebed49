"""`ganscale watch` in a browser: seen, used, live, and safe from what runs are called."""

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ganscale.pages.watch.server import WatchServer, listen
from ganscale.pages.watch.watcher import Watcher
from tests.servers import running
from tests.system.browser import DARK, DESKTOP, PHONE
from tests.system.page_looks import assert_fits, assert_in_order, assert_readable
from tests.written_runs import draw, log, score, write_run

pytestmark = pytest.mark.system

EVIL = "<img src=x onerror=window.pwned=1>"
EVIL_NAME = '"><img src=x onerror=window.pwned=2>'
EVIL_METRIC = "<img src=x onerror=window.pwned=3>"


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    folder = tmp_path / "runs"
    for number, (name, seed) in enumerate({"first": 1, "second": 2, EVIL_NAME: 3}.items()):
        run = write_run(folder, f"seed={seed}", "data.path=javascript:window.pwned=4", name=name)
        for step in range(5, 55, 5):
            log(run, step, loss_generator=(number + 1) / step)
        draw(run, 10)
        draw(run, 20 * (number + 1))
        score(run, 50, 10.0 - number)
    log(folder / EVIL_NAME, 55, **{EVIL_METRIC: 1.0})
    score(folder / EVIL_NAME, 60, 5.0, features=EVIL)
    write_run(folder, name="broken").joinpath("experiment.yaml").write_text(f"'{EVIL}': ${{x}}")
    return folder


@pytest.fixture
def server(runs: Path) -> Iterator[WatchServer]:
    with running(listen("127.0.0.1", 38750, Watcher([runs]), [str(runs)])) as started:
        yield started


def visit(page: Any, server: WatchServer, address: str = "") -> Any:
    page.goto(f"http://127.0.0.1:{server.server_port}/{address}")
    page.locator(".line").first.wait_for(state="attached")
    return page


def chart(page: Any, metric: str) -> Any:
    return page.get_by_role("img", name=f"{metric}, newest values")


def test_it_is_readable_on_a_phone_and_a_desktop_by_day_and_by_night(
    open_page: Callable[..., Any], server: WatchServer
) -> None:
    for view in (DESKTOP, DARK, PHONE):
        page = visit(open_page(view), server)
        for name in ("All runs", "Scores of the runs", "Values of each run by their key"):
            page.get_by_role("table", name=name).wait_for()
        chart(page, "loss_generator").hover()
        assert_readable(page)
        assert_fits(page)
        assert_in_order(page)


def test_the_names_in_a_run_are_text_and_nothing_else(page: Any, server: WatchServer) -> None:
    visit(page, server, f"#metric=loss_generator&metric={EVIL_METRIC}")
    chart(page, EVIL_METRIC).focus()
    page.keyboard.press("End")
    page.locator("#grids button").first.click()
    page.keyboard.press("Escape")
    shown = page.locator("main").text_content()
    for evil in (EVIL, EVIL_NAME, EVIL_METRIC):
        assert evil in shown
    assert page.evaluate("window.pwned") is None
    assert page.locator("[onerror]").count() == 0


def test_it_is_used_with_the_mouse(page: Any, server: WatchServer) -> None:
    visit(page, server)
    loss = chart(page, "loss_generator")
    lines = loss.locator(".line")
    assert lines.count() == 3
    page.get_by_role("button", name="second", exact=True).click()
    assert lines.count() == 2
    page.get_by_role("row", name="first").get_by_role("checkbox").first.uncheck()
    page.get_by_role("button", name="first", exact=True).wait_for(state="detached")
    assert lines.count() == 1

    page.get_by_role("button", name="second", exact=True).click()
    box = loss.bounding_box()
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] / 3, middle)
    assert "images" in page.locator(".readout:visible").inner_text()
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 2 / 3, middle, steps=3)
    page.mouse.up()
    whole = page.get_by_role("button", name="Show all again")
    whole.click()
    assert whole.is_hidden()

    page.get_by_text("Steps", exact=True).click()
    page.get_by_label("Logarithmic").check()
    page.get_by_label("Smoothing").fill("0.9")
    page.get_by_text("Metrics", exact=True).click()
    page.get_by_label("Find").fill("second")
    assert page.get_by_role("checkbox", name="fid").is_hidden()
    page.get_by_label("Find").fill("d")
    page.get_by_role("checkbox", name="loss_discriminator").uncheck()
    loss.locator(".raw").first.wait_for(state="attached")
    assert "x=steps&log=1&smoothing=0.9" in page.url
    page.reload()
    page.locator(".raw").first.wait_for(state="attached")
    assert chart(page, "loss_discriminator").count() == 0
    assert page.get_by_role("button", name="first", exact=True).count() == 0


def test_it_is_used_with_the_keyboard_alone(page: Any, server: WatchServer) -> None:
    visit(page, server)
    heading = page.locator("#scores").get_by_role("button", name="fid")
    heading.focus()
    page.keyboard.press("Enter")
    assert page.get_by_role("columnheader", name="fid").get_attribute("aria-sort") == "ascending"
    rows = page.locator("#scores tbody tr")
    names = [row.get_by_role("rowheader").inner_text().strip() for row in rows.all()]
    assert names == [EVIL_NAME, "second", "first"]
    assert "(best)" in rows.nth(1).inner_text()  # the first was scored with other features

    chart(page, "loss_generator").focus()
    page.keyboard.press("Home")
    status = page.locator(".readout:visible")
    assert status.inner_text().splitlines()[0] == "40 images"
    page.keyboard.press("ArrowRight")
    assert status.inner_text().splitlines()[0] == "80 images"
    assert re.findall(r"\d\.\d+", status.inner_text()) == ["0.3", "0.2", "0.1"]
    page.keyboard.press("+")
    assert page.get_by_role("button", name="Show all again").is_visible()
    page.keyboard.press("Escape")

    time = page.get_by_role("slider", name="Images seen")
    time.focus()
    assert time.get_attribute("aria-valuetext") == "480 images"
    page.keyboard.press("Home")
    assert time.get_attribute("aria-valuetext") == "80 images"
    assert page.get_by_role("img", name="Samples of second after 80 images").count() == 1
    page.keyboard.press("ArrowRight")
    assert page.get_by_role("img", name="Samples of first after 160 images").count() == 1
    assert page.get_by_role("img", name="Samples of second after 80 images").count() == 1


def test_it_follows_runs_that_grow_appear_and_go(
    open_page: Callable[..., Any], runs: Path, tmp_path: Path
) -> None:
    page = open_page(DESKTOP, "ERR_INTERNET_DISCONNECTED")
    kept = tmp_path / "kept"
    runs.rename(kept)
    with running(listen("127.0.0.1", 38750, Watcher([runs]), [str(runs)])) as server:
        page.goto(f"http://127.0.0.1:{server.server_port}/")
        page.get_by_role("heading", name="No run yet").wait_for()
        kept.rename(runs)
        loss = chart(page, "loss_generator")
        loss.wait_for()
        page.evaluate("window.notReloaded = true")
        log(runs / "first", 60, loss_generator=0.0625)
        page.get_by_role("cell", name="60 of 100").wait_for()
        loss.and_(page.get_by_label("first 0.0625")).wait_for()
        shutil.rmtree(runs / "second")
        page.get_by_role("button", name="second", exact=True).wait_for(state="detached")
        assert page.evaluate("window.notReloaded")
        page.context.set_offline(True)
        page.get_by_text("does not answer").first.wait_for()
        page.context.set_offline(False)
        page.get_by_text("Live, updated").wait_for()
