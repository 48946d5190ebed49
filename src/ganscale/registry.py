"""Names that an experiment may use for code: built in, from an installed package, or one's own.

Each kind of thing that can be added (a loss, a penalty, a network, …) has one registry, which
stands beside the base class of its kind. A decorator adds an entry:

    @LOSSES.register("hinge")
    class Hinge(Loss): ...

Three kinds of names find one:

- `hinge`: an entry that ganscale brings along, or one that an installed package offers under the
  registry's entry-point group, such as `ganscale.losses`;
- `path/to/file.py:Name`: an attribute of a Python file;
- `package.module:Name`: an attribute of a module that Python can import.

The last two are the user's own code. `is_custom` tells them apart without running anything.
"""

import difflib
import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ganscale.custom_code import import_file
from ganscale.errors import GanscaleError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from pydantic import BaseModel

CUSTOM = r"^[^:]+:[A-Za-z_]\w*$"
"""Pattern of a name that leads to the user's own code."""
NEAR = 0.7  # least similarity of a name that is suggested

T = TypeVar("T")
V = TypeVar("V")


def is_custom(name: str) -> bool:
    """Return whether the name leads to the user's own code: `file.py:Name` or `module:Name`."""
    return re.match(CUSTOM, name) is not None


def short_name(name: str) -> str:
    """Return what logs and files call an entry: its name, or that in the user's own code."""
    return name.rpartition(":")[2]


def log_name(name: str) -> str:
    """Return what the log calls the numbers of an entry: its short name in letters that W&B sorts.

    Every other character becomes an underscore, so that the name matches `[_a-zA-Z][_a-zA-Z0-9]*`:
    W&B can neither sort nor filter runs by a number whose name does not
    (https://docs.wandb.ai/models/track/log).
    """
    plain = re.sub(r"\W", "_", short_name(name), flags=re.ASCII)
    return f"_{plain}" if plain[:1].isdigit() else plain


@dataclass(frozen=True)
class _Entry(Generic[T]):
    value: T
    options: "type[BaseModel] | None"


class Registry(Generic[T]):
    """The entries of one kind, by name.

    `kind` names the kind in messages; `group` is the entry-point group of installed packages;
    `modules` are the dotted names of the modules, or packages of modules, that register what
    ganscale brings along, and are imported when the registry is first asked; `wanted` says in
    messages what an entry has to be, and `accepts` returns whether a value is that.
    """

    def __init__(
        self,
        kind: str,
        group: str,
        *,
        wanted: str,
        accepts: Callable[[Any], bool],
        modules: Sequence[str] = (),
    ):
        self.kind = kind
        self.group = group
        self._wanted = wanted
        self._accepts = accepts
        self._modules = list(modules)
        self._entries: dict[str, _Entry[T]] = {}
        self._from_packages: set[str] = set()
        self._installed: dict[str, EntryPoint] | None = None

    def register(self, name: str, options: "type[BaseModel] | None" = None) -> Callable[[V], V]:
        """Return a decorator that adds an entry, with the model of its options if it has any."""

        def add(value: V) -> V:
            self._add(name, value, options)
            return value

        return add

    def get(self, name: str) -> T:
        """Return the entry of that name; raise `GanscaleError` where there is none."""
        if is_custom(name):
            return self._checked(name, _load_custom(self.kind, name))
        return self._entry(name).value

    def options(self, name: str) -> "type[BaseModel] | None":
        """Return the model of the options of a registered entry, or None if it has none."""
        return self._entry(name).options

    def summary(self, name: str) -> str:
        """Return the first line of an entry's docstring; nothing where it is not yet imported."""
        entry = self._loaded().get(name)
        return (inspect.getdoc(entry.value) or "").partition("\n")[0] if entry is not None else ""

    def names(self) -> tuple[str, ...]:
        """Return every name that may be used, except those of the user's own files."""
        return tuple(dict.fromkeys([*self.built_in(), *self._offered()]))

    def built_in(self) -> tuple[str, ...]:
        """Return the names of what ganscale itself brings along."""
        return tuple(name for name in self._loaded() if name not in self._from_packages)

    def about_unknown(self, name: str, names: Sequence[str] | None = None) -> str:
        """Return what to say of a name that is not among some, or all: which are, and one's own."""
        names = self.names() if names is None else names
        near = difflib.get_close_matches(name, names, n=1, cutoff=NEAR)
        suggestion = f"did you mean {near[0]}? " if near else ""
        return (
            f"{suggestion}use {', '.join(names)}, or a {self.kind} of your own as "
            "path/to/file.py:Name"
        )

    def _entry(self, name: str) -> _Entry[T]:
        if name not in self._loaded():
            if name not in self._offered():
                raise GanscaleError(f"unknown {self.kind} {name!r}: {self.about_unknown(name)}")
            self._load_installed(name, self._offered()[name])
        return self._entries[name]

    def _add(self, name: str, value: Any, options: "type[BaseModel] | None") -> None:
        known = self._entries.get(name)
        if known is not None and _origin(known.value) != _origin(value):
            raise ValueError(f"the {self.kind} {name} is registered twice")
        self._entries[name] = _Entry(self._checked(name, value), options)

    def _checked(self, name: str, value: Any) -> T:
        if not self._accepts(value):
            raise GanscaleError(
                f"{self.kind} {name}: {name.rpartition(':')[2]} is not {self._wanted}"
            )
        entry: T = value
        return entry

    def _loaded(self) -> dict[str, _Entry[T]]:
        """Return the entries, after the modules that register them have been imported.

        They stand in the order of the modules, whichever of these was imported first.
        """
        if self._modules:
            places: list[str] = []
            for name in self._modules:
                module = importlib.import_module(name)
                inner = pkgutil.iter_modules(getattr(module, "__path__", ()), f"{name}.")
                places += [name, *(found.name for found in inner)]
            for place in places:
                importlib.import_module(place)
            rank = {place: i for i, place in reversed(list(enumerate(places)))}
            by_module = sorted(
                self._entries.items(),
                key=lambda entry: rank.get(_origin(entry[1].value)[0], len(places)),
            )
            self._entries = dict(by_module)
            self._modules = []
        return self._entries

    def _offered(self) -> "dict[str, EntryPoint]":
        """Return what installed packages offer, without importing them."""
        if self._installed is None:
            from importlib.metadata import entry_points

            self._installed = {point.name: point for point in entry_points(group=self.group)}
        return self._installed

    def _load_installed(self, name: str, point: "EntryPoint") -> None:
        package = point.dist.name if point.dist is not None else point.module
        try:
            value = point.load()
        except (ImportError, AttributeError) as error:
            raise GanscaleError(
                f"{self.kind} {name}: the installed package {package} offers it, and it cannot be "
                f"imported ({error})"
            ) from None
        self._from_packages.add(name)
        if name not in self._entries:  # unless the package's own decorator has added it
            self._add(name, value, None)


def is_subclass_of(*bases: type) -> Callable[[Any], bool]:
    """Return a check for `accepts`: a class derived from one of these that can be instantiated."""
    return lambda value: (
        inspect.isclass(value) and issubclass(value, bases) and not inspect.isabstract(value)
    )


def call(what: str, entry: Callable[..., V], arguments: Mapping[str, Any]) -> V:
    """Return what an entry of the user's own makes of these keyword arguments.

    Raises `GanscaleError` where it does not take them; `what` names it.
    """
    try:
        inspect.signature(entry).bind(**arguments)
    except TypeError as error:
        given = f"is called with {', '.join(arguments)}" if arguments else "is given no arguments"
        raise GanscaleError(f"{what}: its arguments do not fit ({error}); it {given}") from None
    return entry(**arguments)


def _load_custom(kind: str, name: str) -> Any:
    """Return the attribute that `path/to/file.py:Name` or `package.module:Name` names."""
    location, _, attribute = name.rpartition(":")
    if location.endswith(".py"):
        path = Path(location)
        if not path.is_file():
            raise GanscaleError(f"{kind} {name}: no file {path.resolve()}")
        module = import_file(path)
    else:
        try:
            module = importlib.import_module(location)
        except ModuleNotFoundError as error:
            raise GanscaleError(f"{kind} {name}: {error}") from None
    if not hasattr(module, attribute):
        raise GanscaleError(f"{kind} {name}: {location} defines no {attribute}")
    return getattr(module, attribute)


def _origin(value: Any) -> tuple[Any, Any]:
    return getattr(value, "__module__", None), getattr(value, "__qualname__", value)
