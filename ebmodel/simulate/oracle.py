"""The posterior at known parameters under a slab whose covariance may be singular.

With Sigma0 = S S', S of full column rank, beta(t) | I(t)=1 is beta + S u(t), u(t) ~ N(0, eta I). As long as X beta lies
in the span of X S, this is the model of the design X S with independent effects, and its whitened statistics serve.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ebmodel import em, fitting
from ebmodel.data import Data, tidy
from ebmodel.errors import expect
from ebmodel.model import Array, Params
from ebmodel.results import Fit, assemble
from ebmodel.search import Search
from ebmodel.statistics import Whitened, Whitening, compress, whiten

__all__ = ["Oracle", "oracle"]

RELATIVE = 1e-12
"""Eigenvalues of a covariance below this share of the largest are rounding error."""


class Oracle(Fit):
    """A `Fit` at the truth: its draws and intervals know that the slab may be singular."""

    def whitened(self) -> Whitened:
        """Reduce the stored data to statistics under the true slab.

        Returns
        -------
        Whitened
            The statistics, and the map between effects and whitened coordinates.
        """
        if self._whitened is None:
            self._whitened = _whiten(tidy(self.dataset["X"], self.dataset["Y"]), self.params)
        return self._whitened


def oracle(X: Any, Y: Any, params: Params) -> Oracle:
    """As `ebmodel.oracle`, of X (sample, snp) and Y (sample, tissue); ``params.slab`` is positive semidefinite.

    It is a (snp, snp) matrix. Equation (8), with a covariance that may be singular.

    Raises
    ------
    InputError
        If the data cannot be used, or the slab's mean lies where its covariance cannot follow.
    """
    if np.linalg.eigvalsh(np.asarray(params.slab))[0] > RELATIVE * np.max(np.diag(params.slab)):
        fit = fitting.oracle(X, Y, params)
        return Oracle(fit.dataset.assign_attrs(status="at the truth"), fit.whitened())
    data = tidy(X, Y)
    stats, whitening = whitened = _whiten(data, params)
    gamma = whitening.whiten(np.asarray(params.beta))
    value = float(em.expectation(stats, em.State(params.tau1, gamma, params.eta, params.sigma2))[1])
    search = Search(value, np.array([value]), np.array([]), True, "at the truth")
    return Oracle(assemble(data, compress(data), whitened, params, search).dataset, whitened)


def _whiten(data: Data, params: Params) -> Whitened:
    S, beta = _root(np.asarray(params.slab)), np.asarray(params.beta)
    XS = data.X @ S
    stats, reduced = whiten(compress(replace(data, X=XS, snps=np.arange(S.shape[1]))), "independent")
    XL, Xbeta = XS @ reduced.L, data.X @ beta
    to_gamma = np.linalg.pinv(XL) @ data.X  # XL gamma = X beta
    within = bool(np.linalg.norm(Xbeta - XL @ (to_gamma @ beta)) <= 1e-8 * np.linalg.norm(Xbeta))
    do = "give the data as they were simulated"
    expect(within, "a slab mean in the span of the slab's covariance", "one outside", "slab_covariance", do)
    return stats, Whitening(S @ reduced.L, S @ reduced.null, to_gamma, reduced.D)


def _root(Sigma0: Array) -> Array:
    """S with Sigma0 = S S', (snp, rank)."""
    value, vector = np.linalg.eigh(Sigma0)
    positive = value > RELATIVE * value[-1]
    return np.asarray(vector[:, positive] * np.sqrt(value[positive]))
