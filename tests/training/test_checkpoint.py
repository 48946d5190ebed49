import logging
from pathlib import Path

import pytest
import torch

from ganscale.errors import GanscaleError
from ganscale.training import checkpoint
from ganscale.training.checkpoint import State


def save(folder: Path, step: int, fid: float | None = None) -> Path:
    state = State(
        step=step,
        images=step * 8,
        data_fingerprint="f",
        metrics={} if fid is None else {"fid": fid},
    )
    weights = {"generator": {"w": torch.full((3,), float(step))}}
    return checkpoint.write(folder, state, weights, {"moment": torch.ones(2)})


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = save(tmp_path, 5)
    assert path.name == "step-00000005"
    assert checkpoint.read_state(path).images == 40
    assert checkpoint.read_weights(path, "generator")["w"].tolist() == [5, 5, 5]
    assert checkpoint.read_training(path)["moment"].tolist() == [1, 1]
    assert checkpoint.is_sound(path)


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
    assert [p.name[-1] for p in checkpoint.listed(tmp_path)] == ["2", "4", "5"]
    assert checkpoint.find(tmp_path, "best").name == "step-00000002"
    assert checkpoint.find(tmp_path, "latest").name == "step-00000005"
    assert checkpoint.find(tmp_path, "4") == checkpoint.find(tmp_path, "step-00000004")


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
