"""What every simulator draws, and the Dataset that it becomes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from ebmodel.data import tidy
from ebmodel.errors import expect
from ebmodel.files import read_table
from ebmodel.labels import SAMPLE, SNP, SNP_OTHER, TISSUE
from ebmodel.model import Array

__all__ = ["Draws", "Genotypes", "at_random", "check_sizes", "labelled", "named", "numbered"]


class Draws(NamedTuple):
    """One data set before it has names."""

    X: Array
    """(sample, snp) genotypes."""
    active: NDArray[np.bool_]
    """(tissue,) I(t)."""
    slab: Array
    """(tissue, snp) what beta(t) is if I(t) = 1."""
    errors: Array
    """(sample, tissue) eps(t)."""
    gone: NDArray[np.bool_]
    """(sample, tissue) whether a response is missing: 1 - W(t)."""
    spike: Array | float = 0.0
    """(tissue, snp) what beta(t) is if I(t) = 0: no effect, unless the model is violated there."""

    @property
    def effects(self) -> Array:
        """beta(t), equations (3) and (4): the slab's where I(t) = 1, otherwise the spike's; (tissue, snp)."""
        return np.where(self.active[:, None], self.slab, self.spike)

    @property
    def responses(self) -> Array:
        """Y(t) = X beta(t) + eps(t), equation (1), with nothing missing; (sample, tissue)."""
        Y: Array = self.X @ self.effects.T + self.errors
        return Y


class Genotypes(NamedTuple):
    """Genotypes that were given, with the names of their samples and SNPs."""

    X: Array
    samples: NDArray[Any]
    snps: NDArray[Any]


def at_random(n: int, m: int, missing: ArrayLike, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Mark a share ``missing`` of each tissue's responses, completely at random; (sample, tissue).

    One share for all tissues, or (tissue,) their own: tissues then differ in size.
    """
    gone = np.zeros((n, m), dtype=bool)
    k = np.rint(np.broadcast_to(np.asarray(missing, dtype=float) * n, m)).astype(int)
    for t in np.flatnonzero(k):
        gone[rng.choice(n, k[t], replace=False), t] = True
    return gone


def check_sizes(n: int, p: int, m: int, missing: ArrayLike, where: str) -> None:
    """Refuse sizes and shares that no data set has.

    Raises
    ------
    InputError
        If n, p or m is below 1, ``missing`` is neither one share nor m of them, or a share is outside [0, 1).
    """
    for name, size in (("n", n), ("p", p), ("m", m)):
        expect(size >= 1, f"{name} >= 1", size, where, "give a size")
    share = np.asarray(missing, dtype=float)
    fits = share.shape in {(), (m,)}
    expect(fits, f"one share missing, or {m}, one a tissue", f"shape {share.shape}", where, "give one of the two")
    outside = share[~((share >= 0.0) & (share < 1.0))]
    got = outside[0] if outside.size else None
    expect(not outside.size, "0 <= missing < 1", got, where, "give a share of the responses")


def numbered(word: str, size: int) -> NDArray[Any]:
    """Names: word1, word2, ..."""
    return np.array([f"{word}{i + 1}" for i in range(size)])


def named(X: Any) -> Genotypes:
    """Genotypes from a matrix, a table or a file; samples and SNPs without names get donor1, ... and snp1, ...

    Raises
    ------
    InputError
        If a genotype is missing (the SNP is named), a SNP is 0 in all samples, or the file cannot be read.
    """
    if isinstance(X, str | Path):
        X = read_table(X)
    if isinstance(X, pd.DataFrame | xr.DataArray):
        n = X.sizes[SAMPLE] if isinstance(X, xr.DataArray) and SAMPLE in X.dims else len(X)
        data = tidy(X, np.zeros((n, 1)))
        return Genotypes(np.ascontiguousarray(data.X), data.samples.astype(str), data.snps)
    X = np.asarray(X, dtype=float)
    expect(X.ndim == 2, "a matrix (sample, snp)", f"{X.ndim} dimensions", "genotypes", "reshape it")
    samples, snps = numbered("donor", len(X)), numbered("snp", X.shape[1])
    tidy(pd.DataFrame(X, samples, snps), np.zeros((len(X), 1)))
    return Genotypes(X, samples, snps)


def labelled(
    draws: Draws,
    genotypes: Genotypes | None,
    beta: Array,
    slab_covariance: Array,
    attrs: Mapping[str, Any],
    tissues: NDArray[Any] | None = None,
) -> xr.Dataset:
    """The Dataset of one simulation; names from ``genotypes`` and ``tissues`` where there are any."""
    n, m = draws.gone.shape
    variables: dict[str, Any] = {
        "X": ((SAMPLE, SNP), draws.X),
        "Y": ((SAMPLE, TISSUE), np.where(draws.gone, np.nan, draws.responses)),
        "active": (TISSUE, draws.active),
        "effects": ((TISSUE, SNP), draws.effects),
        "beta": (SNP, beta),
        "slab_covariance": ((SNP, SNP_OTHER), slab_covariance),
    }
    coords = {
        SAMPLE: numbered("donor", n) if genotypes is None else genotypes.samples,
        SNP: numbered("snp", len(beta)) if genotypes is None else genotypes.snps,
        TISSUE: numbered("tissue", m) if tissues is None else tissues,
    }
    return xr.Dataset(variables, coords, attrs=dict(attrs))
