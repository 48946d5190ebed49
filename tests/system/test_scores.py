"""Nodes that share nothing but the set's address score alike."""

from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from ganscale.config import Experiment
from ganscale.config.load import to_yaml
from ganscale.data.packing.named_sources import digits_source
from ganscale.data.packing.pack import pack
from ganscale.data.packing.shard_writer import Packing
from ganscale.evaluation.scores import read_evaluations
from ganscale.runs.run_folder import RunFolder
from ganscale.training.trainer import train
from tests.conftest import tiny
from tests.system.processes import on_machines

pytestmark = pytest.mark.system


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def test_ranks_score_with_rank_0s_classifier_whatever_their_own_nodes_keep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two nodes of two ranks: one with an empty cache, one with another classifier in its own."""
    digits = tmp_path / "digits"  # of 8×8 pixels, on which classifiers are trained in a second
    pack(digits_source(), digits, Packing(size=8, samples_per_shard=400), 1, lambda *_: None)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=digits))
    Thread(target=server.serve_forever, daemon=True).start()
    homes = [tmp_path / "node0", tmp_path / "node1"]

    def experiment(name: str) -> Experiment:
        return tiny(
            digits,
            tmp_path,
            f"name={name}",
            f"data.path=http://127.0.0.1:{server.server_port}",
            "data.resolution=8",
            "data.cache='~/cache'",
            "data.reader=indexed",
            "data.workers=0",
            "train.steps=2",
            "evaluation.every=2",
            "evaluation.samples=202",
        )

    def kept(home: Path, kind: str) -> list[Path]:
        return sorted((home / "cache" / "evaluation").glob(f"*/{kind}-*.safetensors"))

    with monkeypatch.context() as patch:
        patch.setenv("HOME", str(homes[1]))
        train(experiment("alone"))
    (path,) = kept(homes[1], "classifier")
    with safe_open(path, "pt") as file:
        about, weights = file.metadata(), {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    others = {
        k: 3 * w if w.dtype == torch.float32 and w.dim() > 1 else w for k, w in weights.items()
    }
    save_file(others, path, about)
    path.chmod(0o444)

    together = tmp_path / "together.yaml"
    together.write_text(to_yaml(experiment("together")))
    nodes = on_machines("ddp", together, *({"HOME": str(home)} for home in homes))
    logs = [node.communicate(timeout=900)[1] for node in nodes]
    server.shutdown()
    assert [node.returncode for node in nodes] == [0, 0], logs
    runs = [RunFolder(tmp_path / "runs" / name) for name in ("alone", "together")]
    (one,), (four,) = (read_evaluations(run.evaluations) for run in runs)
    assert four["features_checksum"] == one["features_checksum"]
    assert four["values"] == pytest.approx(one["values"], rel=1e-3, abs=1e-6)
    assert four["perfect_fid"] == pytest.approx(one["perfect_fid"], rel=1e-6)
    for kind, number in (("classifier", 1), ("statistics", 1), ("perfect", 1)):
        assert len(kept(homes[0], kind)) == number
        assert len(kept(homes[1], kind)) == number  # of the run alone: node 1 wrote nothing since
