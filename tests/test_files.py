"""Tables are read whole with their names, or refused in one line; files are written whole or not at all."""

from __future__ import annotations

import errno
import gzip
import os
import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ebmodel import InputError
from ebmodel.files import check_writable, read_table, writing

CSV = "sample,a,b\n001,1,2.5\n002,,4\n003,NA,-1e3\n"


def store(path: Path, content: str | bytes) -> Path:
    content = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_table(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    assert message.startswith("expected ")
    assert "; do " in message
    return message


@pytest.fixture
def table() -> pd.DataFrame:
    index = pd.Index(["001", "002", "003"], name="sample")
    return pd.DataFrame({"a": [1.0, np.nan, np.nan], "b": [2.5, 4.0, -1000.0]}, index)


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.csv.gz", "t.tsv.gz", "t.txt", "T.CSV", "t.v1.csv"])
def test_text_tables_are_read_with_names_as_text(tmp_path: Path, table: pd.DataFrame, name: str) -> None:
    separator = "," if "csv" in name.lower() else "\t"
    read = read_table(store(tmp_path / name, CSV.replace(",", separator)))
    pd.testing.assert_frame_equal(read, table, check_index_type=False, check_column_type=False)
    assert read.attrs["source"] == str(tmp_path / name)


@pytest.mark.parametrize("as_index", [True, False])
def test_parquet_is_read_whether_names_are_index_or_first_column(
    tmp_path: Path, table: pd.DataFrame, as_index: bool
) -> None:
    path = tmp_path / "t.parquet"
    (table if as_index else table.reset_index()).to_parquet(path)
    pd.testing.assert_frame_equal(read_table(path), table, check_index_type=False, check_column_type=False)


@pytest.mark.parametrize(
    "text",
    [
        "\ufeff" + CSV,
        CSV.replace("\n", "\r\n"),
        CSV.removesuffix("\n"),
        '"sample","a","b"' + CSV[10:],
        CSV[6:],
        CSV + "\n",
    ],
    ids=["byte-order mark", "windows lines", "no last newline", "quoted", "unnamed first column", "blank last line"],
)
def test_dialects_give_the_same_table(tmp_path: Path, table: pd.DataFrame, text: str) -> None:
    read = read_table(store(tmp_path / "t.csv", text))
    pd.testing.assert_frame_equal(read, table, check_names=False, check_index_type=False, check_column_type=False)


def test_a_late_text_cell_makes_a_column_text_and_letters_t_f_stay_letters(tmp_path: Path) -> None:
    rows = "".join(f"s{i},{i},F\n" for i in range(3000))
    read = read_table(store(tmp_path / "t.csv", f"sample,a,sex\n{rows}last,x7,T\n"))
    assert read.loc["last"].tolist() == ["x7", "T"]
    assert read.loc["s2999"].tolist() == ["2999", "F"]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("t.csv", "", "an empty file"),
        ("t.csv.gz", "", "a header line"),
        ("t.csv", "\n1,2\n", "a header line"),
        ("t.csv", "sample,a\n", "a header alone"),
        ("t.csv", "sample,a", "a header alone"),
        ("t.csv", "sample\nx\n", "one of values"),
        ("t.csv", "sample,a,b\nx,1,2\ny,1\n", "Row #3: Expected 3 columns, got 2"),
        ("t.csv", "sample,a,b\nx,1,2\ny,1,2,3\n", "Row #3: Expected 3 columns, got 4"),
        ("t.csv", "sample,a,b,a\nx,1,2,3\n", "'a' more than once"),
        ("t.csv", "sample,a\nx,1\n,2\n", "none in row 2"),
        ("t.csv", b"sample,a\n\xff\xfe,1\n", "UTF-8"),
        ("t.csv.gz", None, "a whole gzip file"),
        ("t.xlsx", "sample,a\nx,1\n", "got .xlsx"),
        ("table", "sample,a\nx,1\n", "got no ending"),
        ("t.parquet", "no parquet", "write it again"),
    ],
)
def test_unusable_tables_are_refused_in_one_line(tmp_path: Path, name: str, content: str | bytes, words: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"not gzip at all") if content is None else store(path, content)
    assert words in refusal(path)


def test_a_truncated_gzip_is_refused(tmp_path: Path) -> None:
    path = store(tmp_path / "t.csv.gz", CSV * 50)
    path.write_bytes(path.read_bytes()[:-20])
    assert "a whole gzip file" in refusal(path)


def test_a_damaged_gzip_is_refused(tmp_path: Path) -> None:
    path = store(tmp_path / "t.csv.gz", "".join(f"s{i},{i * i % 97}\n" for i in range(999)))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    assert "a whole gzip file" in refusal(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    assert "no such file" in refusal(tmp_path / "none.csv")
    assert "got a folder" in refusal(tmp_path)


def test_writing_replaces_a_file_only_at_the_end(tmp_path: Path) -> None:
    path = store(tmp_path / "result.nc", "old")
    with writing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
        assert temporary.parent == tmp_path
    assert path.read_text() == "new"
    assert names(tmp_path) == ["result.nc"]


def test_a_failure_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    path = store(tmp_path / "result.nc", "old")

    def fail() -> None:
        with writing(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["result.nc"]


def write_store(path: Path, content: str) -> None:
    with writing(path) as temporary:
        temporary.mkdir()
        (temporary / "zarr.json").write_text(content)


def test_a_zarr_store_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "result.zarr"
    for content in ("old", "new"):
        write_store(path, content)
        assert (path / "zarr.json").read_text() == content
    assert names(tmp_path) == ["result.zarr"]


def test_a_store_that_threads_still_write_into_goes_with_the_failure(tmp_path: Path) -> None:
    """As Zarr's do after one of them has failed: into the folder while it is removed, and once more when it is gone."""

    def write_on(folder: Path) -> None:
        for k in range(100):
            with suppress(OSError):
                folder.mkdir(exist_ok=True)
                (folder / str(k)).write_text("late")
            time.sleep(0.001)

    def fail() -> None:
        with writing(tmp_path / "result.zarr") as temporary:
            thread.append(threading.Thread(target=write_on, args=[temporary]))
            thread[0].start()
            time.sleep(0.02)
            raise OSError(errno.ENOSPC, "No space left on device")

    thread: list[threading.Thread] = []
    with pytest.raises(InputError, match="No space left on device"):
        fail()
    thread[0].join()
    assert names(tmp_path) == []


def test_an_ordinary_folder_is_never_written_over(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    store(tmp_path / "thesis" / "chapter1.tex", "years of work")
    with pytest.raises(InputError, match="another folder"), writing(tmp_path / "thesis") as temporary:
        temporary.write_text("x")
    assert (tmp_path / "thesis" / "chapter1.tex").read_text() == "years of work"


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"expected an existing folder, got no folder .*; do make it first"):
        check_writable(tmp_path / "none" / "result.nc")


def test_a_folder_without_permission_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)  # a superuser may write everywhere
    with pytest.raises(InputError, match=r"permission denied, in the output path .*result\.nc; do choose another"):
        check_writable(tmp_path / "result.nc")


def fill(path: Path, error: OSError) -> None:
    with writing(path) as temporary:
        temporary.write_text("half")
        raise error


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No space left on device"):
        fill(tmp_path / "result.nc", OSError(28, "No space left on device"))
    assert names(tmp_path) == []
