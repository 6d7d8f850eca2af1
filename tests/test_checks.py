"""`ebmodel.check` as users call it: table, p-values, seeds, edges, draws of a posterior, errors; what it claims."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import ebmodel
from ebmodel import InputError, Params
from ebmodel.checks import CHECKS, checking
from ebmodel.checks.catalogue import DESIGN, MISSING

OF_RESIDUALS = ["normal-errors", "equal-variances", "independent-errors"]
"""Checks of least-squares residuals alone: no fitted parameter is in them."""
CALIBRATED = [name for name in CHECKS if name != DESIGN]
THETA = Params(tau1=0.6, beta=[0.5, -0.4], eta=5.0, sigma2=1.0)
N, M = 40, 8
GROUPS = np.arange(M) // 2
WORDS = ("no sign against it", "doubtful", "fails", "not checked")
SIGMAS = 4.0


def data(seed: int = 9) -> xr.Dataset:
    return ebmodel.simulate.model_true(THETA, n=N, m=M, missing=np.linspace(0.0, 0.5, M), seed=seed, posterior=False)


def check(fit: Any, replicates: int = 3, **options: Any) -> xr.Dataset:
    return ebmodel.check(fit, replicates=replicates, **({"progress": False} | options))


@pytest.fixture(scope="module")
def fit() -> ebmodel.Fit:
    gene = data()
    return ebmodel.fit(gene.X, gene.Y, n_starts=4)


@pytest.fixture(scope="module")
def found(fit) -> xr.Dataset:
    return check(fit, 19, groups=GROUPS)


@pytest.fixture(scope="module")
def quick(fit) -> xr.Dataset:
    return check(fit, 19, groups=GROUPS, refit=False)


def sound(table: xr.Dataset) -> None:
    """Every row says something, and nothing that it cannot."""
    for name in table["check"].to_numpy():
        row = {key: value.item() for key, value in table.sel(check=name).drop_vars("reference").items()}
        assert row["verdict"] in WORDS
        assert row["meaning"]
        assert "{" not in row["meaning"]
        assert row["meaning"][0].isalpha()
        assert bool(row["remedy"]) == (row["verdict"] in WORDS[1:3])
        p = row["p_value"] if table.attrs["refitted"] else row["p_plugin"]
        assert np.isnan(p) == (row["verdict"] == "not checked")
        assert np.isnan(p) or 0.0 < p <= 1.0
        if np.isfinite(p):
            assert np.isfinite(row["observed"])
            assert np.isfinite(row["effect"])
            assert "nan" not in row["meaning"].split()


def unchecked(table: xr.Dataset) -> set[str]:
    return set(table["check"].to_numpy()[table["verdict"].to_numpy() == "not checked"])


# The table -----------------------------------------------------------------------------------------------------------


def test_a_row_for_every_assumption(found):
    assert found["check"].to_numpy().tolist() == list(CHECKS)
    assert found.sizes == {"check": len(CHECKS), "replicate": 19}
    assert not unchecked(found)
    sound(found)
    for name, made in CHECKS.items():
        row = found.sel(check=name)
        assert row["assumption"].item() == made.assumption
        assert row["statistic"].item() == made.statistic
        assert row["remedy"].item() in ("", made.remedy)
    wanted = {"replicates": 19, "failed": 0, "failure": "", "seed": 0, "refitted": 1, "at": "the fitted parameters"}
    assert found.attrs == wanted


def test_every_check_says_what_it_is_for():
    for made in CHECKS.values():
        assert all([made.assumption, made.statistic, made.remedy])
    assert {name for name, made in CHECKS.items() if made.discrepancy is None} == {MISSING, DESIGN}


def test_p_values_follow_from_the_reference(found):
    for name in CALIBRATED:
        row = found.sel(check=name)
        reference = row["reference"].to_numpy()
        if np.isfinite(reference).all():
            assert row["p_value"] == (1 + np.sum(reference >= row["observed"].item())) / 20.0
        reference = reference[np.isfinite(reference)]  # alpha has no slope in data whose eta is 0
        assert len(reference) > 10
        assert row["reference_median"] == np.median(reference)
        assert row["reference_95"] == pytest.approx(np.quantile(reference, 0.95))
        p = row["p_value"].item()
        assert row["verdict"] == ("fails" if p <= 0.01 else "doubtful" if p <= 0.05 else "no sign against it")


def test_the_least_p_value_counts(fit):
    """A value above all 19 of the reference has p = 1/20, which is doubtful; above all 99, 1/100, which fails."""
    gene = data()
    shared = 3.0 * np.random.default_rng(0).standard_normal((N, 1))
    broken = ebmodel.fit(gene.X, gene.Y + shared, n_starts=2)
    for size, p, verdict in ((19, 0.05, "doubtful"), (99, 0.01, "fails")):
        row = check(broken, size, checks="independent-errors", refit=False).squeeze("check")
        assert row["p_plugin"] == p
        assert row["verdict"] == verdict
        assert row["remedy"] == CHECKS["independent-errors"].remedy


def test_without_refitting_the_plug_in_p_values_are_the_same(found, quick):
    np.testing.assert_array_equal(quick["p_plugin"], found["p_plugin"])
    assert np.isnan(quick["p_value"].drop_sel(check=MISSING)).all()
    assert quick.sel(check=MISSING)["p_value"] == found.sel(check=MISSING)["p_value"]
    assert quick.attrs["refitted"] == 0
    assert unchecked(quick) == {DESIGN}
    assert "refit=True" in quick.sel(check=DESIGN)["meaning"].item()
    sound(quick)
    for name in CALIBRATED:
        row = quick.sel(check=name)
        if np.isfinite(row["reference"]).all():
            assert row["p_plugin"] == (1 + np.sum(row["reference"] >= row["observed"]).item()) / 20.0


def test_what_no_fitted_parameter_is_in_is_not_changed_by_fitting(found, quick):
    of_residuals = {"check": OF_RESIDUALS}
    xr.testing.assert_allclose(found["reference"].sel(of_residuals), quick["reference"].sel(of_residuals), rtol=1e-9)
    np.testing.assert_array_equal(found["p_value"].sel(of_residuals), found["p_plugin"].sel(of_residuals))


def test_some_checks_alone_are_as_among_all(fit, found):
    names = [DESIGN, "linearity", MISSING]
    some = check(fit, 19, groups=GROUPS, checks=names)
    assert some["check"].to_numpy().tolist() == names
    xr.testing.assert_identical(some, found.sel(check=names))
    one = check(fit, 19, groups=GROUPS, checks="sample-size")
    xr.testing.assert_identical(one, found.sel(check=["sample-size"]))


def test_data_that_cannot_be_fitted_are_left_out(fit, found, monkeypatch):
    original, calls = ebmodel.fitting.fit, []

    def now_and_then(*arguments: Any, **settings: Any) -> ebmodel.Fit:
        calls.append(1)
        if len(calls) % 2:
            raise InputError("this", "that", "a test", "nothing")
        return original(*arguments, **settings)

    monkeypatch.setattr("ebmodel.checks.reference.fitting.fit", now_and_then)
    some = check(fit, 7, groups=GROUPS)
    assert some.attrs["failed"] == 4
    assert some.attrs["failure"].startswith("expected this, got that")
    sound(some)
    for name in set(CALIBRATED) - {MISSING}:
        row, reference = some.sel(check=name), some.sel(check=name)["reference"].to_numpy()
        assert np.isnan(reference[::2]).all()
        np.testing.assert_array_equal(reference[1::2], found["reference"].sel(check=name)[1:7:2])
        known = np.isfinite(reference).sum()
        assert row["p_value"] == (1 + np.sum(reference >= row["observed"].item())) / (1 + known)
    monkeypatch.setattr("ebmodel.checks.reference.fitting.fit", lambda *_, **__: original([[1.0]], [[np.nan]]))
    with pytest.raises(InputError, match="expected data that can be fitted"):
        check(fit)


def test_without_a_reference_nothing_is_checked(fit, monkeypatch):
    """The discrepancy can be computed on the data, and on none of the drawn ones."""
    original = checking.run_batch

    def blind(*task: Any) -> Any:
        return [
            one._replace(known=one.known | {"linearity": np.nan}, refitted=one.refitted | {"linearity": np.nan})
            for one in original(*task)
        ]

    monkeypatch.setattr(checking, "run_batch", blind)
    row = check(fit, checks="linearity").squeeze("check")
    assert row["verdict"] == "not checked"
    assert "drawn" in row["meaning"].item()  # the reason, not what was found
    sound(check(fit, checks="linearity"))


def test_where_the_slabs_shape_fails_its_meaning_is_the_best_alpha():
    rng = np.random.default_rng(5)
    X = rng.standard_normal((60, 4)) @ np.linalg.cholesky(np.full((4, 4), 0.8) + 0.2 * np.eye(4)).T
    Y = X @ (rng.standard_normal((14, 4)) @ np.linalg.cholesky(np.full((4, 4), 0.9) + 0.1 * np.eye(4)).T).T
    fit = ebmodel.fit(X, Y + rng.standard_normal(Y.shape), n_starts=4)
    row = check(fit, 19, checks="slab-covariance", refit=False).squeeze("check")
    best = float(ebmodel.alpha_profile(X, fit.dataset["Y"], alphas=[1.0])["estimate"])
    assert row["verdict"] == "doubtful"
    assert row["effect"] == pytest.approx(best - 1.0, abs=1e-3)
    assert row["meaning"].item().startswith(f"alpha = {best:.2f} (95 % interval ")


def test_a_slab_whose_shape_was_learned_has_no_slope():
    gene = data()
    row = check(ebmodel.fit(gene.X, gene.Y, slab="power"), checks="slab-covariance").squeeze("check")
    assert row["verdict"] == "not checked"
    assert "chosen by the data" in row["meaning"].item()


def test_shuffles_that_are_as_extreme_count_whatever_their_rounding():
    """Three genotypes, one response lost in each tissue: shuffles tie with the data, summed in another order."""
    rng = np.random.default_rng(2)
    X = np.resize([0.0, 1.0, 2.0], 24)[:, None]
    Y = X * 1.5 + 0.3 * rng.standard_normal((24, 4))
    theta = Params(tau1=0.8, beta=[1.5], eta=0.1, sigma2=0.09)
    for i in range(2):
        Y_i = np.where((np.arange(24) == i)[:, None] & (np.arange(4) < 3), np.nan, Y)
        row = check(ebmodel.oracle(X, Y_i, theta, intercept=True), 40, checks=MISSING, refit=False).squeeze("check")
        as_extreme = row["reference"].to_numpy() > row["observed"].item() - 1e-8
        assert row["p_value"] == (1 + as_extreme.sum()) / 41.0


# Seeds ---------------------------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_table_whatever_the_processes(fit):
    one, two = (check(fit, 11, groups=GROUPS, seed=7, jobs=jobs) for jobs in (1, 2))
    xr.testing.assert_identical(one, two)


def test_more_replicates_add_to_fewer_and_seeds_differ(fit, found):
    few, other = check(fit, 4, groups=GROUPS), check(fit, 4, groups=GROUPS, seed=1)
    names = CALIBRATED
    np.testing.assert_array_equal(few["reference"].sel(check=names), found["reference"].sel(check=names)[:, :4])
    np.testing.assert_array_equal(few["observed"].sel(check=names), found["observed"].sel(check=names))
    assert (few["reference"].sel(check=names) != other["reference"].sel(check=names)).all()


def test_checking_leaves_the_fit_alone(fit):
    before = fit.dataset.copy(deep=True)
    check(fit)
    xr.testing.assert_identical(fit.dataset, before)


# What does not matter ------------------------------------------------------------------------------------------------


def test_units_of_expression_do_not_matter(found):
    gene = data()
    scaled = check(ebmodel.fit(gene.X, 64.0 * gene.Y, n_starts=4), 19, groups=GROUPS)
    for key in ("observed", "effect", "reference"):
        np.testing.assert_allclose(scaled[key], found[key], rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(scaled["p_value"], found["p_value"])
    np.testing.assert_array_equal(scaled["verdict"], found["verdict"])


@pytest.mark.parametrize("mean", ["free", "hierarchical", "zero"])
@pytest.mark.parametrize("slab", ["g", "independent", 0.5, "matrix"])
def test_a_fit_read_back_is_checked_alike(tmp_path, mean, slab):
    gene = data()
    C = np.random.default_rng(0).standard_normal((N, 1))
    slab = [[1.0, 0.3], [0.3, 2.0]] if slab == "matrix" else slab
    fit = ebmodel.fit(gene.X, gene.Y, slab=slab, mean=mean, covariates=C, intercept=True, n_starts=2)
    fit.to_netcdf(tmp_path / "fit.nc")
    table = check(fit, groups=GROUPS)
    sound(table)
    assert unchecked(table) <= ({"slab-covariance"} if np.ndim(slab) else set())
    xr.testing.assert_identical(check(ebmodel.open_fit(tmp_path / "fit.nc"), groups=GROUPS), table)


def test_names_stay(fit):
    frame = pd.DataFrame(fit.dataset["Y"].to_numpy(), columns=[f"Brain - {i}" for i in range(M)])
    sound(check(ebmodel.fit(fit.dataset["X"].to_numpy(), frame, n_starts=2), groups="names"))


# Groups of tissues ---------------------------------------------------------------------------------------------------

LABELS = [f"group {k}" for k in GROUPS]
TISSUES = [f"tissue{t + 1}" for t in range(M)]


@pytest.mark.parametrize(
    "groups",
    [
        LABELS,
        tuple(GROUPS),
        pd.Series(LABELS, TISSUES)[::-1],
        dict(zip(TISSUES[::-1], LABELS[::-1], strict=True)),
        xr.DataArray(LABELS, {"tissue": TISSUES})[::-1],
        pd.Categorical(LABELS),
        pd.Series(LABELS),
        xr.DataArray(LABELS, dims="tissue"),
        pd.Series([*LABELS, "another"], [*TISSUES, "tissue that the fit lacks"]),
    ],
    ids=["list", "tuple", "series", "mapping", "array", "categorical", "series-unnamed", "array-unnamed", "more"],
)
def test_groups_come_in_many_forms(fit, found, groups):
    row = check(fit, 2, checks="unrelated-groups", groups=groups, refit=False).squeeze("check")
    assert row["observed"].item() == found.sel(check="unrelated-groups")["observed"].item()


def test_groups_by_the_first_word_of_tissues_names(fit, found):
    gene = data()
    names = ["Brain - Cortex", "Brain_Spinal", "Artery_Aorta", "Artery - Tibial", "Skin", "Skin-Sun", "Lung", "Lung B"]
    named = ebmodel.fit(gene.X, gene.Y.assign_coords(tissue=names), n_starts=4)
    row = check(named, 2, checks="unrelated-groups", groups="names", refit=False).squeeze("check")
    assert row["observed"].item() == pytest.approx(found.sel(check="unrelated-groups")["observed"].item(), rel=1e-6)


@pytest.mark.parametrize("groups", [None, "names", ["one"] * M], ids=["none", "all apart", "all in one"])
def test_without_two_groups_of_two_there_is_nothing_to_compare(fit, groups):
    table = check(fit, 2, groups=groups, refit=False)
    assert unchecked(table) == {DESIGN, "unrelated-groups"}
    sound(table)


# Edges: never a crash, never a warning -------------------------------------------------------------------------------


def gaps(Y: np.ndarray, seed: int = 3, share: float = 0.3) -> np.ndarray:
    return np.where(np.random.default_rng(seed).random(Y.shape) < share, np.nan, Y)


def noisy(n: int = 30, p: int = 3, m: int = 6, seed: int = 3, active: int | None = None) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, p))
    on = np.arange(m) < (m // 2 if active is None else active)
    effects = on[:, None] * (0.8 + 0.4 * rng.standard_normal((m, p)))
    return X, X @ effects.T + rng.standard_normal((n, m))


def edge(kind: str) -> tuple[Any, Any, dict[str, Any]]:
    X, Y = noisy()
    Z, how = gaps(Y), {}
    rows = np.arange(len(Y))
    if kind == "two tissues":
        Z = Z[:, :2]
    elif kind == "one SNP":
        X = X[:, :1]
    elif kind == "one SNP, two tissues":
        X, Z = X[:, :1], Z[:, :2]
    elif kind == "fewer samples than SNPs":
        Z[2:, 5], Z[:2, 5] = np.nan, [0.3, -1.0]
    elif kind == "one sample":
        Z[1:, 0], Z[0, 0] = np.nan, 3.0
    elif kind == "a tissue unobserved":
        Z[:, 2] = np.nan
    elif kind == "samples unobserved":
        Z[:3] = np.nan
    elif kind == "complete":
        Z = Y
    elif kind == "collinear SNPs":
        X = np.column_stack([X, X[:, 0] + X[:, 1], X[:, 0]])
    elif kind == "constant genotypes in a tissue":
        X[:, 0] = rows % 3 == 0
        Z[rows % 3 == 0, 1], how = np.nan, {"intercept": True}
    elif kind == "constant expression in a tissue":
        Z[:, 5] = np.where(np.isnan(Z[:, 5]), np.nan, 2.0)
        how = {"intercept": True}
    elif kind == "expression of 0 in a tissue":
        Z[:, 5] = np.where(np.isnan(Z[:, 5]), np.nan, 0.0)
    elif kind == "complete, expression of 0 in a tissue":
        Z = Y.copy()
        Z[:, 5] = 0.0
    elif kind == "two genotypes":
        X = (X[:, :1] > 0).astype(float)
        Z, how = gaps(1.5 * X + Y - Y.mean(axis=0)), {"intercept": True}
    elif kind == "covariates":
        how = {"covariates": np.column_stack([X[:, 0] + Y[:, 3], rows > 15]), "intercept": True}
    elif kind == "a sample's own covariate":
        how = {"covariates": (rows == 4).astype(float)}
    elif kind == "covariates use up a tissue":
        Z[3:, 5], Z[:3, 5] = np.nan, [0.3, -1.0, 0.0]
        how = {"covariates": np.random.default_rng(0).standard_normal((30, 2)), "intercept": True}
    elif kind == "more SNPs than samples":
        X, Y = noisy(n=8, p=12)
        Z, how = gaps(Y), {"slab": "independent"}
    elif kind == "names":
        Z = pd.DataFrame(Z, columns=["a{}b", "c", "d", "e", "f {0}", "g %s"])
    return X, Z, how


KINDS: dict[str, set[str]] = {
    "two tissues": set(),
    "one SNP": {"exchangeable", "slab-covariance"},
    "one SNP, two tissues": {"exchangeable", "slab-covariance"},
    "fewer samples than SNPs": set(),
    "one sample": set(),
    "a tissue unobserved": set(),
    "samples unobserved": set(),
    "complete": {"sample-size", MISSING},
    "collinear SNPs": set(),
    "constant genotypes in a tissue": set(),
    "constant expression in a tissue": set(),
    "expression of 0 in a tissue": set(),
    "complete, expression of 0 in a tissue": {"sample-size", MISSING},
    "two genotypes": {"linearity", "exchangeable", "slab-covariance"},
    "covariates": set(),
    "a sample's own covariate": set(),
    "covariates use up a tissue": set(),
    "more SNPs than samples": {*OF_RESIDUALS, "linearity"},
    "names": set(),
}
"""Data -> what cannot be checked on them, whatever is active."""


@pytest.mark.parametrize("mean", ["free", "hierarchical", "zero"])
@pytest.mark.parametrize("kind", KINDS)
def test_edges_are_checked_or_not_with_a_reason(kind, mean):
    X, Y, how = edge(kind)
    fit = ebmodel.fit(X, Y, mean=mean, n_starts=3, **how)
    table = check(fit, 2, groups=np.arange(Y.shape[1]) % 2)
    sound(table)
    assert unchecked(table) >= KINDS[kind]
    if fit.params.tau1 * Y.shape[1] >= 2.5 and fit.params.eta > 0.0 and not KINDS[kind]:
        not_drawn = {"exact-spike"} if np.isnan(table["reference"].sel(check="exact-spike")).all() else set()
        assert unchecked(table) <= {"unrelated-groups", DESIGN} | not_drawn  # every tissue of drawn data is active


@pytest.mark.parametrize("mean", ["hierarchical", "zero"])
def test_where_nothing_is_active_only_errors_can_be_checked(mean):
    rng = np.random.default_rng(2)
    X, Y = rng.standard_normal((30, 3)), gaps(rng.standard_normal((30, 6)))
    fit = ebmodel.fit(X, Y, mean=mean, n_starts=4)
    assert fit.params.tau1 == 0.0
    table = check(fit, 2, groups=GROUPS[:6])
    sound(table)
    assert set(CHECKS) - unchecked(table) <= {*OF_RESIDUALS, "exact-spike"}
    assert "exact-spike" not in unchecked(table)


@pytest.mark.parametrize("mean", ["free", "hierarchical", "zero"])
def test_where_all_are_active_there_is_no_spike(mean):
    rng = np.random.default_rng(12)
    X = rng.standard_normal((30, 3))
    Y = gaps(X @ (3.0 * rng.standard_normal((6, 3)) + 5.0).T + rng.standard_normal((30, 6)))
    fit = ebmodel.fit(X, Y, mean=mean, n_starts=4)
    assert fit.params.tau1 == pytest.approx(1.0)
    table = check(fit, 2, groups=GROUPS[:6])
    sound(table)
    assert unchecked(table) == {"exact-spike"}


@pytest.mark.parametrize("mean", ["free", "hierarchical"])
def test_where_active_tissues_have_one_effect_the_slab_has_no_shape(mean):
    rng = np.random.default_rng(13)
    X = rng.standard_normal((40, 3))
    errors = rng.standard_normal((40, 6))
    errors -= X @ np.linalg.lstsq(X, errors)[0] * 0.7
    fit = ebmodel.fit(X, np.where(np.arange(6) < 4, X @ [[1.0], [0.5], [-0.5]], 0.0) + errors, mean=mean, n_starts=4)
    assert fit.params.eta == 0.0
    table = check(fit, 2, groups=[0, 0, 1, 1, 2, 2])
    sound(table)
    assert unchecked(table) - {"exact-spike"} == {"slab-covariance", "sample-size", MISSING}


@pytest.mark.parametrize("tau1", [0.0, 1.0])
@pytest.mark.parametrize("eta", [0.0, 4.0])
def test_the_posterior_at_known_parameters_can_be_checked_too(tau1, eta):
    gene = data()
    known = ebmodel.oracle(gene.X, gene.Y, Params(tau1=tau1, beta=[0.5, -0.4], eta=eta, sigma2=1.0))
    sound(check(known, 2, groups=GROUPS))
    sound(check(known, 2, groups=GROUPS, refit=False))


# Draws of a posterior ------------------------------------------------------------------------------------------------


FOUR = np.array([0, 0, 1, 1])


def four() -> tuple[Any, Any]:
    """Of the shape that the tests of sampling have, so that they share what is compiled."""
    rng = np.random.default_rng(5)
    X = rng.standard_normal((16, 2))
    Y = X @ (np.outer([1.0, -0.5], [1, 1, 0, 1]) + 0.3 * rng.standard_normal((2, 4))) + 0.7 * rng.standard_normal(
        (16, 4)
    )
    return X, np.where(rng.random((16, 4)) < [0.1, 0.2, 0.3, 0.0], np.nan, Y + 2.0)


@pytest.fixture(scope="module")
def tree() -> xr.DataTree:
    X, Y = four()
    return ebmodel.sample(X, Y, intercept=True, draws=15, tune=60, chains=2, cores=1, seed=3, progress=False)


def test_draws_are_checked_at_their_parameters(tree):
    table = check(tree, 4, groups=FOUR)
    sound(table)
    assert table.attrs["at"] == "draws of the posterior"
    xr.testing.assert_identical(check(tree, 4, groups=FOUR), table)
    X, Y = four()
    at_fit = check(ebmodel.fit(X, Y, intercept=True), 4, groups=FOUR)
    names = CALIBRATED
    np.testing.assert_allclose(table["observed"].sel(check=names), at_fit["observed"].sel(check=names), rtol=1e-4)
    # that of normal errors hardly depends on parameters: residuals over their own sd
    drawn, fitted = (of["reference"].sel(check="linearity") for of in (table, at_fit))
    assert (abs(drawn / fitted - 1.0) > 1e-4).all()


def test_data_are_drawn_with_parameters_of_the_posterior(tree):
    base, params = checking._fit_of(tree, 30, seed=0)
    tau1 = tree["posterior"]["tau1"].to_numpy().ravel()
    assert base.params.kappa is None
    assert sorted(theta.tau1 for theta in params) == pytest.approx(sorted(tau1))  # 30 of 30: each once
    for theta in params:
        chain, draw = np.argwhere(tree["posterior"]["tau1"].to_numpy() == theta.tau1)[0]
        one = tree["posterior"].to_dataset().isel(chain=chain, draw=draw)
        np.testing.assert_array_equal(theta.beta, one["beta"])
        assert (theta.eta, theta.sigma2) == (one["eta"], one["sigma2"])
    assert len(checking._fit_of(tree, 40, seed=0)[1]) == 40  # with replacement, where there are fewer draws


@pytest.mark.parametrize("form", ["power", "hierarchical", "zero", "matrix"])
def test_draws_of_other_models_are_checked(tree, form):
    """The same tree, dressed as `ebmodel.sample` would dress it."""
    other = tree.copy()
    posterior = other["posterior"].to_dataset()
    scale = float((other["constant_data"]["X"] ** 2).sum()) / 2.0
    if form == "power":
        posterior = posterior.assign(alpha=0.8 + 0.1 * posterior["tau1"], eta=posterior["eta"] / scale)
        other.attrs["slab"] = "power"
    elif form == "matrix":
        constant = other["constant_data"].to_dataset()
        other["constant_data"] = xr.DataTree(constant.assign(slab_matrix=(("snp", "snp_other"), np.eye(2) / scale)))
        other.attrs["slab"] = "matrix"
    else:
        posterior = posterior.assign(kappa=8.0 * (form == "hierarchical") + 0.0 * posterior["tau1"])
        other.attrs["mean"] = form
    other["posterior"] = xr.DataTree(posterior)
    table = check(other, 3, groups=FOUR)
    sound(table)
    assert unchecked(table) <= {"exact-spike", "slab-covariance", DESIGN}


def test_stored_draws_are_checked_alike(tree, tmp_path):
    ebmodel.save_posterior(tree, tmp_path / "draws.zarr")
    again = ebmodel.open_posterior(tmp_path / "draws.zarr")
    xr.testing.assert_identical(check(again, 2, groups=FOUR), check(tree, 2, groups=FOUR))


# Errors --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"checks": ["linearity", "weather", "tides"]}, "got weather, tides, in checks"),
        ({"checks": "weather"}, "expected of linearity"),
        ({"checks": []}, "in checks"),
        ({"checks": ["linearity", "linearity"]}, "in checks"),
        ({"replicates": 0}, "expected at least 1, got 0, in replicates"),
        ({"replicates": -3}, "in replicates"),
        ({"jobs": 0}, "in jobs"),
        ({"groups": "letters"}, "got 'letters', in groups"),
        ({"groups": ["a", "b"]}, f"expected {M} labels"),
        ({"groups": [["a"] * M]}, f"expected {M} labels"),
        ({"groups": {"tissue1": "a"}}, "none for 'tissue2', 'tissue3'"),
        ({"groups": pd.Series(["a"] * (M + 1), [*TISSUES, "tissue1"])}, "in groups"),
    ],
)
def test_what_cannot_be_asked(fit, options, message):
    with pytest.raises(InputError, match=message):
        check(fit, **options)


def test_what_cannot_be_checked(fit):
    draws = ebmodel.bootstrap(fit, 2, 2, n_starts=2, progress=False)
    for other in (None, fit.dataset, "fit.nc", xr.DataTree(), fit.to_datatree(draws=2), draws):
        with pytest.raises(InputError, match="expected a fit or draws of the posterior"):
            check(other)


# What it claims ------------------------------------------------------------------------------------------------------

SETS, DRAWN = 100, 19


@pytest.fixture(scope="module")
def under_the_model() -> pd.DataFrame:
    """p-values, refitted and plug-in, of data from the model: n = 60, p = 3, m = 12, tissues of different size."""
    theta = Params(tau1=0.5, beta=[0.4, 0.2, -0.2], eta=6.0, sigma2=1.0)
    rows = []
    for seed in range(SETS):
        gene = ebmodel.simulate.model_true(
            theta, n=60, m=12, missing=np.linspace(0.0, 0.4, 12), seed=seed, posterior=False
        )
        table = check(ebmodel.fit(gene.X, gene.Y), DRAWN, groups=np.arange(12) // 3, seed=seed)
        rows += [(name, *(float(table[key].sel(check=name)) for key in ("p_value", "p_plugin"))) for name in CALIBRATED]
    return pd.DataFrame(rows, columns=["check", "p_value", "p_plugin"])


@pytest.mark.statistical
@pytest.mark.parametrize("name", CALIBRATED)
def test_p_values_are_uniform_under_the_model(under_the_model, name):
    """At 5 %, a size of 1/20, and at every twentieth, as far as so many data sets tell."""
    p = under_the_model.loc[under_the_model["check"] == name, "p_value"].dropna().to_numpy()
    assert len(p) > 0.9 * SETS
    levels = np.arange(1, DRAWN + 1) / (DRAWN + 1)
    share = np.array([(p <= level + 1e-9).mean() for level in levels])
    z = (share - levels) / np.sqrt(levels * (1.0 - levels) / len(p))
    assert z[0] < 3.0
    assert np.abs(share - levels).max() < 1.8 / np.sqrt(len(p))  # Kolmogorov: three in a thousand


@pytest.mark.statistical
def test_which_plug_in_p_values_are_conservative(under_the_model):
    """Fitting takes from these statistics, so that what fitted data give is small; to others it adds, but little."""
    both = under_the_model.dropna().assign(excess=lambda d: d["p_plugin"] - d["p_value"]).groupby("check")["excess"]
    mean, error = both.mean(), both.sem()
    assert (mean[[*OF_RESIDUALS, MISSING]].abs() < 1e-12).all()
    assert mean["two-components"] > SIGMAS * error["two-components"]
    larger = ["slab-covariance", "exact-spike", "linearity"]
    assert (mean[larger] > -SIGMAS * error[larger]).all()
    assert mean.min() > -0.15


STRONG: dict[str, tuple[str, float]] = {
    "linearity": ("curvature", 0.6),
    "sample-size": ("sample-size", 3.0),
    "normal-errors": ("heavy-tails", 0.5),
    "equal-variances": ("unequal-variances", 0.7),
    "independent-errors": ("correlated-errors", 0.4),
    "exchangeable": ("related-tissues", 1.0),
    "unrelated-groups": ("related-tissues", 1.0),
    "slab-covariance": ("slab-covariance", 1.0),
    "exact-spike": ("small-effects", 0.3),
    "two-components": ("two-slabs", 1.0),
    MISSING: ("missing-by-value", 2.0),
}


@pytest.mark.statistical
@pytest.mark.parametrize("name", STRONG)
def test_each_violation_fires_its_check(name):
    violation, strength = STRONG[name]
    rng = np.random.default_rng(8)
    X = rng.standard_normal((120, 6)) @ np.linalg.cholesky(np.full((6, 6), 0.5) + 0.5 * np.eye(6)).T
    theta = Params(tau1=0.5, beta=[0.4, 0.3, 0.2, 0.0, 0.0, 0.0], eta=6.0, sigma2=1.0)
    missing = np.linspace(0.0, 0.6, 40)
    gene = ebmodel.simulate.violated(violation, strength, theta, m=40, missing=missing, X=X, seed=4)
    table = check(ebmodel.fit(gene.X, gene.Y), 39, groups=np.arange(40) // 5)
    assert table["p_value"].sel(check=name) <= 0.05, table["meaning"].sel(check=name).item()


@pytest.mark.statistical
def test_few_tissues_are_too_few():
    theta = Params(tau1=0.5, beta=[0.2, 0.1, 0.0, 0.0], eta=3.0, sigma2=1.0)
    found = {}
    for m in (6, 80):
        gene = ebmodel.simulate.model_true(theta, n=60, m=m, seed=2, posterior=False)
        found[m] = check(ebmodel.fit(gene.X, gene.Y), 39, checks=DESIGN).squeeze("check")
    assert found[6]["observed"] > found[80]["observed"]
    assert found[6]["verdict"] in ("doubtful", "fails")
    assert found[80]["verdict"] == "no sign against it"


def test_variances_of_their_own_mend_what_the_check_of_one_variance_finds():
    truth = ebmodel.Params(tau1=0.5, beta=[0.6, -0.4], eta=1.0, sigma2=1.0)
    gene = ebmodel.simulate.violated("unequal-variances", 1.0, truth, n=50, m=12, missing=0.2, seed=4)
    verdicts = [
        check(ebmodel.fit(gene.X, gene.Y, errors=errors), 39, checks="equal-variances").verdict.item()
        for errors in ("equal", "unequal")
    ]
    assert verdicts == ["doubtful", "no sign against it"]  # p = 1/40 is the least
