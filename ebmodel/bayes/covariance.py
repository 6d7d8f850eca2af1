"""Errors of one sample that are correlated over tissues, as where the same donors give several.

    eps_i ~ N(0, Sigma) over the tissues of sample i,     Sigma_st = sigma_s R_st sigma_t

Tissues no longer separate, so that I(t) cannot be summed out one by one: I stays in the model. beta(t) is integrated
out given I. With every response there, covariates projected out, X L = U D and z = U'Y (direction, tissue),

    z_j | I ~ N(c_j I, Sigma + v_j diag(I)),     c_j = D_j gamma_j,   v_j = eta D_j^2,     j = 1, ..., r
    E = Y - U z,     E'E ~ Wishart(n - r, Sigma)

all independent. Where the slab's power is a parameter, U is the basis P of X, c = theta and v = eta lambda.

Missing responses are unknowns of their own, with nothing but the density of all responses to say what they are: it
integrates over them to the density of those observed, which is all that the data tell when they are missing at random.
Covariates' effects have a flat prior.

NUTS moves all but I(t), which change one at a time by Metropolis steps. Given a draw of everything else, the effects of
all tissues are normal together; they are drawn exactly, by Matheron's rule,

    zeta_j = zeta*_j + v_j diag(I) (Sigma + v_j diag(I))^-1 (z_j - I zeta*_j - e*_j),     X beta(t) = U zeta(t)

with zeta*_j ~ N(c_j, v_j I) and e*_j ~ N(0, Sigma).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import xarray as xr
from numpy.typing import NDArray

from ebmodel.errors import expect, listed
from ebmodel.labels import CHAIN, DRAW, SAMPLE, SNP, TISSUE, TISSUE_OTHER
from ebmodel.likelihood import LOG_2PI
from ebmodel.model import Array
from ebmodel.parallel import one_thread
from ebmodel.statistics import power_spread

if TYPE_CHECKING:
    from ebmodel.bayes.models import Problem

__all__ = ["Frame", "Recovered", "add_likelihood", "check_covariance", "frame", "log_density", "recover", "start"]

FEW = 1e-10
"""Singular values of the covariates below this share of the largest are rounding error."""


class Frame(NamedTuple):
    """The data in the coordinates of the model's text."""

    U: Array
    """(sample, direction) orthonormal basis of X beside the covariates."""
    Q: Array
    """(sample, rank of C) orthonormal basis of the covariates."""
    D: Array
    """(direction,) X L = U D; 1 where the slab's power is a parameter."""
    to_beta: Array
    """(snp, direction): beta(t) = to_beta zeta(t), and what X does not see."""
    null: Array
    """(snp, k) factor of the slab's covariance in directions that X does not see."""
    Y: Array
    """(sample, tissue), missing responses filled in with a guess."""
    unknown: tuple[NDArray[np.int64], NDArray[np.int64]]
    """Rows and columns of the missing responses."""


def check_covariance(problem: Problem) -> None:
    """Refuse data whose errors' covariance cannot be told.

    Raises
    ------
    InputError
        If there is one tissue, or a tissue has too few responses for the covariates.
    """
    data, least = problem.data, np.linalg.matrix_rank(problem.data.C) if problem.data.C.size else 0
    m = len(data.tissues)
    expect(m >= 2, "two tissues or more", m, "sample with errors='correlated'", "leave errors='equal'")
    short = data.observed.sum(axis=0) <= least
    got = f"too few in {listed(data.tissues[short])}"
    expect(not short.any(), f"more than {least} responses in every tissue", got, data.where[1], "leave them out")


def frame(problem: Problem) -> Frame:
    """Coordinates of a posed problem."""
    data, compressed = problem.data, problem.compressed
    Q, s, _ = np.linalg.svd(data.C, full_matrices=False)
    Q = Q[:, s > FEW * s.max(initial=0.0)]
    X = data.X - Q @ (Q.T @ data.X)
    if problem.learns_alpha:
        D, to_beta, null = np.ones(len(compressed.s)), compressed.U / compressed.s, np.zeros((X.shape[1], 0))
    else:
        _, whitening = problem.whitened
        D, to_beta, null = whitening.D, whitening.L / whitening.D, whitening.null
    Y = data.Y.copy()
    for t, rows in enumerate(data.observed.T):
        Y[~rows, t] = Q[~rows] @ np.linalg.lstsq(Q[rows], Y[rows, t])[0] if Q.shape[1] else 0.0
    rows, columns = np.nonzero(~data.observed)
    return Frame(X @ to_beta, Q, D, to_beta, null, Y, (rows, columns))


def add_likelihood(problem: Problem, data: Any, theta: Any) -> None:
    """I(t), Sigma and the density of all responses, in the current PyMC model; ``theta`` are its hyperparameters."""
    U, Q, D, _, _, Y, unknown = frame(problem)
    m = Y.shape[1]
    active = pm.Bernoulli("active", theta.tau1, dims=TISSUE)
    root = pm.LKJCorr("error_root", n=m, eta=problem.priors.concentration)  # R = root root'
    pm.Deterministic("error_correlation", pt.dot(root, root.T), dims=(TISSUE, TISSUE_OTHER))
    A = pt.sqrt(theta.sigma2)[:, None] * root  # Sigma = A A'
    if len(unknown[0]):
        missing = pm.Flat("missing", shape=len(unknown[0]), initval=np.zeros(len(unknown[0])))
        Y = pt.set_subtensor(pt.constant(Y)[unknown], Y[unknown] + data.scale * missing)
        z, residual = pt.dot(U.T, Y), Y - pt.dot(U, pt.dot(U.T, Y)) - pt.dot(Q, pt.dot(Q.T, Y))
    else:
        z, E = U.T @ Y, Y - U @ (U.T @ Y) - Q @ (Q.T @ Y)
        residual = np.linalg.qr(E, mode="r")  # all that counts is E'E
    dof = len(U) - Q.shape[1] - U.shape[1]
    one = bool(np.allclose(D, 1.0, atol=1e-12)) and not problem.learns_alpha
    spread = np.ones(1) if one else D**2 * theta.spread
    pm.Potential("Y", log_density(z, residual, dof, D * theta.mean, theta.eta * spread, active, A))


def log_density(z: Any, residual: Any, dof: int, c: Any, v: Any, active: Any, A: Any) -> Any:
    """log p(Y | I) with beta(t) integrated out.

    Parameters
    ----------
    z : (direction, tissue)
        U'Y.
    residual : (row, tissue)
        With residual'residual = E'E.
    dof
        n - r, and less the rank of the covariates.
    c : (direction,)
        E z_j where I(t) = 1.
    v : (direction,)
        The slab's variance of z_j; or (1,) where they are all the same.
    active : (tissue,)
        I(t).
    A : (tissue, tissue)
        Lower triangular, Sigma = A A'.
    """
    r, m = z.shape
    gap = pt.as_tensor_variable(z) - c[:, None] * active
    L = pt.linalg.cholesky(pt.dot(A, A.T) + v[:, None, None] * pt.diag(active))  # Sigma + v diag(I)
    columns = gap.T[None] if v.type.shape == (1,) else gap[..., None]
    half = pt.linalg.solve_triangular(L, columns, lower=True)
    log_det = pt.sum(2.0 * pt.log(pt.diagonal(L, axis1=1, axis2=2))) * (r if v.type.shape == (1,) else 1)
    rest = pt.linalg.solve_triangular(A, pt.as_tensor_variable(residual).T, lower=True)
    log_det += 2.0 * dof * pt.sum(pt.log(pt.diagonal(A)))
    return -0.5 * ((r + dof) * m * LOG_2PI + log_det + pt.sum(half**2) + pt.sum(rest**2))


def start(problem: Problem, probability: Array, rng: np.random.Generator) -> dict[str, Array]:
    """Where a chain starts: I(t) at random by ``probability`` (tissue,), the residuals' correlations half believed."""
    U, Q, _, _, _, Y, (rows, columns) = frame(problem)
    E = Y - U @ (U.T @ Y) - Q @ (Q.T @ Y)
    E[rows, columns] = 0.0
    size = np.sqrt(np.sum(E**2, axis=0))
    R = E.T @ E / np.outer(size, size) if size.all() else np.eye(len(size))
    root = np.linalg.cholesky(0.5 * R + 0.5 * np.eye(len(R)))
    active = (rng.random(len(probability)) < probability).astype(int)
    return {"active": active, "error_root": root, "missing": np.zeros(len(rows))}


class Recovered(NamedTuple):
    """What is drawn given every draw of the sampler."""

    posterior: xr.Dataset
    """The sampler's, with ``effects``."""
    log_likelihood: xr.Dataset
    """``Y`` (chain, draw, sample): log p(y_i | effects, Sigma), a sample's observed responses together."""
    predictive: xr.Dataset
    """``Y`` (chain, draw, sample, tissue), NaN where missing."""


@one_thread
def recover(problem: Problem, posterior: xr.Dataset, predictive: int, rng: np.random.Generator) -> Recovered:
    """Exact draws of beta(t), all tissues together, and of responses anew for ``predictive`` draws of each chain.

    The covariates' effects, too, are drawn given the responses, and both densities and new responses hold given these.
    """
    shape = posterior.sizes[CHAIN], posterior.sizes[DRAW]
    flat = {name: values.to_numpy().reshape(-1, *values.shape[2:]) for name, values in posterior.data_vars.items()}
    here, data = frame(problem), problem.data
    total, (n, m) = shape[0] * shape[1], data.Y.shape
    kept = np.unique(np.linspace(0, shape[1] - 1, predictive).astype(int))
    chosen = {int(i): j for j, i in enumerate(np.ravel(np.arange(shape[0])[:, None] * shape[1] + kept))}
    effects, log_density = np.empty((total, m, len(data.snps))), np.empty((total, n))
    drawn = np.full((len(chosen), n, m), np.nan)
    masks, pattern = np.unique(data.observed, axis=0, return_inverse=True)
    for i in range(total):
        deviation = np.sqrt(flat["error_variance"][i])
        Sigma = deviation[:, None] * flat["error_correlation"][i] * deviation
        A, Y = np.linalg.cholesky(Sigma), here.Y.copy()
        if len(here.unknown[0]):
            Y[here.unknown] += problem.scale * flat["missing"][i]
        alpha = flat["alpha"][i] if problem.learns_alpha else None
        effects[i] = _draw_effects(problem, here, Y, A, flat["active"][i], flat["beta"][i], flat["eta"][i], alpha, rng)
        fitted = data.X @ effects[i].T
        # C delta given the rest: N(Q Q'(Y - X B), Q Q' x Sigma)
        fitted += here.Q @ (here.Q.T @ (Y - fitted) + rng.standard_normal((here.Q.shape[1], m)) @ A.T)
        log_density[i] = _log_density_of_rows(Y - fitted, masks, pattern, Sigma)
        if i in chosen:
            new = fitted + rng.standard_normal((n, m)) @ A.T
            drawn[chosen[i]] = np.where(data.observed, new, np.nan)

    def by_draw(values: Array, *dims: str) -> Any:
        return (CHAIN, DRAW, *dims), values.reshape(shape[0], -1, *values.shape[1:])

    coords = {dim: posterior[dim] for dim in (CHAIN, DRAW)}
    some = coords | {DRAW: posterior[DRAW][kept]}
    return Recovered(
        posterior.assign(effects=by_draw(effects, TISSUE, SNP)),
        xr.Dataset({"Y": by_draw(log_density, SAMPLE)}, coords),
        xr.Dataset({"Y": by_draw(drawn, SAMPLE, TISSUE)}, some),
    )


def _draw_effects(
    problem: Problem,
    here: Frame,
    Y: Array,
    A: Array,
    active: Array,
    beta: Array,
    eta: float,
    alpha: float | None,
    rng: np.random.Generator,
) -> Array:
    """beta(t) given I, Sigma = A A', all responses and the hyperparameters, (tissue, snp)."""
    z, c = here.U.T @ Y, here.U.T @ (problem.data.X @ beta)
    v = eta * (here.D**2 if alpha is None else power_spread(problem.compressed.s, alpha))
    prior = c[:, None] + np.sqrt(v)[:, None] * rng.standard_normal(z.shape)
    gap = z - active * prior - rng.standard_normal(z.shape) @ A.T
    covariance = A @ A.T + v[:, None, None] * np.diag(active)
    zeta = prior + v[:, None] * active * np.linalg.solve(covariance, gap[..., None])[..., 0]
    effects = zeta.T @ here.to_beta.T
    if here.null.shape[1]:
        seen = here.to_beta @ (here.U.T @ (problem.data.X @ beta))
        effects += beta - seen + np.sqrt(eta) * rng.standard_normal((len(effects), here.null.shape[1])) @ here.null.T
    return np.asarray(active[:, None] * effects)


def _log_density_of_rows(E: Array, masks: NDArray[np.bool_], pattern: NDArray[np.int64], Sigma: Array) -> Array:
    """log N(e_i; 0, Sigma) over each sample's observed tissues, (sample,)."""
    both = masks[:, :, None] & masks[:, None, :]
    covariance = np.where(both, Sigma, np.eye(len(Sigma)))  # unobserved: variance 1, residual 0
    root = np.linalg.cholesky(covariance)
    seen = masks[pattern]
    half = np.linalg.solve(root[pattern], np.where(seen, E, 0.0)[..., None])[..., 0]
    log_det = 2.0 * np.sum(np.log(np.diagonal(root, axis1=1, axis2=2)), axis=1)[pattern]
    return np.asarray(-0.5 * (seen.sum(axis=1) * LOG_2PI + log_det + np.sum(half**2, axis=1)))
