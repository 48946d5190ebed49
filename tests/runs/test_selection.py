"""`ganscale sample`: which samples stand where, in files and in grids."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ganscale.cli import main
from ganscale.library.generator import Generator
from tests.runs.conditional import conditional_run

SIDE = 28


@pytest.fixture(scope="module")
def run(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return conditional_run(digits, tmp_path_factory.mktemp("selection"))


@pytest.fixture(scope="module")
def generator(run: Path) -> Generator:
    return Generator.from_run(run, device="cpu")


def image_of(generator: Generator, seed: int, label: int) -> Any:
    return generator.sample(1, seed=seed, label=label)[0, 0].int().numpy()


def near(found: Any, wanted: Any) -> bool:
    """Whether two images are equal, but for the rounding of batches of another size."""
    return bool(np.abs(np.asarray(found).astype(int) - wanted).max() <= 1)


def cell(path: Path, row: int, column: int) -> Any:
    """An image of a grid, whose small images are enlarged fourfold with a border of one pixel."""
    pixels = np.asarray(Image.open(path))
    columns = round((pixels.shape[1] / 4 - 1) / (SIDE + 1))
    rows = round((pixels.shape[0] / 4 - 1) / (SIDE + 1))
    assert row < rows, (rows, columns)
    assert column < columns, (rows, columns)
    top, left = (1 + row * (SIDE + 1)) * 4, (1 + column * (SIDE + 1)) * 4
    return pixels[top : top + SIDE * 4 : 4, left : left + SIDE * 4 : 4]


def test_a_folder_names_seed_and_class(run: Path, generator: Generator, tmp_path: Path) -> None:
    out = tmp_path / "images"
    assert main(["sample", str(run), "--seeds", "3,12-13", "--out", str(out)]) == 0
    names = ["seed0003-class03.png", "seed0012-class02.png", "seed0013-class03.png"]
    assert sorted(path.name for path in out.iterdir()) == names
    assert near(Image.open(out / names[1]), image_of(generator, 12, 2))
    assert main(["sample", str(run), "--seeds", "12", "--class", "5", "--out", str(out)]) == 0
    assert near(Image.open(out / "seed0012-class05.png"), image_of(generator, 12, 5))
    assert main(["sample", str(run), "--seed", "4", "--num", "2", "--out", str(out)]) == 0
    second = generator.sample(2, seed=4)[1, 0].int().numpy()
    assert near(Image.open(out / "seed0004-00001-class01.png"), second)


def test_a_class_sweep_has_a_row_for_each_class(
    run: Path, generator: Generator, tmp_path: Path
) -> None:
    grid, out = tmp_path / "grid.png", tmp_path / "sweep.npz"
    line = ["sample", str(run), "--seeds", "1,5,9", "--class", "7,0-2"]
    assert main([*line, "--grid", str(grid), "--out", str(out)]) == 0
    for row, label in enumerate((7, 0, 1, 2)):
        for column, seed in enumerate((1, 5, 9)):
            assert near(cell(grid, row, column), image_of(generator, seed, label))
    saved = np.load(out)
    assert saved["labels"].tolist() == [7] * 3 + [0] * 3 + [1] * 3 + [2] * 3
    assert near(saved["images"][4, :, :, 0], image_of(generator, 5, 0))


def test_a_mix_stands_between_its_seeds(run: Path, generator: Generator, tmp_path: Path) -> None:
    grid, out = tmp_path / "grid.png", tmp_path / "images"
    line = ["sample", str(run), "--seeds", "1,2", "--mix", "3-5"]
    assert main([*line, "--grid", str(grid), "--out", str(out)]) == 0
    assert len(list(out.iterdir())) == 2 + 3 + 2 * 3
    assert len(np.unique(cell(grid, 0, 0))) == 1
    mixed = generator.mix([1, 2], [3, 4, 5])[:, :, 0].int().numpy()
    for i, row in enumerate((1, 2), start=1):
        assert near(cell(grid, i, 0), image_of(generator, row, row))
        for j, column in enumerate((3, 4, 5), start=1):
            assert near(cell(grid, 0, j), image_of(generator, column, column))
            assert near(cell(grid, i, j), mixed[i - 1, j - 1])
    file = out / "seed0002-seed0004-class02.png"
    assert near(Image.open(file), mixed[1, 1])


def test_a_walk_passes_its_seeds(run: Path, generator: Generator, tmp_path: Path) -> None:
    path = tmp_path / "walk.png"
    assert main(["sample", str(run), "--seeds", "4,1,8", "--interpolate", str(path)]) == 0
    columns = 12
    pixels = np.asarray(Image.open(path))
    factor = pixels.shape[1] // (columns * (SIDE + 1) + 1)

    def frame(row: int, column: int) -> Any:
        top, left = 1 + row * (SIDE + 1), 1 + column * (SIDE + 1)
        return pixels[::factor, ::factor][top : top + SIDE, left : left + SIDE]

    for row, (first, last) in enumerate(((4, 1), (1, 8))):
        assert near(frame(row, 0), image_of(generator, first, 4))
        assert near(frame(row, columns - 1), image_of(generator, last, 4))
    loop = tmp_path / "walk.gif"
    assert main(["sample", str(run), "--seeds", "4,1,8", "--interpolate", str(loop)]) == 0
    assert getattr(Image.open(loop), "n_frames", 1) > columns


WRONG = {
    "--num counts the samples of --seed": ["--seeds", "1", "--num", "2", "--grid", "x.png"],
    "--mix needs --seeds": ["--mix", "1", "--grid", "x.png"],
    "--mix makes a grid of seeds": ["--seeds", "1", "--mix", "1", "--class", "1,2", "--grid", "x"],
    "--interpolate takes one --class": ["--class", "1,2", "--interpolate", "x.png"],
    "--interpolate needs two --seeds": ["--seeds", "1", "--interpolate", "x.png"],
    "--out x.zip: must be FILE.npz, or a folder": ["--out", "x.zip"],
    "cannot generate class 10": ["--class", "0-10", "--grid", "x.png"],
    "say what to write": ["--seeds", "1"],
}


@pytest.mark.parametrize("message", WRONG)
def test_options_that_contradict_each_other(
    run: Path, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sample", str(run), *WRONG[message]]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--seeds", "3-1", "argument --seeds: the range '3-1' must go up"),
        ("--seeds", "1,x", "argument --seeds: must be whole numbers and ranges such as 3,7,10-12"),
        ("--seeds", "0-1000000", "at most 1,000,000"),
        ("--truncation", "0", "argument --truncation: must be a number above 0, not '0'"),
        ("--truncation", "nan", "argument --truncation: must be a number above 0, not 'nan'"),
    ],
)
def test_bad_values_name_their_option(
    run: Path, option: str, value: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["sample", str(run), option, value, "--grid", "x.png"])
    assert message in capsys.readouterr().err
