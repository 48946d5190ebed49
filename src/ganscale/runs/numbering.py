"""`--new`: a further run of an experiment, under the first number that is free."""

import itertools
from collections.abc import Iterator

from ganscale.config import Experiment
from ganscale.errors import GanscaleError
from ganscale.runs.run_folder import RunFolder


def next_free(experiment: Experiment) -> Experiment:
    """Return the experiment under the first of NAME, NAME-2, NAME-3, … that has no folder yet."""
    return next(one for one in _numbered(experiment) if not one.folder.exists())


def take_next(experiment: Experiment) -> Experiment:
    """Return the experiment under such a name, whose folder now exists: nobody else gets it."""
    for one in _numbered(experiment):
        try:
            RunFolder.of(one).reserve(one)
        except FileExistsError:
            continue
        return one
    raise AssertionError("numbers do not end")


def last_taken(experiment: Experiment) -> Experiment:
    """Return the experiment under the last name before the first that is free.

    A process that a launcher has started again goes on with the run that its first start took.
    Raises `GanscaleError` if no name is taken.
    """
    taken = itertools.takewhile(lambda one: one.folder.exists(), _numbered(experiment))
    last = next(iter([*taken][-1:]), None)
    if last is None:
        raise GanscaleError(
            f"{experiment.folder}: the folder that this run has taken is gone", every_rank=True
        )
    return last


def _numbered(experiment: Experiment) -> Iterator[Experiment]:
    names = (f"{experiment.name}-{number}" for number in itertools.count(2))
    more = (experiment.model_copy(update={"name": name}) for name in names)
    return itertools.chain([experiment], more)
