"""The full Bayesian twin of mash: the weights of the mixture, and scales if wanted, have priors instead of one value.

    b_hat_j | b_j ~ N_R(b_j, V_j)
    b_j | pi ~ pi_0 delta_0 + sum_p pi_p N_R(0, Sigma_p),     pi ~ Dirichlet(a),    a = (10, 1, ..., 1)

with Sigma_p = omega_l^2 U_k on the grid (``scales="grid"``), or Sigma_k = omega_k^2 U_k with one scale a covariance
that is a parameter itself (``scales="free"``), log omega_k ~ N(m, v^2) with the grid's middle and a quarter of its
length: the grid is two standard deviations about it. Effects are integrated and components summed out,

    log p(B_hat | pi) = sum_j log sum_p pi_p L_jp,     L_jp = N(b_hat_j; 0, V_j + Sigma_p).

The density of pi, on the simplex, is then e^phi with phi the objective of the empirical-Bayes fit: the fit, with its
penalty (a_0 - 1) log pi_0, is the maximum a posteriori, exactly. It is not the mean. phi is concave and has its maximum
at a corner, where almost all weights are 0; the Dirichlet has its volume elsewhere. It expects the point mass to have
10/(P + 9) of P components' weight, and small scales, which look like it, to share what it loses.

Two samplers. NUTS moves in the simplex's unconstrained coordinates, and is for some tens of components. The other is
for hundreds, exact and without tuning: Gibbs' conjugate step on the labels,

    z_j | pi ~ Categorical(pi_p L_jp),     pi | z ~ Dirichlet(a + counts),

which creeps where components are hardly told apart (of two alike, n effects remember the split of their weight for
about n steps), and so, between such steps, moves of weight with the labels summed out. For two groups of components
with weights t x and t (1 - x), shares within each as they are, x has the density

    x^(a_1 - 1) (1 - x)^(a_2 - 1) prod_j {f_j + t (x - x_now) (M_1j - M_2j)}

on (0, 1), with f_j the density of effect j now, M its mean density under a group and a_1, a_2 the groups' sums of a:
one slice-sampling step. Groups are components, paired at random and with the next scale; scales; and covariances.

Given pi, effects have mash's closed-form posterior, linear in P(z_j = p | pi): averaged over draws it needs no more
than the average of these.

Source: Urbut, Wang, Carbonetto & Stephens (2019), whose weights these are; Neal (2003) for slice sampling.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import arviz as az
import numpy as np
import pymc as pm
import pytensor.tensor as pt
import xarray as xr
from numpy.typing import NDArray
from scipy.special import logsumexp, ndtr

from ebmodel.bayes.diagnosis import BFMI, ESS_PER_CHAIN, RHAT
from ebmodel.errors import InputError, expect, listed
from ebmodel.kernel import kernel
from ebmodel.labels import CHAIN, COMPONENT, CONDITION, CONDITION_OTHER, COVARIANCE, DRAW, EFFECT, SCALE
from ebmodel.likelihood import LOG_2PI
from ebmodel.mash.covariances import Covariance
from ebmodel.mash.data import Effects
from ebmodel.mash.prior import NULL, Prior
from ebmodel.model import Array
from ebmodel.parallel import one_thread, spread

if TYPE_CHECKING:
    from ebmodel.mash.results import MashFit

__all__ = ["METHODS", "SCALES", "Problem", "pose", "pymc_model", "sample", "sample_weights"]

SCALES = ("grid", "free")
METHODS = ("gibbs", "nuts")

CONDITIONED = 400
"""Draws at which the effects' conditional posterior is computed where it is not linear in an average over draws."""
CELLS = 2_000_000
"""Numbers of one array of components' moments: effects are taken as many at a time as fit."""
ACCEPT = 0.95
"""NUTS's acceptance: with longer steps it diverges in the simplex's corners."""
REPEATS = 4
"""Random pairings of scales, and of covariances, in every sweep; there are few of them, and they are the slow ones."""

type Index = NDArray[np.int64]


# The problem ----------------------------------------------------------------------------------------------------------


class Coordinates(NamedTuple):
    """Effects in the eigenbasis of every U: one entry a covariance; one row for all effects where they share V.

    G = F_O' V_O^-1 F_O = Q diag(d) Q',   y = Q' F_O' V_O^-1 b_hat_O,   b = F Q s
    s_i | b_hat, omega ~ N(shrink_i y_i, shrink_i),   shrink = omega^2 / (1 + omega^2 d),   independent.
    """

    d: tuple[Array, ...]
    """(effect or 1, rank)."""
    y: tuple[Array, ...]
    """(effect, rank)."""
    FQ: tuple[Array, ...]
    """(effect or 1, condition, rank)."""
    log_null: Array
    """(effect,) log N(b_hat_O; 0, V_O), on the original scale."""


@one_thread
def coordinates(effects: Effects, covariances: Sequence[Covariance]) -> Coordinates:
    """Decompose every U against every V_j.

    A missing condition is put to an estimate of 0 with a V of its own in which U has no variance: it says nothing.
    """
    seen = effects.observed
    S, b = np.where(seen, effects.S, 1.0), np.where(seen, effects.B, 0.0)
    shared = not effects.own and bool(seen.all()) and bool((S == S[0]).all())
    rows = slice(0, 1) if shared else slice(None)
    C = effects.C if effects.own else effects.C[None]
    both = seen[rows, :, None] & seen[rows, None, :]
    V = np.where(both, S[rows, :, None] * C * S[rows, None, :], np.eye(b.shape[1]))
    half = np.linalg.inv(np.linalg.cholesky(V))  # V^-1 = half' half
    x = (half @ b[:, :, None])[:, :, 0]
    log_det = np.log(np.diagonal(half, axis1=1, axis2=2)).sum(axis=1)
    log_null = log_det - 0.5 * (np.square(x).sum(axis=1) + seen.sum(axis=1) * LOG_2PI)
    d, y, FQ = [], [], []
    for U in covariances:
        W = half @ (seen[rows, :, None] * U.factor)
        value, Q = np.linalg.eigh(W.transpose(0, 2, 1) @ W)
        d.append(np.maximum(value, 0.0))
        y.append(np.einsum("jor,jo->jr", W @ Q, x) if not shared else x @ (W[0] @ Q[0]))
        FQ.append(U.factor @ Q)
    return Coordinates(tuple(d), tuple(y), tuple(FQ), log_null - effects.log_scale())


@dataclass(frozen=True, eq=False)
class Problem:
    """What a model is built from."""

    effects: Effects
    covariances: tuple[Covariance, ...]
    grid: Array
    """(scale,) omega_l; with free scales it says where they are expected."""
    pointmass: bool
    concentration: Array
    """(component,) a."""
    free: bool
    """Whether scales are parameters."""

    @cached_property
    def coordinates(self) -> Coordinates:
        """Effects in the eigenbases."""
        return coordinates(self.effects, self.covariances)

    @cached_property
    def log_ratio(self) -> Array:
        """log L_jp - log N(b_hat_j; 0, V_j) on the grid, (component, effect); 0 for the point mass."""
        found = [np.zeros((1, len(self.effects.B)))] * self.pointmass
        for d, y in zip(self.coordinates.d, self.coordinates.y, strict=True):
            for w2 in self.grid**2:
                # -1/2 sum_i log(1 + w^2 d_i) + 1/2 sum_i w^2 y_i^2 / (1 + w^2 d_i)
                log_det = np.log1p(w2 * d).sum(axis=1)
                found.append(0.5 * ((w2 / (1.0 + w2 * d) * y**2).sum(axis=1) - log_det)[None])
        return np.concatenate(found)

    @cached_property
    def relative(self) -> Array:
        """L_jp over its largest value in effect j, (component, effect)."""
        return np.asarray(np.exp(self.log_ratio - self.log_ratio.max(axis=0)))

    @property
    def log_scale_prior(self) -> tuple[float, float]:
        """Mean and sd of log omega_k where scales are free."""
        ends = np.log(self.grid[[0, -1]])
        return float(ends.mean()), max(float(np.ptp(ends)) / 4.0, 0.5)

    @property
    def names(self) -> list[str]:
        """Names of components, the point mass first."""
        scales = [""] if self.free else [f".{k + 1}" for k in range(len(self.grid))]
        return [NULL] * self.pointmass + [f"{U.name}{scale}" for U in self.covariances for scale in scales]

    def components(self) -> Iterator[tuple[int, int]]:
        """Covariance and scale of every component; -1 for the point mass."""
        if self.pointmass:
            yield -1, -1
        for k in range(len(self.covariances)):
            for scale in range(1 if self.free else len(self.grid)):
                yield k, scale

    def take(self, rows: Any) -> Problem:
        """With some of the effects."""
        return replace(self, effects=self.effects.take(rows))


def pose(
    source: MashFit | Effects,
    prior: Prior | None = None,
    *,
    scales: str = "grid",
    null_weight: float = 10.0,
    concentration: float = 1.0,
    covariances: Sequence[str] | None = None,
) -> Problem:
    """Validate data and choices; arguments as of `sample`.

    Raises
    ------
    InputError
        As `sample`.
    """
    expect(scales in SCALES, " or ".join(map(repr, SCALES)), repr(scales), "scales", "choose one")
    expect(null_weight > 0.0 and concentration > 0.0, "positive parameters of the Dirichlet",
           (null_weight, concentration), "null_weight, concentration", "leave the defaults")  # fmt: skip
    effects, prior = _of_fit(source, prior)
    expect(len(prior.conditions) == effects.B.shape[1], f"a prior of {effects.B.shape[1]} conditions",
           len(prior.conditions), "prior", "give one for these effects")  # fmt: skip
    chosen = prior.covariances
    if covariances is not None:
        strange = sorted(set(covariances) - {U.name for U in chosen})
        do = f"choose among {listed(U.name for U in chosen)}"
        expect(bool(covariances) and not strange, "names of covariances of the prior", listed(strange) or "none",
               "covariances", do)  # fmt: skip
        chosen = tuple(U for U in chosen if U.name in set(covariances))
    alternatives = len(chosen) * (1 if scales == "free" else len(prior.grid))
    a = np.concatenate([[float(null_weight)] * prior.pointmass, np.full(alternatives, float(concentration))])
    return Problem(effects, chosen, np.asarray(prior.grid, dtype=float), prior.pointmass, a, scales == "free")


def _of_fit(source: Any, prior: Prior | None) -> tuple[Effects, Prior]:
    if not isinstance(source, Effects):
        return source.effects(), prior or source.prior
    if prior is None:
        do = "give covariances and grid as an ebmodel.mash.prior.Prior"
        raise InputError("a prior beside effects", "None", "prior", do)
    return source, prior


# PyMC and NUTS --------------------------------------------------------------------------------------------------------


def pymc_model(
    source: MashFit | Effects,
    prior: Prior | None = None,
    *,
    scales: str = "grid",
    null_weight: float = 10.0,
    concentration: float = 1.0,
    covariances: Sequence[str] | None = None,
) -> pm.Model:
    """Build the model in PyMC, effects integrated and components summed out.

    Parameters
    ----------
    source, prior, scales, null_weight, concentration, covariances
        As in `sample`.

    Returns
    -------
    pm.Model
        With ``mixture`` (component), all weights in flat order, the point mass first; with free scales ``omega``
        (covariance) too. Potential ``loglik``: the log-likelihood less that of the point mass alone (on the grid: less
        a constant of every effect).

    Raises
    ------
    InputError
        As `sample`.
    """
    return build(pose(source, prior, scales=scales, null_weight=null_weight, concentration=concentration,
                      covariances=covariances))  # fmt: skip


def build(problem: Problem) -> pm.Model:
    """Build the PyMC model of a posed problem."""
    coords = {COMPONENT: problem.names, COVARIANCE: [U.name for U in problem.covariances]}
    with pm.Model(coords=coords) as model:
        data = {name: pm.Data(name, value, shape=value.shape) for name, value in inputs(problem).items()}
        pi = pm.Dirichlet("mixture", data["concentration"], dims=COMPONENT)
        if not problem.free:
            pm.Potential("loglik", pt.sum(pt.log(pt.dot(pi, data["likelihood"]))))  # sum_j log sum_p pi_p L_jp
            return model
        mean, sd = data["log_scale"][0], data["log_scale"][1]
        z = pm.Normal("z", 0.0, 1.0, dims=COVARIANCE)
        omega = pm.Deterministic("omega", pt.exp(mean + sd * z), dims=COVARIANCE)
        w2 = pt.square(omega)[:, None, None]
        spread = 1.0 + w2 * data["d"]
        # log L_jk - log L_j0, (covariance, effect)
        log_ratio = 0.5 * (pt.sum(w2 * data["y2"] / spread, axis=2) - pt.sum(pt.log(spread), axis=2))
        null = [pt.zeros_like(log_ratio[:1])] * problem.pointmass
        joint = pt.log(pi)[:, None] + pt.concatenate([*null, log_ratio], axis=0)
        pm.Potential("loglik", pt.sum(pt.logsumexp(joint, axis=0)))
    return model


def inputs(problem: Problem) -> dict[str, Array]:
    """Every number of the data that the model sees: it can be compiled once and given other data."""
    given = {"concentration": problem.concentration}
    if not problem.free:
        return given | {"likelihood": problem.relative}
    R, at = problem.effects.B.shape[1], problem.coordinates

    def padded(parts: tuple[Array, ...]) -> Array:
        """(covariance, effect or 1, condition): d = 0 and y = 0 are directions that U has not."""
        return np.stack([np.pad(part, ((0, 0), (0, R - part.shape[1]))) for part in parts])

    return given | {"d": padded(at.d), "y2": padded(at.y) ** 2, "log_scale": np.array(problem.log_scale_prior)}


_compiled: dict[Any, Any] = {}
MOST = 16
"""Compiled models kept in memory."""


def compiled(problem: Problem) -> Any:
    """Compile for data of this shape, once, and give it this problem's data."""
    import nutpie

    given = inputs(problem)
    key = problem.free, problem.pointmass, tuple((name, value.shape) for name, value in given.items())
    if key not in _compiled:
        if len(_compiled) >= MOST:
            _compiled.pop(next(iter(_compiled)))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Numba, about what it cannot cache
            _compiled[key] = nutpie.compile_pymc_model(build(problem))
    return _compiled[key].with_data(**given)


def _nuts(problem: Problem, draws: int, tune: int, chains: int, seed: int, cores: int | None, *, progress: bool
          ) -> tuple[Array, Array | None, xr.Dataset]:  # fmt: skip
    """pi (chain, draw, component), omega (chain, draw, covariance) if free, and the sampler's own."""
    import nutpie

    tree = nutpie.sample(compiled(problem), draws=draws, tune=tune, chains=chains, seed=seed, cores=cores,
                         target_accept=ACCEPT, save_warmup=False, progress_bar=progress)  # fmt: skip
    posterior, stats = tree["posterior"].to_dataset(), tree["sample_stats"].to_dataset()
    omega = posterior["omega"].to_numpy() if problem.free else None
    return posterior["mixture"].to_numpy(), omega, stats[[name for name in stats if stats[name].dtype != object]]


# The sampler for many components --------------------------------------------------------------------------------------


@kernel
def _labels(L: Array, f: Array, pi: Array, a: Array, rng: np.random.Generator) -> Array:
    """pi anew: z_j | pi ~ Categorical(pi_p L_jp / f_j), pi | z ~ Dirichlet(a + counts)."""
    P, J = L.shape
    u = rng.random(J) * f
    below, z = np.zeros(J), np.zeros(J, np.int64)
    for p in range(P - 1):
        for j in range(J):
            below[j] += pi[p] * L[p, j]
            z[j] += below[j] <= u[j]
    counts = a.copy()
    for j in range(J):
        counts[z[j]] += 1.0
    gamma = np.empty(P)
    for p in range(P):
        gamma[p] = rng.standard_gamma(counts[p])
    return gamma / gamma.sum()


@kernel
def _change(slope: Array, step: float) -> float:
    """sum_j log(1 + step slope_j): of the log-likelihood along a line; eight factors share a logarithm."""
    total, J = 0.0, len(slope)
    whole = J - J % 8
    for first in range(0, whole, 8):
        product = 1.0
        for j in range(first, first + 8):
            product *= max(1.0 + step * slope[j], 0.0)
        total += np.log(product)
    for j in range(whole, J):
        total += np.log(max(1.0 + step * slope[j], 0.0))
    return total


@kernel
def _slice(slope: Array, total: float, now: float, a: float, b: float, rng: np.random.Generator) -> float:
    """Weight x in (0, total) of the first of two groups: a step that leaves its density as it is, from ``now``.

    x^(a-1) (total - x)^(b-1) prod_j (1 + (x - now) slope_j), by slice sampling; the interval shrinks about ``now``.
    """
    level = (a - 1.0) * np.log(now) + (b - 1.0) * np.log(total - now) + np.log(rng.random())
    low, high = 0.0, total
    while high - low > 1e-15 * total:
        x = low + (high - low) * rng.random()
        if (a - 1.0) * np.log(x) + (b - 1.0) * np.log(total - x) + _change(slope, x - now) >= level:
            return x
        if x < now:
            low = x
        else:
            high = x
    return now


@kernel
def _move(L: Array, f: Array, pi: Array, a: Array, group: Index, beside: bool, repeats: int, rng: np.random.Generator
          ) -> None:  # fmt: skip
    """Move weight between pairs of groups of components, shares within groups as they are; changes pi and f.

    Groups are paired at random, ``repeats`` times, or, if ``beside``, each with the next one.
    """
    P, J = L.shape
    G = group.max() + 1
    w, c, M, slope = np.zeros(G), np.zeros(G), np.zeros((G, J)), np.empty(J)
    for p in range(P):
        w[group[p]] += pi[p]
        c[group[p]] += a[p]
        M[group[p]] += pi[p] * L[p]
    before = w.copy()
    for _ in range(repeats):
        order = np.roll(np.arange(G), rng.integers(0, 2)) if beside else rng.permutation(G)
        for pair in range(G // 2):
            i, k = order[2 * pair], order[2 * pair + 1]
            total = w[i] + w[k]
            if not (w[i] > 0.0 and w[k] > 0.0):  # one has underflowed: it comes back with the next labels
                continue
            for j in range(J):
                slope[j] = (M[i, j] / w[i] - M[k, j] / w[k]) / f[j]
            x = _slice(slope, total, w[i], c[i], c[k], rng)
            for j in range(J):
                f[j] *= 1.0 + (x - w[i]) * slope[j]
            M[i] *= x / w[i]
            M[k] *= (total - x) / w[k]
            w[i], w[k] = x, total - x
    for p in range(P):
        if before[group[p]] > 0.0:
            pi[p] *= w[group[p]] / before[group[p]]


@kernel
def _sweeps(L: Array, pi: Array, a: Array, groups: Index, beside: NDArray[np.bool_], repeats: Index, draws: int,
            tune: int, rng: np.random.Generator) -> Array:  # fmt: skip
    """Draws of pi, (draw, component); ``groups`` (move, component), ``beside`` and ``repeats`` say how weight moves."""
    kept = np.empty((draws, len(pi)))
    for sweep in range(tune + draws):
        pi = _labels(L, pi @ L, pi, a, rng)
        f = pi @ L
        for move in range(len(groups)):
            _move(L, f, pi, a, groups[move], beside[move], repeats[move], rng)
        if sweep >= tune:
            kept[sweep - tune] = pi / pi.sum()
    return kept


def sample_weights(
    L: Array, a: Array, scale: Index, covariance: Index, draws: int, tune: int, stream: np.random.SeedSequence
) -> Array:
    """One chain of the sampler on labels and groups, from a start drawn from Dirichlet(1, ..., 1).

    Parameters
    ----------
    L : (component, effect)
        Likelihoods, every effect's over a number of its own; not all 0 in any effect.
    a : (component,)
        Of the Dirichlet.
    scale, covariance : (component,)
        Group of each component, counted from 0; the point mass is a group of its own. Any grouping gives draws from
        the same distribution.
    draws, tune
        Sweeps kept, and before them.
    stream
        Of the random numbers.

    Returns
    -------
    (draw, component)
        Weights.
    """
    rng, alone = np.random.default_rng(stream), np.arange(len(a))
    start = rng.dirichlet(np.ones(len(a)))
    groups, beside = np.array([alone, alone, scale, covariance]), np.array([False, True, False, False])
    repeats = np.array([1, 1, REPEATS, REPEATS])
    own = np.array(L, order="C")  # in a worker it may be read-only, for which everything would be compiled again
    return np.asarray(_sweeps(own, start, np.array(a), groups, beside, repeats, draws, tune, rng))


def _gibbs(
    problem: Problem, draws: int, tune: int, chains: int, seed: np.random.SeedSequence, cores: int, *, progress: bool
) -> Array:
    """pi (chain, draw, component)."""
    groups = np.array([*problem.components()]) + problem.pointmass  # the point mass, if there is one, is group 0
    covariance, scale = (np.ascontiguousarray(column) for column in groups.T)
    tasks = [(problem.relative, problem.concentration, scale, covariance, draws, tune, stream)
             for stream in seed.spawn(chains)]  # fmt: skip
    chain = spread(sample_weights, tasks, jobs=cores, title="sampling", progress=progress)
    return np.array([*chain])


# Effects, given the draws ---------------------------------------------------------------------------------------------


class Moments(NamedTuple):
    """Of effects, averaged over draws; (effect, condition), on the scale of the model."""

    mean: Array
    square: Array
    negative: Array
    zero: Array
    between: Array
    """Variance of E(b | b_hat, pi) over draws of pi."""


def _component(at: Coordinates, k: int, omega: float) -> tuple[Array, Array]:
    """Mean (effect, condition) and variance (effect or 1, condition) of b under omega^2 U_k."""
    shrink = omega**2 / (1.0 + omega**2 * at.d[k])
    mean = np.einsum("jcr,jr->jc", np.broadcast_to(at.FQ[k], (len(at.y[k]), *at.FQ[k].shape[1:])), shrink * at.y[k])
    return mean, np.einsum("jcr,jr->jc", at.FQ[k] ** 2, shrink)


def _negative(mean: Array, variance: Array) -> Array:
    """P(b < 0); 0 where b is 0."""
    sd = np.sqrt(np.broadcast_to(variance, mean.shape))
    return np.where(sd > 0.0, ndtr(np.divide(-mean, sd, out=np.zeros_like(mean), where=sd > 0.0)), 0.0)


def _on_grid(problem: Problem, pi: Array) -> Moments:
    """Moments of effects on the grid, averaged over all draws (draw, component): linear in P(z_j = p | pi).

    The variance between draws is taken over `CONDITIONED` of them.
    """
    at, L = problem.coordinates, problem.relative.T
    n, R = problem.effects.B.shape
    M, v = np.zeros((n, len(pi[0]), R)), np.zeros((n, len(pi[0]), R))
    for p, (k, scale) in enumerate(problem.components()):
        if k >= 0:
            M[:, p], v[:, p] = _component(at, k, problem.grid[scale])
    f = pi @ L.T  # (draw, effect)
    average = L * ((1.0 / f).T @ pi) / len(pi)  # E P(z_j = p | pi), (effect, component)
    mean, square, negative, zero = (np.einsum("jp,jpc->jc", average, part)
                                    for part in (M, v + M**2, _negative(M, v), v == 0.0))  # fmt: skip
    kept = _spaced(len(pi))
    given = (L[:, None, :] * pi[kept] / f[kept].T[:, :, None]) @ M  # E(b | b_hat, pi), (effect, draw, condition)
    return Moments(mean, square, negative, zero, given.var(axis=1))


def _with_scales(problem: Problem, pi: Array, omega: Array) -> Moments:
    """Moments of effects where scales are parameters, averaged over `CONDITIONED` draws."""
    at, kept = problem.coordinates, _spaced(len(pi))
    mean, square, negative, zero, squared_mean = (np.zeros(problem.effects.B.shape) for _ in range(5))
    for draw in kept:
        w = np.exp(_log_responsibilities(problem, pi[draw], omega[draw])) / len(kept)
        now = np.zeros_like(mean)
        for p, (k, _) in enumerate(problem.components()):
            share = w[p][:, None]
            m, v = _component(at, k, omega[draw, k]) if k >= 0 else (np.zeros_like(mean), np.zeros_like(mean))
            now += share * m
            square += share * (v + m**2)
            negative += share * _negative(m, v)
            zero += share * (v == 0.0)
        mean += now
        squared_mean += len(kept) * now**2
    return Moments(mean, square, negative, zero, np.maximum(squared_mean - mean**2, 0.0))


def _log_ratio(at: Coordinates, k: int, w2: float) -> Array:
    """log L_jk - log L_j0, (effect,)."""
    spread = 1.0 + w2 * at.d[k]
    return np.asarray(0.5 * ((w2 * at.y[k] ** 2 / spread).sum(axis=1) - np.log(spread).sum(axis=1)))


def _log_joint(problem: Problem, pi: Array, omega: Array) -> Array:
    """log pi_p + log L_jp - log L_j0 at one draw with free scales, (component, effect)."""
    null = [np.zeros(len(problem.effects.B))] * problem.pointmass
    ratios = [_log_ratio(problem.coordinates, k, w**2) for k, w in enumerate(omega)]
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(pi)[:, None] + np.array([*null, *ratios]))


def _log_responsibilities(problem: Problem, pi: Array, omega: Array) -> Array:
    """log P(z_j = p | b_hat, pi, omega), (component, effect)."""
    joint = _log_joint(problem, pi, omega)
    return np.asarray(joint - logsumexp(joint, axis=0))


def _spaced(draws: int) -> Index:
    return np.unique(np.linspace(0, draws - 1, CONDITIONED).astype(np.int64))


@one_thread
def recover(problem: Problem, pi: Array, omega: Array | None) -> xr.Dataset:
    """Posterior of the effects averaged over draws: ``mean`` and so on as of a fit, and ``left_out``.

    Parameters
    ----------
    problem
        With the effects that are wanted.
    pi : (draw, component)
    omega : (draw, covariance)
        None on the grid.
    """
    n, R = problem.effects.B.shape
    size = max(1, n if problem.free else CELLS // (max(len(problem.concentration), CONDITIONED) * R))
    pieces = []
    for first in range(0, n, size):
        some = problem.take(slice(first, first + size))
        pieces.append(_on_grid(some, pi) if omega is None else _with_scales(some, pi, omega))
    mean, square, negative, zero, between = (np.concatenate(part) for part in zip(*pieces, strict=True))
    variance = np.maximum(square - mean**2, 0.0)
    positive = np.clip(1.0 - negative - zero, 0.0, 1.0)
    scale, dims = problem.effects.scale, (EFFECT, CONDITION)
    left_out = np.divide(between, variance, out=np.zeros_like(between), where=variance > 0.0)
    variables = {
        "mean": scale * mean,
        "sd": scale * np.sqrt(variance),
        "lfsr": np.minimum(negative, positive) + zero,
        "lfdr": zero,
        "negative": negative,
        "positive": positive,
        "left_out": np.minimum(left_out, 1.0),
    }
    coords = {EFFECT: problem.effects.effects, CONDITION: problem.effects.conditions}
    return xr.Dataset({name: (dims, value) for name, value in variables.items()}, coords)


@one_thread
def draw_effects(problem: Problem, pi: Array, omega: Array | None, rng: np.random.Generator) -> Array:
    """One exact draw of every effect given each draw of the weights, (draw, effect, condition): for few effects."""
    (n, R), D, at = problem.effects.B.shape, len(pi), problem.coordinates
    if omega is None:
        joint = pi[:, :, None] * problem.relative
        scales = np.broadcast_to(np.tile(problem.grid, len(problem.covariances)), (D, len(pi[0]) - problem.pointmass))
    else:
        joint = np.array([np.exp(_log_responsibilities(problem, *now)) for now in zip(pi, omega, strict=True)])
        scales = omega
    below = joint.cumsum(axis=1)
    z = (below[:, :-1] <= rng.random((D, 1, n)) * below[:, -1:]).sum(axis=1)  # (draw, effect)
    which = np.array([k for k, _ in problem.components()])[z]
    out = np.zeros((D, n, R))
    for k in range(len(problem.covariances)):
        draw, j = np.nonzero(which == k)
        w2 = scales[draw, z[draw, j] - problem.pointmass] ** 2
        d, FQ = (np.broadcast_to(part, (n, *part.shape[1:]))[j] for part in (at.d[k], at.FQ[k]))
        shrink = w2[:, None] / (1.0 + w2[:, None] * d)
        s = shrink * at.y[k][j] + np.sqrt(shrink) * rng.standard_normal(d.shape)
        out[draw, j] = np.einsum("icr,ir->ic", FQ, s)
    return out * problem.effects.scale


# Everything together --------------------------------------------------------------------------------------------------


def sample(
    source: MashFit | Effects,
    prior: Prior | None = None,
    *,
    scales: str = "grid",
    method: str | None = None,
    null_weight: float = 10.0,
    concentration: float = 1.0,
    covariances: Sequence[str] | None = None,
    effects: Sequence[str] | None = None,
    keep: Sequence[str] = (),
    pointwise: bool = False,
    draws: int = 1000,
    tune: int = 500,
    chains: int = 4,
    seed: int = 0,
    cores: int = 1,
    progress: bool = True,
) -> xr.DataTree:
    """Sample weights of the mixture, and scales if wanted, with the posterior of effects averaged over them.

    Parameters
    ----------
    source
        A fit, as from `ebmodel.mash.fit`, for its data and prior; or data, with ``prior``.
    prior
        Covariances and grid (its weights are not looked at). Of a fit: another than its own.
    scales
        ``"grid"``: every covariance at every scale of the grid. ``"free"``: one scale a covariance, a parameter with a
        log-normal prior about the grid's middle; for few conditions.
    method
        ``"gibbs"``, for any number of components, on the grid; ``"nuts"``, for up to about a hundred components, and
        for free scales. By default the first wherever it can be used.
    null_weight, concentration
        Of the point mass and of every other component in the Dirichlet. With 1 for the others, and the fit's
        ``null_weight``, the fit is the maximum a posteriori.
    covariances
        Names of those to use; all of them by default.
    effects
        Names of effects whose posterior is wanted; all of them by default. All inform the weights.
    keep
        Names of effects of which draws are kept too.
    pointwise
        Whether to give the log-likelihood of every effect at every draw, for `arviz.loo`.
    draws, tune, chains
        Draws kept of each chain, steps before them, and chains.
    seed
        Of the random numbers. The same seed gives the same draws, whatever ``cores``.
    cores
        Chains at a time.
    progress
        Whether to show a progress bar.

    Returns
    -------
    DataTree
        ``posterior``: ``null_weight``, ``weights`` (covariance, scale) and ``loglik``, log p(B_hat | weights); with
        free scales ``weights`` (covariance) and ``omega`` (covariance); ``effects`` (effect, condition) if ``keep``.
        ``effects``: ``mean``, ``sd``, ``lfsr``, ``lfdr``, ``negative``, ``positive`` (effect, condition), averaged over
        draws, and ``left_out``, the share of the posterior variance that comes from not knowing the weights.
        ``log_likelihood`` if ``pointwise``: ``bhat`` (effect). ``prior``, ``log_prior``, ``sample_stats``,
        ``observed_data``, ``constant_data``. Attribute ``verdict``: whether to trust the draws.

    Raises
    ------
    InputError
        If data, prior or a name cannot be used, or a choice does not exist.

    Notes
    -----
    A sweep of ``"gibbs"`` takes time in proportion to effects times components, 10 to 20 ms for a million. Weights
    of neighbouring scales mix slowly, and under a sparse prior (``concentration`` well below 1) all do: raise draws.

    With hundreds of components the default prior is not neutral. It counts for as many effects as there are components
    and 9 more, and expects most of the weight off the point mass: with few effects the posterior has less at the point
    mass than the fit, and larger sds. ``concentration`` = 10 over the number of components counts for 10 effects off
    the point mass, and needs some thousands of draws.
    """
    expect(min(draws, chains) >= 1 and tune >= 0, "at least one draw and chain", (draws, tune, chains),
           "draws, tune, chains", "raise them")  # fmt: skip
    problem = pose(source, prior, scales=scales, null_weight=null_weight, concentration=concentration,
                   covariances=covariances)  # fmt: skip
    method = method or ("nuts" if problem.free else "gibbs")
    expect(method in METHODS, " or ".join(map(repr, METHODS)), repr(method), "method", "choose one")
    expect(method == "nuts" or not problem.free, "method='nuts' for free scales", repr(method), "method",
           "leave it out")  # fmt: skip
    rows, kept = (_rows(problem.effects, names, word) for names, word in ((effects, "effects"), (keep, "keep")))
    streams = np.random.SeedSequence(seed).spawn(3)
    omega, stats = None, None
    if method == "gibbs":
        pi = _gibbs(problem, draws, tune, chains, streams[0], cores, progress=progress)
    else:
        number = int(streams[0].generate_state(1)[0])
        pi, omega, stats = _nuts(problem, draws, tune, chains, number, cores, progress=progress)
    shape = chains, draws
    flat, scale = pi.reshape(-1, pi.shape[2]), None if omega is None else omega.reshape(chains * draws, -1)
    of_effects = _log_likelihood(problem, flat, scale)
    posterior = _weights(problem, pi, omega)
    posterior["loglik"] = (CHAIN, DRAW), of_effects.sum(axis=1).reshape(shape)
    if len(kept):
        drawn = draw_effects(problem.take(kept), flat, scale, np.random.default_rng(streams[1]))
        posterior["effects"] = (CHAIN, DRAW, EFFECT, CONDITION), drawn.reshape(*shape, *drawn.shape[1:])
        posterior = posterior.assign_coords({EFFECT: problem.effects.effects[kept],
                                             CONDITION: problem.effects.conditions})  # fmt: skip
    groups = {
        "posterior": posterior,
        "effects": recover(problem.take(rows) if effects is not None else problem, flat, scale),
        "log_prior": _log_prior(problem, pi, omega),
        "prior": _draw_prior(problem, min(draws * chains, 1000), np.random.default_rng(streams[2])),
        "sample_stats": stats if stats is not None else xr.Dataset({"lp": posterior["loglik"]}),
        "observed_data": _table(problem, "bhat", problem.effects.B),
        "constant_data": _constant(problem),
    }
    groups["sample_stats"]["lp"] = posterior["loglik"] + sum(groups["log_prior"].data_vars.values())
    if pointwise:
        values = of_effects.reshape(*shape, -1)
        coords = {EFFECT: problem.effects.effects, CHAIN: np.arange(chains), DRAW: np.arange(draws)}
        groups["log_likelihood"] = xr.Dataset({"bhat": ((CHAIN, DRAW, EFFECT), values)}, coords)
    tree = xr.DataTree.from_dict(groups)
    tree.attrs = {"method": method, "scales": scales, "null_weight": float(null_weight),
                  "concentration": float(concentration), "prior_effects": float(problem.concentration.sum()),
                  "alpha": problem.effects.alpha, "seed": seed}  # fmt: skip
    tree.attrs["verdict"] = verdict(tree)
    return tree


def _rows(effects: Effects, names: Sequence[str] | None, where: str) -> Index:
    if names is None:
        return np.arange(len(effects.effects))
    place = {str(name): j for j, name in enumerate(effects.effects)}
    strange = [name for name in names if str(name) not in place]
    expect(not strange, "names of effects", listed(strange), where, "match those of bhat")
    return np.array([place[str(name)] for name in names], dtype=np.int64)


def _log_likelihood(problem: Problem, pi: Array, omega: Array | None) -> Array:
    """log p(b_hat_j | weights), (draw, effect), on the original scale."""
    log_null = problem.coordinates.log_null
    if omega is None:
        return np.asarray(np.log(pi @ problem.relative) + problem.log_ratio.max(axis=0) + log_null)
    joint = (_log_joint(problem, *now) for now in zip(pi, omega, strict=True))
    return np.array([logsumexp(one, axis=0) for one in joint]) + log_null


def _weights(problem: Problem, pi: Array, omega: Array | None) -> xr.Dataset:
    """Draws (chain, draw, component) by covariance and scale."""
    chains, draws, _ = pi.shape
    weights = pi[:, :, problem.pointmass :].reshape(chains, draws, len(problem.covariances), -1)
    null = pi[:, :, 0] if problem.pointmass else np.zeros((chains, draws))
    dims = (CHAIN, DRAW, COVARIANCE)
    coords = {CHAIN: np.arange(chains), DRAW: np.arange(draws), COVARIANCE: [U.name for U in problem.covariances]}
    if not problem.free:
        coords[SCALE] = problem.grid
        return xr.Dataset({"null_weight": (dims[:2], null), "weights": ((*dims, SCALE), weights)}, coords)
    variables: dict[str, Any] = {"null_weight": (dims[:2], null), "weights": (dims, weights[..., 0])}
    return xr.Dataset(variables | ({} if omega is None else {"omega": (dims, omega)}), coords)


def _log_prior(problem: Problem, pi: Array, omega: Array | None) -> xr.Dataset:
    """Densities of the Dirichlet and of log omega, up to constants."""
    a, dims = problem.concentration, (CHAIN, DRAW)
    informed = a != 1.0
    log_pi = np.log(np.maximum(pi[..., informed], np.finfo(float).tiny))  # small weights of a sparse prior underflow
    found = {"mixture": (dims, log_pi @ (a[informed] - 1.0))}
    if omega is not None:
        mean, sd = problem.log_scale_prior
        found["omega"] = dims, -0.5 * np.square((np.log(omega) - mean) / sd).sum(axis=2)
    return xr.Dataset(found, {CHAIN: np.arange(len(pi)), DRAW: np.arange(pi.shape[1])})


def _draw_prior(problem: Problem, draws: int, rng: np.random.Generator) -> xr.Dataset:
    """Independent draws from the prior, in one chain."""
    pi = rng.dirichlet(problem.concentration, draws)[None]
    mean, sd = problem.log_scale_prior
    omega = np.exp(rng.normal(mean, sd, (1, draws, len(problem.covariances)))) if problem.free else None
    return _weights(problem, pi, omega)


def _table(problem: Problem, name: str, values: Array) -> xr.Dataset:
    """Values of the scaled effects on the original scale."""
    coords = {EFFECT: problem.effects.effects, CONDITION: problem.effects.conditions}
    return xr.Dataset({name: ((EFFECT, CONDITION), values * problem.effects.scale)}, coords)


def _constant(problem: Problem) -> xr.Dataset:
    """Standard errors, covariances and their names."""
    effects, square = problem.effects, (CONDITION, CONDITION_OTHER)
    found = _table(problem, "shat", np.asarray(effects.S))
    found["V"] = ((EFFECT, *square) if effects.own else square), effects.C
    matrices = np.array([U.matrix for U in problem.covariances])
    found["covariance_matrix"] = (COVARIANCE, *square), matrices
    found["grid"] = SCALE, problem.grid
    names = {COVARIANCE: [U.name for U in problem.covariances], CONDITION_OTHER: effects.conditions}
    return found.assign_coords(names)


def verdict(tree: xr.DataTree) -> str:
    """Whether to trust the draws, in one paragraph that begins with ``Sound`` or ``Not sound``.

    Judged are the point mass, every covariance and scale (weights summed over the other) and the log-likelihood: what
    neighbouring scales share of a weight is hardly told, and no effect depends on it.
    """
    posterior, stats = tree["posterior"].to_dataset(), tree["sample_stats"].to_dataset()
    weights, judged = posterior["weights"], {name: posterior[name] for name in ("null_weight", "loglik")}
    if SCALE in weights.dims:
        judged |= {"weights of covariances": weights.sum(SCALE), "weights of scales": weights.sum(COVARIANCE)}
    else:
        judged["weights of covariances"] = weights
    if "omega" in posterior:
        judged["omega"] = xr.DataArray(np.log(posterior["omega"]))
    chains, complaints = posterior.sizes[CHAIN], []
    with np.errstate(invalid="ignore", divide="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of ArviZ, about few draws: NaN says it
        mixed = {name: float(np.nanmax([az.rhat(value).max()])) for name, value in judged.items() if _varies(value)}
        low = min((float(az.ess(value, method=way).min()) for value in judged.values() if _varies(value)
                   for way in ("bulk", "tail")), default=0.0)  # fmt: skip
    worst = max(mixed, key=lambda name: mixed[name], default="")
    diverging = int(stats["diverging"].sum()) if "diverging" in stats else 0
    if diverging:
        complaints.append(f"{diverging} transitions diverged: raise tune, or give fewer covariances")
    if chains < 2:
        complaints.append("one chain cannot show whether chains agree: use at least two, better four")
    elif not mixed or not mixed[worst] < RHAT:
        value = mixed.get(worst, np.nan)
        complaints.append(f"R-hat is {value:.3f} for the {worst} (it should be below {RHAT}): draw more")
    if not low >= ESS_PER_CHAIN * chains:
        least = ESS_PER_CHAIN * chains
        complaints.append(f"the least effective sample size is {low:.0f} (it should be above {least}): raise draws")
    if "energy" in stats:
        energy = stats["energy"].to_numpy()
        with np.errstate(invalid="ignore", divide="ignore"):
            bfmi = float((np.square(np.diff(energy, axis=1)).sum(axis=1) / energy.shape[1] / energy.var(axis=1)).min())
        if not bfmi > BFMI:
            complaints.append(f"E-BFMI is {bfmi:.2f} (it should be above {BFMI}): raise tune")
    if complaints:
        return "Not sound. " + "; ".join(complaints) + "."
    return f"Sound: R-hat at most {mixed[worst]:.3f}, effective sample size at least {low:.0f}."


def _varies(value: xr.DataArray) -> bool:
    return bool(value.size > 1 and float(value.max() - value.min()) > 0.0)
