"""Effects, given draws of the weights: their likelihood, their posterior averaged over draws, and draws of them.

Given pi, effects have mash's closed-form posterior, which is linear in P(z_j = p | b_hat_j, pi): averaged over draws it
needs no more than the average of these. Where scales are drawn too, every drawn omega_k^2 U_k is a component, and one
decomposition of U_k serves them all. The variance has two parts,

    Var(b_j | b_hat) = E Var(b_j | b_hat, pi) + Var E(b_j | b_hat, pi),

over draws of pi; the second is what a fit that takes its weights for known leaves out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.special import logsumexp

from ebmodel.labels import CONDITION, EFFECT
from ebmodel.mash import rowwise
from ebmodel.mash.covariances import Covariance
from ebmodel.mash.data import Effects
from ebmodel.mash.likelihood import Components, correlations, evaluate, pieces, share
from ebmodel.mash.posterior import Moments
from ebmodel.model import Array
from ebmodel.parallel import one_thread

if TYPE_CHECKING:
    from ebmodel.mash.bayes import Problem

__all__ = ["Coordinates", "coordinates", "draw_effects", "log_densities", "log_likelihood", "recover"]

CONDITIONED = 400
"""Draws at which the effects' conditional posterior is computed where it is not linear in an average over draws."""
CELLS = 2_000_000
"""Numbers of one array of components' moments: effects, or draws, are taken as many at a time as fit."""


# Effects under components ---------------------------------------------------------------------------------------------


@one_thread
def log_densities(effects: Effects, components: Components) -> Array:
    """log p(b_hat_j | component), (component, effect), on the scale of the model."""
    found = np.empty((len(components), len(effects.B)))
    for piece, block in evaluate(effects, components, pieces(effects)):
        found[:, piece.rows] = block.T
    return found


class Coordinates(NamedTuple):
    """Effects in the eigenbases of all U, side by side; one row of d and FQ for all effects where they share V.

    Symbols of `ebmodel.mash.likelihood`. Its functions are given their scales and never keep d and y of all effects; a
    sampler that changes scales at every step, and draws whose scales differ by effect, need them as arrays.
    """

    d: Array
    """(effect or 1, rank of all)."""
    y: Array
    """(effect, rank of all)."""
    FQ: Array
    """(effect or 1, rank of all, condition): b = F Q s, s_i | b_hat ~ N(c_i y_i, c_i), c = w^2 / (1 + w^2 d)."""
    spans: list[slice]
    """Of every U, its part of the rank of all."""


@one_thread
def coordinates(effects: Effects, covariances: Sequence[Covariance]) -> Coordinates:
    """Decompose every U against every V_j."""
    components = Components.of(covariances, np.empty(0), pointmass=False)
    (J, R), rank, parts = effects.B.shape, int(components.start[-1]), pieces(effects)
    common = all(piece.group == 0 for piece in parts)
    rows = 1 if common else J
    d, y, FQ = np.empty((rows, rank)), np.empty((J, rank)), np.empty((rows, rank, R))
    for piece in parts:
        for alike in [piece.rows] if piece.group >= 0 else piece.rows[:, None]:
            shared = share(effects.V(alike[0]), components)
            where = slice(0, 1) if common else alike
            d[where], FQ[where] = np.concatenate(shared.d), shared.FQ
            y[alike] = effects.B[alike][:, shared.observed] @ shared.T
    spans = [slice(a, b) for a, b in zip(components.start[:-1], components.start[1:], strict=True)]
    return Coordinates(d, y, FQ, spans)


def _means(effects: Effects, components: Components) -> Array:
    """E(b_j | b_hat_j, component), (component, effect, condition)."""
    at = coordinates(effects, components.covariances)
    found = np.zeros((len(components), *effects.B.shape))
    for k, span in components.spans:
        if k >= 0:
            omega2, of_k = components.omega2[span, None, None], at.spans[k]
            c = omega2 / (1.0 + omega2 * at.d[:, of_k])
            FQ = np.broadcast_to(at.FQ, (len(at.y), *at.FQ.shape[1:]))[:, of_k]
            found[span] = np.einsum("ljr,jrc->ljc", c * at.y[:, of_k], FQ)
    return found


def _variable(problem: Problem, omega: Array) -> Components:
    """Of scales that are drawn, (draw, covariance), every one a component: draws within covariances."""
    null, K = [0] * problem.pointmass, len(problem.covariances)
    which = np.concatenate([np.full(len(null), -1), np.repeat(np.arange(K), len(omega))])
    omega2 = np.concatenate([null, np.square(omega).T.ravel()])
    return Components(problem.covariances, which, omega2, problem.effects.B.shape[1])


def _log_joint(problem: Problem, pi: Array, omega: Array) -> Array:
    """log pi_p + log p(b_hat_j | p) at draws with their own scales, (draw, component, effect)."""
    log_L, null = log_densities(problem.effects, _variable(problem, omega)), int(problem.pointmass)
    D, K = omega.shape
    by_draw = np.broadcast_to(log_L[:null], (D, null, log_L.shape[1])), log_L[null:].reshape(K, D, -1).swapaxes(0, 1)
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(pi)[:, :, None] + np.concatenate(by_draw, axis=1))


@one_thread
def log_likelihood(problem: Problem, pi: Array, omega: Array | None) -> Array:
    """log p(b_hat_j | weights), (draw, effect), on the original scale; arguments as of `recover`."""
    log_scale = problem.effects.log_scale()
    if omega is None:
        relative, most = problem.relative
        return np.asarray(np.log(pi @ relative) + most - log_scale)
    size = max(1, CELLS // (len(pi[0]) * len(log_scale)))
    some = (slice(first, first + size) for first in range(0, len(pi), size))
    return np.concatenate([logsumexp(_log_joint(problem, pi[s], omega[s]), axis=1) for s in some]) - log_scale


# Posteriors averaged over draws ---------------------------------------------------------------------------------------


@one_thread
def recover(problem: Problem, pi: Array, omega: Array | None) -> xr.Dataset:
    """Posterior of the effects averaged over draws.

    Parameters
    ----------
    problem
        With the effects that are wanted.
    pi : (draw, component)
        Weights.
    omega : (draw, covariance)
        Scales; None on the grid.

    Returns
    -------
    Dataset
        ``mean``, ``sd``, ``lfsr``, ``lfdr``, ``negative``, ``positive`` (effect, condition), as of a fit, and
        ``left_out``, the share of the variance that comes from not knowing the weights. Where scales are drawn,
        `CONDITIONED` draws are averaged over.
    """
    (J, R), components = problem.effects.B.shape, len(pi[0]) if omega is None else len(pi[0]) * CONDITIONED
    size = max(1, CELLS // (max(components, CONDITIONED) * R))
    parts = [_averaged(problem.take(slice(first, first + size)), pi, omega) for first in range(0, J, size)]
    mean, variance, less, more, zero, between = (np.concatenate(part) for part in zip(*parts, strict=True))
    scale = problem.effects.scale
    moments = Moments(scale * mean, scale * np.sqrt(variance), less, more, zero)
    variables = {name: getattr(moments, name) for name in ("mean", "sd", "lfsr", "lfdr", "negative", "positive")}
    left_out = np.divide(between, variance, out=np.zeros_like(between), where=variance > 0.0)
    variables["left_out"] = np.minimum(left_out, 1.0)
    coords = {EFFECT: problem.effects.effects, CONDITION: problem.effects.conditions}
    return xr.Dataset({name: ((EFFECT, CONDITION), value) for name, value in variables.items()}, coords)


def _averaged(problem: Problem, pi: Array, omega: Array | None) -> tuple[Array, ...]:
    """E b, Var b, P(b < 0), P(b > 0), P(b = 0) and Var E(b | pi), (effect, condition), on the scale of the model."""
    effects = problem.effects
    components, w, given = _on_grid(problem, pi) if omega is None else _with_scales(problem, pi, omega)
    sums = tuple(np.zeros(effects.B.shape) for _ in range(5))
    C, diagonal = correlations(effects)
    # a mixture as any other once its posterior weights are known, be they averages
    rowwise.moments(effects.B, effects.S, C, diagonal, components.factors, components.start, components.covariance,
                    components.omega2, np.ascontiguousarray(w.T), *sums)  # fmt: skip
    return *sums, given.var(axis=0)


def _on_grid(problem: Problem, pi: Array) -> tuple[Components, Array, Array]:
    """Components, E P(z_j = p | b_hat, pi) (component, effect), and E(b | b_hat, pi) at some of the draws."""
    (L, _), components, kept = problem.relative, problem.components, _spaced(len(pi))
    f = pi @ L  # (draw, effect)
    w = L * (pi.T @ (1.0 / f)) / len(pi)
    # sum_p pi_p L_jp E(b_j | b_hat_j, p) / f_j
    given = np.tensordot(pi[kept], L[:, :, None] * _means(problem.effects, components), 1) / f[kept, :, None]
    return components, w, given


def _with_scales(problem: Problem, pi: Array, omega: Array) -> tuple[Components, Array, Array]:
    """Same, at some of the draws, where scales are drawn: every draw has components of its own."""
    kept, null, J = _spaced(len(pi)), int(problem.pointmass), len(problem.effects.B)
    components = _variable(problem, omega[kept])
    joint = _log_joint(problem, pi[kept], omega[kept])
    of_draw = np.exp(joint - logsumexp(joint, axis=1, keepdims=True))
    of_U = of_draw[:, null:].swapaxes(0, 1)  # (covariance, draw, effect)
    means = _means(problem.effects, components)[null:].reshape(*of_U.shape, -1)
    w = np.concatenate([of_draw[:, :null].sum(axis=0), of_U.reshape(-1, J)]) / len(kept)
    return components, w, np.einsum("kdj,kdjc->djc", of_U, means)


def _spaced(draws: int) -> NDArray[np.int64]:
    return np.unique(np.linspace(0, draws - 1, CONDITIONED).astype(np.int64))


# Draws ----------------------------------------------------------------------------------------------------------------


@one_thread
def draw_effects(problem: Problem, pi: Array, omega: Array | None, rng: np.random.Generator) -> Array:
    """One exact draw of every effect given each draw of the weights, (draw, effect, condition): for few effects.

    Arguments as of `recover`; effects are on the original scale.
    """
    (J, R), null = problem.effects.B.shape, int(problem.pointmass)
    if omega is None:
        joint, omega2 = pi[:, :, None] * problem.relative[0], np.broadcast_to(problem.components.omega2, pi.shape)
    else:
        log_joint = _log_joint(problem, pi, omega)
        joint = np.exp(log_joint - log_joint.max(axis=1, keepdims=True))
        omega2 = np.concatenate([np.zeros((len(pi), null)), np.square(omega)], axis=1)
    below = joint.cumsum(axis=1)
    z = (below[:, :-1] <= rng.random((len(pi), 1, J)) * below[:, -1:]).sum(axis=1)  # (draw, effect)
    which, at = problem.layout[0][z], coordinates(problem.effects, problem.covariances)
    found = np.zeros((len(pi), J, R))
    for k, span in enumerate(at.spans):
        draw, j = np.nonzero(which == k)
        row, w2 = j % len(at.d), omega2[draw, z[draw, j]][:, None]  # all 0 where effects share V
        c = w2 / (1.0 + w2 * at.d[row, span])
        s = c * at.y[j, span] + np.sqrt(c) * rng.standard_normal(c.shape)
        found[draw, j] = np.einsum("ir,irc->ic", s, at.FQ[row, span])
    return found * problem.effects.scale
