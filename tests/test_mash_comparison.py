"""The empirical-Bayes fit of mash beside the posterior: numbers, words, and how the two differ with few effects."""

from __future__ import annotations

import re

import numpy as np
import pytest
import xarray as xr

from ebmodel import InputError, mash
from ebmodel.mash import bayes
from ebmodel.mash.comparison import compare, findings, left_out

NULL, OMEGA = 0.5, 2.0
GRID = (1.0, 2.0, 4.0)
QUIET = {"progress": False, "chains": 2, "draws": 600, "tune": 200}


def simulated(J, seed=0, R=3):
    """Half of the effects are zero; the others are shared by all conditions."""
    rng = np.random.default_rng([seed, J])
    b = np.where(rng.random((J, 1)) < NULL, 0.0, OMEGA * rng.standard_normal((J, 1))) * np.ones(R)
    bhat = b + rng.standard_normal((J, R))
    bhat[0, 1] = np.nan
    return b, bhat


def fitted(J, seed=0, **options):
    b, bhat = simulated(J, seed)
    return b, mash.fit(bhat, 1.0, covariances="canonical", grid=GRID, **options)


@pytest.fixture(scope="module")
def pair():
    _, fit = fitted(60)
    return fit, bayes.sample(fit, seed=1, **QUIET)


def test_numbers_are_those_of_fit_and_draws(pair):
    fit, tree = pair
    result, posterior = compare(fit, tree, level=0.9), tree["posterior"].to_dataset()
    assert result["quantity"].to_numpy().tolist() == ["null", *fit.weights["covariance"].to_numpy(), "loglik"]
    null = result.sel(quantity="null")
    assert float(null["eb"]) == fit.null_weight
    assert float(null["mean"]) == pytest.approx(float(posterior["null_weight"].mean()))
    assert float(null["lower"]) == pytest.approx(float(posterior["null_weight"].quantile(0.05)))
    equal, drawn = (
        result.sel(quantity="equal_effects"),
        posterior["weights"].sel(covariance="equal_effects").sum("scale"),
    )
    assert float(equal["eb"]) == pytest.approx(float(fit.weights.sel(covariance="equal_effects").sum()))
    assert float(equal["sd"]) == pytest.approx(float(drawn.std(ddof=1)))
    assert float(equal["difference"]) == pytest.approx(float((equal["eb"] - drawn.mean()) / drawn.std(ddof=1)))
    loglik = result.sel(quantity="loglik")
    assert float(loglik["eb"]) == pytest.approx(fit.loglik)
    assert np.allclose(result["eb_mean"], fit.mean)
    assert np.allclose(result["bayes_lfsr"], tree["effects"]["lfsr"])
    apart = (fit.mean - tree["effects"]["mean"]) / tree["effects"]["sd"]
    assert np.allclose(result["apart"], apart)


def test_draws_have_at_most_the_penalised_fits_density(pair):
    """log p(B_hat | pi) + 9 log pi_0 is highest at the fit."""
    fit, tree = pair
    lp = tree["sample_stats"]["lp"].to_numpy()
    assert lp.max() < fit.loglik + 9.0 * np.log(fit.null_weight)


def test_words_say_what_the_numbers_say(pair):
    fit, tree = pair
    result = compare(fit, tree)
    words, null = result.attrs["findings"], result.sel(quantity="null")
    assert f"weight {fit.null_weight:.2f} in the fit and {float(null['mean']):.2f} in the posterior" in words
    side = "above" if float(null["eb"]) > float(null["upper"]) else "inside"
    assert f"lies {side} the 95 % interval" in words
    far = int((np.abs(result["apart"]) > 0.5).sum())
    assert (f"{far} of 180 estimates differ" if far else "All 180 estimates agree") in words
    found = [int((result[f"{which}_lfsr"] < 0.05).sum()) for which in ("eb", "bayes")]
    assert f"the fit finds {found[0]} effects and the posterior {found[1]}" in words
    assert f"{100 * left_out(result):.2g} % of the effects' posterior variance" in words


def test_words_follow_numbers_that_are_changed(pair):
    """A null weight far above its interval, sds that are half as large, and draws that are not sound."""
    result = compare(*pair)
    changed = result.copy(deep=True)
    changed["eb"].loc[{"quantity": "null"}] = 0.99
    changed["eb_sd"] = 0.5 * changed["bayes_sd"]
    changed["eb_mean"] = changed["bayes_mean"] + 2.0 * changed["bayes_sd"]
    changed["apart"] = xr.full_like(changed["apart"], 2.0)
    changed.attrs["verdict"] = "Not sound. Too few."
    words = findings(changed, (0.99, 0.985))
    assert words.startswith("The draws are not to be trusted as they are, nor is what follows. Not sound. Too few.")
    assert "lies above the 95 % interval" in words
    size = 10 + len(pair[0].prior.flat) - 1
    assert f"counts for {size} effects, beside 60 observed, and expects {10 / size:.2f}" in words
    assert "the data hardly tell the two apart" in words
    assert "180 of 180 estimates differ by more than 0.5 posterior sds, the most by 2.0" in words
    assert "50 % smaller than the posterior's" in words
    assert "hardly tell" not in findings(changed, (0.99, 0.2))


def test_some_effects_and_free_scales_are_compared_too(pair):
    fit, _ = pair
    tree = bayes.sample(fit, effects=["effect_3", "effect_1"], seed=1, **QUIET)
    some = compare(fit, tree)
    assert some["eb_mean"].shape == (2, 3)
    assert np.allclose(some["eb_mean"], fit.mean.sel(effect=["effect_3", "effect_1"]))
    posterior = tree["posterior"].to_dataset().drop_dims("scale")
    free = tree.assign({})
    free["posterior"] = xr.DataTree(posterior.assign(weights=tree["posterior"]["weights"].sum("scale")))
    xr.testing.assert_allclose(compare(fit, free).drop_attrs(), some.drop_attrs())


def test_other_data_are_refused(pair):
    fit, tree = pair
    with pytest.raises(InputError, match="0 < level < 1"):
        compare(fit, tree, level=95)
    with pytest.raises(InputError, match="a fit and draws of the same effects"):
        compare(fitted(61)[1], tree)
    with pytest.raises(InputError, match="values of bhat that differ"):
        compare(fitted(60, seed=1)[1], tree)
    with pytest.raises(InputError, match=re.escape("'simple_het_1'")):
        compare(mash.fit(simulated(60)[1], 1.0, covariances=list(fit.prior.covariances[:5]), grid=GRID), tree)
    with pytest.raises(InputError, match="the same scales"):
        compare(mash.fit(simulated(60)[1], 1.0, covariances="canonical", grid=(1.0, 2.0, 5.0)), tree)
    with pytest.raises(InputError, match="values of shat that differ"):
        compare(mash.fit(simulated(60)[1], 1.1, covariances="canonical", grid=GRID), tree)
    with pytest.raises(InputError, match="the same alpha"):
        compare(mash.fit(simulated(60)[1], 1.0, covariances="canonical", grid=GRID, alpha=1.0), tree)
    with pytest.raises(InputError, match=r"draws from ebmodel\.mash\.sample"):
        compare(fit, xr.DataTree.from_dict({"posterior": tree["posterior"].to_dataset()}))


def test_few_effects_part_them_and_many_bring_them_together():
    """With few effects the posterior has less at the point mass, wider effects, and leaves more out; with many neither.

    Over 12 data sets of 25 effects: the direction is the Dirichlet's, whose mean has the point mass at 10 of its total.
    """
    few = [compare(fit, bayes.sample(fit, seed=k, **QUIET)) for k in range(12) for _, fit in [fitted(25, k)]]
    _, fit = fitted(1500)
    many = compare(fit, bayes.sample(fit, seed=1, **QUIET))

    def shift(result):
        null = result.sel(quantity="null")
        return float(null["eb"] - null["mean"])

    def narrower(result):
        return 1.0 - float(result["eb_sd"].sum() / result["bayes_sd"].sum())

    for measure in (shift, narrower, left_out):
        values = np.array([measure(one) for one in few])
        assert values.mean() > 3.0 * values.std(ddof=1) / np.sqrt(12), measure
        assert abs(measure(many)) < 0.5 * values.mean(), measure
    assert float(np.abs(many["apart"]).max()) < np.mean([float(np.abs(one["apart"]).max()) for one in few])
