"""Least squares, ridge and elastic net in each tissue, from moments by fold: what the model competes with.

With x standardised to root mean square 1 over a training set, and y too, moments are correlations, R = x'x/n and
r = x'y/n, and in these units, as in glmnet,

    b minimises  b'R b/2 - r'b + lambda [ a |b|_1 + (1-a) |b|^2/2 ],     a = 0 ridge, a = 1/2 PrediXcan's elastic net

A training set is the total less a fold, or two, so no sample is read again. The error of b on fold g is

    |y_g - X_g b|^2 = yy_g - 2 b'cross_g + b'gram_g b

The penalty for held-out fold f is the one of least error over inner folds, which are the other folds: fit g, without f
and g, is scored on g, and the same fit serves held-out fold g scored on f. So F folds take F(F-1)/2 + F + 1 paths a
tissue. The penalty for all samples is that of least error over the F folds, and where it alone is asked for, F + 1
paths are enough; for one held-out fold F are.

A ridge's penalties are the same in every training set, in units of a correlation matrix. An elastic net's are
fractions of the least penalty under which all is zero, lambda_max = max|r|/a, each training set's own; what is chosen
is the fraction.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ebmodel.errors import expect
from ebmodel.kernel import kernel
from ebmodel.model import Array
from ebmodel.parallel import one_thread

__all__ = ["FRACTIONS", "PENALTIES", "Coefficients", "elastic_net", "least_squares", "ridge"]

PENALTIES = np.geomspace(1e3, 1e-3, 20)
"""A ridge's, for SNPs of mean square 1."""
FRACTIONS = np.geomspace(1.0, 1e-3, 20)
"""An elastic net's penalties, as fractions of the least penalty under which all is zero."""
NOTHING = 1e-10
"""A sum of squares is zero where a training set has less than this share of the total."""
SINGULAR = 1e-9
"""Least squares are not determined where the other SNPs leave less than this share of a SNP's variance."""
KKT = 1e-9
"""By how much of the l1 penalty a gradient may exceed it where the effect is zero."""
SWEEPS, SETTLED = 10_000, 1e-12
"""Most sweeps of coordinate descent for one penalty, and the largest step of one that ends them."""


class Coefficients(NamedTuple):
    """Effects of a gene's SNPs, by tissue, in the units of the moments."""

    held_out: Array
    """(tissue, fold, snp), from all samples but the fold's; NaN where not asked for."""
    full: Array
    """(tissue, snp), from all samples; NaN where not asked for."""
    penalty: Array
    """(tissue, fold) the penalty chosen without the fold, lambda in standardised units; 0 for least squares, and NaN
    where not asked for."""
    full_penalty: Array
    """(tissue,)."""


def least_squares(gram: Array, cross: Array) -> Coefficients:
    """Least squares in each tissue, equation (10): (X_t'X_t)^-1 X_t'y_t.

    Parameters
    ----------
    gram : (tissue, fold, snp, snp)
        Sums of x x' over a fold's samples, covariates projected out.
    cross : (tissue, fold, snp)
        Sums of x y.

    Returns
    -------
    Coefficients
        NaN where the training set has fewer samples than SNPs, or does not determine the effects.

    Raises
    ------
    InputError
        If shapes disagree or moments are not finite.
    """
    _check(gram, cross, None, 2)
    gram, cross = (np.ascontiguousarray(moments, dtype=float) for moments in (gram, cross))
    held_out, full = _least_squares(gram, cross)
    return Coefficients(held_out, full, np.zeros(cross.shape[:2]), np.zeros(len(cross)))


def ridge(
    gram: Array,
    cross: Array,
    yy: Array,
    penalties: Array = PENALTIES,
    *,
    folds: Sequence[int] | None = None,
    full: bool = True,
) -> Coefficients:
    """Ridge regression in each tissue, its penalty by cross-validation nested in each training set.

    Parameters
    ----------
    gram : (tissue, fold, snp, snp)
        Sums of x x' over a fold's samples, covariates projected out.
    cross : (tissue, fold, snp)
        Sums of x y.
    yy : (tissue, fold)
        Sums of y^2.
    penalties : (penalty,)
        To choose from, decreasing; the largest of equally good ones is taken.
    folds
        Those without which effects are wanted; all if not given.
    full
        Whether effects from all samples are wanted.

    Returns
    -------
    Coefficients
        Zero for a SNP that does not vary in a training set, and in a tissue without data.

    Raises
    ------
    InputError
        If shapes disagree, moments are not finite, there are fewer than three folds (two if none is held out), or
        penalties are not positive and decreasing.
    """
    return _penalised(gram, cross, yy, 0.0, penalties, folds, full)


def elastic_net(
    gram: Array,
    cross: Array,
    yy: Array,
    mixing: float = 0.5,
    fractions: Array = FRACTIONS,
    *,
    folds: Sequence[int] | None = None,
    full: bool = True,
) -> Coefficients:
    """Elastic net in each tissue, its penalty by cross-validation nested in each training set.

    Parameters
    ----------
    gram : (tissue, fold, snp, snp)
        Sums of x x' over a fold's samples, covariates projected out.
    cross : (tissue, fold, snp)
        Sums of x y.
    yy : (tissue, fold)
        Sums of y^2.
    mixing
        The l1 norm's share a of the penalty, above 0: 0.5 is PrediXcan's, 1 the lasso.
    fractions : (penalty,)
        Penalties to choose from, decreasing, as fractions of the least one under which all effects are zero; the
        largest of equally good ones is taken.
    folds
        Those without which effects are wanted; all if not given.
    full
        Whether effects from all samples are wanted.

    Returns
    -------
    Coefficients
        Zero for a SNP that does not vary in a training set, and in a tissue without data.

    Raises
    ------
    InputError
        If shapes disagree, moments are not finite, there are fewer than three folds (two if none is held out),
        fractions are not positive and decreasing, or ``mixing`` is no share above 0.
    """
    expect(0.0 < mixing <= 1.0, "a share above 0", mixing, "mixing", "use 0.5, or call ridge for 0")
    return _penalised(gram, cross, yy, float(mixing), fractions, folds, full)


@one_thread
def _penalised(
    gram: Array, cross: Array, yy: Array, mixing: float, ladder: Array, folds: Sequence[int] | None, full: bool
) -> Coefficients:
    ladder = np.asarray(ladder, dtype=float)
    falls = len(ladder) > 0 and bool((ladder > 0.0).all() and (np.diff(ladder) < 0.0).all())
    expect(falls, "positive, decreasing penalties", ladder, "the penalties", "leave the default")
    _check(gram, cross, yy, 2 if folds is not None and len(folds) == 0 else 3)
    gram, cross, yy = (np.ascontiguousarray(moments, dtype=float) for moments in (gram, cross, yy))
    wanted = np.isin(np.arange(cross.shape[1]), np.arange(cross.shape[1]) if folds is None else np.asarray(folds))
    return Coefficients(*_cross_validated(gram, cross, yy, mixing, ladder, wanted, full))


def _check(gram: Array, cross: Array, yy: Array | None, least: int) -> None:
    where, do = "the moments", "give (tissue, fold, snp, snp), (tissue, fold, snp) and (tissue, fold)"
    agree = gram.ndim == 4 and gram.shape == (*cross.shape, cross.shape[-1])
    expect(agree, "gram and cross of the same tissues, folds and SNPs", f"{gram.shape}, {cross.shape}", where, do)
    expect(gram.shape[1] >= least, f"at least {least} folds", gram.shape[1], where, "make more folds")
    finite = bool(np.isfinite(gram).all() and np.isfinite(cross).all())
    if yy is not None:
        expect(yy.shape == cross.shape[:2], f"yy of shape {cross.shape[:2]}", yy.shape, where, do)
        finite = finite and bool(np.isfinite(yy).all())
    expect(finite, "finite sums", "NaN or infinity", where, "leave missing responses out of the sums")


@kernel
def _least_squares(gram: Array, cross: Array) -> tuple[Array, Array]:
    """Coefficients without each fold (tissue, fold, snp), and with all of them (tissue, snp)."""
    m, F, p = cross.shape
    held_out, full = np.empty((m, F, p)), np.empty((m, p))
    G, c, R, r = np.empty((p, p)), np.empty(p), np.empty((p, p)), np.empty(p)
    scale = np.empty(p)
    for t in range(m):
        G_t, c_t = _total(gram[t], cross[t])
        for f in range(F + 1):
            _less(G_t, c_t, gram[t], cross[t], f, F, G, c)
            varies = _standardise(G, c, 1.0, G_t, R, r, scale)
            determined = varies == p and _solve(R, r, p)
            b = full[t] if f == F else held_out[t, f]
            for j in range(p):
                b[j] = scale[j] * r[j] if determined else np.nan
    return held_out, full


@kernel
def _cross_validated(
    gram: Array, cross: Array, yy: Array, mixing: float, ladder: Array, wanted: NDArray[np.bool_], whole: bool
) -> tuple[Array, Array, Array, Array]:
    """What `Coefficients` holds; ``mixing`` 0 is ridge."""
    m, F, p = cross.shape
    K = len(ladder)
    held_out, full, penalty, full_penalty = np.empty((m, F, p)), np.empty((m, p)), np.empty((m, F)), np.empty(m)
    held_out[:], penalty[:], full[:], full_penalty[:] = np.nan, np.nan, np.nan, np.nan
    one, two, every = np.empty((F, K, p)), np.empty((K, p)), np.empty((K, p))
    G, c, G_2, c_2 = np.empty((p, p)), np.empty(p), np.empty((p, p)), np.empty(p)
    inner, outer, unit = np.empty((F, K)), np.empty(K), np.empty(F)
    for t in range(m):
        G_t, c_t = _total(gram[t], cross[t])
        yy_t = np.sum(yy[t])
        inner[:], outer[:] = 0.0, 0.0
        for f in range(F):
            _less(G_t, c_t, gram[t], cross[t], f, F, G, c)
            yy_f = yy_t - yy[t, f]
            if wanted[f] or whole:
                unit[f] = _path(G, c, yy_f, G_t, yy_t, mixing, ladder, one[f])
                _score(one[f], gram[t, f], cross[t, f], yy[t, f], outer)
            for g in range(f + 1, F):
                if wanted[f] or wanted[g]:
                    _less(G, c, gram[t], cross[t], g, F, G_2, c_2)
                    _path(G_2, c_2, yy_f - yy[t, g], G_t, yy_t, mixing, ladder, two)
                    _score(two, gram[t, g], cross[t, g], yy[t, g], inner[f])
                    _score(two, gram[t, f], cross[t, f], yy[t, f], inner[g])
        for f in range(F):
            if wanted[f]:
                best = np.argmin(inner[f])
                held_out[t, f], penalty[t, f] = one[f, best], unit[f] * ladder[best]
        if whole:
            best = np.argmin(outer)
            unit_t = _path(G_t, c_t, yy_t, G_t, yy_t, mixing, ladder, every)
            full[t], full_penalty[t] = every[best], unit_t * ladder[best]
    return held_out, full, penalty, full_penalty


@kernel
def _total(gram: Array, cross: Array) -> tuple[Array, Array]:
    """Sums over folds: (snp, snp) and (snp,)."""
    G, c = gram[0].copy(), cross[0].copy()
    for f in range(1, len(gram)):
        G += gram[f]
        c += cross[f]
    return G, c


@kernel
def _less(G: Array, c: Array, gram: Array, cross: Array, f: int, F: int, G_less: Array, c_less: Array) -> None:
    """Moments less fold ``f``'s, into the last two; less nothing where ``f`` is ``F``."""
    p = len(c)
    for i in range(p):
        c_less[i] = c[i] - (cross[f, i] if f < F else 0.0)
        for j in range(p):
            G_less[i, j] = G[i, j] - (gram[f, i, j] if f < F else 0.0)


@kernel
def _standardise(G: Array, c: Array, yy: float, G_all: Array, R: Array, r: Array, scale: Array) -> int:
    """R, r and the units that turn b into effects, into the last three; how many SNPs vary.

    One that does not has correlation 0 with all others and with y.
    """
    p, varies = len(c), 0
    for j in range(p):
        scale[j] = 0.0
        if G[j, j] > NOTHING * G_all[j, j]:
            scale[j] = 1.0 / np.sqrt(G[j, j])
            varies += 1
    for i in range(p):
        for j in range(p):
            R[i, j] = G[i, j] * scale[i] * scale[j]
        R[i, i] = 1.0
    size = np.sqrt(yy)
    for j in range(p):
        r[j] = c[j] * scale[j] / size
        scale[j] *= size
    return varies


@kernel
def _path(
    G: Array, c: Array, yy: float, G_all: Array, yy_all: float, mixing: float, ladder: Array, effects: Array
) -> float:
    """Effects (penalty, snp) of one training set, into the last; the unit of its penalties."""
    p = len(c)
    R, r, scale = np.empty((p, p)), np.empty(p), np.empty(p)
    if not yy > NOTHING * yy_all:
        effects[:] = 0.0
        return 1.0
    _standardise(G, c, yy, G_all, R, r, scale)
    if mixing == 0.0:
        unit = 1.0
        _ridge_path(R, r, ladder, effects)
    else:
        unit = np.max(np.abs(r)) / mixing  # lambda_max
        _elastic_net_path(R, r, mixing, unit * ladder, effects)
    for k in range(len(ladder)):
        for j in range(p):
            effects[k, j] *= scale[j]
    return unit


@kernel
def _ridge_path(R: Array, r: Array, penalties: Array, b: Array) -> None:
    """b = (R + lambda I)^-1 r for every penalty, (penalty, snp), into the last: R = E diag(v) E' once."""
    v, E = np.linalg.eigh(R)
    z = E.T @ r
    u = np.empty((len(penalties), len(r)))
    for k in range(len(penalties)):
        for i in range(len(r)):
            u[k, i] = z[i] / (max(v[i], 0.0) + penalties[k])
    b[:] = u @ E.T


@kernel
def _elastic_net_path(R: Array, r: Array, mixing: float, penalties: Array, path: Array) -> None:
    """b for every penalty, (penalty, snp), into the last; each starts from the one before."""
    p = len(r)
    b, slope = np.zeros(p), r.copy()  # slope = r - R b
    A, x, active = np.empty((p + 1, p)), np.empty(p), np.empty(p, np.int64)  # and a row to spare
    for k in range(len(penalties)):
        l1, l2 = mixing * penalties[k], (1.0 - mixing) * penalties[k]
        for _ in range(SWEEPS):
            if _exact(R, r, l1, l2, b, slope, A, x, active) or _sweep(R, l1, l2, b, slope) < SETTLED:
                break
        path[k] = b


@kernel
def _sweep(R: Array, l1: float, l2: float, b: Array, slope: Array) -> float:
    """One sweep of coordinate descent; the largest step."""
    p, largest = len(b), 0.0
    for j in range(p):
        z = slope[j] + b[j]
        new = np.sign(z) * max(np.abs(z) - l1, 0.0) / (1.0 + l2)
        step = new - b[j]
        if step != 0.0:
            b[j] = new
            largest = max(largest, np.abs(step))
            for i in range(p):
                slope[i] -= step * R[j, i]
    return largest


@kernel
def _exact(
    R: Array, r: Array, l1: float, l2: float, b: Array, slope: Array, A: Array, x: Array, active: NDArray[np.int64]
) -> bool:
    """Whether the minimiser has the active SNPs and signs of ``b``: then ``b`` and ``slope`` become its own.

    There it is (R_AA + l2 I)^-1 (r_A - l1 sign b_A). Descent finds the set in a few sweeps, and its limit slowly.
    """
    p, a = len(b), 0
    for j in range(p):
        if b[j] != 0.0:
            active[a] = j
            x[a] = r[j] - l1 * np.sign(b[j])
            a += 1
    for i in range(a):
        for j in range(i, a):
            A[i, j] = R[active[i], active[j]]
        A[i, i] += l2
    if not _solve(A, x, a):
        return False
    for i in range(a):
        if x[i] * b[active[i]] <= 0.0:
            return False
    rest = A[p]
    rest[:] = r
    for i in range(a):
        row = R[active[i]]
        for j in range(p):
            rest[j] -= x[i] * row[j]
    for j in range(p):
        if b[j] == 0.0 and np.abs(rest[j]) > l1 * (1.0 + KKT):
            return False
    slope[:] = rest
    for i in range(a):
        b[active[i]] = x[i]
    return True


@kernel
def _solve(A: Array, x: Array, a: int) -> bool:
    """A^-1 x into ``x`` by Cholesky's factor, A = U'U, of the first ``a`` rows, written over A's upper triangle.

    False, and ``x`` of no use, where A is singular.
    """
    for i in range(a):
        row = A[i]
        if not row[i] > SINGULAR:
            return False
        size = np.sqrt(row[i])
        for j in range(i, a):
            row[j] /= size
        x[i] /= size
        for k in range(i + 1, a):
            below, share = A[k], row[k]
            for j in range(k, a):
                below[j] -= share * row[j]
            x[k] -= share * x[i]
    for i in range(a - 1, -1, -1):
        for k in range(i + 1, a):
            x[i] -= A[i, k] * x[k]
        x[i] /= A[i, i]
    return True


@kernel
def _score(effects: Array, gram: Array, cross: Array, yy: float, error: Array) -> None:
    """Add a fold's |y - X b|^2 = yy - 2 b'cross + b'gram b for every b of a path, (penalty,), to the last."""
    K, p = effects.shape
    image = np.empty(p)
    for k in range(K):
        b, total = effects[k], yy
        image[:] = 0.0
        for i in range(p):
            if b[i] != 0.0:
                row = gram[i]
                for j in range(p):
                    image[j] += b[i] * row[j]
        for j in range(p):
            total += b[j] * (image[j] - 2.0 * cross[j])
        error[k] += total
