"""Every discrepancy against its definition, computed densely tissue by tissue, and under what should not change it."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import pytest
from scipy import optimize, special, stats

import ebmodel
from ebmodel import Params, dense
from ebmodel.checks import noise, prior
from ebmodel.checks.missing import missing_by_value
from ebmodel.checks.reference import values
from ebmodel.checks.value import Value, cannot
from ebmodel.checks.view import View, frame_of

EXACT = 1e-7
"""Relative error allowed to two computations of one number."""
STEP = 1e-4
"""Of central differences, whose error is of its square."""
ROUGH = 1e-4
"""Relative error allowed to a derivative by differences."""


def view_of(fit: ebmodel.Fit, groups: Any = None) -> View:
    return View(fit, frame_of(fit), None if groups is None else np.asarray(groups))


class Dense:
    """Data, the posterior at known parameters, and what the discrepancies are made of, with n x n matrices."""

    def __init__(self, X: Any, Y: Any, params: Params, C: Any = None, groups: Any = None) -> None:
        self.X, self.Y, self.C, self.groups = X, Y, C, groups
        self.fit = ebmodel.oracle(X, Y, params, covariates=C)
        self.params = self.fit.params
        self.view = view_of(self.fit, groups)
        self.m, self.seen = Y.shape[1], ~np.isnan(Y)
        self.tissues = list(dense.tissues(X, Y, C))
        self.Sigma0 = dense.slab_shape(X, params, C)
        beside = X if C is None else X - C @ np.linalg.lstsq(C, X)[0]
        self.rank = np.linalg.matrix_rank(beside)
        self.mu = np.asarray(self.params.beta)
        latent = "beta_covariance" in self.fit.dataset
        self.S = self.fit.beta_covariance.to_numpy() if latent else np.zeros((X.shape[1],) * 2)

    @cached_property
    def h(self) -> np.ndarray:
        log_g0 = dense.log_null(self.X, self.Y, self.params, self.C)
        odds = special.logit(self.params.tau1) + self.log_slab() - log_g0
        return np.where([len(y) > 0 for _, y in self.tissues], special.expit(odds), 0.0)

    def log_slab(self, scale: Any = 1.0) -> np.ndarray:
        """E log g1 of beta ~ N(mu, S), were the effects of tissue t ``scale[t]`` times as large."""
        found = []
        for (X_t, y), k in zip(self.tissues, np.broadcast_to(scale, self.m), strict=True):
            Omega = self.params.sigma2 * np.eye(len(y)) + k**2 * self.params.eta * X_t @ self.Sigma0 @ X_t.T
            about = np.trace(np.linalg.solve(Omega, k**2 * X_t @ self.S @ X_t.T))
            found.append(dense.log_density(y, k * X_t @ self.mu, Omega) - 0.5 * about)
        return np.array(found)

    def log_mixture(self, scale: Any = 1.0) -> np.ndarray:
        """log(tau1 g1 + tau0 g0), (tissue,)."""
        log_g0 = dense.log_null(self.X, self.Y, self.params, self.C)
        return np.logaddexp(np.log(self.params.tau1) + self.log_slab(scale), np.log(self.params.tau0) + log_g0)

    @cached_property
    def whitened(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """A_t'A_t and A_t'y_t with A_t = X_t Sigma0^(1/2)."""
        root = power(self.Sigma0, 0.5)
        return [(root @ X_t.T @ X_t @ root, root @ X_t.T @ y) for X_t, y in self.tissues]

    @cached_property
    def deviations(self) -> np.ndarray:
        """(sigma2 + eta G)^(-1/2) G^(1/2) (G^+ A'y - gamma), spherical in the slab, (tissue, snp)."""
        gamma = power(self.Sigma0, -0.5) @ self.mu
        found = []
        for G, z in self.whitened:
            value, vector = np.linalg.eigh(G)
            on = value > 1e-9 * max(value[-1], 1e-9)
            b = np.divide(vector.T @ z, value, where=on, out=np.zeros_like(value))
            weight = np.where(on, value / (self.params.sigma2 + self.params.eta * np.abs(value)), 0.0)
            found.append(vector @ (np.sqrt(np.maximum(weight, 0.0)) * (b - vector.T @ gamma)))
        return np.array(found)

    @cached_property
    def errors_share(self) -> np.ndarray:
        share = []
        for G, _ in self.whitened:
            value = np.linalg.eigvalsh(G)
            on = value > 1e-9 * max(value[-1], 1e-9)
            share.append(np.sum(1.0 / (1.0 + self.params.eta / self.params.sigma2 * value[on])) / self.rank)
        return np.array(share)

    @cached_property
    def slab_effects(self) -> np.ndarray:
        """E(beta(t) | Y, I(t)=1), (tissue, snp)."""
        return dense.moments(self.X, self.Y, replace(self.params, beta=self.mu), self.C)[0]

    def residuals(self, t: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """e(t), the annihilator, and the design, over the rows of tissue t."""
        rows = self.seen[:, t]
        design = self.X[rows] if self.C is None else np.column_stack([self.C[rows], self.X[rows]])
        M = np.eye(rows.sum()) - design @ np.linalg.pinv(design)
        return M @ self.Y[rows, t], M, design


def power(S: np.ndarray, k: float) -> np.ndarray:
    """S^k on the space that S spans."""
    value, vector = np.linalg.eigh(S)
    on = value > 1e-11 * value[-1]
    return (vector[:, on] * value[on] ** k) @ vector[:, on].T


KINDS = [
    "complete",
    "missing",
    "covariates",
    "awkward",
    "collinear",
    "independent",
    "power",
    "matrix",
    "zero",
    "latent",
]


def make(kind: str, n: int = 36, p: int = 3, m: int = 9, seed: int = 0) -> Dense:
    """About half of the tissues active, most of them clearly."""
    rng = np.random.default_rng([seed, KINDS.index(kind)])
    X = rng.standard_normal((n, p)) @ (np.eye(p) + 0.4 * np.triu(np.ones((p, p)), 1))
    if kind == "collinear":
        X = np.column_stack([X, X[:, 0] - X[:, 1]])
    C = np.column_stack([np.ones(n), rng.standard_normal(n) + X[:, 0]]) if kind == "covariates" else None
    active = np.arange(m) % 2 == 0
    effects = np.where(active[:, None], 0.5 * np.resize([1.0, -0.5], X.shape[1]), 0.0)
    effects = effects + active[:, None] * 0.3 * rng.standard_normal(effects.shape)
    Y = X @ effects.T + rng.standard_normal((n, m)) * 1.1
    if kind != "complete":
        Y[rng.random((n, m)) < np.linspace(0.0, 0.6, m)] = np.nan
    if kind == "awkward":
        Y[:, 1] = np.nan
        Y[2:, 2], Y[:2, 2] = np.nan, [1.0, -2.0]
    slab: Any = {"independent": "independent", "power": 0.4, "matrix": np.eye(p) + 0.5}.get(kind, "g")
    eta = 4.0 if isinstance(slab, str) and slab == "g" else 0.15
    beta = np.resize([0.45, -0.3], X.shape[1])
    kappa = {"zero": 0.0, "latent": 8.0}.get(kind)
    params = Params(tau1=0.4, beta=beta, eta=eta, sigma2=1.3, slab=slab, kappa=kappa)
    return Dense(X, Y, params, C, np.arange(m) // 3)


@pytest.fixture(scope="module", params=KINDS)
def case(request: pytest.FixtureRequest) -> Dense:
    return make(request.param)


@pytest.fixture(scope="module")
def missing() -> Dense:
    return make("missing")


def agrees(found: Value, statistic: float, effect: float, rel: float = EXACT) -> None:
    assert found.statistic == pytest.approx(statistic, rel=rel, abs=rel)
    assert found.effect == pytest.approx(effect, rel=rel, abs=rel)
    assert found.sentence == found.words.format(f"{found.effect:.2g}")


# What they are made of -----------------------------------------------------------------------------------------------


def test_a_view_holds_the_posterior_and_the_residuals(case, pin):
    view = case.view
    pin(view.h, case.h)
    for t in np.flatnonzero(view.stats.n > 0):
        e, M, _ = case.residuals(t)
        pin(view.E[case.seen[:, t], t], e, EXACT, scale=1.0)
        assert view.frame.dof[t] == pytest.approx(np.trace(M), abs=EXACT)
        if np.trace(M) > 0.5:
            assert view.s2[t] == pytest.approx(e @ e / np.trace(M))
        else:
            assert np.isnan(view.s2[t])
    on = case.h > 1e-8
    pin((case.X @ view.slab_effects.T)[:, on], (case.X @ case.slab_effects.T)[:, on], 1e-6)
    length = np.sum(view.W * (view.stats.b - view.a) ** 2, axis=1)
    pin(length, np.sum(case.deviations**2, axis=1))
    pin(view.noise, case.errors_share)


def test_a_value_speaks(pin):
    assert Value(1.0, 0.1234, "up {} units").sentence == "up 0.12 units"
    nothing = cannot("no data")
    assert nothing.sentence == "no data"
    assert np.isnan([nothing.statistic, nothing.effect]).all()


# Equation (1) --------------------------------------------------------------------------------------------------------


def test_curvature_is_a_regression_on_the_square(case):
    up = down = variance = 0.0
    for t in range(case.m):
        e, M, design = case.residuals(t)
        if case.h[t] <= 1e-10 or np.trace(M) < 1.5:
            continue
        u = case.X[case.seen[:, t]] @ case.slab_effects[t]
        beside = np.column_stack([design, np.ones(len(u))])
        square = u**2 / np.std(u)
        w = square - beside @ np.linalg.lstsq(beside, square)[0]
        s2 = e @ e / np.trace(M)
        up, down, variance = up + case.h[t] * w @ e, down + case.h[t] * w @ w, variance + case.h[t] ** 2 * s2 * w @ w
    agrees(noise.curvature(case.view), abs(up) / np.sqrt(variance), up / down, 1e-6)


def test_in_one_tissue_curvature_is_the_coefficient_of_the_square():
    one = make("missing", m=3)
    alone = Dense(one.X, one.Y[:, 1:2], replace(one.params, tau1=0.9))
    rows = alone.seen[:, 0]
    u = alone.X[rows] @ alone.slab_effects[0]
    columns = np.column_stack([alone.X[rows], np.ones(rows.sum()), u**2 / np.std(u)])
    coefficient = np.linalg.lstsq(columns, alone.Y[rows, 0])[0][-1]
    spread = np.linalg.inv(columns.T @ columns)[-1, -1]
    e, M, _ = alone.residuals(0)
    error = np.sqrt(spread * e @ e / np.trace(M))
    agrees(noise.curvature(alone.view), abs(coefficient) / error, coefficient)


def test_jarque_bera_by_loop(case):
    r = []
    for t in range(case.m):
        e, M, _ = case.residuals(t)
        free = np.diag(M)
        if round(np.trace(M)) >= 3:
            r += list(e / np.sqrt(e @ e / np.trace(M) * free))
    r = np.array(r)
    g1, g2 = np.mean(r**3), np.mean(r**4) - 3.0
    agrees(noise.not_normal(case.view), len(r) * (g1**2 / 6.0 + g2**2 / 24.0), g2)


def even(n: int = 24, m: int = 5, seed: int = 0) -> View:
    """One SNP of two genotypes, equally common, beside a constant: every sample has leverage 2/n."""
    rng = np.random.default_rng(seed)
    X = np.resize([1.0, -1.0], n)[:, None]
    Y = X * 2.0 + rng.standard_normal((n, m)) * np.linspace(1.0, 1.6, m)
    params = Params(tau1=0.5, beta=[2.0], eta=1.0, sigma2=1.0)
    return view_of(ebmodel.oracle(X, Y, params, intercept=True))


def test_where_leverage_is_even_the_statistics_are_those_of_scipy():
    view = even()
    s = view.E / np.sqrt(np.mean(view.E**2, axis=0))
    assert noise.not_normal(view).statistic == pytest.approx(stats.jarque_bera(s.ravel()).statistic)
    levene = stats.levene(*view.E.T, center="mean").statistic
    assert noise.unequal_variances(view).statistic == pytest.approx(levene * (24 - 2) / (24 - 1))


def test_levene_by_loop(case):
    means, variances, dof, log_s2, r = [], [], [], [], []
    for t in range(case.m):
        e, M, _ = case.residuals(t)
        if round(np.trace(M)) < 3:
            continue
        size = np.abs(e) / np.sqrt(np.diag(M))
        means, variances = [*means, size.mean()], [*variances, size.var()]
        dof, log_s2 = [*dof, np.trace(M)], [*log_s2, np.log(e @ e / np.trace(M))]
        r += list(e / np.sqrt(e @ e / np.trace(M) * np.diag(M)))
    means, variances, dof = np.array(means), np.array(variances), np.array(dof)
    centre, within = dof @ means / dof.sum(), dof @ variances / dof.sum()
    F = dof @ (means - centre) ** 2 / (len(dof) - 1) / within
    chance = 2.0 / dof * max(1.0 + (np.mean(np.array(r) ** 4) - 3.0) / 2.0, 1.0)
    total, squares = sum(1.0 / v for v in chance), sum(1.0 / v**2 for v in chance)  # DerSimonian & Laird's moments
    middle = sum(x / v for x, v in zip(log_s2, chance, strict=True)) / total
    Q = sum((x - middle) ** 2 / v for x, v in zip(log_s2, chance, strict=True))
    agrees(
        noise.unequal_variances(case.view),
        F,
        np.sqrt(max((Q - len(chance) + 1) / (total - squares / total), 0.0)),
    )


def test_one_small_tissue_does_not_hide_how_unequal_the_others_variances_are():
    """log sigma2_t = +-0.25 in 19 tissues of 800 samples; a twentieth has 30."""
    rng = np.random.default_rng(8)
    spread = np.r_[np.resize([0.25, -0.25], 19), 0.0]
    Y = rng.standard_normal((800, 20)) * np.exp(spread / 2.0)
    Y[30:, 19] = np.nan
    X = rng.standard_normal((800, 3))
    fit = ebmodel.oracle(X, Y, Params(tau1=0.5, beta=np.zeros(3), eta=1.0, sigma2=1.0))
    effect = noise.unequal_variances(View(fit, frame_of(fit))).effect
    assert effect == pytest.approx(0.25, abs=4 * 0.25 / np.sqrt(2 * 18))


def test_correlations_of_errors_by_loop(case):
    beyond, chance = [], []
    for s in range(case.m):
        for t in range(s + 1, case.m):
            E, P = np.zeros((2, len(case.X))), np.zeros((2, len(case.X), len(case.X)))
            for i, tissue in enumerate((s, t)):
                rows = np.flatnonzero(case.seen[:, tissue])
                e, M, _ = case.residuals(tissue)
                E[i, rows], P[i][np.ix_(rows, rows)] = e, M
            both = case.seen[:, s] & case.seen[:, t]
            E, P = E[:, both], P[:, both][:, :, both]
            free = np.trace(P[0]), np.trace(P[1])
            if min(free) < 10.0 - 1e-9:
                continue
            r2 = (E[0] @ E[1]) ** 2 / (E[0] @ E[0]) / (E[1] @ E[1])
            by_chance = np.trace(P[0] @ P[1]) / free[0] / free[1]
            beyond, chance = [*beyond, r2 - by_chance], [*chance, by_chance]
    z = np.sum(beyond) / np.sqrt(2.0 * np.sum(np.square(chance)))
    agrees(noise.correlated_errors(case.view), z, np.sqrt(max(np.mean(beyond), 0.0)))


# Equations (3) and (4) -----------------------------------------------------------------------------------------------


def test_sample_size_is_a_score(case):
    """d log p(Y)/dc of effects that are (n_t/mean)^c times the model's, by differences, over its expected variance."""
    on = np.array([len(y) > 0 for _, y in case.tissues])
    if np.ptp([len(y) for _, y in case.tissues]) == 0:
        assert "same number" in prior.sample_size(case.view).sentence
        return
    slope = (case.log_mixture(np.exp(STEP)) - case.log_mixture(np.exp(-STEP))) / (2.0 * STEP)  # for each tissue
    information = np.zeros(case.m)
    for t, (X_t, y) in enumerate(case.tissues):
        H = X_t @ case.Sigma0 @ X_t.T
        Omega = case.params.sigma2 * np.eye(len(y)) + case.params.eta * H
        K, Xb = case.params.eta * np.linalg.solve(Omega, H), X_t @ case.mu
        information[t] = Xb @ np.linalg.solve(Omega, Xb) + 2.0 * np.trace(K @ K)
    weight = case.h * information
    x = np.array([np.log(max(len(y), 1)) for _, y in case.tissues])
    x = np.where(on, x - weight @ x / weight.sum(), 0.0)
    agrees(prior.sample_size(case.view), abs(x @ slope) / np.sqrt(weight @ x**2), x @ slope / (weight @ x**2), ROUGH)


@pytest.mark.parametrize("kind", [k for k in KINDS if k != "matrix"])
def test_the_slope_in_alpha_is_that_of_the_likelihood(kind):
    """With eta in the units of (X'X/s)^-alpha, by the step that the discrepancy takes and by a finer one."""
    case = make(kind)
    X = case.X if case.C is None else case.X - case.C @ np.linalg.lstsq(case.C, case.X)[0]
    unit = np.sum(X**2) / case.rank if case.params.slab == "g" else 1.0  # (X'X)^-1 = (X'X/s)^-1/s
    kappa = None if case.params.kappa is None else case.params.kappa / unit

    def at(alpha: float) -> float:
        theta = replace(case.params, beta=case.mu, slab=alpha, eta=case.params.eta / unit, kappa=kappa)
        if kind != "latent":
            return dense.loglik(case.X, case.Y, theta, case.C)
        T = dense.variational_probability(case.X, case.Y, theta, case.mu, case.S, case.C)
        return dense.variational_bound(case.X, case.Y, theta, T, case.mu, case.S, case.C)

    found, alpha = prior.covariance_shape(case.view), case.params.alpha
    assert at(alpha) == pytest.approx(case.fit.loglik, rel=1e-8)
    coarse, fine = ((at(alpha + h) - at(alpha - h)) / (2.0 * h) for h in (prior.STEP, 1e-3))
    agrees(found, abs(coarse), abs(coarse), 1e-5)
    assert found.statistic == pytest.approx(abs(fine), rel=0.02, abs=1e-2)
    assert ("larger" if fine > 0 else "smaller") in found.words


def test_ebmodel_loglik_has_that_slope_too(missing):
    params, unit = missing.params, np.sum(missing.X**2) / missing.rank
    near = [replace(params, beta=missing.mu, slab=1.0 + h, eta=params.eta / unit) for h in (-STEP, STEP)]
    down, up = (ebmodel.loglik(missing.X, missing.Y, theta) for theta in near)
    assert prior.covariance_shape(missing.view).statistic == pytest.approx(abs(up - down) / (2.0 * STEP), rel=1e-3)


def test_explained_in_the_spike_by_loop(case):
    excess = spread = share = total = 0.0
    for t, (X_t, y) in enumerate(case.tissues):
        rank = np.linalg.matrix_rank(X_t, tol=1e-9) if len(y) else 0
        explained = y @ X_t @ np.linalg.pinv(X_t) @ y if len(y) else 0.0
        dof, out, sigma2 = len(y) - rank, (1.0 - case.h[t]) * (len(y) > 0), case.params.sigma2
        if dof >= 20:
            sigma2 = (y @ y - explained) / (dof - 2)
        excess, spread = excess + out * (explained / sigma2 - rank), spread + out**2 * 2.0 * rank
        share, total = share + out * (explained - rank * sigma2), total + out * (y @ y)
    agrees(prior.explained_in_spike(case.view), excess / np.sqrt(spread), 100.0 * share / total)


def test_explained_in_the_spike_is_the_score_for_small_effects():
    """d log p(Y)/d eta0 at 0 is half of it over sigma2, where data are complete and sigma2 is the model's."""
    case = make("complete", n=18)
    sigma2, p = case.params.sigma2, case.X.shape[1]
    H = case.X @ np.linalg.pinv(case.X)

    def at(eta0: float) -> float:
        log_g0 = [dense.log_density(y, 0.0 * y, sigma2 * np.eye(18) + eta0 * H) for y in case.Y.T]
        tau1, tau0 = case.params.tau1, case.params.tau0
        return float(np.sum(np.logaddexp(np.log(tau1) + case.log_slab(), np.log(tau0) + log_g0)))

    score = (at(STEP) - at(-STEP)) / (2.0 * STEP)
    want = 2.0 * sigma2 * score / np.sqrt(2.0 * p * np.sum((1.0 - case.h) ** 2))
    assert prior.explained_in_spike(case.view).statistic == pytest.approx(want, rel=ROUGH)


def by_pairs(case: Dense) -> tuple[dict[tuple[int, int], float], dict[tuple[int, int], float]]:
    """Correlations of deviations, the errors' part taken off, and weights, by pair of tissues."""
    v, errors = case.deviations, noise.correlation(case.view.frame, case.view.E)
    of_errors = dict(zip(zip(*(i.tolist() for i in errors.pairs), strict=True), errors.r, strict=True))
    r, weight = {}, {}
    for s in range(case.m):
        for t in range(s + 1, case.m):
            lengths = np.linalg.norm(v[s]), np.linalg.norm(v[t])
            if min(case.h[s], case.h[t]) > 1e-10 and min(lengths) > 0.0:
                share = np.sqrt(case.errors_share[s] * case.errors_share[t])
                r[s, t] = v[s] @ v[t] / lengths[0] / lengths[1] - of_errors.get((s, t), 0.0) * share
                weight[s, t] = case.h[s] * case.h[t]
    return r, weight


def test_related_tissues_by_loop(case):
    r, weight = by_pairs(case)
    up = sum(w * (r[pair] ** 2 - 1.0 / case.rank) for pair, w in weight.items())
    on_sphere = 2.0 * (case.rank - 1) / (case.rank**2 * (case.rank + 2))
    chance = np.sqrt(sum(w**2 for w in weight.values()) * on_sphere)
    agrees(prior.related_tissues(case.view), up / chance, np.sqrt(max(up / sum(weight.values()), 0.0)), 1e-6)


def test_correlations_on_a_sphere_have_that_variance():
    rng = np.random.default_rng(0)
    for rank in (2, 5):
        v = rng.standard_normal((2, 200_000, rank))
        r = np.sum(v[0] * v[1], axis=1) / np.linalg.norm(v[0], axis=1) / np.linalg.norm(v[1], axis=1)
        assert np.mean(r**2) == pytest.approx(1.0 / rank, rel=0.02)
        assert np.var(r**2) == pytest.approx(2.0 * (rank - 1) / (rank**2 * (rank + 2)), rel=0.02)


def test_related_groups_by_loop(case):
    r, weight = by_pairs(case)
    within = {pair: case.groups[pair[0]] == case.groups[pair[1]] for pair in r}
    mean = [
        sum(weight[i] * r[i] for i in r if within[i] == side) / sum(weight[i] for i in r if within[i] == side)
        for side in (True, False)
    ]
    inside = np.array([weight[i] for i in r if within[i]])
    error = np.linalg.norm(inside) / inside.sum() / np.sqrt(case.rank)
    agrees(prior.related_groups(case.view), (mean[0] - mean[1]) / error, mean[0] - mean[1], 1e-6)


# Two slabs -----------------------------------------------------------------------------------------------------------


def opposed(p: int, m: int = 16, n: int = 30) -> Dense:
    """Half of the active tissues have the opposite effects, more or less."""
    rng = np.random.default_rng([7, p])
    X = rng.standard_normal((n, p))
    side = np.resize([1.0, 1.0, -1.0, 0.0], m)[:, None]
    Y = X @ (side * np.resize([1.2, 0.8], p) + np.abs(side) * 0.25 * rng.standard_normal((m, p))).T
    Y += rng.standard_normal((n, m))
    Y[rng.random((n, m)) < 0.1] = np.nan
    return Dense(X, Y, Params(tau1=0.7, beta=np.resize([0.4, 0.25], p), eta=25.0, sigma2=1.0))


@pytest.mark.parametrize("p", [1, 2])
def test_a_second_slab_gains_what_a_brute_force_optimiser_gains(p):
    case = opposed(p)
    theta = case.params
    log_g0 = np.log(theta.tau0) + dense.log_null(case.X, case.Y, theta)

    def lost(x: np.ndarray) -> float:
        pieces = [log_g0]
        for beta, share in ((x[:p], special.expit(x[-1])), (x[p : 2 * p], special.expit(-x[-1]))):
            slab = replace(theta, beta=beta, eta=float(np.exp(x[-2])))
            pieces.append(np.log(theta.tau1 * share) + dense.log_slab(case.X, case.Y, slab))
        return -float(np.sum(special.logsumexp(pieces, axis=0)))

    start = np.r_[np.resize([1.0, 0.6], p), np.resize([-1.0, -0.6], p), np.log(theta.eta / 5.0), 0.5]
    best = optimize.minimize(lost, start, method="L-BFGS-B")
    gain, share = -best.fun - case.fit.loglik, special.expit(-abs(best.x[-1]))
    found = prior.two_slabs(case.view)
    assert gain > 5.0
    assert found.effect <= gain + 1e-5
    assert found.effect == pytest.approx(gain, abs=0.05)  # EM ends when a step gains less than a thousandth
    assert f"{100 * share:.0f} % of active" in found.words


@pytest.mark.parametrize("p", [1, 2, 3])
def test_what_a_stretched_slab_would_gain_is_taken_off(p):
    """The best variances along the first axis of the deviations and beside it, each at least what errors alone give."""
    case = opposed(p)
    v, h = case.deviations, case.h
    axis = np.linalg.svd(np.sqrt(h)[:, None] * v)[2][0]
    along = (v @ axis) ** 2
    floor = h @ case.errors_share / h.sum()
    gain = 0.0
    for squares, count in ((along, 1), (np.sum(v**2, axis=1) - along, p - 1)):
        if count:
            variance = h @ squares / h.sum() / count
            best = optimize.minimize_scalar(
                lambda x, v=variance: x + v / np.exp(x), bounds=(np.log(floor), 8.0), method="bounded"
            )
            gain += 0.5 * h.sum() * count * (variance - best.fun)
    found = prior.two_slabs(case.view)
    assert found.effect - found.statistic / 2.0 == pytest.approx(gain, rel=1e-5)


def test_where_no_tissue_differs_a_second_slab_gains_nothing():
    rng = np.random.default_rng(1)
    X = rng.standard_normal((30, 2))
    Y = X @ np.outer([2.0, 1.0], np.ones(8)) + rng.standard_normal((30, 8))
    found = prior.two_slabs(view_of(ebmodel.fit(X, Y, n_starts=4)))
    assert found.statistic < 8.0


# Missing at random ---------------------------------------------------------------------------------------------------


def test_missing_by_value_by_loop(case):
    found, reference = missing_by_value(case.view, 4, np.random.SeedSequence(1))
    if case.seen.all():
        assert found.sentence == "no response is missing"
        assert np.isnan(reference).all()
        return
    n = len(case.X)
    C = np.ones((n, 1)) if case.C is None else np.column_stack([np.ones(n), case.C])
    U = down = variance = 0.0
    for t in range(case.m):
        gone = ~case.seen[:, t]
        if gone.all() or not gone.any() or case.h[t] <= 1e-10:
            continue
        u = case.X @ case.slab_effects[t]
        u = (u - C @ np.linalg.lstsq(C, u)[0]) / np.std(case.Y[~gone, t])
        pi = gone.mean()
        U += case.h[t] * (gone - pi) @ u
        down, variance = down + case.h[t] * pi * (1 - pi) * u @ u, variance + case.h[t] ** 2 * pi * (1 - pi) * u @ u
    agrees(found, abs(U) / np.sqrt(variance), U / down, 1e-6)
    assert reference.shape == (4,)
    assert (reference >= 0.0).all()


# What does not change them -------------------------------------------------------------------------------------------

ALWAYS = ["linearity", "normal-errors", "equal-variances", "independent-errors", "exchangeable", "unrelated-groups"]
ALWAYS += ["sample-size", "exact-spike", "two-components", "missing-at-random"]


def observed(view: View) -> dict[str, Value]:
    return values(view) | {"missing-at-random": missing_by_value(view, 1, np.random.SeedSequence(0))[0]}


def same(a: View, b: View, but: tuple[str, ...] = (), rel: float = 1e-5) -> None:
    one, two = observed(a), observed(b)
    for name in set(one) - set(but):
        assert one[name].statistic == pytest.approx(two[name].statistic, rel=rel, abs=rel, nan_ok=True), name
        assert one[name].effect == pytest.approx(two[name].effect, rel=rel, abs=rel, nan_ok=True), name


def fitted(X: Any, Y: Any, groups: Any, **options: Any) -> View:
    return view_of(ebmodel.fit(X, Y, **({"n_starts": 8, "tol": 1e-12} | options)), groups)


@pytest.mark.parametrize("mean", ["free", "hierarchical", "zero"])
def test_no_order_of_tissues_or_samples(missing, mean):
    X, Y, groups = missing.X, missing.Y, missing.groups
    rng = np.random.default_rng(1)
    rows, columns = rng.permutation(len(X)), rng.permutation(Y.shape[1])
    other = fitted(X[rows], Y[rows][:, columns], groups[columns], mean=mean)
    same(fitted(X, Y, groups, mean=mean), other, rel=1e-4)


@pytest.mark.parametrize("mean", ["free", "hierarchical", "zero"])
def test_no_units_of_expression(missing, mean):
    X, Y, groups = missing.X, missing.Y, missing.groups
    same(fitted(X, Y, groups, mean=mean), fitted(X, 1000.0 * Y, groups, mean=mean), rel=1e-4)


@pytest.mark.parametrize("mean", ["free", "hierarchical", "zero"])
def test_with_the_papers_slab_no_coding_of_genotypes_but_in_its_shape(missing, mean):
    X, Y, groups = missing.X, missing.Y, missing.groups
    A = np.array([[2.0, 1.0, 0.0], [0.0, -1.0, 0.5], [1.0, 0.0, 3.0]])
    plain, mixed = (fitted(Z, Y, groups, mean=mean) for Z in (X, X @ A))
    same(plain, mixed, but=("slab-covariance",), rel=1e-4)


@pytest.mark.parametrize("slab", ["g", "independent", 0.5])
def test_no_rotation_of_genotypes(missing, slab):
    X, Y, groups = missing.X, missing.Y, missing.groups
    A = np.linalg.qr(np.random.default_rng(3).standard_normal((3, 3)))[0]
    same(fitted(X, Y, groups, slab=slab), fitted(X @ A, Y, groups, slab=slab), rel=1e-4)


def test_no_units_of_covariates():
    case = make("covariates")
    large = case.C * [1.0, 1e12]
    a, b = (ebmodel.fit(case.X, case.Y, covariates=C, n_starts=8, tol=1e-12) for C in (case.C, large))
    same(view_of(a, case.groups), view_of(b, case.groups), rel=1e-3)


def test_no_tissue_without_data(missing):
    X, Y, groups = missing.X, missing.Y, missing.groups
    wider = np.column_stack([Y, np.full(len(Y), np.nan)])
    a, b = (Dense(X, Z, missing.params).fit for Z in (Y, wider))
    same(view_of(a, groups), view_of(b, [*groups, 0]))


def test_a_sample_without_data_concerns_who_is_missing_alone(missing):
    """Its genotypes are 0, so that X'X stays; it is one more that all tissues lack."""
    X, Y, groups = missing.X, missing.Y, missing.groups
    longer = np.vstack([X, np.zeros(3)]), np.vstack([Y, np.full(Y.shape[1], np.nan)])
    a, b = Dense(X, Y, missing.params).fit, Dense(*longer, missing.params).fit
    same(view_of(a, groups), view_of(b, groups), but=("missing-at-random",))
    found = [observed(view_of(f, groups))["missing-at-random"].statistic for f in (a, b)]
    assert found[0] != pytest.approx(found[1], rel=1e-3)


def test_the_names_of_groups_do_not_matter(missing):
    renamed = np.array(["c", "a", "b"])[missing.groups]
    same(missing.view, view_of(missing.fit, renamed))


# How large -----------------------------------------------------------------------------------------------------------

TRUTH = Params(tau1=0.6, beta=[0.3, 0.2, 0.0, -0.1], eta=30.0, sigma2=2.0)
SIZES: list[tuple[str, str, float, float]] = [
    ("independent-errors", "correlated-errors", 0.3, 0.05),
    ("equal-variances", "unequal-variances", 0.5, 0.15),
    ("linearity", "curvature", 0.3, 0.1),
    ("sample-size", "sample-size", 0.8, 0.4),
    ("missing-at-random", "missing-by-value", 1.0, 0.3),
    ("unrelated-groups", "related-tissues", 0.8, 0.25),
]


@pytest.mark.parametrize(("name", "violation", "strength", "error"), SIZES)
def test_effects_measure_the_violation(name, violation, strength, error):
    """Each effect is in the units of the violation's strength, at the true parameters: one large data set."""
    gene = ebmodel.simulate.violated(violation, strength, TRUTH, n=300, m=40, missing=np.linspace(0.0, 0.6, 40), seed=3)
    view = view_of(ebmodel.oracle(gene.X, gene.Y, TRUTH), np.arange(40) // 5)
    assert observed(view)[name].effect == pytest.approx(strength, abs=error)
    assert observed(view)[name].statistic > 2.5
