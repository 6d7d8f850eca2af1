"""Every assumption of the model checked on the data of a fit.

A check is a discrepancy, a number that is large where one assumption fails, and its reference: what it is where all
assumptions hold. The parametric bootstrap draws data from the fitted model, on the same design and with the same
responses missing, fits them as the data were fitted and computes the discrepancy anew; with B such data sets

    p = (1 + #{T_b >= T}) / (B + 1)

is uniform under the model but for what the fitted parameters differ from the true ones. (Drawn data on which a
discrepancy cannot be computed, for nothing is active in them, are left out of its B.)

The plug-in p-value skips the second fit, and needs a fraction of the time: the discrepancy of drawn data is taken at
the parameters that they were drawn with. The data's own parameters were fitted to them, and fit them better than true
ones would, so p-values are too large (conservative) where a fit makes the discrepancy small: two-components,
slab-covariance, exact-spike. Where it is of residuals alone they are the same. But they are no bound: for tissues that
are related and effects that go with sample size, whose pattern a fit sharpens, they can be somewhat too small.

With draws of the full posterior, data are drawn at one of its draws each and fitted by EM: a posterior predictive
p-value of the same discrepancies, to which the uncertainty of the parameters belongs.

Two checks differ. Whether responses are missing at random is judged by shuffling who lacks which tissues; whether
tissues suffice is no hypothesis but a question of design, answered by the drawn data: of what the oracle gains over the
better of least squares and zero, in squared error of effects, how much is given away by estimating the parameters? Its
"p-value" is the share of drawn data in which that is 10 % at most, and its verdict goes by the mean.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from ebmodel.checks.catalogue import CHECKS, DESIGN, MISSING, SHAPE
from ebmodel.checks.missing import missing_by_value
from ebmodel.checks.reference import Replicate, run_batch, values
from ebmodel.checks.value import Value, cannot
from ebmodel.checks.view import View, frame_of
from ebmodel.errors import InputError, expect, listed
from ebmodel.fitting import fit as fit_model
from ebmodel.heteroscedastic import EQUAL
from ebmodel.labels import CHAIN, CHECK, DRAW, REPLICATE, TISSUE
from ebmodel.model import Array, Params
from ebmodel.parallel import spread
from ebmodel.results import Fit
from ebmodel.shape import profile_of

__all__ = ["check"]

LEVEL, CLEAR = 0.05, 0.01
"""Below the first p-value an assumption is doubtful, below the second it fails."""
TOLERABLE, SEVERE = 0.1, 0.5
"""Shares of the oracle's gain that may be lost with little harm, and that make the fit a poor one."""
BATCH = 10
"""Replicates that a worker does before it reports."""
ROUNDING = 1e-9
"""Discrepancies that differ by less, relatively, are tied."""
VERDICTS = "fails", "doubtful", "no sign against it", "not checked"
UNKNOWN, WEAK = "data drawn from the fit do not allow the check", "a weak check"


def check(
    fit: Fit | xr.DataTree,
    checks: Any = None,
    replicates: int = 199,
    refit: bool = True,
    groups: Any = None,
    seed: int = 0,
    jobs: int = 1,
    progress: bool = True,
) -> xr.Dataset:
    """Check every assumption of the model on the data of a fit.

    Parameters
    ----------
    fit
        As from `ebmodel.fit`, or draws as from `ebmodel.sample` (whose data are then fitted by EM too).
    checks
        Names of those to make, of `ebmodel.checks.CHECKS`; all if None.
    replicates
        Data sets drawn from the model for the reference distribution; the least p-value is 1/(replicates + 1).
    refit
        Whether to fit each of them: p-values that are uniform under the model. If not, only the plug-in p-values, most
        of them conservative, in a fraction of the time.
    groups : (tissue,), optional
        Which group of related tissues each belongs to: one label a tissue (matched by name where it has names), or
        ``"names"`` for the first word of their names (``Brain - Cortex``, ``Artery_Aorta``).
    seed
        Of the random numbers. The same seed gives the same result, whatever ``jobs``.
    jobs
        Processes; -1 for all cores.
    progress
        Whether to show a progress bar.

    Returns
    -------
    Dataset (check)
        ``assumption``, with its equation; ``statistic``, what is computed, and ``observed``, its value, nan where it
        cannot be; ``p_value``, calibrated, and ``p_plugin``, mostly conservative; ``reference`` (check, replicate), of
        which ``reference_median`` and ``reference_95`` are quantiles; ``effect``, how large the violation is, and
        ``meaning``, the same in words with its units; ``verdict``, "no sign against it", "doubtful" (p <= 0.05),
        "fails" (p <= 0.01) or "not checked"; ``remedy``. A check that finds nothing, and often misses what it is for,
        says "a weak check" in ``meaning``. Attributes: ``replicates``, how many ``failed`` to be fitted and why
        (``failure``), ``seed``, ``at``, what the reference is.

    Raises
    ------
    InputError
        If a name is not in the catalogue, there are no replicates, no drawn data set could be fitted, or ``fit`` is
        neither a fit nor draws.

    Examples
    --------
    >>> import ebmodel
    >>> gene = ebmodel.simulate.setting(1, rho=0.4, signal=2, m=20, p=4, seed=1)
    >>> found = ebmodel.check(ebmodel.fit(gene.X, gene.Y), replicates=19, refit=False, progress=False)
    >>> found.sel(check="independent-errors").verdict.item()
    'no sign against it'
    """
    names = list(CHECKS) if checks is None else [checks] if isinstance(checks, str) else list(checks)
    unknown = [name for name in names if name not in CHECKS]
    expect(not unknown, f"of {', '.join(CHECKS)}", ", ".join(map(str, unknown)), "checks", "choose from these")
    expect(bool(names), "at least one check", "none", "checks", "leave the default")
    expect(replicates >= 1, "at least 1", replicates, "replicates", "leave the default")
    expect(len(set(names)) == len(names), "each check once", listed(names), "checks", "name it once")
    expect(isinstance(replicates, int | np.integer), "a whole number", replicates, "replicates", "leave the default")
    base, params = _fit_of(fit, replicates, seed)
    drawn, shuffles = np.random.SeedSequence(seed).spawn(2)
    view = View(base, frame_of(base), _groups(base, groups))
    found = values(view, names)
    needed = set(names) - {MISSING}
    done = _draw(view, params, drawn.spawn(replicates), refit, names, jobs, progress) if needed else []
    failures = [replicate.failure for replicate in done if replicate.failure]
    if len(failures) == replicates:
        where = "every data set drawn from the fit"
        raise InputError("data that can be fitted", f"({failures[0]})", where, "see whether the fit is sensible")

    rows = {name: _tested(name, found[name], done, refit) for name in names if name in found}
    if MISSING in names:
        rows[MISSING] = _shuffled(*missing_by_value(view, replicates, shuffles))
    if DESIGN in names:
        rows[DESIGN] = _design(done, refit)
    if rows.get(SHAPE, {}).get("verdict") in VERDICTS[:2]:
        rows[SHAPE]["effect"], rows[SHAPE]["meaning"] = _alpha(base)
    reference = np.array([rows[name].pop("reference") for name in names])
    table = xr.Dataset({key: (CHECK, [rows[name][key] for name in names]) for key in rows[names[0]]}, {CHECK: names})
    table["reference"] = (CHECK, REPLICATE), reference
    table.attrs = {
        "replicates": replicates,
        "failed": len(failures),
        "failure": failures[0] if failures else "",
        "seed": seed,
        "refitted": int(refit),
        "at": "draws of the posterior" if isinstance(fit, xr.DataTree) else "the fitted parameters",
    }
    return table


def _fit_of(fit: Fit | xr.DataTree, size: int, seed: int) -> tuple[Fit, list[Params | None]]:
    """The EM fit, and the parameters to draw data with: its own (None), or those of ``size`` draws of a posterior."""
    if isinstance(fit, Fit):
        return fit, [None] * size
    do = "give what ebmodel.fit or ebmodel.sample returned"
    known = isinstance(fit, xr.DataTree) and {"posterior", "constant_data", "observed_data"} <= set(fit.children)
    known = known and {"slab", "mean"} <= set(fit.attrs)  # as ebmodel.sample says of its model
    expect(known, "a fit or draws of the posterior", type(fit).__name__, "check", do)
    constant, posterior = fit["constant_data"].to_dataset(), fit["posterior"].to_dataset()
    slab = constant["slab_matrix"].to_numpy() if "slab_matrix" in constant else fit.attrs["slab"]
    Y, C = fit["observed_data"]["Y"], constant.get("covariates")
    from ebmodel.bayes.models import CORRELATED  # loads PyMC

    errors = fit.attrs.get("errors", EQUAL)
    do = "check draws with errors='equal', which need not explain them, or 'unequal'"
    expect(errors != CORRELATED, "errors independent over tissues", "draws with correlated errors", "check", do)
    base = fit_model(constant["X"], Y, slab=slab, mean=fit.attrs["mean"], covariates=C, errors=errors)
    total = posterior.sizes[CHAIN] * posterior.sizes[DRAW]
    chosen = np.random.default_rng(seed).choice(total, size, replace=total < size)
    places = zip(*np.unravel_index(chosen, (posterior.sizes[CHAIN], posterior.sizes[DRAW])), strict=True)
    return base, [_params_of(posterior.isel({CHAIN: int(i), DRAW: int(j)}), slab) for i, j in places]


def _params_of(draw: xr.Dataset, slab: Any) -> Params:
    sigma2 = float(draw["sigma2"])
    return Params(
        tau1=float(draw["tau1"]),
        beta=draw["beta"].to_numpy(),
        eta=float(draw["eta"]),
        sigma2=sigma2,
        slab=float(draw["alpha"]) if "alpha" in draw else slab,
        kappa=float(draw["kappa"]) if "kappa" in draw else None,
        relative_variance=(draw["error_variance"] / sigma2).to_numpy() if "error_variance" in draw else None,
    )


def _groups(fit: Fit, groups: Any) -> NDArray[Any] | None:
    """One label a tissue, in the order of the fit."""
    if groups is None:
        return None
    tissues = [str(name) for name in fit.dataset[TISSUE].to_numpy()]
    if isinstance(groups, str):
        expect(groups == "names", "labels, or the word 'names'", repr(groups), "groups", "give one label a tissue")
        return np.array([re.split(r"[\s_\-]+", name)[0] for name in tissues])
    if isinstance(groups, xr.DataArray):
        groups = groups.to_series() if groups.ndim == 1 and groups.indexes else groups.to_numpy()
    if isinstance(groups, Mapping) or (isinstance(groups, pd.Series) and not isinstance(groups.index, pd.RangeIndex)):
        series = pd.Series(groups)
        series.index = series.index.astype(str)
        twice = series.index[series.index.duplicated()]
        expect(len(twice) == 0, "one label a tissue", f"more for {listed(twice)}", "groups", "name each tissue once")
        lacking = [name for name in tissues if name not in series.index]
        expect(not lacking, "a label for every tissue", f"none for {listed(lacking)}", "groups", "name their group")
        return series.loc[tissues].astype(str).to_numpy()
    labels = np.asarray(groups)
    expect(labels.shape == (len(tissues),), f"{len(tissues)} labels", f"{labels.shape}", "groups", "one a tissue")
    return labels.astype(str)


def _draw(
    view: View,
    params: list[Params | None],
    streams: list[np.random.SeedSequence],
    refit: bool,
    names: Sequence[str],
    jobs: int,
    progress: bool,
) -> list[Replicate]:
    batches = [slice(i, i + BATCH) for i in range(0, len(params), BATCH)]
    tasks = [(view.fit, params[batch], streams[batch], refit, view.groups, names) for batch in batches]
    done = spread(run_batch, tasks, jobs=jobs, title="checks", progress=progress, size=len, total=len(params))
    return [replicate for batch in done for replicate in batch]


def _tested(name: str, value: Value, done: list[Replicate], refit: bool) -> dict[str, Any]:
    """One check's row: where its value lies among those of drawn data."""
    known = np.array([replicate.known[name] for replicate in done])
    refitted = np.array([replicate.refitted.get(name, np.nan) for replicate in done])
    fitted = np.array([not replicate.failure for replicate in done])
    p_value = _p_value(value.statistic, refitted[fitted]) if refit else np.nan
    p_plugin = _p_value(value.statistic, known)
    return _row(name, value, refitted if refit else known, p_value, p_plugin, refit=refit)


def _shuffled(value: Value, reference: Array) -> dict[str, Any]:
    p_value = _p_value(value.statistic, reference)
    return _row(MISSING, value, reference, p_value, p_value)


def _design(done: list[Replicate], refit: bool) -> dict[str, Any]:
    """How much of what the oracle gains over least squares and zero is lost by fitting drawn data's parameters."""
    if not refit:
        return _row(DESIGN, cannot("needs refit=True"), np.full(len(done), np.nan), np.nan, np.nan)
    losses = np.array([replicate.losses for replicate in done])
    oracle, *trivial = np.nansum(losses, axis=0)[1:]
    gain = (min(trivial) - oracle) / np.isfinite(losses[:, 0]).sum()
    if not gain > 0.0:
        why = "nothing is active in data drawn from the fit"
        return _row(DESIGN, cannot(why), np.full(len(done), np.nan), np.nan, np.nan)
    lost = (losses[:, 0] - losses[:, 1]) / gain
    mean = float(np.nanmean(lost))
    words = "estimating the parameters gives away {} % of what the oracle gains over least squares or zero"
    row = _row(DESIGN, Value(mean, 100.0 * mean, words), lost, _p_value(-TOLERABLE, -lost), np.nan)
    verdict = VERDICTS[0] if mean > SEVERE else VERDICTS[1] if mean > TOLERABLE else VERDICTS[2]
    return row | {"verdict": verdict, "remedy": CHECKS[DESIGN].remedy if mean > TOLERABLE else ""}


def _alpha(fit: Fit) -> tuple[float, str]:
    """The alpha that the data prefer, less the fit's, and in words with its interval."""
    profile = profile_of(fit)
    low, high = profile.attrs["range"]
    lower, upper = float(profile["lower"].fillna(low)), float(profile["upper"].fillna(high))
    best = float(profile["estimate"])
    words = f"alpha = {best:.2f} (95 % interval {lower:.2f} to {upper:.2f}) in place of {fit.params.alpha:g}"
    return best - fit.params.alpha, words


def _p_value(observed: float, reference: Array) -> float:
    """(1 + #{T_b >= T}) / (B + 1), over the drawn data sets on which the discrepancy can be computed."""
    reference = reference[np.isfinite(reference)]
    if not np.isfinite(observed) or len(reference) == 0:
        return np.nan
    ties = observed - ROUNDING * abs(observed)  # the same sum, in another order
    return float((1 + np.sum(reference >= ties)) / (1 + len(reference)))


def _row(
    name: str, value: Value, reference: Array, p_value: float, p_plugin: float, *, refit: bool = True
) -> dict[str, Any]:
    made = CHECKS[name]
    p = p_value if refit else p_plugin
    verdict = VERDICTS[3] if np.isnan(p) else VERDICTS[0] if p <= CLEAR else VERDICTS[1] if p <= LEVEL else VERDICTS[2]
    finite = reference[np.isfinite(reference)]
    notes = [UNKNOWN] if np.isfinite(value.statistic) and not len(finite) else []
    notes += [WEAK] if made.weak and verdict == VERDICTS[2] else []
    return {
        "assumption": made.assumption,
        "statistic": made.statistic,
        "observed": value.statistic,
        "reference_median": float(np.median(finite)) if len(finite) else np.nan,
        "reference_95": float(np.quantile(finite, 1.0 - LEVEL)) if len(finite) else np.nan,
        "p_value": p_value,
        "p_plugin": p_plugin,
        "effect": value.effect,
        "meaning": "; ".join([value.sentence, *notes]),
        "verdict": verdict,
        "remedy": made.remedy if verdict in VERDICTS[:2] else "",
        "reference": reference,
    }
