"""A catalogue of violations of the model, each with a strength; strength 0 is the model itself, draw for draw."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammainccinv, gammaincinv, ndtr

from ebmodel.errors import expect
from ebmodel.labels import SAMPLE, TISSUE
from ebmodel.model import Array, Params
from ebmodel.simulate.draws import Draws, labelled
from ebmodel.simulate.true_model import draw

__all__ = ["VIOLATIONS", "Violation", "violated"]

EXCHANGEABLE = 0.8
"""Correlation of effects in the slab that replaces the paper's."""
GROUP = 5
"""Tissues of a group, which share errors or deviations from beta; the last group may have fewer."""
WHERE = "simulate.violated"
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
    missing: ArrayLike = 0.0,
    seed: int | np.random.SeedSequence = 0,
    X: Any = None,
) -> xr.Dataset:
    """Data from the model with one of its assumptions violated.

        name                  what fails, and what strength s is
        -------------------   -----------------------------------------------------------------------------------------
        "heavy-tails"         (1): eps(t) has t-distributed entries, 2/s degrees of freedom, variance still sigma2
        "skewed-errors"       (1): eps(t) has gamma-distributed entries of skewness s, mean 0 and variance sigma2
        "unequal-variances"   (1): tissue t has its own error variance, log-normal about sigma2, sd s on the log scale
        "correlated-errors"   (1): errors of one sample in any two tissues have correlation s
        "block-errors"        (1): the same within groups of five tissues, as where their donors are the same
        "curvature"           (1): mean response u + s (u^2 - mean u^2)/sd(u), u = X beta(t), not linear in genotypes
        "two-slabs"           (3): with probability s/2 a tissue's slab has mean -beta, so that no beta fits all
        "slab-covariance"     (3): covariance (1-s) eta Sigma0 + s C, C exchangeable (0.8), total variance kept
        "related-tissues"     (3): deviations from beta of tissues in a group of five have correlation s
        "sample-size"         (3): effects are (n_t / mean n_t)^s times the model's, so that larger tissues have larger
        "small-effects"       (4): if I(t) = 0, beta(t) ~ N(0, s eta Sigma0), and not 0
        "missing-by-value"    Section 5: log odds of a response missing rise by s for each sd of the response

    Parameters
    ----------
    name
        One of ``VIOLATIONS``, which says the same of each at length.
    strength
        How much; 0 is the model, with the numbers of `model_true` for the same seed.
    params, n, m, missing, seed, X
        As in `model_true`. The numbers that ``seed`` gives the model are the same whatever the strength. Tissues
        differ in size, as ``"sample-size"`` needs, if ``missing`` has shares of their own for them.

    Returns
    -------
    Dataset
        As from `setting`, with ``tau1``, ``eta``, ``sigma2``, ``missing``, ``violation`` and ``strength`` as
        attributes. ``beta`` is ``params.beta``, and ``slab_covariance`` that of beta(t) | I(t)=1 about its mean: with
        two slabs, of each about its own; with effects that depend on sample size, in a tissue of mean size. Further
        truth, where it says more:

        - ``curve`` (sample, tissue), with curvature: what X beta(t) leaves of the mean response
        - ``error_sd`` (tissue), with unequal variances, those of params too
        - ``group`` (tissue), with block errors and related tissues
        - ``opposite`` (tissue), with two slabs: whether the slab's mean is -beta
        - ``size_factor`` (tissue), with effects that depend on sample size: (n_t / mean n_t)^s

        The posterior has a closed form at strength 0, and with ``"unequal-variances"`` and ``"slab-covariance"``:
        `exact_posterior` refuses the rest. Where I(t) = 0 ``effects`` are 0, but with ``"small-effects"``.

    Raises
    ------
    InputError
        If the violation is not in the catalogue, the strength is out of range, nothing is missing by value, or effects
        are to depend on sample size among tissues of one size.

    Examples
    --------
    >>> theta = Params(tau1=0.5, beta=[1.0, 0.0], eta=4.0, sigma2=1.0)
    >>> violated("correlated-errors", 0.3, theta, seed=1).attrs["violation"]
    'correlated-errors'
    """
    expect(name in VIOLATIONS, f"one of {', '.join(VIOLATIONS)}", repr(name), WHERE, "choose a violation")
    violation = VIOLATIONS[name]
    limit = f"0 <= strength {'<=' if violation.closed else '<'} {violation.largest:g}"
    inside = 0.0 <= strength < violation.largest or (violation.closed and strength == violation.largest)
    expect(inside, limit, strength, f"{WHERE}, {name}", f"remember that strength is {violation.strength}")
    draws, genotypes, covariance = draw(params, n, m, missing, seed, X)
    extra: dict[str, Any] = {}
    if strength > 0.0:
        draws, covariance, extra = violation.change(draws, covariance, params, strength, _beside(seed))
    share = np.asarray(missing, dtype=float).tolist()
    settings: dict[str, Any] = {"tau1": params.tau1, "eta": params.eta, "sigma2": params.sigma2, "missing": share}
    settings |= {"violation": name, "strength": float(strength)}
    if params.relative_variance is not None:
        extra = {"error_sd": (TISSUE, _error_sd(params))} | extra
    return labelled(draws, genotypes, np.asarray(params.beta), covariance, settings).assign(extra)


def _beside(seed: int | np.random.SeedSequence) -> np.random.Generator:
    """Random numbers independent of those of the model for the same seed; the seed's own children are left alone."""
    stream = seed if isinstance(seed, np.random.SeedSequence) else np.random.SeedSequence(seed)
    return np.random.default_rng(np.random.SeedSequence(stream.entropy, spawn_key=(*stream.spawn_key, STREAM)))


def _error_sd(params: Params) -> Array:
    """The model's sd of eps(t): (tissue,), or () where it is one for all."""
    return np.sqrt(np.asarray(params.error_variance, dtype=float))


def _grouped(tissues: int) -> NDArray[np.int_]:
    """The group of every tissue: neighbours, `GROUP` of them."""
    return np.arange(tissues) // GROUP


def _heavy_tails(draws: Draws, covariance: Array, params: Params, s: float, rng: np.random.Generator) -> Change:  # noqa: ARG001
    df = 2.0 / s
    # t = z / sqrt(chi2/df) has variance df/(df - 2)
    scale = np.sqrt((df - 2.0) / rng.chisquare(df, draws.errors.shape))
    return draws._replace(errors=draws.errors * scale), covariance, {}


def _skewed_errors(draws: Draws, covariance: Array, params: Params, s: float, rng: np.random.Generator) -> Change:  # noqa: ARG001
    sigma, k = _error_sd(params), 4.0 / s**2  # a gamma of shape k has skewness 2/sqrt(k) = s, mean and variance k
    z = draws.errors / sigma
    # its quantile of the rank that the normal error has; from the upper tail where that is the shorter, for precision
    gamma = np.where(z > 0.0, gammainccinv(k, ndtr(-z)), gammaincinv(k, ndtr(z)))
    return draws._replace(errors=sigma * (gamma - k) / np.sqrt(k)), covariance, {}


def _unequal_variances(draws: Draws, covariance: Array, params: Params, s: float, rng: np.random.Generator) -> Change:
    # sigma2(t) = sigma2 exp(s u - s^2/2), u ~ N(0, 1): E sigma2(t) = sigma2
    ratio = np.exp(0.5 * (s * rng.standard_normal(len(draws.active)) - s**2 / 2.0))
    return draws._replace(errors=draws.errors * ratio), covariance, {"error_sd": (TISSUE, _error_sd(params) * ratio)}


def _correlated_errors(draws: Draws, covariance: Array, params: Params, s: float, rng: np.random.Generator) -> Change:
    # eps_i(t) = sigma (sqrt(s) w_i + sqrt(1-s) z_i(t)), w_i shared by the tissues of sample i
    shared = np.sqrt(s) * _error_sd(params) * rng.standard_normal((len(draws.errors), 1))
    return draws._replace(errors=shared + np.sqrt(1.0 - s) * draws.errors), covariance, {}


def _block_errors(draws: Draws, covariance: Array, params: Params, s: float, rng: np.random.Generator) -> Change:
    # eps_i(t) = sigma (sqrt(s) w_i(g) + sqrt(1-s) z_i(t)), w_i(g) shared by the tissues of group g in sample i
    group = _grouped(len(draws.active))
    shared = rng.standard_normal((len(draws.errors), group[-1] + 1))[:, group]
    errors = np.sqrt(s) * _error_sd(params) * shared + np.sqrt(1.0 - s) * draws.errors
    return draws._replace(errors=errors), covariance, {"group": (TISSUE, group)}


def _curvature(draws: Draws, covariance: Array, params: Params, s: float, rng: np.random.Generator) -> Change:  # noqa: ARG001
    u = draws.X @ draws.effects.T
    sd = u.std(axis=0)
    # s (u^2 - mean u^2)/sd(u): in units of the responses, and 0 where u does not vary
    curve = s * (u**2 - np.mean(u**2, axis=0)) / np.where(sd > 0.0, sd, np.inf)
    return draws._replace(errors=draws.errors + curve), covariance, {"curve": ((SAMPLE, TISSUE), curve)}


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


def _related_tissues(draws: Draws, covariance: Array, params: Params, s: float, rng: np.random.Generator) -> Change:
    # beta(t) = beta + sqrt(s) delta(g) + sqrt(1-s) delta(t), both with covariance eta Sigma0
    group, beta = _grouped(len(draws.active)), np.asarray(params.beta)
    delta = _normal(rng, covariance, group[-1] + 1)
    slab = beta + np.sqrt(s) * delta[group] + np.sqrt(1.0 - s) * (draws.slab - beta)
    return draws._replace(slab=slab), covariance, {"group": (TISSUE, group)}


def _sample_size(draws: Draws, covariance: Array, params: Params, s: float, rng: np.random.Generator) -> Change:  # noqa: ARG001
    n = np.sum(~draws.gone, axis=0)
    unequal = bool(n.min() < n.max())
    do = "give missing= a share for every tissue"
    expect(unequal, "tissues of different sizes", f"{n[0]} samples in all", f"{WHERE}, sample-size", do)
    factor = (n / n.mean()) ** s
    return draws._replace(slab=factor[:, None] * draws.slab), covariance, {"size_factor": (TISSUE, factor)}


def _small_effects(draws: Draws, covariance: Array, params: Params, s: float, rng: np.random.Generator) -> Change:  # noqa: ARG001
    return draws._replace(spike=np.sqrt(s) * _normal(rng, covariance, len(draws.active))), covariance, {}


def _normal(rng: np.random.Generator, covariance: Array, size: int) -> Array:
    """N(0, covariance), which may be singular: (size, snp)."""
    return rng.multivariate_normal(np.zeros(len(covariance)), covariance, size, method="eigh")


def _missing_by_value(draws: Draws, covariance: Array, params: Params, s: float, rng: np.random.Generator) -> Change:  # noqa: ARG001
    some = bool(draws.gone.any())
    do = "give missing= the share of responses to lose"
    expect(some, "missing > 0", "no response lost", f"{WHERE}, missing-by-value", do)
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
    "skewed-errors": Violation(
        "(1): errors are gamma-distributed, centred and scaled to variance sigma2, not normal",
        "their skewness: 0 is normal, 2 exponential; the excess of their kurtosis over the normal's is 1.5 s^2",
        np.inf, False, False, _skewed_errors,
    ),
    "unequal-variances": Violation(
        "(1): every tissue has its own error variance, log-normal with mean sigma2, not one for all",
        "the sd of log sigma2(t)",
        np.inf, False, True, _unequal_variances,
    ),
    "correlated-errors": Violation(
        "(1): the errors of one sample are correlated over tissues, not independent over t",
        "their correlation, the same for any two tissues",
        1.0, True, False, _correlated_errors,
    ),
    "block-errors": Violation(
        f"(1): the errors of one sample are correlated within groups of {GROUP} tissues, not independent over t",
        "their correlation, the same for any two tissues of a group",
        1.0, True, False, _block_errors,
    ),
    "curvature": Violation(
        "(1): the mean response is not linear in genotypes (dominance, saturation) but u + s (u^2 - mean u^2)/sd(u), "
        "with u = X beta(t), means and sd over all samples",
        "s: where u is normal with mean 0 the curve has 2 s^2 times the variance of u",
        np.inf, False, False, _curvature,
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
    "related-tissues": Violation(
        f"(3): tissues come in groups of {GROUP} whose effects deviate from beta together, so that they are not "
        "independent given beta; each beta(t) | I(t)=1 alone is still N(beta, eta Sigma0)",
        "the correlation of beta_j(t) - beta_j between active tissues of a group",
        1.0, True, False, _related_tissues,
    ),
    "sample-size": Violation(
        "(3): effects, mean and deviation alike, are (n_t / mean n_t)^s times the model's, n_t the responses of tissue "
        "t, so that larger tissues have larger effects",
        "s, the power",
        np.inf, False, False, _sample_size,
    ),
    "small-effects": Violation(
        "(4): where I(t) = 0 effects are not 0 but N(0, s eta Sigma0): small ones everywhere",
        "their variance over the slab's; at 1 the tissues differ in the mean of their effects alone",
        1.0, True, False, _small_effects,
    ),
    "missing-by-value": Violation(
        "Section 5's missingness at random: in every tissue high responses are lost more often, the share kept",
        "the rise in the log odds of being lost for each sd of the response",
        np.inf, False, False, _missing_by_value,
    ),
}  # fmt: skip
"""name -> what it breaks, and what its strength means."""
