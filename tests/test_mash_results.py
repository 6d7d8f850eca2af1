"""A fit as people use it: its names, the prior applied to other effects, and files that lose nothing."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from ebmodel import mash
from ebmodel.errors import InputError
from ebmodel.files import open_dataset
from ebmodel.mash import sharing
from tests.test_mash_fitting import NAMES, C, J, R, frames, simulate

ORDER = ["skin", "liver", "lung"]
POSTERIOR = ("mean", "sd", "lfsr", "lfdr", "negative", "positive")


@pytest.fixture(scope="module")
def data():
    return frames(*simulate(0, missing=0.1, V=C))


@pytest.fixture(scope="module")
def fitted(data):
    return mash.fit(*data, V=C, covariances={"all": np.ones(R), "each": np.eye(R), "liver": [1, 0, 0]})


@pytest.fixture(scope="module")
def new():
    return frames(*simulate(1, 40, missing=0.1, V=C))


@pytest.fixture(scope="module")
def contrasted(data):
    mixed = pd.DataFrame(C, NAMES, NAMES).loc[ORDER, ORDER]
    return mash.fit(*data, V=mixed, contrast="lung", covariances="canonical")


def labelled(frame):
    coords = {"effect": frame.index.to_numpy(), "condition": frame.columns.to_numpy()}
    return xr.DataArray(frame.to_numpy(), coords, ("effect", "condition"))


def own_V(count, R=R):
    return np.array([np.eye(R) + 0.1 * np.sin(j) * (np.ones((R, R)) - np.eye(R)) for j in range(count)])


# Names ----------------------------------------------------------------------------------------------------------------


def test_everything_has_its_name(fitted, data):
    ds = fitted.dataset
    for name in ("bhat", "shat", *POSTERIOR):
        assert ds[name].dims == ("effect", "condition")
        assert ds[name].dtype == float
    for name in ("loglik", "log10_bf"):
        assert ds[name].dims == ("effect",)
    assert ds["effect"].to_numpy().tolist() == data[0].index.tolist()
    assert ds["condition"].to_numpy().tolist() == NAMES
    assert ds["covariance"].to_numpy().tolist() == ["all", "each", "liver"]
    assert fitted.weights.dims == ("covariance", "scale")
    assert fitted.covariances.dims == ("covariance", "condition", "condition_other")
    np.testing.assert_array_equal(ds["bhat"], data[0])
    np.testing.assert_array_equal(ds["V"], C)
    assert fitted.loglik == pytest.approx(float(ds["loglik"].sum()), rel=1e-13)
    assert fitted.converged
    for name in ("mean", "sd", "lfsr", "lfdr", "log10_bf"):
        np.testing.assert_array_equal(getattr(fitted, name), fitted.posterior[name])
    assert "240 effects, 3 conditions, 3 covariances" in repr(fitted)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_what_was_given_is_kept(alpha):
    bhat, shat = (part.copy() for part in simulate(3, 60, missing=0.2))
    gone = np.isnan(bhat)
    unknown = gone & (np.arange(60) % 2 == 0)[:, None]
    shat[unknown] = np.nan
    fit = mash.fit(bhat, shat, alpha=alpha, covariances="canonical")
    np.testing.assert_allclose(fit.dataset["bhat"], bhat, rtol=1e-12)
    np.testing.assert_allclose(fit.dataset["shat"].to_numpy()[~gone], shat[~gone], rtol=1e-12)
    assert np.isnan(fit.dataset["shat"].to_numpy()[unknown]).all()
    again = fit.effects()
    np.testing.assert_array_equal(again.observed, ~gone)
    np.testing.assert_allclose(again.B, bhat / np.where(np.isnan(shat), 1.0, shat) ** alpha, rtol=1e-12)


def test_the_prior_is_as_it_was_fitted(fitted):
    prior = fitted.prior
    assert [U.name for U in prior.covariances] == ["all", "each", "liver"]
    assert [U.rank for U in prior.covariances] == [1, 3, 1]
    np.testing.assert_array_equal(prior.covariances[2].factor, [[1.0], [0.0], [0.0]])
    for U in prior.covariances:
        assert np.diag(U.matrix).max() == pytest.approx(1.0)
        np.testing.assert_allclose(fitted.covariances.sel(covariance=U.name), U.matrix, atol=1e-14)
    assert prior.flat.sum() == pytest.approx(1.0)
    assert prior.null == fitted.null_weight


def test_responsibilities_and_covariances_agree_with_the_rest(fitted):
    responsibilities = fitted.responsibilities()
    assert responsibilities.dims == ("effect", "component")
    assert responsibilities["component"].to_numpy().tolist() == fitted.prior.names
    np.testing.assert_allclose(responsibilities.sum("component"), 1.0, atol=1e-12)
    null, liver = responsibilities.sel(component="null"), responsibilities["component"].str.startswith("liver.")
    np.testing.assert_allclose(fitted.lfdr.sel(condition="liver"), null, atol=1e-12)
    np.testing.assert_allclose(
        fitted.lfdr.sel(condition="skin"), null + responsibilities[:, liver].sum("component"), atol=1e-12
    )
    Sigma = fitted.posterior_covariance()
    assert Sigma.dims == ("effect", "condition", "condition_other")
    np.testing.assert_allclose(np.sqrt(np.einsum("jrr->jr", Sigma)), fitted.sd, atol=1e-12)
    np.testing.assert_allclose(Sigma, Sigma.transpose("effect", "condition_other", "condition"), atol=1e-12)


def test_some_effects_by_name(fitted):
    wanted = ["e7", "e0", "e33"]
    for what in (fitted.responsibilities, fitted.posterior_covariance):
        some = what(wanted)
        assert some["effect"].to_numpy().tolist() == wanted
        np.testing.assert_allclose(some, what().sel(effect=wanted), atol=1e-12)
        np.testing.assert_array_equal(what("e7"), what(["e7"]))
        np.testing.assert_array_equal(what(np.array(wanted)), some)
        np.testing.assert_array_equal(what(pd.Index(wanted)), some)
        assert what([]).sizes["effect"] == 0
        with pytest.raises(InputError, match="effects of the fit, got no 'nobody'"):
            what(["e1", "nobody"])


def test_some_effects_as_another_result_names_them(fitted):
    strongest = sharing.significant(fitted)["effect"][:3]
    found = fitted.posterior_covariance(strongest)
    np.testing.assert_array_equal(found["effect"], strongest)


# Draws ----------------------------------------------------------------------------------------------------------------


def test_draws_are_laid_out_as_arviz_expects(fitted):
    names = ["e3", "e1", "e2"]
    tree = fitted.draws(2000, 3, seed=5, effects=names)
    drawn = tree["posterior"]["effects"]
    assert drawn.dims == ("chain", "draw", "effect", "condition")
    assert drawn.shape == (3, 2000, 3, R)
    assert drawn["effect"].to_numpy().tolist() == names
    np.testing.assert_array_equal(tree["observed_data"]["bhat"], fitted.dataset["bhat"].sel(effect=names))
    np.testing.assert_array_equal(tree["constant_data"]["shat"], fitted.dataset["shat"].sel(effect=names))
    mean, sd = fitted.mean.sel(effect=names), fitted.sd.sel(effect=names)
    assert bool((abs(drawn.mean(("chain", "draw")) - mean) < 4.5 * sd / np.sqrt(6000)).all())
    np.testing.assert_array_equal(drawn, fitted.draws(2000, 3, seed=5, effects=names)["posterior"]["effects"])
    other = fitted.draws(2000, 3, seed=6, effects=names)["posterior"]["effects"]
    assert not np.array_equal(drawn, other)
    assert not np.array_equal(drawn[0], drawn[1])


def test_draws_of_all_effects(fitted):
    assert fitted.draws(2, 1)["posterior"]["effects"].shape == (1, 2, J, R)


@pytest.mark.parametrize("bad", [{"draws": 0}, {"draws": -1}, {"chains": 0}, {"seed": -1}])
def test_draws_that_cannot_be(fitted, bad):
    with pytest.raises(InputError):
        fitted.draws(**bad)


# Other effects --------------------------------------------------------------------------------------------------------


def same(found, want, tol=1e-12):
    for name in (*POSTERIOR, "loglik", "log10_bf"):
        np.testing.assert_allclose(found[name], want[name], rtol=tol, atol=tol, err_msg=name)


@pytest.mark.parametrize("options", [{"alpha": 0.0}, {"alpha": 0.5}, {"alpha": 1.0}, {"pointmass": False}, {"V": C}])
def test_applied_to_its_own_effects_it_is_the_fit(data, options):
    fit = mash.fit(*data, covariances="canonical", grid=[0.5, 3.0], **options)
    found = fit.apply(*data)
    same(found, fit.posterior)
    assert fit.score(*data) == pytest.approx(fit.loglik, rel=1e-13)
    for name, one in found.data_vars.items():
        assert one.dims == fit.dataset[name].dims


def test_effects_are_apart_given_the_prior(fitted, data, new):
    both = [pd.concat([one, other.rename(index=lambda name: f"new_{name}")]) for one, other in
            zip(data, new, strict=True)]  # fmt: skip
    whole = fitted.apply(*both)
    same(whole.isel(effect=slice(J, None)), fitted.apply(*new), 1e-10)
    assert fitted.score(*both) == pytest.approx(fitted.score(*data) + fitted.score(*new), rel=1e-12)


def test_conditions_are_matched_by_name(fitted, new):
    bhat, shat = new
    want = fitted.apply(bhat, shat)
    for found in (
        fitted.apply(bhat[ORDER], shat[ORDER]),
        fitted.apply(bhat[ORDER], shat),
        fitted.apply(bhat, shat[ORDER]),
        fitted.apply(bhat, shat.iloc[::-1]),
        fitted.apply(labelled(bhat[ORDER]), labelled(shat)),
        fitted.apply(bhat.to_numpy(), shat.to_numpy()),
    ):
        same(found, want)
        assert found["condition"].to_numpy().tolist() == NAMES


def test_conditions_in_another_order_with_standard_errors_that_have_no_names(fitted, new):
    """They are in the order of the estimates that they came with, as in `fit`."""
    bhat, shat = new
    same(fitted.apply(bhat[ORDER], shat[ORDER].to_numpy()), fitted.apply(bhat, shat))


def test_conditions_in_another_order_with_a_v_that_has_no_names(fitted, new):
    bhat, shat = new
    order = [NAMES.index(name) for name in ORDER]
    mixed = C[np.ix_(order, order)]
    want = fitted.apply(bhat, shat, C)
    same(fitted.apply(bhat[ORDER], shat[ORDER], pd.DataFrame(mixed, ORDER, ORDER)), want)
    same(fitted.apply(bhat[ORDER], shat[ORDER], mixed), want)


def test_other_shapes_are_refused_in_any_order(fitted, new):
    bhat, shat = new
    for columns in (NAMES, ORDER):
        for bad in (shat.to_numpy()[:, :2], shat.to_numpy()[:5], np.ones((40, 4))):
            with pytest.raises(InputError, match=r"a shape of \(40, 3\)"):
                fitted.apply(bhat[columns], bad)
        for V in (np.eye(2), np.eye(4), np.ones(3), 0.5):
            with pytest.raises(InputError, match=r"a shape of \(3, 3\)"):
                fitted.apply(bhat[columns], shat, V)


def test_a_labelled_array_may_be_transposed(fitted, new):
    bhat, shat = map(labelled, new)
    want = fitted.apply(bhat, shat)
    same(fitted.apply(bhat.T, shat.T), want)
    same(fitted.apply(bhat.rename(effect="gene", condition="tissue"), shat), want)


def test_an_array_without_coordinates(fitted, new):
    bhat, shat = (xr.DataArray(table.to_numpy(), dims=("effect", "condition")) for table in new)
    same(fitted.apply(bhat, shat), fitted.apply(*new))


def test_one_standard_error_for_all_and_z_scores(fitted, new):
    bhat = new[0]
    same(fitted.apply(bhat, 2.0), fitted.apply(bhat, np.full(bhat.shape, 2.0)))
    same(fitted.apply(bhat), fitted.apply(bhat, np.ones(bhat.shape)))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda table: table[NAMES[:2]], r"the conditions of the fit, got no 'skin', in bhat; do match the names"),
        (lambda table: table.rename(columns={"skin": "Skin"}), r"got no 'skin'"),
        (lambda table: table.assign(kidney=1.0), r"got 'kidney' besides"),
        (lambda table: table.to_numpy()[:, :2], r"conditions|shape"),
        (lambda table: table.set_axis(["liver", "lung", "lung"], axis=1), "conditions of the fit|once"),
    ],
)
def test_other_conditions_are_refused(fitted, new, change, said):
    with pytest.raises(InputError, match=said):
        fitted.apply(change(new[0]), change(new[1]))
    with pytest.raises(InputError, match="conditions"):
        fitted.score(np.ones((4, 2)))


def test_the_errors_of_other_effects_may_be_correlated_otherwise(fitted, new):
    bhat, shat = new
    other = fitted.apply(bhat, shat, np.eye(R))
    assert not np.allclose(other["mean"], fitted.apply(bhat, shat)["mean"])
    own = fitted.apply(bhat, shat, np.array([C] * len(bhat)))
    same(own, fitted.apply(bhat, shat), 1e-10)


def test_where_every_effect_had_its_own_v_others_need_theirs(data, new):
    fit = mash.fit(*data, V=own_V(J), covariances="canonical", grid=[0.5, 3.0])
    for light in (fit, mash.fit(*data, V=own_V(J), covariances="canonical", grid=[0.5, 3.0], posterior=False)):
        with pytest.raises(InputError, match=r"expected V, got a fit .* its own .*; do give V for these effects"):
            light.apply(*new)
        with pytest.raises(InputError, match="give V for these effects"):
            light.score(*new)
        assert light.apply(*new, own_V(40)).sizes["effect"] == 40
    same(fit.apply(*data, own_V(J)), fit.posterior)
    assert fit.draws(1, 1, effects=["e5", "e4"])["posterior"]["effects"].shape == (1, 1, 2, R)


def test_cells_that_were_left_out_can_be_left_out_again(data):
    bhat, shat = data[0], data[1].copy()
    shat.iloc[4, 1] = 0.0
    fit = mash.fit(bhat, shat, tiny="missing", covariances="canonical", grid=[0.5, 3.0])
    same(mash.MashFit(fit.dataset).apply(fit.dataset["bhat"], fit.dataset["shat"]), fit.posterior)
    np.testing.assert_allclose(fit.posterior_covariance()[4, 1, 1], fit.sd[4, 1] ** 2, rtol=1e-9)


# Contrasts ------------------------------------------------------------------------------------------------------------


def test_contrasts_are_taken_of_other_estimates_too(contrasted, data, new):
    assert contrasted.dataset["condition"].to_numpy().tolist() == ["liver-lung", "skin-lung"]
    same(contrasted.apply(*data), contrasted.posterior, 1e-10)
    assert contrasted.score(*data) == pytest.approx(contrasted.loglik, rel=1e-12)
    bhat, shat = new
    want = contrasted.apply(bhat, shat)
    assert want["condition"].to_numpy().tolist() == ["liver-lung", "skin-lung"]
    same(contrasted.apply(bhat[ORDER], shat[ORDER]), want)
    same(contrasted.apply(bhat, shat, C), want)
    same(contrasted.apply(bhat.to_numpy(), shat.to_numpy()), want)
    moved = bhat.add(pd.Series(np.arange(40.0), bhat.index), axis=0)
    same(contrasted.apply(moved, shat), want, 1e-9)  # what all conditions share is no difference
    with pytest.raises(InputError, match="conditions of the fit"):
        contrasted.apply(bhat[NAMES[:2]], shat[NAMES[:2]])


def test_contrasts_of_estimates_with_errors_of_their_own_need_them(data, new):
    fit = mash.fit(*data, V=own_V(J), contrast="mean", covariances="canonical", grid=[0.5, 3.0])
    same(fit.apply(*data, own_V(J)), fit.posterior, 1e-10)
    with pytest.raises(InputError, match="give V for these effects"):
        fit.apply(*new)


def test_contrasts_of_independent_errors(data):
    fit = mash.fit(*data, contrast="mean", covariances="canonical", grid=[0.5, 3.0])
    same(fit.apply(*data), fit.posterior, 1e-10)


# Files ----------------------------------------------------------------------------------------------------------------


def equal_in_all(one, other, new):
    xr.testing.assert_identical(one.dataset, other.dataset)
    np.testing.assert_array_equal(one.prior.flat, other.prior.flat)
    xr.testing.assert_identical(one.apply(*new), other.apply(*new))
    assert one.score(*new) == other.score(*new)
    assert repr(one) == repr(other)
    if "mean" in one.dataset:
        names = one.dataset["effect"].to_numpy()[:4]
        draws = [fit.draws(3, 2, effects=names)["posterior"]["effects"] for fit in (one, other)]
        np.testing.assert_array_equal(*draws)
        np.testing.assert_array_equal(one.posterior_covariance(names), other.posterior_covariance(names))
        np.testing.assert_array_equal(one.responsibilities(names), other.responsibilities(names))


@pytest.mark.parametrize("kind", ["nc", "zarr", "pickle", "copy"])
@pytest.mark.parametrize("which", ["fitted", "contrasted", "light", "own"])
def test_a_fit_comes_back_whole(which, kind, request, tmp_path, data, new):
    options = {"covariances": "canonical", "grid": [0.5, 3.0]}
    fit = (
        mash.fit(*data, V=C, posterior=False, **options) if which == "light"
        else mash.fit(*data, V=own_V(J), **options) if which == "own"
        else request.getfixturevalue(which)
    )  # fmt: skip
    path = tmp_path / f"fit.{kind}"
    if kind == "nc":
        fit.to_netcdf(path)
        again = mash.open_fit(path)
    elif kind == "zarr":
        fit.to_zarr(path)
        fit.to_zarr(path)  # over itself
        again = mash.open_fit(str(path))
    else:
        again = pickle.loads(pickle.dumps(fit)) if kind == "pickle" else copy.deepcopy(fit)  # noqa: S301
    equal_in_all(fit, again, (*new, own_V(40)) if which == "own" else new)
    assert [entry.name for entry in tmp_path.iterdir()] == ([path.name] if kind in {"nc", "zarr"} else [])


def test_what_is_no_fit(fitted, new, tmp_path):
    (tmp_path / "text.nc").write_text("no fit")
    (tmp_path / "folder").mkdir()
    fitted.apply_to(tmp_path / "posterior.zarr", *new)
    xr.Dataset({"x": 1.0}).to_netcdf(tmp_path / "other.nc", engine="h5netcdf")
    for name in ("text.nc", "folder", "posterior.zarr", "other.nc", "nowhere.nc"):
        with pytest.raises(InputError, match="a mash fit written by ebmodel"):
            mash.open_fit(tmp_path / name)
    with pytest.raises(InputError, match="an existing folder"):
        fitted.to_netcdf(tmp_path / "nowhere" / "fit.nc")
    with pytest.raises(InputError, match="a file or a Zarr store"):
        fitted.to_zarr(tmp_path / "folder")


@pytest.mark.parametrize("chunk", [1, 15, 39, 40, 41])
def test_written_in_chunks_it_is_the_same(fitted, new, tmp_path, chunk):
    done = []
    bhat, shat = (table.iloc[:4] if chunk == 1 else table for table in new)
    long = [f"e{'x' * (j % 4)}{j}" for j in range(len(bhat))]  # later names may be longer
    bhat, shat = bhat.set_axis(long), shat.set_axis(long)
    fitted.apply_to(tmp_path / "new.zarr", bhat, shat, chunk=chunk, progress=done.append)
    found = open_dataset(tmp_path / "new.zarr", "lfsr", "a posterior")
    want = fitted.apply(bhat, shat)
    assert found["effect"].to_numpy().tolist() == long
    assert found["condition"].to_numpy().tolist() == NAMES
    same(found, want, 1e-10)
    np.testing.assert_array_equal(found["bhat"], want["bhat"])
    assert done[-1] == len(bhat)
    assert len(done) == -(-len(bhat) // chunk)


def test_written_whole_or_not_at_all(fitted, new, tmp_path):
    bad = new[1].copy()
    bad.iloc[-1, 0] = -1.0
    estimates = new[0].fillna(0.0)
    with pytest.raises(InputError, match="positive standard errors"):
        fitted.apply_to(tmp_path / "new.zarr", estimates, bad, chunk=5)

    def interrupt(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fitted.apply_to(tmp_path / "new.zarr", *new, chunk=5, progress=interrupt)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("chunk", [0, -1])
def test_chunks_have_effects(fitted, new, tmp_path, chunk):
    with pytest.raises(InputError, match="in chunk;"):
        fitted.apply_to(tmp_path / "new.zarr", *new, chunk=chunk)


def test_a_prior_is_not_shared_with_the_dataset(fitted):
    prior = fitted.prior
    prior.covariances[0].factor[:] = 0.0
    assert fitted.prior.covariances[0].factor.any()
    assert replace(prior, null=0.5).null != fitted.null_weight
