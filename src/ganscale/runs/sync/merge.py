"""The parts of a run as one: what each start has logged, each step once and in rising order.

A start that resumes from a checkpoint repeats the steps after it. The last start that has logged a
step decides what it shows, as in the run's own `metrics.jsonl`.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ganscale.monitoring.wandb_server import OnServer
from ganscale.runs.run_folder import RunFolder
from ganscale.runs.sync.lost import restore_lost
from ganscale.runs.sync.parts import Part, step_of
from ganscale.runs.sync.transaction_log import find_record_type

AGAIN = ("telemetry", "metric", "config", "summary", "use_artifact")
FAILED = 1


@dataclass(frozen=True)
class Merged:
    """What is to be uploaded.

    Attributes:
        records: W&B's `Record` messages of one run
        steps: the steps that they add to the run's history
        files: where each file is by the name that W&B gives it
        flaws: a sentence about each thing that is left out
    """

    records: list[Any]
    steps: list[int]
    files: dict[str, Path]
    flaws: list[str]


def merge(
    parts: Sequence[Part], known: OnServer, folder: RunFolder, is_running: bool = False
) -> Merged:
    """Return what the parts of a run have that W&B does not know.

    Args:
        parts: in the order of their starts
        known: what W&B has of the run
        folder: the run's; artifacts may take files from it and from W&B's own folders only
        is_running: whether a process is training, so that the run does not end here
    """
    new = [part for part in parts if not part.is_uploaded]
    steps = last_of_each_step(parts)
    until = max(steps, default=0) if is_running else None
    lost, lost_files = restore_lost(folder, steps.keys(), until)
    rows = {step: row for step, row in sorted((steps | lost).items()) if step > known.last_step}
    files, flaws = _files(new, known, folder.path)
    files |= {name: path for name, path in lost_files.items() if name not in known.files}
    others, artifact_flaws = _others(parts, new, known, folder.path)
    records = [find_record_type()(run=_described(parts, known)), *rows.values(), *others]
    for name in files:
        records.append(find_record_type()())
        records[-1].files.files.add(path=name)
    records.append(_exit(parts[-1], is_running))
    for number, record in enumerate(records, 1):
        record.num = number
    return Merged(records, list(rows), files, [*flaws, *artifact_flaws])


def _others(
    parts: Sequence[Part], new: Sequence[Part], known: OnServer, run: Path
) -> tuple[list[Any], list[str]]:
    """Return the records besides history and files, and a sentence about each one left out."""
    records: list[Any] = []
    flaws: list[str] = []
    stats = console = 0
    for part in parts:
        for record in part.records:
            kind = record.WhichOneof("record_type")
            if kind == "stats":
                stats += 1
                wanted = stats > known.stats_lines
            elif kind == "output_raw":
                console += record.output_raw.line.count("\n")
                wanted = part in new and console > known.console_lines
            elif kind == "artifact":
                flaw = _artifact_flaw(record.artifact, run) if part in new else ""
                flaws += [flaw] if flaw else []
                wanted = part in new and not flaw
            elif kind == "environment":  # W&B would join the command lines of several
                wanted = part is parts[-1]
            else:
                is_news = kind == "alert" and part in new and part.is_offline
                wanted = kind in AGAIN or is_news
            if wanted:
                records.append(record)
    return records, flaws


def _described(parts: Sequence[Part], known: OnServer) -> Any:
    """Return the `RunRecord` of the first start, with what the later ones have configured."""
    described = type(parts[0].run).FromString(parts[0].run.SerializeToString())
    for part in parts[1:]:
        described.config.MergeFrom(part.run.config)
        if part.run.tags:
            described.tags[:] = part.run.tags
    # Where W&B knows the run, its program asks for the number of lines, to append to them.
    described.resume = known.exists
    return described


def last_of_each_step(parts: Sequence[Part]) -> dict[int, Any]:
    """Return the record of each step.

    A start that logs a step makes void what earlier ones have logged from there on.
    """
    kept: dict[int, Any] = {}
    for part, before in zip(parts, _seconds_before(parts), strict=True):
        logged = {
            step: _at_runtime(record, before)
            for record in part.records
            if record.HasField("history") and (step := step_of(record.history)) is not None
        }
        first = min(logged, default=None)
        if first is not None:
            kept = {step: record for step, record in kept.items() if step < first} | logged
    return kept


def _files(parts: Sequence[Part], known: OnServer, run: Path) -> tuple[dict[str, Path], list[str]]:
    """Return where each file is that W&B lacks, by its name, and a sentence about each lost one.

    Of several files of one name, such as the experiment of each start, the last one counts.
    """
    found: dict[str, Path] = {}
    flaws: list[str] = []
    for part in parts:
        for name in _names_of_files(part):
            path = part.files / name
            if not any(_is_in(folder, part.files, name) for folder in (run, part.root)):
                flaws.append(f"{path} is missing or not a file of the run, and is left out")
            else:
                found[name] = path
    return {n: path for n, path in found.items() if not _has(known, n, path)}, flaws


def _has(known: OnServer, name: str, path: Path) -> bool:
    """Return whether W&B has a file: only the names of pictures and the like say their content."""
    is_named_by_content = name.startswith("media/")
    return is_named_by_content and known.files.get(name) == path.stat().st_size


def _names_of_files(part: Part) -> Iterator[str]:
    for record in part.records:
        for item in record.files.files:
            yield item.path


def _is_in(root: Path, folder: Path, name: str) -> bool:
    """Return whether a name in a folder of W&B's leads to a regular file below `root`.

    For a file that is saved by its path, such as the experiment, W&B's folder holds a link to it.
    """
    pure = PurePosixPath(name)
    if pure.is_absolute() or ".." in pure.parts or not pure.parts:
        return False
    path = (folder / name).resolve()
    return path.is_relative_to(root.resolve()) and path.is_file()


def _artifact_flaw(artifact: Any, run: Path) -> str:
    """Return why an artifact is left out; empty if all of its files are here and may be taken."""
    from wandb.env import get_cache_dir, get_data_dir

    if artifact.manifest.manifest_file_path:
        return f"the artifact {artifact.name} is left out: it has too many files to look at each"
    folders = [folder.resolve() for folder in (run, get_cache_dir(), Path(get_data_dir()))]
    for entry in artifact.manifest.contents:
        path = Path(entry.local_path)
        if not entry.local_path:  # it is stored elsewhere, and only its address is uploaded
            continue
        if not any(path.resolve().is_relative_to(folder) for folder in folders):
            why = f"{path} is in neither the run folder nor W&B's own"
        elif not path.is_file():
            why = f"{path} is missing"
        else:
            continue
        return f"the artifact {artifact.name} is left out: {why}"
    return ""


def _seconds_before(parts: Sequence[Part]) -> Iterator[float]:
    """Yield, for each part, for how many seconds the run had been running before it."""
    total = 0.0
    for part in parts:
        yield total
        total += max((_runtime(record) for record in part.records), default=0.0)


def _runtime(record: Any) -> float:
    for item in record.history.item:
        if "_runtime" in (item.key, *item.nested_key[:1]):
            return float(json.loads(item.value_json))
    return float(record.exit.runtime)


def _at_runtime(record: Any, before: float) -> Any:
    """Return a record of the history whose run time counts from the run's first start."""
    moved = type(record).FromString(record.SerializeToString())
    for item in moved.history.item:
        if "_runtime" in (item.key, *item.nested_key[:1]):
            item.value_json = json.dumps(json.loads(item.value_json) + before)
    return moved


def _exit(last: Part, is_running: bool) -> Any:
    """Return the record of how the run ended; a start that ended without a word has failed."""
    for record in last.records:
        if record.HasField("exit"):
            return find_record_type()(exit=record.exit)
    ended = find_record_type()()
    ended.exit.exit_code = FAILED
    ended.exit.not_complete = is_running
    return ended
