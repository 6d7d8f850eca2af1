"""Genotypes from the formats of genetics: PLINK .bed (with its .fam and .bim) and VCF or BCF.

`ebmodel.files.read_table` comes here, so every command and function that reads genotypes from a path reads these too.
A genotype is a number of alleles, 0, 1 or 2, and NaN where it is missing.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ebmodel.errors import InputError, expect, listed

__all__ = ["KINDS", "extra", "read_bed", "read_vcf"]

KINDS = (".bed", ".vcf", ".bcf")
"""Endings of the files read here; .vcf and .bcf also compressed, with .gz after them."""


def extra(module: str, what: str) -> Any:
    """Import a module of the optional dependencies, or say how to install them.

    Parameters
    ----------
    module
        Its name.
    what
        What needs it, for the message.

    Raises
    ------
    InputError
        If it is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        do = 'pip install "ebmodel[genotypes]"'
        raise InputError(f"the package {module}", "no such package", what, do) from error


def read_bed(path: Path) -> pd.DataFrame:
    """Read PLINK 1 genotypes: how many of the .bim file's first allele (A1, usually the minor one) a sample has.

    Returns
    -------
    DataFrame (sample, snp)
        Named by the .fam file's individual and the .bim file's variant identifiers.

    Raises
    ------
    InputError
        If bed-reader is not installed, or the three files do not belong together.
    OSError
        If one of them cannot be read.
    """
    open_bed = extra("bed_reader", str(path)).open_bed
    try:
        with open_bed(path) as bed:
            counts, samples, snps = bed.read(dtype="float64", num_threads=1), bed.iid, bed.sid
    except ValueError as error:
        raise InputError("a whole PLINK .bed file", _one_line(error), str(path), "make it again") from error
    return _frame(counts, samples, snps, path)


def read_vcf(path: Path) -> pd.DataFrame:
    """Read VCF or BCF genotypes (the GT field): how many alternative alleles, of any kind, a sample has.

    Returns
    -------
    DataFrame (sample, snp)
        A variant without an identifier is named ``chromosome:position:reference:alternative``. A genotype with any
        allele unknown is missing; a haploid one counts one allele at most.

    Raises
    ------
    InputError
        If cyvcf2 is not installed, or the file is damaged or holds no genotypes.
    OSError
        If it is no VCF or BCF file.
    """
    reader = extra("cyvcf2", str(path)).VCF(str(path))
    names, columns = [], []
    try:
        for variant in reader:
            names.append(variant.ID or ":".join([variant.CHROM, str(variant.POS), variant.REF, ",".join(variant.ALT)]))
            expect("GT" in variant.FORMAT, "genotypes (GT)", f"none for variant {names[-1]!r}", str(path), "call them")
            alleles = variant.genotype.array()[:, :-1]  # the last column is the phase; -1 is unknown, -2 no allele
            unknown = (alleles == -1).any(axis=1)
            columns.append(np.where(unknown, np.nan, (alleles > 0).sum(axis=1)))
    except InputError:
        raise
    except Exception as error:  # cyvcf2 raises no narrower one
        raise InputError("a whole VCF or BCF file", _one_line(error), str(path), "fetch or write it again") from error
    finally:
        reader.close()
    expect(len(names) > 0, "at least one variant", "a header alone", str(path), "add data")
    return _frame(np.column_stack(columns), reader.samples, names, path)


def _frame(counts: Any, samples: Any, snps: Any, path: Path) -> pd.DataFrame:
    expect(len(samples) > 0, "at least one sample", "none", str(path), "add data")
    index, columns = pd.Index(samples, dtype=str, name="sample"), pd.Index(snps, dtype=str)
    twice = columns[columns.duplicated()].unique()
    expect(len(twice) == 0, "each SNP once", f"{listed(twice)} more than once", str(path), "make identifiers unique")
    return pd.DataFrame(counts, index, columns)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
