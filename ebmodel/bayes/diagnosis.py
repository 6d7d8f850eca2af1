"""Can these draws be trusted? The sampler's diagnostics and a verdict in plain words, with advice.

Thresholds are those of Vehtari et al. (2021): R-hat below 1.01, effective sample size above 100 a chain; no divergent
transition; E-BFMI above 0.3 (Betancourt 2016). They concern the hyperparameters: given these, the marginal form draws
I(t) and beta(t) exactly. For the latent form they concern I(t) and beta(t) too.
"""

from __future__ import annotations

import arviz as az
import numpy as np
import xarray as xr

from ebmodel.labels import CHAIN, QUANTITY

__all__ = ["bfmi", "diagnose"]

RHAT, ESS_PER_CHAIN, BFMI = 1.01, 100, 0.3
HYPERPARAMETERS = ("tau1", "beta", "eta", "sigma2", "kappa", "alpha", "heterogeneity", "error_variance",
                   "error_correlation")  # fmt: skip


def diagnose(tree: xr.DataTree) -> xr.Dataset:
    """Judge the draws of `ebmodel.sample`.

    Parameters
    ----------
    tree
        As from `ebmodel.sample`.

    Returns
    -------
    Dataset
        ``r_hat``, ``ess_bulk`` and ``ess_tail`` (quantity), the worst over a variable's elements; ``bfmi`` (chain);
        ``divergences``. Attribute ``verdict``: one paragraph that begins with ``Sound`` or ``Not sound``.
    """
    posterior = tree["posterior"].to_dataset()
    names = [name for name in HYPERPARAMETERS if name in posterior]
    if tree.attrs.get("form") == "latent":
        names += ["active", "effects"]
    chosen = posterior[names]
    with np.errstate(invalid="ignore", divide="ignore"):
        r_hat, bulk, tail = az.rhat(chosen), az.ess(chosen), az.ess(chosen, method="tail")
    stats = tree["sample_stats"].to_dataset()
    result = xr.Dataset(
        {
            "r_hat": (QUANTITY, [float(r_hat[name].max()) for name in names]),
            "ess_bulk": (QUANTITY, [float(bulk[name].min()) for name in names]),
            "ess_tail": (QUANTITY, [float(tail[name].min()) for name in names]),
            "bfmi": (CHAIN, np.atleast_1d(bfmi(stats))),
            "divergences": int(stats["diverging"].sum()),
        },
        coords={QUANTITY: names, CHAIN: posterior[CHAIN]},
    )
    result.attrs["verdict"] = _verdict(result, posterior.sizes[CHAIN])
    return result


def bfmi(stats: xr.Dataset) -> np.ndarray:
    """E-BFMI of every chain: how well momentum resampling explores the energy."""
    energy = stats["energy"].to_numpy()
    with np.errstate(invalid="ignore", divide="ignore"):  # NaN for a single draw
        return np.asarray(np.sum(np.diff(energy, axis=1) ** 2, axis=1) / (energy.shape[1] * np.var(energy, axis=1)))


def _verdict(result: xr.Dataset, chains: int) -> str:
    worst = {name: result[name].to_numpy() for name in ("r_hat", "ess_bulk", "ess_tail")}
    quantity = result[QUANTITY].to_numpy()
    # NaN of what does not vary is left out; nothing is left of draws too few to judge
    mixed = float(np.max(worst["r_hat"], initial=0.0, where=~np.isnan(worst["r_hat"])))
    sizes = np.array([worst["ess_bulk"], worst["ess_tail"]])
    low = float(np.min(sizes, initial=np.inf, where=~np.isnan(sizes)))
    low = low if np.isfinite(low) else 0.0
    complaints = []
    if result["divergences"] > 0:
        complaints.append(
            f"{int(result['divergences'])} transitions diverged: the posterior has a corner that NUTS cannot enter, so "
            "estimates may be biased; look at az.plot_pair with divergences and at tighter priors on eta or kappa"
        )
    if chains < 2:
        complaints.append("one chain cannot show whether chains agree: use at least two, better four")
    elif mixed >= RHAT:
        complaints.append(
            f"R-hat is {mixed:.3f} for {quantity[int(np.nanargmax(worst['r_hat']))]} (it should be below {RHAT}): "
            "chains disagree, perhaps because the posterior has several modes, as the likelihood often has; draw more, "
            "and compare chains with az.plot_trace"
        )
    if low < ESS_PER_CHAIN * chains:
        complaints.append(
            f"the least effective sample size is {low:.0f} (it should be above {ESS_PER_CHAIN * chains}): raise draws"
        )
    if not float(result["bfmi"].min()) > BFMI:
        complaints.append(
            f"E-BFMI is {float(result['bfmi'].min()):.2f} (it should be above {BFMI}): the tails are explored slowly; "
            "raise tune, or tighten the priors"
        )
    if complaints:
        return "Not sound. " + "; ".join(complaints) + "."
    if np.isnan(worst["r_hat"]).any():
        return "Sound as far as can be seen; some quantities do not vary."
    return (
        f"Sound: no divergent transitions, R-hat at most {mixed:.3f}, effective sample size at least {low:.0f}, "
        f"E-BFMI at least {float(result['bfmi'].min()):.2f}."
    )
