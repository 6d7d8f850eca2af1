"""What the published OLS column says of how the tables were made: sigma, and designs that were used twice.

Given the design X, complete data and sigma, the average over 100 replications x 50 tissues is all but
sigma^2 tr (X'X)^-1 / p, so that the OLS column shows the designs themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

import numpy as np
from scipy.stats import norm

from ebmodel.model import Array
from simulations.published import REPLICATIONS, published
from simulations.study import RHOS, SIGNALS

P, N, M = 30, 50, 50
DESIGNS = 4000


def expected_ols(n: int, sigma2: float, rho: float) -> float:
    """E MSE(OLS) = sigma^2 tr(C^-1) / (p (n-p-1)) for rows of X ~ N(0, C), C exchangeable."""
    # eigenvalues of C: 1 - rho, p - 1 times, and 1 + (p-1) rho
    trace = (P - 1) / (1 - rho) + 1 / (1 + (P - 1) * rho)
    return sigma2 * trace / (P * (n - P - 1))


def sigma_ratios() -> dict[int, tuple[float, float]]:
    """Setting -> geometric mean of printed MSE(OLS) / expected at sigma^2 = 10 (1 in Setting 2), and its SE."""
    found = {}
    for setting, sigma2, n in ((1, 10.0, N), (2, 1.0, N), (3, 10.0, N - 10)):
        cells = published().loc[setting]["mse_ols"]
        logs = [np.log(cells[rho, signal] / expected_ols(n, sigma2, rho)) for rho in RHOS for signal in SIGNALS]
        found[setting] = float(np.exp(np.mean(logs))), float(np.exp(np.mean(logs)) * np.std(logs, ddof=1) / 15**0.5)
    return found


@dataclass(frozen=True)
class Repeated:
    """The two rows of Setting 1 whose OLS values repeat each other."""

    differences: Array
    """(signal,) log of the ratio of the rows rho = 0 and rho = 0.2."""
    next_closest: float
    """The least log difference of any other pair of the 30 cells of Settings 1 and 2, scaled to a common sigma."""
    stated: float
    """log of the ratio that is expected of these rows."""
    independent: float
    common_rho: float
    same_design: float
    """Probability of three such agreements: designs of their own as stated; with one rho; one design, own errors."""


@lru_cache
def repeated_rows() -> Repeated:
    """How unlikely the agreement of the rows rho = 0 and rho = 0.2 of Setting 1 is."""
    ols = published()["mse_ols"]
    first, second = (np.log([ols[1, rho, signal] for signal in SIGNALS]) for rho in RHOS[:2])
    away = first - second
    values = {key: np.log(value) - (np.log(100) if key[0] == 1 else 0) for key, value in ols.loc[[1, 2]].items()}
    others = [
        abs(values[a] - values[b])
        for a, b in combinations(values, 2)
        if not (a[0] == b[0] == 1 and {a[1], b[1]} == {0.0, 0.2} and a[2] == b[2])
    ]
    plain, error = _designs(0.0)
    correlated, _ = _designs(0.2)
    noise = np.hypot(error, error)  # of the difference, given the designs

    def chance(gaps: Array) -> float:
        """Probability that |gap + noise| is within the largest of the three, three times."""
        most = np.abs(away).max()
        inside = norm.cdf((most - gaps) / noise) - norm.cdf((-most - gaps) / noise)
        return float(np.mean(inside) ** 3)

    half = DESIGNS // 2
    return Repeated(
        away,
        min(others),
        float(np.log(expected_ols(N, 1.0, 0.2) / expected_ols(N, 1.0, 0.0))),
        chance(plain[:half] - correlated[half:]),
        chance(plain[:half] - plain[half:]),
        chance(np.zeros(1)),
    )


def _designs(rho: float) -> tuple[Array, float]:
    """log tr (X'X)^-1 of random designs, and the mean relative SE of a published average given its design."""
    rng = np.random.default_rng(1)
    root = np.linalg.cholesky(np.full((P, P), rho) + (1 - rho) * np.eye(P))
    X = rng.standard_normal((DESIGNS, N, P)) @ root.T
    spread = 1.0 / np.linalg.eigvalsh(np.swapaxes(X, 1, 2) @ X)  # |betahat - beta|^2 = sum of these times chi^2_1
    error = np.sqrt(2 * np.sum(spread**2, axis=1) / (REPLICATIONS * M)) / np.sum(spread, axis=1)
    return np.log(np.sum(spread, axis=1)), float(error.mean())
