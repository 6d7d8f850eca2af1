"""Likelihood profiles: log p(Y) maximised over all parameters but one, and what they say of that one.

    l(v) = max { log p(Y | theta) : theta_j = v },      LR(v) = 2 (max l - l(v)) >= 0

A region holds every v that a likelihood-ratio test does not refuse, LR(v) <= q(v). Inside the parameter's range q is
the quantile of chi-squared on one degree of freedom, X. On an edge of the range, eta = 0, kappa = 0 or tau1 = 1, the
estimate can err to one side only: half of the time, in large samples, it lies on the edge itself and LR is 0, so that

    LR ~ 1/2 chi2_0 + 1/2 chi2_1,      P(LR > x) = 1/2 P(X > x),   x > 0        (Self & Liang 1987)

whose 95 % quantile is 2.71, not 3.84. A region may therefore leave out eta = 0 and hold every small eta > 0. Edges at
which other parameters lose their meaning are another matter: tau1 = 0 (beta and eta), and eta = 0 where the mean is
zero (tau1). LR is a supremum over those, larger than either law (Davies 1987), and has no p-value here.

Profiles jump where one local maximum overtakes another. Every value is climbed to (`ebmodel.constrained`) from starts
of its own, from the fit, and from its neighbours' solutions in both directions until none has another to offer.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from scipy.optimize import brentq
from scipy.special import gammaincc, gammaincinv, ndtr

from ebmodel import constrained, em
from ebmodel.constrained import ETA, KAPPA, SIGMA2, TAU1
from ebmodel.errors import expect
from ebmodel.information import check_fitted, fitted_state, standard_errors
from ebmodel.labels import QUANTITY
from ebmodel.mean import FREE, HIERARCHICAL, ZERO
from ebmodel.model import Array
from ebmodel.parallel import one_thread
from ebmodel.results import Fit
from ebmodel.starts import active_sets
from ebmodel.statistics import Statistics

__all__ = ["PARAMETERS", "likelihood_ratio", "profile"]

PARAMETERS = {"tau1": TAU1, "eta": ETA, "sigma2": SIGMA2, "kappa": KAPPA}
"""The parameters that have a profile."""
EDGES = {TAU1: (0.0, 1.0), ETA: (0.0, np.inf), SIGMA2: (0.0, np.inf), KAPPA: (0.0, np.inf)}
STARTS = 8
"""Starts of its own for each value: sets of many tissues and of few (`ebmodel.starts`); the fit and the neighbours'
solutions come on top."""
SETS = 64
FIRST_STEPS = 20
"""EM steps before starts are compared; those with the same active tissues go on as one."""
SAME = 1e-6
"""Log-likelihoods nearer than this are the same."""
POINTS = 21
MARGIN = 0.25
"""Of the region, that a grid shows on either side."""
FAR, FURTHER = 10, 4.0
"""Steps outward, and their factor, before a region counts as without end."""
ROUNDS = 4


@one_thread
def profile(
    fit: Fit,
    parameter: str = "tau1",
    grid: Any = None,
    level: float = 0.95,
    n_starts: int = STARTS,
    seed: int = 0,
    tol: float = 1e-9,
    max_iter: int = 5000,
) -> xr.Dataset:
    """Profile of the likelihood in one parameter, with the region that it leaves and where the search found more.

    Parameters
    ----------
    fit
        As from `ebmodel.fit`, with any slab, mean and errors; the slab's shape and, where tissues have error variances
        of their own, the ratios of these are held where the fit has them.
    parameter
        ``"tau1"``, ``"eta"``, ``"sigma2"``, or ``"kappa"`` for a hierarchical mean. For alpha see
        `ebmodel.alpha_profile`.
    grid : (value,), optional
        Where to give the profile; if not given 21 values across the region and a little beyond. The estimate, and an
        edge of the range that is within reach, are always added.
    level
        Confidence of the region; inside (0, 1).
    n_starts, seed
        Starts of its own for every value, beside the fit's and the neighbours' solutions.
    tol, max_iter
        As in `ebmodel.fit`.

    Returns
    -------
    Dataset
        Along the parameter's values, a dimension with its name: ``loglik``, the profile; ``inside``, whether the
        region holds the value; and the other parameters where the likelihood is largest, ``tau1``, ``eta``, ``sigma2``
        (``kappa``). Numbers: ``estimate``, the fit's; ``maximum``, the profile's largest value; ``lower`` and
        ``upper``, the ends of the region, inf where it has none; ``wald_lower`` and ``wald_upper``, from
        `ebmodel.standard_errors`, nan at an edge; ``edge``, the value of the range's edge that has a test of its own
        (0 for eta and kappa, 1 for tau1, nan for sigma2), ``edge_statistic`` and ``edge_p``, that test, the latter nan
        where there is no law.

        Attributes ``parameter``, ``level``; ``of``, what is profiled; ``search``, '' or by how much some value's
        maximum exceeds the fit's, which was then not the maximum: fit again with more starts; ``caution``, '' or what
        makes the region doubtful.

    Raises
    ------
    InputError
        If the fit is at known parameters or has no such parameter, ``level`` is not inside (0, 1), or a value of
        ``grid`` is outside the parameter's range.

    Notes
    -----
    The laws are those of many tissues, each of them active or clearly not. For eta they also need beta to be told by
    many more active tissues than it takes: a free beta absorbs part of the spread of the active tissues' effects, as a
    fitted mean does of any sample's, and moves the estimate of sigma2 + eta down by its 1/(m tau1), which is
    sqrt(p/(2 m tau1)) standard errors. The region's ``caution`` says what is left of its level where this exceeds a
    half; ``mean="hierarchical"`` has nothing to absorb, and `ebmodel.bootstrap` needs no law.

    Measured, 95 % regions, 200 to 300 data sets each (standard error 1.3 to 1.5 %), half of m tissues active: with
    m = 60 and p = 2 they cover tau1, eta and sigma2 in 95, 94 and 95 % of data sets, in 94, 96 and 95 % where eta is 0;
    eta in 86 % with m = 30 and p = 30, and in 94 % there with a hierarchical mean. They are short of it where there are
    few tissues (m = 10: tau1 in 89 %) and where tissues are in doubt (effects of the noise's size: eta in 90 %).

    With a hierarchical mean the profile is that of the variational bound. Its kappa is the variance of one draw, beta,
    of p numbers: p, not m, has to be large.

    Sources: Self & Liang (1987), J. Am. Stat. Assoc. 82; Davies (1987), Biometrika 74; Meng & Rubin (1993) for EM whose
    M-step holds parameters.

    Examples
    --------
    >>> import ebmodel
    >>> gene = ebmodel.simulate.setting(1, rho=0.4, signal=2, m=20, p=4, sigma=3, seed=1)
    >>> found = profile(ebmodel.fit(gene.X, gene.Y), "sigma2")
    >>> bool(found.lower < found.estimate < found.upper)
    True
    """
    expect(0.0 < level < 1.0, "0 < level < 1", level, "level", "give a confidence such as 0.95")
    ridge = _Ridge(fit, parameter, n_starts, seed, tol, max_iter)
    given = None if grid is None else ridge.checked(grid)
    region = _Region(ridge, level)
    lower, upper = region.find(() if given is None else given)
    shown = np.unique(np.append(_default_grid(ridge, lower, upper) if given is None else given, ridge.estimate))
    ridge.settle(shown)
    if region.moved(shown, lower, upper):
        lower, upper = region.find(shown)
    at = [ridge.solutions[float(v)] for v in shown]
    wald = standard_errors(fit, level).sel({QUANTITY: parameter})
    edge = TESTED_EDGE[ridge.held]
    test = _test(ridge, edge) if np.isfinite(edge) else _Test(np.nan, np.nan, "")
    rest = [name for name in PARAMETERS if name != parameter and (name != "kappa" or ridge.latent)]
    others = {name: (parameter, [_value(s.state, PARAMETERS[name]) for s in at]) for name in rest}
    return xr.Dataset(
        {
            "loglik": (parameter, [s.loglik + ridge.shift for s in at]),
            "inside": (parameter, [region.holds(float(v)) for v in shown]),
            **others,
            "estimate": ridge.estimate,
            "maximum": ridge.top + ridge.shift,
            "lower": lower,
            "upper": upper,
            "wald_lower": float(wald["lower"]),
            "wald_upper": float(wald["upper"]),
            "edge": edge,
            "edge_statistic": test.statistic,
            "edge_p": test.p_value,
        },
        coords={parameter: shown},
        attrs={
            "parameter": parameter,
            "level": level,
            "of": "bound on the log-likelihood" if ridge.latent else "log-likelihood",
            "search": ridge.search(fit.loglik),
            "caution": "; ".join(_cautions(ridge, region, lower, upper)),
        },
    )


@one_thread
def likelihood_ratio(
    fit: Fit,
    parameter: str,
    value: float,
    n_starts: int = STARTS,
    seed: int = 0,
    tol: float = 1e-9,
    max_iter: int = 5000,
) -> xr.Dataset:
    """Test that a parameter has a given value: the likelihood ratio, with the law that belongs to the value.

    Parameters
    ----------
    fit, parameter, n_starts, seed, tol, max_iter
        As in `profile`.
    value
        What the parameter is supposed to be, an edge of its range included.

    Returns
    -------
    Dataset
        ``statistic``, LR; ``p_value``, nan where LR has no law; ``loglik``, the profile at the value. Attributes
        ``reference``, the law, and ``search`` as in `profile`.

    Raises
    ------
    InputError
        If the fit is at known parameters or has no such parameter, or the value is outside its range.

    Examples
    --------
    >>> import ebmodel
    >>> gene = ebmodel.simulate.setting(1, rho=0.4, signal=2, m=20, p=4, sigma=3, seed=1)
    >>> test = likelihood_ratio(ebmodel.fit(gene.X, gene.Y), "eta", 0.0)
    >>> test.attrs["reference"], bool(test.p_value < 0.01)
    ('1/2 chi2_0 + 1/2 chi2_1', True)
    """
    ridge = _Ridge(fit, parameter, n_starts, seed, tol, max_iter)
    value = float(ridge.checked([value])[0])
    ridge.settle(np.unique([value, ridge.estimate]))
    test = _test(ridge, value)
    numbers = {"statistic": test.statistic, "p_value": test.p_value, "loglik": ridge.at(value) + ridge.shift}
    attrs = {"parameter": parameter, "value": value, "reference": test.reference, "search": ridge.search(fit.loglik)}
    return xr.Dataset(numbers, attrs=attrs)


# The likelihood along one parameter ----------------------------------------------------------------------------------


class _Solution(NamedTuple):
    loglik: float
    state: em.State
    active: bytes
    """Which tissues are active there, to tell local maxima apart."""


class _Ridge:
    """l(v) as a function of v; remembers every solution, and follows them."""

    def __init__(self, fit: Fit, parameter: str, n_starts: int, seed: int, tol: float, max_iter: int) -> None:
        check_fitted(fit)
        self.kind, state = fitted_state(fit)
        self.latent = self.kind == HIERARCHICAL
        known = [name for name in PARAMETERS if name != "kappa" or self.latent]
        do = "see ebmodel.alpha_profile for alpha" if parameter == "alpha" else "choose one that the fit estimated"
        expect(parameter in known, " or ".join(map(repr, known)), repr(parameter), "parameter", do)
        expect(n_starts >= 1, "at least 1", n_starts, "n_starts", "leave the default")
        self.parameter, self.held = parameter, PARAMETERS[parameter]
        self.stats: Statistics = fit.whitened()[0]
        self.fitted, self.tol, self.max_iter = state, tol, max_iter
        omega = fit.params.relative_variance
        # the statistics are those of y_t/omega_t^(1/2)
        self.shift = 0.0 if omega is None else -0.5 * float(self.stats.n @ np.log(np.asarray(omega)))
        self.estimate = _value(state, self.held)
        sets = active_sets(self.stats, SETS, seed)[:: max(1, SETS // n_starts)][:n_starts]
        self.starts = [em.from_responsibilities(self.stats, T, self.kind) for T in sets]
        self.solutions: dict[float, _Solution] = {}
        self.offered: dict[float, set[bytes]] = {}
        self._climb(self.estimate, [state])
        self.known = self.top
        """The largest log p(Y), or bound, of which is known that nothing next to it is larger."""

    @property
    def top(self) -> float:
        """The largest value of the profile that is known."""
        return max(s.loglik for s in self.solutions.values())

    def checked(self, grid: Any) -> Array:
        """The values of a grid, once they are known to be in the parameter's range."""
        values = np.unique(np.asarray(grid, dtype=float).ravel())
        low, high = EDGES[self.held]
        fine = len(values) > 0 and bool(np.isfinite(values).all() and values[0] >= low and values[-1] <= high)
        fine = fine and (self.held != SIGMA2 or values[0] > 0.0)
        span = {TAU1: "0 <= tau1 <= 1", SIGMA2: "sigma2 > 0"}.get(self.held, f"{self.parameter} >= 0")
        got = f"{values[0]:g} to {values[-1]:g}" if len(values) else "none"
        expect(fine, f"values with {span}", got, "grid", "give values in the parameter's range")
        return values

    def at(self, value: float) -> float:
        """l(v), from the fit and the solutions on either side if v is new."""
        value = float(value)
        if value not in self.solutions:
            beside = [self.solutions[v].state for v in self._neighbours(value)]
            self._climb(value, [self.fitted, *beside])
        return self.solutions[value].loglik

    def ratio(self, value: float) -> float:
        """LR(v)."""
        return max(2.0 * (self.top - self.at(value)), 0.0)

    def settle(self, values: Iterable[float]) -> None:
        """l at every value from starts of its own, then from its neighbours until none has another to offer."""
        for value in map(float, values):
            self.at(value)
            self._climb(value, self.starts)
        ordered = sorted(self.solutions)
        improved = True
        while improved:
            improved = False
            for one, other in [*pairwise(ordered), *pairwise(ordered[::-1])]:
                improved |= self._climb(other, [self.solutions[one].state])
        self._free_top()

    def _free_top(self) -> None:
        """Where the profile exceeds the fit, the maximum itself: EM with nothing held from there."""
        best = max(self.solutions.values(), key=lambda s: s.loglik)
        if best.loglik <= self.known + SAME:
            return
        state, _, _ = em.run(self.stats, best.state, self.tol, self.max_iter)
        T, loglik = em.expectation(self.stats, state)
        if loglik > best.loglik:
            self.solutions[_value(state, self.held)] = _Solution(loglik, state, _active(T))
        self.known = max(loglik, best.loglik)

    def search(self, loglik: float) -> str:
        """What it means where the profile exceeds the fit."""
        best = max(self.solutions, key=lambda v: self.solutions[v].loglik)
        more = self.top + self.shift - loglik
        if more <= SAME:
            return ""
        return (
            f"the fit is not the maximum: with {self.parameter} = {best:.4g} the {'bound' if self.latent else 'log'}"
            f"{'' if self.latent else '-likelihood'} is larger by {more:.3g}; fit again with more starts"
        )

    def _neighbours(self, value: float) -> list[float]:
        below = [v for v in self.solutions if v < value]
        above = [v for v in self.solutions if v > value]
        return [*([max(below)] if below else []), *([min(above)] if above else [])]

    def _climb(self, value: float, states: list[em.State]) -> bool:
        """EM at a value from every state that is new there; whether that found more."""
        held, stats = self.held, self.stats
        offered = self.offered.setdefault(value, set())
        ends: dict[bytes, tuple[float, em.State]] = {}
        for state in states:
            T = em.expectation(stats, state)[0]
            name = _active(T)
            if name in offered:
                continue
            offered.add(name)
            start = constrained.maximisation(stats, T, constrained.hold(stats, state, held, value), held)
            end, T, loglik, _ = constrained.ascend(stats, start, held, self.tol, FIRST_STEPS)
            active = _active(T)
            if active not in ends or loglik > ends[active][0]:
                ends[active] = loglik, end
        before = self.solutions.get(value)
        found = [constrained.ascend(stats, end, held, self.tol, self.max_iter) for _, end in ends.values()]
        candidates = [_Solution(loglik, end, _active(T)) for end, T, loglik, _ in found if np.isfinite(loglik)]
        candidates += [before] if before is not None else [_none_active(stats, self.fitted, held, value)]
        self.solutions[value] = best = max(candidates, key=lambda s: s.loglik)
        return before is not None and best.loglik > before.loglik + SAME


def _active(T: Array) -> bytes:
    """Responsibilities to the nearest quarter: tissues in doubt tell maxima apart too."""
    return np.round(4.0 * T).tobytes()


def _none_active(stats: Statistics, fitted: em.State, held: int, value: float) -> _Solution:
    """tau1 = 0, where the slab has no say and log p(Y) is that of noise; -inf where tau1 is held elsewhere."""
    state = constrained.hold(stats, em.nothing(stats, fitted), held, value)
    if state.tau1 > 0.0:
        return _Solution(-np.inf, state, b"")
    return _Solution(float(em.expectation(stats, state)[1]), state, _active(np.zeros(len(stats.n))))


def _value(state: em.State, held: int) -> float:
    values = {TAU1: state.tau1, ETA: state.eta, SIGMA2: state.sigma2, KAPPA: state.belief.kappa}
    return float(values[held])


# Tests and regions ---------------------------------------------------------------------------------------------------


class _Test(NamedTuple):
    statistic: float
    p_value: float
    reference: str


CHI2, MIXTURE = "chi2_1", "1/2 chi2_0 + 1/2 chi2_1"
NO_LAW = "none: other parameters mean nothing there"
TESTED_EDGE = {TAU1: 1.0, ETA: 0.0, SIGMA2: np.nan, KAPPA: 0.0}


def _reference(held: int, kind: int, value: float) -> str:
    """The law of LR(v) in large samples if the parameter is v."""
    nothing = (held == TAU1 and value == 0.0) or (held == ETA and kind == ZERO and value == 0.0)  # slab = spike
    return NO_LAW if nothing else MIXTURE if value == TESTED_EDGE[held] else CHI2


def _test(ridge: _Ridge, value: float) -> _Test:
    ratio, reference = ridge.ratio(value), _reference(ridge.held, ridge.kind, value)
    tail = float(gammaincc(0.5, ratio / 2.0))  # P(X > LR)
    if reference == MIXTURE:
        tail = 0.5 * tail if ratio > 2.0 * SAME else 1.0
    return _Test(ratio, np.nan if reference == NO_LAW else tail, reference)


def _quantile(ridge: _Ridge, value: float, level: float) -> float:
    """q(v); where there is no law that of its neighbours."""
    if _reference(ridge.held, ridge.kind, value) == MIXTURE:
        level = max(2.0 * level - 1.0, 0.0)
    return 2.0 * float(gammaincinv(0.5, level))


class _Region:
    """The values that a likelihood-ratio test does not refuse."""

    def __init__(self, ridge: _Ridge, level: float) -> None:
        self.ridge, self.level = ridge, level
        self.cut = 2.0 * float(gammaincinv(0.5, level))
        self.top = ridge.top

    def holds(self, value: float) -> bool:
        """Whether the region holds the value."""
        return self.ridge.ratio(value) <= _quantile(self.ridge, value, self.level)

    def find(self, values: Iterable[float]) -> tuple[float, float]:
        """The ends of the region, from a coarse grid and ``values`` inward and outward; again if the top moves."""
        ridge = self.ridge
        for _ in range(ROUNDS):
            self.top = ridge.top
            ridge.settle(np.unique([*_coarse(ridge), *values]))
            ends = self._end(below=True), self._end(below=False)
            if ridge.top <= self.top + SAME:
                break
        self.top = ridge.top
        return ends

    def moved(self, values: Array, lower: float, upper: float) -> bool:
        """Whether the search has since found a higher top, or values beyond the ends that belong inside."""
        beyond = values[(values < lower) | (values > upper)]
        return self.ridge.top > self.top + SAME or any(self.ridge.ratio(v) <= self.cut for v in beyond)

    def pieces(self) -> int:
        """How many stretches of known values the region holds."""
        inside = [self.ridge.ratio(v) <= self.cut for v in sorted(self.ridge.solutions)]
        return sum(b and not a for a, b in pairwise([False, *inside]))

    def _end(self, *, below: bool) -> float:
        """The outermost crossing of LR with its quantile, an edge of the range if there is none."""
        ridge, edge = self.ridge, EDGES[self.ridge.held][0 if below else 1]
        known = sorted(ridge.solutions, reverse=below)
        inner = [v for v in known if ridge.ratio(v) <= self.cut][-1]
        beyond = [v for v in known if (v < inner if below else v > inner)]
        if not beyond:
            if inner == edge:
                return edge
            beyond = self._outward(inner, edge, below=below)
        if not beyond:
            return edge
        outer = beyond[0]
        excess = {v: ridge.ratio(v) - self.cut for v in (inner, outer)}
        if excess[inner] > 0.0:  # the search has just found a higher top
            return inner
        size = abs(outer - inner)
        return float(brentq(lambda v: ridge.ratio(v) - self.cut, inner, outer, xtol=1e-6 * size, rtol=1e-6))

    def _outward(self, inner: float, edge: float, *, below: bool) -> list[float]:
        """The first value beyond ``inner`` that is outside the region, if there is one before the range ends."""
        step = max(inner, _unit(self.ridge))
        for _ in range(FAR):
            value = inner / FURTHER if below else inner + step
            value = float(np.clip(value, *EDGES[self.ridge.held]))
            if self.ridge.ratio(value) > self.cut:
                return [value]
            if value == edge:
                break
            inner, step = value, step * FURTHER
        return []


def _unit(ridge: _Ridge) -> float:
    """A size for the parameter where its estimate gives none: eta and kappa that are as much as the noise."""
    return ridge.fitted.sigma2 / float(np.mean(ridge.stats.d))


def _coarse(ridge: _Ridge) -> Array:
    """Values over the parameter's range, few, from which to see where the region is."""
    if ridge.held == TAU1:
        return np.append(np.linspace(0.0, 1.0, 9), ridge.estimate)
    if ridge.held == SIGMA2:
        spread = np.sqrt(2.0 / ridge.stats.n.sum())  # about the standard error of log sigma2
        return np.asarray(ridge.estimate * np.exp(spread * np.array([-8.0, -4.0, -2.0, -1.0, 0.0, 1.0, 2.0, 4.0, 8.0])))
    size = ridge.estimate or _unit(ridge) / 4.0
    return np.append(ridge.estimate, size * np.array([0.0, 0.0625, 0.25, 0.5, 1.5, 2.5, 5.0]))


def _default_grid(ridge: _Ridge, lower: float, upper: float) -> Array:
    """Values across the region and a little beyond, with the edge that is within reach."""
    low, high = EDGES[ridge.held]
    if np.isinf(upper):
        upper = 4.0 * max(ridge.estimate, lower, _unit(ridge))
    margin = MARGIN * (upper - lower)
    first, last = max(lower - margin, low), min(upper + margin, high)
    values = np.unique(np.append(np.linspace(first, last, POINTS), (lower, upper)))
    return values[(values > 0.0) | (ridge.held != SIGMA2)]


FEW = 10.0
"""Tissues active, or inactive, below which large samples are far."""
MOVED = 0.5
"""Standard errors by which a free mean may move eta before that is worth a word: a 95 % region then covers 92 %."""


def _cautions(ridge: _Ridge, region: _Region, lower: float, upper: float) -> list[str]:
    """What makes the region doubtful, in words."""
    cautions, theta = [], ridge.fitted
    seen = float(np.sum(ridge.stats.n > 0))
    active = seen * theta.tau1
    if region.pieces() > 1:
        cautions.append("the region is in several pieces, of which lower and upper are the outermost ends")
    if not np.isfinite(upper):
        cautions.append("the region has no upper end: the data do not speak against no tissue being active")
    if theta.tau1 == 0.0:
        cautions.append("no tissue is active at the fit: the data say nothing of the slab")
    if ridge.held == TAU1 and lower == 0.0:
        cautions.append("the region reaches tau1 = 0, where the likelihood ratio has no known law")
    if ridge.held == TAU1 and min(active, seen - active) < FEW:
        cautions.append(f"about {active:.1f} of {seen:.0f} tissues are active: large-sample laws are far")
    if ridge.held == ETA and active < FEW:
        cautions.append(f"about {active:.1f} tissues are active: large-sample laws are far")
    if ridge.held == ETA and ridge.kind == FREE and active > 0.0:
        moved = float(np.sqrt(len(theta.gamma) / (2.0 * active)))
        z = np.sqrt(region.cut)
        if moved > MOVED:
            cautions.append(
                "the free mean takes up part of the spread between tissues and moves eta's estimate down by about "
                f"{moved:.1f} standard errors: a {100 * region.level:g} % region covers about "
                f"{100 * float(ndtr(z - moved) - ndtr(-z - moved)):.0f} %; fit with mean='hierarchical'"
            )
    if ridge.held == KAPPA:
        cautions.append(f"kappa is the variance of one draw of {len(theta.gamma)} numbers, and the profile a bound's")
    return cautions
