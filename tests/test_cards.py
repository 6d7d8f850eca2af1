"""What notebooks show of a fit."""

from __future__ import annotations

from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

import ebmodel
from ebmodel import mash


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
    assert f"12 tissues, 4 SNPs, 50 samples; log-likelihood {fit.loglik:.3f}" in text
    assert f"(tau1) {fit.params.tau1:.3g}" in text
    assert fit.status in text
    assert "the first 10 of 12" in text
    best = fit.posterior_probability.to_series().idxmax()
    assert f"{best} {float(fit.posterior_probability.max()):.4f}" in text
    assert "kappa" not in text.split("Tissues")[0]


def test_names_are_escaped(gene):
    Y = gene.Y.to_pandas().set_axis([f"<b>{t}</b> & co" for t in range(12)], axis=1)
    html = ebmodel.fit(gene.X, Y, n_starts=2)._repr_html_()
    assert "<b>0" not in html
    assert "&lt;b&gt;0&lt;/b&gt; &amp; co" in html


def test_mash_shows_weights_and_counts_of_known_signs():
    rng = np.random.default_rng(0)
    b = np.where(rng.random((400, 1)) < 0.3, 3.0 * rng.standard_normal((400, 1)), 0.0) * np.array([1.0, 1.0, 0.0])
    bhat = pd.DataFrame(b + rng.standard_normal((400, 3)), columns=["liver", "lung", "skin"])
    fit = mash.fit(bhat, 1.0, covariances="canonical")
    text = read(fit._repr_html_())
    assert "400 effects, 3 conditions" in text
    assert f"null {fit.null_weight:.3f}" in text
    for name, count in (fit.lfsr < 0.05).sum("effect").to_series().items():
        assert f"{name} {count}" in text
    light = mash.fit(bhat, 1.0, covariances="canonical", posterior=False)
    assert "lfsr" not in read(light._repr_html_()).split("dataset")[0]
