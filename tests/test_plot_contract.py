"""What every public plotting function keeps to, so that a new one that does not fails."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import Collection
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D

from ebmodel import plot
from ebmodel.plot import style
from tests import plotting
from tests.test_plot_style import monotone

NAMES = sorted(plotting.public())
MARK = "#123456"
"""A colour that nothing else has."""


@pytest.fixture(autouse=True)
def no_window(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Neither pyplot nor its settings are touched, and nothing is shown."""

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a plotting function used pyplot")

    for name in ("show", "figure", "subplots", "subplot", "gcf", "gca", "sca", "draw", "close", "savefig", "ion"):
        monkeypatch.setattr(plt, name, refuse)
    monkeypatch.setattr(Figure, "show", refuse)
    before = dict(mpl.rcParams)
    yield
    assert dict(mpl.rcParams) == before
    assert plt.get_fignums() == []


def drawn(name: str, **where: Any) -> Any:
    """What a function draws of its data."""
    return plotting.public()[name](*plotting.data(name), **where)


def place(function: Callable[..., Any]) -> str:
    """The argument that says where to draw: one of ax, axes, figure, or none."""
    found = [name for name in inspect.signature(function).parameters if name in style.WHERE]
    assert len(found) < 2
    return found[0] if found else ""


def test_every_function_is_looked_at_and_reached_from_the_one_face() -> None:
    assert sorted(plotting.DATA) == NAMES
    for name, function in plotting.public().items():
        module, own = name.split(".")
        face = getattr(plot, module) if module in ("eqtl", "mash") else plot
        assert getattr(face, own) is function, name
        assert own in face.__all__, name


@pytest.mark.parametrize("name", NAMES)
def test_a_figure_of_its_own_is_in_style_and_reads_in_grey(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = plotting.data(name)  # other than the settings below know
    for setting in ("axes.labelcolor", "xtick.labelcolor", "ytick.labelcolor"):
        monkeypatch.setitem(style.RC, setting, MARK)
    got = plotting.public()[name](*data)
    figure = plotting.figure_of(got)
    where = place(plotting.public()[name])
    if where == "ax":
        assert isinstance(got, Axes)
    elif where:
        assert {type(ax).__name__ for ax in np.ravel(got)} == {"Axes"}
        assert isinstance(got, np.ndarray)
    else:
        assert isinstance(got, Figure)
    assert isinstance(figure, style.Drawing)  # also when it is drawn later, as here
    assert plotting.unlabelled(figure) == []
    for ax in figure.axes:
        for axis in (ax.xaxis, ax.yaxis):
            assert axis.label.get_color() == MARK
            assert all(tick.get_color() == MARK for tick in axis.get_ticklabels())
    assert plotting.alike(figure) == []
    for mapped in figure.findobj(lambda artist: isinstance(artist, AxesImage | Collection)):
        if mapped.get_array() is not None and np.ndim(mapped.get_array()) < 3:
            assert monotone(mapped.get_cmap().name), mapped


@pytest.mark.parametrize("name", [name for name in NAMES if place(plotting.public()[name])])
def test_it_draws_where_it_is_told_and_nowhere_else(name: str) -> None:
    where = place(plotting.public()[name])
    # a layout of one's own, in which a colour bar takes its room from the axes that are drawn on
    figure = Figure(figsize=(14, 7))
    if where == "figure":
        inner, other = figure.subfigures(1, 2)
        assert all(ax.figure is inner for ax in np.ravel(drawn(name, figure=inner)))
        assert not other.axes
        return
    axes = figure.subplots(1, 3)
    given = axes[0] if where == "ax" else axes[:2]
    others = axes[1:] if where == "ax" else axes[2:]
    before = [(ax.get_position().bounds, ax.get_xlim(), ax.get_ylim(), len(ax.get_children())) for ax in others]
    got = drawn(name, **{where: given})
    assert got is given if where == "ax" else list(got) == list(given)
    after = [(ax.get_position().bounds, ax.get_xlim(), ax.get_ylim(), len(ax.get_children())) for ax in others]
    assert after == before
    for ax in np.ravel(given):
        assert ax.has_data()
        assert ax.xaxis.label.get_color() == mpl.rcParams["axes.labelcolor"]  # the caller's style
    assert plt.get_fignums() == []


def sections(text: str) -> dict[str, str]:
    """The sections of a docstring in NumPy's style, and what comes before the first."""
    parts = re.split(r"^(\w+)\n-+\n", inspect.cleandoc(text) + "\n", flags=re.MULTILINE)
    return {"": parts[0], **dict(zip(parts[1::2], parts[2::2], strict=True))}


@pytest.mark.parametrize("name", NAMES)
def test_its_docstring_says_what_it_takes_and_gives_and_how_to_read_it(name: str) -> None:
    function = plotting.public()[name]
    found = sections(function.__doc__ or "")
    described = re.findall(r"^(\w.*?)(?: : .*)?$", found["Parameters"], re.MULTILINE)
    assert [one for names in described for one in names.split(", ")] == list(inspect.signature(function).parameters)
    returned = found["Returns"].split("\n")
    kind = {"ax": "Axes", "axes": "array of Axes", "figure": "array of Axes", "": "Figure"}[place(function)]
    assert returned[0].endswith(kind)
    if place(function) == "ax":
        assert returned[1].startswith("    ``ax``, or that of the new figure")
    summary, *reading = found[""].strip().split("\n\n")
    assert summary
    assert len(" ".join(reading).split()) >= 20, "how the figure is read"


# The checks can fail -------------------------------------------------------------------------------------------------


def test_what_a_grey_print_loses_is_found() -> None:
    ax = Figure().subplots()
    ax.plot([0, 1], color=style.BLUE, label="blue")
    ax.plot([0, 1], color=style.ORANGE, label="orange")
    ax.plot([0, 1], color=style.ORANGE, linestyle="--", label="dashed")
    ax.plot([0, 1], color=style.LINE, label="light")
    ax.scatter([0], [1], color=style.BLUE, label="dots")
    ax.scatter([0], [1], color=style.GREEN, label="green dots")
    ax.bar([0], [1], color=style.BLUE, label="bar")
    ax.bar([0], [1], color=style.ORANGE, hatch="//", label="hatched bar")
    ax.legend()
    assert plotting.alike(ax.figure) == [("blue", "orange"), ("dots", "green dots")]


def test_numbers_without_a_word_are_found() -> None:
    figure = Figure()
    left, right = figure.add_axes((0.1, 0.2, 0.3, 0.6)), figure.add_axes((0.6, 0.2, 0.3, 0.6))
    left.plot([0, 1])
    left.set_xlabel("x")
    right.set(xlabel="x", ylabel="y")
    right.loglog([1, 100], [1, 100])
    assert [text[:10] for text in plotting.unlabelled(figure)] == ["panel 0, y"]
    right.set_ylabel("")
    left.set_yticks([0, 1], ["none", "all"])
    assert [text[:10] for text in plotting.unlabelled(figure)] == ["panel 1, y"]
    figure.supylabel("y")
    assert plotting.unlabelled(figure) == []
    grid = Figure().subplots(2, 2)
    for ax in (*grid[:, 0], *grid[1]):
        ax.set(xlabel="x" if ax in grid[1] else "", ylabel="y" if ax in grid[:, 0] else "")
    assert plotting.unlabelled(grid[0, 0].figure) == []
    grid[0, 0].set_ylabel("")
    assert [text[:10] for text in plotting.unlabelled(grid[0, 0].figure)] == ["panel 0, y", "panel 1, y"]


def test_a_dash_is_told_from_another() -> None:
    dashed, other = Line2D([], [], linestyle="--"), Line2D([], [], linestyle=(0, (8, 3)))
    assert plotting.look(dashed).shape != plotting.look(other).shape
