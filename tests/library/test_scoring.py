"""`ganscale.evaluate`: the scores of the command, for a program."""

from pathlib import Path

import pytest

import ganscale
from ganscale.errors import GanscaleError
from tests.conftest import tiny

PIXELS = """
from ganscale.evaluation.features.network import Features, FeatureNetwork

class Pixels(FeatureNetwork):
    def measure(self, images):
        columns = images.float().mean((1, 2)) / 255
        return Features(columns[:, ::4], columns[:, :2])
"""


def test_it_scores_as_the_command_does(
    digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from ganscale.cli import main

    file = tmp_path / "pixels.py"
    file.write_text(PIXELS)
    run = ganscale.train(tiny(digits, tmp_path), steps=2)
    capsys.readouterr()
    more = {"features": f"{file}:Pixels", "metrics": ["memorisation"]}
    scores = ganscale.evaluate(run, samples=60, **more)
    assert capsys.readouterr() == ("", "")
    assert scores.samples == 60
    assert scores["fid"] == scores.values["fid"] > 0
    line = ["evaluate", str(run.folder), "--num=60", f"--features={file}:Pixels"]
    assert main([*line, "--metrics=memorisation"]) == 0
    assert str(scores) in capsys.readouterr().out
    mine, commands = (line["values"] for line in run.evaluations)
    assert mine == commands == scores.values
    with pytest.raises(GanscaleError, match=r"evaluation\.samples=0"):
        ganscale.evaluate(run, samples=0)
    with pytest.raises(GanscaleError, match="'all' names several checkpoints"):
        ganscale.evaluate(run, "all")
    with pytest.raises(GanscaleError, match="not a run folder"):
        ganscale.evaluate(tmp_path)
