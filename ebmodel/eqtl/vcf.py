"""Genotypes of VCF and BCF files: the dosage DS where a variant has one, the genotype GT where not."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ebmodel.eqtl.text import check_unique, one_line, opened, place
from ebmodel.eqtl.variants import Variants
from ebmodel.errors import InputError, expect
from ebmodel.genotypes import extra

__all__ = ["Vcf"]

INDICES = (".csi", ".tbi")
END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")
"""The empty block that ends every file which bgzip wrote."""
WORD = "record"  # what has no lines: BCF, and VCF behind its index
SLACK = 1e-3
"""How far rounding may take a dosage outside [0, 2]."""


class Vcf(Variants):
    """A VCF or BCF file, which counts its alternative alleles."""

    def __init__(self, path: Path, table: pd.DataFrame | None, *, as_written: bool) -> None:
        self.path, self._open = path, extra("cyvcf2", str(path)).VCF
        self._indexed = not as_written and any(Path(f"{path}{end}").exists() for end in INDICES)
        self._reader = self._start()
        super().__init__(path, self._reader.samples, path)
        _check_end(path)
        do = f"bgzip {path} and bcftools index {path}.gz" if path.suffix == ".vcf" else f"bcftools index {path}"
        expect(self._indexed or as_written, "an index (.csi or .tbi) beside it", "no such file", str(path), do)
        found = _sites(self._open(str(path), samples=[]), path) if table is None else table
        self._settle(found, path, 1, WORD, as_written=as_written)

    def close(self) -> None:
        """Close the file."""
        self._reader.close()

    def _start(self) -> Any:
        try:
            return self._open(str(self.path))
        except Exception as error:  # cyvcf2 raises no narrower one
            _check_end(self.path)
            _check_samples(self.path)
            raise InputError("a readable file", one_line(error), str(self.path), "fetch or write it again") from error

    def _read(self, start: int, stop: int) -> NDArray[np.float32]:
        dosages = np.empty((stop - start, len(self.samples)), np.float32)
        names, records = self.table["id"].iloc[start:stop], self._records(start, stop)
        do = "write the index again, or open the file again"
        try:
            for i, (row, name) in enumerate(zip(dosages, names, strict=True), start):
                variant = next(records, None)
                got = "none" if variant is None else repr(_name(variant))
                found = variant is not None and _name(variant) == name
                expect(found, f"variant {name!r}", got, place(self.path, i + 1, WORD), do)
                row[:] = _dosage(variant, name, self.path)
        except InputError:
            raise
        except Exception as error:  # cyvcf2 raises no narrower one
            raise _damaged(error, self.path) from error
        return dosages

    def _records(self, start: int, stop: int) -> Iterator[Any]:
        """Records from row ``start`` on: by the index, or without one by reading from the beginning."""
        if not self._indexed:
            self._reader.close()
            self._reader = self._start()
            yield from islice(self._reader, start, stop)
            return
        position = self.table["position"].to_numpy()
        for a, b in self._blocks().values():
            low, high = max(a, start), min(b, stop)
            if low < high:
                name, first, last = self.table["chromosome"].iloc[low], position[low], position[high - 1]
                before = low - a - int(position[a:low].searchsorted(first))  # at the first position, ahead of the range
                # a region also holds what starts ahead of it and reaches in
                found = (variant for variant in self._reader(f"{name}:{first}-{last}") if variant.POS >= first)
                yield from islice(found, before, before + high - low)


def _sites(reader: Any, path: Path) -> pd.DataFrame:
    """Read the variants, in file order, leaving the genotypes."""
    found = []
    try:
        found = [(v.CHROM, v.POS, _name(v), ",".join(v.ALT) or ".", v.REF) for v in reader]
    except Exception as error:  # cyvcf2 raises no narrower one
        raise _damaged(error, path) from error
    finally:
        reader.close()
    return pd.DataFrame(found, columns=["chromosome", "position", "id", "counted", "other"])


def _name(variant: Any) -> str:
    return variant.ID or f"{variant.CHROM}:{variant.POS}:{variant.REF}:{','.join(variant.ALT) or '.'}"


def _dosage(variant: Any, name: str, path: Path) -> NDArray[Any]:
    """(sample,) number of alternative alleles of any kind; NaN where one is unknown."""
    fields = variant.FORMAT
    if "DS" in fields and variant.ALT:
        dosage: NDArray[np.float32] = variant.format("DS").sum(axis=1)  # one for each alternative allele
        outside = np.flatnonzero((dosage < -SLACK) | (dosage > 2 + SLACK))
        got = f"{dosage[outside[0]]:g} for variant {name!r}" if len(outside) else ""
        expect(len(outside) == 0, "dosages (DS) in [0, 2]", got, str(path), "correct them or remove the field")
        return np.clip(dosage, 0, 2)
    expect("GT" in fields, "genotypes (GT) or dosages (DS)", f"none for variant {name!r}", str(path), "call them")
    alleles = variant.genotype.array()[:, :-1]  # the last column is the phase; -1 is unknown, -2 no allele
    return np.where((alleles == -1).any(axis=1), np.nan, (alleles > 0).sum(axis=1))


def _check_samples(path: Path) -> None:
    """Refuse a header with a sample twice, which htslib cannot open and does not name."""
    with opened(path) as source:
        header = next((raw for raw in source if raw.startswith(b"#CHROM")), b"")
    check_unique(header.decode(errors="replace").split()[9:], "sample", path)


def _check_end(path: Path) -> None:
    """Refuse a bgzipped file without its last block: htslib reads one cut off between blocks as if it were whole."""
    with path.open("rb") as source:
        bgzipped = source.read(16)[12:14] == b"BC"
        if bgzipped:
            source.seek(-min(len(END), path.stat().st_size), 2)
            expect(source.read() == END, "a whole bgzip file", "one cut off", str(path), "fetch or write it again")


def _damaged(error: Exception, path: Path) -> InputError:
    return InputError("a whole VCF or BCF file", one_line(error), str(path), "fetch or write it again")
