"""EM with one parameter held: never downhill, the parameter where it was put, the variances those that maximise Q."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from ebmodel import constrained, em
from ebmodel.constrained import ETA, KAPPA, SIGMA2, TAU1
from ebmodel.mean import FREE, HIERARCHICAL, ORIGIN, ZERO

ROUNDING = 1e-12
HELD = [pytest.param(held, id=name) for held, name in ((TAU1, "tau1"), (ETA, "eta"), (SIGMA2, "sigma2"))]
MEANS = [pytest.param(FREE, id="free"), pytest.param(ZERO, id="zero"), pytest.param(HIERARCHICAL, id="hierarchical")]


def value(state, held):
    return {TAU1: state.tau1, ETA: state.eta, SIGMA2: state.sigma2, KAPPA: state.belief.kappa}[held]


def begin(case, kind, seed=0):
    """A state from random responsibilities."""
    rng = np.random.default_rng(seed)
    return em.from_responsibilities(case.stats, rng.random(len(case.stats.n)), kind)


@pytest.mark.parametrize("shape", ["complete", "missing", "fewer-samples-than-snps", "covariates-missing"])
@pytest.mark.parametrize("kind", MEANS)
@pytest.mark.parametrize("held", HELD)
def test_steps_never_lower_the_likelihood_and_leave_what_is_held(make_case, shape, kind, held):
    case = make_case(shape, 0.5)
    start = begin(case, kind)
    for factor in (0.3, 0.9):
        state = constrained.hold(case.stats, start, held, factor * value(start, held))
        put, values = value(state, held), []
        for _ in range(40):
            T, loglik = em.expectation(case.stats, state)
            values.append(loglik)
            state = constrained.maximisation(case.stats, T, state, held)
            assert value(state, held) == put
        assert np.diff(values).min() >= -ROUNDING * np.abs(values).max()
        end, T, loglik, converged = constrained.ascend(case.stats, state, held, 1e-9, 5000)
        assert converged
        assert value(end, held) == put
        assert loglik >= values[-1] - ROUNDING * abs(values[-1])
        assert em.expectation(case.stats, end)[1] == loglik


@pytest.mark.parametrize("shape", ["complete", "missing"])
def test_kappa_is_held_with_a_proper_belief(make_case, shape):
    """The bound is one from the first step on: it never exceeds the log-likelihood averaged over the prior of gamma."""
    case = make_case(shape, "g")
    start = begin(case, HIERARCHICAL)
    rng = np.random.default_rng(1)
    for kappa in (0.0, 0.01, 1.0, 50.0):
        state = constrained.hold(case.stats, start, KAPPA, kappa)
        values = []
        for _ in range(60):
            T, bound = em.expectation(case.stats, state)
            values.append(bound)
            state = constrained.maximisation(case.stats, T, state, KAPPA)
            assert state.belief.kappa == kappa
        assert np.diff(values).min() >= -ROUNDING * np.abs(values).max()
        # log p(Y) = log E p(Y | gamma), from draws about q(gamma), twice as wide, weighed by prior over proposal
        r = len(state.gamma)
        z = rng.standard_normal((4000, r))
        S = state.belief.root.T @ state.belief.root
        half = np.linalg.cholesky(4.0 * S + 1e-300 * np.eye(r)) if kappa else np.zeros((r, r))
        gamma = state.gamma + z @ half.T
        loglik = np.array(
            [em.expectation(case.stats, em.State(state.tau1, g, state.eta, state.sigma2))[1] for g in gamma]
        )
        if kappa:
            loglik += -0.5 * np.sum(gamma**2, axis=1) / kappa - 0.5 * r * np.log(kappa)
            loglik -= -0.5 * np.sum(z**2, axis=1) - np.log(np.diag(half)).sum()
        weight = np.exp(loglik - loglik.max())
        exact = loglik.max() + np.log(weight.mean())
        error = weight.std() / weight.mean() / np.sqrt(len(weight))
        assert values[-1] <= exact + 4.0 * error + 1e-9
        assert exact - values[-1] < 3.0  # and it is a good one here


def test_eta_has_its_closed_form_where_sigma2_is_held_and_data_are_complete(make_case):
    case = make_case("complete", "g")
    state = begin(case, FREE)
    T = em.expectation(case.stats, state)[0]
    for sigma2 in (0.2 * state.sigma2, state.sigma2, 50.0 * state.sigma2):
        got = constrained.maximisation(case.stats, T, constrained.hold(case.stats, state, SIGMA2, sigma2), SIGMA2)
        gap = np.sum((case.stats.b - got.gamma @ case.stats.V[0]) ** 2, axis=1)
        want = max(T @ gap / (T.sum() * len(got.gamma)) - sigma2, 0.0)
        assert got.eta == pytest.approx(want, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("held", [ETA, SIGMA2], ids=["eta", "sigma2"])
@pytest.mark.parametrize("shape", ["missing", "fewer-samples-than-snps"])
def test_the_other_variance_maximises_q(make_case, shape, held):
    case = make_case(shape, 0.5)
    state = begin(case, FREE)
    T = em.expectation(case.stats, state)[0]
    got = constrained.maximisation(case.stats, T, state, held)
    sums = constrained._sums(case.stats, T, got.gamma, state.belief.variance)

    def cost(log_other):
        other = float(np.exp(log_other))
        eta, sigma2 = (state.eta, other) if held == ETA else (other, state.sigma2)
        return constrained._cost(*sums, case.stats.d, eta, sigma2)

    found = got.sigma2 if held == ETA else got.eta
    best = minimize_scalar(cost, bracket=(np.log(found) - 1.0, np.log(found) + 1.0), tol=1e-10)
    assert cost(np.log(found)) <= best.fun + 1e-9 * abs(best.fun)
    assert np.log(found) == pytest.approx(best.x, abs=1e-4)


def test_with_nothing_active_the_slab_has_no_say(make_case):
    case = make_case("missing", "g")
    null = case.stats.yy.sum() / case.stats.n.sum()
    for kind in (FREE, HIERARCHICAL):
        start = em.nothing(case.stats, begin(case, kind))
        state = constrained.hold(case.stats, start, ETA, 3.0)
        end, T, loglik, _ = constrained.ascend(case.stats, state, ETA, 1e-9, 100)
        assert (end.tau1, end.eta, end.sigma2) == (0.0, 3.0, pytest.approx(null))
        assert not T.any()
        assert loglik == pytest.approx(em.expectation(case.stats, start)[1], abs=1e-9)


def test_a_mean_of_zero_stays_there(make_case):
    case = make_case("missing", "g")
    start = begin(case, ZERO)
    assert start.belief == ORIGIN
    end = constrained.ascend(case.stats, constrained.hold(case.stats, start, TAU1, 0.4), TAU1, 1e-9, 500)[0]
    assert not end.gamma.any()
