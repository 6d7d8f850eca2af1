"""Genotypes, expression and covariates: validated and named once, here.

`tidy` is the only door: NumPy, pandas or xarray in, `Data` out. Samples are joined by name where both tables have them.
A missing response is NaN in ``Y``; everything else must be complete.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from ebmodel.errors import InputError, expect, listed
from ebmodel.labels import COVARIATE, SAMPLE, SNP, TISSUE
from ebmodel.model import Array

__all__ = [
    "INTERCEPT",
    "NEGLIGIBLE",
    "Data",
    "basis",
    "design_like",
    "genotypes_like",
    "project_out",
    "standardise",
    "tidy",
]

INTERCEPT = "intercept"
"""Name of the column of ones among the covariates."""
NEGLIGIBLE = 1e-10
"""Relative size below which what a projection leaves is rounding error."""


@dataclass(frozen=True, eq=False)
class Data:
    """One gene's data, validated: plain arrays and the names of their rows and columns."""

    X: Array
    """(sample, snp) genotypes, finite."""
    Y: Array
    """(sample, tissue) expression, NaN where missing."""
    C: Array
    """(sample, covariate) covariates, the intercept among them; no columns where there are none."""
    samples: NDArray[Any]
    """(sample,) their names, as those of the others."""
    snps: NDArray[Any]
    """(snp,)."""
    tissues: NDArray[Any]
    """(tissue,)."""
    covariates: NDArray[Any]
    """(covariate,); a text column has one name for every level that it became."""
    where: tuple[str, str] = ("genotypes", "expression")
    """What X and Y are called in error messages: their files, if they came from files."""

    @property
    def observed(self) -> NDArray[np.bool_]:
        """(sample, tissue) the diagonals of the paper's W(t)."""
        return ~np.isnan(self.Y)

    def patterns(self) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
        """Distinct sets of observed samples (pattern, sample), and which one each tissue has (tissue,)."""
        masks, pattern = np.unique(self.observed.T, axis=0, return_inverse=True)
        return masks, pattern.astype(np.int64)


@dataclass(frozen=True)
class _Table:
    """A labelled matrix on its way into `Data`; names are None where the user gave none."""

    values: Any
    rows: NDArray[Any] | None
    columns: NDArray[Any] | None
    where: str
    row_word: str
    column_word: str

    def cell(self, i: int, j: int) -> str:
        row = i if self.rows is None else self.rows[i]
        return f"{self.where}, {self.row_word} {str(row)!r}, {self.column_word} {str(self.name(j))!r}"

    def name(self, j: int) -> Hashable:
        return j if self.columns is None else str(self.columns[j])


def tidy(X: Any, Y: Any, covariates: Any = None, *, intercept: bool = False) -> Data:
    """Validate and align genotypes, expression and covariates.

    Parameters
    ----------
    X : (sample, snp)
        Genotypes; NumPy, DataFrame or DataArray. No missing values.
    Y : (sample, tissue)
        Expression of one gene; NaN where a tissue was not measured.
    covariates : (sample, covariate), optional
        Numbers, or text columns, which become indicators of their levels.
    intercept
        Whether a column of ones joins the covariates.

    Returns
    -------
    Data
        With the samples of ``Y``, in its order. Genotyped samples without a row in ``Y`` are left out. A sample with a
        row of nothing but NaN stays, and counts in X'X (the paper's n is all donors), unless a covariate of it is
        missing too.

    Raises
    ------
    InputError
        If anything cannot be used: the message names the table, the place and the remedy.
    """
    y = _table(Y, (SAMPLE, TISSUE), "expression")
    x = _table(X, (SAMPLE, SNP), "genotypes")
    x_values = _numbers(x)[_positions(x, y)]
    y_values = _numbers(y)
    c_values, c_names = _design(covariates, y, intercept=intercept)
    samples = y.rows if y.rows is not None else x.rows if x.rows is not None else np.arange(len(y_values))
    usable = _check_covariates(c_values, c_names, y_values, samples)
    _check_genotypes(x_values, x, intercept=intercept)
    _check_expression(y_values, y)
    return Data(
        X=x_values[usable],
        Y=y_values[usable],
        C=c_values[usable],
        samples=samples[usable],
        snps=_names(x),
        tissues=_names(y),
        covariates=c_names,
        where=(x.where, y.where),
    )


def standardise(Y: Any, covariates: Any = None, *, intercept: bool = True) -> xr.DataArray:
    """Scale every tissue to residual variance one, so that one error variance for all tissues can hold (equation 1).

    Parameters
    ----------
    Y : (sample, tissue)
        Expression, NaN where missing.
    covariates : (sample, covariate), optional
        Projected out before the variance is taken.
    intercept
        Whether the mean is projected out too.

    Returns
    -------
    DataArray (sample, tissue)
        Y divided by each tissue's residual standard deviation; the scales are its coordinate ``scale``.

    Raises
    ------
    InputError
        If a tissue has data but no variation left.
    """
    y = _table(Y, (SAMPLE, TISSUE), "expression")
    values, (design, c_names) = _numbers(y), _design(covariates, y, intercept=intercept)
    samples = y.rows if y.rows is not None else np.arange(len(values))
    _check_covariates(design, c_names, values, samples)
    _check_expression(values, y)
    scale = np.ones(values.shape[1])
    for t, observed in enumerate(~np.isnan(values.T)):
        (residual,), dof = project_out(design[observed], values[observed, t])
        if dof > 0:
            scale[t] = np.sqrt(residual @ residual / dof)
            varies = bool(scale[t] > NEGLIGIBLE * np.abs(values[observed, t]).max())
            where = f"{y.where}, tissue {str(y.name(t))!r}"
            expect(varies, "values that vary", "a constant", where, "leave the tissue out")
    coords = {SAMPLE: samples, TISSUE: _names(y), "scale": (TISSUE, scale)}
    attrs = getattr(Y, "attrs", {})  # the file's name, for later error messages
    return xr.DataArray(values / scale, dims=(SAMPLE, TISSUE), coords=coords, attrs=attrs)


def project_out(C: Array, *arrays: Array) -> tuple[list[Array], int]:
    """Residuals of arrays (n, ...) on the columns of C (n, k), and the degrees of freedom left, n - rank C.

    Missing responses are handled by calling this with a tissue's observed rows: the model then holds for the n - rank C
    contrasts that the covariates leave (restricted likelihood).
    """
    Z = basis(C)
    return [a - Z @ (Z.T @ a) for a in arrays] if Z.size else list(arrays), len(Z) - Z.shape[1]


def basis(C: Array) -> Array:
    """Orthonormal columns (n, rank C) that span those of C (n, k), whatever the scale of each."""
    if min(C.shape) == 0:
        return np.empty((len(C), 0))
    U, s, _ = np.linalg.svd(C / np.maximum(np.linalg.norm(C, axis=0), 1e-300), full_matrices=False)
    return np.asarray(U[:, s > s.max(initial=0.0) * max(C.shape) * np.finfo(float).eps])


def _table(obj: Any, dims: tuple[str, str], word: str) -> _Table:
    """Take values and names from NumPy, pandas or xarray; ``obj.attrs["source"]`` (a file) joins the error messages."""
    source = getattr(obj, "attrs", {}).get("source")
    where = f"{word} {source}" if source else word
    rows = columns = None
    if isinstance(obj, xr.DataArray):
        if obj.ndim == 1:
            obj = obj.expand_dims(dims[1], axis=1)
        obj = obj.transpose(*dims) if set(dims) == set(obj.dims) else obj
        rows, columns = (obj.indexes[d].to_numpy() if d in obj.indexes else None for d in (*obj.dims, *dims)[:2])
        values: Any = obj.to_numpy()
    elif isinstance(obj, pd.Series | pd.DataFrame):
        frame = obj.to_frame() if isinstance(obj, pd.Series) else obj
        rows, columns = (None if isinstance(i, pd.RangeIndex) else i.to_numpy() for i in (frame.index, frame.columns))
        values = frame
    else:
        values = np.asarray(obj)
    if not isinstance(values, pd.DataFrame):
        values = values[:, None] if np.ndim(values) == 1 else values
        expect(np.ndim(values) == 2, f"a matrix {dims}", f"{np.ndim(values)} dimensions", where, "reshape it")
    expect(min(values.shape) > 0, f"at least one {dims[0]} and one {dims[1]}", values.shape, where, "give data")
    for names, what in ((rows, dims[0]), (columns, dims[1])):
        if names is not None:
            twice = pd.Index(names)[pd.Index(names).duplicated()].unique()
            expect(len(twice) == 0, f"each {what} once", f"{listed(twice)} more than once", where, "make names unique")
    return _Table(values, rows, columns, where, *dims)


def _numbers(table: _Table) -> Array:
    """Values as finite floats, NaN where missing; a cell that is no number is named."""
    frame = table.values if isinstance(table.values, pd.DataFrame) else pd.DataFrame(table.values)
    numeric = all(isinstance(kind, np.dtype) and kind.kind in "biuf" for kind in frame.dtypes)
    values = np.array(table.values, dtype=float) if numeric else np.empty(frame.shape)
    for j in range(0 if numeric else frame.shape[1]):
        column = frame.iloc[:, j]
        parsed = pd.to_numeric(column, errors="coerce").to_numpy(dtype=float, na_value=np.nan)
        text = np.flatnonzero(np.isnan(parsed) & column.notna().to_numpy())
        if len(text):
            got = repr(str(column.iloc[text[0]]))
            raise InputError("a number", got, table.cell(int(text[0]), j), "correct it, or leave it empty if missing")
        values[:, j] = parsed
    infinite = np.argwhere(np.isinf(values))
    if len(infinite):
        i, j = infinite[0]
        raise InputError("a finite number", str(values[i, j]), table.cell(i, j), "correct it")
    return values


def _positions(table: _Table, y: _Table) -> NDArray[np.int64]:
    """Rows of ``table`` that hold the samples of ``y``, in its order; by name where both have names."""
    n, n_y = len(table.values), len(y.values)
    if table.rows is None or y.rows is None:
        do = "give as many rows in the same order, or name the samples in both"
        expect(n == n_y, f"{n_y} samples, as in {y.where}", n, table.where, do)
        return np.arange(n)
    found: NDArray[np.int64] = pd.Index(table.rows).get_indexer(pd.Index(y.rows))
    if (found < 0).all():
        got = f"none of {listed(y.rows, 2)}"
        raise InputError(f"samples in common with {y.where}", got, table.where, "check that both use the same names")
    unknown = y.rows[found < 0]
    do = f"add them, or leave them out of {y.where}"
    expect(len(unknown) == 0, f"every sample of {y.where}", f"no sample {listed(unknown)}", table.where, do)
    return found


def _names(table: _Table) -> NDArray[Any]:
    if table.columns is not None:
        return table.columns.astype(str)
    return np.array([f"{table.column_word}{j}" for j in range(table.values.shape[1])])


def _design(covariates: Any, y: _Table, *, intercept: bool) -> tuple[Array, NDArray[Any]]:
    """(sample, covariate) numbers in y's order, NaN where missing, and names.

    A text column becomes one indicator for each of its levels; `project_out` counts the rank, not the columns.
    """
    columns: dict[str, Array] = {INTERCEPT: np.ones(len(y.values))} if intercept else {}
    if covariates is not None:
        table = _table(covariates, (SAMPLE, COVARIATE), "covariates")
        rows = _positions(table, y)
        for name, column in _columns(table):
            if _is_numeric(column):
                columns[name] = _numbers(_column_table(table, name, column))[rows, 0]
            else:
                for level in sorted(column.dropna().astype(str).unique()):
                    columns[f"{name}={level}"] = _indicator(column, level)[rows]
    values = np.column_stack(list(columns.values())) if columns else np.empty((len(y.values), 0))
    return values, np.array(list(columns), dtype=str)


def design_like(names: NDArray[Any], covariates: Any, X_new: Any) -> Array:
    """Covariates of new samples in the columns ``names`` of an earlier `Data`, shape (sample, covariate).

    Samples are matched to those of ``X_new`` by name where both have names.

    Raises
    ------
    InputError
        If a covariate or a value of it is missing, or a text covariate has a level that the names do not know.
    """
    x = _table(X_new, (SAMPLE, SNP), "genotypes")
    values = np.ones((len(x.values), len(names)))
    wanted = [str(name) for name in names]
    if covariates is None:
        lacking = [name for name in wanted if name != INTERCEPT]
        expect(not lacking, f"the fit's covariates {listed(lacking)}", "none", "predict", "give covariates=")
        return values
    table = _table(covariates, (SAMPLE, COVARIATE), "covariates")
    rows, given = _positions(table, x), dict(_columns(table))
    for j, name in enumerate(wanted):
        text = next((c for c in given if name.startswith(f"{c}=") and name not in given), None)
        if text is not None:
            _check_levels(given[text].iloc[rows], text, wanted, table.where)
            values[:, j] = _indicator(given[text], name.removeprefix(f"{text}="))[rows]
        elif name in given:
            values[:, j] = _numbers(_column_table(table, name, given[name]))[rows, 0]
        elif name != INTERCEPT:
            raise InputError(f"the fit's covariate {name!r}", "none of that name", table.where, "give it")
        expect(
            not np.isnan(values[:, j]).any(), "a value for every sample", f"none in {name!r}", table.where, "fill it in"
        )
    return values


def _check_levels(column: pd.Series[Any], name: str, wanted: list[str], where: str) -> None:
    strange = [str(v) for v in column.dropna().unique() if f"{name}={v}" not in wanted]
    do = "leave these samples out"
    expect(not strange, "levels that the fit has seen", listed(strange), f"{where}, covariate {name!r}", do)


def genotypes_like(snps: NDArray[Any], X: Any) -> tuple[Array, NDArray[Any]]:
    """Genotypes (sample, snp) in the order of ``snps``, by name where X has names, and the samples' names.

    Raises
    ------
    InputError
        If a SNP is missing or a genotype is.
    """
    x = _table(X, (SAMPLE, SNP), "genotypes")
    values, order = _numbers(x), np.arange(len(snps))
    if x.columns is None:
        expect(values.shape[1] == len(snps), f"{len(snps)} SNPs", values.shape[1], x.where, "give the fit's SNPs")
    else:
        order = pd.Index(x.columns.astype(str)).get_indexer(pd.Index(snps.astype(str)))
        lacking = snps[order < 0]
        expect(len(lacking) == 0, "the fit's SNPs", f"no {listed(lacking)}", x.where, "give every SNP of the fit")
    _check_complete(values, x)
    return values[:, order], x.rows if x.rows is not None else np.arange(len(values))


def _columns(table: _Table) -> list[tuple[str, pd.Series[Any]]]:
    frame = table.values if isinstance(table.values, pd.DataFrame) else pd.DataFrame(table.values)
    return [(str(name), frame.iloc[:, j]) for j, name in enumerate(_names(table))]


def _column_table(table: _Table, name: str, column: pd.Series[Any]) -> _Table:
    return _Table(column.to_frame(), table.rows, np.array([name]), table.where, SAMPLE, COVARIATE)


def _is_numeric(column: pd.Series[Any]) -> bool:
    """Whether a covariate is numbers; text that is mostly numbers is numbers with a slip, which `_numbers` names."""
    if pd.api.types.is_numeric_dtype(column):
        return True
    given = column.dropna().astype(str)
    return given.empty or bool(pd.to_numeric(given, errors="coerce").notna().mean() > 0.5)


def _indicator(column: pd.Series[Any], level: str) -> Array:
    return np.where(column.isna(), np.nan, (column.astype(str) == level).to_numpy(dtype=float))


def _check_covariates(C: Array, names: NDArray[Any], Y: Array, samples: NDArray[Any]) -> NDArray[np.bool_]:
    """Mark samples to keep: a missing covariate is refused where there is a response to adjust, else left out."""
    missing, responds = np.isnan(C), ~np.isnan(Y).all(axis=1)
    unusable = np.argwhere(missing & responds[:, None])
    if len(unusable):
        i, j = unusable[0]
        got = f"none for sample {str(samples[i])!r} ({len(np.unique(unusable[:, 0]))} samples in all)"
        where = f"covariate {str(names[j])!r}"
        raise InputError("a value for every sample with expression", got, where, "fill it in or leave the samples out")
    kept: NDArray[np.bool_] = ~missing.any(axis=1)
    return kept


def _check_complete(X: Array, table: _Table) -> None:
    missing = np.isnan(X)
    if missing.any():
        j = int(missing.any(axis=0).argmax())
        got = f"{missing[:, j].sum()} missing for SNP {str(table.name(j))!r} ({missing.any(axis=0).sum()} such SNPs)"
        raise InputError("a genotype for every sample", got, table.where, "impute them, e.g. by the SNP's mean")


def _check_genotypes(X: Array, table: _Table, *, intercept: bool) -> None:
    _check_complete(X, table)
    still = np.ptp(X, axis=0) == 0 if intercept else (X == 0).all(axis=0)
    if still.any():
        names = [table.name(int(j)) for j in np.flatnonzero(still)]
        got = f"{X[0, still.argmax()]:g} in all of them for SNP {listed(names)}"
        raise InputError("SNPs that vary between samples", got, table.where, "leave the SNP out")


def _check_expression(Y: Array, table: _Table) -> None:
    observed = int((~np.isnan(Y)).sum())
    expect(observed > 0, "at least one value", "none: all are missing", table.where, "give expression values")
