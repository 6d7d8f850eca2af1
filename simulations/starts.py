"""Does the default fit find the maximum? It and one naive start, against a search from 200 random starts."""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd

import ebmodel
from ebmodel import em
from ebmodel.data import tidy
from ebmodel.statistics import Statistics, compress, whiten
from simulations.metrics import auc, mse
from simulations.study import Cell, Record, Study, Whole, paper_cells
from simulations.tables import markdown

WITHIN = 1e-4
"""Log-likelihoods nearer than this are the same maximum."""
RANDOM_STARTS = 200


def replicate(cell: Cell, stream: np.random.SeedSequence) -> Record:
    """Best log-likelihood of the default fit, the naive start and the random search; MSE and AUC of the first two."""
    data_stream, search_stream = stream.spawn(2)
    knobs = {name: value for name, value in cell.items() if name != "setting"}
    gene = ebmodel.simulate.setting(int(cell["setting"]), seed=data_stream, **knobs)
    truth, active = gene["effects"].to_numpy(), gene["active"].to_numpy()
    default = ebmodel.fit(gene.X, gene.Y)
    stats, whitening = whiten(compress(tidy(gene.X, gene.Y)), "g")
    state, naive = plain_em(stats, naive_state(stats))
    beta = whitening.unwhiten(state.gamma)
    local = ebmodel.oracle(
        gene.X, gene.Y, ebmodel.Params(tau1=state.tau1, beta=beta, eta=state.eta, sigma2=state.sigma2)
    )
    rng = np.random.default_rng(search_stream)
    climbs = (em.run(stats, start, 1e-9, 5000)[1][-1] for start in random_states(stats, rng, RANDOM_STARTS))
    row: dict[str, float] = {"default": default.loglik, "naive": naive, "search": float(max(climbs))}
    for name, fit in (("default", default), ("naive", local)):
        row[f"mse_{name}"] = mse(fit.effects.to_numpy(), truth)
        row[f"auc_{name}"] = auc(fit.posterior_probability.to_numpy(), active)
    return row


def naive_state(stats: Statistics) -> em.State:
    """The start one would write first: tau1 = 1/2, beta the mean of the OLS estimates, eta and sigma2 by moments."""
    rank = (stats.d > 0).sum(axis=1)[stats.pattern]
    ols = np.einsum("tij,tj->ti", stats.V[stats.pattern], stats.b)
    sigma2 = float(stats.rss.sum() / (stats.n - rank).sum())
    spread = np.mean((ols - ols.mean(axis=0)) ** 2)
    return em.State(0.5, ols.mean(axis=0), max(float(spread) - sigma2, 0.1 * sigma2), sigma2)


def random_states(stats: Statistics, rng: np.random.Generator, size: int) -> list[em.State]:
    """Starts that owe nothing to the package's own: half random sets of active tissues, a quarter random weights for
    every tissue, a quarter one tissue's estimate as the mean with a random spread.
    """
    m, states = len(stats.n), []
    for i in range(size):
        if i % 4 < 2:
            T = np.zeros(m)
            T[rng.choice(m, rng.integers(1, m + 1), replace=False)] = 1.0
            states.append(em.from_responsibilities(stats, T))
        elif i % 4 == 2:
            states.append(em.from_responsibilities(stats, rng.random(m)))
        else:
            naive, t = naive_state(stats), rng.integers(m)
            own = stats.V[stats.pattern[t]] @ stats.b[t]
            states.append(em.State(rng.random(), own, naive.sigma2 * 10 ** rng.uniform(-2, 1), naive.sigma2))
    return states


def plain_em(stats: Statistics, state: em.State) -> tuple[em.State, float]:
    """Where EM without acceleration ends, and log p(Y) there."""
    T, value = em.expectation(stats, state)
    for _ in range(5000):
        state = em.maximisation(stats, T, state)
        last = value
        T, value = em.expectation(stats, state)
        if value - last < 1e-9:
            break
    return state, float(value)


def table(results: pd.DataFrame) -> str:
    """How often each search reaches the 200-start maximum and its largest shortfall; what the maximum is worth."""
    rows = []
    for name, group in [*_by(results, ["setting", "rho"]), ("all", results)]:
        cells = [name, str(len(group))]
        for column in ("default", "naive"):
            short = group["search"] - group[column]
            cells += [f"{100 * np.mean(short <= WITHIN):.1f} %", f"{max(short.max(), 0.0):.2g}"]
        rows.append([*cells, str(int((group["default"] > group["search"] + WITHIN).sum()))])
    header = ["Setting", "data sets", "default finds it", "worst shortfall", "naive start finds it"]
    first = markdown([*header, "worst shortfall", "default finds more"], rows)

    missed = results[results["default"] > results["naive"] + WITHIN]
    rows = [
        [name, str(len(group)), f"{(group['default'] - group['naive']).mean():.1f}"]
        + [f"{group[f'{metric}_{who}'].mean():.2f}" for metric in ("mse", "auc") for who in ("default", "naive")]
        for name, group in _by(missed, ["signal"])
    ]
    header = [
        "Signal",
        "data sets",
        "log-likelihood gained",
        "MSE, maximum",
        "MSE, naive",
        "AUC, maximum",
        "AUC, naive",
    ]
    better = {m: (missed[f"{m}_default"] - missed[f"{m}_naive"]).to_numpy() for m in ("mse", "auc")}
    finding = (
        f"In the {len(missed)} data sets where the naive start ends below the maximum, the maximum is the better "
        f"estimate (lower MSE) in {int((better['mse'] < 0).sum())} and ranks tissues better (higher AUC) in "
        f"{int((better['auc'] > 0).sum())}:"
    )
    return f"{first}\n\n{finding}\n\n{markdown(header, rows)}"


def table_of_sizes(results: pd.DataFrame) -> str:
    """How often the default fit reaches the 200-start maximum, by size of the data."""
    rows = []
    for (setting, n, p, m), group in results.groupby(["setting", "n", "p", "m"]):
        short = group["search"] - group["default"]
        found = f"{int((short <= WITHIN).sum())} of {len(group)}"
        rows.append([f"{setting}", f"{n}", f"{p}", f"{m}", found, str(int((short < -WITHIN).sum()))])
    return markdown(["Setting", "n", "p", "m", "default finds it", "default finds more"], rows)


def _by(results: pd.DataFrame, keys: list[str]) -> list[tuple[str, pd.DataFrame]]:
    """Groups and their names: ``3, ρ = 0.4`` for setting and rho."""
    return [(", ρ = ".join(f"{value:g}" for value in values), group) for values, group in results.groupby(keys)]


STUDY = Study("starts", paper_cells(), 10, Whole(replicate), table)

SIZES = [(1, 50, 10, 20), (1, 50, 30, 20), (1, 100, 30, 100), (1, 60, 5, 150), (2, 50, 30, 50), (3, 60, 10, 30)]
OTHER_CELLS: list[Cell] = [
    {"setting": k, "n": n, "p": p, "m": m, "tau1": tau1, "rho": rho, "signal": signal}
    for (k, n, p, m), tau1, rho, signal in product(SIZES, (0.1, 0.5, 0.9), (0.0, 0.6), (0.5, 1.0))
]
SIZES_STUDY = Study("sizes", OTHER_CELLS, 3, Whole(replicate), table_of_sizes)
