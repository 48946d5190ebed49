"""Weights taken into another network, against copies written out by hand."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from ganscale.networks.dcgan import DCGANDiscriminator, DCGANGenerator
from ganscale.networks.mlp import MLPDiscriminator, MLPGenerator
from ganscale.networks.places import Layout, measure_layout
from ganscale.networks.r3gan import R3GANDiscriminator, R3GANGenerator
from ganscale.networks.resnet import ResNetDiscriminator, ResNetGenerator
from ganscale.networks.transfer import Given, Transfer, summarize, transfer

DIM = 6
Build = Callable[[], nn.Module]


def layout(build: Build, side: int, labels: bool = False, generates: bool = True) -> Layout:
    shape = (2, DIM) if generates else (2, 3, side, side)
    inputs = [(shape, torch.float32), *([((2,), torch.int64)] if labels else [])]
    found = measure_layout(build, inputs)
    assert found is not None
    return found


def moved(build: Build, seed: int) -> nn.Module:
    """A network of which no tensor has the value that a constructor gives."""
    torch.manual_seed(seed)
    network = build()
    with torch.no_grad():
        for tensor in network.state_dict().values():
            if tensor.is_floating_point():
                tensor.add_(torch.rand_like(tensor))
    return network


def taken_between(
    old: Build, new: Build, sides: tuple[int, int], generates: bool
) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor], Transfer]:
    """The state of the source, of the network before, and after it took what it could."""
    source, network = moved(old, 1), moved(new, 2)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    given = Given(source.state_dict(), layout(old, sides[0], generates=generates))
    done = transfer(network, given, layout(new, sides[1], generates=generates))
    return dict(source.state_dict()), before, dict(network.state_dict()), done


def check(
    pairs: dict[str, str],
    source: dict[str, Tensor],
    before: dict[str, Tensor],
    after: dict[str, Tensor],
) -> None:
    """`pairs` maps the beginning of names here to that of names there; all else stays."""
    for name, value in after.items():
        there = [old + name.removeprefix(new) for new, old in pairs.items() if name.startswith(new)]
        expected = source[there[0]] if there else before[name]
        assert torch.equal(value, expected), name


def test_the_same_network_takes_everything() -> None:
    build = lambda: DCGANGenerator(DIM, (3, 32, 32), width=4)  # noqa: E731
    source, _, after, done = taken_between(build, build, (32, 32), True)
    assert all(torch.equal(after[name], value) for name, value in source.items())
    assert sorted(done.whole) == sorted(source)
    assert done.taken == done.parameters > 0
    assert summarize(done) == [
        f"19 of 19 tensors taken, with {done.taken:,} of {done.taken:,} parameters (100.0%)"
    ]


def test_by_names_alone_another_shape_starts_afresh_and_is_named() -> None:
    network = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 5))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    given = {"0.weight": torch.ones(4, 3), "1.weight": torch.ones(5, 9), "2.weight": torch.ones(1)}
    done = transfer(network, Given(given))
    assert torch.equal(network[0].weight, torch.ones(4, 3))
    for name in ("0.bias", "1.weight", "1.bias"):
        assert torch.equal(network.state_dict()[name], before[name])
    assert (done.taken, done.parameters) == (12, 41)
    assert summarize(done) == [
        "1 of 4 tensors taken, with 12 of 41 parameters (29.3%)",
        "started afresh because of the shape: 1.weight: [5, 4] here, [5, 9] in the source",
        "started afresh, as the source has none: *.bias (2 tensors)",
        "left over in the source: 2.weight",
    ]


CASES: dict[str, tuple[Build, Build, tuple[int, int], bool, dict[str, str]]] = {
    # Half the width at twice the side, so that maps of the same side have the same channels.
    "dcgan G": (
        lambda: DCGANGenerator(DIM, (3, 32, 32), width=8),
        lambda: DCGANGenerator(DIM, (3, 64, 64), width=4),
        (32, 64),
        True,
        {f"layers.layers.{i}.": f"layers.layers.{i}." for i in range(3)},
    ),
    "dcgan D": (
        lambda: DCGANDiscriminator((3, 64, 64), width=8),
        lambda: DCGANDiscriminator((3, 128, 128), width=4),
        (64, 128),
        False,
        # From 32 to 16 and to 8. From 8 to 4 there are 64 maps, and here 32, eight times the width.
        {
            "layers.3.": "layers.2.",
            "layers.4.": "layers.3.",
            "layers.5.1.num_batches_tracked": "layers.4.1.num_batches_tracked",
        },
    ),
    "resnet G": (
        lambda: ResNetGenerator(DIM, (3, 32, 32), width=16),
        lambda: ResNetGenerator(DIM, (3, 64, 64), width=16),
        (32, 64),
        True,
        {"first.": "first.", **{f"blocks.layers.{i}.": f"blocks.layers.{i}." for i in range(3)}},
    ),
    "resnet D": (
        lambda: ResNetDiscriminator((3, 32, 32), width=16, norm="none"),
        lambda: ResNetDiscriminator((3, 64, 64), width=16, norm="none"),
        (32, 64),
        False,
        {
            "blocks.1.conv2.": "blocks.0.conv2.",  # its other layers take three channels there
            "blocks.1.conv1.bias": "blocks.0.conv1.bias",
            "blocks.1.shortcut.bias": "blocks.0.shortcut.bias",
            **{f"blocks.{i + 1}.": f"blocks.{i}." for i in (1, 2, 3)},
            "logit.": "logit.",
        },
    ),
    "r3gan G": (
        lambda: R3GANGenerator(DIM, (3, 16, 16), [8, 8, 4], 2, 4),
        lambda: R3GANGenerator(DIM, (3, 32, 32), [8, 8, 4, 4], 2, 4),
        (16, 32),
        True,
        {
            "basis": "basis",
            "modulation.": "modulation.",
            **{f"layers.{i}.": f"layers.{i}." for i in range(8)},
        },
    ),
    "r3gan D": (
        lambda: R3GANDiscriminator((3, 16, 16), [8, 8, 4], 2, 4),
        lambda: R3GANDiscriminator((3, 32, 32), [8, 8, 4, 4], 2, 4),
        (16, 32),
        False,
        {
            "basis.": "basis.",
            "logit.": "logit.",
            **{f"layers.{i + 3}.": f"layers.{i}." for i in range(8)},
        },
    ),
    "not square": (
        lambda: ResNetGenerator(DIM, (3, 32, 32), width=8),
        lambda: ResNetGenerator(DIM, (3, 32, 48), width=8),
        (32, 32),
        True,
        {"blocks.": "blocks."},  # the first layer makes a map of 4×6 pixels instead of 4×4
    ),
    "other channels": (
        lambda: ResNetGenerator(DIM, (1, 32, 32), width=8),
        lambda: ResNetGenerator(DIM, (3, 32, 32), width=8),
        (32, 32),
        True,
        {
            "first.": "first.",
            **{f"blocks.layers.{i}.": f"blocks.layers.{i}." for i in range(4)},
        },
    ),
    # A layer in between renumbers what follows it, and nothing else.
    "attention": (
        lambda: DCGANGenerator(DIM, (3, 32, 32), width=4),
        lambda: DCGANGenerator(DIM, (3, 32, 32), width=4, attention=8),
        (32, 32),
        True,
        {
            "layers.layers.0.": "layers.layers.0.",
            "layers.layers.1.": "layers.layers.1.",
            "layers.layers.3.": "layers.layers.2.",
            "layers.layers.4.": "layers.layers.3.",
        },
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_layers_carry_over_by_the_side_at_which_they_work(case: str) -> None:
    old, new, sides, generates, pairs = CASES[case]
    source, before, after, done = taken_between(old, new, sides, generates)
    check(pairs, source, before, after)
    assert 0 < done.taken < done.parameters
    by_hand = [name for name in after if any(name.startswith(new) for new in pairs)]
    assert sorted(done.whole) == sorted(by_hand)


def test_classes_of_the_same_name_continue_and_new_ones_start_from_the_mean() -> None:
    old = lambda: DCGANGenerator(DIM, (3, 32, 32), width=4, classes=3)  # noqa: E731
    new = lambda: DCGANGenerator(DIM, (3, 32, 32), width=4, classes=4)  # noqa: E731
    source, network = moved(old, 1), moved(new, 2)
    given = Given(source.state_dict(), layout(old, 32, True), 3)
    done = transfer(network, given, layout(new, 32, True), 4, rows=[2, None, 0, None])
    for name, value in network.state_dict().items():
        there = source.state_dict()[name]
        if name.endswith(("gain.weight", "bias.weight")):
            there = torch.stack([there[2], there.sum(0) / 3, there[0], there.sum(0) / 3])
            assert name in done.in_part
        torch.testing.assert_close(value, there)
    assert done.taken == done.parameters
    assert (
        "taken in part: layers.layers.*.layers.*.gain.weight (3 tensors): "
        "2 of 4 classes continue, the others start from the mean" in summarize(done)[1]
    )
    # Without names, by number.
    transfer(network, given, layout(new, 32, True), 4)
    name = "layers.layers.1.layers.1.gain.weight"
    there = source.state_dict()[name]
    expected = torch.cat([there, there.mean(0, keepdim=True)])
    torch.testing.assert_close(network.state_dict()[name], expected)


GENERATORS: dict[str, Callable[[int | None], nn.Module]] = {
    "dcgan": lambda classes: DCGANGenerator(DIM, (3, 32, 32), width=4, classes=classes),
    "dcgan without BatchNorm": lambda classes: DCGANGenerator(
        DIM, (3, 32, 32), width=4, norm="none", classes=classes
    ),
    "resnet": lambda classes: ResNetGenerator(DIM, (3, 32, 32), width=8, classes=classes),
    "mlp": lambda classes: MLPGenerator(DIM, (3, 32, 32), hidden=[8], classes=classes),
    "r3gan": lambda classes: R3GANGenerator(DIM, (3, 8, 8), [8, 8], 1, 4, classes=classes),
}


@pytest.mark.parametrize("name", GENERATORS)
def test_a_generator_that_gets_classes_first_makes_the_same_images(name: str) -> None:
    old, new = (lambda: GENERATORS[name](None)), (lambda: GENERATORS[name](5))
    source, network = moved(old, 1), moved(new, 2)
    done = transfer(
        network, Given(source.state_dict(), layout(old, 32)), layout(new, 32, True), classes=5
    )
    latents = torch.randn(5, DIM)
    with torch.no_grad():
        expected, found = source(latents), network(latents, torch.arange(5))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert set(done.missing) <= {"embedding.table.weight"}
    back = moved(old, 3)
    transfer(back, Given(network.state_dict(), layout(new, 32, True), classes=5), layout(old, 32))
    with torch.no_grad():
        torch.testing.assert_close(back(latents), expected, rtol=1e-4, atol=1e-4)


def test_without_classes_a_layer_is_the_mean_of_those_by_class() -> None:
    source = moved(lambda: GENERATORS["dcgan"](5), 1)
    network = moved(lambda: GENERATORS["dcgan"](None), 2)
    transfer(network, Given(source.state_dict(), classes=5))  # by names alone
    for field in ("gain", "bias"):
        there = source.state_dict()[f"layers.layers.1.layers.1.{field}.weight"]
        name = f"layers.layers.1.layers.1.{'weight' if field == 'gain' else field}"
        torch.testing.assert_close(network.state_dict()[name], there.sum(0) / 5)


def largest_singular_value(layer: nn.Module) -> float:
    return float(torch.linalg.svdvals(layer.weight.detach().flatten(1))[0])


@pytest.mark.parametrize("norm", ["spectral", "none"])
def test_spectral_norm_knows_the_weights_that_were_taken(norm: str) -> None:
    old = lambda: DCGANDiscriminator((3, 32, 32), width=4, norm=norm, classes=3)  # noqa: E731
    new = lambda: DCGANDiscriminator((3, 32, 32), width=4, norm="spectral", classes=9)  # noqa: E731
    torch.manual_seed(1)
    source, network = old(), new()
    scale = source.projection.table
    weight = scale.parametrizations.weight.original if norm == "spectral" else scale.weight
    with torch.no_grad():
        weight.mul_(50)  # as far from the network's own as training may bring it
    given = Given(source.state_dict(), layout(old, 32, True, generates=False), 3)
    done = transfer(network, given, layout(new, 32, True, generates=False), 9)
    assert done.taken == done.parameters
    network.eval()
    assert largest_singular_value(network.projection.table) == pytest.approx(1, rel=0.05)
    assert largest_singular_value(network.logit) == pytest.approx(1, rel=0.05)


def test_hidden_layers_of_vectors_do_not_depend_on_the_images() -> None:
    old = lambda: MLPDiscriminator((3, 8, 8), hidden=[8, 4])  # noqa: E731
    new = lambda: MLPDiscriminator((3, 16, 16), hidden=[8, 4])  # noqa: E731
    *states, done = taken_between(old, new, (8, 16), False)
    check({"layers.1.bias": "layers.1.bias", "layers.3.": "layers.3.", "logit.": "logit."}, *states)
    assert list(done.other_shape) == ["layers.1.weight"]


def test_a_network_that_computes_with_numbers_is_not_measured() -> None:
    class Counts(nn.Linear):
        def forward(self, features: Tensor) -> Tensor:
            return super().forward(features) * len(features.nonzero().tolist())

    assert measure_layout(lambda: Counts(DIM, 2), [((2, DIM), torch.float32)]) is None
