"""The list of runs, from real ones that finished, stopped, crashed, wait, train and are broken."""

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ganscale.cli import main
from ganscale.config.load import to_yaml
from ganscale.evaluation.scores import Scores
from ganscale.runs import overview
from ganscale.runs.overview import BestScore, RunSummary, as_table, summarize_runs
from ganscale.runs.run_folder import STOP, RunFolder
from ganscale.training import preemption, recorder
from ganscale.training.loop import Loop
from ganscale.training.trainer import train
from tests.conftest import tiny


@pytest.fixture(scope="module")
def runs(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run in each state but `running`, whose test takes a lock."""
    folder = tmp_path_factory.mktemp("overview")
    finished = tiny(digits, folder, "name=finished", "train.steps=2")
    (folder / "runs" / "broken").mkdir(parents=True)
    (folder / "runs" / "broken" / "experiment.yaml").write_text("name: [\n")
    (folder / "runs" / "no-run").mkdir()
    waiting = tiny(digits, folder, "name=waiting")
    waiting.folder.mkdir()
    (waiting.folder / "experiment.yaml").write_text(to_yaml(waiting))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(preemption, "LOOK_EVERY_S", 0)
        patch.setattr(recorder, "write_report", lambda *_: None)  # which takes a second
        patch.setattr(recorder, "draw_gallery", lambda *_: [])
        train(finished)
        for step, fid in ((1, 3.25), (2, 5.0)):
            scores = Scores({"fid": fid}, "classifier", "c", 10_000, 1_797, "digits", 0.0, ())
            scores.record(RunFolder.of(finished).evaluations, step, step * 8)
        for name, act in ENDS.items():
            experiment = tiny(digits, folder, f"name={name}", "checkpoint.every=2")
            patch.setattr(Loop, "_look", ending(act))
            patch.delenv("SLURM_JOB_ID", raising=False)
            if name == "requeued":
                patch.setenv("SLURM_JOB_ID", "7")
            if name == "crashed":
                with pytest.raises(ZeroDivisionError):
                    train(experiment)
            else:
                train(experiment)
    return folder / "runs"


def ending(act: Callable[[Loop], None]) -> Callable[[Loop], dict[str, float]]:
    """What a run does after its third step."""

    def look(loop: Loop) -> dict[str, float]:
        if loop.step == 3:
            act(loop)
        return {}

    return look


def crash(loop: Loop) -> None:
    raise ZeroDivisionError


ENDS = {
    "crashed": crash,
    "stopped": lambda loop: (loop._folder.path / STOP).touch(),
    "interrupted": lambda loop: os.kill(os.getpid(), signal.SIGTERM),
    "requeued": lambda loop: os.kill(os.getpid(), signal.SIGUSR1),
}


def test_each_run_is_in_its_state(runs: Path) -> None:
    found = {run.name: run for run in summarize_runs(runs)}
    assert {name: run.state for name, run in found.items()} == {
        "finished": "finished",
        "crashed": "crashed",
        "stopped": "stopped",
        "interrupted": "stopped",
        "requeued": "waiting",
        "waiting": "waiting",
        "broken": "broken",
    }
    assert found["crashed"].step == 2, "a run resumes from its last checkpoint"
    assert found["interrupted"].step == 3
    assert found["waiting"].step == 0
    assert {run.steps for run in found.values()} == {2, 10, None}
    best = found["finished"].best
    assert best == BestScore("FID", 3.25, 1)
    last = json.loads((runs / "stopped" / "metrics.jsonl").read_text().splitlines()[-1])
    assert found["stopped"].images_per_s == last["images_per_second"]
    assert "experiment.yaml" in (found["broken"].problem or "")


def test_a_lock_says_which_run_is_training(runs: Path, digits: Path) -> None:
    experiment = tiny(digits, runs.parent, "name=stopped")
    holder = RunFolder.of(experiment)
    holder.claim(experiment)
    try:
        (run,) = summarize_runs(holder.path)
        assert run.state == "running"
        last = json.loads(holder.metrics.read_text().splitlines()[-1])
        assert run.step == last["step"] == 3
    finally:
        holder.release()
    assert summarize_runs(holder.path)[0].state == "crashed", "it left without a word"
    holder.note_end("stopped")


def test_looking_at_a_run_does_not_keep_it_from_starting(runs: Path, digits: Path) -> None:
    experiment = tiny(digits, runs.parent, "name=stopped")
    looker, trainer = RunFolder.of(experiment), RunFolder.of(experiment)
    looking = threading.Event()

    def look() -> None:
        with looker._lock:
            looking.set()
            time.sleep(0.05)

    thread = threading.Thread(target=look)
    thread.start()
    assert looking.wait(10)
    trainer.claim(experiment)
    thread.join()
    trainer.note_end("stopped")
    trainer.release()


def test_the_newest_line_comes_first_and_columns_align(runs: Path) -> None:
    for age, name in enumerate(("requeued", "finished", "crashed")):
        when = time.time() - 7000 * (age + 1)
        os.utime(runs / name / "metrics.jsonl", (when, when))
    found = summarize_runs(runs)
    assert [run.name for run in found][-3:] == ["requeued", "finished", "crashed"]
    lines = as_table(found).splitlines()
    assert lines[0].split() == ["run", "state", "step", "best", "score", "last", "line", "images/s"]
    start = lines[0].index("state")
    assert [line[start:].split()[0] for line in lines[1:]] == [run.state for run in found]
    assert "2 of 2" in lines[-2]
    assert "4 h ago" in lines[-2]


def test_a_strangers_name_cannot_write_to_the_terminal() -> None:
    run = RunSummary("\x1b[2J", "x", "broken", 1.0, problem="\x1b]0;t\x07")
    assert "\x1b" not in as_table([run])


def test_the_command_prints_a_table_and_json(
    runs: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["runs", str(runs)]) == 0
    assert "finished" in capsys.readouterr().out
    assert main(["runs", str(runs), "--json"]) == 0
    objects = json.loads(capsys.readouterr().out)
    (finished,) = [each for each in objects if each["name"] == "finished"]
    assert finished["state"] == "finished"
    assert finished["best"]["metric"] == "FID"
    assert main(["runs", str(tmp_path)]) == 0
    assert "holds no runs" in capsys.readouterr().out
    assert main(["runs", str(tmp_path / "gone")]) == 1
    assert "no such folder" in capsys.readouterr().err


def test_only_the_end_of_a_long_log_is_read(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "metrics.jsonl"
    lines = [json.dumps({"step": step, "images_per_second": step / 2}) for step in range(1, 20_001)]
    path.write_text("\n".join([*lines, '{"step": 20000, "fid": 3}', '{"step": 200']))
    assert overview.last_metrics(path) == {"step": 20_000, "images_per_second": 10_000.0}
    path.write_text("")
    assert overview.last_metrics(path) is None
