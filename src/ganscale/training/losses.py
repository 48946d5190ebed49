"""Both players' losses of a micro-batch, from the bytes of its images to a scalar.

They read no number that changes from update to update but those that they are given, so that
`torch.compile` can take each whole, and does not compile it again when a schedule moves.
"""

from functools import partial

from torch import Tensor

from ganscale import randomness
from ganscale.config import Experiment, PenaltyOptions
from ganscale.gan import game
from ganscale.gan.augment import flip
from ganscale.gan.game import Measured, Samples
from ganscale.gan.losses import build_loss
from ganscale.gan.objective import Objective, SharedPenalty, WeightedPenalty
from ganscale.gan.penalties import Penalty, PointPenalty, build_penalty
from ganscale.gan.sampling import from_pixels
from ganscale.training.model import GANModel
from ganscale.training.numbers import Numbers
from ganscale.training.shared_fakes import SharedFakes


class Losses:
    """The losses of an experiment on its model."""

    def __init__(self, experiment: Experiment, model: GANModel):
        objective = experiment.objective
        self._experiment = experiment
        self._model = model
        self._smoothing = objective.label_smoothing
        self.loss = build_loss(objective.loss, objective.label_smoothing)
        self._penalties = [(options, build_penalty(options)) for options in objective.penalties]
        # BatchNorm, and any other layer that mixes a batch, would let real and generated images
        # see each other: a network has to say that it has none.
        self.one_batch = bool(
            getattr(model.discriminator.module, "treats_images_one_by_one", False)
        )
        self._fakes = SharedFakes(model.generator) if objective.share_fakes else None

    def discriminator(
        self,
        keep: bool,
        rows: range,
        numbers: Numbers,
        images: Tensor,
        labels: tuple[Tensor, ...],
    ) -> tuple[Tensor, Measured]:
        """Return the discriminator's loss on these rows of the global batch, and what it measured.

        The penalties that are due have a weight in `numbers`; `keep` shares the generated images
        with the generator's next update; `images` are uint8 or uint16, (N, C, H, W).
        """
        model = self._model
        penalties = [self._due(*self._penalties[i], w) for i, w in numbers.weights.items()]
        objective = Objective(self.loss, 1 - self._smoothing, penalties, self.one_batch)
        return game.discriminator_loss(
            objective,
            self._fakes.generate if keep and self._fakes is not None else model.generator.module,
            model.discriminator,
            self._augment(numbers, rows),
            self._samples("discriminator", numbers, numbers.update, rows, images, labels),
            randomness.Draws(self._experiment.seed, numbers.update, rows, images.device),
        )

    def generator(
        self, rows: range, numbers: Numbers, images: Tensor, labels: tuple[Tensor, ...]
    ) -> tuple[Tensor, Measured]:
        """Return the generator's loss on these rows of the global batch, and what it measured."""
        model = self._model
        batch = (numbers.update + 1) * self._experiment.discriminator.steps - 1
        return game.generator_loss(
            Objective(self.loss),
            model.generator if self._fakes is None else self._fakes.take,
            model.discriminator.module,
            self._augment(numbers, rows),
            self._samples("generator", numbers, batch, rows, images, labels),
        )

    def _due(
        self, options: PenaltyOptions, penalty: Penalty, weight: float | Tensor
    ) -> WeightedPenalty | SharedPenalty:
        """Return a penalty as the game wants it, with a forward pass of its own if it needs one."""
        player = self._model.discriminator
        full = options.precision == "fp32" and self._experiment.train.precision != "fp32"
        if isinstance(penalty, PointPenalty) and self.one_batch and not full:
            return SharedPenalty(options.name, penalty, weight)
        network = player.forward_float32 if full else player.module.forward
        return WeightedPenalty(options.name, penalty, weight, network)

    def _augment(self, numbers: Numbers, rows: range) -> game.Augment:
        return partial(
            self._model.augmentation, update=numbers.update, rows=rows, strength=numbers.strength
        )

    def _samples(
        self,
        player: str,
        numbers: Numbers,
        batch: int | Tensor,
        rows: range,
        images: Tensor,
        labels: tuple[Tensor, ...],
    ) -> Samples:
        """Return latents and scaled images; `batch` is the number of the batch of real images."""
        latent, seed, update = self._experiment.latent, self._experiment.seed, numbers.update
        latents = randomness.latents(latent, seed, player, update, rows, images.device)
        real = from_pixels(images)
        if self._experiment.data.flip:
            # By the batch, so that both players see an image mirrored or not.
            real = flip(
                real,
                lambda shape: randomness.uniform(seed, "flip", batch, rows, shape, real.device),
            )
        layout = self._model.discriminator.memory_format
        return Samples(latents, real.contiguous(memory_format=layout), labels)
