"""The paper's Settings 1-4, all 60 cells: least squares, its estimator, and the best there can be, on the same data."""

from __future__ import annotations

from functools import partial

import numpy as np
import xarray as xr

import ebmodel
from simulations.estimators import ESTIMATORS, eb, oracle
from simulations.metrics import METRICS
from simulations.study import Cell, Comparison, Study, paper_cells

JUDGED = ("mse", "auc", "brier", "facts")


def paper_data(cell: Cell, stream: np.random.SeedSequence) -> xr.Dataset:
    """One data set of a setting, everything drawn anew; whatever else the cell names is a knob of the setting."""
    knobs = {name: value for name, value in cell.items() if name != "setting"}
    return ebmodel.simulate.setting(int(cell["setting"]), seed=stream, **knobs)


STUDY = Study(
    "settings",
    paper_cells((1, 2, 3, 4)),
    100,
    Comparison(
        paper_data,
        {
            "zero": ESTIMATORS["zero"],
            "ols": ESTIMATORS["ols"],
            "eb": partial(eb, intervals=False),
            "oracle": partial(oracle, intervals=False),
        },
        {name: METRICS[name] for name in JUDGED},
    ),
    batch=5,
)
