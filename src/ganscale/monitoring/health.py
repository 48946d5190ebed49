"""What goes wrong with GANs, noticed in the numbers: said once when it sets in, with what helps."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import NamedTuple

Numbers = Mapping[str, float]


class Alert(NamedTuple):
    """One thing that has gone wrong."""

    title: str
    text: str


class Sign(NamedTuple):
    """How a fault shows in logged numbers, and for how many logs in a row."""

    key: str
    is_bad: Callable[[float], bool]
    lasting: int
    alert: Alert


SIGNS = (
    Sign(
        "D accuracy",
        lambda accuracy: accuracy > 0.98,
        10,
        Alert(
            "The discriminator overpowers the generator",
            "It ranks more than 98 % of real images above made ones. What usually helps: a "
            "gradient penalty (objective.penalties with r1), augment.policy where images are few, "
            "a lower discriminator.optimizer.lr, or balance.",
        ),
    ),
    Sign(
        "gradient_norm/generator",
        lambda norm: norm < 1e-4,
        5,
        Alert(
            "The generator's gradient vanishes",
            "Its norm is below 0.0001, so that it hardly learns. What usually helps: another loss "
            "than minimax (non_saturating, hinge, relativistic), a gradient penalty, or a lower "
            "learning rate of the discriminator.",
        ),
    ),
    Sign(
        "class_entropy",
        lambda entropy: entropy < 0.8,
        1,
        Alert(
            "The generator leaves classes out",
            "The entropy of the classes of its images is below 80 % of that of equal classes. "
            "What usually helps: a larger batch, a gradient penalty, the relativistic loss, or a "
            "conditional game (data.classes).",
        ),
    ),
    Sign(
        "diversity",
        lambda diversity: diversity < 0.5,
        1,
        Alert(
            "The generator's images are all alike",
            "They are less than half as far from each other as real ones. What usually helps: a "
            "lower learning rate, a gradient penalty, the relativistic loss, or going back to an "
            "earlier checkpoint.",
        ),
    ),
)


class Health:
    """Remembers how long each sign has been there."""

    def __init__(self) -> None:
        self._lasted: defaultdict[str, int] = defaultdict(int)

    def observe(self, numbers: Numbers) -> list[Alert]:
        """The faults that these numbers complete the sign of."""
        alerts = []
        for sign in SIGNS:
            if sign.key in numbers:
                bad = sign.is_bad(numbers[sign.key])
                self._lasted[sign.key] = self._lasted[sign.key] + 1 if bad else 0
                if self._lasted[sign.key] == sign.lasting:
                    alerts.append(sign.alert)
        return alerts
