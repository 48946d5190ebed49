from datetime import datetime

import pytest

from ganscale.monitoring.time_left import RECENT_LINES, TimeLeft, describe_time_left


def test_the_rate_is_that_of_the_last_lines() -> None:
    left = TimeLeft(10_000)
    assert left.after(0) is None
    for _ in range(5):
        left.take(100, 1_000.0, 0.0)  # the start was slow
    for _ in range(RECENT_LINES):
        left.take(100, 50.0, 0.0)
    assert left.after(1_500) == pytest.approx(8_500 * 0.5)
    assert left.after(10_000) == 0


def test_pauses_count_with_their_share_whenever_they_come() -> None:
    """An evaluation of 300 s every 1,000 steps of 0.5 s: 0.8 s a step, also right after one."""
    left = TimeLeft(10_000)
    for line in range(1, 41):
        left.take(100, 50.0, 300.0 if line % 10 == 0 else 0.0)
        if line % 10 == 0:
            assert left.after(line * 100) == pytest.approx((10_000 - line * 100) * 0.8)
    before = left.after(4_000)
    left.take(100, 50.0, 0.0)
    after = left.after(4_100)
    assert before is not None
    assert after is not None
    assert 0 < before - after < 200


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (42, "42 s left (to 22:01)"),
        (59 * 60, "59 min left (to 22:59)"),
        (59 * 60 + 59, "1 h 00 min left (to 23:00)"),
        (2.5 * 3600, "2 h 30 min left (to 26 Nov 00:30)"),
        (3 * 86_400 + 5 * 3600, "3 d 5 h left (to 29 Nov 03:00)"),
    ],
)
def test_the_time_left_is_words_and_a_clock(seconds: float, text: str) -> None:
    assert describe_time_left(seconds, datetime(2026, 11, 25, 22, 0)) == text
