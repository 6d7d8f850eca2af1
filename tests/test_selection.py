"""The candidates of a selection: ranked by evidence, none lost, and what cannot be fitted says why."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy.special import softmax

import ebmodel
from ebmodel.selection import SLABS

WORDS = ("g", "independent", "power")
MEANS = ("free", "zero", "hierarchical")


@pytest.fixture(scope="module")
def gene():
    return ebmodel.simulate.setting(3, rho=0.6, signal=1, m=15, p=6, n=40, sigma=3, seed=2)


@pytest.fixture(scope="module")
def chosen(gene):
    return ebmodel.select(gene.X, gene.Y, slabs=WORDS)


def named(table):
    """(slab, mean) of every row."""
    return list(zip(table.slab.to_numpy().tolist(), table["mean"].to_numpy().tolist(), strict=True))


def test_every_word_for_a_slab_and_a_mean_is_a_candidate_if_none_is_named(gene):
    table = ebmodel.select(gene.X, gene.Y, n_starts=2).table
    assert sorted(named(table)) == sorted(product(SLABS, MEANS))
    assert set(WORDS) <= set(SLABS)


def test_the_table_has_every_candidate_and_the_best_first(chosen):
    table, fit = chosen
    assert table.sizes == {"candidate": 9}
    assert sorted(named(table)) == sorted(product(WORDS, MEANS))
    evidence = table.log_evidence.to_numpy()
    assert (np.diff(evidence) <= 0.0).all()
    assert fit.log_evidence == evidence[0]
    assert fit.params.sigma2 == float(table.sigma2[0])


def test_weights_are_shares_of_the_evidence(chosen):
    weight = chosen.table.weight.to_numpy()
    assert weight.sum() == pytest.approx(1.0, abs=1e-12)
    np.testing.assert_allclose(weight, softmax(chosen.table.log_evidence.to_numpy()), rtol=1e-12)


def test_every_row_is_the_fit_of_its_own(gene, chosen):
    for i in range(chosen.table.sizes["candidate"]):
        row = chosen.table.isel(candidate=i)
        fit = ebmodel.fit(gene.X, gene.Y, str(row.slab.item()), str(row["mean"].item()))
        theta = fit.params
        kappa = np.nan if theta.kappa is None else theta.kappa
        got = [float(row[name]) for name in ("loglik", "log_evidence", "tau1", "eta", "sigma2", "alpha", "kappa")]
        want = [fit.loglik, fit.log_evidence, theta.tau1, theta.eta, theta.sigma2, theta.alpha, kappa]
        np.testing.assert_array_equal(got, want)
        assert row.status.item() == fit.status
        assert row.kind.item() == fit.dataset.attrs["evidence"]


def test_a_parameter_costs_half_log_m(chosen):
    """15 tissues; beta is six parameters where it is one at all, alpha and kappa one each."""
    table = chosen.table
    np.testing.assert_allclose(table.cost, table.loglik - table.log_evidence, rtol=0, atol=1e-9)
    for i in range(9):
        row = table.isel(candidate=i)
        number = 6 * (row["mean"] == "free") + (row["mean"] == "hierarchical") + (row.slab == "power")
        assert float(row.cost) == pytest.approx(0.5 * float(number) * np.log(15), abs=1e-9)


def test_more_general_candidates_are_nowhere_lower(chosen):
    """In likelihood or its bound, which is what is maximised; evidence is a matter of cost."""
    value = dict(zip(named(chosen.table), chosen.table.loglik.to_numpy(), strict=True))
    for slab in WORDS:
        assert value[slab, "zero"] <= value[slab, "hierarchical"] <= value[slab, "free"]
    for mean in MEANS:
        assert max(value["g", mean], value["independent", mean]) <= value["power", mean] + 1e-6


def test_slabs_of_every_sort_can_be_candidates(gene):
    matrix = np.diag(np.arange(1.0, 7.0))
    table, fit = ebmodel.select(gene.X, gene.Y, slabs=("g", -0.5, matrix), means=("zero",), n_starts=4)
    assert set(table.slab.to_numpy().tolist()) == {"g", "-0.5", "matrix"}
    alpha = dict(zip(table.slab.to_numpy().tolist(), table.alpha.to_numpy(), strict=True))
    assert (alpha["g"], alpha["-0.5"]) == (1.0, -0.5)
    assert np.isnan(alpha["matrix"])
    assert fit.params.kappa == 0.0


def test_covariates_and_settings_are_passed_on(gene):
    C = np.random.default_rng(0).standard_normal((40, 2))
    table, fit = ebmodel.select(gene.X, gene.Y, ("g",), ("zero",), C, intercept=True, n_starts=2, max_iter=7, tol=0.0)
    alone = ebmodel.fit(gene.X, gene.Y, "g", "zero", C, intercept=True, n_starts=2, max_iter=7, tol=0.0)
    assert fit.loglik == alone.loglik
    assert fit.dataset.sizes["start"] == 2
    assert "not converged in 7 steps" in table.status.item()


def test_a_candidate_that_cannot_be_fitted_is_listed_with_its_reason():
    """As many SNPs as samples: the paper's slab has no maximum, independent effects have."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((12, 20))
    Y = X @ rng.standard_normal((20, 6)) + rng.standard_normal((12, 6))
    table, fit = ebmodel.select(X, Y, ("g", "independent", 0.5), ("zero", "hierarchical"))
    failed = table.isel(candidate=slice(4, None))
    assert failed.slab.to_numpy().tolist() == ["g", "g"]
    assert np.isnan(failed.log_evidence).all()
    assert np.isnan(failed.tau1).all()
    np.testing.assert_array_equal(failed.weight, 0.0)
    assert failed.kind.to_numpy().tolist() == ["none", "none"]
    for status in failed.status.to_numpy():
        assert "expected more samples than SNPs in some tissue, got 12 degrees of freedom" in status
    assert np.isfinite(table.log_evidence[:4]).all()
    assert table.weight.sum() == pytest.approx(1.0, abs=1e-12)
    assert fit.log_evidence == float(table.log_evidence[0])


def test_one_tissue_leaves_the_mean_of_zero(gene):
    table, fit = ebmodel.select(gene.X, gene.Y[:, :1], slabs=("g",))
    assert table["mean"].to_numpy()[0] == "zero"
    assert fit.params.kappa == 0.0
    assert table.weight.to_numpy().tolist() == [1.0, 0.0, 0.0]
    assert all("at least 2 tissues with data" in status for status in table.status.to_numpy()[1:])


def test_nothing_to_choose_from_is_refused(gene):
    rng = np.random.default_rng(0)
    wide, Y = rng.standard_normal((12, 20)), rng.standard_normal((12, 6))
    with pytest.raises(
        ebmodel.InputError, match=r"expected a candidate that can be fitted, got .*more samples than SNPs"
    ):
        ebmodel.select(wide, Y, slabs=("g",))
    for slabs, means in (((), MEANS), (("g",), ())):
        with pytest.raises(ebmodel.InputError, match="expected at least one slab and one mean, got none, in select"):
            ebmodel.select(gene.X, gene.Y, slabs, means)
    with pytest.raises(
        ebmodel.InputError, match=r"expected a candidate that can be fitted, got .*one of 'free', 'zero'"
    ):
        ebmodel.select(gene.X, gene.Y, means=("other",))


def test_a_mistake_in_the_settings_is_not_taken_for_a_candidate(gene):
    with pytest.raises(TypeError, match="starts"):
        ebmodel.select(gene.X, gene.Y, starts=3)


# Errors that tissues share -------------------------------------------------------------------------------------------


def shared_errors(seed, correlation, missing=0.3, n=80, p=5, m=12):
    """X, Y and two covariates; errors of any two tissues have this correlation."""
    rng = np.random.default_rng(seed)
    X, C = rng.standard_normal((n, p)), rng.standard_normal((n, 2))
    errors = np.sqrt(correlation) * rng.standard_normal((n, 1)) + np.sqrt(1 - correlation) * rng.standard_normal((n, m))
    Y = X @ rng.standard_normal((p, m)) + C @ rng.standard_normal((2, m)) + errors
    Y[rng.random((n, m)) < missing] = np.nan
    return X, Y, C


@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_correlated_residuals_are_cautioned_against_and_independent_ones_are_not(missing):
    """The root mean square over 66 pairs of some 50 samples: a standard error of a few hundredths."""
    for correlation in (0.3, 0.6):
        X, Y, C = shared_errors(1, correlation, missing)
        attrs = ebmodel.select(X, Y, ("g",), ("zero",), C, intercept=True, n_starts=1).table.attrs
        assert attrs["residual_correlation"] == pytest.approx(correlation, abs=0.15)
        assert attrs["caution"]
    for seed in range(5):
        X, Y, C = shared_errors(seed, 0.0, missing)
        attrs = ebmodel.select(X, Y, ("g",), ("zero",), C, intercept=True, n_starts=1).table.attrs
        assert attrs["residual_correlation"] < 0.1
        assert attrs["caution"] == ""


def test_where_residuals_are_correlated_means_are_passed_over():
    """Errors shared by all tissues look like a mean that they share: the evidence is for it, and not to be trusted."""
    X, Y, _ = shared_errors(1, 0.6)
    table, chosen = ebmodel.select(X, Y, slabs=("g", "independent"))
    assert table.attrs["caution"]
    np.testing.assert_array_equal(table["eligible"], table["mean"] == "zero")
    assert table["eligible"].to_numpy().tolist() == [True] * 2 + [False] * 4  # the best first
    assert table["weight"].sum() == pytest.approx(1.0)
    assert (table["weight"][2:] == 0.0).all()
    assert chosen.params.kappa == 0.0
    assert chosen.log_evidence == table["log_evidence"].to_numpy()[0]
    alone = ebmodel.select(X, Y, ("g", "independent"), ("free", "hierarchical"))  # nothing else to choose from
    assert alone.table.attrs["caution"]
    assert alone.table["eligible"].all()


def test_without_residuals_their_correlation_is_unknown():
    rng = np.random.default_rng(0)
    X, Y = rng.standard_normal((12, 20)), rng.standard_normal((12, 6))
    attrs = ebmodel.select(X, Y, ("independent",), ("zero",), n_starts=1).table.attrs
    assert np.isnan(attrs["residual_correlation"])
    assert attrs["caution"] == ""


@pytest.mark.statistical
def test_evidence_finds_the_model_that_made_the_data():
    """Slab and mean together, out of four; more often than not by far, for evidence is no certainty."""
    X = ebmodel.simulate.setting(1, rho=0.6, p=8, n=60, seed=0)["X"].to_numpy()
    right = dict.fromkeys([("g", "zero"), ("g", "hierarchical"), (-1.0, "zero"), (-1.0, "hierarchical")], 0)
    for slab, mean in right:
        scale = 1.0 if slab == "g" else 0.03
        theta = ebmodel.Params(tau1=0.6, beta=np.zeros(8), eta=2.0 * scale, sigma2=1.0, slab=slab)
        root = np.linalg.cholesky(ebmodel.dense.slab_shape(X, theta))
        for seed in range(20):
            kappa = 0.0 if mean == "zero" else 6.0 * scale
            beta = np.sqrt(kappa) * root @ np.random.default_rng([seed, 1]).standard_normal(8)
            params = ebmodel.Params(tau1=0.6, beta=beta, eta=2.0 * scale, sigma2=1.0, slab=slab)
            gene = ebmodel.simulate.model_true(params, X=X, m=40, seed=seed, posterior=False)
            table = ebmodel.select(gene.X, gene.Y, ("g", -1.0), ("zero", "hierarchical")).table
            right[slab, mean] += (table.slab.to_numpy()[0], table["mean"].to_numpy()[0]) == (
                "g" if slab == "g" else "-1",
                mean,
            )
    assert min(right.values()) >= 16
