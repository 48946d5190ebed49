"""What an experiment takes on given cards, computed before any is rented."""

import math
from dataclasses import dataclass
from itertools import pairwise

from ganscale.config import Experiment
from ganscale.engines.distributed import Ranks
from ganscale.engines.footprint import Footprint, State, footprint
from ganscale.engines.launcher import ENGINES, Engine
from ganscale.engines.rules import refuse_unfit_engine
from ganscale.errors import GanscaleError
from ganscale.profiling.cards import Card
from ganscale.profiling.operations import Counting
from ganscale.training.rehearsal import Rehearsal

WEIGHT_BYTES = 4  # float32, whatever the precision of the arithmetic
FAR = 256  # images of a micro-batch, from where memory is as good as proportional to them
RESERVED = 2_000_000_000
"""Bytes of a card that are left for CUDA, its libraries and the allocator's gaps; an assumption."""
LAUNCH_S = 10e-6
"""Seconds in which one operation is launched when Python runs them one by one; an assumption."""


@dataclass(frozen=True)
class Cluster:
    """Some cards of one kind, in nodes."""

    card: Card
    gpus: int
    gpus_per_node: int
    network: float
    """Bytes a second that each card sends to other nodes; an assumption."""

    @property
    def slowest_link(self) -> float:
        """Bytes a second on the slowest part of a ring through all cards."""
        link = self.card.link * 1e9
        return min(link, self.network) if self.gpus > self.gpus_per_node else link


@dataclass(frozen=True)
class EnginePlan:
    """What one engine needs on a rank."""

    engine: Engine
    footprint: Footprint
    total: int
    """Bytes on one rank's device at the worst moment."""
    refused: str | None
    """Why this engine cannot train the experiment, if so."""
    fits: bool
    largest_batch: int
    """The largest global batch that fits; 0 if the networks alone do not."""
    floor_s: float
    """Seconds of a step at the card's peak rates, with the reductions after the arithmetic."""


@dataclass(frozen=True)
class Plan:
    """Sizes, work and time of an experiment on a cluster."""

    generator_parameters: int
    discriminator_parameters: int
    flop_per_image: float
    images_per_rank: int
    batch: int
    """Bytes of a micro-batch as it comes to the device: pixels, labels and latents."""
    activations: int
    """Bytes of activations, and of what operations need while they run, at the worst moment."""
    compute_s: float
    """Seconds of a step's operations, each at the card's peak of arithmetic or of memory."""
    launches: int
    """Operations of a step that are launched one by one."""
    reduced: int
    """Bytes of gradients averaged over ranks in a step."""
    engines: list[EnginePlan]


def make_plan(experiment: Experiment, cluster: Cluster) -> Plan:
    """Return what the experiment takes on each engine.

    Raises `GanscaleError` if the batch is not divisible by the number of cards, if a card has no
    arithmetic of the experiment's precision, or if a step cannot be counted.
    """
    train, steps = experiment.train, experiment.discriminator.steps
    rows = len(Ranks(world_size=cluster.gpus).rows(train.batch_size, train.accumulation))
    micro = rows // train.accumulation
    sizes = sorted({1, micro, max(FAR, 2 * micro)})
    rehearsals = {images: Rehearsal(experiment, images) for images in sizes}
    step = rehearsals[micro]
    generator, discriminator = step.parameters["generator"], step.parameters["discriminator"]
    state = State(
        WEIGHT_BYTES * generator, WEIGHT_BYTES * discriminator, steps, WEIGHT_BYTES * step.frozen
    )
    image = _bytes_of_image(experiment)
    activations = max(0, step.peak - state.gradients)
    needs = {images: rehearsal.peak + images * image for images, rehearsal in rehearsals.items()}
    compute = train.accumulation * step.over_step(
        lambda update: _seconds(update, cluster.card, train.tf32)
    )

    def plan_engine(engine: Engine) -> EnginePlan:
        taken = footprint(engine, state, cluster.gpus)
        refused = _refusal(experiment, engine)
        room = int(cluster.card.memory * 1e9) - RESERVED
        total = taken.total(activations + micro * image)
        possible = refused is None and taken.total(0) <= room
        largest = _most_images(needs, room - taken.held + state.gradients) if possible else 0
        return EnginePlan(
            engine,
            taken,
            total,
            refused,
            refused is None and total <= room,
            largest * train.accumulation * cluster.gpus,
            compute + taken.sent / cluster.slowest_link,
        )

    return Plan(
        generator,
        discriminator,
        step.over_step(lambda update: update.flop) / micro,
        rows,
        micro * image,
        activations,
        compute,
        round(train.accumulation * step.over_step(lambda update: len(update.operations))),
        state.reduced,
        [plan_engine(engine) for engine in ENGINES.values()],
    )


def _most_images(needs: dict[int, int], room: int) -> int:
    """Return how many images of a micro-batch surely fit, from the bytes that some numbers need.

    Each moment of a step needs a constant and so much an image, so the worst moment's need is a
    convex function of the number: it is nowhere above a chord, nor, an image, above that of fewer.
    """
    sizes = sorted(needs)
    if room >= needs[sizes[-1]]:
        return int(room * sizes[-1] / needs[sizes[-1]])
    for fewer, more in pairwise(sizes):
        if needs[fewer] <= room < needs[more]:
            share = (room - needs[fewer]) / (needs[more] - needs[fewer])
            return fewer + int(share * (more - fewer))
    return 0


def _seconds(update: Counting, card: Card, tf32: bool) -> float:
    """Return how long an update takes if each operation reaches the card's peak of one kind."""
    return sum(
        max(
            operation.flop / card.flop_per_s(operation.dtype, tf32) if operation.flop else 0.0,
            operation.traffic / (card.bandwidth * 1e9),
        )
        for operation in update.operations
    )


def _bytes_of_image(experiment: Experiment) -> int:
    """Return the bytes of one image's pixels, label and latents as they come to the device."""
    label = 8 if experiment.data.classes is not None else 0
    pixels = math.prod(experiment.image_shape) * experiment.data.bits // 8
    return pixels + label + 4 * experiment.latent.dim


def _refusal(experiment: Experiment, engine: Engine) -> str | None:
    try:
        refuse_unfit_engine(experiment, engine, gpus=True)
    except GanscaleError as error:
        return str(error)
    return None
