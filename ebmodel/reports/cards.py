"""Results as a notebook shows them: the parameters, what was found, and the Dataset behind them on demand.

Colours are the page's own, so that a dark theme stays dark.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ebmodel.labels import CONDITION, EFFECT, SAMPLE, SCALE, SNP, TISSUE
from ebmodel.reports.markup import Markup, folded, join, number, paragraph, table

if TYPE_CHECKING:
    from ebmodel.mash.results import MashFit
    from ebmodel.results import Fit
    from ebmodel.selection import Selection

__all__ = ["of_fit", "of_mash", "of_selection"]

MOST = 10
"""Rows of a table; the others are counted."""
STYLE = """.ebmodel-card table { border-collapse: collapse; margin: .4em 0 .8em; }
.ebmodel-card caption { text-align: left; font-weight: 600; caption-side: top; color: inherit; white-space: nowrap; }
.ebmodel-card th, .ebmodel-card td { padding: .1em .8em .1em 0; text-align: left; }
.ebmodel-card td.number { text-align: right; font-variant-numeric: tabular-nums; }
.ebmodel-card th[scope="row"] { font-weight: normal; }
.ebmodel-card p { margin: .2em 0; }"""


def of_fit(fit: Fit) -> str:
    """A fit of the regression: parameters, and tissues by P(I(t)=1 | Y)."""
    theta, ds = fit.params, fit.dataset
    size = f"{ds.sizes[TISSUE]} tissues, {ds.sizes[SNP]} SNPs, {ds.sizes[SAMPLE]} samples"
    known = {"τ₁ (tau1)": theta.tau1, "η (eta)": theta.eta, "σ² (sigma2)": theta.sigma2, "α (alpha)": theta.alpha,
             "κ (kappa)": theta.kappa}  # fmt: skip
    rows = [(name, number(value)) for name, value in known.items() if value is not None]
    P, K = fit.posterior_probability.to_numpy(), fit.log_bayes_factor.to_numpy()
    columns = {
        "tissue": [str(name) for name in ds[TISSUE].to_numpy()],
        "n": [str(n) for n in ds["n"].to_numpy()],
        "P(I=1 | Y)": [number(p, ".4f") for p in P],
        "log K": [number(k) for k in K],
        "‖effect‖": [number(norm**0.5) for norm in (fit.effects**2).sum(SNP).to_numpy()],
        "min lfsr": [number(rate, ".2g") for rate in fit.lfsr.min(SNP).to_numpy()],
    }
    order = np.argsort(-P, kind="stable")[:MOST]
    tissues = [[column[t] for column in columns.values()] for t in order]
    return _card("ebmodel.Fit", size, f"log-likelihood {fit.loglik:.3f}; {fit.status}",
                 table("Parameters", ("", "value"), rows),
                 table(_shown("Tissues", len(P)), list(columns), tissues),
                 _data(ds))  # fmt: skip


def of_mash(fit: MashFit) -> str:
    """A fit of mash: weights of patterns, and how many effects have a known sign, by condition."""
    ds = fit.dataset
    size = f"{ds.attrs['effects']} effects, {ds.sizes[CONDITION]} conditions"
    totals = fit.weights.sum(SCALE).to_series().sort_values(ascending=False)
    rows: list[tuple[Any, str]] = [("null", number(fit.null_weight, ".3f"))]
    rows += [(name, number(value, ".3f")) for name, value in totals.items() if value > 0.0]
    parts = [table(_shown("Weights", len(rows)), ("covariance", "weight"), rows[:MOST])]
    if "lfsr" in ds:
        count = (ds["lfsr"] < 0.05).sum(EFFECT).to_series().sort_values(ascending=False)
        found = [(name, int(value)) for name, value in count.items()]
        heading = _shown("Effects with lfsr < 0.05", len(found))
        parts.append(table(heading, ("condition", "effects"), found[:MOST]))
    status = f"log-likelihood {fit.loglik:.3f}, gap {fit.gap:.1e}; {fit.status}"
    return _card("ebmodel.mash.MashFit", size, status, *parts, _data(ds))


def of_selection(chosen: Selection) -> str:
    """Candidates by evidence, and the fit of the first."""
    columns = {"slab": "", "mean": "", "log_evidence": ".2f", "weight": ".3f", "alpha": ".2f", "kappa": ".3g",
               "status": ""}  # fmt: skip
    found = chosen.table[list(columns)].to_dataframe()
    rows = [[number(row[name], spec) if spec else row[name] for name, spec in columns.items()]
            for row in found.head(MOST).to_dict("records")]  # fmt: skip
    headings = [name.replace("_", " ") for name in columns]
    candidates = table(_shown("Slabs and means by evidence", len(found)), headings, rows, text=(1, 6))
    return _card("ebmodel.Selection", f"{len(found)} candidates", chosen.table.attrs["caution"], candidates,
                 folded("the fit of the first", Markup(of_fit(chosen.fit))))  # fmt: skip


def _card(name: str, size: str, status: str, *parts: Markup) -> str:
    """What it is, how it went, and tables."""
    inside = join([Markup(f"<style>{STYLE}</style>"), paragraph(f"{name}: {size}"), paragraph(status), *parts])
    return f'<div class="ebmodel-card">\n{inside}\n</div>'


def _data(ds: Any) -> Markup:
    return folded("dataset", Markup(ds._repr_html_()))


def _shown(what: str, count: int) -> str:
    return what if count <= MOST else f"{what}, the first {MOST} of {count}"
