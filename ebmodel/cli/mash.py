"""``ebmodel mash``: effects in many conditions from summary statistics; fit a prior, apply it, report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ebmodel.cli import options as o
from ebmodel.cli.commands import Command, Group
from ebmodel.cli.inputs import read_names, split_names
from ebmodel.cli.output import Output, check_file, check_folder, folder
from ebmodel.errors import expect, listed

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from ebmodel.mash.report import Findings
    from ebmodel.mash.results import MashFit

app = typer.Typer(
    cls=Group,
    no_args_is_help=True,
    rich_markup_mode=None,
    short_help="Fit effects in many conditions from summary statistics.",
    help="""
    mash: effects in many conditions, from estimates and standard errors (Urbut et al. 2019).

        ebmodel mash fit --bhat bhat.csv --shat shat.csv --out fit.nc
        ebmodel mash report fit.nc --out results
    """,
)

_TABLE = "csv, tsv (also .gz) or parquet, the first column naming effects"
Bhat = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help=f"Effects x conditions: estimates; {_TABLE}; empty or NA if missing.",
        rich_help_panel=o.DATA,
    ),
]
Shat = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Their standard errors, in the same layout.", rich_help_panel=o.DATA),
]
Z = Annotated[
    Path | None, typer.Option("--z", metavar="FILE", help="z-scores, instead of both.", rich_help_panel=o.DATA)
]
Tiny = Annotated[
    str,
    typer.Option(
        metavar="WHAT",
        help="Standard errors of zero or nearly so: refuse, or take the cells for missing.",
        rich_help_panel=o.DATA,
        autocompletion=o.words(o.TINY),
    ),
]
Fitted = Annotated[Path, typer.Argument(metavar="FIT", help="What ebmodel mash fit wrote.")]


@app.command(cls=Command)
def fit(
    out: o.Out,
    bhat: Bhat = None,
    shat: Shat = None,
    z: Z = None,
    v: Annotated[
        str,
        typer.Option(
            "--v",
            metavar="KIND|FILE",
            help="Correlation of errors: identity, estimate (from what looks null), em (slower, better), or a file.",
            rich_help_panel=o.DATA,
            autocompletion=o.words(o.KINDS_OF_V),
        ),
    ] = "identity",
    tiny: Tiny = "refuse",
    contrast: Annotated[
        str | None,
        typer.Option(
            metavar="REFERENCE",
            help="Model differences from this condition, or from the 'mean' of all.",
            rich_help_panel=o.MODEL,
            autocompletion=o.words({"mean": "of all conditions"}),
        ),
    ] = None,
    alpha: Annotated[
        float | None,
        typer.Option(
            metavar="A",
            help="Effects are modelled as b/s^A: 0 (EE, the default of estimates) or 1 (EZ, that of z-scores).",
            rich_help_panel=o.MODEL,
        ),
    ] = None,
    covariances: Annotated[
        str | None,
        typer.Option(
            metavar="KINDS",
            help="Some of canonical, data-driven and full-rank, separated by commas; canonical,full-rank if not given.",
            rich_help_panel=o.MODEL,
            autocompletion=o.several(o.COVARIANCES),
        ),
    ] = None,
    covariance: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=FILE",
            help="A covariance of your own, or a factor of it; may be repeated.",
            rich_help_panel=o.MODEL,
        ),
    ] = None,
    strong: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Names of strong effects, one a line, to learn covariances from.",
            rich_help_panel=o.MODEL,
        ),
    ] = None,
    components: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=1,
            help="Principal components of strong effects to start from.",
            rich_help_panel=o.MODEL,
        ),
    ] = 5,
    null_weight: Annotated[
        float,
        typer.Option(
            metavar="A",
            help="Prior weight of no effect; 1 is plain maximum likelihood.",
            rich_help_panel=o.MODEL,
        ),
    ] = 10.0,
    point_mass: Annotated[
        bool, typer.Option(help="Whether effects may be exactly zero everywhere.", rich_help_panel=o.MODEL)
    ] = True,
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Write tables and figures too, as ebmodel mash report.",
            rich_help_panel=o.OUTPUT,
        ),
    ] = None,
    quiet: o.Quiet = False,
    as_json: o.AsJson = False,
) -> None:
    r"""Fit the prior of effects across conditions, and their posterior.

    From a table of estimates and one of their standard errors, or from z-scores alone. Everything goes to one file,
    which ebmodel mash apply and report, and ebmodel.mash.open_fit, read.

        ebmodel mash fit --bhat bhat.csv --shat shat.csv --v estimate \
            --out fit.nc --report results
        ebmodel mash fit --z z.csv --out fit.nc
    """
    from ebmodel import mash
    from ebmodel.files import write_dataset
    from ebmodel.mash.report import write_report

    check_file(out)
    if report is not None:
        check_folder(report)
    output = Output(quiet=quiet, as_json=as_json)
    B, S, default_alpha = _estimates(bhat, shat, z)
    output.say(f"Read {len(B)} effects in {B.shape[1]} conditions.")
    files, findings = [out], None
    with output.status("Fitting ...") as status:
        found = mash.fit(
            B, S, V=_correlation(v), alpha=alpha if alpha is not None else 0.0 if contrast else default_alpha,
            covariances=_kinds(covariances, covariance, list(B.columns)), strong=_strong(strong, B),
            components=components, contrast=contrast, null_weight=null_weight, pointmass=point_mass, tiny=tiny,
            progress=lambda text: status.update(f"Fitting: {text} ..."),
        )  # fmt: skip
        if report is not None:
            status.update("Writing tables and figures ...")
            with folder(report) as (inside, places):
                findings, written = write_report(found, inside)
                files += places(written)
        write_dataset(out, found.dataset)
    _report(found, found.posterior, findings, files, output)


@app.command(cls=Command)
def apply(
    fitted: Fitted,
    out: o.Out,
    bhat: Bhat = None,
    shat: Shat = None,
    z: Z = None,
    v: Annotated[
        str | None,
        typer.Option(
            "--v",
            metavar="FILE",
            help="Correlation of errors; the fit's if not given.",
            rich_help_panel=o.DATA,
        ),
    ] = None,
    tiny: Tiny = "refuse",
    quiet: o.Quiet = False,
    as_json: o.AsJson = False,
) -> None:
    r"""Give the posterior of other effects, with a fitted prior as it is.

    Says how likely they are under it, too. A .zarr store is written some effects at a time, so that a million need
    little memory.

        ebmodel mash apply fit.nc --bhat all_bhat.csv.gz \
            --shat all_shat.csv.gz --out posterior.zarr
    """
    from ebmodel.files import open_dataset, write_dataset
    from ebmodel.mash import open_fit

    check_file(out)
    found, output = open_fit(fitted), Output(quiet=quiet, as_json=as_json)
    B, S, _ = _estimates(bhat, shat, z)
    V = None if v is None else _correlation(v)
    J = len(B)
    with output.status("Applying ...") as status:
        if out.suffix == ".zarr":
            found.apply_to(
                out, B, S, V, progress=lambda done: status.update(f"Applying: {done:,} of {J:,} effects ...")
            )
            posterior = open_dataset(out, "lfsr", "a posterior")
        else:
            posterior = found.apply(B, S, V, tiny)
            write_dataset(out, posterior)
    _report(found, posterior, None, [out], output)


@app.command(cls=Command)
def report(
    fitted: Fitted,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where tables and figures go.", rich_help_panel=o.OUTPUT)],
    posterior: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="What ebmodel mash apply wrote; the fit's own effects if not given."),
    ] = None,
    level: Annotated[
        float,
        typer.Option(metavar="RATE", min=0.0, max=1.0, help="Local false sign rate below which a sign is known."),
    ] = 0.05,
    factor: Annotated[
        float, typer.Option(metavar="F", min=0.0, max=1.0, help="Effects within this factor of each other are shared.")
    ] = 0.5,
    effects: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES", help="Effects to draw, separated by commas; a few that differ in sharing if not given."
        ),
    ] = None,
    figures: o.Figures = True,
    quiet: o.Quiet = False,
    as_json: o.AsJson = False,
) -> None:
    """Write tables and figures: weights, posteriors, and what is shared.

    Of the effects that were fitted, or of others that ebmodel mash apply was given. Learned patterns are drawn, too.

        ebmodel mash report fit.nc --out results --level 0.01
        ebmodel mash report fit.nc --posterior posterior.zarr --out more
    """
    from ebmodel.files import open_dataset
    from ebmodel.labels import CONDITION, EFFECT
    from ebmodel.mash import open_fit
    from ebmodel.mash.report import write_report

    check_folder(out)
    found, output = open_fit(fitted), Output(quiet=quiet, as_json=as_json)
    results = found.posterior if posterior is None else open_dataset(posterior, "lfsr", "a posterior by ebmodel mash")
    lacking = [name for name in ("mean", "log10_bf") if name not in results]
    expect(not lacking and results["lfsr"].dims == (EFFECT, CONDITION), "a posterior by ebmodel mash", "another file",
           str(posterior), "check the path")  # fmt: skip
    names = [] if effects is None else split_names(effects)
    with folder(out) as (inside, places), output.status("Writing tables and figures ..."):
        findings, written = write_report(
            found, inside, results, level=level, factor=factor, effects=names, figures=figures
        )
        files = places(written)
    _report(found, results, findings, files, output)


def _estimates(bhat: Path | None, shat: Path | None, z: Path | None) -> tuple[pd.DataFrame, pd.DataFrame | None, float]:
    """Tables of estimates and standard errors, and the alpha that is usual for them."""
    from ebmodel.files import read_table

    given = ", ".join(name for name, path in (("--bhat", bhat), ("--shat", shat), ("--z", z)) if path) or "none of them"
    good = (z is not None) != (bhat is not None and shat is not None) and (z is None or (bhat is None and shat is None))
    expect(good, "--bhat and --shat, or --z alone", given, "the command line", "give estimates with standard errors")
    if z is not None:
        return read_table(z), None, 1.0
    assert bhat is not None and shat is not None  # noqa: S101, PT018 - as was just said
    return read_table(bhat), read_table(shat), 0.0


def _correlation(v: str) -> Any:
    """A word as it is, or the matrix in a file."""
    from ebmodel.files import read_table
    from ebmodel.mash.fitting import KINDS_OF_V

    return v if v in KINDS_OF_V else read_table(Path(v))


def _kinds(kinds: str | None, own: list[str] | None, conditions: list[str]) -> Any:
    """Covariances as `ebmodel.mash.fit` takes them."""
    from ebmodel.files import read_table
    from ebmodel.mash import canonical
    from ebmodel.mash.covariances import gather

    names = None if kinds is None else split_names(kinds)
    if not own:
        return names
    do = "learn those first, and give their files, or leave --covariances at canonical"
    expect(names in (None, ["canonical"]), "--covariance with canonical ones or none", kinds, "--covariances", do)
    found = canonical(conditions) if names else []
    for text in own:
        name, _, path = text.partition("=")
        expect(bool(name and path), "NAME=FILE", repr(text), "--covariance", "write testis=testis.csv")
        table = read_table(path)
        found += gather({name: table}, conditions)
    return found


def _strong(path: Path | None, B: pd.DataFrame) -> Any:
    """Row numbers of the effects that a file names."""
    import pandas as pd

    if path is None:
        return None
    names = read_names(path, "effect", f"--strong {path}")
    rows = B.index.get_indexer(pd.Index(names))
    lacking = [name for name, row in zip(names, rows, strict=True) if row < 0]
    expect(bool(names) and not lacking, "names of effects", f"no {listed(lacking)}" if lacking else "none", str(path),
           "name effects of the table, one a line")  # fmt: skip
    return rows


def _report(fit: MashFit, posterior: xr.Dataset, findings: Findings | None, files: list[Path], output: Output) -> None:
    """Say how the fit went, what is significant, and where it all is."""
    words = fit.status.split("; ")
    notes = words[1:] if fit.converged else words
    output.report(_summary(fit, posterior, findings), lambda found: _show(found, output), notes, files)


def _show(summary: dict[str, Any], output: Output) -> None:
    from rich.markup import escape
    from rich.table import Table

    status = summary["status"].split("; ")[0]
    output.say(f"{summary['effects']} effects in {summary['conditions']} conditions: log-likelihood "
               f"{summary['loglik']:.3f}; weights within {summary['gap']:.1e} of the best ({status}).")  # fmt: skip
    table = Table("covariance", title="Weights of patterns", title_justify="left")
    table.add_column("weight", justify="right")
    for name, weight in summary["weights"].items():
        table.add_row(escape(name), f"{weight:.3f}")
    output.show(table)
    output.say(f"{summary['significant']} effects have a sign known at a local false sign rate of "
               f"{summary['level']:g} in at least one condition.")  # fmt: skip
    if "shared_by_all" in summary:
        output.say(f"Of these, {summary['shared_by_all']} are of one sign in all conditions; the median one is within "
                   f"the factor of its strongest in {summary['median_shared']:g} of them; {summary['specific']} are "
                   "large in one condition alone.")  # fmt: skip


def _summary(fit: MashFit, posterior: xr.Dataset, findings: Findings | None) -> dict[str, Any]:
    import numpy as np

    from ebmodel.labels import CONDITION, EFFECT, SCALE

    level = 0.05 if findings is None else findings.level
    totals = fit.weights.sum(SCALE).to_series().sort_values(ascending=False)
    weights = {"null": fit.null_weight, **{str(k): float(v) for k, v in totals.items() if v >= 0.01}}
    summary: dict[str, Any] = {
        "effects": posterior.sizes[EFFECT], "conditions": posterior.sizes[CONDITION],
        "loglik": float(posterior["loglik"].sum()), "gap": fit.gap, "converged": fit.converged, "status": fit.status,
        "weights": weights, "level": level,
        "significant": int((posterior["lfsr"].min(CONDITION) < level).sum()),
    }  # fmt: skip
    if findings is not None and findings.shared.size:
        summary |= {
            "shared_by_all": int((findings.signed == posterior.sizes[CONDITION]).sum()),
            "median_shared": float(np.median(findings.shared)),
            "specific": 0 if findings.specific is None else findings.specific.sizes[EFFECT],
        }
    return summary
