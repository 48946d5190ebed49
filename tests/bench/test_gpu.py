"""The benchmark of a GPU, as far as a machine without one can tell."""

import json
import sys
from pathlib import Path

import pytest

from ganscale.config.load import load


@pytest.mark.parametrize("cuda", [True, False])
def test_every_case_is_a_valid_experiment(cuda: bool) -> None:
    from gpu_cases import make_cases

    cases = make_cases(cuda)
    assert len({case.name for case in cases}) == len(cases)
    for case in cases:
        reason = case.reason_to_skip(cuda=True)
        assert reason is None or reason.startswith("this version has no train.")
        if reason is None:
            load(None, list(case.overrides))


def test_the_file_has_a_row_for_each_case(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import games
    import gpu

    monkeypatch.setattr(games, "IMAGES", 16)
    file = tmp_path / "gpu.json"
    chosen = ["--only", "averaging", "reads nothing back: DCGAN"]
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--json", str(file), *chosen])
    gpu.main()
    written = json.loads(file.read_text())
    assert written["machine"]["status"] == "ok"
    skipped, measured = written["cases"]
    if not written["machine"]["cuda"]:
        assert (skipped["status"], skipped["reason"]) == ("skipped", "needs a GPU")
    assert measured["status"] == "ok", measured
    assert measured["ms"] > 0
    assert "averaging" in capsys.readouterr().out

    monkeypatch.setattr(sys, "argv", [*sys.argv, "--minutes", "0"])
    gpu.main()
    assert json.loads(file.read_text())["cases"][1]["reason"] == "no time was left (--minutes)"
