"""Declarative simulation studies: which data, which estimators, which metrics, how many replications.

``python -m simulations run STUDY`` runs one, going on where it stopped; ``python -m simulations report`` runs what is
lacking and writes tables, figures, the audit and the READMEs' parts of them. The names below serve studies of one's
own.
"""

from simulations.estimators import ESTIMATORS, Estimate, ols
from simulations.metrics import METRICS
from simulations.settings import paper_data
from simulations.study import Comparison, Study, Whole

__all__ = ["ESTIMATORS", "METRICS", "Comparison", "Estimate", "Study", "Whole", "ols", "paper_data"]
