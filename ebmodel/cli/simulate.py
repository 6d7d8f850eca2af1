"""``ebmodel simulate``."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ebmodel.cli import options as o
from ebmodel.cli.output import Output, check_file, check_folder, folder
from ebmodel.errors import InputError, expect

if TYPE_CHECKING:
    import xarray as xr

ASKED = "the command line"
TABLES = ("genotypes.csv.gz", "expression.csv", "truth.csv")
KIND, SIZES, TRUTH = "What to simulate", "Sizes", "Truth"


def simulate(
    out: Annotated[
        Path,
        typer.Option(
            metavar="PATH",
            help="A folder, for tables that ebmodel fit reads, or one .nc (NetCDF) file or .zarr store for all of it.",
            rich_help_panel=o.OUTPUT,
        ),
    ],
    setting: Annotated[
        int | None,
        typer.Option(
            metavar="K",
            min=1,
            max=4,
            help="One of the paper's Settings, 1 to 4.",
            rich_help_panel=KIND,
            autocompletion=o.words(("1", "2", "3", "4")),
        ),
    ] = None,
    violation: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help=f"In place of a Setting: the model with one assumption violated: {', '.join(o.VIOLATIONS)}.",
            rich_help_panel=KIND,
            autocompletion=o.words(o.VIOLATIONS),
        ),
    ] = None,
    strength: Annotated[
        float | None,
        typer.Option(metavar="S", help="With --violation: how much; 0 is the model itself.", rich_help_panel=KIND),
    ] = None,
    genotypes: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Donors for Setting 4, or genotypes for --violation: PLINK .bed or .pgen, VCF, BCF or a table.",
            rich_help_panel=KIND,
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(metavar="N", min=0, help="Seed of the random numbers.", rich_help_panel=KIND)
    ] = 0,
    samples: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Samples.",
            show_default="50; in Setting 4 300; with --violation 100",
            rich_help_panel=SIZES,
        ),
    ] = None,
    snps: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=1, help="SNPs.", show_default="30, or those of --genotypes", rich_help_panel=SIZES
        ),
    ] = None,
    tissues: Annotated[int, typer.Option(metavar="N", min=1, help="Tissues.", rich_help_panel=SIZES)] = 50,
    missing: Annotated[
        float | None,
        typer.Option(
            metavar="P",
            help="Share of each tissue's responses missing.",
            show_default="0; in Settings 3 and 4 0.2",
            rich_help_panel=SIZES,
        ),
    ] = None,
    tau1: Annotated[
        float, typer.Option(metavar="P", min=0.0, max=1.0, help="Share of active tissues.", rich_help_panel=TRUTH)
    ] = 0.5,
    signal: Annotated[
        float, typer.Option(metavar="S", help="Mean effect of the first third of SNPs.", rich_help_panel=TRUTH)
    ] = 1.0,
    rho: Annotated[
        float | None,
        typer.Option(
            metavar="RHO",
            help="With --setting: correlation of SNPs and effects.",
            show_default="0",
            rich_help_panel=TRUTH,
        ),
    ] = None,
    sigma: Annotated[
        float | None,
        typer.Option(metavar="SD", help="Error sd.", show_default="10; in Setting 2 1", rich_help_panel=TRUTH),
    ] = None,
    eta: Annotated[
        float | None,
        typer.Option(
            metavar="ETA",
            help="With --violation: scale of the paper's slab.",
            show_default="the number of samples",
            rich_help_panel=TRUTH,
        ),
    ] = None,
    quiet: o.Quiet = False,
    as_json: o.AsJson = False,
) -> None:
    """Simulate a gene whose truth is known: to try the others on.

    One of the paper's Settings, or the model with an assumption violated. A folder gets genotypes.csv.gz,
    expression.csv and truth.csv (tissues, whether active, effects by SNP); a file has the slab's mean and true
    covariance as well.

        ebmodel simulate --setting 3 --rho 0.4 --signal 2 --seed 7 --out gene
        ebmodel simulate --violation heavy-tails --strength 0.3 --out tails
    """
    from ebmodel.files import write_dataset

    as_file = out.suffix in (".nc", ".zarr")
    if as_file:
        check_file(out)
    else:
        known = "a name ending in .nc or .zarr, or a folder's"
        expect(not out.suffix or out.is_dir(), known, repr(out.name), "--out", "rename it")
        check_folder(out)
    sizes = {"m": tissues, "seed": seed}
    if setting is not None and violation is None:
        lone = "--strength" if strength is not None else "--eta"
        expect(strength is None and eta is None, "--violation beside it", f"{lone} alone", ASKED, "leave it out")
        expect(genotypes is None or setting == 4, "--genotypes in Setting 4", f"Setting {setting}", ASKED, "leave out")
        gene = _setting(setting, rho, genotypes, signal=signal, n=samples, p=snps, tau1=tau1, sigma=sigma,
                        missing=missing, **sizes)  # fmt: skip
    elif violation is not None and setting is None:
        expect(rho is None, "--rho with --setting", "it with --violation", ASKED, "leave it out")
        if strength is None:
            raise InputError("--strength S with --violation", "none", ASKED, "give it; 0 is the model itself")
        gene = _violated(violation, strength, genotypes, snps, signal, tau1, sigma, eta,
                         n=samples, missing=missing or 0.0, **sizes)  # fmt: skip
    else:
        got = "neither" if setting is None else "both"
        raise InputError("--setting K or --violation NAME", got, ASKED, "give one")
    files = [write_dataset(out, gene)] if as_file else _write_tables(gene, out)
    output = Output(quiet=quiet, as_json=as_json)
    summary = _summary(gene) | {"out": [str(path) for path in files]}  # what `files` was called before
    output.report(summary, lambda found: _show(found, output), files=files)


def _setting(k: int, rho: float | None, genotypes: Path | None, **knobs: Any) -> xr.Dataset:
    from ebmodel.simulate import setting

    return setting(k, rho=rho or 0.0, genotypes=genotypes, **knobs)


def _violated(
    name: str,
    strength: float,
    genotypes: Path | None,
    p: int | None,
    signal: float,
    tau1: float,
    sigma: float | None,
    eta: float | None,
    *,
    n: int | None,
    **knobs: Any,
) -> xr.Dataset:
    """As Setting 1 in size and signal, but with the paper's slab: eta = n makes an effect's variance about 1."""
    from ebmodel.files import read_table
    from ebmodel.model import Params
    from ebmodel.simulate import violated
    from ebmodel.simulate.settings import slab_mean

    X = read_table(genotypes) if genotypes is not None else None
    if X is not None:
        given = n in (None, len(X)) and p in (None, X.shape[1])
        expect(given, "the sizes of --genotypes", "others", ASKED, "leave --samples and --snps out")
        n, p = X.shape
    n, p, sigma = n or 100, p or 30, 10.0 if sigma is None else sigma
    theta = Params(tau1=tau1, beta=slab_mean(p, signal), eta=n if eta is None else eta, sigma2=sigma**2)
    return violated(name, strength, theta, n=n, X=X, **knobs)


def _write_tables(gene: xr.Dataset, out: Path) -> list[Path]:
    import pandas as pd

    from ebmodel.files import writing

    X, Y, truth = (pd.DataFrame(gene[name].to_pandas()) for name in ("X", "Y", "effects"))
    truth.insert(0, "active", gene["active"].to_numpy().astype(int))
    with folder(out) as (inside, places):
        files = [inside / name for name in TABLES]
        for path, table in zip(files, (X, Y, truth), strict=True):
            content = table.to_csv().encode()
            with writing(path) as temporary:  # without name and time: the same data give the same file
                temporary.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)
        return places(files)


def _summary(gene: xr.Dataset) -> dict[str, Any]:
    import numpy as np

    sizes = gene.sizes
    return {
        "samples": sizes["sample"], "snps": sizes["snp"], "tissues": sizes["tissue"],
        "active": int(gene["active"].sum()), "missing_responses": int(np.isnan(gene["Y"]).sum()),
        "beta": gene["beta"].to_numpy(), **gene.attrs,
    }  # fmt: skip


def _show(summary: dict[str, Any], output: Output) -> None:
    output.say(
        f"Simulated {summary['samples']} samples, {summary['snps']} SNPs, {summary['tissues']} tissues "
        f"({summary['active']} active), {summary['missing']:.0%} of responses missing."
    )
