"""The generalised estimator against its peers on the same data: is it the best, or within one standard error of it?

The slab's power alpha and the size kappa of its mean are estimated (``slab="power", mean="hierarchical"``), so that the
fit comes near independent effects, effects that follow the LD or the paper's prior, with a mean or without. It is put
to the test where that should help (Settings 1-4, the paper's own prior), and where no choice of alpha and kappa is
right: sparse effects, which the elastic nets are made for.

Peers are zero, least squares, ridge and elastic net of each tissue alone, the multi-task elastic net, and the paper's
estimator. Other fits of ours are shown beside it, and are no peers.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import product

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullLocator

import ebmodel
from ebmodel.plot.style import BAND, BLACK, GREY, ORANGE, REFERENCE, new_figure, outside, styled
from ebmodel.simulate.sparse import TAILS
from simulations import competition
from simulations.estimators import ESTIMATORS
from simulations.metrics import METRICS
from simulations.settings import paper_data
from simulations.study import SIGNALS, Cell, Comparison, Study
from simulations.tables import Table

WORDS = {
    "zero": "zero", "ols": "OLS", "ridge": "ridge", "elastic_net": "elastic net", "multitask": "multi-task",
    "eb": "EB (paper)", "eb_power": "EB, power", "eb_power_zero": "EB, power, no mean",
    "eb_hierarchical": "EB, hierarchical", "eb_general": "EB, power, hierarchical",
    "eb_sparse": "EB, sparse, hierarchical", "eb_selected": "EB, selected",
    "oracle": "oracle",
}  # fmt: skip
PEERS = ("zero", "ols", "ridge", "elastic_net", "multitask", "eb")
OURS = "eb_selected"
FITS = ("eb", "eb_power", "eb_power_zero", "eb_hierarchical", "eb_general", "eb_sparse", "eb_selected")
KEYS = ["world", "rho", "signal", "nonzero"]
BEST, WITHIN, NOT = "best", "within one SE", "not"
RHOS = (0.0, 0.4, 0.8)
SPARSE = {f"{sharing}, {tails}": (sharing, tails) for sharing in ("shared", "specific", "clustered") for tails in TAILS}
"""World -> which tissues share causal SNPs, and the tails of effects."""
EXPLAINED = 0.2


# Data ----------------------------------------------------------------------------------------------------------------


def cells() -> list[Cell]:
    """World x rho x signal x number of SNPs with an effect; for sparse effects the signal is the share explained."""
    worlds = [*((f"Setting {k}", 1 if k == 2 else 30) for k in (1, 2, 3, 4)), ("the model", 20), ("in doubt", 20)]
    dense = [(world, rho, signal, p) for (world, p), rho, signal in product(worlds, RHOS, SIGNALS)]
    few = [(world, rho, EXPLAINED, k) for world, rho, k in product(SPARSE, (0.2, 0.8), (1, 3, 10))]
    return [dict(zip(KEYS, values, strict=True)) for values in (*dense, *few)]


def data(cell: Cell, stream: np.random.SeedSequence) -> xr.Dataset:
    """A data set of the cell's world."""
    world, rho, signal = str(cell["world"]), float(cell["rho"]), float(cell["signal"])
    if world in SPARSE:
        sharing, tails = SPARSE[world]
        k = int(cell["nonzero"])
        return ebmodel.simulate.sparse(nonzero=k, sharing=sharing, tails=tails, explained=signal, rho=rho, seed=stream)
    if world == "in doubt":
        return doubtful(rho, signal, stream)
    setting = 0 if world == "the model" else int(world.removeprefix("Setting "))
    cell = {"setting": setting, "rho": rho, "signal": signal}
    return paper_data(cell, stream) if setting else competition.data(cell, stream)


def doubtful(rho: float, signal: float, stream: np.random.SeedSequence) -> xr.Dataset:
    """Data from the paper's model with effects so weak that most tissues are in doubt: at the truth the AUC of P(I=1)
    is 0.8 at the weakest signal, and most P(I=1) lie between 0.05 and 0.95.
    """
    beta = 0.02 * signal * np.repeat([1.0, 0.5, 0.0], [7, 7, 6])
    return competition.of_the_model(beta, 0.5, rho, stream, n=100, m=50)


def posed(cell: Cell, replication: int) -> bool:  # noqa: ARG001
    """Whether the truth is a posterior's, so that there is an oracle."""
    return cell["world"] not in SPARSE


# Verdicts ------------------------------------------------------------------------------------------------------------


def group_of(world: str) -> str:
    """What worlds are counted together: sparse effects with normal and with heavy tails."""
    return f"sparse, {SPARSE[world][0]}" if world in SPARSE else world


def label(world: str, rho: float, signal: float, nonzero: int) -> str:
    """A cell in words."""
    if world not in SPARSE:
        return f"{world}, ρ = {rho:g}, signal {signal:g}"
    sharing, tails = SPARSE[world]
    return f"sparse, {sharing}, {tails} tails, ρ = {rho:g}, {nonzero:g} SNP{'s' if nonzero > 1 else ''}"


def by_cell(results: pd.DataFrame) -> Iterator[tuple[tuple[str, float, float, int], pd.DataFrame]]:
    """Results cell by cell, in the study's order."""
    yield from results.groupby(KEYS, sort=False)


def verdicts(results: pd.DataFrame, ours: str = OURS) -> pd.DataFrame:
    """An estimator against the best of its peers, the one of least mean MSE, in every cell.

    Returns
    -------
    DataFrame
        A row a cell: the keys, ``label``, ``group``, the best ``peer``, ``mse`` of ours and ``mse_peer``, mean and
        standard error over data sets of the ``difference`` of the two (``se``), and the ``verdict``: best, if the mean
        difference is at most 0; within one standard error of the best, if at most ``se``; or not.
    """
    rows = []
    for key, cell in by_cell(results):
        peers = {part: cell[f"mse_{part}"].mean() for part in PEERS if part != ours}
        peer = min(peers, key=lambda part: peers[part])
        apart = cell[f"mse_{ours}"] - cell[f"mse_{peer}"]
        difference, se = apart.mean(), apart.sem()
        verdict = BEST if difference <= 0 else WITHIN if difference <= se else NOT
        rows.append(
            dict(zip(KEYS, key, strict=True))
            | {"label": label(*key), "group": group_of(key[0]), "peer": peer, "mse": cell[f"mse_{ours}"].mean()}
            | {"mse_peer": peers[peer], "difference": difference, "se": se, "verdict": verdict}
        )
    return pd.DataFrame(rows)


def fits(results: pd.DataFrame) -> list[str]:
    """Those of our fits that were run."""
    return [part for part in FITS if f"mse_{part}" in results]


def finding(results: pd.DataFrame, ours: str = OURS) -> str:
    """The count, the share, and every cell where it is not."""
    found = verdicts(results, ours)
    count = found["verdict"].value_counts()
    best, within, total = count.get(BEST, 0), count.get(WITHIN, 0), len(found)
    share = 100 * (best + within) / total
    text = (
        f"{WORDS[ours]} has the least mean MSE in {best} of {total} cells and is within one standard error of the best "
        f"of its peers in {within} more: in {share:.0f} % of cells."
    )
    lost = found[found["verdict"] == NOT]
    if lost.empty:
        return text
    lines = [
        f"- {row.label}: {row.mse:.3g} against {row.mse_peer:.3g} of {WORDS[row.peer]} "
        f"({100 * row.difference / row.mse_peer:+.0f} %, {row.difference / row.se:.1f} SE)"
        for row in lost.itertuples()
    ]
    return "\n".join([f"{text} It is not in:", "", *lines])


# Shown ---------------------------------------------------------------------------------------------------------------


def cells_table(results: pd.DataFrame, ours: str = OURS) -> Table:
    """Mean MSE of every estimator in every cell, the least of those that do not know the truth in bold; verdict."""
    parts, rows = [part for part in WORDS if f"mse_{part}" in results], []
    found = verdicts(results, ours)
    for (_, cell), judged in zip(by_cell(results), found.itertuples(), strict=True):
        mean = {part: cell[f"mse_{part}"].mean() for part in parts}
        least = format(min(value for part, value in mean.items() if part != "oracle"), ".3g")
        row = [judged.label]
        for part, value in mean.items():
            shown = format(value, ".3g")
            bold = "**" if part != "oracle" and shown == least else ""
            row.append("–" if np.isnan(value) else f"{bold}{shown}{bold}")
        percent = 100 / judged.mse_peer
        gap = f"{percent * judged.difference:+.3g} ± {percent * judged.se:.2g}".replace("-", "−")
        rows.append([*row, f"{gap} % ({WORDS[judged.peer]})", judged.verdict])
    n = int(results.groupby(KEYS).size().min())
    caption = (
        f"MSE of effects, mean over {n} data sets a cell. Bold: the least of those that do not know the truth. Last, "
        f"the difference of “{WORDS[ours]}” from the best of its peers ± its standard error, in per cent of that one's "
        "MSE, and the verdict"
    )
    return Table("peers_cells", caption, ["", *(WORDS[part] for part in parts), "difference (peer)", "verdict"], rows)


def groups_table(results: pd.DataFrame) -> Table:
    """By group of cells: how many there are, and in how many each of our fits is the best or within one SE of it."""
    parts = fits(results)
    found = {part: verdicts(results, part) for part in parts}
    of = found[parts[0]]["group"]
    rows = []
    for group in [*of.unique(), "all"]:
        within = np.ones(len(of), dtype=bool) if group == "all" else (of == group).to_numpy()
        row = [group, str(within.sum())]
        for table in found.values():
            verdict = table.loc[within, "verdict"]
            row.append(f"{(verdict == BEST).sum()} + {(verdict == WITHIN).sum()}")
        rows.append(row)
    peers = ", ".join(WORDS[part] for part in PEERS)
    caption = (
        f"Cells in which each fit has a mean MSE below that of all its peers ({peers}) + cells in which it is within "
        "one standard error of the best of them"
    )
    return Table("peers_groups", caption, ["", "cells", *(WORDS[part] for part in parts)], rows)


def auc_table(results: pd.DataFrame) -> Table:
    """Mean AUC of P(I=1) by group."""
    parts = [part for part in WORDS if f"auc_{part}" in results and results[f"auc_{part}"].notna().any()]
    groups = results["world"].map(group_of)
    means = results.groupby(groups, sort=False)[[f"auc_{part}" for part in parts]].mean()
    rows = [
        [group, *("–" if np.isnan(value) else format(value, ".3f") for value in row)]
        for group, row in zip(means.index, means.to_numpy(), strict=True)
    ]
    return Table("peers_auc", "AUC of P(I=1), mean over cells and data sets", ["", *(WORDS[p] for p in parts)], rows)


def table(results: pd.DataFrame) -> str:
    """Counts by group, and the finding."""
    return f"{groups_table(results).markdown()}\n\n{finding(results)}"


def tables(results: pd.DataFrame) -> list[Table]:
    """Every cell, and AUC."""
    return [cells_table(results), auc_table(results)]


@styled
def figure(results: pd.DataFrame, ours: str = OURS) -> Figure:
    """MSE of ours over that of the best peer, cell by cell, with its standard error; below 1 ours is the best."""
    looks = {
        BEST: {"marker": "o", "color": BLACK, "markersize": 4.5},
        WITHIN: {"marker": "D", "color": GREY, "markerfacecolor": "white", "markersize": 4.5},
        NOT: {"marker": "X", "color": ORANGE, "markersize": 6.5},
    }
    found = verdicts(results, ours)
    groups = found["group"].unique()
    place = found["group"].map({group: i for i, group in enumerate(groups)})
    order = found.groupby("group", sort=False).cumcount()
    size = found.groupby("group")["group"].transform("size")
    x = place + 0.8 * ((order + 0.5) / size - 0.5)
    ratio, error = found["mse"] / found["mse_peer"], found["se"] / found["mse_peer"]
    below = np.minimum(error, 0.95 * ratio)  # the axis is logarithmic
    drawing = new_figure(9.6, 4.2)
    ax = drawing.subplots()
    for verdict, look in looks.items():
        at = found["verdict"] == verdict
        if at.any():
            bars = [below[at], error[at]]
            ax.errorbar(x[at], ratio[at], bars, linestyle="", linewidth=0.9, label=verdict, **look)
    ax.axhline(1.0, **REFERENCE)
    for i in range(1, len(groups)):
        ax.axvline(i - 0.5, color=BAND, linewidth=0.8)
    ax.set(yscale="log", ylabel=f"MSE of {WORDS[ours]} / of the best peer", xlim=(-0.5, len(groups) - 0.5))
    ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    ax.yaxis.set_major_formatter(FormatStrFormatter("%g"))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.set_xticks(range(len(groups)), [group.replace(", ", ",\n") for group in groups])
    outside(drawing, ax, 3)
    return drawing


STUDY = Study(
    "peers",
    cells(),
    10,
    Comparison(
        data,
        {
            name: partial(ESTIMATORS[name], intervals=False) if name in (*FITS, "oracle") else ESTIMATORS[name]
            for name in WORDS
        },
        {name: METRICS[name] for name in ("mse", "auc", "facts")},
        {"oracle": posed},
    ),
    table,
    figure,
    tables=tables,
)
