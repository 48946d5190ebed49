"""Profiling some steps of a run, without a run."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from ganscale.cli import main
from ganscale.profiling.timeline import PENALTIES
from ganscale.training.advice import advise
from ganscale.training.profile import Operation, Profile, profile_steps
from ganscale.training.rehearsal import flop_per_image
from tests.conftest import tiny

PARTS = {
    "data",
    "discriminator, forward",
    "discriminator, backward",
    "generator, forward",
    "generator, backward",
    "penalties",
    "optimizers",
    "EMA",
}
R1 = "objective.penalties=[{kind: r1, weight: 1, every: 2}]"


def test_parts_are_the_whole_step(digits: Path, tmp_path: Path) -> None:
    experiment = tiny(digits, tmp_path, R1)
    trace = tmp_path / "trace.json"
    profile = profile_steps(experiment, 2, trace)
    assert profile is not None
    assert set(profile.parts) >= PARTS
    assert all(seconds > 0 for part, seconds in profile.parts.items() if part in PARTS)
    assert sum(profile.parts.values()) == pytest.approx(profile.profiled_s, rel=0.2)
    assert profile.flop_per_image == flop_per_image(experiment)
    assert profile.mfu == pytest.approx(
        profile.flop_per_image * experiment.train.batch_size / profile.step_s / profile.matmul_rate
    )
    assert {"aten::mm", "aten::addmm"} <= {row.name for row in profile.operations}
    names = {event.get("name") for event in json.loads(trace.read_text())["traceEvents"]}
    assert "ganscale: discriminator, forward" in names


def test_the_command_touches_no_run_folder(
    digits: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # It would measure the whole dataset first, and store that beside it.
    monkeypatch.setattr("ganscale.training.trainer.Evaluator", None)
    monkeypatch.chdir(tmp_path)
    experiment = Path("experiment.yaml")
    experiment.write_text(f"name: mine\ndata: {{path: {digits}}}\nevaluation: {{every: 1}}\n")
    old = Path("runs/mine")
    old.mkdir(parents=True)
    (old / "metrics.jsonl").write_text("kept\n")
    before = {path: path.stat().st_mtime_ns for path in Path("runs").rglob("*")}
    assert main(["profile", "experiment.yaml", "--steps", "1", "train.batch_size=8"]) == 0
    assert {path: path.stat().st_mtime_ns for path in Path("runs").rglob("*")} == before
    assert {path.name for path in tmp_path.iterdir()} == {
        "runs",
        "experiment.yaml",
        "trace-mine.json",
    }
    text = capsys.readouterr().out
    assert "discriminator, backward" in text
    assert "images/s" in text
    assert "trace: trace-mine.json" in text


PROFILE = Profile(
    device="NVIDIA H100",
    data="indexed reader",
    in_memory=False,
    world_size=1,
    step_s=1.0,
    profiled_s=1.1,
    parts={"data": 0.1, "discriminator, forward": 0.9},
    operations=[Operation("aten::convolution_backward", 1, 0.9), Operation("aten::add", 1, 0.1)],
    flop_per_image=1e9,
    flop_per_s=1e11,
    matmul_rate=1e12,
)


@pytest.mark.parametrize(
    ("changes", "overrides", "said"),
    [
        (
            {"parts": {"data": 0.43, "rest": 0.57}},
            ["data.workers=3"],
            "Waiting for data takes 43% of a step: raise data.workers (now 3), or set "
            "data.reader=resident",
        ),
        (
            {"parts": {"data": 0.43, "rest": 0.57}, "in_memory": True},
            [],
            "Waiting for data takes 43% of a step: data.resident_on=device",
        ),
        ({"parts": {"idle": 0.6, "rest": 0.4}}, [], "one by one, takes 60% of a step: raise"),
        ({"parts": {PENALTIES: 0.5, "rest": 0.5}}, [], "penalties takes 50% of a step: a larger"),
        ({"parts": {"reductions": 0.3, "rest": 0.7}}, [], "over processes takes 30% of a step"),
        ({"parts": {"optimizers": 0.3, "rest": 0.7}}, [], "Adam takes 30% of a step"),
        (
            {"operations": [Operation("aten::add", 1, 0.9), Operation("aten::mm", 1, 0.1)]},
            [],
            "Small operations dominate: only 10% of",
        ),
        ({}, [], "90% of the operations' time: train.precision=bf16"),
        ({}, ["train.precision=bf16"], "90% of the operations' time: train.channels_last=true"),
        ({"device": "cpu"}, [], "90% of the operations' time, which is what the step is for"),
    ],
)
def test_the_advice_names_the_part_and_the_key(
    digits: Path, tmp_path: Path, changes: dict[str, object], overrides: list[str], said: str
) -> None:
    experiment = tiny(digits, tmp_path, *overrides)
    text = "\n".join(advise(experiment, replace(PROFILE, **changes)))  # type: ignore[arg-type]
    assert said in text


def test_nothing_notable_is_not_mentioned(digits: Path, tmp_path: Path) -> None:
    (only,) = advise(tiny(digits, tmp_path), PROFILE)
    assert "data" not in only
