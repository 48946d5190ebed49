import hashlib
import logging
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError

from ganscale import tensor_file
from ganscale.errors import GanscaleError
from ganscale.runs import checkpoint
from ganscale.runs.checkpoint import State
from ganscale.training.trainer import train
from tests.conftest import tiny


def save(folder: Path, step: int, fid: float | None = None) -> Path:
    state = State(
        step=step,
        images=step * 8,
        data_fingerprint="f",
        metrics={} if fid is None else {"fid": fid},
    )
    weights = {part: {"w": torch.full((3,), float(step))} for part in checkpoint.PARTS}
    return checkpoint.write(folder, state, weights, {"moment": torch.ones(2)})


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = save(tmp_path, 5)
    assert path.name == "step-00000005"
    assert checkpoint.read_state(path).images == 40
    assert checkpoint.read_weights(path, "generator")["w"].tolist() == [5, 5, 5]
    assert checkpoint.read_training(path)["moment"].tolist() == [1, 1]
    assert checkpoint.is_intact(path)


@pytest.mark.parametrize("how", ["truncate", "flip", "remove", "no sums"])
def test_a_damaged_newest_is_set_aside(
    tmp_path: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    old, new = save(tmp_path, 1), save(tmp_path, 2)
    file = new / "generator.safetensors"
    content = file.read_bytes()
    if how == "truncate":
        file.write_bytes(content[:-1])
    elif how == "flip":
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif how == "remove":
        file.unlink()
    else:
        (new / "SHA256SUMS").unlink()
    logging.getLogger("ganscale").propagate = True
    assert checkpoint.latest(tmp_path) == old
    assert "set aside" in caplog.text
    assert (tmp_path / "broken-step-00000002").is_dir()


@pytest.mark.parametrize("error", [TypeError("x"), KeyError("x"), torch.OutOfMemoryError("x")])
def test_a_fault_of_the_program_is_not_called_a_full_disk(
    tmp_path: Path, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(checkpoint, "_canonical", fail)
    with pytest.raises(type(error)):
        save(tmp_path, 1)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        SafetensorError("I/O error: No space left on device (os error 28)"),
        RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0"),
    ],
)
def test_a_full_disk_is_one_message(
    tmp_path: Path, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the system, safetensors and torch say it."""

    def fail(*_: object, **__: object) -> None:
        raise error

    save(tmp_path, 1)
    monkeypatch.setattr(tensor_file, "save_file", fail)
    with pytest.raises(GanscaleError, match=r"could not be written.*step-00000001"):
        save(tmp_path, 2)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]


def test_a_half_written_one_is_no_checkpoint(tmp_path: Path) -> None:
    old = save(tmp_path, 1)
    (tmp_path / ".partial-step-00000002").mkdir()
    assert checkpoint.latest(tmp_path) == old
    checkpoint.prune(tmp_path, 3)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000001"]


def test_the_newest_and_the_best_are_kept(tmp_path: Path) -> None:
    for step, fid in ((1, 9.0), (2, 3.0), (3, 5.0), (4, None), (5, 7.0)):
        save(tmp_path, step, fid)
    checkpoint.prune(tmp_path, 2)
    assert [p.name[-1] for p in checkpoint.list_finished(tmp_path)] == ["2", "4", "5"]
    assert checkpoint.find(tmp_path, "best").name == "step-00000002"
    assert checkpoint.find(tmp_path, "latest").name == "step-00000005"
    assert checkpoint.find(tmp_path, "4") == checkpoint.find(tmp_path, "step-00000004")


def test_those_at_multiples_are_kept_for_ever(tmp_path: Path) -> None:
    for step in range(1, 10):
        save(tmp_path, step, fid=1.0 if step == 2 else 5.0)
        checkpoint.prune(tmp_path, 1, keep_every=3)
    assert [p.name[-1] for p in checkpoint.list_finished(tmp_path)] == ["2", "3", "6", "9"]
    checkpoint.prune(tmp_path, 1, keep_every=6)
    assert [p.name[-1] for p in checkpoint.list_finished(tmp_path)] == ["2", "6", "9"]


def test_a_run_keeps_what_it_is_asked_to(digits: Path, tmp_path: Path) -> None:
    every = ("checkpoint={every: 2, keep: 1, keep_every: 4}", "train.steps=10")
    experiment = tiny(digits, tmp_path, *every)
    train(experiment)
    kept = checkpoint.list_finished(experiment.folder / "checkpoints")
    assert [checkpoint.step_of(path) for path in kept] == [4, 8, 10]
    with pytest.raises(
        GanscaleError, match=r"keep_every=5 is not a multiple of checkpoint\.every=2"
    ):
        tiny(digits, tmp_path, "checkpoint={every: 2, keep_every: 5}")


def test_an_unknown_one_gets_the_list(tmp_path: Path) -> None:
    with pytest.raises(GanscaleError, match="no checkpoints"):
        checkpoint.find(tmp_path, "latest")
    save(tmp_path, 1)
    for name in ("7", "best", "nonsense"):
        with pytest.raises(GanscaleError, match=r"is not there.*step-00000001"):
            checkpoint.find(tmp_path, name)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    class Attack:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (tmp_path / "executed",))

    path = save(tmp_path, 1)
    torch.save({"x": Attack()}, path / "training.pt")
    with pytest.raises(Exception, match=r"weights_only|Weights only"):
        checkpoint.read_training(path)
    assert not (tmp_path / "executed").exists()


CHANGES_TO_FILES = {
    "open",
    "os.mkdir",
    "os.rename",
    "os.remove",
    "os.rmdir",
    "os.scandir",
    "os.truncate",
}


def killed_at(number: int, work: Callable[[], None]) -> bool:
    """Run `work` in a child that a real SIGKILL ends at its `number`-th access to files.

    Returns whether it was killed; False means that `work` was done before.
    """
    child = os.fork()
    if child == 0:
        accesses = 0

        def count(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal accesses
            if event in CHANGES_TO_FILES:
                accesses += 1
                if accesses == number:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)
        try:
            work()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def test_a_kill_at_any_access_to_files_leaves_a_run_that_starts(tmp_path: Path) -> None:
    """Writing and pruning, killed everywhere: what was finished is there, and pruning goes on."""

    def work() -> None:
        save(folder, 4, 7.0)
        checkpoint.prune(folder, 1)

    for step, fid in ((1, 9.0), (2, 3.0), (3, 5.0)):
        save(tmp_path / "before", step, fid)
    number, killed = 0, True
    while killed:
        number += 1
        folder = tmp_path / str(number)
        shutil.copytree(tmp_path / "before", folder)
        killed = killed_at(number, work)
        newest = checkpoint.latest(folder)
        assert newest is not None
        assert newest.name in ("step-00000003", "step-00000004")
        assert all(map(checkpoint.is_intact, checkpoint.list_finished(folder))), f"access {number}"
        assert checkpoint.find(folder, "best").name == "step-00000002"
        checkpoint.prune(folder, 1)
        left = sorted(path.name for path in folder.iterdir())
        assert left == ["step-00000002", newest.name]
    assert number > 30, "the kills did not reach the removal"


def test_a_damaged_old_state_ends_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for step, fid in ((1, 2.0), (2, 3.0), (3, 5.0)):
        save(tmp_path, step, fid)
    (tmp_path / "step-00000001" / "state.json").write_text("{")
    logging.getLogger("ganscale").propagate = True
    assert checkpoint.best(tmp_path) == tmp_path / "step-00000002"
    assert "step-00000001" in caplog.text
    caplog.clear()
    for _ in range(3):
        checkpoint.prune(tmp_path, 1)
    assert caplog.text.count("set aside") == 1
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["broken-step-00000001", "step-00000002", "step-00000003"]


def with_sums(path: Path, lines: list[str]) -> None:
    (path / "SHA256SUMS").write_text("".join(line + "\n" for line in lines))


def sums(path: Path) -> list[str]:
    return (path / "SHA256SUMS").read_text().splitlines()


def test_sums_name_files_of_the_checkpoint_only(tmp_path: Path) -> None:
    path = save(tmp_path, 1)
    (tmp_path / "outside").write_bytes(b"secret")
    (path / "sub").mkdir()
    (path / "sub" / "inside").write_bytes(b"secret")
    digest, good = hashlib.sha256(b"secret").hexdigest(), sums(path)
    for name in ("../outside", "sub/inside", str(tmp_path / "outside"), "/dev/zero"):
        with_sums(path, [*good, f"{digest}  {name}"])  # /dev/zero would be read for ever
        assert not checkpoint.is_intact(path), name
    with_sums(path, [*good, good[0]])
    assert not checkpoint.is_intact(path)
    with_sums(path, good)
    assert checkpoint.is_intact(path)


@pytest.mark.parametrize(
    "name", ["generator.safetensors", "ema.safetensors", "training.pt", "state.json"]
)
def test_sums_must_name_every_part(tmp_path: Path, name: str) -> None:
    path = save(tmp_path, 1)
    with_sums(path, [line for line in sums(path) if not line.endswith(name)])
    assert not checkpoint.is_intact(path)


def test_parts_are_regular_files(tmp_path: Path) -> None:
    path = save(tmp_path, 1)
    elsewhere = tmp_path / "elsewhere"
    (path / "training.pt").rename(elsewhere)
    (path / "training.pt").symlink_to(elsewhere)
    assert not checkpoint.is_intact(path)
    (path / "training.pt").unlink()
    os.mkfifo(path / "training.pt")  # opening it would wait for a writer
    assert not checkpoint.is_intact(path)
    (path / "SHA256SUMS").unlink()
    os.mkfifo(path / "SHA256SUMS")
    assert not checkpoint.is_intact(path)


def test_a_linked_checkpoint_is_none(tmp_path: Path) -> None:
    """Pruning a stranger's run must not reach into another one."""
    mine = save(tmp_path / "mine", 1)
    theirs = tmp_path / "theirs"
    save(theirs, 2)
    (theirs / "step-00000001").symlink_to(mine)
    assert [path.name for path in checkpoint.list_finished(theirs)] == ["step-00000002"]
    checkpoint.prune(theirs, 1)
    assert checkpoint.is_intact(mine)


@pytest.mark.parametrize("name", ["²", "1" * 5000, "-1", "", "../step-00000001"])
def test_a_name_that_is_none_gets_the_message(tmp_path: Path, name: str) -> None:
    save(tmp_path, 1)
    with pytest.raises(GanscaleError, match="is not there"):
        checkpoint.find(tmp_path, name)


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b"[]",
        b'{"step": 1}',
        b'{"step": -1, "images": 0, "data_fingerprint": ""}',
        b'{"step": 2, "images": 0, "data_fingerprint": ""}',
        b"[" * 100_000,
        b"\xff",
        b'{"step": 1' + b"0" * 5000 + b', "images": 0, "data_fingerprint": ""}',
    ],
)
def test_a_state_with_valid_sums_and_bad_content_gets_a_message(
    tmp_path: Path, content: bytes
) -> None:
    path = save(tmp_path, 1)
    (path / "state.json").write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    others = [line for line in sums(path) if not line.endswith("state.json")]
    with_sums(path, [*others, f"{digest}  state.json"])
    assert checkpoint.is_intact(path)
    with pytest.raises(GanscaleError, match=r"state\.json"):
        checkpoint.read_state(path)


def test_weights_with_valid_sums_and_bad_content_get_a_message(tmp_path: Path) -> None:
    path = save(tmp_path, 1)
    (path / "ema.safetensors").write_bytes(b"no tensors")
    with pytest.raises(GanscaleError, match=r"ema\.safetensors: cannot be read"):
        checkpoint.read_weights(path, "ema")


def test_one_state_is_the_same_bytes_however_it_came_about(tmp_path: Path) -> None:
    """Strings and tensors that are one object here, and two there, are the same state."""
    name = "".join(["be", "tas"])
    large = torch.arange(10_000.0)
    shared = {"a": {name: 1, "b": large[:3]}, "c": [{name: 2}, (large[:3], None)]}
    other = "".join(["bet", "as"])
    apart = {
        "a": {other: 1, "b": large[:3].clone()},
        "c": [{"".join(["b", "etas"]): 2}, (large[:3].clone(), None)],
    }
    state = State(step=1, images=8, data_fingerprint="f")
    weights = {part: {"w": torch.ones(3)} for part in checkpoint.PARTS}

    def written(folder: str, training: dict[str, Any]) -> dict[str, bytes]:
        path = checkpoint.write(tmp_path / folder, state, weights, training)
        return {file.name: file.read_bytes() for file in path.iterdir()}

    first = written("shared", shared)
    assert len(first["training.pt"]) < 20_000, "a view has brought its whole tensor along"
    assert written("again", shared) == first
    assert written("apart", apart) == first
    read = checkpoint.read_training(tmp_path / "shared" / "step-00000001")
    assert written("read", read) == first


def test_a_real_state_is_the_same_bytes_when_read_and_written_again(
    digits: Path, tmp_path: Path
) -> None:
    """Of optimizers, schedules, the balance and adaptive augmentation; and of two equal runs."""
    files = []
    for folder in ("first", "second"):
        experiment = tiny(
            digits,
            tmp_path / folder,
            "train.steps=4",
            "generator.optimizer.lr={from: 1e-3, to: 0, by: cosine, until: 9 steps}",
            "discriminator.optimizer.betas=[0, {from: 0.9, to: 0.99, until: 9 steps}]",
            "augment={policy: [flip, shift], adaptive: {}}",
            f"balance={{held_out: {digits}, every: 2, images: 20}}",
        )
        train(experiment)
        files.append(checkpoint.list_finished(experiment.folder / "checkpoints")[-1])
    content = [(path / "training.pt").read_bytes() for path in files]
    assert content[0] == content[1]
    state = checkpoint.read_state(files[0])
    weights = {part: checkpoint.read_weights(files[0], part) for part in checkpoint.PARTS}
    training = checkpoint.read_training(files[0])
    again = checkpoint.write(tmp_path / "again", state, weights, training)
    assert (again / "training.pt").read_bytes() == content[0]
