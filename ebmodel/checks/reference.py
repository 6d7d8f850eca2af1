"""What the discrepancies are where the model holds: data drawn from the fit, fitted again, and looked at again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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

__all__ = ["Replicate", "run_batch", "values"]


class Replicate(NamedTuple):
    """The discrepancies of one drawn data set."""

    refitted: dict[str, float]
    """At the parameters fitted to it; empty where it could not be fitted."""
    known: dict[str, float]
    """At the parameters that it was drawn with."""
    losses: tuple[float, float, float, float]
    """Squared errors of effects: refitted, the oracle's, least squares' (inf where n_t < p), zero's."""
    failure: str


def values(view: View, names: Iterable[str] = CHECKS) -> dict[str, Value]:
    """The discrepancies, of those named, that the refitted bootstrap calibrates."""
    asked = {name: CHECKS[name].discrepancy for name in names}
    return {name: discrepancy(view) for name, discrepancy in asked.items() if discrepancy is not None}


def run_batch(
    fit: Fit,
    params: Sequence[Params | None],
    streams: Sequence[np.random.SeedSequence],
    refit: bool,
    groups: Groups,
    names: Sequence[str] = tuple(CHECKS),
) -> list[Replicate]:
    """One replicate for each of the parameters (the fit's own where None), on its design; runs in a worker."""
    frame = frame_of(fit)
    return [
        _replicate(fit, theta, refit, stream, View(fit, frame, groups), names)
        for theta, stream in zip(params, streams, strict=True)
    ]


def _replicate(
    fit: Fit,
    theta: Params | None,
    refit: bool,
    stream: np.random.SeedSequence,
    view: View,
    names: Sequence[str],
) -> Replicate:
    X, C = fit.dataset["X"], fit.dataset.get("covariates")
    drawn = redraw_with_truth(fit, stream, theta)
    theta = theta or fit.params
    known = fitting.oracle(X, drawn["Y"], theta, covariates=C)
    at_known = {name: value.statistic for name, value in values(replace(view, fit=known), names).items()}
    if not refit:
        return Replicate({}, at_known, UNKNOWN, "")
    try:
        again = fitting.fit(X, drawn["Y"], slab=theta.slab, covariates=C, **fit.settings)
    except InputError as error:
        return Replicate({}, at_known, UNKNOWN, str(error))
    refitted = {name: value.statistic for name, value in values(replace(view, fit=again), names).items()}
    truth, seen = drawn["effects"], known.dataset["dof"] > 0
    estimates = again.effects, known.effects, known.ols.fillna(np.inf), 0.0 * truth
    refitted_, oracle, ols, zero = (float(((found - truth) ** 2).where(seen, 0.0).sum()) for found in estimates)
    return Replicate(refitted, at_known, (refitted_, oracle, ols, zero), "")


UNKNOWN = (np.nan,) * 4
