"""The parts of a report, each from what it is about."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import numpy as np
import xarray as xr

import ebmodel
from ebmodel.checks.catalogue import DESIGN, MISSING
from ebmodel.checks.checking import CLEAR, LEVEL
from ebmodel.labels import CHAIN, CHECK, COVARIATE, DRAW, QUANTITY, SAMPLE, SNP, TISSUE
from ebmodel.reports.figures import Illustration
from ebmodel.reports.markup import Markup, bullets, figure, folded, number, paragraph, section, table, verdict
from ebmodel.results import Fit

__all__ = ["checked", "compared", "data", "effects", "in_short", "parameters", "provenance", "reading", "tissues"]

type Figures = Mapping[str, Illustration]

SURE, LIKELY = 0.95, 0.5
"""P(I=1) above which a tissue is called active, and above which its effects are listed."""
STRONGEST = 20
"""Effects listed."""
APART = 0.1
"""Probabilities of EM and full posterior that differ by more are listed."""


def in_short(fit: Fit, checks: xr.Dataset | None, comparison: xr.Dataset | None) -> Markup:
    """What a reader in a hurry should know."""
    h, ds = fit.posterior_probability, fit.dataset
    sure = [str(name) for name in h[TISSUE].to_numpy()[(h > SURE).to_numpy()]]
    who = f": {', '.join(sure)}" if 0 < len(sure) <= 12 else ""
    found = [
        f"{ds.sizes[SNP]} SNPs, {ds.sizes[TISSUE]} tissues, {ds.sizes[SAMPLE]} samples.",
        f"{len(sure)} of {h.size} tissues have an effect with probability above {SURE:g}{who}.",
        f"The fit: {fit.status}.",
    ]
    if checks is not None:
        found.append(_verdicts(checks))
    if comparison is not None:
        found.append(str(comparison.attrs["findings"]))
    return section("In short", bullets(found))


def _verdicts(checks: xr.Dataset) -> str:
    named = {word: checks[CHECK].to_numpy()[checks["verdict"].to_numpy() == word] for word in ("fails", "doubtful")}
    made = int((checks["verdict"] != "not checked").sum())
    parts = [f"{word}: {', '.join(map(str, names))}" for word, names in named.items() if len(names)]
    return f"Of {made} assumptions checked, " + ("; ".join(parts) + "." if parts else "none shows a sign against it.")


def data(fit: Fit) -> Markup:
    """Sizes of the data."""
    ds = fit.dataset
    missing, n = np.isnan(ds["Y"].to_numpy()), ds["n"].to_numpy()
    empty = [str(name) for name in ds[TISSUE].to_numpy()[n == 0]]
    covariates = [str(name) for name in ds[COVARIATE].to_numpy()] if COVARIATE in ds.dims else []
    rows = [
        ("Samples", ds.sizes[SAMPLE]),
        ("SNPs", ds.sizes[SNP]),
        ("Tissues", ds.sizes[TISSUE]),
        ("Samples of a tissue", f"{n.min()} to {n.max()}, median {np.median(n):g}"),
        ("Responses missing", f"{100.0 * missing.mean():.1f} %"),
        ("Covariates projected out", ", ".join(covariates) or "none"),
    ]
    if empty:
        rows.append(("Tissues without data", ", ".join(empty)))
    return section("Data", table("What was fitted", ("what", "value"), rows, text=[1]))


def parameters(fit: Fit, figures: Figures) -> Markup:
    """Estimates, with what each means."""
    theta, ds = fit.params, fit.dataset
    beta = np.asarray(theta.beta)
    slab = "a matrix that was given" if np.isnan(theta.alpha) else f"Σ₀ = (X'X)^-α, α = {theta.alpha:.3g}"
    shape = "1 is the paper's, 0 independent effects; below 0 effects follow the correlation of SNPs"
    rows = [
        ("τ₁", number(theta.tau1), "share of tissues in which the SNPs act; what is believed before seeing a tissue"),
        ("β", f"length {number(np.linalg.norm(beta))}", "mean effect of active tissues, one number a SNP (see below)"),
        ("η", number(theta.eta), "scale of the covariance η Σ₀ of active tissues' effects about β; 0: all the same"),
        ("σ²", number(theta.sigma2), "variance of errors, what SNPs and covariates leave of the expression"),
        ("Σ₀", slab, f"shape of that covariance: {shape}"),
    ]
    if theta.kappa is not None:
        rows.append(("κ", number(theta.kappa), "scale of the prior N(0, κ Σ₀) of β; 0: effects about zero"))
    of = "variational bound on log p(Y)" if str(ds.attrs["evidence"]).startswith("variational") else "log p(Y)"
    rows.append((of, number(fit.loglik, ".3f"), "at these estimates; the larger, the better, on the same data"))
    notes = "eta = 0: active tissues share one effect, whose own uncertainty is not in sds and lfsr below."
    listed = table("β by SNP", ("SNP", "β"), zip(ds[SNP].to_numpy(), map(number, beta), strict=True))
    return section(
        "The fit",
        paragraph("Y(t) = X β(t) + error, error ~ N(0, σ² I). In an active tissue β(t) ~ N(β, η Σ₀), in an inactive "
                  "one β(t) = 0; a tissue is active with probability τ₁. Estimates maximise the likelihood."),
        table("Estimates", ("parameter", "estimate", "meaning"), rows, text=[2]),
        paragraph(f"Status: {fit.status}."),
        paragraph(notes) if theta.eta == 0.0 else "",
        folded("Mean effect β of every SNP", listed),
        figure(figures.get("alpha_profile")),
    )  # fmt: skip


def tissues(fit: Fit, figures: Figures) -> Markup:
    """Every tissue: is it active, and how strongly."""
    ds = fit.dataset
    columns: dict[str, list[Any]] = {
        "tissue": list(ds[TISSUE].to_numpy()),
        "samples": list(ds["n"].to_numpy()),
        "P(I=1)": [number(h, ".3f") for h in fit.posterior_probability],
        "log₁₀ K": [number(K / np.log(10.0), ".2f") for K in fit.log_bayes_factor.to_numpy()],
        "length of effect": [number(size) for size in np.sqrt((fit.effects**2).sum(SNP))],
        "least lfsr": [number(value, ".2g") for value in fit.lfsr.min(SNP)],
    }
    relative = getattr(fit.params, "relative_variance", None)
    if relative is not None:
        columns["σ² of the tissue"] = [number(fit.params.sigma2 * value) for value in np.asarray(relative)]
    meaning = (
        "P(I=1): posterior probability that the SNPs act in the tissue. log₁₀ K: Bayes factor of no effect over an "
        "effect; below 0 it favours an effect. Length of effect: |E(β(t) | Y)|. lfsr, local false sign rate: "
        "probability that the sign of an effect is wrong, of the SNP for which it is least."
    )
    return section(
        "Tissues",
        table("Is a tissue active, and how strongly?", list(columns), zip(*columns.values(), strict=True)),
        paragraph(meaning),
        figure(figures.get("posterior_probability")),
        figure(figures.get("shrinkage")),
    )


def effects(fit: Fit) -> Markup:
    """The effects whose sign is surest, in tissues that are more likely active than not."""
    likely = fit.posterior_probability > LIKELY
    title, interval = "Strongest effects", fit.effects_interval(0.95)
    if not likely.any():
        return section(title, paragraph("No tissue is more likely active than not."))
    ends = {"low": interval["lower"], "high": interval["upper"]}
    parts = xr.Dataset({"mean": fit.effects, "sd": fit.effects_sd, "lfsr": fit.lfsr, **ends})
    flat = parts.isel({TISSUE: np.flatnonzero(likely)}).to_dataframe().reset_index()
    flat["size"] = flat["mean"].abs()
    flat = flat.sort_values(["lfsr", "size"], ascending=[True, False], kind="stable").head(STRONGEST)
    rows = [
        (f"{row[TISSUE]}", f"{row[SNP]}", number(row["mean"]), number(row["sd"]),
         f"{number(row['low'])} to {number(row['high'])}", number(row["lfsr"], ".2g"))
        for row in flat.to_dict("records")
    ]  # fmt: skip
    headings = ("tissue", "SNP", "effect", "sd", "95 % interval", "lfsr")
    return section(
        title,
        table(f"The {len(rows)} effects of the surest sign, where P(I=1) > {LIKELY:g}", headings, rows, text=[1]),
        paragraph("Posterior mean, sd and interval of one SNP's effect beside the others, at the fitted parameters: "
                  "they leave out that these are estimated."),
    )  # fmt: skip


def compared(comparison: xr.Dataset, tree: xr.DataTree | None, figures: Figures) -> Markup:
    """EM beside the full posterior."""
    interval = f"{100 * comparison.attrs['level']:g} % interval"

    def rows(kind: str, label: str, spec: str, least: float) -> list[tuple[str, ...]]:
        part = comparison.isel({QUANTITY: np.flatnonzero(comparison["kind"] == kind)}).to_dataframe().reset_index()
        part = part[(part["em"] - part["mean"]).abs() >= least]
        return [
            (str(row[label]), number(row["em"], spec), number(row["mean"], spec), number(row["sd"], spec),
             f"{number(row['lower'], spec)} to {number(row['upper'], spec)}")
            for row in part.to_dict("records")
        ]  # fmt: skip

    headings = ("EM", "posterior mean", "sd", interval)
    apart = rows("probability", "tissue", ".3f", APART)
    return section(
        "EM beside the full posterior",
        paragraph(comparison.attrs["findings"]),
        paragraph(f"Draws: {comparison.attrs['verdict']}"),
        table("Hyperparameters", ("parameter", *headings), rows("hyperparameter", QUANTITY, ".4g", 0.0)),
        table(f"P(I=1), where the two differ by more than {APART:g}", ("tissue", *headings), apart) if apart else "",
        figure(figures.get("probabilities")),
        figure(figures.get("hyperparameters")) if tree is not None else "",
    )


def checked(checks: xr.Dataset, figures: Figures) -> Markup:
    """What was assumed, what was found, what to do."""
    rows = [checks.isel({CHECK: k}) for k in range(checks.sizes[CHECK])]
    headings = ("check", "verdict", "what was assumed", "what was found", "observed", "median", "95 % point", "p",
                "plug-in p")  # fmt: skip
    cells = [
        (one[CHECK].item(), verdict(one["verdict"].item()), one["assumption"].item(), one["meaning"].item(),
         *(number(one[key]) for key in ("observed", "reference_median", "reference_95")),
         *(number(one[key], ".3f") for key in ("p_value", "p_plugin")))
        for one in rows
    ]  # fmt: skip
    flagged = [one for one in rows if one["verdict"].item() in ("fails", "doubtful")]
    advice = [
        section(
            f"{one[CHECK].item()}: {one['verdict'].item()}",
            bullets([f"Assumed: {one['assumption'].item()}.", f"Found: {one['meaning'].item()}.",
                     f"To do: {one['remedy'].item()}."]),
            level=3,
        )
        for one in flagged
    ]  # fmt: skip
    statistics = [(one[CHECK].item(), one["statistic"].item()) for one in rows]
    drawn = f"Median and 95 % point are those of data drawn from {checks.attrs['at']}"
    again = ", each fitted as the data were." if checks.attrs["refitted"] else ", seen at the parameters drawn with."
    return section(
        "Checks of the model",
        paragraph(_verdicts(checks)),
        figure(figures.get("checks")),
        table("Assumptions checked", headings, cells, text=[1, 2, 3]),
        paragraph(drawn + again + _exceptions(checks)),
        *advice,
        folded("What is computed", table("Discrepancies", ("check", "what is computed"), statistics, text=[1])),
        figure(figures.get("residual_variances")),
        figure(figures.get("residuals_qq")),
        figure(figures.get("residual_correlation")),
        figure(figures.get("effects_by_size")),
    )


def _exceptions(checks: xr.Dataset) -> str:
    """What to know of the two checks whose reference is another one."""
    made = [str(name) for name in checks[CHECK].to_numpy()[np.isfinite(checks["observed"].to_numpy())]]
    words = ""
    if MISSING in made:
        words += f" For {MISSING} they are those of the data with every sample's missing tissues given to another one."
    if DESIGN in made:
        words += (f" For {DESIGN} there is no hypothesis to test: observed is the share of the gain that is lost, p the"
                  " share of drawn data sets in which it is 10 % at most; the verdict goes by the mean.")  # fmt: skip
    return words


def reading(checks: xr.Dataset) -> Markup:
    """What a p-value means here, and how many to expect by chance."""
    tests = int(np.isfinite(checks["p_plugin"]).sum())
    size, draws = checks.attrs["replicates"] - checks.attrs["failed"], f"drawn from {checks.attrs['at']}"
    meaning = (
        f"A p-value is the share of data sets {draws}, on the same design and with the same responses missing, whose "
        f"discrepancy is at least as large as that of the data (of {size} data sets, the data themselves counted in). "
        f"At most {LEVEL:g} makes an assumption doubtful, at most {CLEAR:g} says that it fails. It is not the "
        "probability that the assumption holds, and a large one is no proof of it: small data show nothing. Whether a "
        "violation matters is said by its size, under “what was found”. "
    )
    if not checks.attrs["refitted"]:
        kind = (
            "Drawn data were not fitted again, and so the p-values are plug-in ones: too large; they miss violations, "
        )
    elif checks.attrs["at"] == "the fitted parameters":
        kind = ("As each drawn data set was fitted again, the p-values are uniform if the model holds; plug-in ones, "
                "which skip that fit, are too large: they miss violations, ")  # fmt: skip
    else:
        kind = ("Each data set has the parameters of another draw, so what is not known of them is in these posterior "
                "predictive p-values; plug-in ones, which skip the fit of drawn data, are too large: they miss "
                "violations, ")  # fmt: skip
    kind += "but one that they find is there."
    many = (
        f"Several checks are several chances to be wrong: of {tests} tests of a model that holds, "
        f"{LEVEL * tests:.1g} fall below {LEVEL:g} by chance on average. One doubtful assumption among them is no "
        "surprise; one that fails, or several that agree, are. Nor are checks independent: one violation, such as "
        "correlated errors, may show in several, and the one that names it best is the one that stands out most."
    )
    return section("How to read the checks", paragraph(meaning + kind), paragraph(many) if tests > 1 else "")


def provenance(fit: Fit, checks: xr.Dataset | None, tree: xr.DataTree | None, date: datetime | str | None) -> Markup:
    """With what this was made, so that it can be made again."""
    ds = fit.dataset
    now = datetime.now().astimezone() if date is None else date
    when = now if isinstance(now, str) else now.strftime("%Y-%m-%d %H:%M %Z").strip()
    how = fit.settings
    rows = [
        ("Made by", f"ebmodel {ebmodel.__version__}, Python {platform.python_version()}, NumPy {np.__version__}"),
        ("Date", when),
        ("Fit", f"slab {ds.attrs['slab']}, mean {how['mean']}, errors {how['errors']}; {ds.sizes['start']} starts"),
        ("Evidence", f"{fit.log_evidence:.3f} ({ds.attrs['evidence']})"),
    ]  # fmt: skip
    if tree is not None:
        posterior = tree["posterior"].to_dataset()
        settings = ", ".join(f"{key} {tree.attrs[key]}" for key in ("form", "priors", "seed") if key in tree.attrs)
        rows.append(("Full posterior", f"{posterior.sizes[CHAIN]} chains of {posterior.sizes[DRAW]} draws; {settings}"))
    if checks is not None:
        given = checks.attrs
        failed = f", {given['failed']} of which could not be fitted ({given['failure']})" if given["failed"] else ""
        refitted = "refitted" if given["refitted"] else "not refitted"
        rows.append(("Checks", f"{given['replicates']} data sets drawn from {given['at']}, {refitted}{failed}; "
                               f"seed {given['seed']}"))  # fmt: skip
    return section("Provenance", table("How this was made", ("what", "settings"), rows, text=[1]))
