"""Ranks and probability integral transforms, uniform on (0, 1) if calibrated: their test, and the machinery of SBC.

Simulation-based calibration (Talts et al. 2018; Modrak et al. 2023): truth from the prior, data given the truth, draws
given the data. The rank of the truth among the draws is then uniform, for every function of truth and data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from arviz_stats import ecdf_utils
from arviz_stats.base.array import array_stats

from ebmodel.errors import InputError, expect
from ebmodel.labels import POINT, QUANTITY, REPLICATE
from ebmodel.model import Array
from ebmodel.parallel import spread

__all__ = ["Uniformity", "band", "ecdf", "gap", "rank", "sbc", "strays", "uniformity"]

SIMULATIONS = 2000
"""From which a band is found."""
STATS: Any = array_stats
ECDF_PIT: Any = ecdf_utils.ecdf_pit
"""Of ArviZ, which has no types."""

ROUNDING = 1e-12
"""Relative difference of numbers that are the same."""

type Quantity = Callable[[xr.Dataset, xr.Dataset], Any]
"""(values, data) -> number: of the truth, or of draws, whose chain and draw it keeps."""


class Uniformity(NamedTuple):
    """Whether numbers look uniform on (0, 1)."""

    p_value: float
    """Of the pointwise order test with Cauchy combination (ArviZ's ``pot_c``); it allows for dependence."""
    inside: bool
    """Whether their ECDF stays within the simultaneous band of independent uniform numbers."""
    gap: float
    """The largest distance of their ECDF from the diagonal."""


def uniformity(values: Array, level: float = 0.95) -> Uniformity:
    """Test numbers for uniformity; nan is left out.

    Parameters
    ----------
    values : (n,)
        In [0, 1]; other shapes are taken as one list.
    level
        Of the simultaneous band for the ECDF.

    Returns
    -------
    Uniformity
        The p-value, whether the ECDF stays inside the band, and its largest distance from the diagonal.

    Raises
    ------
    InputError
        If fewer than two numbers are left, one is outside [0, 1], or ``level`` is not inside (0, 1).
    """
    values = np.asarray(values, dtype=float).ravel()
    values = values[~np.isnan(values)]
    expect(0.0 < level < 1.0, "0 < level < 1", level, "level", "give a probability such as 0.95")
    expect(len(values) >= 2, "at least two numbers", len(values), "uniformity", "give more")
    expect(bool(np.all((values >= 0.0) & (values <= 1.0))), "numbers in [0, 1]", "others", "uniformity", "give ranks")
    p_value = float(STATS.uniformity_test(values)[0])
    return Uniformity(p_value, not strays(values, level), gap(values))


def rank(truth: float, draws: Array, rng: np.random.Generator) -> float:
    """Rank the truth among draws, ties and the step itself broken at random.

    Parameters
    ----------
    truth
        What was drawn from the prior.
    draws : (draw,)
        From the posterior given data that were drawn at the truth; independent.
    rng
        Breaks the ties.

    Returns
    -------
    float
        The share of draws below the truth: uniform on (0, 1) if calibrated.
    """
    tied = np.abs(draws - truth) <= ROUNDING * np.abs(truth)  # a spike makes ties, which sums round differently
    below, ties = np.sum((draws < truth) & ~tied), np.sum(tied)
    return float((below + rng.random() * (ties + 1)) / (len(draws) + 1))


@lru_cache
def band(size: int, level: float) -> tuple[Array, Array, Array]:
    """Give a simultaneous band for the ECDF of uniform numbers (Sailynoja et al. 2022).

    Parameters
    ----------
    size
        How many numbers.
    level
        Probability that their ECDF stays within the band everywhere.

    Returns
    -------
    tuple of ndarray
        Points, and the lower and the upper end of the band there, each (point,).
    """
    points, _, lower, upper = ECDF_PIT(np.linspace(0.0, 1.0, size), level, SIMULATIONS, rng=np.random.default_rng(1))
    return points, lower, upper


def strays(values: Array, level: float) -> bool:
    """Say whether the ECDF leaves its simultaneous band anywhere.

    Parameters
    ----------
    values : (n,)
        In [0, 1], none of them nan.
    level
        Of the band.

    Returns
    -------
    bool
        True with probability 1 - ``level`` if they are independent and uniform.
    """
    points, lower, upper = band(len(values), level)
    height = ecdf(values, points)
    inside = (height >= lower - 1e-12) & (height <= upper + 1e-12)
    return not bool(inside[1:-1].all())


def ecdf(values: Array, points: Array) -> Array:
    """Share of values (n,) at or below each of the points (point,), of whose shape it is."""
    return np.searchsorted(np.sort(values), points, side="right") / len(values)


def gap(values: Array) -> float:
    """Give the largest distance between the ECDF and the diagonal, on either side of its steps.

    Parameters
    ----------
    values : (n,)
        In [0, 1], none of them nan.

    Returns
    -------
    float
        Kolmogorov's distance, between 0 and 1.
    """
    ordered = np.sort(values)
    steps = np.arange(len(ordered) + 1) / len(ordered)
    return float(max(np.max(np.abs(steps[1:] - ordered)), np.max(np.abs(steps[:-1] - ordered))))


def sbc(
    generate: Callable[[np.random.SeedSequence], xr.Dataset],
    infer: Callable[[xr.Dataset, np.random.SeedSequence], xr.Dataset | xr.DataTree],
    quantities: Mapping[str, Quantity],
    replicates: int = 200,
    seed: int = 0,
    jobs: int = 1,
    level: float = 0.95,
    progress: bool = True,
) -> xr.Dataset:
    """Rank the truth among draws given data, for data set after data set.

    Parameters
    ----------
    generate
        ``(stream) -> data`` with its truth, drawn from what ``infer`` takes for the prior.
    infer
        ``(data, stream) -> draws``: a Dataset with chain and draw, or a DataTree with ``posterior``. Draws should be
        independent: thin those of a chain, or ranks crowd at the ends.
    quantities
        Name -> function of ``(values, data)``, called with the truth, ``(data, data)``, for a number, and with the
        draws, ``(draws, data)``, for one of each draw. Functions of the data as well, such as the log-likelihood, see
        what functions of the truth alone miss.
    replicates
        Data sets.
    seed
        Of the random numbers: the same seed gives the same ranks, whatever ``jobs``; more replicates add to fewer.
    jobs
        Worker processes; -1 for all cores.
    level
        Chance that all quantities stay within their bands if calibrated, each having its share (Bonferroni).
    progress
        Whether to show a progress bar.

    Returns
    -------
    Dataset
        ``rank`` (replicate, quantity), nan where inference failed; ``p_value``, ``inside`` and ``gap`` (quantity), as
        in `uniformity`. Attributes: ``failed``, how many data sets could not be used, and ``failure``, why the first
        could not; ``level`` and ``level_each``.

    Raises
    ------
    InputError
        If there are fewer than two replicates or no quantities, or inference fails on all but one.
    """
    expect(replicates >= 2, "at least 2", replicates, "replicates", "leave the default")
    expect(len(quantities) > 0, "at least one", "none", "quantities", "give functions by name")
    tasks = [(generate, infer, quantities, stream) for stream in np.random.SeedSequence(seed).spawn(replicates)]
    found = list(spread(_rank_all, tasks, jobs=jobs, title="sbc", progress=progress))
    failures = [failure for _, failure in found if failure]
    expect(replicates - len(failures) >= 2, "data sets that can be used", f"({failures[:1]})", "sbc", "see why")
    ranks, level_each = np.array([row for row, _ in found]), 1.0 - (1.0 - level) / len(quantities)
    judged = [uniformity(column, level_each) for column in ranks.T]
    variables: dict[str, Any] = {"rank": ((REPLICATE, QUANTITY), ranks)}
    variables |= {name: (QUANTITY, [getattr(one, name) for one in judged]) for name in Uniformity._fields}
    about = {"seed": seed, "level": level, "level_each": level_each, "failed": len(failures)}
    return xr.Dataset(variables, {QUANTITY: list(quantities)}, about | {"failure": "".join(failures[:1])})


def _rank_all(
    generate: Any, infer: Any, quantities: Mapping[str, Quantity], stream: np.random.SeedSequence
) -> tuple[list[float], str]:
    """Ranks of every quantity on one data set, and why there are none; runs in a worker."""
    of_data, of_draws, of_ties = stream.spawn(3)
    data, rng = generate(of_data), np.random.default_rng(of_ties)
    try:
        draws = infer(data, of_draws)
    except InputError as error:
        return [np.nan] * len(quantities), str(error)
    draws = draws["posterior"].to_dataset() if isinstance(draws, xr.DataTree) else draws
    return [rank(float(f(data, data)), np.ravel(f(draws, data)), rng) for f in quantities.values()], ""


def difference(values: Array, level: float) -> xr.Dataset:
    """Give the ECDF less the diagonal, with its band: what is drawn of ranks and PITs.

    Parameters
    ----------
    values : (n,)
        In [0, 1]; nan is left out.
    level
        Of the simultaneous band.

    Returns
    -------
    Dataset
        ``point``, ``ecdf``, ``lower`` and ``upper``, (point), the last three less the diagonal.
    """
    values = values[~np.isnan(values)]
    points, lower, upper = band(len(values), level)
    curves = {"point": points, "ecdf": ecdf(values, points) - points, "lower": lower - points, "upper": upper - points}
    return xr.Dataset({name: (POINT, curve) for name, curve in curves.items()}, attrs={"level": level})
