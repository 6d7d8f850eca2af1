"""What a study may be asked to be: every mistake is found before any work, and said in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ebmodel import InputError
from ebmodel.eqtl.settings import Settings, read_settings

PATHS = {
    "genotypes": "genotypes.bed", "expression": "bed/{tissue}.bed", "covariates": "cov/{tissue}.txt", "out": "results",
}  # fmt: skip
PATHS_TEXT = "".join(f'{name} = "{value}"\n' for name, value in PATHS.items())


def settings(**choices: Any) -> Settings:
    given = PATHS | {"genotypes": Path("genotypes.bed"), "out": Path("results")} | choices
    return Settings(**given)


@pytest.fixture
def toml(tmp_path: Path) -> Any:
    """Write a study's file with the paths and some more lines."""

    def write(more: str = "", text: str = PATHS_TEXT) -> Path:
        path = tmp_path / "study.toml"
        path.write_text(text + more)
        return path

    return write


def test_defaults_are_the_papers() -> None:
    asked = settings()
    assert (asked.min_samples, asked.maf, asked.ld_window, asked.ld_step, asked.ld_r2) == (200, 0.05, 50, 5, 0.2)
    assert (asked.cis_window, asked.p, asked.r2, asked.folds) == (1_000_000, 1e-6, 0.5, 10)
    assert (asked.screening, asked.correct_overlap) == (("outside",), False)


def test_paths_start_from_the_file(toml: Any, tmp_path: Path) -> None:
    path = toml('tissues = "Lung"\nfolds = 5\nmaf = 0')
    asked = read_settings(path)
    assert asked.genotypes == tmp_path / "genotypes.bed"
    assert asked.expression_of("Lung") == tmp_path / "bed" / "Lung.bed"
    assert asked.covariates_of("Lung") == tmp_path / "cov" / "Lung.txt"
    assert asked.out == tmp_path / "results"
    assert (asked.tissues, asked.folds, asked.maf) == (("Lung",), 5, 0)
    for here in ("here", Path("here")):
        assert read_settings(path, out=here, folds=None).out == Path("here")
    absolute = read_settings(toml(text=PATHS_TEXT.replace("genotypes.bed", "/data/genotypes.bed")))
    assert absolute.genotypes == Path("/data/genotypes.bed")


def test_absolute_paths_name_the_same_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    asked = settings().absolute()
    assert asked.expression_of("Lung") == tmp_path / "bed" / "Lung.bed"
    assert asked.covariates == str(tmp_path / "cov" / "{tissue}.txt")
    assert (asked.genotypes, asked.out) == (tmp_path / "genotypes.bed", tmp_path / "results")
    assert asked.absolute() == asked


@pytest.mark.parametrize(
    ("choices", "words"),
    [
        ({"expression": "all.bed"}, r"a path with \{tissue\}"),
        ({"covariates": "all.txt"}, r"a path with \{tissue\}"),
        ({"folds": 2}, "3 <= folds <= 1000, got 2"),
        ({"folds": 9.5}, "a whole number.*got 9.5"),
        ({"folds": 10.0}, "a whole number.*got 10.0"),
        ({"folds": True}, "a whole number.*got True"),
        ({"folds": "10"}, "a whole number.*got '10'"),
        ({"min_samples": 2}, "4 <= min_samples"),
        ({"min_samples": 200.5}, "a whole number"),
        ({"maf": 0.6}, "0 <= maf <= 0.5"),
        ({"maf": float("nan")}, "0 <= maf <= 0.5, got nan"),
        ({"p": 0.0}, "0 < p <= 1, got 0.0"),
        ({"p": -1}, "0 <= p <= 1"),
        ({"fdr": 0.0}, "0 < fdr < 1"),
        ({"fdr": 1.0}, "0 < fdr < 1"),
        ({"ld_r2": 1.0}, "0 <= ld_r2 < 1"),
        ({"ld_step": 51}, "no more than the 50 of ld_window, got 51"),
        ({"most_snps": 0}, "1 <= most_snps"),
        ({"seed": -1}, "0 <= seed"),
        ({"correct_overlap": 1}, "true or false"),
        ({"estimators": ("generalised typo",)}, "some of paper, generalised, got 'generalised typo', in estimators"),
        ({"estimators": ()}, "at least one estimator"),
        ({"estimators": ("paper", "paper")}, "each name once, got 'paper' more than once, in estimators"),
        ({"methods": ("lasso",)}, "some of paper, .*elastic-net, got 'lasso', in methods"),
        ({"methods": ("ols", "ols")}, "each name once"),
        ({"screening": ("within",)}, "some of outside, inside"),
        ({"screening": ()}, "at least one screening"),
        ({"tissues": ("Lung", "Skin", "Lung")}, "each name once, got 'Lung' more than once, in tissues"),
    ],
)
def test_choices_out_of_range_are_refused(choices: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        settings(**choices)
    assert "\n" not in str(caught.value)


def test_no_methods_need_no_screening() -> None:
    assert settings(methods=(), screening=()).methods == ()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("fold = 5", r"settings among .*, got 'fold', in .*study\.toml; do correct the name"),
        ("folds = 5 5", r"TOML, got .*line 5.*in .*study\.toml"),
        ("folds = 2", r"3 <= folds.*in .*study\.toml, folds"),
        ("tissues = 3", "a list of names, got 3"),
        ("methods = [1, 2]", "a list of names"),
        ('estimators = ["paper", "typo"]', "got 'typo', in .*study.toml, estimators"),
        ('[tissues]\nLung = "x"', "a list of names"),
    ],
)
def test_mistakes_in_the_file_are_named(toml: Any, more: str, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        read_settings(toml(more))
    assert "\n" not in str(caught.value)


def test_files_that_are_none(toml: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_settings(tmp_path / "none.toml")
    with pytest.raises(InputError, match="no such file"):
        read_settings(tmp_path)
    with pytest.raises(InputError, match="no 'genotypes', 'covariates'"):
        read_settings(toml(text='expression = "{tissue}"\nout = "out"\n'))
    with pytest.raises(InputError, match=r"a path in quotes, got 5, in .*out"):
        read_settings(toml(text=PATHS_TEXT.replace('"results"', "5")))
    with pytest.raises(InputError, match="no 'genotypes', 'expression', 'covariates', 'out'"):
        read_settings(toml(text=""))
    path = toml()
    path.write_bytes(b'out = "\xff"')
    with pytest.raises(InputError, match="TOML"):
        read_settings(path)
