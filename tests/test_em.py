"""EM: one step against the published formulas, never downhill, and the end a maximum of the dense twin."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.linalg import block_diag
from scipy.stats import multivariate_normal

import ebmodel
from ebmodel import Params, dense, em
from ebmodel.mean import FREE, HIERARCHICAL, ORIGIN, ZERO, belief, certain

ROUNDING = 1e-12
"""A step may lower log p(Y) by this share of it: a sum of a few hundred terms in double precision."""


def plausible(case, rng):
    """theta in whitened coordinates, near the data."""
    size = np.nanvar(case.Y)
    gamma = rng.standard_normal(len(case.state.gamma)) * np.sqrt(size)
    return em.State(rng.uniform(0.2, 0.8), gamma, size * rng.uniform(0.1, 3.0), size * rng.uniform(0.3, 1.0))


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


def test_nothing_on_the_slab(make_case):
    case = make_case("missing", "g")
    got = em.maximisation(case.stats, np.zeros(6), case.state)
    assert got.tau1 == 0.0
    assert got.eta == 0.0
    np.testing.assert_allclose(got.sigma2, np.nanmean(case.Y**2), rtol=1e-12)
    assert np.isfinite(em.expectation(case.stats, got)[1])


# Never downhill ------------------------------------------------------------------------------------------------------


def starts(case, rng, kind=FREE):
    """Plausible parameters, parameters unrelated to the data, and M-steps from sets of active tissues."""
    m = len(case.Y.T)
    sets = [np.ones(m), np.eye(m)[rng.integers(m)], rng.integers(0, 2, m).astype(float), rng.random(m)]
    given = [plausible(case, rng), case.state]
    if kind == ZERO:
        given = [state._replace(gamma=0 * state.gamma, belief=ORIGIN) for state in given]
    if kind == HIERARCHICAL:
        given = [latent(case, state, rng) for state in given]
        given.append(given[0]._replace(gamma=0 * given[0].gamma, belief=certain(case.stats, 0.0)))
    return [*given, *(em.from_responsibilities(case.stats, T, kind) for T in sets)]


def latent(case, state, rng):
    """The state with a q(gamma) that is the best for responsibilities at random, and a kappa of the data's size."""
    kappa = rng.uniform(0.2, 5.0) * np.nanvar(case.Y) / np.mean(case.stats.d)
    T = rng.random(len(case.Y.T))
    gamma, about = belief(case.stats, T, state.eta, state.sigma2, kappa, False)
    return state._replace(gamma=gamma, belief=about)


KINDS = pytest.mark.parametrize("kind", [FREE, ZERO, HIERARCHICAL], ids=["free", "zero", "hierarchical"])


@KINDS
def test_plain_steps_never_go_downhill(case, kind):
    for state in starts(case, np.random.default_rng(1), kind):
        T, value = em.expectation(case.stats, state)
        values = [value]
        for _ in range(25):
            state = em.maximisation(case.stats, T, state)
            T, value = em.expectation(case.stats, state)
            values.append(value)
            assert state.eta >= 0.0
            assert state.sigma2 > 0.0
        assert_never_downhill(values)


def test_cheap_steps_of_a_latent_mean_never_go_downhill(case):
    """S and kappa left as they are on every other step, or on all."""
    for state in starts(case, np.random.default_rng(1), HIERARCHICAL):
        for every in (1, 2):
            T, value = em.expectation(case.stats, state)
            values = [value]
            for i in range(10):
                state = em.maximisation(case.stats, T, state, True, i % every == 1)
                T, value = em.expectation(case.stats, state)
                values.append(value)
            assert_never_downhill(values)


@KINDS
def test_accelerated_runs_never_go_downhill(case, kind):
    for state in starts(case, np.random.default_rng(2), kind):
        # where noise explains nearly all, tau1 and 1/eta creep up a ridge together, and gain 1e-6 in a hundred steps
        end, trace, converged = em.run(case.stats, state, 1e-9, 30_000)
        assert_never_downhill(trace)
        assert converged
        assert end.eta >= 0.0
        np.testing.assert_allclose(trace[[0, -1]], [em.expectation(case.stats, s)[1] for s in (state, end)], rtol=1e-12)


@KINDS
@pytest.mark.parametrize("slab", ["g", "independent", -1.0])
def test_many_data_sets_never_go_downhill(make_case, shapes, slab, kind):
    for shape in shapes:
        for seed in range(1, 6):
            case = make_case(shape, slab, seed, signal=[0.0, 0.3, 1.0, 3.0, 30.0][seed - 1])
            for state in starts(case, np.random.default_rng(seed), kind):
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


# A mean that is latent, or zero --------------------------------------------------------------------------------------


def in_snps(case, state):
    """Parameters and q(beta) of a state whose gamma is latent."""
    root, null = state.belief.root @ case.whitening.L.T, case.whitening.null
    S = root.T @ root + state.belief.kappa * null @ null.T
    theta = replace(case.to_params(state), kappa=state.belief.kappa)
    return theta, np.asarray(theta.beta), S


def test_the_e_step_of_a_latent_mean_is_that_of_the_dense_twin(case, pin):
    rng = np.random.default_rng(3)
    for state in (case.state, plausible(case, rng)):
        state = latent(case, state, rng)
        T, bound = em.expectation(case.stats, state)
        theta, mu, S = in_snps(case, state)
        pin(T, dense.variational_probability(case.X, case.Y, theta, mu, S, case.C), 1e-8)
        np.testing.assert_allclose(bound, dense.variational_bound(case.X, case.Y, theta, T, mu, S, case.C), rtol=1e-9)


def test_the_e_step_of_a_mean_at_zero(case, pin):
    zero = replace(case.params, beta=0 * case.params.beta)
    for about in (ORIGIN, certain(case.stats, 0.0)):
        T, value = em.expectation(case.stats, case.state._replace(gamma=0 * case.state.gamma, belief=about))
        pin(T, dense.posterior_probability(case.X, case.Y, zero, case.C))
        np.testing.assert_allclose(value, dense.loglik(case.X, case.Y, zero, case.C), rtol=1e-9)


def test_the_bound_is_the_density_of_all_responses_where_every_tissue_is_active(case):
    """At tau1 = 1, stacked, Y ~ N(0, sigma2 I + eta blocks(X_t Sigma0 X_t') + kappa Z Sigma0 Z'), and q is exact."""
    theta = replace(case.params, tau1=1.0, kappa=1.3 * case.state.sigma2 / np.mean(case.stats.d))
    Sigma0, data = dense.slab_shape(case.X, theta, case.C), list(dense.tissues(case.X, case.Y, case.C))
    Z, y = np.vstack([X_t for X_t, _ in data]), np.concatenate([y for _, y in data])
    covariance = theta.eta * block_diag(*(X_t @ Sigma0 @ X_t.T for X_t, _ in data))
    covariance += theta.kappa * Z @ Sigma0 @ Z.T + theta.sigma2 * np.eye(len(y))
    want = multivariate_normal(np.zeros(len(y)), covariance).logpdf(y)
    np.testing.assert_allclose(ebmodel.loglik(case.X, case.Y, theta, covariates=case.C), want, rtol=1e-9)


def test_the_bound_is_below_the_evidence(make_case):
    """Against every I in {0,1}^m, at the fit and at parameters unrelated to it: below, and nowhere near."""
    gaps = []
    for shape, slab in FITS:
        case = make_case(shape, slab, signal=0.3)
        fit = ebmodel.fit(case.X, case.Y, case.params.slab, "hierarchical", covariates=case.C)
        other = replace(case.params, kappa=case.state.sigma2 / np.mean(case.stats.d))
        for theta in (fit.params, other):
            exact = dense.evidence_enumerated(case.X, case.Y, theta, case.C).log_evidence
            bound = ebmodel.loglik(case.X, case.Y, theta, covariates=case.C)
            gaps.append(exact - bound)
            assert gaps[-1] >= -1e-9 * abs(exact)
    assert 1e-4 < np.median(gaps) < 1.0


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(("shape", "slab"), FITS)
def test_the_hierarchical_fit_is_a_stationary_point_of_the_dense_bound(make_case, shape, slab, seed):
    case = make_case(shape, slab, seed)
    X, Y, C = case.X, case.Y, case.C
    fit = ebmodel.fit(X, Y, case.params.slab, "hierarchical", covariates=C, tol=1e-12)
    theta, T, S = fit.params, fit.posterior_probability.to_numpy(), fit.beta_covariance.to_numpy()
    mu, spread = np.asarray(theta.beta), np.sqrt(np.diag(S).max())
    bound = dense.variational_bound(X, Y, theta, T, mu, S, C) if theta.kappa else dense.loglik(X, Y, theta, C)
    np.testing.assert_allclose(fit.loglik, bound, rtol=1e-10)
    # q is the best there is, to sqrt(2 tol) standard errors or so
    np.testing.assert_allclose(T, dense.variational_probability(X, Y, theta, mu, S, C), atol=1e-5)
    mean, covariance = dense.variational_mean(X, Y, theta, T, C)
    np.testing.assert_allclose(mu, mean, rtol=0, atol=1e-4 * spread)
    np.testing.assert_allclose(S, covariance, rtol=0, atol=1e-4 * spread**2)
    # and the parameters: in units of a standard error, with its own q for each, as in `scores`
    n, m = np.sum(~np.isnan(Y)), len(Y.T)
    sizes = {
        "tau1": 0.5 / np.sqrt(m),
        "eta": max(theta.eta, theta.sigma2 / np.mean(case.stats.d)) / np.sqrt(m),
        "sigma2": theta.sigma2 / np.sqrt(n),
        "kappa": max(theta.kappa, theta.sigma2 / np.mean(case.stats.d)),
    }
    for name, size in sizes.items():
        value, h = getattr(theta, name), 1e-4 * size
        sides = [
            h * side for side in (-1, 1) if 0.0 <= value + h * side and (name != "tau1" or value + h * side <= 1.0)
        ]
        moved = [
            ebmodel.loglik(X, Y, replace(theta, **{name: value + change}), covariates=C) - fit.loglik
            for change in sides
        ]
        if len(sides) == 2:
            assert abs(moved[1] - moved[0]) / 2e-4 < 2e-4, name
        else:  # at a boundary the bound falls, or is flat
            assert moved[0] / 1e-4 < 2e-4, name


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(("shape", "slab"), FITS)
def test_the_fit_with_mean_zero_is_a_stationary_point_of_the_dense_likelihood(make_case, shape, slab, seed):
    case = make_case(shape, slab, seed)
    fit = ebmodel.fit(case.X, case.Y, case.params.slab, "zero", covariates=case.C, tol=1e-12)
    theta = fit.params
    np.testing.assert_array_equal(theta.beta, 0.0)
    assert theta.kappa == 0.0
    np.testing.assert_allclose(fit.loglik, dense.loglik(case.X, case.Y, theta, case.C), rtol=1e-10)
    score = scores(case, theta)[:3]
    for j, at_low, at_high in (
        (0, theta.tau1 == 0.0, theta.tau1 == 1.0),
        (1, theta.eta == 0.0, False),
        (2, False, False),
    ):
        assert at_high or score[j] < 1e-4
        assert at_low or score[j] > -1e-4


@pytest.mark.parametrize(("shape", "slab"), FITS)
def test_dense_steps_from_near_the_fit_lead_back_to_it(make_case, shape, slab):
    """The closed forms with beta(t) latent too: never above the fit, and what they gain is towards it."""
    case = make_case(shape, slab)
    X, Y, C = case.X, case.Y, case.C
    fit = ebmodel.fit(X, Y, case.params.slab, "hierarchical", covariates=C, tol=1e-12)
    theta, mu, S = fit.params, np.asarray(fit.params.beta), fit.beta_covariance.to_numpy()
    floor = theta.sigma2 / np.mean(case.stats.d)
    theta = replace(
        theta, eta=1.2 * theta.eta + 0.01 * floor, sigma2=0.9 * theta.sigma2, kappa=1.5 * theta.kappa + 0.1 * floor
    )
    T = fit.posterior_probability.to_numpy()
    mu, S = dense.variational_mean(X, Y, theta, T, C)
    values = []
    for _ in range(40):
        theta, *q = dense.variational_step(X, Y, theta, mu, S, C)
        mu, S = q[1:]
        values.append(dense.variational_bound(X, Y, theta, *q, C))
    assert values[0] < values[-1] <= fit.loglik + 1e-9 * abs(fit.loglik)
    assert np.diff(values).min() >= -1e-10 * abs(fit.loglik)
    if fit.params.eta > 0.0 and fit.params.kappa > 0.0:  # to a boundary they take for ever
        assert fit.loglik - values[-1] < 0.5 * (fit.loglik - values[0])


def test_acceleration_keeps_kappa_the_best_for_q(make_case):
    """kappa = E |gamma|^2 / r wherever a run ends in the interior."""
    for shape, slab in FITS:
        case = make_case(shape, slab, 1, signal=3.0)
        end, _, converged = em.run(
            case.stats, em.from_responsibilities(case.stats, np.ones(len(case.Y.T)), HIERARCHICAL), 1e-12, 5000
        )
        assert converged
        if end.belief.kappa > 0.0:
            want = (end.gamma @ end.gamma + end.belief.trace) / len(end.gamma)
            np.testing.assert_allclose(end.belief.kappa, want, rtol=1e-4)


def test_q_alone_is_sought_where_the_parameters_are_known(make_case):
    for shape, slab in FITS:
        case = make_case(shape, slab, 1)
        state = case.state._replace(belief=certain(case.stats, np.nanvar(case.Y) / np.mean(case.stats.d)))
        start = em.maximisation(case.stats, np.ones(len(case.Y.T)), state, False)
        end, trace, converged = em.run(case.stats, start, 1e-12, 5000, False)
        assert converged
        assert_never_downhill(trace)
        assert (end.tau1, end.eta, end.sigma2) == (state.tau1, state.eta, state.sigma2)
        assert end.belief.kappa == state.belief.kappa
        theta, mu, S = in_snps(case, end)
        T = dense.variational_probability(case.X, case.Y, theta, mu, S, case.C)
        mean, covariance = dense.variational_mean(case.X, case.Y, theta, T, case.C)
        np.testing.assert_allclose(mu, mean, rtol=0, atol=1e-5 * np.abs(mean).max())
        np.testing.assert_allclose(S, covariance, rtol=0, atol=1e-5 * np.abs(covariance).max())


def test_nothing_on_the_slab_of_a_latent_mean(make_case):
    case = make_case("missing", "g")
    got = em.maximisation(case.stats, np.zeros(6), latent(case, case.state, np.random.default_rng(0)))
    assert (got.tau1, got.eta, got.belief.kappa, got.belief.kind) == (0.0, 0.0, 0.0, HIERARCHICAL)
    assert not got.gamma.any()
    null = replace(case.params, sigma2=float(np.nanmean(case.Y**2)))
    np.testing.assert_allclose(
        em.expectation(case.stats, got)[1], dense.log_null(case.X, case.Y, null, case.C).sum(), rtol=1e-12
    )


def test_a_likely_small_slab_falls_with_its_prior_scale_to_zero(make_case):
    """From kappa = 0 on, EM with a latent mean is EM with a mean of zero, as long as the bound falls there."""
    case = make_case("missing", "independent")
    Y = np.where(np.isnan(case.Y), np.nan, np.random.default_rng(4).standard_normal(case.Y.shape))
    case = type(case)(case.X, Y, case.C, case.params)
    ends = []
    for about in (ORIGIN, certain(case.stats, 0.0)):
        start = case.state._replace(gamma=0 * case.state.gamma, belief=about)
        ends.append(em.run(case.stats, start, 1e-10, 5000))
    assert ends[1][0].belief.kappa == 0.0
    np.testing.assert_allclose(ends[1][1], ends[0][1], rtol=1e-12)


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
