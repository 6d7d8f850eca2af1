"""A fit keeps its names, survives NetCDF and Zarr unchanged, feeds ArviZ, and predicts in the units of Y."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import ebmodel
from ebmodel import InputError, dense

SAMPLES = [f"donor{i}" for i in range(40)]
SNPS = ["rs1", "rs2", "rs3"]
TISSUES = ["liver", "lung", "heart", "brain", "skin", "blood", "colon", "testis"]
ACTIVE = [True, True, True, False, False, False, False, False]


def gene(missing: float = 0.2, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Genotypes, expression of three active and five inactive tissues, and an age and a sex that matter."""
    rng = np.random.default_rng(seed)
    X = rng.integers(0, 3, (40, 3)).astype(float)
    C = pd.DataFrame({"age": rng.normal(5, 1, 40), "sex": rng.choice(["F", "M"], 40)}, SAMPLES)
    Y = np.outer(X @ [1.0, -0.6, 0.3], ACTIVE) + rng.standard_normal((40, 8))
    Y += 20 + 2 * C[["age"]].to_numpy() + 3 * (C[["sex"]] == "F").to_numpy()
    Y[rng.random((40, 8)) < missing] = np.nan
    return pd.DataFrame(X, SAMPLES, SNPS), pd.DataFrame(Y, SAMPLES, TISSUES), C


@pytest.fixture(scope="module")
def fitted() -> ebmodel.Fit:
    X, Y, C = gene()
    return ebmodel.fit(X, Y, covariates=C, intercept=True)


@pytest.mark.parametrize("kind", ["pandas", "xarray"])
def test_names_are_kept_throughout(kind: str) -> None:
    X, Y, C = gene()
    tables = (X, Y) if kind == "pandas" else (
        xr.DataArray(X, dims=("sample", "snp")), xr.DataArray(Y, dims=("sample", "tissue"))
    )  # fmt: skip
    fit = ebmodel.fit(*tables, covariates=C, intercept=True)
    for value in (fit.effects, fit.effects_sd, fit.lfsr, fit.ols):
        assert value.dims == ("tissue", "snp")
        assert value.snp.to_numpy().tolist() == SNPS
    for value in (fit.effects, fit.posterior_probability, fit.log_bayes_factor, fit.dataset.n):
        assert value.tissue.to_numpy().tolist() == TISSUES
    assert fit.params.beta.snp.to_numpy().tolist() == SNPS
    assert fit.dataset.Y.sample.to_numpy().tolist() == SAMPLES
    assert fit.predict(X, C).tissue.to_numpy().tolist() == TISSUES


def test_unnamed_arrays_give_the_same_numbers_and_plain_names(fitted: ebmodel.Fit) -> None:
    X, Y, C = gene()
    fit = ebmodel.fit(X.to_numpy(), Y.to_numpy(), covariates=C, intercept=True)
    np.testing.assert_allclose(fit.effects, fitted.effects, rtol=1e-12)
    assert fit.effects.snp.to_numpy().tolist() == ["snp0", "snp1", "snp2"]
    assert fit.effects.tissue.to_numpy().tolist() == [f"tissue{t}" for t in range(8)]
    assert fit.dataset.sample.to_numpy().tolist() == list(range(40))


def test_data_that_show_effects_are_called_right(fitted: ebmodel.Fit) -> None:
    assert (fitted.posterior_probability.to_numpy() > 0.5).tolist() == ACTIVE


def write(fit: ebmodel.Fit, path: Path) -> ebmodel.Fit:
    (fit.to_zarr if path.suffix == ".zarr" else fit.to_netcdf)(path)
    return ebmodel.open_fit(path)


@pytest.mark.parametrize("name", ["fit.nc", "fit.zarr"])
@pytest.mark.parametrize("slab", ["g", -0.5, np.diag([1.0, 2.0, 3.0])], ids=["g", "power", "matrix"])
@pytest.mark.parametrize("named", [True, False])
def test_files_give_back_the_same_fit(tmp_path: Path, name: str, slab: Any, named: bool) -> None:
    X, Y, C = gene()
    Y["blood"] = np.nan  # a tissue without data has NaN in the result
    tables = (X, Y) if named else (X.to_numpy(), Y.to_numpy())
    fit = ebmodel.fit(*tables, slab=slab, covariates=C if named else None, intercept=True, n_starts=3)
    back = write(fit, tmp_path / name)
    xr.testing.assert_identical(back.dataset, fit.dataset)
    assert {k: v.dtype.kind for k, v in back.dataset.data_vars.items()} == {
        k: v.dtype.kind for k, v in fit.dataset.data_vars.items()
    }
    assert back.converged == fit.converged
    assert back.status == fit.status
    np.testing.assert_array_equal(back.params.slab, fit.params.slab)
    xr.testing.assert_identical(back.to_datatree(draws=3)["posterior"].ds, fit.to_datatree(draws=3)["posterior"].ds)
    assert list(tmp_path.iterdir()) == [tmp_path / name]


@pytest.mark.parametrize("name", ["fit.nc", "fit.zarr"])
@pytest.mark.parametrize("mean", ["zero", "hierarchical"])
@pytest.mark.parametrize("slab", ["power", np.diag([1.0, 2.0, 3.0])], ids=["power", "matrix"])
def test_files_keep_what_a_prior_of_the_mean_adds(tmp_path: Path, name: str, mean: str, slab: Any) -> None:
    X, Y, C = gene()
    Y["blood"] = np.nan
    fit = ebmodel.fit(X, Y, slab, mean, covariates=C, intercept=True, n_starts=3)
    back = write(fit, tmp_path / name)
    xr.testing.assert_identical(back.dataset, fit.dataset)
    assert back.params.kappa == fit.params.kappa
    assert back.log_evidence == fit.log_evidence
    assert back.dataset.attrs["evidence"] == fit.dataset.attrs["evidence"]
    if mean == "hierarchical":
        assert fit.params.kappa is not None
        assert fit.params.kappa > 0.0
        xr.testing.assert_identical(back.beta_covariance, fit.beta_covariance)
    xr.testing.assert_identical(back.effects_interval(0.9), fit.effects_interval(0.9))
    xr.testing.assert_identical(back.to_datatree(draws=3)["posterior"].ds, fit.to_datatree(draws=3)["posterior"].ds)
    xr.testing.assert_identical(back.predict(X, C), fit.predict(X, C))


@pytest.mark.parametrize("mean", ["free", "zero", "hierarchical"])
def test_a_pickled_fit_is_the_same(mean: str) -> None:
    X, Y, C = gene()
    fit = ebmodel.fit(X, Y, mean=mean, covariates=C, intercept=True, n_starts=3)
    back = pickle.loads(pickle.dumps(fit))  # noqa: S301
    xr.testing.assert_identical(back.dataset, fit.dataset)
    assert back.params.kappa == fit.params.kappa
    xr.testing.assert_identical(back.effects_interval(), fit.effects_interval())
    xr.testing.assert_identical(back.to_datatree(draws=3)["posterior"].ds, fit.to_datatree(draws=3)["posterior"].ds)


@pytest.mark.parametrize("name", ["fit.nc", "fit.zarr"])
def test_a_second_fit_replaces_the_first(tmp_path: Path, fitted: ebmodel.Fit, name: str) -> None:
    X, Y, _ = gene(seed=1)
    write(fitted, tmp_path / name)
    other = ebmodel.fit(X[["rs1"]], Y, intercept=True, n_starts=3)
    xr.testing.assert_identical(write(other, tmp_path / name).dataset, other.dataset)


def test_what_is_no_fit_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.nc").write_text("no NetCDF")
    xr.Dataset({"a": 1}).to_netcdf(tmp_path / "other.nc", engine="h5netcdf")
    (tmp_path / "folder.zarr").mkdir()
    for name, words in [
        ("none.nc", "got no such file"),
        ("text.nc", "expected a fit"),
        ("other.nc", "got another file"),
        ("folder.zarr", "expected a fit"),
    ]:
        with pytest.raises(InputError, match=words) as caught:
            ebmodel.open_fit(tmp_path / name)
        assert "\n" not in str(caught.value)
        assert name in str(caught.value)


def test_a_fit_cannot_be_written_over_a_folder(tmp_path: Path, fitted: ebmodel.Fit) -> None:
    (tmp_path / "thesis").mkdir()
    for method in (fitted.to_netcdf, fitted.to_zarr):
        with pytest.raises(InputError, match="another folder"):
            method(tmp_path / "thesis")
    assert (tmp_path / "thesis").is_dir()


def test_repr_says_what_and_how(fitted: ebmodel.Fit) -> None:
    assert "8 tissues, 3 SNPs, 40 samples" in repr(fitted)
    assert fitted.status in repr(fitted)


# Draws ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def uncertain() -> ebmodel.Fit:
    """The posterior at known parameters on noisy data: nothing is all but certain."""
    params = ebmodel.Params(tau1=0.4, beta=[0.3, -0.2, 0.1], eta=3.0, sigma2=6.0)
    X, Y, C = gene()
    return ebmodel.oracle(X, 0.5 * Y, params, covariates=C, intercept=True)


def test_the_tree_is_laid_out_for_arviz(uncertain: ebmodel.Fit) -> None:
    az = pytest.importorskip("arviz")
    tree = uncertain.to_datatree(draws=200, seed=4)
    posterior = tree["posterior"]
    assert posterior["active"].dims == ("chain", "draw", "tissue")
    assert posterior["effects"].dims == ("chain", "draw", "tissue", "snp")
    assert {"observed_data", "constant_data", "fit"} <= set(tree.children)
    summary = az.summary(tree, round_to="none")
    assert {"active[liver]", "effects[liver, rs1]"} <= set(summary.index)
    assert len(summary) == len(TISSUES) * (len(SNPS) + 1)
    means = summary.filter(like="effects", axis=0)["mean"].astype(float)
    np.testing.assert_allclose(means, posterior["effects"].mean(("chain", "draw")).to_numpy().ravel(), atol=1e-8)


def test_draws_agree_with_moments_within_monte_carlo_error(uncertain: ebmodel.Fit) -> None:
    tree, number = uncertain.to_datatree(draws=5000, chains=4, seed=7), 20_000
    effects, active = tree["posterior"]["effects"], tree["posterior"]["active"]
    over = ("chain", "draw")
    bound = 4.5  # standard errors: 8 + 2 x 24 comparisons exceed it once in 2600 seeds
    h = uncertain.posterior_probability
    assert ((h > 0.02) & (h < 0.98)).all()
    assert (abs(active.mean(over) - h) <= bound * np.sqrt(h * (1 - h) / number)).all()
    assert (abs(effects.mean(over) - uncertain.effects) <= bound * uncertain.effects_sd / np.sqrt(number)).all()
    square = (effects - uncertain.effects) ** 2  # independent draws, whose mean estimates the variance
    assert (abs(square.mean(over) - uncertain.effects_sd**2) <= bound * square.std(over) / np.sqrt(number)).all()
    assert ((effects == 0).all("snp") == (active == 0)).all()


def test_draws_repeat_with_their_seed(fitted: ebmodel.Fit) -> None:
    first, again, other = (fitted.to_datatree(draws=10, seed=seed)["posterior"].ds for seed in (1, 1, 2))
    xr.testing.assert_identical(first, again)
    assert not first.identical(other)


# A mean that is latent -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def doubtful() -> ebmodel.Fit:
    """As `uncertain`, with a mean of the slab that three tissues say little about."""
    params = ebmodel.Params(tau1=0.4, beta=[0.0, 0.0, 0.0], eta=1.0, sigma2=6.0, kappa=20.0)
    X, Y, C = gene()
    return ebmodel.oracle(X, 0.5 * Y, params, covariates=C, intercept=True)


def arrays(fit: ebmodel.Fit) -> tuple[Any, Any, ebmodel.Params, Any]:
    """The arguments of the dense twin's functions."""
    ds = fit.dataset
    return ds["X"].to_numpy(), ds["Y"].to_numpy(), fit.params, ds["covariates"].to_numpy()


def test_beta_and_its_covariance_have_names(doubtful: ebmodel.Fit) -> None:
    S = doubtful.beta_covariance
    assert S.dims == ("snp", "snp_other")
    assert S.snp.to_numpy().tolist() == SNPS
    np.testing.assert_allclose(S, S.T, rtol=1e-12)
    X, Y, theta, C = arrays(doubtful)
    T = doubtful.posterior_probability.to_numpy()
    mu, covariance = dense.variational_mean(X, Y, theta, T, C)
    np.testing.assert_allclose(S, covariance, rtol=1e-4, atol=1e-4 * np.abs(covariance).max())
    np.testing.assert_allclose(theta.beta, mu, rtol=1e-4, atol=1e-4 * np.abs(mu).max())


def test_a_mean_that_is_a_number_has_no_covariance(fitted: ebmodel.Fit) -> None:
    X, Y, C = gene()
    zero = ebmodel.fit(X, Y, mean="zero", covariates=C, intercept=True, n_starts=3)
    for fit in (fitted, zero):
        with pytest.raises(InputError, match="expected a fit whose mean is latent, got one with a number, in Fit"):
            _ = fit.beta_covariance
    assert fitted.params.kappa is None
    assert zero.params.kappa == 0.0


def test_draws_agree_with_moments_where_the_mean_is_latent(doubtful: ebmodel.Fit) -> None:
    """The same beta in every tissue of a draw: the effects' sd, and what two active tissues share."""
    tree, number = doubtful.to_datatree(draws=10_000, chains=4, seed=7), 40_000
    effects, active = (tree["posterior"][name].to_numpy().reshape(number, 8, -1) for name in ("effects", "active"))
    active, bound = active[..., 0], 4.5  # standard errors: 8 + 2 x 24 + 9 comparisons exceed it once in 2300 seeds
    h, sd = doubtful.posterior_probability.to_numpy(), doubtful.effects_sd.to_numpy()
    assert ((h > 0.02) & (h < 0.98)).all()
    assert (abs(active.mean(0) - h) <= bound * np.sqrt(h * (1 - h) / number)).all()
    off = effects - doubtful.effects.to_numpy()
    assert (abs(off.mean(0)) <= bound * sd / np.sqrt(number)).all()
    assert (abs((off**2).mean(0) - sd**2) <= bound * (off**2).std(0) / np.sqrt(number)).all()
    # G_t = I - eta Sigma0 X_t' Omega_t^-1 X_t is what beta(t) keeps of beta: Cov(beta(t), beta(u) | both) = G_t S G_u'
    X, Y, theta, C = arrays(doubtful)
    Sigma0, S = dense.slab_shape(X, theta, C), doubtful.beta_covariance.to_numpy()
    mean, _ = dense.variational_moments(X, Y, theta, np.asarray(theta.beta), S, C)
    first, second = np.argsort(-h)[:2]
    G = []
    for X_t, y in list(dense.tissues(X, Y, C)):
        Omega = theta.sigma2 * np.eye(len(y)) + theta.eta * X_t @ Sigma0 @ X_t.T
        G.append(np.eye(3) - theta.eta * Sigma0 @ X_t.T @ np.linalg.solve(Omega, X_t))
    want = G[first] @ S @ G[second].T
    both = (active[:, first] == 1) & (active[:, second] == 1)
    products = np.einsum("di,dj->dij", *(effects[both, t] - mean[t] for t in (first, second)))
    assert (abs(products.mean(0) - want) <= bound * products.std(0) / np.sqrt(both.sum())).all()
    assert (abs(want) > 3 * bound * products.std(0) / np.sqrt(both.sum())).any()  # and it is not nothing


@pytest.mark.parametrize("level", [0.5, 0.9])
def test_intervals_hold_their_share_of_draws(doubtful: ebmodel.Fit, level: float) -> None:
    """At least the level, and no more than it beside the spike at zero."""
    ends, number = doubtful.effects_interval(level), 20_000
    effects = doubtful.to_datatree(draws=5000, chains=4, seed=3)["posterior"]["effects"]
    tolerance = 4.5 * np.sqrt(0.25 / number)  # 4 x 24 comparisons exceed it once in 1500 seeds
    tail = (1 - level) / 2
    for below, at_or_below in (
        ((effects < ends.lower).mean(("chain", "draw")), (effects <= ends.lower).mean(("chain", "draw"))),
        ((effects > ends.upper).mean(("chain", "draw")), (effects >= ends.upper).mean(("chain", "draw"))),
    ):
        assert (below <= tail + tolerance).all()
        assert (at_or_below >= tail - tolerance).all()
    inside = ((effects >= ends.lower) & (effects <= ends.upper)).mean(("chain", "draw"))
    assert (inside >= level - tolerance).all()


def test_intervals_are_wider_where_the_mean_is_latent(doubtful: ebmodel.Fit) -> None:
    X, Y, C = gene()
    known = ebmodel.oracle(X, 0.5 * Y, replace(doubtful.params, kappa=None), covariates=C, intercept=True)
    np.testing.assert_allclose(  # the same mean of each effect, were it active
        doubtful.effects / doubtful.posterior_probability, known.effects / known.posterior_probability, rtol=1e-7
    )
    slab = [fit.effects_sd**2 / fit.posterior_probability for fit in (doubtful, known)]
    rest = [
        (1 - fit.posterior_probability) * (fit.effects / fit.posterior_probability) ** 2 for fit in (doubtful, known)
    ]
    assert ((slab[0] - rest[0]) > 1.02 * (slab[1] - rest[1])).all()


@pytest.mark.parametrize(
    ("slab", "mean", "cost", "words"),
    [
        ("g", "free", 3, "log-likelihood, less half log m for each of beta (3)"),
        ("power", "free", 4, "log-likelihood, less half log m for each of beta (3), alpha"),
        (0.5, "zero", 0, "log-likelihood"),
        ("power", "zero", 1, "log-likelihood, less half log m for each of alpha"),
        ("independent", "hierarchical", 1, "variational bound on log p(Y), less half log m for each of kappa"),
        ("power", "hierarchical", 2, "variational bound on log p(Y), less half log m for each of kappa, alpha"),
    ],
)
def test_evidence_costs_half_log_m_for_a_parameter(slab: Any, mean: str, cost: int, words: str) -> None:
    X, Y, _ = gene()
    Y["blood"] = np.nan  # seven tissues with data
    fit = ebmodel.fit(X, Y, slab, mean, intercept=True, n_starts=3)
    assert fit.log_evidence == pytest.approx(fit.loglik - cost * 0.5 * np.log(7), abs=1e-9)
    assert fit.dataset.attrs["evidence"] == words


def test_collinear_snps_cost_no_more_than_they_say() -> None:
    X, Y, _ = gene()
    X["rs4"] = X["rs1"] - X["rs2"]
    fit = ebmodel.fit(X, Y - Y.mean(), n_starts=3)
    assert fit.log_evidence == pytest.approx(fit.loglik - 3 * 0.5 * np.log(8), abs=1e-9)


def test_parameters_that_are_known_cost_nothing(uncertain: ebmodel.Fit, doubtful: ebmodel.Fit) -> None:
    assert uncertain.log_evidence == uncertain.loglik
    assert doubtful.log_evidence == doubtful.loglik
    assert doubtful.dataset.attrs["evidence"] == "variational bound on log p(Y)"


# Prediction ----------------------------------------------------------------------------------------------------------


def test_prediction_adds_the_covariates_part(fitted: ebmodel.Fit) -> None:
    X, Y, C = gene()
    predicted = fitted.predict(X, C)
    design = np.column_stack([np.ones(40), C["age"], C["sex"] == "F", C["sex"] == "M"]).astype(float)
    for tissue in TISSUES:
        seen = Y[tissue].notna().to_numpy()
        genetic = X.to_numpy() @ fitted.effects.sel(tissue=tissue).to_numpy()
        coefficients = np.linalg.lstsq(design[seen], (Y[tissue] - genetic)[seen].astype(float))[0]
        np.testing.assert_allclose(predicted.sel(tissue=tissue), genetic + design @ coefficients, rtol=1e-9)
    assert predicted.dims == ("sample", "tissue")
    assert predicted.sample.to_numpy().tolist() == SAMPLES


def test_prediction_follows_names_and_not_places(fitted: ebmodel.Fit) -> None:
    X, _, C = gene()
    expected = fitted.predict(X, C)
    xr.testing.assert_allclose(fitted.predict(X[SNPS[::-1]].assign(extra=1.0), C), expected)
    xr.testing.assert_allclose(fitted.predict(X, C.iloc[::-1]), expected)
    xr.testing.assert_allclose(fitted.predict(X.iloc[::-1], C).sel(sample=SAMPLES), expected)


def test_prediction_without_covariates_is_x_times_effects() -> None:
    X, Y, _ = gene()
    fit = ebmodel.fit(X, Y - Y.mean(), n_starts=3)
    np.testing.assert_allclose(fit.predict(X), X.to_numpy() @ fit.effects.to_numpy().T, rtol=1e-12)


def test_prediction_with_an_intercept_restores_the_level() -> None:
    X, Y, _ = gene(missing=0.0)
    fit = ebmodel.fit(X, Y, intercept=True, n_starts=3)
    np.testing.assert_allclose(fit.predict(X).mean("sample"), Y.mean(), rtol=1e-12)
    low, high = fit.predict(X), ebmodel.fit(X, Y + 100, intercept=True, n_starts=3).predict(X)
    np.testing.assert_allclose(high - low, 100.0, rtol=1e-6)


def test_prediction_for_a_tissue_without_data_is_unknown_where_it_has_a_level() -> None:
    X, Y, _ = gene()
    Y["skin"] = np.nan
    predicted = ebmodel.fit(X, Y, intercept=True, n_starts=3).predict(X)
    assert np.isnan(predicted).all("sample").to_numpy().tolist() == [name == "skin" for name in TISSUES]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda X, C: (X[["rs1"]], C), "got no 'rs2', 'rs3', in genotypes"),
        (lambda X, C: (X.to_numpy()[:, :2], C), "expected 3 SNPs, got 2"),
        (lambda X, C: (X.where(X > 0), C), "missing for SNP 'rs1'"),
        (lambda X, C: (X, None), "covariates"),
        (lambda X, C: (X, C.assign(sex="X")), "levels that the fit has seen, got 'X'"),
    ],
)
def test_unusable_new_data_are_refused(fitted: ebmodel.Fit, change: Any, words: str) -> None:
    X, _, C = gene()
    with pytest.raises(InputError, match=words):
        fitted.predict(*change(X, C))
