"""The same genotypes come out of every kind of file, of the same allele; what is wrong is named with its line."""

from __future__ import annotations

import pickle
import shutil
import subprocess
from pathlib import Path

import bed_reader
import cyvcf2
import numpy as np
import pandas as pd
import pgenlib
import pyarrow as pa
import pysam
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebmodel import InputError
from ebmodel.eqtl.alleles import coded
from ebmodel.eqtl.variants import contig, open_variants

DONORS = [f"GTEX-{i:03d}" for i in range(23)]  # no multiple of the four that share a byte
PLACES = [("chr1", 10), ("chr1", 20), ("chr1", 20), ("chr1", 20), ("chr1", 35), ("chr2", 5), ("chr2", 5), ("chrX", 7)]
ALLELES = [
    ("A", "C"),
    ("G", "T"),
    ("G", "GTT"),
    ("GTTTTTTTTTTTTTTTTTTT", "G"),
    ("T", "C"),
    ("C", "A"),
    ("C", "G"),
    ("A", "G"),
]
IDS = [f"{c}_{p}_{r}_{a}_b38" for (c, p), (r, a) in zip(PLACES, ALLELES, strict=True)]
CALLS = {0: "0/0", 1: "0/1", 2: "1|1", -9: "./."}


@pytest.fixture(scope="module")
def counts() -> np.ndarray:
    """(variant, donor) copies of the alternative allele: rare, common, carried by all and by nobody; -9 is missing."""
    rng = np.random.default_rng(11)
    found = rng.binomial(2, np.array([0.1, 0.5, 0.9, 0.2, 0.8, 1, 0, 0.3])[:, None], (8, 23)).astype(np.int8)
    found[rng.random((8, 23)) < 0.05] = -9
    return found


def write_bed(folder: Path, counts: np.ndarray, ids: list[str] = IDS) -> Path:
    """As PLINK 1.9: the minor allele is A1, and 0 if nobody has it."""
    lines, stored = [], []
    for (chromosome, position), (reference, alternative), name, row in zip(PLACES, ALLELES, ids, counts, strict=True):
        known = row[row >= 0]
        minor = known.mean() <= 1
        stored.append(np.where(row < 0, -127, row if minor else 2 - row))
        a1, a2 = (alternative, reference) if minor else (reference, alternative)
        a1 = a1 if stored[-1].max() > 0 else "0"
        lines.append(f"{chromosome}\t{name}\t0\t{position}\t{a1}\t{a2}\n")
    path = folder / "g.bed"
    bed_reader.to_bed(path, np.array(stored, dtype=np.int8).T.copy(), num_threads=1)
    path.with_suffix(".bim").write_text("".join(lines))
    path.with_suffix(".fam").write_text("".join(f"0\t{name}\t0\t0\t0\t-9\n" for name in DONORS))
    return path


def write_pgen(folder: Path, counts: np.ndarray, ids: list[str] = IDS) -> Path:
    path = folder / "g.pgen"
    writer = pgenlib.PgenWriter(str(path).encode(), counts.shape[1], variant_ct=len(counts), nonref_flags=False)
    writer.append_biallelic_batch(np.ascontiguousarray(counts))
    writer.close()
    path.with_suffix(".pvar").write_text("##source=test\n#CHROM\tPOS\tID\tREF\tALT\tINFO\n" + "".join(
        f"{c}\t{p}\t{name}\t{r}\t{a}\t.\n" for (c, p), (r, a), name in zip(PLACES, ALLELES, ids, strict=True)
    ))  # fmt: skip
    path.with_suffix(".psam").write_text("##x\n#FID\tIID\tSEX\n" + "".join(f"f\t{name}\tNA\n" for name in DONORS))
    return path


def vcf_text(counts: np.ndarray, ids: list[str] = IDS) -> str:
    header = "##fileformat=VCFv4.2\n" + "".join(f"##contig=<ID={c}>\n" for c in dict.fromkeys(c for c, _ in PLACES))
    header += '##FORMAT=<ID=GT,Number=1,Type=String,Description="genotype">\n'
    header += '##FORMAT=<ID=DS,Number=A,Type=Float,Description="dosage">\n'
    header += "\t".join(["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT", *DONORS]) + "\n"
    return header + "".join(
        "\t".join([c, str(p), name, r, a, ".", ".", ".", "GT", *[CALLS[x] for x in row.tolist()]]) + "\n"
        for (c, p), (r, a), name, row in zip(PLACES, ALLELES, ids, counts, strict=True)
    )


def compressed(path: Path, content: str, *, index: bool = True) -> Path:
    with pysam.BGZFile(str(path), "w") as target:
        target.write(content.encode())
    if index:
        pysam.tabix_index(str(path), preset="vcf", force=True)
    return path


def write_vcf(folder: Path, counts: np.ndarray, ids: list[str] = IDS) -> Path:
    return compressed(folder / "g.vcf.gz", vcf_text(counts, ids))


def write_bcf(folder: Path, counts: np.ndarray, ids: list[str] = IDS) -> Path:
    text, path = folder / "text.vcf", folder / "g.bcf"
    text.write_text(vcf_text(counts, ids))
    reader = cyvcf2.VCF(str(text))
    writer = cyvcf2.Writer(str(path), reader, mode="wb")
    for variant in reader:
        writer.write_record(variant)
    writer.close()
    reader.close()
    pysam.tabix_index(str(path), preset="bcf", force=True)
    return path


WRITERS = {"bed": write_bed, "pgen": write_pgen, "vcf": write_vcf, "bcf": write_bcf}
kinds = pytest.mark.parametrize("kind", WRITERS)


@kinds
def test_every_kind_gives_the_same(tmp_path: Path, counts: np.ndarray, kind: str) -> None:
    path = WRITERS[kind](tmp_path, counts)
    expected = np.where(counts < 0, np.nan, counts).T
    with open_variants(path) as variants:
        assert variants.path == path
        assert variants.samples.tolist() == DONORS
        assert len(variants) == 8
        assert variants.turned == (3 if kind == "bed" else 0)  # the second varies about a half
        table = variants.table
        assert table["id"].tolist() == IDS
        assert list(zip(table["chromosome"], table["position"], strict=True)) == PLACES
        assert list(zip(table["other"], table["counted"], strict=True)) == ALLELES
        for start in range(9):
            for stop in range(start, 9):
                np.testing.assert_array_equal(variants.read(start, stop), expected[:, start:stop])
        with pytest.raises(InputError, match="rows within 0 to 8, got 3 to 9"):
            variants.read(3, 9)
        windows = [("1", 20, 34), ("chr1", 1, 99), ("2", 6, 9), ("23", 7, 7), ("9", 1, 2)]
        assert [variants.window(*one) for one in windows] == [(1, 4), (0, 5), (7, 7), (7, 8), (0, 0)]
        again = pickle.loads(pickle.dumps(variants))  # noqa: S301  (our own)
        np.testing.assert_array_equal(again.read(1, 7), expected[:, 1:7])
        pd.testing.assert_frame_equal(again.table, table)
        again.close()


@kinds
def test_identifiers_without_alleles_leave_the_files_coding(tmp_path: Path, counts: np.ndarray, kind: str) -> None:
    names = [f"rs{j}" for j in range(8)]
    with open_variants(WRITERS[kind](tmp_path, counts, names)) as variants:
        assert variants.turned == 0
        assert variants.table["id"].tolist() == names
        alternative = variants.table["counted"].to_numpy() == np.array([a for _, a in ALLELES])
        alternative |= variants.table["counted"].to_numpy() == "0"
        straight = np.where(counts < 0, np.nan, counts).T
        read = variants.read(0, 8)
        for j in range(8):
            turn = kind == "bed" and np.nanmean(straight[:, j]) > 1
            np.testing.assert_array_equal(read[:, j], 2 - straight[:, j] if turn else straight[:, j])
        assert alternative.all() or kind == "bed"


@kinds
def test_what_identifiers_say_must_hold(tmp_path: Path, counts: np.ndarray, kind: str) -> None:
    line, where = {"bed": (5, r"g\.bim, line"), "pgen": (7, r"g\.pvar, line"), "vcf": (5, r"g\.vcf\.gz, record"),
                   "bcf": (5, r"g\.bcf, record")}[kind]  # fmt: skip
    for name, words in {
        "chr1_35_T_G_b38": r"the alleles that the identifier names, got . and . for variant 'chr1_35_T_G_b38'",
        "chr1:36:T:C": "the place that the identifier names, got chr1:35 for variant 'chr1:36:T:C'",
        "2_35_T_C": "the place that the identifier names, got chr1:35 for variant '2_35_T_C'",
    }.items():
        folder = tmp_path / name
        folder.mkdir()
        path = WRITERS[kind](folder, counts, [*IDS[:4], name, *IDS[5:]])
        with pytest.raises(InputError, match=f"{words}, in .*{where} {line};"):
            open_variants(path)
    for name in ("1:35:T:C", "chr1_35_T_C", "1_35_T_C_b37"):
        folder = tmp_path / f"right {name}"
        folder.mkdir()
        with open_variants(WRITERS[kind](folder, counts, [*IDS[:4], name, *IDS[5:]])) as variants:
            np.testing.assert_array_equal(variants.read(4, 5)[:, 0], np.where(counts[4] < 0, np.nan, counts[4]))


@kinds
def test_variants_come_once_and_sorted(
    tmp_path: Path, counts: np.ndarray, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match="each variant once, got 'rs' more than once"):
        open_variants(WRITERS[kind](tmp_path, counts, [*IDS[:4], "rs", "rs", *IDS[6:]]))
    if kind in {"vcf", "bcf"}:
        return  # no index can be made of those
    names, places = [f"rs{j}" for j in range(8)], list(PLACES)
    for i, change, words in (
        (4, ("chr1", 19), "got position 19 after 20 of chromosome 'chr1'"),
        (7, ("1", 40), "got a second block of chromosome '1'"),
    ):
        monkeypatch.setattr(f"{__name__}.PLACES", [*places[:i], change, *places[i + 1 :]])
        with pytest.raises(InputError, match=f"{words}, in .*, line {i + (1 if kind == 'bed' else 3)};"):
            open_variants(WRITERS[kind](tmp_path, counts, names))


@pytest.mark.parametrize("kind", ["bed", "pgen", "vcf"])  # no library writes such a BCF file
def test_donors_come_once(tmp_path: Path, counts: np.ndarray, kind: str, capfd: pytest.CaptureFixture[str]) -> None:
    path = WRITERS[kind](tmp_path, counts)
    if kind == "vcf":
        compressed(path, vcf_text(counts).replace(DONORS[4], DONORS[3]), index=False)
    else:
        names = path.with_suffix({"bed": ".fam", "pgen": ".psam"}[kind])
        names.write_text(names.read_text().replace(DONORS[4], DONORS[3]))
    with pytest.raises(InputError, match=rf"each sample once, got 'GTEX-003' more than once, in .*{path.stem[:1]}\."):
        open_variants(path)


@kinds
def test_files_cut_off_are_refused(
    tmp_path: Path, counts: np.ndarray, kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path = WRITERS[kind](tmp_path, counts)
    whole = path.read_bytes()
    for left in (whole[:-3], whole[: len(whole) // 2], b"nonsense"):
        path.write_bytes(left)
        with (
            pytest.raises(InputError, match=r"a whole|a readable|a \.pgen file of 23") as caught,
            open_variants(path) as variants,
        ):
            variants.read(0, 8)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
    path.write_bytes(b"")
    with pytest.raises(InputError, match="an empty file"):
        open_variants(path)


@pytest.mark.parametrize(
    ("write", "ending", "words"),
    [
        (write_bed, ".bim", r"g\.bim beside it"),
        (write_bed, ".fam", r"g\.fam beside it"),
        (write_pgen, ".pvar", r"g\.pvar or g\.pvar\.zst or g\.bim beside it"),
        (write_pgen, ".psam", r"g\.psam or g\.fam beside it"),
        (write_vcf, ".gz.tbi", r"an index .* do bcftools index .*g\.vcf\.gz"),
        (write_bcf, ".bcf.csi", r"an index .* do bcftools index .*g\.bcf"),
    ],
)  # fmt: skip
def test_companions_are_asked_for(tmp_path: Path, counts: np.ndarray, write, ending: str, words: str) -> None:
    path = write(tmp_path, counts)
    path.with_suffix(ending).unlink()
    with pytest.raises(InputError, match=words):
        open_variants(path)


def test_companions_must_fit(tmp_path: Path, counts: np.ndarray) -> None:
    bed, pgen = write_bed(tmp_path, counts), write_pgen(tmp_path, counts)
    for names in (tmp_path / "g.fam", tmp_path / "g.psam"):
        names.write_text("".join(names.read_text().splitlines(keepends=True)[:-3]))
    with pytest.raises(InputError, match=r"got 51 bytes instead of 43 for the 20 samples and 8 variants"):
        open_variants(bed)
    with pytest.raises(InputError, match=r"a \.pgen file of 20 samples and 8 variants, as g\.psam and g\.pvar say"):
        open_variants(pgen)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("\t35\t", "\t3x\t"), "a whole number in column 'position', got '3x', in .*line 5;"),
        (("\t35\t", "\t\t"), "an identifier and a position for each variant, got an empty cell, in .*line 5;"),
        (("\t35\t", "\t35\t1\t"), "6 cells, got 7, in .*line 5;"),
        (("\t35\t", "\t"), "6 cells, got 5, in .*line 5;"),
    ],
)  # fmt: skip
def test_a_damaged_line_of_a_bim_is_named(
    tmp_path: Path, counts: np.ndarray, change: tuple[str, str], words: str
) -> None:
    path = write_bed(tmp_path, counts)
    bim = path.with_suffix(".bim")
    good = bim.read_text()
    bim.write_text(good.replace(*change))
    with pytest.raises(InputError, match=words):
        open_variants(path)
    if change[1] != "\t\t":  # no cell is empty between spaces
        bim.write_text(good.replace(*change).replace("\t", "   "))
        with pytest.raises(InputError, match=words):
            open_variants(path)
    bim.write_text(good.replace("\t", "  "))
    open_variants(path).close()


def test_pvar_of_any_form(tmp_path: Path, counts: np.ndarray) -> None:
    path = write_pgen(tmp_path, counts)
    pvar = path.with_suffix(".pvar")
    with open_variants(path) as variants:
        table = variants.table
    with pa.output_stream(str(tmp_path / "g.pvar.zst"), compression="zstd") as target:
        target.write(pvar.read_bytes())
    pvar.unlink()
    with open_variants(path) as variants:
        pd.testing.assert_frame_equal(variants.table, table)
    (tmp_path / "g.pvar.zst").unlink()
    rows = [f"{c}\t{i}\t{p}\t{a}\t{r}\n" for (c, p), (r, a), i in zip(PLACES, ALLELES, IDS, strict=True)]
    pvar.write_text("".join(rows))  # without a header: as a .bim, the reference last
    with open_variants(path) as variants:
        pd.testing.assert_frame_equal(variants.table, table)
    pvar.write_text("#CHROM\tPOS\tID\tREF\n1\t1\ta\tA\n")
    with pytest.raises(InputError, match=r"columns #CHROM, POS, ID, REF and ALT, got no ALT, in .*line 1;"):
        open_variants(path)


def test_a_site_of_many_alleles_counts_any_but_the_reference(tmp_path: Path) -> None:
    alleles = np.array([[0, 0, 0, 2, 1, 2, -9, -9], [0, 0, 0, 1, 1, 1, 0, 0]], np.int32)
    expected = np.array([[0, 1, 2, np.nan], [0, 1, 2, 0]]).T
    path = tmp_path / "m.pgen"
    writer = pgenlib.PgenWriter(str(path).encode(), 4, variant_ct=2, nonref_flags=False, allele_ct_limit=3)
    writer.append_alleles(alleles[0], allele_ct=3)
    writer.append_alleles(alleles[1])
    writer.close()
    path.with_suffix(".psam").write_text("#IID\na\nb\nc\nd\n")
    path.with_suffix(".pvar").write_text("#CHROM\tPOS\tID\tREF\tALT\n1\t5\t.\tA\tC,G\n1\t6\t1:6:A:C\tA\tC\n")
    with open_variants(path) as variants:
        assert variants.table["id"].tolist() == ["1:5:A:C,G", "1:6:A:C"]
        np.testing.assert_array_equal(variants.read(0, 2), expected)
    header = '##fileformat=VCFv4.2\n##contig=<ID=1>\n##FORMAT=<ID=GT,Number=1,Type=String,Description="g">\n'
    header += "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\ta\tb\tc\td\n"
    records = (
        "1\t5\t.\tA\tC,G\t.\t.\t.\tGT\t0/0\t0/2\t1/2\t./1\n",
        "1\t6\t1:6:A:C\tA\tC\t.\t.\t.\tGT\t0/0\t0/1\t1/1\t0\n",
    )
    with open_variants(compressed(tmp_path / "m.vcf.gz", header + "".join(records))) as variants:
        assert variants.table["id"].tolist() == ["1:5:A:C,G", "1:6:A:C"]
        np.testing.assert_array_equal(variants.read(0, 2), expected)


def test_dosages_are_preferred_to_calls(tmp_path: Path) -> None:
    dosages = np.array([[0.25, 1.5, np.nan], [0, 2, 1]], np.float32)
    path = tmp_path / "d.pgen"
    writer = pgenlib.PgenWriter(str(path).encode(), 3, variant_ct=2, nonref_flags=False, dosage_present=True)
    writer.append_dosages_batch(np.where(np.isnan(dosages), np.float32(-9), dosages))
    writer.close()
    path.with_suffix(".psam").write_text("#IID\na\nb\nc\n")
    path.with_suffix(".pvar").write_text("#CHROM\tPOS\tID\tREF\tALT\n1\t5\trs5\tA\tC\n1\t6\t1:6:C:A\tA\tC\n")
    header = "##fileformat=VCFv4.2\n##contig=<ID=1>\n"
    header += '##FORMAT=<ID=GT,Number=1,Type=String,Description="g">\n'
    header += '##FORMAT=<ID=DS,Number=A,Type=Float,Description="d">\n'
    header += "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\ta\tb\tc\n"
    records = (
        "1\t5\trs5\tA\tC\t.\t.\t.\tGT:DS\t0/0:0.25\t1/1:1.5\t./.:.\n",
        "1\t6\t1:6:C:A\tA\tC\t.\t.\t.\tGT\t0/0\t1/1\t0/1\n",
    )
    expected = np.stack([dosages[0], 2 - dosages[1]], axis=1)  # the second's identifier says that A is no reference
    for given_path in (path, compressed(tmp_path / "d.vcf.gz", header + "".join(records))):
        with open_variants(given_path) as variants:
            assert variants.turned == 1
            assert variants.table["counted"].tolist() == ["C", "A"]
            np.testing.assert_array_equal(variants.read(0, 2), expected)
    wrong = records[0].replace("1.5", "2.5")
    variants = open_variants(compressed(tmp_path / "w.vcf.gz", header + wrong))
    with variants, pytest.raises(InputError, match=r"dosages \(DS\) in \[0, 2\], got 2.5 for variant 'rs5'"):
        variants.read(0, 1)


def test_an_index_of_another_file_is_noticed(tmp_path: Path, counts: np.ndarray) -> None:
    path = write_vcf(tmp_path, counts)
    with open_variants(path) as variants:
        table = variants.table
    names = [*IDS[:2], "rs", *IDS[3:]]
    write_vcf(tmp_path, counts, names)
    variants = open_variants(path, table)
    with variants, pytest.raises(InputError, match=r"variant 'chr1_20_G_GTT_b38', got 'rs', in .*record 3;"):
        variants.read(0, 8)


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "g.txt"
    path.write_text("x")
    with pytest.raises(InputError, match=r"genotypes as \.bed, \.pgen, \.vcf\.gz or \.bcf, got \.txt"):
        open_variants(path)
    plain = tmp_path / "g.vcf"
    plain.write_text(vcf_text(np.zeros((8, 23), np.int8)))
    with pytest.raises(InputError, match=r"do bgzip .*g\.vcf and bcftools index .*g\.vcf\.gz"):
        open_variants(plain)


@given(st.integers(1, 22).map(str) | st.sampled_from(["X", "Y", "MT", "GL000220.1"]))
def test_contigs_have_one_name(name: str) -> None:
    assert contig(f"chr{name}") == contig(name) == name
    assert contig(contig(name)) == name


ALLELE = st.text("ACGT", min_size=1, max_size=3)


@given(ALLELE, ALLELE, st.booleans(), st.sampled_from(["", "first", "second"]), st.sampled_from("_:"))
def test_the_allele_counted_is_the_identifiers(
    reference: str, alternative: str, turn: bool, absent: str, separator: str
) -> None:
    if reference == alternative:
        alternative += "A"
    first, second = (reference, alternative) if turn else (alternative, reference)
    row = {"chromosome": "1", "position": 7, "id": separator.join(["chr1", "7", reference, alternative])}
    row |= {"counted": "0" if absent == "first" else first, "other": "0" if absent == "second" else second}
    found = coded(pd.DataFrame([row]), Path("x.bim"), 1)
    assert found["turned"].tolist() == [turn]
    assert found[["counted", "other"]].to_numpy().tolist() == [[alternative, reference]]


@pytest.mark.skipif(shutil.which("plink1.9") is None, reason="needs PLINK 1.9")
def test_what_plink_makes_is_the_same(tmp_path: Path, counts: np.ndarray) -> None:
    path = write_vcf(tmp_path, counts)
    made = tmp_path / "made"
    for given_path, asked in ((["--vcf", path], ["--make-bed"]), (["--bfile", made], ["--recode", "vcf-iid", "bgz"])):
        command = ["plink1.9", *map(str, given_path), *asked, "--double-id", "--out", str(made)]
        subprocess.run(command, check=True, capture_output=True)
    pysam.tabix_index(f"{made}.vcf.gz", preset="vcf")
    expected = np.where(counts < 0, np.nan, counts).T
    for name in ("made.bed", "made.vcf.gz"):  # the second with PLINK's A1 as its alternative allele
        with open_variants(tmp_path / name) as variants:
            assert variants.turned >= 3
            assert list(zip(variants.table["other"], variants.table["counted"], strict=True)) == ALLELES
            assert variants.table["chromosome"].tolist()[-1] in {"23", "X"}
            np.testing.assert_array_equal(variants.read(0, 8), expected)
