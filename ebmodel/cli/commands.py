"""Help that can be read in a terminal of 80 columns: prose, examples to copy, and options by what they are for."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Iterable
from typing import Any, override

import typer
from typer.core import TyperCommand, TyperGroup

__all__ = ["Command", "Group", "examples"]

NAMES = 24
"""Characters for the names of options; the help of a longer one begins on the next line."""
LINE, HINT = 80, 60
"""Characters of a line, and of the help beside a completion: a shell shows one line."""
ARGUMENTS, OTHERS, LAST = "Arguments", "Options", "Output"
"""Sections of their own; that of options on the output comes last."""


def examples(text: str) -> list[list[str]]:
    """Calls of ebmodel among the indented lines of a help text, split as a shell would."""
    lines = "\n".join(part for part in _paragraphs(text) if part.startswith(" "))
    calls = (shlex.split(line, comments=True) for line in lines.replace("\\\n", " ").splitlines())
    return [call for call in calls if call[:1] == ["ebmodel"]]


def _paragraphs(text: str) -> list[str]:
    return textwrap.dedent(text).strip().split("\n\n")


def _write_prose(text: str, formatter: Any, title: str = "") -> None:
    """Paragraphs are wrapped, but for indented ones: these are shown as they stand, the first below a title."""
    for part in _paragraphs(text):
        formatter.write_paragraph()
        if part.startswith(" "):
            if title:
                formatter.write_heading(typer.style(title, bold=True))
            formatter.write(textwrap.indent(textwrap.dedent(part), "  " if title else "    ") + "\n")
        else:
            with formatter.indentation():
                formatter.write_text(part)


def _write_options(params: Iterable[Any], ctx: Any, formatter: Any) -> None:
    """One section for each panel, in the order in which they come."""
    sections: dict[str, list[tuple[str, str]]] = {}
    for param in params:
        record = param.get_help_record(ctx)
        if record is None:
            continue
        if param.param_type_name == "argument":
            title, name = ARGUMENTS, param.metavar
        else:
            title, name = getattr(param, "rich_help_panel", None) or OTHERS, record[0]
        if param.name == "help" and LAST in sections:
            title = LAST
        sections.setdefault(title, []).append((f"{name:<{NAMES}}", record[1]))
    for title, rows in sorted(sections.items(), key=lambda section: section[0] == LAST):
        with formatter.section(typer.style(title, bold=True)):
            formatter.write_dl(rows, col_max=NAMES)


def _shortened(items: list[Any]) -> list[Any]:
    for item in items:
        item.help = item.help and textwrap.shorten(item.help, HINT, placeholder=" ...")
    return items


class Command(TyperCommand):
    """A command."""

    @override
    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """What has to be given, by name, before what may be."""
        needed = [param for param in self.params if param.required]
        named = [
            f"{param.opts[0]} {param.metavar}" if param.param_type_name == "option" else str(param.metavar)
            for param in sorted(needed, key=lambda param: param.param_type_name)  # arguments first
        ]
        return [*named, str(self.options_metavar)]

    @override
    def format_help_text(self, ctx: Any, formatter: Any) -> None:
        """Write the docstring."""
        _write_prose(self.help or "", formatter, "Examples")

    @override
    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write arguments and options."""
        _write_options(self.get_params(ctx), ctx, formatter)

    @override
    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """Names of options, each with the beginning of its help."""
        return _shortened(super().shell_complete(ctx, incomplete))


class Group(TyperGroup):
    """A command that has others."""

    @override
    def format_help_text(self, ctx: Any, formatter: Any) -> None:
        """Write what they are for."""
        _write_prose(self.help or "", formatter)

    @override
    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the commands, then options."""
        rows = [(name, command.get_short_help_str(LINE)) for name, command in self.commands.items()]
        with formatter.section(typer.style("Commands", bold=True)):
            formatter.write_dl(rows)
        _write_options(self.get_params(ctx), ctx, formatter)

    @override
    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write where to begin."""
        _write_prose(self.epilog or "", formatter)

    @override
    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """Names of commands and options, each with the beginning of its help."""
        items = super().shell_complete(ctx, incomplete)
        for item in items:
            if item.value in self.commands:
                item.help = self.commands[item.value].get_short_help_str(LINE)
        return _shortened(items)
