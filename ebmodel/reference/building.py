"""Pages of HTML from the docstrings, by pdoc, with what it would not show readably written anew."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ebmodel.errors import InputError, expect
from ebmodel.files import check_writable
from ebmodel.reference.contents import CALLED, MATHEMATICS, QUESTIONS, Group, pages
from ebmodel.reference.docstrings import parse
from ebmodel.reference.markup import inline
from ebmodel.reference.names import Names, Place
from ebmodel.reference.tables import notation

__all__ = ["build"]

TEMPLATES = Path(__file__).parent / "templates"
TITLE = "<title>ebmodel: the reference</title>"
"""Of the start page, by which a folder is known to hold a reference."""


class Line(NamedTuple):
    """A name in the contents."""

    name: str
    place: Place
    summary: str
    """What its docstring begins with, as HTML."""

    @property
    def short(self) -> str:
        """The name within the package."""
        return self.name.removeprefix("ebmodel.")


def build(out: str | Path) -> list[Path]:
    """Write the reference: a page for each public module, and for those of the mathematics.

    The pages hold their style, and load nothing but the index that is searched, which lies beside them.

    Parameters
    ----------
    out
        The folder; one that holds a reference is replaced.

    Returns
    -------
    list of Path
        The pages, the start page first.

    Raises
    ------
    InputError
        If pdoc is not installed, or the folder cannot be written or holds something else.
    """
    try:
        from pdoc import render
    except ImportError as error:
        do = "uv sync --group reference"
        raise InputError("the package pdoc", "no such package", "the reference", do) from error
    from ebmodel.reference.objects import document, referring

    out = Path(out)
    make_room(out)
    names = Names(pages())
    modules = {page: document(module, names) for page, module in names.pages.items()}
    render.configure(docformat="markdown", template_directory=TEMPLATES)
    render.env.filters["refer"] = referring(names)
    render.env.globals |= {
        "address": lambda place, page: place.address(page),
        "questions": [(group.title, _named(group, names)) for group in QUESTIONS],
        "parts": [
            ("What people call", _pages(CALLED, names)),
            ("The mathematics, beside the papers", _pages(MATHEMATICS, names)),
        ],
        "notation": notation(),
    }
    written = [out / "index.html", *(out / Place(page, "").address("") for page in modules)]
    contents = [render.html_index(modules), *(render.html_module(module, modules) for module in modules.values())]
    for path, content in zip(written, contents, strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    (out / "search.js").write_text(render.search_index(modules), encoding="utf-8")
    return written


def make_room(out: Path) -> None:
    """Remove an earlier reference, and refuse a folder that holds something else or cannot be written."""
    if not out.exists():
        check_writable(out)
    elif not out.is_dir() or any(out.iterdir()):
        start = out / "index.html"
        ours = start.is_file() and TITLE in start.read_text(encoding="utf-8")
        expect(ours, "a new folder, or a reference", "something else", str(out), "choose another name")
        shutil.rmtree(out)


def _named(group: Group, names: Names) -> list[Line]:
    module = names.pages["ebmodel"]
    return [Line(name, Place("ebmodel", name), _first(getattr(module, name).__doc__, names)) for name in group.names]


def _pages(groups: Sequence[Group], names: Names) -> list[tuple[str, list[Line]]]:
    return [
        (group.title, [Line(page, Place(page, ""), _first(names.pages[page].__doc__, names)) for page in group.names])
        for group in groups
    ]


def _first(docstring: str | None, names: Names) -> str:
    """Its first paragraph, on the start page."""

    def link(name: str) -> str | None:
        place = names.find(name, "ebmodel")
        return None if place is None else place.address("")

    return inline(parse(docstring).summary, link)
