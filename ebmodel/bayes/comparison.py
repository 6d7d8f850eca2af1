"""The EM fit and the full posterior side by side: every number that both give, and what the differences come to."""

from __future__ import annotations

from typing import Any

import arviz as az
import numpy as np
import xarray as xr

from ebmodel.bayes.findings import findings
from ebmodel.errors import expect, listed
from ebmodel.labels import CHAIN, COVARIATE, DRAW, QUANTITY, SAMPLE, SNP, TISSUE
from ebmodel.model import Array, Params, slab_power
from ebmodel.posterior import posterior
from ebmodel.results import Fit
from ebmodel.shape import POWER
from ebmodel.statistics import weigh, whiten

__all__ = ["HYPERPARAMETERS", "compare"]

HYPERPARAMETERS = ("tau1", "eta", "sigma2", "alpha", "kappa")
"""Those that the EM estimates too; alpha and kappa where they are parameters of both."""

CONDITIONED = 200
"""Draws of the hyperparameters at which the conditional posterior is computed; more hardly change a variance."""

SAME = 1e-9
"""Data that differ by less, relative to the largest value, are the same."""


def compare(fit: Fit, tree: xr.DataTree, level: float = 0.95) -> xr.Dataset:
    """Set the EM fit beside the full posterior of the same model on the same data.

    Parameters
    ----------
    fit
        As from `ebmodel.fit`.
    tree
        As from `ebmodel.sample`, with the data, covariates and slab of the fit; tissues, SNPs and samples in any order.
        With ``slab="power"`` the fit's alpha is its estimate, and alpha is compared too.
    level
        Posterior probability of the equal-tailed intervals; inside (0, 1).

    Returns
    -------
    Dataset (quantity)
        Quantities ``tau1``, ``eta``, ``sigma2`` (with ``errors="unequal"`` ``error_variance[tissue]``), ``alpha``,
        ``kappa``, ``beta[snp]``, ``P(I=1)[tissue]`` and
        ``effect[tissue, snp]``, in the units of `ebmodel.Params`; coordinates ``kind`` (hyperparameter, error variance,
        mean effect, probability or effect), ``tissue`` and ``snp`` ('' where there is none).

        ``em``: the fit's value. ``mean``, ``sd``, ``lower``, ``upper``, ``mcse``: the posterior's, the last the
        Monte-Carlo error of the mean. For P(I=1) they are those of P(I(t)=1 | Y, hyperparameters) over draws of the
        hyperparameters (for the latent form, of I(t)). ``difference``: (em - mean) / sd, NaN where the sd is 0.

        For effects, NaN elsewhere: ``em_sd``, ``em_lower``, ``em_upper``, of the posterior at the fit's parameters;
        ``left_out``, the share of the posterior variance that comes from not knowing the hyperparameters and beta,
        which the EM's sd leaves out; of a fit with ``mean="hierarchical"`` beta's part is in it.

        Attributes ``level``; ``verdict``, on the draws; ``findings``, one paragraph on what differs, where and why.

    Raises
    ------
    InputError
        If fit and draws are of different tissues, SNPs, samples, data, covariates, slabs or errors.

    Examples
    --------
    ::

        fit = ebmodel.fit(X, Y)
        comparison = ebmodel.compare(fit, ebmodel.sample(X, Y))
        print(comparison.attrs["findings"])
        comparison.to_dataframe()
    """
    expect(0.0 < level < 1.0, "0 < level < 1", level, "level", "give a probability such as 0.95")
    draws = _matched(fit, tree)
    drawn, em, kind = _quantities(fit, draws)
    rest = len(em) - fit.effects.size  # effects come last

    def of_effects(values: Any) -> Any:
        return QUANTITY, np.concatenate([np.full(rest, np.nan), np.asarray(values).ravel()])

    flat = drawn.to_numpy().reshape(-1, len(em))
    mean = flat.mean(axis=0)
    lower, upper = np.quantile(flat, [(1 - level) / 2, (1 + level) / 2], axis=0)
    fixed = np.ptp(flat, axis=0) == 0.0
    sd = np.where(fixed, 0.0, flat.std(axis=0, ddof=1))
    with np.errstate(invalid="ignore", divide="ignore"):  # of what does not vary
        mcse = np.where(fixed, 0.0, az.mcse(drawn))
        difference = np.where(fixed, np.nan, (em - mean) / sd)
    interval = fit.effects_interval(level)
    variables = {
        "em": (QUANTITY, em),
        "mean": (QUANTITY, mean),
        "sd": (QUANTITY, sd),
        "lower": (QUANTITY, lower),
        "upper": (QUANTITY, upper),
        "mcse": (QUANTITY, mcse),
        "difference": (QUANTITY, difference),
        "em_sd": of_effects(fit.effects_sd),
        "em_lower": of_effects(interval["lower"]),
        "em_upper": of_effects(interval["upper"]),
        "left_out": of_effects(_left_out(fit, draws)),
    }
    verdict = str(tree.attrs.get("verdict", "No verdict on the draws was stored."))
    result = xr.Dataset(variables, drawn.drop_vars([CHAIN, DRAW]).coords, {"level": level, "verdict": verdict})
    result = result.assign_coords(kind=(QUANTITY, kind))
    result.attrs["findings"] = findings(result)
    return result


def _quantities(fit: Fit, draws: xr.Dataset) -> tuple[xr.DataArray, Array, list[str]]:
    """Draws (chain, draw, quantity) of all that is compared, the EM's values, and the kinds; effects last."""
    theta = fit.params
    names = [name for name in HYPERPARAMETERS if name in draws and getattr(theta, name) is not None]
    own = theta.relative_variance is not None
    if own:  # the level that these vary about is another in the two
        names.remove("sigma2")
    tissues, snps = (fit.dataset[dim].to_numpy() for dim in (TISSUE, SNP))
    active = "probability" if "probability" in draws else "active"  # without the noise of drawing I(t), where we can
    rows = [("hyperparameter", name, "", "") for name in names]
    rows += [("error variance", f"error_variance[{tissue}]", tissue, "") for tissue in tissues if own]
    rows += [("mean effect", f"beta[{snp}]", "", snp) for snp in snps]
    rows += [("probability", f"P(I=1)[{tissue}]", tissue, "") for tissue in tissues]
    rows += [("effect", f"effect[{tissue}, {snp}]", tissue, snp) for tissue in tissues for snp in snps]
    kind, label, tissue, snp = ([str(row[k]) for row in rows] for k in range(4))

    dims, shape = (CHAIN, DRAW), (draws.sizes[CHAIN], draws.sizes[DRAW], -1)
    parts = [*names, *["error_variance"] * own, "beta", active, "effects"]
    orders = {"error_variance": (TISSUE,), "beta": (SNP,), active: (TISSUE,), "effects": (TISSUE, SNP)}
    values = [draws[part].transpose(*dims, *orders.get(part, ())).to_numpy().reshape(shape) for part in parts]
    em: list[Any] = [[getattr(theta, name) for name in names], *[fit.error_variance] * own]
    em += [theta.beta, fit.posterior_probability, fit.effects]
    coords: dict[str, Any] = {QUANTITY: label, "tissue": (QUANTITY, tissue), "snp": (QUANTITY, snp)}
    coords |= {CHAIN: draws[CHAIN], DRAW: draws[DRAW]}
    drawn = xr.DataArray(np.concatenate(values, axis=2, dtype=float), coords, (*dims, QUANTITY))
    return drawn, np.concatenate([np.ravel(part) for part in em]).astype(float), kind


def _left_out(fit: Fit, draws: xr.Dataset) -> Array:
    """Share of the effects' posterior variance that is variance of E(beta(t) | Y, theta) over theta, (tissue, snp).

    var(beta(t) | Y) = E var(beta(t) | Y, theta) + var E(beta(t) | Y, theta); the EM has the first term, at one theta.
    """
    flat = draws.stack(every=(CHAIN, DRAW)).transpose("every", ...)
    kept = np.unique(np.linspace(0, flat.sizes["every"] - 1, CONDITIONED).astype(int))
    compressed, whitened, omega = fit.compressed(), fit.whitened(), fit.params.relative_variance
    means, variances = [], []
    for theta in (flat.isel(every=k) for k in kept):
        if "alpha" in theta:
            whitened = whiten(compressed, float(theta["alpha"]))
        tau1, eta, sigma2 = (float(theta[name]) for name in ("tau1", "eta", "sigma2"))
        stats, whitening = whitened
        if omega is not None:  # the fit's statistics are weighed by its own
            stats = weigh(stats, (theta["error_variance"] / sigma2 / omega).to_numpy())
        given = posterior(stats, whitening, Params(tau1=tau1, beta=theta["beta"].to_numpy(), eta=eta, sigma2=sigma2))
        means.append(given.mean)
        variances.append(given.sd**2)
    between, within = np.var(means, axis=0), np.mean(variances, axis=0)
    return np.divide(between, between + within, out=np.zeros_like(between), where=between + within > 0.0)


def _matched(fit: Fit, tree: xr.DataTree) -> xr.Dataset:
    """The posterior's draws in the fit's order of tissues and SNPs, once it is known to be of the same model and data.

    Raises
    ------
    InputError
        As `compare`.
    """
    where, given = "compare", {"posterior", "observed_data", "constant_data"}
    got = f"no {listed(sorted(given - set(tree.children)))}"
    expect(given <= set(tree.children), "draws from ebmodel.sample", got, where, "sample again")
    data = xr.merge([tree["observed_data"].to_dataset(), tree["constant_data"].to_dataset()])
    draws, ds = tree["posterior"].to_dataset(), fit.dataset
    for dim, word in ((TISSUE, "tissues"), (SNP, "SNPs"), (SAMPLE, "samples")):
        _same_names(ds[dim].to_numpy(), data[dim].to_numpy(), word)
    _same_covariates(ds, data)
    data = data.sel({dim: ds[dim].to_numpy() for dim in (TISSUE, SNP, SAMPLE)})
    for name in ("X", "Y", "covariates"):
        if name in ds:
            _same_values(ds[name], data[name].transpose(*ds[name].dims), name)
    _same_slab(fit, tree.attrs.get("slab"))
    errors = fit.settings["errors"], tree.attrs.get("errors", "equal")
    do = "fit and sample with the same errors; correlated ones have no fit by EM"
    expect(errors[0] == errors[1], "a fit and draws with the same errors", " and ".join(errors), where, do)
    if "slab_matrix" in ds:
        _same_values(ds["slab_matrix"], tree["constant_data"].to_dataset()["slab_matrix"], "the slab")
    return draws.sel({TISSUE: ds[TISSUE].to_numpy(), SNP: ds[SNP].to_numpy()})


def _same_names(of_fit: Any, of_draws: Any, word: str) -> None:
    ours, theirs = ({str(name) for name in names} for names in (of_fit, of_draws))
    lone = [f"{listed(sorted(one - other), 3)} in the {which} alone"
            for one, other, which in ((ours, theirs, "fit"), (theirs, ours, "draws")) if one - other]  # fmt: skip
    expect(not lone, f"a fit and draws of the same {word}", "; ".join(lone), "compare", "fit and sample the same data")


def _same_covariates(of_fit: xr.Dataset, of_draws: xr.Dataset) -> None:
    names = [ds[COVARIATE].to_numpy().tolist() if COVARIATE in ds.dims else [] for ds in (of_fit, of_draws)]
    got = " and ".join(listed(each) or "none" for each in names)
    do = "give fit and sample the same covariates and intercept"
    expect(names[0] == names[1], "a fit and draws with the same covariates", got, "compare", do)


def _same_values(of_fit: xr.DataArray, of_draws: xr.DataArray, name: str) -> None:
    ours, theirs = of_fit.to_numpy(), of_draws.to_numpy()
    size = np.nanmax(np.abs(ours), initial=0.0)
    differ = ~np.isclose(ours, theirs, rtol=0.0, atol=SAME * size, equal_nan=True)
    got = f"{int(differ.sum())} of {differ.size} values of {name} that differ"
    expect(not differ.any(), "a fit and draws of the same data", got, "compare", "fit and sample the same data")


def _same_slab(fit: Fit, slab: Any) -> None:
    ours = fit.dataset.attrs["slab"]
    learned = slab == POWER and not isinstance(ours, str)  # the fit then holds the power that it found
    do = "give fit and sample the same slab"
    same = learned or _shape(ours) == _shape(slab)
    expect(same, "a fit and draws under the same slab", f"{ours!r} and {slab!r}", "compare", do)


def _shape(slab: Any) -> Any:
    """A power as a number, however it was given; the paper's slab stays a word, as its eta has other units."""
    return float(slab_power(slab)) if slab == "independent" or not isinstance(slab, str | None) else slab
