"""The paper's Tables 1 and 2: mean over 100 replications of the MSE of OLS and of its estimator, and of its AUC."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import pandas as pd

FOLDER = Path(__file__).parent / "published"
QUANTITIES = ("mse_ols", "mse_eb", "auc")
WORDS = {"mse_ols": "MSE of OLS", "mse_eb": "MSE of EB", "auc": "AUC of EB"}
REPLICATIONS = 100
"""In every published cell."""


@lru_cache
def published() -> pd.DataFrame:
    """``mse_ols``, ``mse_eb`` and ``auc`` by (setting, rho, signal): 60 cells."""
    tables = [pd.read_csv(FOLDER / f"table{i}.csv") for i in (1, 2)]
    return pd.concat(tables).set_index(["setting", "rho", "signal"]).sort_index()
