"""Empirical-Bayes multi-tissue eQTL regression: the model of Xue & Li, fitted exactly, and tools to check it.

Names are imported when first used, so that ``import ebmodel`` and the command line's help come at once. They are, by
the question that they answer:

- In which tissues do SNPs act, and how strongly? `fit`, `Fit`, `Params`, `select`, `alpha_profile`, `standardise`,
  `open_fit`
- At known parameters? `oracle`, `loglik`
- How sure are the parameters? `standard_errors`, `profile`, `likelihood_ratio`, `bootstrap`
- What is the full posterior? `sample`, `diagnose`, `compare`, `sensitivity`, `pymc_model`, `save_posterior`,
  `open_posterior`
- Do the assumptions hold? `check`, `report`
- What is wrong with the input? `InputError`

Modules that people call:

- One gene: `ebmodel.plot`, `ebmodel.simulate`, `ebmodel.bayes`
- Checks of the model and of methods: `ebmodel.checks`, `ebmodel.calibration`, `ebmodel.risk`
- mash: `ebmodel.mash`, `ebmodel.mash.simulation`, `ebmodel.plot.mash`
- A whole genome: `ebmodel.eqtl`, `ebmodel.plot.eqtl`

The mathematics, beside the papers, and what it needs; the names of these modules may change:

- The model and its fit: `ebmodel.model`, `ebmodel.data`, `ebmodel.statistics`, `ebmodel.likelihood`,
  `ebmodel.posterior`, `ebmodel.em`, `ebmodel.mean`, `ebmodel.variance`, `ebmodel.starts`, `ebmodel.search`,
  `ebmodel.shape`, `ebmodel.relevance`, `ebmodel.heteroscedastic`, `ebmodel.estimation`, `ebmodel.selection`,
  `ebmodel.dense`
- Uncertainty of parameters: `ebmodel.information`, `ebmodel.profiles`, `ebmodel.constrained`
- Checks of assumptions: `ebmodel.residuals`, `ebmodel.checks.view`, `ebmodel.checks.value`, `ebmodel.checks.noise`,
  `ebmodel.checks.prior`, `ebmodel.checks.missing`
- Calibration: `ebmodel.calibration.pooled`, `ebmodel.calibration.curves`, `ebmodel.calibration.discoveries`,
  `ebmodel.calibration.discrimination`, `ebmodel.calibration.evidence`, `ebmodel.calibration.predictive`,
  `ebmodel.calibration.ranks`, `ebmodel.calibration.resampling`
- Theory (Section 4): `ebmodel.risk.bounds`, `ebmodel.risk.exact`
- Simulated data: `ebmodel.simulate.oracle`, `ebmodel.simulate.sparse`
- The full Bayesian model: `ebmodel.bayes.priors`, `ebmodel.bayes.models`, `ebmodel.bayes.marginal`,
  `ebmodel.bayes.covariance`
- The application (Section 7): `ebmodel.eqtl.expression`, `ebmodel.eqtl.variants`, `ebmodel.eqtl.pruning`,
  `ebmodel.eqtl.scan`, `ebmodel.eqtl.moments`, `ebmodel.eqtl.penalised`, `ebmodel.eqtl.crossvalidation`,
  `ebmodel.eqtl.discoveries`, `ebmodel.eqtl.report`
- mash: `ebmodel.mash.data`, `ebmodel.mash.covariances`, `ebmodel.mash.datadriven`, `ebmodel.mash.deconvolution`,
  `ebmodel.mash.nullcorrelation`, `ebmodel.mash.prior`, `ebmodel.mash.likelihood`, `ebmodel.mash.weights`,
  `ebmodel.mash.posterior`, `ebmodel.mash.sharing`, `ebmodel.mash.contrasts`, `ebmodel.mash.averaging`,
  `ebmodel.mash.dense`
- Results in files, and data from them: `ebmodel.files`
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ebmodel.lazy import attach

if TYPE_CHECKING:
    from ebmodel import bayes as bayes
    from ebmodel import calibration as calibration
    from ebmodel import checks as checks
    from ebmodel import eqtl as eqtl
    from ebmodel import plot as plot
    from ebmodel import risk as risk
    from ebmodel import simulate as simulate
    from ebmodel.bayes.comparison import compare as compare
    from ebmodel.bayes.diagnosis import diagnose as diagnose
    from ebmodel.bayes.models import pymc_model as pymc_model
    from ebmodel.bayes.sampling import sample as sample
    from ebmodel.bayes.sensitivity import sensitivity as sensitivity
    from ebmodel.bayes.store import open_posterior as open_posterior
    from ebmodel.bayes.store import save_posterior as save_posterior
    from ebmodel.bootstrapping import bootstrap as bootstrap
    from ebmodel.checks.checking import check as check
    from ebmodel.data import standardise as standardise
    from ebmodel.errors import InputError as InputError
    from ebmodel.fitting import fit as fit
    from ebmodel.fitting import loglik as loglik
    from ebmodel.fitting import oracle as oracle
    from ebmodel.information import standard_errors as standard_errors
    from ebmodel.model import Params as Params
    from ebmodel.profiles import likelihood_ratio as likelihood_ratio
    from ebmodel.profiles import profile as profile
    from ebmodel.reports.building import report as report
    from ebmodel.results import Fit as Fit
    from ebmodel.results import open_fit as open_fit
    from ebmodel.selection import select as select
    from ebmodel.shape import alpha_profile as alpha_profile

__version__ = "0.1.0"

_WHERE = {
    "Fit": "results",
    "InputError": "errors",
    "Params": "model",
    "alpha_profile": "shape",
    "bayes": "bayes",
    "bootstrap": "bootstrapping",
    "calibration": "calibration",
    "check": "checks.checking",
    "checks": "checks",
    "compare": "bayes.comparison",
    "diagnose": "bayes.diagnosis",
    "eqtl": "eqtl",
    "fit": "fitting",
    "likelihood_ratio": "profiles",
    "loglik": "fitting",
    "mash": "mash",
    "open_fit": "results",
    "open_posterior": "bayes.store",
    "oracle": "fitting",
    "plot": "plot",
    "profile": "profiles",
    "pymc_model": "bayes.models",
    "report": "reports.building",
    "risk": "risk",
    "sample": "bayes.sampling",
    "save_posterior": "bayes.store",
    "select": "selection",
    "sensitivity": "bayes.sensitivity",
    "simulate": "simulate",
    "standard_errors": "information",
    "standardise": "data",
}

__getattr__, __dir__, __all__ = attach(__name__, _WHERE)
