"""``ebmodel check``: what it prints and writes, and one line with exit status 2 for what it cannot use."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import ebmodel
from ebmodel.checks import CHECKS
from ebmodel.simulate import violated
from tests.test_report import read

EBMODEL = Path(sys.executable).with_name("ebmodel")
PARAMS = ebmodel.Params(tau1=0.6, beta=[0.6, -0.4, 0.5], eta=8.0, sigma2=1.0)
TISSUES = [
    "Brain - Cortex",
    "Brain - [bold]Basal[/bold]",
    "Brain <3",
    "Liver",
    "Lung",
    "Skin_leg",
    "Skin_arm",
    "Testis",
]
RESULTS = {"checks.nc", "checks.csv", "report.html", "checks.png"}


@pytest.fixture
def run(cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Run the command in this process."""
    monkeypatch.setenv("COLUMNS", "200")
    return lambda *args: cli("check", *args)


@pytest.fixture(scope="module")
def fit() -> ebmodel.Fit:
    gene = violated("block-errors", 0.7, PARAMS, n=60, m=8, missing=np.linspace(0.0, 0.5, 8), seed=3)
    return ebmodel.fit(gene.X, gene.Y.assign_coords(tissue=TISSUES), n_starts=4)


@pytest.fixture(scope="module")
def stored(fit: ebmodel.Fit, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("fit") / "gene.nc"
    fit.to_netcdf(path)
    return path


@pytest.fixture(scope="module")
def draws(fit: ebmodel.Fit, stored: Path) -> Path:
    """In place of draws by NUTS, which take long: parameters refitted to drawn data."""
    tree = ebmodel.bootstrap(fit, replicates=8, draws=5, n_starts=2, progress=False)
    posterior = tree["posterior"].to_dataset()
    tree["posterior"] = xr.DataTree(posterior.assign(eta=posterior["eta"].clip(0.1)))  # draws by NUTS are never 0
    tree.attrs = {"slab": "g", "mean": "free", "verdict": "Sound."}
    path = stored.with_name("draws.nc")
    ebmodel.save_posterior(tree, path)
    return path


def strict(text: str) -> dict:
    """JSON without NaN, which is none."""

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    return json.loads(text, parse_constant=refuse)


def test_from_end_to_end(fit: ebmodel.Fit, stored: Path, tmp_path: Path) -> None:
    """A new process: table, time left, folder, page."""
    out = tmp_path / "new" / "folder"
    args = [EBMODEL, "check", stored, "--replicates", "19", "--out", out, "--seed", "2"]
    done = subprocess.run([str(arg) for arg in args], capture_output=True, text=True, check=False,
                          env=os.environ | {"COLUMNS": "200"})  # fmt: skip
    assert done.returncode == 0
    assert "19/19" in done.stderr
    want = ebmodel.check(fit, replicates=19, seed=2, progress=False)
    got = xr.open_dataset(out / "checks.nc", engine="h5netcdf")
    xr.testing.assert_allclose(got.drop_vars(["assumption", "meaning", "remedy", "statistic", "verdict"]),
                               want.drop_vars(["assumption", "meaning", "remedy", "statistic", "verdict"]))  # fmt: skip
    assert got.attrs == want.attrs
    printed = " ".join(done.stdout.split())
    for name in CHECKS:
        one = want.sel(check=name)
        (row,) = re.findall(rf"│ {name} +│(.*)", done.stdout)
        cells = [cell.strip() for cell in row.split("│")]
        numbers = [float(one[key]) for key in ("p_value", "p_plugin")]
        assert cells[2:4] == [f"{number:.3f}" if np.isfinite(number) else "-" for number in numbers]
        assert one.meaning.item() in printed
        if one.remedy.item():
            assert f"To do: {one.remedy.item()}" in printed
    assert printed.count("To do:") == (want.remedy != "").sum() > 0
    page = read(out / "report.html")
    assert page.text.count("Fit gene") == 2
    assert "Brain <3" in page.text
    written = {path.name for path in out.iterdir()}
    assert written >= RESULTS
    assert {
        Path(line.removeprefix("Wrote ")).name for line in done.stdout.splitlines() if line.startswith("Wrote")
    } == written
    assert pd.read_csv(out / "checks.csv", index_col="check").index.tolist() == list(CHECKS)


def test_json_is_what_is_printed(run: Callable[..., Any], fit: ebmodel.Fit, stored: Path) -> None:
    result = run(stored, "--quick", "--replicates", "9", "--json")
    assert result.status == 0
    assert result.err == ""
    summary, want = strict(result.out), ebmodel.check(fit, replicates=9, refit=False, progress=False)
    assert [row["check"] for row in summary["checks"]] == list(CHECKS)
    for row in summary["checks"]:
        one = want.sel(check=row["check"])
        for key, value in row.items():
            if isinstance(value, float):
                assert value == pytest.approx(one[key].item())
            else:
                assert value == one[key].item() if isinstance(value, str) else np.isnan(one[key].item())
    assert summary["refitted"] is False
    assert (summary["replicates"], summary["seed"], summary["failed"], summary["files"]) == (9, 0, 0, [])
    assert "plug-in ones, too large" in summary["notes"][0]
    assert summary["notes"][1].startswith("with 9 drawn data sets no p-value is below 0.1: none is 'doubtful'")


def test_only_some_quick_and_quiet(run: Callable[..., Any], stored: Path) -> None:
    result = run(stored, "--quick", "--replicates", "19", "--only", "normal-errors, linearity,normal-errors")
    assert result.status == 0
    assert re.findall(r"│ ([a-z]+-?[a-z]+) +│", result.out) == ["normal-errors", "linearity"]
    assert "not fitted again" in result.out
    assert "note: without refits p-values are plug-in ones" in result.err
    quiet = run(stored, "--quick", "--replicates", "19", "--only", "normal-errors", "--quiet")
    assert quiet.out == ""
    assert re.fullmatch(r"note: without refits .*\nnote: with 19 .*\n", quiet.err)


def test_groups_by_name_and_from_a_file(
    run: Callable[..., Any], fit: ebmodel.Fit, stored: Path, tmp_path: Path
) -> None:
    args = (stored, "--quick", "--replicates", "9", "--only", "unrelated-groups", "--json")
    (by_name,) = strict(run(*args, "--groups", "names").out)["checks"]
    want = ebmodel.check(fit, "unrelated-groups", 9, refit=False, groups="names", progress=False)
    assert by_name["observed"] == pytest.approx(want["observed"].item())
    groups = pd.Series([name.replace("_", " ").split(" ")[0] for name in TISSUES], TISSUES, name="group")
    groups.iloc[::-1].rename_axis("tissue").to_csv(tmp_path / "groups.csv")
    (from_file,) = strict(run(*args, "--groups", tmp_path / "groups.csv").out)["checks"]
    assert from_file == by_name


def test_draws_bring_their_data_and_findings(
    run: Callable[..., Any], stored: Path, draws: Path, tmp_path: Path
) -> None:
    args = (stored, "--posterior", draws, "--quick", "--replicates", "9", "--only", "normal-errors")
    summary = strict(run(*args, "--json").out)
    comparison = ebmodel.compare(ebmodel.open_fit(stored), ebmodel.open_posterior(draws))
    assert summary["at"] == "draws of the posterior"
    assert summary["findings"] == comparison.attrs["findings"]
    assert summary["verdict"] == "Sound."
    result = run(*args, "--out", tmp_path)
    assert comparison.attrs["findings"] in " ".join(result.out.split())
    assert "Draws: Sound." in result.out
    assert "EM beside the full posterior" in read(tmp_path / "report.html").text
    assert {path.name for path in tmp_path.iterdir()} >= RESULTS | {"probabilities.png", "hyperparameters.png"}


def refused(run: Callable[..., Any], *args: object) -> str:
    """Exit status 2 and one line on stderr in the package's style."""
    result = run(*args, "--quick", "--replicates", "2")
    assert result.status == 2
    assert re.fullmatch(r"error: expected .+, got .+, in .+; do .+\n", result.err)
    assert result.out == ""
    return result.err


def test_what_cannot_be_used_is_refused(run: Callable[..., Any], stored: Path, draws: Path, tmp_path: Path) -> None:
    assert "no such file" in refused(run, tmp_path / "gone.nc")
    (tmp_path / "text.nc").write_text("no fit")
    assert "expected a fit written by ebmodel" in refused(run, tmp_path / "text.nc")
    assert "expected a fit written by ebmodel" in refused(run, draws)
    assert "got wings" in refused(run, stored, "--only", "wings")
    assert "expected names of checks" in refused(run, stored, "--only", ",")
    assert "got 0" in refused(run, stored, "--jobs", "0")
    assert "no such file" in refused(run, stored, "--groups", tmp_path / "gone.csv")
    (tmp_path / "groups.csv").write_text("tissue,group\nLiver,a\nLung,\n")
    assert "none for 'Lung'" in refused(run, stored, "--groups", tmp_path / "groups.csv")
    (tmp_path / "groups.csv").write_text("tissue,group\nLiver,a\nLung,b\n")
    assert "expected a label for every tissue" in refused(run, stored, "--groups", tmp_path / "groups.csv")
    assert "draws written by ebmodel" in refused(run, stored, "--posterior", tmp_path / "gone.nc")
    assert {path.name for path in tmp_path.iterdir()} == {"text.nc", "groups.csv"}


def test_a_folder_that_cannot_be_written_is_refused_first(
    run: Callable[..., Any], stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    assert "a file" in refused(run, tmp_path / "gone.nc", "--out", tmp_path / "file" / "new")
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write everywhere
    assert "permission denied" in refused(run, tmp_path / "gone.nc", "--out", tmp_path / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_draws_of_other_data_are_refused(
    run: Callable[..., Any], fit: ebmodel.Fit, draws: Path, tmp_path: Path
) -> None:
    ds = fit.dataset
    other = ebmodel.fit(ds.X, ds.Y + 1.0, n_starts=2)
    other.to_netcdf(tmp_path / "other.nc")
    assert "fit and draws of the same data" in refused(run, tmp_path / "other.nc", "--posterior", draws)


def test_usage_errors_end_in_two(run: Callable[..., Any], stored: Path) -> None:
    assert run(stored, "--replicates", "0").status == 2
    assert run().status == 2
