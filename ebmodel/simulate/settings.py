"""The paper's Settings 1-4 (Section 6)."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ebmodel.errors import InputError, expect
from ebmodel.labels import SAMPLE, TISSUE
from ebmodel.model import Array
from ebmodel.simulate.draws import Draws, Genotypes, at_random, check_sizes, labelled, named, numbered
from ebmodel.simulate.population import shipped

__all__ = ["setting", "slab_mean"]

WHERE = "simulate.setting"


def setting(
    k: int,
    *,
    rho: float = 0.0,
    signal: float = 1.0,
    seed: int | np.random.SeedSequence = 0,
    n: int | None = None,
    p: int | None = None,
    m: int | None = None,
    tau1: float = 0.5,
    sigma: float | None = None,
    missing: float | None = None,
    genotypes: Any = None,
    X: Any = None,
    truth: xr.Dataset | None = None,
) -> xr.Dataset:
    """One data set of the paper's Setting 1, 2, 3 or 4 (Section 6).

    With C exchangeable (1 on the diagonal, ``rho`` off it) and beta = (s 1, s/2 1, 0) in thirds, s = ``signal``:

    1. rows of X ~ N(0, C); beta(t) | I(t)=1 ~ N(beta, C), which is NOT the model's slab
    2. as 1 with sigma = 1, and only the first effect non-zero: beta_1(t) | I(t)=1 ~ N(s, sigma^2)
    3. as 1, with 20 % of every tissue's responses missing completely at random
    4. as 3 with n = 300 donors drawn with replacement from ``genotypes``, allele counts 0, 1, 2 as they are (not
       centred); the paper's 838 donors are protected data, and the default is a simulated substitute
       (`ebmodel.simulate.donors`)

    Parameters
    ----------
    k
        The setting, 1 to 4.
    rho
        Correlation of SNPs (in Settings 1-3), and of effects.
    signal
        Mean effect of the first third of SNPs.
    seed
        Of the random numbers.
    n, p, m
        Samples (50; 300 in Setting 4), SNPs (30) and tissues (50); those of ``X``, ``genotypes`` and ``truth`` where
        they are given.
    tau1
        Share of active tissues: 0.5; the paper's appendix has other, unbalanced, shares.
    sigma
        Error sd; 10, and 1 in Setting 2. (The paper prints "sigma^2 = 10"; its tables need sigma = 10.)
    missing
        Share of each tissue's responses set missing; 0, and 0.2 in Settings 3 and 4.
    genotypes : (donor, snp), optional
        Setting 4's donors: an array, DataFrame or DataArray, or the path of a PLINK .bed, VCF, BCF or table file.
    X : (sample, snp), optional
        Genotypes to use as they are, in any setting, in place of drawing them.
    truth : Dataset, optional
        An earlier result whose ``active`` and ``effects`` are used again, in place of drawing them. With ``X`` too,
        only the errors, and which responses are missing, are new.

    Returns
    -------
    Dataset
        ``X`` (sample, snp), ``Y`` (sample, tissue), the truth ``active`` (tissue), ``effects`` (tissue, snp), ``beta``
        (snp) and ``slab_covariance`` (snp, snp_other), and the constants as attributes. In Setting 4 the coordinate
        ``donor`` (sample) says whose genotypes a sample has.

    Raises
    ------
    InputError
        If ``k`` is not 1 to 4, a constant is out of range, or what is given does not fit together.

    Examples
    --------
    An unbalanced Setting 3, one tissue in ten active; then new errors for the same genotypes and effects:

    >>> first = setting(3, rho=0.4, signal=2, tau1=0.1, seed=1)
    >>> again = setting(3, rho=0.4, signal=2, tau1=0.1, seed=2, X=first.X, truth=first)
    >>> bool((again.effects == first.effects).all()), bool((again.Y == first.Y).any())
    (True, False)
    """
    expect(k in (1, 2, 3, 4), "a setting from 1 to 4", k, WHERE, "choose one of the paper's four")
    expect(0.0 <= rho < 1.0, "0 <= rho < 1", rho, WHERE, "choose a correlation")
    expect(bool(np.isfinite(signal)), "a finite signal", signal, WHERE, "give a mean effect")
    expect(0.0 <= tau1 <= 1.0, "0 <= tau1 <= 1", tau1, WHERE, "give the share of active tissues")
    got = f"them in Setting {k}" + (" with X=" if X is not None else "")
    do = "give X=, to be used as it is"
    expect(genotypes is None or (k == 4 and X is None), "genotypes= in Setting 4 alone, without X=", got, WHERE, do)
    sigma = sigma if sigma is not None else 1.0 if k == 2 else 10.0
    missing = missing if missing is not None else 0.2 if k >= 3 else 0.0
    expect(0.0 < sigma < np.inf, "sigma > 0", sigma, WHERE, "give an error sd")
    given = named(X) if X is not None else None
    donors = (shipped() if genotypes is None else named(genotypes)) if k == 4 and given is None else None
    n = _agree("n", n, len(given.X) if given else None, 300 if k == 4 else 50)
    table = given or donors
    p = _agree("p", p, table.X.shape[1] if table else None, 30)
    m = _agree("m", m, truth.sizes[TISSUE] if truth is not None else None, 50)
    check_sizes(n, p, m, missing, WHERE)

    rng = np.random.default_rng(seed)
    C = np.full((p, p), rho) + (1.0 - rho) * np.eye(p)
    root = np.linalg.cholesky(C)
    chosen = None
    if given is not None:
        genes = given.X
    elif donors is not None:
        chosen = rng.integers(len(donors.X), size=n)
        genes = donors.X[chosen]
        given = Genotypes(genes, numbered("sample", n), donors.snps)
    else:
        genes = rng.standard_normal((n, p)) @ root.T
    beta, covariance = slab_mean(p, signal), C
    if k == 2:
        first = np.arange(p) == 0
        beta, covariance = np.where(first, signal, 0.0), sigma**2 * np.outer(first, first)
    settings = {"setting": k, "rho": rho, "signal": signal, "tau1": tau1, "sigma": sigma, "missing": missing}
    if truth is None:
        active, slab, tissues = *_effects(k, beta, root, m, tau1, sigma, rng), None
    else:
        _check_truth(truth, beta, covariance, tau1)
        active, slab, tissues = (truth[name].to_numpy() for name in ("active", "effects", TISSUE))
    errors = sigma * rng.standard_normal((n, m))
    draws = Draws(genes, active, slab, errors, at_random(n, m, missing, rng))
    data = labelled(draws, given, beta, covariance, settings, tissues)
    return data if chosen is None or donors is None else data.assign_coords(donor=(SAMPLE, donors.samples[chosen]))


def slab_mean(p: int, signal: float) -> Array:
    """beta = (s 1, s/2 1, 0) in thirds."""
    third = -(-p // 3)
    return np.concatenate([np.full(third, signal), np.full(third, signal / 2), np.zeros(p)])[:p]


def _effects(
    k: int, beta: Array, root: Array, m: int, tau1: float, sigma: float, rng: np.random.Generator
) -> tuple[NDArray[np.bool_], Array]:
    """I(t), (tissue), and beta(t) | I(t)=1, (tissue, snp)."""
    active = rng.random(m) < tau1
    slab = beta + rng.standard_normal((m, len(beta))) @ root.T
    if k == 2:  # drawn after, and in place of, the effects of Setting 1
        slab = beta + np.where(np.arange(len(beta)) == 0, sigma * rng.standard_normal((m, 1)), 0.0)
    return active, slab


def _agree(name: str, asked: int | None, found: int | None, default: int) -> int:
    """Take the size asked for, or that of the data that were given, which must agree."""
    if found is None:
        return default if asked is None else asked
    if asked not in (None, found):
        raise InputError(f"{name} = {found}, as in what was given", f"{asked}", WHERE, f"leave {name} out")
    return found


def _check_truth(truth: xr.Dataset, beta: Array, covariance: Array, tau1: float) -> None:
    lacking = [name for name in ("active", "effects", "beta", "slab_covariance") if name not in truth]
    do = "give what an earlier call returned"
    expect(not lacking, "a truth with active, effects, beta and slab_covariance", f"no {lacking}", WHERE, do)
    same = (
        np.array_equal(truth["beta"], beta)
        and np.array_equal(truth["slab_covariance"], covariance)
        and truth.attrs.get("tau1") == tau1
    )
    expect(same, "the k, rho, signal, tau1 and sigma that the truth was drawn with", "others", WHERE, "repeat them")
