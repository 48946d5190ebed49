"""`ganscale explore` in a real browser, and the Space that is made of the same page."""

import base64
import io
import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ganscale.errors import GanscaleError
from ganscale.library.generator import Generator
from ganscale.pages.explore.space import GRADIO, export_space
from tests.runs.conditional import conditional_run
from tests.system.browser import DARK, DESKTOP, PHONE, View

pytestmark = pytest.mark.system
pytest.importorskip("gradio")
WITHOUT = (
    "import runpy, sys; sys.modules['torch'] = None; sys.modules['ganscale'] = None;"
    "sys.path.insert(0, ''); runpy.run_path('app.py', run_name='__main__')"
)
SEED_11 = {"name": re.compile("^Seed 11")}


@pytest.fixture(scope="module")
def run(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return conditional_run(digits, tmp_path_factory.mktemp("explored"))


@pytest.fixture(scope="module")
def asked() -> set[str]:
    """The addresses other than this machine's that the serving process has connected to."""
    return set()


@pytest.fixture(scope="module")
def address(run: Path, asked: set[str]) -> Iterator[str]:
    from ganscale.pages.explore.serve import serve

    connect = socket.socket.connect

    def noting(self: socket.socket, to: Any) -> None:
        if isinstance(to, tuple) and to[0] != "127.0.0.1":
            asked.add(str(to))
        connect(self, to)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", noting)
        page = serve(run)
        yield page.local_url
        page.close(verbose=False)


def images_in(page: Any, selector: str) -> list[np.ndarray]:
    """The images that the page shows now, decoded."""
    sources = page.locator(f"{selector}:visible").evaluate_all("images => images.map(i => i.src)")
    data = [base64.b64decode(source.partition("base64,")[2]) for source in sources]
    return [np.asarray(Image.open(io.BytesIO(content)), int) for content in data]


def opened(page: Any, address: str) -> Any:
    page.goto(address)
    page.get_by_role("button", **SEED_11).wait_for()
    return page


def test_everything_is_clicked_dragged_and_saved(address: str, run: Path, page: Any) -> None:
    opened(page, address)
    generator = Generator.from_run(run)
    wanted = generator.sample(seeds=range(64)).numpy()[:, 0]
    assert np.array_equal(images_in(page, ".gs-cell img"), wanted)

    page.get_by_role("button", **SEED_11).click()
    details = page.locator(".gs-details:visible").first
    details.get_by_role("heading", name="Seed 11").wait_for()
    assert "ganscale sample" in details.inner_text()
    assert re.search(r"[+-]\d+\.\d\d", details.inner_text())
    page.get_by_role("button", name="Find the nearest real images").click()
    page.get_by_role("img", name="Real image 8").wait_for(timeout=120_000)  # features first

    with page.expect_download() as saved:
        page.get_by_role("button", name="Save PNG").click()
    assert saved.value.suggested_filename == "tiny-seeds-0-63.png"
    assert Image.open(saved.value.path()).size == (8 * 4 * 29 + 4,) * 2

    page.get_by_label("Class", exact=True).click()
    page.get_by_role("option", name="4", exact=True).click()
    page.get_by_role("button", name="Seed 11, class 4").wait_for()
    wanted = generator.sample(seeds=range(64), label=4).numpy()[:, 0]
    assert np.array_equal(images_in(page, ".gs-cell img"), wanted)

    page.get_by_role("button", name="Next seeds").click()
    page.get_by_role("button", name="Seed 64, class 4").wait_for()
    page.get_by_role("tab", name="Walk").click()
    page.get_by_role("img", name="Seed 0").wait_for()
    slider = page.get_by_role("slider", name=re.compile("Position on the walk"))
    box = slider.bounding_box()
    page.mouse.move(box["x"] + 8, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, steps=12)
    page.mouse.up()
    page.get_by_role("img", name=re.compile("From seed 1 to seed 2: [45]. %")).wait_for()
    for kind, frames in (("GIF", 96), ("MP4", 96)):
        with page.expect_download() as saved:
            page.get_by_role("button", name=f"Save {kind}").click()
        assert saved.value.suggested_filename == f"tiny-walk.{kind.lower()}"
        assert _frames(Path(saved.value.path()), kind) == frames
    page.get_by_role("textbox", name="Seeds of the walk").fill("7, x")
    page.get_by_role("alert").filter(has_text="whole numbers").wait_for()  # once, not twice

    page.get_by_role("tab", name="Timeline").click()
    page.get_by_label("Compare average and raw weights").check()
    page.get_by_role("heading", name="Step 2, raw").wait_for()


def test_the_keyboard_reaches_everything(address: str, page: Any) -> None:
    opened(page, address)
    first = page.get_by_role("button", name=re.compile("^Seed 0,"))
    first.focus()
    for key in ("ArrowRight", "ArrowDown", "ArrowRight", "ArrowRight"):
        page.keyboard.press(key)
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Seed 11").wait_for()
    page.keyboard.press("Tab")  # out of the grid, past its other images
    assert (
        page.evaluate("document.activeElement.ariaLabel || document.activeElement.id") is not None
    )
    assert "Seed" not in (page.evaluate("document.activeElement.getAttribute('aria-label')") or "")
    page.get_by_role("tab", name="Grid").focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.get_by_role("img", name="Seed 0").wait_for()
    page.get_by_role("slider", name=re.compile("Position on the walk")).focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    page.get_by_role("img", name=re.compile("From seed 0 to seed 1: 3 %")).wait_for()


@pytest.mark.parametrize("view", [PHONE, DESKTOP, DARK], ids=["phone", "desktop", "dark"])
def test_it_fits(address: str, open_page: Callable[..., Any], view: View) -> None:
    page = opened(open_page(view), address)
    assert page.evaluate("document.documentElement.scrollWidth") <= view.width
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    shade = sum(map(int, re.findall(r"\d+", background)[:3])) / 3
    assert shade < 60 if view.dark else shade > 200
    unnamed = page.locator("input:visible, button:visible, select:visible").evaluate_all(
        "all => all.filter(e => !(e.ariaLabel || e.innerText.trim() || e.labels?.length"
        " || e.getAttribute('aria-labelledby') || e.title)).map(e => e.outerHTML)"
    )
    assert unnamed == []


def test_it_gives_out_nothing_else_and_asks_nobody(
    address: str, run: Path, asked: set[str]
) -> None:
    experiment = (run / "experiment.yaml").resolve()
    for path in (
        f"gradio_api/file={experiment}",
        "gradio_api/file=/etc/passwd",
        "gradio_api/proxy=http://127.0.0.1:1/",
        "gradio_api/upload",
        "gradio_api/queue/join",
        "monitoring/summary",
    ):
        for data in (None, b"{}"):
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(address + path, data)
            assert refused.value.code == 404
    foreign = urllib.request.Request(address, headers={"Host": "evil.example:7860"})
    with pytest.raises(urllib.error.HTTPError):
        urllib.request.urlopen(foreign)
    html = urllib.request.urlopen(address)
    assert b"The first images are being made" in html.read()  # before any answer has come
    assert "default-src 'self'" in html.headers["content-security-policy"]
    assert address.startswith("http://127.0.0.1:")
    assert asked == set()


def test_a_taken_port_is_said_before_anything_is_opened(tmp_path: Path) -> None:
    from ganscale.pages.explore.serve import serve

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(GanscaleError, match=rf"port {port}: .*--port"):
            serve(tmp_path, port=port)


def test_a_space_makes_the_library_s_images_without_it(
    run: Path, tmp_path: Path, page: Any
) -> None:
    pytest.importorskip("onnxscript")
    folder = export_space(run, "latest", tmp_path / "space").parent
    assert f"sdk_version: {GRADIO}" in (folder / "README.md").read_text()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "GRADIO_SERVER_PORT": str(port), "PYTHONPATH": ""}
    log = (tmp_path / "log").open("w")
    app = subprocess.Popen(
        [sys.executable, "-c", WITHOUT], cwd=folder, env=environment, stdout=log, stderr=log
    )
    try:
        _wait_for(port, app)
        opened(page, f"http://127.0.0.1:{port}/")
        shown = np.stack(images_in(page, ".gs-cell img"))
        assert not page.get_by_role("tab", name="Timeline").is_visible()
        assert page.get_by_text("No truncation").is_visible()
        page.goto("about:blank")  # it must not see the server end
    finally:
        app.kill()
        app.wait()
    wanted = Generator.from_run(run).sample(seeds=range(64)).int().numpy()[:, 0]
    # Sums of floating-point numbers in another order may round to the neighbouring value.
    assert np.abs(shown - wanted).max() <= 1
    assert (shown == wanted).mean() > 0.99


def _wait_for(port: int, app: "subprocess.Popen[Any]") -> None:
    for _ in range(600):
        assert app.poll() is None
        with socket.socket() as tried:
            if tried.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise AssertionError("the Space did not start within a minute")


def _frames(path: Path, kind: str) -> int:
    if kind == "GIF":
        return int(Image.open(path).n_frames)
    import av

    with av.open(str(path)) as film:
        return len(list(film.decode(video=0)))
