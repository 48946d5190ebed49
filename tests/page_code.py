"""Check Python code of the documentation without running it."""

import ast
import importlib
import inspect
import typing
from typing import Any


class Instance:
    """An object that the code would have; only its class is known."""

    def __init__(self, kind: type):
        self.kind = kind


def check_code(source: str, known: dict[str, Any]) -> None:
    """Check imports of ganscale, attributes and calls, as far as they can be told.

    `known` maps names to what they stand for, and receives those that the code adds.
    """
    for statement in ast.parse(source).body:
        _import(statement, known)
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            known[statement.targets[0].id] = _value(statement.value, known)
        elif isinstance(statement, (ast.Expr, ast.For, ast.With)):
            for node in ast.walk(statement):
                if isinstance(node, ast.Call):
                    _value(node, known)


def _import(statement: ast.stmt, known: dict[str, Any]) -> None:
    if isinstance(statement, ast.ImportFrom) and (statement.module or "").startswith("ganscale"):
        module = importlib.import_module(statement.module or "")
        for alias in statement.names:
            known[alias.asname or alias.name] = getattr(module, alias.name)
    elif isinstance(statement, ast.Import):
        for alias in statement.names:
            module = importlib.import_module(alias.name)
            known[alias.asname or alias.name.partition(".")[0]] = module if alias.asname else None


def _value(node: ast.expr, known: dict[str, Any]) -> Any:
    """Return what an expression stands for; None where that cannot be told."""
    if isinstance(node, ast.Name):
        return known.get(node.id)
    if isinstance(node, ast.Attribute):
        owner = _value(node.value, known)
        if isinstance(owner, Instance):
            return getattr(_bare(owner), node.attr)
        return getattr(owner, node.attr) if inspect.isclass(owner) else None
    if isinstance(node, ast.Call):
        return _result(node, _value(node.func, known))
    return None


def _bare(owner: Instance) -> Any:
    """Return an object of the class that was never initialized, for its bound methods."""
    return object.__new__(owner.kind)


def _result(call: ast.Call, function: Any) -> Any:
    """Bind a call's arguments to the function's signature; return what it is said to return."""
    if not callable(function):
        return None
    if not any(isinstance(argument, ast.Starred) for argument in call.args):
        named = {keyword.arg: None for keyword in call.keywords if keyword.arg is not None}
        inspect.signature(function).bind(*[None] * len(call.args), **named)
    if inspect.isclass(function):
        return Instance(function)
    returned = typing.get_type_hints(function).get("return")
    return Instance(returned) if inspect.isclass(returned) else None
