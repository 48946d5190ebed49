"""README's commands, typed by someone who has just cloned the repository.

They are parsed out of README.md itself, so that a command which is changed there is typed as it
then is; a line of a new kind fails until `SAYS` knows it. `SHORTER` and `FREE_PORT` are all that is
typed differently. A line that needs the network or GPUs cannot be run on every machine:
`checked_only` names these, and tests/test_pages.py parses them with all other pages.
"""

import os
import re
import shlex
import subprocess
import sys
import textwrap
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from accelerate.state import AcceleratorState
from PIL import Image

from ganscale.cli import EPILOG, _parser, main
from ganscale.config.load import load
from tests.system.processes import ROOT, environment

pytestmark = pytest.mark.system

SHORTER: dict[str, list[str]] = {
    "train": ["train.steps=4", "train.batch_size=8", "evaluation.samples=100"],
    "train photos.yaml": ["train.steps=4", "train.batch_size=8", "evaluation.every=null"],
    "evaluate": ["--num", "100"],
    "submit": ["--dry-run"],
    "profile": ["--steps", "1"],
}
"""What is typed after a command's own words, so that it takes seconds on one CPU core; the scores
of images of 64 pixels would take longer."""
FREE_PORT = ["--main_process_port=0"]
"""What is typed after `accelerate launch`: other tests may train at the same time."""

SAYS = {
    "init": "my_gan: a project of",
    "configure": "wrote photos.yaml",
    "pack photos.zip": "12 images of 64×64",
    "train": "checkpoints/step-00000004",
    "runs": "mnist_mlp",
    "sample runs/photos": "photos.png",
    "sample": "grid.png",
    "evaluate": "FID",
    "export": "runs/mnist_mlp/exports/onnx",
    "profile": "discriminator, backward",
    "plan": "32 × A100-80GB",
    "submit": "--gpus-per-node=8",
    "config --explain": "Images",
    "config": "batch_size: 128",
    "completion": "complete -o bashdefault",
    "doctor": "torchvision matches torch",
}
"""A part of what each command says, by its first words."""

README = (ROOT / "README.md").read_text()
BLOCKS = [textwrap.dedent(b) for b in re.findall(r"(?:^ {4}.*\n|^\n)+", README, re.MULTILINE)]
EXPERIMENT = next(block for block in BLOCKS if block.lstrip().startswith("name:"))
LINES = [
    words
    for block in BLOCKS
    if block is not EXPERIMENT
    for line in block.splitlines()
    if (words := shlex.split(line, comments=True))
]
IN_PROSE = [words.split() for words in re.findall(r"`(ganscale [^`]+)`", README)]


def checked_only(words: list[str]) -> str | None:
    """Why a line of README is parsed and not run; None where it is run."""
    if words[0] == "pip":
        return "the wheel has a test of its own"
    if words[0] in ("source", "./launch/quickstart.sh", "./launch/test.sh"):
        return "CI itself, and the quickstart has a test of its own"
    if words[1] in ("watch", "explore"):
        return "it serves until Ctrl-C, and its page has a test of its own"
    if "--download" in words or any("://" in word for word in words):
        return "needs the network"
    if words[0] == "accelerate" and "launch/accelerate/cpu_ddp.yaml" not in words:
        return "needs GPUs"
    return None


RUN = [words for words in LINES if checked_only(words) is None]


@pytest.fixture(scope="module")
def clone(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The working tree's files that commands read, with MNIST stood in for by digits."""
    folder = tmp_path_factory.mktemp("clone")
    for name in ("configs", "launch", "slurm"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "data").mkdir()
    (folder / "data" / "mnist").symlink_to(digits)
    noise = np.random.default_rng(0)
    (folder / "photos").mkdir()
    with zipfile.ZipFile(folder / "photos.zip", "w") as archive:
        for i in range(12):
            pixels = noise.integers(0, 256, (90, 120, 3), dtype=np.uint8)
            path = folder / "photos" / f"{i}.jpg"
            Image.fromarray(pixels).save(path)
            archive.write(path, path.name)
            Image.fromarray(pixels[:20, :20]).save(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("WANDB_MODE", "disabled")
        patch.setenv("HOME", str(folder))  # has the cache
        yield folder


def typed(words: list[str], capfd: pytest.CaptureFixture[str]) -> str:
    """Run a line as it stands, made shorter; returns all that it prints."""
    command = words[words.index("ganscale") + 1]
    shorter = SHORTER.get(" ".join(words[1:3])) or SHORTER.get(command, [])
    line = [*words, *shorter]
    if words[0] == "accelerate":
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # as in an active .venv
        line[2:2] = FREE_PORT
        subprocess.run(line, env=environment(PATH=path), timeout=900, check=True)
    else:
        AcceleratorState._reset_state(reset_partial_state=True)  # each command is a process
        assert main(line[1:]) == 0
    captured = capfd.readouterr()
    return captured.out + captured.err


def promised(words: list[str]) -> str:
    """What SAYS holds for this command."""
    line = " ".join(words).rpartition("ganscale ")[2]
    return next(text for begin, text in SAYS.items() if line.startswith(begin))


@pytest.mark.parametrize("words", RUN, ids=" ".join)
def test_a_command_works_as_typed(
    clone: Path, words: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert promised(words) in typed(words, capfd)


def test_the_example_of_help_works_as_typed(
    clone: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (clone / "elsewhere").mkdir()
    monkeypatch.chdir(clone / "elsewhere")
    (clone / "elsewhere" / "photos").symlink_to(clone / "photos")
    lines = [shlex.split(line, comments=True) for line in EPILOG.splitlines()[1:]]
    assert [words[1] for words in lines] == ["configure", "train", "sample"]
    for words in lines:
        assert promised(words) in typed(words, capfd)


def test_no_command_meets_the_run_of_another() -> None:
    """A line that finds the run of a line before it would say that it is done, or refuse."""
    options = [_parser().parse_args(w[w.index("train") :]) for w in LINES if "train" in w]
    shipped = [o for o in options if (ROOT / o.experiment).exists()]
    folders = [load(ROOT / o.experiment, o.overrides).folder for o in shipped]
    folders += [Path("runs", o.experiment.stem) for o in options if o not in shipped]
    assert len(set(folders)) == len(folders) > 5


def test_what_is_packed_is_what_experiments_read() -> None:
    packed = {words[3] for words in LINES if words[:2] == ["ganscale", "pack"]}
    experiments = [word for words in LINES for word in words if word.endswith(".yaml")]
    read = {load(ROOT / e).data.path for e in experiments if e.startswith("configs/")}
    read.add(load(ROOT / "configs" / "folder_dcgan64.yaml").data.path)
    assert packed == read


def test_the_experiment_of_readme_is_valid(clone: Path) -> None:
    file = clone / "example.yaml"
    file.write_text(EXPERIMENT)
    experiment = load(file)
    assert experiment.data.path == load(ROOT / "configs" / "folder_dcgan64.yaml").data.path
    assert experiment.name == "photos"


@pytest.mark.parametrize("words", IN_PROSE, ids=" ".join)
def test_a_command_in_the_prose_works(
    clone: Path, words: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    meant = {"FILE": "configs/mnist_mlp.yaml", "KEY": "train.batch_size"}
    line = [meant.get(word, word) for word in words]
    assert promised(line) in typed(line, capfd)


def test_every_command_has_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    commands = re.findall(r"^    ([a-z]+)  ", capsys.readouterr().out, re.MULTILINE)
    assert {"pack", "train", "sample", "doctor"} <= set(commands)
    for command in commands:
        with pytest.raises(SystemExit) as ended:
            main([command, "--help"])
        assert ended.value.code == 0
