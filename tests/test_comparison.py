"""EM and posterior side by side: exact quantiles, the numbers of ArviZ, names matched, and findings that are true."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import arviz as az
import numpy as np
import pytest
import xarray as xr
from scipy.optimize import brentq
from scipy.special import ndtri
from scipy.stats import norm

import ebmodel
from ebmodel import InputError
from ebmodel.bayes.findings import findings
from ebmodel.posterior import Posterior, draw

LEVEL = 0.9


def gene() -> xr.Dataset:
    return ebmodel.simulate.setting(1, rho=0.3, signal=2, sigma=4, m=8, p=3, seed=4)


@pytest.fixture(scope="module")
def fit() -> ebmodel.Fit:
    return ebmodel.fit(gene().X, gene().Y, n_starts=8)


@pytest.fixture(scope="module")
def tree() -> xr.DataTree:
    return ebmodel.sample(gene().X, gene().Y, draws=150, tune=200, chains=2, seed=2, predictive=5, progress=False)


@pytest.fixture(scope="module")
def compared(fit: ebmodel.Fit, tree: xr.DataTree) -> xr.Dataset:
    return ebmodel.compare(fit, tree, LEVEL)


# Quantiles of a slab and a spike -------------------------------------------------------------------------------------


def mixture(h: float, mu: float, s: float) -> Posterior:
    one = np.array([[mu]]), np.array([[s]])
    return Posterior(np.array([h]), np.array([0.0]), *one)


def by_inversion(q: float, h: float, mu: float, s: float) -> float:
    """The smallest x whose distribution function is at least q, by bisection."""

    def below(x: float) -> float:
        slab = norm.cdf(x, mu, s) if s > 0 else float(x >= mu)
        return float(h * slab + (1 - h) * (x >= 0) - q)

    low, high = min(mu, 0) - 40 * s - 1, max(mu, 0) + 40 * s + 1
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (low, middle) if below(middle) >= 0 else (middle, high)
    return high


@pytest.mark.parametrize("h", [0.0, 1e-3, 0.03, 0.3, 0.97, 1.0])
@pytest.mark.parametrize("mu", [-2.0, -0.1, 0.0, 0.1, 2.0])
@pytest.mark.parametrize("s", [0.0, 0.2, 3.0])
def test_quantiles_invert_the_distribution_function(h: float, mu: float, s: float) -> None:
    for q in (0.004, 0.025, 0.2, 0.5, 0.831, 0.975, 0.9996):
        assert mixture(h, mu, s).quantile(q).item() == pytest.approx(by_inversion(q, h, mu, s), abs=1e-9)


def test_quantiles_of_a_slab_alone_are_normal() -> None:
    lower, upper = mixture(1.0, 0.7, 0.4).interval(0.95)
    assert lower.item() == pytest.approx(0.7 + 0.4 * ndtri(0.025), rel=1e-12)
    assert upper.item() == pytest.approx(0.7 + 0.4 * ndtri(0.975), rel=1e-12)


def test_quantile_where_the_distribution_function_is_smooth() -> None:
    h, mu, s, q = 0.4, 1.0, 0.5, 0.9
    wanted = brentq(lambda x: h * norm.cdf(x, mu, s) + (1 - h) - q, 0.0, 5.0, xtol=1e-14)
    assert mixture(h, mu, s).quantile(q).item() == pytest.approx(wanted, rel=1e-12)


def test_intervals_hold_their_share_of_exact_draws(make_case: Any, rng: np.random.Generator) -> None:
    case, draws = make_case("missing", "g"), 20_000
    given = ebmodel.posterior.posterior(case.stats, case.whitening, case.params)
    fixed = given.probability, np.asarray(case.params.beta), case.params.eta, case.params.sigma2
    _, effects = draw(case.stats, case.whitening, *(np.broadcast_to(x, (draws, *np.shape(x))) for x in fixed), rng)
    for q in (0.05, 0.5, 0.9):
        x = given.quantile(q)
        error = 5 * np.sqrt(q * (1 - q) / draws)
        assert (np.mean(effects <= x, axis=0) >= q - error).all()
        assert (np.mean(effects < x, axis=0) <= q + error).all()


def test_intervals_of_a_fit_have_names(fit: ebmodel.Fit) -> None:
    interval = fit.effects_interval(LEVEL)
    assert interval["lower"].dims == ("tissue", "snp")
    assert bool((interval["lower"] <= interval["upper"]).all())
    xr.testing.assert_equal(interval["tissue"], fit.effects["tissue"])
    with pytest.raises(InputError, match="0 < level < 1"):
        fit.effects_interval(95)


# The comparison ------------------------------------------------------------------------------------------------------


def test_quantities_have_labels_kinds_and_names(compared: xr.Dataset) -> None:
    labels = compared["quantity"].to_numpy().tolist()
    assert labels[:6] == ["tau1", "eta", "sigma2", "beta[snp1]", "beta[snp2]", "beta[snp3]"]
    assert labels[6] == "P(I=1)[tissue1]"
    assert labels[-1] == "effect[tissue8, snp3]"
    assert len(labels) == 3 + 3 + 8 + 24
    one = compared.sel(quantity="effect[tissue2, snp3]")
    assert (one.kind.item(), one.tissue.item(), one.snp.item()) == ("effect", "tissue2", "snp3")
    one = compared.sel(quantity="tau1")
    assert (one.kind.item(), one.tissue.item(), one.snp.item()) == ("hyperparameter", "", "")
    assert compared.sel(quantity="beta[snp2]").kind == "mean effect"
    assert compared.attrs["level"] == LEVEL


def test_the_posteriors_numbers_are_those_of_the_draws(compared: xr.Dataset, tree: xr.DataTree) -> None:
    posterior = tree["posterior"].to_dataset()
    mcse = az.mcse(posterior)
    places = {
        "eta": ("eta", {}),
        "beta[snp2]": ("beta", {"snp": "snp2"}),
        "P(I=1)[tissue5]": ("probability", {"tissue": "tissue5"}),
        "effect[tissue3, snp1]": ("effects", {"tissue": "tissue3", "snp": "snp1"}),
    }
    for label, (name, place) in places.items():
        got, draws = compared.sel(quantity=label), posterior[name].sel(place)
        assert float(got["mean"]) == pytest.approx(float(draws.mean()), rel=1e-12)
        assert float(got["sd"]) == pytest.approx(float(draws.std(ddof=1)), rel=1e-9)
        assert float(got["lower"]) == pytest.approx(float(draws.quantile(0.05)), rel=1e-9, abs=1e-12)
        assert float(got["upper"]) == pytest.approx(float(draws.quantile(0.95)), rel=1e-9, abs=1e-12)
        assert float(got["mcse"]) == pytest.approx(float(mcse[name].sel(place)), rel=1e-9)
        assert float(got["difference"]) == pytest.approx(float((got["em"] - got["mean"]) / got["sd"]), rel=1e-12)


def test_the_ems_numbers_are_those_of_the_fit(compared: xr.Dataset, fit: ebmodel.Fit) -> None:
    at = {"tissue": "tissue3", "snp": "snp1"}
    effect = compared.sel(quantity="effect[tissue3, snp1]")
    assert compared["em"].sel(quantity="eta") == fit.params.eta
    assert compared["em"].sel(quantity="beta[snp2]") == fit.params.beta.sel(snp="snp2")
    assert compared["em"].sel(quantity="P(I=1)[tissue5]") == fit.posterior_probability.sel(tissue="tissue5")
    assert effect["em"] == fit.effects.sel(at)
    assert effect["em_sd"] == fit.effects_sd.sel(at)
    assert effect["em_lower"] == fit.effects_interval(LEVEL)["lower"].sel(at)
    assert effect["em_upper"] == fit.effects_interval(LEVEL)["upper"].sel(at)
    others = compared.where(compared["kind"] != "effect", drop=True)
    for name in ("em_sd", "em_lower", "em_upper", "left_out"):
        assert np.isnan(others[name]).all()


def test_variance_left_out_is_none_where_hyperparameters_are_known(fit: ebmodel.Fit, tree: xr.DataTree) -> None:
    sure = tree.copy(deep=True)
    theta, posterior = fit.params, tree["posterior"].to_dataset()
    known = {name: xr.full_like(posterior[name], getattr(theta, name)) for name in ("tau1", "eta", "sigma2")}
    known["beta"] = xr.zeros_like(posterior["beta"]) + theta.beta
    known["probability"] = xr.zeros_like(posterior["probability"]) + fit.posterior_probability
    sure["posterior"] = xr.DataTree(posterior.assign(known))
    result = ebmodel.compare(fit, sure)
    assert float(result["left_out"].max()) < 1e-12
    assert float(result["sd"].sel(quantity="eta")) == 0.0
    assert float(result["mcse"].sel(quantity="eta")) == 0.0
    assert np.isnan(float(result["difference"].sel(quantity="eta")))
    assert float(ebmodel.compare(fit, tree)["left_out"].max()) > 0.05


def test_without_probabilities_the_draws_of_i_are_taken(fit: ebmodel.Fit, tree: xr.DataTree) -> None:
    other = tree.copy(deep=True)
    other["posterior"] = xr.DataTree(tree["posterior"].to_dataset().drop_vars("probability"))
    got = ebmodel.compare(fit, other).sel(quantity="P(I=1)[tissue4]")
    assert float(got["mean"]) == float(tree["posterior"]["active"].sel(tissue="tissue4").mean())


def test_order_does_not_matter(fit: ebmodel.Fit, tree: xr.DataTree, compared: xr.Dataset) -> None:
    shuffled = tree.copy(deep=True)
    orders = {"tissue": slice(None, None, -1), "snp": [2, 0, 1], "sample": slice(None, None, -1)}
    for name in ("posterior", "observed_data", "constant_data"):
        dataset = tree[name].to_dataset()
        shuffled[name] = xr.DataTree(dataset.isel({d: o for d, o in orders.items() if d in dataset.dims}))
    xr.testing.assert_allclose(ebmodel.compare(fit, shuffled, LEVEL), compared)


def test_a_learned_power_is_a_hyperparameter(fit: ebmodel.Fit, tree: xr.DataTree) -> None:
    learned = tree.copy(deep=True)
    posterior = tree["posterior"].to_dataset()
    learned["posterior"] = xr.DataTree(posterior.assign(alpha=0.1 * posterior["tau1"]))
    learned.attrs["slab"] = "power"
    at_power = ebmodel.fit(gene().X, gene().Y, slab=0.25, n_starts=8)
    got = ebmodel.compare(at_power, learned).sel(quantity="alpha")
    assert (float(got["em"]), got["kind"].item()) == (0.25, "hyperparameter")
    assert float(got["mean"]) == pytest.approx(0.1 * float(posterior["tau1"].mean()))
    with pytest.raises(InputError, match=r"the same slab, got 'g' and 'power'"):
        ebmodel.compare(fit, learned)


# What is refused -----------------------------------------------------------------------------------------------------


def changed(name: str, edit: Callable[[xr.Dataset], xr.Dataset]) -> Callable[[xr.DataTree], xr.DataTree]:
    def change(tree: xr.DataTree) -> xr.DataTree:
        other = tree.copy(deep=True)
        other[name] = xr.DataTree(edit(tree[name].to_dataset()))
        return other

    return change


def renamed(dim: str) -> Callable[[xr.DataTree], xr.DataTree]:
    def change(tree: xr.DataTree) -> xr.DataTree:
        def edit(dataset: xr.Dataset) -> xr.Dataset:
            if dim not in dataset.dims:
                return dataset
            return dataset.assign_coords({dim: ["new", *dataset[dim].to_numpy()[1:]]})

        return xr.DataTree.from_dict({name: edit(tree[name].to_dataset()) for name in tree.children})

    return change


def with_slab(slab: Any) -> Callable[[xr.DataTree], xr.DataTree]:
    def change(tree: xr.DataTree) -> xr.DataTree:
        other = tree.copy()
        other.attrs = tree.attrs | {"slab": slab}
        return other

    return change


REFUSED: dict[str, tuple[Callable[[xr.DataTree], xr.DataTree], str]] = {
    "tissues": (renamed("tissue"), r"same tissues, got 'tissue1' in the fit alone; 'new' in the draws alone"),
    "SNPs": (renamed("snp"), "same SNPs"),
    "samples": (renamed("sample"), "same samples"),
    "Y": (changed("observed_data", lambda ds: ds + 1.0), "values of Y that differ"),
    "missing Y": (changed("observed_data", lambda ds: ds.where(ds.tissue != "tissue2")), "values of Y that differ"),
    "X": (changed("constant_data", lambda ds: ds * 2.0), "150 of 150 values of X that differ"),
    "covariates": (
        changed(
            "constant_data",
            lambda ds: ds.assign(covariates=(("sample", "covariate"), np.ones((50, 1)))).assign_coords(
                covariate=["intercept"]
            ),
        ),
        "same covariates, got none and 'intercept'",
    ),
    "slab": (with_slab("independent"), "same slab, got 'g' and 'independent'"),
    "the paper's slab in other units": (with_slab(1.0), "same slab, got 'g' and 1.0"),
    "no draws": (lambda tree: xr.DataTree.from_dict({"fit": tree["posterior"].to_dataset()}), "draws from"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_belong_together_is_refused(fit: ebmodel.Fit, tree: xr.DataTree, case: str) -> None:
    change, words = REFUSED[case]
    with pytest.raises(InputError, match=words):
        ebmodel.compare(fit, change(tree))


def test_a_level_outside_0_and_1_is_refused(fit: ebmodel.Fit, tree: xr.DataTree) -> None:
    with pytest.raises(InputError, match="0 < level < 1, got 95"):
        ebmodel.compare(fit, tree, 95)


def test_a_power_of_0_is_the_independent_slab(tree: xr.DataTree) -> None:
    independent = ebmodel.fit(gene().X, gene().Y, slab="independent", n_starts=8)
    assert "findings" in ebmodel.compare(independent, with_slab(0.0)(tree)).attrs


# Findings ------------------------------------------------------------------------------------------------------------


def situation(
    em: list[float], full: list[float], widths: Any = (1.0, 1.0), verdict: str = "Sound: yes.", **hyper: Any
) -> xr.Dataset:
    """Tissues with P(I=1) ``em`` and ``full``, one effect of 2 each, with widths of EM and posterior."""
    m = len(em)
    em_width, width = (np.broadcast_to(w, m) for w in widths)
    values = {"tau1": (0.5, 0.3, 0.7), "eta": (1.0, 0.5, 2.0), "sigma2": (1.0, 0.9, 1.1)} | hyper
    theta = np.array(list(values.values()))
    nan, zero = np.full(3 + m, np.nan), np.zeros(3 + m)
    names = [f"t{k}" for k in range(m)]

    def column(first: Any, second: Any, third: Any) -> Any:
        return "quantity", np.concatenate([first, np.broadcast_to(second, m), np.broadcast_to(third, m)]).astype(float)

    variables = {
        "em": column(theta[:, 0], em, 2.0),
        "mean": column(theta[:, 1:].mean(axis=1), full, 2.0),
        "sd": column(np.ones(3), 0.1, width / 4),
        "lower": column(theta[:, 1], 0.0, 2.0 - width / 2),
        "upper": column(theta[:, 2], 1.0, 2.0 + width / 2),
        "mcse": column(np.zeros(3), 0.01, 0.01),
        "difference": column(np.zeros(3), 0.0, 0.0),
        "em_sd": ("quantity", np.concatenate([nan, em_width / 4])),
        "em_lower": ("quantity", np.concatenate([nan, 2.0 - em_width / 2])),
        "em_upper": ("quantity", np.concatenate([nan, 2.0 + em_width / 2])),
        "left_out": ("quantity", np.concatenate([zero, np.zeros(m)])),
    }
    coords = {
        "quantity": [*values, *(f"P(I=1)[{name}]" for name in names), *(f"effect[{name}, rs1]" for name in names)],
        "kind": ("quantity", ["hyperparameter"] * 3 + ["probability"] * m + ["effect"] * m),
        "tissue": ("quantity", ["", "", "", *names, *names]),
        "snp": ("quantity", [""] * (3 + m) + ["rs1"] * m),
    }
    return xr.Dataset(variables, coords, {"level": 0.95, "verdict": verdict})


def test_findings_of_agreement() -> None:
    text = findings(situation([1.0, 0.0, 0.52], [1.0, 0.01, 0.5]))
    assert text == (
        "P(I=1) of EM and posterior agree to within 0.02 in all 3 tissues. The EM's tau1, eta and sigma2 lie inside "
        "their 95 % posterior intervals. The EM's 95 % intervals of effects are, taken together, as wide as the "
        "posterior's."
    )


def test_findings_count_tissues_and_name_the_worst() -> None:
    text = findings(situation([1.0, 0.95, 0.9, 0.3], [1.0, 0.6, 0.7, 0.31]))
    assert "P(I=1) differs by more than 0.1 in 2 of 4 tissues, the most in t1, 0.95 by EM and 0.60" in text
    assert "EM is the more confident, nearer 0 or 1, in both." in text
    assert "EM expects 3.1 active tissues, the posterior 2.6." in text
    text = findings(situation([0.6, 0.95, 0.5], [0.9, 0.6, 0.51]))
    assert "more confident, nearer 0 or 1, in 1 of them and the less in 1." in text
    assert "active tissues, the" not in text
    assert "EM is the less confident, nearer 0 or 1, there." in findings(situation([0.6, 0.5], [0.9, 0.5]))


def test_findings_suspect_monte_carlo_error() -> None:
    noisy = situation([0.9, 0.2], [0.6, 0.05])
    assert "Monte-Carlo" not in findings(noisy)
    noisy["mcse"].loc[{"quantity": "P(I=1)[t1]"}] = 0.06
    assert "In 1 of 2 of these Monte-Carlo error may be the cause." in findings(noisy)


def test_findings_warn_first_of_unsound_draws() -> None:
    text = findings(situation([1.0], [1.0], verdict="Not sound. 3 transitions diverged."))
    assert text.startswith("The draws are not to be trusted as they are, nor is what follows. Not sound. 3 transitions")


def test_findings_on_hyperparameters_outside_and_on_the_boundary() -> None:
    text = findings(situation([1.0], [1.0], eta=(0.0, 0.2, 3.0), tau1=(0.99, 0.3, 0.9)))
    assert "tau1 (0.99) lies above its interval, 0.3 to 0.9" in text
    assert "eta (0, on the boundary) lies below its interval, 0.2 to 3" in text
    assert "sigma2 lies inside its own." in text


def test_findings_say_where_intervals_are_narrower_and_why() -> None:
    h = [1.0, 1.0, 0.6, 0.4]
    narrow = situation(h, h, ([1.0, 1.0, 0.5, 0.5], 1.0), eta=(0.0, 0.2, 3.0))
    text = findings(narrow)
    assert "taken together, 25 % narrower than the posterior's." in text
    assert (
        "100 % of the difference is in the 2 tissues that the posterior leaves undecided (0.05 < P(I=1) < 0.95), "
        "where they are 50 % narrower." in text
    )
    assert "its eta is 0" in text
    assert "leaves out" not in text
    narrow["left_out"].loc[{"quantity": narrow["kind"] == "effect"}] = 0.4
    assert "it leaves out the uncertainty of the hyperparameters, 40 % of the effects' posterior variance" in findings(
        narrow
    )


def test_findings_say_where_intervals_are_wider() -> None:
    h = [1.0, 1.0, 0.6, 0.4]
    text = findings(situation(h, h, ([2.0, 2.0, 1.0, 1.0], 1.0), eta=(5.0, 0.2, 3.0)))
    assert "50 % wider than the posterior's. 100 % of the difference is in the decided tissues" in text
    assert "its eta is larger than the data require" in text
    assert "narrower" not in text


def test_findings_see_differences_that_cancel() -> None:
    h = [1.0, 1.0, 0.6, 0.4]
    text = findings(situation(h, h, ([1.2, 1.2, 0.8, 0.8], 1.0)))
    assert "as wide as the posterior's." in text
    assert "They are 20 % narrower in the 2 tissues" in text
    assert "and 20 % wider in the others." in text


def test_findings_count_effects_apart_and_told_from_zero() -> None:
    some = situation([1.0] * 4, [1.0] * 4)
    assert "posterior sd" not in findings(some)
    some["difference"].loc[{"quantity": "effect[t2, rs1]"}] = -2.25
    some["lower"].loc[{"quantity": "effect[t3, rs1]"}] = -0.1
    text = findings(some)
    assert "1 of 4 effects differ by more than one posterior sd, the most rs1 in t2, by 2.2." in text
    assert "4 of the EM's intervals of effects leave out 0, and 3 of the posterior's." in text


def test_findings_of_real_draws_agree_with_the_numbers(compared: xr.Dataset) -> None:
    P = compared.isel(quantity=np.flatnonzero(compared["kind"] == "probability"))
    gap = np.abs(P["em"] - P["mean"])
    far, text = int((gap > 0.1).sum()), compared.attrs["findings"]
    assert (f"differs by more than 0.1 in {far} of 8" in text) == (0 < far < 8)
    assert ("agree to within" in text) == (far == 0)
    assert text.startswith("The draws are not") != compared.attrs["verdict"].startswith("Sound")


# Files ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["draws.nc", "draws.zarr"])
def test_draws_come_back_from_files(tmp_path: Path, fit: ebmodel.Fit, tree: xr.DataTree, name: str) -> None:
    odd = tree.copy(deep=True)
    stats = tree["sample_stats"].to_dataset()
    odd["sample_stats"] = xr.DataTree(stats.assign(warning=xr.full_like(stats["energy"], None, dtype=object)))
    for _ in range(2):  # the second replaces the first
        ebmodel.save_posterior(odd, tmp_path / name)
    assert list(tmp_path.iterdir()) == [tmp_path / name]
    back = ebmodel.open_posterior(tmp_path / name)
    assert "warning" not in back["sample_stats"]
    assert back.attrs["verdict"] == tree.attrs["verdict"]
    for group in ("posterior", "observed_data", "constant_data", "log_likelihood", "sample_stats", "prior"):
        xr.testing.assert_equal(back[group].to_dataset(), tree[group].to_dataset())
    xr.testing.assert_identical(ebmodel.compare(fit, back), ebmodel.compare(fit, tree))
    assert az.summary(back, var_names=["tau1", "eta"]).shape[0] == 2
    assert np.isfinite(loo(back)) and loo(back) == pytest.approx(loo(tree))  # noqa: PT018
    with xr.open_datatree(tmp_path / name, **({"consolidated": False} if name.endswith("zarr") else {})) as plain:
        assert set(plain.children) == set(tree.children)


def loo(tree: xr.DataTree) -> float:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of shapes above 0.7: there are few draws
        return float(az.loo(tree).elpd)


def test_what_are_no_draws_is_refused(tmp_path: Path, fit: ebmodel.Fit) -> None:
    (tmp_path / "text.nc").write_text("no NetCDF")
    (tmp_path / "folder.zarr").mkdir()
    fit.to_netcdf(tmp_path / "fit.nc")
    for name, words in [
        ("none.nc", "got no such file"),
        ("text.nc", "expected draws"),
        ("fit.nc", "got another file"),
        ("folder.zarr", "expected draws"),
    ]:
        with pytest.raises(InputError, match=words):
            ebmodel.open_posterior(tmp_path / name)


def test_another_matrix_as_slab_is_refused() -> None:
    """Only the matrix itself tells two matrix slabs apart."""
    data, Sigma0 = gene(), np.eye(3)
    fit = ebmodel.fit(data.X, data.Y, slab=Sigma0, n_starts=4)
    settings = {"draws": 20, "tune": 20, "chains": 2, "predictive": 1, "progress": False}
    tree = ebmodel.sample(data.X, data.Y, slab=Sigma0, **settings)
    assert ebmodel.compare(fit, tree).sizes["quantity"] > 0
    constant = tree["constant_data"].to_dataset()
    tree["constant_data"] = constant.assign(slab_matrix=2.0 * constant["slab_matrix"])
    with pytest.raises(InputError, match="of the slab that differ"):
        ebmodel.compare(fit, tree)
