"""Priors: their densities, their presets, how they replace one another, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

import ebmodel
from ebmodel import InputError
from ebmodel.bayes import FLAT, WEAK, Prior, Priors
from ebmodel.bayes.priors import FAMILIES, as_priors

EXACT = 1e-8
"""Error allowed to a log density; PyMC's LogNormal has a constant of single precision, 2e-9 off."""

NORMAL, UNIFORM = Prior("Normal", mu=0, sigma=1), Prior("Uniform", lower=0, upper=1)

rng = np.random.default_rng(1)
X = rng.standard_normal((8, 2))
Y = rng.standard_normal((8, 3))


def message(call):
    """The error of ``call``, which keeps the one style."""
    with pytest.raises(InputError) as caught:
        call()
    text = str(caught.value)
    assert text.startswith("expected ")
    assert ", got " in text
    assert ", in " in text
    assert "; do " in text
    return text


# Densities -----------------------------------------------------------------------------------------------------------

DENSITIES = [
    (Prior("Normal", mu=1, sigma=2), stats.norm(1, 2)),
    (Prior("Uniform", lower=-1, upper=3), stats.uniform(-1, 4)),
    (Prior("LogNormal", mu=0.5, sigma=1.5), stats.lognorm(1.5, scale=np.exp(0.5))),
    (Prior("Beta", alpha=2, beta=9), stats.beta(2, 9)),
    (Prior("HalfNormal", sigma=3), stats.halfnorm(0, 3)),
    (Prior("Gamma", alpha=2, beta=4), stats.gamma(2, scale=1 / 4)),
    (Prior("InverseGamma", alpha=3, beta=2), stats.invgamma(3, scale=2)),
    (Prior("HalfCauchy", beta=2), stats.halfcauchy(0, 2)),
]


@pytest.mark.parametrize(("prior", "want"), DENSITIES, ids=[str(prior) for prior, _ in DENSITIES])
def test_log_density_is_scipys(prior, want):
    x = np.linspace(-2.0, 4.0, 13) + 0.01
    with np.errstate(divide="ignore"):
        np.testing.assert_allclose(prior.log_density(x), want.logpdf(x), rtol=EXACT, atol=EXACT)


def test_log_density_keeps_the_shape():
    x = rng.uniform(size=(2, 3, 4))
    assert UNIFORM.log_density(x).shape == x.shape
    np.testing.assert_array_equal(UNIFORM.log_density(x), 0.0)


def test_log_density_is_of_double_precision_whatever_numbers_are_given():
    for prior, want in ((Prior("Uniform", lower=-1, upper=2), -np.log(3)), (Prior("HalfNormal", sigma=3), None)):
        got = prior.log_density(np.array([0.5]))
        np.testing.assert_allclose(got, stats.halfnorm(0, 3).logpdf(0.5) if want is None else want, rtol=1e-13)


def test_the_weak_preset_is_what_the_text_says():
    u = np.linspace(0.05, 0.95, 7)
    for prior in (WEAK.tau1, WEAK.shrinkage, WEAK.spread):
        np.testing.assert_allclose(prior.log_density(u), 0.0, atol=EXACT)
    np.testing.assert_allclose(WEAK.signal.log_density(u), stats.norm.logpdf(u))
    # the noise is within a factor of 7 of the mean square of Y, with probability 0.95
    low, high = np.exp(stats.norm.ppf([0.025, 0.975]))
    assert 6.5 < high < 7.5
    assert np.isclose(low * high, 1.0)
    np.testing.assert_allclose(WEAK.noise.log_density(u), stats.lognorm(1.0).logpdf(u))


def test_the_flat_preset_has_constant_densities_where_parameters_can_be():
    x = np.array([0.2, 0.9])
    for name in ("tau1", "sigma2", "eta", "gamma", "kappa", "alpha"):
        np.testing.assert_array_equal(getattr(FLAT, name).log_density(x), 0.0)


# Presets and changes -------------------------------------------------------------------------------------------------


def test_presets_by_name():
    assert as_priors("weak") is WEAK
    assert as_priors("flat") is FLAT
    assert as_priors(WEAK) is WEAK
    assert WEAK.proper
    assert not FLAT.proper


@pytest.mark.parametrize("name", ["sigma2", "eta", "gamma", "kappa", "alpha"])
def test_one_improper_prior_is_enough(name):
    assert not WEAK.with_(**{name: getattr(FLAT, name)}).proper


@pytest.mark.parametrize("name", [name for family in FAMILIES for name in family])
def test_a_prior_on_another_version_replaces_the_old_one(name):
    changed = WEAK.with_(**{name: Prior("Beta", alpha=2, beta=3)})
    family = next(family for family in FAMILIES if name in family)
    assert [other for other in family if getattr(changed, other) is not None] == [name]
    untouched = [other for one in FAMILIES if one is not family for other in one]
    assert [getattr(changed, other) for other in untouched] == [getattr(WEAK, other) for other in untouched]
    assert as_priors(changed) is changed  # Beta lies within every support


def test_a_scale_is_kept_by_changes():
    assert WEAK.with_(scale=2.0).with_(tau1=UNIFORM).scale == 2.0


def test_priors_are_written_as_they_are_given():
    text = str(WEAK.with_(tau1=Prior("Beta", alpha=1, beta=9)))
    assert text.startswith("tau1 ~ Beta(alpha=1, beta=9), noise ~ LogNormal(mu=0, sigma=1)")
    assert "None" not in text


# What is refused -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Norml", "Model", "sample", "logp", "__name__", ""])
def test_an_unknown_distribution(name):
    assert "the name of a PyMC distribution" in message(lambda: Prior(name))


@pytest.mark.parametrize("name", ["Bernoulli", "Poisson", "Categorical", "Dirichlet", "MvNormal"])
def test_a_distribution_that_is_not_one_continuous_number(name):
    parameters = {"mu": {"mu": 0.0}, "a": {"a": 1.0}}.get({"MvNormal": "mu", "Dirichlet": "a"}.get(name, ""), {})
    message(lambda: Prior(name, **parameters))


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("Normal", {"mean": 0}),
        ("Beta", {"alpha": 1}),
        ("Gamma", {"alpha": 1, "bet": 2}),
        ("Uniform", {"low": 0}),
        ("Normal", {"mu": "zero"}),
        ("Normal", {"mu": [0.0, 1.0], "sigma": 1.0}),
    ],
)
def test_parameters_that_the_distribution_does_not_have(name, parameters):
    text = message(lambda: Prior(name, **parameters))
    assert f"expected parameters of {name}" in text or f"parameters that PyMC takes, got {name} with" in text


@pytest.mark.parametrize(
    ("name", "prior", "support"),
    [
        ("tau1", NORMAL, "0 to 1"),
        ("tau1", Prior("HalfNormal", sigma=1), "0 to 1"),
        ("tau1", Prior("Uniform", lower=0, upper=2), "0 to 1"),
        ("shrinkage", Prior("LogNormal", mu=0, sigma=1), "0 to 1"),
        ("spread", NORMAL, "0 to 1"),
        ("sigma2", NORMAL, "the positive numbers"),
        ("noise", Prior("Flat"), "the positive numbers"),
        ("eta", Prior("StudentT", nu=3, mu=0, sigma=1), "the positive numbers"),
        ("kappa", NORMAL, "the positive numbers"),
    ],
)
def test_density_where_the_parameter_cannot_be(name, prior, support):
    text = message(lambda: ebmodel.pymc_model(X, Y, priors=WEAK.with_(**{name: prior})))
    assert f"a prior within {support}" in text
    assert f"the prior on {name}" in text


@pytest.mark.parametrize("family", [family for family in FAMILIES if len(family) > 1], ids=str)
def test_two_versions_of_one_parameter(family):
    given = {name: getattr(WEAK, name) for one in FAMILIES for name in one if getattr(WEAK, name) is not None}
    text = message(lambda: Priors(**{**given, **dict.fromkeys(family, UNIFORM)}))
    assert f"a prior on one of {', '.join(family)}" in text


@pytest.mark.parametrize("missing", ["noise", "shrinkage", "signal", "spread", "alpha"])
def test_a_parameter_without_a_prior(missing):
    given = {name: getattr(WEAK, name) for one in FAMILIES for name in one if getattr(WEAK, name) is not None}
    assert "got none, in Priors" in message(lambda: Priors(**{**given, missing: None}))


def test_two_versions_in_one_change():
    message(lambda: WEAK.with_(eta=UNIFORM, shrinkage=UNIFORM))


def test_a_change_of_something_else():
    assert "'tau'" in message(lambda: WEAK.with_(tau=UNIFORM))


@pytest.mark.parametrize("scale", [0.0, -1.0])
def test_a_scale_that_is_none(scale):
    message(lambda: WEAK.with_(scale=scale))


@pytest.mark.parametrize("priors", ["strong", "", None, 1, {"tau1": UNIFORM}])
def test_no_such_preset(priors):
    assert "'weak', 'flat'" in message(lambda: as_priors(priors))


@pytest.mark.parametrize("given", ["Beta", 0.5, None, ("Beta", 1, 1)])
def test_a_prior_must_be_a_prior(given):
    message(lambda: WEAK.with_(tau1=given))


def test_improper_priors_are_not_sampled():
    text = message(lambda: ebmodel.sample(X, Y, priors="flat"))
    assert "expected proper priors" in text
    assert "HalfFlat" in text
    message(lambda: ebmodel.sample(X, Y, priors=WEAK.with_(gamma=Prior("Flat")), form="latent"))
