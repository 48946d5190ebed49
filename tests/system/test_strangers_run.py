"""A run folder that someone else has filled runs no code, reads nothing here, writes nothing here.

Each test begins with a sound run of one's own and does to it what a stranger could have done.
"""

import hashlib
import io
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from ganscale.cli import main
from ganscale.runs import checkpoint
from tests.conftest import tiny

NETWORK = """\
from pathlib import Path
from torch import nn

Path(__file__).with_name("executed").touch()


class Generator(nn.Module):
    def __init__(self, latent_dim, image_shape):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(latent_dim, 784), nn.Tanh())

    def forward(self, latents):
        return self.layers(latents).view(-1, 1, 28, 28)
"""
SECRET = "root:x:0:0"


@pytest.fixture(scope="module")
def trained(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `net.py`, and a run that was trained with it there."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "net.py").write_text(NETWORK)
    train_in(folder, digits, {"architecture": "net.py:Generator"})
    (folder / "executed").unlink()
    return folder


@pytest.fixture(scope="module")
def without_code(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run whose networks are ganscale's own."""
    folder = tmp_path_factory.mktemp("without")
    (folder / "secret").write_text(SECRET)
    train_in(folder, digits, {"architecture": "mlp", "hidden": [16]})
    return folder


def train_in(folder: Path, digits: Path, generator: dict[str, Any]) -> None:
    values = tiny(digits, folder, "train.steps=2", "runs=runs").model_dump(mode="json")
    values["generator"]["network"] = generator
    (folder / "tiny.yaml").write_text(yaml.safe_dump(values))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["train", "tiny.yaml"]) == 0


@pytest.fixture
def downloaded(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, unpacked in another folder, which is the current one."""
    folder = tmp_path / "downloaded"
    shutil.copytree(trained, folder, ignore=shutil.ignore_patterns("executed"))
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def run(without_code: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run without network code, in the current folder."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(without_code, tmp_path, dirs_exist_ok=True)
    return tmp_path / "runs" / "tiny"


def change(run: Path, **values: Any) -> None:
    path = run / "experiment.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | values))


def replace(path: Path, name: str, content: bytes) -> None:
    """Another content of a checkpoint's file, with the checksum that belongs to it."""
    (path / name).write_bytes(content)
    sums = (path / "SHA256SUMS").read_text().splitlines()
    kept = [line for line in sums if not line.endswith(f"  {name}")]
    kept.append(f"{hashlib.sha256(content).hexdigest()}  {name}")
    (path / "SHA256SUMS").write_text("\n".join(kept) + "\n")


def test_code_of_ones_own_run_needs_no_flag(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(trained)
    assert main(["sample", "runs/tiny", "--grid", str(tmp_path / "grid.png")]) == 0


@pytest.mark.parametrize(
    "line", ["sample {} --grid grid.png", "evaluate {} --num 20", "export {} --out out"]
)
def test_code_of_a_downloaded_run_needs_trust(
    downloaded: Path, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = line.format("runs/tiny").split()
    assert main(arguments) == 1
    said = capsys.readouterr().err
    assert "net.py:Generator" in said
    assert "--trust-code" in said
    assert not (downloaded / "executed").exists()
    assert main([*arguments, "--trust-code"]) == 0
    assert (downloaded / "executed").exists()


@pytest.mark.parametrize(
    "named",
    [
        {"objective": {"loss": "net.py:Loss"}},
        {"evaluation": {"metrics": ["net.py:Metric"], "best": "net.py:Metric"}},
        {"data": {"reader": "net.py:Reader"}},
    ],
)
def test_no_other_code_of_a_downloaded_run_runs_either(
    run: Path, tmp_path: Path, named: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "net.py").write_text(NETWORK)
    change(run, **named)
    for line in ("sample runs/tiny --grid grid.png", "evaluate runs/tiny", "export runs/tiny"):
        assert main(line.split()) == 1
        assert "--trust-code" in capsys.readouterr().err
    assert main(["report", "runs/tiny"]) == 0
    assert not (tmp_path / "executed").exists()


def test_a_report_runs_no_code(downloaded: Path) -> None:
    assert main(["report", "runs/tiny"]) == 0
    assert not (downloaded / "executed").exists()


def test_ones_own_run_does_not_run_another_folders_code(
    trained: Path, downloaded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`net.py` is named as seen from the current folder, which may be a stranger's."""
    assert main(["sample", str(trained / "runs" / "tiny"), "--grid", "grid.png"]) == 1
    assert "--trust-code" in capsys.readouterr().err
    assert not (downloaded / "executed").exists()


@pytest.mark.parametrize("command", ["report", "export"])
@pytest.mark.parametrize("value", ["${oc.env:AWS_SECRET}", "${oc.${x}:AWS_SECRET}", "${seed}"])
def test_a_strangers_run_does_not_read_the_environment(
    run: Path,
    command: str,
    value: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("AWS_SECRET", "abracadabra")
    (run / "report.html").unlink()
    change(run, data={"path": value})
    assert main([command, str(run)]) == 1
    assert f"data.path is '{value}'" in capsys.readouterr().err
    assert not any(b"abracadabra" in p.read_bytes() for p in run.rglob("*") if p.is_file())


BOMB = "&a [x, x, x, x]\n" + "".join(
    f"k{i}: &{b} [{', '.join([f'*{a}'] * 9)}]\n"
    for i, (a, b) in enumerate(zip("abcdefgh", "bcdefghi", strict=True))
)


def with_option(value: str) -> str:
    return f"generator: {{network: {{architecture: 'net.py:G', options: {{a: {value}}}}}}}\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("base: ../../tiny.yaml\n", "base"),
        ("name: " + "[" * 300, "levels"),
        ("k: " + BOMB, "aliases"),
        ("seed: !!python/object/apply:os.getcwd []\n", "not valid YAML"),
        ("seed: !!bool x\n", "not valid YAML"),
        ("- 1\n", "key: value"),
        (with_option("2020-01-01"), "generator.network.options.a has type date"),
        (with_option("2020-01-01 10:00:00"), "has type datetime"),
        (with_option("!!binary AAEC"), "has type bytes"),
        (with_option("!!set {x}"), "has type set"),
        (with_option("!!omap [x: 2]"), "has type tuple"),
        (with_option("[{x: [!!binary AA==]}]"), "options.a.0.x.0 has type bytes"),
        (with_option("{2020-01-01: 1}"), "options.a has the key datetime.date(2020, 1, 1)"),
        ("1: 2\n", "has the key 1"),
        (with_option("0x" + "f" * 5000), "more than 64 bits"),
        (with_option(r'"\ud800"'), "invalid Unicode character"),
        (r'name: "\ud800"', "invalid Unicode character"),
        (with_option(r'{"\ud800": 1}'), "invalid Unicode character"),
        ("\0", "not valid YAML"),
    ],
)
def test_a_strangers_experiment_gets_one_message(
    run: Path, content: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / "experiment.yaml").write_text(content)
    assert main(["report", str(run)]) == 1
    said = capsys.readouterr().err
    assert said.count("ganscale: error:") == 1
    assert message in said


@pytest.mark.parametrize("name", ["gallery/samples.png", "samples/step-00000002.png"])
def test_a_report_embeds_files_of_the_run_only(
    run: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / "report.html").unlink()
    (run / name).unlink()
    (run / name).symlink_to(tmp_path / "secret")
    assert main(["report", str(run)]) == 1
    assert "not followed" in capsys.readouterr().err
    assert not (run / "report.html").exists()


@pytest.mark.parametrize("name", [".holder", "metrics.jsonl", "evaluations.jsonl", "samples"])
@pytest.mark.parametrize("command", ["train tiny.yaml train.steps=3", "evaluate runs/tiny"])
def test_nothing_is_written_through_a_planted_link(
    run: Path, tmp_path: Path, name: str, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if (run / name).is_dir():
        shutil.rmtree(run / name)
    (run / name).unlink(missing_ok=True)
    (run / name).symlink_to(tmp_path / "secret")
    before = sorted(tmp_path.iterdir())
    assert main(command.split()) == 1
    assert f"{name} is a link" in capsys.readouterr().err
    assert (tmp_path / "secret").read_text() == SECRET
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("line", ["sample runs/tiny --grid grid.png", "export runs/tiny --out out"])
def test_no_checkpoints_are_read_through_a_planted_link(
    run: Path, tmp_path: Path, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / "checkpoints").rename(tmp_path / "elsewhere")
    (run / "checkpoints").symlink_to(tmp_path / "elsewhere")
    assert main(line.split()) == 1
    assert "checkpoints is a link" in capsys.readouterr().err
    assert not (tmp_path / "grid.png").exists()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("out", ["", "--out runs/tiny/exports/safetensors", "--out {absolute}"])
def test_no_export_goes_through_a_planted_link(
    run: Path, tmp_path: Path, out: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / "exports").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (run / "exports" / "safetensors").symlink_to(tmp_path / "elsewhere")
    more = out.format(absolute=run / "exports" / "safetensors").split()
    assert main(["export", "runs/tiny", *more]) == 1
    assert "safetensors is a link" in capsys.readouterr().err
    assert not list((tmp_path / "elsewhere").iterdir())


def test_an_evaluation_of_a_strangers_run_tells_wandb_nothing(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its state could name any W&B run of the user's account."""
    path = run / "checkpoints" / "step-00000002"
    state = json.loads((path / "state.json").read_text())
    replace(path, "state.json", json.dumps(state | {"wandb_id": "anothers"}).encode())
    change(run, monitoring={"wandb": "offline"})
    assert main(["evaluate", "runs/tiny", "--num", "20"]) == 0
    assert not (run / "wandb").exists()
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "W&B" in line]
    assert "no record that your account trained this" in line


def test_junk_in_the_lists_of_numbers_is_left_out_of_the_report(run: Path) -> None:
    step = {"step": 3, "images": 24}
    measured = [{"loss_generator": v} for v in ("x", [1], None, 10**400, True, 1e308)]
    lines = [json.dumps(step | line) for line in measured]
    lines += ['{"step": "x", "images": 1}', '{"step": 1}', "3", "[" * 10_000, '{"step": 1, "im']
    with (run / "metrics.jsonl").open("a") as file:
        file.write("\n".join(lines))
    whole = {"step": 2, "values": {"fid": 3.0}, "features": "f", "samples": 9}
    whole |= {"real_samples": 9, "real_set": "s", "perfect_fid": 0.1}
    names = ("kid", "inception_score", "precision", "recall", "density", "coverage")
    whole["values"] |= dict.fromkeys(names, 0.5)  # type: ignore[operator]
    odd = [
        {"values": 3},
        {"samples": "9"},
        {"features": None},
        {"perfect_fid": "x"},
        {"step": None},
    ]
    odd += [{"values": {"fid": "x"}}, {"values": {"fid": 10**400}}, {"values": {}}]
    text = "\n".join(json.dumps(whole | changed) for changed in odd)
    text += f"\n{json.dumps(whole | {'real_set': chr(0xD800) + chr(27)})}\n"
    (run / "evaluations.jsonl").write_text(text + '{"step": 9, "val')
    assert main(["report", str(run)]) == 0
    page = (run / "report.html").read_text()
    assert "step 2: FID 3" in page
    assert "real images of \\ud800\\x1b" in page
    assert main(["export", str(run)]) == 0
    assert "FID 3" in (run / "exports" / "safetensors" / "README.md").read_text()
    assert main(["train", "tiny.yaml", "train.steps=3"]) == 0


def test_a_card_holds_no_html_of_a_strangers(run: Path, tmp_path: Path) -> None:
    change(run, data={"path": "`<img src=x onerror=alert(1)>`\n\n<script>[a](javascript:b)"})
    assert main(["export", str(run), "--out", "out"]) == 0
    card = (tmp_path / "out" / "README.md").read_text()
    assert "<" not in card.replace("<!--", "")
    assert "\\`&lt;img src=x onerror=alert(1)&gt;\\`" in card
    assert "[a](" not in card.replace("\\[a\\](", "")


def saved(content: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


TRAINING = {
    "no archive": b"junk",
    "a list": saved([]),
    "nothing in it": saved({}),
    "other kinds": saved({"generator": 3, "discriminator": "x", "augmentation": [], "rates": 1}),
}


@pytest.mark.parametrize("name", TRAINING)
def test_valid_sums_with_a_bad_training_state_get_a_message(
    run: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    replace(run / "checkpoints" / "step-00000002", "training.pt", TRAINING[name])
    assert main(["train", "tiny.yaml", "train.steps=3"]) == 1
    said = capsys.readouterr().err
    assert "its checksums match, but its content does not fit" in said
    assert said.count("ganscale: error:") == 1


@pytest.mark.parametrize("name", ["ema.safetensors", "state.json"])
def test_valid_sums_with_bad_content_get_a_message(
    run: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = run / "checkpoints" / "step-00000002"
    replace(path, name, b'{"a": 1}')
    assert main(["export", str(run), "--out", "out"]) == 1
    assert name in capsys.readouterr().err
    if name == "ema.safetensors":
        other = run.parent / "other"
        checkpoint.write(
            other,
            checkpoint.State(step=2, images=0, data_fingerprint=""),
            {part: {"w": torch.ones(2)} for part in checkpoint.PARTS},
            {},
        )
        replace(path, name, (other / path.name / name).read_bytes())
        assert main(["sample", str(run), "--grid", "grid.png"]) == 1
        assert "does not fit this experiment" in capsys.readouterr().err
        assert not Path("grid.png").exists()


@pytest.mark.parametrize("steps", [3, 4])
def test_a_run_whose_newest_state_is_bad_goes_on_from_the_one_before(
    run: Path, steps: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Though its checksums match; and at the first start, not at the second."""
    assert main(["train", "tiny.yaml", "train.steps=3"]) == 0
    replace(run / "checkpoints" / "step-00000003", "state.json", b'{"step": 3}')
    capsys.readouterr()
    assert main(["train", "tiny.yaml", f"train.steps={steps}"]) == 0
    said = capsys.readouterr().err
    assert "set aside as broken-step-00000003" in said
    assert "resuming from runs/tiny/checkpoints/step-00000002" in said


def test_a_fifo_for_an_experiment_is_not_waited_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo(tmp_path / "experiment.yaml")
    assert main(["report", str(tmp_path)]) == 1
    assert "is a FIFO" in capsys.readouterr().err
