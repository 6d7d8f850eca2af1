"""The slab's shape learned from the data: the likelihood profiled in the power alpha of Sigma0 = (X'X/s)^-alpha.

Every alpha is fitted from its own starts and from the sets of active tissues found at its neighbours, until none has
another to offer, so that the profile does not jump between local maxima. Where the slab's mean is latent the bound on
the likelihood stands for it. The 95 % interval is where 2 (max - profile) stays below the chi-squared quantile: an
interval that leaves out alpha = 1 speaks against the paper's prior covariance eta (X'X)^-1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from scipy.optimize import brentq, minimize_scalar
from scipy.special import gammaincinv

from ebmodel import em
from ebmodel.data import tidy
from ebmodel.errors import expect
from ebmodel.heteroscedastic import EQUAL, UNEQUAL, check_own_variance, residual_variances, search
from ebmodel.labels import ALPHA
from ebmodel.mean import FREE, HIERARCHICAL, ZERO, mean_kind
from ebmodel.model import Array
from ebmodel.search import check_bounded, maximise
from ebmodel.starts import active_sets
from ebmodel.statistics import Compressed, Statistics, compress, weigh, whiten

if TYPE_CHECKING:  # it is made of what this module finds
    from ebmodel.results import Fit

__all__ = ["POWER", "alpha_profile", "best_power", "profile_of"]

POWER = "power"
"""The word for a slab whose power alpha is learned."""
LOW, HIGH = -3.0, 2.0
COARSE = np.array([-1.0, 0.0, 1.0])
"""Where the search for the maximum begins; it goes on beyond an end that is the best so far."""
GRID = np.linspace(LOW, HIGH, 11)
PAPER = 1.0
MOST = 14
FEW = {FREE: MOST, ZERO: 5, HIERARCHICAL: 5}
"""Starts of its own for each alpha, by what the slab's mean is: sets of few tissues and of many (`ebmodel.starts`); the
neighbours' solutions come on top."""
ROUGH = 1e-5
"""Gain at which EM stops while alpha is sought: a fifth of what a hundredth of alpha's standard error makes of it."""
PRECISION = 1e-3
"""Of alpha: its standard error is more than a hundred times that in data of the paper's size."""
NEARLY = 0.05
"""Of alpha in a search near a known one, for many such. What it and the few starts cost is measured in the tests."""
MOST_PARABOLAS = 6
ASIDE, DIGITS = 10.0, 12
SAME = 1e-6
"""Log-likelihoods nearer than this are the same."""
STEP = 0.25
"""First step of a search near a known alpha; it may double while it goes on uphill."""
NEAR = 1.0
"""Off the grid, alpha starts from solutions at most this far away."""


class _Profile:
    """max over the other parameters of log p(Y), or of its bound, as a function of alpha; remembers every solution."""

    def __init__(
        self,
        compressed: Compressed,
        kind: int,
        n_starts: int,
        seed: int,
        tol: float,
        max_iter: int,
        omega: Array | None = None,
    ) -> None:
        self.compressed, self.kind, self.n_starts, self.seed = compressed, kind, n_starts, seed
        self.tol, self.max_iter = tol, max_iter
        self.omega = omega
        """Where the search for error variances of the tissues' own starts; None: they have one."""
        self.solutions: dict[float, tuple[float, Array]] = {}
        """alpha -> the profile and the responsibilities (tissue,) there."""
        self.tried: dict[float, set[bytes]] = {}
        """alpha -> the active sets of others from which EM was run there."""

    def __call__(self, alpha: float) -> float:
        """The profile at alpha: from its own starts the first time, and from what solutions near by have to offer."""
        return self._improve(float(alpha), FEW[self.kind])

    def follow(self, alpha: float) -> float:
        """The profile at alpha between two that are known: from the solutions near by alone."""
        alpha = float(np.round(alpha, DIGITS))
        return self.solutions[alpha][0] if alpha in self.solutions else self._improve(alpha, 0)

    def _improve(self, alpha: float, own: int) -> float:
        """EM from the first ``own`` starts, and from the solutions near by with active sets not yet tried at alpha."""
        near = sorted((abs(other - alpha), other) for other in self.solutions)
        starts = [self.solutions[other][1] for distance, other in near if distance <= NEAR]
        fresh = {np.round(T).tobytes(): T for T in reversed(starts)}  # of those with the same active set the nearest
        fresh = {active: T for active, T in fresh.items() if active not in self.tried.get(alpha, ())}
        first = alpha not in self.solutions
        if fresh or first:
            stats, _ = whiten(self.compressed, alpha)
            own = min(own, self.n_starts) if first else 0
            weighed = weigh(stats, self.omega)
            sets = active_sets(weighed, MOST, self.seed)[:: -(-MOST // own)] if own else np.empty((0, len(stats.n)))
            value, T = self._maximum(stats, np.vstack([sets, *fresh.values()]))
            if first or value > self.solutions[alpha][0]:
                self.solutions[alpha] = value, T
            self.tried.setdefault(alpha, set()).update([*fresh, np.round(self.solutions[alpha][1]).tobytes()])
        return self.solutions[alpha][0]

    def _maximum(self, stats: Statistics, starts: Array) -> tuple[float, Array]:
        """The largest log-likelihood that starts lead to, and the responsibilities there."""
        if self.omega is not None:
            place = search(stats, self.omega, starts, self.kind, self.tol)
            return place.value, place.T
        state, found = maximise(stats, starts, self.tol, self.max_iter, self.kind)
        return found.loglik, em.expectation(stats, state)[0]

    def grid(self, alphas: Array) -> Array:
        """The profile on a grid, every alpha started from its neighbours' solutions too, until none improves."""
        values = np.array([self(alpha) for alpha in alphas])
        while True:
            last, values = values, np.array([self(alpha) for alpha in alphas])
            if (values <= last + SAME).all():
                return values

    def maximum(self) -> float:
        """The alpha of the largest likelihood in [-3, 2]."""
        alphas = COARSE
        values = self.grid(alphas)
        while (end := int(values.argmax())) in (0, len(alphas) - 1) and LOW < alphas[end] < HIGH:
            alphas = np.append(alphas, alphas[0] - 1.0) if end == 0 else np.append(alphas, alphas[-1] + 1.0)
            alphas.sort()
            values = self.grid(alphas)
        ties = np.flatnonzero(values >= values.max() - SAME)  # all alike where eta = 0: alpha has no say
        best = float(alphas[ties[np.abs(alphas[ties] - PAPER).argmin()]])
        if len(ties) == len(alphas):
            return PAPER
        found = self._refine(best)
        candidates = [found, best]
        return max(candidates, key=lambda alpha: self.solutions[alpha][0])

    def uphill(self, alpha: float, T: Array) -> float:
        """The local maximum uphill of ``alpha``, where EM starts from responsibilities T (tissue,)."""
        alpha = float(np.round(np.clip(alpha, LOW, HIGH), DIGITS))
        stats, _ = whiten(self.compressed, alpha)
        self.solutions[alpha] = self._maximum(stats, T[None])
        step, best = STEP, alpha
        while True:
            sides = [float(np.clip(best + side, LOW, HIGH)) for side in (-step, step)]
            top = max((best, *sides), key=lambda alpha: (self.follow(alpha), alpha == best))
            if top == best:
                return self._vertex(sides[0], best, sides[1])
            best, step = float(np.round(top, DIGITS)), min(2.0 * step, NEAR / 2)  # solutions near by are the starts

    def _vertex(self, low: float, best: float, high: float) -> float:
        """The maximum between ``low`` and ``high``, neither better than ``best``, to `NEARLY`: by parabolas."""
        if best in (low, high):  # an end of the range
            return max(self._refine(best, high - low, NEARLY), best, key=self.follow)
        for _ in range(MOST_PARABOLAS):
            left, right = best - low, high - best
            a = left * (self.follow(best) - self.follow(high))
            b = right * (self.follow(best) - self.follow(low))
            move = 0.5 * (right * b - left * a) / (a + b) if a + b > 0.0 else 0.0  # to the parabola's top
            found = float(np.round(np.clip(best + move, low, high), DIGITS))
            if abs(found - best) < NEARLY:
                break
            if self.follow(found) > self.follow(best):
                low, best, high = (low, found, best) if found < best else (best, found, high)
            else:
                low, high = (found, high) if found < best else (low, found)
        return best

    def _refine(self, best: float, step: float = 1.0, precision: float = PRECISION) -> float:
        """The maximum next to the best of a grid with such steps; Brent's parabolas, from what is known already."""
        low, high = max(best - step, LOW), min(best + step, HIGH)
        inner = max(self.follow(low), self.follow(high)) < self.follow(best)
        settings: Any = (
            {"bracket": (low + ASIDE, best + ASIDE, high + ASIDE), "tol": precision / ASIDE}  # relative: away from 0
            if inner
            else {"bounds": (low + ASIDE, high + ASIDE), "method": "bounded", "options": {"xatol": precision}}
        )
        found = minimize_scalar(lambda x: -self.follow(x - ASIDE), **settings)
        return float(np.round(found.x - ASIDE, DIGITS))

    def crossing(self, inside: float, level: float, towards: float) -> float:
        """Where the profile falls to ``level`` between ``inside`` and the end of the range, nan if it does not."""
        while inside != towards:
            outside = float(np.clip(inside + np.copysign(0.25, towards - inside), LOW, HIGH))
            if self.follow(outside) <= level:
                return float(brentq(lambda alpha: self.follow(alpha) - level, inside, outside, xtol=PRECISION))
            inside = outside
        return float("nan")


def best_power(
    compressed: Compressed,
    kind: int,
    n_starts: int,
    seed: int,
    tol: float,
    max_iter: int,
    near: tuple[float, Array] | None = None,
) -> tuple[float, Array, str]:
    """The alpha of largest likelihood, the active sets found on the way (start, tissue), and a note if at an end.

    With the alpha and responsibilities (tissue,) of nearly the same data in ``near`` it is sought uphill of them alone.
    """
    profile = _Profile(compressed, kind, n_starts, seed, max(tol, ROUGH), max_iter)
    alpha = profile.maximum() if near is None else profile.uphill(*near)
    note = (
        f"boundary alpha = {alpha:.0f}: an end of its range" if min(alpha - LOW, HIGH - alpha) < 2 * PRECISION else ""
    )
    return alpha, profile.solutions[alpha][1][None], note


def alpha_profile(
    X: Any,
    Y: Any,
    mean: str = "free",
    covariates: Any = None,
    intercept: bool = False,
    alphas: Any = None,
    level: float = 0.95,
    n_starts: int = 64,
    seed: int = 0,
    tol: float = 1e-9,
    max_iter: int = 5000,
    errors: str = EQUAL,
) -> xr.Dataset:
    """Profile of the likelihood in the slab's power alpha, with its maximum and interval.

    Parameters
    ----------
    X, Y, mean, covariates, intercept, n_starts, seed, tol, max_iter, errors
        As in `ebmodel.fit`; error variances of the tissues' own are maximised over at every alpha.
    alphas : (alpha,), optional
        Where to give the profile; -3, -2.5, ..., 2 if not given. The maximum is always added.
    level
        Confidence of the interval.

    Returns
    -------
    Dataset
        ``loglik`` (alpha), the profile, of the variational bound for ``mean="hierarchical"``; ``estimate``, its
        maximum in [-3, 2]; ``lower`` and ``upper``, where it has fallen by half the chi-squared quantile, nan where the
        interval runs beyond [-3, 2].

    Raises
    ------
    InputError
        As `ebmodel.fit`, or if ``level`` is not inside (0, 1).
    """
    expect(0.0 < level < 1.0, "0 < level < 1", level, "level", "give a confidence such as 0.95")
    expect(errors in (EQUAL, UNEQUAL), "'equal' or 'unequal'", repr(errors), "errors", "choose one")
    data = tidy(X, Y, covariates, intercept=intercept)
    compressed = compress(data)
    kind = mean_kind(mean)
    check_bounded(data.tissues, data.where[1], compressed, whiten(compressed, "independent")[0], kind)
    omega = None
    if errors == UNEQUAL:
        check_own_variance(data.tissues, data.where[1], compressed)
        omega = residual_variances(compressed)
    profile = _Profile(compressed, kind, n_starts, seed, tol, max_iter, omega)
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
        attrs={
            "level": level,
            "range": [LOW, HIGH],
            "of": "bound on the log-likelihood" if kind == HIERARCHICAL else "log-likelihood",
        },
    )


def profile_of(fit: Fit) -> xr.Dataset:
    """`alpha_profile` of a fit's own data, mean and errors."""
    ds, asked = fit.dataset, fit.settings
    return alpha_profile(ds["X"], ds["Y"], asked["mean"], ds.get("covariates"), errors=asked["errors"])
