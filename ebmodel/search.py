"""The maximum that is the maximum: EM from many starts, the best kept, its boundary made exact."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ebmodel import em
from ebmodel.data import NEGLIGIBLE
from ebmodel.errors import InputError, expect, listed
from ebmodel.mean import FREE, HIERARCHICAL, ZERO
from ebmodel.model import Array
from ebmodel.parallel import one_thread
from ebmodel.statistics import Compressed, Statistics

__all__ = ["Search", "check_bounded", "maximise"]


@dataclass(frozen=True)
class Search:
    """How the parameters were found: what the optimiser did and why it stopped."""

    loglik: float
    """log p(Y), or the bound on it where the slab's mean is latent."""
    trace: Array
    """(iteration,) the same after every step of the winning start."""
    starts: Array
    """(start,) what each start ended at."""
    converged: bool
    """Whether the winning start gained less than ``tol`` within ``max_iter`` steps."""
    status: str
    """Why it stopped, and every boundary that the parameters lie on."""


@one_thread
def maximise(
    stats: Statistics,
    starts: Array,
    tol: float,
    max_iter: int,
    kind: int = FREE,
    known: em.State | None = None,
) -> tuple[em.State, Search]:
    """Run EM from every start (start, tissue) of responsibilities and keep the largest log p(Y), or bound on it.

    ``kind`` is what the slab's mean is (`ebmodel.mean`). With ``known`` parameters q(gamma) alone is sought.
    """
    climbs = _climb(stats, starts, tol, max_iter, kind, known)
    values = np.array([climb.trace[-1] for climb in climbs])
    best = climbs[int(values.argmax())]
    state, trace, converged = best.state, best.trace, best.converged
    if known is not None:
        return state, Search(float(trace[-1]), trace, values, converged, "at known parameters")
    for equal in (_least_norm, em.nothing):
        other = equal(stats, state)
        value = float(em.expectation(stats, other)[1])
        if other is not state and value >= trace[-1] - tol:
            state, trace = other, np.append(trace, value)
    status = _status(stats, state, converged, max_iter)
    return state, Search(float(trace[-1]), trace, values, converged, status)


@dataclass
class _Climb:
    """One start's way up; starts that meet go on as one."""

    state: em.State
    trace: Array
    converged: bool = False


FIRST_STEPS = 5
"""EM steps before starts are compared for the first time; doubled from one comparison to the next."""
SAME = 1e-2
"""Starts are at the same place when no tissue's responsibility, nor its share of all of them, differs by more."""


def _climb(
    stats: Statistics, starts: Array, tol: float, max_iter: int, kind: int, known: em.State | None
) -> list[_Climb]:
    """EM from every start until it has converged. Most meet within a few steps: from there on they are run once."""
    learn = known is None
    if known is None:
        first = [em.from_responsibilities(stats, T, kind) for T in starts]
    else:
        first = [em.maximisation(stats, T, known, learn) for T in starts]
    climbs = [_Climb(state, np.empty(0)) for state in first]
    distinct, steps = climbs, FIRST_STEPS
    leader = {id(climb): climb for climb in climbs}
    while any(not climb.converged and len(climb.trace) < max_iter for climb in distinct):
        for climb in distinct:
            left = max_iter - len(climb.trace)
            if not climb.converged and left > 0:
                seen = min(len(climb.trace), 1)  # a run's trace begins where the last one's ended
                climb.state, trace, climb.converged = em.run(stats, climb.state, tol, min(steps, left) + seen, learn)
                climb.trace = np.append(climb.trace, trace[seen:])
        distinct = _merge(stats, distinct, leader)
        steps *= 2
    return [_last(climb, leader) for climb in climbs]


def _merge(stats: Statistics, climbs: list[_Climb], leader: dict[int, _Climb]) -> list[_Climb]:
    """One climb, the highest, for each place that some have reached; ``leader`` notes who goes on for whom."""
    order = sorted(climbs, key=lambda climb: -climb.trace[-1])
    T = np.array([em.expectation(stats, climb.state)[0] for climb in order])
    where = np.hstack([T, T / np.maximum(T.sum(axis=1, keepdims=True), np.finfo(float).tiny)])
    kept: list[int] = []
    for i, climb in enumerate(order):
        near = np.abs(where[kept] - where[i]).max(axis=1, initial=0.0) < SAME
        if near.any():
            leader[id(climb)] = order[kept[int(near.argmax())]]
        else:
            kept.append(i)
    return [order[i] for i in kept]


def _last(climb: _Climb, leader: dict[int, _Climb]) -> _Climb:
    while leader[id(climb)] is not climb:
        climb = leader[id(climb)]
    return climb


def check_bounded(
    tissues: NDArray[Any], where: str, compressed: Compressed, stats: Statistics, kind: int = FREE
) -> None:
    """Refuse data for which the likelihood has no maximum, or does not depend on the genotypes.

    ``tissues`` are their names and ``where`` is what the expression is called, for the message; ``kind`` is what the
    slab's mean is: zero can be told from eta in one tissue, and cannot fit any response exactly.

    Raises
    ------
    InputError
        If fewer than two tissues have data (beta and eta cannot be told apart), a common beta fits every response
        exactly (sigma2 -> 0), or the SNPs span all samples of every tissue while d = 1, so that X says nothing.
    """
    observed, least = stats.n > 0, 1 if kind == ZERO else 2
    do = "add tissues, or evaluate ebmodel.oracle at known parameters"
    got = f"{observed.sum()} ({listed(tissues[observed])})"
    enough = bool(observed.sum() >= least)
    expect(enough, f"at least {least} tissue{'s' * (least > 1)} with data", got, where, do)
    rank = compressed.rank[stats.pattern]
    d = stats.d[stats.d > 0]
    if bool((rank == stats.n)[observed].all()) and d.max() - d.min() < 1e-8 * d.max():
        fullest = int(stats.n.argmax())
        got = f"{int(stats.n[fullest])} degrees of freedom and {int(rank[fullest])} independent SNPs at most"
        do = "use fewer SNPs (--top N chooses), or slab='independent'"
        where = f"tissue {str(tissues[fullest])!r} of {where}"
        raise InputError("more samples than SNPs in some tissue", got, where, do)
    if stats.rss.sum() <= NEGLIGIBLE**2 * stats.yy.sum():
        gap = compressed.c - np.einsum("tij,j->ti", compressed.R[compressed.pattern], _pooled(compressed))
        common = kind != ZERO and bool(np.sum(gap**2) <= NEGLIGIBLE**2 * stats.yy.sum())
        exact = common or bool((rank < stats.n).any())
        do = "check that expression is not computed from genotypes, or use fewer SNPs"
        expect(not exact, "responses with noise", "an exact fit by the SNPs (sigma2 = 0)", where, do)


def _pooled(compressed: Compressed) -> Array:
    """Least squares for one effect common to all tissues, in the basis of X, shape (rank,)."""
    R = compressed.R[compressed.pattern]
    return np.linalg.lstsq(R.reshape(-1, R.shape[2]), compressed.c.ravel())[0]


def _least_norm(stats: Statistics, state: em.State) -> em.State:
    """The same fit with gamma = 0 in directions that no active tissue observes, where any gamma fits as well."""
    if state.belief.kind != FREE:  # zero there as it is
        return state
    T = em.expectation(stats, state)[0]
    weight = np.bincount(stats.pattern, T, minlength=len(stats.d))[:, None] * stats.d
    value, vector = np.linalg.eigh(np.einsum("kij,kj,klj->il", stats.V, weight, stats.V, optimize=True))
    seen = value > NEGLIGIBLE * max(value[-1], 0.0)
    if seen.all():
        return state
    return state._replace(gamma=vector[:, seen] @ (vector[:, seen].T @ state.gamma))


def _status(stats: Statistics, state: em.State, converged: bool, max_iter: int) -> str:
    notes = ["converged" if converged else f"not converged in {max_iter} steps: raise max_iter"]
    if state.tau1 == 0.0:
        notes.append("boundary tau1 = 0: no tissue active, beta and eta not identified")
    elif state.tau1 == 1.0:
        notes.append("boundary tau1 = 1: every tissue active")
    if state.belief.kind == HIERARCHICAL and state.belief.kappa == 0.0 and state.tau1 > 0.0:
        notes.append("boundary kappa = 0: the slab is centred at zero")
    if state.eta == 0.0 and state.tau1 > 0.0:
        shape = "" if state.belief.kind == HIERARCHICAL else ", and the slab's shape has no say"  # it is beta's too
        notes.append(f"boundary eta = 0: active tissues share one effect{shape}")
    if state.sigma2 < NEGLIGIBLE * stats.yy.sum() / stats.n.sum():
        notes.append("boundary sigma2 = 0: the SNPs explain every response")
    return "; ".join(notes)
