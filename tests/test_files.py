import ast
import os
from pathlib import Path

import pytest

from ganscale.errors import GanscaleError
from ganscale.files import (
    append_line,
    read_at,
    read_inside,
    read_json_lines,
    refuse_links,
    write_atomically,
    write_output,
)


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "outside" / "secret"
    path.parent.mkdir()
    path.write_text("secret")
    return path


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    (folder / "gallery").mkdir(parents=True)
    (folder / "gallery" / "samples.png").write_bytes(b"png")
    return folder


def test_what_lies_inside_is_read_also_through_a_link_to_the_run(run: Path) -> None:
    link = run.with_name("link")
    link.symlink_to(run)
    assert read_inside(link, "gallery", "samples.png") == b"png"
    with pytest.raises(FileNotFoundError):
        read_inside(run, "gallery", "nothing.png")


def test_no_link_leads_out(run: Path, secret: Path) -> None:
    (run / "gallery" / "samples.png").unlink()
    (run / "gallery" / "samples.png").symlink_to(secret)
    (run / "samples").symlink_to(secret.parent)
    for names in (("gallery", "samples.png"), ("samples", "secret")):
        with pytest.raises(GanscaleError, match="links in a run folder are not followed"):
            read_inside(run, *names)


def test_a_fifo_or_a_device_is_not_waited_for(run: Path) -> None:
    os.mkfifo(run / "fifo")
    with pytest.raises(GanscaleError, match="is a FIFO, not a regular file"):
        read_inside(run, "fifo")
    with pytest.raises(GanscaleError, match="is a device, not a regular file"):
        read_inside(Path("/dev"), "zero")
    with pytest.raises(GanscaleError, match="is a folder, not a regular file"):
        read_inside(run, "gallery")


def test_reading_past_the_end_of_a_file_is_an_error(run: Path) -> None:
    with (run / "gallery" / "samples.png").open("rb") as file:
        assert read_at(file.fileno(), 1, 2) == b"ng"
        with pytest.raises(ValueError, match="truncated: 1 of 5 bytes at byte 2"):
            read_at(file.fileno(), 2, 5)


def test_a_cut_line_costs_itself_only(run: Path) -> None:
    path = run / "lines.jsonl"
    append_line(path, '{"step": 1}')
    with path.open("ab") as file:
        file.write(b'{"step": 2, "val')  # the process was killed here
    append_line(path, '{"step": 3}')
    assert read_json_lines(path) == [{"step": 1}, {"step": 3}]
    deep, long = "[" * 100_000, '{"step": ' + "1" * 5000 + "}"
    for junk in ("", "3", "null", "[]", "\0", "NaN", deep, long):
        append_line(path, junk)
    with path.open("ab") as file:
        file.write(b"\xff\xfe\n")
    assert read_json_lines(path) == [{"step": 1}, {"step": 3}]
    assert read_json_lines(run / "absent.jsonl") == []


def test_appending_follows_no_link(run: Path, secret: Path) -> None:
    (run / "lines.jsonl").symlink_to(secret)
    with pytest.raises(GanscaleError, match="links in a run folder are not followed"):
        append_line(run / "lines.jsonl", "x")
    assert secret.read_text() == "secret"


def test_writing_atomically_follows_no_planted_link(run: Path, secret: Path) -> None:
    """The temporary name is known: a link under it led to its target's loss."""
    (run / f".report.html.{os.getpid()}").symlink_to(secret)
    write_atomically(run / "report.html", b"new")
    assert secret.read_text() == "secret"
    assert (run / "report.html").read_bytes() == b"new"


def test_outputs_go_to_regular_files(run: Path, secret: Path) -> None:
    null = run / "null"
    null.symlink_to("/dev/null")
    os.mkfifo(run / "fifo")
    for path, kind in ((null, "a device"), (run / "fifo", "a FIFO"), (run / "gallery", "a folder")):
        with pytest.raises(GanscaleError, match=f"is {kind}, not a regular file"):
            write_output(path, b"x")
    assert null.is_symlink()
    assert write_output(run / "new" / "a", b"x").read_bytes() == b"x"
    assert write_output(run / "new" / "a", b"y").read_bytes() == b"y"


def test_a_run_folder_with_a_link_is_refused(run: Path, secret: Path) -> None:
    refuse_links(run)
    for name in (".holder", "metrics.jsonl", "samples"):
        (run / name).symlink_to(secret)
        with pytest.raises(GanscaleError, match=rf"{name} is a link.* set runs=FOLDER"):
            refuse_links(run)
        (run / name).unlink()


def test_text_is_utf_8_whatever_the_system_writes_by_default() -> None:
    """On Windows it would be the country's own."""
    calls = 0
    for path in (Path(__file__).parents[1] / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            if node.func.attr in ("read_text", "write_text"):
                calls += 1
                named = [keyword.arg for keyword in node.keywords]
                assert "encoding" in named, f"{path}:{node.lineno}"
    assert calls > 10
