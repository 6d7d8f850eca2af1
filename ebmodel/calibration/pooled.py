"""Claims and truths of the tissues of many data sets, side by side: what every measure of calibration starts from.

The tissues of one data set share its fitted parameters and so their errors. What is estimated from many data sets gets
its standard error from how the data sets differ, not from how the tissues do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ebmodel.errors import expect
from ebmodel.labels import TISSUE
from ebmodel.model import Array
from ebmodel.results import Fit

__all__ = ["Pooled", "claimed", "pool", "probabilities"]

LEAST = 2
"""Data sets from which a standard error can be had."""


class Pooled(NamedTuple):
    """Tissues of all data sets, one after the other."""

    claim: Array
    """(observation,) what is said of a tissue: P(I(t)=1 | Y), or log K_t."""
    active: NDArray[np.bool_]
    """(observation,) I(t)."""
    replicate: NDArray[np.int64]
    """(observation,) which data set a tissue is of: 0, 1, ..."""

    @property
    def replicates(self) -> int:
        """How many data sets."""
        return int(self.replicate[-1]) + 1

    def sums(self, values: Array) -> Array:
        """Sum of values (observation, ...) over the tissues of each data set, (replicate, ...)."""
        total = np.zeros((self.replicates, *values.shape[1:]))
        np.add.at(total, self.replicate, values)
        return total


def pool(source: Any, active: Any, claim: Callable[[Fit], xr.DataArray], what: str) -> Pooled:
    """Claims beside truths.

    Parameters
    ----------
    source
        A fit, of which ``claim`` is taken, or the claims (tissue,) themselves; or many of either, a list or the rows
        of a matrix: one for each data set.
    active
        The truth of each: a simulated Dataset, which has ``active``, or I(t) (tissue,).
    claim
        What is taken of a fit, such as its ``posterior_probability``.
    what
        The claims, in errors.

    Raises
    ------
    InputError
        If there are no tissues, not as many truths as claims, or a value is missing or no truth.
    """
    many = is_many(source)
    sources, truths = (list(source), list(active)) if many else ([source], [active])
    got = f"{len(truths)} for {len(sources)}"
    expect(len(sources) == len(truths), "as many truths as data sets", got, "active", "give one for each")
    pairs = [_match(claimed(one, claim, what), truth, what) for one, truth in zip(sources, truths, strict=True)]
    expect(sum(len(values) for values, _ in pairs) > 0, "at least one tissue", "none", what, "give data")
    replicate = np.repeat(np.arange(len(pairs)), [len(values) for values, _ in pairs])
    claims, actives = zip(*pairs, strict=True)
    return Pooled(np.concatenate(claims), np.concatenate(actives), replicate)


def probabilities(source: Any, active: Any) -> Pooled:
    """P(I(t)=1 | Y) beside I(t), from ``source`` and ``active`` as in `pool`.

    Raises
    ------
    InputError
        As `pool`; or if a probability is outside [0, 1].
    """
    pooled = pool(source, active, lambda fit: fit.posterior_probability, "probability")
    in_range(pooled.claim)
    return pooled


def in_range(probability: Array) -> None:
    """Refuse what is no probability."""
    out = probability[(probability < 0.0) | (probability > 1.0)]
    expect(not out.size, "probabilities in [0, 1]", out[:1], "probability", "give P(I(t)=1 | Y)")


def is_many(source: Any) -> bool:
    """Whether a source is of several data sets."""
    if isinstance(source, Fit):
        return False
    if isinstance(source, list | tuple):
        return len(source) > 0 and (isinstance(source[0], Fit) or np.ndim(source[0]) > 0)
    return np.ndim(source) == 2


def claimed(source: Any, claim: Callable[[Fit], xr.DataArray], what: str) -> xr.DataArray:
    """The claims of one data set, (tissue), with names where there are any.

    ``source`` is a fit, of which ``claim`` is taken, or the claims themselves.

    Raises
    ------
    InputError
        If they are not one number a tissue.
    """
    values = claim(source) if isinstance(source, Fit) else source
    values = values if isinstance(values, xr.DataArray) else xr.DataArray(np.asarray(values, dtype=float), dims=None)
    expect(
        values.ndim == 1, "one number a tissue", f"{values.ndim} dimensions", what, "give a vector, or a list of them"
    )
    expect(not np.isnan(values).any(), "a number for every tissue", "nan", what, "leave such tissues out")
    return values


def _match(values: xr.DataArray, truth: Any, what: str) -> tuple[Array, NDArray[np.bool_]]:
    """Claims and truths of one data set, by the tissues' names where both have them."""
    truth = truth["active"] if isinstance(truth, xr.Dataset) else truth
    if isinstance(truth, xr.DataArray) and TISSUE in truth.coords and TISSUE in values.coords:
        lacking = set(values[TISSUE].to_numpy().tolist()) ^ set(truth[TISSUE].to_numpy().tolist())
        expect(not lacking, "the same tissues", f"{len(lacking)} that differ", f"{what} and active", "match them")
        truth = truth.sel({TISSUE: values[TISSUE]})
    found = np.asarray(truth)
    got = f"{found.shape} for {values.shape}"
    expect(found.shape == values.shape, "a truth for every tissue", got, "active", "give I(t) of the same tissues")
    known = found.dtype == bool or bool(np.isin(found, (0, 1)).all())
    expect(known, "0 or 1, or False or True", "something else", "active", "give I(t)")
    return values.to_numpy().astype(float), found.astype(bool)
