"""What each engine keeps on a rank and sends in a step: the bytes of both networks' state.

Weights, gradients and Adam's moments are float32, 4 bytes each, in every engine. Only one player's
gradients exist at a time. The numbers follow from the players of this folder and from DeepSpeed's
code (0.19): its ZeRO stages copy the weights that a rank updates, and gather gradients in buckets.
"""

from dataclasses import dataclass

from ganscale.engines.launcher import Engine

DEEPSPEED_BUCKET = 500_000_000  # numbers; its default of reduce_bucket_size


@dataclass(frozen=True)
class State:
    """Bytes of the weights of both networks, and how often they are updated in a step."""

    generator: int
    discriminator: int
    discriminator_updates: int
    frozen: int = 0
    """Bytes of the discriminator's weights that no update changes (`discriminator.freeze`)."""

    @property
    def weights(self) -> int:
        """Bytes of the weights of both networks."""
        return self.generator + self.discriminator

    @property
    def trained(self) -> int:
        """Bytes of the weights that updates change, which alone have moments."""
        return self.weights - self.frozen

    @property
    def gradients(self) -> int:
        """Bytes of the gradients of the network that has more of them."""
        return max(self.generator, self.discriminator - self.frozen)

    @property
    def reduced(self) -> int:
        """Bytes of all gradients that are averaged over ranks in one step."""
        trained = self.discriminator - self.frozen
        return self.discriminator_updates * trained + self.generator


@dataclass(frozen=True)
class Footprint:
    """Bytes on one rank's device, by what they are, and bytes that it sends in a step."""

    weights: int
    moments: int
    average: int
    """The generator's EMA."""
    gradients: int
    bucket: int
    """Buffer for gradients that is there during the backward pass."""
    flat: int
    """Copy of the gradients that is made after the backward pass, when activations have gone."""
    sent: int
    """Bytes that a rank sends in a step, with ring algorithms."""

    @property
    def held(self) -> int:
        """Bytes that are there however large the batch is."""
        return self.weights + self.moments + self.average + self.gradients + self.bucket

    def total(self, activations: int) -> int:
        """Return the largest number of bytes at one time."""
        return self.held + max(activations, self.flat)


def footprint(engine: Engine, state: State, world_size: int) -> Footprint:
    """Return what an engine keeps on each of `world_size` ranks."""
    whole, gathered = state.weights, state.reduced
    part, of_trained = -(-whole // world_size), -(-state.trained // world_size)
    weights, moments, gradients = whole, 2 * state.trained, state.gradients
    bucket, flat = 0, state.gradients if world_size > 1 else 0
    if engine.name == "fsdp2":
        weights = part + whole  # gathered from the first forward to the update
        moments = 2 * of_trained
        gathered += state.discriminator_updates * state.frozen
    elif engine.zero_stage:
        zero = engine.deepspeed["zero_optimization"]
        on_host = "offload_optimizer" in zero
        weights = whole + (0 if on_host else of_trained)
        moments = 0 if on_host else 2 * of_trained
        bucket, flat = 4 * int(zero.get("reduce_bucket_size", DEEPSPEED_BUCKET)), 0
        if engine.zero_stage >= 2:
            gradients = -(-gradients // world_size)
        if engine.zero_stage == 3:
            weights = part + of_trained + max(state.generator, state.discriminator)
            # Both networks are gathered for each forward and again for each backward that runs
            # through them, and the generator once more for its average.
            of_updates = state.discriminator_updates * (state.generator + 2 * state.discriminator)
            gathered = of_updates + 3 * state.generator + 2 * state.discriminator
    sent = (world_size - 1) * (state.reduced + gathered) // world_size
    return Footprint(weights, moments, state.generator, gradients, bucket, flat, sent)
