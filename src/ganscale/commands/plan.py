"""Compute memory, work and time of an experiment on given cards, before renting any."""

import argparse
import shutil
from typing import TYPE_CHECKING

from ganscale.commands.arguments import add_overrides, path, positive

if TYPE_CHECKING:
    from rich.table import Table

    from ganscale.config import Experiment
    from ganscale.training.plan import Cluster, Plan

GBIT = 1e9 / 8  # bytes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the experiment and the cards."""
    parser.add_argument("experiment", type=path, help="experiment file")
    add_overrides(parser, "e.g. train.batch_size=512")
    parser.add_argument("--gpus", type=positive, default=1, help="cards, over all nodes (1)")
    parser.add_argument("--card", default="H100", help="a wrong name lists those known (H100)")
    parser.add_argument("--gpus-per-node", type=positive, default=8, help="(8)")
    parser.add_argument(
        "--network",
        type=positive,
        default=400,
        metavar="GBIT/S",
        help="what each card sends to other nodes (400)",
    )


def run(options: argparse.Namespace) -> None:
    """Print the plan."""
    from rich.console import Console

    from ganscale.config.load import load
    from ganscale.profiling.cards import find_card
    from ganscale.training.plan import Cluster, make_plan

    card = find_card(options.card)
    experiment = load(options.experiment, options.overrides)
    network = options.network * GBIT
    cluster = Cluster(card, options.gpus, options.gpus_per_node, network)
    plan = make_plan(experiment, cluster)
    console = Console(width=max(130, shutil.get_terminal_size().columns), highlight=False)
    console.print(_summary(experiment, plan, cluster))
    console.print(_engines(experiment, plan, cluster))
    for line in _notes(experiment, plan, cluster):
        console.print(line)


def _summary(experiment: "Experiment", plan: "Plan", cluster: "Cluster") -> "Table":
    """Return what holds for every engine."""
    from rich.table import Table

    card, train = cluster.card, experiment.train
    flop = plan.flop_per_image * plan.images_per_rank
    table = Table(show_header=False, box=None)
    table.add_row(
        experiment.name,
        f"{cluster.gpus} × {card.name} ({card.memory:,.0f} GB, {card.source}), {train.precision}",
    )
    table.add_row(
        "parameters",
        f"generator {plan.generator_parameters:,}, discriminator {plan.discriminator_parameters:,}",
    )
    table.add_row(
        "arithmetic",
        f"{plan.flop_per_image / 1e9:,.3f} GFLOP an image, {flop / 1e9:,.1f} GFLOP a step and card",
    )
    table.add_row(
        "batch",
        f"{train.batch_size:,} images, {plan.images_per_rank:,} a card in "
        f"{train.accumulation} micro-batch{'es' * (train.accumulation > 1)}",
    )
    table.add_row("gradients", f"{plan.reduced / 1e6:,.1f} MB averaged over cards in a step")
    return table


def _engines(experiment: "Experiment", plan: "Plan", cluster: "Cluster") -> "Table":
    """Return a row for each engine: memory by part, what fits, and the floor of the time."""
    from rich.table import Table

    table = Table(title="memory of one card in MB, and time at the card's peak", box=None)
    table.add_column("engine")
    columns = ("weights", "Adam", "EMA", "gradients", "activations", "batch", "buffers", "sum")
    for column in (*columns, "largest batch", "sent MB", "ms a step", "hours"):
        table.add_column(column, justify="right")
    for row in plan.engines:
        part = row.footprint
        if row.refused is not None:
            table.add_row(row.engine.name, *["–"] * 11)
            continue
        buffers = part.bucket + max(0, part.flat - plan.activations - plan.batch)
        sizes = (
            part.weights,
            part.moments,
            part.average,
            part.gradients,
            plan.activations,
            plan.batch,
            buffers,
            row.total,
        )
        table.add_row(
            row.engine.name,
            *(f"{size / 1e6:,.1f}" for size in sizes),
            f"{row.largest_batch:,}" + ("" if row.fits else " (does not fit)"),
            f"{part.sent / 1e6:,.1f}",
            f"{row.floor_s * 1e3:,.2f}",
            f"{row.floor_s * experiment.train.steps / 3600:,.2f}",
        )
    return table


def _notes(experiment: "Experiment", plan: "Plan", cluster: "Cluster") -> list[str]:
    """Return the assumptions behind the numbers, and what they mean for this experiment."""
    from ganscale.training.plan import LAUNCH_S, RESERVED

    launching = plan.launches * LAUNCH_S
    steps = experiment.train.steps
    notes = [
        f"The time is a floor: each operation at the card's peak of arithmetic or memory "
        f"({plan.compute_s * 1e3:,.2f} ms a step), then the reductions in a ring at "
        f"{cluster.slowest_link / 1e9:,.0f} GB/s, {_link(cluster)}. Nothing overlaps.",
        f"A step launches {plan.launches:,} operations. One by one, at {LAUNCH_S * 1e6:.0f} µs "
        f"each (assumed), that takes {launching * 1e3:,.1f} ms, or "
        f"{launching * steps / 3600:,.2f} hours for {steps:,} steps.",
    ]
    if launching > plan.compute_s:
        notes.append(
            "→ Launching takes longer than the work itself: the CPU sets the pace, and fewer "
            "cards with more images each lose little time."
        )
    notes.append(
        f"{RESERVED / 1e9:.0f} GB of each card are left for CUDA, its libraries and gaps (assumed)."
    )
    refusals = {row.refused for row in plan.engines if row.refused is not None}
    return notes + [f"– {refusal}" for refusal in sorted(refusals)]


def _link(cluster: "Cluster") -> str:
    if cluster.gpus == 1:
        return "of which one card needs none"
    if cluster.slowest_link == cluster.card.link * 1e9:
        return "what a card sends to the others of its node"
    return "what a card sends to other nodes (assumed; see --network)"
