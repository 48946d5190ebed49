import json
import math
import os
import resource
import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ganscale.monitoring.grids import grid, show
from ganscale.monitoring.metrics_log import read_metrics
from ganscale.monitoring.pictures import columns_of_classes, save_grid
from ganscale.monitoring.trackers.json_lines import JsonLinesTracker
from ganscale.runs.report import write_report
from ganscale.runs.run_folder import RunFolder
from tests.conftest import tiny

METRICS = "metrics.jsonl"


def test_steps_after_the_checkpoint_are_logged_once(tmp_path: Path) -> None:
    first = JsonLinesTracker(tmp_path / METRICS, 0)
    for step in (1, 2, 3, 4):
        first.log(step, {"loss": step})
    first.finish()
    with (tmp_path / METRICS).open("a") as file:
        file.write('{"step": 5, "lo')  # killed while writing
    second = JsonLinesTracker(tmp_path / METRICS, 2)
    second.log(3, {"loss": 30})
    second.finish()
    read = [(m["step"], m["loss"]) for m in read_metrics(tmp_path / METRICS)]
    assert read == [(1, 1), (2, 2), (3, 30)]


def test_a_history_survives_a_resume_that_cannot_write_it(tmp_path: Path) -> None:
    first = JsonLinesTracker(tmp_path / METRICS, 0)
    for step in range(1, 201):
        first.log(step, {"loss": step})
    first.finish()
    before = (tmp_path / METRICS).read_bytes()
    child = os.fork()
    if child == 0:  # dies in the middle of the file, as at a kill or on a full disk
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, len(before) // 2))
        JsonLinesTracker(tmp_path / METRICS, 200)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGXFSZ
    assert (tmp_path / METRICS).read_bytes() == before
    again = JsonLinesTracker(tmp_path / METRICS, 100)
    again.log(101, {"loss": -1})
    again.finish()
    assert [m["step"] for m in read_metrics(tmp_path / METRICS)] == list(range(1, 102))


def test_a_grid_holds_each_image_in_its_place(tmp_path: Path) -> None:
    images = np.arange(5, dtype=np.uint8)[:, None, None, None] * np.ones((1, 130, 120, 3), np.uint8)
    path = save_grid(images * 50, tmp_path / "a" / "grid.png")
    picture = np.asarray(Image.open(path))
    assert picture.shape == (2 * 131 + 1, 3 * 121 + 1, 3)
    assert [picture[3, 121 * i + 3, 0] for i in range(3)] == [0, 50, 100]
    assert [picture[134, 121 * i + 3, 0] for i in range(3)] == [150, 200, 64]


@pytest.mark.parametrize(
    ("number", "side", "factor"),
    [(64, 28, 4), (64, 32, 3), (100, 28, 3), (2500, 28, 1), (4, 64, 2)],
)
def test_small_images_are_enlarged_by_whole_factors(number: int, side: int, factor: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (number, side, side, 1), np.uint8)
    picture = np.asarray(grid(images))
    columns = math.isqrt(number)
    assert picture.shape == (factor * (columns * (side + 1) + 1),) * 2
    pixels = picture[::factor, ::factor]
    assert np.array_equal(picture, pixels.repeat(factor, 0).repeat(factor, 1))
    assert np.array_equal(pixels[1 : 1 + side, 1 : 1 + side], images[0, :, :, 0])


@pytest.mark.parametrize(
    ("number", "classes", "columns"),
    [(64, 10, 10), (64, 3, 9), (64, 2, 8), (4, 1000, 1000), (64, None, None)],
)
def test_a_column_holds_one_class_and_the_grid_is_about_square(
    number: int, classes: int | None, columns: int | None
) -> None:
    assert columns_of_classes(number, classes) == columns


def test_channels_that_no_picture_has_are_shown_by_the_first_three() -> None:
    deep = np.random.default_rng(0).integers(0, 2**16, (2, 4, 6, 5), np.uint16)
    assert np.array_equal(show(deep), (deep[..., :3] / 257).round())
    two = show(deep[..., :2])
    assert np.array_equal(two[..., :2], show(deep)[..., :2])
    assert not two[..., 2].any()
    assert show(deep[..., :1]).shape == (2, 4, 6, 1)
    assert show(deep[..., :4]).shape == (2, 4, 6, 3)
    assert grid(deep).mode == "RGB"


def test_the_report_of_a_run_with_nothing_in_it(digits: Path, tmp_path: Path) -> None:
    experiment = tiny(digits, tmp_path, "runs='a <b>'")
    page = write_report(RunFolder(tmp_path), experiment, {"python": "3"}).read_text()
    assert "a &lt;b&gt;" in page
    assert "<svg" not in page
    assert "not evaluated" in page
    assert "The last checkpoint" in page
    assert "The best checkpoint" not in page


def test_the_report_shows_learning_rates_and_the_best_of_what_was_scored(
    digits: Path, tmp_path: Path
) -> None:
    lines = JsonLinesTracker(tmp_path / METRICS, 0)
    for step in (1, 2):
        rates = {"learning_rate_generator": 1e-3 / step, "learning_rate_discriminator": 2e-3}
        lines.log(step, {"images": 8 * step, "kid": 3.0 / step, **rates})
    lines.finish()
    scored = {"step": 2, "images": 16, "values": {"fid": 1.0}, "features": "a classifier's"}
    against = {"samples": 10, "real_samples": 10, "real_set": "digits"}
    RunFolder(tmp_path).evaluations.write_text(json.dumps(scored | against) + "\n")
    page = write_report(RunFolder(tmp_path), tiny(digits, tmp_path), {"python": "3"}).read_text()
    assert "<h3>Learning rates</h3>" in page
    assert "<h3>KID: lower is better</h3>" in page
    assert "</span>learning_rate_discriminator <b>0.002</b>" in page
    assert "The best checkpoint" in page
    # An older evaluation may lack the score that says which is best.
    RunFolder(tmp_path).evaluations.write_text(json.dumps(scored | against) + "\n")
    by_recall = tiny(digits, tmp_path, "evaluation.best=recall")
    page = write_report(RunFolder(tmp_path), by_recall, {"python": "3"}).read_text()
    assert "not evaluated" in page
    assert "The last checkpoint" in page
