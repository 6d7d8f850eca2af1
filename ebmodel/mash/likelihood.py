"""log p(b_hat_j | component) of effects and components: one decomposition of a covariance serves its whole grid.

With U = F F', the conditions O in which effect j was observed, and the Cholesky factor L of V_O (`Shared` is what
effects with one V_O share):

    W = L^-1 F_O,  W'W = Q diag(d) Q',  x = L^-1 b_hat_O,  y = Q'W'x                     (rank of U, not conditions)
    log N(b_hat_O; 0, V_O + omega^2 U_OO) = log N(b_hat_O; 0, V_O)
        - 1/2 sum_i log(1 + omega^2 d_i) + 1/2 sum_i omega^2 y_i^2 / (1 + omega^2 d_i)

No eigenvalue is divided by, so that U may be singular, and missing conditions are but fewer rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular

from ebmodel.mash import rowwise
from ebmodel.mash.covariances import Covariance
from ebmodel.mash.data import Effects
from ebmodel.model import Array

__all__ = ["CHUNK", "Components", "LogLikelihood", "Piece", "Shared", "pieces", "share"]

LOG_2PI = float(np.log(2.0 * np.pi))
CHUNK = 1024
"""Effects at a time: what is computed of them stays in a cache."""
FEWEST = 4
"""Effects that share V_O for which decomposing it once pays."""


@dataclass(frozen=True, eq=False)
class Components:
    """The components of a mixture, or some of them: the point mass, if it is one, then scales within covariances."""

    covariances: tuple[Covariance, ...]
    """The U that they are made of."""
    covariance: NDArray[np.int64]
    """(component,) which U; -1 for the point mass."""
    omega2: Array
    """(component,) omega^2; 0 for the point mass."""
    conditions: int
    """R."""

    @classmethod
    def of(cls, covariances: Sequence[Covariance], grid: Array, *, pointmass: bool) -> Components:
        """All that covariances and a grid of scales make."""
        which = np.concatenate([[-1] * pointmass, np.repeat(np.arange(len(covariances)), len(grid))])
        omega2 = np.concatenate([[0.0] * pointmass, np.tile(np.square(grid), len(covariances))])
        return cls(tuple(covariances), which.astype(np.int64), omega2, len(covariances[0].factor))

    def take(self, columns: NDArray[np.intp]) -> Components:
        """Some of them, at the positions ``columns`` (k,), with the covariances that they need."""
        which = self.covariance[columns]
        needed, new = np.unique(which[which >= 0], return_inverse=True)
        named = np.full(len(which), -1, dtype=np.int64)
        named[which >= 0] = new
        covariances = tuple(self.covariances[k] for k in needed)
        return Components(covariances, named, self.omega2[columns], self.conditions)

    def __len__(self) -> int:
        return len(self.omega2)

    @cached_property
    def start(self) -> NDArray[np.int64]:
        """(covariance + 1,) where each factor begins among the columns of ``factors``."""
        return np.concatenate([[0], np.cumsum([U.rank for U in self.covariances])]).astype(np.int64)

    @cached_property
    def factors(self) -> Array:
        """Every F side by side, (condition, rank of all); no columns without covariances."""
        return np.ascontiguousarray(np.hstack([np.empty((self.conditions, 0)), *[U.factor for U in self.covariances]]))

    @cached_property
    def spans(self) -> list[tuple[int, slice]]:
        """Covariances and the components that each has, which stand together."""
        edges = np.flatnonzero(np.diff(self.covariance, prepend=-2, append=-2))
        return [(int(self.covariance[a]), slice(int(a), int(b))) for a, b in pairwise(edges)]


class Piece(NamedTuple):
    """Some effects that are treated alike: they share V_O, or each has its own."""

    rows: NDArray[np.int64]
    """(k,) positions of the effects."""
    group: int
    """Number of the V_O that they share; -1 if each has its own."""


@dataclass(frozen=True, eq=False)
class Shared:
    """What effects with one V_O share: its Cholesky factor and, of every U, d and the two rotations."""

    observed: NDArray[np.int64]
    """Conditions O."""
    L: Array
    """V_O = L L'."""
    d: tuple[Array, ...]
    """One (rank,) a covariance."""
    T: Array
    """V_O^-1 F_O Q of all covariances side by side, (observed, rank of all): y = T' b_hat_O."""
    FQ: Array
    """Columns of F Q as rows, (rank of all, condition): b = F Q s, with independent s given b_hat."""

    def constant(self, b: Array) -> Array:
        """log N(b_hat_O; 0, V_O), (effect,)."""
        x = solve_triangular(self.L, b.T, lower=True)
        logdet = np.log(np.diag(self.L)).sum()
        return np.asarray(-0.5 * (np.square(x).sum(axis=0) + len(self.L) * LOG_2PI) - logdet)


def share(V: Array, components: Components) -> Shared:
    """Decompose every U against one V; NaN in V where a condition is missing."""
    observed = np.flatnonzero(~np.isnan(np.diag(V)))
    L = np.linalg.cholesky(V[np.ix_(observed, observed)])
    W = solve_triangular(L, components.factors[observed], lower=True)
    d, start = [], components.start
    T, FQ = np.empty_like(W), np.empty((int(start[-1]), len(V)))
    for k, U in enumerate(components.covariances):
        span = slice(start[k], start[k + 1])
        value, Q = np.linalg.eigh(W[:, span].T @ W[:, span])
        d.append(np.maximum(value, 0.0))
        T[:, span] = W[:, span] @ Q
        FQ[span] = (U.factor @ Q).T
    return Shared(observed, L, tuple(d), solve_triangular(L, T, lower=True, trans="T"), FQ)


def pieces(effects: Effects, size: int = CHUNK) -> list[Piece]:
    """Effects by the V_O that they share, ``size`` at a time; those that share it with few are taken one by one."""
    J = len(effects.B)
    if effects.own or J == 0:
        return _cut(np.arange(J), -1, size)
    if effects.S.strides[0] == 0:  # one standard error a condition, and nothing missing
        return _cut(np.arange(J), 0, size)
    _, inverse, count = np.unique(_fingerprints(effects.S), return_inverse=True, return_counts=True)
    parts = np.split(np.argsort(inverse, kind="stable"), np.cumsum(count)[:-1])
    many = sorted((part for part in parts if len(part) >= FEWEST), key=lambda part: int(part[0]))
    found = [piece for k, part in enumerate(many) for piece in _cut(part, k, size)]
    return [*found, *_cut(np.flatnonzero(count[inverse] < FEWEST), -1, size)]


def _cut(rows: NDArray[np.int64], group: int, size: int) -> list[Piece]:
    return [Piece(rows[first : first + size], group) for first in range(0, len(rows), size)]


def _fingerprints(S: Array) -> NDArray[np.uint64]:
    """A number for every row of standard errors: the same for the same rows, and not (but for 2^-64) for others."""
    bits = np.where(np.isnan(S), np.nan, S).view(np.uint64)  # one NaN for all
    rng = np.random.default_rng(0)
    odd, other = rng.integers(2**62, size=(2, S.shape[1]), dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    mixed = (bits ^ (bits >> np.uint64(29))) * odd
    return np.asarray(((mixed ^ (mixed >> np.uint64(32))) * other).sum(axis=1, dtype=np.uint64))


class LogLikelihood:
    """The matrix of log p(b_hat_j | component), computed when and where it is asked for.

    Its rows are effects in the order of ``order``: those that share V_O stand together.

    Parameters
    ----------
    effects
        The data, on the scale of the model.
    components
        Of the mixture.
    memory
        Bytes that the matrix may take to be kept; a larger one is computed anew whenever it is asked for.
    """

    def __init__(self, effects: Effects, components: Components, memory: float = 1e9) -> None:
        self.effects, self.components = effects, components
        self.shape = len(effects.B), len(components)
        self.pieces = pieces(effects)
        self.keeps = 8.0 * self.shape[0] * self.shape[1] <= memory

    @cached_property
    def order(self) -> NDArray[np.int64]:
        """(row,) which effect each row is."""
        return np.concatenate([piece.rows for piece in self.pieces])

    @cached_property
    def matrix(self) -> Array:
        """All of it, (row, component)."""
        return self._gather(self.components)

    def take(self, columns: NDArray[np.intp]) -> Array:
        """Some components, at the positions ``columns`` (k,), of all effects: (row, k)."""
        return np.take(self.matrix, columns, axis=1) if self.keeps else self._gather(self.components.take(columns))

    def blocks(self) -> Iterator[Array]:
        """All components of rows in order, some rows at a time: (rows, component)."""
        if self.keeps:
            for first in range(0, self.shape[0], CHUNK):
                yield self.matrix[first : first + CHUNK]
            return
        for _, block in evaluate(self.effects, self.components, self.pieces):
            yield block

    def rows(self, rows: NDArray[np.intp]) -> Array:
        """All components of some rows, (len(rows), component)."""
        if self.keeps:
            return self.matrix[rows]
        some = LogLikelihood(self.effects.take(self.order[rows]), self.components, np.inf)
        found = np.empty(some.shape)
        found[some.order] = some.matrix
        return found

    def _gather(self, components: Components) -> Array:
        whole, first = np.empty((self.shape[0], len(components))), 0
        for piece, block in evaluate(self.effects, components, self.pieces):
            whole[first : first + len(piece.rows)] = block
            first += len(piece.rows)
        return whole


def evaluate(effects: Effects, components: Components, parts: Sequence[Piece]) -> Iterator[tuple[Piece, Array]]:
    """Pieces and their log-likelihoods (effect, component)."""
    group, shared, terms = -1, None, None
    for piece in parts:
        if piece.group < 0:
            yield piece, _own(effects, components, piece.rows)
            continue
        if piece.group != group or shared is None or terms is None:
            group = piece.group
            shared = share(effects.V(piece.rows[0]), components)
            terms = _terms(components, shared)
        yield piece, _common(effects.B[piece.rows], components, shared, terms)


def _terms(components: Components, shared: Shared) -> list[tuple[Array, Array]]:
    """Of every span of components omega^2 / (1 + omega^2 d) over 2, (rank, scale), and 1/2 log det(I + omega^2 d)."""
    found = []
    for k, span in components.spans:
        scaled = np.outer(shared.d[k], components.omega2[span]) if k >= 0 else np.empty((0, 1))
        found.append((0.5 * components.omega2[span] / (1.0 + scaled), 0.5 * np.log1p(scaled).sum(axis=0)))
    return found


def _common(B: Array, components: Components, shared: Shared, terms: list[tuple[Array, Array]]) -> Array:
    """Log-likelihoods of effects with one V_O."""
    b = B[:, shared.observed]
    constant = shared.constant(b)[:, None]
    y2 = np.square(b @ shared.T)
    out = np.empty((len(b), len(components)))
    for (k, span), (half, logdet) in zip(components.spans, terms, strict=True):
        out[:, span] = constant - logdet
        if k >= 0:
            out[:, span] += y2[:, components.start[k] : components.start[k + 1]] @ half
    return out


def _own(effects: Effects, components: Components, rows: NDArray[np.int64]) -> Array:
    """Log-likelihoods of effects with their own V_j."""
    some = effects.take(rows)
    out = np.empty((len(rows), len(components)))
    C, diagonal = correlations(some)
    rowwise.log_likelihoods(some.B, some.S, C, diagonal, components.factors, components.start, components.covariance,
                            components.omega2, out)  # fmt: skip
    return out


def correlations(effects: Effects) -> tuple[Array, bool]:
    """C as kernels have it, (effect or 1, condition, condition), and whether it is the identity."""
    C = effects.C if effects.own else effects.C[None]
    return np.ascontiguousarray(C), not effects.own and bool((effects.C == np.eye(len(effects.C))).all())
