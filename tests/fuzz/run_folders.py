"""A stranger's run folder: whatever is in it, a command ends in success or in one message."""

import hashlib
import json
import shutil
from pathlib import Path
from random import Random

import numpy as np
import yaml

from ganscale.cli import main
from ganscale.data.packing.pack import pack
from ganscale.data.packing.shard_writer import Packing
from ganscale.data.packing.sources import ArraySource
from ganscale.errors import GanscaleError
from ganscale.runs import checkpoint
from ganscale.training.trainer import train
from tests.conftest import tiny
from tests.fuzz.mutations import mutated, mutated_json

CHECKPOINT = "checkpoints/step-00000002"
LINES = ("metrics.jsonl", "evaluations.jsonl")
OF_CHECKPOINT = ("state.json", "SHA256SUMS", "training.pt", "ema.safetensors")
FILES = ("experiment.yaml", *LINES, *(f"{CHECKPOINT}/{name}" for name in OF_CHECKPOINT))
COMMANDS = (
    *(
        "sample {run} --num 4 --out {out}/images.npz",
        "sample {run} --checkpoint best --grid {out}.png",
    ),
    *("export {run} --out {out}", "report {run}", ""),
)
EVALUATION = {"step": 2, "images": 16, "values": {"fid": 3.0, "kid": 0.1}, "features": "classifier"}
EVALUATION |= {"features_checksum": "c", "samples": 9, "real_samples": 9, "real_set": "s"}
EVALUATION |= {"perfect_fid": 0.1, "class_shares": [0.5, 0.5]}


def hostile_run(random: Random, scratch: Path) -> str:
    """One file is changed; its sums fit it, as one who means harm would see to, or do not."""
    run = scratch / "run"
    shutil.copytree(_sound(scratch.parent), run)
    name = random.choice(FILES)
    path = run / name
    path.write_bytes(_changed(name, path.read_bytes(), random))
    if name.startswith(CHECKPOINT) and path.name != checkpoint.SUMS and random.random() < 0.8:
        _fit_sums(path.parent)
    command = random.choice(COMMANDS)
    if not command:
        return _training_of(run)
    return "error" if main(command.format(run=run, out=scratch / "out").split()) else "read"


def _training_of(run: Path) -> str:
    """What a resumed run reads besides."""
    newest = checkpoint.latest(run / "checkpoints")
    if newest is None:
        return "error"
    try:
        with checkpoint.explain_mismatch(newest):
            checkpoint.read_training(newest)
    except GanscaleError:
        return "error"
    return "read"


def _changed(name: str, content: bytes, random: Random) -> bytes:
    if random.random() < 0.4 or not name.endswith(("yaml", "json", "jsonl")):
        return mutated(content, random)
    if name.endswith("yaml"):  # JSON is YAML
        return mutated_json(json.dumps(yaml.safe_load(content)).encode(), random)
    lines = content.splitlines() if name.endswith("jsonl") else [content]
    at = random.randrange(len(lines))
    lines[at] = mutated_json(lines[at], random)
    return b"\n".join(lines) + b"\n"


def _fit_sums(path: Path) -> None:
    files = sorted(file for file in path.iterdir() if file.name != checkpoint.SUMS)
    sums = [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in files]
    (path / checkpoint.SUMS).write_text("".join(sums))


def _sound(folder: Path) -> Path:
    """A run of two steps, trained once."""
    run = folder / "sound-run" / "runs" / "tiny"
    if not run.is_dir():
        images = np.random.default_rng(0).integers(0, 256, (20, 28, 28), dtype=np.uint8)
        source = ArraySource("fuzz", images, np.arange(20) % 2, ("a", "b"))
        pack(source, folder / "set", Packing(), 1, lambda *_: None)
        experiment = tiny(folder / "set", folder / "sound-run", "train.steps=2")
        train(experiment)
        (run / "evaluations.jsonl").write_text(json.dumps(EVALUATION) + "\n")
        shutil.rmtree(run / "gallery")
    return run
