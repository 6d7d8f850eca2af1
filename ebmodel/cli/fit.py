"""``ebmodel fit``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ebmodel.cli import options as o
from ebmodel.cli.inputs import Inputs, Request, gather, slab_shape
from ebmodel.cli.output import Output, cell, check_file, plain
from ebmodel.errors import InputError

if TYPE_CHECKING:
    import xarray as xr

    from ebmodel.results import Fit

VARIANCE_RATIO = 10.0
"""One sigma2 for all tissues is doubtful where their residual variances differ by more than this factor."""


def fit(
    genotypes: o.Genotypes,
    expression: o.Expression,
    out: o.Out,
    covariates: o.Covariates = None,
    covariate_columns: o.CovariateColumns = None,
    tissues: o.Tissues = None,
    snps: o.Snps = None,
    top: o.Top = None,
    max_r2: o.MaxR2 = 0.5,
    intercept: o.Intercept = True,
    standardise: o.Standardise = False,
    slab: o.SlabShape = "g",
    mean: o.Mean = "free",
    errors: o.Errors = "equal",
    select: o.Select = False,
    starts: o.Starts = None,
    seed: o.Seed = 0,
    quiet: o.Quiet = False,
    as_json: o.AsJson = False,
) -> None:
    r"""Fit the model to the genotypes and the expression of one gene.

    Samples are joined by name. Prints a table by tissue and writes everything (parameters, posterior probabilities,
    Bayes factors, effects with sd and lfsr, the data) to one file, which ebmodel check and ebmodel.open_fit read.

    The default is the paper's model; for the best estimate, use --select.

        ebmodel fit --genotypes gene/genotypes.csv.gz \
            --expression gene/expression.csv --out gene.nc
    """
    import ebmodel
    from ebmodel.files import write_dataset

    asked = Request(
        genotypes=genotypes, expression=expression, covariates=covariates, covariate_columns=covariate_columns,
        tissues=tissues, snps=snps, top=top, max_r2=max_r2, intercept=intercept, standardise=standardise,
    )  # fmt: skip
    check_file(out)
    if select and (slab, mean) != ("g", "free"):
        raise InputError("--select alone", f"--slab {slab} and --mean {mean} beside it", "--select", "leave one out")
    output = Output(quiet=quiet, as_json=as_json)
    data = gather(asked, output)
    candidates: list[dict[str, Any]] = []
    caution = ""
    with output.status(o.FITTING):
        if select:
            result, candidates, caution = run_select(data, starts, seed, errors)
            slab, mean = candidates[0]["slab"], candidates[0]["mean"]
        else:
            result = run_fit(data, slab, mean, starts, seed, errors)
        notes = list(data.notes)
        if caution:
            notes.append(caution)
        if slab == "power":
            notes.append(_interval(ebmodel.alpha_profile(data.X, data.Y, mean, seed=seed, errors=errors, **data.model)))
    notes += doubts(result, len(data.Y))
    write_dataset(out, result.dataset)
    summary = _summary(result, data.unused, data.scale) | {"out": str(out)}  # what `files` was called before
    if select:
        summary["candidates"] = candidates
    output.report(summary, lambda found: _show(found, output), notes, [out])


def run_fit(data: Inputs, slab: str, mean: str, starts: int | None, seed: int, errors: str = "equal") -> Fit:
    """The EM fit to tables that `ebmodel.cli.inputs.gather` read."""
    import ebmodel

    settings: dict[str, Any] = {"errors": errors} | ({} if starts is None else {"n_starts": starts})
    return ebmodel.fit(data.X, data.Y, slab=slab_shape(slab), mean=mean, seed=seed, **data.model, **settings)


def run_select(
    data: Inputs, starts: int | None, seed: int, errors: str = "equal"
) -> tuple[Fit, list[dict[str, Any]], str]:
    """The fit of the largest evidence, the candidates as plain numbers, best first, and what to beware of."""
    import ebmodel

    table, chosen = ebmodel.select(data.X, data.Y, seed=seed, n_starts=starts, errors=errors, **data.model)
    names = ("slab", "mean", "log_evidence", "weight", "loglik", "alpha", "kappa", "status")
    rows = [{name: table[name].to_numpy()[i].item() for name in names} for i in range(table.sizes["candidate"])]
    return chosen, plain(rows), table.attrs["caution"]


def _interval(profile: xr.Dataset) -> str:
    """Say what the data allow the slab's power to be, and whether that includes the paper's alpha = 1."""
    low, high = profile.attrs["range"]
    lower, upper = float(profile["lower"].fillna(low)), float(profile["upper"].fillna(high))
    verdict = "which holds the paper's 1" if lower <= 1.0 <= upper else "which leaves out the paper's 1"
    return f"alpha's {100 * profile.attrs['level']:g} % interval is {lower:.2f} to {upper:.2f}, {verdict}"


def doubts(fit: Fit, samples: int) -> list[str]:
    """Give what a reader of the table should know: samples not used, and reasons to doubt the fit."""
    doubts, unused = [], samples - fit.dataset.sizes["sample"]
    if unused:
        doubts.append(f"{unused} samples with a covariate missing, and no expression, were left out")
    if fit.params.eta == 0:
        doubts.append("eta is 0: active tissues share one effect, whose own uncertainty is not in lfsr and effects' sd")
    if fit.params.relative_variance is not None:
        return doubts
    variances = _residual_variances(fit)
    low, high = min(variances, key=variances.__getitem__), max(variances, key=variances.__getitem__)
    if variances[high] > VARIANCE_RATIO * variances[low]:
        doubts.append(
            f"residual variances run from {variances[low]:.3g} ({low}) to {variances[high]:.3g} ({high}), "
            "but the model has one sigma² for all tissues: fit with --errors unequal, or use --standardise"
        )
    return doubts


def _residual_variances(fit: Fit) -> dict[str, float]:
    """Variance that SNPs and covariates leave in every tissue that has data."""
    import numpy as np

    from ebmodel.data import project_out

    ds = fit.dataset
    rest = ds["Y"].to_numpy() - ds["X"].to_numpy() @ fit.effects.to_numpy().T
    C = ds["covariates"].to_numpy() if "covariates" in ds else np.empty((len(rest), 0))
    variances = {}
    for name, y in zip(ds["tissue"].to_numpy(), rest.T, strict=True):
        rows = ~np.isnan(y)
        (residual,), dof = project_out(C[rows], y[rows])
        if dof > 0:
            variances[str(name)] = float(residual @ residual / dof)
    return variances


def _summary(fit: Fit, unused: int, scale: str) -> dict[str, Any]:
    """Everything that is printed."""
    import numpy as np

    ds, theta = fit.dataset, fit.params
    columns = {
        "tissue": ds["tissue"],
        "n": ds["n"],
        "posterior_probability": fit.posterior_probability,
        "log10_bayes_factor": fit.log_bayes_factor / np.log(10.0),
        "effect_norm": np.sqrt((fit.effects**2).sum("snp")),
        "min_lfsr": fit.lfsr.min("snp"),
        "error_variance": fit.error_variance,
    }
    rows = zip(*(column.to_numpy().tolist() for column in columns.values()), strict=True)
    return {
        "samples": ds.sizes["sample"],
        "genotyped_samples_left_out": unused,
        "snps": ds["snp"].to_numpy(),
        "scale": scale,
        "tissues": [dict(zip(columns, row, strict=True)) for row in rows],
        "params": {name: getattr(theta, name) for name in ("tau1", "eta", "sigma2", "alpha", "kappa")}
        | {"beta": np.asarray(theta.beta)},
        "loglik": fit.loglik,
        "log_evidence": fit.log_evidence,
        "evidence": ds.attrs["evidence"],
        "converged": fit.converged,
        "status": fit.status,
    }


def _show_candidates(candidates: list[dict[str, Any]], output: Output) -> None:
    from rich.table import Table

    table = Table(title="Slabs and means by evidence", title_justify="left")
    table.add_column("slab", no_wrap=True)
    table.add_column("mean", no_wrap=True)
    keys = {"log_evidence": ".2f", "weight": ".3f", "loglik": ".2f", "alpha": ".2f", "kappa": ".3g"}
    for heading in ("log evidence", "weight", "log-lik. or bound", "alpha", "kappa"):
        table.add_column(heading, justify="right")
    for row in candidates:
        table.add_row(row["slab"], row["mean"], *(cell(row[key], spec) for key, spec in keys.items()))
    output.show(table)


def _show(summary: dict[str, Any], output: Output) -> None:
    from rich.table import Table
    from rich.text import Text

    if "candidates" in summary:
        _show_candidates(summary["candidates"], output)
    scale = " (tissues scaled to residual variance 1)" if summary["scale"] == "standardised" else ""
    table = Table(title=f"{len(summary['snps'])} SNPs in {summary['samples']} samples{scale}", title_justify="left")
    table.add_column("tissue", overflow="fold")
    for heading in ("n", "P(I=1)", "log10 K", "‖effect‖", "min lfsr"):
        table.add_column(heading, justify="right", no_wrap=True)
    keys = {"posterior_probability": ".3f", "log10_bayes_factor": ".2f", "effect_norm": ".3g", "min_lfsr": ".2g"}
    if len({row["error_variance"] for row in summary["tissues"]}) > 1:
        table.add_column("error var.", justify="right", no_wrap=True)
        keys["error_variance"] = ".3g"
    for row in summary["tissues"]:
        numbers = [cell(row[key], spec) for key, spec in keys.items()]
        table.add_row(Text(row["tissue"]), str(row["n"]), *numbers)
    output.show(table)
    output.say("log10 K: Bayes factor of no effect over an effect; below 0 it favours an effect.")
    output.say("min lfsr: the smallest local false sign rate among the tissue's effects.")
    theta = summary["params"]
    values = ", ".join(
        f"{name} {theta[name]:.4g}" for name in ("tau1", "eta", "sigma2", "alpha", "kappa") if theta[name] is not None
    )
    kind = "bound on the log-likelihood" if summary["evidence"].startswith("variational") else "log-likelihood"
    output.say(f"{values}; {kind} {summary['loglik']:.3f}; {summary['status']}")
