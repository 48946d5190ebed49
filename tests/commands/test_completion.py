"""The completion of each shell, in that shell."""

import os
import pty
import re
import select
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from ganscale.cli import main
from ganscale.commands import load_commands
from ganscale.commands.completion import SHELLS
from ganscale.config.explain import explain
from tests.system.processes import ROOT

CASES = {
    "ganscale ev": {"evaluate"},
    "ganscale sample --gr": {"--grid"},
    "ganscale submit configs/mnist_mlp.yaml --engine fs": {"fsdp2"},
    "ganscale train configs/mnist_ml": {"configs/mnist_mlp.yaml", "configs/mnist_mlp_leaky.yaml"},
    "ganscale train configs/sch": set(),  # schema.json is no experiment
    "ganscale sample docs/res": {"docs/results"},  # a folder: not results.md
    "ganscale train configs/mnist_mlp.yaml train.batch": {"train.batch_size="},
    "ganscale train configs/mnist_mlp.yaml seed=1 generator.optimizer.l": {
        "generator.optimizer.lr="
    },
    "ganscale export runs/x --format on": {"onnx"},
    "ganscale completion f": {"fish"},
}
"""What is typed before Tab is pressed, and what is offered, in any shell."""
BASH = """
. "$1"; compopt() { :; }
IFS='= ' read -ra COMP_WORDS <<<"$2"
COMP_CWORD=$(( ${#COMP_WORDS[@]} - 1 ))
"$(complete -p ganscale | grep -o -- '-F [^ ]*' | cut -c4-)"
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the script for each shell."""
    folder = tmp_path_factory.mktemp("completion")
    for shell in SHELLS:
        with (
            pytest.MonkeyPatch.context() as patch,
            (folder / f"_ganscale.{shell}").open("w") as file,
        ):
            patch.setattr("sys.stdout", file)
            assert main(["completion", shell]) == 0
    (folder / "_ganscale").symlink_to("_ganscale.zsh")  # as zsh finds it
    return folder


def offered(line: list[str]) -> set[str]:
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return {line.partition("\t")[0].rstrip("/") for line in done.stdout.splitlines() if line}


@pytest.mark.parametrize("typed", CASES)
def test_in_bash(scripts: Path, typed: str) -> None:
    script = str(scripts / "_ganscale.bash")
    assert offered(["bash", "--norc", "-c", BASH, "bash", script, typed]) == CASES[typed]


@pytest.mark.skipif(not shutil.which("fish"), reason="fish is not installed")
@pytest.mark.parametrize("typed", CASES)
def test_in_fish(scripts: Path, typed: str) -> None:
    line = f"source {scripts / '_ganscale.fish'}; complete -C '{typed}'"
    assert offered(["fish", "--no-config", "-c", line]) == CASES[typed]


def after_tab(shell: list[str], start: str, typed: str) -> str:
    """Press Tab behind what is typed in a terminal; return the words of the line that is run.

    The program is a function that prints its arguments in brackets.
    """
    process, terminal = pty.fork()
    if process == 0:
        os.chdir(ROOT)
        os.execvpe(shell[0], shell, {**os.environ, "TERM": "dumb", "PS1": "$ "})
    said = ""
    try:
        for text in (start, f"{typed}\tEND\n"):
            os.write(terminal, text.encode())
            said += _read_until(terminal, "[END]" if "END" in text else "READY\r\n")
    finally:
        os.close(terminal)
        os.waitpid(process, 0)
    return said.rpartition("<<")[2].partition(">>")[0]


def _read_until(terminal: int, text: str) -> str:
    said, deadline = "", time.monotonic() + 20
    while not (text in said or re.search(r"<<.*>>", said)):
        assert time.monotonic() < deadline, said
        if select.select([terminal], [], [], 0.1)[0]:
            said += os.read(terminal, 4096).decode(errors="replace")
    return said


SHOW = "ganscale() { printf '<<'; printf '[%s]' \"$@\"; echo '>>'; }; echo READY\n"
TERMINALS = {
    "bash": (["bash", "--norc", "--noprofile", "-i"], ". {folder}/_ganscale.bash"),
    "zsh": (["zsh", "-f", "-i"], "fpath=({folder} $fpath); autoload -U compinit; compinit -D -u"),
}


@pytest.mark.parametrize("shell", TERMINALS)
def test_a_key_is_followed_by_its_value_and_a_file_by_a_space(scripts: Path, shell: str) -> None:
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed")
    line, start = TERMINALS[shell]
    setup = scripts / f"setup.{shell}"
    setup.write_text(f"{start.format(folder=scripts)}\n{SHOW}")
    for typed, then in (
        ("ganscale train configs/mnist_mlp_l", "[train][configs/mnist_mlp_leaky.yaml][END]"),
        ("ganscale train x.yaml train.batch_s", "[train][x.yaml][train.batch_size=END]"),
        ("ganscale train x seed=1 ema.half", "[train][x][seed=1][ema.half_life=END]"),
        ("ganscale sample configs/sw", "[sample][configs/sweeps/END]"),
    ):
        assert after_tab(line, f". {setup}\n", typed) == then


def test_every_command_and_every_key_is_offered(scripts: Path) -> None:
    for shell in SHELLS:
        script = (scripts / f"_ganscale.{shell}").read_text()
        assert all(re.search(rf"\b{name}\b", script) for name in load_commands())
    offer = re.search("compadd -S '' -- ([^;]*);", (scripts / "_ganscale.zsh").read_text())
    assert offer is not None
    keys = [key.removesuffix("=") for key in offer[1].split()]
    assert len(keys) > 100
    assert {"name", "train.batch_size", "generator.optimizer.lr", "ema.half_life"} <= set(keys)
    assert not {"base", "train", "generator.optimizer"} & set(keys)
    assert explain(keys[-1], Path("nowhere"))
