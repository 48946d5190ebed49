"""The card of an export, read by the hub's own loader."""

import json
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard
from huggingface_hub.repocard_data import EvalResult

from ganscale.runs.export import export
from ganscale.runs.run_folder import RunFolder
from ganscale.training.trainer import train
from tests.conftest import tiny

INCEPTION = {
    "step": 2,
    "values": {"fid": 12.5, "kid_deviation": 3.0, "recall": 0.25},
    "features": "Inception v3 features",
    "features_name": "inception",
    "samples": 10_000,
    "real_samples": 60_000,
    "real_set": "MNIST train",
}
CLASSIFIER = {
    **INCEPTION,
    "values": {"fid": 1.5},
    "features": "classifier features (98.7 % right)",
    "features_name": "classifier",
}
OLDER = {**INCEPTION, "values": {"fid": 99.0}}
OF_ANOTHER_STEP = {**INCEPTION, "step": 1, "values": {"fid": 77.0}}


@pytest.fixture(scope="module")
def run(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    experiment = tiny(digits, tmp_path_factory.mktemp("card"), "train.steps=2")
    train(experiment)
    return experiment.folder


def card(run: Path, out: Path, *evaluations: dict[str, Any], license: str | None = None) -> str:
    RunFolder(run).evaluations.write_text("".join(json.dumps(e) + "\n" for e in evaluations))
    export(run, "latest", "safetensors", out, license=license)
    return (out / "README.md").read_text()


def test_the_hub_reads_what_the_model_is(run: Path, tmp_path: Path) -> None:
    text = card(run, tmp_path / "out", license="cc-by-4.0")
    data = ModelCard.load(tmp_path / "out" / "README.md").data
    assert data.to_dict() == {
        "license": "cc-by-4.0",
        "library_name": "ganscale",
        "pipeline_tag": "unconditional-image-generation",
        "tags": ["gan", "mlp", "digits"],
    }
    assert "licensed under `cc-by-4.0`" in text
    for said in (
        "| Steps | 2 |",
        "| Images seen | 16 |",
        "| Batch size | 8 |",
        "| Dataset | digits",
    ):
        assert said in text
    assert str(tmp_path.parent) not in text  # a path of this machine is nobody's business


def test_each_kind_of_features_is_a_result_and_a_type_of_its_own(run: Path, tmp_path: Path) -> None:
    evaluations = (OF_ANOTHER_STEP, OLDER, INCEPTION, CLASSIFIER)
    text = card(run, tmp_path / "out", *evaluations)
    data = ModelCard.load(tmp_path / "out" / "README.md").data
    assert data.model_name == "tiny"
    args = {"generated": 10_000, "real": 60_000}
    shared: dict[str, Any] = {
        "task_type": "unconditional-image-generation",
        "task_name": "Unconditional image generation",
        "dataset_type": "digits",
        "dataset_name": "MNIST train",
        "metric_args": args,
    }
    on = "on classifier features (98.7 % right)"
    assert data.eval_results == [
        EvalResult(**shared, metric_type="fid", metric_name="FID", metric_value=12.5),
        EvalResult(**shared, metric_type="recall", metric_name="recall", metric_value=0.25),
        EvalResult(
            **shared, metric_type="fid_classifier", metric_name=f"FID {on}", metric_value=1.5
        ),
    ]
    assert "FID 12.5" in text
    assert "77" not in text.split("## Scores")[1]


def test_no_licence_and_no_score_are_claimed(run: Path, tmp_path: Path) -> None:
    text = card(run, tmp_path / "out")
    data = ModelCard.load(tmp_path / "out" / "README.md").data
    assert (data.license, data.eval_results) == (None, None)
    assert "No licence was given" in text
    assert "not evaluated" in text


def test_a_strangers_words_are_no_metadata_and_no_markup(run: Path, tmp_path: Path) -> None:
    words = "x\n---\nlicense: mit\n<script> [a](b) | \x85\x7f"
    line = {**CLASSIFIER, "real_set": words, "features": words, "features_name": "a: b"}
    text = card(run, tmp_path / "out", line)
    data = ModelCard.load(tmp_path / "out" / "README.md").data
    assert data.license is None
    assert data.eval_results is not None
    assert "license: mit" in data.eval_results[0].dataset_name
    assert "<" not in text
