"""Whether two runs left the same."""

import json
from pathlib import Path

import torch

from ganscale.config import Experiment
from ganscale.runs import checkpoint
from ganscale.runs.run_folder import RunFolder

PLAYERS_SECONDS = ("seconds_discriminator", "seconds_generator")


def metrics(experiment: Experiment) -> list[dict[str, float]]:
    """Return a run's lines of metrics without what a clock measured."""
    path = RunFolder.of(experiment).path / "metrics.jsonl"
    timings = ("images_per_second", "seconds_data", "seconds_step", *PLAYERS_SECONDS)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in timings} for line in lines]


def same_checkpoint(one: Path, other: Path) -> None:
    """Assert that two checkpoints hold the same weights and training state, bit for bit."""
    for part in ("generator", "discriminator", "ema"):
        a, b = checkpoint.read_weights(one, part), checkpoint.read_weights(other, part)
        assert a.keys() == b.keys()
        for name in a:
            assert torch.equal(a[name], b[name]), f"{part} {name}"
    moments = [checkpoint.read_training(p) for p in (one, other)]
    assert _equal(*moments)


def _equal(a: object, b: object) -> bool:
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(_equal(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(_equal, a, b))  # type: ignore[arg-type]
    return a == b
