"""A file in commands/ is a command; nothing else has to know of it."""

from argparse import ArgumentParser
from pathlib import Path

import pytest

import ganscale.commands
from ganscale.cli import main
from ganscale.commands import IN_ORDER, load_commands


def test_every_file_is_a_command() -> None:
    commands = load_commands()
    assert tuple(commands) == IN_ORDER
    for command in commands.values():
        command.add_arguments(ArgumentParser())
        assert command.__doc__


def test_a_file_adds_a_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "greet.py").write_text(
        '"""Greet someone."""\n\n\n'
        "def add_arguments(parser):\n    parser.add_argument('name')\n\n\n"
        "def run(options):\n    print(f'hello {options.name}')\n"
    )
    monkeypatch.setattr(ganscale.commands, "__path__", [*ganscale.commands.__path__, str(tmp_path)])
    assert list(load_commands())[-1] == "greet"
    assert main(["greet", "world"]) == 0
    assert capsys.readouterr().out == "hello world\n"
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "Greet someone" in capsys.readouterr().out
