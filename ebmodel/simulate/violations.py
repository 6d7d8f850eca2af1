"""A catalogue of violations of the model, each with a strength; strength 0 is the model itself, draw for draw."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from ebmodel.errors import expect
from ebmodel.labels import TISSUE
from ebmodel.model import Array, Params
from ebmodel.simulate.draws import Draws, labelled
from ebmodel.simulate.true_model import draw

__all__ = ["VIOLATIONS", "Violation", "violated"]

EXCHANGEABLE = 0.8
"""Correlation of effects in the slab that replaces the paper's."""
STREAM = 0x76696F6C
"""Key of the violations' own random numbers, apart from those of the model."""

type Change = tuple[Draws, Array, dict[str, Any]]
"""New draws, the new slab covariance, and further truth for the Dataset."""


class Violation(NamedTuple):
    """What is violated, and what the strength means."""

    breaks: str
    """The equation that fails, and how."""
    strength: str
    """What the number is."""
    largest: float
    """Strengths are at least 0 and less than this; or equal to it, where ``closed``."""
    closed: bool
    """Whether the largest strength itself is allowed."""
    closed_form: bool
    """Whether `ebmodel.simulate.exact_posterior` still holds."""
    change: Callable[[Draws, Array, Params, float, np.random.Generator], Change]


def violated(
    name: str,
    strength: float,
    params: Params,
    *,
    n: int = 100,
    m: int = 50,
    missing: float = 0.0,
    seed: int | np.random.SeedSequence = 0,
    X: Any = None,
) -> xr.Dataset:
    """Data from the model with one of its assumptions violated.

    ========================  =========================================================================================
    ``name``                  what fails, and what ``strength`` s is
    ========================  =========================================================================================
    ``"heavy-tails"``         (1): eps(t) has t-distributed entries, 2/s degrees of freedom, variance still sigma2
    ``"unequal-variances"``   (1): tissue t has its own error variance, log-normal about sigma2, sd s on the log scale
    ``"correlated-errors"``   (1): errors of one sample in any two tissues have correlation s
    ``"two-slabs"``           (3): with probability s/2 a tissue's slab has mean -beta, so that no beta fits all
    ``"slab-covariance"``     (3): covariance (1-s) eta Sigma0 + s C, C exchangeable (0.8), total variance kept
    ``"missing-by-value"``    Section 5: log odds of a response missing rise by s for each sd of the response
    ========================  =========================================================================================

    Parameters
    ----------
    name
        One of ``VIOLATIONS``, which says the same of each at length.
    strength
        How much; 0 is the model, with the numbers of `model_true` for the same seed.
    params, n, m, missing, seed, X
        As in `model_true`. The numbers that ``seed`` gives the model are the same whatever the strength.

    Returns
    -------
    Dataset
        As from `setting`, with ``tau1``, ``eta``, ``sigma2``, ``missing``, ``violation`` and ``strength`` as
        attributes. ``beta`` is ``params.beta``. Further truth: ``error_sd`` (tissue) with unequal variances, and
        ``opposite`` (tissue), whether the slab's mean is -beta, with two slabs; there ``slab_covariance`` is that of
        each slab about its own mean.

    Raises
    ------
    InputError
        If the violation is not in the catalogue, the strength is out of range, or nothing is missing by value.

    Examples
    --------
    >>> theta = Params(tau1=0.5, beta=[1.0, 0.0], eta=4.0, sigma2=1.0)
    >>> violated("correlated-errors", 0.3, theta, seed=1).attrs["violation"]
    'correlated-errors'
    """
    where = "simulate.violated"
    expect(name in VIOLATIONS, f"one of {', '.join(VIOLATIONS)}", repr(name), where, "choose a violation")
    violation = VIOLATIONS[name]
    limit = f"0 <= strength {'<=' if violation.closed else '<'} {violation.largest:g}"
    inside = 0.0 <= strength < violation.largest or (violation.closed and strength == violation.largest)
    expect(inside, limit, strength, f"{where}, {name}", f"remember that strength is {violation.strength}")
    needs = name != "missing-by-value" or strength == 0.0 or round(missing * n) > 0
    expect(needs, "missing > 0", missing, f"{where}, {name}", "give the share of responses to lose")
    draws, genotypes, covariance = draw(params, n, m, missing, seed, X)
    extra: dict[str, Any] = {}
    if strength > 0.0:
        draws, covariance, extra = violation.change(draws, covariance, params, strength, _beside(seed))
    settings: dict[str, Any] = {"tau1": params.tau1, "eta": params.eta, "sigma2": params.sigma2, "missing": missing}
    settings |= {"violation": name, "strength": float(strength)}
    return labelled(draws, genotypes, np.asarray(params.beta), covariance, settings).assign(extra)


def _beside(seed: int | np.random.SeedSequence) -> np.random.Generator:
    """Random numbers independent of those of the model for the same seed; the seed's own children are left alone."""
    stream = seed if isinstance(seed, np.random.SeedSequence) else np.random.SeedSequence(seed)
    return np.random.default_rng(np.random.SeedSequence(stream.entropy, spawn_key=(*stream.spawn_key, STREAM)))


def _heavy_tails(draws: Draws, covariance: Array, params: Params, s: float, rng: np.random.Generator) -> Change:  # noqa: ARG001
    df = 2.0 / s
    # t = z / sqrt(chi2/df) has variance df/(df - 2)
    scale = np.sqrt((df - 2.0) / rng.chisquare(df, draws.errors.shape))
    return draws._replace(errors=draws.errors * scale), covariance, {}


def _unequal_variances(draws: Draws, covariance: Array, params: Params, s: float, rng: np.random.Generator) -> Change:
    # sigma2(t) = sigma2 exp(s u - s^2/2), u ~ N(0, 1): E sigma2(t) = sigma2
    ratio = np.exp(0.5 * (s * rng.standard_normal(len(draws.active)) - s**2 / 2.0))
    error_sd = TISSUE, np.sqrt(params.sigma2) * ratio
    return draws._replace(errors=draws.errors * ratio), covariance, {"error_sd": error_sd}


def _correlated_errors(draws: Draws, covariance: Array, params: Params, s: float, rng: np.random.Generator) -> Change:
    # eps_i(t) = sigma (sqrt(s) w_i + sqrt(1-s) z_i(t)), w_i shared by the tissues of sample i
    shared = np.sqrt(s * params.sigma2) * rng.standard_normal((len(draws.errors), 1))
    return draws._replace(errors=shared + np.sqrt(1.0 - s) * draws.errors), covariance, {}


def _two_slabs(draws: Draws, covariance: Array, params: Params, s: float, rng: np.random.Generator) -> Change:
    opposite = rng.random(len(draws.active)) < s / 2.0
    slab = draws.slab - np.where(opposite[:, None], 2.0 * np.asarray(params.beta), 0.0)
    return draws._replace(slab=slab), covariance, {"opposite": (TISSUE, opposite)}


def _slab_covariance(draws: Draws, covariance: Array, params: Params, s: float, rng: np.random.Generator) -> Change:
    p, beta = len(covariance), np.asarray(params.beta)
    C = np.trace(covariance) / p * (EXCHANGEABLE + (1.0 - EXCHANGEABLE) * np.eye(p))
    other = rng.standard_normal(draws.slab.shape) @ (np.linalg.cholesky(C).T if params.eta > 0.0 else C)
    slab = beta + np.sqrt(1.0 - s) * (draws.slab - beta) + np.sqrt(s) * other
    return draws._replace(slab=slab), (1.0 - s) * covariance + s * C, {}


def _missing_by_value(draws: Draws, covariance: Array, params: Params, s: float, rng: np.random.Generator) -> Change:  # noqa: ARG001
    Y = draws.responses
    z = (Y - Y.mean(axis=0)) / Y.std(axis=0)
    # lost where s z + logistic noise exceeds c(t): log odds s z - c(t), with c(t) such that the share is kept
    rank = np.argsort(np.argsort(-(s * z + rng.logistic(size=Y.shape)), axis=0), axis=0)
    return draws._replace(gone=rank < draws.gone.sum(axis=0)), covariance, {}


VIOLATIONS: dict[str, Violation] = {
    "heavy-tails": Violation(
        "(1): errors are t-distributed, scaled to variance sigma2, not normal",
        "2 / degrees of freedom: 0 is normal, 0.5 has 4 degrees of freedom, and the variance is infinite at 1",
        1.0, False, False, _heavy_tails,
    ),
    "unequal-variances": Violation(
        "(1): every tissue has its own error variance, log-normal with mean sigma2, not one for all",
        "the sd of log sigma2(t)",
        np.inf, False, False, _unequal_variances,
    ),
    "correlated-errors": Violation(
        "(1): the errors of one sample are correlated over tissues, not independent over t",
        "their correlation, the same for any two tissues",
        1.0, True, False, _correlated_errors,
    ),
    "two-slabs": Violation(
        "(3): the slab of some tissues has mean -beta, so tissues do not share one beta",
        "twice the probability that a tissue is one of them: at 1 the two slabs are equally common",
        1.0, True, False, _two_slabs,
    ),
    "slab-covariance": Violation(
        "(3): the slab's covariance is not eta Sigma0 but (1-s) eta Sigma0 + s C, with C exchangeable (correlation "
        f"{EXCHANGEABLE}) and tr C = eta tr Sigma0",
        "s, the share of the effects' variance that follows C",
        1.0, True, True, _slab_covariance,
    ),
    "missing-by-value": Violation(
        "Section 5's missingness at random: in every tissue high responses are lost more often, the share kept",
        "the rise in the log odds of being lost for each sd of the response",
        np.inf, False, False, _missing_by_value,
    ),
}  # fmt: skip
"""name -> what it breaks, and what its strength means."""
