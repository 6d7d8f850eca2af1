"""Where each name is explained: what docstrings and signatures refer to, found as Python would find it."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterable
from importlib import import_module
from itertools import pairwise
from types import ModuleType
from typing import Any, NamedTuple

__all__ = ["Names", "Place", "constant_docstring", "home", "public", "unwrapped"]


class Place(NamedTuple):
    """A page and a name on it."""

    page: str
    """The module."""
    anchor: str
    """The name within it; empty for the page itself."""

    def address(self, page: str) -> str:
        """Give the relative address of this place.

        Parameters
        ----------
        page
            The module whose page refers to it.

        Returns
        -------
        str
            Of the file, if it is another, and the name.
        """
        fragment = f"#{self.anchor}" if self.anchor else ""
        if page == self.page:
            return fragment or "#"
        return "../" * page.count(".") + self.page.replace(".", "/") + ".html" + fragment


def public(module: ModuleType) -> dict[str, Any]:
    """Give what a module promises, by name.

    Parameters
    ----------
    module
        With ``__all__``; names that it attaches when they are first used are attached.

    Returns
    -------
    dict
        In the order of ``__all__``.
    """
    return {name: getattr(module, name) for name in module.__all__}


def unwrapped(value: Any) -> Any:
    """Give the function that was written, under decorators and compilers.

    Parameters
    ----------
    value
        Anything.

    Returns
    -------
    Any
        The function, or what was given.
    """
    return inspect.unwrap(getattr(value, "py_func", value)) if callable(value) else value


class Names:
    """Places of the names on all pages.

    Parameters
    ----------
    pages
        Names of the modules. Where a name is on several pages, the first is its place.
    """

    def __init__(self, pages: Iterable[str]) -> None:
        self.pages = {page: import_module(page) for page in pages}
        self._of: dict[int, Place] = {}
        self._named: dict[Place, Any] = {}
        for page, module in self.pages.items():
            for name, value in public(module).items():
                if not isinstance(value, ModuleType):
                    place = Place(page, name)
                    self._named[place] = value
                    if _has_identity(value):
                        self._of.setdefault(id(unwrapped(value)), place)

    def find(self, name: str, module: str, owner: type | None = None) -> Place | None:
        """Find the place of a name.

        Parameters
        ----------
        name
            With dots or without, as written in a docstring or a signature.
        module
            Where it is written.
        owner
            The class within which it is written, if it is in one.

        Returns
        -------
        Place or None
            None where it has no place, or is no name at all.
        """
        found = self.resolve(name, module, owner)
        return None if found is None else found[1]

    def resolve(self, name: str, module: str, owner: type | None = None) -> tuple[Any, Place | None] | None:
        """Find what a name stands for, and its place if it has one.

        Parameters
        ----------
        name, module, owner
            As in `find`.

        Returns
        -------
        tuple or None
            None where it stands for nothing.
        """
        parts = name.removesuffix("()").split(".")
        if not all(part.isidentifier() for part in parts):
            return None
        for start in self._starts(parts[0], module, owner):
            value, place = start
            for part in parts[1:]:
                if not _has(value, part):
                    break
                above, value = value, getattr(value, part, None)  # a field has no value
                inside = self._attribute(above, part) if inspect.isclass(above) else self._member(place, part)
                place = self._place(value) or inside
            else:
                return value, place
        return None

    def _starts(self, name: str, module: str, owner: type | None) -> Iterable[tuple[Any, Place | None]]:
        """What a name may stand for where it is written: nearest first."""
        if owner is not None and _has(owner, name):
            yield getattr(owner, name, None), self._attribute(owner, name)
        for package in dict.fromkeys((module, module.rpartition(".")[0] or module, "ebmodel")):
            inside = import_module(package)
            if _has(inside, name):
                value = getattr(inside, name)
                yield value, self._place(value) or self._constant(package, name)
        if name in ("ebmodel", *sys.modules):
            yield sys.modules[name], self._place(sys.modules[name])

    def _place(self, value: Any) -> Place | None:
        if isinstance(value, ModuleType):
            return Place(value.__name__, "") if value.__name__ in self.pages else None
        return self._of.get(id(unwrapped(value)))

    def _constant(self, module: str, name: str) -> Place | None:
        """Place of a value that may be equal to others: only its name tells it."""
        for page in (module, module.rpartition(".")[0]):
            place = Place(page, name)
            if place in self._named:
                return place
        return None

    def explained(self, cls: type, name: str) -> type:
        """Find the class with whose page a member is explained.

        Parameters
        ----------
        cls
            A class on a page.
        name
            Of its member.

        Returns
        -------
        type
            The class itself, or the one that it has the member from, if that is on a page.
        """
        for base in cls.__mro__:
            if name in vars(base) or name in inspect.get_annotations(base):
                return base if self._place(base) else cls
        return cls

    def _attribute(self, cls: type, name: str) -> Place | None:
        place = self._place(self.explained(cls, name))
        return None if place is None else Place(place.page, f"{place.anchor}.{name}")

    def _member(self, place: Place | None, name: str) -> Place | None:
        if place is None:
            return None
        return None if place.anchor else self._constant(place.page, name)


def _has_identity(value: Any) -> bool:
    """Whether it is one object: numbers, words and tuples that are equal may be the same, whatever their names."""
    return not isinstance(value, bool | int | float | str | tuple)


def _has(value: Any, name: str) -> bool:
    """Whether something has such a member: a class perhaps as a field, a package as a module, which is imported."""
    if hasattr(value, name) or (inspect.isclass(value) and name in inspect.get_annotations(value)):
        return True
    if isinstance(value, ModuleType) and hasattr(value, "__path__"):
        try:
            import_module(f"{value.__name__}.{name}")
        except ImportError:
            return False
        return True
    return False


def home(module: ModuleType, name: str) -> ModuleType:
    """Find the module in which a name is assigned.

    Parameters
    ----------
    module
        That has the name, perhaps imported from another of the package.
    name
        Of a constant.

    Returns
    -------
    module
        Where its docstring is.
    """
    for node in _statements(module):
        imported = {alias.asname or alias.name for alias in node.names} if isinstance(node, ast.ImportFrom) else ()
        if isinstance(node, ast.ImportFrom) and node.module and name in imported:
            return home(import_module(node.module), name)
    return module


def constant_docstring(module: ModuleType, name: str) -> str:
    """Give the text below the line that assigns a constant, alone or with others.

    Parameters
    ----------
    module
        Its `home`.
    name
        Of the constant, or of a type.

    Returns
    -------
    str
        Empty where there is none.
    """
    for node, below in pairwise(_statements(module)):
        targets = (
            node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", getattr(node, "name", None))]
        )
        names = {
            leaf.id
            for one in targets
            if isinstance(one, ast.AST)
            for leaf in ast.walk(one)
            if isinstance(leaf, ast.Name)
        }
        if name in names and isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
            return str(below.value.value)
    return ""


def _statements(module: ModuleType) -> list[ast.stmt]:
    return ast.parse(inspect.getsource(module)).body
