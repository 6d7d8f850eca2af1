"""The style sheet: readable in grey and by colour-blind readers, the one place of colours, and part of the package."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib import colormaps
from matplotlib import style as library
from matplotlib.colors import is_color_like, to_rgb
from matplotlib.figure import Figure

from ebmodel import plot
from ebmodel.files import PNG_DPI
from ebmodel.plot import style

ROOT = Path(__file__).parent.parent

# Colours as they are seen ---------------------------------------------------------------------------------------------

DICHROMATS = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
"""What linear RGB becomes to readers without one kind of cones (Machado, Oliveira & Fernandes 2009, severity 1)."""
APART, FAR = 20.0, 20.0
"""Lightnesses that are told apart in grey, and colours that are told apart, in CIELAB's units."""


def linear(colour: Any) -> np.ndarray:
    """Linear RGB of sRGB."""
    rgb = np.array(to_rgb(colour))
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    """CIELAB of linear RGB, D65."""
    xyz = np.array([[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750],
                    [0.0193339, 0.1191920, 0.9503041]]) @ rgb  # fmt: skip
    t = xyz / [0.95047, 1.0, 1.08883]
    f = np.where(t > (6 / 29) ** 3, np.cbrt(t), t / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def lightness(colour: Any) -> float:
    """CIE L*."""
    return float(lab(linear(colour))[0])


def distance(one: Any, other: Any, seen: str | None = None) -> float:
    """CIE 1976 distance of two colours, to all readers or to some."""
    matrix = np.array(DICHROMATS[seen]) if seen else np.eye(3)
    return float(np.linalg.norm(np.subtract(*(lab(np.clip(matrix @ linear(c), 0.0, 1.0)) for c in (one, other)))))


def monotone(name: str) -> bool:
    """Whether a map's lightness only rises, or only falls."""
    steps = np.diff([lightness(colormaps[name](x)) for x in np.linspace(0.0, 1.0, 65)])
    return bool((steps > 0.0).all() or (steps < 0.0).all())


def test_lightness_and_simulated_readers_are_computed_right() -> None:
    assert lightness("white") == pytest.approx(100.0, abs=0.01)
    assert lightness("black") == pytest.approx(0.0, abs=1e-9)
    assert lightness("#777777") == pytest.approx(50.0, abs=0.1)
    for matrix in DICHROMATS.values():
        np.testing.assert_allclose(np.sum(matrix, axis=1), 1.0, atol=2e-6)  # greys stay what they are
    # what these readers are known to confuse, in colours of one lightness
    red, green = "#C24E3A", "#6C8034"
    assert distance(red, green) > 60.0
    assert distance(red, green, "deuteranopia") < 0.4 * distance(red, green)
    assert distance(red, green, "tritanopia") > 0.8 * distance(red, green)
    blue, teal = "#2F6FDF", "#16837A"
    assert distance(blue, teal, "tritanopia") < 0.4 * distance(blue, teal)
    assert not monotone("jet")
    assert not monotone("coolwarm")


@pytest.mark.parametrize("seen", [None, *DICHROMATS])
def test_the_first_colours_are_told_apart_by_every_reader(seen: str | None) -> None:
    first = [entry["color"] for entry in style.CYCLE[:5]]
    far = {pair: distance(*pair, seen) for pair in combinations(first, 2)}
    assert min(far.values()) > FAR, far
    assert all(distance(colour, "white", seen) > FAR for colour in first)


def test_lines_of_the_cycle_differ_in_grey() -> None:
    """In lightness or in dashes, whichever two they are."""
    for one, other in combinations(style.CYCLE, 2):
        apart = abs(lightness(one["color"]) - lightness(other["color"])) > APART
        assert apart or one["linestyle"] != other["linestyle"]
    assert len({str(look["linestyle"]) for look in style.LOOKS}) == len(style.LOOKS)
    assert len({look["marker"] for look in style.LOOKS}) == len(style.LOOKS)


def test_blue_and_orange_need_more_than_colour_in_grey() -> None:
    """Why marks and dashes differ: these two, which most figures use, are alike in a grey print."""
    assert abs(lightness(style.BLUE) - lightness(style.ORANGE)) < APART
    assert distance(style.BLUE, style.ORANGE) > 100.0


def test_greys_are_in_order_and_shades_are_monotone() -> None:
    greys = [lightness(grey) for grey in (style.BLACK, style.INK, style.GREY, style.LINE, style.BAND, "white")]
    assert (np.diff(greys) > 8.0).all()
    # words on a shade have the contrast that WCAG asks of text, 4.5, whatever the shade
    for cmap in (style.SEQUENTIAL, style.FROM_WHITE):
        assert monotone(cmap)
        for shade in np.linspace(0.0, 1.0, 101):
            lights = [linear(c) @ [0.2126, 0.7152, 0.0722] + 0.05
                      for c in (colormaps[cmap](shade), style.written_on(shade, cmap))]  # fmt: skip
            assert max(lights) / min(lights) > 4.5, shade


# The sheet -----------------------------------------------------------------------------------------------------------


def test_the_sheet_is_used_by_name() -> None:
    before = dict(mpl.rcParams)
    with library.context("ebmodel.plot.style"):
        for name, value in style.RC.items():
            assert mpl.rcParams[name] == value, name
        ax = Figure().subplots()
        first = ax.plot([0, 1])[0]
        assert first.get_color() == style.BLUE
        assert not ax.spines["top"].get_visible()
    assert dict(mpl.rcParams) == before


def test_names_are_the_sheets_colours() -> None:
    colours = [entry["color"] for entry in style.RC["axes.prop_cycle"]]
    assert colours == [style.BLUE, style.ORANGE, style.BLACK, style.SKY, style.PINK, style.AMBER, style.GREEN]
    assert style.SEQUENTIAL == style.RC["image.cmap"]
    assert style.RC["savefig.dpi"] == PNG_DPI
    assert "backend" not in style.RC


def test_the_sheet_belongs_to_the_package() -> None:
    """It lies in the folder that the wheel is made of, version control keeps it, and nothing leaves it out."""
    build = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"]
    wheel = build["targets"]["wheel"]
    inside = style.SHEET.relative_to(ROOT)
    assert inside.parts[0] in wheel["packages"]
    assert not any(inside.full_match(pattern) for pattern in [*wheel.get("exclude", []), *build.get("exclude", [])])
    assert "only-include" not in wheel
    ignored = subprocess.run(["git", "check-ignore", "-q", inside], cwd=ROOT, check=False)
    assert ignored.returncode != 0


# One place -----------------------------------------------------------------------------------------------------------

DRAWING = [
    *(path for path in sorted((ROOT / "ebmodel" / "plot").glob("*.py")) if path.name != "style.py"),
    ROOT / "ebmodel" / "reports" / "figures.py",
    *sorted((ROOT / "simulations").glob("*.py")),
]
NEUTRAL = {"white", "none"}
MAPS = {"cmap", "colormap"}


def literals(source: str) -> Iterator[str]:
    """Colours, and maps of them, that a module chooses itself."""
    for node in ast.walk(ast.parse(source)):
        given: list[tuple[str, ast.expr]] = []
        if isinstance(node, ast.keyword) and node.arg:
            given = [(node.arg, node.value)]
        elif isinstance(node, ast.Dict):
            given = [(str(key.value), value) for key, value in zip(node.keys, node.values, strict=True)
                     if isinstance(key, ast.Constant)]  # fmt: skip
        for name, value in given:
            for part in ast.walk(value):
                if isinstance(part, ast.Constant) and isinstance(part.value, str):
                    coloured = "color" in name and is_color_like(part.value) and part.value not in NEUTRAL
                    if coloured or name in MAPS:
                        yield f"line {part.lineno}: {name}={part.value}"
        text = node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""
        if re.fullmatch(r"#[0-9A-Fa-f]{6}|0?\.\d{1,2}|C\d", text):
            yield f"line {node.lineno}: {text}"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Figure":
            yield f"line {node.lineno}: Figure(...), which is in no style"


@pytest.mark.parametrize("path", DRAWING, ids=lambda path: str(path.relative_to(ROOT)))
def test_colours_are_chosen_in_one_place(path: Path) -> None:
    assert list(literals(path.read_text(encoding="utf-8"))) == []


def test_colours_elsewhere_would_be_found() -> None:
    chosen = [
        'ax.plot(x, color="0.3")', 'look = {"color": "black"}', 'RED = "#D55E00"', 'ax.imshow(x, cmap="jet")',
        'ax.hist(x, edgecolor="C1")', "drawing = Figure(figsize=(1, 2))", 'looks = {"ols": ("0.45", ":")}',
    ]  # fmt: skip
    assert all(len(list(literals(line))) >= 1 for line in chosen)
    assert not list(literals('ax.plot(x, color=BLUE, markerfacecolor="white", label="black")'))


# Figures in style ----------------------------------------------------------------------------------------------------


def test_a_figure_of_ones_own_is_styled_and_given_axes_are_the_callers(monkeypatch: pytest.MonkeyPatch) -> None:
    @style.styled
    def draw(size: int, ax: Any = None) -> Any:
        """Draw."""
        ax = ax if ax is not None else style.new_axes(2.0, size)
        ax.set_xlabel("x")
        return ax

    monkeypatch.setitem(style.RC, "axes.labelcolor", "#123456")
    monkeypatch.setitem(style.RC, "xtick.labelcolor", "#654321")
    ax = draw(2)
    ax.figure.draw_without_rendering()  # ticks are made now
    assert ax.xaxis.label.get_color() == "#123456"
    assert ax.get_xticklabels()[0].get_color() == "#654321"
    given = Figure().subplots()
    assert draw(2, given).xaxis.label.get_color() == draw(2, ax=given).xaxis.label.get_color() == "black"
    assert draw.__doc__ == "Draw."
    with pytest.raises(TypeError, match="size"):
        draw()


def test_a_figure_is_saved_at_the_sheets_resolution(tmp_path: Path) -> None:
    style.new_figure(2.0, 1.0).savefig(tmp_path / "figure.png")
    size = mpl.image.imread(tmp_path / "figure.png").shape[:2]
    assert size == (style.RC["savefig.dpi"], 2 * style.RC["savefig.dpi"])


def test_the_face_is_one_and_comes_when_asked_for() -> None:
    code = ("import sys, ebmodel; assert 'matplotlib' not in sys.modules; ebmodel.plot.fdr, ebmodel.plot.eqtl.sharing;"
            "from ebmodel import plot; plot.mash.shrinkage; plot.style.BLUE;"
            "sys.exit('matplotlib.pyplot' in sys.modules)")  # fmt: skip
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    text = plot.__doc__ or ""
    assert [name for name in plot.__all__ if f"`{name}`" not in text] == []
