"""Simulated data with their truth: the paper's Settings 1-4 (Section 6), the model itself, the model violated, and
sparse effects.

Every data set is a Dataset with ``X`` (sample, snp), ``Y`` (sample, tissue) and the whole truth:

    active            (tissue)           I(t)
    effects           (tissue, snp)      beta(t); 0 where I(t) = 0, unless just this is violated
    beta              (snp)              mean of beta(t) | I(t)=1
    slab_covariance   (snp, snp_other)   covariance of beta(t) | I(t)=1, the true one, whatever model is then fitted

and every constant as an attribute. `exact_posterior` gives the posterior at the truth, the best that any estimator can
do. Effects from `sparse` have no slab: they come without ``beta`` and ``slab_covariance``, and their posterior has no
closed form. The same seed gives the same data.
"""

from __future__ import annotations

from ebmodel.simulate.exact import exact_posterior
from ebmodel.simulate.population import donors
from ebmodel.simulate.settings import setting
from ebmodel.simulate.sparse import sparse
from ebmodel.simulate.true_model import model_true
from ebmodel.simulate.violations import VIOLATIONS, violated

__all__ = ["VIOLATIONS", "donors", "exact_posterior", "model_true", "setting", "sparse", "violated"]
