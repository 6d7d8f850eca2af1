"""A run from files to results: the numbers, whatever the way there; what is stopped goes on; bad genes stay alone."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pgenlib
import pysam
import pytest
import xarray as xr
import zarr
from bed_reader import open_bed, to_bed
from numpy.typing import NDArray
from scipy import stats

from ebmodel import InputError
from ebmodel.eqtl import analysis, store
from ebmodel.eqtl import run as running
from ebmodel.eqtl.run import run_study
from ebmodel.eqtl.settings import Settings
from ebmodel.eqtl.store import open_results
from ebmodel.eqtl.variants import contig
from ebmodel.labels import ESTIMATOR, GENE, METHOD, SCREENING, TISSUE

TISSUES = {"Lung": 70, "Nerve": 90, "Skin": 60}
FOLDS = 4
CHOICES: dict[str, Any] = {
    "min_samples": 20, "ld_r2": 0.5, "cis_window": 300_000, "p": 1e-4, "r2": 0.1, "folds": FOLDS, "seed": 3,
    "estimators": ("paper",), "methods": ("paper", "ols"), "screening": ("outside", "inside"),
}  # fmt: skip
QUICK: dict[str, Any] = {"methods": ("ols",), "screening": ("outside",)}


@dataclass
class Raw:
    """A study as arrays, before it is written as files."""

    donors: list[str]
    G: NDArray[np.float64]
    """(donor, variant) copies of ``counted``, NaN missing."""
    variants: pd.DataFrame
    """chromosome, position, id, counted, other."""
    genes: pd.DataFrame
    """By gene: chromosome, start, end."""
    expression: dict[str, pd.DataFrame]
    """By tissue (gene, sample)."""
    covariates: dict[str, pd.DataFrame]
    """By tissue (covariate, sample)."""

    def write(self, folder: Path, kind: str = "bed", **choices: Any) -> Settings:
        """Write the files, and give the settings that find them."""
        folder.mkdir(parents=True, exist_ok=True)
        for tissue, values in self.expression.items():
            places = self.genes.loc[values.index].rename(columns={"chromosome": "#chr"})
            table = places[["#chr", "start", "end"]].assign(gene_id=values.index).join(values)
            table.to_csv(folder / f"{tissue}.bed.gz", sep="\t", index=False, compression={"method": "gzip", "mtime": 0})
            self.covariates[tissue].to_csv(folder / f"{tissue}.cov.txt", sep="\t", index_label="ID")
        path = folder / ("genotypes.vcf.gz" if kind == "vcf" else f"genotypes.{kind}")
        {"bed": self._bed, "pgen": self._pgen, "vcf": self._vcf}[kind](path)
        given = {"expression": str(folder / "{tissue}.bed.gz"), "covariates": str(folder / "{tissue}.cov.txt"),
                 "genotypes": path, "out": folder / "out"}  # fmt: skip
        return Settings(**(given | CHOICES | choices))

    def _bed(self, path: Path) -> None:
        about = {"iid": self.donors, "sid": self.variants["id"], "chromosome": self.variants["chromosome"],
                 "bp_position": self.variants["position"], "allele_1": self.variants["counted"],
                 "allele_2": self.variants["other"]}  # fmt: skip
        to_bed(path, self.G, properties=about)

    def _pgen(self, path: Path) -> None:
        with pgenlib.PgenWriter(str(path).encode(), len(self.donors), variant_ct=len(self.variants),
                                nonref_flags=False) as writer:  # fmt: skip
            for column in np.where(np.isnan(self.G), -9, self.G).astype(np.int8).T:
                writer.append_biallelic(np.ascontiguousarray(column))
        names = {"chromosome": "#CHROM", "position": "POS", "id": "ID", "other": "REF", "counted": "ALT"}
        self.variants[list(names)].rename(columns=names).to_csv(path.with_suffix(".pvar"), sep="\t", index=False)
        path.with_suffix(".psam").write_text("#IID\n" + "".join(f"{name}\n" for name in self.donors))

    def _vcf(self, path: Path) -> None:
        plain = path.with_suffix("")
        contigs = "".join(f"##contig=<ID={name}>\n" for name in self.variants["chromosome"].unique())
        calls = np.array(["0/0", "0/1", "1/1", "./."])[np.where(np.isnan(self.G), 3, self.G).astype(int)]
        rows = (
            "\t".join([v.chromosome, str(v.position), v.id, v.other, v.counted, ".", "PASS", ".", "GT", *calls[:, j]])
            for j, v in enumerate(self.variants.itertuples(index=False))
        )
        header = "\t".join(["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT", *self.donors])
        about = '##fileformat=VCFv4.2\n##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">\n'
        plain.write_text(f"{about}{contigs}{header}\n" + "".join(f"{row}\n" for row in rows))
        pysam.tabix_index(str(plain), preset="vcf", force=True)

    def copy(self) -> Raw:
        return deepcopy(self)

    def add_gene(self, name: str, chromosome: str, end: int, seed: int = 0) -> None:
        """Add a gene of noise, in all tissues."""
        self.genes.loc[name] = [chromosome, end - 1, end]
        for k, (tissue, values) in enumerate(self.expression.items()):
            values.loc[name] = np.random.default_rng([seed, k, end]).standard_normal(values.shape[1])
            self.expression[tissue] = values
        self.sort()

    def sort(self) -> None:
        """Put the genes in the order that the files must have."""
        order = self.genes.sort_values(["chromosome", "start"], kind="stable").index
        self.genes = self.genes.loc[order]
        self.expression = {t: values.loc[[g for g in order if g in values.index]]
                           for t, values in self.expression.items()}  # fmt: skip


def make_raw(seed: int = 0, donors: int = 110, genes: int = 8, snps: int = 60) -> Raw:
    """Two chromosomes of linked variants and genes; all but the last gene of each have strong effects."""
    rng = np.random.default_rng(seed)
    names = [f"GTEX-{1000 + i}" for i in rng.permutation(donors)]
    parts, tables, places = [], [], []
    for chromosome in ("chr1", "chr2"):
        latent = rng.standard_normal((2, donors, snps))
        for j in range(1, snps):
            latent[:, :, j] = 0.6 * latent[:, :, j - 1] + 0.8 * latent[:, :, j]  # neighbours' R2 is some 0.15
        parts.append((latent > rng.uniform(0.0, 0.9, snps)).sum(axis=0).astype(float))
        position = 1_000_000 + 25_000 * np.arange(snps)
        tables.append(pd.DataFrame({"chromosome": chromosome, "position": position,
                                    "id": [f"{chromosome}_{x}_A_G_b38" for x in position],
                                    "counted": "G", "other": "A"}))  # fmt: skip
        end = 1_000_000 + (25_000 * snps * (np.arange(genes // 2) + 0.5) / (genes // 2)).astype(int)
        places.append(pd.DataFrame({"chromosome": chromosome, "start": end - 1, "end": end}))
    G, variants = np.hstack(parts), pd.concat(tables, ignore_index=True)
    table = pd.concat(places, ignore_index=True).set_axis([f"ENSG{i}.1" for i in range(genes)], axis="index")
    shared = {"sex": 1.0 + (rng.random(donors) < 0.4), "PC1": rng.standard_normal(donors)}
    expression, covariates = {}, {}
    for tissue, n in TISSUES.items():
        who = np.sort(rng.permutation(donors)[:n])
        C = pd.DataFrame({**{key: value[who] for key, value in shared.items()}, "factor": rng.standard_normal(n)}).T
        Y = C.to_numpy().T @ rng.standard_normal((3, genes)) + rng.standard_normal((n, genes))
        for g, (chromosome, end) in enumerate(zip(table["chromosome"], table["end"], strict=True)):
            near = np.flatnonzero((variants["chromosome"] == chromosome) & ((variants["position"] - end).abs() < 2e5))
            if (g + 1) % (genes // 2):
                picked = np.random.default_rng([seed, g]).choice(near, 3, replace=False)
                Y[:, g] += G[np.ix_(who, picked)] @ (0.9 + 0.2 * rng.standard_normal(3))
        columns = [names[i] for i in who]
        expression[tissue] = pd.DataFrame(Y.T, table.index, columns)
        covariates[tissue] = C.set_axis(columns, axis="columns")
    G[rng.random(G.shape) < 0.01] = np.nan
    return Raw(names, G, variants, table, expression, covariates)


def run(settings: Settings, jobs: int = 1, *, fresh: bool = False) -> xr.Dataset:
    return run_study(settings, jobs=jobs, progress=False, fresh=fresh)


def same(found: xr.Dataset, wanted: xr.Dataset) -> None:
    """To the last bit, but for what attributes say of time and place."""
    xr.testing.assert_identical(found.drop_attrs(), wanted.drop_attrs())


def close(found: xr.Dataset, wanted: xr.Dataset, rtol: float = 1e-7) -> None:
    """The same choices, and numbers up to rounding, which the search for a maximum passes on."""
    assert set(found.data_vars) == set(wanted.data_vars)
    for name, values in wanted.data_vars.items():
        if values.dtype.kind == "f":
            np.testing.assert_allclose(found[name], values, rtol, 1e-9, err_msg=str(name))
        else:
            np.testing.assert_array_equal(found[name], values, err_msg=str(name))


def of_genes(results: xr.Dataset, genes: list[str]) -> xr.Dataset:
    """What is known of some genes, their entries side by side."""
    place = [int(np.flatnonzero(results[GENE] == gene)[0]) for gene in genes]
    first, snps = results["first"].to_numpy()[place], results["snps"].to_numpy()[place]
    status = results["status"].to_numpy()[place]
    entries = [np.arange(a, a + k * (s == "fitted")) for a, k, s in zip(first, snps, status, strict=True)]
    return results.isel(gene=place, entry=np.concatenate(entries)).drop_vars("first")


@pytest.fixture(scope="module")
def raw() -> Raw:
    return make_raw()


@pytest.fixture(scope="module")
def settings(raw: Raw, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return raw.write(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def done(settings: Settings) -> xr.Dataset:
    return run(settings)


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Settings]:
    """Write a study into this test's folder."""

    def call(raw: Raw, name: str = "study", **choices: Any) -> Settings:
        return raw.write(tmp_path / name, **choices)

    return call


# Numbers -------------------------------------------------------------------------------------------------------------


def residual(A: Any, Z: Any) -> Any:
    return A - Z @ np.linalg.lstsq(Z, A, rcond=None)[0]


def folds_of(tissue: str, samples: list[str], seed: int) -> NDArray[np.int64]:
    """Folds, drawn over the samples in order of name from a seed of the tissue's own; as the file orders them."""
    rng = np.random.default_rng([seed, *tissue.encode()])
    drawn = rng.permutation(np.arange(len(samples)) % FOLDS)
    return drawn[np.argsort(np.argsort(samples))]


class ByHand:
    """The analysis of one gene, written out on the files with least squares alone."""

    def __init__(self, settings: Settings, done: xr.Dataset, gene: str) -> None:
        self.seed = settings.seed
        raw = {t: pd.read_csv(settings.expression_of(t), sep="\t") for t in TISSUES}
        fam = pd.read_csv(settings.genotypes.with_suffix(".fam"), sep=r"\s+", header=None)[1].tolist()
        bim = pd.read_csv(settings.genotypes.with_suffix(".bim"), sep="\t", header=None)
        with open_bed(settings.genotypes) as bed:
            G = bed.read()
        samples = {t: raw[t].columns[4:].tolist() for t in TISSUES}
        used = [name for name in fam if any(name in set(some) for some in samples.values())]
        G = G[[fam.index(name) for name in used]]
        frequency = np.nanmean(G, axis=0) / 2
        G = np.where(np.isnan(G), 2 * frequency, G)
        row = next(raw[t][raw[t]["gene_id"] == gene].iloc[0] for t in TISSUES)
        low, high = row["start"] + 1 - settings.cis_window, row["end"] + settings.cis_window
        kept = np.isin(bim[1], self._pruned(settings))
        inside = (bim[0].astype(str) == contig(row["#chr"])) | (bim[0].astype(str) == row["#chr"])
        self.place = np.flatnonzero(kept & inside & (bim[3] >= low) & (bim[3] <= high))
        self.ids, self.X = bim[1].to_numpy()[self.place], G[:, self.place]
        self.x, self.y, self.fold, self.Z, self.rows = {}, {}, {}, {}, {}
        for t in TISSUES:
            C = pd.read_csv(settings.covariates_of(t), sep="\t", index_col=0)[samples[t]].to_numpy().T
            self.Z[t] = np.column_stack([np.ones(len(C)), C])
            self.rows[t] = [used.index(name) for name in samples[t]]
            values = raw[t].set_index("gene_id").loc[gene, samples[t]].to_numpy(dtype=float)
            y = residual(values, self.Z[t])
            self.sd = getattr(self, "sd", {}) | {t: np.sqrt(y @ y / (len(y) - np.linalg.matrix_rank(self.Z[t])))}
            self.y[t], self.x[t] = y / self.sd[t], residual(self.X[self.rows[t]], self.Z[t])
            self.fold[t] = folds_of(t, samples[t], self.seed)

    @staticmethod
    def _pruned(settings: Settings) -> list[str]:
        """Identifiers that frequency and linkage leave; their own tests compare these with PLINK's."""
        from ebmodel.eqtl.ledger import Ledger
        from ebmodel.eqtl.pruning import prune_variants
        from ebmodel.eqtl.variants import open_variants

        with open_variants(settings.genotypes) as variants:
            named = {name for t in TISSUES for name in pd.read_csv(settings.expression_of(t), sep="\t").columns[4:]}
            rows = np.flatnonzero(np.isin(variants.samples, list(named)))
            return prune_variants(variants, rows, ledger=Ledger(), r2=settings.ld_r2, progress=False)["id"].tolist()

    def z(self, train: Callable[[str], NDArray[np.bool_]]) -> NDArray[np.float64]:
        """Stouffer's Z of every SNP in the window, from some of the samples."""
        total = np.zeros(len(self.ids))
        for t in TISSUES:
            rows, h = train(t), np.sum(np.linalg.qr(self.Z[t])[0] ** 2, axis=1)
            x, y = self.x[t][rows], self.y[t][rows]
            dof = np.sum(1.0 - h[rows]) - 1.0
            r = (x.T @ y) / np.sqrt(np.sum(x**2, axis=0) * (y @ y))
            statistic = r * np.sqrt(dof / (1.0 - r**2))
            total += np.sign(statistic) * -stats.norm.ppf(stats.t.sf(np.abs(statistic), dof))
        return total / np.sqrt(len(TISSUES))

    def choose(self, Z: NDArray[np.float64], settings: Settings) -> list[int]:
        """The best SNP, then the best of those that are not linked with one before."""
        R2, kept = np.corrcoef(self.X.T) ** 2, list[int]()
        for j in np.argsort(-np.abs(Z)):
            if 2 * stats.norm.sf(abs(Z[j])) < settings.p and all(R2[j, k] <= settings.r2 for k in kept):
                kept.append(int(j))
        return kept

    def predict(self, chosen: Callable[[int], list[int]]) -> dict[str, tuple[float, float]]:
        """PMSE and R2 of least squares by tissue; ``chosen`` gives a fold's SNPs."""
        found = {}
        for t in TISSUES:
            predicted = np.zeros(len(self.y[t]))
            for f in range(FOLDS):
                out, snps = self.fold[t] == f, chosen(f)
                if snps:
                    b = np.linalg.lstsq(self.x[t][~out][:, snps], self.y[t][~out], rcond=None)[0]
                    predicted[out] = self.x[t][out][:, snps] @ b
            r2 = 0.0 if predicted.var() == 0 else float(np.corrcoef(predicted, self.y[t])[0, 1] ** 2)
            found[t] = float(np.mean((self.y[t] - predicted) ** 2)), r2
        return found


@pytest.mark.parametrize("gene", ["ENSG0.1", "ENSG5.1"])
def test_numbers_are_those_of_the_files(settings: Settings, done: xr.Dataset, gene: str, pin: Any) -> None:
    hand, mine = ByHand(settings, done, gene), of_genes(done, [gene])
    Z = hand.z(lambda t: np.ones(len(hand.y[t]), dtype=bool))
    chosen = hand.choose(Z, settings)
    assert len(chosen) > 1
    assert mine["variant"].to_numpy().tolist() == hand.ids[chosen].tolist()
    assert mine["snps_in_window"].to_numpy().tolist() == [len(hand.ids)]
    pin(mine["z"], Z[chosen], 1e-8)

    inside = [hand.choose(hand.z(lambda t, f=f: hand.fold[t] != f), settings) for f in range(FOLDS)]
    for screening, by_fold in {"outside": lambda _: chosen, "inside": inside.__getitem__}.items():
        scores = mine.sel({SCREENING: screening, METHOD: "ols"}).squeeze(GENE)
        wanted = pd.DataFrame(hand.predict(by_fold), ["pmse", "r2"])
        pin(scores["pmse"].sel({TISSUE: list(TISSUES)}), wanted.loc["pmse"], 1e-8)
        pin(scores["r2"].sel({TISSUE: list(TISSUES)}), wanted.loc["r2"], 1e-8)


def test_fits_are_those_of_the_package(settings: Settings, done: xr.Dataset, pin: Any) -> None:
    """`ebmodel.oracle` at the run's parameters, and a fit that reaches the same likelihood, on the adjusted files."""
    hand, mine = ByHand(settings, done, "ENSG0.1"), of_genes(done, ["ENSG0.1"]).squeeze(GENE)
    chosen = [hand.ids.tolist().index(name) for name in mine["variant"].to_numpy()]
    X = hand.X[:, chosen] - hand.X[:, chosen].mean(axis=0)
    # a tissue's covariates are its own, so it is written as rows of its own, beside X for the slab's shape
    theta = mine.sel({ESTIMATOR: "paper"})
    beta, eta, sigma2, tau1 = (theta[name].to_numpy() for name in ("beta", "eta", "sigma2", "tau1"))
    S0 = np.linalg.inv(X.T @ X)
    loglik = 0.0
    for t in TISSUES:
        # contrasts that covariates leave: an orthonormal basis of their complement
        n, k = hand.Z[t].shape
        N = np.linalg.qr(np.column_stack([hand.Z[t], np.eye(n)]))[0][:, k:n]
        x, y = N.T @ X[hand.rows[t]], N.T @ hand.y[t]
        V = sigma2 * np.eye(n - k) + eta * x @ S0 @ x.T
        one = stats.multivariate_normal.logpdf(y, x @ beta, V)
        nought = stats.norm.logpdf(y, 0.0, np.sqrt(sigma2)).sum()
        odds = np.log(tau1) + one - np.log1p(-tau1) - nought if tau1 < 1 else np.inf
        here = theta.sel({TISSUE: t})
        pin(here["log_bayes_factor"], nought - one, 1e-7)
        h = 1.0 / (1.0 + np.exp(-odds))
        np.testing.assert_allclose(here["posterior_probability"], h, atol=1e-7)
        mean = h * (beta + eta * S0 @ x.T @ np.linalg.solve(V, y - x @ beta))
        pin(here["effects"], mean * hand.sd[t], 1e-6)
        loglik += np.logaddexp(np.log(tau1) + one, np.log1p(-tau1) + nought if tau1 < 1 else -np.inf)
    pin(theta["loglik"], loglik, 1e-7)


# The same whatever the way -------------------------------------------------------------------------------------------


def test_jobs_change_nothing(write: Any, raw: Raw, done: xr.Dataset) -> None:
    same(run(write(raw), jobs=2), done)


@pytest.mark.parametrize("kind", ["pgen", "vcf"])
def test_formats_change_nothing(write: Any, raw: Raw, done: xr.Dataset, kind: str) -> None:
    same(run(write(raw, kind=kind)), done)


def test_order_changes_nothing(write: Any, raw: Raw, done: xr.Dataset) -> None:
    """Of samples in any file, of covariates, and of donors without expression."""
    rng, mixed = np.random.default_rng(7), raw.copy()
    order = rng.permutation(len(raw.donors))
    mixed.donors, mixed.G = [raw.donors[i] for i in order] + ["NOBODY"], raw.G[order]
    mixed.G = np.vstack([mixed.G, rng.integers(0, 3, (1, raw.G.shape[1]))])
    for tissue, values in raw.expression.items():
        mixed.expression[tissue] = values.iloc[:, rng.permutation(values.shape[1])]
        C = raw.covariates[tissue]
        mixed.covariates[tissue] = C.iloc[rng.permutation(C.shape[0]), rng.permutation(C.shape[1])]
    close(run(write(mixed)), done)


def test_names_of_contigs_change_nothing(write: Any, raw: Raw, done: xr.Dataset) -> None:
    other = raw.copy()
    other.variants["chromosome"] = other.variants["chromosome"].str.removeprefix("chr")
    same(run(write(other)), done)


def test_results_are_those_in_the_store(settings: Settings, done: xr.Dataset) -> None:
    for path in (settings.out, settings.out / "results.zarr"):
        xr.testing.assert_identical(open_results(path), done)
    assert not (settings.out / "work").exists()
    dropped = pd.read_csv(settings.out / "dropped.tsv", sep="\t")
    kept = dropped[dropped["reason"] == "kept"].set_index("step")["count"]
    assert kept["analysis of genes"] == (done["status"] == "fitted").sum() == 6
    assert kept["genes"] == done.sizes[GENE] == 8
    assert kept["tissues"] == done.sizes[TISSUE]
    assert kept["donors"] == done.attrs["donors"]


def test_entries_are_stored_in_pieces(done: xr.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "ENTRIES_A_CHUNK", 4)
    store.write_results(done, tmp_path / "results.zarr")
    group = zarr.open_group(tmp_path / "results.zarr", mode="r", use_consolidated=False)
    assert group["effects"].chunks == (1, 4, 3)
    assert group["tau1"].chunks == (1, 8)
    xr.testing.assert_identical(open_results(tmp_path), done)


# Stopped and gone on with --------------------------------------------------------------------------------------------

SCRIPT = """
import json, sys, time
from pathlib import Path
from ebmodel.eqtl import run as running
from ebmodel.eqtl.settings import Settings

folder, choices = Path(sys.argv[1]), json.loads(sys.argv[2])
choices = {name: tuple(value) if isinstance(value, list) else value for name, value in choices.items()}
settings = Settings(expression=str(folder / "{tissue}.bed.gz"), covariates=str(folder / "{tissue}.cov.txt"),
                    genotypes=folder / "genotypes.bed", out=folder / "out", **choices)
running.GENES_A_BLOCK = 1
"""
IN_GENES = """
part = running._analyse_part
def hang(work, number):
    if number == 3:
        time.sleep(600)
    return part(work, number)
running._analyse_part = hang
if __name__ == "__main__":
    running.run_study(settings, jobs=2, progress=False)
"""
IN_EXPRESSION = """
adjusted = running.adjusted_expression
def hang(path, tissue):
    if "Nerve" in path.name:
        time.sleep(600)
    return adjusted(path, tissue)
running.adjusted_expression = hang
if __name__ == "__main__":
    running.run_study(settings, jobs=1, progress=False)
"""


def kill_when(folder: Path, script: str, reached: Callable[[Path], bool]) -> None:
    """Run a study in a process group of its own and kill all of it once something is reached."""
    path = folder / "script.py"
    path.write_text(SCRIPT + textwrap.dedent(script))
    root = Path(__file__).parents[1]
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, str(path), str(folder), json.dumps(CHOICES)]
    process = subprocess.Popen(command, cwd=root, env=env, start_new_session=True, stderr=subprocess.PIPE)
    until = time.monotonic() + 120
    try:
        while not reached(folder / "out" / "work"):
            assert process.poll() is None, process.communicate()[1].decode()
            assert time.monotonic() < until
            time.sleep(0.02)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert process.stderr is not None
        process.stderr.close()


def dates(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir() if not path.name.startswith(".")}


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, int]]:
    """Dates of the parts and of the expression at the end of a run, before they go."""
    found: dict[str, dict[str, int]] = {}
    assemble = running.assemble

    def spy(study: Any, parts: Any) -> xr.Dataset:
        folder = study.expression[0].parents[1]
        found.update({name: dates(folder / name) for name in ("parts", "expression")})
        return assemble(study, parts)

    monkeypatch.setattr(running, "assemble", spy)
    return found


@pytest.fixture(scope="module")
def one_by_one(raw: Raw, tmp_path_factory: pytest.TempPathFactory) -> xr.Dataset:
    """An uninterrupted run whose blocks are single genes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "GENES_A_BLOCK", 1)
        return run(raw.write(tmp_path_factory.mktemp("one")))


def test_killed_among_genes_goes_on(write: Any, raw: Raw, one_by_one: xr.Dataset, seen: Any) -> None:
    settings = write(raw)
    parts = settings.out / "work" / "parts"
    kill_when(settings.out.parent, IN_GENES, lambda work: parts.is_dir() and len(dates(parts)) >= 2)
    before = dates(parts)
    assert 2 <= len(before) < 8
    found = run(settings)
    assert len(seen["parts"]) == 8
    assert {name: seen["parts"][name] for name in before} == before
    same(found, one_by_one)


def test_killed_in_the_expression_goes_on(
    write: Any, raw: Raw, one_by_one: xr.Dataset, seen: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = write(raw)
    folder = settings.out / "work" / "expression"
    kill_when(settings.out.parent, IN_EXPRESSION, lambda work: (folder / "Lung.joblib").exists())
    before = dates(folder)
    assert set(before) == {"Lung.npy", "Lung.joblib"}
    monkeypatch.setattr(running, "GENES_A_BLOCK", 1)
    found = run(settings)
    assert {name: seen["expression"][name] for name in before} == before
    same(found, one_by_one)


@pytest.fixture
def stopped(write: Any, raw: Raw, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A run that stopped at the second block of genes."""
    settings = write(raw, **QUICK)
    with monkeypatch.context() as patch:
        part = running._analyse_part
        stop = KeyboardInterrupt("by hand")

        def interrupted(work: Path, number: int) -> Any:
            if number == 1:
                raise stop
            return part(work, number)

        patch.setattr(running, "_analyse_part", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(settings)
    assert len(dates(settings.out / "work" / "parts")) == 1
    return settings


@pytest.mark.parametrize("name", ["parts/000000.joblib", "study.joblib", "ledger.joblib", "expression/Lung.joblib"])
def test_a_damaged_file_of_the_work_is_named(stopped: Settings, name: str) -> None:
    path = stopped.out / "work" / name
    path.write_bytes(path.read_bytes()[:200])
    if name.startswith("expression"):
        (stopped.out / "work" / "study.joblib").unlink()
    with pytest.raises(InputError, match=rf"{path.name}; do remove it and run again") as caught:
        run(stopped)
    assert "\n" not in str(caught.value)
    path.unlink()
    assert (run(stopped)["status"] == "fitted").sum() == 6


def test_work_of_other_settings_is_refused(stopped: Settings) -> None:
    parts = dates(stopped.out / "work" / "parts")
    for change in ({"maf": 0.1}, {"seed": 4}, {"p": 1e-5}):
        with pytest.raises(InputError, match=r"the work of the same settings and files.*--fresh"):
            run(replace(stopped, **change))
    assert dates(stopped.out / "work" / "parts") == parts
    found = run(replace(stopped, maf=0.1), fresh=True)
    assert '"maf": 0.1' in found.attrs["settings"]


@pytest.mark.parametrize("name", ["genotypes.fam", "genotypes.bim", "genotypes.bed", "Lung.cov.txt", "Skin.bed.gz"])
def test_work_of_files_that_changed_is_refused(stopped: Settings, name: str) -> None:
    path = stopped.out.parent / name
    os.utime(path, ns=(1, 1))
    with pytest.raises(InputError, match="the work of the same settings and files"):
        run(stopped)


def test_results_of_other_settings_are_not_lost(write: Any, raw: Raw) -> None:
    settings = write(raw, **QUICK)
    found = run(settings)
    with pytest.raises(InputError, match=r"results\.zarr.*--fresh"):
        run(replace(settings, maf=0.1))
    same(open_results(settings.out), found)
    other = run(replace(settings, maf=0.1, seed=9), fresh=True)
    assert not np.array_equal(other["pmse"], found["pmse"], equal_nan=True)
    # of one process: nothing is left of the files and settings that were there before
    rng = np.random.default_rng(5)
    changed = raw.copy()
    changed.G = changed.G[rng.permutation(len(changed.G))]
    again = write(changed, **QUICK)
    assert (run(again, fresh=True)["snps"].sum()) == 0
    write(raw, **QUICK)
    same(run(settings, fresh=True), found)


def test_a_finished_run_is_read(settings: Settings, done: xr.Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(running, "spread")
    before = dates(settings.out)
    xr.testing.assert_identical(run(settings), done)
    xr.testing.assert_identical(run(replace(settings, fdr=0.2)), done)
    assert dates(settings.out) == before


def test_paths_may_be_written_otherwise(stopped: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was begun in one folder is gone on with from another."""
    folder = stopped.out.parent
    monkeypatch.chdir(folder.parent)
    name = folder.name
    relative = replace(stopped, genotypes=Path(f"{name}/genotypes.bed"), out=Path(f"{name}/out"),
                       expression=f"{name}/{{tissue}}.bed.gz", covariates=f"{name}/{{tissue}}.cov.txt")  # fmt: skip
    assert (run(relative)["status"] == "fitted").sum() == 6


def test_a_file_put_right_needs_no_fresh_start(write: Any, raw: Raw) -> None:
    settings = write(raw, **QUICK)
    path = settings.expression_of("Skin")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"Skin\.bed\.gz"):
        run(settings)
    path.write_bytes(whole)
    assert (run(settings)["status"] == "fitted").sum() == 6


def test_a_folder_of_somebody_elses_is_left_alone(write: Any, raw: Raw) -> None:
    settings = write(raw, **QUICK)
    note = settings.out / "work" / "note.txt"
    note.parent.mkdir(parents=True)
    note.write_text("mine")
    for fresh in (False, True):
        with pytest.raises(InputError, match="work"):
            run(settings, fresh=fresh)
    assert note.read_text() == "mine"


# One gene's trouble --------------------------------------------------------------------------------------------------


def test_a_missing_cell_is_its_genes_alone(write: Any, raw: Raw, done: xr.Dataset) -> None:
    holed = raw.copy()
    holed.expression["Nerve"].iloc[1, 5] = np.nan
    holed.expression["Skin"].iloc[4] = 2.5
    settings = write(holed)
    found = run(settings)
    message = dict(zip(found[GENE].to_numpy().tolist(), found["message"].to_numpy().tolist(), strict=True))
    status = dict(zip(message, found["status"].to_numpy().tolist(), strict=True))
    assert status["ENSG1.1"] == status["ENSG4.1"] == "failed"
    for gene, tissue, line in (("ENSG1.1", "Nerve", 3), ("ENSG4.1", "Skin", 6)):
        assert f"{settings.expression_of(tissue)}, line {line};" in message[gene]
    others = [gene for gene in status if gene not in {"ENSG1.1", "ENSG4.1"}]
    same(of_genes(found, others), of_genes(done, others))
    bad = found.sel({GENE: "ENSG1.1"})
    assert np.isnan(bad["posterior_probability"]).all()
    assert np.isnan(bad["pmse"]).all()


def test_genes_that_cannot_be_analysed_leave_the_others_alone(write: Any, raw: Raw, done: xr.Dataset) -> None:
    more = raw.copy()
    more.add_gene("STRAY1", "chrUn_1", 500)
    more.add_gene("STRAY2", "chrUn_1", 900)
    more.add_gene("FAR", "chr1", 90_000_000)
    more.add_gene("RARE", "chr2", 1_200_000)
    more.expression["Lung"] = more.expression["Lung"].drop(index="RARE")
    # its line in one file is not its line in another
    more.expression["Skin"] = more.expression["Skin"].drop(index="ENSG0.1")
    settings = write(more, min_tissues=2)
    found = run(settings)
    table = found[["status", "message"]].to_dataframe()
    assert table.loc["FAR"].tolist() == ["no SNP in the window", ""]
    assert table.loc["RARE", "status"] == "no SNP passes"
    for stray in ("STRAY1", "STRAY2"):
        line = 2 + list(more.expression["Lung"].index).index(stray)
        where = f"{settings.expression_of('Lung')}, line {line};"
        assert table.loc[stray, "status"] == "failed"
        assert "'chrUn_1'" in table.loc[stray, "message"]
        assert where in table.loc[stray, "message"]
    same_genes = [gene for gene in raw.genes.index if gene != "ENSG0.1"]
    close(of_genes(found, same_genes), of_genes(done, same_genes))
    partly = found.sel({GENE: "ENSG0.1", ESTIMATOR: "paper"})
    assert partly["status"] == "fitted"
    assert np.isnan(partly["posterior_probability"]).to_numpy().tolist() == [False, False, True]
    assert np.isnan(partly["pmse"]).all((SCREENING, METHOD)).to_numpy().tolist() == [False, False, True]
    everywhere = run(replace(settings, min_tissues=0, out=settings.out.with_name("other")))
    assert not {"RARE", "ENSG0.1"} & set(everywhere[GENE].to_numpy())
    dropped = pd.read_csv(settings.out.with_name("other") / "dropped.tsv", sep="\t")
    row = dropped[dropped["reason"] == "expressed in fewer than 3 tissues"]
    assert row["count"].tolist() == [2]


def test_a_contig_whose_variants_are_all_rare_has_none_in_the_window(write: Any, raw: Raw) -> None:
    rare = raw.copy()
    here = (rare.variants["chromosome"] == "chr2").to_numpy()
    rare.G[:, here] = 0.0
    found = run(write(rare, **QUICK))
    on_two = found["chromosome"] == "chr2"
    assert set(found["status"].to_numpy()[on_two]) == {"no SNP in the window"}


def test_an_error_in_one_gene_is_reported(
    write: Any, raw: Raw, done: xr.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit = analysis._fit
    trouble = ZeroDivisionError("one\ntwo")

    def faulty(study: Any, sums: Any, XX: Any, names: Any, present: Any, result: Any) -> Any:
        if result.gene == "ENSG2.1":
            raise trouble
        return fit(study, sums, XX, names, present, result)

    monkeypatch.setattr(analysis, "_fit", faulty)
    found = run(write(raw))
    bad = found.sel({GENE: "ENSG2.1"})
    assert (bad["status"], bad["message"]) == ("failed", "ZeroDivisionError: one two")
    others = [gene for gene in raw.genes.index if gene != "ENSG2.1"]
    same(of_genes(found, others), of_genes(done, others))


def test_genotypes_that_cannot_be_read_fail_their_block(write: Any, raw: Raw, monkeypatch: pytest.MonkeyPatch) -> None:
    read = analysis._read_block
    trouble = OSError("disk")

    def faulty(study: Any, genes: Any) -> Any:
        if genes["chromosome"].iloc[0] == "chr2":
            raise trouble
        return read(study, genes)

    monkeypatch.setattr(analysis, "_read_block", faulty)
    found = run(write(raw, **QUICK))
    assert set(found["message"].to_numpy()[found["chromosome"] == "chr2"]) == {"OSError: disk"}
    assert (found["status"].to_numpy()[found["chromosome"] == "chr1"] != "failed").all()


# Edges ---------------------------------------------------------------------------------------------------------------


def narrow(raw: Raw, genes: list[str], variants: NDArray[np.int64] | slice) -> Raw:
    """Of some genes and variants alone."""
    less = raw.copy()
    less.genes = raw.genes.loc[genes]
    less.expression = {t: values.loc[genes] for t, values in raw.expression.items()}
    less.G, less.variants = raw.G[:, variants], raw.variants.iloc[variants].reset_index(drop=True)
    return less


def best_snp(raw: Raw, done: xr.Dataset, gene: str) -> NDArray[np.int64]:
    """Column of a gene's best SNP."""
    name = of_genes(done, [gene])["variant"].to_numpy()[0]
    return np.flatnonzero(raw.variants["id"] == name)


def test_one_gene_one_variant_two_tissues(write: Any, raw: Raw, done: xr.Dataset) -> None:
    less = narrow(raw, ["ENSG0.1"], best_snp(raw, done, "ENSG0.1"))
    every = ("paper", "generalised", "ols", "ridge", "elastic-net")
    settings = write(less, tissues=("Nerve", "Lung"), estimators=("paper", "generalised"), methods=every)
    found = run(settings)
    assert found["status"].to_numpy().tolist() == ["fitted"]
    assert found["snps"].to_numpy().tolist() == [1]
    assert found[TISSUE].to_numpy().tolist() == ["Nerve", "Lung"]
    assert np.isfinite(found["pmse"]).all()
    assert ((found["r2"] >= 0) & (found["r2"] <= 1)).all()
    assert ((found["posterior_probability"] >= 0) & (found["posterior_probability"] <= 1)).all()


def test_folds_of_a_tissue_do_not_depend_on_the_others(write: Any, raw: Raw, done: xr.Dataset) -> None:
    found = run(write(raw, tissues=("Nerve", "Skin"), p=1.0, most_snps=1))
    again = run(write(raw, "again", tissues=("Skin", "Nerve"), p=1.0, most_snps=1))
    close(again.sel({TISSUE: found[TISSUE]}), found)


def test_a_tissue_with_fewer_samples_than_snps(write: Any, raw: Raw) -> None:
    small = raw.copy()
    few = small.expression["Skin"].columns[:9]
    small.expression["Skin"] = small.expression["Skin"][few]
    settings = write(small, min_samples=5, p=1.0, r2=0.9, most_snps=12, methods=("paper", "ols", "ridge"))
    found = run(settings)
    fitted = found["status"] == "fitted"
    assert fitted.all()
    skin = found.sel({TISSUE: "Skin"})
    assert np.isnan(skin["pmse"].sel({METHOD: "ols"})).all()
    assert np.isnan(skin["r2"].sel({METHOD: "ols"})).all()
    assert np.isfinite(skin["pmse"].sel({METHOD: ["paper", "ridge"]})).all()
    assert int(skin["samples"]) == 9


def test_fewer_samples_than_folds(write: Any, raw: Raw) -> None:
    small = raw.copy()
    small.expression["Skin"] = small.expression["Skin"].iloc[:, :8]
    choices = {"min_samples": 5, "folds": 12, "methods": ("paper", "ols", "elastic-net"), "screening": ("inside",)}
    found = run(write(small, **choices))
    assert (found["status"] == "fitted").sum() >= 4
    assert found[SCREENING].to_numpy().tolist() == ["inside"]
    fitted = found.isel({GENE: np.flatnonzero(found["status"] == "fitted")})
    assert np.isfinite(fitted["pmse"].sel({METHOD: ["paper", "elastic-net"]})).all()


def test_fewer_samples_than_covariates(write: Any, raw: Raw) -> None:
    small = raw.copy()
    small.expression["Skin"] = small.expression["Skin"].iloc[:, :4]
    with pytest.raises(InputError, match=r"more samples than covariates, got 4 samples and 3 covariates.*'Skin'"):
        run(write(small, min_samples=4))


def test_a_donor_of_one_tissue(write: Any, raw: Raw) -> None:
    more = raw.copy()
    more.donors = [*raw.donors, "GTEX-NEW"]
    more.G = np.vstack([raw.G, raw.G[:1]])
    more.expression["Skin"]["GTEX-NEW"] = np.random.default_rng(0).standard_normal(len(raw.genes))
    more.covariates["Skin"]["GTEX-NEW"] = more.covariates["Skin"].iloc[:, 0]
    found = run(write(more, **QUICK))
    assert int(found["samples"].sel({TISSUE: "Skin"})) == TISSUES["Skin"] + 1
    assert (found["status"] == "fitted").sum() == 6


def test_variants_that_say_nothing(write: Any, raw: Raw, done: xr.Dataset) -> None:
    """Monomorphic and all-missing ones change nothing."""
    more = raw.copy()
    for j, value in ((70, np.nan), (65, 2.0), (20, 0.0), (10, np.nan)):
        more.G = np.insert(more.G, j, value, axis=1)
        row = more.variants.iloc[[j]].assign(position=lambda v: v["position"] - 10)
        row["id"] = [f"{row['chromosome'].iloc[0]}_{row['position'].iloc[0]}_A_G_b38"]
        more.variants = pd.concat([more.variants.iloc[:j], row, more.variants.iloc[j:]], ignore_index=True)
    settings = write(more, ld_window=500, ld_step=1)
    plain = write(raw, "plain", ld_window=500, ld_step=1)
    same(run(settings), run(plain))
    dropped = pd.read_csv(settings.out / "dropped.tsv", sep="\t").set_index("reason")["count"]
    assert dropped["no genotype"] == 2


def test_no_variant_is_common(write: Any, raw: Raw) -> None:
    rare = raw.copy()
    rare.G[:] = 0.0
    with pytest.raises(InputError, match=r"minor.allele frequency.*genotypes\.bed"):
        run(write(rare))


def test_without_cross_validation(write: Any, raw: Raw, done: xr.Dataset) -> None:
    found = run(write(raw, methods=()))
    assert "pmse" not in found
    assert METHOD not in found.dims
    same(found, done.drop_vars(["pmse", "r2", METHOD, SCREENING]))
    same(open_results(json.loads(found.attrs["settings"])["out"]), found)


@pytest.mark.parametrize("screening", [("inside",), ("inside", "outside")])
def test_screenings_do_not_touch_each_other(write: Any, raw: Raw, done: xr.Dataset, screening: tuple[str, ...]) -> None:
    found = run(write(raw, screening=screening))
    assert found[SCREENING].to_numpy().tolist() == list(screening)
    close(found.drop_vars(["pmse", "r2", SCREENING]), done.drop_vars(["pmse", "r2", SCREENING]))
    for one in screening:
        np.testing.assert_allclose(found["pmse"].sel({SCREENING: one}), done["pmse"].sel({SCREENING: one}), 1e-9)


def test_methods_need_not_be_estimators(write: Any, raw: Raw) -> None:
    found = run(write(raw, estimators=("generalised",), methods=("paper", "ols"), screening=("outside",)))
    assert found[ESTIMATOR].to_numpy().tolist() == ["generalised"]
    fitted = found.isel({GENE: np.flatnonzero(found["status"] == "fitted")})
    assert np.isfinite(fitted["pmse"]).all()


def test_three_folds(write: Any, raw: Raw) -> None:
    found = run(write(raw, folds=3, methods=("ols", "ridge"), screening=("outside",)))
    assert np.isfinite(found["pmse"].isel({GENE: np.flatnonzero(found["status"] == "fitted")})).all()


def test_no_gene_passes(write: Any, raw: Raw) -> None:
    settings = write(raw, p=1e-300)
    found = run(settings)
    assert set(found["status"].to_numpy()) == {"no SNP passes"}
    assert found.sizes["entry"] == 0
    same(open_results(settings.out), found)


def test_the_most_snps_are_the_best(write: Any, raw: Raw, done: xr.Dataset) -> None:
    found = run(write(raw, most_snps=1, **QUICK))
    for gene in ("ENSG0.1", "ENSG5.1"):
        one, every = of_genes(found, [gene]), of_genes(done, [gene])
        assert one["variant"].to_numpy().tolist() == every["variant"].to_numpy()[:1].tolist()
        assert one["snps"].to_numpy() == 1


# Bad files -----------------------------------------------------------------------------------------------------------


def spoil(raw: Raw, folder: Path, what: str) -> str:
    """Break one file of a study; what the message must name."""
    path = folder / "Skin.bed.gz"
    lines = gzip.decompress(path.read_bytes()).decode().splitlines()
    if what == "cut off":
        path.write_bytes(path.read_bytes()[:3000])
        return r"Skin\.bed\.gz"
    if what == "commas":
        path.write_bytes(gzip.compress("\n".join(lines).replace("\t", ",").encode()))
        return r"Skin\.bed\.gz, line 1"
    if what == "unsorted":
        lines[2], lines[3] = lines[3], lines[2]
    elif what == "twice":
        head = lines[0].split("\t")
        lines[0] = "\t".join([*head[:5], head[4], *head[6:]])
    elif what == "a word":
        lines[4] = lines[4].rsplit("\t", 1)[0] + "\tmuch"
    elif what == "moved":
        cells = lines[3].split("\t")
        lines[3] = "\t".join([cells[0], str(int(cells[1]) + 7), str(int(cells[2]) + 7), *cells[3:]])
    path.write_bytes(gzip.compress("".join(f"{line}\n" for line in lines).encode()))
    return {"unsorted": r"Skin\.bed\.gz, line 4", "twice": r"Skin\.bed\.gz", "a word": r"Skin\.bed\.gz, line 5",
            "moved": r"gene 'ENSG2\.1' at one position.*Skin\.bed\.gz, line 4"}[what]  # fmt: skip


@pytest.mark.parametrize("what", ["cut off", "commas", "unsorted", "twice", "a word", "moved"])
def test_bad_expression_is_named_in_one_line(write: Any, raw: Raw, what: str) -> None:
    settings = write(raw, **QUICK)
    wanted = spoil(raw, settings.out.parent, what)
    with pytest.raises(InputError, match=wanted) as caught:
        run(settings)
    assert "\n" not in str(caught.value)
    assert not (settings.out / "results.zarr").exists()


def test_genes_on_one_contig_by_two_names_agree(write: Any, raw: Raw, done: xr.Dataset) -> None:
    settings = write(raw)
    path = settings.expression_of("Skin")
    table = pd.read_csv(path, sep="\t", dtype={"#chr": str})
    table.assign(**{"#chr": table["#chr"].str.removeprefix("chr")}).to_csv(path, sep="\t", index=False)
    same(run(settings), done)
