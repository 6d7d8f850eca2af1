"""mash, end to end: covariances, scales, weights, posterior."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from ebmodel.errors import InputError, expect, listed
from ebmodel.labels import CONDITION_OTHER, MEASUREMENT, MEASUREMENT_OTHER
from ebmodel.mash.contrasts import Contrast
from ebmodel.mash.contrasts import contrast as contrasted
from ebmodel.mash.covariances import Covariance, canonical, gather
from ebmodel.mash.data import Effects, tidy
from ebmodel.mash.datadriven import data_driven
from ebmodel.mash.likelihood import Components, LogLikelihood
from ebmodel.mash.nullcorrelation import METHODS, correlation_by_em, null_correlation
from ebmodel.mash.prior import NULL, Prior, check_grid, scaling_grid
from ebmodel.mash.results import MashFit, assemble
from ebmodel.mash.weights import Step, Weights, solve
from ebmodel.model import Array
from ebmodel.parallel import one_thread

__all__ = ["CANONICAL", "DATA_DRIVEN", "KINDS_OF_V", "fit"]

CANONICAL, DATA_DRIVEN, FULL_RANK = "canonical", "data-driven", "full-rank"
IDENTITY, ESTIMATE, EM = "identity", "estimate", "em"
KINDS_OF_V = (IDENTITY, ESTIMATE, EM, *METHODS)
"""Names that V goes by; the estimate is "truncated", which is right where null effects prevail."""
CORRELATED = 0.1
"""Root mean square correlation of what looks null that deserves a word."""
EM_ROWS = 4000
"""Effects, spread evenly, that the correlation of errors is learned from by EM."""


@one_thread
def fit(
    bhat: Any,
    shat: Any = None,
    *,
    V: Any = None,
    alpha: float = 0.0,
    covariances: str | Iterable[str] | Mapping[str, Any] | Iterable[Covariance] | None = None,
    strong: Any = None,
    components: int = 5,
    grid: Any = None,
    null_weight: float = 10.0,
    prior_weights: Mapping[str, float] | None = None,
    pointmass: bool = True,
    contrast: Any = None,
    tiny: str = "refuse",
    posterior: bool = True,
    tol: float = 1e-12,
    memory: float = 1e9,
    progress: Callable[[str], None] | None = None,
) -> MashFit:
    r"""Fit mash: effects in many conditions, from estimates and standard errors (Urbut et al. 2019).

    Parameters
    ----------
    bhat : (effect, condition)
        Estimates; NumPy, DataFrame or DataArray. NaN where missing: such cells are marginalised exactly.
    shat : (effect, condition), or a number
        Standard errors; 1 if None: ``bhat`` holds z-scores.
    V
        Correlation of errors between conditions, V_j = S_j V S_j: None, the identity; ``"estimate"``, from effects that
        look null (or a method of `ebmodel.mash.null_correlation`); ``"em"``, by alternating with fits to 4,000 of the
        effects (`ebmodel.mash.correlation_by_em`), slower, and better unless the covariances are too few to describe
        the effects, what they cannot then passing for correlated errors; a (condition, condition) matrix; or (effect,
        condition, condition), one for each.
    alpha
        b/s^alpha is what the prior is for: 0 ("EE"), the size of effects has nothing to do with standard errors; 1
        ("EZ"), it is proportional to them.
    covariances
        Kinds: ``"canonical"``; ``"data-driven"``, mashr's recipe: principal components of strong effects, refined by
        extreme deconvolution; ``"full-rank"``, the strong effects' second moments, refined likewise and shrunk to their
        diagonal. Or name -> matrix (condition, condition) or factor (condition, rank); or `ebmodel.mash.Covariance` s.
        None: canonical and, where strong effects suffice, full-rank. (A covariance of low rank ties an effect's sign
        in a condition to those in others: where it is surely not null in one, the lfsr is next to 0 in all, too sure
        where effects are not shared so.)
    strong
        Rows for data-driven covariances, as numbers or booleans; by default those whose largest \|z\| stands out
        (`ebmodel.mash.strong_effects`). Weights are fitted to all rows, which should not be chosen for strength.
    components
        Principal components of strong effects to start from.
    grid
        Scales omega; by default from a tenth of the smallest standard error to twice the largest effect that the
        estimates suggest, sqrt(2) apart.
    null_weight
        Prior weight a_0 of the point mass, all others having 1: (a_0 - 1) log pi_0 joins the log-likelihood. 10 errs
        on the side of no effects ("null-biased"); 1 is plain maximum likelihood.
    prior_weights
        Prior weights of further components by name (``"identity.1"``: the first scale of a covariance), at least 1.
    pointmass
        Whether effects may be exactly zero in all conditions.
    contrast
        What to model instead of effects by condition: their differences from ``"mean"`` or from a named condition, or
        a matrix L (`ebmodel.mash.contrast`; common-baseline mash). Needs ``alpha`` = 0.
    tiny
        ``"refuse"`` standard errors that are 0 or below 1e-8 of their condition's median, or take such cells for
        ``"missing"``.
    posterior
        Whether to compute the posterior of these effects. Without it the fit is light, and `MashFit.apply_to` writes
        posteriors of any number of effects.
    tol
        Largest relative gap of the weights' certificate.
    memory
        Bytes for the matrix of log-likelihoods; beyond, it is computed again for each of a few passes.
    progress
        Called with a word on what is being done.

    Returns
    -------
    MashFit
        The prior, the certificate of its weights, and the posterior of the effects that it was fitted to; with names.

    Raises
    ------
    InputError
        If the data, covariances, scales or weights cannot be used.

    Examples
    --------
    >>> import numpy as np, ebmodel
    >>> rng = np.random.default_rng(0)
    >>> b = np.where(rng.random((500, 1)) < 0.3, 3.0 * rng.standard_normal((500, 1)), 0.0)  # shared by 4 conditions
    >>> fit = ebmodel.mash.fit(b + rng.standard_normal((500, 4)), 1.0, covariances="canonical")
    >>> fit.weights.sum("scale").idxmax().item()
    'equal_effects'
    """
    say = progress or (lambda _: None)
    about: dict[str, Any] = {}
    covariances = _listed(covariances)
    expect(components >= 1, "at least one component", components, "components", "leave the default")
    if isinstance(V, str):
        # covariances of contrasts are none of the conditions, whose errors' correlation is learned first
        usable = covariances if contrast is None or _by_name(covariances) else None
        shared = {"alpha": alpha, "covariances": usable, "components": components, "grid": grid,
                  "null_weight": null_weight, "prior_weights": prior_weights, "pointmass": pointmass}  # fmt: skip
        say("correlation of errors")
        V = _estimated(V, tidy(bhat, shat, tiny=tiny), shared)
    if contrast is not None:
        do = "leave it at 0: a difference of effects has no one standard error to be proportional to"
        expect(alpha == 0.0, "alpha = 0 with contrasts", alpha, "alpha", do)
        taken = contrasted(bhat, shat, V, contrast, tiny)
        about = _baseline(taken, tidy(bhat, shat, V, tiny=tiny))
        bhat, shat, V = taken.chat, taken.shat, taken.V.to_numpy()
    effects = tidy(bhat, shat, V, alpha, tiny)
    say("covariances")
    chosen, notes = _covariances(covariances, effects, strong, components)
    omegas = scaling_grid(effects) if grid is None else check_grid(grid)
    say(f"weights of {len(chosen) * len(omegas) + pointmass:,} components")
    likelihood = LogLikelihood(effects, Components.of(chosen, omegas, pointmass=pointmass), memory)
    pseudo = _pseudo(chosen, len(omegas), null_weight, prior_weights, pointmass=pointmass)
    weights = solve(likelihood, pseudo, tol=tol, progress=lambda step: say(_pass(step)))
    prior = _prior(weights.pi, chosen, omegas, effects, pointmass=pointmass)
    if posterior:
        say("posteriors")
    words = [_status(weights), *notes, *(_correlated(effects) if V is None else [])]
    return MashFit(assemble(effects, prior, weights, "; ".join(words), about, posterior=posterior))


def _estimated(method: str, effects: Effects, settings: dict[str, Any]) -> Array | None:
    """V by the name of a method; ``settings`` are those of the fits that it alternates with."""
    expect(method in KINDS_OF_V, f"a matrix, or one of {listed(KINDS_OF_V, 9)}", repr(method), "V", "choose one")
    if method == IDENTITY:
        return None
    if method != EM:
        known: Any = "truncated" if method == ESTIMATE else method
        return null_correlation(effects.B, effects.S, method=known).to_numpy()
    rows = np.flatnonzero(effects.observed.all(axis=1))
    R = effects.B.shape[1]
    do = "give V, or V='estimate', which takes effects with missing cells too"
    expect(len(rows) > R, f"more than {R} effects without missing cells", len(rows), "bhat", do)
    some = effects.take(rows[:: -(-len(rows) // EM_ROWS)])
    tables = [pd.DataFrame(part, some.effects, some.conditions) for part in (some.B, some.S)]

    def fitted(C: Array) -> MashFit:
        return fit(*tables, V=C, tol=1e-8, **settings)

    return correlation_by_em(some.B, some.S, fitted)[0].to_numpy()


def _correlated(effects: Effects) -> list[str]:
    """A word where V was taken for the identity and what looks null says otherwise."""
    try:
        C = null_correlation(effects.B, effects.S)
    except InputError:  # hardly anything looks null
        return []
    rho = C.to_numpy()[np.triu_indices(len(C), 1)]
    mean = float(np.sqrt(np.mean(rho**2))) if rho.size else 0.0
    # of n independent pairs n rho^2 is 1 on average
    if mean < CORRELATED or C.attrs["effects"] * mean**2 < 4.0:
        return []
    return [
        f"errors look correlated between conditions (by {mean:.2f}, root mean square) and V is the identity: shared "
        "errors pass for effects; fit with V='estimate' or 'em'"
    ]


def _baseline(taken: Contrast, effects: Effects) -> dict[str, Any]:
    """What a fit to contrasts keeps, so that other estimates can be contrasted alike."""
    about: dict[str, Any] = {"contrast": taken.L.rename({CONDITION_OTHER: MEASUREMENT})}
    return about if effects.own else about | {"measurement_V": ((MEASUREMENT, MEASUREMENT_OTHER), effects.C)}


def _listed(covariances: Any) -> Any:
    """Covariances that can be read more than once."""
    if covariances is None or isinstance(covariances, str | Mapping):
        return covariances
    got = type(covariances).__name__
    expect(isinstance(covariances, Iterable), "a list of covariances", got, "covariances", "put it in a list")
    return list(covariances)


def _by_name(covariances: Any) -> bool:
    """Whether covariances are asked for by words, which mean something for any conditions."""
    words = covariances is None or isinstance(covariances, str)
    return words or (isinstance(covariances, list) and all(isinstance(one, str) for one in covariances))


def _covariances(asked: Any, effects: Effects, strong: Any, components: int) -> tuple[list[Covariance], list[str]]:
    """Normalised covariances, and what is to be said of them."""
    if isinstance(asked, Mapping):
        return gather(asked, effects.conditions), []
    kinds: list[Any] = [asked] if isinstance(asked, str) else [CANONICAL, FULL_RANK] if asked is None else list(asked)
    if kinds and not any(isinstance(one, str) for one in kinds):
        return gather(kinds, effects.conditions), []
    known = (CANONICAL, DATA_DRIVEN, FULL_RANK)
    wrong = [one for one in kinds if one not in known]
    expect(bool(kinds) and not wrong, f"some of {listed(known)}", listed(wrong) or "none", "covariances", "choose")
    found, notes = canonical(effects.conditions) if CANONICAL in kinds else [], []
    if DATA_DRIVEN in kinds or FULL_RANK in kinds:
        try:
            learned = _learned(kinds, effects, strong, components)
            found += learned
            notes += [] if learned else ["canonical covariances alone: none that was learned is of full rank"]
        except InputError:
            if asked is not None or strong is not None:
                raise
            notes.append("canonical covariances alone: too few strong effects to learn others from")
    return gather(found, effects.conditions), notes


def _learned(kinds: list[str], effects: Effects, strong: Any, components: int) -> list[Covariance]:
    """Covariances of strong effects: as mashr learns them, and that of full rank."""
    found: list[Covariance] = []
    if DATA_DRIVEN in kinds:
        found += data_driven(effects, components, strong, empirical=False)
    if FULL_RANK in kinds:
        have = {U.name for U in found}  # of few conditions several components are of full rank
        # those of low rank are learned beside it and left out: free to turn, they take all that is theirs
        every = data_driven(effects, components, strong, directions="free")
        found += [U for U in every if U.rank == len(effects.conditions) and U.name not in have]
    return found


def _pseudo(
    covariances: list[Covariance], scales: int, null: float, others: Mapping[str, float] | None, *, pointmass: bool
) -> Array:
    """a_p - 1 of every component: what joins the log-likelihood is sum_p (a_p - 1) log pi_p."""
    names = [f"{U.name}.{k + 1}" for U in covariances for k in range(scales)]
    weights = {**({NULL: null} if pointmass else {}), **dict(others or {})}
    names = [NULL, *names] if pointmass else names
    unknown = [name for name in weights if name not in set(names)]
    expect(
        not unknown, "names of components", listed(unknown), "prior_weights", "write covariance.scale, as identity.1"
    )
    low = [name for name, value in weights.items() if not 1.0 <= value < np.inf]
    expect(not low, "prior weights of at least 1", listed(low), "null_weight, prior_weights", "1 is no penalty")
    return np.array([weights.get(name, 1.0) - 1.0 for name in names])


def _prior(pi: Array, covariances: list[Covariance], grid: Array, effects: Effects, *, pointmass: bool) -> Prior:
    weights = pi[int(pointmass) :].reshape(len(covariances), len(grid))
    null = float(pi[0]) if pointmass else 0.0
    return Prior(tuple(covariances), grid, weights, null, effects.conditions, effects.alpha, pointmass)


def _pass(step: Step) -> str:
    return f"weights: {step.active} components have some, gap {step.gap:.2g}"


def _status(weights: Weights) -> str:
    words = {
        "converged": "converged",
        "stalled": "stalled: rounding keeps the gap above tol",
        "max_iter": "not converged: max_iter reached",
    }
    return f"{words[weights.status]} after {weights.iterations} steps and {weights.passes} passes"
