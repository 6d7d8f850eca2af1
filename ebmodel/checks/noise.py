"""Discrepancies of equation (1): the mean is linear, errors are normal, of one variance, independent over tissues.

All but the first are of least-squares residuals alone and do not depend on the prior of the effects.
"""

from __future__ import annotations

import numpy as np

from ebmodel.checks.value import Value, cannot
from ebmodel.checks.view import View
from ebmodel.data import NEGLIGIBLE
from ebmodel.model import Array
from ebmodel.residuals import correlation

__all__ = ["correlated_errors", "curvature", "not_normal", "unequal_variances"]

NO_RESIDUALS = "no tissue has more samples than SNPs and covariates: nothing is left to see errors by"


def curvature(view: View) -> Value:
    """Whether residuals rise with the square of what the SNPs predict (Ramsey's RESET, pooled over active tissues).

    With u_t = X E(beta(t) | Y, I(t)=1) and w_t what the design and a constant leave of u_t^2/sd(u_t), the curvature
    is estimated by c = sum h_t w_t'e_t / sum h_t w_t'w_t: Y(t) = u + c (u^2 - mean)/sd(u) + error. The statistic is
    |c| in standard errors.
    """
    frame, s2 = view.frame, view.s2
    X = view.fit.dataset["X"].to_numpy()
    up = down = variance = 0.0
    for t in np.flatnonzero((view.h > NEGLIGIBLE) & (frame.dof > 1)):
        rows = frame.observed[:, t]
        u = X[rows] @ view.slab_effects[t]
        if np.std(u) <= NEGLIGIBLE * np.sqrt(s2[t]):
            continue
        w = _beside(frame.bases[t][rows], (u - u.mean()) ** 2 / np.std(u))
        e, h = view.E[rows, t], view.h[t]
        up, down, variance = up + h * (w @ e), down + h * (w @ w), variance + h**2 * (w @ w) * s2[t]
    if variance == 0.0:
        return cannot("no active tissue with residuals, or its genetic part cannot be squared (two genotypes)")
    return Value(abs(up) / np.sqrt(variance), up / down, "a genetic effect of one sd is off the straight line by {} sd")


def _beside(Q: Array, w: Array) -> Array:
    """What the columns of Q, a constant, leave of w; 0 if nothing but rounding error."""
    one = np.ones(len(w)) - Q @ (Q.T @ np.ones(len(w)))
    rest = w - Q @ (Q.T @ w)
    if one @ one > NEGLIGIBLE * len(w):
        rest -= one * (one @ rest) / (one @ one)
    return rest if rest @ rest > NEGLIGIBLE**2 * (w @ w) else np.zeros_like(w)


def not_normal(view: View) -> Value:
    """Skewness and excess kurtosis of residuals, each by its own tissue's sd: N (g1^2/6 + g2^2/24) (Jarque & Bera)."""
    r = _standardised(view)
    if r.size == 0:
        return cannot(NO_RESIDUALS)
    skewness, excess = np.mean(r**3), np.mean(r**4) - 3.0
    words = f"excess kurtosis {{}}, skewness {skewness:.2f}"
    if excess > 0.0:
        words += f": tails of a t with about {4.0 + 6.0 / excess:.0f} degrees of freedom"
    return Value(r.size * (skewness**2 / 6.0 + excess**2 / 24.0), excess, words)


def _standardised(view: View) -> Array:
    """e_i(t) / sqrt(s_t^2 (1 - H_t,ii)) of tissues with enough degrees of freedom, (residual,)."""
    frame, enough = view.frame, view.frame.dof >= ENOUGH
    seen = frame.observed & enough & (frame.leverage < ALL)
    with np.errstate(invalid="ignore", divide="ignore"):
        r = view.E / np.sqrt(view.s2 * (1.0 - frame.leverage))
    return np.asarray(r[seen & np.isfinite(r)])


ALL = 1.0 - 1e-6
"""Leverage of a sample that its tissue's fit goes through: it has no residual."""
ENOUGH = 3
"""Degrees of freedom that a tissue's own residual variance needs to be of use."""


def unequal_variances(view: View) -> Value:
    """Sizes of residuals compared between tissues: the F statistic of |r| (Levene).

    r_i(t) = e_i(t)/(1 - H_t,ii)^(1/2) has one variance for all samples. Absolute values, not squares, keep heavy tails,
    which make every variance more variable, from passing for unequal variances. Tissues whose errors have one variance
    but tails of different weight differ in it as well; the effect, which is of variances, is then about 0.
    """
    frame, relative = view.frame, _relative(view)
    s2 = view.s2 / relative
    use = np.flatnonzero((frame.dof >= ENOUGH) & (s2 > 0.0))
    if len(use) < 2:
        return cannot("fewer than two tissues have a residual variance")
    with np.errstate(invalid="ignore", divide="ignore"):
        size = np.where(frame.leverage < ALL, np.abs(view.E) / np.sqrt((1.0 - frame.leverage) * relative), np.nan)
    sizes = [size[frame.observed[:, t] & np.isfinite(size[:, t]), t] for t in use]
    dof, means = frame.dof[use], np.array([r.mean() for r in sizes])
    centre = np.average(means, weights=dof)
    within = np.sum(dof * [np.var(r) for r in sizes]) / np.sum(dof)
    F = float(np.sum(dof * (means - centre) ** 2) / (len(use) - 1) / within)
    log_s2 = np.log(s2[use])
    # var log s^2 = (2 + excess kurtosis)/dof
    beyond = _heterogeneity(log_s2, 2.0 / dof * max(1.0 + (np.mean(_standardised(view) ** 4) - 3.0) / 2.0, 1.0))
    low, high = np.sqrt(np.exp([log_s2.min(), log_s2.max()]))
    return Value(F, beyond, f"sd of log error variance {{}} beyond chance; residual sds from {low:.3g} to {high:.3g}")


def _heterogeneity(values: Array, chance: Array) -> float:
    """Sd of what ``values`` estimate, each with an error variance ``chance``: the moments of DerSimonian & Laird."""
    w = 1.0 / chance
    Q = np.sum(w * (values - np.average(values, weights=w)) ** 2)
    return float(np.sqrt(max((Q - (len(w) - 1)) / (np.sum(w) - np.sum(w**2) / np.sum(w)), 0.0)))


def _relative(view: View) -> Array:
    """sigma_t^2/sigma2 of a fit that has a variance for every tissue; 1 elsewhere."""
    relative = view.params.relative_variance
    return np.ones(len(view.h)) if relative is None else np.asarray(relative)


def correlated_errors(view: View) -> Value:
    """Squared correlations of residuals over the samples that two tissues share, less what chance gives."""
    found = correlation(view.frame, view.E)
    if np.isnan(found.z):
        return cannot("no two tissues share enough samples beyond the number of SNPs and covariates")
    words = f"correlation {{}} (root mean square beyond chance), {found.r.mean():.2f} on average"
    return Value(found.z, found.excess, words)
