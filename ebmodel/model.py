"""The model: its equations, its notation and its parameters.

For one gene, ``X`` is the n x p genotype matrix (samples x SNPs) and ``Y`` the n x m expression matrix
(samples x tissues); ``Y`` may have missing entries. For tissue t = 1, ..., m

    Y(t) = X beta(t) + eps(t),      eps(t) ~ N(0, sigma2 I_n), independent over t                     (1)
    betahat(t) = (X'X)^-1 X'Y(t)                                                                      (2)
    beta(t) | I(t) = 1 ~ N(beta, eta Sigma0),     Sigma0 = (X'X)^-1 in the paper                      (3)
    beta(t) | I(t) = 0 = 0,                       I(t) ~ Bernoulli(tau1), tau0 = 1 - tau1             (4)

With g1 and g0 the marginal densities of Y(t) under the slab and the spike,

    P(I(t) = 1 | Y) = h1 = tau1 g1 / (tau1 g1 + tau0 g0)
    E(beta(t) | Y)  = h1 (1/eta + 1/sigma2)^-1 (beta/eta + betahat(t)/sigma2)                         (5)
    K_t = g0 / g1                               Bayes factor, H0 over H1: K < 1 favours an effect     (6)
    O_t = K_t tau0 / tau1                       posterior odds of the spike                           (7)

(Xue & Li, Sections 2-3; equations (10) and (11) are the counterparts of (2) and (5) for missing responses.)

The slab's mean beta is a parameter in the paper: p numbers found by maximum likelihood from the active tissues. Where
it has a prior of its own,

    beta ~ N(0, kappa Sigma0)                                                                         (H)

it is a latent variable instead, and kappa a parameter; kappa = 0 is a slab centred at zero.

The paper's error variance is one for all tissues. Where every tissue has its own,

    eps(t) ~ N(0, sigma2_t I_n),     sigma2_t = omega_t sigma2                                        (E)

with sigma2 their level and omega the ratios to it; eta Sigma0 is the same for all tissues, as before.

The slab's covariance is eta Sigma0. ``eta`` is absolute: it is not multiplied by ``sigma2``. The shape Sigma0 is

| ``slab``            | Sigma0                                                |
| ------------------- | ----------------------------------------------------- |
| ``"g"`` (the paper) | (X'X)^-1                                              |
| ``"independent"``   | I                                                     |
| a number ``alpha``  | (X'X/s)^-alpha, s the mean non-zero eigenvalue of X'X |
| a p x p matrix      | that matrix (positive definite)                       |

With s, eta is a typical variance of an effect whatever alpha; ``alpha=1`` is the paper's model with eta in units of
1/s. Where X'X is singular its non-zero eigenvalues are used, and a mean beta is the one of least norm (for a matrix,
of least beta' Sigma0^-1 beta).

Notation
--------
| Symbol | In code           | Shape      | Constraint            | Equation                                           |
| ------ | ----------------- | ---------- | --------------------- | -------------------------------------------------- |
| tau1   | tau1              | ()         | 0 <= tau1 <= 1        | (4): share of active tissues                       |
| beta   | beta              | (snp,)     | real                  | (3): mean effect in active tissues                 |
| eta    | eta               | ()         | eta >= 0              | (3): scale of the slab's covariance                |
| sigma2 | sigma2            | ()         | sigma2 > 0            | (1): error variance, of all tissues or their level |
| omega  | relative_variance | (tissue,)  | relative_variance > 0 | (E): error variances over sigma2; None: all 1      |
| Sigma0 | slab              | (snp, snp) | positive definite     | (3): shape of the slab's covariance                |
| alpha  | alpha             | ()         | real                  | power that gives Sigma0, where one does            |
| kappa  | kappa             | ()         | kappa >= 0            | (H): scale of beta's prior; None: a parameter      |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ebmodel.errors import InputError, expect

__all__ = ["Array", "Params", "Slab", "slab_power"]

type Array = NDArray[np.float64]
"""Numbers in double precision; their shape is in the text."""
type Slab = str | float | Array
"""The slab's shape: ``"g"``, ``"independent"``, a power ``alpha``, or a (snp, snp) matrix."""


def slab_power(slab: Slab) -> float:
    """Give the power alpha of X'X that a slab stands for, nan for a matrix.

    Raises
    ------
    InputError
        If ``slab`` is a word other than ``"g"`` and ``"independent"``, or not finite.
    """
    if isinstance(slab, str):
        if slab not in ("g", "independent"):
            raise InputError("'g', 'independent', a number or a (snp, snp) matrix", repr(slab), "slab", "choose one")
        return 1.0 if slab == "g" else 0.0
    if np.ndim(slab) == 0:
        expect(bool(np.isfinite(slab)), "a finite power", slab, "slab", "give a number such as 1 (the paper) or 0")
        return float(slab)
    return float("nan")


SHOWN = 6
"""Numbers of a vector that are printed; the others are counted."""


def _short(value: Any) -> str:
    """A number, a vector or a matrix in few letters."""
    if isinstance(value, str):
        return repr(value)
    array = np.asarray(value, dtype=float)
    if array.ndim == 0:
        return f"{float(array):.6g}"
    if array.ndim > 1:
        return f"<{' x '.join(map(str, array.shape))} matrix>"
    numbers = [f"{number:.4g}" for number in array[:SHOWN]]
    return f"[{', '.join(numbers if array.size <= SHOWN else [*numbers, f'... {array.size} in all'])}]"


@dataclass(frozen=True, kw_only=True, eq=False)
class Params:
    """The parameters theta = (tau1, beta, eta, sigma2) of equations (1), (3) and (4), and the slab's shape.

    Parameters
    ----------
    tau1
        P(I(t) = 1), the share of active tissues; 0 <= tau1 <= 1.
    beta : (snp,)
        Mean effect in active tissues, in units of Y per unit of X. An array, or a DataArray with its SNPs' names.
    eta
        Scale of the slab's covariance, >= 0. Units of Y squared for the paper's slab.
    sigma2
        Error variance, > 0, in units of Y squared; of tissues with error variances of their own, their level.
    slab
        Shape of the slab's covariance: ``"g"`` (the paper), ``"independent"``, a power alpha or a (snp, snp) matrix.
    kappa
        Scale of the prior beta ~ N(0, kappa Sigma0), >= 0, in the units of ``eta``; ``beta`` is then E(beta | Y), not a
        parameter. None where beta is a parameter.
    relative_variance : (tissue,), optional
        omega, > 0: tissue t's error variance is omega_t sigma2. An array, or a DataArray with its tissues' names. None
        where all are sigma2. Of a fit its mean, weighted by the tissues' responses, is 1; here any values serve.

    Raises
    ------
    InputError
        If a value is outside its range.

    Examples
    --------
    >>> Params(tau1=0.5, beta=[1.0, 0.0], eta=0.2, sigma2=1.0).tau0
    0.5
    """

    tau1: float
    beta: Any
    eta: float
    sigma2: float
    slab: Any = "g"
    kappa: float | None = None
    relative_variance: Any = None

    def __post_init__(self) -> None:
        slab_power(self.slab)
        beta = np.asarray(self.beta, dtype=float)
        finite = beta.ndim == 1 and bool(np.isfinite(beta).all())
        expect(0.0 <= self.tau1 <= 1.0, "0 <= tau1 <= 1", self.tau1, "tau1", "give a probability")
        expect(finite, "one finite number a SNP", self.beta, "beta", "give a vector of effects")
        expect(0.0 <= self.eta < np.inf, "a finite number >= 0", self.eta, "eta", "give a variance")
        expect(0.0 < self.sigma2 < np.inf, "a finite number > 0", self.sigma2, "sigma2", "give a variance")
        known = self.kappa is None or 0.0 <= self.kappa < np.inf
        expect(known, "a finite number >= 0, or None", self.kappa, "kappa", "give a variance")
        if not hasattr(self.beta, "dims"):  # a labelled beta keeps its labels
            object.__setattr__(self, "beta", beta)
        if self.relative_variance is None:
            return
        omega = np.asarray(self.relative_variance, dtype=float)
        positive = omega.ndim == 1 and bool(np.isfinite(omega).all() and (omega > 0.0).all())
        wanted, do = "one finite number > 0 a tissue, or None", "give error variances over sigma2"
        expect(positive, wanted, self.relative_variance, "relative_variance", do)
        if not hasattr(self.relative_variance, "dims"):
            object.__setattr__(self, "relative_variance", omega)

    def __repr__(self) -> str:
        given = ((name, getattr(self, name)) for name in self.__dataclass_fields__)
        return f"Params({', '.join(f'{name}={_short(value)}' for name, value in given if value is not None)})"

    @property
    def tau0(self) -> float:
        """P(I(t) = 0) = 1 - tau1, equation (4)."""
        return 1.0 - self.tau1

    @property
    def error_variance(self) -> Any:
        """sigma2_t = omega_t sigma2 of every tissue, equation (E); the number sigma2 where it is one for all."""
        return self.sigma2 if self.relative_variance is None else self.sigma2 * self.relative_variance

    @property
    def alpha(self) -> float:
        """Power alpha in Sigma0 = (X'X)^-alpha: 1 for the paper's slab, 0 for independent effects, nan for a matrix."""
        return slab_power(self.slab)
