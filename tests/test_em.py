"""EM: one step against the published formulas, Q maximised, never downhill, and the end a maximum of the dense twin."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

import ebmodel
from ebmodel import Params, dense, em
from ebmodel.mean import slab_mean
from ebmodel.variance import slab_and_error_variance

ROUNDING = 1e-12
"""A step may lower log p(Y) by this share of it: a sum of a few hundred terms in double precision."""

Q_CASES = [
    ("missing", "g"),
    ("missing", "independent"),
    ("fewer-samples-than-snps", -1.0),
    ("tissue-unobserved", 2.0),
    ("wide-missing", "matrix"),
    ("collinear-missing", "g"),
    ("covariates-intercept-missing", 0.5),
]


def plausible(case, rng):
    """theta in whitened coordinates, near the data."""
    size = np.nanvar(case.Y)
    gamma = rng.standard_normal(len(case.state.gamma)) * np.sqrt(size)
    return em.State(rng.uniform(0.2, 0.8), gamma, size * rng.uniform(0.1, 3.0), size * rng.uniform(0.3, 1.0))


def expected_loglik(case, T, theta):
    """Q without its part in tau1: sum_t T log g1 + (1-T) log g0."""
    log_g1, log_g0 = (log_g(case.X, case.Y, theta, case.C) for log_g in (dense.log_slab, dense.log_null))
    return T @ log_g1 + (1 - T) @ log_g0


def assert_never_downhill(values):
    assert np.isfinite(values).all()
    assert np.diff(values).min() >= -ROUNDING * np.abs(values).max()


# One step ------------------------------------------------------------------------------------------------------------


def published_step(case, state):
    """The M-step of Section 2: the paper's where its eta is positive, else its maximum under eta >= 0."""
    X, Y, theta = case.X, case.Y, case.to_params(state)
    try:
        return dense.em_step(X, Y, theta), False
    except ValueError as error:
        if "in eta" not in str(error):
            raise
    T = dense.posterior_probability(X, Y, theta)
    beta = np.linalg.inv(X.T @ X) @ X.T @ Y @ T / T.sum()
    residual = Y - (X @ beta)[:, None]
    sigma2 = np.sum((1 - T) * np.sum(Y**2, axis=0) + T * np.sum(residual**2, axis=0)) / Y.size
    return Params(tau1=T.mean(), beta=beta, eta=0.0, sigma2=sigma2), True


def test_complete_data_take_the_published_step(make_case, pin):
    """`maximisation` pools tissues by conjugate gradients and finds eta by a root: for d = 1 both are closed forms."""
    at_boundary = []
    for seed in range(30):
        case = make_case("complete", "g", seed)
        state = plausible(case, np.random.default_rng(seed))
        if seed % 2:  # one tissue alone on the slab
            state = em.State(1 / 6, case.stats.b[seed % 6], 0.01 * state.sigma2, state.sigma2)
        want, bounded = published_step(case, state)
        T, _ = em.expectation(case.stats, state)
        got = em.maximisation(case.stats, T, state)
        pin(got.tau1, want.tau1)
        pin(case.whitening.unwhiten(got.gamma), want.beta)
        pin(got.sigma2, want.sigma2)
        pin(got.eta, want.eta, scale=want.sigma2 if bounded else want.eta)
        at_boundary.append(bounded)
    assert 5 <= sum(at_boundary) <= 25  # both kinds of step are tried


@pytest.mark.parametrize(("shape", "slab"), Q_CASES)
def test_variances_maximise_q(make_case, shape, slab):
    for seed in range(3):
        case, rng = make_case(shape, slab, seed), np.random.default_rng(seed)
        T, gamma = rng.random(len(case.Y.T)), plausible(case, rng).gamma
        beta = case.whitening.unwhiten(gamma)

        def minus_q(logs, case=case, T=T, beta=beta):
            eta, sigma2 = np.exp(logs)
            return -expected_loglik(case, T, Params(tau1=0.5, beta=beta, eta=eta, sigma2=sigma2, slab=case.params.slab))

        size = np.nanvar(case.Y)
        found = [
            minimize(
                minus_q, np.log([size * share, size]), method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-9}
            )
            for share in (0.01, 1.0)
        ]
        best = min(found, key=lambda f: f.fun)
        for phi in (0.0, 0.1, 10.0):  # wherever the search starts
            eta, sigma2 = slab_and_error_variance(case.stats, T, gamma, phi)
            got = expected_loglik(case, T, Params(tau1=0.5, beta=beta, eta=eta, sigma2=sigma2, slab=case.params.slab))
            assert got >= -best.fun - 1e-9 * abs(got)
            # Q is flat at its maximum: an error e in a logarithm costs about the degrees of freedom times e^2/2
            np.testing.assert_allclose([eta, sigma2], np.exp(best.x), rtol=1e-4, atol=1e-6 * size)


@pytest.mark.parametrize("shape", ["complete", "missing", "wide-missing", "covariates-missing"])
def test_variances_at_the_boundary(make_case, shape):
    """Tissues that differ by less than their noise: Q falls from eta = 0 on."""
    case = make_case(shape, "independent")
    X, Y, C = case.X, np.where(np.isnan(case.Y), np.nan, np.zeros_like(case.Y)), case.C
    rng = np.random.default_rng(5)
    beta = rng.standard_normal(len(X.T))
    X_hat = X if C is None else X - C @ np.linalg.pinv(C) @ X
    noise = rng.standard_normal(Y.shape)
    noise -= 0.9 * X_hat @ np.linalg.pinv(X_hat) @ noise  # least squares is nearer to beta than chance has it
    case = type(case)(X, Y + (X @ beta)[:, None] + noise, C, case.params)
    T = np.ones(len(Y.T))
    eta, sigma2 = slab_and_error_variance(case.stats, T, case.whitening.whiten(beta), 1.0)
    assert eta == 0.0
    residual = [y - X_t @ beta for X_t, y in dense.tissues(X, case.Y, C)]
    np.testing.assert_allclose(sigma2, sum(r @ r for r in residual) / sum(map(len, residual)), rtol=1e-12)
    at_zero, above = (
        expected_loglik(case, T, Params(tau1=0.5, beta=beta, eta=eta, sigma2=sigma2, slab="independent"))
        for eta in (0.0, 1e-3)
    )
    assert above < at_zero


@pytest.mark.parametrize(("shape", "slab"), Q_CASES)
def test_slab_mean_climbs_to_generalised_least_squares(make_case, pin, shape, slab):
    for seed in range(3):
        case, rng = make_case(shape, slab, seed), np.random.default_rng(seed)
        T, state = rng.random(len(case.Y.T)), plausible(case, rng)
        start = case.to_params(state)
        Sigma0 = dense.slab_shape(case.X, start, case.C)
        normal, pull = 0.0, 0.0
        for weight, (X_t, y) in zip(T, dense.tissues(case.X, case.Y, case.C), strict=True):
            Omega = state.sigma2 * np.eye(len(y)) + state.eta * X_t @ Sigma0 @ X_t.T
            normal = normal + weight * X_t.T @ np.linalg.solve(Omega, X_t)
            pull = pull + weight * X_t.T @ np.linalg.solve(Omega, y - X_t @ start.beta)
        values = [expected_loglik(case, T, start)]
        for _ in range(30):
            state = state._replace(gamma=slab_mean(case.stats, T, state.gamma, state.eta, state.sigma2))
            values.append(expected_loglik(case, T, case.to_params(state)))
        assert_never_downhill(values)
        beta = case.whitening.unwhiten(state.gamma)
        pin(normal @ (beta - start.beta), pull)
        if np.linalg.matrix_rank(normal) == len(normal):
            pin(beta, start.beta + np.linalg.solve(normal, pull))


def test_nothing_on_the_slab(make_case):
    case = make_case("missing", "g")
    got = em.maximisation(case.stats, np.zeros(6), case.state)
    assert got.tau1 == 0.0
    assert got.eta == 0.0
    np.testing.assert_allclose(got.sigma2, np.nanmean(case.Y**2), rtol=1e-12)
    assert np.isfinite(em.expectation(case.stats, got)[1])


# Never downhill ------------------------------------------------------------------------------------------------------


def starts(case, rng):
    """Plausible parameters, parameters unrelated to the data, and M-steps from sets of active tissues."""
    m = len(case.Y.T)
    sets = [np.ones(m), np.eye(m)[rng.integers(m)], rng.integers(0, 2, m).astype(float), rng.random(m)]
    return [plausible(case, rng), case.state, *(em.from_responsibilities(case.stats, T) for T in sets)]


def test_plain_steps_never_go_downhill(case):
    for state in starts(case, np.random.default_rng(1)):
        T, value = em.expectation(case.stats, state)
        values = [value]
        for _ in range(25):
            state = em.maximisation(case.stats, T, state)
            T, value = em.expectation(case.stats, state)
            values.append(value)
            assert state.eta >= 0.0
            assert state.sigma2 > 0.0
        assert_never_downhill(values)


def test_accelerated_runs_never_go_downhill(case):
    for state in starts(case, np.random.default_rng(2)):
        end, trace, converged = em.run(case.stats, state, 1e-9, 3000)
        assert_never_downhill(trace)
        assert converged
        assert end.eta >= 0.0
        np.testing.assert_allclose(trace[[0, -1]], [em.expectation(case.stats, s)[1] for s in (state, end)], rtol=1e-12)


@pytest.mark.parametrize("slab", ["g", "independent", -1.0])
def test_many_data_sets_never_go_downhill(make_case, shapes, slab):
    for shape in shapes:
        for seed in range(1, 6):
            case = make_case(shape, slab, seed, signal=[0.0, 0.3, 1.0, 3.0, 30.0][seed - 1])
            for state in starts(case, np.random.default_rng(seed)):
                assert_never_downhill(em.run(case.stats, state, 1e-9, 3000)[1])


def test_acceleration_pays(make_case):
    case = make_case("wide-missing", "independent")
    _, trace, _ = em.run(case.stats, case.state, 1e-9, 5000)
    state, T, value, last, plain = case.state, *em.expectation(case.stats, case.state), -np.inf, 0
    while value - last > 1e-9:
        state, last = em.maximisation(case.stats, T, state), value
        T, value = em.expectation(case.stats, state)
        plain += 1
    assert len(trace) < plain


def test_max_iter_stops_a_run(make_case):
    case = make_case("wide-missing", "independent")
    _, trace, converged = em.run(case.stats, case.state, 1e-9, 10)
    assert not converged
    assert len(trace) <= 12


# The end -------------------------------------------------------------------------------------------------------------

FITS = [
    ("complete", "g"),
    ("complete", -1.0),
    ("missing", "g"),
    ("missing", 0.5),
    ("fewer-samples-than-snps", "g"),
    ("sample-unobserved", "matrix"),
    ("collinear", "g"),
    ("covariates-missing", "independent"),
    ("covariates-intercept-missing", "g"),
    ("wide-missing", "independent"),
]


def scores(case, theta):
    """Derivatives of the dense log p(Y) in tau1, eta, sigma2 and beta by central differences, times each one's scale.

    A scale is what moves log p(Y) by about one half, so a score is in units of standard errors; at eta = 0 the
    derivative is one-sided.
    """
    Sigma0 = dense.slab_shape(case.X, theta, case.C)
    n, m = np.sum(~np.isnan(case.Y)), len(case.Y.T)
    beta_scale = np.sqrt((theta.sigma2 / len(case.X)) / np.maximum(np.var(case.X, axis=0), 1e-3))
    eta_scale = max(theta.eta, theta.sigma2 / np.linalg.norm(case.X @ Sigma0 @ case.X.T, 2)) / np.sqrt(m)
    centre = np.array([theta.tau1, theta.eta, theta.sigma2, *np.asarray(theta.beta)])
    scale = np.array([0.5 / np.sqrt(m), eta_scale, theta.sigma2 / np.sqrt(n), *beta_scale])

    def loglik(x):
        moved = Params(tau1=x[0], eta=x[1], sigma2=x[2], beta=x[3:], slab=theta.slab)
        return dense.loglik(case.X, case.Y, moved, case.C)

    slope = np.empty(len(centre))
    for j, h in enumerate(1e-4 * scale):
        step = h * np.eye(len(centre))[j]
        if (j == 1 and theta.eta == 0.0) or (j == 0 and theta.tau1 == 0.0):
            slope[j] = (loglik(centre + step) - loglik(centre)) / h
        elif j == 0 and theta.tau1 == 1.0:
            slope[j] = (loglik(centre) - loglik(centre - step)) / h
        else:
            slope[j] = (loglik(centre + step) - loglik(centre - step)) / (2 * h)
    return slope * scale


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("shape", "slab"), FITS)
def test_the_fit_is_a_stationary_point_of_the_dense_likelihood(make_case, shape, slab, seed):
    case = make_case(shape, slab, seed)
    fit = ebmodel.fit(case.X, case.Y, slab=case.params.slab, covariates=case.C, tol=1e-12)
    theta = fit.params
    np.testing.assert_allclose(fit.loglik, dense.loglik(case.X, case.Y, theta, case.C), rtol=1e-10)
    score = scores(case, theta)
    # A gap g in log p(Y) leaves a score of sqrt(2 g) standard errors: 1e-5 for the 1e-11 or so that tol = 1e-12 leaves;
    # the differences add (1e-4)^2 of a third derivative and 1e-13 / 1e-4 of rounding.
    tolerance = 1e-4
    assert np.abs(score[2:]).max() < tolerance
    if theta.eta > 0.0:
        assert abs(score[1]) < tolerance
    else:
        assert score[1] <= tolerance
    if theta.tau1 == 1.0:
        assert score[0] >= -tolerance
    elif theta.tau1 == 0.0:
        assert score[0] <= tolerance
    else:
        assert abs(score[0]) < tolerance


def test_interior_and_boundary_fits_are_both_tried(make_case):
    etas = [ebmodel.fit(c.X, c.Y, slab=c.params.slab, covariates=c.C).params.eta for c in (make_case(*f) for f in FITS)]
    assert min(etas) == 0.0
    assert sum(eta > 0 for eta in etas) >= 3


@pytest.mark.parametrize(
    ("shape", "slab"), [("complete", "g"), ("sample-unobserved", "independent"), ("collinear", "g"), ("wide", "matrix")]
)
def test_the_dense_em_ends_where_the_fast_one_does(make_case, pin, shape, slab):
    case = make_case(shape, slab)
    near, _, _ = em.run(case.stats, case.state, 1e-12, 5000)
    assert near.eta > 0.0  # where it is 0 the dense EM, with beta(t) latent, takes for ever
    start = near._replace(eta=1.3 * near.eta, sigma2=0.9 * near.sigma2, gamma=1.05 * near.gamma)
    fast, trace, _ = em.run(case.stats, start, 1e-12, 5000)
    slow = dense.em(case.X, case.Y, case.to_params(start), case.C, tol=1e-7, max_iter=4000)
    values = [dense.loglik(case.X, case.Y, slow, case.C)]
    for _ in range(2):
        slow = dense.em_step_missing(case.X, case.Y, slow, case.C)
        values.append(dense.loglik(case.X, case.Y, slow, case.C))
    gains = np.diff(values)
    assert 0 < gains[1] <= gains[0] < 1e-7
    rate = gains[1] / gains[0]  # EM converges linearly: what is left is a geometric series
    gap = trace[-1] - values[-1]
    assert -1e-9 < gap < 2 * gains[1] * rate / (1 - rate) + 1e-9
    # a gap g is sqrt(2 g) standard errors
    standard_errors = np.sqrt(2 * max(gap, 1e-9))
    want = case.to_params(fast)
    pin(slow.beta, want.beta, standard_errors)
    pin(slow.tau1, want.tau1, standard_errors)
    np.testing.assert_allclose(slow.sigma2, want.sigma2, rtol=standard_errors)
    np.testing.assert_allclose(slow.eta, want.eta, rtol=3 * standard_errors)  # few tissues: a wide standard error


# The trap ------------------------------------------------------------------------------------------------------------


def trap(seed, n=20, p=3, m=6):
    """One tissue with an effect among noise: alone on the slab it is fitted exactly by beta."""
    rng = np.random.default_rng(seed)
    X, Y = rng.standard_normal((n, p)), rng.standard_normal((n, m))
    Y[:, 0] += X @ np.array([3.0, -2.0, 4.0])[:p]
    return X, Y


def test_without_eta_positive_the_likelihood_is_unbounded():
    X, Y = trap(0)
    n, p = X.shape
    H = X @ np.linalg.inv(X.T @ X) @ X.T
    fitted = H @ Y[:, 0]
    values = [dense.log_density(Y[:, 0], fitted, np.eye(n) - (1 - gap) * H) for gap in (1e-1, 1e-3, 1e-6, 1e-9)]
    np.testing.assert_allclose(np.diff(values), -0.5 * p * np.diff(np.log([1e-1, 1e-3, 1e-6, 1e-9])), rtol=1e-6)


def test_the_published_update_falls_into_the_trap_and_the_fit_does_not():
    for seed in range(5):
        X, Y = trap(seed)
        beta = np.linalg.lstsq(X, Y[:, 0])[0]
        with pytest.raises(ValueError, match="eta"):
            dense.em_step(X, Y, Params(tau1=1 / 6, beta=beta, eta=0.1, sigma2=1.0))
        fit = ebmodel.fit(X, Y)
        theta = fit.params
        assert theta.eta == 0.0
        assert 0.3 < theta.sigma2 < 3.0
        np.testing.assert_allclose(fit.posterior_probability, [1, 0, 0, 0, 0, 0], atol=0.01)
        np.testing.assert_allclose(theta.tau1, 1 / 6, atol=0.01)
        np.testing.assert_allclose(theta.beta, beta, rtol=0.01)


@pytest.mark.parametrize("shape", ["complete", "missing", "fewer-samples-than-snps", "collinear-missing"])
@pytest.mark.parametrize("slab", ["g", "independent", -1.0])
def test_fits_are_finite(make_case, shape, slab):
    for seed in range(4):
        case = make_case(shape, slab, seed, signal=30.0)
        fit = ebmodel.fit(case.X, case.Y, slab=slab)
        theta = fit.params
        assert np.isfinite([fit.loglik, theta.tau1, theta.eta, theta.sigma2, *theta.beta.values]).all()
        assert theta.eta >= 0.0
        assert theta.sigma2 > 0.05  # the noise has variance 2.25


def test_likelihoods_without_a_maximum_are_refused(make_case):
    X, Y = trap(0)
    with pytest.raises(ebmodel.InputError, match="tissue"):  # beta fits one tissue exactly whatever eta is
        ebmodel.fit(X, Y[:, :1])
    with pytest.raises(ebmodel.InputError, match="exact fit"):  # sigma2 -> 0
        ebmodel.fit(X, X @ np.ones((3, 4)))
    wide = make_case("wide", "g")
    with pytest.raises(ebmodel.InputError, match="more samples than SNPs"):  # only sigma2 + eta is in the likelihood
        ebmodel.fit(wide.X, wide.Y)
