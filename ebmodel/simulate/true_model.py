"""Data drawn from the model itself, with their exact posterior."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from ebmodel.errors import expect
from ebmodel.labels import SNP, TISSUE
from ebmodel.model import Array, Params
from ebmodel.simulate.draws import Draws, Genotypes, at_random, check_sizes, labelled, named
from ebmodel.simulate.exact import exact_posterior
from ebmodel.statistics import slab_factor

__all__ = ["draw", "model_true"]


def model_true(
    params: Params,
    *,
    n: int = 100,
    m: int = 50,
    missing: ArrayLike = 0.0,
    seed: int | np.random.SeedSequence = 0,
    X: Any = None,
    posterior: bool = True,
) -> xr.Dataset:
    """Data drawn from the model, its slab included: what the fit assumes, exactly.

    Sigma0 is that of ``X`` as given. A fit with an intercept or covariates projects them out of X first, so give an X
    without them (centred, for an intercept) if its Sigma0 is to be the same.

    Parameters
    ----------
    params
        theta; the number of SNPs is the length of ``params.beta``. With ``relative_variance`` tissues have error
        variances of their own, equation (E), and ``m`` must be their number.
    n, m
        Samples and tissues.
    missing
        Share of each tissue's responses set missing: one for all, or (tissue,) their own, for tissues that differ in
        size.
    seed
        Of the random numbers.
    X : (sample, snp), optional
        Genotypes: a matrix, a table or a file's path; standard normal and independent where not given.
    posterior
        Whether to compute the exact posterior too, which takes longer than drawing the data.

    Returns
    -------
    Dataset
        As from `setting`, with ``tau1``, ``eta``, ``sigma2`` and ``missing`` as attributes, ``error_sd`` (tissue) where
        error variances are unequal, and the exact posterior at ``params`` (of which `exact_posterior` gives more):
        ``posterior_probability`` (tissue), P(I(t)=1 | Y), and ``posterior_effects`` (tissue, snp), E(beta(t) | Y).

    Raises
    ------
    InputError
        If a size is out of range, or ``X`` cannot be used or has another number of SNPs, or ``m`` is another number of
        tissues than ``params`` have variances for.

    Examples
    --------
    >>> data = model_true(Params(tau1=0.5, beta=[1.0, 0.0], eta=4.0, sigma2=1.0), n=30, m=8)
    >>> data.posterior_effects.dims
    ('tissue', 'snp')
    """
    draws, genotypes, covariance = draw(params, n, m, missing, seed, X)
    share = np.asarray(missing, dtype=float).tolist()
    settings = {"tau1": params.tau1, "eta": params.eta, "sigma2": params.sigma2, "missing": share}
    data = labelled(draws, genotypes, np.asarray(params.beta), covariance, settings)
    if params.relative_variance is not None:
        data = data.assign(error_sd=(TISSUE, np.sqrt(np.asarray(params.error_variance))))
    if not posterior:
        return data
    exact = exact_posterior(data)
    return data.assign(
        posterior_probability=(TISSUE, exact.posterior_probability.to_numpy()),
        posterior_effects=((TISSUE, SNP), exact.effects.to_numpy()),
    )


def draw(
    params: Params, n: int, m: int, missing: ArrayLike, seed: int | np.random.SeedSequence, X: Any
) -> tuple[Draws, Genotypes | None, Array]:
    """Equations (1), (3) and (4); the names of ``X`` if it was given, and the slab's covariance eta Sigma0.

    Raises
    ------
    InputError
        As `model_true`.
    """
    rng, beta = np.random.default_rng(seed), np.asarray(params.beta, dtype=float)
    genotypes = None if X is None else named(X)
    n, p = (n, len(beta)) if genotypes is None else genotypes.X.shape
    check_sizes(n, p, m, missing, "simulate.model_true")
    omega = params.relative_variance
    fits = omega is None or len(omega) == m
    expect(fits, f"{m} variances, one a tissue", None if omega is None else len(omega), "params", "give m=")
    x = rng.standard_normal((n, p)) if genotypes is None else genotypes.X
    active = rng.random(m) < params.tau1
    S = slab_factor(x, params.slab)
    slab = beta + np.sqrt(params.eta) * rng.standard_normal((m, S.shape[1])) @ S.T  # (3), Sigma0 = S S'
    errors = np.sqrt(np.asarray(params.error_variance, dtype=float)) * rng.standard_normal((n, m))
    draws = Draws(x, active, slab, errors, at_random(n, m, missing, rng))
    return draws, genotypes, params.eta * S @ S.T
