"""Genotypes of PLINK: .bed with .bim and .fam, and PLINK 2's .pgen with .pvar and .psam."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from ebmodel.eqtl.text import check_file, one_line, place, read_columns, rows
from ebmodel.eqtl.variants import Variants
from ebmodel.errors import InputError, expect
from ebmodel.genotypes import extra

__all__ = ["Bed", "Pgen"]

BIM = ("chromosome", "id", "morgans", "position", "counted", "other")
PVAR = {"#CHROM": "chromosome", "POS": "position", "ID": "id", "REF": "other", "ALT": "counted"}
SITE = ("chromosome", "position", "id", "counted", "other")


class Bed(Variants):
    """A PLINK 1 .bed file, which counts A1, the first allele of its .bim."""

    def __init__(self, path: Path, table: pd.DataFrame | None, *, as_written: bool) -> None:
        open_bed = extra("bed_reader", str(path)).open_bed
        bim, fam = _beside(path, ".bim"), _beside(path, ".fam")
        super().__init__(path, read_individuals(fam), fam)
        table, first = read_sites(bim) if table is None else (table, 1)
        self._settle(table, bim, first, "line", as_written=as_written)
        n, p = len(self.samples), len(self.table)
        _check_bed(path, n, p)
        self._bed = open_bed(path, iid_count=n, sid_count=p, num_threads=1)

    def _read(self, start: int, stop: int) -> NDArray[np.float32]:
        counts: NDArray[np.float32] = self._bed.read(np.s_[:, start:stop], dtype="float32", order="F")
        return counts.T

    def close(self) -> None:
        """Close the file."""
        self._bed.__exit__(None, None, None)


class Pgen(Variants):
    """A PLINK 2 .pgen file: dosages where it has them, hard calls where not."""

    def __init__(self, path: Path, table: pd.DataFrame | None, *, as_written: bool) -> None:
        pgenlib = extra("pgenlib", str(path))
        pvar, psam = _beside(path, ".pvar", ".pvar.zst", ".bim"), _beside(path, ".psam", ".fam")
        super().__init__(path, read_individuals(psam), psam)
        table, first = read_sites(pvar) if table is None else (table, 1)
        # a site with several alternative alleles is stored under the number of its alleles
        alleles = (table["counted"].str.count(",") + table["other"].str.count(",") + 2).to_numpy()
        self._settle(table, pvar, first, "line", as_written=as_written)
        n, p = len(self.samples), len(self.table)
        offsets = np.append(0, alleles.cumsum()).astype(np.uintp) if alleles.max() > 2 else None
        try:
            self._pgen = pgenlib.PgenReader(
                str(path).encode(), raw_sample_ct=n, variant_ct=p, allele_idx_offsets=offsets
            )
        except RuntimeError as error:
            raise InputError(f"a .pgen file of {n} samples and {p} variants, as {psam.name} and {pvar.name} say",
                             one_line(error), str(path), "make it again, with these beside it") from error  # fmt: skip

    def _read(self, start: int, stop: int) -> NDArray[np.float32]:
        reference = np.empty((stop - start, len(self.samples)), np.float32)
        try:
            self._pgen.read_dosages_range(start, stop, reference, allele_idx=0)
        except RuntimeError as error:
            raise InputError("a whole .pgen file", one_line(error), str(self.path), "make it again") from error
        # of any alternative allele; -9 is missing
        return np.where(reference < 0, np.float32(np.nan), 2 - reference)

    def close(self) -> None:
        """Close the file."""
        self._pgen.close()


def read_sites(path: Path) -> tuple[pd.DataFrame, int]:
    """Read the variants of a .bim or .pvar file.

    Returns
    -------
    (table, line)
        The table with the columns ``chromosome, position, id, counted, other``, and the line of its first row.

    Raises
    ------
    InputError
        With the line that cannot be read.
    """
    header: list[str] = []
    skip, start = 0, [""]
    for line, cells in rows(path):
        if not cells[0].startswith("#"):
            start = cells
            break
        header, skip = cells, line
    expect(start != [""], "at least one variant", "none", place(path, skip + 1), "add data")
    if header:
        names = [PVAR.get(name, name) for name in header]
        lacking = [name for name, ours in PVAR.items() if ours not in names]
        where = place(path, skip)
        expect(
            not lacking, "columns #CHROM, POS, ID, REF and ALT", f"no {', '.join(lacking)}", where, "write the header"
        )
    else:
        names = list(BIM) if len(start) != 5 else [name for name in BIM if name != "morgans"]
    if len(start) == 1 < len(start[0].split()):
        table = _read_spaced(path, names, skip)
    else:
        table = read_columns(path, names, {"position": pa.int64()}, skip=skip, wanted=SITE).to_pandas()
    unnamed = (table["id"] == ".") & bool(header)
    if unnamed.any():  # REF and ALT are certain here, so they make a name
        parts = table.loc[unnamed, ["chromosome", "position", "other", "counted"]].astype(str)
        table.loc[unnamed, "id"] = parts.agg(":".join, axis=1)
    return table[list(SITE)], skip + 1


def read_individuals(path: Path) -> list[str]:
    """Read the names of a .fam or .psam file (IID; the family's is left out).

    Raises
    ------
    InputError
        With the line that has none.
    """
    column, width, names = 1, 2, []
    for line, cells in rows(path, None):
        if cells and cells[0].startswith("#"):
            if cells[0] in {"#FID", "#IID"}:
                expect("IID" in (c.lstrip("#") for c in cells), "a column IID", "none", place(path, line), "write it")
                column, width = [c.lstrip("#") for c in cells].index("IID"), len(cells)
            continue
        got = "an empty line" if not cells else str(len(cells))
        expect(len(cells) >= width, f"at least {width} columns", got, place(path, line), "give every sample the same")
        names.append(cells[column])
    return names


def _read_spaced(path: Path, names: list[str], skip: int) -> pd.DataFrame:
    """As `read_columns`, of a file whose columns are separated by spaces."""
    found = []
    for line, cells in rows(path, None):
        if line > skip:
            got = "an empty line" if not cells else str(len(cells))
            do = "give every row the same columns"
            expect(len(cells) == len(names), f"{len(names)} cells", got, place(path, line), do)
            whole = cells[names.index("position")].lstrip("-").isdecimal()
            got = repr(cells[names.index("position")])
            expect(whole, "a whole number in column 'position'", got, place(path, line), "correct it")
            found.append(cells)
    return pd.DataFrame(found, columns=names).astype({"position": np.int64})


def _beside(path: Path, *endings: str) -> Path:
    found = next((path.with_suffix(end) for end in endings if path.with_suffix(end).exists()), None)
    if found is None:
        names = " or ".join(path.with_suffix(end).name for end in endings)
        raise InputError(f"{names} beside it", "no such file", str(path), "copy it there")
    check_file(found, f"the {found.suffix} of {path.name}")
    return found


def _check_bed(path: Path, n: int, p: int) -> None:
    with path.open("rb") as source:
        start = source.read(3)
    whole, do = "a whole PLINK .bed file", "make it again"
    expect(start[:2] == b"\x6c\x1b", whole, "another kind of file", str(path), do)
    expect(start[2:] == b"\x01", f"{whole}, by variant", "one by sample", str(path), "make it again with PLINK 1.9")
    size, wanted = path.stat().st_size, 3 + p * -(-n // 4)  # two bits a genotype
    got = f"{size} bytes instead of {wanted} for the {n} samples and {p} variants of its .fam and .bim"
    expect(size == wanted, whole, got, str(path), do)
