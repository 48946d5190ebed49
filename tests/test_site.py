"""The documentation's site: every link on it leads somewhere, and it asks no other server."""

import logging
import re
from pathlib import Path

import pytest
from mkdocs.commands.build import build
from mkdocs.config import load_config
from mkdocs.exceptions import Abort

from tests.written_pages import ROOT

FETCHED = re.compile(r'<(?:script|img|iframe|link rel="(?:stylesheet|icon)")[^>]*"(https?:[^"]*)')


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the site; a warning of mkdocs, such as a dead link, is an error."""
    folder = tmp_path_factory.mktemp("site")
    warnings: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: warnings.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("mkdocs").addHandler(handler)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        try:
            build(load_config(str(ROOT / "mkdocs.yml"), site_dir=str(folder)))
        except Abort:
            pytest.fail("\n".join(warnings))
        finally:
            logging.getLogger("mkdocs").removeHandler(handler)
    return folder


def test_every_page_is_there_in_readmes_order(site: Path) -> None:
    pages = {path.stem for path in (ROOT / "docs").glob("*.md")}
    assert all((site / page / "index.html").is_file() for page in pages)
    home = (site / "index.html").read_text()
    guide = re.findall(r'href="([\w-]+)/" class="md-nav__link"', home)
    read_on = (ROOT / "README.md").read_text().partition("**Read on:**")[2]
    in_order = re.findall(r"\(docs/([\w-]+)\.md\)", read_on)
    assert guide[: len(in_order)] == in_order
    assert pages <= set(guide)


def test_docstrings_are_on_the_pages_of_the_api(site: Path) -> None:
    page = (site / "api" / "gan" / "index.html").read_text()
    assert 'id="ganscale.gan.penalties.Penalty.__call__"' in page
    assert "<code>random(shape)</code> returns uniform numbers" in page


def test_a_linked_file_of_the_repository_is_a_page(site: Path) -> None:
    home = (site / "index.html").read_text()
    assert 'href="files/tests/reference.py/"' in home
    assert "float64" in (site / "files" / "tests" / "reference.py" / "index.html").read_text()


def test_no_page_fetches_anything_from_another_server(site: Path) -> None:
    for page in site.rglob("*.html"):
        assert not FETCHED.findall(page.read_text()), page
