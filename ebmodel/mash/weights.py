"""The weights of the mixture: a convex problem, solved to a certificate.

Of J effects under P components, with the likelihoods L (effect, component) and pseudo-counts a_p >= 0,

    phi(pi) = sum_j log (L pi)_j + sum_p a_p log pi_p,      pi >= 0,  sum pi = 1,      N = J + sum a

is to be as large as possible. phi is concave. Its gradient g_p = sum_j L_jp / (L pi)_j + a_p / pi_p satisfies
g' pi = N for every pi, so that for the optimum pi*, or any other pi* of the simplex,

    phi(pi*) - phi(pi) <= g' (pi* - pi) = g' pi* - N <= max_p g_p - N =: gap.

The gap is the certificate: the weights found are below the best by no more log-likelihood than that. It is zero at the
optimum alone, where g_p <= N for every component and g_p = N for those that have weight.

How it is solved. Few components have weight, so columns are generated: the problem is solved on a few of them, the
active ones, and one pass over all of L gives g there, which either is a certificate or names the columns to add.
The first active columns are those of a problem with few of the rows. On active columns the simplex is dropped, as

    maximise phi(x) - N sum x  over  x >= 0     has its optimum at    sum x = 1,

and solved by sequential quadratic programming (Kim, Carbonetto, Stephens & Anitescu 2020): Newton's quadratic model,
solved over x >= 0 by an active set, with a line search on phi itself. L is read once a pass, in blocks small enough for
the processor's cache. Held in memory are J x active numbers: of the components that have weight or a pseudo-count, and
of up to `BATCH` candidates.

Source: Urbut, Wang, Carbonetto & Stephens (2019), with pseudo-counts that favour the null; Kim, Carbonetto, Stephens &
Anitescu (2020), "A fast algorithm for maximum likelihood estimation of mixture proportions based on sequential
quadratic programming".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ebmodel.errors import InputError, expect
from ebmodel.parallel import one_thread

__all__ = ["Likelihoods", "Matrix", "Step", "Weights", "solve"]

type Array = NDArray[np.float64]
type Index = NDArray[np.intp]

CACHE = 2**17
"""Numbers of a block that stays in the processor's cache while it is worked on: 1 MB."""

SAMPLE = 2000, 8000
"""Fewest and most rows of the problem that gives the first active columns; between them, a tenth of all."""

FEW = 60
"""Columns with which that problem begins, after ``EM_STEPS`` of the EM algorithm on all columns."""

EM_STEPS = 4

BATCH = 60
"""Columns added at once, at most."""

FIRST = 0.5
"""Taken for the relative gap before the first pass, and for larger ones. Active columns are solved to its fourth power:
loosely while others are missing, and at the end so well that no pass is spent on it.
"""

KEPT = 0.1
"""What a step leaves, at least, of an effect's likelihood: from nearly none Newton's steps could but double it."""

TINY = 1e-12
"""Weights to start from that count as none."""

SMALL = 0.01
"""Where no effect's likelihood changes by more than this, Newton's step is taken unseen: phi itself is too coarse."""

PATIENCE = 20
"""Steps without the gap halved, after which rounding is held to be all that is left."""

EPSILON = float(np.finfo(float).eps)
RIDGE = 1e-12
"""Added to the diagonal of H, relative to it, in the quadratic model: columns may coincide."""


class Likelihoods(Protocol):
    """Log-likelihoods of effects (rows) under components (columns), which need never exist all at once."""

    @property
    def shape(self) -> tuple[int, int]:
        """Effects and components, (J, P)."""

    def take(self, columns: Index) -> Array:
        """Log-likelihoods of all effects under some components, (J, len(columns)), an array of its own."""

    def blocks(self) -> Iterator[Array]:
        """Log-likelihoods of some effects under all components, (rows, P); together all rows, in order."""

    def rows(self, rows: Index) -> Array:
        """Log-likelihoods of some effects under all components, (len(rows), P)."""


class Matrix(Likelihoods):
    """Log-likelihoods that are in memory.

    Parameters
    ----------
    values
        (J, P); -inf where a component cannot have made an effect.

    Raises
    ------
    InputError
        If it is no matrix, or empty.
    """

    def __init__(self, values: Any) -> None:
        self.values: Array = np.ascontiguousarray(values, dtype=np.float64)
        got = f"shape {self.values.shape}"
        expect(self.values.ndim == 2 and self.values.size > 0, "effects x components", got, WHERE, "give a matrix")

    @property
    def shape(self) -> tuple[int, int]:
        """Effects and components, (J, P)."""
        J, P = self.values.shape
        return J, P

    def take(self, columns: Index) -> Array:
        """Some columns, as a copy: (J, len(columns))."""
        return np.take(self.values, columns, axis=1)

    def blocks(self) -> Iterator[Array]:
        """All rows at once, (J, P): no copy is made."""
        yield self.values

    def rows(self, rows: Index) -> Array:
        """Some rows, as a copy: (len(rows), P)."""
        return np.take(self.values, rows, axis=0)


class Step(NamedTuple):
    """One pass over all likelihoods."""

    value: float
    """phi there."""
    gap: float
    """max_p g_p - N there."""
    active: int
    """Columns that are active."""


@dataclass(frozen=True)
class Weights:
    """Weights of a mixture, and how near they are to the best.

    Attributes
    ----------
    pi
        Weights, (P,); they sum to one.
    value
        phi(pi): the log-likelihood and the pseudo-counts' part.
    gap
        No weights at all have phi above ``value + gap``.
    relative_gap
        ``gap`` / (J + sum a): of an effect's log-likelihood.
    iterations, passes
        Steps of Newton's method on active columns; passes over all likelihoods.
    status
        "converged"; "stalled": the gap is as small as rounding lets it be, and yet above ``tol``; or "max_iter".
    trace
        One `Step` a pass.
    """

    pi: Array
    value: float
    gap: float
    relative_gap: float
    iterations: int
    passes: int
    status: str
    trace: tuple[Step, ...]

    @property
    def converged(self) -> bool:
        """Whether the gap is below ``tol``."""
        return self.status == "converged"


WHERE = "log-likelihoods"


@one_thread
def solve(
    likelihoods: Likelihoods,
    pseudo: Any,
    start: Any = None,
    tol: float = 1e-12,
    max_iter: int = 1000,
    progress: Callable[[Step], None] | None = None,
) -> Weights:
    """Maximise phi(pi) over the simplex.

    Parameters
    ----------
    likelihoods
        Of J effects under P components.
    pseudo
        a, pseudo-counts (P,), not negative: prior weights minus one.
    start
        Weights to start from, (P,), not negative, such as those of similar data; by default those of few of the rows.
    tol
        Largest ``relative_gap``, (max_p g_p - N) / N: 1e-12 of 20,000 effects is 2e-8 of log-likelihood in all. Of very
        many effects what rounding leaves will do, at most 2e-16 N: so far, at worst, a sum of N terms is known.
    max_iter
        Most steps of Newton's method.
    progress
        Called after every pass.

    Returns
    -------
    Weights
        Exact zeros where a component has no weight. Memory: a block of ``likelihoods``, and J x active columns of 8
        bytes (30 to 200 of a thousand columns are active), twice while ``take`` gives them in column order.

    Raises
    ------
    InputError
        If a log-likelihood is NaN or +inf, an effect has likelihood zero under every component, a pseudo-count is
        negative, or lengths differ.
    """
    expect(0.0 <= tol < np.inf, "a gap >= 0", tol, "tol", "leave the default")
    a = _checked(pseudo, likelihoods.shape[1], "pseudo-counts")
    expect(min(likelihoods.shape) > 0, "effects and components", f"shape {likelihoods.shape}", WHERE, "give some")
    if start is None:
        pi = _guess(likelihoods, a)
    else:
        pi = _checked(start, len(a), "starting weights")
        expect(bool(pi.sum() > 0), "a positive weight", "zeros", "starting weights", "leave the default")
    return _generate(likelihoods, a, pi / pi.sum(), tol, max_iter, progress)


def _checked(values: Any, P: int, where: str) -> Array:
    found = np.asarray(values, dtype=np.float64)
    expect(found.shape == (P,), f"one a component, ({P},)", f"shape {found.shape}", where, "give them all")
    holds = bool(np.isfinite(found).all() and (found >= 0).all())
    expect(holds, "numbers that are not negative", found.min(initial=0.0), where, "correct them")
    return found


# Columns -------------------------------------------------------------------------------------------------------------


def _generate(
    likelihoods: Likelihoods,
    a: Array,
    pi: Array,
    tol: float,
    max_iter: int,
    progress: Callable[[Step], None] | None = None,
) -> Weights:
    """Column generation from the columns where ``pi`` or ``a`` is positive."""
    N = likelihoods.shape[0] + float(a.sum())
    columns, aim = np.flatnonzero((pi > 0) | (a > 0)), FIRST**4
    iterations, trace = 0, list[Step]()
    while True:
        columns, A, top = _scaled(likelihoods, columns)
        x, used = _newton(A, a[columns], pi[columns], max(0.3 * tol, aim), max_iter - iterations)
        iterations += used
        pi = np.zeros(len(a))
        pi[columns] = x
        f = A @ x
        del A
        value = float(np.log(f).sum() + top.sum() + a[a > 0] @ np.log(pi[a > 0]))
        g = _gradient(likelihoods, top, 1.0 / f) + _over(a, pi)
        gap = max(float(g.max()) - N, 0.0)
        new = _worst(np.where(g > N * (1.0 + tol), g, 0.0), columns)
        stuck = len(new) == 0 and len(trace) > 0 and gap > 0.5 * trace[-1].gap
        trace.append(Step(value, gap, len(columns)))
        if progress is not None:
            progress(trace[-1])
        if gap <= tol * N or iterations >= max_iter or stuck:
            least = max(tol, EPSILON * N if stuck else 0.0)
            status = "converged" if gap <= least * N else "stalled" if stuck else "max_iter"
            return Weights(pi, value, gap, gap / N, iterations, len(trace), status, tuple(trace))
        columns, aim = np.union1d(columns[x > 0], new), min(gap / N, FIRST) ** 4


def _worst(g: Array, columns: Index) -> Index:
    """Columns to add: where g is largest, its peaks first, as neighbouring columns are often neighbouring scales."""
    g = g.copy()
    g[columns] = 0.0
    around = np.concatenate([[0.0], g, [0.0]])
    peak = (g >= around[:-2]) & (g >= around[2:])
    order = np.lexsort((-g, ~peak))[:BATCH]
    return order[g[order] > 0.0]


def _scaled(likelihoods: Likelihoods, columns: Index) -> tuple[Index, Array, Array]:
    """Active columns, their likelihoods with every row's largest at one, and the logarithm of what it was.

    Where no active column can have made an effect, the one that is most likely to have made it becomes active.
    """
    while True:
        A = np.ascontiguousarray(likelihoods.take(columns))
        top = A.max(axis=1)
        _numbers(top, np.arange(len(top)))
        dead = np.flatnonzero(top == -np.inf)
        if len(dead) == 0:
            break
        some = likelihoods.rows(dead[:1000])
        _possible(some.max(axis=1), dead)
        columns = np.union1d(columns, some.argmax(axis=1))
    A -= top[:, None]
    np.exp(A, out=A)
    return columns, A, top


def _numbers(top: Array, rows: Index) -> None:
    wrong = np.isnan(top) | (top == np.inf)
    if wrong.any():
        where = f"row {rows[wrong.argmax()]} of the {WHERE}"
        raise InputError("numbers or -inf", f"{top[wrong][0]}", where, "correct it")


def _possible(top: Array, rows: Index) -> None:
    impossible = top == -np.inf
    where = f"row {rows[impossible.argmax()]} of the {WHERE}"
    expect(not impossible.any(), "a component that can have made it", "-inf under all", where, "add one that can")


def _gradient(likelihoods: Likelihoods, top: Array, weight: Array) -> Array:
    """sum_j weight_j exp(log L_jp - top_j), (P,), by one pass."""
    P = likelihoods.shape[1]
    g, size, start = np.zeros(P), max(1, CACHE // P), 0
    work = np.empty((size, P))
    with np.errstate(over="ignore"):  # a column that has no weight yet may be better by any factor
        for block in likelihoods.blocks():
            for i in range(0, len(block), size):
                part = block[i : i + size]
                here = slice(start + i, start + i + len(part))
                L = np.subtract(part, top[here, None], out=work[: len(part)])
                g += weight[here] @ np.exp(L, out=L)
            start += len(block)
    expect(not np.isnan(g).any(), "numbers or -inf", "NaN", WHERE, "correct it")
    return g


# The first columns ---------------------------------------------------------------------------------------------------


def _guess(likelihoods: Likelihoods, a: Array) -> Array:
    """Weights to start from: of few of the rows, spread evenly; of few effects, by a few EM steps."""
    J = likelihoods.shape[0]
    n = min(max(SAMPLE[0], J // 10), SAMPLE[1])
    if J < 2 * n:
        n = J
    rows, b = np.arange(n) * (J // n), a * (n / J)
    few = Matrix(likelihoods.rows(rows))
    pi = np.full(len(a), 1.0 / len(a))
    for _ in range(EM_STEPS):
        pi = _em(few, b, pi, rows)
    pi[np.argsort(pi)[:-FEW]] = 0.0
    return pi if n == J else _generate(few, b, pi / pi.sum(), 1e-4, 100).pi


def _em(few: Matrix, a: Array, pi: Array, rows: Index) -> Array:
    """One EM step, pi_p g_p / N, on some rows."""
    J, P = few.shape
    g, size = np.zeros(P), max(1, CACHE // P)
    for i in range(0, J, size):
        part = few.values[i : i + size]
        top = part.max(axis=1)
        _numbers(top, rows[i : i + size])
        _possible(top, rows[i : i + size])
        L = np.exp(part - top[:, None])
        g += (1.0 / (L @ pi)) @ L
    return (pi * g + a) / (J + a.sum())


# Active columns ------------------------------------------------------------------------------------------------------


def _newton(A: Array, a: Array, x: Array, tol: float, max_iter: int) -> tuple[Array, int]:
    """Maximise phi on active columns: A (J, active), pseudo-counts a, from x, which may have zeros; and the steps."""
    N = len(A) + float(a.sum())
    x = _start(A, a, x)
    f, best, since = A @ x, np.inf, 0
    for iteration in range(max_iter):
        g = (1.0 / f) @ A + _over(a, x)
        gap = g.max() - N
        best, since = (gap, 0) if gap < 0.5 * best else (best, since + 1)
        if gap <= tol * N or since > PATIENCE:
            return x, iteration
        # phi(y) ~ phi(x) + g'(y - x) - (y - x)'H(y - x)/2,  H = A' diag(1/f^2) A + diag(a/x^2),  H x = g:
        # less N sum y, and constants, the quadratic model is (2g - N)'y - y'Hy/2
        work = np.flatnonzero((x > 0) | (g > N))
        H = _gram(A, 1.0 / f, work)
        H[np.diag_indices(len(work))] += _over(_over(a, x), x)[work]
        y = np.zeros(len(x))
        y[work] = _quadratic(H, 2.0 * g[work] - N, x[work], RIDGE * np.maximum(np.diag(H), N))
        h = A @ y
        t = _search(h / f - 1.0, a, x, y, float((g - N) @ (y - x)))
        if t == 0.0:
            return x, iteration
        x, f = (1.0 - t) * x + t * y, (1.0 - t) * f + t * h
        x, f = x / x.sum(), f / x.sum()
    return x, max_iter


def _over(a: Array, x: Array) -> Array:
    """a / x, zero where a is."""
    return np.divide(a, x, out=np.zeros(len(a)), where=a > 0)


def _value(A: Array, a: Array, x: Array) -> float:
    return float(np.log(A @ x).sum() + a[a > 0] @ np.log(x[a > 0]))


def _start(A: Array, a: Array, given: Array) -> Array:
    """Where Newton's method starts: what is given, or what EM makes of it once every column has weight, if better."""
    N = len(A) + float(a.sum())
    old: Array = np.where(given > TINY, given, 0.0)
    none = old == 0
    old /= old.sum() or 1.0
    if not none.any():
        return old
    x: Array = 0.9 * old + 0.1 * none / none.sum()
    for _ in range(3):
        x = (x * ((1.0 / (A @ x)) @ A) + a) / N  # x_p g_p / N
    # at the optimum every f_j >= 1/N: much below, Newton's method would take long
    far = (A @ old).min() < 1e-3 / N or old[a > 0].min(initial=1.0) == 0.0
    return x if far or _value(A, a, x) > _value(A, a, old) else old


def _gram(A: Array, scale: Array, columns: Index) -> Array:
    """A' diag(scale^2) A of some columns, by blocks that stay in the cache."""
    H, size = np.zeros((len(columns), len(columns))), max(1, CACHE // len(columns))
    for i in range(0, len(A), size):
        B = np.take(A[i : i + size], columns, axis=1)
        B *= scale[i : i + size, None]
        H += B.T @ B
    return H


def _quadratic(H: Array, c: Array, x: Array, ridge: Array) -> Array:
    """Minimise y'Hy/2 - c'y + sum ridge (y - x)^2/2 over y >= 0 by an active set, from x.

    The ridge lets H be singular, as where columns coincide, and leaves the optimum of phi where it is.
    """
    H, c, y = H + np.diag(ridge), c + ridge * x, x
    free = y > 0
    for _ in range(10 * len(y)):
        z = np.zeros(len(y))
        z[free] = np.linalg.solve(H[np.ix_(free, free)], c[free])
        if (z >= 0).all():
            y = z
            u = np.where(free, 0.0, c - H @ y)
            enter = int(u.argmax())
            if u[enter] <= 1e-14 * abs(c[enter]):
                break
            free[enter] = True
        else:
            below = np.flatnonzero(z < 0)
            reach = y[below] / (y[below] - z[below])
            y = np.maximum(y + reach.min() * (z - y), 0.0)
            hit = below[reach <= reach.min()]
            y[hit], free[hit] = 0.0, False
    return y


def _search(u: Array, a: Array, x: Array, y: Array, slope: float) -> float:
    """The first of 1, 1/2, 1/4, ... that raises phi enough on the way from x to y; u = (A y)/(A x) - 1, 0 if none."""
    N, s, held = len(u) + a.sum(), float(y.sum()) - 1.0, a > 0
    v = y[held] / x[held] - 1.0
    if max(np.abs(u).max(), np.abs(v).max(initial=0.0)) < SMALL:
        return 1.0
    t = min(1.0, (1.0 - KEPT) / max(-u.min(), -v.min(initial=0.0), 1e-300))
    while slope > 0.0 and t > 1e-10:
        gain = np.log1p(t * u).sum() + a[held] @ np.log1p(t * v) - N * np.log1p(t * s)
        if gain >= 1e-4 * t * slope:
            return t
        t *= 0.5
    return 0.0
