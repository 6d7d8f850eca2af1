"""Places on the genome: one name for each chromosome, and rows sorted by chromosome and position."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from ebmodel.eqtl.text import place
from ebmodel.errors import InputError

__all__ = ["check_order", "contig", "contigs"]

CODES = {"M": "MT", "23": "X", "24": "Y", "25": "X", "26": "MT"}  # PLINK's numbers; 25 is X's pseudo-autosomal part


def contig(name: str) -> str:
    """Name a chromosome one way: ``chr1`` and ``1`` are one; ``chrM`` is ``MT``, PLINK's ``23`` is ``X``.

    Examples
    --------
    >>> [contig(name) for name in ("chr1", "1", "chrM", "23")]
    ['1', '1', 'MT', 'X']
    """
    bare = name[3:] if name[:3].lower() == "chr" else name
    return CODES.get(bare, bare)


def contigs(names: pd.Series) -> pd.Series:
    """`contig` of a column of names."""
    return names.map({name: contig(name) for name in names.unique()})


def check_order(chromosome: pd.Series, position: pd.Series, path: Path, first: int, word: str = "line") -> None:
    """Refuse rows that are not sorted: one block a chromosome, and positions that do not decrease in it.

    Parameters
    ----------
    chromosome, position : (row,)
        Of the rows.
    path
        Their file.
    first, word
        The number of the first row's line, and what the file has instead of lines.

    Raises
    ------
    InputError
        With the first line out of order.
    """
    code = pd.Series(pd.factorize(contigs(chromosome))[0])
    starts = code.ne(code.shift())
    again = starts & code.duplicated()
    position = position.reset_index(drop=True)
    back = ~starts & position.lt(position.shift())
    wrong = (again | back).to_numpy().nonzero()[0]
    if len(wrong):
        i = int(wrong[0])
        name = str(chromosome.iloc[i])
        got = (
            f"a second block of chromosome {name!r}"
            if again[i]
            else f"position {position[i]} after {position[i - 1]} of chromosome {name!r}"
        )
        raise InputError("rows sorted by chromosome and position", got, place(path, first + i, word), "sort the file")
