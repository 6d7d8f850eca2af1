"""False discovery rates: what the probabilities promise of a set of tissues, and what comes of it.

The tissues called active at level q are the most with the largest P(I(t)=1 | Y) among which the mean of 1 - P is at
most q (Newton et al. 2004; Mueller et al. 2004). That mean is the share of false calls to be expected given Y:

    E(FDP | Y) = (1/|C|) sum_{t in C} (1 - P(I(t)=1 | Y)),      0 for no calls

so realised less expected shares average 0 over data sets if the probabilities are calibrated, whatever q.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ebmodel.calibration.pooled import LEAST, claimed, in_range, probabilities
from ebmodel.errors import expect
from ebmodel.labels import LEVEL, TISSUE
from ebmodel.model import Array

__all__ = ["bayesian_fdr", "false_discovery"]

LEVELS = (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5)


def bayesian_fdr(probability: Any, level: float = 0.05) -> xr.Dataset:
    """Call tissues active at a false discovery rate, by the probabilities' own account; no truth is needed.

    Parameters
    ----------
    probability
        A fit, or P(I(t)=1 | Y) (tissue,).
    level
        The false discovery rate wanted.

    Returns
    -------
    Dataset
        By tissue: ``probability``; ``q_value``, the mean of 1 - P over this tissue and those with P as large, the least
        level at which it is called; ``called``. Attributes: ``level``, and ``expected``, the share of false calls to be
        expected.

    Raises
    ------
    InputError
        If a probability is missing or outside [0, 1], or ``level`` is not inside (0, 1).

    Examples
    --------
    >>> bayesian_fdr([0.99, 0.5, 0.97, 0.0], level=0.05).called.values
    array([ True, False,  True, False])
    """
    expect(0.0 < level < 1.0, "0 < level < 1", level, "level", "give a rate such as 0.05")
    named = claimed(probability, lambda fit: fit.posterior_probability, "probability").astype(float)
    in_range(named.to_numpy())
    q = _q_values(named.to_numpy())
    called = q <= level
    coords = {TISSUE: named[TISSUE].to_numpy()} if TISSUE in named.coords else {}
    variables = {"probability": named.to_numpy(), "q_value": q, "called": called}
    about = {"level": level, "expected": float(q[called].max(initial=0.0))}
    return xr.Dataset({name: (TISSUE, value) for name, value in variables.items()}, coords, about)


def false_discovery(probability: Any, active: Any, levels: Sequence[float] = LEVELS) -> xr.Dataset:
    """Nominal, expected and realised false discovery rates when tissues are called in each data set.

    Parameters
    ----------
    probability, active
        As in `ebmodel.calibration.reliability`.
    levels
        Nominal rates.

    Returns
    -------
    Dataset
        By level, means over data sets, each with ``*_se``: ``expected`` share of false calls by the probabilities' own
        account, which is below ``level`` as tissues come whole; ``realised`` share; their difference ``excess``, 0 if
        calibrated; ``power``, the share of active tissues called, over data sets that have any; ``called``, how many.
        Attributes: ``tissues``, ``replicates`` (data sets).

    Raises
    ------
    InputError
        If a probability is missing or outside [0, 1], truths do not match, or a level is not inside (0, 1).
    """
    chosen = np.asarray(levels, dtype=float)
    inside = chosen.ndim == 1 and chosen.size > 0 and bool(np.all((chosen > 0.0) & (chosen < 1.0)))
    expect(inside, "rates inside (0, 1)", levels, "levels", "leave the default")
    pooled = probabilities(probability, active)
    rows = []
    for data in range(pooled.replicates):
        mine = pooled.replicate == data
        rows.append(_calls(pooled.claim[mine], pooled.active[mine], chosen))
    tables = np.array(rows)  # (replicate, quantity, level)
    variables: dict[str, Any] = {}
    for k, name in enumerate(("expected", "realised", "excess", "power", "called")):
        values = tables[:, k]
        known = ~np.isnan(values[:, 0])
        variables[name] = LEVEL, _mean(values[known])
        variables[f"{name}_se"] = LEVEL, _error_of_mean(values[known])
    about = {"tissues": len(pooled.claim), "replicates": pooled.replicates}
    return xr.Dataset(variables, {LEVEL: chosen}, about)


def _q_values(probability: Array) -> Array:
    """Mean of 1 - P over tissues with P at least as large, (tissue,)."""
    distinct, where, count = np.unique(-probability, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(count * (1.0 + distinct)) / np.cumsum(count))[where])


def _calls(probability: Array, active: NDArray[np.bool_], levels: Array) -> Array:
    """Expected, realised, excess, power and number of calls in one data set, (quantity, level)."""
    called = _q_values(probability) <= levels[:, None]  # (level, tissue)
    calls = called.sum(axis=1)
    expected = (called * (1.0 - probability)).sum(axis=1) / np.maximum(calls, 1)
    realised = (called & ~active).sum(axis=1) / np.maximum(calls, 1)
    power = (called & active).sum(axis=1) / active.sum() if active.any() else np.full(len(levels), np.nan)
    return np.array([expected, realised, realised - expected, power, calls])


def _mean(values: Array) -> Array:
    return values.mean(axis=0) if len(values) else np.full(values.shape[1], np.nan)


def _error_of_mean(values: Array) -> Array:
    if len(values) < LEAST:
        return np.full(values.shape[1], np.nan)
    return np.asarray(values.std(axis=0, ddof=1) / np.sqrt(len(values)))
