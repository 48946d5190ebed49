"""How each player steps: learning rate and betas over the run, and the balance between the two."""

import logging
from typing import Any

from ganscale.config import Experiment, Number, Schedule
from ganscale.engines.player import Player
from ganscale.gan.schedules import value_at

log = logging.getLogger("ganscale")


class LearningRates:
    """Both players' learning rates and betas, set before each step."""

    def __init__(self, experiment: Experiment, generator: Player, discriminator: Player):
        self._players = {"generator": generator, "discriminator": discriminator}
        self._optimizers = {name: getattr(experiment, name).optimizer for name in self._players}
        self._pace = experiment.pace
        self._balance = experiment.balance
        self.shares = {"generator": 1.0, "discriminator": 1.0}
        """What the balance leaves each player of its learning rate."""

    def apply(self, step: int) -> None:
        """Give the optimizers their numbers for the step with this number, counted from 0."""
        for name, player in self._players.items():
            options = self._optimizers[name]
            first, second = (value_at(beta, step, self._pace) for beta in options.betas)
            rate = value_at(options.lr, step, self._pace) * self.shares[name]
            player.set_rates(rate, (first, second))

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

    def load_state(self, state: dict[str, Any]) -> None:
        """Resume from a checkpoint: schedules are functions of the step, so only shares count."""
        self.shares = dict(state["shares"])


def scheduled_values(experiment: Experiment, step: int) -> dict[str, float]:
    """Return what the schedules say for a step, counted from 0, by the names that are logged.

    Leaves out the learning rates, which the balance may change as well.
    """
    numbers: dict[str, Number] = {
        "ema/half_life": experiment.ema.half_life,
        "augment/probability": experiment.augment.probability,
        "augment/noise_std": experiment.augment.noise_std,
    }
    for name in ("generator", "discriminator"):
        for order, beta in enumerate(getattr(experiment, name).optimizer.betas, start=1):
            numbers[f"beta{order}/{name}"] = beta
    for penalty in experiment.objective.penalties:
        numbers[f"penalty_weight/{penalty.name}"] = penalty.weight
    return {
        name: value_at(number, step, experiment.pace)
        for name, number in numbers.items()
        if isinstance(number, Schedule)
    }
