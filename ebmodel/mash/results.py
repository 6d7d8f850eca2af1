"""The fit as people use it: one labelled Dataset behind named properties, and the prior applied to other effects."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from ebmodel.errors import expect, listed
from ebmodel.files import Stored, open_dataset, writing
from ebmodel.labels import (
    CHAIN,
    COMPONENT,
    CONDITION,
    CONDITION_OTHER,
    COVARIANCE,
    DIRECTION,
    DRAW,
    EFFECT,
    ITERATION,
    MEASUREMENT,
    SCALE,
)
from ebmodel.mash import posterior as of
from ebmodel.mash.contrasts import contrast
from ebmodel.mash.covariances import Covariance
from ebmodel.mash.data import Effects, oriented, tidy
from ebmodel.mash.prior import Prior
from ebmodel.mash.weights import Weights
from ebmodel.model import Array

__all__ = ["MashFit", "assemble", "open_fit", "posterior_dataset"]

BY_CELL = (EFFECT, CONDITION)
MARK = "null_weight"
"""A variable that tells a mash fit from other files."""


class MashFit(Stored):
    """A fitted mash prior, and the posterior of the effects that it was fitted to; everything is in ``dataset``.

    Parameters
    ----------
    dataset
        As written by `assemble`.
    """

    def __init__(self, dataset: xr.Dataset) -> None:
        self.dataset = dataset

    @property
    def prior(self) -> Prior:
        """pi_0 delta_0 + sum_kl pi_kl N(0, omega_l^2 U_k)."""
        ds = self.dataset
        kinds, factors = ds["kind"].to_numpy(), ds["factor"].to_numpy()
        covariances = tuple(
            Covariance(str(name), F[:, : int(rank)].copy(), str(kind))  # type: ignore[arg-type]
            for name, F, rank, kind in zip(
                ds[COVARIANCE].to_numpy(), factors, ds["rank"].to_numpy(), kinds, strict=True
            )
        )
        return Prior(covariances, ds[SCALE].to_numpy(), ds["weights"].to_numpy(), self.null_weight,
                     ds[CONDITION].to_numpy(), float(ds.attrs["alpha"]), bool(ds.attrs["pointmass"]))  # fmt: skip

    @property
    def weights(self) -> xr.DataArray:
        """pi_kl, (covariance, scale); coordinate ``scale`` holds omega."""
        return self.dataset["weights"]

    @property
    def null_weight(self) -> float:
        """pi_0, the weight of the point mass; 0 without one."""
        return float(self.dataset["null_weight"])

    @property
    def covariances(self) -> xr.DataArray:
        """U_k, (covariance, condition, condition_other), the largest diagonal entry of each 1."""
        F = self.dataset["factor"]
        U = np.einsum("kri,ksi->krs", F.to_numpy(), F.to_numpy())
        names = F[CONDITION].to_numpy()
        coords = {COVARIANCE: F[COVARIANCE], CONDITION: names, CONDITION_OTHER: names}
        return xr.DataArray(U, coords, (COVARIANCE, CONDITION, CONDITION_OTHER), name="covariances")

    @property
    def loglik(self) -> float:
        """sum_j log p(b_hat_j) at the weights, on the original scale; without the penalty."""
        return float(self.dataset.attrs["loglik"])

    @property
    def gap(self) -> float:
        """Certificate: no weights have a penalised log-likelihood that is higher by more than this."""
        return float(self.dataset.attrs["gap"])

    @property
    def converged(self) -> bool:
        """Whether the certificate is as small as was asked for."""
        return bool(self.dataset.attrs["converged"])

    @property
    def status(self) -> str:
        """How the weights were found."""
        return str(self.dataset.attrs["status"])

    @property
    def posterior(self) -> xr.Dataset:
        """What `apply` gives for the effects that the prior was fitted to.

        Raises
        ------
        InputError
            If the fit was made without it.
        """
        names = [*_CELLS, *_EFFECTS]
        lacking = "mean" not in self.dataset
        expect(not lacking, "a fit with posteriors", "one without", "MashFit", "fit with posterior=True, or apply it")
        return self.dataset[["bhat", "shat", *names]]

    @property
    def mean(self) -> xr.DataArray:
        """E(b | b_hat), (effect, condition)."""
        return self.posterior["mean"]

    @property
    def sd(self) -> xr.DataArray:
        """Posterior standard deviation of b, (effect, condition), in its units."""
        return self.posterior["sd"]

    @property
    def lfsr(self) -> xr.DataArray:
        """Local false sign rate, (effect, condition)."""
        return self.posterior["lfsr"]

    @property
    def lfdr(self) -> xr.DataArray:
        """P(b = 0 | b_hat), (effect, condition): from the point mass, and covariances without variance there."""
        return self.posterior["lfdr"]

    @property
    def log10_bf(self) -> xr.DataArray:
        """log10 Bayes factor of the prior's effects over none, (effect,)."""
        return self.posterior["log10_bf"]

    def effects(self) -> Effects:
        """Give the data that the prior was fitted to, on the scale of the model.

        Returns
        -------
        Effects
            ``B``, ``S`` (effect, condition) and ``C``, with names.

        Raises
        ------
        InputError
            If the fit was made without its data.
        """
        ds = self.dataset
        expect("bhat" in ds, "a fit with its data", "one without", "MashFit", "fit with posterior=True")
        V = ds["V"].to_numpy() if "V" in ds else None
        return tidy(ds["bhat"], ds["shat"], V, float(ds.attrs["alpha"]), tiny="missing")

    def apply(self, bhat: Any, shat: Any = None, V: Any = None, tiny: str = "refuse") -> xr.Dataset:
        """Posterior of other effects, with the prior as it is.

        Parameters
        ----------
        bhat, shat
            As in `ebmodel.mash.fit`; conditions are matched by name where there are names. Of a fit to contrasts,
            estimates by condition, of which the same contrasts are taken.
        V
            Correlation of their errors; that of the fit if None and it had one for all effects.
        tiny
            As in `ebmodel.mash.fit`.

        Returns
        -------
        Dataset
            ``bhat``, ``shat``, ``mean``, ``sd``, ``lfsr``, ``lfdr``, ``negative``, ``positive`` (effect, condition);
            ``loglik``, ``log10_bf`` (effect).

        Raises
        ------
        InputError
            If the data cannot be used, or are of other conditions.
        """
        return self._applied(self._tidy(bhat, shat, V, tiny))

    def apply_to(
        self,
        path: str | Path,
        bhat: Any,
        shat: Any = None,
        V: Any = None,
        tiny: str = "refuse",
        *,
        chunk: int = 20_000,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        """Write the posterior of other effects to a Zarr store, some effects at a time: many need little memory.

        Parameters
        ----------
        path
            Of the store; written whole or not at all.
        bhat, shat, V, tiny
            As in `apply`.
        chunk
            Effects at a time.
        progress
            Called with the number of effects that are done.

        Raises
        ------
        InputError
            As `apply`.
        """
        expect(chunk >= 1, "at least 1 effect", chunk, "chunk", "leave the default")
        effects = self._tidy(bhat, shat, V, tiny)
        J = len(effects.B)
        with writing(path) as temporary:
            for first in range(0, J, chunk):
                part = self._applied(effects.take(slice(first, first + chunk)))
                where: dict[str, Any] = {"append_dim": EFFECT} if first else {"mode": "w", "zarr_format": 3}
                part.to_zarr(temporary, consolidated=False, **where)
                if progress is not None:
                    progress(min(first + chunk, J))

    def score(self, bhat: Any, shat: Any = None, V: Any = None, tiny: str = "refuse") -> float:
        """Held-out log-likelihood: sum_j log p(b_hat_j) of other effects under the prior, on the original scale.

        Parameters
        ----------
        bhat, shat, V, tiny
            As in `apply`.

        Returns
        -------
        float
            Natural logarithm; larger is better.

        Raises
        ------
        InputError
            As `apply`.
        """
        return float(of.evidence(self._tidy(bhat, shat, V, tiny), self.prior).loglik.sum())

    def responsibilities(self, effects: Any = None) -> xr.DataArray:
        """Posterior weights of components: P(component | b_hat_j).

        Parameters
        ----------
        effects
            Names of effects; all if None.

        Returns
        -------
        DataArray (effect, component)
            Components are ``null``, then ``covariance.1`` ... by scale; over them the weights sum to 1.

        Raises
        ------
        InputError
            If there are no such effects, or the fit was made without its data.
        """
        some = self._some(effects)
        prior = self.prior
        coords = {EFFECT: some.effects, COMPONENT: prior.names}
        return xr.DataArray(of.responsibilities(some, prior), coords, (EFFECT, COMPONENT), name="responsibilities")

    def posterior_covariance(self, effects: Any = None) -> xr.DataArray:
        """Cov(b | b_hat), on the original scale.

        Parameters
        ----------
        effects
            Names of effects; all if None.

        Returns
        -------
        DataArray (effect, condition, condition_other)
            In the units of b squared.

        Raises
        ------
        InputError
            If there are no such effects, or the fit was made without its data.
        """
        some = self._some(effects)
        coords = {EFFECT: some.effects, CONDITION: some.conditions, CONDITION_OTHER: some.conditions}
        return xr.DataArray(of.covariances(some, self.prior), coords, (EFFECT, CONDITION, CONDITION_OTHER),
                            name="posterior_covariance")  # fmt: skip

    def draws(self, draws: int = 500, chains: int = 4, seed: int = 0, effects: Any = None) -> xr.DataTree:
        """Draws from the exact posterior of effects at the fitted prior, laid out as ArviZ expects.

        Parameters
        ----------
        draws, chains
            Independent draws per chain, and chains.
        seed
            Of the random numbers.
        effects
            Names of effects; all if None.

        Returns
        -------
        DataTree
            ``posterior`` holds ``effects`` (chain, draw, effect, condition); ``observed_data`` bhat; ``constant_data``
            shat.

        Raises
        ------
        InputError
            If a count is below 1, the seed negative, there are no such effects, or the fit was made without its data.
        """
        for count, word in ((draws, "draws"), (chains, "chains")):
            expect(count >= 1, "at least 1", count, word, "ask for more")
        expect(seed >= 0, "a seed >= 0", seed, "seed", "give another")
        some = self._some(effects)
        rng = np.random.default_rng(seed)
        drawn = of.draw(some, self.prior, chains * draws, rng).reshape(chains, draws, *some.B.shape)
        coords = {CHAIN: np.arange(chains), DRAW: np.arange(draws), EFFECT: some.effects, CONDITION: some.conditions}
        about = {"seed": seed, "conditional_on": "the fitted prior"}
        posterior = xr.Dataset({"effects": ((CHAIN, DRAW, *BY_CELL), drawn)}, coords, about)
        data = self.dataset.sel({EFFECT: some.effects})
        groups = {"posterior": posterior, "observed_data": data[["bhat"]], "constant_data": data[["shat"]]}
        return xr.DataTree.from_dict(groups)

    def __repr__(self) -> str:
        ds = self.dataset
        status = textwrap.fill(self.status, 100, subsequent_indent="  ")
        return (
            f"<ebmodel.mash.MashFit: {ds.attrs['effects']} effects, {ds.sizes[CONDITION]} conditions, "
            f"{ds.sizes[COVARIANCE]} covariances x {ds.sizes[SCALE]} scales\n"
            f"  null weight {self.null_weight:.3f}, loglik {self.loglik:.3f}, gap {self.gap:.1e}\n"
            f"  {status}>"
        )

    def _repr_html_(self) -> str:
        from ebmodel.reports.cards import of_mash

        return of_mash(self)

    def _some(self, names: Any) -> Effects:
        every = self.effects()
        if names is None:
            return every
        wanted = [str(name) for name in np.atleast_1d(np.asarray(names)).tolist()]
        rows = pd.Index(every.effects).get_indexer(pd.Index(wanted))
        lacking = [name for name, row in zip(wanted, rows, strict=True) if row < 0]
        expect(not lacking, "effects of the fit", f"no {listed(lacking)}", "effects", "see fit.dataset['effect']")
        return every.take(rows)

    def _tidy(self, bhat: Any, shat: Any, V: Any, tiny: str) -> Effects:
        """Other data on the scale of the model, conditions in the order of the prior."""
        ds = self.dataset
        baseline = "contrast" in ds
        L = ds["contrast"].rename({MEASUREMENT: CONDITION_OTHER}) if baseline else None
        conditions = ds[CONDITION].to_numpy() if L is None else L[CONDITION_OTHER].to_numpy()
        order = _order(bhat, conditions)
        bhat, shat = _matched(bhat, conditions, "bhat", order), _matched(shat, conditions, "shat", order)
        if V is None:
            stored = ds.get("measurement_V" if baseline else "V")
            got = "a fit with one of its own for every effect"
            expect(stored is not None and EFFECT not in stored.dims, "V", got, "apply", "give V for these effects")
            V = stored.to_numpy()  # type: ignore[union-attr]
        elif (
            order is not None and not isinstance(V, pd.DataFrame | xr.DataArray) and np.shape(V)[-2:] == 2 * order.shape
        ):
            V = np.asarray(V)[..., order[:, None], order]
        if L is not None:
            taken = contrast(bhat, shat, V, L, tiny)
            bhat, shat, V = taken.chat, taken.shat, taken.V.to_numpy()
        found = tidy(bhat, shat, V, float(ds.attrs["alpha"]), tiny)
        R = ds.sizes[CONDITION]
        expect(found.B.shape[1] == R, f"the fit's {R} conditions", found.B.shape[1], "bhat", "give the same conditions")
        return found

    def _applied(self, effects: Effects) -> xr.Dataset:
        moments, evidence = of.posterior(effects, self.prior)
        conditions = self.dataset[CONDITION].to_numpy()
        return posterior_dataset(effects, moments, evidence).assign_coords({CONDITION: conditions})


def _frame(table: Any) -> Any:
    """A named table as a frame of effects x conditions; others as they are."""
    if isinstance(table, xr.DataArray) and table.ndim == 2:
        table = oriented(table)
        return table.to_pandas() if table.dims[1] in table.coords else table.to_numpy()
    return table


def _order(table: Any, conditions: NDArray[Any]) -> NDArray[np.intp] | None:
    """Where the fit's conditions are among a table's columns; None if it has no names."""
    table = _frame(table)
    if not isinstance(table, pd.DataFrame):
        return None
    names = pd.Index([str(name) for name in table.columns])
    lacking = [name for name in conditions if name not in names]
    unknown = [name for name in names if name not in set(conditions.tolist())]
    got = f"no {listed(lacking)}" if lacking else f"{listed(unknown or names[names.duplicated()])} besides"
    good = not lacking and not unknown and names.is_unique
    expect(good, "the conditions of the fit", got, "bhat", "match the names")
    return names.get_indexer(pd.Index(conditions))


def _matched(table: Any, conditions: NDArray[Any], where: str, order: NDArray[np.intp] | None) -> Any:
    """A table's columns in the order of the fit's conditions; without names they are in that of the estimates."""
    table = _frame(table)
    if not isinstance(table, pd.DataFrame):
        unnamed = order is not None and np.ndim(table) == 2 and np.shape(table)[1] == len(order)
        return np.asarray(table)[:, order] if unnamed else table
    table = table.set_axis([str(name) for name in table.columns], axis=1)
    lacking = [name for name in conditions if name not in table.columns]
    expect(not lacking, "the conditions of the fit", f"no {listed(lacking)}", where, "match the names")
    return table[list(conditions)]


_CELLS = ("mean", "sd", "lfsr", "lfdr", "negative", "positive")
_EFFECTS = ("loglik", "log10_bf")


def posterior_dataset(effects: Effects, moments: of.Moments, evidence: of.Evidence) -> xr.Dataset:
    """Results of effects with their names."""
    cells = {name: (BY_CELL, getattr(moments, name)) for name in _CELLS}
    wholes = {name: (EFFECT, getattr(evidence, name)) for name in _EFFECTS}
    coords = {EFFECT: effects.effects, CONDITION: effects.conditions}
    return xr.Dataset({**_given(effects), **cells, **wholes}, coords)


def _given(effects: Effects) -> dict[str, tuple[tuple[str, ...], Array]]:
    """Estimates and standard errors as they were given; NaN where missing, but for a known scale of a missing cell."""
    shat = effects.scale if effects.alpha == 1.0 else effects.S * effects.scale
    if 0.0 < effects.alpha < 1.0:
        shat = effects.scale ** (1.0 / effects.alpha)
    if effects.alpha > 0.0:
        shat = np.where(~effects.observed & (effects.scale == 1.0), np.nan, shat)
    return {"bhat": (BY_CELL, effects.B * effects.scale), "shat": (BY_CELL, np.asarray(shat))}


def assemble(
    effects: Effects, prior: Prior, weights: Weights, status: str, about: dict[str, Any], *, posterior: bool
) -> xr.Dataset:
    """Everything a `MashFit` holds; ``about`` joins its variables."""
    rank = np.array([U.rank for U in prior.covariances])
    factor = np.zeros((len(rank), len(prior.conditions), rank.max()))
    for k, U in enumerate(prior.covariances):
        factor[k, :, : rank[k]] = U.factor
    variables: dict[str, Any] = {
        "weights": ((COVARIANCE, SCALE), prior.weights),
        "null_weight": prior.null,
        "kind": (COVARIANCE, np.array([U.kind for U in prior.covariances])),
        "rank": (COVARIANCE, rank),
        "factor": ((COVARIANCE, CONDITION, DIRECTION), factor),
        "trace": (ITERATION, np.array([step.value for step in weights.trace])),
        "trace_gap": (ITERATION, np.array([step.gap for step in weights.trace])),
        "V": ((EFFECT, CONDITION, CONDITION_OTHER) if effects.own else (CONDITION, CONDITION_OTHER), effects.C),
        **about,
    }
    coords = {COVARIANCE: [U.name for U in prior.covariances], SCALE: prior.grid, CONDITION: prior.conditions,
              CONDITION_OTHER: prior.conditions}  # fmt: skip
    if not posterior:
        loglik = of.evidence(effects, prior).loglik.sum()
        if effects.own:
            del variables["V"]
        ds = xr.Dataset(variables, coords)
    else:
        moments, evidence = of.posterior(effects, prior)
        loglik = evidence.loglik.sum()
        ds = posterior_dataset(effects, moments, evidence).assign_coords(coords).assign(variables)
    return ds.assign_attrs(
        alpha=prior.alpha, pointmass=int(prior.pointmass), loglik=float(loglik), objective=weights.value,
        gap=weights.gap, relative_gap=weights.relative_gap, converged=int(weights.converged), status=status,
        effects=len(effects.B),
    )  # fmt: skip


def open_fit(path: str | Path) -> MashFit:
    """Read a fit that `MashFit.to_netcdf` or `MashFit.to_zarr` wrote.

    Parameters
    ----------
    path
        Of the file, or of the store.

    Returns
    -------
    MashFit
        The fit.

    Raises
    ------
    InputError
        If the path is missing or holds something else.
    """
    return MashFit(open_dataset(path, MARK, "a mash fit written by ebmodel"))
