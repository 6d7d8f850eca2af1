"""pdoc's documentation objects, made readable.

Docstrings become HTML with links; signatures are those of the source, not what its annotations evaluate to; what a
class has from another of the package is shown with it; and compiled functions are shown as functions.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
from collections.abc import Callable
from textwrap import dedent
from types import ModuleType
from typing import Any, ForwardRef, Literal, TypeAliasType, get_origin, is_protocol

import pdoc.doc
from jinja2 import pass_context
from jinja2.runtime import Context
from markupsafe import Markup

from ebmodel.reference.contents import FIRST
from ebmodel.reference.docstrings import parse
from ebmodel.reference.markup import Link, render
from ebmodel.reference.names import Names, constant_docstring, home, unwrapped

__all__ = ["document", "referring", "signature"]

SHORT = 60
"""Characters of a constant's value that are shown; longer ones are in the source."""
NAMED = re.compile(
    r'(?<!<span class="param">)(?<!<span class="param">\t)'
    r'((?:<span class="n">\w+</span><span class="o">\.</span>)*<span class="n">\w+</span>)'
)
"""A name in a highlighted signature, other than a parameter's own."""
PLAIN = re.compile(r"([A-Za-z_][\w.]*)")


class Written:
    """A piece of a signature as it stands in the source."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def document(module: ModuleType, names: Names) -> pdoc.doc.Module:
    """Make a module's page.

    Parameters
    ----------
    module
        One of ``names.pages``.
    names
        Where other names are explained.

    Returns
    -------
    Module
        Whose docstrings are HTML.
    """
    page = pdoc.doc.Module(module)
    page.docstring = _html(module.__doc__, page.modulename, page.modulename, names)
    for name, member in page.members.items():
        value = unwrapped(getattr(module, name))
        if isinstance(member, pdoc.doc.Variable) and inspect.isfunction(value):  # compiled
            page.members[name] = pdoc.doc.Function(page.modulename, name, value, (value.__module__, name))
        _prepare(page.members[name], value, names)
    if hasattr(module, "__path__"):  # nothing but imports
        page.source = ""
    first = [name for name in FIRST.get(page.modulename, ()) if name in page.members]
    page.members = {name: page.members[name] for name in dict.fromkeys([*first, *page.members])}
    return page


def _prepare(member: pdoc.doc.Doc[Any], value: Any, names: Names, owner: type | None = None) -> None:
    where = member.taken_from[0]
    if isinstance(member, pdoc.doc.Class):
        _prepare_class(member, value, names)
    elif isinstance(member, pdoc.doc.Function):
        made = member.name == "__init__"
        member.docstring = "" if made else _html(value.__doc__, where, member.modulename, names, owner)
        member.signature = signature(value)
        member.signature_without_self = signature(owner) if made and owner is not None else member.signature
        member.decorators = ["@classmethod"] if member.is_classmethod else []
    elif isinstance(member, pdoc.doc.Variable):
        _prepare_variable(member, value, names, owner)


def _prepare_class(cls: pdoc.doc.Class, value: type, names: Names) -> None:
    text = parse(value.__doc__ if not (value.__doc__ or "").startswith(f"{value.__name__}(") else "")
    listed = {*text.names("Parameters"), *text.names("Attributes")}
    own, anchors = [], {}
    for name, member in cls.members.items():
        ours = member.taken_from[0].partition(".")[0] == "ebmodel"
        if not ours or (name.startswith("_") and (name != "__init__" or not _is_made(value))):
            continue
        if name != "__init__" and names.explained(value, name) is not value:
            continue
        got = inspect.getattr_static(value, name, None)
        if isinstance(member, pdoc.doc.Variable) and name in listed and not isinstance(got, property):
            anchors[name] = f"{cls.qualname}.{name}"
            continue
        _prepare(member, got.__func__ if isinstance(got, classmethod | staticmethod) else got, names, value)
        own.append(member)
    link = _linking(value.__module__, cls.modulename, names, value)
    cls.docstring = render(text, link, anchors) if text.summary else ""
    cls.own_members = own
    cls.decorators, cls.source = [], ""
    cls.bases = [base for base in cls.bases if base[0] in ("builtins", "typing") or base[0] in names.pages]


def _is_made(cls: type) -> bool:
    """Whether people make objects of a class; not of a protocol, nor of a tuple, whose fields are listed anyway."""
    own = any("__init__" in vars(base) for base in cls.__mro__ if base is not object)
    return own and not issubclass(cls, tuple) and not is_protocol(cls)


def _prepare_variable(variable: pdoc.doc.Variable, value: Any, names: Names, owner: type | None) -> None:
    written, where = variable.docstring, variable.taken_from[0]
    if isinstance(value, property):
        annotation = value.fget.__annotations__.get("return")
        written = value.__doc__ or ""
    elif owner is not None:
        declared = (inspect.get_annotations(base).get(variable.name) for base in owner.__mro__)
        annotation = next((given for given in declared if given is not None), None)
        written = "" if written.startswith("Alias for field number") else written
    else:
        module = home(sys.modules[variable.modulename], variable.name)
        where, annotation = module.__name__, inspect.get_annotations(module).get(variable.name)
        written = constant_docstring(module, variable.name)
        variable.default_value_str = _value(value)
    variable.annotation_str = "" if annotation is None else f": {_annotation(annotation)}"
    if owner is not None:
        variable.default_value_str = ""
    variable.docstring = _html(written, where, variable.modulename, names, owner)


def _html(docstring: str | None, where: str, page: str, names: Names, owner: type | None = None) -> str:
    return render(parse(docstring), _linking(where, page, names, owner)) if docstring else ""


def _linking(where: str, page: str, names: Names, owner: type | None) -> Link:
    def link(name: str) -> str | None:
        place = names.find(name, where, owner)
        return None if place is None else place.address(page)

    return link


def signature(function: Callable[..., Any]) -> inspect.Signature:
    """Give a signature as it is written.

    Parameters
    ----------
    function
        Or a class, for what it is made from.

    Returns
    -------
    Signature
        Whose annotations, and defaults that are no plain values, show themselves as in the source.
    """
    found = inspect.signature(function)
    defaults = _defaults(function)
    parameters = []
    for parameter in found.parameters.values():
        annotation, default = parameter.annotation, parameter.default
        if annotation is not parameter.empty:
            annotation = Written(_annotation(annotation))
        if default is not parameter.empty and not _plain(default):
            default = Written(defaults.get(parameter.name, "..."))
        parameters.append(parameter.replace(annotation=annotation, default=default))
    returned = found.return_annotation
    if inspect.isclass(function):
        returned = found.empty
    elif returned is not found.empty and returned is not None:
        returned = Written(_annotation(returned))
    return inspect.Signature(parameters, return_annotation=returned)


def _annotation(annotation: Any) -> str:
    if isinstance(annotation, ForwardRef):
        return annotation.__forward_arg__
    return annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)


def _defaults(function: Callable[..., Any]) -> dict[str, str]:
    """Defaults by parameter, as written."""
    if not inspect.isfunction(function):
        return {}
    try:
        (tree,) = ast.parse(dedent(inspect.getsource(function))).body
    except (OSError, SyntaxError):  # made by a decorator
        return {}
    if not isinstance(tree, ast.FunctionDef):
        return {}
    arguments = tree.args
    last = [*arguments.posonlyargs, *arguments.args][::-1]
    pairs = [*zip(last, arguments.defaults[::-1], strict=False)]
    pairs += [(a, d) for a, d in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True) if d is not None]
    return {argument.arg: ast.unparse(default) for argument, default in pairs}


def _plain(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return all(map(_plain, value))
    return value is None or type(value) in (bool, int, float, str)


def _value(value: Any) -> str:
    """A constant's value, where it is plain and short; what a type stands for."""
    if isinstance(value, TypeAliasType) and value.__module__ is not None:
        tree = ast.parse(inspect.getsource(sys.modules[value.__module__]))
        aliases = (node for node in tree.body if isinstance(node, ast.TypeAlias) and node.name.id == value.__name__)
        return ast.unparse(next(aliases).value)
    if get_origin(value) is Literal:
        return str(value).removeprefix("typing.")
    shown = repr(value)
    return shown if _plain(value) and len(shown) <= SHORT else ""


def referring(names: Names) -> Callable[[Context, str, pdoc.doc.Doc[Any]], Markup]:
    """Give a filter for templates that links the names in a signature or an annotation.

    Parameters
    ----------
    names
        Where they are explained.

    Returns
    -------
    callable
        Of the template's context, HTML, and the object whose signature it is.
    """

    @pass_context
    def refer(context: Context, html: str, member: pdoc.doc.Doc[Any]) -> Markup:
        page, where = context["module"].modulename, member.taken_from[0]

        def linked(match: re.Match[str]) -> str:
            place = names.find(re.sub(r"<.*?>", "", match[1]), where)
            return match[1] if place is None else f'<a href="{place.address(page)}">{match[1]}</a>'

        return Markup((NAMED if "<span" in html else PLAIN).sub(linked, html))  # noqa: S704

    return refer
