"""Figures of the studies are in the package's style and read in grey, drawn from what is stored."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import matplotlib as mpl
import pytest
from matplotlib.figure import Figure

from ebmodel.plot import style
from simulations import agreement, prediction
from simulations.__main__ import AUDIT, MODULES, find
from simulations.report import audit
from simulations.study import RESULTS, Study
from tests import plotting

MARK = "#123456"
"""A colour that nothing else has."""


@cache
def studies() -> dict[str, Study]:
    return {name: find(name) for name in MODULES}


@cache
def found() -> Any:
    """Ours beside the published values."""
    return audit({name: studies()[name] for name in AUDIT}).found


DRAWN: dict[str, Callable[[], Figure]] = {
    **{name: lambda study=study: study.figure(study.read()) for name, study in studies().items() if study.figure},
    "settings_mse": lambda: agreement.figure(found(), ("mse_ols", "mse_eb"), "MSE"),
    "settings_auc": lambda: agreement.figure(found(), ("auc",), "AUC"),
    "prediction": lambda: prediction.figure(prediction.scores(RESULTS)),
}


def test_every_picture_beside_the_results_is_looked_at() -> None:
    assert sorted(DRAWN) == sorted(path.stem for path in RESULTS.glob("*.png"))


@pytest.mark.parametrize("name", DRAWN)
def test_a_study_s_figure_is_in_style_and_reads_in_grey(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for setting in ("axes.labelcolor", "xtick.labelcolor", "ytick.labelcolor"):
        monkeypatch.setitem(style.RC, setting, MARK)
    before = dict(mpl.rcParams)
    figure = DRAWN[name]()
    assert dict(mpl.rcParams) == before
    assert isinstance(figure, style.Drawing)
    assert plotting.unlabelled(figure) == []
    assert plotting.alike(figure) == []
    for ax in figure.axes:
        for axis in (ax.xaxis, ax.yaxis):
            assert axis.label.get_color() == MARK
            assert all(tick.get_color() == MARK for tick in axis.get_ticklabels())
