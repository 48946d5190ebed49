"""All that call a checkpoint the best mean the same one, and `ganscale evaluate` tells them all."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from rich.console import Console

from ganscale.config import Data, Experiment
from ganscale.config.load import to_yaml
from ganscale.data.reading.image_set import ImageSet
from ganscale.errors import GanscaleError
from ganscale.evaluation.scores import Evaluated, Scores, read_evaluations
from ganscale.runs import checkpoint
from ganscale.runs.run_folder import RunFolder
from ganscale.runs.sampler import Sampler
from ganscale.runs.scoring import Scoring, evaluate, evaluate_several
from ganscale.runs.sweep import Sweep
from ganscale.runs.trust import note_own_wandb
from ganscale.training.trainer import train
from tests.conftest import tiny


@pytest.fixture(scope="module")
def finished(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    """A run of three evaluations that W&B keeps offline, the only one of a sweep."""
    folder = tmp_path_factory.mktemp("evaluated")
    experiment = tiny(
        digits,
        folder,
        "name=lr-000",
        "train.steps=6",
        "evaluation.every=2",
        "evaluation.samples=150",
        "evaluation.best=kid",
        "ema={half_life: 100, ramp_up: null}",
        "generator.optimizer.lr=0.01",  # so that scores differ in their first digits
        "monitoring.wandb=offline",
    )
    train(experiment)
    return experiment


def shown_best(experiment: Experiment, kids: dict[int, float]) -> dict[str, int]:
    """The step that each of them calls the best; `kids` of each step."""
    run = experiment.folder
    grid = run.parent / "grid.yaml"
    (run.parent / "base.yaml").write_text(to_yaml(experiment))
    grid.write_text(f"experiment: {run.parent / 'base.yaml'}\nname: lr\ngrid: {{seed: [0]}}\n")
    console = Console(width=250, record=True)
    console.print(Sweep.load(grid).table([]))
    score = re.search(r"KID (\S+)", console.export_text())
    assert score is not None
    (of_sweep,) = (step for step, kid in kids.items() if f"{kid:.4g}" == score[1])
    report = re.search(r"<th[^>]*>best KID</th><td>step (\d+):", (run / "report.html").read_text())
    assert report is not None
    found = RunFolder(run).find_checkpoint("best", experiment.evaluation)
    return {
        "sweep": of_sweep,
        "report": int(report[1]),
        "checkpoint": int(found.name.removeprefix("step-")),
        "sampler": int(Sampler(run, "best").checkpoint.name.removeprefix("step-")),
    }


def test_all_mean_the_same_checkpoint_by_the_best(finished: Experiment) -> None:
    run, path = finished.folder, finished.folder / "evaluations.jsonl"
    lines = read_evaluations(RunFolder(run).evaluations)
    kids = {line["step"]: line["values"]["kid"] for line in lines}
    step = min(kids, key=lambda s: kids[s])
    assert set(shown_best(finished, kids).values()) == {step}

    # Of another version, with other features, of more images: all look better.
    worst = max(kids, key=lambda s: kids[s])
    (of_worst,) = (line for line in lines if line["step"] == worst)
    inception = {"features_name": "inception", "features_checksum": "i"}
    inception["features"] = "Inception v3 features"
    better = of_worst | {"values": dict.fromkeys(of_worst["values"], -1.0)}
    others = [
        {**better, **inception},
        {**better, "samples": 50_000},
        {**{k: v for k, v in better.items() if k != "features_checksum"}, "floor": 0.1},
        {**better, "values": {"fid": 0.0}},
        {**better, "values": {"fid": 0.0, "kid": float("nan")}},
    ]
    before = path.read_text()
    path.write_text("".join(json.dumps(line) + "\n" for line in [*others, *lines, *others[:2]]))
    RunFolder(run).report.unlink()
    from ganscale.cli import main

    assert main(["report", str(run)]) == 0
    assert set(shown_best(finished, kids).values()) == {step}
    path.write_text(before)


def test_an_evaluation_by_hand_is_in_the_report_the_gallery_and_wandb(
    finished: Experiment,
) -> None:
    run = finished.folder
    for name in ("gallery/neighbours.png", "report.html"):
        (run / name).unlink()
    earlier = set(run.glob("wandb/offline-run-*/*.wandb"))
    in_training = read_evaluations(RunFolder(run).evaluations)[-1]
    path, scores = evaluate(run, "latest", {})
    assert path.name == "step-00000006"
    # Training has scored the moving average that the checkpoint keeps.
    assert scores.values == pytest.approx(in_training["values"], rel=1e-6)
    raw = Sampler(run, "latest", network="generator").generator.state_dict()
    averaged = Sampler(run, "latest").generator.state_dict()
    assert not any(torch.allclose(raw[key], averaged[key], rtol=1e-3) for key in raw)
    page = (run / "report.html").read_text()
    # Either is the best of the run.
    rows = re.findall(r"<th[^>]*>(newest evaluation|best KID)</th><td>step (\d+): ", page)
    assert rows[-1][1] == "6"
    assert page.count("150 generated against 1,797 real images") == len(rows)
    assert (run / "gallery" / "neighbours.png").is_file()
    (file,) = set(run.glob("wandb/offline-run-*/*.wandb")) - earlier
    read = [sys.executable, "-m", "wandb", "leet", "inspect", "--summary", "--json", str(file)]
    kept = json.loads(subprocess.run(read, capture_output=True, check=True).stdout)
    assert kept["run_id"] == checkpoint.read_state(path).wandb_id
    assert kept["summary"]["evaluation_fid"] == pytest.approx(scores.values["fid"])
    assert kept["summary"]["evaluation_step"] == 6
    assert kept["summary"]["evaluation_samples"] == 150


def test_an_evaluation_by_hand_can_make_another_checkpoint_the_best(
    digits: Path, tmp_path: Path
) -> None:
    experiment = tiny(digits, tmp_path, "train.steps=6", "checkpoint.every=3")
    train(experiment)
    run = experiment.folder
    assert RunFolder(run).best_checkpoint(experiment.evaluation) is None
    evaluate(run, "latest", {"samples": 60})
    assert Sampler(run, "best").checkpoint.name == "step-00000006"
    evaluate(run, "3", {"samples": 60})
    values = {e["step"]: e["values"]["fid"] for e in read_evaluations(RunFolder(run).evaluations)}
    assert "<h3>FID: lower is better</h3>" in (run / "report.html").read_text()
    better = min(values, key=lambda s: values[s])
    assert Sampler(run, "best").checkpoint.name == f"step-{better:08d}"


def test_evaluations_of_steps_that_are_run_again_are_dropped(digits: Path, tmp_path: Path) -> None:
    overrides = ("evaluation.every=2", "evaluation.samples=60", "checkpoint.keep=9")
    train(tiny(digits, tmp_path, *overrides, "train.steps=4"))
    longer = tiny(digits, tmp_path, *overrides, "train.steps=6")
    run = longer.folder
    line = read_evaluations(RunFolder(run).evaluations)[-1]
    with (run / "evaluations.jsonl").open("a") as file:  # of a run that was here before
        file.write(json.dumps({**line, "step": 6}) + "\n")
    train(longer)
    evaluations = read_evaluations(RunFolder(run).evaluations)
    assert [e["step"] for e in evaluations] == [2, 4, 6]
    assert evaluations[2]["values"] != line["values"]


def test_several_checkpoints_are_a_curve_and_each_is_scored_once(
    finished: Experiment,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = shutil.copytree(finished.folder, tmp_path / "run")
    scored: list[str] = []
    score = Scoring.score

    def killed_at_the_second(scoring: Scoring, path: Path) -> tuple[Scores, Evaluated]:
        if scored:
            raise KeyboardInterrupt
        return noted(scoring, path)

    def noted(scoring: Scoring, path: Path) -> tuple[Scores, Evaluated]:
        scored.append(path.name)
        return score(scoring, path)

    in_training = read_evaluations(run / "evaluations.jsonl")
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.setattr("ganscale.runs.scoring.draw_gallery", lambda *_: None)
    monkeypatch.setattr(Scoring, "score", killed_at_the_second)
    of_steps = {line["step"]: line for line in in_training}
    assert evaluate_several(run, "all", {}) == list(of_steps.values())  # with as many samples
    with pytest.raises(KeyboardInterrupt):
        evaluate_several(run, "all", {"samples": 80})
    monkeypatch.setattr(Scoring, "score", noted)
    lines = evaluate_several(run, "all", {"samples": 80})
    assert scored == ["step-00000002", "step-00000004", "step-00000006"]
    assert [line["step"] for line in lines] == [2, 4, 6]
    assert read_evaluations(run / "evaluations.jsonl") == [*in_training, *lines]
    # Other metrics are another matter, and --again is what it says.
    evaluate_several(run, "every:4", {"samples": 80, "metrics": ["memorisation"]})
    evaluate_several(run, "latest,4", {"samples": 80}, again=True)
    assert scored[3:] == ["step-00000004", "step-00000004", "step-00000006"]

    from ganscale.cli import main

    capsys.readouterr()
    earlier = set(run.glob("wandb/offline-run-*/*.wandb"))
    monkeypatch.delenv("WANDB_MODE")
    note_own_wandb(run, checkpoint.read_state(run / "checkpoints" / "step-00000006").wandb_id)
    assert main(["evaluate", str(run), "--checkpoint", "all", "--num", "80"]) == 0
    table = capsys.readouterr().out
    best = min(lines, key=lambda line: line["values"]["kid"])["step"]
    (marked,) = (line for line in table.splitlines() if line.rstrip(" │").endswith("best"))
    assert marked.split()[1] == str(best)
    (file,) = set(run.glob("wandb/offline-run-*/*.wandb")) - earlier
    read = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(file)]
    said = subprocess.run(read, capture_output=True, check=True, text=True).stdout
    records = [json.loads(record) for record in said.splitlines()]
    points = [record["history"]["item"] for record in records if record["type"] == "history"]
    assert [point["evaluation_step"] for point in points] == [2, 4, 6]
    steps = [point["_step"] for point in points]  # after those of training
    assert steps == sorted(steps)
    assert steps[0] > 6
    with pytest.raises(GanscaleError, match="no checkpoint is 'every:5'; it holds step-00000002"):
        evaluate_several(run, "every:5", {})
    shutil.rmtree(run / "checkpoints")
    with pytest.raises(GanscaleError, match="no checkpoints in it"):
        evaluate_several(run, "all", {})


def test_a_score_of_one_sample_is_refused(finished: Experiment) -> None:
    with pytest.raises(GanscaleError, match=r"evaluation\.samples=1: .*greater than or equal to 2"):
        evaluate(finished.folder, "latest", {"samples": 1})


def test_a_run_does_not_say_where_this_machine_keeps_files(
    finished: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stranger's would name a folder to fill, or one whose files are to make room."""
    run = shutil.copytree(finished.folder, tmp_path / "run")
    data = finished.data.model_copy(update={"cache": str(tmp_path), "cache_gib": 1e-9})
    (run / "experiment.yaml").write_text(to_yaml(finished.model_copy(update={"data": data})))
    used: list[Data] = []

    def note(data: Data) -> ImageSet:
        used.append(data)
        return ImageSet(data)

    def end(experiment: Experiment, *_: object) -> None:
        used.append(experiment.data)
        raise GanscaleError("seen")

    monkeypatch.setattr("ganscale.runs.run_evaluator.ImageSet", note)
    monkeypatch.setattr("ganscale.runs.run_evaluator.Evaluator", end)
    with pytest.raises(GanscaleError, match="seen"):
        evaluate(run, "latest", {})
    assert Sampler(run, "latest").experiment.data == data
    usual = {"cache": Data().cache, "cache_gib": Data().cache_gib}
    assert used == [finished.data.model_copy(update=usual)] * 2
