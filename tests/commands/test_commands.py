"""A file in commands/ is a command; nothing else has to know of it."""

from argparse import ArgumentParser
from pathlib import Path

import pytest

import ganscale.commands
from ganscale import philox
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


def test_plan_states_sizes_and_assumptions(capsys: pytest.CaptureFixture[str]) -> None:
    philox._has_native_philox.cache_clear()  # no test has drawn before, as in a new process
    assert main(["plan", "configs/mnist_mlp.yaml", "--gpus", "16", "--card", "l40s"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "16 × L40S (48 GB, NVIDIA L40S data sheet), fp32" in text
    assert "parameters generator 481,632, discriminator 201,217" in text
    assert all(f" {engine} " in text for engine in ("ddp", "fsdp2", "zero1", "zero3"))
    assert "2 GB of each card are left" in text
    assert "the CPU sets the pace" in text


def test_plan_refuses_a_card_that_it_does_not_know(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "configs/mnist_mlp.yaml", "--card", "H9000"]) == 1
    assert "use one of B200, H200, H100" in capsys.readouterr().err
