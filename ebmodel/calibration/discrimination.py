"""Do probabilities order tissues as the truth does? That needs no calibration: only their ranks count.

With n1 active tissues, n0 inactive ones and ranks from 1 for the least, ties sharing their mean (Mann & Whitney 1947),

    AUC = (sum_{t: I(t)=1} rank(t) - n1 (n1 + 1) / 2) / (n1 n0)

is the area under the curve of true against false positives, the paper's Section 6.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.stats import rankdata

from ebmodel.errors import expect

__all__ = ["auc"]


def auc(score: Any, active: Any) -> float:
    """Chance that an active tissue scores above an inactive one, ties counted half.

    Parameters
    ----------
    score : (tissue,)
        P(I(t)=1 | Y), or what increases with it. Tissues of many genes may stand side by side.
    active : (tissue,)
        The truth I(t).

    Returns
    -------
    float
        Nan if all tissues are active or none is, or a score is nan.

    Raises
    ------
    InputError
        If there are not as many truths as scores, or a truth is not 0 or 1.

    Examples
    --------
    >>> auc([0.9, 0.4, 0.5, 0.1], [1, 1, 0, 0])
    0.75
    """
    values, truth = np.asarray(score, dtype=float), np.asarray(active)
    got = f"{truth.shape} for {values.shape}"
    expect(values.ndim == 1 and truth.shape == values.shape, "a truth for every score", got, "active", "give I(t)")
    known = truth.dtype == bool or bool(np.isin(truth, (0, 1)).all())
    expect(known, "0 or 1, or False or True", "something else", "active", "give I(t)")
    truth = truth.astype(bool)
    n1, n0 = int(truth.sum()), int((~truth).sum())
    return float((rankdata(values)[truth].sum() - n1 * (n1 + 1) / 2) / (n1 * n0)) if n1 and n0 else float("nan")
