"""Files joined by name: who takes part does not depend on the order of anything, and who does not is in the log."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ebmodel import InputError
from ebmodel.eqtl.ledger import Ledger
from ebmodel.eqtl.settings import Settings
from ebmodel.eqtl.study import adjusted_expression, common_genes, find_tissues, join_samples

DONORS = [f"D{i:02}" for i in range(20)]


class Study:
    """Folder of small files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rng = np.random.default_rng(1)

    def tissue(self, name: str, samples: list[str], covariates: list[str] | None = None, genes: int = 3) -> None:
        values = self.rng.standard_normal((genes, len(samples)))
        places = pd.DataFrame({"#chr": "chr1", "start": 10 * np.arange(genes), "end": 10 * np.arange(genes) + 1,
                               "gene_id": [f"G{g}" for g in range(genes)]})  # fmt: skip
        table = pd.concat([places, pd.DataFrame(values, columns=samples)], axis=1)
        table.to_csv(self.folder / f"{name}.v8.bed", sep="\t", index=False)
        who = samples if covariates is None else covariates
        C = pd.DataFrame(self.rng.standard_normal((2, len(who))), ["PC1", "age"], who)
        C.to_csv(self.folder / f"{name}.txt", sep="\t", index_label="ID")

    def settings(self, **choices: Any) -> Settings:
        given = {"genotypes": self.folder / "g.bed", "expression": str(self.folder / "{tissue}.v8.bed"),
                 "covariates": str(self.folder / "{tissue}.txt"), "out": self.folder / "out",
                 "min_samples": 8, "folds": 4}  # fmt: skip
        return Settings(**(given | choices))


@pytest.fixture
def study(tmp_path: Path) -> Study:
    made = Study(tmp_path)
    made.tissue("Skin", DONORS[:12])
    made.tissue("Lung", DONORS[5:])
    return made


def test_tissues_are_found_by_their_files(study: Study, tmp_path: Path) -> None:
    for name in ("Lung.v8.bed.tbi", "notes.txt", ".v8.bed"):
        (tmp_path / name).write_text("")
    (tmp_path / "Folder.v8.bed").mkdir()
    assert list(find_tissues(study.settings())) == ["Lung", "Skin"]
    assert list(find_tissues(study.settings(tissues=("Skin",)))) == ["Skin"]
    with pytest.raises(InputError, match="none of 'Liver', in tissues"):
        find_tissues(study.settings(tissues=("Skin", "Liver")))
    with pytest.raises(InputError, match="at least one tissue's expression, got no such file"):
        find_tissues(study.settings(expression=str(tmp_path / "none" / "{tissue}.bed")))
    with pytest.raises(InputError, match="put the files in one folder"):
        find_tissues(study.settings(expression=str(tmp_path / "{tissue}" / "x.bed")))


def test_samples_without_a_partner_are_in_the_log(study: Study) -> None:
    study.tissue("Skin", DONORS[:12], [*DONORS[1:12], "NOBODY"])
    ledger = Ledger()
    tissues, donors = join_samples(study.settings(), np.array(["OTHER", *DONORS[:-2][::-1]]), ledger)
    assert [tissue.name for tissue in tissues] == ["Lung", "Skin"]
    assert donors.tolist() == DONORS[1:-2][::-1]
    lung, skin = tissues
    assert sorted(lung.samples) == DONORS[5:18]
    assert sorted(skin.samples) == DONORS[1:12]
    for tissue in tissues:
        assert donors[tissue.donors].tolist() == tissue.samples.tolist()
        header = (study.folder / f"{tissue.name}.v8.bed").read_text().split("\n", 1)[0].split("\t")[4:]
        assert [header[column] for column in tissue.columns] == tissue.samples.tolist()
        assert np.ptp(np.diff(tissue.edges)) <= 1
        assert tissue.edges[[0, -1]].tolist() == [0, len(tissue.samples)]
        assert tissue.projection.dof == len(tissue.samples) - 3
    assert ledger.names("samples of Lung", "no genotypes") == DONORS[-2:]
    assert ledger.names("samples of Skin", "no covariates") == DONORS[:1]
    assert ledger.names("samples of Skin", "covariates without expression") == ["NOBODY"]
    assert ledger.names("donors", "in no tissue") == ["OTHER", DONORS[0]]


def test_folds_go_by_the_names_of_samples_and_tissue(study: Study) -> None:
    def folds(settings: Settings) -> dict[str, dict[str, int]]:
        tissues, _ = join_samples(settings, np.array(DONORS), Ledger())
        return {t.name: {str(s): int(np.searchsorted(t.edges, i, side="right")) for i, s in enumerate(t.samples)}
                for t in tissues}  # fmt: skip

    before = folds(study.settings())
    study.tissue("Skin", DONORS[:12][::-1])
    study.tissue("Blood", DONORS)
    after = folds(study.settings())
    assert (after["Skin"], after["Lung"]) == (before["Skin"], before["Lung"])
    assert folds(study.settings(seed=1))["Lung"] != before["Lung"]
    assert {after["Lung"][one] == after["Blood"][one] for one in DONORS[5:]} == {True, False}


def test_small_tissues_are_left_out(study: Study) -> None:
    study.tissue("Tiny", DONORS[:7])
    study.tissue("Alone", DONORS[:12], DONORS[10:])  # two have covariates
    ledger = Ledger()
    tissues, _ = join_samples(study.settings(), np.array(DONORS), ledger)
    assert [tissue.name for tissue in tissues] == ["Lung", "Skin"]
    assert ledger.names("tissues", "fewer than 8 samples") == ["Alone", "Tiny"]
    with pytest.raises(InputError, match=r"two tissues with 13 samples, got 1 \('Lung'\)"):
        join_samples(study.settings(min_samples=13), np.array(DONORS), Ledger())


@pytest.mark.parametrize("names", [[f"{name}-0003" for name in DONORS], [name.lower() for name in DONORS]])
def test_names_that_nobody_shares_are_refused(study: Study, names: list[str]) -> None:
    with pytest.raises(InputError, match=r"samples in common, got none, in .*Lung\.v8\.bed and .*g\.bed"):
        join_samples(study.settings(), np.array(names), Ledger())
    study.tissue("Lung", DONORS[5:], names)
    with pytest.raises(InputError, match=r"samples in common, got none, in .*Lung\.v8\.bed and .*Lung\.txt"):
        join_samples(study.settings(), np.array(DONORS), Ledger())


def test_a_tissue_without_covariates_is_refused(study: Study) -> None:
    (study.folder / "Skin.txt").unlink()
    with pytest.raises(InputError, match=r"covariates of tissue 'Skin', got no file '.*Skin\.txt'"):
        join_samples(study.settings(), np.array(DONORS), Ledger())


def test_covariates_must_leave_something(study: Study) -> None:
    study.tissue("Skin", DONORS[:4])
    with pytest.raises(InputError, match="more samples than covariates, got 4 samples and 2 covariates, in tissue 'Sk"):
        join_samples(study.settings(min_samples=4), np.array(DONORS), Ledger())


def test_adjusted_expression_has_variance_one_beside_the_covariates(study: Study) -> None:
    settings = study.settings()
    tissues, _ = join_samples(settings, np.array(DONORS), Ledger())
    path = settings.expression_of("Lung")
    table = pd.read_csv(path, sep="\t", index_col="gene_id")
    table.iloc[1, 6] = np.nan
    table.iloc[2, 3:] = 7.0
    table.reset_index()[["#chr", "start", "end", "gene_id", *table.columns[3:]]].to_csv(path, sep="\t", index=False)
    genes, values, scale = adjusted_expression(path, tissues[0])
    assert genes.index.tolist() == ["G0", "G1", "G2"]
    assert genes["line"].tolist() == [2, 3, 4]
    C = pd.read_csv(settings.covariates_of("Lung"), sep="\t", index_col="ID").T.loc[tissues[0].samples]
    Z = np.column_stack([np.ones(len(C)), C])
    y = table.loc["G0", list(tissues[0].samples)].to_numpy(dtype=float)
    left = y - Z @ np.linalg.lstsq(Z, y, rcond=None)[0]
    sd = np.sqrt(left @ left / (len(y) - 3))
    np.testing.assert_allclose(scale[0], sd, rtol=1e-12)
    np.testing.assert_allclose(values[0], left / sd, atol=1e-12)
    assert np.isnan(scale[1:]).all()
    assert np.isnan(values[1:]).all()


def table(genes: dict[str, tuple[str, int]], first: int = 2) -> pd.DataFrame:
    rows = {name: (chromosome, end - 1, end, first + i) for i, (name, (chromosome, end)) in enumerate(genes.items())}
    return pd.DataFrame.from_dict(rows, orient="index", columns=["chromosome", "start", "end", "line"])


def test_genes_are_joined_by_name_and_sorted_by_place(study: Study) -> None:
    tables = {
        "Lung": table({"X": ("chrX", 5), "B": ("chr10", 9), "A": ("chr2", 50), "C": ("chr2", 70)}),
        "Skin": table({"A": ("2", 50), "B": ("10", 9), "X": ("X", 5)}),
    }
    ledger = Ledger()
    found = common_genes(tables, study.settings(), ledger)
    assert found.index.tolist() == ["A", "B", "X"]
    assert found[["Lung", "Skin"]].to_numpy().tolist() == [[2, 0], [1, 1], [0, 2]]
    assert ledger.names("genes", "expressed in fewer than 2 tissues") == ["C"]
    every = common_genes(tables, study.settings(min_tissues=1), Ledger())
    assert every.index.tolist() == ["A", "C", "B", "X"]
    assert every.loc["C", "Skin"] == -1


def test_genes_of_two_places_are_refused(study: Study) -> None:
    tables = {"Lung": table({"A": ("chr2", 50)}), "Skin": table({"B": ("chr2", 40), "A": ("chr2", 51)})}
    with pytest.raises(InputError, match=r"gene 'A' at one position, got .*51.*50.*'Lung', in .*Skin\.v8\.bed, line 3"):
        common_genes(tables, study.settings(), Ledger())


def test_genes_that_tissues_do_not_share(study: Study) -> None:
    tables = {"Lung": table({"A": ("chr2", 50)}), "Skin": table({"B": ("chr2", 40)})}
    with pytest.raises(InputError, match="genes expressed in 2 tissues, got none"):
        common_genes(tables, study.settings(), Ledger())
    with pytest.raises(InputError, match="genes expressed in 7 tissues, got none"):
        common_genes(tables, study.settings(min_tissues=7), Ledger())


def test_folds_of_donors_keep_a_donor_together(study: Study) -> None:
    """No donor who is tested in one tissue teaches in another; nor does the order of genotypes matter."""
    settings = study.settings(fold_by="donor")
    tissues, _ = join_samples(settings, np.array(DONORS), Ledger())
    lung, skin = (fold_of(tissue) for tissue in tissues)
    shared = set(lung) & set(skin)
    assert len(shared) == 7
    assert all(lung[one] == skin[one] for one in shared)
    assert set(lung.values()) == set(range(4))
    again, _ = join_samples(settings, np.array(DONORS[::-1]), Ledger())
    assert [fold_of(tissue) for tissue in again] == [lung, skin]
    by_tissue, _ = join_samples(study.settings(), np.array(DONORS), Ledger())
    apart = [fold_of(tissue) for tissue in by_tissue]
    assert any(apart[0][one] != apart[1][one] for one in shared)


def fold_of(tissue: Any) -> dict[str, int]:
    fold = np.repeat(np.arange(4), np.diff(tissue.edges))
    return dict(zip(tissue.samples.tolist(), fold.tolist(), strict=True))
