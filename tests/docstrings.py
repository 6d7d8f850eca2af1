"""Docstrings taken apart, and what the names in them stand for: what the tests of the reference read."""

from __future__ import annotations

import ast
import inspect
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module
from inspect import cleandoc
from itertools import pairwise
from textwrap import dedent
from types import ModuleType
from typing import Any, NamedTuple

from ebmodel.reference import CALLED, MATHEMATICS, pages

CALLED_PAGES = ["ebmodel", *pages(CALLED)]
PAGES = {page: import_module(page) for page in [*CALLED_PAGES, *pages(MATHEMATICS)]}
ENTRIES = ("Parameters", "Attributes", "Returns", "Yields", "Raises")
"""Sections that are lists of entries; what any other says is text."""


class Entry(NamedTuple):
    """One line of a list, and what stands indented below it: ``X, Y : (sample, snp)``."""

    names: tuple[str, ...]
    kind: str
    text: str


class Docstring(NamedTuple):
    summary: str
    sections: dict[str, tuple[Entry, ...]]

    def entries(self, title: str) -> tuple[Entry, ...]:
        return self.sections.get(title, ())

    def names(self, title: str) -> tuple[str, ...]:
        return tuple(name for entry in self.entries(title) for name in entry.names)


def parse(docstring: str | None) -> Docstring:
    """Take a docstring in NumPy's style apart."""
    head, *rest = re.split(r"^(\S.*)\n-{3,}(?:\n|$)", cleandoc(docstring or ""), flags=re.MULTILINE)
    sections = {title: entries(title, body) for title, body in zip(rest[::2], rest[1::2], strict=True)}
    return Docstring(head.strip().partition("\n\n")[0], sections)


def entries(title: str, body: str) -> tuple[Entry, ...]:
    found = []
    for item in re.split(r"\n(?=\S)", body.strip("\n")) if title in ENTRIES else ():
        head, _, text = item.partition("\n")
        names, _, kind = head.partition(" : ")
        apart = names.split(", ") if title in ("Parameters", "Attributes", "Raises") else [names]
        found.append(Entry(tuple(apart), kind, dedent(text).strip("\n")))
    return tuple(found)


# Names ----------------------------------------------------------------------------------------------------------------


def public(page: str) -> dict[str, Any]:
    """What a module promises, by name: modules within it left out, functions as they were written."""
    found = {name: getattr(PAGES[page], name) for name in PAGES[page].__all__}
    return {name: unwrapped(value) for name, value in found.items() if not isinstance(value, ModuleType)}


def unwrapped(value: Any) -> Any:
    """The function under decorators and compilers."""
    return inspect.unwrap(getattr(value, "py_func", value)) if callable(value) else value


CLASSES = {value for page in PAGES for value in public(page).values() if inspect.isclass(value)}
"""Those with a page."""


def explained(cls: type, name: str) -> type:
    """The class with which a member is explained: the one that it is from, if that is on a page."""
    has = (base for base in cls.__mro__ if name in vars(base) or name in inspect.get_annotations(base))
    base = next(has, cls)
    return base if base in CLASSES else cls


def meant(name: str, module: str, owner: type | None = None) -> list[Any]:
    """What a name may stand for where it is written, in a class or not: nearest first, a field as None."""
    first, *parts = name.removesuffix("()").split(".")
    around = [import_module(package) for package in (module, module.rpartition(".")[0] or module, "ebmodel")]
    found = [value for place in [owner, *around] for value in attribute(place, first)]
    found += [sys.modules[first]] if first in sys.modules else []
    for part in parts:
        found = [value for above in found for value in attribute(above, part)]
    return found


def attribute(place: Any, name: str) -> list[Any]:
    """An attribute, or a package's module, if there is one."""
    if isinstance(place, ModuleType) and hasattr(place, "__path__") and name.isidentifier():
        with suppress(ImportError):
            import_module(f"{place.__name__}.{name}")
    if place is not None and hasattr(place, name):
        return [getattr(place, name)]
    return [None] if inspect.isclass(place) and name in inspect.get_annotations(place) else []


def home(module: ModuleType, name: str) -> ModuleType:
    """The module in which a name is assigned."""
    for node in ast.parse(inspect.getsource(module)).body:
        if isinstance(node, ast.ImportFrom) and node.module and name in {one.asname or one.name for one in node.names}:
            return home(import_module(node.module), name)
    return module


def constant_docstring(module: ModuleType, name: str) -> str:
    """The text below the line that assigns a constant, alone or with others, or names a type."""
    for node, below in pairwise(ast.parse(inspect.getsource(module)).body):
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", getattr(node, "name", 0))]
        leaves = (leaf for one in targets if isinstance(one, ast.AST) for leaf in ast.walk(one))
        if name in {leaf.id for leaf in leaves if isinstance(leaf, ast.Name)} and isinstance(below, ast.Expr):
            return str(getattr(below.value, "value", ""))
    return ""


# What is documented ---------------------------------------------------------------------------------------------------


class Item(NamedTuple):
    """A public name, or a member of a public class."""

    page: str
    name: str
    kind: str
    """class, function, method, property or constant."""
    value: Any
    owner: type | None = None

    @property
    def docstring(self) -> str:
        if self.kind == "constant":
            return constant_docstring(home(PAGES[self.page], self.name), self.name)
        generated = self.kind == "class" and (self.value.__doc__ or "").startswith(f"{self.value.__name__}(")
        return "" if generated else self.value.__doc__ or ""

    @property
    def function(self) -> Any:
        return self.value.fget if self.kind == "property" else self.value


def items(page: str) -> Iterator[Item]:
    for name, value in public(page).items():
        if inspect.isclass(value):
            yield Item(page, name, "class", value)
            yield from members(page, value)
        else:
            yield Item(page, name, "function" if inspect.isfunction(value) else "constant", value)


def members(page: str, cls: type) -> Iterator[Item]:
    """Methods and properties, those of classes of the package without a page of their own too."""
    seen = set()
    for base in cls.__mro__:
        for name, raw in vars(base).items():
            if name.startswith("_") or name in seen or not base.__module__.startswith("ebmodel"):
                continue
            seen.add(name)
            if explained(cls, name) is not cls:
                continue
            value = unwrapped(raw.__func__ if isinstance(raw, classmethod | staticmethod) else raw)
            if hasattr(raw, "func") and hasattr(raw, "attrname"):  # a cached_property
                value = property(unwrapped(raw.func))
            kind = "property" if isinstance(value, property) else "method" if inspect.isfunction(value) else ""
            if kind:
                yield Item(page, f"{cls.__name__}.{name}", kind, value, cls)
