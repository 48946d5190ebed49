"""What the page learns of the runs below a folder."""

import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from ganscale.errors import GanscaleError
from ganscale.pages.watch import watcher as module
from ganscale.pages.watch.watcher import Watcher
from tests.written_runs import draw, log, score, write_run


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOKED_AT_AGAIN_S", 0.0)


def summaries(watcher: Watcher, since: int = 0) -> dict[str, dict[str, Any]]:
    return {run["name"]: run for run in watcher.runs(since)["changed"]}


def values(watcher: Watcher, metric: str, since: int = 0, x: str = "steps") -> list[Any]:
    numbers = watcher.runs(10**9)["runs"]
    return [
        (curve["x"], curve["y"]) for curve in watcher.curves(since, x, numbers, [metric])["curves"]
    ]


def test_runs_are_found_at_any_depth_when_they_appear_and_go_when_they_are_deleted(
    tmp_path: Path,
) -> None:
    watcher = Watcher([tmp_path / "runs"])
    assert watcher.runs(0)["runs"] == []
    first = write_run(tmp_path / "runs", name="first")
    write_run(tmp_path / "runs" / "sweep", name="inner")
    (tmp_path / "runs" / "linked").symlink_to(first)
    found = summaries(watcher)
    assert list(found) == ["first", "sweep/inner"]
    shutil.rmtree(first)
    assert watcher.runs(0)["runs"] == [found["sweep/inner"]["number"]]


def test_a_summary_says_what_a_run_is_doing(tmp_path: Path) -> None:
    run = write_run(tmp_path, name="run")
    (run / ".holder").write_text("process 1\n")
    log(run, *range(10, 60, 10))
    draw(run, 50)
    score(run, 20, 7.0)
    score(run, 30, 3.0)
    score(run, 40, 5.0)
    watcher = Watcher([tmp_path])
    with FileLock(run / ".lock"):
        found = summaries(watcher)["run"]
    assert found["state"] == "running"
    assert (found["step"], found["steps"]) == (50, 100)
    assert found["seconds_left"] == pytest.approx(50 * 8 / 80)
    assert found["grids"] == [[50, 400]]
    assert found["scores"]["step"] == 30
    assert found["scores"]["values"] == {"fid": {"value": 3.0, "lower_is_better": True}}
    now = watcher.runs(0)
    assert now["changed"][0]["state"] == "crashed"
    assert now["changed"][0]["seconds_left"] is None
    assert watcher.runs(now["now"])["changed"] == []
    (run / "checkpoints" / "step-00000100").mkdir(parents=True)
    assert summaries(watcher, now["now"])["run"]["state"] == "finished"


def test_scores_of_other_features_are_not_compared(tmp_path: Path) -> None:
    run = write_run(tmp_path, name="run")
    score(run, 10, 1.0, features="others")
    score(run, 20, 9.0)
    score(run, 30, 8.0)
    assert summaries(Watcher([tmp_path]))["run"]["scores"]["step"] == 30


def test_a_curve_grows_with_its_log_and_a_half_written_line_waits(tmp_path: Path) -> None:
    run = write_run(tmp_path, name="run")
    log(run, 1, 2)
    watcher = Watcher([tmp_path])
    watcher.runs(0)
    numbers = [1]
    first = watcher.curves(0, "steps", numbers, ["fid", "loss_generator"])
    assert [(c["metric"], c["x"]) for c in first["curves"]] == [("loss_generator", [1, 2])]
    whole = json.dumps({"step": 3, "images": 24, "loss_generator": 9.5})
    with (run / "metrics.jsonl").open("a") as file:
        file.write(whole[:20])
    assert watcher.curves(first["now"], "steps", numbers, ["loss_generator"])["curves"] == []
    with (run / "metrics.jsonl").open("a") as file:
        file.write(whole[20:] + '\nno JSON\n[1]\n{"step": 4, "loss_generator": NaN}\n')
    (grown,) = watcher.curves(first["now"], "steps", numbers, ["loss_generator"])["curves"]
    assert (grown["from"], grown["x"], grown["y"]) == (2, [3, 4], [9.5, None])


def test_a_log_that_a_resumed_run_has_rewritten_is_read_anew(tmp_path: Path) -> None:
    run = write_run(tmp_path, name="run")
    log(run, 1, 2, 3, 4)
    watcher = Watcher([tmp_path])
    assert values(watcher, "loss_generator") == [([1, 2, 3, 4], [1.0] * 4)]
    (run / "metrics.jsonl").rename(run / "old")
    log(run, 1, 2, loss_generator=2.0)
    log(run, 3, loss_generator=5.0)
    assert values(watcher, "loss_generator") == [([1, 2, 3], [2.0, 2.0, 5.0])]


def test_hours_are_those_of_training(tmp_path: Path) -> None:
    run = write_run(tmp_path, name="run")
    log(run, 9000, 18000, images_per_second=20.0)
    ((hours, _),) = values(Watcher([tmp_path]), "loss_generator", x="hours")
    assert hours == [1.0, 2.0]


def test_names_of_earlier_versions_are_todays(tmp_path: Path) -> None:
    run = write_run(tmp_path, name="run")
    (run / "metrics.jsonl").write_text('{"step": 1, "loss/generator": 2.0}\n')
    watcher = Watcher([tmp_path])
    assert values(watcher, "loss_generator") == [([1], [2.0])]
    assert summaries(watcher)["run"]["metrics"] == ["loss_generator"]


def test_a_long_log_is_read_in_parts_and_never_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = write_run(tmp_path, name="run")
    log(run, *range(1, 5001))
    monkeypatch.setattr(module, "READING_S", 0.0)
    watcher = Watcher([tmp_path])
    while watcher.runs(0)["more"]:
        pass
    answers = [watcher.curves(0, "steps", [1], ["loss_generator"])]
    while answers[-1]["more"]:
        answers.append(watcher.curves(answers[-1]["now"], "steps", [1], ["loss_generator"]))
    assert len(answers) > 1
    log(run, 5001)
    last = watcher.curves(answers[-1]["now"], "steps", [1], ["loss_generator"])
    assert last["curves"][0]["x"][-1] == 5001
    assert len(json.dumps(last)) < 200


def test_only_the_keys_that_differ_are_compared(tmp_path: Path) -> None:
    penalties = "objective.penalties=[{kind: r1, weight: %s}]"
    write_run(tmp_path, "seed=1", penalties % 1, name="a")
    write_run(tmp_path, "seed=2", penalties % 5, "train.steps=200", name="b")
    write_run(tmp_path, name="broken").joinpath("experiment.yaml").write_text(
        "name: ${oc.env:HOME}"
    )
    watcher = Watcher([tmp_path])
    found = summaries(watcher)
    assert found["broken"]["state"] == "broken"
    assert "references are not resolved" in found["broken"]["problem"]
    answer = watcher.differences([1, 2, 3])
    assert answer["runs"] == [1, 2]
    assert answer["rows"] == [
        {"key": "seed", "values": ["1", "2"]},
        {"key": "objective.penalties.0.weight", "values": ["1.0", "5.0"]},
        {"key": "train.steps", "values": ["100", "200"]},
    ]


def test_a_picture_is_that_of_the_run_and_no_link_leads_elsewhere(tmp_path: Path) -> None:
    run = write_run(tmp_path / "runs", name="run")
    draw(run, 10)
    secret = tmp_path / "secret.png"
    secret.write_bytes(b"secret")
    (run / "samples" / "step-00000020.png").symlink_to(secret)
    watcher = Watcher([tmp_path / "runs"])
    watcher.runs(0)
    assert watcher.grid(1, 10).startswith(b"\x89PNG")
    with pytest.raises(GanscaleError):
        watcher.grid(1, 20)
    for run_number, step in ((1, 30), (2, 10)):
        with pytest.raises(FileNotFoundError):
            watcher.grid(run_number, step)


def test_runs_that_did_not_change_are_not_read_again(tmp_path: Path) -> None:
    for number in range(30):
        score(write_run(tmp_path, name=f"run-{number}"), 10, 1.0)
    watcher = Watcher([tmp_path])
    while (first := watcher.runs(0))["more"]:
        pass
    assert len(first["runs"]) == 30
    start = time.process_time()
    assert watcher.runs(first["now"])["changed"] == []
    assert time.process_time() - start < 0.1
