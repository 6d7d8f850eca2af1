"""What the printed EM update does, whose eta is free to be negative: from several starts, against the maximum."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

import ebmodel
from simulations.metrics import auc, mse
from simulations.printed import Reduced, Theta, iterate, naive, reduce
from simulations.settings import paper_data
from simulations.store import SECONDS, Cell, Record
from simulations.study import Study, child, paper_cells
from simulations.tables import Table

WITHIN = 1e-4
"""Log-likelihoods nearer than this are the same maximum."""


def naive_start(data: Reduced, rng: np.random.Generator) -> Theta:  # noqa: ARG001
    """tau1 = 1/2, the mean of the OLS estimates, moments."""
    return naive(data)


def first_tissue(data: Reduced, rng: np.random.Generator) -> Theta:  # noqa: ARG001
    """The first tissue's OLS estimate."""
    return naive(data)._replace(beta=data.ols[0])


def top_five(data: Reduced, rng: np.random.Generator) -> Theta:  # noqa: ARG001
    """The mean OLS estimate of the five tissues whose regressions explain most."""
    best = np.argsort(data.explained)[-5:]
    return naive(data)._replace(beta=data.ols[best].mean(axis=0), tau1=0.1)


def one_alone(data: Reduced, rng: np.random.Generator) -> Theta:
    """One tissue's estimate with little room about it: the way to the likelihood's infinity."""
    t, start = rng.integers(len(data.ols)), naive(data)
    return start._replace(beta=data.ols[t], tau1=1 / len(data.ols), eta=1e-3 * start.sigma2)


def normal(data: Reduced, rng: np.random.Generator) -> Theta:
    """beta ~ N(0, I), eta = sigma2 = 1."""
    return Theta(0.5, rng.standard_normal(data.ols.shape[1]), 1.0, 1.0)


STARTS: dict[str, tuple[str, Callable[[Reduced, np.random.Generator], Theta]]] = {
    "naive": ("mean of OLS", naive_start),
    "first": ("OLS of tissue 1", first_tissue),
    "five": ("mean of the top five", top_five),
    "alone": ("one tissue alone", one_alone),
    "normal": ("β ~ N(0, I)", normal),
}


class FromStarts:
    """A replication: the printed EM from every start, on one data set, beside the constrained maximum."""

    parts: Sequence[str] = (*STARTS, "maximum")

    def wants(self, part: str, cell: Cell, replication: int) -> bool:  # noqa: ARG002
        """Everywhere."""
        return True

    def __call__(self, cell: Cell, stream: np.random.SeedSequence, parts: Sequence[str]) -> dict[str, Record]:
        """For every start: whether eta became negative, whether the density broke down, MSE, AUC and log-likelihood."""
        gene = paper_data(cell, stream)
        truth, active = gene["effects"].to_numpy(), gene["active"].to_numpy()
        data, found = reduce(gene["X"].to_numpy(), gene["Y"].to_numpy()), {}
        for part in parts:
            if part == "maximum":
                fit = ebmodel.fit(gene["X"], gene["Y"])
                effects, h = fit.effects.to_numpy(), fit.posterior_probability.to_numpy()
                facts = {"loglik": fit.loglik, "eta": fit.params.eta, "negative": 0.0, "broke": 0.0}
            else:
                end = iterate(data, STARTS[part][1](data, np.random.default_rng(child(stream, part))))
                effects, h = end.effects, end.probability
                facts = {
                    "loglik": end.loglik,
                    "eta": end.theta.eta,
                    "negative": float(end.negative_eta is not None),
                    "broke": float(end.status == "no density"),
                }
            found[part] = {"mse": mse(effects, truth), "auc": auc(h, active), **facts, SECONDS: 0.0}
        return found


def as_table(results: pd.DataFrame) -> Table:
    """By setting and start: what went wrong, and MSE and AUC against the constrained maximum's."""
    rows = []
    for setting, group in results.groupby("setting"):
        for part in FromStarts.parts:
            short = group["loglik_maximum"] - group[f"loglik_{part}"]
            broke = group[f"broke_{part}"] > 0
            share = lambda events: f"{100 * np.mean(events):.1f} %"  # noqa: E731
            rows.append(
                [
                    f"{setting:g}: {STARTS[part][0] if part in STARTS else 'maximum, η ≥ 0'}",
                    share(group[f"negative_{part}"] > 0),
                    share(broke),
                    share((short > WITHIN) & ~broke),
                    f"{short[~broke].max():.1f}" if (short[~broke] > WITHIN).any() else "–",
                    f"{group[f'mse_{part}'].mean():.3g}",
                    f"{group[f'auc_{part}'].mean():.3f}",
                ]
            )
    header = ["Setting: start", "η < 0 on the way", "density breaks down", "ends below the maximum", "by at most",
              "MSE", "AUC"]  # fmt: skip
    n = int(results.groupby("setting").size().min())
    return Table("unconstrained", f"The EM as printed, {n} data sets a setting", header, rows)


def table(results: pd.DataFrame) -> str:
    """The table for a Markdown page."""
    return as_table(results).markdown()


STUDY = Study("unconstrained", paper_cells((1, 2)), 20, FromStarts(), table, batch=5)
