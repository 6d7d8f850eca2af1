"""Does the default fit find the maximum? Its starts and a naive single start against a search from 200 random starts."""

from __future__ import annotations

import numpy as np
import pandas as pd

import ebmodel
from ebmodel import em
from ebmodel.data import tidy
from ebmodel.statistics import Statistics, compress, whiten
from simulations.study import Cell, Row, Study, markdown, paper_cells

WITHIN = 1e-4
"""Log-likelihoods nearer than this are the same maximum."""
RANDOM_STARTS = 200


def replicate(cell: Cell, stream: np.random.SeedSequence) -> list[Row]:
    """Best log-likelihood of the default fit, of the naive start and of the random search, on one data set."""
    data_stream, search_stream = stream.spawn(2)
    gene = ebmodel.simulate.setting(
        int(cell["setting"]), rho=cell["rho"], signal=cell["signal"], seed=data_stream
    )
    default = ebmodel.fit(gene.X, gene.Y)
    stats, _ = whiten(compress(tidy(gene.X, gene.Y)), "g")
    rng = np.random.default_rng(search_stream)
    search = max(_climb(stats, state) for state in random_states(stats, rng, RANDOM_STARTS))
    return [{"default": default.loglik, "naive": _plain_em(stats, naive_state(stats)), "search": search}]


def naive_state(stats: Statistics) -> em.State:
    """The start one would write first: tau1 = 1/2, beta the mean of the OLS estimates, eta and sigma2 by moments."""
    rank = (stats.d > 0).sum(axis=1)[stats.pattern]
    ols = np.einsum("tij,tj->ti", stats.V[stats.pattern], stats.b)
    sigma2 = float(stats.rss.sum() / (stats.n - rank).sum())
    spread = np.mean((ols - ols.mean(axis=0)) ** 2)
    return em.State(0.5, ols.mean(axis=0), max(float(spread) - sigma2, 0.1 * sigma2), sigma2)


def random_states(stats: Statistics, rng: np.random.Generator, size: int) -> list[em.State]:
    """Starts that owe nothing to the package's own: half random sets of active tissues, a quarter random weights for
    every tissue, a quarter one tissue's estimate as the mean with a random spread."""
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


def _climb(stats: Statistics, state: em.State) -> float:
    return float(em.run(stats, state, 1e-9, 5000)[1][-1])


def _plain_em(stats: Statistics, state: em.State) -> float:
    """log p(Y) where EM without acceleration ends."""
    T, value = em.expectation(stats, state)
    for _ in range(5000):
        state = em.maximisation(stats, T, state)
        last = value
        T, value = em.expectation(stats, state)
        if value - last < 1e-9:
            break
    return float(value)


def table(results: pd.DataFrame) -> str:
    """Share of data sets where each search reaches the 200-start maximum, and its largest shortfall."""
    rows = []
    groups = [*results.groupby(["setting", "rho"]), (("all", ""), results)]
    for (setting, rho), group in groups:
        cells = [f"{setting}, ρ = {rho:g}" if rho != "" else "all", str(len(group))]
        for name in ("default", "naive"):
            short = group["search"] - group[name]
            cells += [f"{100 * np.mean(short <= WITHIN):.1f} %", f"{max(short.max(), 0.0):.2g}"]
        cells.append(str(int((group["default"] > group["search"] + WITHIN).sum())))
        rows.append(cells)
    header = ["Setting", "data sets", "default finds it", "worst shortfall", "naive start finds it", "worst shortfall",
              "default finds more"]
    return markdown(header, rows)


STUDY = Study("starts", paper_cells(), 10, replicate, table)
