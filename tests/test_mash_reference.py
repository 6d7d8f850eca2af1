"""mash, the twin and the fast code, against kept results of the R implementation, mashr 0.2.81."""

from __future__ import annotations

from functools import cache, cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ebmodel import mash
from ebmodel.mash import dense, posterior
from ebmodel.mash.covariances import Covariance, canonical
from ebmodel.mash.data import Effects, tidy
from ebmodel.mash.likelihood import Components, LogLikelihood
from ebmodel.mash.prior import Prior, scaling_grid
from ebmodel.mash.weights import solve

REFERENCE = Path(__file__).parents[2] / "shared" / "mash_reference"
CASES = ["A", "C", "D_hetero", "E_hetero_V", "F_missing_alpha1", "G_nopointmass", "G_nullweight100"]
NULL_WEIGHT = {"G_nullweight100": 100.0}
CONTRAST, MISSING, NO_POINTMASS = "E_hetero_V", "F_missing_alpha1", "G_nopointmass"
POSTERIOR = {"PosteriorMean": "mean", "PosteriorSD": "sd", "lfsr": "lfsr", "lfdr": "lfdr", "NegativeProb": "negative"}
AT = {"mashr's weights": "", "the best weights": "tight_"}
"""mashr's own optimum, and the optimum of the same problem to a relative gap of 1e-12."""

pytestmark = pytest.mark.skipif(not REFERENCE.is_dir(), reason="the reference results are not here")


class Reference:
    """What mashr was given in one case, and what it made of it."""

    def __init__(self, name: str) -> None:
        self.name, self.folder = name, REFERENCE / name

    @cache  # noqa: B019  # lives as long as the module
    def table(self, name: str) -> pd.DataFrame:
        return pd.read_csv(self.folder / f"{name}.csv.gz", index_col=0)

    def values(self, name: str) -> np.ndarray:
        return self.table(name).to_numpy(dtype=float)

    def scalar(self, name: str) -> float:
        return float(self.table("scalars").loc[name, "value"])

    def posterior(self, prefix: str = "") -> dict[str, np.ndarray]:
        return {ours: self.values(prefix + theirs) for theirs, ours in POSTERIOR.items()}

    @property
    def alpha(self) -> float:
        return self.scalar("alpha")

    @cached_property
    def data(self) -> dense.Data:
        """As it was before mashr touched it; of a contrast the differences, with their own correlation."""
        if self.name != CONTRAST:
            return dense.Data(self.values("Bhat"), self.values("Shat"), self.values("V"), self.alpha)
        A, S, V = self.values("L"), self.values("Shat_orig"), self.values("V_measurements")
        covariance = np.einsum("ij,nj,jk,nk,lk->nil", A, S, V, S, A, optimize=True)
        sd = np.sqrt(np.einsum("nii->ni", covariance))
        return dense.Data(self.values("Chat") @ A.T, sd, covariance / (sd[:, :, None] * sd[:, None, :]), self.alpha)

    @cached_property
    def as_mashr_sees_it(self) -> dense.Data:
        """bhat/s^alpha and s^(1-alpha), a missing cell an estimate of 0 with a standard error of 1e6."""
        return dense.Data(self.values("data_Bhat"), self.values("data_Shat"), self.data.C)

    @cached_property
    def U(self) -> dict[str, np.ndarray]:
        table = self.table("Ulist").drop(columns="row")
        every = {str(name): table.loc[name].to_numpy(dtype=float) for name in table.index.unique()}
        return {name: U / np.diag(U).max() for name, U in every.items()}

    @property
    def grid(self) -> np.ndarray:
        return self.values("grid")[:, 0]

    @property
    def pointmass(self) -> bool:
        return self.name != NO_POINTMASS

    def weights(self, prefix: str = "") -> tuple[np.ndarray, float | None]:
        """(covariance, scale), and that of the point mass; mashr has covariances within scales."""
        pi = self.values(prefix + "pi_full")[:, 0]
        null, pi = (float(pi[0]), pi[1:]) if self.pointmass else (None, pi)
        return pi.reshape(len(self.grid), len(self.U)).T, null

    def mixture(self, prefix: str = "") -> dense.Mixture:
        return dense.Mixture.of(np.array(list(self.U.values())), self.grid, *self.weights(prefix))

    def penalty(self, mixture: dense.Mixture) -> np.ndarray:
        """a: of the first component, which without a point mass is identity.1."""
        a = np.ones(len(mixture.weights))
        a[0] = NULL_WEIGHT.get(self.name, 10.0)
        return a

    @property
    def constant(self) -> float:
        """Logarithms of densities N(0; 0, 1e12) that mashr has of missing cells, and exact marginalisation has not."""
        return -float(np.isnan(self.data.bhat).sum() * (np.log(1e6) + 0.5 * np.log(2 * np.pi)))

    @cached_property
    def effects(self) -> Effects:
        return tidy(self.data.bhat, self.data.shat, self.data.C, self.data.alpha)

    @cached_property
    def covariances(self) -> tuple[Covariance, ...]:
        return tuple(Covariance.from_matrix(name, U) for name, U in self.U.items())

    def prior(self, prefix: str = "") -> Prior:
        weights, null = self.weights(prefix)
        names = self.effects.conditions
        return Prior(self.covariances, self.grid, weights, null or 0.0, names, self.alpha, pointmass=self.pointmass)

    @cached_property
    def fit(self) -> mash.MashFit:
        """By the public interface, from what mashr was given."""
        penalty = NULL_WEIGHT.get(self.name, 10.0)
        data, more = (self.data.bhat, self.data.shat), {"V": self.data.C}
        if self.name == CONTRAST:
            data = self.values("Chat"), self.values("Shat_orig")
            more = {"V": self.values("V_measurements"), "contrast": "condition_1"}
        if not self.pointmass:
            more |= {"pointmass": False, "prior_weights": {"identity.1": penalty}}
        return mash.fit(*data, alpha=self.alpha, covariances=self.U, grid=self.grid, null_weight=penalty, **more)


references = cache(Reference)


@pytest.fixture(params=CASES)
def case(request):
    return references(request.param)


@pytest.fixture(params=AT.values(), ids=[name.replace(" ", "-") for name in AT])
def prefix(request):
    return request.param


def test_what_mashr_made_of_the_data(case):
    """Scaling by alpha, missing cells and contrasts, as its conventions are understood here."""
    data, seen = case.data, case.as_mashr_sees_it
    there = ~np.isnan(data.bhat)
    assert there.all() == (case.name != MISSING)
    scale = np.where(there, data.scale, 1.0)
    np.testing.assert_allclose(case.values("data_Shat_alpha"), scale, rtol=1e-15)
    np.testing.assert_allclose(seen.bhat, np.where(there, data.bhat / scale, 0.0), rtol=1e-14)
    np.testing.assert_allclose(seen.shat, np.where(there, data.shat ** (1 - data.alpha), 1e6), rtol=1e-14)


# The twin -------------------------------------------------------------------------------------------------------------


def test_the_twins_loglik_is_mashrs(case):
    used = case.mixture().above()
    got = dense.loglik_effects(case.as_mashr_sees_it, used) - np.log(case.values("data_Shat_alpha")).sum(axis=1)
    np.testing.assert_allclose(got, case.table("per_effect_loglik")["vloglik"], rtol=1e-12)
    assert got.sum() == pytest.approx(case.scalar("loglik"), rel=1e-12)


def test_the_twins_bayes_factors_are_mashrs(case):
    some = slice(None, None, 4)
    used, seen = case.mixture().above(), case.as_mashr_sees_it.take(some)
    want, got = case.table("per_effect_loglik")[some], dense.log10_bayes_factor(seen, used)
    null = dense.Mixture(np.zeros_like(used.Sigma[:1]), np.ones(1))
    log_null = dense.loglik_effects(seen, null) - np.log(case.values("data_Shat_alpha")[some]).sum(axis=1)
    if not case.pointmass:  # mashr gives none; here all components are the alternative
        assert list(want) == ["vloglik"]
        np.testing.assert_allclose(got, (want["vloglik"] - log_null) / np.log(10), atol=1e-11)
        return
    np.testing.assert_allclose(log_null, want["null_loglik"], rtol=1e-12)
    np.testing.assert_allclose(got, want["log10bf"], atol=1e-12)
    np.testing.assert_allclose(np.log(10) * got + log_null, want["alt_loglik"], rtol=1e-12)


def test_the_twins_posterior_is_mashrs(case, prefix):
    some = slice(None, None, 4 if len(case.data.bhat) > 500 else 1)  # the fast code is compared in all
    used = case.mixture(prefix).above(1e-10)  # mashr leaves out what weighs less
    got, scale = dense.posterior(case.as_mashr_sees_it.take(some), used), case.values("data_Shat_alpha")[some]
    want = {name: value[some] for name, value in case.posterior(prefix).items()}
    np.testing.assert_allclose(got.mean * scale, want.pop("mean"), atol=1e-12)
    np.testing.assert_allclose(got.sd * scale, want.pop("sd"), atol=1e-12)
    for name, value in want.items():
        np.testing.assert_allclose(getattr(got, name), value, atol=1e-13, err_msg=name)


def test_without_a_point_mass_singletons_of_other_conditions_are_the_lfdr():
    case = references(NO_POINTMASS)
    mixture = case.mixture()
    weights = dense.responsibilities(case.data, mixture.above())
    kept = np.flatnonzero(mixture.weights > 0) // len(case.grid)  # covariance of each component
    elsewhere = np.array([[U[r, r] == 0 for r in range(4)] for U in case.U.values()])
    np.testing.assert_allclose(weights @ elsewhere[kept], case.values("lfdr"), atol=1e-14)
    assert case.values("lfdr").max() > 0.5


def test_where_cells_are_missing_mashrs_estimates_of_zero_are_near_to_integrating_them_out(prefix):
    """Errors do not correlate here: where they do, they are not (see the twin's tests)."""
    case = references(MISSING)
    mixture, want = case.mixture(prefix).above(), case.posterior(prefix)
    got = dense.posterior(case.data, mixture)
    for name, value in want.items():
        difference = np.abs(getattr(got, name) - value).max()
        assert difference < 1e-9, name
    assert dense.loglik(case.data, mixture) + case.constant == pytest.approx(case.scalar(prefix + "loglik"), abs=1e-6)


SLOW = [pytest.param(name, id=name, marks=[] if name.startswith("G") else [pytest.mark.statistical]) for name in CASES]


@pytest.mark.parametrize("case", SLOW, indirect=True)
def test_the_twins_objective_and_gap_are_those_of_the_reference(case):
    log_L = dense.log_likelihoods(case.as_mashr_sees_it, case.mixture())
    for prefix in AT.values():
        mixture = case.mixture(prefix)
        a = case.penalty(mixture)
        objective = dense.objective(log_L, mixture.weights, a) - log_L.max(axis=1).sum()
        assert objective == pytest.approx(case.scalar(prefix + "rel_penalized_obj"), rel=1e-12)
        gap = dense.gap(log_L, mixture.weights, a)
        assert gap == pytest.approx(case.scalar(prefix + "kkt_gap"), rel=1e-6, abs=1e-13)
        assert gap < (1e-12 if prefix else 1e-3)


# The fast code --------------------------------------------------------------------------------------------------------


def test_the_grid_and_the_canonical_covariances_are_mashrs(case):
    np.testing.assert_allclose(scaling_grid(case.effects), case.grid, rtol=1e-13)
    names = [str(name) for name in case.table("data_Bhat").columns]
    for U in canonical(names):
        np.testing.assert_allclose(U.matrix, case.U[U.name], atol=1e-14, err_msg=U.name)


def test_the_posterior_is_mashrs(case, prefix):
    moments, evidence = posterior.posterior(case.effects, case.prior(prefix))
    tolerance = 1e-9 if case.name == MISSING else 1e-12
    for name, value in case.posterior(prefix).items():
        np.testing.assert_allclose(getattr(moments, name), value, atol=tolerance, err_msg=name)
    assert evidence.loglik.sum() + case.constant == pytest.approx(case.scalar(prefix + "loglik"), rel=1e-12)
    if case.pointmass and not prefix:
        np.testing.assert_allclose(evidence.log10_bf, case.table("per_effect_loglik")["log10bf"], atol=1e-9)


def test_the_weights_are_the_best(case):
    """Of mashr's own problem; its weights, and those of the kept optimum, are no better, and as good as is claimed."""
    likelihood = LogLikelihood(case.effects, Components.of(case.covariances, case.grid, pointmass=case.pointmass))
    a = case.penalty(case.mixture())
    found = solve(likelihood, a - 1)
    log_L, n = likelihood.matrix, len(case.data.bhat) + np.sum(a - 1)
    assert found.converged
    assert found.pi.sum() == pytest.approx(1.0, rel=1e-12)
    assert found.value == pytest.approx(dense.objective(log_L, found.pi, a), rel=1e-13)
    assert dense.gap(log_L, found.pi, a) < 1e-11
    mashrs, best = (dense.objective(log_L, case.mixture(prefix).weights, a) for prefix in AT.values())
    assert abs(found.value - best) < 1e-12 * n + 1e-12 * abs(best)
    assert 0 < found.value - mashrs < n * case.scalar("kkt_gap")
    np.testing.assert_allclose(found.pi, case.mixture("tight_").weights, atol=1e-7)


def test_the_fit_is_at_the_best_weights(case):
    fit = case.fit
    assert fit.converged
    best, null = case.weights("tight_")
    np.testing.assert_allclose(fit.weights, best, atol=1e-7)
    assert fit.null_weight == pytest.approx(null or 0.0, abs=1e-7)
    assert fit.loglik + case.constant == pytest.approx(case.scalar("tight_loglik"), abs=1e-6)
    for name, value in case.posterior("tight_").items():
        np.testing.assert_allclose(fit.dataset[name], value, atol=1e-6, err_msg=name)
