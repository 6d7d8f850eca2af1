"""Covariances U of effects between conditions: what the prior is made of, as factors U = F F'.

A matrix of rank r is kept as F (condition, r), and all that follows works in r dimensions. A condition in which U has
no variance has a row of exact zeros in F: an effect from N(0, U) is exactly zero there, which the local false
discovery rate counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from ebmodel.errors import InputError, expect, listed
from ebmodel.model import Array

__all__ = ["Covariance", "Kind", "canonical", "gather"]

Kind = Literal["canonical", "data-driven", "given"]
"""Where a covariance comes from."""

HETEROGENEITY = (0.25, 0.5, 0.75)
"""Correlations of canonical effects that conditions share in part; mashr's."""
NEGLIGIBLE = 1e-12
"""Relative size of an eigenvalue that is rounding."""


@dataclass(frozen=True, eq=False)
class Covariance:
    """U = F F', a covariance of effects between conditions."""

    name: str
    """By which results refer to it."""
    factor: Array
    """F (condition, rank); rows of exact zeros where U has no variance."""
    kind: Kind = "given"
    """Where it comes from."""

    @property
    def matrix(self) -> Array:
        """U, (condition, condition)."""
        return np.asarray(self.factor @ self.factor.T)

    @property
    def rank(self) -> int:
        """Columns of the factor."""
        return int(self.factor.shape[1])

    @property
    def support(self) -> NDArray[np.int64]:
        """Positions of the conditions in which U has variance, (k,)."""
        return np.flatnonzero((self.factor != 0.0).any(axis=1))

    def normalised(self) -> Covariance:
        """Divide U by its largest diagonal entry, so that scales mean the same for all.

        Returns
        -------
        Covariance
            Of the same name and kind.
        """
        return replace(self, factor=self.factor / np.sqrt((self.factor**2).sum(axis=1).max()))

    @classmethod
    def of(cls, name: str, value: Any, kind: Kind = "given") -> Covariance:
        """Make one from a covariance, or from a factor with fewer columns than rows.

        Parameters
        ----------
        name
            Its name.
        value : (condition, condition) or (condition, rank)
            U or F; a `Covariance` gets the name, and keeps its kind.
        kind
            Where it comes from.

        Returns
        -------
        Covariance
            Not normalised.

        Raises
        ------
        InputError
            As `from_matrix` and `from_factor`.
        """
        if isinstance(value, Covariance):
            return replace(value, name=name)
        array = _array(value, name)
        square = array.ndim == 2 and array.shape[0] == array.shape[1]
        return cls.from_matrix(name, array, kind) if square else cls.from_factor(name, array, kind)

    @classmethod
    def from_factor(cls, name: str, factor: Any, kind: Kind = "given") -> Covariance:
        """Make one from its factor.

        Parameters
        ----------
        name
            Its name.
        factor : (condition, rank) or (condition,)
            F in U = F F'; one column may be a vector.
        kind
            Where it comes from.

        Returns
        -------
        Covariance
            Not normalised.

        Raises
        ------
        InputError
            If it is no matrix of finite numbers, or zero.
        """
        F = _array(factor, name)
        F = F[:, None] if F.ndim == 1 else F
        expect(F.ndim == 2, "a matrix", f"{F.ndim} dimensions", f"covariance {name}", "give (condition, rank)")
        expect(bool((F != 0.0).any()), "a covariance with variance", "zeros", f"covariance {name}",
               "leave it out: the point mass stands for it")  # fmt: skip
        if F.shape[1] > F.shape[0]:
            return cls.from_matrix(name, F @ F.T, kind)
        return cls(name, np.ascontiguousarray(F), kind)

    @classmethod
    def from_matrix(cls, name: str, matrix: Any, kind: Kind = "given") -> Covariance:
        """Make one from its matrix; its factor has the columns that its rank needs.

        Parameters
        ----------
        name
            Its name.
        matrix : (condition, condition)
            U, symmetric and positive semi-definite.
        kind
            Where it comes from.

        Returns
        -------
        Covariance
            Not normalised.

        Raises
        ------
        InputError
            If it is not square, symmetric, positive semi-definite and finite, or is zero.
        """
        U, where = _array(matrix, name), f"covariance {name}"
        expect(
            U.ndim == 2 and U.shape[0] == U.shape[1], "a square matrix", U.shape, where, "give (condition, condition)"
        )
        size = np.abs(U).max(initial=0.0)
        expect(size > 0.0, "a covariance with variance", "zeros", where, "leave it out: the point mass stands for it")
        expect(bool(np.abs(U - U.T).max() <= 1e-8 * size), "a symmetric matrix", "another", where, "symmetrise it")
        alive = np.flatnonzero(np.diag(U) != 0.0)  # elsewhere F's rows are exact zeros
        dead = np.delete(np.arange(len(U)), alive)
        do = "give a covariance: no negative variances"
        expect(not U[dead].any(), "a positive semi-definite matrix", "covariances with a variance of 0", where, do)
        value, vector = np.linalg.eigh((U + U.T)[np.ix_(alive, alive)] / 2.0)
        expect(value[0] >= -1e-8 * value[-1], "a positive semi-definite matrix", f"an eigenvalue of {value[0]:.2g}",
               where, do)  # fmt: skip
        kept = value > NEGLIGIBLE * value[-1]
        F = np.zeros((len(U), int(kept.sum())))
        F[alive] = vector[:, kept] * np.sqrt(value[kept])
        return cls(name, F, kind)


def canonical(conditions: int | Iterable[Any]) -> list[Covariance]:
    """The canonical covariances: interpretable patterns that need no data.

    Parameters
    ----------
    conditions
        Their names, or how many there are.

    Returns
    -------
    list
        ``identity`` (independent effects), one singleton for every condition, by its name (an effect there alone),
        ``equal_effects``, and ``simple_het_1`` to ``simple_het_3`` (effects that correlate by .25, .5 and .75 between
        any two conditions). With one condition they are all the same, and it is ``identity`` alone.
    """
    names = [f"condition_{k + 1}" for k in range(conditions)] if isinstance(conditions, int) else map(str, conditions)
    names = list(names)
    R = len(names)
    one = np.eye(R)
    identity = Covariance("identity", one, "canonical")
    if R == 1:
        return [identity]
    singletons = [Covariance(name, one[:, [r]], "canonical") for r, name in enumerate(names)]
    equal = Covariance("equal_effects", np.ones((R, 1)), "canonical")
    partly = [
        Covariance.from_matrix(f"simple_het_{k + 1}", (1.0 - rho) * one + rho, "canonical")
        for k, rho in enumerate(HETEROGENEITY)
    ]
    return [identity, *singletons, equal, *partly]


def gather(given: Mapping[str, Any] | Iterable[Covariance], conditions: Iterable[Any]) -> list[Covariance]:
    """Check a user's covariances against the conditions, and normalise them.

    Parameters
    ----------
    given
        Covariances, or matrices or factors by name; labelled ones are put into the order of the conditions.
    conditions
        Their names.

    Returns
    -------
    list of Covariance
        In the order given.

    Raises
    ------
    InputError
        If one cannot be used, is for other conditions, or repeats a name.
    """
    conditions = list(conditions)
    if isinstance(given, Mapping):
        every = [Covariance.of(str(name), _ordered(value, conditions, str(name))) for name, value in given.items()]
    else:
        every = list(given)
        strange = [type(one).__name__ for one in every if not isinstance(one, Covariance)]
        expect(not strange, "a mapping of names, or Covariances", listed(strange), "covariances", "name each")
    expect(bool(every), "at least one covariance", "none", "covariances", "give some")
    every = [Covariance.from_factor(one.name, one.factor, one.kind) for one in every]
    for one in every:
        got = f"one of {len(one.factor)}"
        expect(len(one.factor) == len(conditions), f"a covariance of {len(conditions)} conditions", got,
               f"covariance {one.name}", "give one for the conditions of bhat")  # fmt: skip
    names = pd.Index([one.name for one in every])
    twice = names[names.duplicated()].unique()
    expect(len(twice) == 0, "each name once", f"{listed(twice)} more than once", "covariances", "rename one")
    return [one.normalised() for one in every]


def _ordered(value: Any, conditions: Sequence[Any], name: str) -> Any:
    """A labelled matrix in the order of the conditions."""
    if isinstance(value, xr.DataArray) and value.ndim == 2 and all(dim in value.coords for dim in value.dims):
        value = value.to_pandas()
    if not isinstance(value, pd.DataFrame):
        return value
    rows, wanted = [str(one) for one in value.index], [str(one) for one in conditions]
    if set(rows) != set(wanted):
        lacking = sorted(set(wanted) - set(rows)) or sorted(set(rows) - set(wanted))
        got = f"{listed(lacking)} in one of them alone"
        raise InputError("the conditions of bhat", got, f"covariance {name}", "match the names")
    value = value.set_axis(rows, axis=0).loc[wanted]
    columns = [str(one) for one in value.columns]
    return value.set_axis(columns, axis=1)[wanted] if set(columns) == set(wanted) else value


def _array(value: Any, name: str) -> Array:
    try:
        array = np.asarray(value, dtype=float)
    except (TypeError, ValueError) as error:
        raise InputError("numbers", " ".join(str(error).split()), f"covariance {name}", "give a matrix") from error
    expect(bool(np.isfinite(array).all()), "finite numbers", "others", f"covariance {name}", "give a matrix")
    return array
