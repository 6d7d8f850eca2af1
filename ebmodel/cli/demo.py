"""``ebmodel demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ebmodel.cli import options as o
from ebmodel.cli.output import Output, check_folder, folder


def demo(
    seed: o.Seed = 0,
    out: Annotated[
        Path,
        typer.Option(
            metavar="FOLDER", help="Folder for the fit and its figures, made if not there.", rich_help_panel=o.OUTPUT
        ),
    ] = Path("ebmodel-demo"),
    quiet: o.Quiet = False,
    as_json: o.AsJson = False,
) -> None:
    """Simulate one gene, fit it, and draw the fit against the truth.

    120 donors, 8 SNPs, 30 tissues with a quarter of the responses missing, drawn from the model itself. The folder gets
    fit.nc and three figures: overview.png, and its two panels.

        ebmodel demo --out ebmodel-demo
    """
    import ebmodel
    from ebmodel import plot
    from ebmodel.demo import compare, simulate_gene
    from ebmodel.files import write_figure

    check_folder(out)
    output = Output(quiet=quiet, as_json=as_json)
    gene = simulate_gene(seed)
    with output.status(o.FITTING):
        fit = ebmodel.fit(gene.X, gene.Y)
    with folder(out) as (inside, places), output.status("Drawing figures ..."):
        fit.to_netcdf(inside / "fit.nc")
        units = "expression per allele"
        axes: dict[str, Any] = {
            "overview.png": plot.overview(fit, gene.active, units=units),
            "posterior_probability.png": plot.posterior_probability(fit, gene.active),
            "shrinkage.png": plot.shrinkage(fit, units=units),
        }
        files = places([inside / "fit.nc", *(write_figure(inside / name, ax) for name, ax in axes.items())])
    sizes = gene.sizes
    summary = {
        "samples": sizes["sample"], "snps": sizes["snp"], "tissues": sizes["tissue"],
        "active": int(gene.active.sum()), "missing": gene.attrs["missing"], "seed": seed,
        "comparison": [row._asdict() for row in compare(fit, gene)],
    }  # fmt: skip
    output.report(summary, lambda found: _show(found, output), files=files)


def _show(summary: dict[str, Any], output: Output) -> None:
    from rich.table import Table

    output.say(
        f"Simulated {summary['samples']} samples, {summary['snps']} SNPs, {summary['tissues']} tissues "
        f"({summary['active']} active), {summary['missing']:.0%} of responses missing."
    )
    table = Table("", title="Truth and fit", title_justify="left")
    for heading in ("truth", "fit", "least squares"):
        table.add_column(heading, justify="right")
    for row in summary["comparison"]:
        numbers = (row[name] for name in ("truth", "fit", "least_squares"))
        table.add_row(row["what"], *("" if number is None else f"{number:.3g}" for number in numbers))
    output.show(table)
