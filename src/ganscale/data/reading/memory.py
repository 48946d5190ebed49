"""How much host memory this process may still take."""

from pathlib import Path

import psutil

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUPS = Path("/proc/self/cgroup")


def free_memory(cgroups: Path = CGROUPS, own: Path = OWN_CGROUPS) -> int:
    """Bytes that are free on the machine, or within what a job or container may use of it.

    Slurm and container engines end a process that takes more than its control group's limit,
    however much of the machine's memory is free.
    """
    available: int = psutil.virtual_memory().available
    limits = (_room(group) for group in _groups(cgroups, own))
    return min([available, *(room for room in limits if room is not None)])


def _groups(cgroups: Path, own: Path) -> list[Path]:
    """The folders of this process's memory control group and of those that it lies in."""
    found = []
    for line in own.read_text().splitlines() if own.is_file() else []:
        _, controllers, name = line.split(":", 2)
        if not controllers or "memory" in controllers.split(","):  # version 2, version 1
            root = cgroups / controllers
            group = root / name.lstrip("/")
            found += [folder for folder in (group, *group.parents) if folder.is_relative_to(root)]
    return found


def _room(group: Path) -> int | None:
    """Bytes below a group's limit; file cache that the kernel would give up counts as free."""
    for limit, used, cache in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        try:
            bound = (group / limit).read_text().strip()
            if bound == "max":
                return None
            statistics = dict(s.split() for s in (group / "memory.stat").read_text().splitlines())
            taken = int((group / used).read_text()) - int(statistics.get(cache, 0))
        except OSError:
            continue
        return max(0, int(bound) - taken)
    return None
