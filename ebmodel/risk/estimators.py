"""The Bayes risk of any estimator: exact where it is known, otherwise the oracle's plus a simulated distance from it.

R(estimate) = E (estimate - beta(t))'Delta (estimate - beta(t)), averaged over I(t), beta(t), eps(t) and tissues. The
oracle is E(beta(t) | Y), so that its error is orthogonal to every function of the data, and

    R(estimate) = R(oracle) + E |estimate - oracle|^2_Delta,        |v|^2_Delta = v'Delta v.

The first term is known (`ebmodel.risk.exact`); the second alone is simulated, and with it the standard error vanishes
as an estimator comes near the oracle (Theorem 2).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ebmodel.errors import InputError, expect
from ebmodel.labels import CANDIDATE
from ebmodel.model import Array, Params
from ebmodel.parallel import one_thread, spread
from ebmodel.risk.exact import EXACT, Coordinates, coordinates

__all__ = ["WORDS", "bayes_risk", "design", "empirical_bayes", "loss_matrix", "masks"]

WHERE = "risk.bayes_risk"
ROUNDING = 1e-12

type Estimator = Callable[[Array, Array], Any]
"""(X, Y) -> (tissue, snp)."""


def empirical_bayes(X: Array, Y: Array) -> Array:
    """Give the paper's estimator: the posterior mean, equations (5) and (11), at the maximum-likelihood fit.

    Parameters
    ----------
    X : (sample, snp)
        Genotypes.
    Y : (sample, tissue)
        Expression, NaN where missing.

    Returns
    -------
    (tissue, snp)
        E(beta(t) | Y).
    """
    from ebmodel.fitting import fit  # compiles; exact risks do not need it

    effects: Array = fit(X, Y).effects.to_numpy()
    return effects


WORDS = (*EXACT, "eb")
"""Estimators that have a name. Exact: ``zero``; ``ols``; ``slab``, the posterior mean with h = 1; ``linear``, the best
affine function of Y(t); ``oracle``; and ``informed``, which knows I(t) and so is only a mark. Simulated: ``eb``."""


@one_thread
def bayes_risk(
    params: Params,
    X: Any,
    estimators: str | Estimator | Sequence[str | Estimator] = ("zero", "ols", "linear", "oracle"),
    *,
    loss: Any = None,
    observed: Any = None,
    missing: float = 0.0,
    m: int = 50,
    draws: int = 100,
    seed: int = 0,
    jobs: int = 1,
) -> xr.Dataset:
    """Bayes risk of estimators of beta(t) on data from the model (Section 4 of the paper, and Section 5's).

    Parameters
    ----------
    params
        The true theta, its slab included.
    X : (sample, snp)
        Genotypes, of full column rank.
    estimators
        One or several: words (``WORDS``), or functions ``(X, Y) -> (tissue, snp)`` of arrays, NaN in Y where missing.
    loss : (snp, snp), optional
        The paper's Delta, symmetric and positive semidefinite; the identity if not given.
    observed : (sample, tissue), optional
        Which responses are observed, the diagonals of W(t): the risk is averaged over these tissues.
    missing
        Or the share of each tissue's responses that is missing at random: the risk is averaged over that too.
    m
        Tissues in a simulated data set, where ``observed`` does not say.
    draws
        Simulated data sets, for estimators without an exact risk, and sets of patterns where ``missing`` > 0.
    seed
        Of the random numbers; all estimators see the same data.
    jobs
        Processes for the simulated data sets; -1 for all cores.

    Returns
    -------
    Dataset
        Over candidate: ``risk``; ``regret``, the risk less the oracle's, on the same data; and their standard errors
        ``risk_se`` and ``regret_se``, 0 where exact. ``"ols"`` has an infinite risk where X_t'X_t has no inverse.

    Raises
    ------
    InputError
        If the input cannot be used, or an estimator gives something else than finite effects.

    Notes
    -----
    Orthogonality can be seen: a function's regret is simulated as E |estimate - oracle|^2_Delta, and that of least
    squares given as a function agrees with the difference of the exact risks.

    Examples
    --------
    >>> import numpy as np
    >>> theta = Params(tau1=0.5, beta=[0.5, 0.0], eta=2.0, sigma2=1.0)
    >>> X = np.random.default_rng(1).standard_normal((30, 2))
    >>> def least_squares(X, Y):
    ...     return np.linalg.lstsq(X, Y)[0].T
    >>> found = bayes_risk(theta, X, ["ols", least_squares], seed=1)
    >>> found.regret.values.round(4), found.regret_se.values.round(4)
    (array([0.0488, 0.0486]), array([0.    , 0.0008]))
    """
    several = [estimators] if isinstance(estimators, str) or callable(estimators) else list(estimators)
    named = _named(several)
    expect(params.kappa is None, "a known slab mean beta", f"kappa = {params.kappa}", WHERE, "leave kappa out")
    expect(draws >= 2 and m >= 1, "draws >= 2 and m >= 1", f"{draws} and {m}", WHERE, "give more")
    params, X = replace(params, beta=np.asarray(params.beta)), design(X)
    Delta = loss_matrix(loss, X.shape[1])
    streams = np.random.SeedSequence(seed).spawn(draws)
    sets = masks(X, observed, missing, m, streams)
    simulated = {name: one for name, one in named.items() if callable(one)}
    words = {str(one) for one in named.values() if not callable(one)} | {"oracle"}
    exact = [_exact(coordinates(params, X, Delta, W), params, words) for W in (sets if missing else sets[:1])]
    risks = {word: np.array([one[word] for one in exact]) for word in words}  # one a set of patterns
    regrets = {word: risk - risks["oracle"] for word, risk in risks.items()}
    if simulated:
        tasks = [(params, X, Delta, W, simulated, stream) for W, stream in zip(sets, streams, strict=True)]
        found = list(spread(_distances, tasks, jobs=jobs, title="risk", progress=False))
        regrets |= {name: np.array([one[name] for one in found]) for name in simulated}
        risks |= {name: risks["oracle"] + regrets[name] for name in simulated}
    variables = {}
    for what, values in (("risk", risks), ("regret", regrets)):
        variables[what] = CANDIDATE, [float(np.mean(values[name])) for name in named]
        variables[f"{what}_se"] = CANDIDATE, [_standard_error(values[name]) for name in named]
    return xr.Dataset(variables, {CANDIDATE: list(named)})


def design(X: Any) -> Array:
    """Genotypes as an array (sample, snp).

    Raises
    ------
    InputError
        If they are not a matrix of finite numbers.
    """
    values: Array = np.asarray(X, dtype=float)
    fits = values.ndim == 2 and values.size > 0 and bool(np.isfinite(values).all())
    expect(fits, "a matrix (sample, snp) of finite numbers", f"shape {values.shape}", "X", "give complete genotypes")
    return values


def loss_matrix(loss: Any, p: int) -> Array:
    """Delta, (snp, snp); the identity for None.

    Raises
    ------
    InputError
        If it is not symmetric and positive semidefinite, p x p.
    """
    if loss is None:
        return np.eye(p)
    Delta = np.asarray(loss, dtype=float)
    fits = Delta.shape == (p, p) and np.allclose(Delta, Delta.T)
    expect(fits, f"a symmetric {p} x {p} matrix", f"shape {Delta.shape}", "loss", "give Delta for all SNPs")
    least, *_, largest = np.linalg.eigvalsh(Delta)[[0, -1]]
    semidefinite = bool(least >= -1e-12 * largest)
    expect(semidefinite, "a positive semidefinite matrix", f"eigenvalue {least:.3g}", "loss", "give a loss >= 0")
    return Delta


def masks(
    X: Array, observed: Any, missing: float, m: int, streams: Sequence[np.random.SeedSequence]
) -> list[NDArray[np.bool_]]:
    """Which responses are observed in every data set, (sample, tissue) each.

    Raises
    ------
    InputError
        If ``observed`` has other samples than X, or both it and a share are given, or the share is out of range.
    """
    from ebmodel.simulate.draws import at_random

    n = len(X)
    expect(0.0 <= missing < 1.0, "0 <= missing < 1", missing, WHERE, "give a share of the responses")
    if observed is not None:
        W = np.asarray(observed).astype(bool)
        fits = W.ndim == 2 and len(W) == n
        expect(fits, f"a mask of {n} samples x tissues", f"shape {W.shape}", "observed", "match X")
        expect(missing == 0.0, "either `observed` or `missing`", "both", WHERE, "give one of them")
        return [W] * len(streams)
    if missing == 0.0:
        return [np.ones((n, m), dtype=bool)] * len(streams)
    return [~at_random(n, m, missing, np.random.default_rng(stream.spawn(1)[0])) for stream in streams]


def _named(estimators: Sequence[str | Estimator]) -> dict[str, str | Estimator]:
    """Name -> word that has an exact risk, or function."""
    named: dict[str, str | Estimator] = {}
    for one in estimators:
        name = one if isinstance(one, str) else getattr(one, "__name__", repr(one))
        known = not isinstance(one, str) or one in WORDS
        expect(known, f"one of {', '.join(WORDS)}, or a function", repr(one), WHERE, "choose one")
        expect(name not in named, "estimators with names of their own", f"{name!r} twice", WHERE, "rename the function")
        expect(isinstance(one, str) or name not in WORDS, "a name of its own", repr(name), WHERE, "rename the function")
        named[name] = empirical_bayes if one == "eb" else one
    expect(bool(named), "at least one estimator", "none", WHERE, f"choose from {', '.join(WORDS)}")
    return named


def _exact(at: Coordinates, params: Params, words: set[str]) -> dict[str, float]:
    """Mean risk over tissues."""
    return {word: float(np.mean(EXACT[word](at, params)[at.pattern])) for word in words}


def _distances(
    params: Params,
    X: Array,
    Delta: Array,
    observed: NDArray[np.bool_],
    estimators: dict[str, Estimator],
    stream: np.random.SeedSequence,
) -> dict[str, float]:
    """Mean over tissues of |estimate - oracle|^2_Delta on one simulated data set; runs in a worker."""
    from ebmodel.fitting import oracle
    from ebmodel.simulate.true_model import model_true

    data = model_true(params, X=X, m=observed.shape[1], seed=stream, posterior=False)
    Y = np.where(observed, data["Y"].to_numpy(), np.nan)
    best = oracle(X, Y, params).effects.to_numpy()
    found = {}
    for name, estimator in estimators.items():
        effects = np.asarray(estimator(X.copy(), Y.copy()), dtype=float)
        if effects.shape != best.shape or not np.isfinite(effects).all():
            got = f"shape {effects.shape}" if effects.shape != best.shape else "some that are not"
            raise InputError(f"{best.shape} finite effects (tissue, snp)", got, f"estimator {name!r}", "mend it")
        gap = effects - best
        found[name] = float(np.mean(np.einsum("ti,ij,tj->t", gap, Delta, gap)))
    return found


def _standard_error(values: Array) -> float:
    if not np.isfinite(values).all():
        return 0.0 if len(values) == 1 else np.nan
    if np.ptp(values) <= ROUNDING * np.max(np.abs(values)):  # the same in every data set
        return 0.0
    return float(np.std(values, ddof=1) / np.sqrt(len(values)))
