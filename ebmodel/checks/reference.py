"""What the discrepancies are where the model holds: data drawn from the fit, fitted again, and looked at again."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ebmodel import fitting
from ebmodel.bootstrapping import redraw_with_truth
from ebmodel.checks.catalogue import CHECKS
from ebmodel.checks.value import Value
from ebmodel.checks.view import View, frame_of
from ebmodel.errors import InputError
from ebmodel.model import Params
from ebmodel.results import Fit

type Groups = NDArray[Any] | None

__all__ = ["Procedure", "Replicate", "procedure_of", "run_batch", "values"]


class Procedure(NamedTuple):
    """How the fit was found: what a replicate repeats."""

    mean: str
    errors: str
    n_starts: int


def procedure_of(fit: Fit) -> Procedure:
    """Mean, errors and number of starts of a stored fit; its slab, if chosen by the data, stays as chosen."""
    params, ds = fit.params, fit.dataset
    mean = "free" if params.kappa is None else "hierarchical" if "beta_covariance" in ds else "zero"
    errors = "equal" if getattr(params, "relative_variance", None) is None else "unequal"
    return Procedure(mean, errors, max(ds.sizes["start"], 1))


class Replicate(NamedTuple):
    """The discrepancies of one drawn data set."""

    refitted: dict[str, float]
    """At the parameters fitted to it; empty where it could not be fitted."""
    known: dict[str, float]
    """At the parameters that it was drawn with."""
    losses: tuple[float, float, float, float]
    """Squared errors of effects: refitted, the oracle's, least squares' (inf where n_t < p), zero's."""
    failure: str


def values(view: View) -> dict[str, Value]:
    """Every discrepancy that the refitted bootstrap calibrates."""
    return {name: check.discrepancy(view) for name, check in CHECKS.items() if check.discrepancy is not None}


def run_batch(
    fit: Fit, params: list[Params | None], streams: list[np.random.SeedSequence], refit: bool, groups: Groups
) -> list[Replicate]:
    """One replicate for each of the parameters (the fit's own where None), on its design; runs in a worker."""
    frame, procedure = frame_of(fit), procedure_of(fit)
    return [
        _replicate(fit, theta, procedure if refit else None, stream, View(fit, frame, groups))
        for theta, stream in zip(params, streams, strict=True)
    ]


def _replicate(
    fit: Fit, theta: Params | None, procedure: Procedure | None, stream: np.random.SeedSequence, view: View
) -> Replicate:
    X, C = fit.dataset["X"], fit.dataset.get("covariates")
    drawn = redraw_with_truth(fit, stream, theta)
    theta = theta or fit.params
    known = fitting.oracle(X, drawn["Y"], theta, covariates=C)
    at_known = {name: value.statistic for name, value in values(replace(view, fit=known)).items()}
    if procedure is None:
        return Replicate({}, at_known, UNKNOWN, "")
    settings: dict[str, Any] = {"mean": procedure.mean, "n_starts": procedure.n_starts}
    if procedure.errors != "equal":
        settings["errors"] = procedure.errors
    try:
        again = fitting.fit(X, drawn["Y"], slab=theta.slab, covariates=C, **settings)
    except InputError as error:
        return Replicate({}, at_known, UNKNOWN, str(error))
    refitted = {name: value.statistic for name, value in values(replace(view, fit=again)).items()}
    truth, seen = drawn["effects"], known.dataset["dof"] > 0
    estimates = again.effects, known.effects, known.ols.fillna(np.inf), 0.0 * truth
    refitted_, oracle, ols, zero = (float(((found - truth) ** 2).where(seen, 0.0).sum()) for found in estimates)
    return Replicate(refitted, at_known, (refitted_, oracle, ols, zero), "")


UNKNOWN = (np.nan,) * 4
