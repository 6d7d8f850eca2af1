"""The bootstrap's draws are those of the posterior given Y at refitted parameters, which scatter as they should."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import arviz as az
import numpy as np
import pytest
import xarray as xr

import ebmodel
from ebmodel import InputError, Params
from ebmodel.bootstrapping import redraw
from ebmodel.data import project_out

THETA = Params(tau1=0.5, beta=[0.4, -0.2], eta=6.0, sigma2=1.0)
M = 12
OVER = ("chain", "draw")


def fitted(covariates: bool = False, missing: float = 0.0, **options: Any) -> ebmodel.Fit:
    """Twelve tissues, two SNPs, effects of doubtful size; an intercept and two covariates if wanted."""
    gene = ebmodel.simulate.model_true(THETA, n=40, m=M, missing=missing, seed=20)
    if not covariates:
        return ebmodel.fit(gene.X, gene.Y, **options)
    rng = np.random.default_rng([0, 4])
    C = gene["X"].to_numpy() @ [[0.6, 0.0], [0.0, 0.2]] + rng.standard_normal((40, 2))
    Y = gene["Y"] + 5.0 + (C @ rng.standard_normal((2, M)))
    return ebmodel.fit(gene.X, Y, covariates=C, intercept=True, **options)


@pytest.fixture(scope="module", params=["complete", "missing", "covariates"])
def fit(request: pytest.FixtureRequest) -> ebmodel.Fit:
    return fitted(covariates=request.param == "covariates", missing=0.0 if request.param == "complete" else 0.2)


def run(fit: ebmodel.Fit, replicates: int = 6, draws: int = 5, **options: Any) -> xr.DataTree:
    return ebmodel.bootstrap(fit, replicates, draws, **({"n_starts": 4, "progress": False} | options))


def thetas(tree: xr.DataTree, slab: Any = "g") -> list[Params]:
    """The parameters of every replicate."""
    firsts = tree["posterior"].to_dataset().isel(chain=0).groupby("replicate").first()
    return [
        Params(
            tau1=float(one.tau1),
            beta=one.beta.to_numpy(),
            eta=float(one.eta),
            sigma2=float(one.sigma2),
            slab=float(one.alpha) if "alpha" in one else slab,
        )
        for _, one in firsts.groupby("replicate", squeeze=False)
        for one in [one.squeeze("replicate")]
    ]


def test_tissues_keep_error_variances_of_their_own() -> None:
    gene = ebmodel.simulate.violated("unequal-variances", 1.0, THETA, n=40, m=M, missing=0.2, seed=20)
    fit = ebmodel.fit(gene.X, gene.Y, errors="unequal")
    tree = run(fit, replicates=4, draws=2)
    posterior = tree["posterior"].to_dataset().isel(chain=0, draw=slice(None, None, 2))
    spread = np.log(posterior["error_variance"]) - np.log(fit.error_variance)
    assert 0.05 < float(np.abs(spread).mean()) < 0.5  # log s^2 has an sd of (2/30)^(1/2) = 0.26
    for b, theta in enumerate(thetas(tree)):
        omega = posterior["error_variance"][b].to_numpy() / theta.sigma2
        found = at(fit, dataclasses.replace(theta, relative_variance=omega)).posterior_probability
        np.testing.assert_allclose(posterior["probability"][b], found, rtol=1e-9)


def at(fit: ebmodel.Fit, theta: Params) -> ebmodel.Fit:
    """The posterior given the fit's data at other parameters."""
    return ebmodel.oracle(fit.dataset.X, fit.dataset.Y, theta, covariates=fit.dataset.get("covariates"))


# Layout --------------------------------------------------------------------------------------------------------------


def test_as_many_draws_as_asked_laid_out_for_arviz(fit: ebmodel.Fit) -> None:
    tree = run(fit, 20, 30)
    posterior = tree["posterior"]
    assert dict(posterior.sizes) == {"chain": 1, "draw": 600, "snp": 2, "tissue": M}
    np.testing.assert_array_equal(posterior["replicate"], np.repeat(np.arange(20), 30))
    dims = {name: value.dims[2:] for name, value in posterior.data_vars.items()}
    assert dims == {
        "tau1": (), "beta": ("snp",), "eta": (), "sigma2": (),
        "active": ("tissue",), "probability": ("tissue",), "effects": ("tissue", "snp"),
    }  # fmt: skip
    assert {"observed_data", "constant_data", "fit"} <= set(tree.children)
    assert ((posterior["effects"] == 0).all("snp") == (posterior["active"] == 0)).all()
    summary = az.summary(tree, var_names=["tau1", "effects"], round_to="none")
    assert len(summary) == 1 + 2 * M
    # replicates, not draws, are what is known of tau1
    assert summary.loc["tau1", "ess_bulk"] < 100 < az.ess(tree, var_names=["effects"])["effects"].max()


def test_a_tree_can_be_stored(fit: ebmodel.Fit, tmp_path: Path) -> None:
    tree = run(fit)
    tree.to_netcdf(tmp_path / "tree.nc", engine="h5netcdf")
    with xr.open_datatree(tmp_path / "tree.nc", engine="h5netcdf") as again:
        xr.testing.assert_equal(again["posterior"].to_dataset(), tree["posterior"].to_dataset())


def test_draws_repeat_with_their_seed_whatever_the_jobs(fit: ebmodel.Fit) -> None:
    first, again, parallel, other, more = (
        run(fit, replicates, seed=seed, jobs=jobs)["posterior"].to_dataset()
        for replicates, seed, jobs in ((6, 1, 1), (6, 1, 1), (6, 1, 2), (6, 2, 1), (8, 1, 1))
    )
    xr.testing.assert_identical(first, again)
    xr.testing.assert_identical(first, parallel)
    assert not first.equals(other)
    xr.testing.assert_equal(first, more.isel(draw=slice(first.sizes["draw"])))


def test_progress_goes_to_stderr(fit: ebmodel.Fit, capsys: pytest.CaptureFixture[str]) -> None:
    run(fit, progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "bootstrap" in err
    assert "6/6" in err


# The draws -----------------------------------------------------------------------------------------------------------


def test_probabilities_are_given_the_original_responses_at_each_theta(fit: ebmodel.Fit) -> None:
    tree = run(fit)
    probability = tree["posterior"]["probability"].isel(chain=0)
    assert len(thetas(tree)) == 6
    for b, theta in enumerate(thetas(tree)):
        expected = at(fit, theta).posterior_probability
        for one in probability[probability["replicate"] == b]:
            np.testing.assert_allclose(one, expected, rtol=1e-9)


def test_the_mixture_has_the_moments_of_posteriors_at_stored_thetas(fit: ebmodel.Fit) -> None:
    tree = run(fit, 6, 3000, seed=5)
    effects, each = tree["posterior"]["effects"].isel(chain=0), 3000
    exact = [at(fit, theta) for theta in thetas(tree)]
    mean = sum(one.effects for one in exact) / 6
    square = sum(one.effects_sd**2 + one.effects**2 for one in exact) / 6
    bound = 4.5
    error = np.sqrt(sum(one.effects_sd**2 for one in exact) / each) / 6
    assert (abs(effects.mean("draw") - mean) <= bound * error + 1e-12).all()
    error = (effects**2).std("draw") / np.sqrt(6 * each)
    assert (abs((effects**2).mean("draw") - square) <= bound * error + 1e-3).all()


def test_at_the_fit_itself_it_is_the_plug_in_posterior(fit: ebmodel.Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ebmodel.fitting.fit", lambda *_, **__: fit)
    posterior = run(fit, 10, 2000)["posterior"]
    h, number = fit.posterior_probability, 20_000
    assert (posterior["tau1"] == fit.params.tau1).all()
    np.testing.assert_allclose(posterior["probability"].isel(chain=0, draw=7), h, rtol=1e-12)
    bound = 4.5
    assert (abs(posterior["active"].mean(OVER) - h) <= bound * np.sqrt(h * (1 - h) / number) + 1e-12).all()
    effects = posterior["effects"]
    assert (abs(effects.mean(OVER) - fit.effects) <= bound * fit.effects_sd / np.sqrt(number) + 1e-12).all()
    square = (effects - fit.effects) ** 2
    assert (abs(square.mean(OVER) - fit.effects_sd**2) <= bound * square.std(OVER) / np.sqrt(number) + 1e-3).all()


def test_it_is_wider_than_the_plug_in_posterior() -> None:
    """Averaged over tissues, the uncertainty of beta, eta and tau1 adds to the sd."""
    fit = fitted()
    sd = run(fit, 50, 50)["posterior"]["effects"].std(OVER)
    assert float(sd.mean()) > 1.05 * float(fit.effects_sd.mean())


@pytest.mark.parametrize("slab", ["independent", -0.5, np.diag([1.0, 3.0])], ids=["independent", "power", "matrix"])
def test_other_slabs_are_kept(slab: Any) -> None:
    fit = fitted(missing=0.2, slab=slab)
    tree = run(fit, 3)
    assert "alpha" not in tree["posterior"]
    for b, theta in enumerate(thetas(tree, slab)):
        one = tree["posterior"]["probability"].isel(chain=0, draw=5 * b)
        np.testing.assert_allclose(one, at(fit, theta).posterior_probability, rtol=1e-9)


def test_a_learned_power_is_learned_again() -> None:
    fit = fitted(slab="power", n_starts=4)
    tree = run(fit, 3, slab="power")
    assert len(np.unique(tree["posterior"]["alpha"])) > 1
    for b, theta in enumerate(thetas(tree)):
        one = tree["posterior"]["probability"].isel(chain=0, draw=5 * b)
        np.testing.assert_allclose(one, at(fit, theta).posterior_probability, rtol=1e-9)


def test_no_active_tissue_leaves_nothing_to_draw() -> None:
    fit = fitted()
    none = at(fit, Params(tau1=0.0, beta=[0.0, 0.0], eta=0.0, sigma2=1.0))
    drawn = redraw(none, 1)
    assert drawn.notnull().all()
    assert run(none)["posterior"].attrs["failed"] == 0


# The data sets drawn -------------------------------------------------------------------------------------------------


def test_drawn_responses_are_missing_where_the_originals_are(fit: ebmodel.Fit) -> None:
    drawn = redraw(fit, 1)
    assert drawn.dims == ("sample", "tissue")
    np.testing.assert_array_equal(drawn.isnull(), fit.dataset.Y.isnull())
    assert (drawn.sample == fit.dataset.sample).all()
    assert not drawn.equals(redraw(fit, 2))


def test_contrasts_of_drawn_responses_are_those_of_the_effects() -> None:
    """With all tissues active, one effect for all and hardly any noise, contrasts of Y* are those of X beta."""
    fit = fitted(covariates=True, missing=0.2)
    theta = Params(tau1=1.0, beta=[0.5, -0.3], eta=0.0, sigma2=1e-20)
    drawn = redraw(at(fit, theta), 1).to_numpy()
    X, C = fit.dataset.X.to_numpy(), fit.dataset.covariates.to_numpy()
    for y in drawn.T:
        seen = ~np.isnan(y)
        (got, expected), _ = project_out(C[seen], y[seen], X[seen] @ theta.beta)
        np.testing.assert_allclose(got, expected, atol=1e-8)


def simulate_by_hand(fit: ebmodel.Fit, rng: np.random.Generator) -> Any:
    """Responses of the fitted model written out, equations (1), (3) and (4), with covariates of some effect."""
    ds, theta = fit.dataset, fit.params
    X, n, m = ds.X.to_numpy(), ds.sizes["sample"], ds.sizes["tissue"]
    C = ds.covariates.to_numpy() if "covariates" in ds else np.zeros((n, 1))
    beside = X - C @ np.linalg.pinv(C) @ X
    root = np.linalg.cholesky(np.linalg.inv(beside.T @ beside))
    effects = theta.beta.to_numpy()[:, None] + np.sqrt(theta.eta) * root @ rng.standard_normal((2, m))
    effects[:, rng.random(m) >= theta.tau1] = 0.0
    Y = X @ effects + C @ rng.standard_normal((C.shape[1], m)) + np.sqrt(theta.sigma2) * rng.standard_normal((n, m))
    return np.where(ds.Y.isnull(), np.nan, Y)


def test_refitted_parameters_scatter_as_in_a_simulation_by_hand(fit: ebmodel.Fit) -> None:
    number, rng, ds = 100, np.random.default_rng(11), fit.dataset
    by_hand = [
        ebmodel.fit(ds.X, simulate_by_hand(fit, rng), covariates=ds.get("covariates"), n_starts=8).params
        for _ in range(number)
    ]
    refitted = thetas(run(fit, number, 1, n_starts=8, seed=6))
    for name in ("tau1", "eta", "sigma2"):
        one, other = (np.array([getattr(theta, name) for theta in every]) for every in (by_hand, refitted))
        difference = abs(one.mean() - other.mean())
        assert difference <= 4.5 * np.sqrt((one.var() + other.var()) / number)
        squares = [(values - values.mean()) ** 2 for values in (one, other)]
        difference = abs(squares[0].mean() - squares[1].mean())
        assert difference <= 4.5 * np.sqrt(sum(values.var() for values in squares) / number)


# Refusals ------------------------------------------------------------------------------------------------------------


def test_data_sets_that_cannot_be_fitted_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    original, fit = ebmodel.fit, fitted()
    complete = run(fit)["posterior"]
    calls = iter(range(100))

    def sometimes(*arguments: Any, **options: Any) -> ebmodel.Fit:
        if next(calls) in (1, 4):
            raise InputError("responses with noise", "an exact fit", "expression", "check them")
        return original(*arguments, **options)

    monkeypatch.setattr("ebmodel.fitting.fit", sometimes)
    posterior = run(fit)["posterior"]
    assert posterior.attrs["replicates"] == 6
    assert posterior.attrs["failed"] == 2
    assert "expected responses with noise, got an exact fit" in posterior.attrs["failure"]
    np.testing.assert_array_equal(posterior["replicate"], np.repeat([0, 2, 3, 5], 5))
    kept = complete.to_dataset().isel(draw=np.isin(complete["replicate"], [0, 2, 3, 5]))
    np.testing.assert_array_equal(posterior["effects"], kept["effects"])  # the others' draws are the same


def test_steps_too_few_to_converge_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    original, fit = ebmodel.fit, fitted()
    monkeypatch.setattr("ebmodel.fitting.fit", lambda *a, **k: original(*a, **k, max_iter=1))
    assert run(fit)["posterior"].attrs["unconverged"] == 6
    monkeypatch.setattr("ebmodel.fitting.fit", original)
    assert run(fit)["posterior"].attrs["unconverged"] == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"replicates": 0}, "expected at least 1, got 0, 5 and 4, in replicates, draws and n_starts"),
        ({"draws": 0}, "expected at least 1, got 6, 0 and 4"),
        ({"n_starts": 0}, "expected at least 1, got 6, 5 and 0"),
        ({"jobs": 0}, "expected a number of processes, or -1 for all cores, got 0, in jobs"),
        ({"slab": "round"}, "got 'round', in slab"),
        ({"slab": np.eye(3)}, "expected data that can be fitted, got .*a symmetric 2 x 2 matrix"),
    ],
)
def test_bad_arguments_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        run(fitted(), **options)
