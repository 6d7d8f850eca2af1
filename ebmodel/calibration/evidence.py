"""Are Bayes factors worth what they say? I. J. Good's checks, and what to make of them if not.

With 1/K_t the Bayes factor for an effect, H1 over H0, and densities that are those of the data (equation (6)),

    E(1/K_t | I(t)=0) = 1,      P(1/K_t >= k | I(t)=0) <= 1/k
    E(K_t | I(t)=1) = 1,        P(K_t >= k | I(t)=1) <= 1/k                                     (Good 1950; Turing)

1/K has no finite variance under H0 once eta > sigma2, so that its mean over finitely many tissues says little; K under
H1 always has, and is the check to look at. Among tissues with 1/K = e^x the odds of an effect are e^x times the prior
odds. So in the logistic regression

    logit P(I(t)=1) = logit tau1 + a + b log(1/K_t)

a = 0 and b = 1. b < 1 says that the Bayes factors are too extreme (their logarithms should be shrunk by b), a < 0 that
they, or tau1, favour effects.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit, logit

from ebmodel.calibration.curves import wilson
from ebmodel.calibration.pooled import LEAST, Pooled, is_many, pool
from ebmodel.errors import expect
from ebmodel.labels import BIN, THRESHOLD
from ebmodel.model import Array
from ebmodel.results import Fit

__all__ = ["Regression", "bayes_factors", "regress"]

EDGES = tuple(float(x) for x in np.log(10.0) * np.arange(-2.0, 2.25, 0.5))
"""Of log 1/K: half powers of ten, on which evidence is graded (Jeffreys; Kass & Raftery 1995)."""
THRESHOLDS = (1.0, 2.0, 3.0, 10.0, 30.0, 100.0, 1000.0)
SLOPE = ("intercept", "slope")


def bayes_factors(
    log_bayes_factor: Any,
    active: Any,
    tau1: Any = None,
    edges: Sequence[float] = EDGES,
    thresholds: Sequence[float] = THRESHOLDS,
    level: float = 0.95,
) -> xr.Dataset:
    """Calibration of Bayes factors against the truth.

    Parameters
    ----------
    log_bayes_factor
        A fit, or log K_t (tissue,), H0 over H1 as everywhere: negative favours an effect. Or many of either, as a list
        or the rows of a matrix, one for each data set.
    active
        The truth of each: a simulated Dataset, or I(t) (tissue,).
    tau1
        The prior probability of an effect, one number or one for each data set; not for fits, which have their own.
    edges
        Of bins of log 1/K; tissues outside are in bins of their own.
    thresholds
        Values k of 1/K and of K for the tail probabilities, >= 1.
    level
        Of the intervals.

    Returns
    -------
    Dataset
        By bin: ``count``; ``claimed``, the log Bayes factor for an effect, as it should come out; ``observed``, the log
        odds of an effect less the prior's, its interval ``lower`` to ``upper`` (infinite where all or no tissues are
        active); ``left`` and ``right``.
        By threshold k: ``misleading_null``, the share of inactive tissues with 1/K >= k, and ``misleading_active``, of
        active tissues with K >= k; ``bound`` 1/k, which neither exceeds if calibrated.
        ``slope`` and ``intercept``; ``mean_null``, of 1/K over inactive tissues, and ``mean_active``, of K over active
        tissues, both 1 if calibrated. Each with ``*_se``, by data set where there are several.
        Attributes: ``tissues``, ``replicates`` (data sets), ``left_out``, tissues whose tau1 is 0 or 1, which have no
        odds, and ``status``: why there is no slope if there is none.

    Raises
    ------
    InputError
        If values are missing, truths do not match, or an argument is out of range.
    """
    expect(0.0 < level < 1.0, "0 < level < 1", level, "level", "give a probability such as 0.95")
    ks, sides = np.asarray(thresholds, dtype=float), np.asarray(edges, dtype=float)
    expect(bool(np.all(ks >= 1.0)), "thresholds of at least 1", thresholds, "thresholds", "leave the default")
    expect(bool(np.all(np.diff(sides) > 0.0)), "edges that rise", edges, "edges", "leave the default")
    pooled = pool(log_bayes_factor, active, lambda fit: fit.log_bayes_factor, "log_bayes_factor")
    prior = logit(_prior(log_bayes_factor, pooled, tau1))
    x, known = -pooled.claim, np.isfinite(prior)
    kept = Pooled(x[known], pooled.active[known], _renumbered(pooled.replicate[known]))
    regression = regress(kept, prior[known])
    by_bin = _binned(kept, prior[known], np.concatenate([[-np.inf], sides, [np.inf]]), level)
    variables: dict[str, Any] = {name: (BIN, value) for name, value in by_bin.items()}
    for k, name in enumerate(SLOPE):
        variables[name], variables[f"{name}_se"] = regression.coefficients[k], regression.standard_errors[k]
    with np.errstate(over="ignore"):
        for name, sign, group in (("null", 1.0, ~pooled.active), ("active", -1.0, pooled.active)):
            beyond = sign * x[:, None] >= np.log(ks)
            for what, values, dims in (
                ("misleading", beyond.astype(float), (THRESHOLD,)),
                ("mean", np.exp(sign * x), ()),
            ):
                mean, error = _mean_among(pooled, group, values)
                variables[f"{what}_{name}"], variables[f"{what}_{name}_se"] = (dims, mean), (dims, error)
    variables["bound"] = THRESHOLD, 1.0 / ks
    about = {"tissues": len(x), "replicates": pooled.replicates, "left_out": int(np.sum(~known)), "level": level}
    return xr.Dataset(variables, {THRESHOLD: ks}, about | {"status": regression.status})


class Regression(NamedTuple):
    """logit P(I(t)=1) = offset + a + b x."""

    coefficients: Array
    """(2,): a and b; nan where there is no maximum."""
    standard_errors: Array
    """(2,): by data set; by tissue where there is one data set."""
    status: str
    """Why there is no slope, or what the standard errors are by."""


def regress(pooled: Pooled, offset: Array) -> Regression:
    """Logistic regression of I(t) on x = ``pooled.claim`` by maximum likelihood; ``offset`` (observation,) is added.

    The standard errors are those of estimating equations summed over data sets (Liang & Zeger 1986).
    """
    x, active = pooled.claim, pooled.active
    nothing = np.full(2, np.nan)
    if not active.any() or active.all():
        return Regression(nothing, nothing, f"no slope: {'all' if len(x) and active.all() else 'no'} tissues active")
    if x[active].min() >= x[~active].max() or x[active].max() <= x[~active].min():
        return Regression(nothing, nothing, "no slope: active and inactive tissues do not overlap")
    design = np.column_stack([np.ones_like(x), x])
    ab, information = _maximum(design, active, offset)
    score = design * (active - expit(offset + design @ ab))[:, None]
    inverse, D = np.linalg.inv(information), pooled.replicates
    if D < LEAST:
        return Regression(ab, np.sqrt(np.diag(inverse)), "standard errors by tissue")
    by_data = pooled.sums(score)
    covariance = inverse @ (D / (D - 1) * by_data.T @ by_data) @ inverse
    return Regression(ab, np.sqrt(np.diag(covariance)), "standard errors by data set")


STEPS, SMALL = 200, 1e-10


def _maximum(design: Array, active: NDArray[np.bool_], offset: Array) -> tuple[Array, Array]:
    """(a, b) and the information there: Newton from calibration, (0, 1), halving steps that go down."""
    ab = np.array([0.0, 1.0])
    value = _loglik(design @ ab + offset, active)
    for _ in range(STEPS):
        h = expit(offset + design @ ab)
        information = (design * (h * (1.0 - h))[:, None]).T @ design
        gradient = design.T @ (active - h)
        # far from the maximum the information may vanish: a little is added, which shortens the step
        step = np.linalg.solve(information + 1e-9 * np.diag(1.0 + np.diag(information)), gradient)
        size = 1.0
        while (new := _loglik(design @ (ab + size * step) + offset, active)) < value and size > 1e-12:
            size /= 2.0
        ab, gain, value = ab + size * step, new - value, new
        if abs(gain) < SMALL and gradient @ step < SMALL:
            break
    return ab, information


def _loglik(log_odds: Array, active: NDArray[np.bool_]) -> float:
    return float(-np.sum(np.logaddexp(0.0, np.where(active, -log_odds, log_odds))))


def _prior(source: Any, pooled: Pooled, tau1: Any) -> Array:
    """tau1 of every tissue, (observation,)."""
    sources = list(source) if is_many(source) else [source]
    fitted = all(isinstance(one, Fit) for one in sources)
    do = "give tau1 with arrays, and not with fits"
    expect(fitted == (tau1 is None), "fits, or arrays and tau1", "one without the other", "bayes_factors", do)
    values = np.array([one.params.tau1 for one in sources] if fitted else tau1, dtype=float)
    fits = values.shape in {(), (len(sources),)} and bool(np.all((values >= 0.0) & (values <= 1.0)))
    expect(fits, "one probability, or one for each data set", tau1, "tau1", "give P(I(t)=1)")
    return np.asarray(np.broadcast_to(values, len(sources))[pooled.replicate])


def _binned(pooled: Pooled, prior: Array, edges: Array, level: float) -> dict[str, Array]:
    """Claimed and observed log Bayes factors, bin by bin of what is claimed."""
    x, rows = pooled.claim, []
    for left, right in pairwise(edges):
        mine = (x >= left) & (x < right)
        n, share, odds = mine.sum(), np.full(3, np.nan), prior[mine]
        if n:
            share[0] = pooled.active[mine].mean()
            share[1:] = wilson(share[0], _independent(pooled, mine, share[0]), level)
        claimed = _common(odds, expit(x[mine] + odds).mean(), x[mine].min(), x[mine].max()) if n else np.nan
        rows.append([left, right, n, claimed, *(_common(odds, one, -BEYOND, BEYOND) for one in share)])
    names = ("left", "right", "count", "claimed", "observed", "lower", "upper")
    return dict(zip(names, np.array(rows).T, strict=True))


BEYOND = 700.0
"""Log odds that no share of tissues can show."""


def _common(prior: Array, share: float, low: float, high: float) -> float:
    """The log Bayes factor, the same for all, that makes the mean of P(I(t)=1) this share."""
    if not 0.0 < share < 1.0 and (low, high) == (-BEYOND, BEYOND):
        return float(logit(share))

    def beyond(x: float) -> float:
        return float(expit(x + prior).mean() - share)

    if beyond(low) >= 0.0 or beyond(high) <= 0.0:
        return float(low if beyond(low) >= 0.0 else high)
    return float(brentq(beyond, low, high))


def _independent(pooled: Pooled, mine: NDArray[np.bool_], share: float) -> Array:
    """Independent tissues that would have the standard error of the share of active ones, by data set."""
    n = float(mine.sum())
    if pooled.replicates < LEAST or not 0.0 < share < 1.0:
        return np.asarray(n)
    error = _mean_among(pooled, mine, pooled.active.astype(float))[1]
    return np.asarray(min(n, max(1.0, share * (1.0 - share) / float(error) ** 2)) if error > 0.0 else n)


def _mean_among(pooled: Pooled, group: NDArray[np.bool_], values: Array) -> tuple[Array, Array]:
    """Mean of values (observation, ...) over a group of tissues, and its standard error, as a ratio over data sets."""
    n, D = group.sum(), pooled.replicates
    if not n:
        return np.full(values.shape[1:], np.nan), np.full(values.shape[1:], np.nan)
    mean = values[group].mean(axis=0)
    with np.errstate(invalid="ignore"):
        residual = (values - mean) * group.reshape(-1, *[1] * (values.ndim - 1))
    if D < LEAST:
        return mean, np.sqrt(np.sum(residual**2, axis=0)) / n
    return mean, np.sqrt(D / (D - 1) * np.sum(pooled.sums(residual) ** 2, axis=0)) / n


def _renumbered(replicate: NDArray[np.int64]) -> NDArray[np.int64]:
    """Data sets numbered 0, 1, ... where some have been left out."""
    return np.unique(replicate, return_inverse=True)[1].astype(np.int64)
