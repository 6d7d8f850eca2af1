"""How good is the variational step? q against the exact posterior and against full Bayes, beta ~ N(0, kappa Sigma0).

With the hierarchical mean beta couples the tissues, and the E-step takes q(beta) prod_t q(I(t)) for the posterior. For
m <= 12 the exact one is a sum over every I in {0,1}^m (`ebmodel.dense.evidence_enumerated`), and ``variational``
compares the two at the same hyperparameters, the fit's own and the true ones: how far the bound is below log p(Y), and
how far P(I=1), the effects and their sds are apart. With m <= 8 it also maximises log p(Y) itself: what does it cost to
maximise the bound? ``variational_bayes`` compares the fit with the PyMC model of the
same prior, which integrates over the hyperparameters too: what the plug-in leaves out comes on top.

The data are drawn from that model itself. The spreads of the mean and of the slab are multiples of the noise in one
tissue: kappa dbar/sigma2 and eta dbar/sigma2 with dbar = tr(X'X Sigma0)/p.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import logit, rel_entr

import ebmodel
from ebmodel import dense
from ebmodel.bayes.diagnosis import diagnose
from ebmodel.labels import CHAIN, DRAW
from ebmodel.model import Array
from ebmodel.plot.style import BLUE, INK, ORANGE, REFERENCE, new_figure, outside, styled
from ebmodel.results import Fit
from ebmodel.statistics import slab_factor
from simulations.estimators import Estimate
from simulations.metrics import brier, coverage, log_score
from simulations.study import Cell, Record, Study, Whole
from simulations.tables import Table

SPREADS = {"weak": (2.0, 0.5), "strong": (8.0, 2.0)}
"""signal -> kappa dbar/sigma2 and eta dbar/sigma2. P(I=1) is in doubt in most tissues, or in few."""
TAU1, SIGMA2, RHO = 0.5, 1.0, 0.5
N, P = 40, 5
TISSUES, SLABS, MISSING = (4, 8, 12), (1.0, -1.0), (0.0, 0.3)
MOST, FEW = max(TISSUES), 8
"""Tissues for which the exact posterior is computed, and for which log p(Y) is maximised too."""
AT = {"fit": "the fit's hyperparameters", "true": "the true hyperparameters"}
"""Where q is compared with the exact posterior."""
WHO = {
    "q_fit": "q, the fit's hyperparameters", "exact_fit": "exact, the fit's hyperparameters",
    "q_true": "q, the true hyperparameters", "exact_true": "exact, the true hyperparameters",
}  # fmt: skip
Z = 1.96
ROUNDING = 1e-12
"""P(I=1) is not told from 0 or 1 below that."""


class Posterior(NamedTuple):
    """What a posterior, exact or not, says of the tissues."""

    posterior_probability: Array
    """P(I(t)=1 | Y), (tissue,)."""
    effects: Array
    """E(beta(t) | Y), (tissue, snp)."""
    effects_sd: Array
    """Sd of beta(t) | Y, (tissue, snp)."""


# Data ----------------------------------------------------------------------------------------------------------------


def model_data(cell: Cell, stream: np.random.SeedSequence) -> tuple[xr.Dataset, ebmodel.Params]:
    """Data from the model with beta ~ N(0, kappa Sigma0), and theta with the beta that was drawn."""
    own, rest = stream.spawn(2)
    rng, n, p = np.random.default_rng(own), int(cell.get("n", N)), int(cell.get("p", P))
    X = rng.standard_normal((n, p)) @ np.linalg.cholesky(RHO + (1 - RHO) * np.eye(p)).T
    S = slab_factor(X, float(cell["slab"]))  # Sigma0 = S S'
    kappa, eta = np.array(SPREADS[str(cell["signal"])]) * SIGMA2 / (np.sum((X @ S) ** 2) / p)
    beta = np.sqrt(kappa) * S @ rng.standard_normal(S.shape[1])
    theta = ebmodel.Params(tau1=TAU1, beta=beta, eta=eta, sigma2=SIGMA2, slab=float(cell["slab"]), kappa=kappa)
    missing = float(cell["missing"])
    gene = ebmodel.simulate.model_true(theta, m=int(cell["m"]), missing=missing, seed=rest, X=X, posterior=False)
    return gene, theta


# Against the exact posterior -----------------------------------------------------------------------------------------


def replicate(cell: Cell, stream: np.random.SeedSequence) -> Record:
    """q and the exact posterior at the fit's hyperparameters and at the true ones, on one data set."""
    gene, theta = model_data(cell, stream)
    X, Y, active = (gene[name].to_numpy() for name in ("X", "Y", "active"))
    start = time.perf_counter()
    fit = ebmodel.fit(gene.X, gene.Y, slab=theta.slab, mean="hierarchical")
    row: dict[str, float] = {"seconds_fit": time.perf_counter() - start}
    row |= {name: float(getattr(fit.params, name)) for name in ("tau1", "eta", "sigma2", "kappa")}
    row |= {f"true_{name}": float(getattr(theta, name)) for name in ("eta", "kappa")}
    row |= {"inside": inside(fit.params)} | numbered("active", active.astype(float))
    for at, found in {"fit": fit, "true": ebmodel.oracle(gene.X, gene.Y, theta)}.items():
        exact = dense.evidence_enumerated(X, Y, found.params)
        q, truly = posterior(found), posterior(exact)
        _, S = dense.variational_mean(X, Y, found.params, q.posterior_probability)
        distances = {
            "evidence": exact.log_evidence,
            "gap": exact.log_evidence - found.loglik,
            "beta_sd": log_ratio(np.sqrt(np.diag(S)), exact.beta_sd),
            **apart(q, truly, active),
        }
        row |= {f"{key}_{at}": value for key, value in distances.items()}
        for who, said in {"q": q, "exact": truly}.items():
            row |= {f"{key}_{who}_{at}": value for key, value in judged(said, gene).items()}
            row |= numbered(f"p_{who}_{at}", said.posterior_probability)
        ratios = [log_ratio(*sds) for sds in zip(q.effects_sd, truly.effects_sd, strict=True)]
        row |= numbered(f"sd_{at}", np.array(ratios))
    found = maximum(X, Y, [fit.params, theta]) if len(active) <= FEW else None
    exact = dense.evidence_enumerated(X, Y, found) if found else None
    row |= {"evidence_best": exact.log_evidence if exact else np.nan, "inside_best": inside(found) if found else np.nan}
    scores = judged(posterior(exact), gene) if exact else {}
    return row | {f"{key}_best": scores.get(key, np.nan) for key in ("brier", "doubt")}


def maximum(X: Array, Y: Array, starts: Sequence[ebmodel.Params]) -> ebmodel.Params:
    """The hyperparameters that maximise log p(Y) itself, from the best of the starts.

    In coordinates in which every boundary is a plain bound: tau1, sqrt(kappa dbar), sqrt(eta dbar) and log sigma2.
    """
    slab, p = starts[0].slab, X.shape[1]
    dbar = np.trace(X.T @ X @ dense.slab_shape(X, starts[0])) / p

    def theta(u: Array) -> ebmodel.Params:
        kappa, eta = u[1:3] ** 2 / dbar
        return ebmodel.Params(tau1=u[0], beta=np.zeros(p), eta=eta, sigma2=float(np.exp(u[3])), slab=slab, kappa=kappa)

    def minus(u: Array) -> float:
        return -dense.evidence_enumerated(X, Y, theta(u)).log_evidence

    ends = []
    for start in starts:
        own = np.array([start.tau1, *np.sqrt(dbar * np.array([start.kappa, start.eta])), np.log(start.sigma2)])
        inner = np.clip(own, [0.02, 0.02, 0.02, -np.inf], [0.98, np.inf, np.inf, np.inf])  # off the boundary
        bounds = [(0.0, 1.0), (0.0, None), (0.0, None), (-5.0, 5.0)]
        ends += [own, minimize(minus, inner, method="L-BFGS-B", bounds=bounds).x]
    return theta(min(ends, key=minus))


def inside(theta: ebmodel.Params) -> float:
    """1 where q has something to leave out.

    With tau1 = 0 or 1, or kappa = 0, I(t) or beta is known: tissues are independent, and q is exact.
    """
    return float(0.0 < theta.tau1 < 1.0 and theta.kappa > 0.0)


def posterior(found: Fit | dense.Exact) -> Posterior:
    """As plain arrays."""
    return Posterior(*(np.asarray(getattr(found, name)) for name in Posterior._fields))


def apart(q: Posterior, exact: Posterior, active: NDArray[np.bool_]) -> dict[str, float]:
    """How far q is from the exact posterior: P(I=1), effects in the exact posterior's sds, and log ratios of sds.

    ``lost`` is what q loses in log score on average, if the exact posterior is right: mean_t KL(exact || q) of I(t).
    """
    p, h = (np.clip(one.posterior_probability, ROUNDING, 1 - ROUNDING) for one in (q, exact))
    known = exact.effects_sd > 0
    off = (q.effects - exact.effects)[known] / exact.effects_sd[known]
    return {
        "p_max": float(np.abs(p - h).max()),
        "p_rms": float(np.sqrt(np.mean((p - h) ** 2))),
        "lost": float(np.mean(rel_entr(h, p) + rel_entr(1 - h, 1 - p))),
        "effect_max": float(np.abs(off).max(initial=0.0)),
        "effect_rms": float(np.sqrt(np.mean(off**2))) if off.size else 0.0,
        "sd_all": log_ratio(q.effects_sd, exact.effects_sd),
        "sd_active": log_ratio(q.effects_sd[active], exact.effects_sd[active]),
    }


def log_ratio(sd: Array, exact: Array) -> float:
    """Mean of log sd/exact where both are positive; nan if nowhere."""
    both = (sd > 0) & (exact > 0)
    return float(np.mean(np.log(sd[both] / exact[both]))) if both.any() else np.nan


def judged(said: Posterior, gene: xr.Dataset) -> dict[str, float]:
    """Scores against the truth. ``doubt`` is the Brier score that the probabilities themselves expect: mean h(1-h).

    ``variance`` is the effects' mean posterior variance, for `pooled`.
    """
    ends = said.effects - Z * said.effects_sd, said.effects + Z * said.effects_sd
    estimate = Estimate(said.effects, said.posterior_probability, ends)
    scores = {
        "brier": brier(estimate, gene),
        "doubt": float(np.mean(said.posterior_probability * (1 - said.posterior_probability))),
    }
    scores |= {"log_score": log_score(estimate, gene), "variance": float(np.mean(said.effects_sd**2))}
    return scores | {key: value for key, value in coverage(estimate, gene).items() if key != "width"}


def numbered(name: str, values: Array) -> dict[str, float]:
    """One number a tissue, nan beyond the last: every cell has the same metrics."""
    padded = np.append(values, np.full(MOST - len(values), np.nan))
    return {f"{name}_{t}": float(value) for t, value in enumerate(padded, start=1)}


def per_tissue(results: pd.DataFrame, name: str) -> Array:
    """What `numbered` stored, of all data sets and tissues."""
    values = results[[f"{name}_{t}" for t in range(1, MOST + 1)]].to_numpy()
    return values[~np.isnan(results[[f"active_{t}" for t in range(1, MOST + 1)]].to_numpy())]


def distance_table(results: pd.DataFrame, at: str = "fit") -> Table:
    """How far q is from the exact posterior, by signal, slab and m; complete / missing data."""
    rows = []
    for (signal, slab, m), group in compared(results, at).groupby(["signal", "slab", "m"], sort=False):
        sets = [group[group["missing"] == missing] for missing in MISSING]
        cells = [" / ".join(shown(part, key, at) for part in sets) for key, shown in DISTANCES.values()]
        rows.append([f"{signal}, α = {slab:g}, m = {m:g}", *cells])
    n = int(results.groupby(["signal", "slab", "m", "missing"]).size().min())
    caption = (
        f"q against the exact posterior at {AT[at]}; complete / {100 * MISSING[1]:.0f} % missing responses, means over "
        f"{n} data sets (n = {N}, p = {P}){', less those whose fit is on a boundary' if at == 'fit' else ''}"
    )
    return Table(f"variational_{at}", caption, ["Data", *DISTANCES], rows)


def compared(results: pd.DataFrame, at: str) -> pd.DataFrame:
    """The data sets on which q has something to leave out: at the fit, those whose fit is on no boundary."""
    return results[results["inside"] == 1.0] if at == "fit" else results


def _shown(value: float, form: str) -> str:
    return "–" if np.isnan(value) else format(value, form)


def pooled(results: pd.DataFrame, at: str) -> float:
    """sd of effects, q over exact, in root mean square over all tissues and data sets."""
    return float(np.sqrt(results[f"variance_q_{at}"].mean() / results[f"variance_exact_{at}"].mean()))


def _mean(form: str) -> Callable[[pd.DataFrame, str, str], str]:
    return lambda part, key, at: _shown(part[f"{key}_{at}"].mean(), form)


def _geometric(part: pd.DataFrame, key: str, at: str) -> str:
    return _shown(np.exp(part[f"{key}_{at}"].mean()), ".2f")


def _per_tissue(part: pd.DataFrame, key: str, at: str) -> str:
    return _shown((part[f"{key}_{at}"] / part["m"]).mean(), "z.3f")


def _pooled(part: pd.DataFrame, key: str, at: str) -> str:  # noqa: ARG001
    return _shown(pooled(part, at), ".2f")


DISTANCES = {
    "log p(Y) − bound": ("gap", _mean("z.2f")),
    "per tissue": ("gap", _per_tissue),
    "P(I=1): largest error": ("p_max", _mean("z.3f")),
    "RMS": ("p_rms", _mean("z.3f")),
    "effects, in sds: largest error": ("effect_max", _mean("z.2f")),
    "RMS error": ("effect_rms", _mean("z.3f")),
    "sd q/exact, active": ("sd_active", _geometric),
    "sd, all": ("variance", _pooled),
    "sd of β": ("beta_sd", _geometric),
}
"""Column -> metric, and how its mean over data sets is shown."""


def score_table(results: pd.DataFrame) -> Table:
    """What it costs: scores against the truth of q and of the exact posterior, by m."""
    rows = []
    for m, group in results.groupby("m"):
        for who, word in WHO.items():
            value = {key: group[f"{key}_{who}"].mean() for key in SCORES}
            log = format(value["log_score"], ".3f") if np.isfinite(value["log_score"]) else "∞"
            share = [f"{100 * value[key]:.1f}" for key in ("coverage", "coverage_active")]
            rows.append([f"m = {m:g}: {word}", f"{value['brier']:.4f}", f"{value['doubt']:.4f}", log, *share])
    header = ["Posterior", "Brier", "Brier, expected by itself", "log score", "mean ± 1.96 sd holds, %", "active, %"]
    caption = f"Scores of P(I=1) and of intervals for effects, over {len(results)} data sets."
    return Table("variational_scores", caption, header, rows)


SCORES = ("brier", "doubt", "log_score", "coverage", "coverage_active")


def finding(results: pd.DataFrame) -> str:
    """Where q is overconfident, and by how much."""
    return "\n".join(f"- {sentence}" for sentence in _sentences(results))


def _sentences(results: pd.DataFrame) -> Iterator[str]:
    for at, word in AT.items():
        yield from _distances(compared(results, at), at, word)
    for at, word in AT.items():
        costs = {
            key: _paired(results[f"{key}_q_{at}"] - results[f"{key}_exact_{at}"], scale)
            for key, scale in (("brier", 1.0), ("coverage", 100.0), ("coverage_active", 100.0))
        }
        yield (
            f"What the factorisation costs at {word}, against the truth: Brier score {costs['brier']}; coverage of "
            f"mean ± {Z} sd {costs['coverage']} points over all effects, {costs['coverage_active']} in active tissues "
            f"(q less exact, ± standard error over data sets)."
        )
    few = results[results["m"] <= FEW]
    lost = few["evidence_best"] - few["evidence_fit"]
    same = _paired(few["brier_exact_fit"] - few["brier_best"], 1.0)
    yield (
        f"What it costs to maximise the bound and not log p(Y) itself (m ≤ {FEW}): {lost.mean():.3f} of log p(Y) on "
        f"average, {lost.max():.2f} at most; Brier score {same} (exact posteriors at either maximum). The maximum of "
        f"log p(Y) is on a boundary in {100 * (1 - few['inside_best'].mean()):.0f} % of data sets, the bound's in "
        f"{100 * (1 - few['inside'].mean()):.0f} %."
    )
    plug_in = _paired(results["brier_exact_fit"] - results["brier_exact_true"], 1.0)
    ratio = {who: results[f"brier_{who}"].mean() / results[f"doubt_{who}"].mean() for who in WHO}
    on = 1.0 - results["inside"].groupby(results["m"]).mean()
    yield (
        f"What the plug-in costs: Brier score {plug_in} (exact posterior, the fit's hyperparameters less the true "
        f"ones). The fit is on a boundary (τ₁ = 0, τ₁ = 1 or κ = 0) in "
        f"{' / '.join(f'{100 * share:.0f}' for share in on)} % of data sets with m = {_listed(on.index)}. "
        "Brier score over the one that the probabilities expect of themselves (1 if they mean what they say): "
        + ", ".join(f"{WHO[who]} {value:.2f}" for who, value in ratio.items())
        + "."
    )


def _distances(results: pd.DataFrame, at: str, word: str) -> Iterator[str]:
    """How far q is from the exact posterior, in words."""
    gap = results[f"gap_{at}"]
    each = (gap / results["m"]).groupby(results["m"]).mean()
    yield (
        f"At {word} the bound is {gap.mean():.2f} below log p(Y) on average and {gap.max():.2f} at most "
        f"({' / '.join(f'{value:.3f}' for value in each)} a tissue for m = {_listed(each.index)}; {len(results)} data "
        f"sets{' whose fit is on no boundary' if at == 'fit' else ''})."
    )
    worst = results.loc[results[f"p_max_{at}"].idxmax()]
    yield (
        f"There P(I=1) is off by {_rms(results[f'p_rms_{at}']):.3f} (RMS; at most {worst[f'p_max_{at}']:.2f}: "
        f"{worst['signal']} signal, α = {worst['slab']:g}, m = {worst['m']:g}), and {_sides(results, at)}. If the "
        f"exact posterior is right, that costs {results[f'lost_{at}'].mean():.4f} nats a tissue in log score."
    )
    by = {key: pooled(group, at) for key, group in results.groupby(["signal", "m"], sort=False)}
    signal, m = min(by, key=by.__getitem__)
    yield (
        f"Effects are off by {_rms(results[f'effect_rms_{at}']):.3f} posterior sds (RMS). Their sds are "
        f"{_percent(results[f'sd_active_{at}'])} of the exact ones in active tissues (geometric mean) and "
        f"{100 * pooled(results, at):.1f} % in root mean square over all tissues, the least with a {signal} signal and "
        f"m = {m:g}: {100 * by[signal, m]:.1f} %. β's own sd is {_percent(results[f'beta_sd_{at}'])} of the exact one."
    )


def _sides(results: pd.DataFrame, at: str) -> str:
    """How much further from even q's odds are, where the exact ones leave doubt: the slope of log odds on log odds."""
    q, exact = (per_tissue(results, f"p_{who}_{at}") for who in ("q", "exact"))
    unsure = (exact > 0.05) & (exact < 0.95)
    log_odds, truly = logit(q[unsure]), logit(exact[unsure])
    extreme = np.abs(log_odds) > np.abs(truly)
    return (
        f"nearer 0 or 1 than the exact one in {100 * extreme.mean():.0f} % of the tissues in doubt (0.05 < P < 0.95), "
        f"where its log odds are {log_odds @ truly / (truly @ truly):.2f} times the exact ones"
    )


def _listed(values: Iterable[float]) -> str:
    return " / ".join(f"{value:g}" for value in values)


def _paired(difference: pd.Series, scale: float) -> str:
    digits = ".4f" if scale == 1.0 else ".2f"
    return f"{scale * difference.mean():+{digits}} ± {scale * difference.sem():{digits}}"


def _rms(values: pd.Series) -> float:
    return float(np.sqrt(np.mean(values**2)))


def _percent(logs: pd.Series | float) -> str:
    return f"{100 * np.exp(np.mean(logs)):.1f} %"


def table(results: pd.DataFrame) -> str:
    """Findings, and the table at the fit."""
    return f"{finding(results)}\n\n{distance_table(results, 'fit').markdown()}"


def tables(results: pd.DataFrame) -> list[Table]:
    """At the true hyperparameters, and what it costs."""
    return [*(distance_table(results, at) for at in AT), score_table(results)]


LOOKS = {
    "weak": {"marker": "s", "s": 9, "facecolors": "none", "edgecolors": ORANGE, "linewidths": 0.5},
    "strong": {"marker": "o", "s": 6, "facecolors": BLUE, "linewidths": 0},
}


@styled
def figure(results: pd.DataFrame) -> Figure:
    """At the fit's: P(I=1) by q against exact, and the ratio of sds where it is above 0.01; then reliability."""
    drawing = new_figure(10.8, 3.9)
    left, middle, right = drawing.subplots(1, 3)
    for signal, marked in LOOKS.items():
        group = results[results["signal"] == signal]
        exact, q, sd = (per_tissue(group, name) for name in ("p_exact_fit", "p_q_fit", "sd_fit"))
        look = {**marked, "alpha": 0.5, "label": f"{signal} signal", "rasterized": True}
        left.scatter(exact, q, **look)
        told = exact > 0.01  # below, hardly anything is left to have an sd
        middle.scatter(exact[told], np.exp(sd[told]), **look)
    left.plot([0, 1], [0, 1], **REFERENCE)
    left.set(xlabel="P(I=1), exact", ylabel="P(I=1), q")
    middle.axhline(1.0, **REFERENCE)
    middle.set(xlabel="P(I=1), exact", ylabel="sd of effects, q / exact")
    for who, color, style in (("q", ORANGE, "-"), ("exact", INK, ":")):
        for at, mark in (("fit", "s"), ("true", "o")):
            claimed, active = reliability(results, f"{who}_{at}")
            right.plot(claimed, active, color=color, linestyle=style, marker=mark, markersize=4, linewidth=1.2,
                       markerfacecolor="white" if at == "true" else color, label=WHO[f"{who}_{at}"])  # fmt: skip
    right.plot([0, 1], [0, 1], **REFERENCE)
    right.set(xlabel="P(I=1), mean in bin", ylabel="share active", xlim=(0, 1), ylim=(0, 1))
    right.legend(fontsize=7)
    outside(drawing, left, 2, markerscale=2.5)
    return drawing


def reliability(results: pd.DataFrame, who: str) -> tuple[Array, Array]:
    """Mean P(I=1) and share active by tenth of P(I=1), where at least 20 tissues are."""
    h, active = per_tissue(results, f"p_{who}"), per_tissue(results, "active")
    which = np.minimum((10 * h).astype(int), 9)
    enough = [k for k in range(10) if np.sum(which == k) >= 20]
    pairs = [(h[which == k].mean(), active[which == k].mean()) for k in enough]
    return np.array([x for x, _ in pairs]), np.array([y for _, y in pairs])


STUDY = Study(
    "variational",
    [
        {"signal": signal, "slab": slab, "m": m, "missing": missing}
        for signal, slab, m, missing in product(SPREADS, SLABS, TISSUES, MISSING)
    ],
    25,
    Whole(replicate),
    table,
    figure,
    tables=tables,
)


# Against full Bayes --------------------------------------------------------------------------------------------------

DESIGNS = [
    {"m": 12, "n": 60, "p": 6, "slab": 1.0, "missing": 0.0, "signal": "weak"},
    {"m": 50, "n": 60, "p": 8, "slab": 1.0, "missing": 0.0, "signal": "weak"},
    {"m": 50, "n": 60, "p": 8, "slab": -1.0, "missing": 0.3, "signal": "weak"},
]
"""Few: each compiles a model of its own."""


def replicate_bayes(cell: Cell, stream: np.random.SeedSequence) -> Record:
    """The fit and the posterior of the PyMC model on one data set; with few tissues the exact one at the fit's."""
    gene, theta = model_data(cell, stream)
    active = gene["active"].to_numpy()
    fit = ebmodel.fit(gene.X, gene.Y, slab=theta.slab, mean="hierarchical")
    tree = ebmodel.sample(
        gene.X, gene.Y, slab=theta.slab, mean="hierarchical", seed=1, cores=1, predictive=1, progress=False
    )
    said, checks = {"q": posterior(fit), "bayes": _drawn(tree)}, diagnose(tree)
    row = {"inside": inside(fit.params)}
    row |= {"rhat": float(checks["r_hat"].max()), "divergences": float(checks["divergences"])}
    row |= _judge(said["q"], said["bayes"], active)
    row |= {f"{key}_{who}": value for who, one in said.items() for key, value in judged(one, gene).items()}
    for name in ("tau1", "eta", "kappa"):
        row |= {f"{name}_q": float(getattr(fit.params, name)), f"{name}_bayes": float(tree["posterior"][name].mean())}
    exact = None
    if len(active) <= MOST:
        exact = posterior(dense.evidence_enumerated(gene["X"].to_numpy(), gene["Y"].to_numpy(), fit.params))
    plug_in = apart(exact, said["bayes"], active) if exact else {}
    return row | {f"{key}_exact": plug_in.get(key, np.nan) for key in ("p_rms", "sd_active")}


def _drawn(tree: xr.DataTree) -> Posterior:
    """Means and sds over the draws; P(I=1) as the mean of P(I=1 | Y, hyperparameters)."""
    draws, over = tree["posterior"].to_dataset(), [CHAIN, DRAW]
    effects = draws["effects"]
    said = draws["probability"].mean(over), effects.mean(over), effects.std(over)
    return Posterior(*(values.to_numpy() for values in said))


def _judge(q: Posterior, other: Posterior, active: NDArray[np.bool_]) -> dict[str, float]:
    """`apart`, and the correlation of P(I=1)."""
    both = np.std([q.posterior_probability, other.posterior_probability], axis=1).min() > 0
    correlation = np.corrcoef(q.posterior_probability, other.posterior_probability)[0, 1] if both else np.nan
    return {"p_correlation": float(correlation), **apart(q, other, active)}


def bayes_table(results: pd.DataFrame) -> Table:
    """The fit against full Bayes, by design."""
    rows = []
    for name, group in _designs(results):
        mean = group.mean(numeric_only=True)
        rows.append(
            [
                name,
                f"{mean['p_correlation']:.3f}",
                f"{mean['p_rms']:.3f}",
                f"{mean['effect_rms']:.2f}",
                f"{np.exp(mean['sd_active']):.2f}",
                f"{np.sqrt(mean['variance_q'] / mean['variance_bayes']):.2f}",
                *(f"{mean[f'brier_{who}']:.3f} ({mean[f'doubt_{who}']:.3f})" for who in ("q", "bayes")),
                *(f"{100 * mean[f'coverage_{who}']:.1f}" for who in ("q", "bayes")),
                f"{group['rhat'].max():.3f}",
            ]
        )
    header = [
        "Data", "P(I=1): correlation", "RMS difference", "effects, in sds: RMS", "sd q/Bayes, active", "sd, all",
        "Brier, q (expected)", "Brier, Bayes (expected)", "coverage, q, %", "coverage, Bayes, %", "largest R-hat",
    ]  # fmt: skip
    n = int(results.groupby(["m", "slab", "missing"]).size().min())
    caption = f"The fit with the hierarchical mean against the PyMC model with the same prior, {n} data sets each"
    return Table("variational_bayes", caption, header, rows)


def bayes_finding(results: pd.DataFrame) -> str:
    """How far the fit is from full Bayes, and how much of that is the plug-in's."""
    return "\n".join(f"- {sentence}" for sentence in _bayes_sentences(results))


def _bayes_sentences(results: pd.DataFrame) -> Iterator[str]:
    for name, group in _designs(results):
        away = int((group["inside"] == 0.0).sum())
        yield (
            f"{name}: P(I=1) differs from full Bayes by {_rms(group['p_rms']):.3f} (RMS), effects by "
            f"{_rms(group['effect_rms']):.2f} posterior sds, and the sds of effects are {_percent(group['sd_active'])} "
            f"of full Bayes's in active tissues; the fit is on a boundary in {away} of {len(group)} data sets."
        )
    few = results[results["m"] <= MOST]
    yield (
        f"With {MOST} tissues the exact posterior at the fit's hyperparameters differs from full Bayes by "
        f"{_rms(few['p_rms_exact']):.3f} (q: {_rms(few['p_rms']):.3f}) and its sds are "
        f"{_percent(few['sd_active_exact'])} (q: {_percent(few['sd_active'])}): so much the plug-in leaves out, and "
        f"only the rest the factorisation."
    )
    ratio = {who: results[f"brier_{who}"].mean() / results[f"doubt_{who}"].mean() for who in ("q", "bayes")}
    yield (
        f"Brier score over the one that the probabilities expect of themselves: q {ratio['q']:.2f}, full Bayes "
        f"{ratio['bayes']:.2f}."
    )


def _designs(results: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    for (m, slab, missing), group in results.groupby(["m", "slab", "missing"], sort=False):
        yield f"m = {m:g}, α = {slab:g}, {100 * missing:g} % missing", group


def bayes_tables(results: pd.DataFrame) -> str:
    """The findings and the table."""
    return f"{bayes_finding(results)}\n\n{bayes_table(results).markdown()}"


BAYES_STUDY = Study("variational_bayes", DESIGNS, 6, Whole(replicate_bayes), bayes_tables)
