"""What commands say, in one way for all: tables or JSON on stdout, notes on stderr; and where results go."""

from __future__ import annotations

import json
import math
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.status import Status

__all__ = ["Output", "cell", "check_file", "check_folder", "folder", "plain"]

WIDTH = 120
"""Characters a line where there is no terminal, so that tables stay whole."""


class Output:
    """What a command says.

    Parameters
    ----------
    quiet
        Only notes, on stderr.
    as_json
        One JSON document on stdout, which has the notes too, and nothing else.
    """

    def __init__(self, *, quiet: bool, as_json: bool) -> None:
        self.as_json = as_json
        self.talks = not (quiet or as_json)
        """Whether there is anything to read, or progress to see, before the end."""

    @cached_property
    def console(self) -> Console:
        """Where tables go."""
        from rich.console import Console

        say = Console(quiet=not self.talks)
        if say.is_terminal or "COLUMNS" in os.environ:
            return say
        return Console(quiet=not self.talks, width=WIDTH)

    def say(self, text: str, *, unbroken: bool = False) -> None:
        """Print a line; ``unbroken`` if it is to be copied."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=unbroken)

    def show(self, table: Any) -> None:
        """Print what Rich can."""
        self.console.print(table)

    def status(self, text: str) -> Status:
        """Say on stderr what is being done, while it is: where somebody is at a terminal."""
        from rich.console import Console

        return Console(stderr=True, quiet=not self.talks).status(text)

    def report(
        self,
        summary: dict[str, Any],
        show: Callable[[dict[str, Any]], None],
        notes: Iterable[str] = (),
        files: Iterable[Path] = (),
    ) -> None:
        """Say what came out.

        Parameters
        ----------
        summary
            Everything, for JSON.
        show
            Prints the same for people, given the summary as `plain` makes it.
        notes
            What a reader should know.
        files
            What was written.
        """
        found = plain(summary)
        if self.as_json:
            every = found | {"notes": list(notes), "files": [str(path) for path in files]}
            typer.echo(json.dumps(every, indent=2, allow_nan=False))
            return
        for note in notes:
            typer.echo(f"note: {note}", err=True)
        if self.talks:
            show(found)
        for path in files:
            self.say(f"Wrote {path}", unbroken=True)


def plain(value: Any) -> Any:
    """The same as JSON has it: no NumPy, no paths, and None where a number is not finite."""
    if isinstance(value, dict):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, Path):
        return str(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value


def cell(value: float | None, spec: str) -> str:
    """A number in a table, or a dash where there is none."""
    return "-" if value is None else format(value, spec)


# Where results go ----------------------------------------------------------------------------------------------------


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


def check_folder(out: Path) -> Path:
    """Refuse a folder that could not be made or written, before the work; make nothing yet.

    Returns
    -------
    Path
        What is there of it: the folder, or the one in which it is to be made.

    Raises
    ------
    InputError
        If a file is in the way, or permission is missing.
    """
    from ebmodel.errors import expect

    there = next(path for path in (out, *out.absolute().parents) if path.exists())
    expect(there.is_dir(), "a folder that can be made", f"a file, {there}", str(out), "choose another")
    expect(os.access(there, os.W_OK), "a folder that can be written", "permission denied", str(out), "choose another")
    return there


@contextmanager
def folder(out: Path) -> Iterator[tuple[Path, Callable[[Iterable[Path]], list[Path]]]]:
    """Give a temporary folder whose files go to ``out`` at the end, all of them or none, and what tells their places.

    Files of ``out`` that have none of these names stay.

    Raises
    ------
    InputError
        If ``out`` cannot be made or written.
    """
    from ebmodel.errors import InputError, expect

    temporary = check_folder(out) / f".{out.absolute().name}.{uuid.uuid4().hex[:8]}.part"

    def places(paths: Iterable[Path]) -> list[Path]:
        return [out / path.relative_to(temporary) if path.is_relative_to(temporary) else path for path in paths]

    try:
        temporary.mkdir()
        yield temporary, places
        written = [path for path in temporary.rglob("*") if path.is_file()]
        for place in places(written):
            check_folder(place.parent)
            expect(not place.is_dir(), "a file that can be written", "a folder", str(place), "move it")
        for path, place in zip(written, places(written), strict=True):
            place.parent.mkdir(parents=True, exist_ok=True)
            path.replace(place)
    except InputError as error:
        raise InputError(*(part.replace(str(temporary), str(out)) for part in error.parts)) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
