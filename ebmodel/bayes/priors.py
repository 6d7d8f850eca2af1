"""Priors of the full Bayesian model: an object, its presets, and what each prior is a prior on.

Each of tau1, sigma2, eta, the slab's mean and (where they are parameters) kappa and alpha has one prior, put on the
parameter itself, in the units of the data, or on a relative version that does not change under Y -> cY nor, for the
paper's slab, under X -> XA. With r the rank of X, D the singular values of X L (`ebmodel.statistics`), dbar the mean of
D^2 (1 for the paper's slab) and s the root mean square of the responses,

    parameter     relative    meaning
    -----------   ---------   ---------------------------------------------------------------------------------------
    sigma2        noise       sigma2 / s^2
    eta           shrinkage   u = eta dbar / (eta dbar + sigma2), the weight of the data in equation (5)
    beta, gamma   signal      w = gamma sqrt(dbar r / n) / sigma: w ~ N(0, 1) lets the mean effects explain, over
                              the samples, as much variance as the noise
    kappa         spread      v = kappa dbar / (kappa dbar + sigma2), as the shrinkage, for beta ~ N(0, kappa Sigma0)
    tau1, alpha               have no units

Where tissues have error variances of their own (``errors="unequal"`` or ``"correlated"``), sigma2 is their level,

    log sigma2_t ~ N(log sigma2, h^2)

with the heterogeneity h a parameter, and what is relative to sigma2 above is relative to their geometric mean: few
tissues hardly tell the level, which would go where it suits the mean effects. Correlations of errors over tissues have
the LKJ prior, density proportional to |R|^(concentration - 1): uniform over correlation matrices for 1, nearer to none
for more.

The prior on the slab's mean decides P(I(t)=1)
----------------------------------------------
A spike has no mean to be uncertain of, a slab has: every density that a vague prior gives to means nowhere near the
data is lost by the slab and not by the spike. The vaguer the prior on beta, the fewer tissues are active, without
limit (the Bartlett-Lindley paradox), while the EM, which maximises over beta, pays nothing and sees the most. "Vague"
is thus no neutral choice here. The default is scaled to the noise; ``mean="hierarchical"`` learns the scale.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from inspect import signature
from typing import Any

import numpy as np
import pymc as pm

from ebmodel.errors import InputError, expect, listed

__all__ = ["FLAT", "WEAK", "Prior", "Priors", "as_priors"]

IMPROPER = ("Flat", "HalfFlat")


@dataclass(frozen=True)
class Prior:
    """A PyMC distribution by name, with its parameters: ``Prior("Beta", alpha=1, beta=9)``.

    Parameters
    ----------
    distribution
        Name of a univariate continuous distribution of PyMC.
    **parameters
        Its parameters, as numbers.

    Raises
    ------
    InputError
        If PyMC has no distribution of one continuous number by that name, or it does not take the parameters.
    """

    distribution: str
    parameters: Mapping[str, float]

    def __init__(self, distribution: str, **parameters: float) -> None:
        family: Any = getattr(pm, str(distribution), None)
        known = isinstance(family, type) and issubclass(family, pm.Continuous)
        wanted, do = "the name of a PyMC distribution of one continuous number", "see pymc.distributions"
        expect(known, wanted, repr(distribution), "Prior", do)
        strange = sorted(set(parameters) - set(signature(family.dist).parameters))  # PyMC itself ignores some
        expect(not strange, f"parameters of {distribution}", listed(strange), "Prior", do)
        try:
            parameters = {name: float(value) for name, value in parameters.items()}
            univariate = family.dist(**parameters).ndim == 0
        except Exception as error:  # whatever PyMC raises, it is about the parameters
            got = f"{distribution} with {parameters}"
            raise InputError("parameters that PyMC takes", got, "Prior", f"see {error}") from error
        expect(univariate, wanted, repr(distribution), "Prior", do)
        object.__setattr__(self, "distribution", distribution)
        object.__setattr__(self, "parameters", parameters)

    def variable(self, name: str, **settings: Any) -> Any:
        """Put a random variable with this prior into the current PyMC model.

        Parameters
        ----------
        name
            Of the variable.
        **settings
            Further arguments of PyMC's distribution, such as ``dims`` and ``shape``.

        Returns
        -------
        TensorVariable
            The random variable.
        """
        return getattr(pm, self.distribution)(name, **self._exact, **settings)

    def log_density(self, values: Any) -> Any:
        """Give the log density.

        Parameters
        ----------
        values
            Where: a number or an array.

        Returns
        -------
        ndarray
            Of the shape of ``values``; -inf outside the support.
        """
        return pm.logp(getattr(pm, self.distribution).dist(**self._exact), values).eval(mode="FAST_COMPILE")

    @property
    def _exact(self) -> dict[str, np.float64]:
        """The parameters in double precision: of Python's numbers PyTensor makes the shortest type that holds them."""
        return {name: np.float64(value) for name, value in self.parameters.items()}

    def __str__(self) -> str:
        return f"{self.distribution}({', '.join(f'{name}={value:g}' for name, value in self.parameters.items())})"


@dataclass(frozen=True, kw_only=True)
class Priors:
    """One prior for every parameter, on itself or on its relative version (see the module's text).

    Parameters
    ----------
    tau1
        On the share of active tissues.
    sigma2, noise
        One of them: on the error variance, or on it relative to the mean square of the responses.
    eta, shrinkage
        One of them: on the slab's scale, or on the weight u in (0, 1) that it gives to the data.
    beta, gamma, signal
        One of them, for ``mean="free"``: on every SNP's mean effect, on every whitened mean effect (independently), or
        on the latter in units of the noise.
    kappa, spread
        One of them, for ``mean="hierarchical"``: on kappa in beta ~ N(0, kappa Sigma0), or on its weight v in (0, 1).
    alpha
        On the slab's power, for ``slab="power"``.
    heterogeneity
        On the sd of log sigma2_t, where tissues have error variances of their own.
    concentration
        Of the LKJ prior on the correlations of errors, where they are correlated.
    scale
        s, the unit of the noise: the root mean square of the responses if None. Give it for a prior that is the same
        whatever the data, as simulation-based calibration needs.

    Raises
    ------
    InputError
        If a parameter has no prior, or two, or a number is not positive.

    Examples
    --------
    >>> from ebmodel.bayes import Prior, WEAK
    >>> mine = WEAK.with_(tau1=Prior("Beta", alpha=1, beta=9), beta=Prior("Normal", mu=0, sigma=2))
    >>> print(mine.tau1, mine.beta, mine.signal)
    Beta(alpha=1, beta=9) Normal(mu=0, sigma=2) None
    """

    tau1: Prior
    sigma2: Prior | None = None
    noise: Prior | None = None
    eta: Prior | None = None
    shrinkage: Prior | None = None
    beta: Prior | None = None
    gamma: Prior | None = None
    signal: Prior | None = None
    kappa: Prior | None = None
    spread: Prior | None = None
    alpha: Prior | None = None
    heterogeneity: Prior = Prior("HalfNormal", sigma=1)
    concentration: float = 2.0
    scale: float | None = None

    def __post_init__(self) -> None:
        for family in FAMILIES:
            given = [name for name in family if getattr(self, name) is not None]
            expect(len(given) == 1, f"a prior on one of {', '.join(family)}", given or "none", "Priors", "give one")
            prior = getattr(self, given[0])
            expect(
                isinstance(prior, Prior), "an ebmodel.bayes.Prior", repr(prior), f"the prior on {given[0]}", "make one"
            )
        h = self.heterogeneity
        expect(isinstance(h, Prior), "an ebmodel.bayes.Prior", repr(h), "the prior on heterogeneity", "make one")
        expect(self.scale is None or self.scale > 0, "a scale > 0", self.scale, "Priors", "leave it out")
        expect(self.concentration > 0, "a concentration > 0", self.concentration, "Priors", "leave it out")

    def with_(self, **changes: Any) -> Priors:
        """Give the same priors with some changed; a prior on another version of a parameter replaces the old one.

        Parameters
        ----------
        **changes
            By parameter, as for a new `Priors`.

        Returns
        -------
        Priors
            New ones; these stay as they are.

        Raises
        ------
        InputError
            If there is no such parameter, or what is left has none or two priors on one.
        """
        known = {field.name for field in fields(self)}
        strange = [name for name in changes if name not in known]
        expect(
            not strange, f"priors on {', '.join(sorted(known))}", strange, "Priors.with_", "see ebmodel.bayes.Priors"
        )
        gone = {name: None for family in FAMILIES for name in family if any(other in changes for other in family)}
        return replace(self, **(gone | changes))

    @property
    def proper(self) -> bool:
        """Whether every prior is a distribution, so that there is a posterior to sample."""
        given = (getattr(self, field.name) for field in fields(self))
        return not any(isinstance(prior, Prior) and prior.distribution in IMPROPER for prior in given)

    def __str__(self) -> str:
        shown = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "heterogeneity"}
        return ", ".join(f"{name} ~ {prior}" for name, prior in shown.items() if isinstance(prior, Prior))


FAMILIES = (
    ("tau1",),
    ("sigma2", "noise"),
    ("eta", "shrinkage"),
    ("beta", "gamma", "signal"),
    ("kappa", "spread"),
    ("alpha",),
)
"""The parameters: each has one prior, on one of these versions of it."""

OUTSIDE = {
    **dict.fromkeys(("tau1", "shrinkage", "spread"), ("0 to 1", [-0.5, 1.5])),
    **dict.fromkeys(("sigma2", "noise", "eta", "kappa", "heterogeneity"), ("the positive numbers", [-1.0])),
}
"""Where a prior may have no density."""

UNIT = Prior("Uniform", lower=0, upper=1)

WEAK = Priors(
    tau1=UNIT,
    noise=Prior("LogNormal", mu=0, sigma=1),
    shrinkage=UNIT,
    signal=Prior("Normal", mu=0, sigma=1),
    spread=UNIT,
    alpha=Prior("Normal", mu=0, sigma=1.5),
)
"""Weakly informative and proper; the same whatever the units of Y and, for the paper's slab, whatever the basis of X.

The shrinkage and the spread are uniform (Daniels 1999), the noise is within a factor of 7 of the mean square of Y."""

FLAT = Priors(
    tau1=UNIT,
    sigma2=Prior("HalfFlat"),
    eta=Prior("HalfFlat"),
    gamma=Prior("Flat"),
    kappa=Prior("HalfFlat"),
    alpha=Prior("Flat"),
)
"""Constant densities: the maximum a posteriori is the EM fit. Improper, as is the posterior: there is always some
chance that no tissue is active, and the data then say nothing of beta and eta. It can be maximised, not sampled."""

PRESETS = {"weak": WEAK, "flat": FLAT}


def as_priors(priors: str | Priors) -> Priors:
    """Give the preset of that name, or priors as they are once their supports are checked.

    Raises
    ------
    InputError
        If there is no such preset, or a prior has density where its parameter cannot be.
    """
    if isinstance(priors, Priors):
        for name, (support, points) in OUTSIDE.items():
            prior = getattr(priors, name)
            if prior is None or prior in (getattr(preset, name) for preset in PRESETS.values()):
                continue
            do = "truncate it or choose another"
            outside = prior.log_density(np.array(points))
            expect(bool(np.isneginf(outside).all()), f"a prior within {support}", prior, f"the prior on {name}", do)
        return priors
    known = isinstance(priors, str) and priors in PRESETS
    expect(known, f"{listed(PRESETS)} or ebmodel.bayes.Priors", repr(priors), "priors", "choose one")
    return PRESETS[priors]
