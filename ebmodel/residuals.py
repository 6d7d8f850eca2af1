"""Least-squares residuals of every tissue: what the data say of the errors, whatever the prior of the effects is.

With H_t the projection on a tissue's covariates and SNPs over its observed samples, e(t) = (I - H_t) y(t) has no part
of beta(t) in it: under equation (1) e(t) ~ N(0, sigma2 (I - H_t)), independently over t. A `Frame` holds what depends
on the design alone, so that many sets of responses to the same design share it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ebmodel.data import NEGLIGIBLE
from ebmodel.model import Array
from ebmodel.parallel import one_thread

__all__ = ["FEWEST", "Correlation", "Frame", "correlation"]

FEWEST = 10
"""Degrees of freedom that the residuals of two tissues must share to be compared."""


@dataclass(frozen=True, eq=False)
class Frame:
    """The design that residuals are taken from."""

    design: Array
    """(sample, column) covariates and SNPs."""
    observed: NDArray[np.bool_]
    """(sample, tissue)."""

    @cached_property
    @one_thread
    def bases(self) -> list[Array]:
        """Q_t (sample, rank) with H_t = Q_t Q_t' on the tissue's rows, 0 elsewhere."""
        found: dict[bytes, Array] = {}
        unit = self.design / np.maximum(np.linalg.norm(self.design, axis=0), np.finfo(float).tiny)  # whatever its units
        bases = []
        for rows in self.observed.T:
            key = rows.tobytes()
            if key not in found:
                U, s, _ = np.linalg.svd(unit * rows[:, None], full_matrices=False)
                found[key] = U[:, s > NEGLIGIBLE * s.max(initial=0.0)]
            bases.append(found[key])
        return bases

    @cached_property
    def leverage(self) -> Array:
        """(sample, tissue) diagonals of H_t."""
        return np.transpose([np.sum(Q**2, axis=1) for Q in self.bases])

    @cached_property
    def dof(self) -> Array:
        """(tissue,) tr (I - H_t): observed samples less the rank of the design."""
        return np.asarray(self.observed.sum(axis=0) - [float(Q.shape[1]) for Q in self.bases])

    def residuals(self, Y: Array) -> Array:
        """e(t) = (I - H_t) y(t), (sample, tissue), 0 where Y is missing, or nothing is left."""
        y = np.where(self.observed, Y, 0.0)
        E = np.transpose([y[:, t] - Q @ (Q.T @ y[:, t]) for t, Q in enumerate(self.bases)])
        return np.where(self.observed & (self.dof > 0), E, 0.0)

    @cached_property
    def pairs(self) -> tuple[NDArray[np.int64], NDArray[np.int64], Array]:
        """Tissues s < t that share enough samples, and E r_st^2 of independent errors, (pair,) each.

        Over the samples that two tissues share, tr(M_s M_t) / (tr M_s tr M_t), M = I - H restricted to those samples:
        1/dof where all are shared.
        """
        seen = self.observed.astype(float)
        free = (seen - self.leverage).T @ seen  # tr M_s over the samples that t has too
        shared, first, second = seen.T @ seen, [], []
        chance = []
        for s in range(len(free)):
            for t in range(s + 1, len(free)):
                a, b = free[s, t], free[t, s]
                if min(a, b) < FEWEST:
                    continue
                overlap = np.sum((self.bases[s].T @ self.bases[t]) ** 2)
                first.append(s)
                second.append(t)
                chance.append((a + b - shared[s, t] + overlap) / (a * b))
        return np.array(first, dtype=np.int64), np.array(second, dtype=np.int64), np.array(chance)


class Correlation(NamedTuple):
    """How far residuals of different tissues are correlated."""

    pairs: tuple[NDArray[np.int64], NDArray[np.int64]]
    """Positions of the tissues s and t of every pair, (pair,) each."""
    r: Array
    """(pair,) correlation over the samples that both tissues have."""
    excess: float
    """Root mean square correlation beyond what chance gives; nan without pairs."""
    z: float
    """Sum of r^2 less its expectation, in standard errors, as if pairs were independent."""


def correlation(frame: Frame, residuals: Array) -> Correlation:
    """Correlations of residuals (sample, tissue) between tissues that share samples."""
    s, t, chance = frame.pairs
    products, squares = residuals.T @ residuals, (residuals**2).T @ frame.observed
    scale = squares[s, t] * squares[t, s]
    known = scale > 0.0
    s, t, chance = s[known], t[known], chance[known]
    r = products[s, t] / np.sqrt(scale[known])
    if len(r) == 0:
        return Correlation((s, t), r, np.nan, np.nan)
    beyond = r**2 - chance
    z = float(np.sum(beyond) / np.sqrt(2.0 * np.sum(chance**2)))  # r^2 is about chi-squared on one times its mean
    return Correlation((s, t), r, float(np.sqrt(max(np.mean(beyond), 0.0))), z)
