"""How much faster a gene's fit and cross-validation from moments is than from raw data with n x n matrices.

    uv run pytest tests/benchmarks/test_gtex_speed.py --benchmark-enable -s

The dense side writes out the formulas of `ebmodel.dense`, refits every fold from its samples, and runs EM from every
start to its end. A small gene shows both sides run out. At GTEx's size the dense one takes an hour or so: a step is
timed and steps are counted, for `moments_step` makes the same step from sums of products, as a test here shows. Its EM
has beta(t) latent: monotone, but slow as eta -> 0, where it may also stop at a lower maximum than the fit's.
"""

from __future__ import annotations

import time
from typing import NamedTuple

import numpy as np
import pytest
from scipy.special import expit

import ebmodel
from ebmodel import dense
from ebmodel.eqtl.crossvalidation import FOLD_STARTS, cross_validate, fit_gene
from ebmodel.eqtl.moments import Totals, gather
from ebmodel.starts import active_sets
from ebmodel.statistics import whiten

FEW = FOLD_STARTS["paper"]


class Part(NamedTuple):
    """A tissue's samples, or some of them, covariates projected out of both."""

    X: np.ndarray
    """(sample, snp)."""
    y: np.ndarray
    """(sample,)."""
    n: float
    """Degrees of freedom: sum of 1 - leverage."""


class Theta(NamedTuple):
    tau1: float
    beta: np.ndarray
    eta: float
    sigma2: float


def adjusted(X, Y, Cs, folds=None, fold=None):
    """One `Part` a tissue; without the samples of ``fold``, if it is given."""
    parts = []
    for t, C in enumerate(Cs):
        rows = ~np.isnan(Y[:, t])
        Q = np.linalg.qr(C[rows])[0]
        x, y = (part - Q @ (Q.T @ part) for part in (X[rows], Y[rows, t]))
        kept = np.ones(len(y), dtype=bool) if fold is None else folds[rows, t] != fold
        parts.append(Part(x[kept], y[kept], kept.sum() - np.sum(Q[kept] ** 2)))
    return parts


def dense_step(parts, Sigma0, theta, T=None):
    """One EM step with n x n matrices, beta(t) latent: T, E(beta(t) | I(t)=1), log p(Y), and the next theta.

    ``T``, if given, are the responsibilities instead.
    """
    _, beta, eta, sigma2 = theta
    log_g = np.empty((2, len(parts)))
    mean, squares, spread = np.empty((len(parts), len(beta))), np.empty((2, len(parts))), np.empty(len(parts))
    inverse = np.linalg.inv(Sigma0)
    for t, (X_t, y, n) in enumerate(parts):
        Omega = sigma2 * np.eye(len(y)) + eta * X_t @ Sigma0 @ X_t.T  # sigma2 I + eta H_t
        # covariates took directions in which both densities are alike
        taken = 0.5 * (len(y) - n) * np.log(2 * np.pi * sigma2)
        log_g[0, t] = dense.log_density(y, 0 * y, sigma2 * np.eye(len(y))) + taken
        log_g[1, t] = dense.log_density(y, X_t @ beta, Omega) + taken
        gain = eta * Sigma0 @ X_t.T @ np.linalg.inv(Omega)
        mean[t] = beta + gain @ (y - X_t @ beta)  # (11)
        covariance = eta * (Sigma0 - gain @ X_t @ Sigma0)
        residual = y - X_t @ mean[t]
        squares[:, t] = y @ y, residual @ residual + np.trace(X_t @ covariance @ X_t.T)
        spread[t] = np.trace(inverse @ (covariance + np.outer(mean[t], mean[t])))
    return finish(log_g, mean, squares, spread, inverse, theta, sum(part.n for part in parts), T)


def totals(parts):
    """Sums of products, all that a step needs."""
    return Totals(
        np.array([x.T @ x for x, _, _ in parts]),
        np.array([x.T @ y for x, y, _ in parts]),
        np.array([y @ y for _, y, _ in parts]),
        np.array([n for _, _, n in parts]),
    )


def moments_step(data, Sigma0, theta, T=None):
    """`dense_step` from sums of products, to count its steps."""
    _, beta, eta, sigma2 = theta
    gram, cross, yy, n = data
    inverse = np.linalg.inv(Sigma0)
    precision = gram / sigma2 + inverse / eta
    covariance = np.linalg.inv(precision)
    mean = np.einsum("tij,tj->ti", covariance, cross / sigma2 + inverse @ beta / eta)
    slope = cross - gram @ beta  # X_t'(y - X_t beta)
    rest = yy - 2 * cross @ beta + np.einsum("i,tij,j->t", beta, gram, beta)
    rest -= np.einsum("ti,tij,tj->t", slope, covariance, slope) / sigma2
    log_det = np.linalg.slogdet(precision)[1] + np.linalg.slogdet(eta * Sigma0)[1]
    base = -0.5 * n * np.log(2 * np.pi * sigma2)
    log_g = np.stack([base - 0.5 * yy / sigma2, base - 0.5 * (log_det + rest / sigma2)])
    squares = yy - 2 * np.einsum("ti,ti->t", mean, cross) + np.einsum("ti,tij,tj->t", mean, gram, mean)
    squares = np.stack([yy, squares + np.einsum("tij,tji->t", gram, covariance)])
    spread = np.einsum("ij,tji->t", inverse, covariance) + np.einsum("ti,ij,tj->t", mean, inverse, mean)
    return finish(log_g, mean, squares, spread, inverse, theta, n.sum(), T)


def finish(log_g, mean, squares, spread, inverse, theta, n, T):
    """Responsibilities, log p(Y) and the closed forms of the M-step."""
    with np.errstate(divide="ignore"):
        log_tau = np.log([1.0 - theta.tau1, theta.tau1])
    loglik = np.logaddexp(*(log_tau[:, None] + log_g)).sum()
    if T is None:
        T = expit(log_tau[1] - log_tau[0] + log_g[1] - log_g[0])
    active = max(T.sum(), 1e-12)
    beta = T @ mean / active
    apart = T @ spread - active * beta @ inverse @ beta  # sum T E (beta(t)-beta)'Sigma0^-1 (beta(t)-beta)
    sigma2 = ((1.0 - T) @ squares[0] + T @ squares[1]) / n
    return T, mean, loglik, Theta(float(T.mean()), beta, max(apart / (len(beta) * active), 1e-8 * sigma2), sigma2)


TOL, MAX_STEPS = 1e-6, 20_000


def climb(data, Sigma0, T, step, level):
    """EM from responsibilities until a step gains less than `TOL`: effects, log p(Y), T, and the number of steps."""
    theta = step(data, Sigma0, Theta(0.5, np.zeros(len(Sigma0)), level, level), T)[3]
    last, steps = -np.inf, 1
    while steps < MAX_STEPS:
        T, mean, loglik, following = step(data, Sigma0, theta)
        steps += 1
        if loglik - last < TOL:
            break
        last, theta = loglik, following
    return T[:, None] * mean, loglik, T, steps


def fit(parts, Sigma0, starts, step):
    """The best of EM from every start, and how many steps all of them took."""
    level = sum(part.y @ part.y for part in parts) / sum(part.n for part in parts) / 2.0
    data = parts if step is dense_step else totals(parts)
    climbs = [climb(data, Sigma0, T, step, level) for T in starts]
    best = max(climbs, key=lambda found: found[1])
    return *best[:3], sum(found[3] for found in climbs)


def dense_gene(X, Y, Cs, folds, starts, fold_starts, step=dense_step):
    """A gene's fit by the paper's estimator and its cross-validation, each training set from its samples.

    Parameters
    ----------
    X : (donor, snp)
    Y : (donor, tissue)
        NaN where there is no sample.
    Cs : one (donor, covariate) a tissue
        The intercept among them.
    folds : (donor, tissue)
    starts, fold_starts
        Functions of a `Totals` that give (start, tissue) responsibilities: for all samples, and for a training set, to
        which those of the fit to all samples are added.
    step
        `dense_step`, or `moments_step`.

    Returns
    -------
    effects (tissue, snp), held_out (tissue, fold, snp), loglik, steps of the fit, steps of every fold
    """
    Sigma0, parts = np.linalg.inv(X.T @ X), adjusted(X, Y, Cs)
    effects, loglik, T, steps = fit(parts, Sigma0, starts(totals(parts)), step)
    held_out, by_fold = [], []
    for fold in range(int(np.nanmax(folds)) + 1):
        parts = adjusted(X, Y, Cs, folds, fold)
        found = fit(parts, Sigma0, np.vstack([T[None], fold_starts(totals(parts))]), step)
        held_out.append(found[0])
        by_fold.append(found[3])
    return effects, np.stack(held_out, axis=1), loglik, steps, by_fold


def fast_gene(X, Y, Cs, folds, estimators=("paper",)):
    """The same from moments, residuals as in `adjusted`: effects, held_out, loglik of the first estimator."""
    rows = [np.flatnonzero(~np.isnan(y)) for y in Y.T]
    rows = [own[np.argsort(folds[own, t], kind="stable")] for t, own in enumerate(rows)]
    edges = [np.searchsorted(folds[own, t], np.arange(np.nanmax(folds) + 2)) for t, own in enumerate(rows)]
    Q = [np.linalg.qr(C[own])[0] for C, own in zip(Cs, rows, strict=True)]
    x = [X[own] - q @ (q.T @ X[own]) for own, q in zip(rows, Q, strict=True)]
    y = [Y[own, t] - q @ (q.T @ Y[own, t]) for t, (own, q) in enumerate(zip(rows, Q, strict=True))]
    moments = gather(x, y, [np.sum(q**2, axis=1) for q in Q], edges)
    XX, names = X.T @ X, np.arange(len(Q)).astype(str)
    fits = {name: fit_gene(moments.total(), XX, names, name) for name in estimators}
    held_out = cross_validate(moments, XX, names, list(estimators), {name: fits[name][0] for name in fits})
    found, about = fits[estimators[0]]
    return about.mean, held_out[estimators[0]], found.search.loglik


def gene(donors, tissues, snps, covariates, few, many, folds=10, seed=0, strength=2.0):
    """A gene whose effects have the paper's prior, with as many samples in a tissue as lie between two numbers."""
    rng = np.random.default_rng(seed)
    C = 0.5 ** np.abs(np.subtract.outer(np.arange(snps), np.arange(snps)))
    X = rng.standard_normal((donors, snps)) @ np.linalg.cholesky(C).T
    params = ebmodel.Params(tau1=0.5, beta=rng.normal(0.0, strength / np.sqrt(donors), snps), eta=2.0, sigma2=1.0)
    Y = ebmodel.simulate.model_true(params, X=X, m=tissues, seed=seed, posterior=False)["Y"].to_numpy().copy()
    Cs, fold = [], np.full(Y.shape, np.nan)
    for t in range(tissues):
        n = rng.integers(few, many + 1)
        rows = rng.choice(donors, n, replace=False)
        Y[np.setdiff1d(np.arange(donors), rows), t] = np.nan
        fold[rows, t] = rng.permutation(np.arange(n) % folds)
        Cs.append(np.column_stack([np.ones(donors), rng.standard_normal((donors, covariates))]))
    return X, Y, Cs, fold


def sets(X, count):
    """The starts of the fast side."""
    return lambda data: active_sets(whiten(data.compressed(X.T @ X), "g")[0], count, 0)


def test_steps_from_samples_and_from_moments_are_the_same():
    X, Y, Cs, folds = gene(40, 4, 3, 2, 20, 30, folds=3)
    parts, Sigma0 = adjusted(X, Y, Cs, folds, 1), np.linalg.inv(X.T @ X)
    theta = Theta(0.4, np.array([0.1, 0.0, -0.2]), 1.5, 0.8)
    for T in (None, np.array([1.0, 0.0, 0.5, 1.0])):
        one, other = dense_step(parts, Sigma0, theta, T), moments_step(totals(parts), Sigma0, theta, T)
        for found, wanted in zip([*one[:3], *one[3]], [*other[:3], *other[3]], strict=True):
            np.testing.assert_allclose(found, wanted, rtol=1e-9)


def test_the_dense_gene_is_the_fast_one():
    """But for where EM stops: its last steps gain less than a millionth each, and there may be many."""
    X, Y, Cs, folds = gene(40, 5, 2, 1, 25, 35, folds=2, seed=5, strength=6.0)
    effects, held_out, loglik, *_ = dense_gene(X, Y, Cs, folds, sets(X, 64), sets(X, FEW), moments_step)
    fast = fast_gene(X, Y, Cs, folds)
    assert loglik == pytest.approx(fast[2], abs=0.02)
    assert loglik < fast[2] + 1e-6
    np.testing.assert_allclose(effects, fast[0], atol=0.02)
    np.testing.assert_allclose(held_out, fast[1], atol=0.02)


def test_counted_steps_are_those_of_the_dense_gene():
    X, Y, Cs, folds = gene(30, 4, 2, 1, 20, 28, folds=2, seed=6, strength=6.0)
    *found, steps, by_fold = dense_gene(X, Y, Cs, folds, sets(X, 2), sets(X, 1))
    *other, counted, counted_by_fold = dense_gene(X, Y, Cs, folds, sets(X, 2), sets(X, 1), moments_step)
    for one, same in zip(found, other, strict=True):
        np.testing.assert_allclose(one, same, atol=1e-6)
    np.testing.assert_allclose([steps, *by_fold], [counted, *counted_by_fold], atol=2)  # rounding may decide the last


def test_a_small_gene_against_the_dense_twin_run_to_its_end(benchmark):
    """200 donors, 8 tissues of 60 to 150 samples, 15 covariates, 4 SNPs, 4 folds; nothing is extrapolated."""
    if benchmark.disabled:
        pytest.skip("the dense side takes most of a minute: run with --benchmark-enable")
    X, Y, Cs, folds = gene(200, 8, 4, 15, 60, 150, folds=4)
    _, held_out, loglik = benchmark.pedantic(fast_gene, (X, Y, Cs, folds), rounds=5, warmup_rounds=1)
    began = time.perf_counter()
    found = dense_gene(X, Y, Cs, folds, sets(X, 64), sets(X, FEW))
    spent, fast = time.perf_counter() - began, benchmark.stats.stats.median
    apart = np.abs(found[1] - held_out).max() / np.abs(held_out).max()
    print(
        f"\n200 donors, 8 tissues, 4 SNPs, 4 folds: from moments {fast:.3f} s; dense, run to its end, {spent:.0f} s "
        f"({found[3] + sum(found[4])} steps): ratio {spent / fast:.0f}. log p(Y): {loglik:.3f}, dense {found[2]:.3f}; "
        f"held-out effects differ by at most {100 * apart:.1f} % of the largest"
    )
    benchmark.extra_info |= {"dense_seconds": spent, "ratio": spent / fast}


def test_a_gene_of_gtex_against_the_dense_twin(benchmark):
    """838 donors, 32 tissues of 200 to 700 samples, 60 covariates, 8 SNPs, 10 folds; the paper's estimator."""
    if benchmark.disabled:
        pytest.skip("counting the dense side's steps takes minutes: run with --benchmark-enable")
    X, Y, Cs, folds = gene(838, 32, 8, 60, 200, 700)
    _, _, loglik = benchmark.pedantic(fast_gene, (X, Y, Cs, folds), rounds=5, warmup_rounds=1)
    found = dense_gene(X, Y, Cs, folds, sets(X, 64), sets(X, FEW), step=moments_step)
    steps, by_fold, Sigma0 = found[3], sum(found[4]), np.linalg.inv(X.T @ X)

    def seconds(fold=None):
        """The median of three, as of five on the other side, for other processes disturb."""
        parts, spent = adjusted(X, Y, Cs, folds, fold), []
        for _ in range(3):
            began = time.perf_counter()
            dense_step(parts, Sigma0, Theta(0.5, np.zeros(8), 1.0, 1.0))
            spent.append(time.perf_counter() - began)
        return float(np.median(spent))

    whole, training = seconds(), seconds(0)
    total, fast = whole * steps + training * by_fold, benchmark.stats.stats.median
    print(
        f"\n838 donors, 32 tissues, 8 SNPs, 10 folds: from moments {fast:.2f} s; dense, extrapolated, "
        f"{total / 3600:.1f} hours = {whole:.2f} s a step of the fit x {steps} steps + {training:.2f} s a step of a "
        f"fold x {by_fold} steps: ratio {total / fast:.0f}. log p(Y): {loglik:.3f}, dense {found[2]:.3f}"
    )
    benchmark.extra_info |= {"dense_seconds": total, "dense_steps": steps + by_fold, "ratio": total / fast}
