"""The package's reference, made of its docstrings by pdoc: ``python -m ebmodel.reference --out reference``."""

from __future__ import annotations

import argparse
import shutil
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import ForwardRef
from unittest.mock import patch

from ebmodel.errors import InputError, expect
from ebmodel.files import check_writable

__all__ = ["CALLED", "MATHEMATICS", "build", "main"]

CALLED = {
    "ebmodel": "plot simulate bayes checks calibration risk mash eqtl",
    "ebmodel.mash": "simulation",
    "ebmodel.plot": "mash eqtl",
}
"""Pages of the public names, within `ebmodel` and beside its own: what is promised to stay."""
MATHEMATICS = {
    "ebmodel": "model data statistics likelihood posterior em mean variance starts search shape relevance "
    "heteroscedastic estimation selection dense information profiles constrained residuals files",
    "ebmodel.checks": "view value noise prior missing",
    "ebmodel.calibration": "pooled curves discoveries discrimination evidence predictive ranks resampling",
    "ebmodel.risk": "bounds exact",
    "ebmodel.simulate": "oracle sparse",
    "ebmodel.bayes": "priors models marginal covariance",
    "ebmodel.eqtl": "expression variants pruning scan moments penalised crossvalidation discoveries report",
    "ebmodel.mash": "data covariances datadriven deconvolution nullcorrelation prior likelihood weights posterior "
    "sharing contrasts averaging dense",
}
"""Pages of the modules that are read beside the papers; their names may change."""
STYLE = "main.pdoc {width: calc(66rem + var(--sidebar-width))} .pdoc pre {font-size: .8rem}"
"""Formulas are as wide as the source, and their numbers stand on the right."""


def pages(*parts: dict[str, str]) -> list[str]:
    """Give the names of the modules in ``CALLED`` or ``MATHEMATICS``, or both."""
    return [f"{package}.{name}" for part in parts for package, names in part.items() for name in names.split()]


def build(out: str | Path) -> list[Path]:
    """Write the reference: a page for `ebmodel`, and for each module in ``CALLED`` and ``MATHEMATICS``.

    Parameters
    ----------
    out
        The folder; one that holds a reference is replaced.

    Returns
    -------
    list of Path
        The pages, the start page first.

    Raises
    ------
    InputError
        If pdoc is not installed, or the folder cannot be written or holds something else.
    """
    try:
        import jinja2
        import pdoc
        import pdoc.render
    except ImportError as error:
        do = "uv sync --group reference"
        raise InputError("the package pdoc", "no such package", "the reference", do) from error
    out = Path(out)
    _make_room(out)
    modules = ["ebmodel", *pages(CALLED, MATHEMATICS)]
    alone = [spec for name in modules for spec in (name, rf"!{name}\.")]  # pdoc adds what a package holds
    pdoc.render.configure(docformat="numpy")
    first = jinja2.DictLoader({"custom.css": STYLE})
    pdoc.render.env.loader = jinja2.ChoiceLoader([first, *filter(None, [pdoc.render.env.loader])])
    # A named tuple's fields have annotations that pdoc does not evaluate, for want of their module: it warns, and would
    # show ForwardRef('Array') for Array.
    with warnings.catch_warnings(), patch.object(ForwardRef, "__repr__", lambda self: self.__forward_arg__):
        warnings.filterwarnings("ignore", "Error parsing type annotation")
        pdoc.pdoc(*alone, output_directory=out)
    return [out / f"{name.replace('.', '/')}.html" for name in modules]


def _make_room(out: Path) -> None:
    """Remove an earlier reference, and refuse a folder that holds something else or cannot be written."""
    if not out.exists():
        check_writable(out)
    elif not out.is_dir() or any(out.iterdir()):
        ours = all((out / name).is_file() for name in ("index.html", "ebmodel.html", "search.js"))
        expect(ours, "a new folder, or a reference", "something else", str(out), "choose another name")
        shutil.rmtree(out)


def main(args: Sequence[str] | None = None) -> int:
    """Write the reference; exit status 0, or 2 with one line on stderr if it cannot be written."""
    parser = argparse.ArgumentParser(prog="python -m ebmodel.reference", description=main.__doc__)
    parser.add_argument("--out", default="reference", help="the folder (default: %(default)s)")
    try:
        written = build(parser.parse_args(args).out)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{len(written)} pages; start at {written[0]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
