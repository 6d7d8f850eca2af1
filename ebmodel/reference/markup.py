"""HTML of a docstring: paragraphs, formulas as they stand, tables, lists, examples, and lists of parameters.

Formulas are plain text in the source, in the letters of the code beside them, and stay that: monospaced, as aligned as
their authors left them. Nothing has to be fetched to show them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from html import escape
from textwrap import dedent

from ebmodel.reference.docstrings import ENTRIES, Docstring, Section
from ebmodel.reference.tables import RULE, read_table

__all__ = ["Link", "inline", "render"]

type Link = Callable[[str], str | None]
"""Gives the address of a name in single backticks, or None where it has none here."""

BULLET = re.compile(r"([-*]|\d+\.) +")
INLINE = re.compile(
    r"``(?P<literal>.+?)``|`(?P<name>[^`]+)`|(?<![\w*])\*(?P<stressed>[^\s*](?:[^*]*[^\s*])?)\*(?![\w*])", re.DOTALL
)


def render(docstring: Docstring, link: Link, anchors: dict[str, str] | None = None) -> str:
    """Write a docstring as HTML, on one line: pdoc takes such a block as it is.

    Parameters
    ----------
    docstring
        Taken apart.
    link
        Where names lead.
    anchors
        Of parameters that are attributes too, as a dataclass's fields are: the id under which each is found.

    Returns
    -------
    str
        A ``div``.
    """
    parts = [f'<p class="summary">{inline(docstring.summary, link)}</p>', *_blocks(docstring.text, link)]
    for section in docstring.sections:
        parts.append(f"<h6>{escape(section.title)}</h6>")
        parts += _entries(section, link, anchors or {}) if section.title in ENTRIES else _blocks(section.text, link)
    return "<div>" + "".join(parts).replace("\n", "&#10;") + "</div>"


def inline(text: str, link: Link) -> str:
    """Write text within a paragraph: names, literals and stressed words.

    Parameters
    ----------
    text
        As in a docstring.
    link
        Where names lead.

    Returns
    -------
    str
        HTML.
    """
    done, at = [], 0
    for match in INLINE.finditer(text):
        done.append(escape(text[at : match.start()], quote=False))
        at = match.end()
        literal, name, stressed = match.group("literal", "name", "stressed")
        if stressed is not None:
            done.append(f"<em>{inline(stressed, link)}</em>")
        elif literal is not None:
            done.append(f"<code>{escape(literal, quote=False)}</code>")
        else:
            address, shown = link(name), f"<code>{escape(name, quote=False)}</code>"
            done.append(shown if address is None else f'<a href="{address}">{shown}</a>')
    return "".join([*done, escape(text[at:], quote=False)])


def _entries(section: Section, link: Link, anchors: dict[str, str]) -> Iterator[str]:
    """A list of definitions: what it is called, and what it is."""
    yield '<dl class="entries">'
    for entry in section.entries:
        if section.title in ("Returns", "Yields"):
            names = [escape(name, quote=False) for name in entry.names]
        elif section.title == "Raises":
            names = [inline(f"`{name}`", link) for name in entry.names]
        else:
            names = [_name(name, anchors.get(name)) for name in entry.names]
        kind = f' <span class="kind">{inline(entry.kind, link)}</span>' if entry.kind else ""
        yield f"<dt>{', '.join(names)}{kind}</dt><dd>{''.join(_blocks(entry.text, link))}</dd>"
    yield "</dl>"


def _name(name: str, anchor: str | None) -> str:
    return f"<code>{escape(name)}</code>" if anchor is None else f'<code id="{anchor}">{escape(name)}</code>'


def _blocks(text: str, link: Link) -> Iterator[str]:
    """Blocks of text, which blank lines part."""
    for lines in _apart(text):
        first = lines[0]
        if first.startswith(" "):
            yield f'<pre class="formula">{escape(dedent("\n".join(lines)), quote=False)}</pre>'
        elif first.startswith(">>>"):
            yield f'<pre class="example">{escape("\n".join(lines), quote=False)}</pre>'
        elif RULE.fullmatch(first) and len(lines) > 2:
            yield _table(lines, link)
        elif BULLET.match(first):
            yield from _list(lines, link)
        else:
            yield f"<p>{inline('\n'.join(lines), link)}</p>"


def _apart(text: str) -> Iterator[list[str]]:
    """Lines of one block after the other: a table up to a blank line, a formula over blank lines to what is text."""
    block: list[str] = []
    for line in text.splitlines():
        first, blank = block[0] if block else "", not line.strip()
        formula = first.startswith(" ")
        hanging = bool(RULE.fullmatch(first) or BULLET.match(first))
        apart = not formula if blank else not hanging and line.startswith(" ") != formula
        if block and apart:
            yield _stripped(block)
            block = []
        if block or not blank:
            block.append(line)
    if block:
        yield _stripped(block)


def _stripped(block: list[str]) -> list[str]:
    while not block[-1].strip():
        block.pop()
    return block


def _list(lines: Sequence[str], link: Link) -> Iterator[str]:
    numbered = lines[0][0].isdigit()
    items: list[list[str]] = []
    for line in lines:
        marker = BULLET.match(line)
        if marker is None:
            items[-1].append(line.strip())
        else:
            items.append([line[marker.end() :]])
    yield "<ol>" if numbered else "<ul>"
    for item in items:
        yield f"<li>{inline(' '.join(item), link)}</li>"
    yield "</ol>" if numbered else "</ul>"


def _table(lines: Sequence[str], link: Link) -> str:
    header, rows = read_table(lines)
    head = "".join(f"<th>{inline(cell, link)}</th>" for cell in header)
    body = "".join(f"<tr>{''.join(f'<td>{inline(cell, link)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table>{f'<thead><tr>{head}</tr></thead>' if header else ''}<tbody>{body}</tbody></table>"
