"""What the commands share: their options, the reading of tables, and where results may go."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from ebmodel.results import Fit

WIDTH = 120
"""Characters a line where there is no terminal."""
FITTING = "Fitting (the first fit on a machine compiles for about 15 seconds) ..."

# Options -------------------------------------------------------------------------------------------------------------

_GENOTYPES = typer.Option(
    metavar="FILE",
    help="Samples x SNPs: csv, tsv (also .gz) or parquet, the first column naming samples; PLINK .bed, .pgen, VCF.",
)
_EXPRESSION = typer.Option(
    metavar="FILE", help="Samples x tissues of one gene, in the same formats; empty or NA where missing."
)
Genotypes = Annotated[Path, _GENOTYPES]
Expression = Annotated[Path, _EXPRESSION]
GenotypesIfAny = Annotated[Path | None, _GENOTYPES]
ExpressionIfAny = Annotated[Path | None, _EXPRESSION]
Out = Annotated[Path, typer.Option(metavar="FILE", help="Where the result goes: a .nc (NetCDF) file or a .zarr store.")]
Covariates = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Samples x covariates to project out; text columns become indicators. May be the expression file.",
    ),
]
CovariateColumns = Annotated[
    str | None,
    typer.Option(metavar="NAMES", help="Columns of the covariates file to use, separated by commas; all if not given."),
]
Tissues = Annotated[
    str | None,
    typer.Option(
        metavar="NAMES",
        help="Columns of the expression file to use: names or globs such as 'Brain*', separated by commas.",
    ),
]
Snps = Annotated[
    str | None,
    typer.Option(metavar="NAMES", help="SNPs to use: names separated by commas, or @FILE with one name a line."),
]
Top = Annotated[
    int | None,
    typer.Option(metavar="N", min=1, help="Choose this many SNPs by marginal association (Stouffer's Z over tissues)."),
]
MaxR2 = Annotated[
    float,
    typer.Option(
        metavar="R2", min=0.0, max=1.0, help="With --top: leave out a SNP whose R² with a better one exceeds this."
    ),
]
Intercept = Annotated[bool, typer.Option(help="Project an intercept out of every tissue.")]
Standardise = Annotated[
    bool, typer.Option("--standardise", help="Scale every tissue to residual variance one before the fit.")
]
SlabShape = Annotated[
    str,
    typer.Option(
        metavar="SHAPE",
        help="Effects' covariance: g (the paper), independent, power (learned, with interval), sparse or a number.",
    ),
]
Starts = Annotated[
    int | None, typer.Option(metavar="N", min=1, help="Starts of the EM; the package's default if not given.")
]
Seed = Annotated[int, typer.Option(metavar="N", min=0, help="Seed of the random numbers.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print nothing but notes and errors.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the summary as JSON instead of tables.")]
Mean = Annotated[
    str,
    typer.Option(
        metavar="KIND", help="The slab's mean: free (the paper), hierarchical (its scale is learned) or, to fit, zero."
    ),
]
Errors = Annotated[
    str,
    typer.Option(
        metavar="KIND",
        help="Error variances: equal (one for all tissues, the paper) or unequal (every tissue has its own).",
    ),
]
Select = Annotated[
    bool, typer.Option("--select", help="Try every slab with every mean, and keep the fit of the largest evidence.")
]

# of the full Bayesian model
ErrorsOfDraws = Annotated[
    str,
    typer.Option(
        metavar="KIND",
        help="Errors: equal, unequal, or correlated (over the tissues of a sample; slower, for a dozen tissues).",
    ),
]
PriorsPreset = Annotated[str, typer.Option(metavar="NAME", help="Preset of priors: weak, which is weakly informative.")]
Form = Annotated[
    str,
    typer.Option(metavar="FORM", help="marginal (effects integrated out: fast) or latent (as printed: slow, a check)."),
]
Draws = Annotated[int, typer.Option(metavar="N", min=1, help="Draws kept of each chain.")]
Tune = Annotated[int, typer.Option(metavar="N", min=0, help="Steps of each chain before the draws that are kept.")]
Chains = Annotated[int, typer.Option(metavar="N", min=1, help="Chains; at least two, to see whether they agree.")]


# Inputs --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Request:
    """The data options of one call, as given."""

    genotypes: Path
    expression: Path
    covariates: Path | None = None
    covariate_columns: str | None = None
    tissues: str | None = None
    snps: str | None = None
    top: int | None = None
    max_r2: float = 0.5
    intercept: bool = True
    standardise: bool = False


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """Tables ready for the model."""

    X: pd.DataFrame
    Y: pd.DataFrame | xr.DataArray
    """Responses, scaled if asked."""
    model: dict[str, Any]
    """Further arguments that every form of the model takes: covariates and intercept."""
    unused: int
    """Genotyped samples without expression."""
    scale: str
    notes: list[str] = field(default_factory=list)


def gather(asked: Request, say: Console) -> Inputs:
    """Read the tables, choose SNPs and scale tissues as asked.

    Raises
    ------
    InputError
        If a file or a choice cannot be used.
    """
    import ebmodel
    from ebmodel.errors import expect

    expect(asked.snps is None or asked.top is None, "--snps or --top", "both", "the command line", "choose one")
    X, Y, C = _read(asked)
    unused = len(X.index.difference(Y.index))
    read = f"{len(Y)} samples, {X.shape[1]} SNPs, {Y.shape[1]} tissues"
    left_out = f"; {unused} genotyped samples without expression left out" if unused else ""
    say.print(f"Read {read}{left_out}.", markup=False, highlight=False)
    notes = []
    if asked.top is not None:
        from ebmodel.screen import choose

        chosen = choose(X, Y, asked.top, asked.max_r2, C, intercept=asked.intercept)
        X = X.iloc[:, chosen["position"].to_numpy()]
        notes.append(
            f"{X.shape[1]} SNPs were chosen on the same data as the fit, which makes P(I=1) optimistic"
            + (f"; no more than these have R² <= {asked.max_r2:g} with each other" if X.shape[1] < asked.top else "")
        )
    model: dict[str, Any] = {"covariates": C, "intercept": asked.intercept}
    if asked.standardise:
        return Inputs(
            X=X, Y=ebmodel.standardise(Y, **model), model=model, unused=unused, notes=notes, scale="standardised"
        )
    return Inputs(X=X, Y=Y, model=model, unused=unused, notes=notes, scale="original")


def _read(asked: Request) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame | None]:
    """Genotypes, expression and covariates, with the columns asked for."""
    from ebmodel.errors import expect, listed
    from ebmodel.files import read_table

    covariates, expression, columns = asked.covariates, asked.expression, asked.covariate_columns
    expect(covariates is not None or columns is None, "--covariates FILE", "--covariate-columns alone",
           "the command line", "give the file")  # fmt: skip
    X, Y = read_table(asked.genotypes), read_table(expression)
    if asked.snps is not None:
        X = _take(X, _snp_names(asked.snps), f"genotypes {asked.genotypes}", "SNP")
    if covariates is None:
        return X, _tissues(Y, asked.tissues, expression), None
    shared = covariates.exists() and covariates.samefile(expression)
    C = Y if shared else read_table(covariates)
    if columns is not None:
        C = _take(C, _split(columns), f"covariates {covariates}", "column")
    if shared:
        Y = Y[[name for name in Y.columns if name not in set(C.columns)]]
        got = f"every column of it taken as a covariate ({listed(C.columns, 3)})"
        expect(Y.shape[1] > 0, "tissues in the expression file", got, str(expression), "give --covariate-columns")
    return X, _tissues(Y, asked.tissues, expression), C


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


def slab_shape(text: str) -> str | float:
    """A power as a number, a word as it is."""
    try:
        return float(text)
    except ValueError:
        return text  # a word, which the fit knows or refuses


# Results -------------------------------------------------------------------------------------------------------------


def check_file(out: Path) -> None:
    """Refuse a result that could not be written, before the work.

    Raises
    ------
    InputError
        If the ending is not .nc or .zarr, or the place cannot be written.
    """
    from ebmodel.errors import expect
    from ebmodel.files import check_writable

    expect(out.suffix in (".nc", ".zarr"), "a name ending in .nc or .zarr", repr(out.name), "--out", "rename it")
    check_writable(out)


def check_folder(out: Path) -> None:
    """Refuse a folder that could not be made or written, before the work; make nothing yet.

    Raises
    ------
    InputError
        If a file is in the way, or permission is missing.
    """
    from ebmodel.errors import expect

    there = next(path for path in (out, *out.absolute().parents) if path.exists())
    expect(there.is_dir(), "a folder that can be made", f"a file, {there}", str(out), "choose another")
    expect(os.access(there, os.W_OK), "a folder that can be written", "permission denied", str(out), "choose another")


def make_folder(out: Path) -> None:
    """Make a folder, and those above it.

    Raises
    ------
    InputError
        If it cannot be made.
    """
    from ebmodel.errors import InputError

    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError("a folder that can be made", str(error.strerror), str(out), "choose another") from error


def write_fit(fit: Fit, out: Path) -> None:
    """Write a fit in the format that the name asks for."""
    (fit.to_zarr if out.suffix == ".zarr" else fit.to_netcdf)(out)


def console(*, quiet: bool) -> Console:
    """A console that leaves tables whole where nobody is at a terminal."""
    say = Console(quiet=quiet)
    return say if say.is_terminal else Console(quiet=quiet, width=WIDTH)


def strict(value: Any) -> Any:
    """The same without NaN, which JSON does not have."""
    if isinstance(value, dict):
        return {name: strict(one) for name, one in value.items()}
    if isinstance(value, list):
        return [strict(one) for one in value]
    return None if value != value else value  # noqa: PLR0124


def say_notes(notes: list[str]) -> None:
    """Print notes on stderr, one a line."""
    for note in notes:
        typer.echo(f"note: {note}", err=True)


def say_where(say: Console, files: list[Path]) -> None:
    """Print where results went."""
    for path in files:  # unbroken, so that a path can be copied
        say.print(f"Wrote {path}", markup=False, highlight=False, soft_wrap=True)
