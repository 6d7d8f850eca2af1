"""Expression of many genes in one tissue: the phenotype BED files of GTEx, FastQTL and tensorQTL.

Tab-separated, plain or compressed: ``#chr start end gene_id SAMPLE...``, one row a gene, sorted by chromosome and
start. ``start`` counts from 0 and ``end`` is past the last base; in GTEx's files ``end`` is the transcription start.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from ebmodel.eqtl.places import check_order
from ebmodel.eqtl.text import check_file, check_unique, place, read_columns, rows
from ebmodel.errors import InputError, expect
from ebmodel.labels import GENE
from ebmodel.model import Array

__all__ = ["Expression", "read_expression", "read_samples"]

WHAT = "expression as a phenotype BED file"
PLACES = 4  # columns before the first sample: chromosome, start, end, gene


@dataclass(frozen=True, eq=False)
class Expression:
    """One tissue's expression, as its file has it."""

    path: Path
    """Of the file."""
    genes: pd.DataFrame
    """By gene: ``chromosome`` (as written), ``start`` (from 0), ``end``, and the ``line`` of the file (from 1)."""
    samples: NDArray[np.str_]
    """(sample,) names."""
    values: Array
    """(gene, sample) expression, NaN where the cell is empty or says NA."""


def read_samples(path: str | Path) -> NDArray[np.str_]:
    """Read the names of the samples of a phenotype BED file from its header alone.

    Parameters
    ----------
    path
        Plain, gzip, bgzip or zstd.

    Returns
    -------
    (sample,)
        Names, in the order of the columns.

    Raises
    ------
    InputError
        If there is no such header, or a sample comes twice.
    """
    return np.array(_header(Path(path))[PLACES:], dtype=np.str_)


def read_expression(path: str | Path) -> Expression:
    """Read a phenotype BED file.

    Parameters
    ----------
    path
        Plain, gzip, bgzip or zstd.

    Returns
    -------
    Expression
        All of the file.

    Raises
    ------
    InputError
        With the file and the line: if the file is missing, empty, cut off or damaged; is no UTF-8 text separated by
        tabs under a header; has a row of other length, text or an infinite value where a number should be, a gene or
        a sample twice, an interval that is none, or rows that are not sorted by chromosome and start.
    """
    path = Path(path)
    names = _header(path)
    numbers = dict.fromkeys(names[PLACES:], pa.float64()) | dict.fromkeys(names[1:3], pa.int64())
    table = read_columns(path, names, numbers, skip=1)
    genes = table.select(names[:PLACES]).to_pandas()
    genes.columns = pd.Index(["chromosome", "start", "end", GENE])
    genes["line"] = np.arange(2, len(genes) + 2)
    _check_genes(genes, path)
    values = np.empty((table.num_columns - PLACES, table.num_rows))
    for row, column in zip(values, table.columns[PLACES:], strict=True):
        row[:] = column.to_numpy()
    values = np.ascontiguousarray(values.T)
    _check_finite(values, genes, names[PLACES:], path)
    genes = genes.astype({"start": np.int64, "end": np.int64}).set_index(GENE)
    return Expression(path, genes, np.array(names[PLACES:], dtype=np.str_), values)


def _header(path: Path) -> list[str]:
    check_file(path, WHAT)
    _, names = next(rows(path), (1, [""]))
    where = place(path, 1)
    expected, got = (
        "a header of #chr, start, end, gene_id and samples",
        f"{len(names)} separated by tabs: {names[0][:40]!r}",
    )
    expect(len(names) > PLACES, expected, got, where, "separate columns by tabs")
    start = [name.lower() for name in names[:3]]
    headed = start[0].lstrip("#") in {"chr", "chrom", "chromosome"} and start[1:] == ["start", "end"]
    got = ", ".join(map(repr, names[:3]))
    expect(headed, "a header that starts #chr, start, end", got, where, "write the header")
    unnamed = [j for j, name in enumerate(names, 1) if not name]
    expect(
        not unnamed,
        "a name for each column",
        f"none for column {unnamed[0] if unnamed else 0}",
        where,
        "name the sample",
    )
    check_unique(names[PLACES:], "sample", path)
    check_unique(names, "column", path)
    return names


def _check_genes(genes: pd.DataFrame, path: Path) -> None:
    def first(wrong: Any) -> pd.Series | None:
        found = np.asarray(wrong).nonzero()[0]
        return cast("pd.Series", genes.iloc[found[0]]) if len(found) else None

    empty = (genes["chromosome"] == "") | (genes[GENE] == "") | genes[["start", "end"]].isna().any(axis=1)
    if (row := first(empty)) is not None:
        do = "complete or remove the line"
        raise InputError("a chromosome, start, end and gene", "an empty cell", place(path, row["line"]), do)
    if (row := first((genes["start"] < 0) | (genes["start"] >= genes["end"]))) is not None:
        got = f"{row['start']:.0f} to {row['end']:.0f} for gene {row[GENE]!r}"
        raise InputError("0 <= start < end", got, place(path, row["line"]), "correct the interval")
    if (row := first(genes[GENE].duplicated())) is not None:
        before = genes.loc[genes[GENE] == row[GENE], "line"].iloc[0]
        got = f"gene {row[GENE]!r} again, after line {before}"
        raise InputError("each gene once", got, place(path, row["line"]), "remove one of them")
    check_order(genes["chromosome"], genes["start"], path, 2)


def _check_finite(values: Array, genes: pd.DataFrame, samples: list[str], path: Path) -> None:
    if np.isinf(values).any():
        i, j = np.argwhere(np.isinf(values))[0]
        got = f"{values[i, j]} for gene {genes[GENE].iloc[i]!r} and sample {samples[j]!r}"
        raise InputError("a finite value", got, place(path, genes["line"].iloc[i]), "correct it or leave it empty")
