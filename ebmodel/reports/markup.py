"""HTML from text: everything is escaped but what was made here."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Sequence
from html import escape
from string import Template
from typing import Any

import numpy as np

from ebmodel.reports.figures import Illustration

__all__ = [
    "Markup",
    "bullets",
    "figure",
    "folded",
    "join",
    "number",
    "page",
    "paragraph",
    "section",
    "table",
    "verdict",
]


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def markup(value: Any) -> Markup:
    """Escape ``value`` unless it is HTML already."""
    return value if isinstance(value, Markup) else Markup(escape(str(value)))


def join(parts: Iterable[Any]) -> Markup:
    """One part below the other."""
    return Markup("\n".join(markup(part) for part in parts if part))


def paragraph(text: Any) -> Markup:
    """Text of its own."""
    return Markup(f"<p>{markup(text)}</p>")


def bullets(items: Iterable[Any]) -> Markup:
    """A list."""
    return Markup("<ul>\n" + "\n".join(f"<li>{markup(item)}</li>" for item in items) + "\n</ul>")


def section(title: str, *parts: Any, level: int = 2) -> Markup:
    """A heading and what stands below it."""
    return Markup(f"<section>\n<h{level}>{markup(title)}</h{level}>\n{join(parts)}\n</section>")


def folded(title: str, part: Any) -> Markup:
    """Something that is shown on demand."""
    return Markup(f"<details>\n<summary>{markup(title)}</summary>\n{markup(part)}\n</details>")


def table(caption: str, headings: Sequence[str], rows: Iterable[Sequence[Any]], text: Sequence[int] = ()) -> Markup:
    """A table whose first column heads its rows; columns hold numbers, but for the first and those in ``text``."""

    def cell(j: int, value: Any) -> str:
        kind = "" if j in text else ' class="number"'
        return f'<th scope="row">{markup(value)}</th>' if j == 0 else f"<td{kind}>{markup(value)}</td>"

    head = "".join(f'<th scope="col">{markup(heading)}</th>' for heading in headings)
    body = "\n".join("<tr>" + "".join(cell(j, value) for j, value in enumerate(row)) + "</tr>" for row in rows)
    return Markup(
        f'<div class="wide"><table>\n<caption>{markup(caption)}</caption>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table></div>"
    )


def figure(shown: Illustration | None) -> Markup:
    """A figure with its image inside; nothing if there is none."""
    if shown is None:
        return Markup("")
    image = b64encode(shown.png).decode()
    return Markup(
        f'<figure>\n<img src="data:image/png;base64,{image}" alt="{markup(shown.alt)}">\n'
        f"<figcaption>{markup(shown.caption)}</figcaption>\n</figure>"
    )


def number(value: Any, spec: str = ".3g") -> str:
    """A number, or a dash where there is none."""
    return format(float(value), spec) if value is not None and np.isfinite(value) else "–"


SIGNS = {
    "fails": ("fails", "✖"),
    "doubtful": ("doubtful", "▲"),
    "no sign against it": ("sound", "●"),
    "not checked": ("open", "○"),
}
"""Of a verdict: class and sign, which differ in shape so that they can be told apart in grey."""


def verdict(word: str) -> Markup:
    """A verdict by sign, word and colour."""
    kind, sign = SIGNS[word]
    return Markup(f'<span class="verdict {kind}"><span aria-hidden="true">{sign}</span> {markup(word)}</span>')


def page(title: str, body: Markup) -> str:
    """A whole document that needs nothing from outside."""
    return PAGE.substitute(title=markup(title), style=STYLE, body=body)


PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
$style
</style>
</head>
<body>
<main>
<h1>$title</h1>
$body
</main>
</body>
</html>
""")

STYLE = """body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff; margin: 0; }
main { max-width: 62rem; margin: 0 auto; padding: 1rem 1.2rem 4rem; }
h1 { font-size: 1.7rem; line-height: 1.2; }
h2 { font-size: 1.25rem; margin-top: 2.4rem; border-bottom: 2px solid #0072b2; padding-bottom: .2rem; }
h3 { font-size: 1.05rem; margin-bottom: .3rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .88rem; margin: 1rem 0; }
caption { text-align: left; font-weight: 600; padding-bottom: .3rem; }
th, td { padding: .25rem .6rem; text-align: left; vertical-align: top; border-bottom: 1px solid #d0d0d0; }
thead th { border-bottom: 2px solid #555; vertical-align: bottom; }
tbody th { font-weight: 600; overflow-wrap: anywhere; }
td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
figure { margin: 1.4rem 0; }
img { max-width: 100%; height: auto; }
figcaption { font-size: .88rem; color: #444; max-width: 46rem; }
details { margin: 1rem 0; }
summary { cursor: pointer; color: #005a8e; }
.verdict { white-space: nowrap; font-weight: 600; }
.fails { color: #a33c00; border: 2px solid #a33c00; padding: 0 .3rem; }
.doubtful { color: #a33c00; border: 2px dashed #a33c00; padding: 0 .3rem; }
.sound { color: #005a8e; }
.open { color: #555; font-weight: 400; }
@media print { body { font-size: 11pt; } figure, tr { break-inside: avoid; } }"""
