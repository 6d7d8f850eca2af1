"""Sampling: exact recovery of I(t) and beta(t), every group of the draws, and the posterior against other witnesses."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time

import arviz as az
import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy import stats

import ebmodel
from ebmodel import InputError, Params, dense
from ebmodel.bayes import WEAK, Prior
from ebmodel.bayes.models import pose
from ebmodel.bayes.sampling import _log_prior, _predict, draw_prior, recover
from ebmodel.data import project_out

mpl.use("Agg")

EXACT = 1e-8
"""Relative error allowed to two computations of one number."""
SIGMAS = 4.5
"""Standard errors by which a Monte-Carlo mean may miss: one in 10^5 does, and seeds are fixed."""
UNLIKELY = 1e-3
"""Least p-value of a Kolmogorov-Smirnov test, for fixed seeds."""


# Data and draws, shared; every shape of data compiles once -----------------------------------------------------------


def named(seed=5, constant=2.0):
    """Two SNPs, four tissues, an intercept; responses missing; names."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((16, 2))
    Y = X @ np.outer([1.0, -0.5], [1, 1, 0, 1]) + 0.7 * rng.standard_normal((16, 4)) + constant
    Y[rng.random((16, 4)) < 0.25] = np.nan
    X = pd.DataFrame(X, [f"donor{i}" for i in range(16)], ["rs1", "rs2"])
    return X, pd.DataFrame(Y, X.index, ["lung", "liver", "skin", "heart"])


def line(kind="some", n=8):
    """One SNP, three tissues, complete."""
    rng = np.random.default_rng(4)
    X, noise = rng.standard_normal((n, 1)), rng.standard_normal((n, 3))
    return X, {"some": [0, 1, 1.5], "none": [0, 0, 0], "all": [3, 3.2, 2.8]}[kind] * X + noise


def awkward():
    """More SNPs than samples, two of them equal; a tissue without data and one with two samples."""
    rng = np.random.default_rng(6)
    X = rng.standard_normal((6, 9))
    X[:, 8] = X[:, 0]
    Y = X[:, :1] * [1, 0, 1, 1] + rng.standard_normal((6, 4))
    Y[:, 1] = np.nan
    Y[:4, 3] = np.nan
    return X, Y


def sample(X, Y, **options):
    return ebmodel.sample(
        X, Y, **{"progress": False, "cores": 1, "seed": 3, "draws": 50, "tune": 100, "chains": 2} | options
    )


@pytest.fixture(scope="session")
def tree():
    X, Y = named()
    return sample(X, Y, intercept=True, draws=400, tune=400)


@pytest.fixture(scope="session")
def narrow():
    return sample(*line(), draws=1500, tune=500, chains=4)


# Recovery of I(t) and beta(t) ----------------------------------------------------------------------------------------


def given(case, alphas=None, size=1, seed=0):
    """Hyperparameters about the case's, each ``size`` times, with the dense log K_t: what NUTS would hand over."""
    rng = np.random.default_rng(seed)
    thetas, C = [], case.C
    for alpha in alphas if alphas is not None else [None] * 3:
        theta = case.params
        beta = theta.beta + 0.3 * rng.standard_normal(len(theta.beta))
        if alpha is not None:  # on the row space of X, where alpha is a parameter
            V = np.linalg.svd(project_out(tidy_C(case), case.X)[0][0], full_matrices=False)
            beta = V[2][V[1] > 1e-9].T @ (V[2][V[1] > 1e-9] @ beta)
        scale = np.exp(0.3 * rng.standard_normal(2))
        thetas.append(Params(tau1=rng.uniform(0.2, 0.8), beta=beta, eta=theta.eta * scale[0],
                             sigma2=theta.sigma2 * scale[1], slab=theta.slab if alpha is None else alpha))  # fmt: skip
    repeated = {name: np.repeat([getattr(t, name) for t in thetas], size, axis=0)[None]
                for name in ("tau1", "eta", "sigma2", "beta")}  # fmt: skip
    log_K = np.repeat([dense.log_bayes_factor(case.X, case.Y, t, C) for t in thetas], size, axis=0)[None]
    draws = {name: (("chain", "draw"), repeated[name]) for name in ("tau1", "eta", "sigma2")}
    draws |= {"beta": (("chain", "draw", "snp"), repeated["beta"]),
              "log_bayes_factor": (("chain", "draw", "tissue"), log_K)}  # fmt: skip
    if alphas is not None:
        draws["alpha"] = (("chain", "draw"), np.repeat(alphas, size)[None])
    coords = {"chain": [0], "draw": np.arange(size * len(thetas))}
    return thetas, xr.Dataset(draws, coords)


def tidy_C(case):
    return case.C if case.C is not None else np.empty((len(case.X), 0))


RECOVERED = [("missing", "g", None), ("fewer-samples-than-snps", "independent", None), ("collinear-missing", "g", None),
             ("complete", "power", [-1.5, 0.3, 2.0]), ("missing", "power", [-1.5, 0.3, 2.0]),
             ("wide", "power", [-1.0, 0.0001, 0.7]), ("covariates-missing", "power", [-0.5, 0.5, 1.0])]  # fmt: skip


@pytest.mark.parametrize(("shape", "slab", "alphas"), RECOVERED, ids=lambda v: str(v) if isinstance(v, str) else "")
def test_draws_have_the_dense_posteriors_moments(make_case, shape, slab, alphas):
    case, size = make_case(shape, "g" if slab == "power" else slab), 4000
    thetas, posterior = given(case, alphas, size)
    recovered, log_likelihood = recover(
        pose(case.X, case.Y, slab, "free", "weak", case.C), posterior, np.random.default_rng(1)
    )
    for k, theta in enumerate(thetas):
        part = recovered.isel(chain=0, draw=slice(k * size, (k + 1) * size))
        args = case.X, case.Y, theta, case.C
        h1 = dense.posterior_probability(*args)
        np.testing.assert_allclose(part["probability"][0], h1, rtol=EXACT)
        want = np.logaddexp(np.log(theta.tau1) + dense.log_slab(*args), np.log(theta.tau0) + dense.log_null(*args))
        np.testing.assert_allclose(log_likelihood["Y"][0, k * size], want, rtol=EXACT, atol=EXACT)
        active, effects = part["active"].to_numpy(), part["effects"].to_numpy()
        assert np.all(np.abs(active.mean(axis=0) - h1) <= SIGMAS * np.sqrt(h1 * (1 - h1) / size) + 1e-12)
        assert not effects[active == 0].any()
        means, covariances = dense.moments(*args)
        for t in range(case.Y.shape[1]):
            x = effects[active[:, t] == 1, t]
            if len(x) < 200:
                continue
            variance = covariances[t].diagonal()
            slack = 1e-7 * np.abs(means[t]).max()
            assert np.all(np.abs(x.mean(axis=0) - means[t]) < SIGMAS * np.sqrt(variance / len(x)) + slack)
            error = np.sqrt((np.outer(variance, variance) + covariances[t] ** 2) / len(x))  # of a normal's covariance
            assert np.all(np.abs(np.cov(x.T).reshape(error.shape) - covariances[t]) < SIGMAS * error + slack**2)


def check_against_dense(tree, X, Y, C=None):
    """log p(y_t) and P(I(t)=1) of some sampled draws against the dense twin at the sampled hyperparameters."""
    for draw in range(0, tree["posterior"].sizes["draw"], 40):
        one = tree["posterior"].to_dataset().isel(chain=draw // 40 % 2, draw=draw)
        theta = Params(
            tau1=float(one["tau1"]),
            beta=one["beta"].to_numpy(),
            eta=float(one["eta"]),
            sigma2=float(one["sigma2"]),
            slab=float(one["alpha"]) if "alpha" in one else "g",
        )
        args = X, Y, theta, C
        want = np.logaddexp(np.log(theta.tau1) + dense.log_slab(*args), np.log(theta.tau0) + dense.log_null(*args))
        got = tree["log_likelihood"]["Y"].isel(chain=draw // 40 % 2, draw=draw)
        np.testing.assert_allclose(got, want, rtol=EXACT)
        np.testing.assert_allclose(one["probability"], dense.posterior_probability(*args), rtol=EXACT)


def test_sampled_draws_are_recovered_as_the_dense_twin_says(tree):
    X, Y = (frame.to_numpy() for frame in named())
    check_against_dense(tree, X, Y, np.ones((16, 1)))


# Priors --------------------------------------------------------------------------------------------------------------


def test_log_prior_is_scipys(tree):
    posterior, log_prior = tree["posterior"].to_dataset(), tree["log_prior"].to_dataset()
    assert set(log_prior) == {"tau1", "noise", "shrinkage", "signal"}
    X, Y = (frame.to_numpy() for frame in named())
    C = np.ones((16, 1))
    contrasts = [y for _, y in dense.tissues(X, Y, C)]
    scale2 = sum(y @ y for y in contrasts) / sum(map(len, contrasts))
    np.testing.assert_allclose(log_prior["noise"], stats.lognorm(1.0).logpdf(posterior["sigma2"] / scale2), rtol=EXACT)
    np.testing.assert_allclose(log_prior["tau1"], 0.0, atol=1e-12)
    np.testing.assert_allclose(log_prior["shrinkage"], 0.0, atol=1e-12)
    XX = (X - X.mean(axis=0)).T @ (X - X.mean(axis=0))
    beta = posterior["beta"].to_numpy()
    w2 = np.einsum("cdi,ij,cdj->cd", beta, XX, beta) / (15 / 2 * posterior["sigma2"].to_numpy())
    np.testing.assert_allclose(log_prior["signal"].sum("direction"), -np.log(2 * np.pi) - w2 / 2, rtol=EXACT)


def test_log_prior_of_own_priors(make_case):
    case = make_case("missing", "g")
    own = WEAK.with_(
        beta=Prior("Normal", mu=0, sigma=2), eta=Prior("HalfNormal", sigma=3), alpha=Prior("Normal", mu=1, sigma=2)
    )
    _, posterior = given(case, [-1.0, 0.5], 1)
    posterior["noise"] = posterior["sigma2"] / 2.0
    got = _log_prior(pose(case.X, case.Y, "power", "free", own.with_(scale=np.sqrt(2.0))), posterior)
    assert set(got) == {"tau1", "noise", "eta", "beta", "alpha"}
    np.testing.assert_allclose(got["beta"], stats.norm(0, 2).logpdf(posterior["beta"]), rtol=EXACT)
    np.testing.assert_allclose(got["eta"], stats.halfnorm(0, 3).logpdf(posterior["eta"]), rtol=EXACT)
    np.testing.assert_allclose(got["alpha"], stats.norm(1, 2).logpdf(posterior["alpha"]), rtol=EXACT)


@pytest.mark.parametrize(
    ("slab", "mean"), [("g", "free"), ("g", "hierarchical"), ("independent", "free"), ("power", "free"),
                       ("power", "hierarchical")]
)  # fmt: skip
def test_draws_from_the_prior(slab, mean):
    """Every version of every parameter has its own distribution, computed back from the parameters themselves."""
    rng = np.random.default_rng(2)
    X, Y = rng.standard_normal((20, 3)) * [1, 2, 4], 3.0 * rng.standard_normal((20, 5))
    prior = draw_prior(pose(X, Y, slab, mean, "weak"), 1500, 11).isel(chain=0)
    tau1, eta, sigma2, beta = (prior[name].to_numpy() for name in ("tau1", "eta", "sigma2", "beta"))
    active, effects = prior["active"].to_numpy(), prior["effects"].to_numpy()
    powers = prior["alpha"].to_numpy() if slab == "power" else np.full(1500, {"g": 1.0, "independent": 0.0}[slab])
    shapes = [dense.slab_shape(X, Params(tau1=0.5, beta=beta[0], eta=1, sigma2=1, slab=slab if slab != "power" else a))
              for a in powers]  # fmt: skip
    dbar = np.array([np.trace(X @ S @ X.T) / 3 for S in shapes])
    inverse = np.array([np.linalg.inv(S) for S in shapes])
    gamma2 = np.einsum("di,dij,dj->d", beta, inverse, beta)

    def follows(values, distribution):
        assert stats.kstest(values, distribution.cdf).pvalue > UNLIKELY

    follows(tau1, stats.uniform())
    follows(sigma2 / np.mean(Y**2), stats.lognorm(1.0))
    follows(eta * dbar / (eta * dbar + sigma2), stats.uniform())
    if mean == "free":
        follows(gamma2 / (20 / 3 * sigma2 / dbar), stats.chi2(3))
    else:
        kappa = prior["kappa"].to_numpy()
        follows(kappa * dbar / (kappa * dbar + sigma2), stats.uniform())
        follows(gamma2 / kappa, stats.chi2(3))
    if slab == "power":
        follows(prior["alpha"].to_numpy(), stats.norm(0, 1.5))
    share, error = active.mean() - tau1.mean(), np.sqrt(np.mean(tau1 * (1 - tau1)) / active.size)
    assert abs(share) < SIGMAS * error
    deviation = effects - beta[:, None]
    distance = np.einsum("dti,dij,dtj->dt", deviation, inverse, deviation) / eta[:, None]
    first = [row[on == 1][0] for row, on in zip(distance, active, strict=True) if on.any()]  # independent over draws
    follows(np.array(first), stats.chi2(3))
    assert not effects[active == 0].any()


# Predictions ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("covariates", [False, True])
def test_predicted_responses_have_their_moments(covariates):
    """At one beta(t), with P the projection on C: mean P y + (I - P) X beta(t), covariance sigma2 (I + P)."""
    rng = np.random.default_rng(3)
    X, Y = rng.standard_normal((9, 2)), rng.standard_normal((9, 3)) + 4.0
    Y[rng.random((9, 3)) < 0.2] = np.nan
    C = np.column_stack([np.ones(9), rng.standard_normal(9)]) if covariates else np.empty((9, 0))
    problem, size = pose(X, Y, "g", "free", "weak", C if covariates else None), 6000
    effects = rng.standard_normal((3, 2))
    posterior = xr.Dataset(
        {"effects": (("chain", "draw", "tissue", "snp"), np.broadcast_to(effects, (1, size, 3, 2))),
         "sigma2": (("chain", "draw"), np.full((1, size), 2.0))},
        {"chain": [0], "draw": np.arange(size)},
    )  # fmt: skip
    Y_new = _predict(problem, posterior, size, np.random.default_rng(4))["Y"].to_numpy()[0]
    np.testing.assert_array_equal(np.isnan(Y_new[0]), np.isnan(Y))
    for t in range(3):
        rows = ~np.isnan(Y[:, t])
        P = C[rows] @ np.linalg.pinv(C[rows]) if covariates else np.zeros((rows.sum(), rows.sum()))
        want = P @ Y[rows, t] + (np.eye(len(P)) - P) @ X[rows] @ effects[t]
        covariance = 2.0 * (np.eye(len(P)) + P)
        got = Y_new[:, rows, t]
        assert np.all(np.abs(got.mean(axis=0) - want) < SIGMAS * np.sqrt(covariance.diagonal() / size))
        error = np.sqrt((np.outer(covariance.diagonal(), covariance.diagonal()) + covariance**2) / size)
        assert np.all(np.abs(np.cov(got.T) - covariance) < SIGMAS * error)


# The tree ------------------------------------------------------------------------------------------------------------

GROUPS = {
    "posterior": {"tau1": (), "beta": ("snp",), "eta": (), "sigma2": (), "active": ("tissue",),
                  "effects": ("tissue", "snp"), "probability": ("tissue",)},
    "log_likelihood": {"Y": ("tissue",)},
    "posterior_predictive": {"Y": None},
    "prior": {"tau1": (), "beta": ("snp",), "eta": (), "sigma2": (), "active": ("tissue",),
              "effects": ("tissue", "snp")},
}  # fmt: skip


def test_groups_dimensions_and_names(tree):
    X, Y = named()
    for group, variables in GROUPS.items():
        assert set(tree[group].data_vars) == set(variables)
        for name, dims in variables.items():
            if dims is not None:
                assert tree[group][name].dims == ("chain", "draw", *dims)
    assert set(tree.children) == {*GROUPS, "log_prior", "sample_stats", "observed_data", "constant_data"}
    for group in ("posterior", "prior", "log_likelihood", "observed_data"):
        assert list(tree[group]["tissue"].to_numpy()) == list(Y.columns)
    assert list(tree["posterior"]["snp"].to_numpy()) == list(X.columns)
    np.testing.assert_array_equal(tree["constant_data"]["X"], X)
    np.testing.assert_array_equal(tree["constant_data"]["covariates"], np.ones((16, 1)))
    np.testing.assert_array_equal(tree["observed_data"]["Y"], Y)
    assert tree["posterior_predictive"].sizes["draw"] == 100
    missing = np.isnan(Y.to_numpy())
    np.testing.assert_array_equal(np.isnan(tree["posterior_predictive"]["Y"].to_numpy()[1, 7]), missing)
    assert {"slab": "g", "mean": "free", "form": "marginal", "seed": 3}.items() <= tree.attrs.items()
    assert tree.attrs["verdict"].startswith(("Sound", "Not sound"))


def equal(one, two):
    for group in one.children:
        for name, variable in one[group].data_vars.items():
            xr.testing.assert_equal(variable, two[group][name])


def test_same_seed_same_draws_whatever_the_cores(tree):
    X, Y = named()
    again = sample(X, Y, intercept=True, draws=400, tune=400, cores=2)
    equal(tree, again)
    other = sample(X, Y, intercept=True, draws=400, tune=400, seed=4)
    assert not np.array_equal(other["posterior"]["tau1"], tree["posterior"]["tau1"])
    assert not np.array_equal(other["prior"]["tau1"], tree["prior"]["tau1"])


def test_a_compiled_model_takes_other_data(tree):
    """Compiled once for the shape: other data, other draws; and the first data again, the first draws again."""
    shifted = sample(*named(seed=8), intercept=True, draws=400, tune=400)
    assert not np.array_equal(shifted["posterior"]["tau1"], tree["posterior"]["tau1"])
    X, Y = named(constant=-1e3)  # the intercept takes it
    moved = sample(X, Y, intercept=True, draws=400, tune=400)
    np.testing.assert_allclose(moved["posterior"]["tau1"].mean(), tree["posterior"]["tau1"].mean(), atol=0.05)


def test_files_give_back_what_they_were_given(tree, tmp_path):
    tree.to_netcdf(tmp_path / "draws.nc")
    with xr.open_datatree(tmp_path / "draws.nc") as back:
        equal(tree, back.load())
        assert back.attrs["verdict"] == tree.attrs["verdict"]


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")  # ArviZ's, of P(I=1) that rounds to 1
@pytest.mark.filterwarnings("ignore:Estimated shape parameter of Pareto:UserWarning")  # true: there are four tissues
def test_arviz_reads_the_draws(tree):
    hyper = ["tau1", "beta", "eta", "sigma2"]
    summary = az.summary(tree)
    assert {"tau1", "beta[rs1]", "effects[lung, rs2]"} <= set(summary.index)
    loo = az.loo(tree, pointwise=True)
    assert loo.elpd_i.dims == ("tissue",)
    sensitivity = az.psense_summary(tree, var_names=hyper)
    assert sensitivity[["prior", "likelihood"]].notna().all(axis=None)
    for plot in (
        lambda: az.plot_pair(tree, var_names=hyper),
        lambda: az.plot_forest(tree, var_names=["effects"]),
        lambda: az.plot_trace(tree, var_names=["tau1"]),
        lambda: az.plot_prior_posterior(tree, var_names=["tau1", "sigma2"]),
    ):
        assert plot() is not None
    mpl.pyplot.close("all")


@pytest.mark.xfail(raises=ValueError, reason="ArviZ stacks chains and draws into a dimension that it calls sample, too")
def test_arviz_plots_predictions(tree):
    az.plot_ppc_dist(tree)


def test_arviz_plots_predictions_with_samples_called_otherwise(tree):
    groups = {
        name: tree[name].to_dataset().rename(sample="donor") for name in ("posterior_predictive", "observed_data")
    }
    assert az.plot_ppc_dist(xr.DataTree.from_dict(groups)) is not None
    mpl.pyplot.close("all")


# Other witnesses of the posterior ------------------------------------------------------------------------------------


def quadrature(X, Y):
    """Posterior means for one SNP and complete data under the default priors, by quadrature over dense likelihoods."""
    n, m = Y.shape

    def legendre(k, low, high):
        node, weight = np.polynomial.legendre.leggauss(k)
        return low + (high - low) * (node + 1) / 2, weight * (high - low) / 2

    u, u_weight = legendre(60, 0, 1)
    noise, noise_weight = legendre(60, -4, 3)  # log of sigma2 over the mean square
    w, w_weight = legendre(80, -6, 6)
    tau1, tau1_weight = legendre(8, 0, 1)  # exact: the likelihood is a polynomial in tau1
    sigma2 = np.exp(noise)[:, None] * np.mean(Y**2) + 0 * u
    eta = u / (1 - u) * sigma2
    H = X @ X.T / (X.T @ X)
    Omega = sigma2[..., None, None] * np.eye(n) + eta[..., None, None] * H
    beta = w[:, None] * np.sqrt(n * sigma2.mean(axis=1) / (X.T @ X))[0]  # (w, noise)
    residual = Y.T[:, None, None] - beta[..., None] * X[:, 0]  # (tissue, w, noise, sample)
    quadratic = np.einsum("twsi,suij,twsj->twsu", residual, np.linalg.inv(Omega), residual, optimize=True)
    log_g1 = -0.5 * (n * np.log(2 * np.pi) + np.linalg.slogdet(Omega)[1] + quadratic)
    log_g0 = -0.5 * (n * np.log(2 * np.pi * sigma2) + np.sum(Y**2, axis=0)[:, None, None, None] / sigma2)
    log_g0 = np.broadcast_to(log_g0, log_g1.shape)
    weight = np.log(w_weight * stats.norm.pdf(w))[:, None, None] + np.log(noise_weight * stats.norm.pdf(noise))[:, None]
    weight = weight + np.log(u_weight)
    top = np.max(log_g1 + 0, axis=(1, 2, 3)), np.max(log_g0, axis=(1, 2, 3))
    most = np.maximum(*top)[:, None, None, None]
    g1, g0, base = np.exp(log_g1 - most), np.exp(log_g0 - most), np.exp(weight)
    total, sums = 0.0, dict.fromkeys(("tau1", "log eta", "log sigma2", "beta"), 0.0) | {"active": np.zeros(m)}
    for tau, part in zip(tau1, tau1_weight, strict=True):
        mixed = tau * g1 + (1 - tau) * g0
        density = part * base * mixed.prod(axis=0)
        total += density.sum()
        sums["tau1"] += tau * density.sum()
        sums["log eta"] += np.sum(density * np.log(eta))
        sums["log sigma2"] += np.sum(density * np.log(sigma2))
        sums["beta"] += np.sum(density * beta[..., None])
        sums["active"] += np.sum(density * tau * g1 / mixed, axis=(1, 2, 3))
    return {name: value / total for name, value in sums.items()}


def summarised(tree):
    """Draws of what is compared, by name; logarithms of variances, whose own means may be infinite."""
    posterior = tree["posterior"].to_dataset()
    found = {"tau1": posterior["tau1"], "log eta": np.log(posterior["eta"]), "log sigma2": np.log(posterior["sigma2"])}
    found |= {f"beta[{k}]": posterior["beta"].isel(snp=k) for k in range(posterior.sizes["snp"])}
    active = posterior["probability"] if "probability" in posterior else posterior["active"]
    for t in range(posterior.sizes["tissue"]):
        found[f"active[{t}]"] = active.isel(tissue=t)
        found[f"effect[{t}]"] = posterior["effects"].isel(tissue=t, snp=0)
    return found


def mean_and_error(draws):
    values = draws.transpose("chain", "draw").to_numpy().astype(float)
    return values.mean(), float(az.mcse(values))


def test_posterior_means_are_those_of_quadrature(narrow):
    exact = quadrature(*line())
    exact |= {f"active[{t}]": value for t, value in enumerate(exact.pop("active"))}
    exact["beta[0]"] = exact.pop("beta")
    draws = summarised(narrow)
    scores = {}
    for name, want in exact.items():
        mean, error = mean_and_error(draws[name])
        scores[name] = (mean - want) / error
        assert error < 0.1
    print("\n", {name: round(score, 2) for name, score in scores.items()})
    assert max(map(abs, scores.values())) < 4.0


@pytest.mark.statistical
@pytest.mark.parametrize("which", ["line", "named"])
def test_the_latent_form_has_the_same_posterior(which, narrow):
    """Metropolis-within-Gibbs on equations (1), (3) and (4) as printed, against NUTS with I(t) and beta(t) gone."""
    if which == "line":
        X, Y, options, marginal = *line(), {}, narrow
    else:
        X, Y = named()
        options = {"intercept": True}
        marginal = sample(X, Y, **options, draws=2000, tune=500, chains=4)
    latent = sample(X, Y, **options, form="latent", draws=4000, tune=2000, chains=4)
    assert set(latent["log_likelihood"]["Y"].dims) == {"chain", "draw", "tissue"}
    print("\n", latent.attrs["verdict"])
    ours, theirs, scores = summarised(marginal), summarised(latent), {}
    for name in ours:
        (one, one_error), (two, two_error) = mean_and_error(ours[name]), mean_and_error(theirs[name])
        scores[name] = (one - two) / max(np.hypot(one_error, two_error), 1e-9)
    print({name: round(score, 2) for name, score in scores.items()})
    assert max(map(abs, scores.values())) < 4.5


# Odd data ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["none", "all"])
def test_all_tissues_null_and_all_active(kind, narrow):
    draws = sample(*line(kind, n=40), draws=400, chains=2)
    assert draws.attrs["verdict"].startswith(("Sound", "Not sound"))
    share = float(draws["posterior"]["probability"].mean())
    assert share > 0.95 if kind == "all" else share < 0.5


@pytest.mark.statistical  # a shape of its own to compile
def test_wide_collinear_unobserved_and_hardly_observed():
    X, Y = awkward()
    draws = sample(X, Y, slab="independent")
    assert draws.attrs["verdict"].startswith(("Sound", "Not sound"))
    posterior = draws["posterior"].to_dataset()
    assert all(np.isfinite(posterior[name]).all() for name in posterior)
    # a tissue without data knows what the others tell it
    np.testing.assert_allclose(posterior["probability"].isel(tissue=1), posterior["tau1"], rtol=1e-9)
    np.testing.assert_allclose(draws["log_likelihood"]["Y"].isel(tissue=1), 0.0, atol=1e-12)
    np.testing.assert_allclose(posterior["beta"].isel(snp=0), posterior["beta"].isel(snp=8), rtol=1e-6, atol=1e-9)
    assert draws["posterior_predictive"]["Y"].isel(tissue=1).isnull().all()  # noqa: PD003 - xarray's


@pytest.mark.parametrize(("chains", "size"), [(1, 1), (1, 3), (2, 2)])
def test_draws_too_few_to_judge_are_no_crash(narrow, chains, size):
    draws = sample(*line(), draws=size, tune=1, chains=chains)
    assert draws.attrs["verdict"].startswith("Not sound. ")


@pytest.mark.parametrize("options", [{"draws": 0}, {"chains": 0}, {"tune": -1}])
def test_no_draws(options):
    with pytest.raises(InputError, match=r"expected .*, got .*, in draws, tune, chains; do "):
        sample(*line(), **options)


@pytest.mark.statistical
@pytest.mark.parametrize("mean", ["free", "hierarchical"])
def test_one_snp_and_one_tissue(mean):
    X, Y = line()
    draws = sample(X, Y[:, 1:2], mean=mean)
    assert draws.attrs["verdict"].startswith(("Sound", "Not sound"))
    assert draws["posterior"].sizes["tissue"] == 1


@pytest.mark.statistical
def test_the_power_is_sampled_with_the_rest():
    rng = np.random.default_rng(9)
    X = rng.standard_normal((20, 2)) * [1, 3]
    Y = X @ rng.standard_normal((2, 4)) + rng.standard_normal((20, 4))
    draws = sample(X, Y, slab="power", draws=300, tune=400)
    check_against_dense(draws, X, Y)
    assert {"alpha", "kappa"} & set(draws["posterior"].data_vars) == {"alpha"}
    assert set(draws["log_prior"].data_vars) == {"tau1", "noise", "shrinkage", "signal", "alpha"}


# Interrupts ----------------------------------------------------------------------------------------------------------


def test_an_interrupt_ends_nutpie(monkeypatch):
    """It would return the draws that it has, as if they were all."""
    import nutpie  # noqa: F401 - its module is loaded

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules["nutpie.sample"]._BackgroundSampler, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ebmodel.sample(*line(), draws=20, tune=20, chains=2, progress=False)


@pytest.fixture
def listening():
    """SIGINT as a program at a terminal has it; a job in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("listening")
@pytest.mark.parametrize("chains", [1, 2])
def test_an_interrupt_ends_pymc(monkeypatch, chains):
    """It would end one chain, go on to the next, and return what there is."""

    def as_pymc_does(**settings):
        for _ in range(settings["chains"]):
            with contextlib.suppress(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(5.0)
        raise AssertionError

    monkeypatch.setattr("pymc.sample", as_pymc_does)
    with pytest.raises(KeyboardInterrupt):
        ebmodel.sample(*line(), form="latent", draws=20, tune=20, chains=chains, progress=False)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
