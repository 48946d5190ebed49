"""Learning rates and betas of the players at each step, and the balance between the players."""

import logging
from typing import Any

from ganscale.config import Experiment, Number, Schedule
from ganscale.engines.player import Player
from ganscale.gan.schedules import value_at

log = logging.getLogger("ganscale")


class LearningRates:
    """Sets the learning rates and betas of both players before each step."""

    def __init__(self, experiment: Experiment, generator: Player, discriminator: Player):
        self._players = {"generator": generator, "discriminator": discriminator}
        self._optimizers = {name: getattr(experiment, name).optimizer for name in self._players}
        self._pace = experiment.pace
        self._balance = experiment.balance
        self.shares = {"generator": 1.0, "discriminator": 1.0}
        """Factor by which the balance multiplies the learning rate of each player."""

    def apply(self, step: int) -> None:
        """Set the learning rates and betas for this step, counted from 0."""
        for name, player in self._players.items():
            options = self._optimizers[name]
            first, second = (value_at(beta, step, self._pace) for beta in options.betas)
            rate = value_at(options.lr, step, self._pace) * self.shares[name]
            player.set_rates(rate, (first, second))

    def rebalance(self, accuracy: float) -> None:
        """Slow the player that is too far ahead, after restoring the rate of the other one.

        `accuracy` is the share of pairs of a held-out real image and a generated one that the
        discriminator tells apart; guessing gives ½.
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
                "balance: the discriminator tells %.0f %% of held-out pairs apart; "
                "the %s's learning rate is now multiplied by %.2f",
                100 * accuracy,
                moved,
                share,
            )
        self.shares[moved] = share

    def rates(self) -> dict[str, float]:
        """Return the learning rate of each player, as last applied."""
        return {name: player.rate for name, player in self._players.items()}

    def state(self) -> dict[str, Any]:
        """Return what later steps depend on, besides the number of steps done."""
        return {"shares": dict(self.shares)}

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore the state: only the shares, because schedules are functions of the step."""
        self.shares = dict(state["shares"])


def scheduled_values(experiment: Experiment, step: int) -> dict[str, float]:
    """Return the values of the schedules at a step, counted from 0, by their names in the log.

    Learning rates are left out, because the balance may change them too.
    """
    numbers: dict[str, Number] = {
        "ema_half_life": experiment.ema.half_life,
        "augment_probability": experiment.augment.probability,
        "augment_noise_std": experiment.augment.noise_std,
    }
    for name in ("generator", "discriminator"):
        for order, beta in enumerate(getattr(experiment, name).optimizer.betas, start=1):
            numbers[f"beta{order}_{name}"] = beta
    for penalty in experiment.objective.penalties:
        numbers[f"penalty_weight_{penalty.name}"] = penalty.weight
    return {
        name: value_at(number, step, experiment.pace)
        for name, number in numbers.items()
        if isinstance(number, Schedule)
    }
