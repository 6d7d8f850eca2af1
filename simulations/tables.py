"""Tables of results, each in Markdown, LaTeX and CSV."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ebmodel.files import writing

LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "_": r"\_", "#": r"\#", "$": r"\$", "{": r"\{", "}": r"\}",
    "~": r"$\sim$", "^": r"\textasciicircum{}", "<": "$<$", ">": "$>$", "|": "$|$",
    "τ₁": r"$\tau_1$", "σ²": r"$\sigma^2$", "χ²": r"$\chi^2$", "α̂": r"$\hat\alpha$", "C⁻¹": "$C^{-1}$",
    "α": r"$\alpha$", "β": r"$\beta$", "γ": r"$\gamma$", "η": r"$\eta$", "ρ": r"$\rho$", "σ": r"$\sigma$",
    "±": r"$\pm$", "−": "$-$", "→": r"$\to$", "≤": r"$\leq$", "≥": r"$\geq$", "∞": r"$\infty$", "½": r"$\frac12$",
    "†": r"$\dagger$", "–": "--", "…": r"\dots{}", "“": "``", "”": "''",
}  # fmt: skip
"""What stands for itself in Markdown and not in LaTeX. Longer ones are looked for first."""
BOLD = r"\*\*(.+?)\*\*"


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
        """Header and rows, comma-separated, without the bold."""
        text = io.StringIO()
        plain = [[re.sub(BOLD, r"\1", cell) for cell in row] for row in (self.header, *self.rows)]
        csv.writer(text, lineterminator="\n").writerows(plain)
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
    found = "|".join(re.escape(plain) for plain in sorted(LATEX, key=len, reverse=True))
    # in one pass, as what stands for one character has others in it
    return re.sub(BOLD, r"\\textbf{\1}", re.sub(found, lambda match: LATEX[match[0]], text))
