"""Damaged experiment files and overrides end in one message, never in a traceback."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ganscale.config import Experiment
from ganscale.config.load import load, to_yaml
from ganscale.config.mistakes import flatten
from ganscale.errors import GanscaleError

CONFIGS = Path(__file__).parents[2] / "configs"
TEXTS = {path.name: path.read_text() for path in sorted(CONFIGS.glob("*.yaml"))}
KEYS = [
    *[key for key, _ in flatten(Experiment.model_validate({}).model_dump(mode="json"))],
    *["train", "generator", "generator.network", "objective.penalties.0.weight", "base", "runs"],
    *[
        "generator.optimizer.lr.until",
        "generator.schedules",
        "augment.adaptive.every",
        "data.mixture.0.path",
    ],
]
FRAGMENTS = [
    *["null", "~", "true", "-1", "0", "1e400", ".nan", ".inf", "0x1f", "0b1", "1_000", "12:30:45"],
    *["9" * 5000, "0x" + "f" * 5000, "2020-01-01", "''", '"\\x00"', '"\\ud800"', "\0", "\ufeff"],
    *["[", "]", "{", "}", "[]", "{}", "{'a': {}}", "[[[[", "- ", ": ", "? ", "&a ", "*a", "*adam"],
    *["&a [*a]", "<<: *a", "<<: [1]", "{? [1]: 2}", "{1: 2}", "{null: 2}", "{true: {}}", "a: b: c"],
    *["${seed}", "${", "${}", "${.}", "${..}", "${a.b}", "${oc.env:HOME}", "${oc.decode:'['}"],
    *["${train.${name}}", "${generator}", "???", "!!binary aGk=", "!!binary '", "!!set {1}"],
    *["!!python/object:os.system x", "!!timestamp 1", "!!float x", "!!int ''", "!!omap [a: 1]"],
    *["|", ">", "|+9\n x", "%YAML 1.1\n", "---", "...", "\t", "\r", "\n", "#", "@", "`", "\\"],
    *["architecture: dcgan", "architecture: a:B", "base: .", "base: mnist_mlp.yaml", "base: 3"],
    *[
        "{from: 1, to: 0, until: 9 steps}",
        "[{hold: 1, until: 1% of run}, 2]",
        "until: 3",
        "20M images",
    ],
    *["a.py:B", "mlp", "custom", "é", "²", "pipe:ls", "../..", "x" * 300, "\x85", "\u2028"],
]
fragments = st.sampled_from(FRAGMENTS) | st.text(max_size=8)


@st.composite
def damaged_files(draw: st.DrawFn) -> str:
    """A shipped file with a few pieces of it replaced, removed, doubled or moved."""
    text = TEXTS[draw(st.sampled_from(sorted(TEXTS)))]
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(text)))
        stop = min(len(text), start + draw(st.sampled_from([0, 0, 1, 3, 10, 60])))
        piece = draw(fragments | st.just(text[start:stop] * 2) | st.just(text[:start]))
        text = text[:start] + piece + text[stop:]
    return text


@st.composite
def overrides(draw: st.DrawFn) -> str:
    """`key=value`, of which either part may be anything."""
    key = draw(st.sampled_from(KEYS) | st.sampled_from(KEYS) | fragments)
    if draw(st.booleans()):
        key += draw(st.sampled_from([".0", ".x", "[0]", "[", "]", ".", ".-1", "[x]"]))
    return key + draw(st.sampled_from(["=", "=", "=", ""])) + draw(fragments)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds the shipped files, which a damaged one may name as its base."""
    folder = tmp_path_factory.mktemp("experiments")
    for name, text in TEXTS.items():
        (folder / name).write_text(text)
    return folder


@settings(
    max_examples=800,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(text=damaged_files(), changes=st.lists(overrides(), max_size=2))
def test_damage_ends_in_one_message(folder: Path, text: str, changes: list[str]) -> None:
    path = folder / "damaged.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        experiment = load(path, changes)
    except GanscaleError:
        return
    assert Experiment.model_validate(experiment.model_dump()) == experiment
    assert to_yaml(experiment)
