"""The candidates' bound, gradients and evidence are right, and the verdicts those of the numbers they are given."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

import ebmodel
from simulations import peers, shapes
from simulations.estimators import eb
from simulations.shapes import CHOICE, DROPPED, FAMILIES, HARMLESS, KEPT, STUDY, WORDS


def gene(missing: float = 0.0, n: int = 30, p: int = 4, m: int = 8, seed: int = 1):
    data = ebmodel.simulate.setting(1, rho=0.5, signal=1.0, sigma=3.0, n=n, p=p, m=m, missing=missing, seed=seed)
    return data["X"].to_numpy(), data["Y"].to_numpy()


def point(family: shapes.Family, stats: shapes.Moments, seed: int = 0) -> np.ndarray:
    """Some point of a family: log sigma2, logits of tau, log kappa, log eta, and its own numbers."""
    rng = np.random.default_rng(seed)
    own = np.array(family.starts(stats, 0.3)[0])
    return np.array([2.0, *[-0.3] * len(family.centred), -1.0, 0.2, *(own + 0.2 * rng.standard_normal(len(own)))])


def ascent(family: shapes.Family, stats: shapes.Moments) -> shapes._Ascent:
    K = len(family.centred)
    return shapes._Ascent(stats, family, np.full((K + 1, len(stats.n)), 1 / (K + 1)))


@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_a_slab_is_that_of_the_dense_formulas(missing):
    X, Y = gene(missing)
    stats = shapes.moments(X, Y)
    root = np.random.default_rng(2).standard_normal((4, 2))
    Sigma = root @ root.T  # singular
    slab = shapes.slab_given(stats, Sigma, 2.5, 1.0)
    for t, y in enumerate(Y.T):
        rows = ~np.isnan(y)
        X_t, y = X[rows], y[rows]
        V = 2.5 * np.eye(rows.sum()) + X_t @ Sigma @ X_t.T
        assert slab.log_g[t] == pytest.approx(multivariate_normal.logpdf(y, cov=V), rel=1e-10)
        assert slab.quadratic[t] == pytest.approx(y @ np.linalg.solve(V, y), rel=1e-10)
        np.testing.assert_allclose(slab.u[t], X_t.T @ np.linalg.solve(V, y), rtol=1e-9, atol=1e-10)
        np.testing.assert_allclose(slab.W[stats.pattern[t]], X_t.T @ np.linalg.solve(V, X_t), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_the_general_family_is_the_general_fit(missing):
    X, Y = gene(missing, n=40, p=5, m=15)
    fit = ebmodel.fit(X, Y, slab="power", mean="hierarchical")
    found = shapes.maximised(shapes.moments(X, Y), FAMILIES["general"], fit)
    assert found.bound == pytest.approx(fit.loglik, abs=1e-4)
    np.testing.assert_allclose(found.effects, fit.effects, atol=2e-2 * np.abs(fit.effects).max().item())
    np.testing.assert_allclose(1 - found.q.T[0], fit.posterior_probability, atol=1e-2)


@pytest.mark.parametrize("name", FAMILIES)
def test_gradients_are_those_of_finite_differences(name):
    stats = shapes.moments(*gene(0.2))
    family = FAMILIES[name]
    if name in shapes.SHRUNK:  # with its prior, too
        family = replace(family, covariances=partial(shapes.SHRUNK[name], s=1.5))
    x, h = point(family, stats), 1e-4
    gradient = ascent(family, stats)(x)[1]
    rise = [
        (ascent(family, stats)(x + h * e)[0] - ascent(family, stats)(x - h * e)[0]) / (2 * h) for e in np.eye(len(x))
    ]
    np.testing.assert_allclose(gradient, rise, atol=1e-5 * np.abs(gradient).max())


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("power_plus", [0.7, -40.0]),
        ("two_scales", [0.7, 0.0]),
        ("two_powers", [0.7, 0.7]),
        ("relevance_power", [0.7, 0.0, 0.0, 0.0, 0.0]),
        ("relevance_soft", [0.7, -9.0, -18.0, 0.0, 0.0, 0.0, 0.0]),
    ],
)
def test_families_contain_the_general_one(name, own):
    stats = shapes.moments(*gene(0.2))
    general = ascent(FAMILIES["general"], stats).at(np.array([2.0, 0.4, -1.0, 0.2, 0.7]))[3].bound
    K = len(FAMILIES[name].centred)
    logits = [0.4 - np.log(K)] * K  # the slab's share in K parts
    bound = ascent(FAMILIES[name], stats).at(np.array([2.0, *logits, -1.0, 0.2, *own]))[3].bound
    assert bound == pytest.approx(general, abs=1e-4)


def test_relevance_is_a_diagonal_slab():
    X, Y = gene(n=40, p=4, m=12)
    stats, omega = shapes.moments(X, Y), np.array([0.2, 1.0, 3.0, 0.5])
    fit = ebmodel.fit(X, Y, slab=np.diag(omega), mean="hierarchical")
    theta = fit.params
    tau1 = np.clip(theta.tau1, 1e-9, 1 - 1e-9)
    x = [np.log(theta.sigma2), np.log(tau1 / (1 - tau1)), np.log(theta.kappa), np.log(theta.eta), *np.log(omega)]
    q = ascent(FAMILIES["relevance"], stats).at(np.array(x))[3]
    assert q.bound == pytest.approx(fit.loglik, abs=1e-5)
    np.testing.assert_allclose(q.mu, fit.params.beta, atol=1e-4)


def test_what_is_integrated_out_is_the_mean_over_omega():
    """E Sigma0^-1 and E log|Sigma0| of `uncertain`, against draws of log omega ~ N(l, v)."""
    stats = shapes.moments(*gene())
    rng = np.random.default_rng(3)
    l, v, alpha = np.array([0.5, -1.0, 0.0, 0.3]), 0.6, 0.8
    C = shapes.uncertain(stats, np.array([0.0, 0.0, alpha, 0.0, np.log(v), *l]))
    precision = np.linalg.inv(shapes.power(stats, alpha)[0])
    D = np.exp(-0.5 * (l + np.sqrt(v) * rng.standard_normal((40000, 4))))
    draws = D[:, :, None] * precision * D[:, None, :]
    error = draws.std(axis=0) / np.sqrt(len(draws))
    assert (np.abs(np.linalg.inv(C.Psi) - draws.mean(axis=0)) < 5 * error).all()
    log_det = l.sum() - np.linalg.slogdet(precision)[1]
    assert np.linalg.slogdet(C.Psi)[1] + C.offset == pytest.approx(log_det, abs=1e-9)
    assert C.price == pytest.approx(0.5 * np.sum(v + l**2 - 1 - np.log(v)))


def test_information_is_the_gaussian_one():
    """1/2 tr(V^-1 dV_i V^-1 dV_j) with dense n x n matrices, one tissue surely active and beta zero."""
    X, Y = gene(n=12, p=3, m=1)
    stats, family = shapes.moments(X, Y), FAMILIES["relevance_power"]
    x = np.array([0.5, 40.0, -12.0, 0.3, 0.6, 0.2, -0.4, 0.1])  # kappa is next to nothing
    sigma2, C, _, q = ascent(family, stats).at(x)
    found = shapes.Found(q.bound, x[2:], sigma2, np.array([0.0, 1.0]), np.zeros((1, 3)), q)
    inverse = np.linalg.inv(sigma2 * np.eye(12) + X @ C.Sigma[0] @ X.T)
    slopes = [inverse @ X @ slope @ X.T for slope in C.Sigma_slope[0][3:]]
    dense = [[0.5 * np.trace(a @ b) for b in slopes] for a in slopes]
    np.testing.assert_allclose(shapes.information(stats, family, found), dense, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("name", [name for name in FAMILIES if name not in ("general", "relevance")])
def test_a_larger_family_has_a_larger_bound(name):
    X, Y = gene(0.1, n=40, p=4, m=15, seed=4)
    fit = ebmodel.fit(X, Y, slab="power", mean="hierarchical")
    found = shapes.maximised(shapes.moments(X, Y), FAMILIES[name], fit)
    short = 0.05 if name == "relevance_soft" else 1e-3  # whose s and v end at the least allowed, not at zero
    assert found.bound > fit.loglik - short
    assert found.tau.sum() == pytest.approx(1.0)
    assert np.isfinite(found.effects).all()


def spiked(missing: float = 0.0) -> shapes.Spiked:
    X, Y = gene(missing, n=12, p=2, m=2, seed=5)
    return shapes.Spiked(shapes.moments(X, Y), ebmodel.fit(X, Y, slab="independent", mean="hierarchical"))


def enumerated(state: shapes.Spiked, X: np.ndarray, Y: np.ndarray) -> float:
    """log p(Y), a sum over I(t) and z_jt with b and m integrated out, for two tissues and two SNPs."""
    m, p = 2, 2
    configurations = [((0, 0), np.log1p(-state.tau1))] + [
        (z, np.log(state.tau1) + sum(np.log(state.pi) if one else np.log1p(-state.pi) for one in z))
        for z in product((0, 1), repeat=p)
    ]
    n, terms = len(X), []
    for both in product(configurations, repeat=m):
        V = state.sigma2 * np.eye(m * n)
        for s, t in product(range(m), repeat=2):
            both_on = np.array(both[s][0]) * np.array(both[t][0])
            block = (X * both_on * (state.kappa + state.eta * (s == t))) @ X.T
            V[s * n : (s + 1) * n, t * n : (t + 1) * n] += block
        terms.append(sum(log for _, log in both) + multivariate_normal.logpdf(Y.T.ravel(), cov=V))
    return float(logsumexp(terms))


def test_the_bound_of_spikes_rises_and_is_one():
    X, Y = gene(n=12, p=2, m=2, seed=5)
    state = spiked()
    bounds = []
    for _ in range(30):
        state.sweep()
        rss, bound = state.tissues()
        assert bound < enumerated(state, X, Y)
        bounds.append(bound)
        state.hyperparameters(rss)
    assert np.diff(bounds).min() > -1e-8
    assert bounds[-1] > bounds[0]


@pytest.mark.parametrize("family", shapes.SHRUNK)
def test_shrunk_relevance_helps_where_effects_are_sparse_and_leaves_others_alone(family):
    few = ebmodel.simulate.sparse(nonzero=2, rho=0.2, p=15, m=30, n=80, seed=3)
    many = ebmodel.simulate.setting(1, rho=0.4, signal=1.0, p=15, m=30, seed=3)
    for data, sparse in ((few, True), (many, False)):
        stream, truth = np.random.SeedSequence(1), data["effects"].to_numpy()
        general = eb(data, stream, slab="power", mean="hierarchical", intervals=False)
        found = shapes.shrunk(data, stream, family=family)
        if sparse:
            assert found.facts["s"] > 0
            assert np.mean((found.effects - truth) ** 2) < 0.8 * np.mean((general.effects - truth) ** 2)
        else:
            assert found.facts["s"] == 0
            np.testing.assert_array_equal(found.effects, general.effects)


def test_spikes_find_sparse_effects_of_each_tissue():
    data = ebmodel.simulate.sparse(nonzero=2, sharing="specific", explained=0.4, p=15, m=30, n=100, seed=3)
    stream, truth = np.random.SeedSequence(1), data["effects"].to_numpy()
    found = shapes.spikes(data, stream)
    general = eb(data, stream, slab="power", mean="hierarchical", intervals=False)
    assert np.mean((found.effects - truth) ** 2) < 0.5 * np.mean((general.effects - truth) ** 2)
    assert found.facts["pi"] < 0.4
    active = data["active"].to_numpy()
    assert found.probability[active].mean() > found.probability[~active].mean() + 0.3


# The study -----------------------------------------------------------------------------------------------------------


def planted(**logs: tuple[float, float]) -> pd.DataFrame:
    """Three data sets a cell; a candidate's log ratio, (made for it, elsewhere), varies by 0.01 about what is given."""
    rng = np.random.default_rng(6)
    rows = []
    for cell in STUDY.cells:
        for i in range(3):
            row = {**cell, "replication": i, "mse_eb_general": rng.uniform(0.5, 2.0), "log_evidence_eb_general": -10.0}
            row |= {f"seconds_{part}": 1.0 for part in ("eb_general", "eb", "ridge")}
            row |= {f"mse_{part}": 2 * row["mse_eb_general"] for part in ("eb", "ridge")}
            for part in shapes.CANDIDATES:
                made, elsewhere = logs.get(part, (0.0, 0.0))
                ours = peers.group_of(cell["world"]) in shapes.MADE.get(part, ())
                log = (made if ours else elsewhere) + (0.01 * (i - 1) if part in logs else 0.0)
                row |= {f"mse_{part}": row["mse_eb_general"] * np.exp(log), f"seconds_{part}": 2.0}
                row[f"evidence_{part}"] = -20.0
            row["evidence_spikes"] = 0.0 if peers.group_of(cell["world"]) == "sparse, specific" else -30.0
            rows.append(row)
    return pd.DataFrame(rows)


def test_verdicts_follow_the_rule(monkeypatch, tmp_path):
    monkeypatch.setattr(peers, "STUDY", replace(peers.STUDY, folder=tmp_path))  # nothing stored there
    results = planted(two_powers=(0.0, -0.1), relevance=(-0.5, 0.2), relevance_shrunk=(-0.5, 0.0), spikes=(-0.5, 0.3))
    found = shapes.verdicts(shapes.completed(results))
    assert found.loc["two_powers", "verdict"] == KEPT
    assert found.loc["two_powers", "elsewhere"].log == pytest.approx(-0.1)
    cells = len(STUDY.cells)
    assert found.loc["two_powers", "elsewhere"].se == pytest.approx(0.01 / np.sqrt(3 * cells))
    assert found.loc["relevance", "verdict"] == DROPPED
    assert found.loc["relevance", "wins"] == ["Setting 2", "sparse, shared"]
    assert "Setting 1" in found.loc["relevance", "loses"]
    assert found.loc["relevance_shrunk", "verdict"] == HARMLESS
    assert found.loc["power_plus", "verdict"] == DROPPED  # neither wins nor loses
    # spikes where their evidence is the largest, the general fit elsewhere
    assert found.loc["chosen", "wins"] == ["sparse, specific"]
    assert found.loc["chosen", "verdict"] == HARMLESS
    text = shapes.finding(results)
    assert f"Of {len(WORDS)} further shapes two powers kept" in text
    assert "loses in: nowhere; kept." in text
    assert f"spikes {100 * 12 / cells:.0f} %" in text


def test_the_table_has_every_candidate(monkeypatch, tmp_path):
    monkeypatch.setattr(peers, "STUDY", replace(peers.STUDY, folder=tmp_path))
    results = planted(spikes=(-0.5, 0.3))
    table = shapes.ratios_table(results)
    assert [row[0] for row in table.rows] == [*WORDS.values(), "EB (paper)", "ridge"]
    assert {len(row) for row in table.rows} == {len(table.header)}
    spikes = dict(zip(table.header, table.rows[list(WORDS).index("spikes")], strict=True))
    assert spikes["sparse, shared"].startswith("0.607 ±")
    assert spikes["Setting 1"].startswith("1.350 ±")
    assert spikes["seconds"] == "2.0"
    assert shapes.finding(results) in STUDY.table(results)


def test_the_study_is_on_the_data_of_peers():
    assert len(STUDY.cells) == 54
    cell = STUDY.cells[3]
    assert STUDY.stream(cell, 2).entropy == peers.STUDY.stream(cell, 2).entropy
    assert set(CHOICE) < set(STUDY.replicate.parts)
    assert set(WORDS) - {"chosen"} == set(shapes.CANDIDATES)


def test_what_peers_have_stored_stands_beside_it(monkeypatch, tmp_path: Path):
    cells = [STUDY.cells[12], STUDY.cells[40]]
    other = replace(peers.STUDY, cells=cells, folder=tmp_path)
    chosen = replace(other.replicate, estimators={"zero": other.replicate.estimators["zero"]})
    replace(
        other, replicate=replace(chosen, estimators={**chosen.estimators, "elastic_net": peers.ESTIMATORS["ridge"]})
    ).run(1, jobs=1, progress=False)
    monkeypatch.setattr(peers, "STUDY", other)
    estimators = {name: STUDY.replicate.estimators[name] for name in ("ridge",)}
    ours = replace(STUDY, cells=cells, folder=tmp_path, replicate=replace(STUDY.replicate, estimators=estimators))
    results = ours.run(1, jobs=1, progress=False)
    results["mse_ridge"] = results.pop("mse")
    for part in CHOICE:
        results[f"mse_{part}"], results[f"seconds_{part}"] = 1.0, 1.0
        results[f"evidence_{part}"] = results[f"log_evidence_{part}"] = 0.0
    both = shapes.completed(results)
    np.testing.assert_allclose(both["mse_elastic_net"], both["mse_ridge"], rtol=1e-9)
