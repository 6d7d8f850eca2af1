"""A fit as a notebook shows it: the parameters, what was found, and the Dataset behind it on demand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ebmodel.labels import CONDITION, EFFECT, SAMPLE, SCALE, SNP, TISSUE
from ebmodel.reports.markup import Markup, folded, join, number, paragraph, table

if TYPE_CHECKING:
    import xarray as xr

    from ebmodel.mash.results import MashFit
    from ebmodel.results import Fit

__all__ = ["of_fit", "of_mash"]

MOST = 10
"""Rows of a table; the others are counted."""


def of_fit(fit: Fit) -> str:
    """A fit of the regression: parameters, and tissues by P(I(t)=1 | Y)."""
    theta, sizes = fit.params, fit.dataset.sizes
    size = f"{sizes[TISSUE]} tissues, {sizes[SNP]} SNPs, {sizes[SAMPLE]} samples; log-likelihood {fit.loglik:.3f}"
    known = {"τ₁ (tau1)": theta.tau1, "η (eta)": theta.eta, "σ² (sigma2)": theta.sigma2, "α (alpha)": theta.alpha,
             "κ (kappa)": theta.kappa}  # fmt: skip
    rows = [(name, number(value)) for name, value in known.items() if value is not None]
    P, K = fit.posterior_probability.to_numpy(), fit.log_bayes_factor.to_numpy()
    order = np.argsort(-P, kind="stable")
    tissues = [(fit.dataset[TISSUE].to_numpy()[t], number(P[t], ".4f"), number(K[t])) for t in order[:MOST]]
    return _card("ebmodel.Fit", size, fit.status,
                 table("Parameters", ("", "value"), rows),
                 table(_shown("Tissues", len(P)), ("tissue", "P(I=1 | Y)", "log K"), tissues),
                 data=fit.dataset)  # fmt: skip


def of_mash(fit: MashFit) -> str:
    """A fit of mash: weights of patterns, and how many effects have a known sign, by condition."""
    ds = fit.dataset
    size = f"{ds.attrs['effects']} effects, {ds.sizes[CONDITION]} conditions; log-likelihood {fit.loglik:.3f}"
    totals = fit.weights.sum(SCALE).to_series().sort_values(ascending=False)
    rows: list[tuple[Any, str]] = [("null", number(fit.null_weight, ".3f"))]
    rows += [(name, number(value, ".3f")) for name, value in totals.items() if value > 0.0]
    parts = [table(_shown("Weights", len(rows)), ("covariance", "weight"), rows[:MOST])]
    if "lfsr" in ds:
        count = (ds["lfsr"] < 0.05).sum(EFFECT).to_series().sort_values(ascending=False)
        found = [(name, int(value)) for name, value in count.items()]
        heading = _shown("Effects with lfsr < 0.05", len(found))
        parts.append(table(heading, ("condition", "effects"), found[:MOST]))
    return _card("ebmodel.mash.MashFit", size, f"{fit.status}; gap {fit.gap:.1e}", *parts, data=ds)


def _card(name: str, size: str, status: str, *tables: Markup, data: xr.Dataset) -> str:
    every = Markup(data._repr_html_())
    return str(join([paragraph(f"{name}: {size}"), paragraph(status), *tables, folded("dataset", every)]))


def _shown(what: str, count: int) -> str:
    return what if count <= MOST else f"{what}, the first {MOST} of {count}"
