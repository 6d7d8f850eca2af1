"""Covariances learned from data (Urbut et al., "data-driven"): principal components of strong effects, refined.

The recipe is mashr's: rows with a strong effect, the singular value decomposition of their B = b_hat / s^alpha (not
centred), and of its first components one covariance each and one of all together,

    B = sum_k d_k u_k v_k',    pca_k: U = d_k^2 v_k v_k' / J,    tpca: U = sum_k d_k^2 v_k v_k' / J

which are observed patterns, errors included; extreme deconvolution (`ebmodel.mash.deconvolution`) takes these off.

Two departures: one of full rank, shrunk, is learned as well; and covariances of low rank may turn, if asked to. What
either does to errors and to the lfsr is measured in the study ``mash`` of ``simulations``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr

from ebmodel.errors import expect, listed
from ebmodel.mash.covariances import Covariance
from ebmodel.mash.data import Effects
from ebmodel.mash.deconvolution import Directions, deconvolve
from ebmodel.model import Array
from ebmodel.parallel import one_thread

__all__ = ["data_driven", "pca", "strong_effects"]

FEW = "lower the threshold, give strong=, or use canonical covariances alone"


def strong_effects(effects: Effects, threshold: float = 0.05) -> NDArray[np.intp]:
    """Rows with an effect in some condition, the strongest first.

    A row's p-value is its smallest, times the number of its observed conditions (Bonferroni: valid however errors
    correlate); rows are taken at a false discovery rate of ``threshold`` (Benjamini & Hochberg). mashr's recipe has the
    local false sign rate of a fit by condition in the place of the p-value.

    Parameters
    ----------
    effects
        All of them.
    threshold
        Expected share of null rows among those taken; 1 takes all, ranked.

    Returns
    -------
    rows : (strong,)
        Row numbers. Empty if there are none.

    Raises
    ------
    InputError
        If the threshold is not in (0, 1].
    """
    expect(0.0 < threshold <= 1.0, "a rate in (0, 1]", threshold, "threshold", "leave the default")
    z = np.where(effects.observed, effects.B / effects.S, 0.0)
    conditions = effects.observed.sum(axis=1)
    with np.errstate(divide="ignore"):  # a row without estimates has p = 1
        log_p = np.log(2.0 * conditions) + log_ndtr(-np.abs(z).max(axis=1))
    log_p = np.where(conditions > 0, np.minimum(log_p, 0.0), 0.0)
    order = np.argsort(log_p, kind="stable")
    J = len(order)
    passed = np.flatnonzero(log_p[order] <= np.log(threshold * np.arange(1, J + 1) / J))
    return order[: passed[-1] + 1] if len(passed) else order[:0]


@one_thread
def pca(effects: Effects, components: int = 5, strong: Any = None) -> list[Covariance]:
    """Covariances along principal components of the strong effects (mashr's ``cov_pca``).

    Parameters
    ----------
    effects
        All of them.
    components
        How many; no more than there are conditions.
    strong
        Rows to use: numbers, names, or a mask; by default `strong_effects`.

    Returns
    -------
    list
        ``pca_1``, ... of rank 1, then ``tpca`` of them together (if they are more than one). Not normalised: their
        sizes are those of the estimates.

    Raises
    ------
    InputError
        If strong rows are fewer than components, rows do not exist, a condition has no estimate in any of them, or
        ``components`` is not positive.

    Notes
    -----
    A missing cell is filled by its expectation given the observed ones of its row, under a normal distribution of
    effects of rank ``components`` fitted to the strong rows by `deconvolve`.
    """
    rows = _strong(effects, components, strong)
    return _components(_filled(rows, components), components)


@one_thread
def data_driven(
    effects: Effects,
    components: int = 5,
    strong: Any = None,
    *,
    directions: Directions = "kept",
    empirical: bool = True,
    shrinkage: float | None = None,
    tol: float = 1e-5,
    max_iter: int = 1000,
) -> list[Covariance]:
    """Covariances of strong effects: `pca`, and second moments, refined by extreme deconvolution.

    Parameters
    ----------
    effects, components, strong
        As `pca`.
    directions
        ``"kept"``: covariances of low rank keep their column space, as mashr's ``cov_ed`` has it, and those of one
        component change in size alone, which the mixture's grid undoes. ``"free"``: they turn to where the likelihood
        is highest. Free ones fit strong effects better, and make signs more certain than they are where effects are not
        shared as they have it.
    empirical
        Whether to start also from the second moments of all strong rows, of full rank.
    shrinkage
        That covariance has as many parameters as there are pairs of conditions, and follows the errors of the strong
        rows. With pi its weight it is U <- (J pi U + n0 diag(U)) / (J pi + n0), as if n0 effects, independent between
        conditions, had been seen as well; n0 is ``shrinkage``, by default the number of conditions.
    tol, max_iter
        As `deconvolve`.

    Returns
    -------
    list
        ``ed_1``, ..., ``ed_tpca``, ``ed_empirical``, not normalised; without those of which nothing but error was left.

    Raises
    ------
    InputError
        As `pca`; if nothing but error was left of all; or if ``shrinkage`` is negative.

    Notes
    -----
    Quick where all strong rows have the same errors and miss nothing (as with alpha = 1). Otherwise a step costs as
    much as inverting a matrix (condition, condition) for every row: with thousands of rows give ``strong`` fewer, or
    leave out ``empirical``.
    """
    n0 = float(effects.B.shape[1]) if shrinkage is None else shrinkage
    expect(0.0 <= n0 < np.inf, "a number of effects >= 0", n0, "shrinkage", "leave the default")
    rows = _strong(effects, components, strong)
    B = _filled(rows, components)
    start = _components(B, components)
    if empirical:
        moments = Covariance.from_matrix("empirical", B.T @ B / len(B), "data-driven")
        start = [*start, moments] if moments.rank > start[-1].rank else start
    start = [replace(one, name=f"ed_{one.name.removeprefix('pca_')}") for one in start]
    found = deconvolve(rows, start, directions=directions, tol=tol, max_iter=max_iter)
    sizes = len(B) * found.weights
    every = [
        _shrunk(U, size, n0) if U.name == "ed_empirical" else U
        for U, size in zip(found.covariances, sizes, strict=True)
        if U.rank > 0
    ]
    expect(len(every) > 0, "effects beyond error", "none in the strong rows", "effects", FEW)
    return every


def _strong(effects: Effects, components: int, strong: Any) -> Effects:
    """The strong rows, as many as it takes."""
    expect(components >= 1, "at least one component", components, "components", "leave the default")
    rows = effects.take(_rows(effects, strong))
    J, R = rows.B.shape
    least = min(components, R)
    expect(least <= J, f"at least {least} rows with strong effects, for as many components", J, "effects", FEW)
    return rows


def _components(B: Array, components: int) -> list[Covariance]:
    """d_k v_k / sqrt(J) of B = sum_k d_k u_k v_k', one by one and together."""
    _, d, v = np.linalg.svd(B, full_matrices=False)
    expect(d[0] > 0.0, "estimates other than 0", "zeros", "strong rows", FEW)
    count = min(components, int((d > d[0] * 1e-12).sum()))
    factor = v[:count].T * d[:count] / np.sqrt(len(B))
    single = [Covariance(f"pca_{k + 1}", factor[:, [k]], "data-driven") for k in range(count)]
    return [*single, Covariance("tpca", factor, "data-driven")] if count > 1 else single


def _shrunk(U: Covariance, size: float, n0: float) -> Covariance:
    """(size U + n0 diag(U)) / (size + n0)."""
    towards = np.diag((U.factor**2).sum(axis=1))
    return Covariance.from_matrix(U.name, (size * U.matrix + n0 * towards) / (size + n0), U.kind)


def _rows(effects: Effects, strong: Any) -> Any:
    """Row numbers of those meant."""
    J = len(effects.B)
    rows = strong_effects(effects) if strong is None else np.asarray(strong)
    expect(rows.ndim == 1 and len(rows) > 0, "rows with strong effects", "none", "strong", FEW)
    if rows.dtype == bool:
        expect(len(rows) == J, f"a mask of {J} rows", len(rows), "strong", "give one entry a row")
        expect(bool(rows.any()), "rows with strong effects", "none", "strong", FEW)
        return np.flatnonzero(rows)
    if rows.dtype.kind in "iu":
        beyond = rows[(rows < 0) | (rows >= J)]
        expect(len(beyond) == 0, f"rows from 0 to {J - 1}", listed(beyond), "strong", "count from 0")
        return rows
    place = {str(name): j for j, name in enumerate(effects.effects)}
    strange = [name for name in rows if str(name) not in place]
    expect(not strange, "names of effects", listed(strange), "strong", "match the names of bhat")
    return np.array([place[str(name)] for name in rows])


def _filled(rows: Effects, components: int) -> Array:
    """B, in missing cells E(b | the observed ones of the row), b ~ N(0, F F') with F of ``components`` columns."""
    there = rows.observed
    B = np.where(there, rows.B, 0.0)
    if there.all():
        return B
    empty = rows.conditions[~there.any(axis=0)]
    expect(len(empty) == 0, "every condition in a strong row", f"none of {listed(empty)}", "effects", FEW)
    _, d, v = np.linalg.svd(B, full_matrices=False)
    factor = v[:components].T * d[:components] / np.sqrt(len(B))
    fitted = deconvolve(rows, [Covariance.from_factor("strong", factor)], directions="free", tol=1e-4)
    U = fitted.covariances[0].matrix
    for j, O in enumerate(there):
        if not O.all():
            total = np.asarray(U + rows.V(j))[np.ix_(O, O)]
            B[j, ~O] = U[np.ix_(~O, O)] @ np.linalg.solve(total, B[j, O])
    return B
