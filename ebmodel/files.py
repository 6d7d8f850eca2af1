"""Tables from files, and files written whole or not at all.

Tables have samples in rows and their names in the first column: csv or tsv (also .gz), or parquet.
"""

from __future__ import annotations

import gzip
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from ebmodel.errors import InputError, expect, listed

__all__ = ["read_table", "writing"]

SEPARATORS = {".csv": ",", ".tsv": "\t", ".txt": "\t"}


def read_table(path: str | Path) -> pd.DataFrame:
    """Read samples x columns from csv, tsv (both also .gz) or parquet; the first column names the samples.

    Returns
    -------
    DataFrame
        Sample names (text) as index; ``attrs["source"]`` is the path, for error messages. Empty cells, ``NA`` and
        ``NaN`` are missing.

    Raises
    ------
    InputError
        If the file is missing, empty, truncated, ragged, of another kind, or repeats a name.
    """
    path = Path(path)
    expect(path.exists(), "a table", "no such file", str(path), "check the path")
    expect(path.is_file(), "a table", "a folder", str(path), "give a file")
    expect(path.stat().st_size > 0, "a table", "an empty file", str(path), "write it again")
    suffixes = [s.lower() for s in path.suffixes if s.lower() != ".gz"]
    kind = suffixes[-1] if suffixes else ""
    try:
        if kind == ".parquet":
            table = _read_parquet(path)
        elif kind in SEPARATORS:
            table = _read_text(path, SEPARATORS[kind])
        else:
            raise InputError("a .csv, .tsv or .parquet file (.gz too)", f"{kind or 'no ending'}", str(path), "convert it")
    except (EOFError, gzip.BadGzipFile) as error:
        raise InputError("a whole gzip file", str(error), str(path), "fetch or compress it again") from error
    except pa.ArrowInvalid as error:
        raise InputError("a rectangular table", _one_line(error), str(path), "give every row the same columns") from error
    except OSError as error:
        raise InputError("a readable file", _one_line(error), str(path), "fetch or write it again") from error
    columns = pd.Index(table.column_names[1:])
    expect(len(columns) > 0, "a column of names and one of values", f"{len(table.column_names)}", str(path), "add data")
    expect(table.num_rows > 0, "at least one sample", "a header alone", str(path), "add data")
    twice = columns[columns.duplicated()].unique()
    expect(len(twice) == 0, "each column once", f"{listed(twice)} more than once", str(path), "make names unique")
    frame = pd.DataFrame({name: table.column(j + 1).to_pandas() for j, name in enumerate(columns)})
    frame.index = pd.Index(table.column(0).to_pandas().astype(str), name=table.column_names[0])
    frame.attrs["source"] = str(path)
    return frame


def _read_text(path: Path, separator: str) -> pa.Table:
    with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as source:
        text = source.read()
    header = text[: text.find(b"\n")].decode(errors="replace").rstrip("\r").split(separator)
    names = [name.strip('"') for name in header]
    expect(any(names), "a header line", "an empty one", str(path), "name the columns")
    return pyarrow.csv.read_csv(
        pa.BufferReader(text),
        # one block: a column's type is then that of all its cells, not of the first few
        read_options=pyarrow.csv.ReadOptions(block_size=len(text) + 1, use_threads=False),
        parse_options=pyarrow.csv.ParseOptions(delimiter=separator),
        convert_options=pyarrow.csv.ConvertOptions(
            column_types={names[0]: pa.string()},
            null_values=["", "NA", "NaN", "nan", "na", "N/A", "."],
            strings_can_be_null=True,
            true_values=[],
            false_values=[],
            timestamp_parsers=["not a date"],
        ),
    )


def _read_parquet(path: Path) -> pa.Table:
    table = pyarrow.parquet.read_table(path)
    # pandas keeps an index as the last column
    index = (table.schema.pandas_metadata or {}).get("index_columns", [])
    if len(index) == 1 and isinstance(index[0], str) and index[0] in table.column_names:
        table = table.select([index[0], *[name for name in table.column_names if name != index[0]]])
    return table


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


@contextmanager
def writing(path: str | Path) -> Iterator[Path]:
    """Give a temporary name beside ``path``, renamed to it at the end: a failure leaves what was there before.

    Raises
    ------
    InputError
        If the folder is missing or cannot be written.
    """
    path = Path(path)
    folder = path.parent
    expect(folder.is_dir(), "an existing folder", "none", str(folder), "make it first")
    temporary = folder / f".{path.name}.{uuid.uuid4().hex[:8]}.part"
    try:
        yield temporary
        if path.is_dir():
            shutil.rmtree(path)
        os.replace(temporary, path)
    except PermissionError as error:
        raise InputError("a folder that can be written", "permission denied", str(folder), "choose another") from error
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary)
        temporary.unlink(missing_ok=True)
