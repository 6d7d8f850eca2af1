"""Tables of results, each in Markdown, LaTeX and CSV."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ebmodel.files import writing

LATEX = {"&": r"\&", "%": r"\%", "_": r"\_", "#": r"\#", "ρ": r"$\rho$", "±": r"$\pm$", "τ₁": r"$\tau_1$",
         "σ²": r"$\sigma^2$", "σ": r"$\sigma$", "η": r"$\eta$", "β": r"$\beta$", "α̂": r"$\hat\alpha$", "α": r"$\alpha$",
         "−": "$-$", "–": "--", "≤": r"$\leq$", "∞": r"$\infty$", "†": r"$\dagger$"}  # fmt: skip


@dataclass(frozen=True)
class Table:
    """A caption, a header and rows of text; ``name`` is that of its files."""

    name: str
    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        """Caption and table for a Markdown page."""
        return f"{self.caption}\n\n{markdown(list(self.header), [list(row) for row in self.rows])}"

    def latex(self) -> str:
        """A ``table`` environment with booktabs' rules."""
        columns = "l" + "r" * (len(self.header) - 1)
        lines = [" & ".join(map(_latex, row)) + r" \\" for row in (self.header, *self.rows)]
        body = "\n".join([r"\toprule", lines[0], r"\midrule", *lines[1:], r"\bottomrule"])
        return (
            f"\\begin{{table}}\n\\centering\n\\caption{{{_latex(self.caption)}}}\n\\label{{tab:{self.name}}}\n"
            f"\\begin{{tabular}}{{{columns}}}\n{body}\n\\end{{tabular}}\n\\end{{table}}\n"
        )

    def csv(self) -> str:
        """Header and rows, comma-separated."""
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([self.header, *self.rows])
        return text.getvalue()

    def write(self, folder: Path) -> None:
        """Write all three beside each other."""
        folder.mkdir(parents=True, exist_ok=True)
        for ending, text in ((".md", self.markdown() + "\n"), (".tex", self.latex()), (".csv", self.csv())):
            with writing(folder / f"{self.name}{ending}") as temporary:
                temporary.write_text(text, encoding="utf-8")


def markdown(header: list[str], rows: Iterable[list[str]]) -> str:
    """A Markdown table, the first column left-aligned."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _latex(text: str) -> str:
    """Text for LaTeX: Markdown's bold, special characters and Greek letters."""
    for plain, command in LATEX.items():
        text = text.replace(plain, command)
    return re.sub(r"\*\*(.+?)\*\*", r"\\textbf{\1}", text)
