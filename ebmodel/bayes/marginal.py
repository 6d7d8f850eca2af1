"""The marginal likelihood of `ebmodel.likelihood` once more, for PyTensor, which differentiates it.

    p(y_t | tau1, gamma, eta, sigma2) = tau1 g1(y_t) + tau0 g0(y_t),        tissues independent

beta(t) is integrated and I(t) summed out, so that NUTS sees the rank of X plus three smooth parameters. ``data`` holds
the sufficient statistics by the names of `ebmodel.statistics`; ``by_pattern`` gives every tissue its pattern's entry.
``sigma2`` is one number or (tissue,).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytensor.tensor as pt

from ebmodel.likelihood import LOG_2PI

__all__ = ["log_mixture", "log_null", "log_slab", "log_slab_diagonal", "log_slab_power"]


def log_null(data: Any, sigma2: Any) -> Any:
    """log g0 = log N(y_t; 0, sigma2 I), (tissue,)."""
    return _log_normal(data.n, sigma2, 0.0, data.yy / sigma2)


def log_slab(data: Any, b: Any, gamma: Any, eta: Any, sigma2: Any, by_pattern: Callable[[Any], Any]) -> Any:
    """log g1 = log N(y_t; X_t beta, sigma2 I + eta H_t), (tissue,), for a fixed slab; b (tissue, rank)."""
    a = pt.sum(data.V * gamma[None, :, None], axis=1)  # V'gamma, (pattern, rank)
    d, level, by_tissue = _per_tissue(data.d, sigma2, by_pattern)
    variance = level + eta * d  # sigma2 + eta d
    log_det = pt.sum(pt.log(variance / level), axis=1)
    # d (b - a)^2 / (sigma2 + eta d)
    explained = pt.sum(by_tissue(d / variance) * (b - by_pattern(a)) ** 2, axis=1)
    return _log_normal(data.n, sigma2, by_tissue(log_det), data.rss / sigma2 + explained)


def log_slab_diagonal(data: Any, c: Any, theta: Any, spread: Any, eta: Any, sigma2: Any) -> Any:
    """log g1, (tissue,), for any power alpha and complete data, in the basis P of X: X beta(t) = P theta(t).

    theta(t) | I(t)=1 ~ N(theta, eta diag(lambda)) with lambda the ``spread``, so c_t ~ N(theta, sigma2 I + eta lambda).
    """
    level = sigma2[..., None]  # (tissue, 1) or (1,)
    variance = level + eta * spread
    quadratic = data.rss / sigma2 + pt.sum((c - theta) ** 2 / variance, axis=1)
    return _log_normal(data.n, sigma2, pt.sum(pt.log(variance / level), axis=-1), quadratic)


def log_slab_power(
    data: Any, c: Any, theta: Any, spread: Any, eta: Any, sigma2: Any, by_pattern: Callable[[Any], Any]
) -> Any:
    """log g1, (tissue,), for any power alpha, responses missing: c_t ~ N(R theta, sigma2 I + eta R diag(lambda) R').

    lambda is the ``spread``, as in `log_slab_diagonal`, and R that of a tissue's pattern.
    """
    R, identity = data.R, pt.eye(data.R.shape[1])
    explained, level, by_tissue = _per_tissue(pt.matmul(R * spread, R.transpose(0, 2, 1)), sigma2, by_pattern)
    root = pt.linalg.cholesky(identity + eta / (level[..., None] if sigma2.ndim else level) * explained)
    log_det = 2.0 * pt.sum(pt.log(pt.diagonal(root, axis1=1, axis2=2)), axis=1)
    gap = c - by_pattern(pt.sum(R * theta, axis=2))
    half = pt.linalg.solve_triangular(by_tissue(root), gap[..., None], lower=True)[..., 0]
    return _log_normal(data.n, sigma2, by_tissue(log_det), (data.rss + pt.sum(half**2, axis=1)) / sigma2)


def _per_tissue(values: Any, sigma2: Any, by_pattern: Callable[[Any], Any]) -> tuple[Any, Any, Callable[[Any], Any]]:
    """``values`` by pattern and sigma2, or both by tissue where that has its own; what turns the result by tissue."""
    return (values, sigma2, by_pattern) if sigma2.ndim == 0 else (by_pattern(values), sigma2[:, None], lambda x: x)


def log_mixture(log_g1: Any, log_g0: Any, tau1: Any) -> Any:
    """log(tau1 g1 + tau0 g0), (tissue,), from ``log_g1`` and ``log_g0``."""
    return pt.logaddexp(pt.log(tau1) + log_g1, pt.log1p(-tau1) + log_g0)


def _log_normal(n: Any, sigma2: Any, log_det: Any, quadratic: Any) -> Any:
    """Log density of n normal coordinates, their log determinant given relative to sigma2^n."""
    return -0.5 * (n * (LOG_2PI + pt.log(sigma2)) + log_det + quadratic)
