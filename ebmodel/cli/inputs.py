"""What commands read: the tables of one gene, and lists of names."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from ebmodel.cli.output import Output

__all__ = ["Inputs", "Request", "gather", "read_names", "slab_shape", "split_names"]


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


def gather(asked: Request, output: Output) -> Inputs:
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
    output.say(f"Read {read}{left_out}.")
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
        snps = asked.snps
        chosen = read_names(Path(snps[1:]), "SNP", f"--snps {snps}") if snps.startswith("@") else split_names(snps)
        X = _take(X, chosen, f"genotypes {asked.genotypes}", "SNP")
    if covariates is None:
        return X, _tissues(Y, asked.tissues, expression), None
    shared = covariates.exists() and covariates.samefile(expression)
    C = Y if shared else read_table(covariates)
    if columns is not None:
        C = _take(C, split_names(columns), f"covariates {covariates}", "column")
    if shared:
        Y = Y[[name for name in Y.columns if name not in set(C.columns)]]
        got = f"every column of it taken as a covariate ({listed(C.columns, 3)})"
        expect(Y.shape[1] > 0, "tissues in the expression file", got, str(expression), "give --covariate-columns")
    return X, _tissues(Y, asked.tissues, expression), C


def split_names(text: str) -> list[str]:
    """Names that commas separate."""
    return [name.strip() for name in text.split(",") if name.strip()]


def read_names(path: Path, what: str, where: str) -> list[str]:
    """Names in a file, one a line.

    Parameters
    ----------
    path
        Of the file.
    what
        They name, for the message.
    where
        The file was asked for, for the message.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    from ebmodel.errors import InputError

    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        got = getattr(error, "strerror", None) or "no text"
        raise InputError(f"a file with one {what} a line", got, where, "check the path") from error
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
    patterns = split_names(asked)
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
