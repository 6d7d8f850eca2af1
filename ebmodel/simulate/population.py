"""Setting 4's donors: a simulated substitute for the protected genotypes that the paper draws from.

The paper has 838 donors with 30 SNPs near one gene, allele frequency at least 5 %, pruned for linkage disequilibrium
(LD). In their place stand simulated donors of one population with a European-like history (Gutenkunst et al. 2009) in a
region of 2 Mb with little recombination, through the same filters; of many sets of 30 SNPs, the one with the mean
squared error of least squares that the paper prints for Setting 4. They are not the paper's donors: where results
depend on more than that error, those of the paper need not come out.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ebmodel.errors import expect
from ebmodel.genotypes import extra
from ebmodel.labels import SAMPLE, SNP
from ebmodel.model import Array
from ebmodel.simulate.draws import Genotypes, named, numbered

__all__ = ["MADE_WITH", "donors", "ols_mse", "region", "shipped"]

SHIPPED = Path(__file__).with_name("donors.csv.gz")
MADE_WITH = "1.4.4"
"""Version of msprime that the shipped donors come from: another may give others for the same seed."""

LENGTH, RECOMBINATION, MUTATION = 2e6, 4e-9, 2.35e-8
"""Base pairs, and rates per base pair and generation. Recombination is a third of the genome's mean: LD then outlasts
PLINK's windows of 50 SNPs, and least squares errs as much as the paper prints."""
MAF, WINDOW, STEP, PRUNE_R2, MAX_R2 = 0.05, 50, 5, 0.2, 0.5
N, OBSERVED, SIGMA = 300, 0.8, 10.0
"""Setting 4's samples, share of them observed, and error sd."""


def donors(*, seed: int = 1, n: int = 838, p: int = 30, mse: float = 4.76, candidates: int = 500) -> xr.DataArray:
    """Simulate donors like those of the paper's Setting 4: allele counts of ``p`` SNPs of one region.

    Needs msprime: ``pip install "ebmodel[genotypes]"``. SNPs have minor allele frequency >= 5 %; they are pruned much
    as by ``plink --indep-pairwise 50 5 0.2``; no two of those chosen have R^2 > 0.5. Of ``candidates`` random choices
    the one is kept whose expected mean squared error of least squares in Setting 4 is nearest ``mse``.

    Parameters
    ----------
    seed
        Of the random numbers. The default's result, with the defaults of the rest, is what `setting` uses.
    n, p
        Donors and SNPs.
    mse
        Target; the paper prints 4.74 to 4.82 in the 15 cells of Setting 4.
    candidates
        Choices of SNPs to try.

    Returns
    -------
    DataArray (sample, snp)
        Minor alleles: 0, 1 or 2. SNPs are named by position, in its order. Attributes: ``ols_mse`` and its standard
        error ``ols_mse_se``, ``seed`` and the version of ``msprime``.

    Raises
    ------
    InputError
        If msprime is not installed, or the region has too few SNPs.
    """
    msprime = extra("msprime", "simulate.donors")
    ancestry, mutation, choices, draws = np.random.SeedSequence(seed).spawn(4)
    counts, position = _region(msprime, n, *(int(s.generate_state(1)[0]) // 2 + 1 for s in (ancestry, mutation)))
    kept = _prune(counts)
    counts, position = counts[:, kept], position[kept]
    r2 = np.asarray(np.corrcoef(counts.T) ** 2)
    rng = np.random.default_rng(choices)
    sets = [_admissible(r2, p, rng) for _ in range(candidates)]
    sets = [chosen for chosen in sets if len(chosen) == p]
    got = f"{len(position)} SNPs after pruning"
    expect(bool(sets), f"{p} SNPs with R^2 <= {MAX_R2}", got, "simulate.donors", "ask for fewer, or take another seed")

    rough, fine = (np.random.default_rng(s) for s in draws.spawn(2))
    weights = _resamples(n, 100, rough)
    sets.sort(key=lambda chosen: abs(_ols_mse(counts[:, chosen], weights).mean() - mse))
    weights = _resamples(n, 2000, fine)
    errors = {tuple(chosen): _ols_mse(counts[:, chosen], weights) for chosen in sets[:10]}
    best = min(errors, key=lambda chosen: abs(errors[chosen].mean() - mse))
    return xr.DataArray(
        counts[:, best].astype(np.int8),
        dims=(SAMPLE, SNP),
        coords={SAMPLE: numbered("donor", n), SNP: [f"snp{x:.0f}" for x in position[list(best)]]},
        attrs={
            "ols_mse": float(errors[best].mean()),
            "ols_mse_se": float(errors[best].std(ddof=1) / np.sqrt(len(weights))),
            "seed": seed,
            "msprime": msprime.__version__,
        },
    )


def ols_mse(genotypes: Any, draws: int = 2000, seed: int = 0) -> tuple[float, float]:
    """E MSE of least squares in Setting 4 with these donors, by simulation of which are drawn, and its standard error.

    Parameters
    ----------
    genotypes : (donor, snp)
        As in `setting`.
    draws, seed
        Simulated samples of donors, and the seed of their random numbers.
    """
    X = named(genotypes).X
    errors = _ols_mse(X, _resamples(len(X), draws, np.random.default_rng(seed)))
    return float(errors.mean()), float(errors.std(ddof=1) / np.sqrt(draws))


@cache
def shipped() -> Genotypes:
    """The result of ``donors()``, stored: written by its ``.to_pandas().to_csv`` to donors.csv.gz."""
    return named(SHIPPED)


def region(
    msprime: Any, n: int, length: float, mutation: float, recombination: float, seeds: tuple[int, int]
) -> tuple[NDArray[np.int8], Array]:
    """Derived allele counts (snp, donor) of every variable site of a region, and its positions.

    Parameters
    ----------
    msprime
        The module, which is optional.
    n
        Donors.
    length, mutation, recombination
        Base pairs, and rates per base pair and generation.
    seeds
        Of the ancestry and of the mutations, from 1 to 2^31.
    """
    europe = msprime.Demography()  # sizes, times in generations: Gutenkunst et al. 2009, without migration
    europe.add_population(name="Europe", initial_size=1000 * np.exp(0.004 * 848), growth_rate=0.004)
    for time, size in ((848, 2100), (5600, 12_300), (8800, 7300)):
        europe.add_population_parameters_change(time=time, initial_size=size, growth_rate=0)
    trees = msprime.sim_ancestry(
        n, demography=europe, sequence_length=length, recombination_rate=recombination, random_seed=seeds[0]
    )
    model = msprime.BinaryMutationModel()
    trees = msprime.sim_mutations(trees, rate=mutation, model=model, random_seed=seeds[1])
    haplotypes = trees.genotype_matrix().astype(np.int8)
    counts = haplotypes[:, ::2] + haplotypes[:, 1::2]
    return counts, trees.sites_position


def _region(msprime: Any, n: int, ancestry: int, mutation: int) -> tuple[NDArray[np.int64], Array]:
    """Minor allele counts (donor, snp) of every SNP with MAF >= 5 %, and positions."""
    derived, position = region(msprime, n, LENGTH, MUTATION, RECOMBINATION, (ancestry, mutation))
    counts = derived.T.astype(np.int64)
    frequency = counts.mean(axis=0) / 2.0
    counts = np.where(frequency > 0.5, 2 - counts, counts)
    common = np.minimum(frequency, 1.0 - frequency) >= MAF
    return counts[:, common], position[common]


def _prune(counts: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Mark SNPs to keep in windows of 50 by steps of 5: in a pair with R^2 > 0.2 the rarer one goes.

    Simpler than PLINK's ``--indep-pairwise 50 5 0.2`` (`ebmodel.eqtl.indep_pairwise`), which goes over a window until
    no pair is left and keeps about a tenth fewer. It stays, because stored results stand on the donors that it chose.
    """
    unit = (counts - counts.mean(axis=0)) / (counts.std(axis=0) * np.sqrt(len(counts)))
    frequency, kept = counts.mean(axis=0), np.ones(counts.shape[1], dtype=bool)
    for start in range(0, len(kept), STEP):
        window = np.arange(start, min(start + WINDOW, len(kept)))
        window = window[kept[window]]
        linked = np.triu((unit[:, window].T @ unit[:, window]) ** 2, 1) > PRUNE_R2
        for i, j in zip(*np.nonzero(linked), strict=True):
            a, b = window[i], window[j]
            if kept[a] and kept[b]:
                kept[a if frequency[a] < frequency[b] else b] = False
    return kept


def _admissible(r2: Array, p: int, rng: np.random.Generator) -> list[int]:
    """Up to p SNPs in random order, none with R^2 > 0.5 with one before it; sorted."""
    chosen: list[int] = []
    for j in rng.permutation(len(r2)):
        if not chosen or r2[j, chosen].max() <= MAX_R2:
            chosen.append(int(j))
        if len(chosen) == p:
            break
    return sorted(chosen)


def _resamples(donors: int, draws: int, rng: np.random.Generator) -> Array:
    """How often each donor is among a tissue's observed samples, (draw, donor)."""
    return rng.multinomial(round(OBSERVED * N), np.full(donors, 1.0 / donors), size=draws).astype(float)


def _ols_mse(X: NDArray[Any], weights: Array) -> Array:
    """E{MSE(OLS) | X_t} = sigma^2/p tr (X_t'X_t)^-1 for every draw of the observed samples, (draw,)."""
    p = X.shape[1]
    i, j = np.triu_indices(p)
    products = (X[:, i] * X[:, j]).astype(float)
    gram = np.empty((len(weights), p, p))
    gram[:, i, j] = gram[:, j, i] = weights @ products  # X_t'X_t = sum over donors of weight x x'
    return np.asarray(SIGMA**2 / p * np.trace(np.linalg.inv(gram), axis1=1, axis2=2))
