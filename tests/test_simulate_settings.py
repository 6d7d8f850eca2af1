"""The random streams of the settings stay, their truth is told, and what is given is used as it is."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from ebmodel import InputError, Params, simulate

# numbers of the first version: studies that are stored depend on the random streams
PINNED = {
    1: (0.2582990617041087, 792.8178718462251, -0.17016976609958495, -5106.841491472484),
    2: (0.2582990617041087, 68.83824590329596, -0.3437320539310781, -196.5823670250382),
    3: (0.2582990617041087, 792.8178718462251, -0.17016976609958495, -4773.133641494402),
}


@pytest.mark.parametrize("k", PINNED)
def test_the_random_stream_of_a_setting_is_for_ever(k):
    data = simulate.setting(k, rho=0.4, signal=2.0, seed=7)
    x, effects, y, total = PINNED[k]
    np.testing.assert_allclose([data.X[3, 4], data.Y[0, 0]], [x, y], rtol=1e-13)
    np.testing.assert_allclose([data.effects.sum(), data.Y.sum()], [effects, total], rtol=1e-12)
    assert int(data.active.sum()) == 28


def test_the_random_stream_of_setting_4_is_for_ever():
    data = simulate.setting(4, rho=0.4, signal=2.0, seed=7, genotypes=np.arange(60.0).reshape(20, 3) % 7)
    assert data.X.sum() == 2598
    first = data.effects[int(np.argmax(data.active.to_numpy()))]
    np.testing.assert_allclose(first, [2.921383473246471, 0.9509729148760708, 1.5798607021885256], rtol=1e-13)
    expected = [[35.10419696467184, np.nan], [19.580015294105387, -17.33132495016074]]
    np.testing.assert_allclose(data.Y[:2, :2], expected, rtol=1e-13)


def test_the_random_stream_of_the_model_is_for_ever():
    theta = Params(tau1=0.4, beta=[1.0, -1.0, 0.0], eta=2.0, sigma2=1.5)
    data = simulate.model_true(theta, n=25, m=6, seed=4, missing=0.2)
    assert data.X[3, 2] == 1.5756260314314627
    np.testing.assert_allclose(data.effects.sum(), -0.41396098308292245, rtol=1e-12)
    expected = [-0.04572337834366734, np.nan, -0.14813122311454646, 0.9783621214612094, 1.3554019176068464]
    np.testing.assert_allclose(data.Y.to_numpy()[:2, :3].ravel()[:5], expected, rtol=1e-12)


def test_the_true_covariance_of_effects_is_told():
    C = np.full((4, 4), 0.3) + 0.7 * np.eye(4)
    for k in (1, 3):
        np.testing.assert_allclose(simulate.setting(k, p=4, rho=0.3).slab_covariance, C, rtol=1e-15)
    first = np.zeros((4, 4))
    first[0, 0] = 2.25
    data = simulate.setting(2, p=4, rho=0.3, sigma=1.5)
    np.testing.assert_array_equal(data.slab_covariance, first)
    assert data.slab_covariance.dims == ("snp", "snp_other")
    np.testing.assert_allclose(simulate.setting(4, rho=0.3).slab_covariance[:4, :4], C, rtol=1e-15)


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_a_design_and_its_effects_can_be_held(k):
    knobs = {"rho": 0.4, "signal": 2.0, "tau1": 0.2}
    first = simulate.setting(k, seed=1, **knobs).drop_vars("donor", errors="ignore")
    design = simulate.setting(k, seed=2, X=first.X, **knobs)
    xr.testing.assert_equal(design.X, first.X)
    assert (design.effects != first.effects).any()
    held = [simulate.setting(k, seed=s, X=first.X, truth=first, **knobs) for s in (2, 2, 3)]
    for data in held:
        xr.testing.assert_equal(data.drop_vars("Y"), first.drop_vars("Y"))
        assert data.attrs == first.attrs
    xr.testing.assert_equal(held[0].Y, held[1].Y)
    assert not (held[0].Y == held[2].Y).any()
    redrawn = simulate.setting(k, seed=2, truth=first, **knobs)
    np.testing.assert_array_equal(redrawn.effects, first.effects)
    assert (redrawn.X.to_numpy() != first.X.to_numpy()).any()


def test_nothing_is_drawn_for_what_is_given():
    first = simulate.setting(1, seed=1, m=6, p=3)
    data = simulate.setting(1, seed=9, X=first.X, truth=first)
    errors = 10.0 * np.random.default_rng(9).standard_normal((50, 6))
    np.testing.assert_array_equal(data.Y, first.X.to_numpy() @ first.effects.to_numpy().T + errors)


def test_names_of_given_genotypes_stay():
    X = pd.DataFrame(np.random.default_rng(1).integers(0, 3, (20, 2)), [f"GTEX-{i}" for i in range(20)], ["rs1", "rs2"])
    data = simulate.setting(1, X=X, m=3)
    assert data.sample.to_numpy().tolist() == X.index.tolist()
    assert data.snp.to_numpy().tolist() == ["rs1", "rs2"]
    theta = Params(tau1=0.5, beta=[1.0, 0.0], eta=1.0, sigma2=1.0)
    xr.testing.assert_equal(simulate.model_true(theta, X=X, m=3).X, data.X)
    drawn = simulate.setting(4, genotypes=X, m=3)
    np.testing.assert_array_equal(drawn.X, X.loc[drawn.donor.to_numpy()])
    assert drawn.snp.to_numpy().tolist() == ["rs1", "rs2"]
    turned = simulate.setting(1, X=data.X.transpose("snp", "sample"), m=3)
    xr.testing.assert_equal(turned, data)


@pytest.mark.parametrize("other", [{"rho": 0.2}, {"signal": 1.0}, {"tau1": 0.3}, {"k": 2}])
def test_a_truth_of_another_setting_is_refused(other):
    knobs = {"rho": 0.4, "signal": 2.0}
    first = simulate.setting(1, **knobs)
    with pytest.raises(InputError, match="that the truth was drawn with"):
        simulate.setting(**{"k": 1, "truth": first, **knobs, **other})


def test_a_truth_that_does_not_fit_is_refused():
    first = simulate.setting(1)
    with pytest.raises(InputError, match=r"no .*'slab_covariance'"):
        simulate.setting(1, truth=first.drop_vars("slab_covariance"))
    with pytest.raises(InputError, match="m = 50, as in what was given, got 20"):
        simulate.setting(1, truth=first, m=20)
    with pytest.raises(InputError, match="that the truth was drawn with"):
        simulate.setting(1, truth=first, p=20)
