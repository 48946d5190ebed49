"""A run's first weights from elsewhere: what `init_from` names, put into the run's networks."""

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ganscale.config import Experiment, InitFrom
from ganscale.engines.distributed import tensors_from_rank_0
from ganscale.errors import GanscaleError
from ganscale.networks import (
    build_discriminator,
    build_generator,
    first_discriminator,
    first_generator,
)
from ganscale.networks.freezing import freeze_lower_stages
from ganscale.networks.places import Layout, measure_layout
from ganscale.networks.transfer import Given, Transfer, summarize, transfer
from ganscale.registry import is_custom
from ganscale.runs.run_folder import RunFolder
from ganscale.runs.source import UNNAMED, Source, Weights, read_source, sha256_of_weights
from ganscale.training.model import GANModel

PLAYERS = ("generator", "discriminator")
ROWS = 2  # of the batch with which networks are measured

log = logging.getLogger("ganscale")


def start_from_elsewhere(
    experiment: Experiment, model: GANModel, folder: RunFolder, class_names: Sequence[str]
) -> None:
    """Put the weights that `init_from` names into the model, and note in the folder what it took.

    Rank 0 reads them and sends them to the others; all ranks call this. Raises `GanscaleError` if
    they cannot be read, or if nothing of them fits.
    """
    assert experiment.init_from is not None
    asked = experiment.init_from

    def find() -> dict[str, Tensor]:
        source = read_source(asked)
        first = take(experiment, source, class_names)
        _note(folder, asked, source, first)
        _log(source, first)
        return {
            f"{part}.{name}": tensor
            for part, weights in first.weights.items()
            for name, tensor in weights.items()
        }

    received = tensors_from_rank_0(find, model.device)
    assert received is not None
    weights: dict[str, Weights] = {}
    for name, tensor in received.items():
        part, _, rest = name.partition(".")
        weights.setdefault(part, {})[rest] = tensor
    model.load_weights(weights)


@dataclass(frozen=True)
class FirstWeights:
    """The weights with which a run starts, and what of them each player took from its source."""

    weights: dict[str, Weights]
    """Of `generator`, `discriminator` and `ema`."""
    taken: dict[str, Transfer | None]
    """By player; None for one that the source does not have."""


def take(experiment: Experiment, source: Source, class_names: Sequence[str] = ()) -> FirstWeights:
    """Return the first weights of an experiment that starts from a source.

    Where the source has only the generator's moving average, that is the generator's too.
    """
    parts = _find_players(experiment, source)
    generator, average = first_generator(experiment), first_generator(experiment)
    discriminator = first_discriminator(experiment)
    taken: dict[str, Transfer | None] = dict.fromkeys(PLAYERS)
    for part, player, network in (
        ("ema", "generator", average),
        ("generator", "generator", generator),
        ("discriminator", "discriminator", discriminator),
    ):
        if part in parts:
            taken[player] = _take_part(
                experiment, source, player, network, parts[part], class_names
            )
    if not any(done is not None and done.matrices for done in taken.values()):
        raise GanscaleError(_about_no_match(source, taken), every_rank=True)
    _refuse_untrained_frozen_layers(experiment, source, taken["discriminator"])
    return FirstWeights(
        {
            "generator": generator.state_dict(),
            "discriminator": discriminator.state_dict(),
            "ema": average.state_dict(),
        },
        taken,
    )


def _refuse_untrained_frozen_layers(
    experiment: Experiment, source: Source, done: Transfer | None
) -> None:
    """Raise `GanscaleError` if a frozen layer would stay as the seed made it."""
    number = experiment.discriminator.freeze
    frozen = freeze_lower_stages(first_discriminator(experiment), number)
    taken = done.whole if done is not None else []
    lost = [name for name in frozen if name not in taken]
    if lost:
        raise GanscaleError(
            f"discriminator.freeze={number}: {source.name} has nothing that fits {lost[0]}"
            + (f" and {len(lost) - 1} others" if len(lost) > 1 else "")
            + ", and frozen layers that nobody trained are of no use: set discriminator.freeze=0, "
            "or choose another source",
            every_rank=True,
        )


def _find_players(experiment: Experiment, source: Source) -> dict[str, Weights]:
    """Return the source's weights by part, with the generator and its average for each other."""
    parts = dict(source.parts)
    if UNNAMED in parts:
        weights = parts.pop(UNNAMED)
        fitting = {
            "ema": transfer(first_generator(experiment), Given(weights)).taken,
            "discriminator": transfer(first_discriminator(experiment), Given(weights)).taken,
        }
        parts[max(fitting, key=fitting.__getitem__)] = weights
    if "ema" in parts or "generator" in parts:
        parts.setdefault("generator", parts.get("ema", {}))
        parts.setdefault("ema", parts["generator"])
    return parts


def _take_part(
    experiment: Experiment,
    source: Source,
    player: str,
    network: nn.Module,
    weights: Weights,
    class_names: Sequence[str],
) -> Transfer:
    theirs = source.experiment
    layout = given_layout = None
    if (
        theirs is not None
        and _description(theirs, player) != _description(experiment, player)
        and _is_safe_to_build(theirs, experiment, player)
    ):
        layout, given_layout = _layout(experiment, player), _layout(theirs, player)
    return transfer(
        network,
        Given(weights, given_layout, source.classes),
        layout,
        experiment.data.classes,
        _continued_classes(source.class_names, class_names),
    )


def _description(experiment: Experiment, player: str) -> tuple[Any, ...]:
    """Return what decides which tensors a player's network has."""
    network = getattr(experiment, player).network
    return network, experiment.latent.dim, experiment.image_shape, experiment.data.classes


def _is_safe_to_build(theirs: Experiment, ours: Experiment, player: str) -> bool:
    """Return whether building the source's network runs no code but ours and this run's own."""
    architecture = getattr(theirs, player).network.architecture
    own: str = getattr(ours, player).network.architecture
    return not is_custom(architecture) or architecture == own


def _layout(experiment: Experiment, player: str) -> Layout | None:
    """Return the layout of a player's network; None if it cannot be measured."""
    classes, shape = experiment.data.classes, experiment.image_shape
    labels = [((ROWS,), torch.int64)] if classes is not None else []
    if player == "generator":
        dim, options = experiment.latent.dim, experiment.generator.network
        return measure_layout(
            lambda: build_generator(options, dim, shape, classes),
            [((ROWS, dim), torch.float32), *labels],
        )
    network = experiment.discriminator.network
    return measure_layout(
        lambda: build_discriminator(network, shape, classes),
        [((ROWS, *shape), torch.float32), *labels],
    )


def _continued_classes(there: Sequence[str], here: Sequence[str]) -> list[int | None] | None:
    """Return for each class which one of the source has its name; None if names are unknown."""
    if not there or not here:
        return None
    return [there.index(name) if name in there else None for name in here]


def _about_no_match(source: Source, taken: dict[str, Transfer | None]) -> str:
    lines = [f"init_from: nothing in {source.name} fits this experiment's networks:"]
    for player, done in taken.items():
        if done is not None:
            lines += [f"  {player}: {line}" for line in summarize(done)]
    return "\n".join([*lines, "Choose the source's architecture and widths, or another source."])


def _log(source: Source, first: FirstWeights) -> None:
    lines = [f"starting from {source.name}"]
    for player, done in first.taken.items():
        if done is None:
            lines.append(f"  {player}: the source has none; it starts with the seed's weights")
        else:
            head, *more = summarize(done)
            lines += [f"  {player}: {head}", *(f"    {line}" for line in more)]
    log.info("%s", "\n".join(lines))


def _note(folder: RunFolder, asked: InitFrom, source: Source, first: FirstWeights) -> None:
    """Write into the run folder what it starts from; warn if an earlier start used other weights.

    Only a run that has no checkpoint yet comes here.
    """
    sha256 = source.sha256()
    before = folder.first_weights()
    if before is not None and before.get("source_sha256") != sha256:
        log.warning(
            "%s: this run has started before, from other weights (%s, SHA-256 %s); %s holds "
            "others now (SHA-256 %s), and the run starts anew from these",
            folder.path,
            before.get("read"),
            before.get("source_sha256"),
            source.name,
            sha256,
        )
    content: dict[str, Any] = {
        **asked.model_dump(),
        "read": source.name,
        "source_sha256": sha256,
        "first_weights_sha256": sha256_of_weights(first.weights),
        "taken": {player: done and asdict(done) for player, done in first.taken.items()},
    }
    folder.note_first_weights(json.dumps(content, indent=2) + "\n")
