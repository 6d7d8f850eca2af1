"""Effects as differences from a baseline that all conditions share, such as a control (common-baseline mash).

Of b_hat_j ~ N_R(b_j, S_j C S_j) the contrasts c_j = L b_j are estimated by

    c_hat_j = L b_hat_j ~ N(c_j, V_j),   V_j = L S_j C S_j L'

whose errors are correlated even where those of b_hat are not: contrasts with one reference share its error. Taking the
differences for independent estimates would make any noise in the reference look like an effect in every condition.
Source: Zou, Carbonetto, Wang & Stephens, common-baseline mash; Urbut et al. (2019) for what is fitted to them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from ebmodel.errors import expect, listed
from ebmodel.labels import CONDITION, CONDITION_OTHER, EFFECT
from ebmodel.mash.covariances import NEGLIGIBLE, Covariance
from ebmodel.mash.data import Effects, tidy
from ebmodel.model import Array

__all__ = ["MEAN", "Contrast", "contrast", "contrast_covariances", "contrast_matrix"]

MEAN = "mean"
"""The reference that is the mean of all conditions."""
ROWS = 4096
"""Effects whose covariances are made at a time."""


@dataclass(frozen=True, eq=False)
class Contrast:
    """What to fit instead of estimates by condition: contrasts are the conditions."""

    chat: xr.DataArray
    """(effect, condition) c_hat = L b_hat, named by the contrasts; NaN where missing."""
    shat: xr.DataArray
    """(effect, condition) their standard errors; NaN where missing."""
    V: xr.DataArray
    """Correlation of their errors, (condition, condition_other) if all effects have the same, else (effect, ...)."""
    L: xr.DataArray
    """(condition, condition_other) contrasts in rows, conditions in columns."""


def contrast_matrix(conditions: Iterable[Any], reference: str = MEAN, drop: str | None = None) -> xr.DataArray:
    """L, with a row for every condition less the reference.

    Parameters
    ----------
    conditions
        Their names.
    reference
        One of them, or ``"mean"`` of them all.
    drop
        With ``"mean"``, the condition that has no row; the last if None.

    Returns
    -------
    DataArray (condition, condition_other)
        R - 1 contrasts named ``"liver-mean"`` in rows, R conditions in columns.

    Raises
    ------
    InputError
        If there are fewer than two conditions, no such reference, or ``drop`` is given for another.

    Notes
    -----
    R conditions have R - 1 independent differences. The R differences from the mean add up to 0, and their joint
    covariance is singular, so one is left out, which loses nothing: it is minus the sum of the others. So is its
    posterior mean, and its variance the sum of all entries of their posterior covariance. For its local false sign
    rate fit again with another ``drop``.
    """
    names = [str(name) for name in conditions]
    R = len(names)
    expect(R > 1, "at least two conditions", R, "conditions", "a contrast needs two")
    expect(reference == MEAN or drop is None, "the mean as reference", reference, "drop", "leave it out")
    if reference == MEAN:
        expect(MEAN not in names, "conditions of other names", "one named 'mean'", "conditions", "rename it")
        gone = names[-1] if drop is None else str(drop)
        L = np.eye(R) - 1.0 / R
    else:
        gone = str(reference)
        L = np.eye(R)
        L[:, [name == gone for name in names]] -= 1.0
    known = f"'mean' or one of {listed(names)}"
    expect(gone in names, known, repr(gone), "drop" if reference == MEAN else "reference", "name a condition")
    kept = [r for r, name in enumerate(names) if name != gone]
    return _matrix(L[kept], [f"{names[r]}-{reference}" for r in kept], names)


def contrast(bhat: Any, shat: Any, V: Any = None, reference: Any = MEAN, tiny: str = "refuse") -> Contrast:
    """Contrasts of estimates with a reference, their standard errors, and the correlation of their errors.

    Parameters
    ----------
    bhat, shat, V, tiny
        As `ebmodel.mash.data.tidy` takes them. They are contrasted as they are: there is no alpha, for a difference of
        two effects has no one standard error to be proportional to.
    reference
        A condition, or ``"mean"`` of them all; or L itself, (condition, condition_other), whose columns are the
        conditions, by name unless ``bhat`` has none, and whose rows are independent.

    Returns
    -------
    Contrast
        Names of its ``chat`` are ``"liver-mean"``. ``V`` is common to all effects if their standard errors are in the
        same proportions, as when each effect has one for all conditions.

    Raises
    ------
    InputError
        As `ebmodel.mash.data.tidy` and `contrast_matrix`; or if a given L does not fit the conditions or its rows
        depend on each other. (Every contrast then has an error: V is positive definite.)

    Notes
    -----
    A contrast is missing if any estimate that it is made of is. Where that is the condition that is held against the
    reference nothing is lost: the other contrasts keep their exact joint distribution. With the reference missing all
    contrasts are, and with the mean as reference an effect has all its estimates or counts for nothing; differences
    between those that are there would still say something, which is not used. If estimates are often missing, choose
    a reference that seldom is.
    """
    effects = tidy(bhat, shat, V, tiny=tiny)
    L = _contrasts(effects, reference)
    involved = (L.to_numpy() != 0.0).astype(float)
    missing = (~effects.observed).astype(float) @ involved.T > 0.0
    chat = np.where(effects.observed, effects.B, 0.0) @ L.to_numpy().T  # c_hat = L b_hat
    se, C = _errors(effects, L.to_numpy())
    rows = {EFFECT: effects.effects, CONDITION: L[CONDITION].to_numpy()}
    dims = (CONDITION, CONDITION_OTHER)
    both = {CONDITION: rows[CONDITION], CONDITION_OTHER: rows[CONDITION]}
    return Contrast(
        xr.DataArray(np.where(missing, np.nan, chat), rows, (EFFECT, CONDITION), "chat"),
        xr.DataArray(np.where(missing, np.nan, se), rows, (EFFECT, CONDITION), "shat"),
        xr.DataArray(C, {EFFECT: rows[EFFECT], **both}, (EFFECT, *dims), "V")
        if C.ndim == 3
        else xr.DataArray(C, both, dims, "V"),
        L,
    )


def contrast_covariances(covariances: Iterable[Covariance], L: xr.DataArray) -> list[Covariance]:
    """The prior of contrasts that a prior of effects implies: b ~ N(0, U) makes L b ~ N(0, L U L').

    Canonical covariances of the contrasts themselves treat the reference unlike the other conditions. These do not:
    whichever the reference, and whichever contrast is dropped, they are the same prior, up to the grid of scales. An
    effect in the reference alone is there as one that all contrasts share.

    Parameters
    ----------
    covariances
        Of the conditions, the columns of L.
    L : (condition, condition_other)
        As from `contrast_matrix`.

    Returns
    -------
    list
        Of the contrasts, with their names and kinds, not normalised; those under which nothing differs, such as equal
        effects, are left out, for the point mass stands for them.

    Raises
    ------
    InputError
        If a covariance is for other conditions.
    """
    A, carried = L.to_numpy(), []
    for U in covariances:
        got = f"one of {len(U.factor)}"
        where = f"covariance {U.name}"
        expect(len(U.factor) == A.shape[1], f"a covariance of {A.shape[1]} conditions", got, where, "give L's columns")
        F = A @ U.factor
        F[np.abs(F) <= NEGLIGIBLE * np.abs(U.factor).max()] = 0.0  # no variance, but for rounding
        if F.any():
            carried.append(Covariance.from_factor(U.name, F, U.kind))
    return carried


def _matrix(L: Array, rows: Iterable[Any], columns: Iterable[Any]) -> xr.DataArray:
    dims = (CONDITION, CONDITION_OTHER)
    return xr.DataArray(L, {CONDITION: list(rows), CONDITION_OTHER: list(columns)}, dims, "L")


def _given(reference: Any, conditions: list[str]) -> xr.DataArray:
    """L as it was given, with names; (condition, condition_other)."""
    if isinstance(reference, xr.DataArray) and {CONDITION, CONDITION_OTHER} == set(reference.dims):
        L = reference.transpose(CONDITION, CONDITION_OTHER)
        return L.assign_coords({dim: L[dim] for dim in L.dims})  # numbers where there are no names
    if isinstance(reference, pd.DataFrame):
        return _matrix(reference.to_numpy(dtype=float), map(str, reference.index), map(str, reference.columns))
    A = np.asarray(reference)
    good = A.ndim == 2 and A.dtype.kind in "iuf" and A.shape[1] == len(conditions)
    do = "give rows of contrasts, with a column for every condition"
    expect(good, f"a matrix with {len(conditions)} columns", f"{type(reference).__name__} of shape {A.shape}", "L", do)
    return _matrix(A.astype(float), [f"contrast_{k + 1}" for k in range(len(A))], conditions)


def _contrasts(effects: Effects, reference: Any) -> xr.DataArray:
    """L for these conditions, in their order."""
    if isinstance(reference, str):
        return contrast_matrix(effects.conditions, reference)
    mine = effects.conditions.tolist()
    L = _given(reference, mine)
    rows, names = ([str(name) for name in L[dim].to_numpy()] for dim in (CONDITION, CONDITION_OTHER))
    if len(mine) == len(names) and mine == [f"{CONDITION}_{r + 1}" for r in range(len(mine))]:  # it has no names
        mine = names
    lacking = sorted({*mine} ^ {*names})
    expect(not lacking, "the conditions of bhat", f"{listed(lacking)} in one of them alone", "L", "match the names")
    A = L.to_numpy().astype(float)[:, [names.index(name) for name in mine]]
    rank = int(np.linalg.matrix_rank(A))
    do = "leave out those that others imply"
    expect(rank == len(A), "independent contrasts", f"{len(A)} of rank {rank}", "L", do)
    return _matrix(A, rows, mine)


def _errors(effects: Effects, A: Array) -> tuple[Array, Array]:
    """Standard errors of contrasts, (effect, contrast), and the correlation of their errors, common where it can be."""
    J = len(effects.B)
    S, size = _relative(effects)
    if not effects.own and _alike(S):
        se, C = _standardise(_covariances(A, S[:1], effects.C))
        return size * se, C[0]
    se, C = np.empty((J, len(A))), np.empty((J, len(A), len(A)))
    for start in range(0, J, ROWS):
        block = slice(start, start + ROWS)
        V = _covariances(A, S[block], _own(effects, block) if effects.own else effects.C)
        se[block], C[block] = _standardise(V)
    return size * se, C


def _relative(effects: Effects) -> tuple[Array, Array]:
    """Standard errors over their mean by effect, and the mean, (effect, 1).

    A missing one is set to the mean; what is made of it is missing, but an effect with one standard error keeps one.
    """
    count = effects.observed.sum(axis=1, keepdims=True)
    total = np.where(effects.observed, effects.S, 0.0).sum(axis=1, keepdims=True)
    size = np.where(count > 0, total / np.maximum(count, 1), 1.0)
    return np.where(effects.observed, effects.S / size, 1.0), size


def _alike(S: Array) -> bool:
    return bool(np.allclose(S, S[0], rtol=1e-12, atol=0.0))


def _own(effects: Effects, block: slice) -> Array:
    """C_j, the identity where a condition is missing: what is made of it is missing, but the rest must be numbers."""
    seen = effects.observed[block]
    return np.where(seen[:, :, None] & seen[:, None, :], effects.C[block], np.eye(seen.shape[1]))


def _covariances(A: Array, S: Array, C: Array) -> Array:
    """V_j = L S_j C S_j L', (effect, contrast, contrast)."""
    H = (A * S[:, None, :]) @ np.linalg.cholesky(C)  # V = H H'
    return np.asarray(H @ H.transpose(0, 2, 1))


def _standardise(V: Array) -> tuple[Array, Array]:
    """Standard errors and correlations."""
    se = np.sqrt(np.diagonal(V, axis1=1, axis2=2))
    C = V / (se[:, :, None] * se[:, None, :])
    diagonal = np.arange(V.shape[1])
    C[:, diagonal, diagonal] = 1.0
    return se, C
