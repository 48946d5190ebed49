"""What mkdocs does not find in docs/: README, the order of the pages, the API, files they link to.

mkdocs calls the functions of this file, whose names are its own.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
BESIDE_DOCS = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
}
"""Pages that stand at the root of the repository, and what they are called on the site."""
LINK = re.compile(r"(?<=\]\()([^)\s#]+)")
API = {
    "library": "What a program uses: training, and trained generators.",
    "gan": "The game: losses, penalties, augmentation, averages, schedules.",
    "networks": "Generators and discriminators.",
    "data/packing": "From images anywhere to shards.",
    "data/reading": "From shards to batches.",
    "evaluation/metrics": "Scores.",
    "evaluation/features": "The networks whose features scores compare.",
    "training": "The loop, and the update of a player's weights.",
    "engines": "How processes work together.",
}
"""The packages whose public names the site lists, and what they are."""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Order the pages as README's last paragraph does; those that it does not name follow."""
    named = re.findall(r"\]\(docs/([\w-]+\.md)\)", (ROOT / "README.md").read_text())
    pages = sorted(path.name for path in (ROOT / "docs").glob("*.md"))
    in_order = [page for page in dict.fromkeys([*_last_of_each(named), *pages]) if page in pages]
    config.nav = [
        {"Overview": "index.md"},
        {"Guide": in_order},
        {"API": [f"api/{_page_of(package)}" for package in API]},
        {"Project": ["contributing.md", "security.md"]},
    ]
    return config


def _last_of_each(names: list[str]) -> list[str]:
    """Return the names in the order in which each was last given."""
    return list(dict.fromkeys(reversed(names)))[::-1]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that do not stand in docs/, and the files that any page links to."""
    for source, page in BESIDE_DOCS.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text()))
    for package, meaning in API.items():
        page = f"api/{_page_of(package)}"
        files.append(File.generated(config, page, content=_api(package, meaning)))
    own = {page: source for source, page in BESIDE_DOCS.items()}
    for file in list(files.documentation_pages()):
        source = own.get(file.src_uri, f"docs/{file.src_uri}")
        for target in LINK.findall(file.content_string):
            found = _repository_path(source, target)
            if found is not None and files.get_file_from_path(_site_path(found)) is None:
                listing = File.generated(config, _site_path(found), content=_listing(found))
                listing.inclusion = InclusionLevel.NOT_IN_NAV
                files.append(listing)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links to files of the repository into links to their pages on the site."""
    own = {page: source for source, page in BESIDE_DOCS.items()}
    source = own.get(page.file.src_uri, f"docs/{page.file.src_uri}")
    here = posixpath.dirname(page.file.src_uri)

    def on_the_site(match: re.Match[str]) -> str:
        found = _repository_path(source, match[1])
        return match[1] if found is None else posixpath.relpath(_site_path(found), here or ".")

    return LINK.sub(on_the_site, markdown)


def _repository_path(source: str, target: str) -> str | None:
    """Return the path in the repository that a page's link leads to; None if that is not a file."""
    path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
    return path if "://" not in target and (ROOT / path).is_file() else None


def _site_path(path: str) -> str:
    """Return where a file of the repository stands on the site."""
    if path in BESIDE_DOCS:
        return BESIDE_DOCS[path]
    return path.removeprefix("docs/") if path.startswith("docs/") else f"files/{path}.md"


def _listing(path: str) -> str:
    """Return a page that shows a file."""
    language = {".py": "python", ".yaml": "yaml", ".sh": "bash"}.get(Path(path).suffix, "text")
    code = (ROOT / path).read_text()
    return f"---\nsearch: {{exclude: true}}\n---\n# {path}\n\n````{language}\n{code}\n````\n"


def _page_of(package: str) -> str:
    return f"{package.replace('/', '-')}.md"


def _api(package: str, meaning: str) -> str:
    """Return a page with every module of a package that says what it offers."""
    folder = ROOT / "src" / "ganscale" / package
    modules = sorted(path for path in folder.rglob("*.py") if path.name != "__init__.py")
    names = [".".join(path.relative_to(ROOT / "src").with_suffix("").parts) for path in modules]
    title = f"# ganscale.{package.replace('/', '.')}"
    return "\n\n".join([title, meaning, *(f"::: {name}" for name in names)]) + "\n"
