"""Figures of checks and residuals show the numbers of the fit and of its checks."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from matplotlib.colors import to_rgba
from scipy import stats

import ebmodel
from ebmodel import plot
from ebmodel.plot.checks import FURTHEST, VERDICTS, _normal_scores
from ebmodel.simulate import violated

PARAMS = ebmodel.Params(tau1=0.6, beta=[0.6, -0.4, 0.5], eta=8.0, sigma2=1.0)


def fitted(m: int = 8, **change: np.ndarray) -> ebmodel.Fit:
    gene = violated("block-errors", 0.6, PARAMS, n=60, m=m, missing=np.linspace(0.0, 0.5, m), seed=3)
    return ebmodel.fit(gene.X, change.get("Y", gene.Y), n_starts=4)


@pytest.fixture(scope="module")
def fit() -> ebmodel.Fit:
    return fitted()


@pytest.fixture(scope="module")
def found(fit: ebmodel.Fit) -> xr.Dataset:
    """Checks as computed, with one of every verdict."""
    made = ebmodel.check(fit, replicates=39, refit=False, progress=False)
    made["verdict"].loc[{"check": "linearity"}] = "fails"
    made["verdict"].loc[{"check": "exact-spike"}] = "doubtful"
    return made


def test_checks_stand_where_their_reference_puts_them(found: xr.Dataset) -> None:
    ax = plot.checks(found)
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert names == found.check.to_numpy().tolist()
    markers = {
        (line.get_marker(), line.get_ydata()[0]): line.get_xdata()[0] for line in ax.lines if len(line.get_xdata()) == 1
    }
    texts = [text.get_text() for text in ax.texts]
    for row, name in enumerate(names):
        one = found.sel(check=name)
        if np.isnan(one.observed):
            continue
        at = (one.observed - one.reference_median) / (one.reference_95 - one.reference_median)
        got = markers[VERDICTS[one.verdict.item()]["marker"], row]
        assert got == pytest.approx(float(np.clip(at, -1.6, FURTHEST)))
        assert f"p = {one.p_plugin.item():.3f}, plug-in" in texts or np.isfinite(one.p_value)
    assert texts.count("not checked") == np.isnan(found.observed).sum() == (found.verdict == "not checked").sum()
    legend = ax.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()][:3] == list(VERDICTS)


def test_verdicts_differ_in_shape() -> None:
    assert len({look["marker"] for look in VERDICTS.values()}) == len(VERDICTS)


def test_the_share_given_away_is_no_p_value() -> None:
    one = xr.Dataset(
        {
            "observed": ("check", [0.25]),
            "reference_median": ("check", [0.2]),
            "reference_95": ("check", [0.4]),
            "p_value": ("check", [0.3]),
            "p_plugin": ("check", [np.nan]),
            "verdict": ("check", ["doubtful"]),
            "reference": (("check", "replicate"), [[0.1, 0.2, 0.4]]),
        },
        {"check": ["enough-tissues"]},
    )
    ax = plot.checks(one)
    assert [text.get_text() for text in ax.texts] == ["25 % given away"]
    assert ax.lines[-1].get_xdata()[0] == pytest.approx(2.5)


def test_a_reference_that_does_not_vary_puts_what_exceeds_it_at_the_edge(found: xr.Dataset) -> None:
    flat = found.sel(check=["linearity"]).copy(deep=True)
    flat["reference"][:] = flat["reference_median"][:] = flat["reference_95"][:] = 0.0
    ax = plot.checks(flat)
    assert ax.lines[-1].get_xdata()[0] == FURTHEST
    assert "→" in [text.get_text() for text in ax.texts]


def test_residuals_of_normal_errors_have_normal_scores() -> None:
    """Exactly, with three degrees of freedom too: Kolmogorov-Smirnov's test, one residual of each of 300 data sets."""
    scores = []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        X, Y = rng.standard_normal((6, 3)), rng.standard_normal((6, 2))
        fit = ebmodel.oracle(X, Y, ebmodel.Params(tau1=0.5, beta=np.zeros(3), eta=1.0, sigma2=1.0))
        scores.append(_normal_scores(fit)[0][rng.integers(12)])
    assert stats.kstest(scores, "norm").pvalue > 0.01


def qq_points(fit: ebmodel.Fit) -> np.ndarray:
    (points,) = [line for line in plot.residuals_qq(fit).lines if line.get_marker() == "o"]
    return np.array(points.get_data(), dtype=float)


def test_qq_shows_every_residual_in_order_against_its_quantile(fit: ebmodel.Fit) -> None:
    expected, scores = qq_points(fit)
    size = int(fit.dataset.Y.count())
    assert len(scores) == size
    assert (np.diff(scores) >= 0.0).all()
    np.testing.assert_allclose(expected, stats.norm.ppf((np.arange(size) + 0.5) / size))


def test_qq_names_an_outlier(fit: ebmodel.Fit) -> None:
    assert len(plot.residuals_qq(fit).texts) == 0
    Y = fit.dataset.Y.copy()
    Y[7, 2] = Y.mean() + 15.0
    ax = plot.residuals_qq(fitted(Y=Y))
    assert [text.get_text() for text in ax.texts] == [f"{Y.sample[7].item()}, {Y.tissue[2].item()}"]


def test_correlations_are_those_of_residuals(fit: ebmodel.Fit) -> None:
    ax = plot.residual_correlation(fit)
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert names == [label.get_text() for label in ax.get_xticklabels()]
    assert sorted(names) == sorted(fit.dataset.tissue.to_numpy())
    shown = pd.DataFrame(ax.images[0].get_array().filled(np.nan), names, names)
    ds = fit.dataset
    E = {}
    for tissue in ("tissue1", "tissue4"):
        y = ds.Y.sel(tissue=tissue).to_numpy()
        seen = ~np.isnan(y)
        E[tissue] = np.full(len(y), np.nan)
        E[tissue][seen] = y[seen] - ds.X.to_numpy()[seen] @ np.linalg.lstsq(ds.X.to_numpy()[seen], y[seen])[0]
    both = np.isfinite(E["tissue1"]) & np.isfinite(E["tissue4"])
    s, t = E["tissue1"][both], E["tissue4"][both]
    want = s @ t / np.sqrt((s @ s) * (t @ t))
    assert shown.loc["tissue1", "tissue4"] == shown.loc["tissue4", "tissue1"] == pytest.approx(want)
    assert f"{want:.2f}".replace("0.", ".") in [text.get_text() for text in ax.texts]


def test_related_tissues_are_neighbours() -> None:
    ax = plot.residual_correlation(fitted(15))  # groups of five, errors correlated 0.6
    where = {label.get_text(): row for row, label in enumerate(ax.get_yticklabels())}
    group = [(int(name.removeprefix("tissue")) - 1) // 5 for name in sorted(where, key=where.__getitem__)]
    assert np.count_nonzero(np.diff(group)) == 2
    signs = {text.get_text() for text in ax.texts}
    assert "+" in signs
    assert signs <= {"+", "–"}


def test_variances_are_in_order_with_the_fit(fit: ebmodel.Fit) -> None:
    ax = plot.residual_variances(fit)
    points = ax.containers[0].lines[0].get_xydata()
    ds = fit.dataset
    want = {}
    for name in ds.tissue.to_numpy():
        y = ds.Y.sel(tissue=name).to_numpy()
        seen = ~np.isnan(y)
        rest = y[seen] - ds.X.to_numpy()[seen] @ np.linalg.lstsq(ds.X.to_numpy()[seen], y[seen])[0]
        want[name] = rest @ rest / (seen.sum() - 3)
    names = [label.get_text() for label in ax.get_yticklabels()]
    np.testing.assert_allclose(points[:, 0], [want[name] for name in names])
    assert (np.diff(points[:, 0]) >= 0.0).all()
    assert f"{fit.params.sigma2:.3g}" in ax.get_legend_handles_labels()[1][0]


def test_effects_stand_at_their_samples(fit: ebmodel.Fit) -> None:
    ax = plot.effects_by_size(fit)
    points = ax.collections[0]
    np.testing.assert_array_equal(points.get_offsets()[:, 0], fit.dataset.n)
    np.testing.assert_allclose(points.get_array(), fit.posterior_probability)


def test_figures_without_residuals_say_so() -> None:
    rng = np.random.default_rng(1)
    fit = ebmodel.fit(rng.standard_normal((6, 5)), rng.standard_normal((6, 3)), slab="independent", n_starts=2)
    bare = ebmodel.Fit(fit.dataset.isel(sample=slice(4)))  # as many samples as SNPs can use up
    for figure in (plot.residuals_qq, plot.residual_variances, plot.residual_correlation):
        assert "No " in figure(bare).texts[0].get_text()
    assert "No two tissues" in plot.residual_correlation(fit).texts[0].get_text()


def test_figures_use_the_axes_given(fit: ebmodel.Fit, found: xr.Dataset) -> None:
    for figure in (plot.residuals_qq, plot.residual_variances, plot.residual_correlation, plot.effects_by_size):
        ax = plot.checks(found)
        assert figure(fit, ax) is ax


def test_a_variance_of_every_tissue_is_shown() -> None:
    pytest.importorskip("ebmodel.heteroscedastic")
    rng = np.random.default_rng(4)
    fit = ebmodel.fit(rng.standard_normal((40, 2)), rng.standard_normal((40, 4)) * [1, 2, 3, 4], errors="unequal")
    ax = plot.residual_variances(fit)
    square = [line for line in ax.lines if line.get_marker() == "s"]
    assert len(square) == 1
    assert square[0].get_markeredgecolor() in ("#D55E00", to_rgba("#D55E00"))
