"""Shells complete commands, options and words: by the protocol, and in the shells that are installed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ebmodel.cli import options
from tests.test_cli_help import RUNS, TREE

EBMODEL = Path(sys.executable).with_name("ebmodel")
SHELLS = ("bash", "zsh", "fish")


def ask(**variables: str) -> str:
    done = subprocess.run(
        [EBMODEL], env=os.environ | variables, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def bash(*typed: str) -> list[str]:
    """What bash is offered for the last of these words."""
    line = "\n".join(["ebmodel", *typed])
    return ask(_EBMODEL_COMPLETE="complete_bash", COMP_WORDS=line, COMP_CWORD=str(len(typed))).split()


def zsh(*typed: str) -> dict[str, str]:
    """The same for zsh, with help."""
    told = ask(_EBMODEL_COMPLETE="complete_zsh", _TYPER_COMPLETE_ARGS=" ".join(["ebmodel", *typed]))
    return dict(re.findall(r'"([^"]+)":"([^"]*)"', told))


def fish(*typed: str) -> dict[str, str]:
    told = ask(_EBMODEL_COMPLETE="complete_fish", _TYPER_COMPLETE_FISH_ACTION="get-args",
               _TYPER_COMPLETE_ARGS=" ".join(["ebmodel", *typed]))  # fmt: skip
    return dict(line.split("\t") for line in told.splitlines())


WORDS: dict[tuple[str, ...], tuple[str, ...]] = {
    ("fit", "--slab"): tuple(options.SLABS),
    ("fit", "--mean"): tuple(options.MEANS),
    ("fit", "--errors"): tuple(options.ERRORS),
    ("sample", "--mean"): tuple(options.MEANS_OF_DRAWS),
    ("sample", "--errors"): tuple(options.ERRORS_OF_DRAWS),
    ("sample", "--priors"): tuple(options.PRIORS),
    ("compare", "--form"): tuple(options.FORMS),
    ("simulate", "--violation"): options.VIOLATIONS,
    ("simulate", "--setting"): ("1", "2", "3", "4"),
    ("check", "x.nc", "--only"): options.CHECKS,
    ("check", "x.nc", "--groups"): ("names",),
    ("gtex", "export", "x", "--estimator"): options.ESTIMATORS,
    ("gtex", "simulate", "--format"): options.FORMATS,
    ("mash", "fit", "--v"): tuple(options.KINDS_OF_V),
    ("mash", "fit", "--tiny"): tuple(options.TINY),
    ("mash", "fit", "--covariances"): options.COVARIANCES,
    ("mash", "fit", "--contrast"): ("mean",),
}


@pytest.mark.parametrize("typed", WORDS, ids=" ".join)
def test_words(typed: tuple[str, ...]) -> None:
    assert tuple(bash(*typed, "")) == WORDS[typed]


def test_words_that_were_begun() -> None:
    assert bash("fit", "--slab", "s") == ["sparse"]
    assert bash("check", "x.nc", "--only", "linearity,exact") == ["linearity,exact-spike"]
    assert bash("fit", "--slab", "0.5") == []  # a number, or to bash a file
    assert bash("fit", "--tissues", "'Brain*'", "--mean", "h") == ["hierarchical"]


def test_commands() -> None:
    commands = list(TREE[()].commands)
    assert bash("") == commands
    assert bash("s") == ["simulate", "sample"]
    assert bash("mash", "") == ["fit", "apply", "report"]
    for shell in (zsh, fish):
        told = shell("")
        assert list(told) == commands
        assert told["fit"].startswith("Fit the model to the genotypes")


def test_options() -> None:
    for names in (RUNS[2], ("mash", "apply")):
        own = [name for param in TREE[names].params for name in (*param.opts, *param.secondary_opts) if "--" in name]
        assert bash(*names, "--") == [*own, "--help"]
        for shell in (zsh, fish):
            told = shell(*names, "--")
            assert list(told) == [*own, "--help"]
            assert all(told.values())
        assert max(map(len, fish(*names, "--").values())) <= 60
    assert bash("fit", "--slab", "g", "--sl") == []  # given already


def test_files_are_left_to_the_shell() -> None:
    for typed in (["check", ""], ["fit", "--genotypes", ""], ["mash", "report", ""]):
        assert bash(*typed) == []
    told = ask(_EBMODEL_COMPLETE="complete_zsh", _TYPER_COMPLETE_ARGS="ebmodel check ")
    assert told == "_files\n"


def test_words_have_no_apostrophes() -> None:
    """zsh leaves them out, and X'X is not XX."""
    for known in vars(options).values():
        if isinstance(known, dict) and all(isinstance(text, str) for text in known.values()):
            assert not any("'" in text for text in known.values())


# The shells themselves -----------------------------------------------------------------------------------------------


def run_in(shell: str, script: str, folder: Path) -> str:
    """Run a script without the user's start-up files."""
    where = shutil.which(shell)
    if where is None:
        pytest.skip(f"{shell} is not installed")
    bare = {"bash": ["--norc", "--noprofile"], "zsh": ["-f"], "fish": ["--no-config"]}[shell]
    environment = os.environ | {"PATH": f"{EBMODEL.parent}:{os.environ['PATH']}", "HOME": str(folder)}
    done = subprocess.run([where, *bare, "-c", script], env=environment, cwd=folder, capture_output=True, text=True,
                          check=False, timeout=120)  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("shell", SHELLS)
def test_show_completion(shell: str, tmp_path: Path) -> None:
    """`ebmodel --show-completion` in the shell gives what the variable gives, and the shell can read it."""
    script = ask(_EBMODEL_COMPLETE=f"source_{shell}")
    assert f"_EBMODEL_COMPLETE=complete_{shell}" in script
    assert run_in(shell, "ebmodel --show-completion; true", tmp_path).strip() == script.strip()


BASH = """
eval "$(env _EBMODEL_COMPLETE=source_bash ebmodel)"
complete -p ebmodel
try() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _ebmodel_completion ebmodel; echo "${COMPREPLY[@]}"; }
try ebmodel fit --slab ""
try ebmodel ma
try ebmodel fit --sl
"""
ZSH = """
compdef() { :; }
_arguments() { print -r -- "${@[-1]}" | tr -d '\\n'; print; }
_files() { print files; }
source <(env _EBMODEL_COMPLETE=source_zsh ebmodel)
try() { words=("$@"); CURRENT=$#; _ebmodel_completion; }
try ebmodel fit --slab ""
try ebmodel ma
try ebmodel fit --sl
try ebmodel check ""
"""
FISH = """
env _EBMODEL_COMPLETE=source_fish ebmodel | source
for line in "ebmodel fit --slab " "ebmodel ma" "ebmodel fit --sl" "ebmodel check ge"
    complete --do-complete $line
    echo ==
end
"""


def test_bash(tmp_path: Path) -> None:
    registered, slabs, command, option = run_in("bash", BASH, tmp_path).splitlines()
    assert registered == "complete -o default -F _ebmodel_completion ebmodel"
    assert slabs.split() == list(options.SLABS)
    assert (command.strip(), option.strip()) == ("mash", "--slab")


def test_zsh(tmp_path: Path) -> None:
    slabs, command, option, files = run_in("zsh", ZSH, tmp_path).splitlines()
    assert re.findall(r'"([\w]+)":', slabs) == list(options.SLABS)
    assert command.startswith('*: :(("mash":"Fit effects in many conditions')
    assert option.startswith('*: :(("--slab":"Covariance of effects')
    assert files == "files"


def test_fish(tmp_path: Path) -> None:
    (tmp_path / "gene.nc").write_text("")
    slabs, command, option, files, _ = run_in("fish", FISH, tmp_path).split("==\n")
    assert dict(line.split("\t") for line in slabs.splitlines()) == options.SLABS
    assert command == "mash\tFit effects in many conditions from summary statistics.\n"
    assert option.startswith("--slab\tCovariance of effects")
    assert files.split() == ["gene.nc"]


def test_the_shell_can_be_named(cli: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_EBMODEL_COMPLETE", "complete_tcsh")
    result = cli()
    assert result.status == 1
    assert "tcsh not supported" in result.err
