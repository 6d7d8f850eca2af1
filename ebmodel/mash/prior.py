"""The mixture prior of effects: covariances, the grid of their scales, and the weights.

b_j ~ pi_0 delta_0 + sum_k sum_l pi_kl N_R(0, omega_l^2 U_k)  (Urbut et al., equation 2)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ebmodel.errors import InputError, expect
from ebmodel.mash.covariances import Covariance
from ebmodel.mash.data import Effects
from ebmodel.model import Array

__all__ = ["NULL", "Prior", "check_grid", "scaling_grid"]

NULL = "null"
"""Name of the point mass among components."""
LARGEST = 1e150
"""Above it squares are no numbers."""
STEP = 2.0**0.5
"""Ratio of neighbouring scales; mashr's."""


@dataclass(frozen=True, eq=False)
class Prior:
    """pi_0 delta_0 + sum_kl pi_kl N(0, omega_l^2 U_k)."""

    covariances: tuple[Covariance, ...]
    """U_k, each with a largest diagonal entry of 1."""
    grid: Array
    """(scale,) omega_l, standard deviations in units of the scaled effects."""
    weights: Array
    """(covariance, scale) pi_kl."""
    null: float
    """pi_0."""
    conditions: NDArray[Any]
    """(condition,) their names."""
    alpha: float = 0.0
    """The prior is of b / s^alpha, s being an estimate's standard error."""
    pointmass: bool = True
    """Whether the point mass is a component, be its weight 0."""

    @property
    def flat(self) -> Array:
        """Weights (component,): of the point mass if there is one, then of scales within covariances."""
        return flatten(self.weights, self.null, pointmass=self.pointmass)

    @property
    def names(self) -> list[str]:
        """Names of components: ``null``, then ``covariance.1``, ``covariance.2`` ... by scale."""
        named = [f"{U.name}.{k + 1}" for U in self.covariances for k in range(len(self.grid))]
        return [NULL, *named] if self.pointmass else named

    def matrix(self) -> Array:
        """Give the covariance of an effect under the prior, sum_kl pi_kl omega_l^2 U_k.

        Returns
        -------
        (condition, condition)
            On the scale of b / s^alpha.
        """
        scales = self.weights @ self.grid**2
        return np.asarray(sum(scale * U.matrix for scale, U in zip(scales, self.covariances, strict=True)))


def flatten(weights: Array, null: float, *, pointmass: bool) -> Array:
    """Weights in the order of components."""
    return np.concatenate([[null] * pointmass, np.ravel(weights)])


def scaling_grid(effects: Effects, step: float = STEP) -> Array:
    """Scales from a tenth of the smallest standard error to twice the largest effect that the estimates suggest.

    omega = omega_max step^(-k), k = K ... 0, with omega_max = 2 sqrt(max(B^2 - S^2)), omega_min = min(S)/10 and K the
    first that reaches it; as in mashr.

    Parameters
    ----------
    effects
        The data, on the scale of the model.
    step
        Ratio of neighbouring scales, above 1.

    Returns
    -------
    (scale,)
        Increasing.

    Raises
    ------
    InputError
        If nothing is observed, or ``step`` is not above 1.
    """
    expect(step > 1.0, "a ratio above 1", step, "step", "leave the default")
    seen = effects.observed
    expect(bool(seen.any()), "at least one estimate", "none", "bhat", "give estimates")
    B, S = effects.B[seen], effects.S[seen]
    least = S.min() / 10.0
    excess = (B**2 - S**2).max()
    most = 2.0 * np.sqrt(excess) if excess > 0.0 else 8.0 * least  # no estimate stands out
    steps = int(np.ceil(np.log2(most / least) / np.log2(step)))
    return np.asarray(most * step ** -np.arange(max(steps, 0), -1.0, -1.0))


def check_grid(grid: Any) -> Array:
    """Check scales that a user gives.

    Parameters
    ----------
    grid : (scale,)
        Standard deviations of effects.

    Returns
    -------
    (scale,)
        Increasing.

    Raises
    ------
    InputError
        If they are not positive, finite and distinct.
    """
    do = "give standard deviations of effects"
    try:
        given = np.atleast_1d(np.asarray(grid, dtype=float))
    except (TypeError, ValueError) as error:
        raise InputError("positive scales", repr(grid), "grid", do) from error
    good = given.ndim == 1 and given.size > 0 and bool(((given > 0.0) & (given < LARGEST)).all())
    expect(good, "positive scales", np.array2string(given, threshold=5), "grid", do)
    ordered = np.unique(given)
    expect(len(ordered) == len(given), "distinct scales", "some twice", "grid", do)
    return ordered
