"""What cross-validation needs of a gene, once: sums of products by tissue and fold.

Covariates are projected out of expression and genotypes over all of a tissue's samples, x = M_t x and y = M_t y, as
users of GTEx adjust expression before they predict it. With the samples of a tissue split into folds,

    gram_f = sum x x',    cross_f = sum x y,    yy_f = sum y^2         over the samples of fold f

are all that fits and errors of prediction depend on: a training set's are the totals less the fold's (down-dating), so
no fold is fitted from raw data, and

    sum (y - x'b)^2 = yy_f - 2 b'cross_f + b'gram_f b

A sample's residual has variance sigma2 (1 - leverage), so a training set has sum (1 - leverage) degrees of freedom:
with all samples in it n less the number of covariates.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ebmodel.model import Array
from ebmodel.statistics import Compressed, compress_moments

__all__ = ["Moments", "Totals", "gather"]


class Totals(NamedTuple):
    """Sums of products over a set of samples in each tissue."""

    gram: Array
    """(tissue, snp, snp) sum of x x'."""
    cross: Array
    """(tissue, snp) sum of x y."""
    yy: Array
    """(tissue,) sum of y^2."""
    dof: Array
    """(tissue,) sum of 1 - leverage: degrees of freedom."""

    def compressed(self, XX: Array) -> Compressed:
        """As a fit wants them; ``XX`` (snp, snp) is X'X over all donors, which gives the slab its shape."""
        return compress_moments(XX, *self)


class Moments(NamedTuple):
    """Sums of products by tissue and fold."""

    gram: Array
    """(tissue, fold, snp, snp)."""
    cross: Array
    """(tissue, fold, snp)."""
    yy: Array
    """(tissue, fold)."""
    dof: Array
    """(tissue, fold) sum of 1 - leverage."""
    x: Array
    """(tissue, fold, snp) sum of x."""
    y: Array
    """(tissue, fold) sum of y."""
    samples: NDArray[np.int64]
    """(tissue, fold) how many."""

    @property
    def folds(self) -> int:
        """How many folds there are."""
        return int(self.yy.shape[1])

    def total(self) -> Totals:
        """Over all samples."""
        return Totals(*(part.sum(axis=1) for part in self[:4]))

    def without(self, fold: int) -> Totals:
        """Over the training set that leaves a fold out: the totals down-dated."""
        return Totals(*(part.sum(axis=1) - part[:, fold] for part in self[:4]))

    def of(self, snps: NDArray[np.int64]) -> Moments:
        """Of some of the SNPs, those at the positions ``snps`` (k,)."""
        return self._replace(gram=self.gram[..., snps[:, None], snps], cross=self.cross[..., snps], x=self.x[..., snps])


def gather(
    X: Sequence[Array], Y: Sequence[Array], leverage: Sequence[Array], edges: Sequence[NDArray[np.int64]]
) -> Moments:
    """Sums of products of adjusted genotypes and expression.

    Parameters
    ----------
    X : one (sample, snp) a tissue
        Genotypes of its samples, covariates projected out, sorted by fold.
    Y : one (sample,) a tissue
        Expression, likewise.
    leverage : one (sample,) a tissue
        Of the covariates.
    edges : one (fold + 1,) a tissue
        Where each fold begins, and the end of the last.
    """
    m, F, p = len(X), len(edges[0]) - 1, X[0].shape[1]
    result = Moments(
        np.empty((m, F, p, p)), np.empty((m, F, p)), np.empty((m, F)), np.empty((m, F)),
        np.empty((m, F, p)), np.empty((m, F)), np.empty((m, F), dtype=np.int64),
    )  # fmt: skip
    for t in range(m):
        for f in range(F):
            rows = slice(edges[t][f], edges[t][f + 1])
            x, y = X[t][rows], Y[t][rows]
            result.gram[t, f], result.cross[t, f], result.yy[t, f] = x.T @ x, y @ x, y @ y
            result.dof[t, f] = len(y) - leverage[t][rows].sum()
            result.x[t, f], result.y[t, f], result.samples[t, f] = x.sum(axis=0), y.sum(), len(y)
    return result
