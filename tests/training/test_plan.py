"""What a plan concludes from the counts."""

from dataclasses import replace
from pathlib import Path

import pytest

from ganscale.config.load import load
from ganscale.errors import GanscaleError
from ganscale.profiling.cards import CARDS
from ganscale.training.plan import RESERVED, Cluster, make_plan
from ganscale.training.rehearsal import Rehearsal

CONFIGS = Path(__file__).parents[2] / "configs"


def cluster(card: str = "H100", gpus: int = 4, per_node: int = 8, network: float = 5e10) -> Cluster:
    return Cluster(CARDS[card], gpus, per_node, network)


def test_parts_add_up_to_the_sum() -> None:
    experiment = load(CONFIGS / "mnist_dcgan.yaml", ["train.batch_size=64"])
    plan = make_plan(experiment, cluster())
    ddp = plan.engines[0]
    state = 4 * (plan.generator_parameters + plan.discriminator_parameters)
    gradients = 4 * max(plan.generator_parameters, plan.discriminator_parameters)
    parts = 3 * state + 4 * plan.generator_parameters + gradients
    assert ddp.total == parts + max(plan.activations + plan.batch, gradients)
    assert plan.images_per_rank == 16
    assert plan.batch == 16 * (28 * 28 + 4 * 100)
    assert plan.reduced == state


def test_a_plan_leaves_out_the_moments_of_frozen_layers() -> None:
    experiment = load(CONFIGS / "mnist_dcgan.yaml", ["train.batch_size=64"])
    whole = make_plan(experiment, cluster())
    frozen = experiment.discriminator.model_copy(update={"freeze": 1})
    some = make_plan(experiment.model_copy(update={"discriminator": frozen}), cluster())
    first = 32 * 1 * 4 * 4  # the weights of the first convolution, which has no bias
    assert whole.engines[0].footprint.moments - some.engines[0].footprint.moments == 8 * first
    assert whole.reduced - some.reduced == 4 * first
    assert whole.discriminator_parameters == some.discriminator_parameters


def test_the_largest_batch_fits_and_a_larger_one_does_not() -> None:
    """The chords are compared with rehearsals of the batches that they end at."""
    overrides = ["train.batch_size=8", "train.accumulation=2"]
    experiment = load(CONFIGS / "folder_dcgan64.yaml", overrides)
    for gigabytes in (2.2, 2.4, 24):  # below what was counted, between, and far beyond
        card = replace(CARDS["A10"], memory=gigabytes)
        ddp = make_plan(experiment, Cluster(card, 1, 8, 5e10)).engines[0]
        counted = Rehearsal(experiment, ddp.largest_batch // 2)
        generator, discriminator = counted.parameters.values()
        state = 12 * (generator + discriminator) + 4 * generator
        batch = ddp.largest_batch // 2 * (3 * 64 * 64 + 400)
        room = gigabytes * 1e9 - RESERVED
        assert 0.85 * room < state + counted.peak + batch <= room


def test_a_network_too_large_for_the_card_fits_on_no_batch() -> None:
    wide = ["generator.network.hidden=[2000,2000]", "train.batch_size=4"]
    card = replace(CARDS["T4"], memory=RESERVED / 1e9 + 0.1)
    plan = make_plan(load(CONFIGS / "mnist_mlp.yaml", wide), Cluster(card, 1, 8, 5e10))
    assert not plan.engines[0].fits
    assert plan.engines[0].largest_batch == 0


def test_a_card_without_the_arithmetic_is_refused() -> None:
    with pytest.raises(GanscaleError, match="T4 has no arithmetic in bf16"):
        make_plan(load(CONFIGS / "mnist_dcgan_cpu.yaml"), cluster("T4"))


def test_the_floor_is_the_slower_of_arithmetic_and_memory_and_then_the_ring() -> None:
    experiment = load(CONFIGS / "mnist_mlp.yaml", ["train.tf32=false"])
    near = make_plan(experiment, cluster("A10", gpus=2))
    far = make_plan(experiment, cluster("A10", gpus=2, per_node=1, network=1e9))
    operations = [
        operation
        for update in Rehearsal(experiment, 64).updates
        for operation in update.counted.operations
    ]
    by_hand = sum(max(o.flop / 31.2e12, o.traffic / 600e9) for o in operations)
    assert near.compute_s == far.compute_s == pytest.approx(by_hand)
    sent = near.engines[0].footprint.sent
    assert sent == near.reduced  # two ranks: twice the half
    assert near.engines[0].floor_s == pytest.approx(by_hand + sent / 32e9)
    assert far.engines[0].floor_s == pytest.approx(by_hand + sent / 1e9)


def test_accumulation_divides_activations_and_multiplies_work() -> None:
    overrides = ["train.batch_size=64"]
    once = make_plan(load(CONFIGS / "mnist_mlp.yaml", overrides), cluster(gpus=1))
    split = make_plan(
        load(CONFIGS / "mnist_mlp.yaml", [*overrides, "train.accumulation=4"]), cluster(gpus=1)
    )
    assert split.flop_per_image == once.flop_per_image
    assert split.batch == once.batch / 4
    assert split.activations < once.activations
    assert split.launches == 4 * once.launches


def test_an_engine_that_cannot_train_it_is_named() -> None:
    plan = make_plan(load(CONFIGS / "mnist_dcgan.yaml"), cluster())
    refused = {row.engine.name for row in plan.engines if row.refused}
    assert refused == {"zero3"}


def test_a_batch_that_does_not_divide_is_refused() -> None:
    with pytest.raises(GanscaleError, match="not divisible by 3 processes"):
        make_plan(load(CONFIGS / "mnist_mlp.yaml"), cluster(gpus=3))
