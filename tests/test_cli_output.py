"""What commands print: --quiet and --json are the same for all of them, in a process of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest

import ebmodel
from ebmodel import mash
from ebmodel.cli.output import folder, plain
from ebmodel.eqtl.run import run_study
from ebmodel.eqtl.settings import read_settings
from ebmodel.eqtl.simulation import simulate_study
from ebmodel.errors import InputError
from tests.test_cli_help import RUNS, SHORT, TREE

FEW = ["--draws", "50", "--tune", "100", "--chains", "2"]
TABLES = ["--genotypes", "gene/genotypes.csv.gz", "--expression", "gene/expression.csv"]
CALLS: dict[tuple[str, ...], list[str]] = {
    ("demo",): ["--out", "demo"],
    ("simulate",): ["--violation", "two-slabs", "--strength", "1", "--tissues", "6", "--out", "two"],
    ("fit",): [*TABLES, "--select", "--starts", "2", "--out", "gene.zarr"],
    ("check",): ["gene.nc", "--quick", "--replicates", "9", "--only", "normal-errors,enough-tissues"],
    ("sample",): [*TABLES, *FEW, "--out", "draws.nc"],
    ("compare",): ["--fit", "gene.nc", "--posterior", "made.nc"],
    ("gtex", "run"): ["--config", "study/study.toml", "--truth", "study", "--jobs", "1", "--no-figures"],
    ("gtex", "report"): ["study/results", "--out", "again", "--no-figures"],
    ("gtex", "export"): ["study/results", "--out", "predictdb"],
    ("gtex", "simulate"): ["--out", "new", "--genes", "1", "--donors", "60", "--tissues", "Lung", "--jobs", "1"],
    ("mash", "fit"): ["--bhat", "bhat.csv", "--shat", "shat.csv", "--covariances", "canonical", "--out", "mash.zarr"],
    ("mash", "apply"): ["mash.nc", "--bhat", "bhat.csv", "--shat", "shat.csv", "--out", "posterior.nc"],
    ("mash", "report"): ["mash.nc", "--out", "report", "--no-figures"],
}
"""A small call of every command, on what `work` made."""
EACH_WAY = """
import json, shutil, sys
from ebmodel.cli import main

for call in json.loads(sys.argv[1]):
    for more in (["--quiet"], ["--json"], []):
        shutil.rmtree("new", ignore_errors=True)
        try:
            main([*call, *more])
        except SystemExit as ended:
            status = ended.code
        print(end="\\0", flush=True)
        print(status, end="\\0", file=sys.stderr, flush=True)
"""
"""Calls with --quiet, with --json and with neither, in one process: what is imported and compiled is so once."""


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a simulated gene, its fit and draws, estimates and their fit, and a small study that was run."""
    at = tmp_path_factory.mktemp("work")
    gene = ebmodel.simulate.setting(3, rho=0.4, signal=2, sigma=4, m=6, p=3, seed=7)
    (at / "gene").mkdir()
    gene.X.to_pandas().to_csv(at / "gene" / "genotypes.csv.gz")
    gene.Y.to_pandas().to_csv(at / "gene" / "expression.csv")
    fit = ebmodel.fit(gene.X, gene.Y, n_starts=2)
    fit.to_netcdf(at / "gene.nc")
    tree = ebmodel.bootstrap(fit, replicates=8, draws=5, n_starts=2, progress=False)  # in place of draws by NUTS
    posterior = tree["posterior"].to_dataset()
    tree["posterior"] = posterior.assign(eta=posterior["eta"].clip(0.1))
    tree.attrs = {"slab": "g", "mean": "free", "verdict": "Sound."}
    ebmodel.save_posterior(tree, at / "made.nc")
    rng = np.random.default_rng(0)
    bhat = pd.DataFrame(rng.standard_normal((60, 2)) * 2.0, [f"e{j}" for j in range(60)], ["liver", "skin"])
    bhat.to_csv(at / "bhat.csv")
    pd.DataFrame(1.0, bhat.index, bhat.columns).to_csv(at / "shat.csv")
    mash.fit(bhat, 1.0, covariances="canonical").to_netcdf(at / "mash.nc")
    pytest.importorskip("msprime")
    simulate_study(at / "study", genes=2, donors=120, tissues=["Lung", "Thyroid"], progress=False)
    with (at / "study" / "study.toml").open("a") as file:
        file.write('min_samples = 30\nfolds = 3\np = 0.05\nmethods = ["paper", "ols"]\n')
    run_study(read_settings(at / "study" / "study.toml"), jobs=1, progress=False)
    return at


class Said(NamedTuple):
    """What a command printed, each way: stdout, and stderr with the status at its end."""

    quiet: str
    document: str
    text: str
    quiet_error: str
    document_error: str
    text_error: str


@pytest.fixture(scope="module")
def said(work: Path) -> dict[tuple[str, ...], Said]:
    calls = json.dumps([[*names, *rest] for names, rest in CALLS.items()])
    done = subprocess.run(
        [sys.executable, "-c", EACH_WAY, calls], cwd=work, capture_output=True, text=True, check=False, timeout=1200,
        env=os.environ | {"COLUMNS": str(SHORT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    out, err = (text.split("\0")[:-1] for text in (done.stdout, done.stderr))
    every = zip(out[::3], out[1::3], out[2::3], err[::3], err[1::3], err[2::3], strict=True)
    return {names: Said(*texts) for names, texts in zip(CALLS, every, strict=True)}


def strict(text: str) -> Any:
    """Read JSON as those do who know no NaN."""

    def refuse(name: str) -> None:
        raise AssertionError(name)

    return json.loads(text, parse_constant=refuse)


def test_every_command_is_called_here() -> None:
    assert set(CALLS) == set(RUNS)


@pytest.mark.parametrize("names", CALLS, ids=" ".join)
def test_quiet_and_json(names: tuple[str, ...], said: Any, work: Path) -> None:
    one: Said = said[names]
    assert one.quiet == ""
    assert one.document_error == "0"
    summary = strict(one.document)
    assert one.quiet_error == "".join(f"note: {note}\n" for note in summary["notes"]) + "0"
    assert len(summary) > 2, "nothing but notes and files"
    if "--out" not in CALLS[names]:
        assert summary["files"] == [] or names == ("gtex", "run")
        return
    asked = CALLS[names][CALLS[names].index("--out") + 1]
    assert summary["files"]
    assert all((work / path).exists() for path in summary["files"] if asked != "new")
    assert all(Path(path).parts[0] == asked for path in summary["files"])


@pytest.mark.parametrize("names", CALLS, ids=" ".join)
def test_tables_fit_a_terminal(names: tuple[str, ...], said: Any) -> None:
    """Nothing is cut off, and lines are short, but for those to be copied."""
    one: Said = said[names]
    assert one.text_error.endswith("0")
    lines = [line for line in one.text.splitlines() if not line.startswith(("Wrote ", "Run it: "))]
    assert max(map(len, lines), default=0) <= SHORT
    assert "…" not in one.text
    summary = strict(one.document)
    assert [line.removeprefix("Wrote ") for line in one.text.splitlines() if line[:6] == "Wrote "] == summary["files"]


def test_every_table_was_there(said: Any) -> None:
    titles = {"demo": "Truth and fit", "fit": "Slabs and means", "check": "Checks", "sample": "Hyperparameters",
              "compare": "P(I=1)", "gtex run": "Prediction", "gtex report": "Prediction",
              "mash fit": "Weights"}  # fmt: skip
    for name, title in titles.items():
        assert title in said[tuple(name.split())].text
    assert "AUC of P(I=1)" in said["gtex", "run"].text


def test_nothing_is_left_behind(said: Any, work: Path) -> None:
    assert said
    assert [path for path in work.rglob("*") if path.name.endswith((".part", ".old"))] == []


def test_options_are_the_same_for_all() -> None:
    for names in RUNS:
        own = {param.opts[0]: param for param in TREE[names].params}
        for name in ("--quiet", "--json"):
            first = next(param for param in TREE["fit",].params if param.opts == [name])
            assert own[name].help == first.help
            assert own[name].default is False


def test_json_wins_over_quiet(cli: Any, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(work)
    result = cli("check", *CALLS["check",], "--quiet", "--json")
    assert (result.status, result.err) == (0, "")
    assert strict(result.out)["replicates"] == 9


def test_plain_is_what_json_has() -> None:
    value = {
        "a": np.float64(1.5), "b": np.array([1, 2]), "c": (np.nan, np.inf, -np.inf, 0.0), "d": np.bool_(True),
        "e": Path("x") / "y", 3: np.array([[np.nan]]), "f": None, "g": np.int64(7), "h": np.array("text"),
    }  # fmt: skip
    want = {"a": 1.5, "b": [1, 2], "c": [None, None, None, 0.0], "d": True, "e": "x/y", "3": [[None]], "f": None,
            "g": 7, "h": "text"}  # fmt: skip
    assert plain(value) == want
    assert strict(json.dumps(plain(value), allow_nan=False)) == want


# Folders -------------------------------------------------------------------------------------------------------------


def test_a_folder_gets_all_files_or_none(tmp_path: Path) -> None:
    out = tmp_path / "new" / "results"
    with folder(out) as (inside, places):
        (inside / "figures").mkdir()
        paths = [inside / "a.txt", inside / "figures" / "b.txt"]
        for path in paths:
            path.write_text("first")
        assert not out.exists()
        files = places([*paths, tmp_path / "elsewhere"])
    assert files == [out / "a.txt", out / "figures" / "b.txt", tmp_path / "elsewhere"]
    (out / "mine").write_text("stays")
    for error in (KeyboardInterrupt, ValueError):
        with pytest.raises(error):
            put(out, "a.txt", error)
    with folder(out) as (inside, _):
        (inside / "figures").mkdir()
        (inside / "figures" / "b.txt").write_text("third")
    assert {path.name: path.read_text() for path in tmp_path.rglob("*") if path.is_file()} == {
        "a.txt": "first", "b.txt": "third", "mine": "stays",
    }  # fmt: skip
    assert sorted(path.name for path in out.iterdir()) == ["a.txt", "figures", "mine"]


def put(out: Path, name: str, error: type[BaseException] | None = None) -> None:
    with folder(out) as (inside, _):
        (inside / name).parent.mkdir(exist_ok=True)
        (inside / name).write_text("second")
        if error is not None:
            raise error


def test_what_is_in_the_way_is_said_by_its_own_name(tmp_path: Path) -> None:
    (tmp_path / "figures").write_text("mine")
    (tmp_path / "a.txt").mkdir()
    with pytest.raises(InputError, match=r"a folder that can be made, got a file, .*/figures"):
        put(tmp_path, "figures/b.txt")
    with pytest.raises(InputError, match=r"a file that can be written, got a folder, in .*/a\.txt"):
        put(tmp_path, "a.txt")
    with pytest.raises(InputError, match=r"in \S*/report\.html; do x") as caught, folder(tmp_path) as given:
        raise InputError("a place", "none", str(given[0] / "report.html"), "x")
    assert ".part" not in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "figures"]
