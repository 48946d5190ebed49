"""Everything that docs/extending.md shows, run as it stands there."""

import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from ganscale.cli import main
from ganscale.config.registered import registry_at
from ganscale.data.shards.manifest import load_manifest
from ganscale.evaluation.scores import read_evaluations
from ganscale.monitoring.metrics_log import read_metrics
from ganscale.runs.run_folder import RunFolder
from tests.conftest import tiny

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "extending.md"
TITLE = re.compile(r"^## (.*)$", re.MULTILINE)
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ROW = re.compile(r"^\| (.*?) \|.*`@(\w+)\.register\(.*?`(ganscale\.\w+)` \|$", re.MULTILINE)
REGISTRIES = {
    "LOSSES": "ganscale.gan.losses",
    "PENALTIES": "ganscale.gan.penalties",
    "TRANSFORMS": "ganscale.gan.augment",
    "GENERATORS": "ganscale.networks.registry",
    "DISCRIMINATORS": "ganscale.networks.registry",
    "METRICS": "ganscale.evaluation.metrics.metric",
    "FEATURES": "ganscale.evaluation.features.network",
    "READERS": "ganscale.data.reading.readers",
    "SOURCES": "ganscale.data.packing.named_sources",
}


def sections() -> dict[str, dict[str, str]]:
    """The code blocks of each section that has some, by their language."""
    _, *parts = TITLE.split(PAGE.read_text())
    named = dict(zip(parts[::2], parts[1::2], strict=True))
    blocks = {title: dict(BLOCK.findall(text)) for title, text in named.items()}
    return {title: found for title, found in blocks.items() if found}


SECTIONS = sections()
OF_EXPERIMENTS = [title for title, blocks in SECTIONS.items() if "yaml" in blocks]


@pytest.fixture
def folder(digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a tiny experiment that is evaluated after two steps."""
    more = ("train.steps=2", "runs=runs", "evaluation.every=2", "evaluation.samples=40")
    values = tiny(digits, tmp_path, *more).model_dump(mode="json")
    del values["discriminator"]["network"]
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(values))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_file(folder: Path, code: str) -> None:
    """Write a block into the file that its first line names."""
    first, _, _ = code.partition("\n")
    path = folder / first.removeprefix("# ")
    path.parent.mkdir(exist_ok=True)
    path.write_text(code)


def trained(folder: Path, changes: str) -> RunFolder:
    """Train the tiny experiment with what a block gives differently."""
    (folder / "mine.yaml").write_text(f"base: tiny.yaml\n{changes}")
    assert main(["train", "mine.yaml"]) == 0
    return RunFolder(folder / "runs" / "tiny")


def last_numbers(run: RunFolder) -> dict[str, Any]:
    return {key: v for line in read_metrics(run.metrics) for key, v in line.items()}


@pytest.mark.parametrize("title", OF_EXPERIMENTS)
def test_an_experiment_with_the_readers_own_code(
    folder: Path, title: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = SECTIONS[title]
    write_file(folder, blocks["python"])
    if "toml" in blocks:
        offer(folder, blocks["toml"], monkeypatch)
    run = trained(folder, blocks["yaml"])
    recorded = run.experiment().model_dump(mode="json")
    (section,) = yaml.safe_load(blocks["yaml"]).items()
    for key, value in section[1].items():
        assert value == recorded[section[0]][key] or key in ("network", "penalties")
    assert main(["evaluate", "runs/tiny"]) == 0
    if title == "A penalty" or "toml" in blocks:
        assert any(key.startswith("penalty_one") for key in map(str.lower, last_numbers(run)))
    if title == "A metric":
        for line in read_evaluations(run.evaluations):
            assert line["values"]["MeanDistance"] > 0
            assert line["lower_is_better"]["MeanDistance"] is True
        assert "best MeanDistance" in run.report.read_text()
    if title == "A feature network":
        (features,) = {line["features"] for line in read_evaluations(run.evaluations)}
        assert features == "CoarsePixels features"


def offer(folder: Path, project: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install the package in `folder` that a pyproject.toml describes, for this test."""
    information = folder / "my_package-1.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Name: my_package\nVersion: 1\n")
    found = re.fullmatch(r'\[project.entry-points."(.*)"\]\n(\w+) = "(.*)"\n', project)
    assert found is not None
    group, name, value = found.groups()
    (information / "entry_points.txt").write_text(f"[{group}]\n{name} = {value}\n")
    monkeypatch.syspath_prepend(folder)
    penalties = registry_at("ganscale.gan.penalties:PENALTIES")
    monkeypatch.setattr(penalties, "_installed", None)
    monkeypatch.setattr(penalties, "_entries", dict(penalties._entries))
    monkeypatch.delitem(sys.modules, "my_package.penalties", raising=False)


def test_a_source_of_the_readers_own(folder: Path) -> None:
    write_file(folder, SECTIONS["A source"]["python"])
    _, *arguments = shlex.split(SECTIONS["A source"]["sh"])
    assert main([*arguments, "--processes", "2", "--samples-per-shard", "32"]) == 0
    manifest = load_manifest(folder / "data" / "stripes")
    assert manifest.source == "stripes"
    assert (manifest.samples, manifest.classes) == (64, ("lying", "upright"))


def test_the_table_names_every_registry_and_its_group() -> None:
    rows = {name: (kind, group) for kind, name, group in ROW.findall(PAGE.read_text())}
    assert rows.keys() == REGISTRIES.keys()
    for name, module in REGISTRIES.items():
        registry = registry_at(f"{module}:{name}")
        kind, group = rows[name]
        assert kind.partition(" ")[2] == registry.kind
        assert group == registry.group


@pytest.mark.parametrize(
    ("heading", "registry"),
    [
        ("objective.loss", "ganscale.gan.losses:LOSSES"),
        ("objective.penalties", "ganscale.gan.penalties:PENALTIES"),
        ("architecture", "ganscale.networks.registry:GENERATORS"),
    ],
)
def test_the_tables_of_objectives_name_what_there_is(heading: str, registry: str) -> None:
    page = (ROOT / "docs" / "objectives.md").read_text()
    table = page.partition(f"| `{heading}` |")[2].partition("\n\n")[0]
    assert tuple(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == tuple(
        registry_at(registry).built_in()
    )
