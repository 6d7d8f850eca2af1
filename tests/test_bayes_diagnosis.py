"""The verdict on draws: each complaint when it should come, and only then."""

from __future__ import annotations

import arviz as az
import numpy as np
import pytest
import xarray as xr

from ebmodel.bayes.diagnosis import HYPERPARAMETERS, diagnose

COMPLAINTS = {
    "divergent": "transitions diverged",
    "one chain": "one chain cannot show",
    "R-hat": "chains disagree",
    "size": "effective sample size is",
    "energy": "tails are explored slowly",
}


def autoregressive(rng, shape, slow):
    """Standard normal draws along the last axis with autocorrelation ``slow``."""
    noise = rng.standard_normal(shape)
    x = np.empty(shape)
    x[:, 0] = noise[:, 0]
    for i in range(1, shape[1]):
        x[:, i] = slow * x[:, i - 1] + np.sqrt(1 - slow**2) * noise[:, i]
    return x


def draws(chains=4, size=1000, form="marginal", seed=0, **slow):
    """A tree of independent draws, or of autocorrelated ones where ``slow`` says so."""
    rng = np.random.default_rng(seed)
    names = ["tau1", "eta", "sigma2"]
    posterior = {name: (("chain", "draw"), autoregressive(rng, (chains, size), slow.get(name, 0.0))) for name in names}
    posterior["beta"] = (("chain", "draw", "snp"), rng.standard_normal((chains, size, 2)))
    posterior["active"] = (("chain", "draw", "tissue"), rng.integers(0, 2, (chains, size, 3)))
    posterior["effects"] = (("chain", "draw", "tissue", "snp"), rng.standard_normal((chains, size, 3, 2)))
    energy = autoregressive(rng, (chains, size), slow.get("energy", 0.0))
    stats = {"energy": (("chain", "draw"), energy), "diverging": (("chain", "draw"), np.zeros((chains, size), bool))}
    coords = {"chain": np.arange(chains), "draw": np.arange(size)}
    tree = xr.DataTree.from_dict(
        {"posterior": xr.Dataset(posterior, coords), "sample_stats": xr.Dataset(stats, coords)}
    )
    tree.attrs["form"] = form
    return tree


def complaints(tree):
    verdict = diagnose(tree).attrs["verdict"]
    found = {name for name, words in COMPLAINTS.items() if words in verdict}
    assert verdict.startswith("Not sound. " if found else "Sound")
    assert verdict.endswith(".")
    return found


@pytest.mark.parametrize("seed", range(3))
def test_good_draws_are_sound(seed):
    assert complaints(draws(seed=seed)) == set()


def test_the_numbers_are_arvizs():
    tree = draws()
    found, posterior = diagnose(tree), tree["posterior"].to_dataset()
    assert list(found["quantity"].to_numpy()) == [name for name in HYPERPARAMETERS if name in posterior]
    for name in ("tau1", "beta"):
        at = found.sel(quantity=name)
        assert at["r_hat"] == az.rhat(posterior[[name]])[name].max()
        assert at["ess_bulk"] == az.ess(posterior[[name]])[name].min()
        assert at["ess_tail"] == az.ess(posterior[[name]], method="tail")[name].min()
    np.testing.assert_allclose(found["bfmi"], bfmi(tree))
    assert found["divergences"] == 0


def bfmi(tree):
    energy = tree["sample_stats"]["energy"].to_numpy()
    return [np.mean(np.diff(e) ** 2) * (len(e) - 1) / len(e) / e.var() for e in energy]


def test_divergences_are_counted():
    tree = draws()
    diverging = np.zeros((4, 1000), bool)
    diverging[[0, 2, 2], [5, 6, 7]] = True
    tree["sample_stats"] = tree["sample_stats"].to_dataset().assign(diverging=(("chain", "draw"), diverging))
    assert complaints(tree) == {"divergent"}
    assert diagnose(tree)["divergences"] == 3
    assert "3 transitions diverged" in diagnose(tree).attrs["verdict"]


@pytest.mark.parametrize("name", ["tau1", "eta", "sigma2", "beta"])
def test_chains_that_disagree_are_named(name):
    tree = draws()
    posterior = tree["posterior"].to_dataset()
    away = xr.DataArray([0.0, 0.0, 0.0, 0.35], dims="chain")  # a third of an sd: R-hat 1.02
    tree["posterior"] = posterior.assign({name: (posterior[name] + away).transpose(*posterior[name].dims)})
    assert "R-hat" in complaints(tree)
    assert f"for {name} " in diagnose(tree).attrs["verdict"]


def test_chains_far_apart_also_lose_their_effective_size():
    tree = draws()
    posterior = tree["posterior"].to_dataset()
    tree["posterior"] = posterior.assign(tau1=posterior["tau1"] + xr.DataArray([0.0, 0.0, 9.0, 9.0], dims="chain"))
    assert complaints(tree) == {"R-hat", "size"}


def test_slow_chains_need_more_draws():
    assert "size" in complaints(draws(eta=0.9))
    assert complaints(draws(size=5000, eta=0.9)) == set()


def test_few_draws():
    assert "size" in complaints(draws(chains=4, size=60))


def test_energy_that_hardly_moves():
    assert complaints(draws(energy=0.95)) == {"energy"}


def test_one_slow_chain_of_energy_is_enough():
    good, bad = draws(), draws(energy=0.95)
    energy = good["sample_stats"]["energy"].to_numpy().copy()
    energy[2] = bad["sample_stats"]["energy"].to_numpy()[2]
    good["sample_stats"] = good["sample_stats"].to_dataset().assign(energy=(("chain", "draw"), energy))
    assert complaints(good) == {"energy"}


def test_one_chain():
    assert complaints(draws(chains=1)) == {"one chain"}
    assert complaints(draws(chains=2)) == set()


def test_tissues_are_judged_for_the_latent_form_alone():
    """The marginal form draws I(t) and beta(t) exactly; in the latent form they are the chain's own."""
    trees = {form: draws(form=form) for form in ("marginal", "latent")}
    for tree in trees.values():
        posterior = tree["posterior"].to_dataset()
        stuck = posterior["effects"].copy()
        stuck[2:, :, 0, 0] += 5.0
        tree["posterior"] = posterior.assign(effects=stuck)
    assert complaints(trees["marginal"]) == set()
    assert complaints(trees["latent"]) == {"R-hat", "size"}
    assert "for effects " in diagnose(trees["latent"]).attrs["verdict"]


def test_what_does_not_vary_is_said():
    tree = draws(form="latent")
    posterior = tree["posterior"].to_dataset()
    tree["posterior"] = posterior.assign(active=xr.ones_like(posterior["active"]))
    verdict = diagnose(tree).attrs["verdict"]
    assert verdict.startswith("Sound")
    assert "do not vary" in verdict


@pytest.mark.parametrize(("chains", "size"), [(1, 1), (2, 1), (1, 2), (4, 3)])
def test_hardly_any_draws_are_not_sound(chains, size):
    assert complaints(draws(chains=chains, size=size))
