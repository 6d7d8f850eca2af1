"""What notebooks show of a fit."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import ebmodel
from ebmodel import Params, mash
from ebmodel.reports.cards import STYLE
from ebmodel.selection import Selection


class Balanced(HTMLParser):
    """Fails where tags do not close in order."""

    void = frozenset({"br", "hr", "img", "input", "link", "meta", "path", "use", "rect", "line"})

    def __init__(self):
        super().__init__()
        self.open, self.text = [], []

    def handle_starttag(self, tag, attrs):
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.void:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def read(html: str) -> str:
    parser = Balanced()
    parser.feed(html)
    assert not parser.open
    return " ".join(" ".join(parser.text).split())


@pytest.fixture(scope="module")
def gene():
    return ebmodel.simulate.setting(3, rho=0.4, signal=2, sigma=4, m=12, p=4, seed=7)


def test_a_fit_shows_its_parameters_and_the_most_probable_tissues(gene):
    fit = ebmodel.fit(gene.X, gene.Y, n_starts=2)
    text = read(fit._repr_html_())
    assert f"12 tissues, 4 SNPs, 50 samples log-likelihood {fit.loglik:.3f}" in text
    assert f"(tau1) {fit.params.tau1:.3g}" in text
    assert fit.status in text
    assert "the first 10 of 12" in text
    best = fit.posterior_probability.to_series().idxmax()
    one = fit.dataset.sel(tissue=best)
    norm = float((one.effects**2).sum()) ** 0.5
    cells = f"{one.posterior_probability.item():.4f} {one.log_bayes_factor.item():.3g} {norm:.3g}"
    assert f"{best} {one.n.item()} {cells} {one.lfsr.min().item():.2g}" in text
    assert "kappa" not in text.split("Tissues")[0]


@pytest.fixture(scope="module")
def chosen(gene):
    return ebmodel.select(gene.X, gene.Y, slabs=("g", "independent"), n_starts=2)


@pytest.mark.parametrize("name", ["<b>{}</b> & co", "a\"{}\" onclick='x'", "</td></table><script>{}</script>", "{}]]>"])
def test_names_are_escaped(gene, name):
    names = [name.format(t) for t in range(12)]
    Y = gene.Y.to_pandas().set_axis(names, axis=1)
    html = ebmodel.fit(gene.X, Y, n_starts=2)._repr_html_()
    shown = read(html.split("<details>")[0] + "</div>")
    assert sum(name in shown for name in names) == 10
    assert "<script" not in html
    for part in ("<b>", 'a"', "onclick='"):
        assert part not in html.split("</style>")[1].split("<details>")[0]


def test_colours_are_those_of_the_page(gene, chosen):
    """A dark theme stays dark: only xarray's part has colours, which follow the theme."""
    for one in (ebmodel.fit(gene.X, gene.Y, n_starts=2), chosen):
        own = one._repr_html_().split("<details>")[0]
        assert own.startswith('<div class="ebmodel-card">')
        assert not re.search(r"#[0-9a-fA-F]{3,6}\b|rgba?\(|background|(?<!-)color: (?!inherit)", own)
        assert all(rule.startswith(".ebmodel-card ") for rule in re.findall(r"^\S.*", STYLE, re.MULTILINE))
        assert len(own) < 6000


def test_a_selection_shows_its_candidates_and_the_best_fit(chosen):
    text = read(chosen._repr_html_())
    first = chosen.table.isel(candidate=0)
    assert "6 candidates" in text
    assert (
        f"{first.slab.item()} {first['mean'].item()} {first.log_evidence.item():.2f} {first.weight.item():.3f}" in text
    )
    assert f"log-likelihood {chosen.fit.loglik:.3f}" in text
    caution = "errors are correlated"
    warned = Selection(chosen.table.assign_attrs(caution=caution), chosen.fit)
    assert caution in read(warned._repr_html_())
    assert caution in repr(warned)
    table, fit = chosen
    assert (table, fit) == (chosen.table, chosen.fit)  # a pair still


def test_texts_are_a_few_lines(gene, chosen):
    fit = ebmodel.fit(gene.X, gene.Y, mean="hierarchical", n_starts=2)
    lines = repr(fit).splitlines()
    assert lines[0] == f"<ebmodel.Fit: 12 tissues, 4 SNPs, 50 samples; {fit.status}"
    assert f"kappa {fit.params.kappa:.3g}; loglik {fit.loglik:.3f}" in lines[1]
    P = fit.posterior_probability.to_series().sort_values(ascending=False)
    assert lines[2].startswith(f"  P(I=1) > 0.5 in {(P > 0.5).sum()} tissues: {P.index[0]}, {P.index[1]}")
    assert len(lines) == 3
    assert len(repr(chosen).splitlines()) <= 8
    for text in (repr(fit), repr(chosen)):
        assert max(map(len, text.splitlines())) <= 120


def test_parameters_are_one_line():
    known = {"tau1": 0.5, "eta": 1 / 3, "sigma2": 2}
    assert repr(Params(beta=[1.0, 2.0], **known)) == "Params(tau1=0.5, beta=[1, 2], eta=0.333333, sigma2=2, slab='g')"
    labelled = xr.DataArray(np.arange(9.0), dims="snp", coords={"snp": [f"rs{j}" for j in range(9)]})
    text = repr(Params(beta=labelled, slab=np.eye(9), kappa=0.0, relative_variance=[1.0, 2.0], **known))
    assert text == (
        "Params(tau1=0.5, beta=[0, 1, 2, 3, 4, 5, ... 9 in all], eta=0.333333, sigma2=2, slab=<9 x 9 matrix>, "
        "kappa=0, relative_variance=[1, 2])"
    )


def test_mash_shows_weights_and_counts_of_known_signs():
    rng = np.random.default_rng(0)
    b = np.where(rng.random((400, 1)) < 0.3, 3.0 * rng.standard_normal((400, 1)), 0.0) * np.array([1.0, 1.0, 0.0])
    bhat = pd.DataFrame(b + rng.standard_normal((400, 3)), columns=["liver", "lung", "skin"])
    fit = mash.fit(bhat, 1.0, covariances="canonical")
    text = read(fit._repr_html_())
    assert "400 effects, 3 conditions" in text
    assert (
        repr(fit).splitlines()[1] == f"  null weight {fit.null_weight:.3f}, loglik {fit.loglik:.3f}, gap {fit.gap:.1e}"
    )
    assert max(map(len, repr(fit).splitlines())) <= 102
    assert f"null {fit.null_weight:.3f}" in text
    for name, count in (fit.lfsr < 0.05).sum("effect").to_series().items():
        assert f"{name} {count}" in text
    light = mash.fit(bhat, 1.0, covariances="canonical", posterior=False)
    assert "lfsr" not in read(light._repr_html_()).split("dataset")[0]
