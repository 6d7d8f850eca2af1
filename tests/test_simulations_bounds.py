"""The study of Theorems 1 and 3: its records against the definitions, its counts, its figure."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ebmodel import Params
from ebmodel.risk import bayes_risk, lower_bound
from simulations import bounds
from simulations.bounds import CELLS, FORMS, STUDY

SOME = [
    {"p": 1, "tau1": 0.99, "ratio": 50.0, "norm": 0.0, "missing": 0.0},
    {"p": 1, "tau1": 0.99, "ratio": 50.0, "norm": 0.0, "missing": 0.2},
    {"p": 5, "tau1": 0.5, "ratio": 2.0, "norm": 2.0, "missing": 0.0},
    {"p": 5, "tau1": 0.5, "ratio": 2.0, "norm": 2.0, "missing": 0.2},
]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    folder = tmp_path_factory.mktemp("bounds")
    return replace(STUDY, cells=SOME, folder=folder).run(4, jobs=1, progress=False)


def test_cells() -> None:
    assert len(CELLS) == 216
    assert all(cell in CELLS for cell in SOME)
    assert STUDY.replications >= 10


def test_a_record_is_what_its_names_say() -> None:
    """The same design drawn again: complete data, so one risk for all tissues."""
    cell, stream = SOME[2], np.random.SeedSequence(3)
    record = bounds.gains(cell, stream)
    X = np.random.default_rng(np.random.SeedSequence(3)).standard_normal((bounds.N, 5))
    params = Params(tau1=0.5, beta=np.full(5, 2 / np.sqrt(5)), eta=2.0, sigma2=1.0)
    risk = bayes_risk(params, X, ["ols", "oracle"]).risk.to_numpy()
    assert record["ols"] == pytest.approx(np.trace(np.linalg.inv(X.T @ X)))
    assert record["gain"] == pytest.approx(risk[0] - risk[1])
    assert record["printed"] == pytest.approx(lower_bound(params, X, "printed").value)
    assert record["direct"] == pytest.approx(lower_bound(params, X, "direct").value)


def test_missing_responses_make_it_theorem_3() -> None:
    cell = {"p": 2, "tau1": 0.9, "ratio": 10.0, "norm": 0.0}
    complete, missing = (bounds.gains({**cell, "missing": share}, np.random.SeedSequence(1)) for share in (0.0, 0.2))
    assert missing["ols"] > complete["ols"]
    assert missing["gain"] > complete["gain"]
    assert missing["printed"] < complete["printed"]  # kappa
    assert missing["corrected"] == complete["corrected"]


def test_what_holds_and_what_does_not(results: pd.DataFrame) -> None:
    for form in ("corrected", "centred", "direct", "linear"):
        assert (results[form] <= results["gain"] * (1 + 1e-9)).all()
    assert (results["gain"] <= results["most"] * (1 + 1e-9)).all()
    easy = results[results["p"] == 1]
    assert (easy["printed"] > 5 * easy["gain"]).all()
    assert (results.loc[results["p"] == 5, "printed"] < 1e-4).all()


def test_table_counts_and_marks(results: pd.DataFrame) -> None:
    table = bounds.as_table(results)
    assert len({len(table.header), *map(len, table.rows)}) == 1
    printed, corrected, *_, linear = table.rows
    assert printed[1:3] == ["1 of 2", "4 of 8"]
    assert printed[5:7] == ["1 of 2", "4 of 8"]
    assert corrected[1:3] == linear[1:3] == ["0 of 2", "0 of 8"]
    text = bounds.table(results)
    assert "τ₁ ≥ 0.99 and η/σ² ≥ 50" in text
    cells = bounds.cell_table(results)
    assert sum("**" in value for row in cells.rows for value in row) == 2
    header = cells.markdown().splitlines()[2]
    assert header.count("|") == len(cells.header) + 1
    fine = results[results["p"] == 5]
    assert "false where" not in bounds.table(fine)


def test_figure_has_every_cell_in_every_panel(results: pd.DataFrame, tmp_path: Path) -> None:
    drawing = bounds.figure(results)
    assert [ax.get_title() for ax in drawing.axes] == [FORMS[k] for k in ("printed", "corrected", "direct", "linear")]
    for ax in drawing.axes:
        points = ax.get_lines()[1:]  # the first is the diagonal
        assert sum(len(line.get_xdata()) for line in points) == len(SOME)
    above = [line.get_ydata() > line.get_xdata() for line in drawing.axes[0].get_lines()[1:]]
    assert np.concatenate(above).sum() == 2
    drawing.savefig(tmp_path / "bounds.png")
