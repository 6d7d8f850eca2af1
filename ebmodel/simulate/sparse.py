"""Sparse effects: a few causal SNPs in every active tissue, a truth that no slab of the model describes."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ebmodel.errors import expect
from ebmodel.labels import TISSUE
from ebmodel.model import Array
from ebmodel.simulate.draws import Draws, at_random, check_sizes, labelled, named

__all__ = ["SHARING", "TAILS", "sparse"]

WHERE = "simulate.sparse"
SHARING = ("shared", "clustered", "specific")
"""Which tissues have causal SNPs in common: all, those of a cluster, none."""
TAILS = ("normal", "heavy")
"""How effects are distributed: normal, or t with few degrees of freedom."""
SPREAD = 0.3
"""Sd of a tissue's effects about those of its group, where the sd of these is 1."""
DF = 3.0
"""Degrees of freedom of heavy tails."""


def sparse(
    *,
    nonzero: int = 3,
    sharing: str = "shared",
    tails: str = "normal",
    explained: float = 0.2,
    rho: float = 0.0,
    seed: int | np.random.SeedSequence = 0,
    n: int = 100,
    p: int = 30,
    m: int = 50,
    tau1: float = 0.5,
    sigma: float = 1.0,
    missing: float = 0.0,
    clusters: int = 5,
    X: Any = None,
) -> xr.Dataset:
    """One gene whose effects are sparse: of ``p`` SNPs ``nonzero`` have an effect in an active tissue.

    Tissues fall into groups, each with causal SNPs j and effects b_j of its own. In tissue t of group g

        beta_j(t) | I(t)=1 = s (b_j(g) + 0.3 u_j(t)) for causal j, otherwise 0,

    b and u independent of variance 1; s makes X beta(t) explain the share ``explained`` of a tissue's variance if the
    tissue is active, on average over all tissues. Rows of X ~ N(0, C), C exchangeable with ``rho``, as in `setting`.

    Parameters
    ----------
    nonzero
        Causal SNPs of a group.
    sharing
        The groups: ``"shared"``, all tissues are one; ``"clustered"``, ``clusters`` of them, as equal in size as can
        be; ``"specific"``, every tissue is one of its own.
    tails
        Of b and u: ``"normal"``, or ``"heavy"``, t with 3 degrees of freedom.
    explained
        h: s is such that the mean over tissues of |X beta(t)|^2 / n, were all active, is sigma^2 h / (1 - h).
    rho
        Correlation of SNPs.
    seed
        Of the random numbers.
    n, p, m
        Samples, SNPs and tissues; n and p are those of ``X`` if it is given.
    tau1
        Probability that a tissue is active.
    sigma
        Error sd.
    missing
        Share of each tissue's responses set missing completely at random.
    clusters
        How many groups ``"clustered"`` tissues fall into.
    X : (sample, snp), optional
        Genotypes: a matrix, a table or a file's path, in place of drawing them.

    Returns
    -------
    Dataset
        As from `setting`, but for ``beta`` and ``slab_covariance``, which effects like these have not (nor has their
        posterior a closed form: `exact_posterior` refuses); ``group`` (tissue) says which tissues share causal SNPs.

    Raises
    ------
    InputError
        If a constant is out of range, or ``X`` cannot be used.

    Examples
    --------
    >>> data = sparse(nonzero=3, sharing="specific", tau1=1.0, seed=1)
    >>> set((data.effects != 0).sum("snp").values.tolist())
    {3}
    """
    genotypes = None if X is None else named(X)
    n, p = (n, p) if genotypes is None else genotypes.X.shape
    check_sizes(n, p, m, missing, WHERE)
    expect(1 <= nonzero <= p, f"1 <= nonzero <= {p}", nonzero, WHERE, "give the number of causal SNPs")
    expect(sharing in SHARING, f"one of {', '.join(SHARING)}", repr(sharing), WHERE, "choose one")
    expect(tails in TAILS, f"one of {', '.join(TAILS)}", repr(tails), WHERE, "choose one")
    apart = sharing != "clustered" or 1 <= clusters <= m
    expect(apart, f"1 <= clusters <= {m}", clusters, WHERE, "give at most one a tissue")
    expect(0.0 < explained < 1.0, "0 < explained < 1", explained, WHERE, "give a share of the variance")
    expect(0.0 <= tau1 <= 1.0, "0 <= tau1 <= 1", tau1, WHERE, "give the share of active tissues")
    expect(0.0 <= rho < 1.0, "0 <= rho < 1", rho, WHERE, "choose a correlation")
    expect(0.0 < sigma < np.inf, "sigma > 0", sigma, WHERE, "give an error sd")

    rng = np.random.default_rng(seed)
    C = np.full((p, p), rho) + (1.0 - rho) * np.eye(p)
    x = rng.standard_normal((n, p)) @ np.linalg.cholesky(C).T if genotypes is None else genotypes.X
    active = rng.random(m) < tau1
    groups = {"shared": 1, "clustered": clusters, "specific": m}[sharing]
    group = rng.permutation(np.arange(m) % groups)
    shape = _effects(group, p, nonzero, tails, rng)
    signal = np.sum((x @ shape.T) ** 2) / (n * m)
    s = sigma * np.sqrt(explained / (1.0 - explained) / signal)  # mean |X beta(t)|^2 / n = sigma^2 h / (1 - h)
    errors = sigma * rng.standard_normal((n, m))
    draws = Draws(x, active, s * shape, errors, at_random(n, m, missing, rng))
    settings = {"nonzero": nonzero, "sharing": sharing, "tails": tails, "explained": explained, "rho": rho}
    settings |= {"tau1": tau1, "sigma": sigma, "missing": missing}
    none = np.zeros(p)
    data = labelled(draws, genotypes, none, np.diag(none), settings).drop_vars(["beta", "slab_covariance"])
    return data.assign(group=(TISSUE, group))


def _effects(group: NDArray[np.int_], p: int, nonzero: int, tails: str, rng: np.random.Generator) -> Array:
    """b_j(g) + 0.3 u_j(t) for the causal SNPs j of every tissue's group, otherwise 0; (tissue, snp)."""
    size = int(group.max()) + 1, p
    causal = rng.random(size).argsort(axis=1) < nonzero  # in every row a random permutation of 0, ..., p - 1
    b, u = _unit(tails, size, rng), _unit(tails, (len(group), p), rng)
    return np.where(causal[group], b[group] + SPREAD * u, 0.0)


def _unit(tails: str, size: tuple[int, int], rng: np.random.Generator) -> Array:
    """Draws of mean 0 and variance 1."""
    # t has variance df/(df - 2)
    return rng.standard_normal(size) if tails == "normal" else rng.standard_t(DF, size) * np.sqrt((DF - 2.0) / DF)
