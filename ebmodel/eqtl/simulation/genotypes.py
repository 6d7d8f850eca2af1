"""Genotypes of a simulated study: a genome of one population with a European-like history, block by block.

Blocks are simulated by coalescence (msprime) and are independent of each other: linkage disequilibrium (LD) ends where
a block does. Mutations fall as rarely as it takes to leave the density asked for, which is the same as thinning those
of a whole genome at random.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ebmodel.eqtl.simulation.packing import pack, unpack
from ebmodel.genotypes import extra
from ebmodel.parallel import spread
from ebmodel.simulate.population import region

__all__ = ["Contig", "Packed", "genome", "simulate_genotypes"]

LENGTHS = (249, 242, 198, 190, 182, 171, 159, 145, 138, 134, 135, 133, 114, 107, 102, 90, 83, 80, 59, 64, 47, 51)
"""Mb of the autosomes of GRCh38; a simulated genome keeps their proportions."""
PER_GENE, SHORTEST, BLOCK = 360_000, 2_500_000, 5_000_000
"""Base pairs of genome a gene, of the shortest chromosome, and of the longest block."""
MAF = 0.01
RECOMBINATION = 1e-8
"""Per base pair and generation: the genome's mean."""
YIELD = 6.2e10
"""Variants with MAF >= 1 % that a mutation rate of 1 would leave in a Mb; measured, with 838 donors."""
SPARE = 1.5
"""How many times the variants asked for are simulated: blocks differ, and what is too much goes at random."""
TRANSITION = 2 / 3
"""Share of changes between A and G, or C and T."""


class Contig(NamedTuple):
    """A chromosome."""

    name: str
    length: int


class _Block(NamedTuple):
    contig: str
    start: int
    length: int


def genome(genes: int) -> list[Contig]:
    """Chromosomes for a number of genes, 0.36 Mb each: as many of 22 as can have at least 2.5 Mb."""
    total = max(genes * PER_GENE, SHORTEST)
    for count in range(len(LENGTHS), 1, -1):
        lengths = [round(total * mb / sum(LENGTHS[:count])) for mb in LENGTHS[:count]]
        if min(lengths) >= SHORTEST:
            return [Contig(f"chr{i + 1}", length) for i, length in enumerate(lengths)]
    return [Contig("chr1", total)]


class Packed:
    """Allele counts on disk, a row a variant, four to a byte; opened where it is read.

    Parameters
    ----------
    path
        The file.
    variants, donors
        Its rows, and the counts in each.
    """

    def __init__(self, path: Path, variants: int, donors: int) -> None:
        self.path, self.variants, self.donors = path, variants, donors

    def read(self, rows: slice | NDArray[np.int64]) -> NDArray[np.int8]:
        """Allele counts (variant, donor) of some rows."""
        shape = self.variants, -(-self.donors // 4)
        return unpack(np.asarray(np.memmap(self.path, np.uint8, "r", shape=shape)[rows]), self.donors)


def simulate_genotypes(
    path: Path,
    contigs: Sequence[Contig],
    *,
    donors: int,
    density: float,
    seed: np.random.SeedSequence,
    jobs: int,
    progress: bool,
) -> pd.DataFrame:
    """Simulate the variants of a genome and write their allele counts to ``path``, for `Packed` to read.

    Parameters
    ----------
    path
        Where to write.
    contigs
        The genome.
    donors
        Their number.
    density
        Variants a Mb, with minor allele frequency >= 1 %.
    seed
        Its children seed the blocks, so results do not depend on ``jobs``.
    jobs, progress
        As in `ebmodel.parallel.spread`.

    Returns
    -------
    DataFrame
        A row a variant: chromosome, position (from 1), id, counted (the derived allele), other, frequency (of
        ``counted``).

    Raises
    ------
    InputError
        If msprime is not installed.
    """
    extra("msprime", "the simulation of a study")
    blocks = [block for contig in contigs for block in _blocks(contig)]
    tasks = [(block, donors, density, child) for block, child in zip(blocks, seed.spawn(len(blocks)), strict=True)]
    tables = []
    with path.open("wb") as out:
        for packed, table in spread(_simulate_block, tasks, jobs=jobs, title="genotypes", progress=progress):
            out.write(packed.tobytes())
            tables.append(table)
    return pd.concat(tables, ignore_index=True)


def _blocks(contig: Contig) -> list[_Block]:
    edges = np.linspace(0, contig.length, -(-contig.length // BLOCK) + 1).astype(int).tolist()
    return [_Block(contig.name, a, b - a) for a, b in pairwise(edges)]


def _simulate_block(
    block: _Block, donors: int, density: float, seed: np.random.SeedSequence
) -> tuple[NDArray[np.uint8], pd.DataFrame]:
    rng = np.random.default_rng(seed)
    ancestry, mutation = (int(s) for s in rng.integers(1, 2**31, 2))
    msprime = extra("msprime", "the simulation of a study")
    rate, seeds = SPARE * density / YIELD, (ancestry, mutation)
    counts, position = region(msprime, donors, block.length, rate, RECOMBINATION, seeds)
    frequency = counts.mean(axis=1) / 2.0
    common = np.flatnonzero(np.minimum(frequency, 1.0 - frequency) >= MAF)
    wanted = round(density * block.length / 1e6)
    kept = np.sort(rng.permutation(common)[:wanted])
    other, counted = _alleles(len(kept), rng)
    place = block.start + position[kept].astype(np.int64) + 1
    columns = {
        "chromosome": block.contig,
        "position": place,
        "id": [f"{block.contig}_{x}_{a}_{b}_b38" for x, a, b in zip(place, other, counted, strict=True)],
        "counted": counted,
        "other": other,
        "frequency": frequency[kept],
    }
    return pack(counts[kept]), pd.DataFrame(columns)


def _alleles(size: int, rng: np.random.Generator) -> tuple[NDArray[np.str_], NDArray[np.str_]]:
    """Draw the reference allele and the alternative one."""
    bases = np.array(["A", "C", "G", "T"])
    other = rng.integers(0, 4, size)
    transition = rng.random(size) < TRANSITION
    step = np.where(transition, 2, rng.choice([1, 3], size))  # A and G, C and T are two apart
    return bases[other], bases[(other + step) % 4]
