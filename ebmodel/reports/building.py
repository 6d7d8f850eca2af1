"""A report from its parts."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import xarray as xr

from ebmodel.errors import expect
from ebmodel.files import check_writable, writing
from ebmodel.labels import CHECK, QUANTITY
from ebmodel.reports import sections as s
from ebmodel.reports.figures import illustrations
from ebmodel.reports.markup import join, page
from ebmodel.results import Fit

__all__ = ["report"]


def report(
    fit: Fit,
    checks: xr.Dataset | None = None,
    tree: xr.DataTree | None = None,
    comparison: xr.Dataset | None = None,
    path: str | Path = "report.html",
    title: str = "Multi-tissue eQTL fit",
    date: datetime | str | None = None,
    figures: str | Path | None = None,
) -> list[Path]:
    """Write one page of HTML on a fit: estimates, tissues, effects, checks and full posterior, with figures.

    The page holds its images and its style, and loads nothing: it can be sent as one file.

    Parameters
    ----------
    fit
        As from `ebmodel.fit`.
    checks
        As from `ebmodel.check`; where the slab's shape was checked, the profile in alpha is computed and shown.
    tree
        As from `ebmodel.sample`, on the same data.
    comparison
        As from `ebmodel.compare`; computed if there are draws and it is not given.
    path
        Where the page goes.
    title
        Of the page.
    date
        When it was made; now if None. With a date given, the same parts give the same bytes.
    figures
        A folder that also gets every figure as PNG; none if None.

    Returns
    -------
    list of Path
        The files written, the page last.

    Raises
    ------
    InputError
        If a place cannot be written, an argument is not what it should be, or fit and draws are of other data.
    """
    do = "give what ebmodel.{} returned"
    expect(isinstance(fit, Fit), "a fit", type(fit).__name__, "report", do.format("fit"))
    for value, dim, name in ((checks, CHECK, "check"), (comparison, QUANTITY, "compare")):
        known = value is None or (isinstance(value, xr.Dataset) and dim in value.dims)
        expect(known, f"the result of ebmodel.{name}", type(value).__name__, "report", do.format(name))
    check_writable(path)
    if tree is not None and comparison is None:
        from ebmodel.bayes.comparison import compare  # ArviZ takes seconds to import

        comparison = compare(fit, tree)
    drawn = illustrations(fit, checks, tree, comparison)
    parts = [s.in_short(fit, checks, comparison), s.data(fit), s.parameters(fit, drawn), s.tissues(fit, drawn),
             s.effects(fit)]  # fmt: skip
    if comparison is not None:
        parts.append(s.compared(comparison, tree, drawn))
    if checks is not None:
        parts += [s.checked(checks, drawn), s.reading(checks)]
    parts.append(s.provenance(fit, checks, tree, date))
    files = []
    for name, shown in drawn.items() if figures is not None else ():
        files.append(Path(figures or ".") / f"{name}.png")
        with writing(files[-1]) as temporary:
            temporary.write_bytes(shown.png)
    with writing(path) as temporary:
        temporary.write_text(page(title, join(parts)), encoding="utf-8")
    return [*files, Path(path)]
