"""Estimates, standard errors and the correlation of their errors: validated, named and scaled once, here.

`tidy` is the only door: NumPy, pandas or xarray in, `Effects` out. A missing cell is NaN in ``bhat``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from ebmodel.errors import InputError, expect, listed
from ebmodel.labels import CONDITION, EFFECT
from ebmodel.model import Array

__all__ = ["Effects", "tidy"]

TINY = 1e-8
"""A standard error below this share of its condition's median is no estimate but a division that went wrong."""
TINY_DO = ("refuse", "missing")


@dataclass(frozen=True, eq=False)
class Effects:
    """b_hat_j ~ N_R(b_j, S_j C S_j), one row an effect: plain arrays on the scale of the model, and names.

    With alpha > 0 the model is for b_j / s_j^alpha: B and S are those of the scaled effects.
    """

    B: Array
    """(effect, condition) b_hat / s^alpha, NaN where missing."""
    S: Array
    """(effect, condition) s^(1 - alpha), standard errors of B; NaN where missing. May be a broadcast view."""
    scale: Array
    """(effect, condition) s^alpha, which leads back to the original scale; 1 where missing and s is not known."""
    C: Array
    """Correlation of errors, (condition, condition) for all effects, or (effect, condition, condition)."""
    alpha: float
    """The model is for b / s^alpha."""
    effects: NDArray[Any]
    """(effect,) their names."""
    conditions: NDArray[Any]
    """(condition,) their names."""

    @property
    def observed(self) -> NDArray[np.bool_]:
        """(effect, condition) the cells that are there."""
        return ~np.isnan(self.B)

    @property
    def own(self) -> bool:
        """Whether every effect has its own correlation of errors."""
        return self.C.ndim == 3

    def take(self, rows: Any) -> Effects:
        """Some of the effects, those at ``rows``: positions, a slice, or a mask (effect,)."""
        C = self.C[rows] if self.own else self.C
        return replace(self, B=self.B[rows], S=self.S[rows], scale=self.scale[rows], C=C, effects=self.effects[rows])

    def V(self, j: int) -> Array:
        """V_j = S_j C S_j, (condition, condition); NaN where a condition is missing."""
        return np.asarray(np.outer(self.S[j], self.S[j]) * (self.C[j] if self.own else self.C))

    def log_scale(self) -> Array:
        """sum_r log s_jr^alpha over observed conditions, (effect,): what the scaling adds to a density's logarithm."""
        if self.alpha == 0.0:
            return np.zeros(len(self.B))
        return np.asarray(np.where(self.observed, np.log(self.scale), 0.0).sum(axis=1))


def tidy(bhat: Any, shat: Any = None, V: Any = None, alpha: float = 0.0, tiny: str = "refuse") -> Effects:
    """Validate estimates and standard errors, and put them on the scale of the model.

    Parameters
    ----------
    bhat : (effect, condition)
        Estimates; NumPy, DataFrame or DataArray. NaN where missing.
    shat : (effect, condition), or a number
        Standard errors, positive; matched by name where both have names. 1 if None: ``bhat`` holds z-scores. An
        infinite one says that the cell is missing. With ``alpha`` > 0 its value in a missing cell, if there is one,
        brings the posterior there back to the original scale.
    V : (condition, condition) or (effect, condition, condition)
        Correlation C of the errors: V_j = S_j C S_j; the identity if None. Positive definite.
    alpha
        Effects are modelled as b/s^alpha: 0, effects of like size whatever their standard errors ("EE"); 1, effects
        proportional to them ("EZ"). From 0 to 1.
    tiny
        What becomes of cells whose standard error is 0, or below 1e-8 of its condition's median: ``"refuse"`` or
        ``"missing"``.

    Returns
    -------
    Effects
        With names.

    Raises
    ------
    InputError
        If shapes or names do not match, values are infinite or not numbers, a standard error is negative or missing
        where there is an estimate, or V is not symmetric and positive definite.
    """
    expect(0.0 <= alpha <= 1.0, "0 <= alpha <= 1", alpha, "alpha", "give 0 (EE) or 1 (EZ)")
    expect(tiny in TINY_DO, f"one of {listed(TINY_DO)}", repr(tiny), "tiny", "choose one")
    B, effects, conditions = _table(bhat, "bhat")
    expect(B.size > 0, "at least one effect and one condition", B.shape, "bhat", "give estimates")
    infinite = np.argwhere(np.isinf(B))
    if len(infinite):
        where = _cell("bhat", effects, conditions, infinite[0])
        raise InputError("finite estimates", str(B[tuple(infinite[0])]), where, "make it NaN if it is missing")
    s = _errors(shat, B, effects, conditions)
    B, s = _usable(B, s, effects, conditions, tiny)
    missing = np.isnan(B)
    if alpha == 0.0:
        S, scale = np.where(missing, np.nan, s) if missing.any() else s, np.broadcast_to(1.0, B.shape)
    else:
        unknown = missing & ~(np.isfinite(s) & (s > 0.0))
        known = np.where(unknown, 1.0, s) if unknown.any() else s
        scale = known if alpha == 1.0 else known**alpha
        S = np.broadcast_to(1.0, B.shape) if alpha == 1.0 else known ** (1.0 - alpha)
        S = np.where(missing, np.nan, S) if missing.any() else S
        B = B / scale
    return Effects(B, S, scale, _correlation(V, ~missing, effects, conditions), float(alpha), effects, conditions)


def _table(values: Any, where: str) -> tuple[Array, NDArray[Any], NDArray[Any]]:
    """Values and names of a table of numbers; names are counted where there are none."""
    rows: Any = None
    columns: Any = None
    if isinstance(values, pd.DataFrame):
        rows, columns = values.index.to_numpy(), values.columns.to_numpy()
        where = str(values.attrs.get("source", where))
    elif isinstance(values, xr.DataArray):
        expect(values.ndim == 2, "two dimensions", f"{values.ndim}", where, "give effects x conditions")
        values = oriented(values)
        rows, columns = (values[d].to_numpy() if d in values.coords else None for d in values.dims)
    try:
        if isinstance(values, pd.DataFrame):
            values = values.to_numpy(float, na_value=np.nan)  # pandas' NA too
        elif isinstance(values, np.ma.MaskedArray):
            values = np.ma.filled(values.astype(float), np.nan)
        array = np.asarray(values, dtype=float)
    except (TypeError, ValueError) as error:
        raise InputError("numbers", " ".join(str(error).split()), where, "leave cells empty if missing") from error
    expect(array.ndim == 2, "a table of effects x conditions", f"{array.ndim} dimensions", where, "give two")
    names = [_names(given, count, word) for given, count, word in
             ((rows, array.shape[0], EFFECT), (columns, array.shape[1], CONDITION))]  # fmt: skip
    for labels, word in zip(names, (EFFECT, CONDITION), strict=True):
        twice = pd.Index(labels)[pd.Index(labels).duplicated()].unique()
        expect(len(twice) == 0, f"each {word} once", f"{listed(twice)} more than once", where, "make names unique")
    return array, names[0], names[1]


def oriented(values: xr.DataArray) -> xr.DataArray:
    """Effects first, conditions last, as far as dimensions say which they are."""
    return values.transpose(*sorted(values.dims, key=lambda d: (d == CONDITION) - (d == EFFECT)))


def _names(given: Any, count: int, word: str) -> NDArray[Any]:
    if given is None:
        return np.array([f"{word}_{k + 1}" for k in range(count)])
    return np.array([str(name) for name in given])


def _errors(shat: Any, B: Array, effects: NDArray[Any], conditions: NDArray[Any]) -> Array:
    """Standard errors in the order of the estimates."""
    if shat is None or np.ndim(shat) == 0:
        try:
            value = 1.0 if shat is None else float(shat)
        except (TypeError, ValueError) as error:
            raise InputError("a number or a table", repr(shat), "shat", "give standard errors") from error
        expect(np.isfinite(value) and value > 0.0, "a positive standard error", value, "shat", "give one")
        return np.broadcast_to(value, B.shape)
    s, rows, columns = _table(shat, "shat")
    do = "give a standard error for every estimate"
    expect(s.shape == B.shape, f"a shape of {B.shape}", s.shape, "shat", do)
    s = s if all(s.strides) else s.copy()  # a broadcast view is looked at like any other table
    if isinstance(shat, (pd.DataFrame, xr.DataArray)):
        for wanted, given, word in ((effects, rows, "effects"), (conditions, columns, "conditions")):
            lacking = sorted(set(wanted.tolist()) - set(given.tolist()))
            mine = not _counted(wanted, word) and not _counted(given, word)
            expect(not (mine and lacking), f"the {word} of bhat", f"no {listed(lacking)}", "shat", "match the names")
        if not np.array_equal(rows, effects) and set(rows.tolist()) == set(effects.tolist()):
            s = s[pd.Index(rows).get_indexer(pd.Index(effects))]
        if not np.array_equal(columns, conditions) and set(columns.tolist()) == set(conditions.tolist()):
            s = s[:, pd.Index(columns).get_indexer(pd.Index(conditions))]
    return s


def _counted(names: NDArray[Any], word: str) -> bool:
    """Whether names are those that `_names` gives."""
    return bool(names[0] == f"{word[:-1]}_1" and names[-1] == f"{word[:-1]}_{len(names)}")


def _usable(B: Array, s: Array, effects: NDArray[Any], conditions: NDArray[Any], tiny: str) -> tuple[Array, Array]:
    """Estimates and standard errors once every cell has both or is missing."""
    if s.strides == (0, 0):  # one number for all
        return B, s
    missing = np.isnan(B)

    def refuse(bad: NDArray[np.bool_], expected: str, do: str) -> None:
        if bad.any():
            first = np.argwhere(bad)[0]
            got = f"{s[tuple(first)]:g} ({int(bad.sum())} such)"
            raise InputError(expected, got, _cell("shat", effects, conditions, first), do)

    refuse((s < 0.0) & ~missing, "positive standard errors", "check the column")
    refuse(np.isnan(s) & ~missing, "a standard error for every estimate", "make the estimate NaN if it is missing")
    gone = np.isinf(s) & ~missing  # says nothing about its effect
    counts = ~missing & ~gone & (s > 0.0)
    floor = np.full(B.shape[1], np.finfo(float).tiny)
    for r in np.flatnonzero(counts.any(axis=0)):  # by columns, as a million effects should not be copied
        floor[r] = max(floor[r], TINY * float(np.median(s[counts[:, r], r])))
    small = (s <= floor) & ~missing
    if tiny == "refuse":
        do = "correct it, or give tiny='missing' to leave such cells out"
        refuse(small, "standard errors above 1e-8 of their condition's median", do)
    gone |= small
    if gone.any():  # such a standard error is none to scale by either
        B, s = np.where(gone, np.nan, B), np.where(gone, np.nan, s)
    return B, s


def _correlation(V: Any, observed: NDArray[np.bool_], effects: NDArray[Any], conditions: NDArray[Any]) -> Array:
    """C once it is known to be symmetric and positive definite."""
    J, R = observed.shape
    if V is None:
        return np.eye(R)
    V = square(V, conditions, "V")
    try:
        C = np.asarray(V, dtype=float)
    except (TypeError, ValueError) as error:
        raise InputError("a matrix of numbers", " ".join(str(error).split()), "V", "check it") from error
    expect(C.shape in {(R, R), (J, R, R)}, f"a shape of {(R, R)} or {(J, R, R)}", C.shape, "V",
           "give the correlation of errors between conditions")  # fmt: skip
    if C.ndim == 2:
        _check(C, "V")
        return C
    for j in range(J):
        kept = observed[j]
        if kept.any():
            _check(C[j][np.ix_(kept, kept)], f"V of effect {effects[j]!s}")
    return C


def square(value: Any, conditions: NDArray[Any], where: str) -> Any:
    """A labelled matrix (condition, condition) in the order of the conditions, by both its axes; others as they are."""
    if isinstance(value, xr.DataArray) and value.ndim == 2 and all(d in value.coords for d in value.dims):
        value = value.to_pandas()
    if not isinstance(value, pd.DataFrame) or isinstance(value.columns, pd.RangeIndex):
        return value
    wanted = conditions.tolist()
    named = value.set_axis([str(one) for one in value.index]).set_axis([str(one) for one in value.columns], axis=1)
    if _counted(conditions, "conditions") or len(named) != len(wanted):
        return named.to_numpy()
    strange = sorted(set(named.index) ^ set(wanted)) or sorted(set(named.columns) ^ set(wanted))
    got = f"{listed(strange)} in one of them alone"
    expect(not strange, "the conditions of bhat", got, where, "match the names")
    return named.loc[wanted, wanted]


def _check(C: Array, where: str) -> None:
    expect(bool(np.isfinite(C).all()), "finite correlations", "others", where, "check it")
    asymmetry = float(np.abs(C - C.T).max())
    expect(asymmetry <= 1e-8 * np.abs(C).max(), "a symmetric matrix", f"a difference of {asymmetry:.2g}", where,
           "average it with its transpose")  # fmt: skip
    least = float(np.linalg.eigvalsh(C)[0])
    expect(least > 1e-10 * float(np.trace(C)), "a positive definite matrix", f"an eigenvalue of {least:.2g}", where,
           "drop a condition that repeats others, or shrink it towards the identity")  # fmt: skip


def _cell(where: str, effects: NDArray[Any], conditions: NDArray[Any], place: Any) -> str:
    j, r = place
    return f"{where}, effect {effects[j]!s}, condition {conditions[r]!s}"
