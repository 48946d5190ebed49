"""The loops that the trainer is compared with, on networks of a few channels."""

import dataclasses
from pathlib import Path

import pytest
import torch
from torch.nn.functional import softplus

NARROW = {"MLP": ("mlp", 4), "DCGAN": ("dcgan", 4, 4), "R3GAN": ("r3gan", 4, 8)}
NARROW["SNGAN"] = ("sngan", 4, 8, 8)
IMAGES = 16


@pytest.mark.parametrize("name", NARROW)
def test_a_game_is_measured(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import games
    import step

    monkeypatch.setattr(games, "IMAGES", IMAGES)
    game = next(game for title, game in games.GAMES.items() if title.startswith(name))
    function, *sizes = NARROW[name]
    overrides = getattr(games, function)(*sizes)
    if name == "R3GAN":
        overrides = (*overrides, games.R1_AND_R2)
    found = step.measured(dataclasses.replace(game, overrides=overrides), tmp_path, 1, 1)
    assert set(found) == {"trainer", *game.variants, *game.loops}
    assert all(row["images_per_second"] > 0 for row in found.values())
    assert found["trainer"]["trainer_is"] == 1


def test_the_bare_loop_has_the_penalties(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import bare
    import games

    monkeypatch.setattr(games, "IMAGES", IMAGES)
    given = games.setting(tmp_path, games.r3gan(4, 8, games.R1_AND_R2), torch.device("cpu"))
    loop = bare.BareLoop(given)
    torch.manual_seed(0)
    loss = loop.discriminator_loss()

    torch.manual_seed(0)
    generator, discriminator = given.networks()
    real = torch.from_numpy(given.images[:4]).permute(0, 3, 1, 2) / 127.5 - 1
    fake = generator(given.latents()).detach()
    real_logits, fake_logits = (discriminator(images.requires_grad_()) for images in (real, fake))
    wanted = softplus(fake_logits - real_logits).mean()
    for images, logits in ((real, real_logits), (fake, fake_logits)):
        (slope,) = torch.autograd.grad(logits.sum(), images)
        wanted = wanted + 0.05 / 2 * slope.square().sum((1, 2, 3)).mean()
    torch.testing.assert_close(loss, wanted)
