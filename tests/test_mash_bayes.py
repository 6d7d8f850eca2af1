"""mash with priors on its weights: densities against the dense twin, samplers against exact posteriors."""

from __future__ import annotations

import arviz as az
import numpy as np
import pytest
import xarray as xr
from scipy.special import logsumexp

from ebmodel import InputError
from ebmodel.mash import bayes, dense
from ebmodel.mash.covariances import Covariance
from ebmodel.mash.prior import Prior
from ebmodel.mash.weights import Matrix, solve
from tests.test_mash_averaging import data, prior_of, twin
from tests.test_mash_gibbs import SIGMAS, same_moments, within

QUIET = {"progress": False, "chains": 2}


# The model in PyMC ----------------------------------------------------------------------------------------------------


def log_density(model):
    """Log density on the simplex, without the Jacobian of NUTS's coordinates."""
    logp = model.compile_logp(jacobian=False, mode="FAST_COMPILE")

    def at(pi, **more):
        log_pi = np.log(pi)
        return float(logp({"mixture_simplex__": log_pi[:-1] - log_pi.mean(), **more}))

    return at


def test_density_is_the_penalised_objective_and_its_maximum_the_fit():
    """Dirichlet(10, 1, ..., 1): the fit with mash's penalty is the maximum a posteriori on the simplex."""
    effects, plain = data(J=40)
    problem = bayes.pose(effects, prior_of(effects))
    log_L, a = dense.log_likelihoods(plain, twin(problem, np.ones(10) / 10)), problem.concentration
    assert a.tolist() == [10.0] + [1.0] * 9
    at, rng = log_density(bayes.pymc_model(effects, prior_of(effects))), np.random.default_rng(0)
    points = rng.dirichlet(np.ones(10), 4)
    here = [at(pi) for pi in points]
    assert np.allclose(np.diff(here), np.diff([dense.objective(log_L, pi, a) for pi in points]), atol=1e-8)
    best = solve(Matrix(log_L), a - 1.0).pi
    assert dense.gap(log_L, best, a) < 1e-10
    top = at(0.999999 * best + 0.000001 / 10)  # NUTS's coordinates have no corner
    near = [at((1 - step) * best + step * pi) for pi in points for step in (0.01, 0.1)]
    assert max(*here, *near) < top + 1e-3


def test_free_scales_have_the_density_that_is_sampled():
    effects, plain = data(missing=0.3, own=True)
    problem = bayes.pose(effects, prior_of(effects), scales="free")
    at, rng = log_density(bayes.pymc_model(effects, prior_of(effects), scales="free")), np.random.default_rng(0)
    mean, sd = problem.log_scale_prior
    got, expected = [], []
    for _ in range(3):
        pi, z = rng.dirichlet(np.ones(4)), rng.standard_normal(3)
        scaled = np.array([w**2 * U.matrix for w, U in zip(np.exp(mean + sd * z), problem.covariances, strict=True)])
        mixture = dense.Mixture.of(scaled, np.ones(1), pi[1:, None], float(pi[0]))
        got.append(at(pi, z=z))
        expected.append(dense.loglik(plain, mixture) + 9.0 * np.log(pi[0]) - 0.5 * z @ z)
    assert np.allclose(np.diff(got), np.diff(expected), atol=1e-8)


# Samplers -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def few():
    """Five effects, four components, and NUTS and the other sampler on them."""
    effects, plain = data(J=5, missing=0.2)
    prior = prior_of(effects, ("equal_effects",))
    options = {"draws": 1500, "tune": 500, "keep": ["effect_2"], "seed": 4} | QUIET
    trees = {method: bayes.sample(effects, prior, method=method, **options) for method in bayes.METHODS}
    return effects, plain, prior, trees


@pytest.mark.parametrize("method", bayes.METHODS)
def test_both_samplers_have_the_posterior_that_enumeration_has(few, method):
    effects, plain, prior, trees = few
    problem = bayes.pose(effects, prior)
    L = np.exp(dense.log_likelihoods(plain, twin(problem, np.full(4, 0.25))))
    posterior = trees[method]["posterior"].to_dataset()
    weights = posterior["weights"].to_numpy()
    pi = np.concatenate([posterior["null_weight"].to_numpy()[..., None], weights[:, :, 0]], axis=2)
    assert same_moments(pi, L, problem.concentration)
    drawn, averaged = posterior["effects"].sel(effect="effect_2"), trees[method]["effects"].sel(effect="effect_2")
    assert within(drawn.to_numpy(), averaged["mean"].to_numpy())
    assert "Sound" in trees[method].attrs["verdict"][:6]


def test_draws_are_laid_out_for_arviz(few):
    effects, _, _, trees = few
    tree = bayes.sample(*few[:1], few[2], draws=50, tune=20, pointwise=True, seed=1, **QUIET)
    assert az.summary(trees["gibbs"], var_names=["null_weight", "weights"]).shape[0] == 4
    total = tree["log_likelihood"]["bhat"].sum("effect")
    assert np.allclose(total, tree["posterior"]["loglik"], rtol=1e-12)
    assert np.isfinite(az.loo(tree, var_name="bhat").elpd)
    assert np.allclose(tree["observed_data"]["bhat"], effects.B, equal_nan=True)
    sums = tree["posterior"]["weights"].sum(["covariance", "scale"]) + tree["posterior"]["null_weight"]
    assert np.allclose(sums, 1.0)
    expected = tree["prior"]["null_weight"].mean() - 10 / 13
    assert abs(float(expected)) < SIGMAS * np.sqrt(10 * 3 / (13**2 * 14) / tree["prior"].sizes["draw"])


def test_the_same_seed_gives_the_same_draws(few):
    effects, _, prior, _ = few
    one, two = (bayes.sample(effects, prior, draws=20, tune=5, seed=7, **QUIET) for _ in range(2))
    other = bayes.sample(effects, prior, draws=20, tune=5, seed=8, **QUIET)
    xr.testing.assert_identical(one["posterior"].to_dataset(), two["posterior"].to_dataset())
    assert not one["posterior"]["null_weight"].equals(other["posterior"]["null_weight"])


def test_some_effects_are_those_of_all(few):
    effects, _, prior, trees = few
    tree = bayes.sample(effects, prior, effects=["effect_4", "effect_1"], draws=1500, tune=500, seed=4, **QUIET)
    some, every = tree["effects"].to_dataset(), trees["gibbs"]["effects"].to_dataset()
    assert some["effect"].to_numpy().tolist() == ["effect_4", "effect_1"]
    xr.testing.assert_allclose(some, every.sel(effect=some["effect"]), rtol=1e-12)


def test_covariances_may_be_some_of_the_priors():
    effects, _ = data(J=8)
    problem = bayes.pose(effects, prior_of(effects), covariances=["equal_effects"])
    assert problem.names == ["null", "equal_effects.1", "equal_effects.2", "equal_effects.3"]
    assert bayes.pose(effects, prior_of(effects, pointmass=False), scales="free").names == [
        "identity", "condition_1", "equal_effects"]  # fmt: skip


MISTAKES = [
    ({"scales": "learned"}, "'grid' or 'free'"),
    ({"method": "hmc"}, "'gibbs' or 'nuts'"),
    ({"scales": "free", "method": "gibbs"}, "method='nuts' for free scales"),
    ({"null_weight": 0.0}, "positive parameters of the Dirichlet"),
    ({"concentration": -1.0}, "positive parameters of the Dirichlet"),
    ({"covariances": ["unheard_of"]}, "'unheard_of'"),
    ({"covariances": []}, "got none"),
    ({"effects": ["effect_99"]}, "'effect_99', in effects"),
    ({"keep": ["effect_99"]}, "'effect_99', in keep"),
    ({"draws": 0}, "at least one draw"),
]


@pytest.mark.parametrize(("mistake", "words"), MISTAKES, ids=str)
def test_mistakes_are_told(mistake, words):
    effects, _ = data(J=4)
    with pytest.raises(InputError, match=words.replace("(", r"\(")):
        bayes.sample(effects, prior_of(effects), **mistake, progress=False)


def test_data_need_a_prior_of_their_conditions():
    effects, _ = data(J=4)
    with pytest.raises(InputError, match="a prior beside effects"):
        bayes.sample(effects, progress=False)
    with pytest.raises(InputError, match="a prior of 3 conditions"):
        bayes.sample(effects, prior_of(data(R=2)[0]), progress=False)


def test_verdict_says_what_is_wrong():
    effects, _ = data(J=4)
    prior = prior_of(effects, grid=(1.0,))
    one = bayes.sample(effects, prior, draws=400, tune=50, progress=False, chains=1)
    assert one.attrs["verdict"].startswith("Not sound. one chain")
    short = bayes.sample(effects, prior, draws=20, tune=50, **QUIET)
    assert "effective sample size" in short.attrs["verdict"]
    stuck = xr.DataTree.from_dict({name: node.to_dataset() for name, node in one.children.items()})
    moved = xr.concat([one["posterior"].to_dataset()] * 2, "chain")
    moved["null_weight"] = moved["null_weight"] + xr.DataArray([0.0, 0.5], dims="chain")
    stuck["posterior"] = xr.DataTree(moved)
    assert "R-hat is" in bayes.verdict(stuck)
    assert "for the null_weight" in bayes.verdict(stuck)


# Statistical ----------------------------------------------------------------------------------------------------------


@pytest.mark.statistical
def test_chains_are_the_same_however_many_at_a_time():
    effects, _ = data(J=8)
    one, two = (bayes.sample(effects, prior_of(effects), draws=20, tune=5, cores=cores, **QUIET) for cores in (1, 2))
    xr.testing.assert_identical(one["posterior"].to_dataset(), two["posterior"].to_dataset())


@pytest.mark.statistical
def test_free_scales_have_the_posterior_that_quadrature_has():
    """One covariance and the point mass: two parameters, on a grid."""
    effects, plain = data(J=25, R=2)
    prior = Prior((Covariance.from_factor("one", np.ones(2)),), np.array([0.3, 3.0]), np.ones((1, 2)), 0.0,
                  effects.conditions)  # fmt: skip
    tree = bayes.sample(effects, prior, scales="free", draws=2000, tune=1000, seed=2, null_weight=2.0, **QUIET)
    mean, sd = bayes.pose(effects, prior, scales="free").log_scale_prior
    z, x = np.linspace(-6, 6, 241), (np.arange(400) + 0.5) / 400
    log_p = np.empty((241, 400))
    for i, one in enumerate(z):
        mixture = dense.Mixture.of(np.ones((1, 2, 2)), np.exp([mean + sd * one]), np.array([[0.5]]), 0.5)
        log_L = dense.log_likelihoods(plain, mixture)
        log_p[i] = np.logaddexp(np.log(x)[:, None] + log_L[:, 0], np.log1p(-x)[:, None] + log_L[:, 1]).sum(axis=1)
        log_p[i] += np.log(x) - 0.5 * one**2
    p = np.exp(log_p - logsumexp(log_p))
    null, log_omega = tree["posterior"]["null_weight"].to_numpy(), np.log(tree["posterior"]["omega"].to_numpy())
    assert within(null[..., None], p.sum(axis=0) @ x)
    assert within(null[..., None] ** 2, p.sum(axis=0) @ x**2)
    assert within(log_omega, p.sum(axis=1) @ (mean + sd * z))
    assert within(log_omega**2, p.sum(axis=1) @ (mean + sd * z) ** 2)
