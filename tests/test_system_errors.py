import errno
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from ganscale.system_errors import describe_error, find_system_error


def raised_by_safetensors() -> None:
    save_file({"a": torch.ones(3)}, "/proc/a.safetensors")


def raised_by_torch() -> None:
    torch.save({"a": torch.ones(100_000)}, "/dev/full")


def raised_while_another_was_handled() -> None:
    try:
        with Path("/dev/full").open("wb", buffering=0) as file:
            file.write(b"x")
    except OSError:
        raise ValueError("the archive is still open")  # noqa: B904 - as zipfile does


@pytest.mark.parametrize(
    "work", [raised_by_safetensors, raised_by_torch, raised_while_another_was_handled]
)
def test_an_error_of_the_system_is_found_in_whatever_wraps_it(work) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(Exception) as caught:  # noqa: PT011 - each library has its own
        work()
    found = find_system_error(caught.value)
    assert found is not None
    assert describe_error(found)


def test_a_fault_of_the_program_is_none() -> None:
    assert find_system_error(ValueError("no space left on my mind")) is None
    bug = KeyError("a bug while a missing file was handled")
    bug.__context__ = FileNotFoundError(errno.ENOENT, "No such file or directory", "x")
    assert find_system_error(bug) is None


def test_the_sentence_says_where_what_and_what_to_do() -> None:
    full = OSError(errno.ENOSPC, "No space left on device", "/a/b")
    assert describe_error(full) == (
        "/a/b: No space left on device; free some space or choose another folder, then start again"
    )
    assert describe_error(OSError("encoder error -2")) == "encoder error -2"


def test_too_little_memory_is_one_sentence() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 55)
    found = find_system_error(caught.value)
    assert found is not None
    assert found.errno == errno.ENOMEM
    assert "lower train.batch_size" in describe_error(found)
    cuda = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a …")
    found = find_system_error(cuda)
    assert found is not None
    assert describe_error(found).startswith("CUDA out of memory. Tried to allocate 2.50 GiB; ")
