"""Sampling the posterior: NUTS on the hyperparameters, then exact conditional draws of I(t) and beta(t).

The marginal model is compiled once for data of one shape and reused for other data of that shape: nothing but the
sufficient statistics differs. Given the hyperparameters, I(t) and beta(t) are independent over tissues and have the
closed form of `ebmodel.posterior`, so each of NUTS's draws gives one exact draw of them.
"""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pymc as pm
import xarray as xr
from numpy.typing import NDArray
from scipy.special import expit

from ebmodel.bayes import covariance
from ebmodel.bayes.compiling import compiled_once, strictly
from ebmodel.bayes.diagnosis import diagnose
from ebmodel.bayes.models import CORRELATED, Problem, Weighed, build, long_form, pose
from ebmodel.bayes.priors import Prior, Priors
from ebmodel.bayes.starts import Mode, choose, find_modes, unconstrained, values
from ebmodel.errors import expect
from ebmodel.heteroscedastic import EQUAL
from ebmodel.labels import CHAIN, COVARIATE, DRAW, SAMPLE, SNP, SNP_OTHER, TISSUE, TISSUE_OTHER
from ebmodel.likelihood import LOG_2PI
from ebmodel.model import Array, Params, Slab
from ebmodel.posterior import draw, draw_power
from ebmodel.posterior import posterior as conditional
from ebmodel.statistics import Compressed, Statistics, power_spread, whiten

__all__ = ["draw_prior", "nuts", "recover", "sample", "sample_problem"]

PARAMETERS = ("tau1", "beta", "eta", "sigma2", "kappa", "alpha")
OF_ERRORS = ("heterogeneity", "error_variance", "error_correlation")


def sample(
    X: Any,
    Y: Any,
    slab: Slab = "g",
    mean: str = "free",
    priors: str | Priors = "weak",
    form: str = "marginal",
    covariates: Any = None,
    intercept: bool = False,
    draws: int = 1000,
    tune: int = 1000,
    chains: int = 4,
    seed: int = 0,
    cores: int | None = None,
    predictive: int = 100,
    progress: bool = True,
    errors: str = EQUAL,
) -> xr.DataTree:
    """Sample the full Bayesian model, with everything that ArviZ needs to look at it.

    Parameters
    ----------
    X, Y, slab, mean, priors, form, covariates, intercept, errors
        As in `ebmodel.pymc_model`; the priors must be proper.
    draws, tune, chains
        Draws kept of each chain, steps before them, and chains.
    seed
        Of the random numbers. The same seed gives the same draws, whatever ``cores``.
    cores
        Chains at a time; all cores if None.
    predictive
        Draws of each chain, evenly spaced, for which responses are predicted.
    progress
        Whether to show a progress bar.

    Returns
    -------
    DataTree
        ``posterior``: ``tau1``, ``beta`` (snp), ``eta``, ``sigma2`` (``kappa``, ``alpha`` where they are parameters),
        ``active`` (tissue), ``effects`` (tissue, snp) and ``probability`` (tissue), P(I(t)=1 | Y, hyperparameters).
        Where errors are not equal ``error_variance`` (tissue), sigma2 being their level, and ``heterogeneity``, the sd
        of their logarithms; where they are correlated ``error_correlation`` (tissue, tissue_other) too, but no
        ``probability``.
        ``log_likelihood``: ``Y`` (tissue), log p(y_t | hyperparameters); and I(t), beta(t) for the latent form. Where
        errors are correlated it is ``Y`` (sample), given all effects.
        ``log_prior``: one variable for every prior, in the version it was put on (`ebmodel.bayes.priors`).
        ``prior``: independent draws of the same quantities. ``posterior_predictive``: Y (sample, tissue), NaN where Y
        is missing. ``sample_stats``, ``observed_data``, ``constant_data``. Attribute ``verdict``: whether to trust it.

    Raises
    ------
    InputError
        If the data cannot be used, a choice does not exist, or the priors are improper.

    Notes
    -----
    A model for data of a new shape compiles for 10 to 30 seconds (missing responses with ``slab="power"``: minutes);
    sampling then takes seconds.

    With ``errors="correlated"`` PyMC's compound step moves the hyperparameters, correlations, missing responses and
    I(t): half a minute of compiling, and a minute or two for ten tissues and two chains of 800 steps. I(t) mixes
    slowly where whole sets of tissues would have to change together, and the verdict judges it: draw more then.
    """
    expect(min(draws, chains) >= 1 and tune >= 0, "at least one draw and chain", (draws, tune, chains),
           "draws, tune, chains", "raise them")  # fmt: skip
    problem = pose(X, Y, slab, mean, priors, covariates, intercept=intercept, errors=errors)
    return sample_problem(problem, form, draws, tune, chains, seed, cores, predictive, progress=progress)


def sample_problem(
    problem: Problem,
    form: str = "marginal",
    draws: int = 1000,
    tune: int = 1000,
    chains: int = 4,
    seed: int = 0,
    cores: int | None = None,
    predictive: int = 100,
    *,
    progress: bool = True,
) -> xr.DataTree:
    """As `sample`, for a problem that has been posed."""
    do = "sample with priors='weak', or maximise: that is the EM fit"
    expect(problem.priors.proper, "proper priors", str(problem.priors), "priors", do)
    streams = np.random.SeedSequence(seed).spawn(4)
    settings = {"draws": draws, "tune": tune, "chains": chains, "cores": cores, "seed": _integer(streams[0])}
    predictive_draws = None
    if problem.errors == CORRELATED:
        posterior, stats = _compound(problem, form, settings, progress=progress)
        drawn = covariance.recover(problem, posterior, predictive, np.random.default_rng(streams[1]))
        posterior, log_likelihood, predictive_draws = drawn
    elif form == "marginal":
        posterior, stats = nuts(problem, settings, progress=progress)
        posterior, log_likelihood = recover(problem, posterior, np.random.default_rng(streams[1]))
    else:
        posterior, stats = _compound(problem, form, settings, progress=progress)
        log_likelihood = _conditional_log_likelihood(problem, posterior)
    if predictive_draws is None:
        predictive_draws = _predict(problem, posterior, predictive, np.random.default_rng(streams[2]))
    log_prior = _log_prior(problem, posterior)
    kept = (*PARAMETERS, *OF_ERRORS, "active", "effects", "probability")
    posterior = posterior[[name for name in kept if name in posterior]]
    data = problem.data
    constant: dict[str, Any] = {"X": ((SAMPLE, SNP), data.X)}
    if data.C.shape[1]:
        constant["covariates"] = ((SAMPLE, COVARIATE), data.C)
    if np.ndim(problem.slab) == 2:
        constant["slab_matrix"] = ((SNP, SNP_OTHER), np.asarray(problem.slab))
    names = {SAMPLE: data.samples, SNP: data.snps, TISSUE: data.tissues, COVARIATE: data.covariates}
    names[TISSUE_OTHER] = data.tissues
    groups = {
        "posterior": posterior,
        "log_likelihood": log_likelihood,
        "log_prior": log_prior,
        "posterior_predictive": predictive_draws,
        "prior": draw_prior(problem, min(draws * chains, 1000), _integer(streams[3])),
        "sample_stats": stats,
        "observed_data": xr.Dataset({"Y": ((SAMPLE, TISSUE), data.Y)}),
        "constant_data": xr.Dataset(constant),
    }
    for group, dataset in groups.items():
        groups[group] = dataset.assign_coords({dim: names[dim] for dim in dataset.dims if dim in names})
    tree = xr.DataTree.from_dict(groups)
    slab = "matrix" if np.ndim(problem.slab) == 2 else problem.slab
    tree.attrs = {"slab": slab, "mean": problem.mean, "form": form, "errors": problem.errors,
                  "priors": problem.described, "seed": seed}  # fmt: skip
    tree.attrs["verdict"] = _verdict(tree)
    return tree


def _verdict(tree: xr.DataTree) -> str:
    """Whether to trust the draws; I(t) is judged too where it was sampled rather than drawn exactly."""
    judged = tree.copy()
    if tree.attrs["errors"] == CORRELATED:
        judged.attrs["form"] = "latent"
    return str(diagnose(judged).attrs["verdict"])


def compiled(problem: Problem) -> tuple[pm.Model, Any]:
    """Compile the marginal model for data of this shape, once, and give it this problem's data."""
    inputs = {name: np.asarray(value) for name, value in problem.inputs.items()}
    shapes = tuple((name, value.shape) for name, value in inputs.items())
    one_pattern = bool(problem.compressed.pattern.max() == 0)
    key = "regression", problem.mean, problem.errors, repr(problem.priors), problem.complete, one_pattern, shapes
    model, code = compiled_once(key, lambda: build(problem))
    seen = {variable.name for variable in code.shared_var_keys}
    return model, code.with_data(**{name: value for name, value in inputs.items() if name in seen})


def nuts(
    problem: Problem, settings: dict[str, Any], *, progress: bool = False, at_modes: bool = True
) -> tuple[xr.Dataset, xr.Dataset]:
    """NUTS on the marginal model: draws of the hyperparameters with log K_t of every tissue, and the sampler's own.

    The chains start at modes (`ebmodel.bayes.starts`), or where PyMC would start them.
    """
    import nutpie

    model, code = compiled(problem)
    found = starting_modes(problem, settings["seed"]) if at_modes else []
    points: dict[int, Array] = {}

    def start(seed: int | None) -> Array:
        """Where a chain starts, in the sampler's coordinates: near a mode."""
        rng = np.random.default_rng(seed)
        which = choose([mode for mode, _ in found], rng)
        if which not in points:
            points[which] = unconstrained(model, starting_point(problem, *found[which]))
        return np.ascontiguousarray(points[which] + JITTER * rng.standard_normal(len(points[which])))

    code = replace(code, initial_point_func=start) if at_modes else code
    sampler = nutpie.sample(code, **settings, save_warmup=False, progress_bar=progress, blocking=False)
    try:
        tree = sampler.wait()
    except BaseException:
        sampler.cancel()
        raise  # an interrupt too: what nutpie.sample itself would return then is part of the draws
    stats = tree["sample_stats"].to_dataset()
    return tree["posterior"].to_dataset(), stats[[name for name in stats if stats[name].dtype != object]]


def starting_modes(problem: Problem, seed: int) -> list[tuple[Mode, float | None]]:
    """Modes near which chains start; with the residuals' own variances where errors are not equal."""
    if problem.errors == EQUAL:
        return find_modes(problem, seed)
    return find_modes(_weighed(problem), seed)


def _weighed(problem: Problem) -> Problem:
    return Weighed(problem.data, problem.slab, problem.mean, problem.priors, problem.errors)


def starting_point(problem: Problem, mode: Mode, alpha: float | None) -> dict[str, Array]:
    """A mode as every variable that a prior may be put on, with what errors need that are not equal."""
    point = values(problem, mode, alpha)
    if problem.errors == EQUAL:
        return point
    log_omega = np.log(problem.omega)
    h = max(float(log_omega.std()), 0.1)
    ratio, level = h**2 * problem.compressed.n / 2.0, np.log(mode.sigma2 / problem.scale**2)
    z = (level + log_omega - level / (1.0 + ratio)) * np.sqrt(1.0 + ratio) / h  # `models._own_variances`, solved for z
    return point | {"heterogeneity": np.asarray(h), "z_error": z}


JITTER = 0.1
"""Sd of the chains' starts about their modes, in the sampler's unconstrained coordinates."""


def _compound(
    problem: Problem, form: str, settings: dict[str, Any], *, progress: bool
) -> tuple[xr.Dataset, xr.Dataset]:
    """PyMC's own samplers where I(t) is explicit: Metropolis-within-Gibbs for I(t), NUTS for the rest."""
    model = build(problem, form)
    if problem.errors == CORRELATED:
        settings = settings | {"initvals": _correlated_starts(problem, model, settings), "init": "adapt_diag"}
    settings = settings | {"random_seed": settings["seed"], "progressbar": progress}
    del settings["seed"]
    with model, strictly(), _interruptible():
        tree = pm.sample(**settings, compute_convergence_checks=False)
    return tree["posterior"].to_dataset(), tree["sample_stats"].to_dataset()


class _Interrupt(BaseException):
    """What PyMC does not catch."""


@contextmanager
def _interruptible() -> Iterator[None]:
    """End at an interrupt, which to PyMC is the end of a chain: it would go on, and return part of the draws."""
    alone = threading.current_thread() is not threading.main_thread()  # signals come to the main thread
    if alone or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return

    def interrupt(*_: object) -> None:
        raise _Interrupt

    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    except _Interrupt:
        raise KeyboardInterrupt from None
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _correlated_starts(problem: Problem, model: pm.Model, settings: dict[str, Any]) -> list[dict[str, Array]]:
    """Where each chain starts: at a mode of the model with unequal errors, with I(t) drawn there."""
    rng, found = np.random.default_rng(settings["seed"]), starting_modes(problem, settings["seed"])
    own, free = _weighed(problem), {variable.name for variable in model.free_RVs}
    starts = []
    for _ in range(settings["chains"]):
        mode, alpha = found[choose([mode for mode, _ in found], rng)]
        slab = problem.slab if alpha is None else alpha
        stats, whitening = own.whitened if alpha is None else whiten(own.compressed, alpha)
        theta = Params(tau1=mode.tau1, beta=mode.mean, eta=mode.eta, sigma2=mode.sigma2, slab=slab)
        probability = conditional(stats, whitening, theta).probability
        point = starting_point(problem, mode, alpha) | covariance.start(problem, probability, rng)
        starts.append({name: value for name, value in point.items() if name in free})
    return starts


def recover(problem: Problem, posterior: xr.Dataset, rng: np.random.Generator) -> tuple[xr.Dataset, xr.Dataset]:
    """Add I(t) and beta(t), drawn given each draw of the hyperparameters; log p(y_t | hyperparameters)."""
    flat = {name: _flat(posterior[name]) for name in posterior.data_vars}
    tau1, log_K = flat["tau1"][:, None], flat["log_bayes_factor"]
    sigma2 = flat.get("error_variance", flat["sigma2"][:, None])
    with np.errstate(divide="ignore"):
        log_tau1, log_tau0 = np.log(tau1), np.log1p(-tau1)
    probability = expit(log_tau1 - log_tau0 - log_K)  # 1/(1 + O_t), equation (7)
    given = probability, flat["beta"], flat["eta"]
    active, effects = _draw_tissues(problem, given, sigma2, flat.get("alpha"), rng)
    log_g0 = -0.5 * (problem.compressed.n * (LOG_2PI + np.log(sigma2)) + problem.compressed.yy / sigma2)
    log_likelihood = log_g0 + np.logaddexp(log_tau0, log_tau1 - log_K)  # log(tau1 g1 + tau0 g0)

    def by_draw(values: Array, *dims: str) -> Any:
        return (CHAIN, DRAW, *dims), values.reshape(posterior.sizes[CHAIN], posterior.sizes[DRAW], *values.shape[1:])

    recovered = posterior.assign(
        active=by_draw(active.astype(int), TISSUE),
        effects=by_draw(effects, TISSUE, SNP),
        probability=by_draw(probability, TISSUE),
    )
    coords = {dim: posterior[dim] for dim in (CHAIN, DRAW)}
    return recovered, xr.Dataset({"Y": by_draw(log_likelihood, TISSUE)}, coords)


def _draw_tissues(
    problem: Problem, given: tuple[Array, Array, Array], sigma2: Array, alpha: Array | None, rng: np.random.Generator
) -> tuple[NDArray[np.bool_], Array]:
    """I(t) and beta(t) given P(I(t)=1), beta, eta and sigma2: (draw, 1), or (draw, tissue), then tissue by tissue."""
    probability, beta, eta = given
    if sigma2.shape[1] == 1:
        if alpha is None:
            return draw(*problem.whitened, probability, beta, eta, sigma2[:, 0], rng)
        return draw_power(problem.compressed, probability, beta, eta, sigma2[:, 0], alpha, rng)
    pieces = []
    for t, own in enumerate(sigma2.T):
        h = probability[:, t : t + 1]
        if alpha is None:
            stats, whitening = problem.whitened
            pieces.append(draw(_only(stats, t), whitening, h, beta, eta, own, rng))
        else:
            pieces.append(draw_power(_only(problem.compressed, t), h, beta, eta, own, alpha, rng))
    active, effects = zip(*pieces, strict=True)
    return np.concatenate(active, axis=1), np.concatenate(effects, axis=1)


def _only[Reduced: (Compressed, Statistics)](reduced: Reduced, t: int) -> Reduced:
    """What is known of tissue t."""
    k, one = reduced.pattern[t], slice(t, t + 1)
    common: dict[str, Any] = {name: getattr(reduced, name)[one] for name in ("n", "yy", "rss")}
    common["pattern"] = np.zeros(1, dtype=np.int64)
    if isinstance(reduced, Statistics):
        return reduced._replace(**common, V=reduced.V[k][None], d=reduced.d[k][None], b=reduced.b[one])
    return reduced._replace(**common, R=reduced.R[k][None], rank=reduced.rank[k][None], c=reduced.c[one])


def _conditional_log_likelihood(problem: Problem, posterior: xr.Dataset) -> xr.Dataset:
    """log p(y_t | beta(t), sigma2): the latent form's, which conditions on I(t) and beta(t)."""
    X, y, tissue = long_form(problem.data)
    effects, variance = posterior["effects"].to_numpy(), _error_variance(problem, posterior)
    values = np.empty(effects.shape[:3])
    for t in range(effects.shape[2]):
        rows = tissue == t
        squares, sigma2 = np.sum((y[rows] - effects[:, :, t] @ X[rows].T) ** 2, axis=-1), variance[:, :, t]
        values[:, :, t] = -0.5 * (rows.sum() * (LOG_2PI + np.log(sigma2)) + squares / sigma2)
    coords = {dim: posterior[dim] for dim in (CHAIN, DRAW)}
    return xr.Dataset({"Y": ((CHAIN, DRAW, TISSUE), values)}, coords)


def _error_variance(problem: Problem, posterior: xr.Dataset) -> Array:
    """sigma2_t at every draw, (chain, draw, tissue)."""
    if problem.errors != EQUAL:
        return posterior["error_variance"].to_numpy()
    return np.repeat(posterior["sigma2"].to_numpy()[..., None], len(problem.data.tissues), axis=2)


def _log_prior(problem: Problem, posterior: xr.Dataset) -> xr.Dataset:
    """log density of every prior at every draw, in the version of the parameter that it was put on."""
    priors = problem.priors
    used = {name: getattr(priors, name) for name in ("tau1", "sigma2", "noise", "eta", "shrinkage")}
    free = problem.mean == "free"
    used |= {name: getattr(priors, name) for name in (("beta", "gamma", "signal") if free else ("kappa", "spread"))}
    if problem.learns_alpha:
        used["alpha"] = priors.alpha
    if problem.errors != EQUAL:
        used["heterogeneity"] = priors.heterogeneity
    density = {
        name: xr.apply_ufunc(prior.log_density, posterior[name])
        for name, prior in used.items()
        if isinstance(prior, Prior)
    }
    if problem.errors == CORRELATED:  # LKJ, up to a constant
        log_det = np.linalg.slogdet(posterior["error_correlation"].to_numpy())[1]
        density["correlation"] = (CHAIN, DRAW), (priors.concentration - 1.0) * log_det
    return xr.Dataset(density)


def draw_prior(problem: Problem, draws: int, seed: int) -> xr.Dataset:
    """Independent draws from the prior: hyperparameters, I(t) and beta(t), in one chain."""
    names = [*PARAMETERS[:4], *(["kappa"] if problem.mean == "hierarchical" else [])]
    names += ["alpha"] if problem.learns_alpha else []
    names += ["heterogeneity", "error_variance"] if problem.errors != EQUAL else []
    names += ["error_correlation"] if problem.errors == CORRELATED else []
    logging.getLogger("pymc.sampling.forward").setLevel(logging.WARNING)  # it lists the variables on every call
    with strictly():
        tree = pm.sample_prior_predictive(
            draws, build(problem), names, random_seed=seed, compile_kwargs={"mode": "FAST_COMPILE"}
        )
    prior = tree["prior"].to_dataset()[names]
    rng = np.random.default_rng(seed)
    tau1, beta, eta = (_flat(prior[name]) for name in ("tau1", "beta", "eta"))
    shape = draws, len(problem.data.tissues)
    active = rng.random(shape) < tau1[:, None]
    if problem.learns_alpha:
        c, alpha = problem.compressed, _flat(prior["alpha"])
        z = rng.standard_normal((*shape, len(c.s)))
        deviation = (z * np.sqrt(power_spread(c.s, alpha[:, None, None])) / c.s) @ c.U.T
    else:
        S = np.hstack([problem.whitened[1].L, problem.whitened[1].null])
        deviation = rng.standard_normal((*shape, S.shape[1])) @ S.T
    effects = active[..., None] * (beta[:, None, :] + np.sqrt(eta)[:, None, None] * deviation)
    recovered: xr.Dataset = prior.assign(
        active=((CHAIN, DRAW, TISSUE), active[None].astype(int)), effects=((CHAIN, DRAW, TISSUE, SNP), effects[None])
    )
    return recovered


def _predict(problem: Problem, posterior: xr.Dataset, size: int, rng: np.random.Generator) -> xr.Dataset:
    """Responses drawn anew at ``size`` draws of each chain: Y(t) = C delta(t) + X beta(t) + eps(t).

    The covariates' effects delta(t) have a flat prior, as the restricted likelihood implies, and are drawn given the
    responses: N(C_t^+ (y_t - X_t beta(t)), sigma2_t (C_t'C_t)^+).
    """
    data, kept = problem.data, np.unique(np.linspace(0, posterior.sizes[DRAW] - 1, size).astype(int))
    some = posterior.isel({DRAW: kept})
    effects, own = some["effects"].to_numpy(), np.sqrt(_error_variance(problem, some))
    Y = np.full((*own.shape[:2], *data.Y.shape), np.nan)
    for t, rows in enumerate(data.observed.T):
        sigma = own[..., t : t + 1]
        fitted = effects[:, :, t] @ data.X[rows].T
        noise = sigma * rng.standard_normal(fitted.shape)
        if data.C.shape[1] and rows.any():
            U, s, _ = np.linalg.svd(data.C[rows], full_matrices=False)
            U = U[:, s > s.max() * max(data.C.shape) * np.finfo(float).eps]
            noise += (data.Y[rows, t] - fitted + sigma * rng.standard_normal(fitted.shape)) @ U @ U.T
        Y[:, :, rows, t] = fitted + noise
    return xr.Dataset({"Y": ((CHAIN, DRAW, SAMPLE, TISSUE), Y)}, {dim: some[dim] for dim in (CHAIN, DRAW)})


def _flat(variable: xr.DataArray) -> Array:
    """(chain, draw, ...) to (chain x draw, ...)."""
    values = variable.to_numpy()
    return values.reshape(-1, *values.shape[2:])


def _integer(stream: np.random.SeedSequence) -> int:
    return int(stream.generate_state(1)[0])
