"""The study of the checks: what it draws, how it counts, and that the package says of its checks what it found."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import ebmodel
from ebmodel.checks import CHECKS
from simulations import checks
from simulations.checks import AT_RANDOM, DESIGN, FEW, NONE, OWN, POWERS, SIZES, STUDY

CELL = next(cell for cell in POWERS if cell["violation"] == "unequal-variances")


@pytest.fixture(scope="module")
def stored() -> pd.DataFrame:
    return STUDY.read()


def test_every_check_has_a_violation_of_its_own() -> None:
    assert set(OWN) == set(CHECKS)
    assert {name for name, _ in OWN.values()} - {FEW} <= set(ebmodel.simulate.VIOLATIONS)
    assert {(cell["violation"], cell["strength"]) for cell in POWERS} >= set(OWN.values())


def test_tissues_differ_in_size_where_responses_are_missing() -> None:
    complete, missing = (checks.data(cell, np.random.SeedSequence(1)) for cell in (SIZES[0], SIZES[3]))
    seen = ~np.isnan(missing["Y"].to_numpy())
    assert np.isfinite(complete["Y"]).all()
    assert seen.mean() == pytest.approx(0.75, abs=0.01)
    assert len(np.unique(seen.sum(axis=0))) > 40


@pytest.mark.parametrize("cell", [SIZES[0], CELL])
def test_a_stored_replication_is_what_it_is_when_run_again(cell: dict, stored: pd.DataFrame) -> None:
    row = STUDY.row(cell, 3)
    same = (stored[list(cell)] == pd.Series(cell)).all(axis=1) & (stored["replication"] == 3)
    old = stored[same].iloc[0]
    kinds = ("p", "plugin") if cell["violation"] == NONE else ("observed", "refitted", "known")
    names = [f"{kind}_{name}" for kind in kinds for name in CHECKS if f"{kind}_{name}" in old]
    assert len(names) > 20
    # the basis of whitened SNPs, all of one singular value, is the machine's, and an EM that stops early depends on it
    rough = [name for name in names if kinds[0] == "observed" and name.endswith("_two-components")]
    exact = [name for name in names if name not in rough]
    for which, rtol, atol in ((exact, 1e-4, 1e-6), (rough, 0.0, ROUGH)):
        ours = np.array([row.get(name, np.nan) for name in which], dtype=float)
        np.testing.assert_allclose(ours, old[which].to_numpy(dtype=float), rtol=rtol, atol=atol)


ROUGH = 0.05
"""Above the range of that statistic when genotypes change by a part in 10^12; over data sets its sd is 3 or more."""


def test_what_the_basis_does_to_a_statistic_is_as_small_as_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """A change of X in its twelfth digit turns the basis that a singular value decomposition of whitened SNPs gives."""
    draw, found = checks.data, []
    for seed in range(4):

        def turned(cell: dict, stream: np.random.SeedSequence, seed: int = seed) -> xr.Dataset:
            gene = draw(cell, stream)
            noise = np.random.default_rng(seed).standard_normal(gene["X"].shape)
            return gene.assign(X=gene["X"] * (1.0 + 1e-12 * noise))

        monkeypatch.setattr(checks, "data", turned)
        row = STUDY.row(CELL, 3)
        found.append([row[f"{kind}_two-components"] for kind in ("observed", "refitted", "known")])
    assert np.ptp(found, axis=0).max() < ROUGH


def test_rates_are_counted_over_data_sets_on_which_a_check_could_be_made() -> None:
    key = {"violation": "curvature", "strength": 0.2, "m": 50, "missing": 0.25}
    n = 40
    table = pd.DataFrame([key] * n)
    table["observed_linearity"] = np.r_[np.full(10, 5.0), np.full(20, 0.0), np.full(10, np.nan)]
    table["refitted_linearity"] = np.r_[np.nan, np.linspace(0.0, 1.0, n - 1)]
    table["known_linearity"] = 6.0
    table[f"p_{AT_RANDOM}"] = np.r_[0.05, np.full(n - 1, 0.06)]
    assert checks.rates(table)["linearity"].item() == pytest.approx(1 / 3)
    assert checks.counts(table)["linearity"].item() == 30
    assert checks.rates(table, plugin=True)["linearity"].item() == 0.0
    assert checks.rates(table)[AT_RANDOM].item() == 1 / n
    assert checks.rates(table)["two-components"].isna().all()


def test_every_check_holds_its_size(stored: pd.DataFrame) -> None:
    """At 5 %, but for Monte-Carlo error: no rate of 44 is off by 4 standard errors, nor all together (chi-squared)."""
    null = stored[stored["violation"] == NONE]
    share, n = checks.rates(null).drop(columns=DESIGN), checks.counts(null).drop(columns=DESIGN)
    z = ((share - 0.05) / np.sqrt(0.05 * 0.95 / n)).to_numpy().ravel()
    z = z[np.isfinite(z)]
    assert len(z) == 42 - 2
    assert np.abs(z).max() < 4.0
    assert np.sum(z**2) < len(z) + 4.0 * np.sqrt(2.0 * len(z))
    assert abs(z.sum()) / np.sqrt(len(z)) < 4.0


def test_the_weak_checks_are_those_that_say_so(stored: pd.DataFrame) -> None:
    share = checks.rates(stored)
    for name, (violation, strength) in OWN.items():
        power = next(share.loc[key, name] for key in share.index if key[:2] == (violation, strength))
        assert CHECKS[name].weak == (power < checks.ENOUGH), name
        assert power > 0.15, name


def test_tables_and_figure_have_every_check(stored: pd.DataFrame) -> None:
    size, power, cross = checks.tables(stored)
    assert [row[0] for row in size.rows] == [row[0] for row in power.rows] == list(CHECKS)
    assert len(cross.header) == 1 + len(CHECKS)
    assert sum("weak" in row for row in power.rows) == sum(check.weak for check in CHECKS.values())
    ax = checks.figure(stored).axes[0]
    assert [label.get_text() for label in ax.get_xticklabels()] == list(CHECKS)
    assert len(ax.lines) == len(OWN)  # the frames
