"""``ebmodel gtex``: a multi-tissue study from files to figures, simulated studies, and exports."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ebmodel.cli import options as o
from ebmodel.cli.commands import Command, Group
from ebmodel.cli.inputs import split_names
from ebmodel.cli.output import Output, cell, check_folder, folder

if TYPE_CHECKING:
    import xarray as xr
    from rich.table import Table

    from ebmodel.eqtl.report import Report

app = typer.Typer(
    cls=Group,
    no_args_is_help=True,
    rich_markup_mode=None,
    short_help="Run a study of many genes: the paper's Section 7, on GTEx's files.",
    help="""
    A multi-tissue eQTL study, genome-wide: the paper's Section 7 on GTEx's files, or on files like them.

    To try it on a simulated study:

        ebmodel gtex simulate --out study --genes 200
        ebmodel gtex run --config study/study.toml --truth study
    """,
)

FAILURES = 20
"""Genes that failed and are named; the others are counted."""
INFLATED = 2.0
"""Variance of Stouffer's Z that deserves a word: strong effects that tissues share make some of it too."""
Results = Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of a run's results.")]
Truth = Annotated[
    Path | None, typer.Option(metavar="FOLDER", help="A simulated study, or its truth: adds accuracy against it.")
]


@app.command(cls=Command)
def run(
    config: Annotated[Path, typer.Option(metavar="FILE", help="The study's TOML file: paths and choices.")],
    truth: Truth = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Begin anew, whatever the folder holds.", rich_help_panel=o.COMPUTATION)
    ] = False,
    jobs: o.Jobs = -1,
    cluster: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="A Dask scheduler to run on, as tcp://host:8786; it must see the files.",
            rich_help_panel=o.COMPUTATION,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Where results go; as in the file if not given.", rich_help_panel=o.OUTPUT),
    ] = None,
    figures: o.Figures = True,
    quiet: o.Quiet = False,
    as_json: o.AsJson = False,
) -> None:
    """Run a study: choose SNPs, fit every gene, cross-validate, draw.

    Draws the paper's Figures 1-4. A run that was stopped goes on where it was. A gene that cannot be analysed is
    reported and the others go on. The folder gets results.zarr, genes.tsv.gz, egenes.tsv.gz, gains.tsv, dropped.tsv and
    figures.

        ebmodel gtex run --config study/study.toml --truth study
    """
    from ebmodel.eqtl.discoveries import read_truth
    from ebmodel.eqtl.report import write_report
    from ebmodel.eqtl.run import run_study
    from ebmodel.eqtl.settings import read_settings
    from ebmodel.eqtl.store import note
    from ebmodel.parallel import on_cluster

    output = Output(quiet=quiet, as_json=as_json)
    settings = read_settings(config, out=out)
    check_folder(settings.out)
    if truth is not None:
        read_truth(truth)  # before the work
    with on_cluster(cluster, "--cluster"):
        results = run_study(settings, jobs=jobs, progress=output.talks, fresh=fresh)
    began = time.perf_counter()
    with folder(settings.out) as (inside, places), output.status("Writing tables and figures ..."):
        report = write_report(results, inside, fdr=settings.fdr, truth=truth, figures=figures)
        files = places(report.files)
    seconds = json.loads(results.attrs["seconds"]) | {"figures": round(time.perf_counter() - began, 1)}
    results.attrs["seconds"] = json.dumps(seconds)
    note(settings.out / "results.zarr", seconds=results.attrs["seconds"])
    _report(results, report, [settings.out / "results.zarr", settings.out / "dropped.tsv", *files], output)


@app.command(cls=Command)
def report(
    results: Results,
    truth: Truth = None,
    fdr: Annotated[
        float | None,
        typer.Option(metavar="RATE", help="Bayesian false discovery rate of the calls; the run's if not given."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Where tables and figures go; the folder of the results if not given.",
            rich_help_panel=o.OUTPUT,
        ),
    ] = None,
    figures: o.Figures = True,
    quiet: o.Quiet = False,
    as_json: o.AsJson = False,
) -> None:
    """Write a finished run's tables and figures again.

    At another rate, or against a simulated truth.

        ebmodel gtex report study/results --truth study --fdr 0.01
    """
    from ebmodel.eqtl.report import write_report
    from ebmodel.eqtl.store import open_results

    output, found = Output(quiet=quiet, as_json=as_json), open_results(results)
    place = out or (results.parent if results.suffix == ".zarr" else results)
    rate = float(found.attrs["fdr"]) if fdr is None else fdr
    with folder(place) as (inside, places), output.status("Writing tables and figures ..."):
        written = write_report(found, inside, fdr=rate, truth=truth, figures=figures)
        files = places(written.files)
    _report(found, written, files, output)


@app.command(cls=Command)
def export(
    results: Results,
    out: Annotated[
        Path,
        typer.Option(
            metavar="FOLDER|FILE", help="Folder of the databases, or a .tsv.gz table.", rich_help_panel=o.OUTPUT
        ),
    ],
    estimator: Annotated[
        str,
        typer.Option(metavar="NAME", help="Whose effects: paper or generalised.", autocompletion=o.words(o.ESTIMATORS)),
    ] = "paper",
    tissues: Annotated[
        str | None, typer.Option(metavar="NAMES", help="Tissues, separated by commas; all if not given.")
    ] = None,
    probability: Annotated[
        float, typer.Option(metavar="P", min=0.0, max=1.0, help="Least P(I=1) of a gene that is written.")
    ] = 0.0,
    quiet: o.Quiet = False,
    as_json: o.AsJson = False,
) -> None:
    """Write effects for PrediXcan and S-PrediXcan, or as one table.

    A folder gets PredictDB databases, one a tissue.

        ebmodel gtex export study/results --out predictdb --probability 0.5
        ebmodel gtex export study/results --out effects.tsv.gz
    """
    from ebmodel.eqtl.export import export_predictdb, export_table
    from ebmodel.eqtl.store import open_results

    output, found = Output(quiet=quiet, as_json=as_json), open_results(results)
    names = None if tissues is None else split_names(tissues)
    if out.name.endswith((".tsv", ".tsv.gz")):
        files = [export_table(found, out, estimator, names)]
    else:
        check_folder(out)
        files = export_predictdb(found, out, estimator, names, probability)
    every = found["tissue"].to_numpy() if names is None else names
    output.report({"estimator": estimator, "tissues": every, "probability": probability}, lambda _: None, files=files)


@app.command(cls=Command)
def simulate(
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="A new folder for the study.", rich_help_panel=o.OUTPUT)],
    genes: Annotated[int, typer.Option(metavar="N", min=1, help="Genes; GTEx has 8,066 in all tissues.")] = 8066,
    donors: Annotated[int, typer.Option(metavar="N", min=20, help="Donors; tissues' samples are scaled alike.")] = 838,
    tissues: Annotated[
        str | None, typer.Option(metavar="NAMES", help="GTEx's names, separated by commas; all 49 if not given.")
    ] = None,
    donor_correlation: Annotated[
        float,
        typer.Option(metavar="RHO", min=0.0, max=0.99, help="Correlation of a donor's errors; the model has none."),
    ] = 0.0,
    relatedness: Annotated[
        float,
        typer.Option(
            metavar="R",
            min=0.0,
            max=1.0,
            help="How far related tissues are active for the same genes; in the model they are not.",
        ),
    ] = 0.0,
    formats: Annotated[
        str,
        typer.Option(
            "--format", metavar="KIND", help="Genotypes as bed, pgen or vcf.", autocompletion=o.words(o.FORMATS)
        ),
    ] = "bed",
    seed: o.Seed = 1,
    jobs: o.Jobs = -1,
    quiet: o.Quiet = False,
    as_json: o.AsJson = False,
) -> None:
    """Simulate a study in GTEx's formats, the truth beside it.

    The folder gets a study.toml to run it with.

        ebmodel gtex simulate --out study --genes 200
    """
    from ebmodel.eqtl.simulation import simulate_study

    output = Output(quiet=quiet, as_json=as_json)
    names = None if tissues is None else split_names(tissues)
    simulate_study(out, genes=genes, donors=donors, tissues=names, donor_correlation=donor_correlation,
                   relatedness=relatedness, formats=formats, seed=seed, jobs=jobs, progress=output.talks)  # fmt: skip
    settings = json.loads((out / "truth" / "settings.json").read_text(encoding="utf-8"))
    output.report(settings, lambda _: None, files=[out])
    if formats == "vcf":
        output.say(f"Index it: bcftools index {out / 'genotypes.vcf.gz'}", unbroken=True)
    output.say(f"Run it: ebmodel gtex run --config {out / 'study.toml'} --truth {out}", unbroken=True)


def _report(results: xr.Dataset, report: Report, files: list[Path], output: Output) -> None:
    """Say what became of the genes, what was called, gained, and how true it is."""
    from ebmodel.eqtl.report import failures

    failed = failures(results)
    notes = [f"gene {text}" for text in failed[:FAILURES]]
    if len(failed) > FAILURES:
        notes.append(f"{len(failed) - FAILURES} more genes failed: genes.tsv.gz has their messages")
    summary = _summary(results, report) | {"failed": failed}
    output.report(summary, lambda found: _show(found, output), notes + _cautions(results), files)


def _show(summary: dict[str, Any], output: Output) -> None:
    genes = ", ".join(f"{count} {status}" for status, count in summary["genes"].items())
    output.say(f"{sum(summary['genes'].values())} genes: {genes}.")
    if "calls" in summary:
        calls = summary["calls"]
        output.say(f"{calls['egenes']} genes called active in at least one tissue, {calls['pairs']} pairs of gene and "
                   f"tissue, at a Bayesian FDR of {calls['fdr']:g}.")  # fmt: skip
    if "gains" in summary:
        output.show(_gains_table(summary["gains"]))
    if "accuracy" in summary:
        output.show(_accuracy_table(summary["accuracy"]))
    if "seconds" in summary:
        stages = ", ".join(f"{name} {value:.0f} s" for name, value in summary["seconds"].items())
        output.say(f"Time: {stages}. Memory: {summary['memory_mb'] / 1000:.1f} GB at most.")


def _cautions(results: xr.Dataset) -> list[str]:
    """What a reader of the calls should know."""
    import numpy as np

    if json.loads(results.attrs["settings"])["correct_overlap"]:
        return []
    variance = float(np.nanmedian(results["stouffer_variance"]))
    if not variance > INFLATED:
        return []
    return [
        f"tissues share donors whose errors correlate: where nothing is associated, the variance of Stouffer's Z is "
        f"about {variance:.1f} (median over genes), not 1, and genes without an eQTL pass; set correct_overlap = true"
    ]


def _summary(results: xr.Dataset, report: Report) -> dict[str, Any]:
    import numpy as np

    from ebmodel.labels import METHOD, SCREENING, TISSUE

    status, count = np.unique(results["status"].to_numpy(), return_counts=True)
    summary: dict[str, Any] = {"genes": dict(zip(status.tolist(), count.tolist(), strict=True))}
    if report.calls is not None:
        called = report.calls
        summary["calls"] = {"fdr": called.attrs["fdr"], "egenes": int(called["egene"].sum()),
                            "pairs": int(called["called"].sum()), "promised": called.attrs["promised"]}  # fmt: skip
    if report.gains is not None:
        means = report.gains.mean(TISSUE)
        summary["gains"] = [
            {"screening": str(screening), "min_snps": int(least), "method": str(method),
             **{name: float(means[name].sel({SCREENING: screening, METHOD: method, "threshold": least}))
                for name in ("genes", "r2", "increase", "percent", "pmse_ratio", "pmse_better")}}
            for screening in report.gains[SCREENING].to_numpy()
            for least in report.gains["threshold"].to_numpy()
            for method in report.gains[METHOD].to_numpy()
        ]  # fmt: skip
    if report.accuracy is not None:
        table = report.accuracy.pooled
        summary["accuracy"] = {
            str(name): {key: float(table[key].sel(estimator=name)) for key in table.data_vars}
            for name in table["estimator"].to_numpy()
        }
    if "seconds" in results.attrs:
        summary |= {"seconds": json.loads(results.attrs["seconds"]), "memory_mb": results.attrs["memory_mb"]}
    return summary


def _gains_table(gains: list[dict[str, Any]]) -> Table:
    """A row each method; how SNPs were chosen, and how many a gene has, only where that differs."""
    from rich.table import Table

    rows = [row for row in gains if row["genes"]]
    differ = {name: len({row[name] for row in rows}) > 1 for name in ("screening", "min_snps")}
    table = Table(title="Prediction, means over tissues; gains over least squares", title_justify="left")
    for heading, shown in (("screening", differ["screening"]), ("SNPs", differ["min_snps"]), ("method", True)):
        if shown:
            table.add_column(heading, overflow="fold")
    columns = {"genes": ("genes", ".0f"), "r2": ("R²", ".4f"), "increase": ("gain", "+.4f"),
               "percent": ("gain, %", "+.1f"), "pmse_ratio": ("PMSE / OLS's", ".4f"),
               "pmse_better": ("better in", ".0%")}  # fmt: skip
    for heading, _ in columns.values():
        table.add_column(heading, justify="right")
    for row in rows:
        text = [row["screening"]] * differ["screening"] + [f">= {row['min_snps']}"] * differ["min_snps"]
        numbers = [cell(row[name], spec) for name, (_, spec) in columns.items()]
        table.add_row(*text, row["method"], *numbers)
    return table


def _accuracy_table(accuracy: dict[str, dict[str, float | None]]) -> Table:
    """A row each measure, a column each estimator."""
    from rich.table import Table

    table = Table("", title="P(I=1) and calls against the truth, all tissues", title_justify="left")
    for estimator in accuracy:
        table.add_column(estimator, justify="right")
    measures = {"active": ("pairs of gene and tissue that are active", ".0f"), "called": ("pairs called", ".0f"),
                "auc": ("AUC of P(I=1)", ".3f"), "brier": ("Brier score, mean (P - I)²", ".3f"),
                "promised": ("share of calls that are false, as promised", ".3f"),
                "realised": ("the same, realised", ".3f"), "realised_se": ("  its standard error", ".3f"),
                "power": ("share of active pairs called", ".3f"),
                "power_study": ("the same, of all genes of the study", ".3f")}  # fmt: skip
    for name, (words, spec) in measures.items():
        table.add_row(words, *(cell(values[name], spec) for values in accuracy.values()))
    return table
