"""What cards can do at best, as their vendor states it: dense rates, without sparsity.

Rates are in TFLOP/s with float32 accumulation, memory in GB (10^9 bytes), bandwidths in GB/s.
`link` is what a card sends to the others of its node in one direction, half of the sum that data
sheets give: over NVLink, or over PCI Express where a card has no NVLink.
"""

from dataclasses import dataclass

import torch

from ganscale.errors import GanscaleError


@dataclass(frozen=True)
class Card:
    """A card's peak rates; a rate is None if the card has no such arithmetic."""

    name: str
    bf16: float | None
    fp16: float
    tf32: float | None
    fp32: float
    memory: float
    bandwidth: float
    link: float
    source: str
    """The vendor's document that states these numbers."""

    def flop_per_s(self, dtype: torch.dtype, tf32: bool) -> float:
        """Return the peak rate of matrix products in FLOP/s, for float32 with or without TF32.

        Raises `GanscaleError` if the card has no such arithmetic.
        """
        rate = {torch.bfloat16: self.bf16, torch.float16: self.fp16}.get(dtype, self.fp32)
        if dtype == torch.float32 and tf32 and self.tf32 is not None:
            rate = self.tf32
        if rate is None:
            raise GanscaleError(
                f"{self.name} has no arithmetic in bf16: choose another card, or set "
                "train.precision=fp16"
            )
        return rate * 1e12


CARDS = {
    card.name: card
    for card in (
        Card("B200", 2250, 2250, 1100, 80, 180, 8000, 900, "NVIDIA HGX B200 data sheet, a GPU"),
        Card("H200", 989.5, 989.5, 494.5, 67, 141, 4800, 450, "NVIDIA H200 data sheet, SXM"),
        Card("H100", 989.5, 989.5, 494.5, 67, 80, 3350, 450, "NVIDIA H100 data sheet, SXM"),
        Card("H100-PCIe", 756.5, 756.5, 378, 51, 80, 2000, 64, "NVIDIA H100 data sheet, PCIe"),
        Card("A100-80GB", 312, 312, 156, 19.5, 80, 2039, 300, "NVIDIA A100 data sheet, SXM"),
        Card("A100-40GB", 312, 312, 156, 19.5, 40, 1555, 300, "NVIDIA A100 data sheet, SXM"),
        Card("L40S", 362, 362, 183, 91.6, 48, 864, 32, "NVIDIA L40S data sheet"),
        Card("L4", 121, 121, 60, 30.3, 24, 300, 32, "NVIDIA L4 data sheet"),
        Card("A10", 125, 125, 62.5, 31.2, 24, 600, 32, "NVIDIA A10 data sheet"),
        Card("V100", None, 125, None, 15.7, 32, 900, 150, "NVIDIA V100 data sheet, SXM2"),
        Card("T4", None, 65, None, 8.1, 16, 320, 16, "NVIDIA T4 data sheet"),
        Card("RTX4090", 165.2, 165.2, 82.6, 82.6, 24, 1008, 32, "NVIDIA Ada white paper, app. A"),
        Card("RTX3090", 71, 71, 35.6, 35.6, 24, 936, 32, "NVIDIA GA102 white paper, app. A"),
    )
}
"""The cards that `ganscale plan --card` accepts."""


def find_card(name: str) -> Card:
    """Return the card with this name, in any case; raise `GanscaleError` if there is none."""
    for known, card in CARDS.items():
        if known.lower() == name.lower():
            return card
    raise GanscaleError(f"--card {name}: unknown card; use one of {', '.join(CARDS)}")
