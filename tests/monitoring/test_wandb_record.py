"""What W&B has of a run with everything on, read back from the file that it keeps."""

import json
import math
import os
import re
from collections import Counter
from pathlib import Path
from runpy import run_path

import pytest
import wandb
import yaml
from PIL import Image

from ganscale.config import Experiment
from ganscale.config.load import load
from ganscale.monitoring.metrics_log import read_metrics
from ganscale.runs.run_folder import RunFolder
from ganscale.training.trainer import train
from tests.conftest import tiny
from tests.monitoring.test_names import everything, refuse_unsortable
from tests.monitoring.wandb_file import Record, of_kind, records
from tests.wandb_cloud import logged_in

STEPS = 2
SECTION = """monitoring.wandb={mode: offline, project: faces, entity: team, group: first,
    tags: [small, quick], notes: hello, job_type: train}"""
COUNTED = ("run", "history", "exit")
"""Kinds of which there are always as many; others depend on time, or on what there is to log."""
PAGE = Path(__file__).parents[2] / "docs" / "wandb.md"


@pytest.fixture(scope="module")
def trained(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    folder = tmp_path_factory.mktemp("recorded")
    more = ("augment.probability={from: 0, to: 1, until: end of run}", f"train.steps={STEPS}")
    experiment = tiny(
        digits,
        folder,
        *everything(digits, folder / "own.py", SECTION, *more, "monitoring.pictures_every=1"),
    )
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("WANDB_")]:
            patch.delenv(name)
        patch.setenv("WANDB_SAVE_CODE", "true")
        patch.setenv("WANDB_DISABLE_GIT", "true")
        wandb.teardown()  # it reads the environment once
        train(experiment)
    wandb.teardown()
    return experiment


@pytest.fixture(scope="module")
def found(trained: Experiment) -> list[Record]:
    return records(trained.folder)


def test_wandb_can_sort_by_every_number_that_a_run_logs(trained: Experiment) -> None:
    names = {name for line in read_metrics(RunFolder.of(trained).metrics) for name in line}
    assert {"penalty_Gr__e", "penalty_weight_r1", "balance_accuracy", "Mitte"} <= names
    assert {"class_entropy", "ema_half_life"} <= names
    refuse_unsortable(names)


def test_the_run_is_described_as_its_section_says(trained: Experiment, found: list[Record]) -> None:
    (run,) = of_kind(found, "run")
    described = ("project", "entity", "run_group", "tags", "notes", "job_type", "display_name")
    values = ("faces", "team", "first", ["small", "quick"], "hello", "train", "tiny")
    assert tuple(run[name] for name in described) == values
    config = run["config"]["update"]
    assert config["generator"] == trained.model_dump(mode="json")["generator"]
    assert config["ganscale_version"]
    assert len(config["ganscale_commit"]) == 40
    (end,) = of_kind(found, "exit")
    assert end.get("exit_code", 0) == 0
    titles = [alert["title"] for alert in of_kind(found, "alert")]
    assert "The generator leaves classes out" in titles


def test_images_are_the_x_axis_and_the_best_score_is_the_summary(found: list[Record]) -> None:
    defined = of_kind(found, "metric")
    (rest,) = [metric for metric in defined if metric.get("glob_name") == "*"]
    assert rest["step_metric"] == "images"
    best = {m["name"]: set(m["summary"]) for m in defined if "summary" in m}
    assert best["fid"] == best["Mitte"] == {"min", "last"}
    assert best["recall"] == {"max", "last"}
    assert all(m["step_metric"] == "images" for m in defined if "summary" in m)
    history = [item["item"] for item in of_kind(found, "history")]
    fids = [item["fid"] for item in history if "fid" in item]
    summary = of_kind(found, "summary")[-1]["update"]
    assert summary["fid"] == {"min": min(fids), "last": fids[-1]}


def test_history_has_every_number_of_the_run_and_its_steps_only_rise(
    trained: Experiment, found: list[Record]
) -> None:
    history = [item["item"] for item in of_kind(found, "history")]
    steps = [item["_step"] for item in history]
    assert steps == [item["step"] for item in history] == sorted(set(steps))
    logged: dict[int, dict[str, float]] = {}
    for line in read_metrics(RunFolder.of(trained).metrics):
        logged.setdefault(line["step"], {}).update(line)
    assert set(logged) <= set(steps)
    for item in history:
        for name, value in logged.get(item["_step"], {}).items():
            assert math.isclose(item[name], value, rel_tol=1e-9), name


def test_pictures_video_and_table(trained: Experiment, found: list[Record]) -> None:
    history = [item["item"] for item in of_kind(found, "history")]
    (kept,) = trained.folder.glob("wandb/*run-*/files")
    assert [item["samples._type"] for item in history] == ["image-file"] * (STEPS + 1)
    assert [item["images"] for item in history] == [8 * step for step in range(STEPS + 1)]
    last = history[-1]
    for name in ("gallery_samples", "gallery_neighbours"):
        assert last[f"{name}._type"] == "image-file"
    for name in ("gallery_interpolation", "gallery_training"):
        assert last[f"{name}._type"] == "video-file"
    with Image.open(kept / last["gallery_training.path"]) as video:
        assert video.n_frames == STEPS + 1  # a frame for each grid of samples
    judged = json.loads((kept / last["judged_samples.path"]).read_text())
    assert judged["columns"] == ["step", "sample", "class", "logit"]
    assert [row[2] for row in judged["data"][:11]] == [*map(str, range(10)), "0"]
    assert all(row[0] == STEPS and isinstance(row[3], float) for row in judged["data"])
    table = of_kind(found, "artifact")[-1]
    assert table["type"] == "run_table"
    files = {file["path"]: file["local_path"] for file in table["manifest"]["contents"]}
    rows = json.loads(Path(files["judged_samples.table.json"]).read_text())["data"]
    assert len(rows) == len(judged["data"]) == 16
    for row in rows:
        with Image.open(files[row[1]["path"]]) as sample:
            assert sample.size == (28, 28)


def test_files_are_the_experiment_and_the_code_that_it_names(
    trained: Experiment, found: list[Record]
) -> None:
    paths = {file["path"] for files in of_kind(found, "files") for file in files["files"]}
    ours = {path for path in paths if not path.startswith("media/")}
    own_code = "code/of_the_experiment/own.py"
    theirs = {"requirements.txt", "diff.patch", "wandb-metadata.json", "config.yaml"}
    assert ours - theirs - {p for p in ours if p.startswith("code/")} == {"experiment.yaml"}
    assert own_code in ours
    (kept,) = trained.folder.glob("wandb/*run-*/files")
    assert load(kept / "experiment.yaml") == trained
    assert (kept / own_code).read_text() == (trained.folder.parents[1] / "own.py").read_text()
    assert "Größe" in yaml.safe_dump(
        yaml.safe_load((kept / "experiment.yaml").read_text()), allow_unicode=True
    )


def test_the_page_names_every_kind_of_record(found: list[Record]) -> None:
    counts = Counter(record["type"] for record in found)
    print("\n".join(f"{kind:12} {count}" for kind, count in sorted(counts.items())))
    rows = [
        line.split("|")[1:3] for line in PAGE.read_text().splitlines() if line.startswith("| `")
    ]
    told = {kind.strip(" `"): count.strip() for kind, count in rows}
    assert set(counts) <= set(told)
    assert {kind: told[kind] for kind in COUNTED} == {kind: str(counts[kind]) for kind in COUNTED}


def test_the_workspace_has_a_panel_for_every_number_of_the_run(found: list[Record]) -> None:
    pytest.importorskip("wandb_workspaces")
    template = run_path(str(PAGE.parents[1] / "configs" / "wandb" / "workspace.py"))
    spec = json.dumps(template["make_workspace"]("e", "p")._to_model().model_dump(by_alias=True))
    assert all(f'"{title}"' in spec for title in template["SECTIONS"])
    named = {n for of in template["SECTIONS"].values() for names in of.values() for n in names}
    assert all(f'"{name}"' in spec for name in (*named, *template["PICTURES"]))
    logged = {name.partition(".")[0] for item in of_kind(found, "history") for name in item["item"]}
    numbers = {name for name in logged if not name.startswith("_")}
    for pattern in template["PATTERNS"].values():
        matched = {name for name in numbers if re.search(pattern, name)}
        assert len(matched) == 5  # four kinds of penalties and one's own
        numbers -= matched
    assert numbers - {"images", "step", "Mitte"} - set(template["PICTURES"]) <= named
    elsewhere = {"mfu", "memory_gib", "loss_scale_generator", "loss_scale_discriminator"}
    elsewhere |= {"beta1_discriminator", "beta2_discriminator"}  # no schedule of this run
    assert named - elsewhere <= numbers


def test_the_workspace_is_sent_to_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb_workspaces")
    template = run_path(str(PAGE.parents[1] / "configs" / "wandb" / "workspace.py"))
    with logged_in(monkeypatch) as cloud:
        url = template["make_workspace"]("e", "p").save().url
    (view,) = cloud.views
    assert (view["entityName"], view["projectName"], view["displayName"]) == ("e", "p", "GAN")
    sections = json.loads(view["spec"])["section"]["panelBankConfig"]["sections"]
    assert [section["name"] for section in sections] == list(template["SECTIONS"])
    assert "/e/p" in url
