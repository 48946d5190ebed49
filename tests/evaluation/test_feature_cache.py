"""What is kept of a set is found again for exactly that, and is the same for all who look."""

import errno
import os
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from ganscale.data.reading.image_set import ImageSet
from ganscale.engines.distributed import Tensors
from ganscale.errors import GanscaleError
from ganscale.evaluation import feature_cache as cache_module
from ganscale.evaluation.feature_cache import Cache
from ganscale.evaluation.features import trained
from ganscale.evaluation.features.classifier import Classifier
from ganscale.evaluation.features.network import Opening
from ganscale.evaluation.features.trained import TrainedNetwork
from ganscale.tensor_file import save_tensors
from tests.conftest import tiny
from tests.evaluation.replay import HOST, Replay, all_images, make


def test_statistics_belong_to_the_classifier_that_measured_them(
    digits: Path, tmp_path: Path
) -> None:
    experiment = tiny(digits, tmp_path, "evaluation.samples=1797")
    before = make(experiment, tmp_path)
    copy = shutil.copytree(digits, tmp_path / "copy")
    (path,) = copy.glob("classifier-*.safetensors")
    with safe_open(path, "pt") as file:
        about, weights = file.metadata(), {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    order = torch.from_numpy(np.random.default_rng(0).permutation(128))
    last = max(key for key in weights if key.startswith("body") and weights[key].dim() == 2)
    for key in (last, last.replace("weight", "bias")):
        weights[key] = weights[key][order]
    weights["head.weight"] = weights["head.weight"][:, order]
    save_file({key: value.contiguous() for key, value in weights.items()}, path, about)

    moved = tiny(copy, tmp_path, "evaluation.samples=1797")
    after = make(moved, tmp_path)
    assert after.network.checksum != before.network.checksum
    scores = after.scores(Replay(all_images(moved)))
    assert scores.values["fid"] == pytest.approx(0, abs=1e-6)
    assert scores.perfect_fid == pytest.approx(before.perfect_fid, rel=1e-6)  # features only moved


@pytest.mark.parametrize("links", [True, False])
def test_what_one_has_written_is_what_the_others_get(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    if not links:

        def refuse(*_: object) -> None:
            raise OSError(errno.EPERM, "this file system knows no links")

        monkeypatch.setattr(os, "link", refuse)
    data = tiny(digits, tmp_path).data.model_copy(update={"path": str(tmp_path / "set")})
    images = ImageSet(tiny(digits, tmp_path).data)
    caches = [Cache(data, images, tmp_path / "run") for _ in range(2)]
    first = caches[0].write("a", {"x": torch.zeros(3)})
    second = caches[1].write("a", {"x": torch.ones(3)})
    assert first["x"].tolist() == second["x"].tolist() == [0, 0, 0]
    assert caches[1].write("a", {"x": torch.ones(3)}, of="other")["x"].tolist() == [1, 1, 1]
    assert caches[0].read("a", of="none") is None
    (damaged,) = (p for p in (tmp_path / "set").iterdir() if b"other" not in p.read_bytes())
    damaged.write_bytes(damaged.read_bytes()[:-2])
    assert caches[0].read("a") is None
    assert caches[0].write("a", {"x": torch.full((3,), 2.0)})["x"].tolist() == [2, 2, 2]
    assert len(list((tmp_path / "set").iterdir())) == 2  # nothing half written is left


def test_where_a_set_cannot_be_written_beside_the_run_folder_keeps_it(
    digits: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("no folder")
    data = tiny(digits, tmp_path).data.model_copy(update={"path": str(tmp_path / "file")})
    images = ImageSet(tiny(digits, tmp_path).data)
    cache = Cache(data, images, tmp_path / "run")
    cache.write("a", {"x": torch.ones(2)})
    found = cache.read("a")
    assert found is not None
    assert found["x"].tolist() == [1, 1]
    assert len(list((tmp_path / "run").iterdir())) == 1
    with pytest.raises(GanscaleError, match="the a of the evaluation cannot be written"):
        Cache(data, images, tmp_path / "file").write("a", {"x": torch.ones(2)})


def test_runs_that_start_at_once_on_a_new_set_end_with_one_classifier(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tiny(digits, tmp_path).data.model_copy(update={"path": str(tmp_path / "set")})
    images = ImageSet(tiny(digits, tmp_path).data)
    both_train, number = threading.Barrier(4), iter(range(4))

    def train(network: TrainedNetwork, *_: object) -> Tensors:
        network.accuracy.fill_(next(number))
        both_train.wait(60)
        return network.state_dict()

    written: list[Path] = []

    def save(tensors: dict[str, torch.Tensor], path: Path, about: dict[str, str]) -> None:
        written.append(path)
        save_tensors(tensors, path, about)

    monkeypatch.setattr(trained, "train", train)
    monkeypatch.setattr(cache_module, "save_tensors", save)
    found: list[Classifier] = []

    def start() -> None:
        cache = Cache(data, images, tmp_path / "run")
        opening = Opening(tiny(digits, tmp_path), images, images.reader(), HOST, cache)
        found.append(Classifier.open(opening))

    runs = [threading.Thread(target=start) for _ in range(4)]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    assert len(found) == 4
    assert len({one.checksum for one in found}) == 1
    assert len({float(one.accuracy) for one in found}) == 1
    assert len(set(written)) == 4  # no two write into one file
    assert [path.name[:11] for path in (tmp_path / "set").iterdir()] == ["classifier-"]


def test_what_is_kept_beside_a_shared_set_is_for_all_who_read_the_set(
    digits: Path, tmp_path: Path
) -> None:
    data = tiny(digits, tmp_path).data
    cache = Cache(data.model_copy(update={"path": str(tmp_path)}), ImageSet(data), tmp_path / "run")
    cache.write("features", {"a": torch.zeros(1)})
    (kept,) = tmp_path.glob("features-*")
    (tmp_path / "new").touch()
    assert kept.stat().st_mode == (tmp_path / "new").stat().st_mode
