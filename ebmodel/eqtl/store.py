"""What a genome-wide run keeps: a part for every block of genes while it runs, one labelled Dataset at the end."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import xarray as xr
import zarr

from ebmodel.eqtl.analysis import FITTED, GeneResult, Prepared
from ebmodel.errors import InputError, expect
from ebmodel.files import writing
from ebmodel.labels import ENTRY, ESTIMATOR, GENE, METHOD, SCREENING, TISSUE

__all__ = ["assemble", "load", "note", "open_results", "part_path", "read_part", "write_part", "write_results"]

BY_GENE = ("tau1", "eta", "sigma2", "alpha", "kappa", "loglik", "converged")
BY_TISSUE = ("posterior_probability", "log_bayes_factor")
BY_ENTRY = ("effects", "effects_sd")
COUNTS = {"window": "snps_in_window", "passing": "snps_passing", "snps": "snps", "imputed": "imputed"}
ENTRIES_A_CHUNK = 20_000


def part_path(work: Path, number: int) -> Path:
    """Where the results of a block of genes are kept."""
    return work / "parts" / f"{number:06d}.joblib"


def write_part(path: Path, results: list[GeneResult]) -> None:
    """Write a block's results, whole or not at all."""
    with writing(path) as temporary:
        joblib.dump(results, temporary)


def read_part(path: Path) -> list[GeneResult]:
    """Read a block's results."""
    found: list[GeneResult] = load(path)
    return found


def load(path: Path) -> Any:
    """Read a file of the work.

    Raises
    ------
    InputError
        If it is damaged.
    """
    try:
        return joblib.load(path)
    except Exception as error:  # what is no pickle raises any kind
        got, do = f"a damaged one ({type(error).__name__})", "remove it and run again"
        raise InputError("a whole file of a run's work", got, str(path), do) from error


def assemble(study: Prepared, parts: Iterable[list[GeneResult]]) -> xr.Dataset:
    """Gather the results of all genes in one Dataset.

    Returns
    -------
    Dataset
        As `open_results` gives it.
    """
    found = {result.gene: result for part in parts for result in part}
    order = [found[str(gene)] for gene in study.genes.index]
    settings, tissues = study.settings, study.names
    screenings = settings.screening if settings.methods else ()
    G, m, E = len(order), len(tissues), len(settings.estimators)
    size = np.array([len(result.variants) if result.status == FITTED else 0 for result in order])
    first = np.append(0, np.cumsum(size))
    gene = {name: np.full((E, G), np.nan) for name in BY_GENE}
    tissue = {name: np.full((E, G, m), np.nan) for name in BY_TISSUE}
    entry = {name: np.full((E, first[-1], m), np.nan) for name in BY_ENTRY}
    beta, z = np.full((E, first[-1]), np.nan), np.empty(first[-1])
    variant = np.empty(first[-1], dtype=np.int64)
    scores = np.full((2, len(screenings), len(settings.methods), G, m), np.nan)
    for g, result in enumerate(order):
        if result.status != FITTED:
            continue
        rows = slice(first[g], first[g + 1])
        variant[rows], z[rows] = result.variants, result.z
        for e, name in enumerate(settings.estimators):
            fit = result.fits[name]
            for key in BY_GENE:
                gene[key][e, g] = fit[key]
            for key in BY_TISSUE:
                tissue[key][e, g] = fit[key]
            for key in BY_ENTRY:
                entry[key][e, rows] = fit[key].T
            beta[e, rows] = fit["beta"]
        for (screening, method), pair in result.scores.items():
            scores[:, screenings.index(screening), settings.methods.index(method), g] = pair
    of = study.variants.iloc[variant]
    variables: dict[str, Any] = {
        "status": (GENE, [result.status for result in order]),
        "message": (GENE, [result.message for result in order]),
        "chromosome": (GENE, study.genes["chromosome"].to_numpy().astype(str)),
        "tss": (GENE, study.genes["end"].to_numpy()),
        "stouffer_variance": (GENE, [result.stouffer_variance for result in order]),
        "first": (GENE, first[:-1]),
        **{name: (GENE, [result.counts.get(key, 0) for result in order]) for key, name in COUNTS.items()},
        **{name: ((ESTIMATOR, GENE), values) for name, values in gene.items()},
        **{name: ((ESTIMATOR, GENE, TISSUE), values) for name, values in tissue.items()},
        **{name: ((ESTIMATOR, ENTRY, TISSUE), values) for name, values in entry.items()},
        "beta": ((ESTIMATOR, ENTRY), beta),
        "variant": (ENTRY, of["id"].to_numpy().astype(str)),
        "position": (ENTRY, of["position"].to_numpy()),
        "counted": (ENTRY, of["counted"].to_numpy().astype(str)),
        "other": (ENTRY, of["other"].to_numpy().astype(str)),
        "z": (ENTRY, z),
        "samples": (TISSUE, [len(one.samples) for one in study.tissues]),
    }
    coords: dict[str, Any] = {GENE: study.genes.index.to_numpy().astype(str), TISSUE: tissues,
                              ESTIMATOR: list(settings.estimators)}  # fmt: skip
    if settings.methods:
        by_score = (SCREENING, METHOD, GENE, TISSUE)
        variables |= {name: (by_score, values) for name, values in zip(("pmse", "r2"), scores, strict=True)}
        coords |= {SCREENING: list(screenings), METHOD: list(settings.methods)}
    return xr.Dataset(variables, coords)


def write_results(results: xr.Dataset, path: Path) -> None:
    """Write to a Zarr store, whole or not at all."""
    chunks = {
        name: {"chunks": [min(size, ENTRIES_A_CHUNK) if dim == ENTRY else size for dim, size in values.sizes.items()]}
        for name, values in results.data_vars.items()
        if ENTRY in values.dims and values.size
    }
    with writing(path) as temporary:
        results.to_zarr(temporary, mode="w", zarr_format=3, consolidated=False, encoding=chunks)


def note(path: Path, **attributes: Any) -> None:
    """Add to what a store says of itself."""
    zarr.open_group(path, mode="r+", use_consolidated=False).attrs.update(attributes)


def open_results(path: str | Path) -> xr.Dataset:
    """Read the results of a run.

    Parameters
    ----------
    path
        Its folder, or the Zarr store in it.

    Returns
    -------
    Dataset
        A gene's SNPs are the ``snps`` entries from its ``first`` on; genes that were not fitted are NaN.

        - (gene): ``status``, ``message``, ``chromosome``, ``tss`` (position in bp), counts of SNPs, and
          ``stouffer_variance``, which is 1 where z of tissues are independent;
        - (estimator, gene): the parameters; (estimator, gene, tissue): ``posterior_probability``, P(I(t)=1 | Y), and
          ``log_bayes_factor``, log K_t (H0 over H1);
        - (screening, method, gene, tissue): ``pmse`` and ``r2``, cross-validated;
        - (entry): ``variant``, ``position``, ``counted`` and ``other`` (alleles), ``z`` (Stouffer); (estimator, entry):
          ``beta``; (estimator, entry, tissue): the posterior ``effects`` and ``effects_sd``, in the units of the
          expression per copy of the allele ``counted``;
        - (tissue): ``samples``.

    Raises
    ------
    InputError
        If there are none.
    """
    path = Path(path)
    store = path if path.suffix == ".zarr" else path / "results.zarr"
    do = "give the folder of a finished run"
    expect((store / "zarr.json").is_file(), "results of ebmodel gtex run", "none", str(path), do)
    results: xr.Dataset = xr.open_zarr(store, consolidated=False, chunks=None).load()
    expect("posterior_probability" in results and "status" in results, "results of ebmodel gtex run", "another store",
           str(store), do)  # fmt: skip
    return results
