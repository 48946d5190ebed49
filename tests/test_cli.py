import subprocess
import sys
from pathlib import Path

import pytest

from ganscale.cli import main
from ganscale.evaluation.scores import Scores
from tests.system.processes import ROOT


@pytest.mark.parametrize(
    "arguments",
    [
        "FILE --folder seed=3 name=mixed",
        "--folder FILE seed=3 name=mixed",
        "FILE seed=3 --folder name=mixed",
        "seed=3 --folder name=mixed",
    ],
)
def test_overrides_and_options_come_in_any_order(
    arguments: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(ROOT / "configs" / "mnist_mlp.yaml")
    assert main(["config", *arguments.replace("FILE", file).split()]) == 0
    assert capsys.readouterr().out == "runs/mixed\n"


def test_a_sweeps_override_after_its_task(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(ROOT)
    line = ["sweep", "configs/sweeps/mnist_lr.yaml", "--task", "0", f"runs={tmp_path}", "--folder"]
    assert main(line) == 0
    assert capsys.readouterr().out == f"{tmp_path}/mnist_lr-000\n"


def test_an_unknown_option_is_refused_wherever_it_stands(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for line in (["config", "--fodler", "seed=3"], ["config", "seed=3", "--fodler"]):
        with pytest.raises(SystemExit) as ended:
            main(line)
        assert ended.value.code == 2
        assert "unrecognized arguments: --fodler" in capsys.readouterr().err


def test_scores_hold_no_control_characters(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stranger's set names itself."""
    from ganscale.runs import scoring as evaluation

    of = Scores({"fid": 1.0}, "f", "c", 9, 9, "a set\x1b]0;title\x07", 0.1, ())
    monkeypatch.setattr(evaluation, "evaluate", lambda *_: (Path("step-00000001"), of))
    assert main(["evaluate", "run"]) == 0
    assert r"a set\x1b]0;title\x07" in capsys.readouterr().out


HELP = """
import contextlib, io, sys
import ganscale.cli
from ganscale.commands import load_commands

def words(*arguments):
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
        ganscale.cli.main([*arguments, "--help"])
    return text.getvalue()

whole = words()
for command in load_commands().values():
    name = command.__name__.rpartition(".")[2]
    first = command.__doc__.partition("\\n")[0].rstrip(".")
    assert name in whole, name
    assert first in " ".join(words(name).split()), name
rooms = {name.partition(".")[0] for name in set(sys.modules) - before}
print(*sorted(rooms - sys.stdlib_module_names))
"""


def test_help_imports_only_the_standard_library() -> None:
    """It is there in a tenth of a second; torch or pydantic alone would take longer."""
    script = "import sys; before = set(sys.modules)\n" + HELP
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stderr == ""
    assert done.stdout == "ganscale\n"


ENDING = """
import atexit, os, sys
import ganscale.cli

class Interpreter:
    def __del__(self):
        os.write(2, b"torn down ")

def main():
    import torch
    atexit.register(os.write, 2, b"tracker closed ")
    print("the last line")
    return 75

interpreter = Interpreter()
ganscale.cli.main = main
ganscale.cli.run()
"""


def test_a_process_ends_before_pytorchs_threads_can_abort_it() -> None:
    done = subprocess.run([sys.executable, "-c", ENDING], capture_output=True, text=True)
    assert done.returncode == 75
    assert done.stdout == "the last line\n"
    assert done.stderr == "tracker closed "


def test_who_looks_for_resume_is_told_that_train_does(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["resume", "runs/mnist_mlp"])
    assert "`ganscale train FILE` resumes its run" in capsys.readouterr().err


def test_overrides_are_not_called_required(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["train"])
    assert capsys.readouterr().err.endswith("arguments are required: experiment\n")
