"""The full Bayesian twin of mash: the weights of the mixture, and scales if wanted, have priors instead of one value.

    b_hat_j | b_j ~ N_R(b_j, V_j)
    b_j | pi ~ pi_0 delta_0 + sum_p pi_p N_R(0, Sigma_p),     pi ~ Dirichlet(a),    a = (10, 1, ..., 1)

with Sigma_p = omega_l^2 U_k on the grid (``scales="grid"``), or Sigma_k = omega_k^2 U_k with one scale a covariance
that is a parameter itself (``scales="free"``), log omega_k ~ N(m, v^2) with the grid's middle and a quarter of its
length: the grid is two standard deviations about it. Effects are integrated and components summed out,

    log p(B_hat | pi) = sum_j log sum_p pi_p L_jp,     L_jp = N(b_hat_j; 0, V_j + Sigma_p).

The density of pi, on the simplex, is then e^phi with phi the objective of the empirical-Bayes fit: the fit, with its
penalty (a_0 - 1) log pi_0, is the maximum a posteriori, exactly. It is not the mean. phi is concave and has its maximum
at a corner, where almost all weights are 0; the Dirichlet has its volume elsewhere. It expects the point mass to have
10/(P + 9) of P components' weight, and small scales, which look like it, to share what it loses.

Two samplers: NUTS moves in the simplex's unconstrained coordinates, and is for some tens of components; that of
`ebmodel.mash.gibbs` is for hundreds. Effects are recovered by `ebmodel.mash.averaging`.

Source: Urbut, Wang, Carbonetto & Stephens (2019), whose weights these are.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import arviz as az
import numpy as np
import pymc as pm
import pytensor.tensor as pt
import xarray as xr
from numpy.typing import NDArray

from ebmodel.bayes.compiling import compiled_once
from ebmodel.bayes.diagnosis import BFMI, ESS_PER_CHAIN, RHAT, bfmi
from ebmodel.errors import InputError, expect, listed
from ebmodel.labels import CHAIN, COMPONENT, CONDITION, CONDITION_OTHER, COVARIANCE, DRAW, EFFECT, SCALE
from ebmodel.mash.averaging import coordinates, draw_effects, log_densities, log_likelihood, recover
from ebmodel.mash.covariances import Covariance
from ebmodel.mash.data import Effects
from ebmodel.mash.gibbs import sample_weights
from ebmodel.mash.likelihood import Components
from ebmodel.mash.prior import NULL, Prior
from ebmodel.model import Array
from ebmodel.parallel import spread

if TYPE_CHECKING:
    from ebmodel.mash.results import MashFit

__all__ = ["METHODS", "SCALES", "Problem", "pose", "pymc_model", "sample", "verdict"]

SCALES = ("grid", "free")
METHODS = ("gibbs", "nuts")

ACCEPT = 0.95
"""NUTS's acceptance: with longer steps it diverges in the simplex's corners."""

type Index = NDArray[np.int64]


# The problem ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Problem:
    """What a model is built from."""

    effects: Effects
    covariances: tuple[Covariance, ...]
    grid: Array
    """(scale,) omega_l; with free scales it says where they are expected."""
    pointmass: bool
    concentration: Array
    """(component,) a."""
    free: bool
    """Whether scales are parameters."""

    @cached_property
    def components(self) -> Components:
        """The mixture on the grid."""
        return Components.of(self.covariances, self.grid, pointmass=self.pointmass)

    @cached_property
    def relative(self) -> tuple[Array, Array]:
        """On the grid L_jp over its largest value in effect j, (component, effect), and the logarithm of that value."""
        log_L = log_densities(self.effects, self.components)
        most = log_L.max(axis=0)
        return np.exp(log_L - most), most

    @property
    def layout(self) -> tuple[Index, Index]:
        """Covariance and scale of every component, (component,); -1 for the point mass."""
        K, L = len(self.covariances), 1 if self.free else len(self.grid)
        null = np.full(int(self.pointmass), -1)
        return (np.concatenate([null, np.repeat(np.arange(K), L)]), np.concatenate([null, np.tile(np.arange(L), K)]))

    @property
    def log_scale_prior(self) -> tuple[float, float]:
        """Mean and sd of log omega_k where scales are free."""
        ends = np.log(self.grid[[0, -1]])
        return float(ends.mean()), max(float(np.ptp(ends)) / 4.0, 0.5)

    @property
    def names(self) -> list[str]:
        """Names of components, the point mass first."""
        scales = [""] if self.free else [f".{k + 1}" for k in range(len(self.grid))]
        return [NULL] * self.pointmass + [f"{U.name}{scale}" for U in self.covariances for scale in scales]

    def take(self, rows: Any) -> Problem:
        """With some of the effects."""
        return replace(self, effects=self.effects.take(rows))


def pose(
    source: MashFit | Effects,
    prior: Prior | None = None,
    *,
    scales: str = "grid",
    null_weight: float = 10.0,
    concentration: float = 1.0,
    covariances: Sequence[str] | None = None,
) -> Problem:
    """Validate data and choices; arguments as of `sample`.

    Raises
    ------
    InputError
        As `sample`.
    """
    expect(scales in SCALES, " or ".join(map(repr, SCALES)), repr(scales), "scales", "choose one")
    expect(null_weight > 0.0 and concentration > 0.0, "positive parameters of the Dirichlet",
           (null_weight, concentration), "null_weight, concentration", "leave the defaults")  # fmt: skip
    effects, prior = _of_fit(source, prior)
    expect(len(prior.conditions) == effects.B.shape[1], f"a prior of {effects.B.shape[1]} conditions",
           len(prior.conditions), "prior", "give one for these effects")  # fmt: skip
    chosen = _chosen(prior.covariances, covariances)
    alternatives = len(chosen) * (1 if scales == "free" else len(prior.grid))
    a = np.concatenate([[float(null_weight)] * prior.pointmass, np.full(alternatives, float(concentration))])
    return Problem(effects, chosen, np.asarray(prior.grid, dtype=float), prior.pointmass, a, scales == "free")


def _of_fit(source: Any, prior: Prior | None) -> tuple[Effects, Prior]:
    if not isinstance(source, Effects):
        return source.effects(), prior or source.prior
    if prior is None:
        do = "give covariances and grid as an ebmodel.mash.prior.Prior"
        raise InputError("a prior beside effects", "None", "prior", do)
    return source, prior


def _chosen(covariances: tuple[Covariance, ...], names: Sequence[str] | None) -> tuple[Covariance, ...]:
    if names is None:
        return covariances
    strange = sorted(set(names) - {U.name for U in covariances})
    do = f"choose among {listed(U.name for U in covariances)}"
    expect(bool(names) and not strange, "names of covariances of the prior", listed(strange) or "none", "covariances",
           do)  # fmt: skip
    return tuple(U for U in covariances if U.name in set(names))


# PyMC and NUTS --------------------------------------------------------------------------------------------------------


def pymc_model(
    source: MashFit | Effects,
    prior: Prior | None = None,
    *,
    scales: str = "grid",
    null_weight: float = 10.0,
    concentration: float = 1.0,
    covariances: Sequence[str] | None = None,
) -> pm.Model:
    """Build the model in PyMC, effects integrated and components summed out.

    Parameters
    ----------
    source, prior, scales, null_weight, concentration, covariances
        As in `sample`.

    Returns
    -------
    pm.Model
        With ``mixture`` (component), all weights in flat order, the point mass first; with free scales ``omega``
        (covariance) too. Potential ``loglik``: the log-likelihood less that of the point mass alone (on the grid: less
        a constant of every effect).

    Raises
    ------
    InputError
        As `sample`.
    """
    return build(pose(source, prior, scales=scales, null_weight=null_weight, concentration=concentration,
                      covariances=covariances))  # fmt: skip


def build(problem: Problem) -> pm.Model:
    """Build the PyMC model of a posed problem."""
    coords = {COMPONENT: problem.names, COVARIANCE: [U.name for U in problem.covariances]}
    with pm.Model(coords=coords) as model:
        data = {name: pm.Data(name, value, shape=value.shape) for name, value in inputs(problem).items()}
        pi = pm.Dirichlet("mixture", data["concentration"], dims=COMPONENT)
        if problem.free:
            pm.Potential("loglik", _free_scales(problem, data, pi))
        else:
            pm.Potential("loglik", pt.sum(pt.log(pt.dot(pi, data["likelihood"]))))  # sum_j log sum_p pi_p L_jp
    return model


def _free_scales(problem: Problem, data: dict[str, Any], pi: Any) -> Any:
    """sum_j log sum_k pi_k L_jk / L_j0 at scales that are parameters."""
    mean, sd = data["log_scale"][0], data["log_scale"][1]
    z = pm.Normal("z", 0.0, 1.0, dims=COVARIANCE)
    omega = pm.Deterministic("omega", pt.exp(mean + sd * z), dims=COVARIANCE)
    w2 = pt.square(omega)[:, None, None]
    spread = 1.0 + w2 * data["d"]
    # log L_jk - log L_j0, (covariance, effect)
    log_ratio = 0.5 * (pt.sum(w2 * data["y2"] / spread, axis=2) - pt.sum(pt.log(spread), axis=2))
    null = [pt.zeros_like(log_ratio[:1])] * problem.pointmass
    joint = pt.log(pi)[:, None] + pt.concatenate([*null, log_ratio], axis=0)
    return pt.sum(pt.logsumexp(joint, axis=0))


def inputs(problem: Problem) -> dict[str, Array]:
    """Every number of the data that the model sees: it can be compiled once and given other data."""
    given = {"concentration": problem.concentration}
    if not problem.free:
        return given | {"likelihood": problem.relative[0]}
    R, at = problem.effects.B.shape[1], coordinates(problem.effects, problem.covariances)

    def padded(values: Array) -> Array:
        """(covariance, effect or 1, condition): d = 0 and y = 0 are directions that U has not."""
        parts = [values[:, span] for span in at.spans]
        return np.stack([np.pad(part, ((0, 0), (0, R - part.shape[1]))) for part in parts])

    return given | {"d": padded(at.d), "y2": padded(at.y) ** 2, "log_scale": np.array(problem.log_scale_prior)}


def compiled(problem: Problem) -> Any:
    """Compile for data of this shape, once, and give it this problem's data."""
    given = inputs(problem)
    key = "mash", problem.free, problem.pointmass, tuple((name, value.shape) for name, value in given.items())
    return compiled_once(key, lambda: build(problem))[1].with_data(**given)


# Draws ----------------------------------------------------------------------------------------------------------------


class Drawn(NamedTuple):
    """What a sampler gives."""

    pi: Array
    """(chain, draw, component)."""
    omega: Array | None
    """(chain, draw, covariance), if scales are free."""
    stats: xr.Dataset
    """The sampler's own."""


def sample(
    source: MashFit | Effects,
    prior: Prior | None = None,
    *,
    scales: str = "grid",
    method: str | None = None,
    null_weight: float = 10.0,
    concentration: float = 1.0,
    covariances: Sequence[str] | None = None,
    effects: Sequence[str] | None = None,
    keep: Sequence[str] = (),
    pointwise: bool = False,
    draws: int = 1000,
    tune: int = 500,
    chains: int = 4,
    seed: int = 0,
    cores: int = 1,
    progress: bool = True,
) -> xr.DataTree:
    """Sample weights of the mixture, and scales if wanted, with the posterior of effects averaged over them.

    Parameters
    ----------
    source
        A fit, as from `ebmodel.mash.fit`, for its data and prior; or data, with ``prior``.
    prior
        Covariances and grid (its weights are not looked at). Of a fit: another than its own.
    scales
        ``"grid"``: every covariance at every scale of the grid. ``"free"``: one scale a covariance, a parameter with a
        log-normal prior about the grid's middle; for few conditions.
    method
        ``"gibbs"``, for any number of components, on the grid; ``"nuts"``, for up to about a hundred components, and
        for free scales. By default the first wherever it can be used.
    null_weight, concentration
        Of the point mass and of every other component in the Dirichlet. With 1 for the others, and the fit's
        ``null_weight``, the fit is the maximum a posteriori.
    covariances
        Names of those to use; all of them by default.
    effects
        Names of effects whose posterior is wanted; all of them by default. All inform the weights.
    keep
        Names of effects of which draws are kept too.
    pointwise
        Whether to give the log-likelihood of every effect at every draw, for `arviz.loo`.
    draws, tune, chains
        Draws kept of each chain, steps before them, and chains.
    seed
        Of the random numbers. The same seed gives the same draws, whatever ``cores``.
    cores
        Chains at a time.
    progress
        Whether to show a progress bar.

    Returns
    -------
    DataTree
        ``posterior``: ``null_weight``, ``weights`` (covariance, scale) and ``loglik``, log p(B_hat | weights); with
        free scales ``weights`` (covariance) and ``omega`` (covariance); ``effects`` (effect, condition) if ``keep``.
        ``effects``: ``mean``, ``sd``, ``lfsr``, ``lfdr``, ``negative``, ``positive`` (effect, condition), averaged over
        draws, and ``left_out``, the share of the posterior variance that comes from not knowing the weights.
        ``log_likelihood`` if ``pointwise``: ``bhat`` (effect). ``prior``, ``log_prior``, ``sample_stats``,
        ``observed_data``, ``constant_data``. Attribute ``verdict``: whether to trust the draws.

    Raises
    ------
    InputError
        If data, prior or a name cannot be used, or a choice does not exist.

    Notes
    -----
    A sweep of ``"gibbs"`` takes time in proportion to effects times components, 10 to 20 ms for a million. Weights
    of neighbouring scales mix slowly, and under a sparse prior (``concentration`` well below 1) all do: raise draws.

    With hundreds of components the default prior is not neutral. It counts for as many effects as there are components
    and 9 more, and expects most of the weight off the point mass: with few effects the posterior has less at the point
    mass than the fit, and larger sds. ``concentration`` = 10 over the number of components counts for 10 effects off
    the point mass, and needs some thousands of draws.
    """
    expect(min(draws, chains) >= 1 and tune >= 0, "at least one draw and chain", (draws, tune, chains),
           "draws, tune, chains", "raise them")  # fmt: skip
    problem = pose(source, prior, scales=scales, null_weight=null_weight, concentration=concentration,
                   covariances=covariances)  # fmt: skip
    method = method or ("nuts" if problem.free else "gibbs")
    expect(method in METHODS, " or ".join(map(repr, METHODS)), repr(method), "method", "choose one")
    expect(method == "nuts" or not problem.free, "method='nuts' for free scales", repr(method), "method",
           "leave it out")  # fmt: skip
    rows, kept = (_rows(problem.effects, names, word) for names, word in ((effects, "effects"), (keep, "keep")))
    streams = np.random.SeedSequence(seed).spawn(3)
    run = _gibbs if method == "gibbs" else _nuts
    drawn = run(problem, draws, tune, chains, streams[0], cores, progress=progress)
    pi = drawn.pi.reshape(chains * draws, -1)
    omega = None if drawn.omega is None else drawn.omega.reshape(chains * draws, -1)
    of_effects = log_likelihood(problem, pi, omega).reshape(chains, draws, -1)
    groups = _laid_out(problem, drawn, of_effects, np.random.default_rng(streams[2]), pointwise=pointwise)
    if len(kept):
        values = draw_effects(problem.take(kept), pi, omega, np.random.default_rng(streams[1]))
        groups["posterior"] = _with_effects(groups["posterior"], problem.effects.take(kept), values)
    groups["effects"] = recover(problem.take(rows) if effects is not None else problem, pi, omega)
    tree = xr.DataTree.from_dict(groups)
    tree.attrs = {"method": method, "scales": scales, "null_weight": float(null_weight),
                  "concentration": float(concentration), "prior_effects": float(problem.concentration.sum()),
                  "alpha": problem.effects.alpha, "seed": seed}  # fmt: skip
    tree.attrs["verdict"] = verdict(tree)
    return tree


def _rows(effects: Effects, names: Sequence[str] | None, where: str) -> Index:
    if names is None:
        return np.arange(len(effects.effects))
    place = {str(name): j for j, name in enumerate(effects.effects)}
    strange = [name for name in names if str(name) not in place]
    expect(not strange, "names of effects", listed(strange), where, "match those of bhat")
    return np.array([place[str(name)] for name in names], dtype=np.int64)


def _gibbs(
    problem: Problem, draws: int, tune: int, chains: int, seed: np.random.SeedSequence, cores: int, *, progress: bool
) -> Drawn:
    covariance, scale = (group + problem.pointmass for group in problem.layout)  # the point mass, if any, is group 0
    tasks = [(problem.relative[0], problem.concentration, scale, covariance, draws, tune, stream)
             for stream in seed.spawn(chains)]  # fmt: skip
    pi = np.array([*spread(sample_weights, tasks, jobs=cores, title="sampling", progress=progress)])
    return Drawn(pi, None, xr.Dataset())


def _nuts(
    problem: Problem, draws: int, tune: int, chains: int, seed: np.random.SeedSequence, cores: int, *, progress: bool
) -> Drawn:
    import nutpie

    tree = nutpie.sample(compiled(problem), draws=draws, tune=tune, chains=chains, seed=int(seed.generate_state(1)[0]),
                         cores=cores, target_accept=ACCEPT, save_warmup=False, progress_bar=progress)  # fmt: skip
    posterior, stats = tree["posterior"].to_dataset(), tree["sample_stats"].to_dataset()
    omega = posterior["omega"].to_numpy() if problem.free else None
    return Drawn(posterior["mixture"].to_numpy(), omega, stats[[name for name in stats if stats[name].dtype != object]])


# The tree -------------------------------------------------------------------------------------------------------------


def _laid_out(
    problem: Problem, drawn: Drawn, of_effects: Array, rng: np.random.Generator, *, pointwise: bool
) -> dict[str, xr.Dataset]:
    """Groups of the tree, but for effects; ``of_effects`` (chain, draw, effect) are log-likelihoods."""
    chains, draws, _ = drawn.pi.shape
    posterior, log_prior = _weights(problem, drawn.pi, drawn.omega), _log_prior(problem, drawn.pi, drawn.omega)
    posterior["loglik"] = (CHAIN, DRAW), of_effects.sum(axis=2)
    groups = {
        "posterior": posterior,
        "log_prior": log_prior,
        "prior": _draw_prior(problem, min(draws * chains, 1000), rng),
        "sample_stats": drawn.stats.assign(lp=posterior["loglik"] + sum(log_prior.data_vars.values())),
        "observed_data": _table(problem, "bhat", problem.effects.B),
        "constant_data": _constant(problem),
    }
    if pointwise:
        coords = {EFFECT: problem.effects.effects, CHAIN: np.arange(chains), DRAW: np.arange(draws)}
        groups["log_likelihood"] = xr.Dataset({"bhat": ((CHAIN, DRAW, EFFECT), of_effects)}, coords)
    return groups


def _with_effects(posterior: xr.Dataset, effects: Effects, values: Array) -> xr.Dataset:
    """With draws of effects, (draw of any chain, effect, condition)."""
    shape = posterior.sizes[CHAIN], posterior.sizes[DRAW], *effects.B.shape
    drawn = posterior.assign(effects=((CHAIN, DRAW, EFFECT, CONDITION), values.reshape(shape)))
    return drawn.assign_coords({EFFECT: effects.effects, CONDITION: effects.conditions})


def _weights(problem: Problem, pi: Array, omega: Array | None) -> xr.Dataset:
    """Draws (chain, draw, component) by covariance and scale."""
    chains, draws, _ = pi.shape
    weights = pi[:, :, problem.pointmass :].reshape(chains, draws, len(problem.covariances), -1)
    null = pi[:, :, 0] if problem.pointmass else np.zeros((chains, draws))
    dims = (CHAIN, DRAW, COVARIANCE)
    coords = {CHAIN: np.arange(chains), DRAW: np.arange(draws), COVARIANCE: [U.name for U in problem.covariances]}
    if not problem.free:
        coords[SCALE] = problem.grid
        return xr.Dataset({"null_weight": (dims[:2], null), "weights": ((*dims, SCALE), weights)}, coords)
    variables: dict[str, Any] = {"null_weight": (dims[:2], null), "weights": (dims, weights[..., 0])}
    return xr.Dataset(variables | ({} if omega is None else {"omega": (dims, omega)}), coords)


def _log_prior(problem: Problem, pi: Array, omega: Array | None) -> xr.Dataset:
    """Densities of the Dirichlet and of log omega, up to constants."""
    a, dims = problem.concentration, (CHAIN, DRAW)
    informed = a != 1.0
    log_pi = np.log(np.maximum(pi[..., informed], np.finfo(float).tiny))  # small weights of a sparse prior underflow
    found = {"mixture": (dims, log_pi @ (a[informed] - 1.0))}
    if omega is not None:
        mean, sd = problem.log_scale_prior
        found["omega"] = dims, -0.5 * np.square((np.log(omega) - mean) / sd).sum(axis=2)
    return xr.Dataset(found, {CHAIN: np.arange(len(pi)), DRAW: np.arange(pi.shape[1])})


def _draw_prior(problem: Problem, draws: int, rng: np.random.Generator) -> xr.Dataset:
    """Independent draws from the prior, in one chain."""
    pi = rng.dirichlet(problem.concentration, draws)[None]
    mean, sd = problem.log_scale_prior
    omega = np.exp(rng.normal(mean, sd, (1, draws, len(problem.covariances)))) if problem.free else None
    return _weights(problem, pi, omega)


def _table(problem: Problem, name: str, values: Array) -> xr.Dataset:
    """Values of the scaled effects on the original scale."""
    coords = {EFFECT: problem.effects.effects, CONDITION: problem.effects.conditions}
    return xr.Dataset({name: ((EFFECT, CONDITION), values * problem.effects.scale)}, coords)


def _constant(problem: Problem) -> xr.Dataset:
    """Standard errors, covariances and their names."""
    effects, square = problem.effects, (CONDITION, CONDITION_OTHER)
    found = _table(problem, "shat", np.asarray(effects.S))
    found["V"] = ((EFFECT, *square) if effects.own else square), effects.C
    matrices = np.array([U.matrix for U in problem.covariances])
    found["covariance_matrix"] = (COVARIANCE, *square), matrices
    found["grid"] = SCALE, problem.grid
    names = {COVARIANCE: [U.name for U in problem.covariances], CONDITION_OTHER: effects.conditions}
    return found.assign_coords(names)


# Whether to trust it --------------------------------------------------------------------------------------------------


def verdict(tree: xr.DataTree) -> str:
    """Whether to trust the draws, in one paragraph that begins with ``Sound`` or ``Not sound``.

    Judged are the point mass, every covariance and scale (weights summed over the other) and the log-likelihood: what
    neighbouring scales share of a weight is hardly told, and no effect depends on it.

    Parameters
    ----------
    tree
        As from `sample`.
    """
    posterior, stats = tree["posterior"].to_dataset(), tree["sample_stats"].to_dataset()
    mixed, low = _mixing(_judged(posterior))
    worst, chains = max(mixed, key=lambda name: mixed[name], default=""), posterior.sizes[CHAIN]
    complaints = []
    diverging = int(stats["diverging"].sum()) if "diverging" in stats else 0
    if diverging:
        complaints.append(f"{diverging} transitions diverged: raise tune, or give fewer covariances")
    if chains < 2:
        complaints.append("one chain cannot show whether chains agree: use at least two, better four")
    elif not mixed or not mixed[worst] < RHAT:
        value = mixed.get(worst, np.nan)
        complaints.append(f"R-hat is {value:.3f} for the {worst} (it should be below {RHAT}): draw more")
    least = ESS_PER_CHAIN * chains
    if not low >= least:
        complaints.append(f"the least effective sample size is {low:.0f} (it should be above {least}): raise draws")
    energy = float(bfmi(stats).min()) if "energy" in stats else np.inf
    if not energy > BFMI:
        complaints.append(f"E-BFMI is {energy:.2f} (it should be above {BFMI}): raise tune")
    if complaints:
        return "Not sound. " + "; ".join(complaints) + "."
    return f"Sound: R-hat at most {mixed[worst]:.3f}, effective sample size at least {low:.0f}."


def _judged(posterior: xr.Dataset) -> dict[str, xr.DataArray]:
    """What `verdict` judges and varies."""
    weights, judged = posterior["weights"], {name: posterior[name] for name in ("null_weight", "loglik")}
    if SCALE in weights.dims:
        judged |= {"weights of covariances": weights.sum(SCALE), "weights of scales": weights.sum(COVARIANCE)}
    else:
        judged["weights of covariances"] = weights
    if "omega" in posterior:
        judged["omega"] = xr.DataArray(np.log(posterior["omega"]))
    return {name: value for name, value in judged.items() if value.size > 1 and np.ptp(value.to_numpy()) > 0.0}


def _mixing(judged: dict[str, xr.DataArray]) -> tuple[dict[str, float], float]:
    """R-hat of each, and the least effective sample size of all."""
    with np.errstate(invalid="ignore", divide="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of ArviZ, about few draws: NaN says it
        mixed = {name: float(np.nanmax([az.rhat(value).max()])) for name, value in judged.items()}
        sizes = [float(az.ess(value, method=way).min()) for value in judged.values() for way in ("bulk", "tail")]
    return mixed, min(sizes, default=0.0)
