"""Do probabilities mean what they say? Measures of calibration, with a known truth and without.

- `reliability`, `false_discovery`: P(I(t)=1 | Y) of one or many data sets against the truth
- `auc`: whether it ranks active tissues above inactive ones; needs no calibration
- `bayes_factors`: log K_t against the truth
- `bayesian_fdr`: tissues called active at a false discovery rate; needs no truth
- `calibrate`, `recalibrate`: the same for a fit without a truth, on data drawn from it; and the correction
- `pit`, `loo_pit`: where each tissue's data lie in what the model predicts of them; need no truth
- `sbc`, `uniformity`: ranks of the truth among posterior draws; the test of uniform numbers
"""

from __future__ import annotations

from ebmodel.calibration.curves import reliability
from ebmodel.calibration.discoveries import bayesian_fdr, false_discovery
from ebmodel.calibration.discrimination import auc
from ebmodel.calibration.evidence import bayes_factors
from ebmodel.calibration.predictive import loo_pit, pit
from ebmodel.calibration.ranks import band, difference, gap, rank, sbc, strays, uniformity
from ebmodel.calibration.resampling import calibrate, recalibrate

__all__ = [
    "auc",
    "band",
    "bayes_factors",
    "bayesian_fdr",
    "calibrate",
    "difference",
    "false_discovery",
    "gap",
    "loo_pit",
    "pit",
    "rank",
    "recalibrate",
    "reliability",
    "sbc",
    "strays",
    "uniformity",
]
