"""The README's tables of genome-wide runs are those of the runs that were kept, and keep what a run's store says."""

from __future__ import annotations

import pytest

from simulations import gtex
from simulations.__main__ import main, shows


def test_readme_shows_the_kept_runs():
    assert shows("gtex", gtex.show())


def test_targets_are_met_by_the_kept_run_of_full_size():
    """4,827 genes, 32 tissues, 838 donors: 15 minutes, 4 GB, and a cost that grows as the genes do."""
    full, tenth = gtex.read(gtex.FULL), gtex.read(gtex.TENTH)
    assert full["genes"]["fitted"] >= 4827
    assert len(full["tissues"]) == 32
    assert full["simulated"]["donors"] == 838
    assert set(full["asked"]["methods"]) == set(gtex.NAMES)
    assert "figures" in full["seconds"]
    assert sum(full["seconds"].values()) <= 15 * 60
    assert full["memory_mb"] <= 4000
    per_gene = [run["seconds"]["genes"] / run["genes"]["fitted"] for run in (tenth, full)]
    assert per_gene[1] <= 1.25 * per_gene[0]


def test_every_tissue_gains_in_the_kept_run():
    """At the paper's estimator, by more than three standard errors: the model holds in this study."""
    for row in gtex.read(gtex.FULL)["tissues"]:
        assert row["paper"]["percent"] > 3 * row["paper"]["percent_se"]


def test_a_run_that_is_not_there_is_an_error(capsys: pytest.CaptureFixture[str], tmp_path):
    (tmp_path / "truth").mkdir()
    (tmp_path / "truth" / "settings.json").write_text("{}")
    assert main(["gtex", str(tmp_path), "--truth", str(tmp_path), "--name", "none"]) == 2
    assert "expected results of ebmodel gtex run" in capsys.readouterr().err
    assert not (gtex.KEPT / "none.json").exists()
