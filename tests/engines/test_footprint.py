"""The bytes of each engine, against the sums written out."""

import pytest

from ganscale.engines.footprint import State, footprint
from ganscale.engines.launcher import ENGINES

STATE = State(generator=800, discriminator=400, discriminator_updates=2)
BUCKET = 2_000_000_000


@pytest.mark.parametrize(
    ("engine", "weights", "moments", "gradients", "bucket", "flat"),
    [
        ("ddp", 1200, 2400, 800, 0, 800),
        ("zero0", 1200, 2400, 800, 0, 800),
        ("fsdp2", 1200 + 300, 600, 800, 0, 800),
        ("zero1", 1200 + 300, 600, 800, BUCKET, 0),
        ("zero2", 1200 + 300, 600, 200, BUCKET, 0),
        ("zero2_offload", 1200, 0, 200, BUCKET, 0),
        ("zero3", 300 + 300 + 800, 600, 200, BUCKET, 0),
    ],
)
def test_what_a_rank_of_four_holds(
    engine: str, weights: int, moments: int, gradients: int, bucket: int, flat: int
) -> None:
    found = footprint(ENGINES[engine], STATE, 4)
    assert (found.weights, found.moments, found.gradients) == (weights, moments, gradients)
    assert (found.bucket, found.flat, found.average) == (bucket, flat, 800)
    held = weights + moments + gradients + bucket + 800
    assert found.total(activations=5000) == held + 5000
    assert found.total(activations=1) == held + max(1, flat)


def test_a_ring_sends_everything_twice_but_one_part() -> None:
    reduced = 2 * 400 + 800
    for engine in ("ddp", "fsdp2", "zero2"):
        assert footprint(ENGINES[engine], STATE, 4).sent == 2 * reduced * 3 // 4
        assert footprint(ENGINES[engine], STATE, 1).sent == 0
    gathered = 2 * (800 + 2 * 400) + 3 * 800 + 2 * 400
    assert footprint(ENGINES["zero3"], STATE, 4).sent == (reduced + gathered) * 3 // 4


def test_one_process_copies_no_gradients() -> None:
    assert footprint(ENGINES["ddp"], STATE, 1).flat == 0


def test_frozen_weights_have_neither_moments_nor_gradients() -> None:
    """Of the discriminator's 1,200 bytes, 1,000 are frozen; the generator has 400."""
    state = State(generator=400, discriminator=1200, discriminator_updates=2, frozen=1000)
    ddp = footprint(ENGINES["ddp"], state, 4)
    assert (ddp.weights, ddp.moments, ddp.gradients) == (1600, 2 * 600, 400)
    assert ddp.sent == 2 * (2 * 200 + 400) * 3 // 4
    fsdp2 = footprint(ENGINES["fsdp2"], state, 4)
    assert (fsdp2.weights, fsdp2.moments) == (400 + 1600, 2 * 150)
    assert fsdp2.sent == ((2 * 200 + 400) + (2 * 1200 + 400)) * 3 // 4
    zero2 = footprint(ENGINES["zero2"], state, 4)
    assert (zero2.weights, zero2.moments, zero2.gradients) == (1600 + 150, 2 * 150, 100)
    assert footprint(ENGINES["zero3"], state, 4).weights == 400 + 150 + 1200
