"""The study of screening outside and inside the folds: its genes, its choices, its scores against plain ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ebmodel.eqtl.crossvalidation import METHODS, draw_folds, score
from simulations import screening
from simulations.screening import CELLS, STUDY, WHERE, Sample

CELL = {"heritability": 0.1, "correlation": 0.3, "p": 1e-3, "covariates": 1.0}
NULL = {**CELL, "heritability": 0.0, "p": 1e-6}


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few donors, tissues, SNPs and folds, so that a gene takes no time."""
    for name, value in {"DONORS": 120, "SIZES": (60, 80, 100), "SNPS": 12, "FOLDS": 4}.items():
        monkeypatch.setattr(screening, name, value)
    monkeypatch.setattr(screening, "FACTORS", ((70, 3), (10**6, 6)))


@pytest.fixture
def sample() -> Sample:
    return screening.draw_sample(np.full(12, 0.3), 1.0, np.random.default_rng(1))


def drawn(sample: Sample, cell: Any) -> tuple[list[Any], list[Any], Any]:
    """Expression, folds and effects."""
    effects = screening.draw_effects(cell["heritability"], sample.G, np.random.default_rng(2))
    folds = [draw_folds(n, 4, np.random.default_rng(n)) for n in (60, 80, 100)]
    return sample.expression(effects, cell), folds, effects


def test_cells() -> None:
    assert len(CELLS) == 20
    assert {cell["heritability"] for cell in CELLS} == {0.0, 0.01, 0.05, 0.2}
    assert sum(cell["covariates"] == 0 for cell in CELLS) == 4


def test_samples_are_as_said(sample: Sample) -> None:
    assert sample.G.shape == (120, 12)
    np.testing.assert_allclose(sample.G.mean(axis=0), 0.0, atol=1e-12)
    assert [len(np.unique(rows)) for rows in sample.rows] == [60, 80, 100]
    assert [projection.dof for projection in sample.projections] == [60 - 3 - 1, 80 - 6 - 1, 100 - 6 - 1]
    bare = screening.draw_sample(np.full(12, 0.3), 0.0, np.random.default_rng(1))
    assert [projection.dof for projection in bare.projections] == [59, 79, 99]


def test_neighbours_are_linked_and_alleles_as_frequent_as_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(screening, "DONORS", 5000)
    frequency = np.linspace(0.05, 0.5, 12)
    G = screening.draw_sample(frequency, 1.0, np.random.default_rng(3)).G
    np.testing.assert_allclose(-G.min(axis=0) / 2, frequency, atol=0.02)  # centred: the least count is less the mean
    r = np.corrcoef(G.T)
    assert np.diag(r, 1)[3:].min() > 0.35
    assert np.abs(np.diag(r, 8)).max() < 0.1


def test_heritability_is_that_of_active_tissues(sample: Sample) -> None:
    effects = screening.draw_effects(0.2, sample.G, np.random.default_rng(4))
    active = effects.any(axis=1)
    assert active.sum() == 2
    assert (effects != 0).any(axis=0).sum() == 3
    assert np.var(sample.G @ effects[active].T, axis=0).mean() == pytest.approx(0.2)
    assert not screening.draw_effects(0.0, sample.G, np.random.default_rng(4)).any()


def test_expression_is_adjusted_and_of_unit_variance(sample: Sample) -> None:
    Y, _, _ = drawn(sample, CELL)
    for y, projection in zip(Y, sample.projections, strict=True):
        assert y @ y == pytest.approx(projection.dof)
        np.testing.assert_allclose(projection.basis.T @ y, 0.0, atol=1e-10)


def test_errors_of_a_donor_correlate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(screening, "DONORS", 3000)
    monkeypatch.setattr(screening, "SIZES", (3000, 3000))
    one = screening.draw_sample(np.full(12, 0.3), 0.0, np.random.default_rng(5))
    a, b = one.expression(np.zeros((2, 12)), NULL)
    r = np.corrcoef(a[np.argsort(one.rows[0])], b[np.argsort(one.rows[1])])[0, 1]
    assert r == pytest.approx(0.3, abs=4 / np.sqrt(3000))


def test_a_gene_is_the_same_in_every_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def watched(here: Sample, *arguments: Any) -> Any:
        seen.append((here, arguments[0]))
        return np.empty(0, dtype=np.int64), []

    monkeypatch.setattr(screening, "choose", watched)
    for cell in (CELL, NULL):
        record = screening.gene(cell, STUDY.stream(cell, 2))
        assert record["passing"] == 0.0
        assert np.isnan(record["outside_paper"])
    np.testing.assert_array_equal(seen[0][0].G, seen[1][0].G)
    assert not all(np.allclose(a, b) for a, b in zip(seen[0][1], seen[1][1], strict=True))
    screening.gene(CELL, STUDY.stream(CELL, 3))
    assert not np.array_equal(seen[0][0].G, seen[2][0].G)


def test_snps_are_chosen_inside_from_the_training_rows_alone(sample: Sample) -> None:
    """Adding noise to a fold's samples changes what all others choose, and not what is chosen without it."""
    Y, folds, _ = drawn(sample, {**CELL, "heritability": 0.3})
    whole, inside = screening.choose(sample, Y, folds, 1e-3)
    assert len(inside) == 4
    assert len(whole) > 0
    changed = [y + 30.0 * (fold == 2) * np.random.default_rng(6).standard_normal(len(y))
               for y, fold in zip(Y, folds, strict=True)]  # fmt: skip
    _, other = screening.choose(sample, changed, folds, 1e-3)
    np.testing.assert_array_equal(other[2], inside[2])
    assert any(not np.array_equal(a, b) for a, b in zip(other, inside, strict=True))


def test_r2_of_least_squares(sample: Sample) -> None:
    cell = {**CELL, "heritability": 0.3}
    Y, folds, effects = drawn(sample, cell)
    chosen, by_fold = screening.choose(sample, Y, folds, 1e-3)
    other = screening.draw_sample(np.full(12, 0.3), 1.0, np.random.default_rng(7))
    Y_other = other.expression(effects, cell)
    ways = screening.on_all_samples(sample, Y, folds, chosen, other, Y_other)
    ways["inside"] = screening.on_training_sets(sample, Y, folds, by_fold)
    found = {way: score(data, effects["ols"]).r2 for way, (data, effects) in ways.items()}
    assert all(set(effects) == set(METHODS) for _, effects in ways.values())
    for t, (y, fold) in enumerate(zip(Y, folds, strict=True)):
        for way, snps in {"outside": [chosen] * 4, "inside": by_fold}.items():
            predicted = np.zeros(len(y))
            for f in range(4):
                x, train = sample.genotypes(snps[f])[t], fold != f
                predicted[~train] = x[~train] @ np.linalg.lstsq(x[train], y[train])[0]
            assert found[way][t] == pytest.approx(np.corrcoef(predicted, y)[0, 1] ** 2, rel=1e-8)
        predicted = other.genotypes(chosen)[t] @ np.linalg.lstsq(sample.genotypes(chosen)[t], y)[0]
        assert found["fresh"][t] == pytest.approx(np.corrcoef(predicted, Y_other[t])[0, 1] ** 2, rel=1e-8)


def test_a_training_set_without_snps_predicts_nothing(sample: Sample) -> None:
    Y, folds, _ = drawn(sample, CELL)
    none, some = np.empty(0, dtype=np.int64), np.array([3, 1])
    sums, effects = screening.on_training_sets(sample, Y, folds, [some, none, none, some])
    for method in METHODS:
        assert not effects[method][:, [1, 2]].any()
        assert np.isfinite(score(sums, effects[method]).r2).all()
    assert effects["ols"][:, [0, 3]].all()


def test_a_donor_s_samples_are_in_one_fold(monkeypatch: pytest.MonkeyPatch) -> None:
    seen, choose = [], screening.choose

    def watched(here: Sample, Y: Any, folds: Any, p: float) -> Any:
        seen.append((here.rows, folds))
        return choose(here, Y, folds, p)

    monkeypatch.setattr(screening, "choose", watched)
    screening.gene({**CELL, "heritability": 0.4}, STUDY.stream(CELL, 1))
    within, donors = (
        [{fold[rows == donor].item() for rows, fold in zip(*one, strict=True) if donor in rows} for donor in range(120)]
        for one in seen
    )
    assert all(len(folds) <= 1 for folds in donors)
    assert sum(len(folds) > 1 for folds in within) > 50


def test_records_name_the_same_metrics_in_one_order() -> None:
    with_snps, without = (screening.gene(cell, STUDY.stream(cell, 1)) for cell in ({**CELL, "heritability": 0.4}, NULL))
    assert [with_snps["passing"], without["passing"]] == [1.0, 0.0]
    assert list(with_snps) == list(without)


def test_study_tables_and_finding(tmp_path: Path) -> None:
    strong = {**CELL, "heritability": 0.3, "correlation": 0.0}
    results = replace(STUDY, cells=[strong, NULL], folder=tmp_path).run(3, jobs=1, progress=False)
    assert len(results) == 6
    genes = results[results["heritability"] > 0]
    assert (genes["passing"] == 1.0).all()
    assert genes["fresh_paper"].mean() > 0.1
    table = screening.as_table(results)
    assert len({len(table.header), *map(len, table.rows)}) == 1
    assert table.rows[0][:6] == ["0.3", "0", "1e-3", "GTEx's", "100", f"{genes['snps'].mean():.1f}"]
    numbers = [f"{100 * genes[f'{where}_ols'].mean():.2f}" for where in WHERE]
    assert table.rows[0][6] == " / ".join(numbers)
    gains = screening.gain_table(results)
    assert len({len(gains.header), *map(len, gains.rows)}) == 1
    gain = 100 * (genes["fresh_paper"] - genes["fresh_ols"])
    assert gains.rows[0][4 + screening.GAINS.index(("paper", "fresh"))] == f"{gain.mean():.2f} ± {gain.sem():.2f}"
    assert "With errors correlated" not in screening.table(results)  # too few genes
    many = screening.table(pd.concat([genes] * 4))
    over = 100 * (genes["inside_ols"] - genes["fresh_ols"]).mean()
    assert "With errors correlated 0, R²" in many
    assert f"; {over:.2f} ±" in many
