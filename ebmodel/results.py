"""The fit as people use it: one labelled xarray Dataset behind named properties, files, draws and predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import xarray as xr

from ebmodel.data import Data, design_like, genotypes_like
from ebmodel.errors import expect
from ebmodel.files import Stored, open_dataset
from ebmodel.labels import CHAIN, COVARIATE, DRAW, ITERATION, SAMPLE, SNP, SNP_OTHER, START, TISSUE
from ebmodel.model import Array, Params
from ebmodel.posterior import draw, posterior, root
from ebmodel.search import Search
from ebmodel.statistics import Compressed, Whitened, compress, weigh, whiten

__all__ = ["Fit", "assemble", "open_fit"]


SHOWN = 5
"""Tissues that a fit's text names; the others are counted."""


class Fit(Stored):
    """A fitted model, or the posterior at known parameters: everything is in ``dataset``, with names kept.

    Parameters
    ----------
    dataset
        As written by `assemble`.
    whitened
        Statistics of the data under the fit's slab, if they are at hand; else computed from ``dataset`` when needed.
    """

    def __init__(self, dataset: xr.Dataset, whitened: Whitened | None = None) -> None:
        self.dataset = dataset
        self._whitened = whitened

    def __getstate__(self) -> dict[str, Any]:
        """Without the statistics: a fit that is sent to a worker should be light."""
        return {"dataset": self.dataset, "_whitened": None}

    @property
    def params(self) -> Params:
        """theta: ``tau1``, ``beta`` (snp), ``eta``, ``sigma2``, the slab's shape; ``kappa`` if beta has a prior.

        ``relative_variance`` (tissue) where tissues have error variances of their own.
        """
        ds = self.dataset
        return Params(
            tau1=float(ds["tau1"]),
            beta=ds["beta"],
            eta=float(ds["eta"]),
            sigma2=float(ds["sigma2"]),
            slab=_stored_slab(ds),
            kappa=float(ds["kappa"]) if "kappa" in ds else None,
            relative_variance=ds.get("relative_variance"),
        )

    @property
    def error_variance(self) -> xr.DataArray:
        """sigma2_t, the error variance of every tissue, (tissue), in units of Y squared.

        sigma2 in all of them, unless the fit was made with ``errors="unequal"``: then their mean, weighted by ``dof``,
        is sigma2, which also stands for a tissue without data.
        """
        tissues = self.dataset[TISSUE]
        omega = self.dataset.get("relative_variance", xr.ones_like(tissues, dtype=float))
        return (float(self.dataset["sigma2"]) * omega).rename("error_variance")

    @property
    def settings(self) -> dict[str, Any]:
        """The ``mean``, ``errors`` and ``n_starts`` with which `ebmodel.fit` would fit other data as it did these.

        The slab is in ``params``; one that was chosen by the data counts as given.
        """
        theta, about = self.params, self.dataset.attrs
        mean = "free" if theta.kappa is None else "hierarchical" if "beta_covariance" in self.dataset else "zero"
        errors = "equal" if theta.relative_variance is None else "unequal"
        derived = {"mean": mean, "errors": errors, "n_starts": None}  # at known parameters nothing was asked
        return {name: about.get(name, value) for name, value in derived.items()}

    @property
    def loglik(self) -> float:
        """The log-likelihood log p(Y) at ``params``, constants included; the variational bound if beta is latent."""
        return float(self.dataset["loglik"])

    @property
    def log_evidence(self) -> float:
        """``loglik`` less half log m for every parameter beyond tau1, eta and sigma2 that was maximised over.

        Schwarz's criterion over -2, m being the tissues with data: the paper's beta costs as many parameters as X has
        independent columns, kappa and a learned alpha one each, error variances of their own one for every tissue but
        one; a beta that is integrated out costs nothing more. It can be compared between slabs, means and errors on the
        same data; ``dataset.attrs["evidence"]`` says what it is made of.
        """
        return float(self.dataset["log_evidence"])

    @property
    def beta_covariance(self) -> xr.DataArray:
        """Cov(beta | Y), (snp, snp_other), where beta is latent.

        Raises
        ------
        InputError
            If beta is a number.
        """
        do = "fit with mean='hierarchical'"
        expect("beta_covariance" in self.dataset, "a fit whose mean is latent", "one with a number", "Fit", do)
        return self.dataset["beta_covariance"]

    @property
    def posterior_probability(self) -> xr.DataArray:
        """P(I(t)=1 | Y) = h1, (tissue): Proposition 1, and its h2 for missing responses."""
        return self.dataset["posterior_probability"]

    @property
    def log_bayes_factor(self) -> xr.DataArray:
        """The log Bayes factor log K_t, H0 over H1 (6): negative favours an effect, (tissue)."""
        return self.dataset["log_bayes_factor"]

    @property
    def effects(self) -> xr.DataArray:
        """E(beta(t) | Y), equations (5) and (11), (tissue, snp), in units of Y per unit of X."""
        return self.dataset["effects"]

    @property
    def effects_sd(self) -> xr.DataArray:
        """Marginal posterior sd of beta(t), (tissue, snp), in its units, at ``params``.

        A latent beta's uncertainty is in it.
        """
        return self.dataset["effects_sd"]

    def effects_interval(self, level: float = 0.95) -> xr.Dataset:
        """Equal-tailed intervals of beta(t) | Y, which is a slab and a spike; exact, at ``params``.

        Parameters
        ----------
        level
            Posterior probability that an interval holds at least; inside (0, 1).

        Returns
        -------
        Dataset
            ``lower`` and ``upper``, (tissue, snp), in the units of an effect.

        Raises
        ------
        InputError
            If ``level`` is not inside (0, 1).
        """
        expect(0.0 < level < 1.0, "0 < level < 1", level, "level", "give a probability such as 0.95")
        lower, upper = posterior(*self.whitened(), self.params, self._covariance()).interval(level)
        coords = {TISSUE: self.dataset[TISSUE], SNP: self.dataset[SNP]}
        return xr.Dataset({"lower": ((TISSUE, SNP), lower), "upper": ((TISSUE, SNP), upper)}, coords, {"level": level})

    @property
    def lfsr(self) -> xr.DataArray:
        """Local false sign rate of every effect, (tissue, snp)."""
        return self.dataset["lfsr"]

    @property
    def ols(self) -> xr.DataArray:
        """Least squares in each tissue alone, equations (2) and (10), (tissue, snp), in units of Y per unit of X.

        NaN where n_t < p.
        """
        return self.dataset["ols"]

    @property
    def trace(self) -> xr.DataArray:
        """``loglik`` after every step of the winning start, (iteration); with unequal errors of its last climb."""
        return self.dataset["trace"]

    @property
    def converged(self) -> bool:
        """Whether the winning start's gain fell below ``tol`` within ``max_iter`` steps."""
        return bool(self.dataset["converged"])

    @property
    def status(self) -> str:
        """Why the fit stopped, and which boundary it lies on if any."""
        return str(self.dataset.attrs["status"])

    def predict(self, X_new: Any, covariates: Any = None) -> xr.DataArray:
        """Expected expression of new samples: X_new E(beta(t) | Y), and the covariates' part if the fit had any.

        Parameters
        ----------
        X_new : (sample, snp)
            Genotypes; matched by SNP name where it has names.
        covariates : (sample, covariate), optional
            Needed if the fit had covariates other than an intercept; text columns as in the fit.

        Returns
        -------
        DataArray (sample, tissue)
            In the units of Y; NaN for a tissue with covariates and no data, whose level is unknown.

        Raises
        ------
        InputError
            If SNPs or covariates of the fit are missing.
        """
        ds, effects = self.dataset, self.effects
        X, samples = genotypes_like(effects[SNP].to_numpy(), X_new)
        names = ds[COVARIATE].to_numpy() if COVARIATE in ds.dims else np.array([])
        expected = X @ effects.to_numpy().T
        if len(names):
            expected = expected + design_like(names, covariates, X_new) @ ds["covariate_effects"].to_numpy().T
        return xr.DataArray(
            expected, dims=(SAMPLE, TISSUE), coords={SAMPLE: samples, TISSUE: effects[TISSUE]}, name="prediction"
        )

    def to_datatree(self, draws: int = 500, chains: int = 4, seed: int = 0) -> xr.DataTree:
        """Draws from the exact posterior of I(t) and beta(t) at ``params``, laid out as ArviZ expects.

        Parameters
        ----------
        draws, chains
            Independent draws per chain, and chains.
        seed
            Of the random numbers.

        Returns
        -------
        DataTree
            ``posterior`` holds ``active`` (chain, draw, tissue), 0 or 1, and ``effects`` (chain, draw, tissue, snp);
            ``observed_data`` Y; ``constant_data`` X and the covariates; ``fit`` the rest of ``dataset``.
        """
        ds = self.dataset
        stats, whitening = self.whitened()
        rng = np.random.default_rng(seed)
        theta, shape = self.params, (chains, draws)
        fixed = self.posterior_probability.to_numpy(), np.asarray(theta.beta), theta.eta, theta.sigma2
        probability, beta, eta, sigma2 = (np.broadcast_to(x, (chains * draws, *np.shape(x))) for x in fixed)
        if (covariance := self._covariance()) is not None:
            beta = beta + rng.standard_normal(beta.shape) @ root(covariance)
        drawn = draw(stats, whitening, probability, beta, eta, sigma2, rng)
        active, effects = (x.reshape(*shape, *x.shape[1:]) for x in drawn)
        coords = {CHAIN: np.arange(chains), DRAW: np.arange(draws), TISSUE: ds[TISSUE], SNP: ds[SNP]}
        variables = {
            "active": ((CHAIN, DRAW, TISSUE), active.astype(int)),  # ArviZ cannot take quantiles of booleans
            "effects": ((CHAIN, DRAW, TISSUE, SNP), effects),
        }
        posterior = xr.Dataset(variables, coords, attrs={"seed": seed, "conditional_on": "the fit's params"})
        constant = [name for name in ("X", "covariates") if name in ds]
        groups = {
            "posterior": posterior,
            "observed_data": ds[["Y"]],
            "constant_data": ds[constant],
            "fit": ds.drop_vars(["Y", *constant]),
        }
        return xr.DataTree.from_dict(groups)

    def __repr__(self) -> str:
        theta, shape, P = self.params, self.dataset.sizes, self.posterior_probability.to_numpy()
        known = {name: getattr(theta, name) for name in ("tau1", "eta", "sigma2", "kappa")}
        values = ", ".join(f"{name} {value:.3g}" for name, value in known.items() if value is not None)
        named = self.dataset[TISSUE].to_numpy()[np.argsort(-P, kind="stable")][: int((P > 0.5).sum())]
        few = ", ".join([*map(str, named[:SHOWN]), *(["..."] if len(named) > SHOWN else [])])
        return (
            f"<ebmodel.Fit: {shape[TISSUE]} tissues, {shape[SNP]} SNPs, {shape[SAMPLE]} samples; {self.status}\n"
            f"  {values}; loglik {self.loglik:.3f}\n"
            f"  P(I=1) > 0.5 in {len(named)} tissues{f': {few}' if few else ''}>"
        )

    def _repr_html_(self) -> str:
        from ebmodel.reports.cards import of_fit

        return of_fit(self)

    def _covariance(self) -> Array | None:
        ds = self.dataset
        return ds["beta_covariance"].to_numpy() if "beta_covariance" in ds else None

    def compressed(self) -> Compressed:
        """Reduce the stored data to sufficient statistics, before the slab has come.

        Returns
        -------
        Compressed
            Weighed by the fit's error variances, where these are unequal: equation (E).
        """
        ds = self.dataset
        C = ds["covariates"].to_numpy() if "covariates" in ds else np.empty((ds.sizes[SAMPLE], 0))
        samples, snps, tissues = (ds[dim].to_numpy() for dim in (SAMPLE, SNP, TISSUE))
        data = Data(ds["X"].to_numpy(), ds["Y"].to_numpy(), C, samples, snps, tissues, np.arange(C.shape[1]))
        return weigh(compress(data), self.params.relative_variance)

    def whitened(self) -> Whitened:
        """Reduce the stored data to statistics under the fit's slab, which draws and intervals need.

        Returns
        -------
        Whitened
            The statistics, and the map between effects and whitened coordinates.
        """
        if self._whitened is None:
            self._whitened = whiten(self.compressed(), _stored_slab(self.dataset))
        return self._whitened


NOTHING: Mapping[str, int] = MappingProxyType({})


def open_fit(path: str | Path) -> Fit:
    """Read a fit that `Fit.to_netcdf` or `Fit.to_zarr` wrote.

    Parameters
    ----------
    path
        Of the file, or of the store.

    Returns
    -------
    Fit
        The fit, its data included.

    Raises
    ------
    InputError
        If the path is missing or holds something else.
    """
    return Fit(open_dataset(path, "posterior_probability", "a fit written by ebmodel"))


def assemble(
    data: Data,
    compressed: Compressed,
    whitened: Whitened,
    params: Params,
    search: Search,
    notes: Sequence[str] = (),
    covariance: Array | None = None,
    learned: Mapping[str, int] = NOTHING,
) -> Fit:
    """Everything a `Fit` holds, computed at ``params``; ``notes`` join its status.

    ``covariance`` (snp, snp) is beta's given Y where it is latent; ``learned`` counts the parameters beside tau1, eta
    and sigma2 that were maximised over, by name.
    """
    result = posterior(*whitened, params, covariance)
    by_effect = (TISSUE, SNP)
    variables: dict[str, Any] = {
        "tau1": params.tau1,
        "beta": (SNP, np.asarray(params.beta)),
        "eta": params.eta,
        "sigma2": params.sigma2,
        "alpha": params.alpha,
        "loglik": search.loglik,
        "log_evidence": search.loglik - 0.5 * sum(learned.values()) * np.log(np.sum(compressed.n > 0)),
        "posterior_probability": (TISSUE, result.probability),
        "log_bayes_factor": (TISSUE, result.log_bayes_factor),
        "effects": (by_effect, result.mean),
        "effects_sd": (by_effect, result.sd),
        "lfsr": (by_effect, result.lfsr),
        "ols": (by_effect, _ols(compressed, data)),
        "n": (TISSUE, data.observed.sum(axis=0)),
        "dof": (TISSUE, compressed.n.astype(int)),
        "trace": (ITERATION, search.trace),
        "start_loglik": (START, search.starts),
        "converged": search.converged,
        "X": ((SAMPLE, SNP), data.X),
        "Y": ((SAMPLE, TISSUE), data.Y),
    }
    if params.kappa is not None:
        variables["kappa"] = params.kappa
    if params.relative_variance is not None:
        variables["relative_variance"] = (TISSUE, np.asarray(params.relative_variance, dtype=float))
    if covariance is not None:
        variables["beta_covariance"] = ((SNP, SNP_OTHER), covariance)
    coords: dict[str, Any] = {SAMPLE: data.samples, SNP: data.snps, TISSUE: data.tissues}
    if data.C.shape[1]:
        coords[COVARIATE] = data.covariates
        variables["covariates"] = ((SAMPLE, COVARIATE), data.C)
        variables["covariate_effects"] = ((TISSUE, COVARIATE), _covariate_effects(data, result.mean))
    slab = params.slab
    if np.ndim(slab) == 2:
        variables["slab_matrix"] = ((SNP, SNP_OTHER), np.asarray(slab))
    attrs = {
        "slab": "matrix" if np.ndim(slab) == 2 else slab,
        "status": "; ".join([search.status, *notes]),
        "evidence": _evidence(learned, latent=covariance is not None),
    }
    return Fit(xr.Dataset(variables, coords, attrs), whitened)


def _evidence(learned: Mapping[str, int], *, latent: bool) -> str:
    """What ``log_evidence`` is, in words."""
    what = "variational bound on log p(Y)" if latent else "log-likelihood"
    cost = [f"{name} ({count})" if count > 1 else name for name, count in learned.items() if count]
    return f"{what}, less half log m for each of {', '.join(cost)}" if cost else what


def _stored_slab(dataset: xr.Dataset) -> Any:
    return dataset["slab_matrix"].to_numpy() if "slab_matrix" in dataset else dataset.attrs["slab"]


def _ols(compressed: Compressed, data: Data) -> Array:
    """betahat_obs(t) (10), (tissue, snp), of least norm where SNPs are collinear; NaN where n_t < p."""
    U, s, R, c = compressed.U, compressed.s, compressed.R, compressed.c
    ols = np.full((len(c), len(U)), np.nan)
    for k, rank in enumerate(compressed.rank):
        if rank == len(s):  # otherwise tissue t cannot tell every direction that X has
            members = compressed.pattern == k
            ols[members] = np.linalg.solve(R[k], c[members].T).T / s @ U.T
    ols[data.observed.sum(axis=0) < len(U)] = np.nan
    return ols


def _covariate_effects(data: Data, effects: Array) -> Array:
    """E of the covariates' effects given Y under their flat prior: C_t^+ (y_t - X_t E beta(t)), (tissue, covariate)."""
    result = np.full((data.Y.shape[1], data.C.shape[1]), np.nan)
    for t, rows in enumerate(data.observed.T):
        if rows.any():
            result[t] = np.linalg.lstsq(data.C[rows], data.Y[rows, t] - data.X[rows] @ effects[t])[0]
    return result
