"""What can be known of a documented command without running it, by the first of its words.

`CHECKS` says which commands there may be. Each check raises if a command names an option, a file or
a key that does not exist. They run in the root of the repository.
"""

import argparse
import contextlib
import importlib
import io
import itertools
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import launch_command_parser
from torch.distributed.run import get_args_parser as torchrun_parser

from ganscale.cli import _parser
from ganscale.config.keys import sections
from ganscale.config.load import load
from ganscale.engines.launcher import ENGINES
from ganscale.runs.sweep import Sweep
from tests.written_pages import ROOT

EXAMPLE = "configs/mnist_mlp.yaml"
STANDS_FOR = {
    "FILE": EXAMPLE,
    "EXPERIMENT": EXAMPLE,
    "experiment.yaml": EXAMPLE,
    "photos.yaml": EXAMPLE,  # which `ganscale configure photos/` writes
    "KEY": "train.batch_size",
    "MINUTES": "5",
    "N": "3",
    "P": "8",
    "…": EXAMPLE,
}
"""What is meant by a word that the reader is to replace."""
EXPERIMENT = ("train", "submit", "config", "plan", "profile")
"""The commands whose arguments are an experiment and overrides."""
OF_SBATCH = {"array", "nodes", "gpus-per-node", "cpus-per-gpu", "cpus-per-task", "exclude"}
OTHERS = ("pip", "uv", "git", "cd", "hf", "ip", "taskset", "mkdocs", "mike")
"""Programs of others, whose arguments are not checked."""
VARIABLE = re.compile(r"([A-Z_]+)=(.*)")
OPTION = re.compile(r"--([a-z][\w-]*)")


def check(words: list[str]) -> None:
    """Check a command; raises `KeyError` for a program that nothing is known of."""
    words = list(itertools.takewhile(lambda word: word != ">", words))
    while words and (variable := VARIABLE.fullmatch(words[0])):
        assert variable[1] in _all_scripts(), f"nothing reads {variable[1]}"
        words = words[1:]
    if "&&" in words:
        check(words[: words.index("&&")])
        words = words[words.index("&&") + 1 :]
    program = Path(words[0]).name if words[0].startswith((".venv/", "./")) else words[0]
    CHECKS[program](words[1:])


def check_ganscale(words: list[str]) -> None:
    """Parse a command as the program does; an experiment's overrides must fit it."""
    for given in _alternatives(words):
        options = _parsed(_parser(), given)
        if given[0] in EXPERIMENT and options.experiment is not None:
            load(options.experiment, options.overrides)
        elif given[0] == "sweep":
            _check_sweep(options)
        elif run := getattr(options, "run", None) if given[0] != "push" else None:
            _check_run(str(run))


def check_mention(words: list[str]) -> None:
    """Check a command whose arguments may be left out: it and its options exist."""
    if len(words) == 1 or all(word.startswith("-") for word in words[1:]):
        usage = _help(words[0])
        for word in words[1:]:
            assert re.search(rf"{re.escape(word)}\b", usage), f"{words[0]} has no {word}"
    else:
        check_ganscale(words)


def _check_sweep(options: argparse.Namespace) -> None:
    sweep = Sweep.load(options.grid)
    sweep.run(0, options.overrides)


def _check_run(run: str) -> None:
    """A run that a page names is what some shipped experiment is called."""
    folder, _, name = run.partition("/")
    if folder == "runs":
        assert name in _shipped() | {"tiny", "photos", "NAME"}, f"no experiment is called {name}"


@cache
def _shipped() -> set[str]:
    return {load(path).name for path in (ROOT / "configs").glob("*.yaml")}


@cache
def known_keys() -> set[str]:
    """Every key of an experiment, with N for the number of a list's item."""
    return {
        f"{place}.{key.name}"
        for section in sections()
        for place in section.places
        for key in section.keys
    }


def _alternatives(words: list[str]) -> Iterator[list[str]]:
    """Yield what may be typed where a page shows `[--crop center|none]` and `FILE`."""
    choices = [
        [STANDS_FOR.get(one, one.removesuffix("…")) for one in word.strip("[]").split("|")]
        if not ("=" in word or ":" in word)
        else [word]
        for word in words
    ]
    longest = max(map(len, choices))
    for i in range(longest):
        yield [choice[min(i, len(choice) - 1)] for choice in choices]


def _parsed(parser: argparse.ArgumentParser, words: list[str]) -> argparse.Namespace:
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return parser.parse_args(words)
    except SystemExit:
        raise AssertionError(said.getvalue().strip().rpartition("\n")[2]) from None


@cache
def _help(command: str) -> str:
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
        _parser().parse_args([command, "--help"])
    assert said.getvalue(), f"ganscale has no command {command}"
    return said.getvalue()


def check_accelerate(words: list[str]) -> None:
    """Parse `accelerate launch` by its own parser, and what it launches by ours."""
    assert words[0] == "launch"
    if "-m" not in words:
        words = [*words, "-m", "ganscale", "train", EXAMPLE]
    start = words.index("-m")
    options = _parsed(launch_command_parser(), words[1 : start + 2])
    if options.config_file is not None:
        load_config_from_file(str(ROOT / options.config_file))
    check(words[start + 1 :])


def check_sbatch(words: list[str]) -> None:
    """Check sbatch's options against those in use, and the script's arguments as ganscale's."""
    start = next(i for i, word in enumerate(words) if word.startswith("slurm/"))
    for word in words[:start]:
        if option := OPTION.match(word):
            assert option[1] in OF_SBATCH, f"is --{option[1]} an option of sbatch?"
    check_shell_script(words[start])
    command = Path(words[start]).stem
    if words[start + 1] != "ENTITY/PROJECT/ID":
        check_ganscale([command, *words[start + 1 :]])


def check_shell_script(path: str) -> None:
    """The script exists, and bash can read it."""
    subprocess.run(["bash", "-n", ROOT / path], check=True)


def check_launch_script(name: str) -> Callable[[list[str]], None]:
    """Return the check of a script of launch/ and its arguments."""

    def check_it(words: list[str]) -> None:
        check_shell_script(f"launch/{name}")
        assert os.access(ROOT / "launch" / name, os.X_OK)
        if name == "node.sh":
            assert words[0] in ENGINES, f"no engine is called {words[0]}"
            check_ganscale(["train", *words[1:]])

    return check_it


def check_python(words: list[str]) -> None:
    """Code compiles; the options of a file of bench/ stand in it."""
    if words[0] == "-c":
        compile(words[1], "<page>", "exec")
    elif words[0] == "-m":
        importlib.import_module(words[1])
    else:
        source = (ROOT / words[0]).read_text()
        for word in words[1:]:
            if word.startswith("--"):
                assert f'"{word}"' in source, f"{words[0]} has no {word}"


def check_torchrun(words: list[str]) -> None:
    """Parse torchrun's options by its own parser."""
    options = _parsed(torchrun_parser(), words)
    check_python([options.training_script])


def check_container(words: list[str]) -> None:
    """A file that an image is built from exists; so does what is run in an image."""
    if words[0] == "build":
        named = [word for word in words if word.startswith("docker/")]
        assert named
        assert all((ROOT / word).is_file() for word in named)
    else:
        image = max(words.index(word) for word in words if word in ("ganscale", "ganscale.sif"))
        inside = next(i for i, word in enumerate(words) if word in ("ganscale", "ganscale.sif"))
        start = inside + 1 if words[inside + 1] in ("accelerate", "ganscale") else image
        check(words[start:])


def check_wandb(words: list[str]) -> None:
    """A sweep's file exists; everything else is W&B's own."""
    if words[0] == "sweep":
        assert (ROOT / words[1]).is_file()


def check_copy(words: list[str]) -> None:
    """What is copied exists."""
    assert (ROOT / words[0]).is_file()


def check_source(words: list[str]) -> None:
    """The script that is sourced is that of the environment."""
    assert words[0] in (".venv/bin/activate", "launch/path.sh")


def check_python3(words: list[str]) -> None:
    """Making an environment needs Python alone."""
    assert words == ["-m", "venv", ".venv"]


def needs_no_check(words: list[str]) -> None:
    """Another program's command; tests/test_install_lines.py reads what is installed."""


CHECKS: dict[str, Callable[[list[str]], None]] = {
    "ganscale": check_ganscale,
    "accelerate": check_accelerate,
    "sbatch": check_sbatch,
    "python": check_python,
    "python3": check_python3,
    "torchrun": check_torchrun,
    "docker": check_container,
    "apptainer": check_container,
    "wandb": check_wandb,
    "cp": check_copy,
    "source": check_source,
    ".": check_source,
    **dict.fromkeys(OTHERS, needs_no_check),
    **{path.name: check_launch_script(path.name) for path in (ROOT / "launch").glob("*.sh")},
}


@cache
def _all_scripts() -> str:
    rooms = ("launch", "slurm", "docker", "src/ganscale", "bench")
    files = itertools.chain.from_iterable((ROOT / room).rglob("*.*") for room in rooms)
    own = "".join(p.read_text() for p in files if p.suffix in (".sh", ".sbatch", ".py"))
    return own + "PYTHONPATH OMP_NUM_THREADS "


def option_exists(option: str) -> bool:
    """Whether any program that the pages speak of has an option."""
    launcher = {name for a in launch_command_parser()._actions for name in a.option_strings}
    own = re.search(rf"{re.escape(option)}\b(?!-)", _all_scripts()) is not None
    return own or option in launcher or option.removeprefix("--") in OF_SBATCH
