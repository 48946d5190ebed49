"""One Slurm cluster a worker of the session, however many files use it; pages in a browser."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ganscale.config import Experiment
from tests.system.browser import browser, open_page, page
from tests.system.slurm_cluster import Cluster
from tests.system.slurm_jobs import uninterrupted_runs

__all__ = ["browser", "cluster", "open_page", "page", "uninterrupted"]


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    started = Cluster(tmp_path_factory.mktemp("slurm"))
    yield started
    started.stop()


@pytest.fixture(scope="session")
def uninterrupted(
    cluster: Cluster, digits: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Experiment]:
    """For each engine a run on two nodes of two GPUs that nothing interrupted."""
    return uninterrupted_runs(cluster, digits, tmp_path_factory.mktemp("uninterrupted"))
