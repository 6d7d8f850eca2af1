r"""How much the oracle gains over least squares at least: Theorems 1 and 3, as printed and as their argument supports.

Write G = X'X, G_t = X_t'X_t for the rows observed in tissue t (all of them in Theorem 1), betahat for least squares,
(2) or (10), betabar for the oracle, (8) or (11), h for P(I(t)=1 | Y), and

    w = sigma2 / (sigma2 + eta),        lambda = lambda_max{G^(1/2)},        phi(a) = P(|N(0, I_p)| > a).

As printed, for every alpha > 0, with kappa = 1 in Theorem 1 and kappa = lambda_min(G) / lambda_max(G) in Theorem 3,

    R(OLS) - R(oracle) >= kappa w alpha^2 lambda_min(Delta)
        { tau1 phi[lambda ((1 + kappa) |beta| + alpha) / (sigma2 + eta)^(1/2)]
        + tau0 phi[lambda (kappa |beta| + alpha) / sigma] }                                              ("printed")

This is false. In both theorems the argument gives

    R(OLS) - R(oracle) >= w^2 alpha^2 lambda_min(Delta)
        { tau1 phi[lambda (2 |beta| + alpha) / (sigma2 + eta)^(1/2)]
        + tau0 phi[lambda (|beta| + alpha) / sigma] }                                                  ("corrected")

that is: the factor sigma2/(sigma2 + eta) is squared; what is inside phi in Theorem 1 stands; and missing responses cost
nothing, so that kappa has no place in Theorem 3.

The argument
------------
*Orthogonality.* betabar = E(beta(t) | Y), so E (betabar - beta(t))'Delta (estimate - betabar) = 0 for every estimate,
and R(OLS) - R(oracle) = E |betahat - betabar|^2_Delta with |v|^2_Delta = v'Delta v. What follows bounds betahat -
betabar in every single data set, given which samples are observed; if those are random, average last. Where X_t has
rank below p least squares has infinite risk and nothing is to be shown.

*Coordinates.* Let G^(-1/2) G_t G^(-1/2) = V diag(d) V'. As G - G_t is the unobserved rows' X'X, 0 < d <= 1. Put
u = V'G^(1/2) betahat and a = V'G^(1/2) beta. In (11) the slab's posterior mean becomes, coordinate by coordinate,

    w_j a_j + (1 - w_j) u_j,        w_j = sigma2 / (sigma2 + eta d_j),        w <= w_j <= 1,

and the difference V'G^(1/2) (betahat - betabar) becomes

    e_j = u_j - h {w_j a_j + (1 - w_j) u_j} = (1 - h + h w_j) (u_j - s_j a_j),  s_j = h w_j / (1 - h + h w_j).     (i)

*Size.* Here 0 <= s_j <= 1, and 1 - h + h w_j >= w_j >= w, whatever h is. Hence |e_j| >= w |u_j - s_j a_j| for every j,

    |e| >= w |u - (s_1 a_1, ..., s_p a_p)| >= w (|u| - |a|),                                                      (ii)

the latter because |(s_j a_j)| <= |a|. The coordinates may have different weights: only the least one, w, matters, and
it is that of complete data. With lambda_min(Delta) |v|^2 <= |v|^2_Delta, |G^(1/2) v| <= lambda |v| and
|a| = |G^(1/2) beta| <= lambda |beta|,

    |betahat - betabar|^2_Delta >= lambda_min(Delta) |e|^2 / lambda^2 >= w^2 alpha^2 lambda_min(Delta)
    wherever |u| > lambda (|beta| + alpha).                                                                      (iii)

*Probability.* u | I(t)=1 ~ N(a, diag(eta + sigma2/d)) and u | I(t)=0 ~ N(0, diag(sigma2/d)), with variances of at least
sigma2 + eta and sigma2 since d <= 1. So u - E u is some z ~ N(0, I) with every coordinate stretched by at least
(sigma2 + eta)^(1/2) or sigma, and

    I(t)=1:  |u| >= |u - a| - |a| >= (sigma2 + eta)^(1/2) |z| - lambda |beta|,
             which exceeds lambda (|beta| + alpha) where |z| > lambda (2 |beta| + alpha) / (sigma2 + eta)^(1/2);
    I(t)=0:  |u| >= sigma |z|, which does where |z| > lambda (|beta| + alpha) / sigma.                           (iv)

Multiply the loss in (iii) by the probabilities in (iv), and add up over I(t).

Where the print departs from it
-------------------------------
- The factor. The argument bounds the *length* |betahat - betabar| by w alpha, and the risk is its square. With p = 1,
  complete data, beta = 0 and tau1 -> 1 the left side tends to w sigma2 Delta / G and the print, at its best alpha, to
  0.331 (sigma2 + eta) w Delta / G: false as soon as eta > 2.02 sigma2.
- kappa as a factor. In the effects' own coordinates the matrix that weighs beta, A = (G/eta + G_t/sigma2)^-1 G/eta, is
  not symmetric, and norms alone show |A v| >= kappa w |v|. Squared as it must be this would be kappa^2 w^2, which is
  weaker than "corrected" as kappa <= 1.
- kappa |beta| inside phi. Nothing in the argument shrinks beta by kappa: with complete data A is w I whatever kappa is,
  and (ii) holds with |a|, not kappa |a|. (Once the factor is right this does no harm for p <= 9, where "direct" below
  is above it with any multiple of |beta|.)

Nearer bounds, as simple
------------------------
("centred") The point (s_j a_j) lies in the box with corners 0 and a, so within |a|/2 of its centre a/2, and (ii)
becomes |e| >= w (|u - a/2| - |a|/2). Now u - a/2 has mean a/2 or -a/2, and a normal vector is least likely to leave a
ball about 0 when its mean is 0 (Anderson's inequality): both 2 |beta| and |beta| become |beta|/2,

    R(OLS) - R(oracle) >= w^2 alpha^2 lambda_min(Delta)
        { tau1 phi[lambda (|beta|/2 + alpha) / (sigma2 + eta)^(1/2)] + tau0 phi[lambda (|beta|/2 + alpha) / sigma] }

("direct") No event is needed. s_j a_j is between 0 and a_j; so under the slab, where u_j lies on the far side of a_j,
|u_j - s_j a_j| >= |u_j - a_j|, and under the spike, where u_j and a_j differ in sign, |u_j - s_j a_j| >= |u_j|. By
symmetry either happens half of the time, whatever the length: E |e|^2 is at least w^2/2 times the sum of variances, and

    R(OLS) - R(oracle) >= w^2 lambda_min(Delta) p (sigma2 + tau1 eta) / (2 lambda^2),

with neither alpha nor beta. As sup alpha^2 phi(alpha) <= p/2 for p <= 9, it is the largest of all these there.

(two sides) The oracle is no worse than the best affine function of Y(t), and no better than if it knew I(t):

    R(OLS) - R(linear) <= R(OLS) - R(oracle) <= R(OLS) - R(informed),

both in closed form for any Delta and any missing responses (`ebmodel.risk.exact`). With complete data, where
R(OLS) = sigma2 tr Delta (X'X)^-1, the upper one is R(OLS) (tau1 w + tau0), and the lower one at least

    R(OLS) sigma2 / (sigma2 + tau1 eta + tau1 tau0 |X beta|^2).

Where X beta is large this is small, but the gain is not. Complete data have the same w_j in all coordinates, so that
(i) is e = (1 - h + h w) (u - s a) with one s, and the argument for "direct" is needed along a only: at most half the
variance is lost in one direction, none in those orthogonal to it in the geometry of Delta, and for every Delta

    R(OLS) - R(oracle) >= R(OLS) w^2 (1 + tau1 eta / sigma2) / 2.

Unlike the bounds before them these do not change when X becomes X A, beta A^-1 beta and Delta A'Delta A, as the risks
do not.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import chdtrc

from ebmodel.errors import expect
from ebmodel.model import Array, Params
from ebmodel.risk.estimators import design, loss_matrix

__all__ = ["FORMS", "Bound", "lower_bound"]

FORMS = ("printed", "corrected", "centred", "direct")
"""The forms of the bounds, by the names that the text above gives them."""
WHERE = "risk.lower_bound"
GRID = 257


class Bound(NamedTuple):
    """A lower bound on R(OLS) - R(oracle)."""

    value: float
    """The bound, in units of the loss."""
    alpha: float
    """The alpha it is at; nan for the form that has none."""


class _Terms(NamedTuple):
    """factor alpha^2 sum_k weight_k phi(shift_k + slope_k alpha)."""

    factor: float
    weight: Array
    shift: Array
    slope: Array
    p: int

    def at(self, alpha: Any) -> Any:
        alpha = np.asarray(alpha)[..., None]
        tail = chdtrc(self.p, (self.shift + self.slope * alpha) ** 2)  # phi(a) = P(chi2_p > a^2)
        return self.factor * alpha[..., 0] ** 2 * np.sum(self.weight * tail, axis=-1)


def lower_bound(
    params: Params, X: Any, form: str = "corrected", *, theorem: int = 1, loss: Any = None, alpha: float | None = None
) -> Bound:
    """The bound of Theorem 1, equation (9), or 3 on R(OLS) - R(oracle): see the module's text for the derivation.

    Parameters
    ----------
    params
        The true theta, with the paper's slab.
    X : (sample, snp)
        Genotypes of all samples, of full column rank. None of the bounds depends on which responses are missing.
    form
        ``"printed"``, as in the paper, which is no bound; ``"corrected"``, the one that the paper's argument supports;
        or ``"centred"`` or ``"direct"``, which are nearer.
    theorem
        1, complete data, or 3, missing responses. It matters to the printed form only.
    loss : (snp, snp), optional
        The paper's Delta; the identity if not given.
    alpha
        Any positive number; the best one if not given. ``"direct"`` has none.

    Returns
    -------
    Bound
        ``value`` and ``alpha``. With many samples and beta not 0 all but ``"direct"`` are soon 0 to all digits.

    Raises
    ------
    InputError
        If the input cannot be used, or the slab is not the paper's.

    Examples
    --------
    >>> import numpy as np
    >>> theta = Params(tau1=0.999, beta=[0.0], eta=9.0, sigma2=1.0)
    >>> X = np.ones((20, 1))
    >>> [round(lower_bound(theta, X, form).value, 4) for form in ("printed", "corrected", "direct")]
    [0.0166, 0.0017, 0.0025]
    >>> from ebmodel.risk import bayes_risk
    >>> round(float(bayes_risk(theta, X, "ols").regret[0]), 4)  # R(OLS) - R(oracle): below what is printed
    0.005
    """
    expect(form in FORMS, f"one of {', '.join(FORMS)}", repr(form), WHERE, "choose a form")
    expect(theorem in (1, 3), "theorem 1 or 3", theorem, WHERE, "choose one")
    paper = isinstance(params.slab, str) and params.slab == "g"
    expect(paper and params.kappa is None, "the paper's slab, with beta known", params.slab, WHERE, "use slab='g'")
    expect(alpha is None or 0.0 < alpha < np.inf, "alpha > 0", alpha, WHERE, "leave it out for the best one")
    X = design(X)
    beta, p = np.asarray(params.beta), X.shape[1]
    expect(p == len(beta), f"{len(beta)} SNPs, one an effect in params.beta", p, "X", "match them")
    singular = np.linalg.svd(X, compute_uv=False)
    full = len(X) >= p and bool(singular[-1] > singular[0] * max(X.shape) * np.finfo(float).eps)
    do = "leave out SNPs that others determine: (X'X)^-1 must exist"
    expect(full, f"genotypes of rank {p}", "less", "X", do)
    least = max(float(np.linalg.eigvalsh(loss_matrix(loss, p))[0]), 0.0)
    if form == "direct":
        return Bound(_direct(params, least, p, singular[0]), np.nan)
    terms = _terms(params, form, theorem, singular, least)
    best = _best(terms) if alpha is None else float(alpha)
    return Bound(float(terms.at(best)), best)


def _direct(params: Params, least: float, p: int, lam: float) -> float:
    w = params.sigma2 / (params.sigma2 + params.eta)
    # w^2 lambda_min(Delta) p (sigma2 + tau1 eta) / (2 lambda^2)
    return float(w**2 * least * p * (params.sigma2 + params.tau1 * params.eta) / (2.0 * lam**2))


def _terms(params: Params, form: str, theorem: int, singular: Array, least: float) -> _Terms:
    tau1, tau0, eta, sigma2 = params.tau1, params.tau0, params.eta, params.sigma2
    w = sigma2 / (sigma2 + eta)
    lam, kappa = singular[0], (singular[-1] / singular[0]) ** 2 if theorem == 3 else 1.0
    times = {  # of |beta|, under the slab and under the spike
        "printed": (1.0 + kappa, kappa),
        "corrected": (2.0, 1.0),
        "centred": (0.5, 0.5),
    }[form]
    factor = least * (kappa * w if form == "printed" else w**2)
    slope = lam / np.sqrt([sigma2 + eta, sigma2])
    shift = slope * np.array(times) * np.linalg.norm(params.beta)
    return _Terms(factor, np.array([tau1, tau0]), shift, slope, len(singular))


def _best(terms: _Terms) -> float:
    """The alpha with the largest value.

    Each of the two terms, alpha^2 phi(c + l alpha), is log-concave, for phi is, and so has one maximum; their sum has
    its maximum between the two, but may have a lower one there too. Hence a grid that covers both, and a search about
    its best point. A maximum is where 2/alpha is l times the hazard of phi at a = c + l alpha. That is at most a + 1
    and at least a - (p - 1)/a, so l alpha is between 2 / (c + (p + 1)^(1/2) + 1) and (p + 1)^(1/2): within the grid.
    """
    low = np.min(1.0 / (terms.slope * (terms.shift + np.sqrt(terms.p) + 3.0)))
    high = np.max((np.sqrt(terms.p) + 6.0) / terms.slope)
    grid = np.geomspace(low, high, GRID)
    values = terms.at(grid)
    i = int(np.argmax(values))
    bracket = np.log(grid[max(i - 1, 0)]), np.log(grid[min(i + 1, GRID - 1)])
    found = minimize_scalar(
        lambda log_alpha: -terms.at(np.exp(log_alpha)) / max(values[i], np.finfo(float).tiny),
        bounds=bracket, method="bounded", options={"xatol": 1e-9},
    )  # fmt: skip
    polished = float(np.exp(found.x))
    return polished if terms.at(polished) > values[i] else float(grid[i])
