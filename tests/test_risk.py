"""Bayes risks against formulas of another kind and against simulation; the bounds of Theorems 1 and 3, step by step."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import chdtrc, expit
from scipy.stats import ncx2, norm

import ebmodel
from ebmodel import InputError, Params, dense
from ebmodel.risk import WORDS, Bound, bayes_risk, lower_bound
from ebmodel.risk.bounds import FORMS
from ebmodel.risk.exact import EXACT, coordinates

ALL = ("zero", "ols", "slab", "linear", "oracle", "informed")
MANY = 4000
"""Tissues of one simulated data set that stand for the average over tissues."""


class Problem(NamedTuple):
    """A design, a theta, a loss, and which responses of one tissue are observed."""

    X: Any
    params: Params
    loss: Any
    observed: Any

    def risks(self) -> dict[str, float]:
        found = bayes_risk(self.params, self.X, ALL, loss=self.loss, observed=self.observed)
        assert not found.risk_se.any()
        return dict(zip(ALL, found.risk.values.tolist(), strict=True))

    @property
    def complete(self) -> Problem:
        return self._replace(observed=np.ones_like(self.observed))


def problem(seed: int, slab: Any = "g", p: int | None = None) -> Problem:
    """From nearly orthogonal to collinear SNPs, from 0 to n - p missing responses, from weak to strong effects."""
    rng = np.random.default_rng([7, seed])
    p = int(rng.integers(1, 7)) if p is None else p
    n = p + int(rng.integers(1, 35))
    X = rng.standard_normal((n, p)) @ (np.eye(p) + rng.choice([0.0, 0.5, 2.0]) * np.triu(rng.normal(size=(p, p)), 1))
    seen = n if rng.random() < 0.25 else int(rng.integers(p, n + 1))
    observed = (rng.permutation(n) < seen)[:, None]
    root = rng.standard_normal((p, p)) * np.exp(rng.standard_normal(p))
    sigma2 = float(np.exp(rng.standard_normal()))
    eta = sigma2 * 10 ** rng.uniform(-1.5, 2.5)
    tau1 = float(rng.choice([rng.uniform(0.02, 0.98), 0.999, 0.001]))
    size = rng.choice([0.0, 10 ** rng.uniform(-1, 1)]) * np.sqrt(sigma2 / n)
    beta = size * rng.standard_normal(p)
    return Problem(X, Params(tau1=tau1, beta=beta, eta=float(eta), sigma2=sigma2, slab=slab), root @ root.T, observed)


def simulated(case: Problem, seed: int, m: int = MANY) -> tuple[Any, Any]:
    """Y, with NaN, and the true effects."""
    data = ebmodel.simulate.model_true(case.params, X=case.X, m=m, seed=seed, posterior=False)
    return np.where(case.observed, data.Y.to_numpy(), np.nan), data.effects.to_numpy()


def squared(effects: Any, loss: Any) -> Any:
    """|v|^2_Delta in every tissue."""
    return np.einsum("ti,ij,tj->t", effects, loss, effects)


def agrees(values: Any, want: float, z: float = 4.0) -> None:
    """The mean of independent values is within z standard errors of ``want``."""
    error = np.std(values, ddof=1) / np.sqrt(len(values))
    assert abs(np.mean(values) - want) <= z * error + 1e-12 * abs(want)


# Exact risks ---------------------------------------------------------------------------------------------------------


def price_by_noncentral_chi(case: Problem) -> float:
    """E{h (1-h) s'Delta s} for complete data by an independent route.

    log odds depend on z only through |z - u0|, u0 = -gamma sigma2/eta, to which s is proportional; and
    E f(|v|^2) v v' = E f(chi2_{p+2}) I + E f(chi2_{p+4}) mu mu' for v ~ N(mu, I), as behind Stein's estimator.
    """
    tau1, eta, sigma2 = case.params.tau1, case.params.eta, case.params.sigma2
    R = np.linalg.qr(case.X)[1]
    gamma, p = R @ case.params.beta, len(R)
    loss = np.linalg.solve(R.T, np.linalg.solve(R.T, case.loss.T).T)
    size, nu = np.linalg.norm(gamma), sigma2 + eta
    center = size * np.sqrt(nu) / eta  # |mu| for v = (z - u0) / sqrt(nu)

    def one_minus_h(df: int) -> float:
        def integrand(r: float) -> float:
            x = r - center
            log_odds = np.log(tau1 / (1 - tau1)) - p / 2 * np.log(nu / sigma2) + size**2 / (2 * sigma2)
            log_odds += size * np.sqrt(nu) / sigma2 * x + eta / (2 * sigma2) * x**2
            return float(expit(-log_odds) * ncx2.pdf(r**2, df, center**2) * 2 * r)

        middle = np.sqrt(df + center**2)
        return quad(integrand, max(0.0, middle - 10), middle + 10, limit=500, epsabs=1e-14, epsrel=1e-11)[0]

    return tau1 * (eta**2 / nu * np.trace(loss) * one_minus_h(p + 2) + gamma @ loss @ gamma * one_minus_h(p + 4))


@pytest.mark.parametrize("seed", range(12))
def test_oracle_agrees_with_noncentral_chi_quadrature(seed: int) -> None:
    case = problem(seed).complete
    case = case._replace(params=replace(case.params, beta=case.params.beta + 0.1))
    risks = case.risks()
    want = price_by_noncentral_chi(case)
    assert risks["oracle"] - risks["informed"] == pytest.approx(want, rel=1e-9, abs=1e-13 * risks["zero"])


@pytest.mark.parametrize(
    ("tau1", "eta", "share"), [(0.5, 1.0, 1.0), (0.9, 9.0, 0.6), (0.01, 100.0, 0.5), (0.7, 0.0, 0.8)]
)
def test_one_snp_against_integration_over_the_data(tau1: float, eta: float, share: float) -> None:
    """E{h (1-h) s^2} = int tau1 g1 tau0 g0 / (tau1 g1 + tau0 g0) s^2, d < 1 where responses are missing."""
    x = np.random.default_rng(3).standard_normal((20, 1))
    observed = np.arange(20)[:, None] < 20 * share
    params = Params(tau1=tau1, beta=[0.3], eta=eta, sigma2=2.0)
    G, G_t = np.sum(x**2), np.sum(x[observed] ** 2)

    def integrand(b: float) -> float:  # b = least squares
        g1 = tau1 * norm.pdf(b, 0.3, np.sqrt(2 / G_t + eta / G))
        g0 = (1 - tau1) * norm.pdf(b, 0.0, np.sqrt(2 / G_t))
        w = (G / eta) / (G / eta + G_t / 2) if eta else 1.0
        return g1 * g0 / (g1 + g0) * (w * 0.3 + (1 - w) * b) ** 2

    price = quad(integrand, -6, 6, limit=500, points=[-0.3, 0.0, 0.3], epsabs=1e-14)[0]
    want = tau1 * (1 / (G / eta + G_t / 2) if eta else 0.0) + price
    got = bayes_risk(params, x, "oracle", observed=observed)
    assert got.risk.item() == pytest.approx(want, rel=1e-9)


@pytest.mark.parametrize(("seed", "slab"), [(1, "g"), (2, "g"), (3, "g"), (4, 0.0), (5, -1.0)])
def test_exact_risks_against_simulation(seed: int, slab: Any) -> None:
    """Each estimator by the paper's formulas in the effects' own coordinates; the oracle's mean posterior risk too."""
    case = problem(seed, slab, p=3)
    if slab != "g":
        case = case._replace(params=replace(case.params, eta=0.1, tau1=0.4))
    case = case._replace(observed=np.arange(len(case.X))[:, None] != 0)
    (X, params, loss, observed), risks = case, case.risks()
    Y, truth = simulated(case, seed)
    rows = observed[:, 0]
    X_t, y, prior = X[rows], Y[rows], params.eta * dense.slab_shape(X, params)
    gain = prior @ X_t.T @ np.linalg.inv(X_t @ prior @ X_t.T + params.sigma2 * np.eye(len(X_t)))
    slab_mean = params.beta + (y.T - X_t @ params.beta) @ gain.T
    second = params.tau1 * (prior + params.tau0 * np.outer(params.beta, params.beta))  # cov beta(t)
    blup = second @ X_t.T @ np.linalg.inv(X_t @ second @ X_t.T + params.sigma2 * np.eye(len(X_t)))
    mean = params.tau1 * params.beta
    oracle = ebmodel.oracle(X, Y, params)
    active = (truth != 0).any(axis=1)[:, None]
    estimates = {
        "zero": np.zeros_like(truth),
        "ols": np.linalg.lstsq(X_t, y)[0].T,
        "slab": slab_mean,
        "linear": mean + (y.T - X_t @ mean) @ blup.T,
        "oracle": oracle.effects.to_numpy(),
        "informed": np.where(active, slab_mean, 0.0),
    }
    for name, estimate in estimates.items():
        agrees(squared(estimate - truth, loss), risks[name])
    # given the data: h tr Delta C + h (1-h) s'Delta s
    h, C = oracle.posterior_probability.to_numpy(), prior - gain @ X_t @ prior
    agrees(h * np.trace(loss @ C) + h * (1 - h) * squared(slab_mean, loss), risks["oracle"])


@pytest.mark.parametrize("seed", range(40))
def test_order_of_risks(seed: int) -> None:
    r = problem(seed).risks()
    slack = 1 + 1e-10
    assert r["informed"] <= r["oracle"] * slack
    assert r["oracle"] <= min(r["linear"], r["slab"]) * slack
    assert r["linear"] <= min(r["ols"], r["zero"]) * slack


@pytest.mark.parametrize("seed", range(6))
def test_invariance(seed: int) -> None:
    """X -> XA with beta -> A^-1 beta and Delta -> A'Delta A changes nothing; Y -> cY multiplies risks by c^2."""
    case, rng = problem(seed), np.random.default_rng(seed)
    p, c = case.X.shape[1], 3.0
    A = np.eye(p) + 0.3 * rng.standard_normal((p, p))
    risks = case.risks()
    moved = replace(case.params, beta=np.linalg.solve(A, case.params.beta))
    same = Problem(case.X @ A, moved, A.T @ case.loss @ A, case.observed).risks()
    theta = case.params
    scaled = replace(theta, beta=c * theta.beta, eta=c**2 * theta.eta, sigma2=c**2 * theta.sigma2)
    larger = case._replace(params=scaled).risks()
    for name, risk in risks.items():
        assert same[name] == pytest.approx(risk, rel=1e-7)
        assert larger[name] == pytest.approx(c**2 * risk, rel=1e-9)
    for form in FORMS:  # these know the scale of Y but depend on the coordinates
        bound = lower_bound(theta, case.X, form, theorem=3, loss=case.loss)
        assert lower_bound(scaled, case.X, form, theorem=3, loss=case.loss).value == pytest.approx(c**2 * bound.value)


def test_limits() -> None:
    case = problem(3).complete
    X, theta = case.X, case.params
    at = dict.fromkeys(ALL)
    for tau1 in (0.0, 1.0):
        params = replace(theta, tau1=tau1)
        at = Problem(X, params, case.loss, case.observed).risks()
        assert at["oracle"] == at["informed"]  # I(t) is known
        assert at["linear"] == pytest.approx(at["oracle"], rel=1e-9, abs=1e-15)
    w = theta.sigma2 / (theta.sigma2 + theta.eta)
    assert at["oracle"] == pytest.approx((1 - w) * at["ols"])  # always active: least squares, shrunk


# Missing responses, and estimators without a formula ------------------------------------------------------------------


def test_risk_of_a_mask_is_the_mean_over_its_tissues() -> None:
    case, rng = problem(11, p=3), np.random.default_rng(0)  # n = 36
    masks = rng.permuted(np.arange(len(case.X))[:, None] < np.array([9, 11, 11, 20, 36]), axis=0)
    single = [case._replace(observed=mask[:, None]).risks() for mask in masks.T]
    whole = case._replace(observed=masks).risks()
    for name in ALL:
        assert whole[name] == pytest.approx(np.mean([one[name] for one in single]))


def test_least_squares_has_no_finite_risk_with_fewer_samples_than_snps() -> None:
    case = problem(11, p=4)
    observed = np.arange(len(case.X))[:, None] < np.array([3, 30])
    r = case._replace(observed=observed).risks()
    assert r["ols"] == np.inf
    assert r["oracle"] < r["linear"] < r["zero"] < np.inf
    nothing = case._replace(observed=np.arange(len(case.X))[:, None] < np.array([0, 30])).risks()
    assert np.isfinite([nothing["oracle"], nothing["linear"]]).all()
    found = bayes_risk(case.params, case.X, ["ols", "oracle"], missing=1 - 3 / len(case.X), draws=3, m=2)
    assert np.isinf(found.risk[0])
    assert np.isnan(found.risk_se[0])


def test_a_share_missing_at_random_averages_over_patterns() -> None:
    case = problem(4, p=2)
    how: dict[str, Any] = {"missing": 0.3, "draws": 60, "m": 10}
    found = bayes_risk(case.params, case.X, ALL, seed=1, **how)
    again = bayes_risk(case.params, case.X, ALL, seed=1, **how)
    other = bayes_risk(case.params, case.X, ALL, seed=2, **how)
    assert found.identical(again)
    error = np.hypot(found.risk_se, other.risk_se)
    assert (abs(found.risk - other.risk) <= 4 * error + 1e-12)[1:].all()
    assert (found.risk_se > 0).values.tolist() == [False, True, True, True, True, True]  # zero sees no data
    assert (found.regret_se[1] < found.risk_se[1]).all()  # the same patterns for all


def half(X: Any, Y: Any) -> Any:
    """Half of least squares."""
    return 0.5 * np.linalg.lstsq(X, Y)[0].T


def least_squares(X: Any, Y: Any) -> Any:
    return np.array([np.linalg.lstsq(X[seen], y[seen])[0] for y in Y.T if (seen := ~np.isnan(y)).any()])


def test_orthogonality_simulated_distance_is_the_difference_of_exact_risks() -> None:
    case = problem(4, p=3)
    theta = replace(case.params, eta=3.0, tau1=0.4)
    X = np.random.default_rng(1).standard_normal((25, 3))
    for how in ({}, {"observed": np.arange(25)[:, None] < np.full(40, 18)}, {"missing": 0.2}):
        found = bayes_risk(theta, X, ["ols", least_squares], loss=case.loss, m=40, draws=40, seed=3, **how)
        exact, drawn = found.regret.values
        tolerance = 4 * np.hypot(*found.regret_se.values)
        assert 0 < tolerance < 0.15 * exact
        assert abs(drawn - exact) < tolerance
        assert found.risk.values[0] - found.risk.values[1] == pytest.approx(exact - drawn)


def test_risk_of_a_linear_estimator_in_closed_form() -> None:
    """Half of least squares: sigma2/4 tr Delta G^-1 + E|beta(t)|^2_Delta / 4."""
    theta, X = Params(tau1=0.3, beta=[0.5, -0.2], eta=2.0, sigma2=1.0), problem(2, p=2).X
    found = bayes_risk(theta, X, ["ols", "zero", half], m=400, draws=20, seed=5)
    (ols, zero, simulated_half), error = found.risk.values, found.risk_se.values[2]
    assert abs(simulated_half - (ols + zero) / 4) < 4 * error < 0.1 * simulated_half


def test_empirical_bayes_lies_between_oracle_and_least_squares() -> None:
    theta, X = Params(tau1=0.5, beta=[0.5, 0.3, 0.0], eta=2.0, sigma2=1.0), problem(2, p=3).X
    few, many = (bayes_risk(theta, X, ["eb", "ols"], m=m, draws=12, seed=1) for m in (10, 80))
    for found in (few, many):
        assert found.regret.values[0] > 3 * found.regret_se.values[0] > 0
    assert many.regret.values[0] < 0.5 * few.regret.values[0]
    assert many.regret.values[0] < many.regret.values[1]
    assert list(many.candidate.values) == ["eb", "ols"]


# Theorems 1 and 3 ----------------------------------------------------------------------------------------------------


def gain(case: Problem) -> float:
    """R(OLS) - R(oracle), exact."""
    r = case.risks()
    return r["ols"] - r["oracle"]


@pytest.mark.parametrize("block", range(8))
def test_every_step_of_the_argument_holds_in_every_data_set(block: int) -> None:
    """25 problems x 40 tissues a block: the inequalities of the derivation have no Monte-Carlo error."""
    for seed in range(25 * block, 25 * block + 25):
        case = problem(seed)
        X, theta, rows = case.X, case.params, case.observed[:, 0]
        tau1, beta, eta, sigma2 = theta.tau1, theta.beta, theta.eta, theta.sigma2
        Y, truth = simulated(case, seed, m=40)
        P, root, Ut = np.linalg.svd(X, full_matrices=False)  # G^(1/2) = U diag(root) U', X G^(-1/2) = P U'
        half_G = Ut.T * root @ Ut
        _, stretch, Vt = np.linalg.svd((P @ Ut)[rows])
        d, V = stretch**2, Vt.T
        lam, w = root[0], sigma2 / (sigma2 + eta)
        ols = np.linalg.lstsq(X[rows], Y[rows])[0].T
        oracle = ebmodel.oracle(X, Y, theta)
        h, best = oracle.posterior_probability.to_numpy()[:, None], oracle.effects.to_numpy()
        u, a, e = ols @ half_G @ V, V.T @ half_G @ beta, (ols - best) @ half_G @ V
        tol = 1e-7 * (1 + np.abs(u).max())
        assert 0 < d[-1] <= d[0] <= 1 + 1e-12
        # equation (i) of the derivation
        w_j = sigma2 / (sigma2 + eta * d)
        keep = 1 - h + h * w_j
        s = h * w_j / keep
        np.testing.assert_allclose(e, keep * (u - s * a), atol=tol)
        assert ((s >= 0) & (s <= 1) & (keep >= w * (1 - 1e-12))).all()
        # equation (ii) of the derivation
        length, size = np.linalg.norm(e, axis=1), np.linalg.norm(u, axis=1)
        assert (length >= w * np.linalg.norm(u - s * a, axis=1) - tol).all()
        assert (length >= w * (size - np.linalg.norm(a)) - tol).all()
        assert (length >= w * (np.linalg.norm(u - a / 2, axis=1) - np.linalg.norm(a) / 2) - tol).all()
        active = (truth != 0).any(axis=1)[:, None]
        own = u - np.where(active, a, 0.0)  # u - E u
        away = np.where(active, own * a, -u * a) >= 0.0
        assert (np.abs(e) >= w * np.abs(own) * away - tol).all()  # "direct"
        # equation (iii) of the derivation
        least, norm_beta = np.linalg.eigvalsh(case.loss)[0], np.linalg.norm(beta)
        loss = squared(ols - best, case.loss)
        assert (loss >= least * length**2 / lam**2 * (1 - 1e-9) - tol**2).all()
        assert np.linalg.norm(a) <= lam * norm_beta * (1 + 1e-12)
        reached = np.maximum(size / lam - norm_beta, 0.0)  # the largest alpha whose event this is
        assert (loss >= w**2 * reached**2 * least * (1 - 1e-6) - tol**2).all()
        # equation (iv) of the derivation
        z = np.linalg.norm(own / np.sqrt(np.where(active, eta, 0.0) + sigma2 / d), axis=1)
        smallest = np.sqrt(np.where(active[:, 0], sigma2 + eta, sigma2))
        assert (size >= smallest * z - np.where(active[:, 0], lam * norm_beta, 0.0) - tol).all()
        assert 0 < tau1 < 1


SLOW = pytest.mark.statistical


@pytest.mark.parametrize("block", [0, *(pytest.param(i, marks=SLOW) for i in range(1, 8))])
def test_corrected_bounds_hold(block: int) -> None:
    """60 problems a block, complete and with missing responses, at the best alpha and others; nothing is simulated."""
    for seed in range(60 * block, 60 * block + 60):
        for case in (problem(seed), problem(seed).complete):
            difference = gain(case)
            direct = lower_bound(case.params, case.X, "direct", loss=case.loss)
            assert 0.0 < direct.value <= difference * (1 + 1e-9)
            for form in ("corrected", "centred"):
                best = lower_bound(case.params, case.X, form, loss=case.loss)
                assert best.value <= difference * (1 + 1e-9)
                for factor in (0.3, 0.8, 1.5, 4.0):
                    alpha = factor * best.alpha
                    other = lower_bound(case.params, case.X, form, loss=case.loss, alpha=alpha)
                    assert other.value <= min(best.value * (1 + 1e-9), difference)
            values = [lower_bound(case.params, case.X, form, loss=case.loss).value for form in FORMS[1:]]
            assert values == sorted(values)


def test_printed_bounds_are_violated() -> None:
    """Theorem 1 at n=20, p=1, tau1=0.999, sigma2=1, eta=9, beta=0, and Theorem 3 with two SNPs and 10 % missing."""
    theta = Params(tau1=0.999, beta=[0.0], eta=9.0, sigma2=1.0)
    X = np.random.default_rng(0).standard_normal((20, 1))
    difference = bayes_risk(theta, X, "ols").regret.item()
    assert lower_bound(theta, X, "printed").value > 3.0 * difference
    assert 0.25 * difference < lower_bound(theta, X).value < difference

    theta = Params(tau1=0.999, beta=[0.0, 0.0], eta=30.0, sigma2=1.0)
    X = np.random.default_rng(0).standard_normal((40, 2))
    observed = np.arange(40)[:, None] >= 4
    case = Problem(X, theta, np.eye(2), observed)
    printed = lower_bound(theta, X, "printed", theorem=3)
    assert printed.value > 2.0 * gain(case)
    assert lower_bound(theta, X, "corrected", theorem=3).value < gain(case)
    # whatever is missing, Theorem 3 says less than Theorem 1 in print
    assert printed.value < lower_bound(theta, X, "printed", theorem=1).value


def test_where_the_print_fails_with_one_snp() -> None:
    """beta = 0, tau1 = 1: difference w sigma2 / G, print 0.331 (sigma2 + eta) w / G at its best alpha."""
    X = np.ones((20, 1))
    for eta, fails in ((2.00, False), (2.03, True)):
        theta = Params(tau1=1.0, beta=[0.0], eta=eta, sigma2=1.0)
        w, printed = 1 / (1 + eta), lower_bound(theta, X, "printed").value
        difference = bayes_risk(theta, X, "ols").regret.item()
        assert difference == pytest.approx(w / 20)
        assert printed == pytest.approx(0.33143 * (1 + eta) * w / 20, rel=1e-4)
        assert (printed > difference) is fails


def test_values_of_the_bounds() -> None:
    """The formulas, written out once more."""
    case = problem(5, p=3)
    theta, (lo, *_, hi) = case.params, np.linalg.eigvalsh(case.X.T @ case.X)
    b, least, kappa = np.linalg.norm(theta.beta) + 0.0, np.linalg.eigvalsh(case.loss)[0], lo / hi
    total, lam, alpha = theta.sigma2 + theta.eta, np.sqrt(hi), 0.1 / np.sqrt(hi)
    w, s = theta.sigma2 / total, np.sqrt(theta.sigma2)

    def braces(first: float, second: float) -> float:
        def phi(x: float) -> float:
            return float(chdtrc(3, x**2))

        slab = phi(lam * (first * b + alpha) / np.sqrt(total))
        return theta.tau1 * slab + theta.tau0 * phi(lam * (second * b + alpha) / s)

    want = {
        ("printed", 1): w * braces(2, 1),
        ("printed", 3): kappa * w * braces(1 + kappa, kappa),
        ("corrected", 1): w**2 * braces(2, 1),
        ("corrected", 3): w**2 * braces(2, 1),
        ("centred", 1): w**2 * braces(0.5, 0.5),
        ("centred", 3): w**2 * braces(0.5, 0.5),
    }
    direct = w**2 * least * 3 * (theta.sigma2 + theta.tau1 * theta.eta) / (2 * hi)
    assert lower_bound(theta, case.X, "direct", loss=case.loss) == (
        pytest.approx(direct),
        pytest.approx(np.nan, nan_ok=True),
    )
    for (form, theorem), value in want.items():
        got = lower_bound(theta, case.X, form, theorem=theorem, loss=case.loss, alpha=alpha)
        assert got == Bound(pytest.approx(alpha**2 * least * value, rel=1e-9), alpha)


@pytest.mark.parametrize("seed", range(20))
def test_best_alpha_is_the_best(seed: int) -> None:
    """Against a grid a hundred times as wide, in problems whose two terms may have maxima far apart."""
    case = problem(seed)
    theta = replace(case.params, eta=case.params.sigma2 * 10.0 ** (seed % 5))
    for form in FORMS[:3]:
        best = lower_bound(theta, case.X, form, theorem=3)
        around = best.alpha * np.geomspace(1e-3, 1e3, 400)
        others = [lower_bound(theta, case.X, form, theorem=3, alpha=float(alpha)).value for alpha in around]
        assert max(others) <= best.value * (1 + 1e-9)


@pytest.mark.parametrize("seed", range(40))
def test_bounds_without_alpha(seed: int) -> None:
    case = problem(seed).complete
    r, theta = case.risks(), case.params
    difference = r["ols"] - r["oracle"]
    signal = np.sum((case.X @ theta.beta) ** 2)
    simple = r["ols"] * theta.sigma2 / (theta.sigma2 + theta.tau1 * theta.eta + theta.tau1 * theta.tau0 * signal)
    w = theta.sigma2 / (theta.sigma2 + theta.eta)
    slack = 1e-9 * r["ols"]
    assert difference + slack >= r["ols"] * w**2 * (1 + theta.tau1 * theta.eta / theta.sigma2) / 2
    assert simple <= r["ols"] - r["linear"] + slack <= difference + 2 * slack
    assert difference <= r["ols"] - r["informed"] + slack
    assert r["ols"] - r["informed"] == pytest.approx(r["ols"] * (theta.tau1 * w + theta.tau0))


# Input ---------------------------------------------------------------------------------------------------------------


def test_words_and_errors() -> None:
    theta, X = Params(tau1=0.5, beta=[0.5, 0.0], eta=2.0, sigma2=1.0), problem(2, p=2).X
    assert WORDS == (*EXACT, "eb")
    wrong = {
        "one of zero, ols": lambda: bayes_risk(theta, X, "ridge"),
        "'ols' twice": lambda: bayes_risk(theta, X, ["ols", "ols"]),
        "at least one estimator": lambda: bayes_risk(theta, X, []),
        "kappa": lambda: bayes_risk(replace(theta, kappa=1.0), X),
        "2 SNPs": lambda: bayes_risk(theta, X[:, :1]),
        "rank 2": lambda: bayes_risk(theta, X[:, [0, 0]]),
        "finite numbers": lambda: bayes_risk(theta, X * np.nan),
        "a symmetric 2 x 2 matrix": lambda: bayes_risk(theta, X, loss=[[1.0, 2.0], [0.0, 1.0]]),
        "semidefinite": lambda: bayes_risk(theta, X, loss=[[1.0, 2.0], [2.0, 1.0]]),
        "samples x tissues": lambda: bayes_risk(theta, X, observed=np.ones((3, 1))),
        "either": lambda: bayes_risk(theta, X, observed=np.ones((len(X), 1)), missing=0.1),
        "missing < 1": lambda: bayes_risk(theta, X, missing=1.0),
        "draws >= 2": lambda: bayes_risk(theta, X, draws=1),
        "finite effects": lambda: bayes_risk(theta, X, lambda X, Y: np.zeros((1, 1)), draws=2),
        "that are not": lambda: bayes_risk(theta, X, lambda X, Y: np.full((50, 2), np.nan), draws=2),
        "one of printed": lambda: lower_bound(theta, X, "better"),
        "theorem 1 or 3": lambda: lower_bound(theta, X, theorem=2),
        "the paper's slab": lambda: lower_bound(replace(theta, slab=0.5), X),
        "alpha > 0": lambda: lower_bound(theta, X, alpha=0.0),
        "expected 2 SNPs": lambda: lower_bound(theta, X[:, :1]),
        "genotypes of rank 2": lambda: lower_bound(theta, X[:, [0, 0]]),
    }
    for message, call in wrong.items():
        with pytest.raises(InputError, match=message):
            call()


def test_a_loss_of_one_snp_alone() -> None:
    theta, X = Params(tau1=0.5, beta=[0.5, 0.0], eta=2.0, sigma2=1.0), problem(2, p=2).X
    parts = [bayes_risk(theta, X, ALL, loss=np.diag(unit)).risk.values for unit in np.eye(2)]
    np.testing.assert_allclose(sum(parts), bayes_risk(theta, X, ALL).risk.values, rtol=1e-12)
    assert lower_bound(theta, X, loss=np.diag([1.0, 0.0])).value == 0.0


def test_coordinates_give_the_loss_back() -> None:
    """sum Delta~ over the axes is the loss: Delta~ = (L V)'Delta (L V) and a'Delta~ a = beta'Delta beta."""
    case = problem(8, p=4)
    at = coordinates(case.params, case.X, case.loss, case.observed)
    beta = case.params.beta
    np.testing.assert_allclose(at.a[0] @ at.delta[0] @ at.a[0], beta @ case.loss @ beta, rtol=1e-9)
