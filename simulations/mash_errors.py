r"""What mash loses where its account of the errors is wrong: their correlation V, and cells that are missing.

In the study `simulations.mash` errors are independent between conditions; in an eQTL study the same donors are measured
in all, and their errors are not. Here the effects of two scenarios of `ebmodel.mash.simulation`, "shared, structured"
and "in one condition", have errors with correlation C: none, .5 or .8 between any two conditions, or .7^|r - s| ("AR").
Half of the effects are fitted, the other half, of the same kind, are scored.

No cell missing: ways to come by V. The last is V from "em" with covariances learned from the data; all fits, that one's
too, have canonical covariances.

================  =====================================================================================================
``true``          C
``identity``      none
``simple``        mashr's: correlation of the z-scores of rows whose every z is between -2 and 2
``truncated``     the same, corrected for what the choice of rows does
``pairwise``      the same, for any two conditions
``em``            by alternating with fits of the mixture
``em_learned``    the same, with data-driven covariances in the mixture besides canonical ones
================  =====================================================================================================

Some cells missing, C known:

==============  =======================================================================================================
``exact``       missing cells are integrated out
``convention``  mashr's: an estimate of 0 with a standard error of 10^6. An error of 0 standard errors says, through C,
                that the others are small: they pass for C_OO - C_Om C_mm^-1 C_mO, whatever the standard error
``prior``       the prior from the convention, the posterior and the score without
==============  =======================================================================================================

Of every method, over all effects in the conditions that are observed:

====================  =================================================================================================
``V_mean``            mean of V off the diagonal, and of the true one ``V_true``; ``V_error``, RMSE off the diagonal
``null``              weight of the point mass
``rmse``              root mean squared error of posterior means; ``rmse_missing`` in the conditions that are missing
``called``            effects with lfsr < .05, their ``wrong`` (no effect, or of the other sign) and the sum of their
                      lfsr, ``claimed``: wrong/called is at most claimed/called if the lfsr is calibrated
``heldout``           mean log-likelihood of fresh effects; the convention's is log p(b_hat_O | b_hat_m = 0), also a
                      density of what is observed
====================  =================================================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product

import numpy as np
import pandas as pd
import xarray as xr

import ebmodel.mash
from ebmodel.labels import EFFECT
from ebmodel.mash import MashFit
from ebmodel.mash.simulation import GTEX, scenario
from ebmodel.model import Array
from simulations.mash import SCENARIOS, mean_and_error, ratio_and_error, shown
from simulations.store import Cell
from simulations.study import Comparison, Study
from simulations.tables import Table

EFFECTS, SCALES, SHAT = 4000, (0.1, 0.2, 0.4), 0.1
"""Effects that are fitted, and as many that are scored; scales omega of those that are not null; standard errors."""
CALLED = 0.05
"""lfsr below which an effect is called."""
HUGE = 1e6
"""Standard error of a missing cell by mashr's convention."""
MISSING = 0.3
BEYOND = 3.0
"""Standard errors by which twice what is claimed has to be exceeded for the promise to be called broken."""
WORDS = {
    "true": "C", "identity": "identity", "simple": "simple (mashr)", "truncated": "truncated", "pairwise": "pairwise",
    "em": "EM", "em_learned": "EM, covariances learned",
}  # fmt: skip
WORDS_MISSING = {
    "exact": "integrated out", "convention": "0 ± 10⁶ (mashr)", "prior": "0 ± 10⁶ in the prior alone",
}  # fmt: skip


# What is compared ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Estimate:
    """What a method says of the effects, of their errors, and of fresh effects."""

    V: Array
    """(condition, condition) correlation of errors that it goes by."""
    null: float
    mean: Array
    """(effect, condition)"""
    lfsr: Array
    """(effect, condition)"""
    heldout: float
    """Mean log density of what is observed of a fresh effect."""


type Method = Callable[[xr.Dataset, np.random.SeedSequence], Estimate]


def correlation(cell: Cell) -> Array:
    """C, (condition, condition)."""
    R, rho = int(cell["conditions"]), float(cell["rho"])
    if cell["correlation"] == "ar":
        return np.asarray(rho ** np.abs(np.subtract.outer(np.arange(R), np.arange(R))))
    return np.asarray(rho + (1.0 - rho) * np.eye(R))


def tissues(conditions: int) -> list[str]:
    """So many of GTEx's, evenly spread."""
    return [GTEX[i] for i in np.linspace(0, len(GTEX) - 1, conditions).round().astype(int)]


def data(cell: Cell, stream: np.random.SeedSequence) -> xr.Dataset:
    """Effects to be fitted and, alternating with them, to be scored."""
    return scenario(
        str(cell["scenario"]), effects=2 * EFFECTS, share=float(cell["share"]), scales=SCALES, shat=SHAT,
        conditions=tissues(int(cell["conditions"])), V=correlation(cell), missing=float(cell["missing"]), seed=stream,
    )  # fmt: skip


def fitted(data: xr.Dataset) -> xr.Dataset:
    """The effects that are fitted; those that are not null come first, so that both halves have as many."""
    return data.isel({EFFECT: slice(None, None, 2)})


def fresh(data: xr.Dataset) -> xr.Dataset:
    """The effects that are scored."""
    return data.isel({EFFECT: slice(1, None, 2)})


def with_V(data: xr.Dataset, stream: np.random.SeedSequence, *, V: str) -> Estimate:  # noqa: ARG001
    """V the true one, or by the name that `ebmodel.mash.fit` has for it."""
    return _with(data, data["V"].to_numpy() if V == "true" else V)


def em_learned(data: xr.Dataset, stream: np.random.SeedSequence) -> Estimate:  # noqa: ARG001
    """V by EM with data-driven covariances, which are then left out again: methods differ in V alone."""
    some = fitted(data)
    return _with(data, ebmodel.mash.fit(some["bhat"], some["shat"], V="em", posterior=False).dataset["V"].to_numpy())


def _with(data: xr.Dataset, V: Array | str) -> Estimate:
    some, other = fitted(data), fresh(data)
    fit = ebmodel.mash.fit(some["bhat"], some["shat"], V=V, covariances="canonical")
    return _estimate(fit, fit.posterior, fit.score(other["bhat"], other["shat"]))


def convention(data: xr.Dataset, stream: np.random.SeedSequence) -> Estimate:  # noqa: ARG001
    """Missing cells as estimates of 0 with a huge standard error."""
    fit, other = _conventional(data), fresh(data)
    # p(b_O, b_m = 0) / p(b_m = 0), beside whose variance that of the effects is nothing
    score = fit.score(*filled(other)) - log_density_of_zeros(other)
    return _estimate(fit, fit.posterior, score)


def convention_prior(data: xr.Dataset, stream: np.random.SeedSequence) -> Estimate:  # noqa: ARG001
    """The prior that the convention leads to, applied to what is observed."""
    fit, some, other = _conventional(data), fitted(data), fresh(data)
    return _estimate(fit, fit.apply(some["bhat"], some["shat"]), fit.score(other["bhat"], other["shat"]))


def _conventional(data: xr.Dataset) -> MashFit:
    return ebmodel.mash.fit(*filled(fitted(data)), V=data["V"].to_numpy(), covariances="canonical")


def filled(data: xr.Dataset) -> tuple[xr.DataArray, xr.DataArray]:
    """bhat and shat by mashr's convention."""
    there = ~np.isnan(data["bhat"])
    return data["bhat"].where(there, 0.0), data["shat"].where(there, HUGE)


def log_density_of_zeros(data: xr.Dataset) -> float:
    """sum_j log N(0; 0, s^2 C_mm) over the missing cells m of every effect, s = 10^6."""
    C, total = data["V"].to_numpy(), 0.0
    for missing in np.isnan(data["bhat"].to_numpy()):
        logdet = np.linalg.slogdet(C[np.ix_(missing, missing)])[1]
        total -= 0.5 * logdet + missing.sum() * (np.log(HUGE) + 0.5 * np.log(2.0 * np.pi))
    return float(total)


def _estimate(fit: MashFit, posterior: xr.Dataset, score: float) -> Estimate:
    mean, lfsr = posterior["mean"].to_numpy(), posterior["lfsr"].to_numpy()
    return Estimate(fit.dataset["V"].to_numpy(), fit.null_weight, mean, lfsr, score / len(mean))


# How they are judged -------------------------------------------------------------------------------------------------


def account(estimate: Estimate, data: xr.Dataset) -> dict[str, float]:
    """V, the weight of the point mass, and what both are worth on fresh effects."""
    off = np.triu_indices(len(estimate.V), 1)
    V, C = estimate.V[off], data["V"].to_numpy()[off]
    return {
        "V_mean": float(V.mean()),
        "V_true": float(C.mean()),
        "V_error": float(np.sqrt(np.mean((V - C) ** 2))),
        "null": estimate.null,
        "heldout": estimate.heldout,
    }


def errors(estimate: Estimate, data: xr.Dataset) -> dict[str, float]:
    """RMSE where there is an estimate, and where there is none."""
    some = fitted(data)
    square, there = (estimate.mean - some["b"].to_numpy()) ** 2, ~np.isnan(some["bhat"].to_numpy())
    return {
        "rmse": float(np.sqrt(square[there].mean())),
        "rmse_missing": np.nan if there.all() else float(np.sqrt(square[~there].mean())),
    }


def calls(estimate: Estimate, data: xr.Dataset) -> dict[str, float]:
    """Observed effects called, how many of them wrongly, and by their own account."""
    some = fitted(data)
    b, there = some["b"].to_numpy(), ~np.isnan(some["bhat"].to_numpy())
    wrong = (b == 0.0) | (np.sign(estimate.mean) != np.sign(b))
    called = there & (estimate.lfsr < CALLED)
    return {
        "called": float(called.sum()),
        "wrong": float((called & wrong).sum()),
        "claimed": float(estimate.lfsr[called].sum()),
        "power": float((called & ~wrong).sum() / (there & (b != 0.0)).sum()),
    }


# What is shown -------------------------------------------------------------------------------------------------------

KEYS = ("scenario", "correlation", "rho", "share", "missing", "conditions")
CORRELATIONS = {"none": "independent errors", "equal": "errors correlate by {rho:g}", "ar": "AR({rho:g}) errors"}


def _cells(results: pd.DataFrame, *, missing: bool) -> Iterator[tuple[str, bool, pd.DataFrame]]:
    """Of every cell with missing values, or without, what it is called, whether errors correlate, and its results."""
    for cell in CELLS:
        group = results[(results[list(KEYS)] == [cell[key] for key in KEYS]).all(axis=1)]
        if (float(cell["missing"]) > 0.0) == missing and len(group):
            errors = CORRELATIONS[str(cell["correlation"])].format(rho=float(cell["rho"]))
            words = [SCENARIOS[str(cell["scenario"])], f"{100 * float(cell['share']):g} %", errors]
            if not missing:
                words.append(f"{cell['conditions']} conditions")
            yield ", ".join(words), cell["correlation"] != "none", group


def _wrong(group: pd.DataFrame, part: str) -> tuple[float, float]:
    """Share of wrong ones among the effects called, and its standard error."""
    return ratio_and_error(group[f"wrong_{part}"], group[f"called_{part}"])


def _claimed(group: pd.DataFrame, part: str) -> float:
    return ratio_and_error(group[f"claimed_{part}"], group[f"called_{part}"])[0]


def _promise(group: pd.DataFrame, part: str) -> str:
    return f"{shown(*_wrong(group, part))} ({_claimed(group, part):.3f})"


def _broken(group: pd.DataFrame, part: str) -> bool:
    """Whether more than twice as many effects called are wrong as is claimed, beyond chance."""
    wrong, claimed, called = (group[f"{kind}_{part}"] for kind in ("wrong", "claimed", "called"))
    excess, error = ratio_and_error(wrong - 2.0 * claimed, called)
    return excess > BEYOND * error


def _lost(group: pd.DataFrame, part: str) -> pd.Series:
    """Held-out log-likelihood of an effect below that of the right account, data set by data set."""
    right = "heldout_exact" if part in WORDS_MISSING else "heldout_true"
    return group[right] - group[f"heldout_{part}"]


def correlation_table(results: pd.DataFrame) -> Table:
    """Wrong ones among the effects called, one row a cell."""
    rows = []
    for name, _, group in _cells(results, missing=False):
        rows.append([name, f"{group['called_true'].mean():.0f}", *(_promise(group, part) for part in WORDS)])
    caption = (
        f"Share of wrong ones among effects with lfsr < {CALLED:g}, ± SE over {_replications(results)} data sets (in "
        f"brackets what the lfsr claims), by what the fit takes for V, C being the truth; {EFFECTS} rows of effects, "
        "the share given not null."
    )
    header = ["", "called with V = C", *(f"V: {word}" for word in WORDS.values())]
    return Table("mash_errors", caption, header, rows)


def missing_table(results: pd.DataFrame) -> Table:
    """Missing cells, one row a cell."""
    rows = []
    for name, _, group in _cells(results, missing=True):
        rmse = (shown(*mean_and_error(group[f"rmse_{part}"]), ".4f") for part in WORDS_MISSING)
        rows.append([name, *rmse, *(_promise(group, part) for part in WORDS_MISSING)])
    R = next(int(cell["conditions"]) for cell in CELLS if float(cell["missing"]) > 0.0)
    words = WORDS_MISSING.values()
    header = ["", *(f"RMSE, {word}" for word in words), *(f"wrong, {word}" for word in words)]
    caption = (
        f"{100 * MISSING:g} % of the cells missing, {R} conditions, V known: RMSE in observed cells, and wrong ones "
        f"among those with lfsr < {CALLED:g} (claimed); ± SE."
    )
    return Table("mash_errors_missing", caption, header, rows)


MEASURES: Sequence[tuple[str, str, str]] = (
    ("V_mean", "mean correlation in V", ".3f"),
    ("V_error", "RMSE of V", ".3f"),
    ("null", "null weight", ".3f"),
    ("called", "effects called", ".0f"),
    ("power", "called with the right sign", ".3f"),
    ("rmse", "RMSE", ".4f"),
    ("rmse_missing", "RMSE of missing cells", ".4f"),
)


def long_table(results: pd.DataFrame, words: dict[str, str], name: str, *, missing: bool) -> Table:
    """Everything else, a row for every cell and measure."""
    rows = []
    for cell, _, group in _cells(results, missing=missing):
        for metric, word, form in MEASURES:
            if f"{metric}_{next(iter(words))}" in group:
                values = [shown(*mean_and_error(group[f"{metric}_{part}"]), form) for part in words]
                rows.append([f"{cell}: {word}", *values])
        lost = [shown(*mean_and_error(_lost(group, part)), "z.3f") for part in words]
        rows.append([f"{cell}: log-likelihood lost per fresh effect", *lost])
    caption = f"Means over {_replications(results)} data sets of {EFFECTS} effects, ± SE."
    return Table(name, caption, ["", *words.values()], rows)


def _replications(results: pd.DataFrame) -> int:
    return int(results.groupby(list(KEYS)).size().min())


def finding(results: pd.DataFrame) -> str:
    """What each V does where errors correlate and where not, and what the convention for missing cells does."""
    cells, gaps = list(_cells(results, missing=False)), list(_cells(results, missing=True))
    lines = []
    related, alone = ([group for _, correlates, group in cells if correlates == holds] for holds in (True, False))
    if related:
        lines.append(f"- Where errors correlate ({len(related)} rows), {_of_V(related)}.")
    if alone:
        said = _by_V(lambda part: f"{_times_broken(alone, part)}, {_range_lost(alone, part)}")
        lines.append(f"- Where they are independent ({len(alone)} rows), such rows, and what is lost: {said}.")
    for holds, where in ((True, "correlate"), (False, "are independent")):
        groups = [group for _, correlates, group in gaps if correlates == holds]
        if groups:
            lines.append(_of_missing(groups, where))
    return "\n".join(lines)


def _of_V(groups: Sequence[pd.DataFrame]) -> str:
    """Wrong calls by V, how often they are too many, and how well it goes with fresh effects."""
    wrong = _by_V(lambda part: _range([_wrong(group, part)[0] for group in groups]))
    broken = _by_V(lambda part: str(_times_broken(groups, part)))
    off = _by_V(lambda part: _range([float(group[f"V_error_{part}"].mean()) for group in groups], "z.2f"))
    lost = _by_V(lambda part: _range_lost(groups, part))
    return (
        f"wrong ones among lfsr < {CALLED:g}, by V: {wrong}. Rows in which they are more than twice what is claimed, "
        f"by {BEYOND:g} SE: {broken}. RMSE of V: {off}. Held-out log-likelihood lost per effect: {lost}"
    )


def _by_V(said: Callable[[str], str]) -> str:
    return "; ".join(f"{word} {said(part)}" for part, word in WORDS.items())


def _times_broken(groups: Sequence[pd.DataFrame], part: str) -> int:
    return sum(_broken(group, part) for group in groups)


def _range_lost(groups: Sequence[pd.DataFrame], part: str) -> str:
    return _range([float(_lost(group, part).mean()) for group in groups], "z.2f")


def _of_missing(groups: Sequence[pd.DataFrame], word: str) -> str:
    """The convention against exact marginalisation."""
    ratio = _range([float((group["rmse_convention"] / group["rmse_exact"]).mean()) for group in groups], ".2f")
    wrong = {part: _range([_wrong(group, part)[0] for group in groups]) for part in WORDS_MISSING}
    claimed = _range([_claimed(group, "convention") for group in groups])
    lost = _range_lost(groups, "convention")
    return (
        f"- Missing cells as 0 ± 10⁶, where errors {word}: RMSE in observed cells {ratio} times that of integrating "
        f"them out; wrong among lfsr < {CALLED:g} {wrong['convention']} where {claimed} is claimed, against "
        f"{wrong['exact']}; with the posterior alone put right {wrong['prior']}. Held-out "
        f"log-likelihood lost per effect: {lost}."
    )


def _range(values: Sequence[float], form: str = ".3f") -> str:
    """From the least to the most, or the one if they look the same."""
    known = [value for value in values if np.isfinite(value)]
    if not known:
        return "–"
    least, most = f"{min(known):{form}}", f"{max(known):{form}}"
    return least if least == most else f"{least} to {most}"


def table(results: pd.DataFrame) -> str:
    """The README's part."""
    parts = [correlation_table(results).markdown(), missing_table(results).markdown(), finding(results)]
    return "\n\n".join(parts)


def tables(results: pd.DataFrame) -> list[Table]:
    """All of them."""
    return [
        correlation_table(results),
        missing_table(results),
        long_table(results, WORDS, "mash_errors_correlation_all", missing=False),
        long_table(results, WORDS_MISSING, "mash_errors_missing_all", missing=True),
    ]


def _cell(name: str, errors: tuple[str, float], share: float, missing: float = 0.0, conditions: int = 20) -> Cell:
    return dict(zip(KEYS, (name, *errors, share, missing, conditions), strict=True))


NONE, HALF, HIGH, AR = ("none", 0.0), ("equal", 0.5), ("equal", 0.8), ("ar", 0.7)
SHARES = (0.05, 0.4)
CELLS: list[Cell] = [
    *(_cell(*which) for which in product(("structured", "specific"), (NONE, HALF, AR), SHARES)),
    *(_cell(name, HALF, SHARES[0], conditions=len(GTEX)) for name in ("structured", "specific")),
    *(_cell("structured", errors, share, MISSING) for errors, share in product((NONE, HALF, HIGH), SHARES)),
]


def complete(cell: Cell, replication: int) -> bool:  # noqa: ARG001
    """Where no cell is missing."""
    return float(cell["missing"]) == 0.0


def incomplete(cell: Cell, replication: int) -> bool:
    """Where some are."""
    return not complete(cell, replication)


_OF_V: dict[str, Method] = {
    **{V: partial(with_V, V=V) for V in WORDS if V != "em_learned"},
    "em_learned": em_learned,
}
_OF_MISSING: dict[str, Method] = {
    "exact": partial(with_V, V="true"),
    "convention": convention,
    "prior": convention_prior,
}
STUDY = Study(
    "mash_errors",
    CELLS,
    5,
    Comparison(
        data,
        {**_OF_V, **_OF_MISSING},
        {"account": account, "errors": errors, "calls": calls},
        {**dict.fromkeys(_OF_V, complete), **dict.fromkeys(_OF_MISSING, incomplete)},
    ),
    table,
    tables=tables,
)
