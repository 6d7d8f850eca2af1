"""More shapes of the slab: do any pay beside one power and one hierarchical mean (``eb_general``)?

Every candidate is a family of covariances for the same model with beta latent, and K slabs in place of one:

    beta ~ N(0, Psi),     beta(t) | I(t)=k ~ N(a_k beta, Sigma_k),  k = 1, ..., K,     beta(t) | I(t)=0 = 0

====================  ===============================================================================================
``power_plus``        Psi = kappa Sigma0, Sigma = eta Sigma0,  Sigma0 = (1-w) (X'X/s)^-alpha + w I
``two_scales``        slabs eta Sigma0 and c eta Sigma0 about beta,  Sigma0 = (X'X/s)^-alpha
``two_scales_zero``   the second slab about zero: tissues whose effects are their own
``two_powers``        Psi = kappa (X'X/s)^-alpha', Sigma = eta (X'X/s)^-alpha
``relevance``         Sigma0 = diag(omega): a scale for every SNP, learned across tissues
``relevance_power``   Sigma0 = D (X'X/s)^-alpha D,  D^2 = diag(omega)
``relevance_mean``    Psi = kappa diag(omega), Sigma = eta (X'X/s)^-alpha
``relevance_soft``    as ``relevance_power``, log omega_j ~ N(0, s^2), in which the bound integrates log omega out
``relevance_shrunk``  as ``relevance``, with the same prior: omega its mode, s by Laplace's evidence, and the general
                      fit where that has more
``shrunk_power``      the same of ``relevance_power``
``spikes``            another model: beta_j(t) | I(t)=1 = z_jt b_jt,  z_jt ~ Bernoulli(pi),  b_jt ~ N(m_j, eta),
                      m_j ~ N(0, kappa)
``chosen``            ``eb_general``, ``relevance_shrunk`` or ``spikes``: the one of the largest evidence
====================  ===============================================================================================

The bound on log p(Y) is that of the hierarchical mean, q(beta) prod_t q(I(t)). With V_tk = sigma2 I + X_t Sigma_k X_t',
W_tk = X_t'V_tk^-1 X_t, u_tk = X_t'V_tk^-1 y_t and w_tk = X_t'V_tk^-1 (y_t - a_k X_t beta) = u_tk - a_k W_tk beta,

    M = sum_tk a_k^2 T_tk W_tk,   z = sum_tk a_k T_tk u_tk,   S = (M + Psi^-1)^-1,   mu = S z,   v = z - M mu
    d bound / d Sigma_k = 1/2 sum_t T_tk (E ww' - W_tk),      E ww' = E w E w' + a_k^2 W_tk S W_tk
    d bound / d Psi     = 1/2 (vv' - (M - M S M))

so that q is found by ascent in turns, and all else by these gradients: q being the best, they are the profile's.
The formulas are p x p for each pattern of observed samples and need no inverse of Sigma or Psi, which may be singular.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, log_softmax, logit, logsumexp, rel_entr, softmax

import ebmodel
from ebmodel.data import tidy
from ebmodel.labels import SNP, TISSUE
from ebmodel.model import Array
from ebmodel.parallel import one_thread
from ebmodel.results import Fit
from simulations import peers
from simulations.estimators import ESTIMATORS, Estimate, Estimator
from simulations.metrics import METRICS
from simulations.study import Cell, Comparison, Study
from simulations.tables import Table

# The bound, for any covariances --------------------------------------------------------------------------------------


class Moments(NamedTuple):
    """What the bound needs of the data; tissues with the same samples share a pattern."""

    pattern: NDArray[np.int64]
    """(tissue,)"""
    A: Array
    """(pattern, snp, snp) X_t'X_t."""
    c: Array
    """(tissue, snp) X_t'y_t."""
    n: Array
    """(tissue,) observed samples."""
    yy: Array
    """(tissue,) |y_t|^2."""
    values: Array
    """(snp,) eigenvalues of X'X over their mean, all samples."""
    vectors: Array
    """(snp, snp) its eigenvectors, in columns."""


def moments(X: Array, Y: Array) -> Moments:
    """Reduce complete genotypes X (sample, snp) and responses Y (sample, tissue), NaN where missing."""
    data = tidy(X, Y)
    masks, pattern = data.patterns()
    A = np.array([data.X[rows].T @ data.X[rows] for rows in masks])
    y = np.where(data.observed, data.Y, 0.0)
    values, vectors = np.linalg.eigh(data.X.T @ data.X)
    n = data.observed.sum(axis=0).astype(float)
    return Moments(pattern, A, y.T @ data.X, n, np.sum(y**2, axis=0), values / values.mean(), vectors)


class Covariances(NamedTuple):
    """Psi and Sigma_k for one point of a family, with their derivatives in its numbers."""

    Psi: Array
    """(snp, snp)"""
    Psi_slope: Array
    """(number, snp, snp)"""
    Sigma: Array
    """(slab, snp, snp)"""
    Sigma_slope: Array
    """(slab, number, snp, snp)"""
    offset: float = 0.0
    """E log|Sigma0| less log|Sigma0| as used, where Sigma0 is uncertain."""
    offset_slope: Array | float = 0.0
    """(number,)"""
    price: float = 0.0
    """What a prior takes off the bound: KL divergence of what is believed of Sigma0, or minus the prior's log."""
    price_slope: Array | float = 0.0
    """(number,)"""


class Slab(NamedTuple):
    """One slab's W_t (pattern, snp, snp), u_t (tissue, snp), y_t'V_t^-1 y_t and log N(y_t; 0, V_t), (tissue,)."""

    a: float
    W: Array
    u: Array
    quadratic: Array
    log_g: Array


def slab_given(data: Moments, Sigma: Array, sigma2: float, a: float) -> Slab:
    """W, u and the density with beta = 0, from (sigma2 I + A Sigma)^-1."""
    eye = np.eye(len(Sigma))
    spread = data.A @ Sigma
    inverse = np.linalg.inv(sigma2 * eye + spread)
    W = inverse @ data.A  # X'V^-1 X = (sigma2 I + A Sigma)^-1 A
    u = np.einsum("tij,tj->ti", inverse[data.pattern], data.c)  # X'V^-1 y
    log_det = np.linalg.slogdet(eye + spread / sigma2)[1]  # log |V / sigma2|
    quadratic = (data.yy - np.sum(data.c * (u @ Sigma), axis=1)) / sigma2  # y'V^-1 y
    log_g = -0.5 * (data.n * np.log(2 * np.pi * sigma2) + log_det[data.pattern] + quadratic)
    return Slab(a, (W + W.transpose(0, 2, 1)) / 2, u, quadratic, log_g)


class Belief(NamedTuple):
    """q: T (class, tissue), and q(beta) = N(mu, S)."""

    T: Array
    mu: Array
    S: Array
    M: Array
    v: Array
    bound: float


def believe(data: Moments, C: Covariances, sigma2: float, log_tau: Array, slabs: Sequence[Slab], T: Array) -> Belief:
    """The best q from responsibilities T: q(beta) and q(I(t)) in turns, until the bound stands still."""
    Psi, p, m, last = C.Psi, len(C.Psi), len(data.n), -np.inf
    log_g0 = -0.5 * (data.n * np.log(2 * np.pi * sigma2) + data.yy / sigma2)
    while True:
        M, z = np.zeros((p, p)), np.zeros(p)
        for slab, row in zip(slabs, T[1:], strict=True):
            weight = np.bincount(data.pattern, row, minlength=len(data.A))
            M += slab.a**2 * np.tensordot(weight, slab.W, 1)
            z += slab.a * row @ slab.u
        keep = np.linalg.inv(np.eye(p) + Psi @ M)
        S = keep @ Psi
        S = (S + S.T) / 2
        mu = S @ z
        v = z - M @ mu  # Psi^-1 mu
        divergence = 0.5 * (np.trace(keep) - p + mu @ v - np.linalg.slogdet(keep)[1])  # KL(q(beta) || N(0, Psi))
        divergence += 0.5 * C.offset + C.price
        joint = np.empty((len(T), m))
        joint[0] = log_tau[0] + log_g0
        for k, slab in enumerate(slabs, start=1):
            square = np.einsum("kij,ij->k", slab.W, np.outer(mu, mu) + S)[data.pattern]  # E beta'W beta
            joint[k] = log_tau[k] + slab.log_g + slab.a * slab.u @ mu - 0.5 * (slab.a**2 * square + C.offset)
        total = logsumexp(joint, axis=0)
        T, bound = np.exp(joint - total), float(total.sum() - divergence)
        if bound - last < SETTLED * max(abs(bound), 1.0):
            return Belief(T, mu, S, M, v, bound)
        last = bound


SETTLED = 1e-12
"""Gain of the bound, relative to it, at which q is the best."""


def gradients(
    data: Moments, C: Covariances, sigma2: float, slabs: Sequence[Slab], q: Belief
) -> tuple[Array, float, Array]:
    """d bound in the family's numbers (number,), in log sigma2, and in the logits of tau (class,)."""
    numbers = np.tensordot(C.Psi_slope, 0.5 * (np.outer(q.v, q.v) - (q.M - q.M @ q.S @ q.M)), 2)
    error = 0.5 * np.sum(q.T[0] * (data.yy / sigma2 - data.n))
    for slab, T, Sigma, change in zip(slabs, q.T[1:], C.Sigma, C.Sigma_slope, strict=True):
        image = (slab.W @ q.mu)[data.pattern]
        w = slab.u - slab.a * image  # E w
        weight = np.bincount(data.pattern, T, minlength=len(data.A))
        ww = (w.T * T) @ w + slab.a**2 * np.einsum("k,kij->ij", weight, slab.W @ q.S @ slab.W)  # sum T E ww'
        W = np.tensordot(weight, slab.W, 1)
        numbers = numbers + np.tensordot(change, 0.5 * (ww - W), 2)
        square = slab.quadratic - 2 * slab.a * slab.u @ q.mu
        square += slab.a**2 * np.einsum("kij,ij->k", slab.W, np.outer(q.mu, q.mu) + q.S)[data.pattern]
        # sigma2 (E |V^-1 r|^2 - tr V^-1)/2, with sigma2 V^-1 = I - X Sigma X'V^-1
        error += 0.5 * (T @ (square - data.n) - np.sum(Sigma * (ww - W)))
    numbers = numbers - 0.5 * (1 + q.T[1:].sum()) * C.offset_slope - C.price_slope
    return numbers, float(error), q.T.sum(axis=1)


# Families ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Family:
    """Covariances as functions of free numbers, the first two always log kappa and log eta."""

    covariances: Callable[[Moments, Array], Covariances]
    starts: Callable[[Moments, float], list[list[float]]]
    """Starts of its own numbers, from the data and the power of the general fit."""
    bounds: Callable[[Moments], list[tuple[float, float]]]
    learned: Callable[[int], int]
    """Parameters beside sigma2, eta and tau1 that the bound is maximised over, given the number of SNPs."""
    centred: tuple[float, ...] = (1.0,)
    """a_k of each slab."""


POWERS, SCALES = (-3.0, 2.0), (-14.0, 6.0)
"""Ranges of alpha and of log omega."""


def power(data: Moments, alpha: float) -> tuple[Array, Array]:
    """(X'X/s)^-alpha and its derivative in alpha."""
    U, log_values = data.vectors, np.log(data.values)
    raised = np.exp(-alpha * log_values)
    return (U * raised) @ U.T, (U * (-log_values * raised)) @ U.T


def scaled(log_kappa: float, log_eta: float, mean: Shaped, slab: Shaped) -> Covariances:
    """Psi = kappa Psi0 and Sigma = eta Sigma0, each given with its derivatives in the family's own numbers."""
    Psi, Sigma = np.exp(log_kappa) * mean[0], np.exp(log_eta) * slab[0]
    nothing = np.zeros((1, *Psi.shape))
    Psi_slope = np.concatenate([Psi[None], nothing, np.exp(log_kappa) * mean[1]])
    Sigma_slope = np.concatenate([nothing, Sigma[None], np.exp(log_eta) * slab[1]])
    return Covariances(Psi, Psi_slope, Sigma[None], Sigma_slope[None])


type Shaped = tuple[Array, Array]
"""A shape (snp, snp) and its derivatives (number, snp, snp)."""


def general(data: Moments, theta: Array) -> Covariances:
    """One power for both: what ``eb_general`` fits."""
    Sigma0, slope = power(data, theta[2])
    return scaled(theta[0], theta[1], (Sigma0, slope[None]), (Sigma0, slope[None]))


def plus(data: Moments, theta: Array) -> Covariances:
    """Sigma0 = (1-w) (X'X/s)^-alpha + w I; own numbers alpha and logit w."""
    (raised, slope), w, eye = power(data, theta[2]), expit(theta[3]), np.eye(len(data.values))
    Sigma0 = (1 - w) * raised + w * eye
    shaped = Sigma0, np.array([(1 - w) * slope, w * (1 - w) * (eye - raised)])
    return scaled(theta[0], theta[1], shaped, shaped)


def scales(data: Moments, theta: Array) -> Covariances:
    """Slabs eta Sigma0 and c eta Sigma0; own numbers alpha and log c."""
    one = general(data, theta[:3])
    nothing = np.zeros((1, *one.Psi.shape))
    c = np.exp(theta[3])
    Sigma = np.concatenate([one.Sigma, c * one.Sigma])
    first = np.concatenate([one.Sigma_slope[0], nothing])
    second = np.concatenate([c * one.Sigma_slope[0], c * one.Sigma])
    return Covariances(one.Psi, np.concatenate([one.Psi_slope, nothing]), Sigma, np.array([first, second]))


def powers(data: Moments, theta: Array) -> Covariances:
    """Psi = kappa (X'X/s)^-alpha', Sigma = eta (X'X/s)^-alpha; own numbers alpha and alpha'."""
    slab, mean = power(data, theta[2]), power(data, theta[3])
    nothing = np.zeros_like(slab[1])
    return scaled(theta[0], theta[1], (mean[0], np.array([nothing, mean[1]])), (slab[0], np.array([slab[1], nothing])))


def diagonal(log_omega: Array) -> Shaped:
    """diag(omega) and its derivatives in log omega."""
    omega, eye = np.exp(log_omega), np.eye(len(log_omega))
    return np.diag(omega), omega[:, None, None] * eye[:, :, None] * eye[:, None, :]


def relevant(data: Moments, theta: Array, *, s: float = np.inf) -> Covariances:  # noqa: ARG001
    """Sigma0 = diag(omega); own numbers log omega, which are N(0, s^2)."""
    shaped = diagonal(theta[2:])
    return _with_prior(scaled(theta[0], theta[1], shaped, shaped), theta[2:], s)


def _with_prior(C: Covariances, log_omega: Array, s: float) -> Covariances:
    """Minus log N(log omega; 0, s^2), up to a constant, is taken off the bound; log omega are the last numbers."""
    slope = np.concatenate([np.zeros(len(C.Psi_slope) - len(log_omega)), log_omega / s**2])
    return C._replace(price=float(0.5 * np.sum((log_omega / s) ** 2)), price_slope=slope)


def relevant_power(data: Moments, theta: Array, *, s: float = np.inf) -> Covariances:
    """Sigma0 = D (X'X/s)^-alpha D, D^2 = diag(omega); own numbers alpha and log omega, which are N(0, s^2)."""
    raised, slope = power(data, theta[2])
    D = np.exp(theta[3:] / 2)
    Sigma0, eye = D[:, None] * raised * D, np.eye(len(D))
    change = 0.5 * (eye[:, :, None] * Sigma0 + eye[:, None, :] * Sigma0)  # row j and column j of Sigma0, halved
    shaped = Sigma0, np.concatenate([(D[:, None] * slope * D)[None], change])
    return _with_prior(scaled(theta[0], theta[1], shaped, shaped), theta[3:], s)


def uncertain(data: Moments, theta: Array) -> Covariances:
    """Sigma0 as in `relevant_power`, log omega_j ~ N(0, s^2) and q(log omega_j) = N(l_j, v).

    What the bound needs of omega is E log|Sigma0| and, for Sigma0 as used, the inverse of

        E Sigma0^-1 = D^-1 (X'X/s)^alpha D^-1 e^(v/4) + diag((e^(v/2) - e^(v/4)) e^-l_j [(X'X/s)^alpha]_jj),   D^2 = e^l

    s -> 0 is the general fit. Own numbers alpha, log s, log v and l.
    """
    log_kappa, log_eta, alpha, log_s, log_v = theta[:5]
    l, s2, v = theta[5:], np.exp(2 * log_s), np.exp(log_v)
    p = len(l)
    raised, slope = power(data, -alpha)  # (X'X/s)^alpha, and its derivative in -alpha
    D = np.exp(-l / 2)
    off, on = np.exp(v / 4), np.exp(v / 2) - np.exp(v / 4)
    full, extra = D[:, None] * raised * D, np.exp(-l) * np.diag(raised)
    Q, eye = off * full + np.diag(on * extra), np.eye(p)
    dQ = np.empty((p + 3, p, p))
    dQ[0] = -off * D[:, None] * slope * D - np.diag(on * np.exp(-l) * np.diag(slope))
    dQ[1] = 0.0
    dQ[2] = v * (off / 4 * full + np.diag((np.exp(v / 2) / 2 - np.exp(v / 4) / 4) * extra))
    half = 0.5 * (eye[:, :, None] * full + eye[:, None, :] * full)
    dQ[3:] = -off * half - (on * extra)[:, None, None] * eye[:, :, None] * eye[:, None, :]
    Sigma0 = np.linalg.inv(Q)
    shape = Sigma0, -Sigma0 @ dQ @ Sigma0
    C = scaled(log_kappa, log_eta, shape, shape)
    offset = l.sum() - alpha * np.log(data.values).sum() + np.linalg.slogdet(Q)[1]
    offset_slope = np.concatenate([[0.0, 0.0], np.tensordot(dQ, Sigma0, 2)])
    offset_slope[2] -= np.log(data.values).sum()
    offset_slope[5:] += 1.0
    price = 0.5 * np.sum((v + l**2) / s2 - 1 + 2 * log_s - log_v)  # KL(N(l_j, v) || N(0, s^2))
    price_slope = np.concatenate([[0.0, 0.0, 0.0, p - np.sum(v + l**2) / s2, 0.5 * p * (v / s2 - 1)], l / s2])
    return C._replace(offset=float(offset), offset_slope=offset_slope, price=float(price), price_slope=price_slope)


def relevant_mean(data: Moments, theta: Array) -> Covariances:
    """Psi = kappa diag(omega), Sigma = eta (X'X/s)^-alpha; own numbers alpha and log omega."""
    (raised, slope), mean = power(data, theta[2]), diagonal(theta[3:])
    nothing = np.zeros_like(mean[1])
    none = np.zeros((1, *raised.shape))
    return scaled(
        theta[0], theta[1], (mean[0], np.concatenate([none, mean[1]])), (raised, np.concatenate([slope[None], nothing]))
    )


def _ones(data: Moments, *first: float) -> list[float]:
    return [*first, *np.zeros(len(data.values))]


FAMILIES = {
    "general": Family(general, lambda _, alpha: [[alpha]], lambda _: [POWERS], lambda _: 2),
    "power_plus": Family(
        plus,
        lambda _, alpha: [[alpha, -4.0], [-1.0, 0.0], [1.0, 0.0]],
        lambda _: [POWERS, (-14.0, 14.0)],
        lambda _: 3,
    ),
    "two_scales": Family(
        scales,
        lambda _, alpha: [[alpha, np.log(0.05)], [alpha, np.log(10.0)]],
        lambda _: [POWERS, (-8.0, 8.0)],
        lambda _: 4,
        (1.0, 1.0),
    ),
    "two_scales_zero": Family(
        scales,
        lambda _, alpha: [[alpha, np.log(0.2)], [alpha, np.log(5.0)]],
        lambda _: [POWERS, (-8.0, 8.0)],
        lambda _: 4,
        (1.0, 0.0),
    ),
    "two_powers": Family(
        powers, lambda _, alpha: [[alpha, alpha], [alpha, 0.0]], lambda _: [POWERS, POWERS], lambda _: 3
    ),
    "relevance": Family(relevant, lambda data, _: [_ones(data)], lambda data: [SCALES] * len(data.values), lambda p: p),
    "relevance_power": Family(
        relevant_power,
        lambda data, alpha: [_ones(data, alpha), _ones(data, 0.0)],
        lambda data: [POWERS, *[SCALES] * len(data.values)],
        lambda p: p + 1,
    ),
    "relevance_mean": Family(
        relevant_mean,
        lambda data, alpha: [_ones(data, alpha), _ones(data, 0.0)],
        lambda data: [POWERS, *[SCALES] * len(data.values)],
        lambda p: p + 1,
    ),
    "relevance_soft": Family(
        uncertain,
        lambda data, alpha: [_ones(data, alpha, 0.0, -2.5), _ones(data, alpha, -2.0, -4.5)],
        lambda data: [POWERS, (-5.0, 2.5), (-12.0, 4.0), *[SCALES] * len(data.values)],
        lambda _: 3,
    ),
}
"""The candidates that are families of covariances; ``general`` is what they are compared with, for tests."""


# Fitted --------------------------------------------------------------------------------------------------------------


class Found(NamedTuple):
    """Where the ascent ended: the bound, the family's numbers, sigma2, tau (class,), effects (tissue, snp) and q."""

    bound: float
    numbers: Array
    sigma2: float
    tau: Array
    effects: Array
    q: Belief


@dataclass
class _Ascent:
    """The bound as a function of (log sigma2, logits of tau, the family's numbers); remembers T from call to call."""

    data: Moments
    family: Family
    T: Array

    def at(self, x: Array) -> tuple[float, Covariances, list[Slab], Belief]:
        K = len(self.family.centred)
        sigma2, log_tau = float(np.exp(x[0])), log_softmax(np.append(0.0, x[1 : 1 + K]))
        C = self.family.covariances(self.data, x[1 + K :])
        slabs = [slab_given(self.data, S, sigma2, a) for S, a in zip(C.Sigma, self.family.centred, strict=True)]
        return sigma2, C, slabs, believe(self.data, C, sigma2, log_tau, slabs, self.T)

    def __call__(self, x: Array) -> tuple[float, Array]:
        """Minus the bound and its gradient."""
        K = len(self.family.centred)
        sigma2, C, slabs, q = self.at(x)
        self.T = q.T
        numbers, error, active = gradients(self.data, C, sigma2, slabs, q)
        tau = softmax(np.append(0.0, x[1 : 1 + K]))
        logits = (active - len(self.data.n) * tau)[1:]
        return -q.bound, -np.concatenate([[error], logits, numbers])


MOST_STEPS = 300
FLAT = 1e-10
"""Relative gain of the bound in one step at which the ascent ends."""


@one_thread
def maximised(data: Moments, family: Family, fit: Fit) -> Found:
    """The family's best point, by L-BFGS from its starts; ``fit`` is the general fit, which gives all the rest."""
    theta, h = fit.params, fit.posterior_probability.to_numpy()
    K = len(family.centred)
    unit = theta.sigma2 / np.trace(data.A.mean(axis=0)) * len(data.values)  # a variance that the data can just see
    tau1 = float(np.clip(theta.tau1, 0.02, 0.98))
    common = [np.log(theta.sigma2), *[np.log(tau1 / (1 - tau1) / K)] * K]
    common += [np.log(max(theta.kappa, 0.1 * unit)), np.log(max(theta.eta, 0.1 * unit))]
    lowest = np.log(unit) - 12.0
    wide = [(common[0] - 8, common[0] + 8), *[(-12.0, 12.0)] * K, (lowest, lowest + 30.0), (lowest, lowest + 30.0)]
    best = None
    for own in family.starts(data, float(np.clip(theta.alpha, *POWERS))):
        ascent = _Ascent(data, family, np.vstack([1 - h, *[h / K] * K]))
        start, limits = np.array([*common, *own]), [*wide, *family.bounds(data)]
        start = np.clip(start, *np.transpose(limits))
        options = {"maxiter": MOST_STEPS, "ftol": FLAT, "maxcor": 20}
        x = minimize(ascent, start, jac=True, method="L-BFGS-B", bounds=limits, options=options).x
        sigma2, _, slabs, q = ascent.at(x)
        if best is None or q.bound > best.bound:
            tau = softmax(np.append(0.0, x[1 : 1 + K]))
            best = Found(q.bound, x[1 + K :], sigma2, tau, _effects(data, slabs, q, family, x[1 + K :]), q)
    return best


def _effects(data: Moments, slabs: Sequence[Slab], q: Belief, family: Family, numbers: Array) -> Array:
    """E(beta(t) | Y) = sum_k T_tk (a_k mu + Sigma_k E w_tk), (tissue, snp)."""
    C, effects = family.covariances(data, numbers), np.zeros_like(data.c)
    for slab, T, Sigma in zip(slabs, q.T[1:], C.Sigma, strict=True):
        w = slab.u - slab.a * (slab.W @ q.mu)[data.pattern]
        effects += T[:, None] * (slab.a * q.mu + w @ Sigma)
    return effects


# Estimators ----------------------------------------------------------------------------------------------------------


def shaped(data: xr.Dataset, stream: np.random.SeedSequence, *, family: str) -> Estimate:
    """A family of covariances, its numbers those of the largest bound; from where the general fit ends.

    ``facts["evidence"]`` is the bound less half log m for each parameter maximised over, as `Fit.log_evidence`.
    """
    fit, stats = _general(data, stream)
    found = maximised(stats, FAMILIES[family], fit)
    cost = 0.5 * FAMILIES[family].learned(data.sizes[SNP]) * np.log(data.sizes[TISSUE])
    facts = {"gain": found.bound - fit.loglik, "evidence": found.bound - cost}
    facts |= {f"number_{i}": float(number) for i, number in enumerate(found.numbers[:4])}
    return Estimate(found.effects, 1 - found.q.T[0], facts=facts)


def _general(data: xr.Dataset, stream: np.random.SeedSequence) -> tuple[Fit, Moments]:
    X, Y = data["X"].to_numpy(), data["Y"].to_numpy()
    seed = int(stream.generate_state(1)[0])
    return ebmodel.fit(X, Y, slab="power", mean="hierarchical", seed=seed), moments(X, Y)


SPREADS = (0.5, 1.0, 2.0, 4.0)
"""Sds s of log omega that are tried."""
SHRUNK = {"relevance": relevant, "relevance_power": relevant_power}


def shrunk(data: xr.Dataset, stream: np.random.SeedSequence, *, family: str) -> Estimate:
    """A family of SNPs' own scales with log omega_j ~ N(0, s^2): omega its mode, and s by Laplace's evidence,

        evidence(s) = bound - sum_j (log omega_j)^2/2s^2 - 1/2 log |I + s^2 H|

    with H the expected information on log omega, less half log m for s, as for kappa and alpha. Where no s has more
    evidence than the general fit, that is the estimate, and ``facts["s"]`` is 0.
    """
    fit, stats = _general(data, stream)
    best, s_best = fit.log_evidence, 0.0
    effects, probability = fit.effects.to_numpy(), fit.posterior_probability.to_numpy()
    learned = 1 + FAMILIES[family].learned(1)  # s; of omega only the scale, which eta has already
    for s in SPREADS:
        prior = replace(FAMILIES[family], covariances=partial(SHRUNK[family], s=s))
        found = maximised(stats, prior, fit)
        spread = np.eye(data.sizes[SNP]) + s**2 * information(stats, prior, found)
        evidence = found.bound - 0.5 * np.linalg.slogdet(spread)[1]
        evidence -= 0.5 * learned * np.log(data.sizes[TISSUE])
        if evidence > best:
            best, s_best, effects, probability = float(evidence), s, found.effects, 1 - found.q.T[0]
    return Estimate(effects, probability, facts={"evidence": best, "s": s_best, "gain": best - fit.log_evidence})


def information(data: Moments, family: Family, found: Found) -> Array:
    """Expected information of the responses on log omega, (snp, snp), tau and q(I(t)) being known.

    With d Sigma_i = d Sigma / d log omega_i = (e_i e_i'Sigma + Sigma e_i e_i')/2 it is, for a slab and for the mean,

        1/2 tr(W dSigma_i W dSigma_j) = 1/4 [ W o (Sigma W Sigma) + (W Sigma) o (W Sigma)' ]_ij
    """
    C, q = family.covariances(data, found.numbers), found.q

    def inner(W: Array, Sigma: Array) -> Array:
        WS = W @ Sigma
        return 0.25 * (W * (Sigma @ WS) + WS * WS.T)

    H = inner(q.M - q.M @ q.S @ q.M, C.Psi)  # beta has the covariance M^-1 + Psi, of inverse M - M S M
    for T, Sigma, a in zip(q.T[1:], C.Sigma, family.centred, strict=True):
        slab = slab_given(data, Sigma, found.sigma2, a)
        weight = np.bincount(data.pattern, T, minlength=len(data.A))
        H = H + sum(share * inner(W, Sigma) for share, W in zip(weight, slab.W, strict=True))
    return (H + H.T) / 2


@one_thread
def spikes(data: xr.Dataset, stream: np.random.SeedSequence) -> Estimate:
    """beta_j(t) | I(t)=1 = z_jt b_jt, z_jt ~ Bernoulli(pi), b_jt ~ N(m_j, eta), m_j ~ N(0, kappa).

    Variational EM with q(I(t)) prod_j q(z_jt, b_jt | I(t)=1) prod_j q(m_j), all tissues at once, from the effects of
    the fit with independent effects. ``facts["bound"]`` is its bound on log p(Y).
    """
    X, Y = data["X"].to_numpy(), data["Y"].to_numpy()
    fit = ebmodel.fit(X, Y, slab="independent", mean="hierarchical", seed=int(stream.generate_state(1)[0]))
    stats = moments(X, Y)
    spiked = Spiked(stats, fit)
    bound = spiked.climb()
    cost = float(np.log(len(stats.n)))  # half of it for kappa, half for pi
    facts = {"bound": bound, "evidence": bound - cost, "pi": spiked.pi, "kappa": spiked.kappa, "eta": spiked.eta}
    return Estimate(spiked.T[:, None] * spiked.effects, spiked.T, facts=facts)


class Spiked:
    """State of the variational EM of `spikes`; effects, phi, mu and s2 are those given I(t) = 1."""

    def __init__(self, data: Moments, fit: Fit) -> None:
        self.data, self.A = data, data.A[data.pattern]
        self.squares = np.einsum("tjj->tj", self.A)
        h = fit.posterior_probability.to_numpy()
        self.effects = fit.effects.to_numpy() / np.maximum(h, SLIGHT)[:, None]
        self.mu, self.phi = self.effects.copy(), np.full_like(self.effects, 0.5)
        self.score = data.c - np.einsum("tij,tj->ti", self.A, self.effects)  # X_t'(y_t - X_t E beta(t))
        self.sigma2, self.tau1, self.pi, self.T = fit.params.sigma2, 0.5, 0.5, h
        unit = self.sigma2 / self.squares.mean()
        self.eta = self.kappa = max(float(np.mean(self.effects**2)), SLIGHT * unit)
        self.m, self.variance = np.zeros(data.c.shape[1]), np.full(data.c.shape[1], self.kappa)

    def climb(self) -> float:
        """Sweeps until the bound stands still: the bound."""
        last = -np.inf
        for _ in range(SWEEPS):
            self.sweep()
            rss, bound = self.tissues()
            if bound - last < ENOUGH:
                break
            last = bound
            self.hyperparameters(rss)
        return bound

    def sweep(self) -> None:
        """q(z_jt, b_jt): z = 1 with probability phi, and then b ~ N(mu, s2)."""
        self.s2 = 1 / (self.squares / self.sigma2 + 1 / self.eta)
        for j in range(len(self.m)):
            s2, old = self.s2[:, j], self.effects[:, j].copy()
            others = self.score[:, j] + self.squares[:, j] * old  # X_j'(y - X E beta), SNP j left out
            mu = s2 * (others / self.sigma2 + self.m[j] / self.eta)
            odds = np.log(s2 / self.eta) + mu**2 / s2 - (self.m[j] ** 2 + self.variance[j]) / self.eta
            self.phi[:, j], self.mu[:, j] = expit(logit(self.pi) + 0.5 * odds), mu
            self.effects[:, j] = self.phi[:, j] * mu
            self.score -= (self.effects[:, j] - old)[:, None] * self.A[:, :, j]

    def tissues(self) -> tuple[Array, float]:
        """q(I(t)); E |y_t - X_t beta(t)|^2 given I(t) = 1, (tissue,), and the bound."""
        data, phi = self.data, self.phi
        spread = phi * (self.s2 + self.mu**2) - self.effects**2  # var beta_j(t)
        rss = data.yy - np.sum(self.effects * (data.c + self.score), axis=1) + np.sum(self.squares * spread, axis=1)
        gain = 0.5 * phi * (1 + np.log(self.s2 / self.eta) - self._apart() / self.eta)
        gain -= rel_entr(phi, self.pi) + rel_entr(1 - phi, 1 - self.pi)
        log_g1 = -0.5 * (data.n * np.log(2 * np.pi * self.sigma2) + rss / self.sigma2) + gain.sum(axis=1)
        log_g0 = -0.5 * (data.n * np.log(2 * np.pi * self.sigma2) + data.yy / self.sigma2)
        self.T = expit(logit(self.tau1) + log_g1 - log_g0)
        ratio = self.variance / self.kappa
        divergence = 0.5 * np.sum(self.m**2 / self.kappa + ratio - 1 - np.log(ratio))  # KL(q(m) || N(0, kappa))
        total = np.logaddexp(np.log(self.tau1) + log_g1, np.log1p(-self.tau1) + log_g0)
        return rss, float(total.sum() - divergence)

    def hyperparameters(self, rss: Array) -> None:
        """q(m), then tau1, pi, kappa, eta and sigma2 given q."""
        weight = self.T[:, None] * self.phi
        self.variance = 1 / (1 / self.kappa + weight.sum(axis=0) / self.eta)
        self.m = self.variance * np.sum(weight * self.mu, axis=0) / self.eta
        self.tau1 = float(np.clip(self.T.mean(), LEAST, 1 - LEAST))
        self.pi = float(np.clip(weight.sum() / (self.T.sum() * len(self.m)), LEAST, 1 - LEAST))
        self.kappa = max(float(np.mean(self.m**2 + self.variance)), LEAST**2)
        self.eta = max(float(np.sum(weight * self._apart()) / weight.sum()), LEAST**2)
        self.sigma2 = float(np.sum((1 - self.T) * self.data.yy + self.T * rss) / self.data.n.sum())

    def _apart(self) -> Array:
        """E (b_jt - m_j)^2."""
        return (self.mu - self.m) ** 2 + self.s2 + self.variance


SWEEPS, ENOUGH = 300, 1e-4
SLIGHT, LEAST = 1e-2, 1e-6


# The study -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SameData(Study):
    """A study on the data of ``peers``, whose stored results of other estimators can so be set beside its own."""

    def stream(self, cell: Cell, replication: int) -> np.random.SeedSequence:
        """The stream of ``peers``."""
        return peers.STUDY.stream(cell, replication)


RIVAL = "eb_general"
WORDS = {
    "power_plus": "power + I", "two_scales": "two scales", "two_scales_zero": "two scales, one about 0",
    "two_powers": "two powers", "relevance": "relevance", "relevance_power": "relevance, power",
    "relevance_mean": "relevance, mean", "relevance_soft": "relevance, soft", "relevance_shrunk": "relevance, shrunk",
    "shrunk_power": "relevance, power, shrunk", "spikes": "spikes", "chosen": "chosen",
}  # fmt: skip
OTHERS = {"eb": "EB (paper)", "ridge": "ridge", "elastic_net": "elastic net", "multitask": "multi-task"}
CHOICE = (RIVAL, "relevance_shrunk", "spikes")
"""What ``chosen`` chooses from."""
RELEVANCE = ("Setting 2", "sparse, shared")
MADE = {part: RELEVANCE for part in WORDS if "relevance" in WORDS[part]} | dict.fromkeys(
    ("spikes", "chosen"), ("Setting 2", "sparse, shared", "sparse, specific", "sparse, clustered")
)
"""Groups of cells whose truth is what a candidate supposes: they do not count for it."""


def cells() -> list[Cell]:
    """Those of ``peers``, dense ones at signal 1 alone."""
    return [cell for cell in peers.cells() if cell["signal"] == 1.0 or cell["world"] in peers.SPARSE]


def completed(results: pd.DataFrame) -> pd.DataFrame:
    """With ``chosen``, and with what ``peers`` has of the others on the same data."""
    results = results.assign(cell=results.groupby(peers.KEYS, sort=False).ngroup())
    evidence = np.column_stack([results["log_evidence_eb_general"], *(results[f"evidence_{c}"] for c in CHOICE[1:])])
    mse = np.column_stack([results[f"mse_{part}"] for part in CHOICE])
    which = evidence.argmax(axis=1)
    results["mse_chosen"] = np.take_along_axis(mse, which[:, None], axis=1)[:, 0]
    results["seconds_chosen"] = results["seconds_relevance_shrunk"] + results["seconds_spikes"]
    for i, part in enumerate(CHOICE):
        results[f"is_{part}"] = which == i
    if peers.STUDY.store.exists:
        stored, keys = peers.STUDY.read(), [*peers.KEYS, "replication"]
        columns = [f"mse_{part}" for part in OTHERS if f"mse_{part}" in stored and f"mse_{part}" not in results]
        results = results.merge(stored[[*keys, *columns]], on=keys, how="left")
    return results


class Ratio(NamedTuple):
    """Mean of the log of an MSE over that of the general fit, and its standard error."""

    log: float
    se: float

    def __str__(self) -> str:
        value = np.exp(self.log)
        return "–" if np.isnan(value) else f"{value:.3f} ± {value * self.se:.3f}"


def ratio(results: pd.DataFrame, part: str) -> Ratio:
    """Over data sets; the standard error is that within cells, which are not a sample of anything."""
    log = np.log(results[f"mse_{part}"] / results[f"mse_{RIVAL}"])
    within = log.groupby(results["cell"])
    mean, variance, count = within.mean(), within.var(), within.count()
    known = count > 0
    error = (variance.fillna(variance.mean()) / count)[known]
    return Ratio(float(mean[known].mean()), float(np.sqrt(error.sum()) / known.sum()))


def verdicts(results: pd.DataFrame) -> pd.DataFrame:
    """Candidate by candidate: its ratio over cells not made for it, groups where it wins and loses, and the verdict.

    A candidate is kept if its mean log MSE is lower by more than two standard errors over all cells that were not made
    for it, and in no group higher by more than two.
    """
    groups = results["world"].map(peers.group_of)
    rows = []
    for part in WORDS:
        made = groups.isin(MADE.get(part, ()))
        every = {name: ratio(group, part) for name, group in results.groupby(groups, sort=False)}
        elsewhere = ratio(results[~made], part)
        wins = [name for name, r in every.items() if r.log < -2 * r.se and r.log < -SMALL]
        loses = [name for name, r in every.items() if r.log > 2 * r.se and r.log > SMALL]
        kept = elsewhere.log < -2 * elsewhere.se and elsewhere.log < -SMALL and not loses
        harmless = not loses and bool(set(wins) & set(MADE.get(part, ())))
        verdict = KEPT if kept else HARMLESS if harmless else DROPPED
        rows.append({"part": part, "elsewhere": elsewhere, "wins": wins, "loses": loses, "verdict": verdict})
    return pd.DataFrame(rows).set_index("part")


SMALL = 1e-3
"""Ratios nearer to 1 than that are no difference."""
KEPT, DROPPED = "kept", "dropped"
HARMLESS = "dropped (wins only on data made for it, loses nowhere)"


def ratios_table(results: pd.DataFrame) -> Table:
    """Ratio by group, over the cells not made for it, and of seconds."""
    results = completed(results)
    groups, found = results["world"].map(peers.group_of), verdicts(results)
    rows = []
    parts = {**WORDS, **{part: word for part, word in OTHERS.items() if f"mse_{part}" in results}}
    for part, word in parts.items():
        row = [word, *(str(ratio(group, part)) for _, group in results.groupby(groups, sort=False))]
        row += [str(found.loc[part, "elsewhere"]), found.loc[part, "verdict"]] if part in WORDS else ["–", ""]
        seconds = results.get(f"seconds_{part}")
        row.append("–" if seconds is None else f"{np.exp(np.log(seconds / results[f'seconds_{RIVAL}']).mean()):.1f}")
        rows.append(row)
    n = int(results.groupby(peers.KEYS).size().min())
    caption = (
        f"MSE of effects over that of the general fit (power, hierarchical), geometric mean over cells of {n} data "
        "sets ± its standard error within cells; over all cells not made for the candidate; verdict; and seconds "
        "over those of the general fit (a candidate's include its own general fit)"
    )
    header = ["", *groups.unique(), "not made for it", "verdict", "seconds"]
    return Table("shapes_ratios", caption, header, rows)


def finding(results: pd.DataFrame) -> str:
    """Which candidate wins where, which loses, and what is kept."""
    results = completed(results)
    lines, found = [], verdicts(results)
    for part, row in found.iterrows():
        wins = ", ".join(row["wins"]) or "nowhere"
        loses = ", ".join(row["loses"]) or "nowhere"
        lines.append(
            f"- {WORDS[part]}: {row['elsewhere']} over the cells not made for it; wins in: {wins}; loses in: {loses}; "
            f"{row['verdict']}."
        )
    share = ", ".join(f"{part} {100 * results[f'is_{part}'].mean():.0f} %" for part in CHOICE)
    kept = [WORDS[part] for part, row in found.iterrows() if row["verdict"] == KEPT]
    return "\n".join([
        f"Of {len(WORDS)} further shapes {', '.join(kept) if kept else 'none'} kept by the rule. "
        f"Evidence chooses: {share}.",
        "",
        *lines,
    ])  # fmt: skip


def table(results: pd.DataFrame) -> str:
    """Ratios and the finding."""
    return f"{ratios_table(results).markdown()}\n\n{finding(results)}"


CANDIDATES: dict[str, Estimator] = {
    **{name: partial(shaped, family=name) for name in FAMILIES if name != "general"},
    "relevance_shrunk": partial(shrunk, family="relevance"),
    "shrunk_power": partial(shrunk, family="relevance_power"),
    "spikes": spikes,
}
"""Every candidate but ``chosen``, which is found afterwards."""

STUDY = SameData(
    "shapes",
    cells(),
    3,
    Comparison(
        peers.data,
        {
            RIVAL: partial(ESTIMATORS[RIVAL], intervals=False),
            "eb": partial(ESTIMATORS["eb"], intervals=False),
            "ridge": ESTIMATORS["ridge"],
            **CANDIDATES,
        },
        {name: METRICS[name] for name in ("mse", "auc", "facts")},
    ),
    table,
)
