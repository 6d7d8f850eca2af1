"""The commands, and what is said of them all."""

from __future__ import annotations

from typing import Annotated

import typer

import ebmodel
from ebmodel.cli import bayes, gtex, mash
from ebmodel.cli.check import check
from ebmodel.cli.commands import Command, Group
from ebmodel.cli.demo import demo
from ebmodel.cli.fit import fit
from ebmodel.cli.simulate import simulate

__all__ = ["app"]

app = typer.Typer(
    cls=Group,
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["--help", "-h"]},
    pretty_exceptions_enable=False,
    help="""
    Empirical-Bayes multi-tissue eQTL regression (Xue & Li): for one gene, in which tissues do its cis-SNPs act, and how
    strongly?

    To see what it does, and then to try it on a gene whose truth is known:

        ebmodel demo
        ebmodel simulate --setting 3 --rho 0.4 --signal 2 --seed 7 --out gene
        ebmodel fit --genotypes gene/genotypes.csv.gz \\
            --expression gene/expression.csv --out gene.nc
        ebmodel check gene.nc --out checked
    """,
    epilog="""
    Every command explains itself: ebmodel fit --help. With --json it prints one JSON document, with --quiet nothing but
    notes and errors. Results are written whole or not at all.

    Exit status: 0 if done, whatever was found; 1 with a traceback for an error of the program's own; 2 with a line on
    stderr for what cannot be used; 130 if interrupted; 141 if nobody reads the output.
    """,
)
for command in (demo, simulate, fit, check, bayes.sample, bayes.compare):
    app.command(cls=Command)(command)
app.add_typer(gtex.app, name="gtex")
app.add_typer(mash.app, name="mash")


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"ebmodel {ebmodel.__version__}")
        raise typer.Exit


@app.callback()
def _every(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass
