"""A file is placed by what it may know: imports run one way, and never in a circle."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src"
LAYERS = (
    (
        *("custom_code", "errors", "files", "validation", "registry", "terminal", "shipped"),
        *("system_errors", "devices", "philox", "randomness", "host_randomness", "tensor_file"),
    ),
    ("config",),
    ("profiling",),
    ("gan", "networks"),
    ("engines",),
    ("data", "monitoring"),
    ("evaluation",),
    ("runs",),
    ("training",),
    ("library",),
    ("pages",),
    ("commands",),
    ("cli",),
    ("__main__",),
)
"""From what knows nothing to what knows all; a file imports from its own layer and those before."""
RANK = {room: i for i, layer in enumerate(LAYERS) for room in layer}
APART = {"gan": {"networks"}, "networks": {"gan"}, "data": {"monitoring"}, "monitoring": {"data"}}
COLLECTIVES = "ganscale.engines.distributed"
SHARDING = {"ganscale.engines.fsdp2_player": {"device_mesh", "fsdp", "tensor"}}
"""What else of torch.distributed a file may use: the parts that shard a module."""
MODULES = {
    ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in (SOURCE / "ganscale").rglob("*.py")
}


def imported(module: str) -> Iterator[tuple[str, bool]]:
    """Each module of ours that this one imports, and whether it does so when it is imported."""
    tree = ast.parse(MODULES[module].read_text())
    at_once = {id(node) for node in tree.body}
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            found = name if name in MODULES else name.rpartition(".")[0]
            if found in MODULES and found not in ("ganscale", module):
                yield found, id(node) in at_once


def room(module: str) -> str:
    return module.split(".")[1]


@pytest.mark.parametrize("module", sorted(set(MODULES) - {"ganscale"}))
def test_imports_run_one_way(module: str) -> None:
    own = room(module)
    for other, _ in imported(module):
        assert RANK[room(other)] <= RANK[own], f"{module} must not know {other}"
        assert room(other) not in APART.get(own, ()), f"{module} must not know {other}"


def test_no_module_imports_itself_by_way_of_others() -> None:
    edges = {m: {other for other, at_once in imported(m) if at_once} for m in MODULES}
    done: set[str] = set()

    def visit(module: str, way: tuple[str, ...]) -> None:
        assert module not in way, f"a circle: {' → '.join((*way, module))}"
        if module not in done:
            for other in edges[module]:
                visit(other, (*way, module))
            done.add(module)

    for module in MODULES:
        visit(module, ())


@pytest.mark.parametrize("module", sorted(set(MODULES) - {COLLECTIVES}))
def test_one_file_knows_how_processes_talk_to_each_other(module: str) -> None:
    source = MODULES[module].read_text()
    used = set(re.findall(r"torch\.distributed(?:\.(\w+))?", source))
    assert used <= SHARDING.get(module, set())


def test_the_game_knows_no_machinery() -> None:
    known = {other for other, _ in imported("ganscale.gan.game")}
    assert {room(other) for other in known} == {"gan"}
    source = MODULES["ganscale.gan.game"].read_text()
    assert not re.search(r"accelerat|experiment|rank|time|path|measure:", source, re.IGNORECASE)
    assert len(source.splitlines()) < 100
