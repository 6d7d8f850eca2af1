"""The look that all figures share: the style sheet, its colours by name, marks, units, and how a figure is made.

Colours are chosen in one place, ``style.mplstyle`` beside this module, whose cycle the names here are. Nothing is told
by colour alone: what differs in colour differs in mark, filling, dashes or hatching too, or is labelled.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from inspect import signature
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.layout_engine import LayoutEngine
from matplotlib.patches import Rectangle

__all__ = [
    "ACTIVE", "AMBER", "BAND", "BLACK", "BLUE", "CYCLE", "EFFECT_UNITS", "EM", "FROM_WHITE", "GREEN", "GREY",
    "INACTIVE", "INK", "LINE", "LOOKS", "MARKS", "ORANGE", "PINK", "RC", "REFERENCE", "SEQUENTIAL", "SHEET", "SKY",
    "Drawing", "above", "framed", "hatched", "new_axes", "new_figure", "outside", "styled", "written_on",
]  # fmt: skip

SHEET = Path(__file__).with_name("style.mplstyle")
RC: dict[Any, Any] = dict(mpl.rc_params_from_file(SHEET, fail_on_error=True, use_default_template=False))
"""What the sheet sets."""
CYCLE: list[dict[str, Any]] = list(RC["axes.prop_cycle"])
BLUE, ORANGE, BLACK, SKY, PINK, AMBER, GREEN = (str(entry["color"]) for entry in CYCLE)
INK, GREY, LINE, BAND = "0.25", "0.45", "0.75", "0.88"
"""Greys: of lines to compare with and words, of what is there for comparison, of thin lines and bars, of bands."""
SEQUENTIAL = str(RC["image.cmap"])
"""Colour map of shades: the darker the more."""
FROM_WHITE = "Oranges"
"""Colour map of how much is wrong, which begins at hardly anything; its lightness is monotone too."""

MARKS = ("o", "s", "^", "D", "v", "P", "X")
LOOKS: tuple[dict[str, Any], ...] = tuple(
    {**entry, "marker": mark, "markerfacecolor": "white" if k % 2 else entry["color"]}
    for k, (entry, mark) in enumerate(zip(CYCLE, MARKS, strict=True))
)
"""Of lines with marks, in turn: colour, dashes, mark and filling differ."""
REFERENCE: dict[str, Any] = {"color": INK, "linestyle": "--", "linewidth": 1, "zorder": 1}
"""Of the line to compare with: equality, calibration, a prior."""
ACTIVE: dict[str, Any] = {"marker": "o", "color": BLUE, "edgecolors": BLUE}
INACTIVE: dict[str, Any] = {"marker": "s", "color": "white", "edgecolors": ORANGE}
EM: dict[str, Any] = {"color": ORANGE, "linewidth": 1.5, "zorder": 4}
EFFECT_UNITS = "expression per unit of genotype"
WHERE = ("ax", "axes", "figure")
"""Arguments that say where to draw."""


class Drawing(Figure):
    """A figure in the package's style whenever it is drawn or saved: ticks are made then, with the settings of then."""

    def draw(self, renderer: RendererBase) -> None:
        """Draw in style."""
        with mpl.rc_context(RC):
            super().draw(renderer)

    def savefig(self, *args: Any, **kwargs: Any) -> None:
        """Save in style."""
        with mpl.rc_context(RC):
            super().savefig(*args, **kwargs)


def styled[**P, R](draw: Callable[P, R]) -> Callable[P, R]:
    """Let a function that makes a figure of its own make it in style; told where to draw, the caller's style holds."""
    parameters = signature(draw)

    @wraps(draw)
    def in_style(*args: P.args, **kwargs: P.kwargs) -> R:
        given = parameters.bind(*args, **kwargs).arguments
        if any(given.get(name) is not None for name in WHERE):
            return draw(*args, **kwargs)
        with mpl.rc_context(RC):
            return draw(*args, **kwargs)

    return in_style


def new_figure(width: float, height: float, layout: LayoutEngine | None = None) -> Drawing:
    """A new figure, so many inches, outside pyplot, which would keep it alive and might open a window."""
    return Drawing(figsize=(width, height), layout=layout or "constrained")


def new_axes(width: float, height: float) -> Axes:
    """Axes of a new figure."""
    return new_figure(width, height).subplots()


def above(ax: Axes, columns: int) -> None:
    """Legend above the axes, where it covers no point."""
    ax.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=columns, frameon=False, fontsize=9, borderaxespad=0.2)


def outside(figure: Figure, ax: Axes, columns: int, markerscale: float = 1.0) -> None:
    """One legend above all panels, which ``ax`` has the entries of; marks are so many times as large as in it."""
    entries = ax.get_legend_handles_labels()
    figure.legend(*entries, loc="outside upper center", ncols=columns, frameon=False, markerscale=markerscale)


def framed(ax: Axes) -> None:
    """All four sides, for a matrix."""
    ax.spines[:].set_visible(True)


def hatched(ax: Axes, rows: int, columns: int) -> None:
    """Hatch the cells that a matrix lacks: white would be taken for a value, in grey above all."""
    ax.add_patch(Rectangle((-0.5, -0.5), columns, rows, facecolor="white", edgecolor=GREY, hatch="////", linewidth=0.0,
                           zorder=-1))  # fmt: skip


def written_on(shade: float, cmap: str = SEQUENTIAL) -> str:
    """Colour of words on a shade of a map, from 0 to 1: black or white, whichever has more contrast (WCAG 2)."""
    rgb = np.array(to_rgb(mpl.colormaps[cmap](shade)))
    luminance = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]
    return "black" if luminance > np.sqrt(1.05 * 0.05) - 0.05 else "white"
