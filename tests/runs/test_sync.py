"""`ganscale sync` on parts as W&B writes them; its own program reads what is written here."""

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ganscale.cli import main
from ganscale.config import Experiment
from ganscale.monitoring.wandb_server import OnServer
from ganscale.runs.run_folder import RunFolder
from ganscale.runs.sync.merge import merge
from ganscale.runs.sync.parts import find_parts, step_of
from ganscale.runs.sync.transaction_log import BLOCK, find_record_type, read_log, write_log
from ganscale.runs.trust import note_own_wandb
from tests.wandb_cloud import EVENTS, Answer, logged_in

ID = "abcd1234"
record_type = find_record_type()


def row(step: int, **values: Any) -> Any:
    record = record_type()
    for key, value in {"_step": step, "_runtime": step / 10, **values}.items():
        record.history.item.add(nested_key=[key], value_json=json.dumps(value))
    return record


def part(
    run: Path, number: int, steps: range, picture: int | None = None, code: int | None = 0
) -> Path:
    """What one start has logged: `loss` of each step is 100 × the start + the step."""
    folder = run / "wandb" / f"offline-run-20260101_00000{number}-{ID}"
    record = record_type()
    record.run.run_id = ID
    record.run.project = "ganscale"
    record.run.start_time.seconds = 1_800_000_000 + number
    record.run.config.update.add(key="start", value_json=str(number))
    load = record_type()
    load.stats.timestamp.seconds = 1_800_000_000 + number
    load.stats.item.add(key="cpu", value_json=str(number))
    records = [record, load]
    for step in steps:
        records.append(row(step, loss=100 * number + step))
        if step == picture:
            name = f"media/images/samples_{step}.png"
            records.append(record_type())
            records[-1].files.files.add(path=name)
            (folder / "files" / name).parent.mkdir(parents=True)
            (folder / "files" / name).write_bytes(b"picture of %d" % number)
    if code is not None:
        records.append(record_type())
        records[-1].exit.exit_code = code
    folder.mkdir(parents=True, exist_ok=True)
    write_log(folder / f"run-{ID}.wandb", records)
    return folder / f"run-{ID}.wandb"


@pytest.fixture
def folder(experiment: Experiment) -> RunFolder:
    """A run of this account's that has done nothing yet."""
    folder = RunFolder.of(experiment)
    folder.claim(experiment)
    folder.release()
    note_own_wandb(folder.path, ID)
    return folder


def rows(records: list[Any]) -> list[tuple[int | None, float]]:
    found = []
    for record in records:
        if record.HasField("history"):
            values = {item.nested_key[0]: item.value_json for item in record.history.item}
            found.append((step_of(record.history), json.loads(values["loss"])))
    return found


def merged(folder: RunFolder, known: OnServer | None = None, is_running: bool = False) -> list[Any]:
    parts, flaws = find_parts(folder)
    assert not flaws
    return merge(parts[ID], known or OnServer(), folder, is_running).records


def test_a_log_is_read_back_whatever_the_length_of_its_records(tmp_path: Path) -> None:
    lengths = [0, 1, BLOCK - 30, BLOCK, 3 * BLOCK + 5, 7, BLOCK - 100, *range(40, 80)]
    records = [row(step, text="x" * length) for step, length in enumerate(lengths)]
    write_log(tmp_path / "run.wandb", records)
    log = read_log((tmp_path / "run.wandb").read_bytes())
    assert log.records == records
    assert (log.damaged, log.is_cut) == (0, False)


def test_w_and_bs_own_reader_reads_what_is_merged(folder: RunFolder, tmp_path: Path) -> None:
    part(folder.path, 1, range(1, 8), code=None)
    part(folder.path, 2, range(6, 10))
    file = tmp_path / f"run-{ID}.wandb"
    write_log(file, merged(folder))
    read = [sys.executable, "-m", "wandb", "leet", "inspect", "--summary", "--json", str(file)]
    run = json.loads(subprocess.run(read, capture_output=True, check=True).stdout)
    assert run["run_id"] == ID
    assert run["state"] == "finished"
    assert run["config"] == {"start": 2}


def test_the_last_start_that_logs_a_step_decides_what_it_shows(folder: RunFolder) -> None:
    part(folder.path, 1, range(1, 8), code=None)
    part(folder.path, 2, range(6, 9), code=None)  # and 7 and 8 will be repeated
    part(folder.path, 3, range(6, 7), code=None)
    assert rows(merged(folder)) == [(s, 100 + s) for s in range(1, 6)] + [(6, 306)]
    assert rows(merged(folder, OnServer(exists=True, last_step=4))) == [(5, 105), (6, 306)]


def test_the_run_time_goes_on_after_a_resume(folder: RunFolder) -> None:
    part(folder.path, 1, range(1, 6))
    part(folder.path, 2, range(6, 8))
    times = [
        json.loads(item.value_json)
        for record in merged(folder)
        for item in record.history.item
        if item.nested_key == ["_runtime"]
    ]
    assert times == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.5 + 0.6, 0.5 + 0.7])


@pytest.mark.parametrize(
    ("code", "is_running", "expected"),
    [
        (0, False, (0, False)),
        (3, False, (3, False)),
        (None, False, (1, False)),
        (None, True, (1, True)),
    ],
)
def test_how_the_run_ended(
    folder: RunFolder, code: int | None, is_running: bool, expected: tuple[int, bool]
) -> None:
    part(folder.path, 1, range(1, 3), code=0)
    part(folder.path, 2, range(3, 5), code=code)
    (ended,) = (r.exit for r in merged(folder, is_running=is_running) if r.HasField("exit"))
    assert (ended.exit_code, ended.not_complete) == expected


def test_what_the_file_has_lost_comes_from_the_run_itself(folder: RunFolder) -> None:
    part(folder.path, 1, range(1, 4), code=None)
    part(folder.path, 2, range(6, 8))
    lines = [{"step": step, "loss": -step} for step in range(1, 8)]
    folder.metrics.write_text("".join(json.dumps(line) + "\n" for line in lines))
    expected = [(1, 101), (2, 102), (3, 103), (4, -4), (5, -5), (6, 206), (7, 207)]
    assert rows(merged(folder)) == expected
    # Of a running start nothing is taken that W&B's file may still get.
    folder.metrics.write_text("".join(json.dumps({"step": s, "loss": -s}) + "\n" for s in (5, 9)))
    expected = [(1, 101), (2, 102), (3, 103), (5, -5), (6, 206), (7, 207)]
    assert rows(merged(folder, is_running=True)) == expected


def test_what_evaluate_logs_offline_follows_the_steps(folder: RunFolder) -> None:
    part(folder.path, 1, range(1, 4))
    part(folder.path, 2, range(0))  # a score in the summary alone
    part(folder.path, 3, range(4, 6))  # the points of a curve
    assert [step for step, _ in rows(merged(folder))] == [1, 2, 3, 4, 5]


def test_parts_of_the_run_are_found_where_wandb_dir_puts_them(
    folder: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_DIR", str(tmp_path / "elsewhere"))
    part(tmp_path / "elsewhere", 1, range(1, 4), picture=2)
    assert find_parts(folder) == ({}, [])  # it may be another run's
    folder.note_tracker_ids({"wandb": ID})
    assert rows(merged(folder)) == [(1, 101), (2, 102), (3, 103)]
    found = merge(find_parts(folder)[0][ID], OnServer(), folder)
    assert list(found.files) == ["media/images/samples_2.png"]


def test_each_cut_keeps_what_was_written_before_it(folder: RunFolder) -> None:
    file = part(folder.path, 1, range(1, 300))
    content = file.read_bytes()
    whole = read_log(content).records
    for end in random.Random(0).sample(range(7, len(content)), 60):
        log = read_log(content[:end])
        assert log.records == whole[: len(log.records)]
        assert len(log.records) >= len(whole) * end // len(content) - 2
        assert log.damaged == 0


def test_a_flipped_bit_costs_the_record_that_it_is_in(folder: RunFolder) -> None:
    file = part(folder.path, 1, range(1, 300))
    content = file.read_bytes()
    whole = read_log(content).records
    draw = random.Random(1)
    for position in draw.sample(range(7, len(content)), 60):
        flipped = bytearray(content)
        flipped[position] ^= 1 << draw.randrange(8)
        log = read_log(bytes(flipped))
        assert [record for record in whole if record in log.records] == log.records
        # A length that leads nowhere costs what follows in its block of 32 KiB.
        assert log.damaged == 1 or log.is_cut or len(log.records) == len(whole) - 1


def test_a_damaged_part_is_named_and_the_rest_is_uploaded(
    folder: RunFolder, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = part(folder.path, 1, range(1, 20))
    content = bytearray(file.read_bytes())
    content[content.index(b"_runtime", 500)] ^= 1
    file.write_bytes(content)
    part(folder.path, 2, range(20, 25))
    empty = folder.path / "wandb" / "offline-run-20260101_000009-x" / "run-x.wandb"
    empty.parent.mkdir()
    empty.touch()
    parts, flaws = find_parts(folder)
    assert len(parts[ID]) == 2
    assert flaws == [
        f"{empty} does not say of which run it is a part, and is left out",
        f"{file} is damaged at a place: what was logged there is lost, and the rest is not",
    ]
    assert len(merge(parts[ID], OnServer(), folder).steps) == 23


def test_no_file_from_elsewhere_is_uploaded(folder: RunFolder, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    file = part(folder.path, 1, range(1, 4), picture=2)
    (file.parent / "files" / "link.png").symlink_to(secret)
    (file.parent / "files" / "experiment.yaml").symlink_to(folder.path / "experiment.yaml")
    records = read_log(file.read_bytes()).records
    for name in ("experiment.yaml", "link.png", str(secret), "../../../../secret", "missing.png"):
        records.append(record_type())
        records[-1].files.files.add(path=name)
    records.append(record_type())
    records[-1].artifact.name = "weights"
    records[-1].artifact.manifest.contents.add(path="a", local_path=str(secret))
    write_log(file, records)
    parts, _ = find_parts(folder)
    found = merge(parts[ID], OnServer(), folder)
    assert list(found.files) == ["media/images/samples_2.png", "experiment.yaml"]
    assert len(found.flaws) == 5
    assert not any(record.HasField("artifact") for record in found.records)


def test_a_strangers_run_is_not_uploaded_into_an_id_of_ours(
    experiment: Experiment, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = RunFolder.of(experiment)
    folder.claim(experiment)
    folder.release()
    part(folder.path, 1, range(1, 4))
    assert main(["sync", str(folder.path), "--dry-run"]) == 1
    assert f"its W&B id ({ID}) might belong to another of your runs" in capsys.readouterr().err
    assert main(["sync", str(folder.path), "--dry-run", "--trust-id"]) == 0
    assert f"would upload 3 steps (1 to 3) and 0 files to {ID}" in capsys.readouterr().out


def test_only_what_is_new_is_sent_and_a_running_run_does_not_end(
    folder: RunFolder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    part(folder.path, 1, range(1, 4), picture=2, code=None)
    with logged_in(monkeypatch) as cloud:
        with folder._lock:
            assert main(["sync", str(folder.path)]) == 0
        run = cloud.runs[ID]
        assert run.steps == [1, 2, 3]
        assert run.exit_codes == []
        part(folder.path, 2, range(3, 9), picture=8)
        cloud.asked.clear()
        assert main(["sync", "--all", str(folder.path.parent)]) == 0
        assert run.steps == list(range(1, 9))
        assert [json.loads(line)["system.cpu"] for line in run.text(EVENTS)] == [1, 2]
        assert run.files["media/images/samples_2.png"] == b"picture of 1"
        assert run.files["media/images/samples_8.png"] == b"picture of 2"
        assert not any("samples_2" in request for request in cloud.asked)
        assert run.exit_codes == [0]
    assert "uploaded 5 steps (4 to 8) and 1 file" in capsys.readouterr().out


PAGE = b"<html>Please log in to this network</html>"


def test_a_server_that_fails_costs_nothing(
    folder: RunFolder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    part(folder.path, 1, range(1, 4))
    line = ["sync", str(folder.path), "--timeout", "0.3"]

    def error(code: int) -> str:
        assert main(line) == code
        said = capsys.readouterr().err.strip().splitlines()
        (sentence,) = (line for line in said if not line.startswith("wandb: "))
        assert sentence.startswith("ganscale: error: http://127.0.0.1:")
        return sentence

    with logged_in(monkeypatch) as cloud:
        for status in (500, 429, 503):
            cloud.trouble = lambda request, status=status: Answer(status)
            assert f"answers with the error {status}; nothing is lost" in error(75)
        for status in (401, 403):
            cloud.trouble = lambda request, status=status: Answer(status)
            assert f"refuses your key for W&B ({status})" in error(1)
        for body in (PAGE, b'{"data": {"mod', b'{"data": []}', b'{"data": {"model": 3}}', b"[]"):
            cloud.trouble = lambda request, body=body: Answer(200, body)
            assert "does not answer as W&B does" in error(75)
        cloud.trouble = lambda request: Answer(404, PAGE)
        assert "does not answer as W&B does (status 404)" in error(75)
        cloud.trouble = lambda request: None
        cloud.stalled.set()
        assert "has not answered for 0.3 s" in error(75)
    assert "cannot be reached; nothing is lost" in error(75)
    monkeypatch.delenv("WANDB_API_KEY")
    monkeypatch.setenv("NETRC", "/dev/null")
    import wandb

    wandb.teardown()
    assert main(line) == 1
    assert "you are not logged in to W&B: type `wandb login`" in capsys.readouterr().err
    assert not list(folder.path.glob("wandb/*/*.synced"))
