"""Kernels for effects whose V_j is their own: everything of one effect before the next.

Where V_j is shared, U is diagonalised once (`ebmodel.mash.likelihood`). Here it would be once for every effect, and a
tridiagonal matrix does as well for less. With W = L^-1 F_O and h = W'x, reflections Z, the first of which turns h to
e_1, bring W'W to

    W'W = Z T Z',  h = |h| Z e_1,  T tridiagonal,
    log det(I + omega^2 T) = sum_i log delta_i,   h'(I + omega^2 W'W)^-1 h = |h|^2 / delta_1,
    delta_r = 1 + omega^2 t_r,   delta_i = 1 + omega^2 t_i - omega^4 e_i^2 / delta_(i+1),

r steps for every scale omega of the grid. Posterior means and variances of b = F s take r steps a condition more.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ebmodel.kernel import kernel
from ebmodel.model import Array

__all__ = ["accumulate", "log_likelihoods", "moments", "moments_shared"]

LOG_2PI = math.log(2.0 * math.pi)
ROOT_HALF = math.sqrt(0.5)
IGNORED = 1e-40
"""A component's posterior weight in one effect that is left out; the tiny rates of strong effects are made of less
than rounding."""


@kernel
def whiten(
    b: Array,
    s: Array,
    C: Array,
    F: Array,
    diagonal: bool,
    L: Array,
    W: Array,
    x: Array,
) -> tuple[int, float]:
    """W = L^-1 F_O and x = L^-1 b_O, into the first rows of ``W`` and ``x``; how many, and log N(b_O; 0, V_O)."""
    R, columns = F.shape
    n = 0
    constant = 0.0
    seen = np.empty(R, np.int64)
    for r in range(R):
        if math.isnan(b[r]):
            continue
        seen[n] = r
        for q in range(columns):
            W[n, q] = F[r, q] / s[r]
        x[n] = b[r] / s[r]
        constant -= math.log(s[r])
        n += 1
    if not diagonal:  # C_O = L L', by rows, and forward substitution as the rows come
        for i in range(n):
            for j in range(i + 1):
                value = C[seen[i], seen[j]]
                for m in range(j):
                    value -= L[i, m] * L[j, m]
                L[i, j] = math.sqrt(value) if i == j else value / L[j, j]
            for j in range(i):
                factor = L[i, j]
                x[i] -= factor * x[j]
                for q in range(columns):
                    W[i, q] -= factor * W[j, q]
            x[i] /= L[i, i]
            for q in range(columns):
                W[i, q] /= L[i, i]
            constant -= math.log(L[i, i])
    for i in range(n):
        constant -= 0.5 * (x[i] * x[i] + LOG_2PI)
    return n, constant


@kernel
def tridiagonalise(G: Array, h: Array, Z: Array, t: Array, e: Array) -> float:
    """Reflect G (r, r), in place, to T with h on the first axis; the same reflections of the columns of Z'. |h|.

    ``Z`` (r, columns) holds rows that are reflected along, none if it has no columns. Of ``t`` and ``e`` the first r
    and r - 1 are filled.
    """
    r = len(h)
    columns = Z.shape[1]
    v, p, g = np.empty(r), np.empty(r), np.empty(columns)
    size = 0.0
    for first in range(-1, max(r - 2, 0)):  # the first reflection is h's, the others those of G's columns
        lo = first + 1
        norm = 0.0
        for i in range(lo, r):
            v[i] = h[i] if first < 0 else G[i, first]
            norm += v[i] * v[i]
        norm = math.sqrt(norm)
        if first < 0:
            size = norm
        rest = 0.0
        for i in range(lo + 1, r):
            rest += v[i] * v[i]
        if rest <= 1e-32 * norm * norm:  # on its axis already
            if first < 0 and v[lo] < 0.0:  # T does not depend on the sign of an axis, Z does
                for i in range(lo + 1, r):
                    G[lo, i] = -G[lo, i]
                    G[i, lo] = -G[i, lo]
                for q in range(columns):
                    Z[lo, q] = -Z[lo, q]
            continue
        # H = I - 2 v v'/|v|^2 takes the vector to +norm on its first axis
        v[lo] = -rest / (v[lo] + norm) if v[lo] > 0.0 else v[lo] - norm
        scale = 2.0 / (v[lo] * v[lo] + rest)
        if first >= 0:
            G[lo, first] = norm
            G[first, lo] = norm
        # G <- H G H on lo..r: G - v w' - w v', with p = scale G v, w = p - scale/2 (v'p) v
        for i in range(lo, r):
            p[i] = 0.0
        for j in range(lo, r):
            factor = scale * v[j]
            for i in range(lo, r):
                p[i] += factor * G[j, i]
        inner = 0.0
        for i in range(lo, r):
            inner += v[i] * p[i]
        inner *= 0.5 * scale
        for i in range(lo, r):
            p[i] -= inner * v[i]
        for i in range(lo, r):
            a, c = v[i], p[i]
            for j in range(lo, r):
                G[i, j] -= a * p[j] + c * v[j]
        for q in range(columns):
            g[q] = 0.0
        for i in range(lo, r):
            for q in range(columns):
                g[q] += v[i] * Z[i, q]
        for i in range(lo, r):
            factor = scale * v[i]
            for q in range(columns):
                Z[i, q] -= factor * g[q]
    for i in range(r):
        t[i] = G[i, i]
        if i + 1 < r:
            e[i] = G[i + 1, i]
    return size


@kernel
def decompose(W: Array, x: Array, n: int, lo: int, hi: int, Z: Array, t: Array, e: Array) -> float:
    """T and |h| of the covariance whose columns of W are lo..hi; reflects the rows of ``Z``."""
    r = hi - lo
    part = W[:n, lo:hi].copy()
    h = np.zeros(r)
    for i in range(n):
        for q in range(r):
            h[q] += part[i, q] * x[i]
    return tridiagonalise(np.dot(part.T, part), h, Z, t, e)


@kernel
def factorise(omega2: float, t: Array, e: Array, r: int, delta: Array) -> float:
    """delta_1 .. delta_r of I + omega^2 T, and the logarithm of its determinant."""
    logdet, product = 0.0, 1.0
    for back in range(r):
        i = r - 1 - back
        delta[i] = 1.0 + omega2 * t[i]
        if back > 0:
            off = omega2 * e[i]
            delta[i] -= off * off / delta[i + 1]
        product *= delta[i]
        if product > 1e100:  # rarely a logarithm, never an overflow
            logdet += math.log(product)
            product = 1.0
    return logdet + math.log(product)


@kernel
def log_likelihoods(
    B: Array,
    S: Array,
    C: Array,
    diagonal: bool,
    F: Array,
    start: NDArray[np.int64],
    covariance: NDArray[np.int64],
    omega2: Array,
    out: Array,
) -> None:
    """log p(b_hat_j | component) of effects with their own V_j.

    Parameters
    ----------
    B, S
        (effect, condition), NaN where missing.
    C
        (effect or 1, condition, condition); not looked at if it is the identity.
    diagonal
        Whether it is.
    F, start
        Factors side by side (condition, rank of all); covariance k has columns start[k] to start[k + 1].
    covariance, omega2
        (component,) which U, -1 for the point mass, and its squared scale; components of one U stand together.
    out
        (effect, component) to fill.
    """
    J, R = B.shape
    columns = F.shape[1]
    L, W, x = np.zeros((R, R)), np.empty((R, columns)), np.empty(R)
    t, e, delta, none = np.empty(R), np.empty(R), np.empty(R), np.empty((R, 0))
    for j in range(J):
        n, constant = whiten(B[j], S[j], C[min(j, len(C) - 1)], F, diagonal, L, W, x)
        before, r, size, d = -2, 0, 0.0, 0.0
        for p in range(len(omega2)):
            k = covariance[p]
            if k < 0:
                out[j, p] = constant
                continue
            if k != before:
                before, lo, r = k, start[k], start[k + 1] - start[k]
                if r == 1:
                    d, size = 0.0, 0.0
                    for i in range(n):
                        d += W[i, lo] * W[i, lo]
                        size += W[i, lo] * x[i]
                else:
                    size = decompose(W, x, n, lo, lo + r, none[:r], t, e)
            if r == 1:
                delta[0] = 1.0 + omega2[p] * d
                logdet = math.log(delta[0])
            else:
                logdet = factorise(omega2[p], t, e, r, delta)
            out[j, p] = constant - 0.5 * logdet + 0.5 * omega2[p] * size * size / delta[0]


@kernel
def accumulate(
    w: float,
    before: float,
    m: Array,
    v: Array,
    mean: Array,
    variance: Array,
    less: Array,
    more: Array,
    zero: Array,
) -> None:
    """Let a component of weight w join those of weight ``before``: mean and variance, P(b < 0), P(b > 0), P(b = 0).

    ``variance`` holds the sum of w (v + (m - mean)^2), updated with the mean (West 1979): of effects that are many
    standard errors large, E b^2 - (E b)^2 would be rounding.
    """
    share = w / (before + w)
    for r in range(len(m)):
        from_mean = m[r] - mean[r]
        mean[r] += share * from_mean
        variance[r] += w * (v[r] + from_mean * (m[r] - mean[r]))
        if v[r] <= 0.0:
            zero[r] += w
            continue
        tail = 0.5 * math.erfc(ROOT_HALF * abs(m[r]) / math.sqrt(v[r]))  # of the sign that the mean has not
        if m[r] > 0.0:
            less[r] += w * tail
            more[r] += w * (1.0 - tail)
        else:
            less[r] += w * (1.0 - tail)
            more[r] += w * tail


@kernel
def moments_shared(
    Y: Array, w: Array, covariance: NDArray[np.int64], start: NDArray[np.int64], FQ: Array, shrink: Array, v: Array,
    mean: Array, variance: Array, less: Array, more: Array, zero: Array,
) -> None:  # fmt: skip
    """Moments of effects that share V_O.

    Parameters
    ----------
    Y
        (effect, rank of all) y of every covariance.
    w
        (effect, component) posterior weights.
    covariance, start
        As in `log_likelihoods`.
    FQ
        (rank of all, condition) the columns of F Q as rows.
    shrink
        (component, most ranks) omega^2 / (1 + omega^2 d).
    v
        (component, condition) posterior variances.
    mean, variance, less, more, zero
        (effect, condition), zeros, to fill.
    """
    J, R = mean.shape
    m = np.empty(R)
    for j in range(J):
        before = 0.0
        for p in range(len(covariance)):
            if w[j, p] <= IGNORED:
                continue
            m[:] = 0.0
            k = covariance[p]
            if k >= 0:
                for i in range(start[k], start[k + 1]):
                    s = Y[j, i] * shrink[p, i - start[k]]
                    for r in range(R):
                        m[r] += s * FQ[i, r]
            accumulate(w[j, p], before, m, v[p], mean[j], variance[j], less[j], more[j], zero[j])
            before += w[j, p]


@kernel
def moments(
    B: Array, S: Array, C: Array, diagonal: bool, F: Array, start: NDArray[np.int64],
    covariance: NDArray[np.int64], omega2: Array, w: Array,
    mean: Array, variance: Array, less: Array, more: Array, zero: Array,
) -> None:  # fmt: skip
    """Moments of effects with their own V_j; arguments as of `log_likelihoods` and `moments_shared`."""
    J, R = B.shape
    L, W, x = np.zeros((R, R)), np.empty((R, F.shape[1])), np.empty(R)
    t, e, delta = np.empty(R), np.empty(R), np.empty(R)
    m, v, u, Z = np.empty(R), np.empty(R), np.empty(R), np.empty((R, R))
    for j in range(J):
        n, _ = whiten(B[j], S[j], C[min(j, len(C) - 1)], F, diagonal, L, W, x)
        before, r, size, total = -2, 0, 0.0, 0.0
        for p in range(len(omega2)):
            if w[j, p] <= IGNORED:
                continue
            k = covariance[p]
            m[:] = 0.0
            v[:] = 0.0
            if k >= 0:
                if k != before:
                    before, lo, r = k, start[k], start[k + 1] - start[k]
                    for i in range(r):
                        for q in range(R):
                            Z[i, q] = F[q, lo + i]
                    size = decompose(W, x, n, lo, lo + r, Z[:r], t, e)  # Z is (F Z)' now
                factorise(omega2[p], t, e, r, delta)
                _solve(omega2[p], size, Z, e, r, delta, u, m, v)
            accumulate(w[j, p], total, m, v, mean[j], variance[j], less[j], more[j], zero[j])
            total += w[j, p]


@kernel
def _solve(omega2: float, size: float, Z: Array, e: Array, r: int, delta: Array, u: Array, m: Array, v: Array) -> None:
    """Posterior means and variances: omega^2 z'(I + omega^2 T)^-1 e_1 |h| and omega^2 z'(I + omega^2 T)^-1 z.

    I + omega^2 T = U diag(delta) U' with U unit upper bidiagonal; z is a condition's column of ``Z`` (r, condition).
    """
    R = len(m)
    u[:] = 0.0
    for back in range(r):  # u = U^-1 z of all conditions at once
        i = r - 1 - back
        above = omega2 * e[i] / delta[i + 1] if back > 0 else 0.0
        for q in range(R):
            u[q] = Z[i, q] - above * u[q]
            v[q] += omega2 * u[q] * u[q] / delta[i]
    factor = omega2 * size / delta[0]  # the first row of (I + omega^2 T)^-1
    for i in range(r):
        for q in range(R):
            m[q] += factor * Z[i, q]
        if i + 1 < r:
            factor *= -omega2 * e[i] / delta[i + 1]
