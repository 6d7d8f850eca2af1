"""The PyMC models: log posterior and gradient against the dense twin and scipy, their maximum against the EM fit."""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from pytensor.compile.mode import Mode
from scipy import stats
from scipy.optimize import minimize
from scipy.special import expit, logit, logsumexp

import ebmodel
from ebmodel import InputError, Params, dense, em
from ebmodel.bayes import FLAT, WEAK, Prior
from ebmodel.bayes.models import build, pose
from ebmodel.data import project_out

EXACT = 1e-8
"""Relative error allowed to two computations of one number; double precision leaves about 1e-11 here."""
SLOPE = 1e-7
"""Relative error allowed to a derivative by Richardson's central differences, of error h^4 + 1e-16 |log p| / h."""

POINT = Mode("py", None)
"""The graph as it was written: no rewriting, nothing compiled."""

OWN = WEAK.with_(
    tau1=Prior("Beta", alpha=2, beta=5),
    sigma2=Prior("InverseGamma", alpha=2, beta=3),
    eta=Prior("HalfNormal", sigma=2),
    beta=Prior("Normal", mu=0.3, sigma=3),
    kappa=Prior("Gamma", alpha=2, beta=0.5),
    alpha=Prior("Normal", mu=1, sigma=0.7),
)
GAMMA = WEAK.with_(gamma=Prior("StudentT", nu=4, mu=0, sigma=2), scale=3.0)

FORMS = [
    ("complete", "g", "free", WEAK),
    ("missing", "g", "hierarchical", WEAK),
    ("fewer-samples-than-snps", "independent", "free", WEAK),
    ("tissue-unobserved", "matrix", "free", WEAK),
    ("sample-unobserved", "independent", "free", GAMMA),
    ("wide", "independent", "hierarchical", WEAK),
    ("wide-intercept-missing", 0.5, "free", OWN),
    ("collinear", "g", "free", GAMMA),
    ("collinear-missing", -1.0, "hierarchical", WEAK),
    ("covariates", "matrix", "hierarchical", OWN),
    ("covariates-intercept-missing", "g", "free", FLAT),
    ("covariates-use-up-a-tissue", 2.0, "hierarchical", WEAK),
    ("covariates-redundant", "g", "free", OWN),
    ("one-snp-one-tissue", "g", "free", WEAK),
    ("complete", "power", "hierarchical", OWN),
    ("missing", "power", "free", OWN),
    ("covariates", "power", "free", WEAK),
    ("covariates-intercept-missing", "power", "hierarchical", WEAK),
    ("collinear-missing", "power", "free", GAMMA),
]

FROZEN = {
    "Normal": lambda mu, sigma: stats.norm(loc=mu, scale=sigma),
    "Uniform": lambda lower, upper: stats.uniform(lower, upper - lower),
    "LogNormal": lambda mu, sigma: stats.lognorm(sigma, scale=np.exp(mu)),
    "Beta": lambda alpha, beta: stats.beta(a=alpha, b=beta),
    "InverseGamma": lambda alpha, beta: stats.invgamma(alpha, scale=beta),
    "HalfNormal": lambda sigma: stats.halfnorm(scale=sigma),
    "Gamma": lambda alpha, beta: stats.gamma(alpha, scale=1 / beta),
    "StudentT": lambda nu, mu, sigma: stats.t(df=nu, loc=mu, scale=sigma),
}


def log_density(prior, x):
    """scipy's log density of a prior at x; 0 where it is flat."""
    if prior.distribution in ("Flat", "HalfFlat"):
        return 0.0 * x
    return FROZEN[prior.distribution](**prior.parameters).logpdf(x)


def natural(name, x):
    """Name, value and log Jacobian of the variable behind the unconstrained ``name`` at x."""
    for ending in ("_interval__", "_logodds__"):
        if name.endswith(ending):
            return name.removesuffix(ending), expit(x), -np.logaddexp(0, x) - np.logaddexp(0, -x)
    if name.endswith("_log__"):
        return name.removesuffix("_log__"), np.exp(x), x
    return name, x, 0.0


class Compiled:
    """A model as functions of one flat unconstrained vector."""

    WANTED = ("beta", "eta", "sigma2", "log_bayes_factor")

    def __init__(self, model, mode=POINT, jacobian=True):
        self.model = model
        self.names = [v.name for v in model.value_vars]
        self.shapes = [model.initial_point()[name].shape for name in self.names]
        terms = model.logp(sum=False, jacobian=jacobian)
        total = sum(pt.sum(term) for term in terms)
        gradient = pytensor.grad(total, model.value_vars)
        wanted = model.replace_rvs_by_values([model[name] for name in self.WANTED])
        self.function = pytensor.function(
            model.value_vars, [total, *gradient, *terms, *wanted], mode=mode, on_unused_input="ignore"
        )
        self.terms = [v.name for v in model.basic_RVs]
        self.size = sum(int(np.prod(shape)) for shape in self.shapes)

    def split(self, x):
        ends = np.cumsum([int(np.prod(shape)) for shape in self.shapes])[:-1]
        return [part.reshape(shape) for part, shape in zip(np.split(x, ends), self.shapes, strict=True)]

    def __call__(self, x):
        """log posterior, gradient, its terms by variable, and the deterministics, at a flat point."""
        out = self.function(*self.split(x))
        k = 1 + len(self.names)
        gradient = np.concatenate([np.ravel(g) for g in out[1:k]])
        terms = dict(zip(self.terms, out[k : k + len(self.terms)], strict=True))
        return float(out[0]), gradient, terms, dict(zip(self.WANTED, out[k + len(self.terms) :], strict=True))


class Form:
    """One of `FORMS`: its data, its model and two random points of it."""

    def __init__(self, make_case, shape, slab, mean, priors):
        shaped = make_case(shape, "g" if slab == "power" else slab)
        self.X, self.Y, self.C = shaped.X, shaped.Y, shaped.C
        learned = isinstance(slab, str) and slab == "power"
        self.slab, self.mean, self.priors = "power" if learned else shaped.params.slab, mean, priors
        self.problem = pose(self.X, self.Y, self.slab, mean, priors, self.C)
        self.compiled = Compiled(build(self.problem))
        rng = np.random.default_rng([FORMS.index((shape, slab, mean, priors)), 7])
        self.points = [rng.normal(0.0, 1.0, self.compiled.size) for _ in range(2)]

    def values(self, x):
        """Every variable at x by name, and log Jacobians."""
        found = [natural(n, v) for n, v in zip(self.compiled.names, self.compiled.split(x), strict=True)]
        return {name: value for name, value, _ in found}, {name: jacobian for name, _, jacobian in found}

    def params(self, x):
        value, _ = self.values(x)
        theta = self.compiled(x)[3]
        slab = float(value["alpha"]) if self.problem.learns_alpha else self.slab
        return Params(
            tau1=float(value["tau1"]),
            beta=theta["beta"],
            eta=float(theta["eta"]),
            sigma2=float(theta["sigma2"]),
            slab=slab,
        )


@pytest.fixture(scope="module", params=FORMS, ids=lambda form: "-".join(map(str, form[:3])))
def form(request, make_case):
    return Form(make_case, *request.param)


# The log posterior and its gradient ----------------------------------------------------------------------------------


def test_likelihood_is_the_dense_twins(form):
    for x in form.points:
        total, _, terms, theta = form.compiled(x)
        params = form.params(x)
        args = form.X, form.Y, params, form.C
        log_g1, log_g0 = dense.log_slab(*args), dense.log_null(*args)
        want = np.logaddexp(np.log(params.tau1) + log_g1, np.log(params.tau0) + log_g0)
        np.testing.assert_allclose(terms["Y"], want, rtol=EXACT, atol=EXACT)
        np.testing.assert_allclose(terms["Y"].sum(), dense.loglik(*args), rtol=EXACT)
        np.testing.assert_allclose(
            theta["log_bayes_factor"], log_g0 - log_g1, rtol=0, atol=EXACT * np.abs(log_g1).max()
        )
        np.testing.assert_allclose(total, sum(np.sum(term) for term in terms.values()), rtol=EXACT)


def test_priors_are_scipys(form):
    """Every prior on the version it was put on; the definitions of these versions written anew, with dense matrices."""
    problem, priors = form.problem, form.priors
    dof, X = project_out(problem.data.C)[1], project_out(problem.data.C, problem.data.X)[0][0]
    y_squares = sum(y @ y for _, y in dense.tissues(form.X, form.Y, form.C))
    n_t = sum(len(y) for _, y in dense.tissues(form.X, form.Y, form.C))
    scale2 = priors.scale**2 if priors.scale else y_squares / n_t
    for x in form.points:
        value, jacobian = form.values(x)
        params, (_, _, terms, _) = form.params(x), form.compiled(x)
        Sigma0, rank = dense.slab_shape(form.X, params, form.C), np.linalg.matrix_rank(X)
        dbar = np.trace(X @ Sigma0 @ X.T) / rank
        gamma2 = params.beta @ np.linalg.pinv(Sigma0, rtol=1e-10, hermitian=True) @ params.beta  # |gamma|^2
        shrinkage = params.eta * dbar / (params.eta * dbar + params.sigma2)

        want = {}
        for name, v in value.items():
            if name == "z":
                continue
            want[name] = np.sum(log_density(getattr(priors, name), v) + jacobian[name])
        # the versions mean what they say
        meaning = {"tau1": params.tau1, "sigma2": params.sigma2, "noise": params.sigma2 / scale2, "eta": params.eta}
        meaning |= {"shrinkage": shrinkage, "beta": params.beta}
        for name in set(meaning) & set(value):
            np.testing.assert_allclose(value[name], meaning[name], rtol=EXACT)
        if "gamma" in value:
            np.testing.assert_allclose(np.sum(value["gamma"] ** 2), gamma2, rtol=EXACT)
        if "signal" in value:
            unit = dof / rank * params.sigma2 / dbar
            np.testing.assert_allclose(np.sum(value["signal"] ** 2), gamma2 / unit, rtol=EXACT)
        if "z" in value:  # a change of variables of gamma ~ N(0, kappa I)
            kappa = (
                value["kappa"] if "kappa" in value else value["spread"] / (1 - value["spread"]) * params.sigma2 / dbar
            )
            log_gamma = -0.5 * (rank * np.log(2 * np.pi * kappa) + gamma2 / kappa)
            want["z"] = log_gamma + rank * (0.5 * np.log(gamma2) - np.log(np.linalg.norm(value["z"])))
        assert set(want) == set(terms) - {"Y"}
        for name, density in want.items():
            np.testing.assert_allclose(np.sum(terms[name]), density, rtol=EXACT, atol=EXACT, err_msg=name)


def test_gradient_is_that_of_finite_differences(form):
    x = form.points[0]
    gradient = form.compiled(x)[1]

    def slope(j, h):
        step = h * np.eye(len(x))[j]
        return (form.compiled(x + step)[0] - form.compiled(x - step)[0]) / (2 * h)

    want = [(4 * slope(j, 1e-3) - slope(j, 2e-3)) / 3 for j in range(len(x))]  # Richardson
    np.testing.assert_allclose(gradient, want, rtol=0, atol=SLOPE * np.abs(gradient).max())


# The maximum a posteriori under flat priors is the EM fit ------------------------------------------------------------

MAXIMA = [
    ("g", {}, {}),
    ("g", {"missing": 0.3}, {}),
    ("g", {"missing": 0.25, "k": 1}, {"intercept": True}),
    ("independent", {"missing": 0.3}, {}),
    (-1.0, {}, {}),
]
SHARED = 1e-5
"""Log-likelihood by which the two maxima may differ; both searches stop at gains of about 1e-9."""
NEAR = 2e-3
"""Relative difference allowed to parameters: sqrt(2e-9) = 4e-5 standard errors, and standard errors are up to ten times
a parameter here."""
FAST, ALL = 3, 8
STARTS, CLIMBS = 60, 5


def gene(seed, missing=0.0, k=0, n=20, p=2, m=6):
    """X, Y and covariates: some tissues active, at strengths from faint to strong."""
    rng = np.random.default_rng([seed, 77])
    X = rng.standard_normal((n, p)) @ (np.eye(p) + 0.4 * np.triu(rng.standard_normal((p, p)), 1))
    C = rng.standard_normal((n, k))
    active = np.arange(m) < rng.integers(1, m + 1)
    strength = rng.choice([0.3, 1.0, 3.0])
    effects = strength * np.where(active, (rng.standard_normal(p) + 0.6 * rng.standard_normal((m, p))).T, 0.0)
    Y = X @ effects + C @ rng.standard_normal((k, m)) + rng.standard_normal((n, m))
    Y[rng.random((n, m)) < missing] = np.nan
    return X, Y, C if k else None


def maximum(compiled, problem, rng):
    """Best of several climbs by L-BFGS-B from the best of many random sets of active tissues."""
    order = ["tau1_interval__", "sigma2_log__", "eta_log__", "gamma"]
    assert sorted(compiled.names) == sorted(order)
    statistics = problem.whitened[0]
    m, points = len(statistics.n), []
    for _ in range(STARTS):
        T = np.zeros(m)
        T[rng.choice(m, rng.integers(1, m + 1), replace=False)] = 1.0
        tau1, gamma, eta, sigma2, _ = em.from_responsibilities(statistics, T)
        eta = max(eta, 0.1 * sigma2 / statistics.d.mean())
        at = {"tau1_interval__": logit(np.clip(tau1, 0.1, 0.9)), "sigma2_log__": np.log(sigma2)}
        at |= {"eta_log__": np.log(eta), "gamma": gamma}
        points.append(np.concatenate([np.ravel(at[name]) for name in compiled.names]))
    points = sorted(np.unique(points, axis=0), key=lambda x: -compiled(x)[0])[:CLIMBS]
    bounds = [(-40, 40) if name != "gamma" else (None, None) for name, shape in zip(compiled.names, compiled.shapes,
              strict=True) for _ in range(int(np.prod(shape)))]  # fmt: skip
    climbs = [
        minimize(lambda x: tuple(-v for v in compiled(x)[:2]), x, jac=True, method="L-BFGS-B", bounds=bounds,
                 options={"maxiter": 500, "ftol": 1e-15, "gtol": 1e-7})
        for x in points
    ]  # fmt: skip
    return min(climbs, key=lambda climb: climb.fun).x


@pytest.fixture(scope="module", params=MAXIMA, ids=lambda each: f"{each[0]}-{sorted(each[1] | each[2])}")
def flat(request):
    """A flat-prior model of one shape, compiled once, and what makes data for it."""
    slab, spec, options = request.param
    X, Y, C = gene(0, **spec)
    problem = pose(X, Y, slab, "free", "flat", C, **options)
    return Compiled(build(problem), mode="FAST_COMPILE", jacobian=False), slab, spec, options


def compare_maxima(flat, seeds, record):
    compiled, slab, spec, options = flat
    for seed in seeds:
        X, Y, C = gene(seed, **spec)
        problem = pose(X, Y, slab, "free", "flat", C, **options)
        with compiled.model:
            pm.set_data({name: np.asarray(value) for name, value in problem.inputs.items()})
        x = maximum(compiled, problem, np.random.default_rng(seed))
        value, _, _, theta = compiled(x)
        tau1 = expit(x[0]) if compiled.names[0] == "tau1_interval__" else np.nan
        fit = ebmodel.fit(X, Y, slab=slab, covariates=C, tol=1e-12, **options)
        record.append(value - fit.loglik)
        assert abs(value - fit.loglik) < SHARED, (seed, value, fit.loglik)
        params = fit.params
        interior = 1e-3 < params.tau1 < 1 - 1e-3 and params.eta > 1e-3 * params.sigma2
        if interior:
            np.testing.assert_allclose(tau1, params.tau1, rtol=NEAR)
            np.testing.assert_allclose(theta["sigma2"], params.sigma2, rtol=NEAR)
            np.testing.assert_allclose(theta["eta"], params.eta, rtol=10 * NEAR)
            size = np.abs(params.beta).max()
            np.testing.assert_allclose(theta["beta"], params.beta, rtol=0, atol=NEAR * np.asarray(size))
    worst = np.max(np.abs(record))
    print(f"\n{len(record)} data sets, slab {slab}, {spec}: largest |MAP - EM| {worst:.1e}")


def test_the_maximum_a_posteriori_under_flat_priors_is_the_em_fit(flat):
    compare_maxima(flat, range(FAST), [])


@pytest.mark.statistical
def test_the_maximum_a_posteriori_is_the_em_fit_on_many_data_sets(flat):
    compare_maxima(flat, range(FAST, ALL), [])


# The latent form -----------------------------------------------------------------------------------------------------

NODES = 60
"""Gauss-Hermite nodes a dimension for z(t) ~ N(0, I)."""


@pytest.mark.parametrize(
    ("shape", "slab", "mean"),
    [("one-snp-one-tissue", "g", "free"), ("line", "g", "hierarchical"), ("line", "independent", "free"),
     ("line", "power", "free")],
)  # fmt: skip
def test_the_latent_form_integrates_to_the_marginal_form(make_case, shape, slab, mean):
    """Summing I(t) and integrating beta(t) out of the latent form's joint density numerically, tissue by tissue."""
    if shape == "line":
        rng = np.random.default_rng(8)
        X, C = rng.standard_normal((9, 1)), rng.standard_normal((9, 1))
        Y = X @ rng.standard_normal((1, 3)) + C + rng.standard_normal((9, 3))
        Y[rng.random((9, 3)) < 0.3] = np.nan
    else:
        X, Y, C = (getattr(make_case(shape, slab), name) for name in "XYC")
    problem = pose(X, Y, slab, mean, OWN if slab == "power" else "weak", C)
    latent, marginal = build(problem, "latent"), build(problem)
    tissue = np.repeat(np.arange(Y.shape[1]), [len(y) for _, y in dense.tissues(X, Y, C)])
    shared = [v.name for v in marginal.value_vars]
    assert {v.name for v in latent.value_vars} == {*shared, "active", "z_tissue"}
    of_marginal = marginal.compile_fn(marginal.logp(sum=False), mode=POINT, on_unused_input="ignore")
    of_latent = latent.compile_fn(latent.logp(sum=False), mode=POINT, on_unused_input="ignore")
    start = marginal.initial_point()
    rng = np.random.default_rng(9)
    point = {name: np.asarray(start[name]) + 0.5 * rng.standard_normal(start[name].shape) for name in shared}
    named = dict(zip([v.name for v in marginal.basic_RVs], of_marginal(point), strict=True))

    z, weight = np.polynomial.hermite_e.hermegauss(NODES)
    m = Y.shape[1]
    log_joint = {}  # log p(y_t, I(t) | z(t)) at every node
    for active in (0, 1):
        rows = []
        for node in z:
            at = point | {"active": np.full(m, active), "z_tissue": np.full((m, 1), node)}
            terms = dict(zip([v.name for v in latent.basic_RVs], of_latent(at), strict=True))
            rows.append(terms["active"] + np.bincount(tissue, terms["Y"], minlength=m))
        log_joint[active] = logsumexp(np.array(rows) + np.log(weight / weight.sum())[:, None], axis=0)
    got = np.logaddexp(log_joint[0], log_joint[1])
    np.testing.assert_allclose(got, named["Y"], rtol=1e-7)
    for name in set(named) - {"Y"}:  # and the priors are shared
        np.testing.assert_allclose(np.sum(terms[name]), np.sum(named[name]), rtol=EXACT)


# What does not change ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mean", ["free", "hierarchical"])
@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_default_priors_do_not_see_units_or_bases(mean, missing):
    """X -> XA and Y -> cY with the paper's slab: at corresponding points the log posterior changes by a constant.

    The corresponding point has the same tau1, noise, shrinkage and spread, and the same mean effects; the whitened
    coordinates turn by Q = (new to_gamma) A^-1 L, which is orthogonal.
    """
    rng = np.random.default_rng(12)
    X, Y, _ = gene(3, missing, p=3)
    A, c = rng.standard_normal((3, 3)), 37.0
    one = pose(X, Y, "g", mean, "weak")
    here = Compiled(build(one))
    for new_X, new_Y, turned in ((X @ A, Y, np.linalg.inv(A)), (X, c * Y, np.eye(3))):
        other = pose(new_X, new_Y, "g", mean, "weak")
        Q = other.inputs["to_gamma"] @ turned @ one.inputs["L"]
        np.testing.assert_allclose(Q @ Q.T, np.eye(3), atol=1e-9)
        there = Compiled(build(other))
        vector = {"free": "signal", "hierarchical": "z"}[mean]
        differences = []
        for _ in range(4):
            x = rng.standard_normal(here.size)
            parts = [Q @ v if name == vector else v for name, v in zip(here.names, here.split(x), strict=True)]
            differences.append(there(np.concatenate([np.ravel(v) for v in parts]))[0] - here(x)[0])
        jump = -np.log(c) * np.isfinite(Y).sum() if new_Y is not Y else 0.0
        np.testing.assert_allclose(differences, jump, atol=1e-7)


# What is built -------------------------------------------------------------------------------------------------------


def test_names_dimensions_and_forms(make_case):
    shaped = make_case("covariates-intercept-missing", "g")
    for form, names in (("marginal", set()), ("latent", {"active", "effects"})):
        model = ebmodel.pymc_model(shaped.X, shaped.Y, mean="hierarchical", form=form, covariates=shaped.C)
        assert {"tau1", "beta", "eta", "sigma2", "kappa", "Y", *names} <= set(model.named_vars)
        assert "alpha" not in model.named_vars
        assert model.named_vars_to_dims["beta"] == ("snp",)
        assert len(model.coords["tissue"]) == 5
    assert "alpha" in ebmodel.pymc_model(shaped.X, shaped.Y, "power").named_vars


BAD = {
    "slab": ({"slab": "h"}, "expected 'g'"),
    "slab's power": ({"slab": np.nan}, "a finite power"),
    "mean": ({"mean": "zero"}, "expected 'free' or 'hierarchical', got 'zero', in mean"),
    "form": ({"form": "marginalised"}, "expected 'marginal' or 'latent', got 'marginalised', in form"),
    "priors": ({"priors": "strong"}, "ebmodel.bayes.Priors, got 'strong', in priors"),
    "matrix": ({"slab": -np.eye(3)}, "positive definite"),
    "shape": ({"slab": np.eye(2)}, "symmetric 3 x 3"),
}


@pytest.mark.parametrize(("options", "words"), BAD.values(), ids=BAD)
def test_choices_that_do_not_exist(options, words):
    X, Y, _ = gene(1, p=3)
    for call in (ebmodel.pymc_model, lambda *a, **k: ebmodel.sample(*a, **k, draws=2, tune=2, progress=False)):
        with pytest.raises(InputError, match=r"expected .*, got .*, in .*; do ") as caught:
            call(X, Y, **options)
        assert words in str(caught.value)


def spoil(name):
    X, Y, _ = gene(1, p=3)
    if name == "missing genotype":
        X[2, 1] = np.nan
    elif name == "infinite response":
        Y[2, 1] = np.inf
    elif name == "no response":
        Y[:] = np.nan
    elif name == "constant SNP":
        X[:, 1] = 0.0
    elif name == "rows":
        X = X[:-1]
    elif name == "covariate":
        return X, Y, {"covariates": X[:, :1]}
    elif name == "one tissue":
        return X, Y[:, :1], {}
    elif name == "wide":
        return np.random.default_rng(0).standard_normal((20, 30)), Y, {}
    return X, Y, {}


@pytest.mark.parametrize(
    "name", ["missing genotype", "infinite response", "no response", "constant SNP", "rows", "covariate"]
)
def test_data_that_fit_refuses_are_refused_in_the_same_words(name):
    X, Y, options = spoil(name)
    messages = []
    for call in (ebmodel.fit, ebmodel.pymc_model):
        with pytest.raises(InputError) as caught:
            call(X, Y, **options)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


@pytest.mark.parametrize("name", ["one tissue", "wide"])
def test_data_without_a_maximum_still_have_a_posterior(name):
    """`fit` refuses where the likelihood has no maximum; under proper priors the log posterior is finite there."""
    X, Y, options = spoil(name)
    with pytest.raises(InputError):
        ebmodel.fit(X, Y, **options)
    compiled = Compiled(ebmodel.pymc_model(X, Y, **options))
    value, gradient, _, _ = compiled(np.zeros(compiled.size))
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()
