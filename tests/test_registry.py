"""Names that lead to code: built in, in a file, in a module, in an installed package."""

from collections.abc import Callable
from pathlib import Path

import pytest

from ganscale.errors import GanscaleError
from ganscale.registry import Registry, call, is_custom, short_name

Function = Callable[[], int]


@pytest.fixture
def registry() -> Registry[Function]:
    numbers = Registry[Function](
        "number", "ganscale.numbers", wanted="a function", accepts=callable
    )
    numbers.register("three")(lambda: 3)
    return numbers


def test_only_a_place_and_an_identifier_name_custom_code() -> None:
    assert is_custom("a/b.py:Name")
    assert is_custom("package.module:name")
    assert not any(map(is_custom, ("hinge", "a.py", "s3://bucket/x", ":x", "a.py:", "a.py:b-c")))
    assert short_name("a/b.py:Name") == "Name"


def test_a_built_in_entry(registry: Registry[Function]) -> None:
    assert registry.names() == registry.built_in() == ("three",)
    assert registry.get("three")() == 3


def test_a_file_is_executed_once_however_often_it_is_named(
    registry: Registry[Function], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from pathlib import Path\n"
        "with Path(__file__).with_name('log').open('a') as log: log.write('x')\n"
        "def four(): return 4\n"
        "def five(): return 5\n"
        "six = 6\n"
    )
    monkeypatch.chdir(tmp_path)
    assert [registry.get(name)() for name in ("mine.py:four", f"{file}:five")] == [4, 5]
    assert (tmp_path / "log").read_text() == "x"
    with pytest.raises(GanscaleError, match=r"number mine\.py:six: six is not a function"):
        registry.get("mine.py:six")
    with pytest.raises(GanscaleError, match=r"mine\.py:seven: mine\.py defines no seven"):
        registry.get("mine.py:seven")


def test_a_file_that_fails_is_executed_again_when_it_has_been_mended(
    registry: Registry[Function], tmp_path: Path
) -> None:
    file = tmp_path / "mine.py"
    file.write_text("1 / 0\n")
    with pytest.raises(ZeroDivisionError):
        registry.get(f"{file}:four")
    file.write_text("four = lambda: 4  # mended\n")
    assert registry.get(f"{file}:four")() == 4


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("thre", "unknown number 'thre': did you mean three? use three, or a number of your own"),
        ("nowhere.py:x", "number nowhere.py:x: no file "),
        ("no_such_package.x:y", "number no_such_package.x:y: No module named 'no_such_package'"),
    ],
)
def test_a_name_that_leads_nowhere(registry: Registry[Function], name: str, message: str) -> None:
    with pytest.raises(GanscaleError) as error:
        registry.get(name)
    assert message in str(error.value)


def test_a_name_is_registered_once(registry: Registry[Function]) -> None:
    with pytest.raises(ValueError, match="three is registered twice"):
        registry.register("three")(int)
    with pytest.raises(GanscaleError, match="is not a function"):
        registry.register("four")(4)


def test_an_installed_package_that_cannot_be_imported(
    registry: Registry[Function], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    information = tmp_path / "broken-1.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Name: broken\nVersion: 1\n")
    (information / "entry_points.txt").write_text("[ganscale.numbers]\none = not_there:one\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert registry.names() == ("three", "one")
    with pytest.raises(GanscaleError, match="number one: the installed package broken offers it"):
        registry.get("one")
    assert registry.get("three")() == 3


def test_arguments_that_do_not_fit_get_a_message() -> None:
    def area(width: int, height: int = 1) -> int:
        return width * height

    assert call("shape area", area, {"width": 2, "height": 3}) == 6
    with pytest.raises(GanscaleError, match=r"shape area: its arguments do not fit .*depth"):
        call("shape area", area, {"width": 2, "depth": 3})
