"""``ebmodel sample`` and ``ebmodel compare``: the full Bayesian model, alone and beside the EM fit."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ebmodel.cli import options as o
from ebmodel.cli.fit import doubts, run_fit

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
    mean: o.Mean = "free",
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
    """Sample the full Bayesian model of a genotype table and an expression table of one gene.

    Options for the data are those of ebmodel fit. Prints the hyperparameters and whether the draws can be trusted, and
    writes everything, laid out for ArviZ, to one file, which ebmodel.open_posterior reads back.

    [bold]Example[/bold]: ebmodel sample --genotypes snps.csv.gz --expression gene.csv --top 20 --out draws.nc
    """
    import ebmodel

    asked = o.Request(
        genotypes=genotypes, expression=expression, covariates=covariates, covariate_columns=covariate_columns,
        tissues=tissues, snps=snps, top=top, max_r2=max_r2, intercept=intercept, standardise=standardise,
    )  # fmt: skip
    o.check_file(out)
    say = Console(quiet=quiet or as_json)
    data = o.gather(asked, say)
    settings = _settings(mean, priors, form, draws, tune, chains, seed) | {"errors": errors}
    with say.status(SAMPLING):
        tree = run_sample(data, slab, settings)
    ebmodel.save_posterior(tree, out)
    rows, verdict = _hyperparameters(tree), str(tree.attrs["verdict"])
    if as_json:
        summary = {"hyperparameters": rows, "verdict": verdict, "notes": data.notes, "out": str(out)}
        typer.echo(json.dumps(summary, indent=2))
    else:
        o.say_notes(data.notes)
    headings = ("mean", "sd", "2.5 %", "97.5 %", "R-hat", "ESS")
    _show_table("Hyperparameters", headings, ((name, row.values()) for name, row in rows.items()), say)
    say.print(f"Draws: {verdict}", markup=False, highlight=False)
    o.say_where(say, [out])


def compare(
    genotypes: o.GenotypesIfAny = None,
    expression: o.ExpressionIfAny = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Folder for results and figures, made if not there; nothing kept without."),
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
    mean: o.Mean = "free",
    priors: o.PriorsPreset = "weak",
    form: o.Form = "marginal",
    draws: o.Draws = 1000,
    tune: o.Tune = 1000,
    chains: o.Chains = 4,
    starts: o.Starts = None,
    seed: o.Seed = 0,
    stored_fit: Annotated[
        Path | None, typer.Option("--fit", metavar="FILE", help="A stored fit, in place of tables; with --posterior.")
    ] = None,
    stored_posterior: Annotated[
        Path | None,
        typer.Option("--posterior", metavar="FILE", help="Stored draws of the same model and data; with --fit."),
    ] = None,
    level: Annotated[
        float, typer.Option(metavar="LEVEL", help="Posterior probability of intervals, between 0 and 1.")
    ] = 0.95,
    quiet: o.Quiet = False,
    as_json: o.AsJson = False,
) -> None:
    """Fit by EM, sample the full posterior of the same model, and say where, how and why the two differ.

    From tables, with the options of ebmodel fit and ebmodel sample, or from stored results with --fit and --posterior.
    The folder gets fit.nc, posterior.nc (from tables), comparison.csv and three figures.

    [bold]Example[/bold]: ebmodel compare --genotypes snps.csv.gz --expression gene.csv --top 20 --out both
    """
    import ebmodel
    from ebmodel.errors import InputError, expect

    expect(0.0 < level < 1.0, "0 < level < 1", level, "--level", "give a probability such as 0.95")
    if out is not None:
        o.check_folder(out)
    say = Console(quiet=quiet or as_json)
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
        request = o.Request(
            genotypes=genotypes, expression=expression, covariates=covariates, covariate_columns=covariate_columns,
            tissues=tissues, snps=snps, top=top, max_r2=max_r2, intercept=intercept, standardise=standardise,
        )  # fmt: skip
        data = o.gather(request, say)
        with say.status(o.FITTING):
            fit = run_fit(data, slab, mean, starts, seed)
        with say.status(SAMPLING):
            tree = run_sample(data, slab, _settings(mean, priors, form, draws, tune, chains, seed))
        notes = data.notes + doubts(fit, len(data.Y))
    comparison = ebmodel.compare(fit, tree, level)
    files = [] if out is None else _write(out, fit, tree, comparison, with_results=stored_fit is None)
    if as_json:
        typer.echo(json.dumps(_summary(comparison, notes, files), indent=2))
    else:
        o.say_notes(notes)
    _show(comparison, say)
    o.say_where(say, files)


def _settings(mean: str, priors: str, form: str, draws: int, tune: int, chains: int, seed: int) -> dict[str, Any]:
    """Arguments of `ebmodel.sample`."""
    return {"mean": mean, "priors": priors, "form": form, "draws": draws, "tune": tune, "chains": chains, "seed": seed}


def run_sample(data: o.Inputs, slab: str, settings: dict[str, Any]) -> xr.DataTree:
    """Draws for tables that `ebmodel.cli.options.gather` read."""
    import ebmodel

    draw = ebmodel.sample  # imports PyMC, which sets the level of its log
    logging.getLogger("pymc").setLevel(logging.WARNING)  # it tells what it samples, on stderr
    return draw(data.X, data.Y, slab=o.slab_shape(slab), progress=False, **data.model, **settings)


def _hyperparameters(tree: xr.DataTree) -> dict[str, dict[str, float | None]]:
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
        numbers = {"mean": values.mean(), "sd": values.std(ddof=1), "lower": lower, "upper": upper,
                   "r_hat": r_hat[name], "ess_bulk": ess[name]}  # fmt: skip
        rows[name] = {key: _number(value) for key, value in numbers.items()}
    return rows


def _write(out: Path, fit: Fit, tree: xr.DataTree, comparison: xr.Dataset, *, with_results: bool) -> list[Path]:
    """Write everything into the folder; its paths."""
    import ebmodel
    from ebmodel import plot
    from ebmodel.files import write_figure, writing

    o.make_folder(out)
    files = [out / "fit.nc", out / "posterior.nc"] if with_results else []
    if with_results:
        fit.to_netcdf(files[0])
        ebmodel.save_posterior(tree, files[1])
    table = out / "comparison.csv"
    with writing(table) as temporary:
        comparison.to_dataframe().to_csv(temporary)
    figures = {
        "probabilities.png": plot.probabilities_compared(comparison),
        "effects.png": plot.effects_compared(comparison)[0],
        "hyperparameters.png": plot.hyperparameters(fit, tree)[0, 0],
    }
    for name, axes in figures.items():
        write_figure(out / name, axes)
    return [*files, table, *(out / name for name in figures)]


def _summary(comparison: xr.Dataset, notes: list[str], files: list[Path]) -> dict[str, Any]:
    """Everything that is compared, as plain numbers; None where a number is not finite."""
    rows = comparison.to_dataframe().reset_index().to_dict("records")
    return {
        "level": comparison.attrs["level"],
        "quantities": [{k: v if isinstance(v, str) else _number(v) for k, v in row.items()} for row in rows],
        "verdict": comparison.attrs["verdict"],
        "findings": comparison.attrs["findings"],
        "notes": notes,
        "out": [str(path) for path in files],
    }


def _show(comparison: xr.Dataset, say: Console) -> None:
    """Hyperparameters and P(I=1) of both, the verdict and the findings."""
    tail = 50 * (1 - comparison.attrs["level"])
    headings = ("EM", "posterior mean", "sd", f"{tail:g} %", f"{100 - tail:g} %")
    keys = ("em", "mean", "sd", "lower", "upper")
    frame = comparison.to_dataframe()
    for kind, title, label in (("hyperparameter", "Hyperparameters", None), ("probability", "P(I=1)", "tissue")):
        part = frame[frame["kind"] == kind]
        names = part.index if label is None else part[label]
        digits = ".4g" if label is None else ".3f"
        _show_table(title, headings, zip(names, part[list(keys)].to_numpy().tolist(), strict=True), say, digits)
    say.print(f"Draws: {comparison.attrs['verdict']}", markup=False, highlight=False)
    say.print(f"Findings: {comparison.attrs['findings']}", markup=False, highlight=False)


def _show_table(
    title: str, headings: Iterable[str], rows: Iterable[tuple[str, Iterable[float | None]]], say: Console,
    digits: str = ".4g",
) -> None:  # fmt: skip
    table = Table(title=title, title_justify="left")
    table.add_column("", overflow="fold")
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    for name, numbers in rows:
        table.add_row(Text(str(name)), *("-" if x is None else format(x, digits) for x in numbers))
    say.print(table)


def _number(value: Any) -> float | None:
    import numpy as np

    return float(value) if np.isfinite(value) else None
