"""The stored studies say what the README says, and running them again gives what is stored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from simulations import slabs, starts
from simulations.__main__ import README, insert
from simulations.metrics import auc, mse
from simulations.study import Study

STUDIES = [starts.STUDY, starts.SIZES_STUDY, slabs.STUDY]


@pytest.mark.parametrize("study", STUDIES, ids=lambda study: study.name)
def test_readme_shows_the_stored_results(study: Study):
    text = README.read_text(encoding="utf-8")
    assert f"<!-- {study.name} -->" in text
    assert insert(text, study.name, study.table(study.read())) == text


@pytest.mark.parametrize("study", STUDIES, ids=lambda study: study.name)
def test_every_cell_has_its_replications(study: Study):
    counts = study.read().groupby(list(study.cells[0])).size()
    assert len(counts) == len(study.cells)
    assert (counts >= study.replications).all()


@pytest.mark.parametrize(("study", "least"), [(starts.STUDY, 300), (starts.SIZES_STUDY, 200)], ids=["paper", "sizes"])
def test_default_fit_reaches_the_200_start_maximum(study: Study, least: int):
    """Settings 1 and 3, ten data sets a cell, and other sizes: at least 99 % within 1e-4."""
    results = study.read()
    assert len(results) >= least
    reached = results["default"] >= results["search"] - 1e-4
    assert reached.mean() >= 0.99


@pytest.mark.statistical
@pytest.mark.parametrize("study", STUDIES, ids=lambda study: study.name)
def test_running_again_gives_what_is_stored(study: Study):
    stored = study.read()
    keys = [*study.cells[0], "replication"]
    for cell in study.cells[:: {"starts": 7, "sizes": 19, "slabs": 9}[study.name]]:
        again = pd.DataFrame(study.rows(cell, 0)).set_index(keys)
        before = stored.set_index(keys).loc[again.index, again.columns]
        # log-likelihoods to the search's own precision; the rest follows from them
        np.testing.assert_allclose(again, before, rtol=1e-3, atol=1e-3)
        likelihoods = [name for name in again if name in ("default", "naive", "search") or name.startswith("loglik")]
        np.testing.assert_allclose(again[likelihoods], before[likelihoods], atol=1e-4, rtol=0)


def test_a_study_resumes_and_does_not_depend_on_the_workers(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("simulations.study.RESULTS", tmp_path)
    cells = [{"setting": 1, "rho": rho} for rho in (0.0, 0.5)]
    toy = Study("toy", cells, 3, _toy, lambda results: str(len(results)))
    first = toy.run(2, jobs=1)
    resumed = toy.run(3, jobs=2)
    assert len(first) == 4
    assert len(resumed) == 6
    toy.path.unlink()
    pd.testing.assert_frame_equal(toy.run(3, jobs=2), resumed)


def _toy(cell, stream):
    return [{"value": cell["rho"] + np.random.default_rng(stream).integers(1000)}]


def test_metrics():
    assert mse(np.array([[1.0, 2.0]]), np.array([[0.0, 0.0]])) == 2.5
    active = np.array([True, True, False, False])
    assert auc(np.array([0.9, 0.4, 0.5, 0.1]), active) == 0.75
    assert auc(np.array([0.5, 0.5, 0.5, 0.5]), active) == 0.5
    assert np.isnan(auc(np.array([0.1, 0.2]), np.array([True, True])))
