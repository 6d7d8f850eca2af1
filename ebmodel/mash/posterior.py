"""The posterior of effects under a mixture prior: moments, signs, covariances and draws.

Given its component, b_j = F Q s with independent s_i | b_hat_j ~ N(c_i y_i, c_i), c_i = omega^2 / (1 + omega^2 d_i)
(symbols of `ebmodel.mash.likelihood`); components have posterior weights proportional to pi_p p(b_hat_j | p). Local
rates follow Urbut et al.: with Z the posterior probability that b_jr is exactly zero,

    lfdr = Z,   lfsr = Z + min(P(b_jr < 0), P(b_jr > 0)).

Components that the prior gives less than 1e-10 are left out, as in mashr.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ebmodel.mash import rowwise
from ebmodel.mash.data import Effects
from ebmodel.mash.likelihood import Components, Piece, Shared, correlations, evaluate, pieces, share
from ebmodel.mash.prior import Prior
from ebmodel.model import Array
from ebmodel.parallel import one_thread

__all__ = ["Evidence", "Moments", "active", "covariances", "draw", "evidence", "posterior", "responsibilities"]

LEAST = 1e-10
"""Prior weight below which a component is left out; mashr's."""
LOG_10 = float(np.log(10.0))


@dataclass(frozen=True, eq=False)
class Evidence:
    """What the mixture says of every effect as a whole."""

    loglik: Array
    """(effect,) log p(b_hat_j), on the original scale."""
    log10_bf: Array
    """(effect,) log10 of p(b_hat_j | b_j != 0) over p(b_hat_j | b_j = 0); NaN if the prior has no such hypothesis."""


@dataclass(frozen=True, eq=False)
class Moments:
    """Posterior of every effect in every condition, all (effect, condition); on the original scale."""

    mean: Array
    """E(b | b_hat)."""
    sd: Array
    """Sd of b given b_hat."""
    negative: Array
    """P(b < 0)."""
    positive: Array
    """P(b > 0)."""
    lfdr: Array
    """P(b = 0)."""

    @property
    def lfsr(self) -> Array:
        """(effect, condition) probability that the sign with more of it is wrong, zero being no sign."""
        return np.asarray(np.minimum(self.lfdr + np.minimum(self.negative, self.positive), 1.0))


def active(prior: Prior) -> tuple[Components, Array, NDArray[np.intp]]:
    """Components that count, the logarithms of their weights (component,), and which of all they are (component,).

    Among them is the point mass, be its weight 0.
    """
    components, weights = Components.of(prior.covariances, prior.grid, pointmass=prior.pointmass), prior.flat
    kept = np.flatnonzero((weights >= LEAST) | (components.covariance < 0))
    counted = np.where(weights[kept] >= LEAST, weights[kept], 0.0)
    return components.take(kept), np.log(counted, where=counted > 0.0, out=np.full(len(kept), -np.inf)), kept


@one_thread
def posterior(effects: Effects, prior: Prior) -> tuple[Moments, Evidence]:
    """Moments and evidence of all effects.

    Parameters
    ----------
    effects
        The data, on the scale of the model.
    prior
        Fitted, or known.

    Returns
    -------
    Moments, Evidence
        On the original scale.
    """
    components, log_weights, _ = active(prior)
    shape = effects.B.shape
    sums = [np.zeros(shape) for _ in range(5)]  # E b, Var b, P(b < 0), P(b > 0), P(b = 0)
    loglik, bayes = np.empty(shape[0]), np.full(shape[0], np.nan)
    parts = pieces(effects)
    shared = _Shares(effects, components)
    for piece, block in evaluate(effects, components, parts):
        joint = block + log_weights
        loglik[piece.rows] = _logsumexp(joint)
        bayes[piece.rows] = _log10_bf(block, joint, components, log_weights)
        w = _normalised(joint)
        found = [np.zeros((len(piece.rows), shape[1])) for _ in sums]
        _accumulate(effects, components, piece, w, shared, found)
        for whole, part in zip(sums, found, strict=True):
            whole[piece.rows] = part
    mean, variance, less, more, zero = sums
    for rate in (less, more, zero):
        np.minimum(rate, 1.0, out=rate)  # but for rounding
    sd = np.sqrt(variance, out=variance)
    if effects.alpha > 0.0:
        mean *= effects.scale
        sd *= effects.scale
    return Moments(mean, sd, less, more, zero), Evidence(loglik - effects.log_scale(), bayes)


@one_thread
def evidence(effects: Effects, prior: Prior) -> Evidence:
    """Evidence alone: what scoring held-out effects needs."""
    components, log_weights, _ = active(prior)
    loglik, bayes = np.empty(len(effects.B)), np.empty(len(effects.B))
    for piece, block in evaluate(effects, components, pieces(effects)):
        joint = block + log_weights
        loglik[piece.rows] = _logsumexp(joint)
        bayes[piece.rows] = _log10_bf(block, joint, components, log_weights)
    return Evidence(loglik - effects.log_scale(), bayes)


@one_thread
def responsibilities(effects: Effects, prior: Prior) -> Array:
    """Posterior weights of all components of the prior, (effect, component)."""
    components, log_weights, columns = active(prior)
    found = np.zeros((len(effects.B), len(prior.flat)))
    for piece, block in evaluate(effects, components, pieces(effects)):
        joint = block + log_weights
        found[np.ix_(piece.rows, columns)] = _normalised(joint)
    return found


@one_thread
def covariances(effects: Effects, prior: Prior) -> Array:
    """Posterior covariances Cov(b_j | b_hat_j), (effect, condition, condition), on the original scale.

    sum_p w_jp (Sigma_p + m_p m_p') - (sum_p w_jp m_p)(sum_p w_jp m_p)'.
    """
    J, R = effects.B.shape
    found = np.empty((J, R, R))
    for piece, w, components, shared, Y in _apart(effects, prior):
        mean, total = np.zeros((len(w), R)), np.zeros((len(w), R, R))
        before = np.zeros((len(w), 1))
        for p, k in enumerate(components.covariance):
            m, Sigma = np.zeros((len(w), R)), np.zeros((R, R))
            if k >= 0:
                span = slice(components.start[k], components.start[k + 1])
                c = components.omega2[p] / (1.0 + components.omega2[p] * shared.d[k])
                m = (Y[:, span] * c) @ shared.FQ[span]
                Sigma = (shared.FQ[span].T * c) @ shared.FQ[span]
            # joins those before as in `rowwise.accumulate`
            from_mean, after = m - mean, before + w[:, [p]]
            mean += np.divide(w[:, [p]], after, out=np.zeros_like(after), where=after > 0.0) * from_mean
            total += w[:, p, None, None] * (Sigma + from_mean[:, :, None] * (m - mean)[:, None, :])
            before = after
        scale = effects.scale[piece.rows]
        found[piece.rows] = total * scale[:, :, None] * scale[:, None, :]
    return found


@one_thread
def draw(effects: Effects, prior: Prior, draws: int, rng: np.random.Generator) -> Array:
    """Independent draws of b_j | b_hat_j, (draw, effect, condition), on the original scale."""
    J, R = effects.B.shape
    found = np.zeros((draws, J, R))
    for piece, w, components, shared, Y in _apart(effects, prior):
        for row, j in enumerate(piece.rows):
            chosen = np.bincount(rng.choice(len(components), draws, p=w[row] / w[row].sum()), minlength=len(components))
            first = 0
            for p in np.flatnonzero(chosen):
                k, last = components.covariance[p], first + chosen[p]
                if k >= 0:
                    span = slice(components.start[k], components.start[k + 1])
                    c = components.omega2[p] / (1.0 + components.omega2[p] * shared.d[k])
                    s = c * Y[row, span] + np.sqrt(c) * rng.standard_normal((last - first, len(c)))
                    found[first:last, j] = s @ shared.FQ[span]
                first = last
            found[:, j] = found[rng.permutation(draws), j]
    return found * effects.scale


class _Shares:
    """What effects with one V_O share, for the group that was asked for last."""

    def __init__(self, effects: Effects, components: Components) -> None:
        self.effects, self.components = effects, components
        self._group = -1
        self._shared: Shared | None = None

    def of(self, piece: Piece) -> Shared:
        if self._shared is None or piece.group != self._group or piece.group < 0:
            self._group, self._shared = piece.group, share(self.effects.V(int(piece.rows[0])), self.components)
        return self._shared


def _apart(effects: Effects, prior: Prior) -> Iterator[tuple[Piece, Array, Components, Shared, Array]]:
    """Pieces that share V_O, or are of one effect, with the weights of components and y."""
    components, log_weights, _ = active(prior)
    shares = _Shares(effects, components)
    for piece in pieces(effects):
        alone = [piece] if piece.group >= 0 else [Piece(piece.rows[[i]], -1) for i in range(len(piece.rows))]
        for part in alone:
            _, block = next(evaluate(effects, components, [part]))
            joint, shared = block + log_weights, shares.of(part)
            w = _normalised(joint)
            yield part, w, components, shared, effects.B[part.rows][:, shared.observed] @ shared.T


def _accumulate(
    effects: Effects, components: Components, piece: Piece, w: Array, shares: _Shares, sums: Sequence[Array]
) -> None:
    if piece.group < 0:
        some = effects.take(piece.rows)
        C, diagonal = correlations(some)
        rowwise.moments(some.B, some.S, C, diagonal, components.factors, components.start, components.covariance,
                        components.omega2, w, *sums)  # fmt: skip
        return
    shared = shares.of(piece)
    Y = effects.B[piece.rows][:, shared.observed] @ shared.T
    shrink, variance = _tables(components, shared)
    rowwise.moments_shared(Y, w, components.covariance, components.start, shared.FQ, shrink, variance, *sums)


def _tables(components: Components, shared: Shared) -> tuple[Array, Array]:
    """c (component, most ranks), and the posterior variances (component, condition)."""
    rank = max((len(d) for d in shared.d), default=0)
    shrink, variance = np.zeros((len(components), rank)), np.zeros((len(components), shared.FQ.shape[1]))
    for k, span in components.spans:
        if k >= 0:
            omega2 = components.omega2[span][:, None]
            c = omega2 / (1.0 + omega2 * shared.d[k])
            shrink[span, : c.shape[1]] = c
            variance[span] = c @ np.square(shared.FQ[components.start[k] : components.start[k + 1]])
    return shrink, variance


def _normalised(joint: Array) -> Array:
    """Posterior weights of components, which add up to 1 however large the log-likelihoods that they are made of."""
    w = np.exp(joint - joint.max(axis=1, keepdims=True))
    return np.asarray(w / w.sum(axis=1, keepdims=True))


def _logsumexp(values: Array) -> Array:
    most = values.max(axis=1)
    return np.asarray(most + np.log(np.exp(values - most[:, None]).sum(axis=1)))


def _log10_bf(block: Array, joint: Array, components: Components, log_weights: Array) -> Array:
    """log10 [sum_p pi_p p(b_hat | p) / (1 - pi_0)] / p(b_hat | 0), over components p that are not null."""
    null = components.covariance < 0
    if not null.any() or null.all():
        return np.full(len(block), np.nan)
    share_of_rest = _logsumexp(log_weights[~null][None])[0]  # log(1 - pi_0)
    return np.asarray((_logsumexp(joint[:, ~null]) - share_of_rest - block[:, null][:, 0]) / LOG_10)
