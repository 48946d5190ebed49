"""How long `ganscale watch` takes: to its first answer, with a hundred runs, with a long log.

    python bench/watch.py

It writes the run folders itself, and asks a server of its own as the page does. Beside its figures
stand those of something known, measured just before: importing PyTorch, and reading the same log
with `json.loads` alone.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from ganscale.config.load import load, to_yaml

METRICS = [
    *("loss_discriminator", "loss_generator", "d_real", "d_fake", "d_accuracy", "penalty_r1"),
    *("gradient_norm_discriminator", "gradient_norm_generator", "seconds_step", "seconds_data"),
    *("learning_rate_discriminator", "learning_rate_generator", "images_per_second"),
]
DRAWN = METRICS[:4]
PORT = 38800


def write_run(run: Path, lines: int) -> None:
    run.mkdir(parents=True)
    (run / "experiment.yaml").write_text(to_yaml(load(None, [f"name={run.name}", "data.path=x"])))
    add_lines(run, 1, lines)


def add_lines(run: Path, first: int, lines: int) -> None:
    with (run / "metrics.jsonl").open("a") as file:
        for step in range(first, first + lines):
            values = dict.fromkeys(METRICS, 1.0 + (step * 7919 % 1000) / 1234.567)
            file.write(json.dumps({"step": step, "images": 64 * step, **values}) + "\n")


class Page:
    """Asks the server as the page does, and counts seconds and bytes."""

    def __init__(self, port: int):
        self._connection = HTTPConnection("127.0.0.1", port)
        self._headers = {"Accept-Encoding": "gzip"}
        self._runs_at = self._curves_at = 0
        self.seconds = 0.0
        self.bytes = 0

    def get(self, path: str) -> bytes:
        start = time.perf_counter()
        self._connection.request("GET", path, headers=self._headers)
        content = self._connection.getresponse().read()
        self.seconds += time.perf_counter() - start
        self.bytes += len(content)
        return content

    def _json(self, path: str) -> Any:
        import gzip

        content = self.get(path)
        return json.loads(gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content)

    def follow(self, shown: int) -> None:
        """Ask until all has come, as a page does when it opens and then every two seconds."""
        self.seconds, self.bytes = 0.0, 0
        metrics = "".join(f"&metric={name}" for name in DRAWN)
        while True:
            runs = self._json(f"/runs?since={self._runs_at}")
            self._runs_at = runs["now"]
            numbers = "".join(f"&run={number}" for number in runs["runs"][:shown])
            curves = self._json(f"/curves?since={self._curves_at}&x=images{numbers}{metrics}")
            self._curves_at = curves["now"]
            if not runs["more"] and not curves["more"]:
                return


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure(folder: Path, shown: int, grown: Path) -> None:
    torch = timed(lambda: subprocess.run([sys.executable, "-c", "import torch"], check=True))
    command = [sys.executable, "-m", "ganscale", "watch", str(folder), "--port", str(PORT)]
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            said = server.stdout.readline()
            page = Page(int(said.split("/")[2].split(":")[1]))
            page.get("/")
            first = time.perf_counter() - start
            print(f"  first page after {first:.2f} s ({first / torch:.2f} of `import torch`)")
            page.follow(shown)
            print(f"  everything drawn: {page.seconds:.2f} s, {page.bytes / 1000:,.0f} kB")
            time.sleep(1.1)
            page.follow(shown)
            print(f"  nothing new: {page.seconds * 1000:.0f} ms, {page.bytes / 1000:.1f} kB")
            add_lines(grown, 10**6, 1)
            time.sleep(1.1)
            page.follow(shown)
            print(f"  one new line: {page.seconds * 1000:.0f} ms, {page.bytes / 1000:.1f} kB")
        finally:
            server.terminate()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=100, help="folders of runs (100)")
    parser.add_argument("--lines", type=int, default=100_000, help="lines of a log (100,000)")
    options = parser.parse_args()
    runs, lines = options.runs, options.lines
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number in range(runs):
            write_run(folder / "many" / f"run-{number:03d}", 1000)
        write_run(folder / "one" / "long", lines)
        log = folder / "one" / "long" / "metrics.jsonl"
        print(f"{runs} runs of 1,000 lines, 8 of them drawn:")
        measure(folder / "many", 8, folder / "many" / "run-000")
        print(f"a log of {lines:,} lines, {log.stat().st_size / 1e6:.0f} MB:")
        alone = timed(lambda: [json.loads(line) for line in log.open("rb")])
        print(f"  json.loads alone: {alone:.2f} s")
        measure(folder / "one", 1, folder / "one" / "long")


if __name__ == "__main__":
    main()
