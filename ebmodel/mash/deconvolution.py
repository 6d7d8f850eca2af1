"""Extreme deconvolution (Bovy, Hogg & Roweis 2011): covariances of effects, from estimates with errors.

    b_hat_j | b_j ~ N(b_j, V_j)           in the observed conditions O_j, those that their projections R_j keep
    b_j ~ sum_k pi_k N(0, U_k)            their means are 0 here

fitted by EM to rows with strong effects. A U of rank r is F M F' with F (condition, r) from its start and M = L L', so
that b = F x with x ~ N(0, M), and an EM step, which keeps the column space of U, is one for M. Of b_hat_j only

    A_j = F_O' V_O^-1 F_O,    c_j = F_O' V_O^-1 b_hat_O        (r, r) and (r,)

matter; rows with the same V_O share A, and P and the determinant below. F is scaled to make the mean of A the identity.

    E:  P_j = (I + L'A_j L)^-1,    mu_j = P_j L'c_j            x_j = L u_j,  u_j | b_hat_j, k ~ N(mu_j, P_j)
        log N(b_hat_O; 0, V_O + U_OO) = log N(b_hat_O; 0, V_O) + log|P_j| / 2 + mu_j' L'c_j / 2
        q_jk = pi_k N(b_hat_j; 0, V_j + U_k) / sum_l ...
    M:  pi_k = sum_j q_jk / J,    M_k = L [sum_j q_jk (mu_j mu_j' + P_j) / sum_j q_jk] L'

(their q_ij, b_ij = F L mu, B_ij = F L P L'F'). Where all rows have the same errors and miss nothing, A = I and the
M-step need not take b as latent: given q the likelihood itself is highest at

        M_k = (sum_j q_jk c_j c_j' / sum_j q_jk - I)_+         negative eigenvalues made 0

With ``directions="free"`` U keeps its rank alone: F is all of space, L (condition, r), and M's update becomes that of r
factors, L = argmax of E log p(b_hat, u), or the r largest eigenvalues of the closed form.

No step lowers the likelihood; SQUAREM (Varadhan & Roland 2008) extrapolates pairs of steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cholesky, solve_triangular
from scipy.special import logsumexp

from ebmodel.errors import expect, listed
from ebmodel.mash.covariances import Covariance
from ebmodel.mash.data import Effects
from ebmodel.model import Array
from ebmodel.parallel import one_thread

__all__ = ["Deconvolution", "Directions", "deconvolve"]

Directions = Literal["kept", "free"]
"""Whether a U keeps the column space that it started with, or its rank alone."""

NEGLIGIBLE = 1e-12
"""Relative size of an eigenvalue that is rounding."""
LEAST_LOG_WEIGHT = -50.0
"""Where the logarithm of a weight is held when extrapolating; plain steps may reach 0."""


@dataclass(frozen=True, eq=False)
class Deconvolution:
    """Covariances of effects, refined."""

    covariances: tuple[Covariance, ...]
    """In the order, and with the names, of their starts; of rank 0 where nothing but error was left."""
    weights: Array
    """pi (covariance,)."""
    loglik: float
    """sum_j log sum_k pi_k N(b_hat_j; 0, V_j + U_k)."""
    trace: Array
    """log-likelihood at the start and after the steps (one of every cycle's three is not evaluated)."""
    converged: bool
    """Whether a cycle gained less than was asked for."""
    status: str
    """Why it stopped."""


@one_thread
def deconvolve(
    effects: Effects,
    start: Sequence[Covariance],
    *,
    directions: Directions = "kept",
    tol: float = 1e-6,
    max_iter: int = 1000,
) -> Deconvolution:
    """Refine covariances by extreme deconvolution.

    Parameters
    ----------
    effects
        Rows with strong effects, all of which are used (`ebmodel.mash.datadriven.strong_effects`). Missing cells are
        marginalised.
    start
        Where to begin; their sizes matter, too.
    directions
        ``"kept"``: a covariance of low rank keeps its column space, as in Bovy et al., so that one of rank 1 changes in
        size alone. ``"free"``: it keeps its rank.
    tol
        Gain in log-likelihood per effect, over a cycle of steps, below which to stop: when twice in a row.
    max_iter
        Steps.

    Returns
    -------
    Deconvolution
        Covariances, weights, and how they were found.

    Raises
    ------
    InputError
        If there are no effects or starts, a row observes nothing, a start is of other conditions, or a setting is out
        of range.

    Notes
    -----
    The likelihood has many maxima, and what is found is near the start. EM is slow where errors are large; where they
    differ between rows, a covariance that should lose a dimension loses it at the rate of 1/iterations. Nothing keeps
    U from becoming singular, so that with few rows its small eigenvalues are too small.
    """
    _check(effects, start, directions, tol, max_iter)
    rows = _reduce(effects, start, directions)
    state = State(
        np.full(len(start), 1.0 / len(start)), tuple(_first(space, one) for space, one in _pairs(rows, start))
    )
    state, trace, converged = _run(rows, state, tol * len(effects.B), max_iter)
    refined = tuple(
        _covariance(one, space.basis @ L) for one, space, L in zip(start, rows.spaces, state.L, strict=True)
    )
    vanished = [one.name for one in refined if one.rank == 0]
    status = "converged" if converged else f"stopped after {max_iter} steps"
    status += f"; nothing but error left to {listed(vanished)}" if vanished else ""
    return Deconvolution(refined, state.pi, float(trace[-1]), trace, converged, status)


class Space(NamedTuple):
    """Where the effects of one covariance lie, b = basis x, and what the rows say of x."""

    basis: Array
    """F (condition, s), scaled."""
    A: Array
    """(group, s, s)."""
    c: Array
    """(effect, s)."""


class Rows(NamedTuple):
    """The data: a space for every covariance, and what does not depend on covariances."""

    spaces: tuple[Space, ...]
    group: NDArray[np.intp]
    """(effect,) rows of a group have the same V_O."""
    null: Array
    """log N(b_hat_O; 0, V_O), (effect,)."""
    free: bool


class State(NamedTuple):
    """Weights, and a root L of every M = L L'."""

    pi: Array
    L: tuple[Array, ...]


class Posterior(NamedTuple):
    """Of x = L u under one covariance: u | b_hat_j ~ N(mu_j, P_g)."""

    mu: Array
    P: Array


def _expectation(rows: Rows, state: State) -> tuple[Array, list[Posterior], float]:
    """E-step: responsibilities q (effect, covariance), posteriors, and the log-likelihood."""
    log_density, posteriors = np.empty((len(rows.null), len(state.pi))), []
    for k, (space, L) in enumerate(zip(rows.spaces, state.L, strict=True)):
        precision = np.eye(L.shape[1]) + L.T @ space.A @ L
        P = np.linalg.inv(precision)
        h = space.c @ L
        mu = h @ P[0] if len(P) == 1 else (P[rows.group] @ h[:, :, None])[:, :, 0]
        log_det = 2.0 * np.log(np.linalg.cholesky(precision).diagonal(axis1=1, axis2=2)).sum(axis=1)
        log_density[:, k] = rows.null - 0.5 * log_det[rows.group] + 0.5 * (mu * h).sum(axis=1)
        posteriors.append(Posterior(mu, P))
    with np.errstate(divide="ignore"):
        joint = np.log(state.pi) + log_density
    total = logsumexp(joint, axis=1, keepdims=True)
    return np.exp(joint - total), posteriors, float(total.sum())


def _maximisation(rows: Rows, state: State, q: Array, posteriors: list[Posterior]) -> State:
    """M-step: weights, and every M given the responsibilities."""
    roots = []
    for k, (space, L) in enumerate(zip(rows.spaces, state.L, strict=True)):
        weight = q[:, k]
        if weight.sum() <= np.finfo(float).tiny:  # no row is its own: nothing is said about it
            roots.append(L)
        elif len(space.A) == 1:
            roots.append(_in_closed_form(space, L, weight))
        elif rows.free and L.shape[1] < L.shape[0]:
            roots.append(_factors(rows, space, weight, posteriors[k]))
        else:
            roots.append(_deconvolved(rows, L, weight, posteriors[k]))
    aligned = tuple(_aligned(new, old) for new, old in zip(roots, state.L, strict=True))
    return State(q.mean(axis=0), aligned)


def _in_closed_form(space: Space, L: Array, weight: Array) -> Array:
    """The root of (sum q c c' / sum q - I)_+, cut to the rank of L; for A = I."""
    moment = (space.c * weight[:, None]).T @ space.c / weight.sum()
    value, vector = np.linalg.eigh(moment)
    kept = slice(len(value) - L.shape[1], None)
    return np.asarray(vector[:, kept] * np.sqrt(np.maximum(value[kept] - 1.0, 0.0)))


def _deconvolved(rows: Rows, L: Array, weight: Array, posterior: Posterior) -> Array:
    """L times a root of sum_j q (mu mu' + P) / sum q."""
    mu, P = posterior
    of_groups = np.bincount(rows.group, weight, len(P))
    second = (mu * weight[:, None]).T @ mu + np.tensordot(of_groups, P, 1)
    return np.asarray(L @ np.linalg.cholesky(second / weight.sum()))


def _factors(rows: Rows, space: Space, weight: Array, posterior: Posterior) -> Array:
    """r factors whose loadings are free: L with sum_j A_j L E_j = sum_j q c_j mu_j', E_j = q (mu_j mu_j' + P_j)."""
    mu, P = posterior
    (groups, s, _), r = space.A.shape, mu.shape[1]
    E = np.bincount(rows.group, weight, groups)[:, None, None] * P
    np.add.at(E, rows.group, (mu * weight[:, None])[:, :, None] * mu[:, None, :])
    # vec(A L E) = (A x E) vec(L), rows of L one after the other; E is symmetric
    system = space.A.reshape(groups, -1).T @ E.reshape(groups, -1)
    system = system.reshape(s, s, r, r).transpose(0, 2, 1, 3).reshape(s * r, s * r)
    right = space.c.T @ (mu * weight[:, None])
    # singular where a condition is not observed in rows of this covariance: its loading is then 0
    return np.asarray(np.linalg.lstsq(system, right.ravel())[0].reshape(s, r))


def _aligned(new: Array, old: Array) -> Array:
    """The same M, by the root nearest to the old one: roots are found up to a rotation, and are to be extrapolated."""
    left, _, right = np.linalg.svd(new.T @ old)
    return np.asarray(new @ left @ right)


def _run(rows: Rows, state: State, tol: float, max_iter: int) -> tuple[State, Array, bool]:
    """SQUAREM until two cycles in a row gain less than ``tol``."""
    q, posteriors, loglik = _expectation(rows, state)
    trace, calm, steps = [loglik], 0, 0
    while steps < max_iter and calm < 2:
        first = _maximisation(rows, state, q, posteriors)
        q, posteriors, loglik_first = _expectation(rows, first)
        second = _maximisation(rows, first, q, posteriors)
        leap = _extrapolate(state, first, second)
        q, posteriors, loglik_leap = _expectation(rows, leap)
        if not loglik_leap >= loglik_first:
            leap = second
            q, posteriors, loglik_leap = _expectation(rows, leap)
        trace += [loglik_first, loglik_leap]
        steps += 2
        calm = calm + 1 if loglik_leap - loglik < max(tol, 1e-15 * abs(loglik)) else 0
        state, loglik = leap, loglik_leap
    return state, np.array(trace), calm == 2


def _extrapolate(zero: State, first: State, second: State) -> State:
    """SQUAREM's leap in log pi and L, with steplength |step| / |change of step| > 1; any L is a root of some M."""
    x0, x1, x2 = _pack(zero), _pack(first), _pack(second)
    step, bend = x1 - x0, x2 - 2.0 * x1 + x0
    if not np.sum(step**2) > np.sum(bend**2) > 0.0:
        return second
    length = np.sqrt(np.sum(step**2) / np.sum(bend**2))
    return _unpack(x0 + 2.0 * length * step + length**2 * bend, second)


def _pack(state: State) -> Array:
    log_pi = np.log(np.maximum(state.pi, np.exp(LEAST_LOG_WEIGHT)))
    return np.concatenate([log_pi, *(L.ravel() for L in state.L)])


def _unpack(x: Array, like: State) -> State:
    K = len(like.pi)
    pi = np.exp(x[:K] - logsumexp(x[:K]))
    parts = np.split(x[K:], np.cumsum([L.size for L in like.L])[:-1])
    return State(pi, tuple(part.reshape(L.shape) for part, L in zip(parts, like.L, strict=True)))


def _reduce(effects: Effects, start: Sequence[Covariance], directions: Directions) -> Rows:
    """Statistics of the rows in the space of every covariance."""
    representative, group = _groups(effects)
    R = effects.B.shape[1]
    free = directions == "free"
    factors = [np.eye(R)] if free else [one.factor for one in start]
    F = np.hstack(factors)
    A, c, null = (
        np.empty((len(representative), F.shape[1], F.shape[1])),
        np.empty((len(group), F.shape[1])),
        -effects.log_scale(),
    )
    ends = np.cumsum(np.bincount(group))[:-1]
    for g, members in enumerate(np.split(np.argsort(group, kind="stable"), ends)):
        j = representative[g]
        O = effects.observed[j]
        root = cholesky(effects.V(j)[np.ix_(O, O)], lower=True)
        whitened = solve_triangular(root, np.hstack([F[O], effects.B[np.ix_(members, O)].T]), lower=True)
        F_white, b_white = whitened[:, : F.shape[1]], whitened[:, F.shape[1] :]
        A[g], c[members] = F_white.T @ F_white, b_white.T @ F_white
        log_det = 2.0 * np.log(root.diagonal()).sum()
        null[members] -= 0.5 * (O.sum() * np.log(2.0 * np.pi) + log_det + (b_white**2).sum(axis=0))
    edges = np.cumsum([0, *(one.shape[1] for one in factors)])
    spaces = []
    for own, low, high in zip(factors, edges, edges[1:], strict=False):
        part = slice(low, high)
        spaces.append(_scaled(own, A[:, part, part], c[:, part], group))
    return Rows(tuple(spaces * len(start) if free else spaces), group, null, free)


def _groups(effects: Effects) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """A row of every group of rows with the same errors, and the group of each row."""
    J = len(effects.B)
    errors = np.where(effects.observed, effects.S, 0.0)  # 0: missing
    if effects.own:
        errors = np.hstack([errors, effects.C.reshape(J, -1)])
    _, representative, group = np.unique(errors, axis=0, return_index=True, return_inverse=True)
    return representative, group


def _scaled(F: Array, A: Array, c: Array, group: NDArray[np.intp]) -> Space:
    """The space in coordinates in which the mean of A over rows is the identity."""
    value, vector = np.linalg.eigh(np.tensordot(np.bincount(group, minlength=len(A)) / len(group), A, 1))
    kept = value > NEGLIGIBLE * value[-1]
    root = vector[:, kept] / np.sqrt(value[kept])
    return Space(F @ root, root.T @ A @ root, c @ root)


def _pairs(rows: Rows, start: Sequence[Covariance]) -> list[tuple[Space, Covariance]]:
    return list(zip(rows.spaces, start, strict=True))


def _first(space: Space, start: Covariance) -> Array:
    """L with basis L = F, of at most as many columns as the space has dimensions."""
    L = np.linalg.lstsq(space.basis, start.factor)[0]
    left, size, _ = np.linalg.svd(L, full_matrices=False)
    return np.asarray(left * size)


def _covariance(start: Covariance, factor: Array) -> Covariance:
    """U = factor factor', of the columns that its rank needs."""
    _, size, right = np.linalg.svd(factor, full_matrices=False)
    needed = size**2 > NEGLIGIBLE * max(size[0] ** 2, np.finfo(float).tiny)
    return replace(start, factor=factor @ right[needed].T, kind="data-driven")


def _check(effects: Effects, start: Sequence[Covariance], directions: str, tol: float, max_iter: int) -> None:
    J, R = effects.B.shape
    expect(J > 0, "rows with strong effects", "none", "effects", "lower the threshold for strong effects")
    expect(len(start) > 0, "covariances to start from", "none", "start", "give some, as of `pca`")
    for one in start:
        expect(len(one.factor) == R, f"{R} conditions", len(one.factor), f"start {one.name}", "match the effects")
    empty = effects.effects[~effects.observed.any(axis=1)]
    expect(len(empty) == 0, "an estimate in every row", f"none of {listed(empty)}", "effects", "leave such rows out")
    known = ("kept", "free")
    expect(directions in known, f"one of {listed(known)}", repr(directions), "directions", "choose one")
    expect(tol >= 0.0, "tol >= 0", tol, "tol", "leave the default")
    expect(max_iter >= 1, "at least one step", max_iter, "max_iter", "leave the default")
