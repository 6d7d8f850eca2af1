"""How much the posterior leans on its priors: power-scaling sensitivity (Kallioinen et al. 2024), from the draws alone.

A component of the model, a prior p(theta_j) or the likelihood p(Y | theta), is raised to a power a near 1,

    p_a(theta | Y)  ~  p(theta_j)^a  prod_{k != j} p(theta_k)  p(Y | theta)

by importance weights p(theta_j)^(a-1) on the draws. With D(a) the cumulative Jensen-Shannon distance between the
posterior of a quantity and the one so perturbed, its sensitivity to the component is dD/d log2 a at a = 1: 0.05 is
about what moving a normal posterior by 0.3 of its sd at a doubling of a gives. The index says whether a quantity moves;
the shift says how far, in the quantity's units, and is exact but for Monte-Carlo error:

    d E_a(q | Y) / d log2 a = log 2 Cov(q, log p | Y)

The index has no units: a probability that goes from 10^-9 to 2 10^-9, or an effect that is 0 in all draws but one,
moves by it as much as any other. Probabilities and effects therefore count as sensitive only if they also move
materially.

A prior that is uniform on the version of the parameter that it was put on stays itself under any power: this analysis
is blind to it, which is no sign that it does not matter.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import arviz as az
import numpy as np
import pandas as pd
import xarray as xr

from ebmodel.errors import expect, listed
from ebmodel.labels import CHAIN, DRAW, QUANTITY, SNP, TISSUE
from ebmodel.model import Array

__all__ = ["QUANTITIES", "sensitivity", "table"]

QUANTITIES = {
    "tau1": "hyperparameter",
    "eta": "hyperparameter",
    "sigma2": "hyperparameter",
    "alpha": "hyperparameter",
    "kappa": "hyperparameter",
    "beta": "mean effect",
    "probability": "probability",
    "active": "probability",
    "effects": "effect",
}
"""What can be looked at, and of which kind it is."""
THRESHOLD = 0.05
"""Of the index, as its authors suggest."""
MATERIAL = 0.01
"""A probability that moves by less, or an effect by less than this share of the effects' root mean square, when the
priors' power is doubled is not worth a word, whatever the index."""
POWERS = (0.99, 1.01)
CONFLICT = "potential prior-data conflict"
STRONG = "strong prior / weak likelihood"
FINE = "no sign of sensitivity"
STILL = "does not vary"


def sensitivity(tree: xr.DataTree, quantities: Sequence[str] | None = None, threshold: float = THRESHOLD) -> xr.Dataset:
    """Ask which priors the posterior leans on, and which quantities.

    Parameters
    ----------
    tree
        As from `ebmodel.sample`, with its groups ``posterior``, ``log_prior`` and ``log_likelihood``.
    quantities
        Names of ``posterior``'s variables; all that `ebmodel.sample` gives if None (``probability`` for ``active``).
        Leaving out ``effects``, one for every SNP in every tissue, saves most of the time.
    threshold
        An index above it is sensitivity.

    Returns
    -------
    Dataset (quantity)
        Quantities ``tau1``, ``eta``, ``sigma2``, ``alpha``, ``kappa``, ``beta[snp]``, ``P(I=1)[tissue]`` and
        ``effect[tissue, snp]``; coordinates ``kind`` (hyperparameter, mean effect, probability or effect), ``tissue``
        and ``snp``.

        ``prior`` and ``likelihood``, the indices for all priors together and for the likelihood; ``prior_<name>`` for
        every single prior (named as in `ebmodel.bayes.Priors`); ``leading``, the prior with the largest, '' if none
        exceeds the threshold. ``shift`` and ``shift_<name>``, the change of the posterior mean, in the quantity's
        units, as the prior's power is doubled, to first order. ``mean`` and ``sd`` of the posterior. ``diagnosis``:
        "potential prior-data conflict" (prior and likelihood both matter, and pull differently), "strong prior / weak
        likelihood", "no sign of sensitivity", or "does not vary". A probability counts as sensitive only if its shift
        exceeds 0.01 too, an effect if its mean or sd shifts by 1 % of the effects' root mean square.

        Attributes ``threshold``; ``priors``; ``blind``, the priors that no power changes; ``pareto_k``, the largest of
        the importance weights'; ``warning``, '' or why the numbers are not to be relied on; ``findings``, a paragraph.

    Raises
    ------
    InputError
        If a group is missing, there is no such quantity, or ``threshold`` is not positive.

    Notes
    -----
    In the marginal form the likelihood is p(y_t | hyperparameters); I(t) and beta(t) follow the hyperparameters. In
    the latent form it is p(y_t | beta(t), sigma2). A conflict is no error: a prior that is meant to inform should
    matter. The indices come from `arviz_stats.psense`; ``az.plot_psense_dist(tree)`` shows the perturbed posteriors.

    Sources: Kallioinen, Paananen, Buerkner & Vehtari (2024), Statistics and Computing 34, 57.

    Examples
    --------
    ::

        tree = ebmodel.sample(X, Y, priors=WEAK.with_(tau1=Prior("Beta", alpha=1, beta=50)))
        found = ebmodel.sensitivity(tree)
        print(found.attrs["findings"])
        ebmodel.bayes.sensitivity.table(found)
    """
    expect(threshold > 0.0, "a number > 0", threshold, "threshold", "leave the default")
    _check_groups(tree)
    drawn, kind = _drawn(tree["posterior"].to_dataset(), quantities)
    log_prior = _by_draw(tree["log_prior"].to_dataset())
    log_likelihood = _by_draw(tree["log_likelihood"].to_dataset()[["Y"]])["Y"]
    blind = [str(name) for name, lp in log_prior.items() if _still(lp)]
    seen = [str(name) for name in log_prior if name not in blind]
    parts = {"prior": seen, **{f"prior_{name}": [name] for name in seen}}
    ready = xr.DataTree.from_dict({"posterior": drawn.to_dataset(name="x"), "log_prior": xr.Dataset(log_prior),
                                   "log_likelihood": log_likelihood.to_dataset(name="Y")})  # fmt: skip
    columns = {part: _index(ready, "prior", names) for part, names in parts.items()}
    columns |= {f"prior_{name}": np.zeros(drawn.sizes[QUANTITY]) for name in blind}
    columns["likelihood"] = _index(ready, "likelihood", ["Y"])
    shifts = {name: _shift(drawn, log_prior[name]) for name in log_prior}
    columns["shift"] = np.sum(list(shifts.values()), axis=0)
    columns |= {f"shift_{name}": shift for name, shift in shifts.items()}
    columns |= {"mean": drawn.mean((CHAIN, DRAW)).to_numpy(), "sd": drawn.std((CHAIN, DRAW), ddof=1).to_numpy()}
    coords = drawn.drop_vars([CHAIN, DRAW]).coords
    result = xr.Dataset({name: (QUANTITY, values) for name, values in columns.items()}, coords)
    result = result.assign_coords(kind=(QUANTITY, kind))
    single = np.array([columns[f"prior_{name}"] for name in log_prior])
    leading = np.array([*log_prior])[single.argmax(axis=0)]
    result["leading"] = QUANTITY, np.where(single.max(axis=0) >= threshold, leading, "")
    summed = sum(log_prior.values(), start=xr.zeros_like(log_likelihood))
    result["diagnosis"] = QUANTITY, _diagnoses(result, _material(drawn, kind, summed), threshold)
    k = max(_pareto_k(density) for density in (*log_prior.values(), summed, log_likelihood))
    result.attrs = {
        "threshold": threshold,
        "priors": str(tree.attrs.get("priors", "")),
        "blind": blind,
        "pareto_k": k,
        "warning": _warning(k, drawn.sizes[CHAIN] * drawn.sizes[DRAW], str(tree.attrs.get("verdict", ""))),
    }
    result.attrs["findings"] = _findings(result)
    return result


def table(found: xr.Dataset, digits: int = 3) -> pd.DataFrame:
    """The result of `sensitivity` as a table to read: what is flagged first, hyperparameters first among equals.

    Parameters
    ----------
    found
        As from `sensitivity`.
    digits
        Decimals of the indices.

    Returns
    -------
    DataFrame
        A row a quantity: the indices, the leading prior, the posterior mean and sd, the shift and the diagnosis.
    """
    columns = ["prior", *(str(name) for name in found if str(name).startswith("prior_")), "likelihood"]
    ordered = found.isel({QUANTITY: _hyperparameters_first(found)})
    shown = [*columns, "leading", "mean", "sd", "shift", "diagnosis"]
    frame: pd.DataFrame = ordered[shown].to_dataframe()[shown]
    frame[columns] = frame[columns].round(digits)
    flagged = frame["diagnosis"].isin([CONFLICT, STRONG])
    return pd.concat([frame[flagged], frame[~flagged]])


# Draws and components ------------------------------------------------------------------------------------------------


def _check_groups(tree: xr.DataTree) -> None:
    wanted = {"posterior": "", "log_prior": "", "log_likelihood": "Y"}
    lost = [name for name, variable in wanted.items()
            if name not in tree.children or (variable and variable not in tree[name].data_vars)]  # fmt: skip
    do = "sample with ebmodel.sample, and keep all of its groups"
    expect(not lost, "draws with posterior, log_prior and log_likelihood", f"none of {listed(lost)}", "sensitivity", do)
    expect(len(tree["log_prior"].data_vars) > 0, "at least one prior", "an empty log_prior", "sensitivity", do)


def _drawn(posterior: xr.Dataset, names: Sequence[str] | None) -> tuple[xr.DataArray, list[str]]:
    """Draws (chain, draw, quantity) of what is looked at, and the kinds."""
    known = [name for name in QUANTITIES if name in posterior]
    if names is None:
        names = [name for name in known if not (name == "active" and "probability" in known)]
    strange = [name for name in names if name not in known]
    do = f"choose of {listed(known, len(known))}"
    expect(not strange and len(names) > 0, "quantities that were drawn", listed(strange) or "none", "quantities", do)
    pieces: list[Array] = []
    rows: list[tuple[str, str, str, str]] = []
    for name in names:
        dims = [dim for dim in (TISSUE, SNP) if dim in posterior[name].dims]
        values = posterior[name].transpose(CHAIN, DRAW, *dims).to_numpy()
        pieces.append(values.reshape(*values.shape[:2], -1).astype(float))
        label = {"probability": "P(I=1)", "active": "P(I=1)", "effects": "effect"}.get(name, name)
        for place in np.ndindex(*values.shape[2:]):
            at = {dim: str(posterior[dim].to_numpy()[i]) for dim, i in zip(dims, place, strict=True)}
            inside = f"[{', '.join(at.values())}]" if at else ""
            rows.append((QUANTITIES[name], label + inside, at.get(TISSUE, ""), at.get(SNP, "")))
    kind, labels, tissue, snp = ([row[k] for row in rows] for k in range(4))
    coords: dict[str, Any] = {QUANTITY: labels, TISSUE: (QUANTITY, tissue), SNP: (QUANTITY, snp)}
    coords |= {CHAIN: posterior[CHAIN], DRAW: posterior[DRAW]}
    return xr.DataArray(np.concatenate(pieces, axis=2), coords, (CHAIN, DRAW, QUANTITY)), kind


def _by_draw(densities: xr.Dataset) -> dict[str, xr.DataArray]:
    """Log densities summed over all dimensions but chains and draws."""
    return {
        str(name): density.sum([dim for dim in density.dims if dim not in {CHAIN, DRAW}]).reset_coords(drop=True)
        for name, density in densities.items()
    }


def _still(values: xr.DataArray) -> bool:
    return bool(np.ptp(values.to_numpy()) <= 1e-12 * (1.0 + np.abs(values.to_numpy()).max()))


# Indices -------------------------------------------------------------------------------------------------------------


def _index(tree: xr.DataTree, group: str, names: list[str]) -> Array:
    """The power-scaling index of every quantity, nan for one that does not vary."""
    x = tree["posterior"].to_dataset()["x"]
    if not names:
        return np.zeros(x.sizes[QUANTITY])
    with np.errstate(invalid="ignore", divide="ignore"):  # of quantities that do not vary
        index = az.psense(tree, var_names="x", group=group, group_var_names=names, alphas=POWERS)["x"].to_numpy()
    moves = np.ptp(x.to_numpy(), axis=(0, 1)) > 0.0
    return np.where(moves, index, np.nan)


def _shift(drawn: xr.DataArray, log_density: xr.DataArray) -> Array:
    """d E_a(q | Y) / d log2 a = log 2 Cov(q, log p | Y), (quantity,)."""
    q = drawn.to_numpy().reshape(-1, drawn.sizes[QUANTITY])
    lp = log_density.transpose(CHAIN, DRAW).to_numpy().ravel()
    return np.asarray(np.log(2.0) * (lp - lp.mean()) @ (q - q.mean(axis=0)) / (len(lp) - 1))


def _material(drawn: xr.DataArray, kind: list[str], log_prior: xr.DataArray) -> Any:
    """Whether a quantity moves enough to matter when the priors' power is doubled, (quantity,)."""
    kinds, away = np.array(kind), (drawn - drawn.mean((CHAIN, DRAW))) ** 2
    sd = np.sqrt(away.mean((CHAIN, DRAW)).to_numpy())
    wider = np.divide(_shift(away, log_prior), 2.0 * sd, out=np.zeros_like(sd), where=sd > 0.0)  # of the sd
    further = _shift(drawn, log_prior)
    effects = drawn.to_numpy()[..., kinds == "effect"]
    size = float(np.sqrt(np.mean(effects**2))) if effects.size else 0.0
    moved = np.where(kinds == "effect", np.maximum(np.abs(further), np.abs(wider)), np.abs(further))
    least = np.select([kinds == "probability", kinds == "effect"], [MATERIAL, MATERIAL * size], -1.0)
    return moved > least


def _pareto_k(log_density: xr.DataArray) -> float:
    """The larger shape of the importance weights p^(a-1) over both powers: above 0.7 their mean is not to be relied on.

    `psislw` takes minus the log ratios.
    """
    if _still(log_density):
        return -np.inf
    return max(float(((1.0 - a) * log_density).azstats.psislw(dim=[CHAIN, DRAW])[1]) for a in POWERS)


# Words ---------------------------------------------------------------------------------------------------------------


def _diagnoses(result: xr.Dataset, material: Any, threshold: float) -> Any:
    prior, likelihood = result["prior"].to_numpy(), result["likelihood"].to_numpy()
    sensitive = (prior >= threshold) & material.astype(bool)
    cases = [np.isnan(likelihood), np.logical_not(sensitive), likelihood >= threshold]
    return np.select(cases, [STILL, FINE, CONFLICT], STRONG)


def _warning(k: float, draws: int, verdict: str) -> str:
    """Why not to rely on the numbers, '' if there is no reason."""
    warnings = []
    limit = min(1.0 - 1.0 / np.log10(max(draws, 11)), 0.7)
    if not k <= limit:
        warnings.append(
            f"the importance weights' Pareto k is {k:.2f} (it should be below {limit:.2f}): even a small change of "
            "power needs draws that are not there; draw more, or sample again under other priors and compare"
        )
    if verdict.startswith("Not sound"):
        warnings.append(f"the draws themselves are not to be relied on ({verdict})")
    return "; ".join(warnings)


def _hyperparameters_first(rows: xr.Dataset) -> Any:
    order = list(dict.fromkeys(QUANTITIES.values()))
    return np.lexsort((-rows["prior"].to_numpy(), np.array([order.index(kind) for kind in rows["kind"].to_numpy()])))


def _findings(result: xr.Dataset) -> str:
    """One paragraph: what is sensitive, to which prior, and what the analysis cannot see."""
    sentences = []
    for words in (CONFLICT, STRONG):
        rows = result.isel({QUANTITY: np.flatnonzero(result["diagnosis"] == words)})
        if not rows.sizes[QUANTITY]:
            continue
        rows = rows.isel({QUANTITY: _hyperparameters_first(rows)})
        names = listed(rows[QUANTITY].to_numpy())
        leading = sorted({str(name) for name in rows["leading"].to_numpy()} - {""})
        on = f" (above all to the prior on {' and '.join(leading)})" if leading else ""
        sentences.append(f"{words[0].upper()}{words[1:]} for {names}{on}.")
    if not sentences:
        sentences.append("No quantity is sensitive to the power of its priors.")
    else:
        flagged = result.isel({QUANTITY: np.flatnonzero(result["diagnosis"].isin([CONFLICT, STRONG]))})
        worst = flagged.isel({QUANTITY: int(flagged["prior"].to_numpy().argmax())})
        sentences.append(
            f"Most sensitive is {worst[QUANTITY].item()}: index {float(worst['prior']):.2f}; doubling the priors' "
            f"power moves its mean of {float(worst['mean']):.3g} by about {float(worst['shift']):.2g} (posterior sd "
            f"{float(worst['sd']):.2g})."
        )
    if result.attrs["blind"]:
        many = len(result.attrs["blind"]) > 1
        sentences.append(
            f"The prior{'s' * many} on {' and '.join(result.attrs['blind'])} {'are' if many else 'is'} uniform, which "
            "no power changes: to see what it does, sample again under another."
        )
    if result.attrs["warning"]:
        sentences.append(f"Not to be relied on: {result.attrs['warning']}.")
    return " ".join(sentences)
