"""The tables and figures of a fit: what was learned, what is significant, and what conditions share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr

from ebmodel.errors import expect, listed
from ebmodel.files import write_figure, write_table
from ebmodel.labels import CONDITION, COVARIANCE, EFFECT, SCALE
from ebmodel.mash.results import MashFit
from ebmodel.mash.sharing import condition_specific, n_significant, number_shared, pairwise_sharing, significant

__all__ = ["Findings", "examples", "find", "write_report"]

EXAMPLES = 6
"""Effects whose shrinkage is drawn."""
CELLS = ("mean", "sd", "lfsr", "lfdr")
LEAST = 1e-6
"""Weight below which a component is no row of the table."""


class Findings(NamedTuple):
    """What a posterior says of sharing."""

    level: float
    significant: int
    """Effects whose sign is known in at least one condition."""
    by_condition: xr.DataArray
    """(condition,) effects whose sign is known there."""
    magnitude: xr.DataArray
    """(condition, condition_other) pairwise sharing within the factor."""
    sign: xr.DataArray
    """(condition, condition_other) pairwise sharing by sign."""
    shared: xr.DataArray
    """(effect,) in how many conditions significant effects are within the factor of their strongest."""
    signed: xr.DataArray
    """(effect,) in how many they have the sign of their strongest."""
    specific: xr.Dataset | None
    """Effects that are large in one condition alone; None with one condition."""


def find(posterior: xr.Dataset, level: float = 0.05, factor: float = 0.5) -> Findings:
    """Everything of `ebmodel.mash.sharing` at one level.

    Parameters
    ----------
    posterior
        As `MashFit.posterior` or `MashFit.apply` gives it.
    level
        Local false sign rate below which an effect is significant in a condition.
    factor
        Effects within which of each other are shared by magnitude.

    Raises
    ------
    InputError
        If a level or factor cannot be used.
    """
    several = posterior.sizes[CONDITION] > 1
    return Findings(
        level,
        significant(posterior, level).size,
        n_significant(posterior, level, by="condition"),
        pairwise_sharing(posterior, factor, level),
        pairwise_sharing(posterior, 0.0, level),
        number_shared(posterior, factor, level),
        number_shared(posterior, 0.0, level),
        condition_specific(posterior, factor, level) if several else None,
    )


def examples(posterior: xr.Dataset, level: float = 0.05, count: int = EXAMPLES) -> list[str]:
    """Effects that show what mash does: shared by all, in part, and by few; strongest of each kind first.

    Parameters
    ----------
    posterior, level
        As in `find`.
    count
        How many, at most.
    """
    shared = number_shared(posterior, 0.5, level)
    if shared.size == 0:
        return []
    strength = abs(posterior["bhat"] / posterior["shat"]).max(CONDITION).sel({EFFECT: shared[EFFECT]})
    table = pd.DataFrame(
        {"shared": shared.to_numpy(), "strength": strength.to_numpy()}, index=shared[EFFECT].to_numpy()
    )
    wanted = np.linspace(table["shared"].max(), 1.0, min(count, len(table)))
    chosen: list[str] = []
    for target in wanted:
        rest = table.drop(index=chosen)
        near = rest.assign(far=(rest["shared"] - target).abs()).sort_values(
            ["far", "strength"], ascending=[True, False]
        )
        chosen.append(str(near.index[0]))
    return chosen


def write_report(
    fit: MashFit,
    folder: Path,
    posterior: xr.Dataset | None = None,
    *,
    level: float = 0.05,
    factor: float = 0.5,
    effects: Sequence[str] = (),
    figures: bool = True,
) -> tuple[Findings, list[Path]]:
    """Write tables and figures.

    Parameters
    ----------
    fit
        The prior, and the posterior of its own effects unless ``posterior`` is given.
    folder
        Where: tables go there, figures to ``figures`` within it.
    posterior
        Of other effects, from `MashFit.apply`.
    level, factor
        As in `find`.
    effects
        Those to draw; a few that differ in sharing if none is named.
    figures
        Whether to draw.

    Returns
    -------
    Findings, list
        What was found, and the files.

    Raises
    ------
    InputError
        If a file cannot be written, or an effect is unknown.
    """
    results = fit.posterior if posterior is None else posterior
    unknown = [name for name in effects if name not in results.indexes[EFFECT]]
    expect(not unknown, "effects of the posterior", listed(unknown), "effects", "check the names")
    found = find(results, level, factor)
    pictures = folder / "figures"
    expect(not figures or pictures.is_dir() or not pictures.exists(), "a folder that can be made", "a file",
           str(pictures), "move it")  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    files = [write_table(folder / name, table, index=index) for name, table, index in _tables(fit, results, found)]
    if figures:
        pictures.mkdir(exist_ok=True)
        shown = list(effects) or examples(results, level)
        files += [write_figure(folder / "figures" / f"{name}.png", draw())
                  for name, draw in _figures(fit, results, found, factor, shown)]  # fmt: skip
    return found, files


def _tables(fit: MashFit, results: xr.Dataset, found: Findings) -> Iterator[tuple[str, pd.DataFrame, bool]]:
    weights = fit.weights.to_series().rename("weight").reset_index()
    weights = weights[weights["weight"] >= LEAST].sort_values("weight", ascending=False)
    null = pd.DataFrame({COVARIANCE: ["null"], SCALE: [0.0], "weight": [fit.null_weight]})
    yield "weights.tsv", pd.concat([null, weights], ignore_index=True), False
    for name in CELLS:
        yield f"{name}.tsv.gz", _frame(results[name].transpose(EFFECT, CONDITION)), True
    yield "effects.tsv.gz", _by_effect(results, found), False
    yield "sharing_magnitude.tsv", _frame(found.magnitude), True
    yield "sharing_sign.tsv", _frame(found.sign), True
    if found.specific is not None:
        names = ["specific_to", "mean", "lfsr", "next_largest"]
        yield "specific.tsv", found.specific[names].to_dataframe().reset_index(), False


def _frame(values: xr.DataArray) -> pd.DataFrame:
    rows, columns = (values[dim].to_numpy() for dim in values.dims)
    return pd.DataFrame(values.to_numpy(), pd.Index(rows, name=str(values.dims[0])), columns)


def _by_effect(results: xr.Dataset, found: Findings) -> pd.DataFrame:
    """One row an effect: its evidence and how far it is shared; empty where it is not significant."""
    table: pd.DataFrame = results[["loglik", "log10_bf"]].to_dataframe()
    table["min_lfsr"] = results["lfsr"].min(CONDITION).to_numpy()
    table["n_significant"] = (results["lfsr"] < found.level).sum(CONDITION).to_numpy()
    table["shared_magnitude"] = found.shared.to_series().reindex(table.index).astype("Int64")
    table["shared_sign"] = found.signed.to_series().reindex(table.index).astype("Int64")
    return table.reset_index()


def _figures(
    fit: MashFit, results: xr.Dataset, found: Findings, factor: float, shown: Sequence[str]
) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Names and makers of the figures that these results allow: Figures 3-6 of Urbut et al., and the weights."""
    from ebmodel.plot import mash

    units = "effect in standard errors" if bool((results["shat"] == 1.0).all()) else "effect"
    yield "weights", partial(mash.weights_figure, fit)
    if results.sizes[CONDITION] > 1:
        yield "patterns", partial(mash.covariance_patterns, fit)
    for k, name in enumerate(shown, start=1):
        yield f"effect_{k}", partial(mash.shrinkage, results, name, found.level, units=units)
    if found.significant and results.sizes[CONDITION] > 1:
        yield "shared", partial(mash.shared_conditions, results, factor, found.level)
        yield "sharing", partial(mash.sharing_heatmap, results, factor, found.level)
