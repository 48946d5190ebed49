"""A picture into a generator and out again."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ganscale.cli import main
from ganscale.library.generator import Generator
from ganscale.runs.projection import read_picture
from tests.runs.conditional import conditional_run


@pytest.fixture(scope="module")
def run(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return conditional_run(digits, tmp_path_factory.mktemp("projection"))


@pytest.fixture(scope="module")
def own(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A picture that the generator itself has made."""
    path = tmp_path_factory.mktemp("own") / "own.png"
    made = Generator.from_run(run, device="cpu").sample(4, seed=7)[3, 0]
    Image.fromarray(made.numpy()).save(path)
    return path


def test_its_own_picture_is_recovered(
    run: Path, own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["project", str(run), str(own), "--steps", "120", "--class", "3"]
    assert main([*line, "--out", str(tmp_path / "a.png")]) == 0
    first = capsys.readouterr().out
    assert first.splitlines()[1:] == [str(tmp_path / "a.png"), str(tmp_path / "a.npz")]
    assert " as class 3;" in first
    found = np.load(tmp_path / "a.npz")
    target = np.asarray(Image.open(own)).astype(float)

    def rmse(image: np.ndarray) -> float:  # type: ignore[type-arg]
        return float(np.sqrt(np.mean((image.astype(float) - target) ** 2)))

    error = rmse(found["images"][0, :, :, 0])
    assert error < 1.5
    assert f"(RMSE {error:.1f} of 255)" in first
    assert f"PSNR {20 * np.log10(255 / error):.1f} dB" in first
    assert found["labels"].tolist() == [3]
    # The latent in the file makes the image in the file.
    generator = Generator.from_run(run, device="cpu")
    latents, labels = (torch.from_numpy(found[name]) for name in ("latents", "labels"))
    again = generator.images(latents, labels)[0, 0].numpy()
    assert np.abs(again.astype(int) - found["images"][0, :, :, 0]).max() <= 1
    # The search has come much nearer than chance.
    nearest = float(first.split("random samples: ")[1].split("RMSE ")[1].split()[0])
    assert error < nearest / 3
    assert main(line) == 0  # the same again, in the run's own folder
    again_there = np.load(run / "projections" / "own.npz")
    assert np.array_equal(again_there["latents"], found["latents"])
    assert main([*line, "--seed", "1"]) == 0
    assert not np.array_equal(np.load(run / "projections" / "own.npz")["latents"], found["latents"])


def test_another_size_is_resized_as_packing_would(tmp_path: Path) -> None:
    wide = Image.new("RGB", (60, 28), "black")
    wide.paste("white", (16, 0, 44, 28))  # the centre
    wide.save(tmp_path / "wide.png")
    assert (read_picture(tmp_path / "wide.png", (1, 14, 14)) > 240).all()


def test_bad_pictures_and_names_get_one_message(
    run: Path, own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = tmp_path / "damaged.png"
    damaged.write_bytes(own.read_bytes()[:60])
    cases = {
        "there is no such file; name a picture": [str(tmp_path / "gone.png")],
        "cannot be read as a picture (": [str(damaged)],
        f"{tmp_path}: cannot be read as a picture": [str(tmp_path)],
        "--out x.gif: a projection must be a .png file": [str(own), "--out", "x.gif"],
        "cannot generate class 10": [str(own), "--class", "10"],
    }
    for message, words in cases.items():
        assert main(["project", str(run), *words]) == 1
        printed = capsys.readouterr()
        assert message in printed.err
        assert len(printed.err.strip().splitlines()) == 1
        assert not printed.out
