"""A study's files joined by name: which tissues, donors and genes take part, and what was left out and why.

Donors are the union over tissues of the samples that have expression, covariates and genotypes. Everything that finds
no partner in another file is named in the log.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ebmodel.eqtl.covariates import read_covariates
from ebmodel.eqtl.crossvalidation import draw_folds
from ebmodel.eqtl.expression import read_expression, read_samples
from ebmodel.eqtl.ledger import Ledger
from ebmodel.eqtl.places import contig
from ebmodel.eqtl.scan import Projection
from ebmodel.eqtl.settings import TISSUE_FIELD, Settings
from ebmodel.errors import InputError, expect, listed
from ebmodel.labels import GENE
from ebmodel.model import Array

__all__ = ["Tissue", "adjusted_expression", "common_genes", "find_tissues", "join_samples"]


@dataclass(frozen=True, eq=False)
class Tissue:
    """A tissue that takes part: its samples, sorted by fold, and what they are adjusted for."""

    name: str
    samples: NDArray[np.str_]
    """(sample,) names."""
    columns: NDArray[np.int64]
    """(sample,) their columns in the expression file."""
    donors: NDArray[np.int64]
    """(sample,) their places among the study's donors."""
    edges: NDArray[np.int64]
    """(fold + 1,) where each fold begins, and the end of the last."""
    projection: Projection
    """Of the covariates, with an intercept."""


def find_tissues(settings: Settings) -> dict[str, Path]:
    """The expression files of the tissues asked for, or of every tissue that has one, by name.

    Raises
    ------
    InputError
        If there are none, or one asked for has no file.
    """
    if settings.tissues:
        files = {name: settings.expression_of(name) for name in settings.tissues}
        lacking = [name for name, path in files.items() if not path.is_file()]
        expect(not lacking, f"expression of every tissue, as {settings.expression}", f"none of {listed(lacking)}",
               "tissues", "correct the names, or leave them out")  # fmt: skip
        return files
    before, _, after = settings.expression.partition(TISSUE_FIELD)
    folder, prefix = Path(before + "_").parent, Path(before + "_").name[:-1]
    single = "/" not in after
    expect(single, f"{TISSUE_FIELD} in a file's name", settings.expression, "expression", "put the files in one folder")
    name = re.compile(re.escape(prefix) + "(.+)" + re.escape(after))
    found = {m[1]: path for path in (sorted(folder.iterdir()) if folder.is_dir() else ())
             if (m := name.fullmatch(path.name)) and path.is_file()}  # fmt: skip
    expect(bool(found), "at least one tissue's expression", "no such file", settings.expression, "check the path")
    return found


def join_samples(
    settings: Settings, genotyped: NDArray[np.str_], ledger: Ledger
) -> tuple[list[Tissue], NDArray[np.str_]]:
    """Join expression, covariates and genotypes by the samples' names: the tissues that take part, and the donors.

    Parameters
    ----------
    settings
        Of the study.
    genotyped : (donor,)
        Names in the genotype file.
    ledger
        Where every name without a partner goes.

    Returns
    -------
    tissues, donors (donor,)
        Donors in the order of the genotype file.

    Raises
    ------
    InputError
        If a tissue has no covariates, names have nothing in common, or fewer than two tissues are large enough.
    """
    known = set(genotyped.tolist())
    kept: dict[str, tuple[NDArray[np.str_], NDArray[np.int64], pd.DataFrame]] = {}
    for name, path in find_tissues(settings).items():
        samples = read_samples(path)
        got, asked = f"no file {str(settings.covariates_of(name))!r}", settings.covariates_of(name).is_file()
        expect(asked, f"covariates of tissue {name!r}", got, "covariates", "write them, or leave the tissue out")
        if len(samples) < settings.min_samples:
            ledger.drop("tissues", [name], f"fewer than {settings.min_samples} samples")
            continue
        covariates = read_covariates(settings.covariates_of(name))
        adjusted = set(covariates.index)
        usable = np.array([one in known and one in adjusted for one in samples], dtype=bool)
        do = "check that both use the same names"
        where = f"{path} and {settings.covariates_of(name)}"
        expect(any(one in adjusted for one in samples), "samples in common", "none", where, do)
        expect(
            any(one in known for one in samples), "samples in common", "none", f"{path} and {settings.genotypes}", do
        )
        step = f"samples of {name}"
        ledger.drop(step, [one for one in samples if one not in known], "no genotypes")
        ledger.drop(step, [one for one in samples if one not in adjusted], "no covariates")
        ledger.drop(step, sorted(adjusted.difference(samples)), "covariates without expression")
        ledger.keep(step, int(usable.sum()))
        if usable.sum() < settings.min_samples:
            ledger.drop("tissues", [name], f"fewer than {settings.min_samples} samples")
            continue
        kept[name] = samples[usable], np.flatnonzero(usable), covariates
    ledger.keep("tissues", len(kept))
    got, do = f"{len(kept)} ({listed(kept)})", "lower min_samples"
    expect(len(kept) >= 2, f"two tissues with {settings.min_samples} samples", got, settings.expression, do)
    taking_part = {one for samples, _, _ in kept.values() for one in samples.tolist()}
    donors = np.array([one for one in genotyped.tolist() if one in taking_part])
    ledger.drop("donors", [one for one in genotyped.tolist() if one not in taking_part], "in no tissue")
    ledger.keep("donors", len(donors))
    place = {one: i for i, one in enumerate(donors.tolist())}
    folds = _donor_folds(donors, settings) if settings.fold_by == "donor" else None
    tissues = [_tissue(name, settings, *parts, place, folds) for name, parts in kept.items()]
    return tissues, donors


def _donor_folds(donors: NDArray[np.str_], settings: Settings) -> dict[str, int]:
    """The fold of every donor."""
    names = np.sort(donors)  # whatever their order in the genotype file
    fold = draw_folds(len(names), settings.folds, np.random.default_rng(settings.seed))
    return dict(zip(names.tolist(), fold.tolist(), strict=True))


def _tissue(
    name: str,
    settings: Settings,
    samples: NDArray[np.str_],
    columns: NDArray[np.int64],
    covariates: pd.DataFrame,
    place: Mapping[str, int],
    donor_folds: Mapping[str, int] | None,
) -> Tissue:
    by_name = np.argsort(samples)  # folds do not depend on the order in which the file has the samples
    if donor_folds is None:  # a seed of the tissue's own name: nor do they on which others take part
        rng = np.random.default_rng([settings.seed, *name.encode()])
        fold = draw_folds(len(samples), settings.folds, rng)
    else:
        fold = np.array([donor_folds[one] for one in samples[by_name].tolist()])
    order = by_name[np.argsort(fold, kind="stable")]
    samples, columns = samples[order], columns[order]
    design = covariates.loc[samples.tolist()].to_numpy(dtype=float)
    projection = Projection.of(design)
    got = f"{len(samples)} samples and {design.shape[1]} covariates"
    expect(projection.dof > 1, "more samples than covariates", got, f"tissue {name!r}", "use fewer covariates")
    return Tissue(
        name,
        samples,
        columns,
        np.array([place[one] for one in samples.tolist()]),
        np.append(0, np.cumsum(np.bincount(fold, minlength=settings.folds))),
        projection,
    )


def adjusted_expression(path: Path, tissue: Tissue) -> tuple[pd.DataFrame, Array, Array]:
    """A tissue's expression, adjusted for its covariates and scaled to residual variance one.

    Returns
    -------
    genes, values (gene, sample), scale (gene,)
        The genes as in `Expression`; samples as in ``tissue``. Rows with a missing cell are NaN; so is the scale of a
        gene that does not vary beside the covariates.

    Raises
    ------
    InputError
        As `read_expression`.
    """
    raw = read_expression(path)
    values = raw.values[:, tissue.columns]
    residual = tissue.projection.residual(values.T).T
    squares = np.einsum("gi,gi->g", residual, residual)
    varies = squares > 1e-20 * np.einsum("gi,gi->g", values, values)
    with np.errstate(invalid="ignore"):
        scale = np.where(varies, np.sqrt(squares / tissue.projection.dof), np.nan)
        scale[~np.isfinite(squares)] = np.nan
    return raw.genes, residual / scale[:, None], scale


def common_genes(tables: Mapping[str, pd.DataFrame], settings: Settings, ledger: Ledger) -> pd.DataFrame:
    """The genes that take part, by position, with their rows in every tissue's file.

    Parameters
    ----------
    tables
        Of every tissue the genes of its file, as in `Expression`.
    settings
        Of the study.
    ledger
        Where genes of too few tissues go.

    Returns
    -------
    DataFrame
        By gene: chromosome, start, end, line (of the first tissue that has it) and a column a tissue with its row in
        the tissue's file, -1 where it has none.

    Raises
    ------
    InputError
        If tissues disagree on a gene's position, or no gene is expressed in enough of them.
    """
    place = ["chromosome", "start", "end"]
    every: dict[Any, Any] = {}
    rows: dict[str, pd.Series[Any]] = {}
    for name, table in tables.items():
        rows[name] = pd.Series(np.arange(len(table)), index=table.index)
        for gene, values in zip(table.index, table[[*place, "line"]].itertuples(index=False), strict=True):
            before = every.setdefault(gene, (name, values))
            if _position(before[1]) != _position(values):
                got = f"{values[:3]}, but {before[1][:3]} in that of {before[0]!r}"
                where = f"{settings.expression_of(name)}, line {values[3]}"
                raise InputError(f"gene {gene!r} at one position", got, where, "correct the files")
    genes = pd.DataFrame([values for _, values in every.values()], index=pd.Index(list(every), name=GENE),
                         columns=[*place, "line"])  # fmt: skip
    found = pd.DataFrame({name: row.reindex(genes.index).fillna(-1).astype(int) for name, row in rows.items()})
    least = settings.min_tissues or len(tables)
    expressed = (found >= 0).sum(axis=1)
    ledger.drop("genes", genes.index[expressed < least], f"expressed in fewer than {least} tissues")
    genes = genes.join(found)[expressed >= least]
    ledger.keep("genes", len(genes))
    expect(len(genes) > 0, f"genes expressed in {least} tissues", "none", settings.expression, "lower min_tissues")
    rank = [_rank(contig(name)) for name in genes["chromosome"]]
    position = genes["end"].tolist()
    return genes.iloc[sorted(range(len(genes)), key=lambda i: (rank[i], position[i]))]


def _position(gene: Any) -> tuple[str, int, int]:
    """Contig, start and end, however the file writes the contig."""
    return contig(gene[0]), gene[1], gene[2]


def _rank(name: str) -> tuple[int, str]:
    """Chromosomes in the order in which people write them."""
    return (int(name), "") if name.isdigit() else (100, name)
