"""Where chains start: variational modes, their bounds, and the choice among them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import logsumexp, softmax
from scipy.stats import norm

import ebmodel
from ebmodel import em
from ebmodel.bayes.models import build, pose
from ebmodel.bayes.starts import Mode, _begin, _climb, choose, find_modes, modes, unconstrained, values
from ebmodel.starts import active_sets

ROUNDING = 1e-9
"""Share of the bound that rounding may take in a step."""


def line(seed, m=4, n=12, effect=1.0, missing=0.0):
    """One SNP, m tissues, half of them active."""
    rng = np.random.default_rng([seed, 3])
    X = rng.standard_normal((n, 1))
    Y = effect * X * (np.arange(m) % 2) + rng.standard_normal((n, m))
    Y[rng.random((n, m)) < missing] = np.nan
    return X, Y


def evidence(statistics, mode):
    """log of p(Y | gamma, the rest) N(gamma; 0, kappa) integrated over gamma, one SNP, by quadrature."""
    gamma = np.linspace(-10, 10, 4001) * np.sqrt(mode.kappa)
    rest = mode.tau1, mode.eta, mode.sigma2
    at = [em.expectation(statistics, em.State(rest[0], np.array([g]), *rest[1:]))[1] for g in gamma]
    return logsumexp(at + norm.logpdf(gamma, 0, np.sqrt(mode.kappa))) + np.log(gamma[1] - gamma[0])


@pytest.mark.parametrize("mean", ["free", "hierarchical"])
@pytest.mark.parametrize(("seed", "effect"), [(0, 0.0), (1, 0.5), (2, 2.0)])
@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_the_bound_is_below_the_evidence_at_its_hyperparameters(mean, seed, effect, missing):
    problem = pose(*line(seed, effect=effect, missing=missing), "g", mean, "weak")
    statistics = problem.whitened[0]
    signal = None if mean == "hierarchical" else problem.inputs["per_direction"]
    found = modes(statistics, signal, 0)
    assert found
    for mode in found[:3]:
        exact = evidence(statistics, mode)
        assert mode.bound <= exact + 1e-6
        assert mode.bound > exact - 3.0  # and tells something: I(t) and gamma are nearly independent given Y


@pytest.mark.parametrize("shape", ["complete", "missing", "covariates-missing", "wide"])
@pytest.mark.parametrize("slab", ["g", "independent"])
@pytest.mark.parametrize("signal", [None, 0.5, 5.0])
def test_the_bound_rises_at_every_step(make_case, shape, slab, signal):
    """kappa a parameter, or tied to sigma2 by the signal's prior."""
    case = make_case(shape, slab)
    for T in active_sets(case.stats, 6, 0):
        mode, bounds = _begin(case.stats, T, signal), []
        for _ in range(25):
            mode, T = _climb(case.stats, mode, T, signal, 1)
            bounds.append(mode.bound)
        assert np.min(np.diff(bounds)) > -ROUNDING * np.abs(bounds[0])
        assert bounds[-1] > bounds[0]


def test_modes_come_best_first_and_stationary(make_case):
    case = make_case("missing", "g")
    found = modes(case.stats, None, 0)
    bounds = [mode.bound for mode in found]
    assert bounds == sorted(bounds, reverse=True)
    assert all(np.isfinite([*mode.mean, mode.tau1, mode.eta, mode.sigma2, mode.kappa]).all() for mode in found)


def test_the_dominant_mode_of_a_hard_data_set():
    """Correlated SNPs and a weak signal: the likelihood has many modes."""
    gene = ebmodel.simulate.setting(1, n=50, p=30, m=50, rho=0.4, signal=0.5, seed=11)
    found = find_modes(pose(gene.X, gene.Y, "g", "free", "weak"), 0)
    best = found[0][0]
    assert 0.23 < best.tau1 < 0.33
    assert 40 < best.eta < 58
    again = [find_modes(pose(gene.X, gene.Y, "g", "free", "weak"), seed)[0][0].bound for seed in (1, 2)]
    np.testing.assert_allclose(again, best.bound, atol=0.1)
    rng = np.random.default_rng(0)
    assert choose([mode for mode, _ in found], rng) == 0


def test_a_mode_far_above_the_others_is_chosen_always():
    problem = pose(*line(5, m=8, n=40, effect=4.0), "g", "free", "weak")
    found = [mode for mode, _ in find_modes(problem, 0)]
    T = ebmodel.fit(problem.data.X, problem.data.Y).posterior_probability.to_numpy()
    assert found[0].tau1 == pytest.approx(np.clip(T.mean(), 0.02, 0.98), abs=0.1)
    rng = np.random.default_rng(1)
    chosen = {choose(found, rng) for _ in range(50)}
    bounds = {round(found[k].bound, 1) for k in chosen}
    assert bounds == {round(found[0].bound, 1)}


def made(*bounds):
    return [Mode(bound, 0.5, np.zeros(1), 1.0, 1.0, 1.0) for bound in bounds]


def test_modes_are_chosen_in_proportion_to_their_mass():
    bounds = np.array([-10.0, -10.7, -12.0, -40.0])
    rng, n = np.random.default_rng(2), 4000
    share = np.bincount([choose(made(*bounds), rng) for _ in range(n)], minlength=4) / n
    want = softmax(bounds)
    assert np.all(np.abs(share - want) < 4 * np.sqrt(want * (1 - want) / n) + 1e-12)


def test_a_mode_found_twice_counts_once():
    rng, n = np.random.default_rng(3), 2000
    chosen = [choose(made(-10.0, -10.0 - 1e-4, -10.0 - 2e-4, -10.5), rng) for _ in range(n)]
    share = np.bincount(chosen, minlength=4) / n
    assert share[1] == share[2] == 0.0
    want = softmax([-10.0, -10.5])[0]
    assert abs(share[0] - want) < 4 * np.sqrt(want * (1 - want) / n)


@pytest.mark.parametrize(("slab", "mean"), [("g", "free"), ("independent", "hierarchical"), ("power", "free")])
def test_a_mode_in_the_samplers_coordinates_is_the_mode(make_case, slab, mean):
    """There and back: the model's own deterministics give the mode's parameters."""
    case = make_case("missing", "g")
    problem = pose(case.X, case.Y, slab, mean, "weak")
    model, (mode, alpha) = build(problem), find_modes(problem, 0)[0]
    assert (alpha is None) == (slab != "power")
    x = unconstrained(model, values(problem, mode, alpha))
    assert np.isfinite(x).all()
    names = ["beta", "eta", "sigma2", *(["kappa"] if mean == "hierarchical" else [])]
    outs = model.replace_rvs_by_values([model[name] for name in [*names, "tau1"]])
    function = model.compile_fn(outs, mode="FAST_COMPILE", on_unused_input="ignore")
    start, point, at = model.initial_point(), {}, 0
    for variable in model.value_vars:
        size = start[variable.name].size
        point[variable.name] = x[at : at + size].reshape(start[variable.name].shape)
        at += size
    got = dict(zip([*names, "tau1"], function(point), strict=True))
    assert got["tau1"] == pytest.approx(mode.tau1)
    assert got["sigma2"] == pytest.approx(mode.sigma2)
    strength = problem.inputs.get("strength", 1.0)
    if 0.011 < mode.eta * strength / (mode.eta * strength + mode.sigma2) < 0.989:  # else held off the boundary
        assert got["eta"] == pytest.approx(mode.eta)
        np.testing.assert_allclose(got["beta"], mode.mean, rtol=1e-6)


def test_a_point_outside_a_priors_support_starts_in_the_middle(make_case):
    case = make_case("missing", "g")
    priors = ebmodel.bayes.WEAK.with_(tau1=ebmodel.bayes.Prior("Uniform", lower=0.0, upper=0.01))
    problem = pose(case.X, case.Y, "g", "free", priors)
    with np.errstate(invalid="ignore"):
        x = unconstrained(build(problem), values(problem, *find_modes(problem, 0)[0]))
    assert np.isfinite(x).all()
