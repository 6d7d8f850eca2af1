"""One data set seen through one fit: the quantities that the discrepancies are made of."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ebmodel.likelihood import rotate
from ebmodel.model import Array, Params
from ebmodel.posterior import root
from ebmodel.residuals import Frame
from ebmodel.results import Fit
from ebmodel.statistics import Compressed, Statistics, Whitening

__all__ = ["View", "frame_of"]


def frame_of(fit: Fit) -> Frame:
    """The design of the fit's data."""
    ds = fit.dataset
    C = ds["covariates"].to_numpy() if "covariates" in ds else np.empty((ds.sizes["sample"], 0))
    return Frame(np.hstack([C, ds["X"].to_numpy()]), ~np.isnan(ds["Y"].to_numpy()))


@dataclass(frozen=True, eq=False)
class View:
    """A fit, or the posterior at known parameters, with the design of its data."""

    fit: Fit
    """Whose data are looked at, under its parameters."""
    frame: Frame
    """From which residuals are taken."""
    groups: NDArray[Any] | None = None
    """(tissue,) which group of related tissues each belongs to, where that is known."""

    @cached_property
    def E(self) -> Array:
        """e(t), (sample, tissue), 0 where missing: least-squares residuals."""
        return self.frame.residuals(self.fit.dataset["Y"].to_numpy())

    @cached_property
    def s2(self) -> Array:
        """(tissue,) residual variance |e(t)|^2/dof, nan where no degrees of freedom are left."""
        dof = self.frame.dof
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(dof > 0, np.sum(self.E**2, axis=0) / dof, np.nan)

    @cached_property
    def params(self) -> Params:
        """theta of the fit."""
        return self.fit.params

    @cached_property
    def compressed(self) -> Compressed:
        """The data before the slab has come."""
        return self.fit.compressed()

    @property
    def stats(self) -> Statistics:
        """Whitened statistics under the fit's slab."""
        return self.fit.whitened()[0]

    @property
    def whitening(self) -> Whitening:
        """Of the fit's slab."""
        return self.fit.whitened()[1]

    @cached_property
    def h(self) -> Array:
        """(tissue,) P(I(t)=1 | Y), 0 for tissues without data."""
        return np.where(self.stats.n > 0, self.fit.posterior_probability.to_numpy(), 0.0)

    @cached_property
    def d(self) -> Array:
        """(tissue, rank)."""
        return self.stats.d[self.stats.pattern]

    @cached_property
    def a(self) -> Array:
        """(tissue, rank) V_t'gamma, its expectation where gamma is latent."""
        gamma = self.whitening.whiten(np.asarray(self.params.beta))
        return rotate(self.stats, gamma)[self.stats.pattern]

    @cached_property
    def doubt(self) -> Array:
        """(tissue, rank) var(V_t'gamma | Y); 0 where gamma is a number."""
        if "beta_covariance" not in self.fit.dataset:
            return np.zeros_like(self.a)
        to_gamma = self.whitening.to_gamma
        half = root(to_gamma @ self.fit.beta_covariance.to_numpy() @ to_gamma.T)
        return np.asarray(np.sum((half @ self.stats.V) ** 2, axis=1)[self.stats.pattern])

    @cached_property
    def W(self) -> Array:
        """(tissue, rank) precision of b_t about a_t in the slab: d/(sigma2 + eta d)."""
        return self.d / (self.params.sigma2 + self.params.eta * self.d)

    @cached_property
    def noise(self) -> Array:
        """(tissue,) the errors' share of the variance of b_t about a_t in the slab: mean of sigma2/(sigma2 + eta d)."""
        sigma2, eta = self.params.sigma2, self.params.eta
        return np.asarray(np.mean(np.where(self.d > 0.0, sigma2 / (sigma2 + eta * self.d), 0.0), axis=1))

    @cached_property
    def slab_effects(self) -> Array:
        """(tissue, snp) E(beta(t) | Y, I(t)=1)."""
        h = self.h[:, None]
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(h > 0.0, self.fit.effects.to_numpy() / h, 0.0)
