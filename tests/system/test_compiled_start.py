"""`train.compile` with the compiler of a user: Inductor, its C++, and the code that it keeps."""

import os
import shutil
from pathlib import Path

import pytest

from ganscale.runs import checkpoint
from ganscale.runs.run_folder import RunFolder
from tests.conftest import tiny
from tests.reference import by_hand
from tests.system.forked import forked

STEPS = 2
FLOOR = 1e-2  # added to a tensor's norm

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(
        shutil.which(os.environ.get("CXX", "g++")) is None, reason="needs a C++ compiler"
    ),
]


def test_a_second_start_finds_the_code_of_the_first(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The textbook GAN with a lazy penalty: three graphs, and the game that is written by hand."""
    # A test that has compiled in this process has set it for all that come after.
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    kept = tmp_path / ".cache" / "ganscale" / "compiled"
    found: list[set[Path]] = []
    for name in ("first", "second"):
        experiment = tiny(
            digits,
            tmp_path,
            f"name={name}",
            f"train.steps={STEPS}",
            "train.compile=true",
            "objective.penalties=[{kind: r1, weight: 1, every: 2}]",
            "generator.optimizer.eps=1e-3",  # as large as gradients are: see test_reference.py
            "discriminator.optimizer.eps=1e-3",
        )
        file = tmp_path / f"{name}.yaml"
        file.write_text(experiment.model_dump_json())
        done = forked(1, "train", str(file), folder=tmp_path, HOME=str(tmp_path))
        assert done.returncode == 0
        assert "compiled both losses in" in done.stderr
        found.append({path for path in kept.rglob("*") if path.suffix != ".lock"})
        played = by_hand(experiment, STEPS)
        finished = checkpoint.list_finished(RunFolder.of(experiment).checkpoints)[-1]
        for part in ("generator", "discriminator"):
            ours = checkpoint.read_weights(finished, part)
            for key, value in getattr(played, part).state_dict().items():
                difference = (ours[key].double() - value).norm() / (value.norm() + FLOOR)
                assert float(difference) < 1e-4, f"{part} {key}"
    assert len(list((kept / "aotautograd").iterdir())) == 3  # a loss and its gradients each
    assert found[1] == found[0]
