from pathlib import Path

import psutil
import pytest

from ganscale.data.reading.memory import free_memory

GiB = 2**30


def group(folder: Path, limit: str, used: int, cache: int) -> None:
    """A control group of version 2."""
    folder.mkdir(parents=True)
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 1\ninactive_file {cache}\n")


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    found = psutil.virtual_memory()
    monkeypatch.setattr(psutil, "virtual_memory", lambda: found._replace(available=64 * GiB))


def test_a_jobs_limit_counts_and_not_the_machines_memory(tmp_path: Path) -> None:
    own, cgroups = tmp_path / "cgroup", tmp_path / "cgroups"
    own.write_text("0::/slurm/job_7/step_0\n")
    group(cgroups / "slurm" / "job_7", str(10 * GiB), used=5 * GiB, cache=2 * GiB)
    group(cgroups / "slurm" / "job_7" / "step_0", "max", used=GiB, cache=0)
    assert free_memory(cgroups, own) == (10 - (5 - 2)) * GiB


def test_limits_of_version_1(tmp_path: Path) -> None:
    own, folder = tmp_path / "cgroup", tmp_path / "memory"
    own.write_text("4:memory:/not/visible/in/the/container\n3:cpuset:/\n")
    folder.mkdir()
    (folder / "memory.limit_in_bytes").write_text(f"{8 * GiB}\n")
    (folder / "memory.usage_in_bytes").write_text(f"{7 * GiB}\n")
    (folder / "memory.stat").write_text(f"inactive_file 3\ntotal_inactive_file {2 * GiB}\n")
    assert free_memory(tmp_path, own) == 3 * GiB


def test_without_a_limit_it_is_the_machines(tmp_path: Path) -> None:
    assert free_memory(tmp_path, tmp_path / "nowhere") == 64 * GiB
    own = tmp_path / "cgroup"
    own.write_text("0::/\n4:memory:/\n")
    assert free_memory(tmp_path, own) == 64 * GiB
