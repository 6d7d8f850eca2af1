"""``ebmodel gtex``: a multi-tissue study from files to figures, simulated studies, and exports."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from ebmodel.cli import options as o

if TYPE_CHECKING:
    import xarray as xr

    from ebmodel.eqtl.report import Report

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="A multi-tissue eQTL study, genome-wide: the paper's Section 7 on GTEx's files, or on files like them.",
)

INFLATED = 2.0
"""Variance of Stouffer's Z that deserves a word: strong effects that tissues share make some of it too."""
Results = Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of a run's results.")]
Jobs = Annotated[int, typer.Option(metavar="N", help="Processes; -1 for all cores.")]
Truth = Annotated[
    Path | None, typer.Option(metavar="FOLDER", help="A simulated study, or its truth: adds accuracy against it.")
]
Estimator = Annotated[str, typer.Option(metavar="NAME", help="Whose effects: paper or generalised.")]


@app.command()
def run(
    config: Annotated[Path, typer.Option(metavar="FILE", help="The study's TOML file: paths and choices.")],
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where results go; as in the file if not given.")
    ] = None,
    jobs: Jobs = -1,
    cluster: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="A Dask scheduler to run on, as tcp://host:8786; it must see the files."),
    ] = None,
    truth: Truth = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Begin anew, whatever the folder holds.")] = False,
    figures: Annotated[bool, typer.Option(help="Draw figures at the end.")] = True,
    quiet: o.Quiet = False,
    as_json: o.AsJson = False,
) -> None:
    """Run a study: choose SNPs, fit every gene, cross-validate predictions, draw Figures 1-4.

    A run that was stopped goes on where it was. A gene that cannot be analysed is reported and the others go on. The
    folder gets results.zarr, genes.tsv.gz, egenes.tsv.gz, gains.tsv, dropped.tsv and figures.

    [bold]Example[/bold]: ebmodel gtex run --config study.toml
    """
    from ebmodel.eqtl.discoveries import read_truth
    from ebmodel.eqtl.report import write_report
    from ebmodel.eqtl.run import run_study
    from ebmodel.eqtl.settings import read_settings
    from ebmodel.eqtl.store import note

    say = o.console(quiet=quiet or as_json)
    settings = read_settings(config, out=out)
    o.check_folder(settings.out)
    if truth is not None:
        read_truth(truth)  # before the work
    with _on(cluster):
        results = run_study(settings, jobs=jobs, progress=not (quiet or as_json), fresh=fresh)
    began = time.perf_counter()
    with say.status("Writing tables and figures ..."):
        report = write_report(results, settings.out, fdr=settings.fdr, truth=truth, figures=figures)
    seconds = json.loads(results.attrs["seconds"]) | {"figures": round(time.perf_counter() - began, 1)}
    results.attrs["seconds"] = json.dumps(seconds)
    note(settings.out / "results.zarr", seconds=results.attrs["seconds"])
    files = [settings.out / "results.zarr", settings.out / "dropped.tsv", *report.files]
    _tell(results, report, files, say, as_json=as_json)


@app.command()
def report(
    results: Results,
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where tables and figures go; the results' if not given.")
    ] = None,
    fdr: Annotated[
        float | None,
        typer.Option(metavar="RATE", help="Bayesian false discovery rate of the calls; the run's if not given."),
    ] = None,
    truth: Truth = None,
    figures: Annotated[bool, typer.Option(help="Draw figures.")] = True,
    quiet: o.Quiet = False,
    as_json: o.AsJson = False,
) -> None:
    """Write a finished run's tables and figures again: at another rate, or against a simulated truth.

    [bold]Example[/bold]: ebmodel gtex report results --truth . --fdr 0.01
    """
    from ebmodel.eqtl.report import write_report
    from ebmodel.eqtl.store import open_results

    say, found, folder = o.console(quiet=quiet or as_json), open_results(results), out or _folder(results)
    o.check_folder(folder)
    o.make_folder(folder)
    with say.status("Writing tables and figures ..."):
        rate = float(found.attrs["fdr"]) if fdr is None else fdr
        written = write_report(found, folder, fdr=rate, truth=truth, figures=figures)
    _tell(found, written, written.files, say, as_json=as_json)


@app.command()
def export(
    results: Results,
    out: Annotated[Path, typer.Option(metavar="FOLDER|FILE", help="Folder of the databases, or a .tsv.gz table.")],
    estimator: Estimator = "paper",
    tissues: Annotated[
        str | None, typer.Option(metavar="NAMES", help="Tissues, separated by commas; all if not given.")
    ] = None,
    probability: Annotated[
        float, typer.Option(metavar="P", min=0.0, max=1.0, help="Least P(I=1) of a gene that is written.")
    ] = 0.0,
    quiet: o.Quiet = False,
) -> None:
    """Write effects for other tools: PredictDB databases (PrediXcan, S-PrediXcan), one a tissue, or one table.

    [bold]Example[/bold]: ebmodel gtex export results --out predictdb --probability 0.5
    """
    from ebmodel.eqtl.export import export_predictdb, export_table
    from ebmodel.eqtl.store import open_results

    found = open_results(results)
    names = None if tissues is None else [name.strip() for name in tissues.split(",") if name.strip()]
    if out.name.endswith((".tsv", ".tsv.gz")):
        files = [export_table(found, out, estimator, names)]
    else:
        files = export_predictdb(found, out, estimator, names, probability)
    o.say_where(Console(quiet=quiet), files)


@app.command()
def simulate(
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="A new folder for the study.")],
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
            metavar="R", min=0.0, max=1.0, help="How far related tissues are active for the same genes; the model's 0."
        ),
    ] = 0.0,
    formats: Annotated[str, typer.Option("--format", metavar="KIND", help="Genotypes as bed, pgen or vcf.")] = "bed",
    seed: o.Seed = 1,
    jobs: Jobs = -1,
    quiet: o.Quiet = False,
) -> None:
    """Simulate a study in GTEx's formats, the truth beside it, and a study.toml to run it with.

    [bold]Example[/bold]: ebmodel gtex simulate --out study --genes 200
    """
    from ebmodel.eqtl.simulation import simulate_study

    names = None if tissues is None else [name.strip() for name in tissues.split(",") if name.strip()]
    simulate_study(out, genes=genes, donors=donors, tissues=names, donor_correlation=donor_correlation,
                   relatedness=relatedness, formats=formats, seed=seed, jobs=jobs, progress=not quiet)  # fmt: skip
    say = Console(quiet=quiet)
    o.say_where(say, [out])
    if formats == "vcf":
        say.print(f"Index it: bcftools index {out / 'genotypes.vcf.gz'}", highlight=False, soft_wrap=True)
    say.print(f"Run it: ebmodel gtex run --config {out / 'study.toml'} --truth {out}", highlight=False, soft_wrap=True)


@contextmanager
def _on(cluster: str | None) -> Iterator[None]:
    """On the workers of a Dask cluster, if one is named."""
    if cluster is None:
        with nullcontext():
            yield
        return
    import joblib

    from ebmodel.errors import InputError

    try:
        from distributed import Client
    except ImportError as error:
        raise InputError(
            "the package distributed", "no such package", "--cluster", "pip install distributed"
        ) from error
    client: Any = Client  # untyped
    try:
        connected = client(cluster)
    except (OSError, ValueError) as error:
        raise InputError("a Dask scheduler", str(error), f"--cluster {cluster}", "check the address") from error
    with connected, joblib.parallel_config(backend="dask"):
        yield


def _folder(results: Path) -> Path:
    return results.parent if results.suffix == ".zarr" else results


def _tell(results: xr.Dataset, report: Report, files: list[Path], say: Console, *, as_json: bool) -> None:
    """Say what became of the genes, what was called, gained, and how true it is."""
    from ebmodel.eqtl.report import failures

    summary = _summary(results, report)
    failed = failures(results)
    if as_json:
        every = summary | {"failed": failed, "files": [str(path) for path in files]}
        typer.echo(json.dumps(o.strict(every), indent=2, allow_nan=False))
        return
    o.say_notes([f"gene {text}" for text in failed[:20]])
    if len(failed) > 20:
        o.say_notes([f"{len(failed) - 20} more genes failed: genes.tsv.gz has their messages"])
    o.say_notes(_cautions(results))
    genes = ", ".join(f"{count} {status}" for status, count in summary["genes"].items())
    say.print(f"{sum(summary['genes'].values())} genes: {genes}.", highlight=False)
    if "calls" in summary:
        calls = summary["calls"]
        say.print(f"{calls['egenes']} genes called active in at least one tissue, {calls['pairs']} pairs of gene and "
                  f"tissue, at a Bayesian FDR of {calls['fdr']:g}.", highlight=False)  # fmt: skip
    if "gains" in summary:
        say.print(_gains_table(summary["gains"]))
    if report.accuracy is not None:
        say.print(_accuracy_table(summary["accuracy"]))
    if "seconds" in summary:
        stages = ", ".join(f"{name} {value:.0f} s" for name, value in summary["seconds"].items())
        say.print(f"Time: {stages}. Memory: {summary['memory_mb'] / 1000:.1f} GB at most.", highlight=False)
    o.say_where(say, files)


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
    table = Table("screening", "SNPs", "method", "genes", "R²", "gain", "gain, %", "PMSE / OLS's", "better in",
                  title="Prediction, means over tissues; gains over least squares", title_justify="left")  # fmt: skip
    for row in gains:
        if not row["genes"]:
            continue
        table.add_row(
            row["screening"], f">= {row['min_snps']}", row["method"], f"{row['genes']:.0f}", f"{row['r2']:.4f}",
            f"{row['increase']:+.4f}", f"{row['percent']:+.1f}", f"{row['pmse_ratio']:.4f}",
            f"{100 * row['pmse_better']:.0f} %",
        )  # fmt: skip
    return table


def _accuracy_table(accuracy: dict[str, dict[str, float]]) -> Table:
    names = ("active", "called", "auc", "brier", "promised", "realised", "realised_se", "power", "power_study")
    table = Table("estimator", *names, title="P(I=1) and calls against the truth, all tissues", title_justify="left")
    for estimator, values in accuracy.items():
        table.add_row(estimator, *(f"{values[name]:.0f}" if name in {"active", "called"} else f"{values[name]:.3f}"
                                   for name in names))  # fmt: skip
    return table
