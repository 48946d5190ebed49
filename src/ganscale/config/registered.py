"""Fields of an experiment that name an entry of a registry, such as a loss or a network.

The schema must not import the packages whose entries it names. An annotation therefore gives the
location of the registry as text, such as `ganscale.gan.losses:LOSSES`, and the registry is imported
when a value is first checked. User code (`file.py:Name`) is never loaded here, because an
experiment may come from an untrusted source.
"""

import importlib
import typing
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationError
from pydantic.fields import FieldInfo
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, InitErrorDetails, PydanticKnownError, core_schema

from ganscale.registry import CUSTOM, Registry, is_custom

S = TypeVar("S", bound=BaseModel)


def registry_at(place: str) -> Registry[Any]:
    """Return the registry that `package.module:NAME` names."""
    module, _, name = place.partition(":")
    registry = getattr(importlib.import_module(module), name)
    assert isinstance(registry, Registry)
    return registry


class NameOf:
    """Annotation for a string that is the name of an entry.

    `besides` lists further strings that are allowed; `only` returns whether an entry is allowed.
    """

    def __init__(
        self,
        registry: str,
        besides: tuple[str, ...] = (),
        only: Callable[[Any], bool] | None = None,
    ):
        self._place = registry
        self._besides = besides
        self._only = only

    @property
    def registry(self) -> Registry[Any]:
        """The registry whose entries may be named."""
        return registry_at(self._place)

    def names(self) -> tuple[str, ...]:
        """Return all allowed strings, except the names of user code."""
        registry, only = self.registry, self._only
        named = registry.names()
        if only is not None:
            named = tuple(name for name in named if only(registry.get(name)))
        return (*self._besides, *named)

    def check(self, name: str) -> str:
        """Return the name; raise `ValueError` if it is neither an allowed name nor user code."""
        if name in self._besides or is_custom(name):
            return name
        names = self.names()
        if name not in names:
            raise ValueError(self.registry.about_unknown(name, names))
        return name

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        listed = {**_listed(self.registry, self.names()), "type": "string"}
        return {"anyOf": [listed, {"pattern": CUSTOM, "type": "string"}]}


class OptionsOf(Generic[S]):
    """Annotation for the section of an entry: its name under the key `tag`, and its options.

    The section is an instance of the options model with which the entry is registered, or of `base`
    if there is none. For user code it is an instance of `custom`. All of these derive from `base`.
    `default` is the name if the tag is missing.
    """

    def __init__(
        self,
        registry: str,
        tag: str,
        base: type[S],
        custom: type[S],
        default: str | None = None,
    ):
        self._name = NameOf(registry)
        self.tag = tag
        self._base = base
        self._custom = custom
        self._default = default

    @property
    def registry(self) -> Registry[Any]:
        """The registry whose entries may be named."""
        return self._name.registry

    def model(self, name: str) -> type[S]:
        """Return the model of an entry's section."""
        if is_custom(name):
            return self._custom
        options = self.registry.options(name) or self._base
        if not issubclass(options, self._base):
            wanted = f"{self._base.__module__}.{self._base.__name__}"
            raise TypeError(f"the options of {self.registry.kind} {name} derive from {wanted}")
        return options

    def models(self) -> dict[str, type[S]]:
        """Return the model of each registered entry, by name."""
        return {name: self.model(name) for name in self.registry.names()}

    def name_in(self, values: Any) -> str | None:
        """Return the name of the entry in a section's values; None if it is not a valid name."""
        name = values.get(self.tag, self._default) if isinstance(values, dict) else None
        if isinstance(name, str) and (is_custom(name) or name in self.registry.names()):
            return name
        return None

    def section(self) -> S:
        """Return the section of the default entry with its default options."""
        return self.validate({})

    def validate(self, value: Any) -> S:
        """Return the section that these values describe."""
        if isinstance(value, self._base):
            return value
        if not isinstance(value, dict):
            raise PydanticKnownError("dict_type")
        name = value.get(self.tag, self._default)
        if not isinstance(name, str):
            return self._base.model_validate(value)  # raises an error about the tag
        try:
            self._name.check(name)
        except ValueError as error:
            mistake = InitErrorDetails(
                type="value_error", loc=(self.tag,), input=name, ctx={"error": error}
            )
            raise ValidationError.from_exception_data(self._base.__name__, [mistake]) from None
        return self.model(name).model_validate({**value, self.tag: name})

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.validate)

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Return one alternative for each model, with the names that use it."""
        named: dict[type[S], list[str]] = {}
        for name, model in self.models().items():
            named.setdefault(model, []).append(name)
        alternatives = []
        for model, names in [*named.items(), (self._custom, [])]:
            alternative = handler.resolve_ref_schema(handler(model.__pydantic_core_schema__))
            tag = alternative["properties"][self.tag]
            tag |= _listed(self.registry, names) if names else {"pattern": CUSTOM}
            if self._default in names:
                tag["default"] = self._default
                alternative["required"] = [k for k in alternative["required"] if k != self.tag]
            alternatives.append(alternative)
        return {"anyOf": alternatives}


def _listed(registry: Registry[Any], names: Iterable[str]) -> JsonSchemaValue:
    """Return the schema of a string that is one of these names, with a summary of each."""
    return {"enum": list(names), "enumDescriptions": [registry.summary(name) for name in names]}


def custom_code(section: BaseModel) -> Iterator[tuple[str, str, BaseModel | None]]:
    """Yield each name of user code in an experiment, or in one of its sections.

    Each item is the kind of entry, the name and, if the entry has a section, that section.
    """
    for key, field in type(section).model_fields.items():
        marker = next(markers(field), None)
        value = getattr(section, key)
        for part in value if isinstance(value, tuple) else (value,):
            is_section = isinstance(part, BaseModel)
            name = getattr(part, marker.tag, None) if isinstance(marker, OptionsOf) else part
            if marker is not None and isinstance(name, str) and is_custom(name):
                yield marker.registry.kind, name, part if is_section else None
            if is_section:
                yield from custom_code(part)


def markers(field: FieldInfo) -> Iterator[NameOf | OptionsOf[Any]]:
    """Yield each `NameOf` and `OptionsOf` annotation of a field or of a part of its type."""
    yield from (part for part in field.metadata if isinstance(part, NameOf | OptionsOf))
    yield from _markers_in(field.annotation)


def _markers_in(annotation: Any) -> Iterator[NameOf | OptionsOf[Any]]:
    if isinstance(annotation, NameOf | OptionsOf):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from _markers_in(argument)
