"""Effects for others to use: PredictDB databases, one a tissue, which PrediXcan and S-PrediXcan read; or one table.

A database is SQLite and holds, as the published elastic nets of GTEx do,

    weights       gene, rsid, varID, ref_allele, eff_allele, weight
    extra         gene, genename, n.snps.in.model, pred.perf.R2, pred.perf.pval, pred.perf.qval, and what this model
                  has besides: posterior.probability, P(I(t)=1 | Y), and log.bayes.factor, of no effect over one
    construction  chromosome, cv_seed, and the estimator
    sample_info   n_samples, population, tissue

A weight is E(beta(t) | Y) for a copy of ``eff_allele``, so it is shrunk by P(I(t)=1 | Y) too. Under no correlation
between prediction and expression, R^2 ~ Beta(1/2, (n-2)/2): ``pred.perf.pval`` is the two-sided test of a correlation
among the tissue's n samples, and ``pred.perf.qval`` its adjustment by Benjamini and Hochberg over the tissue's genes.
"""

from __future__ import annotations

import errno
import gzip
import json
import re
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr
from scipy.special import betaincc
from scipy.stats import false_discovery_control

from ebmodel.eqtl.places import contig
from ebmodel.eqtl.variants import Variants
from ebmodel.errors import InputError, expect, listed
from ebmodel.files import writing
from ebmodel.labels import ESTIMATOR, GENE, METHOD, SCREENING, TISSUE
from ebmodel.model import Array

__all__ = ["correlation_pvalue", "export_predictdb", "export_table", "predict", "read_extra", "read_weights"]

INSIDE = "inside"
"""Screening within each training set: the R^2 that is not flattered by the choice of SNPs."""
INDEXES = {
    "weights_rsid": "weights (rsid)",
    "weights_gene": "weights (gene)",
    "weights_rsid_gene": "weights (rsid, gene)",
    "gene_model_summary": "extra (gene)",
}
KINDS = {"i": "INTEGER", "u": "INTEGER", "f": "DOUBLE"}


def export_predictdb(
    results: xr.Dataset,
    folder: str | Path,
    estimator: str = "paper",
    tissues: list[str] | None = None,
    probability: float = 0.0,
    *,
    screening: str | None = None,
    names: Mapping[str, str] | None = None,
    rsids: Mapping[str, str] | None = None,
    build: str = "b38",
    population: str = "",
) -> list[Path]:
    """Write one database a tissue, ``{estimator}_{tissue}.db``.

    Parameters
    ----------
    results
        Of a study.
    folder
        Where; made if its parent is there.
    estimator
        Whose effects.
    tissues
        Which; all if not given.
    probability
        The least P(I(t)=1 | Y) of a gene that is written.
    screening
        The cross-validation that ``pred.perf.R2`` is of; where not given ``"inside"`` if the study has it. Without any
        there is no R2.
    names
        Gene names by identifier; the identifier where there is none.
    rsids
        Identifiers for ``rsid``, by that of the genotype file, which is kept where there is none.
    build
        Ends ``varID``, chr_position_ref_alt_build.
    population
        For ``sample_info``.

    Returns
    -------
    list of Path
        The files written, in the order of tissues.

    Raises
    ------
    InputError
        If the results have no such estimator, tissue or screening, or the folder cannot be written.
    """
    chosen = _tissues(results, estimator, tissues)
    if screening is not None:
        _check_screening(results, screening)
    folder = Path(folder)
    expect(folder.parent.is_dir(), "an existing folder", f"no folder {str(folder.parent)!r}", "export", "make it first")
    folder.mkdir(exist_ok=True)
    variants = _entries(results)
    variants["rsid"] = [(rsids or {}).get(one, one) for one in variants["variant"]]
    place = zip(variants["chromosome"], variants["position"], variants["other"], variants["counted"], strict=True)
    variants["varID"] = [f"chr{contig(where)}_{at}_{ref}_{alt}_{build}" for where, at, ref, alt in place]
    variants = variants.rename(columns={"other": "ref_allele", "counted": "eff_allele"})
    written = []
    for tissue in chosen:
        found = results.sel({ESTIMATOR: estimator, TISSUE: tissue})
        extra = _extra(found, _r2(found, estimator, screening), names or {})
        kept = extra["posterior.probability"] >= probability
        weights = variants.assign(weight=found["effects"].to_numpy()[variants["entry"]])
        weights = weights[weights["gene"].isin(extra["gene"][kept]) & weights["weight"].abs().gt(0.0)]  # NaN is not
        count = weights["gene"].value_counts().reindex(extra["gene"], fill_value=0)
        extra.insert(2, "n.snps.in.model", count.to_numpy(dtype=np.int64))
        tables = {
            "weights": weights[["gene", "rsid", "varID", "ref_allele", "eff_allele", "weight"]],
            "extra": extra[extra["n.snps.in.model"] > 0].reset_index(drop=True),
            "construction": _construction(found, estimator),
            "sample_info": pd.DataFrame({"n_samples": [int(found["samples"])], "population": [population],
                                         "tissue": [tissue]}),
        }  # fmt: skip
        path = folder / f"{estimator}_{re.sub(r'[^\w.-]', '_', tissue)}.db"
        with writing(path) as temporary:
            _write(temporary, tables)
        written.append(path)
    return written


def export_table(
    results: xr.Dataset, path: str | Path, estimator: str = "paper", tissues: list[str] | None = None
) -> Path:
    """Write the effects of all genes fitted as one table, tab-separated and compressed: a row a gene and SNP.

    Columns are gene, chromosome, position, variant, counted, other, z, beta, and for every tissue its effect of a copy
    of ``counted`` and the posterior sd, ``{tissue}`` and ``{tissue}_sd``; numbers have six digits.

    Parameters
    ----------
    results
        As from `open_results`.
    path
        Of the table; its name ends in .tsv.gz.
    estimator
        One of those that the run fitted.
    tissues
        Their names; all of the run if None.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    InputError
        If ``path`` does not end in .tsv.gz or cannot be written, or the results have no such estimator or tissue.
    """
    path = Path(path)
    expect(path.name.endswith(".tsv.gz"), "a name ending in .tsv.gz", path.name, "export", "rename it")
    chosen = _tissues(results, estimator, tissues)
    table = _entries(results)
    found = results.sel({ESTIMATOR: estimator})
    entry = table.pop("entry").to_numpy()
    columns = {"z": found["z"].to_numpy()[entry], "beta": found["beta"].to_numpy()[entry]}
    for tissue in chosen:
        columns[tissue] = found["effects"].sel({TISSUE: tissue}).to_numpy()[entry]
        columns[f"{tissue}_sd"] = found["effects_sd"].sel({TISSUE: tissue}).to_numpy()[entry]
    first = ["gene", "chromosome", "position", "variant", "counted", "other"]
    table = pd.concat([table[first], pd.DataFrame(columns)], axis=1)
    text = table.to_csv(sep="\t", index=False, float_format="%.6g", na_rep="NA").encode()
    with writing(path) as temporary:  # without name and time: the same results give the same file
        temporary.write_bytes(gzip.compress(text, compresslevel=4, mtime=0))
    return path


def read_weights(path: str | Path) -> pd.DataFrame:
    """Read the weights of a database: gene, rsid, varID, ref_allele, eff_allele, weight.

    Raises
    ------
    InputError
        If there is no such file, or it is no such database.
    """
    return _read(path, "weights")


def read_extra(path: str | Path) -> pd.DataFrame:
    """Read what a database says of its genes: a row a gene, as the module's docstring says.

    Raises
    ------
    InputError
        If there is no such file, or it is no such database.
    """
    return _read(path, "extra")


def predict(path: str | Path, variants: Variants, key: str = "rsid") -> pd.DataFrame:
    """Predict expression from a database and genotypes, X beta: weights times copies of their alleles.

    Parameters
    ----------
    path
        A database, made here or by others.
    variants
        Genotypes.
    key
        Which of the database's identifiers the genotype file uses: ``"rsid"`` or ``"varID"``.

    Returns
    -------
    (sample, gene) DataFrame
        Up to a constant. A missing dosage counts as the mean of the others. ``attrs["missing"]`` lists the identifiers
        that the genotype file does not have, or has with other alleles: these are left out, as PrediXcan does.

    Raises
    ------
    InputError
        If there is no such database, or it has no such identifiers.
    """
    weights, table = read_weights(path), variants.table
    expect(key in ("rsid", "varID"), "'rsid' or 'varID'", repr(key), "key", "choose the genotype file's")
    expect(key in weights, f"weights with {key}", "none", str(path), "use the other key")
    row = pd.Index(table["id"]).get_indexer(weights[key])
    there = table[["other", "counted"]].to_numpy()[row]
    wanted = weights[["ref_allele", "eff_allele"]].to_numpy()
    same = (row >= 0) & (there == wanted).all(axis=1)
    turned = (row >= 0) & (there[:, ::-1] == wanted).all(axis=1)
    used = same | turned
    sign = np.where(turned, -1.0, 1.0)  # copies of the other allele are 2 - x, and 2 is a constant
    code, genes = pd.factorize(weights["gene"])
    predicted = np.zeros((len(variants.samples), len(genes)))
    for start in range(0, len(table), READ):
        here = np.flatnonzero(used & (row >= start) & (row < start + READ))
        if not len(here):
            continue
        low, high = int(row[here].min()), int(row[here].max()) + 1
        X = variants.read(low, high)
        for i in here:
            x = X[:, row[i] - low].astype(float)
            predicted[:, code[i]] += sign[i] * weights["weight"].iloc[i] * np.where(np.isnan(x), _mean(x), x)
    found = pd.DataFrame(predicted, index=variants.samples, columns=genes)
    found.attrs["missing"] = weights[key][~used].unique().tolist()
    return found


READ = 10_000
"""Most variants read at once."""


def _mean(x: Array) -> float:
    return 0.0 if np.isnan(x).all() else float(np.nanmean(x))


def _tissues(results: xr.Dataset, estimator: str, tissues: list[str] | None) -> list[str]:
    """The tissues asked for, of results that have them and the estimator."""
    known = results[ESTIMATOR].to_numpy().tolist()
    expect(estimator in known, f"one of {listed(known)}", repr(estimator), "estimator", "choose a fitted one")
    every = results[TISSUE].to_numpy().tolist()
    lacking = [tissue for tissue in tissues or () if tissue not in every]
    expect(not lacking, f"tissues of the study ({listed(every)})", listed(lacking), "tissues", "correct the names")
    return every if tissues is None else tissues


def _check_screening(results: xr.Dataset, screening: str) -> None:
    known = results[SCREENING].to_numpy().tolist() if SCREENING in results.coords else []
    expect(screening in known, f"one of {listed(known)}", repr(screening), "screening", "choose one that was run")


def _r2(found: xr.Dataset, estimator: str, screening: str | None) -> Array:
    """Cross-validated R^2 of every gene in a tissue, (gene,): NaN if it was not measured."""
    if "r2" not in found or estimator not in found[METHOD]:
        return np.full(found.sizes[GENE], np.nan)
    if screening is None:
        screening = INSIDE if INSIDE in found[SCREENING] else str(found[SCREENING].to_numpy()[0])
    return found["r2"].sel({SCREENING: screening, METHOD: estimator}).to_numpy().astype(float)


def _entries(results: xr.Dataset) -> pd.DataFrame:
    """The SNPs of the genes that were fitted: a row an entry, with its gene, and ``entry``, its place."""
    fitted = np.flatnonzero(results["status"].to_numpy() == "fitted")
    snps = results["snps"].to_numpy()[fitted].astype(np.int64)
    first = results["first"].to_numpy()[fitted].astype(np.int64)
    gene = np.repeat(fitted, snps)
    within = np.arange(len(gene)) - np.repeat(np.cumsum(snps) - snps, snps)
    entry = np.repeat(first, snps) + within
    columns = {name: results[name].to_numpy()[entry] for name in ("variant", "position", "counted", "other")}
    genes, chromosomes = results[GENE].to_numpy()[gene], results["chromosome"].to_numpy()[gene]
    return pd.DataFrame({"gene": genes, "chromosome": chromosomes, **columns, "entry": entry})


def _extra(found: xr.Dataset, r2: Array, names: Mapping[str, str]) -> pd.DataFrame:
    """What is known of each gene fitted in a tissue, without the number of its SNPs."""
    fitted = np.flatnonzero(found["status"].to_numpy() == "fitted")
    found, r2 = found.isel({GENE: fitted}), r2[fitted]
    genes = found[GENE].to_numpy()
    pval = correlation_pvalue(r2, int(found["samples"]))
    qval, tested = np.full(len(pval), np.nan), ~np.isnan(pval)
    if tested.any():
        qval[tested] = false_discovery_control(pval[tested])
    columns = {
        "gene": genes,
        "genename": [names.get(gene, gene) for gene in genes.tolist()],
        "pred.perf.R2": r2,
        "pred.perf.pval": pval,
        "pred.perf.qval": qval,
        "posterior.probability": found["posterior_probability"].to_numpy(),
        "log.bayes.factor": found["log_bayes_factor"].to_numpy(),
    }
    return pd.DataFrame(columns)


def correlation_pvalue(r2: Array, n: int) -> Array:
    """P(R^2 >= r2) if n pairs are uncorrelated and normal: R^2 ~ Beta(1/2, (n-2)/2); NaN where r2 is, or n < 3."""
    if n < 3:
        return np.full(len(r2), np.nan)
    return np.asarray(betaincc(0.5, (n - 2) / 2, np.clip(r2, 0.0, 1.0)))


def _construction(found: xr.Dataset, estimator: str) -> pd.DataFrame:
    """One row a chromosome."""
    fitted = found["status"].to_numpy() == "fitted"
    chromosomes = pd.unique(found["chromosome"].to_numpy()[fitted])
    seed = json.loads(found.attrs.get("settings", "{}")).get("seed")
    return pd.DataFrame({"chromosome": chromosomes, "cv_seed": seed, "estimator": estimator})


def _write(path: Path, tables: Mapping[str, pd.DataFrame]) -> None:
    """An SQLite file with these tables, and PredictDB's indexes."""
    try:
        with closing(sqlite3.connect(path)) as base, base:
            base.execute("PRAGMA journal_mode = OFF")  # the file is given its name when it is whole
            for name, table in tables.items():
                kinds = ", ".join(f"`{column}` {KINDS.get(table[column].dtype.kind, 'TEXT')}" for column in table)
                base.execute(f"CREATE TABLE {name} ({kinds})")
                marks = ", ".join("?" * table.shape[1])
                rows = zip(*(_plain(table[column]) for column in table), strict=True)
                base.executemany(f"INSERT INTO {name} VALUES ({marks})", rows)  # noqa: S608
            for index, columns in INDEXES.items():
                base.execute(f"CREATE INDEX {index} ON {columns}")
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
            raise
        raise OSError(errno.ENOSPC, str(error)) from error  # as of any other file


def _plain(column: pd.Series) -> list[object]:
    """Values as SQLite takes them: NaN is NULL."""
    return [None if value != value else value for value in column.tolist()]  # noqa: PLR0124


def _read(path: str | Path, name: str) -> pd.DataFrame:
    path = Path(path)
    expect(path.is_file(), "a database of weights", "no such file", str(path), "check the path")
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as base:
            return pd.read_sql_query(f"SELECT * FROM {name}", base)  # noqa: S608
    except (sqlite3.Error, pd.errors.DatabaseError) as error:
        got = " ".join(str(error).split())
        raise InputError(f"an SQLite database with a table {name!r}", got, str(path), "fetch it again") from error
