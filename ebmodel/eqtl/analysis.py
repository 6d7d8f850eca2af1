"""One gene after the other: its SNPs chosen, the model fitted, its predictions cross-validated.

Genes are taken in blocks of neighbours, whose cis windows overlap: genotypes are read, and adjusted for every tissue's
covariates, once a block. What goes wrong with a gene is that gene's result, and nobody else's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ebmodel.eqtl.crossvalidation import cross_validate, cross_validate_chosen, fit_gene, score
from ebmodel.eqtl.moments import Moments, gather
from ebmodel.eqtl.pruning import impute
from ebmodel.eqtl.scan import Sums, fold_sums, overlap_correlation, select, stouffer, t_from_sums, z_from_t
from ebmodel.eqtl.settings import Settings
from ebmodel.eqtl.study import Tissue
from ebmodel.eqtl.text import place
from ebmodel.eqtl.variants import Variants, contig
from ebmodel.errors import InputError, expect
from ebmodel.estimation import Estimate
from ebmodel.model import Array

__all__ = ["FAILED", "FITTED", "NONE_IN_WINDOW", "NONE_PASSES", "STUDY", "GeneResult", "Prepared", "analyse_block"]

FITTED, NONE_IN_WINDOW, NONE_PASSES, FAILED = "fitted", "no SNP in the window", "no SNP passes", "failed"
STUDY = "study.joblib"
"""In the folder of the work: what is `Prepared`."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """A study ready for its genes: what workers read from its folder."""

    settings: Settings
    genotypes: Variants
    """The open file: its table travels with it, so that no worker reads that again."""
    tissues: list[Tissue]
    rows: NDArray[np.int64]
    """(donor,) the study's donors in the genotype file."""
    genes: pd.DataFrame
    """As from `ebmodel.eqtl.study.common_genes`."""
    variants: pd.DataFrame
    """Those that passed frequency and linkage, sorted: contig, position, id, counted, other, index in the file."""
    spans: Mapping[str, slice]
    """Of every contig of the genotype file its rows in ``variants``."""
    blocks: list[slice]
    """Of genes."""
    scales: Array
    """(gene, tissue) residual standard deviations of expression; NaN where there is none."""
    expression: list[Path]
    """One a tissue: (row of the file, sample) adjusted and scaled."""

    @property
    def names(self) -> NDArray[np.str_]:
        """(tissue,)."""
        return np.array([tissue.name for tissue in self.tissues])


@dataclass(eq=False)
class GeneResult:
    """What is known of one gene at the end; arrays over all tissues, NaN where the gene is not expressed."""

    gene: str
    status: str = FAILED
    message: str = ""
    counts: dict[str, int] = field(default_factory=dict)
    """SNPs in the window, passing the threshold and fitted; genotypes of those fitted that were imputed."""
    stouffer_variance: float = np.nan
    """1'R1/m, the variance of Stouffer's Z of an unassociated SNP, from the donors that tissues share."""
    fits: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By estimator: parameters, by tissue, and effects by SNP."""
    scores: dict[tuple[str, str], tuple[Array, Array]] = field(default_factory=dict)
    """By screening and method: PMSE and R^2 (tissue,)."""
    variants: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    """(snp,) rows of the study's variants."""
    z: Array = field(default_factory=lambda: np.empty(0))
    """(snp,) Stouffer's Z."""


@dataclass(frozen=True, eq=False)
class _Block:
    """Genotypes of a block's window, and the association of its genes with them."""

    first: int
    """Row of the first variant."""
    positions: NDArray[np.int64]
    G: Array
    """(donor, snp) centred, missing ones at the mean."""
    missing: NDArray[np.int64]
    """(snp,) how many were imputed."""
    Y: list[Array]
    """One (gene, sample) a tissue: adjusted and scaled expression, NaN for a gene without."""
    z: Array
    """(tissue, snp, gene)."""
    z_train: Array | None
    """(fold, tissue, snp, gene) of every training set, if SNPs are also chosen inside the folds."""


def analyse_block(work: Path, number: int) -> list[GeneResult]:
    """Analyse a block of genes of the study prepared in the folder ``work``."""
    study = _prepared(work, (work / STUDY).stat().st_mtime_ns)
    genes = study.genes.iloc[study.blocks[number]]
    results = [GeneResult(str(gene)) for gene in genes.index]
    try:
        block = _read_block(study, genes)
    except Exception as error:
        for result in results:
            result.message = _say(error)
        return results
    for column, result in enumerate(results):
        try:
            _analyse(study, block, genes.iloc[column], column, result)
        except Exception as error:
            result.status, result.message = FAILED, _say(error)
    return results


def _say(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if text.startswith("expected") else f"{type(error).__name__}: {text}"


@lru_cache(maxsize=1)
def _prepared(work: Path, date: int) -> Prepared:  # noqa: ARG001 - a folder may come to hold another study
    study: Prepared = joblib.load(work / STUDY)
    return study


def _expression(path: Path, rows: NDArray[np.int64], samples: int) -> Array:
    """Rows of a stored matrix, NaN for -1; read, not mapped: pages of a mapped file count as a worker's memory."""
    values = np.full((len(rows), samples), np.nan)
    here = np.flatnonzero(rows >= 0)
    if len(here):
        first, last = int(rows[here].min()), int(rows[here].max())
        with path.open("rb") as file:
            np.lib.format.read_magic(file)
            np.lib.format.read_array_header_1_0(file)
            file.seek(first * samples * values.itemsize, 1)
            block = np.fromfile(file, count=(last - first + 1) * samples).reshape(-1, samples)
        values[here] = block[rows[here] - first]
    return values


def cis_window(gene: Any, width: int) -> tuple[int, int]:
    """First and last position of a gene's window: ``width`` bases on both sides, as tensorQTL counts them."""
    return int(gene["start"]) + 1 - width, int(gene["end"]) + width


def _read_block(study: Prepared, genes: pd.DataFrame) -> _Block:
    settings = study.settings
    span = study.spans.get(contig(genes["chromosome"].iloc[0]), slice(0, 0))
    windows = [cis_window(gene, settings.cis_window) for _, gene in genes.iterrows()]
    low, high = min(window[0] for window in windows), max(window[1] for window in windows)
    positions = study.variants["position"].to_numpy()[span]
    first, stop = span.start + np.searchsorted(positions, [low, high + 1])
    inside = slice(int(first), int(stop))
    G, missing = impute(_take(study.genotypes, study.variants["index"].to_numpy()[inside], study.rows))
    G -= G.mean(axis=0)
    Y = [
        _expression(path, genes[tissue.name].to_numpy(), len(tissue.samples))
        for tissue, path in zip(study.tissues, study.expression, strict=True)
    ]
    z, z_train = _associate(study, Y, G)
    return _Block(inside.start, study.variants["position"].to_numpy()[inside], G, missing, Y, z, z_train)


def _take(variants: Variants, index: NDArray[np.int64], rows: NDArray[np.int64]) -> Array:
    """Dosages (donor, snp) of some variants of the file, read a range at a time."""
    G = np.empty((len(rows), len(index)))
    for first in range(0, len(index), AT_ONCE):
        some = slice(first, first + AT_ONCE)
        low, high = int(index[some].min()), int(index[some].max()) + 1
        G[:, some] = variants.read(low, high)[rows][:, index[some] - low]
    return G


AT_ONCE = 500
"""Variants taken from one range of the file."""


def _check_contig(study: Prepared, gene: Any) -> None:
    wanted, got = f"a contig of {study.settings.genotypes}", repr(str(gene["chromosome"]))
    first = next(name for name in study.names if gene[name] >= 0)
    do = "check the names of contigs, or leave the gene out"
    expect(contig(gene["chromosome"]) in study.spans, wanted, got, _line(study, gene, first), do)


def _line(study: Prepared, gene: Any, tissue: str) -> str:
    """Where a tissue's file has a gene: its rows follow a header."""
    return place(study.settings.expression_of(tissue), gene[tissue] + 2)


def _associate(study: Prepared, Y: list[Array], G: Array) -> tuple[Array, Array | None]:
    """Z statistics of every gene with every SNP in every tissue, (tissue, snp, gene), and of the training sets."""
    folds, m = study.settings.folds, len(study.tissues)
    inside = "inside" in study.settings.screening
    shape = m, G.shape[1], len(Y[0])
    z = np.full(shape, np.nan)
    z_train = np.full((folds, *shape), np.nan) if inside else None
    if not G.shape[1]:
        return z, z_train
    for t, tissue in enumerate(study.tissues):
        X = tissue.projection.residual(G[tissue.donors])
        label = np.repeat(np.arange(folds), np.diff(tissue.edges))
        sums = fold_sums(X, Y[t].T, label, folds, tissue.projection.leverage)
        z[t] = _z(sums.total())[0]
        if z_train is not None:
            z_train[:, t] = _z(sums.training())
    return z, z_train


def _z(sums: Sums) -> Array:
    dof = sums.count - 1.0
    return z_from_t(t_from_sums(*sums[:3], dof), dof[:, None, None])


def _analyse(study: Prepared, block: _Block, gene: Any, column: int, result: GeneResult) -> None:
    settings = study.settings
    _check_contig(study, gene)
    low, high = cis_window(gene, settings.cis_window)
    window = slice(*np.searchsorted(block.positions, [low, high + 1]))
    present = _present(study, gene)
    G = block.G[:, window]
    overlap = _correlation(study, [block.Y[t][column] for t in present], present)
    result.stouffer_variance = float(overlap.mean() * len(present))  # 1'R1/m
    R = overlap if settings.correct_overlap else None
    Z, p = stouffer(block.z[present, window, column], R)
    chosen = _choose(Z, G, settings)
    result.counts = {"window": G.shape[1], "passing": int(np.sum(p < settings.p)), "snps": len(chosen),
                     "imputed": int(block.missing[window][chosen].sum())}  # fmt: skip
    if not G.shape[1] or not len(chosen):
        result.status = NONE_PASSES if G.shape[1] else NONE_IN_WINDOW
        return
    result.variants, result.z = block.first + window.start + chosen, Z[chosen]
    by_fold = [chosen] * settings.folds
    if block.z_train is not None and settings.methods:
        train = (stouffer(block.z_train[f][present, window, column], R)[0] for f in range(settings.folds))
        by_fold = [_choose(Z_f, G, settings) for Z_f in train]
    used = np.unique(np.concatenate([chosen, *by_fold]))
    sums = _moments(study, [block.Y[t][column] for t in present], G[:, used], present)
    column_of = {int(snp): i for i, snp in enumerate(used)}
    own = np.array([column_of[int(snp)] for snp in chosen])
    XX = G[:, used].T @ G[:, used]
    names = study.names[present]
    fits = _fit(study, sums.of(own), XX[np.ix_(own, own)], names, present, result)
    if "outside" in settings.screening:
        _validate(study, sums.of(own), XX[np.ix_(own, own)], names, present, fits, result)
    if "inside" in settings.screening:
        sets = [np.array([column_of[int(snp)] for snp in some], dtype=np.int64) for some in by_fold]
        _validate_inside(study, sums, XX, names, present, sets, result)
    result.status = FITTED


def _present(study: Prepared, gene: Any) -> NDArray[np.int64]:
    """Tissues that express a gene.

    Raises
    ------
    InputError
        If its expression is missing or constant in one.
    """
    rows = gene[study.names].to_numpy(dtype=np.int64)
    present = np.flatnonzero(rows >= 0)
    scale = study.scales[study.genes.index.get_loc(gene.name), present]
    bad = study.names[present[np.isnan(scale)]]
    for name in bad[:1]:
        got, do = f"none such in {', '.join(bad)}", "fill the cells in, or leave the gene out"
        raise InputError("values that are there and vary", got, _line(study, gene, name), do)
    return present


def _correlation(study: Prepared, Y: list[Array], present: NDArray[np.int64]) -> Array:
    """R of the tissues' z where nothing is associated, from the donors that they share."""
    by_donor = np.full((len(study.rows), len(present)), np.nan)
    for column, (t, y) in enumerate(zip(present, Y, strict=True)):
        by_donor[study.tissues[t].donors, column] = y
    return overlap_correlation(by_donor)


def _choose(Z: Array, G: Array, settings: Settings) -> NDArray[np.int64]:
    return select(Z, G, settings.p, settings.r2, settings.most_snps).positions


def _moments(study: Prepared, Y: list[Array], G: Array, present: NDArray[np.int64]) -> Moments:
    tissues = [study.tissues[t] for t in present]
    X = [tissue.projection.residual(G[tissue.donors]) for tissue in tissues]
    return gather(X, Y, [tissue.projection.leverage for tissue in tissues], [tissue.edges for tissue in tissues])


def _fit(
    study: Prepared, sums: Moments, XX: Array, names: NDArray[Any], present: NDArray[np.int64], result: GeneResult
) -> dict[str, Estimate]:
    """Fit to all samples by every estimator; effects in the units of the expression."""
    scale = study.scales[study.genes.index.get_loc(result.gene), present]
    fits = {}
    for name in study.settings.estimators:
        found, about = fit_gene(sums.total(), XX, names, name, study.settings.seed)
        fits[name], theta, m = found, found.params, len(study.tissues)
        result.fits[name] = {
            "tau1": theta.tau1, "eta": theta.eta, "sigma2": theta.sigma2, "alpha": theta.alpha,
            "kappa": np.nan if theta.kappa is None else theta.kappa,
            "loglik": found.search.loglik, "converged": float(found.search.converged),
            "posterior_probability": _spread(about.probability, present, m),
            "log_bayes_factor": _spread(about.log_bayes_factor, present, m),
            "beta": np.asarray(theta.beta),
            "effects": _spread(about.mean * scale[:, None], present, m),
            "effects_sd": _spread(about.sd * scale[:, None], present, m),
        }  # fmt: skip
    return fits


def _spread(values: Array, present: NDArray[np.int64], m: int) -> Array:
    """Values of the tissues present among those of all, NaN in the others."""
    every = np.full((m, *values.shape[1:]), np.nan)
    every[present] = values
    return every


def _validate(
    study: Prepared,
    sums: Moments,
    XX: Array,
    names: NDArray[Any],
    present: NDArray[np.int64],
    fits: dict[str, Estimate],
    result: GeneResult,
) -> None:
    effects = cross_validate(sums, XX, names, study.settings.methods, fits, study.settings.seed)
    _keep_scores("outside", sums, effects, study, present, result)


def _validate_inside(
    study: Prepared,
    sums: Moments,
    XX: Array,
    names: NDArray[Any],
    present: NDArray[np.int64],
    sets: list[NDArray[np.int64]],
    result: GeneResult,
) -> None:
    effects = cross_validate_chosen(sums, XX, names, sets, study.settings.methods, study.settings.seed)
    _keep_scores("inside", sums, effects, study, present, result)


def _keep_scores(
    screening: str,
    sums: Moments,
    effects: Mapping[str, Array],
    study: Prepared,
    present: NDArray[np.int64],
    result: GeneResult,
) -> None:
    for method, values in effects.items():
        pmse, r2 = (_spread(part, present, len(study.tissues)) for part in score(sums, values))
        result.scores[screening, method] = pmse, r2
