"""Which slab and which mean: every candidate fitted to the same data, ranked by evidence."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from scipy.special import softmax

from ebmodel.errors import InputError, expect
from ebmodel.fitting import fit
from ebmodel.labels import CANDIDATE
from ebmodel.mean import MEANS
from ebmodel.model import Slab
from ebmodel.relevance import SPARSE
from ebmodel.results import Fit
from ebmodel.shape import POWER

__all__ = ["Selection", "select"]

SLABS = ("g", "independent", POWER, SPARSE)
NUMBERS = ("log_evidence", "loglik", "cost", "tau1", "eta", "sigma2", "alpha", "kappa")


class Selection(NamedTuple):
    """The candidates by evidence, and the first of them."""

    table: xr.Dataset
    fit: Fit


def select(
    X: Any,
    Y: Any,
    slabs: Sequence[Slab] = SLABS,
    means: Sequence[str] = tuple(MEANS),
    covariates: Any = None,
    intercept: bool = False,
    **settings: Any,
) -> Selection:
    """Fit every slab with every mean, and choose by evidence.

    Parameters
    ----------
    X, Y, covariates, intercept
        As in `ebmodel.fit`.
    slabs, means
        The candidates are their combinations; any that `ebmodel.fit` takes.
    **settings
        Passed on to `ebmodel.fit`: ``n_starts``, ``seed``, ``tol``, ``max_iter``.

    Returns
    -------
    Selection
        ``fit``, that of the largest ``log_evidence``, and ``table``, a Dataset (candidate) with the best first:
        ``slab`` and ``mean``; ``log_evidence`` (`Fit.log_evidence`) and ``kind``, what it is; ``weight``, its share
        e^log_evidence of all; ``loglik``, the maximised likelihood or bound; ``cost``, the difference; ``tau1``,
        ``eta``, ``sigma2``, ``alpha`` and ``kappa``, nan where there is none; ``status``, of a candidate that cannot be
        fitted the reason.

    Raises
    ------
    InputError
        If there are no candidates, or none can be fitted.

    Examples
    --------
    >>> import ebmodel
    >>> gene = ebmodel.simulate.setting(1, rho=0.6, signal=1, seed=1)
    >>> chosen = ebmodel.select(gene.X, gene.Y, slabs=("g", "power"), means=("free", "hierarchical"))
    >>> chosen.table[["slab", "mean"]].isel(candidate=0).to_array().values.tolist()
    ['power', 'hierarchical']
    >>> chosen.table["log_evidence"].round(-1).values
    array([-9450., -9490., -9960., -9970.])
    """
    pairs = list(product(slabs, means))
    expect(bool(pairs), "at least one slab and one mean", "none", "select", "leave the defaults")
    fits: dict[int, Fit] = {}
    rows: list[dict[str, Any]] = []
    for i, (slab, mean) in enumerate(pairs):
        row: dict[str, Any] = dict.fromkeys(NUMBERS, np.nan)
        row |= {"slab": slab if isinstance(slab, str) else _word(slab), "mean": mean, "kind": "none"}
        try:
            fits[i] = found = fit(X, Y, slab, mean, covariates, intercept, **settings)
            row |= _facts(found)
        except InputError as error:
            row["status"] = str(error)
        rows.append(row)
    if not fits:
        raise InputError("a candidate that can be fitted", f"({rows[0]['status']})", "select", "see the first's reason")
    order = sorted(range(len(rows)), key=lambda i: -rows[i]["log_evidence"] if i in fits else np.inf)
    table = xr.Dataset({name: (CANDIDATE, [rows[i][name] for i in order]) for name in rows[0]})
    share = softmax(np.nan_to_num(table["log_evidence"].to_numpy(), nan=-np.inf))
    table["weight"] = CANDIDATE, share
    return Selection(table, fits[order[0]])


def _word(slab: Any) -> str:
    return "matrix" if np.ndim(slab) == 2 else f"{slab:g}"


def _facts(found: Fit) -> dict[str, Any]:
    theta = found.params
    return {
        "log_evidence": found.log_evidence,
        "kind": found.dataset.attrs["evidence"],
        "loglik": found.loglik,
        "cost": found.loglik - found.log_evidence,
        "tau1": theta.tau1,
        "eta": theta.eta,
        "sigma2": theta.sigma2,
        "alpha": theta.alpha,
        "kappa": np.nan if theta.kappa is None else theta.kappa,
        "status": found.status,
    }
