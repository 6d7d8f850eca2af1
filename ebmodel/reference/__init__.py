"""The package's reference, made of its docstrings: ``python -m ebmodel.reference --out reference``.

`build` writes pages of HTML; `notation` gives the model's notation table, for documents that show it.
"""

from __future__ import annotations

from ebmodel.reference.building import build
from ebmodel.reference.tables import Symbol, notation

__all__ = ["Symbol", "build", "notation"]
