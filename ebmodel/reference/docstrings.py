"""NumPy-style docstrings taken apart: a summary, text, and sections with entries for parameters, results and errors."""

from __future__ import annotations

import re
from dataclasses import dataclass
from inspect import cleandoc
from textwrap import dedent

__all__ = ["ENTRIES", "Docstring", "Entry", "Section", "parse"]

ENTRIES = ("Parameters", "Attributes", "Returns", "Yields", "Raises")
"""Sections that are lists of entries; what any other says is text."""


@dataclass(frozen=True)
class Entry:
    """One line of a list, and what stands indented below it: ``X, Y : (sample, snp)``."""

    names: tuple[str, ...]
    kind: str
    """What follows the colon: a shape or ``optional``."""
    text: str


@dataclass(frozen=True)
class Section:
    """A heading and what stands below it."""

    title: str
    text: str
    entries: tuple[Entry, ...] = ()


@dataclass(frozen=True)
class Docstring:
    """A docstring, taken apart."""

    summary: str
    """The first paragraph."""
    text: str
    """What follows it, up to the first section."""
    sections: tuple[Section, ...]

    def entries(self, title: str) -> tuple[Entry, ...]:
        """Entries of a section; none where there is no such section."""
        return next((section.entries for section in self.sections if section.title == title), ())

    def names(self, title: str) -> tuple[str, ...]:
        """Names in a section's entries, in their order."""
        return tuple(name for entry in self.entries(title) for name in entry.names)


def parse(docstring: str | None) -> Docstring:
    """Take a docstring apart, as it is in the source or cleaned; None has nothing in it.

    Parameters
    ----------
    docstring
        In NumPy's style: sections are underlined with hyphens.

    Returns
    -------
    Docstring
        Its parts.
    """
    head, *rest = re.split(r"^(\S.*)\n-{3,}(?:\n|$)", cleandoc(docstring or ""), flags=re.MULTILINE)
    summary, _, text = head.strip().partition("\n\n")
    pairs = zip(rest[::2], rest[1::2], strict=True)
    sections = (Section(title, body.strip("\n"), _entries(title, body)) for title, body in pairs)
    return Docstring(summary, text.strip("\n"), tuple(sections))


def _entries(title: str, body: str) -> tuple[Entry, ...]:
    if title not in ENTRIES:
        return ()
    found = []
    for item in re.split(r"\n(?=\S)", body.strip("\n")):
        head, _, text = item.partition("\n")
        names, _, kind = head.partition(" : ")
        apart = names.split(", ") if title in ("Parameters", "Attributes", "Raises") else [names]
        found.append(Entry(tuple(apart), kind, dedent(text).strip("\n")))
    return tuple(found)
