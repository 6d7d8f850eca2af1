"""``ebmodel mash``: what it prints and writes, and one line with exit status 2 for what it cannot use."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import ebmodel
from ebmodel import mash
from ebmodel.files import open_dataset
from tests.test_mash_fitting import NAMES, C, J, frames, simulate
from tests.test_mash_report import PNG, TABLES, read, written

GTEX = Path(__file__).parents[2] / "shared" / "data" / "gtex_z_1000x44.csv.gz"
EBMODEL = Path(sys.executable).with_name("ebmodel")
ORDER = ["skin", "liver", "lung"]


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """bhat.csv, shat.csv, z.csv and v.csv; new_bhat.csv and new_shat.csv; and fit.nc, a fit to the first."""
    folder = tmp_path_factory.mktemp("tables")
    for prefix, data in (("", simulate(0, missing=0.05)), ("new_", simulate(1, 30))):
        for name, table in zip(("bhat", "shat"), frames(*data), strict=True):
            table.rename_axis("effect").to_csv(folder / f"{prefix}{name}.csv")
    bhat, shat = (pd.read_csv(folder / f"{name}.csv", index_col=0) for name in ("bhat", "shat"))
    (bhat / shat).to_csv(folder / "z.csv")
    pd.DataFrame(C, NAMES, NAMES).to_csv(folder / "v.csv")
    mash.fit(bhat, shat, covariances="canonical").to_netcdf(folder / "fit.nc")
    return folder


@pytest.fixture
def folder(tables, tmp_path):
    for path in tables.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def fit_args(folder, *more, out="out.nc"):
    return ["mash", "fit", "--bhat", folder / "bhat.csv", "--shat", folder / "shat.csv", "--out", folder / out, *more]


def apply_args(folder, *more, out="new.nc"):
    return ["mash", "apply", folder / "fit.nc", "--bhat", folder / "new_bhat.csv", "--shat", folder / "new_shat.csv",
            "--out", folder / out, *more]  # fmt: skip


def table(folder, name):
    return pd.read_csv(folder / f"{name}.csv", index_col=0)


def same(got, want):
    for name in ("mean", "sd", "lfsr", "lfdr", "loglik"):
        np.testing.assert_allclose(got[name], want[name], rtol=1e-10, atol=1e-10)


def strict(text):
    def refuse(name):
        raise AssertionError(name)

    return json.loads(text, parse_constant=refuse)


# Fit ------------------------------------------------------------------------------------------------------------------


def test_fit_is_that_of_the_package(cli, folder):
    result = cli(*fit_args(folder))
    want = mash.fit(table(folder, "bhat"), table(folder, "shat"))
    got = mash.open_fit(folder / "out.nc")
    assert result.status == 0
    same(got.posterior, want.posterior)
    assert got.loglik == want.loglik
    assert f"Read {J} effects in 3 conditions." in result.out
    assert f"log-likelihood {want.loglik:.3f}" in result.out
    assert "Weights of patterns" in result.out
    assert f"{want.null_weight:.3f}" in result.out
    significant = int((want.lfsr.min("condition") < 0.05).sum())
    assert f"{significant} effects have a sign known at a local false sign rate of 0.05" in " ".join(result.out.split())
    assert f"Wrote {folder / 'out.nc'}\n" in result.out
    assert all(line.startswith("note: ") for line in result.err.splitlines())


@pytest.mark.parametrize(
    ("options", "meant"),
    [
        (["--covariances", "canonical", "--alpha", "1"], {"alpha": 1.0}),
        (["--covariances", "canonical", "--alpha", "0.5", "--null-weight", "1"], {"alpha": 0.5, "null_weight": 1.0}),
        (["--covariances", "canonical", "--no-point-mass"], {"pointmass": False}),
        (["--covariances", "canonical", "--v", "estimate"], {"V": "estimate"}),
        (["--covariances", "canonical", "--contrast", "mean"], {"contrast": "mean"}),
        (["--covariances", "canonical", "--contrast", "lung"], {"contrast": "lung"}),
        (["--covariances", "canonical, data-driven", "--components", "2"],
         {"covariances": ["canonical", "data-driven"], "components": 2}),
    ],
)  # fmt: skip
def test_options_are_those_of_the_package(cli, folder, options, meant):
    assert cli(*fit_args(folder, *options, "--quiet")).status == 0
    want = mash.fit(table(folder, "bhat"), table(folder, "shat"), **{"covariances": "canonical", **meant})
    same(mash.open_fit(folder / "out.nc").posterior, want.posterior)


def test_v_from_a_file_by_name(cli, folder):
    table(folder, "v").loc[ORDER, ORDER].to_csv(folder / "mixed.csv")
    assert cli(*fit_args(folder, "--covariances", "canonical", "--v", folder / "mixed.csv")).status == 0
    want = mash.fit(table(folder, "bhat"), table(folder, "shat"), V=C, covariances="canonical")
    same(mash.open_fit(folder / "out.nc").posterior, want.posterior)


def test_tables_are_matched_by_name(cli, folder):
    shat = table(folder, "shat")
    shat.loc[shat.index[::-1], ORDER].to_csv(folder / "shat.csv")
    assert cli(*fit_args(folder, "--covariances", "canonical")).status == 0
    same(mash.open_fit(folder / "out.nc").posterior, mash.open_fit(folder / "fit.nc").posterior)


def test_z_scores(cli, folder):
    args = ["mash", "fit", "--z", folder / "z.csv", "--covariances", "canonical"]
    assert cli(*args, "--out", folder / "z.zarr").status == 0
    got = mash.open_fit(folder / "z.zarr")
    want = mash.fit(table(folder, "z"), alpha=1.0, covariances="canonical")
    same(got.posterior, want.posterior)
    result = cli(*args, "--contrast", "mean", "--out", folder / "contrast.nc")
    assert result.status == 0, result.err  # alpha was not asked for, and is nothing to z-scores


def test_ones_own_covariances(cli, folder):
    U = pd.DataFrame([[2.0, 1.0, 0.0], [1.0, 2.0, 0.0], [0.0, 0.0, 1.0]], NAMES, NAMES)
    U.loc[ORDER, ORDER].to_csv(folder / "U.csv")
    pd.DataFrame({"f": [1.0, 2.0, -1.0]}, NAMES).loc[ORDER].to_csv(folder / "F.tsv", sep="\t")
    own = ["--covariance", f"mine={folder / 'U.csv'}", "--covariance", f"thin={folder / 'F.tsv'}"]
    assert cli(*fit_args(folder, *own)).status == 0
    got = mash.open_fit(folder / "out.nc")
    np.testing.assert_allclose(got.covariances.sel(covariance="mine"), U / 2.0, atol=1e-12)
    np.testing.assert_allclose(got.covariances.sel(covariance="thin"), np.outer([1, 2, -1], [1, 2, -1]) / 4, atol=1e-12)
    assert cli(*fit_args(folder, *own, "--covariances", "canonical", out="both.nc")).status == 0
    assert mash.open_fit(folder / "both.nc").dataset.sizes["covariance"] == 3 + 5 + 2


def test_strong_effects_by_name(cli, folder):
    bhat, shat = table(folder, "bhat"), table(folder, "shat")
    rows = np.flatnonzero((np.abs(bhat / shat) > 4).any(axis=1))
    (folder / "strong.txt").write_text("\n".join(bhat.index[rows]) + "\n\n")
    strong = ["--strong", folder / "strong.txt", "--covariances", "data-driven"]
    assert cli(*fit_args(folder, *strong)).status == 0
    want = mash.fit(bhat, shat, strong=rows, covariances="data-driven")
    np.testing.assert_allclose(mash.open_fit(folder / "out.nc").covariances, want.covariances, atol=1e-12)


def test_standard_errors_of_zero_may_be_missing(cli, folder):
    shat = table(folder, "shat")
    shat.iloc[3, 0] = 0.0
    shat.to_csv(folder / "shat.csv")
    assert cli(*fit_args(folder, "--covariances", "canonical", "--tiny", "missing")).status == 0
    assert np.isnan(mash.open_fit(folder / "out.nc").dataset["bhat"][3, 0])


def test_quiet_and_json(cli, folder):
    result = cli(*fit_args(folder, "--covariances", "canonical", "--quiet"))
    assert (result.status, result.out) == (0, "")
    result = cli(*fit_args(folder, "--covariances", "canonical", "--json"))
    summary, want = strict(result.out), mash.open_fit(folder / "fit.nc")
    assert summary["effects"] == J
    assert summary["conditions"] == 3
    assert summary["converged"] is True
    assert summary["loglik"] == pytest.approx(want.loglik, rel=1e-12)
    assert summary["weights"]["null"] == pytest.approx(want.null_weight, rel=1e-9)
    assert summary["files"] == [str(folder / "out.nc")]


def test_fit_with_its_report(cli, folder):
    result = cli(*fit_args(folder, "--covariances", "canonical", "--report", folder / "a" / "b", "--json"))
    summary = strict(result.out)
    assert written(folder / "a" / "b") >= TABLES
    assert set(summary["files"]) >= {str(folder / "out.nc"), str(folder / "a" / "b" / "lfsr.tsv.gz")}
    assert all(Path(path).exists() for path in summary["files"])
    assert {"shared_by_all", "median_shared", "specific"} <= set(summary)
    for path in (folder / "a" / "b" / "figures").iterdir():
        assert path.read_bytes().startswith(PNG)


def test_one_condition(cli, folder):
    for name in ("bhat", "shat"):
        table(folder, name)[["liver"]].to_csv(folder / f"{name}.csv")
    result = cli(*fit_args(folder, "--report", folder / "report", "--json"))
    assert result.status == 0, result.err
    assert strict(result.out)["conditions"] == 1


def test_names_with_brackets_are_printed_as_they_are(cli, folder):
    """They are no markup."""
    names = ["T[CD4]", "[/B]", "skin"]
    for name in ("bhat", "shat"):
        table(folder, name).set_axis(names, axis=1).to_csv(folder / f"{name}.csv")
    result = cli(*fit_args(folder, "--covariances", "canonical", "--contrast", "[/B]"))
    assert result.status == 0, result.err
    assert "T[CD4]-[/B]" in result.out


# Apply ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("out", ["new.nc", "new.zarr"])
def test_apply_is_that_of_the_package(cli, folder, out):
    result = cli(*apply_args(folder, out=out))
    assert result.status == 0
    want = mash.open_fit(folder / "fit.nc").apply(table(folder, "new_bhat"), table(folder, "new_shat"))
    same(open_dataset(folder / out, "lfsr", "a posterior"), want)
    assert f"30 effects in 3 conditions: log-likelihood {float(want['loglik'].sum()):.3f}" in result.out
    assert f"Wrote {folder / out}\n" in result.out
    again = strict(cli(*apply_args(folder, "--json", out=out)).out)
    assert again["loglik"] == pytest.approx(float(want["loglik"].sum()), rel=1e-12)
    assert again["files"] == [str(folder / out)]
    assert cli(*apply_args(folder, "--quiet", out=out))[:2] == (0, "")


def test_apply_with_columns_in_another_order_and_another_v(cli, folder):
    want = mash.open_fit(folder / "fit.nc").apply(table(folder, "new_bhat"), table(folder, "new_shat"), C)
    table(folder, "new_bhat")[ORDER].to_csv(folder / "new_bhat.csv")
    table(folder, "v").loc[ORDER, ORDER].to_csv(folder / "v.csv")
    assert cli(*apply_args(folder, "--v", folder / "v.csv")).status == 0
    same(open_dataset(folder / "new.nc", "lfsr", "a posterior"), want)


def test_apply_to_z_scores(cli, folder):
    fit, out = folder / "zfit.nc", folder / "new.nc"
    assert cli("mash", "fit", "--z", folder / "z.csv", "--covariances", "canonical", "--out", fit).status == 0
    assert cli("mash", "apply", fit, "--z", folder / "z.csv", "--out", out).status == 0
    same(open_dataset(out, "lfsr", "a posterior"), mash.open_fit(fit).posterior)


# Report ---------------------------------------------------------------------------------------------------------------


def test_report_writes_tables_and_figures(cli, folder):
    out = folder / "results"
    result = cli("mash", "report", folder / "fit.nc", "--out", out)
    assert result.status == 0
    assert written(out) >= TABLES | {"figures/weights.png", "figures/patterns.png", "figures/sharing.png"}
    for path in (out / "figures").iterdir():
        assert path.read_bytes().startswith(PNG)
        assert path.stat().st_size > 5000
    for name in written(out):
        assert f"Wrote {out / name}\n" in result.out
    assert "are of one sign in all conditions" in " ".join(result.out.split())


def test_report_options(cli, folder):
    out = folder / "results"
    args = ["mash", "report", folder / "fit.nc", "--out", out, "--no-figures", "--level", "0.01", "--factor", "0.7"]
    summary = strict(cli(*args, "--json").out)
    fit = mash.open_fit(folder / "fit.nc")
    assert summary["level"] == 0.01
    assert summary["significant"] == int((fit.lfsr.min("condition") < 0.01).sum())
    assert written(out) == TABLES
    want = mash.sharing.pairwise_sharing(fit, 0.7, 0.01)
    np.testing.assert_allclose(read(out / "sharing_magnitude.tsv"), want, rtol=1e-5)
    assert cli(*args, "--quiet") == (0, "", "")


def test_report_of_other_effects_and_those_to_draw(cli, folder):
    assert cli(*apply_args(folder, out="new.zarr")).status == 0
    out = folder / "results"
    result = cli("mash", "report", folder / "fit.nc", "--posterior", folder / "new.zarr", "--out", out, "--effects",
                 "e3, e1")  # fmt: skip
    assert result.status == 0
    assert read(out / "lfsr.tsv.gz").shape == (30, 3)
    assert {path.name for path in (out / "figures").glob("effect_*")} == {"effect_1.png", "effect_2.png"}


# What cannot be used --------------------------------------------------------------------------------------------------


def refused(cli, folder, args, said):
    def there():
        return {path: path.is_file() and path.stat().st_mtime_ns for path in sorted(folder.rglob("*"))}

    before = there()
    result = cli(*args)
    assert result.status == 2, result
    assert re.fullmatch(r"error: expected .+, got .+, in .+; do .+\n", result.err), result.err
    assert re.search(said, result.err), result.err
    assert there() == before


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--alpha", "2"], "0 <= alpha <= 1, got 2"),
        (["--alpha", "nan"], "0 <= alpha <= 1, got nan"),
        (["--v", "nowhere.csv"], r"no such file, in nowhere\.csv"),
        (["--v", "identify"], "in identify|one of 'identity'"),
        (["--covariances", "learned"], "'canonical', 'data-driven', .*got 'learned'"),
        (["--covariances", ""], "some of 'canonical', 'data-driven', .*got none"),
        (["--null-weight", "0.5"], "at least 1, got 'null'"),
        (["--null-weight", "nan"], "at least 1"),
        (["--tiny", "drop"], "'refuse', 'missing', got 'drop'"),
        (["--contrast", "kidney"], "'mean' or one of 'liver', 'lung', 'skin', got 'kidney'"),
        (["--contrast", "mean", "--alpha", "1"], "alpha = 0 with contrasts"),
        (["--covariance", "nameless.csv"], "NAME=FILE, got 'nameless.csv'"),
        (["--covariance", "=x.csv"], "NAME=FILE"),
        (["--covariance", "mine=nowhere.csv"], "no such file"),
        (["--strong", "nowhere.txt"], "No such file or directory, in --strong nowhere.txt"),
        (["--report", "{}/bhat.csv"], "a folder that can be made, got a file"),
        (["--report", "{}/bhat.csv/sub"], "a folder that can be made, got a file"),
        (["--z", "{}/z.csv"], "--bhat and --shat, or --z alone, got --bhat, --shat, --z"),
    ],
)
def test_options_that_cannot_be_used(cli, folder, options, said):
    refused(cli, folder, fit_args(folder, *[option.format(folder) for option in options]), said)


@pytest.mark.parametrize(
    ("given", "got"), [([], "none of them"), (["--bhat"], "--bhat"), (["--shat"], "--shat"),
                       (["--z", "--shat"], "--shat, --z")],
)  # fmt: skip
@pytest.mark.parametrize("command", [["fit"], ["apply", "fit.nc"]])
def test_estimates_come_with_standard_errors(cli, folder, monkeypatch, given, got, command):
    monkeypatch.chdir(folder)
    files = [part for name in given for part in (name, f"{name[2:]}.csv")]
    refused(cli, folder, ["mash", *command, *files, "--out", "out.nc"], f"--z alone, got {got}, in the command line")


def spoil(folder, name, edit):
    whole = table(folder, name)
    edited = edit(whole)
    (whole if edited is None else edited).to_csv(folder / f"{name}.csv")


@pytest.mark.parametrize(
    ("name", "edit", "said"),
    [
        ("bhat", lambda t: t.astype(object).replace(t.iloc[0, 0], "many"), r"expected numbers, .*many.*bhat"),
        ("shat", lambda t: t.astype(object).replace(t.iloc[0, 0], "many"), r"expected numbers, .*many.*shat"),
        ("bhat", lambda t: t.assign(liver=np.inf), r"finite estimates, got inf, .*effect e0, condition liver"),
        ("shat", lambda t: t.assign(lung=np.where(t.index == "e7", 0.0, t["lung"])), "effect e7, condition lung.*tiny"),
        ("shat", lambda t: t.assign(lung=-1.0), "positive standard errors, got -1 .*condition lung"),
        ("shat", lambda t: t.assign(lung=np.nan), "a standard error for every estimate"),
        ("shat", lambda t: t.rename(columns={"lung": "Lung"}), "the conditions of bhat, got no 'lung'"),
        ("shat", lambda t: t.rename(index={"e5": "E5"}), "the effects of bhat, got no 'e5'"),
        ("shat", lambda t: t.iloc[:-1], r"a shape of \(240, 3\), got \(239, 3\)"),
        ("shat", lambda t: t[NAMES[:2]], r"a shape of \(240, 3\), got \(240, 2\)"),
        ("bhat", lambda t: t.rename(index={"e5": "e4"}), "each effect once, got 'e4' more than once"),
        ("bhat", lambda t: t * np.nan, "at least one estimate|at least one"),
    ],
)
def test_tables_that_cannot_be_used(cli, folder, name, edit, said):
    spoil(folder, name, edit)
    refused(cli, folder, fit_args(folder), said)


@pytest.mark.parametrize("text", ["", "effect,liver\n", "effect\ne1\n", "effect,liver\ne1,1,2\n", "\x00\x01"])
def test_files_that_are_no_tables(cli, folder, text):
    (folder / "bhat.csv").write_text(text)
    refused(cli, folder, fit_args(folder), "bhat.csv")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (np.eye(2), r"a shape of \(3, 3\).* in V"),
        (np.ones((3, 3)), "a positive definite matrix.* in V"),
        (C + np.triu(C, 1), "a symmetric matrix.* in V"),
        (C[:, :2], r"a shape of \(3, 3\)|'skin'"),
    ],
)
def test_a_v_that_cannot_be_used(cli, folder, value, said):
    pd.DataFrame(value, NAMES[: len(value)], NAMES[: value.shape[1]]).to_csv(folder / "v.csv")
    refused(cli, folder, fit_args(folder, "--v", folder / "v.csv"), said)


def test_a_v_of_other_conditions(cli, folder):
    spoil(folder, "v", lambda t: t.rename(index={"lung": "kidney"}, columns={"lung": "kidney"}))
    refused(cli, folder, fit_args(folder, "--v", folder / "v.csv"), "kidney|lung")


@pytest.mark.parametrize(
    ("value", "rows", "said"),
    [
        (np.eye(2), NAMES[:2], "in covariance mine"),
        (np.ones((2, 3)), NAMES[:2], "in covariance mine"),
        (-np.eye(3), NAMES, "a positive semi-definite matrix.* in covariance mine"),
        (np.zeros((3, 3)), NAMES, "a covariance with variance.* in covariance mine"),
        (np.eye(3), ["liver", "lung", "kidney"], "kidney|skin"),
        (np.array([["a"], ["b"], ["c"]]), NAMES, "numbers.* in covariance mine"),
    ],
)
def test_a_covariance_that_cannot_be_used(cli, folder, value, rows, said):
    pd.DataFrame(value, rows, NAMES[: value.shape[1]]).to_csv(folder / "U.csv")
    refused(cli, folder, fit_args(folder, "--covariance", f"mine={folder / 'U.csv'}"), said)


def test_covariances_that_do_not_go_together(cli, folder):
    own = ["--covariance", f"mine={folder / 'v.csv'}"]
    refused(cli, folder, fit_args(folder, *own, *own), "each name once, got 'mine'")
    refused(cli, folder, fit_args(folder, *own, "--covariances", "data-driven"), "--covariance with canonical")
    identity = ["--covariance", f"identity={folder / 'v.csv'}", "--covariances", "canonical"]
    refused(cli, folder, fit_args(folder, *identity), "each name once, got 'identity'")


@pytest.mark.parametrize(("text", "said"), [("e1\nnobody\n", "no 'nobody'"), ("\n", "got none")])
def test_strong_effects_that_are_none(cli, folder, text, said):
    (folder / "strong.txt").write_text(text)
    refused(cli, folder, fit_args(folder, "--strong", folder / "strong.txt"), f"names of effects, got {said}|{said}")


@pytest.mark.parametrize("args", [fit_args, apply_args])
@pytest.mark.parametrize(
    ("out", "said"),
    [
        ("out.csv", "a name ending in .nc or .zarr, got 'out.csv'"),
        ("nowhere/out.nc", "an existing folder"),
        ("taken.zarr", "a file or a Zarr store, got another folder"),
    ],
)
def test_places_that_cannot_be_written(cli, folder, args, out, said):
    (folder / "taken.zarr").mkdir()
    refused(cli, folder, args(folder, out=out), said)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written(cli, folder):
    locked = folder / "locked"
    locked.mkdir(mode=0o500)
    for args in (fit_args(folder, out="locked/out.nc"), fit_args(folder, "--report", locked / "report"),
                 ["mash", "report", folder / "fit.nc", "--out", locked / "report"]):  # fmt: skip
        refused(cli, folder, args, "permission denied")


@pytest.mark.parametrize("kind", ["text", "table", "posterior", "regression", "nothing", "folder"])
def test_what_is_no_fit(cli, folder, kind):
    path = folder / "strange.nc"
    if kind == "text":
        path.write_text("no fit")
    elif kind == "table":
        path = folder / "bhat.csv"
    elif kind == "posterior":
        assert cli(*apply_args(folder, out="strange.nc")).status == 0
    elif kind == "regression":
        rng = np.random.default_rng(0)
        ebmodel.fit(rng.standard_normal((20, 2)), rng.standard_normal((20, 2)), n_starts=1).to_netcdf(path)
    elif kind == "folder":
        path.mkdir()
    said = "a mash fit written by ebmodel"
    refused(cli, folder, ["mash", "report", path, "--out", folder / "results"], said)
    refused(cli, folder, ["mash", "apply", path, "--z", folder / "z.csv", "--out", folder / "new.nc"], said)


@pytest.mark.parametrize("kind", ["text", "fit", "regression", "nothing", "renamed"])
def test_what_is_no_posterior(cli, folder, kind):
    path = folder / "strange.nc"
    if kind == "text":
        path.write_text("no posterior")
    elif kind == "fit":
        mash.fit(table(folder, "bhat"), table(folder, "shat"), covariances="canonical", grid=[1.0],
                 posterior=False).to_netcdf(path)  # fmt: skip
    elif kind == "regression":
        rng = np.random.default_rng(0)
        ebmodel.fit(rng.standard_normal((20, 2)), rng.standard_normal((20, 2)), n_starts=1).to_netcdf(path)
    elif kind == "renamed":
        xr.Dataset({"lfsr": (("row", "column"), np.zeros((2, 2)))}).to_netcdf(path, engine="h5netcdf")
    args = ["mash", "report", folder / "fit.nc", "--posterior", path, "--out", folder / "results"]
    refused(cli, folder, args, "posterior")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--effects", "e1,nobody"], "effects of the posterior, got 'nobody'"),
        (["--level", "0"], "0 < level <= 1, got 0"),
        (["--factor", "1"], "0 <= factor < 1, got 1"),
        (["--posterior", "nowhere.nc"], "no such file, in nowhere.nc"),
        (["--out", "{}/bhat.csv"], "a folder that can be made, got a file"),
    ],
)
def test_reports_that_cannot_be(cli, folder, options, said):
    out = [] if "--out" in options else ["--out", folder / "results"]
    refused(cli, folder, ["mash", "report", folder / "fit.nc", *out, *[o.format(folder) for o in options]], said)


def test_a_file_in_the_way_of_figures(cli, folder):
    (folder / "results").mkdir()
    (folder / "results" / "figures").write_text("mine")
    refused(cli, folder, ["mash", "report", folder / "fit.nc", "--out", folder / "results"], "figures")


def test_other_conditions_than_the_fits(cli, folder):
    spoil(folder, "new_bhat", lambda t: t.rename(columns={"skin": "Skin"}))
    refused(cli, folder, apply_args(folder), "the conditions of the fit, got no 'skin', in bhat")
    spoil(folder, "new_bhat", lambda t: t[["liver", "lung"]])
    refused(cli, folder, apply_args(folder, out="new.zarr"), "got no 'skin'")


def test_a_word_for_v_where_a_file_is_asked_for(cli, folder):
    refused(cli, folder, apply_args(folder, "--v", "estimate"), "V|--v")


def test_a_v_that_does_not_fit_the_fit(cli, folder):
    pd.DataFrame(np.eye(2)).to_csv(folder / "v.csv")
    refused(cli, folder, apply_args(folder, "--v", folder / "v.csv", out="new.zarr"), r"a shape of \(3, 3\)")


# As it is installed ---------------------------------------------------------------------------------------------------


def installed(*args):
    return subprocess.run([EBMODEL, *map(str, args)], capture_output=True, text=True, check=False, timeout=300)


def test_the_installed_command(folder):
    done = installed(*fit_args(folder, "--covariances", "canonical", "--json"))
    assert done.returncode == 0, done.stderr
    assert strict(done.stdout)["effects"] == J
    assert done.stderr == ""


# Real data ------------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not GTEX.is_file(), reason="the real data are not here")
def test_brain_tissues_share_with_each_other(cli, tmp_path):
    """Figure 6 of Urbut et al.: by magnitude, brain tissues are a block of their own."""
    result = cli("mash", "fit", "--z", GTEX, "--covariances", "canonical", "--out", tmp_path / "gtex.nc", "--json")
    assert result.status == 0, result.err
    summary = strict(result.out)
    assert (summary["effects"], summary["conditions"], summary["converged"]) == (1000, 44, True)
    out = tmp_path / "results"
    assert cli("mash", "report", tmp_path / "gtex.nc", "--out", out, "--no-figures", "--quiet").status == 0
    share = read(out / "sharing_magnitude.tsv")
    assert share.shape == (44, 44)
    np.testing.assert_allclose(share, share.T)
    brain = share.index.str.startswith("Brain")
    assert brain.sum() == 10
    within = share.to_numpy()[np.ix_(brain, brain)][np.triu_indices(10, 1)]
    between = share.to_numpy()[np.ix_(brain, ~brain)]
    others = share.to_numpy()[np.ix_(~brain, ~brain)][np.triu_indices(34, 1)]
    assert within.mean() > between.mean() + 0.05
    assert others.mean() > between.mean()
    assert read(out / "lfsr.tsv.gz").shape == (1000, 44)
