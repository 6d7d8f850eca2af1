"""The command line: ``ebmodel fit`` and ``ebmodel demo``.

What is heavy to import is imported inside the commands, so that help and usage errors come at once. Bad input ends in
one line on stderr and exit status 2; results are written whole or not at all.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from ebmodel.results import Fit

__all__ = ["app", "main"]

VARIANCE_RATIO = 10.0
"""One sigma2 for all tissues is doubtful where their residual variances differ by more than this factor."""

FITTING = "Fitting (the first fit on a machine compiles for about 15 seconds) ..."

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["--help", "-h"]},
    pretty_exceptions_enable=False,
    add_completion=False,
    help="Empirical-Bayes multi-tissue eQTL regression (Xue & Li): fit it, look at it, check it.",
)


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line; exit status 0, or 2 with one line on stderr if the input cannot be used."""
    from ebmodel.errors import InputError

    try:
        app(args=args, prog_name="ebmodel")
    except InputError as error:
        typer.echo(f"error: {' '.join(str(error).split())}", err=True)
        sys.exit(2)


@app.callback()
def _app() -> None:
    """Keep ``fit`` and ``demo`` as named commands."""


@app.command("fit")
def fit_command(
    genotypes: Annotated[
        Path,
        typer.Option(
            metavar="FILE", help="Samples x SNPs: csv, tsv (also .gz) or parquet; the first column names the samples."
        ),
    ],
    expression: Annotated[
        Path,
        typer.Option(
            metavar="FILE", help="Samples x tissues of one gene, in the same formats; empty or NA where missing."
        ),
    ],
    out: Annotated[
        Path, typer.Option(metavar="FILE", help="Where the result goes: a .nc (NetCDF) file or a .zarr store.")
    ],
    covariates: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Samples x covariates to project out; text columns become indicators. May be the expression file.",
        ),
    ] = None,
    covariate_columns: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES", help="Columns of the covariates file to use, separated by commas; all if not given."
        ),
    ] = None,
    tissues: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="Columns of the expression file to use: names or globs such as 'Brain*', separated by commas.",
        ),
    ] = None,
    snps: Annotated[
        str | None,
        typer.Option(metavar="NAMES", help="SNPs to use: names separated by commas, or @FILE with one name a line."),
    ] = None,
    top: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=1, help="Choose this many SNPs by marginal association (Stouffer's Z over tissues)."
        ),
    ] = None,
    max_r2: Annotated[
        float,
        typer.Option(
            metavar="R2", min=0.0, max=1.0, help="With --top: leave out a SNP whose R² with a better one exceeds this."
        ),
    ] = 0.5,
    intercept: Annotated[bool, typer.Option(help="Project an intercept out of every tissue.")] = True,
    standardise: Annotated[
        bool, typer.Option("--standardise", help="Scale every tissue to residual variance one before the fit.")
    ] = False,
    slab: Annotated[
        str,
        typer.Option(
            metavar="SHAPE",
            help="Effects' covariance: g (the paper), independent, power (learned, with interval) or a number.",
        ),
    ] = "g",
    starts: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Starts of the EM; the package's default if not given.")
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Seed of the random starts.")] = 0,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print nothing but notes and errors.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON instead of tables.")] = False,
) -> None:
    """Fit the model to a genotype table and an expression table of one gene.

    Samples are joined by name. Prints a table by tissue and writes everything (parameters, posterior probabilities,
    Bayes factors, effects with sd and lfsr, the data) to one file, which ebmodel.open_fit reads back.

    [bold]Example[/bold]: ebmodel fit --genotypes snps.csv.gz --expression gene.csv --top 20 --out gene.nc
    """
    import ebmodel
    from ebmodel.errors import expect
    from ebmodel.files import check_writable

    _check_ending(out)
    check_writable(out)  # before the work, not after
    expect(snps is None or top is None, "--snps or --top", "both", "the command line", "choose one")
    X, Y, C = _read(genotypes, expression, covariates, covariate_columns, tissues, snps)
    unused = len(X.index.difference(Y.index))
    read = f"{len(Y)} samples, {X.shape[1]} SNPs, {Y.shape[1]} tissues"
    left_out = f"; {unused} genotyped samples without expression left out" if unused else ""
    say = Console(quiet=quiet or as_json)
    say.print(f"Read {read}{left_out}.", markup=False, highlight=False)

    notes = []
    if top is not None:
        from ebmodel.screen import choose

        chosen = choose(X, Y, top, max_r2, C, intercept=intercept)
        X = X.iloc[:, chosen["position"].to_numpy()]
        notes.append(
            f"{X.shape[1]} SNPs were chosen on the same data as the fit, which makes P(I=1) optimistic"
            + (f"; no more than these have R² <= {max_r2:g} with each other" if X.shape[1] < top else "")
        )
    response = ebmodel.standardise(Y, C, intercept=intercept) if standardise else Y
    settings: dict[str, Any] = {"slab": _slab(slab), "seed": seed} | ({} if starts is None else {"n_starts": starts})
    with say.status(FITTING):
        fit = ebmodel.fit(X, response, covariates=C, intercept=intercept, **settings)
        if slab == "power":
            notes.append(_interval(ebmodel.alpha_profile(X, response, covariates=C, intercept=intercept, seed=seed)))
    notes += _doubts(fit, len(Y))
    _write(fit, out)
    for note in notes:
        if not as_json:
            typer.echo(f"note: {note}", err=True)
    summary = _summary(fit, out, unused, notes, scale="standardised" if standardise else "original")
    if as_json:
        typer.echo(json.dumps(summary, indent=2))
    _show(summary, say)


@app.command()
def demo(
    out: Annotated[
        Path, typer.Option(metavar="FOLDER", help="Folder for the result and the figures; made if it is not there.")
    ] = Path("ebmodel-demo"),
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Seed of the simulated gene.")] = 0,
) -> None:
    """Simulate one gene whose truth is known, fit it, and draw the fit against the truth.

    120 donors, 8 SNPs, 30 tissues with a quarter of the responses missing, drawn from the model itself.

    [bold]Example[/bold]: ebmodel demo --out ebmodel-demo
    """
    import ebmodel
    from ebmodel import plot
    from ebmodel.demo import compare, simulate_gene
    from ebmodel.errors import InputError
    from ebmodel.files import check_writable, writing

    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError("a folder that can be made", str(error.strerror), str(out), "choose another") from error
    files = [out / name for name in ("fit.nc", "posterior_probability.png", "shrinkage.png")]
    check_writable(files[0])
    say = Console()
    gene = simulate_gene(seed)
    with say.status(FITTING):
        fit = ebmodel.fit(gene.X, gene.Y)
    fit.to_netcdf(files[0])
    axes = plot.posterior_probability(fit, gene.active), plot.shrinkage(fit, units="expression per allele")
    for ax, path in zip(axes, files[1:], strict=True):
        with writing(path) as temporary:
            ax.get_figure(root=True).savefig(temporary, format="png", dpi=150)  # type: ignore[union-attr]

    sizes = gene.sizes
    missing = gene.attrs["missing"]
    say.print(
        f"Simulated {sizes['sample']} samples, {sizes['snp']} SNPs, {sizes['tissue']} tissues "
        f"({int(gene.active.sum())} active), {missing:.0%} of responses missing.",
        highlight=False,
    )
    table = Table("", "truth", "fit", "least squares", title="Truth and fit", title_justify="left")
    for row in compare(fit, gene):
        table.add_row(*row)
    say.print(table)
    _say_where(say, files)


def _read(
    genotypes: Path,
    expression: Path,
    covariates: Path | None,
    covariate_columns: str | None,
    tissues: str | None,
    snps: str | None,
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame | None]:
    """Genotypes, expression and covariates, with the columns asked for."""
    from ebmodel.errors import expect, listed
    from ebmodel.files import read_table

    asked = "the command line"
    expect(covariates is not None or covariate_columns is None, "--covariates FILE", "--covariate-columns alone", asked,
           "give the file")  # fmt: skip
    X, Y = read_table(genotypes), read_table(expression)
    if snps is not None:
        X = _take(X, _snp_names(snps), f"genotypes {genotypes}", "SNP")
    if covariates is None:
        return X, _tissues(Y, tissues, expression), None
    shared = covariates.exists() and covariates.samefile(expression)
    C = Y if shared else read_table(covariates)
    if covariate_columns is not None:
        C = _take(C, _split(covariate_columns), f"covariates {covariates}", "column")
    if shared:
        Y = Y[[name for name in Y.columns if name not in set(C.columns)]]
        got = f"every column of it taken as a covariate ({listed(C.columns, 3)})"
        expect(Y.shape[1] > 0, "tissues in the expression file", got, str(expression), "give --covariate-columns")
    return X, _tissues(Y, tissues, expression), C


def _split(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _snp_names(asked: str) -> list[str]:
    from ebmodel.errors import InputError

    if not asked.startswith("@"):
        return _split(asked)
    try:
        lines = Path(asked[1:]).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        got = getattr(error, "strerror", None) or "no text"
        raise InputError("a file with one SNP a line", got, f"--snps {asked}", "check the path") from error
    return [line.strip() for line in lines if line.strip()]


def _take(table: pd.DataFrame, names: list[str], where: str, word: str) -> pd.DataFrame:
    """Take the columns asked for, each once and in that order."""
    from ebmodel.errors import expect, listed

    unknown = [name for name in names if name not in table.columns]
    expect(bool(names), f"at least one {word}", "none", "the command line", f"name a {word}")
    expect(not unknown, f"each {word} asked for", f"no {listed(unknown)}", where, "check the names")
    return table[list(dict.fromkeys(names))]


def _tissues(table: pd.DataFrame, asked: str | None, path: Path) -> pd.DataFrame:
    """Columns that a comma list of names and globs asks for, in the file's order."""
    from fnmatch import fnmatchcase

    from ebmodel.errors import expect

    if asked is None:
        return table
    patterns = _split(asked)
    expect(bool(patterns), "names or globs", repr(asked), "--tissues", "name a tissue")
    names = [str(name) for name in table.columns]
    wanted: set[str] = set()
    for pattern in patterns:
        found = {name for name in names if name == pattern or fnmatchcase(name, pattern)}
        expect(bool(found), f"tissues that match {pattern!r}", "none", f"expression {path}", "check the names")
        wanted |= found
    return table[[name for name in names if name in wanted]]


def _slab(text: str) -> str | float:
    try:
        return float(text)
    except ValueError:
        return text  # a word, which the fit knows or refuses


def _check_ending(out: Path) -> None:
    from ebmodel.errors import expect

    expect(out.suffix in (".nc", ".zarr"), "a name ending in .nc or .zarr", repr(out.name), "--out", "rename it")


def _write(fit: Fit, out: Path) -> None:
    (fit.to_zarr if out.suffix == ".zarr" else fit.to_netcdf)(out)


def _interval(profile: xr.Dataset) -> str:
    """Say what the data allow the slab's power to be, and whether that includes the paper's alpha = 1."""
    low, high = profile.attrs["range"]
    lower, upper = float(profile["lower"].fillna(low)), float(profile["upper"].fillna(high))
    verdict = "which holds the paper's 1" if lower <= 1.0 <= upper else "which leaves out the paper's 1"
    return f"alpha's {100 * profile.attrs['level']:g} % interval is {lower:.2f} to {upper:.2f}, {verdict}"


def _doubts(fit: Fit, samples: int) -> list[str]:
    """Give what a reader of the table should know: samples not used, and reasons to doubt the fit."""
    doubts, unused = [], samples - fit.dataset.sizes["sample"]
    if unused:
        doubts.append(f"{unused} samples with a covariate missing, and no expression, were left out")
    if fit.params.eta == 0:
        doubts.append("eta is 0: active tissues share one effect, whose own uncertainty is not in lfsr and effects' sd")
    variances = _residual_variances(fit)
    low, high = min(variances, key=variances.__getitem__), max(variances, key=variances.__getitem__)
    if variances[high] > VARIANCE_RATIO * variances[low]:
        doubts.append(
            f"residual variances run from {variances[low]:.3g} ({low}) to {variances[high]:.3g} ({high}), "
            "but the model has one sigma² for all tissues: use --standardise"
        )
    return doubts


def _residual_variances(fit: Fit) -> dict[str, float]:
    """Variance that SNPs and covariates leave in every tissue that has data."""
    import numpy as np

    from ebmodel.data import project_out

    ds = fit.dataset
    rest = ds["Y"].to_numpy() - ds["X"].to_numpy() @ fit.effects.to_numpy().T
    C = ds["covariates"].to_numpy() if "covariates" in ds else np.empty((len(rest), 0))
    variances = {}
    for name, y in zip(ds["tissue"].to_numpy(), rest.T, strict=True):
        rows = ~np.isnan(y)
        (residual,), dof = project_out(C[rows], y[rows])
        if dof > 0:
            variances[str(name)] = float(residual @ residual / dof)
    return variances


def _summary(fit: Fit, out: Path, unused: int, notes: list[str], scale: str) -> dict[str, Any]:
    """Everything that is printed, as plain numbers; None where a number is not finite."""
    import numpy as np

    def number(value: Any) -> float | None:
        return float(value) if np.isfinite(value) else None

    ds, theta = fit.dataset, fit.params
    log10_K = fit.log_bayes_factor / np.log(10.0)
    norm = np.sqrt((fit.effects**2).sum("snp"))
    rows = zip(ds["tissue"], ds["n"], fit.posterior_probability, log10_K, norm, fit.lfsr.min("snp"), strict=True)
    return {
        "samples": ds.sizes["sample"],
        "genotyped_samples_left_out": unused,
        "snps": [str(name) for name in ds["snp"].to_numpy()],
        "scale": scale,
        "tissues": [
            {
                "tissue": str(name.item()),
                "n": int(n),
                "posterior_probability": number(h),
                "log10_bayes_factor": number(K),
                "effect_norm": number(size),
                "min_lfsr": number(lfsr),
            }
            for name, n, h, K, size, lfsr in rows
        ],
        "params": {
            "tau1": number(theta.tau1),
            "eta": number(theta.eta),
            "sigma2": number(theta.sigma2),
            "alpha": number(theta.alpha),
            "beta": [number(value) for value in np.asarray(theta.beta)],
        },
        "loglik": number(fit.loglik),
        "converged": fit.converged,
        "status": fit.status,
        "notes": notes,
        "out": str(out),
    }


def _show(summary: dict[str, Any], say: Console) -> None:
    scale = " (tissues scaled to residual variance 1)" if summary["scale"] == "standardised" else ""
    table = Table(title=f"{len(summary['snps'])} SNPs in {summary['samples']} samples{scale}", title_justify="left")
    table.add_column("tissue", overflow="fold")
    for heading in ("n", "P(I=1)", "log10 K", "‖effect‖", "min lfsr"):
        table.add_column(heading, justify="right", no_wrap=True)
    keys = {"posterior_probability": ".3f", "log10_bayes_factor": ".2f", "effect_norm": ".3g", "min_lfsr": ".2g"}
    for row in summary["tissues"]:
        cells = ["-" if row[key] is None else format(row[key], spec) for key, spec in keys.items()]
        table.add_row(Text(row["tissue"]), str(row["n"]), *cells)
    say.print(table)
    say.print("log10 K: Bayes factor of no effect over an effect; below 0 it favours an effect.", highlight=False)
    say.print("min lfsr: the smallest local false sign rate among the tissue's effects.", highlight=False)
    theta = summary["params"]
    values = ", ".join(
        f"{name} {theta[name]:.4g}" for name in ("tau1", "eta", "sigma2", "alpha") if theta[name] is not None
    )
    say.print(f"{values}; log-likelihood {summary['loglik']:.3f}; {summary['status']}", markup=False, highlight=False)
    _say_where(say, [Path(summary["out"])])


def _say_where(say: Console, files: list[Path]) -> None:
    for path in files:  # unbroken, so that a path can be copied
        say.print(f"Wrote {path}", markup=False, highlight=False, soft_wrap=True)
