"""Genotype files of a simulated study: PLINK .bed, PLINK 2 .pgen, VCF."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ebmodel.eqtl.simulation.cohort import Cohort
from ebmodel.eqtl.simulation.genotypes import Packed
from ebmodel.eqtl.simulation.packing import BED_MARK, END, MISSING, bgzf, pack
from ebmodel.genotypes import extra

__all__ = ["FORMATS", "write_genotypes"]

FORMATS: Final = {"bed": "genotypes.bed", "pgen": "genotypes.pgen", "vcf": "genotypes.vcf.gz"}
"""By format, the file's name."""
AT_ONCE = 20_000
CALLS = {0: b"\t0/0", 1: b"\t0/1", 2: b"\t1/1", MISSING: b"\t./."}


def write_genotypes(
    folder: Path,
    kind: str,
    packed: Packed,
    variants: pd.DataFrame,
    cohort: Cohort,
    *,
    missing: float,
    rng: np.random.Generator,
) -> None:
    """Write allele counts to ``folder`` in one of the `FORMATS`, some of them missing at random.

    Parameters
    ----------
    folder, kind
        Where, and as what: a key of `FORMATS`.
    packed, variants
        From `simulate_genotypes`.
    cohort
        The donors.
    missing
        Share of the counts set missing.
    rng
        Source of random numbers.

    Raises
    ------
    InputError
        If the package that writes the format is not installed.
    """
    pieces = _pieces(packed, missing, rng)
    path = folder / FORMATS[kind]
    if kind == "bed":
        _write_bed(path, pieces, variants, cohort)
    elif kind == "pgen":
        _write_pgen(path, pieces, variants, cohort)
    else:
        _write_vcf(path, pieces, variants, cohort)


def _pieces(packed: Packed, missing: float, rng: np.random.Generator) -> Iterator[NDArray[np.int8]]:
    for start in range(0, packed.variants, AT_ONCE):
        counts = packed.read(slice(start, start + AT_ONCE))
        flat = counts.reshape(-1)
        flat[rng.integers(0, flat.size, rng.binomial(flat.size, missing))] = MISSING
        yield counts


def _write_bed(path: Path, pieces: Iterator[NDArray[np.int8]], variants: pd.DataFrame, cohort: Cohort) -> None:
    with path.open("wb") as out:
        out.write(BED_MARK)
        for counts in pieces:
            out.write(pack(counts).tobytes())
    bim = variants[["chromosome", "id", "position", "counted", "other"]]
    bim.insert(2, "morgans", 0)
    bim.to_csv(path.with_suffix(".bim"), sep="\t", header=False, index=False)
    lines = [f"0\t{name}\t0\t0\t{1 + woman}\t-9\n" for name, woman in zip(cohort.donors, cohort.female, strict=True)]
    path.with_suffix(".fam").write_text("".join(lines))


def _write_pgen(path: Path, pieces: Iterator[NDArray[np.int8]], variants: pd.DataFrame, cohort: Cohort) -> None:
    pgenlib = extra("pgenlib", str(path))
    with pgenlib.PgenWriter(
        str(path).encode(), len(cohort.donors), variant_ct=len(variants), nonref_flags=False
    ) as writer:
        for counts in pieces:
            writer.append_biallelic_batch(counts)
    pvar = variants[["chromosome", "position", "id", "other", "counted"]]
    pvar.columns = pd.Index(["#CHROM", "POS", "ID", "REF", "ALT"])
    pvar.to_csv(path.with_suffix(".pvar"), sep="\t", index=False)
    lines = [f"{name}\t{1 + woman}\n" for name, woman in zip(cohort.donors, cohort.female, strict=True)]
    path.with_suffix(".psam").write_text("".join(["#IID\tSEX\n", *lines]))


def _write_vcf(path: Path, pieces: Iterator[NDArray[np.int8]], variants: pd.DataFrame, cohort: Cohort) -> None:
    text = np.zeros(256, dtype=np.uint32)  # four characters a genotype
    for count, call in CALLS.items():
        text[count % 256] = np.frombuffer(call, dtype=np.uint32)[0]
    ends = variants.groupby("chromosome", sort=False)["position"].max()
    head = [
        "##fileformat=VCFv4.2",
        *(f"##contig=<ID={name},length={end}>" for name, end in ends.items()),
        '##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">',
        "\t".join(["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT", *cohort.donors]),
    ]
    fixed = variants.assign(rest=".\tPASS\t.\tGT")[["chromosome", "position", "id", "other", "counted", "rest"]]
    with path.open("wb") as out:
        out.write(bgzf("".join(f"{line}\n" for line in head).encode()))
        start = 0
        for counts in pieces:
            rows = fixed.iloc[start : start + len(counts)].itertuples(index=False, name=None)
            start += len(counts)
            calls = text[counts.view(np.uint8)]
            lines = ("\t".join(map(str, row)).encode() + call.tobytes() for row, call in zip(rows, calls, strict=True))
            out.write(bgzf(b"\n".join(lines) + b"\n"))
        out.write(END)
