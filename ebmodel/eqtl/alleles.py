"""Which allele is counted: the alternative one of the identifier, whatever the file counts.

Identifiers of GTEx's form, ``chr1_64764_C_T_b38`` (also ``chr1:64764:C:T`` and ``1_64764_C_T``), name the reference
and the alternative allele. PLINK 1 counts its A1, which PLINK 1.9 makes the minor one: where that is the reference,
dosages are turned round, so that an effect means the same from every file.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute
from numpy.typing import NDArray

from ebmodel.eqtl.places import check_order, contigs
from ebmodel.eqtl.text import check_unique, place
from ebmodel.errors import InputError, expect

__all__ = ["ABSENT", "coded"]

ABSENT = ("0", ".")
"""What PLINK and VCF write for an allele that nobody has."""
IDENTIFIER = (
    r"^(?P<contig>[^:\s]+?)[_:](?P<position>[0-9]+)[_:](?P<reference>[ACGTNacgtn*,]+)"
    r"[_:](?P<alternative>[ACGTNacgtn*,]+)(?:[_:]b[0-9]+)?$"
)


def coded(table: pd.DataFrame, path: Path, first: int, word: str = "line") -> pd.DataFrame:
    """Check the variants of a file and code them by the alternative allele.

    Parameters
    ----------
    table
        In file order: ``chromosome``, ``position``, ``id``, and the alleles, ``counted`` as the file counts them and
        ``other``.
    path
        Where they come from.
    first, word
        The number of the first variant's line, and what the file has instead of lines.

    Returns
    -------
    DataFrame
        With the alternative allele of the identifier as ``counted`` and the reference as ``other``, and in ``turned``
        whether the file counts the reference. As the file has them where the identifier names no alleles.

    Raises
    ------
    InputError
        With the file and the line: if variants are not sorted, an identifier comes twice, or one names a place or
        alleles that are not the variant's.
    """
    empty = np.flatnonzero((table["id"].isna() | (table["id"] == "") | table["position"].isna()).to_numpy())
    where = place(path, first + int(empty[0]), word) if len(empty) else str(path)
    expect(
        len(empty) == 0, "an identifier and a position for each variant", "an empty cell", where, "write the file again"
    )
    check_unique(table["id"], "variant", path)
    check_order(table["chromosome"], table["position"], path, first, word)
    named, says = _named(table["id"])
    reference, alternative = says["reference"], says["alternative"]
    chromosome = contigs(table["chromosome"])
    elsewhere = named & ((says["contig"] != chromosome) | (says["position"] != table["position"])).to_numpy()
    straight = named & _fits(table, alternative, reference)
    turned = named & ~straight & _fits(table, reference, alternative)
    wrong = np.flatnonzero(elsewhere | (named & ~straight & ~turned))
    if len(wrong):
        row, i = table.iloc[wrong[0]], int(wrong[0])
        if elsewhere[i]:
            expected, got = "the place that the identifier names", f"{row['chromosome']}:{row['position']}"
        else:
            expected, got = "the alleles that the identifier names", f"{row['counted']} and {row['other']}"
        got += f" for variant {row['id']!r}"
        raise InputError(expected, got, place(path, first + i, word), "correct the identifier, or name variants anew")
    counted, other = table["counted"].where(~named, alternative), table["other"].where(~named, reference)
    return table.assign(counted=counted, other=other, turned=turned)


def _named(identifiers: pd.Series) -> tuple[NDArray[np.bool_], pd.DataFrame]:
    """Which identifiers name alleles, and what each says (contig, position, reference, alternative)."""
    found = pa.compute.extract_regex(
        pa.chunked_array([pa.array(identifiers, pa.string())]), IDENTIFIER
    ).combine_chunks()
    named = np.asarray(found.is_valid())
    says = pd.DataFrame(
        {name: pa.compute.struct_field(found, name).to_pandas() for name in ("contig", "reference", "alternative")}
    ).fillna("")
    position = pa.compute.cast(pa.compute.struct_field(found, "position"), pa.int64()).to_numpy(zero_copy_only=False)
    says["position"] = np.where(named, position, -1).astype(np.int64)
    return named, says.assign(contig=contigs(says["contig"]))


def _fits(table: pd.DataFrame, counted: pd.Series, other: pd.Series) -> NDArray[np.bool_]:
    """Whether the file's alleles are these two; an absent one may be either."""
    first = (table["counted"] == counted) | table["counted"].isin(ABSENT)
    second = (table["other"] == other) | table["other"].isin(ABSENT)
    return (first & second).to_numpy()
