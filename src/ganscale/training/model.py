"""A GAN that is being trained: two players, the generator's moving average, and their state."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ganscale import randomness
from ganscale.config import Experiment
from ganscale.engines.accelerators import build_players
from ganscale.engines.launcher import Launcher
from ganscale.engines.player import Player
from ganscale.evaluation.samples import drawn_labels
from ganscale.gan.ema import MovingAverage
from ganscale.networks import first_discriminator, first_generator
from ganscale.networks.freezing import freeze_lower_stages
from ganscale.runs import checkpoint
from ganscale.training.augmentation import Augmentation
from ganscale.training.penalty_rules import refuse_unfit_penalties
from ganscale.training.rates import LearningRates

STANDING_BATCHES, STANDING_BATCH_SIZE = 16, 128  # for BatchNorm statistics of the average


class GANModel:
    """The state on this rank that a training step reads and writes."""

    def __init__(
        self,
        experiment: Experiment,
        launcher: Launcher,
        make_players: Callable[..., tuple[Player, Player]] = build_players,
    ):
        self._experiment = experiment
        classes = experiment.data.classes
        self.class_shares = torch.ones(classes) if classes is not None else None
        """Relative frequencies (classes,) with which classes are drawn; equal unless the dataset
        sets them. None for an unconditional GAN."""
        discriminator = first_discriminator(experiment)
        freeze_lower_stages(discriminator, experiment.discriminator.freeze)
        refuse_unfit_penalties(experiment, discriminator)
        self.generator, self.discriminator = make_players(
            experiment, launcher, first_generator(experiment), discriminator
        )
        self.device = self.generator.device
        self.average = MovingAverage(
            first_generator(experiment).to(self.device),
            self.generator.module,
            experiment.ema,
            experiment.pace,
        )
        self.augmentation = Augmentation(experiment, self.device)
        self.rates = LearningRates(experiment, self.generator, self.discriminator)

    def sampled_network(self) -> nn.Module:
        """Return the averaged generator, ready for sampling; it is the same on every rank."""
        latent, seed = self._experiment.latent, self._experiment.seed
        rows, device = range(STANDING_BATCH_SIZE), self.device
        batches = []
        for i in range(STANDING_BATCHES):
            inputs = [randomness.latents(latent, seed, "standing", i, rows, device)]
            if self.class_shares is not None:
                shares = self.class_shares
                inputs.append(drawn_labels(shares, seed, "standing labels", i, rows, device))
            batches.append(tuple(inputs))
        return self.average.snapshot(batches)

    def weights(self) -> dict[str, dict[str, Tensor]]:
        """Return the weights that sampling and other programs read; every rank must call this."""
        return {
            "generator": self.generator.weights(),
            "discriminator": self.discriminator.weights(),
            "ema": dict(self.sampled_network().state_dict()),
        }

    def training_state(self) -> dict[str, Any]:
        """Return what the next step depends on, besides `weights`; every rank must call this."""
        return {
            "generator": self.generator.training_state(),
            "discriminator": self.discriminator.training_state(),
            "augmentation": self.augmentation.state(),
            "rates": self.rates.state(),
        }

    def load_weights(self, weights: dict[str, dict[str, Tensor]]) -> None:
        """Load the weights of both players and of the average; every rank must call this."""
        self.generator.load_weights(weights["generator"])
        self.discriminator.load_weights(weights["discriminator"])
        self.average.network.load_state_dict(weights["ema"])

    def restore(self, path: Path) -> None:
        """Restore the weights and training state of a checkpoint."""
        training = checkpoint.read_training(path)
        self.load_weights({part: checkpoint.read_weights(path, part) for part in checkpoint.PARTS})
        self.generator.load_training_state(training["generator"])
        self.discriminator.load_training_state(training["discriminator"])
        self.augmentation.load_state(training["augmentation"])
        self.rates.load_state(training["rates"])
