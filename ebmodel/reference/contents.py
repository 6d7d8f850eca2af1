"""What the reference holds, in the order in which it is read."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["CALLED", "FIRST", "MATHEMATICS", "QUESTIONS", "Group", "pages"]


class Group(NamedTuple):
    """Pages, or names, that belong together."""

    title: str
    names: tuple[str, ...]


def _modules(package: str, names: str) -> tuple[str, ...]:
    return tuple(f"{package}.{name}" for name in names.split())


def _group(package: str, title: str, names: str) -> Group:
    return Group(title, _modules(package, names))


QUESTIONS = (
    Group(
        "In which tissues do SNPs act, and how strongly?",
        ("fit", "Fit", "Params", "select", "alpha_profile", "standardise", "open_fit"),
    ),
    Group("At known parameters", ("oracle", "loglik")),
    Group("How sure are the parameters?", ("standard_errors", "profile", "likelihood_ratio", "bootstrap")),
    Group(
        "The full posterior",
        ("sample", "diagnose", "compare", "sensitivity", "pymc_model", "save_posterior", "open_posterior"),
    ),
    Group("Do the assumptions hold?", ("check", "report")),
    Group("When something is wrong with the input", ("InputError",)),
)
"""The names of `ebmodel` itself, by the question that they answer."""

FIRST = {
    "ebmodel": tuple(name for group in QUESTIONS for name in group.names),
    "ebmodel.mash": ("fit", "MashFit", "open_fit", "significant", "pairwise_sharing", "number_shared"),
    "ebmodel.eqtl": ("read_settings", "Settings", "run_study", "open_results", "egenes", "gains", "write_report"),
}
"""Names with which a page begins; the others follow as in ``__all__``."""

CALLED = (
    Group("One gene", ("ebmodel", "ebmodel.plot", "ebmodel.simulate", "ebmodel.bayes")),
    Group("Checks of the model and of methods", ("ebmodel.checks", "ebmodel.calibration", "ebmodel.risk")),
    Group("mash", ("ebmodel.mash", "ebmodel.mash.simulation", "ebmodel.plot.mash")),
    Group("A whole genome", ("ebmodel.eqtl", "ebmodel.plot.eqtl")),
)
"""Pages of the public names: what is promised to stay."""

MATHEMATICS = (
    _group(
        "ebmodel",
        "The model and its fit",
        "model data statistics likelihood posterior em mean variance starts search shape relevance heteroscedastic "
        "estimation selection dense",
    ),
    _group("ebmodel", "Uncertainty of parameters", "information profiles constrained"),
    Group(
        "Checks of assumptions",
        ("ebmodel.residuals", *_modules("ebmodel.checks", "view value noise prior missing")),
    ),
    _group(
        "ebmodel.calibration",
        "Calibration",
        "pooled curves discoveries discrimination evidence predictive ranks resampling",
    ),
    Group("Theory (Section 4)", ("ebmodel.risk.bounds", "ebmodel.risk.exact", "ebmodel.simulate.oracle")),
    _group("ebmodel.bayes", "The full Bayesian model", "priors models marginal covariance"),
    _group(
        "ebmodel.eqtl",
        "The application (Section 7)",
        "expression variants pruning scan moments penalised crossvalidation discoveries report",
    ),
    _group(
        "ebmodel.mash",
        "mash",
        "data covariances datadriven deconvolution nullcorrelation prior likelihood weights posterior sharing "
        "contrasts averaging dense",
    ),
)
"""Pages of the modules that are read beside the papers; their names may change."""


def pages() -> tuple[str, ...]:
    """Name the modules that have a page.

    Returns
    -------
    tuple of str
        In the order of the contents.
    """
    return tuple(name for group in (*CALLED, *MATHEMATICS) for name in group.names)
