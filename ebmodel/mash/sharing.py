"""What conditions have in common, read off posterior means m_jr and local false sign rates of a fit.

    significant:  lfsr_jr < level
    shared:       m_jr / m_js in (factor, 1 / factor): of one sign, and by magnitude within the factor

factor 1/2 is sharing by magnitude as in Urbut, Wang, Carbonetto & Stephens (2019), Figures 5 and 6; factor 0 is sharing
by sign. A posterior mean that is exactly 0 has no sign and is shared with none. With ``conditions`` everything is said
of these alone, as if there were no others: which effects are significant, and where they are strongest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, Protocol

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ebmodel.errors import expect, listed
from ebmodel.labels import CONDITION, CONDITION_OTHER, EFFECT
from ebmodel.model import Array

__all__ = ["Fitted", "condition_specific", "n_significant", "number_shared", "pairwise_sharing", "significant"]

ROWS = 4096
"""Effects taken at a time: a block of them stays in the processor's cache."""


class Fitted(Protocol):
    """Whatever keeps a posterior Dataset as ``dataset``: a fit."""

    @property
    def dataset(self) -> xr.Dataset:
        """``mean`` and ``lfsr``, (effect, condition), among others."""


def significant(
    posterior: xr.Dataset | Fitted, level: float = 0.05, conditions: Sequence[str] | None = None
) -> xr.DataArray:
    """Effects that are significant in at least one condition, the most significant first.

    Parameters
    ----------
    posterior
        A fit, or a Dataset with ``mean`` and ``lfsr``, (effect, condition).
    level
        Local false sign rate below which an effect is significant in a condition.
    conditions
        Which to look at; all if None.

    Returns
    -------
    DataArray (effect)
        Their smallest lfsr, ascending; ``posterior.sel(effect=found.effect)`` selects them.

    Raises
    ------
    InputError
        If ``level`` is not in (0, 1], a posterior is missing, or there is no such condition.
    """
    least = _tables(posterior, level, conditions)["lfsr"].min(CONDITION)
    order = np.argsort(least.to_numpy(), kind="stable")
    return least[order[: int((least < level).sum())]]


def n_significant(
    posterior: xr.Dataset | Fitted,
    level: float = 0.05,
    conditions: Sequence[str] | None = None,
    by: Literal["effect", "condition"] = EFFECT,
) -> xr.DataArray:
    """Count the conditions in which every effect is significant, or the effects that are in every condition.

    Parameters
    ----------
    posterior, level, conditions
        As in `significant`.
    by
        What to count for: ``"effect"`` or ``"condition"``.

    Returns
    -------
    DataArray (effect) or (condition)
        Whole numbers.

    Raises
    ------
    InputError
        As `significant`.
    """
    expect(by in {EFFECT, CONDITION}, "'effect' or 'condition'", repr(by), "by", "say for what to count")
    found = _tables(posterior, level, conditions)["lfsr"] < level
    return found.sum(CONDITION if by == EFFECT else EFFECT).rename("n_significant")


def pairwise_sharing(
    posterior: xr.Dataset | Fitted, factor: float = 0.5, level: float = 0.05, conditions: Sequence[str] | None = None
) -> xr.DataArray:
    """Of effects that are significant in either of two conditions, the share that the two share (Figure 6).

    Parameters
    ----------
    posterior, level, conditions
        As in `significant`.
    factor
        In [0, 1): posterior means of one sign are shared if neither is less than ``factor`` times the other; 0 is
        sharing by sign.

    Returns
    -------
    DataArray (condition, condition_other)
        Symmetric; NaN where no effect is significant in either.

    Raises
    ------
    InputError
        As `significant`, or if ``factor`` is not in [0, 1).
    """
    _check_factor(factor)
    tables = _tables(posterior, level, conditions)
    names = tables[CONDITION].to_numpy()
    R, most = len(names), np.inf if factor == 0.0 else 1.0 / factor
    shared, either = np.zeros((R, R), dtype=int), np.zeros((R, R), dtype=int)
    for m, found in _blocks(tables, level):
        for r in range(R):
            with np.errstate(divide="ignore", invalid="ignore"):
                ratio = m[r] / m[r:]
            of = found[r] | found[r:]
            either[r, r:] += np.count_nonzero(of, axis=1)
            shared[r, r:] += np.count_nonzero(of & (ratio > factor) & (ratio < most), axis=1)
    with np.errstate(invalid="ignore"):
        upper = np.triu(shared / either)
    share = upper + np.triu(upper, 1).T
    dims = (CONDITION, CONDITION_OTHER)
    return xr.DataArray(
        share, {CONDITION: names, CONDITION_OTHER: names}, dims, "sharing", {"factor": factor, "level": level}
    )


def number_shared(
    posterior: xr.Dataset | Fitted, factor: float = 0.5, level: float = 0.05, conditions: Sequence[str] | None = None
) -> xr.DataArray:
    """Number of conditions that share every significant effect where it is strongest (Figure 5).

    Parameters
    ----------
    posterior, level, conditions
        As in `significant`.
    factor
        In [0, 1). A condition shares an effect if its posterior mean is more than ``factor`` times the largest in size,
        with its sign; with 0, if it has its sign.

    Returns
    -------
    DataArray (effect)
        Of effects that are significant in at least one condition, in the order given; 1 or more, for the strongest
        shares with itself. Conditions need not be significant themselves to share.

    Raises
    ------
    InputError
        As `pairwise_sharing`.
    """
    _check_factor(factor)
    tables = _found(_tables(posterior, level, conditions), level)
    m = tables["mean"].to_numpy()
    strongest = np.take_along_axis(m, np.abs(m).argmax(axis=1)[:, None], axis=1)
    with np.errstate(invalid="ignore"):
        count = np.count_nonzero(m / strongest > factor, axis=1)
    return xr.DataArray(count, tables[EFFECT].coords, EFFECT, "number_shared", {"factor": factor, "level": level})


def condition_specific(
    posterior: xr.Dataset | Fitted, factor: float = 0.5, level: float = 0.05, conditions: Sequence[str] | None = None
) -> xr.Dataset:
    """Effects that are large in one condition alone.

    An effect is specific to a condition if it is significant there, and in every other condition its posterior mean is
    at most ``factor`` times as large, whatever its sign. (An effect that is as large the other way elsewhere is shared
    with none in `number_shared`, and yet specific to none here.)

    Parameters
    ----------
    posterior, level, conditions
        As in `significant`.
    factor
        In [0, 1).

    Returns
    -------
    Dataset
        Over the specific effects: ``specific_to``, the condition; ``mean`` and ``lfsr`` in it; ``next_largest``, the
        largest posterior mean elsewhere, as a share of it in size. Over conditions: ``n_specific``, how many are
        specific to each, and ``n_significant``.

    Raises
    ------
    InputError
        As `pairwise_sharing`, or if there is one condition alone.
    """
    _check_factor(factor)
    tables = _tables(posterior, level, conditions)
    names = tables[CONDITION].to_numpy()
    expect(len(names) > 1, "at least two conditions", len(names), CONDITION, "take more")
    tables = _found(tables, level)
    size, lfsr = np.abs(tables["mean"].to_numpy()), tables["lfsr"].to_numpy()
    last = np.sort(size, axis=1)[:, -2:]
    largest, where, rows = last[:, 1], size.argmax(axis=1), np.arange(len(size))
    with np.errstate(invalid="ignore"):
        rest = last[:, 0] / largest
    specific = np.flatnonzero((rest <= factor) & (lfsr[rows, where] < level))
    where = where[specific]
    return xr.Dataset(
        {
            "specific_to": (EFFECT, names[where]),
            "mean": (EFFECT, tables["mean"].to_numpy()[specific, where]),
            "lfsr": (EFFECT, lfsr[specific, where]),
            "next_largest": (EFFECT, rest[specific]),
            "n_specific": (CONDITION, np.bincount(where, minlength=len(names))),
            "n_significant": (CONDITION, np.count_nonzero(lfsr < level, axis=0)),
        },
        {EFFECT: tables[EFFECT].to_numpy()[specific], CONDITION: names},
        {"factor": factor, "level": level},
    )


def _tables(posterior: xr.Dataset | Fitted, level: float, conditions: Sequence[str] | None) -> xr.Dataset:
    """``mean`` and ``lfsr`` of the conditions asked for, (effect, condition)."""
    expect(0.0 < level <= 1.0, "0 < level <= 1", level, "level", "give a local false sign rate such as 0.05")
    dataset = posterior if isinstance(posterior, xr.Dataset) else posterior.dataset
    lacking = [name for name in ("mean", "lfsr") if name not in dataset]
    expect(not lacking, "a posterior's mean and lfsr", f"no {listed(lacking)}", "posterior", "give a fit's dataset")
    tables = dataset[["mean", "lfsr"]].transpose(EFFECT, CONDITION)
    tables = tables.assign_coords({dim: tables[dim] for dim in (EFFECT, CONDITION)})  # numbers where there are no names
    if conditions is not None:
        known = set(map(str, tables[CONDITION].to_numpy()))
        unknown = [name for name in conditions if str(name) not in known]
        expect(not unknown, "conditions of the fit", listed(unknown), "conditions", "see its coordinate condition")
        expect(len(conditions) > 0, "at least one condition", "none", "conditions", "name some, or leave None for all")
        tables = tables.sel({CONDITION: list(conditions)})
    missing = sum(int(tables[name].isnull().sum()) for name in ("mean", "lfsr"))
    expect(missing == 0, "a posterior of every effect", f"{missing} cells without", "posterior", "leave these out")
    return tables


def _check_factor(factor: float) -> None:
    expect(0.0 <= factor < 1.0, "0 <= factor < 1", factor, "factor", "give 0.5, or 0 for sharing by sign")


def _found(tables: xr.Dataset, level: float) -> xr.Dataset:
    """Effects that are significant somewhere, in the order given."""
    return tables.isel({EFFECT: np.flatnonzero((tables["lfsr"] < level).any(CONDITION).to_numpy())})


def _blocks(tables: xr.Dataset, level: float) -> Iterator[tuple[Array, NDArray[np.bool_]]]:
    """Posterior means and what is significant, (condition, effect), by blocks of effects significant somewhere."""
    m, lfsr = tables["mean"].to_numpy(), tables["lfsr"].to_numpy()
    rows = np.flatnonzero((lfsr < level).any(axis=1))
    for start in range(0, len(rows), ROWS):
        block = rows[start : start + ROWS]
        yield np.ascontiguousarray(m[block].T), np.ascontiguousarray(lfsr[block].T < level)
