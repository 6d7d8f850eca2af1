"""A simulated study is what its truth says, in the formats of its kind, and the same for the same seed."""

from __future__ import annotations

import gzip
import json
import tomllib
from itertools import pairwise
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from ebmodel import InputError
from ebmodel.eqtl import simulation
from ebmodel.eqtl.simulation import cohort, expression, formats, genotypes, packing, simulate_study
from ebmodel.eqtl.tissues import TISSUES

pytest.importorskip("msprime")
bed_reader = pytest.importorskip("bed_reader")

TISSUES_USED = ["Artery_Tibial", "Brain_Cerebellum", "Brain_Cortex", "Lung", "Testis", "Vagina", "Whole_Blood"]
DONORS = 400


class Study:
    """A simulated study, read back by others' readers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with bed_reader.open_bed(folder / "genotypes.bed") as bed:
            self.counts, self.donors, self.ids = bed.read(dtype="float64"), bed.iid, bed.sid
        names = ["chromosome", "id", "morgans", "position", "counted", "other"]
        self.bim = pd.read_csv(folder / "genotypes.bim", sep="\t", names=names)
        self.tissues = sorted(path.name.split(".")[0] for path in folder.glob("expression/*"))
        self.expression = {t: self.table(f"expression/{t}.v8.normalized_expression.bed.gz") for t in self.tissues}
        self.covariates = {t: self.table(f"covariates/{t}.v8.covariates.txt").set_index("ID") for t in self.tissues}
        self.genes, self.active, self.effects = (
            self.table(f"truth/{name}.tsv.gz") for name in ("genes", "active", "effects")
        )

    def table(self, name):
        return pd.read_csv(self.folder / name, sep="\t")

    def of(self, tissue):
        """Expression (sample, gene), what covariates and the mean span, and places of the samples' donors."""
        Y = self.expression[tissue].iloc[:, 4:]
        C = np.column_stack([np.ones(Y.shape[1]), self.covariates[tissue][Y.columns].to_numpy().T])
        place = {name: i for i, name in enumerate(self.donors)}
        return Y.to_numpy().T, C, np.array([place[name] for name in Y.columns])

    def causal(self, gene):
        """Counts (donor, causal) of a gene's causal variants."""
        return self.counts[:, [self.ids.tolist().index(name) for name in gene.causal.split(";")]]

    def egenes(self):
        """Place, row of genes.tsv and effects (causal, tissue) of every eGene."""
        for g, gene in self.genes.iterrows():
            if gene.egene:
                yield g, gene, self.effects[self.effects.gene == gene.gene]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study") / "study"
    simulate_study(
        folder,
        genes=100,
        donors=DONORS,
        tissues=TISSUES_USED,
        egenes=0.82,
        density=500.0,
        missing_genotypes=0.0,
        seed=3,
        progress=False,
    )
    return Study(folder)


def test_files_are_those_of_a_study(study):
    files = {path.relative_to(study.folder).as_posix() for path in study.folder.rglob("*") if path.is_file()}
    tables = [f"expression/{t}.v8.normalized_expression.bed.gz" for t in TISSUES_USED]
    tables += [f"covariates/{t}.v8.covariates.txt" for t in TISSUES_USED]
    truth = [f"truth/{name}" for name in ("genes.tsv.gz", "active.tsv.gz", "effects.tsv.gz", "settings.json")]
    assert files == {*tables, *truth, "genotypes.bed", "genotypes.bim", "genotypes.fam", "study.toml"}
    text = (study.folder / "study.toml").read_text()
    assert tomllib.loads(text) == {
        "genotypes": "genotypes.bed",
        "expression": "expression/{tissue}.v8.normalized_expression.bed.gz",
        "covariates": "covariates/{tissue}.v8.covariates.txt",
        "out": "results",
    }
    lines = text.splitlines()
    assert [line.startswith("#") for line in lines] == [True, False] * 4
    settings = json.loads((study.folder / "truth" / "settings.json").read_text())
    assert settings["seed"] == 3
    assert settings["tissues"] == TISSUES_USED
    assert settings["missing_genotypes"] == 0.0
    assert {"genes", "donors", "egenes", "tau1", "heritability", "density", "donor_correlation"} < set(settings)


def test_genes_and_samples(study):
    for tissue in TISSUES_USED:
        table, C = study.expression[tissue], study.covariates[tissue]
        assert table.columns[:4].tolist() == ["#chr", "start", "end", "gene_id"]
        assert table["gene_id"].tolist() == study.genes["gene"].tolist()
        assert table["end"].tolist() == (table["start"] + 1).tolist() == study.genes["tss"].tolist()
        assert table["#chr"].tolist() == study.genes["chromosome"].tolist()
        samples = table.columns[4:]
        assert len(samples) == round(TISSUES[tissue].samples * DONORS / 838)
        assert samples.is_unique
        assert samples.isin(study.donors).all()
        assert C.columns.tolist() == samples.tolist()
        assert table.iloc[:, 4:].notna().all(axis=None)
    assert study.genes["gene"].is_unique
    assert study.genes["gene"].str.fullmatch(r"ENSG\d{11}\.\d+").all()
    order = study.genes.assign(number=study.genes["chromosome"].str[3:].astype(int)).sort_values(["number", "tss"])
    assert order.index.tolist() == list(range(100))
    assert len(study.donors) == len(set(study.donors)) == DONORS
    assert pd.Series(study.donors).str.fullmatch("GTEX-[A-Z0-9]{5}").all()


def test_covariates(study):
    blood, cortex, testis = (study.covariates[t] for t in ("Whole_Blood", "Brain_Cortex", "Testis"))
    factors = [name for name in blood.index if name.startswith("Inferred")]
    assert blood.index.tolist() == [*(f"PC{i}" for i in range(1, 6)), *factors, "pcr", "platform", "sex"]
    assert len(factors) == 45  # 320 samples
    assert cortex.index.str.startswith("Inferred").sum() == 15  # 98 samples
    assert set(blood.loc["sex"]) == {1.0, 2.0}
    assert "sex" not in testis.index
    both = blood.columns.intersection(cortex.columns)
    for name in ("PC1", "pcr", "platform", "sex"):
        np.testing.assert_array_equal(blood.loc[name, both], cortex.loc[name, both])
    woman = pd.read_csv(study.folder / "genotypes.fam", sep="\t", header=None, index_col=1)[4] == 2
    assert not woman[testis.columns].any()
    assert woman[study.covariates["Vagina"].columns].all()
    np.testing.assert_array_equal(woman[blood.columns], blood.loc["sex"] == 2.0)


def test_donors_of_one_brain_region_give_others():
    counts = cohort.sample_counts(list(TISSUES), 838)
    assert counts == {name: tissue.samples for name, tissue in TISSUES.items()}
    people = cohort.draw_cohort(counts, 838, np.random.default_rng(1))
    present = np.zeros((838, 49), dtype=bool)
    for t, rows in enumerate(people.rows.values()):
        present[rows, t] = True
    assert present.sum() == 15_201
    share = present.mean(axis=0)
    assert present.sum(axis=1).var() > 4 * (share * (1 - share)).sum()  # as if tissues were given independently
    brain = np.array([tissue.group == "Brain" for tissue in TISSUES.values()])
    together = np.corrcoef(present.T)
    within = together[np.ix_(brain, brain)][np.triu_indices(brain.sum(), 1)]
    assert within.min() > 0.15 > together[np.ix_(brain, ~brain)].mean()


def test_variants(study):
    bim, counts = study.bim, study.counts
    ids = bim["chromosome"] + "_" + bim["position"].astype(str) + "_" + bim["other"] + "_" + bim["counted"] + "_b38"
    assert bim["id"].tolist() == ids.tolist()
    assert bim["id"].is_unique
    assert set(bim["counted"]) == set(bim["other"]) == set("ACGT")
    assert (bim["counted"] != bim["other"]).all()
    assert set(np.unique(counts)) == {0.0, 1.0, 2.0}
    frequency = counts.mean(axis=0) / 2
    assert frequency.min() >= 0.01
    assert frequency.max() <= 0.99
    assert 0.2 < np.mean(np.minimum(frequency, 1 - frequency) < 0.05) < 0.6
    assert len(bim) == pytest.approx(500 * 36, rel=0.03)
    for _, chromosome in bim.groupby("chromosome"):
        assert chromosome["position"].is_monotonic_increasing
        assert chromosome["position"].min() >= 1


def test_linkage_decays(study):
    frequency = study.counts.mean(axis=0) / 2
    common = np.flatnonzero(np.minimum(frequency, 1 - frequency) >= 0.05)[::4]
    place, chromosome = (study.bim[name].to_numpy()[common] for name in ("position", "chromosome"))
    r2 = np.corrcoef(study.counts[:, common].T) ** 2
    apart = np.abs(np.subtract.outer(place, place)).astype(float)
    apart[chromosome[:, None] != chromosome] = np.inf
    edges = (0.0, 1e4, 5e4, 1e5, 2e5, 5e5)
    means = [r2[(apart > a) & (apart <= b)].mean() for a, b in pairwise(edges)]
    assert (np.diff(means) < 0).all()
    assert means[0] > 0.35
    assert means[-1] < 0.06
    independent = 1 / (DONORS - 1)
    assert independent < r2[(apart > 1.5e6) & (apart < np.inf)].mean() < 2 * independent
    assert r2[np.isinf(apart)].mean() == pytest.approx(independent, rel=0.1)


def test_truth_is_what_expression_was_made_of(study):
    """Least squares on causal SNPs and covariates finds every effect, within its standard error."""
    z, error, alike = [], [], 0
    for t in study.tissues:
        Y, C, rows = study.of(t)
        for g, gene, effects in study.egenes():
            D = np.column_stack([study.causal(gene)[rows], C])
            fitted, _, rank, _ = np.linalg.lstsq(D, Y[:, g])
            if rank < D.shape[1]:  # SNPs that differ only in donors of other tissues
                alike += 1
                continue
            p, df = len(effects), len(D) - rank
            error.append((np.sum((Y[:, g] - D @ fitted) ** 2) / gene.sigma2, df))
            cov = gene.sigma2 * np.linalg.inv(D.T @ D)[:p, :p]
            z.extend(np.linalg.solve(np.linalg.cholesky(cov), fitted[:p] - effects[t]))
    z, (chi2, df) = np.array(z), np.array(error).sum(axis=0)
    assert len(z) > 1000
    assert alike <= 3
    assert abs(z.mean()) < 4 / np.sqrt(len(z))
    assert abs(np.mean(z**2) - 1) < 4 * np.sqrt(2 / len(z))
    assert abs(chi2 / df - 1) < 4 * np.sqrt(2 / df)  # sigma2


def test_effects_have_the_slab_of_the_model(study):
    spread, share, df = 0.0, [], 0
    for g, gene, effects in study.egenes():
        X = study.causal(gene) - study.causal(gene).mean(axis=0)
        on = study.active.iloc[g][study.tissues].astype(bool)
        assert on.any()
        assert (effects[study.tissues].loc[:, ~on] == 0).all(axis=None)
        gamma = np.linalg.qr(X, mode="r") @ effects[study.tissues].loc[:, on].to_numpy()  # N(R beta, eta I)
        spread += np.sum((gamma - gamma.mean(axis=1, keepdims=True)) ** 2) / gene.eta
        df += len(gamma) * (gamma.shape[1] - 1)
        share.append(np.mean(np.sum(gamma**2, axis=0)) / len(X) / gene.heritability)
    assert abs(spread / df - 1) < 4 * np.sqrt(2 / df)
    assert abs(np.mean(share) - 1) < 4 * np.std(share) / np.sqrt(len(share))


def test_truth_tables(study):
    genes, active, effects = study.genes, study.active, study.effects
    assert genes["egene"].sum() == 82
    assert (genes["egene"] == active[TISSUES_USED].max(axis=1)).all()
    assert set(genes.loc[genes["egene"] == 0, "tau1"]) == {0.0}
    assert genes["causal"].isna().tolist() == (genes["egene"] == 0).tolist()
    joined = genes["causal"].dropna().str.split(";")
    assert joined.explode().tolist() == effects["variant"].tolist()
    assert joined.map(len).mean() == pytest.approx(2.0, abs=4 / np.sqrt(82))
    place = study.bim.set_index("id")
    tss = genes.set_index("gene")["tss"]
    distance = np.abs(place.loc[effects["variant"], "position"].to_numpy() - tss[effects["gene"]].to_numpy())
    assert distance.max() <= expression.CIS
    assert 30_000 < np.median(distance) < 150_000
    frequency = pd.Series(study.counts.mean(axis=0) / 2, study.ids)[effects["variant"]]
    assert np.minimum(frequency, 1 - frequency).min() >= 0.05
    variance = [table.iloc[:, 4:].to_numpy().var() for table in study.expression.values()]
    np.testing.assert_allclose(variance, 1.0, atol=0.1)


@pytest.mark.parametrize("rho", [0.0, 0.3])
def test_a_donors_errors_correlate_as_asked(tmp_path, rho):
    """In the files, less what the truth and the covariates explain."""
    simulate_study(
        tmp_path / "study",
        genes=60,
        donors=300,
        tissues=["Muscle_Skeletal", "Whole_Blood"],
        egenes=0.5,
        donor_correlation=rho,
        missing_genotypes=0.0,
        density=20,
        seed=4,
        progress=False,
    )
    study, errors, left = Study(tmp_path / "study"), [], []
    for t in study.tissues:
        Y, C, rows = study.of(t)
        Y = Y.copy()
        for g, gene, effects in study.egenes():
            Y[:, g] -= study.causal(gene)[rows] @ effects[t].to_numpy()
        M = np.eye(len(C)) - C @ np.linalg.pinv(C)
        errors.append((M @ Y, M, rows))
        left.append(np.sum((M @ Y) ** 2, axis=0) / np.trace(M) / study.genes["sigma2"])
    (a, M_a, rows_a), (b, M_b, rows_b) = errors
    P = (rows_a[:, None] == rows_b).astype(float)  # (sample, sample) whether of one donor
    # E(a'P b) = rho sigma2 tr(P' M_a P M_b): each tissue's covariates take some of what they share
    shared = np.sum((M_a @ P) * (P @ M_b))
    found = np.einsum("ig,ij,jg->g", a, P, b) / shared / study.genes["sigma2"]
    assert abs(found.mean() - rho) < 4 * found.std() / np.sqrt(len(found))
    assert found.std() / np.sqrt(len(found)) < 0.02
    assert np.mean(left) == pytest.approx(1.0, abs=4 * np.std(left) / np.sqrt(np.size(left)))


def test_formats_agree_and_some_genotypes_are_missing(tmp_path):
    share = {"genes": 10, "donors": 402, "tissues": ["Lung"], "missing_genotypes": 0.02, "density": 100, "seed": 5}
    for kind in formats.FORMATS:
        simulate_study(tmp_path / kind, formats=kind, progress=False, **share)
    study = Study(tmp_path / "bed")
    gone = np.isnan(study.counts)
    assert abs(gone.mean() - 0.02) < 4 * np.sqrt(0.02 / gone.size)

    pgenlib = pytest.importorskip("pgenlib")
    counts = np.empty(study.counts.T.shape, dtype=np.int8)
    with pgenlib.PgenReader(str(tmp_path / "pgen" / "genotypes.pgen").encode()) as reader:
        reader.read_range(0, len(counts), counts)
    np.testing.assert_array_equal(np.where(counts == -9, np.nan, counts), study.counts.T)
    pvar = pd.read_csv(tmp_path / "pgen" / "genotypes.pvar", sep="\t")
    assert pvar.columns.tolist() == ["#CHROM", "POS", "ID", "REF", "ALT"]
    np.testing.assert_array_equal(pvar, study.bim[["chromosome", "position", "id", "other", "counted"]])
    psam = pd.read_csv(tmp_path / "pgen" / "genotypes.psam", sep="\t")
    assert psam["#IID"].tolist() == study.donors.tolist()

    cyvcf2 = pytest.importorskip("cyvcf2")
    reader = cyvcf2.VCF(str(tmp_path / "vcf" / "genotypes.vcf.gz"), gts012=True)
    assert reader.samples == study.donors.tolist()
    for row, variant in zip(study.bim.itertuples(), reader, strict=True):
        assert (variant.CHROM, variant.POS, variant.ID) == (row.chromosome, row.position, row.id)
        assert (variant.REF, variant.ALT) == (row.other, [row.counted])
        calls = np.where(variant.gt_types == 3, np.nan, variant.gt_types)
        np.testing.assert_array_equal(calls, study.counts[:, row.Index])
    same = [path.relative_to(tmp_path / "bed") for path in (tmp_path / "bed").glob("expression/*")]
    assert [(tmp_path / "vcf" / path).read_bytes() for path in same] == [
        (tmp_path / "bed" / path).read_bytes() for path in same
    ]


@pytest.mark.parametrize("backend", ["threading", pytest.param("loky", marks=pytest.mark.statistical)])
def test_the_same_seed_gives_the_same_files_whatever_runs_beside_it(tmp_path, backend):
    def files(name, **more):
        simulate_study(tmp_path / name, genes=70, donors=150, tissues=["Lung"], density=50, progress=False, **more)
        folder = tmp_path / name
        return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    first = files("first", seed=8)
    with joblib.parallel_config(backend=backend):
        assert files("two", seed=8, jobs=2, relatedness=0.0) == first
    other = files("other", seed=9)
    assert all(other[path] != data for path, data in first.items() if path.name != "study.toml")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"genes": 0}, "1 <= genes <= 30000, got 0"),
        ({"donors": 100}, r"at least 20 samples in a tissue, got 9 in Kidney_Cortex with 100 donors"),
        ({"tissues": ["Lung", "Elbow"]}, r"tissues of GTEx v8, got 'Elbow'"),
        ({"tissues": ["Lung", "Lung"]}, r"each tissue once"),
        ({"tissues": []}, r"at least one tissue, got none"),
        ({"egenes": 1.5}, "0 <= egenes <= 1, got 1.5"),
        ({"donor_correlation": -0.1}, "0 <= donor_correlation <= 1, got -0.1"),
        ({"relatedness": 1.1}, "0 <= relatedness <= 1, got 1.1"),
        ({"missing_genotypes": 1.0}, "missing_genotypes < 1, got 1.0"),
        ({"tau1": (0.0, 1.0)}, "tau1 a, b > 0"),
        ({"sharing": (1.0,)}, "sharing a, b > 0"),
        ({"heritability": 0.0}, "0 < heritability < 1"),
        ({"causal": -1.0}, "causal >= 0"),
        ({"causal_maf": 0.5}, "0 <= causal_maf < 0.5"),
        ({"density": 0.0}, "0 < density <= 2000"),
        ({"formats": "bgen"}, "one of bed, pgen, vcf, got 'bgen'"),
        ({"seed": -1}, "seed >= 0, got -1"),
    ],
)
def test_arguments_out_of_range_are_refused(tmp_path, arguments, message):
    with pytest.raises(InputError, match=message):
        simulate_study(tmp_path / "study", progress=False, **arguments)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_exists_is_left_alone(tmp_path):
    (tmp_path / "mine").write_text("precious")
    with pytest.raises(InputError, match="a new folder, got one that exists"):
        simulate_study(tmp_path, genes=2, donors=100, tissues=["Lung"], progress=False)
    with pytest.raises(InputError, match="an existing folder, got no folder"):
        simulate_study(tmp_path / "no" / "study", genes=2, donors=100, tissues=["Lung"], progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_failure_leaves_nothing(tmp_path, monkeypatch):
    def fail(*_):
        raise RuntimeError("the cable")

    monkeypatch.setattr(simulation, "simulate_chunk", fail)
    with pytest.raises(RuntimeError, match="the cable"):
        simulate_study(tmp_path / "study", genes=2, donors=100, tissues=["Lung"], progress=False)
    assert not list(tmp_path.iterdir())


def test_genes_without_variants_have_no_effects(tmp_path):
    simulate_study(
        tmp_path / "study", genes=20, donors=150, tissues=["Lung"], egenes=1.0, density=0.3, seed=2, progress=False
    )
    study = Study(tmp_path / "study")
    frequency = study.counts.mean(axis=0) / 2
    assert 0 < len(frequency) <= 4
    common = study.bim[np.minimum(frequency, 1 - frequency) >= 0.05]
    near = [
        bool(((common["chromosome"] == gene.chromosome) & ((common["position"] - gene.tss).abs() <= 1e6)).any())
        for gene in study.genes.itertuples()
    ]
    assert study.genes["egene"].astype(bool).tolist() == near
    assert False in near
    with pytest.raises(InputError, match=r"at least one variant, got none at 0.01 a Mb"):
        simulate_study(tmp_path / "none", genes=2, donors=150, tissues=["Lung"], density=0.01, progress=False)


@pytest.mark.parametrize("tau1", [1e-9, 0.02, 0.3, 1.0])
def test_active_tissues_are_bernoulli_given_that_there_is_one(tau1):
    rng, m, draws = np.random.default_rng(4), 5, 4000
    active = np.array([expression._draw_active(tau1, m, rng) for _ in range(draws)])
    assert active.any(axis=1).all()
    expected = tau1 / -np.expm1(m * np.log1p(-min(tau1, 1 - 1e-15)))  # P(I(t)=1 | some)
    error = np.sqrt(expected * (1 - expected) / draws) + 1e-12
    assert (np.abs(active.mean(axis=0) - expected) < 4.5 * error).all()


def test_unrelated_tissues_take_the_random_numbers_they_always_took():
    """One uniform number a tissue: what is drawn after them for a seed does not depend on what else could be asked."""
    rng, other = np.random.default_rng(3), np.random.default_rng(3)
    u = other.random(6)
    active = expression._draw_active(0.3, 6, rng)
    assert rng.bit_generator.state == other.bit_generator.state
    some = np.flatnonzero(active)[0]
    assert active[some + 1 :].tolist() == (u[some + 1 :] < 0.3).tolist()


RELATIVES = ["Artery_Aorta", "Artery_Tibial", "Brain_Amygdala", "Brain_Cortex", "Brain_Cerebellum", "Lung"]


@pytest.mark.parametrize(("tau1", "relatedness"), [(0.3, 0.6), (0.8, 0.9), (1e-12, 0.5), (0.4, 1e-9)])
def test_related_tissues_are_active_together_and_as_often(tau1, relatedness):
    """Against the normal distribution: P(I(t)=1 | some) = tau1 / P(some), and so for pairs."""
    rng, draws = np.random.default_rng(4), 8000
    A = expression._causes(RELATIVES, relatedness)
    active = np.array([expression._draw_related(tau1, A, rng) for _ in range(draws)])
    assert active.any(axis=1).all()
    group = np.array([TISSUES[name].group for name in RELATIVES])
    S = np.where(group[:, None] == group, relatedness, relatedness / 2)
    np.fill_diagonal(S, 1.0)
    np.testing.assert_allclose(A @ A.T, S, atol=1e-15)
    below = stats.norm.ppf(tau1)
    some = 1 - _chance_of_none(tau1, A) if tau1 > 1e-6 else 6 * tau1
    expected = np.full((6, 6), tau1)
    for i, j in zip(*np.triu_indices(6, 1), strict=True):
        expected[i, j] = stats.multivariate_normal(cov=S[np.ix_([i, j], [i, j])]).cdf([below, below])
    expected = np.triu(expected) / some
    found = np.triu(active.T.astype(float) @ active / draws)
    assert (np.abs(found - expected) < 4.5 * np.sqrt(expected * (1 - expected) / draws) + 1e-3).all()


GRID = np.linspace(0.02, 0.98, 17)


def _chance_of_none(tau1, A):
    below = stats.norm.ppf(tau1)
    return stats.multivariate_normal(cov=A @ A.T, seed=1).cdf(np.full(len(A), -below))


def test_relatives_in_a_study(tmp_path):
    """Tissues of a group agree more than others; donors, genotypes, covariates and genes stay what they were."""
    folders = {0.0: tmp_path / "model", 0.8: tmp_path / "related"}
    for relatedness, folder in folders.items():
        simulate_study(folder, genes=300, donors=180, tissues=RELATIVES, tau1=(4.0, 4.0), density=20,
                       relatedness=relatedness, egenes=1.0, progress=False)  # fmt: skip
    model, related = map(Study, folders.values())
    same = "genotypes.bed", "covariates/Lung.v8.covariates.txt"
    assert all((model.folder / path).read_bytes() == (related.folder / path).read_bytes() for path in same)
    assert model.genes[["gene", "tss"]].equals(related.genes[["gene", "tss"]])
    assert json.loads((related.folder / "truth" / "settings.json").read_text())["relatedness"] == 0.8
    group = np.array([TISSUES[name].group for name in RELATIVES])
    pairs = np.triu(np.ones((6, 6), dtype=bool), 1)
    near = group[:, None] == group
    gap = {}
    for study, relatedness in ((model, 0.0), (related, 0.8)):
        I, tau1 = study.active[RELATIVES].to_numpy(dtype=bool), study.genes["tau1"].to_numpy()
        agree = np.array([[np.mean(a == b) for a in I.T] for b in I.T])
        gap[relatedness] = agree[pairs & near].mean() - agree[pairs & ~near].mean()
        A = expression._causes(RELATIVES, relatedness)
        # P(I(t)=1 | some) = tau1 / P(some)
        expected = tau1 / np.interp(tau1, GRID, [1 - _chance_of_none(x, A) for x in GRID])
        error = np.sqrt(np.sum(expected * (1 - expected))) / 300
        assert (np.abs(I.mean(axis=0) - expected.mean()) < 4 * error).all()
    assert abs(gap[0.0]) < 0.05
    assert 0.1 < gap[0.8] < 0.3


@pytest.mark.parametrize("samples", [1, 4, 7, 838])
def test_packed_genotypes(samples):
    counts = np.random.default_rng(1).choice(np.array([0, 1, 2, packing.MISSING], dtype=np.int8), (9, samples))
    packed = packing.pack(counts)
    assert packed.shape == (9, -(-samples // 4))
    np.testing.assert_array_equal(packing.unpack(packed, samples), counts)


def test_decimals():
    rng = np.random.default_rng(2)
    values = rng.standard_normal((30, 40)) * 10.0 ** rng.integers(-6, 7, (30, 40))
    values[0, :6] = 0.0, -1e-9, 1.0, -0.0625, 99_999_999.0, -9.99996
    for row, line in zip(values, packing.decimals(values), strict=True):
        cells = line.decode().split("\t")
        assert cells[0] == ""
        for value, cell in zip(row, cells[1:], strict=True):
            assert len(cell.split(".")[1]) == 4
            assert abs(float(cell) - value) <= 0.5001e-4
    assert packing.decimals(values[:1, :6])[0] == b"\t0.0000\t0.0000\t1.0000\t-0.0625\t99999999.0000\t-10.0000"


def test_blocked_gzip():
    text = np.random.default_rng(3).integers(0, 256, 200_000, dtype=np.uint8).tobytes() + bytes(100_000)
    for repeats in (True, False):
        data = packing.bgzf(text, repeats=repeats) + packing.bgzf(b"more") + packing.END
        assert gzip.decompress(data) == text + b"more"
    assert gzip.decompress(packing.bgzf(b"") + packing.END) == b""


def test_tabix_reads_expression(study, tmp_path):
    pysam = pytest.importorskip("pysam")
    copy = tmp_path / "lung.bed.gz"
    copy.write_bytes((study.folder / "expression" / "Lung.v8.normalized_expression.bed.gz").read_bytes())
    pysam.tabix_index(str(copy), preset="bed")
    gene = study.genes.iloc[57]
    with pysam.TabixFile(str(copy)) as file:
        lines = list(file.fetch(gene.chromosome, gene.tss - 1, gene.tss))
    assert [line.split("\t")[3] for line in lines] == [gene.gene]


def test_genome_follows_the_number_of_genes():
    whole = genotypes.genome(8066)
    assert [contig.name for contig in whole] == [f"chr{i}" for i in range(1, 23)]
    assert sum(contig.length for contig in whole) == pytest.approx(8066 * 0.36e6, abs=22)
    assert genotypes.genome(1) == [genotypes.Contig("chr1", 2_500_000)]
    for genes in (10, 40, 200, 400):
        contigs = genotypes.genome(genes)
        assert sum(contig.length for contig in contigs) == pytest.approx(genes * 0.36e6, abs=22)
        assert min(contig.length for contig in contigs) >= 2_500_000
        assert 1 <= len(contigs) <= 22
