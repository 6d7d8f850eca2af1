"""The two methods meet: the regression of a gene's tissues on its SNPs, and mash on the estimates of many genes.

The paper's model takes a gene by itself, all its SNPs and tissues together: it needs X and Y, and learns from the gene
alone which tissues are active and what effects they share. mash takes estimates and standard errors of all genes' SNPs,
one SNP at a time, and learns from all genes which patterns over tissues there are. Where both hold they are the same:
one SNP, no inactive tissue and beta ~ N(0, kappa) give effects N(0, kappa 11' + eta I) over tissues, one U of mash.

Worlds, each of 80 genes in 20 tissues, 40 of them with effects in about half of the tissues. mash and ash are given 400
further genes without effects, as they learn from all there are: which effects are rare, and how errors correlate.

===============  ======================================================================================================
``model``        the paper's model; SNPs correlate by .5
``ld``           the same, by .9
``missing``      the model, with up to 60 % of a tissue's responses missing
``donors``       the model, but errors of a donor's tissues correlate by .3, which it does not know, and mash's V does
``sparse``       one SNP has an effect, similar in all active tissues (`ebmodel.simulate.sparse`)
``groups``       one SNP has an effect; tissues come in three groups, the same for all genes, which are active or not as
                 a whole and whose effects have nothing to do with each other's: patterns that mash can learn
===============  ======================================================================================================

The two estimate different things. With A = X'X and D its diagonal, all samples counted,

    joint effects  beta(t),      marginal effects  m(t) = D^-1 A beta(t),      signal  X beta(t)

Each method is judged on all three: its own estimate is translated by the lines above, or backwards. A translation of
mash's marginal effects back to joint ones is no posterior mean, as mash knows nothing of how the SNPs of a gene belong
together; where they correlate strongly it is a poor one. On the signal both are at home, with |X b - X beta(t)|^2 / n.

mash on joint least-squares estimates takes the SNPs of a gene for separate effects, too, though their errors correlate.
mash and ash have no probability that a tissue is active. Two stand for it: 1 - prod_j lfdr_j, as if the gene's SNPs
were independent, and 1 - min_j lfsr_j, which is never above what the best SNP alone says.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.special import fdtrc

import ebmodel
import ebmodel.mash
from ebmodel.calibration import auc
from ebmodel.labels import CONDITION, EFFECT, GENE, SAMPLE, SNP, TISSUE
from ebmodel.model import Array
from ebmodel.plot.style import BLUE, ORANGE, REFERENCE, outside, styled
from ebmodel.results import Fit
from ebmodel.simulate.draws import Draws, at_random, labelled
from simulations import metrics
from simulations.estimators import Estimate as OfGene
from simulations.mash import mean_and_error, ratio_and_error, shown, two_rows
from simulations.study import Cell, Comparison, Study
from simulations.tables import Table

GENES, WITH, OTHERS = 80, 40, 400
"""Genes that are judged, those of them with effects, and further ones without, for mash to learn from."""
SAMPLES, SNPS, TISSUES = 100, 5, 20
TAU1, ETA, SIGMA2, BETA = 0.5, 1.0, 1.0, 0.1
"""The model's parameters; ``BETA`` is the sd of a gene's beta."""
EXPLAINED = 0.08
"""Share of an active tissue's variance that sparse effects explain."""
GROUPS, OWN = 3, 0.3
"""Groups of tissues; sd of a tissue's own part of an effect, where that of its group's is 1."""
CORRELATION = 0.3
"""Of errors of a donor's tissues, where they are not independent."""
LARGEST_SHARE = 0.6
"""Missing in the smallest tissue."""
LEVEL = 0.05
"""False discovery rate at which tissues are called."""
RHO = {"ld": 0.9}
"""Correlation of SNPs, where it is not .5."""
WORLDS = {
    "model": "the model", "ld": "strong LD", "missing": "missing responses", "donors": "errors correlate",
    "sparse": "one SNP", "groups": "groups of tissues",
}  # fmt: skip
CLOSED = ("model", "ld", "missing")
"""Worlds whose exact posterior is known."""
WORDS = {
    "zero": "zero", "ols": "OLS", "eb": "the paper's", "general": "generalised", "ash": "ash, joint",
    "ash_marginal": "ash, marginal", "mash": "mash, joint", "mash_marginal": "mash, marginal",
    "mash_canonical": "mash, marginal, canonical", "oracle": "exact posterior",
}  # fmt: skip


# The worlds ----------------------------------------------------------------------------------------------------------


def data(cell: Cell, stream: np.random.SeedSequence) -> xr.Dataset:
    """Genes of a world, first those that are judged.

    ``X`` (gene, sample, snp), ``Y`` (gene, sample, tissue), ``effects`` (gene, tissue, snp), ``active`` (gene, tissue).
    """
    world = str(cell["world"])
    missing: Array | float = 0.0
    if world == "missing":  # tissues are as large for one gene as for another
        missing = LARGEST_SHARE * np.linspace(0.0, 1.0, TISSUES) ** 2
    genes = [gene(world, TAU1 * (g < WITH), missing, seed) for g, seed in enumerate(stream.spawn(GENES + OTHERS))]
    kept = [name for name in ("X", "Y", "effects", "active", "beta", "slab_covariance") if name in genes[0]]
    every = xr.concat([one[kept] for one in genes], GENE, combine_attrs="override")
    return every.assign(share_active=(GENE, [one.attrs["tau1"] for one in genes]))


def judged(data: xr.Dataset) -> xr.Dataset:
    """The genes that are judged."""
    return data.isel({GENE: slice(GENES)})


def gene(world: str, tau1: float, missing: Array | float, stream: np.random.SeedSequence) -> xr.Dataset:
    """One gene, the share ``tau1`` of whose tissues is active."""
    genotypes, rest = stream.spawn(2)
    rng, rho = np.random.default_rng(genotypes), RHO.get(world, 0.5)
    C = np.full((SNPS, SNPS), rho) + (1.0 - rho) * np.eye(SNPS)
    X = rng.standard_normal((SAMPLES, SNPS)) @ np.linalg.cholesky(C).T
    if world == "sparse":
        return ebmodel.simulate.sparse(nonzero=1, explained=EXPLAINED, m=TISSUES, tau1=tau1, X=X, seed=rest)
    if world == "groups":
        return grouped(X, tau1, np.random.default_rng(rest))
    theta = ebmodel.Params(tau1=tau1, beta=BETA * rng.standard_normal(SNPS), eta=ETA, sigma2=SIGMA2)
    strength = CORRELATION if world == "donors" else 0.0
    return ebmodel.simulate.violated("correlated-errors", strength, theta, m=TISSUES, missing=missing, seed=rest, X=X)


def grouped(X: Array, tau1: float, rng: np.random.Generator) -> xr.Dataset:
    """beta_j(t) = s (b_j(g) + .3 u_j(t)) for one SNP j in tissues of active groups g, b and u of variance 1."""
    n, p = X.shape
    group = np.arange(TISSUES) * GROUPS // TISSUES
    active = (rng.random(GROUPS) < tau1)[group]
    causal = np.arange(p) == rng.integers(p)
    b, u = rng.standard_normal((GROUPS, p)), rng.standard_normal((TISSUES, p))
    slab = np.where(causal, b[group] + OWN * u, 0.0)
    # E |X beta(t)|^2 / n = sigma^2 h / (1 - h)
    s = np.sqrt(SIGMA2 * EXPLAINED / (1.0 - EXPLAINED) / (1.0 + OWN**2) / np.mean(X[:, causal] ** 2))
    errors = np.sqrt(SIGMA2) * rng.standard_normal((n, TISSUES))
    draws, none = Draws(X, active, s * slab, errors, at_random(n, TISSUES, 0.0, rng)), np.zeros(p)
    truth = labelled(draws, None, none, np.diag(none), {"tau1": tau1, "sigma2": SIGMA2})
    return truth.drop_vars(["beta", "slab_covariance"])


# What is compared ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Estimate:
    """What a method says of the genes that are judged."""

    joint: Array
    """(gene, tissue, snp) of beta(t)."""
    marginal: Array
    """(gene, tissue, snp) of m(t)."""
    score: Array
    """(gene, tissue) that the tissue is active: the larger, the surer."""
    probability: Array | None = None
    """(gene, tissue) P(I(t)=1), or what stands for it."""
    interval: tuple[Array, Array] | None = None
    """95 % intervals of what the method itself estimates: joint effects, unless ``of_marginal``."""
    of_marginal: bool = False


type Method = Callable[[xr.Dataset, np.random.SeedSequence], Estimate]


def products(data: xr.Dataset) -> Array:
    """A = X'X of every gene, (gene, snp, snp)."""
    X = data["X"].transpose(GENE, SAMPLE, SNP).to_numpy()
    return X.transpose(0, 2, 1) @ X


def to_marginal(data: xr.Dataset, joint: Array) -> Array:
    """m = D^-1 A beta, (gene, tissue, snp)."""
    A = products(data)
    return joint @ A / np.diagonal(A, axis1=1, axis2=2)[:, None, :]


def to_joint(data: xr.Dataset, marginal: Array) -> Array:
    """beta = A^-1 D m, (gene, tissue, snp)."""
    A = products(data)
    covariances = marginal * np.diagonal(A, axis1=1, axis2=2)[:, None, :]  # X'Y, were there no errors
    return np.linalg.solve(A, covariances.transpose(0, 2, 1)).transpose(0, 2, 1)


@dataclass(frozen=True, eq=False)
class LeastSquares:
    """Estimates and standard errors, (gene, tissue, snp), and the p-value that all effects are zero, (gene, tissue)."""

    b: Array
    s: Array
    p: Array


def joint_least_squares(data: xr.Dataset) -> LeastSquares:
    """Regression on all SNPs of a gene, in every tissue's observed samples."""
    X, Y = data["X"].transpose(GENE, SAMPLE, SNP).to_numpy(), data["Y"].transpose(GENE, SAMPLE, TISSUE).to_numpy()
    seen, p = ~np.isnan(Y), X.shape[2]
    y = np.where(seen, Y, 0.0)
    A = np.einsum("gnt,gni,gnj->gtij", seen.astype(float), X, X, optimize=True)  # X_t'X_t
    c = np.einsum("gni,gnt->gti", X, y)
    inverse = np.linalg.inv(A)
    b = (inverse @ c[..., None])[..., 0]
    explained, df = np.sum(b * c, axis=2), seen.sum(axis=1) - p
    variance = ((y**2).sum(axis=1) - explained) / df
    s = np.sqrt(variance[..., None] * np.diagonal(inverse, axis1=2, axis2=3))
    return LeastSquares(b, s, fdtrc(p, df, explained / p / variance))


def marginal_least_squares(data: xr.Dataset) -> LeastSquares:
    """Regression on one SNP at a time: x_j'y_t / x_j'x_j over a tissue's observed samples; p-values of the best SNP."""
    X, Y = data["X"].transpose(GENE, SAMPLE, SNP).to_numpy(), data["Y"].transpose(GENE, SAMPLE, TISSUE).to_numpy()
    seen = ~np.isnan(Y)
    y = np.where(seen, Y, 0.0)
    xx = np.einsum("gnt,gni->gti", seen.astype(float), X**2)
    b = np.einsum("gni,gnt->gti", X, y) / xx
    df = seen.sum(axis=1)[..., None] - 1
    s = np.sqrt(((y**2).sum(axis=1)[..., None] / xx - b**2) / df)
    return LeastSquares(b, s, fdtrc(1.0, df, (b / s) ** 2).min(axis=2))


def zero(data: xr.Dataset, stream: np.random.SeedSequence) -> Estimate:  # noqa: ARG001
    """No effect anywhere: what an estimator must beat to be of use."""
    none = np.zeros(judged(data)["effects"].transpose(GENE, TISSUE, SNP).shape)
    return Estimate(none, none, none[..., 0])


def ols(data: xr.Dataset, stream: np.random.SeedSequence) -> Estimate:  # noqa: ARG001
    """Least squares, the F test's p-value its score."""
    joint, marginal = joint_least_squares(judged(data)), marginal_least_squares(judged(data))
    half = 1.96 * joint.s
    return Estimate(joint.b, marginal.b, -joint.p, interval=(joint.b - half, joint.b + half))


def regression(data: xr.Dataset, stream: np.random.SeedSequence, *, slab: str = "g", mean: str = "free") -> Estimate:
    """`ebmodel.fit`, gene by gene."""
    data = judged(data)
    seeds = stream.generate_state(data.sizes[GENE])
    X, Y = data["X"].transpose(GENE, SAMPLE, SNP).to_numpy(), data["Y"].transpose(GENE, SAMPLE, TISSUE).to_numpy()
    fits = [ebmodel.fit(x, y, slab=slab, mean=mean, seed=int(k)) for x, y, k in zip(X, Y, seeds, strict=True)]
    return _of_fits(data, fits)


def oracle(data: xr.Dataset, stream: np.random.SeedSequence) -> Estimate:  # noqa: ARG001
    """The posterior of the model at its own parameters, gene by gene."""
    data = judged(data)
    genes = [data.isel({GENE: g}) for g in range(data.sizes[GENE])]
    shares = [one.assign_attrs(tau1=float(one["share_active"])) for one in genes]
    fits = [ebmodel.simulate.exact_posterior(one) for one in shares]
    return _of_fits(data, fits)


def _of_fits(data: xr.Dataset, fits: list[Fit]) -> Estimate:
    joint = np.array([fit.effects.to_numpy() for fit in fits])
    ends = [fit.effects_interval() for fit in fits]
    interval = np.array([end["lower"] for end in ends]), np.array([end["upper"] for end in ends])
    probability = np.array([fit.posterior_probability.to_numpy() for fit in fits])
    return Estimate(joint, to_marginal(data, joint), probability, probability, interval)


def by_condition(bhat: xr.DataArray, shat: xr.DataArray) -> xr.Dataset:
    """ash: every tissue by itself."""
    fits = [
        ebmodel.mash.fit(bhat[:, [t]], shat[:, [t]], covariances="canonical").posterior
        for t in range(bhat.sizes[CONDITION])
    ]
    return xr.concat([fit[["mean", "sd", "lfsr", "lfdr"]] for fit in fits], CONDITION)


def together(bhat: xr.DataArray, shat: xr.DataArray, covariances: str | None = None) -> xr.Dataset:
    """mash, the correlation of errors estimated."""
    return ebmodel.mash.fit(bhat, shat, V="estimate", covariances=covariances).posterior


def shrunk(
    data: xr.Dataset,
    stream: np.random.SeedSequence,  # noqa: ARG001
    *,
    method: Callable[[xr.DataArray, xr.DataArray], xr.Dataset],
    marginal: bool,
) -> Estimate:
    """The estimates of all genes' SNPs, each an effect, shrunk by mash or ash."""
    found = marginal_least_squares(data) if marginal else joint_least_squares(data)
    posterior = method(_stacked(data, found.b), _stacked(data, found.s))
    mean, sd, lfsr, lfdr = (_unstacked(data, posterior[name])[:GENES] for name in ("mean", "sd", "lfsr", "lfdr"))
    data = judged(data)
    score, probability = 1.0 - lfsr.min(axis=2), 1.0 - lfdr.prod(axis=2)
    interval = mean - 1.96 * sd, mean + 1.96 * sd
    if marginal:
        return Estimate(to_joint(data, mean), mean, score, probability, interval, of_marginal=True)
    return Estimate(mean, to_marginal(data, mean), score, probability, interval)


def _stacked(data: xr.Dataset, values: Array) -> xr.DataArray:
    """(gene, tissue, snp) as (effect, condition), named by gene and SNP."""
    names = [f"gene{g + 1}_{snp}" for g in range(data.sizes[GENE]) for snp in data[SNP].to_numpy()]
    rows = values.transpose(0, 2, 1).reshape(len(names), -1)
    return xr.DataArray(rows, {EFFECT: names, CONDITION: data[TISSUE].to_numpy()}, (EFFECT, CONDITION))


def _unstacked(data: xr.Dataset, values: xr.DataArray) -> Array:
    """(effect, condition) as (gene, tissue, snp)."""
    rows = values.transpose(EFFECT, CONDITION).to_numpy()
    return rows.reshape(data.sizes[GENE], data.sizes[SNP], -1).transpose(0, 2, 1)


# How they are judged -------------------------------------------------------------------------------------------------


def errors(estimate: Estimate, data: xr.Dataset) -> dict[str, float]:
    """Mean squared errors of joint effects, of marginal ones and of the signal, also in genes with effects alone."""
    data = judged(data)
    beta = data["effects"].transpose(GENE, TISSUE, SNP).to_numpy()
    marginal, A = to_marginal(data, beta), products(data)
    off = estimate.joint - beta
    signal = np.einsum("gti,gij,gtj->gt", off, A, off) / data.sizes[SAMPLE]
    return {
        "mse_joint": float(np.mean(off**2)),
        "mse_marginal": float(np.mean((estimate.marginal - marginal) ** 2)),
        "mse_signal": float(np.mean(signal)),
        "mse_signal_real": float(np.mean(signal[beta.any(axis=(1, 2))])),
    }


def ranking(estimate: Estimate, data: xr.Dataset) -> dict[str, float]:
    """AUC for whether a tissue is active, over all genes' tissues, and gene by gene as in the paper."""
    active = _active(data)
    by = estimate.score if estimate.probability is None else estimate.probability
    within = [auc(row, truth) for row, truth in zip(estimate.score, active.reshape(estimate.score.shape), strict=True)]
    mixed = [value for value in within if np.isfinite(value)]  # a gene whose tissues are all alike has none
    return {
        "auc": auc(estimate.score.ravel(), active),
        "auc_probability": auc(by.ravel(), active),
        "auc_within": float(np.mean(mixed)),
    }


def activity(estimate: Estimate, data: xr.Dataset) -> dict[str, float]:
    """Reliability of the probabilities, and their false discoveries when taken at their word.

    ``fdp_score`` and ``power_score`` are by the score; ``fdp_real``, ``power_real`` and ``real_bin_...`` are of the
    probabilities in genes with effects alone, as if these had been known.
    """
    active, score, probability = _active(data), estimate.score.ravel(), estimate.probability
    real = np.repeat(active.reshape(estimate.score.shape).any(axis=1), estimate.score.shape[1])
    if probability is None:  # a p-value is none: the same names, without values
        blank = replace(estimate, probability=np.ones_like(estimate.score))
        return dict.fromkeys(activity(blank, data), np.nan)
    flat = probability.ravel()
    truth, of_gene = xr.Dataset({"active": (TISSUE, active)}), OfGene(np.empty((0, 0)), flat)
    bins = metrics.calibration(replace(of_gene, probability=flat[real]), truth.isel({TISSUE: real}))
    return {
        "brier": metrics.brier(of_gene, truth),
        **metrics.fdr(of_gene, truth),
        **_called(score, active, "score"),
        **_called(flat[real], active[real], "real"),
        **metrics.calibration(of_gene, truth),
        **{f"real_{name}": value for name, value in bins.items()},
    }


def _called(probability: Array, active: np.ndarray, name: str) -> dict[str, float]:
    """False discoveries and power of calls at `LEVEL`."""
    chosen = metrics.called(probability, LEVEL)
    false, true = (chosen & ~active).sum() / max(chosen.sum(), 1), (chosen & active).sum() / active.sum()
    return {f"fdp_{name}": float(false), f"power_{name}": float(true)}


def coverage(estimate: Estimate, data: xr.Dataset) -> dict[str, float]:
    """Share of what the method estimates in its 95 % intervals, over all tissues and over active ones."""
    if estimate.interval is None:
        return dict.fromkeys(("coverage", "coverage_active"), np.nan)
    data = judged(data)
    beta = data["effects"].transpose(GENE, TISSUE, SNP).to_numpy()
    truth, (lower, upper) = to_marginal(data, beta) if estimate.of_marginal else beta, estimate.interval
    inside = (lower <= truth) & (truth <= upper)
    active = _active(data).reshape(inside.shape[:2])
    return {"coverage": float(inside.mean()), "coverage_active": float(inside[active].mean())}


def _active(data: xr.Dataset) -> np.ndarray:
    return judged(data)["active"].transpose(GENE, TISSUE).to_numpy().ravel()


# What is shown -------------------------------------------------------------------------------------------------------


def _cells(results: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Results by world."""
    return [(name, results[results["world"] == name]) for name in WORLDS if (results["world"] == name).any()]


def _row(group: pd.DataFrame, metric: str, *, over_ols: bool = False) -> list[str]:
    """A metric of every method; a dash where it was not run."""
    row = []
    for part in WORDS:
        column = f"{metric}_{part}"
        if column not in group or group[column].isna().all():
            row.append("–")
        elif over_ols:
            row.append(shown(*ratio_and_error(group[column], group[f"{metric}_ols"])))
        else:
            row.append(shown(*mean_and_error(group[column])))
    return row


def error_table(results: pd.DataFrame) -> Table:
    """Mean squared errors over those of least squares."""
    rows = []
    for name, group in _cells(results):
        for metric, word in (
            ("mse_joint", "joint effects"),
            ("mse_marginal", "marginal effects"),
            ("mse_signal", "Xβ"),
            ("mse_signal_real", "Xβ, genes with effects"),
        ):
            rows.append([f"{WORLDS[name]}: {word}", *_row(group, metric, over_ols=True)])
    n = int(results.groupby("world").size().min())
    caption = (
        f"MSE over that of OLS, ± SE: {n} times {GENES} genes ({WITH} with effects) in {TISSUES} tissues, {SAMPLES} "
        f"samples, {SNPS} SNPs. What a method does not estimate itself is translated."
    )
    return Table("meeting_errors", caption, ["", *WORDS.values()], rows)


MEASURES = (
    ("auc", "AUC"),
    ("auc_within", "AUC, gene by gene"),
    ("fdp_0.05", "FDR at 5 %"),
    ("power_0.05", "power at 5 %"),
    ("fdp_real", "FDR at 5 % in genes with effects"),
    ("power_real", "power at 5 % in genes with effects"),
    ("brier", "Brier score"),
    ("fdp_score", "FDR at 5 % by lfsr"),
    ("power_score", "power at 5 % by lfsr"),
    ("coverage", "coverage of 95 %"),
    ("coverage_active", "coverage of 95 %, active tissues"),
)


def activity_table(results: pd.DataFrame) -> Table:
    """Which tissues are active, and do probabilities and intervals hold?"""
    rows = []
    for name, group in _cells(results):
        rows += [[f"{WORLDS[name]}: {word}", *_row(group, metric)] for metric, word in MEASURES]
    caption = (
        "Active tissues of all genes ± SE. AUC by P(I=1), or 1 − least lfsr of a gene's SNPs; false discoveries and "
        "power where tissues are called at 5 % by P(I=1), or 1 − product of lfdr; by lfsr, where 1 − least lfsr stands "
        "for it. Intervals are of what a method itself estimates."
    )
    return Table("meeting_activity", caption, ["", *WORDS.values()], rows)


def finding(results: pd.DataFrame) -> str:
    """The better of two regressions against the best of three fits of mash, by world."""
    lines = []
    for name, group in _cells(results):
        eb = _best(group, ("eb", "general"))
        mash = _best(group, ("mash", "mash_marginal", "mash_canonical"))
        change, error = mean_and_error(100 * (group[f"mse_signal_{mash}"] / group[f"mse_signal_{eb}"] - 1))
        over, error_over = mean_and_error(group["auc_mash_marginal"] - group["auc_eb"])
        within, error_within = mean_and_error(group["auc_within_mash_marginal"] - group["auc_within_eb"])
        word = WORLDS[name]
        lines.append(
            f"- {word[0].upper()}{word[1:]}: MSE of Xβ by {WORDS[mash]} against the regression, {WORDS[eb]}: "
            f"{change:+.0f} ± {error:.0f} %; AUC of {WORDS['mash_marginal']} less that of the paper's: {over:+.3f} ± "
            f"{error_over:.3f} over all genes, {within:+.3f} ± {error_within:.3f} gene by gene."
        )
    return "\n".join(lines)


def _best(group: pd.DataFrame, parts: tuple[str, ...]) -> str:
    """The method of the least mean error."""
    return min(parts, key=lambda part: float(group[f"mse_signal_{part}"].mean()))


SHORT = {
    "mse_joint": "MSE of β(t)", "mse_signal": "MSE of Xβ(t)", "auc": "AUC", "auc_within": "AUC, gene by gene",
    "fdp_real": "FDR at 5 %, genes with effects",
}  # fmt: skip
IN_SHORT = ("zero", "ols", "eb", "general", "ash_marginal", "mash", "mash_marginal", "oracle")


def short_table(results: pd.DataFrame) -> Table:
    """The README's: a few of the methods and measures."""
    rows, places = [], [list(WORDS).index(part) for part in IN_SHORT]
    for name, group in _cells(results):
        for metric, word in SHORT.items():
            row = _row(group, metric, over_ols=metric.startswith("mse"))
            rows.append([f"{WORLDS[name]}: {word}", *(row[k] for k in places)])
    n = int(results.groupby("world").size().min())
    caption = (
        f"{n} times {GENES} genes ({WITH} with effects) in {TISSUES} tissues, {SAMPLES} samples, {SNPS} SNPs; MSE over "
        "that of OLS; ± SE."
    )
    return Table("meeting", caption, ["", *(WORDS[part] for part in IN_SHORT)], rows)


def table(results: pd.DataFrame) -> str:
    """The README's part."""
    return f"{short_table(results).markdown()}\n\n{finding(results)}"


LOOKS = {
    "eb": (ORANGE, "-", "o"), "general": (ORANGE, "--", "s"), "mash_marginal": (BLUE, "-", "^"),
    "mash": (BLUE, "--", "v"),
}  # fmt: skip


@styled
def figure(results: pd.DataFrame) -> Figure:
    """By world: MSE of the signal over that of least squares, and the reliability in genes with effects."""
    drawing, panels = two_rows(_cells(results), WORLDS, points, reliability, 2.2, 5.4)
    panels[0, 0].set(ylabel="MSE of Xβ over OLS's", ylim=(0.0, None))
    panels[1, 0].set_ylabel("share active, genes with effects")
    outside(drawing, panels[1, 0], 4)
    return drawing


def points(ax: Axes, group: pd.DataFrame) -> None:
    """Ratios with their standard errors."""
    for place, (part, (color, style, mark)) in enumerate(LOOKS.items()):
        value, error = ratio_and_error(group[f"mse_signal_{part}"], group["mse_signal_ols"])
        fill = "white" if style == "--" else color
        ax.errorbar(place, value, yerr=error, color=color, marker=mark, markerfacecolor=fill, capsize=3)
    ax.set_xticks(range(len(LOOKS)), [WORDS[part] for part in LOOKS], rotation=30, ha="right", fontsize=8)


def reliability(ax: Axes, group: pd.DataFrame) -> None:
    """Share of active tissues against the mean probability, by bin, in genes with effects."""
    for part, (color, style, mark) in LOOKS.items():
        count, claimed, active = (
            np.array([group[f"real_bin_{kind}_{k}_{part}"].sum() for k in range(1, 11)])
            for kind in ("count", "sum", "active")
        )
        some = count >= 20
        fill = "white" if style == "--" else color
        ax.plot(claimed[some] / count[some], active[some] / count[some], color=color, linestyle=style, marker=mark,
                markersize=4, markerfacecolor=fill, linewidth=1.2, label=WORDS[part])  # fmt: skip
    ax.plot([0, 1], [0, 1], **REFERENCE)
    ax.set(xlabel="mean probability in bin", xlim=(0, 1), ylim=(0, 1))


def closed(cell: Cell, replication: int) -> bool:  # noqa: ARG001
    """Where the exact posterior is known."""
    return cell["world"] in CLOSED


STUDY = Study(
    "meeting",
    [{"world": name} for name in WORLDS],
    6,
    Comparison(
        data,
        {
            "zero": zero,
            "ols": ols,
            "eb": regression,
            "general": partial(regression, slab="power", mean="hierarchical"),
            "ash": partial(shrunk, method=by_condition, marginal=False),
            "ash_marginal": partial(shrunk, method=by_condition, marginal=True),
            "mash": partial(shrunk, method=together, marginal=False),
            "mash_marginal": partial(shrunk, method=together, marginal=True),
            "mash_canonical": partial(shrunk, method=partial(together, covariances="canonical"), marginal=True),
            "oracle": oracle,
        },
        {"errors": errors, "ranking": ranking, "activity": activity, "coverage": coverage},
        {"oracle": closed},
    ),
    table,
    figure,
    tables=lambda results: [error_table(results), activity_table(results)],
)
