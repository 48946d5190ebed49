"""Who keeps freed memory, and who is left alone."""

import ctypes
import os

import pytest
import torch

from ganscale.engines.allocator import keep_freed_memory

CPU = torch.device("cpu")
GLIBC = "glibc 2.36"


class C:
    """A C library that notes how its allocator is set."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, int]] = []

    def mallopt(self, parameter: int, value: int) -> int:
        self.calls.append((parameter, value))
        return 1


@pytest.fixture
def libc(monkeypatch: pytest.MonkeyPatch) -> C:
    library = C()
    monkeypatch.setattr(ctypes, "CDLL", lambda name: library)
    monkeypatch.setattr(os, "confstr", lambda name: GLIBC)
    for name in ("GLIBC_TUNABLES", "LD_PRELOAD"):
        monkeypatch.delenv(name, raising=False)
    return library


def test_a_training_on_a_cpu_keeps_memory(libc: C, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1")  # says nothing of thresholds
    keep_freed_memory(CPU)
    assert libc.calls == [(-4, 0), (-1, -1)]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MALLOC_TRIM_THRESHOLD_", "131072"),
        ("MALLOC_MMAP_THRESHOLD_", "131072"),
        ("MALLOC_MMAP_MAX_", "65536"),
        ("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1:glibc.malloc.trim_threshold=131072"),
        ("LD_PRELOAD", "/usr/lib/libjemalloc.so.2"),
    ],
)
def test_what_the_user_has_set_holds(
    libc: C, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    keep_freed_memory(CPU)
    assert not libc.calls


def test_other_devices_and_other_libraries_are_left_alone(
    libc: C, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_freed_memory(torch.device("cuda"))

    def unknown(name: str) -> str:
        raise ValueError("unrecognized configuration name")

    monkeypatch.setattr(os, "confstr", unknown)  # as on macOS
    keep_freed_memory(CPU)
    monkeypatch.delattr(os, "confstr")  # as on Windows
    keep_freed_memory(CPU)
    assert not libc.calls
