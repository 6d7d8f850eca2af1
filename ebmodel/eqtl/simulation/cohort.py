"""Donors of a simulated study: who gave which tissue, and the covariates of each tissue's samples.

Some donors give many tissues; those who give one brain region tend to give others. Tissues of one sex have donors of
that sex.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ebmodel.eqtl.tissues import TISSUES
from ebmodel.errors import expect, listed

__all__ = ["GTEX_DONORS", "Cohort", "draw_cohort", "sample_counts"]

GTEX_DONORS = 838
FEWEST = 20
"""Samples that a tissue must have: with fewer, its covariates would explain them all."""
FEMALE = 1 / 3
OF_WOMEN, OF_MEN = ("Ovary", "Uterus", "Vagina"), ("Prostate", "Testis")
COMPONENTS = 5
FACTORS = ((150, 15), (250, 30), (350, 45))
"""GTEx: up to so many samples, so many inferred factors; 60 with more."""
MOST_FACTORS = 60
PROPENSITY, BRAIN = 1.0, 2.0
"""Sds of how ready a donor is to give any tissue, and any of the brain, on the scale of log odds."""
LETTERS = np.array(list("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"))


@dataclass(frozen=True)
class Cohort:
    """Who was sampled, and what is known of the samples."""

    donors: NDArray[np.str_]
    """(donor,) names, in the order of the genotypes."""
    female: NDArray[np.bool_]
    """(donor,)"""
    rows: dict[str, NDArray[np.int64]]
    """By tissue: places of its donors, in the order of their names, which is that of the tissue's files."""
    covariates: dict[str, pd.DataFrame]
    """By tissue: (covariate, donor)."""


def sample_counts(tissues: Sequence[str], donors: int) -> dict[str, int]:
    """GTEx's samples by tissue, as many a donor.

    Raises
    ------
    InputError
        If a tissue is unknown or given twice, there is none, or one would have fewer than 20 samples.
    """
    where = "the tissues of a simulated study"
    expect(len(tissues) > 0, "at least one tissue", "none", where, "name one, or leave it out for all")
    unknown = [name for name in tissues if name not in TISSUES]
    expect(not unknown, "tissues of GTEx v8", listed(unknown), where, f"use names as {listed(TISSUES, 2)}")
    expect(len(set(tissues)) == len(tissues), "each tissue once", listed(tissues), where, "leave out the repeated one")
    counts = {name: round(TISSUES[name].samples * donors / GTEX_DONORS) for name in tissues}
    least = min(counts, key=lambda name: counts[name])
    got = f"{counts[least]} in {least} with {donors} donors"
    expect(
        counts[least] >= FEWEST,
        f"at least {FEWEST} samples in a tissue",
        got,
        where,
        "ask for more donors, or name tissues with more",
    )
    return counts


def draw_cohort(counts: dict[str, int], donors: int, rng: np.random.Generator) -> Cohort:
    """Draw donors, the tissues that they gave and the covariates.

    Parameters
    ----------
    counts
        Samples by tissue, from `sample_counts`.
    donors
        Their number.
    rng
        Source of random numbers.
    """
    names = _names(donors, rng)
    female = rng.permutation(donors) < round(FEMALE * donors)
    ready, brain = rng.normal(0.0, PROPENSITY, donors), rng.normal(0.0, BRAIN, donors)
    rows = {}
    for tissue, count in counts.items():
        # the largest of log odds plus Gumbel noise: a draw without replacement with these odds
        score = ready + rng.gumbel(size=donors) + (brain if TISSUES[tissue].group == "Brain" else 0.0)
        barred = female if tissue in OF_MEN else ~female if tissue in OF_WOMEN else np.zeros(donors, dtype=bool)
        chosen = np.argsort(np.where(barred, -np.inf, score))[-count:]
        rows[tissue] = chosen[np.argsort(names[chosen])]
    shared = _of_donors(female, rng)
    return Cohort(names, female, rows, {t: _of_tissue(t, shared, rows[t], names, rng) for t in counts})


def _names(donors: int, rng: np.random.Generator) -> NDArray[np.str_]:
    found: dict[str, None] = {}
    while len(found) < donors:
        found["GTEX-" + "".join(rng.choice(LETTERS, 5))] = None
    return np.array(list(found))


def _of_donors(female: NDArray[np.bool_], rng: np.random.Generator) -> dict[str, NDArray[np.float64]]:
    """Covariates that a donor's samples share. The population has no structure: its components are noise."""
    n = len(female)
    shared = {f"PC{i + 1}": rng.normal(0.0, 1.0 / np.sqrt(n), n) for i in range(COMPONENTS)}
    pcr, platform = rng.random((2, n)) < np.array([[0.85], [0.7]])
    return {**shared, "pcr": pcr.astype(float), "platform": platform.astype(float), "sex": 1.0 + female}


def _of_tissue(
    tissue: str,
    shared: dict[str, NDArray[np.float64]],
    rows: NDArray[np.int64],
    names: NDArray[np.str_],
    rng: np.random.Generator,
) -> pd.DataFrame:
    n = len(rows)
    wanted = next((factors for below, factors in FACTORS if n < below), MOST_FACTORS)
    inferred = rng.standard_normal((min(wanted, n // 4), n))  # few samples cannot carry GTEx's number of factors
    components = {name: values[rows] for name, values in shared.items() if name.startswith("PC")}
    factors = {f"InferredCov{i + 1}": values for i, values in enumerate(inferred)}
    others = {name: values[rows] for name, values in shared.items() if not name.startswith("PC")}
    if tissue in OF_MEN + OF_WOMEN:
        del others["sex"]
    return pd.DataFrame({**components, **factors, **others}, index=names[rows]).T.rename_axis("ID")
