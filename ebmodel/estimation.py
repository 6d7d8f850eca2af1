"""Maximum likelihood from sufficient statistics: the slab's shape chosen, then theta = (tau1, beta, eta, sigma2).

`estimate` needs no samples, only `Compressed` data, so whoever has these, from files or by taking a fold away from a
whole, fits the same model by the same code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ebmodel import em
from ebmodel.errors import expect
from ebmodel.heteroscedastic import EQUAL, UNEQUAL, Choice, check_own_variance, jacobian, learn_variances
from ebmodel.mean import FREE, HIERARCHICAL, mean_kind
from ebmodel.model import Array, Params, Slab
from ebmodel.relevance import SPARSE, learn_relevance
from ebmodel.search import Search, check_bounded, maximise
from ebmodel.shape import POWER, best_power
from ebmodel.starts import ENOUGH, active_sets
from ebmodel.statistics import Compressed, Whitened, Whitening, weigh, whiten

__all__ = ["MAX_ITER", "TOL", "Estimate", "covariance_of_mean", "estimate", "weighed", "whiten_weighed"]

TOL, MAX_ITER = 1e-9, 5000
"""Least gain in log-likelihood, and most steps, of a start, unless others are asked for."""


@dataclass(frozen=True, eq=False)
class Estimate:
    """theta and how it was found."""

    params: Params
    """theta, its slab included."""
    search: Search
    """What the optimiser did, and why it stopped."""
    whitened: Whitened
    """The data under the slab that was chosen."""
    state: em.State
    """theta in whitened coordinates."""
    responsibilities: Array
    """(tissue,) T_t = P(I(t)=1 | Y)."""
    covariance: Array | None
    """(snp, snp) Cov(beta | Y) where beta is latent."""
    learned: Mapping[str, int]
    """Parameters beside tau1, eta and sigma2 that were maximised over, by name: how many."""
    notes: tuple[str, ...]
    """On what was learned, for the fit's status."""


def estimate(
    compressed: Compressed,
    tissues: NDArray[Any],
    where: str,
    slab: Slab = "g",
    mean: str = "free",
    n_starts: int | None = None,
    seed: int = 0,
    tol: float = TOL,
    max_iter: int = MAX_ITER,
    errors: str = EQUAL,
    near: Estimate | None = None,
) -> Estimate:
    """Maximise the likelihood, or the bound on it where beta is latent, over everything that is not given.

    Parameters
    ----------
    compressed
        The data.
    tissues : (tissue,)
        Their names, for error messages.
    where
        What the expression is called, for the same.
    slab, mean, n_starts, seed, tol, max_iter, errors
        As in `ebmodel.fit`.
    near
        What was found on nearly the same data: its active tissues join the starts, and a power of the slab is sought
        from its own uphill.

    Raises
    ------
    InputError
        As `ebmodel.fit`.
    """
    kind = _check_choices(slab, mean, n_starts, errors)
    n_starts = ENOUGH[kind] if n_starts is None else n_starts
    learns = isinstance(slab, str) and slab in (POWER, SPARSE)
    if learns or errors == UNEQUAL:
        check_bounded(tissues, where, compressed, whiten(compressed, "independent" if learns else slab)[0], kind)
    choose = partial(_choose_slab, slab=slab, kind=kind, n_starts=n_starts, seed=seed, tol=tol, max_iter=max_iter)
    omega = None
    if errors == UNEQUAL:
        check_own_variance(tissues, where, compressed)
        place, choice = learn_variances(compressed, choose, kind, n_starts, seed, tol, learns)
        omega, starts = place.omega, place.T[None]
    else:
        choice = choose(compressed, near=near)
    stats, whitening = whitened = whiten_weighed(compressed, choice.slab, omega)
    if omega is None:
        check_bounded(tissues, where, compressed, stats, kind)
        found_near = np.empty((0, len(stats.n))) if near is None else near.responsibilities[None]
        starts = np.vstack([found_near, active_sets(stats, n_starts, seed), choice.starts])
    state, search = maximise(stats, starts, tol, max_iter, kind)
    params = Params(
        tau1=state.tau1,
        beta=whitening.unwhiten(state.gamma),
        eta=state.eta,
        sigma2=state.sigma2,
        slab=choice.slab,
        kappa=None if kind == FREE else state.belief.kappa,
        relative_variance=omega,
    )
    learned = {"beta": len(state.gamma) * (kind == FREE), "kappa": int(kind == HIERARCHICAL),
               "alpha": int(learns and slab == POWER), "SNPs' scales": choice.kept - 1,
               "error variances": 0 if omega is None else int(np.sum(stats.n > 0)) - 1}  # fmt: skip
    return Estimate(
        params,
        weighed(search, jacobian(omega, stats.n)),
        whitened,
        state,
        em.expectation(stats, state)[0],
        covariance_of_mean(whitening, state),
        learned,
        (choice.note,) if choice.note else (),
    )


def whiten_weighed(compressed: Compressed, slab: Slab, omega: Array | None) -> Whitened:
    """The data under a slab's shape and relative error variances omega (tissue,); None for equal ones."""
    stats, whitening = whiten(compressed, slab)
    return weigh(stats, omega), whitening


def weighed(search: Search, shift: float) -> Search:
    """What was found on weighed data, with the log densities of the responses as they are."""
    return replace(search, loglik=search.loglik + shift, trace=search.trace + shift, starts=search.starts + shift)


def covariance_of_mean(whitening: Whitening, state: em.State) -> Array | None:
    """Cov(beta | Y) under q, (snp, snp), the prior's in directions that X does not see; None where beta is a number."""
    about = state.belief
    if about.kind != HIERARCHICAL:
        return None
    root = about.root @ whitening.L.T
    return root.T @ root + about.kappa * whitening.null @ whitening.null.T


def _choose_slab(
    compressed: Compressed,
    *,
    slab: Slab,
    kind: int,
    n_starts: int,
    seed: int,
    tol: float,
    max_iter: int,
    near: Estimate | None = None,
) -> Choice:
    """The slab's shape, found if it is to be learned."""
    if isinstance(slab, str) and slab == POWER:
        around = None if near is None else (near.params.alpha, near.responsibilities)
        return Choice(*best_power(compressed, kind, n_starts, seed, tol, max_iter, around))
    if isinstance(slab, str) and slab == SPARSE:
        omega, T, kept = learn_relevance(compressed, kind, n_starts, seed, tol, max_iter)
        return Choice(np.diag(omega), T[None], kept=kept)
    return Choice(slab, np.empty((0, len(compressed.n))))


def _check_choices(slab: Slab, mean: str, n_starts: int | None, errors: str) -> int:
    known = not isinstance(slab, str) or slab in ("g", "independent", POWER, SPARSE)
    shapes = "'g', 'independent', 'power', 'sparse', a number or a (snp, snp) matrix"
    expect(known, shapes, repr(slab), "slab", "choose one")
    expect(n_starts is None or n_starts >= 1, "at least 1", n_starts, "n_starts", "leave the default")
    expect(errors in (EQUAL, UNEQUAL), "'equal' or 'unequal'", repr(errors), "errors", "choose one")
    return mean_kind(mean)
