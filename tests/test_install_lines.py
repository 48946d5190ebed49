"""What messages and pages say of installing is true."""

import re
import shlex

import pytest

from ganscale.data.shards.extras import EXTRAS
from tests.system.processes import ROOT

try:
    import tomllib
except ImportError:  # Python 3.10
    import tomli as tomllib  # type: ignore[no-redef]

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
WHEEL = f"./ganscale-{PROJECT['version']}-py3-none-any.whl"
FILES = [
    *(ROOT / "src").rglob("*.py"),
    *(ROOT / "docs").glob("*.md"),
    *(ROOT / "launch").rglob("*.*"),
    *(ROOT / "docker").glob("*"),
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
]
TESTED = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"]]
DEPENDENCIES = [re.split(r"[\s<>=!~\[;]", line)[0] for line in TESTED]
WITH_A_VALUE = ("--python", "--constraint")
WITHOUT = (
    "--quiet",
    "--no-deps",
    "--compile-bytecode",
    "--no-cache-dir",
    "--no-cache",
    "--editable",
    "-e",
)


NOT_IN_CI = {"s3", "gcs", "aim", "clearml", "comet", "dvclive", "swanlab", "trackio"}


def lines() -> list[tuple[str, str]]:
    """Each place that tells to install something, and what follows `pip install` there."""
    found = []
    for path in FILES:
        if path.is_file():
            text = path.read_text().replace("\\\n", " ")
            for match in re.finditer(r"pip install ('ganscale\[[^']*'|[^\n`]*)", text):
                line = re.sub(r'".*|&&.*|#.*|\)$', "", match[1].strip())
                found.append((f"{path.relative_to(ROOT)}: pip install {line}", line))
    return found


LINES = lines()


@pytest.mark.parametrize("line", [line for _, line in LINES], ids=[place for place, _ in LINES])
def test_what_is_to_be_installed_exists(line: str) -> None:
    words = shlex.split(line)
    named = []
    while words:
        word = words.pop(0)
        if word in WITH_A_VALUE:
            words.pop(0)
        elif word not in (*WITHOUT, "--disable-pip-version-check"):
            named.append(word)
    assert named
    for name in named:
        name = name.replace("[{extra}]", "[s3]")  # every value of it is tested below
        project, extra = re.fullmatch(r"([\w.*/-]+)(?:\[(\w+)\])?", name).groups()  # type: ignore[union-attr]
        assert project in ("uv", ".", "ganscale", WHEEL, *DEPENDENCIES)
        assert extra is None or extra in PROJECT["optional-dependencies"]
        # ganscale is in no package index: only where it is installed does pip find its extras
        assert project != "ganscale" or extra is not None


def test_each_optional_part_says_how_to_install_it() -> None:
    messages = "".join(path.read_text() for path in (ROOT / "src").rglob("*.py"))
    named = set(re.findall(r"pip install 'ganscale\[(\w+)\]'", messages)) | set(EXTRAS.values())
    assert named == set(PROJECT["optional-dependencies"]) - {"dev", "docs"}


def test_developers_have_every_extra() -> None:
    """All but those that no test can reach, and trackers whose install costs CI too much."""
    extras = PROJECT["optional-dependencies"]
    reached = [names for extra, names in extras.items() if extra not in NOT_IN_CI]
    assert {name for names in reached for name in names} == set(extras["dev"])


def test_the_tested_versions_hold_every_dependency() -> None:
    tested = (ROOT / "constraints.txt").read_text().lower().replace("_", "-")
    every = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"]]
    for requirement in every:
        name = re.split(r"[>=<\[]", requirement)[0].lower().replace("_", "-")
        assert re.search(rf"^{re.escape(name)}==", tested, re.MULTILINE), name
