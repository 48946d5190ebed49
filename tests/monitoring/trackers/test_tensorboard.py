"""TensorBoard's files, read back by its own reader."""

import io
from pathlib import Path

import numpy as np
from accelerate import PartialState
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ganscale.monitoring.pictures import save_grid
from ganscale.monitoring.trackers.run_trackers import Trackers
from tests.conftest import tiny


def test_a_resumed_run_shows_each_step_once_with_its_pictures(digits: Path, tmp_path: Path) -> None:
    PartialState(cpu=True)  # Accelerate's trackers ask it for the rank
    experiment = tiny(digits, tmp_path, "monitoring.trackers=[tensorboard]")
    images = np.arange(4, dtype=np.uint8)[:, None, None, None] * np.full((1, 8, 8, 3), 60, np.uint8)
    grid = save_grid(images, tmp_path / "grid.png")
    walk = tmp_path / "walk.gif"
    frames = [Image.new("L", (8, 8), grey) for grey in (0, 200)]
    frames[0].save(walk, save_all=True, append_images=frames[1:])
    for resumed, last in ((0, 4), (2, 6)):
        trackers = Trackers(experiment, tmp_path, tmp_path / "metrics.jsonl", resumed)
        for step in range(resumed + 1, last + 1):
            trackers.log(step, 8 * step, {"loss_generator": 10.0 * last + step})
            trackers.picture(step, "samples", grid)
        trackers.log(last, 8 * last, {"fid": 12.5})
        trackers.picture(last, "gallery_interpolation", walk)
        trackers.finish()
    read = EventAccumulator(str(tmp_path / "tensorboard"), size_guidance={"images": 0})
    read.Reload()
    losses = [(event.step, event.value) for event in read.Scalars("losses/loss_generator")]
    assert losses == [(1, 41), (2, 42), (3, 63), (4, 64), (5, 65), (6, 66)]
    assert [event.step for event in read.Scalars("scores/fid")] == [6]
    samples = read.Images("pictures/samples")
    assert [event.step for event in samples] == [1, 2, 3, 4, 5, 6]
    shown = Image.open(io.BytesIO(samples[-1].encoded_image_string))
    assert np.array_equal(np.asarray(shown), np.asarray(Image.open(grid)))
    (animation,) = read.Images("pictures/gallery_interpolation")
    assert Image.open(io.BytesIO(animation.encoded_image_string)).n_frames == 2


def test_charts_are_grouped_by_what_their_numbers_are_about(digits: Path, tmp_path: Path) -> None:
    PartialState(cpu=True)
    groups = {
        "losses": ("loss_generator", "loss_discriminator"),
        "discriminator": ("d_real", "d_fake", "d_accuracy", "balance_accuracy"),
        "penalties": ("penalty_r1", "penalty_weight_r1"),
        "machinery": (
            *("learning_rate_generator", "beta1_generator", "beta2_discriminator"),
            *("gradient_norm_generator", "loss_scale_generator", "balance_generator"),
            *("ema_half_life", "augment_probability", "augment_noise_std"),
        ),
        "system": ("images", "images_per_second", "seconds_step", "memory_gib", "mfu"),
        "scores": ("fid", "kid_deviation", "diversity", "imagesharpness", "my_score"),
    }
    experiment = tiny(digits, tmp_path, "monitoring.trackers=[tensorboard]")
    trackers = Trackers(experiment, tmp_path, tmp_path / "metrics.jsonl")
    trackers.log(1, 8, {name: 0.5 for names in groups.values() for name in names})
    trackers.finish()
    read = EventAccumulator(str(tmp_path / "tensorboard"))
    read.Reload()
    wanted = {f"{group}/{name}" for group, names in groups.items() for name in names}
    assert set(read.Tags()["scalars"]) == wanted
