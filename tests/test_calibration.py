"""Calibrated by construction passes, distorted is caught; identities hold exactly; what cannot be used is refused."""

from __future__ import annotations

from typing import Any

import arviz as az
import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, logit, logsumexp
from scipy.stats import rankdata

import ebmodel
from ebmodel import InputError, Params
from ebmodel import calibration as cal
from ebmodel.calibration.evidence import EDGES
from ebmodel.calibration.predictive import Parameters, _compressed, _tissue
from ebmodel.data import tidy
from ebmodel.likelihood import log_null, log_slab
from ebmodel.statistics import compress, whiten
from simulations.metrics import called as called_in_studies

THETA = Params(tau1=0.5, beta=[0.4, -0.3, 0.2], eta=6.0, sigma2=1.0)
M, SETS = 20, 30


def gene(seed: int, theta: Params = THETA, m: int = M, **options: Any) -> xr.Dataset:
    return ebmodel.simulate.model_true(theta, n=40, m=m, seed=seed, posterior=False, **options)


@pytest.fixture(scope="module")
def genes() -> list[xr.Dataset]:
    return [gene(seed) for seed in range(SETS)]


@pytest.fixture(scope="module")
def exact(genes: list[xr.Dataset]) -> list[ebmodel.Fit]:
    """Calibrated by construction: the posterior at the truth."""
    return [ebmodel.simulate.exact_posterior(one) for one in genes]


def sharpened(fits: list[ebmodel.Fit], factor: float = 2.0) -> list[np.ndarray]:
    """Log odds doubled."""
    return [expit(factor * (logit(f.params.tau1) - f.log_bayes_factor.to_numpy())) for f in fits]


def scores(curve: xr.Dataset) -> float:
    return float(curve.reliability + curve.within_bins - curve.resolution + curve.uncertainty)


# Reliability ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bins", [10, (0.0, 0.05, 0.5, 0.95, 1.0), "isotonic"])
def test_exact_probabilities_are_reliable_and_sharpened_ones_are_not(
    exact: list[ebmodel.Fit], genes: list[xr.Dataset], bins: Any
) -> None:
    good, bad = cal.reliability(exact, genes, bins), cal.reliability(sharpened(exact), genes, bins)
    assert good.p_value > 0.05
    assert bad.p_value < 0.01
    assert bad.calibration_error > 2.0 * bad.calibration_error_expected
    z = (good.observed - good.predicted) / good.standard_error
    if bins != "isotonic":  # whose blocks are where the data are
        assert float(np.abs(z.where(good["count"] > 20)).max()) < 3.5
    assert good.attrs["tissues"] == M * SETS
    assert good.attrs["replicates"] == SETS


@given(
    st.lists(
        st.tuples(st.sampled_from([0.0, 0.01, 0.3, 0.3, 0.55, 0.999, 1.0]), st.booleans()), min_size=1, max_size=30
    ),
    st.sampled_from([1, 3, 10, "isotonic"]),
    st.integers(1, 4),
)
def test_brier_s_score_is_the_sum_of_its_parts(pairs: list[tuple[float, bool]], bins: Any, sets: int) -> None:
    """Whatever the probabilities: all 0, all 1, no active tissue, one tissue; in one data set or several."""
    h, active = np.array([p for p, _ in pairs]), np.array([a for _, a in pairs])
    curve = cal.reliability([h] * sets, [active] * sets, bins, draws=5)
    assert np.isclose(curve.brier, np.mean((h - active) ** 2), rtol=0, atol=1e-12)
    assert np.isclose(scores(curve), curve.brier, rtol=0, atol=1e-12)
    assert int(curve["count"].sum()) == sets * len(h)
    assert 0.0 <= float(curve.calibration_error) <= 1.0
    assert 0.0 < float(curve.p_value) <= 1.0
    some = curve.isel(bin=np.flatnonzero(curve["count"] > 0))
    assert bool(((some.lower <= some.observed) & (some.observed <= some.upper)).all())
    assert bool(((some.left <= some.predicted + 1e-12) & (some.predicted <= some.right + 1e-12)).all())
    if sets > 1:
        assert np.allclose(curve.brier_se, 0.0, atol=1e-12)  # the data sets are the same
    else:
        assert np.isnan(curve.brier_se)


def test_isotonic_blocks_rise_and_minimise_brier_s_score(exact: list[ebmodel.Fit], genes: list[xr.Dataset]) -> None:
    from sklearn.isotonic import IsotonicRegression

    curve = cal.reliability(exact, genes, "isotonic", draws=5)
    assert (np.diff(curve.observed) > 0).all()
    assert (curve.left.values[1:] > curve.right.values[:-1]).all()
    h = np.concatenate([fit.posterior_probability for fit in exact])
    active = np.concatenate([one.active for one in genes])
    fitted = IsotonicRegression().fit_transform(rankdata(h, "dense"), active)
    assert np.isclose(curve.uncertainty - curve.resolution, np.mean((fitted - active) ** 2), atol=1e-10)


def test_standard_errors_are_of_data_sets_not_of_tissues() -> None:
    """Every tissue twenty times over, in its own data set, says no more than once; as one data set it would."""
    rng = np.random.default_rng(1)
    h = rng.random(300)
    active = rng.random(300) < h
    single = cal.reliability(h[:, None], active[:, None], 5, draws=5)
    copied = cal.reliability(np.repeat(h[:, None], 20, axis=1), np.repeat(active[:, None], 20, axis=1), 5, draws=5)
    for name in ("standard_error", "brier_se", "lower", "upper"):
        np.testing.assert_allclose(copied[name], single[name], rtol=1e-6 if name.endswith(("error", "se")) else 0.02)
    np.testing.assert_allclose(
        single.standard_error, np.sqrt(single.observed * (1 - single.observed) / single["count"]), rtol=0.01
    )
    mean = (h - active) ** 2
    assert np.isclose(single.brier_se, mean.std(ddof=1) / np.sqrt(300), rtol=1e-6)


def test_wilson_s_interval_is_the_textbook_s() -> None:
    lower, upper = cal.curves.wilson(np.array([0.0, 0.5, 1.0]), np.array([10.0, 10.0, 10.0]), 0.95)
    np.testing.assert_allclose(lower, [0.0, 0.2366, 0.7225], atol=1e-4)
    np.testing.assert_allclose(upper, [0.2775, 0.7634, 1.0], atol=1e-4)


def test_truths_are_matched_by_tissue_name(exact: list[ebmodel.Fit], genes: list[xr.Dataset]) -> None:
    turned = genes[0].isel(tissue=slice(None, None, -1))
    assert cal.reliability(exact[0], turned, draws=5).brier == cal.reliability(exact[0], genes[0], draws=5).brier
    other = genes[0].assign_coords(tissue=[f"t{i}" for i in range(M)])
    with pytest.raises(InputError, match="the same tissues"):
        cal.reliability(exact[0], other)


@pytest.mark.parametrize(
    ("probability", "active", "match"),
    [
        ([0.5, np.nan], [True, False], "a number for every tissue"),
        ([0.5, 1.5], [True, False], r"probabilities in \[0, 1\]"),
        ([0.5, 0.2], [True], "a truth for every tissue"),
        ([0.5, 0.2], [1, 2], "0 or 1"),
        ([], [], "at least one tissue"),
        ([[0.5], [0.2]], [[True]], "as many truths"),
    ],
)
def test_what_cannot_be_judged_is_refused(probability: Any, active: Any, match: str) -> None:
    for judge in (cal.reliability, cal.false_discovery):
        with pytest.raises(InputError, match=match):
            judge(probability, active)


@pytest.mark.parametrize("bins", [0, (0.0, 0.5), (0.0, 0.7, 0.6, 1.0), "quantiles"])
def test_bins_must_be_bins(bins: Any) -> None:
    with pytest.raises(InputError, match="bins"):
        cal.reliability([0.5], [True], bins)


# Ranking -------------------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=30))
def test_auc_is_the_share_of_pairs_in_order(pairs: list[tuple[int, bool]]) -> None:
    score, active = (np.array(values) for values in zip(*pairs, strict=True))
    above = np.subtract.outer(score[active], score[~active])
    expected = np.mean(np.where(above == 0, 0.5, above > 0)) if above.size else np.nan
    assert cal.auc(score, active) == pytest.approx(expected, nan_ok=True)
    assert cal.auc(np.exp(score), active.astype(int)) == pytest.approx(expected, nan_ok=True)


def test_auc_of_what_is_not_known_is_nan_and_of_no_truth_refused() -> None:
    assert np.isnan(cal.auc([0.2, np.nan, 0.4], [True, False, True]))
    with pytest.raises(InputError, match=r"a truth for every score, got \(2,\) for \(3,\)"):
        cal.auc([0.2, 0.3, 0.4], [True, False])
    with pytest.raises(InputError, match="0 or 1, or False or True"):
        cal.auc([0.2, 0.3], [0.5, 1.0])


# False discoveries ---------------------------------------------------------------------------------------------------


def test_q_values_are_running_means_and_ties_come_together() -> None:
    found = cal.bayesian_fdr([0.9, 1.0, 0.6, 0.9, 0.0], level=0.1)
    np.testing.assert_allclose(found.q_value, [0.2 / 3, 0.0, 0.6 / 4, 0.2 / 3, 1.6 / 5])
    assert found.called.values.tolist() == [True, True, False, True, False]
    assert np.isclose(found.attrs["expected"], 0.2 / 3)


@given(
    st.lists(st.sampled_from([0.0, 0.2, 0.5, 0.9, 0.97, 1.0]), min_size=1, max_size=15),
    st.sampled_from([0.01, 0.05, 0.3]),
)
def test_calls_are_those_of_the_studies(probability: list[float], level: float) -> None:
    found = cal.bayesian_fdr(probability, level)
    np.testing.assert_array_equal(found.called, called_in_studies(np.array(probability), level))
    assert found.attrs["expected"] <= level


def test_exact_probabilities_keep_their_promise_and_sharpened_ones_break_it(
    exact: list[ebmodel.Fit], genes: list[xr.Dataset]
) -> None:
    good, bad = cal.false_discovery(exact, genes), cal.false_discovery(sharpened(exact, 4.0), genes)
    assert float(np.abs(good.excess / good.excess_se).max()) < 3.0
    assert float((bad.excess / bad.excess_se).max()) > 3.0
    assert (good.expected <= good.level + 1e-12).all()
    np.testing.assert_allclose(good.realised - good.expected, good.excess, atol=1e-12)


def test_no_active_tissue_and_no_call() -> None:
    found = cal.false_discovery([0.99, 0.2], [False, False], levels=[0.05])
    assert (found.realised.item(), found.called.item()) == (1.0, 1.0)
    assert np.isnan(found.power.item())
    nothing = cal.false_discovery([0.0, 0.2], [False, True], levels=[0.05])
    assert (nothing.realised.item(), nothing.expected.item(), nothing.power.item()) == (0.0, 0.0, 0.0)


# Bayes factors -------------------------------------------------------------------------------------------------------


def normal_evidence(size: int, seed: int = 0, mu: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """log K of y ~ N(mu I, 1), tau1 = 0.3: log 1/K = mu y - mu^2/2, with every moment known."""
    rng = np.random.default_rng(seed)
    active = rng.random(size) < 0.3
    y = rng.standard_normal(size) + mu * active
    return -(mu * y - mu**2 / 2), active


def test_bayes_factors_that_are_right_pass_every_check() -> None:
    log_K, active = normal_evidence(20000)
    found = cal.bayes_factors(log_K.reshape(100, 200), active.reshape(100, 200), tau1=0.3)
    for name, want in (("slope", 1.0), ("intercept", 0.0), ("mean_null", 1.0), ("mean_active", 1.0)):
        assert abs(float(found[name]) - want) < 3.5 * float(found[f"{name}_se"]), name
    # var(1/K | H0) = e^(mu^2) - 1
    np.testing.assert_allclose(found.mean_null_se, np.sqrt(np.expm1(1.0) / (active == 0).sum()), rtol=0.2)
    assert (found.misleading_null <= found.bound + 3 * found.misleading_null_se).all()
    assert (found.misleading_active <= found.bound + 3 * found.misleading_active_se).all()
    inner = found.isel(bin=slice(1, -1))
    assert bool(((inner.lower < inner.claimed) & (inner.claimed < inner.upper)).mean() > 0.8)
    assert found.sizes["bin"] == len(EDGES) + 1


@pytest.mark.parametrize(("factor", "shift"), [(2.0, 0.0), (0.5, 0.0), (1.0, 1.0)])
def test_the_slope_undoes_the_distortion(factor: float, shift: float) -> None:
    log_K, active = normal_evidence(20000)
    found = cal.bayes_factors([factor * log_K - shift], [active], tau1=0.3)
    assert abs(float(found.slope) - 1.0 / factor) < 3.5 * float(found.slope_se)
    assert abs(float(found.intercept) + shift / factor) < 3.5 * float(found.intercept_se)
    assert found.slope_se < 0.05
    assert found.attrs["status"] == "standard errors by tissue"


def test_the_regression_is_maximum_likelihood() -> None:
    from sklearn.linear_model import LogisticRegression

    log_K, active = normal_evidence(500)
    found = cal.bayes_factors(log_K, active, tau1=0.5)
    other = LogisticRegression(C=np.inf, tol=1e-10).fit(-log_K[:, None], active)
    assert np.isclose(found.slope, other.coef_[0, 0], atol=1e-5)
    assert np.isclose(found.intercept, other.intercept_[0], atol=1e-5)


def test_copies_of_tissues_do_not_sharpen_the_slope() -> None:
    log_K, active = normal_evidence(300)
    single = cal.bayes_factors(log_K[:, None], active[:, None], tau1=0.3)
    copied = cal.bayes_factors(np.repeat(log_K[:, None], 9, axis=1), np.repeat(active[:, None], 9, axis=1), tau1=0.3)
    for name in ("slope", "slope_se", "mean_active_se", "misleading_null_se"):
        np.testing.assert_allclose(copied[name], single[name], rtol=1e-5)


def test_a_fit_brings_its_own_prior(exact: list[ebmodel.Fit], genes: list[xr.Dataset]) -> None:
    found = cal.bayes_factors(exact, genes)
    assert abs(float(found.slope) - 1.0) < 3.5 * float(found.slope_se)
    assert abs(float(found.intercept)) < 3.5 * float(found.intercept_se)
    arrays = cal.bayes_factors([f.log_bayes_factor.to_numpy() for f in exact], genes, tau1=0.5)
    xr.testing.assert_allclose(found, arrays)
    with pytest.raises(InputError, match="fits, or arrays and tau1"):
        cal.bayes_factors(exact, genes, tau1=0.5)
    with pytest.raises(InputError, match="fits, or arrays and tau1"):
        cal.bayes_factors([0.3, 0.2], [True, False])


@given(
    st.lists(st.tuples(st.sampled_from([-800.0, -2.0, 0.0, 0.4, 900.0]), st.booleans()), min_size=1, max_size=8),
    st.sampled_from([0.0, 0.3, 1.0]),
)
def test_evidence_that_settles_nothing_says_so(pairs: list[tuple[float, bool]], tau1: float) -> None:
    log_K, active = np.array([k for k, _ in pairs]), np.array([a for _, a in pairs])
    found = cal.bayes_factors(log_K, active, tau1=tau1)
    apart = not active.any() or active.all() or log_K[active].max() <= log_K[~active].min()
    apart = apart or log_K[active].min() >= log_K[~active].max() or tau1 in (0.0, 1.0)
    assert np.isnan(found.slope) == apart
    assert found.attrs["status"].startswith("no slope") == apart
    assert found.attrs["left_out"] == (len(pairs) if tau1 in (0.0, 1.0) else 0)


# Resampling ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small() -> ebmodel.Fit:
    """Eight tissues and five SNPs: too few to fit closely, and some responses missing."""
    theta = Params(tau1=0.5, beta=[0.4, -0.3, 0.2, 0.0, 0.0], eta=6.0, sigma2=1.0)
    one = gene(3, theta, m=8, missing=0.1)
    return ebmodel.fit(one.X, one.Y, n_starts=16)


@pytest.fixture(scope="module")
def calibration(small: ebmodel.Fit) -> xr.DataTree:
    return cal.calibrate(small, replicates=60, seed=1, n_starts=8, progress=False)


def test_with_few_tissues_refits_are_too_sure_and_the_exact_posterior_is_not(calibration: xr.DataTree) -> None:
    refit, exact = calibration["bayes_factors"], calibration["exact_reliability"]
    assert float(refit["slope"]) < 1.0 - 3.0 * float(refit["slope_se"])
    assert float(calibration["reliability"]["brier"]) > float(exact["brier"])
    assert float(exact["p_value"]) > 0.05
    assert float(calibration["reliability"]["p_value"]) < 0.05


def test_more_replicates_add_to_fewer_and_curves_are_those_of_the_parts(
    small: ebmodel.Fit, calibration: xr.DataTree
) -> None:
    few = cal.calibrate(small, replicates=3, seed=1, n_starts=8, progress=False)
    drawn = calibration["replicates"].to_dataset()
    xr.testing.assert_equal(few["replicates"].to_dataset(), drawn.isel(replicate=slice(3)))
    xr.testing.assert_equal(
        calibration["false_discovery"].to_dataset(), cal.false_discovery(drawn.probability, drawn.active)
    )
    assert calibration.attrs["failed"] == 0
    assert calibration.attrs["asked"] == drawn.sizes["replicate"] == 60


def test_recalibration_is_the_regression_applied(small: ebmodel.Fit, calibration: xr.DataTree) -> None:
    found = cal.recalibrate(small, calibration)
    a, b = float(found.intercept), float(found.slope)
    tau1, limit = small.params.tau1, found.attrs["limit"]
    assert np.isclose(limit, np.log(8 * found.attrs["replicates"]))
    log_odds = a + b * np.clip(logit(tau1) - small.log_bayes_factor, -limit, limit)
    np.testing.assert_allclose(found.probability, expit(log_odds), rtol=1e-9)
    np.testing.assert_allclose(found.log_bayes_factor, logit(tau1) - log_odds, rtol=1e-9)
    assert b < 1.0
    assert found.attrs["replicates"] + found.attrs["left_out"] == 60
    # on the data that it was learned from, the mean probability is the share active, and the log score the better
    drawn = calibration["replicates"].to_dataset()
    inside = drawn.isel(replicate=(drawn.tau1 > 0) & (drawn.tau1 < 1))
    before = logit(inside.tau1) - inside.log_bayes_factor
    after = a + b * before.clip(-limit, limit)
    assert np.isclose(expit(after).mean(), inside.active.mean(), atol=1e-6)
    sign = 1 - 2 * inside.active.astype(int)
    assert np.logaddexp(0, sign * after).mean() < np.logaddexp(0, sign * before.clip(-limit, limit)).mean() - 0.002


def test_recalibration_refuses_what_has_no_odds(small: ebmodel.Fit, calibration: xr.DataTree) -> None:
    with pytest.raises(InputError, match="tau1 inside"):
        cal.recalibrate(ebmodel.Fit(small.dataset.assign(tau1=1.0)), calibration)
    with pytest.raises(InputError, match="a calibration or options"):
        cal.recalibrate(small, calibration, replicates=5)
    with pytest.raises(InputError, match="the fit's tissues"):
        cal.recalibrate(ebmodel.Fit(small.dataset.isel(tissue=slice(5))), calibration)


def test_failed_refits_are_counted_not_hidden(small: ebmodel.Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    from ebmodel import fitting

    calls, fit = [], fitting.fit

    def sometimes(*args: Any, **kwargs: Any) -> ebmodel.Fit:
        calls.append(1)
        if len(calls) % 2:
            raise InputError("luck", "none", "here", "try again")
        return fit(*args, **kwargs)

    monkeypatch.setattr(fitting, "fit", sometimes)
    tree = cal.calibrate(small, replicates=4, n_starts=2, progress=False)
    assert (tree.attrs["failed"], tree["replicates"].sizes["replicate"]) == (2, 2)
    assert "expected luck" in tree.attrs["failure"]

    def never(*args: Any, **kwargs: Any) -> None:
        raise InputError("luck", "none", "here", "try again")

    monkeypatch.setattr(fitting, "fit", never)
    with pytest.raises(InputError, match="every data set drawn from the fit"):
        cal.calibrate(small, replicates=2, progress=False)

    def broken(*args: Any, **kwargs: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(fitting, "fit", broken)  # an error of ours, not of the data: not swallowed
    with pytest.raises(ZeroDivisionError):
        cal.calibrate(small, replicates=2, progress=False)


@pytest.mark.parametrize("mean", ["hierarchical", "zero"])
def test_a_latent_mean_is_drawn_from_its_prior(mean: str) -> None:
    one = gene(5)
    tree = cal.calibrate(ebmodel.fit(one.X, one.Y, mean=mean), replicates=12, n_starts=2, progress=False)
    assert float(tree["exact_reliability"]["p_value"]) > 0.01
    assert tree["replicates"].sizes["replicate"] == 12


@pytest.mark.parametrize("ratio", [1.0, 9.0])
def test_error_variances_of_their_own_are_drawn_fitted_and_transformed(ratio: float) -> None:
    """Half of the tissues with other errors: PITs, and data drawn anew, are those of the variances given."""
    omega = np.repeat([1.0, ratio], M // 2)
    theta = Params(tau1=0.5, beta=THETA.beta, eta=6.0, sigma2=1.0, relative_variance=omega)
    one = gene(11, theta)
    right, wrong = (cal.pit(ebmodel.oracle(one.X, one.Y, at)) for at in (theta, THETA))
    assert right.inside.all()
    assert bool(wrong.inside.all()) == (ratio == 1.0)
    tree = cal.calibrate(ebmodel.fit(one.X, one.Y, errors="unequal"), replicates=15, n_starts=2, progress=False)
    assert float(tree["exact_reliability"]["p_value"]) > 0.01
    assert tree.attrs["failed"] == 0


# Predictive PITs -----------------------------------------------------------------------------------------------------

KINDS = ["complete", "missing", "tissue-unobserved", "wide-missing", "collinear-missing", "covariates-missing"]


@pytest.mark.parametrize("slab", ["g", "independent", 0.5, "matrix"])
@pytest.mark.parametrize("shape", KINDS)
def test_pits_are_in_the_unit_interval_whatever_the_data(make_case: Any, shape: str, slab: Any) -> None:
    case = make_case(shape, slab)
    fit = ebmodel.oracle(case.X, case.Y, case.params, covariates=case.C)
    found = cal.pit(fit)
    for name in ("marginal", "sequential", "noise"):
        values = found[name].to_numpy()
        assert np.all(np.isnan(values) | ((values >= 0) & (values <= 1)))
    np.testing.assert_array_equal(np.isfinite(found.marginal).sum("direction"), fit.compressed().rank[
        fit.compressed().pattern])  # fmt: skip
    np.testing.assert_allclose(found.marginal.isel(direction=0), found.sequential.isel(direction=0))


@pytest.mark.parametrize("slab", ["g", "independent", "matrix"])
def test_derivatives_of_sequential_pits_are_the_model_s_density(make_case: Any, slab: Any) -> None:
    """prod_j dv_j/dc_j is the joint density of c_t: with that of rss, all of p(y_t)."""
    case = make_case("missing", slab)
    fit = ebmodel.oracle(case.X, case.Y, case.params)
    compressed, theta = fit.compressed(), fit.params
    numbers = (np.array([x]) for x in (theta.tau1, theta.eta, theta.sigma2, theta.alpha))
    tau1, eta, sigma2, alpha = numbers
    draw = Parameters(tau1, np.asarray(theta.beta)[None], eta, sigma2, alpha)
    t, step, total = 2, 1e-5, 0.0
    rank = int(compressed.rank[compressed.pattern[t]])
    for j in range(rank):
        ends = []
        for sign in (1.0, -1.0):
            c = compressed.c.copy()
            c[t, j] += sign * step
            ends.append(_tissue(compressed._replace(c=c), t, theta.slab, draw, np.zeros(1)).sequential[j])
        total += np.log((ends[0] - ends[1]) / (2.0 * step))
    left = compressed.n[t] - rank
    total += -0.5 * (left * np.log(2 * np.pi * theta.sigma2) + compressed.rss[t] / theta.sigma2)
    row = case.Y.copy()
    row[:, np.arange(row.shape[1]) != t] = np.nan
    assert np.isclose(total, ebmodel.loglik(case.X, row, theta), rtol=1e-6)


def test_pits_at_the_truth_are_uniform_and_at_half_the_sds_are_not(genes: list[xr.Dataset]) -> None:
    found: dict[float, list[xr.Dataset]] = {1.0: [], 0.25: []}
    for one in genes:
        for factor, every in found.items():
            theta = Params(tau1=0.5, beta=THETA.beta, eta=factor * THETA.eta, sigma2=factor * THETA.sigma2)
            every.append(cal.pit(ebmodel.oracle(one.X, one.Y, theta)))
    for name in ("sequential", "noise"):
        right, wrong = (np.stack([one[name] for one in found[factor]]) for factor in (1.0, 0.25))
        assert cal.uniformity(right).inside
        assert cal.uniformity(right).p_value > 0.01
        assert not cal.uniformity(wrong).inside
    first = np.stack([one["marginal"] for one in found[1.0]])[..., 1]  # of one direction they are independent
    assert cal.uniformity(first).inside
    rejected = [1.0 - one.inside.mean() for one in found[1.0]]
    assert np.mean(rejected) < 0.05 + 3 * np.sqrt(0.05 * 0.95 / (2 * SETS))


def test_refitted_pits_do_not_know_the_tissue() -> None:
    """Moving a tissue's responses moves its PITs along the same distribution function, and leaves no other trace."""
    one = gene(4, m=12)
    fit = ebmodel.fit(one.X, one.Y, n_starts=8)
    rest = ebmodel.fit(one.X, one.Y.isel(tissue=slice(1, None)), n_starts=8)
    at_rest = cal.pit(ebmodel.oracle(one.X, one.Y, rest.params))
    found = cal.pit(fit, refit=True)
    np.testing.assert_allclose(found.sequential.isel(tissue=0), at_rest.sequential.isel(tissue=0), atol=1e-4)
    np.testing.assert_allclose(found.noise.isel(tissue=0), at_rest.noise.isel(tissue=0), atol=1e-4)
    assert float(np.abs(found.sequential - cal.pit(fit).sequential).max()) > 0.01
    with pytest.raises(InputError, match="at least 3 tissues"):
        cal.pit(ebmodel.fit(one.X, one.Y.isel(tissue=slice(2))), refit=True)


@pytest.mark.parametrize("mean", ["hierarchical", "zero"])
def test_pits_of_a_latent_mean(mean: str) -> None:
    one = gene(6, missing=0.2)
    found = cal.pit(ebmodel.fit(one.X, one.Y, mean=mean), refit=True)
    assert found.inside.all()
    assert np.isfinite(found.sequential).all()


K_DRAWS, CHAINS = 4000, 4


def posterior_on_a_grid(one: xr.Dataset) -> tuple[list[Params], np.ndarray, xr.DataTree]:
    """Parameters a priori alike, so that the posterior and every leave-one-out posterior are sums."""
    rng = np.random.default_rng(8)
    thetas = [
        Params(tau1=rng.uniform(0.3, 0.7), beta=THETA.beta + 0.1 * rng.standard_normal(3),
               eta=6.0 * np.exp(0.4 * rng.standard_normal()), sigma2=np.exp(0.1 * rng.standard_normal()))
        for _ in range(3000)
    ]  # fmt: skip
    stats, whitening = whiten(compress(tidy(one.X, one.Y)), "g")
    loglik = np.empty((len(thetas), one.sizes["tissue"]))
    for row, theta in zip(loglik, thetas, strict=True):
        g1 = log_slab(stats, whitening.whiten(theta.beta), theta.eta, theta.sigma2)
        row[:] = np.logaddexp(np.log(theta.tau1) + g1, np.log(theta.tau0) + log_null(stats, theta.sigma2))
    weight = np.exp(loglik.sum(axis=1) - logsumexp(loglik.sum(axis=1)))
    which = rng.choice(len(thetas), (CHAINS, K_DRAWS // CHAINS), p=weight)
    posterior = {
        name: np.array([getattr(theta, name) for theta in thetas])[which] for name in ("tau1", "beta", "eta", "sigma2")
    }
    tree = az.from_dict(
        {"posterior": posterior, "log_likelihood": {"Y": loglik[which]}},
        dims={"beta": ["snp"], "Y": ["tissue"]},
    )
    tree["observed_data"] = xr.DataTree(one[["Y"]])
    tree["constant_data"] = xr.DataTree(one[["X"]])
    tree.attrs = {"slab": "g", "form": "marginal"}
    return thetas, loglik, tree


def test_loo_pits_are_those_of_the_posterior_without_the_tissue() -> None:
    one = gene(7, m=10, missing=0.2)
    thetas, loglik, tree = posterior_on_a_grid(one)
    found = cal.loo_pit(tree)
    compressed = _compressed(tree)
    columns = [
        np.array([getattr(theta, name) for theta in thetas]) for name in ("tau1", "beta", "eta", "sigma2", "alpha")
    ]
    grid = Parameters(*columns)
    for t in range(10):
        rest = np.delete(loglik, t, axis=1).sum(axis=1)
        want = _tissue(compressed, t, "g", grid, rest - logsumexp(rest))
        for name in ("marginal", "sequential"):
            np.testing.assert_allclose(found[name][t], getattr(want, name), atol=0.02)
        assert abs(float(found.noise[t]) - want.noise) < 0.02
    assert float(found.pareto_k.max()) < 0.7
    assert found.inside.all()


def test_loo_pits_agree_with_arviz_s_from_simulated_predictions() -> None:
    """ArviZ's loo_pit weighs predictions drawn anew; here of rss_t, one number for each tissue."""
    one = gene(7, m=10, missing=0.2)
    _, _, tree = posterior_on_a_grid(one)
    compressed, rng = _compressed(tree), np.random.default_rng(1)
    left = compressed.n - compressed.rank[compressed.pattern]
    predicted = tree["posterior"]["sigma2"].to_numpy()[..., None] * rng.chisquare(left, (CHAINS, K_DRAWS // CHAINS, 10))
    other = az.from_dict(
        {
            "posterior": {"sigma2": tree["posterior"]["sigma2"].to_numpy()},
            "posterior_predictive": {"Y": predicted},
            "log_likelihood": {"Y": tree["log_likelihood"]["Y"].to_numpy()},
            "observed_data": {"Y": compressed.rss},
        },
        dims={"Y": ["tissue"]},
    )
    np.testing.assert_allclose(cal.loo_pit(tree).noise, az.loo_pit(other)["Y"], atol=4 * 0.5 / np.sqrt(K_DRAWS))


def test_loo_pit_refuses_the_latent_form_and_incomplete_trees() -> None:
    _, _, tree = posterior_on_a_grid(gene(7, m=4))
    tree.attrs["form"] = "latent"
    with pytest.raises(InputError, match="the marginal form"):
        cal.loo_pit(tree)
    with pytest.raises(InputError, match="draws as from"):
        cal.loo_pit(xr.DataTree.from_dict({"posterior": tree["posterior"].to_dataset()}))


# Ranks ---------------------------------------------------------------------------------------------------------------

QUANTITIES = {
    "active": lambda values, data: values["active"].isel(tissue=0),
    "effect": lambda values, data: values["effects"].isel(tissue=0, snp=0),
    "size": lambda values, data: (values["effects"] ** 2).sum(("tissue", "snp")),
    "misfit": lambda values, data: ((data["X"] @ values["effects"].isel(tissue=1) - data["Y"].isel(tissue=1)) ** 2).sum(
        "sample"
    ),
}


def draw_gene(stream: np.random.SeedSequence) -> xr.Dataset:
    return ebmodel.simulate.model_true(THETA, n=20, m=4, seed=stream, posterior=False)


def exact_draws(data: xr.Dataset, stream: np.random.SeedSequence) -> xr.DataTree:
    fit = ebmodel.simulate.exact_posterior(data)
    return fit.to_datatree(draws=63, chains=1, seed=int(stream.generate_state(1)[0]))


def squeezed_draws(data: xr.Dataset, stream: np.random.SeedSequence) -> xr.Dataset:
    draws = exact_draws(data, stream)["posterior"].to_dataset()
    middle = draws["effects"].mean("draw")
    return draws.assign(effects=middle + 0.5 * (draws["effects"] - middle))


def test_the_exact_posterior_passes_and_one_with_halved_sds_fails() -> None:
    good = cal.sbc(draw_gene, exact_draws, QUANTITIES, replicates=80, progress=False)
    assert good.inside.all()
    assert float(good.p_value.min()) > 0.01
    bad = cal.sbc(draw_gene, squeezed_draws, QUANTITIES, replicates=80, progress=False)
    caught = [name for name in QUANTITIES if not bool(bad.inside.sel(quantity=name))]
    assert {"effect", "size"} <= set(caught)
    assert bool(bad.inside.sel(quantity="active"))  # which was not squeezed
    again = cal.sbc(draw_gene, exact_draws, QUANTITIES, replicates=2, progress=False)
    np.testing.assert_array_equal(again["rank"], good["rank"][:2])


def test_sbc_counts_what_fails_and_wants_enough() -> None:
    def choosy(data: xr.Dataset, stream: np.random.SeedSequence) -> xr.DataTree:
        if float(data["Y"][0, 0]) > 0:
            raise InputError("luck", "none", "here", "try again")
        return exact_draws(data, stream)

    found = cal.sbc(draw_gene, choosy, {"active": QUANTITIES["active"]}, replicates=20, progress=False)
    assert 0 < found.attrs["failed"] < 18
    assert int(np.isnan(found["rank"]).sum()) == found.attrs["failed"]
    assert "expected luck" in found.attrs["failure"]
    with pytest.raises(InputError, match="at least 2"):
        cal.sbc(draw_gene, exact_draws, QUANTITIES, replicates=1)
    with pytest.raises(InputError, match="at least one"):
        cal.sbc(draw_gene, exact_draws, {}, replicates=5)


def test_uniformity_holds_its_level_and_sees_what_is_not_uniform() -> None:
    rng = np.random.default_rng(2)
    found = [cal.uniformity(rng.random(40)) for _ in range(300)]
    error = np.sqrt(0.05 * 0.95 / 300)
    assert abs(np.mean([not one.inside for one in found]) - 0.05) < 3.5 * error
    assert abs(np.mean([one.p_value < 0.05 for one in found]) - 0.05) < 3.5 * error
    assert np.mean([not cal.uniformity(rng.beta(2, 2, 100)).inside for _ in range(40)]) > 0.5
    values = np.array([0.1, np.nan, 0.2, 0.9])
    assert np.isclose(cal.uniformity(values).gap, 2 / 3 - 0.2)


@pytest.mark.parametrize(
    ("values", "match"),
    [([0.5], "at least two"), ([0.5, np.nan], "at least two"), ([0.5, 1.2], r"numbers in \[0, 1\]")],
)
def test_uniformity_refuses(values: list[float], match: str) -> None:
    with pytest.raises(InputError, match=match):
        cal.uniformity(np.array(values))


def plug_in_draws(data: xr.Dataset, stream: np.random.SeedSequence) -> xr.DataTree:
    fit = ebmodel.fit(data.X, data.Y, n_starts=16)
    return fit.to_datatree(draws=63, chains=1, seed=int(stream.generate_state(1)[0]))


@pytest.mark.statistical
def test_ranks_see_how_much_too_sure_the_plug_in_posterior_is() -> None:
    """beta(t) and its size among the plug-in's draws: outside the band at 8 tissues, within it at 50."""
    theta = Params(tau1=0.5, beta=[0.4, -0.3, 0.2, 0.0, 0.0], eta=6.0, sigma2=1.0)
    gaps = {}
    for m in (8, 50):

        def draw_set(stream: np.random.SeedSequence, m: int = m) -> xr.Dataset:
            return ebmodel.simulate.model_true(theta, n=40, m=m, seed=stream, posterior=False)

        found = cal.sbc(draw_set, plug_in_draws, QUANTITIES, replicates=200, progress=False)
        gaps[m] = found.gap.sel(quantity=["effect", "size", "misfit"])
        assert bool(found.inside.all()) == (m == 50)
    assert float(gaps[8].max()) > 1.2 * float(gaps[50].max())


@pytest.mark.statistical
def test_the_plug_in_posterior_is_too_sure_with_eight_tissues_and_not_with_fifty() -> None:
    """Log Bayes factors of fits are worth a third of what they say at m = 8, all of it at m = 50 (measured)."""
    theta = Params(tau1=0.5, beta=[0.4, -0.3, 0.2, 0.0, 0.0], eta=6.0, sigma2=1.0)
    slope = {}
    for m in (8, 50):
        data = [gene(100 + i, theta, m=m) for i in range(80)]
        fits = [ebmodel.fit(one.X, one.Y, n_starts=16) for one in data]
        found = cal.bayes_factors(fits, data)
        slope[m] = float(found.slope), float(found.slope_se)
    assert slope[8][0] + 3 * slope[8][1] < 0.7
    assert abs(slope[50][0] - 1.0) < 0.15 + 3 * slope[50][1]
