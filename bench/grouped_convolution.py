"""R3GAN's discriminator update with its own second derivatives against PyTorch's, in turns.

    python bench/grouped_convolution.py [--device cuda] [--rounds N] [--width N] [--json FILE]

An update is the relativistic loss with R1 and R2 and its gradients, as in `configs/cifar10_r3gan`
but for the width of the network; with bf16 the penalties remain in float32, as in training. The
two take turns; figures are medians, and the ratio is that of pairs that ran one after the other.
Convolutions are counted as PyTorch dispatches them, a gradient by images and by weights as two.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # what counts convolutions is in tests/

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.autograd import grad

from ganscale.gan.penalties import R1
from ganscale.networks import grouped_convolution
from ganscale.networks.r3gan import R3GANDiscriminator
from tests.networks.convolutions import Convolutions

WARM_UP = 2  # updates


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--width", type=int, default=64, help="channels of each stage")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--json", type=Path, help="write the figures there")
    options = parser.parse_args()
    torch.manual_seed(0)
    network = R3GANDiscriminator((3, 32, 32), (options.width,) * 4).to(options.device)
    images = torch.randn(2, options.batch, 3, 32, 32, device=options.device)
    counts = {own: convolutions(network, images, own) for own in (True, False)}
    rows: list[dict[str, Any]] = []
    for precision in ("fp32", "bf16"):
        seconds = in_turns(network, images, precision == "bf16", options.rounds)
        ratios = [ours / theirs for ours, theirs in zip(*seconds, strict=True)]
        ours, theirs = map(statistics.median, seconds)
        ratio, low, high = statistics.median(ratios), min(ratios), max(ratios)
        rows.append(
            {"precision": precision, "own_s": ours, "pytorch_s": theirs}
            | {"ratio": ratio, "ratio_min": low, "ratio_max": high}
            | {"own_convolutions": counts[True], "pytorch_convolutions": counts[False]}
        )
    _show(rows, f"width {options.width}, batch {options.batch}, {options.device}")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")


def in_turns(
    network: nn.Module, images: Tensor, lower: bool, rounds: int
) -> tuple[list[float], list[float]]:
    """Seconds of each update with our derivatives, and with PyTorch's."""
    seconds: dict[bool, list[float]] = {True: [], False: []}
    for k in range(WARM_UP + rounds):
        for own in (True, False) if k % 2 else (False, True):
            start = _now(images.device)
            update(network, images, lower, own)
            seconds[own].append(_now(images.device) - start)
    return seconds[True][WARM_UP:], seconds[False][WARM_UP:]


def convolutions(network: nn.Module, images: Tensor, own: bool) -> int:
    with Convolutions() as found:
        update(network, images, False, own)
    return found.counted


def update(network: nn.Module, images: Tensor, lower: bool, own: bool) -> tuple[Tensor, ...]:
    """The gradients of the loss with both penalties."""
    grouped_convolution.at_once = lambda _: own
    with torch.autocast(images.device.type, torch.bfloat16, enabled=lower):
        real_logits, fake_logits = network(images.flatten(0, 1)).float().chunk(2)
    loss = F.softplus(fake_logits - real_logits).mean()
    for penalised in images:
        loss = loss + R1()(network, penalised, penalised, torch.rand)
    return grad(loss, tuple(network.parameters()))


def _now(device: torch.device) -> float:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    return time.perf_counter()


def _show(rows: list[dict[str, Any]], title: str) -> None:
    table = Table("precision", "", "own", "PyTorch's", "own / PyTorch's", title=title)
    for row in rows:
        spread = f"{row['ratio']:.2f} ({row['ratio_min']:.2f} … {row['ratio_max']:.2f})"
        seconds = f"{row['own_s']:.3f}", f"{row['pytorch_s']:.3f}"
        table.add_row(row["precision"], "seconds", *seconds, spread)
    counts = rows[0]["own_convolutions"], rows[0]["pytorch_convolutions"]
    table.add_row("", "convolutions", *map(str, counts), f"{counts[0] / counts[1]:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
