"""``ebmodel sample`` and ``ebmodel compare``: the full Bayesian model, alone and beside the EM fit."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ebmodel.cli import options as o
from ebmodel.cli.fit import doubts, run_fit
from ebmodel.cli.inputs import Inputs, Request, gather, slab_shape
from ebmodel.cli.output import Output, cell, check_file, check_folder, folder
from ebmodel.errors import InputError, expect

if TYPE_CHECKING:
    import xarray as xr

    from ebmodel.results import Fit

SAMPLING = "Sampling (the model of data of a new shape compiles for 10 to 30 seconds) ..."


def sample(
    genotypes: o.Genotypes,
    expression: o.Expression,
    out: o.Out,
    covariates: o.Covariates = None,
    covariate_columns: o.CovariateColumns = None,
    tissues: o.Tissues = None,
    snps: o.Snps = None,
    top: o.Top = None,
    max_r2: o.MaxR2 = 0.5,
    intercept: o.Intercept = True,
    standardise: o.Standardise = False,
    slab: o.SlabShape = "g",
    mean: o.MeanOfDraws = "free",
    errors: o.ErrorsOfDraws = "equal",
    priors: o.PriorsPreset = "weak",
    form: o.Form = "marginal",
    draws: o.Draws = 1000,
    tune: o.Tune = 1000,
    chains: o.Chains = 4,
    seed: o.Seed = 0,
    quiet: o.Quiet = False,
    as_json: o.AsJson = False,
) -> None:
    r"""Sample the full Bayesian model of the data of one gene.

    Options for the data are those of ebmodel fit. Prints the hyperparameters and whether the draws can be trusted, and
    writes everything, laid out for ArviZ, to one file, which ebmodel.open_posterior reads.

        ebmodel sample --genotypes gene/genotypes.csv.gz \
            --expression gene/expression.csv --out draws.nc
    """
    import ebmodel

    asked = Request(
        genotypes=genotypes, expression=expression, covariates=covariates, covariate_columns=covariate_columns,
        tissues=tissues, snps=snps, top=top, max_r2=max_r2, intercept=intercept, standardise=standardise,
    )  # fmt: skip
    check_file(out)
    output = Output(quiet=quiet, as_json=as_json)
    data = gather(asked, output)
    settings = _settings(mean, priors, form, draws, tune, chains, seed) | {"errors": errors}
    with output.status(SAMPLING):
        tree = run_sample(data, slab, settings)
    ebmodel.save_posterior(tree, out)
    summary = {"hyperparameters": _hyperparameters(tree), "verdict": str(tree.attrs["verdict"]), "out": str(out)}
    output.report(summary, lambda found: _show_draws(found, output), data.notes, [out])


def compare(
    genotypes: o.GenotypesIfAny = None,
    expression: o.ExpressionIfAny = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Folder for results and figures, made if not there; nothing is kept without.",
            rich_help_panel=o.OUTPUT,
        ),
    ] = None,
    covariates: o.Covariates = None,
    covariate_columns: o.CovariateColumns = None,
    tissues: o.Tissues = None,
    snps: o.Snps = None,
    top: o.Top = None,
    max_r2: o.MaxR2 = 0.5,
    intercept: o.Intercept = True,
    standardise: o.Standardise = False,
    slab: o.SlabShape = "g",
    mean: o.MeanOfDraws = "free",
    priors: o.PriorsPreset = "weak",
    form: o.Form = "marginal",
    draws: o.Draws = 1000,
    tune: o.Tune = 1000,
    chains: o.Chains = 4,
    starts: o.Starts = None,
    seed: o.Seed = 0,
    stored_fit: Annotated[
        Path | None,
        typer.Option(
            "--fit", metavar="FILE", help="A stored fit, in place of tables; with --posterior.", rich_help_panel=o.DATA
        ),
    ] = None,
    stored_posterior: Annotated[
        Path | None,
        typer.Option(
            "--posterior",
            metavar="FILE",
            help="Stored draws of the same model and data; with --fit.",
            rich_help_panel=o.DATA,
        ),
    ] = None,
    level: Annotated[
        float,
        typer.Option(
            metavar="P", help="Posterior probability of intervals, between 0 and 1.", rich_help_panel=o.OUTPUT
        ),
    ] = 0.95,
    quiet: o.Quiet = False,
    as_json: o.AsJson = False,
) -> None:
    r"""Fit by EM, sample the same model, and say where the two differ.

    From tables, with the options of ebmodel fit and ebmodel sample, or from stored results with --fit and --posterior.
    Says where, how and why they differ. The folder gets fit.nc, posterior.nc (from tables), comparison.csv and three
    figures.

        ebmodel compare --genotypes gene/genotypes.csv.gz \
            --expression gene/expression.csv --out both
        ebmodel compare --fit gene.nc --posterior draws.nc
    """
    import ebmodel

    expect(0.0 < level < 1.0, "0 < level < 1", level, "--level", "give a probability such as 0.95")
    if out is not None:
        check_folder(out)
    output = Output(quiet=quiet, as_json=as_json)
    asked = "the command line"
    notes: list[str] = []
    if stored_fit is not None and stored_posterior is not None:
        expect(genotypes is None and expression is None, "stored results or tables", "both", asked, "choose one")
        fit, tree = ebmodel.open_fit(stored_fit), ebmodel.open_posterior(stored_posterior)
    else:
        alone = stored_fit is not None or stored_posterior is not None
        expect(not alone, "--fit and --posterior", "one of them", asked, "give both")
        if genotypes is None or expression is None:
            tables = "--genotypes and --expression, or --fit and --posterior"
            raise InputError(tables, "neither pair", asked, "give the files")
        request = Request(
            genotypes=genotypes, expression=expression, covariates=covariates, covariate_columns=covariate_columns,
            tissues=tissues, snps=snps, top=top, max_r2=max_r2, intercept=intercept, standardise=standardise,
        )  # fmt: skip
        data = gather(request, output)
        with output.status(o.FITTING):
            fit = run_fit(data, slab, mean, starts, seed)
        with output.status(SAMPLING):
            tree = run_sample(data, slab, _settings(mean, priors, form, draws, tune, chains, seed))
        notes = data.notes + doubts(fit, len(data.Y))
    comparison = ebmodel.compare(fit, tree, level)
    files = [] if out is None else _write(out, fit, tree, comparison, with_results=stored_fit is None)
    rows = comparison.to_dataframe().reset_index().to_dict("records")
    summary = {"level": level, "quantities": rows} | {name: comparison.attrs[name] for name in ("verdict", "findings")}
    summary["out"] = [str(path) for path in files]  # what `files` was called before
    output.report(summary, lambda found: _show(found, output), notes, files)


def _settings(mean: str, priors: str, form: str, draws: int, tune: int, chains: int, seed: int) -> dict[str, Any]:
    """Arguments of `ebmodel.sample`."""
    return {"mean": mean, "priors": priors, "form": form, "draws": draws, "tune": tune, "chains": chains, "seed": seed}


def run_sample(data: Inputs, slab: str, settings: dict[str, Any]) -> xr.DataTree:
    """Draws for tables that `ebmodel.cli.inputs.gather` read."""
    import ebmodel

    draw = ebmodel.sample  # imports PyMC, which sets the level of its log
    logging.getLogger("pymc").setLevel(logging.WARNING)  # it tells what it samples, on stderr
    return draw(data.X, data.Y, slab=slab_shape(slab), progress=False, **data.model, **settings)


def _hyperparameters(tree: xr.DataTree) -> dict[str, dict[str, float]]:
    """Rows of the table of hyperparameters, by name."""
    import arviz as az
    import numpy as np

    posterior = tree["posterior"].to_dataset()
    names = [name for name in ("tau1", "eta", "sigma2", "heterogeneity", "kappa", "alpha") if name in posterior]
    r_hat, ess = az.rhat(posterior[names]), az.ess(posterior[names])
    rows = {}
    for name in names:
        values = posterior[name].to_numpy()
        lower, upper = np.quantile(values, [0.025, 0.975])
        rows[name] = {"mean": values.mean(), "sd": values.std(ddof=1), "lower": lower, "upper": upper,
                      "r_hat": r_hat[name].item(), "ess_bulk": ess[name].item()}  # fmt: skip
    return rows


def _write(out: Path, fit: Fit, tree: xr.DataTree, comparison: xr.Dataset, *, with_results: bool) -> list[Path]:
    """Write everything into the folder; its paths."""
    import ebmodel
    from ebmodel import plot
    from ebmodel.files import write_figure, writing

    with folder(out) as (inside, places):
        files = [inside / "fit.nc", inside / "posterior.nc"] if with_results else []
        if with_results:
            fit.to_netcdf(files[0])
            ebmodel.save_posterior(tree, files[1])
        table = inside / "comparison.csv"
        with writing(table) as temporary:
            comparison.to_dataframe().to_csv(temporary)
        figures = {
            "probabilities.png": plot.probabilities_compared(comparison),
            "effects.png": plot.effects_compared(comparison)[0],
            "hyperparameters.png": plot.hyperparameters(fit, tree)[0, 0],
        }
        drawn = [write_figure(inside / name, axes) for name, axes in figures.items()]
        return places([*files, table, *drawn])


def _show_draws(summary: dict[str, Any], output: Output) -> None:
    rows = ((name, row.values()) for name, row in summary["hyperparameters"].items())
    _show_table("Hyperparameters", ("mean", "sd", "2.5 %", "97.5 %", "R-hat", "ESS"), rows, output)
    output.say(f"Draws: {summary['verdict']}")


def _show(summary: dict[str, Any], output: Output) -> None:
    """Hyperparameters and P(I=1) of both, the verdict and the findings."""
    tail = 50 * (1 - summary["level"])
    headings = ("EM", "posterior mean", "sd", f"{tail:g} %", f"{100 - tail:g} %")
    keys = ("em", "mean", "sd", "lower", "upper")
    for kind, title, label in (("hyperparameter", "Hyperparameters", "quantity"), ("probability", "P(I=1)", "tissue")):
        rows = [(row[label], [row[key] for key in keys]) for row in summary["quantities"] if row["kind"] == kind]
        _show_table(title, headings, rows, output, ".4g" if kind == "hyperparameter" else ".3f")
    output.say(f"Draws: {summary['verdict']}")
    output.say(f"Findings: {summary['findings']}")


def _show_table(
    title: str, headings: Iterable[str], rows: Iterable[tuple[str, Iterable[float | None]]], output: Output,
    digits: str = ".4g",
) -> None:  # fmt: skip
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left")
    table.add_column("", overflow="fold")
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    for name, numbers in rows:
        table.add_row(Text(str(name)), *(cell(x, digits) for x in numbers))
    output.show(table)
