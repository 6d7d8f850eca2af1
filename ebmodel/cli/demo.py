"""``ebmodel demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from ebmodel.cli import options as o


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
    from ebmodel.files import check_writable, write_figure

    o.make_folder(out)
    files = [out / name for name in ("fit.nc", "posterior_probability.png", "shrinkage.png")]
    check_writable(files[0])
    say = Console()
    gene = simulate_gene(seed)
    with say.status(o.FITTING):
        fit = ebmodel.fit(gene.X, gene.Y)
    fit.to_netcdf(files[0])
    axes = plot.posterior_probability(fit, gene.active), plot.shrinkage(fit, units="expression per allele")
    for ax, path in zip(axes, files[1:], strict=True):
        write_figure(path, ax)

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
    o.say_where(say, files)
