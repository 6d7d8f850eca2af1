"""What a study is asked to be: a TOML file of paths and choices, checked before any work."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Self

from ebmodel.eqtl.crossvalidation import ESTIMATORS, METHODS
from ebmodel.errors import InputError, expect, listed

__all__ = ["SCREENINGS", "Settings", "read_settings"]

SCREENINGS = ("outside", "inside")
FOLDS_BY = ("tissue", "donor")
TISSUE_FIELD = "{tissue}"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """A study's files and choices; the defaults are the paper's (Section 7).

    Raises
    ------
    InputError
        If a value is outside its range.
    """

    genotypes: Path
    """PLINK .bed or .pgen, or an indexed VCF or BCF."""
    expression: str
    """Path of a tissue's phenotype BED file, with ``{tissue}`` for its name."""
    covariates: str
    """Path of a tissue's covariates, with ``{tissue}`` for its name."""
    out: Path
    """Folder of the results."""
    tissues: tuple[str, ...] = ()
    """Which to use; every tissue with a file if empty."""
    min_samples: int = 200
    """Tissues with fewer samples are left out."""
    min_tissues: int = 0
    """Genes expressed in fewer tissues are left out; 0 means in every tissue."""
    maf: float = 0.05
    """Least minor allele frequency."""
    ld_window: int = 50
    """Variants in a window of the pruning for linkage disequilibrium."""
    ld_step: int = 5
    """Variants by which the window moves on."""
    ld_r2: float = 0.2
    """Of two variants in a window whose R^2 exceeds this one goes."""
    cis_window: int = 1_000_000
    """Base pairs (bp) on both sides of a gene's transcription start site."""
    p: float = 1e-6
    """A gene's SNPs have a smaller p-value of Stouffer's Z."""
    correct_overlap: bool = False
    """Whether Stouffer's Z allows for z that correlate because tissues share donors; the paper's does not."""
    r2: float = 0.5
    """SNPs whose R^2 with a better one exceeds this are left out."""
    most_snps: int = 100
    """At most so many SNPs a gene, the best."""
    estimators: tuple[str, ...] = tuple(ESTIMATORS)
    """Empirical-Bayes fits to all samples."""
    methods: tuple[str, ...] = METHODS
    """Predictors that are cross-validated; none if empty."""
    screening: tuple[str, ...] = ("outside",)
    """Whether SNPs are chosen on all samples ("outside" the folds, the paper) or on every training set ("inside")."""
    folds: int = 10
    """Of the cross-validation."""
    fold_by: str = "tissue"
    """Whether folds are drawn within each tissue's samples (the paper), or of donors: a donor's samples then stay
    together, and no donor who is tested in one tissue has taught in another."""
    fdr: float = 0.05
    """Bayesian false discovery rate of the calls."""
    seed: int = 0
    """Of the folds."""

    def __post_init__(self) -> None:
        for name in ("expression", "covariates"):
            expect(TISSUE_FIELD in getattr(self, name), f"a path with {TISSUE_FIELD}", repr(getattr(self, name)),
                   name, f"write {TISSUE_FIELD} where the files of tissues differ")  # fmt: skip
        for name, kind, low, high in RANGES:
            value, wanted = getattr(self, name), f"{kind}, {low:g} <= {name} <= {high:g}"
            number = isinstance(value, int if kind == WHOLE else (int, float)) and not isinstance(value, bool)
            expect(number and low <= value <= high, wanted, repr(value), name, "leave the default")
        for name, holds, wanted in (
            ("p", self.p > 0.0, "0 < p <= 1"),
            ("fdr", 0.0 < self.fdr < 1.0, "0 < fdr < 1"),
            ("ld_r2", self.ld_r2 < 1.0, "0 <= ld_r2 < 1"),
            ("ld_step", self.ld_step <= self.ld_window, f"no more than the {self.ld_window} of ld_window"),
        ):
            expect(holds, wanted, repr(getattr(self, name)), name, "leave the default")
        switch = isinstance(self.correct_overlap, bool)
        expect(switch, "true or false", repr(self.correct_overlap), "correct_overlap", "write one of them")
        expect(self.fold_by in FOLDS_BY, " or ".join(FOLDS_BY), repr(self.fold_by), "fold_by", "choose one of them")
        for name, known in (("estimators", tuple(ESTIMATORS)), ("methods", METHODS), ("screening", SCREENINGS)):
            given = getattr(self, name)
            unknown = [one for one in given if one not in known]
            expect(not unknown, f"some of {', '.join(known)}", listed(unknown), name, "choose among them")
        for name in ("tissues", "estimators", "methods", "screening"):
            given = getattr(self, name)
            twice = dict.fromkeys(one for one in given if given.count(one) > 1)
            expect(not twice, "each name once", f"{listed(twice)} more than once", name, "leave out the repeated one")
        expect(bool(self.estimators), "at least one estimator", "none", "estimators", 'add "paper"')
        some = bool(self.screening or not self.methods)
        expect(some, "at least one screening for the methods", "none", "screening", 'add "outside"')

    def expression_of(self, tissue: str) -> Path:
        """Give the path of a tissue's phenotype BED file.

        Parameters
        ----------
        tissue
            Its name.

        Returns
        -------
        Path
            ``expression`` with the name put in.
        """
        return Path(self.expression.replace(TISSUE_FIELD, tissue))

    def covariates_of(self, tissue: str) -> Path:
        """Give the path of a tissue's covariates.

        Parameters
        ----------
        tissue
            Its name.

        Returns
        -------
        Path
            ``covariates`` with the name put in.
        """
        return Path(self.covariates.replace(TISSUE_FIELD, tissue))

    def absolute(self) -> Self:
        """Write paths from the root: workers may be in another folder, and so may who goes on.

        Returns
        -------
        Settings
            The same otherwise.
        """
        return replace(
            self,
            genotypes=self.genotypes.absolute(),
            out=self.out.absolute(),
            expression=str(Path(self.expression).absolute()),
            covariates=str(Path(self.covariates).absolute()),
        )

    def as_text(self) -> dict[str, Any]:
        """Give plain values, for a file beside the results.

        Returns
        -------
        dict
            By name; paths as text.
        """
        return {name: str(value) if isinstance(value, Path) else value for name, value in asdict(self).items()}


WHOLE, ANY = "a whole number", "a number"
RANGES = (
    ("min_samples", WHOLE, 4, 10**9),
    ("min_tissues", WHOLE, 0, 10**9),
    ("maf", ANY, 0.0, 0.5),
    ("ld_window", WHOLE, 2, 10**9),
    ("ld_step", WHOLE, 1, 10**9),
    ("ld_r2", ANY, 0.0, 1.0),
    ("cis_window", WHOLE, 0, 10**9),
    ("p", ANY, 0.0, 1.0),
    ("r2", ANY, 0.0, 1.0),
    ("most_snps", WHOLE, 1, 10**6),
    ("folds", WHOLE, 3, 1000),
    ("fdr", ANY, 0.0, 1.0),
    ("seed", WHOLE, 0, 2**63),
)


def read_settings(path: str | Path, **changes: Any) -> Settings:
    """Read a study's TOML file; relative paths in it start from the file's folder.

    Parameters
    ----------
    path
        Of the file.
    **changes
        Settings that take the place of the file's; None leaves the file's.

    Returns
    -------
    Settings
        Checked.

    Raises
    ------
    InputError
        If the file is missing or no TOML, or a setting is unknown, missing or out of range.
    """
    path = Path(path)
    expect(path.is_file(), "a study's TOML file", "no such file", str(path), "check the path")
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError("TOML", " ".join(str(error).split()), str(path), "correct the line") from error
    return _settings(given, path, changes)


def _settings(given: Mapping[str, Any], path: Path, changes: Mapping[str, Any]) -> Settings:
    known = {field.name for field in fields(Settings)}
    unknown = [name for name in given if name not in known]
    expect(not unknown, f"settings among {', '.join(sorted(known))}", listed(unknown), str(path), "correct the name")
    lacking = [name for name in ("genotypes", "expression", "covariates", "out") if name not in given]
    expect(not lacking, "paths of genotypes, expression, covariates and out", f"no {listed(lacking)}", str(path),
           "add them")  # fmt: skip
    values = dict(given)
    for name in ("genotypes", "expression", "covariates", "out"):
        text = isinstance(values[name], str)
        expect(text, "a path in quotes", repr(values[name]), f"{path}, {name}", "write it as text")
        values[name] = path.parent / values[name]
    for name in ("expression", "covariates"):
        values[name] = str(values[name])
    for name in ("tissues", "estimators", "methods", "screening"):
        if name in values:
            every = [values[name]] if isinstance(values[name], str) else values[name]
            names = isinstance(every, list) and all(isinstance(one, str) for one in every)
            expect(names, "a list of names", repr(values[name]), f"{path}, {name}", 'write ["one", "two"]')
            values[name] = tuple(every)
    changed = {name: value for name, value in changes.items() if value is not None}
    for name in changed.keys() & {"genotypes", "out"}:
        changed[name] = Path(changed[name])
    try:
        return Settings(**(values | changed))
    except InputError as error:
        raise error.within(str(path)) from error
