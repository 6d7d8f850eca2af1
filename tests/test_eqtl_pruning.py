"""Pruning keeps the SNPs that PLINK keeps, to the last one; frequencies and imputation are those of the definition."""

from __future__ import annotations

import pickle
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from ebmodel import InputError
from ebmodel.eqtl.ledger import Ledger
from ebmodel.eqtl.pruning import (
    _prune_chromosome,
    allele_frequency,
    common,
    hard_calls,
    impute,
    indep_pairwise,
    prune_variants,
)

PLINK = shutil.which("plink1.9")  # Debian's name: another program is also called plink
witnessed = pytest.mark.skipif(PLINK is None, reason="PLINK 1.9 is not installed")

SETTINGS = [(50, 5, 0.2), (5, 1, 0.5), (2, 2, 0.1), (10, 3, 0.0), (100, 7, 0.8), (20, 20, 0.99)]
KEPT_BY_PLINK = {  # v1.90b6.26, bits of the variants in order
    0: "62214890a404921a9480218819530963000912e8385040300a828c00810c",
    1: "a6c5f7d2e372e7464dd7e9bbfeb3164a3876bd51f269bfc6fad79d5d855d",
    2: "6eeae6e7aad696b6da6dd5beabd99fb9ffe96bba9eafbbf759d78ba969be",
    3: "100200200000100002000100200800020010020040000800200080001001",
    4: "7feff5bfedbdef7cfedfef6d6ff7f4f887cf3ff737ffd9f4efe5fffcdbed",
    5: "379efffd76be7f7f77dffe7b7d7f77ffafff1fedfff73bf7fff6bfdabffe",
}


def calls(seed: int, n: int = 60, p: int = 240, missing: float = 0.1) -> NDArray[np.int8]:
    """Genotypes in linkage disequilibrium: copies, flipped copies, variants that do not vary, ties in frequency."""
    rng = np.random.default_rng(seed)
    haplotypes = np.zeros((2 * n, p), dtype=np.int8)
    threshold, level = rng.random(p), rng.random(2 * n)
    for j in range(p):
        level = np.where(rng.random(2 * n) < 0.9, level, rng.random(2 * n))
        haplotypes[:, j] = haplotypes[:, j - 1] if rng.random() < 0.2 else level < threshold[j]
        if rng.random() < 0.2:
            haplotypes[:, j] = 1 - haplotypes[:, j]
    G = haplotypes[:n] + haplotypes[n:]
    G[:, rng.random(p) < 0.05] = 1
    G[rng.random((n, p)) < missing * rng.integers(0, 2, p)] = -1
    G[:, int(rng.integers(p))] = -1 if missing else 2
    return G


def write_bed(path: Path, G: NDArray[np.int8], chromosome: Any = "1") -> pd.DataFrame:
    to_bed = pytest.importorskip("bed_reader").to_bed
    n, p = G.shape
    names = np.broadcast_to(np.asarray(chromosome, dtype=str), p)
    about = {"chromosome": names, "bp_position": np.arange(1, p + 1), "sid": [f"rs{j}" for j in range(p)]}
    people = {"fid": ["0"] * n, "iid": [f"d{i}" for i in range(n)], "allele_1": ["A"] * p, "allele_2": ["C"] * p}
    to_bed(path, np.where(G < 0, -127, G).astype(np.int8), properties={**about, **people})
    return pd.DataFrame({"chromosome": names, "position": np.arange(1, p + 1), "id": about["sid"]})


def plink(folder: Path, *arguments: Any) -> list[str]:
    command = [str(PLINK), "--bfile", str(folder / "study"), "--out", str(folder / "out"), *map(str, arguments)]
    subprocess.run(command, check=True, capture_output=True)
    return (folder / "out.prune.in").read_text().split()


@pytest.mark.parametrize(("seed", "setting"), list(enumerate(SETTINGS)))
def test_snps_kept_are_those_that_plink_kept(seed: int, setting: tuple[int, int, float]) -> None:
    kept = indep_pairwise(calls(seed, missing=0.1 * (seed % 2)), *setting)
    assert np.packbits(kept).tobytes().hex() == KEPT_BY_PLINK[seed]


@witnessed
@pytest.mark.parametrize("seed", range(12))
def test_snps_kept_are_those_that_plink_keeps(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(1000 + seed)
    n, p = int(rng.choice([5, 63, 64, 130])), int(rng.choice([2, 30, 400]))
    G = calls(seed, n, p, float(rng.choice([0.0, 0.02, 0.4])))
    write_bed(tmp_path / "study.bed", G)
    for window, step, r2 in SETTINGS:
        kept = indep_pairwise(G, window, step, r2)
        want = plink(tmp_path, "--indep-pairwise", window, step, r2)
        assert [f"rs{j}" for j in np.flatnonzero(kept)] == want


@witnessed
def test_a_file_is_pruned_as_plink_prunes_it(tmp_path: Path) -> None:
    variants = pytest.importorskip("ebmodel.eqtl.variants")
    G = calls(5, n=150, p=900, missing=0.05)
    write_bed(tmp_path / "study.bed", G, np.repeat(["2", "10", "4"], [500, 399, 1]))
    donors = np.flatnonzero(np.random.default_rng(0).random(150) < 0.7)
    (tmp_path / "keep.txt").write_text("".join(f"0 d{i}\n" for i in donors))
    want = plink(tmp_path, "--keep", tmp_path / "keep.txt", "--maf", 0.1, "--indep-pairwise", 40, 4, 0.3)
    ledger = Ledger()
    with variants.open_variants(tmp_path / "study.bed") as opened:
        kept = prune_variants(opened, donors, ledger=ledger, maf=0.1, window=40, step=4, r2=0.3, progress=False)
        task = (0, 500, donors, 0.1, 40, 4, 0.3)
        there, in_a_worker = _prune_chromosome(opened, *task), _prune_chromosome(pickle.dumps(opened), *task)
    for part, other in zip(there, in_a_worker, strict=True):
        np.testing.assert_array_equal(part, other)
    assert set(kept["id"]) == set(want)
    assert len(kept) == len(want) > 20
    assert kept["id"].tolist() == [f"rs{j}" for j in kept.index]
    there = np.where(G[donors] < 0, np.nan, G[donors])[:, kept.index]
    expected = np.nanmean(there, axis=0) / 2
    turned = np.abs(kept["frequency"] - expected) > 1e-12  # the file's alleles may be the other way round
    np.testing.assert_allclose(np.where(turned, 1 - kept["frequency"], kept["frequency"]), expected, rtol=1e-12)
    np.testing.assert_array_equal(kept["missing"], np.isnan(there).sum(axis=0))
    table = ledger.table()
    assert table.loc[table["reason"] != "kept", "count"].sum() + len(kept) == 900


class InMemory:
    """An open genotype file that is none."""

    path = Path("memory")

    def __init__(self, G: NDArray[Any], table: pd.DataFrame) -> None:
        self.G, self.table, self.samples = G, table, np.array([f"d{i}" for i in range(len(G))])

    def read(self, start: int, stop: int) -> NDArray[Any]:
        return self.G[:, start:stop].astype(np.float32)


def in_memory(G: NDArray[Any], chromosome: Any = "1") -> Any:
    p = G.shape[1]
    names = np.broadcast_to(np.asarray(chromosome, dtype=str), p)
    return InMemory(
        G, pd.DataFrame({"chromosome": names, "position": np.arange(p), "id": [f"rs{j}" for j in range(p)]})
    )


def test_chromosomes_are_pruned_apart_and_everything_dropped_is_noted() -> None:
    G = calls(3, p=300).astype(float)
    G[G < 0] = np.nan
    G[:, 0] = np.nan
    ledger = Ledger()
    kept = prune_variants(in_memory(G, np.repeat(["1", "2"], [120, 180])), ledger=ledger, progress=False)
    frequency = allele_frequency(G)
    often = common(frequency)
    want = np.zeros(300, dtype=bool)
    for part in (np.arange(120), np.arange(120, 300)):
        part = part[often[part] | np.isnan(frequency[part])]  # PLINK's windows count those without genotypes
        want[part] = indep_pairwise(hard_calls(G[:, part])) & often[part]
    np.testing.assert_array_equal(kept.index, np.flatnonzero(want))
    np.testing.assert_array_equal(kept["frequency"], frequency[want])
    assert "rs0" in ledger.names("frequency", "no genotype")
    rare = ledger.names("frequency", "minor-allele frequency below 0.05")
    assert rare == [f"rs{j}" for j in np.flatnonzero(~often & np.isfinite(frequency))]
    linked = ledger.names("LD pruning", "r² above 0.2 in a window of 50")
    assert linked == [f"rs{j}" for j in np.flatnonzero(often & ~want)]
    assert all(len(names) > 1 for names in (rare, linked))


def test_a_chromosome_longer_than_a_chunk_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    G = hard_calls(calls(4, p=500, missing=0.0))
    whole = prune_variants(in_memory(G), ledger=Ledger(), progress=False)
    monkeypatch.setattr("ebmodel.eqtl.pruning._CHUNK", 37)
    pd.testing.assert_frame_equal(prune_variants(in_memory(G), ledger=Ledger(), progress=False), whole)


def test_no_pair_in_a_window_is_linked_and_every_lost_one_has_a_partner() -> None:
    G = calls(7, missing=0.0)[:, :50]
    kept = indep_pairwise(G, 50, 5, 0.3)
    with np.errstate(invalid="ignore"):
        r2 = np.nan_to_num(np.corrcoef(G.T.astype(float)) ** 2)
    left = r2[np.ix_(kept, kept)] - np.eye(kept.sum())
    assert left.max() <= 0.3
    for j in np.flatnonzero(~kept & (G.std(axis=0) > 0)):
        assert (np.delete(r2[j], j) > 0.3).any()


def test_the_rarer_of_two_goes_and_the_later_of_two_equals() -> None:
    x = np.array([0, 1, 2, 0, 1, 2, 0, 1, 1, 0], dtype=np.int8)
    rarer = np.where(np.arange(10) == 4, 0, x).astype(np.int8)
    np.testing.assert_array_equal(indep_pairwise(np.column_stack([rarer, x])), [False, True])
    np.testing.assert_array_equal(indep_pairwise(np.column_stack([x, rarer])), [True, False])
    np.testing.assert_array_equal(indep_pairwise(np.column_stack([x, 2 - x, x])), [True, False, False])
    frequencies = np.array([0.1, 0.3])
    np.testing.assert_array_equal(indep_pairwise(np.column_stack([x, x]), frequency=frequencies), [False, True])


def test_variants_beyond_the_window_are_not_compared() -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 3, 400).astype(np.int8)
    far = np.column_stack([x, rng.integers(0, 3, (400, 9)).astype(np.int8), x])
    assert indep_pairwise(far, 10, 1, 0.5).all()
    assert indep_pairwise(far, 11, 1, 0.5).sum() == 10


def test_frequencies_leave_missing_genotypes_out() -> None:
    G = np.array([[0.0, 2.0, np.nan], [1.0, np.nan, np.nan], [0.4, 1.0, np.nan]])
    np.testing.assert_allclose(allele_frequency(G), [1.4 / 6, 0.75, np.nan])
    whole = hard_calls(calls(0))
    seen = np.where(whole < 0, np.nan, whole)
    known = ~np.isnan(seen).all(axis=0)
    np.testing.assert_allclose(allele_frequency(whole)[known], np.nanmean(seen[:, known], axis=0) / 2, rtol=1e-14)
    np.testing.assert_array_equal(allele_frequency(seen.astype(np.float32)), allele_frequency(whole))


def test_missing_genotypes_become_the_mean_and_are_counted() -> None:
    G = np.array([[0.0, 2.0, np.nan], [1.0, np.nan, np.nan], [0.5, 1.0, np.nan]], dtype=np.float32)
    filled, missing = impute(G)
    assert filled.dtype == np.float32
    np.testing.assert_array_equal(missing, [0, 1, 3])
    np.testing.assert_array_equal(filled, [[0.0, 2.0, np.nan], [1.0, 1.5, np.nan], [0.5, 1.0, np.nan]])
    assert np.isnan(G[1, 1])
    counts, missing = impute(np.array([[2], [-1], [0], [0]], dtype=np.int8))
    assert counts.dtype == np.float64
    assert counts[1, 0] == pytest.approx(2 / 3)
    assert missing[0] == 1


def test_common_counts_the_rarer_allele_and_takes_equality() -> None:
    found = common(np.array([0.05, 0.95, 0.049, 0.951, 0.5, np.nan, 0.0]))
    np.testing.assert_array_equal(found, [True, True, False, False, True, False, False])
    assert common(np.array([3 / 60]), 0.05)[0]


def test_hard_calls_are_within_a_tenth() -> None:
    dosage = np.array([[0.0, 0.09, 0.11, 0.9, 1.0, 1.11, 1.9, 2.0, np.nan, 1.5]])
    np.testing.assert_array_equal(hard_calls(dosage), [[0, 0, -1, 1, 1, -1, 2, 2, -1, -1]])


@pytest.mark.parametrize(
    ("settings", "words"),
    [((1, 1, 0.2), "at least 2"), ((50, 51, 0.2), "step"), ((50, 0, 0.2), "step"), ((50, 5, 1.0), "r2")],
)
def test_settings_out_of_range_are_refused(settings: tuple[int, int, float], words: str) -> None:
    with pytest.raises(InputError, match=words):
        indep_pairwise(calls(0), *settings)


def test_genotypes_of_another_kind_are_refused() -> None:
    with pytest.raises(InputError, match="hard_calls"):
        indep_pairwise(calls(0).astype(float))
    with pytest.raises(InputError, match="hard_calls"):
        indep_pairwise(np.full((3, 3), 3, dtype=np.int8))


def test_a_file_out_of_order_is_refused() -> None:
    G = calls(0, missing=0.0)
    broken = in_memory(G, np.repeat(["1", "2", "1"], 80))
    with pytest.raises(InputError, match="each chromosome in one piece"):
        prune_variants(broken, ledger=Ledger(), progress=False)
    shuffled = in_memory(G)
    shuffled.table.loc[7, "position"] = 3
    with pytest.raises(InputError, match="'rs7'"):
        prune_variants(shuffled, ledger=Ledger(), progress=False)


REAL = Path(__file__).parents[2] / "shared" / "data"


@witnessed
@pytest.mark.skipif(not (REAL / "mice_genotypes_chr1_17.csv.gz").is_file(), reason="the mice's genotypes are not there")
@pytest.mark.parametrize(("window", "step", "r2"), [(50, 5, 0.2), (100, 10, 0.5)])
def test_real_genotypes_are_pruned_as_plink_prunes_them(window: int, step: int, r2: float, tmp_path: Path) -> None:
    """1,814 outbred mice, whose linkage disequilibrium is far longer than that of any simulated donor."""
    counts = pd.read_csv(REAL / "mice_genotypes_chr1_17.csv.gz", index_col=0)
    where = pd.read_csv(REAL / "mice_map_chr1_17.csv").set_index("snp_id").loc[counts.columns, "chr"]
    G = counts.fillna(-1).to_numpy(dtype=np.int8)
    table = write_bed(tmp_path / "study.bed", G, where.to_numpy())
    want = plink(tmp_path, "--indep-pairwise", window, step, r2)
    kept = [table["id"].to_numpy()[here][indep_pairwise(G[:, here], window, step, r2)]
            for here in (np.flatnonzero(where == name) for name in where.unique())]  # fmt: skip
    assert set(np.concatenate(kept)) == set(want)
    assert 50 < len(want) < len(where) / 2
