"""Sharing between conditions: against counts by hand, a loop over pairs, and the R implementation."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from ebmodel.errors import InputError
from ebmodel.mash import sharing

REFERENCE = Path(__file__).parents[2] / "shared" / "mash_reference"
CASES = ["A", "C", "D_hetero", "E_hetero_V", "F_missing_alpha1", "G_nopointmass", "G_nullweight100"]
needs_reference = pytest.mark.skipif(not REFERENCE.is_dir(), reason="the reference results are not here")


def posterior(mean: Any, lfsr: Any) -> xr.Dataset:
    mean, lfsr = np.asarray(mean, dtype=float), np.asarray(lfsr, dtype=float)
    J, R = mean.shape
    coords = {"effect": [f"e{j}" for j in range(J)], "condition": [f"c{r}" for r in range(R)]}
    return xr.Dataset({"mean": (("effect", "condition"), mean), "lfsr": (("effect", "condition"), lfsr)}, coords)


def random(J: int, R: int, seed: int = 3) -> xr.Dataset:
    rng = np.random.default_rng(seed)
    common = rng.standard_normal((J, 1))
    return posterior(common + 0.6 * rng.standard_normal((J, R)), 0.5 * rng.random((J, R)))


@pytest.fixture(scope="module")
def known() -> xr.Dataset:
    """Four effects in three conditions, for counting by hand."""
    mean = [[4.0, 2.1, -4.0], [1.0, 0.5, 0.0], [0.1, -5.0, 1.0], [1.0, 1.0, 1.0]]
    lfsr = [[0.01, 0.20, 0.04], [0.03, 0.30, 0.50], [0.40, 0.001, 0.30], [0.10, 0.20, 0.30]]
    return posterior(mean, lfsr)


def test_the_most_significant_effects_come_first(known: xr.Dataset) -> None:
    found = sharing.significant(known)
    assert found.effect.to_numpy().tolist() == ["e2", "e0", "e1"]
    np.testing.assert_array_equal(found, [0.001, 0.01, 0.03])
    assert known.sel(effect=found.effect).sizes["effect"] == 3
    assert sharing.significant(known, level=0.01).effect.to_numpy().tolist() == ["e2"]  # strictly below the level
    assert sharing.significant(known, conditions=["c2"]).effect.to_numpy().tolist() == ["e0"]
    assert sharing.significant(known, level=1e-6).size == 0


def test_significant_effects_and_conditions_are_counted(known: xr.Dataset) -> None:
    np.testing.assert_array_equal(sharing.n_significant(known), [2, 1, 1, 0])
    np.testing.assert_array_equal(sharing.n_significant(known, by="condition"), [2, 1, 1])
    np.testing.assert_array_equal(sharing.n_significant(known, conditions=["c1", "c2"]), [1, 0, 1, 0])


def test_pairwise_sharing_by_hand(known: xr.Dataset) -> None:
    # c0, c1: e0 (2.1/4) shared, e1 (0.5, on the bound) not, e2 of other signs; c0, c2: e0 of other signs, e1 has a zero
    share = sharing.pairwise_sharing(known)
    np.testing.assert_array_equal(share, [[1, 1 / 3, 0], [1 / 3, 1, 0], [0, 0, 1]])
    by_sign = sharing.pairwise_sharing(known, factor=0.0)
    np.testing.assert_array_equal(by_sign, [[1, 2 / 3, 0], [2 / 3, 1, 0], [0, 0, 1]])
    assert share.dims == ("condition", "condition_other")
    assert share.sel(condition="c0", condition_other="c1") == 1 / 3


def test_nothing_significant_is_nothing_known() -> None:
    share = sharing.pairwise_sharing(posterior([[1.0, 1.0, 1.0]], [[0.5, 0.5, 0.01]]))
    np.testing.assert_array_equal(share, [[np.nan, np.nan, 1.0], [np.nan, np.nan, 1.0], [1.0, 1.0, 1.0]])


@pytest.mark.parametrize("factor", [0.0, 0.3, 0.5])
def test_pairwise_sharing_is_the_loop_over_pairs(factor: float, monkeypatch: pytest.MonkeyPatch) -> None:
    data = random(300, 5)
    monkeypatch.setattr(sharing, "ROWS", 37)
    m, sig = data["mean"].to_numpy(), data["lfsr"].to_numpy() < 0.05
    want = np.empty((5, 5))
    for r, s in product(range(5), repeat=2):
        either = sig[:, r] | sig[:, s]
        small, large = np.minimum(abs(m[:, r]), abs(m[:, s])), np.maximum(abs(m[:, r]), abs(m[:, s]))
        want[r, s] = np.mean((np.sign(m[:, r]) == np.sign(m[:, s]))[either] & (small > factor * large)[either])
    np.testing.assert_allclose(sharing.pairwise_sharing(data, factor), want, rtol=1e-14)


def test_number_shared_by_hand(known: xr.Dataset) -> None:
    by_magnitude, by_sign = (sharing.number_shared(known, factor) for factor in (0.5, 0.0))
    assert by_magnitude.effect.to_numpy().tolist() == ["e0", "e1", "e2"]
    np.testing.assert_array_equal(by_magnitude, [2, 1, 1])
    np.testing.assert_array_equal(by_sign, [2, 2, 1])
    # among c1 and c2 alone e0 is strongest in c2, and e1 is not significant
    np.testing.assert_array_equal(sharing.number_shared(known, 0.0, conditions=["c1", "c2"]), [1, 1])


def test_specific_effects_are_large_in_one_condition_alone(known: xr.Dataset) -> None:
    found = sharing.condition_specific(known)
    assert found.effect.to_numpy().tolist() == ["e1", "e2"]  # e0 is as large the other way in c2
    assert found.specific_to.to_numpy().tolist() == ["c0", "c1"]
    np.testing.assert_array_equal(found["mean"], [1.0, -5.0])
    np.testing.assert_array_equal(found["lfsr"], [0.03, 0.001])
    np.testing.assert_allclose(found.next_largest, [0.5, 0.2])
    np.testing.assert_array_equal(found.n_specific, [1, 1, 0])
    np.testing.assert_array_equal(found.n_significant, [2, 1, 1])


def test_a_large_effect_that_is_not_significant_there_is_not_specific() -> None:
    found = sharing.condition_specific(posterior([[5.0, 1.0], [5.0, 1.0]], [[0.2, 0.01], [0.01, 0.2]]))
    assert found.effect.to_numpy().tolist() == ["e1"]


def test_specific_effects_are_shared_with_none() -> None:
    data = random(500, 6)
    found = sharing.condition_specific(data, factor=0.8)
    assert found.sizes["effect"] > 10
    assert (sharing.number_shared(data, factor=0.8).sel(effect=found.effect) == 1).all()
    assert int(found.n_specific.sum()) == found.sizes["effect"]


def test_sharing_knows_no_order_scale_or_sign() -> None:
    data = random(200, 5)
    share, count = sharing.pairwise_sharing(data), sharing.number_shared(data)
    rng = np.random.default_rng(4)
    other = data.isel(effect=rng.permutation(200), condition=rng.permutation(5))
    xr.testing.assert_allclose(sharing.pairwise_sharing(other).sel(share.coords), share)
    xr.testing.assert_equal(sharing.number_shared(other).sel(count.coords), count)
    scaled = data.assign(mean=data["mean"] * xr.DataArray(rng.standard_normal(200), dims="effect"))
    np.testing.assert_allclose(sharing.pairwise_sharing(scaled), share)
    xr.testing.assert_equal(sharing.number_shared(scaled), count)


def test_some_conditions_are_the_same_as_a_posterior_of_these_alone() -> None:
    data, some = random(200, 5), ["c3", "c0", "c4"]
    alone = data.sel(condition=some)
    for ask in (sharing.pairwise_sharing, sharing.number_shared, sharing.condition_specific, sharing.significant):
        xr.testing.assert_identical(ask(data, conditions=some), ask(alone))
    share = sharing.pairwise_sharing(data)
    np.testing.assert_array_equal(
        sharing.pairwise_sharing(data, conditions=some), share.sel(condition=some, condition_other=some)
    )


def test_a_fit_is_as_good_as_its_dataset_and_needs_no_names() -> None:
    data = random(50, 4)
    xr.testing.assert_identical(sharing.pairwise_sharing(SimpleNamespace(dataset=data)), sharing.pairwise_sharing(data))
    bare = data.drop_vars(["effect", "condition"]).transpose()
    np.testing.assert_array_equal(sharing.pairwise_sharing(bare), sharing.pairwise_sharing(data))
    found = sharing.condition_specific(data).effect.to_numpy()
    np.testing.assert_array_equal(sharing.condition_specific(bare).effect, [int(name[1:]) for name in found])


@pytest.mark.parametrize(
    ("ask", "match"),
    [
        (lambda data: sharing.pairwise_sharing(data, factor=1.0), "0 <= factor < 1"),
        (lambda data: sharing.number_shared(data, factor=-0.1), "0 <= factor < 1"),
        (lambda data: sharing.significant(data, level=0.0), "0 < level <= 1"),
        (lambda data: sharing.significant(data, conditions=["c0", "liver"]), "'liver'"),
        (lambda data: sharing.significant(data, conditions=[]), "at least one condition"),
        (lambda data: sharing.n_significant(data, by="scale"), "'scale'"),
        (lambda data: sharing.condition_specific(data, conditions=["c0"]), "at least two conditions"),
        (lambda data: sharing.significant(data.drop_vars("lfsr")), "no 'lfsr'"),
        (lambda data: sharing.significant(data.where(data["mean"] < 4.0)), "2 cells"),
    ],
)
def test_what_cannot_be_answered_is_refused(known: xr.Dataset, ask: Any, match: str) -> None:
    with pytest.raises(InputError, match=match):
        ask(known)


def table(case: str, name: str) -> pd.DataFrame:
    return pd.read_csv(REFERENCE / case / f"{name}.csv.gz", index_col=0)


@needs_reference
@pytest.mark.parametrize("case", CASES)
def test_sharing_is_that_of_the_r_implementation(case: str) -> None:
    data = posterior(table(case, "PosteriorMean"), table(case, "lfsr"))
    for factor, name in ((0.5, "pairwise_sharing"), (0.0, "pairwise_sharing_sign")):
        np.testing.assert_array_equal(sharing.pairwise_sharing(data, factor), table(case, name).to_numpy())
    wanted = table(case, "n_significant_conditions")["value"].to_numpy()
    np.testing.assert_array_equal(sharing.n_significant(data), wanted)
    assert sharing.significant(data).size == np.count_nonzero(wanted)
