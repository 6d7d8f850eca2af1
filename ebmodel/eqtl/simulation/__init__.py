"""A study in the shape of GTEx's, simulated: the files that a study has, with the truth beside them.

    expression/{tissue}.v8.normalized_expression.bed.gz   a gene a line: chromosome, start, end (the transcription start
                                                          site, TSS), name, and a value a donor
    covariates/{tissue}.v8.covariates.txt                 a covariate a line: components, inferred factors, pcr,
                                                          platform, sex
    genotypes.bed (.bim, .fam), or .pgen                  the alternative allele is counted
    (.pvar, .psam), or .vcf.gz
    study.toml                                            where all this is, for an analysis
    truth/genes.tsv.gz                                    gene, chromosome, tss, egene, causal, tau1, eta, sigma2,
                                                          heritability
    truth/active.tsv.gz                                   gene x tissue: I(t)
    truth/effects.tsv.gz                                  gene, variant, and by tissue the effect of a copy of the
                                                          alternative allele; causal variants alone
    truth/settings.json                                   every argument

Names, sample counts and covariates are those of GTEx v8; donors, genotypes and effects are simulated: `cohort` says who
gave which tissue, `genotypes` where LD comes from, `expression` the model. The same seed gives the same files, whatever
the number of processes.

Headers, names and the order of lines are those of GTEx's files. What GTEx has and these files have not: genes expressed
in some tissues only, genes close together, chromosome X, insertions and deletions, phase, and values that are normal
scores with all their digits (here, four decimal places).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd

from ebmodel.eqtl.simulation.cohort import Cohort, draw_cohort, sample_counts
from ebmodel.eqtl.simulation.expression import CIS, Gene, Law, Piece, Sampled, Truth, simulate_chunk
from ebmodel.eqtl.simulation.formats import FORMATS, write_genotypes
from ebmodel.eqtl.simulation.genotypes import Contig, Packed, genome, simulate_genotypes
from ebmodel.eqtl.simulation.packing import END, bgzf
from ebmodel.eqtl.tissues import TISSUES
from ebmodel.errors import expect
from ebmodel.files import writing
from ebmodel.model import Array
from ebmodel.parallel import spread

__all__ = ["simulate_study"]

AT_ONCE = 64
"""Genes a task."""
MOST_GENES = 30_000
EXPRESSION = "expression/{tissue}.v8.normalized_expression.bed.gz"
COVARIATES = "covariates/{tissue}.v8.covariates.txt"
WHERE = "the simulation of a study"


def simulate_study(
    out: str | Path,
    *,
    genes: int = 8066,
    donors: int = 838,
    tissues: Sequence[str] | None = None,
    egenes: float = 0.845,
    tau1: tuple[float, float] = (0.8, 0.5),
    heritability: float = 0.05,
    sharing: tuple[float, float] = (3.0, 1.0),
    causal: float = 1.0,
    causal_maf: float = 0.05,
    donor_correlation: float = 0.0,
    relatedness: float = 0.0,
    density: float = 500.0,
    missing_genotypes: float = 0.002,
    formats: str = "bed",
    seed: int = 1,
    jobs: int = 1,
    progress: bool = True,
) -> None:
    """Simulate a study and write its files to a new folder, whole or not at all.

    Needs msprime: ``pip install "ebmodel[genotypes]"``.

    Parameters
    ----------
    out
        The folder; it must not exist.
    genes, donors
        How many. A gene has 0.36 Mb of genome.
    tissues
        GTEx's names; all 49 where not given. Each has GTEx's samples, scaled by ``donors`` / 838.
    egenes
        Share of genes with an effect in at least one tissue.
    tau1
        Beta distribution of tau1 over these genes. By default many are near 1, a good many near 0.
    heritability
        Share of a gene's variance in an active tissue that its SNPs explain: the median over genes, log-normal with sd
        0.9 of the logarithm, and at most 0.4.
    sharing
        Beta distribution of ||gamma||^2 / (||gamma||^2 + eta p): 1 if an effect is the same in all active tissues.
    causal, causal_maf
        A gene has 1 + Poisson(``causal``) causal SNPs with at least this minor allele frequency, most of them within
        some 100 kb of the TSS.
    donor_correlation
        Correlation of a donor's errors over tissues; the model has none.
    relatedness
        How far tissues of a group (brain, arteries, skin, ...) are active for the same genes: the correlation of their
        probits, which is half as large between groups. 0, the model's, for tissues that are active independently.
    density
        Variants a Mb, of minor allele frequency >= 1 %.
    missing_genotypes
        Share of genotypes missing at random.
    formats
        Of the genotypes: ``"bed"``, ``"pgen"`` or ``"vcf"``.
    seed
        Of the random numbers.
    jobs, progress
        Processes, and whether to show how far they are; see `ebmodel.parallel.spread`.

    Raises
    ------
    InputError
        If an argument is out of its range, a tissue is unknown or would have fewer than 20 samples, ``out`` exists or
        cannot be written, or a package is not installed.
    """
    arguments = {name: value for name, value in locals().items() if name not in {"out", "jobs", "progress"}}
    arguments["tissues"] = list(TISSUES if tissues is None else tissues)
    law = Law(tau1, heritability, sharing, causal, causal_maf, donor_correlation, relatedness)
    _check(genes, egenes, law, density, missing_genotypes, formats, seed)
    counts = sample_counts(arguments["tissues"], donors)
    out = Path(out)
    expect(not out.exists(), "a new folder", "one that exists", str(out), "choose another name, or remove it")
    people, ancestry, missing, layout, expression = np.random.SeedSequence(seed).spawn(5)
    with writing(out) as folder:
        for name in ("expression", "covariates", "truth"):
            (folder / name).mkdir(parents=True)
        cohort = draw_cohort(counts, donors, np.random.default_rng(people))
        contigs, scratch = genome(genes), folder / "packed"
        variants = simulate_genotypes(
            scratch, contigs, donors=donors, density=density, seed=ancestry, jobs=jobs, progress=progress
        )
        do = "ask for more genes or a higher density"
        expect(len(variants) > 0, "at least one variant", f"none at {density:g} a Mb", WHERE, do)
        packed = Packed(scratch, len(variants), donors)
        rng = np.random.default_rng(missing)
        write_genotypes(folder, formats, packed, variants, cohort, missing=missing_genotypes, rng=rng)
        table = _place_genes(genes, egenes, contigs, variants, np.random.default_rng(layout))
        truths = _write_expression(folder, table, variants, packed, cohort, law, expression, jobs, progress)
        _write_truth(folder / "truth", table, truths, variants, list(counts))
        scratch.unlink()
        settings = {**arguments, "versions": {name: version(name) for name in ("ebmodel", "msprime", "numpy")}}
        (folder / "truth" / "settings.json").write_text(json.dumps(settings, indent=1) + "\n")
        (folder / "study.toml").write_text(_study(formats))


def _check(genes: int, egenes: float, law: Law, density: float, missing: float, formats: str, seed: int) -> None:
    expect(1 <= genes <= MOST_GENES, f"1 <= genes <= {MOST_GENES}", genes, WHERE, "give a number of genes")
    expect(seed >= 0, "seed >= 0", seed, WHERE, "give another")
    shares = {"egenes": egenes, "missing_genotypes": missing}
    shares |= {name: getattr(law, name) for name in ("donor_correlation", "relatedness")}
    for name, share in shares.items():
        expect(0.0 <= share <= 1.0, f"0 <= {name} <= 1", share, WHERE, "give a share")
    expect(missing < 1.0, "missing_genotypes < 1", missing, WHERE, "leave some")
    for name, pair in (("tau1", law.tau1), ("sharing", law.sharing)):
        expect(len(pair) == 2 and min(pair) > 0.0, f"{name} a, b > 0 of a Beta distribution", pair, WHERE, "give two")
    expect(0.0 < law.heritability < 1.0, "0 < heritability < 1", law.heritability, WHERE, "give a share of variance")
    expect(law.causal >= 0.0, "causal >= 0", law.causal, WHERE, "give the mean number of SNPs beyond the first")
    expect(0.0 <= law.causal_maf < 0.5, "0 <= causal_maf < 0.5", law.causal_maf, WHERE, "give an allele frequency")
    expect(0.0 < density <= 2000.0, "0 < density <= 2000", density, WHERE, "give variants a Mb")
    expect(formats in FORMATS, f"one of {', '.join(FORMATS)}", repr(formats), WHERE, "choose one for the genotypes")


def _place_genes(
    genes: int, egenes: float, contigs: Sequence[Contig], variants: pd.DataFrame, rng: np.random.Generator
) -> pd.DataFrame:
    """Names, places, eGenes, and of each gene's cis window the first variant and the one after the last."""
    ends = np.cumsum([contig.length for contig in contigs])
    place = ((np.arange(genes) + rng.random(genes)) * ends[-1] / genes).astype(int)
    contig = np.searchsorted(ends, place, side="right")
    tss = place - np.append(0, ends)[contig] + 1
    # on the line along which chromosomes follow each other, with gaps wider than a window
    gap = 2 * CIS + np.arange(len(ends)) * (int(ends[-1]) + 4 * CIS)
    number = {contig.name: i for i, contig in enumerate(contigs)}
    variant = variants["position"].to_numpy() + gap[[number[name] for name in variants["chromosome"]]]
    names = zip(rng.choice(10 * MOST_GENES, genes, replace=False), rng.integers(1, 20, genes), strict=True)
    columns = {
        "gene": [f"ENSG{name:011d}.{edition}" for name, edition in names],
        "chromosome": [contigs[c].name for c in contig],
        "tss": tss,
        "egene": rng.permutation(genes) < round(egenes * genes),
        "first": np.searchsorted(variant, tss + gap[contig] - CIS),
        "last": np.searchsorted(variant, tss + gap[contig] + CIS, side="right"),
    }
    return pd.DataFrame(columns)


def _write_expression(
    folder: Path,
    table: pd.DataFrame,
    variants: pd.DataFrame,
    packed: Packed,
    cohort: Cohort,
    law: Law,
    seed: np.random.SeedSequence,
    jobs: int,
    progress: bool,
) -> list[Truth]:
    """Write expression and covariates of every tissue, and give the truth, a gene each."""
    paths = {tissue: folder / EXPRESSION.format(tissue=tissue) for tissue in cohort.rows}
    for tissue, rows in cohort.rows.items():
        header = "\t".join(["#chr", "start", "end", "gene_id", *cohort.donors[rows]])
        paths[tissue].write_bytes(bgzf(f"{header}\n".encode()))
        cohort.covariates[tissue].to_csv(folder / COVARIATES.format(tissue=tissue), sep="\t", float_format="%.6g")
    sampled = Sampled(cohort.rows, {name: _scaled(C) for name, C in cohort.covariates.items()})
    pieces = [_piece(table.iloc[a : a + AT_ONCE], variants) for a in range(0, len(table), AT_ONCE)]
    seeds = seed.spawn(len(pieces))
    tasks = [(piece, packed, sampled, law, child) for piece, child in zip(pieces, seeds, strict=True)]
    truths: list[Truth] = []
    for found, lines in spread(simulate_chunk, tasks, jobs=jobs, title="expression", progress=progress):
        truths.extend(found)
        for tissue, text in lines.items():
            with paths[tissue].open("ab") as file:
                file.write(text)
    for path in paths.values():
        with path.open("ab") as file:
            file.write(END)
    return truths


def _scaled(covariates: pd.DataFrame) -> Array:
    """(sample, covariate) with mean 0 and sd 1, those that vary."""
    C = covariates.to_numpy(dtype=float).T
    C = C[:, C.std(axis=0) > 0.0]
    return np.asarray((C - C.mean(axis=0)) / C.std(axis=0))


def _piece(genes: pd.DataFrame, variants: pd.DataFrame) -> Piece:
    first, last = int(genes["first"].min()), int(genes["last"].max())
    here, named = variants.iloc[first:last], [Gene(*row) for row in genes.itertuples(index=False, name=None)]
    return Piece(named, first, here["position"].to_numpy(), here["frequency"].to_numpy())


def _write_truth(
    folder: Path, table: pd.DataFrame, truths: Sequence[Truth], variants: pd.DataFrame, tissues: Sequence[str]
) -> None:
    ids = variants["id"].to_numpy()
    genes = table[["gene", "chromosome", "tss"]].assign(
        egene=[int(truth.active.any()) for truth in truths],
        causal=[";".join(ids[truth.causal]) for truth in truths],
        **{name: [getattr(truth, name) for truth in truths] for name in ("tau1", "eta", "sigma2", "heritability")},
    )
    active = pd.DataFrame(np.array([truth.active for truth in truths]).astype(int), columns=list(tissues))
    active.insert(0, "gene", table["gene"])
    effects = pd.DataFrame(np.concatenate([truth.effects.T for truth in truths]), columns=list(tissues))
    effects.insert(0, "gene", np.repeat(table["gene"].to_numpy(), [len(truth.causal) for truth in truths]))
    effects.insert(1, "variant", ids[np.concatenate([truth.causal for truth in truths])])
    for name, frame in {"genes": genes, "active": active, "effects": effects}.items():
        text = frame.to_csv(sep="\t", index=False, float_format="%.8g").encode()
        (folder / f"{name}.tsv.gz").write_bytes(bgzf(text) + END)


def _study(formats: str) -> str:
    return "\n".join(
        [
            "# PLINK .bed or .pgen, VCF or BCF",
            f'genotypes = "{FORMATS[formats]}"',
            "# one file a tissue: genes in lines, samples in columns",
            f'expression = "{EXPRESSION}"',
            "# one file a tissue: covariates in lines, samples in columns",
            f'covariates = "{COVARIATES}"',
            "# where results go",
            'out = "results"',
            "",
        ]
    )
