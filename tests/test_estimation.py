"""Estimates from sufficient statistics: those of `ebmodel.fit`; near another's, hardly worse than a fresh search."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import ebmodel
from ebmodel import InputError, em
from ebmodel.data import tidy
from ebmodel.eqtl.crossvalidation import ESTIMATORS, FOLD_STARTS, fit_gene
from ebmodel.eqtl.moments import Moments, gather
from ebmodel.estimation import Estimate, estimate
from ebmodel.model import Array
from ebmodel.shape import HIGH, LOW
from ebmodel.statistics import compress, whiten

FOLDS = 10
EB = tuple(ESTIMATORS)
CHOICES = [("g", "free"), ("g", "hierarchical"), (0.5, "zero"), ("power", "hierarchical"), ("power", "free")]


@dataclass
class Gene:
    """Moments of a simulated gene."""

    moments: Moments
    XX: Array

    @property
    def names(self) -> Any:
        return np.array([f"tissue{t}" for t in range(len(self.moments.yy))])


def gene(seed: int, donors: int = 300, m: int = 16, p: int = 10, heritability: float | None = None) -> Gene:
    """As GTEx's: sparse sharing, tissues of many sizes, heritability from nothing to a third."""
    rng = np.random.default_rng([seed, 7])
    latent = rng.standard_normal((donors, p))
    for j in range(1, p):
        latent[:, j] = 0.5 * latent[:, j - 1] + np.sqrt(0.75) * latent[:, j]
    X = np.digitize(latent, rng.uniform(-0.8, 0.2, 1).item() + np.array([0.0, 1.2])).astype(float)
    X -= X.mean(axis=0)
    h2 = rng.choice([0.0, 0.02, 0.05, 0.1, 0.3]) if heritability is None else heritability
    beta = rng.standard_normal(p) * (rng.random(p) < 0.4)
    effects = np.where(rng.random((m, 1)) < rng.uniform(0.1, 0.9), beta + 0.5 * rng.standard_normal((m, p)), 0.0)
    scale = np.sqrt(h2 / max(np.var(X @ effects.T, axis=0).mean(), 1e-12))
    parts: Any = [], [], [], []
    for n, b in zip(np.linspace(80, 250, m).astype(int), effects, strict=True):
        rows = rng.permutation(donors)[:n]
        y = X[rows] @ b * scale + np.sqrt(1 - h2) * rng.standard_normal(n)
        for part, value in zip(parts, (X[rows], y, np.zeros(n), np.linspace(0, n, FOLDS + 1).astype(int)), strict=True):
            part.append(value)
    return Gene(gather(*parts), X.T @ X)


def own_place(near: Estimate, one: Gene, fold: int) -> float:
    """The likelihood, or bound, of a training set where the fit to all samples is."""
    stats, _ = whiten(one.moments.without(fold).compressed(one.XX), near.params.slab)
    return float(em.expectation(stats, near.state)[1])


@pytest.mark.parametrize(("slab", "mean"), CHOICES)
def test_it_is_what_fit_finds(make_case, slab, mean):
    case = make_case("missing", "g", signal=2.0)
    data, fit = tidy(case.X, case.Y), ebmodel.fit(case.X, case.Y, slab, mean)
    found = estimate(compress(data), data.tissues, "expression", slab, mean)
    assert found.search.loglik == fit.loglik
    np.testing.assert_array_equal(found.params.beta, fit.params.beta)
    np.testing.assert_allclose(found.responsibilities, fit.posterior_probability, rtol=1e-9)


@pytest.mark.parametrize("name", EB)
def test_near_itself_it_stays(name):
    """Only EM's last digits move, and alpha within what it is sought to."""
    one = gene(1, heritability=0.1)
    first, _ = fit_gene(one.moments.total(), one.XX, one.names, name)
    again, _ = fit_gene(one.moments.total(), one.XX, one.names, name, near=first)
    assert again.search.loglik == pytest.approx(first.search.loglik, abs=1e-4)
    assert again.params.alpha == pytest.approx(first.params.alpha, abs=0.1)


def test_a_gene_without_snps_is_refused():
    one = gene(1)
    total = one.moments.total()
    none = total._replace(gram=total.gram[:, :0, :0], cross=total.cross[:, :0])
    with pytest.raises(InputError, match="at least one SNP, got none, in fit_gene; do leave the gene out"):
        fit_gene(none, one.XX[:0, :0], one.names, "paper")


@pytest.mark.parametrize("name", EB)
def test_few_starts_join_the_active_tissues_that_are_known(name):
    one = gene(2, heritability=0.1)
    first, _ = fit_gene(one.moments.total(), one.XX, one.names, name)
    found, _ = fit_gene(one.moments.without(0), one.XX, one.names, name, near=first)
    assert FOLD_STARTS[name] < len(found.search.starts) <= FOLD_STARTS[name] + 2


@pytest.mark.parametrize("name", EB)
@pytest.mark.parametrize("seed", range(6))
def test_never_below_the_likelihood_of_the_place_that_it_starts_from(name, seed):
    one = gene(seed)
    near, _ = fit_gene(one.moments.total(), one.XX, one.names, name)
    for fold in range(3):
        found, _ = fit_gene(one.moments.without(fold), one.XX, one.names, name, near=near)
        assert found.search.loglik >= own_place(near, one, fold) - 1e-9


def test_near_an_end_of_the_powers_it_does_not_leave_them():
    one = gene(3, heritability=0.3)
    near, _ = fit_gene(one.moments.total(), one.XX, one.names, "generalised")
    for end in (LOW, HIGH):
        there = estimate(one.moments.total().compressed(one.XX), one.names, "expression", end, "hierarchical")
        found, _ = fit_gene(one.moments.without(0), one.XX, one.names, "generalised", near=there)
        assert LOW <= found.params.alpha <= HIGH
        assert found.params.alpha == pytest.approx(near.params.alpha, abs=0.5)


def test_what_cannot_be_is_refused():
    one = gene(4)
    compressed = one.moments.total().compressed(one.XX)
    with pytest.raises(InputError, match="'g', 'independent', 'power', 'sparse'"):
        estimate(compressed, one.names, "expression", "flat")
    with pytest.raises(InputError, match=r"at least 1.*n_starts"):
        estimate(compressed, one.names, "expression", n_starts=0)
    with pytest.raises(InputError, match="'equal' or 'unequal'"):
        estimate(compressed, one.names, "expression", errors="some")


# How good a search near another is -----------------------------------------------------------------------------------

GENES, SETS = 60, 2
"""And training sets of each."""
SHORT = 0.01
"""Of the log-likelihood."""


def shortfalls(name: str) -> Array:
    """By how much a search near the fit to all samples falls short of a fresh one, (training set,)."""
    found = []
    for seed in range(GENES):
        one = gene(seed)
        near, _ = fit_gene(one.moments.total(), one.XX, one.names, name)
        for fold in range(SETS):
            training = one.moments.without(fold)
            fresh, _ = fit_gene(training, one.XX, one.names, name)
            close, _ = fit_gene(training, one.XX, one.names, name, near=near)
            found.append(fresh.search.loglik - close.search.loglik)
    return np.array(found)


@pytest.mark.statistical
@pytest.mark.parametrize(("name", "most"), [("paper", 0.1), ("generalised", 0.1)])
def test_few_training_sets_fall_short_of_a_fresh_search(name, most):
    short = shortfalls(name)
    assert np.mean(short > SHORT) <= most
