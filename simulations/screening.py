"""Does choosing a gene's SNPs on all samples, as the paper does, flatter what cross-validation says of predictions?

A gene's SNPs are chosen by Stouffer's Z, either on all samples, "outside" the folds, or again on every training set,
"inside" them. The paper draws folds within each tissue, so that a donor who is tested in one tissue has taught in
others; "donors" is inside the folds too, with all samples of a donor in one of them. R^2 of the three is set against
the truth, "fresh": predictors fitted to all samples, with SNPs chosen on all samples, applied to other donors, as many,
adjusted for covariates of their own. A gene has the same donors, covariates and errors in every cell, so that cells
differ by what they are called and by nothing else.

Genes without effects have no R^2 to find. Where errors of a donor's tissues correlate, chance associations agree over
tissues: Stouffer's Z takes them for evidence, and what other tissues teach predicts a donor's own error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtri

from ebmodel.eqtl import penalised
from ebmodel.eqtl.crossvalidation import (
    ESTIMATORS,
    METHODS,
    cross_validate,
    cross_validate_chosen,
    draw_folds,
    fit_gene,
    score,
)
from ebmodel.eqtl.moments import Moments, gather
from ebmodel.eqtl.scan import Projection, Sums, fold_sums, select, stouffer, t_from_sums, z_from_t
from ebmodel.eqtl.tissues import TISSUES, well_sampled
from ebmodel.model import Array
from simulations.store import Record
from simulations.study import Cell, Study, Whole
from simulations.tables import Table

DONORS = 838
SIZES = tuple(sorted(TISSUES[name].samples for name in well_sampled())[::2])
"""Of 16 tissues, GTEx's: every other one of those with 200 samples."""
FACTORS = ((250, 38), (350, 53), (10**6, 68))
"""GTEx's covariates: for fewer than so many samples, so many."""
SNPS, NEIGHBOURS, RAREST = 60, 0.6, 0.05
"""In the window; correlation of neighbours on a haplotype's latent scale; minor allele frequency."""
CAUSAL, ACTIVE, OWN = 3, 0.6, 0.5
"""SNPs with effects; share of tissues that have them; sd of a tissue's own effects, where that of common ones is 1."""
FOLDS, R2, MOST = 10, 0.5, 100
"""As the analysis of GTEx has them."""
HERITABILITY = (0.0, 0.01, 0.05, 0.2)
"""In active tissues."""
CORRELATION = (0.0, 0.3)
"""Of errors between tissues of a donor."""
P = (1e-6, 1e-3)
"""Of Stouffer's Z; the paper's, and one that lets genes without effects pass."""
WHERE = ("outside", "inside", "donors", "fresh")
WORDS = {"ols": "OLS", "paper": "the paper's", "generalised": "generalised", "ridge": "ridge",
         "elastic-net": "elastic net"}  # fmt: skip
FEWEST = 10
"""Genes with SNPs that a row of the README's tables needs."""


# What is run ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sample:
    """Donors, and of every tissue whose samples there are, covariates and errors."""

    G: Array
    """(donor, snp) centred allele counts."""
    rows: list[NDArray[np.int64]]
    """One (sample,) a tissue."""
    projections: list[Projection]
    common: Array
    """(donor,) what the errors of a donor's tissues share, before it is scaled."""
    own: list[Array]
    """One (sample,) a tissue: the rest of the errors."""

    def genotypes(self, snps: NDArray[np.int64]) -> list[Array]:
        """Adjusted genotypes, one (sample, snp) a tissue."""
        G = self.G[:, snps]
        return [projection.residual(G[rows]) for rows, projection in zip(self.rows, self.projections, strict=True)]

    def expression(self, effects: Array, cell: Cell) -> list[Array]:
        """Adjusted expression, one (sample,) a tissue, in units of its residual sd: X beta(t) + eps(t)."""
        rho, h2 = float(cell["correlation"]), float(cell["heritability"])
        values = []
        for rows, projection, own, beta in zip(self.rows, self.projections, self.own, effects, strict=True):
            errors = np.sqrt(rho) * self.common[rows] + np.sqrt(1.0 - rho) * own
            y = projection.residual(self.G[rows] @ beta + np.sqrt(1.0 - h2) * errors)
            values.append(y / np.sqrt(y @ y / projection.dof))
        return values


def draw_sample(frequency: Array, covariates: float, rng: np.random.Generator) -> Sample:
    """Draw donors and their samples; ``covariates`` is a share of GTEx's numbers."""
    latent = rng.standard_normal((2, DONORS, SNPS))  # two haplotypes, autoregressive along the chromosome
    for j in range(1, SNPS):
        latent[..., j] = NEIGHBOURS * latent[..., j - 1] + np.sqrt(1.0 - NEIGHBOURS**2) * latent[..., j]
    counts = (latent < ndtri(frequency)).sum(axis=0)
    rows = [rng.permutation(DONORS)[:n] for n in SIZES]
    columns = [round(covariates * next(k for below, k in FACTORS if n < below)) for n in SIZES]
    # their effects do not matter: they are projected out
    projections = [Projection.of(rng.standard_normal((n, k))) for n, k in zip(SIZES, columns, strict=True)]
    common, own = rng.standard_normal(DONORS), [rng.standard_normal(n) for n in SIZES]
    return Sample(counts - counts.mean(axis=0), rows, projections, common, own)


def draw_effects(heritability: float, G: Array, rng: np.random.Generator) -> Array:
    """Draw beta(t), (tissue, snp): a few SNPs, in some tissues, in part of the tissue's own."""
    m = len(SIZES)
    causal = rng.choice(SNPS, CAUSAL, replace=False)
    active = rng.permutation(m) < round(ACTIVE * m)
    effects = np.zeros((m, SNPS))
    effects[:, causal] = rng.standard_normal(CAUSAL) + OWN * rng.standard_normal((m, CAUSAL))
    effects[~active] = 0.0
    return effects * np.sqrt(heritability / np.var(G @ effects[active].T, axis=0).mean())


def gene(cell: Cell, stream: np.random.SeedSequence) -> Record:
    """One gene: whether SNPs were chosen, how many, and mean R^2 over tissues by every method, in all ways."""
    # of study and replication, but not of the cell: the same draws everywhere
    rng = np.random.default_rng([stream.entropy[0], stream.entropy[-1]])
    frequency = rng.uniform(RAREST, 0.5, SNPS)
    folds, of_donor = [draw_folds(n, FOLDS, rng) for n in SIZES], draw_folds(DONORS, FOLDS, rng)
    effects_rng, known, fresh = rng.spawn(3)
    here = draw_sample(frequency, float(cell["covariates"]), known)
    effects = draw_effects(float(cell["heritability"]), here.G, effects_rng)
    Y = here.expression(effects, cell)
    chosen, by_fold = choose(here, Y, folds, float(cell["p"]))
    record = {"passing": float(len(chosen) > 0), "snps": float(len(chosen)) if len(chosen) else np.nan,
              "snps_inside": np.mean([len(some) for some in by_fold]) if len(chosen) else np.nan}  # fmt: skip
    if not len(chosen):
        return record | {f"{where}_{method}": np.nan for where, method in product(WHERE, METHODS)}
    other = draw_sample(frequency, float(cell["covariates"]), fresh)
    ways = {
        **on_all_samples(here, Y, folds, chosen, other, other.expression(effects, cell)),
        "inside": on_training_sets(here, Y, folds, by_fold),
        "donors": on_training_sets(here, Y, grouped := [of_donor[rows] for rows in here.rows],
                                   choose(here, Y, grouped, float(cell["p"]))[1]),
    }  # fmt: skip
    for where, method in product(WHERE, METHODS):
        sums, predictors = ways[where]
        record[f"{where}_{method}"] = float(np.nanmean(score(sums, predictors[method]).r2))
    return record


def choose(
    sample: Sample, Y: Sequence[Array], folds: Sequence[NDArray[np.int64]], p: float
) -> tuple[NDArray[np.int64], list[NDArray[np.int64]]]:
    """SNPs chosen on all samples, the best first, and on every training set."""
    whole, training = [], []
    X = sample.genotypes(np.arange(SNPS))
    for x, y, fold, projection in zip(X, Y, folds, sample.projections, strict=True):
        sums = fold_sums(x, y[:, None], fold, FOLDS, projection.leverage)
        whole.append(_z(sums.total()))
        training.append(_z(sums.training()))
    z = np.concatenate([np.array(whole).transpose(1, 0, 2), np.array(training).transpose(1, 0, 2)])
    sets = [select(stouffer(some)[0], sample.G, p, R2, MOST).positions for some in z]
    return sets[0], sets[1:]


def _z(sums: Sums) -> Array:
    """(fold, snp)."""
    dof = sums.count - 1.0
    return np.asarray(z_from_t(t_from_sums(*sums[:3], dof), dof[:, None, None])[..., 0])


type Predicted = tuple[Moments, Mapping[str, Array]]
"""Sums of the samples that are predicted, by tissue and fold, and by method the effects that predict them."""


def on_all_samples(
    here: Sample,
    Y: Sequence[Array],
    folds: Sequence[NDArray[np.int64]],
    chosen: NDArray[np.int64],
    other: Sample,
    Y_other: Sequence[Array],
) -> dict[str, Predicted]:
    """With SNPs chosen on all samples: cross-validated, and what all samples say of fresh donors."""
    sums, XX, names = moments(here, Y, folds, chosen), _products(here, chosen), _names()
    fits = {name: fit_gene(sums.total(), XX, names, name) for name in ESTIMATORS}
    outside = cross_validate(sums, XX, names, METHODS, {name: found for name, (found, _) in fits.items()})
    effects = {name: about.mean for name, (_, about) in fits.items()} | alone(sums)
    fresh = moments(other, Y_other, [np.zeros(n, dtype=np.int64) for n in SIZES], chosen, folds=1)
    return {"outside": (sums, outside), "fresh": (fresh, {name: b[:, None] for name, b in effects.items()})}


def on_training_sets(
    here: Sample, Y: Sequence[Array], folds: Sequence[NDArray[np.int64]], by_fold: Sequence[NDArray[np.int64]]
) -> Predicted:
    """Cross-validated with the SNPs that each training set chose."""
    used = np.unique(np.concatenate(by_fold))
    sums, places = moments(here, Y, folds, used), [np.searchsorted(used, some) for some in by_fold]
    return sums, cross_validate_chosen(sums, _products(here, used), _names(), places)


def _products(sample: Sample, snps: NDArray[np.int64]) -> Array:
    return np.asarray(sample.G[:, snps].T @ sample.G[:, snps])


def _names() -> NDArray[np.str_]:
    return np.array([f"tissue{t}" for t in range(len(SIZES))])


def alone(sums: Moments) -> dict[str, Array]:
    """Effects (tissue, snp) from all samples by the methods that take each tissue alone."""
    parts = sums.gram, sums.cross, sums.yy
    return {
        "ols": penalised.least_squares(*parts[:2]).full,
        "ridge": penalised.ridge(*parts, folds=()).full,
        "elastic-net": penalised.elastic_net(*parts, folds=()).full,
    }


def moments(
    sample: Sample, Y: Sequence[Array], fold: Sequence[NDArray[np.int64]], snps: NDArray[np.int64], folds: int = FOLDS
) -> Moments:
    """Sums by tissue and fold."""
    order = [np.argsort(labels, kind="stable") for labels in fold]
    edges = [np.append(0, np.cumsum(np.bincount(labels, minlength=folds))) for labels in fold]
    X = [x[rows] for x, rows in zip(sample.genotypes(snps), order, strict=True)]
    leverage = [projection.leverage[rows] for projection, rows in zip(sample.projections, order, strict=True)]
    return gather(X, [y[rows] for y, rows in zip(Y, order, strict=True)], leverage, edges)


# What is shown -------------------------------------------------------------------------------------------------------

KEYS = ("heritability", "correlation", "p", "covariates")
HEADS = ("h²", "ρ", "p <", "covariates")


def _groups(results: pd.DataFrame, least: int) -> list[tuple[list[str], pd.DataFrame, float]]:
    """Of every cell with enough genes that have SNPs: what it is called, those genes, and their share."""
    groups = []
    for key, rows in results.groupby(list(KEYS), sort=False):
        genes = rows[rows["passing"] > 0]
        if len(genes) >= least:
            h2, rho, p, covariates = map(float, key)
            named = [f"{h2:g}", f"{rho:g}", f"{p:.0e}".replace("e-0", "e-"), "GTEx's" if covariates else "none"]
            groups.append((named, genes, len(genes) / len(rows)))
    return groups


def _percent(values: pd.Series) -> str:
    return f"{100 * values.mean():.2f}"


def _with_error(values: pd.Series) -> str:
    error = 100 * values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
    return f"{100 * values.mean():.2f} ± {error:.2f}"


def as_table(results: pd.DataFrame, least: int = 1) -> Table:
    """Which genes have SNPs, and R^2 by every method in the three ways."""
    rows = []
    for named, genes, share in _groups(results, least):
        r2 = [" / ".join(_percent(genes[f"{where}_{method}"]) for where in WHERE) for method in WORDS]
        rows.append([*named, f"{100 * share:.0f}", f"{genes['snps'].mean():.1f}", *r2])
    caption = (
        "R² in per cent: SNPs chosen outside the folds / inside them / inside folds of donors / fresh donors; means "
        f"over {len(SIZES)} tissues and genes with SNPs"
    )
    return Table("screening", caption, [*HEADS, "% of genes with SNPs", "SNPs", *WORDS.values()], rows)


def gain_table(results: pd.DataFrame, least: int = 1) -> Table:
    """What the model gains on least squares, in all ways."""
    rows = []
    for named, genes, _ in _groups(results, least):
        gains = [_with_error(genes[f"{where}_{method}"] - genes[f"{where}_ols"]) for method, where in GAINS]
        rows.append([*named, *gains])
    header = [*HEADS, *(f"{WORDS[method]}, {where}" for method, where in GAINS)]
    return Table("screening_gains", "Gain of R² over OLS, in points of per cent ± SE", header, rows)


GAINS = tuple(product(("paper", "generalised"), WHERE))


def finding(results: pd.DataFrame) -> str:
    """By how much validation overstates R^2 and the gain, with errors that correlate and without."""
    said = []
    for rho in CORRELATION:
        genes = results[(results["correlation"] == rho) & (results["passing"] > 0) & (results["covariates"] > 0)]
        if len(genes) < FEWEST:
            continue
        gain = {where: genes[f"{where}_paper"] - genes[f"{where}_ols"] for where in WHERE}
        over = {
            where: f"{_with_error(genes[f'{where}_ols'] - genes['fresh_ols'])} (OLS), "
            f"{_with_error(genes[f'{where}_paper'] - genes['fresh_paper'])} (the paper's), "
            f"{_with_error(gain[where] - gain['fresh'])} (its gain)"
            for where in WHERE[:-1]
        }
        said.append(
            f"With errors correlated {rho:g}, R² is above that on fresh donors by {over['outside']} points where SNPs "
            f"are chosen outside the folds; {over['inside']} inside; {over['donors']} inside folds of donors."
        )
    return " ".join(said)


def table(results: pd.DataFrame) -> str:
    """The README's part: R^2, gains, and the finding."""
    parts = [as_table(results, FEWEST).markdown(), gain_table(results, FEWEST).markdown(), finding(results)]
    return "\n\n".join(filter(None, parts))


CELLS: list[Cell] = [
    *({"heritability": h2, "correlation": rho, "p": p, "covariates": 1.0}
      for h2, rho, p in product(HERITABILITY, CORRELATION, P)),
    *({"heritability": h2, "correlation": 0.0, "p": P[-1], "covariates": 0.0} for h2 in HERITABILITY),
]  # fmt: skip
"""The last have no covariates: what adjusting for them over all samples does to R^2 is the difference."""
STUDY = Study(
    "screening",
    CELLS,
    30,
    Whole(gene),
    table,
    batch=5,
    tables=lambda results: [as_table(results), gain_table(results)],
)
