"""What the reference holds, in the order in which it is read."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["CALLED", "MATHEMATICS", "QUESTIONS", "Group", "pages"]


class Group(NamedTuple):
    """Pages, or names, that belong together."""

    title: str
    names: tuple[str, ...]


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

CALLED = (
    Group("One gene", ("ebmodel", "ebmodel.plot", "ebmodel.simulate", "ebmodel.bayes")),
    Group("Checks of the model and of methods", ("ebmodel.checks", "ebmodel.calibration", "ebmodel.risk")),
    Group("mash", ("ebmodel.mash", "ebmodel.mash.simulation", "ebmodel.plot.mash")),
    Group("A whole genome", ("ebmodel.eqtl", "ebmodel.plot.eqtl")),
)
"""Pages of the public names: what is promised to stay."""

MATHEMATICS = (
    Group(
        "The model and its fit",
        tuple(
            f"ebmodel.{name}"
            for name in (
                "model",
                "data",
                "statistics",
                "likelihood",
                "posterior",
                "em",
                "mean",
                "variance",
                "starts",
                "search",
                "shape",
                "relevance",
                "heteroscedastic",
                "estimation",
                "dense",
            )
        ),
    ),
    Group(
        "Uncertainty and assumptions",
        (
            "ebmodel.information",
            "ebmodel.profiles",
            "ebmodel.constrained",
            "ebmodel.residuals",
            "ebmodel.checks.view",
            "ebmodel.checks.noise",
            "ebmodel.checks.prior",
            "ebmodel.checks.missing",
        ),
    ),
    Group("Theory (Section 4)", ("ebmodel.risk.bounds", "ebmodel.risk.exact", "ebmodel.simulate.oracle")),
    Group(
        "The full Bayesian model",
        ("ebmodel.bayes.priors", "ebmodel.bayes.models", "ebmodel.bayes.marginal", "ebmodel.bayes.covariance"),
    ),
    Group("The application (Section 7)", ("ebmodel.eqtl.pruning", "ebmodel.eqtl.scan", "ebmodel.eqtl.penalised")),
    Group(
        "mash",
        tuple(
            f"ebmodel.mash.{name}"
            for name in (
                "covariances",
                "datadriven",
                "deconvolution",
                "nullcorrelation",
                "prior",
                "likelihood",
                "weights",
                "posterior",
                "contrasts",
                "averaging",
                "dense",
            )
        ),
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
