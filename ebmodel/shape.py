"""The slab's shape learned from the data: the likelihood profiled in the power alpha of Sigma0 = (X'X/s)^-alpha.

Every alpha is fitted from its own starts and from the active sets found at all other alphas, so that the profile does
not jump between local maxima. Its 95 % interval is where 2 (max - profile) stays below the chi-squared quantile: an
interval that leaves out alpha = 1 speaks against the paper's prior covariance eta (X'X)^-1.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from scipy.optimize import brentq, minimize_scalar
from scipy.special import gammaincinv

from ebmodel import em
from ebmodel.data import tidy
from ebmodel.errors import expect
from ebmodel.labels import ALPHA
from ebmodel.model import Array
from ebmodel.search import check_bounded, maximise
from ebmodel.starts import active_sets
from ebmodel.statistics import Compressed, compress, whiten

__all__ = ["POWER", "alpha_profile", "best_power"]

POWER = "power"
LOW, HIGH = -3.0, 2.0
GRID = np.linspace(LOW, HIGH, 11)
PAPER = 1.0
FEW = 14
"""Starts of its own for each alpha; the others' solutions come on top."""
PRECISION = 1e-3
"""Of alpha: its standard error is more than a hundred times that in data of the paper's size."""
SAME = 1e-6
"""Log-likelihoods nearer than this are the same."""
NEAR = 0.5
"""Off the grid, alpha starts from solutions at most this far away."""


class _Profile:
    """max over tau1, beta, eta, sigma2 of log p(Y), as a function of alpha; remembers every solution."""

    def __init__(self, compressed: Compressed, n_starts: int, seed: int, tol: float, max_iter: int) -> None:
        self.compressed, self.n_starts, self.seed = compressed, n_starts, seed
        self.tol, self.max_iter = tol, max_iter
        self.solutions: dict[float, tuple[float, Array]] = {}

    def __call__(self, alpha: float, near: float = np.inf) -> float:
        """The profile at alpha, also started from the solutions at alphas at most ``near`` away."""
        stats, _ = whiten(self.compressed, float(alpha))
        others = [T for other, (_, T) in self.solutions.items() if abs(other - alpha) <= near]
        own = active_sets(stats, min(FEW, self.n_starts), self.seed) if alpha not in self.solutions else None
        starts = np.vstack([*([own] if own is not None else []), *(T[None] for T in others)])
        state, search = maximise(stats, starts, self.tol, self.max_iter)
        if alpha not in self.solutions or search.loglik > self.solutions[alpha][0]:
            self.solutions[alpha] = search.loglik, em.expectation(stats, state)[0]
        return self.solutions[alpha][0]

    def grid(self, alphas: Array) -> Array:
        """The profile on a grid, every alpha started from the solutions at all others, until none improves."""
        values = np.array([self(alpha) for alpha in alphas])
        while True:
            last, values = values, np.array([self(alpha) for alpha in alphas])
            if (values <= last + SAME).all():
                return values

    def maximum(self) -> float:
        """The alpha of the largest likelihood in [-3, 2]."""
        values = self.grid(GRID)
        ties = np.flatnonzero(values >= values.max() - SAME)  # all alike where eta = 0: alpha has no say
        best = int(ties[np.abs(GRID[ties] - PAPER).argmin()])
        if len(ties) == len(GRID):
            return PAPER
        low, high = GRID[max(best - 1, 0)], GRID[min(best + 1, len(GRID) - 1)]
        found = minimize_scalar(
            lambda alpha: -self(alpha, NEAR), bounds=(low, high), method="bounded", options={"xatol": PRECISION}
        )
        candidates = [float(found.x), float(GRID[best])]
        return max(candidates, key=lambda alpha: self.solutions[alpha][0])

    def crossing(self, inside: float, level: float, towards: float) -> float:
        """Where the profile falls to ``level`` between ``inside`` and the end of the range, nan if it does not."""
        while inside != towards:
            outside = float(np.clip(inside + np.copysign(0.25, towards - inside), LOW, HIGH))
            if self(outside, NEAR) <= level:
                return float(brentq(lambda alpha: self(alpha, NEAR) - level, inside, outside, xtol=PRECISION))
            inside = outside
        return float("nan")


def best_power(compressed: Compressed, n_starts: int, seed: int, tol: float, max_iter: int) -> tuple[float, Array, str]:
    """The alpha of largest likelihood, the active sets found on the way (start, tissue), and a note if at an end."""
    profile = _Profile(compressed, n_starts, seed, tol, max_iter)
    alpha = profile.maximum()
    note = (
        f"boundary alpha = {alpha:.0f}: an end of its range" if min(alpha - LOW, HIGH - alpha) < 2 * PRECISION else ""
    )
    return alpha, profile.solutions[alpha][1][None], note


def alpha_profile(
    X: Any,
    Y: Any,
    covariates: Any = None,
    intercept: bool = False,
    alphas: Any = None,
    level: float = 0.95,
    n_starts: int = 64,
    seed: int = 0,
    tol: float = 1e-9,
    max_iter: int = 5000,
) -> xr.Dataset:
    """Profile of the likelihood in the slab's power alpha, with its maximum and interval.

    Parameters
    ----------
    X, Y, covariates, intercept, n_starts, seed, tol, max_iter
        As in `ebmodel.fit`.
    alphas : (alpha,), optional
        Where to give the profile; -3, -2.5, ..., 2 if not given. The maximum is always added.
    level
        Confidence of the interval.

    Returns
    -------
    Dataset
        ``loglik`` (alpha), the profile; ``estimate``, its maximum in [-3, 2]; ``lower`` and ``upper``, where it has
        fallen by half the chi-squared quantile, nan where the interval runs beyond [-3, 2].

    Raises
    ------
    InputError
        As `ebmodel.fit`, or if ``level`` is not inside (0, 1).
    """
    expect(0.0 < level < 1.0, "0 < level < 1", level, "level", "give a confidence such as 0.95")
    data = tidy(X, Y, covariates, intercept=intercept)
    compressed = compress(data)
    check_bounded(data, compressed, whiten(compressed, "independent")[0])
    profile = _Profile(compressed, n_starts, seed, tol, max_iter)
    best = profile.maximum()
    top = profile(best)
    cut = top - float(gammaincinv(0.5, level))  # half the chi-squared quantile, one degree of freedom
    interval = [profile.crossing(best, cut, LOW), profile.crossing(best, cut, HIGH)]
    grid = np.unique(np.append(GRID if alphas is None else np.asarray(alphas, dtype=float), best))
    return xr.Dataset(
        {
            "loglik": (ALPHA, profile.grid(grid)),
            "estimate": best,
            "lower": interval[0],
            "upper": interval[1],
        },
        coords={ALPHA: grid},
        attrs={"level": level, "range": [LOW, HIGH]},
    )
