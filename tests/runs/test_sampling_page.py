"""Every command and every line of code of docs/sampling.md is run as it stands."""

import shutil
from pathlib import Path

import pytest
from PIL import Image

import ganscale.commands.project
from ganscale.cli import main
from ganscale.config import Experiment
from ganscale.library.generator import Generator
from ganscale.training.trainer import train
from tests.conftest import tiny
from tests.written_pages import blocks

PAGE = "docs/sampling.md"
COMMANDS = [words for code in blocks(PAGE) if not code.language for words in code.commands()]
CODE = [code.text for code in blocks(PAGE) if code.language == "python"]
MADE = {"--out": "images/seed0003.png", "--grid": "", "--interpolate": ""}
"""What an option's file or folder holds."""


@pytest.fixture(scope="module")
def place(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the runs that the page names, and a picture."""
    folder = tmp_path_factory.mktemp("page")
    plain = tiny(digits, folder, "train.steps=1", "name=mnist_mlp")
    values = plain.model_dump(mode="json")
    values |= {"name": "mnist_dcgan_conditional"}
    values["data"]["classes"] = 10
    network = {"architecture": "dcgan", "width": 4}
    values["generator"]["network"] = values["discriminator"]["network"] = network
    for experiment in (plain, Experiment.model_validate(values)):
        train(experiment)
    made = Generator.from_run(plain.folder, device="cpu").sample(1, seed=5)[0, 0]
    Image.fromarray(made.numpy()).save(folder / "picture.png")
    return folder


def test_the_page_has_commands_and_code() -> None:
    assert {words[1] for words in COMMANDS} == {"sample", "project"}
    assert len(COMMANDS) >= 7
    assert CODE


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_command_works_as_typed(
    place: Path,
    words: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setattr(ganscale.commands.project, "STEPS", 20)
    shutil.rmtree("images", ignore_errors=True)
    assert main(words[1:]) == 0
    printed = capsys.readouterr().out.splitlines()
    for option, inside in MADE.items():
        if option in words:
            path = words[words.index(option) + 1]
            assert path in printed
            assert Image.open(inside or path).size[0] >= 28
    if words[1] == "project":
        assert printed[0].startswith("PSNR")
        assert printed[1:] == [
            f"runs/mnist_mlp/projections/picture.{end}" for end in ("png", "npz")
        ]


@pytest.mark.parametrize("code", CODE)
def test_code_works_as_typed(place: Path, code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    exec(code, {})
