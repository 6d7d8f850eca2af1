"""The peers study draws what it says, and its verdicts are those of the numbers it is given."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import matplotlib.image as mpimg
import numpy as np
import pandas as pd
import pytest
import xarray as xr

import ebmodel
from simulations import estimators, peers
from simulations.__main__ import find
from simulations.metrics import auc
from simulations.peers import BEST, KEYS, NOT, PEERS, STUDY, WITHIN, WORDS
from simulations.study import SIGNALS

CELLS = pd.DataFrame(STUDY.cells)


def planted(gaps: dict[str, tuple[float, ...]], cells: pd.DataFrame = CELLS) -> pd.DataFrame:
    """Results in which ours is ``1 + gap`` in four data sets, by world, and the best peer, the elastic net, 1 in all.

    Other fits have an MSE of 3, the paper's estimator 2 and the other peers 5 and more.
    """
    rows = []
    for cell in cells.to_dict("records"):
        for i in range(4):
            row = {**cell, "replication": i} | {f"mse_{part}": 5.0 + j for j, part in enumerate(PEERS)}
            row |= {f"mse_{part}": 3.0 for part in peers.FITS} | {"mse_eb": 2.0, "mse_elastic_net": 1.0}
            row[f"mse_{peers.OURS}"] = 1.0 + gaps[cell["world"]][i]
            row["mse_oracle"] = 0.5 if peers.posed(cell, i) else np.nan
            row |= {f"auc_{part}": 0.75 for part in (*peers.FITS, "oracle")} | {"auc_zero": np.nan}
            rows.append(row)
    return pd.DataFrame(rows)


GAPS = {
    "Setting 1": (-0.2, -0.1, 0.0, 0.1),  # mean -0.05: best
    "Setting 2": (0.0, 0.0, 0.0, 0.0),  # best, as it loses nothing
    "Setting 3": (-0.3, 0.3, 0.2, 0.0),  # mean 0.05, se 0.13: within one
    "Setting 4": (0.0, 0.1, 0.1, 0.2),  # mean 0.1, se 0.04: not
} | dict.fromkeys(("the model", "in doubt", *peers.SPARSE), (-0.5, -0.4, -0.5, -0.6))


def test_the_study_can_be_found_and_has_the_cells_it_names():
    assert find("peers") is STUDY
    assert STUDY.replications == 10
    assert not CELLS.duplicated().any()
    settings = CELLS[CELLS["world"].str.startswith("Setting")]
    for _, group in settings.groupby("world"):
        assert set(zip(group["rho"], group["signal"], strict=True)) == {(r, s) for r in (0, 0.4, 0.8) for s in SIGNALS}
    few = CELLS[CELLS["world"].isin(peers.SPARSE)]
    assert len(few) == 36
    assert set(few["nonzero"]) == {1, 3, 10}
    assert set(STUDY.replicate.parts) == set(WORDS)
    assert set(PEERS) < set(WORDS)
    assert peers.OURS not in PEERS


@pytest.mark.parametrize("world", CELLS["world"].unique())
def test_data_are_those_of_the_cell(world):
    cell = CELLS[CELLS["world"] == world].iloc[-1].to_dict()
    stream, again = (np.random.SeedSequence(3) for _ in range(2))
    data = peers.data(cell, stream)
    xr.testing.assert_identical(data, peers.data(cell, again))
    active = data.active.to_numpy()
    assert 0 < active.sum() < len(active)
    effects = data.effects.to_numpy()
    assert ((effects != 0).sum(axis=1)[active] == cell["nonzero"]).all()
    assert ("slab_covariance" in data) == peers.posed(cell, 0)
    if world in peers.SPARSE:
        sharing, tails = world.split(", ")
        assert data.attrs["sharing"] == sharing
        assert data.attrs["tails"] == tails
        assert data.attrs["explained"] == cell["signal"]
        assert data.attrs["rho"] == cell["rho"]
    elif world.startswith("Setting"):
        want = {"setting": int(world[-1]), "rho": cell["rho"], "signal": cell["signal"]}
        assert want.items() <= data.attrs.items()
        assert bool(np.isnan(data.Y).any()) == (want["setting"] >= 3)
    else:  # the paper's own prior: (X'X)^-1 is the slab's shape
        X = data.X.to_numpy()
        shape = data.slab_covariance.to_numpy() @ (X.T @ X)
        np.testing.assert_allclose(shape, data.attrs["eta"] * np.eye(20), atol=1e-8)


def test_the_doubtful_model_is_in_doubt():
    """At the truth most P(I=1) of the weakest signal say little, and the AUC is that of the docstring."""
    areas, unsure = [], []
    for seed in range(20):
        data = peers.doubtful(0.0, 0.5, np.random.SeedSequence(seed))
        probability = ebmodel.simulate.exact_posterior(data).posterior_probability.to_numpy()
        areas.append(auc(probability, data.active.to_numpy()))
        unsure.append(np.mean((probability > 0.05) & (probability < 0.95)))
    assert abs(np.mean(areas) - 0.8) < 0.05
    assert np.mean(unsure) > 0.8


def test_verdicts_are_those_of_the_paired_differences():
    results = planted(GAPS)
    found = peers.verdicts(results).set_index("world")
    assert (found["peer"] == "elastic_net").all()
    for world, verdict in {"Setting 1": BEST, "Setting 2": BEST, "Setting 3": WITHIN, "Setting 4": NOT}.items():
        rows = found.loc[world]
        assert (rows["verdict"] == verdict).all()
        np.testing.assert_allclose(rows["difference"], np.mean(GAPS[world]), atol=1e-12)
        np.testing.assert_allclose(rows["se"], np.std(GAPS[world], ddof=1) / 2)
        np.testing.assert_allclose(rows["mse"], 1 + np.mean(GAPS[world]))
    assert (found.loc[list(peers.SPARSE), "verdict"] == BEST).all()
    assert [tuple(row) for row in found.reset_index()[KEYS].to_numpy()] == [tuple(row) for row in CELLS.to_numpy()]


def test_a_peer_is_not_compared_with_itself_nor_ours_with_our_other_fits():
    results = planted(GAPS)
    results["mse_eb"] = 0.1
    assert (peers.verdicts(results)["peer"] == "eb").all()
    assert (peers.verdicts(results, "eb")["peer"] == "elastic_net").all()
    results["mse_eb_selected"] = 0.01
    assert (peers.verdicts(results)["peer"] == "eb").all()


def test_the_finding_counts_and_names_every_cell_where_it_is_not():
    text = peers.finding(planted(GAPS))
    # 9 cells each of Settings 1, 2, the model and in doubt, and 36 sparse ones: 72 best; 9 within; 9 not
    assert "least mean MSE in 72 of 90 cells" in text
    assert "in 9 more: in 90 % of cells" in text
    lines = [line for line in text.splitlines() if line.startswith("- ")]
    assert len(lines) == 9
    assert lines[0] == "- Setting 4, ρ = 0, signal 0.5: 1.1 against 1 of elastic net (+10 %, 2.4 SE)"
    assert "not in" not in peers.finding(planted(dict.fromkeys(GAPS, (-0.1, 0.0, 0.0, 0.0))))


def test_tables():
    results = planted(GAPS)
    table = peers.cells_table(results)
    assert len(table.rows) == len(STUDY.cells)
    assert len({len(row) for row in [table.header, *table.rows]}) == 1
    by_label = {row[0]: dict(zip(table.header, row, strict=True)) for row in table.rows}
    best = by_label["Setting 1, ρ = 0, signal 0.5"]
    assert best[WORDS[peers.OURS]] == "**0.95**"
    assert (best["elastic net"], best["oracle"], best["verdict"]) == ("1", "0.5", BEST)
    assert best["difference (peer)"] == "−5 ± 6.5 % (elastic net)"
    lost = by_label["Setting 4, ρ = 0.8, signal 2"]
    assert (lost["elastic net"], lost["verdict"]) == ("**1**", NOT)
    assert lost["difference (peer)"] == "+10 ± 4.1 % (elastic net)"
    assert by_label["sparse, shared, heavy tails, ρ = 0.2, 1 SNP"]["oracle"] == "–"
    assert "sparse, clustered, normal tails, ρ = 0.8, 10 SNPs" in by_label
    groups = {row[0]: row[1:] for row in peers.groups_table(results).rows}
    column = [part for part in WORDS if part in peers.FITS].index(peers.OURS) + 1
    assert groups["Setting 3"][column] == "0 + 9"
    assert groups["sparse, shared"][0] == "12"
    assert groups["sparse, shared"][column] == "12 + 0"
    assert groups["all"][column] == "72 + 9"
    areas = peers.auc_table(results)
    assert areas.header == ["", *(WORDS[part] for part in (*peers.FITS, "oracle"))]
    assert len(areas.rows) == 9
    for shown in (peers.finding(results), peers.groups_table(results).markdown()):
        assert shown in peers.table(results)
    assert peers.tables(results) == [table, areas]
    for one in (table, areas, peers.groups_table(results)):
        assert one.latex().isascii()


def test_the_figure_has_a_mark_for_every_cell():
    drawing = peers.figure(planted(GAPS))
    (ax,) = drawing.axes
    marks = {bars.get_label(): bars.lines[0].get_xydata() for bars in ax.containers}
    assert {name: len(marks[name]) for name in (BEST, WITHIN, NOT)} == {BEST: 72, WITHIN: 9, NOT: 9}
    np.testing.assert_allclose(marks[NOT][:, 1], 1.1)
    every = np.concatenate(list(marks.values()))
    assert len(np.unique(every[:, 0])) == 90
    picture = io.BytesIO()
    drawing.savefig(picture, format="png")
    assert mpimg.imread(io.BytesIO(picture.getvalue())).std() > 0


def test_estimators_are_stored_one_by_one(tmp_path: Path):
    """Some now, others later, on the same data; what is not run is not shown."""
    cells = [STUDY.cells[0], STUDY.cells[-1]]
    every = STUDY.replicate.estimators

    def some(*names: str):
        chosen = replace(STUDY.replicate, estimators={name: every[name] for name in names})
        return replace(STUDY, cells=cells, replications=2, folder=tmp_path, replicate=chosen)

    some("zero", "ridge", "oracle").run(jobs=1, progress=False)
    results = some("zero", "ridge", "oracle", "eb").run(jobs=1, progress=False)
    assert len(results) == 4
    assert results["mse_oracle"].notna().tolist() == [True, True, False, False]
    data = peers.data(cells[1], STUDY.stream(cells[1], 1))
    again = estimators.eb(data, np.random.SeedSequence(0)).effects
    assert results["mse_eb"].iloc[3] == pytest.approx(float(((again - data.effects) ** 2).mean()), rel=1e-6)


def test_our_fits_are_without_intervals_and_the_peers_as_they_are():
    for name, estimator in STUDY.replicate.estimators.items():
        ours = name in (*peers.FITS, "oracle")
        assert getattr(estimator, "keywords", {}).get("intervals", True) is not ours
