"""What the page answers, of a run and of an exported generator, without a browser or Gradio."""

import base64
import io
import json
import re
from pathlib import Path
from shutil import copytree

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch import nn

from ganscale.errors import GanscaleError
from ganscale.evaluation.samples import pixels
from ganscale.library.generator import Generator
from ganscale.monitoring.grids import show
from ganscale.pages.explore import views
from ganscale.pages.explore.answers import NONE, Answers, Chosen, Seen, explained
from ganscale.pages.explore.run_subject import RunSubject, open_subject
from ganscale.pages.explore.saved_subject import generate_shown
from ganscale.pages.explore.subject import CannotShowError, Choice
from ganscale.runs.pretrained import About
from tests.runs.conditional import conditional_run

NEWEST = "step-00000002"
CHOSEN = Chosen(checkpoint=NEWEST)


@pytest.fixture(scope="module")
def run(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return conditional_run(digits, tmp_path_factory.mktemp("explored"))


@pytest.fixture(scope="module")
def answers(run: Path) -> Answers:
    return Answers(open_subject(run, trust_code=False))


def images_in(html: str) -> list[Image.Image]:
    found = re.findall(r"src='data:image/\w+;base64,([^']+)'", html)
    return [Image.open(io.BytesIO(base64.b64decode(data))) for data in found]


def file_in(answer: str) -> tuple[str, bytes]:
    file = json.loads(answer)
    return file["name"], base64.b64decode(file["data"])


def test_a_grid_shows_the_library_s_images(run: Path, answers: Answers) -> None:
    wanted = Generator.from_run(run).sample(seeds=range(5, 8)).numpy()
    html = answers.grid(CHOSEN, 5, 3, 2)
    assert all(np.array_equal(i, w[0]) for i, w in zip(images_in(html), wanted, strict=True))
    assert re.findall(r"aria-label='(Seed [^']+)'", html) == [
        f"Seed {s}, class {s}" for s in (5, 6, 7)
    ]
    assert "--columns: 2" in html


def test_class_weights_and_truncation_are_the_library_s(run: Path, answers: Answers) -> None:
    chosen = Chosen(label=4, truncation=1.0, checkpoint=NEWEST, weights="generator")
    (image,) = images_in(answers.grid(chosen, 9, 1, 1))
    raw = Generator.from_run(run, weights="generator")
    wanted = raw.sample(seeds=[9], label=4, truncation=1.0)[0, 0].numpy()
    assert np.array_equal(image, wanted)
    assert not np.array_equal(wanted, raw.sample(seeds=[9], label=4)[0, 0].numpy())
    details = answers.details(Seen(9, chosen))
    command = "--seeds 9 --checkpoint step-00000002 --weights generator --class 4 --truncation 1 "
    assert command in details


def test_a_mixture_begins_at_one_class_and_ends_at_the_other(run: Path) -> None:
    subject = open_subject(run, trust_code=False)
    answers = Answers(subject)
    assert isinstance(subject, RunSubject)
    for module in subject._generator(CHOSEN.choice).network.modules():
        if isinstance(module, nn.Embedding):  # after two steps, all classes are still alike
            module.weight.normal_(1.0, generator=torch.Generator().manual_seed(0))

    def image(label: int, other: int = NONE, share: float = 0) -> np.ndarray:
        chosen = Chosen(label, other, share, checkpoint=NEWEST)
        return np.asarray(images_in(answers.grid(chosen, 3, 1, 1))[0], int)

    assert np.array_equal(image(1, 8, 0), image(1))
    assert np.abs(image(1, 8, 100) - image(8)).max() <= 1
    half = image(1, 8, 50)
    assert np.abs(half - image(1)).max() > 1
    assert np.abs(half - image(8)).max() > 1
    mixed = answers.details(Seen(3, Chosen(1, 8, 30, checkpoint=NEWEST)))
    assert "70 % class 1, 30 % class 8" in mixed
    assert "knows no mixtures" in mixed
    assert "--seeds" not in mixed


def test_a_walk_starts_and_ends_at_its_seeds(run: Path, answers: Answers) -> None:
    generator = Generator.from_run(run)
    for position, seed in ((0, 4), (1, 6), (2, 9)):
        (image,) = images_in(answers.walk(CHOSEN, "4, 6 9", position))
        wanted = generator.sample(seeds=[seed], label=4)[0, 0].numpy()
        assert np.array_equal(image, wanted)
    (between,) = images_in(answers.walk(CHOSEN, "4, 6, 9", 0.5))
    wanted = generator.interpolate([4, 6], steps=2)[1, 0].int().numpy()
    assert np.abs(np.asarray(between, int) - wanted).max() <= 1
    assert len(images_in(answers.stations(CHOSEN, "4-6"))) == 3


def test_the_logit_is_the_discriminator_s(run: Path, answers: Answers) -> None:
    subject = answers.subject
    assert isinstance(subject, RunSubject)
    latents = views.latents_of(subject.facts, [2], None)
    labels = np.array([2])
    logit = subject.logit(latents, labels, CHOSEN.choice)
    model = Generator.from_run(run)
    discriminator = subject._discriminator(CHOSEN.choice)
    with torch.no_grad():
        images = model.network(torch.from_numpy(latents), torch.from_numpy(labels))
        assert logit == pytest.approx(discriminator(images, torch.tensor([2])).item(), abs=1e-5)
    assert f"{logit:+.2f}" in answers.details(Seen(2, CHOSEN))


def test_the_timeline_has_a_row_for_each_checkpoint_and_kind_of_weights(answers: Answers) -> None:
    assert answers.timeline(CHOSEN, 0, raw_too=False).count("<h3>") == 1
    html = answers.timeline(CHOSEN, 0, raw_too=True)
    assert re.findall("<h3>(.*?)</h3>", html) == ["Step 2, average (EMA)", "Step 2, raw"]
    names = [f"step-{i:08d}" for i in range(100)]
    shown = views.rows_of_timeline(names)
    assert (len(shown), shown[0], shown[-1]) == (views.MOST_ROWS, names[0], names[-1])


def test_files_can_be_opened(answers: Answers) -> None:
    name, content = file_in(answers.grid_file(CHOSEN, 0, 4, 2))
    assert name == "tiny-seeds-0-3.png"
    assert Image.open(io.BytesIO(content)).size == (2 * 4 * 29 + 4, 2 * 4 * 29 + 4)
    _, content = file_in(answers.image_file(Seen(1, CHOSEN)))
    assert Image.open(io.BytesIO(content)).size == (28, 28)
    name, content = file_in(answers.film("gif", CHOSEN, "0, 1"))
    gif = Image.open(io.BytesIO(content))
    assert (name, gif.n_frames) == ("tiny-walk.gif", 2 * views.FRAMES_PER_LEG)
    av = pytest.importorskip("av")
    _, content = file_in(answers.film("mp4", CHOSEN, "0, 1"))
    with av.open(io.BytesIO(content)) as film:
        frames = [frame.to_ndarray(format="gray") for frame in film.decode(video=0)]
    assert len(frames) == 2 * views.FRAMES_PER_LEG
    (first,) = images_in(answers.walk(CHOSEN, "0, 1", 0))
    enlarged = np.asarray(first, int).repeat(10, 0).repeat(10, 1)
    assert np.abs(frames[0].astype(int) - enlarged).mean() < 12


def test_what_cannot_be_shown_is_said(answers: Answers) -> None:
    for seeds in ("", "1", "a, b", "3-1", "0-99"):
        assert "role='alert'" in explained(answers.walk)(CHOSEN, seeds, 0)
    assert "whole number" in explained(answers.grid)(CHOSEN, -1, 4, 2)
    gone = Chosen(checkpoint="step-00000001")
    assert "reload the page" in explained(answers.grid)(gone, 0, 4, 2)
    with pytest.raises(CannotShowError):
        answers.subject.generate(views.latents_of(answers.facts, [0], None), None, gone.choice)


def test_an_exported_generator_makes_the_same_images(
    run: Path, answers: Answers, tmp_path: Path
) -> None:
    generator = Generator.from_run(run)
    saved = Answers(open_subject(generator.save_pretrained(tmp_path), trust_code=False))
    chosen = Chosen(label=1, other=2, share=50)
    of_run, of_saved = (
        np.stack(images_in(of.grid(at, 0, 4, 2))).astype(int)
        for of, at in ((answers, Chosen(1, 2, 50, checkpoint=NEWEST)), (saved, chosen))
    )
    assert np.abs(of_run - of_saved).max() <= 1
    assert not saved.facts.truncates
    assert any("BatchNorm" in sentence for sentence in saved.facts.absent)
    assert "role='alert'" in explained(saved.neighbours)(Seen(0, Chosen()))


def test_a_run_s_own_words_become_no_markup(run: Path, answers: Answers) -> None:
    words = "<img src=x onerror=alert(1)>'\""
    facts = answers.facts
    hostile = Answers(answers.subject)
    hostile.facts = type(facts)(**{**vars(facts), "class_names": (words,) * 10, "command": words})
    shown = hostile.grid(CHOSEN, 0, 1, 1) + hostile.details(Seen(0, CHOSEN))
    assert "<img src=x" not in shown
    assert shown.count("&lt;img src=x") >= 3
    assert "'\"" not in shown


def test_a_stranger_s_code_does_not_run(run: Path, tmp_path: Path) -> None:
    folder = copytree(run, tmp_path / "stranger")
    ran = tmp_path / "ran"
    code = tmp_path / "net.py"
    code.write_text(f"open({str(ran)!r}, 'w')\n")
    experiment = yaml.safe_load((folder / "experiment.yaml").read_text())
    experiment["generator"]["network"] = {"architecture": f"{code}:Net"}
    (folder / "experiment.yaml").write_text(yaml.safe_dump(experiment))
    with pytest.raises(GanscaleError, match="--trust-code"):
        open_subject(folder, trust_code=False)
    assert not ran.exists()


def test_channels_and_16_bits_are_shown_as_the_trainer_s_pictures_show_them() -> None:
    about = About("deep", 4, "normal", (5, 8, 8), bits=16)
    generator = Generator(nn.Sequential(nn.Linear(4, 320), nn.Unflatten(1, (5, 8, 8))), about)
    latents = np.ones((2, 4), np.float32)
    found = generate_shown(generator, latents, None, Choice())
    wanted = show(pixels(generator.images(torch.ones(2, 4))))
    assert found.shape == (2, 8, 8, 3)
    assert np.array_equal(found, wanted)
