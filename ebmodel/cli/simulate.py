"""``ebmodel simulate``."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from ebmodel.cli import options as o

if TYPE_CHECKING:
    import xarray as xr

ASKED = "the command line"
TABLES = ("genotypes.csv.gz", "expression.csv", "truth.csv")


def simulate(
    out: Annotated[
        Path,
        typer.Option(
            metavar="PATH",
            help="A .nc (NetCDF) file or .zarr store for all of it, or a folder for tables that ebmodel fit reads.",
        ),
    ],
    setting: Annotated[
        int | None, typer.Option(metavar="K", min=1, max=4, help="One of the paper's Settings, 1 to 4.")
    ] = None,
    violation: Annotated[
        str | None, typer.Option(metavar="NAME", help="In place of a Setting: the model with one assumption violated.")
    ] = None,
    strength: Annotated[
        float | None, typer.Option(metavar="S", help="With --violation: how much; 0 is the model itself.")
    ] = None,
    rho: Annotated[
        float | None, typer.Option(metavar="RHO", help="With --setting: correlation of SNPs and effects; 0.")
    ] = None,
    signal: Annotated[float, typer.Option(metavar="S", help="Mean effect of the first third of SNPs.")] = 1.0,
    samples: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Samples; 50, in Setting 4 300, with --violation 100.")
    ] = None,
    snps: Annotated[int | None, typer.Option(metavar="N", min=1, help="SNPs; 30, or those of --genotypes.")] = None,
    tissues: Annotated[int, typer.Option(metavar="N", min=1, help="Tissues.")] = 50,
    tau1: Annotated[float, typer.Option(metavar="P", min=0.0, max=1.0, help="Share of active tissues.")] = 0.5,
    sigma: Annotated[float | None, typer.Option(metavar="SD", help="Error sd; 10, in Setting 2 1.")] = None,
    eta: Annotated[
        float | None,
        typer.Option(metavar="ETA", help="With --violation: scale of the paper's slab; the number of samples."),
    ] = None,
    missing: Annotated[
        float | None,
        typer.Option(metavar="P", help="Share of each tissue's responses missing; 0, in Settings 3 and 4 0.2."),
    ] = None,
    genotypes: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Donors for Setting 4, or genotypes for --violation: PLINK .bed, VCF, BCF or a table.",
        ),
    ] = None,
    seed: o.Seed = 0,
    quiet: o.Quiet = False,
    as_json: o.AsJson = False,
) -> None:
    """Simulate a gene whose truth is known: the paper's Settings, or the model with an assumption violated.

    A folder gets genotypes.csv.gz, expression.csv and truth.csv (tissues, whether active, effects by SNP); a file has
    the slab's mean and true covariance as well.

    [bold]Example[/bold]: ebmodel simulate --setting 3 --rho 0.4 --signal 1 --seed 7 --out gene.nc
    """
    from ebmodel.errors import InputError, expect

    as_file = out.suffix in (".nc", ".zarr")
    if as_file:
        o.check_file(out)
    else:
        known = "a name ending in .nc or .zarr, or a folder's"
        expect(not out.suffix or out.is_dir(), known, repr(out.name), "--out", "rename it")
        o.check_folder(out)
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
    files = _write(gene, out, as_file=as_file)
    _say(gene, files, Console(quiet=quiet), as_json=as_json)


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
    from ebmodel.errors import expect
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


def _write(gene: xr.Dataset, out: Path, *, as_file: bool) -> list[Path]:
    import pandas as pd

    from ebmodel.files import writing

    if as_file:
        with writing(out) as temporary:
            if out.suffix == ".zarr":
                gene.to_zarr(temporary, mode="w", zarr_format=3, consolidated=False)
            else:
                gene.to_netcdf(temporary, engine="h5netcdf")
        return [out]
    o.make_folder(out)
    files = [out / name for name in TABLES]
    X, Y, truth = (pd.DataFrame(gene[name].to_pandas()) for name in ("X", "Y", "effects"))
    truth.insert(0, "active", gene["active"].to_numpy().astype(int))
    for path, table in zip(files, (X, Y, truth), strict=True):
        content = table.to_csv().encode()
        with writing(path) as temporary:  # without name and time: the same data give the same file
            temporary.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)
    return files


def _say(gene: xr.Dataset, files: list[Path], say: Console, *, as_json: bool) -> None:
    import numpy as np

    sizes, active = gene.sizes, int(gene["active"].sum())
    if as_json:
        summary = {
            "samples": sizes["sample"], "snps": sizes["snp"], "tissues": sizes["tissue"], "active": active,
            "missing_responses": int(np.isnan(gene["Y"]).sum()), "beta": gene["beta"].to_numpy().tolist(),
            **gene.attrs, "out": [str(path) for path in files],
        }  # fmt: skip
        typer.echo(json.dumps(summary, indent=2))
        return
    say.print(
        f"Simulated {sizes['sample']} samples, {sizes['snp']} SNPs, {sizes['tissue']} tissues ({active} active), "
        f"{gene.attrs['missing']:.0%} of responses missing.",
        highlight=False,
    )
    o.say_where(say, files)
