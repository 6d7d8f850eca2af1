"""The study of wrong accounts of the errors: its metrics, mashr's convention for missing cells, and what is shown."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy.stats import multivariate_normal

import ebmodel.mash
from simulations import mash_errors as errors
from simulations.mash_errors import CELLS, HUGE, KEYS, STUDY, WORDS, WORDS_MISSING, Estimate

STREAM = np.random.SeedSequence(7)
COMPLETE, GAPS = (dict(zip(KEYS, ("structured", "equal", 0.8, 0.3, missing, 5), strict=True)) for missing in (0.0, 0.3))


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(errors, "EFFECTS", 300)


def truth(b, bhat, V=None):
    """Effects of which every second one is scored."""
    b, bhat = (np.repeat(np.array(one, dtype=float), 2, axis=0) for one in (b, bhat))
    V = np.eye(b.shape[1]) if V is None else np.array(V)
    return xr.Dataset({
        "b": (("effect", "condition"), b), "bhat": (("effect", "condition"), bhat),
        "V": (("condition", "condition_other"), V),
    })  # fmt: skip


def estimate(mean, lfsr, V=None):
    mean = np.array(mean, dtype=float)
    return Estimate(np.eye(mean.shape[1]) if V is None else np.array(V), 0.5, mean, np.array(lfsr), 1.0)


# What is compared ----------------------------------------------------------------------------------------------------


def test_the_correlations_are_those_of_the_cells():
    np.testing.assert_array_equal(
        errors.correlation({"conditions": 3, "correlation": "ar", "rho": 0.5}),
        [[1.0, 0.5, 0.25], [0.5, 1.0, 0.5], [0.25, 0.5, 1.0]],
    )
    np.testing.assert_array_equal(
        errors.correlation({"conditions": 2, "correlation": "equal", "rho": 0.5}), [[1.0, 0.5], [0.5, 1.0]]
    )
    for cell in CELLS:
        C = errors.correlation(cell)
        assert C.shape == (cell["conditions"],) * 2
        assert np.linalg.eigvalsh(C)[0] > 0.1
        assert np.allclose(C, np.eye(len(C))) == (cell["correlation"] == "none")


def test_tissues_are_spread_over_all_and_not_repeated():
    for R in (5, 20, 44):
        names = errors.tissues(R)
        assert len(set(names)) == R
        assert {"Testis", "Whole_Blood"} & set(names)


def test_as_many_effects_are_scored_as_fitted_and_both_are_alike(small):
    data = errors.data(GAPS, STREAM)
    for half in (errors.fitted(data), errors.fresh(data)):
        assert half.sizes["effect"] == 300
        assert int((half["component"] != "null").sum()) == 90
    assert not set(errors.fitted(data)["effect"].values) & set(errors.fresh(data)["effect"].values)


def test_who_knows_the_correlation_is_given_it_and_others_are_not(small):
    data = errors.data(COMPLETE, STREAM)
    C = data["V"].to_numpy()
    found = {V: errors.with_V(data, STREAM, V=V) for V in ("true", "identity", "pairwise")}
    np.testing.assert_array_equal(found["true"].V, C)
    np.testing.assert_array_equal(found["identity"].V, np.eye(5))
    some = errors.fitted(data)
    want = ebmodel.mash.null_correlation(some["bhat"], some["shat"], method="pairwise")
    np.testing.assert_array_equal(found["pairwise"].V, want)
    assert found["true"].heldout > found["pairwise"].heldout > found["identity"].heldout


def test_fresh_effects_are_scored_per_effect(small):
    data = errors.data(COMPLETE, STREAM)
    some, other = errors.fitted(data), errors.fresh(data)
    fit = ebmodel.mash.fit(some["bhat"], some["shat"], covariances="canonical")
    got = errors.with_V(data, STREAM, V="identity")
    loglik = fit.apply(other["bhat"], other["shat"])["loglik"].to_numpy()
    assert got.heldout == pytest.approx(loglik.mean(), rel=1e-12)
    np.testing.assert_array_equal(got.lfsr, fit.lfsr)


def test_the_last_v_is_from_data_driven_covariances_which_the_fit_does_not_have(small, monkeypatch):
    data, seen = errors.data(COMPLETE, STREAM), []
    fit = ebmodel.mash.fit

    def spy(*arguments, **settings):
        seen.append((settings["V"], settings.get("covariances")))
        return fit(*arguments, **settings)

    monkeypatch.setattr(ebmodel.mash, "fit", spy)
    found = errors.em_learned(data, STREAM)
    assert seen[0] == ("em", None)
    np.testing.assert_array_equal(seen[1][0], found.V)
    assert seen[1][1] == "canonical"
    assert len(seen) == 2


# Missing cells -------------------------------------------------------------------------------------------------------


def conditional(data):
    """Correlation (effect, condition, condition) and standard errors that missing cells of 0 make of C: C_OO - C_Om
    C_mm^-1 C_mO."""
    C, s = data["V"].to_numpy(), data["shat"].to_numpy().copy()
    every = np.repeat(C[None], len(s), axis=0)
    for V, errors_, gone in zip(every, s, np.isnan(data["bhat"].to_numpy()), strict=True):
        O, m = np.flatnonzero(~gone), np.flatnonzero(gone)
        V[np.ix_(O, O)] -= C[np.ix_(O, m)] @ np.linalg.solve(C[np.ix_(m, m)], C[np.ix_(m, O)])
        sd = np.sqrt(np.diag(V))[O]
        V[np.ix_(O, O)] /= np.outer(sd, sd)
        V[np.ix_(O, m)] = V[np.ix_(m, O)] = 0.0
        errors_[O] *= sd
    return every, s


def test_the_convention_is_a_fit_to_errors_that_are_taken_to_be_smaller(small):
    data = errors.data(GAPS, STREAM)
    got, some, other = errors.convention(data, STREAM), errors.fitted(data), errors.fresh(data)
    V, s = conditional(some)
    assert (s <= some["shat"]).all()
    assert s.min() < 0.6 * some["shat"].min()
    grid = ebmodel.mash.fit(*errors.filled(some), V=data["V"].to_numpy(), covariances="canonical").weights["scale"]
    fit = ebmodel.mash.fit(some["bhat"].to_numpy(), s, V=V, covariances="canonical", grid=grid)
    assert got.null == pytest.approx(fit.null_weight, abs=1e-5)
    there = ~np.isnan(some["bhat"].to_numpy())
    np.testing.assert_allclose(got.mean[there], fit.mean.to_numpy()[there], atol=1e-6)
    np.testing.assert_allclose(got.lfsr[there], fit.lfsr.to_numpy()[there], atol=1e-5)
    V, s = conditional(other)
    assert got.heldout == pytest.approx(fit.score(other["bhat"].to_numpy(), s, V) / 300, abs=1e-5)


def test_the_density_of_zeros_is_a_normals():
    C = np.array([[1.0, 0.8, 0.3], [0.8, 1.0, 0.2], [0.3, 0.2, 1.0]])
    data = truth(np.zeros((2, 3)), [[np.nan, np.nan, 1.0], [1.0, 1.0, np.nan]], C)
    want = multivariate_normal.logpdf([0.0, 0.0], cov=HUGE**2 * C[:2, :2]) + multivariate_normal.logpdf(0.0, cov=1e12)
    assert errors.log_density_of_zeros(data) == pytest.approx(2 * want, rel=1e-12)
    assert errors.log_density_of_zeros(truth([[0.0]], [[1.0]])) == 0.0


def test_only_errors_that_correlate_make_a_difference(small):
    for rho, same in ((0.0, True), (0.8, False)):
        data = errors.data({**GAPS, "rho": rho}, STREAM)
        exact, other = errors.with_V(data, STREAM, V="true"), errors.convention(data, STREAM)
        assert (np.abs(exact.mean - other.mean).max() < 1e-6) == same
        assert (abs(exact.heldout - other.heldout) < 1e-6) == same
        assert (exact.null - other.null > 0.1) != same


def test_the_prior_of_the_convention_can_be_applied_without_it(small):
    data = errors.data(GAPS, STREAM)
    convention, got, some = errors.convention(data, STREAM), errors.convention_prior(data, STREAM), errors.fitted(data)
    assert got.null == convention.null
    fit = ebmodel.mash.fit(*errors.filled(some), V=data["V"].to_numpy(), covariances="canonical")
    np.testing.assert_allclose(got.mean, fit.apply(some["bhat"], some["shat"])["mean"], atol=1e-14)
    assert np.abs(got.mean - convention.mean).max() > 0.01


# Metrics -------------------------------------------------------------------------------------------------------------


def test_the_error_of_a_correlation_is_off_the_diagonal():
    C = [[1.0, 0.5, 0.5], [0.5, 1.0, 0.5], [0.5, 0.5, 1.0]]
    V = [[1.0, 0.2, 0.5], [0.2, 1.0, 0.9], [0.5, 0.9, 1.0]]
    data = truth(np.zeros((1, 3)), np.zeros((1, 3)), C)
    found = errors.account(estimate(np.zeros((1, 3)), np.ones((1, 3)), V), data)
    assert found["V_mean"] == pytest.approx(1.6 / 3)
    assert found["V_true"] == pytest.approx(0.5)
    assert found["V_error"] == pytest.approx(np.sqrt((0.09 + 0.16) / 3))
    assert (found["null"], found["heldout"]) == (0.5, 1.0)


def test_calls_are_of_observed_effects():
    data = truth([[1.0, 1.0, 0.0, 1.0, 0.0]], [[1.0, 1.0, 1.0, 1.0, np.nan]])
    found = errors.calls(estimate([[1.0, -1.0, 1.0, 1.0, 1.0]], [[0.001, 0.005, 0.04, 0.3, 0.01]]), data)
    assert (found["called"], found["wrong"]) == (3.0, 2.0)
    assert found["claimed"] == pytest.approx(0.046)
    assert found["power"] == pytest.approx(1 / 3)


def test_errors_are_counted_where_there_is_an_estimate_and_apart_where_there_is_none():
    data = truth([[1.0, 1.0, 2.0]], [[1.0, 1.0, np.nan]])
    found = errors.errors(estimate([[1.0, 3.0, 5.0]], np.ones((1, 3))), data)
    assert found["rmse"] == pytest.approx(np.sqrt(2.0))
    assert found["rmse_missing"] == pytest.approx(3.0)
    assert np.isnan(errors.errors(estimate([[1.0]], [[1.0]]), truth([[1.0]], [[1.0]]))["rmse_missing"])


# What is shown -------------------------------------------------------------------------------------------------------


def test_every_method_is_run_where_it_belongs():
    for cell in CELLS:
        run = {part for part in STUDY.replicate.parts if STUDY.replicate.wants(part, cell, 0)}
        assert run == set(WORDS_MISSING if cell["missing"] else WORDS)
    assert not set(WORDS) & set(WORDS_MISSING)


def test_a_promise_is_broken_by_more_than_chance():
    group = pd.DataFrame({"called_x": [100.0, 110.0, 90.0], "claimed_x": [1.0, 1.0, 1.0], "wrong_x": [5.0, 6.0, 4.0]})
    assert errors._broken(group, "x")
    assert not errors._broken(group.assign(wrong_x=[0.0, 10.0, 1.0]), "x")  # chance
    assert not errors._broken(group.assign(wrong_x=[1.9, 2.0, 1.9]), "x")
    assert not errors._broken(group.assign(wrong_x=[0.0, 0.0, 0.0]), "x")
    assert errors._promise(group, "x") == "0.050 ± 0.003 (0.010)"
    assert not errors._broken(0 * group, "x")


def test_ranges_are_short_where_values_look_the_same():
    assert errors._range([0.1, 0.3, np.nan, 0.2]) == "0.100 to 0.300"
    assert errors._range([0.1, 0.1000001]) == "0.100"
    assert errors._range([np.nan]) == "–"


def test_the_study_runs_and_is_shown(small, monkeypatch, tmp_path):
    cells = [COMPLETE, GAPS]
    monkeypatch.setattr(errors, "CELLS", cells)
    study = replace(STUDY, cells=cells, replications=2, folder=tmp_path)
    results = study.run(jobs=1, progress=False)
    assert len(results) == 4
    stored = results[results["replication"] == 1].iloc[0]
    for part, again in study.records(cells[0], 1, ["simple", "em"]).items():
        for name in ("V_error", "heldout", "called"):
            assert again[name] == stored[f"{name}_{part}"]
    pd.testing.assert_frame_equal(study.read(), results)
    gaps = results[results["missing"] > 0.0]
    assert gaps["V_error_true"].isna().all()
    assert (gaps["V_error_convention"] == 0.0).all()

    rows = errors.correlation_table(results).rows
    assert [row[0] for row in rows] == ["shared, structured, 30 %, errors correlate by 0.8, 5 conditions"]
    group = results.iloc[:2]
    share = group["wrong_identity"].sum() / group["called_identity"].sum()
    claimed = group["claimed_identity"].sum() / group["called_identity"].sum()
    assert rows[0][1] == f"{group['called_true'].mean():.0f}"
    assert rows[0][3].startswith(f"{share:.3f} ± ")
    assert rows[0][3].endswith(f" ({claimed:.3f})")
    assert len(errors.missing_table(results).rows) == 1

    text = study.table(results)
    lost = (group["heldout_true"] - group["heldout_identity"]).mean()
    assert f"; identity {share:.3f}; simple (mashr) " in text
    assert f"; identity {int(errors._broken(group, 'identity'))}; simple (mashr) " in text
    assert f"; identity {group['V_error_identity'].mean():.2f}; simple (mashr) " in text
    assert f"; identity {lost:.2f}; simple (mashr) " in text
    ratio = (gaps["rmse_convention"] / gaps["rmse_exact"]).mean()
    assert f"where errors correlate: RMSE in observed cells {ratio:.2f} times" in text
    assert "independent" not in text
    study.write_tables()
    monkeypatch.setattr(errors, "CELLS", [{**cell, "correlation": "none"} for cell in cells])
    said = errors.finding(results.assign(correlation="none"))
    assert said.startswith("- Where they are independent (1 rows), such rows, and what is lost: C 0, 0.00; identity ")
    assert f"; identity {int(errors._broken(group, 'identity'))}, {lost:.2f}; simple (mashr) " in said
    monkeypatch.setattr(errors, "CELLS", cells)
    for table in errors.tables(results):
        assert len({len(table.header), *map(len, table.rows)}) == 1
        assert (tmp_path / "tables" / f"{table.name}.csv").is_file()
