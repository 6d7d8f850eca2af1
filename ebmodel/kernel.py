"""How inner loops are compiled: one decorator, so that one place decides caching and floating-point rules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numba

__all__ = ["kernel"]


def kernel[F: Callable[..., Any]](function: F) -> F:
    """Compile with Numba, cached on disk; sums may be reordered (for SIMD), infinities and NaN keep their meaning."""
    return cast(
        "F", numba.njit(cache=True, error_model="numpy", fastmath={"reassoc", "contract", "arcp", "nsz"})(function)
    )
