"""Every command on a disk that is full or may not be written: one message, no traceback."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from ganscale.cli import main
from tests.conftest import tiny
from tests.system.processes import ROOT, command, environment

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def trained(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run."""
    from ganscale.training.trainer import train

    experiment = tiny(digits, tmp_path_factory.mktemp("trained"), "train.steps=2")
    train(experiment)
    return experiment.folder


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A file system of 8 MiB."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    folder = tmp_path_factory.mktemp("disk")
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "none", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("this system lets nobody mount")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def remount(disk: Path, option: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{option}", str(disk)], check=True)


def fill(path: Path) -> None:
    """Write until nothing is left."""
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass


@pytest.fixture
def full(disk: Path, trained: Path) -> Iterator[Path]:
    """The disk with a copy of the run and nothing left."""
    shutil.copytree(trained, disk / "run")
    fill(disk / "filler")
    yield disk
    shutil.rmtree(disk / "run")
    for path in disk.iterdir():
        path.unlink() if path.is_file() else shutil.rmtree(path)


@pytest.fixture
def read_only(disk: Path, trained: Path) -> Iterator[Path]:
    """The disk with a copy of the run, mounted anew for reading."""
    shutil.copytree(trained, disk / "run")
    remount(disk, "ro")
    yield disk
    remount(disk, "rw")
    shutil.rmtree(disk / "run")


WRITING = {
    "init": "init {disk}/project",
    "pack": "pack digits {disk}/set --size 28 --processes 1",
    "index": "index {digits} --out {disk}/indexed",
    "sheet": "inspect {digits} --sheet {disk}/sheet.png",
    "sample --out": "sample {run} --num 20 --out {disk}/images.npz",
    "sample --seeds": "sample {run} --seeds 0-9 --out {disk}/images",
    "project": "project {run} {run}/gallery/samples.png --steps 1 --out {disk}/projected.png",
    "sample --grid": "sample {run} --grid {disk}/grid.png",
    "sample --interpolate": "sample {run} --interpolate {disk}/loop.gif",
    "export": "export {run} --out {disk}/exported",
    "export as onnx": "export {run} --out {disk}/exported --format onnx",
    "report": "report {disk}/run",
    "train": "train {run}/experiment.yaml name=new runs={disk}/runs",
}
TOUCHING = {
    "stop": "stop {disk}/run",
    "save": "save {disk}/run",
    "train on": "train {run}/experiment.yaml name=run runs={disk} train.steps=3",
}


def refused(line: str, capsys: pytest.CaptureFixture[str], **places: Path) -> str:
    capsys.readouterr()
    assert main(line.format(**places).split()) == 1
    said: str = capsys.readouterr().err
    assert said.count("ganscale: error:") == 1
    assert "Traceback" not in said
    return said


@pytest.mark.parametrize("name", WRITING)
def test_a_full_disk_is_one_message(
    full: Path, trained: Path, digits: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refused(WRITING[name], capsys, disk=full, run=trained, digits=digits)
    assert "No space left" in said or "could not be written" in said
    assert not (full / "exported" / "README.md").exists()


def test_a_full_disk_does_not_abort_an_export(full: Path, trained: Path) -> None:
    """torch's own writer ends the process with SIGABRT."""
    line = command("export", str(trained), "--format", "torch.export", "--out", f"{full}/exported")
    done = subprocess.run(
        line, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 1, done.stderr
    assert "No space left" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", [*WRITING, *TOUCHING])
def test_a_read_only_disk_is_one_message(
    read_only: Path, trained: Path, digits: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    line = (WRITING | TOUCHING)[name]
    said = refused(line, capsys, disk=read_only, run=trained, digits=digits)
    assert "Read-only file system" in said


@pytest.mark.parametrize(
    "line",
    [
        "sample {run} --grid /dev/full",
        "sample {run} --num 9 --out /dev/full",
        "sample {run} --interpolate {run}",
        "inspect {digits} --sheet /dev/full",
    ],
)
def test_no_output_replaces_a_device_or_a_folder(
    trained: Path, digits: Path, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    device = Path("/dev/full").stat()
    assert "not a regular file" in refused(line, capsys, run=trained, digits=digits)
    assert Path("/dev/full").stat().st_ino == device.st_ino
    assert not list(Path("/dev").glob(".full*"))


def test_over_long_paths_are_one_message(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    long = Path("x" * 300)
    for line in ("report {long}", "sample {run} --grid {long}", "train {long}", "pack {long} o"):
        assert "File name too long" in refused(line, capsys, run=trained, long=long)
