"""Bayes risks without simulation, for any loss and any pattern of missing responses.

In the coordinates of `ebmodel.statistics` (beta(t) = L gamma(t), A_t'A_t = V diag(d) V') a tissue's data are, of all
that depends on beta(t), x = sqrt(d) b with independent coordinates; with a = V'gamma, phi_j = eta d_j / sigma2,

    x_j | I(t)=1 ~ N(sqrt(d_j) a_j, sigma2 (1 + phi_j)),        x_j | I(t)=0 ~ N(0, sigma2),
    V'gamma(t) | I(t)=1, x ~ N(s, diag(eta / (1 + phi))),       s_j = (a_j + (eta/sigma2) sqrt(d_j) x_j) / (1 + phi_j),

and the loss is that of V'gamma(t) with Delta~ = (L V)'Delta (L V). The risk of the oracle h s, equation (8), is its
mean posterior risk: the variance under the slab, and the price of not knowing I(t),

    R(oracle) = tau1 sum_j Delta~_jj eta / (1 + phi_j) + E{ h (1 - h) s'Delta~ s }.

The second term has no closed form because of h, but is one integral over the line, whatever p, d and Delta are. The
density of x is tau1 g1 + tau0 g0, so that h (1 - h) times it is, with q = log{tau1 g1 / (tau0 g0)},

    tau1 g1 tau0 g0 / (tau1 g1 + tau0 g0) = sqrt(tau1 g1 tau0 g0) / {2 cosh(q/2)}
                                          = 1/2 int sech(pi v) (tau1 g1)^e (tau0 g0)^(1-e) dv,      e = 1/2 + i v,

as sech(q/2) = int sech(pi v) exp(i v q) dv. Between the two normal densities stands a third, of complex parameters:
with D_j = 1 + (1-e) phi_j,

    int g1^e g0^(1-e) = prod_j (1 + phi_j)^((1-e)/2) D_j^(-1/2) exp{-e (1-e) d_j a_j^2 / (2 sigma2 D_j)},
    and under it  E s_j = a_j / D_j,    var s_j = eta phi_j / {(1 + phi_j) D_j}.

The integrand is analytic for |Im v| < 1/2 whatever the parameters, so the trapezoidal rule with step 1/16 errs by about
exp(-16 pi), less than rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ebmodel.data import tidy
from ebmodel.errors import expect
from ebmodel.model import Array, Params
from ebmodel.statistics import compress, whiten

__all__ = ["EXACT", "Coordinates", "coordinates"]

STEP, NODES = 1.0 / 16.0, 216
"""Of the trapezoidal rule; sech(pi v) is 1e-18 at the last node."""


class Coordinates(NamedTuple):
    """All that the risk in a tissue depends on, besides tau1, eta and sigma2; one row a pattern of missingness."""

    a: Array
    """(pattern, rank) whitened mean effect V'gamma."""
    d: Array
    """(pattern, rank) eigenvalues of A_t'A_t; 0 where the observed samples do not see a direction."""
    delta: Array
    """(pattern, rank, rank) the loss, Delta~ = (L V)'Delta (L V)."""
    pattern: NDArray[np.int64]
    """(tissue,) which one a tissue has."""


def coordinates(params: Params, X: Array, loss: Array, observed: NDArray[np.bool_]) -> Coordinates:
    """Whiten the design, the mean effect and the loss for every pattern in ``observed`` (sample, tissue).

    Raises
    ------
    InputError
        If X does not have full column rank or as many columns as there are effects.
    """
    beta = np.asarray(params.beta)
    expect(X.shape[1] == len(beta), f"{len(beta)} SNPs, one an effect in params.beta", X.shape[1], "X", "match them")
    stats, whitening = whiten(compress(tidy(X, np.where(observed, 0.0, np.nan))), params.slab)
    rank = stats.d.shape[1]
    do = "leave out SNPs that others determine: (X'X)^-1 must exist"
    expect(rank == len(beta), f"genotypes of rank {len(beta)}", f"rank {rank}", "X", do)
    axes = whitening.L @ stats.V  # L V, (pattern, snp, rank)
    delta = np.swapaxes(axes, 1, 2) @ loss @ axes
    return Coordinates(whitening.whiten(beta) @ stats.V, stats.d, delta, stats.pattern)


def zero(at: Coordinates, params: Params) -> Array:
    """No effect anywhere: tau1 E(beta(t)'Delta beta(t) | I(t)=1)."""
    return params.tau1 * (_form(at.a, at.delta) + params.eta * _trace(at.delta))


def ols(at: Coordinates, params: Params) -> Array:
    """Equations (2) and (10): sigma2 tr Delta (X_t'X_t)^-1, infinite where X_t'X_t has no inverse."""
    with np.errstate(divide="ignore"):
        variance = params.sigma2 / at.d
    finite = np.all(at.d > 0.0, axis=1)
    risk = np.full(len(at.d), np.inf)
    risk[finite] = _diagonal_sum(at.delta[finite], variance[finite])
    return risk


def linear(at: Coordinates, params: Params) -> Array:
    """The best affine function of Y(t): what the first two moments of the prior are worth.

    tr Delta~ {Gamma - Gamma A'(sigma2 I + A Gamma A')^-1 A Gamma},  A = diag(sqrt(d)),
    Gamma = cov V'gamma(t) = tau1 eta I + tau1 tau0 a a'.
    """
    tau1, eta = params.tau1, params.eta
    Gamma = tau1 * eta * np.eye(at.a.shape[1]) + tau1 * (1.0 - tau1) * at.a[:, :, None] * at.a[:, None, :]
    A = np.sqrt(at.d)
    AG = A[:, :, None] * Gamma
    gain = np.linalg.solve(params.sigma2 * np.eye(len(A.T)) + AG * A[:, None, :], AG)
    return np.asarray(np.einsum("kij,kji->k", at.delta, Gamma - np.swapaxes(AG, 1, 2) @ gain))


def slab(at: Coordinates, params: Params) -> Array:
    """The posterior mean s under the slab, in every tissue: active ones cost its variance, the others s'Delta~ s."""
    phi = params.eta / params.sigma2 * at.d
    spike = _form(at.a / (1.0 + phi), at.delta) + _diagonal_sum(at.delta, params.eta * phi / (1.0 + phi) ** 2)
    return informed(at, params) + params.tau0 * spike


def informed(at: Coordinates, params: Params) -> Array:
    """The oracle if it knew I(t): tau1 tr Delta~ diag(eta / (1 + phi)). No estimator comes below it."""
    phi = params.eta / params.sigma2 * at.d
    return params.tau1 * _diagonal_sum(at.delta, params.eta / (1.0 + phi))


def oracle(at: Coordinates, params: Params) -> Array:
    """Equations (8) and (11) at the true parameters: the least risk there is (Theorems 1 and 3)."""
    return informed(at, params) + _price(at, params)


EXACT: dict[str, Callable[[Coordinates, Params], Array]] = {
    "zero": zero,
    "ols": ols,
    "slab": slab,
    "linear": linear,
    "oracle": oracle,
    "informed": informed,
}
"""Word -> risk in every pattern, (pattern,)."""


def _price(at: Coordinates, params: Params) -> Array:
    """E{h (1 - h) s'Delta~ s}, the price of not knowing I(t), (pattern,)."""
    if params.tau1 in (0.0, 1.0):
        return np.zeros(len(at.a))
    return np.array([_price_of_one(*row, params) for row in zip(at.a, at.d, at.delta, strict=True)])


def _price_of_one(a: Array, d: Array, delta: Array, params: Params) -> float:
    tau1, tau0, eta, sigma2 = params.tau1, params.tau0, params.eta, params.sigma2
    v = STEP * np.arange(NODES)
    e = 0.5 + 1j * v[:, None]
    phi = eta * d / sigma2
    D = 1.0 + (1.0 - e) * phi
    # log int g1^e g0^(1-e)
    log_Z = 0.5 * np.sum((1.0 - e) * np.log1p(phi) - np.log(D) - e * (1.0 - e) * d * a**2 / (sigma2 * D), axis=1)
    mean, variance = a / D, eta * phi / ((1.0 + phi) * D)
    moment = np.sum((mean @ delta) * mean, axis=1) + variance @ np.diag(delta)  # E s'Delta~ s
    e = e[:, 0]
    integrand = np.real(np.exp(e * np.log(tau1) + (1.0 - e) * np.log(tau0) + log_Z) * moment) / np.cosh(np.pi * v)
    return float(STEP * (np.sum(integrand) - 0.5 * integrand[0]))  # even in v: twice the half line, times 1/2


def _form(a: Array, delta: Array) -> Array:
    """a'Delta~ a, (pattern,)."""
    return np.asarray(np.einsum("ki,kij,kj->k", a, delta, a))


def _trace(delta: Array) -> Array:
    return np.asarray(np.trace(delta, axis1=1, axis2=2))


def _diagonal_sum(delta: Array, variance: Array) -> Array:
    """tr Delta~ diag(variance), (pattern,)."""
    return np.asarray(np.einsum("kii,ki->k", delta, variance))
