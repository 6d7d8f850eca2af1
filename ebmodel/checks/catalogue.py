"""The assumptions of the model, how each is checked, and what to do where it fails."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from ebmodel.checks import noise, prior
from ebmodel.checks.value import Value
from ebmodel.checks.view import View

__all__ = ["CHECKS", "DESIGN", "MISSING", "SHAPE", "Check"]


class Check(NamedTuple):
    """One assumption."""

    assumption: str
    """What is assumed, with its equation."""
    statistic: str
    """What is computed; the larger, the worse."""
    remedy: str
    """What to do where it fails."""
    discrepancy: Callable[[View], Value] | None
    """None where the reference is not the refitted bootstrap: `MISSING` and `DESIGN`."""
    weak: bool = False
    """Whether it misses its violation in more than a fifth of data sets of 50 tissues (the study ``checks``)."""


MISSING, DESIGN, SHAPE = "missing-at-random", "enough-tissues", "slab-covariance"

CHECKS: dict[str, Check] = {
    "linearity": Check(
        "(1): expression is linear in genotypes",
        "|z| of u² in the residuals, u the genetic prediction (RESET)",
        "add indicators of heterozygotes to X, or transform the expression (log, ranks)",
        noise.curvature,
    ),
    "sample-size": Check(
        "(3): effects do not depend on how many samples a tissue has",
        "|z| of the score for effects that go with n_t^c",
        "fit large and small tissues apart and compare; look for what else tells them apart (batch, cell mix)",
        prior.sample_size,
    ),
    "normal-errors": Check(
        "(1): errors are normal",
        "N(g1²/6 + g2²/24) of residuals (Jarque-Bera)",
        "mend errors that correlate or have unequal variances first, which set it off too; take normal scores of the "
        "expression by tissue, as GTEx does; look for outlying samples",
        noise.not_normal,
    ),
    "equal-variances": Check(
        "(1): one error variance for all tissues",
        "F of absolute residuals between tissues (Levene)",
        "fit with errors='unequal', or standardise the tissues",
        noise.unequal_variances,
    ),
    "independent-errors": Check(
        "(1): errors are independent over tissues",
        "squared correlations of residuals beyond chance",
        "add donors' covariates (hidden factors, PCs); fit with mean='zero', which shares least; "
        "sample with errors='correlated'",
        noise.correlated_errors,
    ),
    "exchangeable": Check(
        "(3): given beta, effects of active tissues are independent (exchangeable tissues)",
        "squared correlations of tissues' deviations from beta beyond chance",
        "fit groups of related tissues apart, or use a method with patterns of sharing (mash)",
        prior.related_tissues,
        weak=True,
    ),
    "unrelated-groups": Check(
        "(3): the same, within the groups of tissues that the user names",
        "mean correlation of deviations within groups less that between, over its error",
        "fit each group apart, or use a method with patterns of sharing (mash)",
        prior.related_groups,
    ),
    SHAPE: Check(
        "(3): the slab's covariance is eta Sigma0 of the fit's alpha",
        "|d log p(Y)/d alpha|",
        "fit with slab='power', or let ebmodel.select choose; ebmodel.alpha_profile shows the whole profile",
        prior.covariance_shape,
    ),
    "exact-spike": Check(
        "(4): inactive tissues have no effect at all",
        "z of what SNPs explain in inactive tissues",
        "read P(I=1) as 'an effect of the slab's size'; fit with mean='zero', whose slab covers small effects",
        prior.explained_in_spike,
    ),
    "two-components": Check(
        "(3), (4): two components, one slab",
        "2 x gain in log-likelihood from a second slab",
        "fit with mean='zero', which does not pull towards one beta; look at effects by tissue for groups",
        prior.two_slabs,
        weak=True,
    ),
    MISSING: Check(
        "Section 5: responses are missing at random",
        "|z| of the genetic prediction in who is missing",
        "ask how samples were lost; leave out tissues or samples lost by quality of expression, and compare",
        None,
    ),
    DESIGN: Check(
        "Theorem 2: enough tissues for plug-in hyperparameters",
        "share of the oracle's gain over least squares or zero that estimating the hyperparameters gives away",
        "use ebmodel.bootstrap or ebmodel.sample, which carry the uncertainty; mean='zero' or 'hierarchical' "
        "has fewer parameters",
        None,
    ),
}
"""Name -> assumption, statistic, remedy."""
