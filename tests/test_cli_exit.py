"""How the program ends: exit status and stderr, in a process of its own, when something is in its way."""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import ebmodel
from ebmodel.errors import InputError

EBMODEL = Path(sys.executable).with_name("ebmodel")
ONE_LINE = r"error: expected .+, got .+, in .+; do .+\n"
TRACKER = r".*resource_tracker: There appear to be \d+ leaked \w+ objects to clean up.*\n  warnings\.warn\(\n"
"""What joblib's resource tracker, a process that outlives the program, may say of semaphores that it cleans up."""
SOON = 300.0
"""Seconds within which a process ends."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tables of a gene, and its fit."""
    at = tmp_path_factory.mktemp("made")
    gene = ebmodel.simulate.setting(3, rho=0.4, signal=2, sigma=4, m=6, p=3, seed=7)
    gene.X.to_pandas().to_csv(at / "x.csv")
    gene.Y.to_pandas().to_csv(at / "y.csv")
    ebmodel.fit(gene.X, gene.Y, n_starts=2).to_netcdf(at / "gene.nc")
    return at


def files(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in sorted(folder.rglob("*")) if path.is_file()}


def fit_args(made: Path, out: Path, *more: object) -> list[str]:
    args = ["fit", "--genotypes", made / "x.csv", "--expression", made / "y.csv", "--starts", 2, "--out", out, *more]
    return [str(arg) for arg in args]


def installed(*args: object, **settings: Any) -> subprocess.CompletedProcess[str]:
    settings = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | settings
    return subprocess.run([EBMODEL, *map(str, args)], text=True, check=False, timeout=SOON, **settings)


# Interrupts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("more", [["--out", "checked"], ["--jobs", "2", "--json"]], ids=["one", "two processes"])
def test_an_interrupt_ends_in_130_and_leaves_nothing(made: Path, tmp_path: Path, more: list[str]) -> None:
    """As a terminal sends it: to the program and to all that it started."""
    (tmp_path / "gene.nc").write_bytes((made / "gene.nc").read_bytes())
    before = files(tmp_path)
    process = subprocess.Popen(
        [EBMODEL, "check", "gene.nc", "--replicates", "100000", "--seed", "1", *more], cwd=tmp_path, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509 - a job ignores it
    )  # fmt: skip
    time.sleep(12.0)  # imports take some seconds, the work would take hours
    assert process.poll() is None
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=SOON)
    assert process.returncode == 130
    assert out == ""
    assert "Traceback" not in err
    assert re.sub(TRACKER, "", err).splitlines()[-1] == "interrupted"
    assert files(tmp_path) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gene.nc"]


@pytest.mark.parametrize("moment", ["import", "run"])
def test_an_interrupt_at_any_moment(cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    if moment == "import":
        monkeypatch.delitem(sys.modules, "ebmodel.cli.app", raising=False)
        monkeypatch.setattr(sys, "meta_path", [type("Finder", (), {"find_spec": interrupted})])
    else:
        monkeypatch.setattr("ebmodel.demo.simulate_gene", interrupted)
    assert cli("demo", "--out", "nowhere") == (130, "", "interrupted\n")
    assert not Path("nowhere").exists()


# Output that is not read, or cannot be written -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "args", [["--help"], ["--version"], ["check", "GENE", "--quick", "--replicates", "3", "--json"]]
)
def test_output_that_nobody_reads(made: Path, args: list[str]) -> None:
    read, write = os.pipe()
    os.close(read)
    done = installed(*(arg.replace("GENE", str(made / "gene.nc")) for arg in args), stdout=write)
    os.close(write)
    assert done.returncode == 141
    assert re.fullmatch(r"(checks .*\n)?(note: .*\n)*", done.stderr), done.stderr


def test_a_reader_that_leaves_early(made: Path, tmp_path: Path) -> None:
    """As `ebmodel fit ... | head -1`: the result is whole, if it was written."""
    command = [EBMODEL, *fit_args(made, tmp_path / "fit.nc")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith("Read 50 samples")
        process.stdout.close()
        assert process.wait(SOON) == 141
        assert process.stderr.read() == ""
    assert ebmodel.open_fit(tmp_path / "fit.nc").converged
    assert [path.name for path in tmp_path.iterdir()] == ["fit.nc"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_output_without_room() -> None:
    with Path("/dev/full").open("w") as full:
        done = installed("--help", stdout=full)
    assert done.returncode == 2
    assert re.fullmatch(ONE_LINE, done.stderr)
    assert "No space left on device" in done.stderr


def test_letters_that_a_terminal_does_not_have(made: Path, tmp_path: Path) -> None:
    done = installed(*fit_args(made, tmp_path / "fit.nc"), env=os.environ | {"PYTHONIOENCODING": "ascii"})
    assert (done.returncode, done.stderr) == (0, "")
    assert "?effect?" in done.stdout


# Results that cannot be written --------------------------------------------------------------------------------------


def no_room() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**9, 2**9))


@pytest.mark.parametrize(
    ("out", "name"),
    [
        ("gene", "gene/genotypes.csv.gz"),
        ("gene.nc", "gene.nc"),  # HDF5 alone would print a hundred lines and crash
        ("gene.zarr", "gene.zarr"),
    ],
)
def test_a_disk_without_room(tmp_path: Path, out: str, name: str) -> None:
    done = installed("simulate", "--setting", 1, "--out", out, cwd=tmp_path, preexec_fn=no_room)
    assert done.returncode == 2, done.stderr
    assert re.fullmatch(ONE_LINE, done.stderr), done.stderr
    assert "File too large" in done.stderr
    assert f"in {name}" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_errors_of_the_machine_are_one_line_and_others_keep_their_traceback(
    cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def run(error: BaseException) -> Any:
        def fail(*_: object, **__: object) -> None:
            raise error

        monkeypatch.setattr("ebmodel.demo.simulate_gene", fail)
        return cli("demo", "--out", tmp_path / "demo")

    for number, words in ((13, "Permission denied"), (28, "No space left on device"), (30, "Read-only file system")):
        result = run(OSError(number, words, "/somewhere/x"))
        assert (result.status, result.out) == (2, "")
        assert re.fullmatch(ONE_LINE, result.err)
        assert f"got {words}, in /somewhere/x; do" in result.err
    assert run(InputError("a", "b", "c\nd", "e")) == (2, "", "error: expected a, got b, in c d; do e\n")
    for bug in (ValueError("x"), OSError(9, "Bad file descriptor"), ZeroDivisionError(), OSError("x")):
        with pytest.raises(type(bug)) as caught:
            run(bug)
        assert caught.value is bug
    assert not (tmp_path / "demo").exists()


def test_a_bug_has_a_traceback_and_status_1() -> None:
    code = (
        "from ebmodel.cli import bayes, main\n"
        "bayes.check_folder = lambda out: 1 / 0\n"
        "main(['compare', '--out', 'nowhere', '--json'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=SOON)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Traceback (most recent call last):\n")
    assert done.stderr.endswith("ZeroDivisionError: division by zero\n")


# What is not installed -----------------------------------------------------------------------------------------------

WITHOUT = """
import sys
for name in sys.argv[1].split(","):
    sys.modules[name] = None
from ebmodel.cli import main
main(sys.argv[2:])
"""


@pytest.mark.parametrize(
    ("package", "args", "words"),
    [
        ("bed_reader", ["fit", "--genotypes", "x.bed"], 'do pip install "ebmodel[genotypes]"'),
        ("pgenlib", ["fit", "--genotypes", "x.pgen"], 'do pip install "ebmodel[genotypes]"'),
        ("cyvcf2", ["fit", "--genotypes", "x.vcf"], 'do pip install "ebmodel[genotypes]"'),
        ("msprime", ["gtex", "simulate", "--out", "study"], 'do pip install "ebmodel[genotypes]"'),
        ("distributed", ["gtex", "run", "--config", "study.toml", "--cluster", "x"], "do pip install distributed"),
    ],
)
def test_a_package_that_is_missing(made: Path, tmp_path: Path, package: str, args: list[str], words: str) -> None:
    for name in ("x.bed", "x.bim", "x.fam", "x.pgen", "x.psam", "x.pvar", "x.vcf"):
        (tmp_path / name).write_text("something\n")
    (tmp_path / "study.toml").write_text('genotypes = "x.bed"\nexpression = "{tissue}.bed.gz"\n'
                                         'covariates = "{tissue}.txt"\nout = "out"\n')  # fmt: skip
    before = files(tmp_path)
    more = ["--expression", str(made / "y.csv"), "--out", "fit.nc"] if args[0] == "fit" else []
    done = subprocess.run([sys.executable, "-c", WITHOUT, package, *args, *more], cwd=tmp_path, capture_output=True,
                          text=True, check=False, timeout=SOON)  # fmt: skip
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert re.fullmatch(ONE_LINE, done.stderr), done.stderr
    assert f"expected the package {package}, got no such package" in done.stderr
    assert words in done.stderr
    assert files(tmp_path) == before


# What is asked wrongly -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["fit"], "Missing option '--genotypes'"),
        (["ft"], "No such command 'ft'. Did you mean 'fit'?"),
        (["fit", "--tops", "3"], "No such option: --tops"),
        (["check", "x.nc", "--jobs", "some"], "Invalid value for '--jobs'"),
        (["check", "x.nc", "--replicates", "0"], "Invalid value for '--replicates'"),
        (["gtex", "rum"], "Did you mean 'run'?"),
        (["mash", "apply"], "Missing argument 'FIT'"),
        (["check", "x.nc", "y.nc"], "unexpected extra argument"),
    ],
)
def test_usage(cli: Callable[..., Any], args: list[str], words: str) -> None:
    result = cli(*args)
    assert (result.status, result.out) == (2, "")
    usage, hint, _, error = result.err.split("\n")[:4]
    assert usage.startswith("Usage: ebmodel")
    assert hint.startswith("Try 'ebmodel")
    assert error.startswith("Error: ")
    assert words in error


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["gtex", "export", "FOLDER", "--out", "x"], "results of ebmodel gtex run"),
        (["fit", "--genotypes", "FOLDER", "--expression", "y", "--out", "x.nc"], "got a folder"),
        (["check", "FOLDER"], "a fit written by ebmodel"),
        (["compare", "--fit", "FOLDER", "--posterior", "FOLDER"], "a fit written by ebmodel"),
        (["mash", "report", "FOLDER", "--out", "x"], "a mash fit written by ebmodel"),
        (["gtex", "run", "--config", "FOLDER"], "expected"),
        (["demo", "--out", "FILE"], "a folder that can be made"),
        (["demo", "--out", "FILE/x"], "a folder that can be made"),
        (["simulate", "--setting", "1", "--out", "FILE/x.nc"], "an existing folder"),
    ],
)
def test_files_for_folders_and_folders_for_files(
    cli: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, args: list[str], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    pd.DataFrame({"a": [1.0]}).to_csv(tmp_path / "file.csv")
    before = sorted(tmp_path.rglob("*"))
    result = cli(*(arg.replace("FOLDER", "folder").replace("FILE", "file.csv") for arg in args))
    assert (result.status, result.out) == (2, "")
    assert re.fullmatch(ONE_LINE, result.err)
    assert words in result.err
    assert sorted(tmp_path.rglob("*")) == before
