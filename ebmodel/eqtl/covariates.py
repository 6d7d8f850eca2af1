"""Covariates of one tissue's samples: GTEx's ``covariates.txt``, which has a row for each covariate.

Tab-separated, plain or compressed: ``ID SAMPLE...``, then rows such as PC1, InferredCov1, pcr, platform and sex.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from ebmodel.eqtl.text import MISSING, check_file, check_unique, place, read_columns, rows
from ebmodel.errors import expect
from ebmodel.labels import COVARIATE, SAMPLE

__all__ = ["read_covariates"]


def read_covariates(path: str | Path) -> pd.DataFrame:
    """Read covariates, one row each in the file, and turn them round.

    Parameters
    ----------
    path
        Plain, gzip, bgzip or zstd.

    Returns
    -------
    DataFrame (sample, covariate)
        ``attrs["source"]`` is the path, for error messages. A covariate may be constant.

    Raises
    ------
    InputError
        With the file and the line: if the file is missing, empty, cut off or damaged; is no UTF-8 text separated by
        tabs under a header; has a row of other length, a covariate or a sample twice, or a cell that is missing or no
        finite number.
    """
    path = Path(path)
    check_file(path, "covariates")
    _, names = next(rows(path), (1, [""]))
    where = place(path, 1)
    expect(len(names) > 1, "ID and samples", f"{names[0][:40]!r} without a tab", where, "separate columns by tabs")
    numeric = all(_is_number(name) for name in names[1:])
    expect(not numeric, "a header of samples' names", "numbers alone", where, "write the header")
    expect(all(names[1:]), "a name for each sample", "an empty cell", where, "name the sample")
    check_unique(names[1:], "sample", path)
    check_unique(names, "column", path)
    table = read_columns(path, names, dict.fromkeys(names[1:], pa.float64()), skip=1)
    covariates = table.column(0).to_pylist()
    values = np.column_stack([column.to_numpy() for column in table.columns[1:]])  # (covariate, sample)
    for i, name in enumerate(covariates):
        where = place(path, i + 2)
        expect(bool(name), "a covariate's name", "an empty cell", where, "name it or remove the line")
        wrong = np.flatnonzero(~np.isfinite(values[i]))
        if len(wrong):
            sample, value = names[1 + wrong[0]], values[i, wrong[0]]
            got = f"{'none' if np.isnan(value) else value} for covariate {name!r} and sample {sample!r}"
            expect(False, "a finite number", got, where, "complete it, or remove the covariate or the sample")
    check_unique(covariates, "covariate", path)
    index, columns = pd.Index(names[1:], name=SAMPLE), pd.Index(covariates, name=COVARIATE)
    frame = pd.DataFrame(values.T, index, columns)
    frame.attrs["source"] = str(path)
    return frame


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return cell in MISSING
    return True
