"""What a user types, right and wrong."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ganscale.cli import main
from ganscale.config.load import to_yaml
from ganscale.errors import GanscaleError
from ganscale.monitoring import progress
from ganscale.runs import checkpoint
from ganscale.runs.run_folder import RunFolder
from ganscale.training.trainer import train
from tests.conftest import tiny
from tests.system.forked import forked
from tests.system.processes import ROOT, environment, launched, run

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def finished(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that is done."""
    experiment = tiny(digits, tmp_path_factory.mktemp("finished"), "checkpoint.every=5")
    train(experiment)
    return RunFolder.of(experiment).path


def test_samples_are_seeded_and_come_from_any_checkpoint(finished: Path, tmp_path: Path) -> None:
    def sample(name: str, *more: str) -> np.ndarray:
        out = tmp_path / name
        assert main(["sample", str(finished), "--num", "20", "--out", str(out), *more]) == 0
        images: np.ndarray = np.load(out)["images"]
        return images

    first = sample("a.npz")
    assert first.shape == (20, 28, 28, 1)
    assert first.dtype == np.uint8
    assert np.array_equal(first, sample("b.npz", "--checkpoint", "step-00000010"))
    assert not np.array_equal(first, sample("c.npz", "--seed", "1"))
    assert not np.array_equal(first, sample("d.npz", "--checkpoint", "5"))
    assert not np.array_equal(first, sample("e.npz", "--weights", "generator"))


def test_grid_and_interpolations(finished: Path, tmp_path: Path) -> None:
    files = {kind: tmp_path / kind for kind in ("grid.png", "strip.png", "loop.gif")}
    main(["sample", str(finished), "--grid", str(files["grid.png"]), "--num", "9"])
    main(["sample", str(finished), "--interpolate", str(files["strip.png"])])
    main(["sample", str(finished), "--interpolate", str(files["loop.gif"])])
    assert Image.open(files["grid.png"]).size == (4 * (3 * 29 + 1), 4 * (3 * 29 + 1))
    assert Image.open(files["strip.png"]).size == (2 * (12 * 29 + 1), 2 * (6 * 29 + 1))
    loop = Image.open(files["loop.gif"])
    assert loop.n_frames > 40
    assert loop.size == (4 * (3 * 29 + 1), 4 * (2 * 29 + 1))


def test_a_grid_beside_many_samples_shows_the_first_64(finished: Path, tmp_path: Path) -> None:
    grids = [tmp_path / name for name in ("beside.png", "few.png", "alone.png")]
    out = ["--out", str(tmp_path / "a.npz")]
    for number, more, path in zip(("100", "9", "100"), (out, out, []), grids, strict=True):
        line = ["sample", str(finished), "--num", number, *more, "--grid", str(path)]
        assert main(line) == 0
    assert len(np.load(tmp_path / "a.npz")["images"]) == 9
    sides = [4 * (8 * 29 + 1), 4 * (3 * 29 + 1), 3 * (10 * 29 + 1)]
    assert [Image.open(path).width for path in grids] == sides


def test_a_finished_run_says_so_before_anything_heavy_is_imported(
    digits: Path, finished: Path, tmp_path: Path
) -> None:
    file = tmp_path / "experiment.yaml"
    file.write_text((finished / "experiment.yaml").read_text())
    check = (
        "import sys; from ganscale.cli import main\n"
        f"code = main(['train', {str(file)!r}])\n"
        "heavy = {'accelerate', 'torchvision', 'wandb', 'matplotlib', 'PIL'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else code)"
    )
    done = run([sys.executable, "-c", check], tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"{finished} is already finished: 10 steps" in done.stdout
    assert "raise train.steps" in done.stdout


def _ctrl_c_when(condition: Callable[[], bool]) -> threading.Thread:
    """Press Ctrl-C, as the terminal does, once this holds."""

    def wait() -> None:
        while not condition():
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def test_ctrl_c_saves_and_says_how_to_resume(
    digits: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    experiment = tiny(digits, tmp_path, "train.steps=1000000")
    file = tmp_path / "experiment.yaml"
    file.write_text(to_yaml(experiment))
    metrics = experiment.folder / "metrics.jsonl"
    _ctrl_c_when(lambda: metrics.is_file() and metrics.stat().st_size > 0)
    assert main(["train", str(file)]) == 128 + signal.SIGINT
    said = capfd.readouterr().err
    assert "as soon as this step is done; Ctrl-C again ends at once" in said
    step = checkpoint.read_state(
        checkpoint.list_finished(experiment.folder / "checkpoints")[-1]
    ).step
    assert f"stopped by Ctrl-C after step {step:,}: training tiny again resumes there" in said


def test_ctrl_c_before_training_says_how_to_go_on(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    # A shell without job control has its background processes ignore Ctrl-C, these tests too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    pipe = tmp_path / "experiment.yaml"
    os.mkfifo(pipe)  # opening it waits
    started = time.monotonic()
    _ctrl_c_when(lambda: time.monotonic() - started > 1)
    assert main(["train", str(pipe)]) == 130
    assert capfd.readouterr().err == (
        "ganscale: interrupted: the same command resumes from the last checkpoint\n"
    )


def test_evaluate_and_report(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(finished), "--num", "200"]) == 0
    assert "FID" in capsys.readouterr().out
    (finished / "report.html").unlink()
    assert main(["report", str(finished)]) == 0
    assert (finished / "report.html").is_file()


PHASES = {
    "sample": (
        "sample {run} --num 600 --out {folder}/a.npz --interpolate {folder}/a.gif",
        [
            "generating samples: 500 of 600",
            "compressing 600 samples",
            "interpolating between latents: 1 of 48",
        ],
        ["{folder}/a.npz", "{folder}/a.gif"],
    ),
    "export": (
        "export {run} --format onnx --out {folder}/exported",
        ["writing the generator of step-00000010 as onnx", "generating samples: 64 of 64"],
        ["{folder}/exported/generator.onnx"],
    ),
    "evaluate": (
        "evaluate {run} --num 200",
        [
            "scoring generated images: 200 of 200",
            "computing metrics: 1 of ",
            "drawing the gallery of step-",
            "writing {run}/report.html",
        ],
        ["{run}/checkpoints/step-00000010: FID "],
    ),
}


@pytest.mark.parametrize("command", PHASES)
def test_a_long_command_names_its_phases_and_prints_its_results_alone(
    finished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
) -> None:
    monkeypatch.setattr(progress, "LOG_EVERY_S", 0)
    line, phases, results = PHASES[command]
    places = {"run": finished, "folder": tmp_path}
    assert main(line.format(**places).split()) == 0
    shown = capsys.readouterr()
    for phase in phases:
        assert f" {phase.format(**places)}" in shown.err
    for printed, result in zip(shown.out.splitlines(), results, strict=True):
        assert printed.startswith(result.format(**places))


ENGINES = {"accelerate", "deepspeed", "torch.distributed.fsdp"}
COMPILER = {"torch._dynamo", "torch._inductor", "sympy", "torch.distributed.tensor"}
UNUSED = {"torchvision", "torchmetrics", "wandb", "pandas", "sklearn", "scipy", "transformers"}
UNUSED |= {"matplotlib"}
BOARD = {"tensorboard", "torch.utils.tensorboard", "fsspec"}
ELSEWHERE = {"webdataset", "rich"}  # for shards far away, as is fsspec, and for a terminal
IMPORTING = """
import sys
from ganscale.cli import main
for line in sys.argv[2:]:
    assert main(line.split()) == 0, line
    print("imported:", *sorted({*sys.argv[1].split()} & {*sys.modules}))
"""


def test_a_command_imports_what_it_uses_alone(digits: Path, finished: Path, tmp_path: Path) -> None:
    """Each of these imports costs a start, on every rank, tenths of a second to seconds."""
    file = tmp_path / "experiment.yaml"
    file.write_text(to_yaml(tiny(digits, tmp_path, "monitoring.trackers=[tensorboard]")))
    watched = ENGINES | COMPILER | UNUSED | BOARD | ELSEWHERE
    lines = {
        f"config {file}": set(),
        f"inspect {digits}": set(),
        f"sample {finished} --out a.npz --grid a.png --interpolate a.gif --num 4": set(),
        f"export {finished} --out exported": set(),
        f"evaluate {finished} --num 100": set(),  # W&B is disabled
        f"report {finished}": set(),
        f"train {file}": BOARD | {"accelerate"},
    }
    done = run([sys.executable, "-c", IMPORTING, " ".join(watched), *lines], tmp_path)
    found = [line for line in done.stdout.splitlines() if line.startswith("imported:")]
    for (line, allowed), imported in zip(lines.items(), found, strict=True):
        assert {*imported.split()[1:]} <= allowed, line


WRONG = {
    "unknown key": (["train", "{file}", "train.stepz=4"], "did you mean train.steps"),
    "wrong type": (["train", "{file}", "train.steps=many"], "train.steps='many'"),
    "no file": (["train", "nowhere.yaml"], "nowhere.yaml: no such experiment file"),
    "no set": (["train", "{file}", "data.path=empty"], "no image files"),
    "not divisible": (["train", "{file}", "train.accumulation=3"], "train.accumulation=3"),
    "BatchNorm here": (["train", "{file}", "train.sync_batch_norm=true"], "needs GPUs"),
    "no source": (["pack", "nowhere", "out"], "no such source"),
    "no images": (["pack", "empty", "out"], "no image files"),
    "unreadable image": (["pack", "broken", "out"], "broken: 'x.png' is not a readable image"),
    "no MNIST": (["pack", "mnist", "out", "--data-root", "empty"], "--download"),
    "no run": (["sample", "empty", "--grid", "g.png"], "not a run folder"),
    "unknown checkpoint": (
        ["sample", "{run}", "--checkpoint", "77", "--grid", "g.png"],
        "checkpoint '77' is not there",
    ),
    "nothing to write": (["sample", "{run}"], "--grid"),
    "unknown picture": (["sample", "{run}", "--interpolate", "a.bmp"], ".png or .gif"),
    "evaluate nothing": (["evaluate", "empty"], "not a run folder"),
    "evaluate too few": (["evaluate", "{run}", "--num", "1"], "evaluation.samples=1: input should"),
}


@pytest.mark.parametrize("name", WRONG)
def test_bad_input_gets_one_message_and_an_exit_code(
    finished: Path,
    digits: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "x.png").write_bytes(b"no picture")
    file = tmp_path / "experiment.yaml"
    file.write_text(to_yaml(tiny(digits, tmp_path)))
    arguments, message = WRONG[name]
    before = sorted(p.name for p in finished.rglob("*"))
    code = main([a.format(file=file, run=finished) for a in arguments])
    errors = capsys.readouterr().err
    assert code == 1
    assert message in errors
    assert errors.count("ganscale: error:") == 1
    assert sorted(p.name for p in finished.rglob("*")) == before


def test_doctor_finds_nothing_wrong_here(tmp_path: Path) -> None:
    done = run([sys.executable, "-m", "ganscale", "doctor"], tmp_path)
    assert done.returncode == 0
    assert "torchvision matches torch" in done.stdout
    assert "wandb sync RUN/wandb/offline-run-*" in done.stdout


@pytest.fixture
def small_disk(tmp_path: Path):  # type: ignore[no-untyped-def]
    """A file system of three megabytes."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "none", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("mounting a small file system needs root")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_leaves_the_older_checkpoints(digits: Path, small_disk: Path) -> None:
    more = ("checkpoint.every=1", "checkpoint.keep=100", "train.steps=60")
    experiment = tiny(digits, small_disk, *more)
    with pytest.raises(GanscaleError, match=r"could not be written .*older ones are intact"):
        train(experiment)
    folder = RunFolder.of(experiment).checkpoints
    kept = checkpoint.list_finished(folder)
    assert len(kept) > 1
    assert all(map(checkpoint.is_intact, kept))
    assert not list(folder.glob(".partial*"))
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    assert train(experiment) == 0
    assert checkpoint.list_finished(folder)[-1].name == "step-00000060"


def test_the_quickstart_from_a_fresh_clone(tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
    for name in ("launch", "configs", "src", "pyproject.toml", "constraints.txt", "README.md"):
        source = ROOT / name  # as they are in the working tree
        if source.is_dir():
            shutil.copytree(source, clone / name, dirs_exist_ok=True)
        else:
            shutil.copy(source, clone / name)
    # Installing is what CI's first step has tested; into an environment that is not up to date the
    # script would install the clone.
    wanted = subprocess.run(
        "cat pyproject.toml constraints.txt | cksum", shell=True, cwd=ROOT, capture_output=True
    )
    stamp = ROOT / ".venv" / "installed"
    if stamp.is_file() and stamp.read_bytes() == wanted.stdout:
        (clone / ".venv").symlink_to(ROOT / ".venv")
    line = ["./launch/quickstart.sh", "--steps", "60"]
    (clone / "data").mkdir()
    digits = ["python", "-m", "ganscale", "pack", "digits", "data/digits", "--size", "28"]
    subprocess.run([sys.executable, *digits[1:]], cwd=clone, env=environment(), check=True)
    done = run(line, clone, HOME=str(tmp_path), GANSCALE_DATA="")
    assert done.returncode == 0
    assert "FID" in done.stdout
    folder = clone / "runs" / "quickstart-digits-1"
    for name in ("grid.png", "report.html", "checkpoints/step-00000060", "wandb"):
        assert (folder / name).exists(), name
        assert f"{folder.relative_to(clone)}" in done.stdout


@pytest.mark.parametrize(
    ("config", "overrides", "message"),
    [
        (
            {"zero_optimization": {"stage": 3}},
            ["objective.penalties=[{kind: r1, weight: 1}]"],
            "ZeRO stage 3 cannot differentiate twice .* objective.penalties .r1. needs",
        ),
        (
            {"zero_optimization": {"stage": 1}, "gradient_clipping": 1},
            [],
            "sets gradient_clipping, which follows from generator.clip_norm",
        ),
        ({"zero_optimization": {"stage": 4}}, [], "zero_optimization.stage=4 must be 0, 1, 2 or 3"),
    ],
)
def test_a_deepspeed_file_that_does_not_fit_says_so_once(
    digits: Path, tmp_path: Path, config: dict[str, object], overrides: list[str], message: str
) -> None:
    """Under a real launcher, and where ranks begin at once."""
    path, file = tmp_path / "tiny.yaml", tmp_path / "deepspeed.json"
    path.write_text(to_yaml(tiny(digits, tmp_path)))
    file.write_text(json.dumps(config))
    line = ("train", str(path), *overrides)
    more: dict[str, Any] = {"engine": "deepspeed", "launcher": (f"--deepspeed_config_file={file}",)}
    if config["zero_optimization"] == {"stage": 3}:
        done = run(launched(2, *line, **more), ROOT)
    else:
        done = forked(2, *line, folder=ROOT, **more)
    assert done.returncode != 0
    assert len(re.findall(message, done.stderr)) == 1
    assert "ganscale/cli.py" not in done.stderr
