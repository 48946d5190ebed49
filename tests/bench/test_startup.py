"""The benchmark of starting, on a command that starts quickly and on one that fails."""

import json
import sys
from pathlib import Path

import pytest


def test_a_start_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import startup

    quick = startup.Command(("-c", "import json, sys; open('x', 'w'); sys.stderr.write('x')"))
    # It says what `train` says and would go on for ever.
    endless = (
        "import json, sys, time\nsys.stderr.write('step 1 of 2\\n')\nwhile True: time.sleep(1)"
    )
    training = startup.Command(("-c", endless), trains=True)
    monkeypatch.setattr(startup, "make_commands", lambda *_: {"quick": quick, "trains": training})
    monkeypatch.setattr(startup, "prepare", lambda *_: None)
    file = tmp_path / "starts.json"
    monkeypatch.setattr(sys, "argv", ["startup.py", "--rounds", "1", "--json", str(file)])
    startup.main()
    for row in json.loads(file.read_text()):
        assert row["warm_seconds"] > 0 < row["cold_cpu_seconds"], row
        assert row["modules"] > 30, row
        assert row["calls"] is None or row["calls"] > row["modules"], row
    assert "trains" in capsys.readouterr().out


def test_a_command_that_fails_is_shown(tmp_path: Path) -> None:
    import startup

    failing = startup.Command(("-c", "import sys; sys.exit('no such thing')"), trains=True)
    with pytest.raises(SystemExit, match="no such thing"):
        startup.start(failing, tmp_path, startup.make_environment(tmp_path))
