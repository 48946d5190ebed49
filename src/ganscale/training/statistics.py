"""What a step measured on this rank, kept on the device until someone wants to know."""

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from ganscale.devices import wait_for
from ganscale.gan.game import Measured


class Statistics:
    """Collects measurements of a step's micro-batches; the means are computed when asked for."""

    def __init__(self, paired: bool = False):
        """`paired`: the loss compares a real logit with a generated one, and knows no other."""
        self._paired = paired
        self.values: dict[str, list[Tensor]] = defaultdict(list)

    def add(self, name: str, value: Tensor) -> None:
        """Note a number."""
        self.values[name].append(value.detach())

    def add_all(self, player: str, measured: Measured) -> None:
        """Note what a player's loss measured in one micro-batch."""
        for name, value in measured.items():
            self.add(f"loss_{player}" if name == "loss" else name, value)

    def take(self, other: "Statistics", prefix: str) -> None:
        """Note the numbers of another step too whose names begin with `prefix`."""
        for name, values in other.values.items():
            if name.startswith(prefix):
                self.values[name] += values

    @contextmanager
    def timing(self, name: str, device: torch.device) -> Iterator[None]:
        """Note the seconds that the work inside takes on the device."""
        wait_for(device)
        start = time.perf_counter()
        yield
        wait_for(device)
        self.add(name, torch.tensor(time.perf_counter() - start, device=device))

    def means(self) -> dict[str, Tensor]:
        """Return one float32 number for each name, and how sure the discriminator is.

        `d_real` and `d_fake` are the mean sigmoid of its logits for real and generated images. A
        relativistic discriminator only says which of two images is more real: there they are the
        sigmoid of the difference.
        """
        judged = ("real_logits", "fake_logits")
        return self._confidence(*judged) | {
            name: torch.stack([value.float().mean() for value in values]).mean()
            for name, values in self.values.items()
            if name not in judged
        }

    def _confidence(self, *judged: str) -> dict[str, Tensor]:
        """Return the discriminator's mean verdicts and accuracy, if it has judged anything."""
        if not all(self.values.get(name) for name in judged):
            return {}
        real, fake = (torch.cat(self.values[name]).float() for name in judged)
        lead = real - fake
        if self._paired:
            real, fake = lead, -lead
        return {
            "d_real": torch.sigmoid(real).mean(),
            "d_fake": torch.sigmoid(fake).mean(),
            "d_accuracy": (lead > 0).float().mean(),
        }
