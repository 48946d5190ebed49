"""How large a step each player takes: schedules over the run, and the balance between the two."""

import logging
from typing import Any

import torch

from ganscale.config import Experiment, Schedule
from ganscale.engines.player import Player
from ganscale.errors import GanscaleError

log = logging.getLogger("ganscale")


class Scheduled:
    """The product of torch's schedulers, each over an imagined learning rate of 1."""

    def __init__(self, key: str, schedules: tuple[Schedule, ...]):
        """Raises `GanscaleError` naming `key` where a schedule does not take its options."""
        self._optimizers, self._schedulers = [], []
        for i, schedule in enumerate(schedules):
            optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
            try:
                kind = getattr(torch.optim.lr_scheduler, schedule.name)
                scheduler = kind(optimizer, **schedule.options)
            except (TypeError, ValueError) as error:
                raise GanscaleError(
                    f"{key}.{i}: {schedule.name} does not take options={schedule.options} "
                    f"({error}); see torch.optim.lr_scheduler.{schedule.name}",
                    every_rank=True,
                ) from None
            optimizer.step()  # torch warns of a scheduler whose optimizer has not stepped
            self._optimizers.append(optimizer)
            self._schedulers.append(scheduler)

    @property
    def factor(self) -> float:
        """What the learning rate is multiplied by now."""
        product = 1.0
        for optimizer in self._optimizers:
            product *= optimizer.param_groups[0]["lr"]
        return product

    def advance(self) -> None:
        """One step of the run has been done."""
        for scheduler in self._schedulers:
            scheduler.step()


class LearningRates:
    """Both players' learning rates, set before each step."""

    def __init__(self, experiment: Experiment, generator: Player, discriminator: Player):
        self._players = {"generator": generator, "discriminator": discriminator}
        self._scheduled = {
            name: Scheduled(f"{name}.schedules", getattr(experiment, name).schedules)
            for name in self._players
        }
        self._balance = experiment.balance
        self.shares = {"generator": 1.0, "discriminator": 1.0}
        """What the balance leaves each player of its learning rate."""
        self._are_constant = experiment.balance is None and not (
            experiment.generator.schedules or experiment.discriminator.schedules
        )

    def apply(self) -> None:
        """Give the players the rates of the step that follows."""
        if not self._are_constant:
            for name, factor in self.factors().items():
                self._players[name].scale_rate(factor)

    def factors(self) -> dict[str, float]:
        """What each player's learning rate is multiplied by."""
        return {name: s.factor * self.shares[name] for name, s in self._scheduled.items()}

    def advance(self) -> None:
        """One step of the run has been done."""
        for scheduled in self._scheduled.values():
            scheduled.advance()

    def rebalance(self, accuracy: float) -> None:
        """Slow the player that runs away; first give back what the other one has lost.

        `accuracy`: the share of pairs of a held-out real and a made image that the discriminator
        tells apart; ½ is guessing.
        """
        assert self._balance is not None
        low, high = self._balance.band
        if low <= accuracy <= high:
            return
        ahead, behind = "discriminator", "generator"
        if accuracy < low:
            ahead, behind = behind, ahead
        moved, factor = ahead, self._balance.factor
        if self.shares[behind] < 1:
            moved, factor = behind, 1 / factor
        share = min(1.0, max(self._balance.least, self.shares[moved] * factor))
        if share != self.shares[moved]:
            log.info(
                "balance: the discriminator tells %.0f %% of held-out pairs apart: "
                "%s's learning rate to %.2f of its own",
                100 * accuracy,
                moved,
                share,
            )
        self.shares[moved] = share

    def rates(self) -> dict[str, float]:
        """Each player's learning rate, as it was last applied."""
        return {name: player.rate for name, player in self._players.items()}

    def state(self) -> dict[str, Any]:
        """What, besides the number of steps done, a later step depends on."""
        return {"shares": dict(self.shares)}

    def load_state(self, state: dict[str, Any], step: int) -> None:
        """Take up a run of which `step` steps are done.

        The schedules start anew and are advanced that far, so that they are a function of the
        step alone: the same bits as without the interruption where the experiment's schedules are
        the same, and what the new ones say of that step where they have changed. A hundred
        thousand steps take a fifth of a second.
        """
        for _ in range(step):
            self.advance()
        self.shares = dict(state["shares"])
