"""Genotypes of many donors, read a range of variants at a time: PLINK .bed, PLINK 2 .pgen, VCF and BCF alike.

Every file gives dosages in [0, 2] of one allele, ``counted``: the alternative one that the variant's identifier names
(`alleles`). A site with several alternative alleles is one variant, and its dosage the number of alternative alleles
of any kind; split it beforehand (``bcftools norm -m -``) to keep them apart.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ebmodel.eqtl.alleles import coded
from ebmodel.eqtl.places import contig, contigs
from ebmodel.eqtl.text import check_file, check_unique
from ebmodel.errors import InputError, expect

__all__ = ["Variants", "contig", "open_variants"]


READING = Lock()
"""Held while a file is read: a cluster's workers may be threads, and the libraries' readers cannot be shared."""


class Variants(ABC):
    """An open genotype file. Made by `open_variants`; pickled by its path and table, and opened again elsewhere.

    Parameters
    ----------
    path
        Of the file.
    samples
        Their names, in the file's order.
    names
        The file that names them.
    """

    path: Path
    samples: NDArray[np.str_]
    """(sample,) names."""
    table: pd.DataFrame
    """By variant, in file order: ``chromosome`` as written, ``position`` from 1, ``id``, ``counted`` and ``other`` (the
    alleles), and ``turned``: whether the file itself counts ``other``."""

    def __init__(self, path: Path, samples: list[str], names: Path) -> None:
        expect(len(samples) > 0, "at least one sample", "none", str(names), "add data")
        check_unique(samples, "sample", names)
        self.path, self.samples = path, np.array(samples, dtype=np.str_)
        self._found: dict[str, tuple[int, int]] | None = None

    @property
    def turned(self) -> int:
        """How many variants the file counts by the reference allele, and this by the alternative one."""
        return int(self.table["turned"].sum())

    def __len__(self) -> int:
        return len(self.table)

    def window(self, chromosome: str, first: int, last: int) -> tuple[int, int]:
        """Find the variants of a part of a chromosome.

        Parameters
        ----------
        chromosome
            By any of its names, ``"1"`` or ``"chr1"``.
        first, last
            Positions in bp, from 1, both within the part.

        Returns
        -------
        start, stop
            Rows of ``table``, to `read`.
        """
        start, stop = self._blocks().get(contig(chromosome), (0, 0))
        position = self.table["position"].to_numpy()[start:stop]
        low, high = position.searchsorted([first, last + 1])
        return start + int(low), start + max(int(low), int(high))

    def read(self, start: int, stop: int) -> NDArray[np.float32]:
        """Read the dosages of a range of variants.

        Parameters
        ----------
        start, stop
            Rows of ``table``, from 0; ``stop`` is past the last.

        Returns
        -------
        (sample, variant)
            Dosages of the allele ``counted``, in [0, 2]; NaN where missing. A variant's dosages lie together in memory.

        Raises
        ------
        InputError
            If the rows are none of the file's, or it is damaged there or was changed since it was opened.
        """
        inside = 0 <= start <= stop <= len(self)
        expect(
            inside, f"rows within 0 to {len(self)}", f"{start} to {stop}", str(self.path), "ask for rows of its table"
        )
        if start == stop:
            return np.empty((len(self.samples), 0), np.float32)
        with READING:
            dosages = self._read(start, stop)  # (variant, sample)
        turned = self.table["turned"].to_numpy(dtype=bool)[start:stop]
        if turned.any():
            dosages[turned] = 2 - dosages[turned]
        return dosages.T

    def _blocks(self) -> dict[str, tuple[int, int]]:
        """First row of each chromosome, and the one past its last."""
        if self._found is None:
            code, names = pd.factorize(contigs(self.table["chromosome"]))
            starts = np.flatnonzero(np.diff(code, prepend=-1))
            ends = np.append(starts[1:], len(code))
            self._found = {str(names[code[a]]): (int(a), int(b)) for a, b in zip(starts, ends, strict=True)}
        return self._found

    @abstractmethod
    def _read(self, start: int, stop: int) -> NDArray[np.float32]:
        """(variant, sample) dosages of the allele that the file counts; NaN where missing."""

    @abstractmethod
    def close(self) -> None:
        """Close the file."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(open_variants, as_written=self._as_written), (self.path, self.table)

    def _settle(self, table: pd.DataFrame, source: Path, first: int, word: str, *, as_written: bool) -> None:
        """Take the table of variants, checked and coded unless it is wanted as it was written."""
        expect(len(table) > 0, "at least one variant", "a header alone", str(source), "add data")
        self._as_written = as_written
        if "turned" not in table:
            table = table.assign(turned=False) if as_written else coded(table, source, first, word)
        self.table = table


def open_variants(path: str | Path, table: pd.DataFrame | None = None, *, as_written: bool = False) -> Variants:
    """Open a genotype file.

    Parameters
    ----------
    path
        PLINK .bed (.bim and .fam beside it), PLINK 2 .pgen (.pvar, .pvar.zst or .bim, and .psam or .fam beside it), or
        .vcf.gz or .bcf with its index.
    table
        The ``table`` of the same file opened before, which is then neither read nor checked again.
    as_written
        Whether to count the allele that the file counts, and take variants in any order and without an index.

    Returns
    -------
    Variants
        To be closed; a ``with`` block does.

    Raises
    ------
    InputError
        If a file is missing, cut off or damaged, or of another kind; samples or identifiers come twice; variants are
        not sorted by chromosome and position; a VCF has no index; or an identifier names a place or alleles that are
        not the variant's (with the line). If the package that reads the format is not installed.
    """
    path = Path(path)
    check_file(path, "genotypes")
    ends = [end.lower() for end in path.suffixes if end.lower() not in {".gz", ".bgz"}]
    kind = ends[-1] if ends else "no ending"
    if kind == ".bed":
        from ebmodel.eqtl.plink import Bed

        return Bed(path, table, as_written=as_written)
    if kind == ".pgen":
        from ebmodel.eqtl.plink import Pgen

        return Pgen(path, table, as_written=as_written)
    if kind in {".vcf", ".bcf"}:
        from ebmodel.eqtl.vcf import Vcf

        return Vcf(path, table, as_written=as_written)
    raise InputError("genotypes as .bed, .pgen, .vcf.gz or .bcf", kind, str(path), "convert them")
