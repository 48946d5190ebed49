"""The parts of a run in W&B's folder: each start of the run has left one."""

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ganscale.files import open_inside
from ganscale.runs.run_folder import RunFolder
from ganscale.runs.sync.transaction_log import read_log

FOLDER = re.compile(r"(offline-)?run-\d{8}_\d{6}-.+")
MAX_BYTES = 1 << 32


@dataclass(frozen=True)
class Part:
    """What one start of a run has logged.

    Attributes:
        root: the run folder, or the folder that WANDB_DIR names
        file: W&B's file of the records
        records: those that can be read; the one that describes the run is among them
        run: W&B's `RunRecord`
        flaw: a sentence about what cannot be read; empty if all can
        read_at_ns: when the file was last written before it was read, in ns since 1970
    """

    root: Path
    file: Path
    records: list[Any]
    run: Any
    flaw: str
    read_at_ns: int

    @property
    def files(self) -> Path:
        """The folder of the pictures and other files that the records name."""
        return self.file.parent / "files"

    @property
    def is_uploaded(self) -> bool:
        """Whether all of it has been uploaded, as W&B's own marker says."""
        marker = self._marker
        return marker.exists() and marker.stat().st_mtime_ns >= self.read_at_ns

    @property
    def is_offline(self) -> bool:
        """Whether nothing was uploaded while it was logged."""
        return self.file.parent.name.startswith("offline-")

    @property
    def has_begun(self) -> bool:
        """Whether W&B's server let it start; where it did not, another part goes on offline."""
        return self.is_offline or any(record.HasField("environment") for record in self.records)

    @property
    def _marker(self) -> Path:
        return self.file.with_name(f"{self.file.name}.synced")

    def mark_uploaded(self) -> None:
        """Leave W&B's marker, which says that all that was read is uploaded, but nothing newer."""
        self._marker.touch()
        os.utime(self._marker, ns=(self.read_at_ns, self.read_at_ns))


def find_parts(folder: RunFolder) -> tuple[dict[str, list[Part]], list[str]]:
    """Return a run's parts by W&B's id, in the order of the starts, and what cannot be read.

    A run folder holds several ids if the run was killed before it could note its id. Where
    WANDB_DIR is set, W&B has put the parts there, among those of other runs.
    """
    found: list[Part] = []
    flaws: list[str] = []
    places = [(folder.path, "*")]
    if elsewhere := os.environ.get("WANDB_DIR"):
        places.append((Path(elsewhere), folder.tracker_ids().get("wandb", "")))
    for root, wandb_id in places:
        for file in _files_in(root, wandb_id):
            part = _read(root, file)
            if part is None:
                flaws.append(f"{file} does not say of which run it is a part, and is left out")
            elif part.has_begun:
                found.append(part)
    found.sort(key=lambda part: (part.run.start_time.ToNanoseconds(), part.file))
    parts: dict[str, list[Part]] = {}
    for part in found:
        parts.setdefault(part.run.run_id, []).append(part)
    return parts, [*flaws, *(part.flaw for part in found if part.flaw)]


def _files_in(root: Path, wandb_id: str) -> Iterator[Path]:
    for part in sorted((root / "wandb").glob(f"*run-*-{wandb_id}")):
        # W&B's link to the latest one is none of its own.
        if FOLDER.fullmatch(part.name) and not part.is_symlink():
            yield from sorted(part.glob("run-*.wandb"))


def _read(root: Path, file: Path) -> Part | None:
    with open_inside(root, *file.relative_to(root).parts) as opened:
        written = os.fstat(opened.fileno()).st_mtime_ns
        log = read_log(opened.read(MAX_BYTES))
    described = next((record.run for record in log.records if record.HasField("run")), None)
    if described is None or not described.run_id:
        return None
    flaw = ""
    if log.damaged:
        places = "a place" if log.damaged == 1 else f"{log.damaged} places"
        flaw = f"{file} is damaged at {places}: what was logged there is lost, and the rest is not"
    return Part(root, file, log.records, described, flaw, written)


def step_of(history: Any) -> int | None:
    """Return the step of a W&B `HistoryRecord`; None if it has none."""
    for item in history.item:
        if "_step" in (item.key, *item.nested_key[:1]):
            return int(json.loads(item.value_json))
    return int(history.step.num) if history.HasField("step") else None
