"""Simulation-based calibration (Talts et al. 2018; Modrák et al. 2023) of the marginal model over its default prior.

Parameters are drawn from the prior, data given them, and the posterior given the data: the rank of the truth among its
draws is then uniform, for every function of parameters and data, if prior, likelihood, sampler and recovery of I(t) and
beta(t) fit together. The joint log-likelihood is one of the functions, for it sees what the others may miss.
The same is computed from draws squeezed to half their sd about their mean: a check that passes these as well would be
worth nothing.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure

from ebmodel.bayes import WEAK
from ebmodel.bayes.models import Problem, pose
from ebmodel.bayes.sampling import draw_prior, nuts, recover
from ebmodel.calibration.ranks import difference, gap, rank, strays
from ebmodel.model import Array
from ebmodel.plot.style import BAND as SHADED
from ebmodel.plot.style import BLUE, ORANGE, new_figure, outside, styled
from simulations.study import Cell, Record, Study, Whole
from simulations.tables import markdown

N, P, M = 40, 3, 12
SETTINGS = {"draws": 500, "tune": 500, "chains": 4, "cores": 1}
KEPT = 199
"""Draws among which the truth is ranked: the chains thinned, so that these are all but independent."""
PRIORS = WEAK.with_(scale=1.0)  # with a scale of its own the prior does not depend on the data
MOST = 2000
"""Replications at most."""
BAND = 0.95
"""Chance that all quantities of one design stay within their bands, if calibrated."""
QUANTITIES = ("tau1", "eta", "sigma2", "beta_1", "beta_2", "beta_3", "active", "effect_1", "effect_2", "loglik")
SQUEEZED = QUANTITIES[:6]
DESIGNS: list[Cell] = [
    {"missing": 0.0, "hierarchical": 0},
    {"missing": 0.3, "hierarchical": 0},
    {"missing": 0.3, "hierarchical": 1},
]


def replicate(cell: Cell, stream: np.random.SeedSequence) -> Record:
    """Normalised ranks of the truth among posterior draws, for every quantity; with the draws squeezed, too."""
    seed, rng = int(stream.generate_state(1)[0]), np.random.default_rng(stream)
    X, gone = design(cell["missing"])
    mean = "hierarchical" if cell["hierarchical"] else "free"
    truth = prior(cell["missing"], mean).isel(chain=0, draw=stream.entropy[-1])  # the replication's own
    sigma = np.sqrt(float(truth["sigma2"]))
    Y = X @ truth["effects"].to_numpy().T + sigma * rng.standard_normal(gone.shape)
    problem = pose(X, np.where(gone, np.nan, Y), "g", mean, PRIORS)
    posterior, stats = nuts(problem, {**SETTINGS, "seed": seed})
    posterior, log_likelihood = recover(problem, posterior, rng)
    kept = np.linspace(0, posterior["tau1"].size - 1, KEPT).astype(int)
    drawn = {
        **{name: posterior[name].to_numpy().ravel() for name in ("tau1", "eta", "sigma2")},
        **{f"beta_{j + 1}": posterior["beta"][..., j].to_numpy().ravel() for j in range(P)},
        "active": posterior["active"][..., 0].to_numpy().ravel(),
        **{f"effect_{j + 1}": posterior["effects"][..., j, j].to_numpy().ravel() for j in range(2)},
        "loglik": log_likelihood["Y"].sum("tissue").to_numpy().ravel(),
    }
    true = {
        **{name: float(truth[name]) for name in ("tau1", "eta", "sigma2")},
        **{f"beta_{j + 1}": float(truth["beta"][j]) for j in range(P)},
        "active": float(truth["active"][0]),
        **{f"effect_{j + 1}": float(truth["effects"][j, j]) for j in range(2)},
        "loglik": _loglik(problem, truth),
    }
    row: dict[str, float] = {name: rank(true[name], drawn[name][kept], rng) for name in QUANTITIES}
    for name in SQUEEZED:
        middle = drawn[name].mean()
        row[f"squeezed_{name}"] = rank(true[name], middle + 0.5 * (drawn[name][kept] - middle), rng)
    return row | {"divergences": int(stats["diverging"].sum())}


@lru_cache
def design(missing: float) -> tuple[Array, Array]:
    """Genotypes (sample, snp), correlated, and which responses are missing (sample, tissue): the same throughout."""
    rng = np.random.default_rng(1)
    X = rng.standard_normal((N, P)) @ np.array([[1.0, 0.6, 0.3], [0.0, 0.8, 0.4], [0.0, 0.0, 0.9]])
    return X, rng.random((N, M)) < missing


@lru_cache
def prior(missing: float, mean: str) -> xr.Dataset:
    """As many draws from the prior as there may be replications."""
    X, gone = design(missing)
    return draw_prior(pose(X, np.where(gone, np.nan, 1.0), "g", mean, PRIORS), MOST, seed=1)


def _loglik(problem: Problem, truth) -> float:
    import ebmodel

    theta = {name: float(truth[name]) for name in ("tau1", "eta", "sigma2")}
    params = ebmodel.Params(beta=truth["beta"].to_numpy(), **theta)
    return ebmodel.loglik(problem.data.X, problem.data.Y, params)


def level_each() -> float:
    """Level of one quantity's band, so that all of a design hold together with probability `BAND` (Bonferroni)."""
    return 1.0 - (1.0 - BAND) / len(QUANTITIES)


def name_of(missing: float, hierarchical: int) -> str:
    """A design in words."""
    data = f"{100 * missing:.0f} % missing" if missing else "complete"
    return f"{data}, {'hierarchical' if hierarchical else 'free'} mean"


def table(results: pd.DataFrame) -> str:
    """For every design: simulations, quantities outside their band, the largest deviation; the same when squeezed."""
    rows, level = [], level_each()
    for (missing, hierarchical), group in results.groupby(["missing", "hierarchical"]):
        out = [name for name in QUANTITIES if strays(group[name].to_numpy(), level)]
        caught = [name for name in SQUEEZED if strays(group[f"squeezed_{name}"].to_numpy(), level)]
        distance = {name: gap(group[name].to_numpy()) for name in QUANTITIES}
        worst = max(distance, key=distance.__getitem__)
        rows.append(
            [
                name_of(missing, hierarchical),
                str(len(group)),
                f"{len(out)} of {len(QUANTITIES)}" + (f" ({', '.join(out)})" if out else ""),
                f"{distance[worst]:.3f} ({worst})",
                f"{len(caught)} of {len(SQUEEZED)}",
                f"{int((group['divergences'] > 0).sum())}",
            ]
        )
    header = [
        "Design",
        "simulations",
        "quantities outside their band",
        "largest gap of an ECDF",
        "caught when squeezed",
    ]
    return markdown([*header, "simulations with divergences"], rows)


@styled
def figure(results: pd.DataFrame) -> Figure:
    """ECDF of the ranks less the diagonal, with bands; squeezed draws dashed."""
    groups = list(results.groupby(["missing", "hierarchical"]))
    drawing = new_figure(2.05 * 5, 1.75 * 2 * len(groups) + 0.6)
    panels = drawing.subplots(2 * len(groups), 5, sharex=True, sharey=True)
    for (keys, group), rows in zip(groups, np.split(panels, len(groups)), strict=True):
        for ax, name in zip(rows.ravel(), QUANTITIES, strict=True):
            for column, look, label in (
                (name, {"color": BLUE, "linestyle": "-"}, "posterior"),
                (f"squeezed_{name}", {"color": ORANGE, "linestyle": "--"}, "sd halved"),
            ):
                if column in group:
                    curve = difference(group[column].to_numpy(), level_each())
                    if column == name:
                        band = curve["point"], curve["lower"], curve["upper"]
                        ax.fill_between(*band, color=SHADED, linewidth=0, label="band if calibrated")
                    ax.plot(curve["point"], curve["ecdf"], linewidth=1.2, label=label, **look)
            ax.set_title(LABELS[name], fontsize=9)
        rows[0, 0].set_ylabel(f"{name_of(*keys)}\nECDF − rank", fontsize=8)
        rows[1, 0].set_ylabel("ECDF − rank", fontsize=8)
    for ax in panels[-1]:
        ax.set_xlabel("rank of the truth", fontsize=8)
    outside(drawing, panels[0, 0], 3)
    return drawing


LABELS = {
    "tau1": "τ₁",
    "eta": "η",
    "sigma2": "σ²",
    **{f"beta_{j + 1}": f"β, SNP {j + 1}" for j in range(P)},
    "active": "I(1)",
    **{f"effect_{j + 1}": f"β({j + 1}), SNP {j + 1}" for j in range(2)},
    "loglik": "log-likelihood",
}

STUDY = Study("sbc", DESIGNS, 500, Whole(replicate), table, figure)
