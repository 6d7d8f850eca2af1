"""Settings 1-4 again with plain EM from one naive start, as a first program would have it: do the tables fit that?

Run until it converges, which is often in a local maximum, or stopped after a few steps.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import xarray as xr

import ebmodel
from ebmodel import em
from ebmodel.data import tidy
from ebmodel.posterior import posterior
from ebmodel.statistics import compress, whiten
from simulations.estimators import ESTIMATORS, Estimate
from simulations.metrics import METRICS
from simulations.settings import paper_data
from simulations.starts import naive_state
from simulations.study import Comparison, Study, paper_cells


def stopped(data: xr.Dataset, stream: np.random.SeedSequence, *, steps: int) -> Estimate:  # noqa: ARG001
    """The posterior after so many EM steps from tau1 = 1/2, the mean of the OLS estimates, and moments."""
    stats, whitening = whiten(compress(tidy(data["X"], data["Y"])), "g")
    state = naive_state(stats)
    for _ in range(steps):
        T, _ = em.expectation(stats, state)
        state = em.maximisation(stats, T, state)
    beta = whitening.unwhiten(state.gamma)
    theta = ebmodel.Params(tau1=state.tau1, beta=beta, eta=state.eta, sigma2=state.sigma2)
    result = posterior(stats, whitening, theta)
    return Estimate(result.mean, result.probability)


WORDS = {"eb": "naive start, converged", "steps_3": "naive start, 3 steps", "steps_10": "naive start, 10 steps"}

STUDY = Study(
    "naive",
    paper_cells((1, 2, 3, 4)),
    100,
    Comparison(
        paper_data,
        {
            "eb": ESTIMATORS["eb_naive"],
            "steps_3": partial(stopped, steps=3),
            "steps_10": partial(stopped, steps=10),
        },
        {name: METRICS[name] for name in ("mse", "auc")},
    ),
    batch=5,
)
