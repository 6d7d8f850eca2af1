"""Text files of tab-separated cells: read fast, and what is wrong with one is said with its line.

Lines count from 1, the header's. A file is decompressed by what it holds (gzip, bgzip, zstd), not by its ending.
"""

from __future__ import annotations

import gzip
import io
import re
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, cast

import pandas as pd
import pyarrow as pa
import pyarrow.csv

from ebmodel.errors import InputError, expect, listed

__all__ = [
    "MISSING",
    "check_file",
    "check_unique",
    "one_line",
    "opened",
    "place",
    "read_columns",
    "rows",
]

MISSING = ("", "NA", "NaN", "nan", "na", "N/A", ".")
"""Cells that hold no number."""
COMPRESSIONS = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
BLOCK = 1 << 24  # bytes parsed at once: some hundred rows of the widest files, so that columns come in few pieces
NUMBERS = {
    pa.int64(): (re.compile(r"-?\d+"), "a whole number"),
    pa.float64(): (re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?inf(inity)?", re.IGNORECASE), "a number"),
}


def check_file(path: Path, what: str) -> None:
    """Refuse a file that is missing, a folder or empty.

    Raises
    ------
    InputError
        If it is.
    """
    expect(path.exists(), what, "no such file", str(path), "check the path")
    expect(path.is_file(), what, "a folder", str(path), "give a file")
    expect(path.stat().st_size > 0, what, "an empty file", str(path), "fetch or write it again")


def place(path: Path, line: int, word: str = "line") -> str:
    """Where something is, for a message: ``x.bim, line 7``."""
    return f"{path}, {word} {line}"


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for reading, decompressed if it is compressed."""
    kind = _compression(path)
    with ExitStack() as stack:
        if kind == "zstd":
            native = stack.enter_context(pa.input_stream(str(path), compression=kind))
            yield stack.enter_context(io.BufferedReader(native))
        else:
            source = stack.enter_context(path.open("rb"))
            yield cast("IO[bytes]", stack.enter_context(gzip.open(source))) if kind else source


def rows(path: Path, separator: str | None = "\t") -> Iterator[tuple[int, list[str]]]:
    """Give each line's number and cells; ``None`` separates at any white space.

    Raises
    ------
    InputError
        If the file is cut off or damaged (with the number of whole lines before that), or no UTF-8 text.
    """
    line = 0  # whole ones so far
    try:
        with opened(path) as source:
            for line, raw in enumerate(source, 1):
                yield line, _text(raw, path, line).split(separator)
    except (EOFError, OSError, zlib.error) as error:
        whole, got = f"a whole {_compression(path) or 'text'} file", f"{one_line(error)} after {line} whole lines"
        raise InputError(whole, got, str(path), "fetch or compress it again") from error


def read_columns(
    path: Path,
    names: Sequence[str],
    numbers: Mapping[str, pa.DataType],
    *,
    skip: int,
    wanted: Collection[str] | None = None,
) -> pa.Table:
    """Read a file of tab-separated columns without quotes; ``MISSING`` cells of ``float64`` columns are null.

    Parameters
    ----------
    path
        The file.
    names
        Of its columns, each once.
    numbers
        Types, ``int64`` or ``float64``, of the columns that are no text.
    skip
        Lines of header before the first row.
    wanted
        The columns to return; all by default.

    Returns
    -------
    Table
        One row a line, in the order of the file.

    Raises
    ------
    InputError
        If the file cannot be read: the message has the line.
    """
    types = {name: numbers.get(name, pa.string()) for name in names}
    try:
        with pa.input_stream(str(path), compression=_compression(path)) as source:
            table = pyarrow.csv.read_csv(
                source,
                read_options=pyarrow.csv.ReadOptions(
                    column_names=list(names), skip_rows=skip, block_size=BLOCK, use_threads=False
                ),
                # an empty line counts, so that rows tell lines
                parse_options=pyarrow.csv.ParseOptions(delimiter="\t", quote_char=False, ignore_empty_lines=False),
                convert_options=pyarrow.csv.ConvertOptions(
                    column_types=types,
                    null_values=list(MISSING),
                    include_columns=[name for name in names if wanted is None or name in wanted],
                ),
            )
    except (pa.ArrowInvalid, OSError) as error:
        _blame(path, types, skip)
        raise InputError("a rectangular table", one_line(error), str(path), "write it again") from error
    expect(table.num_rows > 0, "at least one row", "a header alone", str(path), "add data")
    return table


def check_unique(names: Sequence[str] | pd.Series, what: str, path: Path) -> None:
    """Refuse a name that comes twice.

    Raises
    ------
    InputError
        With the names that do.
    """
    index = pd.Index(names)
    twice = index[index.duplicated()].unique()
    expect(len(twice) == 0, f"each {what} once", f"{listed(twice)} more than once", str(path), "make names unique")


def _blame(path: Path, types: Mapping[str, pa.DataType], skip: int) -> None:
    """Raise for the first line that does not have these columns."""
    for line, cells in rows(path):
        if line <= skip:
            continue
        got = "an empty line" if cells == [""] else str(len(cells))
        do = "give every row the header's columns, separated by tabs"
        expect(len(cells) == len(types), f"{len(types)} cells", got, place(path, line), do)
        for (name, kind), cell in zip(types.items(), cells, strict=True):
            if kind not in NUMBERS or (cell in MISSING and kind != pa.int64()):
                continue
            pattern, what = NUMBERS[kind]
            fits = pattern.fullmatch(cell.strip()) is not None
            expect(fits, f"{what} in column {name!r}", repr(cell), place(path, line), "correct it")


def _compression(path: Path) -> str | None:
    with path.open("rb") as source:
        start = source.read(4)
    return next((name for magic, name in COMPRESSIONS.items() if start.startswith(magic)), None)


def _text(raw: bytes, path: Path, line: int) -> str:
    if line == 1:
        raw = raw.removeprefix(b"\xef\xbb\xbf")  # the mark that spreadsheets put before UTF-8
    try:
        return raw.decode().rstrip("\r\n")
    except UnicodeDecodeError as error:
        got = f"byte {raw[error.start]:#04x} at place {error.start + 1}"
        raise InputError("UTF-8 text", got, place(path, line), "convert it") from error


def one_line(error: Exception) -> str:
    """The message of a library's error, some of which come as bytes, in one line."""
    said = error.args[0] if error.args and isinstance(error.args[0], bytes) else str(error)
    return " ".join((said if isinstance(said, str) else said.decode(errors="replace")).split())
