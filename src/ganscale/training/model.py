"""The state of a game: two players and the generator's moving average, built and restored."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ganscale import randomness
from ganscale.config import Experiment
from ganscale.engines.accelerators import make_accelerators
from ganscale.engines.deepspeed_player import DeepSpeedPlayer
from ganscale.engines.fsdp2_player import FSDPPlayer
from ganscale.engines.player import Player
from ganscale.evaluation.samples import drawn_labels
from ganscale.gan.ema import MovingAverage
from ganscale.networks import first_discriminator, first_generator
from ganscale.runs import checkpoint
from ganscale.training.augmentation import Augmentation
from ganscale.training.penalty_rules import refuse_unfit_penalties
from ganscale.training.rates import LearningRates

STANDING_BATCHES, STANDING_BATCH_SIZE = 16, 128  # latents behind the average's BatchNorm statistics


class Game:
    """Everything that a step reads and writes, on this rank."""

    def __init__(self, experiment: Experiment):
        self._experiment = experiment
        classes = experiment.data.classes
        self.class_shares = torch.ones(classes) if classes is not None else None
        """How often each class (classes,) is drawn; equal unless the data say otherwise."""
        accelerators = make_accelerators(experiment)
        self.engine = accelerators.engine
        player = Player
        if accelerators.zero_stage is not None:
            player = DeepSpeedPlayer
        elif accelerators.fsdp:
            player = FSDPPlayer
        self.generator: Player = player(
            "generator",
            accelerators.generator,
            first_generator(experiment),
            experiment.generator,
            experiment.train,
        )
        discriminator = first_discriminator(experiment)
        refuse_unfit_penalties(experiment, discriminator)
        self.discriminator: Player = player(
            "discriminator",
            accelerators.discriminator,
            discriminator,
            experiment.discriminator,
            experiment.train,
        )
        self.average = MovingAverage(
            first_generator(experiment).to(self.generator.device),
            self.generator.raw,
            experiment.ema,
            experiment.train.batch_size,
        )
        self.augmentation = Augmentation(experiment, accelerators.generator)
        self.rates = LearningRates(experiment, self.generator, self.discriminator)

    def sampled_network(self) -> nn.Module:
        """The averaged generator, ready to sample from: the same on every rank."""
        experiment, rows = self._experiment, range(STANDING_BATCH_SIZE)
        device = self.generator.device
        batches = []
        for i in range(STANDING_BATCHES):
            inputs = [randomness.latents(experiment.latent, experiment.seed, "standing", i, rows)]
            if self.class_shares is not None:
                seed = experiment.seed
                inputs.append(drawn_labels(self.class_shares, seed, "standing labels", i, rows))
            batches.append(tuple(part.to(device) for part in inputs))
        return self.average.snapshot(batches)

    def weights(self) -> dict[str, dict[str, Tensor]]:
        """What sampling and other programs read; every rank calls it."""
        return {
            "generator": self.generator.state(),
            "discriminator": self.discriminator.state(),
            "ema": dict(self.sampled_network().state_dict()),
        }

    def training_state(self) -> dict[str, Any]:
        """What, besides `weights`, the next step depends on; every rank calls it."""
        return {
            "generator": self.generator.training_state(),
            "discriminator": self.discriminator.training_state(),
            "augmentation": self.augmentation.state(),
            "rates": self.rates.state(),
        }

    def restore(self, path: Path) -> None:
        """Take up where the checkpoint left off."""
        training = checkpoint.read_training(path)
        for part, player in (("generator", self.generator), ("discriminator", self.discriminator)):
            player.load_state(checkpoint.read_weights(path, part))
            player.load_training_state(training[part])
        self.average.network.load_state_dict(checkpoint.read_weights(path, "ema"))
        self.augmentation.load_state(training["augmentation"])
        self.rates.load_state(training["rates"], checkpoint.read_state(path).step)
