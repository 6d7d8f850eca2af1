"""A genome-wide run: files prepared once, genes analysed in parallel block by block, results in one store.

Every stage leaves files in ``out/work``, written whole or not at all: a run that was killed goes on where it was. They
are the work of the same settings on the same files, or are refused.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import xarray as xr

from ebmodel.eqtl.analysis import FITTED, STUDY, Prepared, analyse_block
from ebmodel.eqtl.ledger import Ledger
from ebmodel.eqtl.places import contig, contigs
from ebmodel.eqtl.pruning import prune_variants
from ebmodel.eqtl.settings import Settings
from ebmodel.eqtl.store import assemble, load, open_results, part_path, read_part, write_part, write_results
from ebmodel.eqtl.study import Tissue, adjusted_expression, common_genes, find_tissues, join_samples
from ebmodel.eqtl.variants import open_variants
from ebmodel.errors import expect
from ebmodel.files import writing
from ebmodel.model import Array
from ebmodel.parallel import spread

__all__ = ["GENES_A_BLOCK", "run_study"]

GENES_A_BLOCK = 16
REACH = 20_000_000
"""Base pairs from a block's first gene to its last, at most."""
NOT_OF_THE_WORK = ("out", "fdr")
"""Settings that change nothing in ``out/work``."""
BESIDE = (".bim", ".fam", ".pvar", ".pvar.zst", ".psam")
"""Endings of the files that belong to PLINK's genotypes."""
MARK = "fingerprint"
AFRESH = "choose another folder, or start afresh (--fresh)"


class Clock:
    """Seconds that each stage took, over all goes at the same work."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.seconds: dict[str, float] = json.loads(path.read_text()) if path.exists() else {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count what happens within, also if it fails."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - began
            if self.path.parent.is_dir():
                with writing(self.path) as temporary:
                    temporary.write_text(json.dumps(self.seconds))


def run_study(settings: Settings, *, jobs: int = 2, progress: bool = True, fresh: bool = False) -> xr.Dataset:
    """Run a study from its files to its results, or go on with one that was stopped.

    Parameters
    ----------
    settings
        Files and choices.
    jobs
        Processes; -1 for all cores. Within ``joblib.parallel_config(backend="dask")`` workers of a cluster, which must
        see the same files.
    progress
        Whether to show bars with the time left.
    fresh
        Whether to begin anew, whatever work or results of other settings the folder holds.

    Returns
    -------
    Dataset
        As `ebmodel.eqtl.open_results` gives it; it is also in ``out/results.zarr``, and what was left out, with
        reasons, in ``out/dropped.tsv``. Its attributes say how long stages took and how much memory was used.

    Raises
    ------
    InputError
        If a file or setting cannot be used, or the folder holds work or results of other settings.
    """
    settings = settings.absolute()
    settings.out.mkdir(parents=True, exist_ok=True)
    work, mark = settings.out / "work", _fingerprint(settings)
    if not fresh and (done := _finished(settings.out, work, mark)) is not None:
        return done
    _claim(work, mark, fresh=fresh)
    clock = Clock(work / "seconds.json")
    study, ledger = _prepare(settings, work, clock, jobs=jobs, progress=progress)
    with clock.stage("genes"):
        memory = _analyse(study, work, jobs=jobs, progress=progress)
    with clock.stage("store"):
        parts = (read_part(part_path(work, number)) for number in range(len(study.blocks)))
        results = assemble(study, parts)
        _log_genes(results, ledger)
        own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        results.attrs = {
            "fingerprint": mark, "settings": json.dumps(settings.as_text()), "version": version("ebmodel"),
            "donors": len(study.rows), "memory_mb": round(own + memory), "fdr": settings.fdr,
        }  # fmt: skip
        with writing(settings.out / "dropped.tsv") as temporary:
            ledger.table().to_csv(temporary, sep="\t", index=False)
    results.attrs["seconds"] = json.dumps({name: round(value, 1) for name, value in clock.seconds.items()})
    write_results(results, settings.out / "results.zarr")
    _discard(work)
    return results


def _fingerprint(settings: Settings) -> str:
    """A digest of the settings and of the sizes and dates of the files."""
    asked = {name: value for name, value in settings.as_text().items() if name not in NOT_OF_THE_WORK}
    tissues = find_tissues(settings)
    genotypes = [settings.genotypes, *(settings.genotypes.with_suffix(end) for end in BESIDE)]
    files = [*genotypes, *tissues.values(), *(settings.covariates_of(name) for name in tissues)]
    states = [(str(path), *((s := path.stat()).st_size, s.st_mtime_ns)) for path in files if path.exists()]
    return hashlib.sha256(json.dumps([asked, states, version("ebmodel")]).encode()).hexdigest()[:16]


def _finished(out: Path, work: Path, mark: str) -> xr.Dataset | None:
    """Results of the same settings and files; those of others are refused, unless what replaces them has begun."""
    path = out / "results.zarr"
    if not path.is_dir():
        return None
    results = open_results(path)
    if results.attrs.get("fingerprint") == mark:
        if _marked(work) == mark:  # killed after the results were written
            _discard(work)
        return results
    wanted = "results of the same settings and files"
    expect(_marked(work) == mark, wanted, "those of others", str(path), AFRESH)
    return None


def _marked(work: Path) -> str | None:
    """Whose work it is."""
    return (work / MARK).read_text() if (work / MARK).is_file() else None


def _claim(work: Path, mark: str, *, fresh: bool) -> None:
    """Make the folder of the work; one that is there is gone on with, thrown away or refused."""
    if work.exists():
        there = _marked(work)
        do = "move it away, or choose another folder for the results"
        expect(there is not None, "the work of a run", "something else", str(work), do)
        lost = there != mark and any((work / "parts").iterdir())
        expect(fresh or not lost, "the work of the same settings and files", "that of others", str(work), AFRESH)
        if not fresh and there == mark:
            return
        _discard(work)
    with writing(work) as temporary:
        for name in ("parts", "expression"):
            (temporary / name).mkdir(parents=True)
        (temporary / MARK).write_text(mark)


def _discard(work: Path) -> None:
    """Remove the work, all of it even if killed: half of it would be taken for the work of others."""
    aside = work.with_name(f".{work.name}.{uuid.uuid4().hex[:8]}.old")
    work.rename(aside)
    shutil.rmtree(aside)


def _prepare(settings: Settings, work: Path, clock: Clock, *, jobs: int, progress: bool) -> tuple[Prepared, Ledger]:
    """Join and read the files, unless that was done before."""
    path, log = work / STUDY, work / "ledger.joblib"
    if path.exists() and log.exists():
        return load(path), load(log)
    ledger = Ledger()
    with clock.stage("join"):
        variants = open_variants(settings.genotypes)
        tissues, donors = join_samples(settings, variants.samples, ledger)
        place = {name: i for i, name in enumerate(variants.samples.tolist())}
        rows = np.array([place[name] for name in donors.tolist()])
    with clock.stage("expression"):
        genes, scales = _read_expression(settings, tissues, work, ledger, jobs=jobs, progress=progress)
    with clock.stage("variants"):
        kept = prune_variants(
            variants, rows, ledger=ledger, maf=settings.maf, window=settings.ld_window, step=settings.ld_step,
            r2=settings.ld_r2, jobs=jobs, progress=progress,
        )  # fmt: skip
        ledger.keep("genotypes imputed", int(kept["missing"].sum()))
    got, do = f"none of {len(variants)}", "lower maf"
    expect(len(kept) > 0, f"variants of minor allele frequency >= {settings.maf:g}", got, str(settings.genotypes), do)
    kept, spans = _by_contig(kept, contigs(variants.table["chromosome"]).unique().tolist())
    study = Prepared(
        settings, variants, tissues, rows, genes, kept, spans, _blocks(genes), scales,
        [work / "expression" / f"{tissue.name}.npy" for tissue in tissues],
    )  # fmt: skip
    for file, content in ((log, ledger), (path, study)):
        with writing(file) as temporary:
            joblib.dump(content, temporary)
    return study, ledger


def _read_expression(
    settings: Settings, tissues: list[Tissue], work: Path, ledger: Ledger, *, jobs: int, progress: bool
) -> tuple[pd.DataFrame, Array]:
    """Genes that take part, and the scale (gene, tissue) of their expression, which goes to files."""
    tasks = [(settings.expression_of(tissue.name), tissue, work / "expression") for tissue in tissues]
    found = list(spread(_read_tissue, tasks, jobs=jobs, title="Expression", progress=progress))
    tables = {tissue.name: table for tissue, (table, _) in zip(tissues, found, strict=True)}
    genes = common_genes(tables, settings, ledger)
    scales = np.full((len(genes), len(tissues)), np.nan)
    for t, (tissue, (_, scale)) in enumerate(zip(tissues, found, strict=True)):
        row = genes[tissue.name].to_numpy()
        scales[row >= 0, t] = scale[row[row >= 0]]
    return genes, scales


def _read_tissue(path: Path, tissue: Tissue, folder: Path) -> tuple[pd.DataFrame, Array]:
    """Adjust a tissue's expression and write it to a file; its genes and their scales."""
    values_path, about = folder / f"{tissue.name}.npy", folder / f"{tissue.name}.joblib"
    if values_path.exists() and about.exists():
        known: tuple[pd.DataFrame, Array] = load(about)
        return known
    genes, values, scale = adjusted_expression(path, tissue)
    with writing(values_path) as temporary, temporary.open("wb") as file:
        np.save(file, np.ascontiguousarray(values))  # by row, as blocks of genes are read
    with writing(about) as temporary:
        joblib.dump((genes, scale), temporary)
    return genes, scale


def _by_contig(kept: pd.DataFrame, names: list[str]) -> tuple[pd.DataFrame, dict[str, slice]]:
    """Variants sorted by contig and position, and the rows of every contig of the file."""
    table = kept.assign(contig=[contig(name) for name in kept["chromosome"]], index=kept.index)
    table = table.sort_values(["contig", "position"], kind="stable").reset_index(drop=True)
    edges = np.flatnonzero(np.append(True, table["contig"].to_numpy()[1:] != table["contig"].to_numpy()[:-1]))
    stops = np.append(edges[1:], len(table))
    spans = {str(table["contig"].to_numpy()[a]): slice(int(a), int(b)) for a, b in zip(edges, stops, strict=True)}
    return table, dict.fromkeys(names, slice(0, 0)) | spans


def _blocks(genes: pd.DataFrame) -> list[slice]:
    """Neighbours on one contig, at most `GENES_A_BLOCK` of them within `REACH`."""
    names, starts = [contig(name) for name in genes["chromosome"]], genes["end"].to_numpy()
    blocks, first = [], 0
    for i in range(1, len(genes) + 1):
        full = i == len(genes) or i - first == GENES_A_BLOCK
        if full or names[i] != names[first] or starts[i] - starts[first] > REACH:
            blocks.append(slice(first, i))
            first = i
    return blocks


def _analyse(study: Prepared, work: Path, *, jobs: int, progress: bool) -> float:
    """Analyse the blocks that have no part yet; the memory, in MB, that workers used at most, together."""
    left = [number for number in range(len(study.blocks)) if not part_path(work, number).exists()]
    size = {number: study.blocks[number].stop - study.blocks[number].start for number in left}
    done = spread(
        _analyse_part, [(work, number) for number in left], jobs=jobs, title="Genes", progress=progress, ordered=False,
        size=lambda result: result[0], total=sum(size.values()),
    )  # fmt: skip
    peak = {process: memory for _, process, memory in done if process != os.getpid()}
    together = len(peak) if jobs < 0 else jobs  # one that has grown is replaced, not joined, by another
    return sum(sorted(peak.values())[-together:])


def _analyse_part(work: Path, number: int) -> tuple[int, int, float]:
    """Analyse a block and write its part: how many genes, in which process, and its memory in MB."""
    results = analyse_block(work, number)
    write_part(part_path(work, number), results)
    return len(results), os.getpid(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _log_genes(results: xr.Dataset, ledger: Ledger) -> None:
    """What became of the genes."""
    status, message = results["status"].to_numpy(), results["message"].to_numpy()
    for reason in dict.fromkeys(status[status != FITTED].tolist()):
        here = status == reason
        names = results["gene"].to_numpy()[here].tolist()
        said = [f"{name}: {text}" if text else name for name, text in zip(names, message[here].tolist(), strict=True)]
        ledger.drop("analysis of genes", said, reason)
    ledger.keep("analysis of genes", int((status == FITTED).sum()))
