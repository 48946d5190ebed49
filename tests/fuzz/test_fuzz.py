"""Two minutes of attacks on whatever reads data; `./launch/fuzz.sh MINUTES` runs more."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ganscale.data.reading.decode import decode_bytes
from ganscale.data.shards.index import MAX_CLASSES, parse_index, parse_label
from ganscale.files import read_regular_file
from tests.fuzz.campaign import FAULTS, Victim, campaign, table
from tests.fuzz.mutations import with_checksums
from tests.fuzz.targets import IMAGES, TRIALS, decode_every_way, run_trial

CAMPAIGN_S = 60.0
DECODERS = ["PNG", "JPEG", "WebP"]  # quick trials: in a time of their own they become thousands
OTHERS = [kind for kind in TRIALS if kind not in DECODERS]
EXAMPLES = [content for files in IMAGES.values() for content in files]


@pytest.fixture(scope="module")
def victim() -> Iterator[Victim]:
    with Victim(hang_s=60) as victim:
        yield victim


@pytest.mark.parametrize(
    ("guard", "seen"),
    [
        ("crash", "crashed: SIGABRT"),
        ("exception", "traceback: KeyError"),
        ("memory", "traceback: MemoryError"),
    ],
)
def test_a_fault_would_be_seen(victim: Victim, guard: str, seen: str) -> None:
    assert victim.ask((guard, 0)).startswith(seen)


def test_a_hang_would_be_seen() -> None:
    with Victim(hang_s=0.5) as victim:
        assert victim.ask(("hang", 0)) == "hung"


def test_two_decoders_that_differ_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    grey = IMAGES["PNG"][-1]
    assert decode_every_way(grey) == "read"

    def wrong(content: bytes, *about: Any) -> np.ndarray:
        return decode_bytes(content, *about) ^ 1

    monkeypatch.setattr("tests.fuzz.targets.decode_bytes", wrong)
    assert decode_every_way(grey).startswith("silent")


def test_silence_that_cannot_be_judged_is_not_called_none() -> None:
    rows = table({"PNG": Counter(read=3), "WebP": Counter(read=4)}).splitlines()
    assert rows[2:] == [
        "| PNG | 3 | 0 | 0 | 0 | 0 |",
        "| WebP | 4 | - | 0 | 0 | 0 |",
        "| all | 7 | 0 | 0 | 0 | 0 |",
    ]


@pytest.mark.parametrize("kinds", [DECODERS, OTHERS], ids=["decoders", "others"])
def test_a_seeded_campaign_finds_nothing(kinds: list[str]) -> None:
    counts = campaign(kinds, seed=0, trials=10**9, seconds=CAMPAIGN_S)
    print(table(counts))
    assert all(found.total() for found in counts.values())
    assert not any(found[fault] for found in counts.values() for fault in FAULTS)
    # What is accepted and what is refused both occur, or nothing was tried.
    assert sum(found["error"] for found in counts.values())
    assert sum(found["read"] + found["same"] for found in counts.values())


edits = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 20), st.binary(max_size=20)), max_size=5)


@settings(
    max_examples=200,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(content=st.sampled_from(EXAMPLES), edits=edits, repaired=st.booleans())
def test_any_edit_of_an_image_is_an_image_or_an_error(
    victim: Victim, content: bytes, edits: list[tuple[float, int, bytes]], repaired: bool
) -> None:
    for at, removed, inserted in edits:
        start = int(at * len(content))
        content = content[:start] + inserted + content[start + removed :]
    assert victim.ask(with_checksums(content) if repaired else content) in ("read", "error")


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    st.one_of(
        st.text(),
        st.integers(),
        st.floats(),
        st.booleans(),
        st.none(),
        st.lists(st.integers()),
        st.from_regex(r"-?[0-9]{1,12}"),
    )
)
def test_a_label_is_a_class_number_or_an_error(value: object) -> None:
    try:
        label = parse_label(value)
    except ValueError:
        return
    assert -1 <= label < MAX_CLASSES
    assert float(value) == label  # type: ignore[arg-type]


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    st.one_of(st.binary(), st.binary().map(b"\x93NUMPY\x01\0".__add__)),
    st.integers(0, 1 << 70),
    st.integers(0, 9),
)
def test_an_index_is_a_table_or_an_error(rows: bytes, samples: int, columns: int) -> None:
    header = f"{{'descr': '<i8', 'fortran_order': False, 'shape': ({samples}, {columns}), }}\n"
    for content in (rows, b"\x93NUMPY\x01\0v\0" + header.encode() + rows):
        try:
            table = parse_index(content)
        except ValueError:
            continue
        assert table.dtype == np.int64
        assert table.shape[1] == 4


def test_a_limit_is_not_allocated(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("files") / "small"
    path.write_bytes(b"x")
    assert read_regular_file(path, 1 << 50) == b"x"
    with pytest.raises(OSError, match="larger than 0 bytes"):
        read_regular_file(path, 0)


def test_a_forged_archive_of_moments_is_called_damaged(tmp_path: Path) -> None:
    """It sends torch's reader to a place before the file's start, as a campaign once found."""
    assert not run_trial("run folder", 533, tmp_path).startswith("traceback")
