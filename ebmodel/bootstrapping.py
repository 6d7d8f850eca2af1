"""The parameters' own uncertainty, without priors: the parametric bootstrap of Laird & Louis.

The posterior at the fitted parameters theta^ takes them for the true ones. Here data sets Y*_b, b = 1, ..., B, are
drawn from the fitted model, with the same X, covariates and missing responses, and fitted as Y was; the posterior given
the responses as they are, Y, is then averaged over the refitted parameters theta*_b:

    p(I(t), beta(t) | Y)  =  (1/B) sum_b p(I(t), beta(t) | Y, theta*_b)

(the "type III" bootstrap of Laird & Louis 1987, J. Am. Stat. Assoc. 82, 739-750). The scatter of theta* about theta^
stands for what is not known of theta given Y.

It has the limits of theta^. If theta^ is biased, so is theta*, once more and in the same direction (Carlin & Gelfand
1990, J. Am. Stat. Assoc. 85, 105-114, correct for it; this does not). And where theta^ lies on a boundary, eta = 0 or
tau1 = 0 or 1, the data sets are drawn as if it were the truth: tau1 = 0 leaves nothing to draw.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from ebmodel import fitting
from ebmodel.data import project_out
from ebmodel.errors import InputError, expect
from ebmodel.labels import CHAIN, DRAW, SAMPLE, SNP, TISSUE
from ebmodel.model import Array, Params, Slab, slab_power
from ebmodel.parallel import spread
from ebmodel.posterior import draw, posterior
from ebmodel.results import Fit
from ebmodel.shape import POWER
from ebmodel.simulate import model_true
from ebmodel.statistics import Compressed, slab_factor, weigh, whiten

__all__ = ["bootstrap", "redraw", "redraw_with_truth"]

DIMS = {
    "beta": (SNP,),
    "error_variance": (TISSUE,),
    "active": (TISSUE,),
    "probability": (TISSUE,),
    "effects": (TISSUE, SNP),
}
"""Of the variables that are not numbers, after chain and draw."""


def bootstrap(
    fit: Fit,
    replicates: int = 200,
    draws: int = 20,
    seed: int = 0,
    n_starts: int = 32,
    slab: Slab | None = None,
    jobs: int = 1,
    progress: bool = True,
) -> xr.DataTree:
    """Draws of I(t) and beta(t) that carry the uncertainty of the fitted parameters, laid out as ArviZ expects.

    Parameters
    ----------
    fit
        As from `ebmodel.fit`.
    replicates
        Data sets drawn from the fitted model and refitted.
    draws
        Draws of I(t) and beta(t) at the parameters of each refit.
    seed
        Of the random numbers: the same seed gives the same draws, whatever ``jobs``; more replicates add to fewer.
    n_starts
        EM runs for each refit, as in `ebmodel.fit`.
    slab
        The slab of the refits, the fit's own where not given. A fit made with ``slab="power"`` holds the power that it
        found: give ``"power"`` for the refits to find theirs, so that alpha's uncertainty is carried too.
    jobs
        Worker processes; -1 for all cores.
    progress
        Whether to show a progress bar.

    Returns
    -------
    DataTree
        ``posterior``, one chain, the draws of one replicate next to each other (coordinate ``replicate``), so that
        ArviZ's effective sample sizes see that they share their parameters: ``tau1``, ``beta`` (snp), ``eta``,
        ``sigma2`` and, where the refits find them, ``error_variance`` (tissue) and ``alpha``: theta*, repeated for each
        of its draws; ``active`` (tissue), ``effects`` (tissue, snp), ``probability`` (tissue), P(I(t)=1 | Y, theta*).
        Quantiles of the draws are interval ends. Attributes: ``replicates`` asked for; ``failed``, how many could not
        be fitted and have no draws, and ``failure``, why the first could not; ``unconverged``.
        ``observed_data``, ``constant_data`` and ``fit`` as in `Fit.to_datatree`.

    Raises
    ------
    InputError
        If an argument is out of range, the fit's mean is not free, or not one data set could be fitted.

    Examples
    --------
    >>> import ebmodel
    >>> gene = ebmodel.simulate.setting(1, rho=0.4, signal=2, sigma=4, m=12, p=3, seed=1)
    >>> fit = ebmodel.fit(gene.X, gene.Y)
    >>> tree = ebmodel.bootstrap(fit, replicates=25, draws=10, progress=False)
    >>> tree["posterior"]["effects"].quantile([0.025, 0.975], ("chain", "draw")).dims
    ('quantile', 'tissue', 'snp')
    """
    least = min(replicates, draws, n_starts) >= 1
    got = f"{replicates}, {draws} and {n_starts}"
    expect(least, "at least 1", got, "replicates, draws and n_starts", "leave the defaults")
    do = "use ebmodel.sample(X, Y, mean='hierarchical')"
    expect(fit.params.kappa is None, "a fit with mean='free'", "one whose mean has a prior", "bootstrap", do)
    slab = fit.params.slab if slab is None else slab
    learned = isinstance(slab, str) and slab == POWER
    if not learned:
        slab_power(slab)
    streams = [stream.spawn(2) for stream in np.random.SeedSequence(seed).spawn(replicates)]
    tasks = [(fit, slab, n_starts, data) for data, _ in streams]
    refits = list(spread(_refit, tasks, jobs=jobs, title="bootstrap", progress=progress))
    failures = [refit.failure for refit in refits if refit.failure]
    if len(failures) == replicates:
        where = "every data set drawn from the fit"
        raise InputError("data that can be fitted", f"({failures[0]})", where, "see whether the fit is sensible")
    drawn = _mixture(fit, refits, [rng for _, rng in streams], draws, learned=learned)
    drawn.attrs = {
        "seed": seed,
        "conditional_on": "parameters refitted to data drawn from the fit",
        "replicates": replicates,
        "failed": len(failures),
        "failure": failures[0] if failures else "",
        "unconverged": sum(not refit.converged for refit in refits if refit.params is not None),
    }
    tree = fit.to_datatree(draws=1, chains=1)  # the other groups
    tree["posterior"] = xr.DataTree(drawn)
    return tree


def redraw(fit: Fit, seed: int | np.random.SeedSequence) -> xr.DataArray:
    """Responses drawn from the fitted model, (sample, tissue), in the units of Y; NaN where Y is."""
    return redraw_with_truth(fit, seed)["Y"]


def redraw_with_truth(fit: Fit, seed: int | np.random.SeedSequence, params: Params | None = None) -> xr.Dataset:
    """``Y`` (sample, tissue) drawn from the model, NaN where Y is, with ``active``, ``effects`` and ``beta`` behind it.

    At the fit's parameters, or at ``params``. The fit's beta, if latent, is drawn from its prior N(0, kappa Sigma0).
    The covariates' part, which the model leaves open, is left out: the contrasts that it concerns are as drawn.
    """
    ds = fit.dataset
    X = ds["X"].to_numpy()
    if "covariates" in ds:
        (X,), _ = project_out(ds["covariates"].to_numpy(), X)  # Sigma0 is that of X beside the covariates
    if params is None:
        params = fit.params
        if params.kappa is not None:
            params = replace(params, beta=_mean_effect(params, X, seed), kappa=None)
    drawn = model_true(params, X=X, m=ds.sizes[TISSUE], seed=seed, posterior=False)
    names = {dim: ds[dim] for dim in (SAMPLE, TISSUE, SNP)}
    truth = drawn[["Y", "active", "effects", "beta"]].drop_vars([*drawn.coords]).assign_coords(names)
    return truth.assign(Y=truth["Y"].where(ds["Y"].notnull()))


def _mean_effect(params: Params, X: Array, seed: int | np.random.SeedSequence) -> Array:
    """beta ~ N(0, kappa Sigma0), from random numbers apart from those of the rest. Equation (H)."""
    stream = np.random.SeedSequence(seed) if isinstance(seed, int) else seed
    rng = np.random.default_rng(np.random.SeedSequence(stream.entropy, spawn_key=(*stream.spawn_key, BETA)))
    S = slab_factor(X, params.slab)
    return np.asarray(np.sqrt(params.kappa or 0.0) * S @ rng.standard_normal(S.shape[1]))


BETA = 0x62657461
"""Key of the stream of a latent beta."""


class _Refit(NamedTuple):
    params: Params | None
    """theta*, None where the data could not be fitted."""
    converged: bool
    failure: str
    """Why not."""


def _refit(fit: Fit, slab: Slab, n_starts: int, stream: np.random.SeedSequence) -> _Refit:
    """Fit one data set drawn from the fit; runs in a worker."""
    X, C = fit.dataset["X"], fit.dataset.get("covariates")
    try:
        settings = fit.settings | {"n_starts": n_starts}
        again = fitting.fit(X, redraw(fit, stream), slab=slab, covariates=C, **settings)
    except InputError as error:
        return _Refit(None, False, str(error))
    return _Refit(again.params, again.converged, "")


def _mixture(
    fit: Fit, refits: list[_Refit], streams: list[np.random.SeedSequence], draws: int, *, learned: bool
) -> xr.Dataset:
    """Draws given the original responses at every theta*, one replicate after the other."""
    ds, pieces = fit.dataset, []
    compressed, omega = fit.compressed(), fit.params.relative_variance
    for b, (refit, stream) in enumerate(zip(refits, streams, strict=True)):
        if refit.params is not None:
            theta = refit.params  # the fit's statistics are weighed by its own omega
            weighed = compressed if omega is None else weigh(compressed, theta.relative_variance / np.asarray(omega))
            values = _draw(weighed, theta, draws, np.random.default_rng(stream))
            values["replicate"] = np.full(draws, b)
            pieces.append(values)
    joined = {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}
    if not learned:
        del joined["alpha"]
    coords = {CHAIN: [0], DRAW: np.arange(draws * len(pieces)), TISSUE: ds[TISSUE], SNP: ds[SNP]}
    coords["replicate"] = DRAW, joined.pop("replicate")
    variables = {name: ((CHAIN, DRAW, *DIMS.get(name, ())), value[None]) for name, value in joined.items()}
    return xr.Dataset(variables, coords)


def _draw(compressed: Compressed, theta: Params, draws: int, rng: np.random.Generator) -> dict[str, Array]:
    """Draws given Y at one theta*, (draw, ...), with theta* itself."""
    stats, whitening = whiten(compressed, theta.slab)
    fixed: dict[str, Any] = {
        "tau1": theta.tau1,
        "beta": np.asarray(theta.beta),
        "eta": theta.eta,
        "sigma2": theta.sigma2,
        "alpha": theta.alpha,
        "probability": posterior(stats, whitening, theta).probability,
    }
    if theta.relative_variance is not None:
        fixed["error_variance"] = np.asarray(theta.error_variance)
    values = {name: np.tile(value, (draws, *[1] * np.ndim(value))) for name, value in fixed.items()}
    probability, beta, eta, sigma2 = (values[name] for name in ("probability", "beta", "eta", "sigma2"))
    active, effects = draw(stats, whitening, probability, beta, eta, sigma2, rng)
    return values | {"active": active.astype(int), "effects": effects}
