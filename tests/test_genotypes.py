"""Genotypes are read from PLINK, VCF and BCF files as they were written, with their names."""

from __future__ import annotations

import importlib
from pathlib import Path

import bed_reader
import cyvcf2
import numpy as np
import pandas as pd
import pgenlib
import pytest

import ebmodel
from ebmodel import InputError, genotypes, simulate
from ebmodel.files import read_table

HEADER = (
    "##fileformat=VCFv4.2\n##contig=<ID=1>\n"
    '##FORMAT=<ID=GT,Number=1,Type=String,Description="genotype">\n'
    '##FORMAT=<ID=DP,Number=1,Type=Integer,Description="depth">\n'
)
CALLS = {0.0: "0/0", 1.0: "0|1", 2.0: "1/1"}


@pytest.fixture
def table() -> pd.DataFrame:
    counts = np.random.default_rng(3).integers(0, 3, (12, 4)).astype(float)
    return pd.DataFrame(counts, pd.Index([f"GTEX-{i}" for i in range(12)], name="sample"), [f"rs{j}" for j in range(4)])


def write_bed(table: pd.DataFrame, path: Path) -> Path:
    bed_reader.to_bed(path, table.to_numpy().copy(), properties={"iid": list(table.index), "sid": list(table.columns)})
    return path


def write_pgen(table: pd.DataFrame, path: Path) -> Path:
    writer = pgenlib.PgenWriter(str(path).encode(), len(table), variant_ct=table.shape[1], nonref_flags=False)
    writer.append_biallelic_batch(np.ascontiguousarray(table.to_numpy(dtype=np.int8).T))
    writer.close()
    path.with_suffix(".psam").write_text("#IID\n" + "".join(f"{name}\n" for name in table.index))
    sites = "".join(f"1\t{9 - j}\t{snp}\tA\tC\n" for j, snp in enumerate(table))  # in any order
    path.with_suffix(".pvar").write_text("#CHROM\tPOS\tID\tREF\tALT\n" + sites)
    return path


def write_vcf(table: pd.DataFrame, path: Path) -> Path:
    rows = "".join(
        "\t".join(["1", f"{10 * (j + 1)}", snp, "A", "C", ".", ".", ".", "GT", *map(CALLS.get, table[snp])]) + "\n"
        for j, snp in enumerate(table)
    )
    columns = ["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT", *table.index]
    text = path.with_name("plain.vcf")
    text.write_text(HEADER + "\t".join(columns) + "\n" + rows)
    if path.suffixes != [".vcf"]:
        reader = cyvcf2.VCF(str(text))
        writer = cyvcf2.Writer(str(path), reader)
        for variant in reader:
            writer.write_record(variant)
        writer.close()
        reader.close()
        return path
    return text


def write_csv(table: pd.DataFrame, path: Path) -> Path:
    table.to_csv(path)
    return path


WRITERS = {
    "g.bed": write_bed,
    "g.pgen": write_pgen,
    "g.vcf": write_vcf,
    "g.vcf.gz": write_vcf,
    "g.bcf": write_vcf,
    "g.csv": write_csv,
}


@pytest.mark.parametrize("name", WRITERS)
def test_files_are_read_back_equal(tmp_path: Path, table: pd.DataFrame, name: str) -> None:
    path = WRITERS[name](table, tmp_path / name)
    read = read_table(path)
    pd.testing.assert_frame_equal(read, table, check_index_type=False, check_column_type=False, check_dtype=False)
    assert read.attrs["source"] == str(path)


@pytest.mark.parametrize("name", WRITERS)
def test_setting_4_takes_donors_from_files(tmp_path: Path, table: pd.DataFrame, name: str) -> None:
    path = WRITERS[name](table, tmp_path / name)
    data = simulate.setting(4, genotypes=path, m=3, n=20, seed=2)
    pd.testing.assert_frame_equal(
        data.X.to_pandas(), simulate.setting(4, genotypes=table, m=3, n=20, seed=2).X.to_pandas()
    )
    np.testing.assert_array_equal(data.X, table.loc[data.donor.to_numpy()])
    assert data.snp.to_numpy().tolist() == list(table)


def vcf(path: Path, *records: str) -> Path:
    path.write_text(HEADER + "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\ta\tb\tc\n" + "".join(records))
    return path


def test_vcf_counts_alternative_alleles(tmp_path: Path) -> None:
    path = vcf(
        tmp_path / "g.vcf",
        "1\t10\t.\tA\tC\t.\t.\t.\tGT\t0/1\t1|1\t./.\n",
        "1\t20\t.\tA\tC,G\t.\t.\t.\tDP:GT\t9:0/2\t9:1/2\t9:0/0\n",
        "1\t30\trs3\tA\tC\t.\t.\t.\tGT\t0/.\t1\t0/0\n",
    )
    read = read_table(path)
    assert list(read) == ["1:10:A:C", "1:20:A:C,G", "rs3"]
    np.testing.assert_array_equal(read.T, [[1, 2, np.nan], [1, 2, 0], [np.nan, 1, 0]])


def test_identifiers_do_not_change_what_a_whole_file_counts(tmp_path: Path, table: pd.DataFrame) -> None:
    path = write_bed(table.set_axis([f"1_{j}_A2_A1" for j in range(4)], axis=1), tmp_path / "g.bed")
    bim = path.with_suffix(".bim")
    bim.write_text("".join(f"1\t1_{9 - j}_C_T_b38\t0\t{9 - j}\tC\tT\n" for j in range(4)))  # nor their order
    np.testing.assert_array_equal(read_table(path), table)


def test_missing_genotypes_are_refused_with_their_snp(tmp_path: Path, table: pd.DataFrame) -> None:
    table.iloc[3, 2] = np.nan
    path = write_bed(table, tmp_path / "g.bed")
    assert np.isnan(read_table(path).iloc[3, 2])
    for refuse in (
        lambda: simulate.setting(4, genotypes=path),
        lambda: ebmodel.fit(read_table(path), pd.DataFrame(np.ones((12, 2)), table.index)),
    ):
        with pytest.raises(InputError, match=r"a genotype for every sample, got 1 missing for SNP 'rs2' .*g\.bed"):
            refuse()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("g.bed", b"nonsense", "a whole PLINK .bed file"),
        ("g.bed", None, "a whole PLINK .bed file"),
        ("g.pgen", b"nonsense", "a .pgen file of 12 samples and 4 variants, as g.psam and g.pvar say"),
        ("g.vcf", b"nonsense\n", "a readable file"),
        ("g.bcf", b"nonsense\n", "a readable file"),
        ("g.vcf", HEADER.encode() + b"#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\ta\n", "a header alone"),
    ],
)
def test_damaged_files_are_refused_in_one_line(
    tmp_path: Path, table: pd.DataFrame, name: str, content: bytes | None, words: str
) -> None:
    path = tmp_path / name
    write_bed(table, tmp_path / "g.bed")  # its .fam and .bim
    write_pgen(table, tmp_path / "g.pgen")
    path.write_bytes(path.read_bytes()[:-1] if content is None else content)
    with pytest.raises(InputError) as caught:
        read_table(path)
    assert words in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_records_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    truncated = vcf(tmp_path / "g.vcf", "1\t10\trs1\tA\tC\t.\t.\t.\tGT\t0/1\n")
    with pytest.raises(InputError, match="a whole VCF or BCF file"):
        read_table(truncated)
    uncalled = vcf(tmp_path / "g.vcf", "1\t10\trs1\tA\tC\t.\t.\t.\tDP\t1\t2\t3\n")
    with pytest.raises(InputError, match="got none for variant 'rs1'"):
        read_table(uncalled)
    row = "1\t10\trs1\tA\tC\t.\t.\t.\tGT\t0/1\t0/0\t1/1\n"
    with pytest.raises(InputError, match="each SNP once, got 'rs1' more than once"):
        read_table(vcf(tmp_path / "g.vcf", row, row))


def test_a_bed_without_its_companions_is_refused(tmp_path: Path, table: pd.DataFrame) -> None:
    path = write_bed(table, tmp_path / "g.bed")
    path.with_suffix(".fam").unlink()
    with pytest.raises(InputError, match=r"g\.fam"):
        read_table(path)


@pytest.mark.parametrize(
    ("name", "module"), [("g.bed", "bed_reader"), ("g.pgen", "pgenlib"), ("g.vcf", "cyvcf2"), ("donors", "msprime")]
)
def test_a_reader_that_is_not_installed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, module: str
) -> None:
    def absent(wanted: str) -> None:
        assert wanted == module
        raise ModuleNotFoundError(wanted)

    monkeypatch.setattr(genotypes, "import_module", absent)
    path = tmp_path / name
    path.write_text("x")
    with pytest.raises(InputError, match=rf'the package {module}.*pip install "ebmodel\[genotypes\]"'):
        simulate.donors() if name == "donors" else read_table(path)
    assert importlib.import_module(module)
