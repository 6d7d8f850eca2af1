"""Which slab and which mean: every candidate fitted to the same data, ranked by evidence.

The evidence takes errors for independent between tissues. Where tissues share samples, and something that acts on all
of them is left in the errors, it mistakes this for effects that tissues share, and prefers a mean where there is none.
So where least-squares residuals of different tissues are correlated by more than chance, candidates whose mean is not
zero are passed over, and the table says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from scipy.special import softmax

from ebmodel.data import Data, tidy
from ebmodel.errors import InputError, expect
from ebmodel.fitting import fit
from ebmodel.labels import CANDIDATE
from ebmodel.mean import MEANS
from ebmodel.model import Slab
from ebmodel.relevance import SPARSE
from ebmodel.residuals import Frame, correlation
from ebmodel.results import Fit
from ebmodel.shape import POWER

__all__ = ["Selection", "select"]

SLABS = ("g", "independent", POWER, SPARSE)
NUMBERS = ("log_evidence", "loglik", "cost", "tau1", "eta", "sigma2", "alpha", "kappa")

SHOWN = 3
"""Candidates that a selection's text has; the others are counted."""


class Selection(NamedTuple):
    """The candidates, best first, and the first of them."""

    table: xr.Dataset
    """By candidate, with ``slab``, ``mean``, ``log_evidence`` and more, as `select` says."""
    fit: Fit
    """That of the first candidate."""

    def __repr__(self) -> str:
        names = ("slab", "mean", "log_evidence", "weight")
        rows = zip(*(self.table[name].to_numpy()[:SHOWN] for name in names), strict=True)
        count = self.table.sizes[CANDIDATE]
        lines = [f"{slab}, mean {mean}: log evidence {evidence:.2f}, weight {weight:.3f}"
                 for slab, mean, evidence, weight in rows]  # fmt: skip
        caution = [self.table.attrs["caution"]] if self.table.attrs["caution"] else []
        more = [f"... {count} candidates in all"] if count > SHOWN else []
        parts = [*lines, *more, *caution, repr(self.fit).replace("\n", "\n  ")]
        return f"<ebmodel.Selection, best first:\n  {'\n  '.join(parts)}>"

    def _repr_html_(self) -> str:
        from ebmodel.reports.cards import of_selection

        return of_selection(self)


def select(
    X: Any,
    Y: Any,
    slabs: Sequence[Slab] = SLABS,
    means: Sequence[str] = tuple(MEANS),
    covariates: Any = None,
    intercept: bool = False,
    **settings: Any,
) -> Selection:
    """Fit every slab with every mean, and choose by evidence; a mean of zero where errors are correlated.

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
        ``fit``, that of the largest ``log_evidence`` among the eligible, and ``table``, a Dataset (candidate) with the
        best first: ``slab`` and ``mean``; ``log_evidence`` (`Fit.log_evidence`) and ``kind``, what it is; ``eligible``;
        ``weight``, its share e^log_evidence of all that are; ``loglik``, the maximised likelihood or bound; ``cost``,
        the difference; ``tau1``, ``eta``, ``sigma2``, ``alpha`` and ``kappa``, nan where there is none; ``status``, or
        why a candidate cannot be fitted. Attributes ``residual_correlation``, the root mean square correlation of two
        tissues' residuals beyond what chance gives (nan where too few degrees of freedom are left), and ``caution``, ''
        or what follows: then a candidate whose mean is not zero is not eligible, if any with a mean of zero is there.

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
    checked = _residuals(tidy(X, Y, covariates, intercept=intercept))
    without = [i for i in fits if rows[i]["mean"] == "zero"]
    for i, row in enumerate(rows):
        row["eligible"] = i in (without if checked["caution"] and without else fits)
    order = sorted(range(len(rows)), key=lambda i: (not rows[i]["eligible"], i not in fits, -rows[i]["log_evidence"]))
    table = xr.Dataset({name: (CANDIDATE, [rows[i][name] for i in order]) for name in rows[0]}, attrs=checked)
    table["weight"] = CANDIDATE, softmax(np.where(table["eligible"], table["log_evidence"], -np.inf))
    return Selection(table, fits[order[0]])


def _residuals(data: Data) -> dict[str, Any]:
    """How far least-squares residuals of tissues that share samples are correlated, beyond chance."""
    frame = Frame(np.hstack([data.C, data.X]), data.observed)
    found = correlation(frame, frame.residuals(data.Y))
    size = found.excess
    caution = (
        f"residuals of different tissues are correlated (root mean square {size:.2f}), which the model takes for "
        "shared effects: candidates whose mean is not zero are passed over"
    )
    return {"residual_correlation": size, "caution": caution if size > MATERIAL and found.z > BEYOND else ""}


MATERIAL, BEYOND = 0.1, 4.0
"""A smaller correlation does little harm; the other is in standard errors, as if pairs of tissues were independent."""


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
