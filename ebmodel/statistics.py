"""Whitened sufficient statistics: everything above this floor sees these and never n.

Write Sigma0 = S S' for the slab's shape and take the singular value decomposition of X S. With r the rank of X,

    beta(t) = L gamma(t) + null part,      L = S W_r  (p x r),      X L = U D

so that gamma(t) | I(t)=1 ~ N(gamma, eta I_r). For the paper's slab X L = Q has orthonormal columns and gamma = R beta
is the whitened coordinate of the paper's model. Let A_t hold the rows of X L observed in tissue t (after projecting out
that tissue's covariates) and

    A_t'A_t = V_t diag(d_t) V_t',     b_t = V_t'A_t'y_t / d_t  (0 where d_t = 0),     rss_t = |y_t|^2 - sum d_t b_t^2

Then (V_t, d_t, b_t, rss_t, |y_t|^2, n_t) are sufficient. Tissues observed in the same samples share V_t and d_t: they
make one *pattern*. Complete data are one pattern with d = D^2 and V = I (for the paper's slab d = 1, and any V serves).

Tissues may have error variances omega_t sigma2 of their own, equation (E). Responses and design divided by
omega_t^(1/2) have error variance sigma2 and the same effects, so that

    d_t -> d_t/omega_t,     rss_t -> rss_t/omega_t,     |y_t|^2 -> |y_t|^2/omega_t,     b_t as it is

bring the data back to one sigma2 for all (`weigh`); the log density of y_t is theirs less n_t/2 log omega_t. A pattern
is then that of tissues observed in the same samples with the same omega.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ebmodel.data import NEGLIGIBLE, Data, project_out
from ebmodel.errors import InputError, expect, listed
from ebmodel.model import Array, Slab, slab_power
from ebmodel.parallel import one_thread

__all__ = ["Compressed", "Statistics", "Whitened", "Whitening", "compress", "compress_moments", "power_spread",
           "slab_factor", "weigh", "whiten"]  # fmt: skip


class Statistics(NamedTuple):
    """Sufficient statistics of a data set under one slab shape (see the module's text)."""

    pattern: NDArray[np.int64]
    """(tissue,) which pattern of observed samples a tissue has."""
    V: Array
    """(pattern, rank, rank) eigenvectors of A_t'A_t, in columns."""
    d: Array
    """(pattern, rank) eigenvalues of A_t'A_t, >= 0."""
    b: Array
    """(tissue, rank) least-squares coordinates V_t'A_t'y_t / d_t."""
    n: Array
    """(tissue,) degrees of freedom: observed samples less the rank of the covariates."""
    yy: Array
    """(tissue,) |y_t|^2."""
    rss: Array
    """(tissue,) residual sum of squares of tissue t's own least-squares fit."""


class Whitening(NamedTuple):
    """The linear map between effects and whitened coordinates: beta = L gamma, X L = U D."""

    L: Array
    """(snp, rank)."""
    null: Array
    """(snp, k) factor of the slab's covariance in directions that X does not see."""
    to_gamma: Array
    """(rank, snp): gamma = (X L)^+ X beta."""
    D: Array
    """(rank,) singular values of X L: 1 for the paper's slab."""

    def whiten(self, beta: Array) -> Array:
        """gamma such that X L gamma = X beta, shape (rank,)."""
        return self.to_gamma @ beta

    def unwhiten(self, gamma: Array) -> Array:
        """beta = L gamma, shape (..., snp)."""
        return gamma @ self.L.T


class Compressed(NamedTuple):
    """Data reduced to r x r pieces in the singular basis of X = P diag(s) U'; n is gone, the slab has not come yet."""

    U: Array
    """(snp, rank) right singular vectors of X, covariates projected out over all samples."""
    s: Array
    """(rank,) singular values of X."""
    pattern: NDArray[np.int64]
    """(tissue,) which pattern of observed samples a tissue has."""
    R: Array
    """(pattern, rank, rank): R_k'R_k = P_k'P_k, with P_k the pattern's rows of P, its covariates projected out."""
    c: Array
    """(tissue, rank): R_k'c_t = P_k'y_t."""
    rank: NDArray[np.int64]
    """(pattern,) rank of R_k."""
    n: Array
    """(tissue,) as in `Statistics`."""
    yy: Array
    """(tissue,) |y_t|^2."""
    rss: Array
    """(tissue,) |y_t|^2 - |c_t|^2."""


@one_thread
def compress(data: Data) -> Compressed:
    """Reduce validated data once: one singular value decomposition of X, and one for each pattern of missingness.

    Raises
    ------
    InputError
        If a SNP is a combination of the covariates, or no tissue has more samples than covariates.
    """
    (X,), _ = project_out(data.C, data.X)
    gone = np.linalg.norm(X, axis=0) <= NEGLIGIBLE * np.linalg.norm(data.X, axis=0)
    got = f"{listed(data.snps[gone])}, a combination of them"
    expect(not gone.any(), "SNPs that vary beside the covariates", got, data.where[0], "leave the SNP out")
    P, s, Ut = np.linalg.svd(X, full_matrices=False)
    r = _rank(s, X.shape)
    P, s, U = P[:, :r], s[:r], Ut[:r].T

    masks, pattern = data.patterns()
    m, k = len(data.tissues), len(masks)
    R, c, rank = np.zeros((k, r, r)), np.zeros((m, r)), np.zeros(k, dtype=np.int64)
    n, yy, rss = np.zeros(m), np.zeros(m), np.zeros(m)
    for i, rows in enumerate(masks):
        members = np.flatnonzero(pattern == i)
        (P_i, y), dof = project_out(data.C[rows], P[rows], data.Y[np.ix_(rows, members)])
        n[members] = dof
        if dof == 0:
            continue
        Q, R_i, q = _reduce(P_i, dof)
        rank[i], R[i, :q] = q, R_i
        c[members, :q] = y.T @ Q
        yy[members] = np.sum(y**2, axis=0)
        rss[members] = np.sum((y - Q @ c[members, :q].T) ** 2, axis=0) if dof > q else 0.0
    if not n.any():
        got = f"at most {data.observed.sum(axis=0).max()} for {len(data.covariates)} covariates"
        raise InputError("a tissue with more samples than covariates", got, data.where[1], "use fewer covariates")
    return Compressed(U, s, pattern, R, c, rank, n, yy, rss)


def _reduce(P: Array, dof: int) -> tuple[Array, Array, int]:
    """Q (sample, q), R (q, rank) and q with P = Q R, Q'Q = I and q the rank of P, at most ``dof``."""
    if len(P) >= P.shape[1]:
        Q, R = np.linalg.qr(P)
        if np.abs(np.diag(R)).min(initial=1.0) > CLEARLY and dof >= P.shape[1]:
            return Q, R, P.shape[1]
    Q, sv, Vt = np.linalg.svd(P, full_matrices=False)  # tells the rank, and takes four times as long
    q = min(_rank(sv, P.shape, scale=1.0), dof)
    return Q[:, :q], sv[:q, None] * Vt[:q], q


@one_thread
def compress_moments(XX: Array, gram: Array, cross: Array, yy: Array, n: Array) -> Compressed:
    """Reduce data of which only products are at hand: those of `compress`, to half as many digits.

    Parameters
    ----------
    XX : (snp, snp)
        X'X over all samples, which gives the slab its shape.
    gram : (tissue, snp, snp)
        X_t'X_t over a tissue's samples, its covariates projected out.
    cross : (tissue, snp)
        X_t'y_t.
    yy, n : (tissue,)
        |y_t|^2, and degrees of freedom.
    """
    squares, U = np.linalg.eigh(XX)
    r = int(np.sum(squares > squares[-1] * len(XX) * SQUARED))
    s, U = np.sqrt(squares[::-1][:r]), np.ascontiguousarray(U[:, ::-1][:, :r])
    A = U / s  # P = X A
    products = A.T @ gram @ A  # P_t'P_t = W diag(l) W' = R'R with R = diag(l^1/2) W'
    value, W = np.linalg.eigh(products)
    value, W = value[:, ::-1], W[:, :, ::-1]
    seen = (value > r * SQUARED) & (np.arange(r) < n[:, None])
    root = np.sqrt(np.where(seen, value, 0.0))
    R = root[:, :, None] * W.transpose(0, 2, 1)
    with np.errstate(divide="ignore"):
        c = np.einsum("ti,tij->tj", cross @ A, W) * np.where(seen, 1.0 / root, 0.0)
    rss = yy - np.sum(c**2, axis=1)
    rss = np.where(rss > ROUNDING * yy, rss, 0.0)
    return Compressed(U, s, np.arange(len(n)), R, c, seen.sum(axis=1), n, yy, rss)


SQUARED = 1e-10
"""Relative eigenvalue of a matrix of products below which a direction is not seen: 1e-5 as a singular value."""
ROUNDING = 1e-12
"""Share of |y|^2 below which a residual sum of squares is rounding, where it is a difference of products."""
CLEARLY = 1e-4
"""Columns of P whose part that earlier ones do not explain is longer than this are independent; P's are of length 1."""


type Whitened = tuple[Statistics, Whitening]
"""Data under a slab, and how its coordinates are made."""


@one_thread
def whiten(compressed: Compressed, slab: Slab) -> Whitened:
    """Bring in the slab's shape: statistics in the coordinates where its covariance is eta I.

    Raises
    ------
    InputError
        If a matrix ``slab`` is not (snp, snp), symmetric and positive definite.
    """
    U, s = compressed.U, compressed.s
    S = _factor(U, s, slab)
    left, D, Wt = np.linalg.svd((s[:, None] * U.T) @ S, full_matrices=True)  # X S = P (diag(s) U'S)
    r = len(s)
    T = left * D[:r]  # X L = P T
    L, null = S @ Wt[:r].T, S @ Wt[r:].T
    to_gamma = (left / D[:r]).T @ (s[:, None] * U.T)

    # A_t = X_t L has A_t'A_t = (R T)'(R T); all patterns at once
    rotate, sv, Vt = np.linalg.svd(compressed.R @ T)
    V = np.ascontiguousarray(Vt.transpose(0, 2, 1))
    sv = np.where(np.arange(r) < compressed.rank[:, None], sv, 0.0)
    d, of = sv**2, compressed.pattern
    with np.errstate(divide="ignore"):
        b = np.einsum("ti,tij->tj", compressed.c, rotate[of]) * np.where(sv > 0.0, 1.0 / sv, 0.0)[of]
    stats = Statistics(compressed.pattern, V, d, b, compressed.n, compressed.yy, compressed.rss)
    return stats, Whitening(np.ascontiguousarray(L), np.ascontiguousarray(null), to_gamma, D[:r])


def weigh[Reduced: (Compressed, Statistics)](reduced: Reduced, omega: Array | None) -> Reduced:
    """The statistics of y_t/omega_t^(1/2), before or after the slab has come: error variance sigma2 in every tissue.

    ``omega`` (tissue,) is `Params.relative_variance`; None leaves all as it is.
    """
    if omega is None:
        return reduced
    omega = np.asarray(omega, dtype=float)
    _, first, pattern = np.unique(np.stack([reduced.pattern, omega]), axis=1, return_index=True, return_inverse=True)
    old, w = reduced.pattern[first], omega[first]  # of the new patterns
    common: dict[str, Any] = {"pattern": pattern.astype(np.int64), "yy": reduced.yy / omega, "rss": reduced.rss / omega}
    if isinstance(reduced, Statistics):
        return reduced._replace(**common, V=reduced.V[old], d=reduced.d[old] / w[:, None])
    R, c = reduced.R[old] / np.sqrt(w)[:, None, None], reduced.c / np.sqrt(omega)[:, None]
    return reduced._replace(**common, R=R, c=c, rank=reduced.rank[old])


def slab_factor(X: Array, slab: Slab) -> Array:
    """S with Sigma0 = S S', shape (snp, k), for genotypes X (sample, snp)."""
    _, s, Ut = np.linalg.svd(X, full_matrices=False)
    r = _rank(s, X.shape)
    return _factor(Ut[:r].T, s[:r], slab)


def _factor(U: Array, s: Array, slab: Slab) -> Array:
    """S with Sigma0 = S S': the one place where the slab's shape enters."""
    p = len(U)
    if np.ndim(slab) == 2:
        Sigma0 = np.asarray(slab, dtype=float)
        fits = Sigma0.shape == (p, p) and np.allclose(Sigma0, Sigma0.T)
        expect(fits, f"a symmetric {p} x {p} matrix", f"shape {Sigma0.shape}", "slab", "give Sigma0 for all SNPs")
        value, vector = np.linalg.eigh(Sigma0)
        definite = bool(value[0] > p * np.finfo(float).eps * value[-1])
        expect(definite, "a positive definite matrix", f"eigenvalue {value[0]:.3g}", "slab", "add a small diagonal")
        return vector * np.sqrt(value)
    alpha = slab_power(slab)
    if alpha == 0.0:
        return np.eye(p)
    scale = 1.0 if slab == "g" else float(np.mean(s**2))
    return U * (s**2 / scale) ** (-alpha / 2)  # (X'X/scale)^(-alpha/2) on X's row space


def power_spread(s: Array, alpha: Any) -> Any:
    """lambda with X beta(t) = P theta(t), theta(t) ~ N(., eta diag(lambda)): s^2 (s^2/scale)^-alpha, shape (rank,).

    The basis P of X = P diag(s) U' serves every power alpha of the slab (as in `whiten`), also a symbolic one.
    """
    return s**2 * (s**2 / (s**2).mean()) ** -alpha


def _rank(singular_values: Array, shape: tuple[int, ...], scale: float | None = None) -> int:
    largest = singular_values.max(initial=0.0) if scale is None else scale
    return int(np.sum(singular_values > largest * max(shape) * np.finfo(float).eps))
