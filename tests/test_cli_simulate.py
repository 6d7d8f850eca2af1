"""``ebmodel simulate``: what it writes is the package's data, and ``ebmodel fit`` runs on it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import ebmodel
from ebmodel import simulate
from ebmodel.cli import main

EBMODEL = Path(sys.executable).with_name("ebmodel")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str, str]]:
    """Run the command line in this process: status, output, errors."""
    monkeypatch.setenv("COLUMNS", "160")

    def call(*args: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            main(["simulate", *(str(arg) for arg in args)])
        printed = capsys.readouterr()
        assert isinstance(caught.value.code, int)
        return caught.value.code, printed.out, printed.err

    return call


def read(path: Path) -> xr.Dataset:
    opened = xr.open_zarr(path, consolidated=False) if path.suffix == ".zarr" else xr.open_dataset(path)
    with opened as data:
        return data.load()


def test_simulated_tables_are_fitted_from_end_to_end(tmp_path: Path) -> None:
    def call(*args: object) -> str:
        done = subprocess.run(
            [EBMODEL, *map(str, args)], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    said = call("simulate", "--setting", 3, "--rho", 0.4, "--signal", 2, "--sigma", 4, "--snps", 6, "--tissues", 10,
                "--seed", 7, "--out", "gene")  # fmt: skip
    assert "Simulated 50 samples, 6 SNPs, 10 tissues" in said
    for name in ("genotypes.csv.gz", "expression.csv", "truth.csv"):
        assert f"Wrote gene/{name}" in said
    call("fit", "--genotypes", "gene/genotypes.csv.gz", "--expression", "gene/expression.csv", "--no-intercept",
         "--starts", 4, "--out", "fit.nc", "--quiet")  # fmt: skip
    gene = simulate.setting(3, rho=0.4, signal=2, sigma=4, p=6, m=10, seed=7)
    fit = ebmodel.open_fit(tmp_path / "fit.nc")
    np.testing.assert_array_equal(fit.dataset.X, gene.X)
    np.testing.assert_array_equal(fit.dataset.Y, gene.Y)
    np.testing.assert_allclose(fit.effects, ebmodel.fit(gene.X, gene.Y, n_starts=4).effects, rtol=1e-6, atol=1e-9)
    truth = pd.read_csv(tmp_path / "gene" / "truth.csv", index_col="tissue")
    np.testing.assert_array_equal(truth["active"], gene.active)
    np.testing.assert_array_equal(truth.drop(columns="active"), gene.effects)
    assert list(truth) == ["active", *gene.snp.to_numpy()]


@pytest.mark.parametrize("name", ["gene.nc", "gene.zarr"])
def test_a_file_holds_all_of_the_data_set(run: Callable[..., tuple[int, str, str]], tmp_path: Path, name: str) -> None:
    status, out, _ = run("--setting", 4, "--tau1", 0.2, "--tissues", 5, "--out", tmp_path / name)
    assert status == 0
    assert f"Wrote {tmp_path / name}" in out
    data, want = read(tmp_path / name), simulate.setting(4, tau1=0.2, m=5)
    xr.testing.assert_equal(data, want)
    assert data.attrs == want.attrs
    simulate.exact_posterior(data)


def test_violations(run: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    out = tmp_path / "gene.nc"
    status, said, _ = run("--violation", "correlated-errors", "--strength", 0.3, "--snps", 6, "--tissues", 8,
                          "--samples", 40, "--missing", 0.1, "--seed", 2, "--out", out, "--json")  # fmt: skip
    beta = np.repeat([1.0, 0.5, 0.0], 2)
    theta = ebmodel.Params(tau1=0.5, beta=beta, eta=40, sigma2=100)
    xr.testing.assert_equal(
        read(out), simulate.violated("correlated-errors", 0.3, theta, n=40, m=8, missing=0.1, seed=2)
    )
    summary = json.loads(said)
    assert status == 0
    assert (summary["samples"], summary["snps"], summary["tissues"]) == (40, 6, 8)
    assert (summary["violation"], summary["strength"]) == ("correlated-errors", 0.3)
    assert summary["missing_responses"] == 32
    assert summary["beta"] == beta.tolist()
    assert summary["files"] == summary["out"] == [str(out)]


def test_genotypes_of_ones_own(run: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    table = pd.DataFrame(
        np.random.default_rng(1).integers(0, 3, (30, 3)), [f"GTEX-{i}" for i in range(30)], ["rs1", "rs2", "rs3"]
    )
    table.rename_axis("sample").to_csv(tmp_path / "x.csv")
    given = "--genotypes", tmp_path / "x.csv", "--tissues", 4, "--out", tmp_path / "gene.nc"
    assert run("--setting", 4, "--samples", 25, *given)[0] == 0
    xr.testing.assert_equal(read(tmp_path / "gene.nc"), simulate.setting(4, genotypes=table, n=25, m=4))
    assert run("--violation", "two-slabs", "--strength", 0, *given)[0] == 0
    data = read(tmp_path / "gene.nc")
    np.testing.assert_array_equal(data.X, table)
    assert data.sample.to_numpy().tolist() == table.index.tolist()
    assert data.attrs["eta"] == 30


def test_the_same_seed_gives_the_same_files(run: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    for name in ("a", "b"):
        assert run("--setting", 1, "--tissues", 3, "--out", tmp_path / name, "--quiet") == (0, "", "")
    for name in ("genotypes.csv.gz", "expression.csv", "truth.csv"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "expected --setting K or --violation NAME, got neither"),
        (["--setting", 1, "--violation", "two-slabs"], "got both"),
        (["--setting", 1, "--strength", 1], "got --strength alone"),
        (["--setting", 1, "--eta", 1], "got --eta alone"),
        (["--setting", 1, "--genotypes", "x.csv"], "expected --genotypes in Setting 4, got Setting 1"),
        (["--setting", 1, "--missing", 1], "0 <= missing < 1"),
        (["--violation", "two-slabs"], "expected --strength S"),
        (["--violation", "two-slabs", "--strength", 1, "--rho", 0.5], "expected --rho with --setting"),
        (["--violation", "nothing", "--strength", 1], "one of heavy-tails"),
        (["--setting", 4, "--genotypes", "none.vcf"], "no such file"),
        (["--setting", 1, "--out", "gene.csv"], "a name ending in .nc or .zarr, or a folder's, got 'gene.csv'"),
    ],
)
def test_what_cannot_be_used_is_one_line(
    run: Callable[..., tuple[int, str, str]], tmp_path: Path, arguments: list[object], words: str
) -> None:
    out = [] if "--out" in arguments else ["--out", tmp_path / "gene"]
    status, said, error = run(*arguments, *out)
    assert (status, said) == (2, "")
    assert error.startswith("error: expected ")
    assert error.count("\n") == 1
    assert words in error
    assert not (tmp_path / "gene").exists()
