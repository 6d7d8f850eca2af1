"""How good an estimate is, given the truth: the paper's MSE and AUC (Section 6)."""

from __future__ import annotations

import numpy as np
from scipy.stats import rankdata


def mse(estimate: np.ndarray, truth: np.ndarray) -> float:
    """(1/pm) sum_t |estimate(t) - beta(t)|^2, the paper's Section 6."""
    return float(np.mean((estimate - truth) ** 2))


def auc(score: np.ndarray, active: np.ndarray) -> float:
    """Chance that an active tissue scores above an inactive one, ties counted half (Mann-Whitney); nan if all alike."""
    n1, n0 = active.sum(), (~active).sum()
    return float((rankdata(score)[active].sum() - n1 * (n1 + 1) / 2) / (n1 * n0)) if n1 and n0 else float("nan")
