"""Whole runs of one process against the game by hand, for every shipped recipe at a tiny width."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from ganscale.config import Experiment
from ganscale.config.load import load
from ganscale.data.packing.pack import pack
from ganscale.data.packing.shard_writer import Packing
from ganscale.data.packing.sources import ArraySource
from ganscale.monitoring.metrics_log import read_metrics
from ganscale.runs import checkpoint
from ganscale.runs.run_folder import RunFolder
from ganscale.training import model, recorder
from ganscale.training.trainer import train
from tests import reference
from tests.reference import PLAYERS, Played, by_hand
from tests.system.processes import ROOT

STEPS, FEW_STEPS = 5, 2
WIDE = 128  # pixels
IMAGES = 250
# Added to a tensor's norm: the bias of a convolution before BatchNorm has no gradient but rounding.
FLOOR = 1e-2
NARROW = {
    "mlp": {"hidden": [16]},
    "dcgan": {"width": 4},
    "resnet": {"width": 8},
    "r3gan": {"widths": [16, 16, 8, 8], "blocks": 1, "group": 4},
}
FILES = sorted(path.stem for path in (ROOT / "configs").glob("*.yaml"))
# The other files for one core differ from their bases in what every case here sets itself: widths,
# length, precision; and in a learning rate.
SHIPPED = [name for name in FILES if not name.endswith("_cpu") or name == "cifar10_r3gan_cpu"]
MORE: dict[str, tuple[str, ...]] = {
    "mnist_dcgan_conditional": (
        "augment.noise_std={from: 0.3, to: 0, until: 4 steps}",
        "train.accumulation=2",
    ),
    "cifar10_r3gan_cpu": (
        "augment.adaptive={every: 2, images: 100, target: 0.05}",
        "train.accumulation=2",
        "discriminator.steps=2",
    ),
    "folder_dcgan64": ("ema.half_life=20", "train.accumulation=4"),
    "mnist_mlp": ("ema.ramp_up=null", "ema.half_life=15", "discriminator.clip_norm=0.05"),
    "fashion_dcgan": (
        "generator.optimizer.lr=[{from: 0, to: 1e-3, until: 2 steps},"
        "{to: 1e-4, by: exponential, until: 40 images}, 2e-4]",
        "generator.optimizer.betas=[{from: 0.5, to: 0, until: 50% of run}, 0.9]",
        "discriminator.optimizer.lr={from: 1e-3, to: 1e-4, by: cosine, until: end of run}",
        "discriminator.optimizer.betas=[0, {from: 0.9, to: 0.99, by: cosine, until: 3 steps}]",
        "objective.penalties=[{kind: r1, weight: {from: 1, to: 5, until: 20 images}}]",
        "discriminator.steps=2",
        "augment.policy=[flip, shift]",
        "augment.probability={from: 0, to: 0.8, by: cosine, until: end of run}",
        "augment.noise_std=[{hold: 0.2, until: 2 steps}, {from: 0.1, to: 0, until: 4 steps}]",
        "ema={half_life: {from: 0, to: 30, until: 4 steps}, ramp_up: null}",
    ),
}
"""What a recipe of that name is tried with besides: options that no shipped file turns on."""


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of sets, made as they are needed: `RESOLUTION-CHANNELS`."""
    return tmp_path_factory.mktemp("sets")


def few_digits() -> ArraySource:
    """Return as many digits as the steps see, which are soon packed and decoded at 256×256."""
    images, classes = load_digits(return_X_y=True)
    pixels = (images[:IMAGES].reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    return ArraySource("digits", pixels, classes[:IMAGES])


def narrow(name: str, sets: Path, folder: Path, *overrides: str) -> Experiment:
    """A shipped file on small data, with everything that it decides but its widths."""
    values = load(
        ROOT / "configs" / f"{name}.yaml",
        [
            f"runs={folder}",
            "train.steps=8",  # as schedules understand it
            "train.batch_size=8",
            "train.precision=fp32",
            "evaluation.every=null",
            "monitoring.wandb=disabled",
            "monitoring.trackers=[wandb]",
            "monitoring.log_every=1",
            "monitoring.pictures_every=2",  # the average is sampled meanwhile
            *overrides,
        ],
    ).model_dump(mode="json")
    for player in PLAYERS:
        network = values[player]["network"]
        network |= NARROW[network["architecture"]]
        # As large as gradients are: else Adam enlarges what is nothing but rounding.
        values[player]["optimizer"]["eps"] = 1e-3
    resolution, channels = values["data"]["resolution"], values["data"]["channels"]
    path = sets / f"{resolution}-{channels}"
    if not path.exists():
        packing = Packing(size=resolution, channels=channels, samples_per_shard=60)
        pack(few_digits(), path, packing, 1, lambda *_: None)
    values["data"]["path"] = str(path)
    # Of a million activations some lie within rounding of a ReLU's kink: sooner than of a thousand.
    values["train"]["steps"] = STEPS if resolution < WIDE else FEW_STEPS
    return Experiment.model_validate(values)


CASES = [(name, ()) for name in SHIPPED] + list(MORE.items())


@pytest.mark.parametrize(("name", "more"), CASES, ids=lambda v: v if isinstance(v, str) else len(v))
def test_a_run_is_the_game_by_hand(
    sets: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    more: tuple[str, ...],
) -> None:
    experiment = narrow(name, sets, tmp_path, *more)
    if experiment.image_shape[-1] >= WIDE:
        # Half a minute of large images that say nothing about a game.
        for module in (model, reference):
            monkeypatch.setattr(module, "STANDING_BATCHES", 1)
        monkeypatch.setattr(recorder, "draw_gallery", lambda *_: [])
    assert train(experiment) == 0
    folder, played = RunFolder.of(experiment), by_hand(experiment, experiment.train.steps)
    path = checkpoint.list_finished(folder.checkpoints)[-1]
    check_weights(path, played)
    last = read_metrics(folder.metrics)[-1]
    for player in PLAYERS:
        norm = last[f"gradient_norm_{player}"]
        assert norm == pytest.approx(played.norms[player], rel=2e-3, abs=1e-7)
    if experiment.augment.adaptive is not None:
        state = checkpoint.read_training(path)["augmentation"]
        assert state["probability"] == pytest.approx(played.probability)
        assert math.isfinite(played.probability)


def check_weights(path: Path, played: Played) -> None:
    """A checkpoint holds what was played by hand."""
    for part, network in (
        ("generator", played.generator),
        ("discriminator", played.discriminator),
        ("ema", played.average),
    ):
        ours = checkpoint.read_weights(path, part)
        theirs = network.state_dict()
        assert ours.keys() == theirs.keys()
        for key, value in theirs.items():
            if part == "ema" and key.endswith("num_batches_tracked"):
                continue
            difference = (ours[key].double() - value).norm() / (value.double().norm() + FLOOR)
            assert float(difference) < 1e-3, f"{part} {key}"


def test_a_fine_tuned_run_is_the_game_by_hand(sets: Path, tmp_path: Path) -> None:
    """From another run's weights, with lower layers frozen, interrupted in between."""
    source = narrow("cifar10_dcgan", sets, tmp_path, "name=source", "seed=1")
    train(source)
    path = RunFolder.of(source).checkpoints / "step-00000005"
    asked = (
        f"init_from.source={source.folder}",
        "discriminator.freeze=2",
        "discriminator.clip_norm=0.05",
        "objective.penalties=[{kind: r1, weight: 1, every: 2}]",
        "ema.half_life=30",
    )
    tuned = narrow("cifar10_dcgan", sets, tmp_path, "name=tuned", *asked)
    shorter = tuned.train.model_copy(update={"steps": 2})
    train(tuned.model_copy(update={"train": shorter}))
    train(tuned)
    end = RunFolder.of(tuned).checkpoints / "step-00000005"
    played = by_hand(tuned, STEPS, source=path)
    check_weights(end, played)
    last = read_metrics(RunFolder.of(tuned).metrics)[-1]
    assert last["gradient_norm_discriminator"] == pytest.approx(played.norms["discriminator"], 2e-3)
    before, after = (checkpoint.read_weights(p, "discriminator") for p in (path, end))
    for name, value in before.items():
        is_frozen = name.startswith(("layers.0.", "layers.2."))
        assert torch.equal(value, after[name]) == is_frozen, name
