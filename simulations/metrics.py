"""How good an estimate is, given the truth: the paper's MSE and AUC (Section 6), and what they leave out.

`mse` and `auc` compare arrays. A metric of a study compares an `Estimate` with the data set it came from and gives a
number, or a mapping of several, whose names stand beside those of all other metrics; nan where it does not apply. To
add one, write such a function at the top level of a module and put it into the study's dict.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.special import xlogy

from ebmodel.calibration import auc
from simulations.estimators import Estimate

__all__ = [
    "METRICS",
    "Metric",
    "activity_auc",
    "auc",
    "brier",
    "calibration",
    "called",
    "coverage",
    "effects_mse",
    "effects_mse_active",
    "effects_mse_inactive",
    "facts",
    "fdr",
    "log_score",
    "mse",
]

type Metric = Callable[[Estimate, xr.Dataset], float | Mapping[str, float]]


def mse(estimate: np.ndarray, truth: np.ndarray) -> float:
    """(1/pm) sum_t |estimate(t) - beta(t)|^2, the paper's Section 6."""
    return float(np.mean((estimate - truth) ** 2))


# Of the effects ------------------------------------------------------------------------------------------------------


def effects_mse(estimate: Estimate, data: xr.Dataset) -> float:
    """MSE of the effects of all tissues; nan if any has no estimate (least squares with n_t < p)."""
    return mse(estimate.effects, data["effects"].to_numpy())


def effects_mse_active(estimate: Estimate, data: xr.Dataset) -> float:
    """MSE of the effects of active tissues; nan if there are none."""
    return _mse_among(data["active"].to_numpy(), estimate, data)


def effects_mse_inactive(estimate: Estimate, data: xr.Dataset) -> float:
    """MSE of the effects of inactive tissues, which are zero; nan if there are none."""
    return _mse_among(~data["active"].to_numpy(), estimate, data)


def _mse_among(tissues: NDArray[np.bool_], estimate: Estimate, data: xr.Dataset) -> float:
    truth = data["effects"].to_numpy()
    return mse(estimate.effects[tissues], truth[tissues]) if tissues.any() else np.nan


def coverage(estimate: Estimate, data: xr.Dataset) -> dict[str, float]:
    """Share of effects in their 95 % intervals, among all and among active tissues, and the intervals' mean width.

    Nobody promises 95 % among active tissues alone: a posterior's intervals hold what they claim on average over I(t).
    """
    if estimate.interval is None or np.isnan(estimate.interval).any():
        return dict.fromkeys(("coverage", "coverage_active", "width"), np.nan)
    (lower, upper), truth, active = estimate.interval, data["effects"].to_numpy(), data["active"].to_numpy()
    covered = (lower <= truth) & (truth <= upper)
    return {
        "coverage": float(covered.mean()),
        "coverage_active": float(covered[active].mean()) if active.any() else np.nan,
        "width": float(np.mean(upper - lower)),
    }


# Of P(I(t)=1 | Y) ----------------------------------------------------------------------------------------------------


def activity_auc(estimate: Estimate, data: xr.Dataset) -> float:
    """AUC of P(I(t)=1 | Y) for I(t), the paper's Section 6; nan without probabilities, or if all tissues are alike."""
    return np.nan if estimate.probability is None else auc(estimate.probability, data["active"].to_numpy())


def brier(estimate: Estimate, data: xr.Dataset) -> float:
    """(1/m) sum_t (P(I(t)=1 | Y) - I(t))^2; nan without probabilities."""
    return np.nan if estimate.probability is None else mse(estimate.probability, data["active"].to_numpy())


def log_score(estimate: Estimate, data: xr.Dataset) -> float:
    """-(1/m) sum_t log P(I(t) as it is | Y), the lower the better; nan without probabilities.

    Not among `METRICS`, for its mean over data sets is infinite as soon as one probability of 0 or 1 is wrong.
    """
    if estimate.probability is None:
        return np.nan
    I, h = data["active"].to_numpy(), estimate.probability
    return float(-np.mean(xlogy(I, h) + xlogy(~I, 1 - h)))


BINS = 10


def calibration(estimate: Estimate, data: xr.Dataset) -> dict[str, float]:
    """For tissues with P(I=1) in [0, 0.1), ..., [0.9, 1]: how many, the sum of their P(I=1), how many are active.

    Summed over data sets, ``bin_active_k / bin_count_k`` against ``bin_sum_k / bin_count_k``, k = 1, ..., 10, is the
    reliability curve: the diagonal, if the probabilities mean what they say.
    """
    h, active = estimate.probability, data["active"].to_numpy()
    if h is None:
        sums = dict.fromkeys(("count", "sum", "active"), np.full(BINS, np.nan))
    else:
        which = np.minimum((BINS * h).astype(int), BINS - 1)
        weights = {"count": np.ones_like(h), "sum": h, "active": active}
        sums = {name: np.bincount(which, weight, BINS) for name, weight in weights.items()}
    return {f"bin_{name}_{k}": float(value) for name, values in sums.items() for k, value in enumerate(values, start=1)}


FDR_LEVELS = (0.01, 0.05, 0.1, 0.2)


def fdr(estimate: Estimate, data: xr.Dataset) -> dict[str, float]:
    """Realised share of false calls and power, when tissues are `called` at each nominal false discovery rate.

    ``fdp_0.05`` is the share of inactive tissues among those called at 0.05, 0 where none is called, so that its mean
    over data sets is the false discovery rate; ``power_0.05`` is the share of active tissues that are called.
    """
    names = [f"{name}_{level:g}" for level in FDR_LEVELS for name in ("fdp", "power")]
    if estimate.probability is None:
        return dict.fromkeys(names, np.nan)
    active = data["active"].to_numpy()
    found = []
    for level in FDR_LEVELS:
        chosen = called(estimate.probability, level)
        found.append((chosen & ~active).sum() / max(chosen.sum(), 1))
        found.append((chosen & active).sum() / active.sum() if active.any() else np.nan)
    return dict(zip(names, map(float, found), strict=True))


def called(probability: np.ndarray, level: float) -> NDArray[np.bool_]:
    """The largest set of tissues P(I=1) >= c in which the mean of 1 - P(I=1) is at most ``level``, (tissue,).

    That mean is the false discovery rate to be expected by the probabilities' own account. Tissues with equal
    probabilities are called together or not at all.
    """
    thresholds = np.unique(probability)
    allowed = [c for c in thresholds if np.mean(1 - probability[probability >= c]) <= level]
    return probability >= min(allowed, default=np.inf)


def facts(estimate: Estimate, data: xr.Dataset) -> Mapping[str, float]:  # noqa: ARG001
    """Pass on what the estimator has to say of itself."""
    return estimate.facts


METRICS: dict[str, Metric] = {
    "mse": effects_mse,
    "mse_active": effects_mse_active,
    "mse_inactive": effects_mse_inactive,
    "auc": activity_auc,
    "brier": brier,
    "calibration": calibration,
    "fdr": fdr,
    "coverage": coverage,
    "facts": facts,
}
"""Every metric by name."""
