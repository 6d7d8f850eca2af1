"""Unequal and correlated errors in the full model: densities and exact draws against dense normals, and the sampler."""

from __future__ import annotations

import re
from itertools import product
from types import SimpleNamespace

import arviz as az
import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
import xarray as xr
from scipy import stats
from scipy.linalg import null_space

import ebmodel
from ebmodel import InputError, Params, dense
from ebmodel.bayes import WEAK, Prior, covariance, marginal
from ebmodel.bayes.models import pose
from ebmodel.bayes.sampling import draw_prior, recover
from ebmodel.simulate import violated
from ebmodel.statistics import power_spread

EXACT = 1e-10
SIGMAS = 4.5
FAST = "FAST_COMPILE"


def evaluate(expression):
    return pytensor.function([], expression, mode=FAST)()


def tiny(covariates=0, n=12, m=3, seed=0):
    """Three SNPs, three tissues, complete; a covariance of errors and hyperparameters unrelated to the data."""
    rng = np.random.default_rng(seed)
    X, Y, C = rng.standard_normal((n, 3)), rng.standard_normal((n, m)), rng.standard_normal((n, covariates))
    root = rng.standard_normal((m, m))
    return X, Y, C if covariates else None, root @ root.T + 0.3 * np.eye(m), rng.standard_normal(3)


def joint(X, Y, C, Sigma, beta, eta, slab, active):
    """All responses stacked by tissue: values, mean and covariance given I, beta(t) integrated out, by n m matrices."""
    Sigma0 = dense.slab_shape(X, Params(tau1=0.5, beta=beta, eta=eta, sigma2=1.0, slab=slab), C)
    K = np.eye(len(X)) if C is None else null_space(C.T)
    X, Y = K.T @ X, K.T @ Y
    spread = np.kron(np.diag(active), eta * X @ Sigma0 @ X.T)
    return Y.T.ravel(), np.kron(active, X @ beta), np.kron(Sigma, np.eye(len(X))) + spread, X, Sigma0


# Correlated errors: the density with beta(t) integrated out, and beta(t) drawn back -----------------------------------


@pytest.mark.parametrize("covariates", [0, 2])
@pytest.mark.parametrize("slab", ["g", "independent", "power"])
def test_density_is_the_dense_one_for_every_active_set(slab, covariates):
    X, Y, C, Sigma, beta = tiny(covariates)
    problem = pose(X, Y, slab, "free", "weak", C, errors="correlated")
    here, eta, alpha = covariance.frame(problem), 0.7, 0.4
    U, Q = here.U, here.Q
    v = eta * (power_spread(problem.compressed.s, alpha) if slab == "power" else here.D**2)
    v = v[:1] if slab == "g" else v
    residual = np.linalg.qr(Y - U @ (U.T @ Y) - Q @ (Q.T @ Y), mode="r")
    active = pt.vector("active")
    given = (pt.constant(value) for value in (U.T @ X @ beta, v))
    density = covariance.log_density(
        U.T @ Y, residual, len(X) - covariates - 3, *given, active, pt.constant(np.linalg.cholesky(Sigma))
    )
    ours = pytensor.function([active], density, mode=FAST)
    for I in product([0.0, 1.0], repeat=3):
        y, mean, spread, *_ = joint(X, Y, C, Sigma, beta, eta, alpha if slab == "power" else slab, np.array(I))
        assert ours(np.array(I)) == pytest.approx(dense.log_density(y, mean, spread), rel=EXACT)


def fixed(problem, active, Sigma, beta, eta, size, missing=None):
    """Draws of the sampler that are all the same."""
    m = len(active)
    deviation = np.sqrt(np.diag(Sigma))
    values = {
        "beta": (("chain", "draw", "snp"), np.tile(beta, (1, size, 1))),
        "eta": (("chain", "draw"), np.full((1, size), eta)),
        "active": (("chain", "draw", "tissue"), np.tile(active, (1, size, 1))),
        "error_variance": (("chain", "draw", "tissue"), np.tile(np.diag(Sigma), (1, size, 1))),
        "error_correlation": (
            ("chain", "draw", "tissue", "tissue_other"),
            np.tile(Sigma / np.outer(deviation, deviation), (1, size, 1, 1)),
        ),
    }
    if missing is not None:
        values["missing"] = (("chain", "draw", "unknown"), np.tile(missing, (1, size, 1)))
    coords = {"chain": [0], "draw": np.arange(size), "tissue": problem.data.tissues, "tissue_other": np.arange(m)}
    return xr.Dataset(values, coords)


@pytest.mark.parametrize("slab", ["g", "independent"])
def test_effects_are_drawn_from_their_joint_posterior(slab):
    X, Y, _, Sigma, beta = tiny()
    active, eta, size = np.array([1, 0, 1]), 0.7, 6000
    problem = pose(X, Y, slab, "free", "weak", errors="correlated")
    drawn = covariance.recover(
        problem, fixed(problem, active, Sigma, beta, eta, size), 50, np.random.default_rng(3)
    ).posterior["effects"][0]
    y, mean, spread, _, Sigma0 = joint(X, Y, None, Sigma, beta, eta, slab, active.astype(float))
    gain = np.kron(np.diag(active), eta * Sigma0 @ X.T) @ np.linalg.inv(spread)
    want = np.kron(active, beta) + gain @ (y - mean)
    cov = np.kron(np.diag(active), eta * Sigma0) - gain @ np.kron(np.diag(active), eta * X @ Sigma0)
    flat = drawn.to_numpy().reshape(size, -1)
    sd = np.sqrt(np.diag(cov))
    on = sd > 0
    assert (flat[:, ~on] == 0).all()
    assert (np.abs(flat.mean(axis=0) - want)[on] < SIGMAS * sd[on] / np.sqrt(size)).all()
    error = np.sqrt((np.outer(sd, sd) ** 2 + cov**2) / size)[np.ix_(on, on)]  # of a covariance of normal draws
    assert (np.abs(np.cov(flat.T) - cov)[np.ix_(on, on)] < SIGMAS * error).all()


def test_likelihood_of_samples_and_new_responses():
    X, Y, _, Sigma, beta = tiny()
    Y[2, 1], Y[5, :] = np.nan, np.nan
    problem = pose(X, Y, "g", "free", "weak", errors="correlated")
    draws = fixed(problem, np.array([1, 1, 0]), Sigma, beta, 0.5, 400, missing=np.zeros(4))
    effects, log_likelihood, predictive = covariance.recover(problem, draws, 400, np.random.default_rng(1))
    B = effects["effects"][0, 7].to_numpy()
    rows = log_likelihood["Y"][0, 7].to_numpy()
    for i, seen in enumerate(~np.isnan(Y)):
        want = dense.log_density(Y[i, seen], (X @ B.T)[i, seen], Sigma[np.ix_(seen, seen)]) if seen.any() else 0.0
        assert rows[i] == pytest.approx(want, abs=1e-10)
    new = predictive["Y"][0].to_numpy() - np.einsum("ij,dtj->dit", X, effects["effects"][0].to_numpy())
    assert np.isnan(new[:, 2, 1]).all()
    error = new[:, [0, 1, 3, 4]].reshape(-1, 3)
    size = np.sqrt((np.outer(np.diag(Sigma), np.diag(Sigma)) + Sigma**2) / len(error))
    assert (np.abs(error.T @ error / len(error) - Sigma) < SIGMAS * size).all()


def test_the_guess_for_missing_responses_is_the_covariates():
    X, Y, C, _, _ = tiny(2)
    Y[:3, 0] = np.nan
    here = covariance.frame(pose(X, Y, "g", "free", "weak", C, errors="correlated"))
    delta = np.linalg.lstsq(C[3:], Y[3:, 0])[0]
    np.testing.assert_allclose(here.Y[:3, 0], C[:3] @ delta, rtol=1e-10)
    np.testing.assert_array_equal(here.Y[3:], Y[3:])
    np.testing.assert_allclose(np.hstack([here.U, here.Q]).T @ np.hstack([here.U, here.Q]), np.eye(5), atol=1e-12)


# Unequal errors ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("shape", "slab"), [("missing", "g"), ("complete", "g"), ("missing", 0.4), ("complete", 0.4)])
def test_marginal_densities_are_the_dense_twins(make_case, pin, shape, slab):
    case = make_case(shape, slab)
    omega = np.exp(np.random.default_rng(1).standard_normal(case.Y.shape[1]))
    theta = Params(tau1=0.5, beta=case.params.beta, eta=case.params.eta, sigma2=1.3, slab=slab, relative_variance=omega)
    problem = pose(case.X, case.Y, "power" if slab == 0.4 else slab, "free", "weak", errors="unequal")
    data = SimpleNamespace(**{name: pt.as_tensor_variable(value) for name, value in problem.inputs.items()})
    one = problem.compressed.pattern.max() == 0
    by_pattern = (lambda x: x) if one else (lambda x: x[problem.compressed.pattern])
    sigma2, eta = pt.constant(1.3 * omega), pt.constant(theta.eta)
    if slab == "g":
        gamma = pt.constant(problem.whitened[1].whiten(theta.beta))
        log_g1 = marginal.log_slab(data, data.coordinates, gamma, eta, sigma2, by_pattern)
    else:
        c = problem.compressed
        mean, spread = pt.constant(c.s * (theta.beta @ c.U)), pt.constant(power_spread(c.s, slab))
        log_g1 = (
            marginal.log_slab_diagonal(data, data.coordinates, mean, spread, eta, sigma2)
            if problem.complete
            else marginal.log_slab_power(data, data.coordinates, mean, spread, eta, sigma2, by_pattern)
        )
    pin(evaluate(log_g1), dense.log_slab(case.X, case.Y, theta), EXACT)
    pin(evaluate(marginal.log_null(data, sigma2)), dense.log_null(case.X, case.Y, theta), EXACT)


@pytest.mark.parametrize("slab", ["g", "power"])
def test_recovery_knows_every_tissues_variance(make_case, slab):
    case, size = make_case("missing", "g"), 4000
    alpha = 1.0 if slab == "power" else None
    omega = np.exp(np.random.default_rng(1).standard_normal(case.Y.shape[1]))
    theta = Params(tau1=1.0, beta=case.params.beta, eta=2.0, sigma2=1.3, relative_variance=omega, slab=alpha or "g")
    at = ebmodel.oracle(case.X, case.Y, theta)
    draw = ("chain", "draw")
    values = {name: (draw, np.full((1, size), value)) for name, value in (("tau1", 1.0), ("eta", 2.0), ("sigma2", 9.0))}
    values |= {"alpha": (draw, np.ones((1, size)))} if alpha else {}
    for name, value, dim in (("beta", theta.beta, "snp"), ("error_variance", 1.3 * omega, "tissue"),
                             ("log_bayes_factor", at.log_bayes_factor.to_numpy(), "tissue")):  # fmt: skip
        values[name] = ((*draw, dim), np.tile(value, (1, size, 1)))
    problem = pose(case.X, case.Y, slab, "free", "weak", errors="unequal")
    posterior, log_likelihood = recover(problem, xr.Dataset(values), np.random.default_rng(2))
    gap = np.abs(posterior["effects"].mean(draw).to_numpy() - at.effects.to_numpy())
    assert (gap < SIGMAS * at.effects_sd.to_numpy() / np.sqrt(size)).all()
    ratio = posterior["effects"].std(draw).to_numpy() / at.effects_sd.to_numpy()
    np.testing.assert_allclose(ratio, 1.0, atol=SIGMAS / np.sqrt(2 * size))
    assert float(log_likelihood["Y"].sum("tissue")[0, 0]) == pytest.approx(at.loglik, rel=1e-9)


def test_the_latent_form_gives_every_tissue_its_own_variance():
    gene = violated("unequal-variances", 1.0, THETA, n=12, m=3, missing=0.2, seed=3)
    model = ebmodel.pymc_model(gene.X, gene.Y, form="latent", errors="unequal")
    point = model.initial_point()
    point["active"], point["z_error"] = np.array([1, 0, 1]), np.array([-1.0, 0.5, 2.0])
    wanted = model.replace_rvs_by_values([model["error_variance"], model["effects"]])
    own, effects = model.compile_fn(wanted, inputs=model.value_vars, on_unused_input="ignore", mode=FAST)(point)
    assert np.ptp(own) > 0.1
    Y, expected = gene["Y"].to_numpy(), gene["X"].to_numpy() @ effects.T
    density = stats.norm.logpdf(Y, expected, np.sqrt(own))
    found = model.compile_logp(vars=[model["Y"]], mode=FAST)(point)
    assert found == pytest.approx(np.nansum(density), rel=EXACT)


def test_prior_of_the_variances():
    X, Y, *_ = tiny()
    priors = WEAK.with_(heterogeneity=Prior("HalfNormal", sigma=0.5))
    prior = draw_prior(pose(X, Y, "g", "free", priors, errors="unequal"), 2000, 4).isel(chain=0)
    z = np.log(prior["error_variance"] / prior["sigma2"]) / prior["heterogeneity"]
    assert stats.kstest(z.isel(tissue=1), "norm").pvalue > 1e-3
    assert stats.kstest(prior["heterogeneity"], stats.halfnorm(scale=0.5).cdf).pvalue > 1e-3
    assert abs(np.corrcoef(z.T)[0, 1]) < SIGMAS / np.sqrt(2000)


# What is refused -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"errors": "own"}, "expected 'equal', 'unequal', 'correlated', got 'own', in errors"),
        ({"errors": "correlated", "form": "latent"}, "expected form='marginal', got 'latent'"),
    ],
)
def test_choices_refused(call, message):
    X, Y, *_ = tiny()
    with pytest.raises(InputError, match=re.escape(message)):
        ebmodel.pymc_model(X, Y, **call)


def test_data_refused():
    X, Y, *_ = tiny()
    with pytest.raises(InputError, match="expected two tissues or more, got 1"):
        ebmodel.pymc_model(X, Y[:, :1], errors="correlated")
    Y[1:, 2] = np.nan
    with pytest.raises(InputError, match="more than 1 responses in every tissue, got too few in 'tissue2'"):
        ebmodel.pymc_model(X, Y, errors="correlated", intercept=True)
    with pytest.raises(InputError, match=r"expected an ebmodel\.bayes\.Prior, got 1, in the prior on heterogeneity"):
        WEAK.with_(heterogeneity=1)
    with pytest.raises(InputError, match="expected a concentration > 0, got 0"):
        WEAK.with_(concentration=0.0)


# Sampling ------------------------------------------------------------------------------------------------------------


def sample(gene, **options):
    settings = {"progress": False, "cores": 1, "seed": 1, "draws": 400, "tune": 400, "chains": 2}
    return ebmodel.sample(gene.X, gene.Y, **settings | options)


THETA = Params(tau1=0.5, beta=[0.6, -0.5], eta=1.0, sigma2=1.0)


def test_unequal_errors_are_sampled():
    gene = violated("unequal-variances", 1.0, THETA, n=60, m=8, missing=0.2, seed=2)
    tree = sample(gene, errors="unequal", draws=1500)
    posterior = tree["posterior"].to_dataset()
    assert tree.attrs["errors"] == "unequal"
    assert "heterogeneity ~ HalfNormal(sigma=1)" in tree.attrs["priors"]
    assert tree.attrs["verdict"].startswith("Sound")
    assert "heterogeneity" in tree["log_prior"]
    log = np.log(posterior["error_variance"])
    z = (log.mean(("chain", "draw")) - np.log(gene.error_sd**2)) / log.std(("chain", "draw"))
    assert float(np.abs(z).max()) < 4
    assert float(az.rhat(log).max()) < 1.03
    fit = ebmodel.fit(gene.X, gene.Y, errors="unequal")
    compared = ebmodel.compare(fit, tree)
    variances = compared.isel(quantity=np.flatnonzero(compared["kind"] == "error variance"))
    np.testing.assert_array_equal(variances["em"], fit.error_variance)
    assert float(np.abs(variances["difference"]).max()) < 2.0
    assert "sigma2" not in compared["quantity"]
    with pytest.raises(InputError, match="the same errors, got equal and unequal"):
        ebmodel.compare(ebmodel.fit(gene.X, gene.Y), tree)
    found = ebmodel.check(tree, checks=["equal-variances", "normal-errors"], replicates=9, progress=False)
    assert found["verdict"].to_numpy().tolist() == ["no sign against it"] * 2


@pytest.mark.statistical
def test_unequal_errors_agree_with_equal_ones_where_they_are_equal():
    gene = ebmodel.simulate.model_true(THETA, n=60, m=8, seed=2, posterior=False)
    equal, own = (sample(gene, errors=errors, draws=1000)["posterior"] for errors in ("equal", "unequal"))
    gap = np.abs(own["probability"].mean(("chain", "draw")) - equal["probability"].mean(("chain", "draw")))
    assert float(gap.max()) < 0.1
    assert float(own["heterogeneity"].mean()) < 0.3


@pytest.mark.statistical
def test_correlated_errors_are_found_and_cease_to_pass_for_effects():
    theta = Params(tau1=1e-9, beta=[0.0, 0.0], eta=1.0, sigma2=1.0)
    gene = violated("correlated-errors", 0.4, theta, n=60, m=4, seed=8)
    tree = sample(gene, errors="correlated", draws=1000)
    posterior = tree["posterior"].to_dataset()
    upper = np.triu_indices(4, 1)
    R = posterior["error_correlation"].to_numpy()[..., upper[0], upper[1]]
    lower, high = np.quantile(R, [0.005, 0.995], axis=(0, 1))
    assert ((lower < 0.4) & (high > 0.4)).all()
    false = ebmodel.fit(gene.X, gene.Y).posterior_probability
    honest = posterior["active"].mean(("chain", "draw"))
    assert float(honest.sum()) < float(false.sum())
    assert tree["log_likelihood"]["Y"].dims == ("chain", "draw", "sample")
    assert "correlation ~ LKJ(2)" in tree.attrs["priors"]


@pytest.mark.statistical
def test_correlated_errors_with_missing_responses():
    gene = violated("correlated-errors", 0.4, THETA, n=60, m=4, missing=0.2, seed=3)
    posterior = sample(gene, errors="correlated", intercept=True)["posterior"].to_dataset()
    R = posterior["error_correlation"].to_numpy()[..., *np.triu_indices(4, 1)]
    assert abs(R.mean() - 0.4) < 0.2
    assert "missing" not in posterior
