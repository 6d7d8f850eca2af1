"""The tables and figures of a fit say what the fit says."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from ebmodel import mash
from ebmodel.errors import InputError
from ebmodel.mash import sharing
from ebmodel.mash.report import examples, find, write_report
from tests.test_mash_fitting import NAMES, J, frames, simulate

TABLES = {"weights.tsv", "mean.tsv.gz", "sd.tsv.gz", "lfsr.tsv.gz", "lfdr.tsv.gz", "effects.tsv.gz",
          "sharing_magnitude.tsv", "sharing_sign.tsv", "specific.tsv"}  # fmt: skip
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def fitted():
    return mash.fit(*frames(*simulate(0, missing=0.05)), covariances="canonical", grid=[0.5, 1.5, 4.0])


@pytest.fixture(scope="module")
def nothing():
    """A fit in which no effect is significant."""
    bhat = 0.3 * np.random.default_rng(1).standard_normal((30, 3))
    return mash.fit(*frames(bhat, np.ones((30, 3))), covariances="canonical", grid=[0.5, 1.5])


def read(path):
    return pd.read_csv(path, sep="\t", index_col=0)


def written(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_the_tables_hold_what_the_fit_does(fitted, tmp_path):
    found, files = write_report(fitted, tmp_path, figures=False)
    assert written(tmp_path) == TABLES
    assert {path.name for path in files} == TABLES
    for name in ("mean", "sd", "lfsr", "lfdr"):
        table = read(tmp_path / f"{name}.tsv.gz")
        assert table.columns.tolist() == NAMES
        assert table.index.tolist() == fitted.dataset["effect"].to_numpy().tolist()
        np.testing.assert_allclose(table, fitted.posterior[name], rtol=1e-5)
    weights = pd.read_csv(tmp_path / "weights.tsv", sep="\t", keep_default_na=False)
    assert weights["covariance"][0] == "null"
    assert float(weights["weight"][0]) == pytest.approx(fitted.null_weight, rel=1e-5)
    assert weights["weight"].astype(float).sum() == pytest.approx(1.0, abs=1e-4)
    rest = weights["weight"][1:].astype(float)
    assert (rest.diff().dropna() <= 0).all()
    for row in weights[1:].itertuples():
        want = float(fitted.weights.sel(covariance=row.covariance, scale=float(row.scale)))
        assert float(row.weight) == pytest.approx(want, rel=1e-5)
    sharings = {"magnitude": sharing.pairwise_sharing(fitted), "sign": sharing.pairwise_sharing(fitted, 0.0)}
    for name, want in sharings.items():
        np.testing.assert_allclose(read(tmp_path / f"sharing_{name}.tsv"), want, rtol=1e-5)
    assert found.level == 0.05


def test_the_table_of_effects(fitted, tmp_path):
    write_report(fitted, tmp_path, figures=False, level=0.01, factor=0.7)
    table = read(tmp_path / "effects.tsv.gz")
    lfsr = fitted.lfsr.to_numpy()
    assert len(table) == J
    np.testing.assert_allclose(table["min_lfsr"], lfsr.min(axis=1), rtol=1e-5)
    np.testing.assert_array_equal(table["n_significant"], (lfsr < 0.01).sum(axis=1))
    np.testing.assert_allclose(table["log10_bf"], fitted.log10_bf, rtol=1e-5)
    np.testing.assert_allclose(table["loglik"], fitted.dataset["loglik"], rtol=1e-5)
    empty = table["shared_magnitude"].isna()
    np.testing.assert_array_equal(empty, table["n_significant"] == 0)
    np.testing.assert_array_equal(empty, table["shared_sign"].isna())
    want = sharing.number_shared(fitted, 0.7, 0.01).to_series()
    pd.testing.assert_series_equal(table["shared_magnitude"].dropna(), want, check_names=False, check_dtype=False)
    assert (table["shared_sign"] >= table["shared_magnitude"]).loc[~empty].all()


def test_the_figures_are_pictures(fitted, tmp_path):
    _, files = write_report(fitted, tmp_path)
    pictures = {path.name for path in (tmp_path / "figures").iterdir()}
    assert pictures >= {"weights.png", "patterns.png", "effect_1.png", "shared.png", "sharing.png"}
    for path in (tmp_path / "figures").iterdir():
        assert path.read_bytes().startswith(PNG)
        assert path in files
    assert written(tmp_path) - TABLES == {f"figures/{name}" for name in pictures}


def test_the_effects_that_are_drawn(fitted, tmp_path):
    _, files = write_report(fitted, tmp_path, effects=["e3", "e0"])
    assert [path.name for path in files if "effect_" in path.name] == ["effect_1.png", "effect_2.png"]
    chosen = examples(fitted.posterior)
    assert len(chosen) == len(set(chosen)) == 6
    assert (fitted.lfsr.sel(effect=chosen).min("condition") < 0.05).all()
    shared = sharing.number_shared(fitted).sel(effect=chosen).to_numpy().tolist()
    assert shared == sorted(shared, reverse=True)
    assert shared[0] == 3
    assert shared[-1] == 1
    assert len(examples(fitted.posterior, count=2)) == 2
    assert len(examples(fitted.posterior, level=1e-300)) == 0


def test_of_other_effects(fitted, tmp_path):
    posterior = fitted.apply(*frames(*simulate(9, 30)))
    found, _ = write_report(fitted, tmp_path, posterior, figures=False)
    assert read(tmp_path / "mean.tsv.gz").shape == (30, 3)
    assert found.significant == sharing.significant(posterior).size


def test_it_may_be_written_again(fitted, tmp_path):
    write_report(fitted, tmp_path, figures=False)
    before = {name: (tmp_path / name).read_bytes() for name in TABLES}
    write_report(fitted, tmp_path, figures=False)
    assert before == {name: (tmp_path / name).read_bytes() for name in TABLES}


def test_nothing_significant(nothing, tmp_path):
    found, files = write_report(nothing, tmp_path)
    assert found.significant == 0
    assert found.shared.size == 0
    assert {path.name for path in files if path.suffix == ".png"} == {"weights.png", "patterns.png"}
    assert read(tmp_path / "sharing_magnitude.tsv").isna().all(axis=None)
    assert len(read(tmp_path / "specific.tsv")) == 0


def test_one_condition(tmp_path):
    bhat, shat = simulate(0, 80, R=1)
    fit = mash.fit(*frames(bhat, shat, ["liver"]), grid=[0.5, 3.0])
    found, files = write_report(fit, tmp_path)
    assert found.specific is None
    assert found.significant > 0
    assert written(tmp_path) >= TABLES - {"specific.tsv"}
    assert all(path.exists() for path in files)


def test_without_a_point_mass(tmp_path):
    fit = mash.fit(*frames(*simulate(0, 80)), covariances="canonical", pointmass=False, grid=[0.5, 3.0])
    _, files = write_report(fit, tmp_path)
    assert all(path.exists() for path in files)
    assert float(read(tmp_path / "weights.tsv")["weight"].iloc[0]) == 0.0


def test_what_is_found(fitted):
    found = find(fitted.posterior, 0.05, 0.5)
    significant = (fitted.lfsr < 0.05).to_numpy()
    assert found.significant == significant.any(axis=1).sum()
    np.testing.assert_array_equal(found.by_condition, significant.sum(axis=0))
    assert found.shared.size == found.signed.size == found.significant
    np.testing.assert_allclose(np.diag(found.magnitude), 1.0)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"effects": ["nobody"]}, "effects of the posterior, got 'nobody'"),
        ({"level": 0.0}, "0 < level <= 1"),
        ({"level": 1.5}, "0 < level <= 1"),
        ({"factor": 1.0}, "0 <= factor < 1"),
        ({"factor": -0.1}, "0 <= factor < 1"),
    ],
)
def test_what_cannot_be_reported_is_not_begun(fitted, tmp_path, options, said):
    with pytest.raises(InputError, match=said):
        write_report(fitted, tmp_path, **options)
    assert not list(tmp_path.iterdir())


def test_a_fit_without_posteriors_reports_those_of_others(fitted, tmp_path):
    light = mash.fit(*frames(*simulate()), covariances="canonical", grid=[1.0], posterior=False)
    with pytest.raises(InputError, match="fit with posterior=True, or apply it"):
        write_report(light, tmp_path)
    write_report(light, tmp_path, fitted.posterior, figures=False)
    assert written(tmp_path) == TABLES


def test_a_file_in_the_way_of_figures(fitted, tmp_path):
    (tmp_path / "figures").write_text("mine")
    with pytest.raises(InputError, match="figures"):
        write_report(fitted, tmp_path)
    assert (tmp_path / "figures").read_text() == "mine"
