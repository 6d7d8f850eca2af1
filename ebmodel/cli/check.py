"""``ebmodel check``: every assumption of the model on the data of a stored fit, and a report to send."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ebmodel.cli import options as o

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
        typer.Option(metavar="FILE", help="Stored draws of the same model and data: reference data come from them."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Folder for report.html, figures and results, made if not there."),
    ] = None,
    replicates: Annotated[
        int, typer.Option(metavar="N", min=1, help="Data sets drawn from the fit; the least p-value is 1/(N + 1).")
    ] = 199,
    quick: Annotated[
        bool, typer.Option("--quick", help="Do not fit the drawn data: faster, and p-values are too large.")
    ] = False,
    groups: Annotated[
        str | None,
        typer.Option(
            metavar="names|FILE",
            help="Related tissues: by the first word of their names, or a table of tissues and their groups.",
        ),
    ] = None,
    only: Annotated[
        str | None, typer.Option(metavar="NAMES", help="Checks to make, separated by commas; all if not given.")
    ] = None,
    seed: o.Seed = 0,
    jobs: Annotated[int, typer.Option(metavar="N", help="Processes; -1 for all cores.")] = 1,
    quiet: o.Quiet = False,
    as_json: o.AsJson = False,
) -> None:
    """Check every assumption of the model on the data of a stored fit.

    Data are drawn from the fit and fitted again, to see how large each discrepancy is where the model holds. Prints
    what was found and what to do about it. A check that fails is a finding: exit status 0. The folder gets report.html,
    which can be sent alone, its figures, checks.nc and checks.csv.

    [bold]Example[/bold]: ebmodel check gene.nc --groups names --out gene-checks
    """
    import ebmodel
    from ebmodel.reports import report

    if out is not None:
        o.check_folder(out)
    say = Console(quiet=quiet or as_json)
    fit = ebmodel.open_fit(stored_fit)
    tree = None if posterior is None else ebmodel.open_posterior(posterior)
    comparison = None if tree is None else ebmodel.compare(fit, tree)  # refuses draws of other data
    found = ebmodel.check(
        fit if tree is None else tree, _names(only), replicates, refit=not quick, groups=_groups(groups), seed=seed,
        jobs=jobs, progress=not (quiet or as_json),
    )  # fmt: skip
    notes = _notes(found)
    files: list[Path] = []
    if out is not None:
        o.make_folder(out)
        with say.status("Drawing figures ..."):
            page = report(fit, found, tree, comparison, out / "report.html", f"Fit {stored_fit.stem}", figures=out)
        files = [*_write(found, out), *page]
    if as_json:
        typer.echo(json.dumps(_summary(found, comparison, notes, files), indent=2))
    else:
        o.say_notes(notes)
    _show(found, comparison, say)
    o.say_where(say, files)


def _names(only: str | None) -> list[str] | None:
    from ebmodel.errors import expect

    if only is None:
        return None
    names = [name.strip() for name in only.split(",") if name.strip()]
    expect(bool(names), "names of checks", repr(only), "--only", "name a check")
    return list(dict.fromkeys(names))


def _groups(asked: str | None) -> Any:
    """The word 'names', or the second column of a table whose first names tissues."""
    from ebmodel.errors import expect, listed
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


def _write(found: xr.Dataset, out: Path) -> list[Path]:
    """The checks, whole and as a table."""
    from ebmodel.files import writing

    files = [out / "checks.nc", out / "checks.csv"]
    with writing(files[0]) as temporary:
        found.to_netcdf(temporary, engine="h5netcdf")
    with writing(files[1]) as temporary:
        found.drop_vars("reference").to_dataframe().to_csv(temporary)
    return files


def _summary(found: xr.Dataset, comparison: xr.Dataset | None, notes: list[str], files: list[Path]) -> dict[str, Any]:
    """Everything that is printed, as plain numbers; None where a number is not finite."""
    import numpy as np

    rows = found.drop_vars("reference").to_dataframe().reset_index().to_dict("records")
    summary: dict[str, Any] = {
        "checks": [
            {k: v if isinstance(v, str) else float(v) if np.isfinite(v) else None for k, v in row.items()}
            for row in rows
        ],
        **{key: found.attrs[key] for key in ("replicates", "failed", "failure", "seed", "at")},
        "refitted": bool(found.attrs["refitted"]),
        "notes": notes,
        "out": [str(path) for path in files],
    }
    if comparison is not None:
        summary |= {key: comparison.attrs[key] for key in ("verdict", "findings")}
    return summary


def _show(found: xr.Dataset, comparison: xr.Dataset | None, say: Console) -> None:
    """The table, and what to do about what it found."""
    import numpy as np

    given, rows = found.attrs, found.drop_vars("reference").to_dataframe().reset_index().to_dict("records")
    again = "fitted again" if given["refitted"] else "not fitted again"
    table = Table(title=f"Checks against {given['replicates']} data sets drawn from {given['at']}, {again}",
                  title_justify="left")  # fmt: skip
    table.add_column("check, and what was found")
    for heading in ("observed", "ref 95 %", "p", "plug-in"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("verdict", max_width=10)
    keys = {"observed": ".3g", "reference_95": ".3g", "p_value": ".3f", "p_plugin": ".3f"}
    for row in rows:
        cells = [format(row[key], spec) if np.isfinite(row[key]) else "-" for key, spec in keys.items()]
        what = Text.assemble((row["check"], "bold"), "\n", row["meaning"])
        table.add_row(what, *cells, Text(row["verdict"], STYLES[row["verdict"]]))
    say.print(table)
    for row in rows:
        if row["verdict"] in FLAGGED:
            state = "fails" if row["verdict"] == "fails" else "is doubtful"
            say.print(f"{row['check']} {state}. Assumed: {row['assumption']}. To do: {row['remedy']}.", markup=False,
                      highlight=False)  # fmt: skip
    tests = int(np.isfinite(found["p_plugin"]).sum())
    if tests > 1:
        say.print(
            f"Of {tests} tests of a model that holds, {0.05 * tests:.1g} fall below 0.05 by chance.", highlight=False
        )
    if comparison is not None:
        say.print(f"Draws: {comparison.attrs['verdict']}", markup=False, highlight=False)
        say.print(f"Findings: {comparison.attrs['findings']}", markup=False, highlight=False)
