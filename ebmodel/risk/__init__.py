"""Theory, computed (Section 4 of the paper): the Bayes risk of any estimator, and the bounds of Theorems 1 and 3.

`bayes_risk` is exact wherever the posterior is known (`ebmodel.risk.exact`), and for any other estimator simulates only
its distance from the oracle. `lower_bound` gives what the theorems promise, as printed and corrected; the derivation is
in `ebmodel.risk.bounds`.
"""

from ebmodel.risk.bounds import Bound, lower_bound
from ebmodel.risk.estimators import WORDS, bayes_risk, empirical_bayes

__all__ = ["WORDS", "Bound", "bayes_risk", "empirical_bayes", "lower_bound"]
