"""Numbers that change over a run, as functions of the step alone: nothing here has a state.

A ramp goes from a to b while its progress t goes from 0 to 1:

    linear         a + (b - a) · t
    cosine         a + (b - a) · (1 - cos(π t)) / 2
    exponential    a · (b / a)^t

Progress is counted in steps s, from the end S₀ of the piece before (0 for the first) to the end S₁
of its own: t = (s - S₀) / (S₁ - S₀). A position of n images is n / batch size steps, one of p % of
the run p / 100 · `train.steps`. A piece holds for S₀ ≤ s < S₁; after the last one the number keeps
its last value.
"""

import math
from collections.abc import Callable

from ganscale.config import Number, Pace
from ganscale.config.schedules import Hold, Schedule


def linear(start: float, end: float, progress: float) -> float:
    """Return the point of the straight line from `start` to `end` at a progress in [0, 1]."""
    return start + (end - start) * progress


def cosine(start: float, end: float, progress: float) -> float:
    """Return the point of half a period of a cosine, which is flat at both ends.

    Loshchilov & Hutter 2017, eq. 5.
    """
    return start + (end - start) * (1 - math.cos(math.pi * progress)) / 2


def exponential(start: float, end: float, progress: float) -> float:
    """Return the point of the curve that grows by the same factor in equal times; both are > 0."""
    return float(start * (end / start) ** progress)


SHAPES: dict[str, Callable[[float, float, float], float]] = {
    "linear": linear,
    "cosine": cosine,
    "exponential": exponential,
}


def value_at(number: Number, step: float, pace: Pace) -> float:
    """Return a number of the experiment at a step of the run, counted from 0.

    `step` is how many steps have been done; a number without a schedule is always the same.
    """
    if not isinstance(number, Schedule):
        return number
    begin = 0.0
    for piece in number.pieces:
        end = piece.until.in_steps(pace)
        if step < end:
            if isinstance(piece, Hold):
                return piece.hold
            assert piece.start is not None, "a schedule that was read begins somewhere"
            return SHAPES[piece.by](piece.start, piece.end, (step - begin) / (end - begin))
        begin = end
    return number.final
