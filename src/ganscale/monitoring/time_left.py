"""How long a run still takes, and when it ends."""

from collections import deque
from datetime import datetime, timedelta

RECENT_LINES = 10


class TimeLeft:
    """Estimates the seconds to the last step.

    Steps will take as long as those of the last lines did. What happens between steps (scores,
    pictures, checkpoints) comes seldom and takes long: it counts with its share of all steps so
    far, so that a line after an evaluation promises neither more nor less than the one before it.
    """

    def __init__(self, steps: int):
        self._steps = steps
        self._recent: deque[tuple[int, float]] = deque(maxlen=RECENT_LINES)
        self._counted = 0
        self._paused = 0.0

    def take(self, steps: int, training_s: float, paused_s: float) -> None:
        """Count so many more steps, the seconds that they took and those between them."""
        self._recent.append((steps, training_s))
        self._counted += steps
        self._paused += paused_s

    def after(self, step: int) -> float | None:
        """Return the seconds that are left after `step`; None before anything was counted."""
        if not self._counted:
            return None
        seconds = sum(seconds for _, seconds in self._recent) / sum(n for n, _ in self._recent)
        return (self._steps - step) * (seconds + self._paused / self._counted)


def describe_time_left(seconds: float, now: datetime) -> str:
    """Return the time left and the local time of the end, such as `2 h 05 min left (to 14:32)`."""
    end = now + timedelta(seconds=seconds + 30)  # the nearest minute, once its seconds are cut off
    minutes = round(seconds / 60)
    if seconds < 60:
        left = f"{seconds:.0f} s"
    elif minutes < 60:
        left = f"{minutes} min"
    elif minutes < 24 * 60:
        left = f"{minutes // 60} h {minutes % 60:02d} min"
    else:
        left = f"{minutes // (24 * 60)} d {minutes // 60 % 24} h"
    clock = "%H:%M" if end.date() == now.date() else "%d %b %H:%M"
    return f"{left} left (to {end.strftime(clock)})"
