"""Output that is closed, full or without `×`; odd numbers, paths and launchers' variables."""

import subprocess
from pathlib import Path

import pytest

from ganscale.terminal import printable
from tests.system.processes import ROOT, command, environment

pytestmark = pytest.mark.system


def shell(line: str, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a command with what the shell's `line` does to its streams."""
    script = f'exec "$@" {line}'
    whole = ["sh", "-c", script, "sh", *command(*arguments)]
    return subprocess.run(
        whole, cwd=ROOT, env=environment(**more), capture_output=True, text=True, timeout=300
    )


def test_a_full_output_is_one_message() -> None:
    done = shell(">/dev/full", "config", "--schema")
    assert done.returncode == 1
    assert done.stderr.strip() == (
        "ganscale: error: standard output: No space left on device; free some space or choose "
        "another folder, then start again"
    )


def test_help_into_a_full_output_ends_quietly() -> None:
    assert shell(">/dev/full", "--help").stderr == ""


@pytest.mark.parametrize("arguments", [["config", "--schema"], ["config"], ["--help"]])
def test_a_closed_output_fails_no_command(arguments: list[str]) -> None:
    done = shell(">&-", *arguments)
    assert (done.returncode, done.stderr) == (0, "")


def test_no_file_takes_the_place_of_a_closed_output(tmp_path: Path) -> None:
    """Otherwise the first file that is opened is what a library prints into."""
    check = (
        "import os; from ganscale.terminal import prepare_streams; prepare_streams();"
        "f = open('file', 'w'); os.write(1, b'printed'); os.write(2, b'printed')"
    )
    line = [*command()[:1], "-c", check]
    script = ["sh", "-c", 'exec "$@" >&- 2>&-', "sh", *line]
    assert subprocess.run(script, cwd=tmp_path, env=environment()).returncode == 0
    assert (tmp_path / "file").read_text() == ""


def test_an_ascii_terminal_gets_its_letters(digits: Path) -> None:
    done = shell("", "inspect", str(digits), PYTHONIOENCODING="ascii")
    assert done.returncode == 0
    assert "1,797 images of 28x28" in done.stdout


def test_a_strangers_control_characters_are_written_out() -> None:
    assert printable("a\x1b[2Jb\x07 ×\n\ud800") == "a\\x1b[2Jb\\x07 ×\n\\ud800"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, "x") for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "GROUP_RANK")),
        *(("WORLD_SIZE", "0"), ("LOCAL_WORLD_SIZE", "0"), ("LOCAL_WORLD_SIZE", "-1")),
    ],
)
def test_an_odd_variable_of_a_launcher_is_named(name: str, value: str, tmp_path: Path) -> None:
    done = shell("", "train", str(tmp_path / "none.yaml"), **{name: value})
    assert done.returncode == 1
    assert f"{name}={value} in the environment is not a number" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_odd_rank_spoils_no_other_message(tmp_path: Path) -> None:
    done = shell("", "report", str(tmp_path), RANK="x")
    assert done.returncode == 1
    assert "not a run folder" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("number", ["-5", "²", "0", "1" * 5000])
def test_an_odd_number_is_named(number: str) -> None:
    done = shell("", "sample", "run", "--grid", "g.png", "--num", number)
    assert done.returncode == 2
    assert "argument --num" in done.stderr
    assert len(done.stderr) < 2000
    assert "Traceback" not in done.stderr


def test_an_empty_path_is_not_the_current_folder(tmp_path: Path) -> None:
    line = command("pack", "digits", "")
    done = subprocess.run(
        line, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 2
    assert "must be a path" in done.stderr
    assert not list(tmp_path.iterdir())
