"""Tables in docstrings, reStructuredText's simple ones, as rows of cells; the model's notation is one of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from ebmodel import model

__all__ = ["RULE", "Symbol", "notation", "read_table"]

RULE = re.compile(r"=+(?: +=+)+")
"""The line above, below and, where there is a header, within a table."""


class Symbol(NamedTuple):
    """A row of the model's notation table."""

    symbol: str
    """As the paper writes it."""
    in_code: str
    """The field of `ebmodel.Params` that holds it."""
    shape: str
    """Of its array: ``()`` for a number."""
    constraint: str
    """What values it may have."""
    equation: str
    """Where it comes from, by the equation's number in the paper, and what it is."""


def read_table(lines: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of a table.

    Parameters
    ----------
    lines
        From its first rule to its last, all indented alike.

    Returns
    -------
    tuple of list
        The cells of the header, none where there is no header, and those of every row. A row without a first cell goes
        on with the row above.
    """
    first = len(lines[0]) - len(lines[0].lstrip())
    spans = [match.start() - first for match in re.finditer("=+", lines[0])]
    ends = [*spans[1:], None]
    rules = [i for i, line in enumerate(lines) if RULE.fullmatch(line.strip())]
    rows: list[list[str]] = []
    header = 0
    for i, line in enumerate(lines):
        if i in rules:
            header = len(rows) if 0 < i < len(lines) - 1 else header
            continue
        cells = [line[first:][a:b].strip() for a, b in zip(spans, ends, strict=True)]
        if cells[0] or not rows:
            rows.append(cells)
        else:
            rows[-1] = [f"{above} {cell}".strip() for above, cell in zip(rows[-1], cells, strict=True)]
    return (rows[0] if header else []), rows[header:]


def notation() -> list[Symbol]:
    """Give the notation of `ebmodel.model` as rows: the table in its docstring, which is the only source of it.

    Returns
    -------
    list of Symbol
        In the order of the table.
    """
    lines = (model.__doc__ or "").partition("Notation\n--------\n")[2].splitlines()
    return [Symbol(*row) for row in read_table(lines)[1]]
