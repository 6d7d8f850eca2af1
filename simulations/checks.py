"""The checks, checked: how often each fires where the model holds, and under which violation which of them does."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure

import ebmodel
from ebmodel.checks.catalogue import CHECKS, DESIGN
from ebmodel.checks.catalogue import MISSING as AT_RANDOM
from ebmodel.simulate.violations import GROUP
from simulations.study import Cell, Record, Study, Whole
from simulations.tables import Table

TRUTH = ebmodel.Params(tau1=0.5, beta=np.array([0.2, 0.15, 0.1, 0.0, 0.0, 0.0, 0.0, 0.0]), eta=1.0, sigma2=1.0)
N, M, MISSING = 100, 50, 0.25
REPLICATES = 39
"""Drawn data sets a check: 0.05 x 40 is a whole number, so that tests at 5 % can have that level exactly."""
LEVEL, ENOUGH = 0.05, 0.8
NONE, FEW = "none", "few-tissues"
SIZES: list[Cell] = [
    {"violation": NONE, "strength": 0.0, "m": m, "missing": missing} for missing in (0.0, MISSING) for m in (20, M)
]
OWN: dict[str, tuple[str, float]] = {
    "linearity": ("curvature", 0.2),
    "sample-size": ("sample-size", 1.5),
    "normal-errors": ("heavy-tails", 0.3),
    "equal-variances": ("unequal-variances", 0.3),
    "independent-errors": ("correlated-errors", 0.1),
    "exchangeable": ("related-tissues", 1.0),
    "unrelated-groups": ("related-tissues", 1.0),
    "slab-covariance": ("slab-covariance", 1.0),
    "exact-spike": ("small-effects", 0.6),
    "two-components": ("two-slabs", 1.0),
    AT_RANDOM: ("missing-by-value", 1.0),
    DESIGN: (FEW, 8.0),
}
"""Check -> the violation that it is for, at a strength that it should see."""
BESIDE = [("skewed-errors", 0.5), ("block-errors", 0.3)]
POWERS: list[Cell] = [
    {"violation": name, "strength": strength, "m": int(strength) if name == FEW else M, "missing": MISSING}
    for name, strength in dict.fromkeys([*OWN.values(), *BESIDE])
]


def data(cell: Cell, stream: np.random.SeedSequence) -> xr.Dataset:
    """Data with one assumption violated; X correlated, tissues of different size where responses are missing."""
    genotypes, rest = stream.spawn(2)
    p, m = len(TRUTH.beta), int(cell["m"])
    C = np.full((p, p), 0.5) + 0.5 * np.eye(p)
    X = np.random.default_rng(genotypes).standard_normal((N, p)) @ np.linalg.cholesky(C).T
    shares = np.linspace(0.0, 2.0 * cell["missing"], m) if cell["missing"] else 0.0
    how = {"m": m, "missing": shares, "X": X, "seed": rest}
    if cell["violation"] in (NONE, FEW):
        return ebmodel.simulate.model_true(TRUTH, posterior=False, **how)
    return ebmodel.simulate.violated(str(cell["violation"]), float(cell["strength"]), TRUTH, **how)


def replicate(cell: Cell, stream: np.random.SeedSequence) -> Record:
    """p-values of every check, calibrated and plug-in, on one data set; nan where a check cannot be made."""
    drawn, seed = stream.spawn(2)
    gene = data(cell, drawn)
    fit = ebmodel.fit(gene["X"], gene["Y"])
    groups = np.arange(int(cell["m"])) // GROUP
    seed_ = int(seed.generate_state(1)[0])
    found = ebmodel.check(fit, replicates=REPLICATES, groups=groups, seed=seed_, progress=False)
    record = {"given_away": float(found["observed"].sel(check=DESIGN))}
    for name in CHECKS:
        row = found.sel(check=name)
        record |= {f"p_{name}": float(row["p_value"]), f"plugin_{name}": float(row["p_plugin"])}
        record |= {f"fires_{name}": _fires(row), f"effect_{name}": float(row["effect"])}
    return record


def _fires(row: xr.Dataset) -> float:
    """1 where a check says "doubtful" or "fails", 0 where it does not; nan where it was not made."""
    verdict = str(row["verdict"].item())
    return np.nan if verdict == "not checked" else float(verdict in ("doubtful", "fails"))


@dataclass(frozen=True)
class Fewer(Whole):
    """More replications where the model holds: sizes are to be told from 5 %."""

    most: int = 100

    def wants(self, part: str, cell: Cell, replication: int) -> bool:  # noqa: ARG002
        """All under the model, the first ``most`` under a violation."""
        return cell["violation"] == NONE or replication < self.most


def rates(results: pd.DataFrame, prefix: str = "fires_") -> pd.DataFrame:
    """Share of data sets in which each check fires, (violation, strength, m, missing) x check; nan if never made."""
    names = [f"{prefix}{name}" for name in CHECKS]
    fired = results[names] if prefix == "fires_" else (results[names] <= LEVEL).where(results[names].notna())
    keys = [results[key] for key in ("violation", "strength", "m", "missing")]
    return fired.astype(float).groupby(keys, sort=False).mean().rename(columns=lambda c: c.removeprefix(prefix))


def counts(results: pd.DataFrame) -> pd.DataFrame:
    """Data sets in which each check could be made."""
    names = [f"fires_{name}" for name in CHECKS]
    keys = [results[key] for key in ("violation", "strength", "m", "missing")]
    return results[names].groupby(keys, sort=False).count().rename(columns=lambda c: c.removeprefix("fires_"))


def size_table(results: pd.DataFrame) -> Table:
    """Share of data sets from the model in which each check fires at 5 %, with its standard error."""
    here = results[results["violation"] == NONE]
    share, plugin, n = rates(here), rates(here, "plugin_"), counts(here)
    header = ["check"]
    for _, _, m, missing in share.index:
        header += [f"m = {m}, {'complete' if missing == 0 else 'missing'}", "plug-in"]
    rows = []
    for name in CHECKS:
        row = [name]
        for key in share.index:
            row += [_share(share.loc[key, name], n.loc[key, name]), _share(plugin.loc[key, name], n.loc[key, name])]
        rows.append(row)
    most = int(here.groupby(["m", "missing"]).size().max())
    caption = f"Size: % of {most} data sets from the model in which a check fires at 5 % (± SE), refitted and plug-in"
    return Table("checks_size", caption, header, rows)


def power_table(results: pd.DataFrame) -> Table:
    """Power of each check against the violation that it is for."""
    share, plugin, n = rates(results), rates(results, "plugin_"), counts(results)
    rows = []
    for name, (violation, strength) in OWN.items():
        key = next(key for key in share.index if key[0] == violation and key[1] == strength)
        power = share.loc[key, name]
        grade = "weak" if power < ENOUGH else "≥ 80 %"
        own, quick = _share(power, n.loc[key, name]), _share(plugin.loc[key, name], n.loc[key, name])
        rows.append([name, f"{violation}, {strength:g}", own, quick, grade])
    most = int(results[results["violation"] != NONE].groupby("violation").size().max())
    caption = f"Power: % of {most} data sets in which a check fires at 5 % under its own violation (± SE)"
    return Table("checks_power", caption, ["check", "violation, strength", "refitted", "plug-in", "grade"], rows)


def _share(share: float, n: float) -> str:
    if not n or np.isnan(share):
        return "–"
    return f"{100 * share:.1f} ± {100 * np.sqrt(share * (1 - share) / n):.1f}"


def cross_table(results: pd.DataFrame) -> Table:
    """Which check fires under which violation."""
    share = rates(results[(results["m"] == M) | (results["violation"] == FEW)])
    share = share[[key[3] > 0 for key in share.index]]
    rows = [
        [f"{key[0]}, {key[1]:g}", *("–" if np.isnan(v) else f"{100 * v:.0f}" for v in share.loc[key])]
        for key in share.index
    ]
    caption = "% of data sets in which each check (columns) fires at 5 % under each violation (rows)"
    return Table("checks_cross", caption, ["violation, strength", *CHECKS], rows)


def table(results: pd.DataFrame) -> str:
    """Size, power and the cross table."""
    return "\n\n".join(made.markdown() for made in tables(results))


def tables(results: pd.DataFrame) -> list[Table]:
    """All three."""
    return [size_table(results), power_table(results), cross_table(results)]


def figure(results: pd.DataFrame) -> Figure:
    """The cross table: how often each check fires under each violation, its own framed."""
    share = rates(results[(results["m"] == M) | (results["violation"] == FEW)])
    share = share[[key[3] > 0 for key in share.index]]
    drawing = Figure(figsize=(9.6, 6.4), layout="constrained")
    ax = drawing.subplots()
    values = 100 * share.to_numpy()
    shown = ax.imshow(np.ma.masked_invalid(values), cmap="cividis_r", vmin=0.0, vmax=100.0, aspect="auto")
    for i, j in np.ndindex(values.shape):
        text = "–" if np.isnan(values[i, j]) else f"{values[i, j]:.0f}"
        ax.text(j, i, text, ha="center", va="center", fontsize=8, color="white" if values[i, j] > 60 else "black")
    keys, names = [(key[0], key[1]) for key in share.index], list(CHECKS)
    for name, own in OWN.items():
        x, y = names.index(name), keys.index(own)
        ax.plot(x + np.array([-0.46, 0.46, 0.46, -0.46, -0.46]), y + np.array([-0.44, -0.44, 0.44, 0.44, -0.44]),
                color="#D55E00", linewidth=2)  # fmt: skip
    labels = ["the model" if key[0] == NONE else f"{key[0]}, {key[1]:g}" for key in keys]
    ax.set_yticks(range(len(keys)), labels)
    ax.set_xticks(range(len(names)), names, rotation=40, ha="right")
    ax.set(xlabel="check", ylabel="violation, strength")
    drawing.colorbar(shown, ax=ax, label="% of data sets in which it fires at 5 %", shrink=0.7)
    return drawing


STUDY = Study("checks", [*SIZES, *POWERS], 200, Fewer(replicate), table, figure, tables=tables)
