"""The section of W&B, its short form, and the keys that it had before."""

from pathlib import Path

import pytest

from ganscale.config.load import as_overrides, experiment_schema, load
from ganscale.errors import GanscaleError


def test_a_mode_alone_leaves_the_rest_of_the_section(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("monitoring: {wandb: offline}\n")
    (tmp_path / "mine.yaml").write_text(
        "base: base.yaml\nmonitoring: {wandb: {project: faces, tags: [a, b]}}\n"
    )
    mine = load(tmp_path / "mine.yaml").monitoring.wandb
    assert (mine.mode, mine.project, mine.tags) == ("offline", "faces", ("a", "b"))
    over = load(tmp_path / "mine.yaml", as_overrides({"monitoring.wandb": "disabled"}))
    assert over.monitoring.wandb == mine.model_copy(update={"mode": "disabled"})
    section = load(None, ["monitoring.wandb=offline", "monitoring.wandb={group: g}"])
    assert (section.monitoring.wandb.mode, section.monitoring.wandb.group) == ("offline", "g")


def test_files_of_earlier_versions_are_read(tmp_path: Path) -> None:
    old = tmp_path / "old.yaml"
    old.write_text("monitoring: {wandb: online, wandb_project: faces, wandb_timeout: 5}\n")
    section = load(old).monitoring.wandb
    assert (section.mode, section.project, section.timeout) == ("online", "faces", 5)
    changed = load(old, ["monitoring.wandb_project=digits"]).monitoring.wandb
    assert changed == section.model_copy(update={"project": "digits"})


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("monitoring.wandb=onlin", r"monitoring.wandb.mode='onlin': input should be 'auto', "),
        ("monitoring.wandb=off", r"monitoring.wandb.mode=False"),
        ("monitoring.wandb.project=a/b", "monitoring.wandb.project='a/b': string should match"),
        ("monitoring.wandb.tag=[a]", "did you mean monitoring.wandb.tags"),
    ],
)
def test_a_mistake_is_named_by_its_key(override: str, message: str) -> None:
    with pytest.raises(GanscaleError, match=message):
        load(None, [override])


def test_editors_offer_the_modes_and_the_section() -> None:
    schema = experiment_schema()["$defs"]["Monitoring"]["properties"]["wandb"]
    assert schema["anyOf"][0] == {"$ref": "#/$defs/WeightsAndBiases"}
    assert schema["anyOf"][1]["enum"] == ["auto", "online", "offline", "disabled"]
