"""The exact posterior of simulated data: what the best estimator knows, given the truth's parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from ebmodel.errors import InputError, expect
from ebmodel.labels import SNP
from ebmodel.model import Params

if TYPE_CHECKING:
    from ebmodel.results import Fit

__all__ = ["exact_posterior"]

WHERE = "simulate.exact_posterior"


def exact_posterior(data: xr.Dataset) -> Fit:
    """Posterior of I(t) and beta(t) at the truth that a simulated data set was drawn with: the oracle (8).

    The slab is the true one, N(``beta``, ``slab_covariance``), in Settings 1-4 too, where it is not the paper's. It may
    be singular (Setting 2): an effect that cannot vary is its mean, with sd 0.

    Parameters
    ----------
    data : Dataset
        As from `setting` or `model_true`, or from `violated` where the posterior has a closed form (``VIOLATIONS``).

    Returns
    -------
    Fit
        As from `ebmodel.oracle`, for all SNPs. Its ``params`` have the true covariance, over eta, as ``slab``.

    Raises
    ------
    InputError
        If ``data`` lacks the truth, or its posterior has no closed form.

    Examples
    --------
    >>> import ebmodel
    >>> gene = ebmodel.simulate.setting(2, signal=2, p=3, seed=1)
    >>> exact_posterior(gene).effects_sd.max("tissue").values[1:]
    array([0., 0.])
    """
    from ebmodel.simulate.oracle import oracle  # compiles; drawing data does not

    return oracle(data["X"], data["Y"], _params(data))


def _params(data: xr.Dataset) -> Params:
    """theta of the truth; eta is 1 where the slab has no scale of its own."""
    from ebmodel.simulate.violations import VIOLATIONS

    lacking = [name for name in ("X", "Y", "beta", "slab_covariance") if name not in data]
    expect(not lacking, "a simulated data set", f"one without {lacking}", WHERE, "give what ebmodel.simulate returned")
    about = data.attrs
    broken = about.get("violation") if about.get("strength") else None
    if broken is not None and not VIOLATIONS[broken].closed_form:
        raise InputError("a posterior with a closed form", f"the violation {broken!r}", WHERE, "use strength 0")
    covariance, eta = data["slab_covariance"].to_numpy(), float(about.get("eta", 1.0))
    sigma2 = about["sigma2"] if "sigma2" in about else about["sigma"] ** 2
    shape = covariance / eta if eta > 0.0 else np.eye(data.sizes[SNP])
    omega = data["error_sd"].to_numpy() ** 2 / sigma2 if "error_sd" in data else None
    theta = {"tau1": about["tau1"], "beta": data["beta"].to_numpy(), "eta": eta, "sigma2": sigma2}
    return Params(**theta, slab=shape, relative_variance=omega)
