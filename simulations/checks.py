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
from ebmodel.checks.missing import missing_by_value
from ebmodel.checks.reference import run_batch, values
from ebmodel.checks.view import View, frame_of
from ebmodel.plot.style import ORANGE, SEQUENTIAL, framed, new_figure, styled, written_on
from ebmodel.simulate.violations import GROUP
from simulations.study import Cell, Record, Study, Whole
from simulations.tables import Table

TRUTH = ebmodel.Params(tau1=0.5, beta=np.array([0.2, 0.15, 0.1, 0.0, 0.0, 0.0, 0.0, 0.0]), eta=1.0, sigma2=1.0)
N, M, MISSING = 100, 50, 0.25
REPLICATES = 39
"""Drawn data sets a check: 0.05 x 40 is a whole number, so that tests at 5 % can have that level exactly."""
SHUFFLES = 199
LEVEL, ENOUGH = 0.05, 0.8
NONE, FEW = "none", "few-tissues"
WHOLE = (NONE, FEW)
"""Where `ebmodel.check` is run as it is."""
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
    """What every check gives on one data set: see `whole` and `quick`."""
    found = (whole if cell["violation"] in WHOLE else quick)(cell, *stream.spawn(2))
    return {"given_away": np.nan, **{f"{kind}_{name}": np.nan for kind in KINDS for name in CHECKS}, **found}


KINDS = ("p", "plugin", "fires", "effect", "observed", "refitted", "known")
"""What is stored of a check."""


def whole(cell: Cell, drawn: np.random.SeedSequence, seed: np.random.SeedSequence) -> Record:
    """p-values as `ebmodel.check` gives them, refitted and plug-in; nan where a check cannot be made."""
    gene = data(cell, drawn)
    fit = ebmodel.fit(gene["X"], gene["Y"])
    number = int(seed.generate_state(1)[0])
    found = ebmodel.check(fit, replicates=REPLICATES, groups=groups(cell), seed=number, progress=False)
    record = {"given_away": float(found["observed"].sel(check=DESIGN))}
    for name in CHECKS:
        row = found.sel(check=name)
        made = str(row["verdict"].item()) != "not checked"
        fires = float(str(row["verdict"].item()) in ("doubtful", "fails")) if made else np.nan
        record |= {f"p_{name}": float(row["p_value"]), f"plugin_{name}": float(row["p_plugin"]), f"fires_{name}": fires}
        record[f"effect_{name}"] = float(row["effect"])
    return record


def quick(cell: Cell, drawn: np.random.SeedSequence, seed: np.random.SeedSequence) -> Record:
    """Every discrepancy, and the same on one data set drawn from the fit, refitted and at the drawing parameters.

    Pooled over data sets these are the reference: the warp-speed bootstrap (Giacomini, Politis & White 2013), which
    gives the power of tests with many replicates at the price of one each.
    """
    gene = data(cell, drawn)
    fit = ebmodel.fit(gene["X"], gene["Y"])
    view = View(fit, frame_of(fit), groups(cell))
    again, shuffle = seed.spawn(2)
    (one,) = run_batch(fit, [None], [again], True, view.groups)
    value, shuffled = missing_by_value(view, SHUFFLES, shuffle)
    p = (1 + np.sum(shuffled >= value.statistic)) / (1 + SHUFFLES) if np.isfinite(value.statistic) else np.nan
    record = {f"p_{AT_RANDOM}": p, f"plugin_{AT_RANDOM}": p}
    for name, found in values(view).items():
        record |= {f"observed_{name}": found.statistic, f"effect_{name}": found.effect}
        record |= {f"refitted_{name}": one.refitted.get(name, np.nan), f"known_{name}": one.known[name]}
    return record


def groups(cell: Cell) -> np.ndarray:
    """The groups that related tissues come in, where they do."""
    return np.arange(int(cell["m"])) // GROUP


@dataclass(frozen=True)
class Fewer(Whole):
    """Fewer replications where every data set is drawn and fitted again many times."""

    most: int = 150

    def wants(self, part: str, cell: Cell, replication: int) -> bool:  # noqa: ARG002
        """All where the bootstrap is quick, the first ``most`` elsewhere."""
        return cell["violation"] not in WHOLE or replication < self.most


KEYS = ["violation", "strength", "m", "missing"]


def rates(results: pd.DataFrame, *, plugin: bool = False) -> pd.DataFrame:
    """Share of data sets in which each check fires at 5 %, (cell, check); nan where it never could be made."""
    return _fired(results, plugin=plugin).groupby([results[key] for key in KEYS], sort=False).mean()


def counts(results: pd.DataFrame) -> pd.DataFrame:
    """Data sets in which each check could be made."""
    return _fired(results).groupby([results[key] for key in KEYS], sort=False).count()


def _fired(results: pd.DataFrame, *, plugin: bool = False) -> pd.DataFrame:
    """1 where a check fires, 0 where not, nan where it could not be made: (data set, check)."""
    pieces = []
    for key, part in results.groupby(KEYS, sort=False):
        fired = pd.DataFrame(np.nan, part.index, list(CHECKS))
        for name in CHECKS:
            p = _column(part, f"plugin_{name}" if plugin else f"p_{name}")
            if name == DESIGN and not plugin:
                fired[name] = _column(part, f"fires_{name}")  # its verdict is not by its p-value
            elif key[0] in WHOLE or name == AT_RANDOM:
                fired[name] = (p <= LEVEL).astype(float).where(p.notna())
            elif name != DESIGN:
                reference = _column(part, f"{'known' if plugin else 'refitted'}_{name}").dropna()
                observed = _column(part, f"observed_{name}")
                cut = np.quantile(reference, 1.0 - LEVEL) if len(reference) else np.nan
                fired[name] = (observed > cut).astype(float).where(observed.notna())
        pieces.append(fired)
    return pd.concat(pieces).loc[results.index]


def _column(results: pd.DataFrame, name: str) -> pd.Series:
    """A column, all nan where no data set has it."""
    return results[name] if name in results else pd.Series(np.nan, results.index)


def size_table(results: pd.DataFrame) -> Table:
    """Share of data sets from the model in which each check fires at 5 %, with its standard error."""
    here = results[results["violation"] == NONE]
    share, plugin, n = rates(here), rates(here, plugin=True), counts(here)
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
    share, plugin, n = rates(results), rates(results, plugin=True), counts(results)
    rows = []
    for name, (violation, strength) in OWN.items():
        key = next(key for key in share.index if key[0] == violation and key[1] == strength)
        power = share.loc[key, name]
        grade = "weak" if power < ENOUGH else "≥ 80 %"
        own, quick = _share(power, n.loc[key, name]), _share(plugin.loc[key, name], n.loc[key, name])
        rows.append([name, f"{violation}, {strength:g}", own, quick, grade])
    most = int(results[~results["violation"].isin(WHOLE)].groupby("violation").size().max())
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
    """Size and power."""
    return "\n\n".join(made.markdown() for made in tables(results)[:2])


def tables(results: pd.DataFrame) -> list[Table]:
    """All three."""
    return [size_table(results), power_table(results), cross_table(results)]


@styled
def figure(results: pd.DataFrame) -> Figure:
    """The cross table: how often each check fires under each violation, its own framed."""
    share = rates(results[(results["m"] == M) | (results["violation"] == FEW)])
    share = share[[key[3] > 0 for key in share.index]]
    drawing = new_figure(9.6, 6.4)
    ax = drawing.subplots()
    framed(ax)
    values = 100 * share.to_numpy()
    shown = ax.imshow(np.ma.masked_invalid(values), cmap=SEQUENTIAL, vmin=0.0, vmax=100.0, aspect="auto")
    for i, j in np.ndindex(values.shape):
        text = "–" if np.isnan(values[i, j]) else f"{values[i, j]:.0f}"
        ax.text(j, i, text, ha="center", va="center", fontsize=8, color=written_on(values[i, j] / 100))
    keys, names = [(key[0], key[1]) for key in share.index], list(CHECKS)
    for name, own in OWN.items():
        x, y = names.index(name), keys.index(own)
        ax.plot(x + np.array([-0.46, 0.46, 0.46, -0.46, -0.46]), y + np.array([-0.44, -0.44, 0.44, 0.44, -0.44]),
                color=ORANGE, linestyle="-", linewidth=2)  # fmt: skip
    labels = ["the model" if key[0] == NONE else f"{key[0]}, {key[1]:g}" for key in keys]
    ax.set_yticks(range(len(keys)), labels)
    ax.set_xticks(range(len(names)), names, rotation=40, ha="right")
    ax.set(xlabel="check", ylabel="violation, strength")
    drawing.colorbar(shown, ax=ax, label="% of data sets in which it fires at 5 %", shrink=0.7)
    return drawing


STUDY = Study("checks", [*SIZES, *POWERS], 200, Fewer(replicate), table, figure, tables=tables)
