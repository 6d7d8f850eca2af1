"""Choose a gene's SNPs before a fit: association by tissue, Stouffer's Z over tissues, pruning by R² (Section 7).

The mathematics is in `ebmodel.eqtl.scan`; here it is asked with named tables, one gene at a time.

Tissues share samples, so their z are correlated and the p-values are too small where nothing is associated: they rank
SNPs and no more. SNPs chosen on the data that are then fitted make the fit optimistic.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from ebmodel.data import Data, tidy
from ebmodel.eqtl.scan import Projection, Selection, marginal_t, overlap_correlation, select, stouffer, z_from_t
from ebmodel.errors import expect, listed
from ebmodel.labels import SNP, TISSUE
from ebmodel.model import Array

__all__ = ["associate", "choose", "screen_gene"]


def associate(X: Any, Y: Any, covariates: Any = None, *, intercept: bool = True, correct: bool = False) -> xr.Dataset:
    """Test every SNP alone in every tissue, and over all tissues by Stouffer's Z.

    Parameters
    ----------
    X : (sample, snp)
        Genotypes.
    Y : (sample, tissue)
        Expression, NaN where missing.
    covariates : (sample, covariate) or mapping of tissues to such tables, optional
        Regressed out of both over each tissue's observed samples; text columns become indicators. A tissue's own table
        needs no more than that tissue's samples.
    intercept
        Whether a column of ones joins the covariates.
    correct
        Whether Stouffer's Z is divided by the standard deviation that tissues with samples in common give it
        (`ebmodel.eqtl.scan.overlap_correlation`); the paper does not.

    Returns
    -------
    Dataset
        ``t`` (snp, tissue), t statistics of least squares with the covariates, NaN where a tissue has too few samples
        or a SNP does not vary in them; ``dof`` (tissue), their degrees of freedom; ``z`` (snp), Stouffer's Z over the
        tissues with a t statistic; ``p`` (snp), two-sided.

    Raises
    ------
    InputError
        If the data cannot be used (`ebmodel.data.tidy`), or a tissue has no table of covariates.

    Notes
    -----
    Section 7 of the paper combines the Z statistics of MatrixEQTL. They are signed here, so SNPs that act one way in
    all tissues come first.
    """
    return _associate(X, Y, covariates, intercept=intercept, correct=correct)[0]


def choose(
    X: Any, Y: Any, top: int, max_r2: float = 0.5, covariates: Any = None, *, intercept: bool = True
) -> xr.Dataset:
    """Choose the SNPs with the smallest Stouffer p, none in strong linkage disequilibrium with a better one.

    Parameters
    ----------
    X, Y, covariates, intercept
        As in `associate`.
    top
        How many SNPs to choose; fewer come out if no more are left.
    max_r2
        A SNP is dropped if its squared correlation with one already chosen exceeds this; 0.5 in the paper.

    Returns
    -------
    Dataset
        One row a chosen SNP, the best first: ``z``, ``p`` and ``position``, its column in X.

    Raises
    ------
    InputError
        If the data cannot be used, no SNP can be tested, or ``top`` or ``max_r2`` is out of range.

    Examples
    --------
    >>> import ebmodel
    >>> gene = ebmodel.simulate.setting(2, signal=2, seed=1)  # only the first SNP acts
    >>> choose(gene.X, gene.Y, 2).snp[0].item()
    'snp1'
    """
    expect(top >= 1, "at least 1", top, "top", "give how many SNPs to choose")
    expect(0.0 <= max_r2 <= 1.0, "0 <= max_r2 <= 1", max_r2, "max_r2", "use 0.5, the paper's")
    association, genotypes = _associate(X, Y, covariates, intercept=intercept)
    z = association["z"].to_numpy()
    do = "use fewer covariates or more samples"
    expect(bool(np.isfinite(z).any()), "SNPs that vary beside the covariates", "none", "genotypes", do)
    position = select(z, genotypes, None, max_r2, top).positions
    return association[["z", "p"]].isel({SNP: position}).assign(position=(SNP, position))


def screen_gene(
    X: Any,
    Y: Any,
    covariates: Any = None,
    *,
    p: float = 1e-6,
    r2: float = 0.5,
    most: int | None = None,
    intercept: bool = True,
    correct: bool = False,
) -> xr.Dataset:
    """Screen a gene's SNPs as Section 7 does, and say of every SNP why it was kept or not.

    Parameters
    ----------
    X, Y, covariates, intercept, correct
        As in `associate`. X holds all donors: R² is taken over all of them, whatever tissues they gave.
    p
        SNPs with a Stouffer p below this are looked at.
    r2
        A SNP is dropped if its squared correlation with a better one that was kept exceeds this.
    most
        Keep no more than this.

    Returns
    -------
    Dataset
        ``t``, ``dof``, ``z`` and ``p`` of `associate` for every SNP; ``selected`` (snp); ``rank`` (snp), 1 for the best
        that was kept, 0 for SNPs that were not; ``reason`` (snp) in words.

    Raises
    ------
    InputError
        If the data cannot be used or a threshold is out of range.

    Examples
    --------
    >>> import ebmodel
    >>> gene = ebmodel.simulate.setting(2, signal=2, seed=1)  # only the first SNP acts
    >>> screened = screen_gene(gene.X, gene.Y, p=1e-100)
    >>> screened.reason[:2].to_numpy().tolist()
    ['kept', 'p not below 1e-100']
    """
    association, genotypes = _associate(X, Y, covariates, intercept=intercept, correct=correct)
    z, snps = association["z"].to_numpy(), association[SNP].to_numpy()
    selection = select(z, genotypes, p, r2, most)
    rank = np.zeros(len(z), dtype=np.int64)
    rank[selection.positions] = np.arange(1, len(selection.positions) + 1)
    reason = _reasons(selection, z, snps, p, r2, most)
    return association.assign(selected=(SNP, rank > 0), rank=(SNP, rank), reason=(SNP, reason))


def _reasons(
    selection: Selection, z: Array, snps: NDArray[Any], p: float, r2: float, most: int | None
) -> NDArray[np.object_]:
    reason = np.full(len(z), f"beyond the best {most}", dtype=object)
    reason[selection.positions] = "kept"
    for j in np.flatnonzero(selection.linked >= 0):
        reason[j] = f"R² above {r2:g} with {snps[selection.linked[j]]}"
    reason[selection.weak] = f"p not below {p:g}"
    reason[~np.isfinite(z)] = "does not vary beside the covariates"
    return reason


def _associate(X: Any, Y: Any, covariates: Any, *, intercept: bool, correct: bool = False) -> tuple[xr.Dataset, Array]:
    """Association of all SNPs, and the genotypes of all samples."""
    if isinstance(covariates, Mapping):
        data = tidy(X, Y, intercept=intercept)
        parts = _by_tissue(data, covariates, intercept=intercept)
    else:
        data = tidy(X, Y, covariates, intercept=intercept)
        parts = _by_pattern(data)
    (n, p), m = data.X.shape, len(data.tissues)
    t, dof, residuals = np.full((p, m), np.nan), np.zeros(m, dtype=np.int64), np.full((n, m), np.nan)
    for rows, members, C in parts:
        projection, y = Projection.of(C, intercept=False), data.Y[np.ix_(rows, members)]
        t[:, members], left = marginal_t(data.X[rows], y, projection)
        dof[members] = max(left, 0)
        residuals[np.ix_(rows, members)] = projection.residual(y)
    z = z_from_t(t.T, np.maximum(dof, 1)[:, None])
    Z, tail = stouffer(z, overlap_correlation(residuals) if correct else None)
    variables = {"t": ((SNP, TISSUE), t), "dof": (TISSUE, dof), "z": (SNP, Z), "p": (SNP, tail)}
    return xr.Dataset(variables, {SNP: data.snps, TISSUE: data.tissues}), data.X


type _Part = tuple[NDArray[np.int64], NDArray[np.int64], Array]
"""Rows of the samples, the tissues observed in just these, and their covariates."""


def _by_pattern(data: Data) -> Iterator[_Part]:
    masks, pattern = data.patterns()
    for k, observed in enumerate(masks):  # tissues seen in the same samples share a projection
        yield np.flatnonzero(observed), np.flatnonzero(pattern == k), data.C[observed]


def _by_tissue(data: Data, covariates: Mapping[Any, Any], *, intercept: bool) -> Iterator[_Part]:
    tables = {str(name): table for name, table in covariates.items()}
    lacking = [name for name in data.tissues if str(name) not in tables]
    do = "give a table a tissue, or one table for all"
    expect(not lacking, "covariates of every tissue", f"none of {listed(lacking)}", "covariates", do)
    snps = pd.DataFrame(data.X, data.samples, data.snps)
    expression = pd.DataFrame(data.Y, data.samples, data.tissues)
    row = pd.Series(np.arange(len(data.samples)), data.samples)
    for k, tissue in enumerate(data.tissues):
        if not data.observed[:, k].any():
            continue
        C = _all_samples(tables[str(tissue)], data, str(tissue))
        one = tidy(snps, expression[[tissue]], C, intercept=intercept)
        seen = one.observed[:, 0]
        yield row[one.samples[seen]].to_numpy(), np.array([k]), one.C[seen]


def _all_samples(table: Any, data: Data, tissue: str) -> pd.DataFrame | None:
    """A tissue's covariates for all samples, missing where the table does not have them."""
    if table is None:
        return None
    frame = pd.DataFrame(table.to_pandas() if isinstance(table, xr.DataArray) else table)
    where = f"covariates of {tissue!r}"
    expect(frame.index.is_unique, "each sample once", "one more than once", where, "make names unique")
    full = frame.reindex(data.samples)
    full.attrs = {"source": frame.attrs.get("source", f"of {tissue!r}")}
    return full
