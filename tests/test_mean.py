"""The slab's mean given the responsibilities: least squares where it is a number, q(gamma) and kappa where latent."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import brentq

import ebmodel
from ebmodel import dense, em
from ebmodel.mean import FREE, HIERARCHICAL, ZERO, belief, certain, divergence, mean_kind, slab_mean
from ebmodel.variance import slab_and_error_variance

SOME = [
    ("complete", "g"),
    ("complete", -1.0),
    ("missing", "g"),
    ("missing", "independent"),
    ("fewer-samples-than-snps", -1.0),
    ("tissue-unobserved", 2.0),
    ("wide-missing", "matrix"),
    ("collinear-missing", "g"),
    ("covariates-intercept-missing", 0.5),
]
some = pytest.mark.parametrize(("shape", "slab"), SOME)


def responsibilities(case, seed=0):
    return np.random.default_rng(seed).random(len(case.Y.T))


def at(case, T, kappa, *, learn=False):
    """q(gamma) at the case's eta and sigma2."""
    return belief(case.stats, T, case.state.eta, case.state.sigma2, kappa, learn)


def scale(case):
    """A kappa of the size of the data, whatever the slab's units."""
    return case.state.sigma2 / np.mean(case.stats.d)


def climb(case, T, kappa):
    """Every kappa on the way from one to where it stays: each call asks for a few steps, and EM for many calls."""
    way = [kappa]
    while len(way) < 2 or (len(way) < 400 and way[-1] != way[-2]):
        way.append(at(case, T, way[-1], learn=True)[1].kappa)
    return way


# A parameter ---------------------------------------------------------------------------------------------------------


@some
def test_slab_mean_climbs_to_generalised_least_squares(make_case, pin, shape, slab):
    for seed in range(3):
        case, T = make_case(shape, slab, seed), responsibilities(make_case(shape, slab, seed), seed)
        start, state = case.params, case.state
        Sigma0 = dense.slab_shape(case.X, start, case.C)
        normal, pull = 0.0, 0.0
        for weight, (X_t, y) in zip(T, dense.tissues(case.X, case.Y, case.C), strict=True):
            Omega = state.sigma2 * np.eye(len(y)) + state.eta * X_t @ Sigma0 @ X_t.T
            normal = normal + weight * X_t.T @ np.linalg.solve(Omega, X_t)
            pull = pull + weight * X_t.T @ np.linalg.solve(Omega, y - X_t @ start.beta)
        gamma, values = state.gamma, [T @ dense.log_slab(case.X, case.Y, start, case.C)]
        for _ in range(30):
            gamma = slab_mean(case.stats, T, gamma, state.eta, state.sigma2)
            here = replace(start, beta=case.whitening.unwhiten(gamma))
            values.append(T @ dense.log_slab(case.X, case.Y, here, case.C))
        assert np.diff(values).min() >= -1e-12 * np.abs(values).max()
        beta = case.whitening.unwhiten(gamma)
        seen = start.beta - case.whitening.unwhiten(case.whitening.whiten(start.beta))  # X does not see the rest
        pin(normal @ (beta - start.beta + seen), pull)
        if np.linalg.matrix_rank(normal) == len(normal):
            pin(beta, start.beta + np.linalg.solve(normal, pull))


# A latent variable ---------------------------------------------------------------------------------------------------


def test_the_best_q_is_that_of_the_dense_twin(case, pin):
    """q(beta) with n x n matrices, in the SNPs' coordinates, directions that X does not see included."""
    T, kappa = responsibilities(case), 2.0 * scale(case)
    mu, about = at(case, T, kappa)
    mean, covariance = dense.variational_mean(case.X, case.Y, replace(case.params, kappa=kappa), T, case.C)
    root, null = about.root @ case.whitening.L.T, case.whitening.null
    pin(case.whitening.unwhiten(mu), mean)
    pin(root.T @ root + kappa * null @ null.T, covariance)
    assert (about.kind, about.kappa) == (HIERARCHICAL, kappa)


def test_what_is_kept_of_s_belongs_together(case, pin):
    _, about = at(case, responsibilities(case), 0.5 * scale(case))
    S, V = about.root.T @ about.root, case.stats.V
    pin(about.variance, np.einsum("kij,il,klj->kj", V, S, V))
    pin(about.trace, np.trace(S))
    pin(about.log_det, np.linalg.slogdet(S)[1])


def test_the_mean_of_q_by_conjugate_gradients(case, pin):
    """Least squares shrunk by I/kappa climbs to the mu that the whole of q(gamma) comes with."""
    T, kappa = responsibilities(case), scale(case)
    mu, _ = at(case, T, kappa)
    gamma = case.state.gamma
    for _ in range(30):
        gamma = slab_mean(case.stats, T, gamma, case.state.eta, case.state.sigma2, 1.0 / kappa)
    pin(gamma, mu)


@some
def test_divergence_is_that_of_two_normals(make_case, pin, shape, slab):
    case = make_case(shape, slab)
    mu, about = at(case, responsibilities(case), scale(case))
    r, S = len(mu), about.root.T @ about.root
    ratio = S / about.kappa
    want = 0.5 * (np.trace(ratio) + mu @ mu / about.kappa - r - np.linalg.slogdet(ratio)[1])
    pin(divergence(mu, about), want)
    assert divergence(mu, em.POINT) == divergence(mu, em.ORIGIN) == divergence(0 * mu, certain(case.stats, 0.0)) == 0.0


def test_nothing_on_the_slab_leaves_the_prior(make_case, pin):
    case = make_case("missing", "g")
    mu, about = at(case, np.zeros(6), 3.0)
    np.testing.assert_array_equal(mu, 0.0)
    pin(about.root.T @ about.root, 3.0 * np.eye(4))
    assert divergence(mu, about) == pytest.approx(0.0, abs=1e-14)
    assert at(case, np.zeros(6), 3.0, learn=True)[1].kappa == 0.0


@pytest.mark.parametrize("slab", ["g", -1.0])
def test_complete_data_take_a_short_cut_to_the_same_q(make_case, pin, slab):
    """One pattern needs no eigenvectors; the same data said to be of two patterns do."""
    case = make_case("complete", slab)
    one = case.stats
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((4, 4)))[0]  # V serves as it is, or any for d = 1
    V, b = (one.V, one.b) if slab != "g" else (one.V @ turn, one.b @ turn)
    two = one._replace(
        pattern=np.arange(6) % 2,
        V=np.ascontiguousarray(np.vstack([one.V, V])),
        d=np.vstack([one.d, one.d]),
        b=np.where(np.arange(6)[:, None] % 2, b, one.b),
    )
    T = responsibilities(case)
    for learn in (False, True):
        (mu, about), (mu2, about2) = (belief(stats, T, 0.01, 1.0, 0.7 * scale(case), learn) for stats in (one, two))
        assert about.kappa > 0.0
        pin(mu2, mu)
        pin(about2.root.T @ about2.root, about.root.T @ about.root)
        for got, want in zip((about2.kappa, about2.trace, about2.log_det), about[1:2] + about[4:], strict=True):
            pin(got, want)
        pin(about2.variance[0], about.variance[0])
        for kind in (about, certain(one, 1.0)):
            other = about2 if kind is about else certain(two, 1.0)
            state, state2 = em.State(0.4, mu, 0.01, 1.0, kind), em.State(0.4, mu, 0.01, 1.0, other)
            pin(em.expectation(two, state2)[0], em.expectation(one, state)[0])
            variances = (slab_and_error_variance(s, T, mu, 1.0, k.variance) for s, k in ((one, kind), (two, other)))
            pin(*variances)


# Its scale -----------------------------------------------------------------------------------------------------------


def profile(case, T):
    """f(kappa), up to a constant the best bound for kappa, with dense matrices; and its derivative."""
    data = list(dense.tissues(case.X, case.Y, case.C))
    Sigma0, theta = dense.slab_shape(case.X, case.params, case.C), case.params
    P = h = 0.0
    for weight, (X_t, y) in zip(T, data, strict=True):
        Omega = theta.sigma2 * np.eye(len(y)) + theta.eta * X_t @ Sigma0 @ X_t.T
        P = P + weight * X_t.T @ np.linalg.solve(Omega, X_t)
        h = h + weight * X_t.T @ np.linalg.solve(Omega, y)
    value, vector = np.linalg.eigh(Sigma0)
    root = vector * np.sqrt(np.maximum(value, 0.0))
    P, h, one = root.T @ P @ root, root.T @ h, np.eye(len(root))  # beta = root u, u ~ N(0, kappa I)

    def f(kappa):
        A = one + kappa * P
        return 0.5 * (kappa * h @ np.linalg.solve(A, h) - np.linalg.slogdet(A)[1])

    def slope(kappa):
        A = one + kappa * P
        keep = np.linalg.solve(A, h)
        return 0.5 * (keep @ keep - np.trace(np.linalg.solve(A, P)))

    return f, slope


@some
def test_kappa_never_goes_downhill_and_ends_at_a_root_or_at_zero(make_case, shape, slab):
    ends = []
    for seed, signal in enumerate([0.0, 0.0, 0.3, 1.0, 10.0]):
        case = make_case(shape, slab, seed, signal=max(signal, 1e-3))
        if signal == 0.0:  # responses that know nothing of X
            Y = np.where(np.isnan(case.Y), np.nan, np.random.default_rng(seed).standard_normal(case.Y.shape))
            case = type(case)(case.X, Y, case.C, replace(case.params, sigma2=1.0))
        # a slab too narrow to hold the tissues' effects unless its mean moves
        case = type(case)(case.X, case.Y, case.C, replace(case.params, eta=0.1 * scale(case)))
        T = responsibilities(case, seed)
        f, slope = profile(case, T)
        for start in scale(case) * 10.0 ** np.arange(-6, 7, 3):
            way = climb(case, T, start)
            values, kappa = np.array([f(kappa) for kappa in way]), way[-1]
            assert np.diff(values).min() >= -1e-12 * (1.0 + np.abs(values).max())
            assert values[1:].min() >= 0.0
            ends.append(kappa)
            if kappa > 0.0:
                root = brentq(slope, 0.999 * kappa, 1.001 * kappa, xtol=1e-12 * kappa)  # from above zero to below
                np.testing.assert_allclose(kappa, root, rtol=1e-4)
            else:
                assert slope(0.0) <= 0.0
    assert max(ends) > 0.0


@some
def test_kappa_is_the_largest_maximum_of_its_profile_here(make_case, shape, slab):
    """The profile may have two maxima; on these data it has one, and every start finds it."""
    for seed in range(3):
        case = make_case(shape, slab, seed)
        T = responsibilities(case, seed)
        f, _ = profile(case, T)
        grid = scale(case) * np.geomspace(1e-4, 1e4, 400)
        best = max(f(kappa) for kappa in grid)
        for start in (1e-2, 1.0, 1e2):
            assert f(climb(case, T, start * scale(case))[-1]) >= best - 1e-12 * abs(best)


def test_kappa_has_a_closed_form_for_the_papers_slab_and_complete_data(make_case, pin):
    """lambda is then one number: kappa = (|z|^2/(p lambda) - 1)/lambda, or 0."""
    closed = []
    for seed in range(40):
        case = make_case("complete", "g", seed, signal=0.05 if seed % 2 else 1.0)
        T = responsibilities(case, seed)
        weight = 1.0 / (case.state.sigma2 + case.state.eta)
        length, z = weight * T.sum(), weight * T @ case.stats.b
        closed.append(max(0.0, (z @ z / (4 * length) - 1.0) / length))
        pin(climb(case, T, scale(case))[-1], closed[-1], 1e-4)
    assert 3 <= np.sum(np.array(closed) == 0.0) <= 37


def test_kappa_leaves_zero_where_the_bound_rises_and_only_there(make_case):
    rising = []
    for seed in range(40):
        case = make_case("missing", "independent", seed, signal=0.02 if seed % 2 else 1.0)
        T = responsibilities(case, seed)
        f, slope = profile(case, T)
        mu, about = at(case, T, 0.0, learn=True)
        assert (about.kappa > 0.0) == (slope(0.0) > 0.0)
        assert f(about.kappa) >= 0.0
        assert mu.any() == (about.kappa > 0.0)
        rising.append(slope(0.0) > 0.0)
    assert 3 <= sum(rising) <= 37


def test_kappa_is_left_alone_where_it_is_known(make_case):
    case = make_case("missing", "g")
    for kappa in (0.0, 1e-8, 1.0, 1e8):
        mu, about = at(case, np.ones(6), kappa)
        assert about.kappa == kappa
        assert np.isfinite(mu).all()
        assert mu.any() == (kappa > 0.0)


def test_a_wide_prior_is_least_squares(make_case, pin):
    case, T = make_case("missing", "g"), np.array([1.0, 0.5, 0.0, 1.0, 0.2, 1.0])
    gamma = case.state.gamma
    for _ in range(30):
        gamma = slab_mean(case.stats, T, gamma, 2.0, 1.0)
    pin(belief(case.stats, T, 2.0, 1.0, 1e10, False)[0], gamma, 1e-8)


def test_words_for_a_mean():
    assert [mean_kind(word) for word in ("free", "zero", "hierarchical")] == [FREE, ZERO, HIERARCHICAL]
    for word in ("none", "", None, 0):
        with pytest.raises(ebmodel.InputError, match="expected one of 'free', 'zero', 'hierarchical', got"):
            mean_kind(word)


def test_a_slope_at_zero_that_is_rounding_is_no_slope():
    """z^2 and lambda whose sums differ by rounding: f rises nowhere, and looking for where must end."""
    hexadecimal = np.array([float.fromhex(x) for x in ("0x1.b73a6ff91ad95p+1", "0x1.c23112e889390p+0")])
    values = np.append(hexadecimal, float.fromhex("0x1.5209dd3c52bcap-3"))
    z = [float.fromhex(x) for x in ("0x1.da386453c1d1ap+0", "-0x1.537bc9454a280p+0", "-0x1.a00611f2666a9p-2")]
    assert ebmodel.mean._uphill(values, np.array(z), 0.0) == 0.0
