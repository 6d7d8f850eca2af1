"""Help: every command has a summary of one line and examples that are valid calls, and fits a terminal."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

import ebmodel
from ebmodel.cli import options
from ebmodel.cli.app import app
from ebmodel.cli.commands import examples

ROOT = Path(__file__).parents[1]
EBMODEL = Path(sys.executable).with_name("ebmodel")
PROGRAM = typer.main.get_command(app)
SHORT = 80


def walk(command: Any, *names: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command below this one, and this one."""
    yield names, command
    for name, sub in getattr(command, "commands", {}).items():
        yield from walk(sub, *names, name)


TREE = dict(walk(PROGRAM))
EVERY = pytest.mark.parametrize("names", TREE, ids=" ".join)
RUNS = [names for names, command in TREE.items() if not hasattr(command, "commands")]
GUIDES = [path for path in sorted(ROOT.rglob("*.md")) if not {".venv", "node_modules"} & set(path.parts)]


def parse(call: list[str]) -> tuple[str, ...]:
    """Parse a call as the program would, and run nothing; which command it is."""
    names: tuple[str, ...] = ()
    rest = call[1:]
    while (*names, *rest[:1]) in TREE and rest:
        names, rest = (*names, rest[0]), rest[1:]
    TREE[names].make_context(" ".join(names), list(rest))
    return names


@pytest.fixture
def help_of(cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    def read(*names: str) -> str:
        monkeypatch.setenv("COLUMNS", str(SHORT))
        result = cli(*names, "--help")
        assert (result.status, result.err) == (0, "")
        return result.out

    return read


def test_the_tree_is_walked() -> None:
    assert {("fit",), ("gtex", "export"), ("mash", "apply")} <= set(RUNS)
    assert len(TREE) >= 16


@EVERY
def test_a_summary_of_one_line(names: tuple[str, ...], help_of: Callable[..., str]) -> None:
    if not names:
        return
    above = help_of(*names[:-1])
    (line,) = re.findall(rf"^  {names[-1]} +(.*)$", above, re.MULTILINE)
    assert re.fullmatch(r"[A-Z].{20,}[^.]\.", line), line
    summary = TREE[names].short_help or TREE[names].help.splitlines()[0]
    assert line == summary
    assert not above.split(line)[1].startswith("\n   ")  # goes on


@EVERY
def test_help_fits_the_terminal(names: tuple[str, ...], help_of: Callable[..., str]) -> None:
    text = help_of(*names)
    assert max(len(line) for line in text.splitlines()) < SHORT
    assert "[bold]" not in text
    assert "<bool>" not in text
    assert "\x1b" not in text


@EVERY
def test_every_option_is_explained(names: tuple[str, ...], help_of: Callable[..., str]) -> None:
    text, command = help_of(*names), TREE[names]
    for param in command.params:
        assert param.help, param.name
        assert len(re.findall(r"\w+", param.help)) >= 1
        shown = param.metavar if param.param_type_name == "argument" else param.opts[0]
        assert len(re.findall(rf"^  {re.escape(shown)}(?= |$)", text, re.MULTILINE)) == 1, shown
        if param.metavar is None:
            assert param.param_type_name == "option"
            assert param.is_flag, f"a value without a name: {param.name}"


@pytest.mark.parametrize("names", RUNS, ids=" ".join)
def test_examples_are_valid_calls_and_shown_whole(names: tuple[str, ...], help_of: Callable[..., str]) -> None:
    calls = examples(TREE[names].help)
    assert calls
    for call in calls:
        assert parse(call) == names
    shown = help_of(*names).split("Examples:\n")[1].split("\n\n")[0]
    assert examples(f"Text.\n\n{shown}") == calls  # to be copied as it stands, whole lines and what continues them


def test_a_group_shows_where_to_begin(help_of: Callable[..., str]) -> None:
    for names, command in TREE.items():
        if hasattr(command, "commands"):
            calls = examples(command.help)
            assert len(calls) >= 2
            for call in calls:
                assert parse(call)[: len(names)] == names


def test_an_example_that_is_none_is_found() -> None:
    with pytest.raises(Exception, match="No such option"):
        parse(["ebmodel", "demo", "--outt", "x"])
    with pytest.raises(Exception, match="Missing parameter: genotypes"):
        parse(["ebmodel", "fit", "--out", "x"])
    with pytest.raises(Exception, match="No such command"):
        PROGRAM.resolve_command(PROGRAM.make_context("ebmodel", ["nonsense"]), ["nonsense"])


@pytest.mark.parametrize("path", GUIDES, ids=lambda path: str(path.relative_to(ROOT)))
def test_calls_in_guides_are_valid(path: Path) -> None:
    blocks = re.findall(r"^```sh\n(.*?)^```", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    for block in blocks:
        lines = [line.split("&& ")[-1].removeprefix("uv run ") for line in block.splitlines()]
        for call in examples("Text.\n\n" + "\n".join(f"    {line}" for line in lines if line)):
            assert parse(call) in RUNS


def test_the_program_says_where_to_begin_and_how_it_ends(help_of: Callable[..., str]) -> None:
    text = help_of()
    assert text.index("ebmodel demo") < text.index("Commands:")
    ends = " ".join(text.split("Exit status:")[1].split())
    for status in ("0 if done", "1 with a traceback", "2 with a line on stderr", "130 if interrupted", "141 if"):
        assert status in ends


def test_the_program_alone_shows_its_help(cli: Callable[..., Any]) -> None:
    for names in ((), ("gtex",), ("mash",)):
        result = cli(*names)
        assert (result.status, result.out) == (2, "")
        assert result.err.startswith(f"Usage: {' '.join(('ebmodel', *names))} [OPTIONS] COMMAND")


def test_version(cli: Callable[..., Any]) -> None:
    assert cli("--version") == (0, f"ebmodel {ebmodel.__version__}\n", "")


def test_help_imports_nothing_heavy() -> None:
    """Help has to come at once: this is what takes the time."""
    code = (
        "import sys; from ebmodel.cli import main\n"
        "try: main(['fit', '--help'])\n"
        "except SystemExit: print(*sorted({name.split('.')[0] for name in sys.modules}), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stderr.split())
    assert "ebmodel" in loaded
    assert not loaded & {"numpy", "pandas", "xarray", "scipy", "numba", "matplotlib", "pymc", "arviz", "pyarrow"}


# Words ---------------------------------------------------------------------------------------------------------------


def test_words_that_a_shell_completes_are_those_that_the_package_takes() -> None:
    from ebmodel.bayes import models, priors
    from ebmodel.checks import CHECKS
    from ebmodel.eqtl.crossvalidation import ESTIMATORS
    from ebmodel.eqtl.simulation.formats import FORMATS
    from ebmodel.mash import fitting
    from ebmodel.mash.data import TINY_DO
    from ebmodel.mean import MEANS
    from ebmodel.simulate import VIOLATIONS

    assert options.VIOLATIONS == tuple(VIOLATIONS)
    assert options.CHECKS == tuple(CHECKS)
    assert tuple(options.KINDS_OF_V) == fitting.KINDS_OF_V
    assert options.COVARIANCES == (fitting.CANONICAL, fitting.DATA_DRIVEN, fitting.FULL_RANK)
    assert tuple(options.TINY) == TINY_DO
    assert set(options.ESTIMATORS) == set(ESTIMATORS)
    assert set(options.FORMATS) == set(FORMATS)
    assert set(options.MEANS) == set(MEANS)
    assert set(options.MEANS_OF_DRAWS) == set(models.MEANS)
    assert set(options.ERRORS_OF_DRAWS) == set(models.ERRORS)
    assert set(options.FORMS) == set(models.FORMS)
    assert set(options.PRIORS) <= set(priors.PRESETS)


@pytest.mark.parametrize("slab", options.SLABS)
@pytest.mark.parametrize("errors", options.ERRORS)
def test_slabs_and_errors_can_be_fitted(slab: str, errors: str) -> None:
    gene = ebmodel.simulate.setting(3, rho=0.4, signal=2, sigma=4, m=6, p=3, seed=7)
    assert ebmodel.fit(gene.X, gene.Y, slab=slab, errors=errors, n_starts=1).loglik < 0.0


def test_lists_complete_with_what_they_lack() -> None:
    complete = options.several(("canonical", "data-driven", "full-rank"))
    assert complete("") == ["canonical", "data-driven", "full-rank"]
    assert complete("canonical,") == ["canonical,data-driven", "canonical,full-rank"]
    assert complete("canonical,f") == ["canonical,full-rank"]
    assert complete("x") == []
