"""Where the chains start: at modes of the posterior, each chosen in proportion to the mass around it.

The posterior inherits the likelihood's local modes (`ebmodel.starts`), between which NUTS does not travel; a chain that
begins at random may stay for good in one without mass. So candidates climb by variational EM, with q(gamma) = N(mu, S)
beside the responsibilities T,

    S = (sum_t T_t V_t Lambda_t V_t' + I/kappa)^-1,   mu = S sum_t T_t V_t Lambda_t b_t,   Lambda = d/(sigma2 + eta d)
    bound = sum_t log(tau1 e^(E log g1) + tau0 g0) - KL(q(gamma) || N(0, kappa I))

and each chain starts at one of the modes found, drawn with probability proportional to e^bound. Where two modes matter,
chains start in both and R-hat shows that they do not mix: the draws then say how the modes look, not how they weigh.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from scipy.special import expit, softmax

from ebmodel.bayes.models import Problem, resolution
from ebmodel.em import from_responsibilities
from ebmodel.likelihood import log_null
from ebmodel.model import Array
from ebmodel.starts import active_sets
from ebmodel.statistics import Statistics, power_spread, whiten

__all__ = ["Mode", "choose", "find_modes", "modes", "unconstrained", "values"]

CANDIDATES, KEPT = 48, 8
"""Active sets tried, and how many of them climb all the way."""
FIRST, ALL = 6, 60
"""Iterations of every candidate, and of those kept."""
SMALL = 1e-6
"""sigma2 stays above this share of the mean square of Y, also where the SNPs explain every response."""


class Mode(NamedTuple):
    """A mode; ``mean`` is the slab's, gamma in whitened coordinates."""

    bound: float
    tau1: float
    mean: Array
    eta: float
    sigma2: float
    kappa: float


def modes(stats: Statistics, signal: float | None, seed: int) -> list[Mode]:
    """Modes of the posterior, best first.

    Parameters
    ----------
    stats
        Under the slab, or under its likeliest power.
    signal
        kappa / sigma2 in gamma ~ N(0, kappa I); None where kappa is a parameter.
    seed
        Of the random candidates.
    """
    rough = [_climb(stats, _begin(stats, T, signal), T, signal, FIRST) for T in active_sets(stats, CANDIDATES, seed)]
    rough.append(_climb(stats, *_nothing(stats, signal), signal, FIRST))
    rough.sort(key=lambda found: -found[0].bound)
    distinct: dict[bytes, tuple[Mode, Array]] = {}
    for mode, T in rough:
        distinct.setdefault((T > 0.5).tobytes(), (mode, T))
    fine = [_climb(stats, mode, T, signal, ALL)[0] for mode, T in list(distinct.values())[:KEPT]]
    return sorted(fine, key=lambda mode: -mode.bound)


def find_modes(problem: Problem, seed: int) -> list[tuple[Mode, float | None]]:
    """Modes of a problem's posterior, best first, each with its alpha where that is a parameter."""
    hierarchical = problem.mean == "hierarchical"
    ratio = problem.inputs["per_direction"]

    def at(alpha: float | None) -> list[tuple[Mode, float | None]]:
        stats, whitening = problem.whitened if alpha is None else whiten(problem.compressed, alpha)
        signal = None if hierarchical else ratio / float(np.mean(whitening.D**2))
        found = modes(stats, signal, seed)
        return [(mode._replace(mean=whitening.unwhiten(mode.mean)), alpha) for mode in found]

    every = [pair for alpha in ALPHAS for pair in at(alpha)] if problem.learns_alpha else at(None)
    return sorted(every, key=lambda pair: -pair[0].bound)


ALPHAS = (-2.0, -1.0, 0.0, 1.0)
"""Powers of the slab at which modes are sought where alpha is a parameter."""


def choose(found: list[Mode], rng: np.random.Generator) -> int:
    """Which mode, drawn with probability proportional to e^bound among those that differ."""
    bound = np.array([mode.bound for mode in found])
    repeated = np.append(False, np.diff(bound) > -1e-2)
    return int(rng.choice(len(bound), p=softmax(np.where(repeated, -np.inf, bound))))


def values(problem: Problem, mode: Mode, alpha: float | None) -> dict[str, Array]:
    """The mode as every variable that a prior may be put on (`ebmodel.bayes.priors`), ``mean`` holding beta."""
    _, tau1, beta, eta, sigma2, kappa = mode
    inputs, c = problem.inputs, problem.compressed
    if alpha is None:
        strength, gamma = inputs["strength"], inputs["to_gamma"] @ beta
    else:
        spread = power_spread(c.s, alpha)
        strength, gamma = spread.mean(), c.s * (beta @ c.U) / np.sqrt(spread)
    weight = eta * strength / (eta * strength + sigma2), kappa * strength / (kappa * strength + sigma2)
    omega = resolution(len(problem.data.tissues), tau1, eta, sigma2, strength)
    own = {"tau1": tau1, "sigma2": sigma2, "eta": eta, "beta": beta, "gamma": gamma, "kappa": kappa, "alpha": alpha}
    relative = {
        "noise": sigma2 / problem.scale**2,
        "shrinkage": np.clip(weight[0], 0.01, 0.99),
        "spread": np.clip(weight[1], 0.01, 0.99),
        "signal": gamma / np.sqrt(inputs["per_direction"] * sigma2 / strength),
        "z": gamma * np.sqrt(1.0 / kappa + 1.0 / omega),
    }
    return {name: np.asarray(value, dtype=float) for name, value in (own | relative).items() if value is not None}


def unconstrained(model: pm.Model, point: dict[str, Array]) -> Array:
    """A point in the coordinates in which NUTS moves, flat."""
    parts = []
    for rv in model.free_RVs:
        transform, value = model.rvs_to_transforms[rv], point[rv.name]
        if transform is not None:
            value = transform.forward(pt.as_tensor(value), *rv.owner.inputs).eval(mode="FAST_COMPILE")
        parts.append(np.ravel(value))
    flat = np.concatenate(parts)
    return np.where(np.isfinite(flat), flat, 0.0)  # a mode outside a prior's support: start in the middle


def _begin(stats: Statistics, T: Array, signal: float | None) -> Mode:
    """Maximum likelihood given T, off the boundaries."""
    _, gamma, eta, sigma2, _ = from_responsibilities(stats, T)
    sigma2 = max(sigma2, SMALL * float(stats.yy.sum() / stats.n.sum()))
    eta = max(eta, 0.1 * sigma2 / float(stats.d.mean()))
    kappa = float(gamma @ gamma) / len(gamma) + eta / len(T) if signal is None else signal * sigma2
    return Mode(-np.inf, float(np.clip(T.mean(), 0.02, 0.98)), gamma, eta, sigma2, kappa)


def _nothing(stats: Statistics, signal: float | None) -> tuple[Mode, Array]:
    """Hardly a tissue active: gamma is left to its prior."""
    T = np.full(len(stats.n), 0.5 / len(stats.n))
    return _begin(stats, T, signal), T


def _climb(stats: Statistics, mode: Mode, T: Array, signal: float | None, steps: int) -> tuple[Mode, Array]:
    """Variational EM from responsibilities T, ``steps`` times."""
    k, d, b = stats.pattern, stats.d[stats.pattern], stats.b
    rank, Vt = b.shape[1], stats.V.transpose(0, 2, 1)
    for _ in range(steps):
        _, tau1, _, eta, sigma2, kappa = mode
        weight = stats.d / (sigma2 + eta * stats.d)  # Lambda
        total = np.bincount(k, T, minlength=len(weight))
        pooled = np.zeros_like(stats.d)
        np.add.at(pooled, k, T[:, None] * b)
        precision = np.sum((stats.V * (total[:, None] * weight)[:, None, :]) @ Vt, axis=0)
        S = np.linalg.inv(precision + np.eye(rank) / kappa)
        mu = S @ np.sum(stats.V @ (weight * pooled)[..., None], axis=0)[:, 0]
        a = (Vt @ mu)[k]
        spread = np.sum((Vt @ S) * Vt, axis=2)[k]  # var of V'gamma
        length = float(mu @ mu + np.trace(S))  # E |gamma|^2

        # beta(t) latent too: V'gamma(t) | I(t)=1 ~ N(shrunk, variance), gamma's own uncertainty included
        keep = sigma2 / (sigma2 + eta * d)
        shrunk = keep * a + (1.0 - keep) * b
        active = max(T.sum(), 1e-8)
        deviation = ((1.0 - keep) * (b - a)) ** 2 + eta * keep + (1.0 - keep) ** 2 * spread
        deviation = np.where(d > 0, deviation, eta)
        misfit = stats.rss + np.sum(d * ((b - shrunk) ** 2 + eta * keep + keep**2 * spread), axis=1)
        eta = max(float(T @ deviation.sum(axis=1)) / (rank * active), 1e-3 * sigma2 / float(stats.d.mean()))
        squares = float((1.0 - T) @ stats.yy + T @ misfit)
        n, floor = float(stats.n.sum()), SMALL * float(stats.yy.sum() / stats.n.sum())
        if signal is None:
            sigma2, kappa = max(squares / n, floor), length / rank
        else:  # kappa = signal sigma2, so that the prior on gamma has a say in sigma2
            sigma2 = max((squares + length / signal) / (n + rank), floor)
            kappa = signal * sigma2
        tau1 = float(np.clip(T.mean(), 0.02, 0.98))

        log_det = np.sum(np.log1p(eta * d / sigma2), axis=1)
        fit = np.sum(d / (sigma2 + eta * d) * ((b - a) ** 2 + spread), axis=1) + stats.rss / sigma2
        gain = -0.5 * (log_det + fit - stats.yy / sigma2)  # E log g1 - log g0
        odds = np.log(tau1) - np.log1p(-tau1) + gain
        T = expit(odds)
        divergence = 0.5 * ((mu @ mu + np.trace(S)) / kappa - rank + rank * np.log(kappa) - np.linalg.slogdet(S)[1])
        bound = float(np.sum(log_null(stats, sigma2) + np.log1p(-tau1) + np.logaddexp(0.0, odds)) - divergence)
        mode = Mode(bound, tau1, mu, eta, sigma2, kappa)
    return mode, T
