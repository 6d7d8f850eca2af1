"""Genotypes from the formats of genetics as whole tables: PLINK .bed and .pgen, VCF and BCF.

`ebmodel.files.read_table` comes here, so every command and function that reads genotypes from a path reads these too.
A genotype is a number of alleles, 0, 1 or 2, or a dosage between, and NaN where it is missing. The files are opened by
`ebmodel.eqtl.variants`, which reads them a part at a time.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ebmodel.errors import InputError, expect, listed

__all__ = ["KINDS", "extra", "read_genotypes"]

KINDS = (".bed", ".pgen", ".vcf", ".bcf")
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


def read_genotypes(path: Path) -> pd.DataFrame:
    """Read a whole file as it was written, in its order and with the allele that it counts.

    That is the .bim file's first allele (A1, usually the minor one) for .bed, and the alternative alleles, of any
    kind, for the others: dosages where a .pgen file or the DS field of a VCF has them, else called genotypes.

    Returns
    -------
    DataFrame (sample, snp)
        Named by the individual's and the variant's identifiers. A variant of a VCF, BCF or .pvar file without one is
        named ``chromosome:position:reference:alternative``. A genotype with any allele unknown is missing; a haploid
        one of a VCF counts one allele at most.

    Raises
    ------
    InputError
        If the package for the format is not installed; if a file is missing, damaged or holds no genotypes, or the
        files of PLINK do not belong together; or if a name comes twice.
    """
    from ebmodel.eqtl.variants import open_variants

    with open_variants(path, as_written=True) as variants:
        counts = variants.read(0, len(variants)).astype(np.float64)
        index, columns = pd.Index(variants.samples, dtype=str, name="sample"), pd.Index(variants.table["id"], dtype=str)
    twice = columns[columns.duplicated()].unique()
    expect(len(twice) == 0, "each SNP once", f"{listed(twice)} more than once", str(path), "make identifiers unique")
    return pd.DataFrame(counts, index, columns.rename(None))
