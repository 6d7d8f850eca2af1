"""Metrics against numbers computed by hand."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import xarray as xr

from simulations import metrics
from simulations.estimators import Estimate
from simulations.metrics import METRICS


def truth(active, effects=None):
    """The truth of a data set: two SNPs, effects 1 and 2 in active tissues unless given."""
    active = np.array(active, dtype=bool)
    effects = active[:, None] * np.array([1.0, 2.0]) if effects is None else np.array(effects, dtype=float)
    return xr.Dataset({"active": ("tissue", active), "effects": (("tissue", "snp"), effects)})


def of(probability, effects=None, interval=None):
    probability = np.array(probability, dtype=float)
    return Estimate(np.zeros((len(probability), 2)) if effects is None else effects, probability, interval)


def test_mse_of_all_active_and_inactive_tissues():
    data = truth([1, 0, 0])  # effects (1, 2), (0, 0), (0, 0)
    estimate = Estimate(np.array([[0.0, 2.0], [0.0, 3.0], [1.0, 0.0]]))
    assert metrics.effects_mse(estimate, data) == pytest.approx((1 + 9 + 1) / 6)
    assert metrics.effects_mse_active(estimate, data) == pytest.approx(1 / 2)
    assert metrics.effects_mse_inactive(estimate, data) == pytest.approx(10 / 4)


def test_mse_is_nan_where_there_is_nothing_to_judge():
    estimate = Estimate(np.array([[np.nan, np.nan], [1.0, 1.0]]))
    assert np.isnan(metrics.effects_mse(estimate, truth([1, 0])))
    assert metrics.effects_mse_inactive(estimate, truth([1, 0])) == 1.0
    assert np.isnan(metrics.effects_mse_active(estimate, truth([0, 0])))
    assert np.isnan(metrics.effects_mse_inactive(estimate, truth([1, 1])))


def test_auc():
    assert metrics.activity_auc(of([0.9, 0.4, 0.5, 0.1]), truth([1, 1, 0, 0])) == 0.75
    assert metrics.activity_auc(of([0.5, 0.5, 0.5, 0.5]), truth([1, 1, 0, 0])) == 0.5
    assert np.isnan(metrics.activity_auc(of([0.5, 0.5]), truth([1, 1])))


def test_brier_and_log_score():
    estimate, data = of([0.9, 0.4, 0.0]), truth([1, 1, 0])
    assert metrics.brier(estimate, data) == pytest.approx((0.01 + 0.36 + 0.0) / 3)
    assert metrics.log_score(estimate, data) == pytest.approx(-(np.log(0.9) + np.log(0.4)) / 3)
    assert metrics.log_score(estimate, truth([1, 1, 1])) == np.inf


def test_calibration_counts_tissues_by_probability():
    found = metrics.calibration(of([0.0, 0.05, 0.1, 0.55, 0.59, 1.0]), truth([0, 1, 0, 1, 1, 1]))
    want = {f"bin_{name}_{k}": 0.0 for name in ("count", "sum", "active") for k in range(1, 11)}
    want |= {"bin_count_1": 2, "bin_sum_1": 0.05, "bin_active_1": 1}  # 0 and 0.05
    want |= {"bin_count_2": 1, "bin_sum_2": 0.1}  # 0.1 opens the second bin
    want |= {"bin_count_6": 2, "bin_sum_6": 1.14, "bin_active_6": 2}
    want |= {"bin_count_10": 1, "bin_sum_10": 1, "bin_active_10": 1}  # 1 closes the last
    assert found == pytest.approx(want)
    assert list(found) == list(metrics.calibration(Estimate(np.zeros((6, 2))), truth([0] * 6)))


def test_false_discoveries_and_power():
    # 1 - P ascending: 0, 0.04, 0.1, 0.2, 0.5; means of the first k: 0, 0.02, 0.0467, 0.085, 0.168
    estimate, data = of([0.8, 1.0, 0.5, 0.96, 0.9]), truth([1, 1, 0, 0, 1])
    want = {
        "fdp_0.01": 0, "power_0.01": 1 / 3,  # tissue 2
        "fdp_0.05": 1 / 3, "power_0.05": 2 / 3,  # and 4, 5
        "fdp_0.1": 1 / 4, "power_0.1": 1,  # and 1
        "fdp_0.2": 2 / 5, "power_0.2": 1,  # all
    }  # fmt: skip
    assert metrics.fdr(estimate, data) == pytest.approx(want)


def test_no_calls_are_no_false_calls_and_power_needs_active_tissues():
    none = metrics.fdr(of([0.1, 0.2]), truth([1, 0]))
    assert all(value == 0.0 for value in none.values())
    found = metrics.fdr(of([0.0, 1.0]), truth([0, 0]))
    assert found["fdp_0.01"] == 1.0
    assert np.isnan(found["power_0.01"])


def test_equal_probabilities_are_called_together():
    # {1} has mean 0, {1, .9} 0.05, {1, .9, .9} 0.067: one of the two at 0.9 is not called alone
    np.testing.assert_array_equal(metrics.called(np.array([0.9, 1.0, 0.9]), 0.06), [False, True, False])
    np.testing.assert_array_equal(metrics.called(np.array([0.9, 1.0, 0.9]), 0.07), [True, True, True])


def test_called_is_the_largest_set_that_holds_the_level():
    rng = np.random.default_rng(1)
    for _ in range(50):
        h, level = rng.beta(0.5, 0.5, size=12), rng.uniform(0.01, 0.5)
        best = 0
        for k in range(1, 13):
            best = k if np.mean(1 - np.sort(h)[::-1][:k]) <= level else best
        chosen = metrics.called(h, level)
        assert chosen.sum() == best
        assert h[chosen].min(initial=np.inf) > h[~chosen].max(initial=-np.inf)


def test_coverage_and_width():
    lower = np.array([[0.0, 3.0], [-1.0, 0.0]])
    upper = np.array([[1.0, 4.0], [1.0, 0.5]])
    estimate = of([0.5, 0.5], interval=(lower, upper))
    found = metrics.coverage(estimate, truth([1, 0]))  # of 1, 2, 0 and 0 the second alone is missed
    assert found == {"coverage": 0.75, "coverage_active": 0.5, "width": (1 + 1 + 2 + 0.5) / 4}
    assert np.isnan(metrics.coverage(estimate, truth([0, 0]))["coverage_active"])


def test_coverage_is_nan_where_an_interval_is():
    whole = np.zeros((2, 2))
    broken = np.array([[np.nan, 0.0], [0.0, 0.0]])
    found = metrics.coverage(of([0.5, 0.5], interval=(broken, whole)), truth([1, 0]))
    assert list(found) == ["coverage", "coverage_active", "width"]
    assert np.isnan(list(found.values())).all()


def test_facts_pass_through():
    assert metrics.facts(Estimate(np.zeros((1, 2)), facts={"steps": 3.0}), truth([1])) == {"steps": 3.0}


def test_what_an_estimator_does_not_say_is_nan_under_the_same_names():
    """Every metric has the same names whatever the estimator, so that results make one table."""
    silent = Estimate(np.zeros((2, 2)))
    full = of([0.2, 0.7], interval=(np.zeros((2, 2)), np.ones((2, 2))))
    data = truth([1, 0])
    for name, metric in METRICS.items():
        without, given = metric(silent, data), metric(full, data)
        if name.startswith("mse") or name == "facts":
            assert without == given
        elif isinstance(given, dict):
            assert list(without) == list(given)
            assert np.isnan(list(without.values())).all()
            assert np.isfinite(list(given.values())).all()
        else:
            assert np.isnan(without)
            assert np.isfinite(given)
    assert np.isnan(metrics.log_score(silent, data))


def test_metrics_have_names_of_their_own_and_can_be_sent_to_workers():
    estimate, names = of([0.2, 0.7]), []
    for name, metric in METRICS.items():
        value = pickle.loads(pickle.dumps(metric))(estimate, truth([1, 0]))  # noqa: S301
        names += list(value) if isinstance(value, dict) else [name]
    assert len(names) == len(set(names))
