"""How were the published averages made? Scatter between designs, between truths given a design, and between errors.

The paper does not say what is drawn anew in each of its 100 replications. Under each reading a published average
scatters differently about the same expectation; with the variances V of designs X, truths (beta(t), I(t)) given X and
errors given both,

    all     everything drawn anew                     (V_X + V_truth + V_error) / 100
    design  one design a cell                         V_X + (V_truth + V_error) / 100
    truth   one design and one truth a cell           V_X + V_truth + V_error / 100

The variances, 3 x 3 for (log MSE of OLS, log MSE of EB, AUC), are estimated from a nested experiment: designs, two
truths for each, two error sets for each of these.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import pandas as pd
from scipy.stats import multivariate_normal

import ebmodel
from ebmodel.model import Array
from simulations.metrics import auc, mse
from simulations.published import QUANTITIES, REPLICATIONS, published
from simulations.study import Cell, Record, Study, Whole, paper_cells

TRUTHS, ERRORS = 2, 2
READINGS = {
    "all": "everything drawn anew in each replication",
    "design": "one design a cell, effects and errors drawn anew",
    "truth": "one design and one set of effects a cell, errors drawn anew",
}
ALSO = {"effects": "one set of effects a cell, designs and errors drawn anew"}
"""A fourth reading, for completeness: its scatter V_truth holds what is of the truth and what is of truth and design
together, which would average out, so that it is an upper bound."""
FIXED = {"all": (), "design": ("design",), "truth": ("design", "truth"), "effects": ("truth",)}
"""What is not drawn anew."""

type Key = tuple[int, float, float]
"""Setting, rho, signal."""


def replicate(cell: Cell, stream: np.random.SeedSequence) -> Record:
    """The three quantities for every truth and error set of one design, named ``quantity_truth_error``."""
    k, knobs = int(cell["setting"]), {"rho": cell["rho"], "signal": cell["signal"]}
    design, *truths = stream.spawn(1 + TRUTHS)
    X = ebmodel.simulate.setting(k, **knobs, seed=design)["X"]
    record: dict[str, float] = {}
    for i, truth_stream in enumerate(truths):
        truth = ebmodel.simulate.setting(k, **knobs, X=X, seed=truth_stream)
        for j, errors in enumerate(truth_stream.spawn(ERRORS)):
            gene = ebmodel.simulate.setting(k, **knobs, X=X, truth=truth, seed=errors)
            fit, effects = ebmodel.fit(gene.X, gene.Y), gene["effects"].to_numpy()
            record[f"mse_ols_{i}_{j}"] = mse(fit.ols.to_numpy(), effects)
            record[f"mse_eb_{i}_{j}"] = mse(fit.effects.to_numpy(), effects)
            record[f"auc_{i}_{j}"] = auc(fit.posterior_probability.to_numpy(), gene["active"].to_numpy())
    return record


@dataclass(frozen=True)
class Scatter:
    """Moments of a cell's three quantities, MSEs and AUC as they are (not logs)."""

    mean: Array
    """(3,) over everything."""
    error: Array
    """(3, 3) covariance of that mean: it is an estimate."""
    design: Array
    truth: Array
    noise: Array
    """(3, 3) covariance between designs, between truths given the design, between errors given both."""

    @property
    def units(self) -> Array:
        """(3, 3) what a covariance is divided by to be relative for MSEs and as it is for AUC."""
        scale = np.array([*self.mean[:2], 1.0])
        return np.outer(scale, scale)

    def of_average(self, reading: str) -> Array:
        """(3, 3) covariance of a published average under a reading."""
        parts = {"design": self.design, "truth": self.truth, "noise": self.noise}
        shares = {name: 1 if name in FIXED[reading] else 1 / REPLICATIONS for name in parts}
        return np.sum([shares[name] * part for name, part in parts.items()], axis=0)

    def logs(self, reading: str, *, ours: bool = True) -> tuple[Array, Array]:
        """Location and covariance of (log MSE, log MSE, AUC) of a published average, MSEs being log-normal.

        ``ours`` adds the error of our own mean.
        """
        printed = self._logs(self.of_average(reading))
        own = self._logs(self.error) if ours else np.zeros((3, 3))
        location = np.array([*np.log(self.mean[:2]), self.mean[2]])
        location[:2] += np.diag(own - printed)[:2] / 2  # the mean of a log-normal is above exp of its location
        return location, _proper(printed + own)

    def _logs(self, covariance: Array) -> Array:
        """Covariance of (log MSE, log MSE, AUC) from that of the three themselves."""
        relative = covariance / self.units
        relative[:2, :2] = np.log1p(np.clip(relative[:2, :2], -0.9, None))  # log-normal: exact for these two
        return relative


def scatter(values: Array) -> Scatter:
    """Moments from values (design, truth, errors, quantity): nested analysis of variance, balanced."""
    D, T, E, _ = values.shape
    of_truth, of_design = values.mean(axis=2), values.mean(axis=(1, 2))

    def spread(deviations: Array, freedom: int) -> Array:
        rows = deviations.reshape(-1, 3)
        return rows.T @ rows / freedom

    noise = spread(values - of_truth[:, :, None], D * T * (E - 1))
    truth = spread(of_truth - of_design[:, None], D * (T - 1)) - noise / E
    designs = spread(of_design - of_design.mean(axis=0), D - 1)
    return Scatter(
        of_design.mean(axis=0), designs / D, _proper(designs - truth / T - noise / (T * E)), _proper(truth), noise
    )


def _proper(covariance: Array) -> Array:
    """The nearest covariance: an estimated component may have negative eigenvalues."""
    value, vector = np.linalg.eigh((covariance + covariance.T) / 2)
    return (vector * np.clip(value, 0.0, None)) @ vector.T


def scatters(results: pd.DataFrame) -> dict[Key, Scatter]:
    """Moments of every cell, from the stored results."""
    columns = [f"{q}_{i}_{j}" for i, j, q in product(range(TRUTHS), range(ERRORS), QUANTITIES)]
    groups = results.dropna(subset=columns).groupby(["setting", "rho", "signal"])
    return {
        key: scatter(group[columns].to_numpy().reshape(-1, TRUTHS, ERRORS, len(QUANTITIES))) for key, group in groups
    }


def pooled(moments: Mapping[Key, Scatter]) -> dict[Key, Scatter]:
    """The same with each setting's and signal's relative components averaged over rho.

    A cell's own component between designs is the difference of others' estimates and often cut to zero, which would
    rule out the readings that rest on it alone.
    """
    found = {}
    for key, own in moments.items():
        alike = [other for (setting, _, signal), other in moments.items() if (setting, signal) == (key[0], key[2])]
        parts = {
            name: np.mean([getattr(other, name) / other.units for other in alike], axis=0) * own.units
            for name in ("design", "truth", "noise")
        }
        found[key] = replace(own, **parts)
    return found


def loglikelihoods(results: pd.DataFrame) -> pd.DataFrame:
    """log density of the published values under each reading: of (log) OLS alone, and of all three; a row a cell."""
    rows = []
    for key, moments in pooled(scatters(results)).items():
        printed = published().loc[key]
        y = np.array([*np.log(printed[["mse_ols", "mse_eb"]]), printed["auc"]])
        row = dict(zip(("setting", "rho", "signal"), key, strict=True))
        for reading in READINGS | ALSO:
            location, covariance = moments.logs(reading)
            row[f"ols_{reading}"] = _log_density(y[:1], location[:1], covariance[:1, :1])
            row[f"joint_{reading}"] = _log_density(y, location, covariance + 1e-6 * np.eye(3))
        rows.append(row)
    return pd.DataFrame(rows)


def _log_density(y: Array, location: Array, covariance: Array) -> float:
    return float(multivariate_normal.logpdf(y, location, covariance))


STUDY = Study("readings", paper_cells((1, 2, 3, 4)), 25, Whole(replicate))
