"""Prediction of expression in samples that a fit has not seen: the cross-validation of Section 7.1.

The folds are drawn within each tissue's samples; fold f of all tissues together is tested on what the others teach. The
predictors are the empirical-Bayes estimates, of the paper and with the slab's power learned and a mean that has a prior
of its own ("generalised"), and what is fitted in each tissue alone: least squares, ridge, elastic net. Of every gene
and tissue

    PMSE = mean of (y - yhat)^2 over its samples,      R^2 = squared correlation of yhat and y over its samples

y being expression adjusted for covariates in units of its residual standard deviation. A predictor that is constant has
no correlation: its R^2 is given as 0, for it explains nothing.

Two things make such scores kinder than new donors are. SNPs chosen on all samples have seen the fold that they predict
(`cross_validate_chosen` lets each training set choose). And a donor whose sample of one tissue is predicted has taught
in others: where errors of a donor's tissues correlate, what tissues learn from each other predicts that error too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ebmodel.eqtl import penalised
from ebmodel.eqtl.moments import Moments, Totals
from ebmodel.errors import expect
from ebmodel.estimation import Estimate, estimate
from ebmodel.model import Array
from ebmodel.posterior import Posterior, posterior

__all__ = [
    "ESTIMATORS",
    "METHODS",
    "Scores",
    "cross_validate",
    "cross_validate_chosen",
    "draw_folds",
    "fit_gene",
    "score",
]

ESTIMATORS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "paper": MappingProxyType({"slab": "g", "mean": "free"}),
        "generalised": MappingProxyType({"slab": "power", "mean": "hierarchical"}),
    }
)
"""Empirical-Bayes estimators by name: the slab's shape and its mean."""
METHODS = (*ESTIMATORS, "ols", "ridge", "elastic-net")
"""Predictors by name."""
FOLD_STARTS = MappingProxyType({"paper": 4, "generalised": 2})
"""EM starts of a fold's own, beside the active tissues of the fit to all samples."""
FOLD_TOL = 1e-7
"""Gain of log-likelihood at which EM stops in a fold: a thousandth of a standard error from the maximum."""


class Scores(NamedTuple):
    """How well one predictor does, by tissue."""

    pmse: Array
    """(tissue,) mean squared error of prediction, in units of the expression's residual variance."""
    r2: Array
    """(tissue,) squared correlation."""


def draw_folds(samples: int, folds: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """The fold of every sample of a tissue, (sample,): sizes differ by one at most."""
    return rng.permutation(np.arange(samples) % folds)


def fit_gene(
    totals: Totals, XX: Array, tissues: NDArray[Any], estimator: str, seed: int = 0, near: Estimate | None = None
) -> tuple[Estimate, Posterior]:
    """Fit one of `ESTIMATORS` to all samples, or to a training set ``near`` them: parameters and posterior.

    ``XX`` (snp, snp) is X'X over all donors; ``tissues`` (tissue,) are names.

    Raises
    ------
    InputError
        As `ebmodel.fit`, or if there is no SNP.
    """
    expect(len(XX) > 0, "at least one SNP", "none", "fit_gene", "leave the gene out")
    few = {} if near is None else {"n_starts": FOLD_STARTS[estimator], "tol": FOLD_TOL, "near": near}
    asked: dict[str, Any] = {**ESTIMATORS[estimator], **few}
    found = estimate(totals.compressed(XX), tissues, "expression", seed=seed, **asked)
    return found, posterior(*found.whitened, found.params, found.covariance)


def cross_validate(
    moments: Moments,
    XX: Array,
    tissues: NDArray[Any],
    methods: Sequence[str] = METHODS,
    fits: Mapping[str, Estimate] = MappingProxyType({}),
    seed: int = 0,
    folds: Sequence[int] | None = None,
) -> dict[str, Array]:
    """Effects by every method from the training set of every fold.

    Parameters
    ----------
    moments
        Of one gene.
    XX : (snp, snp)
        X'X over all donors.
    tissues : (tissue,)
        Names.
    methods
        Some of `METHODS`.
    fits
        Estimates of the empirical-Bayes methods from all samples, near which those of the folds are sought; a method
        without one is fitted first.
    seed
        Of random starts.
    folds
        Those whose training sets are wanted; all if None.

    Returns
    -------
    dict
        For every method (tissue, fold, snp); NaN where there is no least-squares estimate. What is given for folds
        that are not wanted means nothing.
    """
    wanted = range(moments.folds) if folds is None else folds
    parts = moments.gram, moments.cross, moments.yy
    effects: dict[str, Array] = {}
    for method in methods:
        if method in ESTIMATORS:
            near = fits[method] if method in fits else fit_gene(moments.total(), XX, tissues, method, seed)[0]
            effects[method] = np.zeros(moments.cross.shape)
            for fold in wanted:
                about = fit_gene(moments.without(fold), XX, tissues, method, seed, near)[1]
                effects[method][:, fold] = about.mean
        elif method == "ols":
            effects[method] = penalised.least_squares(moments.gram, moments.cross).held_out
        else:
            fitted = penalised.ridge if method == "ridge" else penalised.elastic_net
            effects[method] = fitted(*parts, folds=folds, full=False).held_out
    return effects


def cross_validate_chosen(
    moments: Moments,
    XX: Array,
    tissues: NDArray[Any],
    chosen: Sequence[NDArray[np.int64]],
    methods: Sequence[str] = METHODS,
    seed: int = 0,
) -> dict[str, Array]:
    """Effects by every method from the training set of every fold, of the SNPs that the training set chose itself.

    Parameters
    ----------
    moments, XX, tissues, methods, seed
        As in `cross_validate`, of all SNPs that some training set chose.
    chosen : one (k,) a fold
        Places of its training set's k SNPs; with none, 0 is predicted.

    Returns
    -------
    dict
        For every method (tissue, fold, snp), as from `cross_validate`; 0 for SNPs that were not chosen.
    """
    effects = {method: np.zeros(moments.cross.shape) for method in methods}
    alike: dict[bytes, list[int]] = {}
    for fold, snps in enumerate(chosen):
        if len(snps):
            alike.setdefault(np.sort(snps).tobytes(), []).append(fold)
    for folds in alike.values():
        snps = np.sort(chosen[folds[0]])
        part = XX[np.ix_(snps, snps)]
        found = cross_validate(moments.of(snps), part, tissues, methods, seed=seed, folds=folds)
        for method, values in found.items():
            for fold in folds:
                effects[method][:, fold, snps] = values[:, fold]
    return effects


def score(moments: Moments, effects: Array) -> Scores:
    """PMSE and R^2 of predictions by effects (tissue, fold, snp), each learned without the fold that it predicts."""
    explained = np.einsum("tfj,tfj->tf", effects, moments.cross)  # sum of y yhat
    squares = np.einsum("tfi,tfij,tfj->tf", effects, moments.gram, effects, optimize=True)  # sum of yhat^2
    n = moments.samples.sum(axis=1)
    pmse = (moments.yy - 2.0 * explained + squares).sum(axis=1) / n
    mean = np.einsum("tfj,tfj->t", effects, moments.x) / n
    level = moments.y.sum(axis=1) / n
    covariance = explained.sum(axis=1) / n - mean * level
    square = squares.sum(axis=1) / n
    spread = np.maximum(square - mean**2, 0.0)
    variance = moments.yy.sum(axis=1) / n - level**2
    with np.errstate(divide="ignore", invalid="ignore"):
        r2 = np.where(spread > CONSTANT * square, covariance**2 / (spread * variance), 0.0)
    return Scores(pmse, np.where(np.isnan(pmse), np.nan, r2))


CONSTANT = 1e-12
"""Variance of predictions over their mean square below which they are constant: what rounding leaves of it."""
