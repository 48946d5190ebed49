"""Measurement of the host memory that this process may still allocate."""

from pathlib import Path

import psutil

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUPS = Path("/proc/self/cgroup")


def free_memory(cgroups: Path = CGROUPS, own: Path = OWN_CGROUPS) -> int:
    """Return the free bytes of the machine, or of this job's or container's limit if it is lower.

    Slurm and container engines kill a process that exceeds the limit of its control group, however
    much of the machine's memory is free.
    """
    available: int = psutil.virtual_memory().available
    below_limits = (_free_in_group(group) for group in _groups(cgroups, own))
    return min([available, *(free for free in below_limits if free is not None)])


def _groups(cgroups: Path, own: Path) -> list[Path]:
    """Return the folders of this process's memory control group and of its ancestors."""
    found = []
    for line in own.read_text(encoding="utf-8").splitlines() if own.is_file() else []:
        _, controllers, name = line.split(":", 2)
        if not controllers or "memory" in controllers.split(","):  # version 2, version 1
            root = cgroups / controllers
            group = root / name.lstrip("/")
            found += [folder for folder in (group, *group.parents) if folder.is_relative_to(root)]
    return found


def _free_in_group(group: Path) -> int | None:
    """Return the bytes left below a group's limit, or None if it has none.

    File cache that the kernel can drop counts as free.
    """
    for limit, used, cache in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        try:
            bound = (group / limit).read_text(encoding="utf-8").strip()
            if bound == "max":
                return None
            statistics = dict(
                s.split() for s in (group / "memory.stat").read_text(encoding="utf-8").splitlines()
            )
            taken = int((group / used).read_text(encoding="utf-8")) - int(statistics.get(cache, 0))
        except OSError:
            continue
        return max(0, int(bound) - taken)
    return None
