"""Everything that a page of the documentation tells to type, checked as far as that is cheap.

README's commands are run by tests/system/test_readme.py, and what docs/extending.md shows by
tests/test_extending.py. What is on any page, those included, is parsed here: a command of a new
kind fails until `CHECKS` knows it, and so does a block that is no command until `SHOWN` says what
it is.
"""

import itertools
import re
import shlex
import subprocess
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import yaml

from ganscale.cli import main
from ganscale.config import Experiment
from ganscale.config.load import load
from ganscale.errors import GanscaleError
from tests.page_checks import (
    CHECKS,
    OPTION,
    STANDS_FOR,
    check,
    check_mention,
    known_keys,
    option_exists,
)
from tests.page_code import check_code
from tests.written_pages import PAGES, ROOT, Code, anchors, blocks, links, pieces

RUN_ELSEWHERE = "docs/extending.md"
SHOWN = {
    ("docs/architecture.md", "runs/NAME/"): "the files of a run folder",
    ("docs/evaluation.md", "FID 1.886,"): "what an evaluation prints",
    ("docs/fine-tuning.md", "starting from runs"): "what a log says at the start",
    ("docs/running.md", "step 2,400 of"): "a line of a log",
}
"""Blocks that are neither commands nor an experiment, by their page and first words."""
SECTIONS = {*Experiment.model_fields, "base", "lr"}
OLD_KEYS = ("generator.schedules", "discriminator.schedules", "augment.noise")
MADE_BY_READER = ("slurm/site.sh",)
NEEDS = {"augment.adaptive": ["augment.policy=[flip]"]}
"""What has to be set for a key to be valid, where the text around it says so."""
KEY = re.compile(rf"(?:{'|'.join(Experiment.model_fields)})(?:\.[a-z_0-9]+)+")
ASSIGNMENT = re.compile(rf"({KEY.pattern}|balance|seed|name)(?:=|: )(\S.*)")
PATH = re.compile(r"(?:src|tests|bench|configs|docs|launch|slurm|docker)/[\w./*-]*|[\w/]+/\w+\.py")


@pytest.fixture(autouse=True)
def in_the_clone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def mistakes(codes: Iterable[Code], check_one: Callable[[Code], None]) -> list[str]:
    """Return what is wrong with each of them."""
    found = []
    for code in codes:
        try:
            check_one(code)
        except Exception as error:
            found.append(f"{code}\n    {type(error).__name__}: {error}")
    return found


def is_shown(code: Code) -> bool:
    return any(code.page == page and code.text.lstrip().startswith(first) for page, first in SHOWN)


def is_experiment(code: Code) -> bool:
    first = code.text.lstrip().partition(":")[0]
    return code.language == "yaml" or (not code.language and first in SECTIONS)


def check_block(code: Code) -> None:
    if is_experiment(code):
        check_experiment(code.text)
    elif code.language in ("", "sh", "bash", "console"):
        subprocess.run(["bash", "-n"], input=code.text, text=True, check=True)
        for words in code.commands():
            check(words)
    elif code.language not in ("python", "toml", "text"):  # text is what a command prints
        raise KeyError(f"a block of {code.language}: say how to check it")


def check_experiment(text: str) -> None:
    values: dict[str, Any] = yaml.safe_load(text)
    if "lr" in values:
        values = {"generator": {"optimizer": values}}
    values.pop("base", None)
    Experiment.model_validate(values)


def check_piece(code: Code) -> None:
    """A command, an option, a key, an override or a path within a sentence."""
    words = code.text.split()
    if code.text in CHECKS or code.text in (*OLD_KEYS, *MADE_BY_READER):
        return
    if len(words) > 1 and (words[0] in CHECKS or words[0].startswith(("./", "OMP_"))):
        words = shlex.split(code.text)
        if words[0] == "ganscale":
            check_mention(list(itertools.takewhile(lambda word: word != ">", words))[1:])
        else:
            check(words)
    elif assigned := ASSIGNMENT.fullmatch(code.text):
        file = "configs/cifar10_wgan_gp.yaml" if ".penalties.0." in code.text else None
        key, value = assigned.groups()
        load(file, [*NEEDS.get(key, ()), f"{key}={STANDS_FOR.get(value, value)}"])
    elif KEY.fullmatch(code.text) and not code.text.endswith(".py"):
        assert re.sub(r"\.\d+", ".N", code.text) in known_keys(), "no such key"
    elif option := OPTION.match(code.text):
        assert option_exists(option[0])
    elif PATH.fullmatch(code.text):
        there = [*ROOT.glob(code.text), *(ROOT / "src" / "ganscale").glob(code.text)]
        assert there, "no such file"


@pytest.mark.parametrize("page", PAGES)
def test_a_pages_blocks_can_be_typed(page: str) -> None:
    codes = [
        code
        for code in blocks(page)
        if not is_shown(code) and not (page == RUN_ELSEWHERE and code.language in ("yaml", "sh"))
    ]
    assert not (found := mistakes(codes, check_block)), "\n".join(found)


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_mentions_exists(page: str) -> None:
    assert not (found := mistakes(pieces(page), check_piece)), "\n".join(found)


def check_link(code: Code) -> None:
    """A link leads to a file of the repository, and to a heading where it says which."""
    path, _, anchor = code.text.partition("#")
    if "://" not in code.text:
        target = (ROOT / code.page).parent / path if path else ROOT / code.page
        assert target.exists(), "no such file"
        if anchor:
            assert anchor in anchors(target.resolve().relative_to(ROOT).as_posix()), "no heading"


@pytest.mark.parametrize("page", PAGES)
def test_a_pages_links_lead_somewhere(page: str) -> None:
    """Where the repository itself is read; tests/test_site.py checks those of the site."""
    assert not (found := mistakes(links(page), check_link)), "\n".join(found)


@pytest.mark.parametrize("page", PAGES)
def test_a_pages_python_code_fits_the_library(page: str) -> None:
    """The blocks of a page follow one another, as in one session."""
    known: dict[str, Any] = {}
    codes = [code for code in blocks(page) if code.language == "python"]
    found = mistakes(codes, lambda code: check_code(code.text, known))
    assert not found, "\n".join(found)


def test_what_is_shown_is_on_its_page() -> None:
    for page, first in SHOWN:
        assert [code for code in blocks(page) if is_shown(code) and first in code.text]


def test_pages_hold_as_much_as_they_did() -> None:
    """A parser that finds nothing would agree with everything."""
    commands = [words for page in PAGES for code in blocks(page) for words in code.commands()]
    assert sum(words[0] == "ganscale" for words in commands if words) > 30
    assert sum(code.language == "python" for page in PAGES for code in blocks(page)) > 10


@pytest.mark.parametrize("page", [page for page in PAGES if page != "README.md"])
def test_a_documented_job_may_be_submitted(page: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing would end it in the queue: `--dry-run` builds both networks and checks the engine."""
    lines = [words for code in blocks(page) if is_shell(code) for words in code.commands()]
    for words in lines:
        if words[:2] == ["ganscale", "submit"]:
            given = ["configs/mnist_mlp.yaml" if w == "experiment.yaml" else w for w in words[1:]]
            assert main([*given, "--dry-run"]) == 0, capsys.readouterr().err


def is_shell(code: Code) -> bool:
    return not code.language and not is_shown(code) and not is_experiment(code)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("ganscale evalute runs/mnist_mlp", "invalid choice: 'evalute'"),
        ("ganscale evaluate runs/mnist_mlp --nmu 3", "unrecognized arguments: --nmu"),
        ("ganscale evaluate runs/nowhere", "no experiment is called nowhere"),
        ("ganscale train configs/mnist_mpl.yaml", "no such experiment file"),
        ("ganscale train configs/mnist_mlp.yaml train.stesp=3", "did you mean train.steps"),
        ("ganscale sweep configs/sweeps/mnist_lr.yaml train.stesp=3", "did you mean train.steps"),
        ("sbatch --nodes 2 slurm/trian.sbatch configs/mnist_mlp.yaml", "slurm/trian.sbatch"),
        ("sbatch --noeds 2 slurm/train.sbatch configs/mnist_mlp.yaml", "is --noeds an option"),
        ("sbatch slurm/train.sbatch configs/mnist_mlp.yaml seed=x", "seed='x'"),
        ("python bench/data.py --minst ROOT", "has no --minst"),
        ("python bench/date.py", "No such file"),
        ("accelerate launch --config_file launch/accelerate/dp.yaml -m ganscale", "dp.yaml"),
        ("accelerate launch --num_procs 2 -m ganscale train …", "num_procs"),
        ("accelerate launch -m ganscale train configs/mnist_mlp.yaml --steps 3", "--steps"),
        ("torchrun --nproc_per_nod 4 --x bench/reduction.py", "--x"),
        ("PYHTON=3 ./launch/quickstart.sh", "nothing reads PYHTON"),
        ("./launch/node.sh zero9 configs/mnist_mlp.yaml", "zero9"),
        ("frobnicate", "frobnicate"),
    ],
)
def test_a_wrong_command_is_found(line: str, message: str) -> None:
    with pytest.raises(Exception, match=re.escape(message)):
        check(shlex.split(line))


@pytest.mark.parametrize(
    "line",
    [
        'Generator.from_run("runs/x", chekpoint="best")',
        "Generator.from_run('x').samples(3)",
        "generator = Generator.from_run('x')\ngenerator.sample(3, sed=1)",
        "from ganscale.gan.losses import Lss",
    ],
)
def test_wrong_python_code_is_found(line: str) -> None:
    with pytest.raises((TypeError, AttributeError)):
        check_code(f"from ganscale import Generator\n{line}", {})


@pytest.mark.parametrize(
    "text",
    [
        "ganscale launch",
        "ganscale stop --frce",
        "train.batchsize",
        "train.steps=x",
        "--no-such-option",
        "tests/nothing.py",
        "gan/games.py",
    ],
)
def test_a_wrong_mention_is_found(text: str) -> None:
    with pytest.raises((AssertionError, GanscaleError)):
        check_piece(Code("README.md", 1, "", text))
