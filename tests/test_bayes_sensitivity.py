"""Power-scaling sensitivity: closed forms, draws of a real model, priors scaled for real, and what it cannot see."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from scipy import stats

import ebmodel
from ebmodel import InputError
from ebmodel.bayes import WEAK, Prior
from ebmodel.bayes.sensitivity import CONFLICT, FINE, STILL, STRONG, sensitivity, table

CHAINS, DRAWS = 4, 2000


def counted(a=2.0, b=30.0, active=12, m=16, seed=0, spread=1.0):
    """Draws of tau1 where I(t) is seen: prior Beta(a, b), posterior Beta(a + active, b + m - active), exact.

    sigma2 is far better known than its prior; eta has a uniform prior, which is its posterior.
    """
    rng, dims = np.random.default_rng(seed), ("chain", "draw")
    tau1 = rng.beta(a + active, b + m - active, (CHAINS, DRAWS))
    sigma2 = np.exp(0.05 * rng.standard_normal((CHAINS, DRAWS)))
    eta = rng.random((CHAINS, DRAWS))
    seen = (np.arange(m) < active)[None, None]
    likelihood = np.where(seen, np.log(tau1)[..., None], np.log1p(-tau1)[..., None])
    likelihood = likelihood + stats.norm.logpdf(np.log(sigma2), 0, 0.05 * np.sqrt(m))[..., None]
    posterior = {"tau1": tau1, "sigma2": sigma2, "eta": eta}
    log_prior = {"tau1": stats.beta.logpdf(tau1, a, b), "noise": stats.norm.logpdf(np.log(sigma2), 0, spread),
                 "shrinkage": np.zeros((CHAINS, DRAWS))}  # fmt: skip
    tree = xr.DataTree.from_dict(
        {
            "posterior": xr.Dataset({name: (dims, x) for name, x in posterior.items()}),
            "log_prior": xr.Dataset({name: (dims, x) for name, x in log_prior.items()}),
            "log_likelihood": xr.Dataset(
                {"Y": ((*dims, "tissue"), likelihood)}, {"tissue": [f"t{i}" for i in range(m)]}
            ),
        }
    )
    tree.attrs = {"priors": "as counted", "verdict": "Sound: exact."}
    return tree


def distance(F, G, x):
    """Cumulative Jensen-Shannon distance of two distribution functions on x, the larger of the two directions'."""

    def one(p, q, width):
        middle = 0.5 * (p + q)
        with np.errstate(divide="ignore", invalid="ignore"):
            gap = np.nan_to_num(p * np.log2(p / middle)) + np.nan_to_num(q * np.log2(q / middle))
        return np.sqrt(max(np.sum(gap * width), 0.0) / np.sum((p + q) * width))

    width = np.diff(x)
    p, q = F(x)[:-1], G(x)[:-1]
    return max(one(p, q, width), one(1 - p, 1 - q, width))


def test_the_index_is_the_closed_forms_slope():
    """A Beta prior to the power c is a Beta prior, and so are the posteriors."""
    a, b, active, m = 2.0, 30.0, 12, 16
    found = sensitivity(counted(a, b, active, m))
    drawn = counted(a, b, active, m)["posterior"]["tau1"].to_numpy()
    x = np.linspace(drawn.min(), drawn.max(), 20001)

    def index(prior, likelihood):
        """D/|log2 c| at both powers, averaged."""
        base = stats.beta(a + active, b + m - active).cdf
        slopes = []
        for c in (0.99, 1.01):
            p, s = (c if prior else 1.0), (c if likelihood else 1.0)
            other = stats.beta(p * (a - 1) + 1 + s * active, p * (b - 1) + 1 + s * (m - active)).cdf
            slopes.append(distance(base, other, x) / abs(np.log2(c)))
        return np.mean(slopes)

    tau1 = found.sel(quantity="tau1")
    assert float(tau1["prior"]) == pytest.approx(index(True, False), rel=0.05)
    assert float(tau1["likelihood"]) == pytest.approx(index(False, True), rel=0.05)
    assert float(tau1["prior_tau1"]) == pytest.approx(float(tau1["prior"]), abs=0.01)


def test_the_shift_is_the_closed_forms_derivative():
    a, b, active, m = 2.0, 30.0, 12, 16
    found = sensitivity(counted(a, b, active, m))

    def mean(c):
        one, other = c * (a - 1) + 1 + active, c * (b - 1) + 1 + m - active
        return one / (one + other)

    want = (mean(2**1e-4) - mean(2**-1e-4)) / 2e-4
    assert float(found["shift_tau1"].sel(quantity="tau1")) == pytest.approx(want, rel=0.05)
    assert float(found["shift"].sel(quantity="tau1")) == pytest.approx(want, rel=0.05)
    assert abs(float(found["shift_tau1"].sel(quantity="eta"))) < 0.02  # independent of it


def test_diagnoses_and_the_prior_that_leads():
    found = sensitivity(counted())
    assert found["quantity"].to_numpy().tolist() == ["tau1", "eta", "sigma2"]
    assert str(found["diagnosis"].sel(quantity="tau1").item()) == CONFLICT
    assert str(found["leading"].sel(quantity="tau1").item()) == "tau1"
    assert str(found["diagnosis"].sel(quantity="sigma2").item()) == FINE
    assert str(found["leading"].sel(quantity="sigma2").item()) == ""
    text = found.attrs["findings"]
    assert text.startswith("Potential prior-data conflict for 'tau1' (above all to the prior on tau1).")
    assert "doubling the priors' power moves its mean of 0.29" in text
    weak = sensitivity(counted(a=1.1, b=1.1, active=60, m=120))
    assert (weak["diagnosis"] == FINE).all()
    assert weak.attrs["findings"].startswith("No quantity is sensitive")


def test_a_prior_that_dominates_is_strong():
    found = sensitivity(counted(a=200.0, b=200.0, active=1, m=2))
    tau1 = found.sel(quantity="tau1")
    assert float(tau1["likelihood"]) < 0.05 < float(tau1["prior"])
    assert str(tau1["diagnosis"].item()) == STRONG
    assert "Strong prior / weak likelihood for 'tau1'" in found.attrs["findings"]


def test_uniform_priors_are_said_to_be_out_of_sight():
    found = sensitivity(counted())
    assert found.attrs["blind"] == ["shrinkage"]
    assert (found["prior_shrinkage"] == 0).all()
    assert "The prior on shrinkage is uniform, which no power changes" in found.attrs["findings"]
    tree = counted()
    tree["log_prior"] = xr.DataTree(tree["log_prior"].to_dataset()[["shrinkage"]])
    none = sensitivity(tree)
    assert (none["prior"] == 0).all()
    assert (none["leading"] == "").all()


def with_tissues(tree, probability):
    """The same draws with P(I(t)=1), and effects of one SNP that are 0 or 1 plus noise."""
    rng = np.random.default_rng(1)
    active = rng.random(probability.shape) < probability
    effects = active * (1.0 + 0.1 * rng.standard_normal(probability.shape))
    posterior = (
        tree["posterior"]
        .to_dataset()
        .assign(
            probability=(("chain", "draw", "tissue"), probability),
            active=(("chain", "draw", "tissue"), active.astype(int)),
            effects=(("chain", "draw", "tissue", "snp"), effects[..., None]),
        )
    )
    posterior = posterior.assign_coords(tissue=["lung", "liver", "skin"], snp=["rs1"])
    tree["log_likelihood"] = xr.DataTree(tree["log_likelihood"].to_dataset().drop_vars("tissue"))
    groups = {name: tree[name].to_dataset() for name in ("log_prior", "log_likelihood")}
    out = xr.DataTree.from_dict({"posterior": posterior, **groups})
    out.attrs = tree.attrs
    return out


def test_probabilities_and_effects_count_only_if_they_move():
    """P(I=1) = tau1 in lung, 10^-9 tau1 in liver, 0 in skin: the index has no units, the shift has."""
    tree = counted()
    tau1 = tree["posterior"]["tau1"].to_numpy()
    tree = with_tissues(tree, np.stack([tau1, 1e-9 * tau1, 0 * tau1], axis=-1))
    found = sensitivity(tree)
    labels = ["P(I=1)[lung]", "P(I=1)[liver]", "P(I=1)[skin]"]
    index = found["prior"].sel(quantity=labels).to_numpy()
    assert index[0] == pytest.approx(index[1], rel=1e-6)
    assert found["diagnosis"].sel(quantity=labels).to_numpy().tolist() == [CONFLICT, FINE, STILL]
    effects = [f"effect[{tissue}, rs1]" for tissue in ("lung", "liver", "skin")]
    assert found["diagnosis"].sel(quantity=effects).to_numpy().tolist() == [CONFLICT, STILL, STILL]
    assert found["kind"].sel(quantity=labels + effects).to_numpy().tolist() == ["probability"] * 3 + ["effect"] * 3
    assert found["tissue"].sel(quantity=effects).to_numpy().tolist() == ["lung", "liver", "skin"]
    some = sensitivity(tree, ["active", "tau1"])
    assert some["quantity"].to_numpy().tolist() == [*labels, "tau1"]
    assert float(some["mean"][0]) == pytest.approx(float(found["mean"].sel(quantity="tau1")), abs=0.02)


def test_unreliable_weights_and_draws_are_told():
    tree = counted()
    heavy = 120.0 * np.random.default_rng(2).exponential(size=(CHAINS, DRAWS))  # weights p^0.01: Pareto, k = 1.2
    priors = tree["log_prior"].to_dataset().assign(tau1=(("chain", "draw"), heavy))
    tree["log_prior"] = xr.DataTree(priors)
    found = sensitivity(tree)
    assert 0.8 < found.attrs["pareto_k"] < 1.4
    assert "Pareto k is" in found.attrs["warning"]
    assert "Not to be relied on: the importance weights'" in found.attrs["findings"]
    good = counted()
    assert sensitivity(good).attrs["warning"] == ""
    assert sensitivity(good).attrs["pareto_k"] < 0.5
    good.attrs["verdict"] = "Not sound. One chain."
    assert "the draws themselves are not to be relied on" in sensitivity(good).attrs["warning"]


def test_the_table_begins_with_what_is_flagged():
    frame = table(sensitivity(counted()))
    assert frame.index.tolist() == ["tau1", "sigma2", "eta"] or frame.index.tolist() == ["tau1", "eta", "sigma2"]
    assert frame.columns.tolist() == ["prior", "prior_tau1", "prior_noise", "prior_shrinkage", "likelihood",
                                      "leading", "mean", "sd", "shift", "diagnosis"]  # fmt: skip


def test_errors_say_what_to_do():
    tree = counted()
    for group in ("log_prior", "log_likelihood"):
        part = xr.DataTree.from_dict({name: tree[name].to_dataset() for name in tree.children if name != group})
        with pytest.raises(InputError, match=f"none of '{group}', in sensitivity; do sample with"):
            sensitivity(part)
    with pytest.raises(InputError, match="expected quantities that were drawn, got 'gamma', in quantities"):
        sensitivity(tree, ["gamma"])
    with pytest.raises(InputError, match="a number > 0"):
        sensitivity(tree, threshold=0.0)


# Draws of the model --------------------------------------------------------------------------------------------------


def data(m=12, active=8):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((30, 1))
    return X, X * np.where(np.arange(m) < active, 1.5 + 0.3 * rng.standard_normal(m), 0) + rng.standard_normal((30, m))


def sample(priors, draws=1000):
    options = {"draws": draws, "tune": 500, "chains": 4, "cores": 1, "seed": 3, "progress": False, "predictive": 1}
    return ebmodel.sample(*data(), priors=priors, **options)


@pytest.fixture(scope="module")
def conflict():
    """Eight of twelve tissues are active; the prior expects one in forty."""
    return sample(WEAK.with_(tau1=Prior("Beta", alpha=1, beta=40)))


def test_a_conflicting_prior_is_flagged(conflict):
    found = sensitivity(conflict)
    tau1 = found.sel(quantity="tau1")
    assert str(tau1["diagnosis"].item()) == CONFLICT
    assert str(tau1["leading"].item()) == "tau1"
    assert float(tau1["shift"]) < -0.05  # the prior pulls down
    assert found.attrs["blind"] == ["shrinkage"]
    assert found.attrs["warning"] == ""
    assert {"prior_tau1", "prior_noise", "prior_signal", "prior_shrinkage"} < set(found.data_vars)
    assert str(found["diagnosis"].sel(quantity="sigma2").item()) == FINE
    assert set(found["kind"].to_numpy()) == {"hyperparameter", "mean effect", "probability", "effect"}
    assert found.sizes["quantity"] == 3 + 1 + 12 + 12
    assert "'tau1'" in found.attrs["findings"]


def test_a_subset_gives_the_same_numbers(conflict):
    every, some = sensitivity(conflict), sensitivity(conflict, ["tau1", "beta"])
    xr.testing.assert_allclose(every.sel(quantity=["tau1", "beta[snp0]"])["prior"], some["prior"])


@pytest.mark.statistical
def test_a_weak_prior_with_much_to_see_is_not_flagged():
    found = sensitivity(sample(WEAK))
    assert (found["diagnosis"].isin([FINE, STILL])).all()
    assert found.attrs["blind"] == ["tau1", "shrinkage"]


@pytest.mark.statistical
def test_index_and_shift_against_a_model_with_the_prior_scaled():
    """tau1's Beta(2, 12) prior to the power 1.25 is Beta(2.25, 14.75): sampled again, not weighed."""
    power = 1.25
    base = sample(WEAK.with_(tau1=Prior("Beta", alpha=2, beta=12)), draws=4000)
    scaled = sample(WEAK.with_(tau1=Prior("Beta", alpha=1 + power, beta=1 + 11 * power)), draws=4000)
    found = sensitivity(base, ["tau1"]).sel(quantity="tau1")
    one, other = (np.sort(tree["posterior"]["tau1"].to_numpy().ravel()) for tree in (base, scaled))
    x = np.linspace(one[0], one[-1], 4001)
    apart = distance(*(lambda x, s=s: np.searchsorted(s, x, side="right") / len(s) for s in (one, other)), x)
    assert apart / np.log2(power) == pytest.approx(float(found["prior_tau1"]), rel=0.25)
    moved = other.mean() - one.mean()
    error = 2 * one.std() / np.sqrt(4000)  # of draws worth about a quarter of their number
    assert moved == pytest.approx(float(found["shift_tau1"]) * np.log2(power), abs=3 * error + 0.15 * abs(moved))
