"""The correlation C of errors between conditions, from effects that look null: V_j = S_j C S_j.

Of an effect that is null everywhere z = b_hat / s ~ N(0, C). Null effects are not known, so those with all |z| < c
stand for them, c = 2. That they were chosen for being small shrinks their correlations, the more so the more conditions
there are: with C = .5 between any two, to .42 among 2 conditions, .33 among 10 and .20 among 44. Three estimators:

    "simple"      corr(z) among rows with all |z| < c, as it is: mashr's
    "truncated"   C such that N(0, C), given all |z| < c, has that correlation: found by simulating from it
    "pairwise"    for every two conditions the rows with both |z| < c, and rho such that the normal truncated to the
                  square has their correlation: exact, and of more rows, but rows with effects elsewhere are among them

The last two take the z-scores of null effects to have variance 1. `correlation_by_em` takes no effects to be null: it
alternates with fits of the mixture.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.special import ndtr

from ebmodel.errors import InputError, expect, listed
from ebmodel.labels import CONDITION, CONDITION_OTHER
from ebmodel.mash.data import tidy
from ebmodel.model import Array
from ebmodel.parallel import one_thread

__all__ = ["Method", "correlation_by_em", "nearest_correlation", "null_correlation"]

Method = Literal["simple", "truncated", "pairwise"]
"""How the correlation is estimated from effects that look null (`null_correlation`)."""
METHODS = ("simple", "truncated", "pairwise")

LEAST = 1e-4
"""Smallest eigenvalue of a correlation matrix that had to be repaired."""
DRAWS = 100_000
"""Vectors drawn to find the correlation of a truncated normal; the same for every C that is tried."""
NODES = 400
"""Of the quadrature over one of two truncated normals, and of the table of correlations."""


@one_thread
def null_correlation(
    bhat: Any, shat: Any = None, *, method: Method = "simple", threshold: float = 2.0, seed: int = 0
) -> xr.DataArray:
    """Estimate the correlation of errors between conditions.

    Parameters
    ----------
    bhat, shat : (effect, condition)
        Estimates and standard errors, as in `ebmodel.mash.fit`; all effects, not the strong ones alone.
    method
        ``"simple"`` is too small (see above), which the fit takes for effects shared by all conditions: among 44 with
        C = .5, four in five discoveries were false. ``"truncated"`` is right where null effects prevail; ``"pairwise"``
        has the smallest standard error of the three, but is drawn towards the correlation of effects where many are
        shared, and is the one for so many conditions that hardly a row is small in all.
    threshold
        c; effects with all observed |z| below it pass for null.
    seed
        Of the draws of ``"truncated"``.

    Returns
    -------
    DataArray (condition, condition_other)
        Positive definite, 1 on the diagonal: what ``V`` in `ebmodel.mash.fit` takes. Attributes: ``method``,
        ``effects``, the number of rows that passed for null (in all conditions), and ``repaired``, whether the nearest
        correlation matrix had to stand in for an estimate that is not positive definite, as can be where cells are
        missing: correlations are those of the rows in which both conditions are observed.

    Raises
    ------
    InputError
        If null effects (of any two conditions) are no more than there are conditions, or as `ebmodel.mash.fit`.
    """
    expect(method in METHODS, f"one of {listed(METHODS)}", repr(method), "method", "choose one")
    expect(0.0 < threshold < np.inf, "a threshold > 0", threshold, "threshold", "leave the default")
    effects = tidy(bhat, shat)
    z = effects.B / effects.S
    small = np.abs(z) < threshold
    null = (small | np.isnan(z)).all(axis=1) & effects.observed.any(axis=1)
    if method == "pairwise":
        rho = _untruncated(_correlation(np.where(small, z, np.nan), effects.conditions), threshold)
    else:
        rho = _correlation(z[null], effects.conditions)
    if method == "truncated":
        rho = _untruncated_box(rho, effects.observed, threshold, seed)
    repaired = bool(np.linalg.eigvalsh(rho)[0] < LEAST)
    C = nearest_correlation(rho) if repaired else rho
    coords = {CONDITION: effects.conditions, CONDITION_OTHER: effects.conditions}
    attrs = {"method": method, "effects": int(null.sum()), "repaired": repaired}
    return xr.DataArray(C, coords=coords, dims=(CONDITION, CONDITION_OTHER), name="V", attrs=attrs)


def correlation_by_em(
    bhat: Any, shat: Any, fit: Callable[[Array], Any], *, start: Any = None, tol: float = 1e-3, max_iter: int = 20
) -> tuple[xr.DataArray, Array]:
    """Estimate the correlation of errors by alternating with fits of the mixture.

        C <- corr of sum_j S_j^-1 E[(b_hat_j - b_j)(b_hat_j - b_j)' | b_hat_j] S_j^-1

    until a round gains less than ``tol`` log-likelihood per effect. That C is scaled to a diagonal of 1 is no EM step,
    and a round that lowers the likelihood is not taken and ends the search. (mashr: ``mash_estimate_corr_em``.)

    Parameters
    ----------
    bhat, shat : (effect, condition)
        A random sample of the effects will do. No missing cells.
    fit
        Of C (condition, condition) the fit of ``bhat`` and ``shat`` with ``V=C``: with ``loglik``, ``dataset`` (its
        ``mean``) and ``posterior_covariance()``, as `ebmodel.mash.fit` gives.
    start : (condition, condition)
        Where to begin; by default ``null_correlation(bhat, shat, method="pairwise")``.
    tol, max_iter
        When to stop.

    Returns
    -------
    correlation : DataArray (condition, condition_other)
        Of the best fit.
    trace : (round,)
        Its log-likelihoods.

    Raises
    ------
    InputError
        If cells are missing, and as `null_correlation`.
    """
    expect(max_iter >= 1, "at least one round", max_iter, "max_iter", "leave the default")
    effects = tidy(bhat, shat)
    do = "give the effects without missing cells: a sample will do"
    expect(bool(effects.observed.all()), "complete effects", "missing cells", "bhat", do)
    start = null_correlation(bhat, shat, method="pairwise") if start is None else start
    C = np.asarray(start, dtype=float)
    fitted = fit(C)
    trace = [float(fitted.loglik)]
    for _ in range(max_iter):
        residual = (effects.B - np.asarray(fitted.dataset["mean"])) / effects.S
        spread = np.asarray(fitted.posterior_covariance()) / (effects.S[:, :, None] * effects.S[:, None, :])
        second = residual.T @ residual + spread.sum(axis=0)
        size = np.sqrt(np.diag(second))
        proposal = second / np.outer(size, size)
        fitted = fit(proposal)
        gain = float(fitted.loglik) - trace[-1]
        if gain < 0.0:
            break
        C = proposal
        trace.append(float(fitted.loglik))
        if gain < tol * len(effects.B):
            break
    coords = {CONDITION: effects.conditions, CONDITION_OTHER: effects.conditions}
    return xr.DataArray(C, coords=coords, dims=(CONDITION, CONDITION_OTHER), name="V"), np.array(trace)


def nearest_correlation(matrix: Any, least: float = LEAST) -> Array:
    """The nearest correlation matrix with no eigenvalue below ``least``, in Frobenius norm.

    Alternating projections with Dykstra's correction (Higham 2002, IMA J. Numer. Anal. 22, 329).

    Parameters
    ----------
    matrix : (condition, condition)
        Symmetric.
    least
        Of its eigenvalues, at least 0 and below 1.

    Raises
    ------
    InputError
        If it is not a symmetric matrix of finite numbers, or ``least`` is out of range.
    """
    X = np.array(matrix, dtype=float)
    fits = X.ndim == 2 and X.shape[0] == X.shape[1] and bool(np.isfinite(X).all()) and np.allclose(X, X.T)
    expect(fits, "a symmetric matrix of finite numbers", f"shape {X.shape}", "matrix", "check it")
    expect(0.0 <= least < 1.0, "0 <= least < 1", least, "least", "leave the default")
    correction = np.zeros_like(X)
    for _ in range(1000):
        shifted = X - correction
        value, vector = np.linalg.eigh(shifted)
        cone = (vector * np.maximum(value, least)) @ vector.T
        correction = cone - shifted
        X = cone.copy()
        np.fill_diagonal(X, 1.0)
        if np.abs(X - cone).max() < 1e-9:
            break
    # the diagonal is scaled, and not only replaced: what is left of the search must not make an eigenvalue negative
    size = np.sqrt(np.diag(cone))
    C = cone / np.outer(size, size)
    np.fill_diagonal(C, 1.0)
    return np.asarray((C + C.T) / 2.0)


def _correlation(z: Array, conditions: NDArray[Any]) -> Array:
    """Correlations between conditions, of the rows in which both are there."""
    there = (~np.isnan(z)).astype(float)
    R = z.shape[1]
    n = there.T @ there
    least = np.unravel_index(np.argmin(n), n.shape)
    if n[least] <= R:
        pair = listed({conditions[i]: None for i in least})
        got = f"{int(n[least])} in {pair}"
        do = "raise the threshold, give more effects, or give V"
        raise InputError(f"more than {R} null effects, one for every condition", got, "bhat", do)
    filled = np.where(there > 0.0, z, 0.0)
    mean = filled.T @ there / n  # of the row's condition, where the column's is there
    covariance = filled.T @ filled / n - mean * mean.T
    variance = (filled**2).T @ there / n - mean**2
    both = variance * variance.T
    C = np.divide(covariance, np.sqrt(both), out=np.zeros_like(both), where=both > 0.0)  # what does not vary has none
    np.fill_diagonal(C, 1.0)
    return np.asarray((C + C.T) / 2.0)


def _untruncated(observed: Array, c: float) -> Array:
    """Of correlations of pairs truncated to [-c, c]^2 those of the normals, elementwise."""
    rho, truncated = _truncated_correlation(c)
    C = np.sign(observed) * np.interp(np.abs(observed), truncated, rho)
    np.fill_diagonal(C, 1.0)
    return np.asarray(C)


def _truncated_correlation(c: float) -> tuple[Array, Array]:
    """A table of rho from 0 to 1, and corr(x, y) of N(0, [1 rho; rho 1]) given |x| < c and |y| < c.

    y | x ~ N(rho x, 1 - rho^2) in closed form, x by Gauss-Legendre quadrature.
    """
    node, weight = np.polynomial.legendre.leggauss(NODES)
    x, density = c * node, c * weight * _phi(c * node)
    rho = np.tanh(np.linspace(0.0, 4.0, NODES))[:, None]
    sd = np.sqrt(1.0 - rho**2)
    low, high = (-c - rho * x) / sd, (c - rho * x) / sd
    mass = ndtr(high) - ndtr(low)
    first = rho * x * mass + sd * (_phi(low) - _phi(high))  # E[y; |y| < c | x]
    truncated = (density * x * first).sum(axis=1) / (density * x**2 * mass).sum(axis=1)
    return np.append(rho[:, 0], 1.0), np.append(truncated, 1.0)


def _untruncated_box(wanted: Array, observed: NDArray[np.bool_], c: float, seed: int) -> Array:
    """C such that N(0, C), given |z| < c in all observed conditions, has the wanted correlations.

    C <- C + (wanted - corr(C)), with corr(C) from the same draws every time; a vector misses the conditions that a row
    drawn from the data misses.
    """
    R = len(wanted)
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((DRAWS, R))
    missing = ~observed[rng.integers(len(observed), size=DRAWS)]
    C = _untruncated(wanted, c)  # right for two conditions
    for _ in range(30):
        C = nearest_correlation(C) if np.linalg.eigvalsh(C)[0] < LEAST else C
        z = noise @ np.linalg.cholesky(C).T
        z[missing] = np.nan
        z = z[~(np.abs(z) >= c).any(axis=1)]
        got = f"{len(z)} of {DRAWS}"
        do = "raise the threshold, or use method='pairwise'"
        expect(len(z) > 10 * R, "simulated effects that are small in every condition", got, "bhat", do)
        step = wanted - _correlation(z, np.arange(R))
        C = np.clip(C + step, -1.0, 1.0)
        if np.abs(step).max() < 1e-3:
            break
    return np.asarray(C)


def _phi(x: Array) -> Array:
    return np.asarray(np.exp(-0.5 * x**2) / np.sqrt(2.0 * np.pi))
