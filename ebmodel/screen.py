"""Choose a gene's SNPs before a fit: association by tissue, Stouffer's Z over tissues, pruning by R² (Section 7).

For tissue t and SNP j, with the covariates projected out of y_t and x_j over the samples observed in t (``dof`` degrees
of freedom left),

    b = x'y / x'x,      t = b / s.e.(b) = b sqrt(x'x (dof - 1) / rss),      rss = y'y - (x'y)^2 / x'x

is the t statistic of x_j in the regression of y_t on x_j and the covariates. It becomes z with the same tail under
N(0, 1), and Stouffer's Z = sum_t z_t / sqrt(number of tissues).

Tissues share samples, so their z are correlated and the p-values are too small where nothing is associated: they rank
SNPs and no more. SNPs chosen on the data that are then fitted make the fit optimistic.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.special import betainc, betaln, erfc, hyp2f1, ndtri_exp

from ebmodel.data import NEGLIGIBLE, Data, project_out, tidy
from ebmodel.errors import expect
from ebmodel.labels import SNP, TISSUE
from ebmodel.model import Array

__all__ = ["associate", "choose"]


def associate(X: Any, Y: Any, covariates: Any = None, *, intercept: bool = True) -> xr.Dataset:
    """Test every SNP alone in every tissue, and over all tissues by Stouffer's Z.

    Parameters
    ----------
    X : (sample, snp)
        Genotypes.
    Y : (sample, tissue)
        Expression, NaN where missing.
    covariates : (sample, covariate), optional
        Regressed out of both over each tissue's observed samples; text columns become indicators.
    intercept
        Whether a column of ones joins the covariates.

    Returns
    -------
    Dataset
        ``t`` (snp, tissue), t statistics of least squares with the covariates, NaN where a tissue has too few samples
        or a SNP does not vary in them; ``dof`` (tissue), their degrees of freedom; ``z`` (snp), Stouffer's Z over the
        tissues with a t statistic; ``p`` (snp), two-sided.

    Raises
    ------
    InputError
        If the data cannot be used (`ebmodel.data.tidy`).

    Notes
    -----
    Section 7 of the paper combines the Z statistics of MatrixEQTL. They are signed here, so SNPs that act one way in
    all tissues come first.
    """
    return _associate(tidy(X, Y, covariates, intercept=intercept))


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
    data = tidy(X, Y, covariates, intercept=intercept)
    association = _associate(data)
    z = association["z"].to_numpy()
    tested = np.flatnonzero(np.isfinite(z))
    do = "use fewer covariates or more samples"
    expect(len(tested) > 0, "SNPs that vary beside the covariates", "none", "genotypes", do)
    order = tested[np.argsort(-np.abs(z[tested]), kind="stable")]  # |Z| orders as p does, and never underflows
    position = _prune(data.X, order, top, max_r2)
    return association[["z", "p"]].isel({SNP: position}).assign(position=(SNP, position))


def _associate(data: Data) -> xr.Dataset:
    m = len(data.tissues)
    t, dof = np.full((len(data.snps), m), np.nan), np.zeros(m, dtype=np.int64)
    masks, pattern = data.patterns()
    for k, rows in enumerate(masks):  # tissues seen in the same samples share a projection
        members = np.flatnonzero(pattern == k)
        t[:, members], dof[members] = _t_statistics(data.X[rows], data.Y[np.ix_(rows, members)], data.C[rows])
    z = np.sign(t) * _normal_quantile(np.abs(t), np.maximum(dof, 1))
    tissues = np.isfinite(z).sum(axis=1)
    with np.errstate(invalid="ignore"):
        stouffer = np.where(tissues > 0, np.nansum(z, axis=1) / np.sqrt(tissues), np.nan)
    variables = {
        "t": ((SNP, TISSUE), t),
        "dof": (TISSUE, dof),
        "z": (SNP, stouffer),
        "p": (SNP, erfc(np.abs(stouffer) / np.sqrt(2))),
    }
    return xr.Dataset(variables, {SNP: data.snps, TISSUE: data.tissues})


def _t_statistics(X: Array, Y: Array, C: Array) -> tuple[Array, int]:
    """T statistics of each column of X for each column of Y, covariates C beside it, and their degrees of freedom."""
    (x, y), left = project_out(C, X, Y)
    dof = left - 1
    if dof < 1:
        return np.full((X.shape[1], Y.shape[1]), np.nan), 0
    xx, yy, xy = np.sum(x**2, axis=0)[:, None], np.sum(y**2, axis=0), x.T @ y
    varies = (xx > NEGLIGIBLE**2 * np.sum(X**2, axis=0)[:, None]) & (yy > NEGLIGIBLE**2 * np.sum(Y**2, axis=0))
    with np.errstate(divide="ignore", invalid="ignore"):
        rss = np.maximum(yy - xy**2 / xx, np.finfo(float).eps * yy)  # a perfect fit stays finite
        return np.where(varies, xy / np.sqrt(xx * rss / dof), np.nan), dof


def _normal_quantile(t: Array, dof: Array) -> Array:
    """Z >= 0 with P(N(0,1) > z) = P(T_dof > t) for t >= 0, also where that probability underflows."""
    a, x = dof / 2, dof / (dof + t**2)
    with np.errstate(divide="ignore", invalid="ignore"):
        log_tail = np.log(betainc(a, 0.5, x))
        # 15.6.1 and 8.17.8 of the NIST handbook: I_x(a,b) = x^a (1-x)^b F(a+b, 1; a+1; x) / (a B(a,b))
        series = a * np.log(x) + 0.5 * np.log1p(-x) + np.log(hyp2f1(a + 0.5, 1.0, a + 1.0, x) / a) - betaln(a, 0.5)
    z: Array = -ndtri_exp(np.where(log_tail > -600.0, log_tail, series) - np.log(2.0))
    return z


def _prune(X: Array, order: NDArray[np.int64], top: int, max_r2: float) -> NDArray[np.int64]:
    """Take positions in ``order``, leaving out those whose R² with one taken exceeds ``max_r2``; at most ``top``."""
    centred = X - X.mean(axis=0)
    unit = centred / np.maximum(np.linalg.norm(centred, axis=0), 1e-300)
    taken: list[int] = []
    for j in order:
        if not taken or np.max((unit[:, taken].T @ unit[:, j]) ** 2) <= max_r2:
            taken.append(int(j))
        if len(taken) == top:
            break
    return np.array(taken)
