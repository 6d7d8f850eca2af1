"""mash: empirical Bayes across conditions on summary statistics (Urbut, Wang, Carbonetto & Stephens 2019).

The model, of effects j = 1..J in conditions r = 1..R:

    b_hat_j | b_j ~ N_R(b_j, V_j),   V_j = S_j C S_j                          what was estimated, with standard errors S
    b_j ~ pi_0 delta_0 + sum_k sum_l pi_kl N_R(0, omega_l^2 U_k)                                the prior of all effects

with covariances U_k that are canonical, learned from strong effects, or given, each scaled by a grid of omega_l; the
weights are found by penalised maximum likelihood, which is a convex problem. `fit` does all of it:

    symbol        in code                what
    -----------   --------------------   ------------------------------------------------------------------
    b_hat, S      bhat, shat             estimates and their standard errors, (effect, condition)
    C             V                      correlation of errors between conditions
    U_k           covariances            (covariance, condition, condition_other), largest diagonal entry 1
    omega_l       grid, scale            standard deviations of effects, (scale,)
    pi_kl, pi_0   weights, null_weight   weights of the mixture's components and of its point mass
    alpha         alpha                  the model is for b / s^alpha

It takes marginal summary statistics of many genes at once, where `ebmodel.fit` takes one gene's genotypes and
expression.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ebmodel.lazy import attach

if TYPE_CHECKING:
    from ebmodel.mash.bayes import pymc_model as pymc_model
    from ebmodel.mash.bayes import sample as sample
    from ebmodel.mash.comparison import compare as compare
    from ebmodel.mash.contrasts import contrast as contrast
    from ebmodel.mash.contrasts import contrast_covariances as contrast_covariances
    from ebmodel.mash.contrasts import contrast_matrix as contrast_matrix
    from ebmodel.mash.covariances import Covariance as Covariance
    from ebmodel.mash.covariances import canonical as canonical
    from ebmodel.mash.datadriven import data_driven as data_driven
    from ebmodel.mash.datadriven import pca as pca
    from ebmodel.mash.datadriven import strong_effects as strong_effects
    from ebmodel.mash.fitting import fit as fit
    from ebmodel.mash.nullcorrelation import correlation_by_em as correlation_by_em
    from ebmodel.mash.nullcorrelation import null_correlation as null_correlation
    from ebmodel.mash.prior import Prior as Prior
    from ebmodel.mash.results import MashFit as MashFit
    from ebmodel.mash.results import open_fit as open_fit
    from ebmodel.mash.sharing import condition_specific as condition_specific
    from ebmodel.mash.sharing import n_significant as n_significant
    from ebmodel.mash.sharing import number_shared as number_shared
    from ebmodel.mash.sharing import pairwise_sharing as pairwise_sharing
    from ebmodel.mash.sharing import significant as significant

_WHERE = {
    "Covariance": "covariances",
    "MashFit": "results",
    "Prior": "prior",
    "canonical": "covariances",
    "compare": "comparison",
    "condition_specific": "sharing",
    "contrast": "contrasts",
    "contrast_covariances": "contrasts",
    "contrast_matrix": "contrasts",
    "correlation_by_em": "nullcorrelation",
    "data_driven": "datadriven",
    "fit": "fitting",
    "n_significant": "sharing",
    "null_correlation": "nullcorrelation",
    "number_shared": "sharing",
    "open_fit": "results",
    "pairwise_sharing": "sharing",
    "pca": "datadriven",
    "pymc_model": "bayes",
    "sample": "bayes",
    "significant": "sharing",
    "strong_effects": "datadriven",
}
__getattr__, __dir__, __all__ = attach(__name__, _WHERE)
