"""The empirical-Bayes fit of mash and the full posterior side by side: what knowing the weights is taken for granted.

The fit puts weights at the maximum of their posterior; the posterior averages over them. They are compared in the
weights (of the point mass, and of every covariance, summed over scales) and in what is wanted of them: effects.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import arviz as az
import numpy as np
import xarray as xr

from ebmodel.errors import expect, listed
from ebmodel.labels import CHAIN, CONDITION, COVARIANCE, DRAW, EFFECT, QUANTITY, SCALE
from ebmodel.model import Array

if TYPE_CHECKING:
    from ebmodel.mash.results import MashFit

__all__ = ["compare"]

SAME = 1e-9
"""Data and grids that differ by less, relative to the largest value, are the same."""
SIGNIFICANT = 0.05
"""Local false sign rate below which an effect counts as found."""
APART = 0.5
"""Posterior sds by which an effect's estimates differ."""
WIDTH = 0.05
"""Sds that agree to this share, taken together, are as large; a share of the variance below it is small."""
SMALL = 0.5
"""Scales below this share of the median standard error look like no effect."""


def compare(fit: MashFit, tree: xr.DataTree, level: float = 0.95) -> xr.Dataset:
    """Set the empirical-Bayes fit beside the full posterior of the same model on the same data.

    Parameters
    ----------
    fit
        As from `ebmodel.mash.fit`, with its posteriors.
    tree
        As from `ebmodel.mash.sample` of that fit; of all its effects or some.
    level
        Posterior probability of the equal-tailed intervals; inside (0, 1).

    Returns
    -------
    Dataset
        Over ``quantity``, which are ``null``, every covariance (its weight summed over scales) and ``loglik``: ``eb``,
        the fit's value; ``mean``, ``sd``, ``lower``, ``upper`` and ``mcse``, the posterior's, the last the Monte-Carlo
        error of the mean; ``difference``, (eb - mean) / sd, NaN where the sd is 0. Coordinate ``kind``: null weight,
        covariance or log-likelihood.

        Over (effect, condition): ``eb_mean``, ``bayes_mean``, ``eb_sd``, ``bayes_sd``, ``eb_lfsr``, ``bayes_lfsr``;
        ``apart``, (eb_mean - bayes_mean) / bayes_sd, 0 where nothing varies; ``left_out``, the share of the posterior
        variance that comes from not knowing the weights, which the fit's sd leaves out.

        Attributes ``level``; ``verdict``, on the draws; ``findings``, one paragraph on what differs, where and why;
        ``null_weight``, of the point mass in the prior on weights, and ``prior_effects``, that of all components: for
        how many effects it counts, beside the ``effects`` observed.

    Raises
    ------
    InputError
        If fit and draws are of different data, conditions, covariances or scales, or the fit has no posteriors.

    Examples
    --------
    ::

        fit = ebmodel.mash.fit(bhat, shat)
        comparison = ebmodel.mash.compare(fit, ebmodel.mash.sample(fit))
        print(comparison.attrs["findings"])
    """
    expect(0.0 < level < 1.0, "0 < level < 1", level, "level", "give a probability such as 0.95")
    draws = _matched(fit, tree)
    result = xr.merge([_quantities(fit, draws, level), _effects(fit, tree["effects"].to_dataset())])
    verdict = str(tree.attrs.get("verdict", "No verdict on the draws was stored."))
    prior = {name: float(tree.attrs[name]) for name in ("null_weight", "prior_effects")}
    result.attrs = {"level": level, "verdict": verdict, "effects": len(fit.mean), **prior}
    result.attrs["findings"] = findings(result, _small(fit, draws))
    return result


def _quantities(fit: MashFit, draws: xr.Dataset, level: float) -> xr.Dataset:
    """Weights and the log-likelihood."""
    weights = draws["weights"].sum(SCALE) if SCALE in draws["weights"].dims else draws["weights"]
    names = [str(name) for name in weights[COVARIANCE].to_numpy()]
    parts = [draws["null_weight"], *[weights.sel({COVARIANCE: name}, drop=True) for name in names], draws["loglik"]]
    drawn = np.stack([part.transpose(CHAIN, DRAW).to_numpy() for part in parts], axis=2)
    eb = np.array([fit.null_weight, *fit.weights.sum(SCALE).sel({COVARIANCE: names}).to_numpy(), fit.loglik])
    flat = drawn.reshape(-1, len(eb))
    mean, fixed = flat.mean(axis=0), np.ptp(flat, axis=0) == 0.0
    lower, upper = np.quantile(flat, [(1 - level) / 2, (1 + level) / 2], axis=0)
    sd = np.where(fixed, 0.0, flat.std(axis=0, ddof=1))
    labelled = xr.DataArray(drawn, dims=(CHAIN, DRAW, QUANTITY))
    with np.errstate(invalid="ignore", divide="ignore"):  # of what does not vary
        mcse = np.where(fixed, 0.0, az.mcse(labelled))
        difference = np.where(fixed, np.nan, (eb - mean) / sd)
    values = {"eb": eb, "mean": mean, "sd": sd, "lower": lower, "upper": upper, "mcse": mcse, "difference": difference}
    kind = ["null weight", *["covariance"] * len(names), "log-likelihood"]
    coords: dict[str, Any] = {QUANTITY: ["null", *names, "loglik"], "kind": (QUANTITY, kind)}
    return xr.Dataset({name: (QUANTITY, value) for name, value in values.items()}, coords)


def _effects(fit: MashFit, bayes: xr.Dataset) -> xr.Dataset:
    """Effects that the draws are of."""
    ours = fit.posterior.sel({EFFECT: bayes[EFFECT]})
    compared = {f"{which}_{name}": one[name] for name in ("mean", "sd", "lfsr")
                for which, one in (("eb", ours), ("bayes", bayes))}  # fmt: skip
    difference = compared["eb_mean"] - compared["bayes_mean"]
    compared["apart"] = (difference / compared["bayes_sd"]).where(compared["bayes_sd"] > 0.0, 0.0)
    return xr.Dataset(compared | {"left_out": bayes["left_out"]})


def _small(fit: MashFit, draws: xr.Dataset) -> tuple[float, float] | None:
    """Weight of the point mass and small scales together, in the fit and on average over draws; None off the grid."""
    if SCALE not in draws["weights"].dims:
        return None
    small = fit.weights[SCALE].to_numpy() < SMALL * float(np.nanmedian(fit.effects().S))
    of_fit = fit.null_weight + float(fit.weights.isel({SCALE: small}).sum())
    of_draws = float((draws["null_weight"] + draws["weights"].isel({SCALE: small}).sum((COVARIANCE, SCALE))).mean())
    return of_fit, of_draws


def _matched(fit: MashFit, tree: xr.DataTree) -> xr.Dataset:
    """The draws, once they are known to be of the fit's data and prior.

    Raises
    ------
    InputError
        As `compare`.
    """
    where, do = "compare", "sample the fit itself: ebmodel.mash.sample(fit)"
    lacking = sorted({"posterior", "effects", "observed_data", "constant_data"} - set(tree.children))
    expect(not lacking, "draws from ebmodel.mash.sample", f"no {listed(lacking)}", where, do)
    given, draws = tree["observed_data"].to_dataset()["bhat"], tree["posterior"].to_dataset()
    ours = fit.posterior["bhat"]
    for dim, word in ((EFFECT, "effects"), (CONDITION, "conditions")):
        same = np.array_equal(ours[dim].to_numpy(), given[dim].to_numpy())
        expect(same, f"a fit and draws of the same {word}", "others", where, do)
    _same(ours, given, "bhat")
    _same(fit.posterior["shat"].where(ours.notnull()), tree["constant_data"].to_dataset()["shat"], "shat")
    names = [{str(name) for name in one[COVARIANCE].to_numpy()} for one in (fit.weights, draws)]
    got = f"{listed(sorted(names[0] ^ names[1]))} in one of them alone"
    expect(names[0] == names[1], "a fit and draws with the same covariances", got, where, do)
    if SCALE in draws.dims:
        same = np.array_equal(fit.weights[SCALE].to_numpy(), draws[SCALE].to_numpy())
        expect(same, "a fit and draws with the same scales", "others", where, do)
    alphas = float(fit.dataset.attrs["alpha"]), float(tree.attrs["alpha"])
    expect(alphas[0] == alphas[1], "a fit and draws with the same alpha", f"{alphas[0]} and {alphas[1]}", where, do)
    return draws


def _same(ours: xr.DataArray, theirs: xr.DataArray, name: str) -> None:
    left, right = ours.to_numpy(), theirs.transpose(*ours.dims).to_numpy()
    size = np.nanmax(np.abs(left), initial=0.0)
    differ = ~np.isclose(left, right, rtol=0.0, atol=SAME * size, equal_nan=True)
    got = f"{int(differ.sum())} of {differ.size} values of {name} that differ"
    expect(not differ.any(), "a fit and draws of the same data", got, "compare", "sample the fit itself")


# Words ----------------------------------------------------------------------------------------------------------------


def findings(comparison: xr.Dataset, small: tuple[float, float] | None = None) -> str:
    """One paragraph on how fit and posterior differ, where, and why.

    Parameters
    ----------
    comparison
        As from `compare`.
    small
        Weight of the point mass and of scales that look like it, in the fit and in the posterior.
    """
    verdict = str(comparison.attrs["verdict"])
    sentences = [] if verdict.startswith("Sound") else [
        f"The draws are not to be trusted as they are, nor is what follows. {verdict}"
    ]  # fmt: skip
    sentences += [*_null(comparison, small), *_covariances(comparison), *_found(comparison), *_widths(comparison)]
    return " ".join(sentences)


def _null(comparison: xr.Dataset, small: tuple[float, float] | None) -> list[str]:
    one = comparison.sel({QUANTITY: "null"})
    eb, lower, upper = (float(one[name]) for name in ("eb", "lower", "upper"))
    where = "below" if eb < lower else "above" if eb > upper else "inside"
    level = f"{100 * comparison.attrs['level']:g} %"
    sentences = [
        f"The point mass has weight {eb:.2f} in the fit and {float(one['mean']):.2f} in the posterior; the fit lies "
        f"{where} the {level} interval, {lower:.2f} to {upper:.2f}."
    ]
    if where != "inside":
        null, size, J = (comparison.attrs[name] for name in ("null_weight", "prior_effects", "effects"))
        sentences.append(
            f"The prior on weights counts for {size:.3g} effects, beside {J} observed, and expects {null / size:.2f} "
            "for the point mass."
        )
    if small is not None and where != "inside":
        nearer = abs(small[0] - small[1]) < 0.5 * abs(eb - float(one["mean"]))
        tail = ": the data hardly tell the two apart, and the prior on weights shares between them" if nearer else ""
        sentences.append(
            f"With scales below {SMALL:g} of the median standard error it has {small[0]:.2f} and {small[1]:.2f}{tail}."
        )
    return sentences


def _covariances(comparison: xr.Dataset) -> list[str]:
    K = comparison.isel({QUANTITY: np.flatnonzero(comparison["kind"] == "covariance")})
    outside = ((K["eb"] < K["lower"]) | (K["eb"] > K["upper"])).to_numpy()
    gap = np.abs(K["eb"].to_numpy() - K["mean"].to_numpy())
    worst = K.isel({QUANTITY: int(gap.argmax())})
    name, eb, mean = worst[QUANTITY].item(), float(worst["eb"]), float(worst["mean"])
    most = f"most apart is {name}, {eb:.2f} in the fit and {mean:.2f} in the posterior"
    inside = len(gap) - int(outside.sum())
    unused = int((K["eb"] < 1e-6).sum())
    none = f"; the fit gives none to {unused} of them, the posterior some to all" if unused else ""
    return [f"Of {len(gap)} covariances, the weights of {inside} lie inside their intervals; {most}{none}."]


def _found(comparison: xr.Dataset) -> list[str]:
    """Estimates, and effects whose sign is told."""
    eb, bayes = (comparison[f"{which}_lfsr"].to_numpy() < SIGNIFICANT for which in ("eb", "bayes"))
    far, total = int((np.abs(comparison["apart"]) > APART).sum()), eb.size
    worst = float(np.abs(comparison["apart"]).max())
    estimates = (
        f"{far} of {total} estimates differ by more than {APART:g} posterior sds, the most by {worst:.1f}."
        if far
        else f"All {total} estimates agree to within {max(worst, 0.01):.2g} posterior sds."
    )
    signs = (
        f"At a local false sign rate of {SIGNIFICANT:g} the fit finds {int(eb.sum())} effects and the posterior "
        f"{int(bayes.sum())}, {int((eb & bayes).sum())} of them in both."
    )
    return [estimates, signs]


def _widths(comparison: xr.Dataset) -> list[str]:
    eb, bayes = (comparison[f"{which}_sd"].to_numpy() for which in ("eb", "bayes"))
    if not bayes.sum() > 0.0:
        return []
    change = float(eb.sum() / bayes.sum() - 1.0)
    size = "as large as" if abs(change) < WIDTH else f"{100 * abs(change):.0f} % {_than(change)} than"
    share = left_out(comparison)
    return [
        f"The fit's sds are, taken together, {size} the posterior's; not knowing the weights is "
        f"{100 * share:.2g} % of the effects' posterior variance."
    ]


def _than(change: float) -> str:
    return "larger" if change > 0.0 else "smaller"


def left_out(comparison: xr.Dataset) -> float:
    """Share of all effects' posterior variance that comes from not knowing the weights."""
    variance: Array = np.square(comparison["bayes_sd"].to_numpy())
    total = float(variance.sum())
    return float((variance * comparison["left_out"].to_numpy()).sum()) / total if total > 0.0 else 0.0
