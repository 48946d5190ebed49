"""Detection of typical GAN failures in the logged numbers, with advice on what helps."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import NamedTuple

Numbers = Mapping[str, float]


class Alert(NamedTuple):
    """One thing that has gone wrong."""

    title: str
    text: str


class Symptom(NamedTuple):
    """How a failure shows in a logged number, and in how many logs in a row it must do so."""

    key: str
    is_bad: Callable[[float], bool]
    logs_in_a_row: int
    alert: Alert


SYMPTOMS = (
    Symptom(
        "d_accuracy",
        lambda accuracy: accuracy > 0.98,
        10,
        Alert(
            "The discriminator overpowers the generator",
            "It ranks more than 98 % of real images above generated ones. What usually helps: a "
            "gradient penalty (objective.penalties with r1), augment.policy if there are few "
            "images, a lower discriminator.optimizer.lr, or balance.",
        ),
    ),
    Symptom(
        "gradient_norm_generator",
        lambda norm: norm < 1e-4,
        5,
        Alert(
            "The generator's gradient vanishes",
            "Its norm is below 0.0001, so the generator hardly learns. What usually helps: a loss "
            "other than minimax (non_saturating, hinge, relativistic), a gradient penalty, or a "
            "lower learning rate of the discriminator.",
        ),
    ),
    Symptom(
        "class_entropy",
        lambda entropy: entropy < 0.8,
        1,
        Alert(
            "The generator leaves classes out",
            "The entropy of the classes of its images is below 80 % of the maximum. What usually "
            "helps, where it is not there yet: a larger batch, a gradient penalty, the "
            "relativistic loss, or a conditional GAN (data.classes).",
        ),
    ),
    Symptom(
        "diversity",
        lambda diversity: diversity < 0.5,
        1,
        Alert(
            "The generator's images are all alike",
            "They are less than half as far from each other as real images. What usually helps, "
            "where it is not there yet: a lower learning rate, a gradient penalty, the "
            "relativistic loss, or going back to an earlier checkpoint.",
        ),
    ),
)


class Health:
    """Counts for how many logs in a row each symptom has been present."""

    def __init__(self) -> None:
        self._counts: defaultdict[str, int] = defaultdict(int)

    def observe(self, numbers: Numbers) -> list[Alert]:
        """Take newly logged numbers; return an alert for each symptom that has just set in."""
        alerts = []
        for symptom in SYMPTOMS:
            if symptom.key in numbers:
                bad = symptom.is_bad(numbers[symptom.key])
                self._counts[symptom.key] = self._counts[symptom.key] + 1 if bad else 0
                if self._counts[symptom.key] == symptom.logs_in_a_row:
                    alerts.append(symptom.alert)
        return alerts
