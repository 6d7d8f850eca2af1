"""Settings 1-4 again with EM from one naive start, as a first program would have it: do the tables fit that better?"""

from __future__ import annotations

from simulations.estimators import ESTIMATORS
from simulations.metrics import METRICS
from simulations.settings import paper_data
from simulations.study import Comparison, Study, paper_cells

STUDY = Study(
    "naive",
    paper_cells((1, 2, 3, 4)),
    100,
    Comparison(paper_data, {"eb": ESTIMATORS["eb_naive"]}, {name: METRICS[name] for name in ("mse", "auc")}),
    batch=5,
)
