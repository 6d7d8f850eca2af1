"""Error variances of their own: eps(t) ~ N(0, sigma2_t I_n), sigma2_t = omega_t sigma2, equation (E).

Given omega, responses and design divided by omega_t^(1/2) have one error variance for all (`ebmodel.statistics.weigh`),
and EM raises the likelihood as ever. Given tau1, gamma and eta, sigma2_t concerns tissue t alone. With v = sigma2_t it
is the maximum of

    f(v) = log(tau1 g1 + tau0 g0)
    log g1 = -1/2 [ n log(2 pi v) + sum log(1 + eta d/v) + rss/v + sum d (b-a)^2/(v + eta d) ]
    log g0 = -1/2 [ n log(2 pi v) + |y|^2/v ]

I(t) summed out: no expectation is held fixed. Every maximum of f lies between rss/n and the largest of |y|^2/n,
rss/(n-r) and d (b-a)^2. Where the slab's mean is latent (b-a)^2 is its expectation, and f the tissue's part of the
bound. EM and these maximisations alternate; none lowers the likelihood, or the bound.

A tissue whose SNPs span its samples has rss = 0: its data do not tell errors from effects, and as v -> 0 its spike may
become infinitely sharp beside a slab that fits exactly. Such tissues are refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ebmodel import em
from ebmodel.data import NEGLIGIBLE
from ebmodel.errors import expect, listed
from ebmodel.kernel import kernel
from ebmodel.likelihood import LOG_2PI, log_product, rotate
from ebmodel.model import Array
from ebmodel.parallel import one_thread
from ebmodel.starts import active_sets
from ebmodel.statistics import Compressed, Statistics, weigh, whiten

__all__ = [
    "EQUAL",
    "UNEQUAL",
    "Choice",
    "Place",
    "check_own_variance",
    "jacobian",
    "learn_variances",
    "own_variances",
    "residual_variances",
    "search",
    "settle",
]

EQUAL, UNEQUAL = "equal", "unequal"
"""The words of `ebmodel.fit`'s ``errors``."""
ENOUGH = 1e-3
"""The search is over when a round of it gains less."""
STEPS = 8
"""Most steps of EM between two updates of the variances."""
STAGES = ((1, 20, 0.1), (6, 6, 1e-2), (500, 1, 0.0))
"""Rounds of EM and variances, how many places go on after them, and a gain below which a place need not go on."""
SAME = 1e-2
"""Places are the same when no tissue's responsibility differs by more."""


class Choice(NamedTuple):
    """What is chosen before the search at given variances: the slab's shape, and what was learned on the way."""

    slab: Any
    """As `ebmodel.Params` has it."""
    starts: Array
    """(start, tissue) further responsibilities to start from."""
    note: str = ""
    """What there is to say of the choice; it joins the fit's status."""
    kept: int = 1
    """SNPs whose scale a sparse slab keeps."""


class Place(NamedTuple):
    """Where the search is: variances, parameters, and what follows from them."""

    omega: Array
    """(tissue,) of mean 1, weighted by n_t; 1 in a tissue without data."""
    state: em.State
    """theta given omega."""
    T: Array
    """(tissue,) responsibilities."""
    value: float
    """log p(Y), or the bound on it."""


def check_own_variance(tissues: NDArray[Any], where: str, compressed: Compressed) -> None:
    """Refuse a tissue whose own error variance cannot be told.

    Raises
    ------
    InputError
        If the SNPs span a tissue's samples, or explain its responses exactly.
    """
    spanned = (compressed.n > 0) & (compressed.n <= compressed.rank[compressed.pattern])
    exact = (compressed.n > 0) & (compressed.rss <= NEGLIGIBLE**2 * compressed.yy)
    wanted, do = "in every tissue more samples than SNPs", "leave them out, use fewer SNPs, or errors='equal'"
    expect(not spanned.any(), wanted, f"too few in {listed(tissues[spanned])}", where, do)
    got = f"an exact fit by the SNPs in {listed(tissues[exact])}"
    expect(not exact.any(), "responses with noise", got, where, do)


def residual_variances(compressed: Compressed) -> Array:
    """omega (tissue,) from the tissues' own least squares, each with one degree of freedom of all of them together."""
    n, rss = compressed.n, compressed.rss
    if not rss.any():
        return np.ones(len(n))
    free = n - compressed.rank[compressed.pattern]
    pooled = rss.sum() / free.sum()
    return _normalised((rss + pooled) / (free + 1.0), n)[0]


def jacobian(omega: Array | None, n: Array) -> float:
    """Log density of the responses less that of responses divided by omega_t^(1/2): -1/2 sum n_t log omega_t."""
    return 0.0 if omega is None else -0.5 * float(n @ np.log(np.asarray(omega, dtype=float)))


@one_thread
def learn_variances(
    compressed: Compressed,
    choose: Callable[[Compressed], Choice],
    kind: int,
    n_starts: int,
    seed: int,
    tol: float,
    learns: bool = False,
) -> tuple[Place, Choice]:
    """The variances of the largest likelihood that is found, and the slab's shape there.

    The shape is chosen at the variances so far, at first the residuals', and the search over active sets made. If the
    choice ``learns`` from the data both are repeated until they find nothing better.
    """
    omega, last = residual_variances(compressed), -np.inf
    best: tuple[Place, Choice] | None = None
    while True:
        choice = choose(weigh(compressed, omega))
        stats, _ = whiten(compressed, choice.slab)
        starts = [active_sets(weigh(stats, omega), n_starts, seed), choice.starts]
        found = search(stats, omega, np.vstack(starts if best is None else [*starts, best[0].T]), kind, tol)
        if best is None or found.value > best[0].value:
            best = found, choice
        if not learns or found.value < last + ENOUGH:
            return best
        omega, last = found.omega, found.value


@one_thread
def search(stats: Statistics, omega: Array, starts: Array, kind: int, tol: float) -> Place:
    """The best of where starts (start, tissue) of responsibilities lead, all from ``omega``.

    Where a start leads depends on the variances that go with it, so they settle together from the beginning; after a
    few rounds only the best go on.
    """
    k, tissues = stats.pattern, np.arange(len(stats.n))
    stats = stats._replace(pattern=tissues, V=stats.V[k], d=stats.d[k])  # a pattern for every tissue, whatever omega
    places = [_place(stats, omega, em.from_responsibilities(_weigh(stats, omega), T, kind)) for T in starts]
    for rounds, most, gain in STAGES:
        places = _best([settle(stats, place, rounds, max(tol, gain)) for place in places], most)
    empty = _normalised(stats.yy / np.maximum(stats.n, 1.0), stats.n)[0]  # no tissue active
    nothing = _place(stats, empty, em.nothing(_weigh(stats, empty), places[0].state))
    return nothing if nothing.value >= places[0].value - tol else places[0]


def _best(places: list[Place], most: int) -> list[Place]:
    """The highest places, one of those that are the same."""
    kept: list[Place] = []
    for place in sorted(places, key=lambda place: -place.value):
        if len(kept) < most and all(np.abs(place.T - other.T).max() > SAME for other in kept):
            kept.append(place)
    return kept


def settle(stats: Statistics, place: Place, rounds: int, tol: float) -> Place:
    """Alternate EM and variances until two rounds in a row gain less than ``tol``, or ``rounds`` are over.

    ``stats`` have a pattern for every tissue.
    """
    calm = 0
    for _ in range(rounds):
        weighed, last = _weigh(stats, place.omega), place.value
        state, _, _ = em.run(weighed, place.state, tol, STEPS)
        omega, sigma2 = _normalised(place.omega * own_variances(weighed, state), stats.n)
        place = _place(stats, omega, state._replace(sigma2=sigma2))
        calm = calm + 1 if place.value - last < max(tol, 1e-15 * abs(last)) else 0
        if calm == 2:
            break
    return place


def _place(stats: Statistics, omega: Array, state: em.State) -> Place:
    T, value = em.expectation(_weigh(stats, omega), state)
    return Place(omega, state, T, float(value) + jacobian(omega, stats.n))


def _weigh(stats: Statistics, omega: Array) -> Statistics:
    """As `weigh`, where every tissue has a pattern."""
    return stats._replace(d=stats.d / omega[:, None], yy=stats.yy / omega, rss=stats.rss / omega)


def _normalised(variance: Array, n: Array) -> tuple[Array, float]:
    """omega, of weighted mean 1, and sigma2; a tissue without data has the mean."""
    sigma2 = float(n @ variance / n.sum())
    return np.where(n > 0, variance / sigma2, 1.0), sigma2


@kernel
def own_variances(stats: Statistics, state: em.State) -> Array:
    """The v of largest f(v) for every tissue, (tissue,); sigma2 where there are no data, or nothing is gained.

    The best of a grid and of the present value, and from there the root of f' next to it.
    """
    a, rank = rotate(stats, state.gamma), stats.d.shape[1]
    spread = state.belief.variance
    best, square = np.empty(len(stats.n)), np.empty(rank)
    for t in range(len(best)):
        k, n = stats.pattern[t], stats.n[t]
        best[t] = state.sigma2
        if n == 0.0:
            continue
        d, high, free = stats.d[k], stats.yy[t] / n, n
        for j in range(rank):
            free -= 1.0 if d[j] > 0.0 else 0.0
            square[j] = (stats.b[t, j] - a[k, j]) ** 2
            if spread.size:
                square[j] += spread[k, j]
            square[j] *= d[j]  # d E (b - a)^2
            high = max(high, square[j])
        low, high = stats.rss[t] / n, max(high, stats.rss[t] / max(free, 1.0))
        step = np.log(high / low) / GRID
        centre = np.log(state.sigma2)
        present = top = _profile(stats, state, t, d, square, centre)[0]
        for i in range(GRID + 1):
            u = np.log(low) + i * step
            value = _profile(stats, state, t, d, square, u)[0]
            if value > top:
                top, centre = value, u
        u = _summit(stats, state, t, d, square, centre, step)
        if _profile(stats, state, t, d, square, u)[0] > present:
            best[t] = np.exp(u)
    return best


GRID = 12
"""Steps of the grid of log v; f has one maximum, or two: a spike's and a slab's."""


@kernel
def _profile(stats: Statistics, state: em.State, t: int, d: Array, square: Array, u: float) -> tuple[float, float]:
    """f(v) of tissue t and its slope in u = log v; ``square`` (rank,) is d (b - a)^2."""
    v, n, yy, rss = np.exp(u), stats.n[t], stats.yy[t], stats.rss[t]
    quadratic, bend = rss / v, rss / v
    for j in range(len(d)):
        x = 1.0 / (v + state.eta * d[j])
        quadratic += square[j] * x
        bend += state.eta * d[j] * x + square[j] * v * x * x
    slab = np.log(state.tau1) - 0.5 * (log_product(d, state.eta / v) + quadratic)
    null = np.log1p(-state.tau1) - 0.5 * yy / v
    most = max(slab, null)
    total = most + np.log(np.exp(slab - most) + np.exp(null - most))
    T = np.exp(slab - total)
    slope = 0.5 * (T * bend + (1.0 - T) * yy / v - n)
    return total - 0.5 * n * (LOG_2PI + u), slope


@kernel
def _summit(stats: Statistics, state: em.State, t: int, d: Array, square: Array, centre: float, step: float) -> float:
    """log v at the maximum of f next to ``centre``, uphill of it and at most a ``step`` away; Illinois method."""
    _, rise = _profile(stats, state, t, d, square, centre)
    other = centre + step if rise > 0.0 else centre - step
    _, fall = _profile(stats, state, t, d, square, other)
    side = 0
    for _ in range(100):
        if abs(rise) < FLAT * stats.n[t] or abs(other - centre) < FLAT:
            break
        x = 0.5 * (centre + other)  # where the other end lies beyond a valley
        if rise * fall < 0.0:
            x = (rise * other - fall * centre) / (rise - fall)
        _, slope = _profile(stats, state, t, d, square, x)
        if slope * rise > 0.0:
            centre, rise = x, slope
            fall *= 0.5 if side == 1 else 1.0
            side = 1
        else:
            other, fall = x, slope
            rise *= 0.5 if side == -1 else 1.0
            side = -1
    return centre


FLAT = 1e-9
"""Slopes for each response, and differences of log v, below this are none."""
