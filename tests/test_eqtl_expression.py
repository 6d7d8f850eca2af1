"""Expression and covariates are read as they were written; what is wrong is named with its line."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pysam
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebmodel import InputError
from ebmodel.eqtl import text
from ebmodel.eqtl.covariates import read_covariates
from ebmodel.eqtl.expression import read_expression, read_samples

BED = (
    "#chr\tstart\tend\tgene_id\tGTEX-A\tGTEX-B\tGTEX-C\n"
    "chr1\t99\t100\tENSG1.1\t0.5\t-1.25\t1e-3\n"
    "chr1\t99\t101\tENSG2.1\tNA\t\t3\n"
    "chr2\t10\t20\tENSG3.1\t-0\t1\tnan\n"
)
COVARIATES = "ID\tGTEX-A\tGTEX-B\nPC1\t0.5\t-1.25\nsex\t1\t1\n"


def plain(path: Path, content: str | bytes) -> None:
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def zipped(path: Path, content: str | bytes) -> None:
    path.write_bytes(gzip.compress(content.encode() if isinstance(content, str) else content))


def bgzipped(path: Path, content: str | bytes) -> None:
    with pysam.BGZFile(str(path), "w") as target:
        target.write(content.encode() if isinstance(content, str) else content)


def zstandard(path: Path, content: str | bytes) -> None:
    with pa.output_stream(str(path), compression="zstd") as target:
        target.write(content.encode() if isinstance(content, str) else content)


WRITERS: dict[str, Callable[[Path, str | bytes], None]] = {
    "e.bed": plain, "e.bed.gz": zipped, "b.bed.gz": bgzipped, "e.bed.zst": zstandard
}  # fmt: skip


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("end", ["\n", "\r\n", ""], ids=["unix", "windows", "no last end"])
def test_expression_is_read_as_written(tmp_path: Path, name: str, end: str) -> None:
    path = tmp_path / name
    WRITERS[name](path, BED.replace("\n", end) if end else BED.rstrip("\n"))
    read = read_expression(path)
    assert read.path == path
    assert read.genes.index.name == "gene"
    assert read.genes.index.tolist() == ["ENSG1.1", "ENSG2.1", "ENSG3.1"]
    assert read.genes["chromosome"].tolist() == ["chr1", "chr1", "chr2"]
    np.testing.assert_array_equal(read.genes[["start", "end", "line"]], [[99, 100, 2], [99, 101, 3], [10, 20, 4]])
    assert all(read.genes[name].dtype == np.int64 for name in ("start", "end", "line"))
    np.testing.assert_array_equal(read.values, [[0.5, -1.25, 1e-3], [np.nan, np.nan, 3], [0, 1, np.nan]])
    assert read.values.flags.c_contiguous
    assert read.samples.tolist() == read_samples(path).tolist() == ["GTEX-A", "GTEX-B", "GTEX-C"]


@given(
    st.integers(1, 40).flatmap(
        lambda genes: st.lists(
            st.lists(st.one_of(st.floats(allow_infinity=False), st.just(np.nan)), min_size=genes, max_size=genes),
            min_size=1, max_size=4,
        )
    )
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_every_number_survives(tmp_path_factory: pytest.TempPathFactory, columns: list[list[float]]) -> None:
    values = np.array(columns).T
    path = tmp_path_factory.mktemp("property") / "e.bed.gz"
    frame = pd.DataFrame(values, columns=[f"d{j}" for j in range(values.shape[1])])
    frame.insert(0, "#chr", "chr1")
    frame.insert(1, "start", np.arange(len(frame)))
    frame.insert(2, "end", np.arange(len(frame)) + 1)
    frame.insert(3, "gene_id", [f"g{i}" for i in range(len(frame))])
    frame.to_csv(path, sep="\t", index=False, na_rep="NA")
    np.testing.assert_array_equal(read_expression(path).values, values)


def test_rows_keep_their_lines_over_many_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "BLOCK", 256)  # a few rows at once
    values = np.random.default_rng(5).standard_normal((200, 6))
    rows = ["\t".join(["chr1", f"{i}", f"{i + 1}", f"g{i}", *map(repr, row.tolist())]) for i, row in enumerate(values)]
    header = "\t".join(["#chr", "start", "end", "gene_id", *"abcdef"])
    path = tmp_path / "e.bed.gz"
    zipped(path, "\n".join([header, *rows, ""]))
    read = read_expression(path)
    np.testing.assert_array_equal(read.values, values)
    np.testing.assert_array_equal(read.genes["line"], np.arange(2, 202))
    rows[150] = rows[150].replace("g150", "g150\tmore")
    zipped(path, "\n".join([header, *rows, ""]))
    with pytest.raises(InputError, match=r"10 cells, got 11, in .*line 152;"):
        read_expression(path)


WRONG = {
    "no header": (BED.split("\n", 1)[1], r"starts #chr, start, end, got 'chr1', '99', '100', in .*e\.bed, line 1;"),
    "commas": (BED.replace("\t", ","), r"gene_id and samples, got 1 separated by tabs: '#chr,sta.*line 1;"),
    "spaces in a row": (BED.replace("chr2\t10", "chr2 10"), "7 cells, got 6, in .*line 4;"),
    "short row": (BED.replace("\t-1.25", ""), "7 cells, got 6, in .*line 2;"),
    "long row": (BED.replace("\t-1.25", "\t1\t2"), "7 cells, got 8, in .*line 2;"),
    "text": (BED.replace("-1.25", "low"), "a number in column 'GTEX-B', got 'low', in .*line 2;"),
    "start": (BED.replace("\t10\t", "\t1e1\t"), "a whole number in column 'start', got '1e1', in .*line 4;"),
    "no start": (BED.replace("\t10\t", "\t\t"), "a chromosome, start, end and gene, got an empty cell, in .*line 4;"),
    "no gene": (BED.replace("ENSG2.1", ""), "a chromosome, start, end and gene, got an empty cell, in .*line 3;"),
    "empty line": (BED.replace("chr2", "\nchr2"), "got an empty cell, in .*line 4; do complete or remove the line"),
    "infinite": (BED.replace("-1.25", "-inf"), "got -inf for gene 'ENSG1.1' and sample 'GTEX-B', in .*line 2;"),
    "negative": (BED.replace("\t10\t", "\t-1\t"), "0 <= start < end, got -1 to 20 for gene 'ENSG3.1', in .*line 4;"),
    "no interval": (BED.replace("\t10\t", "\t20\t"), "0 <= start < end, got 20 to 20 .*line 4;"),
    "gene twice": (BED.replace("ENSG3", "ENSG1"), "got gene 'ENSG1.1' again, after line 2, in .*line 4;"),
    "sample twice": (BED.replace("GTEX-C", "GTEX-A"), r"each sample once, got 'GTEX-A' more than once, in .*e\.bed;"),
    "sample unnamed": (BED.replace("GTEX-B", ""), r"a name for each column, got none for column 6, in .*line 1;"),
    "decreasing": (BED.replace("\t99\t101", "\t98\t101"), "got position 98 after 99 of .*'chr1', in .*line 3;"),
    "blocks": (BED + "chr1\t200\t201\tENSG4.1\t1\t2\t3\n", "got a second block of chromosome 'chr1', in .*line 5;"),
    "header alone": (BED.split("\n", 1)[0] + "\n", "at least one row, got a header alone, in "),
    "latin": (BED.encode().replace(b"ENSG2", b"G\xe9n"), "UTF-8 text, got byte 0xe9 at place 14, in .*line 3;"),
    "latin header": (BED.encode().replace(b"GTEX-B", b"\xe9"), "UTF-8 text, got byte 0xe9 at place 31, in .*line 1;"),
    "empty": ("", "got an empty file, in "),
    "an empty gzip": (gzip.compress(b""), "gene_id and samples, got 1 separated by tabs: '', in .*line 1;"),
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_wrong_is_found(tmp_path: Path, wrong: str) -> None:
    content, words = WRONG[wrong]
    path = tmp_path / "e.bed"
    plain(path, content)
    with pytest.raises(InputError, match=words) as caught:
        read_expression(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("read", [read_expression, read_covariates])
def test_files_cut_off_say_how_much_is_whole(tmp_path: Path, read: Callable[[Path], object]) -> None:
    path = tmp_path / "cut.gz"
    random = np.random.default_rng(2).standard_normal((400, 3))
    content = BED.split("\n", 1)[0] + "\n" + "".join(
        f"chr1\t{i}\t{i + 1}\tg{i}\t{row[0]}\t{row[1]}\t{row[2]}\n" for i, row in enumerate(random)
    )  # fmt: skip
    if read is read_covariates:
        content = COVARIATES + "".join(f"x{i}\t{a}\t{b}\n" for i, (a, b, _) in enumerate(random))
    whole = gzip.compress(content.encode())
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"a whole gzip file, got .* after (\d+) whole lines") as caught:
        read(path)
    lines = int(str(caught.value).split(" after ")[1].split()[0])
    assert 100 < lines < 300
    path.write_bytes(whole[:-8] + bytes(8))  # another sum of what it holds
    with pytest.raises(InputError, match="a whole gzip file"):
        read(path)


def test_files_that_are_none(tmp_path: Path) -> None:
    for read in (read_expression, read_samples, read_covariates):
        with pytest.raises(InputError, match="no such file"):
            read(tmp_path / "absent")
        with pytest.raises(InputError, match="a folder"):
            read(tmp_path)


@pytest.mark.parametrize("name", WRITERS)
def test_covariates_are_turned(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    WRITERS[name](path, COVARIATES)
    read = read_covariates(path)
    expected = pd.DataFrame([[0.5, 1.0], [-1.25, 1.0]], ["GTEX-A", "GTEX-B"], ["PC1", "sex"])
    pd.testing.assert_frame_equal(read, expected, check_names=False)
    assert (read.index.name, read.columns.name) == ("sample", "covariate")
    assert read.attrs["source"] == str(path)


WRONG_COVARIATES = {
    "missing": (COVARIATES.replace("\t-1.25", "\tNA"), "none for covariate 'PC1' and sample 'GTEX-B', in .*line 2;"),
    "infinite": (COVARIATES.replace("\t-1.25", "\tinf"), "inf for covariate 'PC1' and sample 'GTEX-B', in .*line 2;"),
    "text": (COVARIATES.replace("1\t1", "male\t1"), "a number in column 'GTEX-A', got 'male', in .*line 3;"),
    "spaces": (COVARIATES.replace("\t", " "), "got 'ID GTEX-A GTEX-B' without a tab, in .*line 1;"),
    "short": (COVARIATES.replace("1\t1", "1"), "3 cells, got 2, in .*line 3;"),
    "covariate twice": (COVARIATES.replace("sex", "PC1"), "each covariate once, got 'PC1' more than once"),
    "covariate unnamed": (COVARIATES.replace("sex", ""), "a covariate's name, got an empty cell, in .*line 3;"),
    "sample twice": (COVARIATES.replace("GTEX-B", "GTEX-A"), "each sample once, got 'GTEX-A' more than once"),
    "no header": (COVARIATES.split("\n", 1)[1], "a header of samples' names, got numbers alone, in .*line 1;"),
    "header alone": ("ID\tGTEX-A\n", "got a header alone"),
    "empty": ("", "got an empty file"),
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG_COVARIATES)
def test_what_is_wrong_with_covariates_is_found(tmp_path: Path, wrong: str) -> None:
    content, words = WRONG_COVARIATES[wrong]
    path = tmp_path / "c.txt"
    plain(path, content)
    with pytest.raises(InputError, match=words) as caught:
        read_covariates(path)
    assert str(path) in str(caught.value)
