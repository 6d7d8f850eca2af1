"""Simulated estimates with their truth: the two scenarios of Urbut et al. (Figure 2), two more, and mashr's example.

Every data set is a Dataset with ``bhat`` and ``shat`` (effect, condition), ``V`` (condition, condition_other), the
correlation of errors, and the whole truth:

    b                   (effect, condition)    the effects; exactly 0 where there is none
    component           (effect)               covariance that b_j was drawn with; "null": none
    omega               (effect)               scale that b_j was drawn with; 0 of null effects
    covariance_matrix   (covariance, c., c.)   U_k, largest diagonal entry 1
    weights             (covariance, scale)    pi_kl, in the mixture that the effects are from
    null_weight         ()                     pi_0 of that mixture

The last three are the prior, which `true_prior` gives as one: no other has a lower expected error. The scenario
``"independent"`` has none, as no mixture of few components describes it. The same seed gives the same data.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from ebmodel.eqtl.tissues import TISSUES
from ebmodel.errors import InputError, expect, listed
from ebmodel.labels import CONDITION, CONDITION_OTHER, COVARIANCE, EFFECT, SCALE
from ebmodel.mash.covariances import Covariance, canonical
from ebmodel.mash.prior import NULL, Prior
from ebmodel.model import Array
from ebmodel.simulate.draws import at_random

__all__ = ["GTEX", "SCENARIOS", "from_prior", "patterns", "scenario", "simple", "true_prior"]

WHERE = "mash.simulation"
SCENARIOS = ("structured", "unstructured", "specific", "independent")
"""Names of the scenarios that `scenario` draws: the two of Urbut et al. (Figure 2), and two more."""
_LATER = ("Brain_Amygdala", "Brain_Spinal_cord_cervical_c-1", "Brain_Substantia_nigra", "Kidney_Cortex",
          "Minor_Salivary_Gland")  # fmt: skip
GTEX: tuple[str, ...] = tuple(name for name in TISSUES if name not in _LATER)
"""The 44 tissues of GTEx v6, which the published study and its simulations are of."""
WITHIN, BETWEEN = 0.9, 0.6
"""Correlation of effects within the brain or within the rest, and of the one with the other."""

type _Pattern = tuple[float, tuple[str, ...], float, float]

_PATTERNS: dict[str, _Pattern] = {
    # share, tissues that load 1 (by what their names begin with), load of the others, correlation between the two
    "shared": (0.35, ("",), 1.0, BETWEEN),
    "brain": (0.15, ("Brain", "Pituitary"), 0.3, BETWEEN),
    "body": (0.15, tuple(name for name in TISSUES if not name.startswith("Brain")), 0.2, BETWEEN),
    "blood": (0.15, ("Whole_Blood", "Cells_EBV", "Spleen"), 0.15, BETWEEN),
    "testis": (0.1, ("Testis",), 0.15, BETWEEN),
    "muscle": (0.1, ("Muscle", "Heart", "Artery"), 0.2, BETWEEN),
}


def patterns(conditions: Sequence[str] = GTEX) -> tuple[list[Covariance], Array]:
    """Covariances like those that GTEx's effects showed, and how common each is.

    The published study simulates from covariances estimated from GTEx, which are not at hand; these are ours, after
    what it reports of them (its Figure 3): effects are positively correlated in all tissues, more so within the brain;
    some are strongest in the brain, some elsewhere; some are nearly specific, to blood or testis above all.

        U = D R D,   D the loads,   R_rs = 1 on the diagonal, .9 if r and s are both brain or both not, otherwise .6

        pattern   share   load 1                             load of the others
        -------   -----   --------------------------------   ------------------
        shared    .35     all
        brain     .15     brain, pituitary                   .3
        body      .15     all but the brain                  .2
        blood     .15     whole blood, lymphocytes, spleen   .15
        testis    .1      testis                             .15
        muscle    .1      skeletal muscle, heart, arteries   .2

    Parameters
    ----------
    conditions
        Names of GTEx's tissues.

    Returns
    -------
    list of Covariance, and (covariance,)
        Patterns in which none of the tissues has load 1 are left out, the other shares scaled to sum to 1.

    Raises
    ------
    InputError
        If a name is not a tissue of GTEx.
    """
    strange = [name for name in conditions if name not in TISSUES]
    expect(not strange, "tissues of GTEx", listed(strange), f"{WHERE}, conditions", "take names from GTEX")
    brain = np.array([name.startswith("Brain") for name in conditions])
    found, shares = [], []
    for name, (share, leading, load, between) in _PATTERNS.items():
        D = np.where([tissue.startswith(leading) for tissue in conditions], 1.0, load)
        if D.max() < 1.0:
            continue
        R = np.where(brain[:, None] == brain, WITHIN, between)
        np.fill_diagonal(R, 1.0)
        found.append(Covariance.from_matrix(name, D[:, None] * R * D))
        shares.append(share)
    return found, np.array(shares) / np.sum(shares)


def scenario(
    name: str,
    *,
    effects: int = 20_000,
    share: float = 0.02,
    conditions: Sequence[str] = GTEX,
    scales: ArrayLike = (0.1, 0.2, 0.4),
    shat: ArrayLike = 0.1,
    V: ArrayLike | None = None,
    missing: ArrayLike = 0.0,
    seed: int | np.random.SeedSequence = 0,
) -> xr.Dataset:
    """Effects of which a few are not null, in one of four scenarios.

        name             a non-null effect
        --------------   ------------------------------------------------------------------------------------------
        "structured"     b_j ~ N(0, omega^2 U_k), U_k one of patterns: in all conditions, alike in related ones
        "unstructured"   b_j ~ N(0, omega^2 I): in all conditions, but what it is in one says nothing of the others
        "specific"       in one condition, each as likely as the other
        "independent"    none is null or not as a whole: in every condition a share of the effects is not

    As published (Urbut et al. 2019, Figure 2, and the scripts that its authors gave): the first two scenarios, there
    called "shared, structured effects" and "shared, unstructured effects"; 44 conditions and 20,000 effects of which
    400 are not null, the first ones. Ours: the U_k, the scales omega (all equally likely) and standard errors, and
    the last two scenarios, in which there is nothing to share.

    Parameters
    ----------
    name
        One of ``SCENARIOS``.
    effects, share
        How many, and which share of them is not null: exactly, but for ``"independent"``, where it is the probability
        of every single one.
    conditions
        Names of tissues (`GTEX`).
    scales : (scale,)
        omega, all equally likely.
    shat
        Standard errors: one for all, (condition,) or (effect, condition).
    V : (condition, condition), optional
        Correlation of errors; independent if not given.
    missing
        Share of every condition's estimates set missing at random; one, or (condition,). Their standard errors stay.
    seed
        Of the random numbers.

    Returns
    -------
    Dataset
        As the module says, with the arguments as attributes.

    Raises
    ------
    InputError
        If the scenario is unknown, or an argument is out of range.

    Examples
    --------
    >>> data = scenario("structured", effects=500, seed=1)
    >>> int((data["component"] != "null").sum()), dict(data.sizes)["condition"]
    (10, 44)
    """
    expect(name in SCENARIOS, f"one of {', '.join(SCENARIOS)}", repr(name), WHERE, "choose a scenario")
    expect(effects >= 1, "effects >= 1", effects, WHERE, "give how many")
    expect(0.0 <= share <= 1.0, "0 <= share <= 1", share, WHERE, "give the share that is not null")
    grid = np.atleast_1d(np.asarray(scales, dtype=float))
    expect(bool((grid > 0.0).all()), "scales > 0", scales, WHERE, "give sds of effects")
    covariances, shares = _covariances(name, list(conditions))
    odds = np.outer(shares, np.full(len(grid), 1.0 / len(grid)))
    prior = Prior(tuple(covariances), grid, share * odds, 1.0 - share, np.array(conditions, dtype=str))
    rng, attrs = np.random.default_rng(seed), {"scenario": name, "share": share}
    if name == "independent":
        size = effects, len(conditions)
        omega = np.where(rng.random(size) < share, rng.choice(grid, size), 0.0)
        b = np.where(omega > 0.0, omega * rng.standard_normal(size), 0.0)
        return _observed(b, prior.conditions, shat, V, missing, rng, {**attrs, "alpha": 0.0})
    some = round(share * effects)
    which = np.zeros(effects, dtype=np.int64)
    which[:some] = 1 + rng.choice(odds.size, size=some, p=odds.ravel())
    return _drawn(prior, which, shat, V, missing, rng, attrs)


def simple(
    each: int = 100,
    *,
    conditions: int = 5,
    shat: ArrayLike = 0.01,
    V: ArrayLike | None = None,
    missing: ArrayLike = 0.0,
    seed: int | np.random.SeedSequence = 0,
) -> xr.Dataset:
    """mashr's example ``simple_sims``: null, independent, specific and equal effects, as many of each, in this order.

    Effects have variance 1 in the conditions where there are any; specific ones are in the first condition.

    Parameters
    ----------
    each
        Effects of each kind.
    conditions
        How many.
    shat, V, missing, seed
        As in `scenario`.

    Returns
    -------
    Dataset
        As from `scenario`, with `from_prior`'s components: ``identity``, ``condition_1`` and ``equal_effects``.

    Raises
    ------
    InputError
        If an argument is out of range.

    Examples
    --------
    >>> simple(2, seed=1)["component"].values.tolist()[2:6]
    ['identity', 'identity', 'condition_1', 'condition_1']
    """
    expect(each >= 1, "each >= 1", each, WHERE, "give how many effects of each kind")
    expect(conditions >= 2, "conditions >= 2", conditions, WHERE, "give how many")
    every = {U.name: U for U in canonical(conditions)}
    kinds = tuple(every[name] for name in ("identity", "condition_1", "equal_effects"))
    names = np.array([f"condition_{r + 1}" for r in range(conditions)])
    prior = Prior(kinds, np.ones(1), np.full((3, 1), 0.25), 0.25, names)
    which = np.repeat(np.arange(4), each)
    return _drawn(prior, which, shat, V, missing, np.random.default_rng(seed), {"scenario": "simple"})


def from_prior(
    prior: Prior,
    effects: int,
    *,
    shat: ArrayLike = 1.0,
    V: ArrayLike | None = None,
    missing: ArrayLike = 0.0,
    seed: int | np.random.SeedSequence = 0,
) -> xr.Dataset:
    """Effects drawn from a prior, and estimates of them: what mash assumes, exactly.

        b_j / s_j^alpha ~ pi_0 delta_0 + sum_kl pi_kl N(0, omega_l^2 U_k),    b_hat_j ~ N(b_j, S_j C S_j)

    Parameters
    ----------
    prior
        Of the effects, its alpha included: a fit's, say.
    effects
        How many.
    shat, V, missing, seed
        As in `scenario`.

    Returns
    -------
    Dataset
        As the module says, ``alpha`` among its attributes.

    Raises
    ------
    InputError
        If an argument is out of range.
    """
    expect(effects >= 1, "effects >= 1", effects, WHERE, "give how many")
    rng = np.random.default_rng(seed)
    probability = np.append(prior.null, prior.weights)
    which = rng.choice(len(probability), size=effects, p=probability / probability.sum())
    return _drawn(prior, which, shat, V, missing, rng, {"scenario": "prior"})


def true_prior(data: xr.Dataset) -> Prior:
    """The prior that a simulated data set was drawn from.

    Parameters
    ----------
    data : Dataset
        As from `scenario`, `simple` or `from_prior`.

    Returns
    -------
    Prior
        With the conditions' names, and alpha.

    Raises
    ------
    InputError
        If the effects are not from a mixture: the scenario ``"independent"``.
    """
    if "weights" not in data:
        got = f"the scenario {data.attrs.get('scenario')!r}"
        raise InputError("effects from a mixture", got, f"{WHERE}, true_prior", "use another scenario")
    covariances = tuple(
        Covariance.from_matrix(str(name), U)
        for name, U in zip(data[COVARIANCE].to_numpy(), data["covariance_matrix"].to_numpy(), strict=True)
    )
    grid, weights, null = data[SCALE].to_numpy(), data["weights"].to_numpy(), float(data["null_weight"])
    return Prior(covariances, grid, weights, null, data[CONDITION].to_numpy(), data.attrs["alpha"])


def _covariances(name: str, conditions: list[str]) -> tuple[list[Covariance], Array]:
    """What non-null effects of a scenario are drawn with, and how often each."""
    if name == "structured":
        return patterns(conditions)
    every = canonical(conditions)
    chosen = [U for U in every if U.name in conditions] if name == "specific" else every[:1]
    return chosen, np.full(len(chosen), 1.0 / len(chosen))


def _drawn(
    prior: Prior,
    which: NDArray[np.int64],
    shat: ArrayLike,
    V: ArrayLike | None,
    missing: ArrayLike,
    rng: np.random.Generator,
    attrs: dict[str, Any],
) -> xr.Dataset:
    """Effects from their components (0 the point mass), estimates, and the prior beside them."""
    size = len(which), len(prior.conditions)
    k, l = np.divmod(np.maximum(which - 1, 0), len(prior.grid))
    omega = np.where(which > 0, prior.grid[l], 0.0)
    b = np.zeros(size)
    for index, U in enumerate(prior.covariances):
        rows = (which > 0) & (k == index)
        b[rows] = omega[rows, None] * rng.standard_normal((rows.sum(), U.rank)) @ U.factor.T  # N(0, omega^2 F F')
    b *= _standard_errors(shat, size) ** prior.alpha
    names = np.array([U.name for U in prior.covariances])
    data = _observed(b, prior.conditions, shat, V, missing, rng, {**attrs, "alpha": prior.alpha})
    matrices = np.array([U.matrix for U in prior.covariances])
    return data.assign_coords({COVARIANCE: names, SCALE: prior.grid}).assign(
        component=(EFFECT, np.where(which > 0, names[k], NULL)),
        omega=(EFFECT, omega),
        covariance_matrix=((COVARIANCE, CONDITION, CONDITION_OTHER), matrices),
        weights=((COVARIANCE, SCALE), prior.weights),
        null_weight=prior.null,
    )


def _observed(
    b: Array,
    conditions: NDArray[Any],
    shat: ArrayLike,
    V: ArrayLike | None,
    missing: ArrayLike,
    rng: np.random.Generator,
    attrs: dict[str, Any],
) -> xr.Dataset:
    """Estimates b_hat_j ~ N(b_j, S_j C S_j), NaN where they are missing; standard errors are known there too."""
    J, R = b.shape
    s, C = _standard_errors(shat, b.shape), np.eye(R) if V is None else np.asarray(V, dtype=float)
    fits = C.shape == (R, R) and bool(np.allclose(np.diag(C), 1.0) and np.linalg.eigvalsh(C)[0] > 0.0)
    do = "give that of the errors"
    expect(fits, f"a correlation matrix, ({R}, {R}), positive definite", "another", f"{WHERE}, V", do)
    shares = np.asarray(missing, dtype=float)
    inside = shares.shape in {(), (R,)} and bool(((shares >= 0.0) & (shares < 1.0)).all())
    do = f"give one, or {R}"
    expect(inside, "shares missing, 0 <= missing < 1", missing, f"{WHERE}, missing", do)
    bhat = b + s * (rng.standard_normal((J, R)) @ np.linalg.cholesky(C).T)
    gone = at_random(J, R, shares, rng)
    cells = EFFECT, CONDITION
    return xr.Dataset(
        {
            "bhat": (cells, np.where(gone, np.nan, bhat)),
            "shat": (cells, np.array(s)),
            "b": (cells, b),
            "V": ((CONDITION, CONDITION_OTHER), C),
        },
        {
            EFFECT: np.array([f"effect_{j + 1}" for j in range(J)]),
            CONDITION: conditions,
            CONDITION_OTHER: conditions,
        },
        attrs,
    )


def _standard_errors(shat: ArrayLike, size: tuple[int, int]) -> Array:
    s = np.asarray(shat, dtype=float)
    fits = s.shape in {(), (size[1],), size} and bool((s > 0.0).all() and np.isfinite(s).all())
    expect(fits, f"standard errors > 0: one, {size[1]} or {size}", f"shape {s.shape}", f"{WHERE}, shat", "check them")
    return np.broadcast_to(s, size)
