import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import linalg
from torch import Tensor, nn

from ganscale.data.reading.image_set import ImageSet
from ganscale.data.shards.manifest import load_manifest
from ganscale.errors import GanscaleError
from ganscale.evaluation.distribution import Distribution
from ganscale.evaluation.evaluator import Evaluator
from ganscale.evaluation.features import trained
from ganscale.evaluation.features.classifier import Classifier
from ganscale.evaluation.features.network import Features
from ganscale.monitoring import progress
from tests.conftest import tiny
from tests.evaluation.replay import Replay, all_images, make
from tests.evaluation.sets import digit_arrays, packed, part_of, uneven


def features_of(evaluator: Evaluator, images: Tensor) -> np.ndarray:
    features: np.ndarray = evaluator.network.measure(images).features.double().numpy()
    return features


def frechet(x: np.ndarray, y: np.ndarray, weights: np.ndarray | None = None) -> float:
    """The formula, with matrix square root and float64; `weights` of the rows of x."""
    p = np.full(len(x), 1 / len(x)) if weights is None else weights / weights.sum()
    m1, m2, c2 = p @ x, y.mean(0), np.cov(y, rowvar=False)
    c1 = (p[:, None] * (x - m1)).T @ (x - m1) / (1 - (p**2).sum())
    root = linalg.sqrtm(c1 @ c2).real
    return float(((m1 - m2) ** 2).sum() + np.trace(c1 + c2 - 2 * root))


def test_scores_order_generators_and_say_what_they_are(digits: Path, tmp_path: Path) -> None:
    experiment = tiny(digits, tmp_path, "evaluation.samples=1797")
    evaluator = make(experiment, tmp_path)
    real = all_images(experiment)
    noise = torch.randint(0, 256, real.shape, generator=torch.Generator().manual_seed(0))
    blurred = torch.nn.functional.avg_pool2d(real.float(), 5, 1, 2)

    perfect = evaluator.scores(Replay(real))
    soft = evaluator.scores(Replay(blurred)).values
    wild = evaluator.scores(Replay(noise)).values
    best = perfect.values
    assert best["fid"] == pytest.approx(0, abs=1e-6)
    assert best["precision"] == best["recall"] == best["coverage"] == 1
    assert best["fid"] < soft["fid"] < wild["fid"]
    assert best["kid"] < soft["kid"] < wild["kid"]
    assert best["class_entropy"] > 0.99 > wild["class_entropy"]
    assert sum(perfect.class_shares) == pytest.approx(1)
    for said in (
        "1,797 generated against 1,797 real images of scikit-learn",
        "% right",
        f"1,797 perfect samples would get FID {perfect.perfect_fid:.3g}",
    ):
        assert said in str(perfect)
    assert 0 < perfect.perfect_fid < soft["fid"]

    x, y = features_of(evaluator, real), features_of(evaluator, blurred.byte())
    found = evaluator.scores(Replay(blurred.byte())).values["fid"]
    assert found == pytest.approx(frechet(x, y), rel=1e-3)


def test_the_real_side_is_measured_once_for_a_set(digits: Path, tmp_path: Path) -> None:
    experiment = tiny(digits, tmp_path, "evaluation.samples=100")
    first = make(experiment, tmp_path)
    files = sorted(digits.glob("*.safetensors"))
    for kind in ("classifier-", "statistics-classifier-", "perfect-classifier-100-"):
        assert any(path.name.startswith(kind) for path in files)
    stamps = [path.stat().st_mtime_ns for path in files]
    second = make(experiment, tmp_path)
    assert stamps == [path.stat().st_mtime_ns for path in sorted(digits.glob("*.safetensors"))]
    assert first.perfect_fid == second.perfect_fid
    for key, value in first.real.sums.tensors().items():
        assert torch.equal(value, second.real.sums.tensors()[key]), key

    # Other images under the same path are another set.
    copy = shutil.copytree(digits, tmp_path / "copy")
    manifest = load_manifest(copy)
    manifest.model_copy(update={"shards": manifest.shards[:3]}).save(copy)
    assert make(tiny(copy, tmp_path), tmp_path).real.sums.count == 1200


def test_each_long_phase_says_how_far_it_is(
    digits: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(progress, "LOG_EVERY_S", 0.0)
    copy = shutil.copytree(digits, tmp_path / "copy", ignore=shutil.ignore_patterns("*.safe*"))
    progress.set_up_logging(0)
    experiment = tiny(copy, tmp_path, "evaluation.samples=100")
    evaluator = make(experiment, tmp_path)
    evaluator.scores(Replay(all_images(experiment)))
    said = capsys.readouterr().err
    for phase in (
        "feature classifier",
        "measuring the real images",
        "measuring real samples",
        "scoring generated images",
    ):
        assert f"{phase}: " in said


def test_what_perfect_samples_get_is_the_fid_of_drawn_against_drawn(
    digits: Path, tmp_path: Path
) -> None:
    real = all_images(tiny(digits, tmp_path))
    found = []
    for number in (300, 2000):  # more than there are, too
        experiment = tiny(digits, tmp_path, f"evaluation.samples={number}")
        evaluator = make(experiment, tmp_path)
        distribution = Distribution(ImageSet(experiment.data).strata())
        features = features_of(evaluator, real)
        again = features[distribution.resample("perfect/real")]
        drawn = features[distribution.draw(number, "perfect/generated")]
        assert evaluator.perfect_fid == pytest.approx(frechet(again, drawn), rel=1e-3)
        found.append(evaluator.perfect_fid)
    assert found[0] > 2 * found[1]


def test_a_mixture_is_compared_with_the_mixture(digits: Path, tmp_path: Path) -> None:
    few, many = part_of(digits, tmp_path / "few", [1]), part_of(digits, tmp_path / "many", [0, 2])
    experiment = tiny(
        digits,
        tmp_path,
        f"data.mixture=[{{path: {few}, weight: 3}}, {{path: {many}, weight: 1}}]",
        f"data.cache={tmp_path / 'cache'}",
        "evaluation.samples=600",
    )
    evaluator = make(experiment, tmp_path)
    real = all_images(experiment)
    generated = real[:1200:2].clone()
    scores = evaluator.scores(Replay(generated))
    weights = np.concatenate([np.full(400, 0.75 / 400), np.full(800, 0.25 / 800)])
    x, y = features_of(evaluator, real), features_of(evaluator, generated)
    assert scores.values["fid"] == pytest.approx(frechet(x, y, weights), rel=1e-3)
    union = frechet(x, y)
    assert abs(scores.values["fid"] - union) > 0.05 * union
    # What is compared image by image keeps the proportions, and has none twice.
    assert len(np.unique(evaluator.real.indices)) == len(evaluator.real.compared) == 533
    assert (evaluator.real.indices < 400).sum() == 400
    assert "0.75 of scikit-learn digits and 0.25 of scikit-learn digits" in scores.real_set
    counts = torch.zeros(10, dtype=torch.float64)
    labels = ImageSet(experiment.data).reader().read(np.arange(1200)).labels
    counts.index_add_(0, labels, torch.from_numpy(weights * 1200))
    assert torch.allclose(evaluator.real.class_weights, counts)
    # The same sets in other proportions are another distribution.
    plain = experiment.data.model_copy(update={"mixture": experiment.data.mixture[::-1]})
    assert str(Distribution(ImageSet(plain).strata())) != str(
        Distribution(ImageSet(experiment.data).strata())
    )


@pytest.fixture(scope="module")
def uneven_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return uneven(tmp_path_factory.mktemp("uneven") / "set")


def test_images_without_a_class_neither_train_the_classifier_nor_count_as_the_first_class(
    uneven_set: Path, tmp_path: Path
) -> None:
    experiment = tiny(uneven_set, tmp_path, "evaluation.samples=50")
    evaluator = make(experiment, tmp_path)
    images = ImageSet(experiment.data)
    labels = images.reader().read(np.arange(images.samples)).labels
    assert (labels < 0).sum() > 30
    counts = [int((labels == c).sum()) for c in range(3)]
    assert evaluator.real.class_weights.tolist() == counts
    assert evaluator.real.sums.count == images.samples
    held_out = all_images(experiment)[::10][labels[::10] >= 0]
    right = evaluator.network.measure(held_out).logits.argmax(1) == labels[::10][labels[::10] >= 0]
    assert evaluator.network.description.endswith(f"({100 * right.float().mean():.1f} % right)")
    assert right.float().mean() > 0.9


@pytest.mark.parametrize("balanced", [False, True])
def test_a_conditional_generator_is_asked_for_classes_as_training_draws_them(
    uneven_set: Path, tmp_path: Path, balanced: bool
) -> None:
    experiment = tiny(
        uneven_set,
        tmp_path,
        "data.classes=3",
        f"data.balance_classes={str(balanced).lower()}",
        "data.on_error=skip",
        "evaluation.samples=5000",
    )
    evaluator = make(experiment, tmp_path)
    asked: list[Tensor] = []

    class Asked(nn.Module):
        def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
            asked.append(labels)
            return torch.zeros(len(latents), 1, 28, 28)

    evaluator.scores(Asked())
    shares = torch.bincount(torch.cat(asked), minlength=3) / 5000
    weights = torch.tensor([1.0, 1.0, 1.0]) if balanced else evaluator.real.class_weights.float()
    assert balanced or weights[1] < 0.3 * weights[0]
    assert torch.allclose(shares, weights / weights.sum(), atol=0.02)


def test_a_set_of_balanced_classes_is_compared_with_balanced_classes(
    uneven_set: Path, tmp_path: Path
) -> None:
    experiment = tiny(uneven_set, tmp_path, "data.balance_classes=true", "evaluation.samples=200")
    evaluator = make(experiment, tmp_path)
    images = ImageSet(experiment.data)
    real, labels = images.reader().read(np.arange(images.samples))
    shares = [0.334, 0.333, 0.333, 0]  # as closely as training keeps them; none for label -1
    weights = np.array([shares[c] / (labels == c).sum().item() for c in labels.tolist()])
    generated = real[:400:2].clone()
    x, y = features_of(evaluator, real), features_of(evaluator, generated)
    found = evaluator.scores(Replay(generated))
    assert found.values["fid"] == pytest.approx(frechet(x, y, weights), rel=1e-3)
    assert found.real_samples == (labels >= 0).sum()
    assert "classes balanced" in found.real_set


@pytest.mark.parametrize("share", ["one pixel", "all"])
def test_a_generator_that_makes_no_numbers_gets_one_sentence_and_no_score(
    digits: Path, tmp_path: Path, share: str
) -> None:
    evaluator = make(tiny(digits, tmp_path, "evaluation.samples=100"), tmp_path)
    images = all_images(tiny(digits, tmp_path))[:100].float()
    images[(77, 0, 3, 3) if share == "one pixel" else ...] = torch.nan
    with pytest.raises(
        GanscaleError, match=r"NaN or infinite values: it has diverged\. Use an older"
    ):
        evaluator.scores(Replay(images))


def test_features_are_measured_in_full_float32_whatever_the_run_trains_with(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tiny(digits, tmp_path), tmp_path)
    kept = shutil.ignore_patterns("statistics-*", "perfect-*")  # the classifier is there
    copy = shutil.copytree(digits, tmp_path / "copy", ignore=kept)
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    allowed: list[tuple[bool, bool]] = []
    measure = Classifier.measure

    def watched(self: Classifier, images: Tensor) -> Features:
        allowed.append((matmul.allow_tf32, cudnn.allow_tf32))
        return measure(self, images)

    monkeypatch.setattr(Classifier, "measure", watched)
    before = matmul.allow_tf32, cudnn.allow_tf32
    try:
        matmul.allow_tf32 = cudnn.allow_tf32 = True
        evaluator = make(tiny(copy, tmp_path, "evaluation.samples=20"), tmp_path)
        real = all_images(tiny(copy, tmp_path))[:20]
        assert len(allowed) > 1797 // 500
        evaluator.scores(Replay(real))
        evaluator.nearest(real[:2], 1)
        assert set(allowed) == {(False, False)}
        assert matmul.allow_tf32
        assert cudnn.allow_tf32
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


def test_the_nearest_of_a_real_image_is_itself(digits: Path, tmp_path: Path) -> None:
    evaluator = make(tiny(digits, tmp_path), tmp_path)
    images = all_images(tiny(digits, tmp_path))[[3, 500, 1700]]
    nearest = evaluator.nearest(images, 4)
    assert nearest.shape == (3, 4, 1, 28, 28)
    assert torch.equal(nearest[:, 0], images)


def test_a_set_without_labels_is_scored_by_rotations_without_any_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(trained, "MIN_STEPS", 20)
    monkeypatch.setattr(trained, "EPOCHS", (0,))
    images, labels = digit_arrays()
    copy = packed(tmp_path / "copy", images[:200], np.full_like(labels[:200], -1), 0)
    experiment = tiny(copy, tmp_path, "evaluation.samples=200")
    evaluator = make(experiment, tmp_path)
    real = all_images(experiment)
    scores = evaluator.scores(Replay(real))
    assert scores.features_name == "rotations"
    assert re.search(r"rotation features \(\d+\.\d % right, by chance 25 %\)", str(scores))
    assert scores["fid"] == pytest.approx(0, abs=1e-6)
    assert not {"inception_score", "class_entropy"} & set(scores.values)
    assert scores.class_shares == ()
    assert evaluator.scores(Replay(255 - real))["fid"] > 2 * evaluator.perfect_fid

    with pytest.raises(GanscaleError, match=r"no labels.*features=rotations"):
        make(tiny(copy, tmp_path, "evaluation.features=classifier"), tmp_path)
    judged = ("evaluation.samples=200", "evaluation.best=inception_score")
    make(tiny(copy, tmp_path, *judged), tmp_path)
    assert "best=inception_score: rotations features know no classes" in caplog.text
