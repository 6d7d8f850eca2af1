"""``ebmodel check``: every assumption of the model on the data of a stored fit, and a report to send."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ebmodel.cli import options as o
from ebmodel.cli.inputs import split_names
from ebmodel.cli.output import Output, cell, check_folder, folder
from ebmodel.errors import expect, listed

if TYPE_CHECKING:
    import xarray as xr

FLAGGED = ("fails", "doubtful")
STYLES = {"fails": "bold red", "doubtful": "yellow", "no sign against it": "green", "not checked": "dim"}
PLUG_IN = (
    "without refits p-values are plug-in ones, too large: a violation they find is there, one they do not find may be"
)


def check(
    stored_fit: Annotated[Path, typer.Argument(metavar="FIT", help="A fit stored by ebmodel fit.")],
    posterior: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Stored draws of the same model and data: reference data come from them.",
            rich_help_panel=o.DATA,
        ),
    ] = None,
    groups: Annotated[
        str | None,
        typer.Option(
            metavar="names|FILE",
            help="Related tissues: by the first word of their names, or a table of tissues and their groups.",
            rich_help_panel=o.DATA,
            autocompletion=o.words({"names": "by the first word of each name"}),
        ),
    ] = None,
    only: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="Checks to make, separated by commas; all if not given.",
            rich_help_panel=o.COMPUTATION,
            autocompletion=o.several(o.CHECKS),
        ),
    ] = None,
    replicates: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=1,
            help="Data sets drawn from the fit; the least p-value is 1/(N + 1).",
            rich_help_panel=o.COMPUTATION,
        ),
    ] = 199,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick",
            help="Do not fit the drawn data: faster, and p-values are too large.",
            rich_help_panel=o.COMPUTATION,
        ),
    ] = False,
    seed: o.Seed = 0,
    jobs: o.Jobs = 1,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Folder for report.html, figures and results, made if not there; nothing is kept without.",
            rich_help_panel=o.OUTPUT,
        ),
    ] = None,
    quiet: o.Quiet = False,
    as_json: o.AsJson = False,
) -> None:
    """Check every assumption of the model on the data of a stored fit.

    Data are drawn from the fit and fitted again, to see how large each discrepancy is where the model holds. Prints
    what was found and what to do about it. A check that fails is a finding: exit status 0. The folder gets report.html,
    which can be sent alone, its figures, checks.nc and checks.csv.

        ebmodel check gene.nc --out checked
        ebmodel check gene.nc --quick --only normal-errors,linearity
    """
    import ebmodel
    from ebmodel.reports import report

    if out is not None:
        check_folder(out)
    output = Output(quiet=quiet, as_json=as_json)
    fit = ebmodel.open_fit(stored_fit)
    tree = None if posterior is None else ebmodel.open_posterior(posterior)
    comparison = None if tree is None else ebmodel.compare(fit, tree)  # refuses draws of other data
    found = ebmodel.check(
        fit if tree is None else tree, _names(only), replicates, refit=not quick, groups=_groups(groups), seed=seed,
        jobs=jobs, progress=output.talks,
    )  # fmt: skip
    files: list[Path] = []
    if out is not None:
        with folder(out) as (inside, places), output.status("Drawing figures ..."):
            title = f"Fit {stored_fit.stem}"
            page = report(fit, found, tree, comparison, inside / "report.html", title, figures=inside)
            files = places([*_write(found, inside), *page])
    summary = _summary(found, comparison) | {"out": [str(path) for path in files]}  # what `files` was called before
    output.report(summary, lambda plain: _show(plain, output), _notes(found), files)


def _names(only: str | None) -> list[str] | None:
    if only is None:
        return None
    names = split_names(only)
    expect(bool(names), "names of checks", repr(only), "--only", "name a check")
    return list(dict.fromkeys(names))


def _groups(asked: str | None) -> Any:
    """The word 'names', or the second column of a table whose first names tissues."""
    from ebmodel.files import read_table

    if asked is None or asked == "names":
        return asked
    labels = read_table(asked).iloc[:, 0]
    lacking = labels.index[labels.isna()]
    expect(len(lacking) == 0, "a group for every tissue", f"none for {listed(lacking)}", asked, "name their group")
    return labels


def _notes(found: xr.Dataset) -> list[str]:
    """What a reader of the p-values should know."""
    from ebmodel.checks.checking import CLEAR, LEVEL

    notes, given = [], found.attrs
    if not given["refitted"]:
        notes.append(PLUG_IN)
    if given["failed"]:
        notes.append(
            f"{given['failed']} of {given['replicates']} drawn data sets could not be fitted: {given['failure']}"
        )
    least = 1.0 / (1 + given["replicates"])
    for level, word in ((LEVEL, "doubtful"), (CLEAR, "fails")):
        if least > level:
            notes.append(
                f"with {given['replicates']} drawn data sets no p-value is below {least:.2g}: none is {word!r}"
            )
            break
    return notes


def _write(found: xr.Dataset, inside: Path) -> list[Path]:
    """The checks, whole and as a table."""
    from ebmodel.files import write_dataset, writing

    files = [write_dataset(inside / "checks.nc", found), inside / "checks.csv"]
    with writing(files[1]) as temporary:
        found.drop_vars("reference").to_dataframe().to_csv(temporary)
    return files


def _summary(found: xr.Dataset, comparison: xr.Dataset | None) -> dict[str, Any]:
    """Everything that is printed."""
    summary: dict[str, Any] = {
        "checks": found.drop_vars("reference").to_dataframe().reset_index().to_dict("records"),
        **{key: found.attrs[key] for key in ("replicates", "failed", "failure", "seed", "at")},
        "refitted": bool(found.attrs["refitted"]),
    }
    if comparison is not None:
        summary |= {key: comparison.attrs[key] for key in ("verdict", "findings")}
    return summary


def _show(summary: dict[str, Any], output: Output) -> None:
    """The table, and what to do about what it found."""
    from rich.table import Table
    from rich.text import Text

    rows, again = summary["checks"], "fitted again" if summary["refitted"] else "not fitted again"
    table = Table(title=f"Checks against {summary['replicates']} data sets drawn from {summary['at']}, {again}",
                  title_justify="left")  # fmt: skip
    table.add_column("check, and what was found")
    for heading in ("observed", "ref 95 %", "p", "plug-in"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("verdict", max_width=10)
    keys = {"observed": ".3g", "reference_95": ".3g", "p_value": ".3f", "p_plugin": ".3f"}
    for row in rows:
        what = Text.assemble((row["check"], "bold"), "\n", row["meaning"])
        numbers = [cell(row[key], spec) for key, spec in keys.items()]
        table.add_row(what, *numbers, Text(row["verdict"], STYLES[row["verdict"]]))
    output.show(table)
    for row in rows:
        if row["verdict"] in FLAGGED:
            state = "fails" if row["verdict"] == "fails" else "is doubtful"
            output.say(f"{row['check']} {state}. Assumed: {row['assumption']}. To do: {row['remedy']}.")
    tests = sum(row["p_plugin"] is not None for row in rows)
    if tests > 1:
        output.say(f"Of {tests} tests of a model that holds, {0.05 * tests:.1g} fall below 0.05 by chance.")
    if "verdict" in summary:
        output.say(f"Draws: {summary['verdict']}")
        output.say(f"Findings: {summary['findings']}")
