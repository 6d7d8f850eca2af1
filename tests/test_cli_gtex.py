"""``ebmodel gtex``: from simulated files to tables, figures and databases, as somebody would at a terminal."""

from __future__ import annotations

import gzip
import json
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from ebmodel.eqtl.export import read_extra, read_weights
from ebmodel.eqtl.store import open_results
from ebmodel.labels import ESTIMATOR, GENE, METHOD, TISSUE
from tests.conftest import Run
from tests.test_eqtl_run import CHOICES, Raw, make_raw

pytest.importorskip("msprime")
TISSUES = ["Artery_Tibial", "Lung", "Thyroid", "Whole_Blood"]
PLAIN = """
import sys
sys.modules["dask"] = sys.modules["distributed"] = None  # a plain installation has neither
from ebmodel.cli import main
main(sys.argv[1:])
"""


def shell(folder: Path, *arguments: object) -> str:
    """Run the command in a process of its own; what it printed."""
    command = [sys.executable, "-c", PLAIN, "gtex", *map(str, arguments)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def strict(text: str) -> Any:
    """Read JSON as those do who know no NaN."""

    def refuse(name: str) -> None:
        raise AssertionError(name)

    return json.loads(text, parse_constant=refuse)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gtex")
    said = shell(folder, "simulate", "--out", "study", "--genes", 14, "--donors", 240, "--tissues", ",".join(TISSUES),
                 "--seed", 2, "--jobs", 1)  # fmt: skip
    assert "Wrote study\n" in said
    assert "Run it: ebmodel gtex run --config study/study.toml --truth study" in said
    with (folder / "study" / "study.toml").open("a") as file:
        file.write('min_samples = 100\nfolds = 4\np = 1e-3\nmethods = ["paper", "ols"]\n')
    return folder


@pytest.fixture(scope="module")
def said(study: Path) -> str:
    return shell(study, "run", "--config", "study/study.toml", "--truth", "study", "--jobs", 1)


def test_a_run_writes_what_it_promises(study: Path, said: str) -> None:
    out = study / "study" / "results"
    results = open_results(out)
    fitted = int((results["status"] == "fitted").sum())
    assert results[TISSUE].to_numpy().tolist() == TISSUES
    assert fitted >= 5
    assert f"14 genes: {fitted} fitted, {14 - fitted} no SNP passes." in said
    files = {path.relative_to(out).as_posix() for path in out.rglob("*") if "results.zarr" not in path.parts}
    assert files >= {"genes.tsv.gz", "egenes.tsv.gz", "gains.tsv", "accuracy.tsv",
                     "dropped.tsv", "figures/pmse_paper.png", "figures/r2_gain_paper.png", "figures/sharing.png",
                     "figures/activity_paper.png", "figures/accuracy.png"}  # fmt: skip
    for name in files - {"figures"}:
        assert f"results/{name}\n" in said
    dropped = pd.read_csv(out / "dropped.tsv", sep="\t")
    assert (
        dropped.loc[(dropped["step"] == "analysis of genes") & (dropped["reason"] == "kept"), "count"].item() == fitted
    )
    assert json.loads(results.attrs["seconds"]).keys() >= {"join", "expression", "variants", "genes", "store"}


def test_again_as_json(study: Path, said: str, cli: Callable[..., Any]) -> None:
    done = cli("gtex", "run", "--config", study / "study" / "study.toml", "--truth", study / "study", "--json")
    assert (done.status, done.err) == (0, "")
    summary, results = strict(done.out), open_results(study / "study" / "results")
    assert sum(summary["genes"].values()) == 14
    assert summary["genes"]["fitted"] == int((results["status"] == "fitted").sum())
    assert summary["failed"] == []
    assert all(Path(path).exists() for path in summary["files"])
    table = pd.read_csv(study / "study" / "results" / "egenes.tsv.gz", sep="\t")
    assert (summary["calls"]["pairs"], summary["calls"]["egenes"]) == (len(table), table["gene"].nunique())
    first = next(row for row in summary["gains"] if row["method"] == "paper" and row["min_snps"] == 0)
    r2 = results["r2"].sel({METHOD: "paper"}).mean(GENE).mean().item()
    assert first["r2"] == pytest.approx(r2)
    accuracy = pd.read_csv(study / "study" / "results" / "accuracy.tsv", sep="\t").set_index(["estimator", "tissue"])
    assert summary["accuracy"]["paper"]["auc"] == pytest.approx(accuracy.loc[("paper", "all tissues"), "auc"], rel=1e-5)


def test_report_at_another_rate_elsewhere(study: Path, said: str, cli: Callable[..., Any], tmp_path: Path) -> None:
    results, out = study / "study" / "results", tmp_path / "new" / "report"
    done = cli("gtex", "report", results / "results.zarr", "--out", out, "--fdr", 0.3, "--no-figures", "--json")
    assert done.status == 0
    assert strict(done.out)["calls"]["fdr"] == 0.3
    assert sorted(path.name for path in out.iterdir()) == ["egenes.tsv.gz", "gains.tsv", "genes.tsv.gz"]
    assert (out / "genes.tsv.gz").read_bytes() == (results / "genes.tsv.gz").read_bytes()
    quiet = cli("gtex", "report", results, "--out", out, "--no-figures", "--quiet")
    assert (quiet.status, quiet.out, quiet.err) == (0, "", "")


def test_export_for_others(study: Path, said: str, cli: Callable[..., Any], tmp_path: Path) -> None:
    folder = study / "study" / "results"
    results = open_results(folder)
    done = cli("gtex", "export", folder, "--out", tmp_path / "db", "--tissues", "Lung, Thyroid", "--probability", 0.5)
    assert done.status == 0
    assert sorted(path.name for path in (tmp_path / "db").iterdir()) == ["paper_Lung.db", "paper_Thyroid.db"]
    weights, extra = (read(tmp_path / "db" / "paper_Lung.db") for read in (read_weights, read_extra))
    P = results["posterior_probability"].sel({ESTIMATOR: "paper", TISSUE: "Lung"})
    assert set(extra["gene"]) == set(P[GENE].to_numpy()[P.to_numpy() >= 0.5])
    np.testing.assert_allclose(
        extra.set_index("gene")["pred.perf.R2"],
        results["r2"].sel({METHOD: "paper", TISSUE: "Lung", GENE: extra["gene"].tolist()}).squeeze(), rtol=1e-12,
    )  # fmt: skip
    first = weights[weights["gene"] == extra["gene"].iloc[0]]
    assert len(first) == extra["n.snps.in.model"].iloc[0]
    assert cli("gtex", "export", folder, "--out", tmp_path / "effects.tsv.gz", "--estimator", "generalised").status == 0
    table = pd.read_csv(tmp_path / "effects.tsv.gz", sep="\t")
    effects = results["effects"].sel({ESTIMATOR: "generalised", TISSUE: "Whole_Blood"})
    np.testing.assert_allclose(table["Whole_Blood"], effects, rtol=1e-5)
    assert table["variant"].tolist() == results["variant"].to_numpy().tolist()


# Files that cannot be used -------------------------------------------------------------------------------------------


@pytest.fixture
def small(tmp_path: Path) -> tuple[Path, Raw]:
    """A study of arrays in a folder, with the file that runs it."""
    raw = make_raw()
    raw.write(tmp_path / "study")
    lines = ['genotypes = "genotypes.bed"', 'expression = "{tissue}.bed.gz"', 'covariates = "{tissue}.cov.txt"',
             'out = "out"', 'methods = ["ols"]']  # fmt: skip
    lines += [
        f"{name} = {CHOICES[name]}" for name in ("min_samples", "ld_r2", "cis_window", "p", "r2", "folds", "seed")
    ]
    (tmp_path / "study" / "study.toml").write_text("\n".join([*lines, 'estimators = ["paper"]', ""]))
    return tmp_path / "study", raw


def refuse(done: Any, *words: str) -> None:
    assert (done.status, done.out) == (2, "")
    errors = [line for line in done.err.splitlines() if "━" not in line and line.strip()]
    assert len(errors) == 1, done.err
    assert errors[0].startswith("error: expected ")
    for word in words:
        assert word in errors[0]


def test_bad_files_end_in_one_line(small: tuple[Path, Raw], cli: Callable[..., Any]) -> None:
    """What was there before is there after, and a file put right is enough to go on."""
    folder, _ = small

    def run(*more: object) -> Any:
        return cli("gtex", "run", "--config", folder / "study.toml", "--jobs", 1, "--no-figures", "--quiet", *more)

    def broken(name: str, content: bytes | None, *words: str) -> None:
        path = folder / name
        whole = path.read_bytes()
        path.unlink() if content is None else path.write_bytes(content)
        refuse(run(), *words)
        path.write_bytes(whole)

    def changed(name: str, before: bytes, after: bytes) -> bytes:
        text = gzip.decompress((folder / name).read_bytes()) if name.endswith("gz") else (folder / name).read_bytes()
        assert before in text
        text = text.replace(before, after)
        return gzip.compress(text) if name.endswith("gz") else text

    donor = (folder / "genotypes.fam").read_text().split()[1].encode()
    broken("Skin.bed.gz", (folder / "Skin.bed.gz").read_bytes()[:2000], "Skin.bed.gz")
    broken("Skin.bed.gz", changed("Skin.bed.gz", b"\t", b","), "Skin.bed.gz, line 1")
    broken("Skin.bed.gz", changed("Skin.bed.gz", b"chr2", b"chr0"), "one position", "Skin.bed.gz, line 6")
    broken("Skin.cov.txt", None, "covariates of tissue 'Skin'")
    broken("Skin.cov.txt", changed("Skin.cov.txt", b"PC1\t", b"PC1\tx"), "Skin.cov.txt, line 3")
    broken("genotypes.bed", None, "genotypes.bed", "no such file")
    broken("genotypes.bed", (folder / "genotypes.bed").read_bytes()[:-7], "genotypes.bed")
    broken("genotypes.bim", None, ".bim")
    broken("genotypes.fam", changed("genotypes.fam", donor, donor + b"-0003").replace(b"GTEX-", b"GTEX_"),
           "samples in common, got none", "genotypes.bed")  # fmt: skip
    assert not (folder / "out" / "results.zarr").exists()
    refuse(run("--cluster", "nowhere://x"), "--cluster")
    refuse(run("--truth", folder), "genes.tsv.gz")
    refuse(run("--out", folder / "genotypes.bed" / "deep"), "a folder that can be made")
    assert run().status == 0
    before = open_results(folder / "out")
    broken("Skin.bed.gz", b"nonsense", "--fresh")
    path = folder / "Skin.bed.gz"
    path.write_bytes(b"nonsense")
    refuse(run("--fresh"), "Skin.bed.gz")
    xr.testing.assert_identical(open_results(folder / "out").drop_attrs(), before.drop_attrs())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "--config", "none.toml"], ["none.toml", "no such file"]),
        (["report", "none"], ["results of ebmodel gtex run", "none"]),
        (["export", "none", "--out", "db"], ["results of ebmodel gtex run"]),
        (["simulate", "--out", "x", "--tissues", "Tail"], ["'Tail'"]),
        (["simulate", "--out", "x", "--format", "csv"], ["'csv'"]),
    ],
)
def test_what_cannot_be_used_is_one_line(
    cli: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    refuse(cli("gtex", *arguments), *words)
    assert list(tmp_path.iterdir()) == []


def test_export_refuses_what_was_not_fitted(study: Path, said: str, cli: Callable[..., Any], tmp_path: Path) -> None:
    folder = study / "study" / "results"
    refuse(cli("gtex", "export", folder, "--out", tmp_path / "db", "--estimator", "lasso"), "'lasso'")
    refuse(cli("gtex", "export", folder, "--out", tmp_path / "db", "--tissues", "Lung,Tail"), "'Tail'")
    refuse(cli("gtex", "export", folder, "--out", tmp_path / "table.tsv"), ".tsv.gz")
    refuse(cli("gtex", "report", folder, "--out", tmp_path, "--fdr", 1.5), "0 < fdr < 1")
    refuse(cli("gtex", "report", folder, "--out", tmp_path, "--truth", tmp_path / "none"), "none")


def test_export_without_room(study: Path, said: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", PLAIN, "gtex", "export", study / "study" / "results", "--out", "db"]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2**13, 2**13)),
    )  # fmt: skip
    refuse(Run(done.returncode, done.stdout, done.stderr), "a place that can be written", "in db/paper_")
    assert list((tmp_path / "db").iterdir()) == []


def test_no_gene_passes(small: tuple[Path, Raw], study: Path, cli: Callable[..., Any]) -> None:
    folder, _ = small
    path = folder / "study.toml"
    path.write_text(path.read_text().replace("p = 0.0001", "p = 1e-300"))
    done = cli("gtex", "run", "--config", path, "--jobs", 1, "--truth", study / "study", "--json")
    assert done.status == 0
    summary = strict(done.out)
    assert summary["genes"] == {"no SNP passes": 8}
    assert "calls" not in summary


def test_a_failed_gene_is_a_note(small: tuple[Path, Raw], cli: Callable[..., Any]) -> None:
    folder, raw = small
    raw.expression["Skin"].iloc[3, 3] = np.nan
    raw.write(folder)
    done = cli("gtex", "run", "--config", folder / "study.toml", "--jobs", 1, "--no-figures", "--quiet")
    assert (done.status, done.out) == (0, "")
    assert done.err.startswith("note: gene ENSG3.1: expected values that are there and vary")
    assert "Skin.bed.gz, line 5" in done.err
    assert done.err.count("\n") == 1


# A cluster -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def cluster() -> Iterator[str]:
    """Address of a scheduler with two workers, one of which has two threads."""
    distributed = pytest.importorskip("distributed")
    with closing(
        distributed.LocalCluster(n_workers=1, threads_per_worker=2, processes=True, dashboard_address=None)
    ) as on:
        yield on.scheduler_address


@pytest.mark.parametrize("kind", ["pgen"])
def test_a_cluster_changes_nothing(
    cluster: str, small: tuple[Path, Raw], cli: Callable[..., Any], kind: str, tmp_path: Path
) -> None:
    folder, raw = small
    raw.write(folder, kind=kind)
    path = folder / "study.toml"
    path.write_text(path.read_text().replace("genotypes.bed", f"genotypes.{kind}"))
    run = "gtex", "run", "--config", path, "--no-figures", "--quiet"
    done = cli(*run, "--cluster", cluster, "--out", tmp_path / "on")
    assert done.status == 0, done.err
    assert cli(*run, "--jobs", 1, "--out", tmp_path / "off").status == 0
    xr.testing.assert_identical(open_results(tmp_path / "on").drop_attrs(), open_results(tmp_path / "off").drop_attrs())


def test_errors_that_correlate_are_a_note(study: Path, said: str) -> None:
    """Where donors' errors correlate Stouffer's Z is too large: a run says so, unless it allows for it."""
    from ebmodel.cli.gtex import _cautions

    results = open_results(study / "study" / "results")
    assert _cautions(results) == []
    results["stouffer_variance"] = results["stouffer_variance"] * 0.0 + 4.2
    (said_so,) = _cautions(results)
    assert "about 4.2" in said_so
    assert "correct_overlap = true" in said_so
    settings = json.loads(results.attrs["settings"]) | {"correct_overlap": True}
    results.attrs["settings"] = json.dumps(settings)
    assert _cautions(results) == []
