"""How soon a picture follows what is done on the page of `ganscale explore`, in a real browser.

    python bench/explore.py runs/mnist_dcgan_conditional_cpu

Each time is from the event in the page (`input` of a slider, a click) to the frame that shows the
changed pictures, decoded. Beside it stands the time that the generator alone takes for the same
images, in the same process and right after. It needs a chromium and the extra `dev`.
"""

import argparse
import shutil
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ganscale.library.generator import Generator
from ganscale.pages.explore.serve import serve

MOVES = 20
WATCH = """async ([target, event]) => {
  const shown = () => document.querySelector(`${target} img`)?.src;
  const before = shown();
  let started = null;
  const start = () => { started = performance.now(); };  // the last click, where it takes two
  document.addEventListener(event, start, { capture: true });
  window.changed = new Promise((resolve) => {
    const look = async () => {
      if (started === null || shown() === before) return requestAnimationFrame(look);
      await Promise.all([...document.querySelectorAll(`${target} img`)].map((i) => i.decode()));
      requestAnimationFrame(() => {
        document.removeEventListener(event, start, { capture: true });
        resolve(performance.now() - started);
      });
    };
    requestAnimationFrame(look);
  });
}"""
WALK, GRID = ".gs-walk", ".gs-picture:not(.hide)"


def measure(page: Any, target: str, event: str, act: Callable[[int], None]) -> list[float]:
    """Return the milliseconds from an event to the changed picture, for each of several moves."""
    times = []
    for i in range(MOVES + 2):
        page.evaluate(WATCH, [target, event])
        act(i)
        times.append(float(page.evaluate("window.changed")))
        page.wait_for_timeout(30)
    return times[2:]  # the first ones load a network, or compute its statistics


def alone(make: Callable[[], Any]) -> float:
    """Return the milliseconds that a generator alone takes."""
    make()
    times = []
    for _ in range(MOVES):
        started = time.perf_counter()
        make()
        times.append(1000 * (time.perf_counter() - started))
    return statistics.median(times)


def say(what: str, times: list[float], generator_ms: float) -> None:
    """Print a line of the table."""
    middle, worst = statistics.median(times), max(times)
    print(
        f"{what:<42} median {middle:4.0f} ms, slowest {worst:4.0f} ms; "
        f"{middle / generator_ms:4.1f} times the generator's {generator_ms:.0f} ms",
        flush=True,
    )


def main(run: Path) -> None:
    from playwright.sync_api import sync_playwright

    blocks = serve(run)
    generator = Generator.from_run(run)
    one, many = alone(lambda: generator.sample(seeds=[1])), alone(lambda: generator.sample(64))
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        page = chromium.new_page(viewport={"width": 1440, "height": 900})
        page.goto(blocks.local_url)
        page.locator(".gs-cell").first.wait_for()
        if generator.about.classes and generator.mixes_classes:
            page.get_by_label("Mix with class").click()
            page.get_by_role("option", name="8").click()
            share = page.get_by_role("slider", name="Share of the mixed-in class")
            share.focus()
            act = share.press
            times = measure(page, GRID, "input", lambda _: act("ArrowRight"))
            say("64 pictures, a step of the share of a class", times, many)
            page.get_by_label("Mix with class").click()
            page.get_by_role("option", name="None").click()
            page.get_by_role("option").first.wait_for(state="detached")
        if generator.about.classes:
            label = page.get_by_label("Class", exact=True)

            def choose(i: int) -> None:  # not 0 first, the class that seed 0 has anyway
                label.click()
                page.get_by_role("option", name=str(1 + i % 9), exact=True).click()

            say("64 pictures, another class", measure(page, GRID, "mousedown", choose), many)
        thresholds = ("1", "0.5")
        times = measure(
            page,
            GRID,
            "click",
            lambda i: page.get_by_role("radio", name=thresholds[i % 2], exact=True).check(),
        )
        say("64 pictures, another truncation", times, many)
        page.get_by_role("radio", name="Off").check()
        page.get_by_role("tab", name="Walk").click()
        page.locator(".gs-large").wait_for()
        position = page.get_by_role("slider", name="Position on the walk")
        position.focus()
        times = measure(page, WALK, "input", lambda _: position.press("ArrowRight"))
        say("the walk's picture, a step of the slider", times, one)
        chromium.close()
    blocks.close(verbose=False)
    print(f"PyTorch {torch.__version__}, {torch.get_num_threads()} threads, {generator.device}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("run", type=Path, help="run folder")
    main(parser.parse_args().run)
    sys.stdout.flush()
