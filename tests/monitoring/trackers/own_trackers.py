"""Trackers of a user's own, which experiments of the tests name."""

from ganscale.monitoring.trackers.tracker import TrackedRun, Tracker

LOGGED: list[int] = []


class Failing(Tracker):
    """Takes what is logged until step 2, and then finds its server gone."""

    def __init__(self, run: TrackedRun):
        LOGGED.clear()
        self.id = run.id or "some-id"

    def log(self, step: int, values: dict[str, float]) -> None:
        if step > 2:
            raise ConnectionError("no route\nto host")
        LOGGED.append(step)

    def finish(self) -> None:
        raise AssertionError("a tracker that has failed is left alone")


class Missing(Failing):
    """Needs a package that nobody has."""

    packages = ("a_package_that_nobody_has",)
    install = "pip install a-package"
