"""The command line: ``ebmodel fit``, ``sample``, ``compare``, ``check``, ``simulate``, ``demo``, ``gtex`` and ``mash``.

What is heavy to import is imported inside the commands, so that help and usage errors come at once. Bad input ends in
one line on stderr and exit status 2; results are written whole or not at all.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import typer

from ebmodel.cli import bayes, gtex, mash
from ebmodel.cli import check as checking
from ebmodel.cli import demo as demonstration
from ebmodel.cli import fit as fitting
from ebmodel.cli import simulate as simulation

__all__ = ["app", "main"]

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["--help", "-h"]},
    pretty_exceptions_enable=False,
    help="Empirical-Bayes multi-tissue eQTL regression (Xue & Li): fit it, look at it, check it.",
)
for command in (fitting.fit, bayes.sample, bayes.compare, checking.check, simulation.simulate, demonstration.demo):
    app.command()(command)
app.add_typer(gtex.app, name="gtex")
app.add_typer(mash.app, name="mash")


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line; exit status 0, or 2 with one line on stderr if the input cannot be used."""
    from ebmodel.errors import InputError

    try:
        app(args=args, prog_name="ebmodel")
    except InputError as error:
        typer.echo(f"error: {' '.join(str(error).split())}", err=True)
        sys.exit(2)
