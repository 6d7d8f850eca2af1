"""Do 95 % intervals hold 95 % of effects? Plug-in posterior, bootstrap and full posterior on data from the model.

The truth below is chosen so that the question is open: by the posterior at the true parameters about half of the
tissues have P(I=1) between 0.05 and 0.95, so that an interval has both a spike and a slab to weigh. With stronger
effects every P(I=1) would be 0 or 1 and all methods alike; with weaker ones the data would say nothing of either.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure
from numpy.typing import NDArray

import ebmodel
from ebmodel.bayes.diagnosis import diagnose
from ebmodel.bayes.models import pose
from ebmodel.bayes.sampling import sample_problem
from ebmodel.model import Array
from ebmodel.plot.style import BLUE, GREEN, INK, LINE, ORANGE, new_figure, outside, styled
from simulations.study import Cell, Record, Study, Whole
from simulations.tables import markdown

TRUTH = ebmodel.Params(tau1=0.5, beta=[0.2, 0.15, 0.1, 0.0, 0.0], eta=1.0, sigma2=1.0)
N = 100
LEVEL = 0.95
UNSURE = 0.05, 0.95
CHAINS, DRAWS = 4, 500
REPLICATES, STARTS = 100, 16
"""The bootstrap's data sets, and EM runs for each: 120 refits found the same maximum as with the default's 64."""
METHODS = {
    "oracle": "true parameters",
    "naive": "plug-in",
    "bootstrap": "bootstrap",
    "pymc": "PyMC",
}
WHICH = {"all": "all effects", "active": "active tissues", "unsure": "0.05 < P(I=1) < 0.95"}


def replicate(cell: Cell, stream: np.random.SeedSequence) -> Record:
    """Coverage and width of every method's intervals on one data set with genotypes of its own."""
    data, *streams = stream.spawn(5)
    gene = ebmodel.simulate.model_true(TRUTH, n=N, m=int(cell["m"]), seed=data, posterior=False)
    seeds = [int(child.generate_state(1)[0]) for child in streams]
    known, fit = ebmodel.oracle(gene.X, gene.Y, TRUTH), ebmodel.fit(gene.X, gene.Y)
    drawn = {
        "oracle": known.to_datatree(DRAWS, CHAINS, seeds[0]),
        "naive": fit.to_datatree(DRAWS, CHAINS, seeds[1]),
        "bootstrap": ebmodel.bootstrap(
            fit, REPLICATES, CHAINS * DRAWS // REPLICATES, seeds[2], STARTS, progress=False
        ),
        "pymc": sample_problem(
            pose(gene.X, gene.Y, "g", "free", "weak"),
            draws=DRAWS, tune=DRAWS, chains=CHAINS, seed=seeds[3], cores=1, predictive=1, progress=False,
        ),
    }  # fmt: skip
    low, high = UNSURE
    # chosen by the data alone, at the true parameters, the same for all methods
    unsure = ((known.posterior_probability > low) & (known.posterior_probability < high)).to_numpy()
    groups = {"all": np.ones_like(unsure), "active": gene["active"].to_numpy(), "unsure": unsure}
    row: dict[str, float] = {}
    for name, tree in drawn.items():
        row |= {f"{key}_{name}": value for key, value in _judge(tree, gene["effects"].to_numpy(), groups)}
    checks = diagnose(drawn["pymc"])
    row |= {"rhat": float(checks["r_hat"].max()), "divergences": int(checks["divergences"])}
    row |= {"failed": drawn["bootstrap"]["posterior"].attrs["failed"], "boundary": int("boundary" in fit.status)}
    return row


def _judge(tree: xr.DataTree, truth: Array, groups: dict[str, NDArray[np.bool_]]) -> Iterator[tuple[str, float]]:
    """Coverage by group of tissues, what the intervals say that it is, their mean width, and tau1's interval."""
    posterior = tree["posterior"]
    draws = posterior["effects"].to_numpy().reshape(-1, *truth.shape)
    low, high = _interval(draws)
    covered = (low <= truth) & (truth <= high)
    for name, tissues in groups.items():
        yield name, float(covered[tissues].mean()) if tissues.any() else np.nan
    yield "claimed", float(((low <= draws) & (draws <= high)).mean())
    yield "width", float((high - low).mean())
    if "tau1" in posterior:
        yield from zip(
            ("tau1_low", "tau1_high"), map(float, _interval(posterior["tau1"].to_numpy().ravel())), strict=True
        )


def _interval(draws: Array) -> tuple[Array, Array]:
    """Equal-tailed, of draws along the first axis; an end within the spike is 0 itself, not a mean of draws."""
    ends = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0, method="inverted_cdf")
    return ends[0], ends[1]


def _with_tau1(results: pd.DataFrame) -> pd.DataFrame:
    """Add whether the intervals of tau1 hold it."""
    found = {
        f"tau1_{name}": ((results[f"tau1_low_{name}"] <= TRUTH.tau1) & (results[f"tau1_high_{name}"] >= TRUTH.tau1))
        for name in METHODS
        if f"tau1_low_{name}" in results
    }
    return results.assign(**{name: value.astype(float) for name, value in found.items()})


def table(results: pd.DataFrame) -> str:
    """Coverage in per cent with standard errors over data sets, by number of tissues and method."""
    groups = _with_tau1(results).groupby("m")
    means, errors = groups.mean(), groups.sem()

    def percent(m: int, column: str) -> str:
        if column not in means:
            return "–"
        return f"{100 * means.loc[m, column]:.1f} ± {100 * errors.loc[m, column]:.1f}"

    rows = [
        [
            f"{m}, {shown}",
            *(percent(m, f"{key}_{name}") for key in WHICH),
            f"{100 * means.loc[m, f'claimed_{name}']:.1f}",
            f"{means.loc[m, f'width_{name}']:.3f}",
            percent(m, f"tau1_{name}"),
        ]
        for m in means.index
        for name, shown in METHODS.items()
    ]
    n, failed = int(groups.size().min()), int(results["failed"].sum())
    trouble = [f"{int((group['rhat'] > 1.05).sum())}" for _, group in groups]
    boundary = [f"{100 * share:.0f}" for share in means["boundary"]]
    return (
        f"Coverage of 95 % intervals in per cent, mean over {n} data sets a cell ± standard error over data sets:\n\n"
        + markdown(["m, method", *WHICH.values(), "all: claimed", "width", "τ₁"], rows)
        + "\n\nIntervals are equal-tailed, in a posterior with a point mass at 0. One that ends in it holds "
        'more: "claimed" is the posterior probability of the intervals by their own account, to which their coverage '
        "is to be compared. Inactive tissues' effects are covered nearly always, and active ones less: the data do not "
        "tell which tissues are active, so nobody promises 95 % there, and the true parameters' row is the mark. "
        "P(I=1) in the head is that at the true parameters. The fit lay on a boundary in "
        f"{' / '.join(boundary)} % of data sets for m = {' / '.join(map(str, means.index))}; PyMC's R-hat exceeded "
        f"1.05 in {' / '.join(trouble)} data sets, and {int(results['divergences'].sum())} of its "
        f"{len(results) * CHAINS * DRAWS:,} transitions diverged; {failed} bootstrap data sets could not be fitted."
    )


LOOKS = {
    "oracle": {"color": INK, "linestyle": ":", "marker": "D", "markerfacecolor": "white"},
    "naive": {"color": ORANGE, "linestyle": "--", "marker": "s"},
    "bootstrap": {"color": GREEN, "linestyle": "-.", "marker": "^"},
    "pymc": {"color": BLUE, "linestyle": "-", "marker": "o"},
}


@styled
def figure(results: pd.DataFrame) -> Figure:
    """Coverage against the number of tissues, for all effects and two groups of tissues, with 95 % error bars."""
    groups = results.groupby("m")
    means, errors = groups.mean(), 1.96 * groups.sem()
    drawing = new_figure(9.6, 3.6)
    panels = drawing.subplots(1, len(WHICH))
    for ax, (key, title) in zip(panels, WHICH.items(), strict=True):
        ax.axhline(100 * LEVEL, color=LINE, linewidth=0.8, zorder=0, label="95 %")
        for i, (name, look) in enumerate(LOOKS.items()):
            m = means.index * 1.05 ** (i - 1.5)  # beside each other
            y, spread = 100 * means[f"{key}_{name}"], 100 * errors[f"{key}_{name}"]
            ax.errorbar(m, y, spread, label=METHODS[name], linewidth=1.4, markersize=5, capsize=2, **look)
        ax.set(xscale="log", title=title, xlabel="tissues m")
        ax.set_xticks(means.index, [f"{m}" for m in means.index])
        ax.minorticks_off()
    panels[0].set_ylabel("coverage, %")
    outside(drawing, panels[0], len(LOOKS) + 1)
    return drawing


STUDY = Study("coverage", [{"m": m} for m in (10, 25, 50, 100)], 48, Whole(replicate), table, figure)
