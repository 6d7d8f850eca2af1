"""Reliability of P(I(t)=1 | Y): of the tissues given probability h, is a share h active?

With n_k tissues in bin k, mean probability h_k and share of active tissues o_k, and o the share over all bins, Brier's
score is, exactly (Murphy 1973; the second term, of probabilities that vary within a bin, after Stephenson et al. 2008),

    (1/N) sum (h - I)^2  =  sum n_k/N (h_k - o_k)^2  +  within  -  sum n_k/N (o_k - o)^2  +  o (1 - o)
                               reliability                            resolution              uncertainty

    within = (1/N) sum (h - h_k)^2  -  (2/N) sum (h - h_k)(I - o_k)

Bins are fixed, or the blocks of the isotonic regression of I on h: reliability + within and resolution are then the
miscalibration and discrimination of Dimitriadis, Gneiting & Jordan (2021, PNAS 118, e2016191118).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression
from scipy.special import ndtri

from ebmodel.calibration.pooled import LEAST, Pooled, probabilities
from ebmodel.errors import InputError, expect
from ebmodel.labels import BIN
from ebmodel.model import Array

__all__ = ["ISOTONIC", "reliability", "wilson"]

ISOTONIC = "isotonic"
"""The word for bins found by isotonic regression."""
SCORES = ("brier", "reliability", "within_bins", "resolution", "uncertainty", "calibration_error")


def reliability(
    probability: Any,
    active: Any,
    bins: int | Sequence[float] | str = 10,
    level: float = 0.95,
    draws: int = 500,
    seed: int = 0,
) -> xr.Dataset:
    """Reliability curve of P(I(t)=1 | Y), Brier's score and its parts, and what both would be under calibration.

    Parameters
    ----------
    probability
        A fit, or P(I(t)=1 | Y) (tissue,); or many of either, as a list or the rows of a matrix, one for each data set.
    active
        The truth of each: a simulated Dataset, or I(t) (tissue,).
    bins
        Number of bins of equal width, their edges from 0 to 1, or ``"isotonic"``: the blocks of isotonic regression.
    level
        Of the intervals.
    draws
        Sets of I(t) drawn as independent Bernoulli(P(I(t)=1 | Y)), for what is expected under calibration.
    seed
        Of these draws.

    Returns
    -------
    Dataset
        By bin: ``left`` and ``right``, its edges (isotonic: the least and largest probability); ``count``;
        ``predicted``, the mean probability; ``observed``, the share of active tissues, its ``standard_error`` by data
        set, and Wilson interval ``lower`` to ``upper``, of the effective number of tissues that this error implies;
        ``expected_lower`` and ``expected_upper``, where ``observed`` lies with probability ``level`` if calibrated.
        ``brier`` = ``reliability`` + ``within_bins`` - ``resolution`` + ``uncertainty``; ``calibration_error``, the
        mean of |observed - predicted| over tissues; each with ``*_se``, by data set (jackknife; isotonic: blocks held).
        ``calibration_error_expected`` under calibration, where it is not 0 either, and ``p_value``: the chance of one
        as large. Attributes: ``tissues``, ``replicates`` (data sets).

    Raises
    ------
    InputError
        If a probability is missing or outside [0, 1], truths do not match, or an argument is out of range.

    Notes
    -----
    Standard errors and intervals hold for tissues that depend on each other within a data set, and need several of
    these: with one they are nan, and Wilson's interval takes tissues for independent. What is expected under
    calibration takes I(t) for independent given the probabilities, as they are at known parameters.

    Examples
    --------
    >>> import ebmodel
    >>> genes = [ebmodel.simulate.setting(1, signal=1, sigma=4, m=20, p=3, seed=i) for i in range(5)]
    >>> exact = [ebmodel.simulate.exact_posterior(gene) for gene in genes]
    >>> curve = reliability(exact, genes, bins=4)
    >>> bool(curve.calibration_error < 0.1), bool(curve.p_value > 0.01)
    (True, True)
    """
    expect(0.0 < level < 1.0, "0 < level < 1", level, "level", "give a probability such as 0.95")
    expect(draws >= 1, "at least 1", draws, "draws", "leave the default")
    pooled = probabilities(probability, active)
    edges = _edges(bins)
    which = _bins(pooled, edges)
    sums = _sums(pooled, which, len(edges) - 1 if edges is not None else int(which.max()) + 1)
    total = sums.sum(axis=0)
    scores, score_errors = _scores(total), _jackknife(sums)
    left, right = _sides(pooled.claim, which, edges)
    count, h_sum, active_sum = total[:3]
    with np.errstate(invalid="ignore"):
        predicted, observed = h_sum / count, active_sum / count
    standard_error = _share_error(sums)
    lower, upper = wilson(observed, _effective(count, observed, standard_error), level)
    expected = _expected(pooled, which, edges, draws, np.random.default_rng(seed))
    tails = np.array([(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    with np.errstate(invalid="ignore"):
        bounds = np.quantile(expected[0], tails, axis=0)
    by_bin = {
        "left": left,
        "right": right,
        "count": count.astype(int),
        "predicted": predicted,
        "observed": observed,
        "standard_error": standard_error,
        "lower": lower,
        "upper": upper,
        "expected_lower": bounds[0],
        "expected_upper": bounds[1],
    }
    error = scores[-1]
    numbers = dict(zip(SCORES, scores, strict=True))
    numbers |= {f"{name}_se": value for name, value in zip(SCORES, score_errors, strict=True)}
    numbers["calibration_error_expected"] = expected[1].mean()
    numbers["p_value"] = (1.0 + np.sum(expected[1] >= error - 1e-12)) / (1.0 + draws)
    variables: dict[str, Any] = {name: (BIN, value) for name, value in by_bin.items()} | numbers
    about = {"level": level, "tissues": len(pooled.claim), "replicates": pooled.replicates}
    return xr.Dataset(variables, {BIN: np.arange(1, len(count) + 1)}, about)


def wilson(share: Array, count: Array, level: float) -> tuple[Array, Array]:
    """Wilson's interval of a probability from a share of ``count`` trials: lower and upper, (bin,); nan without any."""
    z = float(ndtri(0.5 + level / 2.0))
    with np.errstate(invalid="ignore", divide="ignore"):
        centre = (share + z**2 / (2.0 * count)) / (1.0 + z**2 / count)
        half = z / (1.0 + z**2 / count) * np.sqrt(share * (1.0 - share) / count + z**2 / (4.0 * count**2))
    # where none or all are active the end is exactly there, whatever rounding says
    return np.where(share == 0.0, 0.0, centre - half), np.where(share == 1.0, 1.0, centre + half)


def _edges(bins: int | Sequence[float] | str) -> Array | None:
    """Edges of fixed bins; None where isotonic regression finds them."""
    if isinstance(bins, str):
        if bins != ISOTONIC:
            raise InputError(f"a number, edges or {ISOTONIC!r}", repr(bins), "bins", "leave the default")
        return None
    if np.ndim(bins) == 0:
        count = int(np.asarray(bins))
        expect(count >= 1, "at least 1", count, "bins", "leave the default")
        return np.linspace(0.0, 1.0, count + 1)
    edges = np.asarray(bins, dtype=float)
    rise = len(edges) >= 2 and bool(np.all(np.diff(edges) > 0.0)) and edges[0] == 0.0 and edges[-1] == 1.0
    expect(rise, "edges that rise from 0 to 1", bins, "bins", "give a number of bins")
    return edges


def _bins(pooled: Pooled, edges: Array | None) -> NDArray[np.int64]:
    """Which bin every tissue is in, (observation,)."""
    if edges is not None:
        return np.clip(np.searchsorted(edges, pooled.claim, side="right") - 1, 0, len(edges) - 2)
    distinct, where, count = np.unique(pooled.claim, return_inverse=True, return_counts=True)
    share = np.bincount(where, pooled.active, len(distinct)) / count
    fitted = isotonic_regression(share, weights=count.astype(float)).x
    block = np.cumsum(np.concatenate([[False], np.diff(fitted) > 0.0]))
    return np.asarray(block[where], dtype=np.int64)


def _sums(pooled: Pooled, which: NDArray[np.int64], size: int) -> Array:
    """Of n, h, I, h^2 and h I in every bin, (replicate, 5, bin): all scores are functions of these."""
    h, active, D = pooled.claim, pooled.active.astype(float), pooled.replicates
    where = pooled.replicate * size + which
    values = (np.ones_like(h), h, active, h**2, h * active)
    found = [np.bincount(where, value, D * size).reshape(D, size) for value in values]
    return np.stack(found, axis=1)


def _scores(sums: Array) -> Array:
    """`SCORES` from sums over tissues (..., 5, bin), (score, ...)."""
    n, h, I, hh, hI = np.moveaxis(sums, -2, 0)
    N = n.sum(axis=-1)
    some = np.maximum(n, 1.0)  # the others' sums are zero
    h_k, o_k, o = h / some, I / some, (I.sum(axis=-1) / N)[..., None]
    brier = (hh - 2.0 * hI + I).sum(axis=-1) / N
    reliability = (n * (h_k - o_k) ** 2).sum(axis=-1) / N
    within = ((hh - h * h_k) - 2.0 * (hI - h * o_k)).sum(axis=-1) / N
    resolution = (n * (o_k - o) ** 2).sum(axis=-1) / N
    error = (n * np.abs(o_k - h_k)).sum(axis=-1) / N
    return np.stack([brier, reliability, within, resolution, (o * (1.0 - o))[..., 0], error])


def _jackknife(sums: Array) -> Array:
    """Standard errors of the scores, leaving out one data set at a time; nan for a single one."""
    D = len(sums)
    if D < LEAST:
        return np.full(len(SCORES), np.nan)
    without = _scores(sums.sum(axis=0) - sums)  # (score, replicate)
    return np.asarray(np.sqrt((D - 1) / D * np.sum((without - without.mean(axis=1, keepdims=True)) ** 2, axis=1)))


def _share_error(sums: Array) -> Array:
    """Standard error of the share of active tissues in every bin, as a ratio of sums over data sets."""
    n, I, D = sums[:, 0], sums[:, 2], len(sums)
    if D < LEAST:
        return np.full(n.shape[1], np.nan)
    with np.errstate(invalid="ignore"):
        residual = I - n * (I.sum(axis=0) / n.sum(axis=0))
        return np.asarray(np.sqrt(D / (D - 1) * np.sum(residual**2, axis=0)) / n.sum(axis=0))


def _effective(count: Array, share: Array, standard_error: Array) -> Array:
    """Independent tissues that would give this standard error, at most as many as there are (Korn & Graubard 1998)."""
    with np.errstate(invalid="ignore", divide="ignore"):
        effective = share * (1.0 - share) / standard_error**2
    return np.where(effective < count, np.maximum(effective, 1.0), count)


def _expected(
    pooled: Pooled, which: NDArray[np.int64], edges: Array | None, draws: int, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Under calibration, draw by draw: the curve at the bins (draw, bin), and the calibration error (draw,)."""
    h, size = pooled.claim, int(which.max()) + 1 if edges is None else len(edges) - 1
    curves, errors = np.empty((draws, size)), np.empty(draws)
    count = np.bincount(which, minlength=size)
    for i in range(draws):
        drawn = pooled._replace(active=rng.random(len(h)) < h, replicate=np.zeros_like(pooled.replicate))
        own = which if edges is not None else _bins(drawn, None)
        sums = _sums(drawn, own, size if edges is not None else int(own.max()) + 1)[0]
        share = sums[2] / np.maximum(sums[0], 1.0)
        errors[i] = _scores(sums)[-1]
        with np.errstate(invalid="ignore"):
            curves[i] = np.bincount(which, share[own], size) / count
    return curves, errors


def _sides(h: Array, which: NDArray[np.int64], edges: Array | None) -> tuple[Array, Array]:
    if edges is not None:
        return edges[:-1], edges[1:]
    size = int(which.max()) + 1
    least, largest = np.full(size, np.inf), np.full(size, -np.inf)
    np.minimum.at(least, which, h)
    np.maximum.at(largest, which, h)
    return least, largest
