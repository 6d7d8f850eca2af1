"""Tables from files, and files written whole or not at all.

Tables have samples in rows and their names in the first column: csv or tsv (also .gz), or parquet. Genotypes may also
be PLINK .bed or .pgen, VCF or BCF (`ebmodel.genotypes`).
"""

from __future__ import annotations

import errno
import gzip
import os
import shutil
import time
import uuid
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import xarray as xr

from ebmodel import genotypes
from ebmodel.errors import InputError, expect, listed

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "Stored",
    "check_writable",
    "open_dataset",
    "read_table",
    "reading",
    "write_dataset",
    "write_figure",
    "write_table",
    "writing",
]

ZARR_MARK = "zarr.json"  # what makes a folder a Zarr store, which may be written over
PNG_DPI = 150
NETCDF_OVERHEAD = 2**17
"""Bytes that a NetCDF file has beside its numbers, generously."""
REMOVALS, PAUSE = 50, 0.02
"""How often a folder is removed until it is gone, and seconds in between."""
SEPARATORS = {".csv": ",", ".tsv": "\t", ".txt": "\t"}


def read_table(path: str | Path) -> pd.DataFrame:
    """Read samples x columns from csv, tsv (both also .gz) or parquet; the first column names the samples.

    Genotypes are also read from PLINK .bed (its .fam and .bim beside it) and .pgen (.psam and .pvar), .vcf and .bcf
    (also .gz), as allele counts.

    Returns
    -------
    DataFrame
        Sample names (text) as index; ``attrs["source"]`` is the path, for error messages. Empty cells, ``NA`` and
        ``NaN`` are missing.

    Raises
    ------
    InputError
        If the file is missing, empty, truncated, ragged, of another kind, or repeats a name; or if the reader of its
        kind is not installed (``pip install "ebmodel[genotypes]"``).
    """
    path = Path(path)
    expect(path.exists(), "a table", "no such file", str(path), "check the path")
    expect(path.is_file(), "a table", "a folder", str(path), "give a file")
    expect(path.stat().st_size > 0, "a table", "an empty file", str(path), "write it again")
    suffixes = [s.lower() for s in path.suffixes if s.lower() != ".gz"]
    kind = suffixes[-1] if suffixes else ""
    try:
        if kind in genotypes.KINDS:
            frame = genotypes.read_genotypes(path)
            frame.attrs["source"] = str(path)
            return frame
        if kind == ".parquet":
            table = _read_parquet(path)
        elif kind in SEPARATORS:
            table = _read_text(path, SEPARATORS[kind])
        else:
            known = "a .csv, .tsv or .parquet file (.gz too), or genotypes as .bed, .pgen, .vcf or .bcf"
            raise InputError(known, f"{kind or 'no ending'}", str(path), "convert it")
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError("a whole gzip file", _one_line(error), str(path), "fetch or compress it again") from error
    except pa.ArrowInvalid as error:
        do = "give every row the same columns, as UTF-8 text" if kind in SEPARATORS else "write it again"
        raise InputError("a rectangular table", _one_line(error), str(path), do) from error
    except OSError as error:
        raise InputError("a readable file", _one_line(error), str(path), "fetch or write it again") from error
    columns = pd.Index(table.column_names[1:])
    expect(len(columns) > 0, "a column of names and one of values", f"{len(table.column_names)}", str(path), "add data")
    expect(table.num_rows > 0, "at least one sample", "a header alone", str(path), "add data")
    twice = columns[columns.duplicated()].unique()
    expect(len(twice) == 0, "each column once", f"{listed(twice)} more than once", str(path), "make names unique")
    frame = pd.DataFrame({name: table.column(j + 1).to_pandas() for j, name in enumerate(columns)})
    names = table.column(0).to_pandas()
    unnamed = names.isna().to_numpy().nonzero()[0]
    got = f"none in row {unnamed[0] + 1} of the samples" if len(unnamed) else ""
    expect(len(unnamed) == 0, "a sample name in the first column", got, str(path), "name the sample")
    frame.index = pd.Index(names.astype(str), name=table.column_names[0])
    frame.attrs["source"] = str(path)
    return frame


def _read_text(path: Path, separator: str) -> pa.Table:
    with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as source:
        text = source.read().removeprefix(b"\xef\xbb\xbf")  # the mark that spreadsheets put before UTF-8
    header, _, rows = text.partition(b"\n")
    names = [name.strip('"') for name in header.decode(errors="replace").rstrip("\r").split(separator)]
    expect(any(names), "a header line", "an empty one", str(path), "name the columns")
    expect(bool(rows.strip()), "at least one sample", "a header alone", str(path), "add data")
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
        If the folder is missing or cannot be written, or ``path`` is a folder that is no Zarr store.
    """
    path = Path(path)
    check_writable(path)
    temporary, old = (path.parent / f".{path.name}.{uuid.uuid4().hex[:8]}.{end}" for end in ("part", "old"))
    try:
        yield temporary
        if path.is_dir():  # a folder cannot be replaced in one step: move the old one away first
            path.rename(old)
        temporary.replace(path)
    except OSError as error:
        if old.exists() and not path.exists():
            old.rename(path)
        got = error.strerror or _one_line(error)
        raise InputError("a place that can be written", got, str(path), "choose another or make room") from error
    finally:
        for left in (temporary, old):
            _remove(left)


def _remove(path: Path) -> None:
    """Remove a file, or a folder into which threads of Zarr's may still write after one of them has failed.

    What then still cannot be removed is left: an error here would take the place of the one that says why.
    """
    if path.is_file():
        path.unlink()
    for _ in range(REMOVALS):
        if not path.exists():
            return
        shutil.rmtree(path, ignore_errors=True)
        time.sleep(PAUSE)


class Stored:
    """Results that are all in one Dataset, and are written with it; ``open_fit`` of their module reads them back."""

    dataset: xr.Dataset

    def to_netcdf(self, path: str | Path) -> None:
        """Write to a NetCDF file, whole or not at all.

        Parameters
        ----------
        path
            Of the file; one that is there is replaced.

        Raises
        ------
        InputError
            If the folder is missing or cannot be written, or ``path`` is a folder that is no Zarr store.
        """
        write_dataset(path, self.dataset, zarr=False)

    def to_zarr(self, path: str | Path) -> None:
        """Write to a Zarr store, whole or not at all.

        Parameters
        ----------
        path
            Of the store, a folder; a store that is there is replaced.

        Raises
        ------
        InputError
            If the folder is missing or cannot be written, or ``path`` is a folder that is no Zarr store.
        """
        write_dataset(path, self.dataset, zarr=True)


def write_dataset(path: str | Path, data: xr.Dataset | xr.DataTree, *, zarr: bool | None = None) -> Path:
    """Write to a NetCDF file or a Zarr store, whole or not at all.

    Parameters
    ----------
    path
        Of the file or folder; one that is there is replaced.
    data
        What to write.
    zarr
        Whether as a Zarr store; if None, where the name ends in .zarr.

    Returns
    -------
    Path
        As given.

    Raises
    ------
    InputError
        As `writing`, or if there is no room.
    """
    path = Path(path)
    with writing(path) as temporary:
        if path.suffix == ".zarr" if zarr is None else zarr:
            data.to_zarr(temporary, mode="w", zarr_format=3, consolidated=False)
        else:
            _find_room(temporary, data.nbytes)
            data.to_netcdf(temporary, engine="h5netcdf")
    return path


def _find_room(path: Path, size: int) -> None:
    """Fail now where a file of this size cannot be written: HDF5, stopped halfway, takes the whole process with it."""
    if not hasattr(os, "posix_fallocate"):  # macOS
        return
    with path.open("wb") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, size + size // 4 + NETCDF_OVERHEAD)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):  # a file system that cannot say
                raise
        finally:
            path.unlink()


def open_dataset(path: str | Path, mark: str, what: str) -> xr.Dataset:
    """Read a Dataset from a NetCDF file or a Zarr store, all of it.

    Parameters
    ----------
    path
        Of the file or folder.
    mark
        A variable that tells it from others.
    what
        It is, for error messages.

    Raises
    ------
    InputError
        If the path is missing or holds something else.
    """
    with reading(path, what, "fit again") as settings, xr.open_dataset(path, **settings) as source:
        dataset: xr.Dataset = source.load()
    expect(mark in dataset, what, "another file", str(path), "check the path")
    return dataset


@contextmanager
def reading(path: str | Path, what: str, do: str) -> Iterator[dict[str, Any]]:
    """Give xarray's settings for a NetCDF file or a Zarr store; what goes wrong with it is an `InputError`.

    Parameters
    ----------
    path
        Of the file or folder.
    what
        It should be.
    do
        The remedy, if it cannot be read.

    Raises
    ------
    InputError
        If the path is missing or cannot be read.
    """
    path = Path(path)
    expect(path.exists(), what, "no such file", str(path), "check the path")
    try:
        yield {"engine": "zarr", "consolidated": False} if path.is_dir() else {"engine": "h5netcdf"}
    except InputError:
        raise
    except (OSError, ValueError, KeyError) as error:
        raise InputError(what, f"{error}".split("\n")[0], str(path), do) from error


def write_table(path: Path, table: pd.DataFrame, *, index: bool = False) -> Path:
    """Write a tab-separated table, gzipped where its name says so; the same table is the same file."""
    text = table.to_csv(sep="\t", index=index, float_format="%.6g").encode()
    with writing(path) as temporary:
        temporary.write_bytes(gzip.compress(text, mtime=0) if path.suffix == ".gz" else text)  # without name and time
    return path


def write_figure(path: Path, drawn: Figure | Axes) -> Path:
    """Write a figure, or that of its axes, as PNG, whole or not at all."""
    figure: Any = drawn if hasattr(drawn, "savefig") else drawn.get_figure(root=True)
    with writing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=PNG_DPI)
    return path


def check_writable(path: str | Path) -> None:
    """Refuse a path that `writing` could not write, before the work that leads up to it.

    Raises
    ------
    InputError
        As `writing`.
    """
    path = Path(path)
    folder, where = path.parent, f"the output path {path}"
    expect(folder.is_dir(), "an existing folder", f"no folder {str(folder)!r}", where, "make it first")
    expect(os.access(folder, os.W_OK), "a folder that can be written", "permission denied", where, "choose another")
    if path.is_dir():
        expect((path / ZARR_MARK).is_file(), "a file or a Zarr store", "another folder", where, "choose another name")
