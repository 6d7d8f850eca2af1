"""Moments of a gene: sums over raw rows, training sets by down-dating, and a likelihood that is the dense one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from ebmodel import Params, dense, em
from ebmodel.data import project_out, tidy
from ebmodel.eqtl.moments import Moments, Totals, gather
from ebmodel.eqtl.scan import Projection
from ebmodel.estimation import estimate
from ebmodel.model import Array
from ebmodel.posterior import Posterior, posterior
from ebmodel.statistics import Compressed, compress, compress_moments, whiten

FOLDS = 4


@dataclass
class Tissue:
    """Raw data of one tissue, in no order."""

    rows: Any
    """(sample,) donors."""
    y: Array
    C: Array
    """(sample, covariate) with an intercept."""
    fold: Any

    def adjusted(self, X: Array) -> tuple[Array, Array, Array]:
        """X_t and y_t less their regressions on C, and leverages, by the normal equations."""
        H = self.C @ np.linalg.pinv(self.C)
        M = np.eye(len(H)) - H
        return M @ X[self.rows], M @ self.y, np.diag(H)


class Raw:
    """A gene: donors' genotypes, and tissues with samples, covariates and folds of their own."""

    def __init__(self, seed: int = 0, sizes: tuple[int, ...] = (45, 30, 52), p: int = 4, covariates: int = 3):
        rng = np.random.default_rng(seed)
        self.X = rng.binomial(2, rng.uniform(0.2, 0.8, p), (60, p)).astype(float)
        self.X -= self.X.mean(axis=0)
        beta = rng.normal(0, 0.5, p)
        self.tissues = []
        for t, n in enumerate(sizes):
            rows = rng.permutation(60)[:n]
            C = np.column_stack([np.ones(n), rng.standard_normal((n, covariates + t))])
            effects = (t % 3 != 2) * (beta + rng.normal(0, 0.2, p))
            y = self.X[rows] @ effects + C @ rng.standard_normal(C.shape[1]) + rng.standard_normal(n)
            self.tissues.append(Tissue(rows, y, C, rng.permutation(n) % FOLDS))

    @property
    def XX(self) -> Array:
        return self.X.T @ self.X

    def moments(self) -> Moments:
        X, Y, leverage, edges = [], [], [], []
        for one in self.tissues:
            order = np.argsort(one.fold, kind="stable")
            projection = Projection.of(one.C[order], intercept=False)
            X.append(projection.residual(self.X[one.rows][order]))
            Y.append(projection.residual(one.y[order]))
            leverage.append(projection.leverage)
            edges.append(np.searchsorted(one.fold[order], np.arange(FOLDS + 1)))
        return gather(X, Y, leverage, edges)


# Sums ----------------------------------------------------------------------------------------------------------------


def test_sums_are_those_of_raw_samples(pin):
    raw = Raw()
    moments = raw.moments()
    assert moments.folds == FOLDS
    for t, one in enumerate(raw.tissues):
        x, y, h = one.adjusted(raw.X)
        for f in range(FOLDS):
            inside = np.flatnonzero(one.fold == f)
            pin(moments.gram[t, f], sum(np.outer(x[i], x[i]) for i in inside))
            pin(moments.cross[t, f], sum(x[i] * y[i] for i in inside))
            pin(moments.yy[t, f], sum(y[i] ** 2 for i in inside))
            pin(moments.dof[t, f], sum(1 - h[i] for i in inside))
            pin(moments.x[t, f], sum(x[i] for i in inside), scale=10.0)
            pin(moments.y[t, f], sum(y[i] for i in inside), scale=10.0)
            assert moments.samples[t, f] == len(inside)


def test_a_training_set_is_the_total_less_the_fold(pin):
    """Covariates stay projected out over all samples; the sums are over the training rows alone."""
    raw = Raw(1)
    moments = raw.moments()
    for t, one in enumerate(raw.tissues):
        x, y, h = one.adjusted(raw.X)
        for f, found in [(-1, moments.total()), *((f, moments.without(f)) for f in range(FOLDS))]:
            rows = one.fold != f
            pin(found.gram[t], x[rows].T @ x[rows])
            pin(found.cross[t], x[rows].T @ y[rows])
            pin(found.yy[t], y[rows] @ y[rows])
            pin(found.dof[t], np.sum(1 - h[rows]))


def test_degrees_of_freedom_are_samples_less_the_rank_of_the_covariates():
    raw = Raw(2)
    raw.tissues[0].C[:, -1] = raw.tissues[0].C[:, 0] - raw.tissues[0].C[:, 1]
    want = [len(one.y) - np.linalg.matrix_rank(one.C) for one in raw.tissues]
    assert want == [42, 25, 46]
    np.testing.assert_allclose(raw.moments().total().dof, want, rtol=1e-12)


def test_some_of_the_snps(pin):
    raw, snps = Raw(3), np.array([2, 0])
    some = raw.moments().of(snps)
    raw.X = raw.X[:, snps]
    for found, wanted in zip(some, raw.moments(), strict=True):
        pin(found, wanted, scale=10.0)


def test_an_empty_fold_adds_nothing():
    """Fewer samples than folds, as in the smallest studies."""
    x, y = np.arange(6.0).reshape(3, 2), np.arange(3.0)
    edges = np.array([0, 1, 2, 3, 3])
    moments = gather([x], [y], [np.zeros(3)], [edges])
    assert moments.samples.tolist() == [[1, 1, 1, 0]]
    np.testing.assert_array_equal(moments.without(3).gram, moments.total().gram)
    assert not moments.gram[0, 3].any()


# The likelihood ------------------------------------------------------------------------------------------------------


def evaluated(compressed: Compressed, theta: Params) -> tuple[float, Posterior]:
    """Log p(Y), and the posterior."""
    stats, whitening = whiten(compressed, theta.slab)
    state = em.State(float(theta.tau1), whitening.whiten(np.asarray(theta.beta)), theta.eta, theta.sigma2)
    return float(em.expectation(stats, state)[1]), posterior(stats, whitening, theta)


def from_products(X: Array, Y: Array, C: Array | None) -> Compressed:
    """The data of `compress`, by way of products."""
    data = tidy(X, Y, C)
    (X_all,), _ = project_out(data.C, data.X)
    parts = []
    for y in data.Y.T:
        rows = ~np.isnan(y)
        (x, left), dof = project_out(data.C[rows], data.X[rows], y[rows])
        parts.append((x.T @ x, x.T @ left, left @ left, float(dof)))
    return compress_moments(X_all.T @ X_all, *(np.array(part) for part in zip(*parts, strict=True)))


def test_products_give_the_dense_likelihood_and_posterior(case, pin):
    """Every shape of data, fewer samples than SNPs and collinear SNPs among them, with every slab."""
    compressed = from_products(case.X, case.Y, case.C)
    loglik, found = evaluated(compressed, case.params)
    pin(loglik, dense.loglik(*case.dense), 1e-8)
    pin(found.probability, dense.posterior_probability(*case.dense), 1e-6)
    mean, covariance = dense.moments(*case.dense)
    pin(found.slab_mean, mean, 1e-6)
    pin(found.slab_sd, np.sqrt(np.einsum("tjj->tj", covariance)), 1e-6)


@pytest.mark.parametrize("shape", ["covariates-missing", "collinear-missing", "fewer-samples-than-snps"])
@pytest.mark.parametrize(("slab", "mean"), [("g", "free"), ("power", "hierarchical")])
def test_products_give_the_same_fit(make_case, shape, slab, mean, pin):
    case = make_case(shape, "g", signal=2.0)
    data = tidy(case.X, case.Y, case.C)
    raw, products = (
        estimate(compressed, data.tissues, "expression", slab, mean)
        for compressed in (compress(data), from_products(case.X, case.Y, case.C))
    )
    pin(products.search.loglik, raw.search.loglik, 1e-8)
    pin(products.responsibilities, raw.responsibilities, 1e-3)
    effects = [posterior(*one.whitened, one.params, one.covariance).mean for one in (products, raw)]
    pin(*effects, 2e-3)


def tissue_by_tissue(raw: Raw, theta: Params) -> tuple[Array, Array, Array]:
    """Log p(y_t), P(I(t)=1 | Y) and E(beta(t) | I(t)=1, Y) by the dense formulas, covariates of a tissue's own."""
    logs, probability, mean = [], [], []
    for one in raw.tissues:
        arguments = raw.X[one.rows], one.y[:, None], theta, one.C
        logs.append(dense.loglik(*arguments))
        probability.append(dense.posterior_probability(*arguments)[0])
        mean.append(dense.moments(*arguments)[0][0])
    return np.array(logs), np.array(probability), np.array(mean)


def random_theta(raw: Raw, seed: int) -> Params:
    """Parameters with Sigma0 = (X'X)^-1 over all donors, spelt out."""
    rng, p = np.random.default_rng(seed), raw.X.shape[1]
    scale = np.exp(rng.normal(0, 0.3, 2))
    return Params(tau1=rng.uniform(0.2, 0.8), beta=rng.normal(0, 0.3, p), eta=3 * scale[0], sigma2=scale[1],
                  slab=np.linalg.pinv(raw.XX))  # fmt: skip


@pytest.mark.parametrize("seed", range(5))
def test_covariates_of_a_tissue_s_own(seed, pin):
    raw = Raw(seed, sizes=(45, 8, 52), p=5)  # the second has 8 samples, 5 covariates and 5 SNPs
    theta = random_theta(raw, seed)
    loglik, found = evaluated(raw.moments().total().compressed(raw.XX), theta)
    logs, probability, mean = tissue_by_tissue(raw, theta)
    pin(loglik, logs.sum(), 1e-8)
    pin(found.probability, probability, 1e-7)
    pin(found.slab_mean, mean, 1e-7)


def test_a_snp_that_does_not_vary_in_a_tissue_is_known_from_the_others(pin):
    raw = Raw(7)
    raw.X[raw.tissues[1].rows, 2] = 1.0
    theta = random_theta(raw, 7)
    total = raw.moments().total()
    assert total.gram[1, 2].tolist() == [0.0] * 4
    loglik, found = evaluated(total.compressed(raw.XX), theta)
    logs, probability, mean = tissue_by_tissue(raw, theta)
    pin(loglik, logs.sum(), 1e-8)
    pin(found.probability, probability, 1e-7)
    pin(found.slab_mean, mean, 1e-7)


@pytest.mark.parametrize("seed", range(3))
def test_a_training_set_s_likelihood_is_that_of_its_rows_with_its_degrees_of_freedom(seed, pin):
    """The rows' dense density, with dof for the number of rows where log(2 pi sigma2) is multiplied by it."""
    raw = Raw(seed)
    theta = random_theta(raw, seed)
    Sigma0, eta, sigma2 = np.asarray(theta.slab), theta.eta, theta.sigma2
    for fold in range(FOLDS):
        want = 0.0
        for one in raw.tissues:
            x, y, h = one.adjusted(raw.X)
            rows = one.fold != fold
            x, y, surplus = x[rows], y[rows], h[rows].sum()
            Omega = sigma2 * np.eye(len(y)) + eta * x @ Sigma0 @ x.T
            rest = 0.5 * surplus * np.log(2 * np.pi * sigma2)
            log_g1 = dense.log_density(y, x @ theta.beta, Omega) + rest
            log_g0 = dense.log_density(y, 0 * y, sigma2 * np.eye(len(y))) + rest
            want += np.logaddexp(np.log(theta.tau1) + log_g1, np.log(theta.tau0) + log_g0)
        loglik, _ = evaluated(raw.moments().without(fold).compressed(raw.XX), theta)
        pin(loglik, want, 1e-9)


@pytest.mark.parametrize(("apart", "rank"), [(1e-2, 3), (1e-4, 3), (1e-7, 2)])
def test_products_see_directions_down_to_half_the_digits(apart, rank, pin):
    """Two SNPs that differ by 1e-4 are told apart, with an error of 1e-16 / 1e-8; by 1e-7 they are one."""
    rng = np.random.default_rng(4)
    X = rng.standard_normal((50, 3))
    X[:, 2] = X[:, 1] + apart * X[:, 2]
    Y = X @ np.array([0.5, 0.5, 0.0])[:, None] + rng.standard_normal((50, 4))
    products, raw = from_products(X, Y, None), compress(tidy(X, Y))
    assert products.rank.tolist() == [rank] * 4
    assert raw.rank.tolist() == [3]
    theta = Params(tau1=0.5, beta=np.array([0.4, 0.5, 0.0]), eta=1.0, sigma2=1.0)
    if rank == 3:
        pin(evaluated(products, theta)[0], evaluated(raw, theta)[0], 1e-14 / apart**2)


def test_a_perfect_fit_leaves_no_residual():
    """What is left of |y|^2 by rounding is no error variance."""
    raw = Raw(5)
    x = [one.adjusted(raw.X)[0] for one in raw.tissues]
    beta = np.array([0.3, -0.7, 0.2, 0.5])
    gram = np.array([one.T @ one for one in x])
    found = Totals(gram, gram @ beta, np.array([np.sum((one @ beta) ** 2) for one in x]), np.full(3, 30.0))
    assert found.compressed(raw.XX).rss.tolist() == [0.0] * 3


@pytest.mark.statistical
@pytest.mark.parametrize(("n", "k", "p"), [(213, 38, 15), (213, 0, 30), (120, 50, 20)])
def test_a_training_set_s_error_variance_is_nearly_unbiased(n, k, p):
    """E rss = sigma2 (dof - p + tr(P_x H)), P_x projecting on the training genotypes and H on the covariates.

    As the fold's rows make up for Z'x in the others, the trace is about p k/n, once for all folds: with GTEx's samples,
    covariates and ten folds that is half a per cent of sigma2 at most.
    """
    rng, found = np.random.default_rng([n, k, p]), []
    edges = np.round(np.linspace(0, n, FOLDS + 1)).astype(int)
    for _ in range(400):
        projection, X = Projection.of(rng.standard_normal((n, k)), intercept=False), rng.standard_normal((n, p))
        x, y = projection.residual(X), projection.residual(rng.standard_normal(n))
        training = gather([x], [y], [projection.leverage], [edges]).without(1).compressed(X.T @ X)
        found.append(training.rss[0] / (training.n[0] - p))
    dof, error = n * (1 - 1 / FOLDS) * (1 - k / n), np.std(found, ddof=1) / np.sqrt(len(found))
    assert np.mean(found) == pytest.approx(1.0 + p * (k / n) / FOLDS / (dof - p), abs=4 * error)
