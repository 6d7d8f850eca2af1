"""The report: one valid page that needs nothing else, with the numbers of the fit, its checks and its draws."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import ebmodel
from ebmodel import InputError
from ebmodel.reports import report
from ebmodel.reports.markup import SIGNS
from ebmodel.simulate import violated

VOID = {"meta", "img"}
PARAMS = ebmodel.Params(tau1=0.6, beta=[0.6, -0.4, 0.5], eta=8.0, sigma2=1.0)


class Page(HTMLParser):
    """What a page holds; fails on tags that are not closed in order."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.source = path.read_text(encoding="utf-8")
        assert self.source.startswith("<!DOCTYPE html>\n<html lang=")
        self.feed(self.source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {key: value or "" for key, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data if "style" not in self.open else ""

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attrs for name, attrs in self.tags if name == tag]


def read(path: Path) -> Page:
    """The page, once it is known to be whole, accessible and to need nothing from outside."""
    page = Page(path)
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in page.tags}
    assert not [attrs for _, attrs in page.tags if {"href", "srcset"} & attrs.keys()]
    assert not re.search(r"url\(|@import|https?://", page.source)
    for image in page.all("img"):
        kind, _, data = image["src"].partition(",")
        assert kind == "data:image/png;base64"
        assert base64.b64decode(data, validate=True).startswith(b"\x89PNG")
        assert len(image["alt"]) > 20
    assert all(head["scope"] in ("col", "row") for head in page.all("th"))
    assert len(page.all("table")) == len(page.all("caption")) > 0
    assert len(page.source) < 3e6
    assert len(page.all("title")) == len(page.all("h1")) == 1
    assert not re.search(r"\bnan\b|\binf\b", page.text)
    return page


def images(page: Page) -> list[str]:
    return [image["alt"] for image in page.all("img")]


@pytest.fixture(scope="module")
def fit() -> ebmodel.Fit:
    gene = violated("block-errors", 0.6, PARAMS, n=60, m=8, missing=np.linspace(0.0, 0.5, 8), seed=3)
    return ebmodel.fit(gene.X, gene.Y, n_starts=4)


@pytest.fixture(scope="module")
def found(fit: ebmodel.Fit) -> xr.Dataset:
    return ebmodel.check(fit, replicates=19, progress=False)


@pytest.fixture(scope="module")
def tree(fit: ebmodel.Fit) -> xr.DataTree:
    """In place of draws by NUTS, which take long: parameters refitted to drawn data."""
    drawn = ebmodel.bootstrap(fit, replicates=12, draws=10, n_starts=2, progress=False)
    posterior = drawn["posterior"].to_dataset()
    drawn["posterior"] = xr.DataTree(posterior.assign(eta=posterior["eta"].clip(0.1)))  # draws by NUTS are never 0
    drawn.attrs = {"slab": "g", "mean": "free", "form": "marginal", "priors": "weak", "seed": 5, "verdict": "Sound."}
    return drawn


def quick(fit: ebmodel.Fit) -> xr.Dataset:
    return ebmodel.check(fit, replicates=19, refit=False, progress=False)


def test_a_fit_alone(fit: ebmodel.Fit, tmp_path: Path) -> None:
    assert report(fit, path=tmp_path / "r.html") == [tmp_path / "r.html"]
    page = read(tmp_path / "r.html")
    for text in (f"{fit.params.tau1:.3g}", f"{fit.params.sigma2:.3g}", f"{fit.loglik:.3f}", fit.status):
        assert text in page.text
    for tissue, h in zip(fit.dataset.tissue, fit.posterior_probability, strict=True):
        cell = '<td class="number">'
        assert re.search(rf'<th scope="row">{tissue.item()}</th>{cell}\d+</td>{cell}{h:.3f}</td>', page.source)
    assert "Checks" not in page.text
    assert "How to read" not in page.text


def test_the_strongest_effects_come_first(fit: ebmodel.Fit, tmp_path: Path) -> None:
    report(fit, path=tmp_path / "r.html")
    page = read(tmp_path / "r.html")
    best = fit.lfsr.to_series().idxmin()
    first = re.search(r"surest sign.*?<tbody>\s*<tr>(.*?)</tr>", page.source, re.DOTALL)
    assert first is not None
    cells = re.findall(r">([^<>]+)</t[hd]>", first.group(1))
    assert tuple(cells[:2]) == best
    interval = fit.effects_interval().sel(tissue=cells[0], snp=cells[1])
    assert cells[4] == f"{interval.lower.item():.3g} to {interval.upper.item():.3g}"


def test_checks_say_what_was_assumed_found_and_to_do(fit: ebmodel.Fit, found: xr.Dataset, tmp_path: Path) -> None:
    report(fit, found, path=tmp_path / "r.html")
    page = read(tmp_path / "r.html")
    for k in range(found.sizes["check"]):
        one = found.isel(check=k)
        for key in ("assumption", "meaning", "statistic", "remedy"):
            assert one[key].item() in page.text
        kind, sign = SIGNS[one.verdict.item()]
        row = re.search(
            rf'<th scope="row">{one.check.item()}</th><td><span class="verdict (\w+)">.*?</tr>', page.source
        )
        assert row is not None
        assert row.group(1) == kind
        assert sign in row.group(0)
        if np.isfinite(one.p_value):
            assert f'<td class="number">{one.p_value.item():.3f}</td>' in row.group(0)
    assert (found.verdict == "doubtful").any()
    tests = int(np.isfinite(found.p_plugin).sum())
    assert f"of {tests} tests of a model that holds, {0.05 * tests:.1g} fall below 0.05" in page.text
    assert "uniform" in page.text
    assert "19 data sets drawn from the fitted parameters, refitted; seed 0" in page.text
    assert any("Profile of the likelihood in alpha" in alt for alt in images(page))
    assert len(images(page)) == 8


def test_verdicts_differ_in_sign_and_word() -> None:
    assert len({sign for _, sign in SIGNS.values()}) == len(SIGNS) == 4


def test_plug_in_p_values_are_called_so(fit: ebmodel.Fit, tmp_path: Path) -> None:
    report(fit, quick(fit).sel(check=["normal-errors", "independent-errors"]), path=tmp_path / "r.html")
    page = read(tmp_path / "r.html")
    assert "were not fitted again" in page.text
    assert "uniform" not in page.text
    assert "not refitted" in page.text
    assert not any("alpha" in alt for alt in images(page))


def test_draws_bring_the_comparison(fit: ebmodel.Fit, found: xr.Dataset, tree: xr.DataTree, tmp_path: Path) -> None:
    made = found.sel(check=["linearity", "missing-at-random"]).assign_attrs(at="draws of the posterior")
    report(fit, made, tree, path=tmp_path / "r.html")
    page = read(tmp_path / "r.html")
    comparison = ebmodel.compare(fit, tree)
    assert comparison.attrs["findings"] in page.text
    assert f"{comparison['mean'].sel(quantity='tau1').item():.4g}" in page.text
    assert "drawn from draws of the posterior" in page.text
    assert "posterior predictive p-values" in page.text
    assert "Full posterior" in page.text
    assert "form marginal, priors weak, seed 5" in page.text
    assert sum("posterior" in alt for alt in images(page)) >= 2
    report(fit, comparison=comparison, path=tmp_path / "s.html")
    assert comparison.attrs["findings"] in read(tmp_path / "s.html").text


def test_names_are_escaped(tmp_path: Path) -> None:
    odd = ['<script>alert("1")</script>', "a & b", 'it\'s $x_2$ "q"', "\\frac{", "tissue"]
    rng = np.random.default_rng(2)
    X = pd.DataFrame(rng.standard_normal((30, 2)), columns=["rs<1>", 'rs"2&'])
    effects = rng.normal(1.0, 0.5, (2, 5))
    Y = pd.DataFrame(X.to_numpy() @ effects + rng.standard_normal((30, 5)), columns=odd)
    Y.iloc[:10, 4] = np.nan
    fit = ebmodel.fit(X, Y, n_starts=4)
    report(fit, quick(fit), path=tmp_path / "r.html", title="<b>fit</b> & more")
    page = read(tmp_path / "r.html")
    for name in (*odd, *X.columns, "<b>fit</b> & more"):
        assert name in page.text
    assert not {"b", "script"} & {tag for tag, _ in page.tags}


def test_the_same_parts_and_date_give_the_same_bytes(fit: ebmodel.Fit, tmp_path: Path) -> None:
    for name in ("a", "b"):
        report(fit, path=tmp_path / f"{name}.html", date="1 May 2025")
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
    assert "1 May 2025" in read(tmp_path / "a.html").text


def test_figures_go_to_a_folder_too(fit: ebmodel.Fit, tmp_path: Path) -> None:
    files = report(fit, path=tmp_path / "r.html", figures=tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in files}
    embedded = [base64.b64decode(image["src"].partition(",")[2]) for image in read(tmp_path / "r.html").all("img")]
    assert sorted(embedded) == sorted(path.read_bytes() for path in files[:-1])


def eta_is_zero() -> ebmodel.Fit:
    rng = np.random.default_rng(3)
    X = rng.standard_normal((40, 2))
    shared = X @ [[2.0], [-1.0]] @ [[1.0, 1.0, 1.0, 0.0, 0.0]]
    fit = ebmodel.fit(X, shared + rng.standard_normal((40, 5)), n_starts=4)
    assert fit.params.eta == 0.0
    return fit


def nothing_active() -> ebmodel.Fit:
    rng = np.random.default_rng(4)
    X, Y = rng.standard_normal((40, 2)), rng.standard_normal((40, 5))
    return ebmodel.oracle(X, Y, ebmodel.Params(tau1=0.0, beta=np.zeros(2), eta=1.0, sigma2=1.0))


def a_tissue_without_data() -> ebmodel.Fit:
    gene = violated("heavy-tails", 0.3, PARAMS, n=40, m=5, seed=5)
    Y = gene.Y.copy()
    Y[:, 2] = np.nan
    return ebmodel.fit(gene.X, Y, n_starts=4)


def covariates() -> ebmodel.Fit:
    gene = violated("heavy-tails", 0.3, PARAMS, n=40, m=5, missing=0.2, seed=6)
    C = pd.DataFrame({"<age>": np.linspace(20, 70, 40)}, gene.sample.to_numpy())
    return ebmodel.fit(gene.X, gene.Y, covariates=C, intercept=True, n_starts=4)


def a_latent_mean() -> ebmodel.Fit:
    gene = violated("heavy-tails", 0.3, PARAMS, n=40, m=6, missing=0.2, seed=7)
    return ebmodel.fit(gene.X, gene.Y, slab=0.0, mean="hierarchical", n_starts=4)


def a_matrix() -> ebmodel.Fit:
    gene = violated("heavy-tails", 0.3, PARAMS, n=40, m=6, seed=8)
    return ebmodel.fit(gene.X, gene.Y, slab=np.diag([1.0, 2.0, 3.0]), mean="zero", n_starts=4)


def no_residuals() -> ebmodel.Fit:
    rng = np.random.default_rng(9)
    X, Y = rng.standard_normal((6, 6)), rng.standard_normal((6, 4))
    return ebmodel.oracle(X, Y, ebmodel.Params(tau1=0.5, beta=np.zeros(6), eta=1.0, sigma2=1.0, slab="independent"))


CASES = [eta_is_zero, nothing_active, a_tissue_without_data, covariates, a_latent_mean, a_matrix, no_residuals]


@pytest.mark.parametrize("make", CASES)
def test_odd_fits_have_a_page(make, tmp_path: Path) -> None:
    fit = make()
    report(fit, quick(fit), path=tmp_path / "r.html")
    page = read(tmp_path / "r.html")
    says = {
        eta_is_zero: "active tissues share one effect",
        nothing_active: "No tissue is more likely active than not.",
        a_tissue_without_data: "Tissues without data",
        covariates: "intercept, <age>",
        a_latent_mean: "scale of the prior N(0, κ Σ₀) of β",
        a_matrix: "a matrix that was given",
        no_residuals: "not checked",
    }
    assert says[make] in page.text


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"fit": "fit.nc"}, "expected a fit, got str, in report"),
        ({"checks": xr.Dataset({"a": 1})}, "expected the result of ebmodel.check"),
        ({"comparison": {}}, "expected the result of ebmodel.compare, got dict"),
        ({"path": "nowhere/r.html"}, "no folder"),
    ],
)
def test_what_cannot_be_reported_is_refused(
    fit: ebmodel.Fit, given: dict[str, object], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message):
        report(**{"fit": fit, **given})
    assert list(tmp_path.iterdir()) == []


def test_draws_of_other_data_are_refused(fit: ebmodel.Fit, tree: xr.DataTree, tmp_path: Path) -> None:
    other = ebmodel.fit(fit.dataset.X, fit.dataset.Y + 1.0, n_starts=2)
    with pytest.raises(InputError, match="fit and draws of the same data"):
        report(other, tree=tree, path=tmp_path / "r.html")
    assert list(tmp_path.iterdir()) == []
