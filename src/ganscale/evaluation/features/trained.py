"""Small networks that are trained on the dataset itself; their last hidden layer is the features.

They need no download and fit images of any size and number of channels. Their scores compare runs
on the same dataset; they are not comparable with Inception's FID.
"""

import logging
from abc import abstractmethod
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import Self

from ganscale.data.reading.image_set import ImageSet
from ganscale.data.reading.order import Order
from ganscale.data.reading.readers import Batch, Reader, as_supported
from ganscale.engines.adam import EagerAdam
from ganscale.engines.distributed import Tensors, tensors_from_rank_0
from ganscale.evaluation.features.network import FeatureNetwork, Opening, compute_checksum
from ganscale.gan.augment import shift
from ganscale.gan.sampling import from_pixels
from ganscale.monitoring.progress import tracked
from ganscale.randomness import torch_seed, uniform

WIDTH = 128  # features per image
BATCH_SIZE = 128
EPOCHS = (3, 12)  # train for longer if the first training does not reach `GOOD_ACCURACY`
MIN_STEPS, MAX_STEPS = 300, 6000
GOOD_ACCURACY = 0.95
HELD_OUT = 10  # every tenth sample is held out to measure the accuracy
MOST_HELD_OUT = 5000  # samples

log = logging.getLogger("ganscale")


class TrainedNetwork(nn.Module, FeatureNetwork):
    """Maps pixels (N, C, H, W) to features (N, 128), learned by answering questions about them.

    A subclass says what the questions are.
    """

    measures_unrounded = True
    title: ClassVar[str]
    """What the log calls the network."""
    accuracy: Tensor
    """The share of right answers about images that were not trained on."""

    def __init__(self, image_shape: tuple[int, int, int], answers: int):
        super().__init__()
        channels, height, across = image_shape
        layers: list[nn.Module] = []
        width = 32
        while max(height, across) > 4:
            layers += [
                nn.Conv2d(channels, width, 3, 2, 1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
            ]
            channels, width = width, min(2 * width, 256)
            height, across = -(-height // 2), -(-across // 2)
        self.body = nn.Sequential(
            *layers, nn.Flatten(), nn.Linear(channels * height * across, WIDTH), nn.ReLU()
        )
        self.head = nn.Linear(WIDTH, answers)
        self.register_buffer("accuracy", torch.zeros(()))

    @classmethod
    @abstractmethod
    def untrained(cls, images: ImageSet) -> Self:
        """Return a network for these images, with weights from PyTorch's generator.

        Raises `GanscaleError` for images that it cannot learn from.
        """

    @abstractmethod
    def ask(self, batch: Batch) -> Batch:
        """Return images for the body, and as their labels the right answers, from 0 on."""

    @property
    def questions_per_image(self) -> int:
        """How many images `ask` returns for one."""
        return 1

    @classmethod
    def open(cls, opening: Opening) -> Self:
        """Return the dataset's network on every rank; rank 0 trains it if it is not cached."""
        images, device = opening.images, opening.device
        network = cls.untrained(images)
        if given := opening.experiment.evaluation.weights:
            log.warning("evaluation.weights=%s is not used: the %s is trained", given, cls.title)

        def find() -> Tensors:
            found = opening.cache.read(cls.key)
            if found is None:
                trained = train(network, opening.reader, images.order_of_all(), device)
                found = opening.cache.write(cls.key, trained)
            return found

        weights = tensors_from_rank_0(find, device)
        assert weights is not None
        network.load_state_dict(weights)
        network.checksum = compute_checksum(weights)
        return network.to(device).eval().requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        """Return the features of images, rounded to pixels or not."""
        features: Tensor = self.body(from_pixels(images))
        return features


def train(
    network: TrainedNetwork,
    reader: Reader,
    order: Order,
    device: torch.device,
    title: str | None = None,
) -> Tensors:
    """Train on nine tenths of the dataset, measure `accuracy` on the rest; return the weights.

    `title` is what the log calls the network, if not by its own title.
    """
    title = title or network.title
    lengths = (epochs * order.samples // BATCH_SIZE for epochs in EPOCHS)
    for steps in dict.fromkeys(min(max(length, MIN_STEPS), MAX_STEPS) for length in lengths):
        log.info("training the %s, %s steps", title, f"{steps:,}")
        _train(network, reader, order, steps, device, title)
        accuracy = _accuracy(network, reader, order.samples, device)
        network.accuracy.fill_(accuracy)
        log.info("%s: %.1f %% right on held-out images", title, 100 * accuracy)
        if accuracy >= GOOD_ACCURACY:
            break
    return network.state_dict()


def _train(
    network: TrainedNetwork,
    reader: Reader,
    order: Order,
    steps: int,
    device: torch.device,
    title: str,
) -> None:
    """Train anew with AdamW and one cycle of the learning rate, on slightly shifted images."""
    network.to("cpu")  # where the first weights are the same for every device
    with torch.random.fork_rng():
        torch.manual_seed(torch_seed(0, network.key))
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear | nn.BatchNorm2d):
                layer.reset_parameters()
    network.to(device).train().requires_grad_(True)
    optimizer = EagerAdam(
        network.parameters(), lr=2e-3, weight_decay=1e-2, decoupled_weight_decay=True
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=4e-3, total_steps=steps)
    per_step = max(1, BATCH_SIZE // network.questions_per_image)
    for k in tracked(range(steps), steps, title):
        indices = order.batch(k, per_step)
        images, answers = network.ask(reader.read(indices[indices % HELD_OUT != 0]))
        if len(answers) < 2:  # BatchNorm needs at least two images
            continue
        logits = network.head(network(_shift(images, network.key, k).to(device)))
        loss = F.cross_entropy(logits, answers.to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    network.eval().requires_grad_(False)


def _shift(images: Tensor, key: str, step: int) -> Tensor:
    """Shift images by up to an eighth of their side, so that the network does not overfit."""

    def random(shape: tuple[int, ...]) -> Tensor:
        return uniform(0, f"{key}/shift", step, range(len(images)), shape, images.device)

    return shift(as_supported(images), random).view(images.dtype)


@torch.no_grad()
def _accuracy(network: TrainedNetwork, reader: Reader, samples: int, device: torch.device) -> float:
    """Return the share of right answers about held-out images."""
    held_out = np.arange(0, samples, HELD_OUT)[:MOST_HELD_OUT]
    right = asked = 0
    for start in range(0, len(held_out), BATCH_SIZE):
        images, answers = network.ask(reader.read(held_out[start : start + BATCH_SIZE]))
        given = network.head(network(images.to(device))).argmax(1).cpu()
        right, asked = right + int((given == answers.cpu()).sum()), asked + len(answers)
    return right / max(asked, 1)
