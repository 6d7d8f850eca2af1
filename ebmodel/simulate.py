"""Simulated data with their truth: the paper's Settings 1-4 (Section 6), and data drawn from the model itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ebmodel.errors import InputError, expect
from ebmodel.labels import SAMPLE, SNP, TISSUE
from ebmodel.model import Array, Params
from ebmodel.statistics import slab_factor

__all__ = ["model_true", "setting"]


def setting(
    k: int,
    *,
    rho: float = 0.0,
    signal: float = 1.0,
    seed: int | np.random.SeedSequence = 0,
    n: int | None = None,
    p: int = 30,
    m: int = 50,
    tau1: float = 0.5,
    sigma: float | None = None,
    missing: float | None = None,
    genotypes: Any = None,
) -> xr.Dataset:
    """One data set of the paper's Setting 1, 2, 3 or 4.

    With C exchangeable (1 on the diagonal, ``rho`` off it) and beta = (s 1, s/2 1, 0) in thirds, s = ``signal``:

    1. rows of X ~ N(0, C); beta(t) | I(t)=1 ~ N(beta, C), which is NOT the model's slab
    2. as 1 with sigma = 1, and only the first effect non-zero: beta_1(t) | I(t)=1 ~ N(s, sigma^2)
    3. as 1, with 20 % of every tissue's responses missing completely at random
    4. as 3 with n = 300 donors drawn with replacement from ``genotypes`` (the paper's are protected)

    Parameters
    ----------
    k
        The setting, 1 to 4.
    rho
        Correlation of SNPs, and of effects.
    signal
        Mean effect of the first third of SNPs.
    seed
        Of the random numbers.
    n, p, m
        Samples (50; 300 in Setting 4), SNPs and tissues.
    tau1
        Share of active tissues.
    sigma
        Error sd; 10, and 1 in Setting 2. (The paper prints "sigma^2 = 10"; its tables need sigma = 10.)
    missing
        Share of each tissue's responses set missing; 0, and 0.2 in Settings 3 and 4.
    genotypes : (donor, snp), optional
        Setting 4's donors.

    Returns
    -------
    Dataset
        ``X`` (sample, snp), ``Y`` (sample, tissue), the truth ``active`` (tissue), ``effects`` (tissue, snp), ``beta``
        (snp), and the settings as attributes.

    Raises
    ------
    InputError
        If ``k`` is not 1 to 4, or Setting 4 lacks genotypes.
    """
    expect(k in (1, 2, 3, 4), "a setting from 1 to 4", k, "simulate.setting", "choose one of the paper's four")
    expect(0.0 <= rho < 1.0, "0 <= rho < 1", rho, "simulate.setting", "choose a correlation")
    n = n if n is not None else 300 if k == 4 else 50
    sigma = sigma if sigma is not None else 1.0 if k == 2 else 10.0
    missing = missing if missing is not None else 0.2 if k >= 3 else 0.0
    rng = np.random.default_rng(seed)
    if k == 4:
        if genotypes is None:
            raise InputError("genotypes of real donors", "none", "Setting 4", "pass genotypes= (donor, snp)")
        donors = np.asarray(genotypes, dtype=float)
        X, p = donors[rng.integers(len(donors), size=n)], donors.shape[1]
    C = np.full((p, p), rho) + (1.0 - rho) * np.eye(p)
    root = np.linalg.cholesky(C)
    if k != 4:
        X = rng.standard_normal((n, p)) @ root.T
    third = -(-p // 3)
    beta = np.concatenate([np.full(third, signal), np.full(third, signal / 2), np.zeros(p)])[:p]
    active = rng.random(m) < tau1
    slab = beta + rng.standard_normal((m, p)) @ root.T
    if k == 2:
        beta = np.where(np.arange(p) == 0, signal, 0.0)
        slab = beta + np.where(np.arange(p) == 0, sigma * rng.standard_normal((m, 1)), 0.0)
    settings = {"setting": k, "rho": rho, "signal": signal, "tau1": tau1, "sigma": sigma, "missing": missing}
    return _respond(X, active, slab, beta, sigma, missing, rng, settings)


def model_true(
    params: Params,
    *,
    n: int = 100,
    m: int = 50,
    missing: float = 0.0,
    seed: int | np.random.SeedSequence = 0,
    X: Any = None,
) -> xr.Dataset:
    """Data drawn from the model, its slab included: what the fit assumes, exactly.

    Sigma0 is that of ``X`` as given. A fit with an intercept or covariates projects them out of X first, so give an X
    without them (centred, for an intercept) if its Sigma0 is to be the same.

    Parameters
    ----------
    params
        theta; the number of SNPs is the length of ``params.beta``.
    n, m
        Samples and tissues.
    missing
        Share of each tissue's responses set missing.
    seed
        Of the random numbers.
    X : (sample, snp), optional
        Genotypes; standard normal and independent where not given.

    Returns
    -------
    Dataset
        As from `setting`, with ``tau1``, ``eta`` and ``sigma2`` as attributes.
    """
    rng, beta = np.random.default_rng(seed), np.asarray(params.beta)
    X = rng.standard_normal((n, len(beta))) if X is None else np.asarray(X, dtype=float)
    active = rng.random(m) < params.tau1
    S = slab_factor(X, params.slab)
    slab = beta + np.sqrt(params.eta) * rng.standard_normal((m, S.shape[1])) @ S.T
    settings = {"tau1": params.tau1, "eta": params.eta, "sigma2": params.sigma2, "missing": missing}
    return _respond(X, active, slab, beta, float(np.sqrt(params.sigma2)), missing, rng, settings)


def _respond(
    X: Array,
    active: NDArray[np.bool_],
    slab: Array,
    beta: Array,
    sigma: float,
    missing: float,
    rng: np.random.Generator,
    settings: dict[str, Any],
) -> xr.Dataset:
    """Y(t) = X beta(t) + eps(t), equation (1), then responses removed completely at random."""
    (n, p), m = X.shape, len(active)
    effects = np.where(active[:, None], slab, 0.0)
    Y = X @ effects.T + sigma * rng.standard_normal((n, m))
    gone = round(missing * n)
    for t in range(m if gone else 0):
        Y[rng.choice(n, gone, replace=False), t] = np.nan
    variables = {
        "X": ((SAMPLE, SNP), X),
        "Y": ((SAMPLE, TISSUE), Y),
        "active": (TISSUE, active),
        "effects": ((TISSUE, SNP), effects),
        "beta": (SNP, beta),
    }
    coords = {
        SAMPLE: [f"donor{i + 1}" for i in range(n)],
        SNP: [f"snp{j + 1}" for j in range(p)],
        TISSUE: [f"tissue{t + 1}" for t in range(m)],
    }
    return xr.Dataset(variables, coords, attrs=settings)
