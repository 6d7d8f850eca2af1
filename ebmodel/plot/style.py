"""The look that all figures share: colours, marks, units, and where a figure without ``ax`` is made."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

__all__ = ["ACTIVE", "EFFECT_UNITS", "EM", "INACTIVE", "LINE", "above", "new_axes"]

# blue and orange that colour-blind readers tell apart; marks differ in shape and filling too, so grey prints read
ACTIVE: dict[str, Any] = {"marker": "o", "color": "#0072B2", "edgecolors": "#0072B2"}
INACTIVE: dict[str, Any] = {"marker": "s", "color": "white", "edgecolors": "#D55E00"}
LINE = "0.75"
EFFECT_UNITS = "expression per unit of genotype"
EM: dict[str, Any] = {"color": "#D55E00", "linewidth": 1.5, "zorder": 4}


def new_axes(width: float, height: float) -> Axes:
    """Axes of a new figure outside pyplot, which would keep it alive and might open a window."""
    return Figure(figsize=(width, height), layout="constrained").subplots()


def above(ax: Axes, columns: int) -> None:
    """Legend above the axes, where it covers no point."""
    ax.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=columns, frameon=False, fontsize=9, borderaxespad=0.2)
