"""mash with priors on its weights: densities and moments against the dense twin, samplers against exact posteriors."""

from __future__ import annotations

from itertools import product

import arviz as az
import numpy as np
import pytest
import xarray as xr
from scipy import stats
from scipy.special import gammaln, logsumexp

from ebmodel import InputError
from ebmodel.mash import bayes, dense
from ebmodel.mash.covariances import Covariance, canonical
from ebmodel.mash.data import tidy
from ebmodel.mash.prior import Prior
from ebmodel.mash.weights import Matrix, solve

EXACT = 1e-10
SIGMAS = 4.5
"""Standard errors by which a Monte-Carlo mean may miss: one in 10^5 does, and seeds are fixed."""
UNLIKELY = 1e-3
"""Least p-value of a test of a distribution, for fixed seeds."""
QUIET = {"progress": False, "chains": 2}


# Data -----------------------------------------------------------------------------------------------------------------


def data(J=12, R=3, alpha=0.0, missing=0.0, own=False, shared=False, spread=2.0, seed=0):
    rng = np.random.default_rng([seed, J, R])
    shat = np.ones((J, R)) if shared else np.exp(0.3 * rng.standard_normal((J, R)))
    bhat = spread * rng.standard_normal((J, 1)) + shat * rng.standard_normal((J, R))
    bhat[rng.random((J, R)) < missing] = np.nan
    C = 0.3 + 0.7 * np.eye(R)
    C = np.array([(1 - w) * C + w * np.eye(R) for w in rng.random(J)]) if own else C
    return tidy(bhat, shat, C, alpha), dense.Data(bhat, shat, C, alpha)


def prior_of(effects, names=("identity", "condition_1", "equal_effects"), grid=(0.5, 1.0, 3.0), pointmass=True):
    covariances = tuple(U for U in canonical(effects.B.shape[1]) if U.name in names)
    weights = np.full((len(covariances), len(grid)), 1.0)
    return Prior(covariances, np.array(grid), weights, 0.0, effects.conditions, effects.alpha, pointmass)


def twin(problem, pi, grid=None):
    """The dense mixture with weights ``pi`` in flat order."""
    U = np.array([one.matrix for one in problem.covariances])
    pi = np.asarray(pi)
    null = float(pi[0]) if problem.pointmass else None
    scales = problem.grid if grid is None else grid
    return dense.Mixture.of(U, scales, pi[problem.pointmass :].reshape(len(U), -1), null)


CASES = [
    {},
    {"shared": True},
    {"missing": 0.3, "alpha": 0.5},
    {"own": True, "missing": 0.3, "alpha": 1.0},
    {"R": 1},
]


# What is computed of effects ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("pointmass", [True, False])
def test_likelihood_and_moments_are_the_dense_ones(case, pointmass):
    effects, plain = data(**case)
    problem = bayes.pose(effects, prior_of(effects, pointmass=pointmass))
    pi = np.random.default_rng(1).dirichlet(np.ones(len(problem.concentration)))
    mixture = twin(problem, pi)
    assert np.allclose(bayes._log_likelihood(problem, pi[None], None)[0], dense.loglik_effects(plain, mixture), EXACT)
    found, expected = bayes.recover(problem, np.array([pi, pi]), None), dense.posterior(plain, mixture)
    for name in ("mean", "sd", "lfsr", "lfdr", "negative", "positive"):
        assert np.allclose(found[name], getattr(expected, name), rtol=EXACT, atol=EXACT), name
    assert np.allclose(found["left_out"], 0.0, atol=EXACT)  # one value of the weights leaves nothing out


@pytest.mark.parametrize("case", CASES, ids=str)
def test_free_scales_are_a_mixture_with_one_scale_a_covariance(case):
    effects, plain = data(**case)
    problem = bayes.pose(effects, prior_of(effects), scales="free")
    rng, K = np.random.default_rng(2), len(problem.covariances)
    pi, omega = rng.dirichlet(np.ones(K + 1)), np.exp(rng.standard_normal(K))
    # U_k omega_k^2 on a grid of one scale, 1
    scaled = np.array([w**2 * U.matrix for w, U in zip(omega, problem.covariances, strict=True)])
    mixture = dense.Mixture.of(scaled, np.ones(1), pi[1:, None], float(pi[0]))
    loglik = bayes._log_likelihood(problem, pi[None], omega[None])[0]
    assert np.allclose(loglik, dense.loglik_effects(plain, mixture), EXACT)
    found, expected = bayes.recover(problem, pi[None], omega[None]), dense.posterior(plain, mixture)
    for name in ("mean", "sd", "lfsr", "lfdr"):
        assert np.allclose(found[name], getattr(expected, name), rtol=EXACT, atol=EXACT), name


@pytest.mark.parametrize("free", [False, True])
def test_averages_over_draws_are_those_of_dense_posteriors(free):
    """Law of total variance: the part between draws is what ``left_out`` is a share of."""
    effects, plain = data(missing=0.2)
    problem = bayes.pose(effects, prior_of(effects), scales="free" if free else "grid")
    rng, K = np.random.default_rng(3), len(problem.covariances)
    pi = rng.dirichlet(np.ones(len(problem.concentration)), 5)
    omega = np.exp(rng.standard_normal((5, K))) if free else None
    each = []
    for draw in range(5):
        if free:
            scaled = np.array([w**2 * U.matrix for w, U in zip(omega[draw], problem.covariances, strict=True)])
            mixture = dense.Mixture.of(scaled, np.ones(1), pi[draw, 1:, None], float(pi[draw, 0]))
        else:
            mixture = twin(problem, pi[draw])
        each.append(dense.posterior(plain, mixture))
    mean, sd, zero = (np.array([getattr(one, name) for one in each]) for name in ("mean", "sd", "lfdr"))
    variance = (sd**2).mean(axis=0) + mean.var(axis=0)
    found = bayes.recover(problem, pi, omega)
    assert np.allclose(found["mean"], mean.mean(axis=0), atol=EXACT)
    assert np.allclose(found["sd"], np.sqrt(variance), atol=EXACT)
    assert np.allclose(found["lfdr"], zero.mean(axis=0), atol=EXACT)
    assert np.allclose(found["left_out"], mean.var(axis=0) / variance, atol=EXACT)


def test_effects_taken_few_at_a_time_are_the_same(monkeypatch):
    effects, _ = data(missing=0.2)
    problem = bayes.pose(effects, prior_of(effects))
    pi = np.random.default_rng(0).dirichlet(np.ones(len(problem.concentration)), 4)
    whole = bayes.recover(problem, pi, None)
    monkeypatch.setattr(bayes, "CELLS", 1)
    xr.testing.assert_allclose(bayes.recover(problem, pi, None), whole, rtol=1e-12)


@pytest.mark.parametrize("free", [False, True])
def test_draws_of_effects_have_the_dense_posteriors_moments(free):
    effects, plain = data(J=4, missing=0.3, alpha=0.5)
    problem = bayes.pose(effects, prior_of(effects, grid=(2.0,)), scales="free" if free else "grid")
    size, pi = 4000, np.random.default_rng(1).dirichlet(np.ones(4))
    omega = np.full((size, 3), 2.0) if free else None
    drawn = bayes.draw_effects(problem, np.tile(pi, (size, 1)), omega, np.random.default_rng(2))
    expected = dense.posterior(plain, twin(problem, pi, np.array([2.0])))
    se = expected.sd / np.sqrt(size)
    assert (np.abs(drawn.mean(axis=0) - expected.mean) < SIGMAS * se).all()
    fourth = ((drawn - expected.mean) ** 4).mean(axis=0)
    se = np.sqrt((fourth - expected.sd**4) / size)
    assert (np.abs(((drawn - expected.mean) ** 2).mean(axis=0) - expected.sd**2) < SIGMAS * se + EXACT).all()
    zero = np.sqrt(expected.lfdr * (1 - expected.lfdr) / size)
    assert (np.abs((drawn == 0.0).mean(axis=0) - expected.lfdr) < SIGMAS * zero + EXACT).all()


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


def exact(L, a):
    """Posterior mean and sd of pi by summing over all labels; L (effect, component)."""
    J, P = L.shape
    log_w, means, squares = [], [], []
    for z in product(range(P), repeat=J):
        b = a + np.bincount(z, minlength=P)
        total = b.sum()
        log_w.append(np.log(L[np.arange(J), z]).sum() + gammaln(b).sum() - gammaln(total))
        means.append(b / total)
        squares.append(b * (b + 1) / (total * (total + 1)))
    w = np.exp(np.array(log_w) - logsumexp(log_w))
    mean = w @ np.array(means)
    return mean, np.sqrt(w @ np.array(squares) - mean**2)


def quadrature(L, a, size=4001):
    """The posterior of pi_0 for two components, on a grid: points and probabilities."""
    x = (np.arange(size) + 0.5) / size
    log_p = (a[0] - 1) * np.log(x) + (a[1] - 1) * np.log1p(-x)
    log_p += np.log(np.outer(x, L[:, 0]) + np.outer(1 - x, L[:, 1])).sum(axis=1)
    return x, np.exp(log_p - logsumexp(log_p))


def some_likelihoods(J, P, seed=0):
    L = np.exp(1.5 * np.random.default_rng([seed, J, P]).standard_normal((J, P)))
    return L / L.max(axis=1, keepdims=True)


def chains_of(L, a, draws=4000, chains=2, seed=0, scale=None):
    P = L.shape[1]
    groups = np.arange(P) if scale is None else np.array(scale)
    streams = np.random.SeedSequence(seed).spawn(chains)
    return np.array([bayes.sample_weights(L.T, a, groups, np.minimum(np.arange(P), 1), draws, 200, s) for s in streams])


def within(draws, mean):
    """Whether means over (chain, draw, quantity) are the exact ones to within Monte-Carlo error."""
    mcse = az.mcse(xr.DataArray(draws, dims=("chain", "draw", "quantity")))
    return (np.abs(draws.mean(axis=(0, 1)) - mean) < SIGMAS * mcse.to_numpy()).all()


def same_moments(pi, L, a):
    mean, sd = exact(L, a)
    return within(pi, mean) and within(pi**2, sd**2 + mean**2)


@pytest.mark.parametrize("a", [[10.0, 1.0], [1.0, 1.0], [0.4, 2.0]], ids=str)
def test_two_components_have_the_posterior_that_quadrature_has(a):
    L, a = some_likelihoods(30, 2), np.array(a)
    x, p = quadrature(L, a)
    pi = chains_of(L, a)[..., :1]
    assert within(pi, p @ x)
    assert within(pi**2, p @ x**2)
    assert within((pi < 0.3).astype(float), p[x < 0.3].sum())


@pytest.mark.parametrize("a", [[10.0, 1.0, 1.0, 1.0], [0.5, 0.3, 1.0, 2.0]], ids=str)
@pytest.mark.parametrize("scale", [[0, 1, 2, 3], [0, 1, 1, 2]], ids=str)
def test_few_effects_have_the_posterior_that_enumeration_has(a, scale):
    L, a = some_likelihoods(5, 4), np.array(a)
    assert same_moments(chains_of(L, a, scale=scale), L, a)


@pytest.mark.parametrize("step", ["labels", "pairs", "groups"])
def test_each_step_alone_leaves_the_posterior_as_it_is(step):
    """From exact draws, one step: the same distribution, and not the same draws."""
    L, a, size = some_likelihoods(20, 2), np.array([3.0, 1.0]), 3000
    x, p = quadrature(L, a)
    rng = np.random.default_rng(5)
    if step == "groups":  # a third component alike to the second: the weights of both together are as for two
        L, a = np.column_stack([L, L[:, 1]]), np.array([3.0, 0.4, 0.6])
    A = np.ascontiguousarray(L.T)
    start = np.interp(rng.random(size), np.cumsum(p), x)
    after = np.empty(size)
    for k, now in enumerate(start):
        pi = np.array([now, 1 - now]) if step != "groups" else np.array([now, *(1 - now) * rng.dirichlet(a[1:])])
        f = pi @ A
        if step == "labels":
            pi = bayes._labels(A, f, pi, a, rng)
        else:
            groups = np.minimum(np.arange(len(a)), 1)
            bayes._move(A, f, pi, a, groups, np.bool_(False), 1, rng)
            assert np.allclose(f, pi @ A, rtol=1e-12)
        assert pi.sum() == pytest.approx(1.0, abs=1e-12)
        after[k] = pi[0]
    assert (after != start).mean() > 0.99
    assert stats.kstest(after, lambda v: np.interp(v, x, np.cumsum(p))).pvalue > UNLIKELY


def test_components_alike_share_their_weight_as_the_prior_says():
    """What labels alone would take thousands of sweeps for: the split between two components that are the same."""
    L = some_likelihoods(2000, 2)
    L, a = np.column_stack([L, L[:, 1]]), np.array([10.0, 2.0, 3.0])
    pi = chains_of(L, a, draws=1500)
    split = pi[..., 1:2] / (pi[..., 1:2] + pi[..., 2:])
    assert within(split, 0.4)  # Beta(2, 3)
    assert within(split**2, stats.beta(2, 3).var() + 0.16)
    assert float(az.ess(split[..., 0])) > 300


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


@pytest.mark.statistical
@pytest.mark.parametrize("a", [[10.0] + [1.0] * 8, [1.0] + [0.3] * 8], ids=["biased", "sparse"])
def test_ranks_of_the_truth_among_draws_are_uniform(a):
    """Weights drawn from the prior, effects from the weights: the sampler is calibrated, or ranks show it."""
    rng, a, ranks = np.random.default_rng(11), np.array(a), []
    sd = np.sqrt(1.0 + np.array([0.0, *np.tile([0.5, 1.0, 2.0, 4.0], 2)]) ** 2)
    for k in range(200):
        pi = rng.dirichlet(a)
        z = rng.choice(9, 60, p=pi)
        b = np.column_stack([rng.standard_normal(60) * np.where(z <= 4, sd[z], 1.0),
                             rng.standard_normal(60) * np.where(z > 4, sd[z], 1.0)])  # fmt: skip
        first, second = np.where(np.arange(9) <= 4, sd, 1.0), np.where(np.arange(9) > 4, sd, 1.0)
        log_L = stats.norm.logpdf(b[:, :1], scale=first) + stats.norm.logpdf(b[:, 1:], scale=second)
        L = np.exp(log_L - log_L.max(axis=1, keepdims=True))
        drawn = chains_of(L, a, draws=990, chains=1, seed=k, scale=[0, *[1, 2, 3, 4] * 2])[0, ::10]

        def quantities(w):
            return np.array([w[..., 0], w[..., 1:5].sum(axis=-1), w[..., 1], w[..., 8], w[..., 1:] @ sd[1:]])

        ranks.append((quantities(drawn) < quantities(pi)[:, None]).sum(axis=1))
    counts = np.array([np.histogram(rank, 10, (0, 100))[0] for rank in np.array(ranks).T])
    assert (stats.chisquare(counts, axis=1).pvalue > UNLIKELY).all()
